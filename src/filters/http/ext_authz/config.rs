//! What all requests of a connection manager share. Mirrors `FilterConfig` of Envoy 1.40's
//! `source/extensions/filters/http/ext_authz/ext_authz.h`.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use super::client::{ClientConfig, ShownFields};
use super::message::{BufferSettings, ExtAuthz};
use crate::cluster_manager::ClusterManager;
use crate::common::Local;
use crate::filters::http::router;
use crate::router::{Route, RouteConstSharedPtr};
use crate::runtime::{FeatureFlag, RuntimeShare};
use crate::stats::Counter;
use crate::stats_struct;
use crate::stream_info::StreamInfoImpl;
use crate::upstream::{ClusterInfoImpl, ClusterName};

stats_struct! {
    /// `http.<stat_prefix>.ext_authz.`
    pub(super) struct ExtAuthzFilterStats {
        counters: [
            denied,
            disabled,
            error,
            failure_mode_allowed,
            filter_state_name_collision,
            ignored_dynamic_metadata,
            invalid,
            ok,
            omitted_response_headers,
            request_header_limits_reached,
            response_header_limits_reached,
            shadow_denied,
            shadow_error,
        ],
        gauges: [],
        histograms: [],
    }
}

pub(super) struct FilterConfig {
    pub name: String,
    /// Who is asked, where the route does not say.
    pub client: Arc<ClientConfig>,
    pub shown_fields: ShownFields,
    pub message: ExtAuthz,
    pub status_on_error: u16,
    pub filter_enabled: Option<Arc<RuntimeShare>>,
    pub deny_at_disable: Option<Arc<FeatureFlag>>,
    pub stats: ExtAuthzFilterStats,
    pub cluster_manager: ClusterManager,
    pub router: Arc<router::FilterConfig>,
    /// `ext_authz.`, and more where it is said.
    pub stat_prefix: String,
}

/// What a route says.
#[derive(Debug)]
pub(super) struct FilterConfigPerRoute {
    pub disabled: bool,
    pub disable_request_body_buffering: bool,
    pub with_request_body: Option<BufferSettings>,
    /// Who is asked instead.
    pub client: Option<Arc<ClientConfig>>,
}

/// What is counted of a cluster whose requests somebody is asked about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OfCluster {
    Ok,
    Denied,
    Error,
    FailureModeAllowed,
    Invalid,
}

/// The filter's configuration as a worker has it.
pub(super) struct OnWorker {
    config: Arc<FilterConfig>,
    pub router: Local<router::FilterConfig>,
    /// To who is asked where the route does not say.
    route: OnceCell<RouteConstSharedPtr>,
    /// Of clusters by their names, what has counted something.
    clusters: RefCell<HashMap<String, CountersOfCluster>>,
}

/// What has counted something, of one cluster.
struct CountersOfCluster {
    cluster: ClusterName,
    counters: [Option<Counter>; 5],
}

impl Deref for OnWorker {
    type Target = FilterConfig;

    fn deref(&self) -> &FilterConfig {
        &self.config
    }
}

impl OnWorker {
    pub fn new(config: &Arc<FilterConfig>) -> Self {
        OnWorker {
            router: Local::new(config.router.clone()),
            config: config.clone(),
            route: OnceCell::new(),
            clusters: RefCell::default(),
        }
    }

    /// The route of questions to `client`.
    pub fn route(&self, client: &ClientConfig) -> RouteConstSharedPtr {
        let make =
            || Rc::new(Route::to_cluster(&client.cluster, client.timeout, client.retry_policy.clone()));
        match std::ptr::eq(client, &*self.client) {
            true => self.route.get_or_init(make).clone(),
            false => make(),
        }
    }

    /// Counts a decision about a request to `cluster`.
    pub fn count(&self, cluster: &ClusterInfoImpl, what: OfCluster) {
        let mut clusters = self.clusters.borrow_mut();
        if !clusters.contains_key(cluster.observability_name()) {
            // Those of clusters that have gone go when another one comes.
            clusters.retain(|_, of| self.cluster_manager.get(&of.cluster).is_some());
            let of =
                CountersOfCluster { cluster: ClusterName::of(cluster.name()), counters: Default::default() };
            clusters.insert(cluster.observability_name().to_string(), of);
        }
        let Some(of) = clusters.get_mut(cluster.observability_name()) else { return };
        let name = match what {
            OfCluster::Ok => "ok",
            OfCluster::Denied => "denied",
            OfCluster::Error => "error",
            OfCluster::FailureModeAllowed => "failure_mode_allowed",
            OfCluster::Invalid => "invalid",
        };
        let make = || cluster.scope().counter(&format!("{}{name}", self.stat_prefix));
        of.counters[what as usize].get_or_insert_with(make).inc();
    }

    /// Whether somebody is asked about a request.
    pub fn enabled(&self, info: &StreamInfoImpl) -> bool {
        self.filter_enabled.as_ref().is_none_or(|share| share.is_in(fastrand::u64(..)))
            && self.message.filter_enabled_metadata.as_ref().is_none_or(|matcher| matcher.matches(info))
    }

    /// Whether a request is refused that nobody is asked about.
    pub fn denies_at_disable(&self) -> bool {
        self.deny_at_disable.as_ref().is_some_and(|flag| flag.enabled())
    }
}
