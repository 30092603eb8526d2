//! The cases, one file per subject.

mod access_logs;
mod addresses;
mod admin;
mod balancing;
mod chunks;
mod closing;
mod cluster_options;
mod compression;
mod config_dump;
mod connect_config;
mod connection_fields;
mod content_length;
mod cors;
mod csrf;
mod curl;
mod dns_clusters;
mod dns_tricks;
mod dnsmasq;
mod draining;
mod ext_authz;
mod fault;
mod faults;
mod filter_config;
mod formatted_rewrites;
mod forwarded;
mod guard_dog;
mod happy_eyeballs;
mod health_check;
mod health_checks;
mod health_checks_dns;
mod host_metadata;
mod http10;
mod http_filters;
mod informational;
mod internal_redirects;
mod limits;
mod listener_filters;
mod load_faults;
mod local_ratelimit;
mod local_replies;
mod localities;
mod log_commands;
mod manager_options;
mod memory;
mod metadata_matchers;
mod network_filters;
mod normal;
mod original_dst;
mod outlier;
mod override_host;
mod pools;
mod priorities;
mod rbac;
mod rbac_matchers;
mod request_fields;
mod request_line;
mod resets;
mod resources;
mod response_bodies;
mod response_heads;
mod retries;
mod retries_in_time;
mod route_matcher;
mod route_options;
mod router_options;
mod routes;
mod runtime;
mod signals;
mod slow_start;
mod startup;
mod stats;
mod streaming;
mod subsets;
mod tcp_proxy;
mod timeouts;
mod tls;
mod trace;
mod trace_events;
mod trace_ui;
mod tracked_stats;
mod tunnels;
mod upstream_logs;
mod upstream_tls;
mod valgrind;
mod websockets;

use crate::harness::Case;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, TcpListener};

/// Everything joined.
fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// `GET /x` with a Host and these further lines.
fn get(lines: impl AsRef<[u8]>) -> Vec<u8> {
    join(&[b"GET /x HTTP/1.1\r\nhost: a.test\r\n", lines.as_ref(), b"\r\n"])
}

/// `POST /p` with a Host, these further lines, and what follows the head.
fn post(lines: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Vec<u8> {
    join(&[b"POST /p HTTP/1.1\r\nhost: a.test\r\n", lines.as_ref(), b"\r\n", body.as_ref()])
}

/// A request with this first line and a Host.
fn line(first: impl AsRef<[u8]>) -> Vec<u8> {
    join(&[first.as_ref(), b"\r\nhost: a.test\r\n\r\n"])
}

/// What the upstream gets of [`get`] with these lines.
fn got(lines: impl AsRef<[u8]>) -> Vec<u8> {
    join(&[b"GET /x HTTP/1.1\r\nhost: a.test\r\n", lines.as_ref(), b"{X}\r\n"])
}

/// What the upstream gets of [`post`] with these lines and a chunked body.
fn posted(lines: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Vec<u8> {
    let head = b"POST /p HTTP/1.1\r\nhost: a.test\r\n";
    join(&[head, lines.as_ref(), b"{X}transfer-encoding: chunked\r\n\r\n", body.as_ref()])
}

/// A case named after what is odd in it.
fn odd(what: impl AsRef<[u8]>) -> Case {
    Case::new(what.as_ref().escape_ascii().to_string())
}

/// A cluster's configuration with an upstream that is none of the scripted ones.
fn endpoint(port: u16) -> Value {
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    json!({"load_assignment": {"endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}})
}

/// A port that nobody listens on, below those that the kernel chooses from.
fn free_port() -> u16 {
    let start = 20_000 + u16::try_from(std::process::id() % 10_000).expect("a small number");
    (start..32_000).find(|port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok()).expect("a port")
}
