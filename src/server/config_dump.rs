//! What each part of the server shows of its configuration. Mirrors the dumps of Envoy's `source/server/server.cc`,
//! `cluster_manager_impl.cc`, `listener_manager_impl.cc` and `rds_impl.cc`, for what stands in the bootstrap.

use std::rc::Rc;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::server::InstanceImpl;
use super::version;
use crate::config::timestamp;
use crate::config::tracker::{ConfigTrackerImpl, EntryOwner};

const PREFIX: &str = "type.googleapis.com/";
const ADMIN: &str = "envoy.admin.v3.";
const MANAGER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

type Wanted<'a> = &'a dyn Fn(&str) -> bool;

/// Has the tracker show all of it for as long as what is returned lives.
pub(super) fn track(server: &Rc<InstanceImpl>, tracker: &ConfigTrackerImpl) -> Vec<EntryOwner> {
    let add = |key, dump: fn(&InstanceImpl, Wanted<'_>) -> Value| {
        let weak = Rc::downgrade(server);
        tracker.add(key, move |wanted| weak.upgrade().map_or(Value::Null, |server| dump(&server, wanted)))
    };
    let entries = [
        add("bootstrap", bootstrap),
        add("clusters", clusters),
        add("listeners", listeners),
        add("route_scopes", |_, _| of_type("ScopedRoutesConfigDump", json!({}))),
        add("routes", routes),
        add("secrets", |_, _| of_type("SecretsConfigDump", json!({}))),
    ];
    entries.into_iter().flatten().collect()
}

/// A message of the admin's, as an `Any`.
fn of_type(name: &str, message: Value) -> Value {
    any(&format!("{ADMIN}{name}"), message)
}

/// A message as an `Any`.
pub(super) fn any(type_name: &str, message: Value) -> Value {
    let mut out = Map::from_iter([("@type".to_string(), format!("{PREFIX}{type_name}").into())]);
    if let Value::Object(fields) = message {
        out.extend(fields);
    }
    Value::Object(out)
}

fn bootstrap(server: &InstanceImpl, _wanted: Wanted<'_>) -> Value {
    let mut bootstrap = server.bootstrap.document.bootstrap();
    let node = json!({
        "user_agent_name": "legate",
        "user_agent_build_version": { "version": version::semantic() },
    });
    if let (Some(bootstrap), Value::Object(node)) = (bootstrap.as_object_mut(), node) {
        let own = bootstrap.shift_remove("node");
        let mut whole = own.and_then(|own| own.as_object().cloned()).unwrap_or_default();
        whole.extend(node);
        bootstrap.shift_insert(0, "node".to_string(), Value::Object(whole));
    }
    let last_updated = timestamp(server.start_time);
    of_type("BootstrapConfigDump", json!({ "bootstrap": bootstrap, "last_updated": last_updated }))
}

/// The static resources that are wanted, each with when it came into force.
fn static_resources(
    server: &InstanceImpl,
    field: &str,
    wanted: Wanted<'_>,
    updated: impl Fn(&str) -> Option<SystemTime>,
) -> Vec<(Value, SystemTime)> {
    let resources = server.bootstrap.document.static_resources(field).into_iter();
    resources
        .filter_map(|resource| {
            let name = resource["name"].as_str().unwrap_or_default();
            let updated = updated(name).filter(|_| wanted(name))?;
            Some((resource, updated))
        })
        .collect()
}

/// A dump of a list; without the list where there is nothing in it.
fn list(dump: &str, field: &str, entries: Vec<Value>) -> Value {
    of_type(dump, if entries.is_empty() { json!({}) } else { json!({ field: entries }) })
}

fn clusters(server: &InstanceImpl, wanted: Wanted<'_>) -> Value {
    let updated = |name: &str| server.cluster_manager.last_updated(name);
    let mut clusters = static_resources(server, "clusters", wanted, updated);
    clusters.sort_by(|(a, _), (b, _)| a["name"].as_str().cmp(&b["name"].as_str()));
    let entry = |(cluster, updated)| json!({ "cluster": any("envoy.config.cluster.v3.Cluster", cluster), "last_updated": timestamp(updated) });
    list("ClustersConfigDump", "static_clusters", clusters.into_iter().map(entry).collect())
}

fn listener_updated(server: &InstanceImpl, name: &str) -> Option<SystemTime> {
    let listeners = server.listener_manager.listeners();
    // One without a name has been given one.
    let mut of_name = listeners.iter().filter(|l| name.is_empty() || l.name() == name);
    of_name.next().map(|listener| listener.last_updated())
}

fn listeners(server: &InstanceImpl, wanted: Wanted<'_>) -> Value {
    let listeners = static_resources(server, "listeners", wanted, |name| listener_updated(server, name));
    let entry = |(listener, updated)| {
        let listener = any("envoy.config.listener.v3.Listener", listener);
        json!({ "listener": listener, "last_updated": timestamp(updated) })
    };
    list("ListenersConfigDump", "static_listeners", listeners.into_iter().map(entry).collect())
}

fn routes(server: &InstanceImpl, wanted: Wanted<'_>) -> Value {
    let listeners = static_resources(server, "listeners", &|_| true, |name| listener_updated(server, name));
    let mut entries = Vec::new();
    for (listener, updated) in &listeners {
        let chains = listener["filter_chains"].as_array().into_iter().flatten();
        let chains = chains.chain(listener.get("default_filter_chain"));
        let filters = chains.filter_map(|chain| chain["filters"].as_array()).flatten();
        let managers = filters.map(|filter| &filter["typed_config"]).filter(|config| {
            config["@type"].as_str().and_then(|url| url.strip_prefix(PREFIX)) == Some(MANAGER)
        });
        for config in managers.filter_map(|config| config.get("route_config")) {
            if wanted(config["name"].as_str().unwrap_or_default()) {
                let config = any("envoy.config.route.v3.RouteConfiguration", config.clone());
                entries.push(json!({ "route_config": config, "last_updated": timestamp(*updated) }));
            }
        }
    }
    list("RoutesConfigDump", "static_route_configs", entries)
}
