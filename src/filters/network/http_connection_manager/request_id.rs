//! How requests get their ids.
//!
//! Mirrors `UUIDRequestIDExtension` of Envoy 1.40's `source/extensions/request_id/uuid/config.cc`. Whether a request is
//! traced is packed into an id where something is traced.

use std::sync::Arc;

use crate::common::uuid::random_uuid;
use crate::config::extension::Factory;
use crate::http::{HeaderId, HeaderMap};
use crate::message;

message! {
    /// The id is a UUID of version 4.
    #[derive(Eq)]
    pub struct UuidRequestIdConfig = "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig" {
        /// An id says why its request is traced; default true.
        pub pack_trace_reason: bool = true,
        /// Requests are chosen for traces by their ids; default true. There are no traces yet.
        pub use_request_id_for_trace_sampling: bool = true,
    }
}

/// Makes ids as its configuration says.
pub type RequestIdFactory = Factory<UuidRequestIdConfig>;

/// The only way there is.
pub static UUID: RequestIdFactory = Factory::new(
    "envoy.request_id.uuid",
    &["envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig"],
    |r| Ok(Arc::new(crate::config::reader::FromMessage::read(r)?)),
);

/// Where a UUID says why its request is traced, and what it says where it is not.
const TRACE_BYTE: usize = 14;
const UUID_LENGTH: usize = 36;
const NO_TRACE: u8 = b'4';

impl UuidRequestIdConfig {
    /// Gives a request an id where it has none, or one from outside that is not to be kept.
    #[inline]
    pub(super) fn set(&self, headers: &mut HeaderMap, is_edge: bool, keep_external_id: bool) {
        let has_id = headers.get(HeaderId::RequestId).is_some_and(|id| !id.is_empty());
        if !has_id || (is_edge && !keep_external_id) {
            headers.set(HeaderId::RequestId, &random_uuid());
        } else if is_edge && self.pack_trace_reason {
            forget_trace(headers);
        }
    }
}

/// An id from outside does not decide what is traced.
#[cold]
fn forget_trace(headers: &mut HeaderMap) {
    let mut id = headers.get(HeaderId::RequestId).unwrap_or_default().to_vec();
    if id.len() == UUID_LENGTH {
        id[TRACE_BYTE] = NO_TRACE;
        headers.set(HeaderId::RequestId, &id);
    }
}
