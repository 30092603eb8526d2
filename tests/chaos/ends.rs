//! The connections of an upstream, kept together so that all of them can be ended from outside.

use super::harness::wire::Wire;
use nix::sys::socket::{Backlog, setsockopt, sockopt};
use std::collections::HashMap;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

/// A mutex is still good when a thread has panicked with it.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Makes the end of a connection a reset.
pub fn linger_not(stream: &TcpStream) {
    let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(stream, sockopt::Linger, &at_once).expect("SO_LINGER");
}

struct End {
    stream: TcpStream,
    /// A request has come on it.
    used: bool,
}

/// The open connections of a listener.
#[derive(Default)]
pub struct Ends {
    open: Mutex<HashMap<u64, End>>,
    /// Every connection is closed as soon as it comes.
    closing: AtomicBool,
}

impl Ends {
    /// Takes connections.
    pub fn open(&self) {
        self.closing.store(false, Ordering::SeqCst);
    }

    /// Closes every connection, with resets if asked to, and those that still come.
    pub fn close(&self, reset: bool) {
        self.closing.store(true, Ordering::SeqCst);
        for end in lock(&self.open).values() {
            if reset {
                linger_not(&end.stream);
            }
            let _ = end.stream.shutdown(if reset { Shutdown::Read } else { Shutdown::Both }); // wakes its thread
        }
    }

    /// Closes the connections that no request uses.
    pub fn close_idle(&self) {
        for end in lock(&self.open).values().filter(|end| !end.used) {
            let _ = end.stream.shutdown(Shutdown::Both);
        }
    }

    /// A request has come on a connection, or its response has gone.
    pub fn set_used(&self, id: u64, used: bool) {
        if let Some(end) = lock(&self.open).get_mut(&id) {
            end.used = used;
        }
    }

    /// Leaves a connection to its thread, whose descriptor is the last one from now on.
    pub fn let_go(&self, id: u64) {
        lock(&self.open).remove(&id);
    }

    /// Resets a connection that its thread serves with `wire`.
    pub fn reset(&self, id: u64, wire: Wire) {
        self.let_go(id); // the last descriptor's end is the reset
        wire.reset();
    }
}

/// Listens on a free port and serves each connection in a thread of its own, as long as the test process
/// lives. `serve` gets the connection's number in `ends`.
pub fn listen(ends: &Arc<Ends>, serve: impl Fn(Wire, u64) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("an upstream port");
    // One that overflows leaves connections that only the other end knows of.
    nix::sys::socket::listen(&listener, Backlog::MAXALLOWABLE).expect("a long queue");
    let port = listener.local_addr().expect("its address").port();
    let (ends, serve) = (ends.clone(), Arc::new(serve));
    thread::spawn(move || {
        for (id, stream) in (0..).zip(listener.incoming()) {
            let Ok(stream) = stream else { continue };
            let end = End { stream: stream.try_clone().expect("a second descriptor"), used: false };
            lock(&ends.open).insert(id, end);
            if ends.closing.load(Ordering::SeqCst) {
                lock(&ends.open).remove(&id);
                continue;
            }
            let (ends, serve) = (ends.clone(), serve.clone());
            thread::spawn(move || {
                serve(Wire::new(stream), id);
                lock(&ends.open).remove(&id);
            });
        }
    });
    port
}
