//! Where a connection manager has its route table from. Mirrors `StaticRouteConfigProviderImpl` and
//! `RdsRouteConfigProviderImpl` of Envoy's `source/common/router/rds_impl.cc`, the latter without what discovers a table.

use std::rc::Rc;
use std::sync::Arc;

use super::{ConfigImpl, RouteTable};
use crate::thread_local::{InstanceImpl, SlotImpl};

/// A worker's side of where tables come from.
pub trait RouteConfigProvider {
    /// The table of now, which a stream goes by to its end.
    fn config(&self) -> RouteTable;

    /// Whether it is the same for ever, so that a stream need not keep it.
    fn is_static(&self) -> bool {
        false
    }
}

/// Makes the calling worker's side; shared by all.
pub type RouteConfigProviderFactory = Arc<dyn Fn() -> Box<dyn RouteConfigProvider> + Send + Sync>;

struct StaticRouteConfigProviderImpl(RouteTable);

impl RouteConfigProvider for StaticRouteConfigProviderImpl {
    fn config(&self) -> RouteTable {
        self.0.clone()
    }

    fn is_static(&self) -> bool {
        true
    }
}

/// Of a table that stands in the configuration of its listener.
pub fn static_provider(config: Arc<ConfigImpl>) -> RouteConfigProviderFactory {
    Arc::new(move || Box::new(StaticRouteConfigProviderImpl(RouteTable::new(config.clone()))))
}

/// A table that is replaced while it serves. Main thread only.
pub struct RouteConfigUpdate {
    slot: SlotImpl<RouteTable>,
}

impl RouteConfigUpdate {
    /// Begins with this table.
    pub fn new(tls: &Arc<InstanceImpl>, config: Arc<ConfigImpl>) -> Self {
        let update = RouteConfigUpdate { slot: tls.allocate_slot() };
        update.on_config_update(config);
        update
    }

    /// Has new streams go by another table.
    pub fn on_config_update(&self, config: Arc<ConfigImpl>) {
        self.slot.set(move |_| Rc::new(RouteTable::new(config.clone())));
    }

    /// Gives connection managers whatever table there is.
    pub fn provider(&self) -> RouteConfigProviderFactory {
        let slot = self.slot.clone();
        Arc::new(move || Box::new(RdsRouteConfigProviderImpl { slot: slot.clone() }))
    }
}

struct RdsRouteConfigProviderImpl {
    slot: SlotImpl<RouteTable>,
}

impl RouteConfigProvider for RdsRouteConfigProviderImpl {
    fn config(&self) -> RouteTable {
        // A thread has none before it runs what was posted to it, and when it ends: no routes then.
        self.slot.get().map_or_else(|| RouteTable::new(Arc::default()), |table| (*table).clone())
    }
}
