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

/// An extension of the configuration.
fn extension(name: &str, kind: &str, config: Value) -> Value {
    let mut config = config;
    config["@type"] = format!("type.googleapis.com/envoy.extensions.{kind}").into();
    json!({"name": name, "typed_config": config})
}

#[test]
fn early_header_mutations() {
    let mutation = |list: Value| {
        extension(
            "m",
            "http.early_header_mutation.header_mutation.v3.HeaderMutation",
            json!({"mutations": list}),
        )
    };
    let append = |name: &str, value: &str, action: &str| json!({"append": {"header": {"key": name, "value": value}, "append_action": action}});
    let first = mutation(json!([
        append("x-early", "%REQ(:path)%|%PROTOCOL%|%ROUTE_NAME%", "APPEND_IF_EXISTS_OR_ADD"),
        append("x-forwarded-for", "9.9.9.9", "ADD_IF_ABSENT"),
        {"remove": "X-Gone"},
        {"remove_on_match": {"key_matcher": {"prefix": "x-many"}}},
        append("x-gone", "new", "APPEND_IF_EXISTS_OR_ADD"),
        append("x-envoy-retry-on", "5xx", "OVERWRITE_IF_EXISTS_OR_ADD"),
    ]));
    let second = mutation(json!([append("x-copy", "%REQ(x-early)%", "OVERWRITE_IF_EXISTS_OR_ADD")]));
    for remote in [false, true] {
        let options = json!({"early_header_mutation_extensions": [first.clone(), second.clone()], "use_remote_address": remote});
        Pairs::new(with_routes(options))
            .get("h", "/up", "")
            .get("h", "/up", "x-gone: 1\r\nx-many-1: 1\r\nx-many-2: 2\r\nx-early: 0\r\n")
            .get("h", "/direct", "x-forwarded-for: 1.1.1.1\r\n")
            .run();
    }
}

#[test]
fn original_addresses() {
    let xff = |config: Value| extension("xff", "http.original_ip_detection.xff.v3.XffConfig", config);
    let custom = |config: Value| {
        extension("custom", "http.original_ip_detection.custom_header.v3.CustomHeaderConfig", config)
    };
    let range = |prefix: &str, len: u32| json!({"address_prefix": prefix, "prefix_len": len});
    let internal = json!({"cidr_ranges": [range("10.0.0.0", 8)]});
    let trusted = json!({"cidrs": [range("127.0.0.0", 8), range("10.1.0.0", 16)]});
    let foreign = json!({"cidrs": [range("192.168.0.0", 16)]});
    for extensions in [
        json!([xff(json!({"xff_num_trusted_hops": 1}))]),
        json!([xff(json!({"skip_xff_append": false}))]),
        json!([xff(json!({"xff_trusted_cidrs": trusted}))]),
        json!([xff(json!({"xff_trusted_cidrs": trusted, "skip_xff_append": false}))]),
        json!([xff(json!({"xff_trusted_cidrs": foreign}))]),
        json!([custom(json!({"header_name": "X-Real-IP"})), xff(json!({}))]),
        json!([custom(
            json!({"header_name": "x-real-ip", "allow_extension_to_set_address_as_trusted": true})
        )]),
        json!([
            custom(json!({"header_name": "x-real-ip", "reject_with_status": {"code": "Unauthorized"}})),
            xff(json!({}))
        ]),
        json!([custom(json!({"header_name": "x-real-ip", "reject_with_status": {"code": "OK"}}))]),
    ] {
        let mut options = with_routes(
            json!({"original_ip_detection_extensions": extensions, "internal_address_config": internal}),
        );
        options["route_config"]["request_headers_to_add"] =
            json!([{"header": {"key": "x-remote", "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}}]);
        let mut pairs = Pairs::new(options).statistics(&["http.case0.downstream_rq_rejected"]);
        for xff in [
            "",
            "10.2.0.1",
            "1.1.1.1",
            "1.1.1.1, 10.1.0.1",
            "1.1.1.1,2.2.2.2, 10.1.0.1",
            "10.1.0.1,10.1.0.2",
            "bad",
            "bad,10.1.0.1",
            ", 1.1.1.1 ,,10.1.0.1",
        ] {
            for real in ["", "10.3.0.1", "nonsense", "::1"] {
                let line = |name: &str, value: &str| match value {
                    "" => String::new(),
                    value => format!("{name}: {value}\r\n"),
                };
                pairs = pairs.get("h", "/up", &(line("x-forwarded-for", xff) + &line("x-real-ip", real)));
            }
        }
        pairs.run();
    }
}

#[test]
fn request_ids() {
    let uuid = |config: Value| json!({"typed_config": extension("", "request_id.uuid.v3.UuidRequestIdConfig", config)["typed_config"]});
    for options in [
        json!({}),
        json!({"request_id_extension": uuid(json!({"pack_trace_reason": false}))}),
        json!({"request_id_extension": uuid(json!({"use_request_id_for_trace_sampling": false}))}),
    ] {
        for (remote, keep) in [(false, false), (true, true)] {
            let mut options = with_routes(options.clone());
            options["use_remote_address"] = remote.into();
            options["preserve_external_request_id"] = keep.into();
            options["always_set_request_id_in_response"] = true.into();
            Pairs::new(options)
                .get("h", "/up", "x-request-id: 01234567-89ab-9def-8123-456789abcdef\r\n")
                .get("h", "/up", "x-request-id: 01234567-89ab-adef-8123-456789abcdef\r\n")
                .get("h", "/up", "x-request-id: mine\r\n")
                .get("h", "/up", "x-request-id: mine-and-not-thine-forever\r\n")
                .run();
        }
    }
}

#[test]
fn proxy_status() {
    for config in [
        json!({}),
        json!({"literal_proxy_name": "me"}),
        json!({"use_node_id": true, "remove_response_flags": true}),
        json!({"remove_details": true, "set_recommended_response_code": true}),
        json!({"remove_connection_termination_details": true, "set_recommended_response_code": true}),
    ] {
        let options = with_routes(json!({"proxy_status_config": config, "server_name": "named"}));
        let mut pairs = Pairs::new(options).bootstrap(json!({"node": {"id": "node", "cluster": "c"}}));
        for path in ["/none", "/direct", "/refused", "/nohosts", "/up"] {
            pairs = pairs.get("h", path, "").get("h", path, "content-type: application/grpc\r\n");
        }
        pairs
            .raw("GET / HTTP/1.1\r\nbad header: x\r\nhost: h\r\n\r\n".into())
            .raw("GET / HTTP/1.1\r\nconnection: close\r\n\r\n".into())
            .run();
        Pairs::new(json!({"proxy_status_config": config}))
            .answer("HTTP/1.1 200 OK\r\nproxy-status: other; error=x\r\ncontent-length: 1\r\n\r\n")
            .get("h", "/short", "")
            .get("h", "/full", "")
            .run();
        Pairs::new(json!({"proxy_status_config": config})).answer("nonsense\r\n\r\n").get("h", "/", "").run();
        Pairs::new(json!({"proxy_status_config": config}))
            .answer("HTTP/1.1 200 OK\r\n")
            .get("h", "/short", "")
            .run();
    }
}

#[test]
fn certificates_and_ports() {
    for details in ["SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"] {
        let options = json!({"forward_client_cert_details": details, "set_current_client_cert_details": {"subject": true, "cert": true}});
        Pairs::new(with_routes(options))
            .get("h", "/up", "x-forwarded-client-cert: By=a\r\n")
            .get("h", "/up", "")
            .run();
    }
    let on_port = |regex: &str| {
        json!({"match": {"prefix": "/", "headers": [{"name": "x-forwarded-port", "string_match": {"safe_regex": {"regex": regex}}}]},
        "direct_response": {"status": 200, "body": {"inline_string": regex}}})
    };
    for remote in [false, true] {
        let routes = json!([on_port("1"), on_port("[0-9]{4,5}"), on_port(".*")]);
        let options = json!({"append_x_forwarded_port": true, "use_remote_address": remote, "append_local_overload": true,
            "stream_flush_timeout": "1s", "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}]}});
        Pairs::new(options)
            .get("h", "/", "")
            .get("h", "/", "x-forwarded-port: 1\r\n")
            .get("h", "/", "x-forwarded-port: z\r\n")
            .run();
    }
}

#[test]
fn access_log_options() {
    let log =
        "%ACCESS_LOG_TYPE% %RESPONSE_CODE% %RESPONSE_FLAGS% %REQ(:path)% %UPSTREAM_CLUSTER% %ROUTE_NAME%\n";
    for (lines, options) in [
        (
            9,
            json!({"access_log_options": {"flush_access_log_on_new_request": true, "flush_log_on_tunnel_successfully_established": true}}),
        ),
        (8, json!({"flush_access_log_on_new_request": true})),
    ] {
        let mut options = with_routes(options);
        options["upgrade_configs"] = json!([{"upgrade_type": "websocket"}]);
        let pairs = Pairs::new(options)
            .log_format(log)
            .log_lines(lines)
            .answer("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
        pairs
            .get("h", "/none", "")
            .get("h", "/direct", "")
            .get("h", "/refused", "")
            .raw(format!("GET /up HTTP/1.1\r\nhost: h\r\n{upgrade}\r\n"))
            .run();
    }
}

/// What a cluster has that speaks HTTP/1 so.
fn http1(options: Value) -> Value {
    json!({"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http_protocol_options": options}}}})
}

#[test]
fn names_of_fields() {
    let preserve = |config: Value| {
        json!({"header_key_format": {"stateful_formatter":
        extension("p", "http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig", config)}})
    };
    let proper = json!({"header_key_format": {"proper_case_words": {}}});
    let both = json!({"forward_reason_phrase": true, "formatter_type_on_envoy_headers": "PROPER_CASE"});
    for (down, up) in [
        (proper.clone(), json!({})),
        (json!({}), proper.clone()),
        (proper.clone(), proper.clone()),
        (preserve(json!({})), preserve(json!({}))),
        (preserve(json!({})), json!({})),
        (json!({}), preserve(json!({}))),
        (preserve(both.clone()), preserve(both)),
        (preserve(json!({"forward_reason_phrase": true})), proper),
    ] {
        let mut options = with_routes(json!({"http_protocol_options": down}));
        options["route_config"]["request_headers_to_add"] =
            json!([{"header": {"key": "X-Added", "value": "1"}}]);
        options["route_config"]["response_headers_to_add"] =
            json!([{"header": {"key": "X-Added", "value": "1"}}]);
        options["route_config"]["virtual_hosts"][0]["routes"][4]["route"]["cluster"] = "case0".into();
        let answers = [
            "HTTP/1.1 200 Fine So\r\nX-aB: 1\r\nCONTENT-LENGTH: 2\r\nx-AB: 2\r\nX-B_c.d: 1\r\n\r\nok",
            "HTTP/1.1 404\r\nEtag: X-Y: z\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 204 x\r\n\r\n",
        ];
        for answer in answers {
            Pairs::new(options.clone())
                .cluster(http1(up.clone()))
                .answer(answer)
                .raw("GET /up HTTP/1.1\r\nHOST: h\r\nX-Foo: a\r\nx-FOO: b\r\nX-9a-b_c!d: X: y\r\nConnection: close\r\nX-Forwarded-Proto: http\r\n\r\n".into())
                .raw("POST /up HTTP/1.1\r\nhost: h\r\nCONNECTION: close\r\n\r\n".into())
                .raw("HEAD /none HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".into())
                .get("h", "/direct", "")
                .run();
        }
    }
}

#[test]
fn whole_urls_for_hosts() {
    for options in [
        json!({"send_fully_qualified_url": true}),
        json!({"send_fully_qualified_url": true, "header_key_format": {"proper_case_words": {}}}),
    ] {
        let mut config = with_routes(json!({"http_protocol_options": {"send_fully_qualified_url": true}}));
        config["route_config"]["virtual_hosts"][0]["routes"][4]["route"] =
            json!({"cluster": "case0", "prefix_rewrite": "/down"});
        Pairs::new(config)
            .cluster(http1(options))
            .get("h", "/up", "")
            .get("h:80", "/up/x?a=b", "x-forwarded-proto: https\r\n")
            .raw("GET http://other/up HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n".into())
            .run();
    }
}
