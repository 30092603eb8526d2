//! Hosts that fail get no requests for a while: what clients, statistics, `/clusters` and the event log say of it.

use crate::harness::{Kind, Launch, PATIENCE, Proxy, minimal, new_directory, proxies};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// What a host does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    /// Answers with this status, and these lines.
    Answers(u16, &'static str),
    /// Nothing.
    Waits,
    /// Closes the connection.
    Closes,
}

const SERVES: Does = Does::Answers(200, "");

/// A host that may change.
struct Host {
    port: u16,
    does: Arc<Mutex<Does>>,
}

impl Host {
    fn start() -> Host {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let does = Arc::new(Mutex::new(SERVES));
        let shared = does.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let does = shared.clone();
                thread::spawn(move || serve(stream, &does));
            }
        });
        Host { port, does }
    }
}

fn serve(mut stream: TcpStream, does: &Mutex<Does>) {
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        read.extend_from_slice(&buffer[..length]);
        while let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            read.drain(..end + 4);
            let does = *does.lock().expect("what to do");
            match does {
                Does::Answers(status, lines) => {
                    let head = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n{lines}\r\n");
                    if stream.write_all(head.as_bytes()).is_err() {
                        return;
                    }
                }
                Does::Waits => {}
                Does::Closes => return,
            }
        }
    }
}

/// What is configured, and what is done with it.
struct Scene {
    hosts: usize,
    /// The first hosts listen nowhere.
    refusing: usize,
    cluster: Value,
    route: Value,
    does: fn(&mut World),
}

impl Default for Scene {
    fn default() -> Self {
        Scene { hosts: 3, refusing: 0, cluster: json!({}), route: json!({}), does: |_| () }
    }
}

/// Ends ejections soon.
fn quick(more: Value) -> Value {
    let mut detection = json!({"interval": "0.2s", "base_ejection_time": "0.4s", "max_ejection_percent": 50});
    detection.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
    json!({"outlier_detection": detection})
}

/// Ends nothing while a test runs.
fn lasting(more: Value) -> Value {
    let mut cluster = quick(json!({"interval": "60s", "base_ejection_time": "60s"}));
    let detection = cluster["outlier_detection"].as_object_mut().expect("fields");
    detection.extend(more.as_object().expect("fields").clone());
    cluster
}

/// A proxy, its hosts, and what was seen.
struct World {
    proxy: Proxy,
    hosts: Vec<Host>,
    ports: Vec<u16>,
    events: PathBuf,
    seen: Vec<String>,
}

impl Scene {
    /// Both proxies have to show the same.
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
        let hosts: Vec<Host> = (self.refusing..self.hosts).map(|_| Host::start()).collect();
        let refusing = (0..self.refusing).map(|_| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
            listener.local_addr().expect("its address").port()
        });
        let ports: Vec<u16> = refusing.chain(hosts.iter().map(|host| host.port)).collect();
        let events = directory.join("events");
        let document = self.bootstrap(&directory, &ports, &events);
        let proxy = Proxy::start(kind, &document, directory, Launch::default());
        let mut world = World { proxy, hosts, ports, events, seen: Vec::new() };
        (self.does)(&mut world);
        world.seen
    }

    fn bootstrap(&self, directory: &std::path::Path, ports: &[u16], events: &std::path::Path) -> Value {
        let endpoint = |port: &u16| {
            let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
            json!({"endpoint": {"address": address}})
        };
        let endpoints: Vec<_> = ports.iter().map(endpoint).collect();
        let mut cluster = self.cluster.clone();
        cluster["name"] = json!("a");
        cluster["connect_timeout"] = json!("1s");
        cluster["load_assignment"] = json!({"cluster_name": "a", "endpoints": [{"lb_endpoints": endpoints}]});
        let mut route = self.route.clone();
        route["cluster"] = json!("a");
        let any = |name: &str| format!("type.googleapis.com/envoy.extensions.filters.{name}");
        let mut document = minimal(directory);
        document["cluster_manager"] = json!({"outlier_detection": {"event_log_path": events}});
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
                            "name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}],
                        }]},
                        "http_filters": [{
                            "name": "router", "typed_config": {"@type": any("http.router.v3.Router")},
                        }],
                    },
                }]}],
            }],
            "clusters": [cluster],
        });
        document
    }
}

impl World {
    /// The host of this number does this from now on.
    fn host(&self, number: usize, does: Does) {
        *self.hosts[number].does.lock().expect("what to do") = does;
    }

    fn status(&self, lines: &str) -> u16 {
        let port = self.proxy.admin.listeners()["l"];
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{lines}\r\n");
        stream.write_all(request.as_bytes()).expect("a request");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer");
        String::from_utf8_lossy(&bytes[9..12]).parse().expect("a status")
    }

    /// So many requests, and how often there was each status.
    fn ask_with(&mut self, count: usize, lines: &str) {
        let mut statuses = BTreeMap::new();
        for _ in 0..count {
            *statuses.entry(self.status(lines)).or_insert(0) += 1;
        }
        self.seen.push(format!("{statuses:?}"));
    }

    fn ask(&mut self, count: usize) {
        self.ask_with(count, "");
    }

    /// So many requests without a look at what comes of them.
    fn send(&self, count: usize) {
        (0..count).for_each(|_| {
            self.status("");
        });
    }

    /// A statistic of the cluster becomes this, while requests go on if that is wanted.
    fn becomes(&self, name: &str, value: u64, with_requests: bool) {
        let name = format!("cluster.a.{name}");
        let deadline = Instant::now() + PATIENCE;
        while self.proxy.admin.stat(&name) != Some(value) {
            assert!(Instant::now() < deadline, "{name} is {:?}", self.proxy.admin.stat(&name));
            match with_requests {
                true => self.send(1),
                false => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    fn ejected(&self, count: u64) {
        self.becomes("outlier_detection.ejections_active", count, false);
    }

    /// Changes of hosts come to Envoy's workers at most once a second.
    fn until_workers_know(&self) {
        thread::sleep(Duration::from_millis(1100));
    }

    /// The statistics of outliers and members.
    fn statistics(&mut self) {
        let of_outliers = |name: &str| name.contains(".outlier_detection.") || name.contains(".membership_");
        let stats = self.proxy.admin.stats();
        let wanted = stats.iter().filter(|(name, value)| of_outliers(name) && **value > 0);
        let lines: BTreeMap<_, _> = wanted.collect();
        self.seen.push(format!("{lines:#?}"));
    }

    fn without_ports(&self, text: &str) -> String {
        self.ports
            .iter()
            .enumerate()
            .fold(text.to_string(), |text, (i, port)| text.replace(&port.to_string(), &format!("P{i}")))
    }

    /// What `/clusters` says but for how many requests and connections there were.
    fn clusters(&mut self) {
        let text = self.proxy.admin.text("/clusters?filter=%5Ea$");
        let lines = text.lines().filter(|line| !line.contains("::cx_") && !line.contains("::rq_"));
        let text = lines.collect::<Vec<_>>().join("\n");
        self.seen.push(self.without_ports(&text));
        let json = self.proxy.admin.text("/clusters?format=json&filter=%5Ea$");
        let lines = json.lines().filter(|line| !line.contains("\"value\": \""));
        let text = lines.collect::<Vec<_>>().join("\n");
        self.seen.push(self.without_ports(&text));
    }

    /// The events, once there are so many; those of a moment may have any order.
    fn events(&mut self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        let text = loop {
            let text = fs::read_to_string(&self.events).unwrap_or_default();
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
        let mut lines: Vec<String> = text.lines().map(line).map(|line| self.without_ports(&line)).collect();
        lines.sort_unstable();
        self.seen.push(lines.join("\n"));
    }
}

#[test]
fn a_host_that_fails_is_ejected_and_comes_back() {
    let does = |world: &mut World| {
        world.host(0, Does::Answers(500, ""));
        world.ask(15);
        world.ejected(1);
        world.ask(9);
        world.statistics();
        world.host(0, SERVES);
        world.ejected(0);
        world.until_workers_know();
        world.ask(9);
        world.events(2);
        world.statistics();
        world.clusters();
    };
    Scene { cluster: quick(json!({"base_ejection_time": "2s"})), does, ..Scene::default() }.run();
}

#[test]
fn what_is_known_of_an_ejected_host() {
    let does = |world: &mut World| {
        world.send(3);
        world.host(1, Does::Answers(503, ""));
        world.ask(15);
        world.ejected(1);
        world.clusters();
        world.events(2);
        // Nobody keeps connections to it.
        world.becomes("upstream_cx_active", 2, false);
    };
    Scene { cluster: lasting(json!({})), does, ..Scene::default() }.run();
}

#[test]
fn only_a_share_of_the_hosts_is_ejected() {
    let does = |world: &mut World| {
        for host in 0..3 {
            world.host(host, Does::Answers(500, ""));
            let detected = "outlier_detection.ejections_detected_consecutive_5xx";
            world.becomes(detected, host as u64 + 1, true);
            world.host(host, SERVES);
        }
        world.statistics();
    };
    for (percent, one) in [(10, false), (10, true), (33, false), (34, false), (66, false), (67, true)] {
        let cluster = lasting(json!({"max_ejection_percent": percent, "always_eject_one_host": one}));
        Scene { cluster, does, ..Scene::default() }.run();
    }
}

#[test]
fn with_too_few_hosts_left_all_of_them_get_requests() {
    let does = |world: &mut World| {
        (0..2).for_each(|host| world.host(host, Does::Answers(500, "")));
        // Which of its hosts a worker takes first is its own affair.
        world.becomes("outlier_detection.ejections_active", 2, true);
        world.until_workers_know();
        world.ask(9);
        world.statistics();
        world.events(2);
    };
    Scene { cluster: lasting(json!({"max_ejection_percent": 100})), does, ..Scene::default() }.run();
}

#[test]
fn gateways_that_fail() {
    let does = |world: &mut World| {
        for status in [502, 500, 503, 504, 503] {
            world.host(0, Does::Answers(status, ""));
            world.ask(2);
        }
        world.becomes("outlier_detection.ejections_detected_consecutive_gateway_failure", 1, false);
        world.statistics();
        world.events(1);
    };
    let gateway =
        json!({"consecutive_gateway_failure": 3, "consecutive_5xx": 100, "max_ejection_percent": 50});
    let mut enforced = gateway.clone();
    enforced["enforcing_consecutive_gateway_failure"] = json!(100);
    for more in [gateway, enforced] {
        Scene { hosts: 2, cluster: lasting(more), does, ..Scene::default() }.run();
    }
}

#[test]
fn what_fails_before_an_answer() {
    fn ask(world: &mut World) {
        world.ask(4);
        thread::sleep(Duration::from_millis(50)); // nobody says that nothing (more) is detected
        world.statistics();
    }
    let closes = |world: &mut World| {
        world.host(0, Does::Closes);
        ask(world);
    };
    let waits = |world: &mut World| {
        world.host(0, Does::Waits);
        ask(world);
    };
    let route = json!({"timeout": "0.1s"});
    let tries = json!({
        "timeout": "1s", "retry_policy": {"retry_on": "5xx", "num_retries": 1, "per_try_timeout": "0.05s"},
    });
    let hedged = json!({
        "timeout": "0.2s", "hedge_policy": {"hedge_on_per_try_timeout": true},
        "retry_policy": {"retry_on": "5xx", "num_retries": 1, "per_try_timeout": "0.05s"},
    });
    for split in [false, true] {
        let cluster = lasting(json!({
            "split_external_local_origin_errors": split, "consecutive_5xx": 4, "consecutive_gateway_failure": 4,
            "consecutive_local_origin_failure": 4, "max_ejection_percent": 100,
        }));
        let scene = |does, route: &Value| Scene {
            hosts: 1,
            cluster: cluster.clone(),
            route: route.clone(),
            does,
            ..Scene::default()
        };
        Scene { refusing: 1, ..scene(ask, &route) }.run();
        scene(closes, &route).run();
        scene(waits, &route).run();
        scene(waits, &tries).run();
        scene(waits, &hedged).run();
    }
}

#[test]
fn a_full_cluster_is_held_against_nobody() {
    let does = |world: &mut World| {
        world.ask(10);
        world.statistics();
    };
    let mut cluster = lasting(json!({"max_ejection_percent": 100}));
    cluster["circuit_breakers"] = json!({"thresholds": [{"max_requests": 0, "max_pending_requests": 0}]});
    Scene { cluster, does, ..Scene::default() }.run();
}

#[test]
fn success_rates_are_compared() {
    let does = |world: &mut World| {
        world.host(4, Does::Answers(500, ""));
        world.ask(60);
        world.becomes("outlier_detection.ejections_detected_success_rate", 1, false);
        world.statistics();
        world.clusters();
        world.events(2);
    };
    let detection = json!({
        "interval": "2s", "success_rate_minimum_hosts": 3, "success_rate_request_volume": 5,
        "success_rate_stdev_factor": 1000, "consecutive_5xx": 1000, "failure_percentage_request_volume": 5,
        "failure_percentage_minimum_hosts": 3,
    });
    Scene { hosts: 5, cluster: lasting(detection.clone()), does, ..Scene::default() }.run();
    let mut not_enforced = detection.clone();
    not_enforced["enforcing_success_rate"] = json!(0);
    not_enforced["enforcing_failure_percentage"] = json!(100);
    Scene { hosts: 5, cluster: lasting(not_enforced), does, ..Scene::default() }.run();
}

#[test]
fn rates_that_are_no_whole_numbers() {
    let does = |world: &mut World| {
        world.host(0, Does::Answers(500, ""));
        world.ask(4);
        world.host(0, SERVES);
        world.ask(8);
        thread::sleep(Duration::from_millis(2100)); // an interval
        world.clusters();
    };
    let detection = json!({
        "interval": "2s", "success_rate_minimum_hosts": 1, "success_rate_request_volume": 5,
        "split_external_local_origin_errors": true,
    });
    // Two thirds of two hosts' requests or so are not the same for both proxies: there is one.
    Scene { hosts: 1, cluster: lasting(detection), does, ..Scene::default() }.run();
}

#[test]
fn degraded_hosts() {
    let does = |world: &mut World| {
        world.host(0, Does::Answers(200, "x-envoy-degraded: yes\r\n"));
        world.ask(3);
        world.becomes("membership_degraded", 1, false);
        world.clusters();
        world.host(0, SERVES);
        world.becomes("membership_degraded", 0, false);
        world.host(1, Does::Answers(500, "x-envoy-degraded: yes\r\n"));
        world.until_workers_know();
        world.ask(15);
        world.ejected(1);
        world.events(3);
        world.statistics();
    };
    let detection =
        json!({"detect_degraded_hosts": true, "base_ejection_time": "1s", "max_ejection_percent": 34});
    Scene { cluster: quick(detection), does, ..Scene::default() }.run();
    let does = |world: &mut World| {
        world.host(0, Does::Answers(200, "x-envoy-degraded: yes\r\n"));
        world.ask(9);
        world.statistics();
    };
    Scene { cluster: quick(json!({})), does, ..Scene::default() }.run();
}

#[test]
fn runtime_has_the_last_word() {
    let does = |world: &mut World| {
        let set = |world: &World, query: &str| {
            let reply = world.proxy.admin.post(&format!("/runtime_modify?{query}")).expect("an answer");
            assert_eq!(reply.status, 200);
        };
        world.host(0, Does::Answers(500, ""));
        set(world, "outlier_detection.consecutive_5xx=2&outlier_detection.enforcing_consecutive_5xx=0");
        world.ask(4);
        world.becomes("outlier_detection.ejections_detected_consecutive_5xx", 1, false);
        set(
            world,
            "outlier_detection.enforcing_consecutive_5xx=100&outlier_detection.max_ejection_percent=10",
        );
        world.ask(4);
        world.becomes("outlier_detection.ejections_overflow", 1, false);
        set(world, "outlier_detection.max_ejection_percent=1000");
        world.ask(4);
        world.ejected(1);
        world.events(2);
        world.statistics();
    };
    Scene { hosts: 2, cluster: lasting(json!({})), does, ..Scene::default() }.run();
}

#[test]
fn with_retries_no_client_sees_it() {
    let does = |world: &mut World| {
        world.host(2, Does::Answers(500, ""));
        world.ask(30);
        world.ejected(1);
        world.statistics();
    };
    let route = json!({"retry_policy": {
        "retry_on": "5xx",
        "num_retries": 3,
        "retry_host_predicate": [{
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
            },
        }],
        "host_selection_retry_max_attempts": 5,
    }});
    Scene { cluster: lasting(json!({})), route, does, ..Scene::default() }.run();
}

#[test]
fn grpc_answers_have_a_status_of_their_own() {
    let does = |world: &mut World| {
        let grpc = "content-type: application/grpc\r\n";
        for lines in
            ["grpc-status: 14\r\n", "grpc-status: 5\r\n", "grpc-status: x\r\n", "grpc-status: 12\r\n"]
        {
            world.host(0, Does::Answers(200, lines));
            world.ask_with(2, grpc);
            world.ask_with(2, "");
        }
        thread::sleep(Duration::from_millis(50)); // nobody says that nothing more is detected
        world.statistics();
    };
    let detection =
        json!({"consecutive_5xx": 2, "consecutive_gateway_failure": 2, "enforcing_consecutive_5xx": 0});
    Scene { hosts: 1, cluster: lasting(detection), does, ..Scene::default() }.run();
}

/// What `--mode validate` says of a cluster and of where its events go.
fn validates(kind: Kind, detection: Value, path: &str) -> bool {
    let scene = Scene { cluster: json!({"outlier_detection": detection}), ..Scene::default() };
    let directory = new_directory(kind);
    let document = scene.bootstrap(&directory, &[1], std::path::Path::new(path));
    let file = directory.join("c.json");
    fs::write(&file, document.to_string()).expect("the configuration");
    let output = kind.run(&["--mode", "validate", "-c", &file.to_string_lossy()]);
    let _ = fs::remove_dir_all(directory);
    output.status.success()
}

#[test]
fn what_is_refused() {
    let cases = [
        (json!({}), "", true),
        (json!({"base_ejection_time": "400s"}), "", true),
        (json!({"base_ejection_time": "400s", "max_ejection_time": "300s"}), "", false),
        (json!({"max_ejection_time": "30s"}), "", true),
        (json!({"max_ejection_time": "29s"}), "", false),
        (json!({"max_ejection_percent": 101}), "", false),
        (json!({"enforcing_success_rate": 101}), "", false),
        (json!({"interval": "0s"}), "", false),
        (json!({"failure_percentage_threshold": 100}), "", true),
        (json!({"failure_percentage_threshold": 101}), "", false),
        (json!({"max_ejection_time_jitter": "0s"}), "", true),
        (json!({"consecutive_5xx": 0}), "", true),
        (json!({"consecutive_6xx": 0}), "", false),
    ];
    for (detection, path, want) in cases {
        for kind in proxies() {
            assert_eq!(validates(kind, detection.clone(), path), want, "{kind:?} and {detection}");
        }
    }
}
