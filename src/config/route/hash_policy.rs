//! `HashPolicy` of `envoy.config.route.v3.RouteAction`: which requests belong together.

use std::time::Duration;

use crate::common::regex::Substitution;
use crate::config::error::ConfigError;
use crate::config::reader::{FromMessage, MessageReader};
use crate::{message, one_of};

/// By what a request is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashPolicy {
    /// By this.
    pub by: HashedBy,
    /// What comes behind it only counts where there is nothing so far.
    pub terminal: bool,
}

impl FromMessage for HashPolicy {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let terminal = r.bool("terminal")?;
        Ok(HashPolicy { by: HashedBy::read_from(r)?, terminal })
    }
}

one_of! {
    /// Something that a request is known by.
    #[derive(Eq)]
    pub enum HashedBy {
        /// A header.
        Header(HashedHeader) = "header",
        /// A cookie.
        Cookie(HashedCookie) = "cookie",
        /// Its connection.
        ConnectionProperties(HashedConnection) = "connection_properties",
        /// A parameter of its query.
        QueryParameter(HashedQueryParameter) = "query_parameter",
        /// What a filter has left in its stream.
        FilterState(HashedFilterState) = "filter_state",
    }
}

impl HashedBy {
    fn read_from(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        Self::read_member(r, "")
    }
}

message! {
    /// A header.
    #[derive(Eq)]
    pub struct HashedHeader = "envoy.config.route.v3.RouteAction.HashPolicy.Header" {
        /// Its name.
        pub header_name: String,
        /// What is made of its values before.
        pub regex_rewrite: Option<Substitution>,
    }
}

message! {
    /// A cookie.
    #[derive(Eq)]
    pub struct HashedCookie = "envoy.config.route.v3.RouteAction.HashPolicy.Cookie" {
        /// Its name.
        pub name: String,
        /// Who has none gets one, for so long; zero is for as long as the client runs.
        pub ttl: Option<Duration>,
        /// Which paths it is for.
        pub path: String,
        /// What else is said of it.
        pub attributes: Vec<CookieAttribute>,
    }
}

message! {
    /// What else is said of a cookie.
    #[derive(Eq)]
    pub struct CookieAttribute = "envoy.config.route.v3.RouteAction.HashPolicy.CookieAttribute" {
        /// Its name.
        pub name: String,
        /// Its value; empty for none.
        pub value: String,
    }
}

message! {
    /// A connection.
    #[derive(Eq)]
    pub struct HashedConnection = "envoy.config.route.v3.RouteAction.HashPolicy.ConnectionProperties" {
        /// The client's address counts.
        pub source_ip: bool,
    }
}

message! {
    /// A parameter of the query.
    #[derive(Eq)]
    pub struct HashedQueryParameter = "envoy.config.route.v3.RouteAction.HashPolicy.QueryParameter" {
        /// Its name.
        pub name: String,
    }
}

message! {
    /// What a filter has left in a stream.
    #[derive(Eq)]
    pub struct HashedFilterState = "envoy.config.route.v3.RouteAction.HashPolicy.FilterState" {
        /// Its name.
        pub key: String,
    }
}
