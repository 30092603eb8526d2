//! The libevent declarations, with rustc's half of the layout check (`build.rs` has the C half).

pub use libevent_sys::*;

include!(concat!(env!("OUT_DIR"), "/layout.rs"));

/// The declarations of libevent's DNS client.
#[expect(non_camel_case_types, non_upper_case_globals, reason = "C's names")]
mod dns {
    use super::{event_base, sockaddr};
    include!("../../ffi/dns.rs");
}

pub use dns::*;

// What the generated bindings leave out.
unsafe extern "C" {
    /// The name of what the base asks for events with; static.
    pub fn event_base_get_method(base: *const event_base) -> *const std::ffi::c_char;
}
