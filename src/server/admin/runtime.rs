//! `/runtime` and `/runtime_modify`. Mirrors Envoy's `source/server/admin/runtime_handler.cc`.

use serde_json::{Map, Value, json};

use super::{Request, Response};
use crate::server::server::InstanceImpl;

const USAGE: &str = "usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n       or send the parameters \
                     as form values\nuse an empty value to remove a previously added override";

/// All keys, with what each layer says and what holds.
pub(super) fn runtime(server: &InstanceImpl, _request: &Request) -> Response {
    let snapshot = server.runtime().snapshot();
    let layers: Vec<&str> = snapshot.layers().iter().map(|layer| layer.name.as_str()).collect();
    let mut entries = Map::new();
    for (key, entry) in snapshot.entries() {
        let of_layers: Vec<&str> = snapshot
            .layers()
            .iter()
            .map(|layer| layer.values.get(key).map_or("", |entry| &entry.raw_string_value))
            .collect();
        let value = json!({ "layer_values": of_layers, "final_value": entry.raw_string_value });
        entries.insert(key.to_string(), value);
    }
    Response::json(&json!({ "layers": layers, "entries": Value::Object(entries) }))
}

/// Changes the admin's layer.
pub(super) fn modify(server: &InstanceImpl, request: &Request) -> Response {
    if request.params().is_empty() {
        return Response::text(400, USAGE);
    }
    match server.runtime().merge_values(request.params()) {
        Ok(()) => Response::text(200, "OK\n"),
        Err(_) => Response::text(503, "No admin layer specified"),
    }
}
