//! Requests may say themselves which hosts are to serve them, one after the other.
//!
//! Mirrors Envoy 1.40's `source/extensions/load_balancing_policies/override_host/load_balancer.cc`; 1.1 has none. As there whoever
//! says so is believed: a host need not be healthy. Another policy chooses where nobody is named, or nobody who is a host.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;

use super::{
    LoadBalancer, LoadBalancerConfig, LoadBalancerContext, LoadBalancerFactory, LoadBalancerParams,
    ThreadAwareLoadBalancer,
};
use crate::common::CallbackHandle;
use crate::config::cluster::listed_policy;
use crate::config::error::ConfigError;
use crate::config::reader::MessageReader;
use crate::config::route::MetadataKey;
use crate::envoy_log;
use crate::http::HeaderName;
use crate::message;
use crate::runtime::SnapshotImpl;
use crate::upstream::{ClusterInfoImpl, HostSharedPtr, PriorityUpdateCb, WorkerHost};

/// The policy among the extensions.
pub static OVERRIDE_HOST: LoadBalancerFactory = LoadBalancerFactory::new(
    "envoy.load_balancing_policies.override_host",
    &["envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost"],
    of_policy,
);

message! {
    /// Where a request says it.
    #[derive(Eq)]
    pub struct OverrideHostSource =
        "envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost.OverrideHostSource",
        checked by check_source
    {
        /// In this header.
        pub header: String,
        /// Under this key of what filters have said of it.
        pub metadata: Option<MetadataKey>,
    }
}

fn check_source(r: &mut MessageReader<'_>, source: &OverrideHostSource) {
    match (source.header.is_empty(), source.metadata.is_none()) {
        (true, true) => r.refuse("header", "Empty override source"),
        (false, false) => r.refuse("header", "Only one override source must be set"),
        _ => {}
    }
}

fn of_policy(r: &mut MessageReader<'_>) -> Result<Arc<dyn LoadBalancerConfig>, ConfigError> {
    let sources: Vec<OverrideHostSource> = r.messages("override_host_sources")?;
    let fallback = listed_policy(r, "fallback_policy", "override host lb")?;
    let fallback = fallback.ok_or_else(|| r.error("fallback_policy", "value is required"))?;
    let fallback = fallback.get::<dyn LoadBalancerConfig>()?.clone();
    Ok(Arc::new(OverrideHost { sources: sources.iter().map(Source::new).collect(), fallback }))
}

/// How it is chosen.
#[derive(Debug)]
struct OverrideHost {
    sources: Arc<[Source]>,
    fallback: Arc<dyn LoadBalancerConfig>,
}

#[derive(Debug)]
enum Source {
    Header(HeaderName),
    Metadata(String, Vec<String>),
}

impl Source {
    fn new(config: &OverrideHostSource) -> Self {
        match &config.metadata {
            Some(key) => {
                let path = key.path.iter().map(|segment| segment.key.clone());
                Source::Metadata(key.key.clone(), path.collect())
            }
            None => Source::Header(HeaderName::new(&config.header)),
        }
    }

    /// Appends the addresses that a request says here.
    fn read(&self, context: &dyn LoadBalancerContext, addresses: &mut Vec<String>) {
        let mut add = |list: &str| {
            let each = list.split(',').map(str::trim).filter(|address| !address.is_empty());
            addresses.extend(each.map(str::to_string));
        };
        match self {
            Source::Header(name) => {
                let headers = context.downstream_headers();
                let headers = headers.as_ref().and_then(|headers| headers.try_borrow().ok());
                let value =
                    headers.as_ref().and_then(|headers| std::str::from_utf8(name.find(headers)?).ok());
                value.into_iter().for_each(&mut add);
            }
            Source::Metadata(filter, path) => {
                if let Some(Value::String(list)) = context.request_metadata(filter, path) {
                    add(&list);
                }
            }
        }
    }
}

/// Which hosts a request has named, and how many of them have been tried (Envoy: `OverrideHostFilterState`).
#[derive(Debug, Default)]
pub struct OverrideHostState {
    addresses: Vec<String>,
    tried: Cell<usize>,
}

impl OverrideHostState {
    fn next(&self) -> Option<&str> {
        let next = self.addresses.get(self.tried.get())?;
        self.tried.set(self.tried.get() + 1);
        Some(next)
    }
}

impl LoadBalancerConfig for OverrideHost {
    fn create(&self, params: &LoadBalancerParams<'_>) -> Box<dyn LoadBalancer> {
        let hosts = Rc::new(Hosts::default());
        for set in params.priority_set.host_sets_per_priority() {
            hosts.update(&set.hosts(), &[]);
        }
        let followed = hosts.clone();
        let update = params
            .priority_set
            .add_priority_update_cb(move |_, added, removed| followed.update(added, removed));
        Box::new(OverrideHostLoadBalancer {
            sources: self.sources.clone(),
            hosts,
            fallback: self.fallback.create(params),
            _update: update,
        })
    }

    fn on_new_snapshot(&self, snapshot: &SnapshotImpl) {
        self.fallback.on_new_snapshot(snapshot);
    }

    fn is_cluster_provided(&self) -> bool {
        self.fallback.is_cluster_provided()
    }

    fn thread_aware(&self, info: &Arc<ClusterInfoImpl>) -> Option<Rc<dyn ThreadAwareLoadBalancer>> {
        self.fallback.thread_aware(info)
    }
}

/// A worker's hosts by their addresses.
#[derive(Default)]
struct Hosts(RefCell<HashMap<String, Rc<WorkerHost>>>);

impl Hosts {
    fn update(&self, added: &[HostSharedPtr], removed: &[HostSharedPtr]) {
        let mut gone = Vec::new();
        let mut by_address = self.0.borrow_mut();
        for host in removed {
            let address = host.address().to_string();
            if by_address.get(&address).is_some_and(|known| Arc::ptr_eq(known.shared(), host)) {
                gone.extend(by_address.remove(&address));
            }
        }
        for host in added {
            gone.extend(by_address.insert(host.address().to_string(), WorkerHost::new(host.clone())));
        }
        drop(by_address);
        drop(gone);
    }
}

/// See the module's description.
struct OverrideHostLoadBalancer {
    sources: Arc<[Source]>,
    hosts: Rc<Hosts>,
    fallback: Box<dyn LoadBalancer>,
    _update: CallbackHandle<PriorityUpdateCb>,
}

impl OverrideHostLoadBalancer {
    /// The next host that the request has named and that there is.
    fn named_host(&self, context: &dyn LoadBalancerContext) -> Option<Rc<WorkerHost>> {
        let state = context.override_host_state(&|| {
            let mut addresses = Vec::new();
            self.sources.iter().for_each(|source| source.read(context, &mut addresses));
            OverrideHostState { addresses, tried: Cell::new(0) }
        })?;
        if state.addresses.is_empty() {
            envoy_log!(Upstream, trace, "No overridden hosts were found. Using fallback LB policy.");
            return None;
        }
        let hosts = self.hosts.0.borrow();
        let host = std::iter::from_fn(|| state.next()).find_map(|address| hosts.get(address));
        if host.is_none() {
            envoy_log!(
                Upstream,
                trace,
                "Failed to find any endpoints from metadata in the cluster. Using fallback LB policy."
            );
        }
        host.cloned()
    }
}

impl LoadBalancer for OverrideHostLoadBalancer {
    fn choose_host_once(&self, context: &dyn LoadBalancerContext) -> Option<Rc<WorkerHost>> {
        self.named_host(context).or_else(|| self.fallback.choose_host_once(context))
    }

    /// A host that was named is not asked whether it is wanted.
    fn choose_host(&self, context: &dyn LoadBalancerContext) -> Option<Rc<WorkerHost>> {
        self.named_host(context).or_else(|| self.fallback.choose_host(context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::endpoint::HealthStatus::{Healthy, Unhealthy};
    use crate::upstream::HostVectors;
    use crate::upstream::load_balancer::test_hosts::TestHosts;
    use serde_json::json;
    use std::cell::OnceCell;

    /// Of whom a filter has said this.
    struct Said(&'static str, OnceCell<OverrideHostState>);

    impl LoadBalancerContext for Said {
        fn request_metadata(&self, filter: &str, path: &[String]) -> Option<Value> {
            (filter == "f" && path == ["k"]).then(|| json!(self.0))
        }

        fn override_host_state(&self, make: &dyn Fn() -> OverrideHostState) -> Option<&OverrideHostState> {
            Some(self.1.get_or_init(make))
        }
    }

    #[test]
    fn hosts_are_tried_in_their_order() {
        let policy = |name: &str, more: Value| {
            let mut config = json!({ "@type": format!("type.googleapis.com/envoy.extensions.load_balancing_policies.{name}") });
            config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({ "policies": [{ "typed_extension_config": { "name": "p", "typed_config": config } }] })
        };
        let own = json!({
            "override_host_sources": [{ "metadata": { "key": "f", "path": [{ "key": "k" }] } }],
            "fallback_policy": policy("round_robin.v3.RoundRobin", json!({})),
        });
        let own = policy("override_host.v3.OverrideHost", own);
        let hosts = TestHosts::of(json!({ "name": "a", "load_balancing_policy": own }));
        hosts.update(0, &[(1, 1, Healthy), (2, 1, Unhealthy)]);
        let lb = hosts.info.load_balancer().create(&hosts.params());
        let chosen = |said: &'static str, count: usize| -> Vec<u16> {
            let context = Said(said, OnceCell::new());
            let port = |host: Rc<WorkerHost>| host.address().ip().map_or(0, |address| address.port());
            (0..count).filter_map(|_| lb.choose_host(&context)).map(port).collect()
        };
        assert_eq!(chosen("127.0.0.1:2, 127.0.0.1:9 ,127.0.0.1:2", 3), [2, 2, 1]);
        assert_eq!((chosen("127.0.0.1:9", 1), chosen("", 1)), (vec![1], vec![1]));
        let now = hosts.set.host_sets_per_priority()[0].hosts();
        let stays = Arc::new(vec![now[0].clone()]);
        hosts.set.update_hosts(0, HostVectors::partition(stays, &Arc::default()), &[], &now[1..]);
        assert_eq!(chosen("127.0.0.1:2", 1), [1]);
    }
}
