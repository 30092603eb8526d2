//! What has to be ready before something can serve: targets, a manager that waits for them, and who is told.
//!
//! Envoy's namespace `Init`. All of it is for the main thread alone.

mod manager;
mod target;
mod watcher;

pub use manager::{ManagerImpl, State};
pub use target::TargetImpl;
pub use watcher::WatcherImpl;
