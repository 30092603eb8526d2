//! What clusters count only where they are asked to: sizes of requests and responses, how much of their timeouts is used, and
//! what each host counts.

use crate::harness::{Case, Kind, Launch, PATIENCE, Site, Wire, proxies};
use serde_json::{Value, json};
use std::thread;
use std::time::{Duration, Instant};

/// Histograms are merged soon.
fn start(kind: Kind, cluster: Value) -> Site {
    let case = Case::new("tracked").cluster(cluster);
    Site::start_over(kind, &[&case], Launch::default(), &json!({"stats_flush_interval": "0.1s"}))
}

fn ask(site: &Site, request: &str) -> String {
    let mut client = Wire::connect(site.port(0));
    client.send(request);
    String::from_utf8_lossy(&client.rest()).into_owned()
}

/// Without the upstream's port.
fn without_port(text: &str) -> String {
    let mut rest = text;
    let mut result = String::new();
    while let Some(at) = rest.find("127.0.0.1") {
        let behind = at + "127.0.0.1".len() + 1;
        result.push_str(&rest[..behind]);
        rest = rest[behind..].trim_start_matches(|c: char| c.is_ascii_digit());
    }
    result + rest
}

const REQUESTS: [&str; 3] = [
    "GET /a HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n",
    "POST /b HTTP/1.1\r\nhost: h\r\nx-more: and more\r\nconnection: close\r\ncontent-length: 10\r\n\r\n0123456789",
    "POST /b HTTP/1.1\r\nhost: h\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n3\r\nefg\r\n0\r\n\r\n",
];

#[test]
fn sizes_and_budgets() {
    for tracked in [
        json!({"track_cluster_stats": {"request_response_sizes": true, "timeout_budgets": true}}),
        json!({"track_cluster_stats": {"request_response_sizes": true}}),
        json!({"track_timeout_budgets": true}),
        json!({"track_cluster_stats": {}}),
    ] {
        let mut seen = Vec::new();
        for kind in proxies() {
            let site = start(kind, tracked.clone());
            for request in REQUESTS {
                assert!(ask(&site, request).starts_with("HTTP/1.1 200"), "{kind:?}");
            }
            assert!(
                ask(&site, &REQUESTS[0].replace("/a", "/refused")).starts_with("HTTP/1.1 503"),
                "{kind:?}"
            );
            let filter = "cluster.case0.upstream_r[qs]_(headers|body|timeout_budget)";
            let text = || site.proxy.admin.text(&format!("/stats?filter={filter}"));
            // A flush that has begun may have seen some of them.
            let (mut last, deadline) = (text(), Instant::now() + PATIENCE);
            let settled = Duration::from_millis(400);
            let mut since = Instant::now();
            while since.elapsed() < settled && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(50)); // merged by a timer
                let now = text();
                if now != last {
                    (last, since) = (now, Instant::now());
                }
            }
            // The last interval is over at another time.
            let total = |value: &str| value.split(',').next().unwrap_or_default().to_string();
            let totals: Vec<String> =
                last.lines().map(|line| line.split(' ').map(total).collect::<Vec<_>>().join(" ")).collect();
            seen.push(totals.join("\n"));
        }
        let [ours, theirs] = seen.as_slice() else { return };
        assert_eq!(ours, theirs, "{tracked}");
        let sizes = tracked.pointer("/track_cluster_stats/request_response_sizes").is_some();
        assert_eq!(ours.contains("upstream_rs_headers_size: P0("), sizes, "{ours}");
    }
}

#[test]
fn hosts() {
    let mut seen = Vec::new();
    for kind in proxies() {
        let site = start(kind, json!({"track_cluster_stats": {"per_endpoint_stats": true}}));
        for request in REQUESTS {
            assert!(ask(&site, request).starts_with("HTTP/1.1 200"), "{kind:?}");
        }
        assert_eq!(site.proxy.admin.wait_for_stat("cluster.case0.upstream_rq_active", 0), Ok(()));
        let shown: Vec<String> = [
            "/stats?filter=endpoint",
            "/stats?usedonly&filter=endpoint.*rq",
            "/stats?type=Gauges&filter=endpoint",
            "/stats?type=Counters&filter=endpoint",
            "/stats?type=Histograms&filter=endpoint",
            "/stats?format=json&filter=endpoint",
            "/stats/prometheus?filter=endpoint",
            "/stats/prometheus?type=Gauges&filter=endpoint",
        ]
        .iter()
        .map(|path| without_port(&site.proxy.admin.text(path)))
        .collect();
        seen.push(shown);
    }
    let [ours, theirs] = seen.as_slice() else { return };
    assert!(ours[0].contains("cluster.case0.endpoint.127.0.0.1_.rq_total: 3\n"), "{}", ours[0]);
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!(ours, theirs);
    }
}
