//! What the filter, or a route, says of faults, and what the runtime says of it now.
//!
//! Mirrors `FaultSettings` of Envoy's `source/extensions/filters/http/fault/fault_filter.h`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::{Map, Value};

use super::message::{FaultAbortConfig, FaultDelayConfig, FaultRateLimitConfig, HttpFault};
use crate::http::header_utility::HeaderMatcher;
use crate::http::{HeaderId, HeaderMap};
use crate::runtime::{
    Entry, FractionalPercent, IntegerOverride, LoaderImpl, PercentOverride, RuntimeUser, SnapshotImpl,
};

/// See the module's description.
#[derive(Debug)]
pub(super) struct FaultSettings {
    pub delay: Option<FaultDelayConfig>,
    pub abort: Option<FaultAbortConfig>,
    pub response_rate_limit: Option<FaultRateLimitConfig>,
    pub upstream_cluster: String,
    headers: Vec<HeaderMatcher>,
    downstream_nodes: Vec<String>,
    max_active_faults: u64,
    pub disable_downstream_cluster_stats: bool,
    pub filter_metadata: Option<Map<String, Value>>,
    runtime: RuntimeKeys,
    of_clusters: Arc<DownstreamClusterKeys>,
}

#[derive(Debug)]
struct RuntimeKeys {
    delay_percent: Arc<PercentOverride>,
    abort_percent: Arc<PercentOverride>,
    response_rate_limit_percent: Arc<PercentOverride>,
    delay_duration: Arc<IntegerOverride>,
    abort_http_status: Arc<IntegerOverride>,
    abort_grpc_status: Arc<IntegerOverride>,
    max_active_faults: Arc<IntegerOverride>,
}

impl FaultSettings {
    pub fn new(config: &HttpFault, runtime: &LoaderImpl) -> Self {
        let percent = |key: &str| PercentOverride::new(key, runtime);
        let integer = |key: &str| IntegerOverride::new(key, Some(runtime));
        let of_clusters = Arc::new(DownstreamClusterKeys::default());
        runtime.add_user(&of_clusters);
        FaultSettings {
            delay: config.delay.clone(),
            abort: config.abort.clone(),
            response_rate_limit: config.response_rate_limit.clone(),
            upstream_cluster: config.upstream_cluster.clone(),
            headers: config.headers.iter().map(HeaderMatcher::new).collect(),
            downstream_nodes: config.downstream_nodes.clone(),
            max_active_faults: config.max_active_faults.map_or(u64::MAX, u64::from),
            disable_downstream_cluster_stats: config.disable_downstream_cluster_stats,
            filter_metadata: config.filter_metadata.clone(),
            runtime: RuntimeKeys {
                delay_percent: percent(&config.delay_percent_runtime),
                abort_percent: percent(&config.abort_percent_runtime),
                response_rate_limit_percent: percent(&config.response_rate_limit_percent_runtime),
                delay_duration: integer(&config.delay_duration_runtime),
                abort_http_status: integer(&config.abort_http_status_runtime),
                abort_grpc_status: integer(&config.abort_grpc_status_runtime),
                max_active_faults: integer(&config.max_active_faults_runtime),
            },
            of_clusters,
        }
    }

    pub fn matches_headers(&self, headers: &HeaderMap) -> bool {
        self.headers.iter().all(|matcher| matcher.matches(Some(headers)))
    }

    pub fn matches_downstream_nodes(&self, headers: &HeaderMap) -> bool {
        let node = headers.get(HeaderId::EnvoyDownstreamServiceNode);
        let is_it = |name: &String| node == Some(name.as_bytes());
        self.downstream_nodes.is_empty() || self.downstream_nodes.iter().any(is_it)
    }

    pub fn max_active_faults(&self) -> u64 {
        self.runtime.max_active_faults.get(self.max_active_faults)
    }

    /// Whether a request from `cluster` waits. As in 1.40 a cluster goes by its own key alone.
    pub fn is_delay_enabled(&self, percent: FractionalPercent, cluster: &str) -> bool {
        let percent = match cluster {
            "" => self.runtime.delay_percent.get(percent),
            _ => self.of_clusters.get_percent(cluster, "delay.fixed_delay_percent", percent),
        };
        percent.evaluate(fastrand::u64(..))
    }

    /// Whether a request from `cluster` is answered with an error; as above.
    pub fn is_abort_enabled(&self, percent: FractionalPercent, cluster: &str) -> bool {
        let percent = match cluster {
            "" => self.runtime.abort_percent.get(percent),
            _ => self.of_clusters.get_percent(cluster, "abort.abort_percent", percent),
        };
        percent.evaluate(fastrand::u64(..))
    }

    pub fn is_response_rate_limit_enabled(&self, percent: FractionalPercent) -> bool {
        self.runtime.response_rate_limit_percent.get(percent).evaluate(fastrand::u64(..))
    }

    /// In milliseconds.
    pub fn delay_duration(&self, configured: u64, cluster: &str) -> u64 {
        let duration = self.runtime.delay_duration.get(configured);
        self.of_clusters.get_integer(cluster, "delay.fixed_duration_ms", duration)
    }

    pub fn abort_http_status(&self, configured: u64, cluster: &str) -> u64 {
        match cluster {
            "" => self.runtime.abort_http_status.get(configured),
            _ => self.of_clusters.get_integer(cluster, "abort.http_status", configured),
        }
    }

    pub fn abort_grpc_status(&self, configured: u64, cluster: &str) -> u64 {
        match cluster {
            "" => self.runtime.abort_grpc_status.get(configured),
            _ => self.of_clusters.get_integer(cluster, "abort.grpc_status", configured),
        }
    }
}

const PREFIX: &str = "fault.http.";

/// What the runtime says of requests from single clusters, whose names are not known before they come:
/// `fault.http.<cluster>.delay.fixed_delay_percent` and so on. Locked by those alone who look for one that may be there.
#[derive(Debug, Default)]
struct DownstreamClusterKeys {
    are_any: AtomicBool,
    entries: RwLock<HashMap<String, Entry>>,
}

impl DownstreamClusterKeys {
    fn look<T>(&self, cluster: &str, key: &str, f: impl FnOnce(&Entry) -> Option<T>) -> Option<T> {
        if cluster.is_empty() || !self.are_any.load(Relaxed) {
            return None;
        }
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(&format!("{cluster}.{key}")).and_then(f)
    }

    fn get_integer(&self, cluster: &str, key: &str, default: u64) -> u64 {
        self.look(cluster, key, |entry| entry.uint_value).unwrap_or(default)
    }

    fn get_percent(&self, cluster: &str, key: &str, default: FractionalPercent) -> FractionalPercent {
        self.look(cluster, key, Entry::percent).unwrap_or(default)
    }
}

impl RuntimeUser for DownstreamClusterKeys {
    fn on_new_snapshot(&self, snapshot: &SnapshotImpl) {
        let of_faults =
            snapshot.entries().filter_map(|(key, entry)| Some((key.strip_prefix(PREFIX)?, entry)));
        let entries: HashMap<_, _> = of_faults.map(|(key, entry)| (key.to_string(), entry.clone())).collect();
        self.are_any.store(!entries.is_empty(), Relaxed);
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = entries;
    }
}
