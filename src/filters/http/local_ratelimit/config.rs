//! What the filter, or a route, says of its limit. Mirrors `FilterConfig` of Envoy 1.40's
//! `source/extensions/filters/http/local_ratelimit/local_ratelimit.cc`.

use std::rc::Rc;
use std::sync::Arc;

use super::limiter::{self, Described, LocalRateLimiterImpl};
use super::message::{LocalRateLimit, VhRateLimits, XRateLimitHeaders};
use crate::config::ConfigError;
use crate::config::core::RuntimeFractionalPercent;
use crate::config::route::{HeaderMutations, HeaderValueOption};
use crate::http::HeaderMap;
use crate::router::{HeaderParser, RateLimitPolicyEntryImpl, Route, RouteFactoryContext};
use crate::runtime::RuntimeShare;
use crate::stats_struct;
use crate::stream_info::StreamInfoImpl;

stats_struct! {
    /// `<stat_prefix>.http_local_rate_limit.`
    pub(super) struct LocalRateLimitStats {
        counters: [enabled, enforced, ok, rate_limited, shadow_mode],
        gauges: [],
        histograms: [],
    }
}

/// Under this name a connection has its own limiter: the first one that was asked for, whoever asks later.
const PER_CONNECTION: &str = "per_connection_local_rate_limiter";

/// The gRPC status of clients that are refused, where it is not the one for the status of the answer.
const RESOURCE_EXHAUSTED: u32 = 8;

#[derive(Debug)]
pub(super) struct FilterConfig {
    /// What a connection's own limiter is made of.
    config: LocalRateLimit,
    pub stats: LocalRateLimitStats,
    pub status: u16,
    pub grpc_status: Option<u32>,
    pub response_headers: Option<Arc<HeaderParser>>,
    pub request_headers: Option<Arc<HeaderParser>>,
    filter_enabled: Option<Arc<RuntimeShare>>,
    filter_enforced: Option<Arc<RuntimeShare>>,
    limiter: LocalRateLimiterImpl,
    rate_limits: Box<[RateLimitPolicyEntryImpl]>,
    service_cluster: String,
}

impl FilterConfig {
    pub fn new(config: &LocalRateLimit, context: RouteFactoryContext<'_>) -> Result<Self, ConfigError> {
        let scope = format!("{}.http_local_rate_limit.", config.stat_prefix);
        let share = |share: &Option<RuntimeFractionalPercent>| {
            let share = share.as_ref();
            share.map(|share| {
                RuntimeShare::new(&share.runtime_key, share.default_value, Some(context.runtime))
            })
        };
        let headers = |to_add: &[HeaderValueOption], field| {
            let mutations = HeaderMutations { to_add: to_add.to_vec(), to_remove: Vec::new() };
            HeaderParser::configure(&mutations, field)
        };
        Ok(FilterConfig {
            stats: LocalRateLimitStats::new(&context.stats.root_scope().create_scope(&scope)),
            status: config.status.filter(|status| *status >= 400).unwrap_or(429),
            grpc_status: config.rate_limited_as_resource_exhausted.then_some(RESOURCE_EXHAUSTED),
            response_headers: headers(&config.response_headers_to_add, "response_headers_to_add")?,
            request_headers: headers(
                &config.request_headers_to_add_when_not_enforced,
                "request_headers_to_add_when_not_enforced",
            )?,
            filter_enabled: share(&config.filter_enabled),
            filter_enforced: share(&config.filter_enforced),
            limiter: LocalRateLimiterImpl::new(config),
            rate_limits: RateLimitPolicyEntryImpl::all(&config.rate_limits)?,
            service_cluster: context.service_cluster.to_string(),
            config: config.clone(),
        })
    }

    pub fn enabled(&self) -> bool {
        self.filter_enabled.as_ref().is_some_and(|share| share.is_in(fastrand::u64(..)))
    }

    pub fn enforced(&self) -> bool {
        self.filter_enforced.as_ref().is_some_and(|share| share.is_in(fastrand::u64(..)))
    }

    /// `option` is what the bucket says that they are told of.
    pub fn enable_x_rate_limit_headers(&self, option: Option<bool>) -> bool {
        let usual = self.config.enable_x_ratelimit_headers == XRateLimitHeaders::DraftVersion03;
        option.unwrap_or(usual)
    }

    pub fn enable_retry_after_header(&self) -> bool {
        self.config.enable_retry_after_header
    }

    /// What the request is described by.
    fn populate_descriptors(
        &self,
        route: Option<&Route>,
        headers: &HeaderMap,
        info: &StreamInfoImpl,
    ) -> Vec<Described> {
        let describe = |limit: &RateLimitPolicyEntryImpl, hits| {
            let descriptor = limit.populate_descriptor(route, &self.service_cluster, headers, info)?;
            Some(Described { descriptor, hits, x_ratelimit_option: limit.x_ratelimit_option })
        };
        if self.config.descriptors.is_empty() {
            return Vec::new();
        }
        if !self.rate_limits.is_empty() {
            // Those that are counted at the end of a stream are none of this filter's.
            let own = self.rate_limits.iter().filter(|limit| !limit.apply_on_stream_done);
            return own.filter_map(|limit| describe(limit, limit.hits_addend(headers, info)?)).collect();
        }
        let Some((route, entry)) = route.and_then(|route| Some((route, route.route_entry()?))) else {
            return Vec::new();
        };
        let includes_host = entry.include_vh_rate_limits
            || match self.config.vh_rate_limits {
                VhRateLimits::Include => true,
                VhRateLimits::Ignore => false,
                VhRateLimits::Override => entry.rate_limits.is_empty(),
            };
        let of_host = if includes_host { route.virtual_host().rate_limits() } else { &[] };
        let of_stage = |limit: &&RateLimitPolicyEntryImpl| {
            limit.stage == self.config.stage && limit.disable_key.is_empty()
        };
        entry
            .rate_limits
            .iter()
            .chain(of_host)
            .filter(of_stage)
            .filter_map(|limit| describe(limit, 1))
            .collect()
    }

    pub fn request_allowed(
        &self,
        route: Option<&Route>,
        headers: &HeaderMap,
        info: &StreamInfoImpl,
    ) -> limiter::Result {
        let request = self.populate_descriptors(route, headers, info);
        let own = self.config.local_rate_limit_per_downstream_connection;
        match info.downstream_connection().filter(|_| own) {
            None => self.limiter.request_allowed(&request),
            Some(connection) => {
                let make = || Rc::new(LocalRateLimiterImpl::new(&self.config));
                connection.attached(PER_CONNECTION, make).request_allowed(&request)
            }
        }
    }
}
