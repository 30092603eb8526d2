//! Strings and numbers as Envoy writes them in JSON. Mirrors its `source/common/json/json_sanitizer.cc` and
//! `json_streamer.h`, as of 1.40.

use std::io::Write;

use serde_json::Value;

/// Makes what stands behind `start` the inside of a string, and ends it with a quotation mark. Text that is not UTF-8
/// is taken for Latin-1, and all of it but plain ASCII is escaped.
pub(super) fn end_string(line: &mut Vec<u8>, start: usize) {
    let is_plain = |byte: &u8| (b' '..0x80).contains(byte) && !matches!(byte, b'"' | b'\\');
    if !line[start..].iter().all(is_plain) {
        let raw = line.split_off(start);
        match std::str::from_utf8(&raw) {
            Ok(text) => escape(line, text),
            Err(_) => raw.iter().for_each(|&byte| match is_plain(&byte) {
                true => line.push(byte),
                false => escape_by_number(line, byte),
            }),
        }
    }
    line.push(b'"');
}

fn escape(line: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            8 => line.extend_from_slice(b"\\b"),
            12 => line.extend_from_slice(b"\\f"),
            0..b' ' => escape_by_number(line, byte),
            _ => line.push(byte),
        }
    }
}

fn escape_by_number(line: &mut Vec<u8>, byte: u8) {
    // Writing to memory cannot fail.
    let _ = write!(line, "\\u{byte:04x}");
}

/// Appends a value, with the keys of objects sorted.
pub(super) fn write_value(line: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => line.extend_from_slice(b"null"),
        Value::Bool(value) => line.extend_from_slice(if *value { b"true" } else { b"false" }),
        Value::Number(number) => write_number(line, number.as_f64().unwrap_or_default()),
        Value::String(text) => write_string(line, text),
        Value::Array(items) => {
            line.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    line.push(b',');
                }
                write_value(line, item);
            }
            line.push(b']');
        }
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| *key);
            line.push(b'{');
            for (i, (key, value)) in sorted.into_iter().enumerate() {
                if i > 0 {
                    line.push(b',');
                }
                write_string(line, key);
                line.push(b':');
                write_value(line, value);
            }
            line.push(b'}');
        }
    }
}

/// Appends a string with its quotation marks.
pub(super) fn write_string(line: &mut Vec<u8>, text: &str) {
    line.push(b'"');
    let start = line.len();
    line.extend_from_slice(text.as_bytes());
    end_string(line, start);
}

/// Appends the shortest text that stands for the number, without an exponent where that is no longer
/// (`std::to_chars`).
pub(super) fn write_number(line: &mut Vec<u8>, number: f64) {
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    let scientific = format!("{digits}e{sign}{exponent:0>2}");
    // All digits of a large integer are its own.
    let plain = if number.fract() == 0.0 { format!("{number:.0}") } else { number.to_string() };
    let shortest = if plain.len() <= scientific.len() { plain } else { scientific };
    line.extend_from_slice(shortest.as_bytes());
}
