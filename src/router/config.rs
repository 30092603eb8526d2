//! A route configuration: virtual hosts, found by domain.

use std::borrow::Cow;
use std::collections::HashMap;

use super::per_filter_config::PerFilterConfigs;
use super::virtual_host::VirtualHostImpl;
use crate::config::{self, ConfigError};
use crate::http::{HeaderId, HeaderMap};

/// A table; the default one has no routes.
#[derive(Debug, Default)]
pub struct ConfigImpl {
    name: String,
    virtual_hosts: Vec<VirtualHostImpl>,
    /// Indexes into `virtual_hosts`.
    exact: HashMap<Vec<u8>, usize>,
    /// `*suffix` domains without the star, longest first.
    suffixes: Vec<(Vec<u8>, usize)>,
    /// `prefix*` domains without the star, longest first.
    prefixes: Vec<(Vec<u8>, usize)>,
    default: Option<usize>,
}

impl ConfigImpl {
    /// Builds the table.
    ///
    /// # Errors
    /// As [`VirtualHostImpl::new`].
    pub fn new(config: &config::RouteConfiguration) -> Result<Self, ConfigError> {
        let mut table = ConfigImpl {
            name: config.name.clone(),
            virtual_hosts: Vec::new(),
            exact: HashMap::new(),
            suffixes: Vec::new(),
            prefixes: Vec::new(),
            default: None,
        };
        let of_table = PerFilterConfigs::default().with(&config.typed_per_filter_config.0)?;
        for (i, host) in config.virtual_hosts.iter().enumerate() {
            let built = VirtualHostImpl::new(host, &of_table);
            table.virtual_hosts.push(built.map_err(|e| e.within(&format!("virtual_hosts[{i}]")))?);
            for domain in &host.domains {
                table.add_domain(domain.to_ascii_lowercase().as_bytes(), i);
            }
        }
        table.suffixes.sort_by_key(|(domain, _)| std::cmp::Reverse(domain.len()));
        table.prefixes.sort_by_key(|(domain, _)| std::cmp::Reverse(domain.len()));
        Ok(table)
    }

    fn add_domain(&mut self, domain: &[u8], index: usize) {
        if domain == b"*" {
            self.default = Some(index);
        } else if let Some(suffix) = domain.strip_prefix(b"*") {
            self.suffixes.push((suffix.to_vec(), index));
        } else if let Some(prefix) = domain.strip_suffix(b"*") {
            self.prefixes.push((prefix.to_vec(), index));
        } else {
            self.exact.insert(domain.to_vec(), index);
        }
    }

    /// The configuration's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The virtual hosts, in the order of the configuration.
    pub fn virtual_hosts(&self) -> &[VirtualHostImpl] {
        &self.virtual_hosts
    }

    /// The places of the virtual host and the route that a request takes.
    pub fn find_route(&self, headers: &HeaderMap) -> Option<(usize, usize)> {
        // As Envoy: where it is not known whether the client used TLS, no route is safe to take.
        if headers.get(HeaderId::ForwardedProto).is_some_and(<[u8]>::is_empty) {
            return None;
        }
        let host = self.find_virtual_host(headers)?;
        Some((host, self.virtual_hosts[host].find_route(headers)?))
    }

    /// The order of Envoy: exact, longest suffix, longest prefix, `*`. A star stands for at least one
    /// character.
    fn find_virtual_host(&self, headers: &HeaderMap) -> Option<usize> {
        if self.exact.is_empty() && self.suffixes.is_empty() && self.prefixes.is_empty() {
            return self.default;
        }
        let Some(host) = headers.get(HeaderId::Authority) else { return self.default };
        let host = lower_case(host);
        let found = self
            .exact
            .get(&*host)
            .or_else(|| {
                let fits = |(s, _): &&(Vec<u8>, usize)| host.len() > s.len() && host.ends_with(s);
                self.suffixes.iter().find(fits).map(|(_, i)| i)
            })
            .or_else(|| {
                let fits = |(p, _): &&(Vec<u8>, usize)| host.len() > p.len() && host.starts_with(p);
                self.prefixes.iter().find(fits).map(|(_, i)| i)
            });
        found.copied().or(self.default)
    }
}

/// Most clients write a host in lower case, and it need not be copied.
fn lower_case(host: &[u8]) -> Cow<'_, [u8]> {
    if host.iter().any(u8::is_ascii_uppercase) { host.to_ascii_lowercase().into() } else { host.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::reader::{MessageReader, ParseContext};
    use crate::config::{NoExtensions, UnknownFields};

    /// A table whose virtual hosts are given as JSON.
    fn table(virtual_hosts: serde_json::Value) -> ConfigImpl {
        let config = serde_json::json!({"name": "r", "virtual_hosts": virtual_hosts});
        let context = ParseContext::new(UnknownFields::Reject, &NoExtensions);
        let reader =
            MessageReader::new(&context, "envoy.config.route.v3.RouteConfiguration", &config, String::new())
                .unwrap();
        ConfigImpl::new(&reader.read().unwrap()).unwrap()
    }

    fn answer(host: &str, path: &str, table: &ConfigImpl) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.set(HeaderId::Authority, host.as_bytes());
        headers.set(HeaderId::Path, path.as_bytes());
        let (host, route) = table.find_route(&headers)?;
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
            ("/a?q=1", Some("query")),
            ("/ab", Some("prefix")),
            ("/A", None),
        ] {
            assert_eq!(answer("h", path, &table).as_deref(), expected, "{path}");
        }
    }
}
