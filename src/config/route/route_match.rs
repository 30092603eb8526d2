//! `envoy.config.route.v3.RouteMatch`: which requests a route is for.

use crate::common::regex::CompiledMatcher;
use crate::config::core::RuntimeFractionalPercent;
use crate::config::error::ConfigError;
use crate::config::extension::{Category, TypedConfig};
use crate::config::header_matcher::{HeaderMatcher, StringMatcher};
use crate::config::metadata_matcher::{FilterStateMatcher, MetadataMatcher};
use crate::config::reader::{FromMessage, MessageReader};
use crate::{message, one_of};

message! {
    /// Which requests a route is for.
    pub message RouteMatch = "envoy.config.route.v3.RouteMatch" {
        /// Default true.
        pub case_sensitive: bool = true,
        /// A share of them.
        pub runtime_fraction: Option<RuntimeFractionalPercent>,
        /// Those with all of these headers.
        pub headers: Vec<HeaderMatcher>,
        /// Those with all of these parameters in the query.
        pub query_parameters: Vec<QueryParameterMatcher>,
        /// Those with all of these cookies.
        pub cookies: Vec<CookieMatcher>,
        /// Those of gRPC.
        pub grpc: bool => read_grpc,
        /// What the client has shown of itself.
        pub tls_context: Option<TlsContextMatch>,
        /// Those of which filters have said all of this.
        pub dynamic_metadata: Vec<MetadataMatcher>,
        /// Those in which filters have left all of this.
        pub filter_state: Vec<FilterStateMatcher>,
        /// What the path has to be.
        pub path: PathMatch => PathMatch::read_member,
    }
}

fn read_grpc(r: &mut MessageReader<'_>, name: &str) -> Result<bool, ConfigError> {
    Ok(r.message_with(name, |_| Ok(()))?.is_some())
}

one_of! {
    /// How a path, without its query, is compared.
    pub enum PathMatch {
        /// It starts with this.
        Prefix(String) = "prefix",
        /// It is this.
        Path(String) = "path",
        /// It is matched as a whole.
        Regex(CompiledMatcher) = "safe_regex",
        /// It is this, or has a slash behind it.
        SeparatedPrefix(String) = "path_separated_prefix",
        /// An extension takes it.
        Policy(PathMatchPolicy) = "path_match_policy",
        /// Any: the request is a CONNECT.
        Connect(ConnectMatcher) = "connect_matcher",
    }
}

message! {
    /// There is nothing to be said of it.
    #[derive(Eq)]
    pub struct ConnectMatcher = "envoy.config.route.v3.RouteMatch.ConnectMatcher" {}
}

/// An extension that takes paths.
#[derive(Debug, Clone, PartialEq)]
pub struct PathMatchPolicy(pub TypedConfig);

impl FromMessage for PathMatchPolicy {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        r.string("name")?;
        Ok(PathMatchPolicy(r.typed_config("typed_config", Category::PathMatchers)?))
    }
}

message! {
    /// What a client has shown of itself.
    #[derive(Eq)]
    pub struct TlsContextMatch = "envoy.config.route.v3.RouteMatch.TlsContextMatchOptions" {
        /// A certificate, or none.
        pub presented: Option<bool>,
        /// One that is to be trusted, or none.
        pub validated: Option<bool>,
    }
}

/// What a parameter of the query has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryParameterMatcher {
    /// Its name, as the query has it.
    pub name: String,
    /// What its first value has to be.
    pub matches: ParameterMatch,
}

/// What the value of a parameter has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParameterMatch {
    /// There, or not there.
    Present(bool),
    /// A text.
    String(StringMatcher),
}

impl FromMessage for QueryParameterMatcher {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let name = r.string("name")?;
        let matches = match r.at_most_one(&["string_match", "present_match"])? {
            None => ParameterMatch::Present(true),
            Some("present_match") => ParameterMatch::Present(r.bool("present_match")?),
            Some(_) => ParameterMatch::String(r.required_message("string_match")?),
        };
        Ok(QueryParameterMatcher { name, matches })
    }
}

/// What a cookie has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieMatcher {
    /// Its name.
    pub name: String,
    /// Its value.
    pub matches: StringMatcher,
    /// It has to be anything else.
    pub invert: bool,
}

impl FromMessage for CookieMatcher {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let (name, invert) = (r.string("name")?, r.bool("invert_match")?);
        Ok(CookieMatcher { name, matches: r.required_message("string_match")?, invert })
    }
}
