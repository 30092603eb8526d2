//! `legate-trace` as a user runs it: every scenario with a real Envoy beside legate, and what it says when a stage is broken.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("trace-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Scratch(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

fn legate_trace(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_legate-trace"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(arguments)
        .output()
        .expect("legate-trace started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Plays a scenario, or all. `None` where there is no Envoy.
fn run(scenario: &str, more: &[&str]) -> Option<Output> {
    let output = legate_trace(&[&["run", "--scenario", scenario], more].concat());
    if text(&output.stderr).contains("no Envoy") {
        eprintln!("SKIPPED: there is no Envoy to compare with");
        return None;
    }
    Some(output)
}

/// Compares two logs of a scenario: the exit status, and what was printed.
fn compare(envoy: &str, legate: &str, scenario: &str) -> (Option<i32>, String) {
    let output = legate_trace(&["compare", envoy, legate, "--scenario", scenario]);
    (output.status.code(), text(&output.stdout))
}

#[test]
fn every_scenario_is_equal_up_to_the_documented_differences() {
    let scratch = Scratch::new("all");
    let page = scratch.path("page.html");
    let Some(output) = run("all", &["--keep", &scratch.path("kept"), "--html", &page]) else { return };
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{out}\n{}", text(&output.stderr));
    assert!(!out.contains("does not occur"), "{out}");
    let scenarios = text(&legate_trace(&["scenarios"]).stdout);
    assert_eq!(scenarios.lines().count(), 24);
    for name in scenarios.lines().filter_map(|line| line.split_whitespace().next()) {
        let line = out.lines().find(|line| line.split_whitespace().next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("{name} is not in the summary:\n{out}"));
        let figures: Vec<usize> = line.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
        let [compared, equal, documented, undocumented, ..] = figures[..] else { panic!("{line}") };
        assert_eq!((equal + documented, undocumented), (compared, 0), "{line}");
        assert!(equal > 30 && equal > documented, "{line}");
    }
    let html = fs::read_to_string(page).expect("the page");
    assert!(html.starts_with("<!doctype html>") && html.contains("id=\"drain\""));
    assert!(!html.contains("class=bad"));
}

#[test]
fn the_recorder_tells_the_same_as_the_log() {
    let Some(output) = run("all", &["--recorder"]) else { return };
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{out}\n{}", text(&output.stderr));
    let all = out.lines().find(|line| line.starts_with("all ")).expect("a sum");
    let figures: Vec<usize> = all.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    assert!(figures[0] > 1000 && figures[1] * 10 > figures[0] * 9, "{all}");
}

/// Stages that only the Envoy of istio 1.1, and so legate, logs: nothing can miss them.
const OF_1_1_ONLY: [&str; 4] = ["readDisable: ", "body size=", "moving to ready", "purge pending"];
/// Several in a row count as one.
const FOLDED: &str = "item added to deferred deletion list";

/// The thread that serves clients, as a line of the log has it; the main thread serves the admin interface.
fn worker_of(log: &str) -> String {
    let line = log.lines().find(|line| line.contains("[router]")).expect("a routed request");
    let thread = line.split(['[', ']']).nth(3).expect("a thread");
    format!("][{thread}][")
}

#[test]
fn a_stage_that_legate_leaves_out_is_found() {
    let scratch = Scratch::new("left-out");
    for scenario in ["second-request", "upstream-refuses"] {
        let Some(output) = run(scenario, &["--keep", &scratch.path("kept")]) else { return };
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
        let kept = |proxy: &str| scratch.path(&format!("kept/{scenario}/{proxy}/trace.log"));
        let log = fs::read_to_string(kept("legate")).expect("legate's log");
        let (envoy, broken) = (kept("envoy"), scratch.path("broken.log"));
        assert_eq!(compare(&envoy, &kept("legate"), scenario).0, Some(0));

        let lines: Vec<&str> = log.lines().collect();
        let worker = worker_of(&log);
        let start = lines.iter().position(|line| line.contains(&worker) && line.contains("new connection"));
        let mut found = 0;
        for left_out in start.expect("a connection")..lines.len() {
            let line = lines[left_out];
            let exempt = OF_1_1_ONLY.iter().chain([&FOLDED]).any(|text| line.contains(text));
            if !line.contains(&worker) || exempt {
                continue;
            }
            let rest: Vec<&str> =
                lines.iter().enumerate().filter(|(i, _)| *i != left_out).map(|(_, line)| *line).collect();
            fs::write(&broken, rest.join("\n")).expect("the broken log written");
            let (status, out) = compare(&envoy, &broken, scenario);
            assert_eq!(status, Some(1), "nobody misses {line}");
            assert!(out.contains(">>>>"), "{out}");
            found += 1;
        }
        assert!(found > 40, "{found} lines");
    }
}

#[test]
fn another_order_another_number_and_an_unknown_text_are_found() {
    let scratch = Scratch::new("changed");
    let Some(_) = run("pending-queue", &["--keep", &scratch.path("kept")]) else { return };
    let kept = |proxy: &str| scratch.path(&format!("kept/pending-queue/{proxy}/trace.log"));
    let log = fs::read_to_string(kept("legate")).expect("legate's log");
    let changed = scratch.path("changed.log");
    let status_of = |log: &str| {
        fs::write(&changed, log).expect("the changed log written");
        compare(&kept("envoy"), &changed, "pending-queue").0
    };
    assert_eq!(status_of(&log), Some(0));
    let number = log.replacen("read returns: 37", "read returns: 36", 1);
    let (before, message) = log.rsplit_once("message begin").expect("a message");
    let unknown = format!("{before}message starts{message}");
    // The queue served newest first: the second and the third client change places.
    let ready: Vec<&str> = log.lines().filter(|line| line.ends_with("pool ready")).collect();
    let [_, second, third] = ready[..] else { panic!("{ready:?}") };
    let order = log.replace(second, "@").replace(third, second).replace('@', third);
    for (what, log_of_it) in [("number", number), ("unknown", unknown), ("order", order)] {
        assert_ne!(log_of_it, log, "{what}");
        assert_eq!(status_of(&log_of_it), Some(1), "{what}");
    }
}

#[test]
fn where_a_scenario_cannot_be_played_on_is_a_difference() {
    let scratch = Scratch::new("stuck");
    let script = scratch.path("legate");
    let legate = env!("CARGO_BIN_EXE_legate");
    let without_route = r#"sed -i 's|"prefix": *"/"|"prefix": "/none"|' "$2""#;
    fs::write(&script, format!("#!/bin/sh\n{without_route}\nexec {legate} \"$@\"\n")).expect("a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("its mode");
    let Some(output) = run("first-request", &["--legate", &script]) else { return };
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{out}\n{}", text(&output.stderr));
    let stuck = "first-request: legate gets stuck: the proxy does not connect to the upstream for 10s\n";
    assert!(out.starts_with(stuck), "{out}");
    let first = out.lines().find(|line| line.starts_with(">>>>")).unwrap_or_default();
    assert!(first.contains("Filter::decodeHeaders"), "{out}");
}

#[test]
fn system_calls_are_counted_side_by_side() {
    let output = legate_trace(&["syscalls", "--requests", "20"]);
    let error = text(&output.stderr);
    if error.contains("no Envoy") || error.contains("strace") || error.contains("does not get ready") {
        eprintln!("SKIPPED: {error}");
        return;
    }
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{out}{error}");
    let row = |name: &str| -> Vec<f64> {
        let line = out.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().skip(1).filter_map(|figure| figure.parse().ok()).collect()
    };
    // Both have to write the request and the response.
    let [envoy, legate] = row("all")[..] else { panic!("{out}") };
    assert!(legate >= 4.0 && envoy >= legate, "{out}");
    assert!(row("sendto").iter().all(|calls| (2.0..2.2).contains(calls)), "{out}");
}

#[test]
fn what_cannot_be_compared_is_said() {
    let scratch = Scratch::new("nothing");
    let error = |arguments: &[&str]| {
        let output = legate_trace(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        text(&output.stderr)
    };
    let empty = scratch.path("empty.log");
    fs::write(&empty, "nothing\n").expect("a file");
    assert!(error(&["compare", &empty, &empty]).contains("no connection's trace in it"));
    assert!(error(&["compare", "/nonexistent", &empty]).contains("cannot read /nonexistent"));
    assert!(error(&["run", "--scenario", "none"]).contains("no scenario is called 'none'"));
    let from = ["run", "--scenario", "drain", "--from", "Filter::decode"];
    assert!(error(&from).contains("--from: no stage is called 'Filter::decode'"));
    let run = ["run", "--scenario", "drain", "--envoy", "/nonexistent/envoy"];
    assert!(error(&run).contains("cannot start /nonexistent/envoy"));
    let config = scratch.path("config.yaml");
    fs::write(&config, "static_resources: {}\n").expect("a file");
    let with_config = error(&["run", "--scenario", "drain", "--envoy", "/bin/true", "-c", &config]);
    assert!(with_config.contains("none has an HTTP connection manager"), "{with_config}");
}
