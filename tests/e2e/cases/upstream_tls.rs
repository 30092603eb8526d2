//! TLS to hosts: handshakes that succeed and fail, which certificates will do, what is said of them, beside Envoy.

use crate::harness::{
    Authority, Identity, Launch, Proxy, TlsClient, Wire, new_directory, proxies, serve_each, serve_tls,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};

const FORMAT: &str = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %UPSTREAM_TLS_VERSION% %UPSTREAM_TLS_CIPHER% \
    %UPSTREAM_PEER_SUBJECT% %UPSTREAM_PEER_ISSUER% %UPSTREAM_PEER_DNS_SAN% %UPSTREAM_PEER_URI_SAN% %UPSTREAM_LOCAL_URI_SAN% \
    %UPSTREAM_LOCAL_DNS_SAN% %UPSTREAM_TRANSPORT_FAILURE_REASON%\n";

/// A cluster whose one host is at a port, with a context.
struct Upstream {
    name: &'static str,
    port: u16,
    context: Value,
    cluster: Value,
    /// What the client sees has to have this in it.
    expects: &'static str,
}

fn upstream(name: &'static str, port: u16, context: Value, expects: &'static str) -> Upstream {
    Upstream { name, port, context, cluster: json!({}), expects }
}

impl Upstream {
    fn cluster(mut self, cluster: Value) -> Upstream {
        self.cluster = cluster;
        self
    }
}

fn bootstrap(upstreams: &[Upstream], directory: &std::path::Path) -> Value {
    let cluster = |(i, upstream): (usize, &Upstream)| {
        let mut context = upstream.context.clone();
        context["@type"] =
            "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext".into();
        let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": upstream.port}});
        let mut cluster = json!({
            "name": format!("case{i}"),
            "connect_timeout": "1s",
            "transport_socket": {"name": "tls", "typed_config": context},
            "load_assignment": {"cluster_name": "c", "endpoints": [{"lb_endpoints": [{"endpoint":
                {"address": address, "hostname": "host.test"}}]}]},
        });
        if let (Some(base), Value::Object(over)) = (cluster.as_object_mut(), upstream.cluster.clone()) {
            base.extend(over);
        }
        cluster
    };
    let clusters: Vec<Value> = upstreams.iter().enumerate().map(cluster).collect();
    let routes: Vec<Value> = (0..upstreams.len())
        .map(|i| json!({"match": {"path": format!("/{i}")}, "route": {"cluster": format!("case{i}")}}))
        .collect();
    let hcm = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}]},
        "http_filters": [{"name": "router", "typed_config":
            {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
        "access_log": [{"name": "file", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": directory.join("log").to_string_lossy(),
            "log_format": {"text_format_source": {"inline_string": FORMAT}}}}],
    });
    json!({
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {
            "listeners": [{"name": "listener", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
                "filter_chains": [{"filters": [{"name": "hcm", "typed_config": hcm}]}]}],
            "clusters": clusters,
        },
    })
}

fn counted(proxy: &Proxy, i: usize) -> BTreeMap<String, u64> {
    let stats = proxy.admin.stats();
    let prefix = format!("cluster.case{i}.");
    let own = |name: &String| {
        let name = name.strip_prefix(&prefix).unwrap_or_default();
        name.starts_with("ssl.") || name.starts_with("upstream_cx_connect") || name == "upstream_cx_total"
    };
    stats.into_iter().filter(|(name, value)| own(name) && *value > 0).collect()
}

/// A request to each with each proxy: the answer, what was logged and what was counted are the same.
fn run(upstreams: &[Upstream]) {
    let mut seen: Vec<Vec<String>> = Vec::new();
    for kind in proxies() {
        let directory = new_directory(kind);
        let document = bootstrap(upstreams, &directory);
        let mut proxy = Proxy::start(kind, &document, directory.clone(), Launch::default());
        let mut client = Wire::connect(proxy.listeners["listener"]);
        let mut outcomes = Vec::new();
        for (i, upstream) in upstreams.iter().enumerate() {
            client.send(format!("GET /{i} HTTP/1.1\r\nhost: front.test\r\n\r\n"));
            let answer = String::from_utf8_lossy(&client.answer(false)).into_owned();
            let (first, body) =
                (answer.lines().next().unwrap_or_default(), answer.rsplit("\r\n").next().unwrap_or_default());
            let outcome = format!("{first} {body}");
            assert!(outcome.contains(upstream.expects), "{kind:?}, {}: {outcome}", upstream.name);
            outcomes.push(format!("{}: {outcome}\n{:#?}", upstream.name, counted(&proxy, i)));
        }
        proxy.signal(nix::sys::signal::Signal::SIGTERM);
        proxy.wait_for_exit(std::time::Duration::from_secs(20)).expect("the proxy ends");
        let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
        assert_eq!(log.lines().count(), upstreams.len(), "{log}");
        outcomes.iter_mut().zip(log.lines()).for_each(|(outcome, line)| {
            outcome.push('\n');
            outcome.push_str(line);
        });
        seen.push(outcomes);
    }
    if let [legate, envoy] = &seen[..] {
        for (legate, envoy) in legate.iter().zip(envoy) {
            assert_eq!(legate, envoy);
        }
    }
}

/// Answers each request with what it knows of its client.
fn tell(identity: &Identity, trusted: Option<&Authority>, alpn: &[&str]) -> u16 {
    serve_tls(identity, trusted, alpn, |mut stream| {
        let mut pending = Vec::new();
        let mut some = [0; 4096];
        loop {
            while !pending.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut some) {
                    Ok(n) if n > 0 => pending.extend_from_slice(&some[..n]),
                    _ => return,
                }
            }
            pending.clear();
            let name = stream.conn.server_name().unwrap_or("-").to_string();
            let alpn =
                stream.conn.alpn_protocol().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
            let version = stream.conn.protocol_version();
            let body = format!("sni={name} alpn={alpn} {version:?}");
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

#[test]
fn handshakes() {
    let authority = Authority::new("authority");
    let stranger = Authority::new("stranger");
    let server = authority.sign("server", &["server.test", "spiffe://td/server"]);
    let expired = authority.sign_expired("server", &["server.test"]);
    let client = authority.sign("client", &["spiffe://td/client", "client.test"]);
    let plain = tell(&server, None, &[]);
    let mutual = tell(&server, Some(&authority), &[]);
    let alpn = tell(&server, None, &["http/1.1"]);
    let old = tell(&expired, None, &[]);
    let ca = json!({"trusted_ca": authority.json()});
    let of = |common: Value| json!({"common_tls_context": common});
    let checked = |more: Value| {
        let mut validation = ca.clone();
        validation.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        of(json!({"validation_context": validation}))
    };
    let named = |more: Value, sni: &str| {
        let mut context = checked(more);
        context["sni"] = sni.into();
        context
    };
    let san = |san_type: &str, matcher: Value| {
        checked(json!({"match_typed_subject_alt_names": [{"san_type": san_type, "matcher": matcher}]}))
    };
    run(&[
        upstream("nothing is asked", plain, of(json!({})), "sni=- alpn= Some(TLSv1_2)"),
        upstream(
            "1.3",
            plain,
            of(json!({"tls_params": {"tls_maximum_protocol_version": "TLSv1_3"}})),
            "sni=- alpn= Some(TLSv1_3)",
        ),
        upstream("a name", plain, named(json!({}), "a.test"), "sni=a.test"),
        upstream("a protocol", alpn, of(json!({"alpn_protocols": ["h9", "http/1.1"]})), "alpn=http/1.1"),
        upstream("trusted", plain, checked(json!({})), "200"),
        upstream(
            "not trusted",
            plain,
            of(json!({"validation_context": {"trusted_ca": stranger.json()}})),
            "503",
        ),
        upstream("out of date", old, checked(json!({})), "503"),
        upstream("out of date, let in", old, checked(json!({"allow_expired_certificate": true})), "200"),
        upstream("its name", plain, san("DNS", json!({"exact": "server.test"})), "200"),
        upstream("another name", plain, san("DNS", json!({"exact": "b.test"})), "503"),
        upstream("its URI", plain, san("URI", json!({"exact": "spiffe://td/server"})), "200"),
        upstream(
            "a digest that it has not",
            plain,
            checked(json!({"verify_certificate_hash": ["0f".repeat(32)]})),
            "503",
        ),
        upstream(
            "a certificate is shown",
            mutual,
            of(
                json!({"tls_certificates": [client.json()], "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"}}),
            ),
            "200",
        ),
        upstream("none is shown", mutual, of(json!({})), "503"),
        upstream(
            "the host's name",
            plain,
            json!({"common_tls_context": {}, "auto_host_sni": true}),
            "sni=host.test",
        ),
        upstream(
            "the name that was asked for",
            plain,
            json!({"common_tls_context": {"validation_context": ca}, "sni": "server.test", "auto_sni_san_validation": true}),
            "200",
        ),
        upstream(
            "the name that was asked for, of another",
            plain,
            json!({"common_tls_context": {"validation_context": ca}, "sni": "b.test", "auto_sni_san_validation": true}),
            "503",
        ),
    ]);
}

/// A host that says nothing, or no TLS.
#[test]
fn what_is_no_tls() {
    let talks_http =
        serve_each(std::net::TcpListener::bind("127.0.0.1:0").expect("a listener"), |mut wire| {
            wire.send("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
            let _ = wire.rest();
        });
    let silent = serve_each(std::net::TcpListener::bind("127.0.0.1:0").expect("a listener"), |mut wire| {
        let _ = wire.rest();
    });
    let closes = serve_each(std::net::TcpListener::bind("127.0.0.1:0").expect("a listener"), |mut wire| {
        let _ = wire.some();
    });
    let context = || json!({"common_tls_context": {}});
    run(&[
        upstream("HTTP", talks_http.port(), context(), "503"),
        upstream("silence", silent.port(), context(), "503").cluster(json!({"connect_timeout": "0.3s"})),
        upstream("an end", closes.port(), context(), "503"),
    ]);
}

/// Through two proxies: TLS on both sides, with large bodies both ways.
#[test]
fn large_bodies() {
    let authority = Authority::new("authority");
    let server = authority.sign("server", &["server.test"]);
    let port = serve_tls(&server, None, &[], |mut stream| {
        let mut length = 0;
        let mut some = vec![0; 1 << 16];
        while length < 3_000_000 {
            match stream.read(&mut some) {
                Ok(n) if n > 0 => length += n,
                _ => return,
            }
        }
        let body = vec![b'x'; 5_000_000];
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
    });
    for kind in proxies() {
        let directory = new_directory(kind);
        let mut document =
            bootstrap(&[upstream("", port, json!({"common_tls_context": {}}), "")], &directory);
        document["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"] = json!({
            "name": "tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {"tls_certificates": [server.json()]},
            },
        });
        let proxy = Proxy::start(kind, &document, directory, Launch::default());
        for is_13 in [true, false] {
            let mut client = TlsClient::new(None, is_13).connect(proxy.listeners["listener"]);
            let body = vec![b'y'; 3_000_000];
            let head = format!(
                "POST /0 HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            client.write_all(head.as_bytes()).and_then(|()| client.write_all(&body)).expect("a request");
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).expect("an answer");
            let count = answer.iter().filter(|byte| **byte == b'x').count();
            assert!((5_000_000..5_000_020).contains(&count), "{kind:?}: {count}");
        }
    }
}
