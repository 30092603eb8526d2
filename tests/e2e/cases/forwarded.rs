//! What the proxy says about the client and about itself.

use super::{get, got};
use crate::harness::{Case, OK, run};
use serde_json::{Value, json};

const TIMEOUT: &str = "x-envoy-expected-rq-timeout-ms: 15000\r\n";
const ID: &str = "x-request-id: <ID>\r\n";
const PROTO: &str = "x-forwarded-proto: http\r\n";
const EXTERNAL: &str = "x-envoy-external-address: 127.0.0.1\r\n";

fn case(hcm: &Value, sent: &str, passed: &[&str]) -> Case {
    let upstream = format!("GET /x HTTP/1.1\r\nhost: a.test\r\n{}\r\n", passed.concat());
    Case::new(format!("{hcm} {sent}")).hcm(hcm.clone()).send(get(sent)).reply(OK).reaches(upstream)
}

#[test]
fn address_of_the_peer_not_used() {
    let plain = json!({});
    let mut cases = Vec::new();
    for sent in ["1.2.3.4", "10.0.0.1", "1.2.3.4, 10.0.0.1", "garbage"] {
        let field = format!("x-forwarded-for: {sent}\r\n");
        cases.push(case(&plain, &field, &[&field, PROTO, ID, TIMEOUT]));
    }
    for proto in ["https", "HTTPS", "junk"] {
        let field = format!("x-forwarded-proto: {proto}\r\n");
        cases.push(case(&plain, &field, &[&field, ID, TIMEOUT]));
    }
    cases.push(case(&plain, "x-request-id: abc\r\n", &["x-request-id: abc\r\n", PROTO, TIMEOUT]));
    cases.push(case(
        &plain,
        "x-forwarded-for: 1.2.3.4\r\nx-forwarded-proto: https\r\nx-request-id: my-id\r\nx-envoy-foo: 1\r\n\
         x-envoy-expected-rq-timeout-ms: 7\r\nx-envoy-internal: true\r\nx-envoy-external-address: 9.9.9.9\r\n\
         x-envoy-upstream-rq-timeout-ms: 500\r\nx-envoy-max-retries: 2\r\nx-envoy-retry-on: 5xx\r\n\
         x-envoy-original-path: /o\r\nx-envoy-decorator-operation: q\r\n\
         x-envoy-downstream-service-cluster: dsc\r\nforwarded: for=1\r\nx-forwarded-host: h\r\n\
         x-forwarded-port: 81\r\nx-forwarded-client-cert: c\r\nx-client-trace-id: t\r\n\
         x-envoy-attempt-count: 3\r\nx-envoy-force-trace: 1\r\nx-envoy-upstream-alt-stat-name: q\r\n\
         x-envoy-hedge-on-per-try-timeout: true\r\nx-envoy-ip-tags: z\r\n",
        &[
            "x-forwarded-for: 1.2.3.4\r\nx-forwarded-proto: https\r\nx-request-id: my-id\r\n\
             x-envoy-foo: 1\r\nx-envoy-external-address: 9.9.9.9\r\nx-envoy-original-path: /o\r\n\
             x-envoy-decorator-operation: q\r\nx-envoy-downstream-service-cluster: dsc\r\n\
             forwarded: for=1\r\nx-forwarded-host: h\r\nx-forwarded-port: 81\r\nx-client-trace-id: t\r\n\
             x-envoy-attempt-count: 3\r\n",
            TIMEOUT,
        ],
    ));
    let internal = json!({"internal_address_config": {"cidr_ranges":
        [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}});
    cases.push(case(
        &internal,
        "x-forwarded-for: 10.0.0.1\r\nx-envoy-upstream-rq-timeout-ms: 300\r\nx-request-id: abc\r\n",
        &[
            "x-forwarded-for: 10.0.0.1\r\nx-request-id: abc\r\n",
            PROTO,
            "x-envoy-internal: true\r\nx-envoy-expected-rq-timeout-ms: 300\r\n",
        ],
    ));
    run(cases);
}

#[test]
fn address_of_the_peer_used() {
    let edge = json!({"use_remote_address": true});
    let mut cases = vec![case(&edge, "", &["x-forwarded-for: {LOCAL}\r\n", PROTO, EXTERNAL, ID, TIMEOUT])];
    for sent in ["1.2.3.4", "1.2.3.4, 10.0.0.1", "garbage"] {
        let passed = format!("x-forwarded-for: {sent},{{LOCAL}}\r\n");
        let sent = format!("x-forwarded-for: {sent}\r\n");
        cases.push(case(&edge, &sent, &[&passed, PROTO, EXTERNAL, ID, TIMEOUT]));
    }
    cases.extend([
        case(
            &edge,
            "x-forwarded-proto: https\r\n",
            &[PROTO, "x-forwarded-for: {LOCAL}\r\n", EXTERNAL, ID, TIMEOUT],
        ),
        case(
            &edge,
            "x-forwarded-for: 1.2.3.4\r\nx-forwarded-for: 5.6.7.8\r\n",
            &["x-forwarded-for: 1.2.3.4,5.6.7.8,{LOCAL}\r\n", PROTO, EXTERNAL, ID, TIMEOUT],
        ),
        case(
            &edge,
            "x-request-id: abc\r\nx-envoy-upstream-rq-timeout-ms: 300\r\nx-envoy-retry-on: 5xx\r\n\
             x-envoy-internal: 1\r\nx-envoy-external-address: 1.1.1.1\r\nx-forwarded-for: 1.2.3.4\r\n\
             x-envoy-original-path: /o\r\nx-envoy-decorator-operation: q\r\n",
            &[ID, EXTERNAL, "x-forwarded-for: 1.2.3.4,{LOCAL}\r\n", PROTO, TIMEOUT],
        ),
        case(
            &json!({"use_remote_address": true, "skip_xff_append": true}),
            "x-forwarded-for: 1.2.3.4\r\n",
            &["x-forwarded-for: 1.2.3.4\r\n", PROTO, EXTERNAL, ID, TIMEOUT],
        ),
        case(
            &json!({"use_remote_address": true, "xff_num_trusted_hops": 1}),
            "x-forwarded-for: 1.2.3.4, 10.0.0.1\r\nx-forwarded-proto: https\r\n",
            &[
                "x-forwarded-for: 1.2.3.4, 10.0.0.1,{LOCAL}\r\nx-forwarded-proto: https\r\n\
                 x-envoy-external-address: 10.0.0.1\r\n",
                ID,
                TIMEOUT,
            ],
        ),
    ]);
    let internal = json!({"use_remote_address": true, "internal_address_config": {"cidr_ranges":
        [{"address_prefix": "127.0.0.0", "prefix_len": 8}]}});
    cases.extend([
        case(
            &internal,
            "",
            &["x-forwarded-for: {LOCAL}\r\n", PROTO, "x-envoy-internal: true\r\n", ID, TIMEOUT],
        ),
        case(
            &internal,
            "x-forwarded-for: 1.2.3.4\r\n",
            &["x-forwarded-for: 1.2.3.4,{LOCAL}\r\n", PROTO, EXTERNAL, ID, TIMEOUT],
        ),
    ]);
    run(cases);
}

#[test]
fn request_ids() {
    run(vec![
        case(&json!({"generate_request_id": false}), "", &[PROTO, TIMEOUT]),
        case(
            &json!({"generate_request_id": false}),
            "x-request-id: abc\r\n",
            &["x-request-id: abc\r\n", PROTO, TIMEOUT],
        ),
        case(
            &json!({"use_remote_address": true, "preserve_external_request_id": true}),
            "x-request-id: abc\r\n",
            &["x-request-id: abc\r\nx-forwarded-for: {LOCAL}\r\n", PROTO, EXTERNAL, TIMEOUT],
        ),
        Case::new("an empty one")
            .send(get("x-request-id:\r\n"))
            .reply(OK)
            .reaches(format!("GET /x HTTP/1.1\r\nhost: a.test\r\n{ID}{PROTO}{TIMEOUT}\r\n")),
        Case::new("in the response")
            .hcm(json!({"always_set_request_id_in_response": true}))
            .send(get("x-request-id: abc\r\nconnection: close\r\n"))
            .reply(
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{S}x-request-id: abc\r\nconnection: close\r\n\r\nok",
            )
            .reaches(format!("GET /x HTTP/1.1\r\nhost: a.test\r\nx-request-id: abc\r\n{PROTO}{TIMEOUT}\r\n"))
            .closed(),
    ]);
}

#[test]
fn server_and_via() {
    let answer = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}content-length: 2\r\n\r\nok");
    let time = "x-envoy-upstream-service-time: <T>\r\ndate: <D>\r\n";
    let case = |hcm: Value, lines: &str, reply: String| {
        Case::new(format!("{hcm} {lines}"))
            .hcm(hcm)
            .send(get("connection: close\r\n"))
            .answer(answer(lines))
            .reply(reply)
            .closed()
    };
    let end = "connection: close\r\n\r\nok";
    let pass = json!({"server_header_transformation": "PASS_THROUGH"});
    let append = json!({"server_header_transformation": "APPEND_IF_ABSENT"});
    let named = json!({"server_name": "myname"});
    let up = "HTTP/1.1 200 OK\r\nserver: up\r\ncontent-length: 2\r\n";
    let bare = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n";
    let mut cases = vec![
        case(pass.clone(), "server: up\r\n", format!("{up}{time}{end}")),
        case(pass, "", format!("{bare}{time}{end}")),
        case(append.clone(), "server: up\r\n", format!("{up}{time}{end}")),
        case(append, "", format!("{bare}{{S}}{end}")),
        case(
            named.clone(),
            "server: up\r\n",
            format!("HTTP/1.1 200 OK\r\nserver: myname\r\ncontent-length: 2\r\n{time}{end}"),
        ),
        case(named, "", format!("{bare}{time}server: myname\r\n{end}")),
        case(
            json!({"via": "v1"}),
            "via: z\r\n",
            format!("HTTP/1.1 200 OK\r\nvia: z, v1\r\ncontent-length: 2\r\n{{S}}{end}"),
        ),
    ];
    for case in &mut cases[..6] {
        case.expect.upstream.push(got(""));
    }
    cases[6]
        .expect
        .upstream
        .push(format!("GET /x HTTP/1.1\r\nhost: a.test\r\n{PROTO}via: v1\r\n{ID}{TIMEOUT}\r\n").into_bytes());
    cases.push(
        Case::new("via in a request")
            .hcm(json!({"via": "v1"}))
            .send(get("via: q\r\nconnection: close\r\n"))
            .reply(format!("{bare}{{S}}via: v1\r\n{end}"))
            .reaches(got("via: q, v1\r\n"))
            .closed(),
    );
    cases.push(
        Case::new("via in a local reply")
            .hcm(json!({"via": "v1"}))
            .send("GET /direct/empty HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .reply("HTTP/1.1 200 OK\r\n{DS}via: v1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            .closed(),
    );
    run(cases);
}

#[test]
fn schemes() {
    let redirect = json!({"match": {"prefix": "/"}, "direct_response": {"status": 301}});
    let routes = json!({"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [redirect]}]});
    let forbidden = "HTTP/1.1 403 Forbidden\r\ncontent-length: 9\r\ncontent-type: text/plain\r\n{DS}\
        connection: close\r\n\r\nForbidden";
    let case = |target: &str, proto: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{proto}\r\n");
        Case::new(format!("{target} {proto}")).send(request).closed()
    };
    let mut cases = Vec::new();
    for (target, proto, location) in [
        ("/", "", "http://a/"),
        ("/", "x-forwarded-proto: HTTPS\r\n", "https://a/"),
        ("http://q/", "x-forwarded-proto: https\r\n", "http://q/"),
        ("HTTPS://q/", "", "https://q/"),
        ("https://q/", "x-forwarded-proto: http\r\n", "https://q/"),
    ] {
        let reply = format!(
            "HTTP/1.1 301 Moved Permanently\r\nlocation: {location}\r\n{{DS}}connection: close\r\n\
             content-length: 0\r\n\r\n"
        );
        for hcm in [json!({}), json!({"use_remote_address": true, "xff_num_trusted_hops": 1})] {
            let mut hcm = hcm;
            hcm["route_config"] = routes.clone();
            cases.push(case(target, proto).hcm(hcm).reply(&reply));
        }
    }
    for target in ["https://q/", "HTTPS://q/"] {
        let case = case(target, "x-forwarded-proto: https\r\n").hcm(json!({"use_remote_address": true}));
        cases.push(case.reply(forbidden).log("403 DPE http1.https_url_on_plaintext_connection"));
    }
    let unknown = case("/x", "x-forwarded-proto:\r\n").log("404 NR route_not_found");
    cases.push(unknown.reply("HTTP/1.1 404 Not Found\r\n{DS}connection: close\r\ncontent-length: 0\r\n\r\n"));
    run(cases);
}
