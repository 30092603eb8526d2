//! A redirect of the upstream that is followed here, in place of the client.
//!
//! Mirrors `Filter::setupRedirect` and `convertRequestHeadersForInternalRedirect` of Envoy's `source/common/router/router.cc`, with the
//! policies of 1.40.

use std::cell::Cell;
use std::rc::Rc;

use super::Filter;
use crate::filters::http::StreamDecoderFilterCallbacks;
use crate::http::{HeaderId, HeaderMap, HeaderMapPtr, url};
use crate::router::{InternalRedirectPolicyImpl, RouteConstSharedPtr, Target};
use crate::stream_info::Object;
use crate::trace::stage;

/// How often a request was redirected.
const REDIRECTS: &str = "num_internal_redirects";

#[derive(Default)]
struct Redirects(Cell<u32>);

impl Object for Redirects {
    fn serialize_as_string(&self) -> Option<String> {
        Some(self.0.get().to_string())
    }
}

impl Filter {
    fn internal_redirect_policy(&self) -> Option<(&RouteConstSharedPtr, &InternalRedirectPolicyImpl)> {
        let route = self.route.get()?;
        Some((route, route.route_entry()?.internal_redirect_policy()?))
    }

    /// Whether the request's body is kept for one that may follow.
    pub(super) fn may_redirect(&self) -> bool {
        self.internal_redirect_policy().is_some() && !self.request_buffer_overflowed.get()
    }

    /// Whether the request begins anew where the answer says; then this stream is over.
    pub(super) fn redirects(&self, headers: &HeaderMapPtr, end_stream: bool) -> bool {
        let Some((route, policy)) = self.internal_redirect_policy() else { return false };
        policy.should_redirect_for_response_code(headers.borrow().status())
            && self.setup_redirect(route, policy, headers, end_stream)
    }

    fn setup_redirect(
        &self,
        route: &RouteConstSharedPtr,
        policy: &InternalRedirectPolicyImpl,
        headers: &HeaderMapPtr,
        end_stream: bool,
    ) -> bool {
        stage!(SetupRedirect(self.connection_id.get(), self.stream_id.get()), end = end_stream);
        let (Some(callbacks), Some(cluster)) = (self.callbacks(), self.cluster()) else { return false };
        let complete = self.downstream_end_stream.get();
        self.redirects_complete_stream.set(end_stream && complete);
        let redirects = complete
            && !self.request_buffer_overflowed.get()
            && self.convert_request_headers(route, policy, &headers.borrow(), callbacks)
            && callbacks.recreate_stream(Some(headers));
        match redirects {
            true => cluster.stats().upstream_internal_redirect_succeeded_total().inc(),
            false => cluster.stats().upstream_internal_redirect_failed_total().inc(),
        }
        if !redirects {
            self.redirects_complete_stream.set(false);
        }
        redirects
    }

    /// Makes of the request what the answer says; if it may not go there, it stays what it was.
    fn convert_request_headers(
        &self,
        route: &RouteConstSharedPtr,
        policy: &InternalRedirectPolicyImpl,
        response: &HeaderMap,
        callbacks: &StreamDecoderFilterCallbacks,
    ) -> bool {
        let stats = &self.config.stats;
        let Some(location) = response.get(HeaderId::Location) else { return false };
        let Some((scheme, host, path)) = parse_location(location) else {
            stats.passthrough_internal_redirect_bad_location.inc();
            return false;
        };
        // There are no secure connections yet.
        let (downstream_is_https, is_https) = (false, !scheme.eq_ignore_ascii_case(b"http"));
        if !policy.allow_cross_scheme_redirect && downstream_is_https != is_https {
            stats.passthrough_internal_redirect_unsafe_scheme.inc();
            return false;
        }
        let state = callbacks.stream_info().make_filter_state();
        let redirects: Rc<Redirects> = state.of_request(REDIRECTS);
        if redirects.0.get() >= policy.max_internal_redirects {
            stats.passthrough_internal_redirect_too_many_redirects.inc();
            return false;
        }
        let Some(request) = self.downstream_headers.borrow().clone() else { return false };
        let before = request.borrow().clone();
        {
            let mut request = request.borrow_mut();
            copy_headers(policy, response, &mut request);
            request.set(HeaderId::Scheme, scheme);
            request.set(HeaderId::Authority, host);
            request.set(HeaderId::Path, path);
        }
        callbacks.clear_route_cache();
        let target = callbacks.route();
        let cluster = target.as_ref().and_then(|target| target.cluster_name());
        let cluster = cluster.and_then(|name| self.config.cluster_manager.get(name));
        // Also where it stays with this answer.
        callbacks.stream_info().set_upstream_cluster_info(cluster.as_ref().map(|cluster| cluster.info()));
        let accepted = match target {
            None => {
                stats.passthrough_internal_redirect_no_route.inc();
                false
            }
            Some(target) => {
                let (current_route, route) = (route.name(), target.name());
                let target = Target { current_route, route, downstream_is_https, is_https };
                let accepts = policy.predicates.iter().all(|p| p.accept_target_route(&target, state));
                if !accepts {
                    stats.passthrough_internal_redirect_predicate.inc();
                }
                accepts
            }
        };
        if !accepted {
            *request.borrow_mut() = before;
            return false;
        }
        let mut request = request.borrow_mut();
        see_other(response, &mut request, callbacks);
        redirects.0.set(redirects.0.get() + 1);
        let part = |id| before.get(id).unwrap_or_default();
        request.set(
            HeaderId::EnvoyOriginalUrl,
            &[b"http://", part(HeaderId::Authority), part(HeaderId::Path)].concat(),
        );
        true
    }
}

/// Scheme, host and path, without its fragment.
fn parse_location(location: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (host, path) = url::split_absolute(location)?;
    let scheme = &location[..location.windows(3).position(|part| part == b"://")?];
    let path = path.split(|byte| *byte == b'#').next().unwrap_or_default();
    Some((scheme, host, path))
}

fn copy_headers(policy: &InternalRedirectPolicyImpl, response: &HeaderMap, request: &mut HeaderMap) {
    for name in &policy.response_headers_to_copy {
        request.remove_by_name(name.name().as_bytes());
        name.values(response).for_each(|value| request.add(name.name(), value));
    }
}

/// What is to be seen elsewhere is asked for without a body (RFC 9110 section 15.4.4).
fn see_other(response: &HeaderMap, request: &mut HeaderMap, callbacks: &StreamDecoderFilterCallbacks) {
    if response.status() == 303 && !matches!(request.get(HeaderId::Method), Some(b"GET" | b"HEAD")) {
        request.set(HeaderId::Method, b"GET");
        request.remove(HeaderId::ContentLength);
        callbacks.modify_decoding_buffer(&mut |body| body.clear());
    }
}
