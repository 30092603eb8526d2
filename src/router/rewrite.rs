//! What becomes of a request's path and host on its way.
//!
//! Mirrors `RouteEntryImplBase::finalizePathHeader` and `finalizeHostHeader` of Envoy 1.40's
//! `source/common/router/config_impl.cc`, and `Utility::updateAuthority` of `source/common/http/utility.cc`.

use super::route_match::{RouteMatch, plain};
use super::uri_template::UriTemplateRewrite;
use crate::common::percent;
use crate::config::ConfigError;
use crate::config::route::{HostRewrite, PathRewrite};
use crate::formatter::{Context, Formatter};
use crate::http::header_utility::drop_line_breaks;
use crate::http::{HeaderId, HeaderMap};
use crate::stream_info::StreamInfoImpl;

/// Rewrites the path of a request that `matched` is for, and says what it was in `x-envoy-original-path` if that is wanted.
pub(super) fn rewrite_path(
    rewrite: &PathRewrite,
    matched: &RouteMatch,
    headers: &mut HeaderMap,
    insert_original: bool,
) {
    let Some(path) = headers.get(HeaderId::Path) else { return };
    let new = match rewrite {
        PathRewrite::None | PathRewrite::Format(_) => return,
        PathRewrite::Prefix(prefix) => {
            let replaced = matched.matched(path).len();
            [prefix.as_bytes(), &path[replaced..]].concat()
        }
        PathRewrite::Regex(substitution) => {
            let before = plain(path);
            let mut new = substitution.replace_all(before);
            new.extend_from_slice(&path[before.len()..]);
            new
        }
        PathRewrite::Policy(policy) => {
            let before = plain(path);
            let rewrite = policy.get::<UriTemplateRewrite>().ok().zip(matched.template());
            let Some(mut new) = rewrite.and_then(|(rewrite, template)| rewrite.rewrite(template, before))
            else {
                return;
            };
            new.extend_from_slice(&path[before.len()..]);
            new
        }
    };
    set_path(headers, &new, insert_original);
}

fn set_path(headers: &mut HeaderMap, new: &[u8], insert_original: bool) {
    if insert_original {
        let old = headers.get(HeaderId::Path).unwrap_or_default().to_vec();
        headers.set(HeaderId::EnvoyOriginalPath, &old);
    }
    headers.set(HeaderId::Path, new);
}

/// A path or a host that a format makes of what is known of a request.
#[derive(Debug, Default)]
pub(super) struct FormattedRewrites {
    path: Option<Formatter>,
    host: Option<Formatter>,
}

impl FormattedRewrites {
    /// Parses the formats; `None` where there are none.
    pub(super) fn new(path: &PathRewrite, host: &HostRewrite) -> Result<Option<Box<Self>>, ConfigError> {
        let mut formats = FormattedRewrites::default();
        if let PathRewrite::Format(format) = path {
            formats.path = Some(path_format(format, "path_rewrite")?);
        }
        if let HostRewrite::Format(format) = host {
            let refused = |message| ConfigError::new("host_rewrite", message);
            formats.host = Some(Formatter::new(format).map_err(refused)?);
        }
        Ok((formats.path.is_some() || formats.host.is_some()).then(|| Box::new(formats)))
    }

    /// Gives a request its path.
    pub(super) fn rewrite_path(&self, headers: &mut HeaderMap, info: &StreamInfoImpl, insert_original: bool) {
        let Some(path) = headers.get(HeaderId::Path) else { return };
        let Some(mut new) = self.path.as_ref().and_then(|format| formatted_path(format, headers, info))
        else {
            return;
        };
        new.extend_from_slice(&path[plain(path).len()..]);
        set_path(headers, &new, insert_original);
    }

    /// The host that a request gets.
    pub(super) fn host(&self, headers: &HeaderMap, info: &StreamInfoImpl) -> Option<Vec<u8>> {
        let mut host = formatted(self.host.as_ref()?, headers, info);
        drop_line_breaks(&mut host, 0);
        Some(host).filter(|host| !host.is_empty())
    }
}

/// A format of a path, of which nothing is left where what it asks for is absent.
pub(super) fn path_format(format: &str, name: &str) -> Result<Formatter, ConfigError> {
    Formatter::new_omitting_empty(format).map_err(|message| ConfigError::new(name, message))
}

/// What a format makes of a request; `None` for nothing. Bytes that a request line cannot have are escaped.
pub(super) fn formatted_path(
    format: &Formatter,
    headers: &HeaderMap,
    info: &StreamInfoImpl,
) -> Option<Vec<u8>> {
    let made = formatted(format, headers, info);
    let path = percent::encode(&made, |byte| byte > b' ' && byte != 0x7f);
    (!path.is_empty()).then_some(path)
}

fn formatted(format: &Formatter, headers: &HeaderMap, info: &StreamInfoImpl) -> Vec<u8> {
    let mut made = Vec::new();
    format.format(&mut made, &Context { request_headers: Some(headers), ..Context::new(info) });
    made
}

/// The host that a request gets; `None` where it keeps its own, or where only the upstream host knows.
pub(super) fn rewritten_host(rewrite: &HostRewrite, headers: &HeaderMap) -> Option<Vec<u8>> {
    let mut host = match rewrite {
        HostRewrite::None | HostRewrite::Auto | HostRewrite::Format(_) => return None,
        HostRewrite::Literal(host) => host.as_bytes().to_vec(),
        HostRewrite::Header(name) => headers.get_all(name).next()?.to_vec(),
        HostRewrite::PathRegex(substitution) => substitution.replace_all(plain(headers.get(HeaderId::Path)?)),
    };
    drop_line_breaks(&mut host, 0);
    (!host.is_empty()).then_some(host)
}

/// Gives a request another host, and says what it was where that is wanted.
pub fn update_authority(headers: &mut HeaderMap, host: &[u8], append_forwarded: bool, insert_original: bool) {
    let old = headers.get(HeaderId::Authority).unwrap_or_default().to_vec();
    if insert_original {
        headers.set(HeaderId::EnvoyOriginalHost, &old);
    }
    if append_forwarded && !old.is_empty() {
        let last = headers.get(HeaderId::ForwardedHost).and_then(|all| all.rsplit(|&b| b == b',').next());
        if last != Some(&*old) {
            headers.append(HeaderId::ForwardedHost, &old, ",");
        }
    }
    headers.set(HeaderId::Authority, host);
}
