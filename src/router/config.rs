//! A route configuration: virtual hosts, found by domain.
//!
//! Mirrors `ConfigImpl` and `RouteMatcher` of Envoy's `source/common/router/config_impl.cc`. However many virtual hosts there
//! are, a host is looked up once, and once more for each length that the wildcards have.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::RouteRequest;
use super::header_parser::HeaderParsersOfLevels;
use super::per_filter_config::{PerFilterConfigs, RouteFactoryContext};
use super::retry_policy::RetryPolicyImpl;
use super::route::RouteImpl;
use super::shadow_policy::ShadowPolicy;
use super::virtual_host::{Found, VirtualHostImpl};
use crate::config::ConfigError;
use crate::config::route::{HeaderRules, PerFilterConfig, RouteConfiguration};
use crate::http::{HeaderId, HeaderName};
use crate::runtime::LoaderImpl;
use crate::stats::Scope;

/// A table; the default one has no routes.
#[derive(Debug)]
pub struct ConfigImpl {
    name: String,
    virtual_hosts: Vec<Arc<VirtualHostImpl>>,
    /// What the virtual hosts have for clients that have to use TLS.
    ssl_redirect: Arc<RouteImpl>,
    ignore_port: bool,
    /// The header that names the domain in place of the host.
    vhost_header: Option<HeaderName>,
    internal_only_headers: Box<[Box<str>]>,
    /// Indexes into `virtual_hosts`.
    exact: Hosts,
    /// `*suffix` domains without the star.
    suffixes: Wildcards,
    /// `prefix*` domains without the star.
    prefixes: Wildcards,
    default: Option<usize>,
}

/// Parts of domains with the virtual hosts that have them, by their lengths, the longest first.
type Wildcards = Vec<(usize, Hosts)>;

/// The quick hash has no secret: who asks for hosts does not choose those that are there.
type Hosts = HashMap<Vec<u8>, usize, FixedState>;

/// What a virtual host says of tries, for those of its routes that do not.
#[derive(Clone, Debug, Default)]
pub(super) struct Retries {
    pub policy: Option<Arc<RetryPolicyImpl>>,
    pub hedge_on_per_try_timeout: bool,
    pub buffer_limit: Option<u32>,
    /// In place of that, and of what the connection keeps.
    pub request_body_buffer_limit: Option<u64>,
}

/// What is said so far down in a table.
pub(super) struct Level<'a> {
    pub headers: HeaderParsersOfLevels,
    pub per_filter_configs: PerFilterConfigs,
    /// The rules for headers of a route come behind those of its virtual host.
    pub most_specific_wins: bool,
    pub max_direct_body: u32,
    pub context: Option<RouteFactoryContext<'a>>,
    pub retries: Retries,
    pub ignores_path_parameters: bool,
    /// Who gets copies of the requests of routes that say nothing of it.
    pub shadow_policies: Arc<[ShadowPolicy]>,
    /// Of the statistics of a virtual host.
    pub host_scope: Option<&'a Scope>,
}

impl<'a> Level<'a> {
    /// The next level down.
    pub fn with(&self, headers: &HeaderRules, filters: &PerFilterConfig) -> Result<Level<'a>, ConfigError> {
        Ok(Level {
            headers: self.headers.with(headers, self.most_specific_wins)?,
            per_filter_configs: self.per_filter_configs.with(filters, self.context)?,
            retries: self.retries.clone(),
            shadow_policies: self.shadow_policies.clone(),
            ..*self
        })
    }

    /// Settings that may change, if there are such.
    pub fn runtime(&self) -> Option<&'a LoaderImpl> {
        self.context.map(|context| context.runtime)
    }
}

impl Default for ConfigImpl {
    fn default() -> Self {
        ConfigImpl {
            name: String::new(),
            virtual_hosts: Vec::new(),
            ssl_redirect: Arc::new(RouteImpl::ssl_redirect()),
            ignore_port: false,
            vhost_header: None,
            internal_only_headers: Box::default(),
            exact: Hosts::default(),
            suffixes: Vec::new(),
            prefixes: Vec::new(),
            default: None,
        }
    }
}

impl ConfigImpl {
    /// Builds the table. Without `context` its shares are those of the configuration for ever.
    ///
    /// # Errors
    /// As [`VirtualHostImpl::new`].
    pub fn new(
        config: &RouteConfiguration,
        context: Option<RouteFactoryContext<'_>>,
    ) -> Result<Self, ConfigError> {
        let mut table = ConfigImpl {
            name: config.name.clone(),
            ignore_port: config.ignore_port_in_host_matching,
            vhost_header: (!config.vhost_header.is_empty()).then(|| HeaderName::new(&config.vhost_header)),
            internal_only_headers: (config.internal_only_headers.iter())
                .map(|name| name.to_ascii_lowercase().into())
                .collect(),
            ..ConfigImpl::default()
        };
        let none = Level {
            headers: HeaderParsersOfLevels::default(),
            per_filter_configs: PerFilterConfigs::default(),
            most_specific_wins: config.most_specific_header_mutations_wins,
            max_direct_body: config.max_direct_response_body_size_bytes,
            context,
            retries: Retries::default(),
            host_scope: None,
            ignores_path_parameters: config.ignore_path_parameters_in_path_matching,
            shadow_policies: Arc::default(),
        };
        let mut here = none.with(&config.headers, &config.typed_per_filter_config)?;
        here.shadow_policies =
            ShadowPolicy::list(&config.request_mirror_policies, &here.shadow_policies, here.runtime())?;
        for (i, host) in config.virtual_hosts.iter().enumerate() {
            let built = VirtualHostImpl::new(host, &here);
            table.virtual_hosts.push(Arc::new(built.map_err(|e| e.within(&format!("virtual_hosts[{i}]")))?));
            for domain in &host.domains {
                table.add_domain(domain.to_ascii_lowercase().as_bytes(), i);
            }
        }
        Ok(table)
    }

    fn add_domain(&mut self, domain: &[u8], index: usize) {
        if domain == b"*" {
            self.default = Some(index);
        } else if let Some(suffix) = domain.strip_prefix(b"*") {
            add_wildcard(&mut self.suffixes, suffix, index);
        } else if let Some(prefix) = domain.strip_suffix(b"*") {
            add_wildcard(&mut self.prefixes, prefix, index);
        } else {
            self.exact.insert(domain.to_vec(), index);
        }
    }

    /// The configuration's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Headers that requests from outside lose.
    #[inline]
    pub fn internal_only_headers(&self) -> &[Box<str>] {
        &self.internal_only_headers
    }

    /// The virtual hosts, in the order of the configuration.
    pub fn virtual_hosts(&self) -> &[Arc<VirtualHostImpl>] {
        &self.virtual_hosts
    }

    /// Whether streams of some of its routes are made without some filters.
    pub(super) fn disables_filters(&self) -> bool {
        self.virtual_hosts.iter().flat_map(|host| host.routes()).any(|route| route.disables_filters())
    }

    pub(super) fn ssl_redirect(&self) -> &Arc<RouteImpl> {
        &self.ssl_redirect
    }

    /// The place of the virtual host for a request, and what it has for it.
    pub(super) fn find_route(&self, request: &RouteRequest<'_>) -> Option<(usize, Found)> {
        // As Envoy: where it is not known whether the client used TLS, no route is safe to take. So it is with a request that
        // was refused before it was known.
        if request.headers.get(HeaderId::ForwardedProto).is_none_or(<[u8]>::is_empty) {
            return None;
        }
        let host = self.find_virtual_host(request)?;
        Some((host, self.virtual_hosts[host].find_route(request)?))
    }

    /// The order of Envoy: exact, longest suffix, longest prefix, `*`. A star stands for at least one
    /// character.
    fn find_virtual_host(&self, request: &RouteRequest<'_>) -> Option<usize> {
        if self.exact.is_empty() && self.suffixes.is_empty() && self.prefixes.is_empty() {
            return self.default;
        }
        let host = match &self.vhost_header {
            None => request.headers.get(HeaderId::Authority),
            Some(name) => Some(name.find(request.headers)?),
        };
        let Some(host) = host else { return self.default };
        let host = lower_case(if self.ignore_port { without_port(host) } else { host });
        let found = self
            .exact
            .get(&*host)
            .or_else(|| find_wildcard(&self.suffixes, &host, |length| &host[host.len() - length..]))
            .or_else(|| find_wildcard(&self.prefixes, &host, |length| &host[..length]));
        found.copied().or(self.default)
    }
}

fn add_wildcard(wildcards: &mut Wildcards, part: &[u8], index: usize) {
    let at = wildcards.iter().position(|(length, _)| *length <= part.len()).unwrap_or(wildcards.len());
    if wildcards.get(at).is_none_or(|(length, _)| *length != part.len()) {
        wildcards.insert(at, (part.len(), Hosts::default()));
    }
    wildcards[at].1.insert(part.to_vec(), index);
}

fn find_wildcard<'a, 'h>(
    wildcards: &'a Wildcards,
    host: &'h [u8],
    part: impl Fn(usize) -> &'h [u8],
) -> Option<&'a usize> {
    let shorter = wildcards.iter().filter(|(length, _)| *length < host.len());
    shorter.filter_map(|(length, hosts)| hosts.get(part(*length))).next()
}

/// Most clients write a host in lower case, and it need not be copied.
fn lower_case(host: &[u8]) -> Cow<'_, [u8]> {
    if host.iter().any(u8::is_ascii_uppercase) { host.to_ascii_lowercase().into() } else { host.into() }
}

/// A host without what stands behind its last colon, if that is a number (Envoy: `HeaderUtility::getPortStart`).
fn without_port(host: &[u8]) -> &[u8] {
    let Some(colon) = host.iter().rposition(|&b| b == b':') else { return host };
    let inside_brackets = host.iter().rposition(|&b| b == b']').is_some_and(|end| end > colon);
    let port = &host[colon + 1..];
    let is_port = !port.is_empty() && port.iter().all(u8::is_ascii_digit);
    if is_port && !inside_brackets { &host[..colon] } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::reader::{MessageReader, ParseContext};
    use crate::config::{NoExtensions, UnknownFields};
    use crate::http::HeaderMap;

    /// A table whose virtual hosts are given as JSON.
    fn table(virtual_hosts: serde_json::Value) -> ConfigImpl {
        let config = serde_json::json!({"name": "r", "virtual_hosts": virtual_hosts});
        let context = ParseContext::new(UnknownFields::Reject, &NoExtensions);
        let reader =
            MessageReader::new(&context, "envoy.config.route.v3.RouteConfiguration", &config, String::new())
                .unwrap();
        ConfigImpl::new(&reader.read().unwrap(), None).unwrap()
    }

    fn answer(host: &str, path: &str, table: &ConfigImpl) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.set(HeaderId::Authority, host.as_bytes());
        headers.set(HeaderId::Path, path.as_bytes());
        headers.set(HeaderId::ForwardedProto, b"http");
        let (host, Found::Route(route)) =
            table.find_route(&RouteRequest { headers: &headers, random: 0, info: None })?
        else {
            return None;
        };
        Some(table.virtual_hosts()[host].routes()[route].direct_response_entry()?.body.clone())
    }

    fn host(name: &str, domains: &[&str]) -> serde_json::Value {
        serde_json::json!({"name": name, "domains": domains, "routes": [
            {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": name}}}]})
    }

    #[test]
    fn domains_are_tried_in_envoys_order() {
        let table = table(serde_json::json!([
            host("default", &["*"]),
            host("prefix", &["api.*"]),
            host("long prefix", &["api.foo.*"]),
            host("suffix", &["*.com"]),
            host("long suffix", &["*.foo.com"]),
            host("exact", &["www.foo.com", "WWW.Bar.com:80"]),
        ]));
        for (authority, expected) in [
            ("www.foo.com", "exact"),
            ("WWW.foo.COM", "exact"),
            ("www.bar.com:80", "exact"),
            ("www.bar.com", "suffix"),
            ("a.foo.com", "long suffix"),
            (".foo.com", "suffix"),
            ("api.org", "prefix"),
            ("api.foo.org", "long prefix"),
            ("api.", "default"),
            ("other.org", "default"),
        ] {
            assert_eq!(answer(authority, "/", &table).as_deref(), Some(expected), "{authority}");
        }
    }

    #[test]
    fn without_a_default_a_host_may_have_no_route() {
        let table = table(serde_json::json!([host("a", &["a.com"])]));
        assert_eq!(answer("a.com", "/", &table).as_deref(), Some("a"));
        assert_eq!(answer("b.com", "/", &table), None);
    }

    #[test]
    fn routes_are_tried_in_order() {
        let route = |m: serde_json::Value, body: &str| serde_json::json!({"match": m, "direct_response": {"status": 200, "body": {"inline_string": body}}});
        let table = table(serde_json::json!([{"name": "v", "domains": ["*"], "routes": [
            route(serde_json::json!({"path": "/exact"}), "exact"),
            route(serde_json::json!({"path": "/NoCase", "case_sensitive": false}), "no case"),
            route(serde_json::json!({"prefix": "/a?q"}), "query"),
            route(serde_json::json!({"prefix": "/a"}), "prefix"),
        ]}]));
        for (path, expected) in [
            ("/exact", Some("exact")),
            ("/exact?x=1", Some("exact")),
            ("/exact/", None),
            ("/nocase", Some("no case")),
            ("/a?q=1", Some("prefix")),
            ("/ab", Some("prefix")),
            ("/A", None),
        ] {
            assert_eq!(answer("h", path, &table).as_deref(), expected, "{path}");
        }
    }
}
