//! What any floor may need and what knows none of them.

pub mod appended;
pub mod backoff_strategy;
pub mod base64;
mod callback_manager;
pub mod free_lists;
pub mod linked_list;
mod local;
pub mod murmur;
pub mod percent;
pub mod re2;
pub mod regex;
pub mod resident;
pub mod socket_io;
mod ticks;
pub mod token_bucket;
mod utc_time;
pub mod uuid;
pub mod xxhash;

pub use callback_manager::{CallbackHandle, CallbackManager};
pub use local::Local;
pub(crate) use ticks::ticks;
pub(crate) use utc_time::UtcTime;
