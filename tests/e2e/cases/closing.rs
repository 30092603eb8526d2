//! Who closes when.

use super::{get, got, line, post};
use crate::harness::{Action, BAD_REQUEST, Case, OK, Step, run};
use serde_json::json;

#[test]
fn delayed_close() {
    let times = |name: &str, time: &str| Case::new(name).hcm(json!({"delayed_close_timeout": time}));
    run(vec![
        times("off", "0s").send("BAD\r\n\r\n").reply(BAD_REQUEST).closed(),
        times("one second", "1s").send("BAD\r\n\r\n").reply(BAD_REQUEST).closed(),
        times("still open after the answer", "60s").send("BAD\r\n\r\n").reply(BAD_REQUEST).waits(),
        times("direct response", "60s")
            .send("GET /direct/empty HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .reply("HTTP/1.1 200 OK\r\n{DS}connection: close\r\ncontent-length: 0\r\n\r\n")
            .waits(),
        times("no delay after an upstream's answer", "60s")
            .send(get("connection: close\r\n"))
            .reply("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{S}connection: close\r\n\r\nok")
            .reaches(got(""))
            .closed(),
        times("no delay when the upstream refuses", "60s")
            .send("GET /refused HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .reply(
                "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 98\r\ncontent-type: text/plain\r\n{DS}\
                 connection: close\r\n\r\nupstream connect error or disconnect/reset before headers. \
                 reset reason: remote connection failure",
            )
            .closed(),
    ]);
}

#[test]
fn by_count_or_age() {
    let direct = || line("GET /direct/empty HTTP/1.1");
    let reply = "HTTP/1.1 200 OK\r\n{DS}content-length: 0\r\n\r\n";
    let last = "HTTP/1.1 200 OK\r\n{DS}connection: close\r\ncontent-length: 0\r\n\r\n";
    let count = json!({"common_http_protocol_options": {"max_requests_per_connection": 2}});
    run(vec![
        Case::new("the last request of a connection")
            .hcm(count.clone())
            .send([direct(), direct(), direct()].concat())
            .reply(reply)
            .reply(last)
            .closed(),
        Case::new("the last request of a connection, proxied")
            .hcm(count)
            .send([get(""), get("")].concat())
            .reply(OK)
            .reply("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{S}connection: close\r\n\r\nok")
            .reaches([got(""), got("")].concat())
            .closed(),
        Case::new("an old connection")
            .hcm(json!({
                "common_http_protocol_options": {"max_connection_duration": "0.2s"}, "drain_timeout": "0.1s",
            }))
            .closed(),
    ]);
}

#[test]
fn by_the_client() {
    let silent = || vec![vec![Action::Head]];
    run(vec![
        Case::new("idle").then(Step::FinishWriting).closed(),
        Case::new("in a head").send("GET /x HTTP/1.1\r\nho").then(Step::FinishWriting).closed(),
        Case::new("while the upstream works")
            .send(get(""))
            .then(Step::UpstreamHas(b"\r\n\r\n".to_vec()))
            .then(Step::FinishWriting)
            .then(Step::UpstreamClosed(1))
            .scripts(silent())
            .reaches(got(""))
            .closed()
            .log("0 DC downstream_remote_disconnect"),
        Case::new("in a body")
            .send(post("content-length: 5\r\n", "he"))
            .then(Step::UpstreamHas(b"\r\n\r\nhe".to_vec()))
            .then(Step::FinishWriting)
            .then(Step::UpstreamClosed(1))
            .scripts(silent())
            .reaches("POST /p HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5\r\n{X}\r\nhe")
            .closed()
            .log("0 DC downstream_remote_disconnect"),
    ]);
}
