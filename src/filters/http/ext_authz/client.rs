//! How somebody is asked over HTTP about a request, and what the answer says.
//!
//! Mirrors `ClientConfig` and `RawHttpClientImpl` of Envoy's `source/extensions/filters/common/ext_authz/ext_authz_http_impl.cc`, and
//! `CheckRequestUtils::createHttpCheck` of `source/extensions/filters/common/ext_authz/check_request_utils.cc`, without the message between them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::message::{ExtAuthz, HttpService, ListStringMatcher};
use crate::config::ConfigError;
use crate::config::header_matcher::StringMatcher;
use crate::config::route::HeaderMutations;
use crate::filters::http::async_client::ResponseMessage;
use crate::http::header_utility::match_string;
use crate::http::{HeaderId, HeaderMap, codes};
use crate::router::{HeaderParser, RetryPolicyImpl};
use crate::stream_info::StreamInfoImpl;
use crate::upstream::ClusterName;

/// What is always shown of a request.
const ALWAYS: [&[u8]; 4] = [b"authorization", b":method", b":path", b":authority"];

/// What a client always gets that is refused, where it is said what it gets.
const ALWAYS_TO_CLIENT: [&[u8]; 3] = [b"content-length", b"www-authenticate", b"location"];

/// Tells whether all of the body is shown.
const PARTIAL_BODY: &str = "x-envoy-auth-partial-body";

/// An answer names those fields here that are to be taken from the request.
const HEADERS_TO_REMOVE: &str = "x-envoy-auth-headers-to-remove";

/// Who is asked, and what of it is whose.
#[derive(Debug)]
pub(super) struct ClientConfig {
    pub cluster: ClusterName,
    pub timeout: Duration,
    pub retry_policy: Option<Arc<RetryPolicyImpl>>,
    path_prefix: String,
    path_override: String,
    headers_to_add: Option<Arc<HeaderParser>>,
    to_upstream: Vec<StringMatcher>,
    to_append_upstream: Vec<StringMatcher>,
    to_client: Vec<StringMatcher>,
    to_client_on_success: Vec<StringMatcher>,
    to_metadata: Vec<StringMatcher>,
}

/// A field, by its name.
pub(super) type Field = (String, Vec<u8>);

/// What was decided.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CheckStatus {
    /// The request goes on, with other fields.
    Ok(OkResponse),
    /// It does not.
    Denied {
        status: u16,
        /// In place of the answer's own.
        headers: Vec<Field>,
        body: Vec<u8>,
    },
    /// Nobody has decided.
    Error,
}

/// What becomes of a request that goes on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct OkResponse {
    pub headers_to_set: Vec<Field>,
    pub headers_to_add: Vec<Field>,
    pub headers_to_remove: Vec<String>,
    pub response_headers_to_add: Vec<Field>,
}

/// The part of a body that is shown.
pub(super) struct ShownBody {
    pub bytes: Vec<u8>,
    pub is_partial: bool,
}

/// Which fields of a request are shown, whoever is asked: a route that names another service does not show it more.
pub(super) struct ShownFields {
    allowed: Vec<StringMatcher>,
    disallowed: Vec<StringMatcher>,
}

impl ShownFields {
    pub fn new(filter: &ExtAuthz) -> Self {
        let patterns =
            |list: Option<&ListStringMatcher>| list.map(|list| list.patterns.clone()).unwrap_or_default();
        let service = filter.http_service.as_ref();
        let of_service = service.and_then(|service| service.authorization_request.allowed_headers.as_ref());
        ShownFields {
            allowed: patterns(of_service.or(filter.allowed_headers.as_ref())),
            disallowed: patterns(filter.disallowed_headers.as_ref()),
        }
    }

    fn has(&self, name: &[u8]) -> bool {
        name != b"content-length"
            && name != PARTIAL_BODY.as_bytes()
            && !matches(&self.disallowed, name)
            && (ALWAYS.contains(&name) || matches(&self.allowed, name))
    }
}

fn matches(matchers: &[StringMatcher], name: &[u8]) -> bool {
    matchers.iter().any(|matcher| match_string(name, matcher))
}

/// The fields that are shown, those of one name as one.
fn shown(request: &HeaderMap, fields: &ShownFields) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut shown: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (name, value) in request.iter().filter(|(name, _)| fields.has(name)) {
        match shown.iter_mut().find(|(other, _)| other == name) {
            Some((_, values)) => {
                values.push(b',');
                values.extend_from_slice(value);
            }
            None => shown.push((name.to_vec(), value.to_vec())),
        }
    }
    shown
}

impl ClientConfig {
    /// As a service says.
    pub fn new(service: &HttpService) -> Result<Self, ConfigError> {
        let uri = service.server_uri.as_ref();
        let (request, response) = (&service.authorization_request, &service.authorization_response);
        let to_add = HeaderMutations { to_add: request.headers_to_add.clone(), to_remove: Vec::new() };
        Ok(ClientConfig {
            cluster: ClusterName::of(uri.map_or("", |uri| &uri.cluster)),
            timeout: uri.map(|uri| uri.timeout).unwrap_or_default(),
            retry_policy: service.retry_policy.as_ref().map(RetryPolicyImpl::new).transpose()?,
            path_prefix: service.path_prefix.clone(),
            path_override: service.path_override.clone(),
            headers_to_add: HeaderParser::configure(
                &to_add,
                "http_service.authorization_request.headers_to_add",
            )?,
            to_upstream: response.allowed_upstream_headers.patterns.clone(),
            to_append_upstream: response.allowed_upstream_headers_to_append.patterns.clone(),
            to_client: response.allowed_client_headers.patterns.clone(),
            to_client_on_success: response.allowed_client_headers_on_success.patterns.clone(),
            to_metadata: response.dynamic_metadata_from_headers.patterns.clone(),
        })
    }

    /// What is asked about `request`.
    pub fn check_request(
        &self,
        request: &HeaderMap,
        fields: &ShownFields,
        body: Option<&ShownBody>,
        info: &StreamInfoImpl,
    ) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.set_int(HeaderId::ContentLength, body.map_or(0, |body| body.bytes.len() as u64));
        for (name, value) in shown(request, fields) {
            match &name[..] {
                b":path" => headers.add(":path", &self.path(&value)),
                name => headers.add(&String::from_utf8_lossy(name), &value),
            }
        }
        if let Some(body) = body {
            headers.add(PARTIAL_BODY, if body.is_partial { b"true" } else { b"false" });
        }
        if let Some(parser) = &self.headers_to_add {
            parser.evaluate_request(&mut headers, info);
        }
        headers
    }

    fn path(&self, path: &[u8]) -> Vec<u8> {
        match self.path_override.is_empty() {
            true => [self.path_prefix.as_bytes(), path].concat(),
            false => self.path_override.as_bytes().to_vec(),
        }
    }

    /// What an answer says, and what it leaves for others to see.
    pub fn to_response(&self, response: &ResponseMessage) -> (CheckStatus, Map<String, Value>) {
        let status = response.headers.status();
        if codes::is_5xx(status) {
            return (CheckStatus::Error, Map::new());
        }
        let fields = || {
            let all = response.headers.iter();
            all.filter(|(name, _)| !name.starts_with(b":") && *name != HEADERS_TO_REMOVE.as_bytes())
        };
        let field = |(name, value): (&[u8], &[u8])| (String::from_utf8_lossy(name).into(), value.to_vec());
        let those = |matchers: &[StringMatcher]| -> Vec<Field> {
            fields().filter(|(name, _)| matches(matchers, name)).map(field).collect()
        };
        let metadata = those(&self.to_metadata);
        let metadata = metadata.into_iter().map(|(name, value)| (name, text(&value).into())).collect();
        if status != 200 {
            let headers = fields().filter(|(name, _)| self.is_for_client(name)).map(field).collect();
            return (CheckStatus::Denied { status, headers, body: response.body.to_vec() }, metadata);
        }
        let removed = response.headers.get_all(HEADERS_TO_REMOVE).flat_map(|value| {
            let names: Vec<String> = text(value).split(',').map(|name| name.trim().to_lowercase()).collect();
            names.into_iter().filter(|name| !name.is_empty())
        });
        let ok = OkResponse {
            headers_to_set: those(&self.to_upstream),
            headers_to_add: those(&self.to_append_upstream),
            headers_to_remove: removed.collect(),
            response_headers_to_add: those(&self.to_client_on_success),
        };
        (CheckStatus::Ok(ok), metadata)
    }

    /// Whether a client gets the field that is refused.
    fn is_for_client(&self, name: &[u8]) -> bool {
        self.to_client.is_empty() || matches(&self.to_client, name) || ALWAYS_TO_CLIENT.contains(&name)
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::header_matcher::Place;

    fn list(prefix: &str) -> ListStringMatcher {
        let matcher = StringMatcher { text: prefix.into(), place: Place::Start, ignore_case: false };
        ListStringMatcher { patterns: vec![matcher] }
    }

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        fields.iter().for_each(|(name, value)| headers.add(name, value.as_bytes()));
        headers
    }

    #[test]
    fn fields_of_one_name_are_shown_as_one_and_lengths_are_those_of_the_body() {
        let filter = ExtAuthz {
            allowed_headers: Some(list("x-")),
            disallowed_headers: Some(list("x-no")),
            ..ExtAuthz::default()
        };
        let service = HttpService { path_prefix: "/auth".into(), ..HttpService::default() };
        let config = ClientConfig::new(&service).unwrap();
        let request = headers(&[
            (":method", "GET"),
            (":path", "/p"),
            ("content-length", "7"),
            ("x-a", "1"),
            ("x-none", "1"),
            ("x-a", "2"),
            ("y", "1"),
        ]);
        let body = ShownBody { bytes: b"abc".to_vec(), is_partial: true };
        let asked =
            config.check_request(&request, &ShownFields::new(&filter), Some(&body), &StreamInfoImpl::new());
        let mut asked: Vec<_> = asked.iter().map(|(name, value)| (text(name), text(value))).collect();
        asked.sort();
        let expected = [
            (":method", "GET"),
            (":path", "/auth/p"),
            ("content-length", "3"),
            ("x-a", "1,2"),
            (PARTIAL_BODY, "true"),
        ];
        assert_eq!(asked, expected.map(|(name, value)| (name.to_string(), value.to_string())));
    }
}
