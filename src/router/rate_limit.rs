//! By what requests are counted.
//!
//! Mirrors Envoy's `source/common/router/router_ratelimit.cc`, with the actions that 1.40 has.

use std::net::IpAddr;

use super::Route;
use super::route_match::matches_parameter;
use crate::config::ConfigError;
use crate::config::route::{self, MetaData, MetadataSource, RateLimitAction};
use crate::formatter::{Context, Formatter};
use crate::http::header_utility::HeaderMatcher;
use crate::http::{HeaderId, HeaderMap, HeaderName, utility};
use crate::network::CidrRange;
use crate::stream_info::StreamInfoImpl;

/// What a request is described by: keys with their values.
pub type Descriptor = Vec<(String, String)>;

/// How many requests one counts as (Envoy: `hits_addend_provider_`).
#[derive(Debug)]
enum HitsAddend {
    Number(u64),
    Format(Formatter),
}

/// What is said of one way to count.
#[derive(Debug)]
pub struct RateLimitPolicyEntryImpl {
    /// For the filters of this stage.
    pub stage: u32,
    /// Part of the runtime's key that switches it off; empty for none.
    pub disable_key: Box<str>,
    /// It is counted when the stream ends.
    pub apply_on_stream_done: bool,
    /// Whether clients are told how many they have left; `None` leaves it to the filter.
    pub x_ratelimit_option: Option<bool>,
    hits_addend: Option<HitsAddend>,
    actions: Box<[Action]>,
}

#[derive(Debug)]
struct Action {
    config: RateLimitAction,
    /// Of those that look at headers.
    headers: Vec<HeaderMatcher>,
    /// Of those that look at the client's address.
    ranges: Vec<CidrRange>,
    name: Option<HeaderName>,
}

impl RateLimitPolicyEntryImpl {
    /// As the configuration has it.
    ///
    /// # Errors
    /// What is wrong with the format that it has.
    pub fn new(config: &route::RateLimit) -> Result<Self, ConfigError> {
        let action = |action: &RateLimitAction| Action {
            headers: match action {
                RateLimitAction::HeaderValueMatch(these) => {
                    these.headers.iter().map(HeaderMatcher::new).collect()
                }
                _ => Vec::new(),
            },
            ranges: match action {
                RateLimitAction::RemoteAddressMatch(these) => {
                    these.address_matcher.ranges.iter().filter_map(CidrRange::configured).collect()
                }
                _ => Vec::new(),
            },
            name: match action {
                RateLimitAction::RequestHeaders(header) => Some(HeaderName::new(&header.header_name)),
                _ => None,
            },
            config: action.clone(),
        };
        Ok(RateLimitPolicyEntryImpl {
            stage: config.stage,
            disable_key: config.disable_key.as_str().into(),
            apply_on_stream_done: config.apply_on_stream_done,
            x_ratelimit_option: config.x_ratelimit_option,
            hits_addend: config.hits_addend.as_ref().map(HitsAddend::new).transpose()?.flatten(),
            actions: config.actions.iter().map(action).collect(),
        })
    }

    /// Several, as routes and virtual hosts have them.
    ///
    /// # Errors
    /// As [`RateLimitPolicyEntryImpl::new`].
    pub fn all(configs: &[route::RateLimit]) -> Result<Box<[Self]>, ConfigError> {
        let one = |(i, config)| Self::new(config).map_err(|error| error.within(&format!("rate_limits[{i}]")));
        configs.iter().enumerate().map(one).collect()
    }

    /// How many requests this one counts as; `None` for one whose number is none.
    pub fn hits_addend(&self, headers: &HeaderMap, info: &StreamInfoImpl) -> Option<u64> {
        match &self.hits_addend {
            None => Some(1),
            Some(HitsAddend::Number(number)) => Some(*number),
            Some(HitsAddend::Format(format)) => {
                let mut text = Vec::new();
                format.format(&mut text, &Context { request_headers: Some(headers), ..Context::new(info) });
                let number: f64 = std::str::from_utf8(&text).ok()?.trim().parse().ok()?;
                (number >= 0.0).then_some(number as u64)
            }
        }
    }

    /// What describes a request; `None` where some of it cannot be had.
    pub fn populate_descriptor(
        &self,
        route: Option<&Route>,
        local_service_cluster: &str,
        headers: &HeaderMap,
        info: &StreamInfoImpl,
    ) -> Option<Descriptor> {
        let mut descriptor = Descriptor::new();
        for action in &self.actions {
            descriptor.extend(action.populate(route, local_service_cluster, headers, info)?);
        }
        Some(descriptor)
    }
}

impl HitsAddend {
    /// `None` where nothing is said.
    fn new(config: &route::HitsAddend) -> Result<Option<Self>, ConfigError> {
        if !config.format.is_empty() {
            let format =
                Formatter::new(&config.format).map_err(|m| ConfigError::new("hits_addend.format", m))?;
            return Ok(Some(HitsAddend::Format(format)));
        }
        Ok(config.number.map(HitsAddend::Number))
    }
}

impl Action {
    /// A part of the description, or none that is needed; `None` where there would have to be one.
    fn populate(
        &self,
        route: Option<&Route>,
        local_service_cluster: &str,
        headers: &HeaderMap,
        info: &StreamInfoImpl,
    ) -> Option<Option<(String, String)>> {
        let path = || headers.get(HeaderId::Path).unwrap_or_default();
        let (key, value) = match &self.config {
            RateLimitAction::SourceCluster(_) => ("source_cluster", local_service_cluster.to_string()),
            RateLimitAction::DestinationCluster(_) => {
                ("destination_cluster", route?.cluster_name()?.text().to_string())
            }
            RateLimitAction::RequestHeaders(header) => {
                match self.name.as_ref().and_then(|name| name.find(headers)) {
                    Some(value) => (&header.descriptor_key[..], text(value)),
                    None => return header.skip_if_absent.then_some(None),
                }
            }
            RateLimitAction::QueryParameters(parameter) => {
                match utility::query_parameter(path(), parameter.query_parameter_name.as_bytes()) {
                    Some(value) => (&parameter.descriptor_key[..], text(value)),
                    None => return parameter.skip_if_absent.then_some(None),
                }
            }
            RateLimitAction::MetaData(metadata) => match metadata_text(metadata, info) {
                Some(value) => (&metadata.descriptor_key[..], value),
                None => return metadata.skip_if_absent.then_some(None),
            },
            RateLimitAction::RemoteAddress(_) => ("remote_address", remote_ip(info)?.to_string()),
            RateLimitAction::MaskedRemoteAddress(mask) => {
                ("masked_remote_address", masked(remote_ip(info)?, mask))
            }
            RateLimitAction::GenericKey(generic) => {
                (or(&generic.descriptor_key, "generic_key"), generic.descriptor_value.clone())
            }
            RateLimitAction::HeaderValueMatch(these) => {
                let is_match = self.headers.iter().all(|matcher| matcher.matches(Some(headers)));
                (is_match == these.expect_match).then_some(())?;
                (or(&these.descriptor_key, "header_match"), these.descriptor_value.clone())
            }
            RateLimitAction::RemoteAddressMatch(these) => {
                let ip = remote_ip(info)?;
                let is_in = self.ranges.iter().any(|range| range.is_in_range(ip));
                (is_in != these.address_matcher.invert_match).then_some(())?;
                (or(&these.descriptor_key, "remote_address_match"), these.descriptor_value.clone())
            }
            RateLimitAction::QueryParameterValueMatch(these) => {
                let is_match =
                    these.query_parameters.iter().all(|matcher| matches_parameter(matcher, headers));
                (is_match == these.expect_match).then_some(())?;
                (or(&these.descriptor_key, "query_match"), these.descriptor_value.clone())
            }
        };
        Some(Some((key.to_string(), value)))
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

/// The text that is there, or what is said in its place; an empty one is none.
fn metadata_text(action: &MetaData, info: &StreamInfoImpl) -> Option<String> {
    let filter = &action.metadata_key.key;
    let path: Vec<&str> = action.metadata_key.path.iter().map(|segment| segment.key.as_str()).collect();
    let said = match action.source {
        MetadataSource::Dynamic => info.dynamic_metadata(filter, &path),
        MetadataSource::RouteEntry => {
            let route = info.route();
            let said = route.as_deref().and_then(|route| route.metadata()?.get(filter));
            path.iter().fold(said, |value, key| value?.get(key)).cloned()
        }
    };
    let text = said.as_ref().and_then(|value| value.as_str()).unwrap_or_default();
    Some(or(text, &action.default_value)).filter(|text| !text.is_empty()).map(str::to_string)
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}

fn remote_ip(info: &StreamInfoImpl) -> Option<IpAddr> {
    Some(info.downstream_remote_address()?.ip()?.ip())
}

/// The network that an address is in.
fn masked(ip: IpAddr, mask: &route::MaskedRemoteAddress) -> String {
    match ip {
        IpAddr::V4(v4) => {
            let length = mask.v4_prefix_mask_len.min(32);
            let bits = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            format!("{}/{length}", std::net::Ipv4Addr::from_bits(v4.to_bits() & bits))
        }
        IpAddr::V6(v6) => {
            let length = mask.v6_prefix_mask_len.min(128);
            let bits = u128::MAX.checked_shl(128 - length).unwrap_or(0);
            format!("{}/{length}", std::net::Ipv6Addr::from_bits(v6.to_bits() & bits))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let of = |ip: &str, v4_prefix_mask_len, v6_prefix_mask_len| {
            masked(
                ip.parse().unwrap(),
                &route::MaskedRemoteAddress { v4_prefix_mask_len, v6_prefix_mask_len },
            )
        };
        assert_eq!(of("10.1.2.3", 24, 0), "10.1.2.0/24");
        assert_eq!(of("10.1.2.3", 32, 0), "10.1.2.3/32");
        assert_eq!(of("10.1.2.3", 0, 0), "0.0.0.0/0");
        assert_eq!(of("fd00::1:2", 0, 112), "fd00::1:0/112");
        assert_eq!(of("fd00::1:2", 0, 0), "::/0");
    }
}
