//! The cors filter, held against Envoy request by request.

use super::http_filters::chain;
use crate::harness::Pairs;
use serde_json::{Value, json};

fn policy(over: Value) -> Value {
    let mut policy = over;
    policy["@type"] = "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy".into();
    json!({"cors": policy})
}

fn share(percent: u32, key: &str) -> Value {
    json!({"default_value": {"numerator": percent}, "runtime_key": key})
}

fn to(prefix: &str, over: Value) -> Value {
    json!({"match": {"prefix": prefix}, "route": {"cluster": "case1"}, "typed_per_filter_config": policy(over)})
}

#[test]
fn cors() {
    let origins = json!([{"exact": "http://a.com"}, {"suffix": ".b.com"}, {"safe_regex": {"regex": "https?://c[0-9]+"}}]);
    let whole = json!({
        "allow_origin_string_match": origins, "allow_methods": "GET,POST", "allow_headers": "x-a,x-b",
        "expose_headers": "x-see", "max_age": "60", "allow_credentials": true, "allow_private_network_access": true,
    });
    let some = |over: Value| {
        let mut some = whole.clone();
        some.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
        some
    };
    let routes = json!([
        to("/whole", whole.clone()),
        to("/any", json!({"allow_origin_string_match": [{"exact": "*"}]})),
        to("/prefix", json!({"allow_origin_string_match": [{"prefix": "*"}]})),
        to("/none", json!({})),
        to("/no-credentials", json!({"allow_credentials": false, "max_age": "5"})),
        to("/off", some(json!({"filter_enabled": share(0, "")}))),
        to("/shadow", some(json!({"filter_enabled": share(0, ""), "shadow_enabled": share(100, "")}))),
        to("/both", some(json!({"filter_enabled": share(100, ""), "shadow_enabled": share(100, "")}))),
        to("/by-runtime", some(json!({"filter_enabled": share(0, "cors.on"), "shadow_enabled": share(100, "cors.off")}))),
        to("/stop", some(json!({"forward_not_matching_preflights": false}))),
        to("/forward", some(json!({"forward_not_matching_preflights": true}))),
        {"match": {"prefix": "/direct"}, "direct_response": {"status": 200}, "typed_per_filter_config": policy(whole.clone())},
        {"match": {"prefix": "/weighted"}, "route": {"weighted_clusters": {"clusters": [
            {"name": "case2", "weight": 1, "typed_per_filter_config": policy(json!({"max_age": "7"}))}]}}},
        {"match": {"prefix": "/"}, "route": {"cluster": "case1"}},
    ]);
    let filter = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"});
    let mut config = chain("cors", filter, routes);
    config["route_config"]["virtual_hosts"][0]["typed_per_filter_config"] = policy(json!({
        "allow_origin_string_match": [{"exact": "http://host.com"}], "allow_methods": "PUT", "expose_headers": "x-host"}));
    config["route_config"]["typed_per_filter_config"] =
        policy(json!({"allow_headers": "x-table", "allow_credentials": true}));
    let runtime = json!({"layered_runtime": {"layers": [
        {"name": "l", "static_layer": {"cors.on": 100, "cors.off": 0}}]}});
    let answer = "HTTP/1.1 200 OK\r\naccess-control-allow-origin: own\r\naccess-control-expose-headers: own\r\nvary: x\r\ncontent-length: 2\r\n\r\nok";
    let mut pairs = Pairs::new(config).answer(answer).bootstrap(runtime).statistics(&["http.case0.cors."]);
    for path in [
        "/whole",
        "/any",
        "/prefix",
        "/none",
        "/no-credentials",
        "/off",
        "/shadow",
        "/both",
        "/by-runtime",
        "/stop",
        "/forward",
        "/direct",
        "/weighted",
        "/",
    ] {
        for origin in ["", "http://a.com", "http://x.b.com", "https://c12", "http://host.com", "http://other"]
        {
            let origin = if origin.is_empty() { String::new() } else { format!("origin: {origin}\r\n") };
            pairs = pairs.get("h", path, &origin);
            let head = format!("OPTIONS {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{origin}");
            let more =
                "access-control-request-method: GET\r\naccess-control-request-private-network: true\r\n";
            pairs = pairs.raw(format!("{head}\r\n")).raw(format!("{head}{more}\r\n"));
        }
    }
    pairs.get("h", "/whole", "origin:\r\n").run();
}

/// Of old a policy stood in a field of the route or of its virtual host.
#[test]
fn policies_of_old() {
    let share = |percent: u32| json!({"default_value": {"numerator": percent}});
    let mine = json!({"allow_origin_string_match": [{"exact": "http://a.com"}], "allow_methods": "GET", "max_age": "9"});
    let mut off = mine.clone();
    off["filter_enabled"] = share(0);
    let route = |prefix: &str, cors: Value| json!({"match": {"prefix": prefix}, "route": {"cluster": "case1", "cors": cors}});
    let mut both = route("/both", mine.clone());
    both["typed_per_filter_config"] =
        policy(json!({"allow_origin_string_match": [{"exact": "http://own.com"}]}));
    let routes = || {
        json!([route("/mine", mine.clone()), route("/off", off.clone()), route("/none", json!({})), both.clone(),
            {"match": {"prefix": "/"}, "route": {"cluster": "case1"}}])
    };
    let of_host = json!({"allow_origin_string_match": [{"exact": "http://host.com"}], "expose_headers": "x-host",
        "allow_headers": "x-a", "allow_credentials": true});
    for cors in [None, Some(of_host)] {
        let filter = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"});
        let mut config = chain("cors", filter, routes());
        if let Some(cors) = cors {
            config["route_config"]["virtual_hosts"][0]["cors"] = cors;
        }
        let mut pairs = Pairs::new(config).statistics(&["http.case0.cors."]);
        for path in ["/mine", "/off", "/none", "/both", "/"] {
            for origin in ["http://a.com", "http://host.com", "http://own.com", "http://other"] {
                let preflight = format!("origin: {origin}\r\naccess-control-request-method: GET\r\n");
                let head = format!("OPTIONS {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n");
                pairs = pairs
                    .get("h", path, &format!("origin: {origin}\r\n"))
                    .raw(format!("{head}{preflight}\r\n"));
            }
        }
        pairs.run();
    }
}
