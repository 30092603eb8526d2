//! The command line: arguments, one a line.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use legate::server::options::{Options, OptionsOutcome};

use super::super::Target;
use super::hash;

pub const TARGET: Target = Target {
    name: "options",
    run,
    seeds: SEEDS,
    dictionary: DICTIONARY,
    max_len: 1024,
    memory: (256 * 1024, 256),
};

fn run(input: &[u8]) -> u64 {
    let given = input.split(|&b| b == b'\n').map(|arg| OsString::from_vec(arg.to_vec()));
    let args = std::iter::once(OsString::from("legate")).chain(given);
    match Options::parse(args) {
        Ok(options) => {
            assert!(options.concurrency > 0);
            hash((
                0,
                options.demo,
                options.mode as u8,
                options.warnings.len(),
                options.component_log_levels.len().min(3),
            ))
        }
        Err(OptionsOutcome::Error(text)) => {
            assert!(!text.is_empty());
            let known = |word: &&str| DICTIONARY.contains(word);
            hash((1, text.split_whitespace().filter(known).take(2).collect::<Vec<_>>()))
        }
        Err(_) => 2,
    }
}

const SEEDS: &[&[u8]] = &[
    b"-c\nenvoy.yaml\n--concurrency\n2\n-l\ndebug",
    b"--config-yaml\n{a: b}\n--component-log-level\nhttp:debug,upstream:off\n--log-format\n%v",
    b"--mode\nvalidate\n--service-cluster=a\n--service-node\nb\n--drain-time-s\n10\n--drain-strategy\nimmediate",
    b"--trace-stages=/a\n--demo\n--\n--nothing",
    b"--base-id\n4294967295\n--restart-epoch\n0\n--cpuset-threads\n--help",
    b"-v\n--version\n-h",
];

const DICTIONARY: &[&str] = &[
    "\n",
    "--",
    "-",
    "=",
    "--help",
    "--version",
    "--mode",
    "validate",
    "serve",
    "init_only",
    "--concurrency",
    "--log-level",
    "-l",
    "-c",
    "--config-path",
    "--config-yaml",
    "--component-log-level",
    "--log-format",
    "--log-format-escaped",
    "--log-path",
    "--demo",
    "--trace-stages",
    "--base-id",
    "--restart-epoch",
    "--drain-strategy",
    "gradual",
    "--local-address-ip-version",
    "v6",
    "--ignore_rest",
    "--file-flush-interval-msec",
    "--file-flush-min-size-kb",
    "--drain-time-s",
    "--parent-shutdown-time-s",
    "--stats-tag",
    "--disable-extensions",
    "--cpuset-threads",
    "\u{e9}",
    "99999999999",
    "-1",
    "",
];
