//! Finding the fields of a head, line by line, without a copy of anything.
//!
//! Stands where Envoy's http-parser is called back for each piece (`source/common/http/http1/codec_impl.cc`). What a field
//! may be is what 1.40's parser takes: a name of token characters right before its colon, a value without control
//! characters but tabs, lines that end in LF with or without CR, none that goes on in the next one. Eight bytes are looked at
//! a time.

use super::head::HeadError;

/// What a block of fields goes on with.
pub(super) enum Line<'a> {
    /// A field, and what is behind its line. The name is what stands before the colon: see [`check_name`].
    Field { name: &'a [u8], value: &'a [u8], rest: &'a [u8] },
    /// The empty line, and what is behind it.
    End(&'a [u8]),
}

/// Why there is no such line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Malformed {
    Token,
    LineEnd,
}

impl From<Malformed> for HeadError {
    #[cold]
    fn from(malformed: Malformed) -> Self {
        HeadError::bad(match malformed {
            Malformed::Token => "HPE_INVALID_HEADER_TOKEN",
            Malformed::LineEnd => "HPE_LF_EXPECTED",
        })
    }
}

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = ONES << 7;

/// Has the high bit of each byte of `word` that is less than `limit`, which is 128 at most; of those that are 128 or more, and
/// of those above the first one, some have theirs, too.
#[inline(always)]
const fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * limit as u64)
}

/// The same of the bytes that are `byte`, which is less than 128.
#[inline(always)]
const fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * byte as u64), 1)
}

/// The place of the first byte that `wanted` and, by [`below`] and [`equal`], `wanted_word` are for; the end where there is
/// none. It is less than 128.
#[inline(always)]
fn find(text: &[u8], wanted_word: impl Fn(u64) -> u64, wanted: impl Fn(u8) -> bool) -> usize {
    let mut rest = text;
    while let Some((bytes, behind)) = rest.split_first_chunk() {
        let word = u64::from_le_bytes(*bytes);
        if wanted_word(word) & HIGH != 0 {
            let found = wanted_word(word) & HIGH & !word;
            if found != 0 {
                return text.len() - rest.len() + (found.trailing_zeros() / 8) as usize;
            }
        }
        rest = behind;
    }
    text.len() - rest.len() + rest.iter().position(|byte| wanted(*byte)).unwrap_or(rest.len())
}

/// Where a text ends that has no control characters but tabs.
#[inline(always)]
pub(super) fn text_end(text: &[u8]) -> usize {
    let odd = |word| below(word, b' ') | equal(word, 0x7f);
    let end = find(text, odd, |byte| byte.is_ascii_control());
    if text.get(end) == Some(&b'\t') { text_end_behind_tab(text, end + 1) } else { end }
}

#[cold]
fn text_end_behind_tab(text: &[u8], start: usize) -> usize {
    let is_odd = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    text[start..].iter().position(is_odd).map_or(text.len(), |length| start + length)
}

/// Where the name at the begin of a line ends: at a colon, or at what can be in no name.
#[inline(always)]
fn name_end(line: &[u8]) -> usize {
    find(line, |word| below(word, b'!') | equal(word, b':'), |byte| byte <= b' ' || byte == b':')
}

/// What is behind the end of a line that `text` begins with, if it does.
#[inline(always)]
pub(super) fn behind_line_end(text: &[u8]) -> Option<&[u8]> {
    match text {
        [b'\r', b'\n', rest @ ..] | [b'\n', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// Whether all characters are visible ones of ASCII.
#[inline(always)]
pub(super) fn is_graphic(text: &[u8]) -> bool {
    let odd = |word| (below(word, b'!') | equal(word, 0x7f) | word) & HIGH;
    let (words, rest) = text.as_chunks();
    words.iter().all(|word| odd(u64::from_le_bytes(*word)) == 0) && rest.iter().all(u8::is_ascii_graphic)
}

pub(super) fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cold]
fn without_blanks(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', behind @ ..] = text {
        text = behind;
    }
    text
}

#[cold]
fn without_last_blanks(mut text: &[u8]) -> &[u8] {
    while let [before @ .., b' ' | b'\t'] = text {
        text = before;
    }
    text
}

/// The line that `block` begins with.
#[inline(always)]
pub(super) fn next_line(block: &[u8]) -> Result<Line<'_>, Malformed> {
    if let [b'\n' | b'\r', ..] = block {
        return end_line(block);
    }
    let (name, behind) = block.split_at(name_end(block));
    let (Some((b':', mut text)), false) = (behind.split_first(), name.is_empty()) else {
        return Err(Malformed::Token);
    };
    if let [b' ', behind @ ..] = text {
        text = behind;
    }
    if text.first().is_some_and(is_blank) {
        text = without_blanks(text);
    }
    let (mut value, behind) = text.split_at(text_end(text));
    let rest = behind_line_end(behind).ok_or(Malformed::Token)?;
    if value.last().is_some_and(is_blank) {
        value = without_last_blanks(value);
    }
    Ok(Line::Field { name, value, rest })
}

fn end_line(block: &[u8]) -> Result<Line<'_>, Malformed> {
    match behind_line_end(block) {
        Some(rest) => Ok(Line::End(rest)),
        None if block.len() == 1 => Err(Malformed::Token), // half of it is missing
        None => Err(Malformed::LineEnd),
    }
}

/// Whether a name that [`next_line`] found is one: it is known, or this.
#[inline(never)]
pub(super) fn check_name(name: &[u8]) -> Result<(), Malformed> {
    if name.iter().all(|byte| TOKEN[usize::from(*byte)]) { Ok(()) } else { Err(Malformed::Token) }
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"!#$%&'*+-.^_`|~";
    let mut i = 0;
    while i < others.len() {
        table[others[i] as usize] = true;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    type Read = Result<(Vec<(Vec<u8>, Vec<u8>)>, usize), Malformed>;

    fn read(block: &[u8]) -> Read {
        let (mut fields, mut rest) = (Vec::new(), block);
        loop {
            match next_line(rest)? {
                Line::End(rest) => return Ok((fields, block.len() - rest.len())),
                Line::Field { name, value, rest: behind } => {
                    check_name(name)?;
                    fields.push((name.to_vec(), value.to_vec()));
                    rest = behind;
                }
            }
        }
    }

    fn read_by_httparse(block: &[u8]) -> Read {
        let mut slots = vec![httparse::EMPTY_HEADER; block.len()];
        match httparse::parse_headers(block, &mut slots) {
            Ok(httparse::Status::Complete((length, fields))) => {
                let field = |f: &httparse::Header<'_>| (f.name.as_bytes().to_vec(), f.value.to_vec());
                Ok((fields.iter().map(field).collect(), length))
            }
            Err(httparse::Error::NewLine) => Err(Malformed::LineEnd),
            Ok(httparse::Status::Partial)
            | Err(httparse::Error::HeaderName | httparse::Error::HeaderValue) => Err(Malformed::Token),
            Err(other) => unreachable!("{other}"),
        }
    }

    #[test]
    fn each_byte_at_each_place_is_read_as_httparse_reads_it() {
        let block = b"Host: a.example\r\nx:\r\nlong-name-of-a-field :\t v  w\t\r\nb:1\nlast: \xff123456789\r\n\r\nbody";
        for at in 0..block.len() {
            for byte in 0..=255 {
                let mut changed = block.to_vec();
                changed[at] = byte;
                assert_eq!(read(&changed), read_by_httparse(&changed), "{}", changed.escape_ascii());
                changed.insert(at, byte);
                assert_eq!(
                    read(&changed[1..]),
                    read_by_httparse(&changed[1..]),
                    "{}",
                    changed.escape_ascii()
                );
            }
            assert_eq!(read(&block[..at]), read_by_httparse(&block[..at]), "{at}");
        }
    }

    #[test]
    fn odd_blocks_are_read_as_httparse_reads_them() {
        let pieces: [&[u8]; 16] = [
            b"a",
            b"Content-Length",
            b":",
            b": ",
            b"\r\n",
            b"\n",
            b"\r",
            b" ",
            b"\t",
            b"value",
            b"\x7f",
            b"\x80",
            b"\x00",
            b"x-abcdefghijklmnop: v\r\n",
            b"\r\n\r\n",
            b"b:c\n",
        ];
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..if cfg!(miri) { 100 } else { 50_000 } {
            let block: Vec<u8> =
                (0..random.usize(1..9)).flat_map(|_| pieces[random.usize(..pieces.len())]).copied().collect();
            assert_eq!(read(&block), read_by_httparse(&block), "{}", block.escape_ascii());
        }
    }

    #[test]
    fn graphic_texts() {
        for length in 0..20 {
            let text = vec![b'a'; length];
            assert!(is_graphic(&text));
            for at in 0..length {
                for byte in 0..=255u8 {
                    let mut text = text.clone();
                    text[at] = byte;
                    assert_eq!(is_graphic(&text), byte.is_ascii_graphic(), "{byte} at {at}");
                }
            }
        }
    }
}
