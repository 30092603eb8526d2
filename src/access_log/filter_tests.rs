//! Which streams filters take.

use std::time::Duration;

use serde_json::{Value, json};

use super::filter::from_config;
use super::*;
use crate::config::access_log::AccessLogType;
use crate::config::access_log_filter::AccessLogFilter;
use crate::config::reader::{MessageReader, ParseContext};
use crate::config::{NoExtensions, UnknownFields};
use crate::http::HeaderMap;
use crate::stream_info::{ResponseFlag, StreamInfoImpl};

fn filter(config: &Value) -> FilterPtr {
    let context = ParseContext::new(UnknownFields::Reject, &NoExtensions);
    let reader =
        MessageReader::new(&context, "envoy.config.accesslog.v3.AccessLogFilter", config, String::new());
    let config: Result<AccessLogFilter, _> = reader.unwrap().read();
    from_config(&config.unwrap_or_else(|_| panic!("{:?}", context.into_skipped()))).unwrap()
}

/// What a stream was like: status, milliseconds, flags, and fields of its request.
struct Stream(Option<u16>, u64, &'static [ResponseFlag], &'static [(&'static str, &'static str)]);

const PLAIN: Stream = Stream(Some(200), 5, &[], &[]);

fn takes(filter: &FilterPtr, stream: &Stream) -> bool {
    let info = StreamInfoImpl::new();
    info.response_code.set(stream.0);
    info.request_complete.set(Some(info.start_time_monotonic() + Duration::from_millis(stream.1)));
    stream.2.iter().for_each(|flag| info.set_response_flag(*flag));
    let mut headers = HeaderMap::new();
    stream.3.iter().for_each(|(name, value)| headers.add(name, value.as_bytes()));
    let log_type = AccessLogType::DownstreamEnd;
    filter.evaluate(&LogContext { request_headers: Some(&headers), log_type, ..LogContext::new(&info) })
}

fn check(config: &Value, stream: &Stream, expected: bool) {
    assert_eq!(takes(&filter(config), stream), expected, "{config}");
}

fn comparison(op: &str, value: u32) -> Value {
    json!({"comparison": {"op": op, "value": {"default_value": value, "runtime_key": "k"}}})
}

#[test]
fn by_status_and_by_duration() {
    for (op, status, expected) in [
        ("GE", 200, true),
        ("GE", 201, false),
        ("LE", 200, true),
        ("LE", 199, false),
        ("EQ", 200, true),
        ("EQ", 201, false),
        ("NE", 200, false),
        ("NE", 201, true),
    ] {
        check(&json!({"status_code_filter": comparison(op, status)}), &PLAIN, expected);
    }
    check(&json!({"status_code_filter": comparison("EQ", 0)}), &Stream(None, 0, &[], &[]), true);
    check(&json!({"duration_filter": comparison("GE", 5)}), &PLAIN, true);
    check(&json!({"duration_filter": comparison("GE", 6)}), &PLAIN, false);
}

#[test]
fn by_flags_and_by_moments() {
    const FAILED: Stream = Stream(Some(503), 0, &[ResponseFlag::NoHealthyUpstream], &[]);
    let flags = |flags: Value| json!({"response_flag_filter": {"flags": flags}});
    check(&flags(json!(["NR", "UH"])), &FAILED, true);
    check(&flags(json!(["NR"])), &FAILED, false);
    check(&flags(json!([])), &FAILED, true);
    check(&flags(json!([])), &PLAIN, false);
    let types =
        |types: Value, exclude: bool| json!({"log_type_filter": {"types": types, "exclude": exclude}});
    check(&types(json!(["TcpPeriodic", "DownstreamEnd"]), false), &PLAIN, true);
    check(&types(json!(["TcpPeriodic", "DownstreamEnd"]), true), &PLAIN, false);
    check(&types(json!([]), true), &PLAIN, true);
}

#[test]
fn several_together() {
    let yes = json!({"not_health_check_filter": {}});
    let no = json!({"traceable_filter": {}});
    check(&json!({"and_filter": {"filters": [yes, yes]}}), &PLAIN, true);
    check(&json!({"and_filter": {"filters": [yes, no]}}), &PLAIN, false);
    check(&json!({"or_filter": {"filters": [no, yes]}}), &PLAIN, true);
    check(&json!({"or_filter": {"filters": [no, no]}}), &PLAIN, false);
}

#[test]
fn a_share_by_the_id_of_the_request() {
    let share = |numerator: u32| json!({"runtime_filter": {"runtime_key": "k", "percent_sampled": {"numerator": numerator}}});
    // 0x2b is 43.
    let stream = Stream(None, 0, &[], &[("x-request-id", "0000002b-0000-4000-8000-000000000000")]);
    check(&share(43), &stream, false);
    check(&share(44), &stream, true);
    check(&share(0), &PLAIN, false);
    check(&share(100), &PLAIN, true);
}

#[test]
fn by_a_header() {
    const STREAM: Stream =
        Stream(None, 0, &[], &[("x-a", "Abc"), ("x-n", "-7"), ("x-two", "1"), ("x-two", "2"), ("x-e", "")]);
    let string = |kind: &str, text: &str| json!({"string_match": {kind: text}});
    let of = |name: &str, mut matcher: Value, invert: bool, as_empty: bool| {
        matcher["name"] = json!(name);
        matcher["invert_match"] = json!(invert);
        matcher["treat_missing_header_as_empty"] = json!(as_empty);
        json!({"header_filter": {"header": matcher}})
    };
    for (name, matcher, expected) in [
        ("X-A", json!({}), true),
        ("x-none", json!({}), false),
        ("x-e", json!({"present_match": true}), true),
        ("x-none", json!({"present_match": false}), true),
        ("x-a", string("exact", "Abc"), true),
        ("x-a", string("exact", "abc"), false),
        ("x-a", json!({"string_match": {"exact": "aBC", "ignore_case": true}}), true),
        ("x-a", string("prefix", "Ab"), true),
        ("x-a", string("suffix", "bc"), true),
        ("x-a", string("suffix", "b"), false),
        ("x-a", string("contains", "b"), true),
        ("x-a", json!({"prefix_match": "A"}), true),
        ("x-two", string("exact", "1,2"), false),
        ("x-two", string("exact", "2"), true),
        ("x-n", json!({"range_match": {"start": -7, "end": 0}}), true),
        ("x-n", json!({"range_match": {"start": -10, "end": -7}}), false),
        ("x-a", json!({"range_match": {"start": -10, "end": 10}}), false),
    ] {
        check(&of(name, matcher.clone(), false, false), &STREAM, expected);
        check(&of(name, matcher, true, false), &STREAM, !expected);
    }
    // What is absent matches nothing, however it is asked.
    let other = string("exact", "x");
    check(&of("x-none", other.clone(), false, false), &STREAM, false);
    check(&of("x-none", other.clone(), true, false), &STREAM, false);
    check(&of("x-none", other, true, true), &STREAM, true);
    check(&of("x-none", json!({}), false, true), &STREAM, true);
    check(&of("x-none", json!({"present_match": false}), false, true), &STREAM, false);
}
