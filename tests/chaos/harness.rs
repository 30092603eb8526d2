//! The parts of the end-to-end tests' harness that these tests stand on.

#[path = "../e2e/harness/action.rs"]
pub mod action;
#[path = "../e2e/harness/admin.rs"]
pub mod admin;
#[path = "../e2e/harness/board.rs"]
pub mod board;
#[path = "../e2e/harness/proxy.rs"]
pub mod proxy;
#[path = "../e2e/harness/wire.rs"]
pub mod wire;

pub use admin::Admin;
pub use proxy::{Kind, Launch, Proxy, new_directory};
