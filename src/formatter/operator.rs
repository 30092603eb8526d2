//! [`Operator`]: one `%...%` of a format.
//!
//! Mirrors the tables of Envoy 1.40's `source/common/formatter/stream_info_formatter.cc` and
//! `http_specific_formatter.cc`.

use std::time::{Duration, SystemTime};

use super::command_parser::{Command, FormatterProvider, Written};
use super::context::Context;
use super::date_format::DateFormat;
use super::header_operator::{HeaderOperator, HeaderSource};
use super::request_operator::RequestOperator;
use super::ssl_operator::{SslOperator, SslTime};
use super::state_operator::StateOperator;
use super::upstream_operator::UpstreamOperator;
use crate::common::UtcTime;
use crate::common::uuid::random_uuid;
use crate::event::Moment;
use crate::http::{HeaderId, Protocol};
use crate::network::Address;
use crate::stream_info::{ResponseFlag, Route, StreamInfoImpl};
use crate::upstream::ClusterInfoImpl;

/// Prints one value.
#[derive(Debug)]
pub(super) enum Operator {
    Header(HeaderOperator),
    StartTime(DateFormat),
    ResponseCodeDetails {
        /// Whether spaces stay spaces.
        allow_whitespaces: bool,
    },
    Hostname(Box<str>),
    Address(AddressOf, AddressPart),
    /// A text of the TLS of one side.
    Ssl(SslOperator),
    /// When the peer's certificate is valid.
    SslTime(SslTime, DateFormat),
    State(StateOperator),
    Request(RequestOperator),
    EmitTime(DateFormat),
    Upstream(UpstreamOperator),
    /// Of what there is nothing here.
    Nothing,
    Plain(Field),
}

/// Which address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AddressOf {
    DownstreamLocal,
    DownstreamRemote,
    DownstreamDirectRemote,
    DownstreamDirectLocal,
    UpstreamLocal,
    UpstreamHost,
    /// That of the host, once there is a connection.
    UpstreamRemote,
}

/// How much of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AddressPart {
    Whole,
    WithoutPort,
    Port,
}

/// A value that takes neither argument nor length.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    Protocol,
    ResponseCode,
    /// By which of their names.
    ResponseFlags(fn(ResponseFlag) -> &'static str),
    RouteName,
    BytesReceived,
    BytesSent,
    Duration,
    RequestDuration,
    RequestTxDuration,
    ResponseDuration,
    ResponseTxDuration,
    UpstreamCluster(fn(&ClusterInfoImpl) -> &str),
    AccessLogType,
    LocalReplyBody,
    UpstreamTransportFailureReason,
    DownstreamTransportFailureReason,
    UpstreamRequestAttemptCount,
    ConnectionId,
    StreamId,
    RequestedServerName,
    UpstreamProtocol,
    /// With its port, or without.
    UpstreamHostName(bool),
    /// There are none of what TCP counts.
    Zero,
    /// Another one each time.
    UniqueId,
    /// Of what there is an empty one.
    Empty,
    /// The same where there is such an address.
    EndpointId(AddressOf),
}

/// What there is nothing of without traces, and what is not kept.
const ALWAYS_NOTHING: [&str; 8] = [
    "TRACE_ID",
    "SPAN_ID",
    "ROUNDTRIP_DURATION",
    "DOWNSTREAM_HANDSHAKE_DURATION",
    "DOWNSTREAM_LOCAL_CLOSE_REASON",
    "UPSTREAM_LOCAL_CLOSE_REASON",
    "TLS_JA3_FINGERPRINT",
    "TLS_JA4_FINGERPRINT",
];

impl Operator {
    /// The operator of that command.
    ///
    /// # Errors
    /// Envoy's text for a name that is not known, and for an argument or a length where there must be
    /// none or must be one.
    pub(super) fn new(command: &Command<'_>) -> Result<Operator, String> {
        let Command { name, argument, max_length } = *command;
        if let Some(source) = HeaderSource::find(name) {
            if argument.is_empty() {
                return Err(format!("{name} requires parameters"));
            }
            return HeaderOperator::new(source, argument, max_length).map(Operator::Header);
        }
        if let Some(operator) = StateOperator::new(command) {
            return operator.map(Operator::State);
        }
        if let Some(operator) = RequestOperator::new(command) {
            return operator.map(Operator::Request);
        }
        if ALWAYS_NOTHING.contains(&name) {
            return match (argument, max_length) {
                ("", None) => Ok(Operator::Nothing),
                _ => Err(format!("{name} does not take any parameters or length")),
            };
        }
        if let Some(time) = SslTime::find(name) {
            if max_length.is_some() {
                return Err(format!("{name} does not allow length to be specified."));
            }
            return Ok(Operator::SslTime(time, DateFormat::parse(argument)?));
        }
        if matches!(name, "START_TIME" | "EMIT_TIME" | "RESPONSE_CODE_DETAILS") {
            if max_length.is_some() {
                return Err(format!("{name} does not allow length to be specified."));
            }
            return Ok(match name {
                "START_TIME" => Operator::StartTime(DateFormat::parse(argument)?),
                "EMIT_TIME" => Operator::EmitTime(DateFormat::parse(argument)?),
                _ => Operator::ResponseCodeDetails { allow_whitespaces: argument == "ALLOW_WHITESPACES" },
            });
        }
        let operator = Operator::without_argument(name)
            .ok_or_else(|| format!("Not supported field in StreamInfo: {name}"))?;
        if !argument.is_empty() || max_length.is_some() {
            return Err(format!("{name} does not take any parameters or length"));
        }
        Ok(operator)
    }

    fn without_argument(name: &str) -> Option<Operator> {
        let field = match name {
            "PROTOCOL" => Field::Protocol,
            "RESPONSE_CODE" => Field::ResponseCode,
            "RESPONSE_FLAGS" => Field::ResponseFlags(ResponseFlag::as_str),
            "RESPONSE_FLAGS_LONG" => Field::ResponseFlags(ResponseFlag::long_name),
            "ROUTE_NAME" => Field::RouteName,
            "BYTES_RECEIVED" => Field::BytesReceived,
            "BYTES_SENT" => Field::BytesSent,
            "DURATION" => Field::Duration,
            "REQUEST_DURATION" => Field::RequestDuration,
            "REQUEST_TX_DURATION" => Field::RequestTxDuration,
            "RESPONSE_DURATION" => Field::ResponseDuration,
            "RESPONSE_TX_DURATION" => Field::ResponseTxDuration,
            "UPSTREAM_CLUSTER" => Field::UpstreamCluster(ClusterInfoImpl::observability_name),
            "UPSTREAM_CLUSTER_RAW" => Field::UpstreamCluster(ClusterInfoImpl::name),
            "ACCESS_LOG_TYPE" => Field::AccessLogType,
            "LOCAL_REPLY_BODY" => Field::LocalReplyBody,
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => Field::UpstreamTransportFailureReason,
            "DOWNSTREAM_TRANSPORT_FAILURE_REASON" => Field::DownstreamTransportFailureReason,
            "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Field::UpstreamRequestAttemptCount,
            "CONNECTION_ID" => Field::ConnectionId,
            "STREAM_ID" => Field::StreamId,
            "REQUESTED_SERVER_NAME" => Field::RequestedServerName,
            "UPSTREAM_PROTOCOL" => Field::UpstreamProtocol,
            "UPSTREAM_HOST_NAME" => Field::UpstreamHostName(true),
            "UPSTREAM_HOST_NAME_WITHOUT_PORT" => Field::UpstreamHostName(false),
            "BYTES_RETRANSMITTED" | "PACKETS_RETRANSMITTED" => Field::Zero,
            "UNIQUE_ID" => Field::UniqueId,
            "CUSTOM_FLAGS" => Field::Empty,
            "HOSTNAME" => return Some(Operator::Hostname(hostname())),
            "UPSTREAM_HOST" => return Some(Operator::Address(AddressOf::UpstreamHost, AddressPart::Whole)),
            _ => {
                return UpstreamOperator::find(name)
                    .map(Operator::Upstream)
                    .or_else(|| Operator::address(name))
                    .or_else(|| SslOperator::find(name).map(Operator::Ssl));
            }
        };
        Some(Operator::Plain(field))
    }

    fn address(name: &str) -> Option<Operator> {
        const NAMES: [(&str, AddressOf); 6] = [
            ("DOWNSTREAM_LOCAL_", AddressOf::DownstreamLocal),
            ("DOWNSTREAM_DIRECT_LOCAL_", AddressOf::DownstreamDirectLocal),
            ("UPSTREAM_REMOTE_", AddressOf::UpstreamRemote),
            ("DOWNSTREAM_REMOTE_", AddressOf::DownstreamRemote),
            ("DOWNSTREAM_DIRECT_REMOTE_", AddressOf::DownstreamDirectRemote),
            ("UPSTREAM_LOCAL_", AddressOf::UpstreamLocal),
        ];
        NAMES.iter().find_map(|(prefix, of)| {
            let part = match name.strip_prefix(prefix)? {
                "ADDRESS" => AddressPart::Whole,
                "ADDRESS_WITHOUT_PORT" => AddressPart::WithoutPort,
                "PORT" => AddressPart::Port,
                "ADDRESS_ENDPOINT_ID" => return Some(Operator::Plain(Field::EndpointId(*of))),
                _ => return None,
            };
            Some(Operator::Address(*of, part))
        })
    }
}

impl FormatterProvider for Operator {
    fn write(&self, line: &mut Vec<u8>, context: &Context<'_>) -> Written {
        let info = context.stream_info;
        match self {
            Operator::Header(header) => header.write(line, context),
            Operator::StartTime(format) => {
                format.write(line, &UtcTime::new(info.start_time()));
                Written::Text
            }
            Operator::EmitTime(format) => {
                format.write(line, &UtcTime::new(SystemTime::now()));
                Written::Text
            }
            Operator::Request(operator) => operator.write(line, context),
            Operator::Upstream(operator) => operator.write(line, info),
            Operator::Nothing => Written::Nothing,
            Operator::ResponseCodeDetails { allow_whitespaces } => {
                write_details(line, &info.response_code_details(), *allow_whitespaces)
            }
            Operator::Hostname(name) => write_text(line, name),
            Operator::Address(of, part) => write_address(line, of.get(info), *part),
            Operator::Ssl(operator) => write_optional(line, operator.text(info).as_deref()),
            Operator::SslTime(operator, format) => match operator.time(info) {
                Some(time) => {
                    format.write(line, &UtcTime::new(time));
                    Written::Text
                }
                None => Written::Nothing,
            },
            Operator::State(operator) => operator.write(line, info),
            Operator::Plain(field) => field.write(line, context),
        }
    }
}

impl AddressOf {
    fn get(self, info: &StreamInfoImpl) -> Option<Address> {
        match self {
            AddressOf::DownstreamLocal => info.downstream_connection()?.local_address(),
            AddressOf::DownstreamDirectLocal => info.downstream_connection()?.direct_local_address(),
            AddressOf::DownstreamRemote => info.downstream_remote_address(),
            AddressOf::DownstreamDirectRemote => {
                info.downstream_connection().map(|c| c.direct_remote_address())
            }
            AddressOf::UpstreamLocal => info.upstream_connection()?.local_address(),
            AddressOf::UpstreamHost => info.upstream_host().map(|host| host.address().clone()),
            AddressOf::UpstreamRemote => info.upstream_connection().map(|c| c.remote_address()),
        }
    }
}

impl Field {
    fn write(self, line: &mut Vec<u8>, context: &Context<'_>) -> Written {
        let info = context.stream_info;
        let start = Some(info.start_time_monotonic());
        match self {
            Field::Protocol => write_optional(line, info.protocol.get().map(|protocol| protocol.as_str())),
            Field::ResponseCode => write_number(line, info.response_code.get().unwrap_or(0).into()),
            Field::ResponseFlags(name) => write_flags(line, info, name),
            Field::RouteName => write_optional(line, info.route().as_deref().map(Route::route_name)),
            Field::BytesReceived => write_number(line, info.bytes_received()),
            Field::BytesSent => write_number(line, info.bytes_sent()),
            Field::Duration => write_milliseconds(line, info.duration()),
            Field::RequestDuration => write_time(line, start, info.last_downstream_rx_byte_received.get()),
            Field::RequestTxDuration => write_time(line, start, info.last_upstream_tx_byte_sent.get()),
            Field::ResponseDuration => write_time(line, start, info.first_upstream_rx_byte_received.get()),
            Field::ResponseTxDuration => write_time(
                line,
                info.first_upstream_rx_byte_received.get(),
                info.last_downstream_tx_byte_sent.get(),
            ),
            Field::UpstreamCluster(name) => {
                write_optional(line, info.upstream_cluster_info().as_deref().map(name))
            }
            Field::AccessLogType => write_text(line, context.log_type.name()),
            Field::LocalReplyBody => {
                line.extend_from_slice(context.local_reply_body);
                Written::Text
            }
            Field::UpstreamTransportFailureReason => {
                write_details(line, &info.upstream_transport_failure_reason(), false)
            }
            Field::DownstreamTransportFailureReason => {
                let reason = info.downstream_connection().map(|c| c.transport_failure_reason());
                write_details(line, reason.as_deref().unwrap_or_default(), false)
            }
            Field::UpstreamRequestAttemptCount => write_number(line, info.attempt_count.get().into()),
            Field::ConnectionId => {
                write_number(line, info.downstream_connection().map_or(0, |c| c.connection_id()))
            }
            // Tries have none.
            Field::StreamId if info.stream_id.get() == 0 => Written::Nothing,
            // The id that others know the stream by is that of its request.
            Field::StreamId => match context.request_headers.and_then(|h| h.get(HeaderId::RequestId)) {
                Some(id) => {
                    line.extend_from_slice(id);
                    Written::Text
                }
                None => Written::Nothing,
            },
            Field::RequestedServerName => {
                let name = info.downstream_connection().map(|c| c.requested_server_name());
                write_optional(line, name)
            }
            Field::UpstreamProtocol => {
                let connected = info.upstream_connection().is_some() && !info.upstream_is_raw.get();
                write_optional(line, connected.then(|| Protocol::Http11.as_str()))
            }
            Field::UpstreamHostName(with_port) => write_host_name(line, info, with_port),
            Field::Zero => write_number(line, 0),
            Field::UniqueId => {
                line.extend_from_slice(&random_uuid());
                Written::Text
            }
            Field::Empty => Written::Text,
            Field::EndpointId(of) => of.get(info).map_or(Written::Nothing, |_| Written::Text),
        }
    }
}

/// The host's name, or its address.
pub(super) fn write_host_name(line: &mut Vec<u8>, info: &StreamInfoImpl, with_port: bool) -> Written {
    let Some(host) = info.upstream_host() else { return Written::Nothing };
    let name = match host.hostname() {
        "" if with_port => host.address().to_string(),
        "" => host.address().as_string_without_port().to_string(),
        name => {
            let end = name.rfind(':').filter(|_| !with_port);
            name[..end.unwrap_or(name.len())].to_string()
        }
    };
    write_text(line, &name)
}

fn write_optional(line: &mut Vec<u8>, text: Option<&str>) -> Written {
    write_text(line, text.unwrap_or_default())
}

/// An empty text is none.
pub(super) fn write_text(line: &mut Vec<u8>, text: &str) -> Written {
    line.extend_from_slice(text.as_bytes());
    if text.is_empty() { Written::Nothing } else { Written::Text }
}

pub(super) fn write_number(line: &mut Vec<u8>, number: u64) -> Written {
    line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    Written::Json
}

fn write_milliseconds(line: &mut Vec<u8>, duration: Duration) -> Written {
    write_number(line, duration.as_millis() as u64)
}

fn write_time(line: &mut Vec<u8>, from: Option<Moment>, to: Option<Moment>) -> Written {
    match (from, to) {
        (Some(from), Some(to)) => write_milliseconds(line, to.since(from)),
        _ => Written::Nothing,
    }
}

/// No flag is a text of its own, in every form.
fn write_flags(line: &mut Vec<u8>, info: &StreamInfoImpl, name: fn(ResponseFlag) -> &'static str) -> Written {
    for (i, flag) in info.response_flags().enumerate() {
        if i > 0 {
            line.push(b',');
        }
        line.extend_from_slice(name(flag).as_bytes());
    }
    if !info.has_any_response_flag() {
        line.push(b'-');
    }
    Written::Text
}

fn write_details(line: &mut Vec<u8>, details: &str, allow_whitespaces: bool) -> Written {
    let start = line.len();
    line.extend_from_slice(details.as_bytes());
    if !allow_whitespaces {
        for byte in line[start..].iter_mut().filter(|byte| byte.is_ascii_whitespace()) {
            *byte = b'_';
        }
    }
    if details.is_empty() { Written::Nothing } else { Written::Text }
}

fn write_address(line: &mut Vec<u8>, address: Option<Address>, part: AddressPart) -> Written {
    use std::io::Write;
    let Some(address) = address else { return Written::Nothing };
    // Writing to memory cannot fail.
    let _ = match part {
        AddressPart::Whole => write!(line, "{address}"),
        AddressPart::WithoutPort => write!(line, "{}", address.as_string_without_port()),
        AddressPart::Port => match address.ip() {
            Some(ip) => return write_number(line, ip.port().into()),
            // The port of a pipe is empty.
            None => Ok(()),
        },
    };
    Written::Text
}

/// The name of the machine; empty when it cannot be learnt.
fn hostname() -> Box<str> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim_end().into()
}
