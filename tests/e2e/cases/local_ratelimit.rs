//! The local rate limit filter, held against Envoy request by request.

use super::http_filters::chain;
use crate::harness::{Pairs, agree};
use serde_json::{Value, json};

/// With `over` over a bucket that nothing comes back to.
fn limit(tokens: u32, over: Value) -> Value {
    let mut config = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "limit",
        "token_bucket": {"max_tokens": tokens, "fill_interval": "3600s"},
        "filter_enabled": {"default_value": {"numerator": 100}},
        "filter_enforced": {"default_value": {"numerator": 100}},
    });
    for (name, value) in over.as_object().expect("fields") {
        config[name] = value.clone();
    }
    config
}

fn to(prefix: &str) -> Value {
    json!({"match": {"prefix": prefix}, "route": {"cluster": "case1"}})
}

fn to_with(prefix: &str, of_route: Value) -> Value {
    json!({"match": {"prefix": prefix}, "route": {"cluster": "case1"}, "typed_per_filter_config": {"l": of_route}})
}

const GRPC: &str = "content-type: application/grpc\r\n";
const STATISTICS: &[&str] =
    &["limit.", "other.", "http.case0.downstream_rq_4xx", "http.case0.downstream_rq_completed"];

#[test]
fn what_is_too_much() {
    let add = |key: &str, value: &str| json!([{"header": {"key": key, "value": value}}]);
    let cases = [
        json!({}),
        json!({"enable_x_ratelimit_headers": "DRAFT_VERSION_03"}),
        json!({"enable_x_ratelimit_headers": "DRAFT_VERSION_03", "enable_retry_after_header": true}),
        json!({"enable_retry_after_header": true, "response_headers_to_add": add("x-a", "%REQ(:path)% %RESPONSE_CODE%")}),
        json!({"status": {"code": "ServiceUnavailable"}}),
        json!({"status": {"code": 200}}),
        json!({"rate_limited_as_resource_exhausted": true}),
        json!({"filter_enforced": null}),
        json!({"filter_enforced": {"default_value": {"numerator": 0}},
            "request_headers_to_add_when_not_enforced": add("x-late", "%REQ(:path)%"), "response_headers_to_add": add("x-a", "b"),
            "enable_x_ratelimit_headers": "DRAFT_VERSION_03", "enable_retry_after_header": true}),
        json!({"filter_enabled": null}),
        json!({"filter_enabled": {"default_value": {"numerator": 0}, "runtime_key": "on"}}),
        json!({"filter_enforced": {"default_value": {"numerator": 100}, "runtime_key": "off"}}),
        json!({"token_bucket": null}),
        json!({"token_bucket": null, "enable_x_ratelimit_headers": "DRAFT_VERSION_03"}),
    ];
    for case in cases {
        let runtime =
            json!({"layered_runtime": {"layers": [{"name": "l", "static_layer": {"on": 100, "off": 0}}]}});
        let routes = json!([to("/"), {"match": {"prefix": "*"}, "direct_response": {"status": 200}}]);
        let mut pairs =
            Pairs::new(chain("l", limit(2, case), routes)).statistics(STATISTICS).bootstrap(runtime);
        for path in ["/a", "/b", "/c", "*"] {
            pairs = pairs.get("h", path, "").get("h", path, GRPC);
        }
        let head = "POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n";
        pairs.raw(format!("{head}content-length: 3\r\n\r\nabc")).run();
    }
}

#[test]
fn routes_and_connections_have_their_own() {
    let per_connection = json!({"local_rate_limit_per_downstream_connection": true, "enable_x_ratelimit_headers": "DRAFT_VERSION_03"});
    let other = |tokens, mut over: Value| {
        over["stat_prefix"] = "other".into();
        limit(tokens, over)
    };
    let routes = json!([
        to_with("/one", other(1, json!({}))),
        to_with("/three", other(3, json!({"enable_x_ratelimit_headers": "DRAFT_VERSION_03"}))),
        to_with("/off", other(1, json!({"filter_enabled": null}))),
        to_with("/connection/one", other(1, per_connection.clone())),
        to_with("/connection/two", other(2, per_connection.clone())),
        {"match": {"prefix": "/direct"}, "direct_response": {"status": 200}, "typed_per_filter_config": {"l": other(1, json!({}))}},
        to("/"),
    ]);
    let mut pairs = Pairs::new(chain("l", limit(4, json!({})), routes.clone())).statistics(STATISTICS);
    for path in ["/one", "/three", "/off", "/direct", "/nothing"] {
        for _ in 0..4 {
            pairs = pairs.get("h", path, "");
        }
    }
    pairs.run();
    let mut pairs = Pairs::new(chain("l", limit(4, per_connection), routes)).statistics(STATISTICS);
    for paths in [
        &["/a"; 4][..],
        &["/a"; 6],
        &["/connection/one"; 1],
        &["/connection/one"; 3],
        &["/connection/two"; 2],
        &["/connection/two"; 3],
        &["/", "/connection/one", "/connection/two", "/", "/connection/one"],
        &["/connection/two", "/connection/one", "/"],
        &["/connection/one", "/connection/two"],
        &["/", "/connection/two", "/three", "/one", "/", "/three", "/three", "/three"],
    ] {
        pairs = pairs.one_by_one(paths);
    }
    pairs.run();
}

#[test]
fn tokens_come_back() {
    let delay = json!({"name": "f", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
        "delay": {"fixed_delay": "0.1s", "percentage": {"numerator": 100}},
    }});
    for (interval, tokens) in [("0.05s", 1), ("0.5s", 9)] {
        let bucket = json!({"max_tokens": 1, "tokens_per_fill": tokens, "fill_interval": interval});
        let mut config = chain("l", limit(1, json!({"token_bucket": bucket})), json!([to("/")]));
        config["http_filters"].as_array_mut().expect("filters").insert(0, delay.clone());
        let mut pairs = Pairs::new(config).statistics(STATISTICS);
        for _ in 0..5 {
            pairs = pairs.get("h", "/", "");
        }
        pairs.run();
    }
}

/// A bucket of requests that are described so.
fn descriptor(entries: &[(&str, &str)], tokens: u32, more: Value) -> Value {
    let mut descriptor = more;
    descriptor["entries"] = entries.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
    let interval = if tokens > 2 { "1800s" } else { "3600s" };
    descriptor["token_bucket"] = json!({"max_tokens": tokens, "fill_interval": interval});
    descriptor
}

#[test]
fn requests_that_are_described() {
    let header = |name: &str, key: &str, skip: bool| json!({"request_headers": {"header_name": name, "descriptor_key": key, "skip_if_absent": skip}});
    let query = |name: &str, key: &str, skip: bool| json!({"query_parameters": {"query_parameter_name": name, "descriptor_key": key, "skip_if_absent": skip}});
    let limits = json!([
        {"actions": [{"generic_key": {"descriptor_value": "all"}}]},
        {"actions": [{"generic_key": {"descriptor_value": "b", "descriptor_key": "a"}}, {"source_cluster": {}}, {"destination_cluster": {}}]},
        {"actions": [header("x-user", "user", false), header("x-more", "more", true)]},
        {"actions": [header(":path", "path", false)]},
        {"actions": [query("q", "query", false), query("r", "other", true)]},
        {"actions": [{"remote_address": {}}]},
        {"actions": [{"masked_remote_address": {"v4_prefix_mask_len": 8}}]},
        {"actions": [{"header_value_match": {"descriptor_value": "yes", "headers": [{"name": "x-is", "present_match": true}]}}]},
        {"actions": [{"header_value_match": {"descriptor_value": "no", "descriptor_key": "is", "expect_match": false,
            "headers": [{"name": "x-is", "present_match": true}]}}]},
        {"actions": [{"query_parameter_value_match": {"descriptor_value": "one", "query_parameters": [
            {"name": "q", "string_match": {"exact": "1"}}]}}]},
        {"actions": [{"generic_key": {"descriptor_value": "later"}}], "apply_on_stream_done": true},
    ]);
    let cases = [
        vec![descriptor(&[("generic_key", "all")], 2, json!({}))],
        vec![descriptor(&[("generic_key", "all")], 3, json!({"shadow_mode": true}))],
        vec![
            descriptor(&[("generic_key", "all")], 20, json!({})),
            descriptor(&[("user", "1")], 1, json!({})),
        ],
        vec![descriptor(
            &[("a", "b"), ("source_cluster", "mine"), ("destination_cluster", "case1")],
            1,
            json!({}),
        )],
        vec![
            descriptor(&[("user", "1"), ("more", "2")], 1, json!({})),
            descriptor(&[("user", "1")], 1, json!({})),
        ],
        vec![descriptor(&[("path", "/?q=1")], 1, json!({}))],
        vec![
            descriptor(&[("query", "1")], 1, json!({})),
            descriptor(&[("query", "1"), ("other", "2")], 1, json!({})),
        ],
        vec![descriptor(&[("remote_address", "127.0.0.1")], 2, json!({}))],
        vec![descriptor(&[("masked_remote_address", "127.0.0.0/8")], 2, json!({}))],
        vec![descriptor(&[("header_match", "yes")], 1, json!({})), descriptor(&[("is", "no")], 2, json!({}))],
        vec![descriptor(&[("query_match", "one")], 1, json!({}))],
        vec![descriptor(&[("generic_key", "later")], 1, json!({}))],
        vec![descriptor(&[("generic_key", "other")], 1, json!({}))],
        vec![descriptor(&[("user", "")], 1, json!({}))],
        vec![
            descriptor(&[("user", "")], 2, json!({"shadow_mode": true})),
            descriptor(&[("user", "1")], 1, json!({})),
        ],
        vec![
            descriptor(&[("user", ""), ("more", "2")], 1, json!({})),
            descriptor(&[("path", "")], 2, json!({})),
        ],
    ];
    let node = json!({"node": {"id": "n", "cluster": "mine"}});
    for descriptors in cases {
        for always in [true, false] {
            let more = json!({"descriptors": descriptors, "rate_limits": limits, "always_consume_default_token_bucket": always,
                "enable_x_ratelimit_headers": "DRAFT_VERSION_03", "request_headers_to_add_when_not_enforced": [{"header": {"key": "x-late", "value": "1"}}]});
            let config = chain("l", limit(7, more), json!([to("/")]));
            let mut pairs = Pairs::new(config).statistics(STATISTICS).bootstrap(node.clone());
            for (path, lines) in [
                ("/", ""),
                ("/", "x-user: 1\r\n"),
                ("/", "x-user: 1\r\nx-more: 2\r\n"),
                ("/?q=1", "x-is: 1\r\n"),
                ("/?q=1&r=2", ""),
                ("/?q=1", "x-user: 1\r\n"),
                ("/?q=1&r=2", "x-user: 1\r\nx-more: 2\r\nx-is: 1\r\n"),
                ("/", ""),
                ("/", ""),
            ] {
                pairs = pairs.get("h", path, lines);
            }
            pairs.run();
        }
    }
}

#[test]
fn routes_describe_requests() {
    let says = |words: &[(&str, u32)]| -> Value {
        let one = |(word, stage): &(&str, u32)| json!({"stage": stage, "actions": [{"generic_key": {"descriptor_value": word}}]});
        words.iter().map(one).collect()
    };
    let mut disabled = says(&[("route", 0)]);
    disabled[0]["disable_key"] = "x".into();
    let mut late = says(&[("route", 0)]);
    late[0]["apply_on_stream_done"] = true.into();
    let route = |prefix: &str, limits: Value, include: Value| {
        json!({"match": {"prefix": prefix},
        "route": {"cluster": "case1", "rate_limits": limits, "include_vh_rate_limits": include}})
    };
    let routes = json!([
        route("/both", says(&[("route", 0), ("other", 0)]), json!(null)),
        route("/included", says(&[("route", 0)]), json!(true)),
        route("/excluded", says(&[("route", 0)]), json!(false)),
        route("/only", json!([]), json!(true)),
        route("/not", json!([]), json!(false)),
        route("/stage", says(&[("route", 1)]), json!(null)),
        route("/disabled", disabled, json!(null)),
        route("/late", late, json!(null)),
        {"match": {"prefix": "/direct"}, "direct_response": {"status": 200}},
        to("/"),
    ]);
    for option in ["OVERRIDE", "INCLUDE", "IGNORE"] {
        for stage in [0, 1] {
            let descriptors = json!([
                descriptor(&[("generic_key", "host")], 6, json!({})),
                descriptor(&[("generic_key", "route")], 5, json!({})),
                descriptor(&[("generic_key", "other")], 2, json!({})),
            ]);
            let more = json!({"descriptors": descriptors, "vh_rate_limits": option, "stage": stage,
                "always_consume_default_token_bucket": false, "enable_x_ratelimit_headers": "DRAFT_VERSION_03"});
            let mut config = chain("l", limit(4, more), routes.clone());
            config["route_config"]["virtual_hosts"][0]["rate_limits"] = says(&[("host", 0), ("host", 1)]);
            let mut pairs = Pairs::new(config).statistics(STATISTICS);
            for path in [
                "/both",
                "/included",
                "/excluded",
                "/only",
                "/not",
                "/stage",
                "/disabled",
                "/late",
                "/direct",
                "/nothing",
            ] {
                pairs = pairs.get("h", path, "").get("h", path, "");
            }
            pairs.run();
        }
    }
}

#[test]
fn requests_that_are_described_by_metadata() {
    let said = json!({"filter_metadata": {"f": {"k": "a", "o": {"p": "b"}, "n": 1, "e": ""}}});
    let by = |source: &str, path: &[&str], more: Value| {
        let mut action = more;
        action["descriptor_key"] = "d".into();
        action["source"] = source.into();
        let path: Vec<Value> = path.iter().map(|key| json!({"key": key})).collect();
        action["metadata_key"] = json!({"key": "f", "path": path});
        json!({"metadata": action})
    };
    let generic = json!({"generic_key": {"descriptor_value": "g"}});
    for actions in [
        json!([by("ROUTE_ENTRY", &["k"], json!({}))]),
        json!([by("ROUTE_ENTRY", &["o", "p"], json!({}))]),
        json!([by("ROUTE_ENTRY", &["o", "q"], json!({"default_value": "c"}))]),
        json!([by("ROUTE_ENTRY", &["n"], json!({"default_value": "c"}))]),
        json!([by("ROUTE_ENTRY", &["e"], json!({"default_value": "c"}))]),
        json!([generic, by("ROUTE_ENTRY", &["n"], json!({}))]),
        json!([generic, by("ROUTE_ENTRY", &["n"], json!({"skip_if_absent": true}))]),
        json!([by("DYNAMIC", &["k"], json!({"default_value": "c"})), generic]),
        json!([by("DYNAMIC", &["k"], json!({}))]),
    ] {
        let one = |value: &str, tokens| descriptor(&[("d", value)], tokens, json!({}));
        let more = json!({"descriptors": [
            one("a", 1), one("b", 2), one("c", 1),
            descriptor(&[("generic_key", "g")], 1, json!({})),
            descriptor(&[("d", "c"), ("generic_key", "g")], 2, json!({})),
        ]});
        let route = json!({"match": {"prefix": "/"}, "metadata": said,
            "route": {"cluster": "case1", "rate_limits": [{"actions": actions}]}});
        let pairs = Pairs::new(chain("l", limit(3, more), json!([route]))).statistics(STATISTICS);
        (0..4).fold(pairs, |pairs, _| pairs.get("h", "/", "")).run();
    }
}

/// Buckets for any value, of which there are two at most: the one that was asked before all others goes, and is full when it comes
/// back.
#[test]
fn buckets_for_any_value() {
    let limits =
        json!([{"actions": [{"request_headers": {"header_name": "x-user", "descriptor_key": "user"}}]}]);
    for most in [json!(2), json!(null), json!(1)] {
        let more = json!({"descriptors": [descriptor(&[("user", "")], 2, json!({}))], "rate_limits": limits, "max_dynamic_descriptors": most,
            "always_consume_default_token_bucket": false, "enable_x_ratelimit_headers": "DRAFT_VERSION_03"});
        let mut pairs = Pairs::new(chain("l", limit(100, more), json!([to("/")]))).statistics(STATISTICS);
        for user in ["a", "a", "a", "b", "a", "b", "b", "c", "a", "b", "c", "c", "c", "", "a"] {
            pairs = pairs.get("h", "/", &format!("x-user: {user}\r\n"));
        }
        pairs.run();
    }
}

/// Buckets of 5 for `g` and of 3 for `h`, and 20 for all others.
fn two_buckets(over: Value) -> Value {
    let mut config = json!({"descriptors": [
        descriptor(&[("generic_key", "g")], 5, json!({})),
        descriptor(&[("generic_key", "h")], 3, json!({})),
    ]});
    for (name, value) in over.as_object().expect("fields") {
        config[name] = value.clone();
    }
    limit(20, config)
}

fn says(word: &str, more: Value) -> Value {
    let mut limit = more;
    limit["actions"] = json!([{"generic_key": {"descriptor_value": word}}]);
    limit
}

#[test]
fn requests_that_count_as_several() {
    let draft = "DRAFT_VERSION_03";
    let number = |number: u32| says("g", json!({"hits_addend": {"number": number}}));
    let format = |format: &str| says("g", json!({"hits_addend": {"format": format}}));
    for limits in [
        json!([number(2)]),
        json!([number(0)]),
        json!([number(7)]),
        json!([format("%REQ(x-h)%")]),
        json!([format("%BYTES_RECEIVED%")]),
        json!([format("%RESPONSE_CODE_DETAILS%")]),
        json!([number(2), says("h", json!({}))]),
        json!([says("zz", json!({"hits_addend": {"number": 3}}))]),
    ] {
        // What routes say counts as one each.
        for of_filter in [true, false] {
            let mut config = json!({"enable_x_ratelimit_headers": draft});
            if of_filter {
                config["rate_limits"] = limits.clone();
            }
            let route =
                json!({"match": {"prefix": "/"}, "route": {"cluster": "case1", "rate_limits": limits}});
            let pairs = Pairs::new(chain("l", two_buckets(config), json!([route]))).statistics(STATISTICS);
            let numbers = ["2", "", "bad", "1.7", "-1", "1e0", "0"];
            let line =
                |number: &&str| if number.is_empty() { String::new() } else { format!("x-h: {number}\r\n") };
            numbers.iter().fold(pairs, |pairs, number| pairs.get("h", "/", &line(number))).run();
        }
    }
}

#[test]
fn who_tells_clients_what_is_left() {
    for usual in ["OFF", "DRAFT_VERSION_03"] {
        for (one, other) in
            [("OFF", "UNSPECIFIED"), ("DRAFT_VERSION_03", "OFF"), ("UNSPECIFIED", "DRAFT_VERSION_03")]
        {
            let limits = json!([
                says("g", json!({"x_ratelimit_option": one})),
                says("h", json!({"x_ratelimit_option": other}))
            ]);
            let config = json!({"enable_x_ratelimit_headers": usual, "rate_limits": limits});
            let pairs = Pairs::new(chain("l", two_buckets(config), json!([to("/")])));
            (0..7).fold(pairs, |pairs, _| pairs.get("h", "/", "")).run();
        }
    }
}

#[test]
fn clients_describe_requests() {
    let network = |more: Value| {
        let mut matcher = json!({"descriptor_key": "generic_key", "descriptor_value": "g"});
        matcher["address_matcher"] = more;
        json!({"actions": [{"remote_address_match": matcher}]})
    };
    let ranges = json!([{"address_prefix": "10.0.0.0", "prefix_len": 8}, {"address_prefix": "1.2.3.4", "prefix_len": 32}]);
    let mut unnamed = network(json!({"ranges": ranges}));
    unnamed["actions"][0]["remote_address_match"]["descriptor_key"] = Value::Null;
    for limits in [
        json!([network(json!({"ranges": ranges}))]),
        json!([network(json!({"ranges": ranges, "invert_match": true}))]),
        json!([unnamed]),
    ] {
        let route = json!({"match": {"prefix": "/"}, "route": {"cluster": "case0", "rate_limits": limits}});
        let config = json!({"enable_x_ratelimit_headers": "DRAFT_VERSION_03"});
        let mut config = chain("l", two_buckets(config), json!([route]));
        config["use_remote_address"] = true.into();
        config["xff_num_trusted_hops"] = 1.into();
        let pairs = Pairs::new(config);
        let clients = ["1.2.3.4", "10.1.1.1", "9.9.9.9", "::1"];
        clients
            .iter()
            .fold(pairs, |pairs, ip| pairs.get("h", "/", &format!("x-forwarded-for: {ip}\r\n")))
            .run();
    }
}

#[test]
fn what_loads() {
    let with = |limit: Value| chain("l", two_buckets(json!({"rate_limits": [limit]})), json!([]));
    let metadata = json!({"dynamic_metadata": {"metadata_key": {"key": "a", "path": [{"key": "b"}]}}});
    agree(&with(says("g", json!({"hits_addend": {"number": 3}, "x_ratelimit_option": "OFF"}))), None);
    agree(&with(says("g", json!({"limit": metadata}))), Some("'limit' field is not supported"));
    let both = json!({"hits_addend": {"number": 3, "format": "%REQ(a)%"}});
    for hits in [both, json!({"hits_addend": {}})] {
        agree(&with(says("g", hits)), Some("hits_addend must contain either a format or a number"));
    }
    for wrong in
        [json!({"format": "x%REQ(a)%"}), json!({"format": "%NO%"}), json!({"number": 4_000_000_000_u64})]
    {
        agree(&with(says("g", json!({"hits_addend": wrong}))), Some(""));
    }
    let mut of_route = chain("l", limit(2, json!({})), json!([]));
    of_route["route_config"]["virtual_hosts"][0]["rate_limits"] =
        json!([says("g", json!({"limit": metadata}))]);
    agree(&of_route, None);
}
