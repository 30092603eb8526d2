//! Tries that take too long, and those that go on beside the next one.

use super::retries::{bad, get, manager, policy, post, status, with_body};
use crate::harness::{Action, Pairs};
use serde_json::{Value, json};

/// No answer.
fn never() -> Vec<Action> {
    vec![Action::Until(b"what never comes".to_vec())]
}

/// An answer after so many milliseconds.
fn late(milliseconds: u64, answer: Vec<Action>) -> Vec<Action> {
    [vec![Action::Pause(milliseconds)], answer].concat()
}

fn good() -> Vec<Action> {
    status("200", "")
}

/// A head, and a body that does not end.
fn begun() -> Vec<Action> {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_vec();
    [vec![Action::Send(head)], never()].concat()
}

/// The same to a policy with each of these words.
fn with_words(words: &[&str], route: Value, requests: &[(String, Vec<Vec<Action>>)]) {
    for words in words {
        let mut limited = policy(json!({"retry_on": words, "num_retries": 2}));
        for (key, value) in route.as_object().into_iter().flatten() {
            match limited.get_mut(key) {
                Some(there) => {
                    value.as_object().into_iter().flatten().for_each(|(k, v)| there[k] = v.clone());
                }
                None => limited[key] = value.clone(),
            }
        }
        let told = json!({"include_request_attempt_count": true, "include_attempt_count_in_response": true,
            "include_is_timeout_retry_header": true});
        let pairs = Pairs::new(manager(limited, told)).with_statistics();
        let pairs = requests
            .iter()
            .fold(pairs, |pairs, (request, answers)| pairs.told(request.clone(), answers.iter().cloned()));
        pairs.run();
    }
}

#[test]
fn tries_whose_time_is_over() {
    let words = ["5xx", "reset", "connect-failure", ""];
    with_words(
        &words,
        json!({"timeout": "0.8s", "retry_policy": {"per_try_timeout": "0.15s"}}),
        &[
            (get("/", ""), vec![never(), good()]),
            (get("/", ""), vec![never(), bad(1).remove(0), good()]),
            (get("/", ""), vec![never(), never(), never()]),
            (get("/", ""), vec![begun()]),
            (post(5), vec![never(), never(), good()]),
            (get("/", "x-envoy-upstream-rq-per-try-timeout-ms: 80\r\n"), vec![never(), good()]),
            (get("/", "x-envoy-upstream-rq-timeout-ms: 100\r\n"), vec![never(), good()]),
            (get("/", "x-envoy-upstream-alt-stat-name: other\r\n"), vec![never(), good()]),
        ],
    );
}

#[test]
fn pauses_that_are_too_long() {
    with_words(
        &["5xx", "reset", ""],
        json!({"retry_policy": {"per_try_idle_timeout": "0.15s"}}),
        &[
            (get("/", ""), vec![never(), good()]),
            (get("/", ""), vec![never(), never(), never()]),
            (get("/", ""), vec![begun()]),
            (post(5), vec![never(), good()]),
        ],
    );
}

#[test]
fn the_time_of_the_request_is_over() {
    let slow = json!({"base_interval": "30s", "max_interval": "30s"});
    with_words(
        &["5xx"],
        json!({"timeout": "0.25s"}),
        &[(get("/", ""), vec![never()]), (get("/", ""), vec![bad(1).remove(0), never()])],
    );
    // With a jitter of 0..30 s the request's time is over first.
    with_words(
        &["5xx"],
        json!({"timeout": "0.15s", "retry_policy": {"retry_back_off": slow}}),
        &[(get("/", ""), vec![with_body("503"), good()])],
    );
}

#[test]
fn tries_beside_each_other() {
    let hedged = json!({"hedge_policy": {"hedge_on_per_try_timeout": true}, "timeout": "0.7s",
        "retry_policy": {"per_try_timeout": "0.15s"}});
    with_words(
        &["5xx", "reset", ""],
        hedged,
        &[
            (get("/", ""), vec![late(220, good()), never()]),
            (get("/", ""), vec![never(), good()]),
            (get("/", ""), vec![late(220, with_body("503")), good()]),
            (get("/", ""), vec![late(220, with_body("503")), late(120, good())]),
            (get("/", ""), vec![late(220, status("503", "")), late(120, with_body("500")), good()]),
            (get("/", ""), vec![never(), never(), never()]),
            (get("/", ""), vec![late(220, vec![Action::Close]), late(120, good())]),
            (post(5), vec![never(), good()]),
            (get("/", "x-envoy-hedge-on-per-try-timeout: false\r\n"), vec![never(), good()]),
        ],
    );
}

#[test]
fn streams_that_last_too_long() {
    let cluster = json!({"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"max_stream_duration": "0.15s"},
        "explicit_http_config": {"http_protocol_options": {}}}}});
    for words in ["5xx", "reset", ""] {
        let hcm = manager(policy(json!({"retry_on": words})), json!({}));
        Pairs::new(hcm)
            .with_statistics()
            .cluster(cluster.clone())
            .told(get("/", ""), [never(), good()])
            .told(get("/", ""), [never(), never()])
            .told(get("/", ""), [begun()])
            .run();
    }
}
