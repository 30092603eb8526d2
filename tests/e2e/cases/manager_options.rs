//! Options of the connection manager, held against Envoy request by request.

use crate::harness::Pairs;
use serde_json::{Value, json};

/// Routes by which local replies of every kind can be had.
fn with_routes(more: Value) -> Value {
    let mut config = more;
    config["route_config"] = json!({"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
        {"match": {"prefix": "/direct"}, "direct_response": {"status": 200, "body": {"inline_string": "direct"}}},
        {"match": {"prefix": "/typed"}, "direct_response": {"status": 418, "body": {"inline_string": "<b>"}},
         "response_headers_to_add": [{"header": {"key": "content-type", "value": "text/html"}}]},
        {"match": {"prefix": "/refused"}, "route": {"cluster": "refused"}},
        {"match": {"prefix": "/nohosts"}, "route": {"cluster": "nohosts"}},
        {"match": {"prefix": "/up"}, "route": {"cluster": "case1"}},
    ]}]});
    config
}

#[test]
fn hosts_and_paths() {
    for options in [
        json!({"strip_matching_host_port": true}),
        json!({"strip_any_host_port": true, "strip_trailing_host_dot": true}),
        json!({"strip_trailing_host_dot": true}),
    ] {
        let mut pairs = Pairs::new(with_routes(options));
        for host in ["h", "h.", "h:80", "h.:80", "h..", "[::1]:80", "[::1].", "1.2.3.4", ".", "h:", "h.x:80"]
        {
            pairs = pairs.get(host, "/up", "");
        }
        pairs.run();
    }
    for action in ["KEEP_UNCHANGED", "REJECT_REQUEST", "UNESCAPE_AND_REDIRECT", "UNESCAPE_AND_FORWARD"] {
        for normalize in [false, true] {
            let options = json!({"path_with_escaped_slashes_action": action, "normalize_path": normalize, "merge_slashes": normalize});
            let mut pairs = Pairs::new(with_routes(options));
            for path in
                ["/up/a", "/up%2Fa", "/up%2fa?b%2Fc", "/up%5Ca", "/up%2F%2fa", "/up%2", "/up/%2e%2e%2fup"]
            {
                pairs = pairs.get("h", path, "").get("h", path, "content-type: application/grpc\r\n");
            }
            pairs.run();
        }
    }
}

#[test]
fn schemes() {
    for options in [
        json!({"scheme_header_transformation": {"scheme_to_overwrite": "https"}}),
        json!({"scheme_header_transformation": {"scheme_to_overwrite": "https"}, "use_remote_address": true}),
        json!({}),
    ] {
        Pairs::new(with_routes(options))
            .get("h", "/up", "")
            .get("h", "/up", "x-forwarded-proto: https\r\n")
            .get("h", "/up", "x-forwarded-proto: http\r\n")
            .run();
    }
}

#[test]
fn local_replies() {
    let status = |op: &str, value: u32| json!({"status_code_filter": {"comparison": {"op": op, "value": {"default_value": value, "runtime_key": "none"}}}});
    let flag = |flag: &str| json!({"response_flag_filter": {"flags": [flag]}});
    let header = |name: &str| json!({"header_filter": {"header": {"name": name, "present_match": true}}});
    let text = |format: &str| json!({"text_format_source": {"inline_string": format}});
    for config in [
        json!({}),
        json!({"body_format": text("<%LOCAL_REPLY_BODY%|%RESPONSE_CODE%|%REQ(:path)%|%RESPONSE_FLAGS%|%RESPONSE_CODE_DETAILS%>\n")}),
        json!({"body_format": {"json_format": {"body": "%LOCAL_REPLY_BODY%", "status": "%RESPONSE_CODE%", "path": "%REQ(:path)%"}}}),
        json!({"mappers": [
            {"filter": status("EQ", 404), "status_code": 410, "body": {"inline_string": "gone"},
             "headers_to_add": [{"header": {"key": "x-mapped", "value": "%REQ(:path)%"}}]},
            {"filter": flag("UF"), "body": {"inline_string": "refused"}, "body_format_override": text("UF %LOCAL_REPLY_BODY%")},
            {"filter": header("x-ask"), "status_code": 444, "body_format_override": {
                "text_format_source": {"inline_string": "<i>%LOCAL_REPLY_BODY%</i>"}, "content_type": "text/html; charset=UTF-8"}},
            {"filter": status("GE", 400), "body": {"inline_string": ""}},
        ], "body_format": text("all: %LOCAL_REPLY_BODY%")}),
    ] {
        let mut pairs = Pairs::new(with_routes(json!({"local_reply_config": config})));
        for path in ["/none", "/direct", "/typed", "/refused", "/nohosts", "/up"] {
            pairs = pairs
                .get("h", path, "")
                .get("h", path, "x-ask: 1\r\n")
                .get("h", path, "content-type: application/grpc\r\n")
                .raw(format!("HEAD {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"));
        }
        pairs
            .raw("GET / HTTP/1.1\r\nbad header: x\r\nhost: h\r\n\r\n".into())
            .raw("GET / HTTP/1.1\r\nconnection: close\r\n\r\n".into())
            .run();
    }
}
