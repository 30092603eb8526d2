//! `/config_dump`. Mirrors Envoy's `source/server/admin/config_dump_handler.cc`, without `include_eds`.

use serde_json::{Value, json};

use super::{Request, Response, re2};
use crate::common::free_lists;
use crate::config::descriptor::Api;
use crate::config::field_mask;
use crate::server::config_dump::of_type;
use crate::server::server::InstanceImpl;

/// The fields of a dump.
struct Dump {
    name: &'static str,
    /// Single values.
    single: &'static [&'static str],
    /// Lists, and what each of them is of.
    lists: &'static [(&'static str, &'static str)],
}

const DUMPS: &[Dump] = &[
    Dump { name: "BootstrapConfigDump", single: &["bootstrap", "last_updated"], lists: &[] },
    Dump {
        name: "ClustersConfigDump",
        single: &["version_info"],
        lists: &[
            ("static_clusters", "StaticCluster"),
            ("dynamic_active_clusters", "DynamicCluster"),
            ("dynamic_warming_clusters", "DynamicCluster"),
        ],
    },
    Dump {
        name: "ListenersConfigDump",
        single: &["version_info"],
        lists: &[("static_listeners", "StaticListener"), ("dynamic_listeners", "DynamicListener")],
    },
    Dump {
        name: "ScopedRoutesConfigDump",
        single: &[],
        lists: &[
            ("inline_scoped_route_configs", "InlineScopedRouteConfigs"),
            ("dynamic_scoped_route_configs", "DynamicScopedRouteConfigs"),
        ],
    },
    Dump {
        name: "RoutesConfigDump",
        single: &[],
        lists: &[
            ("static_route_configs", "StaticRouteConfig"),
            ("dynamic_route_configs", "DynamicRouteConfig"),
        ],
    },
    Dump {
        name: "SecretsConfigDump",
        single: &[],
        lists: &[
            ("static_secrets", "StaticSecret"),
            ("dynamic_active_secrets", "DynamicSecret"),
            ("dynamic_warming_secrets", "DynamicSecret"),
        ],
    },
];

/// The configuration in force, or a list of it; as much of it as a mask names.
pub(super) fn config_dump(server: &InstanceImpl, request: &Request) -> Response {
    let response = dump(server, request);
    // What was read for it is many times its text.
    free_lists::trim();
    response
}

fn dump(server: &InstanceImpl, request: &Request) -> Response {
    let given = |name| request.param(name).filter(|value| !value.is_empty());
    let wanted = match given("name_regex").map(|pattern| (pattern, re2::compile(pattern))) {
        None => None,
        Some((_, Ok(regex))) => Some(regex),
        Some((pattern, Err(error))) => {
            return refused(
                400,
                format!("INVALID_ARGUMENT: Error while parsing name_regex from {pattern}: {error}"),
            );
        }
    };
    let is_wanted = |name: &str| {
        // The whole name.
        let all = |regex: &regex::Regex| regex.find_iter(name).any(|found| found.len() == name.len());
        wanted.as_ref().is_none_or(all)
    };
    let dumps = server.config_tracker.callbacks().into_iter().map(|dump| dump(&is_wanted)).collect();
    let configs = match given("resource") {
        Some(resource) => of_resource(dumps, resource, given("mask")),
        None => of_all(dumps, given("mask")),
    };
    match configs {
        Ok(configs) if configs.is_empty() => Response::json(&json!({})),
        Ok(configs) => Response::json(&json!({ "configs": configs })),
        Err((status, text)) => refused(status, text),
    }
}

type Refusal = (u16, String);

fn refused(status: u16, text: String) -> Response {
    Response { content_type: "text/plain", ..Response::text(status, text) }
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
        .filter(|dump| paths.iter().all(|path| is_path_of_dump(&api, dump, path)))
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

fn fields_of(dump: &Value) -> Option<&'static Dump> {
    let url = dump["@type"].as_str()?;
    DUMPS.iter().find(|of| url.ends_with(&format!(".{}", of.name)))
}

/// Whether a path leads to a field of a dump, through single messages.
fn is_path_of_dump(api: &Api, dump: &Value, path: &str) -> bool {
    let Some(Dump { single, lists, .. }) = fields_of(dump) else { return false };
    match path.split_once('.') {
        None => single.contains(&path) || lists.iter().any(|(list, _)| *list == path),
        Some(("bootstrap", rest)) => {
            single.contains(&"bootstrap")
                && field_mask::is_path(api, "envoy.config.bootstrap.v3.Bootstrap", rest)
        }
        Some(_) => false,
    }
}

fn of_resource(mut dumps: Vec<Value>, resource: &str, mask: Option<&str>) -> Result<Vec<Value>, Refusal> {
    for dump in &mut dumps {
        let Some(Dump { name, single, lists }) = fields_of(dump) else { continue };
        if single.contains(&resource) {
            let text =
                format!("{resource} is not a repeated field. Use ?mask={resource} to get only this field");
            return Err((400, text));
        }
        let Some((_, entry)) = lists.iter().find(|(list, _)| *list == resource) else { continue };
        let Value::Array(entries) = dump[resource].take() else { return Ok(Vec::new()) };
        let entries = entries.into_iter().map(|value| match mask {
            None => Some(value),
            Some(mask) => trimmed_entry(&Api::default(), &value, &paths(mask)),
        });
        let entries: Option<Vec<Value>> =
            entries.map(|value| Some(of_type(&format!("{name}.{entry}"), value?))).collect();
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
    let type_name = any["@type"].as_str()?.rsplit_once('/')?.1;
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
