//! `envoy.config.bootstrap.v3`: the whole configuration a proxy starts with.
//!
//! What needs more than one resource to decide (a route to an unknown cluster, two
//! clusters of one name) is checked here as well, so that the error can name the
//! field; Envoy finds it when it builds the objects.

use super::access_log::AccessLog;
use super::address::Address;
use super::cluster::Cluster;
use super::core::Node;
use super::dns;
use super::document::Document;
use super::error::ConfigError;
use super::extension::TypedConfig;
use super::listener::Listener;
use super::reader::MessageReader;
use super::runtime::LayeredRuntime;
use super::watchdog::Watchdogs;
use crate::message;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

message! {
    /// What a proxy starts with. The default is that of an empty document.
    pub struct Bootstrap = "envoy.config.bootstrap.v3.Bootstrap", checked by check_clusters {
        /// Who this proxy is.
        pub node: Node,
        /// Listeners and clusters.
        pub static_resources: StaticResources,
        /// The admin endpoint; `None` when absent.
        pub admin: Option<Admin>,
        /// Settings for all clusters.
        pub cluster_manager: ClusterManager,
        /// Who looks names up, for clusters that do not say; `None` is who does it with the machine's own settings.
        pub dns_resolver: Option<TypedConfig> => dns::read_default_resolver,
        /// At least 1 ms and less than 5 min, default 5 s.
        pub stats_flush_interval: Duration = Duration::from_secs(5),
        /// How long a thread may stay away from its loop.
        pub watchdogs: Watchdogs => Watchdogs::of_bootstrap,
        /// How stats are named.
        pub stats_config: StatsConfig,
        /// Directory of start-up flags; empty means none.
        pub flags_path: String,
        /// Runtime settings; `None` when absent, which is no layer, while one without layers is a single admin layer.
        pub layered_runtime: Option<LayeredRuntime>,
        /// Full paths of what was skipped because unknown fields are allowed; no field of the API, and known only when
        /// the whole document has been read.
        pub unknown_fields: Vec<String> => not_yet_known,
        /// What it was read from, if that is to be shown; no field of the API.
        pub document: Document => not_yet_known,
    }
}

fn not_yet_known<T: Default>(_: &mut MessageReader<'_>, _: &str) -> Result<T, ConfigError> {
    Ok(T::default())
}

/// Refuses what needs more than one resource to decide, where all of them could be read.
fn check_clusters(r: &MessageReader<'_>, bootstrap: &Bootstrap) {
    if !r.has_errors()
        && let Err((path, message)) = find_wrong_cluster(r, bootstrap)
    {
        r.refuse(&path, message);
    }
}

/// The first that is wrong: its path and what is.
fn find_wrong_cluster(r: &MessageReader<'_>, bootstrap: &Bootstrap) -> Result<(), (String, String)> {
    let mut names = HashSet::new();
    for (i, cluster) in bootstrap.static_resources.clusters.iter().enumerate() {
        if !names.insert(cluster.name.as_str()) {
            let path = format!("static_resources.clusters[{i}].name");
            return Err((path, format!("cluster manager: duplicate cluster '{}'", cluster.name)));
        }
    }
    let local = bootstrap.cluster_manager.local_cluster_name.as_str();
    if !local.is_empty() && !names.contains(local) {
        let path = "cluster_manager.local_cluster_name".to_string();
        return Err((path, format!("local cluster '{local}' must be defined")));
    }
    for named in r.take_clusters_named() {
        if !names.contains(named.cluster.as_str()) {
            return Err((named.path, format!("{} '{}'", named.by, named.cluster)));
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
        /// For all clusters that detect outliers.
        pub outlier_detection: OutlierDetection,
    }
}

message! {
    /// `ClusterManager.OutlierDetection`.
    #[derive(Eq)]
    pub struct OutlierDetection = "envoy.config.bootstrap.v3.ClusterManager.OutlierDetection" {
        /// The file that gets a line for each ejection and each end of one; empty means none.
        pub event_log_path: String,
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
