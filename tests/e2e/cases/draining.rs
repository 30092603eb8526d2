//! `/drain_listeners` and `--drain-strategy`: who is refused, who is still served, and whose connection closes.

use super::get;
use crate::harness::{Case, Kind, Launch, ParsedReply, Site, Wire, proxies};
use serde_json::json;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpStream};

/// Listeners of both directions, and one that says nothing.
const IN: usize = 0;
const OUT: usize = 1;
const OTHER: usize = 2;

/// A proxy with these listeners and two workers, started with further arguments.
fn site(kind: Kind, arguments: &str) -> Site {
    let cases = [("in", "INBOUND"), ("out", "OUTBOUND"), ("other", "UNSPECIFIED")]
        .map(|(name, direction)| Case::new(name).listener(json!({"traffic_direction": direction})));
    let exec = format!("exec \"$0\" \"$@\" {arguments}");
    let launch = Launch { wrapper: &["sh", "-c", &exec], workers: 2, ..Launch::default() };
    Site::start_with(kind, &cases.each_ref(), launch)
}

/// The answer of the admin interface to a POST.
fn post(site: &Site, path: &str) -> ParsedReply {
    let mut client = Wire::connect(site.proxy.admin.address.port());
    client.send(format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"));
    ParsedReply::parse(&client.rest()).expect("an answer")
}

fn drain(site: &Site, query: &str) {
    let reply = post(site, &format!("/drain_listeners{query}"));
    assert_eq!((reply.status, reply.body.as_slice()), (200, b"OK\n".as_slice()), "{query}");
}

fn stopped(site: &Site, count: u64) {
    assert_eq!(site.proxy.admin.wait_for_stat("listener_manager.listener_stopped", count), Ok(()));
}

fn is_refused(site: &Site, listener: usize) -> bool {
    match TcpStream::connect((Ipv4Addr::LOCALHOST, site.port(listener))) {
        Ok(_) => false,
        Err(error) => error.kind() == ErrorKind::ConnectionRefused,
    }
}

/// Whether a request is answered with the end of its connection.
fn closes(client: &mut Wire) -> bool {
    client.send(get(""));
    let answer = client.answer(false);
    assert!(answer.ends_with(b"ok"), "{}", answer.escape_ascii());
    answer.windows(19).any(|text| text == b"connection: close\r\n")
}

/// Of 30 requests, each on its own connection, those whose answer closes it.
fn closing(site: &Site, listener: usize) -> usize {
    (0..30).filter(|_| closes(&mut Wire::connect(site.port(listener)))).count()
}

#[test]
fn stopped_listeners_refuse_at_once_and_connections_stay() {
    for kind in proxies() {
        let site = site(kind, "--drain-time-s 600");
        let mut clients = [IN, OUT, OTHER].map(|listener| Wire::connect(site.port(listener)));
        assert!(!clients.iter_mut().any(closes), "{kind:?}");
        drain(&site, "?skip_exit");
        drain(&site, "?inboundonly");
        stopped(&site, 1);
        assert!(is_refused(&site, IN) && !is_refused(&site, OUT) && !is_refused(&site, OTHER), "{kind:?}");
        assert!(!clients.iter_mut().any(closes), "{kind:?}");
        drain(&site, "");
        drain(&site, "");
        stopped(&site, 3);
        assert!([IN, OUT, OTHER].iter().all(|listener| is_refused(&site, *listener)), "{kind:?}");
        assert!(!clients.iter_mut().any(closes), "{kind:?}");
        assert_eq!(site.proxy.admin.get("/ready").map(|reply| reply.status), Some(200), "{kind:?}");
        assert_eq!(site.proxy.admin.stat("listener_manager.total_listeners_active"), Some(3), "{kind:?}");
        assert_eq!(site.proxy.admin.listeners().len(), 3, "{kind:?}");
    }
}

#[test]
fn connections_of_stopped_listeners_are_drained() {
    for kind in proxies() {
        let site = site(kind, "--drain-time-s 600 --drain-strategy immediate");
        let mut clients = [IN, OUT, OTHER].map(|listener| Wire::connect(site.port(listener)));
        assert!(!clients.iter_mut().any(closes), "{kind:?}");
        drain(&site, "?inboundonly");
        assert_eq!(clients.each_mut().map(closes), [true, false, false], "{kind:?}");
    }
}

#[test]
fn a_graceful_drain_serves_for_its_time_and_then_refuses() {
    for kind in proxies() {
        let site = site(kind, "--drain-time-s 2 --drain-strategy immediate");
        assert_eq!(closing(&site, IN), 0, "{kind:?}");
        drain(&site, "?graceful&inboundonly");
        assert_eq!((closing(&site, IN), closing(&site, OUT)), (30, 0), "{kind:?}");
        drain(&site, "?graceful&inboundonly");
        stopped(&site, 1);
        assert!(is_refused(&site, IN) && !is_refused(&site, OUT), "{kind:?}");
        drain(&site, "?graceful");
        assert_eq!((closing(&site, OUT), closing(&site, OTHER)), (30, 30), "{kind:?}");
        stopped(&site, 3);
        assert!(is_refused(&site, OUT) && is_refused(&site, OTHER), "{kind:?}");
    }
}

#[test]
fn skip_exit_keeps_serving() {
    for kind in proxies() {
        let site = site(kind, "--drain-time-s 0");
        drain(&site, "?graceful&skip_exit");
        assert_eq!([IN, OUT, OTHER].map(|listener| closing(&site, listener)), [30; 3], "{kind:?}");
        assert_eq!(site.proxy.admin.stat("listener_manager.listener_stopped"), Some(0), "{kind:?}");
        // A drain that has begun is not begun again.
        drain(&site, "?graceful");
        assert_eq!(closing(&site, OUT), 30, "{kind:?}");
        drain(&site, "");
        stopped(&site, 3);
        assert!(is_refused(&site, OUT), "{kind:?}");
    }
}

#[test]
fn only_post_drains() {
    for kind in proxies() {
        let site = site(kind, "");
        let reply = site.proxy.admin.get("/drain_listeners").expect("an answer");
        assert_eq!(
            (reply.status, reply.body.as_slice()),
            (405, b"Method GET not allowed, POST required.".as_slice())
        );
        assert!(!is_refused(&site, OTHER), "{kind:?}");
    }
}
