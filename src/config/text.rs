//! The text of a configuration file: UTF-8, or UTF-16 where a byte order mark says so.
//!
//! Envoy leaves this to yaml-cpp. Differs: a mark is skipped in front of JSON too, and what is no text is refused, where
//! yaml-cpp reads on with a replacement character.

/// Turns the bytes of a file into its text, without a byte order mark.
///
/// # Errors
/// The bytes are not in the encoding that they seem to have.
pub(super) fn decode(bytes: Vec<u8>) -> Result<String, String> {
    let utf16 = |read: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes[2..].as_chunks();
        let units: Vec<u16> = pairs.iter().map(|&pair| read(pair)).collect();
        String::from_utf16(&units)
            .ok()
            .filter(|_| rest.is_empty())
            .ok_or_else(|| "it is not valid UTF-16".to_string())
    };
    match bytes.as_slice() {
        [0xff, 0xfe, ..] => utf16(u16::from_le_bytes),
        [0xfe, 0xff, ..] => utf16(u16::from_be_bytes),
        _ => match String::from_utf8(bytes) {
            Ok(text) => Ok(without_mark(&text).to_string()),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                Err(format!("it is not valid UTF-8 from byte {at} on"))
            }
        },
    }
}

/// The text behind one byte order mark, if there is one.
pub(super) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_with_and_without_a_mark() {
        let text = "a: \u{e4}\u{1f600}\n";
        let units = || text.encode_utf16();
        let little: Vec<u8> = [0xfeff].into_iter().chain(units()).flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = [0xfeff].into_iter().chain(units()).flat_map(u16::to_be_bytes).collect();
        let marked = format!("\u{feff}{text}").into_bytes();
        for bytes in [text.as_bytes().to_vec(), marked, little, big] {
            assert_eq!(decode(bytes.clone()).as_deref(), Ok(text), "{}", bytes.escape_ascii());
        }
        assert_eq!(decode(Vec::new()).as_deref(), Ok(""));
        // One mark is a mark, a second one is text.
        assert_eq!(decode("\u{feff}\u{feff}a".into()).as_deref(), Ok("\u{feff}a"));
    }

    #[test]
    fn what_is_no_text_is_refused() {
        assert_eq!(decode(b"a: \xff".to_vec()), Err("it is not valid UTF-8 from byte 3 on".to_string()));
        for bytes in [&b"\xff\xfea"[..], b"\xfe\xff\xd8\0\0a"] {
            assert_eq!(decode(bytes.to_vec()), Err("it is not valid UTF-16".to_string()));
        }
    }
}
