//! The libevent declarations, with rustc's half of the layout check (`build.rs` has the C half).

pub use libevent_sys::*;

include!(concat!(env!("OUT_DIR"), "/layout.rs"));

// What the generated bindings leave out.
unsafe extern "C" {
    /// The name of what the base asks for events with; static.
    pub fn event_base_get_method(base: *const event_base) -> *const std::ffi::c_char;
}
