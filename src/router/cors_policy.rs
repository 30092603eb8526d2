//! Which pages may ask.
//!
//! Mirrors `CorsPolicyImpl` of Envoy's `source/common/router/config_impl.cc`. As in 1.40 it stands among what routes say to
//! filters, or, of old, in a field of a route or a virtual host.

use std::sync::Arc;

use super::per_filter_config::{
    RouteFactoryContext, RouteSpecificFilterConfig, RouteSpecificFilterConfigOfTable,
};
use crate::config::ConfigError;
use crate::config::core::RuntimeFractionalPercent;
use crate::config::route::CorsPolicy;
use crate::runtime::{LoaderImpl, RuntimeShare};

/// A policy that goes by the runtime.
#[derive(Debug)]
pub struct CorsPolicyImpl {
    /// What it says.
    pub config: CorsPolicy,
    filter_enabled: Option<Arc<RuntimeShare>>,
    shadow_enabled: Option<Arc<RuntimeShare>>,
}

impl CorsPolicyImpl {
    pub(super) fn new(config: &CorsPolicy, runtime: Option<&LoaderImpl>) -> Arc<Self> {
        let share = |share: &Option<RuntimeFractionalPercent>| {
            let share = share.as_ref()?;
            Some(RuntimeShare::new(&share.runtime_key, share.default_value, runtime))
        };
        Arc::new(CorsPolicyImpl {
            config: config.clone(),
            filter_enabled: share(&config.filter_enabled),
            shadow_enabled: share(&config.shadow_enabled),
        })
    }

    /// Whether it holds for a request.
    pub fn enabled(&self) -> bool {
        self.filter_enabled.as_ref().is_none_or(|share| share.is_in(fastrand::u64(..)))
    }

    /// Whether a request that it does not hold for is counted.
    pub fn shadow_enabled(&self) -> bool {
        self.shadow_enabled.as_ref().is_some_and(|share| share.is_in(fastrand::u64(..)))
    }
}

impl RouteSpecificFilterConfigOfTable for CorsPolicy {
    fn create(
        &self,
        context: RouteFactoryContext<'_>,
    ) -> Result<Arc<dyn RouteSpecificFilterConfig>, ConfigError> {
        Ok(CorsPolicyImpl::new(self, Some(context.runtime)))
    }
}
