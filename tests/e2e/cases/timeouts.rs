//! Times that run out.

use super::{get, got, line, post};
use crate::harness::{Action, Case, End, OK, PATIENCE, Seen, Site, Step, Wire, proxies, run};
use serde_json::json;
use std::thread;
use std::time::{Duration, Instant};

fn text(status: &str, close: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\ncontent-type: text/plain\r\n{{DS}}{close}\r\n{body}"
    )
}

#[test]
fn of_routes() {
    let silent = || vec![vec![Action::Head]];
    let short = "x-forwarded-proto: http\r\nx-request-id: <ID>\r\nx-envoy-expected-rq-timeout-ms: 200\r\n";
    run(vec![
        Case::new("no answer")
            .send(line("GET /short HTTP/1.1"))
            .scripts(silent())
            .reply(text("504 Gateway Timeout", "", "upstream request timeout"))
            .reaches(format!("GET /short HTTP/1.1\r\nhost: a.test\r\n{short}\r\n"))
            .log("504 UT response_timeout"),
        Case::new("no answer to HEAD")
            .send(line("HEAD /short HTTP/1.1"))
            .scripts(silent())
            .reply(
                "HTTP/1.1 504 Gateway Timeout\r\ncontent-length: 24\r\ncontent-type: text/plain\r\n{DS}\r\n",
            )
            .reaches(format!("HEAD /short HTTP/1.1\r\nhost: a.test\r\n{short}\r\n")),
        Case::new("no end of the answer")
            .send(line("GET /short HTTP/1.1"))
            .answer("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
            .reply("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n{S}\r\nabc")
            .reaches(format!("GET /short HTTP/1.1\r\nhost: a.test\r\n{short}\r\n"))
            .closed()
            .log("200 UT response_timeout"),
        Case::new("idle")
            .send(line("GET /idle HTTP/1.1"))
            .scripts(silent())
            .reply(text("504 Gateway Timeout", "", "stream timeout"))
            .reaches("GET /idle HTTP/1.1\r\nhost: a.test\r\n{X}\r\n")
            .log("504 SI stream_idle_timeout"),
        Case::new("none").send(line("GET /untimed HTTP/1.1")).reply(OK).reaches(
            "GET /untimed HTTP/1.1\r\nhost: a.test\r\nx-forwarded-proto: http\r\nx-request-id: <ID>\r\n\r\n",
        ),
    ]);
}

#[test]
fn below_a_millisecond() {
    let unit = "a duration is not cut off at milliseconds";
    let field = json!({"request_headers_timeout": "0.0009s"});
    let refused = text("408 Request Timeout", "connection: close\r\n", "request header timeout");
    run(vec![
        Case::new("part of a head").hcm(field).send("GET / HTTP/1.1\r\n").waits().legate_differs(
            unit,
            |expect| {
                expect.reply = refused.clone().into_bytes();
                expect.end = End::Closed;
            },
        ),
        Case::new("a millisecond is one in both")
            .hcm(json!({"request_headers_timeout": "0.001s"}))
            .send("GET / HTTP/1.1\r\n")
            .reply(&refused)
            .closed(),
    ]);
}

#[test]
fn of_the_connection_manager() {
    let close = "connection: close\r\n";
    let case = |name: &str, field: &str| Case::new(name).hcm(json!({field: "0.2s"}));
    let silent = || vec![vec![Action::Head]];
    run(vec![
        Case::new("a stream's duration")
            .hcm(json!({"common_http_protocol_options": {"max_stream_duration": "0.2s"}}))
            .send(get(""))
            .scripts(silent())
            .reply(text("504 Gateway Timeout", "", "downstream duration timeout"))
            .reaches(got(""))
            .log("504 - max_duration_timeout"),
        case("headers", "request_headers_timeout")
            .send("GET / HTTP/1.1\r\nho")
            .reply(text("408 Request Timeout", close, "request header timeout"))
            .closed()
            .log("408 - request_header_timeout"),
        case("headers, nothing sent", "request_headers_timeout").waits(),
        case("request, in the head", "request_timeout")
            .send("POST /p HTTP/1.1\r\n")
            .reply(text("408 Request Timeout", close, "request timeout"))
            .closed()
            .log("408 - request_overall_timeout"),
        case("request, in the body", "request_timeout")
            .send(post("content-length: 5\r\n", "he"))
            .scripts(silent())
            .reply(text("408 Request Timeout", close, "request timeout"))
            .reaches("POST /p HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5\r\n{X}\r\nhe")
            .closed(),
        case("idle stream, in the head", "stream_idle_timeout")
            .send("POST /p HTTP/1.1\r\nho")
            .reply(text("408 Request Timeout", close, "stream timeout"))
            .closed()
            .log("408 SI stream_idle_timeout"),
        case("idle stream, no answer", "stream_idle_timeout")
            .send(get(""))
            .scripts(silent())
            .reply(text("504 Gateway Timeout", "", "stream timeout"))
            .reaches(got(""))
            .log("504 SI stream_idle_timeout"),
        case("idle stream, no end of the answer", "stream_idle_timeout")
            .send(get(""))
            .answer("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")
            .reply("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n{S}\r\nabc")
            .then(Step::Stat("http.{}.downstream_rq_tx_reset", 1))
            .reaches(got(""))
            .closed()
            .log("200 SI stream_idle_timeout"),
        Case::new("idle connection")
            .hcm(json!({"common_http_protocol_options": {"idle_timeout": "0.2s"}}))
            .closed(),
        Case::new("idle connection after a request")
            .hcm(json!({"common_http_protocol_options": {"idle_timeout": "0.2s"}, "drain_timeout": "0.1s"}))
            .send(get(""))
            .reply(OK)
            .reaches(got(""))
            .closed(),
    ]);
}

#[test]
fn of_upstreams() {
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let limit = |field: &str| {
        json!({"typed_extension_protocol_options": {options: {
            "@type": format!("type.googleapis.com/{options}"),
            "common_http_protocol_options": {field: "0.2s"},
            "explicit_http_config": {"http_protocol_options": {}},
        }}})
    };
    let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec();
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no".to_vec();
    run(vec![
        Case::new("a stream's duration")
            .cluster(limit("max_stream_duration"))
            .send(get(""))
            .scripts([vec![Action::Head]])
            .then(Step::UpstreamClosed(1))
            .reply(text("504 Gateway Timeout", "", "upstream max stream duration reached"))
            .reaches(got(""))
            .log("504 UMSDR upstream_max_stream_duration_reached"),
        Case::new("a stream's duration, within the answer")
            .cluster(limit("max_stream_duration"))
            .send(get(""))
            .answer(half)
            .reply("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{S}\r\no")
            .reaches(got(""))
            .closed()
            .log("200 UMSDR upstream_max_stream_duration_reached"),
        Case::new("an idle connection's duration")
            .cluster(limit("max_connection_duration"))
            .send(get(""))
            .then(Step::Has(b"ok".to_vec()))
            .then(Step::UpstreamClosed(1))
            .send(get(""))
            .scripts([
                vec![Action::Head, Action::Send(ok.clone())],
                vec![Action::Head, Action::Send(ok.clone())],
            ])
            .reply(OK)
            .reply(OK)
            .reaches(got(""))
            .reaches(got("")),
        Case::new("a busy connection's duration")
            .cluster(limit("max_connection_duration"))
            .send(post("content-length: 1\r\n", ""))
            .scripts([vec![Action::Head, Action::Until(b"b".to_vec()), Action::Send(ok)]])
            .then(Step::Stat("cluster.{}.upstream_cx_max_duration_reached", 1))
            .send("b")
            .then(Step::UpstreamClosed(1))
            .reply(OK)
            .reaches("POST /p HTTP/1.1\r\nhost: a.test\r\ncontent-length: 1\r\n{X}\r\nb"),
    ]);
}

/// For how long something may be idle.
const IDLE: Duration = Duration::from_millis(400);

/// A request and its answer; then, when a timer of then would end soon, another one.
fn twice(wire: &mut Wire) {
    wire.send(get(""));
    wire.answer(false);
    thread::sleep(IDLE * 3 / 4);
    wire.send(get(""));
}

#[test]
fn a_stream_is_idle_from_its_own_begin() {
    let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec();
    let case = Case::new("idle").hcm(json!({"stream_idle_timeout": "0.4s"})).scripts([vec![
        Action::Head,
        Action::Send(ok),
        Action::Head,
    ]]);
    for kind in proxies() {
        let site = Site::start(kind, &[&case]);
        let mut wire = Wire::connect(site.port(0));
        twice(&mut wire);
        let begin = Instant::now();
        let answer = String::from_utf8_lossy(&wire.answer(false)).into_owned();
        let idle = begin.elapsed();
        assert!(answer.starts_with("HTTP/1.1 504 "), "{kind:?}: {answer}");
        assert!(idle + Duration::from_millis(10) >= IDLE, "{kind:?}: {idle:?}");
    }
}

#[test]
fn an_upstream_connection_is_idle_from_its_last_answer() {
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let limit = json!({"typed_extension_protocol_options": {options: {
        "@type": format!("type.googleapis.com/{options}"),
        "common_http_protocol_options": {"idle_timeout": "0.4s"},
        "explicit_http_config": {"http_protocol_options": {}},
    }}});
    let ok = || Action::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec());
    let case = Case::new("idle").cluster(limit).scripts([vec![Action::Head, ok(), Action::Head, ok()]]);
    for kind in proxies() {
        let site = Site::start(kind, &[&case]);
        let mut wire = Wire::connect(site.port(0));
        twice(&mut wire);
        let begin = Instant::now();
        wire.answer(false);
        let is_closed = |seen: &Seen| seen.upstreams.iter().any(|u| u.closed_by_proxy);
        assert!(site.boards[0].wait(PATIENCE, is_closed), "{kind:?}");
        let idle = begin.elapsed();
        assert!(idle + Duration::from_millis(10) >= IDLE, "{kind:?}: {idle:?}");
        let connections = site.boards[0].look(|seen| seen.upstreams.len());
        assert_eq!(connections, 1, "{kind:?}");
    }
}
