//! The configuration: per case a listener, a cluster and an access log of its own.

use super::case::Case;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket};
use serde_json::{Value, json};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Code, flags and details of each request, and where it went.
const LOG_FORMAT: &str =
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %UPSTREAM_CLUSTER% %UPSTREAM_HOST%\n";

/// A port on which nobody listens, kept so that nobody else can.
pub struct RefusingPort {
    _held: OwnedFd,
    port: u16,
}

impl RefusingPort {
    /// Takes one.
    pub fn new() -> RefusingPort {
        let held =
            socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
        bind(held.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).expect("a port");
        let address: SockaddrIn = getsockname(held.as_raw_fd()).expect("its address");
        RefusingPort { _held: held, port: address.port() }
    }

    /// Its number.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// The bootstrap for cases whose upstreams listen on `ports`, with `over` merged over it.
pub fn bootstrap(
    cases: &[&Case],
    ports: &[u16],
    refusing: &RefusingPort,
    directory: &Path,
    over: &Value,
) -> Value {
    let listeners: Vec<Value> =
        cases.iter().enumerate().map(|(i, case)| listener(&prefix(i), case, directory)).collect();
    let mut clusters: Vec<Value> = cases
        .iter()
        .zip(ports)
        .enumerate()
        .map(|(i, (case, port))| {
            let mut cluster = merged(cluster(&prefix(i), Some(*port)), &case.cluster);
            if let Some(host) = cluster.pointer_mut("/load_assignment/endpoints/0/lb_endpoints/0") {
                *host = merged(host.take(), &case.host);
            }
            if let Some(hosts) = cluster.pointer_mut("/load_assignment/endpoints/0/lb_endpoints") {
                hosts.as_array_mut().expect("a list").splice(0..0, case.other_hosts.clone());
            }
            if !case.first_choice.is_empty() {
                let groups = cluster["load_assignment"]["endpoints"].as_array_mut().expect("a list");
                groups[0]["priority"] = 1.into();
                groups.push(json!({"lb_endpoints": case.first_choice}));
            }
            cluster
        })
        .collect();
    clusters.push(cluster("refused", Some(refusing.port)));
    clusters.push(cluster("nohosts", None));
    let none = json!({"max_requests": 0, "max_pending_requests": 0});
    let full = json!({"circuit_breakers": {"thresholds": [none]}});
    clusters.push(merged(cluster("full", Some(refusing.port)), &full));
    let bootstrap = json!({
        "admin": {"address": address(0)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    });
    merged(bootstrap, over)
}

/// A bootstrap of one case, of which only what legate answers by itself can be asked.
pub fn minimal(directory: &Path) -> Value {
    let nobody = RefusingPort::new();
    bootstrap(&[&Case::new("minimal")], &[nobody.port], &nobody, directory, &json!({}))
}

/// Name of a case's listener and cluster, and its prefix in stats.
pub fn prefix(index: usize) -> String {
    format!("case{index}")
}

/// Where a case's access log is.
pub fn access_log(directory: &Path, prefix: &str) -> std::path::PathBuf {
    directory.join(format!("{prefix}.log"))
}

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

fn listener(prefix: &str, case: &Case, directory: &Path) -> Value {
    let format = case.log_format.as_deref().unwrap_or(LOG_FORMAT);
    let log = json!({
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": access_log(directory, prefix).to_string_lossy(),
        "log_format": {"text_format_source": {"inline_string": format}},
    });
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    });
    let hcm = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.\
            HttpConnectionManager",
        "stat_prefix": prefix,
        "delayed_close_timeout": "0.1s",
        "route_config": {"name": "routes", "virtual_hosts": [
            {"name": "without_routes", "domains": ["none.test"]},
            {"name": "with_routes", "domains": ["*"], "routes": routes(prefix)},
        ]},
        "http_filters": [router],
        "access_log": [{"name": "file", "typed_config": &log}],
    });
    let filter = json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": with_access_log(merged(hcm, &case.hcm), &access_log(directory, prefix).to_string_lossy()),
    });
    let tcp_proxy = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": prefix,
        "cluster": prefix,
        "access_log": [{"name": "file", "typed_config": log}],
    });
    let filter = match &case.tcp_proxy {
        Some(over) => json!({
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": without_nulls(merged(tcp_proxy, over)),
        }),
        None => filter,
    };
    let listener = json!({"name": prefix, "address": address(0), "filter_chains": [{"filters": [filter]}]});
    merged(listener, &case.listener)
}

/// What a path in a configuration is that stands for the case's access log.
pub const ACCESS_LOG: &str = "ACCESS LOG";

fn with_access_log(mut value: Value, path: &str) -> Value {
    match &mut value {
        Value::String(text) if text == ACCESS_LOG => *text = path.to_string(),
        Value::Array(all) => {
            all.iter_mut().for_each(|value| *value = with_access_log(value.take(), path));
        }
        Value::Object(fields) => {
            fields.values_mut().for_each(|value| *value = with_access_log(value.take(), path));
        }
        _ => {}
    }
    value
}

/// What is merged as null is taken away.
fn without_nulls(mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    value
}

fn routes(cluster: &str) -> Value {
    let direct = |path: &str, status: u16, body: &str| {
        let mut response = json!({"status": status});
        if !body.is_empty() {
            response["body"] = json!({"inline_string": body});
        }
        json!({"match": {"path": path}, "direct_response": response})
    };
    let to = |path: &str, cluster: &str| json!({"match": {"prefix": path}, "route": {"cluster": cluster}});
    let timed = |path: &str, field: &str, time: &str| json!({"match": {"prefix": path}, "route": {"cluster": cluster, field: time}});
    json!([
        direct("/direct", 200, "direct"),
        direct("/direct/empty", 200, ""),
        direct("/direct/204", 204, ""),
        direct("/direct/304", 304, ""),
        direct("/direct/400", 400, "wrong"),
        direct("/direct/403", 403, "forbidden"),
        direct("/direct/500", 500, ""),
        direct("/direct/599", 599, ""),
        to("/refused", "refused"),
        to("/nohosts", "nohosts"),
        to("/full", "full"),
        timed("/short", "timeout", "0.2s"),
        timed("/idle", "idle_timeout", "0.2s"),
        timed("/untimed", "timeout", "0s"),
        to("/", cluster),
    ])
}

fn cluster(name: &str, port: Option<u16>) -> Value {
    let endpoints = match port {
        Some(port) => json!([{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]),
        None => json!([]),
    };
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
    })
}

/// `base` with the fields of `over` in it; objects are merged, everything else is replaced.
pub fn merged(mut base: Value, over: &Value) -> Value {
    merge(&mut base, over);
    base
}

fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (name, value) in over {
                merge(base.entry(name).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}
