//! `/listeners`. Mirrors Envoy's `source/server/admin/listeners_handler.cc`.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Request, Response, TEXT};
use crate::network::Address;
use crate::server::listener_config::ListenerConfig;
use crate::server::server::InstanceImpl;

/// The active listeners: `name::address`, a line each; `?format=json` as Envoy's `Listeners` message.
pub(super) fn listeners(server: &InstanceImpl, request: &Request) -> Response {
    let listeners = server.listener_manager.listeners();
    if request.param("format") == Some("json") {
        let status = |listener: &Arc<ListenerConfig>| {
            let address = address_json(listener.address());
            json!({"name": listener.name(), "local_address": address})
        };
        let statuses: Vec<Value> = listeners.iter().map(status).collect();
        let has_some = !statuses.is_empty();
        return Response::json(&if has_some { json!({"listener_statuses": statuses}) } else { json!({}) });
    }
    Response::pieces(TEXT, || listeners.into_iter().map(|listener| line_of(&listener)))
}

fn line_of(listener: &ListenerConfig) -> String {
    format!("{}::{}\n", listener.name(), listener.address())
}

/// An address as Envoy's `Address` message.
pub(super) fn address_json(address: &Address) -> Value {
    match address {
        Address::Ip(ip) => {
            json!({"socket_address": {"address": address.as_string_without_port(), "port_value": ip.port()}})
        }
        Address::Pipe(path) => json!({"pipe": {"path": **path}}),
    }
}
