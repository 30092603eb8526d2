//! Hosts that fail get no requests for a while.
//!
//! Mirrors Envoy's `source/common/upstream/outlier_detection_impl.cc`, with the kinds, fields and statistics of 1.40.
//!
//! ```text
//! workers                               main thread
//! router ──> DetectorHostMonitorImpl    DetectorImpl ── timer: success rates, ends of ejections
//!            (of the host, shared:        │  ▲
//!             counts, rates)              │  └── post: so many failures in a row
//!               └─────── post ────────────┘
//!                                         └── HealthFlag of the host, reload_healthy_hosts ──> all workers
//! ```
//!
//! A host of a cluster that detects nothing has no monitor (Envoy: `DetectorHostMonitorNullImpl`).

mod config;
mod detector;
mod event_logger;
mod host_monitor;
mod stats;
mod success_rate;
#[cfg(test)]
mod tests;

pub use config::DetectorConfig;
pub use detector::{ChangeStateCb, DetectorImpl};
pub use event_logger::{EventLogger, EventLoggerImpl, OutlierAction, OutlierEvent};
pub use host_monitor::{DetectorHostMonitorImpl, EjectionType, OutlierResult};
pub use stats::DetectionStats;
pub use success_rate::{EjectionPair, SuccessRateMonitorType};
