//! Access logs: formats, and which requests are logged.

use crate::harness::{Case, Kind, PATIENCE, Site, Wire, new_directory, proxies};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// A log in the file `name`.
fn log(directory: &Path, name: &str, format: &Value, filter: Option<&Value>) -> Value {
    let mut log = json!({"name": name, "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": directory.join(name).to_string_lossy(),
        "log_format": format,
    }});
    if let Some(filter) = filter {
        log["filter"] = filter.clone();
    }
    log
}

/// What each of the logs has when a proxy with them has answered the requests and ended.
fn logged(kind: Kind, logs: &dyn Fn(&Path) -> Vec<Value>, names: &[&str], requests: &[&str]) -> Vec<String> {
    let directory = new_directory(kind);
    let case = Case::new("logs").hcm(json!({"access_log": logs(&directory)}));
    let mut site = Site::start(kind, &[&case]);
    for request in requests {
        let mut client = Wire::connect(site.port(0));
        client.send(format!("GET {request}connection: close\r\nhost: a\r\n\r\n"));
        assert!(!client.rest().is_empty(), "{kind:?}: {request}");
    }
    site.proxy.signal(Signal::SIGTERM);
    let status = site.proxy.wait_for_exit(PATIENCE);
    assert_eq!(status.map(|s| s.code()), Some(Some(0)), "{kind:?}: {}", site.proxy.log());
    let read = |name: &&str| fs::read_to_string(directory.join(name)).expect("a log");
    let logs = names.iter().map(read).collect();
    let _ = fs::remove_dir_all(directory);
    logs
}

#[test]
fn json_formats() {
    let values = json!({
        "z": "%RESPONSE_CODE%", "a": "%PROTOCOL%", "null": null, "empty": {}, "list": [1, true, null, "x%%y", "%REQ(x-none)%"],
        "m": {"y": "%REQ(x-none)%", "b": "lit", "n": {"q": "%BYTES_SENT%"}}, "mix": "a %RESPONSE_CODE% %REQ(x-none)%",
        "flags": "%RESPONSE_FLAGS%", "long": "%RESPONSE_FLAGS_LONG%", "details": "%RESPONSE_CODE_DETAILS%",
        "cluster": "%UPSTREAM_CLUSTER%", "host": "%UPSTREAM_HOST%", "tries": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "type": "%ACCESS_LOG_TYPE%", "metadata": "%DYNAMIC_METADATA(a:b)%", "state": "%FILTER_STATE(a:PLAIN)%",
        "peer": "%DOWNSTREAM_PEER_SUBJECT%", "body": "%LOCAL_REPLY_BODY%",
    });
    let texts = json!({"plain": "%REQ(x-text)%", "utf-8": "%REQ(x-utf8)%", "k\"\n\u{e9}": "\t\\\u{1}\u{2028}", "cut": "%REQ(x-text):2%"});
    let numbers = json!([100, 100_000, 1.5, 0.0001, 1e21, -0.25, 123_456_789_012_345_678_u64, 0.001]);
    let logs = |directory: &Path| {
        let json = |pattern: &Value, omit: bool| json!({"json_format": pattern, "omit_empty_values": omit});
        let text = json!({"text_format_source": {"inline_string": "[%REQ(x-none)%|%RESPONSE_FLAGS%]\n"}, "omit_empty_values": true});
        vec![
            log(directory, "values", &json(&values, false), None),
            log(directory, "omitted", &json(&values, true), None),
            log(directory, "texts", &json(&texts, false), None),
            log(directory, "numbers", &json(&json!({"n": numbers}), false), None),
            log(directory, "text", &text, None),
        ]
    };
    let requests =
        ["/direct HTTP/1.1\r\nx-text: a\"b\\c\r\nx-utf8: \u{e9}\u{2028}\r\n", "/nohosts HTTP/1.1\r\n"];
    for kind in proxies() {
        let found = logged(kind, &logs, &["values", "omitted", "texts", "numbers", "text"], &requests);
        let expected = [
            concat!(
                r#"{"a":"HTTP/1.1","body":"","cluster":null,"details":"direct_response","empty":{},"flags":"-","host":null,"#,
                r#""list":[1,true,null,"x%y",null],"long":"-","m":{"b":"lit","n":{"q":6},"y":null},"metadata":null,"#,
                r#""mix":"a 200 -","null":null,"peer":null,"state":null,"tries":0,"type":"DownstreamEnd","z":200}"#,
                "\n",
                r#"{"a":"HTTP/1.1","body":"","cluster":"nohosts","details":"no_healthy_upstream","empty":{},"flags":"UH","#,
                r#""host":null,"list":[1,true,null,"x%y",null],"long":"NoHealthyUpstream","m":{"b":"lit","n":{"q":19},"y":null},"#,
                r#""metadata":null,"mix":"a 503 -","null":null,"peer":null,"state":null,"tries":1,"type":"DownstreamEnd","z":503}"#,
                "\n",
            ),
            concat!(
                r#"{"a":"HTTP/1.1","body":"","details":"direct_response","flags":"-","list":[1,true,"x%y"],"long":"-","#,
                r#""m":{"b":"lit","n":{"q":6}},"mix":"a 200 ","tries":0,"type":"DownstreamEnd","z":200}"#,
                "\n",
                r#"{"a":"HTTP/1.1","body":"","cluster":"nohosts","details":"no_healthy_upstream","flags":"UH","#,
                r#""list":[1,true,"x%y"],"long":"NoHealthyUpstream","m":{"b":"lit","n":{"q":19}},"mix":"a 503 ","tries":1,"#,
                r#""type":"DownstreamEnd","z":503}"#,
                "\n",
            ),
            concat!(
                r#"{"cut":"a\"","k\"\n"#,
                "\u{e9}",
                r#"":"\t\\\u0001"#,
                "\u{2028}",
                r#"","plain":"a\"b\\c","utf-8":""#,
                "\u{e9}\u{2028}\"}\n",
                r#"{"cut":null,"k\"\n"#,
                "\u{e9}",
                r#"":"\t\\\u0001"#,
                "\u{2028}",
                r#"","plain":null,"utf-8":null}"#,
                "\n",
            ),
            &"{\"n\":[100,1e+05,1.5,1e-04,1e+21,-0.25,123456789012345680,0.001]}\n".repeat(2),
            "[|-]\n[|UH]\n",
        ];
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found, expected, "{kind:?}");
        }
    }
}

#[test]
fn filters() {
    let compare = |op: &str, value: u32| json!({"comparison": {"op": op, "value": {"default_value": value, "runtime_key": "k"}}});
    let header = |mut matcher: Value| {
        matcher["name"] = json!("x-a");
        json!({"header_filter": {"header": matcher}})
    };
    let share = |numerator: u32| json!({"runtime_filter": {"runtime_key": "k", "percent_sampled": {"numerator": numerator}}});
    let yes = json!({"not_health_check_filter": {}});
    let no = json!({"traceable_filter": {}});
    // Which of the three requests are logged.
    let filters = [
        (json!({"status_code_filter": compare("GE", 500)}), ".ef"),
        (json!({"status_code_filter": compare("EQ", 500)}), ".e."),
        (json!({"status_code_filter": compare("NE", 500)}), "d.f"),
        (json!({"status_code_filter": compare("LE", 499)}), "d.."),
        (json!({"duration_filter": compare("GE", 60_000)}), "..."),
        (json!({"duration_filter": compare("LE", 60_000)}), "def"),
        (yes.clone(), "def"),
        (no.clone(), "..."),
        (share(0), "..."),
        (share(100), "def"),
        (json!({"and_filter": {"filters": [yes, {"status_code_filter": compare("GE", 501)}]}}), "..f"),
        (json!({"or_filter": {"filters": [no, {"status_code_filter": compare("LE", 200)}]}}), "d.."),
        (json!({"response_flag_filter": {}}), "..f"),
        (json!({"response_flag_filter": {"flags": ["NR", "UH"]}}), "..f"),
        (json!({"response_flag_filter": {"flags": ["NR"]}}), "..."),
        (json!({"grpc_status_filter": {"statuses": ["UNKNOWN"]}}), "de."),
        (json!({"grpc_status_filter": {"statuses": ["OK", "UNAVAILABLE"]}}), "..f"),
        (json!({"grpc_status_filter": {"statuses": ["UNAVAILABLE"], "exclude": true}}), "de."),
        (json!({"grpc_status_filter": {"exclude": true}}), "def"),
        (json!({"log_type_filter": {"types": ["DownstreamEnd"]}}), "def"),
        (json!({"log_type_filter": {"types": ["DownstreamEnd"], "exclude": true}}), "..."),
        (json!({"log_type_filter": {"types": ["TcpConnectionEnd"], "exclude": true}}), "def"),
        (header(json!({})), "de."),
        (header(json!({"present_match": false})), "..f"),
        (header(json!({"present_match": true, "invert_match": true})), "..f"),
        (header(json!({"present_match": true, "treat_missing_header_as_empty": true})), "def"),
        (header(json!({"string_match": {"exact": "Abc"}})), "d.."),
        (header(json!({"string_match": {"exact": "aBC", "ignore_case": true}})), "d.."),
        (header(json!({"string_match": {"contains": "b"}})), "d.."),
        (header(json!({"string_match": {"suffix": "bc"}, "invert_match": true})), ".e."),
        (
            header(
                json!({"string_match": {"prefix": "A"}, "invert_match": true, "treat_missing_header_as_empty": true}),
            ),
            ".ef",
        ),
        (header(json!({"exact_match": "2"})), ".e."),
        (header(json!({"exact_match": ""})), "de."),
        (header(json!({"exact_match": "", "invert_match": true})), "..."),
        (header(json!({"string_match": {"exact": ""}})), "..."),
        (header(json!({"string_match": {"prefix": "aB", "ignore_case": true}})), "d.."),
        (header(json!({"string_match": {"suffix": "C", "ignore_case": true}})), "d.."),
        (header(json!({"string_match": {"contains": "BC", "ignore_case": true}})), "d.."),
        (header(json!({"string_match": {"exact": "1,2"}})), "..."),
        (header(json!({"range_match": {"start": 2, "end": 10}})), ".e."),
        (header(json!({"range_match": {"start": 2, "end": 10}, "invert_match": true})), "d.."),
    ];
    let names: Vec<String> = (0..filters.len()).map(|i| format!("{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let format = json!({"text_format_source": {"inline_string": "%REQ(x-name)%"}});
    let logs = |directory: &Path| {
        let log = |(name, (filter, _)): (&&str, &(Value, &str))| log(directory, name, &format, Some(filter));
        names.iter().zip(&filters).map(log).collect()
    };
    let requests = [
        "/direct HTTP/1.1\r\nx-name: d\r\nx-a: Abc\r\nx-envoy-force-trace: true\r\n",
        "/direct/500 HTTP/1.1\r\nx-name: e\r\nx-a: 1\r\nx-a: 2\r\n",
        "/nohosts HTTP/1.1\r\nx-name: f\r\n",
    ];
    for kind in proxies() {
        let found = logged(kind, &logs, &names, &requests);
        for ((filter, expected), found) in filters.iter().zip(found) {
            assert_eq!(found, expected.replace('.', ""), "{kind:?}: {filter}");
        }
    }
}
