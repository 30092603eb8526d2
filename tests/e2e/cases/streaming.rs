//! Long bodies: they arrive whole, in little memory, and no faster than they are taken.

use super::endpoint;
use crate::harness::{Case, Kind, PATIENCE, Site, Wire, serve_each};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::json;
use std::fs;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const BLOCK: usize = 64 * 1024;
/// Of a long body.
const LENGTH: usize = 64 * 1024 * 1024;

/// Block `number` of a body: a rotation of the bytes that differs from that of its neighbours.
fn block(number: usize) -> Vec<u8> {
    (0..BLOCK).map(|i| (i.wrapping_mul(31) + number * 7 + (i >> 8)) as u8).collect()
}

/// A checksum that depends on the order; cheap also where nothing is optimized.
#[derive(Default)]
struct Sum {
    sum: u64,
    pending: Vec<u8>,
    length: usize,
}

impl Sum {
    fn add(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        self.pending.extend_from_slice(bytes);
        let whole = self.pending.len() / 8 * 8;
        for word in self.pending[..whole].as_chunks::<8>().0 {
            self.sum = (self.sum.rotate_left(5) ^ u64::from_ne_bytes(*word)).wrapping_mul(0x9e37_79b9);
        }
        self.pending.drain(..whole);
    }

    fn finish(&self) -> (usize, u64) {
        (self.length, self.pending.iter().fold(self.sum, |sum, &b| sum.rotate_left(8) ^ u64::from(b)))
    }
}

/// The sum of a long body.
fn expected(blocks: &[Vec<u8>]) -> (usize, u64) {
    let mut sum = Sum::default();
    (0..LENGTH / BLOCK).for_each(|number| sum.add(&blocks[number % blocks.len()]));
    sum.finish()
}

/// Sends a long body; whether it could.
fn send_body(wire: &mut Wire, chunked: bool, blocks: &[Vec<u8>]) -> bool {
    let sent = (0..LENGTH / BLOCK).all(|number| {
        let bytes = &blocks[number % blocks.len()];
        if !chunked {
            return wire.send(bytes);
        }
        wire.send(format!("{BLOCK:x}\r\n")) && wire.send(bytes) && wire.send("\r\n")
    });
    sent && (!chunked || wire.send("0\r\n\r\n"))
}

/// Receives a body framed as its head says.
fn receive_body(wire: &mut Wire, head: &[u8]) -> (usize, u64) {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let mut sum = Sum::default();
    if let Some(rest) = head.split("\r\ncontent-length: ").nth(1) {
        let length: usize = rest.split("\r\n").next().and_then(|n| n.parse().ok()).unwrap_or_default();
        take(wire, length, &mut sum);
        return sum.finish();
    }
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    loop {
        let line = wire.line();
        let size = usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("no size: {line:?}"));
        take(wire, size, &mut sum);
        assert_eq!(wire.line(), "");
        if size == 0 {
            return sum.finish();
        }
    }
}

fn take(wire: &mut Wire, mut length: usize, sum: &mut Sum) {
    while length > 0 {
        let bytes = wire.take(length.min(BLOCK));
        assert!(!bytes.is_empty(), "{length} bytes are missing");
        length -= bytes.len();
        sum.add(&bytes);
    }
}

/// `VmHWM` and the like, in KiB.
fn memory(site: &Site, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", site.proxy.pid())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).expect("a number")
}

/// Seconds of CPU that the process has used in user mode.
fn user_time(site: &Site) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", site.proxy.pid())).expect("its stat");
    let after_name = stat.rsplit(") ").next().expect("its fields");
    let ticks: f64 = after_name.split(' ').nth(11).and_then(|t| t.parse().ok()).expect("a number");
    ticks / 100.0 // USER_HZ
}

#[test]
fn long_bodies_both_ways_in_little_memory() {
    let blocks: Arc<Vec<Vec<u8>>> = Arc::new((0..5).map(block).collect());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let for_upstream = blocks.clone();
    let upstream = serve_each(listener, move |mut wire| {
        loop {
            let head = wire.head();
            if head.is_empty() {
                return;
            }
            if head.starts_with(b"POST") {
                let (length, sum) = receive_body(&mut wire, &head);
                let body = format!("{length} {sum}");
                wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
            } else {
                let chunked = head.starts_with(b"GET /untimed/chunked");
                let framing = if chunked {
                    "transfer-encoding: chunked".into()
                } else {
                    format!("content-length: {LENGTH}")
                };
                wire.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
                send_body(&mut wire, chunked, &for_upstream);
            }
        }
    });
    let expected = expected(&blocks);
    let site = Site::start(Kind::Legate, &[&Case::new("long").cluster(endpoint(upstream.port()))]);
    for (name, framing) in [
        ("chunked", "transfer-encoding: chunked".to_string()),
        ("plain", format!("content-length: {LENGTH}")),
    ] {
        let chunked = name == "chunked";
        let ends = [Wire::connect(site.port(0)), Wire::connect(site.port(0))];
        let [mut up, mut down] = ends;
        thread::scope(|scope| {
            scope.spawn(|| {
                up.send(format!("POST /untimed/{name} HTTP/1.1\r\nhost: a.test\r\n{framing}\r\n\r\n"));
                assert!(send_body(&mut up, chunked, &blocks), "{name}");
                let answer = up.answer(false);
                let body = format!("\r\n\r\n{} {}", expected.0, expected.1);
                assert!(answer.ends_with(body.as_bytes()), "{name}: {}", answer.escape_ascii());
            });
            scope.spawn(|| {
                down.send(format!("GET /untimed/{name} HTTP/1.1\r\nhost: a.test\r\n\r\n"));
                let head = down.head();
                assert_eq!(receive_body(&mut down, &head), expected, "{name}");
            });
        });
    }
    let most = memory(&site, "VmHWM");
    assert!(most < 40 * 1024, "{most} KiB");
}

/// Waits until a number has stopped growing.
fn settled(number: &AtomicU64) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    let mut last = (number.load(Ordering::Relaxed), Instant::now());
    loop {
        thread::sleep(Duration::from_millis(20)); // that nothing happens is no event
        let now = number.load(Ordering::Relaxed);
        if now != last.0 {
            last = (now, Instant::now());
        }
        if now > 0 && last.1.elapsed() > Duration::from_millis(300) {
            return now;
        }
        assert!(Instant::now() < deadline, "it still grows at {now}");
    }
}

/// Of a body that is held back: more than all buffers together can hold.
const HELD: usize = 24 * 1024 * 1024;
/// What the kernel's buffers between the two ends may hold: at most 4 MB on the way out and 6 MB on the way
/// in of each connection, and less where one end has not read at all.
const UNDER_WAY: u64 = 16 * 1024 * 1024;
/// Of each connection's buffers in the proxy.
const LIMIT: u64 = 16 * 1024;
/// What the proxy may hold: the limit may be passed by one read.
const HELD_BY_PROXY: u64 = 4 * LIMIT;

fn small_buffers(port: u16) -> Case {
    let limit = json!({"per_connection_buffer_limit_bytes": LIMIT});
    let mut cluster = endpoint(port);
    cluster["per_connection_buffer_limit_bytes"] = json!(LIMIT);
    Case::new("held back").cluster(cluster).listener(limit)
}

/// Every pause is followed by a resumption, the last one perhaps by the stream's end.
fn assert_counts(site: &Site, pause: &str, resume: &str) {
    let stats = site.proxy.admin.stats();
    let (pauses, resumes) = (stats[pause], stats[resume]);
    let open = pauses.wrapping_sub(resumes);
    assert!(pauses > 0 && open <= 1, "{pause} is {pauses}, {resume} is {resumes}");
}

/// Sends a counted body.
fn send_counted(wire: &mut Wire, sent: &AtomicU64) -> bool {
    setsockopt(&wire.stream, sockopt::SndBuf, &65536).expect("SO_SNDBUF");
    let bytes = block(0);
    (0..HELD / BLOCK).all(|_| {
        let goes_on = wire.send(&bytes);
        sent.fetch_add(BLOCK as u64, Ordering::Relaxed);
        goes_on
    })
}

#[test]
fn an_upstream_is_held_back_by_a_client_that_does_not_read() {
    let sent = Arc::new(AtomicU64::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let for_upstream = sent.clone();
    let upstream = serve_each(listener, move |mut wire| {
        wire.head();
        wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {HELD}\r\n\r\n"));
        send_counted(&mut wire, &for_upstream);
        wire.rest();
    });
    let site = Site::start(Kind::Legate, &[&small_buffers(upstream.port())]);
    let mut client = Wire::connect(site.port(0));
    client.send("GET /untimed HTTP/1.1\r\nhost: a.test\r\n\r\n");
    let held_at = settled(&sent);
    assert!(held_at < UNDER_WAY, "{held_at} bytes are under way");
    let stats = site.proxy.admin.stats();
    let buffered = stats["http.case0.downstream_cx_tx_bytes_buffered"];
    assert!(buffered > 0 && buffered <= HELD_BY_PROXY, "{buffered} bytes are buffered");
    let pauses = "cluster.case0.upstream_flow_control_paused_reading_total";
    let resumes = "cluster.case0.upstream_flow_control_resumed_reading_total";
    assert_eq!(stats[pauses], stats[resumes] + 1);
    let head = client.head();
    assert_eq!(receive_body(&mut client, &head).0, HELD);
    assert_eq!(sent.load(Ordering::Relaxed), HELD as u64);
    assert_counts(&site, pauses, resumes);
}

#[test]
fn a_client_is_held_back_by_an_upstream_that_does_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (go, may_read) = std::sync::mpsc::channel::<()>();
    let may_read = std::sync::Mutex::new(may_read);
    let upstream = serve_each(listener, move |mut wire| {
        let head = wire.head();
        let _ = may_read.lock().expect("no panic").recv_timeout(PATIENCE * 2);
        let (length, _) = receive_body(&mut wire, &head);
        let body = length.to_string();
        wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
        wire.rest();
    });
    let site = Site::start(Kind::Legate, &[&small_buffers(upstream.port())]);
    let sent = AtomicU64::new(0);
    let mut client = Wire::connect(site.port(0));
    client.send(format!("POST /untimed HTTP/1.1\r\nhost: a.test\r\ncontent-length: {HELD}\r\n\r\n"));
    thread::scope(|scope| {
        scope.spawn(|| {
            assert!(send_counted(&mut client, &sent));
            let answer = client.answer(false);
            let body = format!("\r\n\r\n{HELD}");
            assert!(answer.ends_with(body.as_bytes()), "{}", answer.escape_ascii());
        });
        let held_at = settled(&sent);
        let buffered = site.proxy.admin.stat("cluster.case0.upstream_cx_tx_bytes_buffered");
        go.send(()).expect("the upstream waits");
        assert!(buffered.is_some_and(|n| n > 0 && n <= HELD_BY_PROXY), "{buffered:?} bytes are buffered");
        assert!(held_at < UNDER_WAY, "{held_at} bytes are under way");
    });
    assert_counts(
        &site,
        "cluster.case0.upstream_flow_control_backed_up_total",
        "cluster.case0.upstream_flow_control_drained_total",
    );
    assert_counts(
        &site,
        "http.case0.downstream_flow_control_paused_reading_total",
        "http.case0.downstream_flow_control_resumed_reading_total",
    );
}

#[test]
fn a_head_that_comes_byte_by_byte_is_not_read_again_and_again() {
    let many = json!({"common_http_protocol_options": {"max_headers_count": 10_000}});
    let site = Site::start(Kind::Legate, &[&Case::new("slow").hcm(many)]);
    let mut client = Wire::connect(site.port(0));
    let before = user_time(&site);
    // Short lines: each is a step for who reads the head again.
    let request = format!("GET /direct HTTP/1.1\r\nhost: a.test\r\n{}\r\n", "f: v\r\n".repeat(8_300));
    assert!(request.len() > 49_000);
    for (at, byte) in request.as_bytes().chunks(1).enumerate() {
        assert!(client.send(byte));
        // The last ones come so slowly that each is read on its own.
        let pause = Duration::from_micros(if at + 3_000 < request.len() { 5 } else { 400 });
        let sent = Instant::now();
        while sent.elapsed() < pause {
            std::hint::spin_loop();
        }
    }
    assert!(client.answer(false).ends_with(b"direct"));
    let used = user_time(&site) - before;
    assert!(used < 0.6, "{used} s of CPU");
}
