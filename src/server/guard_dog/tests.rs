//! What a guard dog counts, and when it has the process end, by a clock of the test's own.

use super::*;
use crate::config::core::Percent;
use crate::event::RunType;

const MS: Duration = Duration::from_millis(1);

fn limits() -> Watchdog {
    Watchdog { miss_timeout: 20 * MS, megamiss_timeout: 100 * MS, ..Watchdog::default() }
}

/// A guard dog and the pulses of what it watches; the threads' ids are 100, 101, ...
struct Fixture {
    stats: Arc<Store>,
    dog: Arc<GuardDogImpl>,
    pulses: Vec<Pulse>,
    watched: Vec<Arc<WatchDogImpl>>,
    start: Instant,
}

impl Fixture {
    fn new(limits: &Watchdog, threads: usize) -> Fixture {
        let stats = Store::new(0);
        let dog = GuardDogImpl::new(&stats, "workers", limits);
        let pulses: Vec<Pulse> = (0..threads).map(|_| Pulse::default()).collect();
        let watch =
            |(i, pulse): (usize, &Pulse)| dog.watch(100 + i as i32, &format!("worker_{i}"), pulse.clone());
        let watched = pulses.iter().enumerate().map(watch).collect();
        Fixture { stats, dog, pulses, watched, start: Instant::now() }
    }

    fn step(&self, ms: u32) -> Option<String> {
        self.dog.step(self.start + ms * MS)
    }

    fn count(&self, name: &str) -> u64 {
        self.stats.find_counter(name).expect("the counter").value()
    }

    /// Misses and mega misses of all, then of the first.
    fn counts(&self) -> [u64; 4] {
        ["workers", "server.worker_0"]
            .map(|of| [format!("{of}.watchdog_miss"), format!("{of}.watchdog_mega_miss")])
            .as_flattened()
            .iter()
            .map(|name| self.count(name))
            .collect::<Vec<_>>()
            .try_into()
            .expect("four")
    }
}

#[test]
fn a_thread_that_waits_in_the_kernel_misses_nothing() {
    let f = Fixture::new(&limits(), 1);
    assert_eq!(f.step(0), None);
    assert_eq!(f.step(5000), None);
    assert_eq!(f.counts(), [0; 4]);
}

#[test]
fn a_busy_thread_that_comes_round_misses_nothing() {
    let f = Fixture::new(&limits(), 1);
    for i in 0..100 {
        f.pulses[0].begin_pass();
        f.step(i * 15);
        f.pulses[0].end_pass();
    }
    assert_eq!(f.counts(), [0; 4]);
}

#[test]
fn each_episode_counts_once() {
    let f = Fixture::new(&limits(), 2);
    f.pulses[0].begin_pass();
    f.step(0);
    f.step(20);
    assert_eq!(f.counts(), [0; 4], "not more than the limit");
    f.step(21);
    f.step(40);
    assert_eq!(f.counts(), [1, 0, 1, 0]);
    f.step(101);
    f.step(300);
    assert_eq!(f.counts(), [1, 1, 1, 1]);
    f.pulses[0].end_pass();
    f.pulses[0].begin_pass();
    f.step(400);
    f.step(430);
    assert_eq!(f.counts(), [2, 1, 2, 1]);
    f.pulses[1].begin_pass();
    f.step(440);
    f.step(470);
    assert_eq!(f.counts(), [3, 1, 2, 1]);
    assert_eq!(f.count("server.worker_1.watchdog_miss"), 1);
}

#[test]
fn kill_timeout_ends_the_process() {
    let f = Fixture::new(&Watchdog { kill_timeout: 50 * MS, ..limits() }, 2);
    f.pulses[1].begin_pass();
    assert_eq!(f.step(0), None);
    assert_eq!(f.step(50), None);
    let text = "GuardDog: one thread (101) stuck for more than watchdog_kill_timeout";
    assert_eq!(f.step(51).as_deref(), Some(text));
    f.dog.stop_watching(&f.watched[1]);
    assert_eq!(f.step(100), None);
}

#[test]
fn multikill_takes_two() {
    let f = Fixture::new(&Watchdog { multikill_timeout: 50 * MS, ..limits() }, 3);
    f.pulses[0].begin_pass();
    f.step(0);
    assert_eq!(f.step(1000), None, "one alone");
    f.pulses[2].begin_pass();
    f.step(1010);
    assert_eq!(f.step(1060), None);
    let text = "GuardDog: multiple threads (102,...) stuck for more than watchdog_multikill_timeout";
    assert_eq!(f.step(1061).as_deref(), Some(text));
}

#[test]
fn multikill_takes_its_share_of_the_threads() {
    let limits =
        Watchdog { multikill_timeout: 50 * MS, multikill_threshold: Percent { value: 60.0 }, ..limits() };
    let f = Fixture::new(&limits, 4);
    f.pulses[..2].iter().for_each(Pulse::begin_pass);
    f.step(0);
    assert_eq!(f.step(100), None, "60 % of 4 is 3");
    f.pulses[2].begin_pass();
    f.step(110);
    assert!(f.step(170).is_some());
}

#[test]
fn jitter_lets_a_thread_live_longer_at_most_by_that() {
    let config = Watchdog { kill_timeout: 50 * MS, max_kill_timeout_jitter: 10 * MS, ..limits() };
    for _ in 0..100 {
        let timeout = GuardDogImpl::new(&Store::new(0), "workers", &config).limits.kill_timeout;
        assert!((50 * MS..=60 * MS).contains(&timeout), "{timeout:?}");
    }
    let off = Watchdog { kill_timeout: Duration::ZERO, ..config };
    assert_eq!(GuardDogImpl::new(&Store::new(0), "workers", &off).limits.kill_timeout, Duration::ZERO);
}

#[test]
fn it_looks_as_often_as_the_shortest_limit_that_is_on() {
    let interval = |config: &Watchdog| GuardDogImpl::new(&Store::new(0), "workers", config).loop_interval();
    assert_eq!(interval(&Watchdog::default()), 200 * MS);
    assert_eq!(interval(&Watchdog { kill_timeout: 10 * MS, ..limits() }), 10 * MS);
    assert_eq!(interval(&Watchdog { multikill_timeout: 15 * MS, ..limits() }), 15 * MS);
}

#[test]
fn a_loop_has_a_pulse() {
    let dispatcher = Dispatcher::new("test");
    let pulse = dispatcher.pulse();
    let (seen_tx, seen) = std::sync::mpsc::channel();
    let within = pulse.clone();
    let timer = dispatcher.create_timer(move || seen_tx.send(within.busy_with()).expect("a receiver"));
    for _ in 0..2 {
        timer.enable_timer(MS);
        dispatcher.run(RunType::Block);
        assert_eq!(pulse.busy_with(), None);
    }
    let passes: Vec<_> = seen.iter().take(2).collect();
    assert!(passes[0].is_some() && passes[1] > passes[0], "{passes:?}");
}

#[test]
fn the_thread_watches_and_ends() {
    let f = Fixture::new(&limits(), 1);
    f.pulses[0].begin_pass();
    let thread = GuardDogThread::start(vec![f.dog.clone()]).expect("a thread");
    let deadline = Instant::now() + Duration::from_secs(10);
    while f.counts() != [1; 4] {
        assert!(Instant::now() < deadline, "{:?}", f.counts());
        std::thread::yield_now();
    }
    drop(thread);
    assert_eq!(Arc::strong_count(&f.dog), 1);
}
