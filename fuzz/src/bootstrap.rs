//! The configuration of [`super::world`]: connection managers with different options, one route to a cluster
//! with one host, and one that answers by itself.

use serde_json::{Value, json};

/// The connection managers that a run may choose from.
pub const MANAGERS: usize = 4;

/// The bootstrap.
pub fn bootstrap() -> Value {
    let variants: [Value; MANAGERS] = [
        json!({}),
        json!({
            "http_protocol_options": {
                "accept_http_10": true, "default_host_for_http_10": "default.test", "enable_trailers": true,
                "allow_chunked_length": true,
            },
            "normalize_path": true, "merge_slashes": true, "strip_any_host_port": true,
            "use_remote_address": true, "via": "legate", "proxy_100_continue": true,
            "stream_error_on_invalid_http_message": true,
        }),
        json!({
            "common_http_protocol_options": {
                "headers_with_underscores_action": "REJECT_REQUEST", "max_requests_per_connection": 3,
            },
            "http_protocol_options": { "allow_absolute_url": false, "enable_trailers": true },
            "max_request_headers_kb": 1, "delayed_close_timeout": "0s", "xff_num_trusted_hops": 1,
            "use_remote_address": true,
            "internal_address_config": { "cidr_ranges": [{ "address_prefix": "127.0.0.0", "prefix_len": 8 }] },
        }),
        json!({
            "common_http_protocol_options": {
                "headers_with_underscores_action": "DROP_HEADER", "max_headers_count": 8,
            },
            "http_protocol_options": { "accept_http_10": true, "enable_trailers": true },
            "server_header_transformation": "PASS_THROUGH", "skip_xff_append": true,
            "always_set_request_id_in_response": true, "preserve_external_request_id": true,
        }),
    ];
    let listeners: Vec<Value> =
        variants.iter().enumerate().map(|(i, variant)| listener(i, variant)).collect();
    json!({ "static_resources": {
        "listeners": listeners,
        "clusters": [{
            "name": "upstream",
            "per_connection_buffer_limit_bytes": 300,
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": { "http_protocol_options": { "enable_trailers": true } },
                },
            },
            "load_assignment": { "cluster_name": "upstream", "endpoints": [{ "lb_endpoints": [
                { "endpoint": { "address": socket_address(1) } },
            ]}]},
        }],
    }})
}

fn socket_address(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}

fn listener(index: usize, variant: &Value) -> Value {
    let route = json!({ "cluster": "upstream", "timeout": "0s" });
    let mut hcm = json!({
        // Longer than a busy machine may keep a run waiting, which must not change what comes of it.
        "delayed_close_timeout": "3600s",
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.\
            HttpConnectionManager",
        "stat_prefix": format!("fuzz{index}"),
        "generate_request_id": false,
        "stream_idle_timeout": "0s",
        "common_http_protocol_options": { "idle_timeout": "0s" },
        "route_config": { "name": "routes", "virtual_hosts": [
            { "name": "none", "domains": ["none.test", "*.none.test"] },
            { "name": "all", "domains": ["*"], "routes": [
                { "match": { "path": "/direct" }, "direct_response": { "status": 201, "body": {
                    "inline_string": "direct" } } },
                { "match": { "prefix": "/" }, "route": route },
            ]},
        ]},
        "http_filters": [{ "name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }],
    });
    for (name, value) in variant.as_object().into_iter().flatten() {
        match (hcm[name].as_object_mut(), value.as_object()) {
            (Some(old), Some(new)) => old.extend(new.clone()),
            _ => hcm[name] = value.clone(),
        }
    }
    json!({
        "name": format!("fuzz{index}"),
        "address": socket_address(1),
        "filter_chains": [{ "filters": [
            { "name": "envoy.filters.network.http_connection_manager", "typed_config": hcm },
        ]}],
    })
}
