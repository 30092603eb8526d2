//! `legate-trace` as a user runs it: every scenario with a real Envoy beside legate, and what it says when a stage is broken.

#[path = "trace/own_logs.rs"]
mod own_logs;
#[path = "trace/recordings.rs"]
mod recordings;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

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
    assert_eq!(scenarios.lines().count(), 63);
    for name in scenarios.lines().filter_map(|line| line.split_whitespace().next()) {
        let line = out.lines().find(|line| line.split_whitespace().next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("{name} is not in the summary:\n{out}"));
        let figures: Vec<usize> = line.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
        let [compared, equal, documented, undocumented, ..] = figures[..] else { panic!("{line}") };
        assert_eq!((equal + documented, undocumented), (compared, 0), "{line}");
        assert!(equal > 25 && equal > documented, "{line}");
    }
    let html = fs::read_to_string(page).expect("the page");
    assert!(html.starts_with("<!doctype html>") && html.contains("id=\"drain\""));
    // The logs are gone with their directory, so what is said of a stage has to be on the page.
    assert!(html.contains("id=\"second-request-D1-2\"") && html.contains("new connection from 127.0.0.1"));
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

/// Lines of Envoy's that are no step, and stages whose number nothing tells ("-" in the table's column).
const UNCOUNTED: [&str; 16] = [
    "enableTimer called",
    "commonEncodePrefix",
    "LoadShedPoint",
    "Not closing conn",
    "closing not through the filter manager",
    "both sides are half closed",
    "current connecting state",
    "shouldCreateNewConnection",
    "creating new preconnect connection",
    "ConnPoolImplBase 0x",
    "TcpListener accepted",
    "Executing cleanup()",
    "continuing filter chain",
    "encode complete",
    "local reply",
    "invoking ",
];

/// What the thread that serves clients has logged from its first connection on, as indices of lines; the main thread serves
/// the admin interface.
fn steps(log: &[&str]) -> Vec<usize> {
    let line = log.iter().find(|line| line.contains("[router]")).expect("a routed request");
    let thread = line.split(['[', ']']).nth(3).expect("a thread");
    let worker = format!("][{thread}][");
    let start = log.iter().position(|line| line.contains(&worker) && line.contains("new connection"));
    (start.expect("a connection")..log.len()).filter(|index| log[*index].contains(&worker)).collect()
}

/// The two logs of a scenario that was just played, and where they are.
struct Kept {
    scenario: String,
    files: [String; 2],
    texts: [String; 2],
}

impl Kept {
    fn of(scratch: &Scratch, scenario: &str) -> Option<Kept> {
        let output = run(scenario, &["--keep", &scratch.path("kept")])?;
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
        let files = ["envoy", "legate"].map(|p| scratch.path(&format!("kept/{scenario}/{p}/trace.log")));
        let texts = [0, 1].map(|side| fs::read_to_string(&files[side]).expect("a log"));
        Some(Kept { scenario: scenario.to_string(), files, texts })
    }

    /// Compares with another log in the place of one side's.
    fn with(&self, scratch: &Scratch, side: usize, log: &str, more: &[&str]) -> (Option<i32>, String) {
        let changed = scratch.path(&format!("{}-{side}.log", self.scenario));
        fs::write(&changed, log).expect("the changed log written");
        let mut files = self.files.each_ref().map(String::as_str);
        files[side] = &changed;
        let output = legate_trace(&[&["compare"], &files[..], more].concat());
        (output.status.code(), text(&output.stdout))
    }
}

/// Leaves out, or doubles, each line of a side's worker: it has to be found.
fn change_each_line(scenario: &str, side: usize, exempt: &[&str], changes: &[usize]) {
    let scratch = Scratch::new(&format!("{scenario}-{side}"));
    let Some(kept) = Kept::of(&scratch, scenario) else { return };
    let lines: Vec<&str> = kept.texts[side].lines().collect();
    assert_eq!(kept.with(&scratch, side, &kept.texts[side], &["--scenario", scenario]).0, Some(0));
    let mut found = 0;
    for index in steps(&lines) {
        if exempt.iter().any(|text| lines[index].contains(text)) {
            continue;
        }
        for times in changes {
            let mut changed = lines.clone();
            changed.splice(index..=index, std::iter::repeat_n(lines[index], *times));
            let (status, out) =
                kept.with(&scratch, side, &changed.join("\n"), &["--scenario", scenario, "--summary"]);
            assert_eq!(status, Some(1), "nobody sees that it is there {times} times: {}", lines[index]);
            assert!(out.contains(">>>>"), "{out}");
            found += 1;
        }
    }
    assert!(found > 40, "{found} changes");
}

#[test]
fn a_stage_that_legate_leaves_out_or_doubles_is_found() {
    for scenario in ["second-request", "chunked-post", "client-reset"] {
        change_each_line(scenario, 1, &[], &[0, 2]);
    }
}

#[test]
fn a_stage_that_legate_leaves_out_is_found_where_connections_end() {
    for scenario in ["upstream-refuses", "connection-close", "max-requests-per-connection", "pipelined"] {
        change_each_line(scenario, 1, &[], &[0]);
    }
}

#[test]
fn a_stage_that_envoy_leaves_out_is_found() {
    for scenario in ["second-request", "connection-close"] {
        change_each_line(scenario, 0, &UNCOUNTED, &[0]);
    }
}

#[test]
fn back_pressure_out_of_order_is_found() {
    let scratch = Scratch::new("back-pressure");
    let Some(kept) = Kept::of(&scratch, "slow-reader") else { return };
    let log = &kept.texts[1];
    let status = |log: &str| kept.with(&scratch, 1, log, &["--scenario", "slow-reader"]).0;
    assert_eq!(status(log), Some(0));
    let lines: Vec<&str> = log.lines().collect();
    let at = |text: &str| lines.iter().position(|line| line.contains(text)).expect("a line");
    let swapped = |a: usize, b: usize| {
        let mut changed = lines.clone();
        changed.swap(a, b);
        changed.join("\n")
    };
    let (high, disabling) = (at("onAboveWriteBufferHighWatermark"), at("Disabling upstream stream"));
    let (low, enabling) = (at("onBelowWriteBufferLowWatermark"), at("Enabling upstream stream"));
    assert_eq!(status(&swapped(high, disabling)), Some(1));
    assert_eq!(status(&swapped(disabling, disabling + 1)), Some(1), "{}", lines[disabling + 1]);
    assert_eq!(status(&swapped(high, low)), Some(1));
    assert_eq!(status(&swapped(enabling, enabling + 1)), Some(1), "{}", lines[enabling + 1]);
    // The head behind the body.
    let body = lines.iter().rposition(|line| line.contains("encoding data via codec")).expect("a body");
    assert_eq!(status(&swapped(at("upstream headers complete"), body)), Some(1));
}

#[test]
fn a_stage_that_is_missing_in_a_running_legate_is_found() {
    let scratch = Scratch::new("missing");
    for (text_of_it, stage) in [
        ("moving to ready", "missing here: ConnPoolImpl::processIdleClient"),
        ("message begin", "ConnectionImpl::onMessageBeginBase"),
    ] {
        let script = scratch.path("legate");
        let legate = env!("CARGO_BIN_EXE_legate");
        let without = format!("2> >(exec grep -v --line-buffered '{text_of_it}' >&2)");
        fs::write(&script, format!("#!/bin/bash\nexec {legate} \"$@\" {without}\n")).expect("a script");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("its mode");
        let Some(output) = run("first-request", &["--legate", &script]) else { return };
        let out = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{out}\n{}", text(&output.stderr));
        let first = out.lines().find(|line| line.starts_with(">>>>")).unwrap_or_default();
        assert!(first.contains(stage), "{out}");
    }
}

#[test]
fn logs_of_no_scenario_are_held_to_the_same() {
    let scratch = Scratch::new("no-scenario");
    for scenario in ["client-reset", "connection-close", "chunked-post"] {
        let Some(kept) = Kept::of(&scratch, scenario) else { return };
        let (status, out) = kept.with(&scratch, 1, &kept.texts[1], &[]);
        assert_eq!(status, Some(0), "{out}");
        let half = kept.texts[1].rfind("new stream").expect("a request");
        let (status, out) = kept.with(&scratch, 1, &kept.texts[1][..half], &[]);
        assert_eq!(status, Some(1), "{out}");
        assert!(
            out.starts_with("legate's log ends within a line: it was cut off\nEnvoy's log has "),
            "{out}"
        );
        for left_out in ["socket event: ", "read ready", "write ready"] {
            let rest = kept.texts[1].lines().filter(|line| !line.contains(left_out));
            let (status, _) = kept.with(&scratch, 1, &rest.collect::<Vec<_>>().join("\n"), &[]);
            assert_eq!(status, Some(1), "{scenario} without {left_out}");
        }
    }
}

#[test]
fn the_first_difference_in_time_is_marked_with_its_lines() {
    let scratch = Scratch::new("first");
    let Some(kept) = Kept::of(&scratch, "second-request") else { return };
    let lines: Vec<&str> = kept.texts[1].lines().collect();
    let connecting = lines.iter().position(|line| line.contains("connecting to ")).expect("a connect");
    // The lane of the client's connection is printed first, but this comes later.
    let closing = lines.iter().rposition(|line| line.contains("remote close")).expect("a close");
    let kept_lines = (0..lines.len()).filter(|index| ![connecting, closing].contains(index));
    let changed: Vec<&str> = kept_lines.map(|index| lines[index]).collect();
    let page = scratch.path("page.html");
    let (status, out) = kept.with(&scratch, 1, &changed.join("\n"), &["--html", &page, "--lane", "upstream"]);
    assert_eq!(status, Some(1));
    let marked: Vec<&str> = out.lines().filter(|line| line.starts_with(">>>>")).collect();
    assert_eq!(marked.len(), 1, "{out}");
    let number =
        kept.texts[0].lines().position(|line| line.contains("connecting to ")).expect("a connect") + 1;
    let place = format!("(line {number} of Envoy's log)");
    assert!(marked[0].contains("ClientConnectionImpl::connect ") && marked[0].ends_with(&place), "{out}");
    let html = fs::read_to_string(page).expect("the page");
    assert!(html.contains("<a href=\"#first-own-logs\">") && html.contains("id=\"first-own-logs\""));
    assert!(html.contains(&format!("title=\"line {number}: [")));
    assert!(html.contains("<h3>upstream connection 1") && !html.contains("<h3>downstream"));
}

#[test]
fn connections_of_several_workers_are_matched_by_their_requests() {
    let scratch = Scratch::new("workers");
    let Some(kept) = Kept::of(&scratch, "two-workers") else { return };
    assert_eq!(kept.with(&scratch, 1, &kept.texts[1], &["--per-connection"]).0, Some(0));
    let changed = kept.texts[1].replacen("remote close", "remote closes", 1);
    assert_eq!(kept.with(&scratch, 1, &changed, &["--per-connection"]).0, Some(1));
}

#[test]
fn each_log_has_to_be_of_its_proxy() {
    let scratch = Scratch::new("sides");
    let Some(kept) = Kept::of(&scratch, "first-request") else { return };
    let [envoy, legate] = kept.files.each_ref().map(String::as_str);
    for (first, second, whose) in [
        (legate, legate, "is of legate, not of Envoy"),
        (envoy, envoy, "is of Envoy, not of legate"),
        (legate, envoy, "is of legate, not of Envoy"),
    ] {
        let output = legate_trace(&["compare", first, second]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(whose), "{}", text(&output.stderr));
    }
    let output = run("first-request", &["--envoy", env!("CARGO_BIN_EXE_legate")]).expect("legate");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("with envoy: "), "{}", text(&output.stderr));
}

#[test]
fn a_signal_leaves_nothing_behind() {
    let scratch = Scratch::new("signal");
    let own = |pattern: &str| -> usize {
        let of_process = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).ok();
        let all = fs::read_dir("/proc").expect("processes").filter_map(Result::ok).filter_map(of_process);
        all.filter(|words| text(words).contains(pattern)).count()
    };
    let path = scratch.path("");
    let mut program = Command::new(env!("CARGO_BIN_EXE_legate-trace"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["run", "--scenario", "all"])
        .env("TMPDIR", &path)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("legate-trace started");
    let deadline = Instant::now() + Duration::from_secs(10);
    while own(&path) == 0 && Instant::now() < deadline && matches!(program.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(5)); // nothing tells that a process has started others
    }
    if let Ok(Some(status)) = program.try_wait() {
        eprintln!("SKIPPED: there is no Envoy to compare with ({status})");
        return;
    }
    let kill = Command::new("kill").arg(program.id().to_string()).status().expect("kill");
    assert!(kill.success());
    assert_eq!(program.wait().expect("its end").code(), Some(128 + 15));
    let deadline = Instant::now() + Duration::from_secs(5);
    while own(&path) > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5)); // they end on their own
    }
    assert_eq!(own(&path), 0, "proxies are left");
    assert_eq!(fs::read_dir(&path).expect("the directory").count(), 0, "files are left");
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
fn a_configuration_of_ones_own_is_played_as_far_as_it_goes() {
    let scratch = Scratch::new("own-config");
    let built_in = fs::read_to_string("src/bin/legate-trace/envoy.yaml").expect("the configuration");
    let config = scratch.path("config.yaml");
    // Any name does.
    let renamed =
        built_in.replace("cluster: upstream", "cluster: mine").replace("name: upstream", "name: mine");
    assert_ne!(renamed, built_in);
    fs::write(&config, &renamed).expect("a file");
    let Some(output) = run("not-found", &["-c", &config]) else { return };
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    // One that neither of the two can play is left out with a reason, and the summary comes all the same.
    let serves_http10 = built_in
        .replace("codec_type: HTTP1", "http_protocol_options: { accept_http_10: true }")
        .replace("cluster: upstream }", "cluster: upstream, timeout: 0s }");
    fs::write(&config, serves_http10).expect("a file");
    let output = run("http10", &["-c", &config]).expect("an Envoy");
    let (out, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{out}{error}");
    assert!(out.starts_with("http10: skipped: with this configuration it gets stuck: "), "{out}{error}");
    assert!(out.contains("\nscenario                      compared"), "{out}{error}");
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
    let debug = scratch.path("debug.log");
    let line = "[2026-01-01 00:00:00.000][2][debug][main] [source/a.cc:1] [Tags: \"ConnectionId\":\"0\"] ";
    fs::write(&debug, format!("{line}new connection from 127.0.0.1:1\n")).expect("a file");
    let no_trace = error(&["compare", &debug, &debug]);
    assert!(
        no_trace.contains("has no line of the level trace: Envoy has to be run with -l trace"),
        "{no_trace}"
    );
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
    let built_in = fs::read_to_string("src/bin/legate-trace/envoy.yaml").expect("the configuration");
    fs::write(&config, built_in.replace("[\"*\"]", "[\"other.test\"]")).expect("a file");
    let elsewhere = error(&["run", "--scenario", "drain", "--envoy", "/bin/true", "-c", &config]);
    assert!(elsewhere.contains("takes no GET / of host legate.test to a cluster"), "{elsewhere}");
    let page = ["run", "--scenario", "drain", "--envoy", "/bin/true", "--html", "/nonexistent/page"];
    assert!(error(&page).contains("cannot write /nonexistent/page"));
    let ends = ["run", "--scenario", "drain", "--envoy", "/bin/true"];
    assert!(error(&ends).contains("does not get ready (exit status: 0)"));
}
