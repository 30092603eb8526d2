//! Ways to keep a message on one line.

use std::fmt::Write;

/// C escapes, as `--log-format-escaped` writes a line: quotes and backslashes too, and all bytes that
/// are not printable ASCII in octal.
pub(super) fn c_escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'\n' => escaped.push_str("\\n"),
            b'\r' => escaped.push_str("\\r"),
            b'\t' => escaped.push_str("\\t"),
            b'"' | b'\'' | b'\\' => {
                escaped.push('\\');
                escaped.push(char::from(byte));
            }
            0x20..0x7f => escaped.push(char::from(byte)),
            _ => {
                let _ = write!(escaped, "\\{byte:03o}");
            }
        }
    }
    escaped
}

/// The inside of a JSON string.
pub(super) fn json_escape(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c_escapes_leave_one_printable_line() {
        assert_eq!(c_escape("a 'b' \"c\"\\\n\r\t"), r#"a \'b\' \"c\"\\\n\r\t"#);
        assert_eq!(c_escape("\u{1}é\u{7f}"), r"\001\303\251\177");
    }

    #[test]
    fn json_escapes_fit_into_a_json_string() {
        assert_eq!(json_escape("a 'b' \"c\"\n\u{1}é"), "a 'b' \\\"c\\\"\\n\\u0001é");
        assert_eq!(json_escape(""), "");
    }
}
