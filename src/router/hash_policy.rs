//! Which requests belong together: a number that is the same for them.
//!
//! Mirrors `HashPolicyImpl` of Envoy's `source/common/http/hash_policy.cc`, as of 1.40 (in 1.1
//! `source/common/router/config_impl.cc`).

use crate::common::xxhash::xxh64;
use crate::config::route::{HashPolicy, HashedBy, HashedCookie};
use crate::http::{HeaderId, HeaderMap, HeaderName, utility};
use crate::stream_info::StreamInfoImpl;

/// See the module's description.
#[derive(Debug)]
pub struct HashPolicyImpl(Box<[Method]>);

#[derive(Debug)]
struct Method {
    by: HashedBy,
    /// Where it is known by a header.
    header: HeaderName,
    terminal: bool,
}

/// Gives a client a cookie; what its value is.
pub type AddCookie<'a> = &'a dyn Fn(&HashedCookie) -> Option<String>;

impl HashPolicyImpl {
    /// `None` where nothing is said.
    pub(super) fn new(config: &[HashPolicy]) -> Option<Self> {
        let method = |policy: &HashPolicy| Method {
            header: HeaderName::new(match &policy.by {
                HashedBy::Header(header) => &header.header_name,
                _ => "",
            }),
            by: policy.by.clone(),
            terminal: policy.terminal,
        };
        (!config.is_empty()).then(|| HashPolicyImpl(config.iter().map(method).collect()))
    }

    /// The number of a request; `None` where it has nothing that it could be known by. A client without its cookie may get
    /// one.
    pub fn generate_hash(
        &self,
        headers: &HeaderMap,
        info: Option<&StreamInfoImpl>,
        add_cookie: Option<AddCookie<'_>>,
    ) -> Option<u64> {
        let mut hash: Option<u64> = None;
        for method in &self.0 {
            if let Some(new) = method.evaluate(headers, info, add_cookie) {
                // Twice the same does not come to nothing.
                hash = Some(hash.map_or(0, |hash| hash.rotate_left(1)) ^ new);
            }
            if method.terminal && hash.is_some() {
                break;
            }
        }
        hash
    }
}

impl Method {
    fn evaluate(
        &self,
        headers: &HeaderMap,
        info: Option<&StreamInfoImpl>,
        add_cookie: Option<AddCookie<'_>>,
    ) -> Option<u64> {
        match &self.by {
            HashedBy::Header(header) => {
                let values = self.header.values(headers);
                let mut values: Vec<Vec<u8>> = match &header.regex_rewrite {
                    Some(rewrite) => values.map(|value| rewrite.replace_all(value)).collect(),
                    None => values.map(<[u8]>::to_vec).collect(),
                };
                values.sort();
                (!values.is_empty()).then(|| values.iter().fold(0, |seed, value| xxh64(value, seed)))
            }
            HashedBy::Cookie(cookie) => match utility::cookie(headers, cookie.name.as_bytes()) {
                Some(value) if !value.is_empty() => Some(xxh64(value, 0)),
                _ if cookie.ttl.is_some() => Some(xxh64(add_cookie?(cookie)?.as_bytes(), 0)),
                _ => None,
            },
            HashedBy::ConnectionProperties(connection) => {
                let address = info.filter(|_| connection.source_ip)?.downstream_remote_address()?;
                let ip = address.ip()?;
                Some(xxh64(ip.ip().to_string().as_bytes(), 0))
            }
            HashedBy::QueryParameter(parameter) => {
                let path = headers.get(HeaderId::Path)?;
                utility::query_parameter(path, parameter.name.as_bytes()).map(|value| xxh64(value, 0))
            }
            HashedBy::FilterState(state) => info?.filter_state()?.get_data(&state.key)?.hash(),
        }
    }
}

/// What a client is told that gets a cookie (Envoy: `Utility::makeSetCookieValue`).
pub fn make_set_cookie(cookie: &HashedCookie, value: &str) -> String {
    let mut text = format!("{}=\"{value}\"", cookie.name);
    if let Some(ttl) = cookie.ttl.filter(|ttl| ttl.as_secs() > 0) {
        text += &format!("; Max-Age={}", ttl.as_secs());
    }
    if !cookie.path.is_empty() {
        text += &format!("; Path={}", cookie.path);
    }
    for attribute in &cookie.attributes {
        text += &match attribute.value.is_empty() {
            true => format!("; {}", attribute.name),
            false => format!("; {}={}", attribute.name, attribute.value),
        };
    }
    text + "; HttpOnly"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::reader::{MessageReader, ParseContext};
    use crate::config::{NoExtensions, UnknownFields};
    use serde_json::json;

    fn policy(list: serde_json::Value) -> HashPolicyImpl {
        let config = json!({"cluster": "c", "hash_policy": list});
        let context = ParseContext::new(UnknownFields::Reject, &NoExtensions);
        let name = "envoy.config.route.v3.RouteAction";
        let reader = MessageReader::new(&context, name, &config, String::new()).unwrap();
        let action: crate::config::route::RouteAction = reader.read().unwrap();
        HashPolicyImpl::new(&action.hash_policy).unwrap()
    }

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        fields.iter().for_each(|(name, value)| headers.add(name, value.as_bytes()));
        headers
    }

    #[test]
    fn numbers_are_put_together() {
        let header = |name: &str| json!({"header": {"header_name": name}});
        let both = policy(json!([header("x-a"), header("x-b")]));
        let hash = |fields: &[(&str, &str)]| both.generate_hash(&headers(fields), None, None);
        let (a, b) = (xxh64(b"1", 0), xxh64(b"2", 0));
        assert_eq!(hash(&[]), None);
        assert_eq!(hash(&[("x-b", "2")]), Some(b));
        assert_eq!(hash(&[("x-a", "1"), ("x-b", "2")]), Some(a.rotate_left(1) ^ b));
        assert_eq!(hash(&[("x-a", "2"), ("x-a", "1")]), Some(xxh64(b"2", a)));
        let terminal = policy(json!([{"header": {"header_name": "x-a"}, "terminal": true}, header("x-b")]));
        assert_eq!(terminal.generate_hash(&headers(&[("x-a", "1"), ("x-b", "2")]), None, None), Some(a));
    }

    #[test]
    fn who_has_no_cookie_gets_one() {
        let cookie = |ttl: serde_json::Value| {
            policy(json!([{"cookie": {"name": "c", "ttl": ttl, "path": "/p",
            "attributes": [{"name": "Secure"}, {"name": "SameSite", "value": "Lax"}]}}]))
        };
        let told = std::cell::RefCell::new(String::new());
        let add = |cookie: &HashedCookie| {
            *told.borrow_mut() = make_set_cookie(cookie, "v");
            Some("v".to_string())
        };
        let hash = |policy: &HashPolicyImpl, fields| policy.generate_hash(&headers(fields), None, Some(&add));
        assert_eq!(hash(&cookie(json!(null)), &[]), None);
        assert_eq!(hash(&cookie(json!("5s")), &[("cookie", "a=b; c=\"w\"")]), Some(xxh64(b"w", 0)));
        assert_eq!(*told.borrow(), "");
        assert_eq!(hash(&cookie(json!("5s")), &[]), Some(xxh64(b"v", 0)));
        assert_eq!(*told.borrow(), "c=\"v\"; Max-Age=5; Path=/p; Secure; SameSite=Lax; HttpOnly");
        assert_eq!(hash(&cookie(json!("0s")), &[]), Some(xxh64(b"v", 0)));
        assert_eq!(*told.borrow(), "c=\"v\"; Path=/p; Secure; SameSite=Lax; HttpOnly");
    }
}
