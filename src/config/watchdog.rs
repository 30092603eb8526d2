//! `envoy.config.bootstrap.v3.Watchdogs`: how long a thread may stay away from its loop.

use super::core::Percent;
use super::error::ConfigError;
use super::reader::MessageReader;
use crate::message;
use std::time::Duration;

message! {
    /// `Watchdog`: the limits for one kind of threads.
    pub struct Watchdog = "envoy.config.bootstrap.v3.Watchdog" {
        /// After which it is a miss; default 200 ms.
        pub miss_timeout: Duration = Duration::from_millis(200),
        /// After which it is a mega miss; default 1 s.
        pub megamiss_timeout: Duration = Duration::from_millis(1000),
        /// After which the process is ended; zero, the default, is never.
        pub kill_timeout: Duration,
        /// Up to so much more, by chance, until the process is ended; default 0.
        pub max_kill_timeout_jitter: Duration,
        /// After which the process is ended if several threads are away; zero, the default, is never.
        pub multikill_timeout: Duration,
        /// How many of the threads are several, two at least; default 0.
        pub multikill_threshold: Percent,
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
    pub(super) fn of_bootstrap(r: &mut MessageReader<'_>, _: &str) -> Result<Self, ConfigError> {
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
