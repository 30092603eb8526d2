//! What happens to headers on their way through.
//!
//! Mirrors Envoy's `source/common/http/conn_manager_utility.cc`; the rules and their order are those of
//! 1.1, with what 1.40 changed on the wire: fields that Connection names are removed, TE keeps
//! only `trailers`, and addresses are internal only where the configuration says so.

use super::active_stream::RequestTraits;
use super::config::ConnectionManagerConfig;
use super::message::PathWithEscapedSlashesAction;
use super::original_ip_detection::{Detected, last_address_from_xff};
use crate::http::{ENVOY_FIELDS, HeaderId, HeaderMap, path_utility, url, utility};
use crate::network::{Address, ConnectionImpl};
use crate::stream_info::StreamInfoImpl;

/// Removed from requests that do not come from inside.
const EXTERNAL_REMOVED: &[HeaderId] = &[
    HeaderId::EnvoyRetriableStatusCodes,
    HeaderId::EnvoyRetriableHeaderNames,
    HeaderId::EnvoyRetryOn,
    HeaderId::EnvoyRetryGrpcOn,
    HeaderId::EnvoyMaxRetries,
    HeaderId::EnvoyUpstreamAltStatName,
    HeaderId::EnvoyUpstreamRequestTimeoutMs,
    HeaderId::EnvoyUpstreamRequestPerTryTimeoutMs,
    HeaderId::EnvoyUpstreamRequestTimeoutAltResponse,
    HeaderId::EnvoyExpectedRequestTimeoutMs,
    HeaderId::EnvoyForceTrace,
    HeaderId::EnvoyIpTags,
    HeaderId::EnvoyOriginalUrl,
    HeaderId::EnvoyHedgeOnPerTryTimeout,
];

/// Removed at the edge, beside [`EXTERNAL_REMOVED`].
const EDGE_REMOVED: &[HeaderId] = &[
    HeaderId::EnvoyDecoratorOperation,
    HeaderId::EnvoyDownstreamServiceCluster,
    HeaderId::EnvoyDownstreamServiceNode,
    HeaderId::EnvoyOriginalPath,
];

const FORWARDED_PORT: &str = "x-forwarded-port";

/// Makes a request fit to be routed and sent on; returns the address that it counts as coming from.
///
/// # Errors
/// Where no address is found the request may have to be answered with this status.
pub(super) fn mutate_request_headers(
    headers: &mut HeaderMap,
    connection: &ConnectionImpl,
    config: &ConnectionManagerConfig,
    info: &StreamInfoImpl,
    internal_only: &[Box<str>],
) -> Result<Address, u16> {
    // The first that has had enough ends it.
    let _ = config.early_header_mutations.iter().all(|mutation| mutation.mutate(headers, info));
    remove_hop_by_hop(headers);
    headers.remove(HeaderId::EnvoyInternalRequest);
    sanitize_referer(headers);

    let ssl = connection.connection_info().ssl_connection().map(|ssl| &**ssl);
    let own_scheme: &[u8] = if ssl.is_some() { b"https" } else { b"http" };
    let peer = connection.remote_address();
    let Detected { address: trusted, allow_trusted_address_checks: single, reject_with, skip_xff_append } =
        trusted_address(headers, &peer, config);
    if let Some(status) = reject_with {
        return Err(status);
    }
    if !skip_xff_append {
        append_forwarded_for(headers, &peer, config);
    }
    if config.use_remote_address {
        // A trusted proxy in front knows better which scheme the client used.
        if config.xff_num_trusted_hops == 0 {
            headers.set(HeaderId::ForwardedProto, own_scheme);
        }
    }
    if config.append_x_forwarded_port {
        append_forwarded_port(headers, connection, config);
    }
    if !headers.has(HeaderId::ForwardedProto) {
        headers.set(HeaderId::ForwardedProto, own_scheme);
    }
    if !config.scheme_to_overwrite.is_empty() {
        headers.set(HeaderId::ForwardedProto, config.scheme_to_overwrite.as_bytes());
        headers.set(HeaderId::Scheme, config.scheme_to_overwrite.as_bytes());
    }
    if !headers.has(HeaderId::Scheme) {
        let secure = headers.get(HeaderId::ForwardedProto).is_some_and(|p| p.eq_ignore_ascii_case(b"https"));
        headers.set(HeaderId::Scheme, if secure { b"https" } else { b"http" });
    }

    let internal = single && trusted.as_ref().is_some_and(|address| config.is_internal_address(address));
    let edge = !internal && config.use_remote_address;
    if internal {
        headers.set(HeaderId::EnvoyInternalRequest, b"true");
    } else if headers.has_any(ENVOY_FIELDS) {
        if edge {
            EDGE_REMOVED.iter().for_each(|&id| headers.remove(id));
        }
        EXTERNAL_REMOVED.iter().for_each(|&id| headers.remove(id));
    }
    if !internal {
        internal_only.iter().for_each(|name| headers.remove_by_name(name.as_bytes()));
    }
    add_identity(headers, config);
    if edge && let Some(address @ Address::Ip(_)) = &trusted {
        headers.set(HeaderId::EnvoyExternalAddress, address.as_string_without_port().as_bytes());
    }
    if config.generate_request_id {
        config.request_id.set(headers, edge, config.preserve_external_request_id);
    }
    config.client_cert.mutate(headers, ssl);
    Ok(trusted.unwrap_or(peer))
}

/// Removes the fields that speak of this hop alone.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if !utility::is_upgrade(headers) {
        headers.remove(HeaderId::Connection);
        headers.remove(HeaderId::Upgrade);
    }
    headers.remove(HeaderId::KeepAlive);
    headers.remove(HeaderId::ProxyConnection);
    headers.remove(HeaderId::TransferEncoding);
    if let Some(te) = headers.get(HeaderId::Te).filter(|te| !te.is_empty()) {
        if !utility::tokens(te).any(|t| t == b"trailers") {
            headers.remove(HeaderId::Te);
        } else if te != b"trailers" {
            headers.set(HeaderId::Te, b"trailers");
        }
    }
}

/// The address to trust, and whether the request has passed no other proxy.
fn trusted_address(headers: &HeaderMap, peer: &Address, config: &ConnectionManagerConfig) -> Detected {
    let hops = config.xff_num_trusted_hops;
    if config.use_remote_address {
        let single = !headers.has(HeaderId::ForwardedFor);
        let address = (hops > 0).then(|| last_address_from_xff(headers, hops - 1).0).flatten();
        return Detected {
            address: Some(address.unwrap_or_else(|| peer.clone())),
            allow_trusted_address_checks: single,
            reject_with: None,
            skip_xff_append: config.skip_xff_append,
        };
    }
    if config.original_ip_detections.is_empty() {
        let (address, single) = last_address_from_xff(headers, hops);
        return Detected {
            address,
            allow_trusted_address_checks: single,
            reject_with: None,
            skip_xff_append: true,
        };
    }
    let mut last = Detected::default();
    for detection in &config.original_ip_detections {
        last = detection.detect(headers, peer);
        if last.address.is_some() || last.reject_with.is_some() {
            break;
        }
    }
    last
}

/// Appends the peer to x-forwarded-for; for a peer on this machine, the machine's own address. The peer of
/// a pipe has no address to append.
/// As 1.40: what is no place of a page is not passed on.
fn sanitize_referer(headers: &mut HeaderMap) {
    if !headers.has(HeaderId::Referer) {
        return;
    }
    let is_valid = headers.get(HeaderId::Referer).is_some_and(url::is_valid_referer);
    if !is_valid || headers.count(HeaderId::Referer) > 1 {
        headers.remove(HeaderId::Referer);
    }
}

fn append_forwarded_for(headers: &mut HeaderMap, peer: &Address, config: &ConnectionManagerConfig) {
    let Some(ip) = peer.ip() else { return };
    let address = if ip.ip().is_loopback() { &config.local_address } else { peer };
    headers.append(HeaderId::ForwardedFor, address.as_string_without_port().as_bytes(), ",");
}

/// Says which port the client asked, unless who is trusted says so.
fn append_forwarded_port(
    headers: &mut HeaderMap,
    connection: &ConnectionImpl,
    config: &ConnectionManagerConfig,
) {
    let Some(port) = connection.local_address().as_ref().and_then(|address| Some(address.ip()?.port()))
    else {
        return;
    };
    let is_trusted = !config.use_remote_address || config.xff_num_trusted_hops > 0;
    if !is_trusted || headers.get_all(FORWARDED_PORT).next().is_none() {
        headers.remove_by_name(FORWARDED_PORT.as_bytes());
        headers.add(FORWARDED_PORT, port.to_string().as_bytes());
    }
}

fn add_identity(headers: &mut HeaderMap, config: &ConnectionManagerConfig) {
    if let Some((cluster, node)) = &config.user_agent {
        headers.set(HeaderId::EnvoyDownstreamServiceCluster, cluster.as_bytes());
        if headers.get(HeaderId::UserAgent).is_none_or(<[u8]>::is_empty) {
            headers.set(HeaderId::UserAgent, cluster.as_bytes());
        }
        if !node.is_empty() {
            headers.set(HeaderId::EnvoyDownstreamServiceNode, node.as_bytes());
        }
    }
    if !config.via.is_empty() {
        headers.append(HeaderId::Via, config.via.as_bytes(), ", ");
    }
}

/// Makes a response fit to be sent to the downstream.
pub(super) fn mutate_response_headers(headers: &mut HeaderMap, request: Option<&RequestTraits>, via: &str) {
    let upgrade = request.is_some_and(|r| r.is_upgrade.get()) && utility::is_upgrade(headers);
    if upgrade {
        let has_body = headers.has(HeaderId::ContentLength) || headers.has(HeaderId::TransferEncoding);
        if !has_body && headers.status() >= 200 {
            headers.set(HeaderId::ContentLength, b"0");
        }
    } else {
        headers.remove(HeaderId::Connection);
        headers.remove(HeaderId::Upgrade);
    }
    headers.remove(HeaderId::TransferEncoding);
    headers.remove(HeaderId::KeepAlive);
    headers.remove(HeaderId::ProxyConnection);
    if let Some(request) = request
        && request.force_trace.get()
        && let Some(id) = &*request.id.borrow()
    {
        headers.set(HeaderId::RequestId, id);
    }
    if !via.is_empty() {
        headers.append(HeaderId::Via, via.as_bytes(), ", ");
    }
}

/// Why a request with a path like this goes no further.
pub(super) enum BadPath {
    /// It is refused.
    Reject,
    /// The client is to ask for the path that the request has now.
    Redirect,
}

/// Normalizes the path, up to its query, where the configuration asks for it.
pub(super) fn normalize_path(
    headers: &mut HeaderMap,
    config: &ConnectionManagerConfig,
) -> Result<(), BadPath> {
    // A fragment has no business in a request (RFC 9112 section 3.2).
    if headers.get(HeaderId::Path).is_some_and(|path| path.contains(&b'#')) {
        return Err(BadPath::Reject);
    }
    let keeps_escapes = config.escaped_slashes == PathWithEscapedSlashesAction::KeepUnchanged;
    if !config.normalize_path && !config.merge_slashes && keeps_escapes {
        return Ok(());
    }
    let path = headers.get(HeaderId::Path).unwrap_or_default();
    let end = path.iter().position(|&b| b == b'?').unwrap_or(path.len());
    let (mut plain, query) = (path[..end].to_vec(), path[end..].to_vec());
    let unescaped = !keeps_escapes && path_utility::unescape_slashes(&mut plain);
    if unescaped && config.escaped_slashes == PathWithEscapedSlashesAction::RejectRequest {
        return Err(BadPath::Reject);
    }
    if config.normalize_path {
        plain = path_utility::canonical_path(&plain).ok_or(BadPath::Reject)?;
    }
    if config.merge_slashes {
        path_utility::merge_slashes(&mut plain);
    }
    plain.extend_from_slice(&query);
    headers.set(HeaderId::Path, &plain);
    let redirects = unescaped && config.escaped_slashes == PathWithEscapedSlashesAction::UnescapeAndRedirect;
    if redirects { Err(BadPath::Redirect) } else { Ok(()) }
}

/// Takes the dot off the end of the authority's name.
pub(super) fn strip_trailing_host_dot(headers: &mut HeaderMap) {
    let authority = headers.get(HeaderId::Authority).unwrap_or_default();
    let Some(dot) = authority.iter().rposition(|&b| b == b'.') else { return };
    if matches!(authority.get(dot + 1), None | Some(b':')) {
        let host = [&authority[..dot], &authority[dot + 1..]].concat();
        headers.set(HeaderId::Authority, &host);
    }
}

/// Takes the port off the authority, any or only this one; a colon between brackets belongs to an address.
pub(super) fn strip_host_port(headers: &mut HeaderMap, only: Option<u16>) {
    let Some(authority) = headers.get(HeaderId::Authority) else { return };
    let Some(colon) = authority.iter().rposition(|&b| b == b':') else { return };
    let port = std::str::from_utf8(&authority[colon + 1..]).ok().and_then(|port| port.parse::<u32>().ok());
    if port.is_some_and(|port| only.is_none_or(|only| port == u32::from(only))) {
        let host = authority[..colon].to_vec();
        headers.set(HeaderId::Authority, &host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_is_among_the_envoy_fields() {
        for id in EDGE_REMOVED.iter().chain(EXTERNAL_REMOVED) {
            let mut h = HeaderMap::new();
            h.set(*id, b"1");
            assert!(h.has_any(ENVOY_FIELDS), "{id:?}");
        }
    }

    #[test]
    fn hop_by_hop_fields_and_what_connection_names_are_removed() {
        let mut h = HeaderMap::new();
        for (name, value) in [
            ("connection", "Foo, keep-alive"),
            ("foo", "1"),
            ("bar", "2"),
            ("keep-alive", "3"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
        ] {
            h.add(name, value.as_bytes());
        }
        assert!(utility::sanitize_connection(&mut h));
        remove_hop_by_hop(&mut h);
        assert_eq!(h.to_string(), "'bar', '2'\n'te', 'trailers'\n");
    }
}
