//! The csrf filter, held against Envoy request by request.

use super::http_filters::chain;
use crate::harness::Pairs;
use serde_json::{Value, json};

fn policy(enabled: Value, over: Value) -> Value {
    let mut policy = over;
    policy["@type"] = "type.googleapis.com/envoy.extensions.filters.http.csrf.v3.CsrfPolicy".into();
    policy["filter_enabled"] = enabled;
    policy
}

fn share(percent: u32, key: &str) -> Value {
    json!({"default_value": {"numerator": percent}, "runtime_key": key})
}

#[test]
fn csrf() {
    let to = |prefix: &str, policy: Value| json!({"match": {"prefix": prefix}, "route": {"cluster": "case1"}, "typed_per_filter_config": {"csrf": policy}});
    let more = json!({"additional_origins": [{"exact": "more.com"}, {"suffix": ".more.com:81"}]});
    let routes = json!([
        to("/off", policy(share(0, ""), json!({}))),
        to("/shadow", policy(share(0, ""), json!({"shadow_enabled": share(100, "")}))),
        to("/both", policy(share(100, ""), json!({"shadow_enabled": share(100, "")}))),
        to("/by-runtime", policy(share(0, "csrf.on"), json!({"shadow_enabled": share(100, "csrf.off")}))),
        to("/more", policy(share(100, ""), more)),
        {"match": {"prefix": "/direct"}, "direct_response": {"status": 200}},
        {"match": {"prefix": "/"}, "route": {"cluster": "case1"}},
    ]);
    let config = chain("csrf", policy(share(100, ""), json!({})), routes);
    let runtime = json!({"layered_runtime": {"layers": [
        {"name": "l", "static_layer": {"csrf.on": 100, "csrf.off": 0}}]}});
    let mut pairs = Pairs::new(config).bootstrap(runtime).statistics(&["http.case0.csrf."]);
    let request = |method: &str, path: &str, host: &str, lines: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\nconnection: close\r\n{lines}\r\n"
        )
    };
    for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH"] {
        for lines in ["", "origin: http://h\r\n", "origin: http://other\r\n"] {
            pairs = pairs.raw(request(method, "/", "h", lines));
        }
    }
    for path in ["/off", "/shadow", "/both", "/by-runtime", "/more", "/direct", "/none"] {
        for lines in [
            "",
            "origin: http://h\r\n",
            "origin: http://other\r\n",
            "origin: https://more.com\r\n",
            "origin: http://x.more.com:81/p\r\n",
        ] {
            pairs = pairs.raw(request("POST", path, "h", lines));
        }
    }
    for host in ["h:80", "[::1]:80"] {
        for url in [
            "http://h",
            "http://h:80",
            "http://h:81/",
            "https://h:81/x?y=z",
            "http://H",
            "http://[::1]:80/",
            "null",
            "h:80",
            "//h:80",
            "http://",
            "http://u@h:80",
            "http://u:p@h:81/x",
            "x-y+z://h:80",
            "http://h:80#f",
            "http://h:80?q",
            "HTTP://h:80",
            "http://h:",
            "http://h_x",
            "http://h:80, http://h:81",
            "file:///x",
            "http:/h:80",
        ] {
            pairs = pairs.raw(request("POST", "/", host, &format!("origin: {url}\r\n"))).raw(request(
                "POST",
                "/",
                host,
                &format!("referer: {url}\r\n"),
            ));
        }
        for referer in ["http://h:80/page", "http://other"] {
            for origin in ["null", "http://h:80", "http://other", ""] {
                pairs = pairs.raw(request(
                    "POST",
                    "/",
                    host,
                    &format!("origin: {origin}\r\nreferer: {referer}\r\n"),
                ));
            }
        }
    }
    pairs.run();
}
