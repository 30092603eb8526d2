//! The value of a key, as text and as whatever it can be read as. Mirrors `Snapshot::Entry` and
//! `SnapshotImpl::createEntry` of Envoy's `source/common/runtime/runtime_impl.cc`.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::config::{core, yaml};

/// A share in parts of a hundred, of ten thousand or of a million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FractionalPercent {
    /// So many of the parts.
    pub numerator: u32,
    /// Which parts.
    pub denominator: Denominator,
}

/// How many parts a whole has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denominator {
    /// 100.
    Hundred = 100,
    /// 10 000.
    TenThousand = 10_000,
    /// 1 000 000.
    Million = 1_000_000,
}

impl From<core::FractionalPercent> for FractionalPercent {
    fn from(config: core::FractionalPercent) -> Self {
        let denominator = match config.denominator {
            core::Denominator::Hundred => Denominator::Hundred,
            core::Denominator::TenThousand => Denominator::TenThousand,
            core::Denominator::Million => Denominator::Million,
        };
        FractionalPercent { numerator: config.numerator, denominator }
    }
}

impl FractionalPercent {
    /// Whether a random number is in the share.
    pub fn evaluate(self, random: u64) -> bool {
        random % (self.denominator as u64) < self.numerator.into()
    }

    fn of_message(fields: &Map<String, Value>) -> Option<Self> {
        let is_known = |name: &String| name == "numerator" || name == "denominator";
        if fields.is_empty() || !fields.keys().all(is_known) {
            return None;
        }
        let denominator = match fields.get("denominator") {
            None => Denominator::Hundred,
            Some(Value::String(name)) => match name.as_str() {
                "HUNDRED" => Denominator::Hundred,
                "TEN_THOUSAND" => Denominator::TenThousand,
                "MILLION" => Denominator::Million,
                _ => return None,
            },
            Some(Value::Number(number)) => match number.as_u64()? {
                0 => Denominator::Hundred,
                1 => Denominator::TenThousand,
                2 => Denominator::Million,
                _ => return None,
            },
            Some(_) => return None,
        };
        let numerator = fields.get("numerator").map_or(Some(0), Value::as_u64)?;
        Some(FractionalPercent { numerator: numerator.try_into().ok()?, denominator })
    }
}

/// A value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entry {
    /// As `/runtime` shows it.
    pub raw_string_value: String,
    /// A number that is not negative, cut off to a whole one.
    pub uint_value: Option<u64>,
    /// Any number.
    pub double_value: Option<f64>,
    /// True or false.
    pub bool_value: Option<bool>,
    /// A share.
    pub fractional_percent_value: Option<FractionalPercent>,
}

impl Entry {
    /// From a value of the configuration.
    pub fn of_value(value: &Value) -> Self {
        let mut entry = Entry::default();
        entry.read(value);
        entry.raw_string_value = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => six_digits(number.as_f64().unwrap_or_default()),
            Value::Object(fields) => format!("goo.gle/debugstr \n{}", debug_string(fields, 0)),
            other => other.to_string(),
        };
        entry
    }

    /// From text, which is read as YAML.
    pub fn of_text(text: &str) -> Self {
        let mut entry = Entry { raw_string_value: text.to_string(), ..Entry::default() };
        match yaml::parse_yaml(text) {
            Ok(value) => entry.read(&value),
            Err(_) => entry.read(&Value::String(text.to_string())),
        }
        entry
    }

    /// A share, which may be a whole number of percent.
    pub fn percent(&self) -> Option<FractionalPercent> {
        let of_number = |number: u64| FractionalPercent {
            numerator: number.min(100) as u32,
            denominator: Denominator::Hundred,
        };
        self.fractional_percent_value.or_else(|| self.uint_value.map(of_number))
    }

    fn read(&mut self, value: &Value) {
        match value {
            Value::Bool(value) => self.bool_value = Some(*value),
            Value::Number(number) => self.read_number(number.as_f64()),
            Value::Object(fields) => self.fractional_percent_value = FractionalPercent::of_message(fields),
            Value::String(text) => {
                self.read_number(text.trim().parse().ok());
                self.bool_value = bool_of(text);
                if let Ok(Value::Object(fields)) = yaml::parse_yaml(text) {
                    self.fractional_percent_value = FractionalPercent::of_message(&fields);
                }
            }
            Value::Null | Value::Array(_) => {}
        }
    }

    fn read_number(&mut self, number: Option<f64>) {
        let Some(number) = number else { return };
        self.double_value = Some(number);
        self.uint_value = (number >= 0.0).then_some(number as u64);
    }
}

fn bool_of(text: &str) -> Option<bool> {
    [("true", true), ("false", false)]
        .into_iter()
        .find(|(name, _)| text.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// A number as C's `%g` has it.
fn six_digits(number: f64) -> String {
    if number == 0.0 {
        return "0".to_string();
    }
    let scientific = format!("{number:.5e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..6).contains(&exponent) {
        return without_zeros(&format!("{number:.*}", (5 - exponent) as usize)).to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", without_zeros(digits), exponent.abs())
}

fn without_zeros(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

/// A `google.protobuf.Struct` as protobuf prints it for people, which is what Envoy shows.
fn debug_string(fields: &Map<String, Value>, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    let mut sorted: Vec<_> = fields.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    let mut text = String::new();
    for (name, value) in sorted {
        let value = debug_value(value, depth + 2);
        let _ = write!(
            text,
            "{indent}fields {{\n{indent}  key: {name:?}\n{indent}  value {{\n{value}{indent}  }}\n{indent}}}\n"
        ); // infallible
    }
    text
}

fn debug_value(value: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    match value {
        Value::Null => format!("{indent}null_value: NULL_VALUE\n"),
        Value::Bool(value) => format!("{indent}bool_value: {value}\n"),
        Value::Number(number) => format!("{indent}number_value: {number}\n"),
        Value::String(text) => format!("{indent}string_value: {text:?}\n"),
        Value::Object(fields) => {
            format!("{indent}struct_value {{\n{}{indent}}}\n", debug_string(fields, depth + 1))
        }
        Value::Array(values) => {
            let values: String = values
                .iter()
                .map(|value| format!("{indent}  values {{\n{}{indent}  }}\n", debug_value(value, depth + 2)))
                .collect();
            format!("{indent}list_value {{\n{values}{indent}}}\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_shown_as_envoy_shows_them() {
        for (number, text) in [
            (1.5, "1.5"),
            (3.0, "3"),
            (0.0, "0"),
            (-3.0, "-3"),
            (0.1, "0.1"),
            (100_000.0, "100000"),
            (1_234_567.0, "1.23457e+06"),
            (123_456_789_012_345.0, "1.23457e+14"),
            (1e10, "1e+10"),
            (1e300, "1e+300"),
            (0.000_001, "1e-06"),
        ] {
            assert_eq!(Entry::of_value(&json!(number)).raw_string_value, text);
        }
    }

    #[test]
    fn a_value_is_what_it_can_be_read_as() {
        let of = Entry::of_value;
        let numbers = |entry: &Entry| (entry.uint_value, entry.double_value);
        assert_eq!(numbers(&of(&json!(7))), (Some(7), Some(7.0)));
        assert_eq!(numbers(&of(&json!("7"))), (Some(7), Some(7.0)));
        assert_eq!(numbers(&of(&json!("1.5"))), (Some(1), Some(1.5)));
        assert_eq!(numbers(&of(&json!(3_000_000_000_u64))), (Some(3_000_000_000), Some(3e9)));
        assert_eq!(numbers(&of(&json!(-3))), (None, Some(-3.0)));
        assert_eq!(numbers(&of(&json!("x"))), (None, None));
        assert_eq!(
            of(&json!(true)),
            Entry { raw_string_value: "true".into(), bool_value: Some(true), ..Entry::default() }
        );
        assert_eq!(of(&json!("False")).bool_value, Some(false));
        assert_eq!(Entry::of_text("TRUE").bool_value, Some(true));
        assert_eq!(Entry::of_text("12").uint_value, Some(12));
        assert_eq!(Entry::of_text("[a").raw_string_value, "[a");
    }

    #[test]
    fn shares_are_messages_or_text_of_one() {
        let ten_thousandths =
            |numerator| Some(FractionalPercent { numerator, denominator: Denominator::TenThousand });
        let message = json!({ "numerator": 3, "denominator": "TEN_THOUSAND" });
        let entry = Entry::of_value(&message);
        assert_eq!(entry.fractional_percent_value, ten_thousandths(3));
        assert_eq!(
            entry.raw_string_value,
            "goo.gle/debugstr \nfields {\n  key: \"denominator\"\n  value {\n    string_value: \
             \"TEN_THOUSAND\"\n  }\n}\nfields {\n  key: \"numerator\"\n  value {\n    number_value: 3\n  }\n}\n"
        );
        let text = "numerator: 5\ndenominator: TEN_THOUSAND";
        assert_eq!(Entry::of_text(text).fractional_percent_value, ten_thousandths(5));
        assert_eq!(Entry::of_value(&json!(text)).fractional_percent_value, ten_thousandths(5));
        assert_eq!(Entry::of_text("{numerator: 5, other: 1}").fractional_percent_value, None);
        let hundredths = FractionalPercent { numerator: 50, denominator: Denominator::Hundred };
        assert_eq!(Entry::of_text("numerator: 50").fractional_percent_value, Some(hundredths));
        assert!(hundredths.evaluate(149) && !hundredths.evaluate(150));
    }
}
