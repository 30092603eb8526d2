//! `envoy.config.bootstrap.v3`: the whole configuration a proxy starts with.
//!
//! What needs more than one resource to decide (a route to an unknown cluster, two
//! clusters of one name) is checked here as well, so that the error can name the
//! field; Envoy finds it when it builds the objects.

use super::access_log::AccessLog;
use super::address::Address;
use super::cluster::Cluster;
use super::core::Node;
use super::error::ConfigError;
use super::listener::Listener;
use super::reader::{FromMessage, MessageReader};
use super::runtime::LayeredRuntime;
use super::watchdog::Watchdogs;
use crate::message;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// What a proxy starts with. The default is that of an empty document.
#[derive(Debug, Clone, PartialEq)]
pub struct Bootstrap {
    /// Who this proxy is.
    pub node: Node,
    /// Listeners and clusters.
    pub static_resources: StaticResources,
    /// The admin endpoint; `None` when absent.
    pub admin: Option<Admin>,
    /// Settings for all clusters.
    pub cluster_manager: ClusterManager,
    /// At least 1 ms and less than 5 min, default 5 s.
    pub stats_flush_interval: Duration,
    /// How long a thread may stay away from its loop.
    pub watchdogs: Watchdogs,
    /// How stats are named.
    pub stats_config: StatsConfig,
    /// Directory of start-up flags; empty means none.
    pub flags_path: String,
    /// Runtime settings; `None` when absent, which in Envoy is a single admin
    /// layer.
    pub layered_runtime: Option<LayeredRuntime>,
    /// Full paths of what was skipped because unknown fields are allowed.
    pub unknown_fields: Vec<String>,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self {
            node: Node::default(),
            static_resources: StaticResources::default(),
            admin: None,
            cluster_manager: ClusterManager::default(),
            stats_flush_interval: Duration::from_secs(5),
            watchdogs: Watchdogs::default(),
            stats_config: StatsConfig::default(),
            flags_path: String::new(),
            layered_runtime: None,
            unknown_fields: Vec::new(),
        }
    }
}

impl FromMessage for Bootstrap {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let default = Self::default();
        let flush = r.duration("stats_flush_interval")?;
        let bootstrap = Self {
            node: r.message("node")?.unwrap_or_default(),
            static_resources: r.message("static_resources")?.unwrap_or_default(),
            admin: r.message("admin")?,
            cluster_manager: r.message("cluster_manager")?.unwrap_or_default(),
            stats_flush_interval: flush.unwrap_or(default.stats_flush_interval),
            watchdogs: Watchdogs::of_bootstrap(r)?,
            stats_config: r.message("stats_config")?.unwrap_or_default(),
            flags_path: r.string("flags_path")?,
            layered_runtime: r.message("layered_runtime")?,
            ..default
        };
        // What cannot be read is missing here.
        if !r.has_errors() {
            check_clusters(r, &bootstrap)?;
        }
        Ok(bootstrap)
    }
}

fn check_clusters(r: &MessageReader<'_>, bootstrap: &Bootstrap) -> Result<(), ConfigError> {
    let mut names = HashSet::new();
    for (i, cluster) in bootstrap.static_resources.clusters.iter().enumerate() {
        if !names.insert(cluster.name.as_str()) {
            let path = format!("static_resources.clusters[{i}].name");
            let message = format!("cluster manager: duplicate cluster '{}'", cluster.name);
            return Err(ConfigError::new(path, message));
        }
    }
    let local = bootstrap.cluster_manager.local_cluster_name.as_str();
    if !local.is_empty() && !names.contains(local) {
        let message = format!("local cluster '{local}' must be defined");
        return Err(ConfigError::new("cluster_manager.local_cluster_name", message));
    }
    for named in r.take_clusters_named() {
        if !names.contains(named.cluster.as_str()) {
            let message = format!("{}: unknown cluster '{}'", named.by, named.cluster);
            return Err(ConfigError::new(named.path, message));
        }
    }
    Ok(())
}

message! {
    /// `Bootstrap.StaticResources`.
    pub struct StaticResources = "envoy.config.bootstrap.v3.Bootstrap.StaticResources" {
        /// What to listen on.
        pub listeners: Vec<Listener>,
        /// Unique names.
        pub clusters: Vec<Arc<Cluster>>,
    }
}

message! {
    /// `Admin`.
    pub struct Admin = "envoy.config.bootstrap.v3.Admin" {
        /// Where to listen; `None` is nowhere.
        pub address: Option<Address>,
        /// Logged per request.
        pub access_log: Vec<AccessLog>,
        /// The older way to name one log file; empty means none.
        pub access_log_path: String,
        /// Where `/cpuprofiler` writes; default `/var/log/envoy/envoy.prof`.
        pub profile_path: String = "/var/log/envoy/envoy.prof".to_string(),
        /// Admin connections do not count; default false.
        pub ignore_global_conn_limit: bool,
    }
}

message! {
    /// `ClusterManager`.
    #[derive(Eq)]
    pub struct ClusterManager = "envoy.config.bootstrap.v3.ClusterManager" {
        /// Cluster this proxy belongs to, one of the static ones; empty means none.
        pub local_cluster_name: String,
    }
}

message! {
    /// `envoy.config.metrics.v3.StatsConfig`.
    #[derive(Eq)]
    pub struct StatsConfig = "envoy.config.metrics.v3.StatsConfig" {
        /// Extract Envoy's own tags from stat names; default true.
        pub use_all_default_tags: bool = true,
    }
}
