//! The rbac filter, held against Envoy request by request.

use super::http_filters::chain;
use crate::harness::Pairs;
use serde_json::{Value, json};

fn rbac(over: Value) -> Value {
    let mut rbac = over;
    rbac["@type"] = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC".into();
    rbac
}

fn per_route(rbac: Value) -> Value {
    json!({"rbac": {"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute", "rbac": rbac}})
}

fn to(prefix: &str, of_route: Value) -> Value {
    json!({"match": {"prefix": prefix}, "route": {"cluster": "case1"}, "typed_per_filter_config": of_route})
}

fn policy(permission: Value, principal: Value) -> Value {
    json!({"permissions": [permission], "principals": [principal]})
}

fn header(name: &str, value: &str) -> Value {
    json!({"header": {"name": name, "string_match": {"exact": value}}})
}

const FORMAT: &str = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% \
    %DYNAMIC_METADATA(envoy.filters.http.rbac)% %DYNAMIC_METADATA(envoy.common)%\n";

#[test]
fn permissions_and_principals() {
    let any = json!({"any": true});
    let cidr = |address: &str, length: u32| json!({"address_prefix": address, "prefix_len": length});
    let path = |matcher: Value| json!({"url_path": {"path": matcher}});
    let permissions = [
        any.clone(),
        header("x-a", "1"),
        path(json!({"exact": "/p/1"})),
        path(json!({"prefix": "/p/2"})),
        path(json!({"safe_regex": {"regex": "/p/3.*"}})),
        json!({"not_rule": header("x-a", "1")}),
        json!({"and_rules": {"rules": [header("x-a", "1"), header("x-b", "2")]}}),
        json!({"or_rules": {"rules": [header("x-a", "1"), header("x-b", "2")]}}),
        json!({"destination_ip": cidr("127.0.0.0", 8)}),
        json!({"destination_ip": cidr("10.0.0.0", 8)}),
        json!({"destination_port": 1}),
        json!({"destination_port_range": {"start": 1024, "end": 65536}}),
        json!({"destination_port_range": {"start": 1, "end": 1024}}),
        json!({"requested_server_name": {"exact": "a.com"}}),
        json!({"requested_server_name": {"prefix": "a"}}),
        json!({"header": {"name": "x-b", "present_match": true}}),
        json!({"header": {"name": "x-b", "present_match": true, "invert_match": true}}),
        json!({"header": {"name": "x-c", "range_match": {"start": 1, "end": 5}}}),
    ];
    let principals = [
        header("x-a", "1"),
        path(json!({"exact": "/q/1"})),
        json!({"not_id": header("x-a", "1")}),
        json!({"and_ids": {"ids": [header("x-a", "1"), header("x-b", "2")]}}),
        json!({"or_ids": {"ids": [header("x-a", "1"), header("x-b", "2")]}}),
        json!({"authenticated": {}}),
        json!({"authenticated": {"principal_name": {"exact": "a"}}}),
        json!({"not_id": {"authenticated": {}}}),
        json!({"source_ip": cidr("127.0.0.1", 32)}),
        json!({"direct_remote_ip": cidr("127.0.0.1", 32)}),
        json!({"direct_remote_ip": cidr("1.2.3.0", 24)}),
        json!({"remote_ip": cidr("1.2.3.0", 24)}),
        json!({"remote_ip": cidr("127.0.0.0", 8)}),
    ];
    let rules = |permission: &Value, principal: &Value| json!({"rules": {"policies": {"p": policy(permission.clone(), principal.clone())}}});
    let by = |letter: &str, i: usize, of: Value| to(&format!("/{letter}/{i}-"), per_route(of));
    let mut routes: Vec<Value> =
        permissions.iter().enumerate().map(|(i, permission)| by("a", i, rules(permission, &any))).collect();
    routes.extend(principals.iter().enumerate().map(|(i, principal)| by("b", i, rules(&any, principal))));
    for (i, permission) in permissions[2..5].iter().enumerate() {
        routes.push(to(&format!("/p/{}", i + 1), per_route(rules(permission, &any))));
    }
    routes.push(to("/q/1", per_route(rules(&any, &principals[1]))));
    let mut config = chain("rbac", rbac(json!({})), Value::Array(routes));
    config["use_remote_address"] = true.into();
    config["xff_num_trusted_hops"] = 1.into();
    let mut pairs = Pairs::new(config).log_format(FORMAT).statistics(&["http.case0.rbac."]);
    let lines = [
        "",
        "x-a: 1\r\n",
        "x-b: 2\r\nx-c: 3\r\n",
        "x-a: 1\r\nx-b: 2\r\n",
        "x-a: 0\r\nx-a: 1\r\n",
        "x-a: 1\r\nx-a: 0\r\n",
    ];
    for (letter, count) in [("a", permissions.len()), ("b", principals.len())] {
        for i in 0..count {
            for lines in lines {
                pairs = pairs.get(
                    "h",
                    &format!("/{letter}/{i}-"),
                    &format!("x-forwarded-for: 1.2.3.4\r\n{lines}"),
                );
            }
        }
    }
    for path in
        ["/p/1", "/p/1?q", "/p/1/", "/p/1#f", "/p/2x?", "/p/3?x", "/q/1", "/q/1?x", "/q/1;p=1", "/q/12"]
    {
        pairs = pairs.get("h", path, "");
    }
    pairs.run();
}

#[test]
fn actions_and_shadows() {
    let any = || json!({"any": true});
    let policies = json!({
        "b two": policy(header("x-b", "2"), any()),
        "a": policy(header("x-a", "1"), any()),
        "c": {"permissions": [header("x-a", "1"), header("x-c", "3")], "principals": [header("x-c", "4"), header("x-c", "3")]},
    });
    let rules = |action: &str| json!({"action": action, "policies": policies});
    let mut misfits = Vec::new();
    for (prefix, shadow_prefix, tracked) in [("", "", false), ("en_", "sh_", true), ("", "", true)] {
        let with = |over: Value| {
            let mut with = json!({"rules_stat_prefix": prefix, "shadow_rules_stat_prefix": shadow_prefix, "track_per_rule_stats": tracked});
            with.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
            with
        };
        let routes = json!([
            to("/deny", per_route(with(json!({"rules": rules("DENY")})))),
            to("/log", per_route(with(json!({"rules": rules("LOG")})))),
            to("/shadow", per_route(with(json!({"shadow_rules": rules("DENY")})))),
            to("/both", per_route(with(json!({"rules": rules("ALLOW"), "shadow_rules": rules("DENY")})))),
            to("/plain", per_route(json!({"rules": rules("ALLOW"), "shadow_rules": rules("DENY")}))),
            to("/other-prefix", per_route(json!({"rules": rules("ALLOW"), "shadow_rules": rules("DENY"),
                "rules_stat_prefix": "r_", "shadow_rules_stat_prefix": "rs_", "track_per_rule_stats": true}))),
            to("/empty", per_route(json!({"rules": {}, "shadow_rules": {"action": "DENY"}}))),
            to("/none", per_route(Value::Null)),
            {"match": {"prefix": "/direct"}, "direct_response": {"status": 200}},
            {"match": {"prefix": "/"}, "route": {"cluster": "case1"}},
        ]);
        let config =
            chain("rbac", rbac(with(json!({"rules": rules("ALLOW"), "shadow_rules": rules("LOG")}))), routes);
        let mut pairs = Pairs::new(config).log_format(FORMAT).statistics(&["http.case0.rbac."]);
        for path in [
            "/deny",
            "/log",
            "/shadow",
            "/both",
            "/plain",
            "/other-prefix",
            "/empty",
            "/none",
            "/direct",
            "/other",
        ] {
            for lines in [
                "",
                "x-a: 1\r\n",
                "x-b: 2\r\n",
                "x-c: 3\r\n",
                "x-b: 2\r\nx-a: 1\r\n",
                "content-type: application/grpc\r\n",
            ] {
                pairs = pairs.get("h", path, lines);
            }
        }
        misfits.push(pairs);
    }
    misfits.iter().for_each(Pairs::run);
}
