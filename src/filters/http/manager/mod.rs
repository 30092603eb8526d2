//! The filter manager: the HTTP filters of one stream, and the way of its request and response along them.
//!
//! Mirrors what in Envoy 1.1 is a part of `ActiveStream` (`source/common/http/conn_manager_impl.h`), and since 1.16 stands
//! by itself, in filter_manager.cc. Whose stream it is, is not known here: an owner of streams implements
//! [`FilterManagerCallbacks`].
//!
//! Deliberately different: the iteration is written once for both ways ([`Direction`](direction::Direction)), and a
//! filter's way back is a value, not an object of its own. No callback borrows what a filter was given, so that a filter
//! may have hold of it meanwhile; what would call other filters waits until the call to the filter returns.

mod active_filter;
mod buffering;
mod callbacks;
mod direction;
mod filter_manager;
mod host;
mod iteration;
mod local_reply;

pub use callbacks::{FilterCallbacks, StreamDecoderFilterCallbacks, StreamEncoderFilterCallbacks};
pub use direction::{Decode, Encode};
pub use filter_manager::FilterManager;
pub use host::{FilterManagerCallbacks, LocalReplyContent};
