//! Each form of a small recording.

use serde_json::{Value, json};

use super::super::{Phase, StreamName};
use super::*;

fn threads() -> Vec<ThreadEvents> {
    let event = |time, phase, stage: Stage, conn, stream, a, b| Event {
        time,
        pass: 3,
        phase,
        stage: stage as u16,
        conn,
        stream,
        a,
        b,
    };
    let lists = 1u64 << 32 | 2 << 16 | 3;
    vec![
        ThreadEvents {
            thread: "worker_0".into(),
            events: vec![
                event(50, Phase::End, Stage::Pass, None, 0, 0, 0),
                event(1_000, Phase::Begin, Stage::OnFileEvent, Some(4), 0, 1, 0),
                event(1_500, Phase::Instant, Stage::PoolNewStream, Some(4), 9, 0, 0),
                event(1_600, Phase::Instant, Stage::PoolLists, None, 0, lists, 7),
                event(1_700, Phase::Instant, Stage::AttachRequestToClient, Some(5), 9, 4, 0),
                event(2_000, Phase::End, Stage::OnFileEvent, Some(4), 0, 0, 0),
                event(3_000, Phase::Begin, Stage::Callback, None, 0, 2, BY_HAND),
            ],
            overwritten: true,
            streams: vec![StreamName { stream: 9, method: "GET".into(), path: "/\"".into() }],
        },
        ThreadEvents {
            thread: "worker_1".into(),
            events: vec![event(1_200, Phase::Instant, Stage::Write, Some(6), 0, 12, 0)],
            overwritten: false,
            streams: vec![],
        },
    ]
}

#[test]
fn the_table_is_in_order_and_indented() {
    let text = render(Format::Text, &threads());
    let mut lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 8);
    assert_eq!(lines.remove(1), "older events of worker_0 were overwritten");
    assert!(lines[1].ends_with("  ConnectionImpl::onFileEvent bits=Read"), "{}", lines[1]);
    assert!(lines[2].contains("worker_1") && lines[2].contains("C6"), "{}", lines[2]);
    assert!(
        lines[3].ends_with("     S1    ConnPoolImpl::newStream waiting=0 pool=0 [9 GET /\\\"]"),
        "{}",
        lines[3]
    );
    assert!(lines[4].ends_with("    lists pending=1 busy=2 ready=3 pool=7"), "{}", lines[4]);
    assert!(lines[6].ends_with("  callback: timer by event_active"), "{}", lines[6]);
}

#[test]
fn each_line_of_json_is_an_object() {
    let lines: Vec<Value> =
        render(Format::JsonLines, &threads()).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines[0]["header"]["workers"], json!(["worker_0", "worker_1"]));
    assert_eq!(lines[0]["header"]["overwritten"], json!([true, false]));
    assert_eq!(lines[0]["header"]["stages"].as_array().unwrap().len(), STAGES.len());
    let want = json!({"t": 1500, "w": 0, "pass": 3, "ph": "I", "conn": 4, "stream": "9",
        "stage": "ConnPoolImpl::newStream", "a": 0, "b": 0});
    assert_eq!(lines[1], json!({"stream_info": {"stream": "9", "method": "GET", "path": "/\""}}));
    assert_eq!(lines[5], want);
    assert_eq!(lines.len(), 10);
}

#[test]
fn slices_of_a_chrome_trace_are_balanced() {
    let trace: Value = serde_json::from_str(&render(Format::Chrome, &threads())).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let count = |ph: &str| events.iter().filter(|e| e["ph"] == ph).count();
    assert_eq!((count("B"), count("E"), count("s"), count("f"), count("C"), count("M")), (2, 2, 1, 1, 1, 3));
    let lists = events.iter().find(|e| e["ph"] == "C").unwrap();
    assert_eq!(
        (&lists["name"], &lists["args"]),
        (&json!("pool 7"), &json!({"pending": 1, "busy": 2, "ready": 3}))
    );
    assert!(events.iter().any(|e| e["name"] == "callback: timer by event_active"));
    assert_eq!(events.iter().find(|e| e["ph"] == "B").unwrap()["ts"], json!(1.0));
}

fn chrome_events(threads: &[ThreadEvents]) -> Vec<Value> {
    let trace: Value = serde_json::from_str(&render(Format::Chrome, threads)).unwrap();
    trace["traceEvents"].as_array().unwrap().clone()
}

#[test]
fn an_end_in_a_chrome_trace_ends_whatever_began_last() {
    let events = chrome_events(&threads());
    assert!(events.iter().filter(|e| e["ph"] == "E").all(|e| e["name"].is_null() && e["cat"].is_null()));
}

#[test]
fn each_thread_of_a_chrome_trace_has_a_number_of_its_own() {
    let thread = |name: &str| ThreadEvents {
        thread: name.into(),
        events: Vec::new(),
        overwritten: false,
        streams: Vec::new(),
    };
    let tids = |threads: &[ThreadEvents]| -> Vec<u64> {
        let names = chrome_events(threads).into_iter().filter(|e| e["name"] == "thread_name");
        names.map(|e| e["tid"].as_u64().unwrap()).collect()
    };
    assert_eq!(tids(&[thread("main_thread"), thread("worker_0"), thread("worker_1")]), [1, 3, 4]);
    assert_eq!(tids(&[thread("worker_0"), thread("worker_1")]), [2, 3]);
}

#[test]
fn an_arrow_has_both_ends_or_is_not_drawn() {
    let event = |time, stage: Stage, stream| Event {
        time,
        pass: 1,
        phase: Phase::Instant,
        stage: stage as u16,
        conn: Some(1),
        stream,
        a: 0,
        b: 0,
    };
    let events = vec![
        event(10, Stage::AttachRequestToClient, 1),
        event(20, Stage::PoolNewStream, u64::MAX),
        event(30, Stage::PoolNewStream, 3),
        event(40, Stage::AttachRequestToClient, u64::MAX),
        event(50, Stage::PoolNewStream, u64::MAX),
        event(60, Stage::AttachRequestToClient, u64::MAX),
    ];
    let events = chrome_events(&[ThreadEvents {
        thread: "worker_0".into(),
        events,
        overwritten: false,
        streams: Vec::new(),
    }]);
    let arrows = events.iter().filter(|e| e["cat"] == "flow");
    let ends: Vec<_> = arrows.map(|e| (&e["ph"], &e["bp"], &e["ts"], &e["id"])).collect();
    let id = json!("0xffffffffffffffff");
    assert_eq!(
        ends,
        [(&json!("s"), &Value::Null, &json!(0.02), &id), (&json!("f"), &json!("e"), &json!(0.04), &id)]
    );
}
