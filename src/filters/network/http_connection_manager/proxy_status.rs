//! The `proxy-status` header, by which an answer that is made here says what went wrong (RFC 9209).
//!
//! Mirrors `ProxyStatusUtils` of Envoy 1.40's `source/common/stream_info/utility.cc`.

use crate::config::error::ConfigError;
use crate::config::reader::MessageReader;
use crate::http::HeaderMap;
use crate::message;
use crate::stream_info::{ResponseFlag, StreamInfoImpl};

const PROXY_STATUS: &str = "proxy-status";

message! {
    /// What is said.
    #[derive(Eq)]
    pub struct ProxyStatusConfig = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.ProxyStatusConfig" {
        /// Nothing but the kind of error.
        pub remove_details: bool,
        /// Not how the connection ended.
        pub remove_connection_termination_details: bool,
        /// Not which flags the access log has.
        pub remove_response_flags: bool,
        /// The status becomes the one that the RFC recommends.
        pub set_recommended_response_code: bool,
        /// How the proxy calls itself.
        pub proxy_name: ProxyName => read_name,
    }
}

/// How the proxy calls itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ProxyName {
    /// As in `server`.
    #[default]
    ServerName,
    /// As its node is called.
    NodeId,
    /// So.
    Literal(String),
}

fn read_name(r: &mut MessageReader<'_>, _: &str) -> Result<ProxyName, ConfigError> {
    Ok(match r.at_most_one(&["use_node_id", "literal_proxy_name"])? {
        None => ProxyName::ServerName,
        Some("use_node_id") if r.bool("use_node_id")? => ProxyName::NodeId,
        Some("use_node_id") => ProxyName::ServerName,
        Some(_) => ProxyName::Literal(r.string("literal_proxy_name")?),
    })
}

/// What is said, with the name worked out.
pub struct ProxyStatus {
    config: ProxyStatusConfig,
    name: String,
}

/// What an error is called, and the status that is recommended for it.
type Error = (&'static str, Option<u16>);

const DESTINATION_UNAVAILABLE: Error = ("destination_unavailable", Some(503));
const CONNECTION_TERMINATED: Error = ("connection_terminated", Some(502));
const CONNECTION_LIMIT_REACHED: Error = ("connection_limit_reached", Some(503));
const CONNECTION_TIMEOUT: Error = ("connection_timeout", Some(504));
const HTTP_REQUEST_ERROR: Error = ("http_request_error", None);
const HTTP_RESPONSE_TIMEOUT: Error = ("http_response_timeout", Some(504));

/// The flags that make an error, and which; the first that is set counts.
const ERRORS: [(ResponseFlag, Error); 19] = [
    (ResponseFlag::FailedLocalHealthCheck, DESTINATION_UNAVAILABLE),
    (ResponseFlag::NoHealthyUpstream, DESTINATION_UNAVAILABLE),
    (ResponseFlag::UpstreamRequestTimeout, HTTP_RESPONSE_TIMEOUT),
    (ResponseFlag::LocalReset, CONNECTION_TIMEOUT),
    (ResponseFlag::UpstreamRemoteReset, CONNECTION_TERMINATED),
    (ResponseFlag::UpstreamConnectionFailure, ("connection_refused", Some(502))),
    (ResponseFlag::UpstreamConnectionTermination, CONNECTION_TERMINATED),
    (ResponseFlag::UpstreamOverflow, CONNECTION_LIMIT_REACHED),
    (ResponseFlag::NoRouteFound, ("destination_not_found", Some(500))),
    (ResponseFlag::RateLimited, CONNECTION_LIMIT_REACHED),
    (ResponseFlag::RateLimitServiceError, CONNECTION_LIMIT_REACHED),
    (ResponseFlag::UpstreamRetryLimitExceeded, DESTINATION_UNAVAILABLE),
    (ResponseFlag::StreamIdleTimeout, HTTP_RESPONSE_TIMEOUT),
    (ResponseFlag::InvalidEnvoyRequestHeaders, HTTP_REQUEST_ERROR),
    (ResponseFlag::DownstreamProtocolError, HTTP_REQUEST_ERROR),
    (ResponseFlag::UpstreamMaxStreamDurationReached, HTTP_RESPONSE_TIMEOUT),
    (ResponseFlag::NoFilterConfigFound, ("proxy_configuration_error", Some(500))),
    (ResponseFlag::UpstreamProtocolError, ("http_protocol_error", Some(502))),
    (ResponseFlag::NoClusterFound, DESTINATION_UNAVAILABLE),
];

impl ProxyStatus {
    pub(super) fn new(config: &ProxyStatusConfig, server_name: &str, node_id: &str) -> Self {
        let name = match &config.proxy_name {
            ProxyName::ServerName => server_name,
            ProxyName::NodeId => node_id,
            ProxyName::Literal(name) => name,
        };
        ProxyStatus { config: config.clone(), name: name.to_string() }
    }

    /// Says in the head of a response what went wrong, if anything did.
    pub(super) fn apply(&self, headers: &mut HeaderMap, info: &StreamInfoImpl) {
        let Some((_, (error, status))) = ERRORS.iter().find(|(flag, _)| info.has_response_flag(*flag)) else {
            return;
        };
        let mut value = format!("{}; error={error}", self.name);
        let details = info.response_code_details();
        if !self.config.remove_details && !details.is_empty() {
            value += &format!("; details=\"{details}");
            if !self.config.remove_response_flags && info.has_any_response_flag() {
                let flags: Vec<_> = info.response_flags().map(ResponseFlag::as_str).collect();
                value += &format!("; {}", flags.join(","));
            }
            value.push('"');
        }
        if let Some(before) = headers.get_all(PROXY_STATUS).next() {
            value = format!("{}, {value}", String::from_utf8_lossy(before));
        }
        headers.remove_by_name(PROXY_STATUS.as_bytes());
        headers.add(PROXY_STATUS, value.as_bytes());
        if let Some(status) = status.filter(|_| self.config.set_recommended_response_code) {
            headers.set_status(status);
        }
    }
}
