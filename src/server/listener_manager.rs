//! The listeners of the server. Mirrors Envoy's `source/server/listener_manager_impl.cc`, for the listeners
//! of the bootstrap.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel};

use super::drain_manager::{DrainDirection, DrainManagerImpl, DrainSequence};
use super::guard_dog::GuardDogImpl;
use super::listener_config::ListenerConfig;
use super::worker::WorkerImpl;
use crate::config;
use crate::envoy_log;
use crate::event::{Dispatcher, DispatcherHandle};
use crate::filters::ServerFactoryContext;
use crate::network::Address;
use crate::stats::Store;
use crate::stats_struct;
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

/// See the module's description. Main thread only.
pub struct ListenerManagerImpl {
    stats: ListenerManagerStats,
    active_listeners: RefCell<Vec<Arc<ListenerConfig>>>,
    workers: RefCell<Vec<WorkerImpl>>,
    workers_started: Cell<bool>,
    taken: RefCell<TakenAddresses>,
    /// The listeners that have been told to stop, and the drains of their connections.
    stopped: RefCell<Vec<(Arc<ListenerConfig>, Option<DrainSequence>)>>,
}

impl ListenerManagerImpl {
    /// A manager whose listeners run on `workers`.
    pub fn new(stats: &Arc<Store>, workers: Vec<WorkerImpl>) -> Rc<Self> {
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
        Rc::new(ListenerManagerImpl {
            stats,
            active_listeners: RefCell::default(),
            workers: RefCell::new(workers),
            workers_started: Cell::new(false),
            taken: RefCell::default(),
            stopped: RefCell::default(),
        })
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
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(format!("{config:?}"));
        trace::instant(Stage::AddOrUpdateListener, None, 0, self.active_listeners.borrow().len() as u64, 0);
        envoy_log!(Config, debug, "begin add/update listener: name={} hash={}", name, hash);
        let listener =
            ListenerConfig::new(config, &name, context, drain_manager, place).map_err(|error| {
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
        self.active_listeners.borrow_mut().push(Arc::new(listener));
        self.stats.listener_added.inc();
        self.stats.total_listeners_active.set(self.active_listeners.borrow().len() as u64);
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
        self.stats.total_listeners_active.set(self.active_listeners.borrow().len() as u64);
        for worker in self.workers.borrow_mut().iter_mut() {
            for listener in self.active_listeners.borrow().iter() {
                let (stats, added) = (self.stats.clone(), listener.clone());
                worker.add_listener(listener.clone(), move |outcome| {
                    trace::instant(Stage::ListenerAdded, None, 0, outcome.is_ok().into(), 0);
                    match outcome {
                        Ok(()) => stats.listener_create_success.inc(),
                        Err(error) => stats.on_listen_failure(&added, &error),
                    }
                });
            }
            worker.start(guard_dog);
        }
        self.stats.workers_started.set(1);
    }

    /// Stops accepting from the listeners meant, and closes their sockets when all workers have stopped:
    /// who connects is refused, and waits for nobody. Connections stay, and are drained.
    pub fn stop_listeners(&self, direction: DrainDirection, dispatcher: &Rc<Dispatcher>) {
        for listener in self.listeners().into_iter().filter(|l| direction.concerns(l.traffic_direction())) {
            envoy_log!(Config, debug, "begin stop listener: name={}", listener.name());
            if self.stopped.borrow().iter().any(|(stopped, _)| Arc::ptr_eq(stopped, &listener)) {
                continue;
            }
            let drain = listener.drain_manager().map(|manager| manager.start_drain_sequence(dispatcher));
            self.stopped.borrow_mut().push((listener.clone(), drain));
            self.stop_listener(&listener, dispatcher.handle());
        }
    }

    fn stop_listener(&self, listener: &Arc<ListenerConfig>, main: DispatcherHandle) {
        let still_listening = Arc::new(AtomicUsize::new(self.workers.borrow().len()));
        self.for_each_worker(|worker| {
            let (still_listening, main) = (still_listening.clone(), main.clone());
            let (stopped, stats) = (listener.clone(), self.stats.clone());
            worker.stop_listener(listener.clone(), move || {
                if still_listening.fetch_sub(1, AcqRel) == 1 {
                    main.post(move || {
                        stopped.close_socket();
                        stats.listener_stopped.inc();
                    });
                }
            });
        });
    }

    /// Ends the workers and waits for them.
    pub fn stop_workers(&self) {
        drop(self.stopped.take());
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

/// The names and addresses of listeners, of which no two may be equal.
#[derive(Default)]
pub struct TakenAddresses {
    names: HashSet<String>,
    addresses: HashSet<Address>,
}

impl TakenAddresses {
    /// Takes those of a listener; returns its name, which is made up where it has none.
    ///
    /// # Errors
    /// One of them is taken.
    pub fn add(
        &mut self,
        name: &str,
        address: &config::Address,
        bind_to_port: bool,
    ) -> Result<String, String> {
        let name = if name.is_empty() { uuid_name() } else { name.to_string() };
        if self.names.contains(&name) {
            return Err(format!("error adding listener: duplicate listener name '{name}'"));
        }
        let Some(address) = Address::configured(address) else { return Ok(name) };
        let chosen_by_the_kernel = bind_to_port && address.ip().is_some_and(|ip| ip.port() == 0);
        if self.addresses.contains(&address) && !chosen_by_the_kernel {
            let message = format!(
                "error adding listener: '{name}' has duplicate address '{address}' as existing listener, to \
                 check if the listener has duplicated addresses with other listeners or 'enable_reuse_port' \
                 is set to 'false' for the listener"
            );
            envoy_log!(Config, warn, "{}", message);
            return Err(message);
        }
        self.names.insert(name.clone());
        self.addresses.insert(address);
        Ok(name)
    }
}

/// A name for a listener that has none.
fn uuid_name() -> String {
    let [high, low] = [fastrand::u64(..), fastrand::u64(..)];
    let (time, mid, variant) = (high >> 32, (high >> 16) & 0xffff, (low >> 48) & 0x3fff | 0x8000);
    format!("{time:08x}-{mid:04x}-4{:03x}-{variant:04x}-{:012x}", high & 0xfff, low & 0xffff_ffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::address::{Pipe, SocketAddress};

    fn ip(address: &str, port: u16) -> config::Address {
        config::Address::SocketAddress(SocketAddress { address: address.into(), port, ipv4_compat: false })
    }

    #[test]
    fn no_two_listeners_have_one_address() {
        let pipe = |path: &str| config::Address::Pipe(Pipe { path: path.into(), mode: 0 });
        let mut taken = TakenAddresses::default();
        for (name, address) in [
            ("a", ip("127.0.0.1", 80)),
            ("b", ip("127.0.0.1", 81)),
            ("c", ip("0.0.0.0", 80)),
            ("d", ip("::1", 80)),
            ("e", ip("127.0.0.1", 0)),
            ("f", ip("127.0.0.1", 0)),
            ("g", pipe("@a")),
            ("h", pipe("/a")),
        ] {
            assert_eq!(taken.add(name, &address, true), Ok(name.to_string()));
        }
        let rest = "as existing listener, to check if the listener has duplicated addresses with other \
                    listeners or 'enable_reuse_port' is set to 'false' for the listener";
        for (address, text) in [
            (ip("127.0.0.1", 80), "127.0.0.1:80"),
            (ip("0:0:0:0:0:0:0:1", 80), "[::1]:80"),
            (pipe("@a"), "@a"),
        ] {
            let expected = format!("error adding listener: 'z' has duplicate address '{text}' {rest}");
            assert_eq!(taken.add("z", &address, true), Err(expected));
        }
        let unbound = taken.add("z", &ip("127.0.0.1", 0), false);
        assert!(unbound.is_err_and(|error| error.contains("duplicate address")));
        let expected = "error adding listener: duplicate listener name 'a'";
        assert_eq!(taken.add("a", &ip("127.0.0.1", 82), true), Err(expected.to_string()));
    }

    #[test]
    fn names_that_are_made_up() {
        let mut taken = TakenAddresses::default();
        let names = [1, 2].map(|port| taken.add("", &ip("::1", port), true).unwrap());
        assert_ne!(names[0], names[1]);
        for name in names {
            let lengths: Vec<usize> = name.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{name}");
        }
    }
}
