//! Escapes of URLs: `%` and two hexadecimal digits.
//!
//! Envoy has it in `Http::Utility::PercentEncoding`; which bytes are escaped each user says.

/// `text` with an escape for each byte that does not stay.
pub fn encode(text: &[u8], stays: impl Fn(u8) -> bool) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = Vec::with_capacity(text.len());
    for &byte in text {
        if stays(byte) {
            encoded.push(byte);
        } else {
            encoded.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]]);
        }
    }
    encoded
}

/// `text` without escapes. Of what looks like one and is none the sign stays if `keeps_others`.
pub fn decode(text: &[u8], keeps_others: bool) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        rest = behind;
        match rest {
            [high, low, behind @ ..] if *first == b'%' => {
                if let Some((high, low)) = digit(*high).zip(digit(*low)) {
                    decoded.push(high << 4 | low);
                    rest = behind;
                } else if keeps_others {
                    decoded.push(*first);
                }
            }
            _ => decoded.push(*first),
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let all: Vec<u8> = (0..=255).collect();
        let encoded = encode(&all, |byte| byte.is_ascii_alphanumeric());
        assert!(encoded.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'%'));
        assert_eq!(decode(&encoded, true), all);
        assert_eq!(encode(b"a b\xff", |byte| byte == b'a'), b"a%20%62%FF");
    }

    #[test]
    fn what_is_no_escape_stays_or_loses_its_sign() {
        assert_eq!(decode(b"%41%4%zz%", true), b"A%4%zz%");
        assert_eq!(decode(b"%41%4%zz%", false), b"A4zz%");
    }
}
