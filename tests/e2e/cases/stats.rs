//! Stats of a few requests, under Envoy's names.

use super::{get, line};
use crate::harness::{Case, Site, proxies};
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
