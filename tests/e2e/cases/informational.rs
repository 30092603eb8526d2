//! Informational (1xx) heads before a response: which reach the client, what they count as, and what becomes of the
//! request when no response follows.

use super::{get, got, odd, post};
use crate::harness::{Action, CONNECTION_TERMINATED, Case, OK, PROTOCOL_ERROR, Step, run};
use serde_json::{Value, json};

const SERVED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn passing() -> Value {
    json!({"proxy_100_continue": true})
}

/// A request that gets these heads and then a response.
fn before_ok(heads: &str) -> Case {
    odd(heads).send(get("")).answer(format!("{heads}{SERVED}")).reaches(got(""))
}

/// What has to be counted; a name is within the case's cluster or connection manager.
fn counts(mut case: Case, stats: &[(&'static str, u64)]) -> Case {
    for &(name, value) in stats {
        case = case.then(Step::Stat(name, value));
    }
    case
}

#[test]
fn the_first_one_is_passed_on_where_that_is_asked_for() {
    let head = |status: &str, field: &str| format!("HTTP/1.1 {status}\r\n{field}\r\n");
    let mut cases = Vec::new();
    for (status, passed) in [
        ("100 go", "100 Continue"),
        ("102 Processing", "102 Unknown"),
        ("103 Early Hints", "103 Unknown"),
        ("104 X", "104 Unknown"),
    ] {
        let link = head(status, "link: </a>\r\n");
        let first = format!("HTTP/1.1 {passed}\r\nlink: </a>\r\n\r\n");
        cases.push(before_ok(&link).hcm(passing()).reply(&first).reply(OK));
        let several = format!("{link}{}{}", head("103 x", ""), head("100 x", "x: 1\r\n"));
        cases.push(before_ok(&several).hcm(passing()).reply(&first).reply(OK));
        cases.push(before_ok(&several).reply(OK));
    }
    for status in ["105 X", "110 X", "199 X"] {
        cases.push(before_ok(&head(status, "")).hcm(passing()).reply(OK));
        let then_100 = format!("{}{}", head(status, ""), head("100 x", ""));
        let case = before_ok(&then_100).hcm(passing());
        cases.push(case.reply("HTTP/1.1 100 Continue\r\n\r\n").reply(OK));
    }
    run(cases);
}

#[test]
fn framing() {
    let mut cases = Vec::new();
    for status in ["100", "102", "103", "104", "110"] {
        cases.push(before_ok(&format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n")).reply(OK));
        for lines in ["content-length: 2", "content-length: 00", "transfer-encoding: chunked"] {
            let case = before_ok(&format!("HTTP/1.1 {status} X\r\n{lines}\r\n\r\n"));
            cases.push(case.reply(PROTOCOL_ERROR));
        }
    }
    let hint = "HTTP/1.1 103 X\r\ncontent-length: 0\r\nx: 1\r\n\r\n";
    cases.push(before_ok(hint).hcm(passing()).reply("HTTP/1.1 103 Unknown\r\nx: 1\r\n\r\n").reply(OK));
    // A 101 is a response; it has no body either.
    let switched = |lines: &str| {
        let answer = format!("HTTP/1.1 101 X\r\n{lines}\r\n");
        odd(&answer).send(get("")).answer(answer).reaches(got(""))
    };
    for lines in ["", "content-length: 0\r\n"] {
        cases.push(switched(lines).reply("HTTP/1.1 101 Switching Protocols\r\n{S}\r\n"));
    }
    for lines in ["content-length: 2\r\n", "content-length: 00\r\n", "transfer-encoding: chunked\r\n"] {
        cases.push(switched(lines).then(Step::UpstreamClosed(1)).reply(PROTOCOL_ERROR));
    }
    run(cases);
}

#[test]
fn counters() {
    let hint = "HTTP/1.1 103 X\r\n\r\n";
    let three = "HTTP/1.1 100 X\r\n\r\n".repeat(3);
    let canary = "HTTP/1.1 100 X\r\nx-envoy-upstream-canary: true\r\n\r\n";
    let once = [
        ("cluster.{}.upstream_rq_completed", 2),
        ("cluster.{}.upstream_rq_1xx", 1),
        ("cluster.{}.external.upstream_rq_1xx", 1),
        ("cluster.{}.external.upstream_rq_completed", 2),
        ("cluster.{}.upstream_rq_2xx", 1),
    ];
    let cases = vec![
        counts(counts(before_ok(hint), &once), &[("cluster.{}.external.upstream_rq_103", 1)])
            .then(Step::Stat("http.{}.downstream_rq_completed", 1))
            .reply(OK),
        counts(counts(before_ok(hint).hcm(passing()), &once), &[("cluster.{}.upstream_rq_103", 1)])
            .then(Step::Stat("http.{}.downstream_rq_1xx", 1))
            .then(Step::Stat("http.{}.downstream_rq_completed", 2))
            .reply("HTTP/1.1 103 Unknown\r\n\r\n")
            .reply(OK),
        counts(counts(before_ok(&three).hcm(passing()), &once), &[("cluster.{}.upstream_rq_100", 1)])
            .then(Step::Stat("http.{}.downstream_rq_1xx", 1))
            .then(Step::Stat("http.{}.downstream_rq_completed", 2))
            .reply("HTTP/1.1 100 Continue\r\n\r\n")
            .reply(OK),
        counts(before_ok(canary), &once)
            .then(Step::Stat("cluster.{}.canary.upstream_rq_100", 1))
            .then(Step::Stat("cluster.{}.canary.upstream_rq_completed", 1))
            .reply(OK),
        counts(before_ok("HTTP/1.1 110 X\r\nconnection: close\r\n\r\n"), &[])
            .then(Step::Stat("cluster.{}.upstream_rq_completed", 1))
            .then(Step::Stat("cluster.{}.upstream_cx_close_notify", 1))
            .reply(OK),
    ];
    run(cases);
}

#[test]
fn and_then_no_response() {
    let head = "HTTP/1.1 100 X\r\n\r\n";
    let passed = "HTTP/1.1 100 Continue\r\n\r\n";
    let silent = vec![Action::Head, Action::Send(head.into()), Action::Until(b"never".to_vec())];
    let late = b"GET /short HTTP/1.1\r\nhost: a.test\r\n\r\n";
    let sent = "GET /short HTTP/1.1\r\nhost: a.test\r\nx-forwarded-proto: http\r\nx-request-id: <ID>\r\n\
                x-envoy-expected-rq-timeout-ms: 200\r\n\r\n";
    let timed_out = "HTTP/1.1 504 Gateway Timeout\r\ncontent-length: 24\r\ncontent-type: text/plain\r\n{DS}\r\n\
                     upstream request timeout";
    let cut = |hcm: Value, first: &str| {
        let case = odd("the end").hcm(hcm).send(get("")).answer_and_close(head).reaches(got(""));
        let case = case.log("503 UC upstream_reset_after_response_started{connection_termination}");
        case.reply(first).reply(CONNECTION_TERMINATED)
    };
    let wait = |hcm: Value, first: &str| {
        let case = odd("silence").hcm(hcm).send(late).scripts([silent.clone()]).reaches(sent);
        case.log("504 UT response_timeout").reply(first).reply(timed_out)
    };
    // What the client has got for an answer is not counted: the status of the head is.
    let once = [("cluster.{}.upstream_rq_1xx", 1), ("cluster.{}.upstream_rq_completed", 1)];
    let cases = vec![
        counts(cut(json!({}), ""), &once),
        counts(cut(passing(), passed), &once),
        counts(wait(json!({}), ""), &once),
        counts(wait(passing(), passed), &once),
        Case::new("the request is not over")
            .send(post("content-length: 5\r\n", ""))
            .answer(format!("{head}{SERVED}"))
            .reply("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{DS}connection: close\r\n\r\nok")
            .reaches("POST /p HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5\r\n{X}\r\n")
            .closed(),
    ];
    run(cases);
}
