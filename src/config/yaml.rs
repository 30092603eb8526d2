//! YAML text into a `serde_json::Value`, with scalars read the way Envoy's
//! `MessageUtil::loadFromYaml` (`source/common/protobuf/yaml_utility.cc`) does.
//!
//! A quoted or block scalar is a string. A plain one is null, a boolean (`true`, `yes`,
//! `on`, `y` and their opposites), an integer (decimal, octal or hexadecimal) or a
//! string; so `1.5` is a string, which the field readers accept as a number.
//! As in Envoy the tag `!` makes a string, any other tag (even `!!str`) a plain
//! scalar, and merge keys (`<<`) are ordinary keys.
//!
//! Different on purpose: Envoy lets a repeated key win silently and ignores
//! every document but the first; both are errors here.

use super::error::ConfigError;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};
use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::{Marker, ScanError, TScalarStyle};

/// Protobuf's own limit for nested messages.
const MAX_DEPTH: usize = 100;
/// Bounds what aliases can expand to.
const MAX_NODES: usize = 1_000_000;
const TOO_MANY: &str = "aliases expand to too many values";

/// Reads exactly one YAML document.
///
/// # Errors
/// Bad syntax, a repeated key, more than one document, or no document at all;
/// the text names line and column (both counted from 1).
pub fn parse_yaml(text: &str) -> Result<Value, ConfigError> {
    let mut builder = Builder { aliased: aliased_anchors(text)?, ..Builder::default() };
    for_each_event(text, |event, mark| builder.event(event, mark))?;
    match builder.root {
        Some(root @ (Value::Object(_) | Value::Array(_))) => Ok(root),
        _ => Err(ConfigError::document(format!("Unable to convert YAML as JSON: {text}"))),
    }
}

fn for_each_event(
    text: &str,
    mut take: impl FnMut(Event, Marker) -> Result<(), ConfigError>,
) -> Result<(), ConfigError> {
    let mut parser = Parser::new_from_str(text);
    loop {
        match parser.next_token().map_err(|e| scan_error(&e))? {
            (Event::StreamEnd, _) => return Ok(()),
            (event, mark) => take(event, mark)?,
        }
    }
}

/// The anchors that some alias stands for: values are kept for these alone.
fn aliased_anchors(text: &str) -> Result<HashSet<usize>, ConfigError> {
    let mut aliased = HashSet::new();
    // Few documents have aliases, and only these are scanned twice.
    if text.contains('&') && text.contains('*') {
        for_each_event(text, |event, _| {
            if let Event::Alias(id) = event {
                aliased.insert(id);
            }
            Ok(())
        })?;
    }
    Ok(aliased)
}

fn scan_error(e: &ScanError) -> ConfigError {
    error_at(*e.marker(), e.info())
}

fn error_at(mark: Marker, what: &str) -> ConfigError {
    ConfigError::document(format!("yaml: error at line {}, column {}: {what}", mark.line(), mark.col() + 1))
}

/// A collection that is still open.
struct Open {
    anchor: usize,
    kind: OpenKind,
}

enum OpenKind {
    Array(Vec<Value>),
    Object { map: Map<String, Value>, key: Option<String> },
}

/// Builds the tree from parser events without recursion.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    aliased: HashSet<usize>,
    anchors: HashMap<usize, (Value, usize)>,
    documents: usize,
    nodes: usize,
    /// Values that are kept for aliases.
    kept: usize,
    root: Option<Value>,
}

impl Builder {
    fn event(&mut self, event: Event, mark: Marker) -> Result<(), ConfigError> {
        match event {
            Event::DocumentStart => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(error_at(mark, "only one document is allowed"));
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                if self.wants_key() {
                    if self.aliased.contains(&anchor) {
                        self.anchors.insert(anchor, (Value::String(text.clone()), 1));
                    }
                    return self.key(text, mark);
                }
                let plain = match tag {
                    None => style == TScalarStyle::Plain,
                    Some(tag) => !(tag.handle.is_empty() && tag.suffix == "!"),
                };
                let value = if plain { plain_scalar(&text) } else { Value::String(text) };
                self.value(value, anchor, mark)
            }
            Event::SequenceStart(anchor, _) => self.start(anchor, OpenKind::Array(Vec::new()), mark),
            Event::MappingStart(anchor, _) => {
                let map = Map::new();
                self.start(anchor, OpenKind::Object { map, key: None }, mark)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(mark),
            Event::Alias(id) => self.alias(id, mark),
            _ => Ok(()),
        }
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { kind: OpenKind::Object { key: None, .. }, .. }))
    }

    fn key(&mut self, text: String, mark: Marker) -> Result<(), ConfigError> {
        if let Some(Open { kind: OpenKind::Object { map, key }, .. }) = self.open.last_mut() {
            if map.contains_key(&text) {
                return Err(error_at(mark, &format!("duplicate key '{text}'")));
            }
            *key = Some(text);
        }
        Ok(())
    }

    fn start(&mut self, anchor: usize, kind: OpenKind, mark: Marker) -> Result<(), ConfigError> {
        if self.wants_key() {
            return Err(error_at(mark, "a mapping key must be a scalar"));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(error_at(mark, "nested too deeply"));
        }
        self.open.push(Open { anchor, kind });
        Ok(())
    }

    fn end(&mut self, mark: Marker) -> Result<(), ConfigError> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let value = match open.kind {
            OpenKind::Array(items) => Value::Array(items),
            OpenKind::Object { map, .. } => Value::Object(map),
        };
        self.value(value, open.anchor, mark)
    }

    fn alias(&mut self, id: usize, mark: Marker) -> Result<(), ConfigError> {
        let Some((value, size)) = self.anchors.get(&id).cloned() else {
            return Err(error_at(mark, "an alias inside its own anchor"));
        };
        if self.wants_key() {
            return match value {
                Value::String(text) => self.key(text, mark),
                Value::Array(_) | Value::Object(_) => Err(error_at(mark, "a mapping key must be a scalar")),
                other => self.key(other.to_string(), mark),
            };
        }
        if self.open.len() + depth(&value) > MAX_DEPTH {
            return Err(error_at(mark, "nested too deeply"));
        }
        self.nodes += size;
        self.value(value, 0, mark)
    }

    fn value(&mut self, value: Value, anchor: usize, mark: Marker) -> Result<(), ConfigError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(error_at(mark, TOO_MANY));
        }
        if self.aliased.contains(&anchor) {
            let size = count(&value);
            // An alias will need as many at least.
            self.kept += size;
            if self.kept > MAX_NODES {
                return Err(error_at(mark, TOO_MANY));
            }
            self.anchors.insert(anchor, (value.clone(), size));
        }
        match self.open.last_mut().map(|o| &mut o.kind) {
            None => self.root = Some(value),
            Some(OpenKind::Array(items)) => items.push(value),
            Some(OpenKind::Object { map, key }) => {
                if let Some(key) = key.take() {
                    map.insert(key, value);
                }
            }
        }
        Ok(())
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(a) => 1 + a.iter().map(depth).max().unwrap_or(0),
        Value::Object(o) => 1 + o.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn count(value: &Value) -> usize {
    match value {
        Value::Array(a) => 1 + a.iter().map(count).sum::<usize>(),
        Value::Object(o) => 1 + o.values().map(count).sum::<usize>(),
        _ => 1,
    }
}

fn plain_scalar(text: &str) -> Value {
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    if let Some(b) = plain_bool(text) {
        return Value::Bool(b);
    }
    match plain_integer(text) {
        // Beyond 2^53 JSON numbers lose digits; Envoy keeps such a one as text.
        Some(n) if n.unsigned_abs() <= 1 << 53 => Value::Number(n.into()),
        Some(n) => Value::String(n.to_string()),
        None => Value::String(text.to_string()),
    }
}

/// Lower case, UPPER CASE and Capitalized only, as yaml-cpp has it.
fn plain_bool(text: &str) -> Option<bool> {
    let rest = text.get(1..)?;
    let lower = rest.bytes().all(|b| b.is_ascii_lowercase());
    let upper = text.bytes().all(|b| b.is_ascii_uppercase());
    if !lower && !upper {
        return None;
    }
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => Some(true),
        "false" | "no" | "off" | "n" => Some(false),
        _ => None,
    }
}

fn plain_integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if !digits.as_bytes().first()?.is_ascii_digit() {
        return None;
    }
    let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let magnitude = if let Some(hex) = hex {
        if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        i128::from_str_radix(hex, 16).ok()?
    } else if digits.len() > 1 && digits.starts_with('0') {
        i128::from_str_radix(digits, 8).ok()?
    } else if digits.bytes().all(|b| b.is_ascii_digit()) {
        digits.parse().ok()?
    } else {
        return None;
    };
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scalar(text: &str) -> Value {
        parse_yaml(&format!("k: {text}")).unwrap()["k"].clone()
    }

    #[test]
    fn plain_scalars_follow_yaml_cpp() {
        for (text, want) in [
            ("5", json!(5)),
            ("\"5\"", json!("5")),
            ("'true'", json!("true")),
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("TRUE", json!(true)),
            ("tRue", json!("tRue")),
            ("n", json!(false)),
            ("~", Value::Null),
            ("Null", Value::Null),
            ("", Value::Null),
            ("0x10", json!(16)),
            ("010", json!(8)),
            ("+5", json!(5)),
            ("-5", json!(-5)),
            ("1.5", json!("1.5")),
            ("1_000", json!("1_000")),
            ("0.25s", json!("0.25s")),
            ("08", json!("08")),
            ("9007199254740993", json!("9007199254740993")),
            ("! 5", json!("5")),
            ("!!str 5", json!(5)),
            ("!!str \"5\"", json!(5)),
            ("é", json!("é")),
            ("|-\n  5", json!("5")),
        ] {
            assert_eq!(scalar(text), want, "{text}");
        }
    }

    #[test]
    fn anchors_are_copied_and_merge_keys_are_plain_keys() {
        let v = parse_yaml("a: &x {b: 1}\nc: *x\nd: {<<: *x}\n").unwrap();
        assert_eq!(v["c"], json!({"b": 1}));
        assert_eq!(v["d"], json!({"<<": {"b": 1}}));
    }

    fn error(text: &str) -> String {
        parse_yaml(text).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_line_and_column() {
        assert_eq!(error("a: 1\nb: {c: 1, c: 2}"), "yaml: error at line 2, column 11: duplicate key 'c'");
        assert!(error("a: 1\n---\nb: 1").contains("only one document is allowed"));
        assert!(error("a: 1\nb: [1").starts_with("yaml: error at line "));
        assert!(error("a: *nope").starts_with("yaml: error at line 1, column 4"));
        assert!(error("{[a]: 1}").contains("a mapping key must be a scalar"));
        assert!(error("a: &x [*x]").contains("alias"));
        for text in ["", "# only a comment", "foo", "~"] {
            assert!(error(text).starts_with("Unable to convert YAML as JSON"));
        }
    }

    #[test]
    fn depth_and_alias_expansion_are_bounded() {
        let nested = format!("{}{}", "[".repeat(101), "]".repeat(101));
        assert!(error(&nested).contains("nested too deeply"));
        assert!(parse_yaml(&"[".repeat(5000)).is_err());
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_string();
        for i in 1..9 {
            let refs = vec![format!("*a{}", i - 1); 10].join(", ");
            bomb.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
        }
        assert!(error(&bomb).contains("too many values"));
    }

    /// A list of `items` numbers within `depth` lists, each with an anchor.
    fn anchored(depth: usize, items: usize) -> String {
        let open: String = (0..depth).map(|i| format!("&a{i} [")).collect();
        format!("{open}{}{}", "1, ".repeat(items), "]".repeat(depth))
    }

    #[test]
    fn an_anchor_costs_nothing_unless_it_is_used() {
        let text = format!("a: {}\nb: &x 5\nc: *x\n", anchored(90, 100));
        let mut builder = Builder { aliased: aliased_anchors(&text).unwrap(), ..Builder::default() };
        for_each_event(&text, |event, mark| builder.event(event, mark)).unwrap();
        assert_eq!((builder.anchors.len(), builder.kept), (1, 1));
        assert!(aliased_anchors(&anchored(9, 9)).unwrap().is_empty());
        // Used, they are kept, all together no more than what they may expand to.
        let used: String = (0..90).map(|i| format!("- *a{i}\n")).collect();
        assert!(parse_yaml(&format!("- {}\n{used}", anchored(90, 100))).is_ok());
        let error = error(&format!("- {}\n{used}", anchored(90, 12_000)));
        assert!(error.contains("line 1, ") && error.contains("too many values"), "{error}");
    }
}
