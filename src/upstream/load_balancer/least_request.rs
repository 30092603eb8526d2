//! The host with the fewest requests under way, of some that are looked at.
//!
//! Mirrors `LeastRequestLoadBalancer` of Envoy's `source/common/upstream/load_balancer_impl.cc`, as of 1.40: hosts of one weight are
//! compared, hosts of several take turns by what their weight is once it is divided by how busy they are. (In 1.1 those of a
//! static cluster take turns in either case.)

use std::rc::Rc;
use std::sync::Arc;

use super::random::any_of;
use super::slow_start::{RuntimeNumber, SlowStartMessage};
use super::{
    EdfLoadBalancerBase, LoadBalancer, LoadBalancerConfig, LoadBalancerContext, LoadBalancerFactory,
    LoadBalancerParams, LocalityLbConfig, SlowStartConfig,
};
use crate::config::core::RuntimeDouble;
use crate::config::error::ConfigError;
use crate::config::reader::{EnumTable, FromMessage, MessageReader};
use crate::runtime::SnapshotImpl;
use crate::upstream::{HostImpl, WorkerHost};
use crate::{enum_fields, message};

/// Least request among the extensions.
pub static LEAST_REQUEST: LoadBalancerFactory = LoadBalancerFactory::new(
    "envoy.load_balancing_policies.least_request",
    &["envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest"],
    |r| {
        let config = OfPolicy::read(r)?;
        let scans = config.enable_full_scan || config.selection_method == SelectionMethod::FullScan;
        Ok(Arc::new(LeastRequest {
            choice_count: config.choice_count,
            scans,
            active_request_bias: Arc::new(RuntimeNumber::new(config.active_request_bias)),
            slow_start: SlowStartConfig::new(config.slow_start_config.as_ref()),
            locality: config.locality_lb_config.into(),
        }))
    },
)
.or_around(of_cluster);

message! {
    /// `LeastRequestLbConfig` of a cluster.
    pub struct OfCluster = "envoy.config.cluster.v3.Cluster.LeastRequestLbConfig" {
        /// So many hosts are looked at, some perhaps more than once; default 2, at least that.
        pub choice_count: u32 = 2,
        /// How much requests count against weights.
        pub active_request_bias: RuntimeDouble = DEFAULT_BIAS,
        /// How new hosts get their requests.
        pub slow_start_config: Option<SlowStartMessage>,
    }
}

const DEFAULT_BIAS: RuntimeDouble = RuntimeDouble { default_value: 1.0, runtime_key: String::new() };

message! {
    /// The extension.
    pub struct OfPolicy = "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest" {
        /// So many hosts are looked at, some perhaps more than once; default 2, at least that.
        pub choice_count: u32 = 2,
        /// How much requests count against weights.
        pub active_request_bias: RuntimeDouble = DEFAULT_BIAS,
        /// How new hosts get their requests.
        pub slow_start_config: Option<SlowStartMessage>,
        /// What the places of hosts count for.
        pub locality_lb_config: Option<super::locality_config::OfPolicy>,
        /// All hosts are looked at; the older way to say it.
        pub enable_full_scan: bool,
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
    let config: OfCluster = r.message("least_request_lb_config")?.unwrap_or_default();
    Ok(Arc::new(LeastRequest {
        choice_count: config.choice_count,
        scans: false,
        active_request_bias: Arc::new(RuntimeNumber::new(config.active_request_bias)),
        slow_start: SlowStartConfig::new(config.slow_start_config.as_ref()),
        locality: LocalityLbConfig::of_cluster(r)?,
    }))
}

/// How it is chosen.
#[derive(Debug, Clone)]
struct LeastRequest {
    choice_count: u32,
    /// All hosts are looked at.
    scans: bool,
    active_request_bias: Arc<RuntimeNumber>,
    slow_start: Option<SlowStartConfig>,
    locality: LocalityLbConfig,
}

impl LoadBalancerConfig for LeastRequest {
    fn create(&self, params: &LoadBalancerParams<'_>) -> Box<dyn LoadBalancer> {
        let slow_start = self.slow_start.as_ref();
        Box::new(LeastRequestLoadBalancer {
            edf: EdfLoadBalancerBase::new(params, &self.locality, slow_start, fastrand::u64(..)),
            config: self.clone(),
        })
    }

    fn on_new_snapshot(&self, snapshot: &SnapshotImpl) {
        self.active_request_bias.on_new_snapshot(snapshot);
        self.slow_start.iter().for_each(|config| config.on_new_snapshot(snapshot));
    }
}

/// See the module's description.
pub struct LeastRequestLoadBalancer {
    edf: EdfLoadBalancerBase,
    config: LeastRequest,
}

impl LoadBalancer for LeastRequestLoadBalancer {
    fn choose_host_once(&self, context: &dyn LoadBalancerContext) -> Option<Rc<WorkerHost>> {
        let pick = |hosts: &[Rc<WorkerHost>], _: &mut u64| self.config.least_of(hosts).cloned();
        self.edf.choose_host_once(context, pick, |host| self.config.weight(host))
    }
}

impl LeastRequest {
    /// What is left of a host's weight.
    fn weight(&self, host: &HostImpl) -> f64 {
        let (weight, requests) = (f64::from(host.weight()), host.stats().rq_active().value() as f64 + 1.0);
        match self.active_request_bias.value() {
            0.0 => weight,
            bias if bias > 0.0 && bias != 1.0 => weight / requests.powf(bias),
            // Also where it is no number that makes sense.
            _ => weight / requests,
        }
    }

    fn least_of<'a>(&self, hosts: &'a [Rc<WorkerHost>]) -> Option<&'a Rc<WorkerHost>> {
        if self.scans {
            return least_of_all(hosts);
        }
        let first = any_of(hosts)?;
        let others = (1..self.choice_count).filter_map(|_| any_of(hosts));
        // Of those that are alike the one that was looked at first.
        others.fold(Some((first, active(first))), least).map(|(host, _)| host)
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

    fn balancer(hosts: &TestHosts, choice_count: u32, scans: bool) -> Box<dyn LoadBalancer> {
        with_bias(hosts, choice_count, scans, 1.0)
    }

    fn with_bias(hosts: &TestHosts, choice_count: u32, scans: bool, bias: f64) -> Box<dyn LoadBalancer> {
        let bias = RuntimeDouble { default_value: bias, runtime_key: String::new() };
        let active_request_bias = Arc::new(RuntimeNumber::new(bias));
        let locality = LocalityLbConfig::default();
        let config = LeastRequest { choice_count, scans, active_request_bias, slow_start: None, locality };
        config.create(&hosts.params())
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
        let counts = hosts.counts(&*balancer(&hosts, 2, false), 9000);
        // It is taken where it is looked at twice: one time in nine. Ten standard deviations are 300.
        assert!((700..1300).contains(&counts[&1]), "{counts:?}");
    }

    #[test]
    fn with_many_choices_a_busy_host_is_left_alone() {
        let hosts = busy([1, 1, 1], 1);
        let counts = hosts.counts(&*balancer(&hosts, 50, false), 1000);
        assert!(!counts.contains_key(&1), "{counts:?}");
    }

    #[test]
    fn a_full_scan_chooses_among_those_that_are_alike() {
        let hosts = busy([1, 1, 1], 1);
        let counts = hosts.counts(&*balancer(&hosts, 2, true), 10_000);
        assert!(!counts.contains_key(&1) && (4500..5500).contains(&counts[&2]), "{counts:?}");
    }

    #[test]
    fn weights_are_divided_by_how_busy_a_host_is() {
        let hosts = busy([6, 1, 2], 2);
        let counts = hosts.counts(&*balancer(&hosts, 2, false), 500);
        // Where the schedule begins is random.
        let near = |port: u16, share: usize| counts[&port].abs_diff(share) < 3;
        assert!(near(1, 200) && near(2, 100) && near(3, 200), "{counts:?}");
    }

    #[test]
    fn requests_count_as_much_against_weights_as_is_said() {
        let hosts = busy([8, 1, 1], 3);
        for (bias, shares) in [(0.0, [800, 100, 100]), (0.5, [667, 167, 167]), (2.0, [200, 400, 400])] {
            let counts = hosts.counts(&*with_bias(&hosts, 2, false, bias), 1000);
            let near = |port: u16, share: usize| counts[&port].abs_diff(share) < 3;
            assert!(near(1, shares[0]) && near(2, shares[1]) && near(3, shares[2]), "{bias} {counts:?}");
        }
    }
}
