//! Stats of a few requests, under Envoy's names.

use super::{get, line};
use crate::harness::{BAD_REQUEST, Case, Site, Step, UPGRADE_REQUIRED, proxies, run};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;

#[test]
fn of_requests() {
    for kind in proxies() {
        let case = Case::new("stats");
        let site = Site::start(kind, &[&case]);
        let mut client = TcpStream::connect(("127.0.0.1", site.port(0))).expect("a connection");
        let mut answers = Vec::new();
        let first = [get(""), get(""), line("GET /refused HTTP/1.1"), line("GET /direct HTTP/1.1")].concat();
        client.write_all(&first).expect("the requests sent");
        while !answers.ends_with(b"\r\n\r\ndirect") {
            let mut bytes = [0; 4096];
            match client.read(&mut bytes) {
                Ok(n) if n > 0 => answers.extend_from_slice(&bytes[..n]),
                end => panic!("{kind:?}: {end:?} after {}", answers.escape_ascii()),
            }
        }
        client.write_all(b"GET /x HTTP/1.1\r\nhost: none.test\r\n\r\nBAD\r\n\r\n").expect("the rest sent");
        let _ = client.read_to_end(&mut answers);
        assert!(answers.ends_with(b"Bad Request"), "{}", answers.escape_ascii());
        for (name, value) in [
            ("http.case0.downstream_cx_total", 1),
            ("http.case0.downstream_cx_active", 0),
            ("http.case0.downstream_cx_protocol_error", 1),
            ("http.case0.downstream_rq_total", 6),
            ("http.case0.downstream_rq_active", 0),
            ("http.case0.downstream_rq_http1_total", 6),
            ("http.case0.downstream_rq_completed", 6),
            ("http.case0.downstream_rq_2xx", 3),
            ("http.case0.downstream_rq_4xx", 2),
            ("http.case0.downstream_rq_5xx", 1),
            ("http.case0.no_route", 1),
            ("http.case0.rq_direct_response", 1),
            ("cluster.case0.upstream_cx_total", 1),
            ("cluster.case0.upstream_cx_active", 1),
            ("cluster.case0.upstream_rq_total", 2),
            ("cluster.case0.upstream_rq_completed", 2),
            ("cluster.case0.upstream_rq_200", 2),
            ("cluster.case0.upstream_rq_2xx", 2),
            ("cluster.case0.upstream_rq_active", 0),
            ("cluster.refused.upstream_cx_connect_fail", 1),
            ("cluster.refused.upstream_rq_503", 1),
            ("cluster.refused.upstream_rq_pending_failure_eject", 1),
        ] {
            let waited = site.proxy.admin.wait_for_stat(name, value);
            assert_eq!(waited, Ok(()), "{kind:?}: {name} should be {value}");
        }
    }
}

#[test]
fn of_refused_requests() {
    let refused = |name: &str, request: Vec<u8>, reply: &[u8], protocol_errors: u64| {
        let case = Case::new(name).send(request).reply(reply).closed();
        let case = case.then(Step::Stat("http.{}.downstream_cx_protocol_error", protocol_errors));
        [
            "http.{}.downstream_rq_response_before_rq_complete",
            "http.{}.downstream_rq_rx_reset",
            "http.{}.downstream_rq_completed",
            "http.{}.downstream_rq_4xx",
        ]
        .into_iter()
        .fold(case, |case, stat| case.then(Step::Stat(stat, 1)))
    };
    let underscore = refused("an underscore", get("a_b: 1\r\n"), BAD_REQUEST, 1)
        .then(Step::Stat("http1.requests_rejected_with_underscores_in_headers", 1));
    let reject = json!({"headers_with_underscores_action": "REJECT_REQUEST"});
    let upgrade = b"HTTP/1.1 403 Forbidden\r\n{DS}connection: close\r\ncontent-length: 0\r\n\r\n";
    let connect = b"HTTP/1.1 404 Not Found\r\n{DS}connection: close\r\ncontent-length: 0\r\n\r\n";
    run(vec![
        refused("version", line("GET /x HTTP/1.0"), UPGRADE_REQUIRED, 1),
        refused(
            "version, with a body to come",
            b"POST /x HTTP/1.0\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n".to_vec(),
            UPGRADE_REQUIRED,
            1,
        ),
        refused("connection", get("connection: x-forwarded-for\r\n"), BAD_REQUEST, 1),
        underscore.hcm(json!({"common_http_protocol_options": reject})),
        refused("authority", line("GET http://a\"b/ HTTP/1.1"), BAD_REQUEST, 1),
        refused("CONNECT", line("CONNECT a:80 HTTP/1.1"), connect, 0),
        refused("upgrade", get("connection: upgrade\r\nupgrade: foo\r\n"), upgrade, 0)
            .then(Step::Stat("http.{}.downstream_rq_ws_on_non_ws_route", 1)),
    ]);
}

#[test]
fn of_the_server() {
    for kind in proxies() {
        let site = Site::start(kind, &[]);
        let ready = site.proxy.admin.get("/ready").expect("an answer");
        assert_eq!((ready.status, ready.body.as_slice()), (200, b"LIVE\n".as_slice()), "{kind:?}");
        assert!(
            ready.header("content-type").is_some_and(|t| t.starts_with("text/plain")),
            "{kind:?}: {ready:?}"
        );
        assert_eq!(site.proxy.admin.stat("server.live"), Some(1), "{kind:?}");
        assert_eq!(site.proxy.admin.stat("server.concurrency"), Some(1), "{kind:?}");
        assert_eq!(site.proxy.admin.stat("no.such.stat"), None, "{kind:?}");
    }
}
