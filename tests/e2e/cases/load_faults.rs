//! Short editions of `tests/bench/faults.py`: faults under load, of which no answer tells but those that may.

use crate::harness::Kind;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

/// Plays one run, which has to have answers, and only expected ones.
fn play(run: &str, arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bench/faults.py");
    let legate = Kind::Legate.binary().expect("a binary");
    let mut command = Command::new("python3");
    command.arg(script).args(["--proxies", "legate", "--clients", "32", "--runs", run]);
    command.arg("--legate").arg(legate).args(arguments);
    let output = match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("SKIPPED: python3 is not installed");
            return;
        }
        output => output.expect("python3"),
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.starts_with(run)).unwrap_or_default();
    let columns: Vec<&str> = line.split_whitespace().take(4).collect();
    let answers = columns.get(2).and_then(|answers| answers.parse().ok()).unwrap_or(0);
    assert!(output.status.success() && answers > 50 && columns[3] == "0", "{text}{errors}");
}

#[test]
fn hosts_are_killed_and_started_again() {
    play("killed", &["--seconds", "3"]);
}

#[test]
fn kept_connections_end_at_random() {
    play("closing", &["--seconds", "3"]);
}

#[test]
fn a_host_that_fails_is_ejected_on_all_workers() {
    play("ejected", &["--seconds", "5"]);
}

#[test]
fn a_host_that_stops_is_found_by_its_checks() {
    play("stopped", &["--seconds", "5"]);
}

#[test]
fn all_hosts_fail_their_checks_and_serve() {
    play("panic", &["--seconds", "4"]);
}

#[test]
fn a_name_stands_for_other_hosts() {
    play("renamed", &["--seconds", "1"]);
}

#[test]
fn one_connection_and_one_that_waits() {
    play("breakers", &["--requests", "1000"]);
}

#[test]
fn websockets_outlive_their_listener() {
    play("websockets", &["--websockets", "100"]);
}

#[test]
fn tunnels_outlive_their_listener() {
    play("tunnels", &["--websockets", "100"]);
}
