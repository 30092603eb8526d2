//! `/config_dump`: what both proxies show of one configuration, whole, by lists and through masks.

use crate::harness::{Case, ParsedReply, Site, Wire, proxies};
use serde_json::{Value, json};

fn ask(site: &Site, query: &str) -> ParsedReply {
    let mut client = Wire::connect(site.proxy.admin.address.port());
    client.send(format!("GET /config_dump{query} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"));
    ParsedReply::parse(&client.rest()).expect("an answer")
}

/// Takes out what is each proxy's, or each run's, own.
fn common(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for own in ["user_agent_name", "user_agent_build_version", "extensions"] {
                fields.shift_remove(own);
            }
            for (name, field) in fields {
                match name.as_str() {
                    "last_updated" => {
                        let text = field.as_str().unwrap_or_default();
                        assert!(text.len() == 24 && text.ends_with('Z'), "{text}");
                        *field = "when".into();
                    }
                    "port_value" => *field = 1.into(),
                    "path" if field.as_str().is_some_and(|path| path.ends_with(".log")) => {
                        *field = "log".into()
                    }
                    _ => common(field),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(common),
        _ => {}
    }
}

/// Text without what protobuf puts in front of its own, which is another word each time, and without white space.
fn without_marks(text: &str) -> String {
    let mut parts = text.split("goo.gle/debug");
    let first = parts.next().unwrap_or_default().to_string();
    let rest = parts.map(|part| part.trim_start_matches(|c: char| c.is_alphabetic()));
    rest.fold(first, |text, part| text + part).split_whitespace().collect()
}

/// Status, content type and body, in which the order of fields counts.
fn answer(site: &Site, query: &str) -> Value {
    let reply = ask(site, query);
    let text = String::from_utf8(reply.body.clone()).expect("text");
    let body = match serde_json::from_str::<Value>(&text) {
        Ok(mut body) => {
            common(&mut body);
            body.to_string()
        }
        // What is random in protobuf's own text.
        Err(_) => without_marks(&text),
    };
    json!([query, reply.status, reply.header("content-type"), body])
}

const QUERIES: &[&str] = &[
    "",
    "?resource=static_clusters",
    "?resource=static_listeners",
    "?resource=static_route_configs",
    "?resource=dynamic_listeners",
    "?resource=bootstrap",
    "?resource=version_info",
    "?resource=nosuch",
    "?resource=&mask=",
    "?resource=static_clusters&name_regex=case.",
    "?resource=static_clusters&name_regex=ase",
    "?name_regex=f.*",
    "?name_regex=(",
    "?resource=static_clusters&name_regex=c%7Ccase.",
    "?mask=static_clusters",
    "?mask=bootstrap",
    "?mask=bootstrap.admin.address,last_updated",
    "?mask=last_updated",
    "?mask=last_updated.nosuch",
    "?mask=version_info",
    "?mask=version_info.x",
    "?mask=dynamic_active_clusters",
    "?mask=nosuch",
    "?mask=static_clusters.cluster",
    "?resource=static_clusters&mask=cluster.name",
    "?resource=static_clusters&mask=cluster.load_assignment.cluster_name,last_updated",
    "?resource=static_clusters&mask=last_updated",
    "?resource=static_clusters&mask=cluster",
    "?resource=static_clusters&mask=cluster.nosuch",
    "?resource=static_clusters&mask=cluster.load_assignment.endpoints.priority",
];

#[test]
fn both_show_the_same() {
    let case = Case::new("config")
        .hcm(json!({
            "stream_idle_timeout": "1.5s", "add_user_agent": false, "serverName": "x", "via": "",
            "common_http_protocol_options": { "max_headers_count": 50, "idle_timeout": "0s" },
        }))
        .cluster(json!({
            "lb_policy": "ROUND_ROBIN", "connect_timeout": "0.25s", "altStatName": "x",
            "common_lb_config": { "healthy_panic_threshold": { "value": 12.5 } },
            "circuit_breakers": { "thresholds": [{ "priority": "HIGH", "max_retries": 0 }] },
        }));
    let said: Vec<Vec<Value>> = proxies()
        .into_iter()
        .map(|kind| {
            let site = Site::start(kind, &[&case]);
            QUERIES.iter().map(|query| answer(&site, query)).collect()
        })
        .collect();
    for pair in said.windows(2) {
        for (legate, envoy) in pair[0].iter().zip(&pair[1]) {
            assert_eq!(legate, envoy);
        }
    }
    assert!(said[0][0].to_string().contains("static_route_configs"));
}
