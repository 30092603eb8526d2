//! A line for each host that becomes healthy or unhealthy, and what else is an event.
//!
//! Mirrors `HealthCheckEventLoggerImpl` of Envoy's `source/common/upstream/health_checker_base_impl.cc`, and as of 1.40
//! `source/extensions/health_check/event_sinks/file/file_sink_impl.cc`: `HealthCheckEvent` as JSON, with its fields in the
//! order of their numbers and those that have their defaults among them.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::config::extension::Factory;
use crate::config::health_check::HealthCheck;
use crate::config::{ConfigError, timestamp};
use crate::network::Address;
use crate::upstream::{ClusterServices, HostImpl, LineSink};

/// How hosts are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthCheckerType {
    /// With requests.
    Http,
    /// With connections.
    Tcp,
}

/// What was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthCheckFailureType {
    /// The answer.
    Active,
    /// The host has said so in an answer to somebody else.
    Passive,
    /// There was no answer.
    Network,
    /// There was none in time.
    NetworkTimeout,
}

impl HealthCheckFailureType {
    /// Whether there was no answer.
    pub fn is_of_network(self) -> bool {
        matches!(self, HealthCheckFailureType::Network | HealthCheckFailureType::NetworkTimeout)
    }

    fn as_str(self) -> &'static str {
        match self {
            HealthCheckFailureType::Active => "ACTIVE",
            HealthCheckFailureType::Passive => "PASSIVE",
            HealthCheckFailureType::Network => "NETWORK",
            HealthCheckFailureType::NetworkTimeout => "NETWORK_TIMEOUT",
        }
    }
}

/// What has happened to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthCheckEventKind {
    /// It is unhealthy now.
    EjectUnhealthy {
        /// Why.
        failure: HealthCheckFailureType,
        /// The status of its answer; 0 where there was none.
        http_status: u16,
    },
    /// It is healthy now.
    AddHealthy {
        /// It was not checked before.
        first_check: bool,
    },
    /// It has passed.
    Success,
    /// It has failed.
    Failure {
        /// Why.
        failure: HealthCheckFailureType,
        /// It was not checked before.
        first_check: bool,
        /// The status of its answer; 0 where there was none.
        http_status: u16,
    },
    /// It says that it is degraded.
    Degraded,
    /// It no longer says so.
    NoLongerDegraded,
}

/// See [`HealthCheckEventKind`].
pub struct HealthCheckEvent<'a> {
    /// How the host was asked.
    pub checker: HealthCheckerType,
    /// The host.
    pub host: &'a HostImpl,
    /// What has happened to it.
    pub kind: HealthCheckEventKind,
    /// When.
    pub time: SystemTime,
}

/// Who is told. Main thread.
pub trait HealthCheckEventSink {
    /// Something has happened to a host.
    fn log(&self, event: &HealthCheckEvent<'_>);
}

/// What a configuration says of somebody who is told.
pub trait HealthCheckEventSinkConfig: Any + Debug + Send + Sync {
    /// Makes him.
    ///
    /// # Errors
    /// What is asked for cannot be had, a file for instance.
    fn create(&self, services: &dyn ClusterServices) -> Result<Box<dyn HealthCheckEventSink>, ConfigError>;
}

/// Reads the configuration of somebody who is told.
pub type HealthCheckEventSinkFactory = Factory<dyn HealthCheckEventSinkConfig>;

/// Lines of a file.
pub static FILE_SINK: HealthCheckEventSinkFactory = HealthCheckEventSinkFactory::new(
    "envoy.health_check.event_sink.file",
    &["envoy.extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink"],
    |r| Ok(Arc::new(FileSinkConfig { event_log_path: r.string("event_log_path")? })),
);

#[derive(Debug)]
struct FileSinkConfig {
    event_log_path: String,
}

impl HealthCheckEventSinkConfig for FileSinkConfig {
    fn create(&self, services: &dyn ClusterServices) -> Result<Box<dyn HealthCheckEventSink>, ConfigError> {
        file_sink(&self.event_log_path, services)
    }
}

struct FileSink(LineSink);

fn file_sink(
    path: &str,
    services: &dyn ClusterServices,
) -> Result<Box<dyn HealthCheckEventSink>, ConfigError> {
    Ok(Box::new(FileSink(services.create_access_log(path).map_err(ConfigError::document)?)))
}

impl HealthCheckEventSink for FileSink {
    fn log(&self, event: &HealthCheckEvent<'_>) {
        self.0(format!("{}\n", json_of(event)).as_bytes());
    }
}

/// All that are told of the hosts of a cluster; empty where nobody is.
pub(super) fn event_sinks(
    config: &HealthCheck,
    services: &dyn ClusterServices,
) -> Result<Box<[Box<dyn HealthCheckEventSink>]>, ConfigError> {
    let mut sinks = Vec::new();
    if !config.event_log_path.is_empty() {
        sinks.push(file_sink(&config.event_log_path, services)?);
    }
    for sink in &config.event_logger {
        sinks.push(sink.get::<dyn HealthCheckEventSinkConfig>()?.create(services)?);
    }
    Ok(sinks.into())
}

fn json_of(event: &HealthCheckEvent<'_>) -> Value {
    use HealthCheckEventKind::{AddHealthy, Degraded, EjectUnhealthy, Failure, NoLongerDegraded, Success};
    let checker = match event.checker {
        HealthCheckerType::Http => "HTTP",
        HealthCheckerType::Tcp => "TCP",
    };
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| {
        fields.insert(name.to_string(), value);
    };
    put("health_checker_type", json!(checker));
    put("host", address_json(event.host.address()));
    put("cluster_name", json!(event.host.cluster().name()));
    match event.kind {
        EjectUnhealthy { failure, http_status } => put(
            "eject_unhealthy_event",
            json!({ "failure_type": failure.as_str(), "http_status_code": http_status }),
        ),
        AddHealthy { first_check } => put("add_healthy_event", json!({ "first_check": first_check })),
        _ => {}
    }
    put("timestamp", timestamp(event.time));
    match event.kind {
        Failure { failure, first_check, http_status } => put(
            "health_check_failure_event",
            json!({
                "failure_type": failure.as_str(), "first_check": first_check, "http_status_code": http_status,
            }),
        ),
        Degraded => put("degraded_healthy_host", json!({})),
        NoLongerDegraded => put("no_longer_degraded_host", json!({})),
        _ => {}
    }
    if let Some(metadata) = event.host.metadata() {
        put("metadata", json!({ "filter_metadata": metadata.filter_metadata, "typed_filter_metadata": {} }));
    }
    let of = event.host.locality();
    put("locality", json!({ "region": of.region, "zone": of.zone, "sub_zone": of.sub_zone }));
    if event.kind == Success {
        put("successful_health_check_event", json!({}));
    }
    Value::Object(fields)
}

fn address_json(address: &Address) -> Value {
    match address {
        Address::Ip(ip) => json!({ "socket_address": {
            "protocol": "TCP",
            "address": address.as_string_without_port(),
            "port_value": ip.port(),
            "resolver_name": "",
            "ipv4_compat": false,
            "network_namespace_filepath": "",
        } }),
        Address::Pipe(path) => json!({ "pipe": { "path": **path, "mode": 0 } }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::endpoint::HealthStatus;
    use crate::upstream::test_support::{cluster_info, host};
    use std::time::Duration;

    #[test]
    fn lines_are_those_of_envoy() {
        let host = host(&cluster_info(), 80, 1, HealthStatus::Unknown);
        let line = |kind| {
            let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_000_007);
            json_of(&HealthCheckEvent { checker: HealthCheckerType::Http, host: &host, kind, time })
                .to_string()
        };
        let start = r#"{"health_checker_type":"HTTP","host":{"socket_address":{"protocol":"TCP","address":"127.0.0.1","port_value":80,"resolver_name":"","ipv4_compat":false,"network_namespace_filepath":""}},"cluster_name":"a","#;
        let time = r#""timestamp":"2001-09-09T01:46:40.007Z","#;
        let end = r#""locality":{"region":"","zone":"","sub_zone":""}"#;
        let failure = HealthCheckFailureType::Active;
        assert_eq!(
            line(HealthCheckEventKind::EjectUnhealthy { failure, http_status: 500 }),
            format!(
                r#"{start}"eject_unhealthy_event":{{"failure_type":"ACTIVE","http_status_code":500}},{time}{end}}}"#
            )
        );
        assert_eq!(
            line(HealthCheckEventKind::AddHealthy { first_check: true }),
            format!(r#"{start}"add_healthy_event":{{"first_check":true}},{time}{end}}}"#)
        );
        let failure = HealthCheckFailureType::NetworkTimeout;
        assert_eq!(
            line(HealthCheckEventKind::Failure { failure, first_check: false, http_status: 0 }),
            format!(
                r#"{start}{time}"health_check_failure_event":{{"failure_type":"NETWORK_TIMEOUT","first_check":false,"http_status_code":0}},{end}}}"#
            )
        );
        assert_eq!(
            line(HealthCheckEventKind::Success),
            format!(r#"{start}{time}{end},"successful_health_check_event":{{}}}}"#)
        );
        assert_eq!(
            line(HealthCheckEventKind::Degraded),
            format!(r#"{start}{time}"degraded_healthy_host":{{}},{end}}}"#)
        );
    }
}
