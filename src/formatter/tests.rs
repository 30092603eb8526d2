//! Lines as a whole, compared with what Envoy 1.40 wrote for the same streams.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::common::Local;
use crate::config::access_log::AccessLogType;
use crate::config::endpoint::HealthStatus;
use crate::event::Moment;
use crate::http::{HeaderMap, Protocol};
use crate::network::tls::certificate::Certificate;
use crate::network::tls::config::SanType;
use crate::network::{Address, ConnectionInfoProvider, SslConnectionInfo};
use crate::stream_info::{Object, ResponseFlag, Route, StreamInfoImpl};
use crate::upstream::{WorkerHost, test_support};
use rustls::pki_types::CertificateDer;
use std::borrow::Cow;

const ID: &str = "1af026da-ae13-43cb-9ec7-2995086dd5f9";

/// A stream with its headers.
struct Logged {
    request: Option<HeaderMap>,
    response: Option<HeaderMap>,
    trailers: Option<HeaderMap>,
    info: StreamInfoImpl,
}

impl Logged {
    fn context(&self) -> Context<'_> {
        Context {
            request_headers: self.request.as_ref(),
            response_headers: self.response.as_ref(),
            response_trailers: self.trailers.as_ref(),
            log_type: AccessLogType::DownstreamEnd,
            ..Context::new(&self.info)
        }
    }

    fn line(&self, format: &str) -> String {
        let mut line = Vec::new();
        let formatter = Formatter::new(format).unwrap();
        formatter.format(&mut line, &self.context());
        String::from_utf8(line).unwrap()
    }

    /// The value of one operator.
    fn value(&self, operator: &str) -> String {
        self.line(&format!("%{operator}%"))
    }

    /// The line of the default format behind the time.
    fn default_line(&self) -> String {
        self.line(DEFAULT_FORMAT)[26..].to_string()
    }

    fn assert_values(&self, expected: &[(&str, &str)]) {
        for (operator, value) in expected {
            assert_eq!(self.value(operator), *value, "{operator}");
        }
    }
}

fn address(text: &str) -> Option<Address> {
    Some(Address::Ip(text.parse().unwrap()))
}

struct Named;

impl Route for Named {
    fn route_name(&self) -> &str {
        "direct"
    }
    fn virtual_host_name(&self) -> &str {
        "v"
    }
}

/// One that is named `direct`.
fn route() -> Option<Rc<dyn Route>> {
    Some(Rc::new(Named))
}

fn headers(fields: &[(&str, &str)]) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    fields.iter().for_each(|(name, value)| map.add(name, value.as_bytes()));
    Some(map)
}

fn after_start(info: &StreamInfoImpl, milliseconds: u64) -> Option<Moment> {
    Some(info.start_time_monotonic().after(Duration::from_millis(milliseconds)))
}

/// What is known of every stream whose head could be read.
fn stream(method: &str, path: &str, status: u16) -> Logged {
    let info = StreamInfoImpl::new();
    info.stream_id.set(1);
    info.protocol.set(Some(Protocol::Http11));
    info.response_code.set(Some(status));
    let (local, remote) = (address("127.0.0.1:45661"), address("[::1]:46050"));
    let connection = ConnectionInfoProvider::new(local, remote.unwrap());
    connection.set_connection_id(2);
    info.set_downstream_connection(&connection);
    info.set_downstream_remote_address(address("10.1.2.3:0"));
    info.last_downstream_rx_byte_received.set(after_start(&info, 0));
    info.request_complete.set(after_start(&info, 0));
    let fields = [(":method", method), (":path", path), (":authority", "a"), ("x-request-id", ID)];
    let status = status.to_string();
    let response = headers(&[(":status", &status), ("x-two", "1"), ("x-two", "2"), ("server", "envoy")]);
    Logged { request: headers(&fields), response, trailers: None, info }
}

#[test]
fn a_direct_response() {
    let logged = stream("GET", "/d?q=1", 200);
    logged.info.set_response_code_details("direct_response");
    logged.info.set_route(route());
    logged.info.add_bytes_sent(5);
    let expected = format!("\"GET /d?q=1 HTTP/1.1\" 200 - 0 5 0 - \"-\" \"-\" \"{ID}\" \"a\" \"-\"\n");
    assert_eq!(logged.default_line(), format!(" {expected}"));
    logged.assert_values(&[
        ("PROTOCOL", "HTTP/1.1"),
        ("RESPONSE_CODE", "200"),
        ("RESPONSE_CODE_DETAILS", "direct_response"),
        ("RESPONSE_FLAGS", "-"),
        ("ROUTE_NAME", "direct"),
        ("BYTES_SENT", "5"),
        ("REQUEST_DURATION", "0"),
        ("REQUEST_TX_DURATION", "-"),
        ("RESPONSE_DURATION", "-"),
        ("RESPONSE_TX_DURATION", "-"),
        ("UPSTREAM_HOST", "-"),
        ("UPSTREAM_CLUSTER", "-"),
        ("UPSTREAM_LOCAL_ADDRESS", "-"),
        ("UPSTREAM_TRANSPORT_FAILURE_REASON", "-"),
        ("UPSTREAM_REQUEST_ATTEMPT_COUNT", "0"),
        ("CONNECTION_ID", "2"),
        ("STREAM_ID", ID),
        ("REQUESTED_SERVER_NAME", "-"),
    ]);
}

#[test]
fn addresses_with_and_without_their_ports() {
    stream("GET", "/", 200).assert_values(&[
        ("DOWNSTREAM_REMOTE_ADDRESS", "10.1.2.3:0"),
        ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "10.1.2.3"),
        ("DOWNSTREAM_REMOTE_PORT", "0"),
        ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", "[::1]:46050"),
        ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", "::1"),
        ("DOWNSTREAM_DIRECT_REMOTE_PORT", "46050"),
        ("DOWNSTREAM_LOCAL_ADDRESS", "127.0.0.1:45661"),
        ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", "127.0.0.1"),
        ("DOWNSTREAM_LOCAL_PORT", "45661"),
    ]);
}

#[test]
fn headers_alternatives_and_lengths() {
    let mut logged = stream("GET", "/d?q=1", 200);
    if let Some(request) = &mut logged.request {
        request.add("x-a", b"1");
        request.add("x-a", b"2");
        request.add("x-e", b"");
    }
    logged.trailers = headers(&[("x-t", "v")]);
    logged.assert_values(&[
        ("REQ(:METHOD)", "GET"),
        ("REQ(X-ENVOY-ORIGINAL-PATH?:PATH):3", "/d?"),
        ("REQ(X-ENVOY-ORIGINAL-PATH?:PATH):300", "/d?q=1"),
        ("REQ(?:PATH)", "/d?q=1"),
        ("REQ(:PATH?)", "/d?q=1"),
        ("REQ(:PATH):0", ""),
        ("REQ(X-A)", "1"),
        ("REQ(X-E)", ""),
        ("REQ(X-E?:PATH)", ""),
        ("REQ(?)", "-"),
        ("REQUEST_HEADER(:authority)", "a"),
        ("RESP(:STATUS)", "200"),
        ("RESP(X-TWO)", "1"),
        ("RESP(CONTENT-TYPE)", "-"),
        ("RESP(server?date)", "envoy"),
        ("RESPONSE_HEADER(date?server)", "envoy"),
        ("TRAILER(x-t)", "v"),
        ("RESPONSE_TRAILER(X-T)", "v"),
    ]);
}

#[test]
fn an_upstream_response() {
    let logged = stream("POST", "/live", 200);
    let info = &logged.info;
    info.set_response_code_details("via_upstream");
    info.add_bytes_received(2);
    info.add_bytes_sent(3);
    let cluster = test_support::cluster_info_of(json!({"name": "a", "alt_stat_name": "alt"}));
    let host = test_support::host(&cluster, 45655, 1, HealthStatus::Unknown);
    info.set_upstream_host(&WorkerHost::new(host));
    info.set_upstream_connection(Some(ConnectionInfoProvider::new(
        address("127.0.0.1:47668"),
        address("127.0.0.1:10001").expect("an address"),
    )));
    info.set_upstream_cluster_info(Some(&Local::new(cluster)));
    info.attempt_count.set(1);
    info.last_upstream_tx_byte_sent.set(after_start(info, 2));
    info.first_upstream_rx_byte_received.set(after_start(info, 5));
    info.last_downstream_tx_byte_sent.set(after_start(info, 12));
    info.request_complete.set(after_start(info, 13));
    let expected =
        format!(" \"POST /live HTTP/1.1\" 200 - 2 3 13 - \"-\" \"-\" \"{ID}\" \"a\" \"127.0.0.1:45655\"\n");
    assert_eq!(logged.default_line(), expected);
    logged.assert_values(&[
        ("REQUEST_TX_DURATION", "2"),
        ("RESPONSE_DURATION", "5"),
        ("RESPONSE_TX_DURATION", "7"),
        ("DURATION", "13"),
        ("UPSTREAM_HOST", "127.0.0.1:45655"),
        ("UPSTREAM_CLUSTER", "alt"),
        ("UPSTREAM_CLUSTER_RAW", "a"),
        ("UPSTREAM_LOCAL_ADDRESS", "127.0.0.1:47668"),
        ("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", "127.0.0.1"),
        ("UPSTREAM_LOCAL_PORT", "47668"),
        ("UPSTREAM_REQUEST_ATTEMPT_COUNT", "1"),
        ("ROUTE_NAME", "-"),
    ]);
}

#[test]
fn a_failed_upstream() {
    let logged = stream("GET", "/r", 503);
    let info = &logged.info;
    info.set_response_flag(ResponseFlag::UpstreamRetryLimitExceeded);
    info.set_response_flag(ResponseFlag::UpstreamConnectionFailure);
    info.set_response_code_details("reset{failed|Connection refused}".to_string());
    info.set_upstream_transport_failure_reason("Connection refused");
    logged.assert_values(&[
        ("RESPONSE_FLAGS", "URX,UF"),
        ("RESPONSE_CODE_DETAILS", "reset{failed|Connection_refused}"),
        ("RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)", "reset{failed|Connection refused}"),
        ("UPSTREAM_TRANSPORT_FAILURE_REASON", "Connection_refused"),
    ]);
}

#[test]
fn a_request_that_could_not_be_read() {
    let mut logged = stream("", "", 400);
    logged.request = None;
    logged.info.last_downstream_rx_byte_received.set(None);
    logged.info.set_response_flag(ResponseFlag::DownstreamProtocolError);
    logged.info.add_bytes_sent(11);
    assert_eq!(logged.default_line(), " \"- - HTTP/1.1\" 400 DPE 0 11 0 - \"-\" \"-\" \"-\" \"-\" \"-\"\n");
    logged.assert_values(&[
        ("REQUEST_DURATION", "-"),
        ("STREAM_ID", "-"),
        ("REQ(:PATH):0", "-"),
        ("RESP(:STATUS)", "400"),
    ]);
    logged.info.response_code.set(None);
    logged.info.protocol.set(None);
    logged.assert_values(&[("RESPONSE_CODE", "0"), ("PROTOCOL", "-"), ("RESPONSE_CODE_DETAILS", "-")]);
}

#[test]
fn times_escapes_and_plain_text() {
    let logged = stream("GET", "/", 200);
    let seconds = logged.info.start_time().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(logged.value("START_TIME(%s)"), seconds.to_string());
    let time = logged.value("START_TIME");
    assert_eq!((time.len(), &time[10..11], &time[23..]), (24, "T", "Z"));
    assert_eq!(logged.line(""), "");
    assert_eq!(logged.line("100%% of\n%%PROTOCOL%%"), "100% of\n%PROTOCOL%");
    assert!(!["", "-"].contains(&logged.value("HOSTNAME").as_str()));
}

impl Logged {
    /// The line of a JSON format.
    fn json(&self, pattern: serde_json::Value, omit_empty_values: bool) -> String {
        let formatter =
            JsonFormatter::new(pattern.as_object().expect("an object"), omit_empty_values, &[]).unwrap();
        let mut line = Vec::new();
        formatter.format(&mut line, &self.context());
        String::from_utf8(line).unwrap()
    }
}

#[test]
fn json_keeps_the_kinds_of_values_and_sorts_keys() {
    let logged = stream("GET", "/d", 200);
    let line = logged.json(
        json!({
            "z": "%RESPONSE_CODE%", "a": "%PROTOCOL%", "null": null, "empty": {}, "el": [],
            "m": {"y": "%REQ(x-none)%", "b": "lit", "n": {"q": "%BYTES_SENT%"}},
            "list": ["%REQUEST_DURATION%", 1, true, null, "x%%y", "a %RESPONSE_CODE% b", "%REQ(:PATH):0%"],
            "two": "%REQ(x-none)%%REQ(x-none)%", "flags": "%RESPONSE_FLAGS%", "time": "%START_TIME(day)%",
            "port": "%DOWNSTREAM_LOCAL_PORT%", "type": "%ACCESS_LOG_TYPE%", "body": "%LOCAL_REPLY_BODY%",
        }),
        false,
    );
    let want = concat!(
        r#"{"a":"HTTP/1.1","body":"","el":[],"empty":{},"flags":"-","#,
        r#""list":[0,1,true,null,"x%y","a 200 b",""],"m":{"b":"lit","n":{"q":0},"y":null},"null":null,"#,
        r#""port":45661,"time":"day","two":"--","type":"DownstreamEnd","z":200}"#,
        "\n"
    );
    assert_eq!(line, want);
}

#[test]
fn what_is_empty_may_be_left_out() {
    let logged = stream("GET", "/d", 200);
    let line = logged.json(
        json!({
            "a": "%REQ(x-none)%", "b": "", "c": "%REQ(:PATH):0%", "d": {}, "e": [], "f": {"g": {"h": null}},
            "i": "-%REQ(x-none)%%RESPONSE_FLAGS%", "j": [null, "%REQ(x-none)%", 1], "l": {"m": [{"n": "%REQ(x-none)%"}]},
        }),
        true,
    );
    assert_eq!(line, "{\"b\":\"\",\"c\":\"\",\"e\":[],\"i\":\"--\",\"j\":[1],\"l\":{\"m\":[]}}\n");
    assert_eq!(logged.json(json!({"a": {"b": "%REQ(x-none)%"}}), true), "{}\n");
    let text = TextFormatter::new("%REQ(x-none)%|%RESPONSE_FLAGS%|%REQ(:METHOD)%", true, &[]).unwrap();
    let mut line = Vec::new();
    text.format(&mut line, &logged.context());
    assert_eq!(line, b"|-|GET");
}

#[test]
fn json_strings_are_escaped() {
    let mut logged = stream("GET", "/d", 200);
    if let Some(request) = &mut logged.request {
        request.add("x-plain", b"a\"b\\c\td");
        request.add("x-utf8", "\u{e9}\u{2028}".as_bytes());
        request.add("x-latin1", b"\xc3\xa9\xff\"");
    }
    let line = logged.json(
        json!({
            "k\"ey\n": "v\u{1}\u{8}\u{c}\r\u{7f}/\u{e9}", "p": "%REQ(x-plain)%", "u": "%REQ(x-utf8)%",
            "l": "%REQ(x-latin1)%", "m": "\"%REQ(x-plain)%\"",
        }),
        false,
    );
    let want = concat!(
        r#"{"k\"ey\n":"v\u0001\b\f\r"#,
        "\u{7f}/\u{e9}",
        r#"","l":"\u00c3\u00a9\u00ff\u0022","m":"\"a\"b\\c\td\"","p":"a\"b\\c\td","u":""#,
        "\u{e9}\u{2028}\"}\n"
    );
    assert_eq!(line, want);
}

#[test]
fn json_numbers_are_the_shortest() {
    let logged = stream("GET", "/d", 200);
    for (number, text) in [
        ("100", "100"),
        ("100000", "1e+05"),
        ("123000", "123000"),
        ("1e15", "1e+15"),
        ("0.1", "0.1"),
        ("0.001", "0.001"),
        ("0.0001", "1e-04"),
        ("0.00012", "0.00012"),
        ("1e-7", "1e-07"),
        ("-0.0", "-0"),
        ("-5", "-5"),
        ("1234567.5", "1234567.5"),
        ("123456789012345678", "123456789012345680"),
        ("9007199254740993", "9007199254740992"),
        ("1234567890123456789012", "1234567890123456774144"),
        ("1.7976931348623157e308", "1.7976931348623157e+308"),
    ] {
        let number: serde_json::Value = serde_json::from_str(number).unwrap();
        assert_eq!(logged.json(json!({"n": number}), false), format!("{{\"n\":{text}}}\n"));
    }
}

/// `%SHOUT(word)%`.
#[derive(Debug)]
struct Shout;

#[derive(Debug)]
struct Shouted(String);

impl CommandParser for Shout {
    fn parse(&self, command: &Command<'_>) -> Option<Result<Box<dyn FormatterProvider>, String>> {
        (command.name == "SHOUT").then(|| match command.argument {
            "" => Err("SHOUT requires parameters".to_string()),
            word => Ok(Box::new(Shouted(word.to_uppercase())) as Box<dyn FormatterProvider>),
        })
    }
}

impl FormatterProvider for Shouted {
    fn write(&self, line: &mut Vec<u8>, _context: &Context<'_>) -> Written {
        line.extend_from_slice(self.0.as_bytes());
        Written::Text
    }
}

#[test]
fn extensions_add_commands() {
    let parsers: [Arc<dyn CommandParser>; 1] = [Arc::new(Shout)];
    let formatter = TextFormatter::new("%SHOUT(hey)% %PROTOCOL%", false, &parsers).unwrap();
    let mut line = Vec::new();
    formatter.format(&mut line, &stream("GET", "/", 200).context());
    assert_eq!(line, b"HEY HTTP/1.1");
    let error = |format| TextFormatter::new(format, false, &parsers).unwrap_err();
    assert_eq!(error("%SHOUT%"), "SHOUT requires parameters");
    assert_eq!(error("%WHISPER%"), "Not supported field in StreamInfo: WHISPER");
}

struct Word(&'static str);

impl Object for Word {
    fn serialize_as_string(&self) -> Option<String> {
        Some(self.0.to_string())
    }
}

#[test]
fn what_filters_have_said_and_left() {
    let logged = stream("GET", "/", 200);
    let names = ["DYNAMIC_METADATA(f)", "DYNAMIC_METADATA(f:a)", "FILTER_STATE(w:PLAIN)"];
    logged.assert_values(&names.map(|name| (name, "-")));
    let said = json!({"b": {"z": 1.5, "a": [true, null, "q\""]}, "a": "text", "n": 7});
    logged.info.set_dynamic_metadata("f", said.as_object().unwrap().clone());
    assert!(logged.info.make_filter_state().set_data("w", Rc::new(Word("left"))));
    logged.assert_values(&[
        ("DYNAMIC_METADATA(f)", r#"{"a":"text","b":{"a":[true,null,"q\""],"z":1.5},"n":7}"#),
        ("DYNAMIC_METADATA(f:a)", "text"),
        ("DYNAMIC_METADATA(f:a):2", "te"),
        ("DYNAMIC_METADATA(f:b:z)", "1.5"),
        ("DYNAMIC_METADATA(f:b:x)", "-"),
        ("DYNAMIC_METADATA(g)", "-"),
        ("FILTER_STATE(w:PLAIN)", "left"),
        ("FILTER_STATE(w:PLAIN):3", "lef"),
        ("FILTER_STATE(w)", "-"),
        ("FILTER_STATE(v:PLAIN)", "-"),
    ]);
    logged.assert_values(&[("DYNAMIC_METADATA(f:b):3", "{\"a"), ("DYNAMIC_METADATA(f:b:z):2", "1.")]);
    let pattern = json!({
        "a": "%DYNAMIC_METADATA(f:b)%", "b": "%DYNAMIC_METADATA(f:a)%", "c": "%FILTER_STATE(w:PLAIN)%",
        // What is no text is whole.
        "d": "%DYNAMIC_METADATA(f:b:z):2%", "e": "%DYNAMIC_METADATA(f:b:a):3%", "f": "%DYNAMIC_METADATA(f:a):3%",
    });
    let want = "{\"a\":{\"a\":[true,null,\"q\\\"\"],\"z\":1.5},\"b\":\"text\",\"c\":\"left\",\
        \"d\":1.5,\"e\":[true,null,\"q\\\"\"],\"f\":\"tex\"}\n";
    assert_eq!(logged.json(pattern, false), want);
}

struct Tls {
    peer: Certificate,
    local: Certificate,
}

impl SslConnectionInfo for Tls {
    fn peer(&self) -> Option<&Certificate> {
        Some(&self.peer)
    }
    fn local(&self) -> Option<&Certificate> {
        Some(&self.local)
    }
    fn peer_chain(&self) -> &[CertificateDer<'static>] {
        &[]
    }
    fn issuer(&self) -> Option<Cow<'_, CertificateDer<'static>>> {
        None
    }
    fn tls_version(&self) -> &'static str {
        "TLSv1.3"
    }
    fn ciphersuite_string(&self) -> &'static str {
        "TLS_AES_128_GCM_SHA256"
    }
    fn tls_group(&self) -> &'static str {
        "X25519"
    }
    fn sni(&self) -> &str {
        ""
    }
}

#[test]
fn what_is_known_of_tls() {
    let logged = stream("GET", "/", 200);
    logged.assert_values(&[("DOWNSTREAM_PEER_SUBJECT", "-"), ("DOWNSTREAM_LOCAL_URI_SAN", "-")]);
    let uri = |name: &str| (SanType::Uri, name.to_string());
    let peer = Certificate {
        subject: "CN=peer".into(),
        serial_number: "1f".into(),
        not_before: 1_700_000_000,
        sans: vec![(SanType::Dns, "peer.test".into())],
        ..Certificate::default()
    };
    let local = Certificate { sans: vec![uri("spiffe://a"), uri("spiffe://b")], ..Certificate::default() };
    logged.info.downstream_connection().unwrap().set_ssl_connection(Rc::new(Tls { peer, local }));
    logged.assert_values(&[
        ("DOWNSTREAM_PEER_SUBJECT", "CN=peer"),
        ("DOWNSTREAM_LOCAL_SUBJECT", "-"),
        ("DOWNSTREAM_LOCAL_URI_SAN", "spiffe://a,spiffe://b"),
        ("DOWNSTREAM_PEER_URI_SAN", "-"),
        ("DOWNSTREAM_PEER_DNS_SAN", "peer.test"),
        ("DOWNSTREAM_PEER_SERIAL", "1f"),
        ("DOWNSTREAM_PEER_CERT", "-"),
        ("DOWNSTREAM_TLS_VERSION", "TLSv1.3"),
        ("DOWNSTREAM_TLS_CIPHER", "TLS_AES_128_GCM_SHA256"),
        ("DOWNSTREAM_TLS_GROUP", "X25519"),
        ("DOWNSTREAM_PEER_CERT_V_START", "2023-11-14T22:13:20.000Z"),
        ("DOWNSTREAM_PEER_CERT_V_START(%Y)", "2023"),
        ("UPSTREAM_TLS_VERSION", "-"),
        ("UPSTREAM_PEER_CERT_V_END", "-"),
    ]);
}

#[test]
fn connections_to_upstreams() {
    let logged = stream("GET", "/", 200);
    logged.assert_values(&[
        ("UPSTREAM_CONNECTION_ID", "0"),
        ("UPSTREAM_CONNECTION_IDS_ATTEMPTED", "-"),
        ("UPSTREAM_CONNECTION_POOL_READY_DURATION", "-"),
        ("VIRTUAL_CLUSTER_NAME", "-"),
    ]);
    let connection = ConnectionInfoProvider::new(None, address("127.0.0.1:10001").unwrap());
    connection.set_connection_id(7);
    logged.info.set_upstream_connection(Some(connection));
    logged.info.upstream_pool_ready_duration.set(Some(Duration::from_micros(3900)));
    logged.info.set_virtual_cluster_name("v");
    logged.assert_values(&[
        ("UPSTREAM_CONNECTION_ID", "7"),
        ("UPSTREAM_CONNECTION_IDS_ATTEMPTED", "7"),
        ("UPSTREAM_CONNECTION_POOL_READY_DURATION", "3"),
        ("VIRTUAL_CLUSTER_NAME", "v"),
    ]);
}

#[test]
fn ids_of_lines() {
    let logged = stream("GET", "/", 200);
    let id = logged.value("UNIQUE_ID");
    assert_eq!(id.len(), 36);
    assert_ne!(id, logged.value("UNIQUE_ID"));
}
