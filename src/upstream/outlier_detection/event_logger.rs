//! A line for each ejection, and for each end of one.
//!
//! Mirrors `EventLoggerImpl` of Envoy's `source/common/upstream/outlier_detection_impl.cc`: `OutlierDetectionEvent` as JSON.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::host_monitor::EjectionType;
use super::success_rate::EjectionPair;
use crate::config::timestamp;
use crate::upstream::HostImpl;

/// What has happened to a host.
pub struct OutlierEvent<'a> {
    /// The host.
    pub host: &'a HostImpl,
    /// Since the last ejection, or the last end of one.
    pub since_last_action: Option<Duration>,
    /// So many there were, with this one.
    pub num_ejections: u32,
    /// What it is about.
    pub action: OutlierAction,
}

/// See [`OutlierEvent`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OutlierAction {
    /// The host gets no requests for a while.
    Eject {
        /// Why.
        kind: EjectionType,
        /// Or would get none, if that were enforced.
        enforced: bool,
        /// Its success rate in percent.
        success_rate: f64,
        /// What that was compared with.
        cluster: EjectionPair,
    },
    /// It gets requests again.
    Uneject,
}

/// Who is told.
pub trait EventLogger {
    /// Something has happened to a host. Main thread.
    fn log(&self, event: &OutlierEvent<'_>);
}

/// Writes JSON, a line for each event.
pub struct EventLoggerImpl<W> {
    write: W,
}

impl<W: Fn(&[u8])> EventLoggerImpl<W> {
    /// Lines go to `write`, each with its end.
    pub fn new(write: W) -> Self {
        EventLoggerImpl { write }
    }
}

impl<W: Fn(&[u8])> EventLogger for EventLoggerImpl<W> {
    fn log(&self, event: &OutlierEvent<'_>) {
        (self.write)(format!("{}\n", json_of(event, SystemTime::now())).as_bytes());
    }
}

fn json_of(event: &OutlierEvent<'_>, now: SystemTime) -> Value {
    // Where nothing is ejected the type has its first value, as in Envoy.
    let (kind, action, enforced) = match event.action {
        OutlierAction::Eject { kind, enforced, .. } => (kind, "EJECT", enforced),
        OutlierAction::Uneject => (EjectionType::Consecutive5xx, "UNEJECT", false),
    };
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| {
        fields.insert(name.to_string(), value);
    };
    put("type", json!(kind.as_str()));
    put("timestamp", timestamp(now));
    if let Some(since) = event.since_last_action {
        put("secs_since_last_action", json!(since.as_secs().to_string()));
    }
    put("cluster_name", json!(event.host.cluster().name()));
    put("upstream_url", json!(event.host.address().to_string()));
    put("action", json!(action));
    put("num_ejections", json!(event.num_ejections));
    put("enforced", json!(enforced));
    if let OutlierAction::Eject { kind, success_rate, cluster, .. } = event.action {
        let whole = |percent: f64| json!(percent as u32);
        match kind {
            EjectionType::SuccessRate | EjectionType::SuccessRateLocalOrigin => put(
                "eject_success_rate_event",
                json!({
                    "host_success_rate": whole(success_rate),
                    "cluster_average_success_rate": whole(cluster.success_rate_average),
                    "cluster_success_rate_ejection_threshold": whole(cluster.ejection_threshold),
                }),
            ),
            EjectionType::FailurePercentage | EjectionType::FailurePercentageLocalOrigin => {
                put("eject_failure_percentage_event", json!({ "host_success_rate": whole(success_rate) }));
            }
            _ => put("eject_consecutive_event", json!({})),
        }
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::endpoint::HealthStatus;
    use crate::upstream::test_support::{cluster_info, host};

    #[test]
    fn lines_are_those_of_envoy() {
        let host = host(&cluster_info(), 80, 1, HealthStatus::Unknown);
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_000_007);
        let line = |action, num_ejections, since_last_action| {
            let event = OutlierEvent { host: &host, since_last_action, num_ejections, action };
            json_of(&event, time).to_string()
        };
        let cluster = EjectionPair { success_rate_average: 80.0, ejection_threshold: 40.5 };
        let eject = |kind, enforced| OutlierAction::Eject { kind, enforced, success_rate: 1.0, cluster };
        let of_host = r#""cluster_name":"a","upstream_url":"127.0.0.1:80""#;
        let at = r#""timestamp":"2001-09-09T01:46:40.007Z""#;
        assert_eq!(
            line(eject(EjectionType::ConsecutiveGatewayFailure, true), 1, None),
            format!(
                r#"{{"type":"CONSECUTIVE_GATEWAY_FAILURE",{at},{of_host},"action":"EJECT","num_ejections":1,"enforced":true,"eject_consecutive_event":{{}}}}"#
            )
        );
        assert_eq!(
            line(eject(EjectionType::SuccessRate, false), 0, Some(Duration::from_millis(2900))),
            format!(
                r#"{{"type":"SUCCESS_RATE",{at},"secs_since_last_action":"2",{of_host},"action":"EJECT","num_ejections":0,"enforced":false,"eject_success_rate_event":{{"host_success_rate":1,"cluster_average_success_rate":80,"cluster_success_rate_ejection_threshold":40}}}}"#
            )
        );
        assert_eq!(
            line(OutlierAction::Uneject, 3, None),
            format!(
                r#"{{"type":"CONSECUTIVE_5XX",{at},{of_host},"action":"UNEJECT","num_ejections":3,"enforced":false}}"#
            )
        );
        let failures = line(eject(EjectionType::FailurePercentageLocalOrigin, true), 1, None);
        assert!(failures.ends_with(r#""eject_failure_percentage_event":{"host_success_rate":1}}"#));
    }
}
