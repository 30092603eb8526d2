//! Strings and numbers as Envoy writes them in JSON. Mirrors its `source/common/json/json_sanitizer.cc` and
//! `json_streamer.h`, as of 1.40.

use std::io::Write;

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
