//! What a codec looks at in a request's head before anyone else sees it.
//!
//! Mirrors `ConnectionImpl::onHeadersCompleteBase` and `ServerConnectionImpl::onHeadersComplete` of Envoy's
//! `source/common/http/http1/codec_impl.cc`; the checks and their order are those of 1.40.

use super::body::{BAD_TRANSFER_ENCODING, BodyState, Framing, framing};
use super::chunk::ChunkDecoder;
use super::codec_stats::CodecStats;
use super::connection::State;
use super::head::HeadError;
use super::server::Http1Settings;
use crate::config::HeadersWithUnderscoresAction;
use crate::envoy_conn_log;
use crate::http::header_utility::match_string;
use crate::http::{HeaderId, HeaderMap, Protocol, url, utility};

const UNDERSCORE: HeadError = HeadError {
    status: 400,
    details: "http1.unexpected_underscore",
    text: "header name contains underscores",
};
const BODY_DISALLOWED: HeadError =
    HeadError { status: 400, details: "http1.body_disallowed", text: "unsupported content length" };
const CONNECTION_REJECTED: HeadError = HeadError {
    status: 400,
    details: "http1.connection_header_rejected",
    text: "Invalid nominated headers in Connection.",
};
const BAD_URL: HeadError =
    HeadError { status: 400, details: "http1.invalid_url", text: "invalid url in request line" };
const BAD_SCHEME: HeadError =
    HeadError { status: 400, details: "http1.invalid_scheme", text: "invalid scheme" };
const HTTPS_IN_PLAINTEXT: HeadError =
    HeadError { status: 403, details: "http1.https_url_on_plaintext_connection", text: "https in the clear" };
const LOW_VERSION: HeadError =
    HeadError { status: 426, details: "low_version", text: "Upgrade required for HTTP/1.0 or HTTP/0.9" };
const BAD_AUTHORITY: HeadError = HeadError {
    status: 400,
    details: "http.invalid_authority",
    text: "request headers failed spec compliance checks",
};

/// The head of one request on its way through the checks.
pub(super) struct RequestHead<'a> {
    pub headers: &'a mut HeaderMap,
    pub protocol: Protocol,
    pub settings: &'a Http1Settings,
    pub connection_id: u64,
}

impl RequestHead<'_> {
    fn is_connect(&self) -> bool {
        self.headers.get(HeaderId::Method) == Some(b"CONNECT")
    }

    /// Checks the head and says what follows it.
    pub(super) fn complete(mut self) -> Result<State, HeadError> {
        let framing = framing(self.headers, self.settings.allow_chunked_length)?;
        let is_connect = self.is_connect();
        if is_connect {
            self.check_connect_framing(framing)?;
        }
        let upgrade = is_connect || self.takes_upgrade();
        if framing == Framing::Chunked {
            self.headers.remove(HeaderId::ContentLength);
        }
        if !upgrade {
            self.sanitize_connection()?;
        }
        self.handle_path(is_connect)?;
        self.check_version()?;
        let authority = self.headers.get(HeaderId::Authority).unwrap_or_default();
        if !url::has_authority_bytes(authority) {
            return Err(BAD_AUTHORITY);
        }
        Ok(match framing {
            _ if upgrade => State::Upgraded,
            Framing::Unstated | Framing::Length(0) => State::Head,
            Framing::Length(length) => State::Body(BodyState::Length(length)),
            Framing::Chunked => State::Body(BodyState::Chunked(ChunkDecoder::new())),
        })
    }

    /// What a CONNECT would have as its body has no meaning (RFC 9110 section 9.3.6).
    fn check_connect_framing(&mut self, framing: Framing) -> Result<(), HeadError> {
        match framing {
            Framing::Unstated => {}
            Framing::Length(0) => self.headers.remove(HeaderId::ContentLength),
            Framing::Length(_) => return Err(BODY_DISALLOWED),
            Framing::Chunked => return Err(BAD_TRANSFER_ENCODING),
        }
        envoy_conn_log!(Http, trace, self.connection_id, "codec entering upgrade mode for CONNECT request.");
        Ok(())
    }

    /// Whether all that follows belongs to another protocol. An offer of HTTP/2 is dropped instead.
    fn takes_upgrade(&mut self) -> bool {
        if !utility::is_upgrade(self.headers) {
            return false;
        }
        if !self.headers.get(HeaderId::Upgrade).is_some_and(|u| u.eq_ignore_ascii_case(b"h2c")) {
            if !self.settings.ignore_http_11_upgrade.is_empty() && !self.keeps_offers() {
                return false;
            }
            envoy_conn_log!(Http, trace, self.connection_id, "codec entering upgrade mode.");
            return true;
        }
        envoy_conn_log!(Http, trace, self.connection_id, "removing unsupported h2c upgrade headers.");
        self.headers.remove(HeaderId::Upgrade);
        self.headers.remove(HeaderId::Http2Settings);
        utility::remove_connection_tokens(self.headers, &["upgrade", "http2-settings"]);
        false
    }

    /// Drops offers that nobody is to see, and says whether there are others.
    fn keeps_offers(&mut self) -> bool {
        let offered = self.headers.get(HeaderId::Upgrade).unwrap_or_default();
        let is_ignored = |offer: &[u8]| {
            let ignored = &self.settings.ignore_http_11_upgrade;
            offer.is_empty() || ignored.iter().any(|matcher| match_string(offer, matcher))
        };
        let offers = offered.split(|b| *b == b',').map(<[u8]>::trim_ascii);
        let kept: Vec<&[u8]> = offers.filter(|offer| !is_ignored(offer)).collect();
        if kept.is_empty() {
            self.headers.remove(HeaderId::Upgrade);
            utility::remove_connection_tokens(self.headers, &["upgrade", "http2-settings"]);
            return false;
        }
        let kept = kept.join(&b","[..]);
        self.headers.set(HeaderId::Upgrade, &kept);
        true
    }

    fn sanitize_connection(&mut self) -> Result<(), HeadError> {
        if utility::sanitize_connection(self.headers) {
            return Ok(());
        }
        let value = self.headers.get(HeaderId::Connection).unwrap_or_default();
        let value = String::from_utf8_lossy(value);
        let id = self.connection_id;
        envoy_conn_log!(Http, debug, id, "Invalid nominated headers in Connection: {}", value);
        Err(CONNECTION_REJECTED)
    }

    /// Turns an absolute URL into authority and path, where that is allowed, and the target of a CONNECT
    /// into an authority (RFC 9112 section 3.2).
    fn handle_path(&mut self, is_connect: bool) -> Result<(), HeadError> {
        let target = self.headers.get(HeaderId::Path).unwrap_or_default();
        if is_connect {
            if !url::is_host_and_port(target) {
                return Err(BAD_URL);
            }
            let authority = target.to_vec();
            self.headers.set(HeaderId::Authority, &authority);
            self.headers.remove(HeaderId::Path);
            return Ok(());
        }
        let star = target.starts_with(b"*") && self.headers.get(HeaderId::Method) == Some(b"OPTIONS");
        if target.starts_with(b"/") || star || !self.settings.allow_absolute_url {
            return Ok(());
        }
        let (authority, path) = url::split_absolute(target).ok_or(BAD_URL)?;
        let scheme = match url::http_scheme(target) {
            None => return Err(BAD_SCHEME),
            Some("https") if self.settings.validate_scheme => return Err(HTTPS_IN_PLAINTEXT),
            Some(scheme) => scheme,
        };
        let (authority, path) = (authority.to_vec(), path.to_vec());
        self.headers.set(HeaderId::Authority, &authority);
        self.headers.set(HeaderId::Path, &path);
        self.headers.set(HeaderId::Scheme, scheme.as_bytes());
        Ok(())
    }

    fn check_version(&mut self) -> Result<(), HeadError> {
        if self.protocol != Protocol::Http10 {
            return Ok(());
        }
        if !self.settings.accept_http_10 {
            return Err(LOW_VERSION);
        }
        let default = &self.settings.default_host_for_http_10;
        if !default.is_empty() && !self.headers.has(HeaderId::Authority) {
            self.headers.set(HeaderId::Authority, default.as_bytes());
        }
        Ok(())
    }
}

/// Does with fields whose names have underscores what the configuration wants.
pub(super) fn apply_underscore_action(
    headers: &mut HeaderMap,
    settings: &Http1Settings,
    stats: &CodecStats,
    connection_id: u64,
) -> Result<(), HeadError> {
    let action = settings.headers_with_underscores_action;
    if action == HeadersWithUnderscoresAction::Allow {
        return Ok(());
    }
    let has_underscore = |name: &[u8]| name.contains(&b'_');
    for (name, _) in headers.iter().filter(|(name, _)| has_underscore(name)) {
        let name = String::from_utf8_lossy(name);
        if action == HeadersWithUnderscoresAction::RejectRequest {
            envoy_conn_log!(
                Http,
                debug,
                connection_id,
                "Rejecting request due to header name with underscores: {}",
                name
            );
            stats.requests_rejected_with_underscores_in_headers.inc();
            return Err(UNDERSCORE);
        }
        envoy_conn_log!(
            Http,
            debug,
            connection_id,
            "Dropping header with invalid characters in its name: {}",
            name
        );
        stats.dropped_headers_with_underscores.inc();
    }
    headers.remove_if(has_underscore);
    Ok(())
}
