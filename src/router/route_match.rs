//! Whether a route is for a request.
//!
//! Mirrors `RouteEntryImplBase::matchRoute` and the `matches` of its kinds in Envoy's `source/common/router/config_impl.cc`,
//! with what 1.40 has more. The path is looked at first, which costs least; nothing depends on the order.

use std::sync::Arc;

use super::RouteRequest;
use super::uri_template::UriTemplate;
use crate::config::metadata_matcher::{FilterStateMatcher, MetadataMatcher};
use crate::config::route::{self, CookieMatcher, ParameterMatch, PathMatch, QueryParameterMatcher};
use crate::http::header_utility::{HeaderMatcher, match_string};
use crate::http::{HeaderId, HeaderMap, utility};
use crate::runtime::{LoaderImpl, RuntimeShare};

/// What requests a route is for.
#[derive(Debug)]
pub(super) struct RouteMatch {
    path: PathMatch,
    case_sensitive: bool,
    /// What is behind a `;` does not count.
    ignores_parameters: bool,
    /// The path that it is compared with has nothing in it that ends what counts of one: what begins with it needs no look
    /// at where that is.
    is_plain: bool,
    /// What hardly any route asks for.
    more: Option<Box<More>>,
}

#[derive(Debug)]
struct More {
    runtime_fraction: Option<Arc<RuntimeShare>>,
    grpc: bool,
    /// It has to have shown a certificate, which nobody has.
    is_for_nobody: bool,
    headers: Box<[HeaderMatcher]>,
    query_parameters: Box<[QueryParameterMatcher]>,
    cookies: Box<[CookieMatcher]>,
    dynamic_metadata: Box<[MetadataMatcher]>,
    filter_state: Box<[FilterStateMatcher]>,
}

impl RouteMatch {
    pub(super) fn new(
        config: &route::RouteMatch,
        ignores_parameters: bool,
        runtime: Option<&LoaderImpl>,
    ) -> Self {
        let more = config.runtime_fraction.is_some()
            || config.grpc
            || config.tls_context.is_some()
            || !config.headers.is_empty()
            || !config.query_parameters.is_empty()
            || !config.cookies.is_empty()
            || !config.dynamic_metadata.is_empty()
            || !config.filter_state.is_empty();
        let more = more.then(|| {
            Box::new(More {
                runtime_fraction: config
                    .runtime_fraction
                    .as_ref()
                    .map(|share| RuntimeShare::new(&share.runtime_key, share.default_value, runtime)),
                grpc: config.grpc,
                is_for_nobody: (config.tls_context.as_ref())
                    .is_some_and(|tls| tls.presented == Some(true) || tls.validated == Some(true)),
                headers: config.headers.iter().map(HeaderMatcher::new).collect(),
                query_parameters: config.query_parameters.clone().into(),
                cookies: config.cookies.clone().into(),
                dynamic_metadata: config.dynamic_metadata.clone().into(),
                filter_state: config.filter_state.clone().into(),
            })
        });
        RouteMatch {
            is_plain: match &config.path {
                PathMatch::Prefix(text) | PathMatch::SeparatedPrefix(text) | PathMatch::Path(text) => {
                    plain(text.as_bytes()).len() == text.len() && !(ignores_parameters && text.contains(';'))
                }
                _ => false,
            },
            path: config.path.clone(),
            case_sensitive: config.case_sensitive,
            ignores_parameters,
            more,
        }
    }

    /// All of them.
    pub(super) fn any() -> Self {
        RouteMatch {
            path: PathMatch::Prefix(String::new()),
            is_plain: true,
            case_sensitive: true,
            ignores_parameters: false,
            more: None,
        }
    }

    /// How the path is compared.
    pub(super) fn path(&self) -> &PathMatch {
        &self.path
    }

    /// Whether what is behind a `;` does not count.
    pub(super) fn ignores_parameters(&self) -> bool {
        self.ignores_parameters
    }

    pub(super) fn is_case_sensitive(&self) -> bool {
        self.case_sensitive
    }

    /// Whether the request is one of these.
    pub(super) fn matches(&self, request: &RouteRequest<'_>) -> bool {
        self.matches_path(request.headers) && self.more.as_ref().is_none_or(|more| more.matches(request))
    }

    fn matches_path(&self, headers: &HeaderMap) -> bool {
        if let PathMatch::Connect(_) = self.path {
            return headers.get(HeaderId::Method) == Some(b"CONNECT");
        }
        // A CONNECT has no path.
        let Some(path) = headers.get(HeaderId::Path) else { return false };
        if let (PathMatch::Prefix(prefix), true) = (&self.path, self.is_plain) {
            return self.begins(path, prefix);
        }
        let mut path = plain(path);
        if self.ignores_parameters {
            path = &path[..memchr::memchr(b';', path).unwrap_or(path.len())];
        }
        match &self.path {
            PathMatch::Prefix(prefix) => self.begins(path, prefix),
            PathMatch::Path(exact) => self.equal(path, exact.as_bytes()),
            PathMatch::Regex(regex) => regex.matches(path),
            PathMatch::SeparatedPrefix(prefix) => {
                self.begins(path, prefix) && matches!(path.get(prefix.len()), None | Some(b'/'))
            }
            PathMatch::Policy(policy) => {
                policy.0.get::<UriTemplate>().is_ok_and(|template| template.matches(path))
            }
            PathMatch::Connect(_) => false,
        }
    }

    /// The template that it is compared with, if it is one.
    pub(super) fn template(&self) -> Option<&UriTemplate> {
        match &self.path {
            PathMatch::Policy(policy) => policy.0.get::<UriTemplate>().ok().map(|template| &**template),
            _ => None,
        }
    }

    /// The part of a matched path that a rewrite of it replaces.
    pub(super) fn matched<'a>(&self, path: &'a [u8]) -> &'a [u8] {
        match &self.path {
            PathMatch::Prefix(prefix) | PathMatch::SeparatedPrefix(prefix) | PathMatch::Path(prefix) => {
                &path[..prefix.len().min(path.len())]
            }
            _ => plain(path),
        }
    }

    fn begins(&self, path: &[u8], prefix: &str) -> bool {
        path.get(..prefix.len()).is_some_and(|start| self.equal(start, prefix.as_bytes()))
    }

    fn equal(&self, a: &[u8], b: &[u8]) -> bool {
        if self.case_sensitive { a == b } else { a.eq_ignore_ascii_case(b) }
    }
}

impl More {
    fn matches(&self, request: &RouteRequest<'_>) -> bool {
        let headers = request.headers;
        self.runtime_fraction.as_ref().is_none_or(|share| share.is_in(request.random))
            && !self.is_for_nobody
            && (!self.grpc || utility::has_grpc_content_type(headers))
            && self.headers.iter().all(|matcher| matcher.matches(Some(headers)))
            && self.query_parameters.iter().all(|matcher| matches_parameter(matcher, headers))
            && self.cookies.iter().all(|matcher| matches_cookie(matcher, headers))
            && self
                .dynamic_metadata
                .iter()
                .all(|matcher| request.info.is_some_and(|info| matcher.matches(info)))
            && self.filter_state.iter().all(|matcher| request.info.is_some_and(|info| matcher.matches(info)))
    }
}

pub(super) fn matches_parameter(matcher: &QueryParameterMatcher, headers: &HeaderMap) -> bool {
    let path = headers.get(HeaderId::Path).unwrap_or_default();
    let value = utility::query_parameter(path, matcher.name.as_bytes());
    match &matcher.matches {
        ParameterMatch::Present(wanted) => value.is_some() == *wanted,
        ParameterMatch::String(string) => value.is_some_and(|value| match_string(value, string)),
    }
}

fn matches_cookie(matcher: &CookieMatcher, headers: &HeaderMap) -> bool {
    let value = utility::cookie(headers, matcher.name.as_bytes());
    value.is_some_and(|value| match_string(value, &matcher.matches)) != matcher.invert
}

/// The path without its query, or a fragment.
pub(super) fn plain(path: &[u8]) -> &[u8] {
    &path[..memchr::memchr2(b'?', b'#', path).unwrap_or(path.len())]
}
