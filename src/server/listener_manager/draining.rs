//! Listeners that accept no more: their connections go bit by bit, and then the rest of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::AcqRel};

use super::{ListenerManagerImpl, on_main_thread};
use crate::envoy_log;
use crate::server::drain_manager::{DrainDirection, DrainSequence};
use crate::server::listener_config::ListenerConfig;
use crate::thread_local;

/// A listener that has been replaced or removed, until all workers have let go of it.
pub(super) struct DrainingListener {
    pub(super) listener: Arc<ListenerConfig>,
    workers_pending_removal: usize,
    /// While it goes on.
    _drain: Option<DrainSequence>,
}

impl ListenerManagerImpl {
    /// Stops accepting from the listeners meant, and closes their sockets when all workers have stopped:
    /// who connects is refused, and waits for nobody. Connections stay, and are drained.
    /// One that is not warm yet goes, and none is added from now on.
    pub fn stop_listeners(&self, direction: DrainDirection) {
        if self.stop_listeners_type.get() != Some(DrainDirection::All) {
            self.stop_listeners_type.set(Some(direction));
        }
        while let Some(warming) = self.take_warming(|l| direction.concerns(l.traffic_direction())) {
            warming.listener.debug_log("removing warming listener");
        }
        self.update_gauges();
        let dispatcher = thread_local::dispatcher();
        for listener in self.listeners().into_iter().filter(|l| direction.concerns(l.traffic_direction())) {
            envoy_log!(Config, debug, "begin stop listener: name={}", listener.name());
            if self.stopped.borrow().iter().any(|(stopped, _)| Arc::ptr_eq(stopped, &listener)) {
                continue;
            }
            let drain =
                listener.drain_manager().map(|manager| manager.start_drain_sequence(&dispatcher, || {}));
            self.stopped.borrow_mut().push((listener.clone(), drain));
            let stats = self.stats.clone();
            self.stop_listener(&listener, move || stats.listener_stopped.inc());
        }
    }

    /// Has the workers stop accepting; `stopped` runs on the main thread once the socket is closed.
    fn stop_listener(&self, listener: &Arc<ListenerConfig>, stopped: impl FnOnce() + Clone + Send + 'static) {
        let still_listening = Arc::new(AtomicUsize::new(self.workers.borrow().len()));
        let main = thread_local::dispatcher().handle();
        self.for_each_worker(|worker| {
            let (still_listening, main) = (still_listening.clone(), main.clone());
            let (listener, stopped) = (listener.clone(), stopped.clone());
            worker.stop_listener(listener.tag(), move || {
                if still_listening.fetch_sub(1, AcqRel) == 1 {
                    main.post(move || {
                        listener.close_socket();
                        stopped();
                    });
                }
            });
        });
    }

    /// Stops a listener, drains its connections, and has the workers remove it when the drain time is over.
    pub(super) fn drain_listener(&self, listener: Arc<ListenerConfig>) {
        self.stopped.borrow_mut().retain(|(stopped, _)| !Arc::ptr_eq(stopped, &listener));
        let draining = DrainingListener {
            listener: listener.clone(),
            workers_pending_removal: self.workers.borrow().len(),
            _drain: None,
        };
        self.draining_listeners.borrow_mut().insert(0, draining);
        self.update_gauges();
        listener.debug_log("draining listener");
        self.stop_listener(&listener, || {});
        let (manager, tag) = (self.weak.clone(), listener.tag());
        let on_drained = move || {
            if let Some(manager) = manager.upgrade() {
                manager.on_drained(tag);
            }
        };
        let Some(drain_manager) = listener.drain_manager() else { return on_drained() };
        let drain = drain_manager.start_drain_sequence(&thread_local::dispatcher(), on_drained);
        let mut draining_listeners = self.draining_listeners.borrow_mut();
        if let Some(draining) = draining_listeners.iter_mut().find(|d| d.listener.tag() == tag) {
            draining._drain = Some(drain);
        }
    }

    fn on_drained(&self, tag: u64) {
        let find =
            |draining: &DrainingListener| (draining.listener.tag() == tag).then(|| draining.listener.clone());
        let Some(listener) = self.draining_listeners.borrow().iter().find_map(find) else { return };
        listener.debug_log("removing listener");
        let main = thread_local::dispatcher().handle();
        self.for_each_worker(|worker| {
            let main = main.clone();
            // What the worker lets go of may be used by its connections until then.
            worker.remove_listener(tag, move || main.post(move || on_main_thread(|m| m.on_removed(tag))));
        });
    }

    /// A worker has let go of a listener.
    fn on_removed(&self, tag: u64) {
        let mut draining = self.draining_listeners.borrow_mut();
        let Some(index) = draining.iter().position(|draining| draining.listener.tag() == tag) else { return };
        draining[index].workers_pending_removal -= 1;
        if draining[index].workers_pending_removal > 0 {
            return;
        }
        let removed = draining.remove(index);
        drop(draining);
        removed.listener.debug_log("listener removal complete");
        drop(removed);
        self.update_gauges();
    }
}
