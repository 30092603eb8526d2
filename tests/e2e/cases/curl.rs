//! The requests of an ordinary day with curl, which nobody here has written: both proxies have to give it the
//! same answers.

use super::{endpoint, get, join};
use crate::harness::{Case, Kind, Nginx, Seen, Site, Wire, normalize, printable, proxies};
use serde_json::json;
use std::io::Write;
use std::process::{Command, Stdio};

/// What curl is to do.
struct Errand {
    /// Path, and what else is on curl's command line.
    words: Vec<&'static str>,
    input: Vec<u8>,
    /// What its output has to begin with.
    begins: &'static str,
}

fn errand(begins: &'static str, words: &[&'static str]) -> Errand {
    Errand { words: words.to_vec(), input: Vec::new(), begins }
}

fn curl_is_there() -> bool {
    let found = Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !found {
        println!("SKIPPED: no curl, its answers are not compared");
    }
    found
}

/// Heads and body that curl got, and its exit code.
type Outcome = (Vec<u8>, Option<i32>);

fn curl(port: u16, errand: &Errand) -> Outcome {
    let host = errand.words.iter().find(|word| word.starts_with("Host: "));
    let mut process = Command::new("curl")
        .args(["-q", "-s", "-i", "--max-time", "10", "--noproxy", "*"])
        .args(["-A", "curl"])
        .arg(format!("http://127.0.0.1:{port}{}", errand.words[0]))
        .args(["-H", host.unwrap_or(&"Host: a.test")])
        .args(&errand.words[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl started");
    let mut input = process.stdin.take().expect("its input");
    let _ = input.write_all(&errand.input); // curl need not want it
    drop(input);
    let output = process.wait_with_output().expect("its output");
    (normalize(&output.stdout), output.status.code())
}

/// Runs the errands one after the other; a case's upstream sees them in this order.
fn run_errands(kind: Kind, port: u16, errands: &[Errand]) -> Vec<Outcome> {
    let run = |errand: &Errand| {
        let (output, code) = curl(port, errand);
        let shown = printable(&output);
        assert!(output.starts_with(errand.begins.as_bytes()), "{kind:?} {:?}: {shown}", errand.words);
        (output, code)
    };
    errands.iter().map(run).collect()
}

/// The same errands come to the same with every proxy.
fn assert_same(errands: &[Errand], results: &[(Kind, Vec<Outcome>)]) {
    for pair in results.windows(2) {
        for ((errand, a), b) in errands.iter().zip(&pair[0].1).zip(&pair[1].1) {
            let shown = |(output, code): &Outcome| format!("{code:?} {}", printable(output));
            assert!(
                a == b,
                "{:?}\n{:?}: {}\n{:?}: {}",
                errand.words,
                pair[0].0,
                shown(a),
                pair[1].0,
                shown(b)
            );
        }
    }
}

#[test]
fn gets_the_same_of_both_proxies() {
    if !curl_is_there() {
        return;
    }
    let long = "x".repeat(1_200_000).into_bytes();
    let header = ["/p", "-H", "Transfer-Encoding: chunked", "--data-binary", "@-"];
    let ok = "HTTP/1.1 200 OK\r\n";
    let continued = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n";
    let errands = [
        errand(ok, &["/x"]),
        errand(ok, &["/x?a=b%20c", "-H", "X-Twice: 1", "-H", "X-Twice: 2"]),
        errand(ok, &["/p", "-d", "a=b&c=d"]),
        errand(ok, &["/p", "-X", "PUT", "-d", "put"]),
        errand(ok, &["/p", "-X", "DELETE"]),
        Errand { input: b"from curl".to_vec(), ..errand(continued, &["/p", "-T", "-"]) },
        Errand { input: b"from curl again".to_vec(), ..errand(ok, &header) },
        errand(ok, &["/x", "-I"]),
        errand("HTTP/1.1 404 Not Found\r\n", &["/x", "-H", "Host: none.test"]),
        errand("HTTP/1.1 404 Not Found\r\n", &["/x", "-I", "-H", "Host: none.test"]),
        errand("HTTP/1.1 503 Service Unavailable\r\n", &["/refused"]),
        errand("HTTP/1.1 503 Service Unavailable\r\n", &["/nohosts"]),
        errand("HTTP/1.1 503 Service Unavailable\r\n", &["/refused", "-d", "body"]),
        errand("HTTP/1.1 403 Forbidden\r\n", &["/direct/403"]),
        errand("HTTP/1.1 426 Upgrade Required\r\n", &["/x", "-0"]),
        Errand { input: long, ..errand(continued, &["/p", "--data-binary", "@-"]) },
    ];
    let mut results = Vec::new();
    let mut reached = Vec::new();
    for kind in proxies() {
        let site = Site::start(kind, &[&Case::new("curl")]);
        results.push((kind, run_errands(kind, site.port(0), &errands)));
        let received = |seen: &Seen| -> Vec<Vec<u8>> {
            seen.upstreams.iter().map(|upstream| normalize(&upstream.received)).collect()
        };
        reached.push(site.boards[0].look(received));
    }
    assert_same(&errands, &results);
    for pair in reached.windows(2) {
        let shown = |all: &[Vec<u8>]| all.iter().map(|b| printable(b)).collect::<Vec<_>>().join("\n& ");
        assert!(pair[0] == pair[1], "{}\n\n{}", shown(&pair[0]), shown(&pair[1]));
    }
}

#[test]
fn gets_the_same_of_nginx_through_both_proxies() {
    if !curl_is_there() {
        return;
    }
    let long: String = (0..40_000).map(|i| format!("line {i}\n")).collect();
    let Some(nginx) = Nginx::start(&[("short", "short\n"), ("empty", ""), ("long", &long)]) else {
        println!("SKIPPED: no nginx, answers of its are not compared");
        return;
    };
    let ok = "HTTP/1.1 200 OK\r\n";
    let errands = [
        errand(ok, &["/short"]),
        errand(ok, &["/empty"]),
        errand(ok, &["/long"]),
        errand(ok, &["/long", "-H", "Accept-Encoding: gzip"]),
        errand(ok, &["/long", "-H", "Accept-Encoding: gzip", "--compressed"]),
        errand(ok, &["/long", "-I"]),
        errand("HTTP/1.1 206 Partial Content\r\n", &["/long", "-r", "10-19"]),
        errand("HTTP/1.1 304 Not Modified\r\n", &["/short", "-H", "If-None-Match: *"]),
        errand("HTTP/1.1 404 Not Found\r\n", &["/none"]),
        errand("HTTP/1.1 405 Method Not Allowed\r\n", &["/short", "-d", "x"]),
        errand(ok, &["/said", "-d", "hello"]),
        errand("HTTP/1.0 200 OK\r\n", &["/short", "-0"]),
        errand("HTTP/1.0 200 OK\r\n", &["/long", "-0"]),
    ];
    let old = json!({"http_protocol_options": {"accept_http_10": true}});
    let case = Case::new("nginx").cluster(endpoint(nginx.port)).hcm(old);
    let mut results = Vec::new();
    for kind in proxies() {
        let site = Site::start(kind, &[&case]);
        results.push((kind, run_errands(kind, site.port(0), &errands)));
    }
    assert_same(&errands, &results);
}

#[test]
fn what_curl_cannot_send() {
    let nginx = Nginx::start(&[("x", "short\n")]);
    let case = Case::new("raw");
    let case = match &nginx {
        Some(nginx) => case.cluster(endpoint(nginx.port)),
        None => case,
    };
    let sized = |length: usize| {
        let head = |value: &[u8]| join(&[b"GET /direct HTTP/1.1\r\nhost: a\r\na: ", value, b"\r\n\r\n"]);
        head(&b"b".repeat(length - head(b"").len()))
    };
    let closing = get("connection: close\r\n");
    let limit = 60 * 1024;
    let requests = [
        ("pipelined", [get(""), get(""), closing.clone()].concat(), vec!["200", "200", "200"]),
        ("as much as may be", [sized(limit), closing].concat(), vec!["200", "200"]),
        ("a byte too many", sized(limit + 1), vec!["431"]),
    ];
    let mut results = Vec::new();
    for kind in proxies() {
        let site = Site::start(kind, &[&case]);
        let mut all = Vec::new();
        for (name, bytes, statuses) in &requests {
            let mut wire = Wire::connect(site.port(0));
            wire.send(bytes);
            let answer = normalize(&wire.rest());
            let text = String::from_utf8_lossy(&answer).into_owned();
            let got: Vec<&str> = text.split("HTTP/1.1 ").skip(1).map(|rest| &rest[..3]).collect();
            assert_eq!(&got, statuses, "{kind:?} {name}: {}", printable(&answer));
            all.push(answer);
        }
        results.push(all);
    }
    for pair in results.windows(2) {
        for ((name, _, _), (a, b)) in requests.iter().zip(pair[0].iter().zip(&pair[1])) {
            assert!(a == b, "{name}\n{}\n{}", printable(a), printable(b));
        }
    }
}
