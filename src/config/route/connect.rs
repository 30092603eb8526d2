//! Tunnels that end here: `ConnectConfig` of `envoy.config.route.v3`, and what the PROXY protocol says in front of them.

use crate::config::reader::EnumTable;
use crate::{enum_fields, message};

message! {
    /// How a tunnel ends here.
    #[derive(Eq)]
    pub struct ConnectConfig = "envoy.config.route.v3.RouteAction.UpgradeConfig.ConnectConfig" {
        /// Tells the upstream whose tunnel it is; `None` for nothing.
        pub proxy_protocol_config: Option<ProxyProtocolConfig>,
        /// The bodies of POST requests are tunnels, too.
        pub allow_post: bool,
    }
}

message! {
    /// What the PROXY protocol says in front of a connection.
    #[derive(Eq)]
    pub struct ProxyProtocolConfig = "envoy.config.core.v3.ProxyProtocolConfig" {
        /// As text or as bytes.
        pub version: ProxyProtocolVersion,
    }
}

/// The version of the PROXY protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ProxyProtocolVersion {
    /// Text.
    #[default]
    V1,
    /// Bytes.
    V2,
}

impl ProxyProtocolVersion {
    /// API names.
    pub const TABLE: &EnumTable<Self> = &[("V1", Self::V1), ("V2", Self::V2)];
}

enum_fields! { ProxyProtocolVersion }
