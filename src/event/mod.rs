//! The event layer: thin safe wrappers over libevent.
//!
//! Mirrors Envoy's `source/common/event/`. A [`Dispatcher`] owns one `event_base`; everything made
//! from it ([`FileEvent`], [`Timer`], [`SignalEvent`], [`Listener`]) belongs to the thread that runs
//! it, which Rust enforces because none of these types is `Send` (Envoy asserts it at run time).
//! Only [`DispatcherHandle`] crosses threads, and only to `post` and to `exit`; and [`Pulse`], to look at.
//!
//! But for one instruction in `common/ticks.rs` this is the only module of legate with `unsafe` code. Four rules keep it sound:
//! - what libevent points at lives in an `Rc` allocation and so never moves;
//! - what is watched owns its socket, so that the fd is open for as long as libevent knows it;
//! - dropping a wrapper runs `event_del` before its memory can go;
//! - a trampoline holds its own reference, so a callback may drop the wrapper it runs for.
//!
//! A panic in a callback is caught at the border to C, the loop is broken, and the panic goes on
//! from [`Dispatcher::run`].
#![allow(unsafe_code)]

mod cell;
mod clock;
mod dispatcher;
mod dns;
mod epoll;
mod ffi;
mod file_event;
mod libevent;
mod listener;
mod post_queue;
mod pulse;
mod signal;
mod socket_option;
#[cfg(test)]
mod tests;
mod timeout;
mod timer;
mod waker;

pub use clock::Moment;
pub use clock::now;
pub use dispatcher::{DeferredDeletable, Dispatcher, DispatcherHandle, RunEnd, RunType};
pub use dns::{
    DnsAnswer, DnsCallback, DnsChannel, DnsError, DnsOptions, DnsQuery, DnsRecord, MAX_ADDRESSES,
    WeakDnsChannel,
};
pub use file_event::{CLOSED, FileEvent, READ, WRITE};
pub use libevent::global_init;
pub use listener::{AcceptedFd, Listener};
pub use pulse::Pulse;
pub use signal::SignalEvent;
pub use socket_option::set_socket_option;
pub use timeout::{Timeout, TimeoutCallbacks};
pub use timer::Timer;
