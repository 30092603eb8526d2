//! The ext_authz filter: somebody is asked about each request, over HTTP.
//!
//! Mirrors Envoy's `source/extensions/filters/http/ext_authz/config.cc`, as of 1.40. Left out: who is asked by gRPC, and limits
//! of what an answer adds.

mod client;
mod config;
mod filter;
mod message;

use std::rc::Rc;
use std::sync::Arc;

use self::client::{ClientConfig, ShownFields};
use self::config::{ExtAuthzFilterStats, FilterConfig, FilterConfigPerRoute, OnWorker};
use self::filter::Filter;
use self::message::{ExtAuthz, ExtAuthzPerRoute};
use super::{FilterFactory, FilterFactoryCb, HttpFilterConfig, NamedHttpFilterConfigFactory, router};
use crate::config::ConfigError;
use crate::config::reader::FromMessage;
use crate::filters::FactoryContext;
use crate::router::RouteSpecificFilterConfig;
use crate::runtime::{FeatureFlag, RuntimeShare};
use crate::stats::Scope;

/// The ext_authz filter among the extensions.
pub static FACTORY: NamedHttpFilterConfigFactory = NamedHttpFilterConfigFactory::new(
    "envoy.filters.http.ext_authz",
    &["envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"],
    |r| Ok(Arc::new(ExtAuthz::read(r)?)),
)
.per_route(&["envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"], |r| {
    of_route(&ExtAuthzPerRoute::read(r)?)
});

fn of_route(config: &ExtAuthzPerRoute) -> Result<Arc<dyn RouteSpecificFilterConfig>, ConfigError> {
    let settings = &config.check_settings;
    let client = settings
        .http_service
        .as_ref()
        .map(|service| ClientConfig::new(service).map_err(|error| error.within("check_settings")));
    Ok(Arc::new(FilterConfigPerRoute {
        disabled: config.disabled,
        disable_request_body_buffering: settings.disable_request_body_buffering,
        with_request_body: settings.with_request_body,
        client: client.transpose()?.map(Arc::new),
    }))
}

impl HttpFilterConfig for ExtAuthz {
    fn create_filter_factory(
        &self,
        name: &str,
        scope: &Scope,
        context: &FactoryContext<'_>,
    ) -> Result<Arc<dyn FilterFactory>, ConfigError> {
        let runtime = &context.server.runtime;
        let stat_prefix = match self.stat_prefix.is_empty() {
            true => "ext_authz.".to_string(),
            false => format!("ext_authz.{}.", self.stat_prefix),
        };
        let service = self.http_service.clone().unwrap_or_default();
        let share = |share: &crate::config::core::RuntimeFractionalPercent| {
            RuntimeShare::new(&share.runtime_key, share.default_value, Some(runtime))
        };
        Ok(Arc::new(Factory(Arc::new(FilterConfig {
            name: name.to_string(),
            client: Arc::new(ClientConfig::new(&service)?),
            shown_fields: ShownFields::new(self),
            status_on_error: self.status_on_error.filter(|status| *status > 0).unwrap_or(403),
            filter_enabled: self.filter_enabled.as_ref().map(share),
            deny_at_disable: self.deny_at_disable.as_ref().map(|flag| FeatureFlag::new(Some(flag), runtime)),
            stats: ExtAuthzFilterStats::new(&scope.create_scope(&stat_prefix)),
            cluster_manager: context.server.cluster_manager.clone(),
            router: router::FilterConfig::of_async_client(context.server),
            stat_prefix,
            message: self.clone(),
        }))))
    }
}

/// Makes a filter for each stream.
struct Factory(Arc<FilterConfig>);

impl FilterFactory for Factory {
    fn on_worker(&self) -> FilterFactoryCb {
        let config = Rc::new(OnWorker::new(&self.0));
        Box::new(move |callbacks| callbacks.add_stream_filter(Filter::new(&config)))
    }
}
