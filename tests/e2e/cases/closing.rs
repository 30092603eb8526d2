//! Who closes when.

use super::{get, got, line, post, posted};
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
        Case::new("an old connection that is closed behind an answer alone")
            .hcm(json!({
                "common_http_protocol_options": {"max_connection_duration": "0.2s"}, "drain_timeout": "0.001s",
                "http1_safe_max_connection_duration": true,
            }))
            .send(direct())
            .reply(reply)
            .then(Step::Stat("http.{}.downstream_cx_max_duration_reached", 1))
            .send(direct())
            .reply(last)
            .closed(),
        Case::new("a connection that is old from the start")
            .hcm(json!({"common_http_protocol_options": {"max_connection_duration": "0s"}}))
            .then(Step::Stat("http.{}.downstream_cx_max_duration_reached", 1))
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
            .log("0 DC downstream_remote_disconnect cluster host"),
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

#[test]
fn by_the_client_behind_the_beginning_of_a_response() {
    let length = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut cases = Vec::new();
    for (head, seen, body) in [
        (length, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n{S}\r\n", "half"),
        (length, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n{S}\r\n", ""),
        (chunked, "HTTP/1.1 200 OK\r\n{S}transfer-encoding: chunked\r\n\r\n", "4\r\nhalf\r\n"),
    ] {
        for how in [Step::FinishWriting, Step::Leave] {
            let case = Case::new(format!("{how:?} behind {body} of {head}"))
                .send(get(""))
                .scripts([vec![Action::Head, Action::Send([head, body].concat().into_bytes())]])
                .then(Step::Has(b"\r\n\r\n".to_vec()))
                .then(Step::Has(body.as_bytes().to_vec()))
                .then(how)
                .then(Step::UpstreamClosed(1))
                .then(Step::Stat("http.{}.downstream_cx_destroy_remote_active_rq", 1));
            let case = case.reply(seen).reply(body).reaches(got("")).closed();
            cases.push(case.log("200 DC downstream_remote_disconnect cluster host"));
        }
    }
    run(cases);
}

#[test]
fn for_a_body_that_turns_out_to_be_bad() {
    let chunked = "transfer-encoding: chunked\r\n";
    let ended = |case: Case, active: u64| {
        case.then(Step::Stat("http.{}.downstream_cx_protocol_error", 1))
            .then(Step::Stat("http.{}.downstream_cx_destroy_active_rq", active))
            .then(Step::Stat("http.{}.downstream_cx_destroy_local_active_rq", active))
            .closed()
    };
    let at_once = Case::new("before there is a connection for it").send(post(chunked, "zz\r\n"));
    let later = Case::new("while the upstream works")
        .send(post(chunked, "2\r\nab\r\n"))
        .scripts([vec![Action::Head]])
        .then(Step::UpstreamHas(b"2\r\nab\r\n".to_vec()))
        .send("zz\r\n");
    let begun = Case::new("behind the beginning of the response")
        .send(post(chunked, "2\r\nab\r\n"))
        .scripts([vec![
            Action::Until(b"2\r\nab\r\n".to_vec()),
            Action::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec()),
        ]])
        .then(Step::Has(b"half".to_vec()))
        .send("zz\r\n");
    run(vec![
        ended(at_once, 0).reply(BAD_REQUEST).log("400 DPE http1.codec_error cluster host"),
        ended(later, 0)
            .reply(BAD_REQUEST)
            .reaches(posted("", "2\r\nab\r\n"))
            .log("400 DPE http1.codec_error cluster host"),
        ended(begun, 1)
            .reply("HTTP/1.1 200 OK\r\ncontent-length: 9\r\ndate: <D>\r\nserver: envoy\r\nconnection: close\r\n\r\nhalf")
            .reaches(posted("", "2\r\nab\r\n"))
            .log("200 DPE http1.codec_error cluster host"),
    ]);
}
