//! Ordinary requests: framing and fields both ways, pipelining, HEAD, 100-continue, interim responses,
//! trailers.

use super::{get, got, join, line, post, posted};
use crate::harness::{Action, CONNECTION_TERMINATED, Case, DIRECT, OK, PROTOCOL_ERROR, Step, run};
use serde_json::json;

#[test]
fn requests() {
    let host = b"host: a.test\r\n";
    run(vec![
        Case::new("GET").send(get("")).reply(OK).reaches(got("")).log("200 - via_upstream"),
        Case::new("GET twice")
            .send(get(""))
            .then(Step::Has(b"ok".to_vec()))
            .send(line("GET /y HTTP/1.1"))
            .reply(OK)
            .reply(OK)
            .reaches(join(&[&got(""), b"GET /y HTTP/1.1\r\n", host, b"{X}\r\n"])),
        Case::new("pipelined")
            .send([get(""), get(""), get(""), line("GET /direct HTTP/1.1")].concat())
            .reply(OK)
            .reply(OK)
            .reply(OK)
            .reply(DIRECT)
            .reaches([got(""), got(""), got("")].concat()),
        Case::new("pipelined behind two answers that are not written yet")
            .send([line("GET /direct HTTP/1.1"), line("GET /direct HTTP/1.1"), get("")].concat())
            .reply(DIRECT)
            .reply(DIRECT)
            .closed()
            .log("200 - direct_response")
            .log("200 - direct_response")
            .log("0 DPE codec_error:Too_many_responses_queued."),
        Case::new("second request while the first is answered")
            .send(get(""))
            .then(Step::UpstreamHas(b"\r\n\r\n".to_vec()))
            .send(line("GET /direct HTTP/1.1"))
            .reply(OK)
            .reply(DIRECT)
            .reaches(got("")),
        Case::new("head byte by byte")
            .then(Step::SendSingly(get("Foo: bar\r\n")))
            .reply(OK)
            .reaches(got("foo: bar\r\n")),
        Case::new("order and case of fields")
            .send(
                "GET /x HTTP/1.1\r\nZeta: 1\r\naLPHA: 2\r\nHOST: a.test\r\nX-Mixed: VaLue\r\nCookie: a=b\r\n\
                 User-Agent: UA\r\nCookie: c=d\r\n\r\n",
            )
            .reply(OK)
            .reaches(got(
                "zeta: 1\r\nalpha: 2\r\nx-mixed: VaLue\r\ncookie: a=b\r\nuser-agent: UA\r\ncookie: c=d\r\n",
            )),
    ]);
}

#[test]
fn request_bodies() {
    let host = b"host: a.test\r\n";
    run(vec![
        Case::new("POST with content-length")
            .send(post("content-length: 5\r\n", "hello"))
            .reply(OK)
            .reaches(join(&[b"POST /p HTTP/1.1\r\n", host, b"content-length: 5\r\n{X}\r\nhello"])),
        Case::new("POST with content-length in two parts")
            .send(post("content-length: 5\r\n", "he"))
            .then(Step::UpstreamHas(b"\r\n\r\nhe".to_vec()))
            .send("llo")
            .reply(OK)
            .reaches(join(&[b"POST /p HTTP/1.1\r\n", host, b"content-length: 5\r\n{X}\r\nhello"])),
        Case::new("chunked upload in one part")
            .send(post("transfer-encoding: chunked\r\n", "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"))
            .reply(OK)
            .reaches(posted("", "b\r\nhello world\r\n0\r\n\r\n")),
        Case::new("chunked upload in four parts")
            .send(post("transfer-encoding: chunked\r\n", "5\r\nhello\r\n"))
            .then(Step::UpstreamHas(b"hello\r\n".to_vec()))
            .send("6\r\n wor")
            .then(Step::UpstreamHas(b" wor\r\n".to_vec()))
            .send("ld\r\n")
            .then(Step::UpstreamHas(b"ld\r\n".to_vec()))
            .send("0\r\n\r\n")
            .reply(OK)
            .reaches(posted("", "5\r\nhello\r\n4\r\n wor\r\n2\r\nld\r\n0\r\n\r\n")),
        Case::new("chunked upload of nothing")
            .send(post("transfer-encoding: chunked\r\n", "0\r\n\r\n"))
            .reply(OK)
            .reaches(posted("", "0\r\n\r\n")),
        Case::new("GET with a body")
            .send(join(&[&get("content-length: 3\r\n"), b"abc"]))
            .reply(OK)
            .reaches(join(&[&got("content-length: 3\r\n"), b"abc"])),
        Case::new("GET with content-length 0")
            .send(get("content-length: 0\r\n"))
            .reply(OK)
            .reaches(got("content-length: 0\r\n")),
    ]);
}

#[test]
fn without_framing() {
    let mut cases = Vec::new();
    for (method, framing) in [
        ("POST", "content-length: 0\r\n"),
        ("PUT", "content-length: 0\r\n"),
        ("PATCH", "content-length: 0\r\n"),
        ("OPTIONS", "content-length: 0\r\n"),
        ("PROPFIND", "content-length: 0\r\n"),
        ("DELETE", ""),
        ("TRACE", ""),
    ] {
        let upstream = format!("{method} /x HTTP/1.1\r\nhost: a.test\r\n{{X}}{framing}\r\n");
        let case = Case::new(method);
        cases.push(case.send(line(format!("{method} /x HTTP/1.1"))).reply(OK).reaches(upstream));
    }
    run(cases);
}

#[test]
fn head_requests() {
    let head = || Case::new("HEAD").send(line("HEAD /x HTTP/1.1"));
    let upstream = "HEAD /x HTTP/1.1\r\nhost: a.test\r\n{X}\r\n";
    let chunked = "HTTP/1.1 200 OK\r\n{S}transfer-encoding: chunked\r\n\r\n";
    run(vec![
        head()
            .answer("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")
            .reply("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n{S}\r\n")
            .reaches(upstream),
        head()
            .answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .reply(chunked)
            .reaches(upstream),
        head().answer("HTTP/1.1 200 OK\r\n\r\n").reply(chunked).reaches(upstream),
        head()
            .answer("HTTP/1.1 304 Not Modified\r\n\r\n")
            .reply("HTTP/1.1 304 Not Modified\r\n{S}\r\n")
            .reaches(upstream),
    ]);
}

#[test]
fn continue_100() {
    let expecting = |value: &str| post(format!("expect: {value}\r\ncontent-length: 5\r\n"), "");
    let reached = |lines: &str| {
        format!("POST /p HTTP/1.1\r\nhost: a.test\r\n{lines}content-length: 5\r\n{{X}}\r\nhello")
    };
    let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut cases = vec![
        Case::new("the body comes at once")
            .send(post("expect: 100-continue\r\ncontent-length: 5\r\n", "hello"))
            .reply(go_on)
            .reply(OK)
            .reaches(reached("")),
        Case::new("GET").send(get("expect: 100-continue\r\n")).reply(go_on).reply(OK).reaches(got("")),
        Case::new("answered locally")
            .send("POST /x HTTP/1.1\r\nhost: none.test\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
            .reply(go_on)
            .reply("HTTP/1.1 404 Not Found\r\n{DS}connection: close\r\ncontent-length: 0\r\n\r\n")
            .closed()
            .log("404 NR route_not_found"),
        Case::new("the upstream sends it too")
            .send(expecting("100-continue"))
            .then(Step::Has(go_on.to_vec()))
            .send("hello")
            .scripts([vec![
                Action::Head,
                Action::Send(go_on.to_vec()),
                Action::Until(b"hello".to_vec()),
                Action::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec()),
            ]])
            .reply(go_on)
            .reply(OK)
            .reaches(reached("")),
        Case::new("left to the upstream")
            .hcm(json!({"proxy_100_continue": true}))
            .send(expecting("100-continue"))
            .then(Step::Has(go_on.to_vec()))
            .send("hello")
            .scripts([vec![
                Action::Head,
                Action::Send(go_on.to_vec()),
                Action::Until(b"hello".to_vec()),
                Action::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec()),
            ]])
            .reply(go_on)
            .reply(OK)
            .reaches(reached("expect: 100-continue\r\n")),
        Case::new("refused by the upstream")
            .send(expecting("100-continue"))
            .answer("HTTP/1.1 417 no\r\ncontent-length: 0\r\n\r\n")
            .reply(go_on)
            .reply("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n{DS}connection: close\r\n\r\n")
            .reaches("POST /p HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5\r\n{X}\r\n")
            .closed(),
    ];
    for value in ["100-continue", "100-Continue", "100-CONTINUE", "100-continue "] {
        let case = Case::new(value).send(expecting(value)).then(Step::Has(go_on.to_vec())).send("hello");
        cases.push(case.reply(go_on).reply(OK).reaches(reached("")));
    }
    for value in ["100-continue, x", "x", "", "200-ok"] {
        let case = Case::new(value).send(expecting(value)).send("hello");
        cases.push(case.reply(OK).reaches(reached(&format!("expect: {value}\r\n"))));
    }
    run(cases);
}

#[test]
fn interim_responses() {
    let host = b"host: a.test\r\n";
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let mut cases = vec![
        Case::new("101 that nobody asked for")
            .send(get(""))
            .answer("HTTP/1.1 101 Switching Protocols\r\nx-info: 1\r\n\r\n")
            .reply("HTTP/1.1 101 Switching Protocols\r\nx-info: 1\r\n{S}\r\n")
            .then(Step::Has(b"\r\n\r\n".to_vec()))
            .send(line("GET /y HTTP/1.1"))
            .reply(OK)
            .reaches(join(&[&got(""), b"GET /y HTTP/1.1\r\n", host, b"{X}\r\n"])),
        Case::new("100 twice")
            .send(get(""))
            .answer("HTTP/1.1 100 a\r\n\r\nHTTP/1.1 100 b\r\n\r\n".to_string() + ok)
            .reply(OK)
            .reaches(got("")),
        Case::new("100 with content-length")
            .send(get(""))
            .answer("HTTP/1.1 100 Continue\r\ncontent-length: 3\r\n\r\n".to_string() + ok)
            .reply(PROTOCOL_ERROR)
            .reaches(got(""))
            .log("502 UPE upstream_reset_before_response_started{protocol_error}"),
        Case::new("103 and then the end")
            .send(get(""))
            .answer_and_close("HTTP/1.1 103 Early Hints\r\n\r\n")
            .reply(CONNECTION_TERMINATED)
            .reaches(got("")),
    ];
    for status in ["100 Continue", "102 Processing", "103 Early Hints", "104 X", "199 X"] {
        let interim = format!("HTTP/1.1 {status}\r\nx-info: 1\r\n\r\n{ok}");
        cases.push(Case::new(status).send(get("")).answer(interim).reply(OK).reaches(got("")));
    }
    run(cases);
}

#[test]
fn trailers() {
    let both = json!({"http_protocol_options": {"enable_trailers": true}});
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let upstream = json!({"typed_extension_protocol_options": {options: {
        "@type": format!("type.googleapis.com/{options}"),
        "explicit_http_config": {"http_protocol_options": {"enable_trailers": true}},
    }}});
    let case = |name: &str| {
        Case::new(name)
            .send(post("transfer-encoding: chunked\r\n", "3\r\nabc\r\n0\r\nX-T: v1\r\nY-T: v2\r\n\r\n"))
            .scripts([vec![
                Action::Until(b"abc\r\n0\r\n".to_vec()),
                Action::Until(b"\r\n".to_vec()),
                Action::Send(
                    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\nX-U: w\r\n\r\n"
                        .to_vec(),
                ),
            ]])
    };
    let without = "HTTP/1.1 200 OK\r\n{S}transfer-encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\n\r\n";
    run(vec![
        case("dropped by default").reply(without).reaches(posted("", "3\r\nabc\r\n0\r\n\r\n")),
        case("dropped when only the client's side has them")
            .hcm(both.clone())
            .reply(without)
            .reaches(posted("", "3\r\nabc\r\n0\r\n\r\n")),
        case("dropped when only the upstream's side has them")
            .cluster(upstream.clone())
            .reply(without)
            .reaches(posted("", "3\r\nabc\r\n0\r\n\r\n")),
        case("passed when both sides have them")
            .hcm(both)
            .cluster(upstream)
            .reply("HTTP/1.1 200 OK\r\n{S}transfer-encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\nx-u: w\r\n\r\n")
            .reaches(posted("", "3\r\nabc\r\n0\r\nx-t: v1\r\ny-t: v2\r\n\r\n")),
    ]);
}
