//! `legate --demo`: a proxy with two upstreams of its own, all in one process.
//!
//! The upstreams are listeners on the main thread's loop whose only route answers by itself, so they
//! are served by the same codec and connection manager as everything else.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use super::main_common::serve;
use super::options::Options;
use super::server::MainListener;
use crate::config::document::Document;
use crate::config::{self, Bootstrap, UnknownFields, parse_bootstrap, yaml};
use crate::envoy_log;
use crate::filters::Registry;
use crate::network::{ListenOptions, ListenSocket};

const PROXY_PORT: u16 = 10000;
const ADMIN_PORT: u16 = 9901;

/// The proxy; the upstreams' ports are filled in.
const PROXY: &str = r#"
admin:
  address: {socket_address: {address: 127.0.0.1, port_value: ADMIN_PORT}}
static_resources:
  listeners:
  - name: demo
    address: {socket_address: {address: 127.0.0.1, port_value: PROXY_PORT}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress_http
          route_config:
            name: demo
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {prefix: /}
                route: {cluster: demo}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: demo
    connect_timeout: 1s
    load_assignment:
      cluster_name: demo
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: UPSTREAM_1}}}
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: UPSTREAM_2}}}
"#;

/// One upstream.
const UPSTREAM: &str = r#"
static_resources:
  listeners:
  - name: demo_upstream_NUMBER
    stat_prefix: demo_upstream_NUMBER
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: demo_upstream_NUMBER
          server_name: upstream-NUMBER
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {prefix: /}
                direct_response: {status: 200, body: {inline_string: "hello from upstream NUMBER\n"}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
"#;

/// Runs the demo until it is told to end.
pub(super) fn run(options: Options, registry: &'static Registry) -> ExitCode {
    let prepared = check_ports().and_then(|()| prepare(registry));
    match prepared {
        Ok((bootstrap, upstreams)) => {
            print_hints();
            serve(options, registry, bootstrap, upstreams, "demo")
        }
        Err(error) => {
            envoy_log!(Main, critical, "cannot start the demo: {}", error);
            ExitCode::FAILURE
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Says which port is taken before anything starts.
fn check_ports() -> Result<(), String> {
    for port in [PROXY_PORT, ADMIN_PORT] {
        std::net::TcpListener::bind(loopback(port)).map_err(|e| format!("port {port} of 127.0.0.1: {e}"))?;
    }
    Ok(())
}

fn prepare(registry: &'static Registry) -> Result<(Bootstrap, Vec<MainListener>), String> {
    let mut proxy =
        PROXY.replace("ADMIN_PORT", &ADMIN_PORT.to_string()).replace("PROXY_PORT", &PROXY_PORT.to_string());
    let mut upstreams = Vec::new();
    for number in 1..=2 {
        let socket = ListenSocket::bind(loopback(0).into(), &ListenOptions::default())
            .map_err(|e| format!("an upstream's port: {e}"))?;
        let port = socket.local_address().ip().map_or(0, SocketAddr::port);
        proxy = proxy.replace(&format!("UPSTREAM_{number}"), &port.to_string());
        upstreams.push(MainListener { config: upstream_config(number, registry)?, socket });
    }
    Ok((parse(&proxy, registry)?, upstreams))
}

fn upstream_config(number: usize, registry: &'static Registry) -> Result<config::Listener, String> {
    let mut bootstrap = parse(&UPSTREAM.replace("NUMBER", &number.to_string()), registry)?;
    Ok(bootstrap.static_resources.listeners.remove(0))
}

fn parse(text: &str, registry: &'static Registry) -> Result<Bootstrap, String> {
    let value = yaml::parse_yaml(text).map_err(|e| e.to_string())?;
    let document = Document::new(&value);
    let bootstrap = parse_bootstrap(value, UnknownFields::Reject, registry).map_err(|e| e.to_string())?;
    Ok(Bootstrap { document, ..bootstrap })
}

fn print_hints() {
    println!("try, in another terminal:");
    println!("  curl -i http://127.0.0.1:{PROXY_PORT}/    # the body says which upstream answered");
    println!("  curl http://127.0.0.1:{ADMIN_PORT}/stats?usedonly");
    println!("  wrk -t1 -c64 -d5s http://127.0.0.1:{PROXY_PORT}/");
    println!("and in a browser, to see a request go through the event loop step by step:");
    println!("  http://127.0.0.1:{ADMIN_PORT}/trace/ui");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_configuration_is_valid() {
        let (bootstrap, upstreams) = prepare(&crate::filters::LINKED).unwrap();
        assert_eq!(bootstrap.static_resources.clusters.len(), 1);
        assert_eq!(upstreams.len(), 2);
    }
}
