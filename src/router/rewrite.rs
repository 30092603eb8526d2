//! What becomes of a request's path and host on its way.
//!
//! Mirrors `RouteEntryImplBase::finalizePathHeader` and `finalizeHostHeader` of Envoy 1.40's
//! `source/common/router/config_impl.cc`, and `Utility::updateAuthority` of `source/common/http/utility.cc`.

use super::route_match::{RouteMatch, plain};
use super::uri_template::UriTemplateRewrite;
use crate::config::route::{HostRewrite, PathRewrite};
use crate::http::{HeaderId, HeaderMap};

/// Rewrites the path of a request that `matched` is for, and says what it was in `x-envoy-original-path` if that is wanted.
pub(super) fn rewrite_path(
    rewrite: &PathRewrite,
    matched: &RouteMatch,
    headers: &mut HeaderMap,
    insert_original: bool,
) {
    let Some(path) = headers.get(HeaderId::Path) else { return };
    let new = match rewrite {
        PathRewrite::None => return,
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
    if insert_original {
        let old = path.to_vec();
        headers.set(HeaderId::EnvoyOriginalPath, &old);
    }
    headers.set(HeaderId::Path, &new);
}

/// The host that a request gets; `None` where it keeps its own, or where only the upstream host knows.
pub(super) fn rewritten_host(rewrite: &HostRewrite, headers: &HeaderMap) -> Option<Vec<u8>> {
    let host = match rewrite {
        HostRewrite::None | HostRewrite::Auto => return None,
        HostRewrite::Literal(host) => host.as_bytes().to_vec(),
        HostRewrite::Header(name) => headers.get_all(name).next()?.to_vec(),
        HostRewrite::PathRegex(substitution) => substitution.replace_all(plain(headers.get(HeaderId::Path)?)),
    };
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
