//! Hosts that are asked whether they are well: what checks look like, and what clients, statistics, `/clusters` and the event
//! log say of hosts that are not.

mod world;

use crate::harness::{Kind, minimal, new_directory, proxies};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::sync::atomic::Ordering;
use std::time::Duration;
use world::Does::{Answers, Closes, Says, Waits};
use world::{DEGRADED, Does, EXCLUDED, FAILS, PASSES, Scene, World, http, often, once, tcp, with};

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
fn a_check_with_a_name_counts_under_it() {
    let does = |world: &mut World| {
        world.statistics();
        world.events(1);
    };
    Scene { check: once(json!({"name": "a.b"})), does, ..Scene::default() }.run();
}

/// Two checks, which ask for /x and /y.
fn two(more: &Value) -> Value {
    let of = |name: &str| {
        let check = json!({
            "name": name, "http_health_check": {"path": format!("/{name}")}, "healthy_threshold": 1,
            "always_log_health_check_failures": false, "always_log_health_check_success": false,
        });
        often(with(check, more))
    };
    json!([of("x"), of("y")])
}

#[test]
fn a_host_is_well_if_all_checks_find_it_so() {
    let does = |world: &mut World| {
        const GAUGES: [&str; 4] = ["healthy", "degraded", "excluded", "passive"];
        for (x, y, flags) in [
            (PASSES, PASSES, "healthy"),
            (FAILS, PASSES, "/failed_active_hc"),
            (FAILS, FAILS, "/failed_active_hc"),
            (PASSES, FAILS, "/failed_active_hc"),
            (PASSES, PASSES, "healthy"),
            (DEGRADED, PASSES, "/degraded_active_hc"),
            (DEGRADED, DEGRADED, "/degraded_active_hc"),
            (PASSES, DEGRADED, "/degraded_active_hc"),
            (PASSES, PASSES, "healthy"),
            (Answers(500, EXCLUDED, ""), PASSES, "/failed_active_hc"),
            (PASSES, PASSES, "healthy"),
            (Waits, PASSES, "/failed_active_hc/active_hc_timeout"),
            (PASSES, FAILS, "/failed_active_hc"),
            (PASSES, PASSES, "healthy"),
        ] {
            world.hosts[0].path("/x", x);
            world.hosts[0].path("/y", y);
            // Until what both have found is known.
            let asked = world.hosts[0].state.lock().expect("a state").seen.len();
            world.asked(0, asked + 6);
            world.flags(0, flags);
            let healthy = |does| u64::from(matches!(does, Answers(200, ..)));
            world.becomes("health_check.name.x.healthy", healthy(x));
            world.becomes("health_check.name.y.healthy", healthy(y));
            world.flags(0, flags);
            world.statistics_of(&GAUGES.map(|gauge| match gauge {
                "healthy" => "health_check.healthy",
                "degraded" => "health_check.degraded",
                "excluded" => "membership_excluded",
                _ => "passive_failure",
            }));
        }
        world.hosts[0].requests(Answers(200, EXCLUDED, ""));
        world.ask(1);
        world.becomes("health_check.name.y.passive_failure", 1);
        world.flags(0, "healthy");
        world.statistics_of(&["passive_failure", "cluster.a.membership_"]);
        world.events(22);
    };
    Scene { check: two(&json!({})), does, ..Scene::default() }.run();
}

#[test]
fn the_first_round_is_over_when_all_checks_have_asked() {
    let does =
        |world: &mut World| world.statistics_of(&["cluster.a.membership_", "network_failure", "x.attempt"]);
    let mut checks = two(&json!({}));
    checks[0] =
        with(checks[0].clone(), &json!({"timeout": "0.6s", "interval": "60s", "no_traffic_interval": "60s"}));
    checks[0]["http_health_check"] = json!({"path": "/hc"});
    let hosts = vec![vec![Waits]];
    checks[1]["tcp_health_check"] = json!({});
    checks[1]["http_health_check"] = Value::Null;
    Scene { hosts, check: checks, does, ..Scene::default() }.run();
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

#[test]
fn configurations_that_are_refused() {
    let range = |field: &str, start: i64, end: i64| {
        let mut check = json!({});
        check[field] = json!([{"start": start, "end": end}]);
        http(check)
    };
    let endpoint = |config: Value| json!({"health_check_config": config});
    let pipe = json!({"address": {"pipe": {"path": "/tmp/x"}}, "health_check_config": {"port_value": 5}});
    let name = json!({"address": {"socket_address": {"address": "a.name", "port_value": 1}}});
    let header = |value: &str| json!([{"header": {"key": "x", "value": value}}]);
    for (check, endpoint, words) in [
        (
            range("expected_statuses", 200, 200),
            json!({}),
            "Invalid http expected status range: expecting start < end, but found start=200 and end=200",
        ),
        (
            range("expected_statuses", 99, 200),
            json!({}),
            "Invalid http expected status range: expecting start >= 100, but found start=99",
        ),
        (
            range("retriable_statuses", 500, 601),
            json!({}),
            "Invalid http retriable status range: expecting end <= 600, but found end=601",
        ),
        (http(json!({"receive": [{"text": "0"}]})), json!({}), "invalid hex string '0'"),
        (tcp(json!({"send": {"text": "xx"}})), json!({}), "invalid hex string 'xx'"),
        (tcp(json!({"send": {"text": ""}})), json!({}), "at least 1"),
        (tcp(json!({"receive": [{}]})), json!({}), "is required"),
        (
            http(json!({"method": "DELETE", "send": {"text": "00"}})),
            json!({}),
            "HTTP health check cannot specify a request payload with method 'DELETE'. Only methods that support a request \
             body (POST, PUT, PATCH, OPTIONS) can be used with payload.",
        ),
        (http(json!({"method": "CONNECT"})), json!({}), "ethod"),
        (http(json!({"request_headers_to_add": header("%NOPE%")})), json!({}), "NOPE"),
        (json!({"timeout": "0s"}), json!({}), "imeout"),
        (json!({"unhealthy_threshold": null}), json!({}), "nhealthy"),
        (json!({"http_health_check": null}), json!({}), "required"),
        (
            json!([{"name": "a"}, {}]),
            json!({}),
            "health check at index 1 is missing a name; all health checks must have a name when multiple health checks are \
             configured",
        ),
        (
            json!([{"name": "a"}, {"name": "a"}]),
            json!({}),
            "duplicate health check name 'a' at index 1; all health check names must be unique within a cluster",
        ),
        (json!({}), pipe, "Invalid host configuration: non-zero port for non-IP address"),
        (json!({}), endpoint(name), "malformed IP address: a.name"),
    ] {
        for kind in proxies() {
            let directory = new_directory(kind);
            let mut document = minimal(&directory);
            let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": 1}});
            let endpoint = with(json!({"address": address}), &endpoint);
            let checks = match &check {
                Value::Array(checks) => checks.iter().map(|check| often(check.clone())).collect(),
                check => vec![often(check.clone())],
            };
            document["static_resources"] = json!({"clusters": [{
                "name": "a", "health_checks": checks,
                "load_assignment": {"cluster_name": "a", "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]},
            }]});
            let output = kind.run(&["--mode", "validate", "--config-yaml", &document.to_string()]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && said.contains(words), "{kind:?} of {check}: {said}");
            let _ = fs::remove_dir_all(directory);
        }
    }
}
