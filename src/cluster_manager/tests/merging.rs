//! Changes of health within the merge window.

use std::time::Duration;

use serde_json::json;

use super::Fixture;
use crate::cluster_manager::ClusterManagerImpl;
use crate::event::RunType;
use crate::upstream::HealthFlag;

/// What was told, told together, cancelled, and told because nothing had been for a while.
fn updates(manager: &ClusterManagerImpl) -> [u64; 4] {
    let stats = manager.stats();
    let counters = [
        &stats.cluster_updated,
        &stats.cluster_updated_via_merge,
        &stats.update_merge_cancelled,
        &stats.update_out_of_merge_window,
    ];
    counters.map(|counter| counter.value())
}

/// How many hosts of `a` a worker takes for healthy, when the host `number` fails or is well again.
fn flip(f: &Fixture, number: usize, flag: HealthFlag) -> usize {
    let host = f.host(number);
    match host.health_flag_get(flag) {
        true => host.health_flag_clear(flag),
        false => host.health_flag_set(flag),
    }
    f.manager.clusters()[0].base().reload_healthy_hosts();
    healthy(f)
}

fn healthy(f: &Fixture) -> usize {
    f.entry().priority_set().host_sets_per_priority()[0].healthy_hosts().len()
}

#[test]
fn changes_of_health_that_come_soon_after_each_other_are_told_together() {
    let flag = HealthFlag::FailedActiveHc;
    let f = Fixture::with(3, json!({ "common_lb_config": { "update_merge_window": "0.05s" } }));
    assert_eq!(flip(&f, 0, flag), 2, "the first one is told at once");
    assert_eq!(updates(&f.manager), [1, 0, 0, 1]);
    assert_eq!((flip(&f, 1, flag), flip(&f, 2, flag)), (2, 2), "these wait");
    f.run_until("the end of the window", || healthy(&f) == 0);
    assert_eq!(updates(&f.manager), [1, 1, 0, 1]);
    assert_eq!(flip(&f, 1, flag), 0, "a new window has begun");
    f.remove_host(2);
    assert_eq!(healthy(&f), 1, "what cannot wait takes along what does");
    assert_eq!(updates(&f.manager), [2, 1, 1, 1]);
}

#[test]
fn without_a_window_all_are_told_at_once() {
    let flag = HealthFlag::FailedOutlierCheck;
    let f = Fixture::with(2, json!({ "common_lb_config": { "update_merge_window": "0s" } }));
    assert_eq!([flip(&f, 0, flag), flip(&f, 1, flag), flip(&f, 0, flag)], [1, 0, 1]);
    assert_eq!(updates(&f.manager), [3, 0, 0, 0]);
}

#[test]
fn what_waits_goes_with_its_cluster() {
    let flag = HealthFlag::FailedActiveHc;
    let f = Fixture::with(2, json!({ "common_lb_config": { "update_merge_window": "0.005s" } }));
    flip(&f, 0, flag);
    assert_eq!(flip(&f, 1, flag), 1);
    assert!(f.manager.remove_cluster("a"));
    std::thread::sleep(Duration::from_millis(10)); // longer than the window
    (0..3).for_each(|_| _ = f.dispatcher.run(RunType::NonBlock));
    assert_eq!(updates(&f.manager)[1], 0);
}
