//! Tunnels that end here: what comes out of them goes to the upstream as it is.

use crate::harness::{Action, Case, Pairs, Site, Step, Wire, proxies, run, validated};
use serde_json::{Value, json};

const CONNECT: &str = "CONNECT h:80 HTTP/1.1\r\nhost: h:80\r\n\r\n";
const GRANTED: &str = "HTTP/1.1 200 OK\r\n{DS}\r\n";

/// A route to `cluster`, with more in its action.
fn hcm(cluster: &str, connect_config: Value, more: Value) -> Value {
    let mut action = json!({"cluster": cluster, "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": connect_config}]});
    if let (Some(action), Some(more)) = (action.as_object_mut(), more.as_object()) {
        action.extend(more.clone());
    }
    json!({"route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
        {"match": {"connect_matcher": {}}, "route": action},
        {"match": {"prefix": "/"}, "route": action},
    ]}]}})
}

fn case(name: &str, index: usize) -> Case {
    Case::new(name).hcm(hcm(&format!("case{index}"), json!({}), json!({})))
}

fn script(actions: &[Action]) -> [Vec<Action>; 1] {
    [actions.to_vec()]
}

#[test]
fn tunnels() {
    let large = "0123456789abcdef".repeat(1 << 16);
    run(vec![
        case("data goes both ways, and the upstream ends it", 0)
            .send(format!("{CONNECT}early"))
            .scripts(script(&[
                Action::Until(b"early".to_vec()),
                Action::Send(b"hello".to_vec()),
                Action::Until(b"ping".to_vec()),
                Action::Send(b"pong".to_vec()),
                Action::ClientHas(b"pong".to_vec()),
                Action::Close,
            ]))
            .then(Step::Has(b"hello".to_vec()))
            .send("ping")
            .reply(format!("{GRANTED}hellopong"))
            .reaches("earlyping")
            .closed()
            .log("200 - via_upstream cluster host"),
        case("the upstream speaks first, and the client ends it", 1)
            .send(CONNECT)
            .scripts(script(&[Action::Send(b"220 hello".to_vec())]))
            .then(Step::Has(b"220 hello".to_vec()))
            .then(Step::Stat("http.{}.downstream_cx_upgrades_active", 1))
            .then(Step::Stat("cluster.{}.upstream_rq_active", 1))
            .send("quit")
            .then(Step::UpstreamHas(b"quit".to_vec()))
            .then(Step::FinishWriting)
            .then(Step::UpstreamClosed(1))
            .then(Step::Stat("http.{}.downstream_cx_upgrades_active", 0))
            .then(Step::Stat("http.{}.downstream_cx_upgrades_total", 1))
            .then(Step::Stat("cluster.{}.upstream_rq_active", 0))
            .then(Step::Stat("cluster.{}.upstream_cx_active", 0))
            .then(Step::Stat("cluster.{}.upstream_rq_total", 1))
            .then(Step::Stat("cluster.{}.upstream_cx_total", 1))
            .then(Step::Stat("cluster.{}.upstream_cx_http1_total", 0))
            .then(Step::Stat("cluster.{}.upstream_rq_200", 1))
            .then(Step::Stat("cluster.{}.upstream_cx_destroy_local_with_active_rq", 1))
            .reply(format!("{GRANTED}220 hello"))
            .reaches("quit")
            .closed()
            .log("200 DC downstream_remote_disconnect cluster host"),
        case("the upstream ends its half", 2)
            .send(CONNECT)
            .scripts(script(&[
                Action::Send(b"last".to_vec()),
                Action::FinishWriting,
                Action::Until(b"more".to_vec()),
            ]))
            .then(Step::Has(b"last".to_vec()))
            .reply(format!("{GRANTED}last"))
            .then(Step::Stat("cluster.{}.upstream_cx_active", 0))
            .closed()
            .log("200 - via_upstream cluster host"),
        case("the upstream resets", 3)
            .send(CONNECT)
            .scripts(script(&[
                Action::Send(b"last".to_vec()),
                Action::ClientHas(b"last".to_vec()),
                Action::Reset,
            ]))
            .reply(format!("{GRANTED}last"))
            .closed()
            .log("200 UC upstream_reset_after_response_started{connection_termination} cluster host"),
        case("much", 4)
            .send(format!("{CONNECT}{large}up"))
            .scripts(script(&[
                Action::Until(b"up".to_vec()),
                Action::Send(format!("{large}down").into()),
                Action::ClientHas(b"down".to_vec()),
                Action::Close,
            ]))
            .reply(format!("{GRANTED}{large}down"))
            .reaches(format!("{large}up"))
            .closed(),
        Case::new("nobody is there")
            .hcm(hcm("refused", json!({}), json!({})))
            .send(format!("{CONNECT}early"))
            .reply("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 98\r\ncontent-type: text/plain\r\n{DS}connection: close\r\n\r\nupstream connect error or disconnect/reset before headers. reset reason: remote connection failure")
            .closed()
            .log("503 UF upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused} cluster host"),
        Case::new("no host")
            .hcm(hcm("nohosts", json!({}), json!({})))
            .send(CONNECT)
            .reply("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 19\r\ncontent-type: text/plain\r\n{DS}connection: close\r\n\r\nno healthy upstream")
            .closed()
            .log("503 UH no_healthy_upstream cluster -"),
        Case::new("too many")
            .hcm(hcm("full", json!({}), json!({})))
            .send(CONNECT)
            .reply("HTTP/1.1 503 Service Unavailable\r\nx-envoy-overloaded: true\r\ncontent-length: 81\r\ncontent-type: text/plain\r\n{DS}connection: close\r\n\r\nupstream connect error or disconnect/reset before headers. reset reason: overflow")
            .closed()
            .log("503 UO upstream_reset_before_response_started{overflow} cluster -"),
        Case::new("nothing goes on")
            .hcm(hcm("case8", json!({}), json!({"idle_timeout": "0.2s"})))
            .send(CONNECT)
            .scripts(script(&[Action::Send(b"hello".to_vec())]))
            .then(Step::UpstreamClosed(1))
            .reply(format!("{GRANTED}hello"))
            .closed()
            .log("200 SI stream_idle_timeout cluster host"),
        Case::new("it lasts too long")
            .hcm(hcm("case9", json!({}), json!({"max_stream_duration": {"max_stream_duration": "0.2s"}})))
            .send(CONNECT)
            .scripts(script(&[Action::Send(b"hello".to_vec())]))
            .then(Step::UpstreamClosed(1))
            .reply(format!("{GRANTED}hello"))
            .closed()
            .log("200 - max_duration_timeout cluster host"),
        Case::new("a response has its time, a tunnel has not")
            .hcm(hcm("case10", json!({}), json!({"timeout": "0.1s"})))
            .send(CONNECT)
            .scripts(script(&[
                Action::Send(b"hello".to_vec()),
                Action::Pause(300),
                Action::Send(b"later".to_vec()),
                Action::ClientHas(b"later".to_vec()),
                Action::Close,
            ]))
            .reply(format!("{GRANTED}hellolater"))
            .closed()
            .log("200 - via_upstream cluster host"),
        case("what is no CONNECT goes out as HTTP", 11)
            .send("POST /x HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 2\r\n\r\nab")
            .reply("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-envoy-upstream-service-time: <T>\r\n{DS}connection: close\r\n\r\nok")
            .reaches("POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n{X}\r\nab")
            .closed(),
        Case::new("bodies of POST requests are tunnels, too")
            .hcm(hcm("case12", json!({"allow_post": true}), json!({})))
            .send("POST /x HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n")
            .scripts(script(&[
                Action::Until(b"ab".to_vec()),
                Action::Send(b"hello".to_vec()),
                Action::Until(b"cd".to_vec()),
                Action::Send(b"there".to_vec()),
                Action::ClientHas(b"there".to_vec()),
                Action::Close,
            ]))
            .then(Step::Has(b"hello".to_vec()))
            .send("2\r\ncd\r\n0\r\n\r\n")
            .reply("HTTP/1.1 200 OK\r\n{DS}connection: close\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nthere\r\n0\r\n\r\n")
            .reaches("abcd")
            .closed()
            .log("200 - via_upstream cluster host"),
        Case::new("a POST that is complete ends its half")
            .hcm(hcm("case13", json!({"allow_post": true}), json!({})))
            .send("POST /x HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 2\r\n\r\nab")
            .scripts(script(&[Action::Until(b"ab".to_vec()), Action::Send(b"hello".to_vec()), Action::Close]))
            .reply("HTTP/1.1 200 OK\r\nx-envoy-upstream-service-time: <T>\r\n{DS}connection: close\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
            .reaches("ab")
            .closed(),
    ]);
}

/// What reaches the upstream in front of the tunnel's data, with the client's port taken out.
#[test]
fn the_upstream_is_told_whose_tunnel_it_is() {
    for version in ["V1", "V2"] {
        for kind in proxies() {
            let config = hcm("case0", json!({"proxy_protocol_config": {"version": version}}), json!({}));
            let case = Case::new("proxy protocol").hcm(config).scripts(script(&[
                Action::Until(b"early".to_vec()),
                Action::Send(b"hello".to_vec()),
                Action::Close,
            ]));
            let site = Site::start(kind, &[&case]);
            let mut client = Wire::connect(site.port(0));
            let (from, to) = (client.local_port(), site.port(0));
            client.send(format!("{CONNECT}early"));
            assert!(client.rest().ends_with(b"\r\n\r\nhello"), "{kind:?} {version}");
            let told = match version {
                "V1" => format!("PROXY TCP4 127.0.0.1 127.0.0.1 {from} {to}\r\n").into_bytes(),
                _ => {
                    let head = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01";
                    [&head[..], &from.to_be_bytes(), &to.to_be_bytes()].concat()
                }
            };
            let received = site.boards[0].look(|seen| seen.upstreams[0].received.clone());
            assert_eq!(
                received.escape_ascii().to_string(),
                [&told[..], b"early"].concat().escape_ascii().to_string()
            );
        }
    }
}

/// Each tunnel begins with what looks like a request to the upstream that answers it, so that it knows when to.
#[test]
fn what_is_logged_and_counted() {
    let send = |bytes: &str| Action::Send(bytes.as_bytes().to_vec());
    // Only Envoy has some of HTTP/3 and of HTTP/2.
    let statistics = &[
        "cluster.case0.upstream_",
        "cluster.case0.external.",
        "http.case0.downstream_cx_upgrades",
        "http.case0.downstream_rq_total",
        "http.case0.downstream_rq_active",
        "http.case0.downstream_rq_completed",
        "http.case0.downstream_rq_2xx",
        "http.case0.downstream_rq_5xx",
        "http.case0.downstream_rq_rx_reset",
        "http.case0.downstream_rq_tx_reset",
        "listener.127.0.0.1_0.http.case0.",
    ];
    let policy = json!({"retry_on": "connect-failure,reset,5xx", "num_retries": 2});
    for (connect_config, more) in [
        (json!({}), json!({})),
        (json!({"allow_post": true}), json!({"retry_policy": policy})),
        (json!({}), json!({"host_rewrite_literal": "other", "idle_timeout": "5s"})),
    ] {
        let mut pairs = Pairs::new(hcm("case0", connect_config, more)).statistics(statistics).log_format(
            "%REQ(:METHOD)% %REQ(:AUTHORITY)% %REQ(:PATH)% %PROTOCOL% %UPSTREAM_PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER% %UPSTREAM_HOST% %UPSTREAM_REQUEST_ATTEMPT_COUNT%\n",
        );
        let inside = "hello there\r\n\r\n";
        for answer in [
            vec![send("good day"), Action::Close],
            vec![send("good day"), Action::FinishWriting],
            vec![send("good day"), Action::Pause(20), Action::Reset],
            vec![Action::Close],
            vec![send("HTTP/1.1 500 No\r\n\r\n"), Action::Close],
        ] {
            let chunked =
                "POST /x HTTP/1.1\r\nhost: h\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\nf\r\n";
            for (request, is_connect) in [
                (format!("{CONNECT}{inside}"), true),
                (
                    format!(
                        "CONNECT h:80 HTTP/1.1\r\nhost: h:80\r\ntransfer-encoding: chunked\r\n\r\n{inside}"
                    ),
                    true,
                ),
                (format!("{chunked}{inside}\r\n0\r\n\r\n"), false),
            ] {
                let has_reset = answer.iter().any(|action| matches!(action, Action::Reset));
                if is_connect || !has_reset {
                    pairs = pairs.told(request, [answer.clone()]);
                }
            }
        }
        pairs.run();
    }
}

#[test]
fn what_is_refused() {
    for kind in proxies() {
        let verdict = |upgrade: Value| {
            let routes = json!([{"match": {"prefix": "/"}, "route": {"cluster": "case0", "upgrade_configs": [upgrade]}}]);
            let table = json!({"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}]});
            validated(kind, &json!({"route_config": table}))
        };
        let fits = json!({"upgrade_type": "connect", "connect_config": {"proxy_protocol_config": {"version": "V2"}}});
        let (loads, said) = verdict(fits);
        assert!(loads, "{kind:?}: {said}");
        let (loads, said) = verdict(json!({"upgrade_type": "websocket", "connect_config": {}}));
        let reason = "Non-CONNECT upgrade type websocket has ConnectConfig";
        assert!(!loads && said.contains(reason), "{kind:?}: {said}");
    }
}

/// Nearly all tunnels would go to the host that refuses them.
#[test]
fn a_host_that_refuses_is_followed_by_another() {
    let refuses = |weight: u32| {
        json!({"endpoint": {"address": {"socket_address": {"address": "127.0.0.9", "port_value": 1}}},
        "load_balancing_weight": weight})
    };
    let predicate = json!({"name": "p", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}});
    let policy = json!({"retry_policy": {"retry_on": "connect-failure", "num_retries": 2,
        "retry_host_predicate": [predicate], "host_selection_retry_max_attempts": 100_000}});
    for (more, weight) in [(policy, 50_000), (json!({}), 100_000_000)] {
        let mut pairs = Pairs::new(hcm("case0", json!({}), more))
            .statistics(&["cluster.case0.upstream_", "http.case0.downstream_rq_total"])
            .other_hosts([refuses(weight)]);
        for _ in 0..3 {
            let answer = vec![Action::Send(b"good day".to_vec()), Action::Close];
            pairs = pairs.told(format!("{CONNECT}hello\r\n\r\n"), [answer]);
        }
        pairs.run();
    }
}

#[test]
fn a_tunnel_of_a_request_for_an_upgrade() {
    let both = json!({"upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}, {"upgrade_type": "foo"}]});
    run(vec![
        Case::new("a CONNECT that speaks of an upgrade, too")
            .hcm(hcm("case0", json!({}), both))
            .send("CONNECT h:80 HTTP/1.1\r\nhost: h:80\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\nearly")
            .scripts(script(&[
                Action::Until(b"early".to_vec()),
                Action::Send(b"hello".to_vec()),
                Action::ClientHas(b"hello".to_vec()),
                Action::Close,
            ]))
            .reply(format!("{GRANTED}hello"))
            .reaches("early")
            .closed()
            .log("200 - via_upstream cluster host"),
    ]);
}
