//! Which streams filters take.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::filter::from_config;
use super::*;
use crate::cluster_manager::{ClusterManagerImpl, LocalInfo};
use crate::config::access_log::AccessLogType;
use crate::config::access_log_filter::AccessLogFilter;
use crate::config::reader::{MessageReader, ParseContext};
use crate::config::runtime::{LayerSpecifier, LayeredRuntime, RuntimeLayer};
use crate::config::{NoExtensions, UnknownFields};
use crate::event::Dispatcher;
use crate::http::HeaderMap;
use crate::runtime::LoaderImpl;
use crate::stats::Store;
use crate::stream_info::{ResponseFlag, StreamInfoImpl};
use crate::thread_local;

/// What filters are made with.
struct Settings {
    runtime: Rc<LoaderImpl>,
    clusters: Rc<ClusterManagerImpl>,
    files: Arc<AccessLogManager>,
    stats: Arc<Store>,
}

impl Settings {
    /// With a layer of the runtime.
    fn new(values: Value) -> Self {
        thread_local::enter_thread(&Dispatcher::new("test"));
        let (stats, tls) = (Store::new(1), thread_local::InstanceImpl::new());
        let specifier = LayerSpecifier::Static(values.as_object().unwrap().clone());
        let layers = vec![RuntimeLayer { name: "static".to_string(), specifier }];
        let runtime = LoaderImpl::new(LayeredRuntime { layers }, "", &stats);
        let clusters =
            ClusterManagerImpl::new(&[], None, LocalInfo::default(), &stats, &tls, &runtime).unwrap();
        let files = AccessLogManager::new(&stats, Duration::from_secs(3600));
        Settings { runtime, clusters, files, stats }
    }

    fn filter(&self, config: &Value) -> FilterPtr {
        let context = ParseContext::new(UnknownFields::Reject, &NoExtensions);
        let reader =
            MessageReader::new(&context, "envoy.config.accesslog.v3.AccessLogFilter", config, String::new());
        let config: Result<AccessLogFilter, _> = reader.unwrap().read();
        let config = config.unwrap_or_else(|_| panic!("{:?}", context.into_skipped()));
        let context = AccessLogFactoryContext {
            access_log_manager: &self.files,
            runtime: &self.runtime,
            cluster_manager: &self.clusters.handle(),
            stats: &self.stats,
        };
        from_config(&config, &context).unwrap()
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        thread_local::shutdown_thread();
    }
}

fn filter(config: &Value) -> FilterPtr {
    Settings::new(json!({})).filter(config)
}

/// What a stream was like: status, milliseconds, flags, and fields of its request.
struct Stream(Option<u16>, u64, &'static [ResponseFlag], &'static [(&'static str, &'static str)]);

const PLAIN: Stream = Stream(Some(200), 5, &[], &[]);

fn takes(filter: &FilterPtr, stream: &Stream) -> bool {
    let info = StreamInfoImpl::new();
    info.response_code.set(stream.0);
    info.request_complete.set(Some(info.start_time_monotonic().after(Duration::from_millis(stream.1))));
    stream.2.iter().for_each(|flag| info.set_response_flag(*flag));
    let mut headers = HeaderMap::new();
    stream.3.iter().for_each(|(name, value)| headers.add(name, value.as_bytes()));
    let log_type = AccessLogType::DownstreamEnd;
    filter.evaluate(&LogContext { request_headers: Some(&headers), log_type, ..LogContext::new(&info) })
}

#[test]
fn by_what_filters_have_said() {
    let config = |not_found: Value| {
        json!({"metadata_filter": {"match_if_key_not_found": not_found,
            "matcher": {"filter": "f", "path": [{"key": "a"}], "value": {"bool_match": true}}}})
    };
    let said = |value: Option<Value>| {
        let info = StreamInfoImpl::new();
        if let Some(value) = value {
            info.set_dynamic_metadata("f", json!({"a": value}).as_object().unwrap().clone());
        }
        info
    };
    for (value, not_found, expected) in [
        (Some(json!(true)), json!(false), true),
        (Some(json!(false)), json!(true), false),
        (Some(json!("true")), json!(true), false),
        (None, json!(true), true),
        (None, json!(false), false),
        (None, json!(null), true),
    ] {
        let filter = filter(&config(not_found.clone()));
        let info = said(value.clone());
        assert_eq!(filter.evaluate(&LogContext::new(&info)), expected, "{value:?} {not_found}");
    }
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
fn by_the_status_of_grpc() {
    let info = StreamInfoImpl::new();
    let status = |statuses: &str, exclude: bool, code: u16, headers: Option<&str>, trailers: Option<&str>| {
        let config = json!({"grpc_status_filter": {"statuses": [statuses], "exclude": exclude}});
        info.response_code.set(Some(code));
        let map = |status: Option<&str>| {
            let mut map = HeaderMap::new();
            status.iter().for_each(|status| map.add("grpc-status", status.as_bytes()));
            map
        };
        let (headers, trailers) = (map(headers), map(trailers));
        let context = LogContext {
            response_headers: Some(&headers),
            response_trailers: Some(&trailers),
            ..LogContext::new(&info)
        };
        filter(&config).evaluate(&context)
    };
    assert!(status("OK", false, 200, Some("5"), Some("0")));
    assert!(status("NOT_FOUND", false, 200, Some("5"), None));
    assert!(status("PERMISSION_DENIED", false, 403, None, None));
    assert!(!status("PERMISSION_DENIED", true, 403, None, None));
    assert!(!status("UNKNOWN", false, 200, Some("x"), None));
    assert!(status("UNKNOWN", true, 200, Some("99"), None));
    assert!(status("UNKNOWN", false, 200, Some(""), None), "an empty one is none");
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
    check(&of("x-a", json!({"exact_match": ""}), false, false), &STREAM, true);
    // Of a stream without headers all are absent.
    let takes_none = |matcher, invert, as_empty| {
        let info = StreamInfoImpl::new();
        let context = LogContext { request_headers: None, ..LogContext::new(&info) };
        filter(&of("x-a", matcher, invert, as_empty)).evaluate(&context)
    };
    assert!(takes_none(json!({"present_match": false}), false, false));
    assert!(takes_none(json!({"present_match": true}), true, false));
    assert!(takes_none(string("exact", "x"), true, true));
    assert!(!takes_none(string("exact", "x"), true, false));
}

#[test]
fn the_runtime_has_other_numbers() {
    let settings = Settings::new(json!({"status": 300, "share": 44, "no share": {"numerator": 100}}));
    let status = |key: &str| json!({"status_code_filter": {"comparison": {"op": "GE", "value": {"default_value": 200, "runtime_key": key}}}});
    for (filter, expected) in
        [(status("status"), false), (status("other"), true), (status("no share"), true), (status(""), true)]
    {
        assert_eq!(takes(&settings.filter(&filter), &PLAIN), expected, "{filter}");
    }
    let share = |key: &str, numerator: u32, denominator: &str| {
        json!({"runtime_filter": {"runtime_key": key,
            "percent_sampled": {"numerator": numerator, "denominator": denominator}}})
    };
    let id = |id: &'static [(&'static str, &'static str)]| Stream(None, 0, &[], id);
    let inside = id(&[("x-request-id", "0000002b-0000-4000-8000-000000000000")]);
    let outside = id(&[("x-request-id", "0000002c-0000-4000-8000-000000000000")]);
    for (filter, expected) in [
        (share("share", 0, "HUNDRED"), (true, false)),
        (share("share", 10_000, "TEN_THOUSAND"), (true, false)),
        (share("no share", 0, "HUNDRED"), (false, false)),
        (share("status", 0, "HUNDRED"), (true, true)),
    ] {
        let built = settings.filter(&filter);
        assert_eq!((takes(&built, &inside), takes(&built, &outside)), expected, "{filter}");
    }
}
