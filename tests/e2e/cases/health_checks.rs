//! Hosts that are asked whether they are well: what checks look like, and what clients, statistics, `/clusters` and the event
//! log say of hosts that are not.

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
enum Does {
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

const PASSES: Does = Answers(200, "", "");
const FAILS: Does = Answers(500, "", "");
const DEGRADED: Does = Answers(200, "x-envoy-degraded: 1\r\n", "");
const EXCLUDED: &str = "x-envoy-immediate-health-check-fail: 1\r\n";

/// A host that does one thing after the other with checks, and the last one again and again.
#[derive(Default)]
struct State {
    checks: VecDeque<Does>,
    requests: Option<Does>,
    /// What it has been sent by checks.
    seen: Vec<String>,
}

struct Host {
    port: u16,
    state: Arc<Mutex<State>>,
    connections: Arc<AtomicUsize>,
}

impl Host {
    fn start(checks: &[Does]) -> Host {
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

    fn checks(&self, does: Does) {
        self.state.lock().expect("a state").checks = VecDeque::from([does]);
    }

    fn requests(&self, does: Does) {
        self.state.lock().expect("a state").requests = Some(does);
    }
}

impl State {
    fn next(&mut self, head: &str) -> Does {
        let is_check = head.to_lowercase().contains("envoy/hc") || !head.contains("HTTP/1.1");
        if !is_check {
            return self.requests.unwrap_or(PASSES);
        }
        self.seen.push(head.to_string());
        match self.checks.len() {
            0 => Waits,
            1 => self.checks[0],
            _ => self.checks.pop_front().expect("one of several"),
        }
    }
}

/// A request is all that comes at once: what is sent here fits into one segment.
fn serve(mut stream: TcpStream, state: &Mutex<State>) {
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
struct Scene {
    /// What each host does with its checks.
    hosts: Vec<Vec<Does>>,
    check: Value,
    cluster: Value,
    /// Of the first host.
    health_check_config: Value,
    does: fn(&mut World),
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

fn with(mut fields: Value, more: &Value) -> Value {
    let more = more.as_object().expect("fields").clone();
    fields.as_object_mut().expect("fields").extend(more);
    fields
}

/// A check every 50 ms, each of which is an event.
fn often(more: Value) -> Value {
    let fields = json!({
        "timeout": "0.3s", "interval": "0.05s", "no_traffic_interval": "0.05s", "unhealthy_threshold": 2,
        "healthy_threshold": 2, "always_log_health_check_failures": true,
        "always_log_health_check_success": true, "http_health_check": {"path": "/hc"},
    });
    with(fields, &more)
}

/// One check while a test runs.
fn once(more: Value) -> Value {
    often(with(json!({"interval": "60s", "no_traffic_interval": "60s"}), &more))
}

fn http(more: Value) -> Value {
    json!({"http_health_check": with(json!({"path": "/hc"}), &more)})
}

fn tcp(check: Value) -> Value {
    // A oneof has one member.
    json!({"http_health_check": null, "tcp_health_check": check})
}

/// A proxy, its hosts, and what was seen.
struct World {
    proxy: Proxy,
    hosts: Vec<Host>,
    events: PathBuf,
    seen: Vec<String>,
}

impl Scene {
    /// Both proxies have to show the same.
    #[track_caller]
    fn run(&self) {
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

    fn seen_of(&self, kind: Kind) -> Vec<String> {
        let directory = new_directory(kind);
        let hosts: Vec<Host> = self.hosts.iter().map(|checks| Host::start(checks)).collect();
        let events = directory.join("events");
        let document = self.bootstrap(&directory, &hosts, &events);
        let proxy = Proxy::start(kind, &document, directory, Launch { workers: 2, ..Launch::default() });
        let mut world = World { proxy, hosts, events, seen: Vec::new() };
        (self.does)(&mut world);
        world.seen
    }

    fn bootstrap(&self, directory: &Path, hosts: &[Host], events: &Path) -> Value {
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
        let mut check = self.check.clone();
        check["event_log_path"] = json!(events);
        cluster["health_checks"] = json!([check]);
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
    fn connect(&self, listener: &str) -> TcpStream {
        let port = self.proxy.admin.listeners()[listener];
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    fn status(&self) -> u16 {
        let mut stream = self.connect("l");
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").expect("a request");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer");
        String::from_utf8_lossy(&bytes[9..12]).parse().expect("a status")
    }

    /// So many requests, and how often there was each status.
    fn ask(&mut self, count: usize) {
        let mut statuses = BTreeMap::new();
        for _ in 0..count {
            *statuses.entry(self.status()).or_insert(0) += 1;
        }
        self.seen.push(format!("{statuses:?}"));
    }

    /// What `/clusters` says of the host of this number becomes that.
    #[track_caller]
    fn flags(&self, number: usize, wanted: &str) {
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
    fn becomes(&self, name: &str, value: u64) {
        let name = format!("cluster.a.{name}");
        if let Err(is) = self.proxy.admin.wait_for_stat(&name, value) {
            panic!("{name} is {is:?} instead of {value}");
        }
    }

    /// The host of this number has been asked so often.
    fn asked(&self, number: usize, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.hosts[number].state.lock().expect("a state").seen.len() < times {
            assert!(Instant::now() < deadline, "not asked {times} times");
            thread::sleep(Duration::from_millis(5)); // the host has no event for it
        }
    }

    /// The first check that the host of this number has been sent, word for word.
    fn check(&mut self, number: usize) {
        self.asked(number, 1);
        let seen = self.hosts[number].state.lock().expect("a state").seen[0].clone();
        let seen = self.without_ports(&seen);
        self.seen.push(seen);
    }

    fn statistics_of(&mut self, wanted: &[&str]) {
        let stats = self.proxy.admin.stats();
        let is_wanted = |name: &str| wanted.iter().any(|part| name.contains(part));
        let lines: BTreeMap<_, _> = stats.iter().filter(|(name, _)| is_wanted(name)).collect();
        self.seen.push(format!("{lines:#?}"));
    }

    /// All of checks and members.
    fn statistics(&mut self) {
        self.statistics_of(&["cluster.a.health_check.", "cluster.a.membership_"]);
    }

    fn without_ports(&self, text: &str) -> String {
        let numbered = self.hosts.iter().enumerate();
        numbered
            .fold(text.to_string(), |text, (i, host)| text.replace(&host.port.to_string(), &format!("P{i}")))
    }

    /// What `/clusters` says but for how many requests and connections there were.
    fn clusters(&mut self) {
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
    fn events(&mut self, count: usize) {
        let lines = self.lines(&self.events, count);
        self.seen.push(lines);
    }

    fn lines(&self, path: &Path, count: usize) -> String {
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

#[test]
fn a_host_fails_and_recovers() {
    let does = |world: &mut World| {
        world.events(12);
        world.flags(0, "healthy");
        world.statistics_of(&["health_check.healthy", "cluster.a.membership_"]);
    };
    let checks = vec![PASSES, PASSES, FAILS, FAILS, PASSES, FAILS, PASSES, PASSES, PASSES];
    Scene { hosts: vec![checks], check: often(json!({})), does, ..Scene::default() }.run();
}

#[test]
fn failures_of_the_network_count_up() {
    let does = |world: &mut World| {
        world.events(14);
        world.flags(0, "healthy");
        world.statistics_of(&["network_failure", "passive_failure"]);
    };
    let checks = vec![PASSES, Closes, PASSES, Closes, Closes, Closes, PASSES, PASSES, Waits, Waits, PASSES];
    Scene { hosts: vec![checks], check: often(json!({})), does, ..Scene::default() }.run();
}

#[test]
fn statuses_that_are_expected_or_count_like_failures_of_the_network() {
    let does = |world: &mut World| {
        world.events(12);
        world.flags(0, "/failed_active_hc");
    };
    let status = |status| Answers(status, "", "");
    let checks = [201, 299, 503, 503, 204, 503, 503, 503, 200, 300].map(status).to_vec();
    let statuses = json!({
        "expected_statuses": [{"start": 200, "end": 202}, {"start": 204, "end": 205}, {"start": 299, "end": 300}],
        "retriable_statuses": [{"start": 503, "end": 504}],
    });
    let check = often(with(http(statuses), &json!({"unhealthy_threshold": 3})));
    Scene { hosts: vec![checks], check, does, ..Scene::default() }.run();
}

#[test]
fn degraded_hosts_are_the_second_choice() {
    let does = |world: &mut World| {
        world.flags(1, "/degraded_active_hc");
        world.clusters();
        world.statistics_of(&["health_check.degraded", "health_check.healthy", "cluster.a.membership_"]);
        world.ask(4);
        world.hosts[1].checks(PASSES);
        world.flags(1, "healthy");
        world.statistics_of(&["health_check.degraded", "health_check.healthy", "cluster.a.membership_"]);
        world.hosts[1].checks(Answers(500, "x-envoy-degraded: 1\r\n", ""));
        world.flags(1, "/failed_active_hc");
        world.hosts[1].checks(DEGRADED);
        world.flags(1, "/degraded_active_hc");
    };
    let hosts = vec![vec![PASSES], vec![DEGRADED]];
    Scene { hosts, check: often(json!({})), does, ..Scene::default() }.run();
    let does = |world: &mut World| world.events(9);
    let checks = vec![PASSES, DEGRADED, DEGRADED, PASSES, FAILS, DEGRADED, DEGRADED, PASSES];
    Scene { hosts: vec![checks], check: often(json!({})), does, ..Scene::default() }.run();
}

#[test]
fn a_host_may_say_with_its_check_that_it_wants_no_requests_at_all() {
    let does = |world: &mut World| {
        world.flags(0, "/failed_active_hc/excluded_via_immediate_hc_fail");
        world.clusters();
        world.statistics_of(&["cluster.a.membership_"]);
        world.hosts[0].checks(FAILS);
        world.becomes("membership_excluded", 1);
        world.hosts[0].checks(PASSES);
        world.flags(0, "healthy");
        world.statistics_of(&["cluster.a.membership_"]);
    };
    let hosts = vec![vec![PASSES, Answers(500, EXCLUDED, "")], vec![PASSES]];
    Scene { hosts, check: often(json!({})), does, ..Scene::default() }.run();
    // Where the check is passed it means nothing.
    let does = |world: &mut World| {
        world.asked(0, 3);
        world.flags(0, "healthy");
    };
    Scene {
        hosts: vec![vec![Answers(200, EXCLUDED, "")]],
        check: often(json!({})),
        does,
        ..Scene::default()
    }
    .run();
}

#[test]
fn a_host_may_say_so_with_any_answer() {
    let does = |world: &mut World| {
        world.hosts[0].requests(Answers(200, EXCLUDED, ""));
        world.ask(1);
        world.flags(0, "/failed_active_hc/excluded_via_immediate_hc_fail");
        world.becomes("health_check.passive_failure", 1);
        world.clusters();
        world.statistics();
        world.events(4);
    };
    Scene { check: once(json!({})), does, ..Scene::default() }.run();
    let does = |world: &mut World| {
        world.hosts[0].requests(Answers(503, EXCLUDED, ""));
        world.ask(1);
        world.becomes("health_check.passive_failure", 1);
        world.flags(0, "healthy");
        world.statistics_of(&["cluster.a.membership_"]);
    };
    Scene { check: often(json!({})), does, ..Scene::default() }.run();
}

#[test]
fn the_first_check_is_an_event_whatever_comes_of_it() {
    for (first, flags) in [
        (PASSES, "healthy"),
        (FAILS, "/failed_active_hc"),
        (Closes, "/failed_active_hc"),
        (Waits, "/failed_active_hc/active_hc_timeout"),
        (DEGRADED, "/degraded_active_hc"),
        (Says("nonsense\r\n\r\n"), "/failed_active_hc"),
    ] {
        let check = once(json!({
            "always_log_health_check_failures": false, "always_log_health_check_success": false,
        }));
        let scene = |does| Scene { hosts: vec![vec![first]], check: check.clone(), does, ..Scene::default() };
        let seen = |world: &mut World| {
            world.events(1);
            world.statistics();
            world.clusters();
        };
        scene(seen).run();
        // Without a wait: the workers start when all hosts have been checked.
        for kind in proxies() {
            let told = scene(|world| world.clusters()).seen_of(kind)[0].clone();
            assert!(told.contains(&format!("::health_flags::{flags}\n")), "{kind:?}: {told}");
        }
    }
}

#[test]
fn a_host_has_to_say_who_it_is() {
    const RIGHT: Does = Answers(200, "x-envoy-upstream-healthchecked-cluster: right-one\r\n", "");
    const WRONG: Does = Answers(200, "x-envoy-upstream-healthchecked-cluster: wrong\r\n", "");
    let does = |world: &mut World| {
        world.events(8);
        world.flags(0, "/failed_active_hc");
        world.proxy.admin.post("/runtime_modify?health_check.verify_cluster=0").expect("an answer");
        world.flags(0, "healthy");
    };
    let check = often(http(json!({"service_name_matcher": {"prefix": "right"}})));
    let checks = vec![RIGHT, WRONG, RIGHT, RIGHT, PASSES];
    Scene { hosts: vec![checks], check, does, ..Scene::default() }.run();
    let does = |world: &mut World| world.statistics();
    let check = once(http(json!({"service_name_matcher": {"exact": "right-one"}})));
    Scene { hosts: vec![vec![RIGHT]], check, does, ..Scene::default() }.run();
}

#[test]
fn the_body_of_an_answer_is_searched() {
    let does = |world: &mut World| world.events(8);
    let body = |text| Answers(200, "", text);
    let checks = vec![body("..ab..cd"), body("cdab"), body("abcd"), body("abcd"), body("ab"), body("")];
    let receive = json!([{"text": "6162"}, {"binary": "Y2Q="}]);
    let check = often(http(json!({"receive": receive})));
    Scene { hosts: vec![checks], check, does, ..Scene::default() }.run();
    // Only so much of it.
    for (size, found) in [(7, "/failed_active_hc"), (8, "healthy"), (0, "healthy")] {
        let check = once(http(json!({"receive": receive, "response_buffer_size": size})));
        for kind in proxies() {
            let scene = Scene {
                hosts: vec![vec![body("..ab..cd")]],
                check: check.clone(),
                does: |world| world.clusters(),
                ..Scene::default()
            };
            let told = scene.seen_of(kind)[0].clone();
            assert!(told.contains(&format!("::health_flags::{found}\n")), "{kind:?}, {size}: {told}");
        }
    }
}

#[test]
fn what_a_check_looks_like() {
    let header = |key: &str, value: &str| json!({"header": {"key": key, "value": value}});
    let headers = json!({
        "host": "h", "request_headers_to_add": [
            header("x-one", "1"), header("x-host", "%UPSTREAM_REMOTE_ADDRESS%"), header("user-agent", "envoy/hc/2"),
        ],
        "request_headers_to_remove": ["x-none"],
    });
    for (check, config) in [
        (http(json!({})), json!({})),
        (http(json!({"path": "/a?b#c", "method": "HEAD"})), json!({"hostname": "own.name"})),
        (http(headers), json!({})),
        (http(json!({"host": "h"})), json!({"hostname": "own.name"})),
        (http(json!({"method": "POST", "send": {"text": "626f6479"}})), json!({})),
        (http(json!({"method": "PUT", "send": {"binary": ""}})), json!({})),
        (http(json!({"method": "DELETE"})), json!({})),
        (http(json!({"method": "OPTIONS"})), json!({})),
        (tcp(json!({"send": {"text": "0068690a"}, "receive": [{"text": "00"}]})), json!({})),
    ] {
        let does = |world: &mut World| world.check(0);
        let check = once(check);
        Scene { check, health_check_config: config, does, ..Scene::default() }.run();
    }
}

#[test]
fn connections_are_used_again_unless_they_are_not_to_be() {
    for (fields, answer, connections) in [
        (json!({}), PASSES, 1),
        (json!({"reuse_connection": false}), PASSES, 4),
        (json!({}), Answers(200, "connection: close\r\n", ""), 4),
        (tcp(json!({"send": {"text": "61"}, "receive": [{"text": "62"}]})), Says("b"), 1),
        (
            with(
                tcp(json!({"send": {"text": "61"}, "receive": [{"text": "62"}]})),
                &json!({"reuse_connection": false}),
            ),
            Says("b"),
            4,
        ),
    ] {
        for kind in proxies() {
            let does = |world: &mut World| {
                world.asked(0, 4);
                world.seen.push(world.hosts[0].connections.load(Ordering::Relaxed).to_string());
                world.becomes("health_check.failure", 0);
            };
            let check = often(fields.clone());
            let scene = Scene { hosts: vec![vec![answer]], check, does, ..Scene::default() };
            let seen: usize = scene.seen_of(kind)[0].parse().expect("a number");
            assert!(
                seen == connections || seen == connections + usize::from(connections > 1),
                "{kind:?} {fields}: {seen}"
            );
        }
    }
}

#[test]
fn bytes_that_have_to_come() {
    let payloads = json!({"send": {"text": "68656c6c6f"}, "receive": [{"text": "61"}, {"text": "63"}]});
    let does = |world: &mut World| {
        world.events(9);
        world.flags(0, "healthy");
        world.statistics_of(&["network_failure", "cluster.a.membership_"]);
    };
    let checks =
        vec![Says("abc"), Says("--a--c"), Says("ca"), Closes, Says("abc"), Says("ac"), Waits, Says("ac")];
    let check = often(tcp(payloads));
    Scene { hosts: vec![checks], check, does, ..Scene::default() }.run();
}

#[test]
fn that_a_host_can_be_connected_to_may_be_enough() {
    let does = |world: &mut World| {
        world.becomes("health_check.success", 3);
        world.flags(0, "healthy");
        world.clusters();
        world.events(3);
    };
    let check = often(tcp(json!({"send": {"text": "00"}})));
    Scene { hosts: vec![vec![Closes]], check, does, ..Scene::default() }.run();
}

#[test]
fn a_host_that_does_not_listen() {
    let does = |world: &mut World| {
        world.events(5);
        world.flags(1, "healthy");
    };
    for check in [http(json!({})), tcp(json!({}))] {
        // Port 1 of this address is nobody's.
        let nowhere = json!({"port_value": 1, "address": {"socket_address": {"address": "127.255.0.1", "port_value": 7}}});
        let check = often(with(check, &json!({"always_log_health_check_success": false})));
        let hosts = vec![vec![PASSES], vec![PASSES]];
        Scene { hosts, check, health_check_config: nowhere, does, ..Scene::default() }.run();
    }
}

#[test]
fn a_host_may_be_checked_elsewhere_or_not_at_all() {
    let does = |world: &mut World| {
        world.asked(1, 2);
        world.flags(0, "healthy");
        let seen = world.hosts[0].state.lock().expect("a state").seen.len();
        world.seen.push(format!("asked itself: {seen}"));
        world.clusters();
        world.hosts[1].checks(FAILS);
        world.flags(0, "/failed_active_hc");
    };
    for config in [
        json!({"port_value": "LAST"}),
        json!({"address": {"socket_address": {"address": "127.0.0.1", "port_value": "LAST"}}}),
    ] {
        let hosts = vec![vec![FAILS], vec![PASSES]];
        let scene =
            Scene { hosts, health_check_config: config, check: often(json!({})), does, ..Scene::default() };
        scene.run();
    }
    let does = |world: &mut World| {
        world.flags(1, "/failed_active_hc");
        world.hosts[0].requests(Answers(200, EXCLUDED, ""));
        world.ask(3);
        world.clusters();
        world.statistics();
        let seen = world.hosts[0].state.lock().expect("a state").seen.len();
        world.seen.push(format!("asked: {seen}"));
    };
    let hosts = vec![vec![FAILS], vec![FAILS]];
    let config = json!({"disable_active_health_check": true});
    Scene { hosts, check: once(json!({})), health_check_config: config, does, ..Scene::default() }.run();
}

#[test]
fn all_hosts_fail_and_get_requests_all_the_same() {
    let does = |world: &mut World| {
        (0..3).for_each(|host| world.flags(host, "/failed_active_hc"));
        world.becomes("membership_healthy", 0);
        world.ask(6);
        world.becomes("lb_healthy_panic", 6);
        world.hosts.iter().for_each(|host| host.checks(PASSES));
        (0..3).for_each(|host| world.flags(host, "healthy"));
        world.becomes("membership_healthy", 3);
        world.ask(6);
    };
    Scene { hosts: vec![vec![FAILS]; 3], check: often(json!({})), does, ..Scene::default() }.run();
}

#[test]
fn intervals_while_a_change_is_pending() {
    // Two quick checks where a change is pending, and then none for a long time.
    let does = |world: &mut World| {
        world.becomes("health_check.success", 1);
        world.ask(1);
        world.hosts[0].checks(FAILS);
        world.flags(0, "/failed_active_hc");
        world.hosts[0].checks(PASSES);
        world.flags(0, "healthy");
        world.statistics();
        world.events(6);
    };
    let check = often(json!({
        "interval": "0.3s", "no_traffic_interval": "0.3s", "unhealthy_interval": "0.4s",
        "healthy_edge_interval": "0.05s", "healthy_threshold": 4,
    }));
    Scene { check, does, ..Scene::default() }.run();
}

#[test]
fn events_may_go_to_sinks() {
    let directory = new_directory(Kind::Legate);
    for kind in proxies() {
        let path = directory.join(format!("sink-{kind:?}"));
        let config = json!({
            "@type": "type.googleapis.com/envoy.extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink",
            "event_log_path": path,
        });
        let sink = json!({"name": "envoy.health_check.event_sink.file", "typed_config": config});
        let check = often(json!({"event_logger": [sink]}));
        let does = |world: &mut World| world.events(3);
        let seen = Scene { check, does, ..Scene::default() }.seen_of(kind);
        let text = fs::read_to_string(&path).expect("the sink's file");
        let lines = text.lines().filter(|line| line.contains("successful_health_check_event"));
        assert!(lines.count() >= 2 && text.contains("add_healthy_event"), "{kind:?}: {text}");
        assert_eq!(seen[0].matches("successful_health_check_event").count(), 2, "{kind:?}: {seen:?}");
    }
    let _ = fs::remove_dir_all(directory);
}

#[test]
fn raw_connections_to_a_host_that_fails_may_be_closed() {
    for closes in [false, true] {
        let does = |world: &mut World| {
            world.hosts[0].requests(Waits);
            let mut raw = world.connect("t");
            raw.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("bytes");
            let mut http = world.connect("l");
            http.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").expect("a request");
            world.becomes("upstream_rq_active", 2);
            world.hosts[0].checks(FAILS);
            world.flags(0, "/failed_active_hc");
            raw.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
            let is_closed = matches!(raw.read(&mut [0]), Ok(0));
            world.seen.push(format!("closed: {is_closed}"));
            world.statistics_of(&["cluster.a.upstream_rq_active", "cluster.a.upstream_cx_active"]);
        };
        let cluster = json!({"close_connections_on_host_health_failure": closes});
        Scene { check: often(json!({})), cluster, does, ..Scene::default() }.run();
    }
}

#[test]
fn a_good_check_ends_an_ejection() {
    let does = |world: &mut World| {
        world.hosts[0].requests(FAILS);
        world.ask(1);
        world.becomes("outlier_detection.ejections_enforced_total", 1);
        world.flags(0, "healthy");
        world.becomes("outlier_detection.ejections_active", 0);
    };
    for uneject in [true, false] {
        let detection = json!({
            "consecutive_5xx": 1, "base_ejection_time": "60s", "interval": "60s", "max_ejection_percent": 100,
            "successful_active_health_check_uneject_host": uneject,
        });
        let cluster = json!({"outlier_detection": detection});
        let stays = |world: &mut World| {
            world.hosts[0].requests(FAILS);
            world.ask(1);
            world.flags(0, "/failed_outlier_check");
            let asked = world.hosts[0].state.lock().expect("a state").seen.len();
            world.asked(0, asked + 3);
            world.flags(0, "/failed_outlier_check");
        };
        let does = if uneject { does } else { stays };
        Scene { check: often(json!({})), cluster, does, ..Scene::default() }.run();
    }
}
