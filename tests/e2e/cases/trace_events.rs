//! The Chrome trace of two workers, checked and asked by `tests/trace_events.py`, whose tables are those of
//! Perfetto's trace processor.

use super::get;
use super::trace::ask;
use crate::harness::{Case, Kind, Launch, Site, Wire};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// What a request that an upstream answers has to pass, in this order.
const REQUIRED: [&str; 10] = [
    "ConnectionManagerImpl::newStream",
    "ActiveStream::decodeHeaders",
    "Filter::decodeHeaders",
    "ConnPoolImpl::newStream",
    "ConnPoolImpl::attachRequestToClient",
    "UpstreamRequest::onPoolReady",
    "Filter::onUpstreamHeaders",
    "ActiveStream::encodeHeaders",
    "ConnectionManagerImpl::doEndStream",
    "ConnectionManagerImpl::doDeferredStreamDestroy",
];

/// What the script says of a trace, and whether it has found nothing wrong.
fn script(arguments: &[&str], trace: &str) -> (bool, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/trace_events.py");
    let mut command = Command::new("python3");
    command.arg(path).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.spawn().expect("python3");
    let mut input = process.stdin.take().expect("its input");
    input.write_all(trace.as_bytes()).expect("the trace written");
    drop(input);
    let output = process.wait_with_output().expect("its output");
    (output.status.success(), String::from_utf8(output.stdout).expect("text"))
}

/// The rows that a query has, each cut at its tabs. The trace has to be sound.
fn rows(trace: &str, arguments: [&str; 2]) -> Vec<Vec<String>> {
    let (sound, text) = script(&[&arguments[..], &["-"]].concat(), trace);
    assert!(sound, "{}", text.lines().take(20).collect::<Vec<_>>().join("\n"));
    let cut = |line: &str| line.split('\t').map(String::from).collect();
    text.lines().skip(1).map(cut).collect()
}

fn query(trace: &str, name: &str) -> Vec<Vec<String>> {
    rows(trace, ["--query", name])
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

fn chrome(site: &Site) -> String {
    let (status, trace) = ask(site, "GET", "/trace?format=chrome");
    assert_eq!(status, 200);
    trace
}

fn start(case: &Case) -> Site {
    let site = Site::start_with(Kind::Legate, &[case], Launch { workers: 2, ..Launch::default() });
    assert_eq!(ask(&site, "POST", "/trace?enable=y").0, 200);
    site
}

fn request(client: &mut Wire) {
    assert!(client.send(get("")));
    assert!(client.answer(false).starts_with(b"HTTP/1.1 200 OK\r\n"));
}

/// Connections of which each worker has at least one; each has had a request.
fn connect_to_both(site: &Site) -> Vec<Wire> {
    let has_one = |worker: u32| {
        // The configured port is 0.
        let name = format!("listener.127.0.0.1_0.worker_{worker}.downstream_cx_total");
        site.proxy.admin.stat(&name).is_some_and(|total| total > 0)
    };
    let mut clients = Vec::new();
    while clients.len() < 200 {
        let mut client = Wire::connect(site.port(0));
        request(&mut client);
        clients.push(client);
        if has_one(0) && has_one(1) {
            return clients;
        }
    }
    panic!("one of the workers has got none of {} connections", clients.len());
}

#[test]
fn the_script_finds_what_is_broken() {
    assert_eq!(script(&["--self-test"], ""), (true, "ok\n".to_string()));
    let unbalanced = r#"{"traceEvents": [{"ph": "E", "pid": 1, "tid": 1, "ts": 0}]}"#;
    let (sound, text) = script(&["-"], unbalanced);
    assert!(!sound && text.contains("event 0: E without a B"), "{text}");
}

#[test]
fn a_trace_of_two_workers_answers_questions() {
    let case = Case::new("two workers");
    let site = start(&case);
    let mut clients = connect_to_both(&site);
    clients.iter_mut().for_each(request);
    let sent = 2 * clients.len() as u64;
    drop(clients);
    // Without connections there are no requests under way.
    site.proxy.admin.wait_for_stat("http.case0.downstream_cx_active", 0).expect("all closed");
    let trace = chrome(&site);

    let workers = query(&trace, "requests_per_worker");
    let names: Vec<&str> = workers.iter().map(|row| row[0].as_str()).collect();
    let requests: Vec<u64> = workers.iter().map(|row| number(&row[1])).collect();
    assert_eq!(names, ["worker_0", "worker_1"]);
    assert!(
        requests.iter().all(|n| *n >= 2) && requests.iter().sum::<u64>() == sent,
        "{requests:?} of {sent}"
    );

    let longest = query(&trace, "longest_pass");
    assert!(longest[0][0].starts_with("worker_") && number(&longest[0][2]) > 0, "{longest:?}");
    assert!(query(&trace, "in_longest_pass").iter().any(|row| row[0].starts_with("callback: ")));

    let each = query(&trace, "stages_of_each_request");
    assert_eq!(each.len() as u64, sent);
    for request in each {
        let mut stages = request[1].split(' ');
        let missing = REQUIRED.iter().find(|name| !stages.any(|stage| stage == **name));
        assert_eq!(missing, None, "in its place among the stages of {request:?}");
    }
    let arrows = "SELECT i.name, COUNT(*) FROM flow JOIN slice i ON i.id = slice_in GROUP BY 1";
    let attached = ["ConnPoolImpl::attachRequestToClient".to_string(), sent.to_string()];
    assert_eq!(rows(&trace, ["--sql", arrows]), [attached]);
    let (sound, report) = script(&["--report", "-"], &trace);
    assert!(sound && report.contains(&format!("stages of the {sent} whole requests: ")), "{report}");
}

#[test]
fn a_trace_is_sound_while_its_rings_are_overwritten() {
    // A ring has room for the events of fewer requests than these.
    const REQUESTS: usize = 300;
    let case = Case::new("overwritten");
    let site = start(&case);
    let clients = connect_to_both(&site);
    let (busy, going) = (AtomicUsize::new(clients.len()), AtomicBool::new(true));
    let traces: Vec<String> = thread::scope(|scope| {
        for mut client in clients {
            let (busy, going) = (&busy, &going);
            scope.spawn(move || {
                (0..REQUESTS).for_each(|_| request(&mut client));
                busy.fetch_sub(1, Ordering::Relaxed);
                while going.load(Ordering::Relaxed) {
                    request(&mut client);
                }
            });
        }
        let mut traces = vec![chrome(&site)];
        while busy.load(Ordering::Relaxed) > 0 {
            traces.push(chrome(&site));
        }
        traces.push(chrome(&site));
        going.store(false, Ordering::Relaxed);
        traces.split_off(traces.len().saturating_sub(2))
    });
    let first_pass = "SELECT thread.name, MIN(EXTRACT_ARG(arg_set_id, 'args.pass')) FROM slice
        JOIN thread_track ON track_id = thread_track.id JOIN thread USING (utid)
        WHERE slice.name = 'pass' AND thread.name GLOB 'worker_*' GROUP BY 1";
    for trace in &traces {
        assert!(number(&query(trace, "stages_per_request")[0][0]) > 0);
    }
    let first = rows(traces.last().expect("a trace"), ["--sql", first_pass]);
    assert!(first.len() == 2 && first.iter().all(|row| number(&row[1]) > 1), "{first:?}");
}

#[test]
fn what_was_recorded_before_is_in_no_later_trace() {
    let case = Case::new("once more");
    let site = start(&case);
    let clients = connect_to_both(&site);
    drop(clients);
    site.proxy.admin.wait_for_stat("http.case0.downstream_cx_active", 0).expect("all closed");
    assert_eq!(ask(&site, "POST", "/trace?enable=n").0, 200);
    assert_eq!(ask(&site, "POST", "/trace?enable=y").0, 200);
    assert_eq!(query(&chrome(&site), "stages_of_each_request"), Vec::<Vec<String>>::new());
}
