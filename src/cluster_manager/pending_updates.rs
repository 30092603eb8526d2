//! Changes that come soon after each other are told to the workers together.
//!
//! Mirrors `scheduleUpdate` and `applyUpdates` of Envoy's `source/common/upstream/cluster_manager_impl.cc`: only what brings no host
//! and takes none away can wait, which is a change of health, of a weight or of metadata.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::cluster_manager_impl::ClusterManagerImpl;
use crate::event::{Moment, Timer};
use crate::thread_local;
use crate::upstream::HostSharedPtr;

/// Tells the workers of a priority, and which hosts have come and gone.
type Deliver = Box<dyn Fn(u32, &[HostSharedPtr], &[HostSharedPtr])>;

/// The changes of one cluster's hosts.
pub(super) struct ClusterUpdates {
    weak: Weak<ClusterUpdates>,
    manager: Weak<ClusterManagerImpl>,
    /// Zero where all are told at once.
    window: Duration,
    deliver: Deliver,
    by_priority: RefCell<Vec<PendingUpdates>>,
}

#[derive(Default)]
struct PendingUpdates {
    last_updated: Option<Moment>,
    /// There once something has waited; armed while something does.
    timer: Option<Timer>,
}

impl ClusterUpdates {
    /// What is told within `window` of something else waits until it is over.
    pub(super) fn new(
        manager: &Weak<ClusterManagerImpl>,
        window: Duration,
        deliver: impl Fn(u32, &[HostSharedPtr], &[HostSharedPtr]) + 'static,
    ) -> Rc<Self> {
        Rc::new_cyclic(|weak| ClusterUpdates {
            weak: weak.clone(),
            manager: manager.clone(),
            window,
            deliver: Box::new(deliver),
            by_priority: RefCell::default(),
        })
    }

    /// The hosts of a priority have changed.
    pub(super) fn on_update(&self, priority: u32, added: &[HostSharedPtr], removed: &[HostSharedPtr]) {
        let mergeable = added.is_empty() && removed.is_empty();
        if self.window.as_millis() > 0 && self.schedule_update(priority, mergeable) {
            return;
        }
        if let Some(manager) = self.manager.upgrade() {
            manager.stats().cluster_updated.inc();
        }
        (self.deliver)(priority, added, removed);
    }

    /// Whether it waits.
    fn schedule_update(&self, priority: u32, mergeable: bool) -> bool {
        let Some(manager) = self.manager.upgrade() else { return false };
        let mut all = self.by_priority.borrow_mut();
        if all.len() <= priority as usize {
            all.resize_with(priority as usize + 1, PendingUpdates::default);
        }
        let pending = &mut all[priority as usize];
        let window = u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX);
        let now = Moment::now();
        let out_of_window = pending.last_updated.is_none_or(|last| now.milliseconds_since(last) > window);
        if out_of_window || !mergeable {
            if mergeable {
                manager.stats().update_out_of_merge_window.inc();
            }
            if let Some(timer) = pending.timer.as_ref().filter(|timer| timer.enabled()) {
                timer.disable_timer();
                manager.stats().update_merge_cancelled.inc();
            }
            pending.last_updated = Some(now);
            return false;
        }
        let weak = self.weak.clone();
        let timer = pending.timer.get_or_insert_with(|| {
            thread_local::dispatcher().create_timer(move || {
                if let Some(updates) = weak.upgrade() {
                    updates.apply_updates(priority);
                }
            })
        });
        if !timer.enabled() {
            timer.enable_timer(self.window);
        }
        true
    }

    fn apply_updates(&self, priority: u32) {
        (self.deliver)(priority, &[], &[]);
        if let Some(manager) = self.manager.upgrade() {
            manager.stats().cluster_updated_via_merge.inc();
        }
        if let Some(pending) = self.by_priority.borrow_mut().get_mut(priority as usize) {
            pending.last_updated = Some(Moment::now());
        }
    }
}
