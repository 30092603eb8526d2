//! Resets at the places where one can be missed: behind data, together with it, while reading is paused.
//! Prints a table of what they left behind; all of it has to be 0.

use super::crossings::{Crossings, Refused};
use super::ends::{Ends, linger_not, listen, lock};
use super::harness::wire::Wire;
use super::harness::{Proxy, new_directory};
use super::options::Options;
use super::rest::fds;
use super::sites::{listener, plain_cluster, start_proxy};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, recv};
use nix::unistd::Pid;
use serde_json::json;
use std::collections::HashSet;
use std::fs;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::ops::Sub;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A client that waits longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(6);
/// What is left when nothing has changed for so long has leaked.
const SETTLING: Duration = Duration::from_secs(3);
/// Clients at the same time.
const AT_ONCE: usize = 10;

/// What a 503 begins with.
const REFUSED: &[u8] = b"HTTP/1.1 503";

/// Of a body that nobody takes to its end.
const LENGTH: usize = 1_000_000_000;

/// What is open, or what was left open.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Open {
    downstream: i64,
    upstream: i64,
    streams: i64,
    fds: i64,
}

impl Open {
    fn in_proxy(proxy: &Proxy) -> Open {
        let stats = proxy.admin.stats();
        let stat = |name: &str| stats.get(name).map_or(0, |value| *value as i64);
        Open {
            downstream: stat("http.resets.downstream_cx_active"),
            upstream: stat("cluster.resets.upstream_cx_active"),
            streams: stat("http.resets.downstream_rq_active") + stat("cluster.resets.upstream_rq_active"),
            fds: fds(proxy) as i64,
        }
    }

    fn nothing(self) -> bool {
        [self.downstream, self.upstream, self.streams, self.fds].iter().all(|left| *left <= 0)
    }
}

impl Sub for Open {
    type Output = Open;

    fn sub(self, other: Open) -> Open {
        Open {
            downstream: self.downstream - other.downstream,
            upstream: self.upstream - other.upstream,
            streams: self.streams - other.streams,
            fds: self.fds - other.fds,
        }
    }
}

/// A line of the table.
struct Row {
    what: &'static str,
    tried: usize,
    hanging: usize,
    /// Requests that got 503, because their connection was reset.
    refused: Refused,
    left: Open,
    /// How long it took until nothing was left.
    took: Duration,
}

/// What both ends share.
struct Shared {
    pid: AtomicI32,
    /// For a client that plays alone.
    alone: Mutex<()>,
    /// Only one may stop the process at a time.
    stopping: Mutex<()>,
    crossings: Crossings,
    /// Paths whose upstream is to reset.
    leaving: Mutex<HashSet<String>>,
    /// Paths whose upstream has reset.
    gone: Mutex<HashSet<String>>,
}

impl Shared {
    fn new(log: PathBuf) -> Shared {
        Shared {
            pid: AtomicI32::default(),
            alone: Mutex::default(),
            stopping: Mutex::default(),
            crossings: Crossings::new(log),
            leaving: Mutex::default(),
            gone: Mutex::default(),
        }
    }

    /// Stops the proxy while `act` runs, so that it sees everything at once.
    fn together(&self, act: impl FnOnce()) {
        let _one = lock(&self.stopping);
        let pid = Pid::from_raw(self.pid.load(Ordering::Relaxed));
        nix::sys::signal::kill(pid, Signal::SIGSTOP).expect("the proxy stopped");
        while !is_stopped(pid) {
            thread::yield_now(); // a thread that runs stops a little later
        }
        act();
        nix::sys::signal::kill(pid, Signal::SIGCONT).expect("the proxy continued");
    }
}

/// Whether every thread of a process has stopped.
fn is_stopped(pid: Pid) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let stat = |task: fs::DirEntry| fs::read_to_string(task.path().join("stat")).unwrap_or_default();
    let state = |stat: String| stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    tasks.map(stat).map(state).all(|state| matches!(state, Some('T' | 'Z' | 'X')))
}

struct Lab {
    proxy: Proxy,
    port: u16,
    ends: Arc<Ends>,
    shared: Arc<Shared>,
}

impl Lab {
    /// A proxy without any time limit, so that nothing hides what is never ended.
    fn start(options: Options) -> Lab {
        let ends = Arc::<Ends>::default();
        let directory = new_directory(options.against);
        let shared = Arc::new(Shared::new(directory.join("access.log")));
        let for_upstream = (ends.clone(), shared.clone());
        let port = listen(&ends, move |wire, id| serve(wire, id, &for_upstream.0, &for_upstream.1));
        let hcm = json!({
            "common_http_protocol_options": {"idle_timeout": "0s"},
            "stream_idle_timeout": "0s",
            "delayed_close_timeout": "0.05s", // begins when the proxy has seen the end
            "timeout": "0s",
            "access_log": shared.crossings.access_log(),
        });
        let buffers = Some(32_768);
        let listeners = [listener("resets", hcm, buffers)];
        let mut cluster = plain_cluster("resets", port);
        cluster["per_connection_buffer_limit_bytes"] = json!(buffers);
        let many =
            json!({"max_connections": 10_000, "max_requests": 100_000, "max_pending_requests": 100_000});
        cluster["circuit_breakers"] = json!({"thresholds": [many]});
        let proxy = start_proxy(options.against, &listeners, &[cluster], directory);
        shared.pid.store(proxy.pid().as_raw(), Ordering::Relaxed);
        let port = proxy.listeners["resets"];
        Lab { proxy, port, ends, shared }
    }

    /// Plays one row: `client` says whether client number so and so hangs.
    fn row(&self, what: &'static str, tried: usize, client: impl Fn(&Lab, usize) -> bool + Sync) -> Row {
        self.ends.open();
        let before = Open::in_proxy(&self.proxy);
        let (next, hanging) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= tried {
                            return;
                        }
                        hanging.fetch_add(client(self, number).into(), Ordering::Relaxed);
                    }
                });
            }
        });
        let (left, took) = self.settle(before);
        self.ends.close(false);
        let (hanging, refused) = (hanging.into_inner(), self.shared.crossings.count());
        let row = Row { what, tried, hanging, refused, left, took };
        row.print();
        row
    }

    /// Waits until nothing is open that was not open before, as long as that changes. Says what is left, and how
    /// long that took.
    fn settle(&self, before: Open) -> (Open, Duration) {
        let begun = Instant::now();
        let mut left = Open::in_proxy(&self.proxy) - before;
        let mut last = (left, Instant::now());
        while !left.nothing() && last.1.elapsed() < SETTLING {
            self.ends.close_idle(); // the proxy may keep them; the others are for it to end
            thread::sleep(Duration::from_millis(20)); // there is no event for rest
            left = Open::in_proxy(&self.proxy) - before;
            if left != last.0 {
                last = (left, Instant::now());
            }
        }
        (left, begun.elapsed())
    }

    /// A connection that a worker has taken, or may not have.
    fn connect(&self, taken: bool) -> Wire {
        let mut wire = Wire::connect(self.port);
        wire.be_patient(PATIENCE);
        if taken {
            wire.send("GET /direct HTTP/1.1\r\nhost: a.test\r\n\r\n");
            assert!(wire.answer(false).ends_with(b"direct"), "a worker does not answer");
        }
        wire
    }

    /// Sends and resets: at once, so that the proxy sees both together, or so that it has seen the bytes before.
    /// Connections are new to it, or not.
    fn send_and_reset(&self, bytes: &[u8], number: usize) {
        match number % 4 {
            0 => {
                let mut wire = self.connect(false);
                wire.send(bytes);
                wire.reset();
            }
            1 => {
                let mut wire = self.connect(true);
                wire.send(bytes);
                thread::sleep(Duration::from_millis(3)); // what the proxy does with half a request is nothing
                wire.reset();
            }
            2 => {
                let mut wire = self.connect(true);
                self.shared.together(|| {
                    wire.send(bytes);
                    wire.reset();
                });
            }
            _ => self.shared.together(|| {
                let mut wire = self.connect(false);
                wire.send(bytes);
                wire.reset();
            }),
        }
    }
}

impl Row {
    fn header() {
        println!("{:<58} tried  hang  met  crossed  503  downstream  upstream  streams  fds  after", "");
    }

    fn print(&self) {
        let Open { downstream, upstream, streams, fds } = self.left;
        let Row { what, tried, hanging, refused, took, .. } = self;
        let Refused { met, crossed, behind } = refused;
        let took = took.as_secs_f64();
        println!(
            "{what:<58} {tried:>5} {hanging:>5} {met:>4} {crossed:>8} {behind:>4} {downstream:>11} {upstream:>9} {streams:>8} {fds:>4} {took:>4.1} s"
        );
    }
}

/// What the upstream does, by path.
fn serve(mut wire: Wire, id: u64, ends: &Ends, shared: &Shared) {
    wire.be_patient(Duration::from_secs(60)); // it is for the proxy to end
    loop {
        ends.set_used(id, false);
        let head = String::from_utf8_lossy(&wire.head()).into_owned();
        ends.set_used(id, true);
        let whole = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nresponse";
        let target = head.split(' ').nth(1).unwrap_or_default();
        match target.split('?').next().unwrap_or_default() {
            "/ok" => {
                if !wire.send(whole) {
                    return;
                }
            }
            "/half" => {
                wire.send(&whole[..whole.len() - 3]);
                return ends.reset(id, wire);
            }
            "/half/together" => {
                return shared.together(|| {
                    wire.send(&whole[..whole.len() - 3]);
                    ends.reset(id, wire);
                });
            }
            "/whole" => {
                ends.let_go(id);
                linger_not(&wire.stream);
                let port = wire.stream.peer_addr().map_or(0, |address| address.port());
                wire.send(whole);
                let met = has_come(&wire.stream);
                drop(wire);
                return shared.crossings.reset(port, met);
            }
            "/whole/together" => {
                return shared.together(|| {
                    wire.send(whole);
                    ends.reset(id, wire);
                });
            }
            "/silent" => {
                wire.rest();
                return;
            }
            "/stuck" => {
                // Not read until the connection is closed from outside.
                wait_for_the_end(&wire.stream);
                return;
            }
            path if path.starts_with("/idle/") => {
                wire.send(whole);
                while !lock(&shared.leaving).contains(path) {
                    thread::sleep(Duration::from_millis(1)); // the other end says when
                }
                ends.reset(id, wire);
                lock(&shared.gone).insert(path.to_string());
                return;
            }
            path if path.starts_with("/flood/") => {
                wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n"));
                fill(&mut wire.stream);
                ends.reset(id, wire);
                lock(&shared.gone).insert(path.to_string());
                return;
            }
            _ => return,
        }
    }
}

/// Whether there is something to read.
fn has_come(stream: &TcpStream) -> bool {
    let look = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    recv(stream.as_raw_fd(), &mut [0], look).is_ok_and(|bytes| bytes > 0)
}

/// Sends until nothing has been taken for a while. Nobody's socket buffers are made small for that: windows smaller
/// than a segment are filled by a timer of the kernel, which takes seconds.
fn fill(stream: &mut TcpStream) {
    stream.set_nonblocking(true).expect("no waiting");
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(50) {
        match stream.write(&[b'x'; 16_384]) {
            Ok(_) => last = Instant::now(),
            Err(e) if e.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(2)),
            Err(_) => return,
        }
    }
}

/// Waits for an end without reading what comes before it.
fn wait_for_the_end(stream: &TcpStream) {
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLHUP)];
    let _ = poll(&mut fds, PollTimeout::from(60_000_u16));
}

/// Whether a client sees no end of its connection.
fn hangs(mut wire: Wire) -> bool {
    loop {
        let since = Instant::now();
        if wire.some().is_empty() {
            return since.elapsed() >= PATIENCE;
        }
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n\r\n")
}

/// The answer to a request whose path is the only such one; one that is refused is noted.
fn ask(lab: &Lab, wire: &mut Wire, path: String) -> Vec<u8> {
    let sent = Instant::now();
    wire.send(get(&path));
    let answer = wire.answer(false);
    if answer.starts_with(REFUSED) {
        lab.shared.crossings.refuse(path, sent);
    }
    answer
}

/// The upstream resets within its response.
fn half_a_response(lab: &Lab, number: usize) -> bool {
    let mut wire = lab.connect(false);
    wire.send(get(if number.is_multiple_of(2) { "/half" } else { "/half/together" }));
    hangs(wire)
}

/// The upstream resets behind its response, together with it; the next request must not get that connection.
fn whole_response(lab: &Lab, number: usize) -> bool {
    let mut wire = lab.connect(false);
    wire.send(get("/whole/together"));
    let first = wire.answer(false);
    first.is_empty() || ask(lab, &mut wire, format!("/ok?together-{number}")).is_empty()
}

/// The upstream resets a connection that is not used, and what comes before that is the next request.
fn request_before_a_reset(lab: &Lab, number: usize) -> bool {
    let _alone = lock(&lab.shared.alone); // another's request could be given that connection before
    let mut wire = lab.connect(false);
    let path = format!("/idle/{number}");
    wire.send(get(&path));
    let first = wire.answer(false);
    let next = format!("/ok?next-{number}");
    lab.shared.together(|| {
        wire.send(get(&next));
        lock(&lab.shared.leaving).insert(path.clone());
        while !lock(&lab.shared.gone).contains(&path) {
            thread::sleep(Duration::from_millis(1));
        }
    });
    let second = wire.answer(false);
    if second.starts_with(REFUSED) {
        lab.shared.crossings.refuse(next, Instant::now());
    }
    first.is_empty() || second.is_empty()
}

/// Ten requests on one connection, behind one of which the upstream resets.
fn many_responses(lab: &Lab, number: usize) -> bool {
    let mut wire = lab.connect(false);
    (0..10).any(|request| {
        let what = if request == number % 10 { "/whole" } else { "/ok" };
        ask(lab, &mut wire, format!("{what}?{number}-{request}")).is_empty()
    })
}

/// A client resets while the proxy does not read from it, because the upstream does not read.
fn reset_by_paused_client(lab: &Lab, _: usize) -> bool {
    let mut wire = lab.connect(false);
    wire.send(format!("POST /stuck HTTP/1.1\r\nhost: a.test\r\ncontent-length: {LENGTH}\r\n\r\n"));
    fill(&mut wire.stream);
    wire.reset();
    false
}

/// An upstream resets while the proxy does not read from it, because the client does not read.
fn reset_by_paused_upstream(lab: &Lab, number: usize) -> bool {
    let mut wire = lab.connect(false);
    let path = format!("/flood/{number}");
    wire.send(get(&path));
    while !lock(&lab.shared.gone).contains(&path) {
        thread::sleep(Duration::from_millis(5)); // until everything is full, and the upstream has gone
    }
    hangs(wire)
}

#[test]
fn a_reset_is_acted_on_and_leaves_nothing_behind() {
    let options = Options::from_env();
    let (each, many) = (options.each, options.many);
    let mut lab = Lab::start(options);
    let post = b"POST /silent HTTP/1.1\r\nhost: a.test\r\ncontent-length: 100\r\n\r\nhalf";
    let aborted = |lab: &Lab, number: usize| {
        let mut wire = lab.connect(false);
        wire.send([get("/ok"), get("/direct"), "GET /ok HT".to_string()][number % 3].as_str());
        wire.reset();
        false
    };
    Row::header();
    let rows = [
        lab.row("half a response, then a reset", each, half_a_response),
        lab.row("a response and a reset together", each, whole_response),
        lab.row("a request, then a reset of an idle connection, together", each, request_before_a_reset),
        lab.row("half a head, then a reset", each, |lab, number| {
            lab.send_and_reset(b"GET /ok HTTP/1.1\r\nhost: a.t", number);
            false
        }),
        lab.row("a request, then a reset; the upstream is silent", each, |lab, number| {
            lab.send_and_reset(get("/silent").as_bytes(), number);
            false
        }),
        lab.row("half a body, then a reset; the upstream is silent", each, |lab, number| {
            lab.send_and_reset(post, number);
            false
        }),
        lab.row("a client resets while it is not read from", each, reset_by_paused_client),
        lab.row("an upstream resets while it is not read from", each, reset_by_paused_upstream),
        lab.row("connections aborted at once", many, aborted),
    ];
    let share = lab.row("ten requests, a reset behind one of the responses", many / 10, many_responses);
    assert!(lab.proxy.runs(), "the proxy has ended:\n{}", lab.proxy.log());
    for row in &rows {
        assert!(row.hanging == 0 && row.refused.all() == 0 && row.left.nothing(), "{}", row.what);
    }
    let requests = share.tried * 10;
    assert!(share.hanging == 0 && share.left.nothing() && share.refused.behind <= requests / 10_000);
}
