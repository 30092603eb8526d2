//! The stage recorder through the admin: legate's own, so Envoy has no part in it.

use super::get;
use crate::harness::{Case, Kind, Launch, PATIENCE, ParsedReply, Site, Wire, new_directory};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

/// Sends a request to the admin; the answer's status and body.
pub(super) fn ask(site: &Site, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(site.proxy.admin.address).expect("the admin");
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: admin\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the request sent");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    let reply = ParsedReply::parse(&bytes).expect("a response");
    (reply.status, String::from_utf8(reply.body).expect("text"))
}

/// Two requests on one connection.
fn requests(site: &Site) {
    let mut client = TcpStream::connect(("127.0.0.1", site.port(0))).expect("a connection");
    for number in 1..=2 {
        client.write_all(get("").as_slice()).expect("the request sent");
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\nok") {
            let mut piece = [0; 1024];
            let n = client.read(&mut piece).expect("an answer");
            assert!(n > 0, "answer {number} is {}", bytes.escape_ascii());
            bytes.extend_from_slice(&piece[..n]);
        }
    }
}

fn objects(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).expect("an object")).collect()
}

/// The names of the stages of the recorded streams' events, and of those of the pool, in their order.
fn stages(events: &[Value], stream: &str) -> Vec<String> {
    let name = |e: &Value| e["stage"].as_str().unwrap_or_default().to_string();
    let of_stream = |e: &&Value| e["stream"] == stream && e["ph"] != "E";
    events.iter().filter(of_stream).map(name).collect()
}

#[test]
fn records_stages_while_it_is_on() {
    let case = Case::new("recorded");
    let site = Site::start(Kind::Legate, &[&case]);
    requests(&site);
    let (status, text) = ask(&site, "GET", "/trace");
    assert_eq!(status, 200);
    assert!(text.starts_with("nothing is recorded"), "{text}");

    assert_eq!(ask(&site, "GET", "/trace?enable=y").0, 405);
    assert_eq!(ask(&site, "POST", "/trace?enable=x").0, 400);
    assert_eq!(ask(&site, "POST", "/trace?enable=y"), (200, "OK\n".to_string()));
    requests(&site);
    // A stream is freed after its response is written, so before its connection is closed.
    let closed = site.proxy.admin.wait_for_stat("http.case0.downstream_cx_active", 0);
    assert_eq!(closed, Ok(()));
    assert_eq!(ask(&site, "POST", "/trace?enable=n"), (200, "OK\n".to_string()));

    let lines = objects(&ask(&site, "GET", "/trace?format=json").1);
    let (header, events) = lines.split_first().expect("a header");
    assert_eq!((&header["header"]["version"], &header["header"]["enabled"]), (&1.into(), &false.into()));
    // The admin's own requests are recorded, too.
    let is_ours = |e: &&Value| e["stream_info"]["path"] == "/x" && e["stream_info"]["method"] == "GET";
    assert_eq!(events.iter().filter(is_ours).count(), 2);
    let callbacks = |by_hand: u64| {
        let of_worker = |e: &&Value| e["stage"] == "callback" && e["ph"] == "B" && e["w"] == 1;
        events.iter().filter(of_worker).filter(|e| e["b"].as_u64().is_some_and(|b| b & 8 == by_hand)).count()
    };
    // A request and a response are read, and each is written by an event that was activated by hand.
    assert!(callbacks(0) >= 4 && callbacks(8) >= 4, "{} and {}", callbacks(0), callbacks(8));
    let streams: Vec<&str> = events
        .iter()
        .filter(|e| e["stage"] == "ConnectionManagerImpl::newStream" && e["w"] != 0)
        .filter_map(|e| e["stream"].as_str())
        .collect();
    let [first, second] = streams[..] else { panic!("streams {streams:?}") };
    // The connection to the upstream is there from before, so both requests find it ready.
    let expected = [
        "ConnectionManagerImpl::newStream",
        "ActiveStream::decodeHeaders",
        "ActiveStream::maybeEndDecode",
        "ConnectionManagerUtility::mutateRequestHeaders",
        "ActiveStream::refreshCachedRoute",
        "ActiveStream::createFilterChain",
        "Filter::decodeHeaders",
        "Filter::getConnPool",
        "UpstreamRequest::encodeHeaders",
        "ConnPoolImpl::newStream",
        "ConnPoolImpl::attachRequestToClient",
        "UpstreamRequest::onPoolReady",
        "Filter::onRequestComplete",
        "ActiveStream::resetIdleTimer",
        "UpstreamRequest::decodeHeaders",
        "Filter::onUpstreamHeaders",
        "ActiveStreamDecoderFilter::encodeHeaders",
        "ActiveStream::encodeHeaders",
        "ConnectionManagerUtility::mutateResponseHeaders",
        "ActiveStream::chargeStats",
        "UpstreamRequest::decodeData",
        "Filter::onUpstreamData",
        "ActiveStream::encodeData",
        "UpstreamRequest::decodeData",
        "Filter::onUpstreamData",
        "Filter::onUpstreamComplete",
        "ActiveStream::encodeData",
        "ActiveStream::maybeEndEncode",
        "ConnectionManagerImpl::doEndStream",
        "ConnectionManagerImpl::doDeferredStreamDestroy",
        "Filter::onDestroy",
        "ActiveStream::~ActiveStream",
    ];
    for stream in [first, second] {
        assert_eq!(stages(events, stream), expected);
    }
    let passes: Vec<u64> = events.iter().filter(|e| e["w"] == 1).filter_map(|e| e["pass"].as_u64()).collect();
    assert!(passes.is_sorted() && passes[0] > 0 && passes.last() > passes.first(), "{passes:?}");

    let chrome: Value = serde_json::from_str(&ask(&site, "GET", "/trace?format=chrome").1).expect("JSON");
    let slices = |ph: &str| {
        let events = chrome["traceEvents"].as_array().expect("events");
        events.iter().filter(|e| e["ph"] == ph).count()
    };
    assert!(slices("B") > 10 && slices("B") == slices("E"));
    assert_eq!((slices("s"), slices("f")), (2, 2));
    assert_eq!(ask(&site, "GET", "/trace?format=x").0, 400);
    tables(&site, first);
    let (status, page) = ask(&site, "GET", "/trace/ui");
    assert!(status == 200 && page.starts_with("<!doctype html>") && page.ends_with("</html>\n"), "{status}");
}

/// The tables of the same recording.
fn tables(site: &Site, stream: &str) {
    let table = ask(site, "GET", "/trace").1;
    let row = |stage: &str| {
        let row = table.lines().find(|line| line.contains(stage));
        row.unwrap_or_else(|| panic!("no {stage} in {table}")).to_string()
    };
    assert!(row("ConnPoolImpl::attachRequestToClient").contains(" S1 "), "{table}");
    assert!(
        row("ConnectionManagerImpl::newStream").ends_with(&format!("newStream [{stream} GET /x]")),
        "{table}"
    );
    assert_eq!(table.matches(stream).count(), 1, "the long name stands there once");
    assert!(table.contains("ConnectionImpl::onFileEvent bits=Read"), "{table}");
    assert!(row("ActiveStream::decodeHeaders").ends_with(" end=yes"), "{table}");
    assert!(row("ConnectionImpl::closeSocket").ends_with(" event=RemoteClose"), "{table}");
    assert!(!table.contains("kind=") && !table.contains("main_thread"), "{table}");
    let all = ask(site, "GET", "/trace?threads=all").1;
    assert!(all.contains("main_thread") && all.contains("worker_0"), "{all}");
    // The clock is measured anew each time, so times differ a little.
    let of_worker = ask(site, "GET", "/trace?threads=worker_0").1;
    assert_eq!(of_worker.lines().count(), table.lines().count(), "{of_worker}");
    let none = ask(site, "GET", "/trace?threads=worker_7").1;
    assert!(none.starts_with("nothing is recorded of worker_7 (others: ?threads=all)"), "{none}");
    let main = objects(&ask(site, "GET", "/trace?format=json&threads=main_thread").1);
    assert_eq!(main[0]["header"]["workers"], serde_json::json!(["main_thread"]));
}

/// Clients ask for the recording and leave, or do not read it.
#[test]
fn a_recording_that_nobody_reads_holds_up_nobody() {
    let mut site = Site::start(Kind::Legate, &[&Case::new("recorded")]);
    assert_eq!(ask(&site, "POST", "/trace?enable=y").0, 200);
    // More than the ring holds, so that each recording is as large as one can be.
    let mut client = Wire::connect(site.port(0));
    for _ in 0..600 {
        client.send(get(""));
        assert!(client.answer(false).ends_with(b"ok"));
    }
    let request =
        |format: &str| format!("GET /trace?format={format}&threads=worker_0 HTTP/1.1\r\nhost: a\r\n\r\n");
    let connect = |format: &str| {
        let mut wire = Wire::new(TcpStream::connect(site.proxy.admin.address).expect("a connection"));
        wire.send(request(format));
        wire
    };
    let mut first = connect("chrome");
    // It has begun before the others ask.
    let mut begun = first.some();
    (0..60).for_each(|_| drop(connect("chrome")));
    let others: Vec<Wire> = (0..4).map(|_| connect("json")).collect();
    let start = Instant::now();
    assert_eq!(ask(&site, "GET", "/ready").0, 200);
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    let last = ask(&site, "GET", "/trace?format=json&threads=worker_0").1;
    assert!(objects(&last).len() > 10_000, "{}", objects(&last).len());
    // Five were wanted after it: it is not written to its end.
    begun.extend(first.rest());
    assert!(!begun.ends_with(b"\r\n0\r\n\r\n") && begun.len() > 1000, "{} bytes", begun.len());
    drop(others);
    site.proxy.signal(Signal::SIGTERM);
    assert_eq!(site.proxy.wait_for_exit(PATIENCE).map(|s| s.code()), Some(Some(0)), "{}", site.proxy.log());
}

/// What the main thread passes from its start to its end, and each worker, in this order.
const MAIN: [&str; 14] = [
    "MainCommonBase::MainCommonBase",
    "InstanceImpl::InstanceImpl",
    "WorkerImpl::WorkerImpl",
    "ClusterManagerImpl::ClusterManagerImpl",
    "ClusterManagerImpl::loadCluster",
    "ClusterManagerImpl::onClusterInit",
    "ClusterManagerInitHelper::maybeFinishInitialize",
    "ListenerManagerImpl::addOrUpdateListener",
    "RunHelper::RunHelper",
    "ListenerManagerImpl::startWorkers",
    "DispatcherImpl::run",
    "InstanceImpl::shutdown",
    "InstanceImpl::terminate",
    "WorkerImpl::stop",
];
const WORKER: [&str; 7] = [
    "WorkerImpl::threadRoutine",
    "DispatcherImpl::run",
    "ThreadLocalClusterManagerImpl::updateClusterMembership",
    "ListenerImpl::setupServerSocket",
    "ActiveListener::newConnection",
    "ThreadLocalClusterManagerImpl::~ThreadLocalClusterManagerImpl",
    "ConnPoolImpl::~ConnPoolImpl",
];

#[test]
fn records_from_the_start_into_a_file() {
    let directory = new_directory(Kind::Legate);
    let path = directory.join("stages.json");
    let command = format!("exec \"$@\" --trace-stages={}", path.display());
    let wrapper = ["sh", "-c", &command, "sh"];
    let launch = Launch { wrapper: &wrapper, ..Launch::default() };
    let mut site = Site::start_with(Kind::Legate, &[&Case::new("from the start")], launch);
    requests(&site);
    site.proxy.signal(Signal::SIGTERM);
    assert!(site.proxy.wait_for_exit(PATIENCE).is_some_and(|status| status.success()));
    let lines = objects(&fs::read_to_string(&path).expect("the file"));
    let _ = fs::remove_dir_all(directory);

    let [header, events @ ..] = &lines[..] else { panic!("no header") };
    let workers: Vec<&str> =
        header["header"]["workers"].as_array().expect("threads").iter().filter_map(Value::as_str).collect();
    assert_eq!(workers, ["main_thread", "worker_0"]);
    for (thread, wanted) in [(0, &MAIN[..]), (1, &WORKER[..])] {
        let mut passed = events.iter().filter(|e| e["w"] == thread).filter_map(|e| e["stage"].as_str());
        let missing = wanted.iter().find(|wanted| !passed.any(|stage| stage == **wanted));
        assert_eq!(missing, None, "in its place on thread {thread}");
    }
}
