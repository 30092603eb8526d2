//! How requests get their ids.
//!
//! Mirrors `UUIDRequestIDExtension` of Envoy 1.40's `source/extensions/request_id/uuid/config.cc`. Whether a request is
//! traced is packed into an id where something is traced.

use std::sync::Arc;

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

/// A version 4 UUID in its text form.
fn random_uuid() -> [u8; 36] {
    let random = fastrand::u128(..);
    let bits = random & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let [first, second, third, last] =
        [bits >> 96, bits >> 64, bits >> 32, bits].map(|bits| hex_digits(bits as u32));
    let mut text = [b'-'; 36];
    text[..8].copy_from_slice(&first);
    text[9..13].copy_from_slice(&second[..4]);
    text[14..18].copy_from_slice(&second[4..]);
    text[19..23].copy_from_slice(&third[..4]);
    text[24..28].copy_from_slice(&third[4..]);
    text[28..].copy_from_slice(&last);
    text
}

/// A number's digits, all of them worked out at a time.
#[inline(always)]
fn hex_digits(number: u32) -> [u8; 8] {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let apart = u64::from(number);
    let apart = (apart | apart << 16) & 0x0000_ffff_0000_ffff;
    let apart = (apart | apart << 8) & 0x00ff_00ff_00ff_00ff;
    let apart = (apart | apart << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let is_letter = (apart + 6 * ONES) >> 4 & ONES;
    (apart + u64::from(b'0') * ONES + is_letter * u64::from(b'a' - 10 - b'0')).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_their_form() {
        let text = String::from_utf8(random_uuid().to_vec()).unwrap();
        let parts: Vec<usize> = text.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(&text[14..15], "4");
        assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"));
        assert!(text.bytes().all(|b| matches!(b, b'-' | b'0'..=b'9' | b'a'..=b'f')));
        assert_ne!(random_uuid(), random_uuid());
    }

    #[test]
    fn digits_are_those_of_the_number() {
        for number in [0, 0x0123_4567, 0x89ab_cdef, u32::MAX].into_iter().chain((0..32).map(|bit| 1 << bit)) {
            assert_eq!(&hex_digits(number), format!("{number:08x}").as_bytes());
        }
    }
}
