//! `/trace/ui` in headless Chromium: what a reader sees of a first request, a reused connection, the pending queue
//! and a failure.

use super::trace::ask;
use crate::harness::{Case, Kind, PATIENCE, Site, Wire, new_directory};
use regex::Regex;
use serde_json::json;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// A page as Chromium has it when its script has run.
struct Page(String);

impl Page {
    /// Loads `/trace/ui#fragment`. `None` where there is no Chromium.
    fn load(site: &Site, fragment: &str) -> Option<Page> {
        let profile = new_directory(Kind::Legate);
        let url = format!("http://{}/trace/ui#{fragment}", site.proxy.admin.address);
        let output = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--log-level=0"])
            .args(["--window-size=1280,900", "--virtual-time-budget=5000", "--dump-dom"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(url)
            .output();
        let _ = std::fs::remove_dir_all(profile);
        let output = match output {
            Ok(output) => output,
            Err(error) => {
                eprintln!("SKIPPED: chromium: {error}");
                return None;
            }
        };
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let said: Vec<&str> = errors.lines().filter(|line| line.contains("CONSOLE")).collect();
        assert!(output.status.success() && said.is_empty(), "{}: {said:#?}\n{errors}", output.status);
        let page = String::from_utf8(output.stdout).expect("text");
        let (before_script, _) = page.split_once("<script>").expect("a script at the end");
        Some(Page(before_script.to_string()))
    }

    /// The text of each element that the pattern finds; entities and tags taken out.
    fn all(&self, pattern: &str) -> Vec<String> {
        let tags = Regex::new("<[^>]*>").expect("a pattern");
        let text = |found: regex::Captures| {
            let text = tags.replace_all(&found[1], " ").replace("&amp;", "&").replace("&nbsp;", " ");
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        Regex::new(pattern).expect("a pattern").captures_iter(&self.0).map(text).collect()
    }

    /// The names over the arrows, without the details.
    fn arrows(&self) -> Vec<String> {
        let name = |text: String| text.split(" · ").next().unwrap_or_default().to_string();
        self.all(r#"(?s)<text class="name"[^>]*>(.*?)</text>"#).into_iter().map(name).collect()
    }

    /// The libevent call beside each arrow.
    fn calls(&self) -> Vec<String> {
        self.all(r#"(?s)<text class="chip-text"[^>]*>(.*?)</text>"#)
    }

    /// How the pool's lists change, by arrow.
    fn lists(&self) -> Vec<String> {
        self.all(r#"(?s)<text class="lists"[^>]*>pool now: (.*?)</text>"#)
    }

    /// The recorded requests, the newest first.
    fn requests(&self) -> Vec<String> {
        self.all(r#"(?s)<li><button data-i[^>]*>(.*?)</button></li>"#)
    }

    fn panel(&self) -> String {
        self.all(r#"(?s)<aside id="panel"[^>]*>(.*?)</aside>"#).join(" ")
    }

    /// The step that is shown, and the arrows that are still to come.
    fn step(&self) -> (String, usize) {
        let later = self.all(r#"<g class="(row[^"]*later)""#).len();
        (self.all(r#"<span id="count">(.*?)</span>"#).join(" "), later)
    }

    /// What the buttons above the list say.
    fn marks(&self) -> Vec<String> {
        self.all(r#"(?s)<button data-mark[^>]*>(.*?)</button>"#)
    }
}

/// The arrows that stand in the page in this order, perhaps with others between them.
#[track_caller]
fn assert_order(arrows: &[String], wanted: &[&str]) {
    let mut rest = arrows.iter();
    for name in wanted {
        assert!(rest.any(|arrow| arrow == name), "{name} is not where it belongs:\n{}", arrows.join("\n"));
    }
}

/// legate, recording, before an upstream that this test plays; at most so many connections to it.
fn start(max_connections: u32) -> (Site, TcpListener) {
    let upstream = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = upstream.local_addr().expect("its address").port();
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let endpoints = json!([{"lb_endpoints": [{"endpoint": {"address": address}}]}]);
    let limits = json!({"thresholds": [{"max_connections": max_connections}]});
    let cluster = json!({"load_assignment": {"endpoints": endpoints}, "circuit_breakers": limits});
    let case = Case::new("drawn").cluster(cluster);
    upstream.set_nonblocking(true).expect("a socket that does not block");
    let site = Site::start(Kind::Legate, &[&case]);
    assert_eq!(ask(&site, "POST", "/trace?enable=y").0, 200);
    (site, upstream)
}

/// The proxy's next connection.
fn accept(upstream: &TcpListener) -> TcpStream {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match upstream.accept() {
            Ok((peer, _)) => {
                peer.set_nonblocking(false).expect("a socket that blocks");
                peer.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                return peer;
            }
            Err(error) => assert!(Instant::now() < deadline, "the proxy does not connect: {error}"),
        }
        thread::sleep(Duration::from_millis(1)); // a wait without a limit is the only event
    }
}

fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n\r\n").into_bytes()
}

fn read_head(peer: &mut TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        peer.read_exact(&mut byte).expect("a request");
        head.push(byte[0]);
    }
}

fn respond(peer: &mut TcpStream, client: &mut Wire) {
    peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").expect("the response sent");
    assert!(client.answer(false).starts_with(b"HTTP/1.1 200 OK\r\n"));
}

/// Waits for a counter of the case's cluster; nothing but asking tells.
fn wait_for(site: &Site, name: &str, value: u64) {
    let deadline = Instant::now() + PATIENCE;
    while site.proxy.admin.stat(&format!("cluster.case0.{name}")) != Some(value) {
        assert!(Instant::now() < deadline, "{name} is not {value}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until what belongs to a request's end is recorded, then stops recording.
fn stop_recording(site: &Site, requests: usize) {
    let deadline = Instant::now() + PATIENCE;
    while ask(site, "GET", "/trace").1.matches("doDeferredStreamDestroy").count() < requests {
        assert!(Instant::now() < deadline, "the requests do not end");
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(ask(site, "POST", "/trace?enable=n").0, 200);
}

#[test]
fn a_first_and_a_second_request() {
    let (site, upstream) = start(1024);
    let mut client = Wire::connect(site.port(0));
    assert!(client.send(request("/first?<b>")));
    let mut peer = accept(&upstream);
    read_head(&mut peer);
    respond(&mut peer, &mut client);
    assert!(client.send(request("/second")));
    read_head(&mut peer);
    respond(&mut peer, &mut client);
    stop_recording(&site, 2);

    let Some(page) = Page::load(&site, "request=1") else { return };
    let lanes = page.all(r#"<text class="lane"[^>]*>(.*?)</text>"#).join(" ");
    assert_eq!(
        lanes,
        "client worker's event loop downstream connection connection manager router pool upstream connection server"
    );
    let requests = page.requests();
    assert!(requests[0].contains("GET /second 200"), "{requests:?}");
    assert!(requests[1].contains("GET /first?&lt;b&gt; 200") && requests[1].contains("new connection"));
    assert!(requests[0].contains("reused"), "{requests:?}");
    let arrows = page.arrows();
    assert_order(
        &arrows,
        &[
            "ListenerImpl::listenCallback",
            "ActiveListener::newConnection",
            "RawBufferSocket::doRead",
            "ConnectionManagerImpl::onData",
            "ConnectionManagerImpl::newStream",
            "ActiveStream::decodeHeaders",
            "ActiveStream::refreshCachedRoute",
            "Filter::decodeHeaders",
            "LoadBalancerBase::chooseHost",
            "ConnPoolImpl::newStream",
            "ConnPoolImpl::createNewConnection",
            "ClientConnectionImpl::connect",
            "ConnPoolImplBase::newPendingRequest",
            "ConnPoolImpl::onConnectionEvent",
            "ConnPoolImpl::attachRequestToClient",
            "UpstreamRequest::onPoolReady",
            "ConnectionImpl::write",
            "RawBufferSocket::doWrite",
            "Filter::onUpstreamHeaders",
            "ActiveStream::encodeHeaders",
            "ConnPoolImpl::onResponseComplete",
            "RawBufferSocket::doWrite",
            "DispatcherImpl::clearDeferredDeleteList",
        ],
    );
    let calls = page.calls();
    assert_eq!(calls.len(), arrows.len());
    for (arrow, call) in [
        ("ListenerImpl::listenCallback", "evconnlistener callback"),
        ("ConnectionManagerImpl::onData", "in EV_READ"),
        ("ConnPoolImpl::onConnectionEvent", "in EV_WRITE"),
        ("DispatcherImpl::clearDeferredDeleteList", "event_active (0 ms timer)"),
    ] {
        let at = arrows.iter().position(|name| name == arrow).expect("the arrow");
        assert_eq!(calls[at], call, "{arrow}");
    }
    let last_write = arrows.iter().rposition(|name| name == "RawBufferSocket::doWrite").expect("a write");
    assert_eq!(calls[last_write], "in event_active(EV_WRITE)");
    let lists = ["0 pending · 1 busy · 0 ready", "1 pending · 1 busy · 0 ready"];
    assert_eq!(page.lists()[..2], lists);
    assert_eq!(page.lists().last().map(String::as_str), Some("0 pending · 0 busy · 1 ready"));
    assert!(page.panel().contains("A new upstream connection"), "{}", page.panel());
    assert!(!page.0.contains("A stage that this page does not know"));
    let choices = page.all(r#"(?s)<text class="name"[^>]*>(LoadBalancerBase::chooseHost.*?)</text>"#);
    assert!(choices[0].ends_with("server 1 of 1"), "{choices:?}");

    let page = Page::load(&site, "request=2&step=3").expect("chromium");
    let (count, later) = page.step();
    assert!(count.starts_with("step 3 of ") && later > 10, "{count}, {later} to come");
    assert!(page.panel().contains("legate src/"), "{}", page.panel());
    assert!(!page.arrows().contains(&"ListenerImpl::listenCallback".to_string()));
    let last = page.arrows().len();
    let page = Page::load(&site, &format!("request=2&step={last}")).expect("chromium");
    assert_eq!(page.step().1, 0);
    assert!(page.panel().contains("pending 0 busy 0 ready 1"), "{}", page.panel());
}

#[test]
fn requests_that_wait_for_a_connection() {
    let (site, upstream) = start(1);
    let mut clients: Vec<Wire> = (0..3).map(|_| Wire::connect(site.port(0))).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        assert!(client.send(request(&format!("/{number}"))));
        wait_for(&site, "upstream_rq_pending_total", number as u64 + 1);
    }
    let mut peer = accept(&upstream);
    for client in &mut clients {
        read_head(&mut peer);
        respond(&mut peer, client);
    }
    stop_recording(&site, 3);

    let Some(page) = Page::load(&site, "request=3&slow=3600000") else { return };
    assert_eq!(page.marks(), ["slow 0", "failed 0", "new connection 1", "reused 2", "waited 2"]);
    let lists = page.lists();
    assert!(lists.contains(&"2 pending · 1 busy · 0 ready".to_string()), "{lists:?}");
    assert!(page.arrows().contains(&"ConnPoolImpl::onUpstreamReady".to_string()), "{:?}", page.arrows());
    assert!(page.panel().contains("so it waited for"), "{}", page.panel());
    let page = Page::load(&site, "mark=new").expect("chromium");
    assert_eq!(page.requests().len(), 1);
    assert!(page.requests()[0].contains("GET /0 200"), "{:?}", page.requests());
    let page = Page::load(&site, "mark=slow&slow=0.000001").expect("chromium");
    assert_eq!((page.marks()[0].as_str(), page.requests().len()), ("slow 3", 3));
}

/// Recording begins when a connection to the upstream exists: the pool's lists are known from the start.
#[test]
fn a_recording_that_begins_behind_a_request() {
    let (site, upstream) = start(1024);
    assert_eq!(ask(&site, "POST", "/trace?enable=n").0, 200);
    let mut client = Wire::connect(site.port(0));
    assert!(client.send(request("/before")));
    let mut peer = accept(&upstream);
    read_head(&mut peer);
    respond(&mut peer, &mut client);
    assert_eq!(ask(&site, "POST", "/trace?enable=y").0, 200);
    // The worker is told by a post, and says what its pools have before anything else.
    let deadline = Instant::now() + PATIENCE;
    while !ask(&site, "GET", "/trace?format=json").1.contains("\"lists\"") {
        assert!(Instant::now() < deadline, "the worker does not record");
        thread::sleep(Duration::from_millis(2));
    }
    assert!(client.send(request("/seen")));
    read_head(&mut peer);
    // The answer in two pieces: between them the server is waited for, and nobody else.
    peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").expect("the head sent");
    assert!(!client.head().is_empty());
    thread::sleep(Duration::from_millis(20)); // it is this time that the page has to explain
    peer.write_all(b"ok").expect("the body sent");
    assert_eq!(client.take(2), b"ok");
    stop_recording(&site, 1);

    let Some(page) = Page::load(&site, "find=seen") else { return };
    assert_eq!(page.requests().len(), 1);
    assert!(page.requests()[0].contains("GET /seen 200") && page.requests()[0].contains("reused"));
    assert_eq!(page.lists(), ["0 pending · 1 busy · 0 ready", "0 pending · 0 busy · 1 ready"]);
    let times = page.all(r#"(?s)<table>(.*?)</table>"#).join(" ");
    let waited = times.split("waiting for the rest of the response ").nth(1).unwrap_or_default();
    assert!(waited.split_whitespace().nth(1) == Some("ms"), "{times}");
    assert!(times.contains("response on its way back"), "{times}");
    let step = Page::load(&site, "request=1&step=1").expect("chromium");
    assert!(step.panel().contains("pending 0 busy 0 ready 1"), "{}", step.panel());
    assert!(step.panel().contains("Reading the diagram"), "{}", step.panel());
    let none = Page::load(&site, "find=before").expect("chromium");
    assert_eq!(none.requests().len(), 0);
}

#[test]
fn a_request_without_a_head_and_a_page_without_requests() {
    let (site, _upstream) = start(1024);
    let Some(page) = Page::load(&site, "") else { return };
    let port = site.port(0);
    assert!(page.0.contains(&format!("curl http://127.0.0.1:{port}/")), "the address of a listener");
    let mut client = Wire::connect(port);
    client.send("GET /half");
    assert_eq!(site.proxy.admin.wait_for_stat("http.case0.downstream_rq_active", 1), Ok(()));
    let page = Page::load(&site, "").expect("chromium");
    assert!(page.requests()[0].contains("head not complete"), "{:?}", page.requests());
}

#[test]
fn a_request_that_fails() {
    let (site, upstream) = start(1024);
    let mut client = Wire::connect(site.port(0));
    assert!(client.send(request("/dropped")));
    let mut peer = accept(&upstream);
    read_head(&mut peer);
    drop(peer);
    assert!(client.answer(false).starts_with(b"HTTP/1.1 503 "));
    stop_recording(&site, 1);

    let Some(page) = Page::load(&site, "mark=failed") else { return };
    assert_eq!(page.marks()[1], "failed 1");
    assert!(page.requests()[0].contains("GET /dropped 503") && page.requests()[0].contains("failed"));
    assert_order(
        &page.arrows(),
        &["ConnPoolImpl::attachRequestToClient", "Filter::onUpstreamReset", "ActiveStream::sendLocalReply"],
    );
    assert!(page.panel().contains("It failed: connection termination."), "{}", page.panel());
}
