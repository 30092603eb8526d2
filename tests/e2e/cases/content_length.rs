//! Content-Length and Transfer-Encoding of requests.

use super::{get, odd, post, posted};
use crate::harness::{BAD_REQUEST, Case, End, NOT_IMPLEMENTED, OK, Step, run};
use serde_json::json;

const CODEC_ERROR: &str = "400 DPE http1.codec_error";
const BODY: &str = "3\r\nabc\r\n0\r\n\r\n";

#[test]
fn content_length() {
    let mut cases = Vec::new();
    for (value, passed) in [
        ("5", "5"),
        ("5 ", "5"),
        ("\t5\t", "5"),
        ("05", "05"),
        ("0000000000000000000005", "0000000000000000000005"),
    ] {
        let upstream =
            format!("POST /p HTTP/1.1\r\nhost: a.test\r\ncontent-length: {passed}\r\n{{X}}\r\nhello");
        cases.push(
            odd(value)
                .send(post(format!("content-length: {value}\r\n"), "hello"))
                .reply(OK)
                .reaches(upstream),
        );
    }
    for value in [
        "+5",
        "-1",
        "5, 5",
        "5,5",
        "5, 6",
        "0x5",
        "a",
        "",
        "5.0",
        "5 5",
        "5x",
        "1e1",
        "\"5\"",
        "5;",
        "18446744073709551616",
        "18446744073709551621",
        "99999999999999999999999",
    ] {
        let case = odd(value).send(post(format!("content-length: {value}\r\n"), "hello"));
        cases.push(case.reply(BAD_REQUEST).closed().log(CODEC_ERROR));
    }
    for lines in [
        "content-length: 5\r\ncontent-length: 5\r\n",
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 0\r\ncontent-length: 0\r\n",
        "content-length: 5\r\ncontent-length:\r\n",
        "content-length:\r\ncontent-length: 5\r\n",
    ] {
        cases.push(odd(lines).send(post(lines, "hello")).reply(BAD_REQUEST).closed().log(CODEC_ERROR));
    }
    cases.extend([
        Case::new("a body without framing is the next request")
            .send(post("", "hello\r\n"))
            .reply(OK)
            .reply(BAD_REQUEST)
            .reaches("POST /p HTTP/1.1\r\nhost: a.test\r\n{X}content-length: 0\r\n\r\n")
            .closed(),
        Case::new("what is behind the body is no method, and no line either")
            .send(post("content-length: 2\r\n", "abllo"))
            .then(Step::Has(b"ok".to_vec()))
            .reply(OK)
            .reaches("POST /p HTTP/1.1\r\nhost: a.test\r\ncontent-length: 2\r\n{X}\r\nab")
            .waits()
            .legate_differs("what does not start like a method is refused at once", |expect| {
                expect.reply.extend_from_slice(BAD_REQUEST);
                expect.end = End::Closed;
            }),
        Case::new("what is behind the body is the next request")
            .send(post("content-length: 2\r\n", "abBAD\r\n\r\n"))
            .reply(OK)
            .reply(BAD_REQUEST)
            .reaches("POST /p HTTP/1.1\r\nhost: a.test\r\ncontent-length: 2\r\n{X}\r\nab")
            .closed(),
    ]);
    run(cases);
}

#[test]
fn transfer_encoding() {
    let mut cases = Vec::new();
    for value in ["chunked", "Chunked", "CHUNKED", " chunked "] {
        let case = odd(value).send(post(format!("transfer-encoding: {value}\r\n"), BODY));
        cases.push(case.reply(OK).reaches(posted("", BODY)));
    }
    for value in [
        "gzip, chunked",
        "identity",
        "gzip",
        "foo",
        "chunked, chunked",
        "",
        "chunked, gzip",
        "identity, chunked",
        "\"chunked\"",
        "chunked;q=1",
        ",chunked",
        "chunked,",
        "xchunked",
        "chunkedx",
    ] {
        let case = odd(value).send(post(format!("transfer-encoding: {value}\r\n"), BODY));
        cases.push(case.reply(NOT_IMPLEMENTED).closed().log("501 DPE http1.invalid_transfer_encoding"));
    }
    for values in [["chunked", "chunked"], ["gzip", "chunked"], ["chunked", "gzip"], ["chunked", "identity"]]
    {
        let lines: String = values.map(|value| format!("transfer-encoding: {value}\r\n")).concat();
        let case = odd(&lines).send(post(lines, BODY)).reply(NOT_IMPLEMENTED).closed();
        cases.push(case.log("501 DPE http1.invalid_transfer_encoding"));
    }
    let empty = "an empty Transfer-Encoding beside another is read in two ways";
    cases.extend([
        odd("an empty one before chunked")
            .send(post("transfer-encoding:\r\ntransfer-encoding: chunked\r\n", BODY))
            .reply(OK)
            .reaches(posted("", BODY))
            .legate_refuses(empty, NOT_IMPLEMENTED),
        odd("an empty one behind chunked") // which then does not count: the body is the next request
            .send(post("transfer-encoding: chunked\r\ntransfer-encoding:\r\n", BODY))
            .reply(OK)
            .reply(BAD_REQUEST)
            .reaches("POST /p HTTP/1.1\r\nhost: a.test\r\n{X}content-length: 0\r\n\r\n")
            .closed()
            .legate_refuses(empty, NOT_IMPLEMENTED),
        odd("GET with gzip").send(get("transfer-encoding: gzip\r\n")).reply(NOT_IMPLEMENTED).closed(),
        odd("GET with chunked")
            .send([get("transfer-encoding: chunked\r\n").as_slice(), BODY.as_bytes()].concat())
            .reply(OK)
            .reaches(format!(
                "GET /x HTTP/1.1\r\nhost: a.test\r\n{{X}}transfer-encoding: chunked\r\n\r\n{BODY}"
            )),
    ]);
    run(cases);
}

#[test]
fn both() {
    let mut cases = Vec::new();
    let log = "400 DPE http1.content_length_and_chunked_not_allowed";
    let allowed = json!({"http_protocol_options": {"allow_chunked_length": true}});
    for lines in [
        "transfer-encoding: chunked\r\ncontent-length: 3\r\n",
        "content-length: 3\r\ntransfer-encoding: chunked\r\n",
        "content-length: 0\r\ntransfer-encoding: chunked\r\n",
    ] {
        let case = || odd(lines).send(post(lines, BODY));
        cases.push(case().reply(BAD_REQUEST).closed().log(log));
        cases.push(case().hcm(allowed.clone()).reply(OK).reaches(posted("", BODY)));
    }
    let lines = "content-length: 3\r\ntransfer-encoding: identity\r\n";
    cases.push(odd(lines).send(post(lines, "abc")).reply(BAD_REQUEST).closed().log(log));
    run(cases);
}
