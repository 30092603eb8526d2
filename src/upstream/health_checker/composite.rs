//! Several checks of the hosts of one cluster: a host is well if all of them find it so.
//!
//! Envoy of istio 1.1 allows one check. 1.40 allows several that have names: each counts on its own under its name, and what they
//! find together becomes the flags of the host, once each of them has asked it.

use std::cell::RefCell;
use std::collections::HashMap;

use super::base::identity;
use crate::stats::Scope;
use crate::stats_struct;
use crate::upstream::{HealthFlag, HostImpl, HostSharedPtr};

stats_struct! {
    /// `cluster.<name>.health_check.`, of all checks together.
    pub(super) struct CompositeStats {
        counters: [],
        gauges: [degraded, healthy],
        histograms: [],
    }
}

/// What a check has an opinion of its own about.
const OWN: [HealthFlag; 3] =
    [HealthFlag::FailedActiveHc, HealthFlag::DegradedActiveHc, HealthFlag::ActiveHcTimeout];

/// What makes a host count otherwise.
const TOLD: [HealthFlag; 4] = [
    HealthFlag::FailedActiveHc,
    HealthFlag::DegradedActiveHc,
    HealthFlag::PendingActiveHc,
    HealthFlag::ExcludedViaImmediateHcFail,
];

/// See the module's description.
pub(super) struct CompositeHealthChecker {
    stats: CompositeStats,
    checkers: usize,
    hosts: RefCell<HashMap<usize, HostChecks>>,
}

struct HostChecks {
    host: HostSharedPtr,
    /// What each check has found.
    flags: Vec<u32>,
    has_asked: Vec<bool>,
    /// So many checks have let go of it.
    gone: usize,
    /// What those who are told of the host know.
    told: u32,
}

impl HostChecks {
    fn is_waiting(&self) -> bool {
        !self.has_asked.iter().all(|has_asked| *has_asked)
    }
}

fn flags_of(host: &HostImpl, which: &[HealthFlag]) -> u32 {
    which.iter().filter(|flag| host.health_flag_get(**flag)).map(|flag| *flag as u32).sum()
}

impl CompositeHealthChecker {
    /// For so many checks.
    pub(super) fn new(scope: &Scope, checkers: usize) -> Self {
        CompositeHealthChecker { stats: CompositeStats::new(scope), checkers, hosts: RefCell::default() }
    }

    /// A host is to be checked; each check says so.
    pub(super) fn add(&self, host: &HostSharedPtr) {
        self.hosts.borrow_mut().entry(identity(host)).or_insert_with(|| {
            let own = flags_of(host, &OWN);
            self.count(own, 1);
            HostChecks {
                host: host.clone(),
                flags: vec![own; self.checkers],
                has_asked: vec![false; self.checkers],
                gone: 0,
                told: flags_of(host, &TOLD),
            }
        });
    }

    /// It is not any more; each check says so. Whether its first round of checks was waited for until now.
    pub(super) fn remove(&self, host: &HostSharedPtr) -> bool {
        let mut hosts = self.hosts.borrow_mut();
        let Some(checks) = hosts.get_mut(&identity(host)) else { return false };
        checks.gone += 1;
        let (is_first, was_waiting) = (checks.gone == 1, checks.is_waiting());
        if checks.gone == self.checkers {
            hosts.remove(&identity(host));
        }
        if is_first {
            self.count(flags_of(host, &OWN), -1);
        }
        is_first && was_waiting
    }

    fn count(&self, flags: u32, more: i64) {
        let failed = flags & HealthFlag::FailedActiveHc as u32 != 0;
        let degraded = flags & HealthFlag::DegradedActiveHc as u32 != 0;
        for (gauge, counts) in [(&self.stats.healthy, !failed), (&self.stats.degraded, degraded)] {
            match counts {
                true if more > 0 => gauge.inc(),
                true => gauge.dec(),
                false => {}
            }
        }
    }

    /// What a check has found of a host.
    pub(super) fn get(&self, checker: usize, host: &HostSharedPtr, flag: HealthFlag) -> bool {
        let hosts = self.hosts.borrow();
        let of_check = hosts.get(&identity(host)).and_then(|checks| checks.flags.get(checker));
        of_check.is_some_and(|flags| flags & flag as u32 != 0)
    }

    /// A check has found that, or no longer does.
    pub(super) fn put(&self, checker: usize, host: &HostSharedPtr, flag: HealthFlag, is_set: bool) {
        let mut hosts = self.hosts.borrow_mut();
        let Some(checks) = hosts.get_mut(&identity(host)) else { return };
        let Some(flags) = checks.flags.get_mut(checker) else { return };
        match is_set {
            true => *flags |= flag as u32,
            false => *flags &= !(flag as u32),
        }
        let before = flags_of(host, &OWN);
        match checks.flags.iter().any(|flags| flags & flag as u32 != 0) {
            true => host.health_flag_set(flag),
            false => host.health_flag_clear(flag),
        }
        let after = flags_of(host, &OWN);
        if before != after {
            self.count(before, -1);
            self.count(after, 1);
        }
    }

    /// A check is over: whether the host counts otherwise now; `None` while another check has not asked it yet.
    pub(super) fn report(&self, checker: usize, host: &HostSharedPtr) -> Option<bool> {
        let mut hosts = self.hosts.borrow_mut();
        let checks = hosts.get_mut(&identity(host))?;
        *checks.has_asked.get_mut(checker)? = true;
        if checks.is_waiting() || checks.gone > 0 {
            return None;
        }
        let now = flags_of(host, &TOLD);
        Some(std::mem::replace(&mut checks.told, now) != now)
    }
}

impl Drop for CompositeHealthChecker {
    fn drop(&mut self) {
        for checks in self.hosts.borrow().values().filter(|checks| checks.gone == 0) {
            self.count(flags_of(&checks.host, &OWN), -1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::endpoint::HealthStatus;
    use crate::stats::Store;
    use crate::upstream::test_support::{cluster_info, host};

    const FAILED: HealthFlag = HealthFlag::FailedActiveHc;

    fn fixture() -> (CompositeHealthChecker, HostSharedPtr) {
        let composite = CompositeHealthChecker::new(&Store::new(1).root_scope(), 2);
        let host = host(&cluster_info(), 1, 1, HealthStatus::Unknown);
        host.health_flag_set(FAILED);
        (0..2).for_each(|_| composite.add(&host));
        (composite, host)
    }

    fn gauges(composite: &CompositeHealthChecker) -> [u64; 2] {
        [composite.stats.healthy.value(), composite.stats.degraded.value()]
    }

    #[test]
    fn a_host_is_as_its_worst_check_says() {
        let (composite, host) = fixture();
        composite.put(0, &host, FAILED, false);
        assert_eq!((composite.report(0, &host), host.health_flag_get(FAILED)), (None, true));
        composite.put(1, &host, FAILED, false);
        assert_eq!((composite.report(1, &host), host.health_flag_get(FAILED)), (Some(true), false));
        assert_eq!(gauges(&composite), [1, 0]);
        composite.put(0, &host, HealthFlag::DegradedActiveHc, true);
        assert_eq!((composite.report(0, &host), gauges(&composite)), (Some(true), [1, 1]));
        composite.put(1, &host, HealthFlag::DegradedActiveHc, true);
        assert_eq!(composite.report(1, &host), Some(false), "nothing new for others");
        assert!(composite.get(0, &host, HealthFlag::DegradedActiveHc) && !composite.get(0, &host, FAILED));
    }

    #[test]
    fn a_host_that_goes_is_waited_for_no_more_and_counted_once() {
        let (composite, host) = fixture();
        composite.report(0, &host);
        assert_eq!((composite.remove(&host), composite.remove(&host)), (true, false));
        let (composite, host) = fixture();
        (0..2).for_each(|check| {
            composite.put(check, &host, FAILED, false);
            composite.report(check, &host);
        });
        assert_eq!((composite.remove(&host), gauges(&composite)), (false, [0, 0]));
        assert!(!composite.get(1, &host, FAILED), "the other check still knows what it has found");
        assert_eq!(composite.report(1, &host), None);
        assert!(!composite.remove(&host) && composite.hosts.borrow().is_empty());
    }
}
