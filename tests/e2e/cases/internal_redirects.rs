//! Redirects of an upstream that are followed in place of the client.

use super::retries::{get, manager, merged, policy, post, status, with_body};
use crate::harness::{Action, Pairs};
use serde_json::{Value, json};

fn to(code: &str, location: &str) -> Vec<Action> {
    status(code, &format!("location: {location}\r\nx-from: {code}\r\n"))
}

fn followed(policy: Value) -> Value {
    json!({"internal_redirect_policy": policy})
}

/// Two routes, of which the second is where `/other` leads, and nothing for `nowhere.test`.
fn two_routes(route: Value) -> Value {
    let mut hcm = manager(route.clone(), json!({"domains": ["a.test", "127.0.0.1", "b.test:81"]}));
    let routes = hcm.pointer_mut("/route_config/virtual_hosts/0/routes").and_then(Value::as_array_mut);
    let other = merged(&route, json!({"cluster": "case1"}));
    if let Some(routes) = routes {
        routes.insert(0, json!({"name": "other", "match": {"prefix": "/other"}, "route": other}));
        routes.insert(
            0,
            json!({"name": "direct", "match": {"prefix": "/direct"}, "direct_response": {"status": 203}}),
        );
    }
    hcm
}

#[test]
fn places_to_go() {
    let mut pairs =
        Pairs::new(two_routes(followed(json!({"allow_cross_scheme_redirect": false})))).with_statistics();
    for location in [
        "http://a.test/other?x=1#part",
        "http://a.test/b",
        "http://a.test",
        "http://b.test:81?q",
        "http://user:word@a.test/other",
        "HTTP://a.test/other",
        "http://nowhere.test/other",
        "http://a.test/direct",
        "https://a.test/other",
        "ftp://a.test/other",
        "//a.test/other",
        "/other",
        "other",
        "http:///x",
        "http://a.test:x/other",
        "http://a_b.test/other",
        "http://[::1]/other",
        "",
    ] {
        pairs = pairs.told(get("/", ""), [to("302", location)]);
    }
    pairs.told(get("/", ""), [status("302", "")]).run();
}

#[test]
fn which_answers() {
    for codes in [json!([]), json!([301, 303, 308]), json!([302, 307, 200, 999])] {
        let hcm = two_routes(followed(json!({"redirect_response_codes": codes})));
        let mut pairs = Pairs::new(hcm).with_statistics();
        for code in ["200", "300", "301", "302", "303", "304", "307", "308"] {
            pairs = pairs
                .told(get("/", ""), [to(code, "http://a.test/other")])
                .told(get("/", "").replace("GET", "HEAD"), [to(code, "http://a.test/other")])
                .told(post(5), [to(code, "http://a.test/other")]);
        }
        pairs.run();
    }
}

#[test]
fn how_often() {
    for most in [json!({}), json!({"max_internal_redirects": 0}), json!({"max_internal_redirects": 3})] {
        let hcm = two_routes(followed(most));
        let again = |path: &str| to("302", &format!("http://a.test{path}"));
        Pairs::new(hcm)
            .with_statistics()
            .told(get("/", ""), [again("/1")])
            .told(get("/", ""), [again("/1"), again("/2")])
            .told(get("/", ""), [again("/1"), again("/2"), again("/3")])
            .told(get("/", ""), [again("/1"), again("/2"), again("/3"), again("/4")])
            .told(get("/", ""), [again("/1"), with_body("503")])
            .told(get("/", ""), [again("/refused")])
            .run();
    }
    // Redirects and tries are counted each for itself.
    let route = merged(&followed(json!({"max_internal_redirects": 2})), policy(json!({"retry_on": "5xx"})));
    let told = json!({"include_request_attempt_count": true, "include_attempt_count_in_response": true});
    let again = || to("302", "http://a.test/1");
    Pairs::new(manager(route, told))
        .with_statistics()
        .told(get("/", ""), [status("503", ""), again(), status("503", ""), again()])
        .told(post(9), [status("503", ""), again(), status("503", ""), status("503", "")])
        .run();
}

#[test]
fn bodies_and_headers() {
    let copied = json!({"response_headers_to_copy": ["x-from", "X-Request-Id", "x-gone"]});
    for route in [
        followed(copied.clone()),
        merged(&followed(copied), json!({"prefix_rewrite": "/before", "host_rewrite_literal": "h.test"})),
    ] {
        for limit in [10_000, 100] {
            let chunked = "POST / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
                 3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
            let hcm = merged(&two_routes(route.clone()), json!({"request_headers_timeout": "10s"}));
            let begun =
                b"HTTP/1.1 302 X\r\nlocation: http://a.test/other\r\ncontent-length: 9\r\n\r\nabc".to_vec();
            Pairs::new(hcm)
                .with_statistics()
                .cluster(json!({"per_connection_buffer_limit_bytes": 20_000}))
                .limit(limit)
                .told(get("/", "x-gone: 1\r\nx-from: here\r\n"), [to("302", "http://a.test/other")])
                .told(post(5), [to("302", "http://a.test/other")])
                .told(post(2000), [to("302", "http://a.test/other")])
                .told(chunked.to_string(), [to("302", "http://a.test/other")])
                .told(get("/", ""), [vec![Action::Send(begun), Action::Until(b"x".to_vec())]])
                .run();
        }
    }
}

#[test]
fn predicates() {
    let predicate = |name: &str, message: &str, more: Value| {
        let of = format!("type.googleapis.com/envoy.extensions.internal_redirect.{name}.v3.{message}");
        json!({"name": name, "typed_config": merged(&json!({"@type": of}), more)})
    };
    let listed = |names: Value| {
        predicate("allow_listed_routes", "AllowListedRoutesConfig", json!({"allowed_route_names": names}))
    };
    let previous = predicate("previous_routes", "PreviousRoutesConfig", json!({}));
    let safe = predicate("safe_cross_scheme", "SafeCrossSchemeConfig", json!({}));
    for predicates in [
        json!([listed(json!(["other"]))]),
        json!([listed(json!([]))]),
        json!([previous.clone()]),
        json!([safe.clone()]),
        json!([safe, previous, listed(json!(["other"]))]),
    ] {
        let hcm = two_routes(followed(json!({"predicates": predicates, "max_internal_redirects": 3,
            "allow_cross_scheme_redirect": true})));
        let (other, back) = (|| to("302", "http://a.test/other"), || to("302", "http://a.test/"));
        Pairs::new(hcm)
            .with_statistics()
            .told(get("/", ""), [other()])
            .told(get("/", ""), [back(), back(), other()])
            .told(get("/", ""), [to("302", "https://a.test/other")])
            .run();
    }
}
