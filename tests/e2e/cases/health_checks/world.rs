//! Hosts that do with checks as they are told, a proxy before them, and what is seen of both.

use crate::harness::{Kind, Launch, PATIENCE, Proxy, minimal, new_directory, proxies};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// What a host does with a check, or with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Does {
    /// Answers with this status, these lines and this body.
    Answers(u16, &'static str, &'static str),
    /// Sends these bytes.
    Says(&'static str),
    /// Nothing.
    Waits,
    /// Closes the connection.
    Closes,
}

use Does::{Answers, Closes, Says, Waits};

pub(super) const PASSES: Does = Answers(200, "", "");
pub(super) const FAILS: Does = Answers(500, "", "");
pub(super) const DEGRADED: Does = Answers(200, "x-envoy-degraded: 1\r\n", "");
pub(super) const EXCLUDED: &str = "x-envoy-immediate-health-check-fail: 1\r\n";

/// A host that does one thing after the other with checks, and the last one again and again.
#[derive(Default)]
pub(super) struct State {
    pub(super) checks: VecDeque<Does>,
    /// What it does with checks of this path instead.
    pub(super) paths: BTreeMap<&'static str, Does>,
    pub(super) requests: Option<Does>,
    /// What it has been sent by checks.
    pub(super) seen: Vec<String>,
}

pub(super) struct Host {
    pub(super) port: u16,
    pub(super) state: Arc<Mutex<State>>,
    pub(super) connections: Arc<AtomicUsize>,
}

impl Host {
    pub(super) fn start(checks: &[Does]) -> Host {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let state = State { checks: checks.iter().copied().collect(), ..State::default() };
        let host = Host { port, state: Arc::new(Mutex::new(state)), connections: Arc::default() };
        let (state, connections) = (host.state.clone(), host.connections.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::Relaxed);
                let state = state.clone();
                thread::spawn(move || serve(stream, &state));
            }
        });
        host
    }

    pub(super) fn checks(&self, does: Does) {
        self.state.lock().expect("a state").checks = VecDeque::from([does]);
    }

    /// What it does with checks of this path from now on.
    pub(super) fn path(&self, path: &'static str, does: Does) {
        self.state.lock().expect("a state").paths.insert(path, does);
    }

    pub(super) fn requests(&self, does: Does) {
        self.state.lock().expect("a state").requests = Some(does);
    }
}

impl State {
    pub(super) fn next(&mut self, head: &str) -> Does {
        let is_check = head.to_lowercase().contains("envoy/hc") || !head.contains("HTTP/1.1");
        if !is_check {
            return self.requests.unwrap_or(PASSES);
        }
        self.seen.push(head.to_string());
        let path = head.split(' ').nth(1).unwrap_or_default();
        if let Some(does) = self.paths.get(path) {
            return *does;
        }
        match self.checks.len() {
            0 => Waits,
            1 => self.checks[0],
            _ => self.checks.pop_front().expect("one of several"),
        }
    }
}

/// A request is all that comes at once: what is sent here fits into one segment.
pub(super) fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        let does = state.lock().expect("a state").next(&String::from_utf8_lossy(&buffer[..length]));
        let bytes = match does {
            Answers(status, lines, body) => {
                format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n{lines}\r\n{body}", body.len())
            }
            Says(bytes) => bytes.to_string(),
            Waits => continue,
            Closes => return,
        };
        if stream.write_all(bytes.as_bytes()).is_err() {
            return;
        }
    }
}

/// What is configured, and what is done with it.
pub(super) struct Scene {
    /// What each host does with its checks.
    pub(super) hosts: Vec<Vec<Does>>,
    pub(super) check: Value,
    pub(super) cluster: Value,
    /// Of the first host.
    pub(super) health_check_config: Value,
    pub(super) does: fn(&mut World),
}

impl Default for Scene {
    fn default() -> Self {
        Scene {
            hosts: vec![vec![PASSES]],
            check: json!({}),
            cluster: json!({}),
            health_check_config: json!({}),
            does: |_| (),
        }
    }
}

pub(super) fn with(mut fields: Value, more: &Value) -> Value {
    let more = more.as_object().expect("fields").clone();
    fields.as_object_mut().expect("fields").extend(more);
    fields
}

/// A check every 50 ms, each of which is an event.
pub(super) fn often(more: Value) -> Value {
    let fields = json!({
        "timeout": "0.3s", "interval": "0.05s", "no_traffic_interval": "0.05s", "unhealthy_threshold": 2,
        "healthy_threshold": 2, "always_log_health_check_failures": true,
        "always_log_health_check_success": true, "http_health_check": {"path": "/hc"},
    });
    with(fields, &more)
}

/// One check while a test runs.
pub(super) fn once(more: Value) -> Value {
    often(with(json!({"interval": "60s", "no_traffic_interval": "60s"}), &more))
}

pub(super) fn http(more: Value) -> Value {
    json!({"http_health_check": with(json!({"path": "/hc"}), &more)})
}

pub(super) fn tcp(check: Value) -> Value {
    // A oneof has one member.
    json!({"http_health_check": null, "tcp_health_check": check})
}

/// A proxy, its hosts, and what was seen.
pub(super) struct World {
    pub(super) proxy: Proxy,
    pub(super) hosts: Vec<Host>,
    pub(super) events: PathBuf,
    pub(super) seen: Vec<String>,
}

impl Scene {
    /// Both proxies have to show the same.
    #[track_caller]
    pub(super) fn run(&self) {
        let kinds = proxies();
        let seen: Vec<Vec<String>> = thread::scope(|scope| {
            let runs: Vec<_> = kinds.iter().map(|kind| scope.spawn(|| self.seen_of(*kind))).collect();
            runs.into_iter().map(|run| run.join().expect("the scene ran")).collect()
        });
        let [ours, theirs] = seen.as_slice() else { return };
        for (ours, theirs) in ours.iter().zip(theirs) {
            let lines = ours.lines().zip(theirs.lines()).filter(|(ours, theirs)| ours != theirs);
            let lines: Vec<_> = lines.map(|(ours, theirs)| format!("{ours}\n  and not {theirs}")).collect();
            assert!(lines.is_empty(), "legate shows\n{}\nin\n{ours}", lines.join("\n"));
            assert_eq!(
                ours.lines().count(),
                theirs.lines().count(),
                "\nlegate shows\n{ours}\nand not\n{theirs}"
            );
        }
        assert_eq!(ours.len(), theirs.len());
    }

    pub(super) fn seen_of(&self, kind: Kind) -> Vec<String> {
        let directory = new_directory(kind);
        let hosts: Vec<Host> = self.hosts.iter().map(|checks| Host::start(checks)).collect();
        let events = directory.join("events");
        let document = self.bootstrap(&directory, &hosts, &events);
        let proxy = Proxy::start(kind, &document, directory, Launch { workers: 2, ..Launch::default() });
        let mut world = World { proxy, hosts, events, seen: Vec::new() };
        (self.does)(&mut world);
        world.seen
    }

    pub(super) fn bootstrap(&self, directory: &Path, hosts: &[Host], events: &Path) -> Value {
        let endpoint = |(i, host): (usize, &Host)| {
            let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": host.port}});
            let mut endpoint = json!({"endpoint": {"address": address}});
            if i == 0 {
                let text = self.health_check_config.to_string();
                let text = match hosts {
                    [.., last] => text.replace("\"LAST\"", &last.port.to_string()),
                    [] => text,
                };
                endpoint["endpoint"]["health_check_config"] = text.parse().expect("JSON");
            }
            endpoint
        };
        let endpoints: Vec<_> = hosts.iter().enumerate().map(endpoint).collect();
        let mut cluster = self.cluster.clone();
        cluster["name"] = json!("a");
        cluster["connect_timeout"] = json!("1s");
        cluster["load_assignment"] = json!({"cluster_name": "a", "endpoints": [{"lb_endpoints": endpoints}]});
        let checks = match &self.check {
            Value::Array(checks) => checks.clone(),
            check => vec![check.clone()],
        };
        let check = |check: Value| with(check, &json!({"event_log_path": events}));
        cluster["health_checks"] = checks.into_iter().map(check).collect();
        let any = |name: &str| format!("type.googleapis.com/envoy.extensions.filters.{name}");
        let mut document = minimal(directory);
        document["layered_runtime"] = json!({"layers": [{"name": "admin", "admin_layer": {}}]});
        document["static_resources"] = json!({
            "listeners": [{
                "name": "l",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
                "filter_chains": [{"filters": [{
                    "name": "http",
                    "typed_config": {
                        "@type": any("network.http_connection_manager.v3.HttpConnectionManager"),
                        "stat_prefix": "l",
                        "route_config": {"virtual_hosts": [{
                            "name": "v", "domains": ["*"],
                            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "a"}}],
                        }]},
                        "http_filters": [{
                            "name": "router", "typed_config": {"@type": any("http.router.v3.Router")},
                        }],
                    },
                }]}],
            }, {
                "name": "t",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
                "filter_chains": [{"filters": [{
                    "name": "tcp",
                    "typed_config": {
                        "@type": any("network.tcp_proxy.v3.TcpProxy"), "stat_prefix": "t", "cluster": "a",
                    },
                }]}],
            }],
            "clusters": [cluster],
        });
        document
    }
}

impl World {
    pub(super) fn connect(&self, listener: &str) -> TcpStream {
        let port = self.proxy.admin.listeners()[listener];
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    pub(super) fn status(&self) -> u16 {
        let mut stream = self.connect("l");
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").expect("a request");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer");
        String::from_utf8_lossy(&bytes[9..12]).parse().expect("a status")
    }

    /// So many requests, and how often there was each status.
    pub(super) fn ask(&mut self, count: usize) {
        let mut statuses = BTreeMap::new();
        for _ in 0..count {
            *statuses.entry(self.status()).or_insert(0) += 1;
        }
        self.seen.push(format!("{statuses:?}"));
    }

    /// What `/clusters` says of the host of this number becomes that.
    #[track_caller]
    pub(super) fn flags(&self, number: usize, wanted: &str) {
        let start = format!("a::127.0.0.1:{}::health_flags::", self.hosts[number].port);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.proxy.admin.text("/clusters");
            let flags = text.lines().find_map(|line| line.strip_prefix(&start)).expect("flags");
            if flags == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{flags} instead of {wanted}");
            thread::sleep(Duration::from_millis(5)); // there is no event for what the admin shows
        }
    }

    /// A statistic of the cluster becomes this.
    #[track_caller]
    pub(super) fn becomes(&self, name: &str, value: u64) {
        let name = format!("cluster.a.{name}");
        if let Err(is) = self.proxy.admin.wait_for_stat(&name, value) {
            panic!("{name} is {is:?} instead of {value}");
        }
    }

    /// The host of this number has been asked so often.
    pub(super) fn asked(&self, number: usize, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.hosts[number].state.lock().expect("a state").seen.len() < times {
            assert!(Instant::now() < deadline, "not asked {times} times");
            thread::sleep(Duration::from_millis(5)); // the host has no event for it
        }
    }

    /// The first check that the host of this number has been sent, word for word.
    pub(super) fn check(&mut self, number: usize) {
        self.asked(number, 1);
        let seen = self.hosts[number].state.lock().expect("a state").seen[0].clone();
        let seen = self.without_ports(&seen);
        self.seen.push(seen);
    }

    pub(super) fn statistics_of(&mut self, wanted: &[&str]) {
        let stats = self.proxy.admin.stats();
        let is_wanted = |name: &str| wanted.iter().any(|part| name.contains(part));
        let lines: BTreeMap<_, _> = stats.iter().filter(|(name, _)| is_wanted(name)).collect();
        self.seen.push(format!("{lines:#?}"));
    }

    /// All of checks and members.
    pub(super) fn statistics(&mut self) {
        self.statistics_of(&["cluster.a.health_check.", "cluster.a.membership_"]);
    }

    pub(super) fn without_ports(&self, text: &str) -> String {
        let numbered = self.hosts.iter().enumerate();
        numbered
            .fold(text.to_string(), |text, (i, host)| text.replace(&host.port.to_string(), &format!("P{i}")))
    }

    /// What `/clusters` says but for how many requests and connections there were.
    pub(super) fn clusters(&mut self) {
        let text = self.proxy.admin.text("/clusters");
        let lines = text.lines().filter(|line| !line.contains("::cx_") && !line.contains("::rq_"));
        let text = lines.collect::<Vec<_>>().join("\n");
        let json = self.proxy.admin.text("/clusters?format=json");
        let lines = json.lines().filter(|line| !line.contains("\"value\": \""));
        let json = lines.collect::<Vec<_>>().join("\n");
        let shown = [text, json].map(|text| self.without_ports(&text));
        self.seen.extend(shown);
    }

    /// The first events: so many, without their times.
    pub(super) fn events(&mut self, count: usize) {
        let lines = self.lines(&self.events, count);
        self.seen.push(lines);
    }

    pub(super) fn lines(&self, path: &Path, count: usize) -> String {
        let deadline = Instant::now() + PATIENCE;
        let text = loop {
            let text = fs::read_to_string(path).unwrap_or_default();
            if text.matches('\n').count() >= count || Instant::now() > deadline {
                break text;
            }
            thread::sleep(Duration::from_millis(10)); // the log is flushed by a timer
        };
        let line = |line: &str| {
            let (head, rest) = line.split_once("\"timestamp\":\"").expect("a time");
            let (time, rest) = rest.split_once('"').expect("its end");
            assert!(time.ends_with('Z') && time.len() >= 20, "{time}");
            format!("{head}{rest}")
        };
        let lines: Vec<String> = text.lines().take(count).map(line).collect();
        self.without_ports(&lines.join("\n"))
    }
}
