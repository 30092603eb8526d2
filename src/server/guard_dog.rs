//! Says when a thread does not come back to its loop, and ends the process if it is asked to.
//!
//! Mirrors Envoy's `source/server/guarddog_impl.cc` and `watchdog_impl.cc`, with 1.40's two sets of limits and its
//! statistics. Different: a thread's loop notes its passes anyway ([`Pulse`]), so no timer wakes it to touch a
//! watchdog; and one thread, which waits on a condition and has no loop of its own, looks after everyone.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::config::watchdog::Watchdog;
use crate::envoy_log;
use crate::event::{Dispatcher, Pulse};
use crate::stats::{Counter, Store};
use crate::trace::{self, Stage};

/// Of a watched thread.
pub struct WatchDogImpl {
    thread_id: i32,
    pulse: Pulse,
}

struct WatchedDog {
    dog: Arc<WatchDogImpl>,
    /// The pass that was last seen, and when it was seen first.
    pass: Option<u64>,
    last_checkin: Instant,
    miss_alerted: bool,
    megamiss_alerted: bool,
    miss: Counter,
    megamiss: Counter,
}

/// Watches threads that have the same limits: the workers, or the main thread alone.
pub struct GuardDogImpl {
    stats: Arc<Store>,
    limits: Watchdog,
    watchdog_miss: Counter,
    watchdog_megamiss: Counter,
    watched_dogs: Mutex<Vec<WatchedDog>>,
}

impl GuardDogImpl {
    /// Watches nobody yet. `name` is what its statistics begin with.
    pub fn new(stats: &Arc<Store>, name: &str, config: &Watchdog) -> Arc<Self> {
        let mut limits = config.clone();
        if !limits.kill_timeout.is_zero() {
            limits.kill_timeout += config.max_kill_timeout_jitter.mul_f64(fastrand::f64());
        }
        let scope = stats.root_scope().create_scope(&format!("{name}."));
        Arc::new(GuardDogImpl {
            stats: stats.clone(),
            limits,
            watchdog_miss: scope.counter("watchdog_miss"),
            watchdog_megamiss: scope.counter("watchdog_mega_miss"),
            watched_dogs: Mutex::default(),
        })
    }

    /// The smallest of the limits that are on.
    fn loop_interval(&self) -> Duration {
        let Watchdog { miss_timeout, megamiss_timeout, kill_timeout, multikill_timeout, .. } = self.limits;
        let kills = [kill_timeout, multikill_timeout].into_iter().filter(|limit| !limit.is_zero());
        kills.fold(miss_timeout.min(megamiss_timeout), Duration::min)
    }

    /// Watches the calling thread, whose loop is `dispatcher`.
    pub fn create_watch_dog(&self, dispatcher: &Dispatcher) -> Arc<WatchDogImpl> {
        self.watch(nix::unistd::gettid().as_raw(), dispatcher.name(), dispatcher.pulse())
    }

    fn watch(&self, thread_id: i32, name: &str, pulse: Pulse) -> Arc<WatchDogImpl> {
        let dog = Arc::new(WatchDogImpl { thread_id, pulse });
        let scope = self.stats.root_scope().create_scope(&format!("server.{name}."));
        let mut watched_dogs = self.lock();
        trace::instant(Stage::CreateWatchDog, None, 0, watched_dogs.len() as u64 + 1, 0);
        watched_dogs.push(WatchedDog {
            dog: dog.clone(),
            pass: None,
            last_checkin: Instant::now(),
            miss_alerted: false,
            megamiss_alerted: false,
            miss: scope.counter("watchdog_miss"),
            megamiss: scope.counter("watchdog_mega_miss"),
        });
        dog
    }

    /// Lets a thread go.
    pub fn stop_watching(&self, dog: &Arc<WatchDogImpl>) {
        self.lock().retain(|watched| !Arc::ptr_eq(&watched.dog, dog));
    }

    /// Looks at each thread. The result is why the process has to end.
    fn step(&self, now: Instant) -> Option<String> {
        let mut watched_dogs = self.lock();
        let several = self.required_for_multi_kill(watched_dogs.len());
        let mut multi_kill_count = 0;
        for watched in watched_dogs.iter_mut() {
            let Some(away) = watched.away(now) else { continue };
            if away > self.limits.miss_timeout && !std::mem::replace(&mut watched.miss_alerted, true) {
                self.watchdog_miss.inc();
                watched.miss.inc();
            }
            if away > self.limits.megamiss_timeout && !std::mem::replace(&mut watched.megamiss_alerted, true)
            {
                self.watchdog_megamiss.inc();
                watched.megamiss.inc();
            }
            let over = |limit: Duration| !limit.is_zero() && away > limit;
            if over(self.limits.kill_timeout) {
                return Some(format!(
                    "GuardDog: one thread ({}) stuck for more than watchdog_kill_timeout",
                    watched.dog.thread_id
                ));
            }
            multi_kill_count += usize::from(over(self.limits.multikill_timeout));
            if multi_kill_count >= several {
                return Some(format!(
                    "GuardDog: multiple threads ({},...) stuck for more than watchdog_multikill_timeout",
                    watched.dog.thread_id
                ));
            }
        }
        None
    }

    fn required_for_multi_kill(&self, threads: usize) -> usize {
        let share = self.limits.multikill_threshold.value / 100.0 * threads as f64;
        (share.ceil() as usize).max(2)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<WatchedDog>> {
        self.watched_dogs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WatchedDog {
    /// For how long the thread has been seen in the same pass.
    fn away(&mut self, now: Instant) -> Option<Duration> {
        let pass = self.dog.pulse.busy_with();
        if pass.is_none() || pass != self.pass {
            self.pass = pass;
            self.last_checkin = now;
            self.miss_alerted = false;
            self.megamiss_alerted = false;
            return None;
        }
        Some(now - self.last_checkin)
    }
}

/// The thread that looks after all guard dogs. It ends when this is dropped.
pub struct GuardDogThread {
    run_thread: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl GuardDogThread {
    /// Starts it.
    ///
    /// # Errors
    /// The thread could not be made.
    pub fn start(dogs: Vec<Arc<GuardDogImpl>>) -> std::io::Result<Self> {
        let run_thread = Arc::new((Mutex::new(true), Condvar::new()));
        let for_thread = run_thread.clone();
        // Twice in the shortest limit, so that a thread which is away is found soon after.
        let interval = dogs.iter().map(|dog| dog.loop_interval() / 2).min().unwrap_or(Duration::MAX);
        let interval = interval.max(Duration::from_millis(1));
        let thread = std::thread::Builder::new()
            .name("dog:guard_dog".to_string())
            .spawn(move || thread_routine(&dogs, interval, &for_thread))?;
        Ok(GuardDogThread { run_thread, thread: Some(thread) })
    }
}

impl Drop for GuardDogThread {
    fn drop(&mut self) {
        let (run_thread, changed) = &*self.run_thread;
        *run_thread.lock().unwrap_or_else(PoisonError::into_inner) = false;
        changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It fails only when the thread panicked, which is the end of the watching and no more.
            let _ = thread.join();
        }
    }
}

fn thread_routine(dogs: &[Arc<GuardDogImpl>], interval: Duration, run_thread: &(Mutex<bool>, Condvar)) {
    let (run_thread, changed) = run_thread;
    let mut run = run_thread.lock().unwrap_or_else(PoisonError::into_inner);
    while *run {
        run = changed.wait_timeout(run, interval).unwrap_or_else(PoisonError::into_inner).0;
        let now = Instant::now();
        if let Some(why) = dogs.iter().find_map(|dog| dog.step(now)) {
            envoy_log!(Assert, critical, "panic: {}", why);
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests;
