//! A worker thread. Mirrors Envoy's `source/server/worker_impl.cc`.
//!
//! Envoy makes a worker's dispatcher on the main thread and starts the thread later. A dispatcher of
//! legate belongs to the thread that made it, so the thread starts first, makes its dispatcher, and waits
//! for [`WorkerImpl::start`] before it runs it; what is posted meanwhile waits, as in Envoy.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::connection_handler::ConnectionHandlerImpl;
use super::guard_dog::GuardDogImpl;
use super::listener_config::ListenerConfig;
use crate::common::free_lists;
use crate::envoy_log;
use crate::event::{Dispatcher, DispatcherHandle, RunEnd, RunType};
use crate::trace::{self, Stage};
use crate::{stats, thread_local};

thread_local! {
    /// This worker's handler, for what is posted to it.
    static HANDLER: RefCell<Option<Rc<ConnectionHandlerImpl>>> = const { RefCell::new(None) };
}

/// The main thread's side of a worker.
pub struct WorkerImpl {
    index: u32,
    dispatcher: DispatcherHandle,
    start: Option<mpsc::Sender<Arc<GuardDogImpl>>>,
    thread: Option<JoinHandle<()>>,
}

impl WorkerImpl {
    /// Makes worker number `index` (from 0); it does nothing until it is started. Should its loop fail,
    /// `on_failure` runs on its thread.
    ///
    /// # Errors
    /// The thread or its event loop could not be made.
    pub fn new(index: u32, on_failure: impl FnOnce() + Send + 'static) -> std::io::Result<Self> {
        let (handle_tx, handle_rx) = mpsc::channel();
        let (start_tx, start_rx) = mpsc::channel();
        let thread = std::thread::Builder::new().name(format!("wrk:worker_{index}")).spawn(move || {
            // Without this worker its connections, and perhaps all new ones, would wait for ever.
            let abort = AbortOnPanic;
            thread_routine(index, &handle_tx, &start_rx, on_failure);
            std::mem::forget(abort);
        })?;
        let dispatcher = handle_rx.recv().map_err(|_| std::io::Error::other("worker ended early"))??;
        trace::instant(Stage::CreateWorker, None, 0, index.into(), 0);
        Ok(WorkerImpl { index, dispatcher, start: Some(start_tx), thread: Some(thread) })
    }

    /// The worker's loop.
    pub fn dispatcher(&self) -> &DispatcherHandle {
        &self.dispatcher
    }

    /// Has the worker listen; `completion` runs on the worker with the outcome.
    pub fn add_listener(
        &self,
        listener: Arc<ListenerConfig>,
        completion: impl FnOnce(std::io::Result<()>) + Send + 'static,
    ) {
        self.dispatcher.post(move || {
            if let Some(handler) = HANDLER.with_borrow(Clone::clone) {
                completion(handler.add_listener(listener));
            }
        });
    }

    /// Has the worker stop accepting from the listener of this tag; connections stay. `completion` runs on the worker.
    pub fn stop_listener(&self, tag: u64, completion: impl FnOnce() + Send + 'static) {
        self.dispatcher.post(move || {
            if let Some(handler) = HANDLER.with_borrow(Clone::clone) {
                handler.stop_listener(tag);
                completion();
            }
        });
    }

    /// Has the worker let go of the listener of this tag and close its connections. `completion` runs on the worker.
    pub fn remove_listener(&self, tag: u64, completion: impl FnOnce() + Send + 'static) {
        self.dispatcher.post(move || {
            if let Some(handler) = HANDLER.with_borrow(Clone::clone) {
                handler.remove_listener(tag);
                completion();
            }
        });
    }

    /// Asks the worker for the number of its connections.
    pub fn num_connections(&self, answer: impl FnOnce(u64) + Send + 'static) {
        self.dispatcher
            .post(move || answer(HANDLER.with_borrow(|h| h.as_ref().map_or(0, |h| h.num_connections()))));
    }

    /// Runs the worker, with `guard_dog` watching it.
    pub fn start(&mut self, guard_dog: &Arc<GuardDogImpl>) {
        if let Some(start) = self.start.take() {
            let _ = start.send(guard_dog.clone());
        }
    }

    /// Ends the worker and waits for it.
    pub fn stop(&mut self) {
        drop(self.start.take());
        let Some(thread) = self.thread.take() else { return };
        trace::instant(Stage::StopWorker, None, 0, self.index.into(), 0);
        let handle = self.dispatcher.clone();
        self.dispatcher.post(move || handle.exit());
        if thread.join().is_err() {
            envoy_log!(Main, critical, "a worker panicked");
        }
    }
}

impl Drop for WorkerImpl {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Ends the process when a panic unwinds through it.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        envoy_log!(Main, critical, "a worker panicked");
        std::process::abort();
    }
}

fn thread_routine(
    index: u32,
    handle: &mpsc::Sender<std::io::Result<DispatcherHandle>>,
    start: &mpsc::Receiver<Arc<GuardDogImpl>>,
    on_failure: impl FnOnce(),
) {
    let _keeping = free_lists::keep();
    stats::register_thread(index as usize + 1);
    let name = format!("worker_{index}");
    trace::register_thread(&name);
    let dispatcher = match Dispatcher::create(&name) {
        Ok(dispatcher) => dispatcher,
        Err(error) => {
            let _ = handle.send(Err(error));
            return;
        }
    };
    thread_local::enter_thread(&dispatcher);
    let handler = ConnectionHandlerImpl::new(&name, &dispatcher);
    HANDLER.set(Some(handler.clone()));
    if handle.send(Ok(dispatcher.handle())).is_err() {
        return;
    }
    // An error means that the server gave up before it started its workers.
    if let Ok(guard_dog) = start.recv() {
        let watch_dog = guard_dog.create_watch_dog(&dispatcher);
        envoy_log!(Main, debug, "worker entering dispatch loop");
        trace::instant(Stage::ThreadRoutine, None, 0, index.into(), 0);
        if dispatcher.run(RunType::RunUntilExit) == RunEnd::Failed {
            on_failure();
        }
        envoy_log!(Main, debug, "worker exited dispatch loop");
        guard_dog.stop_watching(&watch_dog);
    }
    // Connections first, then pools, then the loop that both belong to.
    HANDLER.set(None);
    handler.clear();
    drop(handler);
    dispatcher.clear_deferred_delete_list();
    thread_local::shutdown_thread();
    dispatcher.clear_deferred_delete_list();
    dispatcher.clear_deferred_delete_list();
}
