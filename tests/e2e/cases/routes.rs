//! Route tables: which route a request takes, and what becomes of it.

use crate::harness::Pairs;
use serde_json::{Value, json};

fn table(virtual_hosts: Value) -> Value {
    json!({"route_config": {"virtual_hosts": virtual_hosts}})
}

/// One virtual host with these routes.
fn routes(routes: Value) -> Value {
    table(json!([{"name": "v", "domains": ["*"], "routes": routes}]))
}

/// A route with a name, which is what it answers.
fn says(name: &str, route_match: Value) -> Value {
    json!({"match": route_match, "direct_response": {"status": 200, "body": {"inline_string": name}}})
}

#[test]
fn virtual_hosts() {
    let host = |name: &str, domains: Value| json!({"name": name, "domains": domains, "routes": [says(name, json!({"prefix": "/"}))]});
    let hosts = json!([
        host("any", json!(["*"])),
        host("prefix", json!(["api.*"])),
        host("long prefix", json!(["api.foo.*"])),
        host("suffix", json!(["*.com"])),
        host("long suffix", json!(["*.foo.com", "*-x.foo.com"])),
        host("exact", json!(["www.foo.com", "WWW.Bar.com:80", "q*r"])),
    ]);
    let asked = [
        "www.foo.com",
        "WWW.foo.COM",
        "www.bar.com:80",
        "www.bar.com",
        "a.foo.com",
        ".foo.com",
        "a-x.foo.com",
        "api.org",
        "api.foo.org",
        "api.foo.com",
        "api.",
        "other.org",
        "qxr",
        "q*r",
        "www.foo.com:80",
        "b.com:8080",
    ];
    let mut with_ports = table(hosts.clone());
    with_ports["route_config"]["ignore_port_in_host_matching"] = true.into();
    for config in [table(hosts), with_ports] {
        asked.iter().fold(Pairs::new(config), |pairs, host| pairs.get(host, "/", "")).run();
    }
}

#[test]
fn paths() {
    let config = routes(json!([
        says("exact", json!({"path": "/exact"})),
        says("any case", json!({"path": "/NoCase", "case_sensitive": false})),
        says("query", json!({"prefix": "/a?q"})),
        says("regex", json!({"safe_regex": {"regex": "/r/[0-9]+|/r/x"}})),
        says("separated", json!({"path_separated_prefix": "/sep/arated"})),
        says("separated any case", json!({"path_separated_prefix": "/SEP", "case_sensitive": false})),
        says("prefix", json!({"prefix": "/a"})),
        says("prefix any case", json!({"prefix": "/P", "case_sensitive": false})),
        says("regex case", json!({"safe_regex": {"regex": "/RR.*"}, "case_sensitive": false})),
        says("later", json!({"path": "/ab"})),
        says("b", json!({"prefix": "/b/"})),
        says("b longer", json!({"prefix": "/b/c"})),
    ]));
    let asked = [
        "/exact",
        "/exact?x=1",
        "/exact/",
        "/nocase",
        "/NOCASE?a",
        "/a?q=1",
        "/ab",
        "/A",
        "/r/12",
        "/r/12?x",
        "/r/x",
        "/r/xy",
        "/r/",
        "/sep/arated",
        "/sep/arated/",
        "/sep/arated?x",
        "/sep/aratedx",
        "/sep/x",
        "/sepx",
        "/Sep",
        "/pq",
        "/RRx",
        "/rrx",
        "/b/c",
        "/b/",
        "/b",
        "/exact#x",
    ];
    asked.iter().fold(Pairs::new(config), |pairs, path| pairs.get("h", path, "")).run();
}

#[test]
fn headers_and_queries() {
    let header = |name: &str, matcher: Value| {
        let mut matcher = matcher;
        matcher["name"] = name.into();
        json!({"prefix": "/h", "headers": [matcher]})
    };
    let string = |kind: &str, text: &str| json!({"string_match": {kind: text}});
    let query = |matcher: Value| json!({"prefix": "/q", "query_parameters": [matcher]});
    let config = routes(json!([
        says("exact", header("x-e", string("exact", "one"))),
        says("empty", header("x-empty", string("exact", ""))),
        says("prefix", header("x-p", string("prefix", "on"))),
        says("suffix", header("x-s", string("suffix", "ne"))),
        says("contains", header("x-c", string("contains", "b"))),
        says("regex", header("x-r", json!({"string_match": {"safe_regex": {"regex": "[a-c]+"}}}))),
        says("any case", header("x-i", json!({"string_match": {"exact": "ONE", "ignore_case": true}}))),
        says("range", header("x-n", json!({"range_match": {"start": "-5", "end": "10"}}))),
        says("present", header("x-there", json!({"present_match": true}))),
        says("method", header(":method", string("exact", "PUT"))),
        says("authority", header(":authority", string("exact", "special"))),
        says("inverted", header("x-v", json!({"string_match": {"exact": "no"}, "invert_match": true}))),
        says(
            "missing",
            json!({"prefix": "/h", "headers": [
            {"name": "x-m", "string_match": {"exact": ""}, "treat_missing_header_as_empty": true},
            {"name": "x-all", "string_match": {"exact": "1"}}]})
        ),
        says(
            "absent",
            json!({"prefix": "/habsent", "headers": [{"name": "x-there", "present_match": false}]})
        ),
        says("old exact", json!({"prefix": "/old", "headers": [{"name": "x", "exact_match": "e"}]})),
        says(
            "old regex",
            json!({"prefix": "/old", "headers": [{"name": "x", "safe_regex_match": {"regex": "r+"}}]})
        ),
        says("query exact", query(json!({"name": "a", "string_match": {"exact": "1"}}))),
        says("query prefix", query(json!({"name": "b", "string_match": {"prefix": "1"}}))),
        says("query regex", query(json!({"name": "c", "string_match": {"safe_regex": {"regex": "x*"}}}))),
        says("query present", query(json!({"name": "d"}))),
        says(
            "query absent",
            json!({"prefix": "/qabsent", "query_parameters": [{"name": "e", "present_match": false}]})
        ),
        says("cookie", json!({"prefix": "/k", "cookies": [{"name": "c", "string_match": {"exact": "1"}}]})),
        says(
            "no cookie",
            json!({"prefix": "/nk", "cookies": [{"name": "c", "string_match": {"exact": "1"}, "invert_match": true}]})
        ),
        says("grpc", json!({"prefix": "/g", "grpc": {}})),
        says("none", json!({"prefix": "/none", "runtime_fraction": {"default_value": {"numerator": 0}}})),
        says("all", json!({"prefix": "/none", "runtime_fraction": {"default_value": {"numerator": 100}}})),
    ]));
    let mut pairs = Pairs::new(config);
    for lines in [
        "x-e: one\r\n",
        "x-e: ONE\r\n",
        "x-e: two\r\nx-e: one\r\n",
        "x-empty: \r\n",
        "x-empty: a\r\n",
        "x-p: one\r\n",
        "x-p: o\r\n",
        "x-s: one\r\n",
        "x-c: abc\r\n",
        "x-r: abc\r\n",
        "x-r: abcd\r\n",
        "x-i: oNe\r\n",
        "x-n: 9\r\n",
        "x-n: 10\r\n",
        "x-n: -5\r\n",
        "x-n: a\r\nx-n: 3\r\n",
        "x-n: +3\r\n",
        "x-n: 3.0\r\n",
        "x-there:\r\n",
        "x-v: yes\r\n",
        "x-v: no\r\n",
        "x-all: 1\r\n",
        "x-all: 1\r\nx-m: a\r\n",
    ] {
        pairs = pairs.get("h", "/h", lines);
    }
    for path in [
        "/q?a=1",
        "/q?a=2",
        "/q?a=2&a=1",
        "/q?A=1",
        "/q?b=123",
        "/q?c=xx",
        "/q?c=y",
        "/q?c",
        "/q?d",
        "/q?d=",
        "/q?x&d=1",
        "/q?%61=1",
        "/q",
        "/q?",
        "/q?a=1#d",
        "/qabsent",
        "/qabsent?e=1",
        "/habsent",
        "/none",
    ] {
        pairs = pairs.get("h", path, "");
    }
    for cookies in [
        "cookie: c=1\r\n",
        "cookie: b=2; c=1\r\n",
        "cookie: c=\"1\"\r\n",
        "cookie: c=2\r\n",
        "cookie: d=1\r\ncookie: c=1\r\n",
        "",
        "cookie: c=2; c=1\r\n",
        "cookie: c = 1\r\n",
    ] {
        pairs = pairs.get("h", "/k", cookies).get("h", "/nk", cookies);
    }
    for (path, lines) in [
        ("/old", "x: e\r\n"),
        ("/old", "x: rr\r\n"),
        ("/old", "x: f\r\n"),
        ("/g", "content-type: application/grpc+json\r\n"),
        ("/g", "content-type: application/grpc-web\r\n"),
    ] {
        pairs = pairs.get("h", path, lines);
    }
    pairs
        .get("special", "/h", "")
        .raw("PUT /h HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_string())
        .run();
}

#[test]
fn clusters() {
    let to = |prefix: &str, route: Value| json!({"match": {"prefix": prefix}, "route": route});
    let weighted = |more: Value| {
        let mut weighted = json!({"clusters": [
            {"name": "case1", "weight": 30, "request_headers_to_add": [{"header": {"key": "x-w", "value": "one"}}],
             "response_headers_to_remove": ["x-answer"]},
            {"name": "case2", "weight": 70, "host_rewrite_literal": "weighted.host"},
        ]});
        for (key, value) in more.as_object().into_iter().flatten() {
            weighted[key] = value.clone();
        }
        json!({"weighted_clusters": weighted})
    };
    let config = routes(json!([
        to("/one", json!({"cluster": "case1"})),
        to("/named", json!({"cluster_header": "x-cluster"})),
        to("/w", weighted(json!({"header_name": "x-random"}))),
        to(
            "/all",
            json!({"weighted_clusters": {"clusters": [{"name": "case1", "weight": 0}, {"name": "case2", "weight": 3}]}})
        ),
        to("/by", json!({"weighted_clusters": {"clusters": [{"cluster_header": "x-cluster", "weight": 1}]}})),
        to("/nf404", json!({"cluster_header": "x-cluster", "cluster_not_found_response_code": "NOT_FOUND"})),
        to(
            "/nf500",
            json!({"cluster_header": "x-cluster", "cluster_not_found_response_code": "INTERNAL_SERVER_ERROR"})
        ),
    ]));
    let mut pairs =
        Pairs::new(config).answer("HTTP/1.1 200 OK\r\nx-answer: a\r\ncontent-length: 2\r\n\r\nok");
    for (path, lines) in [
        ("/one", ""),
        ("/named", "x-cluster: case1\r\n"),
        ("/named", "x-cluster: case2\r\nx-cluster: case1\r\n"),
        ("/named", ""),
        ("/named", "x-cluster: nope\r\n"),
        ("/w", "x-random: 29\r\n"),
        ("/w", "x-random: 30\r\n"),
        ("/w", "x-random: 129\r\n"),
        ("/all", ""),
        ("/by", "x-cluster: case2\r\n"),
        ("/by", ""),
        ("/nf404", ""),
        ("/nf500", "x-cluster: nope\r\n"),
    ] {
        pairs = pairs.get("h", path, lines);
    }
    pairs.run();
}

#[test]
fn redirects() {
    let to = |prefix: &str, redirect: Value| json!({"match": {"prefix": prefix}, "redirect": redirect});
    let config = table(json!([
        {"name": "tls", "domains": ["tls.test", "tls.test:80"], "require_tls": "ALL", "routes": [says("tls", json!({"prefix": "/"}))]},
        {"name": "v", "domains": ["*"], "routes": [
            to("/host", json!({"host_redirect": "new.host"})),
            to("/hport", json!({"host_redirect": "new.host:81", "port_redirect": 9})),
            to("/port", json!({"port_redirect": 8443})),
            to("/https", json!({"https_redirect": true})),
            to("/scheme", json!({"scheme_redirect": "FTP"})),
            to("/path", json!({"path_redirect": "/new"})),
            to("/qpath", json!({"path_redirect": "/new?q=1"})),
            to("/spath", json!({"path_redirect": "/new", "strip_query": true})),
            to("/strip", json!({"host_redirect": "h2", "strip_query": true})),
            to("/pre", json!({"prefix_rewrite": "/after"})),
            to("/regex", json!({"regex_rewrite": {"pattern": {"regex": "^/regex/(.*)$"}, "substitution": "/\\1/x"}})),
            to("/302", json!({"response_code": "FOUND", "host_redirect": "h2"})),
            to("/303", json!({"response_code": "SEE_OTHER", "host_redirect": "h2"})),
            to("/307", json!({"response_code": "TEMPORARY_REDIRECT", "host_redirect": "h2"})),
            to("/308", json!({"response_code": "PERMANENT_REDIRECT", "host_redirect": "h2"})),
            {"match": {"safe_regex": {"regex": "/rx/.*"}}, "redirect": {"prefix_rewrite": "/all"}},
            {"match": {"path": "/exact"}, "redirect": {"prefix_rewrite": "/new"}},
            {"match": {"prefix": "/d201"}, "direct_response": {"status": 201}},
            {"match": {"prefix": "/d302"}, "direct_response": {"status": 302}},
            {"match": {"prefix": "/with"}, "redirect": {"host_redirect": "h2"},
             "response_headers_to_add": [{"header": {"key": "x-r", "value": "%REQ(:path)%"}}]},
        ]},
    ]));
    let mut pairs = Pairs::new(config);
    for path in [
        "/host",
        "/host?a=b",
        "/hport",
        "/port?x",
        "/https",
        "/https?x=1",
        "/scheme",
        "/path",
        "/path?a=1",
        "/qpath?b=2",
        "/spath?a",
        "/strip?a=1",
        "/pre/x?y",
        "/prex",
        "/regex/a/b?c",
        "/302",
        "/303",
        "/307",
        "/308",
        "/rx/abc?d=1",
        "/exact?e",
        "/d201?x",
        "/d302",
        "/with",
    ] {
        pairs = pairs.get("h", path, "").get("h:80", path, "").get("[::1]:80", path, "");
    }
    pairs
        .get("tls.test", "/x?y", "")
        .get("tls.test:80", "/x", "")
        .get("tls.test", "/x", "x-forwarded-proto: https\r\n")
        .run();
}

#[test]
fn rewrites() {
    let to = |prefix: &str, route: Value| {
        let mut route = route;
        route["cluster"] = "case1".into();
        json!({"match": {"prefix": prefix}, "route": route})
    };
    let regex = |pattern: &str, by: &str| json!({"pattern": {"regex": pattern}, "substitution": by});
    let config = routes(json!([
        to("/pre", json!({"prefix_rewrite": "/new"})),
        to("/slash/", json!({"prefix_rewrite": "/"})),
        {"match": {"path": "/exact"}, "route": {"cluster": "case1", "prefix_rewrite": "/new"}},
        {"match": {"safe_regex": {"regex": "/rx/.*"}}, "route": {"cluster": "case1", "prefix_rewrite": "/all"}},
        {"match": {"path_separated_prefix": "/sep"}, "route": {"cluster": "case1", "prefix_rewrite": "/new"}},
        {"match": {"prefix": "/Case", "case_sensitive": false}, "route": {"cluster": "case1", "prefix_rewrite": "/new"}},
        to("/re/", json!({"regex_rewrite": regex("^/re/([a-z]+)/(.*)$", "/\\2/\\1")})),
        to("/many/", json!({"regex_rewrite": regex("a", "bb")})),
        to("/lit", json!({"host_rewrite_literal": "literal.host"})),
        to("/hdr", json!({"host_rewrite_header": "X-Host"})),
        to("/pathre/", json!({"host_rewrite_path_regex": regex("^/pathre/([^/]+)/.*$", "\\1.test")})),
        to("/auto", json!({"auto_host_rewrite": true})),
        to("/xfh", json!({"host_rewrite_literal": "literal.host", "append_x_forwarded_host": true})),
    ]));
    let mut pairs = Pairs::new(config);
    for (path, lines) in [
        ("/pre", ""),
        ("/prefix?a=1", ""),
        ("/pre/x", ""),
        ("/slash/a/b", ""),
        ("/exact", ""),
        ("/exact?q", ""),
        ("/rx/abc?d", ""),
        ("/sep", ""),
        ("/sep/x?y", ""),
        ("/cASE/x", ""),
        ("/re/abc/def?g", ""),
        ("/re/1/x", ""),
        ("/many/aXa?a", ""),
        ("/lit", ""),
        ("/hdr", "x-host: from.header\r\n"),
        ("/hdr", ""),
        ("/hdr", "x-host: \r\n"),
        ("/pathre/abc/x?y", ""),
        ("/pathre/abc", ""),
        ("/auto", ""),
        ("/xfh", ""),
        ("/xfh", "x-forwarded-host: first\r\n"),
        ("/xfh", "x-forwarded-host: a,old.host\r\n"),
    ] {
        pairs = pairs.get("old.host", path, lines);
    }
    pairs.run();
}

#[test]
fn header_rules() {
    let add = |key: &str, value: &str| json!({"header": {"key": key, "value": value}});
    let action = |key: &str, value: &str, action: &str| json!({"header": {"key": key, "value": value}, "append_action": action});
    let rules = |level: &str| {
        json!({
            "request_headers_to_add": [
                add("x-level", level),
                action("x-last", level, "OVERWRITE_IF_EXISTS_OR_ADD"),
                action("x-first", level, "ADD_IF_ABSENT"),
                action("x-over", level, "OVERWRITE_IF_EXISTS"),
                add("user-agent", level),
                add("x-path", "%REQ(:path)% %REQ(x-none)%"),
                add("x-none-alone", "%REQ(x-none)%"),
                {"header": {"key": "x-kept", "value": "%REQ(x-none)%"}, "keep_empty_value": true},
            ],
            "request_headers_to_remove": [format!("x-{level}"), "x-remove"],
            "response_headers_to_add": [
                add("x-level", level),
                action("x-last", level, "OVERWRITE_IF_EXISTS_OR_ADD"),
                add("x-status", "%RESPONSE_CODE% %PROTOCOL% %REQ(x-ask)% %RESP(x-answer)%"),
                add("server", level),
            ],
            "response_headers_to_remove": ["x-secret", format!("x-{level}")],
        })
    };
    let with = |base: Value, rules: Value| {
        let mut base = base;
        for (key, value) in rules.as_object().into_iter().flatten() {
            base[key] = value.clone();
        }
        base
    };
    for most_specific in [false, true] {
        let route = |prefix: &str, action: Value| {
            with(with(json!({"match": {"prefix": prefix}}), action), rules("route"))
        };
        let host = with(
            json!({"name": "v", "domains": ["*"], "include_request_attempt_count": true,
                "include_attempt_count_in_response": true, "routes": [
                route("/direct", json!({"direct_response": {"status": 200, "body": {"inline_string": "d"}}})),
                route("/refused", json!({"route": {"cluster": "refused"}})),
                route("/nohosts", json!({"route": {"cluster": "nohosts"}})),
                route("/none", json!({"route": {"cluster_header": "x-c"}})),
                route("/", json!({"route": {"cluster": "case1"}})),
            ]}),
            rules("host"),
        );
        let mut config = with(json!({"virtual_hosts": [host]}), rules("table"));
        config["most_specific_header_mutations_wins"] = most_specific.into();
        let answer = "HTTP/1.1 200 OK\r\nx-secret: s\r\nx-answer: yes\r\nx-last: up\r\nx-host: h\r\ncontent-length: 2\r\n\r\nok";
        let mut pairs = Pairs::new(json!({"route_config": config})).answer(answer);
        for (path, lines) in [
            ("/a", ""),
            (
                "/a",
                "x-level: own\r\nx-last: own\r\nx-first: own\r\nx-over: own\r\nuser-agent: own\r\nx-remove: r\r\nx-ask: ask\r\n",
            ),
            ("/direct", "x-ask: ask\r\n"),
            ("/refused", "x-ask: ask\r\n"),
            ("/nohosts", ""),
            ("/none", ""),
        ] {
            pairs = pairs.get("h", path, lines);
        }
        pairs.run();
    }
}

#[test]
fn mirrors() {
    let to = |prefix: &str, mirror: Value| {
        json!({"match": {"prefix": prefix}, "route": {"cluster": "case1", "request_mirror_policies": [mirror]},
            "request_headers_to_add": [{"header": {"key": "x-rule", "value": "r"}}]})
    };
    let share = |numerator: u32| json!({"default_value": {"numerator": numerator}});
    let config = routes(json!([
        to("/all", json!({"cluster": "case2"})),
        to("/none", json!({"cluster": "case2", "runtime_fraction": share(0)})),
        to("/share", json!({"cluster": "case2", "runtime_fraction": share(100)})),
        to("/named", json!({"cluster_header": "x-cluster"})),
        to("/plain", json!({"cluster": "case2", "disable_shadow_host_suffix_append": true})),
        to("/host", json!({"cluster": "case2", "host_rewrite_literal": "mirror.host"})),
        to("/refused", json!({"cluster": "refused"})),
    ]));
    let mut pairs = Pairs::new(config).with_copies();
    for (host, path, lines) in [
        ("h", "/all", ""),
        ("h:80", "/all?x", ""),
        ("h", "/none", ""),
        ("h", "/share", ""),
        ("h", "/named", ""),
        ("h", "/named", "x-cluster: case2\r\n"),
        ("h", "/named", "x-cluster: none\r\n"),
        ("h", "/plain", ""),
        ("h", "/host", ""),
        ("h", "/refused", ""),
        ("h", "/all", "x-forwarded-for: 1.2.3.4\r\n"),
    ] {
        pairs = pairs.get(host, path, lines);
    }
    pairs
        .raw("POST /all HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello".into())
        .raw("POST /all HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n".into())
        .run();
    // Nothing is added for the copy that the request does not have.
    let mut quiet = routes(json!([to("/all", json!({"cluster": "case2"}))]));
    quiet["http_filters"] = json!([{"name": "router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router", "suppress_envoy_headers": true}}]);
    Pairs::new(quiet).with_copies().get("h", "/all", "").run();
}

#[test]
fn durations_of_streams() {
    let grpc = "content-type: application/grpc\r\n";
    let route = |path: &str, more: Value| {
        let mut route = json!({"cluster": "case1"});
        more.as_object().expect("an object").iter().for_each(|(name, value)| route[name] = value.clone());
        json!({"match": {"prefix": path}, "route": route})
    };
    let mut config = routes(json!([
        route("/d", json!({"max_stream_duration": {"max_stream_duration": "9s"}})),
        route("/zero", json!({"max_stream_duration": {"max_stream_duration": "0s"}})),
        route("/none", json!({"max_stream_duration": {}, "timeout": "3s"})),
        route(
            "/max",
            json!({"max_stream_duration": {"max_stream_duration": "9s", "grpc_timeout_header_max": "7s"}})
        ),
        route(
            "/any",
            json!({"max_stream_duration": {"grpc_timeout_header_max": "0s", "grpc_timeout_header_offset": "1s"}})
        ),
        route("/old", json!({"max_grpc_timeout": "7s", "grpc_timeout_offset": "1s"})),
        route("/older", json!({"max_grpc_timeout": "0s"})),
        route(
            "/both",
            json!({"max_grpc_timeout": "5s", "max_stream_duration": {"grpc_timeout_header_max": "7s"}})
        ),
    ]));
    for limit in [None, Some("8s")] {
        if let Some(limit) = limit {
            config["common_http_protocol_options"] = json!({"max_stream_duration": limit});
        }
        let mut pairs = Pairs::new(config.clone());
        for path in ["/d", "/zero", "/none", "/max", "/any", "/old", "/older", "/both"] {
            for timeout in ["", "5S", "500m", "20S", "0S", "bad", "7000001u", "1n"] {
                // What is shorter than an answer takes is for others to compare.
                let told =
                    matches!(timeout, "1n" | "0S" | "500m") && matches!(path, "/max" | "/any" | "/both");
                let line = match timeout {
                    "" => String::new(),
                    _ if told => continue,
                    timeout => format!("grpc-timeout: {timeout}\r\n"),
                };
                let short = timeout == "1n" && path.starts_with("/old");
                if !short {
                    pairs = pairs.get("h", path, &format!("{grpc}{line}"));
                }
                pairs = pairs.get("h", path, &line);
            }
        }
        pairs.run();
    }
    let slow = routes(json!([
        route("/d", json!({"max_stream_duration": {"max_stream_duration": "0.1s"}})),
        route("/g", json!({"max_stream_duration": {"grpc_timeout_header_max": "0.1s"}})),
    ]));
    Pairs::new(slow)
        .answer("HTTP/1.1 200")
        .get("h", "/d", "")
        .get("h", "/d", grpc)
        .get("h", "/g", &format!("{grpc}grpc-timeout: 1S\r\n"))
        .statistics(&["http.case0.downstream_rq_max"])
        .run();
}

#[test]
fn requests_are_counted_by_themselves() {
    let route = |path: &str, more: Value| {
        let mut route = json!({"match": {"prefix": path}, "route": {"cluster": "case0"}});
        more.as_object().expect("an object").iter().for_each(|(name, value)| route[name] = value.clone());
        route
    };
    let to = |cluster: &str, more: Value| {
        let mut route = json!({"cluster": cluster});
        more.as_object().expect("an object").iter().for_each(|(name, value)| route[name] = value.clone());
        json!({"route": route})
    };
    let mut slow = to("case0", json!({"timeout": "0.1s"}));
    slow["stat_prefix"] = "slow".into();
    let retried = to("refused", json!({"retry_policy": {"retry_on": "connect-failure", "num_retries": 2}}));
    let list = json!([
        route("/slow", slow),
        route("/prefixed", json!({"stat_prefix": "a.b"})),
        route("/retried", retried),
        route("/nohosts", to("nohosts", json!({}))),
        route("/full", to("full", json!({}))),
        route("/nowhere", to("nowhere", json!({}))),
        {"match": {"prefix": "/direct"}, "direct_response": {"status": 200}, "stat_prefix": "direct"},
        route("/", json!({})),
    ]);
    let header = |name: &str, kind: &str, text: &str| json!({"name": name, "string_match": {kind: text}});
    let clusters = json!([
        {"name": "posts", "headers": [header(":method", "exact", "POST")]},
        {"name": "prefixed", "headers": [header(":path", "prefix", "/prefixed")]},
        {"name": "slow", "headers": [header(":path", "contains", "slow"), header("x", "exact", "1")]},
        {"name": "unused", "headers": [header("x-unused", "exact", "1")]},
        {"name": "retried", "headers": [header(":path", "prefix", "/retried")]},
    ]);
    let config = json!({"route_config": {"validate_clusters": false, "virtual_hosts": [
        {"name": "v", "domains": ["h"], "routes": list, "virtual_clusters": clusters},
        {"name": "w", "domains": ["*"], "routes": list},
    ]}});
    for answer in
        ["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"]
    {
        let mut pairs = Pairs::new(config.clone()).answer(answer).statistics(&["vhost."]);
        for host in ["h", "other"] {
            for path in ["/a", "/prefixed", "/retried", "/nohosts", "/full", "/nowhere", "/direct", "/none"] {
                pairs = pairs.get(host, path, "").raw(format!(
                    "POST {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                ));
            }
        }
        pairs.run();
    }
    Pairs::new(config)
        .answer("HTTP/1.1 200")
        .get("h", "/slow", "x: 1\r\n")
        .get("h", "/slow", "")
        .statistics(&["vhost."])
        .run();
}

/// An extension of the configuration.
fn extension(kind: &str, config: Value) -> Value {
    let mut config = config;
    config["@type"] = format!("type.googleapis.com/envoy.extensions.{kind}").into();
    json!({"name": "x", "typed_config": config})
}

#[test]
fn templates_of_paths() {
    let matches = |template: &str| json!({"path_match_policy": extension("path.match.uri_template.v3.UriTemplateMatchConfig", json!({"path_template": template}))});
    let to = |template: &str, rewrite: &str| {
        json!({"match": matches(template), "route": {"cluster": "case1",
            "path_rewrite_policy": extension("path.rewrite.uri_template.v3.UriTemplateRewriteConfig", json!({"path_template_rewrite": rewrite}))}})
    };
    let config = routes(json!([
        to("/v/{country}/{lang=*}/x", "/{lang}-{country}"),
        to("/w/{a}/{rest=**}", "/{rest}/{a}"),
        to("/api/{seg=cat/*/toy}/{b}", "/{b}/{seg}"),
        to("/v2/**", "/all"),
        to("/{file}.m3u8", "/list/{file}"),
        to("/q/{a=**}/end", "/{a}"),
        says("literal", matches("/only/$this(.)+a=b,c;d:e@")),
        says("slash", matches("/dir/")),
        says("star", matches("/star/*/b")),
        says("root", matches("/")),
    ]));
    let asked = [
        "/v/us/en/x",
        "/v/us/en/x?a=b",
        "/v/us/en/x/",
        "/v//en/x",
        "/v/u/e/n/x",
        "/v/%2f/en/x",
        "/w/1/2/3",
        "/w/1/",
        "/w/1",
        "/w/a/b?c/d",
        "/api/cat/7/toy/z",
        "/api/cat/7/8/toy/z",
        "/v2/",
        "/v2",
        "/v2/a/b",
        "/a.m3u8",
        "/a/b.m3u8",
        "/am3u8",
        "/q/1/2/end",
        "/q//end",
        "/q/end",
        "/only/$this(.)+a=b,c;d:e@",
        "/only/$thisx",
        "/dir/",
        "/dir",
        "/star/a/b",
        "/star//b",
        "/star/*/b",
        "/",
        "/?x",
        "/V/us/en/x",
        "/v/us/en/x#f",
        "/w/a{b/c",
    ];
    asked.iter().fold(Pairs::new(config), |pairs, path| pairs.get("h", path, "")).run();
}

#[test]
fn what_tables_say_of_their_routes() {
    let mutation = |key: &str, value: &str| json!({"append": {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}});
    let mirror = |cluster: &str, more: Value| {
        let mut mirror = json!({"cluster": cluster});
        more.as_object().expect("an object").iter().for_each(|(name, value)| mirror[name] = value.clone());
        mirror
    };
    let changed = json!({"request_headers_mutations": [mutation("x-m", "%REQ(:path)%|%REQ(:authority)%"), {"remove": "x-gone"}]});
    let mut hosted = changed.clone();
    hosted["host_rewrite_literal"] = "elsewhere".into();
    let to = |path: &str, mirrors: Value| {
        json!({"match": {"prefix": path}, "route": {"cluster": "case1", "request_mirror_policies": mirrors,
        "rate_limits": [{"stage": 1, "actions": [{"request_headers": {"header_name": "a", "descriptor_key": "b"}}, {"remote_address": {}}, {"generic_key": {"descriptor_value": "g"}}]}],
        "include_vh_rate_limits": false, "metadata_match": {"filter_metadata": {"envoy.lb": {"a": "b"}}}, "flush_timeout": "1s"},
        "metadata": {"filter_metadata": {"f": {"k": [1, "v"]}}}})
    };
    let list =
        json!([to("/own", json!([mirror("case0", changed), mirror("case2", hosted)])), to("/", json!([]))]);
    let host = |name: &str, more: Value| {
        let mut host = json!({"name": name, "domains": [name], "routes": list});
        more.as_object().expect("an object").iter().for_each(|(name, value)| host[name] = value.clone());
        host
    };
    let config = json!({"route_config": {
    "request_mirror_policies": [mirror("case2", json!({"disable_shadow_host_suffix_append": true}))],
    "internal_only_headers": ["X-Internal", "x-other"],
    "metadata": {"filter_metadata": {"t": {}}},
    "virtual_hosts": [
        host("v", json!({"request_mirror_policies": [mirror("case2", json!({}))], "metadata": {"filter_metadata": {"h": {"x": true}}},
            "rate_limits": [{"actions": [{"destination_cluster": {}}]}]})),
        host("w", json!({})),
    ]}});
    let internal = json!({"internal_address_config": {"cidr_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}});
    for more in [json!({}), internal] {
        let mut config = config.clone();
        more.as_object().expect("an object").iter().for_each(|(name, value)| config[name] = value.clone());
        let mut pairs = Pairs::new(config).with_copies();
        for path in ["/own", "/other"] {
            for host in ["v", "w"] {
                pairs = pairs.get(host, path, "x-gone: 1\r\nx-m: 1\r\n").get(
                    host,
                    path,
                    "x-internal: 1\r\nx-other: 2\r\nx-forwarded-for: 10.0.0.1\r\n",
                );
            }
        }
        pairs.run();
    }
}

#[test]
fn other_ways_to_find_a_route() {
    let host = |name: &str, domains: Value, routes: Value| json!({"name": name, "domains": domains, "routes": routes});
    let any = |text: &str| json!([says(text, json!({"prefix": "/"}))]);
    let named = json!({"route_config": {"vhost_header": "X-Vhost", "virtual_hosts": [
        host("a", json!(["a.com"]), any("a")), host("b", json!(["*.b.com"]), any("b")), host("c", json!(["*"]), any("c"))]}});
    let mut with_ports = named.clone();
    with_ports["route_config"]["ignore_port_in_host_matching"] = true.into();
    let mut unnamed = named.clone();
    unnamed["route_config"]["virtual_hosts"].as_array_mut().expect("a list").pop();
    for config in [named, with_ports, unnamed] {
        let mut pairs = Pairs::new(config);
        for value in ["", "a.com", "A.com", "x.b.com", "a.com:80", "other"] {
            pairs = pairs.get("a.com", "/", &format!("x-vhost: {value}\r\n"));
        }
        pairs.get("a.com", "/", "").get("x", "/", "x-vhost: a.com\r\nx-vhost: x.b.com\r\n").run();
    }
    let parameters = json!([
        says("exact", json!({"path": "/exact"})),
        says("with", json!({"path": "/with;x"})),
        says("prefix", json!({"prefix": "/pre;fix"})),
        says("prefix of", json!({"prefix": "/pre"})),
        says("regex", json!({"safe_regex": {"regex": "/r/[a-z]+"}})),
        says("separated", json!({"path_separated_prefix": "/sep"})),
        {"match": {"prefix": "/up"}, "route": {"cluster": "case1", "prefix_rewrite": "/down"}},
        {"match": {"path": "/whole"}, "route": {"cluster": "case1", "prefix_rewrite": "/down"}},
        says("8", json!({"path": "/8"})), says("9", json!({"path": "/9"})), says("10", json!({"prefix": "/10"})),
    ]);
    for count in [8, 11] {
        let few: Vec<Value> = parameters.as_array().expect("a list")[..count].to_vec();
        let mut config = routes(json!(few));
        config["route_config"]["ignore_path_parameters_in_path_matching"] = true.into();
        let mut pairs = Pairs::new(config);
        for path in [
            "/exact",
            "/exact;a",
            "/exact;a?q",
            "/exact?q;a",
            "/with;x",
            "/with",
            "/pre;fix",
            "/pre;other",
            "/r/ab;1",
            "/r/ab1",
            "/sep;x",
            "/sep/a;b",
            "/sepa;",
            "/up;a/b?c",
            "/whole;a?b",
            "/;",
            ";/",
            "/8;",
            "/10;1",
        ] {
            pairs = pairs.get("h", path, "");
        }
        pairs.run();
    }
    let tls =
        |presented: Value| says(&presented.to_string(), json!({"prefix": "/", "tls_context": presented}));
    for presented in [
        json!({}),
        json!({"presented": false}),
        json!({"presented": true}),
        json!({"validated": false}),
        json!({"validated": true, "presented": false}),
    ] {
        Pairs::new(routes(json!([tls(presented), says("other", json!({"prefix": "/"}))])))
            .get("h", "/", "")
            .run();
    }
}

#[test]
fn requests_that_belong_together() {
    let header = |name: &str| json!({"header": {"header_name": name}});
    let of = |policies: Value| {
        let clusters = json!([{"name": "case1", "weight": 1}, {"name": "case2", "weight": 2}, {"name": "case0", "weight": 3}]);
        routes(json!([{"match": {"prefix": "/"}, "route": {"hash_policy": policies,
            "weighted_clusters": {"clusters": clusters, "use_hash_policy": true}}}]))
    };
    for policies in [
        json!([header("x-a"), {"header": {"header_name": "x-b", "regex_rewrite": {"pattern": {"regex": "[0-9]+"}, "substitution": "n"}}}]),
        json!([{"header": {"header_name": "x-a"}, "terminal": true}, header("x-b"), {"query_parameter": {"name": "q"}}]),
        json!([{"cookie": {"name": "c", "ttl": "5s"}}, {"connection_properties": {"source_ip": true}}]),
        json!([{"query_parameter": {"name": "q"}}, {"filter_state": {"key": "none"}}, {"connection_properties": {"source_ip": true}}]),
    ] {
        let mut pairs = Pairs::new(of(policies));
        for i in 0..12 {
            let lines = [
                format!("x-a: {i}\r\n"),
                format!("x-a: {i}\r\nx-b: {}\r\nx-a: z\r\n", i * 3),
                format!("x-a: \r\ncookie: b=1; c=\"v{i}\"; d=2\r\nx-forwarded-for: 1.2.3.{i}\r\n"),
                format!("x-a: 1\r\nx-b: a{i}\r\nx-forwarded-for: ::{i}\r\ncookie: c=\r\n"),
            ];
            pairs = lines.iter().fold(pairs, |pairs, line| pairs.get("h", &format!("/?q={i}&q=2"), line));
        }
        // A client that is known by nothing goes anywhere.
        pairs.run();
    }
}

#[test]
fn what_can_be_told_of_a_request() {
    let operators = [
        "%ENVIRONMENT(NO_SUCH_NAME)%",
        "%ENVIRONMENT(HOME)%",
        "%ENVIRONMENT(HOME):2%",
        "%PATH%",
        "%PATH(WQ)%",
        "%PATH(NQ)%",
        "%PATH(WQ:ORIG)%",
        "%PATH(NQ:PATH)%",
        "%PATH(NQ:ORIG_OR_PATH):5%",
        "%QUERY_PARAM(a)%",
        "%QUERY_PARAM(b):2%",
        "%QUERY_PARAMS%",
        "%QUERY_PARAMS(DECODED)%",
        "%QUERY_PARAMS(ORIG):3%",
        "%TRACE_ID%",
        "%SPAN_ID%",
        "%UPSTREAM_PROTOCOL%",
        "%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "%UPSTREAM_HOST_NAME_WITHOUT_PORT%",
        "%DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT%",
        "%BYTES_RETRANSMITTED%",
        "%GRPC_STATUS%",
        "%GRPC_STATUS(SNAKE_STRING)%",
        "%GRPC_STATUS(NUMBER)%",
        "%GRPC_STATUS_NUMBER%",
        "%REQUEST_HEADERS_BYTES%",
        "%RESPONSE_TRAILERS_BYTES%",
        "%METADATA(ROUTE:f)%",
        "%METADATA(ROUTE:f:k)%",
        "%METADATA(ROUTE:f:m:n):3%",
        "%METADATA(VIRTUAL_HOST:f:s)%",
        "%METADATA(VIRTUAL_HOST:f:none)%",
        "%METADATA(DYNAMIC:f)%",
        "%METADATA(ROUTE)%",
        "%UPSTREAM_FILTER_STATE(x)%",
        "%REQUESTED_SERVER_NAME(SNI_FIRST)%",
        "%REQUESTED_SERVER_NAME(HOST_FIRST:ORIG)%",
        "%REQUESTED_SERVER_NAME(SNI_ONLY:HOST)%",
        "%COMMON_DURATION(DS_RX_BEG:no_such:us)%",
        "%DOWNSTREAM_TLS_VERSION%",
        "%UPSTREAM_PEER_SUBJECT%",
        "%ROUNDTRIP_DURATION%",
        "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
    ];
    let format = operators.join(" | ") + "\n";
    let json_format: serde_json::Map<String, Value> =
        operators.iter().map(|operator| (operator.replace('%', ""), (*operator).into())).collect();
    let route = |path: &str, cluster: &str| {
        json!({"match": {"prefix": path}, "route": {"cluster": cluster, "prefix_rewrite": "/new/longer", "host_rewrite_literal": "other"},
        "metadata": {"filter_metadata": {"f": {"k": "value", "m": {"n": [1, 2]}}}}})
    };
    let table = json!({"virtual_hosts": [{"name": "v", "domains": ["*"], "metadata": {"filter_metadata": {"f": {"s": 1.5, "none": null}}},
        "routes": [route("/up", "case1"), route("/refused", "refused"), route("/nohosts", "nohosts"), says("direct", json!({"prefix": "/direct"}))]}]});
    let ask = |pairs: Pairs| {
        [
            "/up",
            "/up?a=1&b=%41bc&a=2",
            "/up/x?a",
            "/up?c=%zz%4",
            "/up?a=%4z%z4%%41+b%",
            "/refused?b=1",
            "/nohosts",
            "/direct?a=%2F",
        ]
        .iter()
        .fold(pairs, |pairs, path| {
            pairs.get("h", path, "x-forwarded-for: 1.1.1.1\r\n").get(
                "h:80",
                path,
                "content-type: application/grpc\r\n",
            )
        })
    };
    let config = json!({"route_config": table, "generate_request_id": false});
    ask(Pairs::new(config.clone()).log_format(&format)).run();
    let bare = [
        "%REQ_WITHOUT_QUERY(:path)%",
        "%REQ_WITHOUT_QUERY(x-none?:PATH):4%",
        "%REQ_WITHOUT_QUERY(x-none)%",
        "%REQ_WITHOUT_QUERY(x?y)%",
    ];
    let mut replies = config.clone();
    replies["local_reply_config"] = json!({"body_format": {"formatters": [extension("formatter.req_without_query.v3.ReqWithoutQuery", json!({}))],
        "text_format_source": {"inline_string": bare.join("|")}}});
    ask(Pairs::new(replies)).get("h", "/direct?a", "x: 1?2\r\n").run();
    for status in ["0", "1", "4", "16", "17", "x", "-1"] {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\ngrpc-status: {status}\r\n\r\n");
        Pairs::new(config.clone())
            .log_format(&format)
            .answer(&answer)
            .get("h", "/up", "content-type: application/grpc\r\n")
            .run();
    }
    let mut local = config;
    local["local_reply_config"] = json!({"body_format": {"json_format": json_format}});
    ask(Pairs::new(local)).run();
}

#[test]
fn direct_bodies_that_are_put() {
    let direct = |path: &str, body: &str, format: Value| {
        json!({"match": {"prefix": path}, "direct_response": {"status": 202,
        "body": {"inline_string": body}, "body_format": format}, "response_headers_to_add": [{"header": {"key": "x-a", "value": "%REQ(:path)%"}}]})
    };
    let text = json!({"text_format_source": {"inline_string": "<%LOCAL_REPLY_BODY%|%REQ(:path)%|%RESPONSE_CODE%|%ROUTE_NAME%|%RESP(x-a)%>"}});
    let mut typed = text.clone();
    typed["content_type"] = "text/html".into();
    let json_format = json!({"json_format": {"path": "%REQ(:path)%", "body": "%LOCAL_REPLY_BODY%", "n": "%BYTES_RECEIVED%"}});
    let mut json_typed = json_format.clone();
    json_typed["content_type"] = "application/x".into();
    let config = routes(json!([
        direct("/text", "body", text.clone()),
        direct("/typed", "body", typed),
        direct("/json", "body", json_format),
        direct("/jtyped", "", json_typed),
        direct("/none", "", text),
        direct("/empty", "body", json!({"text_format_source": {"inline_string": ""}})),
    ]));
    let mut replied = config.clone();
    replied["local_reply_config"] =
        json!({"body_format": {"text_format_source": {"inline_string": "all: %LOCAL_REPLY_BODY%"}}});
    for config in [config, replied] {
        let mut pairs = Pairs::new(config);
        for path in ["/text", "/typed?a", "/json", "/jtyped", "/none", "/empty"] {
            pairs = pairs
                .get("h", path, "")
                .get("h", path, "content-type: application/grpc\r\n")
                .raw(format!("HEAD {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"));
        }
        pairs.run();
    }
}

/// The runtime may have other weights.
#[test]
fn weights_of_the_runtime() {
    let routes = |prefix: &str| {
        let clusters = json!([{"name": "case0", "weight": 100}, {"name": "case1", "weight": 1}, {"name": "case2", "weight": 1}]);
        json!([{"match": {"prefix": "/"}, "route": {"weighted_clusters":
            {"clusters": clusters, "runtime_key_prefix": prefix, "header_name": "x-number"}}}])
    };
    let layer = json!({"w.case0": 0, "w.case2": 3, "v.case1": 5});
    let runtime = json!({"layered_runtime": {"layers": [{"name": "l", "static_layer": layer}]}});
    for prefix in ["w", "v", "u", ""] {
        let hcm = json!({"route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes(prefix)}]}});
        let mut pairs = Pairs::new(hcm).bootstrap(runtime.clone());
        for number in [0, 1, 3, 4, 7, 99, 100, 101, 102, 104, 105, 106, 107] {
            pairs = pairs.get("a", "/", &format!("x-number: {number}\r\n"));
        }
        pairs.run();
    }
}
