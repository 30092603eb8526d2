//! The rules that the API has for its fields, in the words of Envoy.
//!
//! Stands where Envoy has the code that protoc-gen-validate makes: of `validate.FieldRules` what the API uses, read
//! where it stands in the descriptors. What has no value to check (text where a number is expected) passes; its reader
//! complains.

use super::descriptor::{Api, Field, Kind};
use super::scalar;
use super::wire_format::{Fields, Payload};
use regex::Regex;
use serde_json::Value;
use std::fmt::Display;

/// What breaks a rule.
#[derive(Debug, PartialEq)]
pub struct Violation {
    /// Behind the field's name: empty, `[i]` or `["key"]`.
    pub at: String,
    /// What the rule says.
    pub words: String,
}

/// What a field's value, or its absence, breaks.
pub fn check(api: &Api, field: &Field, value: Option<&Value>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (number, rules) in Fields::of(field.rules).filter_map(Result::ok) {
        let Some(rules) = rules.bytes().map(Rules) else { continue };
        let here = |words: Option<String>| words.map(|words| Violation { at: String::new(), words });
        match number {
            18 => check_list(api, field, rules, value, &mut found),
            19 => check_map(api, field, rules, value, &mut found),
            _ => found.extend(here(check_one(api, field, number, rules, value))),
        }
    }
    found
}

fn check_list(api: &Api, field: &Field, rules: Rules, value: Option<&Value>, found: &mut Vec<Violation>) {
    let items = scalar::flat(value);
    let mut add = |at: String, words: String| found.push(Violation { at, words });
    let empty_is_right = rules.flag(5) && items.is_empty();
    if let Some(words) =
        amount(rules.number(1), rules.number(2), items.len(), "item").filter(|_| !empty_is_right)
    {
        add(String::new(), words);
    }
    let repeated = |(i, item)| items[..i].contains(item);
    if rules.flag(3) && items.iter().enumerate().any(repeated) {
        add(String::new(), "repeated value must contain unique items".to_string());
    }
    let Some(Ok((number, Payload::Bytes(rules)))) = rules.bytes(4).and_then(|rules| Fields::of(rules).next())
    else {
        return;
    };
    let no_text = Value::String(String::new());
    for (i, item) in items.into_iter().enumerate() {
        // Null is what is there without a value.
        let item = if item.is_null() && matches!(field.kind, Kind::String) { &no_text } else { item };
        if let Some(words) = check_one(api, field, number, Rules(rules), Some(item)) {
            add(format!("[{i}]"), words);
        }
    }
}

fn check_map(api: &Api, field: &Field, rules: Rules, value: Option<&Value>, found: &mut Vec<Violation>) {
    let Some(entry) = api.map_entry(field) else { return };
    let mut add = |at: String, words: String| found.push(Violation { at, words });
    let entries = value.and_then(Value::as_object);
    if let Some(words) = amount(rules.number(1), rules.number(2), entries.map_or(0, |map| map.len()), "pair")
    {
        add(String::new(), words);
    }
    let of = |number| match rules.bytes(number).and_then(|rules| Fields::of(rules).next()) {
        Some(Ok((number, Payload::Bytes(rules)))) => Some((number, Rules(rules))),
        _ => None,
    };
    let (keys, values) = (of(4), of(5));
    for (key, value) in entries.into_iter().flatten() {
        let text = Value::String(key.clone());
        let of_key =
            keys.and_then(|(number, rules)| check_one(api, &entry.fields[0], number, rules, Some(&text)));
        let of_value = || {
            values.and_then(|(number, rules)| check_one(api, &entry.fields[1], number, rules, Some(value)))
        };
        if let Some(words) = of_key.or_else(of_value) {
            add(format!("[{key:?}]"), words);
        }
    }
}

/// Too few or too many items.
fn amount(min: Option<u64>, max: Option<u64>, count: usize, what: &str) -> Option<String> {
    let count = count as u64;
    if min.is_none_or(|min| count >= min) && max.is_none_or(|max| count <= max) {
        return None;
    }
    Some(match (min, max) {
        (Some(min), Some(max)) if min == max => format!("value must contain exactly {min} {what}(s)"),
        (Some(min), Some(max)) => {
            format!("value must contain between {min} and {max} {what}s, inclusive")
        }
        (Some(min), None) => format!("value must contain at least {min} {what}(s)"),
        (None, max) => format!("value must contain no more than {} {what}(s)", max.unwrap_or(0)),
    })
}

/// Checks one value; `number` says of which type the rules are (`FieldRules.type`).
fn check_one(api: &Api, field: &Field, number: u32, rules: Rules, value: Option<&Value>) -> Option<String> {
    let required = match number {
        17 => rules.flag(2),
        20 | 21 => rules.flag(1),
        _ => false,
    };
    match value {
        // Whether a member has to be there the oneof says.
        None if field.oneof.is_some() => return None,
        None if required => return Some("value is required".to_string()),
        // Protobuf cannot tell an absent value from the default where there is no presence.
        None if field.has_presence() => return None,
        _ => {}
    }
    let value = unwrapped(value, field);
    match number {
        1 | 2 => {
            let value = value.map_or(Ok(0.0), scalar::parse_f64).ok()?;
            let bounds = Bounds::of([2, 3, 4, 5], |number| rules.float(number));
            (!(rules.flag(8) && value == 0.0)).then(|| bounds.check(value, f64::to_string))?
        }
        3..=12 => {
            let value = value.map_or(Some(0), scalar::parse_integer)?;
            let bounds = Bounds::of([2, 3, 4, 5], |n| Some(integer(number, rules.number(n)?)));
            (!(rules.flag(8) && value == 0)).then(|| bounds.check(value, i128::to_string))?
        }
        13 => {
            let value = value.map_or(Ok(false), scalar::parse_bool).ok()?;
            let wanted = rules.number(1)? == 1;
            (value != wanted).then(|| format!("value must equal {wanted}"))
        }
        14 => check_text(rules, value.map_or(Some(""), Value::as_str)?),
        15 => check_length(rules, base64_length(value.map_or(Some(""), Value::as_str)?)),
        16 => check_enum(api, field, rules, value),
        21 => {
            let value = scalar::parse_duration(value?).ok()?;
            let bounds = Bounds::of([3, 4, 5, 6], |number| rules.duration(number));
            bounds.check(value.as_nanos() as i128, |nanos| go_duration(*nanos))
        }
        _ => None,
    }
}

/// The value of a wrapper that is spelled out.
fn unwrapped<'v>(value: Option<&'v Value>, field: &Field) -> Option<&'v Value> {
    match value {
        Some(Value::Object(fields)) if field.kind == Kind::Message => fields.get("value"),
        other => other,
    }
}

fn integer(number: u32, bits: u64) -> i128 {
    // Signed ones: int32, int64.
    if matches!(number, 3 | 4) { i128::from(bits as i64) } else { i128::from(bits) }
}

fn check_enum(api: &Api, field: &Field, rules: Rules, value: Option<&Value>) -> Option<String> {
    let known = api.enumeration(field.type_name)?;
    let zero = Value::from(0);
    match scalar::parse_enum(value.unwrap_or(&zero), &known.values)? {
        Err(_) => rules.flag(2).then(|| "value must be one of the defined enum values".to_string()),
        Ok(name) => {
            let number_of = |name| known.values.iter().find(|value| value.0 == name).map(|value| value.1);
            let number = number_of(name)? as u64;
            let refused: Vec<u64> = rules.numbers(4);
            let name_of = |number: &u64| known.values.iter().find(|value| value.1 as u64 == *number);
            let names = refused.iter().filter_map(name_of).map(|value| value.0).collect::<Vec<_>>();
            refused.contains(&number).then(|| format!("value must not be in list [{}]", names.join(" ")))
        }
    }
}

fn check_text(rules: Rules, text: &str) -> Option<String> {
    if rules.flag(26) && text.is_empty() {
        return None;
    }
    let (min, max) = (rules.number(2), rules.number(3));
    let length = text.chars().count() as u64;
    if min.is_some_and(|min| length < min) || max.is_some_and(|max| length > max) {
        return Some(match (min, max) {
            (Some(min), Some(max)) => format!("value must have between {min} and {max} characters inclusive"),
            (Some(min), None) => format!("value length must be at least {min} characters"),
            (None, max) => format!("value length must be at most {} characters", max.unwrap_or(0)),
        });
    }
    if let Some(wanted) = rules.number(19).filter(|&wanted| wanted != length) {
        return Some(format!("value length must be {wanted} characters"));
    }
    if let Some(max) = rules.number(5).filter(|&max| text.len() as u64 > max) {
        return Some(format!("value length must be at most {max} bytes"));
    }
    if let Some(prefix) = rules.text(7).filter(|prefix| !text.starts_with(prefix)) {
        return Some(format!("value does not have prefix {prefix:?}"));
    }
    if let Some(suffix) = rules.text(8).filter(|suffix| !text.ends_with(suffix)) {
        return Some(format!("value does not have suffix {suffix:?}"));
    }
    let list = rules.texts(10);
    if !list.is_empty() && !list.contains(&text) {
        return Some(format!("value must be in list [{}]", list.join(" ")));
    }
    if let Some(pattern) = rules.text(6) {
        let matches = Regex::new(pattern).is_ok_and(|regex| regex.is_match(text));
        return (!matches).then(|| format!("value does not match regex pattern {pattern:?}"));
    }
    check_header(rules, text)
}

/// What may stand in the name or the value of a header, strictly (the default) or not.
fn check_header(rules: Rules, text: &str) -> Option<String> {
    const NAME: u64 = 1;
    let strict = rules.number(25) != Some(0);
    let name = rules.number(24)? == NAME;
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_|~`".contains(c);
    let (right, pattern) = match (name, strict) {
        (true, true) => {
            let token = text.strip_prefix(':').unwrap_or(text);
            (!token.is_empty() && token.chars().all(is_token), "^:?[0-9a-zA-Z!#$%&'*+-.^_|~`]+$")
        }
        (false, true) => {
            (text.chars().all(|c| c == '\t' || !c.is_ascii_control()), "^[^\\x00-\\b\\n-\\x1f\\x7f]*$")
        }
        (_, false) => (!text.contains(['\0', '\n', '\r']), "^[^\\x00\\n\\r]*$"),
    };
    (!right).then(|| format!("value does not match regex pattern \"{pattern}\""))
}

/// `bytes`, of which only the length matters.
fn check_length(rules: Rules, length: u64) -> Option<String> {
    let (min, max) = (rules.number(2), rules.number(3));
    if min.is_some_and(|min| length < min) || max.is_some_and(|max| length > max) {
        return Some(match (min, max) {
            (Some(min), Some(max)) => {
                format!("value length must be between {min} and {max} bytes, inclusive")
            }
            (Some(min), None) => format!("value length must be at least {min} bytes"),
            (None, max) => format!("value length must be at most {} bytes", max.unwrap_or(0)),
        });
    }
    None
}

fn base64_length(text: &str) -> u64 {
    (text.trim_end_matches('=').len() * 3 / 4) as u64
}

/// Where a value has to lie. With the upper bound below the lower one it must not lie between them.
struct Bounds<T> {
    /// With whether the bound itself is right.
    upper: Option<(T, bool)>,
    lower: Option<(T, bool)>,
}

impl<T: PartialOrd + Copy> Bounds<T> {
    /// From the rules `lt`, `lte`, `gt`, `gte` of these numbers.
    fn of([lt, lte, gt, gte]: [u32; 4], get: impl Fn(u32) -> Option<T>) -> Self {
        let bound = |open, closed| get(open).map(|v| (v, false)).or_else(|| get(closed).map(|v| (v, true)));
        Self { upper: bound(lt, lte), lower: bound(gt, gte) }
    }

    fn check(&self, value: T, words: impl Fn(&T) -> String) -> Option<String> {
        let below = |(bound, closed): (T, bool)| value < bound || (closed && value == bound);
        let above = |(bound, closed): (T, bool)| value > bound || (closed && value == bound);
        let or_equal = |closed: bool| if closed { " or equal to" } else { "" };
        let range = |is_in: &str, lower: &dyn Display, low: &T, high: &T, upper: &dyn Display| {
            format!("value must be {is_in} range {lower}{}, {}{upper}", words(low), words(high))
        };
        match (self.lower, self.upper) {
            (Some(lower), Some(upper)) if lower.0 <= upper.0 => {
                let ends = (if lower.1 { '[' } else { '(' }, if upper.1 { ']' } else { ')' });
                let words = || range("inside", &ends.0, &lower.0, &upper.0, &ends.1);
                (!(above(lower) && below(upper))).then(words)
            }
            (Some(lower), Some(upper)) => {
                let ends = (if upper.1 { '(' } else { '[' }, if lower.1 { ')' } else { ']' });
                let words = || range("outside", &ends.0, &upper.0, &lower.0, &ends.1);
                (!(above(lower) || below(upper))).then(words)
            }
            (Some(lower), None) => (!above(lower))
                .then(|| format!("value must be greater than{} {}", or_equal(lower.1), words(&lower.0))),
            (None, Some(upper)) => (!below(upper))
                .then(|| format!("value must be less than{} {}", or_equal(upper.1), words(&upper.0))),
            (None, None) => None,
        }
    }
}

/// A duration as Go writes it, and Envoy in its errors: `5m0s`, `1ms`.
fn go_duration(nanos: i128) -> String {
    let (hours, minutes) = (nanos / 3_600_000_000_000, nanos / 60_000_000_000 % 60);
    let seconds = (nanos % 60_000_000_000) as f64 / 1e9;
    match nanos {
        0 => "0s".to_string(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}\u{b5}s", nanos as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{}ms", nanos as f64 / 1e6),
        _ if hours > 0 => format!("{hours}h{minutes}m{seconds}s"),
        _ if minutes > 0 => format!("{minutes}m{seconds}s"),
        _ => format!("{seconds}s"),
    }
}

/// The rules of one type, such as `validate.StringRules`, in binary form.
#[derive(Clone, Copy)]
struct Rules<'a>(&'a [u8]);

impl<'a> Rules<'a> {
    fn all(self, number: u32) -> impl Iterator<Item = Payload<'a>> {
        Fields::of(self.0).filter_map(Result::ok).filter(move |field| field.0 == number).map(|field| field.1)
    }

    fn number(self, number: u32) -> Option<u64> {
        self.all(number).last()?.varint()
    }

    fn numbers(self, number: u32) -> Vec<u64> {
        self.all(number).filter_map(Payload::varint).collect()
    }

    fn flag(self, number: u32) -> bool {
        self.number(number) == Some(1)
    }

    fn bytes(self, number: u32) -> Option<&'a [u8]> {
        self.all(number).last()?.bytes()
    }

    fn text(self, number: u32) -> Option<&'a str> {
        self.all(number).last()?.text()
    }

    fn texts(self, number: u32) -> Vec<&'a str> {
        self.all(number).filter_map(Payload::text).collect()
    }

    fn float(self, number: u32) -> Option<f64> {
        match self.all(number).last()? {
            Payload::Fixed64(bits) => Some(f64::from_bits(bits)),
            Payload::Fixed32(bits) => Some(f32::from_bits(bits).into()),
            _ => None,
        }
    }

    /// In nanoseconds.
    fn duration(self, number: u32) -> Option<i128> {
        let duration = Rules(self.bytes(number)?);
        let part = |number| i128::from(duration.number(number).unwrap_or(0) as i64);
        Some(part(1) * 1_000_000_000 + part(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What `fields` of a message break, each as `field` and what stands behind, then the words.
    fn broken(message: &str, fields: Value) -> Vec<String> {
        let api = Api::default();
        let message = api.message(&format!("envoy.{message}")).unwrap();
        let check = |field: &Field| {
            let words = |violation: Violation| format!("{}{}: {}", field.name, violation.at, violation.words);
            check(&api, field, fields.get(field.name)).into_iter().map(words).collect::<Vec<_>>()
        };
        message.fields.iter().flat_map(check).collect()
    }

    #[test]
    fn each_rule_in_envoys_words() {
        const CLUSTER: &str = "config.cluster.v3.Cluster";
        const HCM: &str = "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
        let long = "x".repeat(65);
        for (message, field, value, words) in [
            (CLUSTER, "name", json!(""), "value length must be at least 1 characters"),
            (CLUSTER, "connect_timeout", json!("0s"), "value must be greater than 0s"),
            (CLUSTER, "dns_refresh_rate", json!("0.001s"), "value must be greater than 1ms"),
            (CLUSTER, "lb_policy", json!(99), "value must be one of the defined enum values"),
            (HCM, "max_request_headers_kb", json!({"value": 8193}), "value must be inside range (0, 8192]"),
            (HCM, "max_request_headers_kb", json!(0), "value must be inside range (0, 8192]"),
            (HCM, "server_name", json!("a\nb"), "value does not match regex pattern \"^[^\\x00\\n\\r]*$\""),
            (
                "config.bootstrap.v3.Bootstrap",
                "stats_flush_interval",
                json!("300s"),
                "value must be inside range [1ms, 5m0s)",
            ),
            ("config.bootstrap.v3.Bootstrap", "stats_flush_on_admin", json!(false), "value must equal true"),
            (
                "config.core.v3.SocketAddress",
                "port_value",
                json!(65536),
                "value must be less than or equal to 65535",
            ),
            ("type.v3.Percent", "value", json!(100.5), "value must be inside range [0, 100]"),
            ("type.v3.HttpStatus", "code", json!(0), "value must not be in list [Empty]"),
            ("type.v3.Int64Range", "start", json!(-1), ""),
            (
                "config.route.v3.DirectResponseAction",
                "status",
                json!(600),
                "value must be inside range [200, 600)",
            ),
            ("config.route.v3.VirtualHost", "domains", json!([]), "value must contain at least 1 item(s)"),
            (
                "config.listener.v3.Listener",
                "max_connections_to_accept_per_socket_event",
                json!(0),
                "value must be greater than 0",
            ),
            (
                "extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig",
                "header_name",
                json!("a b"),
                "value does not match regex pattern \"^:?[0-9a-zA-Z!#$%&'*+-.^_|~`]+$\"",
            ),
            (
                "config.route.v3.RedirectAction",
                "path_redirect",
                json!("\n"),
                "value does not match regex pattern \"^[^\\x00\\n\\r]*$\"",
            ),
            ("config.core.v3.HeaderValue", "key", json!(long), ""),
            (
                "config.trace.v3.DatadogConfig",
                "collector_cluster",
                json!(""),
                "value length must be at least 1 characters",
            ),
        ] {
            let of_field = |found: &String| found.starts_with(&format!("{field}:"));
            let found: Vec<_> = broken(message, json!({field: value})).into_iter().filter(of_field).collect();
            let want: Vec<_> =
                [words].iter().filter(|w| !w.is_empty()).map(|w| format!("{field}: {w}")).collect();
            assert_eq!(found, want, "{message}");
        }
    }

    #[test]
    fn what_is_absent_breaks_only_the_rules_that_ask_for_it() {
        let route = broken("config.route.v3.Route", json!({}));
        assert_eq!(route, ["match: value is required"]);
        let cluster = broken("config.cluster.v3.Cluster", json!({}));
        assert_eq!(cluster, ["name: value length must be at least 1 characters"]);
        // Members of a oneof, wrappers and messages need not be there.
        assert_eq!(broken("config.route.v3.RouteMatch", json!({})), [""; 0]);
        assert_eq!(broken("config.core.v3.Address", json!({})), [""; 0]);
    }

    #[test]
    fn items_and_entries_are_checked_one_by_one() {
        let found = broken("config.route.v3.VirtualHost", json!({"name": "a", "domains": ["a", "b\n"]}));
        assert_eq!(found, ["domains[1]: value does not match regex pattern \"^[^\\x00\\n\\r]*$\""]);
        let ports = json!({"source_ports": [0, 1]});
        let found = broken("config.listener.v3.FilterChainMatch", ports);
        assert_eq!(found, ["source_ports[0]: value must be inside range [1, 65535]"]);
        let too_many = json!({"socket_options": []});
        assert_eq!(broken("config.core.v3.BindConfig", too_many), [""; 0]);
    }

    #[test]
    fn durations_as_go_writes_them() {
        for (nanos, want) in [
            (0, "0s"),
            (1_500, "1.5\u{b5}s"),
            (20_000_000, "20ms"),
            (1_500_000_000, "1.5s"),
            (300_000_000_000, "5m0s"),
            (4_294_967_296_000_000_000, "1193046h28m16s"),
        ] {
            assert_eq!(go_duration(nanos), want);
        }
    }
}
