//! HTTP/1.0 and other versions.

use super::line;
use crate::harness::{BAD_REQUEST, Case, End, UPGRADE_REQUIRED, run};
use serde_json::json;

#[test]
fn refused_by_default() {
    let mut cases = vec![
        Case::new("without Host").send("GET /x HTTP/1.0\r\n\r\n").reply(UPGRADE_REQUIRED).closed(),
        Case::new("keep-alive")
            .send("GET /x HTTP/1.0\r\nhost: a.test\r\nconnection: keep-alive\r\n\r\n")
            .reply(UPGRADE_REQUIRED)
            .closed()
            .log("426 DPE low_version"),
        Case::new("no version at all").send(line("GET /x")).reply(UPGRADE_REQUIRED).closed(),
        Case::new("no version, no empty line")
            .send("GET /x\r\n")
            .reply(UPGRADE_REQUIRED)
            .closed()
            .legate_differs("the answer waits for the end of the head", |expect| {
                expect.reply.clear();
                expect.end = End::Waits;
            }),
    ];
    for version in ["HTTP/1.0", "HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/3.0", "HTTP/9.9"] {
        let case = Case::new(version).send(line(format!("GET /x {version}")));
        cases.push(case.reply(UPGRADE_REQUIRED).closed());
    }
    for version in [
        "HTTP/1.10",
        "HTTP/2",
        "http/1.1",
        "HTTP/11",
        "HTTP/1.1x",
        "HTTP/1.",
        "HTTP/1,1",
        "HTTP/01.1",
        "HTTP /1.1",
        "HTTPS/1.1",
        "ICE/1.0",
        "RTSP/1.0",
        "HTP/1.1",
    ] {
        let case = Case::new(version).send(line(format!("GET /x {version}"))).reply(BAD_REQUEST).closed();
        cases.push(case.log("400 DPE http1.codec_error"));
    }
    run(cases);
}

const UPSTREAM: &str = "GET /x HTTP/1.1\r\nhost: a.test\r\n{X}\r\n";
const CLOSED: &str = "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n{S}connection: close\r\n\r\nok";
const KEEP: &str = "connection: keep-alive\r\n";

fn request(lines: &str) -> String {
    format!("GET /x HTTP/1.0\r\nhost: a.test\r\n{lines}\r\n")
}

fn case(name: &str) -> Case {
    Case::new(name).hcm(json!({"http_protocol_options": {"accept_http_10": true}})).closed()
}

#[test]
fn accepted() {
    let kept = case("keep-alive")
        .send(request("connection: Keep-Alive\r\n"))
        .reply("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n{S}connection: keep-alive\r\n\r\nok")
        .reaches(UPSTREAM)
        .kept();
    let kept_direct = case("keep-alive, direct")
        .send(format!("GET /direct HTTP/1.0\r\nhost: a.test\r\n{KEEP}\r\n"))
        .reply(
            "HTTP/1.0 200 OK\r\ncontent-length: 6\r\ncontent-type: text/plain\r\n{DS}\
             connection: keep-alive\r\n\r\ndirect",
        )
        .kept();
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    run(vec![
        kept,
        kept_direct,
        case("plain").send(request("")).reply(CLOSED).reaches(UPSTREAM),
        case("without Host")
            .send("GET /x HTTP/1.0\r\n\r\n")
            .reply("HTTP/1.0 400 Bad Request\r\n{DS}connection: close\r\ncontent-length: 0\r\n\r\n")
            .log("400 - missing_host_header"),
        case("without Host, with a default")
            .hcm(json!({"http_protocol_options":
                {"accept_http_10": true, "default_host_for_http_10": "default.test"}}))
            .send("GET /x HTTP/1.0\r\n\r\n")
            .reply(CLOSED)
            .reaches("GET /x HTTP/1.1\r\nhost: default.test\r\n{X}\r\n"),
        case("chunked answer")
            .send(request(""))
            .answer(chunked)
            .reply("HTTP/1.0 200 OK\r\n{S}connection: close\r\n\r\nabc")
            .reaches(UPSTREAM),
        case("chunked answer, keep-alive")
            .send(request(KEEP))
            .answer(chunked)
            .reply("HTTP/1.0 200 OK\r\n{S}connection: close\r\n\r\nabc")
            .reaches(UPSTREAM),
        case("204, keep-alive")
            .send(request(KEEP))
            .answer("HTTP/1.1 204 No Content\r\n\r\n")
            .reply("HTTP/1.0 204 No Content\r\n{S}connection: close\r\n\r\n")
            .reaches(UPSTREAM),
    ]);
}

#[test]
fn other_requests() {
    run(vec![
        case("HEAD")
            .send("HEAD /x HTTP/1.0\r\nhost: a.test\r\n\r\n")
            .answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .reply("HTTP/1.0 200 OK\r\n{S}connection: close\r\n\r\n")
            .reaches("HEAD /x HTTP/1.1\r\nhost: a.test\r\n{X}\r\n"),
        case("POST")
            .send("POST /x HTTP/1.0\r\nhost: a.test\r\ncontent-length: 3\r\n\r\nabc")
            .reply(CLOSED)
            .reaches("POST /x HTTP/1.1\r\nhost: a.test\r\ncontent-length: 3\r\n{X}\r\nabc"),
        case("POST, chunked")
            .send(
                "POST /x HTTP/1.0\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            )
            .reply(CLOSED)
            .reaches(
                "POST /x HTTP/1.1\r\nhost: a.test\r\n{X}transfer-encoding: chunked\r\n\r\n\
                 3\r\nabc\r\n0\r\n\r\n",
            ),
        case("keep-alive beside Transfer-Encoding")
            .send(
                "POST /x HTTP/1.0\r\nhost: a.test\r\nconnection: keep-alive\r\n\
                 transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            )
            .reply("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n{S}connection: keep-alive\r\n\r\nok")
            .reaches("POST /x HTTP/1.1\r\nhost: a.test\r\n{X}transfer-encoding: chunked\r\n\r\n0\r\n\r\n")
            .kept()
            .legate_differs("the framing is in doubt (RFC 9112, 6.1)", |expect| {
                expect.reply = CLOSED.as_bytes().to_vec();
                expect.end = End::Closed;
            }),
        case("keep-alive, and a proxy's close")
            .send(request("connection: keep-alive\r\nproxy-connection: close\r\n"))
            .reply(CLOSED)
            .reaches(UPSTREAM),
        case("expect")
            .send("POST /x HTTP/1.0\r\nhost: a.test\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc")
            .reply("HTTP/1.0 100 Continue\r\n\r\n")
            .reply(CLOSED)
            .reaches("POST /x HTTP/1.1\r\nhost: a.test\r\ncontent-length: 3\r\n{X}\r\nabc"),
        case("no route, keep-alive")
            .send(format!("GET /x HTTP/1.0\r\nhost: none.test\r\n{KEEP}\r\n"))
            .reply("HTTP/1.0 404 Not Found\r\n{DS}connection: close\r\ncontent-length: 0\r\n\r\n"),
        case("no route, HEAD")
            .send("HEAD /x HTTP/1.0\r\nhost: none.test\r\n\r\n")
            .reply("HTTP/1.0 404 Not Found\r\n{DS}connection: close\r\n\r\n"),
        case("version 1.2 counts as 1.0").send(line("GET /x HTTP/1.2")).reply(CLOSED).reaches(UPSTREAM),
        case("version 2.0 counts as 1.0").send(line("GET /x HTTP/2.0")).reply(CLOSED).reaches(UPSTREAM),
        case("bad field")
            .send("GET /x HTTP/1.0\r\nfoo bar\r\n\r\n")
            .reply(BAD_REQUEST)
            .log("400 DPE http1.codec_error"),
    ]);
}
