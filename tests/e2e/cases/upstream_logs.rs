//! What the router logs of each try, beside what the connection manager logs of the request.

use super::retries::{bad, get, manager, policy, post, status, with_body};
use crate::harness::{ACCESS_LOG, Action, Pairs};
use serde_json::{Value, json};

const COMMANDS: &str = "%ACCESS_LOG_TYPE% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% \
    %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_HOST% %UPSTREAM_CLUSTER% %UPSTREAM_REMOTE_ADDRESS% \
    %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %ROUTE_NAME% \
    %UPSTREAM_REQUEST_ATTEMPT_COUNT% %UPSTREAM_TRANSPORT_FAILURE_REASON% %REQ(x-a)% %RESP(:status)% %RESP(x-r)% \
    %TRAILER(t)% %UPSTREAM_PROTOCOL% %METADATA(ROUTE:x:a)%\n";

fn kind(name: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{name}")
}

/// A router that logs tries where requests are logged.
fn logging(options: Value, filter: Value) -> Value {
    // A stream of the proxy's own has no id, and another one a new one each time.
    let format = format!("try %STREAM_ID% {COMMANDS}");
    let mut log = json!({"name": "file", "typed_config": {"@type": kind("access_loggers.file.v3.FileAccessLog"),
        "path": ACCESS_LOG, "log_format": {"text_format_source": {"inline_string": format}}}});
    if !filter.is_null() {
        log["filter"] = filter;
    }
    json!([{"name": "router", "typed_config": {"@type": kind("filters.http.router.v3.Router"),
        "upstream_log": [log], "upstream_log_options": options}}])
}

fn requests(route: Value, options: Value, filter: Value, lines: usize) -> Pairs {
    let mut hcm = manager(route, json!({}));
    hcm["http_filters"] = logging(options, filter);
    let last = json!({"name": "last", "metadata": {"filter_metadata": {"x": {"a": 1}}}});
    let routes = hcm["route_config"]["virtual_hosts"][0]["routes"].as_array_mut().unwrap();
    routes.last_mut().unwrap().as_object_mut().unwrap().extend(last.as_object().unwrap().clone());
    Pairs::new(hcm).log_format(&format!("request {COMMANDS}")).log_lines(lines)
}

fn never() -> Vec<Action> {
    vec![Action::Until(b"what never comes".to_vec())]
}

fn begun() -> Vec<Action> {
    vec![Action::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_vec()), Action::Close]
}

fn chunked() -> Vec<Action> {
    let head = "HTTP/1.1 200 OK\r\nx-r: 2\r\ntransfer-encoding: chunked\r\n\r\n";
    vec![Action::Send(format!("{head}3\r\nabc\r\n0\r\nt: 1\r\n\r\n").into())]
}

#[test]
fn tries() {
    let on_ready = json!({"flush_upstream_log_on_upstream_stream": true});
    let retried = policy(json!({"retry_on": "5xx,reset,connect-failure", "num_retries": 2}));
    requests(retried, on_ready, Value::Null, 44)
        .told(get("/", "x-a: 1\r\n"), [with_body("503"), chunked()])
        .told(get("/", ""), [status("503", "x-r: 1\r\n"), status("201", "x-r: 3\r\n")])
        .told(post(5), [vec![Action::Close], status("200", "")])
        .told(get("/", ""), [vec![Action::Close], vec![Action::Reset], vec![Action::Close]])
        .told(get("/", ""), [begun()])
        .told(get("/", ""), [vec![Action::Send(b"nonsense\r\n\r\n".to_vec())], status("200", "")])
        .told(get("/refused", ""), [])
        .told(get("/full", ""), [])
        .told(get("/nohosts", ""), [])
        .told(get("/", ""), bad(3))
        .run();
}

#[test]
fn tries_whose_time_is_over() {
    let retried = json!({"timeout": "0.6s",
        "retry_policy": {"retry_on": "5xx", "num_retries": 1, "per_try_timeout": "0.1s"}});
    requests(retried, json!({}), Value::Null, 8)
        .told(get("/", ""), [never(), status("200", "")])
        .told(get("/", ""), [never(), never()])
        .told(post(3), [status("204", "")])
        .run();
    requests(json!({"timeout": "0.1s"}), json!({}), Value::Null, 2).told(get("/", ""), [never()]).run();
    let idle = json!({"retry_policy": {"per_try_idle_timeout": "0.1s"}});
    requests(idle, json!({}), Value::Null, 2).told(get("/", ""), [never()]).run();
    let hedged = json!({"hedge_policy": {"hedge_on_per_try_timeout": true}, "timeout": "0.7s",
        "retry_policy": {"retry_on": "5xx", "per_try_timeout": "0.1s"}});
    requests(hedged, json!({}), Value::Null, 3).told(get("/", ""), [never(), status("200", "")]).run();
}

#[test]
fn tries_that_go_on() {
    let pause = |answer: Vec<Action>| [vec![Action::Pause(250)], answer].concat();
    requests(json!({}), json!({"upstream_log_flush_interval": "0.1s"}), Value::Null, 4)
        .told(get("/", ""), [pause(status("200", ""))])
        .run();
}

#[test]
fn tries_that_are_filtered() {
    let failed = json!({"status_code_filter": {"comparison": {"op": "GE", "value": {"default_value": 500, "runtime_key": "k"}}}});
    let retried = policy(json!({"retry_on": "5xx", "num_retries": 1}));
    requests(retried, json!({}), failed, 3)
        .told(get("/", ""), [status("503", ""), status("200", "")])
        .told(get("/", ""), [status("200", "")])
        .run();
}
