//! `/clusters`: each cluster's circuit breakers and hosts. Mirrors Envoy's `source/server/admin/clusters_handler.cc`.

use std::fmt::{Display, Write as _};
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Value, json};

use super::listeners::address_json;
use super::request::pretty;
use super::{Request, Response, TEXT};
use crate::common::re2;
use crate::config::wire::float;
use crate::server::server::InstanceImpl;
use crate::upstream::outlier_detection::SuccessRateMonitorType::{self, ExternalOrigin, LocalOrigin};
use crate::upstream::{Cluster, ClusterInfoImpl, HealthFlag, HostImpl, ResourcePriority};

/// `?filter=` takes clusters by name; `?format=json` shows them as Envoy's `Clusters` message, any other one as text.
pub(super) fn clusters(server: &InstanceImpl, request: &Request) -> Response {
    let filter = match request.param("filter").filter(|filter| !filter.is_empty()).map(re2::compile) {
        Some(Err(_)) => return Response::text(400, "Invalid re2 regex"),
        filter => filter.and_then(Result::ok),
    };
    let mut clusters = server.cluster_manager.clusters();
    clusters.retain(|cluster| filter.as_ref().is_none_or(|f| f.is_match(cluster.info().name())));
    if request.param("format") == Some("json") {
        Response::pieces("application/json", || json_pieces(clusters))
    } else {
        Response::pieces(TEXT, || clusters.into_iter().flat_map(text_pieces))
    }
}

pub(super) fn hosts(cluster: &Rc<dyn Cluster>) -> Vec<Arc<HostImpl>> {
    let sets = cluster.priority_set().host_sets_per_priority();
    sets.iter().flat_map(|set| set.hosts().iter().cloned().collect::<Vec<_>>()).collect()
}

/// Envoy's text form: `<cluster>::<key>::<value>` and `<cluster>::<address>::<key>::<value>`.
fn text_pieces(cluster: Rc<dyn Cluster>) -> impl Iterator<Item = String> {
    let name = cluster.info().name().to_string();
    let of_hosts = hosts(&cluster).into_iter().map(move |host| text_of_host(&name, &host));
    std::iter::once(text_of_cluster(&*cluster)).chain(of_hosts)
}

fn text_of_cluster(cluster: &dyn Cluster) -> String {
    let info = cluster.info();
    let (mut out, name) = (String::new(), info.name());
    let mut line = |key: &str, value: &dyn Display| {
        let _ = writeln!(out, "{name}::{key}::{value}"); // infallible
    };
    line("observability_name", &info.observability_name());
    if let Some(detector) = cluster.base().outlier_detector() {
        for (kind, prefix) in [(ExternalOrigin, ""), (LocalOrigin, "local_origin_")] {
            let pair = detector.success_rates(kind);
            line(&format!("outlier::{prefix}success_rate_average"), &short(pair.success_rate_average));
            line(
                &format!("outlier::{prefix}success_rate_ejection_threshold"),
                &short(pair.ejection_threshold),
            );
        }
    }
    for priority in ResourcePriority::ALL {
        for (key, max) in limits(info, priority) {
            line(&format!("{}_priority::{key}", priority.name()), &max);
        }
    }
    line("added_via_api", &info.added_via_api());
    out
}

fn limits(info: &ClusterInfoImpl, priority: ResourcePriority) -> [(&'static str, u64); 4] {
    let resources = info.resource_manager(priority);
    [
        ("max_connections", resources.connections().max()),
        ("max_pending_requests", resources.pending_requests().max()),
        ("max_requests", resources.requests().max()),
        ("max_retries", resources.retries().max()),
    ]
}

fn text_of_host(cluster: &str, host: &HostImpl) -> String {
    let mut out = String::new();
    let mut line = |key: &str, value: &dyn Display| {
        let _ = writeln!(out, "{cluster}::{}::{key}::{value}", host.address()); // infallible
    };
    for (key, value) in host.stats().all() {
        line(key, &value);
    }
    line("hostname", &host.hostname());
    line("health_flags", &host.health_flags_text());
    line("weight", &host.weight());
    line("region", &host.locality().region);
    line("zone", &host.locality().zone);
    line("sub_zone", &host.locality().sub_zone);
    line("canary", &host.canary());
    line("priority", &host.priority());
    line("success_rate", &success_rate(host, ExternalOrigin));
    line("local_origin_success_rate", &success_rate(host, LocalOrigin));
    out
}

/// Percent; -1 where it is not known.
fn success_rate(host: &HostImpl, kind: SuccessRateMonitorType) -> f64 {
    host.outlier_detector().map_or(-1.0, |monitor| monitor.success_rate(kind))
}

/// Six digits, as `%g` has them; the numbers are percent, or a little below zero.
fn short(value: f64) -> f64 {
    if value == 0.0 {
        return value;
    }
    let digits = 5 - value.abs().log10().floor() as i32;
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

/// The one message, a host at a time; what has its default is left out.
fn json_pieces(clusters: Vec<Rc<dyn Cluster>>) -> impl Iterator<Item = String> {
    let number = clusters.len();
    let start = if number == 0 { "{}\n" } else { "{\n \"cluster_statuses\": [\n" };
    let pieces = clusters.into_iter().enumerate().flat_map(move |(i, cluster)| {
        let hosts = hosts(&cluster);
        let (before, after) = json_around_hosts(&*cluster);
        let has_hosts = !hosts.is_empty();
        let head = if has_hosts { ",\n   \"host_statuses\": [" } else { "" };
        let of_hosts = hosts.into_iter().enumerate().map(|(j, host)| {
            let comma = if j == 0 { "" } else { "," };
            format!("{comma}\n    {}", indented(&json_of_host(&host), 4))
        });
        let tail = if has_hosts { "\n   ]" } else { "" };
        let comma = if i + 1 == number { "" } else { "," };
        std::iter::once(format!("  {{\n   {before}{head}"))
            .chain(of_hosts)
            .chain(std::iter::once(format!("{tail},\n   {after}\n  }}{comma}\n")))
    });
    let end = (number > 0).then(|| " ]\n}\n".to_string());
    std::iter::once(start.to_string()).chain(pieces).chain(end)
}

/// As indented text whose first line has its place already.
fn indented(value: &Value, by: usize) -> String {
    pretty(value).replace('\n', &format!("\n{:by$}", ""))
}

/// The fields before the hosts and those behind.
fn json_around_hosts(cluster: &dyn Cluster) -> (String, String) {
    let info = cluster.info();
    let threshold = |priority: ResourcePriority| {
        let mut threshold = serde_json::Map::new();
        if priority == ResourcePriority::High {
            threshold.insert("priority".to_string(), json!("HIGH"));
        }
        threshold.extend(limits(info, priority).map(|(key, max)| (key.to_string(), json!(max))));
        Value::from(threshold)
    };
    let thresholds: Vec<Value> = ResourcePriority::ALL.into_iter().map(threshold).collect();
    let rate = |kind| {
        let pair = cluster.base().outlier_detector().map(|detector| detector.success_rates(kind));
        pair.filter(|pair| pair.ejection_threshold > 0.0).map(|pair| percent(pair.ejection_threshold))
    };
    let before = [
        ("name", Some(json!(info.name()))),
        ("added_via_api", info.added_via_api().then_some(json!(true))),
        ("success_rate_ejection_threshold", rate(ExternalOrigin)),
    ];
    let after = [
        ("local_origin_success_rate_ejection_threshold", rate(LocalOrigin)),
        ("circuit_breakers", Some(json!({ "thresholds": thresholds }))),
        ("observability_name", Some(json!(info.observability_name()))),
    ];
    let text = |fields: [(&str, Option<Value>); 3]| {
        let given = fields.into_iter().filter_map(|(key, value)| Some((key, value?)));
        given
            .map(|(key, value)| format!("\"{key}\": {}", indented(&value, 3)))
            .collect::<Vec<_>>()
            .join(",\n   ")
    };
    (text(before), text(after))
}

/// The message around a number, in which 0 is the default.
fn percent(value: f64) -> Value {
    if value == 0.0 { json!({}) } else { json!({ "value": float(value) }) }
}

fn json_of_host(host: &HostImpl) -> Value {
    let address = address_json(host.address());
    let is_gauge = |key: &str| key.ends_with("_active");
    let all = host.stats().all();
    let (gauges, counters): (Vec<_>, Vec<_>) = all.into_iter().partition(|(key, _)| is_gauge(key));
    let stat = |(key, value): (&str, u64)| {
        let mut stat = serde_json::Map::new();
        if is_gauge(key) {
            stat.insert("type".to_string(), json!("GAUGE"));
        }
        if value != 0 {
            stat.insert("value".to_string(), json!(value.to_string()));
        }
        stat.insert("name".to_string(), json!(key));
        Value::from(stat)
    };
    let stats: Vec<Value> = counters.into_iter().chain(gauges).map(stat).collect();
    let mut status = json!({"address": address, "stats": stats, "health_status": health_status(host)});
    let mut put = |key: &str, given: bool, value: Value| {
        if given {
            status[key] = value;
        }
    };
    let [rate, local_rate] = [ExternalOrigin, LocalOrigin].map(|kind| success_rate(host, kind));
    put("success_rate", rate >= 0.0, percent(rate));
    put("weight", true, json!(host.weight()));
    put("hostname", !host.hostname().is_empty(), json!(host.hostname()));
    put("priority", host.priority() != 0, json!(host.priority()));
    put("local_origin_success_rate", local_rate >= 0.0, percent(local_rate));
    let locality = host.locality();
    let parts = [("region", &locality.region), ("zone", &locality.zone), ("sub_zone", &locality.sub_zone)];
    let given = parts.into_iter().filter(|(_, part)| !part.is_empty());
    put("locality", true, given.map(|(key, part)| (key.to_string(), json!(part))).collect());
    status
}

fn health_status(host: &HostImpl) -> Value {
    let eds = [
        (HealthFlag::FailedEdsHealth, "UNHEALTHY"),
        (HealthFlag::EdsStatusDraining, "DRAINING"),
        (HealthFlag::DegradedEdsHealth, "DEGRADED"),
    ];
    let eds =
        eds.into_iter().find(|(flag, _)| host.health_flag_get(*flag)).map_or("HEALTHY", |(_, name)| name);
    let set = |flag, key: &str| (key.to_string(), host.health_flag_get(flag).then_some(json!(true)));
    let fields = [
        set(HealthFlag::FailedActiveHc, "failed_active_health_check"),
        set(HealthFlag::FailedOutlierCheck, "failed_outlier_check"),
        ("eds_health_status".to_string(), Some(json!(eds))),
        set(HealthFlag::DegradedActiveHc, "failed_active_degraded_check"),
        set(HealthFlag::PendingDynamicRemoval, "pending_dynamic_removal"),
        set(HealthFlag::PendingActiveHc, "pending_active_hc"),
        set(HealthFlag::ExcludedViaImmediateHcFail, "excluded_via_immediate_hc_fail"),
        set(HealthFlag::ActiveHcTimeout, "active_hc_timeout"),
        set(HealthFlag::DegradedOutlierDetection, "failed_degraded_outlier_detection"),
    ];
    fields.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}
