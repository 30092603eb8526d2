//! A host as one worker has it.
//!
//! In Envoy all threads count who holds a host in one place, and each finds the host's pools in a map. Here a worker's load
//! balancer holds its hosts by a count of the worker's own, and what the worker keeps for a host hangs on it.

use std::any::Any;
use std::cell::RefCell;
use std::ops::Deref;
use std::rc::{Rc, Weak};

use super::{HostImpl, HostSharedPtr};

/// See the module's description. There may be several for one host, one after the other as hosts change.
pub struct WorkerHost {
    shared: HostSharedPtr,
    kept: RefCell<Option<Weak<dyn Any>>>,
}

impl WorkerHost {
    /// A worker's own handle to `host`.
    pub fn new(host: HostSharedPtr) -> Rc<Self> {
        Rc::new(WorkerHost { shared: host, kept: RefCell::default() })
    }

    /// What all threads share of it.
    pub fn shared(&self) -> &HostSharedPtr {
        &self.shared
    }

    /// What the worker keeps for the host, as long as its owner has it.
    #[inline(always)]
    pub fn kept<T: 'static>(&self) -> Option<Rc<T>> {
        self.kept.borrow().as_ref()?.upgrade()?.downcast().ok()
    }

    /// Notes what the worker keeps for the host.
    pub fn keep<T: 'static>(&self, what: &Rc<T>) {
        let what: Weak<T> = Rc::downgrade(what);
        *self.kept.borrow_mut() = Some(what);
    }
}

impl Deref for WorkerHost {
    type Target = HostImpl;

    #[inline]
    fn deref(&self) -> &HostImpl {
        &self.shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::endpoint::HealthStatus;
    use crate::upstream::test_support::{cluster_info, host};

    #[test]
    fn what_is_kept_is_there_while_its_owner_has_it() {
        let host = WorkerHost::new(host(&cluster_info(), 1, 1, HealthStatus::Unknown));
        assert_eq!(host.kept::<u32>(), None);
        let pools = Rc::new(7_u32);
        host.keep(&pools);
        assert_eq!((host.kept::<u32>().as_deref(), host.kept::<String>()), (Some(&7), None));
        drop(pools);
        assert_eq!(host.kept::<u32>(), None);
        assert_eq!(host.weight(), host.shared().weight());
    }
}
