//! Requests for a tunnel, of which nothing but the head goes out before the upstream has agreed.
//!
//! Stands where Envoy 1.40's upstream requests are paused for CONNECT or for a WebSocket; those of 1.1
//! (`source/common/router/router.cc`) send all at once.

use crate::http::{HeaderId, HeaderMap, codes, utility};

/// What the upstream has said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// The tunnel is there.
    Granted,
    /// It is not; the answer is like any other.
    Refused,
    /// Something that is no answer to a handshake: its head goes to the client, and nothing else.
    Misunderstood,
}

/// Whether a request waits for an answer.
#[inline]
pub(super) fn waits_for_answer(headers: &HeaderMap) -> bool {
    match headers.has(HeaderId::Upgrade) {
        false => headers.get(HeaderId::Method) == Some(b"CONNECT"),
        true => utility::is_upgrade(headers),
    }
}

/// What an answer of this status says to a request.
pub(super) fn of_answer(request: &HeaderMap, status: u16) -> Answer {
    let upgrade = request.get(HeaderId::Upgrade);
    match (upgrade, status) {
        (None, status) if codes::is_2xx(status) => Answer::Granted,
        (Some(_), 101) => Answer::Granted,
        (Some(upgrade), 200) if upgrade.eq_ignore_ascii_case(b"websocket") => Answer::Misunderstood,
        _ => Answer::Refused,
    }
}
