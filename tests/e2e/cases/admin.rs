//! The admin: parameters, methods, content types and errors of its endpoints, and clients that do not read.

use crate::harness::{Case, Kind, PATIENCE, ParsedReply, Site, Wire, proxies};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Asks on a connection of its own.
fn ask(site: &Site, method: &str, path: &str) -> ParsedReply {
    let mut stream = TcpStream::connect(site.proxy.admin.address).expect("the admin");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: admin\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the request sent");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    ParsedReply::parse(&bytes).unwrap_or_else(|| panic!("{path}: {}", bytes.escape_ascii()))
}

/// The next answer of a connection.
fn chunked(wire: &mut Wire) -> Vec<u8> {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n0\r\n\r\n") {
        let bytes = wire.some();
        assert!(!bytes.is_empty(), "it ends after {}", answer.escape_ascii());
        answer.extend(bytes);
    }
    answer
}

fn text(reply: &ParsedReply) -> String {
    String::from_utf8(reply.body.clone()).expect("text")
}

const TEXT: &str = "text/plain; charset=UTF-8";
const JSON: &str = "application/json";

/// Method, path, status, content type, body.
const ANSWERS: &[(&str, &str, u16, &str, &str)] = &[
    ("GET", "/stats?filter=server.live", 200, TEXT, "server.live: 1\n"),
    ("POST", "/stats?filter=server.live&unknown=1", 200, TEXT, "server.live: 1\n"),
    ("GET", "//stats?filter=server.live", 200, TEXT, "server.live: 1\n"),
    ("GET", "/x/../stats?filter=server%2Elive", 200, TEXT, "server.live: 1\n"),
    ("GET", "/stats?filter=(?i)SERVER.LIVE", 200, TEXT, "server.live: 1\n"),
    ("GET", "/stats?filter=^\\pL*.live", 200, TEXT, "server.live: 1\n"),
    ("GET", "/stats?filter=server.live&filter=x&format=&hidden=&type=", 200, TEXT, "server.live: 1\n"),
    ("GET", "/stats?filter=nothing", 200, TEXT, ""),
    ("GET", "/stats?filter=(", 400, TEXT, "Invalid re2 regex: missing ): ("),
    ("GET", "/stats?filter=*", 400, TEXT, "Invalid re2 regex: no argument for repetition operator: *"),
    (
        "GET",
        "/stats?filter=.{0,100000}{0,1000}",
        400,
        TEXT,
        "Invalid re2 regex: invalid repetition size: {0,100000}",
    ),
    ("GET", "/stats?filter=server.live&type=Gauges", 200, TEXT, "server.live: 1\n"),
    ("GET", "/stats?filter=server.live&type=Counters", 200, TEXT, ""),
    ("GET", "/stats?filter=server.live&type=TextReadouts", 200, TEXT, ""),
    ("GET", "/stats?filter=server.live&type=Bogus", 400, TEXT, "invalid &type= param"),
    ("GET", "/stats?filter=server.live&hidden=only", 200, TEXT, ""),
    ("GET", "/stats?filter=server.live&hidden=include", 200, TEXT, "server.live: 1\n"),
    ("GET", "/stats?hidden=x&format=x", 400, TEXT, "usage: /stats?hidden=(include|only|exclude)\n\n"),
    (
        "GET",
        "/stats?histogram_buckets=x&type=x",
        400,
        TEXT,
        "usage: /stats?histogram_buckets=(cumulative|disjoint|detailed|summary|prometheusnative)\n",
    ),
    (
        "GET",
        "/stats?histogram_buckets=prometheusnative",
        400,
        TEXT,
        "Invalid histogram_buckets type for non prometheus stats type",
    ),
    (
        "GET",
        "/stats?format=json&filter=server.live",
        200,
        JSON,
        r#"{"stats":[{"name":"server.live","value":1}]}"#,
    ),
    ("GET", "/stats?format=json&filter=nothing", 200, JSON, r#"{"stats":[]}"#),
    (
        "GET",
        "/stats?format=prometheus&filter=server.live&type=Counters",
        200,
        TEXT,
        "# TYPE envoy_server_live gauge\nenvoy_server_live{} 1\n",
    ),
    (
        "GET",
        "/stats/prometheus?filter=cluster.case0.membership_total",
        200,
        TEXT,
        "# TYPE envoy_cluster_membership_total gauge\n\
            envoy_cluster_membership_total{envoy_cluster_name=\"case0\"} 1\n",
    ),
    ("GET", "/stats/prometheus?filter=server.live&hidden=only", 200, TEXT, ""),
    (
        "GET",
        "/stats/prometheus?histogram_buckets=disjoint",
        400,
        TEXT,
        "unsupported prometheus histogram bucket mode",
    ),
    (
        "GET",
        "/stats/prometheus?histogram_buckets=prometheusnative",
        400,
        TEXT,
        "unsupported prometheusnative histogram type when not using protobuf exposition format",
    ),
    ("GET", "/clusters?filter=nothing", 200, TEXT, ""),
    ("GET", "/clusters?filter=(", 400, TEXT, "Invalid re2 regex"),
    ("GET", "/clusters?filter=nothing&format=json", 200, JSON, "{}\n"),
    ("GET", "/ready?x", 200, TEXT, "LIVE\n"),
    ("POST", "/reopen_logs", 200, TEXT, "OK\n"),
    ("GET", "/reopen_logs", 405, TEXT, "Method GET not allowed, POST required."),
    ("PUT", "/reset_counters", 405, TEXT, "Method PUT not allowed, POST required."),
];

#[test]
fn answers() {
    for kind in proxies() {
        let site = Site::start(kind, &[&Case::new("admin")]);
        for (method, path, status, content_type, body) in ANSWERS {
            let reply = ask(&site, method, path);
            let got = (reply.status, reply.header("content-type"), text(&reply));
            assert_eq!(got, (*status, Some(*content_type), body.to_string()), "{kind:?}: {method} {path}");
        }
        // An answer whose length is not known before it is made.
        let reply = ask(&site, "GET", "/stats?filter=nothing");
        assert_eq!(reply.header("transfer-encoding"), Some("chunked"), "{kind:?}");
    }
}

/// Of a histogram that is not used, so that all numbers are known.
#[test]
fn histograms() {
    for kind in proxies() {
        let site = Site::start(kind, &[&Case::new("admin")]);
        let name = "http.case0.downstream_rq_time";
        let get = |parameters: &str| text(&ask(&site, "GET", &format!("/stats?filter={name}$&{parameters}")));
        for buckets in ["", "none", "summary", "cumulative", "disjoint", "detailed"] {
            let got = get(&format!("histogram_buckets={buckets}"));
            assert_eq!(got, format!("{name}: No recorded values\n"), "{kind:?}: {buckets}");
        }
        let none = [r#"{"cumulative":null,"interval":null}"#; 10].join(",");
        let quantiles = "[0,25,50,75,90,95,99,99.5,99.9,100]";
        let summary = format!(
            r#"{{"stats":[{{"histograms":{{"supported_quantiles":{quantiles},"computed_quantiles":[{{"name":"{name}","values":[{none}]}}]}}}}]}}"#
        );
        assert_eq!(get("format=json"), summary, "{kind:?}");
        let detailed = format!(
            r#"{{"stats":[{{"histograms":{{"supported_percentiles":{quantiles},"details":[{{"name":"{name}","totals":[],"intervals":[],"percentiles":[{none}]}}]}}}}]}}"#
        );
        assert_eq!(get("format=json&histogram_buckets=detailed"), detailed, "{kind:?}");
        for buckets in ["cumulative", "disjoint"] {
            let got = get(&format!("format=json&histogram_buckets={buckets}"));
            let start =
                format!(r#"{{"stats":[{{"histograms":[{{"name":"{name}","buckets":[{{"upper_bound":0.5,"#);
            let end = r#"{"upper_bound":3e+05,"interval":0,"cumulative":0},{"upper_bound":6e+05,"interval":0,"cumulative":0},{"upper_bound":1800000,"interval":0,"cumulative":0},{"upper_bound":3600000,"interval":0,"cumulative":0}]}]}]}"#;
            assert!(got.starts_with(&start) && got.ends_with(end), "{kind:?}: {got}");
        }
        assert_eq!(get("format=json&usedonly"), r#"{"stats":[]}"#, "{kind:?}");

        let got = get("format=prometheus");
        let line = |what: &str, bound: &str, value: &str| {
            let comma = if bound.is_empty() { "" } else { "," };
            let tags = format!("envoy_http_conn_manager_prefix=\"case0\"{comma}{bound}");
            format!("envoy_http_downstream_rq_time{what}{{{tags}}} {value}\n")
        };
        let start = "# TYPE envoy_http_downstream_rq_time histogram\n".to_string()
            + &line("_bucket", "le=\"0.5\"", "0");
        let end = line("_bucket", "le=\"3600000\"", "0")
            + &line("_bucket", "le=\"+Inf\"", "0")
            + &line("_sum", "", "0")
            + &line("_count", "", "0");
        assert!(got.starts_with(&start) && got.ends_with(&end), "{kind:?}: {got}");
        let got = get("format=prometheus&histogram_buckets=summary");
        let start =
            "# TYPE envoy_http_downstream_rq_time summary\n".to_string() + &line("", "quantile=\"0\"", "nan");
        let end = line("", "quantile=\"0.999\"", "nan")
            + &line("", "quantile=\"1\"", "nan")
            + &line("_sum", "", "0")
            + &line("_count", "", "0");
        assert!(got.starts_with(&start) && got.ends_with(&end), "{kind:?}: {got}");
    }
}

#[test]
fn an_inverted_filter_shows_the_others() {
    for kind in proxies() {
        let site = Site::start(kind, &[&Case::new("admin")]);
        let all = text(&ask(&site, "GET", "/stats?type=Gauges"));
        let others = text(&ask(&site, "GET", "/stats?type=Gauges&filter=^cluster&invert_filter"));
        let names = |text: &str| -> Vec<String> {
            text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.to_string()).collect()
        };
        let wanted: Vec<String> = names(&all).into_iter().filter(|n| !n.starts_with("cluster")).collect();
        assert!(!wanted.is_empty() && wanted.len() < names(&all).len(), "{kind:?}");
        assert_eq!(names(&others), wanted, "{kind:?}");
    }
}

#[test]
fn clusters_and_listeners_as_json() {
    let mut answers = Vec::new();
    for kind in proxies() {
        let site = Site::start(kind, &[&Case::new("admin")]);
        // Their order is each one's own.
        let clusters = ["case0", "nohosts", "full"].map(|name| {
            let clusters = text(&ask(&site, "GET", &format!("/clusters?format=json&filter={name}")));
            let parsed: Value = serde_json::from_str(&clusters).expect("JSON");
            let address = &parsed["cluster_statuses"][0]["host_statuses"][0]["address"];
            match address["socket_address"]["port_value"].as_u64() {
                Some(port) => clusters.replace(&format!("_value\": {port}"), "_value\": PORT"),
                None => clusters,
            }
        });
        let listeners = text(&ask(&site, "GET", "/listeners?format=json"));
        let wanted = format!(
            "{{\n \"listener_statuses\": [\n  {{\n   \"name\": \"case0\",\n   \"local_address\": {{\n    \
            \"socket_address\": {{\n     \"address\": \"127.0.0.1\",\n     \"port_value\": {}\n    }}\n   }}\n  }}\n ]\n}}\n",
            site.port(0)
        );
        assert_eq!(listeners, wanted, "{kind:?}");
        answers.push(clusters);
    }
    assert!(
        answers[0][0]
            .contains("     \"health_status\": {\n      \"eds_health_status\": \"HEALTHY\"\n     },\n")
    );
    for pair in answers.windows(2) {
        assert_eq!(pair[0], pair[1]);
    }
}

#[test]
fn log_levels() {
    for kind in proxies() {
        let site = Site::start(kind, &[&Case::new("admin")]);
        let change = |parameters: &str| {
            let reply = ask(&site, "POST", &format!("/logging?{parameters}"));
            let text = text(&reply);
            let error = text.lines().next().and_then(|line| line.strip_prefix("error: ")).map(str::to_string);
            assert_eq!(reply.status, if error.is_some() { 400 } else { 200 }, "{kind:?}: {parameters}");
            assert!(text.contains("active loggers:\n"), "{kind:?}: {text}");
            let level =
                |name: &str| text.split(&format!("\n  {name}: ")).nth(1)?.lines().next().map(str::to_string);
            (error, level("admin").expect("its level"), level("router").expect("its level"))
        };
        for (parameters, error, admin, router) in [
            ("level=", None, "warning", "warning"),
            ("paths", None, "warning", "warning"),
            ("router=", None, "warning", "warning"),
            ("paths=admin:error,router:critical,", None, "error", "critical"),
            ("paths=admin:debug,router:bogus", Some("unknown logger level"), "error", "critical"),
            ("paths=admin:debug,bogus:debug", Some("unknown logger name"), "error", "critical"),
            ("paths=admin:", Some("empty logger name or empty logger level"), "error", "critical"),
            ("paths=:debug", Some("empty logger name or empty logger level"), "error", "critical"),
            ("level=error&admin=info", Some("invalid number of parameters"), "error", "critical"),
            ("level=error&admin=", None, "error", "error"),
            ("level=warn", Some("unknown logger level"), "error", "error"),
            ("bogus=error", Some("unknown logger name"), "error", "error"),
            (
                "group=admin:error",
                Some("group parameter requires fine-grain logging to be enabled"),
                "error",
                "error",
            ),
            ("router=critical", None, "error", "critical"),
        ] {
            let wanted = (error.map(str::to_string), admin.to_string(), router.to_string());
            assert_eq!(change(parameters), wanted, "{kind:?}: {parameters}");
        }
    }
}

#[test]
fn fields_of_a_form_are_parameters() {
    for kind in proxies() {
        let site = Site::start(kind, &[&Case::new("admin")]);
        let mut wire = Wire::new(TcpStream::connect(site.proxy.admin.address).expect("a connection"));
        wire.send(
            "POST /logging HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-www-form-urlencoded\r\n\
            content-length: 14\r\n\r\nrouter=error&x",
        );
        assert!(chunked(&mut wire).starts_with(b"HTTP/1.1 200 "), "{kind:?}");
        let levels = text(&ask(&site, "POST", "/logging"));
        assert!(levels.contains("\n  router: error\n"), "{kind:?}: {levels}");
    }
}

#[test]
fn answers_go_on_while_health_checks_fail() {
    for kind in proxies() {
        let site = Site::start(kind, &[&Case::new("admin")]);
        assert_eq!(ask(&site, "POST", "/healthcheck/fail").status, 200);
        let mut wire = Wire::new(TcpStream::connect(site.proxy.admin.address).expect("a connection"));
        for _ in 0..2 {
            wire.send("GET /ready HTTP/1.1\r\nhost: a\r\n\r\n");
            let text = String::from_utf8_lossy(&chunked(&mut wire)).into_owned();
            assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("DRAINING"), "{kind:?}: {text}");
            assert!(!text.contains("connection: close"), "{kind:?}: {text}");
        }
    }
}

/// Kilobytes that a process has in memory.
fn resident(site: &Site) -> u64 {
    let path = format!("/proc/{}/status", site.proxy.pid());
    let status = std::fs::read_to_string(path).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Clients ask for much and do not read, or leave.
#[test]
fn large_answers_hold_up_nobody() {
    let cases: Vec<Case> = (0..120).map(|i| Case::new(format!("{i}"))).collect();
    let mut site = Site::start(Kind::Legate, &cases.iter().collect::<Vec<_>>());
    let whole = ask(&site, "GET", "/stats/prometheus").body;
    assert!(whole.len() > 2_500_000, "{}", whole.len());
    let before = resident(&site);
    let request = "GET /stats/prometheus HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut slow: Vec<Wire> = (0..4)
        .map(|_| {
            let mut wire = Wire::new(TcpStream::connect(site.proxy.admin.address).expect("a connection"));
            wire.send(request);
            wire
        })
        .collect();
    for _ in 0..60 {
        let mut leaves = Wire::new(TcpStream::connect(site.proxy.admin.address).expect("a connection"));
        leaves.send(request);
    }
    let start = Instant::now();
    assert_eq!(ask(&site, "GET", "/ready").status, 200);
    let waited = start.elapsed();
    let grown = resident(&site).saturating_sub(before);
    assert!(grown < 20_000, "{grown} kB for clients that do not read {} bytes", whole.len());
    assert!(waited < Duration::from_secs(3), "{waited:?}");

    let answer = chunked(&mut slow[0]);
    assert!(answer.len() > whole.len(), "{} of {}", answer.len(), whole.len());
    site.proxy.signal(Signal::SIGTERM);
    assert_eq!(site.proxy.wait_for_exit(PATIENCE).map(|s| s.code()), Some(Some(0)), "{}", site.proxy.log());
}
