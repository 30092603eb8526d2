//! [`UpstreamOperator`]: commands for what a stream has come to know of its upstream.
//!
//! Mirrors the table of Envoy 1.40's `source/common/formatter/stream_info_formatter.cc`. As there, a try begins a new list of the
//! hosts and connections that were tried, so that each has one entry at most.

use super::command_parser::Written;
use super::operator::{write_host_name, write_number, write_text};
use crate::stream_info::StreamInfoImpl;

/// Prints one value.
#[derive(Clone, Copy, Debug)]
pub(super) enum UpstreamOperator {
    ConnectionId,
    ConnectionIdsAttempted,
    /// With their ports, or without.
    HostsAttempted(bool),
    HostNamesAttempted(bool),
    /// In milliseconds.
    ConnectionPoolReadyDuration,
    VirtualClusterName,
}

impl UpstreamOperator {
    pub(super) fn find(name: &str) -> Option<Self> {
        Some(match name {
            "UPSTREAM_CONNECTION_ID" => Self::ConnectionId,
            "UPSTREAM_CONNECTION_IDS_ATTEMPTED" => Self::ConnectionIdsAttempted,
            "UPSTREAM_HOSTS_ATTEMPTED" => Self::HostsAttempted(true),
            "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT" => Self::HostsAttempted(false),
            "UPSTREAM_HOST_NAMES_ATTEMPTED" => Self::HostNamesAttempted(true),
            "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT" => Self::HostNamesAttempted(false),
            "UPSTREAM_CONNECTION_POOL_READY_DURATION" => Self::ConnectionPoolReadyDuration,
            "VIRTUAL_CLUSTER_NAME" => Self::VirtualClusterName,
            _ => return None,
        })
    }

    /// Appends the value.
    pub(super) fn write(self, line: &mut Vec<u8>, info: &StreamInfoImpl) -> Written {
        let connection = info.upstream_connection().map_or(0, |connection| connection.connection_id());
        match self {
            Self::ConnectionId => write_number(line, connection),
            Self::VirtualClusterName => write_text(line, info.virtual_cluster_name()),
            Self::ConnectionPoolReadyDuration => match info.upstream_pool_ready_duration.get() {
                Some(duration) => write_number(line, duration.as_millis() as u64),
                None => Written::Nothing,
            },
            // Only those with a connection have been tried.
            _ if connection == 0 => Written::Nothing,
            Self::ConnectionIdsAttempted => write_text(line, &connection.to_string()),
            Self::HostNamesAttempted(with_port) => write_host_name(line, info, with_port),
            Self::HostsAttempted(with_port) => {
                let Some(host) = info.upstream_host() else { return Written::Nothing };
                match with_port {
                    true => write_text(line, &host.address().to_string()),
                    false => write_text(line, &host.address().as_string_without_port()),
                }
            }
        }
    }
}
