//! Requests that are tried again: on what, how often, and what is told of it.

use crate::harness::{Action, Pairs};
use serde_json::{Value, json};

/// A GET that asks for its connection to be closed.
pub(super) fn get(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n{more}\r\n")
}

/// A connection manager to whose routes `route` is said, and to whose virtual host `host`; requests from anywhere may say
/// how they are to be tried.
pub(super) fn manager(route: Value, host: Value) -> Value {
    let mut action = json!({"cluster": "case0"});
    merge(&mut action, &route);
    let mut virtual_host = json!({"name": "v", "domains": ["*"], "routes": [
        {"match": {"prefix": "/refused"}, "route": merged(&action, json!({"cluster": "refused"}))},
        {"match": {"prefix": "/full"}, "route": merged(&action, json!({"cluster": "full"}))},
        {"match": {"prefix": "/nohosts"}, "route": merged(&action, json!({"cluster": "nohosts"}))},
        {"match": {"prefix": "/"}, "route": action},
    ]});
    merge(&mut virtual_host, &host);
    json!({
        "route_config": {"virtual_hosts": [virtual_host]},
        "use_remote_address": true,
        "internal_address_config": {"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]},
    })
}

pub(super) fn merged(base: &Value, over: Value) -> Value {
    let mut result = base.clone();
    merge(&mut result, &over);
    result
}

fn merge(base: &mut Value, over: &Value) {
    for (key, value) in over.as_object().into_iter().flatten() {
        base[key] = value.clone();
    }
}

/// A retry policy with hardly a pause.
pub(super) fn policy(more: Value) -> Value {
    let quick = json!({"retry_back_off": {"base_interval": "0.001s", "max_interval": "0.001s"}});
    json!({"retry_policy": merged(&quick, more)})
}

/// A response of this status, without a body.
pub(super) fn status(status: &str, fields: &str) -> Vec<Action> {
    vec![Action::Send(format!("HTTP/1.1 {status} X\r\n{fields}content-length: 0\r\n\r\n").into())]
}

/// One with a body.
pub(super) fn with_body(code: &str) -> Vec<Action> {
    vec![Action::Send(format!("HTTP/1.1 {code} X\r\ncontent-length: 4\r\n\r\nbody").into())]
}

const TOKENS: [&str; 12] = [
    "5xx",
    "gateway-error",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "reset",
    "reset-before-request",
    "envoy-ratelimited",
    "cancelled, deadline-exceeded,resource-exhausted",
    "unavailable,internal",
    "nonsense, 5xx ",
];

#[test]
fn answers_that_are_not_taken() {
    for words in TOKENS {
        let hcm =
            manager(policy(json!({"retry_on": words, "retriable_status_codes": [418, 425]})), json!({}));
        let mut pairs = Pairs::new(hcm).with_statistics();
        for code in ["200", "409", "418", "425", "429", "500", "502", "503", "504", "501"] {
            pairs = pairs.told(get("/", ""), [status(code, ""), status("200", "")]);
        }
        for fields in [
            "x-envoy-ratelimited: true\r\n",
            "x-envoy-overloaded: true\r\n",
            "x-envoy-immediate-health: 1\r\n",
        ] {
            pairs = pairs.told(get("/", ""), [status("503", fields), status("200", "")]);
        }
        for grpc in ["0", "1", "4", "8", "13", "14", "x"] {
            let fields = format!("content-type: application/grpc\r\ngrpc-status: {grpc}\r\n");
            pairs = pairs.told(get("/", ""), [status("200", &fields), status("201", "")]);
        }
        pairs = pairs.told(get("/", "early-data: 1\r\n"), [status("425", ""), status("200", "")]);
        pairs.run();
    }
}

#[test]
fn tries_that_end_without_an_answer() {
    let (close, reset) = (vec![Action::Close], vec![Action::Reset]);
    let garbage = vec![Action::Send(b"nonsense\r\n\r\n".to_vec())];
    let begun =
        vec![Action::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_vec()), Action::Close];
    let interim = vec![Action::Send(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()), Action::Close];
    let expect = "expect: 100-continue\r\n";
    for words in TOKENS {
        let hcm = manager(policy(json!({"retry_on": words, "num_retries": 2})), json!({}));
        let good = || status("200", "");
        Pairs::new(hcm)
            .with_statistics()
            .told(get("/", ""), [close.clone(), good()])
            .told(get("/", ""), [reset.clone(), close.clone(), good()])
            .told(get("/", ""), [close.clone(), reset.clone(), close.clone(), good()])
            .told(get("/", ""), [garbage.clone(), good()])
            .told(get("/", ""), [begun.clone(), good()])
            .told(get("/", expect), [interim.clone(), good()])
            .told(get("/refused", ""), [])
            .told(get("/full", ""), [])
            .told(get("/nohosts", ""), [])
            .run();
    }
}

/// A bad answer: of the second try another one, and so on.
pub(super) fn bad(count: usize) -> Vec<Vec<Action>> {
    (0..count).map(|i| if i % 2 == 0 { status("503", "x-none: 1\r\n") } else { with_body("500") }).collect()
}

#[test]
fn how_often() {
    let told = json!({"include_request_attempt_count": true, "include_attempt_count_in_response": true,
        "include_is_timeout_retry_header": true});
    for policy in [
        json!({"retry_on": "5xx"}),
        json!({"retry_on": "5xx", "num_retries": 0}),
        json!({"retry_on": "5xx", "num_retries": 3}),
        json!({"retry_on": "5xx", "retry_back_off": {"base_interval": "0.0001s"}}),
        json!({"num_retries": 3}),
        json!({}),
    ] {
        for level in [
            (json!({"retry_policy": policy}), told.clone()),
            (json!({}), merged(&told, json!({"retry_policy": policy}))),
        ] {
            let pairs = (0..6)
                .fold(Pairs::new(manager(level.0, level.1)).with_statistics(), |pairs, count| {
                    pairs.told(get("/", ""), bad(count))
                });
            pairs.told(get("/refused", ""), []).told(get("/nohosts", ""), []).run();
        }
    }
    // What a route says is all that counts.
    let route = json!({"retry_policy": {"num_retries": 3}});
    let host = json!({"retry_policy": {"retry_on": "5xx"}});
    Pairs::new(manager(route, host)).told(get("/", ""), bad(1)).run();
}

#[test]
fn requests_that_say_themselves() {
    let asked = [
        "x-envoy-retry-on: 5xx",
        "x-envoy-retry-on: nothing, 5xx ,reset",
        "x-envoy-retry-on: unavailable",
        "x-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 3",
        "x-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 0",
        "x-envoy-retry-on: 5xx\r\nx-envoy-max-retries: many",
        "x-envoy-max-retries: 3",
        "x-envoy-retry-grpc-on: unavailable",
        "x-envoy-retry-grpc-on: 5xx",
        "x-envoy-retry-on: retriable-status-codes\r\nx-envoy-retriable-status-codes: 404, 503 ,x",
        "x-envoy-retriable-status-codes: 503",
        "x-envoy-retry-on: retriable-headers\r\nx-envoy-retriable-header-names: X-Bad , x-none",
        "x-envoy-retriable-header-names: x-none",
        "x-envoy-hedge-on-per-try-timeout: true",
        "x-envoy-upstream-rq-per-try-timeout-ms: 1400",
        "x-envoy-upstream-rq-timeout-ms: 1900",
        "x-envoy-upstream-rq-timeout-ms: 0\r\nx-envoy-upstream-rq-per-try-timeout-ms: 1400",
        "x-envoy-upstream-rq-timeout-ms: 0\r\nx-envoy-upstream-rq-per-try-timeout-ms: 1400\r\nx-envoy-hedge-on-per-try-timeout: true",
    ];
    let quick = json!({"retry_back_off": {"base_interval": "0.001s"}});
    let outside = json!({"internal_address_config": {"cidr_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}});
    for route in [
        json!({}),
        json!({"retry_policy": quick}),
        policy(json!({"retry_on": "reset"})),
        policy(json!({"retry_on": "5xx"})),
    ] {
        for hcm in
            [manager(route.clone(), json!({})), merged(&manager(route.clone(), json!({})), outside.clone())]
        {
            let mut pairs = Pairs::new(hcm).with_statistics();
            for fields in asked {
                pairs = pairs.told(get("/", &format!("{fields}\r\n")), bad(2));
                let grpc = status("200", "content-type: application/grpc\r\ngrpc-status: 14\r\n");
                pairs = pairs.told(get("/", &format!("{fields}\r\n")), [grpc]);
            }
            pairs.run();
        }
    }
}

#[test]
fn by_headers() {
    let hcm = manager(
        policy(json!({"retry_on": "retriable-headers,reset", "num_retries": 1,
            "retriable_headers": [{"name": "x-bad"}, {"name": "x-kind", "string_match": {"exact": "late"}}],
            "retriable_request_headers": [{"name": ":method", "string_match": {"exact": "GET"}}, {"name": "x-again"}]})),
        json!({}),
    );
    let good = || status("200", "");
    let mut pairs = Pairs::new(hcm).with_statistics();
    for request in
        [get("/", ""), get("/", "").replace("GET", "PUT"), get("/", "x-again: \r\n").replace("GET", "PUT")]
    {
        for fields in [
            "x-bad: 1\r\n",
            "x-kind: late\r\n",
            "x-kind: other\r\n",
            "x-envoy-ratelimited: 1\r\nx-bad: 1\r\n",
        ] {
            pairs = pairs.told(request.clone(), [status("404", fields), good()]);
        }
        pairs = pairs.told(request, [vec![Action::Close], good()]);
    }
    pairs.run();
}

#[test]
fn breakers() {
    let hcm = || manager(policy(json!({"retry_on": "5xx,reset", "num_retries": 2})), json!({}));
    for limits in [
        json!({"max_retries": 0}),
        json!({"max_retries": 1, "track_remaining": true}),
        json!({"retry_budget": {"budget_percent": {"value": 0}, "min_retry_concurrency": 0}}),
        json!({"retry_budget": {"budget_percent": {"value": 0}, "min_retry_concurrency": 1}, "max_retries": 0, "track_remaining": true}),
        json!({"retry_budget": {}, "max_retries": 0}),
    ] {
        let pairs = Pairs::new(hcm())
            .with_statistics()
            .cluster(json!({"circuit_breakers": {"thresholds": [limits]}}));
        let pairs = (0..4).fold(pairs, |pairs, count| pairs.told(get("/", ""), bad(count)));
        pairs.told(get("/", ""), [vec![Action::Close]]).run();
    }
}

/// A request with a body, in one piece.
pub(super) fn post(length: usize) -> String {
    let body = "b".repeat(length);
    format!("POST / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

#[test]
fn bodies() {
    let chunked = |chunks: &[&str], trailer: &str| {
        let chunks: String = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
        let head =
            "POST / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
        format!("{head}{chunks}0\r\n{trailer}\r\n")
    };
    let retried = policy(json!({"retry_on": "5xx,reset", "num_retries": 2}));
    let pairs = |hcm: Value| {
        let trailers = json!({"http_protocol_options": {"enable_trailers": true}});
        let mut pairs = Pairs::new(merged(&hcm, trailers)).with_statistics();
        for count in 0..3 {
            pairs = pairs
                .told(post(5), bad(count))
                .told(post(2000), bad(count))
                .told(chunked(&["abc", "de"], ""), bad(count))
                .told(chunked(&["abc"], "x-late: 1\r\n"), bad(count))
                .told(post(10), (0..count).map(|_| vec![Action::Close]));
        }
        pairs
    };
    pairs(manager(retried.clone(), json!({}))).run();
    pairs(manager(retried.clone(), json!({"per_request_buffer_limit_bytes": 100}))).run();
    pairs(manager(retried.clone(), json!({"per_request_buffer_limit_bytes": 0}))).run();
}

#[test]
fn upstreams_that_say_when() {
    let limited = |headers: Value| {
        let policy = json!({"retry_policy": {"retry_on": "5xx,envoy-ratelimited", "rate_limited_retry_back_off": {
            "reset_headers": headers, "max_interval": "3s"}}});
        manager(policy, json!({}))
    };
    let headers =
        json!([{"name": "retry-after", "format": "SECONDS"}, {"name": "x-at", "format": "UNIX_TIMESTAMP"}]);
    let good = || status("200", "");
    // The upstream is told what is left, a second later.
    Pairs::new(limited(headers))
        .with_statistics()
        .told(get("/", ""), [status("503", "retry-after: 1\r\n"), good()])
        .told(get("/", ""), [status("429", "retry-after: 1\r\nx-envoy-ratelimited: 1\r\n"), good()])
        .told(get("/", ""), [status("503", "retry-after: 9\r\n"), good()])
        .told(get("/", ""), [status("503", "retry-after: soon\r\n"), good()])
        .told(get("/", ""), [status("503", "retry-after: 0\r\n"), good()])
        .told(get("/", ""), [status("503", "x-at: 12\r\n"), good()])
        .told(get("/", ""), [status("503", "x-at: 99999999999\r\n"), good()])
        .run();
}

/// Nearly all requests would go to a host that refuses them, if it was wanted: all but one in `weight`. Where the other one is
/// not to be found it is never met, and where it is, too seldom to matter.
#[test]
fn other_hosts() {
    let predicate = |name: &str, message: &str| {
        json!({"name": format!("envoy.retry_host_predicates.{name}"), "typed_config": {
            "@type": format!("type.googleapis.com/envoy.extensions.retry.host.{name}.v3.{message}")}})
    };
    let previous = predicate("previous_hosts", "PreviousHostsPredicate");
    let canaries = predicate("omit_canary_hosts", "OmitCanaryHostsPredicate");
    let (found, never) = (50_000, 100_000_000);
    for (predicates, attempts, weight) in [
        (json!([]), 20_000, never),
        (json!([previous.clone()]), 2 * found, found),
        (json!([previous.clone()]), 1, never),
        (json!([canaries.clone()]), 20_000, never),
        (json!([canaries, previous]), 2 * found, found),
    ] {
        let refuses = json!({"endpoint": {"address": {"socket_address": {"address": "127.0.0.9", "port_value": 1}}},
            "load_balancing_weight": weight});
        let policy = policy(json!({"retry_on": "connect-failure", "num_retries": 2,
            "retry_host_predicate": predicates, "host_selection_retry_max_attempts": attempts}));
        let pairs = Pairs::new(manager(policy, json!({}))).with_statistics().other_hosts([refuses]);
        (0..3).fold(pairs, |pairs, _| pairs.told(get("/", ""), [])).run();
    }
}
