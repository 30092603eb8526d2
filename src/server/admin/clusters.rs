//! `/clusters`: each cluster's circuit breakers and hosts.

use std::fmt::{Display, Write as _};

use regex::Regex;

use super::{Request, Response};
use crate::server::server::InstanceImpl;
use crate::upstream::{Cluster, HostImpl, ResourcePriority};

/// Envoy's text form: `<cluster>::<key>::<value>` and `<cluster>::<address>::<key>::<value>`.
pub(super) fn clusters(server: &InstanceImpl, request: &Request) -> Response {
    let filter = match request.param("filter").map(Regex::new).transpose() {
        Ok(filter) => filter,
        Err(error) => return Response::text(400, format!("Invalid re2 regex: {error}\n")),
    };
    let mut out = String::new();
    for cluster in server.cluster_manager.clusters() {
        if filter.as_ref().is_none_or(|f| f.is_match(cluster.info().name())) {
            write_cluster(&mut out, &*cluster);
        }
    }
    Response::text(200, out)
}

fn write_cluster(out: &mut String, cluster: &dyn Cluster) {
    let info = cluster.info();
    let name = info.name();
    let mut line = |key: &str, value: &dyn Display| {
        let _ = writeln!(out, "{name}::{key}::{value}"); // infallible
    };
    line("observability_name", &info.observability_name());
    for priority in ResourcePriority::ALL {
        let resources = info.resource_manager(priority);
        let mut limit = |key: &str, max: u64| line(&format!("{}_priority::{key}", priority.name()), &max);
        limit("max_connections", resources.connections().max());
        limit("max_pending_requests", resources.pending_requests().max());
        limit("max_requests", resources.requests().max());
        limit("max_retries", resources.retries().max());
    }
    line("added_via_api", &info.added_via_api());
    for host_set in cluster.priority_set().host_sets_per_priority() {
        for host in host_set.hosts().iter() {
            write_host(out, name, host);
        }
    }
}

fn write_host(out: &mut String, cluster: &str, host: &HostImpl) {
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
    line("success_rate", &"-1");
    line("local_origin_success_rate", &"-1");
}
