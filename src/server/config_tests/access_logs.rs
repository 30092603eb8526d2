//! Access logs: files, formats and filters.

use std::sync::Arc;

use super::*;
use crate::access_log::FileAccessLogConfig;
use crate::formatter::Formatter;

#[test]
fn files_and_their_formats() {
    let prefix = "type.googleapis.com/envoy.extensions.access_loggers";
    let file = |mut fields: Value| {
        fields["@type"] = json!(format!("{prefix}.file.v3.FileAccessLog"));
        with(MANAGER, "access_log", json!([{"name": "f", "typed_config": fields}]))
    };
    let format = json!({"text_format_source": {"inline_string": "x"}});
    let b = accept(file(json!({"path": "/dev/null", "log_format": format})));
    let log = &manager(&b).access_log[0];
    let formatter = Arc::new(Formatter::new("x").unwrap());
    let want = FileAccessLogConfig { formatter, ..FileAccessLogConfig::file("/dev/null") };
    assert_eq!(log.typed_config, AccessLog::of("envoy.access_loggers.file", want).typed_config);
    let both = json!({"path": "/dev/null", "format": "y", "log_format": format});
    let path = format!("{HCM}.access_log[0].typed_config");
    assert_eq!(refuse(file(both)), format!("{path}: only one of 'format' and 'log_format' may be set"));
    assert_eq!(refuse(file(json!({}))), format!("{path}.path: value length must be at least 1 characters"));
    for (format, want) in [
        (
            json!({"text_format": "%A"}),
            "text_format: Incorrect configuration: %A. Couldn't find valid command at position 0",
        ),
        (
            json!({"text_format_source": {"inline_string": "%A%"}}),
            "text_format_source.inline_string: Not supported field in StreamInfo: A",
        ),
        (
            json!({"json_format": {"a": {"b": ["x", "%REQ%"]}}}),
            "json_format[\"a\"][\"b\"][1]: REQ requires parameters",
        ),
        (json!({"json_format": []}), "json_format: expected an object"),
        (
            json!({"json_format": {}, "text_format": ""}),
            ": only one of 'text_format' and 'json_format' may be set",
        ),
        (
            json!({"json_format": {}, "formatters": [{"name": "m", "typed_config": {"@type": "x/envoy.extensions.formatter.metadata.v3.Metadata"}}]}),
            "formatters[0].typed_config.@type: envoy.formatter.metadata is not supported yet: type \
             'envoy.extensions.formatter.metadata.v3.Metadata', supported here: \
             envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery",
        ),
    ] {
        let dot = if want.starts_with(':') { "" } else { "." };
        let want = format!("{path}.log_format{dot}{want}");
        assert_eq!(refuse(file(json!({"path": "/dev/null", "log_format": format}))), want);
    }
    for format in [
        json!({"json_format": {"a": "%PROTOCOL%"}, "json_format_options": {"sort_properties": true}, "content_type": "x"}),
        json!({"text_format_source": {"inline_string": ""}, "omit_empty_values": true}),
    ] {
        accept(file(json!({"path": "/dev/null", "log_format": format})));
    }
}

#[test]
fn filters() {
    let log = json!({"@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": "/dev/null"});
    let with_filter = |filter: Value| {
        with(MANAGER, "access_log", json!([{"name": "f", "filter": filter, "typed_config": log}]))
    };
    let path = format!("{HCM}.access_log[0].filter");
    let no = json!({"traceable_filter": {}});
    for (filter, want) in [
        (json!({}), ".filter_specifier: is required (one of "),
        (json!({"duration_filter": {}}), ".duration_filter.comparison: value is required"),
        (
            json!({"status_code_filter": {"comparison": {"op": "GT", "value": {"default_value": 1, "runtime_key": "k"}}}}),
            ".status_code_filter.comparison.op: unknown value \"GT\", expected one of EQ, GE, LE, NE",
        ),
        (
            json!({"status_code_filter": {"comparison": {"op": "GE"}}}),
            ".status_code_filter.comparison.value: value is required",
        ),
        (
            json!({"runtime_filter": {}}),
            ".runtime_filter.runtime_key: value length must be at least 1 characters",
        ),
        (
            json!({"and_filter": {"filters": [no]}}),
            ".and_filter.filters: value must contain at least 2 item(s)",
        ),
        (
            json!({"or_filter": {"filters": [no, {"header_filter": {}}]}}),
            ".or_filter.filters[1].header_filter.header: value is required",
        ),
        (
            json!({"header_filter": {"header": {"name": "x", "safe_regex_match": {"regex": "("}}}}),
            ".header_filter.header.safe_regex_match.regex: missing ): (",
        ),
        (
            json!({"header_filter": {"header": {"name": "x", "string_match": {"safe_regex": {"regex": "["}}}}}),
            ".header_filter.header.string_match.safe_regex.regex: missing ]: [",
        ),
        (
            json!({"response_flag_filter": {"flags": ["UH", "XX"]}}),
            ".response_flag_filter.flags[1]: value must be in list [LH UH UT ",
        ),
        (
            json!({"log_type_filter": {"types": ["X"]}}),
            ".log_type_filter.types[0]: unknown value \"X\", expected one of NotSet, ",
        ),
        (
            json!({"grpc_status_filter": {"statuses": ["OK", 17]}}),
            ".grpc_status_filter.statuses[1]: value must be one of the defined enum values: OK, CANCELED, ",
        ),
        (
            json!({"extension_filter": {"name": "x", "typed_config": {"@type": "x/a.B"}}}),
            ".extension_filter.typed_config.@type: unknown or unsupported type 'a.B', supported here: none",
        ),
        (
            json!({"traceable_filter": {}, "not_health_check_filter": {}}),
            ": only one of 'not_health_check_filter' and 'traceable_filter' may be set",
        ),
    ] {
        let error = refuse(with_filter(filter));
        assert!(error.starts_with(&format!("{path}{want}")), "{error}");
    }
    accept(with_filter(json!({"or_filter": {"filters": [no, no]}})));
}
