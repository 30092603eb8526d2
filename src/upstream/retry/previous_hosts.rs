//! No host that has been tried. Mirrors Envoy's `source/extensions/retry/host/previous_hosts/previous_hosts.h`.

use std::cell::RefCell;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;

use super::{RetryHostPredicate, RetryHostPredicateConfig, RetryHostPredicateFactory};
use crate::upstream::{HostImpl, WorkerHost};

/// The predicate among the extensions.
pub static PREVIOUS_HOSTS: RetryHostPredicateFactory = RetryHostPredicateFactory::new(
    "envoy.retry_host_predicates.previous_hosts",
    &["envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"],
    |_| Ok(Arc::new(PreviousHosts)),
);

#[derive(Debug)]
struct PreviousHosts;

impl RetryHostPredicateConfig for PreviousHosts {
    fn create_host_predicate(&self) -> Box<dyn RetryHostPredicate> {
        Box::<PreviousHostsRetryPredicate>::default()
    }
}

/// See the module's description.
#[derive(Default)]
struct PreviousHostsRetryPredicate {
    attempted_hosts: RefCell<Vec<Rc<WorkerHost>>>,
}

impl RetryHostPredicate for PreviousHostsRetryPredicate {
    fn should_select_another_host(&self, host: &HostImpl) -> bool {
        self.attempted_hosts.borrow().iter().any(|attempted| ptr::eq::<HostImpl>(&***attempted, host))
    }

    fn on_host_attempted(&self, host: &Rc<WorkerHost>) {
        self.attempted_hosts.borrow_mut().push(host.clone());
    }
}
