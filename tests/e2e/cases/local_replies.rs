//! Answers that the proxy makes itself.

use super::{get, line};
use crate::harness::{Case, DIRECT, run};

/// An answer with a text.
fn text(status: &str, extra: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{extra}content-length: {length}\r\ncontent-type: text/plain\r\n{{DS}}\r\n{body}"
    )
}

const UPSTREAM_ERROR: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";

#[test]
fn refusals() {
    let refused = format!("{UPSTREAM_ERROR}remote connection failure");
    let refused_log = "503 UF upstream_reset_before_response_started{remote_connection_failure|\
        delayed_connect_error:_Connection_refused}";
    let overflow = format!("{UPSTREAM_ERROR}overflow");
    run(vec![
        Case::new("no route")
            .send("GET /x HTTP/1.1\r\nhost: none.test\r\n\r\n")
            .reply("HTTP/1.1 404 Not Found\r\n{DS}content-length: 0\r\n\r\n")
            .log("404 NR route_not_found"),
        Case::new("no route, HEAD")
            .send("HEAD /x HTTP/1.1\r\nhost: none.test\r\n\r\n")
            .reply("HTTP/1.1 404 Not Found\r\n{DS}transfer-encoding: chunked\r\n\r\n"),
        Case::new("no route, body not read")
            .send("POST /x HTTP/1.1\r\nhost: none.test\r\ncontent-length: 5\r\n\r\nhello")
            .reply("HTTP/1.1 404 Not Found\r\n{DS}connection: close\r\ncontent-length: 0\r\n\r\n")
            .closed(),
        Case::new("nobody listens")
            .send(line("GET /refused HTTP/1.1"))
            .reply(text("503 Service Unavailable", "", &refused))
            .log(refused_log),
        Case::new("nobody listens, HEAD")
            .send(line("HEAD /refused HTTP/1.1"))
            .reply(text("503 Service Unavailable", "", &refused).strip_suffix(&refused).unwrap_or_default()),
        Case::new("nobody listens, with a body")
            .send("POST /refused HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5\r\n\r\nhello")
            .reply(text("503 Service Unavailable", "", &refused))
            .log(refused_log),
        Case::new("no hosts")
            .send(line("GET /nohosts HTTP/1.1"))
            .reply(text("503 Service Unavailable", "", "no healthy upstream"))
            .log("503 UH no_healthy_upstream"),
        Case::new("circuit breaker")
            .send(line("GET /full HTTP/1.1"))
            .reply(text("503 Service Unavailable", "x-envoy-overloaded: true\r\n", &overflow))
            .log("503 UO upstream_reset_before_response_started{overflow}"),
        Case::new("upgrade that is not configured")
            .send(get("connection: Upgrade\r\nupgrade: websocket\r\n"))
            .reply("HTTP/1.1 403 Forbidden\r\n{DS}connection: close\r\ncontent-length: 0\r\n\r\n")
            .closed()
            .log("403 - upgrade_failed cluster -"),
    ]);
}

#[test]
fn direct_responses() {
    let mut cases = vec![
        Case::new("with a body and a request body")
            .send("POST /direct HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5\r\n\r\nhello")
            .reply(
                "HTTP/1.1 200 OK\r\ncontent-length: 6\r\ncontent-type: text/plain\r\n{DS}\
                 connection: close\r\n\r\ndirect",
            )
            .closed(),
        Case::new("connection: close")
            .send("GET /direct HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n")
            .reply(
                "HTTP/1.1 200 OK\r\ncontent-length: 6\r\ncontent-type: text/plain\r\n{DS}\
                 connection: close\r\n\r\ndirect",
            )
            .closed()
            .log("200 - direct_response"),
        // Whoever says that a request is wrong.
        Case::new("a status of 400")
            .send(line("GET /direct/400 HTTP/1.1"))
            .reply(text("400 Bad Request", "", "wrong").replace("{DS}", "{DS}connection: close\r\n"))
            .closed(),
    ];
    for (path, get, head) in [
        (
            "/direct",
            String::from_utf8_lossy(DIRECT).into_owned(),
            "HTTP/1.1 200 OK\r\ncontent-length: 6\r\ncontent-type: text/plain\r\n{DS}\r\n".to_string(),
        ),
        (
            "/direct/empty",
            "HTTP/1.1 200 OK\r\n{DS}content-length: 0\r\n\r\n".to_string(),
            "HTTP/1.1 200 OK\r\n{DS}transfer-encoding: chunked\r\n\r\n".to_string(),
        ),
        (
            "/direct/204",
            "HTTP/1.1 204 No Content\r\n{DS}\r\n".to_string(),
            "HTTP/1.1 204 No Content\r\n{DS}\r\n".to_string(),
        ),
        (
            "/direct/304",
            "HTTP/1.1 304 Not Modified\r\nlocation: http://a.test/direct/304\r\n{DS}\r\n".to_string(),
            "HTTP/1.1 304 Not Modified\r\nlocation: http://a.test/direct/304\r\n{DS}\r\n".to_string(),
        ),
        (
            "/direct/403",
            text("403 Forbidden", "", "forbidden"),
            "HTTP/1.1 403 Forbidden\r\ncontent-length: 9\r\ncontent-type: text/plain\r\n{DS}\r\n".to_string(),
        ),
        (
            "/direct/500",
            "HTTP/1.1 500 Internal Server Error\r\n{DS}content-length: 0\r\n\r\n".to_string(),
            "HTTP/1.1 500 Internal Server Error\r\n{DS}transfer-encoding: chunked\r\n\r\n".to_string(),
        ),
        (
            "/direct/599",
            "HTTP/1.1 599 Last Unassigned Server Error Code\r\n{DS}content-length: 0\r\n\r\n".to_string(),
            "HTTP/1.1 599 Last Unassigned Server Error Code\r\n{DS}transfer-encoding: chunked\r\n\r\n"
                .to_string(),
        ),
    ] {
        cases.push(Case::new(path).send(line(format!("GET {path} HTTP/1.1"))).reply(get));
        cases.push(Case::new(format!("HEAD {path}")).send(line(format!("HEAD {path} HTTP/1.1"))).reply(head));
    }
    run(cases);
}
