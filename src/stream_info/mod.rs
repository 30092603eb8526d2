//! What is known of a stream: for its access log, for what is printed of it elsewhere, and for its filters.
//!
//! Mirrors Envoy's `source/common/stream_info/`. It stands above the floors whose things it names, so that a stream's
//! record may have them; connections and codecs do not know of it.

mod filter_state;
mod matchers;
mod response_flag;
mod route;
mod stream_info_impl;

pub use filter_state::{FilterState, Object};
pub use response_flag::ResponseFlag;
pub use route::Route;
pub use stream_info_impl::StreamInfoImpl;
