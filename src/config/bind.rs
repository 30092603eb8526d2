//! Where connections come from, and options of their sockets.

use super::address::SocketAddress;
use super::error::ConfigError;
use super::reader::{EnumTable, FromMessage, MessageReader};
use crate::message;

message! {
    /// `envoy.config.core.v3.BindConfig`.
    #[derive(Eq)]
    pub struct BindConfig = "envoy.config.core.v3.BindConfig" {
        /// Local address of upstream connections.
        pub source_address: Option<SocketAddress>,
        /// Whether that may be one that the host has not (`IP_FREEBIND`).
        pub freebind: bool,
        /// Of the sockets.
        pub socket_options: Vec<SocketOption>,
        /// The local address of connections to addresses of the other version of IP.
        pub extra_source_addresses: Vec<ExtraSourceAddress>,
        /// The same, as it was said before.
        pub additional_source_addresses: Vec<SocketAddress>,
    }
}

message! {
    /// `envoy.config.core.v3.ExtraSourceAddress`.
    #[derive(Eq)]
    pub struct ExtraSourceAddress = "envoy.config.core.v3.ExtraSourceAddress" {
        /// The address; has to be there.
        pub address: Option<SocketAddress>,
        /// Of sockets that have it, instead of the others.
        pub socket_options: Option<SocketOptionsOverride>,
    }
}

message! {
    /// `envoy.config.core.v3.SocketOptionsOverride`.
    #[derive(Eq)]
    pub struct SocketOptionsOverride = "envoy.config.core.v3.SocketOptionsOverride" {
        /// Maybe none.
        pub socket_options: Vec<SocketOption>,
    }
}

impl BindConfig {
    /// The address for the other version of IP, if one is given, and the options of its sockets.
    pub fn extra(&self) -> Option<(&SocketAddress, &[SocketOption])> {
        let extra = self.extra_source_addresses.first().and_then(|extra| {
            let options = extra.socket_options.as_ref().map(|own| &own.socket_options);
            Some((extra.address.as_ref()?, &options.unwrap_or(&self.socket_options)[..]))
        });
        extra.or_else(|| Some((self.additional_source_addresses.first()?, &self.socket_options[..])))
    }

    /// What is wrong with it, as it is said of the cluster of that name; the field, and the words.
    pub fn check(&self, cluster: &str) -> Option<(&'static str, String)> {
        const FIELDS: &str = "extra_source_addresses/additional_source_addresses";
        let (extra, additional) = (self.extra_source_addresses.len(), self.additional_source_addresses.len());
        let of = format!("Cluster {cluster}'s upstream binding config");
        if extra > 0 && additional > 0 {
            let message =
                "Can't specify both `extra_source_addresses` and `additional_source_addresses` in the";
            return Some(("extra_source_addresses", format!("{message} {of}")));
        }
        let Some(source) = &self.source_address else {
            let message = format!(
                "{of} has extra/additional source addresses but no source_address. Extra/additional addresses cannot be \
                 specified if source_address is not set."
            );
            return (extra + additional > 0).then_some(("source_address", message));
        };
        if extra + additional > 1 {
            let message = format!(
                "{of} has more than one extra/additional source addresses. Only one extra/additional source can be supported in \
                 BindConfig's {FIELDS} field"
            );
            return Some(("extra_source_addresses", message));
        }
        let other = self.extra().map(|(address, _)| address);
        for address in std::iter::once(source).chain(other) {
            if address.to_socket_addr().is_none() {
                return Some(("source_address", format!("malformed IP address: {}", address.address)));
            }
        }
        let is_v4 = |address: &SocketAddress| address.to_socket_addr().map(|address| address.is_ipv4());
        other.filter(|other| is_v4(other) == is_v4(source)).map(|_| {
            let message = format!(
                "{of} has two same IP version source addresses. Only two different IP version source addresses can be supported \
                 in BindConfig's source_address and {FIELDS} fields"
            );
            ("extra_source_addresses", message)
        })
    }
}

/// An option by its numbers (`envoy.config.core.v3.SocketOption`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SocketOption {
    /// As `SOL_SOCKET`.
    pub level: i32,
    /// As `SO_KEEPALIVE`.
    pub name: i32,
    /// What it is set to.
    pub value: i32,
    /// When it is set.
    pub state: SocketState,
}

/// When an option is set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SocketState {
    /// Before the socket has an address.
    #[default]
    Prebind,
    /// Behind that; connections that are opened know no such time.
    Bound,
    /// When it listens.
    Listening,
}

const STATES: &EnumTable<SocketState> = &[
    ("STATE_PREBIND", SocketState::Prebind),
    ("STATE_BOUND", SocketState::Bound),
    ("STATE_LISTENING", SocketState::Listening),
];

/// What the kernel takes as an `int`.
fn read_number(r: &mut MessageReader<'_>, name: &str) -> Result<i32, ConfigError> {
    let number = r.i64(name)?;
    Ok(i32::try_from(number).unwrap_or_else(|_| {
        r.refuse(name, format!("{number} is no number that a socket option has"));
        0
    }))
}

impl FromMessage for SocketOption {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        // For who reads the configuration.
        r.string("description")?;
        Ok(SocketOption {
            level: read_number(r, "level")?,
            name: read_number(r, "name")?,
            value: read_number(r, "int_value")?,
            state: r.enumeration("state", STATES)?.unwrap_or_default(),
        })
    }
}
