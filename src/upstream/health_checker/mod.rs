//! Hosts are asked whether they are well, and get no requests while they are not.
//!
//! Mirrors Envoy's `source/common/upstream/health_checker_base_impl.cc` and `health_checker_impl.cc`, with the fields, flags and
//! statistics of 1.40.
//!
//! ```text
//! workers                               main thread
//! router ── x-envoy-immediate-          HealthCheckerImplBase ── of the cluster
//!           health-check-fail             │  ▲
//!               └─────── post ────────────┼──┘
//!                                         └── ActiveHealthCheckSession ── of each host: timers, counts
//!                                               ├── HttpActiveHealthCheckSession or TcpActiveHealthCheckSession: a connection
//!                                               └── HealthFlag of the host, reload_healthy_hosts ──> all workers
//! ```
//!
//! Several checks of one cluster have a `CompositeHealthChecker` between them and the flags of hosts.
//!
//! What Envoy makes classes that derive from others are here two objects for a host: what all kinds of checks have in common,
//! and behind a trait what one kind does with its connection. Kinds of checks that need HTTP/2 (gRPC) have their place beside
//! the two that are there.

mod base;
mod composite;
#[cfg(test)]
mod config_tests;
mod event_logger;
mod http;
mod payload_matcher;
mod session;
mod settings;
mod stats;
mod tcp;
#[cfg(test)]
mod tests;

pub use base::{
    HealthCheckHostMonitor, HealthCheckerImplBase, HealthState, HealthTransition, HostStatusCb, UnhealthyType,
};
pub use event_logger::{
    FILE_SINK, HealthCheckEvent, HealthCheckEventKind, HealthCheckEventSink, HealthCheckEventSinkConfig,
    HealthCheckEventSinkFactory, HealthCheckFailureType, HealthCheckerType,
};
pub use stats::HealthCheckerStats;
