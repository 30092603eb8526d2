//! Bodies of responses: how they end, how they break off, what follows them, and answers that come early.

use super::{get, got, line, odd, post, posted};
use crate::harness::{Action, CONNECTION_TERMINATED, Case, End, OK, PROTOCOL_ERROR, Step, run};

const BROKEN_OFF: &str = "200 UPE upstream_reset_after_response_started{protocol_error}";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
const CHUNKED_REPLY: &str = "HTTP/1.1 200 OK\r\n{S}transfer-encoding: chunked\r\n\r\n";
const PLAIN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn send(text: &str) -> Action {
    Action::Send(text.as_bytes().to_vec())
}

/// The client has got this.
fn seen(text: &str) -> Action {
    Action::ClientHas(text.as_bytes().to_vec())
}

#[test]
fn passed_on() {
    let mut cases = Vec::new();
    let case = |name: &str, script: Vec<Action>| {
        odd(name).send(get("")).scripts([script, vec![Action::Serve]]).reaches(got(""))
    };
    let one = format!("{CHUNKED}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    cases.extend([
        case("chunks in one part", vec![Action::Head, send(&one)])
            .reply(format!("{CHUNKED_REPLY}5\r\nabcde\r\n0\r\n\r\n")),
        case(
            "chunks in parts",
            vec![
                Action::Head,
                send(&format!("{CHUNKED}3\r\nabc\r\n")),
                seen("abc"),
                send("2\r\nq"),
                seen("1\r\nq"),
                send("w\r\n"),
                seen("1\r\nw"),
                send("0\r\n\r\n"),
            ],
        )
        .reply(format!("{CHUNKED_REPLY}3\r\nabc\r\n1\r\nq\r\n1\r\nw\r\n0\r\n\r\n")),
        case(
            "content-length in parts",
            vec![
                Action::Head,
                send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab"),
                seen("ab"),
                send("cd"),
            ],
        )
        .reply("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n{S}\r\nabcd"),
        case(
            "until the close",
            vec![Action::Head, send("HTTP/1.1 200 OK\r\n\r\nabc"), seen("abc"), send("def"), Action::Close],
        )
        .reply(format!("{CHUNKED_REPLY}3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")),
        case(
            "until a reset",
            vec![Action::Head, send("HTTP/1.1 200 OK\r\n\r\nabc"), seen("abc"), Action::Reset],
        )
        .reply(format!("{CHUNKED_REPLY}3\r\nabc\r\n0\r\n\r\n")),
        case("nothing until the close", vec![Action::Head, send("HTTP/1.1 200 OK\r\n\r\n"), Action::Close])
            .reply(format!("{CHUNKED_REPLY}0\r\n\r\n")),
        case(
            "HTTP/1.0 until the close",
            vec![Action::Head, send("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\nok"), Action::Close],
        )
        .reply(format!("{CHUNKED_REPLY}2\r\nok\r\n0\r\n\r\n")),
        case("extension", vec![Action::Head, send(&format!("{CHUNKED}2;a=b\r\nok\r\n0\r\n\r\n"))])
            .reply(format!("{CHUNKED_REPLY}2\r\nok\r\n0\r\n\r\n")),
        case("trailers", vec![Action::Head, send(&format!("{CHUNKED}2\r\nok\r\n0\r\nx: y\r\n\r\n"))])
            .reply(format!("{CHUNKED_REPLY}2\r\nok\r\n0\r\n\r\n")),
    ]);
    let surplus = "bytes beyond a chunk's size are rejected (RFC 9112, 7.1)";
    for body in ["2\r\nokX\r\n0\r\n\r\n", "2\r\nok\n0\r\n\r\n"] {
        let case = case(body, vec![Action::Head, send(&format!("{CHUNKED}{body}"))]);
        let case = case.reply(format!("{CHUNKED_REPLY}2\r\nok\r\n0\r\n\r\n"));
        cases.push(case.legate_differs(surplus, |expect| {
            expect.reply = CHUNKED_REPLY.as_bytes().to_vec();
            expect.end = End::Closed;
        }));
    }
    run(cases);
}

#[test]
fn broken_off() {
    let case = |name: &str, script: Vec<Action>| {
        odd(name)
            .send(get(""))
            .scripts([script, vec![Action::Serve]])
            .reaches(got(""))
            .closed()
            .log(BROKEN_OFF)
    };
    let counted = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nok";
    let counted_reply = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n{S}\r\nok";
    let chunk = format!("{CHUNKED}2\r\nok\r\n");
    let chunk_reply = format!("{CHUNKED_REPLY}2\r\nok\r\n");
    let mut cases = vec![
        case("content-length", vec![Action::Head, send(counted), seen("ok"), Action::Close])
            .reply(counted_reply),
        case("content-length, at once", vec![Action::Head, send(counted), Action::Close])
            .reply(counted_reply),
        case("content-length, reset", vec![Action::Head, send(counted), seen("ok"), Action::Reset])
            .reply(counted_reply),
        case("chunked", vec![Action::Head, send(&chunk), seen("ok"), Action::Close]).reply(&chunk_reply),
        case("in a chunk", vec![Action::Head, send(&format!("{CHUNKED}5\r\nok")), seen("ok"), Action::Close])
            .reply(&chunk_reply),
        case(
            "before the last line",
            vec![Action::Head, send(&format!("{chunk}0\r\n")), seen("ok"), Action::Close],
        )
        .reply(&chunk_reply),
        case("bad chunk later", vec![Action::Head, send(&chunk), seen("ok"), send("zz\r\n")])
            .reply(&chunk_reply),
        case("bad trailers", vec![Action::Head, send(&chunk), seen("ok"), send("0\r\nxy\r\n\r\n")])
            .reply(&chunk_reply),
    ];
    for body in ["zz\r\nok\r\n", "2\nok\r\n0\r\n\r\n", "2\r\nok0\r\n\r\n", "10000000000000000\r\nok"] {
        cases.push(case(body, vec![Action::Head, send(&format!("{CHUNKED}{body}"))]).reply(CHUNKED_REPLY));
    }
    run(cases);
}

#[test]
fn before_the_head_is_complete() {
    let second = || line("GET /second HTTP/1.1");
    let case = |name: &str, script: Vec<Action>, reply: &[u8]| {
        odd(name)
            .send(get(""))
            .then(Step::Has(b"reset reason".to_vec()))
            .send(second())
            .scripts([script, vec![Action::Serve]])
            .reply(reply)
            .reply(OK)
            .reaches(got(""))
            .reaches("GET /second HTTP/1.1\r\nhost: a.test\r\n{X}\r\n")
    };
    let terminated = "503 UC upstream_reset_before_response_started{connection_termination}";
    let broken = "502 UPE upstream_reset_before_response_started{protocol_error}";
    run(vec![
        case("close", vec![Action::Head, Action::Close], CONNECTION_TERMINATED).log(terminated),
        case("reset", vec![Action::Head, Action::Reset], CONNECTION_TERMINATED).log(terminated),
        case("half close", vec![Action::Head, Action::FinishWriting], CONNECTION_TERMINATED).log(terminated),
        case(
            "in a field",
            vec![Action::Head, send("HTTP/1.1 200 OK\r\ncont"), Action::Close],
            PROTOCOL_ERROR,
        )
        .log(broken),
        case(
            "after the first line",
            vec![Action::Head, send("HTTP/1.1 200 OK\r\n"), Action::Close],
            PROTOCOL_ERROR,
        )
        .log(broken),
        case(
            "half close in the first line",
            vec![Action::Head, send("HTTP/1.1 200"), Action::FinishWriting],
            PROTOCOL_ERROR,
        )
        .log(broken),
    ]);
}

#[test]
fn surplus() {
    let second = "GET /second HTTP/1.1\r\nhost: a.test\r\n{X}\r\n";
    let case = |name: &str, script: Vec<Action>| {
        odd(name)
            .send(get(""))
            .then(Step::Has(b"\r\n\r\n".to_vec()))
            .then(Step::Stat("cluster.{}.upstream_cx_active", 0))
            .send(line("GET /second HTTP/1.1"))
            .scripts([script, vec![Action::Serve]])
            .reaches(got(""))
            .reaches(second)
    };
    let at_once =
        |answer: &str, surplus: &str| case(answer, vec![Action::Head, send(&format!("{answer}{surplus}"))]);
    let later = |surplus: &str| case(surplus, vec![Action::Head, send(PLAIN), seen("ok"), send(surplus)]);
    run(vec![
        at_once(PLAIN, "EXTRA").reply(OK).reply(OK),
        at_once(PLAIN, PLAIN).reply(OK).reply(OK),
        at_once(PLAIN, "\r\n").reply(OK).reply(OK),
        at_once("HTTP/1.1 204 No Content\r\n\r\n", "extra")
            .reply("HTTP/1.1 204 No Content\r\n{S}\r\n")
            .reply(OK),
        at_once("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", "extra")
            .reply("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n{S}\r\n")
            .reply(OK),
        later(PLAIN).reply(OK).reply(OK),
        later("xx").reply(OK).reply(OK),
        later("\r\n").reply(OK).reply(OK),
        case("closed when idle", vec![Action::Head, send(PLAIN), seen("ok"), Action::Close])
            .reply(OK)
            .reply(OK),
        case("closed with the answer", vec![Action::Head, send(PLAIN), Action::Close]).reply(OK).reply(OK),
        case("half closed with the answer", vec![Action::Head, send(PLAIN), Action::FinishWriting])
            .reply(OK)
            .reply(OK),
        case("reset when idle", vec![Action::Head, send(PLAIN), seen("ok"), Action::Reset])
            .reply(OK)
            .reply(OK),
    ]);
}

#[test]
fn head_with_surplus() {
    run(vec![
        Case::new("body behind the answer to HEAD")
            .send(line("HEAD /x HTTP/1.1"))
            .answer("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nextra")
            .then(Step::UpstreamClosed(1))
            .reply("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n{S}\r\n")
            .reaches("HEAD /x HTTP/1.1\r\nhost: a.test\r\n{X}\r\n"),
        Case::new("HEAD with both framings")
            .send(line("HEAD /x HTTP/1.1"))
            .answer("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n")
            .then(Step::UpstreamClosed(1))
            .reply(
                String::from_utf8_lossy(PROTOCOL_ERROR).split("upstream connect").next().unwrap_or_default(),
            )
            .reaches("HEAD /x HTTP/1.1\r\nhost: a.test\r\n{X}\r\n"),
    ]);
}

#[test]
fn early() {
    let half = || post("content-length: 5\r\n", "he");
    let reached =
        |body: &str| format!("POST /p HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5\r\n{{X}}\r\n{body}");
    let early = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{DS}connection: close\r\n\r\nok";
    let after_body = |answer: &str| vec![vec![Action::Until(b"\r\n\r\nhe".to_vec()), send(answer)]];
    run(vec![
        Case::new("before the body is complete")
            .send(half())
            .scripts(after_body(PLAIN))
            .reply(early)
            .reaches(reached("he"))
            .then(Step::UpstreamClosed(1))
            .closed(),
        Case::new("an error, and the close")
            .send(half())
            .scripts([vec![
                Action::Until(b"\r\n\r\nhe".to_vec()),
                send("HTTP/1.1 413 x\r\ncontent-length: 2\r\n\r\nno"),
                Action::Close,
            ]])
            .reply("HTTP/1.1 413 Payload Too Large\r\ncontent-length: 2\r\n{DS}connection: close\r\n\r\nno")
            .reaches(reached("he"))
            .closed(),
        Case::new("only the head")
            .send(half())
            .then(Step::Has(b"\r\n\r\n".to_vec()))
            .send("llo")
            .scripts([vec![
                Action::Until(b"\r\n\r\nhe".to_vec()),
                send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"),
                Action::Until(b"llo".to_vec()),
                send("ok"),
            ]])
            .reply(early)
            .reaches(reached("hello"))
            .closed(),
        Case::new("chunked upload")
            .send(post("transfer-encoding: chunked\r\n", "2\r\nab\r\n"))
            .scripts([vec![Action::Until(b"ab\r\n".to_vec()), send(PLAIN)]])
            .reply(early)
            .reaches(posted("", "2\r\nab\r\n"))
            .closed(),
    ]);
}
