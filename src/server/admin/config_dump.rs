//! `/config_dump`. Mirrors Envoy's `source/server/admin/config_dump_handler.cc`, without `include_eds`.

use serde_json::{Value, json};

use super::request::pretty;
use super::{Request, Response};
use crate::common::free_lists;
use crate::common::re2;
use crate::config::descriptor::Api;
use crate::config::field_mask;
use crate::server::config_dump::any;
use crate::server::server::InstanceImpl;

/// A dump of so many bytes has taken memory worth giving back.
const LARGE: usize = 1 << 20;

/// The configuration in force, or a list of it; as much of it as a mask names.
pub(super) fn config_dump(server: &InstanceImpl, request: &Request) -> Response {
    let text = match dump(server, request) {
        Ok(dump) => pretty(&dump) + "\n",
        Err((status, text)) => {
            return Response { content_type: "text/plain", ..Response::text(status, text) };
        }
    };
    // What was read for it is many times its text. To look for it holds up the workers, so not for a little.
    if text.len() > LARGE {
        free_lists::trim();
    }
    Response::json_text(text)
}

type Refusal = (u16, String);

fn dump(server: &InstanceImpl, request: &Request) -> Result<Value, Refusal> {
    let given = |name| request.param(name).filter(|value| !value.is_empty());
    let wanted = match given("name_regex").map(|pattern| (pattern, re2::compile_whole(pattern))) {
        None => None,
        Some((_, Ok(regex))) => Some(regex),
        Some((pattern, Err(error))) => {
            return Err((
                400,
                format!("INVALID_ARGUMENT: Error while parsing name_regex from {pattern}: {error}"),
            ));
        }
    };
    let is_wanted = |name: &str| wanted.as_ref().is_none_or(|regex: &regex::Regex| regex.is_match(name));
    let mut dumps: Vec<Value> =
        server.config_tracker.callbacks().into_iter().map(|dump| dump(&is_wanted)).collect();
    dumps.iter_mut().for_each(redact);
    let configs = match given("resource") {
        Some(resource) => of_resource(dumps, resource, given("mask")),
        None => of_all(dumps, given("mask")),
    };
    let configs = configs?;
    Ok(if configs.is_empty() { json!({}) } else { json!({ "configs": configs }) })
}

/// The fields of the API whose contents nobody is to see (`udpa.annotations.sensitive`).
const SENSITIVE: [&str; 4] = ["private_key", "password", "pkcs12", "session_ticket_keys"];

/// Takes out what nobody is to see.
fn redact(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Object(fields) => {
            for (name, value) in fields {
                if SENSITIVE.contains(&name.as_str()) { hide(value) } else { redact(value) }
            }
        }
        _ => {}
    }
}

fn hide(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    // The same words, as bytes stand in a document.
                    Value::String(text) if name == "inline_bytes" => *text = "W3JlZGFjdGVkXQ==".to_string(),
                    value => hide(value),
                }
            }
        }
        Value::String(text) => *text = "[redacted]".to_string(),
        _ => {}
    }
}

fn paths(mask: &str) -> Vec<&str> {
    mask.split(',').filter(|path| !path.is_empty()).collect()
}

fn of_all(dumps: Vec<Value>, mask: Option<&str>) -> Result<Vec<Value>, Refusal> {
    let Some(mask) = mask else { return Ok(dumps) };
    let paths = paths(mask);
    let api = Api::default();
    let configs: Vec<Value> = dumps
        .iter()
        .filter(|dump| {
            let is_path = |name, path| field_mask::is_path(&api, name, path);
            type_name(dump).is_some_and(|name| paths.iter().all(|path| is_path(name, path)))
        })
        .map(|dump| with_type(dump, &paths))
        .collect();
    if configs.is_empty() {
        return Err((400, format!("FieldMask {mask} could not be successfully applied to any configs.")));
    }
    Ok(configs)
}

/// What is left of an `Any`, which is what it was.
fn with_type(any: &Value, paths: &[&str]) -> Value {
    let paths: Vec<&str> = paths.iter().copied().chain(["@type"]).collect();
    field_mask::trimmed(any, &paths)
}

/// The message that an `Any` is.
fn type_name(any: &Value) -> Option<&str> {
    Some(any["@type"].as_str()?.rsplit_once('/')?.1)
}

fn of_resource(mut dumps: Vec<Value>, resource: &str, mask: Option<&str>) -> Result<Vec<Value>, Refusal> {
    let api = Api::default();
    for dump in &mut dumps {
        let Some(message) = type_name(dump).and_then(|name| api.message(name)) else { continue };
        let Some(field) = message.fields.iter().find(|field| field.name == resource) else { continue };
        if !field.repeated {
            let text =
                format!("{resource} is not a repeated field. Use ?mask={resource} to get only this field");
            return Err((400, text));
        }
        let Value::Array(entries) = dump[resource].take() else { return Ok(Vec::new()) };
        let entries = entries.into_iter().map(|value| match mask {
            None => Some(value),
            Some(mask) => trimmed_entry(&api, &value, &paths(mask)),
        });
        let entry_type = field.type_name.trim_start_matches('.');
        let entries: Option<Vec<Value>> = entries.map(|value| Some(any(entry_type, value?))).collect();
        return entries.ok_or_else(|| {
            let paths: String =
                paths(mask.unwrap_or_default()).iter().map(|path| format!("paths: {path:?}\n")).collect();
            (400, format!("FieldMask goo.gle/debugstr \n{paths} could not be successfully used."))
        });
    }
    Err((404, format!("{resource} not found in config dump")))
}

/// What is left of an entry. A path may lead into the one message that it has as an `Any`.
fn trimmed_entry(api: &Api, entry: &Value, paths: &[&str]) -> Option<Value> {
    let (name, any) = entry.as_object()?.iter().find(|(_, value)| value.get("@type").is_some())?;
    let type_name = type_name(any)?;
    let mut inner = Vec::new();
    let mut outer = Vec::new();
    for path in paths {
        match path.split_once('.') {
            Some((first, rest)) if first == name => inner.push(rest),
            // Of the `Any` as a whole Envoy wants to know which part.
            None if path == name => return None,
            _ if *path == "last_updated" => outer.push(*path),
            _ => return None,
        }
    }
    if !inner.iter().all(|path| field_mask::is_path(api, type_name, path)) {
        return None;
    }
    let mut left = field_mask::trimmed(entry, &outer);
    if !inner.is_empty() {
        left.as_object_mut()?.shift_insert(0, name.clone(), with_type(any, &inner));
    }
    Some(left)
}
