//! What a balancer may ask about the request that it chooses a host for.
//!
//! Mirrors Envoy's `include/envoy/upstream/load_balancer.h` and `LoadBalancerContextBase` of `source/common/upstream/load_balancer_impl.h`:
//! each answer has a default, and who chooses says what it knows. Headers and criteria are lent by count, because who
//! answers is a filter whose parts come and go.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{OverrideHostState, PriorityLoad};
use crate::config::core::Metadata;
use crate::http::HeaderMapPtr;
use crate::upstream::{ENVOY_LB, HostImpl, PrioritySetImpl};

/// A pair that the metadata of a host has to have (Envoy: `Router::MetadataMatchCriterion`).
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataMatchCriterion {
    /// The key.
    pub name: String,
    /// Its value.
    pub value: Value,
}

impl MetadataMatchCriterion {
    /// `base` with what `more` says added, or put in its place; sorted by name (Envoy: `mergeMatchCriteria`).
    pub fn merged(base: &[Self], more: Option<&Map<String, Value>>) -> Vec<Self> {
        let more = || more.into_iter().flatten();
        let stays = |criterion: &&Self| !more().any(|(name, _)| *name == criterion.name);
        let mut merged: Vec<_> = base.iter().filter(stays).cloned().collect();
        merged.extend(
            more().map(|(name, value)| MetadataMatchCriterion { name: name.clone(), value: value.clone() }),
        );
        merged.sort_by(|a, b| a.name.cmp(&b.name));
        merged
    }

    /// What `metadata` says to balancers beside `base`; `None` where neither says anything.
    pub fn of(metadata: Option<&Metadata>, base: Option<&Arc<[Self]>>) -> Option<Arc<[Self]>> {
        match metadata.and_then(|metadata| metadata.filter_metadata.get(ENVOY_LB)) {
            Some(Value::Object(said)) => {
                Some(Self::merged(base.map(|base| &**base).unwrap_or_default(), Some(said)).into())
            }
            _ => base.cloned(),
        }
    }
}

/// What is known of a request while its host is chosen. It must not change the hosts, nor choose one itself.
pub trait LoadBalancerContext {
    /// A number that is the same for requests that belong together; to be asked for once an attempt.
    fn compute_hash_key(&self) -> Option<u64> {
        None
    }
    /// What hosts have to match, sorted by name.
    fn metadata_match_criteria(&self) -> Option<Arc<[MetadataMatchCriterion]>> {
        None
    }
    /// The number of the connection that the request came on, if it came on one.
    fn downstream_connection_id(&self) -> Option<u64> {
        None
    }
    /// Where the connection that the request came on was going, if a listener filter has found that out.
    fn downstream_original_dst(&self) -> Option<SocketAddr> {
        None
    }
    /// The request's headers.
    fn downstream_headers(&self) -> Option<HeaderMapPtr> {
        None
    }
    /// Which hosts the request has named, as `make` finds the first time; `None` where nobody keeps that.
    fn override_host_state(&self, _make: &dyn Fn() -> OverrideHostState) -> Option<&OverrideHostState> {
        None
    }
    /// What filters have said of the request under the name `filter`, and there under `path`.
    fn request_metadata(&self, _filter: &str, _path: &[String]) -> Option<Value> {
        None
    }
    /// Another distribution over the priorities than `original`; asked where there are several.
    fn determine_priority_load(
        &self,
        _priority_set: &PrioritySetImpl,
        _original: &PriorityLoad,
    ) -> Option<Rc<PriorityLoad>> {
        None
    }
    /// Whether another host than this one is wanted, for one that has been tried in vain, say.
    fn should_select_another_host(&self, _host: &HostImpl) -> bool {
        false
    }
    /// How often another host is asked for until one is taken that is not wanted.
    fn host_selection_retry_count(&self) -> u32 {
        1
    }
}

/// Nothing is known of the request.
pub struct NoContext;

impl LoadBalancerContext for NoContext {}
