//! Whole documents through [`load_bootstrap`], with all extensions that are linked in.

mod access_logs;
mod errors;
mod wire;

use crate::config::*;
use crate::filters::LINKED;
use crate::filters::http::HttpFilter;
use crate::filters::http::router::RouterConfig;
use crate::filters::network::http_connection_manager::HttpConnectionManager;
use serde_json::{Value, json};
use std::time::Duration;

const HCM: &str = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";

fn base() -> Value {
    yaml::parse_yaml(
        r#"
node: {id: nn, cluster: c}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
static_resources:
  listeners:
  - name: l
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: s
          route_config:
            name: r
            virtual_hosts:
            - name: v
              domains: ["*"]
              routes:
              - match: {prefix: /}
                route: {cluster: c1}
          http_filters:
          - name: router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: c1
    type: STATIC
    connect_timeout: 0.25s
    load_assignment:
      cluster_name: c1
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 80}}}
"#,
    )
    .unwrap()
}

/// JSON pointers of the places the tests change.
const LISTENER: &str = "/static_resources/listeners/0";
const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
const CLUSTER: &str = "/static_resources/clusters/0";
const HOST: &str = "/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints/0";

fn virtual_host() -> String {
    format!("{MANAGER}/route_config/virtual_hosts/0")
}

fn with(at: &str, field: &str, value: Value) -> Value {
    let mut document = base();
    document.pointer_mut(at).unwrap()[field] = value;
    document
}

fn accept(document: Value) -> Bootstrap {
    parse_bootstrap(document, UnknownFields::Reject, &LINKED).unwrap()
}

fn refuse(document: Value) -> String {
    parse_bootstrap(document, UnknownFields::Reject, &LINKED).unwrap_err().to_string()
}

fn manager(bootstrap: &Bootstrap) -> &HttpConnectionManager {
    let filter = &bootstrap.static_resources.listeners[0].filter_chains[0].filters[0];
    HttpConnectionManager::of(filter).unwrap()
}

#[test]
fn a_small_bootstrap_has_envoys_defaults() {
    let b = accept(base());
    assert_eq!(b.node.id, "nn");
    assert_eq!(b.stats_flush_interval, Duration::from_secs(5));
    let listener = &b.static_resources.listeners[0];
    assert!(listener.bind_to_port);
    assert_eq!(listener.per_connection_buffer_limit_bytes, 1024 * 1024);
    let m = manager(&b);
    assert_eq!(m.max_request_headers_kb, None);
    assert_eq!(m.stream_idle_timeout, Duration::from_secs(300));
    assert_eq!(m.server_name, "envoy");
    assert!(m.generate_request_id && !m.use_remote_address);
    assert!(m.http_protocol_options.allow_absolute_url);
    let route = &m.route_config.virtual_hosts[0].routes[0];
    assert_eq!(route.route_match.path, PathMatch::Prefix("/".into()));
    let Action::Route(action) = &route.action else { panic!("{route:?}") };
    assert_eq!(action.timeout, Duration::from_secs(15));
    let cluster = &b.static_resources.clusters[0];
    assert_eq!(cluster.connect_timeout, Duration::from_millis(250));
    let limits = cluster.circuit_breakers.for_priority(core::RoutingPriority::High);
    assert_eq!((limits.max_connections, limits.max_retries), (1024, 3));
    let hosts = cluster.load_assignment.as_ref().unwrap();
    let address = &hosts.endpoints[0].lb_endpoints[0].endpoint.address;
    let Address::SocketAddress(address) = address else { panic!("{address:?}") };
    assert_eq!(address.to_socket_addr(), Some(([127, 0, 0, 1], 80).into()));
}

#[test]
fn pipes_are_read_and_checked() {
    let listener = |pipe: Value| with(LISTENER, "address", json!({"pipe": pipe}));
    let path = "static_resources.listeners[0].address.pipe";
    let long = "a".repeat(107);
    for (value, mode) in [
        (json!({"path": long}), None),
        (json!({"path": "@a", "mode": 0}), None),
        (json!({"path": "/a", "mode": 0o600}), Some(0o600)),
    ] {
        let b = accept(listener(value.clone()));
        let address = &b.static_resources.listeners[0].address;
        let Address::Pipe(pipe) = address else { panic!("{address:?}") };
        assert_eq!((pipe.path.as_str(), address.mode()), (value["path"].as_str().unwrap(), mode));
    }
    let too_long = format!("path: Path \"{long}b\" exceeds maximum UNIX domain socket path size of 108.");
    for (value, want) in [
        (json!({}), "path: value length must be at least 1 characters"),
        (json!({"path": format!("{long}b")}), too_long.as_str()),
        (json!({"path": "@a", "mode": 0o600}), "mode: Cannot set mode for Abstract AF_UNIX sockets"),
        (json!({"path": "/a", "mode": 0o1000}), "mode: value must be less than or equal to 511"),
        (json!({"path": "/a\u{0}b"}), "path: UNIX domain socket pathname contains embedded null characters"),
    ] {
        assert_eq!(refuse(listener(value)), format!("{path}.{want}"));
    }
    let both = json!({"pipe": {"path": "@a"}, "socket_address": {"address": "::1", "port_value": 1}});
    let error = refuse(with(LISTENER, "address", both));
    let want = "static_resources.listeners[0].address: only one of 'socket_address' and 'pipe' may be set";
    assert_eq!(error, want);
}

#[test]
fn both_spellings_of_a_name_but_not_together() {
    let b = accept(with("/node", "locality", json!({"subZone": "z"})));
    assert_eq!(b.node.locality.sub_zone, "z");
    let both = json!({"subZone": "z", "sub_zone": "z"});
    assert_eq!(
        refuse(with("/node", "locality", both)),
        "node.locality.sub_zone: the field is given twice, also as 'subZone'"
    );
}

#[test]
fn lists_take_a_single_value_and_null_is_absent() {
    let b = accept(with(&virtual_host(), "domains", json!("a")));
    assert_eq!(manager(&b).route_config.virtual_hosts[0].domains, ["a"]);
    accept(with(LISTENER, "bind_to_port", Value::Null));
    let oneof = json!([{"match": {"prefix": "/", "path": null}, "route": {"cluster": "c1"}}]);
    accept(with(&virtual_host(), "routes", oneof));
    accept(with(CLUSTER, "load_assignment", Value::Null));
}

#[test]
fn wrappers_may_be_spelled_out() {
    let limit = |v| {
        let document = with(CLUSTER, "per_connection_buffer_limit_bytes", v);
        accept(document).static_resources.clusters[0].per_connection_buffer_limit_bytes
    };
    assert_eq!(limit(json!({"value": 5})), 5);
    assert_eq!(limit(json!({})), 0);
    assert_eq!(limit(json!("7")), 7);
}

#[test]
fn unknown_fields_are_refused_or_remembered() {
    let mut document = with(MANAGER, "foo", json!(1));
    assert_eq!(refuse(document.clone()), format!("{HCM}.foo: unknown field"));
    document["static_resources"]["clusters"][0]["lb_policy"] = json!("BEST");
    let b = parse_bootstrap(document, UnknownFields::Allow, &LINKED).unwrap();
    let skipped = [format!("{HCM}.foo"), "static_resources.clusters[0].lb_policy".to_string()];
    assert_eq!(b.unknown_fields, skipped);
}

#[test]
fn allowing_unknown_fields_does_not_allow_unsupported_ones() {
    let document = with(CLUSTER, "lrs_server", json!({}));
    let error = parse_bootstrap(document, UnknownFields::Allow, &LINKED).unwrap_err();
    assert_eq!(error.first().path(), "static_resources.clusters[0].lrs_server");
    assert_eq!(error.first().message(), "this field is not supported yet");
}

#[test]
fn errors_in_routes_name_the_full_path() {
    let route = format!("{HCM}.route_config.virtual_hosts[0].routes[0]");
    let answer = json!({"status": 200});
    for (value, want) in [
        (
            json!({"match": {}, "direct_response": answer}),
            format!(
                "{route}.match.path_specifier: is required (one of prefix, path, safe_regex, connect_matcher, path_separated_prefix, path_match_policy)"
            ),
        ),
        (json!({"direct_response": answer}), format!("{route}.match: value is required")),
        (
            json!({"match": {"prefix": "/", "path": "/"}, "direct_response": answer}),
            format!("{route}.match: only one of 'prefix' and 'path' may be set"),
        ),
        (
            json!({"match": {"safe_regex": {"regex": "("}}, "direct_response": answer}),
            format!("{route}.match.safe_regex.regex: missing ): ("),
        ),
        (
            json!({"match": {"prefix": "/"}, "tracing": {}, "direct_response": answer}),
            format!("{route}.tracing: this field is not supported yet"),
        ),
        (
            json!({"match": {"prefix": "/"}}),
            format!(
                "{route}.action: is required (one of route, redirect, direct_response, filter_action, non_forwarding_action)"
            ),
        ),
        (
            json!({"match": {"prefix": "/"}, "direct_response": {"status": 600}}),
            format!("{route}.direct_response.status: value must be inside range [200, 600)"),
        ),
        (
            json!({"match": {"prefix": "/"}, "route": {"cluster": "nope"}}),
            format!("{route}.route.cluster: route: unknown cluster 'nope'"),
        ),
        (
            json!({"match": {"prefix": "/"}, "route": {"cluster": "c1", "priority": 5}}),
            format!("{route}.route.priority: value must be one of the defined enum values: DEFAULT, HIGH"),
        ),
    ] {
        assert_eq!(refuse(with(&virtual_host(), "routes", json!([value]))), want);
    }
}

#[test]
fn clusters_of_routes_are_checked_unless_switched_off() {
    let table = format!("{MANAGER}/route_config");
    let mut document = with(&table, "validate_clusters", json!(false));
    let route = format!("{}/routes/0/route", virtual_host());
    document.pointer_mut(&route).unwrap()["cluster"] = json!("nope");
    let b = accept(document);
    assert!(!manager(&b).route_config.validate_clusters);
}

#[test]
fn enums_by_name_in_any_case_or_by_number() {
    for (value, want) in [
        (json!("PASS_THROUGH"), Ok("PassThrough")),
        (json!("pass_through"), Ok("PassThrough")),
        (json!(2), Ok("PassThrough")),
        (json!("2"), Ok("PassThrough")),
        (json!(0), Ok("Overwrite")),
        (json!("X"), Err("unknown value \"X\", expected one of OVERWRITE, ")),
        (json!(3), Err("value must be one of the defined enum values: OVERWRITE, ")),
        (json!(true), Err("expected one of OVERWRITE, ")),
    ] {
        let document = with(MANAGER, "server_header_transformation", value);
        match want {
            Ok(name) => {
                let b = accept(document);
                let got = format!("{:?}", manager(&b).server_header_transformation);
                assert_eq!(got, name);
            }
            Err(text) => {
                let error = refuse(document);
                let want = format!("{HCM}.server_header_transformation: {text}");
                assert!(error.starts_with(&want), "{error}");
            }
        }
    }
}

#[test]
fn filter_chain_matches_are_parsed() {
    let chain = format!("{LISTENER}/filter_chains/0");
    let wanted = json!({
        "destination_port": 80,
        "source_ports": [1, "65535"],
        "prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}],
        "source_type": "EXTERNAL",
    });
    let b = accept(with(&chain, "filter_chain_match", wanted));
    let chain_match = b.static_resources.listeners[0].filter_chains[0].filter_chain_match.clone();
    let chain_match = chain_match.unwrap();
    assert_eq!(chain_match.destination_port, Some(80));
    assert_eq!(chain_match.source_ports, [1, 65535]);
    assert_eq!(chain_match.prefix_ranges[0].prefix_len, 8);
    let path = "static_resources.listeners[0].filter_chains[0].filter_chain_match";
    for (value, want) in [
        (json!({"destination_port": 0}), "destination_port: value must be inside range [1, 65535]"),
        (json!({"source_ports": [1, 65536]}), "source_ports[1]: value must be inside range [1, 65535]"),
        (
            json!({"prefix_ranges": [{"address_prefix": "::", "prefix_len": 129}]}),
            "prefix_ranges[0].prefix_len: value must be less than or equal to 128",
        ),
    ] {
        let error = refuse(with(&chain, "filter_chain_match", value));
        assert_eq!(error, format!("{path}.{want}"));
    }
}

#[test]
fn the_router_has_to_be_last() {
    let filters = base().pointer(MANAGER).unwrap()["http_filters"].clone();
    let twice = json!([filters[0], filters[0]]);
    let error = refuse(with(MANAGER, "http_filters", twice));
    let want = format!("{HCM}.http_filters[0]: Error: terminal filter named router of type envoy.");
    assert!(error.starts_with(&want), "{error}");
}

#[test]
fn clusters_have_unique_names_and_the_local_one_exists() {
    let cluster = base().pointer(CLUSTER).unwrap().clone();
    let twice = with("/static_resources", "clusters", json!([cluster, cluster]));
    assert_eq!(refuse(twice), "static_resources.clusters[1].name: cluster manager: duplicate cluster 'c1'");
    accept(with("", "cluster_manager", json!({"local_cluster_name": "c1"})));
    assert_eq!(
        refuse(with("", "cluster_manager", json!({"local_cluster_name": "x"}))),
        "cluster_manager.local_cluster_name: local cluster 'x' must be defined"
    );
}

#[test]
fn the_flush_interval_has_bounds() {
    for value in ["0s", "0.0005s", "300s"] {
        let error = refuse(with("", "stats_flush_interval", json!(value)));
        assert_eq!(error, "stats_flush_interval: value must be inside range [1ms, 5m0s)");
    }
    for value in ["0.001s", "299s"] {
        accept(with("", "stats_flush_interval", json!(value)));
    }
}

#[test]
fn domains_are_unique_in_a_table() {
    for (domains, want) in [
        (json!(["*", "*"]), "Only a single wildcard domain is permitted"),
        (json!(["a", "A"]), "Duplicate entry of domain a in route r"),
        (json!([]), "value must contain at least 1 item(s)"),
        (json!(["a\nb"]), "domains[0]: value does not match regex pattern \"^[^\\x00\\n\\r]*$\""),
        (json!([5]), "domains[0]: expected a string, got number 5"),
    ] {
        let error = refuse(with(&virtual_host(), "domains", domains));
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn types_of_any_are_named() {
    for (url, want) in [
        (json!("type.googleapis.com/foo.Bar"), "unknown or unsupported type 'foo.Bar'"),
        (json!("foo"), "must start with 'type.googleapis.com/'"),
        (json!(5), "expected a string"),
        (Value::Null, "is required"),
    ] {
        let error = refuse(with(MANAGER, "@type", url));
        assert!(error.starts_with(&format!("{HCM}.@type: {want}")), "{error}");
    }
    let filter = MANAGER.trim_end_matches("/typed_config");
    let error = refuse(with(filter, "typed_config", Value::Null));
    assert_eq!(error, format!("{HCM}: value is required"));
}

#[test]
fn addresses_are_checked() {
    let address = |a: Value| refuse(with(LISTENER, "address", json!({"socket_address": a})));
    let path = "static_resources.listeners[0].address.socket_address";
    for (value, want) in [
        (json!({"address": "localhost", "port_value": 0}), "address: malformed IP address: localhost"),
        (
            json!({"address": "::1", "port_value": 65536}),
            "port_value: value must be less than or equal to 65535",
        ),
        (json!({"address": "::1", "named_port": "http"}), "named_port: this field is not supported yet"),
        (json!({"address": "::1", "port_value": 1, "protocol": "UDP"}), "protocol: UDP is not supported yet"),
    ] {
        assert_eq!(address(value), format!("{path}.{want}"));
    }
    let error = address(json!({"address": "::1"}));
    assert_eq!(error, format!("{path}.port_specifier: is required (one of port_value, named_port)"));
    let error = address(json!({"adress": "::1", "port_value": 1}));
    assert_eq!(error, format!("{path}.adress: unknown field, did you mean 'address'?"));
    let error = address(json!({"address": "::1", "port_value": 1, "ipv4_compat": true}));
    assert!(error.ends_with("can set ipv4_compat: [::1]:1"), "{error}");
}

#[test]
fn ranges_of_clusters_and_hosts_are_checked() {
    let cluster = "static_resources.clusters[0]";
    let host = format!("{cluster}.load_assignment.endpoints[0].lb_endpoints[0]");
    for (at, field, value, want) in [
        (
            CLUSTER,
            "connect_timeout",
            json!("0s"),
            format!("{cluster}.connect_timeout: value must be greater than 0s"),
        ),
        (CLUSTER, "type", json!("EDS"), format!("{cluster}.type: EDS is not supported yet")),
        (
            CLUSTER,
            "type",
            json!(7),
            format!(
                "{cluster}.type: value must be one of the defined enum values: STATIC, STRICT_DNS, LOGICAL_DNS, \
                 EDS, ORIGINAL_DST"
            ),
        ),
        (CLUSTER, "name", json!(""), format!("{cluster}.name: value length must be at least 1 characters")),
        (
            CLUSTER,
            "common_lb_config",
            json!({"healthy_panic_threshold": {"value": 101}}),
            format!(
                "{cluster}.common_lb_config.healthy_panic_threshold.value: value must be inside range \
                 [0, 100]"
            ),
        ),
        (
            HOST,
            "load_balancing_weight",
            json!(0),
            format!("{host}.load_balancing_weight: value must be greater than or equal to 1"),
        ),
        (HOST, "endpoint", Value::Null, format!("{host}.endpoint: value is required")),
    ] {
        assert_eq!(refuse(with(at, field, value)), want);
    }
}

#[test]
fn protocol_options_come_from_the_extension_or_the_older_fields() {
    let key = protocol_options::UPSTREAM_HTTP_PROTOCOL_OPTIONS;
    let extension = |fields: Value| {
        let mut any = json!({"@type": format!("type.googleapis.com/{key}")});
        any.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        with(CLUSTER, "typed_extension_protocol_options", json!({key: any}))
    };
    let explicit = json!({"explicit_http_config": {"http_protocol_options": {}}});
    let mut document = extension(explicit);
    document["static_resources"]["clusters"][0]["max_requests_per_connection"] = json!(7);
    let b = accept(document.clone());
    let options = &b.static_resources.clusters[0].http_protocol_options.clone().unwrap_or_default();
    let common = &options.common_http_protocol_options;
    assert_eq!(common.max_requests_per_connection, Some(7));

    document["static_resources"]["clusters"][0]["http_protocol_options"] = json!({});
    assert!(refuse(document).contains("must not be given together"));
    let path = format!("static_resources.clusters[0].typed_extension_protocol_options[{key:?}]");
    assert_eq!(
        refuse(extension(json!({}))),
        format!(
            "{path}.upstream_protocol_options: is required (one of explicit_http_config, use_downstream_protocol_config, auto_config)"
        )
    );
    let http2 = json!({"explicit_http_config": {"http2_protocol_options": {}}});
    let errors = parse_bootstrap(extension(http2), UnknownFields::Reject, &LINKED).unwrap_err();
    let errors: Vec<_> = errors.all().iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [format!("{path}.explicit_http_config.http2_protocol_options: this field is not supported yet")]
    );
    let none = refuse(extension(json!({"explicit_http_config": {}})));
    assert!(none.starts_with(&format!("{path}.explicit_http_config.protocol_config: is required")), "{none}");
}

#[test]
fn runtime_layers_are_flattened() {
    let layer = |v: Value| with("", "layered_runtime", json!({"layers": [v]}));
    let fraction = json!({"numerator": 5});
    let values = json!({"a.b": 1, "c": {"d": true, "e": {"f": "x"}}, "g": fraction});
    let b = accept(layer(json!({"name": "s", "static_layer": values})));
    let layers = b.layered_runtime.unwrap().layers;
    let want = json!({"a.b": 1, "c.d": true, "c.e.f": "x", "g": fraction});
    let runtime::LayerSpecifier::Static(flat) = &layers[0].specifier else { panic!("{layers:?}") };
    assert_eq!(&Value::Object(flat.clone()), &want);
    let error = refuse(layer(json!({"name": "s", "static_layer": {"a": {"b": null}}})));
    assert_eq!(
        error,
        "layered_runtime.layers[0].static_layer[\"a\"][\"b\"]: Invalid runtime entry value for a.b"
    );
}

#[test]
fn files_are_read_by_extension_and_config_yaml_is_merged_over() {
    let dir = std::env::temp_dir().join(format!("legate-config-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("a.json");
    std::fs::write(&file, base().to_string()).unwrap();
    let path = file.to_str().unwrap();
    let b = load_bootstrap(Some(path), Some("node: {id: other}"), UnknownFields::Reject, &LINKED).unwrap();
    assert_eq!((b.node.id.as_str(), b.node.cluster.as_str()), ("other", "c"));
    std::fs::write(&file, "node: {id: x}").unwrap();
    let error = load_bootstrap(Some(path), None, UnknownFields::Reject, &LINKED).unwrap_err();
    assert!(error.to_string().starts_with("Unable to parse JSON"), "{error}");
    std::fs::remove_dir_all(&dir).unwrap();
    let error = load_bootstrap(Some(path), None, UnknownFields::Reject, &LINKED).unwrap_err();
    assert_eq!(error.to_string(), format!("Invalid path: {path}"));
    let error = load_bootstrap(Some(""), None, UnknownFields::Reject, &LINKED).unwrap_err();
    assert!(error.to_string().starts_with("At least one of --config-path"));
}

#[test]
fn watchdogs_for_each_kind_of_threads_or_one_for_all() {
    let default = accept(base()).watchdogs;
    assert_eq!(default.main_thread_watchdog, default.worker_watchdog);
    assert_eq!(default.worker_watchdog.miss_timeout, Duration::from_millis(200));
    assert_eq!(default.worker_watchdog.kill_timeout, Duration::ZERO);
    let limits = json!({
        "miss_timeout": "0.1s", "megamiss_timeout": "2s", "kill_timeout": "3s", "multikill_timeout": "4s",
        "max_kill_timeout_jitter": "5s", "multikill_threshold": {"value": 30},
    });
    let each = accept(with("", "watchdogs", json!({"worker_watchdog": limits}))).watchdogs;
    assert_eq!(each.main_thread_watchdog, default.main_thread_watchdog);
    assert_eq!(each.worker_watchdog.max_kill_timeout_jitter, Duration::from_secs(5));
    assert_eq!(each.worker_watchdog.multikill_threshold.value, 30.0);
    let all = accept(with("", "watchdog", limits.clone())).watchdogs;
    assert_eq!(
        (&all.main_thread_watchdog, &all.worker_watchdog),
        (&each.worker_watchdog, &each.worker_watchdog)
    );
    let mut both = with("", "watchdog", limits);
    both["watchdogs"] = json!({});
    assert!(refuse(both).contains("Only one of watchdog or watchdogs should be set!"));
    let action = json!({"event": "MISS", "config": {"name": "envoy.watchdog.abort_action"}});
    let refused = refuse(with("", "watchdogs", json!({"main_thread_watchdog": {"actions": [action]}})));
    assert!(refused.starts_with("watchdogs.main_thread_watchdog.actions: "), "{refused}");
    let refused = refuse(with("", "watchdog", json!({"multikill_threshold": {"value": 101}})));
    assert!(refused.starts_with("watchdog.multikill_threshold.value: "), "{refused}");
}

#[test]
fn extensions_are_named_by_type_by_name_or_by_an_enum() {
    let config = |name: &str| json!({"@type": format!("type.googleapis.com/{name}")});
    let lb = |name: &str| json!({"typed_extension_config": {"name": "x", "typed_config": config(name)}});
    let round_robin = "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin";
    let raw_buffer = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
    let plain = json!({"name": "x", "typed_config": config(raw_buffer)});
    let unknown = json!({"name": "x", "typed_config": config("a.B")});
    let chain = &format!("{LISTENER}/filter_chains/0");
    for document in [
        with(CLUSTER, "cluster_type", json!({"name": "envoy.cluster.static"})),
        with(CLUSTER, "load_balancing_policy", json!({"policies": [lb("a.B"), lb(round_robin)]})),
        with(CLUSTER, "transport_socket", plain.clone()),
        with(chain, "transport_socket", plain),
    ] {
        accept(document);
    }
    let cluster = "static_resources.clusters[0]";
    let known = |tls: &str| {
        format!(
            "unknown or unsupported type 'a.B', supported here: {raw_buffer}, envoy.extensions.transport_sockets.tls.v3.{tls}"
        )
    };
    for (document, want) in [
        (
            with(CLUSTER, "cluster_type", json!({"name": "a"})),
            format!("{cluster}.cluster_type: Didn't find a registered implementation for name: 'a'"),
        ),
        (
            with(CLUSTER, "cluster_type", unknown.clone()),
            format!(
                "{cluster}.cluster_type.typed_config.@type: unknown or unsupported type 'a.B', supported here: \
                 envoy.extensions.clusters.dns.v3.DnsCluster"
            ),
        ),
        (with(CLUSTER, "type", json!("EDS")), format!("{cluster}.type: EDS is not supported yet")),
        (
            with(CLUSTER, "load_balancing_policy", json!({"policies": [lb("a.B")]})),
            format!(
                "{cluster}.load_balancing_policy.policies: cluster: didn't find a registered load balancer factory \
                 implementation for cluster: 'c1' with names from [x]"
            ),
        ),
        (
            with(CLUSTER, "transport_socket", unknown.clone()),
            format!("{cluster}.transport_socket.typed_config.@type: {}", known("UpstreamTlsContext")),
        ),
        (
            with(chain, "transport_socket", unknown),
            format!(
                "static_resources.listeners[0].filter_chains[0].transport_socket.typed_config.@type: {}",
                known("DownstreamTlsContext")
            ),
        ),
    ] {
        assert_eq!(refuse(document), want);
    }
}
