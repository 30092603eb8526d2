//! Slots: data of which every thread has its own copy, set from the main thread.
//!
//! Mirrors Envoy's `source/common/thread_local/thread_local_impl.cc`. Setting a slot posts a builder
//! to every registered worker and runs it at once on the main thread; reading is a look into this
//! thread's own memory. A worker never waits and takes no lock.
//!
//! Differs in when a slot is given back: its owners may be on any thread, so the last one to go posts that to the main
//! thread, which then has all threads let go of their data and gives the place away again.

use std::any::Any;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    places: Mutex<Places>,
}

/// Where slots keep their data; the same on all threads.
#[derive(Default)]
struct Places {
    used: usize,
    free: Vec<usize>,
}

impl Places {
    fn take(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.used += 1;
            self.used - 1
        })
    }
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

    /// A new slot. Main thread only.
    pub fn allocate_slot<T: 'static>(self: &Arc<Self>) -> SlotImpl<T> {
        let index = self.places().take();
        let place = SlotPlace { instance: self.clone(), index, main: dispatcher().handle() };
        SlotImpl { index, place: Arc::new(place), data: PhantomData }
    }

    /// Has all threads let go of the data of a slot that nobody has any more. Main thread only: a builder that was posted
    /// for the slot ran before, and one for the next slot at the same place runs behind.
    fn remove_slot(&self, index: usize) {
        self.run_on_all_threads(move || drop(set_data(index, None)));
        self.places().free.push(index);
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `callback` on every worker and, at once, on this thread.
    pub fn run_on_all_threads(&self, callback: impl Fn() + Clone + Send + 'static) {
        for worker in self.workers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            worker.post(callback.clone());
        }
        callback();
    }
}

/// Puts data at a place of this thread; returns what was there, which may call back when it goes.
#[must_use]
fn set_data(index: usize, data: Option<Rc<dyn Any>>) -> Option<Rc<dyn Any>> {
    DATA.with_borrow_mut(|slots| {
        if slots.len() <= index {
            slots.resize_with(index + 1, || None);
        }
        std::mem::replace(&mut slots[index], data)
    })
}

/// A slot for one `T` a thread. Its clones are the same slot, which is given back when the last of them goes.
pub struct SlotImpl<T> {
    index: usize,
    place: Arc<SlotPlace>,
    data: PhantomData<fn() -> T>,
}

struct SlotPlace {
    instance: Arc<InstanceImpl>,
    index: usize,
    main: DispatcherHandle,
}

impl Drop for SlotPlace {
    fn drop(&mut self) {
        let (instance, index) = (self.instance.clone(), self.index);
        self.main.post(move || instance.remove_slot(index));
    }
}

impl<T> Clone for SlotImpl<T> {
    fn clone(&self) -> Self {
        SlotImpl { index: self.index, place: self.place.clone(), data: PhantomData }
    }
}

impl<T: 'static> SlotImpl<T> {
    /// Has every thread build its copy: the workers when they next run posts, this thread now.
    pub fn set(&self, build: impl Fn(&Rc<Dispatcher>) -> Rc<T> + Clone + Send + 'static) {
        let index = self.index;
        trace::instant(Stage::SlotSet, None, 0, index as u64, 0);
        self.place.instance.run_on_all_threads(move || {
            let data: Rc<dyn Any> = build(&dispatcher());
            drop(set_data(index, Some(data)));
        });
    }

    /// This thread's copy; `None` before it is built and after shutdown.
    #[inline(always)]
    pub fn get(&self) -> Option<Rc<T>> {
        DATA.with_borrow(|slots| slots.get(self.index).cloned().flatten())?.downcast().ok()
    }

    /// Runs `f` with every thread's copy, this thread's at once.
    pub fn run_on_all_threads(&self, f: impl Fn(&Rc<T>) + Clone + Send + 'static) {
        let slot = self.clone();
        self.place.instance.run_on_all_threads(move || {
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

    /// A worker that runs until its handle is told to exit.
    fn worker() -> (DispatcherHandle, std::thread::JoinHandle<()>) {
        let (tx, rx) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let dispatcher = Dispatcher::new("worker");
            enter_thread(&dispatcher);
            tx.send(dispatcher.handle()).unwrap();
            dispatcher.run(RunType::RunUntilExit);
            shutdown_thread();
        });
        (rx.recv().unwrap(), thread)
    }

    #[test]
    fn a_slot_that_is_given_back_leaves_nothing_and_is_given_away_again() {
        let instance = InstanceImpl::new();
        let main = Dispatcher::new("main");
        enter_thread(&main);
        let kept: SlotImpl<u32> = instance.allocate_slot();
        kept.set(|_| Rc::new(7));
        let (handle, thread) = worker();
        instance.register_thread(handle.clone());

        let data = Arc::new(());
        let slot: SlotImpl<Arc<()>> = instance.allocate_slot();
        let (index, copy) = (slot.index, data.clone());
        slot.set(move |_| Rc::new(copy.clone()));
        // The last to go is on a worker.
        slot.run_on_all_threads(|_| {});
        drop(slot);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while Arc::strong_count(&data) > 1 {
            assert!(std::time::Instant::now() < deadline, "{} left", Arc::strong_count(&data));
            main.run(RunType::NonBlock);
        }
        let next: SlotImpl<String> = instance.allocate_slot();
        assert_eq!((next.index, next.get(), kept.get().as_deref()), (index, None, Some(&7)));

        let exit = handle.clone();
        handle.post(move || exit.exit());
        thread.join().unwrap();
        drop((kept, next));
        main.run(RunType::NonBlock);
        let places = instance.places();
        assert_eq!((places.used, places.free.len()), (2, 2));
        drop(places);
        shutdown_thread();
    }
}
