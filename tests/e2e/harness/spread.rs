//! How a proxy spreads requests over hosts that answer with their numbers.

use super::admin::ParsedReply;
use super::board::PATIENCE;
use super::config::{merged, minimal};
use super::proxy::{Kind, Launch, Proxy, new_directory};
use super::runner::proxies;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

/// Hosts that answer with their number, for as long as the test runs.
pub fn numbered_hosts(count: usize) -> Vec<u16> {
    let host = |number: usize| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || answer(stream, number));
            }
        });
        port
    };
    (0..count).map(host).collect()
}

/// Requests without a body, each with the same answer.
fn answer(mut stream: TcpStream, number: usize) {
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        read.extend_from_slice(&buffer[..length]);
        while let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            read.drain(..end + 4);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}");
            if stream.write_all(head.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// A cluster `a`, and a listener that leads to it.
#[derive(Clone, Default)]
pub struct Spread {
    ports: Vec<u16>,
    cluster: Value,
    other_clusters: Vec<Value>,
    routes: Option<Value>,
    bootstrap: Value,
}

impl Spread {
    /// Between these hosts.
    pub fn new(ports: &[u16]) -> Spread {
        Spread { ports: ports.to_vec(), cluster: json!({}), bootstrap: json!({}), ..Spread::default() }
    }

    /// A host by its number, with more said of it.
    pub fn host(&self, number: usize, more: Value) -> Value {
        let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": self.ports[number]}});
        merged(json!({"endpoint": {"address": address}}), &more)
    }

    /// This is merged over the cluster.
    pub fn cluster(mut self, cluster: Value) -> Spread {
        self.cluster = merged(self.cluster, &cluster);
        self
    }

    /// The cluster has these groups of hosts.
    pub fn endpoints(self, endpoints: Value) -> Spread {
        self.cluster(json!({"load_assignment": {"cluster_name": "a", "endpoints": endpoints}}))
    }

    /// There is another cluster.
    pub fn other_cluster(mut self, cluster: Value) -> Spread {
        self.other_clusters.push(cluster);
        self
    }

    /// Instead of one to the cluster that hashes `x-key`.
    pub fn routes(mut self, routes: Value) -> Spread {
        self.routes = Some(routes);
        self
    }

    /// This is merged over the bootstrap.
    pub fn bootstrap(mut self, bootstrap: Value) -> Spread {
        self.bootstrap = merged(self.bootstrap, &bootstrap);
        self
    }

    /// The bootstrap.
    pub fn document(&self, directory: &std::path::Path) -> Value {
        let any = |name: &str| format!("type.googleapis.com/{name}");
        let usual = || {
            json!([{
                "match": {"prefix": "/"},
                "route": {"cluster": "a", "hash_policy": [{"header": {"header_name": "x-key"}}]},
            }])
        };
        let routes = self.routes.clone().unwrap_or_else(usual);
        let usual = json!({"name": "a", "load_assignment": {"cluster_name": "a"}});
        let mut clusters = vec![merged(usual, &self.cluster)];
        clusters.extend(self.other_clusters.clone());
        let resources = json!({
            "listeners": [{
                "name": "l",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
                "filter_chains": [{"filters": [{
                    "name": "http",
                    "typed_config": {
                        "@type": any("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
                        "stat_prefix": "l",
                        "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}]},
                        "http_filters": [{
                            "name": "router",
                            "typed_config": {"@type": any("envoy.extensions.filters.http.router.v3.Router")},
                        }],
                    },
                }]}],
            }],
            "clusters": clusters,
        });
        let mut document = minimal(directory);
        document["static_resources"] = resources;
        merged(document, &self.bootstrap)
    }

    /// Starts a proxy with it.
    pub fn start(&self, kind: Kind) -> Proxy {
        let directory = new_directory(kind);
        let document = self.document(&directory);
        Proxy::start(kind, &document, directory, Launch::default())
    }

    /// What the proxies do with so many requests for each of `paths` is the same but for chance: where they go, and the
    /// statistics of the cluster that begin so.
    pub fn compare(&self, paths: &[&str], count: usize, statistics: &[&str]) {
        let outcomes: Vec<_> =
            proxies().into_iter().map(|kind| self.outcome(kind, paths, count, statistics)).collect();
        let [ours, theirs] = outcomes.as_slice() else { return };
        let names: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
        let value = |outcome: &BTreeMap<String, u64>, name: &String| outcome.get(name).copied().unwrap_or(0);
        let differ: Vec<_> = names
            .into_iter()
            .map(|name| (name, value(ours, name), value(theirs, name)))
            .filter(|(name, ours, theirs)| match EXACT.iter().any(|part| name.contains(part)) {
                true => ours != theirs,
                false => !is_near(*ours, *theirs, count as u64),
            })
            .map(|(name, ours, theirs)| format!("{name}: {ours} instead of {theirs}"))
            .collect();
        assert!(differ.is_empty(), "{differ:#?} of {count}: {ours:?} instead of {theirs:?}");
    }

    fn outcome(
        &self,
        kind: Kind,
        paths: &[&str],
        count: usize,
        statistics: &[&str],
    ) -> BTreeMap<String, u64> {
        let proxy = self.start(kind);
        let mut client = Keyed::connect(&proxy);
        let mut outcome = BTreeMap::new();
        for path in paths {
            for i in 0..count {
                let answer = client.get(path, &format!("x-key: key-{i}\r\n"));
                *outcome.entry(format!("{path} goes to {answer}")).or_default() += 1;
            }
        }
        let wanted = |name: &str| statistics.iter().any(|prefix| name.starts_with(prefix));
        let stats: HashMap<_, _> = proxy.admin.stats();
        outcome.extend(stats.into_iter().filter_map(|(name, value)| {
            let name = name.strip_prefix("cluster.a.").filter(|name| wanted(name))?;
            Some((name.to_string(), value))
        }));
        outcome
    }
}

/// What chance has no part in.
const EXACT: [&str; 5] =
    ["membership_", "lb_recalculate", "subsets_created", "subsets_active", "subsets_removed"];

/// Whether two numbers of so many tries may be so different by chance: by less than five standard deviations.
fn is_near(a: u64, b: u64, count: u64) -> bool {
    if a == b || a.max(b) > count {
        return a == b;
    }
    let share = (a + b) as f64 / (2 * count) as f64;
    let deviation = (2.0 * count as f64 * share * (1.0 - share)).sqrt();
    a.abs_diff(b) as f64 <= 5.0 * deviation + 2.0
}

/// A kept-alive client of a proxy.
pub struct Keyed {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Keyed {
    /// To its one listener.
    pub fn connect(proxy: &Proxy) -> Keyed {
        let port = proxy.admin.listeners()["l"];
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Keyed { stream, read: Vec::new() }
    }

    /// The number of the host that answers to a key, or the status where none does.
    pub fn ask(&mut self, key: &str) -> String {
        self.get("/", &format!("x-key: {key}\r\n"))
    }

    /// As [`Keyed::ask`], for a path and with more lines.
    pub fn get(&mut self, path: &str, more: &str) -> String {
        self.write(path, more);
        self.answer()
    }

    /// Asks with more lines, and does not wait.
    pub fn send(&mut self, more: &str) {
        self.write("/", more);
    }

    fn write(&mut self, path: &str, more: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n{more}\r\n");
        self.stream.write_all(request.as_bytes()).expect("a request");
    }

    /// The number of the host that answers what was asked, or the status where none does.
    pub fn answer(&mut self) -> String {
        let mut buffer = [0; 4096];
        loop {
            let whole = ParsedReply::parse(&self.read).filter(|reply| {
                reply.header("content-length").is_some_and(|length| length == reply.body.len().to_string())
            });
            if let Some(reply) = whole {
                self.read.clear();
                return match reply.status {
                    200 => String::from_utf8_lossy(&reply.body).into_owned(),
                    status => format!("status {status}"),
                };
            }
            let length = self.stream.read(&mut buffer).expect("an answer");
            assert!(length > 0, "closed after {:?}", String::from_utf8_lossy(&self.read));
            self.read.extend_from_slice(&buffer[..length]);
        }
    }
}
