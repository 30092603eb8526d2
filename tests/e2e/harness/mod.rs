//! What the cases stand on: proxies, scripted upstreams, raw clients, and the comparison of bytes.

mod action;
mod admin;
mod board;
mod case;
mod certs;
mod client;
mod config;
mod dns;
mod dnsmasq;
mod expect;
mod faults;
mod nginx;
mod pairs;
mod proxy;
mod runner;
mod spread;
mod upstream;
mod verdict;
mod wire;

pub use action::Action;
pub use admin::ParsedReply;
pub use board::{PATIENCE, Seen};
pub use case::{Case, End, Step};
pub use certs::{Authority, Identity, TlsClient, serve_tls};
pub use config::{ACCESS_LOG, RefusingPort, minimal};
pub use dns::{DnsAnswer, DnsServer, Trick};
pub use dnsmasq::Dnsmasq;
pub use expect::{
    BAD_REQUEST, CONNECTION_TERMINATED, DIRECT, EMPTY_BAD_REQUEST, NOT_IMPLEMENTED, OK, PROTOCOL_ERROR,
    TOO_LARGE, UPGRADE_REQUIRED, normalize, printable,
};
pub use faults::{Fault, Faults, Threads};
pub use nginx::Nginx;
pub use pairs::Pairs;
pub use proxy::{Kind, Launch, Proxy, new_directory};
pub use runner::{Site, proxies, run};
pub use spread::{Keyed, Spread, numbered_hosts};
pub use verdict::{agree, validated};
pub use wire::{Wire, serve_each};
