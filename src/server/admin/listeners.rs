//! `/listeners`.

use std::fmt::Write as _;

use super::{Request, Response};
use crate::network::Address;
use crate::server::server::InstanceImpl;

/// The active listeners: `name::address`, a line each; `?format=json` as Envoy's `Listeners` message.
pub(super) fn listeners(server: &InstanceImpl, request: &Request) -> Response {
    let listeners = server.listener_manager.listeners();
    if request.param("format") == Some("json") {
        let statuses: Vec<serde_json::Value> = listeners
            .iter()
            .map(|listener| {
                serde_json::json!({"name": listener.name(), "local_address": address_json(listener.address())})
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

/// An address as Envoy's `Address` message.
pub(super) fn address_json(address: &Address) -> serde_json::Value {
    match address {
        Address::Ip(ip) => serde_json::json!({"socket_address": {
            "address": address.as_string_without_port(), "port_value": ip.port()}}),
        Address::Pipe(_) => serde_json::json!({"pipe": {"path": address.to_string()}}),
    }
}
