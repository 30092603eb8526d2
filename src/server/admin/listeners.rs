//! `/listeners`.

use std::fmt::Write as _;

use super::{Request, Response};
use crate::server::server::InstanceImpl;

/// The active listeners: `name::address`, a line each; `?format=json` as Envoy's `Listeners` message.
pub(super) fn listeners(server: &InstanceImpl, request: &Request) -> Response {
    let listeners = server.listener_manager.listeners();
    if request.param("format") == Some("json") {
        let statuses: Vec<serde_json::Value> = listeners
            .iter()
            .map(|listener| {
                let ip = listener.address().ip().copied();
                serde_json::json!({"name": listener.name(), "local_address": {"socket_address": {
                    "address": ip.map(|ip| ip.ip().to_string()), "port_value": ip.map(|ip| ip.port())}}})
            })
            .collect();
        let body = serde_json::json!({"listener_statuses": statuses});
        return Response::json(format!("{body:#}"));
    }
    let mut out = String::new();
    for listener in listeners {
        let _ = writeln!(out, "{}::{}", listener.name(), listener.address()); // infallible
    }
    Response::text(200, out)
}
