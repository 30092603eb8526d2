//! Slots: data of which every thread has its own copy, set from the main thread.
//!
//! Mirrors Envoy's `source/common/thread_local/thread_local_impl.cc`. Setting a slot posts a builder
//! to every registered worker and runs it at once on the main thread; reading is a look into this
//! thread's own memory. A worker never waits and takes no lock.

use std::any::Any;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::event::{Dispatcher, DispatcherHandle};
use crate::trace::{self, Stage};

thread_local! {
    static DISPATCHER: RefCell<Option<Rc<Dispatcher>>> = const { RefCell::new(None) };
    static DATA: RefCell<Vec<Option<Rc<dyn Any>>>> = const { RefCell::new(Vec::new()) };
}

/// The dispatcher of this thread.
///
/// # Panics
/// On a thread that has none registered.
pub fn dispatcher() -> Rc<Dispatcher> {
    DISPATCHER.with_borrow(|d| d.clone()).expect("thread registered with thread_local") // invariant
}

/// Registers this thread's dispatcher; slots and [`dispatcher`] work from then on.
pub fn enter_thread(dispatcher: &Rc<Dispatcher>) {
    DISPATCHER.set(Some(dispatcher.clone()));
}

/// Lets go of all slot data of this thread, last slot first, and of its dispatcher.
pub fn shutdown_thread() {
    loop {
        let Some(last) = DATA.with_borrow_mut(Vec::pop) else { break };
        drop(last);
    }
    drop(DISPATCHER.take());
}

/// The main thread's side: knows the workers and hands out slots.
#[derive(Default)]
pub struct InstanceImpl {
    workers: Mutex<Vec<DispatcherHandle>>,
    next_slot: AtomicUsize,
}

impl InstanceImpl {
    /// An instance without workers.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Adds a worker, before or after its thread runs.
    pub fn register_thread(&self, worker: DispatcherHandle) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.push(worker);
        trace::instant(Stage::RegisterThread, None, 0, workers.len() as u64, 0);
    }

    /// A new slot.
    pub fn allocate_slot<T: 'static>(self: &Arc<Self>) -> SlotImpl<T> {
        let index = self.next_slot.fetch_add(1, Ordering::Relaxed);
        SlotImpl { instance: self.clone(), index, data: PhantomData }
    }

    /// Runs `callback` on every worker and, at once, on this thread.
    pub fn run_on_all_threads(&self, callback: impl Fn() + Clone + Send + 'static) {
        for worker in self.workers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            worker.post(callback.clone());
        }
        callback();
    }
}

/// A slot for one `T` a thread.
pub struct SlotImpl<T> {
    instance: Arc<InstanceImpl>,
    index: usize,
    data: PhantomData<fn() -> T>,
}

impl<T> Clone for SlotImpl<T> {
    fn clone(&self) -> Self {
        SlotImpl { instance: self.instance.clone(), index: self.index, data: PhantomData }
    }
}

impl<T: 'static> SlotImpl<T> {
    /// Has every thread build its copy: the workers when they next run posts, this thread now.
    pub fn set(&self, build: impl Fn(&Rc<Dispatcher>) -> Rc<T> + Clone + Send + 'static) {
        let index = self.index;
        trace::instant(Stage::SlotSet, None, 0, index as u64, 0);
        self.instance.run_on_all_threads(move || {
            let data: Rc<dyn Any> = build(&dispatcher());
            let old = DATA.with_borrow_mut(|slots| {
                if slots.len() <= index {
                    slots.resize_with(index + 1, || None);
                }
                slots[index].replace(data)
            });
            drop(old);
        });
    }

    /// This thread's copy; `None` before it is built and after shutdown.
    #[inline]
    pub fn get(&self) -> Option<Rc<T>> {
        DATA.with_borrow(|slots| slots.get(self.index).cloned().flatten())?.downcast().ok()
    }

    /// Runs `f` with every thread's copy, this thread's at once.
    pub fn run_on_all_threads(&self, f: impl Fn(&Rc<T>) + Clone + Send + 'static) {
        let slot = self.clone();
        self.instance.run_on_all_threads(move || {
            if let Some(data) = slot.get() {
                f(&data);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::RunType;
    use std::sync::mpsc;

    #[test]
    fn every_thread_has_its_own_copy() {
        let instance = InstanceImpl::new();
        let main = Dispatcher::new("main");
        enter_thread(&main);
        let slot: SlotImpl<String> = instance.allocate_slot();
        let (tx, rx) = mpsc::channel();
        let worker_slot = slot.clone();
        let worker = std::thread::spawn(move || {
            let dispatcher = Dispatcher::new("worker");
            enter_thread(&dispatcher);
            tx.send((dispatcher.handle(), None)).unwrap();
            dispatcher.run(RunType::RunUntilExit);
            tx.send((dispatcher.handle(), worker_slot.get().map(|s| (*s).clone()))).unwrap();
            shutdown_thread();
            assert!(worker_slot.get().is_none());
        });
        let (handle, _) = rx.recv().unwrap();
        instance.register_thread(handle.clone());
        assert!(slot.get().is_none());
        slot.set(|d| Rc::new(format!("data of {}", d.name())));
        assert_eq!(*slot.get().unwrap(), "data of main");
        let exit = handle.clone();
        handle.post(move || exit.exit());
        assert_eq!(rx.recv().unwrap().1.as_deref(), Some("data of worker"));
        worker.join().unwrap();
        shutdown_thread();
    }
}
