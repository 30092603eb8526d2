//! What is wrong with a document: which errors are found, and which one comes first.

use super::*;
use crate::config::reader::{FromMessage, MessageReader, ParseContext};
use std::collections::BTreeSet;

/// All errors of a document.
fn errors(document: Value) -> Vec<String> {
    let errors = parse_bootstrap(document, UnknownFields::Reject).unwrap_err();
    errors.all().iter().map(ToString::to_string).collect()
}

#[test]
fn a_misspelled_field_is_named_and_not_the_gap_that_it_leaves() {
    let route = format!("{HCM}.route_config.virtual_hosts[0].routes[0]");
    let assignment = format!("{CLUSTER}/load_assignment");
    let address = |fields: Value| json!([{"lb_endpoints": [{"endpoint": {"address": fields}}]}]);
    let socket = "static_resources.clusters[0].load_assignment.endpoints[0].lb_endpoints[0].endpoint.address";
    let routes = virtual_host();
    let direct = json!({"prefix": "/"});
    for (document, want) in [
        (
            with(&routes, "routes", json!([{"match": {"prefx": "/"}, "route": {"cluster": "a"}}])),
            format!("{route}.match.prefx: unknown field, did you mean 'prefix'?"),
        ),
        (
            with(&routes, "routes", json!([{"match": direct, "rout": {"cluster": "a"}}])),
            format!("{route}.rout: unknown field, did you mean 'route'?"),
        ),
        (
            with(&routes, "routes", json!([{"mach": direct, "route": {"cluster": "a"}}])),
            format!("{route}.mach: unknown field, did you mean 'match'?"),
        ),
        (
            with(&routes, "routes", json!([{"match": direct, "route": {"clutser": "a"}}])),
            format!("{route}.route.clutser: unknown field, did you mean 'cluster'?"),
        ),
        (
            with(
                &routes,
                "routes",
                json!([{"match": direct, "direct_response": {"status": 200, "body": {"inline": "x"}}}]),
            ),
            format!("{route}.direct_response.body.inline: unknown field"),
        ),
        (with(MANAGER, "route_confg", json!({})), format!("{HCM}.route_confg: unknown field")),
        (
            with(&assignment, "endpoints", address(json!({"sockt_address": {}}))),
            format!("{socket}.sockt_address: unknown field, did you mean 'socket_address'?"),
        ),
        (
            with(
                &assignment,
                "endpoints",
                address(json!({"socket_address": {"adress": "127.0.0.1", "port_value": 80}})),
            ),
            format!("{socket}.socket_address.adress: unknown field, did you mean 'address'?"),
        ),
    ] {
        assert_eq!(errors(document), [want]);
    }
    // Without one the gap is what is wrong; each has its own.
    let gaps = errors(with(&routes, "routes", json!([{"match": {}}])));
    let want = ["one of route, direct_response is required", "match: one of prefix, path is required"];
    assert_eq!(gaps, [format!("{route}.{}", want[1]), format!("{route}: {}", want[0])]);
    for chains in [json!([]), Value::Null] {
        let gap = errors(with(LISTENER, "filter_chains", chains));
        assert_eq!(gap, ["static_resources.listeners[0].filter_chains: no filter chains specified"]);
    }
    // Where unknown fields are allowed, the gap is explained.
    let mut document = with(CLUSTER, "nmae", json!("x"));
    document.pointer_mut(CLUSTER).unwrap().as_object_mut().unwrap().remove("name");
    let error = parse_bootstrap(document, UnknownFields::Allow).unwrap_err().to_string();
    assert!(error.ends_with("the unknown field 'nmae' looks like it"), "{error}");
}

#[test]
fn all_that_is_wrong_is_found_fields_first() {
    let mut document = base();
    document["statsFlushInterval"] = json!("1h");
    document["tracing"] = json!({});
    let cluster = document.pointer_mut(CLUSTER).unwrap();
    cluster["connect_timeout"] = json!("soon");
    cluster["type"] = json!("EDS");
    cluster["transport_socket"] = json!({});
    cluster["circuit_breakers"] = json!({"thresholds": [{"max_retries": "many"}, {"retry_budget": {}}]});
    let manager = document.pointer_mut(MANAGER).unwrap();
    manager["codec_type"] = json!("HTTP2");
    manager["stat_prefix"] = json!("");
    manager["tracing"] = json!({});
    manager["http_filters"] =
        json!([{"name": "x", "typed_config": {"@type": "type.googleapis.com/a.B", "c": 1}, "y": 1}]);
    manager["route_config"]["virtual_hosts"][0]["domains"] = json!(["*", "*"]);
    let cluster = "static_resources.clusters[0]";
    let host = format!("{HCM}.route_config.virtual_hosts[0]");
    let found = errors(document);
    let fields = [
        "tracing: this field is not supported yet".to_string(),
        format!("{HCM}.tracing: this field is not supported yet"),
        format!(
            "{HCM}.http_filters[0].typed_config.@type: unknown or unsupported type 'a.B', supported here: \
                 envoy.extensions.filters.http.router.v3.Router"
        ),
        format!("{HCM}.http_filters[0].y: unknown field"),
        format!("{HCM}.codec_type: HTTP2 is not supported yet"),
        format!("{cluster}.transport_socket: this field is not supported yet"),
        format!("{cluster}.type: EDS is not supported yet"),
        format!("{cluster}.circuit_breakers.thresholds[1].retry_budget: this field is not supported yet"),
    ];
    let values = [
        "stats_flush_interval: expected a duration".to_string(),
        format!("{host}.domains[1]: Only a single wildcard domain"),
        format!("{HCM}.stat_prefix: is required and must not be empty"),
        format!("{cluster}.connect_timeout: expected a duration"),
        format!("{cluster}.circuit_breakers.thresholds[0].max_retries: expected an unsigned integer"),
    ];
    assert_eq!(found.len(), fields.len() + values.len(), "{found:#?}");
    for want in &fields {
        assert!(found[..fields.len()].contains(want), "{want} is not in {found:#?}");
    }
    for want in &values {
        assert!(found[fields.len()..].iter().any(|e| e.starts_with(want)), "{want} is not in {found:#?}");
    }
}

/// What a message asks for when it is read.
fn asked<T: FromMessage>(value: &Value) -> (bool, BTreeSet<String>) {
    let context = ParseContext::new(UnknownFields::Reject);
    let mut reader = MessageReader::new(&context, value, String::new()).unwrap();
    let read = T::read(&mut reader);
    (read.is_ok(), reader.asked())
}

/// Checks that a message without anything asks for all fields before it fails: what it has not asked for
/// would count as unknown.
#[track_caller]
fn check_asks_first<T: FromMessage>(valid: Value) {
    let (read, all) = asked::<T>(&valid);
    assert!(read, "{valid} is not valid");
    let (_, first) = asked::<T>(&json!({}));
    let late: Vec<_> = all.difference(&first).collect();
    assert!(late.is_empty(), "{} asks for these too late: {late:?}", std::any::type_name::<T>());
}

#[test]
fn every_message_asks_for_all_its_fields_before_it_fails() {
    let base = base();
    let at = |pointer: &str| base.pointer(pointer).unwrap().clone();
    let socket = json!({"address": "127.0.0.1", "port_value": 1});
    let address = json!({"socket_address": socket});
    let endpoint = json!({"address": address});
    let log = json!({"typed_config": {"@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"}});
    let chain = "/static_resources/listeners/0/filter_chains/0";
    let host = virtual_host();
    check_asks_first::<AccessLog>(log);
    check_asks_first::<Address>(address);
    check_asks_first::<address::SocketAddress>(socket);
    check_asks_first::<address::Pipe>(json!({"path": "/x"}));
    check_asks_first::<address::CidrRange>(json!({"address_prefix": "::"}));
    check_asks_first::<Bootstrap>(base.clone());
    check_asks_first::<bootstrap::StaticResources>(json!({}));
    check_asks_first::<bootstrap::Admin>(json!({}));
    check_asks_first::<watchdog::Watchdogs>(json!({}));
    check_asks_first::<watchdog::Watchdog>(json!({}));
    check_asks_first::<Cluster>(at(CLUSTER));
    check_asks_first::<cluster::CircuitBreakers>(json!({}));
    check_asks_first::<cluster::Thresholds>(json!({}));
    check_asks_first::<core::Node>(json!({}));
    check_asks_first::<DataSource>(json!({"inline_string": "x"}));
    check_asks_first::<endpoint::ClusterLoadAssignment>(json!({"cluster_name": "a"}));
    check_asks_first::<endpoint::LocalityLbEndpoints>(json!({}));
    check_asks_first::<endpoint::LbEndpoint>(json!({"endpoint": endpoint}));
    check_asks_first::<HttpConnectionManager>(at(MANAGER));
    check_asks_first::<HttpFilter>(at(&format!("{MANAGER}/http_filters/0")));
    check_asks_first::<Listener>(at("/static_resources/listeners/0"));
    check_asks_first::<FilterChain>(at(chain));
    check_asks_first::<listener::FilterChainMatch>(json!({}));
    check_asks_first::<Filter>(at(&format!("{chain}/filters/0")));
    check_asks_first::<protocol_options::HttpProtocolOptions>(json!({}));
    check_asks_first::<protocol_options::Http1ProtocolOptions>(json!({}));
    check_asks_first::<protocol_options::UpstreamHttpProtocolOptions>(
        json!({"explicit_http_config": {"http_protocol_options": {}}}),
    );
    check_asks_first::<RouteConfiguration>(json!({}));
    check_asks_first::<VirtualHost>(at(&host));
    check_asks_first::<Route>(at(&format!("{host}/routes/0")));
    check_asks_first::<route::RouteMatch>(json!({"path": "/"}));
    check_asks_first::<route::RouteAction>(json!({"cluster": "a"}));
    check_asks_first::<route::DirectResponseAction>(json!({"status": 200}));
    check_asks_first::<RouterConfig>(json!({}));
    check_asks_first::<runtime::LayeredRuntime>(json!({}));
    check_asks_first::<runtime::RuntimeLayer>(json!({"name": "a", "admin_layer": {}}));
}
