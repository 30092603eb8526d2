//! TLS of listeners: handshakes that succeed and fail, certificates, what is said of them, beside Envoy.

use crate::harness::{Authority, Identity, Kind, Launch, Proxy, TlsClient, new_directory, proxies};
use rustls::crypto::ring;
use rustls::{CipherSuite, HandshakeKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};

const FORMAT: &str = "%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_TLS_CIPHER% %DOWNSTREAM_TLS_GROUP% %DOWNSTREAM_PEER_SUBJECT% \
    %DOWNSTREAM_PEER_ISSUER% %DOWNSTREAM_PEER_SERIAL% %DOWNSTREAM_PEER_FINGERPRINT_1% %DOWNSTREAM_PEER_FINGERPRINT_256% \
    %DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1% %DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256% %DOWNSTREAM_PEER_CHAIN_SERIALS% \
    %DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256% %DOWNSTREAM_PEER_DNS_SAN% %DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_PEER_IP_SAN% \
    %DOWNSTREAM_PEER_EMAIL_SAN% %DOWNSTREAM_LOCAL_SUBJECT% %DOWNSTREAM_LOCAL_DNS_SAN% %DOWNSTREAM_LOCAL_URI_SAN% \
    %DOWNSTREAM_LOCAL_IP_SAN% %DOWNSTREAM_PEER_CERT_V_START% %DOWNSTREAM_PEER_CERT_V_END(%Y)% %DOWNSTREAM_PEER_CERT% \
    %REQUESTED_SERVER_NAME% %DOWNSTREAM_TRANSPORT_FAILURE_REASON% %REQ(x-forwarded-proto)% %REQ(x-forwarded-client-cert)%\n";

/// Everybody that the cases know.
struct World {
    authority: Authority,
    stranger: Authority,
    server: Identity,
    client: Identity,
}

impl World {
    fn new() -> World {
        let authority = Authority::new("authority");
        World {
            server: authority.sign("server", &["a.test", "spiffe://td/server", "127.0.0.1"]),
            client: authority.sign(
                "client",
                &["client.test", "other.test", "spiffe://td/client", "c@test.test", "127.0.0.9"],
            ),
            stranger: Authority::new("stranger"),
            authority,
        }
    }

    /// A context with the server's certificate and more.
    fn context(&self, more: Value) -> Value {
        let mut common = json!({"tls_certificates": [self.server.json()]});
        merge(&mut common, more);
        json!({"common_tls_context": common})
    }

    /// One that trusts the authority, and insists.
    fn mutual(&self, validation: Value) -> Value {
        let mut validation_context = json!({"trusted_ca": self.authority.json()});
        merge(&mut validation_context, validation);
        let mut context = self.context(json!({"validation_context": validation_context}));
        context["require_client_certificate"] = true.into();
        context
    }
}

fn merge(base: &mut Value, over: Value) {
    let (Value::Object(base), Value::Object(over)) = (base, over) else { return };
    base.extend(over);
}

/// A listener with a context, and a client.
struct TlsCase {
    name: &'static str,
    context: Value,
    hcm: Value,
    client: TlsClient,
    /// What the client sees has to have this in it.
    expects: &'static str,
}

fn case(name: &'static str, context: Value, client: TlsClient, expects: &'static str) -> TlsCase {
    TlsCase { name, context, hcm: json!({}), client, expects }
}

impl TlsCase {
    fn hcm(mut self, hcm: Value) -> TlsCase {
        self.hcm = hcm;
        self
    }
}

fn bootstrap(cases: &[TlsCase], directory: &std::path::Path) -> Value {
    let listener = |(i, case): (usize, &TlsCase)| {
        let mut context = case.context.clone();
        context["@type"] =
            "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext".into();
        let mut hcm = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": format!("case{i}"),
            "delayed_close_timeout": "0.05s",
            "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
                {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "direct"}}}]}]},
            "http_filters": [{"name": "router", "typed_config":
                {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
            "access_log": [{"name": "file", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                "path": directory.join(format!("case{i}.log")).to_string_lossy(),
                "log_format": {"text_format_source": {"inline_string": FORMAT}}}}],
        });
        merge(&mut hcm, case.hcm.clone());
        json!({
            "name": format!("case{i}"),
            "stat_prefix": format!("case{i}"),
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
            "filter_chains": [{
                "transport_socket": {"name": "tls", "typed_config": context},
                "filters": [{"name": "hcm", "typed_config": hcm}],
            }],
        })
    };
    let listeners: Vec<Value> = cases.iter().enumerate().map(listener).collect();
    json!({
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {"listeners": listeners},
    })
}

/// What a client sees: what was agreed upon and the answer, or how it failed.
fn talk(client: &TlsClient, port: u16) -> String {
    let mut stream = client.connect(port);
    let request =
        "GET / HTTP/1.1\r\nhost: a.test\r\nx-forwarded-client-cert: forged\r\nconnection: close\r\n\r\n";
    let mut answer = String::new();
    let written = stream.write_all(request.as_bytes());
    let read = written.and_then(|()| stream.read_to_string(&mut answer));
    let alpn = stream.conn.alpn_protocol().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
    let resumed = stream.conn.handshake_kind() == Some(HandshakeKind::Resumed);
    let end = match read {
        Ok(_) => "close_notify".to_string(),
        Err(error) => error.to_string(),
    };
    let body = answer.rsplit("\r\n").next().unwrap_or_default();
    format!("{body} alpn={alpn} resumed={resumed} {end}")
}

/// What was counted, expirations aside only where they are of no certificate of the case.
fn counted(proxy: &Proxy, prefix: &str) -> BTreeMap<String, u64> {
    let stats = proxy.admin.stats();
    let own = |name: &String| {
        name.starts_with(&format!("listener.{prefix}.ssl."))
            || name.contains(&format!("http.{prefix}.downstream_cx_ssl"))
    };
    stats.into_iter().filter(|(name, value)| own(name) && *value > 0).collect()
}

/// All of the cases with each proxy; what clients see, what was logged and counted is the same.
fn run(cases: Vec<TlsCase>) {
    let mut seen: Vec<(Kind, Vec<String>)> = Vec::new();
    for kind in proxies() {
        let directory = new_directory(kind);
        let proxy = Proxy::start(kind, &bootstrap(&cases, &directory), directory.clone(), Launch::default());
        let mut outcomes = Vec::new();
        for (i, case) in cases.iter().enumerate() {
            let prefix = format!("case{i}");
            let outcome = talk(&case.client, proxy.listeners[&prefix]);
            assert!(outcome.contains(case.expects), "{kind:?}, {}: {outcome}", case.name);
            // The connection is gone when it counts as none.
            let _ = proxy.admin.wait_for_stat(&format!("http.{prefix}.downstream_cx_active"), 0);
            outcomes.push(format!("{}: {outcome}\n{:#?}", case.name, counted(&proxy, &prefix)));
        }
        drop_and_read(proxy, &directory, cases.len(), &mut outcomes);
        seen.push((kind, outcomes));
    }
    if let [(_, legate), (_, envoy)] = &seen[..] {
        for (legate, envoy) in legate.iter().zip(envoy) {
            assert_eq!(legate, envoy);
        }
    }
}

/// Logs are whole when the proxy has ended.
fn drop_and_read(mut proxy: Proxy, directory: &std::path::Path, count: usize, outcomes: &mut [String]) {
    proxy.signal(nix::sys::signal::Signal::SIGTERM);
    proxy.wait_for_exit(std::time::Duration::from_secs(20)).expect("the proxy ends");
    for (i, outcome) in outcomes.iter_mut().enumerate().take(count) {
        let log = fs::read_to_string(directory.join(format!("case{i}.log"))).unwrap_or_default();
        outcome.push_str(&format!("\nlog: {log}"));
    }
}

#[test]
fn handshakes() {
    let world = World::new();
    let plain = || world.context(json!({}));
    let of = |tls_params: Value| world.context(json!({"tls_params": tls_params}));
    let chacha = || {
        let mut provider = ring::default_provider();
        provider
            .cipher_suites
            .retain(|suite| suite.suite() == CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256);
        provider
    };
    let alpn = world.context(json!({"alpn_protocols": ["h9", "http/1.1"]}));
    let only_13 = json!({"tls_minimum_protocol_version": "TLSv1_3"});
    let only_12 = json!({"tls_maximum_protocol_version": "TLSv1_2"});
    run(vec![
        case("1.3", plain(), TlsClient::new(None, true), "direct"),
        case("1.2", plain(), TlsClient::new(None, false), "direct"),
        case("a name", plain(), TlsClient::new(None, true).named("a.test"), "direct"),
        case("another name", plain(), TlsClient::new(None, true).named("b.test"), "direct"),
        case("a protocol", alpn.clone(), TlsClient::new(None, true).alpn(&["http/1.1"]), "alpn=http/1.1"),
        case(
            "two protocols",
            alpn.clone(),
            TlsClient::new(None, false).alpn(&["x", "http/1.1"]),
            "alpn=http/1.1",
        ),
        case("no common protocol", alpn, TlsClient::new(None, true).alpn(&["foo"]), "alpn= "),
        case("1.3 and nothing else", of(only_13.clone()), TlsClient::new(None, true), "direct"),
        case("1.2 where 1.3 has to be", of(only_13), TlsClient::new(None, false), "ProtocolVersion"),
        case("1.3 where 1.2 has to be", of(only_12.clone()), TlsClient::new(None, true), "ProtocolVersion"),
        case("1.2 and nothing else", of(only_12), TlsClient::new(None, false), "direct"),
        case(
            "one cipher",
            of(json!({"cipher_suites": ["ECDHE-ECDSA-AES256-GCM-SHA384"]})),
            TlsClient::new(None, false),
            "direct",
        ),
        case(
            "no common cipher",
            of(json!({"cipher_suites": ["ECDHE-ECDSA-AES256-GCM-SHA384"]})),
            TlsClient::with_provider(None, false, chacha()),
            "HandshakeFailure",
        ),
        case("the client's only cipher", plain(), TlsClient::with_provider(None, false, chacha()), "direct"),
        case("one group", of(json!({"ecdh_curves": ["P-256"]})), TlsClient::new(None, true), "direct"),
    ]);
}

#[test]
fn certificates_of_clients() {
    let world = World::new();
    let client = |identity: &Identity| TlsClient::new(Some(identity), true);
    let client12 = |identity: &Identity| TlsClient::new(Some(identity), false);
    let mutual = |validation: Value| world.mutual(validation);
    let foreign = world.stranger.sign("client", &["client.test"]);
    let expired = world.authority.sign_expired("client", &["client.test"]);
    let san = |san_type: &str, matcher: Value| {
        mutual(json!({"match_typed_subject_alt_names": [{"san_type": san_type, "matcher": matcher}]}))
    };
    let crl = mutual(json!({"crl": {"inline_string": world.authority.revoke(&[&world.client])}}));
    let empty_crl = mutual(json!({"crl": {"inline_string": world.authority.revoke(&[])}}));
    let mut optional = mutual(json!({}));
    optional["require_client_certificate"] = false.into();
    let lax = mutual(json!({"trust_chain_verification": "ACCEPT_UNTRUSTED"}));
    let unasked = {
        let mut context = world.context(json!({}));
        context["require_client_certificate"] = true.into();
        context
    };
    run(vec![
        case("a good one", mutual(json!({})), client(&world.client), "direct"),
        case("a good one, 1.2", mutual(json!({})), client12(&world.client), "direct"),
        case("none", mutual(json!({})), TlsClient::new(None, true), "CertificateRequired"),
        case("none, 1.2", mutual(json!({})), TlsClient::new(None, false), "HandshakeFailure"),
        case("none where none has to be", optional.clone(), TlsClient::new(None, true), "direct"),
        case("a stranger's where none has to be", optional, client(&foreign), "UnknownCA"),
        case("a stranger's", mutual(json!({})), client(&foreign), "UnknownCA"),
        case("a stranger's, 1.2", mutual(json!({})), client12(&foreign), "UnknownCA"),
        case("a stranger's that is let in", lax.clone(), client(&foreign), "direct"),
        case("none where strangers are let in", lax, TlsClient::new(None, true), "CertificateRequired"),
        case("out of date", mutual(json!({})), client(&expired), "CertificateExpired"),
        case(
            "out of date and let in",
            mutual(json!({"allow_expired_certificate": true})),
            client(&expired),
            "direct",
        ),
        case("revoked", crl.clone(), client(&world.client), "CertificateRevoked"),
        case("not revoked", empty_crl, client(&world.client), "direct"),
        case("nobody asks", unasked, client(&world.client), "direct"),
        case("its DNS name", san("DNS", json!({"exact": "client.test"})), client(&world.client), "direct"),
        case(
            "another DNS name",
            san("DNS", json!({"exact": "x.test"})),
            client(&world.client),
            "CertificateUnknown",
        ),
        case("its URI", san("URI", json!({"prefix": "spiffe://td/"})), client(&world.client), "direct"),
        case(
            "a URI for a name",
            san("DNS", json!({"prefix": "spiffe"})),
            client(&world.client),
            "CertificateUnknown",
        ),
        case(
            "its address of mail",
            san("EMAIL", json!({"suffix": "@test.test"})),
            client(&world.client),
            "direct",
        ),
        case(
            "its IP address",
            san("IP_ADDRESS", json!({"exact": "127.0.0.9"})),
            client(&world.client),
            "direct",
        ),
    ]);
}

#[test]
fn what_upstreams_are_told() {
    let world = World::new();
    let all = json!({"subject": true, "cert": true, "chain": true, "dns": true, "uri": true});
    let with = |name, forward: &str, details: &Value| {
        let hcm = json!({"forward_client_cert_details": forward, "set_current_client_cert_details": details});
        case(name, world.mutual(json!({})), TlsClient::new(Some(&world.client), true), "direct").hcm(hcm)
    };
    let few = json!({"uri": true});
    run(vec![
        with("sanitize", "SANITIZE", &all),
        with("forward", "FORWARD_ONLY", &all),
        with("append", "APPEND_FORWARD", &all),
        with("set", "SANITIZE_SET", &all),
        with("set a little", "SANITIZE_SET", &few),
        with("set next to nothing", "SANITIZE_SET", &json!({})),
        with("always", "ALWAYS_FORWARD_ONLY", &all),
        case("no certificate", world.context(json!({})), TlsClient::new(None, true), "direct")
            .hcm(json!({"forward_client_cert_details": "APPEND_FORWARD"})),
    ]);
}

#[test]
fn several_certificates() {
    let world = World::new();
    let named =
        |name: &str| world.authority.sign(name, &[&format!("{name}.test"), &format!("*.{name}.test")]);
    let (one, two) = (named("one"), named("two"));
    let rsa = world.authority.sign_rsa("rsa", &["rsa.test"]);
    let rsa_only = || {
        let mut provider = ring::default_provider();
        provider
            .cipher_suites
            .retain(|suite| suite.suite() == CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384);
        TlsClient::with_provider(None, false, provider)
    };
    let context = |identities: &[&Identity]| {
        let list: Vec<Value> = identities.iter().map(|identity| identity.json()).collect();
        json!({"common_tls_context": {"tls_certificates": list}})
    };
    let client = |name: &str| TlsClient::new(None, true).named(name);
    let mut scan = context(&[&rsa, &two]);
    scan["full_scan_certs_on_sni_mismatch"] = true.into();
    run(vec![
        case("the second", context(&[&one, &two]), client("two.test"), "direct"),
        case("a part of the second", context(&[&one, &two]), client("x.two.test"), "direct"),
        case("two parts", context(&[&one, &two]), client("x.y.two.test"), "direct"),
        case("nobody's", context(&[&one, &two]), client("three.test"), "direct"),
        case("no name", context(&[&rsa, &two]), TlsClient::new(None, true), "direct"),
        case("RSA alone", context(&[&rsa]), rsa_only(), "direct"),
        case("RSA alone, 1.3", context(&[&rsa]), TlsClient::new(None, true), "direct"),
        case("RSA of the name", context(&[&one, &rsa]), rsa_only().named("rsa.test"), "direct"),
        case("ECDSA of the name", context(&[&rsa, &one]), client("one.test"), "direct"),
        case("the first where none is meant", context(&[&rsa, &two]), client("x.test"), "direct"),
        case("the best where none is meant", scan, client("x.test"), "direct"),
    ]);
}

/// A second connection goes on with the first one's session, unless that is turned off.
#[test]
fn sessions_go_on() {
    let world = World::new();
    let with = |more: Value| {
        let mut context = world.mutual(json!({}));
        merge(&mut context, more);
        context
    };
    let keys = json!({"session_ticket_keys": {"keys": [{"inline_bytes": "A".repeat(104) + "AAA="}]}});
    let cases: Vec<(Value, [bool; 2])> = vec![
        (with(json!({})), [true, true]),
        (with(keys), [true, true]),
        (with(json!({"disable_stateless_session_resumption": true})), [false, true]),
        (
            with(
                json!({"disable_stateless_session_resumption": true, "disable_stateful_session_resumption": true}),
            ),
            [false, false],
        ),
    ];
    let list: Vec<TlsCase> =
        cases.iter().map(|(context, _)| case("", context.clone(), TlsClient::new(None, true), "")).collect();
    for kind in proxies() {
        let directory = new_directory(kind);
        let proxy = Proxy::start(kind, &bootstrap(&list, &directory), directory, Launch::default());
        for (i, (_, resumes)) in cases.iter().enumerate() {
            for (is_13, resumes) in [true, false].into_iter().zip(resumes) {
                let client = TlsClient::new(Some(&world.client), is_13);
                let port = proxy.listeners[&format!("case{i}")];
                assert!(talk(&client, port).contains("resumed=false"), "{kind:?}, {i}, 1.3: {is_13}");
                let second = talk(&client, port);
                assert!(
                    second.contains(&format!("resumed={resumes}")),
                    "{kind:?}, {i}, 1.3: {is_13}: {second}"
                );
                assert!(second.contains("direct"), "{second}");
            }
        }
    }
}

/// What is no TLS gets what Envoy says to it, and counts.
#[test]
fn what_is_no_tls() {
    let world = World::new();
    let list = vec![case("", world.context(json!({})), TlsClient::new(None, true), "")];
    let mut seen = Vec::new();
    for kind in proxies() {
        let directory = new_directory(kind);
        let proxy = Proxy::start(kind, &bootstrap(&list, &directory), directory, Launch::default());
        let mut answers = Vec::new();
        for bytes in [
            &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
            b"POST / HTTP/1.1\r\n\r\n",
            b"CONNECT a:1 HTTP/1.1\r\n\r\n",
            b"SSH-2.0-x\r\n",
            b"\x16\x03\x01\x00\x05hello",
            b"\x15\x03\x01\x00\x02\x02\x28",
            b"",
        ] {
            let mut stream =
                TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.listeners["case0"])).expect("a connection");
            stream.set_read_timeout(Some(crate::harness::PATIENCE)).expect("a limit");
            // It may be closed already.
            let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
            let mut answer = Vec::new();
            let end = stream.read_to_end(&mut answer).map_err(|error| error.kind());
            let _ = proxy.admin.wait_for_stat("http.case0.downstream_cx_active", 0);
            let errors = proxy.admin.stat("listener.case0.ssl.connection_error");
            answers.push(format!(
                "{}: {answer:?} {} {errors:?}",
                String::from_utf8_lossy(bytes),
                end.is_ok()
            ));
        }
        seen.push(answers);
    }
    if let [legate, envoy] = &seen[..] {
        assert_eq!(legate, envoy);
    }
}
