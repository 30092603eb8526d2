//! How large heads may be.

use super::{get, got, join, post, posted};
use crate::harness::{BAD_REQUEST, Case, OK, PROTOCOL_ERROR, TOO_LARGE, run};
use serde_json::json;

const BYTES: &str = "431 DPE http1.headers_too_large";
const FIELDS: &str = "431 DPE http1.too_many_headers";

/// A request head of so many bytes, and the line in it that the upstream gets.
fn head(length: usize) -> (Vec<u8>, Vec<u8>) {
    let line = join(&[b"a: ", &b"b".repeat(length - get("a: \r\n").len()), b"\r\n"]);
    (get(&line), line)
}

/// A response head of so many bytes, with the same.
fn response(length: usize) -> (Vec<u8>, Vec<u8>) {
    let bare = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\na: \r\n\r\n".len();
    let line = join(&[b"a: ", &b"b".repeat(length - bare), b"\r\n"]);
    (join(&[b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n", &line, b"\r\nok"]), line)
}

#[test]
fn request_heads() {
    let fits = |name: &str, length: usize| {
        let (head, line) = head(length);
        Case::new(name).send(head).reply(OK).reaches(got(line))
    };
    let too_large =
        |name: &str, bytes: Vec<u8>| Case::new(name).send(bytes).reply(TOO_LARGE).closed().log(BYTES);
    let small = json!({"max_request_headers_kb": 1});
    let (exact, line) = head(1024);
    let unended =
        |length: usize| join(&[b"GET /x HTTP/1.1\r\nhost: a.test\r\na: ", &[b'b'; 2000]])[..length].to_vec();
    run(vec![
        fits("60 KiB", 60 * 1024),
        too_large("60 KiB and a byte", head(60 * 1024 + 1).0),
        too_large("70 KiB", head(70 * 1024).0),
        fits("1 KiB", 1024).hcm(small.clone()),
        too_large("1 KiB and a byte", head(1025).0).hcm(small.clone()),
        Case::new("1 KiB twice")
            .hcm(small.clone())
            .send([exact.clone(), exact.clone()].concat())
            .reply(OK)
            .reply(OK)
            .reaches([got(&line), got(&line)].concat()),
        Case::new("blank lines before do not count")
            .hcm(small.clone())
            .send(join(&[b"\r\n\r\n\r\n", &exact]))
            .reply(OK)
            .reaches(got(&line)),
        Case::new("a body does not count")
            .hcm(small.clone())
            .send(post("content-length: 5000\r\n", "b".repeat(5000)))
            .reply(OK)
            .reaches(
                "POST /p HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5000\r\n{X}\r\n".to_string()
                    + &"b".repeat(5000),
            ),
        Case::new("1023 bytes without an end").hcm(small.clone()).send(unended(1023)).waits(),
        too_large("1024 bytes without an end", unended(1024)).hcm(small.clone()),
        too_large("a target without an end", [b"GET /".as_slice(), &[b'b'; 1100]].concat())
            .hcm(small.clone()),
        too_large("a method without an end", vec![b'G'; 1100]).hcm(small.clone()),
        too_large("no method", vec![b'x'; 1100])
            .hcm(small.clone())
            .legate_refuses("what does not start like a method is refused as such", BAD_REQUEST),
        Case::new("trailers of 1 KiB")
            .hcm(small.clone())
            .send(post("transfer-encoding: chunked\r\n", format!("0\r\nx: {}\r\n\r\n", "y".repeat(1017))))
            .reply(OK)
            .reaches(posted("", "0\r\n\r\n")),
        Case::new("trailers of more")
            .hcm(small)
            .send(post("transfer-encoding: chunked\r\n", format!("0\r\nx: {}\r\n\r\n", "y".repeat(1030))))
            .reply(TOO_LARGE)
            .closed()
            .log(BYTES),
    ]);
}

#[test]
fn request_field_count() {
    let fields = |count: usize| (0..count).map(|i| format!("h{i}: v\r\n")).collect::<String>();
    let five = json!({"common_http_protocol_options": {"max_headers_count": 5}});
    run(vec![
        Case::new("100 with Host").send(get(fields(99))).reply(OK).reaches(got(fields(99))),
        Case::new("101 with Host").send(get(fields(100))).reply(TOO_LARGE).closed().log(FIELDS),
        Case::new("5 with Host").hcm(five.clone()).send(get(fields(4))).reply(OK).reaches(got(fields(4))),
        Case::new("6 with Host").hcm(five.clone()).send(get(fields(5))).reply(TOO_LARGE).closed().log(FIELDS),
        Case::new("equal ones count")
            .hcm(five)
            .send(get("h: v\r\n".repeat(5)))
            .reply(TOO_LARGE)
            .closed()
            .log(FIELDS),
    ]);
}

#[test]
fn response_heads() {
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let five = json!({"typed_extension_protocol_options": {options: {
        "@type": format!("type.googleapis.com/{options}"),
        "common_http_protocol_options": {"max_headers_count": 5},
        "explicit_http_config": {"http_protocol_options": {}},
    }}});
    let (exact, line) = response(80 * 1024);
    let passed = |lines: &[u8]| join(&[b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n", lines, b"{S}\r\nok"]);
    let fields = |count: usize| (0..count).map(|i| format!("h{i}: v\r\n")).collect::<String>();
    let answer = |lines: String| format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{lines}\r\nok");
    let case = |name: &str| Case::new(name).send(get("")).reaches(got(""));
    run(vec![
        case("80 KiB").answer(exact).reply(passed(&line)),
        case("80 KiB and a byte").answer(response(80 * 1024 + 1).0).reply(PROTOCOL_ERROR),
        case("100 fields").answer(answer(fields(99))).reply(passed(fields(99).as_bytes())),
        case("101 fields").answer(answer(fields(100))).reply(PROTOCOL_ERROR),
        case("5 fields").cluster(five.clone()).answer(answer(fields(4))).reply(passed(fields(4).as_bytes())),
        case("6 fields").cluster(five).answer(answer(fields(5))).reply(PROTOCOL_ERROR),
    ]);
}
