//! The host with the fewest requests under way, of some that are looked at.
//!
//! Mirrors `LeastRequestLoadBalancer` of Envoy's `source/common/upstream/load_balancer_impl.cc`, as of 1.40: hosts of one weight are
//! compared, hosts of several take turns by what their weight is once it is divided by how busy they are. (In 1.1 those of a
//! static cluster take turns in either case.)

use std::rc::Rc;
use std::sync::Arc;

use super::random::any_of;
use super::{LoadBalancer, LoadBalancerConfig, LoadBalancerContext, LoadBalancerFactory, PerSource, Turns};
use crate::config::error::ConfigError;
use crate::config::reader::{EnumTable, FromMessage, MessageReader};
use crate::upstream::{ClusterInfoImpl, HostImpl, PrioritySetImpl, WorkerHost};
use crate::{enum_fields, message};

/// Least request among the extensions.
pub static LEAST_REQUEST: LoadBalancerFactory = LoadBalancerFactory::new(
    "envoy.load_balancing_policies.least_request",
    &["envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest"],
    |r| Ok(Arc::new(LeastRequest::read(r)?)),
)
.or_around(of_cluster);

message! {
    /// `LeastRequestLbConfig` of a cluster.
    pub struct OfCluster = "envoy.config.cluster.v3.Cluster.LeastRequestLbConfig" {
        /// As [`LeastRequest::choice_count`].
        pub choice_count: u32 = 2,
    }
}

message! {
    /// How it is chosen.
    pub struct LeastRequest = "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest" {
        /// So many hosts are looked at, some perhaps more than once; default 2, at least that.
        pub choice_count: u32 = 2,
        /// Which hosts are looked at.
        pub selection_method: SelectionMethod,
    }
}

/// Which hosts are looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SelectionMethod {
    /// `choice_count` of them.
    #[default]
    NChoices,
    /// All.
    FullScan,
}

impl SelectionMethod {
    /// API names.
    const TABLE: &EnumTable<Self> = &[("N_CHOICES", Self::NChoices), ("FULL_SCAN", Self::FullScan)];
}

enum_fields! { SelectionMethod }

fn of_cluster(r: &mut MessageReader<'_>) -> Result<Arc<dyn LoadBalancerConfig>, ConfigError> {
    let config: Option<OfCluster> = r.message("least_request_lb_config")?;
    let choice_count = config.unwrap_or_default().choice_count;
    Ok(Arc::new(LeastRequest { choice_count, ..LeastRequest::default() }))
}

impl LoadBalancerConfig for LeastRequest {
    fn create(
        &self,
        priority_set: &Rc<PrioritySetImpl>,
        info: &Arc<ClusterInfoImpl>,
    ) -> Box<dyn LoadBalancer> {
        Box::new(LeastRequestLoadBalancer {
            sources: PerSource::new(priority_set, info),
            choice_count: self.choice_count,
            selection_method: self.selection_method,
            seed: fastrand::u64(..),
        })
    }
}

/// See the module's description.
pub struct LeastRequestLoadBalancer {
    sources: PerSource<Hosts>,
    choice_count: u32,
    selection_method: SelectionMethod,
    seed: u64,
}

enum Hosts {
    OfOneWeight(Vec<Rc<WorkerHost>>),
    OfSeveral(Turns),
}

impl LoadBalancer for LeastRequestLoadBalancer {
    fn choose_host_once(&self, context: &dyn LoadBalancerContext) -> Option<Rc<WorkerHost>> {
        self.sources.choose(
            context,
            |hosts| match hosts.windows(2).all(|pair| pair[0].weight() == pair[1].weight()) {
                true => Hosts::OfOneWeight(hosts),
                false => Hosts::OfSeveral(Turns::new(hosts, weight, self.seed)),
            },
            |hosts| match hosts {
                Hosts::OfOneWeight(hosts) => self.least_of(hosts).cloned(),
                Hosts::OfSeveral(turns) => turns.pick(weight),
            },
        )
    }
}

/// What is left of a host's weight.
fn weight(host: &HostImpl) -> f64 {
    f64::from(host.weight()) / (host.stats().rq_active().value() as f64 + 1.0)
}

impl LeastRequestLoadBalancer {
    fn least_of<'a>(&self, hosts: &'a [Rc<WorkerHost>]) -> Option<&'a Rc<WorkerHost>> {
        match self.selection_method {
            SelectionMethod::NChoices => {
                let first = any_of(hosts)?;
                let others = (1..self.choice_count).filter_map(|_| any_of(hosts));
                // Of those that are alike the one that was looked at first.
                others.fold(Some((first, active(first))), least).map(|(host, _)| host)
            }
            SelectionMethod::FullScan => least_of_all(hosts),
        }
    }
}

fn active(host: &WorkerHost) -> u64 {
    host.stats().rq_active().value()
}

type Candidate<'a> = Option<(&'a Rc<WorkerHost>, u64)>;

fn least<'a>(best: Candidate<'a>, host: &'a Rc<WorkerHost>) -> Candidate<'a> {
    let requests = active(host);
    best.filter(|(_, least)| *least <= requests).or(Some((host, requests)))
}

/// Each of those that are alike is as likely as the others.
fn least_of_all(hosts: &[Rc<WorkerHost>]) -> Option<&Rc<WorkerHost>> {
    let (mut best, mut alike) = (hosts.first()?, 0);
    let mut least = u64::MAX;
    for host in hosts {
        let requests = active(host);
        if requests < least {
            (best, least, alike) = (host, requests, 1);
        } else if requests == least {
            alike += 1;
            if fastrand::u64(..).is_multiple_of(alike) {
                best = host;
            }
        }
    }
    Some(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::endpoint::HealthStatus::Healthy;
    use crate::upstream::load_balancer::test_hosts::TestHosts;

    fn balancer(
        hosts: &TestHosts,
        choice_count: u32,
        selection_method: SelectionMethod,
    ) -> Box<dyn LoadBalancer> {
        LeastRequest { choice_count, selection_method }.create(&hosts.set, &hosts.info)
    }

    /// Of three hosts of these weights the first has so many requests under way.
    fn busy(weights: [u32; 3], requests: usize) -> TestHosts {
        let hosts = TestHosts::new();
        let of = |port: u16| (port, weights[usize::from(port) - 1], Healthy);
        hosts.update(0, &[of(1), of(2), of(3)]);
        let first = hosts.set.host_sets_per_priority()[0].hosts()[0].clone();
        (0..requests).for_each(|_| first.stats().rq_active().inc());
        hosts
    }

    #[test]
    fn of_two_the_one_with_fewer_requests_is_taken() {
        let hosts = busy([1, 1, 1], 1);
        let counts = hosts.counts(&*balancer(&hosts, 2, SelectionMethod::NChoices), 9000);
        // It is taken where it is looked at twice: one time in nine. Ten standard deviations are 300.
        assert!((700..1300).contains(&counts[&1]), "{counts:?}");
    }

    #[test]
    fn with_many_choices_a_busy_host_is_left_alone() {
        let hosts = busy([1, 1, 1], 1);
        let counts = hosts.counts(&*balancer(&hosts, 50, SelectionMethod::NChoices), 1000);
        assert!(!counts.contains_key(&1), "{counts:?}");
    }

    #[test]
    fn a_full_scan_chooses_among_those_that_are_alike() {
        let hosts = busy([1, 1, 1], 1);
        let counts = hosts.counts(&*balancer(&hosts, 2, SelectionMethod::FullScan), 10_000);
        assert!(!counts.contains_key(&1) && (4500..5500).contains(&counts[&2]), "{counts:?}");
    }

    #[test]
    fn weights_are_divided_by_how_busy_a_host_is() {
        let hosts = busy([6, 1, 2], 2);
        let counts = hosts.counts(&*balancer(&hosts, 2, SelectionMethod::NChoices), 500);
        assert_eq!([counts[&1], counts[&2], counts[&3]], [200, 100, 200]);
    }
}
