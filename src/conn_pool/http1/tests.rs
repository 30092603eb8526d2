//! Every transition of the pool, over a real loop and real sockets.
//!
//! A test plays both ends: the requests that ask the pool ([`fixture::Request`]) and the upstream that
//! answers ([`fixture::Peer`]). After each step it compares three things with what must have happened:
//! the lists, everything that was counted, and what the requests were told.

mod close;
mod drain;
mod fixture;
mod limits;
mod response;
mod streams;
