//! Listener filters, and which filter chain a connection gets, beside Envoy.

use crate::harness::{
    Authority, Kind, Launch, PATIENCE, Proxy, TlsClient, new_directory, proxies, serve_each,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};

fn filter(name: &str, config: Value) -> Value {
    let mut config = config;
    let short: String = name.split('_').map(|part| part[..1].to_uppercase() + &part[1..]).collect();
    config["@type"] =
        format!("type.googleapis.com/envoy.extensions.filters.listener.{name}.v3.{short}").into();
    json!({"name": name, "typed_config": config})
}

/// A chain that says its name.
fn chain(name: &str, chain_match: Value) -> Value {
    json!({
        "name": name,
        "filter_chain_match": chain_match,
        "filters": [{"name": "direct", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.direct_response.v3.Config",
            "response": {"inline_string": format!("chain {name}")}}}],
    })
}

fn document(listener_filters: Value, chains: Value) -> Value {
    json!({
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {"listeners": [{
            "name": "listener",
            "stat_prefix": "listener",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "listener_filters_timeout": "0.5s",
            "listener_filters": listener_filters,
            "filter_chains": chains,
        }]},
    })
}

fn start(kind: Kind, document: &Value) -> Proxy {
    Proxy::start(kind, document, new_directory(kind), Launch::default())
}

/// Sends bytes in pieces; what comes back until the end.
fn say(port: u16, pieces: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    stream.set_nodelay(true).expect("no delay");
    for piece in pieces {
        let _ = stream.write_all(piece);
    }
    let mut answer = Vec::new();
    let end = stream.read_to_end(&mut answer);
    let end = if end.is_ok() { "end" } else { "reset" };
    let _ = stream.shutdown(Shutdown::Both);
    format!("{} {end}", String::from_utf8_lossy(&answer))
}

fn counted(proxy: &Proxy, prefixes: &[&str]) -> BTreeMap<String, u64> {
    let stats = proxy.admin.stats();
    let own = |name: &String| prefixes.iter().any(|prefix| name.starts_with(prefix));
    stats.into_iter().filter(|(name, value)| own(name) && *value > 0).collect()
}

/// What each proxy does is the same.
fn compare<T: PartialEq + std::fmt::Debug>(run: impl Fn(Kind) -> T) -> T {
    let mut seen: Vec<T> = proxies().into_iter().map(run).collect();
    if seen.len() > 1 {
        assert_eq!(seen[0], seen[1]);
    }
    seen.remove(0)
}

#[test]
fn names_and_protocols_lead_to_chains() {
    let document = document(
        json!([filter("tls_inspector", json!({}))]),
        json!([
            chain("plain", json!({"transport_protocol": "raw_buffer"})),
            chain("exact", json!({"server_names": ["a.b.test"], "transport_protocol": "tls"})),
            chain("below", json!({"server_names": ["*.test"], "transport_protocol": "tls"})),
            chain("h9", json!({"server_names": ["alpn.test"], "application_protocols": ["h9"]})),
            chain("http", json!({"server_names": ["alpn.test"], "application_protocols": ["http/1.1"]})),
            chain("any", json!({"transport_protocol": "tls"})),
        ]),
    );
    let hellos: [(Option<&str>, &[&str]); 8] = [
        (None, &[]),
        (Some("a.b.test"), &[]),
        (Some("A.B.test"), &[]),
        (Some("b.test"), &[]),
        (Some("x.y.test"), &[]),
        (Some("other"), &[]),
        (Some("alpn.test"), &["x", "http/1.1", "h9"]),
        (Some("alpn.test"), &["x"]),
    ];
    let seen = compare(|kind| {
        let proxy = start(kind, &document);
        let port = proxy.listeners["listener"];
        let mut answers = Vec::new();
        for (name, alpn) in hellos {
            let mut client = TlsClient::new(None, true).alpn(alpn);
            if let Some(name) = name {
                client = client.named(name);
            }
            // What comes back is no TLS.
            let mut hello = Vec::new();
            client.hello(&mut hello);
            answers.push(say(port, &[&hello]));
            answers.push(say(port, &[&hello[..7], &hello[7..50], &hello[50..]]));
        }
        answers.push(say(port, &[b"GET / HTTP/1.1\r\n\r\n"]));
        answers.push(say(port, &[b"GET"]));
        (
            answers,
            counted(
                &proxy,
                &["tls_inspector.", "listener.listener.no_filter", "listener.listener.downstream_pre"],
            ),
        )
    });
    let first: Vec<&str> = seen.0.iter().map(|answer| answer.split(' ').nth(1).unwrap_or_default()).collect();
    assert_eq!(
        first[..8],
        ["any", "any", "exact", "exact", "exact", "exact", "below", "below"],
        "{:?}",
        seen.0
    );
}

#[test]
fn addresses_lead_to_chains() {
    for (chains, name) in [
        (
            json!([
                chain("a", json!({"prefix_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]})),
                chain("b", json!({}))
            ]),
            "a",
        ),
        (
            json!([
                chain("a", json!({"prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]})),
                chain("b", json!({}))
            ]),
            "b",
        ),
        (
            json!([
                chain("a", json!({"source_type": "EXTERNAL"})),
                chain("b", json!({"source_type": "SAME_IP_OR_LOOPBACK"}))
            ]),
            "b",
        ),
        (
            json!([
                chain(
                    "a",
                    json!({"source_prefix_ranges": [{"address_prefix": "127.0.0.1", "prefix_len": 32}]})
                ),
                chain("b", json!({}))
            ]),
            "a",
        ),
        (
            json!([
                chain("a", json!({"destination_port": 1})),
                chain("b", json!({"source_ports": [1]})),
                chain("c", json!({}))
            ]),
            "c",
        ),
        (json!([chain("a", json!({"destination_port": 1}))]), ""),
    ] {
        let document = document(json!([]), chains);
        let answer = compare(|kind| {
            let proxy = start(kind, &document);
            let answer = say(proxy.listeners["listener"], &[]);
            (answer, counted(&proxy, &["listener.listener.no_filter"]))
        });
        let want = if name.is_empty() { " end".to_string() } else { format!("chain {name} end") };
        assert_eq!(answer.0, want);
    }
}

/// The default chain gets what no other one is for.
#[test]
fn the_default_chain() {
    let mut document = document(json!([]), json!([chain("a", json!({"destination_port": 1}))]));
    document["static_resources"]["listeners"][0]["default_filter_chain"] = chain("default", json!({}));
    let answer = compare(|kind| say(start(kind, &document).listeners["listener"], &[]));
    assert_eq!(answer, "chain default end");
}

#[test]
fn http_is_told_from_the_rest() {
    let document = document(
        json!([filter("http_inspector", json!({}))]),
        json!([
            chain("1.0", json!({"application_protocols": ["http/1.0"]})),
            chain("1.1", json!({"application_protocols": ["http/1.1"]})),
            chain("2", json!({"application_protocols": ["h2c"]})),
            chain("other", json!({})),
        ]),
    );
    let seen = compare(|kind| {
        let proxy = start(kind, &document);
        let port = proxy.listeners["listener"];
        let inputs: [&[&[u8]]; 7] = [
            &[b"GET / HTTP/1.1\r\n\r\n"],
            &[b"GET ", b"/ HTT", b"P/1.0\r\n\r\n"],
            &[b"FOO /a HTTP/1.1\r\n"],
            &[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
            &[b"SSH-2.0-x y z\r\n"],
            &[b"\x16\x03\x01\x00\x01\x01"],
            &[b"GET / HTTP/3.7\r\n"],
        ];
        let answers: Vec<String> = inputs.iter().map(|pieces| say(port, pieces)).collect();
        (answers, counted(&proxy, &["http_inspector."]))
    });
    let names: Vec<&str> = seen.0.iter().map(|answer| answer.split(' ').nth(1).unwrap_or_default()).collect();
    assert_eq!(names[..5], ["1.1", "1.0", "1.1", "2", "other"]);
}

/// Addresses that a proxy in front tells of are those of the connection.
#[test]
fn the_proxy_protocol() {
    let v2 = |command: u8, family: u8, content: &[u8]| -> Vec<u8> {
        let head = [command, family, 0, u8::try_from(content.len()).expect("a length")];
        [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &head, content].concat()
    };
    let v4 = [9, 2, 3, 4, 10, 6, 7, 8, 0, 9, 0, 80];
    let chains = json!([
        chain(
            "v4",
            json!({"source_prefix_ranges": [{"address_prefix": "9.0.0.0", "prefix_len": 8}], "destination_port": 80})
        ),
        chain(
            "v6",
            json!({"source_prefix_ranges": [{"address_prefix": "fd00::", "prefix_len": 8}], "destination_port": 80})
        ),
        chain("other", json!({})),
    ]);
    for (config, name) in [
        (json!({}), "all"),
        (json!({"allow_requests_without_proxy_protocol": true}), "none is right, too"),
        (json!({"disallowed_versions": ["V1"], "stat_prefix": "p"}), "no version 1"),
    ] {
        let document = document(json!([filter("proxy_protocol", config)]), chains.clone());
        let seen = compare(|kind| {
            let proxy = start(kind, &document);
            let port = proxy.listeners["listener"];
            let inputs: Vec<Vec<u8>> = vec![
                b"PROXY TCP4 9.2.3.4 10.6.7.8 9 80\r\n".to_vec(),
                b"PROXY TCP6 fd00::1 fd00::2 9 80\r\n".to_vec(),
                b"PROXY UNKNOWN\r\n".to_vec(),
                b"PROXY TCP4 9.2.3.4 10.6.7.8 9\r\n".to_vec(),
                b"PROXY TCP4 224.0.0.1 10.6.7.8 9 80\r\n".to_vec(),
                b"GET / HTTP/1.1\r\n\r\n".to_vec(),
                v2(0x21, 0x11, &v4),
                v2(0x21, 0x12, &v4),
                v2(0x20, 0x00, &[]),
                v2(0x31, 0x11, &v4),
                v2(0x21, 0x31, &v4),
                v2(0x21, 0x11, &v4[..11]),
                [v2(0x21, 0x11, &[v4.as_slice(), &[4, 0, 1, 0]].concat()), b"data".to_vec()].concat(),
            ];
            let answers: Vec<String> = inputs
                .iter()
                .map(|bytes| say(port, &[bytes]).split(" end").next().unwrap_or_default().to_string())
                .map(|answer| answer.replace(" reset", ""))
                .collect();
            (answers, counted(&proxy, &["proxy_proto.", "downstream_cx_proxy_proto_error"]))
        });
        assert!(seen.0.iter().any(|answer| answer == "chain v4"), "{name}: {seen:?}");
    }
}

/// The name that is asked for decides which certificate is shown.
#[test]
fn a_certificate_of_each_chain() {
    let authority = Authority::new("authority");
    let tls = |name: &str, sans: &[&str]| {
        let mut chain = chain(name, json!({"server_names": sans}));
        chain["transport_socket"] = json!({"name": "tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"tls_certificates": [authority.sign(name, sans).json()]}}});
        // What is said before the handshake is done does not count: who says his name has to be asked.
        chain["filters"] = json!([{"name": "echo", "typed_config":
            {"@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo"}}]);
        chain
    };
    let document = document(
        json!([filter("tls_inspector", json!({}))]),
        json!([tls("one", &["one.test"]), tls("two", &["*.two.test"])]),
    );
    let seen = compare(|kind| {
        let proxy = start(kind, &document);
        let answer = |name: &str| {
            let mut stream = TlsClient::new(None, true).named(name).connect(proxy.listeners["listener"]);
            let mut answer = [0; 4];
            let echoed = stream.write_all(b"echo").and_then(|()| stream.read_exact(&mut answer)).is_ok();
            // The certificates differ, and so do their lengths; the same authority has signed for both proxies.
            let certificate = stream.conn.peer_certificates().map(|chain| chain[0].to_vec());
            (echoed && answer == *b"echo", certificate)
        };
        ["one.test", "a.two.test", "three.test"].map(answer)
    });
    let [one, two, three] = seen;
    assert!(one.0 && two.0 && one.1 != two.1 && one.1.is_some());
    assert_eq!(three, (false, None));
}

/// Where a proxy in front says that a connection was going is where its requests go.
#[test]
fn an_original_destination_is_gone_to() {
    let upstream = serve_each(TcpListener::bind("127.0.0.1:0").expect("a listener"), |mut wire| {
        while !wire.head().is_empty() {
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let hcm = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "original"}}]}]},
        "http_filters": [{"name": "router", "typed_config":
            {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
    });
    let config = json!({"allow_requests_without_proxy_protocol": true});
    let mut document = document(
        json!([filter("proxy_protocol", config)]),
        json!([{"filters": [{"name": "hcm", "typed_config": hcm}]}]),
    );
    document["static_resources"]["clusters"] = json!([{"name": "original", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "1s"}]);
    let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let told = format!("PROXY TCP4 9.9.9.9 127.0.0.1 9 {}\r\n{request}", upstream.port());
    let seen = compare(|kind| {
        let proxy = start(kind, &document);
        let status = |bytes: &str| say(proxy.listeners["listener"], &[bytes.as_bytes()])[..12].to_string();
        [status(&told), status(request)]
    });
    assert_eq!(seen, ["HTTP/1.1 200", "HTTP/1.1 503"]);
}

/// Who ends what he has begun is not waited for.
#[test]
fn an_end_behind_too_little_is_seen() {
    for (filters, bytes) in [
        (filter("tls_inspector", json!({})), &b"\x16\x03\x01\x01"[..]),
        (filter("http_inspector", json!({})), b"GET"),
        (filter("proxy_protocol", json!({})), b"PROXY TCP4"),
    ] {
        let document = document(json!([filters]), json!([chain("any", json!({}))]));
        let timeouts = compare(|kind| {
            let proxy = start(kind, &document);
            let mut stream =
                TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.listeners["listener"])).expect("a connection");
            stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
            stream.write_all(bytes).expect("written");
            stream.shutdown(Shutdown::Write).expect("ended");
            let _ = stream.read_to_end(&mut Vec::new());
            proxy.admin.wait_for_stat("listener.listener.downstream_pre_cx_active", 0).expect("it is gone");
            proxy.admin.stat("listener.listener.downstream_pre_cx_timeout")
        });
        assert_eq!(timeouts, Some(0));
    }
}
