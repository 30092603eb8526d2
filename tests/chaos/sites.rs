//! The configuration: one listener with a cluster of its own for each kind of trouble, all in one process.

use super::harness::{Kind as ProxyKind, Launch, Proxy, new_directory};
use super::upstream::Upstream;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket};
use serde_json::{Value, json};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

/// Kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing special.
    Plain,
    /// Buffers of a kilobyte.
    SmallBuffers,
    /// Every time limit is shorter than what may happen.
    Tight,
    /// Circuit breakers that open.
    Breakers,
    /// Connections serve one or two requests.
    FewRequests,
    /// One host refuses connections, the other resets some as they come.
    Shaky,
    /// What is optional in HTTP/1 is switched on.
    Lenient,
    /// The upstream sends nonsense.
    Wild,
}

/// All of them; a site's index is its place here.
pub const KINDS: [Kind; 8] = [
    Kind::Plain,
    Kind::SmallBuffers,
    Kind::Tight,
    Kind::Breakers,
    Kind::FewRequests,
    Kind::Shaky,
    Kind::Lenient,
    Kind::Wild,
];

/// Workers of the proxy.
pub const WORKERS: u32 = 2;

/// A proxy with an upstream for each kind.
pub struct Sites {
    /// The proxy.
    pub proxy: Proxy,
    /// In the order of [`KINDS`].
    pub upstreams: Vec<Upstream>,
    _refusing: OwnedFd,
}

impl Sites {
    /// Starts them all.
    pub fn start(against: ProxyKind) -> Sites {
        let upstreams: Vec<Upstream> = KINDS.iter().map(|kind| Upstream::start(*kind)).collect();
        let (refusing, refused) = refusing_port();
        let site = |(kind, upstream): (&Kind, &Upstream)| {
            (listener(&name(*kind), hcm(*kind), buffers(*kind)), cluster(*kind, upstream.port(), refused))
        };
        let (listeners, clusters): (Vec<Value>, Vec<Value>) = KINDS.iter().zip(&upstreams).map(site).unzip();
        Sites {
            proxy: start_proxy(against, &listeners, &clusters, new_directory(against)),
            upstreams,
            _refusing: refusing,
        }
    }

    /// Where a site listens.
    pub fn port(&self, kind: Kind) -> u16 {
        self.proxy.listeners[&name(kind)]
    }
}

/// A port on which nobody listens, held so that nobody else can.
fn refusing_port() -> (OwnedFd, u16) {
    let held = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    bind(held.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).expect("a port");
    let address: SockaddrIn = getsockname(held.as_raw_fd()).expect("its address");
    (held, address.port())
}

/// Starts a proxy of two workers.
pub fn start_proxy(against: ProxyKind, listeners: &[Value], clusters: &[Value], directory: PathBuf) -> Proxy {
    let bootstrap = json!({
        "admin": {"address": address(0)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    });
    let launch = Launch { workers: WORKERS, ..Launch::default() };
    Proxy::start(against, &bootstrap, directory, launch)
}

fn name(kind: Kind) -> String {
    format!("{kind:?}").to_ascii_lowercase()
}

/// An address of this machine.
pub fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

/// A listener with this connection manager, whose routes all lead to the cluster of the same name.
pub fn listener(name: &str, hcm: Value, buffers: Option<u32>) -> Value {
    let mut manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.\
            HttpConnectionManager",
        "stat_prefix": name,
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }],
    });
    let timeout = hcm["timeout"].clone();
    for (field, value) in hcm.as_object().expect("an object").iter().filter(|(f, _)| *f != "timeout") {
        manager[field] = value.clone();
    }
    let direct = json!({"match": {"path": "/direct"}, "direct_response": {"status": 200, "body": {"inline_string": "direct"}}});
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": name, "timeout": timeout}});
    let hosts = json!([{"name": "all", "domains": ["*"], "routes": [direct, route]}]);
    manager["route_config"] = json!({"name": "routes", "virtual_hosts": hosts});
    let filter = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager});
    let mut listener = json!({"name": name, "address": address(0), "filter_chains": [{"filters": [filter]}]});
    if let Some(limit) = buffers {
        listener["per_connection_buffer_limit_bytes"] = json!(limit);
    }
    listener
}

impl Kind {
    /// Whatever a client or an upstream does not do, some time limit ends it within a second. Elsewhere there
    /// are none, so that nothing hides what is never ended.
    pub fn has_limits(self) -> bool {
        matches!(self, Kind::Tight | Kind::Lenient | Kind::Wild)
    }
}

/// The connection manager's fields, and `timeout` for its route.
fn hcm(kind: Kind) -> Value {
    let (long, short) = match kind {
        Kind::Tight => ("0.15s", "0.08s"),
        _ if kind.has_limits() => ("1s", "0.7s"),
        _ => ("0s", "0s"),
    };
    let mut common = json!({"idle_timeout": short});
    if kind == Kind::Tight {
        common["max_connection_duration"] = json!("0.3s");
        common["max_stream_duration"] = json!("0.2s");
    }
    if kind == Kind::FewRequests {
        common["max_requests_per_connection"] = json!(2);
    }
    let lenient = kind == Kind::Lenient;
    json!({
        "common_http_protocol_options": common,
        "http_protocol_options": {"enable_trailers": true, "accept_http_10": lenient, "allow_chunked_length": lenient},
        "stream_error_on_invalid_http_message": lenient,
        "proxy_100_continue": lenient,
        "normalize_path": lenient,
        "request_timeout": long,
        "request_headers_timeout": short,
        "stream_idle_timeout": long,
        "drain_timeout": "0.1s",
        "delayed_close_timeout": "0.1s",
        "timeout": long,
    })
}

fn buffers(kind: Kind) -> Option<u32> {
    (kind == Kind::SmallBuffers).then_some(1024)
}

fn cluster(kind: Kind, port: u16, refused: u16) -> Value {
    let mut common = json!({"idle_timeout": if kind.has_limits() { "0.7s" } else { "0s" }});
    if kind == Kind::FewRequests {
        common["max_requests_per_connection"] = json!(1);
    }
    let mut cluster = plain_cluster(&name(kind), port);
    cluster["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "common_http_protocol_options": common,
            "explicit_http_config": {"http_protocol_options": {"enable_trailers": true}},
        },
    });
    if let Some(limit) = buffers(kind) {
        cluster["per_connection_buffer_limit_bytes"] = json!(limit);
    }
    if kind == Kind::Shaky {
        let host = json!({"endpoint": {"address": address(refused)}});
        let hosts = &mut cluster["load_assignment"]["endpoints"][0]["lb_endpoints"];
        hosts.as_array_mut().expect("a list").push(host);
    }
    if kind == Kind::Breakers {
        let few = json!({"max_connections": 2, "max_connection_pools": 1, "max_pending_requests": 2, "max_requests": 3, "track_remaining": true});
        cluster["circuit_breakers"] = json!({"thresholds": [few]});
    }
    cluster
}

/// A cluster of one host and no options.
pub fn plain_cluster(name: &str, port: u16) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]},
    })
}
