//! `envoy.config.core.v3.HealthCheck`: how hosts are asked whether they are well.

use std::time::Duration;

use super::error::ConfigError;
use super::extension::{Category, TypedConfig};
use super::header_matcher::StringMatcher;
use super::reader::{EnumTable, FromMessage, MessageReader};
use super::route::{HeaderMutations, read_mutations};
use super::scalar;
use crate::{enum_fields, message, one_of};

/// Between two checks of a cluster that nobody has asked for anything, where nothing else is said.
const DEFAULT_NO_TRAFFIC_INTERVAL: Duration = Duration::from_secs(60);

/// How much of an answer is searched, in bytes, where nothing else is said.
const DEFAULT_RESPONSE_BUFFER_SIZE: u64 = 1024;

message! {
    /// Of all kinds of checks. An interval that is absent is as long as another one, see the methods.
    pub message HealthCheck = "envoy.config.core.v3.HealthCheck" {
        /// Tells those of one cluster apart.
        pub name: String,
        /// How long an answer may take; more than zero.
        pub timeout: Duration,
        /// From one check to the next; more than zero.
        pub interval: Duration,
        /// The first check is put off by less than that; default 0.
        pub initial_jitter: Duration,
        /// What is added to each interval is less than that; default 0.
        pub interval_jitter: Duration,
        /// The same in percent of the interval.
        pub interval_jitter_percent: u32,
        /// So many failures in a row, of those that count in a row, before a host is unhealthy; at least 1.
        pub unhealthy_threshold: u32,
        /// So many successes in a row before it is healthy again; at least 1.
        pub healthy_threshold: u32,
        /// Has no effect, as in Envoy: where a host is asked, the host says.
        pub alt_port: Option<u32>,
        /// Whether the next check uses the connection again; default true.
        pub reuse_connection: bool = true,
        /// While the cluster has never had a connection; default 60 s.
        pub no_traffic_interval: Duration = DEFAULT_NO_TRAFFIC_INTERVAL,
        /// The same for healthy hosts.
        pub no_traffic_healthy_interval: Option<Duration>,
        /// Of hosts that are unhealthy.
        pub unhealthy_interval: Option<Duration>,
        /// Of hosts that have failed, and are not unhealthy yet.
        pub unhealthy_edge_interval: Option<Duration>,
        /// Of hosts that have passed, and are not healthy yet.
        pub healthy_edge_interval: Option<Duration>,
        /// The file that events are written to; none if empty.
        pub event_log_path: String,
        /// Who else is told of events.
        pub event_logger: Vec<TypedConfig> => read_event_sinks,
        /// Whether each failure is an event; default false.
        pub always_log_health_check_failures: bool,
        /// Whether each success is one; default false.
        pub always_log_health_check_success: bool,
        /// How a host is asked.
        pub health_checker: HealthCheckKind => HealthCheckKind::read_member,
    }
}

fn read_event_sinks(r: &mut MessageReader<'_>, name: &str) -> Result<Vec<TypedConfig>, ConfigError> {
    r.extensions_of(name, Category::HealthCheckEventSinks)
}

impl HealthCheck {
    /// While the cluster has never had a connection, of healthy hosts.
    pub fn no_traffic_healthy_interval(&self) -> Duration {
        self.no_traffic_healthy_interval.unwrap_or(self.no_traffic_interval)
    }

    /// Of hosts that are unhealthy.
    pub fn unhealthy_interval(&self) -> Duration {
        self.unhealthy_interval.unwrap_or(self.interval)
    }

    /// Of hosts that have failed, and are not unhealthy yet.
    pub fn unhealthy_edge_interval(&self) -> Duration {
        self.unhealthy_edge_interval.unwrap_or_else(|| self.unhealthy_interval())
    }

    /// Of hosts that have passed, and are not healthy yet.
    pub fn healthy_edge_interval(&self) -> Duration {
        self.healthy_edge_interval.unwrap_or(self.interval)
    }
}

one_of! {
    /// How a host is asked.
    pub enum HealthCheckKind {
        /// With a request.
        Http(Box<HttpHealthCheck>) = "http_health_check",
        /// With a connection, and maybe some bytes.
        Tcp(TcpHealthCheck) = "tcp_health_check",
    }
}

message! {
    /// `HealthCheck.HttpHealthCheck`.
    pub struct HttpHealthCheck = "envoy.config.core.v3.HealthCheck.HttpHealthCheck", checked by check_method {
        /// The host that is asked for, unless a host says so itself; the name of the cluster if empty.
        pub host: String,
        /// Never empty.
        pub path: String,
        /// How it is asked for; default GET.
        pub method: RequestMethod,
        /// The body of the request.
        pub send: Option<Payload>,
        /// What has to be in the body of the answer, in that order.
        pub receive: Vec<Payload>,
        /// How much of that body is searched, in bytes, default 1024; 0 is all of it.
        pub response_buffer_size: u64 = DEFAULT_RESPONSE_BUFFER_SIZE,
        /// What else is in the head of the request.
        pub request_headers: HeaderMutations => read_request_headers,
        /// Statuses of a host that is well; just 200 if empty.
        pub expected_statuses: Vec<StatusRange> => read_statuses,
        /// Statuses that count like failures of the network.
        pub retriable_statuses: Vec<StatusRange> => read_statuses,
        /// Only HTTP/1 is spoken.
        pub codec_client_type: CodecClientType,
        /// What the host has to say that it is.
        pub service_name_matcher: Option<StringMatcher>,
    }
}

fn read_request_headers(r: &mut MessageReader<'_>, _: &str) -> Result<HeaderMutations, ConfigError> {
    read_mutations(r, "request_headers_to_add", "request_headers_to_remove")
}

fn check_method(r: &mut MessageReader<'_>, check: &HttpHealthCheck) {
    use RequestMethod::{Options, Patch, Post, Put};
    if check.send.is_some() && !matches!(check.method, Options | Patch | Post | Put) {
        let message = format!(
            "HTTP health check cannot specify a request payload with method '{}'. Only methods that support a request body \
             (POST, PUT, PATCH, OPTIONS) can be used with payload.",
            check.method.as_str()
        );
        r.refuse("send", message);
    }
}

/// Statuses from `start` on, below `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange {
    /// The first; at least 100.
    pub start: u16,
    /// The first behind; at most 600.
    pub end: u16,
}

/// The list of `envoy.type.v3.Int64Range` of this name.
fn read_statuses(r: &mut MessageReader<'_>, name: &str) -> Result<Vec<StatusRange>, ConfigError> {
    let kind = name.strip_suffix("_statuses").unwrap_or(name);
    r.messages_with(name, |r| {
        // As Envoy casts them.
        let (start, end) = (r.i64("start")?.cast_unsigned(), r.i64("end")?.cast_unsigned());
        let wrong = if start >= end {
            format!("expecting start < end, but found start={start} and end={end}")
        } else if start < 100 {
            format!("expecting start >= 100, but found start={start}")
        } else if end > 600 {
            format!("expecting end <= 600, but found end={end}")
        } else {
            return Ok(StatusRange { start: start as u16, end: end as u16 });
        };
        Err(ConfigError::new(r.path(), format!("Invalid http {kind} status range: {wrong}")))
    })
}

/// `RequestMethod`, without CONNECT, which the API's rules refuse here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RequestMethod {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Trace,
    Patch,
}

impl RequestMethod {
    /// API names.
    pub const TABLE: &EnumTable<Self> = &[
        ("METHOD_UNSPECIFIED", Self::Get),
        ("GET", Self::Get),
        ("HEAD", Self::Head),
        ("POST", Self::Post),
        ("PUT", Self::Put),
        ("DELETE", Self::Delete),
        ("OPTIONS", Self::Options),
        ("TRACE", Self::Trace),
        ("PATCH", Self::Patch),
    ];

    /// As a request has it.
    pub fn as_str(self) -> &'static str {
        let named = Self::TABLE.iter().skip(1).find(|(_, method)| *method == self);
        named.map_or("GET", |(name, _)| name)
    }
}

/// `envoy.type.v3.CodecClientType`, as far as it is supported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CodecClientType {
    /// HTTP/1.
    #[default]
    Http1,
}

impl CodecClientType {
    /// API names.
    pub const TABLE: &EnumTable<Self> = &[("HTTP1", Self::Http1)];
}

enum_fields! { RequestMethod, CodecClientType }

message! {
    /// `HealthCheck.TcpHealthCheck`.
    pub struct TcpHealthCheck = "envoy.config.core.v3.HealthCheck.TcpHealthCheck" {
        /// What the host is sent.
        pub send: Option<Payload>,
        /// What has to be in what it sends, in that order; if empty, it is enough that it can be connected to.
        pub receive: Vec<Payload>,
    }
}

/// `HealthCheck.Payload`: some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload(pub Box<[u8]>);

impl FromMessage for Payload {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let bytes = match r.exactly_one(&["text", "binary"])? {
            "text" => {
                let text = r.string("text")?;
                // What is too short a rule of the API says.
                decode_hex(&text).ok_or_else(|| r.error("text", format!("invalid hex string '{text}'")))?
            }
            _ => match r.value("binary")? {
                Some(value) => scalar::parse_bytes(value).map_err(|message| r.error("binary", message))?,
                None => Vec::new(),
            },
        };
        Ok(Payload(bytes.into()))
    }
}

/// Two digits for each byte.
fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some((digit(pair[0])? << 4 | digit(*pair.get(1)?)?) as u8)).collect()
}
