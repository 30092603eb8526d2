//! The messages of the fault filter, and what their parts say of a request. The latter mirror Envoy's
//! `source/extensions/filters/common/fault/fault_config.cc`, with the headers that 1.40 has.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::config::ConfigError;
use crate::config::core;
use crate::config::header_matcher::HeaderMatcher;
use crate::config::reader::{FromMessage, MessageReader};
use crate::http::HeaderMap;
use crate::message;
use crate::runtime::FractionalPercent;

message! {
    /// What becomes of requests.
    pub struct HttpFault = "envoy.extensions.filters.http.fault.v3.HTTPFault" {
        /// They wait.
        pub delay: Option<FaultDelayConfig>,
        /// They are answered with an error.
        pub abort: Option<FaultAbortConfig>,
        /// Those to this cluster; empty for all.
        pub upstream_cluster: String,
        /// Those whose headers are so.
        pub headers: Vec<HeaderMatcher>,
        /// Those from one of these nodes; empty for all.
        pub downstream_nodes: Vec<String>,
        /// No more than so many at a time.
        pub max_active_faults: Option<u32>,
        /// Their responses are slow.
        pub response_rate_limit: Option<FaultRateLimitConfig>,
        /// The runtime's names for all this.
        pub delay_percent_runtime: String = "fault.http.delay.fixed_delay_percent".to_string(),
        /// Another.
        pub abort_percent_runtime: String = "fault.http.abort.abort_percent".to_string(),
        /// Another.
        pub delay_duration_runtime: String = "fault.http.delay.fixed_duration_ms".to_string(),
        /// Another.
        pub abort_http_status_runtime: String = "fault.http.abort.http_status".to_string(),
        /// Another.
        pub max_active_faults_runtime: String = "fault.http.max_active_faults".to_string(),
        /// Another.
        pub response_rate_limit_percent_runtime: String = "fault.http.rate_limit.response_percent".to_string(),
        /// Another.
        pub abort_grpc_status_runtime: String = "fault.http.abort.grpc_status".to_string(),
        /// Requests are not counted by the cluster that they come from.
        pub disable_downstream_cluster_stats: bool,
        /// What those that are affected have in their metadata.
        pub filter_metadata: Option<Map<String, Value>> => read_struct,
    }
}

fn read_struct(r: &mut MessageReader<'_>, name: &str) -> Result<Option<Map<String, Value>>, ConfigError> {
    Ok(r.value(name)?.and_then(Value::as_object).cloned())
}

/// How many requests are affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percentage {
    most: FractionalPercent,
    /// The header by which a request may lower it.
    header: Option<&'static str>,
}

impl Percentage {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let most: core::FractionalPercent = r.message("percentage")?.unwrap_or_default();
        Ok(Percentage { most: most.into(), header: None })
    }

    /// That of such a request.
    pub fn of(&self, headers: &HeaderMap) -> FractionalPercent {
        let lower = self.header.and_then(|name| number_in(headers, name));
        let lower = lower.and_then(|number| u32::try_from(number).ok());
        let numerator = lower.map_or(self.most.numerator, |lower| lower.min(self.most.numerator));
        FractionalPercent { numerator, ..self.most }
    }
}

/// The number in the first header of that name.
fn number_in(headers: &HeaderMap, name: &str) -> Option<u64> {
    let value = std::str::from_utf8(headers.get_all(name).next()?).ok()?;
    value.trim_ascii().parse().ok()
}

/// How long a request waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultDelayConfig {
    /// How many do.
    pub percentage: Percentage,
    /// `None` where the request says.
    fixed: Option<Duration>,
}

impl FromMessage for FaultDelayConfig {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let percentage = Percentage::read(r)?;
        if r.exactly_one(&["fixed_delay", "header_delay"])? == "fixed_delay" {
            let fixed = Some(r.duration("fixed_delay")?.unwrap_or_default());
            return Ok(FaultDelayConfig { percentage, fixed });
        }
        r.message_with("header_delay", |_| Ok(()))?;
        let header = Some("x-envoy-fault-delay-request-percentage");
        Ok(FaultDelayConfig { percentage: Percentage { header, ..percentage }, fixed: None })
    }
}

impl FaultDelayConfig {
    /// In milliseconds.
    pub fn duration(&self, headers: &HeaderMap) -> Option<u64> {
        match self.fixed {
            Some(fixed) => Some(fixed.as_millis() as u64),
            None => number_in(headers, "x-envoy-fault-delay-request"),
        }
    }
}

/// How a request is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultAbortConfig {
    /// How many are.
    pub percentage: Percentage,
    kind: Abort,
    /// Empty for Envoy's own words.
    pub response_body: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Abort {
    HttpStatus(u64),
    GrpcStatus(u64),
    /// The request says.
    Header,
}

impl FromMessage for FaultAbortConfig {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let mut percentage = Percentage::read(r)?;
        let response_body = r.string("response_body")?;
        let kind = match r.exactly_one(&["http_status", "grpc_status", "header_abort"])? {
            "http_status" => Abort::HttpStatus(r.u32("http_status")?.into()),
            "grpc_status" => Abort::GrpcStatus(r.u32("grpc_status")?.into()),
            _ => {
                r.message_with("header_abort", |_| Ok(()))?;
                percentage.header = Some("x-envoy-fault-abort-request-percentage");
                Abort::Header
            }
        };
        Ok(FaultAbortConfig { percentage, kind, response_body })
    }
}

impl FaultAbortConfig {
    /// The status of the answer.
    pub fn http_status_code(&self, headers: &HeaderMap) -> Option<u64> {
        match self.kind {
            Abort::HttpStatus(status) => Some(status),
            Abort::GrpcStatus(_) => None,
            Abort::Header => {
                number_in(headers, "x-envoy-fault-abort-request").filter(|s| (200..600).contains(s))
            }
        }
    }

    /// Its status for a gRPC client, where it has no other.
    pub fn grpc_status_code(&self, headers: &HeaderMap) -> Option<u64> {
        match self.kind {
            Abort::HttpStatus(_) => None,
            Abort::GrpcStatus(status) => Some(status),
            Abort::Header => number_in(headers, "x-envoy-fault-abort-grpc-request"),
        }
    }
}

/// How fast a response may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultRateLimitConfig {
    /// How many are slow.
    pub percentage: Percentage,
    /// KiB per second; `None` where the request says.
    fixed: Option<u64>,
}

impl FromMessage for FaultRateLimitConfig {
    fn read(r: &mut MessageReader<'_>) -> Result<Self, ConfigError> {
        let percentage = Percentage::read(r)?;
        if r.exactly_one(&["fixed_limit", "header_limit"])? == "fixed_limit" {
            let fixed = r.message_with("fixed_limit", |r| r.i64("limit_kbps"))?;
            return Ok(FaultRateLimitConfig { percentage, fixed: Some(fixed.unwrap_or(1).max(1) as u64) });
        }
        r.message_with("header_limit", |_| Ok(()))?;
        let header = Some("x-envoy-fault-throughput-response-percentage");
        Ok(FaultRateLimitConfig { percentage: Percentage { header, ..percentage }, fixed: None })
    }
}

impl FaultRateLimitConfig {
    /// In KiB per second.
    pub fn rate_kbps(&self, headers: &HeaderMap) -> Option<u64> {
        self.fixed.or_else(|| number_in(headers, "x-envoy-fault-throughput-response").filter(|n| *n > 0))
    }
}
