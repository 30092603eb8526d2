//! DNS messages: a question, and the addresses in an answer (RFC 1035), for what evdns does not do: asking by TCP.

use std::net::IpAddr;
use std::time::Duration;

use crate::event::{DnsAnswer, DnsError, DnsRecord};

const HEAD: usize = 12;
const LONGEST_LABEL: usize = 63;
const LONGEST_NAME: usize = 255;

const IS_ANSWER: u16 = 0x8000;
const RECURSION_DESIRED: u16 = 0x0100;
const CODE: u16 = 0x000f;
const NO_SUCH_NAME: u16 = 3;
const REFUSED: u16 = 5;
const CLASS_INTERNET: u16 = 1;

/// The number of the record's type.
fn type_of(record: DnsRecord) -> u16 {
    match record {
        DnsRecord::A => 1,
        DnsRecord::Aaaa => 28,
    }
}

/// A question; `None` for what can be no name.
pub(super) fn question(id: u16, name: &str, record: DnsRecord) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(HEAD + name.len() + 6);
    for word in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
        message.extend(word.to_be_bytes());
    }
    for label in name.strip_suffix('.').unwrap_or(name).split('.') {
        if label.is_empty() || label.len() > LONGEST_LABEL {
            return None;
        }
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
    if message.len() - HEAD > LONGEST_NAME {
        return None;
    }
    message.extend(type_of(record).to_be_bytes());
    message.extend(CLASS_INTERNET.to_be_bytes());
    Some(message)
}

/// What a message answers to a question, which is one that [`question`] has made.
///
/// # Errors
/// Why it has no addresses; [`DnsError::Truncated`] where it ends too early, [`DnsError::Malformed`] where it is no answer to
/// that.
pub fn parse_answer(message: &[u8], question: &[u8], record: DnsRecord) -> Result<DnsAnswer, DnsError> {
    let mut reader = Reader { message, at: 0 };
    let head = reader.head().ok_or(DnsError::Truncated)?;
    if question.get(..2) != Some(&head.id.to_be_bytes()) || head.flags & IS_ANSWER == 0 {
        return Err(DnsError::Malformed);
    }
    let asked = question.get(HEAD..).unwrap_or_default();
    // Who has not understood the question may not repeat it.
    if head.questions > 0 || head.flags & CODE == 0 {
        let repeated = message.get(HEAD..HEAD + asked.len()).ok_or(DnsError::Truncated)?;
        if head.questions != 1 || !repeated.eq_ignore_ascii_case(asked) {
            return Err(DnsError::Malformed);
        }
    }
    match head.flags & CODE {
        0 => {}
        NO_SUCH_NAME => return Err(DnsError::NotExist),
        REFUSED => return Err(DnsError::Refused),
        code => return Err(DnsError::Other(code.into())),
    }
    let (addresses, ttl) = reader.addresses(&head, record).ok_or(DnsError::Truncated)?;
    if addresses.is_empty() { Err(DnsError::NoData) } else { Ok(DnsAnswer { addresses, ttl }) }
}

/// One whose top bit is set counts as 0 (RFC 2181, 8).
fn ttl_of(seconds: u32) -> u32 {
    if seconds > i32::MAX as u32 { 0 } else { seconds }
}

struct Head {
    id: u16,
    flags: u16,
    questions: u16,
    answers: u16,
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.message.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn word(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn head(&mut self) -> Option<Head> {
        let head =
            Head { id: self.word()?, flags: self.word()?, questions: self.word()?, answers: self.word()? };
        self.take(4)?;
        Some(head)
    }

    /// Which name it is does not matter: aliases are resolved by who answers.
    fn skip_name(&mut self) -> Option<()> {
        loop {
            match *self.take(1)?.first()? {
                0 => return Some(()),
                // The rest of it stands elsewhere.
                length if length & 0xc0 == 0xc0 => return self.take(1).map(drop),
                length if length & 0xc0 == 0 => self.take(length.into()).map(drop)?,
                _ => return None,
            }
        }
    }

    fn addresses(&mut self, head: &Head, record: DnsRecord) -> Option<(Vec<IpAddr>, Duration)> {
        for _ in 0..head.questions {
            self.skip_name()?;
            self.take(4)?;
        }
        let (mut addresses, mut ttl) = (Vec::new(), u32::MAX);
        for _ in 0..head.answers {
            self.skip_name()?;
            let (kind, class) = (self.word()?, self.word()?);
            let good_for = u32::from_be_bytes(self.take(4)?.try_into().ok()?);
            let length = self.word()?;
            let data = self.take(length.into())?;
            if (kind, class) != (type_of(record), CLASS_INTERNET) {
                continue;
            }
            addresses.push(match record {
                DnsRecord::A => IpAddr::from(<[u8; 4]>::try_from(data).ok()?),
                DnsRecord::Aaaa => IpAddr::from(<[u8; 16]>::try_from(data).ok()?),
            });
            ttl = ttl.min(ttl_of(good_for));
        }
        Some((addresses, Duration::from_secs(ttl.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(flags: u16, records: &[(u16, u32, &[u8])]) -> Vec<u8> {
        let mut message = question(7, "a.test", DnsRecord::A).unwrap();
        message[2..4].copy_from_slice(&flags.to_be_bytes());
        message[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
        for (kind, ttl, data) in records {
            message.extend([0xc0, 12]);
            message.extend(kind.to_be_bytes());
            message.extend([0, 1]);
            message.extend(ttl.to_be_bytes());
            message.extend((data.len() as u16).to_be_bytes());
            message.extend(*data);
        }
        message
    }

    fn parsed(message: &[u8]) -> Result<(Vec<String>, u64), DnsError> {
        let answer = parse_answer(message, &question(7, "A.test", DnsRecord::A).unwrap(), DnsRecord::A)?;
        Ok((answer.addresses.iter().map(ToString::to_string).collect(), answer.ttl.as_secs()))
    }

    #[test]
    fn questions() {
        let message = question(0x102, "a.bc.", DnsRecord::Aaaa).unwrap();
        assert_eq!(message, *b"\x01\x02\x01\0\0\x01\0\0\0\0\0\0\x01a\x02bc\0\0\x1c\0\x01");
        let long = "a".repeat(63);
        let name = |last: usize| format!("{long}.{long}.{long}.{}", "a".repeat(last));
        assert!(
            question(1, &name(61), DnsRecord::A).is_some() && question(1, &name(62), DnsRecord::A).is_none()
        );
        assert!(question(1, &"a".repeat(64), DnsRecord::A).is_none());
        assert!(question(1, "", DnsRecord::A).is_none() && question(1, "a..b", DnsRecord::A).is_none());
    }

    #[test]
    fn answers() {
        let whole = answer(
            0x8180,
            &[(5, 1, b"\x01b\0"), (1, 9, &[1, 2, 3, 4]), (28, 2, &[0; 16]), (1, 8, &[5, 6, 7, 8])],
        );
        assert_eq!(parsed(&whole), Ok((vec!["1.2.3.4".into(), "5.6.7.8".into()], 8)));
        for length in 0..whole.len() {
            assert_eq!(parsed(&whole[..length]), Err(DnsError::Truncated), "{length}");
        }
        let with_ttl =
            |ttl| parsed(&answer(0x8180, &[(1, 9, &[1, 2, 3, 4]), (1, ttl, &[5, 6, 7, 8])])).unwrap().1;
        assert_eq!([0x7fff_ffff, 0x8000_0000, u32::MAX].map(with_ttl), [9, 0, 0]);
        assert_eq!(parsed(&answer(0x8180, &[])), Err(DnsError::NoData));
        assert_eq!(parsed(&answer(0x8183, &[])), Err(DnsError::NotExist));
        assert_eq!(parsed(&answer(0x8185, &[])), Err(DnsError::Refused));
        assert_eq!(parsed(&answer(0x8182, &[])), Err(DnsError::Other(2)));
        assert_eq!(parsed(&answer(0x0180, &[])), Err(DnsError::Malformed));
        assert_eq!(parsed(&answer(0x8180, &[(1, 9, &[1, 2, 3])])), Err(DnsError::Truncated));
        for (id, name, record) in
            [(8, "a.test", DnsRecord::A), (7, "b.test", DnsRecord::A), (7, "a.test", DnsRecord::Aaaa)]
        {
            let other = question(id, name, record).unwrap();
            assert_eq!(parse_answer(&whole, &other, DnsRecord::A), Err(DnsError::Malformed));
        }
    }
}
