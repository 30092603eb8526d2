//! The listeners of the server. Mirrors Envoy's `source/server/listener_manager_impl.cc`.

mod draining;
mod taken_addresses;
#[cfg(test)]
mod tests;
mod updates;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use draining::DrainingListener;
use updates::WarmingListener;

pub use taken_addresses::TakenAddresses;
use taken_addresses::{duplicate_address, is_chosen_by_the_kernel, uuid_name};

use super::drain_manager::{DrainDirection, DrainManagerImpl, DrainSequence};
use super::guard_dog::GuardDogImpl;
use super::listener_config::{ListenerConfig, ListenerFactoryContext, config_hash};
use super::worker::WorkerImpl;
use crate::config;
use crate::envoy_log;
use crate::filters::ServerFactoryContext;
use crate::init::ManagerImpl;
use crate::stats::Store;
use crate::stats_struct;
use crate::thread_local;
use crate::trace::{self, Stage};

stats_struct! {
    /// `listener_manager.`
    pub struct ListenerManagerStats {
        counters: [
            listener_added,
            listener_create_failure,
            listener_create_success,
            listener_in_place_updated,
            listener_modified,
            listener_removed,
            listener_stopped,
        ],
        gauges: [
            total_filter_chains_draining,
            total_listeners_active,
            total_listeners_draining,
            total_listeners_warming,
            workers_started,
        ],
        histograms: [],
    }
}

thread_local! {
    /// The main thread's manager, for what workers post to it.
    static MANAGER: RefCell<Weak<ListenerManagerImpl>> = const { RefCell::new(Weak::new()) };
}

/// Runs `f` with the main thread's manager, if it is still there.
fn on_main_thread(f: impl FnOnce(&ListenerManagerImpl)) {
    if let Some(manager) = MANAGER.with_borrow(Weak::upgrade) {
        f(&manager);
    }
}

/// See the module's description. Main thread only.
pub struct ListenerManagerImpl {
    weak: Weak<ListenerManagerImpl>,
    stats: ListenerManagerStats,
    /// What the server waits for before the workers start.
    init_manager: Rc<ManagerImpl>,
    active_listeners: RefCell<Vec<Arc<ListenerConfig>>>,
    warming_listeners: RefCell<Vec<WarmingListener>>,
    draining_listeners: RefCell<Vec<DrainingListener>>,
    workers: RefCell<Vec<WorkerImpl>>,
    workers_started: Cell<bool>,
    taken: RefCell<TakenAddresses>,
    /// The listeners that have been told to stop, and the drains of their connections.
    stopped: RefCell<Vec<(Arc<ListenerConfig>, Option<DrainSequence>)>>,
    /// Whose listeners have been told to stop for good.
    stop_listeners_type: Cell<Option<DrainDirection>>,
}

impl ListenerManagerImpl {
    /// A manager whose listeners run on `workers`, which start when `init_manager` is ready.
    pub fn new(stats: &Arc<Store>, workers: Vec<WorkerImpl>, init_manager: &Rc<ManagerImpl>) -> Rc<Self> {
        let stats = ListenerManagerStats::new(&stats.root_scope().create_scope("listener_manager."));
        for gauge in [
            &stats.total_filter_chains_draining,
            &stats.total_listeners_active,
            &stats.total_listeners_draining,
            &stats.total_listeners_warming,
            &stats.workers_started,
        ] {
            gauge.set(0);
        }
        let manager = Rc::new_cyclic(|weak| ListenerManagerImpl {
            weak: weak.clone(),
            stats,
            init_manager: init_manager.clone(),
            active_listeners: RefCell::default(),
            warming_listeners: RefCell::default(),
            draining_listeners: RefCell::default(),
            workers: RefCell::new(workers),
            workers_started: Cell::new(false),
            taken: RefCell::default(),
            stopped: RefCell::default(),
            stop_listeners_type: Cell::new(None),
        });
        MANAGER.set(Rc::downgrade(&manager));
        manager
    }

    /// Adds a listener of the bootstrap and binds it.
    ///
    /// # Errors
    /// A name or an address taken, or what [`ListenerConfig::new`] says.
    pub fn add_listener(
        &self,
        config: &config::Listener,
        context: &ServerFactoryContext,
        drain_manager: &Arc<DrainManagerImpl>,
        place: &str,
    ) -> Result<(), String> {
        let name = self.taken.borrow_mut().add(&config.name, &config.address, config.bind_to_port)?;
        trace::instant(Stage::AddOrUpdateListener, None, 0, self.active_listeners.borrow().len() as u64, 0);
        let hash = config_hash(config);
        envoy_log!(Config, debug, "begin add/update listener: name={} hash={}", name, hash);
        let factory_context = ListenerFactoryContext {
            server: context,
            drain_manager: Some(drain_manager),
            init_manager: &self.init_manager,
            added_via_api: false,
            hash,
            place,
        };
        let listener = ListenerConfig::new(config, &name, &factory_context).map_err(|error| {
            self.stats.listener_create_failure.inc();
            format!("error adding listener '{name}': {error}")
        })?;
        envoy_log!(
            Config,
            debug,
            "add active listener: name={}, hash={}, address={}",
            name,
            hash,
            listener.address()
        );
        let listener = Arc::new(listener);
        context.runtime.add_user(&listener);
        self.active_listeners.borrow_mut().push(listener);
        self.stats.listener_added.inc();
        self.update_gauges();
        Ok(())
    }

    /// The active listeners.
    pub fn listeners(&self) -> Vec<Arc<ListenerConfig>> {
        self.active_listeners.borrow().clone()
    }

    /// Runs `f` with each worker.
    pub fn for_each_worker(&self, f: impl Fn(&WorkerImpl)) {
        self.workers.borrow().iter().for_each(f);
    }

    /// Gives every worker the listeners and starts it, with `guard_dog` watching it.
    pub fn start_workers(&self, guard_dog: &Arc<GuardDogImpl>) {
        envoy_log!(Config, info, "all dependencies initialized. starting workers");
        trace::instant(Stage::StartWorkers, None, 0, self.workers.borrow().len() as u64, 0);
        self.workers_started.set(true);
        // Clients that come before the workers are ready wait in the backlog.
        self.active_listeners.borrow_mut().retain(|listener| {
            let outcome = listener.socket().map_or(Ok(()), |socket| socket.listen());
            if let Err(error) = &outcome {
                self.stats.on_listen_failure(listener, error);
            }
            outcome.is_ok()
        });
        self.update_gauges();
        for worker in self.workers.borrow_mut().iter_mut() {
            for listener in self.active_listeners.borrow().iter() {
                self.add_listener_to_worker(worker, listener);
            }
            worker.start(guard_dog);
        }
        self.stats.workers_started.set(1);
    }

    fn add_listener_to_worker(&self, worker: &WorkerImpl, listener: &Arc<ListenerConfig>) {
        let (main, added) = (thread_local::dispatcher().handle(), listener.clone());
        worker.add_listener(listener.clone(), move |outcome| {
            trace::instant(Stage::ListenerAdded, None, 0, outcome.is_ok().into(), 0);
            main.post(move || on_main_thread(|manager| manager.on_listener_added(&added, outcome)));
        });
    }

    /// A worker listens, or cannot; the first that cannot has the listener removed from all.
    fn on_listener_added(&self, listener: &ListenerConfig, outcome: io::Result<()>) {
        match outcome {
            Ok(()) => self.stats.listener_create_success.inc(),
            Err(error) if !listener.on_create_failure() => {
                self.stats.on_listen_failure(listener, &error);
                self.remove_listener(listener.name());
            }
            Err(_) => {}
        }
    }

    fn update_gauges(&self) {
        self.stats.total_listeners_active.set(self.active_listeners.borrow().len() as u64);
        self.stats.total_listeners_warming.set(self.warming_listeners.borrow().len() as u64);
        self.stats.total_listeners_draining.set(self.draining_listeners.borrow().len() as u64);
    }

    /// Ends the workers and waits for them.
    pub fn stop_workers(&self) {
        drop((self.stopped.take(), self.draining_listeners.take(), self.warming_listeners.take()));
        let workers = std::mem::take(&mut *self.workers.borrow_mut());
        drop(workers);
    }
}

impl ListenerManagerStats {
    fn on_listen_failure(&self, listener: &ListenerConfig, error: &io::Error) {
        envoy_log!(
            Config,
            critical,
            "listener '{}' failed to listen on address '{}' on worker: {}",
            listener.name(),
            listener.address(),
            error
        );
        self.listener_create_failure.inc();
    }
}
