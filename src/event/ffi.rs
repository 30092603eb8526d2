//! The libevent declarations, with rustc's half of the layout check (`build.rs` has the C half).

pub use libevent_sys::*;

include!(concat!(env!("OUT_DIR"), "/layout.rs"));
