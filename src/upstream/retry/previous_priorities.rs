//! No priority whose hosts have been tried, as long as there are others.
//!
//! Mirrors Envoy's `source/extensions/retry/priority/previous_priorities/previous_priorities.cc`.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::{RetryPriority, RetryPriorityConfig, RetryPriorityFactory};
use crate::config::error::ConfigError;
use crate::config::reader::{FromMessage, MessageReader};
use crate::message;
use crate::upstream::load_balancer::{HostCounts, PriorityLoad};
use crate::upstream::{HostImpl, PrioritySetImpl};

/// The policy among the extensions.
pub static PREVIOUS_PRIORITIES: RetryPriorityFactory = RetryPriorityFactory::new(
    "envoy.retry_priorities.previous_priorities",
    &["envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"],
    PreviousPriorities::read_config,
);

message! {
    /// How the priorities are left out.
    #[derive(Eq)]
    pub struct PreviousPrioritiesConfig = "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig" {
        /// After each so many tries; at least 1.
        pub update_frequency: u32,
    }
}

#[derive(Debug)]
struct PreviousPriorities {
    update_frequency: usize,
}

impl PreviousPriorities {
    fn read_config(r: &mut MessageReader<'_>) -> Result<Arc<dyn RetryPriorityConfig>, ConfigError> {
        let config = PreviousPrioritiesConfig::read(r)?;
        Ok(Arc::new(PreviousPriorities { update_frequency: config.update_frequency.max(1) as usize }))
    }
}

impl RetryPriorityConfig for PreviousPriorities {
    fn create_retry_priority(&self) -> Box<dyn RetryPriority> {
        Box::new(PreviousPrioritiesRetryPriority {
            update_frequency: self.update_frequency,
            state: RefCell::default(),
        })
    }
}

/// See the module's description.
struct PreviousPrioritiesRetryPriority {
    update_frequency: usize,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    attempted: Vec<usize>,
    excluded: Vec<bool>,
    load: Option<Rc<PriorityLoad>>,
}

impl State {
    /// The load without the priorities that were tried, or with them if there is nobody else; `None` if nobody at all is
    /// available.
    fn adjust_for_attempted_priorities(&mut self, priorities: &[HostCounts]) -> Option<PriorityLoad> {
        PriorityLoad::without(priorities, &self.excluded).or_else(|| {
            self.excluded.fill(false);
            self.attempted.clear();
            PriorityLoad::without(priorities, &self.excluded)
        })
    }
}

impl RetryPriority for PreviousPrioritiesRetryPriority {
    fn determine_priority_load(
        &self,
        priority_set: &PrioritySetImpl,
        _original: &PriorityLoad,
    ) -> Option<Rc<PriorityLoad>> {
        let mut state = self.state.borrow_mut();
        let tried = state.attempted.len();
        if tried < self.update_frequency {
            return None;
        }
        if tried.is_multiple_of(self.update_frequency) {
            let host_sets = priority_set.host_sets_per_priority();
            let priorities: Vec<HostCounts> =
                host_sets.iter().map(|set| HostCounts::of(&set.vectors())).collect();
            let State { attempted, excluded, .. } = &mut *state;
            let number = excluded.len().max(priorities.len());
            excluded.resize(number, false);
            attempted
                .iter()
                .filter(|priority| **priority < number)
                .for_each(|priority| excluded[*priority] = true);
            let load = state.adjust_for_attempted_priorities(&priorities)?;
            state.load = Some(Rc::new(load));
        }
        state.load.clone()
    }

    fn on_host_attempted(&self, host: &HostImpl) {
        self.state.borrow_mut().attempted.push(host.priority() as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::core::Locality;
    use crate::config::endpoint::HealthStatus;
    use crate::network::Address;
    use crate::upstream::test_support::cluster_info;
    use crate::upstream::{HostSharedPtr, HostVectors};

    /// One host in each priority, healthy or not.
    fn priority_set(healthy: &[bool]) -> (Rc<PrioritySetImpl>, Vec<HostSharedPtr>) {
        let (set, info) = (PrioritySetImpl::new(), cluster_info());
        let mut all = Vec::new();
        for (priority, healthy) in (0..).zip(healthy) {
            let status = if *healthy { HealthStatus::Healthy } else { HealthStatus::Unhealthy };
            let address = Address::Ip(([127, 0, 0, 1], 1).into());
            let host = HostImpl::new(info.clone(), "", address, Locality::default(), priority, 1, status);
            let hosts: Arc<Vec<HostSharedPtr>> = Arc::new(vec![host.clone()]);
            set.update_hosts(priority, HostVectors::partition(hosts.clone(), &Arc::default()), &hosts, &[]);
            all.push(host);
        }
        (set, all)
    }

    /// What each try after the first one goes by, the tries going where they say.
    fn loads(update_frequency: usize, healthy: &[bool], tried: &[usize]) -> Vec<Option<Vec<u32>>> {
        let (set, hosts) = priority_set(healthy);
        let policy = PreviousPriorities { update_frequency }.create_retry_priority();
        let of = |priority: &usize| {
            policy.on_host_attempted(&hosts[*priority]);
            policy.determine_priority_load(&set, &PriorityLoad::default()).map(|load| load.healthy.clone())
        };
        tried.iter().map(of).collect()
    }

    #[test]
    fn what_was_tried_is_left_out_until_nothing_is_left() {
        let only = |priority: usize| Some((0..3).map(|i| if i == priority { 100 } else { 0 }).collect());
        assert_eq!(loads(1, &[true; 3], &[0, 1, 2, 0]), [only(1), only(2), only(0), only(1)]);
        assert_eq!(loads(2, &[true; 3], &[0, 0, 0, 1]), [None, only(1), only(1), only(2)]);
        assert_eq!(loads(1, &[true, false, true], &[0, 2]), [only(2), only(0)]);
    }

    #[test]
    fn where_nobody_is_available_the_balancer_decides() {
        assert_eq!(loads(1, &[false, false], &[0, 1]), [None, None]);
    }
}
