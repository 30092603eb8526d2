//! A short run of each fuzz target, always over the same inputs. `make fuzz` runs longer.

#[path = "../fuzz/src/lib.rs"]
mod legate_fuzz;

use std::time::Duration;

use legate_fuzz::Target;
use legate_fuzz::driver::{self, Limits};
use legate_fuzz::memory::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn on_hang(target: &Target, input: &[u8]) {
    eprintln!("{}: hangs: {}", target.name, input.escape_ascii());
    std::process::abort();
}

fn fail(name: &str, failure: Option<(Vec<u8>, String)>) {
    if let Some((input, problem)) = failure {
        panic!("{name}: b\"{}\"\n{problem}", input.escape_ascii());
    }
}

fn short_run(name: &str) {
    let target = legate_fuzz::find(name).expect("a target of that name");
    let limits = Limits { time: Duration::from_secs(1), inputs: 20_000 };
    let report = driver::run(target, 1, limits, on_hang);
    assert!(report.failure.is_some() || report.inputs > target.seeds.len() as u64, "{name}: only {report:?}");
    fail(name, report.failure);
}

/// All strings of up to `length` of these bytes.
fn strings(bytes: &'static [u8], length: u32) -> impl Iterator<Item = Vec<u8>> {
    (0..=length).flat_map(move |length| {
        (0..bytes.len().pow(length)).map(move |number| {
            (0..length).map(|place| bytes[number / bytes.len().pow(place) % bytes.len()]).collect()
        })
    })
}

/// A dispatch that uses nothing ends: whatever little a codec is left with, it waits for more, or says that it is
/// bad. Through the connection manager and the pool of the product.
#[test]
fn a_dispatch_that_uses_nothing_ends() {
    const REQUESTS: &[&str] = &[
        "",
        "\r\n",
        "\n",
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n",
    ];
    const RESPONSES: &[&str] = &[
        "",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n",
    ];
    for (name, messages) in [("server", REQUESTS), ("client", RESPONSES)] {
        let target = legate_fuzz::find(name).expect("a target of that name");
        let inputs = messages.iter().flat_map(|message| {
            strings(b"\r\n G\0", 2).map(|end| [b"\0", message.as_bytes(), &end].concat())
        });
        fail(name, driver::each(target, inputs, on_hang));
    }
}

/// One test a target, so that none is forgotten: the list is compared below.
macro_rules! short_runs {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            short_run(stringify!($name));
        })*

        #[test]
        fn every_target_is_run() {
            let names: Vec<&str> = legate_fuzz::TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

short_runs! { server client chunk config dns format headers hello options admin }
