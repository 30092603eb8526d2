//! [`HeaderName`]: the name of a header that a configuration asks for, looked up when that is read.
//!
//! Mirrors `LowerCaseString` with `HeaderMap::get` of Envoy's `include/envoy/http/header_map.h`.

use super::{HeaderId, HeaderMap};

/// A name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderName {
    /// One of those that a map finds at once.
    Known(HeaderId),
    /// Another, in lower case; the empty name names nothing.
    Other(Box<str>),
    /// `host`: a request has it under another name.
    Host,
}

impl HeaderName {
    /// A name in any case.
    pub fn new(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        match HeaderId::find(name.as_bytes()) {
            Some(HeaderId::Host) => HeaderName::Host,
            Some(id) => HeaderName::Known(id),
            None => HeaderName::Other(name.into()),
        }
    }

    /// It, in lower case.
    pub fn name(&self) -> &str {
        match self {
            HeaderName::Known(id) => id.name(),
            HeaderName::Other(name) => name,
            HeaderName::Host => HeaderId::Host.name(),
        }
    }

    /// The value of the first header of this name.
    pub fn find<'a>(&'a self, headers: &'a HeaderMap) -> Option<&'a [u8]> {
        match self {
            HeaderName::Known(id) => headers.get(*id),
            HeaderName::Other(name) => headers.get_all(name).next(),
            HeaderName::Host => headers.get(HeaderId::Host).or_else(|| headers.get(HeaderId::Authority)),
        }
    }

    /// The values of all headers of this name.
    pub fn values<'a>(&'a self, headers: &'a HeaderMap) -> impl Iterator<Item = &'a [u8]> {
        let (is_there, name) = match self {
            HeaderName::Known(id) => (headers.has(*id), id.name()),
            HeaderName::Other(name) => (true, &**name),
            HeaderName::Host if headers.has(HeaderId::Host) => (true, HeaderId::Host.name()),
            HeaderName::Host => (true, HeaderId::Authority.name()),
        };
        is_there.then(|| headers.get_all(name)).into_iter().flatten()
    }
}
