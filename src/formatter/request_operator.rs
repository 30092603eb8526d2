//! [`RequestOperator`]: parts of a request's path, how gRPC ended, times between two moments, and what the process's
//! environment has.
//!
//! Mirrors the classes of Envoy 1.40's `source/common/formatter/http_specific_formatter.cc`, and `CommonDurationFormatter`
//! of `source/common/formatter/stream_info_formatter.cc`.

use super::command_parser::{Command, Written};
use super::context::Context;
use super::operator::write_number;
use crate::common::percent;
use crate::event::Moment;
use crate::http::{HeaderId, HeaderMap, utility};
use crate::stream_info::StreamInfoImpl;

/// See the module's description.
#[derive(Debug)]
pub(super) enum RequestOperator {
    /// `%PATH(...)%`
    Path { with_query: bool, from: PathFrom, max_length: Option<usize> },
    /// `%QUERY_PARAM(...)%`
    QueryParameter { name: Box<str>, max_length: Option<usize> },
    /// `%QUERY_PARAMS(...)%`
    Query { decoded: bool, max_length: Option<usize> },
    /// `%REQUESTED_SERVER_NAME(...)%`: the host, where it may be that; there is no other yet.
    Host(Option<PathFrom>),
    /// `%ENVIRONMENT(...)%`
    Environment(Box<[u8]>),
    /// `%COMMON_DURATION(...)%`
    Duration { from: TimePoint, to: TimePoint, unit: u128 },
    /// `%GRPC_STATUS(...)%`
    GrpcStatus(GrpcStatusForm),
    /// `%REQUEST_HEADERS_BYTES%` and its like.
    HeaderBytes(fn(&Context<'_>) -> usize),
}

/// Whether what the client has sent counts, or what became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum PathFrom {
    Original,
    Present,
    OriginalOrPresent,
}

/// How gRPC's statuses are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum GrpcStatusForm {
    Camel,
    Snake,
    Number,
}

/// A moment of a stream; `None` for one that nothing sets.
type TimePoint = Option<Noted>;

type Noted = fn(&StreamInfoImpl) -> Option<Moment>;

/// The moments that have names.
const MOMENTS: [(&str, Noted); 8] = [
    ("DS_RX_BEG", |info| Some(info.start_time_monotonic())),
    ("DS_RX_END", |info| info.last_downstream_rx_byte_received.get()),
    ("US_TX_BEG", |info| info.first_upstream_tx_byte_sent.get()),
    ("US_TX_END", |info| info.last_upstream_tx_byte_sent.get()),
    ("US_RX_BEG", |info| info.first_upstream_rx_byte_received.get()),
    ("US_RX_END", |info| info.last_upstream_rx_byte_received.get()),
    ("DS_TX_BEG", |info| info.first_downstream_tx_byte_sent.get()),
    ("DS_TX_END", |info| info.last_downstream_tx_byte_sent.get()),
];

/// Those that Envoy has, too, and that are not noted here.
const OTHER_MOMENTS: [&str; 4] = ["US_CX_BEG", "US_CX_END", "US_HS_END", "US_RX_BODY_BEG"];

impl RequestOperator {
    /// The operator of that command, if it is one of these.
    ///
    /// # Errors
    /// Envoy's text for arguments that are missing or wrong.
    pub(super) fn new(command: &Command<'_>) -> Option<Result<RequestOperator, String>> {
        let &Command { name, argument, max_length } = command;
        let required = |made: fn(&str, Option<usize>) -> Result<RequestOperator, String>| match argument {
            "" => Err(format!("{name} requires parameters")),
            argument => made(argument, max_length),
        };
        let bytes = |bytes| match (argument, max_length) {
            ("", None) => Ok(RequestOperator::HeaderBytes(bytes)),
            _ => Err(format!("{name} does not take any parameters or length")),
        };
        Some(match name {
            "PATH" => path(argument, max_length),
            "QUERY_PARAM" => required(|name, max_length| {
                Ok(RequestOperator::QueryParameter { name: name.into(), max_length })
            }),
            "QUERY_PARAMS" => query(argument, max_length),
            "REQUESTED_SERVER_NAME" if !argument.is_empty() => server_name(argument),
            "ENVIRONMENT" => required(|name, max_length| Ok(environment(name, max_length))),
            "COMMON_DURATION" => required(duration),
            "GRPC_STATUS" => grpc_status(argument, max_length),
            "GRPC_STATUS_NUMBER" if argument.is_empty() && max_length.is_none() => {
                Ok(RequestOperator::GrpcStatus(GrpcStatusForm::Number))
            }
            "GRPC_STATUS_NUMBER" => Err(format!("{name} does not take any parameters or length")),
            "REQUEST_HEADERS_BYTES" => bytes(|context| size(context.request_headers)),
            "RESPONSE_HEADERS_BYTES" => bytes(|context| size(context.response_headers)),
            "RESPONSE_TRAILERS_BYTES" => bytes(|context| size(context.response_trailers)),
            _ => return None,
        })
    }

    /// Appends the value.
    pub(super) fn write(&self, line: &mut Vec<u8>, context: &Context<'_>) -> Written {
        match self {
            RequestOperator::Path { with_query, from, max_length } => {
                let path = context.request_headers.and_then(|headers| from.path(headers));
                let path = path.map(|path| if *with_query { path } else { without_query(path) });
                write_up_to(line, path, *max_length)
            }
            RequestOperator::QueryParameter { name, max_length } => {
                let path = context.request_headers.and_then(|headers| headers.get(HeaderId::Path));
                let value = path.and_then(|path| decoded_parameter(path, name.as_bytes()));
                write_up_to(line, value.as_deref(), *max_length)
            }
            RequestOperator::Query { decoded, max_length } => {
                let path = context.request_headers.and_then(|headers| headers.get(HeaderId::Path));
                let query = path.and_then(|path| Some(&path[memchr::memchr(b'?', path)? + 1..]));
                let query = query.filter(|query| !query.is_empty());
                match decoded {
                    true => write_up_to(
                        line,
                        query.map(|query| percent::decode(query, false)).as_deref(),
                        *max_length,
                    ),
                    false => write_up_to(line, query, *max_length),
                }
            }
            RequestOperator::Host(from) => {
                let host = from.zip(context.request_headers).and_then(|(from, headers)| from.host(headers));
                write_up_to(line, host, None)
            }
            RequestOperator::Environment(value) => write_up_to(line, Some(value), None),
            RequestOperator::Duration { from, to, unit } => {
                let at = |moment: &TimePoint| moment.and_then(|moment| moment(context.stream_info));
                match at(from).zip(at(to)).filter(|(from, to)| from <= to) {
                    Some((from, to)) => write_number(line, (to.since(from).as_nanos() / unit) as u64),
                    None => Written::Nothing,
                }
            }
            RequestOperator::GrpcStatus(form) => write_grpc_status(line, context, *form),
            RequestOperator::HeaderBytes(bytes) => write_number(line, bytes(context) as u64),
        }
    }
}

impl PathFrom {
    fn path(self, headers: &HeaderMap) -> Option<&[u8]> {
        let (original, present) = (headers.get(HeaderId::EnvoyOriginalPath), headers.get(HeaderId::Path));
        self.choose(original, present)
    }

    fn host(self, headers: &HeaderMap) -> Option<&[u8]> {
        let original = headers.get_all("x-envoy-original-host").next();
        self.choose(original, headers.get(HeaderId::Authority))
    }

    fn choose<'a>(self, original: Option<&'a [u8]>, present: Option<&'a [u8]>) -> Option<&'a [u8]> {
        match self {
            PathFrom::Original => original,
            PathFrom::Present => present,
            PathFrom::OriginalOrPresent => original.or(present),
        }
    }
}

fn path(argument: &str, max_length: Option<usize>) -> Result<RequestOperator, String> {
    let (query, from) = argument.split_once(':').unwrap_or((argument, ""));
    let with_query = match query {
        "" | "WQ" => true,
        "NQ" => false,
        _ => return Err(format!("Invalid PATH option: '{query}', only 'WQ'/'NQ' are allowed")),
    };
    let from = match from {
        "" | "ORIG_OR_PATH" => PathFrom::OriginalOrPresent,
        "ORIG" => PathFrom::Original,
        "PATH" => PathFrom::Present,
        _ => {
            return Err(format!(
                "Invalid PATH option: '{from}', only 'ORIG'/'PATH'/'ORIG_OR_PATH' are allowed"
            ));
        }
    };
    Ok(RequestOperator::Path { with_query, from, max_length })
}

fn server_name(argument: &str) -> Result<RequestOperator, String> {
    let (which, from) = argument.split_once(':').unwrap_or((argument, ""));
    let refused = |option: &str, allowed: &str| {
        Err(format!("Invalid REQUESTED_SERVER_NAME option: '{option}', only {allowed} are allowed"))
    };
    let from = match from {
        "" | "ORIG_OR_HOST" => PathFrom::OriginalOrPresent,
        "HOST" => PathFrom::Present,
        "ORIG" => PathFrom::Original,
        _ => return refused(from, "'ORIG_OR_HOST'/'HOST'/'ORIG'"),
    };
    match which {
        "SNI_FIRST" | "HOST_FIRST" => Ok(RequestOperator::Host(Some(from))),
        "SNI_ONLY" => Ok(RequestOperator::Host(None)),
        _ => refused(which, "'SNI_ONLY'/'SNI_FIRST'/'HOST_FIRST'"),
    }
}

fn query(argument: &str, max_length: Option<usize>) -> Result<RequestOperator, String> {
    let decoded = match argument {
        "" | "ORIG" => false,
        "DECODED" => true,
        _ => {
            return Err(format!(
                "Invalid QUERY_PARAMS option: '{argument}', only 'ORIG'/'DECODED' are allowed"
            ));
        }
    };
    Ok(RequestOperator::Query { decoded, max_length })
}

/// The environment does not change.
fn environment(name: &str, max_length: Option<usize>) -> RequestOperator {
    let mut value = std::env::var(name).unwrap_or_else(|_| "-".to_string()).into_bytes();
    value.truncate(max_length.unwrap_or(usize::MAX));
    RequestOperator::Environment(value.into())
}

fn duration(argument: &str, max_length: Option<usize>) -> Result<RequestOperator, String> {
    if max_length.is_some() {
        return Err("COMMON_DURATION does not allow length to be specified.".to_string());
    }
    let parts: Vec<&str> = argument.split(':').collect();
    let (from, to, unit) = match parts[..] {
        [from, to] => (from, to, "ms"),
        [from, to, unit] => (from, to, unit),
        _ => return Err(format!("Invalid common duration configuration: {argument}.")),
    };
    let unit = match unit {
        "ms" => 1_000_000,
        "us" => 1000,
        "ns" => 1,
        _ => return Err(format!("Invalid common duration precision: {unit}.")),
    };
    let moment = |name: &str| {
        if OTHER_MOMENTS.contains(&name) {
            return Err(format!("{name} is not supported yet"));
        }
        // Filters may have moments of their own, but none does.
        Ok(MOMENTS.iter().find(|(known, _)| *known == name).map(|(_, moment)| *moment))
    };
    Ok(RequestOperator::Duration { from: moment(from)?, to: moment(to)?, unit })
}

fn grpc_status(argument: &str, max_length: Option<usize>) -> Result<RequestOperator, String> {
    if max_length.is_some() {
        return Err("GRPC_STATUS does not allow length to be specified.".to_string());
    }
    Ok(RequestOperator::GrpcStatus(match argument {
        "" | "CAMEL_STRING" => GrpcStatusForm::Camel,
        "SNAKE_STRING" => GrpcStatusForm::Snake,
        "NUMBER" => GrpcStatusForm::Number,
        _ => {
            return Err(format!(
                "GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. Got: {argument}"
            ));
        }
    }))
}

/// The statuses by their numbers.
const GRPC_STATUSES: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

/// The status that the trailers have, or the head, or that stands for HTTP's.
fn write_grpc_status(line: &mut Vec<u8>, context: &Context<'_>, form: GrpcStatusForm) -> Written {
    if !context.request_headers.is_some_and(utility::has_grpc_content_type) {
        return Written::Nothing;
    }
    let said = |headers: Option<&HeaderMap>| {
        headers?.get_str(HeaderId::GrpcStatus).map(|text| text.parse::<i64>().unwrap_or(-1))
    };
    let of_http = || {
        let status = context.stream_info.response_code.get();
        status.map(|status| i64::from(utility::http_to_grpc_status(status)))
    };
    let Some(status) =
        said(context.response_trailers).or_else(|| said(context.response_headers)).or_else(of_http)
    else {
        return Written::Nothing;
    };
    let known = usize::try_from(status).ok().and_then(|status| GRPC_STATUSES.get(status));
    match (form, known) {
        (GrpcStatusForm::Number, _) => {
            line.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
            return Written::Json;
        }
        (GrpcStatusForm::Camel, Some((name, _))) | (GrpcStatusForm::Snake, Some((_, name))) => {
            line.extend_from_slice(name.as_bytes());
        }
        (_, None) => line.extend_from_slice(itoa::Buffer::new().format(status).as_bytes()),
    }
    Written::Text
}

fn size(headers: Option<&HeaderMap>) -> usize {
    headers.map_or(0, HeaderMap::byte_size)
}

fn without_query(path: &[u8]) -> &[u8] {
    &path[..memchr::memchr(b'?', path).unwrap_or(path.len())]
}

/// The value of the first parameter of this name, without escapes. Of one that is none Envoy keeps the sign in parameters, and
/// in the whole query it does not.
fn decoded_parameter(path: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let query = &path[memchr::memchr(b'?', path)? + 1..];
    query.split(|&b| b == b'&').find_map(|parameter| {
        let equals = memchr::memchr(b'=', parameter).unwrap_or(parameter.len());
        let value = parameter.get(equals + 1..).unwrap_or_default();
        (percent::decode(&parameter[..equals], true) == name).then(|| percent::decode(value, true))
    })
}

fn write_up_to(line: &mut Vec<u8>, text: Option<&[u8]>, max_length: Option<usize>) -> Written {
    let Some(text) = text else { return Written::Nothing };
    line.extend_from_slice(&text[..max_length.map_or(text.len(), |max| text.len().min(max))]);
    Written::Text
}
