//! `layered_runtime`, `/runtime` and `/runtime_modify`, and the settings that requests go by.

use super::get;
use crate::harness::{Case, Kind, Launch, ParsedReply, Site, Wire, new_directory, proxies};
use serde_json::{Value, json};
use std::fs;

/// A proxy of these cases with these layers.
fn site(kind: Kind, cases: &[&Case], layers: &Value) -> Site {
    let runtime = json!({ "layered_runtime": { "layers": layers } }).to_string();
    let launch =
        Launch { arguments: &["--config-yaml", &runtime, "--service-cluster", "mine"], ..Launch::default() };
    Site::start_with(kind, cases, launch)
}

fn ask(site: &Site, method: &str, path: &str) -> ParsedReply {
    let mut client = Wire::connect(site.proxy.admin.address.port());
    client.send(format!(
        "{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    ));
    ParsedReply::parse(&client.rest()).expect("an answer")
}

fn modify(site: &Site, query: &str) {
    let reply = ask(site, "POST", &format!("/runtime_modify?{query}"));
    assert_eq!((reply.status, reply.body.as_slice()), (200, b"OK\n".as_slice()), "{query}");
}

/// What `/runtime` says, without what Envoy makes different each time.
fn runtime(site: &Site) -> Value {
    let text = String::from_utf8(ask(site, "GET", "/runtime").body).expect("text");
    let mut parts = text.split("goo.gle/debug");
    let first = parts.next().unwrap_or_default().to_string();
    let rest = parts.map(|part| part.trim_start_matches(|c: char| c.is_alphabetic() || c == ' '));
    let text = rest.fold(first, |text, part| text + part);
    serde_json::from_str(&text).expect("JSON")
}

fn stats(site: &Site) -> Vec<(String, u64)> {
    let mut stats: Vec<_> =
        site.proxy.admin.stats().into_iter().filter(|(name, _)| name.starts_with("runtime.")).collect();
    stats.sort();
    stats
}

/// The status of a request of a case.
fn status(site: &Site, case: usize) -> u16 {
    let mut client = Wire::connect(site.port(case));
    client.send(get(""));
    let answer = client.answer(false);
    String::from_utf8_lossy(&answer).split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default()
}

/// Both proxies say the same.
fn alike(what: impl Fn(Kind) -> Value) {
    let said: Vec<Value> = proxies().into_iter().map(what).collect();
    assert!(said.windows(2).all(|pair| pair[0] == pair[1]), "{said:#?}");
}

#[test]
fn layers_are_shown_with_what_holds() {
    alike(|kind| {
        let directory = new_directory(kind);
        for (name, text) in [
            ("base/plain", "hello"),
            ("base/sub/number", "12\n"),
            ("base/sub/lines", "# comment\n 33  \nsecond\n\n"),
            ("base/over", "1"),
            ("own/mine/over", "2"),
        ] {
            let path = directory.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
            fs::write(path, text).expect("a file");
        }
        let values = json!({
            "a": 1.5, "whole": 3.0, "large": 1e10, "small": 0.000001,
            "negative": -3, "on": true, "text": "a \"b\"", "nested": { "deeper": { "x": 1 }, "x.y": 2 },
            "share": { "numerator": 3, "denominator": "TEN_THOUSAND" }, "empty": {}, "over": 0,
        });
        let disk = |folder: &str, own: bool| {
            json!({
                "symlink_root": directory.to_string_lossy(), "subdirectory": folder, "append_service_cluster": own,
            })
        };
        let layers = json!([
            { "name": "first", "static_layer": values },
            { "name": "base", "disk_layer": disk("base", false) },
            { "name": "own", "disk_layer": disk("own", true) },
            { "name": "missing", "disk_layer": disk("missing", false) },
            { "name": "admin", "admin_layer": {} },
        ]);
        let site = site(kind, &[&Case::new("runtime")], &layers);
        let before = json!([runtime(&site), stats(&site)]);
        modify(&site, "over=9&new=a%20b&text");
        let after = json!([runtime(&site), stats(&site)]);
        fs::remove_dir_all(&directory).expect("its end");
        json!([before, after])
    });
}

#[test]
fn answers_of_both_endpoints() {
    alike(|kind| {
        let admin = json!([{ "name": "admin", "admin_layer": {} }]);
        let answer = |site: &Site, method: &str, path: &str| {
            let reply = ask(site, method, path);
            json!([reply.status, reply.header("content-type"), String::from_utf8_lossy(&reply.body)])
        };
        let with = site(kind, &[&Case::new("with")], &admin);
        let without = Site::start(kind, &[&Case::new("without")]);
        let only_static =
            site(kind, &[&Case::new("static")], &json!([{ "name": "s", "static_layer": { "a": 1 } }]));
        let yaml = Launch { arguments: &["--config-yaml", "layered_runtime: {}"], ..Launch::default() };
        let empty = Site::start_with(kind, &[&Case::new("empty")], yaml);
        let sites = [&with, &without, &only_static, &empty];
        let answers: Vec<Value> = sites
            .iter()
            .flat_map(|site| {
                [("POST", "/runtime_modify"), ("GET", "/runtime_modify?a=1"), ("POST", "/runtime_modify?b=1")]
                    .map(|(method, path)| answer(site, method, path))
            })
            .collect();
        let states: Vec<Value> = sites.iter().map(|site| json!([runtime(site), stats(site)])).collect();
        json!([answers, states])
    });
}

#[test]
fn requests_go_by_runtime() {
    for kind in proxies() {
        let layers = json!([
            { "name": "fixed", "static_layer": { "upstream.healthy_panic_threshold": 50 } },
            { "name": "admin", "admin_layer": {} },
        ]);
        let site = site(kind, &[&Case::new("limits"), &Case::new("maintenance")], &layers);
        let both = || [status(&site, 0), status(&site, 1)];
        assert_eq!(both(), [200, 200], "{kind:?}");
        modify(&site, "circuit_breakers.case0.default.max_requests=0&upstream.maintenance_mode.case1=100");
        assert_eq!(both(), [503, 503], "{kind:?}");
        let refused = site.proxy.admin.stat("cluster.case1.upstream_rq_maintenance_mode");
        assert_eq!(refused, Some(1), "{kind:?}");
        modify(&site, "circuit_breakers.case0.default.max_requests=&upstream.maintenance_mode.case1=0");
        assert_eq!(both(), [200, 200], "{kind:?}");
        // What stands behind the point is cut off, and nothing is too large.
        for (share, answers) in [("0.9", [200, 200]), ("3000000000.5", [200, 503])] {
            modify(&site, &format!("upstream.maintenance_mode.case1={share}"));
            assert_eq!(both(), answers, "{kind:?} {share}");
        }
    }
}

#[test]
fn a_listener_takes_as_many_connections_as_runtime_says() {
    for kind in proxies() {
        let site = site(kind, &[&Case::new("limited")], &json!([{ "name": "admin", "admin_layer": {} }]));
        let mut first = Wire::connect(site.port(0));
        first.send(get(""));
        assert!(first.answer(false).ends_with(b"ok"), "{kind:?}");
        modify(&site, "envoy.resource_limits.listener.case0.connection_limit=1");
        assert!(Wire::connect(site.port(0)).rest().is_empty(), "{kind:?}");
        let overflow = "listener.127.0.0.1_0.downstream_cx_overflow";
        assert_eq!(site.proxy.admin.stat(overflow), Some(1), "{kind:?}");
        first.send(get(""));
        assert!(first.answer(false).ends_with(b"ok"), "{kind:?}");
        modify(&site, "envoy.resource_limits.listener.case0.connection_limit=2");
        assert_eq!(status(&site, 0), 200, "{kind:?}");
    }
}
