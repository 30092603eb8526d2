//! Listeners that come, change and go while the server runs.

use std::rc::Rc;
use std::sync::Arc;

use super::{ListenerManagerImpl, uuid_name};
use crate::config;
use crate::config::listener::TrafficDirection;
use crate::envoy_log;
use crate::filters::ServerFactoryContext;
use crate::init::{ManagerImpl, WatcherImpl};
use crate::network::{Address, ListenSocket};
use crate::server::drain_manager::DrainManagerImpl;
use crate::server::listener_config::{ListenerConfig, ListenerFactoryContext, config_hash};
use crate::trace::{self, Stage};

/// A listener that waits for what it needs; one of the same name may serve meanwhile.
pub(super) struct WarmingListener {
    pub(super) listener: Arc<ListenerConfig>,
    _init_manager: Rc<ManagerImpl>,
    _watcher: Rc<WatcherImpl>,
}

impl ListenerManagerImpl {
    /// Adds a listener, or puts it in the place of the one that has its name. Before the workers have started it is active at
    /// once; later it is so when it has what it needs, and the one before it stops accepting then and drains. False when
    /// nothing changes: it is known as it is, it is one of the bootstrap, which stay, or those of its traffic have been told
    /// to stop.
    ///
    /// # Errors
    /// An address taken by another listener, or what [`ListenerConfig::new`] says; all is as before.
    #[cfg_attr(not(test), expect(dead_code, reason = "for those who discover listeners"))]
    pub fn add_or_update_listener(
        &self,
        config: &config::Listener,
        context: &ServerFactoryContext,
        drain_manager: &Arc<DrainManagerImpl>,
    ) -> Result<bool, String> {
        let name = if config.name.is_empty() { uuid_name() } else { config.name.clone() };
        if self.listeners_stopped(config.traffic_direction) {
            envoy_log!(
                Config,
                debug,
                "listener {} can not be added because listeners in the traffic direction {} are stopped",
                name,
                config.traffic_direction.name()
            );
            return Ok(false);
        }
        let hash = config_hash(config);
        trace::instant(Stage::AddOrUpdateListener, None, 0, self.active_listeners.borrow().len() as u64, 0);
        envoy_log!(Config, debug, "begin add/update listener: name={} hash={}", name, hash);
        let (active, warming) = (self.active_listener(&name), self.warming_listener(&name));
        if [&active, &warming].into_iter().flatten().any(|listener| listener.block_update(hash)) {
            envoy_log!(Config, debug, "duplicate/locked listener '{}'. no add/update", name);
            return Ok(false);
        }
        let init_manager = match self.workers_started.get() {
            true => ManagerImpl::new(&format!("Listener {name}")),
            false => self.init_manager.clone(),
        };
        let factory_context = ListenerFactoryContext {
            server: context,
            drain_manager: Some(drain_manager),
            init_manager: &init_manager,
            added_via_api: true,
            hash,
            place: "listener",
        };
        let listener = self.create(config, &name, warming.as_ref().or(active.as_ref()), &factory_context);
        let listener = Arc::new(listener.map_err(|error| {
            self.stats.listener_create_failure.inc();
            format!("error adding listener '{name}': {error}")
        })?);
        context.runtime.add_user(&listener);
        let is_update = active.is_some() || warming.is_some();
        if is_update {
            self.stats.listener_modified.inc()
        } else {
            self.stats.listener_added.inc()
        }
        if self.workers_started.get() {
            listener.debug_log(if warming.is_some() {
                "update warming listener"
            } else {
                "add warming listener"
            });
            self.start_warming(listener, init_manager);
        } else {
            listener.debug_log(if active.is_some() {
                "update active listener"
            } else {
                "add active listener"
            });
            drop(self.replace_active(listener));
            self.update_gauges();
        }
        Ok(true)
    }

    fn listeners_stopped(&self, traffic: TrafficDirection) -> bool {
        self.stop_listeners_type.get().is_some_and(|direction| direction.concerns(traffic))
    }

    fn create(
        &self,
        config: &config::Listener,
        name: &str,
        existing: Option<&Arc<ListenerConfig>>,
        context: &ListenerFactoryContext<'_>,
    ) -> Result<ListenerConfig, String> {
        let address = Address::configured(&config.address).ok_or("malformed IP address")?;
        self.check_address(name, &address, config.bind_to_port)?;
        match self.open_socket(&address, existing) {
            Some(socket) => ListenerConfig::with_socket(config, name, &address, || Ok(socket), context),
            None => ListenerConfig::new(config, name, context),
        }
    }

    /// No other listener may have that address.
    fn check_address(&self, name: &str, address: &Address, bind_to_port: bool) -> Result<(), String> {
        if super::is_chosen_by_the_kernel(address, bind_to_port) {
            return Ok(());
        }
        let warming = self.warming_listeners.borrow();
        let active = self.active_listeners.borrow();
        let mut others = active.iter().chain(warming.iter().map(|warming| &warming.listener));
        let is_taken = others.any(|other| other.name() != name && other.configured_address() == address);
        if is_taken { Err(super::duplicate_address(name, address)) } else { Ok(()) }
    }

    /// The socket of the listener that is replaced, or of one that drains, if it has that address.
    fn open_socket(
        &self,
        address: &Address,
        existing: Option<&Arc<ListenerConfig>>,
    ) -> Option<Arc<ListenSocket>> {
        let draining = self.draining_listeners.borrow();
        let mut candidates = existing.into_iter().chain(draining.iter().map(|draining| &draining.listener));
        candidates.find_map(|l| (l.configured_address() == address).then(|| l.socket()).flatten())
    }

    fn start_warming(&self, listener: Arc<ListenerConfig>, init_manager: Rc<ManagerImpl>) {
        let (manager, tag) = (self.weak.clone(), listener.tag());
        let watcher = Rc::new(WatcherImpl::new("ListenerImpl", move || {
            if let Some(manager) = manager.upgrade() {
                manager.on_listener_warmed(tag);
            }
        }));
        let before = self.take_warming(|warming| warming.name() == listener.name());
        let warming =
            WarmingListener { listener, _init_manager: init_manager.clone(), _watcher: watcher.clone() };
        self.warming_listeners.borrow_mut().push(warming);
        drop(before);
        self.update_gauges();
        init_manager.initialize(&watcher);
    }

    /// A listener has what it needs: workers accept from it before they stop accepting from the one that it replaces.
    fn on_listener_warmed(&self, tag: u64) {
        let Some(warm) = self.take_warming(|listener| listener.tag() == tag) else { return };
        let listener = &warm.listener;
        if let Err(error) = listener.socket().map_or(Ok(()), |socket| socket.listen()) {
            self.stats.on_listen_failure(listener, &error);
            self.update_gauges();
            return;
        }
        self.for_each_worker(|worker| self.add_listener_to_worker(worker, listener));
        listener.debug_log("warm complete. updating active listener");
        if let Some(replaced) = self.replace_active(listener.clone()) {
            self.drain_listener(replaced);
        }
        self.update_gauges();
    }

    /// Removes a listener, which stops accepting at once and drains if it serves. False when there is none, or it is one of
    /// the bootstrap, which stay.
    pub fn remove_listener(&self, name: &str) -> bool {
        envoy_log!(Config, debug, "begin remove listener: name={}", name);
        let (active, warming) = (self.active_listener(name), self.warming_listener(name));
        if ![&active, &warming].into_iter().flatten().any(|listener| listener.added_via_api()) {
            envoy_log!(Config, debug, "unknown/locked listener '{}'. no remove", name);
            return false;
        }
        if let Some(warming) = self.take_warming(|listener| listener.name() == name) {
            warming.listener.debug_log("removing warming listener");
        }
        if let Some(active) = active {
            self.active_listeners.borrow_mut().retain(|listener| !Arc::ptr_eq(listener, &active));
            if self.workers_started.get() {
                self.drain_listener(active);
            }
        }
        self.stats.listener_removed.inc();
        self.update_gauges();
        true
    }

    pub(super) fn active_listener(&self, name: &str) -> Option<Arc<ListenerConfig>> {
        self.active_listeners.borrow().iter().find(|listener| listener.name() == name).cloned()
    }

    fn warming_listener(&self, name: &str) -> Option<Arc<ListenerConfig>> {
        let warming = self.warming_listeners.borrow();
        warming.iter().find(|warming| warming.listener.name() == name).map(|w| w.listener.clone())
    }

    pub(super) fn take_warming(&self, is_it: impl Fn(&ListenerConfig) -> bool) -> Option<WarmingListener> {
        let mut warming = self.warming_listeners.borrow_mut();
        let index = warming.iter().position(|warming| is_it(&warming.listener))?;
        Some(warming.remove(index))
    }

    /// Puts a listener in the place of the active one of its name, which is returned.
    fn replace_active(&self, listener: Arc<ListenerConfig>) -> Option<Arc<ListenerConfig>> {
        let mut active = self.active_listeners.borrow_mut();
        match active.iter_mut().find(|active| active.name() == listener.name()) {
            Some(active) => Some(std::mem::replace(active, listener)),
            None => {
                active.push(listener);
                None
            }
        }
    }
}
