//! legate beside what Envoy 1.1 itself logged: no Envoy is needed for it.

use super::{Scratch, legate_trace, text};
use std::fs;

const RECORDINGS: &str = "tests/traces/envoy-1.1";
/// What 1.1 does otherwise as a whole, each with its reason in `docs/trace-differences.md`.
const OTHERWISE: [&str; 9] = [
    "slow-reader",
    "pipelined",
    "trailers",
    "http10",
    "bad-request",
    "connect-refused",
    "max-requests",
    "hedge",
    "host-ejected",
];

#[test]
fn every_scenario_is_as_envoy_1_1_logged_it() {
    let output = legate_trace(&["run", "--scenario", "all", "--recorded", RECORDINGS]);
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{out}\n{}", text(&output.stderr));
    let summary = out.split_once("\nscenario  ").expect("a summary").1;
    let (mut all_equal, mut all_compared) = (0, 0);
    let recorded = fs::read_dir(RECORDINGS).expect("recordings").filter_map(Result::ok);
    let names = recorded.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name());
    let names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
    assert_eq!(names.len(), 59);
    for name in names {
        let line = summary.lines().find(|line| line.split_whitespace().next() == Some(&name));
        let line = line.unwrap_or_else(|| panic!("{name} is not in the summary:\n{out}"));
        let figures: Vec<usize> = line.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
        let [compared, equal, documented, undocumented, ..] = figures[..] else { panic!("{line}") };
        assert_eq!((equal + documented, undocumented), (compared, 0), "{line}");
        if !OTHERWISE.contains(&name.as_str()) {
            all_equal += equal;
            all_compared += compared;
        }
    }
    assert!(all_equal * 10 >= all_compared * 9, "{all_equal} of {all_compared} are equal");
    let newer = summary.lines().filter(|line| line.contains(": skipped: there is no ")).count();
    assert_eq!(newer, 4, "{summary}");
}

/// An edge that finds nothing to write is there or not from run to run of Envoy 1.1.
const UNSTABLE: [&str; 2] = ["socket event: 2", "write ready"];

/// The messages of a log, each with its header fields.
fn messages(log: &str) -> Vec<String> {
    let mut messages: Vec<String> = Vec::new();
    for line in log.lines() {
        match messages.last_mut() {
            Some(last) if !line.starts_with('[') => *last += &format!("\n{line}"),
            _ => messages.push(line.to_string()),
        }
    }
    messages
}

fn thread(message: &str) -> &str {
    message.split(['[', ']']).nth(3).expect("a thread")
}

/// What was said: without time, thread and place.
fn said(message: &str) -> &str {
    message.splitn(6, ']').last().unwrap_or_default()
}

/// The places of a worker's messages that can be told from no message at all.
fn steps(all: &[String]) -> Vec<usize> {
    (0..all.len()).filter(|at| thread(&all[*at]) != thread(&all[0])).collect()
}

fn is_stable(message: &str) -> bool {
    !UNSTABLE.iter().any(|text| message.contains(text))
}

/// The worker's messages left out and doubled, each in turn, and what was done.
fn left_out_and_doubled(all: &[String]) -> Vec<(String, String)> {
    let steps = steps(all).into_iter().filter(|at| is_stable(&all[*at]));
    let changed = |at: usize, times: usize| {
        let mut changed = all.to_vec();
        changed.splice(at..=at, std::iter::repeat_n(all[at].clone(), times));
        (format!("that it is there {times} times: {}", all[at]), changed.join("\n"))
    };
    steps.flat_map(|at| [changed(at, 0), changed(at, 2)]).collect()
}

/// The worker's messages swapped with the next ones, each in turn, and what was done.
fn swapped(all: &[String], exempt: &[&str]) -> Vec<(String, String)> {
    let counts = |at: usize| is_stable(&all[at]) && !exempt.iter().any(|text| all[at].contains(text));
    let steps = steps(all);
    let pairs = steps.windows(2).map(|pair| (pair[0], pair[1]));
    let told_apart = pairs.filter(|(a, b)| counts(*a) && counts(*b) && said(&all[*a]) != said(&all[*b]));
    let changed = |(a, b): (usize, usize)| {
        let mut changed = all.to_vec();
        changed.swap(a, b);
        (format!("that these have changed places:\n{}\n{}", all[a], all[b]), changed.join("\n"))
    };
    told_apart.map(changed).collect()
}

/// Both logs of a scenario: Envoy's, which was recorded, and legate's.
fn play(scratch: &Scratch, scenario: &str) -> [String; 2] {
    let kept = scratch.path("kept");
    let run = ["run", "--scenario", scenario, "--recorded", RECORDINGS, "--keep", &kept];
    let output = legate_trace(&run);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    [format!("{RECORDINGS}/{scenario}/trace.log"), format!("{kept}/{scenario}/legate/trace.log")]
}

/// Compares with each changed log in the place of one side's.
fn has_to_be_seen(
    scratch: &Scratch,
    scenario: &str,
    files: &[String; 2],
    side: usize,
    changes: Vec<(String, String)>,
) {
    let file = scratch.path("changed.log");
    let mut files = files.each_ref().map(String::as_str);
    files[side] = &file;
    for (what, changed) in changes {
        fs::write(&file, changed + "\n").expect("the changed log written");
        let output = legate_trace(&["compare", files[0], files[1], "--scenario", scenario, "--summary"]);
        assert_eq!(output.status.code(), Some(1), "nobody sees {what}");
    }
}

/// Each message of Envoy's left out, doubled, and swapped with the next one.
fn change_each_line(scenario: &str) {
    let scratch = Scratch::new(&format!("recorded-{scenario}"));
    let files = play(&scratch, scenario);
    let all = messages(&fs::read_to_string(&files[0]).expect("a recording"));
    let mut changes = left_out_and_doubled(&all);
    changes.append(&mut swapped(&all, &[]));
    assert!(changes.len() > 300, "{} changes", changes.len());
    has_to_be_seen(&scratch, scenario, &files, 0, changes);
}

/// What legate clears at another time than Envoy.
const DEFERRED: [&str; 1] = ["clearing deferred deletion list"];

#[test]
fn two_steps_of_legate_that_change_places_are_found() {
    let scratch = Scratch::new("swapped");
    let files = play(&scratch, "second-request");
    let changes = swapped(&messages(&fs::read_to_string(&files[1]).expect("legate's log")), &DEFERRED);
    assert!(changes.len() > 80, "{} changes", changes.len());
    has_to_be_seen(&scratch, "second-request", &files, 1, changes);
}

#[test]
fn each_line_of_a_second_request_counts() {
    change_each_line("second-request");
}

#[test]
fn each_line_of_a_post_counts() {
    change_each_line("chunked-post");
}

#[test]
fn each_line_of_a_queue_counts() {
    change_each_line("pending-queue");
}

#[test]
fn each_line_of_a_drain_and_an_end_counts() {
    change_each_line("drain");
}

#[test]
fn each_line_of_a_retry_counts() {
    change_each_line("retry");
}

#[test]
fn each_line_of_a_tunnel_counts() {
    change_each_line("websocket");
}

#[test]
fn what_is_recorded_is_not_asked_for_again() {
    let error = |arguments: &[&str]| {
        let output = legate_trace(&[&["run", "--scenario", "drain"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        text(&output.stderr)
    };
    assert!(error(&["--recorded", "/nonexistent"]).contains("cannot read /nonexistent/drain/trace.log"));
    let with_envoy = error(&["--recorded", RECORDINGS, "--envoy", "/bin/true"]);
    assert!(with_envoy.contains("--envoy says nothing of what is --recorded"), "{with_envoy}");
    let scratch = Scratch::new("recorded-else");
    let log = scratch.path("drain/trace.log");
    fs::create_dir_all(scratch.path("drain")).expect("a directory");
    fs::write(&log, "[2026-01-01 00:00:00.000][1][info][main] [a.rs:1] initializing epoch 0\n")
        .expect("a log");
    let of_legate = error(&["--recorded", &scratch.path("")]);
    assert!(of_legate.contains("trace.log is no log of Envoy's"), "{of_legate}");
}
