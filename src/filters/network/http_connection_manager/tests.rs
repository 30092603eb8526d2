//! What the filters of a stream see, frame by frame, of what the codec and each other do.
//!
//! Mostly Envoy's `test/common/http/conn_manager_impl_test.cc`, in the words of [`fixture`].

mod decode;
mod encode;
mod fixture;
mod multiplexed;
mod recreate;
mod reply;
mod route;
