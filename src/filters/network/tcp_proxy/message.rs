//! `envoy.extensions.filters.network.tcp_proxy.v3`.

use std::time::Duration;

use crate::config::AccessLog;
use crate::config::core::{Metadata, Percent};
use crate::config::error::ConfigError;
use crate::config::reader::{FromMessage, MessageReader};
use crate::{message, one_of};

message! {
    /// The filter that passes on what comes on a connection.
    pub message TcpProxy = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", checked by check {
        /// Never empty.
        pub stat_prefix: String,
        /// Where connections go.
        pub cluster_specifier: ClusterSpecifier => ClusterSpecifier::read_member,
        /// Which hosts may be chosen, for balancers that choose by metadata.
        pub metadata_match: Option<Metadata>,
        /// Nothing has gone either way for so long; default 1 h, zero is no limit.
        pub idle_timeout: Duration = Duration::from_secs(3600),
        /// Logged per connection.
        pub access_log: Vec<AccessLog>,
        /// How often connecting is tried; default 1, not less.
        pub max_connect_attempts: u32 = 1,
        /// How long to wait between attempts; `None` is not at all.
        pub backoff_options: Option<BackoffStrategy>,
        /// Which connections belong together; one at most.
        pub hash_policy: Vec<HashPolicy>,
        /// How long a connection may last; `None` is for ever.
        pub max_downstream_connection_duration: Option<Duration>,
        /// Up to so much of it is added at random, in percent.
        pub max_downstream_connection_duration_jitter_percentage: Option<Percent>,
        /// The older place of what is in the options below.
        pub access_log_flush_interval: Option<Duration>,
        /// The same.
        pub flush_access_log_on_connected: bool,
        /// When connections that have not ended are logged.
        pub access_log_options: Option<TcpAccessLogOptions>,
    }
}

one_of! {
    /// Which cluster a connection goes to.
    pub enum ClusterSpecifier {
        /// This.
        Cluster(String) = "cluster",
        /// One of several.
        Weighted(WeightedCluster) = "weighted_clusters",
    }
}

message! {
    /// Several clusters that share the connections.
    pub struct WeightedCluster = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster" {
        /// At least one.
        pub clusters: Vec<ClusterWeight>,
    }
}

message! {
    /// One of several clusters.
    pub struct ClusterWeight = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight" {
        /// Never empty.
        pub name: String,
        /// So many parts of all; at least 1.
        pub weight: u32,
        /// Which hosts may be chosen; wins over what the filter says.
        pub metadata_match: Option<Metadata>,
    }
}

message! {
    /// When connections that have not ended are logged.
    #[derive(Eq)]
    pub struct TcpAccessLogOptions = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.TcpAccessLogOptions" {
        /// Each time that so much time has passed.
        pub access_log_flush_interval: Option<Duration>,
        /// When the upstream is there.
        pub flush_access_log_on_connected: bool,
        /// When they come.
        pub flush_access_log_on_start: bool,
    }
}

message! {
    /// How long to wait before something is tried again.
    #[derive(Eq)]
    pub struct BackoffStrategy = "envoy.config.core.v3.BackoffStrategy", checked by check_backoff {
        /// At first; at least 1 ms.
        pub base_interval: Duration,
        /// At most; `None` is ten times as long.
        pub max_interval: Option<Duration>,
    }
}

fn check_backoff(r: &MessageReader<'_>, strategy: &BackoffStrategy) {
    // As Envoy compares them: less than a millisecond is none.
    if strategy.max_interval.is_some_and(|max| max.as_millis() < strategy.base_interval.as_millis()) {
        let message = "max_backoff_interval must be greater or equal to base_backoff_interval";
        r.refuse("max_interval", message);
    }
}

/// By what a connection is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashPolicy {
    /// The client's address.
    SourceIp,
    /// What a filter has left in its stream, under this name.
    FilterState(String),
}

impl FromMessage for HashPolicy {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        r.one_of(&[
            ("source_ip", |r, name| r.message_with(name, |_| Ok(())).map(|_| HashPolicy::SourceIp)),
            ("filter_state", |r, name| {
                let key = r.message_with(name, |r| r.string("key"))?.unwrap_or_default();
                Ok(HashPolicy::FilterState(key))
            }),
        ])
    }
}

fn check(r: &MessageReader<'_>, proxy: &TcpProxy) {
    if proxy.access_log_options.is_some() {
        if proxy.flush_access_log_on_connected {
            r.refuse(
                "flush_access_log_on_connected",
                "Only one of flush_access_log_on_connected or access_log_options can be specified.",
            );
        }
        if proxy.access_log_flush_interval.is_some() {
            r.refuse(
                "access_log_flush_interval",
                "Only one of access_log_flush_interval or access_log_options can be specified.",
            );
        }
    }
}
