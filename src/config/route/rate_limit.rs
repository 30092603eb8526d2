//! `envoy.config.route.v3.RateLimit`: by what requests are counted, as the filters that do so are told it.

use crate::config::address::CidrRange;
use crate::config::error::ConfigError;
use crate::config::header_matcher::HeaderMatcher;
use crate::config::reader::{EnumTable, MessageReader};
use crate::config::route::QueryParameterMatcher;
use crate::{enum_fields, message, one_of};

message! {
    /// By what requests are counted.
    #[derive(Eq)]
    pub struct RateLimit = "envoy.config.route.v3.RateLimit" {
        /// For the filters of this stage.
        pub stage: u32,
        /// Part of the runtime's key that switches it off; empty for none.
        pub disable_key: String,
        /// What a request is described by. One that cannot be had leaves all out.
        pub actions: Vec<RateLimitAction>,
        /// It is counted when the stream ends.
        pub apply_on_stream_done: bool,
        /// How many requests it counts as, for filters that ask for it; `None` for one.
        pub hits_addend: Option<HitsAddend>,
        /// Whether clients are told how many they have left; `None` leaves it to the filter.
        pub x_ratelimit_option: Option<bool> => read_option,
        /// Another limit than the service's, for filters that ask a service.
        pub limit: Option<Override>,
    }
}

fn read_option(r: &mut MessageReader<'_>, name: &str) -> Result<Option<bool>, ConfigError> {
    const OPTIONS: &EnumTable<Option<bool>> =
        &[("UNSPECIFIED", None), ("OFF", Some(false)), ("DRAFT_VERSION_03", Some(true))];
    Ok(r.enumeration(name, OPTIONS)?.flatten())
}

message! {
    /// How many requests one counts as.
    #[derive(Eq)]
    pub struct HitsAddend = "envoy.config.route.v3.RateLimit.HitsAddend" {
        /// So many.
        pub number: Option<u64>,
        /// So many as this makes; empty for nothing.
        pub format: String,
    }
}

one_of! {
    /// Where another limit is.
    #[derive(Eq)]
    pub enum Override = "envoy.config.route.v3.RateLimit.Override" {
        /// Filters have said it.
        DynamicMetadata(OverrideMetadata) = "dynamic_metadata",
    }
}

message! {
    /// Where filters have said it.
    #[derive(Eq)]
    pub struct OverrideMetadata = "envoy.config.route.v3.RateLimit.Override.DynamicMetadata" {
        /// Where.
        pub metadata_key: MetadataKey,
    }
}

one_of! {
    /// A part of what a request is described by.
    #[derive(Eq)]
    pub enum RateLimitAction = "envoy.config.route.v3.RateLimit.Action" {
        /// This proxy's own cluster.
        SourceCluster(SourceCluster) = "source_cluster",
        /// The cluster of the route.
        DestinationCluster(DestinationCluster) = "destination_cluster",
        /// A header.
        RequestHeaders(RequestHeaders) = "request_headers",
        /// A parameter of the query.
        QueryParameters(QueryParameters) = "query_parameters",
        /// The client.
        RemoteAddress(RemoteAddress) = "remote_address",
        /// Always the same.
        GenericKey(GenericKey) = "generic_key",
        /// Whether headers are so.
        HeaderValueMatch(HeaderValueMatch) = "header_value_match",
        /// What filters have said, or the configuration says of the route.
        MetaData(MetaData) = "metadata",
        /// The client's network.
        MaskedRemoteAddress(MaskedRemoteAddress) = "masked_remote_address",
        /// Whether parameters of the query are so.
        QueryParameterValueMatch(QueryParameterValueMatch) = "query_parameter_value_match",
        /// Whether the client is in a network.
        RemoteAddressMatch(RemoteAddressMatch) = "remote_address_match",
    }
}

message! {
    /// There is nothing to be said of it.
    #[derive(Eq)]
    pub struct SourceCluster = "envoy.config.route.v3.RateLimit.Action.SourceCluster" {}
}

message! {
    /// There is nothing to be said of it.
    #[derive(Eq)]
    pub struct DestinationCluster = "envoy.config.route.v3.RateLimit.Action.DestinationCluster" {}
}

message! {
    /// There is nothing to be said of it.
    #[derive(Eq)]
    pub struct RemoteAddress = "envoy.config.route.v3.RateLimit.Action.RemoteAddress" {}
}

message! {
    /// A header.
    #[derive(Eq)]
    pub struct RequestHeaders = "envoy.config.route.v3.RateLimit.Action.RequestHeaders" {
        /// Its name.
        pub header_name: String,
        /// What it is called.
        pub descriptor_key: String,
        /// Without it the others count.
        pub skip_if_absent: bool,
    }
}

message! {
    /// A parameter of the query.
    #[derive(Eq)]
    pub struct QueryParameters = "envoy.config.route.v3.RateLimit.Action.QueryParameters" {
        /// Its name.
        pub query_parameter_name: String,
        /// What it is called.
        pub descriptor_key: String,
        /// Without it the others count.
        pub skip_if_absent: bool,
    }
}

message! {
    /// Always the same.
    #[derive(Eq)]
    pub struct GenericKey = "envoy.config.route.v3.RateLimit.Action.GenericKey" {
        /// What it is.
        pub descriptor_value: String,
        /// What it is where that formats to nothing.
        pub default_value: String,
        /// What it is called; empty for `generic_key`.
        pub descriptor_key: String,
    }
}

message! {
    /// Whether headers are so.
    #[derive(Eq)]
    pub struct HeaderValueMatch = "envoy.config.route.v3.RateLimit.Action.HeaderValueMatch" {
        /// What it is.
        pub descriptor_value: String,
        /// What it is where that formats to nothing.
        pub default_value: String,
        /// What it is called; empty for `header_match`.
        pub descriptor_key: String,
        /// Or not so; default true.
        pub expect_match: bool = true,
        /// All of them.
        pub headers: Vec<HeaderMatcher>,
    }
}

message! {
    /// The client's network.
    #[derive(Eq)]
    pub struct MaskedRemoteAddress = "envoy.config.route.v3.RateLimit.Action.MaskedRemoteAddress" {
        /// Bits of an IPv4 address.
        pub v4_prefix_mask_len: u32 = 32,
        /// Bits of an IPv6 address.
        pub v6_prefix_mask_len: u32 = 128,
    }
}

message! {
    /// Whether parameters of the query are so.
    #[derive(Eq)]
    pub struct QueryParameterValueMatch = "envoy.config.route.v3.RateLimit.Action.QueryParameterValueMatch" {
        /// What it is.
        pub descriptor_value: String,
        /// What it is where that formats to nothing.
        pub default_value: String,
        /// What it is called; empty for `query_match`.
        pub descriptor_key: String,
        /// Or not so; default true.
        pub expect_match: bool = true,
        /// All of them.
        pub query_parameters: Vec<QueryParameterMatcher>,
    }
}

message! {
    /// Whether the client is in a network.
    #[derive(Eq)]
    pub struct RemoteAddressMatch = "envoy.config.route.v3.RateLimit.Action.RemoteAddressMatch" {
        /// What it is.
        pub descriptor_value: String,
        /// What it is where that formats to nothing.
        pub default_value: String,
        /// What it is called; empty for `remote_address_match`.
        pub descriptor_key: String,
        /// In one of which.
        pub address_matcher: AddressMatcher,
    }
}

message! {
    /// Some networks.
    #[derive(Eq)]
    pub struct AddressMatcher = "envoy.type.matcher.v3.AddressMatcher" {
        /// These.
        pub ranges: Vec<CidrRange>,
        /// Or all others.
        pub invert_match: bool,
    }
}

message! {
    /// What filters have said, or the configuration says of the route.
    #[derive(Eq)]
    pub struct MetaData = "envoy.config.route.v3.RateLimit.Action.MetaData" {
        /// What it is called.
        pub descriptor_key: String,
        /// Where it is.
        pub metadata_key: MetadataKey,
        /// What it is where no text is there.
        pub default_value: String,
        /// Who says it.
        pub source: MetadataSource,
        /// Without it the others count.
        pub skip_if_absent: bool,
    }
}

message! {
    /// A place in metadata.
    #[derive(Eq)]
    pub struct MetadataKey = "envoy.type.metadata.v3.MetadataKey" {
        /// Whose.
        pub key: String,
        /// The keys from there on.
        pub path: Vec<MetadataPathSegment>,
    }
}

message! {
    /// A step to a place in metadata.
    #[derive(Eq)]
    pub message MetadataPathSegment = "envoy.type.metadata.v3.MetadataKey.PathSegment" {
        /// The key of the next one.
        pub key: String,
    }
}

/// Who says something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MetadataSource {
    /// Filters.
    #[default]
    Dynamic,
    /// The configuration of the route.
    RouteEntry,
}

impl MetadataSource {
    const TABLE: &EnumTable<Self> = &[("DYNAMIC", Self::Dynamic), ("ROUTE_ENTRY", Self::RouteEntry)];
}

enum_fields! { MetadataSource }
