//! What legate does when it runs out of something, and that it gives back everything that it takes.

use super::{endpoint, get, join, line, post};
use crate::harness::{Case, Kind, Launch, PATIENCE, Site, Wire, serve_each};
use serde_json::json;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

/// A request that its own connection answers.
const DIRECT: &[u8] = b"GET /direct HTTP/1.1\r\nhost: a.test\r\n\r\n";

#[test]
fn out_of_descriptors_it_waits_for_connections_to_end() {
    let wrapper = ["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"];
    let launch = Launch { wrapper: &wrapper, ..Launch::default() };
    let mut site = Site::start_with(Kind::Legate, &[&Case::new("descriptors")], launch);
    // The kernel accepts them all; legate can take only the first of them.
    let mut clients: Vec<Wire> = (0..80).map(|_| Wire::connect(site.port(0))).collect();
    for client in &mut clients {
        assert!(client.send(DIRECT));
    }
    assert!(clients[0].answer(false).ends_with(b"direct"));
    // The admin interface would need a descriptor, so that the log has to tell.
    let deadline = Instant::now() + PATIENCE;
    while !site.proxy.log().contains("accept failure") {
        assert!(Instant::now() < deadline, "descriptors do not run out\n{}", site.proxy.log());
        thread::sleep(Duration::from_millis(5));
    }
    let mut last = clients.pop().expect("many");
    last.stream.set_nonblocking(true).expect("no waiting");
    assert_eq!(last.answer(false), b"", "it is served already");
    last.stream.set_nonblocking(false).expect("waiting");
    drop(clients);
    // They give their descriptors back one after the other, and the one that waits gets its turn.
    assert!(last.answer(false).ends_with(b"direct"));
    let failures = site.proxy.admin.stat("listener.127.0.0.1_0.downstream_cx_accept_failure");
    assert!(failures.is_some_and(|n| n > 0), "{failures:?}");
    assert_eq!(site.proxy.admin.wait_for_stat("http.case0.downstream_cx_active", 1), Ok(()));
    assert!(site.proxy.runs());
}

/// An upstream that does what the path says.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    serve_each(listener, |mut wire| {
        loop {
            let head = String::from_utf8_lossy(&wire.head()).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default();
            match path {
                "/short" | "/silent" => wire.rest().clear(),
                "/long" => {
                    let chunk = join(&[b"10000\r\n", &[b'x'; 65536], b"\r\n"]);
                    wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
                    while wire.send(&chunk) {}
                }
                "/upload" => while !wire.some().is_empty() {},
                "/reset" => return wire.reset(),
                "" | "/close" => return,
                _ => {
                    wire.take(if path == "/p" { 5 } else { 0 });
                    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                }
            }
        }
    })
}

/// What one of the clients does, `number` says which.
fn be_client(port: u16, number: usize) {
    let mut wire = Wire::connect(port);
    let mut says = |bytes: &[u8], end: &[u8]| {
        wire.send(bytes);
        let answer = wire.answer(false);
        assert!(answer.ends_with(end), "{number}: {}", answer.escape_ascii());
    };
    match number % 10 {
        0 => (0..5).for_each(|_| says(&get(""), b"ok")),
        1 => (0..3).for_each(|_| says(&post("content-length: 5\r\n", "hello"), b"ok")),
        2 => {
            wire.send(get(""));
            wire.finish_writing();
            wire.rest();
        }
        3 => {
            let head = b"POST /upload HTTP/1.1\r\nhost: a.test\r\ncontent-length: 9000000\r\n\r\n";
            wire.send(join(&[head, &[b'x'; 300_000]]));
            wire.reset();
        }
        4 => {
            wire.send(line("GET /long HTTP/1.1"));
            assert!(!wire.take(200_000).is_empty());
            wire.reset();
        }
        5 => (0..3).for_each(|_| says(&line("GET /refused HTTP/1.1"), b"remote connection failure")),
        6 => says(&line("GET /short HTTP/1.1"), b"upstream request timeout"),
        7 => {
            wire.send(get("").repeat(5));
            for _ in 0..5 {
                assert!(wire.answer(false).ends_with(b"ok"));
            }
        }
        8 => says(&line(if number < 10 { "GET /reset HTTP/1.1" } else { "GET /close HTTP/1.1" }), b""),
        _ => {
            wire.send(line("GET /silent HTTP/1.1"));
            wire.send("half a requ");
        }
    }
}

#[test]
fn everything_is_given_back_after_mixed_traffic() {
    let port = upstream().port();
    let tracked = json!({"track_remaining": true, "max_connections": 40});
    let mut cluster = endpoint(port);
    cluster["circuit_breakers"] = json!({"thresholds": [tracked]});
    let case =
        Case::new("mixed").cluster(cluster).listener(json!({"per_connection_buffer_limit_bytes": 8192}));
    let site = Site::start(Kind::Legate, &[&case]);
    let before = site.proxy.admin.stats();
    thread::scope(|scope| {
        for number in 0..30 {
            let port = site.port(0);
            scope.spawn(move || be_client(port, number));
        }
    });
    let gauges = [
        "http.case0.downstream_cx_active",
        "http.case0.downstream_rq_active",
        "http.case0.downstream_cx_rx_bytes_buffered",
        "http.case0.downstream_cx_tx_bytes_buffered",
        "listener.127.0.0.1_0.downstream_cx_active",
        "cluster.case0.upstream_rq_active",
        "cluster.case0.upstream_rq_pending_active",
        "cluster.case0.upstream_cx_rx_bytes_buffered",
        "cluster.case0.upstream_cx_tx_bytes_buffered",
        "cluster.case0.circuit_breakers.default.cx_open",
        "cluster.case0.circuit_breakers.default.rq_open",
        "cluster.case0.circuit_breakers.default.rq_pending_open",
        "cluster.case0.circuit_breakers.default.remaining_rq",
        "cluster.case0.circuit_breakers.default.remaining_pending",
        "cluster.refused.upstream_cx_active",
        "cluster.refused.upstream_rq_active",
        "cluster.refused.upstream_rq_pending_active",
        "cluster.refused.circuit_breakers.default.cx_open",
        "cluster.refused.circuit_breakers.default.rq_open",
    ];
    for gauge in gauges {
        let value = *before.get(gauge).unwrap_or_else(|| panic!("no {gauge}"));
        assert_eq!(site.proxy.admin.wait_for_stat(gauge, value), Ok(()), "{gauge}");
        let tracks = gauge.contains("remaining");
        assert!(tracks == (value > 0), "{gauge} is {value} at rest");
    }
    // Idle connections to the upstream stay, and count.
    let (after, breakers) = (site.proxy.admin.stats(), "cluster.case0.circuit_breakers.default");
    let connections = after["cluster.case0.upstream_cx_active"];
    assert_eq!(after[&format!("{breakers}.remaining_cx")], 40 - connections);
    for cluster in ["case0", "refused"] {
        let stat = |name: &str| after[&format!("cluster.{cluster}.upstream_cx_{name}")];
        assert_eq!(stat("total") - stat("destroy"), stat("active"), "{cluster}");
        assert_eq!(stat("destroy_local") + stat("destroy_remote"), stat("destroy"), "{cluster}");
    }
}
