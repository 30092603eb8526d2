//! What is wrong with a document: which errors are found, and which one comes first.

use super::*;
use crate::config::reader::{FromMessage, MessageReader, ParseContext};
use std::collections::BTreeSet;

/// All errors of a document.
fn errors(document: Value) -> Vec<String> {
    let errors = parse_bootstrap(document, UnknownFields::Reject, &LINKED).unwrap_err();
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
    let want = [
        "action: is required (one of route, redirect, direct_response, filter_action, non_forwarding_action)",
        "match.path_specifier: is required (one of prefix, path, safe_regex, connect_matcher, path_separated_prefix, path_match_policy)",
    ];
    assert_eq!(gaps, [format!("{route}.{}", want[1]), format!("{route}.{}", want[0])]);
    for chains in [json!([]), Value::Null] {
        let gap = errors(with(LISTENER, "filter_chains", chains));
        assert_eq!(gap, ["static_resources.listeners[0].filter_chains: no filter chains specified"]);
    }
    // Where unknown fields are allowed, the gap is explained.
    let mut document = with(CLUSTER, "nmae", json!("x"));
    document.pointer_mut(CLUSTER).unwrap().as_object_mut().unwrap().remove("name");
    let error = parse_bootstrap(document, UnknownFields::Allow, &LINKED).unwrap_err().to_string();
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
    cluster["lrs_server"] = json!({});
    cluster["circuit_breakers"] = json!({"thresholds": [{"max_retries": "many"}, {"max_connections": 1}]});
    cluster["transport_socket_matcher"] = json!({});
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
    let http_filters = [
        "buffer.v3.Buffer",
        "compressor.v3.Compressor",
        "cors.v3.Cors",
        "csrf.v3.CsrfPolicy",
        "decompressor.v3.Decompressor",
        "ext_authz.v3.ExtAuthz",
        "fault.v3.HTTPFault",
        "header_mutation.v3.HeaderMutation",
        "health_check.v3.HealthCheck",
        "local_ratelimit.v3.LocalRateLimit",
        "rbac.v3.RBAC",
        "router.v3.Router",
    ];
    let http_filters = http_filters.map(|name| format!("envoy.extensions.filters.http.{name}"));
    let fields = [
        "tracing: this field is not supported yet".to_string(),
        format!("{HCM}.tracing: this field is not supported yet"),
        format!(
            "{HCM}.http_filters[0].typed_config.@type: unknown or unsupported type 'a.B', supported here: {}",
            http_filters.join(", ")
        ),
        format!("{HCM}.http_filters[0].y: unknown field"),
        format!("{HCM}.codec_type: HTTP2 is not supported yet"),
        format!("{cluster}.lrs_server: this field is not supported yet"),
        format!("{cluster}.type: EDS is not supported yet"),
        format!("{cluster}.transport_socket_matcher: this field is not supported yet"),
    ];
    let values = [
        "stats_flush_interval: expected a duration".to_string(),
        format!("{host}.domains[1]: Only a single wildcard domain"),
        format!("{HCM}.stat_prefix: value length must be at least 1 characters"),
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

#[test]
fn what_the_api_has_and_nobody_reads_is_not_supported_yet_where_it_is_set() {
    let cluster = |field: &str, value: Value| {
        let found = parse_bootstrap(with(CLUSTER, field, value), UnknownFields::Reject, &LINKED);
        found.err().map_or_else(Vec::new, |errors| errors.all().iter().map(ToString::to_string).collect())
    };
    let path = "static_resources.clusters[0]";
    // What protobuf cannot tell from an absent value, and null, are not set.
    for (field, value) in [
        ("upstream_http_protocol_options", Value::Null),
        ("connectionPoolPerDownstreamConnection", json!("true")),
        ("protocol_selection", json!("USE_CONFIGURED_PROTOCOL")),
        ("protocol_selection", json!(0)),
        ("filters", json!([])),
        ("transport_socket", Value::Null),
    ] {
        assert_eq!(cluster(field, value), [""; 0], "{field}");
    }
    for (field, value, want) in [
        ("filters", json!([{}]), "filters: this field is not supported yet"),
        ("lrsServer", json!({}), "lrs_server: this field is not supported yet"),
        ("transport_soket", json!({}), "transport_soket: unknown field, did you mean 'transport_socket'?"),
    ] {
        assert_eq!(cluster(field, value), [format!("{path}.{want}")]);
    }
}

/// An extension that Envoy has is called by its name there.
#[test]
fn extensions_that_are_not_there_are_named() {
    let any = |kind: &str| json!({"@type": format!("type.googleapis.com/{kind}")});
    for (kind, name) in [
        ("envoy.extensions.filters.http.lua.v3.Lua", "envoy.filters.http.lua"),
        ("envoy.extensions.filters.http.ratelimit.v3.RateLimit", "envoy.filters.http.ratelimit"),
        ("envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication", "envoy.filters.http.jwt_authn"),
    ] {
        let filters = json!([{"name": "x", "typed_config": any(kind)}]);
        let found = errors(with(MANAGER, "http_filters", filters));
        let want = format!(
            "http_filters[0].typed_config.@type: {name} is not supported yet: type '{kind}', supported here: "
        );
        assert!(found.iter().any(|error| error.contains(&want)), "{want} is not in {found:#?}");
    }
    let kind = "envoy.extensions.transport_sockets.alts.v3.Alts";
    let found = errors(with(CLUSTER, "transport_socket", json!({"name": "x", "typed_config": any(kind)})));
    assert!(found[0].contains("envoy.transport_sockets.alts is not supported yet: type"), "{found:#?}");
}

/// What a message asks for when it is read.
fn asked<T: FromMessage>(name: &str, value: &Value) -> (bool, BTreeSet<String>) {
    let context = ParseContext::new(UnknownFields::Reject, &LINKED);
    let mut reader = MessageReader::new(&context, &format!("envoy.{name}"), value, String::new()).unwrap();
    let read = T::read(&mut reader);
    (read.is_ok(), reader.asked())
}

/// Checks that a message without anything asks for all fields before it fails: what it has not asked for
/// would count as unknown.
#[track_caller]
fn check_asks_first<T: FromMessage>(name: &str, valid: Value) {
    let (read, all) = asked::<T>(name, &valid);
    assert!(read, "{valid} is not valid");
    let (_, first) = asked::<T>(name, &json!({}));
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
    check_asks_first::<AccessLog>("config.accesslog.v3.AccessLog", log);
    check_asks_first::<Address>("config.core.v3.Address", address);
    check_asks_first::<address::SocketAddress>("config.core.v3.SocketAddress", socket);
    check_asks_first::<address::Pipe>("config.core.v3.Pipe", json!({"path": "/x"}));
    check_asks_first::<address::CidrRange>("config.core.v3.CidrRange", json!({"address_prefix": "::"}));
    check_asks_first::<Bootstrap>("config.bootstrap.v3.Bootstrap", base.clone());
    check_asks_first::<bootstrap::StaticResources>(
        "config.bootstrap.v3.Bootstrap.StaticResources",
        json!({}),
    );
    check_asks_first::<bootstrap::Admin>("config.bootstrap.v3.Admin", json!({}));
    check_asks_first::<watchdog::Watchdogs>("config.bootstrap.v3.Watchdogs", json!({}));
    check_asks_first::<watchdog::Watchdog>("config.bootstrap.v3.Watchdog", json!({}));
    check_asks_first::<Cluster>("config.cluster.v3.Cluster", at(CLUSTER));
    check_asks_first::<cluster::CircuitBreakers>("config.cluster.v3.CircuitBreakers", json!({}));
    check_asks_first::<cluster::Thresholds>("config.cluster.v3.CircuitBreakers.Thresholds", json!({}));
    check_asks_first::<core::Node>("config.core.v3.Node", json!({}));
    check_asks_first::<DataSource>("config.core.v3.DataSource", json!({"inline_string": "x"}));
    check_asks_first::<endpoint::ClusterLoadAssignment>(
        "config.endpoint.v3.ClusterLoadAssignment",
        json!({"cluster_name": "a"}),
    );
    check_asks_first::<endpoint::LocalityLbEndpoints>("config.endpoint.v3.LocalityLbEndpoints", json!({}));
    check_asks_first::<endpoint::LbEndpoint>("config.endpoint.v3.LbEndpoint", json!({"endpoint": endpoint}));
    check_asks_first::<HttpConnectionManager>(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        at(MANAGER),
    );
    check_asks_first::<HttpFilter>(
        "extensions.filters.network.http_connection_manager.v3.HttpFilter",
        at(&format!("{MANAGER}/http_filters/0")),
    );
    check_asks_first::<Listener>("config.listener.v3.Listener", at("/static_resources/listeners/0"));
    check_asks_first::<FilterChain>("config.listener.v3.FilterChain", at(chain));
    check_asks_first::<listener::FilterChainMatch>("config.listener.v3.FilterChainMatch", json!({}));
    check_asks_first::<Filter>("config.listener.v3.Filter", at(&format!("{chain}/filters/0")));
    check_asks_first::<protocol_options::HttpProtocolOptions>(
        "config.core.v3.HttpProtocolOptions",
        json!({}),
    );
    check_asks_first::<protocol_options::Http1ProtocolOptions>(
        "config.core.v3.Http1ProtocolOptions",
        json!({}),
    );
    check_asks_first::<protocol_options::UpstreamHttpProtocolOptions>(
        "extensions.upstreams.http.v3.HttpProtocolOptions",
        json!({"explicit_http_config": {"http_protocol_options": {}}}),
    );
    check_asks_first::<RouteConfiguration>("config.route.v3.RouteConfiguration", json!({}));
    check_asks_first::<VirtualHost>("config.route.v3.VirtualHost", at(&host));
    check_asks_first::<Route>("config.route.v3.Route", at(&format!("{host}/routes/0")));
    check_asks_first::<route::RouteMatch>("config.route.v3.RouteMatch", json!({"path": "/"}));
    check_asks_first::<route::RouteAction>("config.route.v3.RouteAction", json!({"cluster": "a"}));
    check_asks_first::<route::DirectResponseAction>(
        "config.route.v3.DirectResponseAction",
        json!({"status": 200}),
    );
    check_asks_first::<RouterConfig>("extensions.filters.http.router.v3.Router", json!({}));
    check_asks_first::<runtime::LayeredRuntime>("config.bootstrap.v3.LayeredRuntime", json!({}));
    check_asks_first::<runtime::RuntimeLayer>(
        "config.bootstrap.v3.RuntimeLayer",
        json!({"name": "a", "admin_layer": {}}),
    );
}
