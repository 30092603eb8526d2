//! What a configuration may say of health checks.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::health_check::{HealthCheck, HealthCheckKind, HttpHealthCheck, Payload, StatusRange};
use crate::config::{UnknownFields, parse_bootstrap};
use crate::upstream::test_support::OfThisFloor;

fn read(mut check: Value) -> Result<HealthCheck, Vec<String>> {
    for (name, value) in [("timeout", json!("1s")), ("interval", json!("5s"))] {
        check[name] = value;
    }
    check["unhealthy_threshold"] = json!(2);
    check["healthy_threshold"] = json!(3);
    let raw = json!({ "static_resources": { "clusters": [{ "name": "a", "health_checks": [check] }] } });
    let read = parse_bootstrap(raw, UnknownFields::default(), &OfThisFloor);
    read.map(|b| b.static_resources.clusters[0].health_checks[0].clone())
        .map_err(|found| found.all().iter().map(ToString::to_string).collect())
}

fn http(fields: Value) -> Result<HttpHealthCheck, Vec<String>> {
    let mut check = json!({ "path": "/" });
    check.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    match read(json!({ "http_health_check": check }))?.health_checker {
        HealthCheckKind::Http(check) => Ok(*check),
        HealthCheckKind::Tcp(_) => unreachable!(),
    }
}

#[test]
fn intervals_that_are_absent_are_as_long_as_others() {
    let check = read(json!({ "tcp_health_check": {} })).unwrap();
    let s = Duration::from_secs;
    assert_eq!((check.unhealthy_interval(), check.healthy_edge_interval()), (s(5), s(5)));
    assert_eq!((check.no_traffic_interval, check.no_traffic_healthy_interval()), (s(60), s(60)));
    let check = read(json!({
        "tcp_health_check": {}, "unhealthy_interval": "7s", "no_traffic_interval": "8s",
    }));
    let check = check.unwrap();
    assert_eq!((check.unhealthy_edge_interval(), check.no_traffic_healthy_interval()), (s(7), s(8)));
    assert!(check.reuse_connection && !check.always_log_health_check_failures);
}

#[test]
fn payloads_are_digits_or_base64() {
    let receive = json!([{ "text": "00fFa1" }, { "binary": "//4=" }, { "binary": "__4" }, { "binary": "" }]);
    let check = http(json!({ "receive": receive, "method": "POST", "send": { "text": "41" } })).unwrap();
    let bytes: Vec<&[u8]> = check.receive.iter().map(|p| &*p.0).collect();
    assert_eq!(bytes, [&[0, 0xff, 0xa1][..], &[0xff, 0xfe], &[0xff, 0xfe], &[]]);
    assert_eq!((check.method.as_str(), check.send), ("POST", Some(Payload([0x41].into()))));
    for text in ["0", "0g", "abc"] {
        let error = http(json!({ "receive": [{ "text": text }] })).unwrap_err();
        assert!(error[0].ends_with(&format!("invalid hex string '{text}'")), "{error:?}");
    }
    assert!(http(json!({ "receive": [{ "binary": "?" }] })).is_err());
}

#[test]
fn statuses_are_in_order() {
    let range = |start: i64, end: i64| json!([{ "start": start, "end": end }]);
    let check = http(json!({ "expected_statuses": range(100, 600) })).unwrap();
    assert_eq!(check.expected_statuses, [StatusRange { start: 100, end: 600 }]);
    for (start, end, message) in [
        (200, 200, "expecting start < end, but found start=200 and end=200"),
        (99, 200, "expecting start >= 100, but found start=99"),
        (200, 601, "expecting end <= 600, but found end=601"),
        (-5, 200, "expecting start < end, but found start=18446744073709551611 and end=200"),
    ] {
        let errors = http(json!({ "retriable_statuses": range(start, end) })).unwrap_err();
        assert!(
            errors[0].ends_with(&format!("Invalid http retriable status range: {message}")),
            "{errors:?}"
        );
        assert!(errors[0].contains("http_health_check.retriable_statuses[0]"), "{errors:?}");
    }
}

#[test]
fn what_cannot_be_is_refused_by_its_path() {
    for (fields, path) in [
        (json!({ "http_health_check": { "path": "/", "codec_client_type": "HTTP2" } }), "codec_client_type"),
        (json!({ "http_health_check": { "path": "/", "use_alpn_protocol": true } }), "use_alpn_protocol"),
        (json!({ "http_health_check": { "path": "/", "send": { "text": "00" } } }), "http_health_check.send"),
        (json!({ "grpc_health_check": {} }), "health_checks[0].grpc_health_check"),
        (json!({ "custom_health_check": { "name": "a" } }), "health_checks[0].custom_health_check"),
        (json!({ "tcp_health_check": {}, "tls_options": {} }), "tls_options"),
        (
            json!({ "tcp_health_check": {}, "transport_socket_match_criteria": {} }),
            "transport_socket_match_criteria",
        ),
        (json!({ "tcp_health_check": { "receive": [{}] } }), "receive[0]"),
        (json!({}), "health_checks[0]"),
    ] {
        let errors = read(fields).unwrap_err();
        assert!(errors.len() == 1 && errors[0].contains(path), "{path}: {errors:?}");
    }
}
