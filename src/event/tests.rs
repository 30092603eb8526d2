//! The rules of the loop (Envoy: event_active runs in the same pass, deferred deletion is FIFO, ...)
//! held against real libevent.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::*;

type Log = Rc<RefCell<Vec<String>>>;

fn log() -> Log {
    Log::default()
}

fn say(log: &Log, what: impl Into<String>) {
    log.borrow_mut().push(what.into());
}

fn pair() -> (UnixStream, UnixStream) {
    let (a, b) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (a, b)
}

#[test]
fn file_event_reports_the_or_of_its_bits() {
    let dispatcher = Dispatcher::new("test");
    let (a, mut b) = pair();
    b.write_all(b"x").unwrap();
    drop(b);
    let seen = Rc::new(Cell::new(0));
    let s = seen.clone();
    let _event = dispatcher.create_file_event(a, move |bits| s.set(bits), READ | WRITE | CLOSED).unwrap();
    dispatcher.run(RunType::NonBlock);
    assert_eq!(seen.get(), READ | WRITE | CLOSED);
}

#[test]
fn readiness_is_reported_once_until_set_enabled_asks_again() {
    let dispatcher = Dispatcher::new("test");
    let (a, mut b) = pair();
    b.write_all(b"x").unwrap();
    let log = log();
    let l = log.clone();
    let event = dispatcher.create_file_event(a, move |bits| say(&l, bits.to_string()), READ).unwrap();
    dispatcher.run(RunType::NonBlock);
    dispatcher.run(RunType::NonBlock);
    assert_eq!(*log.borrow(), ["1"], "the edge is spent although the byte was not read");
    event.set_enabled(READ).unwrap();
    dispatcher.run(RunType::NonBlock);
    assert_eq!(*log.borrow(), ["1", "1"]);
}

#[test]
fn activation_inside_a_callback_runs_in_the_same_pass_after_what_is_queued() {
    let dispatcher = Dispatcher::new("test");
    let log = log();
    let (l1, l2, l3) = (log.clone(), log.clone(), log.clone());
    let third = Rc::new(dispatcher.create_timer(move || say(&l3, "activated by first")));
    let first = dispatcher.create_timer(move || {
        say(&l1, "first");
        third.enable_timer(Duration::ZERO);
    });
    let second = dispatcher.create_timer(move || say(&l2, "second"));
    first.enable_timer(Duration::ZERO);
    second.enable_timer(Duration::ZERO);
    dispatcher.run(RunType::NonBlock);
    assert_eq!(*log.borrow(), ["first", "second", "activated by first"]);
}

#[test]
fn enable_after_poll_sees_the_kernel_first() {
    let dispatcher = Dispatcher::new("test");
    let (a, b) = pair();
    let log = log();
    let l = log.clone();
    let _event = dispatcher.create_file_event(a, move |_| say(&l, "readable"), READ).unwrap();
    dispatcher.run(RunType::NonBlock);
    let (l1, l2) = (log.clone(), log.clone());
    let later = Rc::new(dispatcher.create_timer(move || say(&l1, "after poll")));
    let trigger = dispatcher.create_timer(move || {
        say(&l2, "trigger");
        // Ready in the kernel, not yet seen by the loop: the timer must come second all the same.
        later.enable_after_poll();
        (&b).write_all(b"x").unwrap();
    });
    trigger.enable_timer(Duration::ZERO);
    run_until(&dispatcher, &log, 3);
    assert_eq!(*log.borrow(), ["trigger", "readable", "after poll"]);
}

#[test]
fn zero_timer_runs_without_a_poll_in_between() {
    let dispatcher = Dispatcher::new("test");
    let (a, b) = pair();
    let log = log();
    let l = log.clone();
    let _event = dispatcher.create_file_event(a, move |_| say(&l, "readable"), READ).unwrap();
    let (l1, l2) = (log.clone(), log.clone());
    let now = Rc::new(dispatcher.create_timer(move || say(&l1, "same pass")));
    let trigger = dispatcher.create_timer(move || {
        say(&l2, "trigger");
        (&b).write_all(b"x").unwrap();
        now.enable_timer(Duration::ZERO);
    });
    trigger.enable_timer(Duration::ZERO);
    run_until(&dispatcher, &log, 3);
    assert_eq!(*log.borrow(), ["trigger", "same pass", "readable"]);
}

#[test]
fn file_activation_carries_its_bits_and_joins_pending_ones() {
    let dispatcher = Dispatcher::new("test");
    let (a, _b) = pair();
    let seen = log();
    let s = seen.clone();
    let event = dispatcher.create_file_event(a, move |bits| say(&s, bits.to_string()), READ | WRITE).unwrap();
    dispatcher.run(RunType::NonBlock);
    event.activate(READ);
    event.activate(WRITE);
    dispatcher.run(RunType::NonBlock);
    assert_eq!(*seen.borrow(), ["2", "3"]);
}

#[test]
fn timer_can_be_disabled_and_rearmed() {
    let dispatcher = Dispatcher::new("test");
    let fired = Rc::new(Cell::new(0));
    let f = fired.clone();
    let timer = dispatcher.create_timer(move || f.set(f.get() + 1));
    timer.enable_timer(Duration::from_millis(1));
    assert!(timer.enabled());
    timer.disable_timer();
    assert!(!timer.enabled());
    dispatcher.run(RunType::Block);
    assert_eq!(fired.get(), 0);
    timer.enable_timer(Duration::from_millis(1));
    dispatcher.run(RunType::Block);
    assert_eq!(fired.get(), 1);
}

#[test]
fn posts_run_in_order_and_in_the_same_pass() {
    let dispatcher = Dispatcher::new("test");
    let (tx, rx) = mpsc::channel();
    let handle = dispatcher.handle();
    let inner = handle.clone();
    let (t1, t2) = (tx.clone(), tx);
    let t3 = t1.clone();
    handle.post(move || {
        t1.send("one").unwrap();
        inner.post(move || t3.send("posted by one").unwrap());
    });
    handle.post(move || t2.send("two").unwrap());
    dispatcher.run(RunType::NonBlock);
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), ["one", "two", "posted by one"]);
}

#[test]
fn a_post_of_the_own_thread_runs_in_its_pass_before_the_next_poll() {
    let dispatcher = Dispatcher::new("test");
    let (a, b) = pair();
    let log = log();
    let l = log.clone();
    let _event = dispatcher.create_file_event(a, move |_| say(&l, "readable"), READ).unwrap();
    let (l, handle) = (log.clone(), dispatcher.handle());
    let posted = Arc::new(AtomicBool::new(false));
    let seen = posted.clone();
    let trigger = dispatcher.create_timer(move || {
        say(&l, "trigger");
        (&b).write_all(b"x").unwrap();
        let posted = posted.clone();
        handle.post(move || posted.store(true, Ordering::Relaxed));
    });
    let l = log.clone();
    let after = Rc::new(
        dispatcher.create_timer(move || say(&l, format!("posted: {}", seen.load(Ordering::Relaxed)))),
    );
    let (l, first) = (log.clone(), after.clone());
    let before = dispatcher.create_timer(move || {
        say(&l, "before");
        first.enable_timer(Duration::ZERO);
    });
    trigger.enable_timer(Duration::ZERO);
    before.enable_timer(Duration::ZERO);
    run_until(&dispatcher, &log, 4);
    assert_eq!(*log.borrow(), ["trigger", "before", "posted: true", "readable"]);
}

#[test]
fn a_post_from_another_thread_wakes_the_loop() {
    let (tx, rx) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let dispatcher = Dispatcher::new("test");
        tx.send(dispatcher.handle()).unwrap();
        // Returns only because of the posted exit.
        dispatcher.run(RunType::RunUntilExit);
    });
    let handle = rx.recv().unwrap();
    let (done_tx, done_rx) = mpsc::channel();
    for i in 0..100 {
        let done = done_tx.clone();
        handle.post(move || done.send(i).unwrap());
    }
    let order: Vec<i32> = (0..100).map(|_| done_rx.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
    assert_eq!(order, (0..100).collect::<Vec<_>>());
    let last = handle.clone();
    handle.post(move || last.exit());
    thread.join().unwrap();
    handle.post(|| panic!("never run: the dispatcher is gone"));
}

#[test]
fn exit_from_another_thread_ends_a_sleeping_loop() {
    let (tx, rx) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let dispatcher = Dispatcher::new("test");
        tx.send(dispatcher.handle()).unwrap();
        dispatcher.run(RunType::RunUntilExit);
    });
    let handle = rx.recv().unwrap();
    // An exit given before the loop starts is not remembered (libevent): ask until it is heard.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !thread.is_finished() && Instant::now() < deadline {
        handle.exit();
        std::thread::yield_now();
    }
    thread.join().unwrap();
}

struct Tracked(Log, &'static str, Option<Rc<dyn Fn()>>);

impl Drop for Tracked {
    fn drop(&mut self) {
        say(&self.0, self.1);
        if let Some(then) = &self.2 {
            then();
        }
    }
}

#[test]
fn deferred_deletion_is_fifo_at_the_end_of_the_pass() {
    let dispatcher = Dispatcher::new("test");
    let log = log();
    let (d, l) = (Rc::downgrade(&dispatcher), log.clone());
    let l2 = log.clone();
    let trigger = dispatcher.create_timer(move || {
        let d = d.upgrade().unwrap();
        d.deferred_delete(Rc::new(Tracked(l.clone(), "a", None)));
        d.deferred_delete(Rc::new(Tracked(l.clone(), "b", None)));
        say(&l, "callback ends");
    });
    let other = dispatcher.create_timer(move || say(&l2, "queued before"));
    trigger.enable_timer(Duration::ZERO);
    other.enable_timer(Duration::ZERO);
    dispatcher.run(RunType::NonBlock);
    assert_eq!(*log.borrow(), ["callback ends", "queued before", "a", "b"]);
}

#[test]
fn deletion_during_deletion_goes_to_the_other_list() {
    let dispatcher = Dispatcher::new("test");
    let log = log();
    let (weak, l) = (Rc::downgrade(&dispatcher), log.clone());
    let nested: Rc<dyn Fn()> = Rc::new(move || {
        let d = weak.upgrade().unwrap();
        d.deferred_delete(Rc::new(Tracked(l.clone(), "nested", None)));
        d.clear_deferred_delete_list();
    });
    dispatcher.deferred_delete(Rc::new(Tracked(log.clone(), "a", Some(nested))));
    dispatcher.deferred_delete(Rc::new(Tracked(log.clone(), "b", None)));
    dispatcher.run(RunType::NonBlock);
    assert_eq!(*log.borrow(), ["a", "b", "nested"]);
}

#[test]
fn a_callback_may_drop_its_own_event() {
    let dispatcher = Dispatcher::new("test");
    let (a, mut b) = pair();
    b.write_all(b"x").unwrap();
    let slot: Rc<RefCell<Option<FileEvent<UnixStream>>>> = Rc::default();
    let witness = Rc::new(String::from("captured"));
    let (s, w) = (slot.clone(), witness.clone());
    let event = dispatcher
        .create_file_event(
            a,
            move |_| {
                drop(s.borrow_mut().take());
                // The closure's own captures must still be alive here.
                assert_eq!(*w, "captured");
            },
            READ,
        )
        .unwrap();
    *slot.borrow_mut() = Some(event);
    dispatcher.run(RunType::NonBlock);
    assert!(slot.borrow().is_none());
    assert_eq!(Rc::strong_count(&witness), 1, "the closure is freed after the callback");
}

#[test]
fn a_callback_may_drop_another_active_event() {
    let dispatcher = Dispatcher::new("test");
    let fired = Rc::new(Cell::new(false));
    let f = fired.clone();
    let slot: Rc<RefCell<Option<Timer>>> = Rc::default();
    let s = slot.clone();
    let first = dispatcher.create_timer(move || drop(s.borrow_mut().take()));
    let second = dispatcher.create_timer(move || f.set(true));
    first.enable_timer(Duration::ZERO);
    second.enable_timer(Duration::ZERO);
    *slot.borrow_mut() = Some(second);
    dispatcher.run(RunType::NonBlock);
    assert!(!fired.get());
}

#[test]
fn a_panic_goes_on_from_run_and_not_through_c() {
    let dispatcher = Dispatcher::new("test");
    let timer = dispatcher.create_timer(|| panic!("boom"));
    timer.enable_timer(Duration::ZERO);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| dispatcher.run(RunType::NonBlock)));
    assert_eq!(*caught.unwrap_err().downcast::<&str>().unwrap(), "boom");
}

#[test]
fn block_returns_when_no_event_is_left() {
    let dispatcher = Dispatcher::new("test");
    let d: Weak<Dispatcher> = Rc::downgrade(&dispatcher);
    let timer = dispatcher.create_timer(move || assert!(d.upgrade().is_some()));
    timer.enable_timer(Duration::from_millis(1));
    dispatcher.run(RunType::Block);
    assert!(!timer.enabled());
}

#[test]
fn one_listening_fd_serves_two_loops() {
    let socket = Rc::new(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    let (one, two) = (Dispatcher::new("one"), Dispatcher::new("two"));
    let log = log();
    let make = |d: &Rc<Dispatcher>, name: &'static str| {
        let log = log.clone();
        d.create_listener(
            socket.clone(),
            move |a| say(&log, format!("{name} {}", a.remote.is_some())),
            |e| panic!("{e}"),
        )
        .unwrap()
    };
    let first = make(&one, "one");
    let _second = make(&two, "two");
    let _c1 = std::net::TcpStream::connect(address).unwrap();
    two.run(RunType::NonBlock);
    let _c2 = std::net::TcpStream::connect(address).unwrap();
    one.run(RunType::NonBlock);
    first.disable();
    let _c3 = std::net::TcpStream::connect(address).unwrap();
    one.run(RunType::NonBlock);
    first.enable().unwrap();
    one.run(RunType::NonBlock);
    assert_eq!(*log.borrow(), ["two true", "one true", "one true"]);
}

#[test]
fn a_callback_may_drop_its_own_listener() {
    let socket = Rc::new(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    socket.set_nonblocking(true).unwrap();
    let dispatcher = Dispatcher::new("test");
    let slot: Rc<RefCell<Option<Listener<Rc<std::net::TcpListener>>>>> = Rc::default();
    let count = Rc::new(Cell::new(0));
    let (s, c) = (slot.clone(), count.clone());
    let listener = dispatcher
        .create_listener(
            socket.clone(),
            move |_| {
                drop(s.borrow_mut().take());
                c.set(c.get() + 1);
            },
            |e| panic!("{e}"),
        )
        .unwrap();
    *slot.borrow_mut() = Some(listener);
    let mut client = std::net::TcpStream::connect(socket.local_addr().unwrap()).unwrap();
    let _second = std::net::TcpStream::connect(socket.local_addr().unwrap()).unwrap();
    dispatcher.run(RunType::NonBlock);
    assert_eq!(count.get(), 1, "nothing is accepted once the listener is gone");
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0, "the accepted fd was closed with its owner");
}

#[test]
fn a_file_event_keeps_its_fd_open() {
    let dispatcher = Dispatcher::new("test");
    let (a, mut b) = pair();
    let a = Rc::new(a);
    let seen = Rc::new(Cell::new(0));
    let s = seen.clone();
    let event = dispatcher.create_file_event(a.clone(), move |bits| s.set(bits), READ).unwrap();
    drop(a);
    b.write_all(b"x").unwrap();
    dispatcher.run(RunType::NonBlock);
    assert_eq!(seen.get(), READ);
    drop(event);
    assert_eq!(b.write(b"x").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
}

/// The number of the closed fd is the next to be given out, and is watched again before the callback ends.
#[test]
fn a_listener_that_goes_in_its_callback_closes_a_fd_which_nobody_watches() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    let dispatcher = Dispatcher::new("test");
    let slot: Rc<RefCell<Option<Listener<std::net::TcpListener>>>> = Rc::default();
    let (event, seen) = (Rc::new(RefCell::default()), Rc::new(Cell::new(0)));
    let (a, mut b) = pair();
    let (s, e, n, d) = (slot.clone(), event.clone(), seen.clone(), dispatcher.clone());
    let on_accept = move |_| {
        drop(s.borrow_mut().take());
        let again = a.try_clone().unwrap();
        let n = n.clone();
        *e.borrow_mut() = Some(d.create_file_event(again, move |bits| n.set(bits), READ).unwrap());
    };
    *slot.borrow_mut() = Some(dispatcher.create_listener(socket, on_accept, |e| panic!("{e}")).unwrap());
    let _client = std::net::TcpStream::connect(address).unwrap();
    dispatcher.run(RunType::NonBlock);
    assert!(std::net::TcpStream::connect(address).is_err(), "the listener was the last to have the socket");
    b.write_all(b"x").unwrap();
    dispatcher.run(RunType::NonBlock);
    assert_eq!(seen.get(), READ);
}

#[test]
fn a_signal_runs_its_callback() {
    let dispatcher = Dispatcher::new("test");
    let (d, seen) = (Rc::downgrade(&dispatcher), Rc::new(Cell::new(0)));
    let s = seen.clone();
    let _signal = dispatcher
        .listen_for_signal(libc::SIGWINCH, move || {
            s.set(s.get() + 1);
            d.upgrade().unwrap().exit();
        })
        .unwrap();
    let handle = dispatcher.handle();
    handle.post(|| nix::sys::signal::raise(nix::sys::signal::Signal::SIGWINCH).unwrap());
    dispatcher.run(RunType::RunUntilExit);
    assert_eq!(seen.get(), 1);
}

#[test]
fn time_stands_still_inside_a_callback_only() {
    let dispatcher = Dispatcher::new("test");
    let times: Rc<RefCell<Vec<Moment>>> = Rc::default();
    let t = times.clone();
    let timer = dispatcher.create_timer(move || {
        let first = now();
        while Moment::exact() == first {}
        t.borrow_mut().extend([first, now()]);
    });
    for _ in 0..2 {
        timer.enable_timer(Duration::from_millis(1));
        dispatcher.run(RunType::Block);
    }
    let times = times.borrow();
    assert_eq!(times[0], times[1]);
    assert!(times[2] > times[0]);
    assert!(now() > times[2]);
}

/// Runs passes until the log has `n` entries (or the test's patience ends).
fn run_until(dispatcher: &Dispatcher, log: &Log, n: usize) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while log.borrow().len() < n && Instant::now() < deadline {
        dispatcher.run(RunType::NonBlock);
    }
}

/// Data on a writable socket, and data with a reset behind it, are the same to libevent.
#[test]
fn a_reset_behind_data_is_told_apart() {
    for (resets, expected) in [(false, READ | WRITE), (true, READ | WRITE | CLOSED)] {
        let dispatcher = Dispatcher::new("test");
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = std::net::TcpStream::connect(server.local_addr().unwrap()).unwrap();
        let (watched, _) = server.accept().unwrap();
        watched.set_nonblocking(true).unwrap();
        peer.write_all(b"x").unwrap();
        if resets {
            let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
            nix::sys::socket::setsockopt(&peer, nix::sys::socket::sockopt::Linger, &at_once).unwrap();
            drop(peer);
        }
        let seen = Rc::new(Cell::new(0));
        let s = seen.clone();
        let _event =
            dispatcher.create_file_event(watched, move |bits| s.set(bits), READ | WRITE | CLOSED).unwrap();
        dispatcher.run(RunType::NonBlock);
        assert_eq!(seen.get(), expected);
    }
}

/// A request must not be given to a connection that has ended in the same poll.
#[test]
fn of_what_a_poll_tells_the_ends_come_first() {
    for resets in [false, true] {
        let dispatcher = Dispatcher::new("test");
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let connect = || std::net::TcpStream::connect(server.local_addr().unwrap()).unwrap();
        let (mut first, second) = (connect(), connect());
        let watched = [server.accept().unwrap().0, server.accept().unwrap().0];
        let log = log();
        let watch = |(index, stream): (usize, std::net::TcpStream)| {
            let log = log.clone();
            let told = move |bits| say(&log, format!("{index}: {bits}"));
            dispatcher.create_file_event(stream, told, READ | WRITE | CLOSED).unwrap()
        };
        let _events: Vec<_> = watched.into_iter().enumerate().map(watch).collect();
        dispatcher.run(RunType::NonBlock);
        assert_eq!(std::mem::take(&mut *log.borrow_mut()), ["0: 2", "1: 2"]);
        first.write_all(b"x").unwrap();
        if resets {
            let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
            nix::sys::socket::setsockopt(&second, nix::sys::socket::sockopt::Linger, &at_once).unwrap();
        }
        drop(second);
        dispatcher.run(RunType::NonBlock);
        assert_eq!(*log.borrow(), ["1: 7", "0: 3"], "reset: {resets}");
    }
}

/// Notes which of its timeouts are over, and does what a test wants then.
struct Noter {
    seen: RefCell<Vec<u8>>,
    then: Box<dyn Fn(u8)>,
}

impl Noter {
    fn new(then: impl Fn(u8) + 'static) -> Rc<Self> {
        Rc::new(Noter { seen: RefCell::default(), then: Box::new(then) })
    }

    fn weak(self: &Rc<Self>) -> Weak<dyn TimeoutCallbacks> {
        Rc::downgrade(self) as Weak<dyn TimeoutCallbacks>
    }
}

impl TimeoutCallbacks for Noter {
    fn on_timeout(&self, which: u8) {
        self.seen.borrow_mut().push(which);
        (self.then)(which);
    }
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn timeouts_of_one_length_run_in_order_and_only_while_armed() {
    let d = Dispatcher::new("test");
    let weak = Rc::downgrade(&d);
    let noter = Noter::new(move |which| {
        if which == 4 {
            weak.upgrade().unwrap().exit();
        }
    });
    let timeouts: [Timeout; 5] = Default::default();
    for (which, timeout) in (0..).zip(&timeouts) {
        timeout.enable(&d, noter.weak(), which, 5 * MS);
    }
    // The oldest, one in the middle; and one that is armed anew is the youngest.
    assert!(timeouts[0].disable() && timeouts[2].disable() && !timeouts[2].disable());
    timeouts[1].enable(&d, noter.weak(), 1, 5 * MS);
    timeouts[4].enable(&d, noter.weak(), 4, 5 * MS);
    assert!(timeouts[1].enabled() && !timeouts[0].enabled());
    let start = Instant::now();
    d.run(RunType::RunUntilExit);
    assert!(start.elapsed() >= 4 * MS);
    assert_eq!(*noter.seen.borrow(), [3, 1, 4]);
    assert!(timeouts.iter().all(|timeout| !timeout.enabled() && !timeout.disable()));
}

#[test]
fn a_shorter_timeout_runs_first_and_more_lengths_than_lists_are_served() {
    let d = Dispatcher::new("test");
    let weak = Rc::downgrade(&d);
    let left = Cell::new(39);
    let noter = Noter::new(move |_| {
        left.set(left.get() - 1);
        if left.get() == 0 {
            weak.upgrade().unwrap().exit();
        }
    });
    let timeouts: Vec<Timeout> = (0..40).map(|_| Timeout::default()).collect();
    for (which, timeout) in (1..=40).zip(&timeouts) {
        timeout.enable(&d, noter.weak(), which, 3 * u32::from(which) * MS);
    }
    assert!(timeouts.iter().all(Timeout::enabled));
    assert!(timeouts[0].disable() && timeouts[39].enabled());
    d.run(RunType::RunUntilExit);
    // Neighbours are too close for a machine that stands still for a moment.
    let mut seen = noter.seen.borrow().clone();
    let place = |which| seen.iter().position(|seen| *seen == which);
    assert!(place(2) < place(20) && place(20) < place(40));
    seen.sort_unstable();
    assert_eq!(seen, (2..=40).collect::<Vec<u8>>());
}

#[test]
fn what_arms_itself_when_it_runs_waits_for_the_next_time() {
    let d = Dispatcher::new("test");
    let timeout = Rc::new(Timeout::default());
    let noter = Rc::new_cyclic(|weak: &Weak<Noter>| {
        let (d, timeout, weak) = (Rc::downgrade(&d), timeout.clone(), weak.clone());
        Noter {
            seen: RefCell::default(),
            then: Box::new(move |which| {
                let d = d.upgrade().unwrap();
                match which {
                    3 => d.exit(),
                    _ => timeout.enable(&d, weak.clone(), which + 1, Duration::ZERO),
                }
            }),
        }
    });
    timeout.enable(&d, noter.weak(), 0, Duration::ZERO);
    let start = Instant::now();
    d.run(RunType::RunUntilExit);
    assert_eq!(*noter.seen.borrow(), [0, 1, 2, 3]);
    assert!(start.elapsed() >= 3 * MS, "a pass each");
}

#[test]
fn a_timeout_that_goes_is_disarmed_and_one_whose_owner_has_gone_does_nothing() {
    let d = Dispatcher::new("test");
    let weak = Rc::downgrade(&d);
    let noter = Noter::new(move |which| {
        if which == 9 {
            weak.upgrade().unwrap().exit()
        }
    });
    let gone = Noter::new(|_| panic!("its owner has gone"));
    let timeout = Timeout::default();
    timeout.enable(&d, noter.weak(), 1, MS);
    drop(timeout);
    let (orphan, last) = (Timeout::default(), Timeout::default());
    orphan.enable(&d, gone.weak(), 1, MS);
    drop(gone);
    last.enable(&d, noter.weak(), 9, 2 * MS);
    d.run(RunType::RunUntilExit);
    assert_eq!(*noter.seen.borrow(), [9]);
}

#[test]
fn what_is_left_of_a_length_takes_no_list() {
    let d = Dispatcher::new("test");
    let noter = Noter::new(|_| {});
    let lengths = d.timeout_lists().lengths();
    let route = Timeout::default();
    route.enable(&d, noter.weak(), 0, 15_000 * MS);
    route.disable();
    let left: Vec<Timeout> = (0..40).map(|_| Timeout::default()).collect();
    for (i, timeout) in (1..).zip(&left) {
        timeout.enable_alone(&d, noter.weak(), i, 60_000 * MS - Duration::from_nanos(i.into()));
        assert!(timeout.enabled());
    }
    assert_eq!(d.timeout_lists().lengths(), lengths + 1);
    assert!(left[0].disable() && !left[0].enabled());
    // It runs, and may be armed anew when it does.
    let again = Rc::new(Timeout::default());
    let itself: Rc<RefCell<Option<Weak<dyn TimeoutCallbacks>>>> = Rc::default();
    let (weak, timeout, me) = (Rc::downgrade(&d), again.clone(), itself.clone());
    let noter = Noter::new(move |which| {
        let d = weak.upgrade().unwrap();
        assert!(!timeout.enabled());
        match me.take() {
            Some(me) => timeout.enable_alone(&d, me, which + 1, MS),
            None => d.exit(),
        }
    });
    *itself.borrow_mut() = Some(noter.weak());
    again.enable_alone(&d, noter.weak(), 1, MS);
    d.run(RunType::RunUntilExit);
    assert_eq!(*noter.seen.borrow(), [1, 2]);
}
