//! Routes that answer by themselves: with a text, or by sending the client elsewhere.
//!
//! Mirrors `DirectResponseEntry` and `SslRedirector` of Envoy's `source/common/router/config_impl.cc`, and `Utility::newUri`
//! of 1.40's `source/common/http/utility.cc`.

use std::borrow::Cow;

use super::rewrite::{formatted_path, path_format, rewrite_path};
use super::route_match::RouteMatch;
use crate::config::route::{PathRedirect, RedirectAction};
use crate::config::{ConfigError, DataSource, route};
use crate::formatter::{Context, Formatter, SubstitutionFormatString};
use crate::http::{HeaderId, HeaderMap};
use crate::stream_info::StreamInfoImpl;

/// What a route that answers by itself says.
#[derive(Debug)]
pub struct DirectResponseEntry {
    /// The status of the answer.
    pub status: u16,
    /// The body of the answer; may be empty.
    pub body: String,
    format: Option<SubstitutionFormatString>,
    redirect: Option<Redirect>,
}

#[derive(Debug)]
enum Redirect {
    /// To the same place, by TLS.
    Ssl,
    To(Box<RedirectTo>),
}

#[derive(Debug)]
struct RedirectTo {
    config: RedirectAction,
    path_format: Option<Formatter>,
}

impl DirectResponseEntry {
    /// With a text of so many bytes at most.
    ///
    /// # Errors
    /// A body file that cannot be read, or a body that is too long.
    pub(super) fn of_text(config: &route::DirectResponseAction, max_body: u32) -> Result<Self, ConfigError> {
        let body = read_body(config.body.as_ref(), max_body as usize);
        let body = body.map_err(|message| ConfigError::new("direct_response.body", message))?;
        let format = config.body_format.as_ref().map(SubstitutionFormatString::new).transpose();
        let format = format.map_err(|error| error.within("direct_response.body_format"))?;
        Ok(DirectResponseEntry { status: config.status, body, format, redirect: None })
    }

    /// # Errors
    /// What is to become of the path is no format.
    pub(super) fn of_redirect(config: &RedirectAction) -> Result<Self, ConfigError> {
        let path_format = match &config.path {
            PathRedirect::Format(format) => Some(path_format(format, "path_rewrite")?),
            _ => None,
        };
        let redirect = Redirect::To(Box::new(RedirectTo { config: config.clone(), path_format }));
        Ok(DirectResponseEntry {
            status: config.response_code as u16,
            body: String::new(),
            format: None,
            redirect: Some(redirect),
        })
    }

    /// For clients that have to use TLS.
    pub(super) fn of_ssl_redirect() -> Self {
        DirectResponseEntry { status: 301, body: String::new(), format: None, redirect: Some(Redirect::Ssl) }
    }

    /// The body of the answer to a request.
    pub fn body<'a>(&'a self, request: &HeaderMap, info: &StreamInfoImpl) -> Cow<'a, [u8]> {
        let Some(format) = &self.format else { return Cow::Borrowed(self.body.as_bytes()) };
        let context = Context {
            request_headers: Some(request),
            local_reply_body: self.body.as_bytes(),
            ..Context::new(info)
        };
        let mut body = Vec::new();
        format.formatter.format(&mut body, &context);
        body.into()
    }

    /// The type of that; `None` for text.
    pub fn content_type(&self) -> Option<&str> {
        let format = self.format.as_ref()?;
        match (&*format.content_type, &*format.formatter) {
            ("", Formatter::Json(_)) => Some("application/json"),
            ("", _) => None,
            (given, _) => Some(given),
        }
    }

    /// Where the answer has to say that the client is to go; `None` for nowhere.
    pub(super) fn location(
        &self,
        matched: &RouteMatch,
        headers: &mut HeaderMap,
        info: &StreamInfoImpl,
        insert_original_path: bool,
    ) -> Option<Vec<u8>> {
        match &self.redirect {
            Some(Redirect::Ssl) => Some([b"https://", authority(headers), path(headers)].concat()),
            Some(Redirect::To(redirect)) => {
                if let PathRedirect::Rewrite(rewrite) = &redirect.config.path {
                    rewrite_path(rewrite, matched, headers, insert_original_path);
                }
                let path = redirect.path_format.as_ref();
                let path = path.and_then(|format| formatted_path(format, headers, info)).map(|mut path| {
                    if !path.starts_with(b"/") {
                        path.insert(0, b'/');
                    }
                    path
                });
                Some(new_uri(Some(&redirect.config), path.as_deref(), headers))
            }
            // A status that wants a place leads to the request's own, as Envoy's does.
            None if self.status == 201 || (300..400).contains(&self.status) => {
                Some(new_uri(None, None, headers))
            }
            None => None,
        }
    }
}

fn authority(headers: &HeaderMap) -> &[u8] {
    headers.get(HeaderId::Authority).unwrap_or_default()
}

fn path(headers: &HeaderMap) -> &[u8] {
    headers.get(HeaderId::Path).unwrap_or_default()
}

/// Where a redirect leads; `made` is the path that its format has made.
fn new_uri(redirect: Option<&RedirectAction>, made: Option<&[u8]>, headers: &HeaderMap) -> Vec<u8> {
    let scheme = match redirect {
        Some(redirect) if !redirect.scheme.is_empty() => redirect.scheme.as_bytes(),
        _ => headers.get(HeaderId::Scheme).unwrap_or_default(),
    };
    let port = redirect.map(|redirect| redirect.port_redirect).filter(|port| *port > 0);
    let host = match redirect {
        Some(redirect) if !redirect.host_redirect.is_empty() => redirect.host_redirect.as_bytes(),
        _ => request_host(headers, scheme, port.is_some()),
    };
    let port = port.map_or(String::new(), |port| format!(":{port}"));
    let own = path(headers);
    let (plain, own_query) = own.split_at(memchr::memchr(b'?', own).unwrap_or(own.len()));
    let strip_query = redirect.is_some_and(|redirect| redirect.strip_query);
    let to = match redirect.map(|redirect| &redirect.path) {
        Some(PathRedirect::To(to)) => Some(to.as_bytes()).filter(|to| !to.is_empty()),
        _ => made,
    };
    let (path, query): (&[u8], &[u8]) = match to {
        // A query of its own takes the place of the request's.
        Some(to) if to.contains(&b'?') => (to, b""),
        Some(to) => (to, own_query),
        None => (plain, own_query),
    };
    [scheme, b"://", host, port.as_bytes(), path, if strip_query { b"" } else { query }].concat()
}

/// The host of the request, without its port where there will be another one, or where that was the scheme's own.
fn request_host<'a>(headers: &'a HeaderMap, scheme: &[u8], new_port: bool) -> &'a [u8] {
    let host = authority(headers);
    let colon = match host.first() {
        Some(b'[') => host.windows(2).rposition(|two| two == b"]:").map(|at| at + 1),
        _ => host.iter().rposition(|&b| b == b':'),
    };
    let Some(colon) = colon else { return host };
    let own_scheme = headers.get(HeaderId::ForwardedProto).unwrap_or_default();
    let is_default = match own_scheme {
        b"https" => &host[colon..] == b":443",
        b"http" => &host[colon..] == b":80",
        _ => false,
    };
    if new_port || (scheme != own_scheme && is_default) { &host[..colon] } else { host }
}

fn read_body(source: Option<&DataSource>, max: usize) -> Result<String, String> {
    let body = source.map_or_else(|| Ok(String::new()), DataSource::text)?;
    if body.len() > max {
        return Err(format!("response body size is {} bytes; maximum is {max}", body.len()));
    }
    Ok(body)
}
