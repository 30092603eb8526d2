//! The ext_authz filter: what is asked of whom about a request, and what becomes of it then.

use crate::harness::{Action, Pairs};
use serde_json::{Value, json};

const FILTER: &str = "envoy.filters.http.ext_authz";

fn merged(base: &Value, over: &Value) -> Value {
    let mut result = base.clone();
    for (key, value) in over.as_object().into_iter().flatten() {
        result[key] = value.clone();
    }
    result
}

fn typed(message: &str, config: &Value) -> Value {
    let name = format!("type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.{message}");
    merged(&json!({"@type": name}), config)
}

/// Whoever is asked is the first cluster, requests go to the second one.
fn service(more: Value) -> Value {
    let uri = json!({"uri": "http://authz", "cluster": "case0", "timeout": "5s"});
    merged(&json!({"server_uri": uri}), &more)
}

fn manager_of(filter: Value, route: Value, routes: Value) -> Value {
    let mut routes = routes.as_array().expect("a list").clone();
    routes.push(merged(&json!({"match": {"prefix": "/"}, "route": {"cluster": "case1"}}), &route));
    json!({
        "http_filters": [
            {"name": FILTER, "typed_config": typed("ExtAuthz", &filter)},
            {"name": "envoy.filters.http.router", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}},
        ],
        "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}]},
    })
}

fn manager(filter: Value) -> Value {
    manager_of(filter, json!({}), json!([]))
}

fn pairs(hcm: Value) -> Pairs {
    Pairs::new(hcm)
        .sorted_fields()
        .with_statistics()
        .statistics(&["http.case0.ext_authz", "cluster.case1.ext_authz"])
}

fn get(more: &str) -> String {
    format!("GET /p?q=1 HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n{more}\r\n")
}

fn post(more: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /p HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\ncontent-length: {length}\r\n{more}\r\n{body}"
    )
}

fn answer(code: &str, fields: &str, body: &str) -> Vec<Action> {
    let length = body.len();
    vec![Action::Send(format!("HTTP/1.1 {code} X\r\n{fields}content-length: {length}\r\n\r\n{body}").into())]
}

fn list(patterns: &[&str]) -> Value {
    json!({"patterns": patterns.iter().map(|text| json!({"prefix": text})).collect::<Vec<_>>()})
}

#[test]
fn decisions() {
    let fields = "x-auth-a: 1\r\nset-cookie: a=b\r\nset-cookie: c=d\r\nlocation: /x\r\nserver: them\r\ndate: then\r\n\
        www-authenticate: basic\r\ncontent-type: text/html\r\n";
    for filter in [
        json!({"http_service": service(json!({}))}),
        json!({"http_service": service(json!({"path_prefix": "/auth"})), "failure_mode_allow": true}),
        json!({"http_service": service(json!({"path_override": "/all"})), "failure_mode_allow": true,
            "failure_mode_allow_header_add": true, "stat_prefix": "one"}),
        json!({"http_service": service(json!({"authorization_response": {"allowed_client_headers": list(&["x-auth"])}})),
            "status_on_error": {"code": 503}, "charge_cluster_response_stats": false, "max_denied_response_body_bytes": 3}),
        json!({"http_service": service(json!({})), "filter_enabled": {"default_value": {"numerator": 0}}}),
        json!({"http_service": service(json!({})), "filter_enabled": {"default_value": {"numerator": 0}},
            "deny_at_disable": {"default_value": true, "runtime_key": "x"}, "status_on_error": {"code": 401}}),
        json!({"http_service": service(json!({"server_uri": {"uri": "a", "cluster": "nohosts", "timeout": "1s"}}))}),
        json!({"http_service": service(json!({"server_uri": {"uri": "a", "cluster": "refused", "timeout": "1s"}})),
            "failure_mode_allow": true}),
    ] {
        let mut pairs = pairs(manager(filter));
        for code in ["200", "204", "302", "401", "403", "404", "429", "500", "503"] {
            pairs =
                pairs.told(get(""), [answer(code, fields, "body!")]).told(get(""), [answer(code, "", "")]);
            pairs = pairs.told(get(""), [answer(code, fields, "")]);
        }
        pairs = pairs.told(get(""), [vec![Action::Close]]);
        pairs.told(get("content-type: application/grpc\r\n"), [answer("401", fields, "body!")]).run();
    }
}

#[test]
fn fields() {
    let asked = "authorization: me\r\nx-a: 1\r\nx-a: 2\r\nx-b: 3\r\nx-set: old\r\nx-add: old\r\ncookie: a=b\r\n\
        x-envoy-auth-partial-body: no\r\nx-gone: 1\r\n";
    let answered = "x-set: new\r\nx-set-too: 1\r\nx-add: new\r\nx-resp: 1\r\nx-meta: m\r\nx-other: 2\r\n\
        x-envoy-auth-headers-to-remove: x-gone, X-B,:path,host\r\n";
    let response = json!({"allowed_upstream_headers": list(&["x-set"]), "allowed_upstream_headers_to_append": list(&["x-add"]),
        "allowed_client_headers_on_success": list(&["x-resp"]), "dynamic_metadata_from_headers": list(&["x-meta"]),
        "allowed_client_headers": list(&["x-resp"])});
    let to_add =
        json!([{"key": "x-a", "value": "over"}, {"key": "x-new", "value": "%REQ(:path)%"}, {"key": "x-e"}]);
    let of = |request: Value| {
        service(json!({"authorization_request": request, "authorization_response": response}))
    };
    for filter in [
        json!({"http_service": of(json!({"headers_to_add": to_add}))}),
        json!({"http_service": of(json!({"allowed_headers": list(&["x-"]), "headers_to_add": to_add}))}),
        json!({"http_service": of(json!({})), "allowed_headers": list(&["x-", "cookie"]),
            "disallowed_headers": list(&["x-b", "authorization"])}),
        json!({"http_service": of(json!({})), "clear_route_cache": true, "validate_mutations": true}),
    ] {
        let by_field = json!([{"match": {"prefix": "/", "headers": [{"name": "x-set", "string_match": {"exact": "new"}}]},
            "route": {"cluster": "case2"}}]);
        let hcm = manager_of(filter, json!({}), by_field);
        pairs(hcm)
            .log_format(
                "%RESPONSE_CODE% %RESPONSE_FLAGS% %DYNAMIC_METADATA(envoy.filters.http.ext_authz:x-meta)%\n",
            )
            .told(get(asked), [answer("200", answered, "")])
            .told(get(asked), [answer("403", answered, "no")])
            .told(get(""), [answer("200", answered, "")])
            .told(get(""), [answer("200", "", "")])
            .run();
    }
}

/// A host that is set or appended is the request's, by which its route is looked for again.
#[test]
fn hosts() {
    let by_host = json!([{"match": {"prefix": "/", "headers": [{"name": ":authority", "string_match": {"prefix": "new"}}]},
        "route": {"cluster": "case2"}}]);
    for response in [
        json!({"allowed_upstream_headers": list(&["host", "x-"])}),
        json!({"allowed_upstream_headers_to_append": list(&["host", "x-"])}),
    ] {
        for clears in [true, false] {
            let of = service(json!({"authorization_response": response}));
            let filter = json!({"http_service": of, "clear_route_cache": clears});
            pairs(manager_of(filter, json!({}), by_host.clone()))
                .log_format("%RESPONSE_CODE% %REQ(:authority)% %REQ(host)%\n")
                .told(get(""), [answer("200", "host: new.test\r\nx-a: 1\r\n", "")])
                .told(get(""), [answer("200", "", "")])
                .run();
        }
    }
}

/// What is told to a client that is refused is passed on as it is, whatever it is.
#[test]
fn bodies_that_are_no_text() {
    let refused = |body: &[u8]| {
        let head = format!("HTTP/1.1 403 X\r\ncontent-length: {}\r\n\r\n", body.len());
        vec![Action::Send([head.as_bytes(), body].concat())]
    };
    pairs(manager(json!({"http_service": service(json!({}))})))
        .told(get(""), [refused(b"\xff\x00\xfea\xc3")])
        .run();
}

#[test]
fn bodies() {
    let with = |settings: Value| json!({"http_service": service(json!({})), "with_request_body": settings});
    let text = "0123456789";
    for filter in [
        json!({"http_service": service(json!({}))}),
        with(json!({"max_request_bytes": 10})),
        with(json!({"max_request_bytes": 9})),
        with(json!({"max_request_bytes": 9, "allow_partial_message": true})),
        with(json!({"max_request_bytes": 10, "allow_partial_message": true, "pack_as_bytes": true})),
        with(json!({"max_request_bytes": 64, "pack_as_bytes": true})),
    ] {
        let chunked = |more: &str| {
            format!(
                "POST /p HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n4\r\n0123\r\n{more}"
            )
        };
        pairs(manager(filter))
            .told(get(""), [answer("200", "", "")])
            .told(post("", text), [answer("200", "", "")])
            .told(post("", text), [answer("403", "", "no")])
            .told(post("", ""), [answer("200", "", "")])
            .told(chunked("3\r\nabc\r\n0\r\n\r\n"), [answer("200", "", "")])
            .told(chunked("8\r\nabcdefgh\r\n0\r\n\r\n"), [answer("200", "", "")])
            .run();
    }
}

#[test]
fn routes() {
    let filter = json!({
        "http_service": service(json!({})),
        "with_request_body": {"max_request_bytes": 64},
        "allowed_headers": list(&["x-b", "x-c"]),
        "disallowed_headers": list(&["authorization", "x-c"]),
    });
    let route = |path: &str, config: Value| {
        json!({"match": {"prefix": path}, "route": {"cluster": "case1"},
            "typed_per_filter_config": {FILTER: typed("ExtAuthzPerRoute", &config)}})
    };
    let routes = json!([
        route("/disabled", json!({"disabled": true})),
        route("/nobody", json!({"check_settings": {"disable_request_body_buffering": true}})),
        route("/extensions", json!({"check_settings": {"context_extensions": {"a": "b"}}})),
        route("/less", json!({"check_settings": {"with_request_body": {"max_request_bytes": 3, "allow_partial_message": true}}})),
        route("/other", json!({"check_settings": {"http_service":
            service(json!({"path_prefix": "/other", "authorization_request": {"headers_to_add": [{"key": "x-o", "value": "1"}], "allowed_headers": list(&["x-d"])}}))}})),
        {"match": {"prefix": "/direct"}, "direct_response": {"status": 200}},
        {"match": {"prefix": "/redirect"}, "redirect": {"path_redirect": "/"}},
        {"match": {"prefix": "/unknown"}, "route": {"cluster_header": "x-cluster"}},
        {"match": {"path": "/never"}, "route": {"cluster": "case1"}},
    ]);
    let mut pairs = pairs(manager_of(filter, json!({"match": {"prefix": "/other"}}), routes));
    for path in [
        "/disabled",
        "/nobody",
        "/extensions",
        "/less",
        "/other",
        "/direct",
        "/redirect",
        "/unknown",
        "/none",
    ] {
        for code in ["200", "403"] {
            let request = post("x-b: 1\r\nx-c: 2\r\nx-d: 3\r\nauthorization: secret\r\n", "0123456789")
                .replace("/p ", &format!("{path} "));
            pairs = pairs.told(request, [answer(code, "", "")]);
        }
    }
    pairs.run();
}

/// Whoever is asked does not answer in time, or the client goes before.
#[test]
fn nobody_answers() {
    let uri = json!({"uri": "http://authz", "cluster": "case0", "timeout": "0.1s"});
    for filter in [
        json!({"http_service": service(json!({"server_uri": uri}))}),
        json!({"http_service": service(json!({"server_uri": uri})), "failure_mode_allow": true}),
    ] {
        pairs(manager(filter)).told(get(""), [Vec::new()]).run();
    }
}

/// Who is asked again, and what is too long an answer.
#[test]
fn another_question() {
    let first = |retry: Value| json!({"http_service": service(json!({"retry_policy": retry})), "with_request_body": {"max_request_bytes": 100}});
    let back_off = json!({"base_interval": "0.001s", "max_interval": "4s"});
    for retry in [
        json!({"retry_on": "5xx", "num_retries": 2, "retry_back_off": back_off}),
        json!({"retry_on": "gateway-error", "retry_back_off": back_off}),
        json!({"num_retries": 2}),
        json!({"retry_on": "reset", "num_retries": 2, "retry_back_off": back_off}),
    ] {
        let mut pairs = pairs(manager(first(retry)));
        for answers in [
            vec![answer("503", "", ""), answer("200", "", "")],
            vec![answer("503", "", "no"), answer("503", "", "no"), answer("401", "", "no")],
            vec![answer("500", "", ""), answer("500", "", ""), answer("500", "", "")],
            vec![vec![Action::Close], answer("200", "", "")],
            vec![answer("401", "", "no")],
        ] {
            pairs = pairs.told(get(""), answers.clone()).told(post("", "what is asked about"), answers);
        }
        pairs.run();
    }
    let runtime = json!({"layered_runtime": {"layers": [{"name": "l", "static_layer": {"http.async_response_buffer_limit": 10}}]}});
    let mut pairs = pairs(manager(json!({"http_service": service(json!({}))}))).bootstrap(runtime);
    for (code, body) in
        [("401", "0123456789"), ("401", "0123456789a"), ("200", "0123456789a"), ("403", &"x".repeat(100_000))]
    {
        pairs = pairs.told(get(""), [answer(code, "", body)]);
    }
    pairs.run();
}

const LATENCY: &str = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %ROUTE_NAME% \
    %DYNAMIC_METADATA(envoy.filters.http.ext_authz:x-meta)% \
    %FILTER_STATE(envoy.filters.http.ext_authz:FIELD:latency_us):0%|%FILTER_STATE(envoy.filters.http.ext_authz:FIELD:no)% \
    %FILTER_STATE(envoy.filters.http.ext_authz:PLAIN)% %FILTER_STATE(envoy.filters.http.ext_authz)%\n";

/// Answers that change much of a request.
fn changes() -> Vec<Vec<Action>> {
    let all = "x-set: new\r\nx-add: new\r\nx-envoy-set: 1\r\nhost: other\r\nx-meta: m\r\nx-resp: 1\r\n\
        x-envoy-auth-headers-to-remove: x-gone, x-envoy-gone, host\r\n";
    [
        all,
        "x-set: new\r\n",
        "x-add: new\r\n",
        "x-envoy-set: 1\r\n",
        "host: other\r\n",
        "x-envoy-auth-headers-to-remove: x-gone\r\n",
        "x-envoy-auth-headers-to-remove: host\r\n",
        "x-meta: m\r\n",
        "",
    ]
    .map(|fields| answer("200", fields, ""))
    .to_vec()
}

fn changing(filter: Value) -> Pairs {
    let exact = ["x-set", "x-envoy-set", "host"].map(|name| json!({"exact": name}));
    let response = json!({"allowed_upstream_headers": {"patterns": exact},
        "allowed_upstream_headers_to_append": list(&["x-add"]), "allowed_client_headers_on_success": list(&["x-resp"]),
        "dynamic_metadata_from_headers": list(&["x-meta"])});
    let service = json!({"http_service": service(json!({"authorization_response": response}))});
    let to = |header: &str| {
        json!({"name": header, "match": {"prefix": "/", "headers": [{"name": header, "string_match": {"exact": "new"}}]},
        "route": {"cluster": "case1"}})
    };
    let routes = json!([to("x-set"), to("x-add")]);
    let filter = merged(&service, &filter);
    pairs(manager_of(filter, json!({"name": "last"}), routes)).log_format(LATENCY)
}

#[test]
fn rules_for_changes() {
    let asked = "x-set: old\r\nx-add: old\r\nx-gone: 1\r\nx-envoy-gone: 1\r\n";
    for rules in [
        Value::Null,
        json!({}),
        json!({"allow_envoy": true}),
        json!({"allow_all_routing": true, "disallow_system": true}),
        json!({"disallow_all": true}),
        json!({"disallow_all": true, "allow_expression": {"regex": "x-a.*|x-gone"}}),
        json!({"disallow_expression": {"regex": "x-set|x-gone"}, "allow_expression": {"regex": "x-.*"}}),
        json!({"disallow_is_error": true}),
        json!({"disallow_all": true, "disallow_is_error": true}),
    ] {
        let filter = match rules {
            Value::Null => json!({}),
            rules => json!({"decoder_header_mutation_rules": rules}),
        };
        let pairs =
            changes().into_iter().fold(changing(filter), |pairs, answer| pairs.told(get(asked), [answer]));
        pairs.told(get(""), [answer("403", "x-envoy-set: 1\r\nhost: x\r\n", "no")]).run();
    }
}

#[test]
fn changes_that_lead_elsewhere() {
    for only in [json!([]), json!(["X-Set"]), json!(["x-none", "x-gone"]), json!(["x-add"])] {
        for clear in [true, false] {
            let filter = json!({"clear_route_cache": clear, "clear_route_cache_headers": only});
            let asked = "x-set: old\r\nx-add: old\r\nx-gone: 1\r\n";
            changes()
                .into_iter()
                .fold(changing(filter), |pairs, answer| pairs.told(get(asked), [answer]))
                .run();
        }
    }
}

#[test]
fn decisions_that_are_only_counted() {
    for more in [json!({}), json!({"failure_mode_allow": true, "failure_mode_allow_header_add": true})] {
        let filter = merged(
            &json!({"shadow_mode": true, "emit_filter_state_stats": true, "filter_metadata": {"a": {"b": 1}},
            "include_peer_certificate": true}),
            &more,
        );
        let pairs =
            changes().into_iter().fold(changing(filter), |pairs, answer| pairs.told(get(""), [answer]));
        pairs
            .told(get(""), [answer("403", "x-set: 1\r\nx-meta: m\r\nx-resp: 1\r\n", "no")])
            .told(get(""), [answer("503", "", "no")])
            .told(get(""), [vec![Action::Close]])
            .run();
    }
}

#[test]
fn what_is_left_in_the_stream() {
    for filter in [
        json!({"emit_filter_state_stats": true}),
        json!({"filter_metadata": {"a": "b"}}),
        json!({"enable_dynamic_metadata_ingestion": false}),
        json!({"enable_dynamic_metadata_ingestion": true}),
    ] {
        changing(filter)
            .told(get(""), [answer("200", "x-meta: m\r\n", "")])
            .told(get(""), [answer("200", "", "")])
            .told(get(""), [answer("403", "x-meta: m\r\n", "")])
            .told(get(""), [vec![Action::Close]])
            .run();
    }
}
