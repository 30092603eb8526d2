//! What a configuration says of the hosts of a priority, whichever they are.
//!
//! Mirrors what `PriorityStateManager` of Envoy's `source/common/upstream/upstream_impl.cc` keeps beside the hosts.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use crate::config::core::Locality;
use crate::config::endpoint::{ClusterLoadAssignment, DEFAULT_OVERPROVISIONING_FACTOR};

/// See the module's description.
#[derive(Debug, Clone, PartialEq)]
pub struct HostSetOptions {
    /// Percent: how far the share of healthy hosts may fall before requests go to the next priority.
    pub overprovisioning_factor: u32,
    /// Whether that share is one of weights and not of numbers.
    pub weighted_priority_health: bool,
    /// Those of localities, as far as they have any.
    pub locality_weights: BTreeMap<Locality, u32>,
    /// Where the proxy runs, if that is known.
    pub local_locality: Option<Arc<Locality>>,
}

impl Default for HostSetOptions {
    fn default() -> Self {
        HostSetOptions {
            overprovisioning_factor: DEFAULT_OVERPROVISIONING_FACTOR,
            weighted_priority_health: false,
            locality_weights: BTreeMap::new(),
            local_locality: None,
        }
    }
}

/// Most clusters say nothing, and share what that is.
static DEFAULT: LazyLock<Arc<HostSetOptions>> = LazyLock::new(Arc::default);

impl HostSetOptions {
    fn shared(options: Self) -> Arc<Self> {
        if options == **DEFAULT { DEFAULT.clone() } else { Arc::new(options) }
    }

    /// Those of each priority that `assignment` speaks of; at least of one.
    pub fn of_priorities(
        assignment: Option<&ClusterLoadAssignment>,
        local_locality: Option<&Arc<Locality>>,
    ) -> Vec<Arc<Self>> {
        let policy = assignment.map(|assignment| assignment.policy.clone()).unwrap_or_default();
        let of_all = HostSetOptions {
            overprovisioning_factor: policy.overprovisioning_factor,
            weighted_priority_health: policy.weighted_priority_health,
            locality_weights: BTreeMap::new(),
            local_locality: local_locality.cloned(),
        };
        let of_all = Self::shared(of_all);
        let mut priorities = vec![of_all.clone()];
        for group in assignment.into_iter().flat_map(|assignment| &assignment.endpoints) {
            let priority = group.priority as usize;
            if priorities.len() <= priority {
                priorities.resize(priority + 1, of_all.clone());
            }
            if let (Some(locality), Some(weight)) = (&group.locality, group.load_balancing_weight) {
                let weights = &mut Arc::make_mut(&mut priorities[priority]).locality_weights;
                weights.insert(locality.clone(), weight);
            }
        }
        priorities
    }
}
