//! The TCP proxy: what comes goes on as it is, and how the two connections end together.

use crate::harness::{Action, Case, Kind, PATIENCE, RefusingPort, Seen, Site, Step, Wire, proxies, run};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read};
use std::thread;
use std::time::{Duration, Instant};

/// Flags, bytes each way, where it went, how often that was tried and what is said of a failure.
const FORMAT: &str = "%RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER% %UPSTREAM_HOST% \
    %UPSTREAM_REQUEST_ATTEMPT_COUNT% %UPSTREAM_TRANSPORT_FAILURE_REASON% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% \
    %PROTOCOL% %UPSTREAM_PROTOCOL% %ACCESS_LOG_TYPE%\n";

fn case(name: &str, over: Value) -> Case {
    Case::new(name).tcp_proxy(over).log_format(FORMAT)
}

fn script(actions: &[Action]) -> [Vec<Action>; 1] {
    [actions.to_vec()]
}

#[test]
fn data() {
    let large = "0123456789abcdef".repeat(1 << 13);
    run(vec![
        case("the client speaks first, and ends its half", json!({}))
            .send("ping")
            .scripts(script(&[
                Action::Until(b"ping".to_vec()),
                Action::Send(b"pong".to_vec()),
                Action::ClientHas(b"pong".to_vec()),
                Action::Until(b"last".to_vec()),
                Action::Send(b"bye".to_vec()),
                Action::Close,
            ]))
            .then(Step::Has(b"pong".to_vec()))
            .send("last")
            .then(Step::FinishWriting)
            .reply("pongbye")
            .reaches("pinglast")
            .closed()
            .then(Step::Stat("tcp.{}.downstream_cx_total", 1))
            .then(Step::Stat("tcp.{}.downstream_cx_rx_bytes_total", 8))
            .then(Step::Stat("tcp.{}.downstream_cx_tx_bytes_total", 7))
            .then(Step::Stat("cluster.{}.upstream_cx_tx_bytes_total", 8))
            .then(Step::Stat("cluster.{}.upstream_cx_rx_bytes_total", 7))
            .then(Step::Stat("cluster.{}.upstream_cx_active", 0))
            .then(Step::Stat("cluster.{}.upstream_cx_total", 1))
            .then(Step::Stat("cluster.{}.upstream_rq_total", 1))
            .then(Step::Stat("cluster.{}.upstream_rq_active", 0))
            .then(Step::Stat("cluster.{}.upstream_cx_destroy_with_active_rq", 1))
            .log("- 8 7 cluster host 1 - 0 - - - TcpConnectionEnd"),
        case("the upstream speaks first, and ends it", json!({}))
            .scripts(script(&[
                Action::Send(b"220 hello".to_vec()),
                Action::ClientHas(b"220 hello".to_vec()),
                Action::Close,
            ]))
            .reply("220 hello")
            .closed()
            .log("- 0 9 cluster host 1 - 0 - - - TcpConnectionEnd"),
        case("the upstream ends its half", json!({}))
            .scripts(script(&[
                Action::Send(b"220 hello".to_vec()),
                Action::FinishWriting,
                Action::Until(b"more".to_vec()),
            ]))
            .then(Step::Has(b"220 hello".to_vec()))
            .send("and more")
            .then(Step::UpstreamHas(b"and more".to_vec()))
            .then(Step::FinishWriting)
            .reply("220 hello")
            .reaches("and more")
            .closed(),
        case("the upstream resets", json!({}))
            .send("ping")
            .scripts(script(&[Action::Until(b"ping".to_vec()), Action::Reset]))
            .reply("")
            .reaches("ping")
            .closed()
            .then(Step::Stat("cluster.{}.upstream_cx_destroy_remote", 1))
            .log("UR 4 0 cluster host 1 - 0 - - - TcpConnectionEnd"),
        case("much, both ways at once", json!({}))
            .send(format!("{large}up"))
            .scripts(script(&[
                Action::Send(format!("{large}down").into()),
                Action::Until(b"up".to_vec()),
                Action::ClientHas(b"down".to_vec()),
                Action::Close,
            ]))
            .reply(format!("{large}down"))
            .reaches(format!("{large}up"))
            .closed(),
        case("what the client leaves behind is written", json!({}))
            .send(format!("{large}up"))
            .scripts(script(&[Action::Pause(100), Action::Until(b"up".to_vec()), Action::Close]))
            .then(Step::Leave)
            .reply("")
            .reaches(format!("{large}up"))
            .closed()
            .then(Step::Stat("tcp.{}.upstream_flush_active", 0))
            .then(Step::Stat("cluster.{}.upstream_cx_active", 0)),
    ]);
}

#[test]
fn nobody_is_there() {
    let ends = |name: &str, over: Value, log: &'static str| {
        case(name, over).send("early").reply("").closed().log(log)
    };
    run(vec![
        ends(
            "refused",
            json!({"cluster": "refused"}),
            "UF,URX 0 0 cluster host 1 delayed_connect_error:_Connection_refused 0 - - - TcpConnectionEnd",
        ),
        ends(
            "refused three times",
            json!({"cluster": "refused", "max_connect_attempts": 3}),
            "UF,URX 0 0 cluster host 3 delayed_connect_error:_Connection_refused 0 - - - TcpConnectionEnd",
        ),
        ends(
            "refused with a pause",
            json!({"cluster": "refused", "max_connect_attempts": 2, "backoff_options": {"base_interval": "0.01s"}}),
            "UF,URX 0 0 cluster host 2 delayed_connect_error:_Connection_refused 0 - - - TcpConnectionEnd",
        ),
        ends("no host", json!({"cluster": "nohosts"}), "UH 0 0 cluster - 0 - 0 - - - TcpConnectionEnd"),
        ends("no cluster", json!({"cluster": "nowhere"}), "NC 0 0 - - 0 - 0 - - - TcpConnectionEnd")
            .then(Step::Stat("tcp.{}.downstream_cx_no_route", 1)),
        ends("no room", json!({}), "UO 0 0 cluster - 0 - 0 - - - TcpConnectionEnd")
            .cluster(json!({"circuit_breakers": {"thresholds": [{"max_connections": 0}]}}))
            .then(Step::Stat("cluster.{}.upstream_cx_overflow", 1)),
        ends(
            "no request may wait, ten times",
            json!({"cluster": "full", "max_connect_attempts": 10}),
            "URX 0 0 cluster - 10 - 0 - - - TcpConnectionEnd",
        ),
        ends(
            "one of several",
            json!({"cluster": null, "weighted_clusters": {"clusters": [
                {"name": "nohosts", "weight": 1}, {"name": "nohosts", "weight": 4000000000u32}]}}),
            "UH 0 0 cluster - 0 - 0 - - - TcpConnectionEnd",
        ),
    ]);
}

#[test]
fn time() {
    let hello = || script(&[Action::Send(b"hello".to_vec())]);
    run(vec![
        case("nothing goes on", json!({"idle_timeout": "0.2s"}))
            .scripts(hello())
            .then(Step::UpstreamClosed(1))
            .then(Step::Stat("tcp.{}.idle_timeout", 1))
            .reply("hello")
            .closed()
            .log("- 0 5 cluster host 1 - 0 - - - TcpConnectionEnd"),
        case("what goes on is not idle", json!({"idle_timeout": "0.3s"}))
            .scripts(script(&[
                Action::Pause(200),
                Action::Send(b"a".to_vec()),
                Action::Pause(200),
                Action::Send(b"b".to_vec()),
                Action::Pause(200),
                Action::Send(b"c".to_vec()),
                Action::Close,
            ]))
            .then(Step::Stat("tcp.{}.idle_timeout", 0))
            .reply("abc")
            .closed()
            .log("- 0 3 cluster host"),
        case("it lasts too long", json!({"max_downstream_connection_duration": "0.2s"}))
            .scripts(hello())
            .then(Step::UpstreamClosed(1))
            .then(Step::Stat("tcp.{}.max_downstream_connection_duration", 1))
            .reply("hello")
            .closed()
            .log("DT 0 5 cluster host 1 - 0 - - - TcpConnectionEnd"),
        case(
            "it is logged before it ends",
            json!({"access_log_options": {"flush_access_log_on_start": true, "flush_access_log_on_connected": true,
                "access_log_flush_interval": "0.2s"}, "max_downstream_connection_duration": "0.3s"}),
        )
        .scripts(hello())
        .reply("hello")
        .closed()
        .log("- 0 0 - - 0 - 0 - - - TcpConnectionStart")
        .log("- 0 0 cluster host 1 - 0 - - - TcpUpstreamConnected")
        .log("- 0 5 cluster host 1 - 0 - - - TcpPeriodic")
        .log("DT 0 5 cluster host 1 - 0 - - - TcpConnectionEnd"),
    ]);
}

/// A client ends while much is left to be written to its upstream, and then the proxy ends.
#[test]
fn what_is_flushed() {
    for kind in proxies() {
        let large = "x".repeat(8 << 20);
        let case = case("flushed", json!({}))
            .cluster(json!({"per_connection_buffer_limit_bytes": 64 << 20}))
            .scripts(script(&[Action::FinishWriting, Action::Pause(60_000)]));
        let mut site = Site::start(kind, &[&case]);
        let mut client = Wire::connect(site.port(0));
        assert!(client.send(&large));
        let stat = |name: &str, value: u64| {
            let outcome = site.proxy.admin.wait_for_stat(&format!("tcp.case0.{name}"), value);
            assert_eq!(outcome, Ok(()), "{kind:?}: {name}");
        };
        assert_eq!(client.rest(), b"", "{kind:?}");
        client.finish_writing();
        stat("upstream_flush_active", 1);
        stat("upstream_flush_total", 1);
        site.proxy.signal(Signal::SIGTERM);
        let end = site.proxy.wait_for_exit(PATIENCE);
        assert!(end.is_some_and(|end| end.success()), "{kind:?}: {end:?} {}", site.proxy.log());
    }
}

/// Who resets resets the other side, too.
#[test]
fn resets() {
    for kind in proxies() {
        let case = case("resets", json!({}))
            .scripts([vec![Action::Until(b"a".to_vec()), Action::Reset], vec![Action::Send(b"b".to_vec())]]);
        let site = Site::start(kind, &[&case]);
        let mut client = Wire::connect(site.port(0));
        client.send("a");
        let error = client.stream.read(&mut [0]).expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{kind:?}");
        let mut client = Wire::connect(site.port(0));
        assert_eq!(client.take(1), b"b");
        client.reset();
        let is_reset = |seen: &Seen| seen.upstreams.iter().any(|upstream| upstream.reset_by_proxy);
        assert!(site.boards[0].wait(PATIENCE, is_reset), "{kind:?}: the upstream is not reset");
        let log = || std::fs::read_to_string(site.access_log(0)).unwrap_or_default();
        let flags = || log().lines().map(|line| line.split(' ').next().unwrap_or("").to_string()).collect();
        let deadline = Instant::now() + PATIENCE;
        while log().lines().count() < 2 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10)); // access logs are flushed by a timer
        }
        let flags: Vec<String> = flags();
        assert_eq!(flags, ["UR", "-"], "{kind:?}");
    }
}

/// Attempts that fail at once are made one after the other, and not one within the other.
#[test]
fn many_attempts() {
    let many = |cluster: &str| json!({"cluster": cluster, "max_connect_attempts": 20_000});
    let cases = [case("refused", many("refused")), case("full", many("full"))];
    let site = Site::start(Kind::Legate, &[&cases[0], &cases[1]]);
    for (number, flags) in [(0, "UF,URX"), (1, "URX")] {
        let mut client = Wire::connect(site.port(number));
        assert_eq!(client.rest(), b"");
        let log = || std::fs::read_to_string(site.access_log(number)).unwrap_or_default();
        let deadline = Instant::now() + PATIENCE;
        while log().is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10)); // access logs are flushed by a timer
        }
        let attempts = log().split(' ').nth(5).map(str::to_string);
        assert_eq!((log().split(' ').next(), attempts.as_deref()), (Some(flags), Some("20000")));
    }
}

/// A host that refuses connections is ejected, and gets none then.
#[test]
fn outliers() {
    let refusing = RefusingPort::new();
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": refusing.port()}});
    let detection = json!({"consecutive_5xx": 3, "interval": "60s", "base_ejection_time": "60s",
        "max_ejection_percent": 50});
    for kind in proxies() {
        let mut case = case("outliers", json!({}))
            .cluster(json!({"outlier_detection": detection}))
            .scripts(vec![vec![Action::Send(b"hello".to_vec()), Action::Close]; 100]);
        case.other_hosts = vec![json!({"endpoint": {"address": address}})];
        let site = Site::start(kind, &[&case]);
        let ask = || Wire::connect(site.port(0)).rest();
        let ejected = "cluster.case0.outlier_detection.ejections_active";
        let mut refused = 0;
        while site.proxy.admin.stat(ejected) != Some(1) {
            refused += usize::from(ask().is_empty());
            assert!(refused < 20, "{kind:?}: nothing is ejected");
        }
        // Changes of hosts come to Envoy's workers at most once a second.
        thread::sleep(Duration::from_millis(1100));
        (0..10).for_each(|_| assert_eq!(ask(), b"hello", "{kind:?}"));
        let detected = "cluster.case0.outlier_detection.ejections_enforced_consecutive_5xx";
        assert_eq!(site.proxy.admin.stat(detected), Some(1), "{kind:?}");
    }
}
