//! Requests that say how they are to be sent, and do not say it right.
//!
//! Mirrors `FilterUtility::StrictHeaderChecker` of Envoy's `source/common/router/router.cc`.

use std::borrow::Cow;

use crate::http::{HeaderId, HeaderMap};
use crate::router::RetryOn;

/// A header that is looked at before the request goes on.
#[derive(Clone, Copy)]
pub(super) struct StrictHeader {
    id: HeaderId,
    is_valid: fn(&str) -> bool,
}

const ALL: [StrictHeader; 5] = [
    StrictHeader { id: HeaderId::EnvoyUpstreamRequestTimeoutMs, is_valid: is_integer },
    StrictHeader { id: HeaderId::EnvoyUpstreamRequestPerTryTimeoutMs, is_valid: is_integer },
    StrictHeader { id: HeaderId::EnvoyMaxRetries, is_valid: is_integer },
    StrictHeader { id: HeaderId::EnvoyRetryOn, is_valid: RetryOn::are_http },
    StrictHeader { id: HeaderId::EnvoyRetryGrpcOn, is_valid: RetryOn::are_grpc },
];

fn is_integer(value: &str) -> bool {
    value.trim().parse::<u64>().is_ok()
}

/// Those of these names; the API has no others.
pub(super) fn strict_headers(names: &[String]) -> Box<[StrictHeader]> {
    let of = |name: &String| ALL.into_iter().find(|header| header.id.name() == name.as_str());
    names.iter().filter_map(of).collect()
}

impl StrictHeader {
    /// Its name and its value, if that is wrong.
    pub(super) fn check<'a>(&self, headers: &'a HeaderMap) -> Result<(), (&'static str, Cow<'a, str>)> {
        let Some(value) = headers.get(self.id) else { return Ok(()) };
        match std::str::from_utf8(value) {
            Ok(text) if (self.is_valid)(text) => Ok(()),
            _ => Err((self.id.name(), String::from_utf8_lossy(value))),
        }
    }
}
