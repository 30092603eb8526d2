//! Paths, hosts and queries that are made of what is known of a request, and what becomes of trailers on their way.

use super::http_filters::chain;
use crate::harness::{Case, Kind, Pairs, Site, Wire, agree};
use serde_json::{Value, json};

fn manager(routes: Value) -> Value {
    json!({"route_config": {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}]}})
}

fn to(prefix: &str, action: Value) -> Value {
    let mut action = action;
    action["cluster"] = "case1".into();
    json!({"match": {"prefix": prefix}, "route": action})
}

#[test]
fn paths_and_hosts() {
    let config = manager(json!([
        to("/one", json!({"path_rewrite": "/new/%REQ(x-a)%", "append_x_forwarded_host": true})),
        to("/all", json!({"path_rewrite": "%REQ(x-a)%"})),
        to("/of", json!({"path_rewrite": "/was%REQ(x-envoy-original-path?:path)%", "host_rewrite": "%REQ(:authority)%.test"})),
        to("/host", json!({"host_rewrite": "%REQ(x-a)%.com", "append_x_forwarded_host": true})),
        to("/plain", json!({"host_rewrite": "h", "path_rewrite": "/p"})),
        {"match": {"prefix": "/to"}, "redirect": {"path_rewrite": "/z/%REQ(x-a)%", "host_redirect": "other"}},
        {"match": {"prefix": "/back"}, "redirect": {"path_rewrite": "%REQ(x-a)%"}},
        {"match": {"prefix": "/without"}, "redirect": {"path_rewrite": "%REQ(x-a)%", "strip_query": true}},
        to("/", json!({})),
    ]));
    let mut pairs = Pairs::new(config);
    for path in ["/one", "/all", "/of", "/host", "/plain", "/to", "/back", "/without", "/"] {
        for query in ["", "/more?b=c"] {
            for line in ["", "x-a: val\r\n", "x-a: /val\r\n", "x-a: a?q=1\r\n"] {
                pairs = pairs.get("h", &format!("{path}{query}"), line);
            }
        }
    }
    pairs.run();
}

/// What a client has escaped does not end a line of what is made of it. (Envoy answers 503, and ends the lines of responses.)
#[test]
fn line_ends() {
    let made = "%QUERY_PARAM(q)%";
    let header = json!([{"header": {"key": "x-made", "value": made}}]);
    let to = |prefix: &str, mut action: Value| {
        action["cluster"] = "case0".into();
        json!({"match": {"prefix": prefix}, "route": action})
    };
    let mut with_header = to("/header", json!({}));
    with_header["request_headers_to_add"] = header.clone();
    let mut with_answer = to("/answer", json!({}));
    with_answer["response_headers_to_add"] = header;
    let hosts = to("/host", json!({"host_rewrite": format!("{made}.test")}));
    let case = Case::new("line ends").hcm(manager(json!([with_header, with_answer, hosts])));
    let site = Site::start(Kind::Legate, &[&case]);
    for (path, expected) in
        [("/header", "x-made: ax-b: c\r\n"), ("/answer", ""), ("/host", "host: ax-b: c.test\r\n")]
    {
        let mut client = Wire::connect(site.port(0));
        client.send(format!(
            "GET {path}?q=a%0d%0ax-b:%20%00c HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"
        ));
        let answer = String::from_utf8_lossy(&client.rest()).into_owned();
        assert_eq!(answer.contains("\r\nx-made: ax-b: c\r\n"), path == "/answer", "{answer}");
        site.boards[0].look(|seen| {
            assert!(seen.upstream_has(expected.as_bytes()), "{path}");
            assert!(!seen.upstream_has(b"\nx-b") && !answer.contains("\nx-b"), "{path}: {answer}");
        });
    }
}

#[test]
fn what_loads() {
    let one = |action: Value| {
        let mut config = manager(json!([to("/", action)]));
        config["route_config"]["validate_clusters"] = false.into();
        config
    };
    let two = "Specify only one of prefix_rewrite, regex_rewrite or path_rewrite_policy";
    agree(&one(json!({"path_rewrite": "/a", "prefix_rewrite": "/b"})), Some(two));
    agree(&one(json!({"path_rewrite": "/a"})), None);
    for action in [json!({"path_rewrite": "%FOO%"}), json!({"host_rewrite": "%FOO%"})] {
        agree(&one(action), Some("Not supported field in StreamInfo: FOO"));
    }
    let redirect = manager(json!([{"match": {"prefix": "/"}, "redirect": {"path_rewrite": "%FOO%"}}]));
    agree(&redirect, Some("Not supported field in StreamInfo: FOO"));
    let record = |key: &str, value: Value| json!({"append": {"record": {"key": key, "value": value}}});
    for (mutation, refused) in [
        (json!({}), "One of 'append'/'remove' must be specified."),
        (
            json!({"append": record("a", "b".into())["append"], "remove": "x"}),
            "Only one of 'append'/'remove can be specified.",
        ),
        (json!({"append": {}}), "No record specified for append mutation."),
        (record("a", 5.into()), "Only string value is allowed for record value."),
        (record("a", json!(null)), "Only string value is allowed for record value."),
        (record("", "b".into()), ""),
        (record("a", "%FOO%".into()), "Not supported field in StreamInfo: FOO"),
    ] {
        agree(&mutating(json!({"query_parameter_mutations": [mutation]}), json!({})), Some(refused));
    }
    agree(&mutating(json!({"query_parameter_mutations": [record("a", "".into())]}), json!({})), None);
}

/// A header mutation filter, and what a route says to it.
fn mutating(mutations: Value, of_route: Value) -> Value {
    let kind =
        |what: &str| format!("type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.{what}");
    let per_route = json!({"hm": {"@type": kind("HeaderMutationPerRoute"), "mutations": of_route}});
    let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "case1"}, "typed_per_filter_config": per_route}]);
    let mut config = chain("hm", json!({"@type": kind("HeaderMutation"), "mutations": mutations}), routes);
    config["http_protocol_options"] = json!({"enable_trailers": true});
    config["route_config"]["validate_clusters"] = false.into();
    config
}

#[test]
fn queries() {
    let append = |key: &str, value: &str, action: &str| json!({"append": {"record": {"key": key, "value": value}, "action": action}});
    let of_filter = json!([
        append("add", "v 1&=+,%REQ(x-q)%", "APPEND_IF_EXISTS_OR_ADD"),
        append("absent", "%REQ(x-q)%", "ADD_IF_ABSENT"),
        append("over", "%REQ(x-q)%", "OVERWRITE_IF_EXISTS"),
        append("over-or-add", "n", "OVERWRITE_IF_EXISTS_OR_ADD"),
        append("k+y", "%REQ(:path)%", "ADD_IF_ABSENT"),
        {"remove": "gone"},
    ]);
    let of_route = json!([{"remove": "add"}, append("z", "route", "APPEND_IF_EXISTS_OR_ADD"), append("z", "~'\"<>", "APPEND_IF_EXISTS_OR_ADD")]);
    let json = |mutations: &Value| json!({"query_parameter_mutations": mutations});
    for (of_filter, of_route) in [
        (&of_filter, &json!([])),
        (&of_filter, &of_route),
        (&json!([]), &of_route),
        (&json!([{"remove": "gone"}]), &json!([])),
    ] {
        let mut pairs = Pairs::new(mutating(json(of_filter), json(of_route)));
        for path in [
            "/",
            "/?",
            "/?add=1",
            "/?b&a=1&a=2&gone=3&over=1&over=2",
            "/?over-or-add=1&over-or-add=2&x=%41%2b+b%26&%61=2&c=%zz&d=%4",
            "/x?gone",
            "/?=v&&z",
            "/?over&absent",
            "/?e=%C3%A9%23",
        ] {
            pairs = pairs.get("h", path, "").get("h", path, "x-q: v%26q\r\n");
        }
        pairs.run();
    }
}

#[test]
fn trailers() {
    let append = |key: &str, value: &str, action: &str| json!({"append": {"header": {"key": key, "value": value}, "append_action": action}});
    let mutations = |level: &str| {
        json!({
            "request_trailers_mutations": [
                append("x-level", level, "APPEND_IF_EXISTS_OR_ADD"),
                append("x-of", "%REQ(x-ask)% %REQ(x-trailer)%", "APPEND_IF_EXISTS_OR_ADD"),
                append("x-trailer", "changed", "OVERWRITE_IF_EXISTS"),
                {"remove": "x-gone"},
            ],
            "response_trailers_mutations": [
                append("x-level", level, "APPEND_IF_EXISTS_OR_ADD"),
                append("x-of", "%REQ(x-ask)% %RESP(x-answer)% %TRAILER(x-end)%", "APPEND_IF_EXISTS_OR_ADD"),
                {"remove_on_match": {"key_matcher": {"prefix": "x-drop-"}}},
            ],
        })
    };
    let answer = "HTTP/1.1 200 OK\r\nx-answer: yes\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-end: 1\r\nx-drop-a: 2\r\n\r\n";
    let cluster = json!({"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http_protocol_options": {"enable_trailers": true}}}}});
    for of_route in [json!({}), mutations("route")] {
        let mut config = mutating(mutations("filter"), of_route);
        config["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["cluster"] = "case0".into();
        let mut pairs = Pairs::new(config).cluster(cluster.clone()).answer(answer);
        for line in ["", "x-ask: ask\r\n"] {
            let head = format!(
                "POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\ntransfer-encoding: chunked\r\n{line}\r\n"
            );
            pairs = pairs
                .raw(format!("{head}2\r\nhi\r\n0\r\nx-trailer: t\r\nx-gone: g\r\n\r\n"))
                .raw(format!("{head}0\r\n\r\n"))
                .get("h", "/", line);
        }
        pairs.run();
    }
}
