//! The pools of one kind (HTTP, TCP) of one host and priority, by what tells them apart.
//!
//! Mirrors Envoy's `source/common/upstream/conn_pool_map_impl.h` and `priority_conn_pool_map_impl.h`.
//!
//! Where pools are limited, or the places left are shown, a pool that has become empty goes, as every
//! one does in 1.40; elsewhere it stays, as in 1.1, because the next request is likely to want it again.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use crate::conn_pool::tcp::TcpInstance;
use crate::conn_pool::{DrainedCb, HttpInstance, IdleCb, Instance};
use crate::envoy_log;
use crate::event::Dispatcher;
use crate::http::Protocol;
use crate::trace::{self, Stage};
use crate::upstream::{HostSharedPtr, ResourcePriority};

/// What tells the HTTP pools of a host and priority apart. HTTP/1.0 and HTTP/1.1 have pools of their
/// own, so that `use_downstream_protocol` keeps their requests apart; and a connection has, by its number, where its cluster
/// says so (`connection_pool_per_downstream_connection`).
pub(super) type HttpPoolKey = (Option<u64>, Protocol);

/// The HTTP pools of a host.
pub(super) type HttpConnPoolMap = PriorityConnPoolMap<HttpPoolKey, dyn HttpInstance>;

/// The pools of raw connections of a host: one of each priority.
pub(super) type TcpConnPoolMap = PriorityConnPoolMap<(), dyn TcpInstance>;

/// The pools `P` of one priority, by keys `K`, in their order. They are few, or else each is of a downstream connection.
pub(super) struct ConnPoolMap<K: Key, P: Instance + ?Sized + 'static> {
    weak: Weak<Self>,
    dispatcher: Rc<Dispatcher>,
    host: HostSharedPtr,
    priority: ResourcePriority,
    active_pools: RefCell<Vec<(K, Rc<P>)>>,
    cached_callbacks: RefCell<Vec<DrainedCb>>,
}

/// What may tell pools apart.
pub(super) trait Key: Clone + Ord + 'static {}

impl<K: Clone + Ord + 'static> Key for K {}

impl<K: Key, P: Instance + ?Sized + 'static> ConnPoolMap<K, P> {
    fn new(dispatcher: &Rc<Dispatcher>, host: &HostSharedPtr, priority: ResourcePriority) -> Rc<Self> {
        Rc::new_cyclic(|weak| ConnPoolMap {
            weak: weak.clone(),
            dispatcher: dispatcher.clone(),
            host: host.clone(),
            priority,
            active_pools: RefCell::default(),
            cached_callbacks: RefCell::default(),
        })
    }

    /// The pool for `key`, made by `factory` when there is none. `None` when the limit on pools is
    /// reached and none of this map's is idle.
    fn get_pool(&self, key: K, factory: impl FnOnce() -> Rc<P>) -> Option<Rc<P>> {
        let pools = trace::detail(|| self.active_pools.borrow().len() as u64);
        trace::instant(Stage::GetPool, None, 0, pools, 0);
        if let Ok(index) = self.index(&key) {
            return Some(self.active_pools.borrow()[index].1.clone());
        }
        let resource = self.host.cluster().resource_manager(self.priority).connection_pools();
        if !resource.can_create() && !self.free_one_pool() {
            self.host.cluster().stats().upstream_cx_pool_overflow().inc();
            return None;
        }
        trace::instant(Stage::AllocateConnPool, None, 0, self.active_pools.borrow().len() as u64, 0);
        let pool = factory();
        resource.inc();
        // One of a downstream connection is of no more use when that is gone.
        if resource.is_watched() || self.host.cluster().config().connection_pool_per_downstream_connection {
            pool.set_idle_callback(self.idle_callback(key.clone()));
        }
        for callback in self.cached_callbacks.borrow().iter() {
            pool.add_drained_callback(callback.clone());
        }
        // Making room may have taken another one away.
        let index = self.index(&key).unwrap_or_else(|index| index);
        self.active_pools.borrow_mut().insert(index, (key, pool.clone()));
        Some(pool)
    }

    fn index(&self, key: &K) -> Result<usize, usize> {
        let pools = self.active_pools.borrow();
        // Most hosts have one pool.
        match pools.first() {
            Some((first, _)) if first == key => Ok(0),
            _ => pools.binary_search_by(|(other, _)| other.cmp(key)),
        }
    }

    fn idle_callback(&self, key: K) -> IdleCb {
        let weak = self.weak.clone();
        Box::new(move || {
            if let Some(map) = weak.upgrade() {
                map.erase_pool(&key);
            }
        })
    }

    /// An empty pool gives its place back.
    fn erase_pool(&self, key: &K) {
        let erased = {
            let index = self.index(key).ok();
            index.map(|i| self.active_pools.borrow_mut().remove(i))
        };
        let Some((_, pool)) = erased else { return };
        envoy_log!(Upstream, trace, "Erasing idle pool for host {}", self.host.address());
        self.release(1);
        // It is in the middle of telling that it is empty.
        self.dispatcher.deferred_delete(Rc::new(pool));
    }

    fn free_one_pool(&self) -> bool {
        let idle = {
            let mut pools = self.active_pools.borrow_mut();
            let index = pools.iter().position(|(_, pool)| !pool.has_active_connections());
            index.map(|i| pools.remove(i))
        };
        trace::instant(Stage::FreeOnePool, None, 0, idle.is_some().into(), 0);
        let Some((_, pool)) = idle else { return false };
        pool.close();
        self.release(1);
        true
    }

    fn release(&self, pools: usize) {
        for _ in 0..pools {
            self.host.cluster().resource_manager(self.priority).connection_pools().dec();
        }
    }

    fn pools(&self) -> Vec<Rc<P>> {
        self.active_pools.borrow().iter().map(|(_, pool)| pool.clone()).collect()
    }

    fn add_drained_callback(&self, callback: &DrainedCb) {
        for pool in self.pools() {
            pool.add_drained_callback(callback.clone());
        }
        self.cached_callbacks.borrow_mut().push(callback.clone());
    }

    fn clear(&self) {
        let pools = std::mem::take(&mut *self.active_pools.borrow_mut());
        self.release(pools.len());
        for (_, pool) in pools {
            self.dispatcher.deferred_delete(Rc::new(pool));
        }
    }
}

impl<K: Key, P: Instance + ?Sized + 'static> Drop for ConnPoolMap<K, P> {
    fn drop(&mut self) {
        let pools = self.pools();
        for pool in &pools {
            pool.close();
        }
        self.release(pools.len());
    }
}

/// The maps of one host, by priority.
pub(super) struct PriorityConnPoolMap<K: Key, P: Instance + ?Sized + 'static> {
    maps: [Rc<ConnPoolMap<K, P>>; 2],
}

impl<K: Key, P: Instance + ?Sized + 'static> PriorityConnPoolMap<K, P> {
    pub(super) fn new(dispatcher: &Rc<Dispatcher>, host: &HostSharedPtr) -> Self {
        PriorityConnPoolMap {
            maps: ResourcePriority::ALL.map(|priority| ConnPoolMap::new(dispatcher, host, priority)),
        }
    }

    pub(super) fn get_pool(
        &self,
        priority: ResourcePriority,
        key: K,
        factory: impl FnOnce() -> Rc<P>,
    ) -> Option<Rc<P>> {
        self.maps[priority as usize].get_pool(key, factory)
    }

    pub(super) fn size(&self) -> usize {
        self.maps.iter().map(|map| map.active_pools.borrow().len()).sum()
    }

    pub(super) fn add_drained_callback(&self, callback: DrainedCb) {
        self.maps.iter().for_each(|map| map.add_drained_callback(&callback));
    }

    pub(super) fn drain_connections(&self) {
        self.maps.iter().flat_map(|map| map.pools()).for_each(|pool| pool.drain_connections());
    }

    pub(super) fn close_connections(&self) {
        self.maps.iter().flat_map(|map| map.pools()).for_each(|pool| pool.close_connections());
    }

    pub(super) fn record_lists(&self) {
        self.maps.iter().flat_map(|map| map.pools()).for_each(|pool| pool.record_lists());
    }

    /// Lets all pools go at the end of the pass.
    pub(super) fn clear(&self) {
        self.maps.iter().for_each(|map| map.clear());
    }
}
