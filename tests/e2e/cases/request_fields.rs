//! Fields of requests: names, values, folding, Host, duplicates.

use super::{get, got, join, odd};
use crate::harness::{BAD_REQUEST, Case, EMPTY_BAD_REQUEST, OK, run};
use serde_json::json;

const CODEC_ERROR: &str = "400 DPE http1.codec_error";
const CHARACTERS: &str = "400 DPE http1.invalid_characters";
const AUTHORITY: &str = "400 DPE http.invalid_authority";
const BARE_CR: &str = "a bare CR is rejected (RFC 9112, 2.2)";
const FOLD: &str = "obs-fold is rejected (RFC 9112, 5.2)";
const TWO_HOSTS: &str = "more than one Host is rejected (RFC 9112, 3.2)";

#[test]
fn names() {
    let mut cases = Vec::new();
    for name in ["f!#$%&'*+-.^_`|~9", "foo_bar", "9", "x"] {
        let field = format!("{name}: a\r\n");
        cases.push(odd(name).send(get(&field)).reply(OK).reaches(got(&field)));
    }
    for field in [
        "foo : a",
        "foo\t: a",
        ": a",
        "foo",
        "foo bar",
        "fo o: a",
        ":path: /z",
        ":authority: z",
        ":x: z",
        "f@o: a",
        "f(o): a",
        "f\"o: a",
        "f/o: a",
        "f{o: a",
        "f\u{f6}o: a",
        "fo\ro: a",
        "foo\r: a",
        "f[o: a",
        "f,o: a",
        "f;o: a",
        "f=o: a",
        "f?o: a",
        "f\\o: a",
        "f<o: a",
        "transfer-encoding : chunked",
    ] {
        let case = odd(field).send(get(format!("{field}\r\n"))).reply(BAD_REQUEST).closed();
        cases.push(case.log(CODEC_ERROR));
    }
    cases.extend([
        odd("NUL").send(get("fo\0o: a\r\n")).reply(BAD_REQUEST).closed().log(CHARACTERS),
        odd("two colons").send(get("foo:: a\r\n")).reply(OK).reaches(got("foo: : a\r\n")),
        odd("first line starts with a space")
            .send("GET /x HTTP/1.1\r\n foo: a\r\nhost: a.test\r\n\r\n")
            .reply(BAD_REQUEST)
            .closed()
            .log(CODEC_ERROR),
        odd("underscore rejected")
            .hcm(json!({"common_http_protocol_options": {"headers_with_underscores_action": "REJECT_REQUEST"}}))
            .send(get("foo_bar: a\r\n"))
            .reply(BAD_REQUEST)
            .closed()
            .log("400 DPE http1.unexpected_underscore"),
        odd("underscore dropped")
            .hcm(json!({"common_http_protocol_options": {"headers_with_underscores_action": "DROP_HEADER"}}))
            .send(get("foo_bar: a\r\nb: 1\r\n"))
            .reply(OK)
            .reaches(got("b: 1\r\n")),
    ]);
    run(cases);
}

#[test]
fn values() {
    let mut cases = Vec::new();
    for (sent, passed) in [
        ("foo:", "foo: "),
        ("foo:a", "foo: a"),
        ("foo:    a    ", "foo: a"),
        ("foo:\ta\t", "foo: a"),
        ("foo:  \t ", "foo: "),
        ("foo: a\tb", "foo: a\tb"),
        ("foo: a  b", "foo: a  b"),
    ] {
        let case = odd(sent).send(get(format!("{sent}\r\n"))).reply(OK);
        cases.push(case.reaches(got(format!("{passed}\r\n"))));
    }
    cases.push(odd("obs-text").send(get(b"foo: \xe4\xff\r\n")).reply(OK).reaches(got(b"foo: \xe4\xff\r\n")));
    for byte in (0..32).chain([127]).filter(|byte| !b"\t\r\n".contains(byte)) {
        let case = odd([byte]).send(get(join(&[b"foo: a", &[byte], b"b\r\n"])));
        cases.push(case.reply(BAD_REQUEST).closed().log(CHARACTERS));
    }
    for (sent, passed) in [("a\rb", "ab"), ("\ra", "a"), ("a\r", "a"), ("a\r\r", "a")] {
        let case = odd(sent).send(get(format!("foo: {sent}\r\n"))).reply(OK);
        let case = case.reaches(got(format!("foo: {passed}\r\n")));
        cases.push(case.legate_refuses(BARE_CR, BAD_REQUEST));
    }
    run(cases);
}

#[test]
fn folding() {
    let mut cases = Vec::new();
    for (sent, passed) in [
        ("foo: a\r\n b\r\n", "foo: a b\r\n"),
        ("foo: a\r\n\tb\r\n", "foo: a\tb\r\n"),
        ("foo: a\r\n \r\n", "foo: a\r\n"),
        ("foo: a\r\n  b\r\n   c  \r\nbar: 1\r\n", "foo: a  b   c\r\nbar: 1\r\n"),
        ("foo: a\n b\r\n", "foo: a b\r\n"),
    ] {
        let case = odd(sent).send(get(sent)).reply(OK).reaches(got(passed));
        cases.push(case.legate_refuses(FOLD, BAD_REQUEST));
    }
    cases.extend([
        odd("Host on the next line")
            .send("GET /x HTTP/1.1\r\nhost:\r\n a.test\r\n\r\n")
            .reply(OK)
            .reaches(got(""))
            .legate_refuses(FOLD, BAD_REQUEST),
        odd("a field behind Host starts with a space").send(get(" foo: a\r\n")).reply(BAD_REQUEST).closed(),
        odd("a CR before the space")
            .send(get("foo: a\r\n\r b\r\n"))
            .reply(BAD_REQUEST)
            .closed()
            .log(CODEC_ERROR),
    ]);
    run(cases);
}

#[test]
fn host() {
    let request = |value: &[u8]| join(&[b"GET /x HTTP/1.1\r\nhost: ", value, b"\r\n\r\n"]);
    let mut cases = Vec::new();
    for host in [
        "",
        "a",
        "A.TEST",
        "a:80",
        "a:x",
        "a:99999",
        "[::1]:80",
        "u@a",
        "a%20b",
        "a,b",
        "a;b",
        "a_b",
        "a=b",
        "a!$&'()*+",
        "a.test.",
        ":80",
        "[",
        "~",
    ] {
        let upstream = format!("GET /x HTTP/1.1\r\nhost: {host}\r\n{{X}}\r\n");
        cases.push(odd(host).send(request(host.as_bytes())).reply(OK).reaches(upstream));
    }
    for host in
        ["a b", "a/b", "a\\b", "a<b", "a>b", "a?b", "a#b", "a\"b", "a{b", "a}b", "a|b", "a^b", "a`b", "a\tb"]
    {
        let case = odd(host).send(request(host.as_bytes())).reply(BAD_REQUEST).closed();
        cases.push(case.log(AUTHORITY));
    }
    cases.extend([
        odd("obs-text").send(request(b"\xe4")).reply(BAD_REQUEST).closed().log(AUTHORITY),
        odd("CR")
            .send(b"GET /x HTTP/1.1\r\nhost: a.test\r\r\n\r\n")
            .reply(OK)
            .reaches(got(""))
            .legate_refuses(BARE_CR, BAD_REQUEST),
        odd("missing")
            .send("GET /x HTTP/1.1\r\n\r\n")
            .reply(EMPTY_BAD_REQUEST)
            .closed()
            .log("400 - missing_host_header"),
        odd("missing, the stream alone fails")
            .hcm(json!({"http_protocol_options": {"override_stream_error_on_invalid_http_message": true}}))
            .send("GET /x HTTP/1.1\r\n\r\n")
            .reply("HTTP/1.1 400 Bad Request\r\n{DS}content-length: 0\r\n\r\n"),
        odd("two")
            .send("GET /x HTTP/1.1\r\nhost: a\r\nHOST: b\r\n\r\n")
            .reply(OK)
            .reaches("GET /x HTTP/1.1\r\nhost: a,b\r\n{X}\r\n")
            .legate_refuses(TWO_HOSTS, BAD_REQUEST),
        odd("two equal")
            .send("GET /x HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n")
            .reply(OK)
            .reaches("GET /x HTTP/1.1\r\nhost: a,a\r\n{X}\r\n")
            .legate_refuses(TWO_HOSTS, BAD_REQUEST),
        odd("port stripped")
            .hcm(json!({"strip_any_host_port": true}))
            .send(request(b"a:81"))
            .reply(OK)
            .reaches("GET /x HTTP/1.1\r\nhost: a\r\n{X}\r\n"),
    ]);
    run(cases);
}

#[test]
fn duplicates() {
    let twice =
        |name: &str| Case::new(name).send(get(format!("{name}: 1\r\nz: 1\r\n{name}: 2\r\n"))).reply(OK);
    let mut cases = Vec::new();
    for name in [
        "accept",
        "accept-encoding",
        "access-control-request-headers",
        "access-control-request-method",
        "authorization",
        "cache-control",
        "content-encoding",
        "content-type",
        "expect",
        "grpc-accept-encoding",
        "grpc-timeout",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "origin",
        "pragma",
        "referer",
        "user-agent",
        "via",
        "x-client-trace-id",
        "x-envoy-attempt-count",
        "x-envoy-decorator-operation",
        "x-envoy-downstream-service-cluster",
        "x-envoy-downstream-service-node",
        "x-envoy-external-address",
        "x-envoy-original-path",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
    ] {
        cases.push(twice(name).reaches(got(format!("{name}: 1,2\r\nz: 1\r\n"))));
    }
    for name in [
        "accept-language",
        "cookie",
        "forwarded",
        "from",
        "proxy-authorization",
        "range",
        "set-cookie",
        "vary",
        "warning",
        "x-anything",
        "traceparent",
    ] {
        cases.push(twice(name).reaches(got(format!("{name}: 1\r\nz: 1\r\n{name}: 2\r\n"))));
    }
    cases.extend([
        twice("x-request-id").reaches(
            "GET /x HTTP/1.1\r\nhost: a.test\r\nx-request-id: 1,2\r\nz: 1\r\nx-forwarded-proto: http\r\n\
             x-envoy-expected-rq-timeout-ms: 15000\r\n\r\n",
        ),
        Case::new("expect twice")
            .send(get("expect: 100-continue\r\nexpect: 100-continue\r\n"))
            .reply(OK)
            .reaches(got("expect: 100-continue,100-continue\r\n")),
    ]);
    run(cases);
}
