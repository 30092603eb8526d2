//! Single values of the proto3 JSON mapping: integers, booleans, floats and
//! durations, with the leniency of Envoy's JSON parser (numbers and booleans
//! may be given as strings, `80.0` is an integer).
//!
//! The functions here know no paths; [`MessageReader`](super::reader::MessageReader)
//! adds them.

use serde_json::Value;
use std::time::Duration;

/// Largest whole seconds Envoy takes: what fits 64 bits of nanoseconds.
const MAX_SECONDS: u64 = 9_223_372_035;

/// What a value has where a list is expected: itself, or what its lists have.
pub(super) fn flat(value: Option<&Value>) -> Vec<&Value> {
    match value {
        None => Vec::new(),
        Some(Value::Array(values)) => values.iter().flat_map(|value| flat(Some(value))).collect(),
        Some(one) => vec![one],
    }
}

/// Names the value for an error: kind and, where short, the value itself.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_string(),
        Value::Bool(b) => format!("boolean {b}"),
        Value::Number(n) => format!("number {n}"),
        Value::String(s) if s.chars().count() <= 80 => format!("string {s:?}"),
        Value::String(_) => "a string".to_string(),
        Value::Array(_) => "a list".to_string(),
        Value::Object(_) => "an object".to_string(),
    }
}

pub(super) fn parse_bool(value: &Value) -> Result<bool, String> {
    let parsed = match value {
        Value::Bool(b) => Some(*b),
        Value::String(s) => match s.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "1" => Some(true),
            "false" | "f" | "no" | "n" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    };
    parsed.ok_or_else(|| format!("expected a boolean, got {}", describe(value)))
}

pub(super) fn parse_u32(value: &Value) -> Result<u32, String> {
    let wide = parse_integer(value)
        .ok_or_else(|| format!("expected an unsigned integer, got {}", describe(value)))?;
    u32::try_from(wide).map_err(|_| format!("{wide} is out of range, expected 0..={}", u32::MAX))
}

/// An integer, also as a float without fraction or as text; floats only as far
/// as they are exact.
pub(super) fn parse_integer(value: &Value) -> Option<i128> {
    match value {
        Value::Number(n) => {
            n.as_i64().map(i128::from).or_else(|| n.as_u64().map(i128::from)).or_else(|| whole(n.as_f64()?))
        }
        Value::String(s) => {
            let hex = s.strip_prefix("0x").or_else(|| s.strip_prefix("0X"));
            if let Some(hex) = hex {
                return u64::from_str_radix(hex, 16).ok().map(i128::from);
            }
            let number_like = s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
            if !number_like {
                return None;
            }
            s.parse().ok().or_else(|| whole(s.parse().ok()?))
        }
        _ => None,
    }
}

fn whole(f: f64) -> Option<i128> {
    (f.fract() == 0.0 && f.abs() <= (1u64 << 53) as f64).then_some(f as i128)
}

/// The name of one of `values`, given by it (in any case, as in Envoy) or by its number; a number
/// that none has is given back.
pub(super) fn parse_enum(
    value: &Value,
    values: &[(&'static str, i32)],
) -> Option<Result<&'static str, i128>> {
    let by_name = value.as_str().and_then(|text| {
        let same = |a: u8, b: u8| a.eq_ignore_ascii_case(&b) || (a == b'-' && b == b'_');
        let same =
            |name: &str| name.len() == text.len() && text.bytes().zip(name.bytes()).all(|(a, b)| same(a, b));
        values.iter().find(|(name, _)| same(name))
    });
    if let Some((name, _)) = by_name {
        return Some(Ok(name));
    }
    let number = parse_integer(value)?;
    let found = values.iter().find(|(_, known)| i128::from(*known) == number);
    Some(found.map(|(name, _)| *name).ok_or(number))
}

pub(super) fn parse_f64(value: &Value) -> Result<f64, String> {
    let parsed = match value {
        Value::Number(n) => n.as_f64(),
        Value::String(s) => s.parse().ok(),
        _ => None,
    };
    parsed.ok_or_else(|| format!("expected a number, got {}", describe(value)))
}

/// Base64, in either of its alphabets, with its padding or without.
pub(super) fn parse_bytes(value: &Value) -> Result<Vec<u8>, String> {
    let bytes = value.as_str().and_then(decode_base64);
    bytes.ok_or_else(|| format!("expected bytes in base64, got {}", describe(value)))
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| {
        Some(match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        })
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let mut bits = 0;
        for (i, c) in group.iter().enumerate() {
            bits |= u32::from(digit(*c)?) << (26 - 6 * i);
        }
        // A lone digit is less than a byte.
        let length = group.len().checked_sub(1).filter(|length| *length > 0)?;
        bytes.extend_from_slice(&bits.to_be_bytes()[..length]);
    }
    Some(bytes)
}

/// `{"seconds": 15, "nanos": 0}`, as the binary form has it.
fn duration_of_parts(parts: &serde_json::Map<String, Value>) -> Option<Duration> {
    let is_known = |name: &String| name == "seconds" || name == "nanos";
    let part = |name: &str| parts.get(name).map_or(Some(0), parse_integer);
    let (seconds, nanos) = (u64::try_from(part("seconds")?).ok()?, u32::try_from(part("nanos")?).ok()?);
    let fits = parts.keys().all(is_known) && seconds <= MAX_SECONDS && nanos < 1_000_000_000;
    fits.then(|| Duration::new(seconds, nanos))
}

/// `"15s"`, `"0.25s"`: digits, at most nine decimals, and `s`.
pub(super) fn parse_duration(value: &Value) -> Result<Duration, String> {
    let bad = || {
        let got = describe(value);
        format!("expected a duration in seconds such as \"0.25s\" or \"15s\", got {got}")
    };
    if let Value::Object(parts) = value {
        return duration_of_parts(parts).ok_or_else(bad);
    }
    let text = value.as_str().ok_or_else(bad)?;
    let number = text.strip_suffix('s').ok_or_else(bad)?;
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number),
    };
    let (seconds, fraction) = match number.split_once('.') {
        Some((seconds, fraction)) => (seconds, Some(fraction)),
        None => (number, None),
    };
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(seconds) || !fraction.is_none_or(|f| digits(f) && f.len() <= 9) {
        return Err(bad());
    }
    let nanos: u32 = format!("{:0<9}", fraction.unwrap_or("")).parse().map_err(|_| bad())?;
    match seconds.parse::<u64>() {
        Ok(seconds) if seconds <= MAX_SECONDS => {
            if negative && (seconds > 0 || nanos > 0) {
                return Err(format!("a duration must not be negative, got {text:?}"));
            }
            Ok(Duration::new(seconds, nanos))
        }
        _ => Err(format!("duration {text:?} is out of range")),
    }
}

/// A duration as [`parse_duration`] reads it.
pub(super) fn duration_text(duration: Duration) -> String {
    format!("{}{}s", duration.as_secs(), fraction_text(duration.subsec_nanos()))
}

/// Parts of a second as protobuf writes them: with three, six or nine digits, or not at all.
pub(super) fn fraction_text(nanos: u32) -> String {
    match nanos {
        0 => String::new(),
        _ if nanos.is_multiple_of(1_000_000) => format!(".{:03}", nanos / 1_000_000),
        _ if nanos.is_multiple_of(1_000) => format!(".{:06}", nanos / 1_000),
        _ => format!(".{nanos:09}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations() {
        for (text, want) in [
            ("1s", Duration::from_secs(1)),
            ("0.25s", Duration::from_millis(250)),
            ("0.000000001s", Duration::from_nanos(1)),
            ("1.5s", Duration::from_millis(1500)),
            ("0s", Duration::ZERO),
            ("-0s", Duration::ZERO),
            ("9223372035s", Duration::from_secs(9_223_372_035)),
        ] {
            assert_eq!(parse_duration(&json!(text)), Ok(want), "{text}");
        }
        for text in ["", "s", "1", "1m", "1ms", ".5s", "1.s", "+1s", " 1s", "1e3s", "1.0000000001s"] {
            let error = parse_duration(&json!(text)).unwrap_err();
            assert!(error.starts_with("expected a duration"), "{text}: {error}");
        }
        assert!(parse_duration(&json!(5)).is_err());
        assert!(parse_duration(&json!("-1s")).unwrap_err().contains("negative"));
        for text in ["9223372036s", "99999999999999999999s"] {
            let error = parse_duration(&json!(text)).unwrap_err();
            assert!(error.contains("out of range"), "{error}");
        }
    }

    #[test]
    fn integers_may_be_text_or_whole_floats() {
        for value in [json!(80), json!("80"), json!(80.0), json!("80.0"), json!("8e1"), json!("0x50")] {
            assert_eq!(parse_u32(&value), Ok(80), "{value}");
        }
        for value in [json!(80.5), json!(""), json!(" 80"), json!(true), json!([]), json!("inf")] {
            let error = parse_u32(&value).unwrap_err();
            assert!(error.starts_with("expected an unsigned integer"), "{error}");
        }
        for value in [json!(-1), json!(4_294_967_296_u64), json!("4294967296")] {
            assert!(parse_u32(&value).unwrap_err().contains("out of range"));
        }
    }

    #[test]
    fn booleans_may_be_text_but_not_numbers() {
        for (value, want) in
            [(json!(true), true), (json!("True"), true), (json!("1"), true), (json!("false"), false)]
        {
            assert_eq!(parse_bool(&value), Ok(want));
        }
        for value in [json!(1), json!(0), json!("maybe"), json!({})] {
            assert!(parse_bool(&value).is_err(), "{value}");
        }
    }
}
