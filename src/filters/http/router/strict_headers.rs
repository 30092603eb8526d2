//! Requests that say how they are to be sent, and do not say it right.
//!
//! Mirrors `FilterUtility::StrictHeaderChecker` of Envoy's `source/common/router/router.cc`.

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
    pub(super) fn check<'a>(&self, headers: &'a HeaderMap) -> Result<(), (&'static str, &'a str)> {
        match headers.get(self.id) {
            None => Ok(()),
            Some(value) => {
                let value = std::str::from_utf8(value).unwrap_or_default();
                if (self.is_valid)(value) { Ok(()) } else { Err((self.id.name(), value)) }
            }
        }
    }
}
