//! `envoy.config.bootstrap.v3.Watchdogs`: how long a thread may stay away from its loop.

use super::core::Percent;
use super::error::ConfigError;
use super::reader::{FromMessage, MessageReader};
use crate::message;
use std::time::Duration;

/// `Watchdog`: the limits for one kind of threads.
#[derive(Debug, Clone, PartialEq)]
pub struct Watchdog {
    /// After which it is a miss; default 200 ms.
    pub miss_timeout: Duration,
    /// After which it is a mega miss; default 1 s.
    pub megamiss_timeout: Duration,
    /// After which the process is ended; zero, the default, is never.
    pub kill_timeout: Duration,
    /// Up to so much more, by chance, until the process is ended; default 0.
    pub max_kill_timeout_jitter: Duration,
    /// After which the process is ended if several threads are away; zero, the default, is never.
    pub multikill_timeout: Duration,
    /// How many percent of the threads are several, two at least; default 0.
    pub multikill_threshold: f64,
}

impl Default for Watchdog {
    fn default() -> Self {
        Self {
            miss_timeout: Duration::from_millis(200),
            megamiss_timeout: Duration::from_millis(1000),
            kill_timeout: Duration::ZERO,
            max_kill_timeout_jitter: Duration::ZERO,
            multikill_timeout: Duration::ZERO,
            multikill_threshold: 0.0,
        }
    }
}

impl FromMessage for Watchdog {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let default = Self::default();
        let threshold: Option<Percent> = r.message("multikill_threshold")?;
        Ok(Self {
            miss_timeout: r.duration("miss_timeout")?.unwrap_or(default.miss_timeout),
            megamiss_timeout: r.duration("megamiss_timeout")?.unwrap_or(default.megamiss_timeout),
            kill_timeout: r.duration("kill_timeout")?.unwrap_or_default(),
            max_kill_timeout_jitter: r.duration("max_kill_timeout_jitter")?.unwrap_or_default(),
            multikill_timeout: r.duration("multikill_timeout")?.unwrap_or_default(),
            multikill_threshold: threshold.map_or(0.0, |percent| percent.value),
        })
    }
}

message! {
    /// `Watchdogs`: the limits for the main thread and for the workers.
    pub struct Watchdogs = "envoy.config.bootstrap.v3.Watchdogs" {
        /// For the main thread.
        pub main_thread_watchdog: Watchdog,
        /// For each worker.
        pub worker_watchdog: Watchdog,
    }
}

impl Watchdogs {
    /// From `watchdogs`, or from the older `watchdog`, which is for all threads.
    pub(super) fn of_bootstrap(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let all: Option<Watchdog> = r.message("watchdog")?;
        let each: Option<Watchdogs> = r.message("watchdogs")?;
        if all.is_some() && each.is_some() {
            r.refuse("watchdog", "Only one of watchdog or watchdogs should be set!");
        }
        match all {
            Some(all) => Ok(Self { main_thread_watchdog: all.clone(), worker_watchdog: all }),
            None => Ok(each.unwrap_or_default()),
        }
    }
}
