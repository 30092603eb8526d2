//! The HTTP/1 pool: each connection serves one request at a time.
//!
//! Mirrors Envoy's `source/common/http/http1/conn_pool.cc` and `conn_pool_base.cc`, with the three lists
//! of mainline Envoy at that time: `pending_requests_`, `busy_clients_`, `ready_clients_` (istio's
//! branch had a fourth one for a while).
//!
//! ```text
//!              newStream, ready empty                    response complete, reusable
//!   (new) ───────────────────────────► busy ◄──────────► ready
//!                        connecting ─┐  ▲ └ serving       │ newStream, or onUpstreamReady
//!                                    └──┘ Connected,      │ with a request pending
//!                                         one pending     ▼
//!                          any close: deferred delete ── (gone)
//! ```
//!
//! A client that has just answered goes to `ready_clients_`, but a request that is already pending
//! gets it only after the loop has polled again, so that an upstream FIN which the kernel already
//! holds is seen first. Envoy arms a 0 ms timer for this, which libevent runs in the same pass,
//! before any poll. Here the timer is added with `event_add` and a timeout of zero
//! ([`crate::event::Timer::enable_after_poll`]): libevent collects due timers after `epoll_wait`
//! and queues them behind the fd events which that call brought.

mod active_client;
mod pool;
#[cfg(test)]
mod tests;

pub use pool::ConnPoolImpl;
