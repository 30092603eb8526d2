//! Requests to the admin: a method, a path with its query, and behind a newline the fields of a form.

use std::cell::OnceCell;

use legate::config::{UnknownFields, parse_bootstrap};
use legate::filters::LINKED;
use legate::server::admin::DetachedAdmin;
use serde_json::json;

use super::super::Target;
use super::super::bootstrap::bootstrap;
use super::hash;

pub const TARGET: Target = Target {
    name: "admin",
    run,
    seeds: SEEDS,
    dictionary: DICTIONARY,
    max_len: 4096,
    memory: (32 * 1024 * 1024, 1024),
};

thread_local! {
    static ADMIN: OnceCell<&'static DetachedAdmin> = const { OnceCell::new() };
}

/// Leaked, because what a thread keeps for itself may be gone before the server is.
fn admin() -> &'static DetachedAdmin {
    ADMIN.with(|admin| {
        *admin.get_or_init(|| {
            let mut raw = bootstrap();
            let listeners = &mut raw["static_resources"]["listeners"];
            listeners[0]["address"]["socket_address"]["port_value"] = json!(0);
            listeners.as_array_mut().expect("listeners").truncate(1);
            let bootstrap = parse_bootstrap(raw, UnknownFields::default(), &LINKED).expect("a bootstrap");
            Box::leak(Box::new(DetachedAdmin::new(bootstrap).expect("a server")))
        })
    })
}

fn run(input: &[u8]) -> u64 {
    let Some((&choice, text)) = input.split_first() else { return 0 };
    let text = String::from_utf8_lossy(text);
    let (path, form) = text.split_once('\n').unwrap_or((&text, ""));
    let method = if choice & 1 == 0 { "GET" } else { "POST" };
    match admin().request(method, path, form) {
        Ok((status, body)) => {
            hash((status, body.len().min(64), body.bytes().filter(|b| *b == b'\n').count().min(8)))
        }
        Err(body) => panic!("the body does not end: {body}"),
    }
}

const SEEDS: &[&[u8]] = &[
    b"\0/",
    b"\0/help",
    b"\0/stats?usedonly&filter=upstream_(cx|rq)",
    b"\0/stats?filter=(?i)CX&format=json&type=Gauges",
    b"\0/stats?format=prometheus&text_readouts&histogram_buckets=cumulative",
    b"\0/stats?filter=%5Eserver%2e&hidden=include&histogram_buckets=disjoint",
    b"\0/stats/prometheus?usedonly",
    b"\0/clusters?format=json",
    b"\0/listeners?format=json",
    b"\0/server_info",
    b"\0/ready",
    b"\x01/logging?level=info",
    b"\x01/logging?paths=http:debug,upstream:off",
    b"\x01/logging\nhttp=warning",
    b"\x01/reset_counters",
    b"\x01/drain_listeners?graceful&skip_exit&inboundonly",
    b"\x01/healthcheck/fail",
    b"\x01/healthcheck/ok",
    b"\x01/trace?enable=y",
    b"\x01/trace?enable=n",
    b"\0/trace?format=chrome",
    b"\0/trace/ui",
];

const DICTIONARY: &[&str] = &[
    "?",
    "&",
    "=",
    "%",
    "%2e",
    "%00",
    "%ff",
    "%zz",
    "//",
    "/",
    "\n",
    "/stats",
    "/clusters",
    "/listeners",
    "/logging",
    "/trace",
    "/help",
    "filter=",
    "format=json",
    "format=text",
    "format=prometheus",
    "format=html",
    "format=chrome",
    "usedonly",
    "type=Counters",
    "type=Gauges",
    "type=Histograms",
    "type=All",
    "hidden=only",
    "hidden=include",
    "pretty",
    "histogram_buckets=",
    "cumulative",
    "summary",
    "detailed",
    "none",
    "level=",
    "paths=",
    "enable=",
    "main=y",
    ".*",
    ".{0,1000}",
    "(?i)",
    "\\pL",
    "[^a]",
    "(a|b)*",
    "{1000}{1000}",
    "(",
    "\u{e9}",
];
