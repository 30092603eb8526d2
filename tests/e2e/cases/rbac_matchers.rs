//! The rbac filter with trees in place of rules, and with rules that are extensions.

use super::http_filters::chain;
use crate::harness::{Pairs, agree};
use serde_json::{Value, json};

const INPUTS: &str = "envoy.extensions.matching.common_inputs.";

fn extension(kind: &str, config: Value) -> Value {
    let mut config = config;
    config["@type"] = format!("type.googleapis.com/{kind}").into();
    json!({"name": "x", "typed_config": config})
}

fn header(name: &str) -> Value {
    extension("envoy.type.matcher.v3.HttpRequestHeaderMatchInput", json!({"header_name": name}))
}

fn network(kind: &str, config: Value) -> Value {
    extension(&format!("{INPUTS}network.v3.{kind}Input"), config)
}

fn action(name: &str, action: &str) -> Value {
    json!({"action": extension("envoy.config.rbac.v3.Action", json!({"name": name, "action": action}))})
}

fn is(input: Value, value: Value) -> Value {
    json!({"single_predicate": {"input": input, "value_match": value}})
}

fn list(all: &[(Value, Value)], otherwise: Value) -> Value {
    let one = |(predicate, on_match): &(Value, Value)| json!({"predicate": predicate, "on_match": on_match});
    let mut matcher = json!({"matcher_list": {"matchers": all.iter().map(one).collect::<Vec<_>>()}});
    if !otherwise.is_null() {
        matcher["on_no_match"] = otherwise;
    }
    matcher
}

fn tree(input: Value, kind: &str, map: Value) -> Value {
    json!({"matcher_tree": {"input": input, kind: {"map": map}}})
}

fn rbac(config: Value) -> Value {
    let routes = json!([
        {"match": {"prefix": "/none"}, "route": {"cluster": "case1"}, "typed_per_filter_config": {"rbac": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute",
            "rbac": {"matcher": {"on_no_match": action("of the route", "DENY")}, "track_per_rule_stats": true}}}},
        {"match": {"prefix": "/"}, "route": {"cluster": "case1"}},
    ]);
    let mut config = config;
    config["@type"] = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC".into();
    let mut chain = chain("rbac", config, routes);
    chain["use_remote_address"] = true.into();
    chain["xff_num_trusted_hops"] = 1.into();
    chain
}

#[test]
fn matchers() {
    const FORMAT: &str = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% \
        %DYNAMIC_METADATA(envoy.filters.http.rbac)% %DYNAMIC_METADATA(envoy.common)%\n";
    let all = json!({"policies": {"all": {"permissions": [{"any": true}], "principals": [{"any": true}]}}});
    let inner = json!({"matcher": list(&[(is(header("x-a"), json!({"exact": "1"})), action("inner", "ALLOW"))], Value::Null)});
    let configs = [
        json!({"matcher": list(
            &[
                (is(header("x-a"), json!({"exact": "1"})), action("one", "LOG")),
                (is(header("x-a"), json!({"prefix": "1,"})), action("two of them", "DENY")),
                (is(network("SourceIP", json!({})), json!({"exact": "1.2.3.4"})), action("client", "ALLOW")),
                (is(network("DirectSourceIP", json!({})), json!({"prefix": "127.0"})), action("peer", "DENY")),
            ],
            Value::Null,
        )}),
        json!({"matcher": list(&[(is(network("DestinationIP", json!({})), json!({"exact": "127.0.0.1"})), action("a", "ALLOW"))], Value::Null)}),
        json!({"matcher": list(
            &[
                (is(network("DestinationPort", json!({})), json!({"safe_regex": {"google_re2": {}, "regex": "[0-9]+"}})), inner.clone()),
                (is(network("SourcePort", json!({})), json!({"contains": "x"})), action("never", "DENY")),
            ],
            action("otherwise", "LOG"),
        ), "rules": all, "shadow_matcher": list(&[(is(header("x-a"), json!({"exact": "1"})), action("shadow", "LOG"))], Value::Null),
           "rules_stat_prefix": "p", "shadow_rules_stat_prefix": "q", "track_per_rule_stats": true}),
        json!({"matcher": list(
            &[
                (is(network("ServerName", json!({})), json!({"exact": ""})), action("name", "ALLOW")),
                (is(network("FilterState", json!({"key": "k"})), json!({"exact": ""})), action("state", "ALLOW")),
                (is(extension(&format!("{INPUTS}ssl.v3.SubjectInput"), json!({})), json!({"exact": ""})), action("subject", "ALLOW")),
                (is(network("DynamicMetadata", json!({"filter": "envoy.filters.http.rbac", "path": [{"key": "shadow_engine_result"}]})),
                    json!({"exact": "denied"})), action("metadata", "ALLOW")),
            ],
            Value::Null,
        ), "shadow_rules": {}, "shadow_matcher": {"on_no_match": action("shadow", "DENY")}}),
        json!({"matcher": tree(network("SourceIP", json!({})), "prefix_match_map",
            json!({"1.": action("short", "ALLOW"), "1.2.3": action("long", "DENY")}))}),
        json!({"matcher": tree(header(":path"), "exact_match_map", json!({"/a": action("a", "ALLOW"), "/b": inner}))}),
        json!({"matcher": tree(extension(&format!("{INPUTS}environment_variable.v3.Config"), json!({"name": "HOME"})),
            "prefix_match_map", json!({"/": action("home", "ALLOW")}))}),
        json!({"matcher": {}, "rules": all}),
    ];
    for config in configs {
        let mut pairs = Pairs::new(rbac(config)).log_format(FORMAT).statistics(&["http.case0.rbac."]);
        for path in ["/", "/a", "/b", "/none"] {
            for lines in ["", "x-a: 1\r\n", "x-a: 1\r\nx-a: 2\r\n"] {
                for client in ["1.2.3.4", "1.9.9.9", "127.0.0.1"] {
                    pairs = pairs.get("h", path, &format!("x-forwarded-for: {client}\r\n{lines}"));
                }
            }
        }
        pairs.run();
    }
}

#[test]
fn templates_of_paths() {
    let template = extension(
        "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
        json!({"path_template": "/a/{x}"}),
    );
    let policy = json!({"permissions": [{"uri_template": template}], "principals": [{"any": true}]});
    let mut pairs = Pairs::new(rbac(json!({"rules": {"policies": {"p": policy}}})));
    for path in ["/a/b", "/a/b?c", "/a/b#c", "/a/b/c", "/a/", "/"] {
        pairs = pairs.get("h", path, "");
    }
    pairs.run();
}

#[test]
fn what_loads() {
    let alone = |config: Value| {
        let mut alone = rbac(config);
        alone["route_config"] = json!({"virtual_hosts": []});
        alone
    };
    let with = |input: Value| {
        alone(
            json!({"matcher": list(&[(is(input, json!({"exact": "1"})), action("a", "ALLOW"))], Value::Null)}),
        )
    };
    for name in ["NetworkNamespace", "SourceIP"] {
        agree(&with(network(name, json!({}))), None);
    }
    agree(&with(extension(&format!("{INPUTS}ssl.v3.DnsSanInput"), json!({}))), None);
    let of_others = [
        network("SourceType", json!({})),
        extension("envoy.type.matcher.v3.HttpRequestQueryParamMatchInput", json!({"query_param": "a"})),
        extension("envoy.type.matcher.v3.HttpResponseHeaderMatchInput", json!({"header_name": "a"})),
        extension("envoy.type.matcher.v3.HttpResponseStatusCodeMatchInput", json!({})),
    ];
    for input in of_others {
        agree(&with(input), Some("RBAC HTTP filter cannot match on "));
    }
    for config in [
        json!({"matcher": {"on_no_match": action("", "ALLOW")}}),
        json!({"matcher": {"on_no_match": {"action": extension("envoy.config.route.v3.Route", json!({}))}}}),
        with(extension("xds.type.matcher.v3.HttpAttributesCelMatchInput", json!({}))),
    ] {
        agree(&alone(config), Some(""));
    }
    let mut keeps = action("a", "ALLOW");
    keeps["keep_matching"] = true.into();
    agree(
        &alone(json!({"matcher": {"on_no_match": keeps}})),
        Some("keep_matching is not supported in this context"),
    );
}
