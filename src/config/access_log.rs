//! `envoy.config.accesslog.v3`, and what is logged (`envoy.data.accesslog.v3`).

use super::access_log_filter::AccessLogFilter;
use super::error::ConfigError;
use super::extension::{Category, TypedConfig};
use super::reader::{EnumTable, FromMessage, MessageReader};

/// One access logger.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLog {
    /// Any text; what counts is the type of the configuration.
    pub name: String,
    /// Which streams it logs; `None` is all.
    pub filter: Option<AccessLogFilter>,
    /// What it is.
    pub typed_config: TypedConfig,
}

impl FromMessage for AccessLog {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let name = r.string("name")?;
        let filter = r.message("filter")?;
        Ok(Self { name, filter, typed_config: r.typed_config("typed_config", Category::AccessLoggers)? })
    }
}

/// What is logged of a stream, or when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AccessLogType {
    /// Nothing is being logged.
    #[default]
    NotSet,
    /// A connection has come.
    TcpConnectionStart,
    /// A connection has reached its upstream.
    TcpUpstreamConnected,
    /// A connection goes on.
    TcpPeriodic,
    /// A connection has ended.
    TcpConnectionEnd,
    /// A request has come.
    DownstreamStart,
    /// A request goes on.
    DownstreamPeriodic,
    /// A request has ended.
    DownstreamEnd,
    /// A try has got its connection.
    UpstreamPoolReady,
    /// A try goes on.
    UpstreamPeriodic,
    /// A try has ended.
    UpstreamEnd,
    /// A tunnel to the downstream stands.
    DownstreamTunnelSuccessfullyEstablished,
    /// A session of UDP has got its tunnel.
    UdpTunnelUpstreamConnected,
    /// A session of UDP goes on.
    UdpPeriodic,
    /// A session of UDP has ended.
    UdpSessionEnd,
}

impl AccessLogType {
    /// API names.
    pub const TABLE: &EnumTable<Self> = &[
        ("NotSet", Self::NotSet),
        ("TcpConnectionStart", Self::TcpConnectionStart),
        ("TcpUpstreamConnected", Self::TcpUpstreamConnected),
        ("TcpPeriodic", Self::TcpPeriodic),
        ("TcpConnectionEnd", Self::TcpConnectionEnd),
        ("DownstreamStart", Self::DownstreamStart),
        ("DownstreamPeriodic", Self::DownstreamPeriodic),
        ("DownstreamEnd", Self::DownstreamEnd),
        ("UpstreamPoolReady", Self::UpstreamPoolReady),
        ("UpstreamPeriodic", Self::UpstreamPeriodic),
        ("UpstreamEnd", Self::UpstreamEnd),
        ("DownstreamTunnelSuccessfullyEstablished", Self::DownstreamTunnelSuccessfullyEstablished),
        ("UdpTunnelUpstreamConnected", Self::UdpTunnelUpstreamConnected),
        ("UdpPeriodic", Self::UdpPeriodic),
        ("UdpSessionEnd", Self::UdpSessionEnd),
    ];

    /// The API's name.
    pub fn name(self) -> &'static str {
        Self::TABLE.iter().find(|row| row.1 == self).map_or("", |row| row.0)
    }
}
