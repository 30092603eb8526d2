//! Who else gets a copy of a route's requests.
//!
//! Mirrors `ShadowPolicyImpl` of Envoy's `source/common/router/config_impl.h`, and who decides in `source/common/router/router.cc`
//! (`FilterUtility::shouldShadow`); a share of nothing is nothing, as in 1.40.

use std::sync::Arc;

use super::{Changed, HeaderMutations, RouteRequest};
use crate::config::ConfigError;
use crate::config::route::RequestMirrorPolicy;
use crate::http::{HeaderId, HeaderMap, HeaderName};
use crate::runtime::{LoaderImpl, RuntimeShare};
use crate::stream_info::StreamInfoImpl;
use crate::upstream::ClusterName;

/// See the module's description.
#[derive(Debug)]
pub struct ShadowPolicy {
    cluster: Cluster,
    share: Option<Arc<RuntimeShare>>,
    disable_host_suffix: bool,
    host_rewrite: String,
    mutations: HeaderMutations,
}

#[derive(Debug)]
enum Cluster {
    Name(ClusterName),
    Header(HeaderName),
}

impl ShadowPolicy {
    /// # Errors
    /// A value of a header that is no format.
    pub(super) fn new(
        config: &RequestMirrorPolicy,
        runtime: Option<&LoaderImpl>,
    ) -> Result<Self, ConfigError> {
        Ok(ShadowPolicy {
            mutations: HeaderMutations::new(&config.request_headers_mutations, "request_headers_mutations")?,
            cluster: match config.cluster.is_empty() {
                true => Cluster::Header(HeaderName::new(&config.cluster_header)),
                false => Cluster::Name(ClusterName::of(&config.cluster)),
            },
            share: (config.runtime_fraction.as_ref())
                .map(|share| RuntimeShare::new(&share.runtime_key, share.default_value, runtime)),
            disable_host_suffix: config.disable_shadow_host_suffix_append,
            host_rewrite: config.host_rewrite_literal.clone(),
        })
    }

    /// Those of a list; without any what stands above it counts.
    pub(super) fn list(
        config: &[RequestMirrorPolicy],
        above: &Arc<[ShadowPolicy]>,
        runtime: Option<&LoaderImpl>,
    ) -> Result<Arc<[ShadowPolicy]>, ConfigError> {
        if config.is_empty() {
            return Ok(above.clone());
        }
        let one = |(i, policy)| {
            let within = |error: ConfigError| error.within(&format!("request_mirror_policies[{i}]"));
            ShadowPolicy::new(policy, runtime).map_err(within)
        };
        config.iter().enumerate().map(one).collect()
    }

    /// The cluster that gets a copy of this request, if any does.
    pub fn should_shadow(&self, request: &RouteRequest<'_>) -> Option<ClusterName> {
        if self.share.as_ref().is_some_and(|share| !share.is_in(request.random)) {
            return None;
        }
        match &self.cluster {
            Cluster::Name(name) => Some(name.clone()),
            Cluster::Header(header) => {
                let name = header.find(request.headers).filter(|name| !name.is_empty())?;
                Some(ClusterName::of(&String::from_utf8_lossy(name)))
            }
        }
    }

    /// Says in the copy's head that it is one (Envoy: `ShadowWriterImpl::shadow`).
    pub fn apply(&self, headers: &mut HeaderMap, info: &StreamInfoImpl) {
        self.mutations.evaluate(headers, Changed::Request, info);
        if !self.host_rewrite.is_empty() {
            headers.set(HeaderId::Authority, self.host_rewrite.as_bytes());
            return;
        }
        if self.disable_host_suffix {
            return;
        }
        let host = headers.get(HeaderId::Authority).unwrap_or_default();
        let colon = host.iter().position(|&b| b == b':').unwrap_or(host.len());
        let shadow = [&host[..colon], b"-shadow", &host[colon..]].concat();
        headers.set(HeaderId::Authority, &shadow);
    }
}
