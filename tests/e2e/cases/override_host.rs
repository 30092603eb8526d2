//! Requests that say themselves which host is to serve them.

use crate::harness::{Case, Kind, Site, Wire, proxies, serve_each};
use serde_json::{Value, json};
use std::net::TcpListener;

/// Answers with `name`, and with 503 where a request has `x-fail: name`.
fn host(name: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let serve = move |mut wire: Wire| {
        loop {
            let head = wire.head();
            if head.is_empty() {
                return;
            }
            let fails = String::from_utf8_lossy(&head).contains(&format!("\r\nx-fail: {name}\r\n"));
            let status = if fails { 503 } else { 200 };
            if !wire.send(format!("HTTP/1.1 {status} X\r\ncontent-length: 1\r\n\r\n{name}")) {
                return;
            }
        }
    };
    serve_each(listener, serve).port()
}

fn endpoint(port: u16) -> Value {
    json!({"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}})
}

fn policy(name: &str, more: Value) -> Value {
    let mut config =
        json!({"@type": format!("type.googleapis.com/envoy.extensions.load_balancing_policies.{name}")});
    config.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
    json!({"policies": [{"typed_extension_config": {"name": "p", "typed_config": config}}]})
}

/// `sources` say where hosts are named; a healthy host, which gets all others, one that is not, and one of another priority.
fn case(sources: &Value, ports: [u16; 3]) -> Case {
    let fallback = policy("round_robin.v3.RoundRobin", json!({}));
    let own = json!({"override_host_sources": sources, "fallback_policy": fallback});
    let mut unhealthy = endpoint(ports[1]);
    unhealthy["health_status"] = json!("UNHEALTHY");
    let cluster = json!({
        "load_balancing_policy": policy("override_host.v3.OverrideHost", own),
        "load_assignment": {"cluster_name": "case0", "policy": {"overprovisioning_factor": 200}, "endpoints": [
            {"lb_endpoints": [endpoint(ports[0]), unhealthy]},
            {"priority": 1, "lb_endpoints": [endpoint(ports[2])]},
        ]},
    });
    Case::new("override").cluster(cluster).hcm(json!({"route_config": {"virtual_hosts": [{
        "name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {
            "cluster": "case0", "retry_policy": {"retry_on": "5xx", "num_retries": 2, "retry_back_off": {"base_interval": "0.001s"}},
        }}],
    }]}}))
}

#[test]
fn hosts_are_those_that_are_named() {
    let sources = json!([{"header": "x-to"}, {"header": "x-then"}]);
    // `A`, `B` and `C` stand for the hosts, `X` for nobody.
    let requests = [
        "",
        "x-to: A",
        "x-to: B",
        "x-to: C",
        "x-to: X",
        "x-to: X,B",
        "x-to: X , C",
        "x-to: bad,B",
        "x-to: ,,C",
        "x-to: C\r\nx-fail: C",
        "x-to: C,B\r\nx-fail: C",
        "x-to: C\r\nx-to: B\r\nx-fail: C",
        "x-to: B,C,A\r\nx-fail: B",
        "x-then: B",
        "x-to: C\r\nx-then: B\r\nx-fail: C",
        "x-to: \r\nx-then: C",
        "x-to: B,B,B,B\r\nx-fail: B",
        "x-to: C,X,B\r\nx-fail: C",
    ];
    let seen_of = |kind: Kind| -> Vec<String> {
        let ports = [host("A"), host("B"), host("C")];
        let site = Site::start(kind, &[&case(&sources, ports)]);
        let ask = |request: &str| {
            let mut head = format!("GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{request}");
            let (fields, fails) =
                head.split_once("\r\nx-fail").map_or((head.as_str(), String::new()), |(fields, fails)| {
                    (fields, format!("\r\nx-fail{fails}"))
                });
            let mut fields = fields.to_string();
            for (name, port) in [("A", ports[0]), ("B", ports[1]), ("C", ports[2]), ("X", 1)] {
                for before in [' ', ','] {
                    fields = fields.replace(&format!("{before}{name}"), &format!("{before}127.0.0.1:{port}"));
                }
            }
            head = format!("{fields}{fails}\r\n").replace("close\r\n\r\n", "close\r\n");
            let mut client = Wire::connect(site.port(0));
            client.send(format!("{head}\r\n"));
            let answer = client.rest();
            let text = String::from_utf8_lossy(&answer);
            format!("{} {}", &text[9..12], text.chars().last().unwrap_or(' '))
        };
        requests.iter().map(|request| format!("{request:?}: {}", ask(request))).collect()
    };
    let seen: Vec<Vec<String>> = proxies().into_iter().map(seen_of).collect();
    assert!(seen[0][3].ends_with("200 C"), "{:#?}", seen[0]);
    let [ours, theirs] = seen.as_slice() else { return };
    assert_eq!(ours, theirs);
}
