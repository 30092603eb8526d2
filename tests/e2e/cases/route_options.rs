//! Options of routes and connection managers that few have, held against Envoy request by request.

use super::retries::{get, policy, status, with_body};
use crate::harness::{Action, Pairs, agree};
use serde_json::{Value, json};

fn manager(route: Value, host: Value) -> Value {
    let mut virtual_host = host;
    virtual_host["name"] = "v".into();
    virtual_host["domains"] = json!(["*"]);
    virtual_host["routes"] = json!([route]);
    json!({"route_config": {"virtual_hosts": [virtual_host]}})
}

fn post(length: usize) -> String {
    let body = "b".repeat(length);
    format!("POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

#[test]
fn bodies_that_are_kept() {
    let limits = [
        (json!({}), json!({"request_body_buffer_limit": 3})),
        (json!({"request_body_buffer_limit": 3}), json!({})),
        (json!({"request_body_buffer_limit": 3}), json!({"request_body_buffer_limit": 1})),
        (json!({"request_body_buffer_limit": 3}), json!({"per_request_buffer_limit_bytes": 1})),
        (json!({"per_request_buffer_limit_bytes": 1}), json!({"request_body_buffer_limit": 3})),
        (json!({"request_body_buffer_limit": 100_000}), json!({})),
        (json!({"request_body_buffer_limit": 0}), json!({})),
    ];
    for (route, host) in limits {
        let mut route = route;
        route["match"] = json!({"prefix": "/"});
        let retried = policy(json!({"retry_on": "5xx"}));
        route["route"] = json!({"cluster": "case0", "retry_policy": retried["retry_policy"]});
        let bad = || status("503", "");
        let pairs = Pairs::new(manager(route, host)).limit(16_384).with_statistics();
        [0, 1, 2, 3, 4, 5, 60_000, 99_999, 100_001]
            .into_iter()
            .fold(pairs, |pairs, length| pairs.told(post(length), [bad(), with_body("200")]))
            .run();
    }
}

#[test]
fn internal_redirects_as_they_were() {
    let elsewhere = || status("302", "location: http://h/next\r\n");
    for fields in [
        json!({"internal_redirect_action": "HANDLE_INTERNAL_REDIRECT"}),
        json!({"internal_redirect_action": "HANDLE_INTERNAL_REDIRECT", "max_internal_redirects": 2}),
        json!({"internal_redirect_action": "PASS_THROUGH_INTERNAL_REDIRECT", "max_internal_redirects": 2}),
        json!({"max_internal_redirects": 2}),
        json!({"internal_redirect_action": "HANDLE_INTERNAL_REDIRECT", "internal_redirect_policy": {"max_internal_redirects": 2}}),
    ] {
        let mut action = fields;
        action["cluster"] = "case0".into();
        let hcm = manager(json!({"match": {"prefix": "/"}, "route": action}), json!({}));
        Pairs::new(hcm)
            .with_statistics()
            .told(get("/", ""), [elsewhere()])
            .told(get("/", ""), [elsewhere(), elsewhere()])
            .told(get("/", ""), [elsewhere(), elsewhere(), elsewhere()])
            .run();
    }
}

#[test]
fn where_texts_come_from() {
    let direct = |body: Value| {
        manager(
            json!({"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": body}}),
            json!({}),
        )
    };
    for body in [
        json!({"inline_bytes": "eHl6"}),
        json!({"inline_bytes": ""}),
        json!({"environment_variable": "PATH"}),
        json!({"inline_string": "x"}),
    ] {
        Pairs::new(direct(body)).get("h", "/", "").run();
    }
    agree(
        &direct(json!({"environment_variable": "NO_SUCH_VARIABLE"})),
        Some("Environment variable doesn't exist: NO_SUCH_VARIABLE"),
    );
    agree(&direct(json!({"inline_bytes": "?"})), Some(""));
    let mut raw = direct(json!({"inline_string": "x"}));
    raw["route_config"]["response_headers_to_add"] = json!([
        {"header": {"key": "a", "raw_value": "eHl6"}}, {"header": {"key": "b", "raw_value": "eHl6", "value": "v"}},
        {"header": {"key": "c", "raw_value": "eHl6"}, "keep_empty_value": true}]);
    Pairs::new(raw).get("h", "/", "").run();
}

#[test]
fn offers_that_are_dropped() {
    let ask = |connection: &str, upgrade: &str| {
        format!(
            "GET / HTTP/1.1\r\nhost: h\r\nconnection: {connection}\r\nupgrade: {upgrade}\r\nhttp2-settings: x\r\n\r\n"
        )
    };
    for ignored in [json!([{"prefix": "foo"}]), json!([{"exact": "TLS/1.2"}, {"exact": "h2c"}]), json!([])] {
        let hcm = json!({"http_protocol_options": {"ignore_http_11_upgrade": ignored}, "upgrade_configs": [{"upgrade_type": "websocket"}]});
        let mut pairs = Pairs::new(hcm);
        for offered in ["foo", "Foo", "foobar, websocket", "TLS/1.2", "tls/1.2", "h2c", "foo,TLS/1.2", "x"] {
            for connection in ["upgrade, close", "close, Upgrade, http2-settings"] {
                let granted = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec();
                pairs = pairs.told(ask(connection, offered), [vec![Action::Send(granted), Action::Close]]);
            }
        }
        pairs.run();
    }
}

#[test]
fn schemes_of_upstreams() {
    for matches in [true, false] {
        let hcm = json!({"scheme_header_transformation": {"match_upstream": matches}});
        let pairs = Pairs::new(hcm).log_format("%REQ(:scheme)% %RESPONSE_CODE%\n");
        pairs
            .get("h", "/", "")
            .get("h", "/", "x-forwarded-proto: https\r\n")
            .get("h", "/direct", "x-forwarded-proto: https\r\n")
            .run();
    }
}

#[test]
fn what_loads() {
    for hcm in [
        json!({"drain_timeout_jitter": {"value": 10}}),
        json!({"common_http_protocol_options": {"max_connection_duration": "3s", "max_connection_duration_jitter": {"value": 50}}}),
        json!({"http_protocol_options": {"use_balsa_parser": true}}),
    ] {
        agree(&hcm, None);
    }
    agree(&json!({"drain_timeout_jitter": {"value": 101}}), Some(""));
}
