//! `envoy.config.accesslog.v3.AccessLogFilter` and its kinds.

use super::access_log::AccessLogType;
use super::core::{FractionalPercent, RuntimeUInt32};
use super::error::{ConfigError, Kind};
use super::extension::{Category, TypedConfig};
use super::header_matcher::HeaderMatcher;
use super::metadata_matcher::MetadataMatcher;
use super::reader::{EnumTable, FromMessage, MessageReader};
use crate::message;

/// Which streams are logged.
#[derive(Debug, Clone, PartialEq)]
pub enum AccessLogFilter {
    /// Those with such a status.
    StatusCode(Comparison),
    /// Those that took so many milliseconds.
    Duration(Comparison),
    /// Those that are no health checks.
    NotHealthCheck,
    /// Those that somebody asked to trace.
    Traceable,
    /// A share of them.
    Runtime(RuntimeFilter),
    /// Those that all of these take.
    And(Vec<AccessLogFilter>),
    /// Those that one of these takes.
    Or(Vec<AccessLogFilter>),
    /// Those with such a header.
    Header(HeaderMatcher),
    /// Those with one of these flags; with any where there are none.
    ResponseFlag(Vec<String>),
    /// Those whose gRPC status is such.
    GrpcStatus(GrpcStatusFilter),
    /// At such moments.
    LogType(LogTypeFilter),
    /// Those of which filters have said such a thing.
    Metadata(MetadataFilter),
    /// Those that an extension takes.
    Extension(TypedConfig),
}

impl FromMessage for AccessLogFilter {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let members = [
            "status_code_filter",
            "duration_filter",
            "not_health_check_filter",
            "traceable_filter",
            "runtime_filter",
            "and_filter",
            "or_filter",
            "header_filter",
            "response_flag_filter",
            "grpc_status_filter",
            "log_type_filter",
            "metadata_filter",
            "extension_filter",
        ];
        let member = r.exactly_one(&members)?;
        let read_comparison = |r: &mut MessageReader<'_>| r.required_message("comparison");
        let read_filters = |r: &mut MessageReader<'_>| r.messages("filters");
        let filter = match member {
            "status_code_filter" => r.message_with(member, read_comparison)?.map(Self::StatusCode),
            "duration_filter" => r.message_with(member, read_comparison)?.map(Self::Duration),
            "not_health_check_filter" => r.message_with(member, |_| Ok(Self::NotHealthCheck))?,
            "traceable_filter" => r.message_with(member, |_| Ok(Self::Traceable))?,
            "runtime_filter" => r.message(member)?.map(Self::Runtime),
            "and_filter" => r.message_with(member, read_filters)?.map(Self::And),
            "or_filter" => r.message_with(member, read_filters)?.map(Self::Or),
            "header_filter" => r.message_with(member, |r| r.required_message("header"))?.map(Self::Header),
            "response_flag_filter" => r.message_with(member, |r| r.strings("flags"))?.map(Self::ResponseFlag),
            "grpc_status_filter" => r.message(member)?.map(Self::GrpcStatus),
            "log_type_filter" => r.message(member)?.map(Self::LogType),
            "metadata_filter" => r.message(member)?.map(Self::Metadata),
            _ => r
                .message_with(member, |r| {
                    r.string("name")?;
                    r.typed_config("typed_config", Category::AccessLogFilters)
                })?
                .map(Self::Extension),
        };
        filter.ok_or_else(|| ConfigError::new("", "").of_kind(Kind::Noted))
    }
}

/// What a number has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// How it is compared.
    pub op: ComparisonOp,
    /// With what.
    pub value: RuntimeUInt32,
}

/// How numbers are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ComparisonOp {
    /// Equal.
    #[default]
    Eq,
    /// Greater, or equal.
    Ge,
    /// Less, or equal.
    Le,
    /// Not equal.
    Ne,
}

impl ComparisonOp {
    /// API names.
    pub const TABLE: &EnumTable<Self> =
        &[("EQ", Self::Eq), ("GE", Self::Ge), ("LE", Self::Le), ("NE", Self::Ne)];
}

impl FromMessage for Comparison {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let op = r.enumeration("op", ComparisonOp::TABLE)?.unwrap_or_default();
        Ok(Comparison { op, value: r.required_message("value")? })
    }
}

message! {
    /// A share of streams, by their ids.
    pub struct RuntimeFilter = "envoy.config.accesslog.v3.RuntimeFilter" {
        /// The share's name in the runtime.
        pub runtime_key: String,
        /// The share where the runtime has none.
        pub percent_sampled: FractionalPercent,
        /// By chance instead of the id.
        pub use_independent_randomness: bool,
    }
}

message! {
    /// Streams of which filters have said something.
    pub struct MetadataFilter = "envoy.config.accesslog.v3.MetadataFilter" {
        /// This.
        pub matcher: Option<MetadataMatcher>,
        /// Or nothing there at all.
        pub match_if_key_not_found: bool = true,
    }
}

/// Statuses of gRPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcStatusFilter {
    /// These.
    pub statuses: Vec<u32>,
    /// All but these.
    pub exclude: bool,
}

/// API names of gRPC's statuses.
const GRPC_STATUSES: &EnumTable<u32> = &[
    ("OK", 0),
    ("CANCELED", 1),
    ("UNKNOWN", 2),
    ("INVALID_ARGUMENT", 3),
    ("DEADLINE_EXCEEDED", 4),
    ("NOT_FOUND", 5),
    ("ALREADY_EXISTS", 6),
    ("PERMISSION_DENIED", 7),
    ("RESOURCE_EXHAUSTED", 8),
    ("FAILED_PRECONDITION", 9),
    ("ABORTED", 10),
    ("OUT_OF_RANGE", 11),
    ("UNIMPLEMENTED", 12),
    ("INTERNAL", 13),
    ("UNAVAILABLE", 14),
    ("DATA_LOSS", 15),
    ("UNAUTHENTICATED", 16),
];

impl FromMessage for GrpcStatusFilter {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        Ok(GrpcStatusFilter {
            statuses: r.enumerations("statuses", GRPC_STATUSES)?,
            exclude: r.bool("exclude")?,
        })
    }
}

/// Moments at which something is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTypeFilter {
    /// These.
    pub types: Vec<AccessLogType>,
    /// All but these.
    pub exclude: bool,
}

impl FromMessage for LogTypeFilter {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        Ok(LogTypeFilter {
            types: r.enumerations("types", AccessLogType::TABLE)?,
            exclude: r.bool("exclude")?,
        })
    }
}
