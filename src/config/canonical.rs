//! A message as protobuf prints it in JSON, whichever way it was written: fields in the order of their numbers, under the
//! names of the `.proto` files; defaults that cannot be told from absence left out; enums by name.
//!
//! Stands where Envoy has `MessageUtil::getJsonStringFromMessage`.

use super::descriptor::{Api, EnumType, Field, Kind, MessageType};
use super::scalar;
use serde_json::{Map, Value};

/// The message of the type `type_name` that `value` is. What the API does not have is left out.
pub fn canonical(api: &Api, type_name: &str, value: &Value) -> Value {
    match api.message(type_name) {
        Some(message) => of_message(api, &message, value),
        None => value.clone(),
    }
}

fn of_message(api: &Api, message: &MessageType, value: &Value) -> Value {
    if let Some(name) = message.name.strip_prefix("google.protobuf.") {
        return of_own_form(api, name, message, value);
    }
    value.as_object().map_or_else(|| value.clone(), |fields| Value::Object(of_fields(api, message, fields)))
}

fn of_fields(api: &Api, message: &MessageType, given: &Map<String, Value>) -> Map<String, Value> {
    let mut fields: Vec<(&Field, &Value)> = given
        .iter()
        .filter(|(_, value)| !value.is_null())
        .filter_map(|(name, value)| Some((message.field(name)?, value)))
        .collect();
    fields.sort_by_key(|(field, _)| field.number);
    let printed = |(field, value)| Some((field_name(field), of_field(api, field, value)?));
    fields.into_iter().filter_map(printed).collect()
}

fn field_name(field: &Field) -> String {
    field.name.to_string()
}

/// What a field holds; `None` where that is the default and says nothing.
fn of_field(api: &Api, field: &Field, value: &Value) -> Option<Value> {
    if let Some(entry) = api.map_entry(field) {
        let of_values = entry.field("value")?;
        let entries = value.as_object()?.iter();
        let entries: Map<String, Value> =
            entries.map(|(key, value)| (key.clone(), of_single(api, of_values, value))).collect();
        return (!entries.is_empty()).then_some(Value::Object(entries));
    }
    if field.repeated {
        let items: Vec<Value> = value.as_array()?.iter().map(|item| of_single(api, field, item)).collect();
        return (!items.is_empty()).then_some(Value::Array(items));
    }
    let printed = of_single(api, field, value);
    let says_nothing = !field.has_presence() && is_default(api, field, &printed);
    (!says_nothing).then_some(printed)
}

fn is_default(api: &Api, field: &Field, printed: &Value) -> bool {
    match printed {
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) if field.kind == Kind::Enum => {
            let number = |known: &EnumType| known.values.iter().find(|(name, _)| name == text).map(|v| v.1);
            api.enumeration(field.type_name).and_then(|known| number(&known)) == Some(0)
        }
        Value::String(text) => {
            text.is_empty() || (text == "0" && matches!(field.kind, Kind::Int64 | Kind::Uint64))
        }
        _ => false,
    }
}

fn of_single(api: &Api, field: &Field, value: &Value) -> Value {
    match field.kind {
        Kind::Message => canonical(api, field.type_name, value),
        Kind::Enum => {
            let known = api.enumeration(field.type_name);
            match known.and_then(|known| scalar::parse_enum(value, &known.values)) {
                Some(Ok(name)) => name.into(),
                _ => value.clone(),
            }
        }
        kind => of_scalar(kind, value),
    }
}

fn of_scalar(kind: Kind, value: &Value) -> Value {
    let whole = || scalar::parse_integer(value);
    match kind {
        Kind::Bool => scalar::parse_bool(value).map_or_else(|_| value.clone(), Value::from),
        Kind::Double | Kind::Float => {
            scalar::parse_f64(value).map_or_else(|_| value.clone(), super::wire::float)
        }
        // JSON's own numbers have not enough bits for these.
        Kind::Int64 | Kind::Uint64 | Kind::Fixed64 | Kind::Sfixed64 | Kind::Sint64 => {
            whole().map_or_else(|| value.clone(), |number| number.to_string().into())
        }
        Kind::Int32 | Kind::Uint32 | Kind::Fixed32 | Kind::Sfixed32 | Kind::Sint32 => {
            whole().and_then(|n| i64::try_from(n).ok()).map_or_else(|| value.clone(), Value::from)
        }
        Kind::String | Kind::Bytes | Kind::Message | Kind::Enum => value.clone(),
    }
}

/// Messages of protobuf itself that are written in a way of their own.
fn of_own_form(api: &Api, name: &str, message: &MessageType, value: &Value) -> Value {
    match name {
        "Any" => of_any(api, value),
        "Duration" => match scalar::parse_duration(value) {
            Ok(duration) => scalar::duration_text(duration).into(),
            Err(_) => value.clone(),
        },
        "Struct" | "Value" | "ListValue" | "Timestamp" | "FieldMask" => value.clone(),
        _ if name.ends_with("Value") && !value.is_object() => match message.fields.first() {
            Some(field) => of_scalar(field.kind, value),
            None => value.clone(),
        },
        _ => value
            .as_object()
            .map_or_else(|| value.clone(), |fields| Value::Object(of_fields(api, message, fields))),
    }
}

fn of_any(api: &Api, value: &Value) -> Value {
    let Some(fields) = value.as_object() else { return value.clone() };
    let Some(url) = fields.get("@type").and_then(Value::as_str) else { return value.clone() };
    let message = url.rsplit_once('/').and_then(|(_, name)| api.message(name));
    let mut any = Map::from_iter([("@type".to_string(), Value::from(url))]);
    match message {
        Some(message) if message.name.starts_with("google.protobuf.") && fields.contains_key("value") => {
            any.insert("value".to_string(), of_message(api, &message, &fields["value"]));
        }
        Some(message) => any.extend(of_fields(api, &message, fields)),
        None => return value.clone(),
    }
    Value::Object(any)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cluster(value: Value) -> Value {
        canonical(&Api::default(), "envoy.config.cluster.v3.Cluster", &value)
    }

    #[test]
    fn names_order_and_values_are_protobufs() {
        let printed = cluster(json!({
            "loadAssignment": { "clusterName": "a", "endpoints": [] },
            "connect_timeout": "1.5s", "name": "a", "lb_policy": "ROUND_ROBIN", "type": "static",
            "alt_stat_name": "", "max_requests_per_connection": "7", "track_timeout_budgets": "false",
            "common_lb_config": { "healthy_panic_threshold": { "value": "50.0" } }, "nothing_of_it": 1,
            "ignore_health_on_host_removal": null,
            "circuit_breakers": { "thresholds": [{ "priority": 1, "max_retries": 0, "retry_budget": {} }] },
        }));
        let expected = json!({
            "name": "a", "type": "STATIC", "connect_timeout": "1.500s", "max_requests_per_connection": 7,
            "circuit_breakers": { "thresholds": [{ "priority": "HIGH", "max_retries": 0, "retry_budget": {} }] },
            "common_lb_config": { "healthy_panic_threshold": { "value": 50 } },
            "load_assignment": { "cluster_name": "a" },
        });
        assert_eq!(printed, expected);
        let names: Vec<_> = printed.as_object().unwrap().keys().collect();
        assert_eq!(
            names[..5],
            ["name", "type", "connect_timeout", "max_requests_per_connection", "circuit_breakers"]
        );
    }

    #[test]
    fn what_an_any_holds_is_printed_by_its_type() {
        let url = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
        let message = api_any(json!({ "connectTimeout": "0.25s", "@type": url }));
        assert_eq!(message, json!({ "@type": url, "connect_timeout": "0.250s" }));
        let own =
            api_any(json!({ "value": "2.000s", "@type": "type.googleapis.com/google.protobuf.Duration" }));
        assert_eq!(own, json!({ "@type": "type.googleapis.com/google.protobuf.Duration", "value": "2s" }));
        let unknown = json!({ "@type": "type.googleapis.com/a.B", "x": 1 });
        assert_eq!(api_any(unknown.clone()), unknown);
    }

    fn api_any(value: Value) -> Value {
        canonical(&Api::default(), "google.protobuf.Any", &value)
    }

    #[test]
    fn maps_and_long_integers() {
        let value = json!({ "metadata": { "filter_metadata": { "a": { "x": 1.0 } } } });
        assert_eq!(cluster(value.clone()), value);
        let budget = canonical(
            &Api::default(),
            "envoy.config.listener.v3.Listener",
            &json!({ "socket_options": [{ "level": 6, "name": "1", "int_value": 3 }], "tcp_backlog_size": 5 }),
        );
        let expected = json!({
            "socket_options": [{ "level": "6", "name": "1", "int_value": "3" }], "tcp_backlog_size": 5,
        });
        assert_eq!(budget, expected);
    }
}
