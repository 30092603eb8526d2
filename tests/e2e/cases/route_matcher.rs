//! Virtual hosts whose routes are found by a matcher: the tree is the same for both proxies.

use crate::harness::{Pairs, agree, proxies, validated};
use serde_json::{Value, json};

fn extension(kind: &str, config: Value) -> Value {
    let mut config = config;
    config["@type"] = format!("type.googleapis.com/{kind}").into();
    json!({"name": "x", "typed_config": config})
}

fn header(name: &str) -> Value {
    extension("envoy.type.matcher.v3.HttpRequestHeaderMatchInput", json!({"header_name": name}))
}

/// A route with a name, which is what it answers.
fn says(name: &str, prefix: &str) -> Value {
    json!({"match": {"prefix": prefix}, "direct_response": {"status": 200, "body": {"inline_string": name}}})
}

/// Leads to a route for all paths.
fn route(name: &str) -> Value {
    to(says(name, "/"))
}

fn to(route: Value) -> Value {
    json!({"action": extension("envoy.config.route.v3.Route", route)})
}

fn list(routes: Value) -> Value {
    json!({"action": extension("envoy.config.route.v3.RouteList", json!({"routes": routes}))})
}

fn nested(matcher: Value) -> Value {
    json!({"matcher": matcher})
}

fn tree(kind: &str, input: &Value, map: Value) -> Value {
    let mut tree = json!({"input": input});
    tree[format!("{kind}_match_map")] = json!({"map": map});
    json!({"matcher_tree": tree})
}

/// As `matcher`, with what is done about what leads nowhere.
fn otherwise(matcher: Value, on_no_match: Value) -> Value {
    let mut matcher = matcher;
    matcher["on_no_match"] = on_no_match;
    matcher
}

fn single(name: &str, value: Value) -> Value {
    json!({"single_predicate": {"input": header(name), "value_match": value}})
}

fn matchers(all: Vec<(Value, Value)>) -> Value {
    let one = |(predicate, on_match)| json!({"predicate": predicate, "on_match": on_match});
    json!({"matcher_list": {"matchers": all.into_iter().map(one).collect::<Vec<_>>()}})
}

fn table(matcher: &Value) -> Value {
    json!({"route_config": {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "matcher": matcher}]}})
}

fn ask(matcher: &Value, paths: &[&str], headers: &[&str]) {
    let mut pairs = Pairs::new(table(matcher));
    for path in paths {
        for header in headers {
            pairs = pairs.get("h", path, header);
        }
    }
    pairs.run();
}

#[test]
fn trees() {
    let routes = list(json!([says("first", "/a"), says("second", "/b"), says("third", "/a/b")]));
    let to_cluster =
        to(json!({"match": {"prefix": "/", "headers": [{"name": "x-b", "present_match": true}]},
        "route": {"cluster": "case1", "prefix_rewrite": "/r"}, "name": "named"}));
    let map = json!({"1": route("one"), "1,2": route("both"), "": route("empty"), "list": routes, "cluster": to_cluster,
        "A": route("upper"), "none": to(says("no", "/nowhere")),
        "nested": nested(tree("exact", &header("x-b"), json!({"1": route("one one")})))});
    let headers = [
        "",
        "x-a:\r\n",
        "x-a: 1\r\n",
        "X-A: 1\r\nx-a: 2\r\n",
        "x-a: 2\r\n",
        "x-a: list\r\n",
        "x-a: cluster\r\n",
        "x-a: cluster\r\nx-b: 1\r\n",
        "x-a: a\r\n",
        "x-a: A\r\n",
        "x-a: none\r\n",
        "x-a: nested\r\n",
        "x-a: nested\r\nx-b: 1\r\n",
    ];
    let exact = tree("exact", &header("X-A"), map);
    ask(&exact, &["/a/b"], &headers);
    ask(&otherwise(exact, route("other")), &["/b", "/c"], &headers);
}

#[test]
fn prefixes() {
    let map = json!({
        "/": route("root"),
        "/a": route("a"),
        "/a/b": nested(tree("exact", &header("x-b"), json!({"1": route("a b")}))),
        "/a/b/c": nested(tree("prefix", &header("x-b"), json!({"1": route("a b c"), "12": list(json!([]))}))),
        "/n": to(says("narrow", "/narrow")),
        "*": route("asterisk"),
    });
    let headers = ["", "x-b: 1\r\n", "x-b: 123\r\n"];
    let paths = ["/", "/a", "/abc", "/a/b", "/a/b/c?x", "/a/b/c/d", "/narrow", "/none", "/b"];
    ask(&tree("prefix", &header(":path"), map), &paths, &headers);
    let some = json!({"x.": route("x"), "h": route("h")});
    ask(&otherwise(tree("prefix", &header(":authority"), some.clone()), route("other")), &["/"], &[""]);
    ask(&tree("prefix", &header("host"), some.clone()), &["/"], &[""]);
    ask(&tree("prefix", &header(":method"), json!({"G": route("get")})), &["/"], &[""]);
    ask(&tree("prefix", &header("x-b"), json!({"": route("any"), "1": nested(json!({}))})), &["/"], &headers);
}

#[test]
fn lists() {
    let exact = |name: &str, value: &str| single(name, json!({"exact": value}));
    let either = json!({"or_matcher": {"predicate": [exact("x-a", "or"), exact("x-b", "or")]}});
    let both =
        json!({"and_matcher": {"predicate": [exact("x-a", "and"), single("x-b", json!({"suffix": "z"}))]}});
    let not = json!({"not_matcher": {"and_matcher": {"predicate": [exact("x-c", ""), {"not_matcher": exact("x-a", "x")}]}}});
    let regex = json!({"safe_regex": {"google_re2": {}, "regex": "r[0-9]+"}});
    let all = matchers(vec![
        (exact("x-a", "here"), route("here")),
        (exact("x-a", "leads nowhere"), nested(tree("exact", &header("x-b"), json!({"z": route("z")})))),
        (exact("x-a", "no route"), to(says("no", "/nowhere"))),
        (either, route("either")),
        (both, list(json!([says("both a", "/a"), says("both b", "/")]))),
        (single("x-a", regex), route("regex")),
        (single("x-a", json!({"contains": "MID", "ignore_case": true})), route("contains")),
        (single("x-a", json!({"prefix": "Pre", "ignore_case": true})), route("prefix")),
        (exact("x-a", "1,2"), route("joined")),
        (not, route("not")),
        (exact("x-c", ""), nested(json!({"on_no_match": route("empty")}))),
    ]);
    let mut headers =
        vec![String::new(), "x-a: 1\r\nx-a: 2\r\n".into(), "x-c:\r\n".into(), "x-c:\r\nx-a: x\r\n".into()];
    for a in ["here", "leads nowhere", "no route", "or", "and", "r12", "r", "amidst", "PREfix", "x"] {
        for b in ["", "x-b: or\r\n", "x-b: az\r\n", "x-b: z\r\n"] {
            headers.push(format!("x-a: {a}\r\nx-c:\r\n{b}"));
        }
    }
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    ask(&all, &["/", "/a"], &headers);
    ask(
        &otherwise(all, nested(json!({"on_no_match": nested(json!({"on_no_match": route("at last")}))}))),
        &["/"],
        &headers,
    );
}

#[test]
fn filters_and_levels() {
    let mut config = table(&tree(
        "exact",
        &header("x-a"),
        json!({"1": to(json!({
        "match": {"prefix": "/"}, "route": {"cluster": "case1", "timeout": "3s"}, "stat_prefix": "counted",
        "request_headers_to_add": [{"header": {"key": "x-level", "value": "route"}}]}))}),
    ));
    let host = &mut config["route_config"]["virtual_hosts"][0];
    host["request_headers_to_add"] = json!([{"header": {"key": "x-level", "value": "host"}}]);
    host["virtual_clusters"] = json!([{"name": "vc", "headers": [{"name": "x-a", "present_match": true}]}]);
    host["require_tls"] = "NONE".into();
    let pairs = Pairs::new(config).statistics(&["vhost."]);
    pairs.get("h", "/", "").get("h", "/", "x-a: 1\r\n").get("h", "/x", "x-a: 1\r\n").run();
}

#[test]
fn what_loads() {
    let input = |kind: &str, config: Value| extension(kind, config);
    let exact = |input: &Value, on_match: Value| table(&tree("exact", input, json!({"a": on_match})));
    let one = route("one");
    agree(&table(&json!({})), None);
    agree(&table(&json!({"on_no_match": one})), None);
    // Nobody looks whether there is such a cluster.
    let unknown = to(json!({"match": {"prefix": "/"}, "route": {"cluster": "unknown"}}));
    agree(&exact(&header("x-a"), unknown), None);
    agree(&exact(&header("x-a"), list(json!([]))), None);
    for (kind, config) in [
        ("network.v3.FilterStateInput", json!({"key": "k"})),
        ("environment_variable.v3.Config", json!({"name": "HOME"})),
    ] {
        let kind = format!("envoy.extensions.matching.common_inputs.{kind}");
        agree(&exact(&input(&kind, config), one.clone()), None);
    }
    let mut both = exact(&header("x-a"), one.clone());
    both["route_config"]["virtual_hosts"][0]["routes"] = json!([says("x", "/")]);
    agree(&both, Some("cannot set both matcher and routes on virtual host"));
    for (kind, config) in [
        ("envoy.type.matcher.v3.HttpRequestQueryParamMatchInput", json!({"query_param": "q"})),
        ("envoy.type.matcher.v3.HttpResponseHeaderMatchInput", json!({"header_name": "q"})),
        ("envoy.extensions.matching.common_inputs.network.v3.SourceIPInput", json!({})),
    ] {
        let refused = "Route table can only match on request headers, saw ";
        agree(&exact(&input(kind, config), one.clone()), Some(refused));
    }
    let mut keeps = one.clone();
    keeps["keep_matching"] = true.into();
    agree(&exact(&header("x-a"), keeps), Some("keep_matching is not supported in this context"));
    for matcher in [
        tree("exact", &header("x-a"), json!({})),
        tree("exact", &header("x-a"), json!({"a": {}})),
        json!({"matcher_tree": {"input": header("x-a")}}),
        json!({"matcher_tree": {"exact_match_map": {"map": {"a": one}}}}),
        json!({"matcher_list": {"matchers": []}}),
        json!({"matcher_list": {"matchers": [{"on_match": one}]}}),
        json!({"matcher_list": {"matchers": [{"predicate": {}, "on_match": one}]}}),
        json!({"matcher_list": {"matchers": [{"predicate": single("a", json!({"exact": "b"}))}]}}),
        matchers(vec![(
            json!({"or_matcher": {"predicate": [single("a", json!({"exact": "b"}))]}}),
            one.clone(),
        )]),
        matchers(vec![(json!({"single_predicate": {"input": header("a")}}), one.clone())]),
        matchers(vec![(single("a", json!({"prefix": ""})), one.clone())]),
        matchers(vec![(single("a", json!({"safe_regex": {"regex": "a"}})), one.clone())]),
        matchers(vec![(single("a", json!({"safe_regex": {"google_re2": {}, "regex": "a("}})), one.clone())]),
        tree("exact", &header("x-a"), json!({"a": to(json!({"match": {"prefix": "/"}}))})),
        tree(
            "exact",
            &header("x-a"),
            json!({"a": {"action": extension("envoy.config.core.v3.Node", json!({}))}}),
        ),
        tree("exact", &extension("envoy.config.core.v3.Node", json!({})), json!({"a": one})),
    ] {
        agree(&table(&matcher), Some(""));
    }
}

/// What Envoy has there and legate has not is named with its place.
#[test]
fn what_is_not_there() {
    let path = "route_config.virtual_hosts[0].matcher.";
    let custom = extension(
        "envoy.extensions.matching.input_matchers.ip.v3.Ip",
        json!({"stat_prefix": "a", "cidr_ranges": []}),
    );
    let trie = extension("xds.type.matcher.v3.IPMatcher", json!({}));
    for (matcher, place, kind) in [
        (
            matchers(vec![(
                json!({"single_predicate": {"input": header("a"), "custom_match": custom}}),
                route("one"),
            )]),
            "matcher_list.matchers[0].predicate.single_predicate.custom_match",
            "input_matchers.ip.v3.Ip",
        ),
        (
            json!({"matcher_tree": {"input": header("a"), "custom_match": trie}}),
            "matcher_tree.custom_match",
            "IPMatcher",
        ),
    ] {
        let (loads, said) = validated(proxies()[0], &table(&matcher));
        assert!(
            !loads && said.contains(&format!("{path}{place}.typed_config")) && said.contains(kind),
            "{said}"
        );
    }
}
