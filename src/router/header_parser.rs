//! Rules of a route table for headers.
//!
//! Mirrors `HeaderParser` of Envoy's `source/common/router/header_parser.cc`, in the order of 1.40: a level removes, makes
//! all values, overwrites, and adds. The values are formats as access logs have them.

use std::sync::Arc;

use crate::config::ConfigError;
use crate::config::route::{AppendAction, HeaderMutations, HeaderValueOption};
use crate::formatter::{Context, Formatter};
use crate::http::header_utility::drop_line_breaks;
use crate::http::{HeaderMap, HeaderName};
use crate::stream_info::StreamInfoImpl;

/// The rules of one level for one direction.
#[derive(Debug)]
pub struct HeaderParser {
    to_remove: Box<[Box<str>]>,
    to_add: Box<[Entry]>,
}

#[derive(Debug)]
struct Entry {
    key: Box<str>,
    name: HeaderName,
    value: Value,
    append_action: AppendAction,
    add_if_empty: bool,
}

/// Which headers are changed, and what else their values are made of.
#[derive(Clone, Copy)]
pub enum Changed<'a> {
    /// A request's.
    Request,
    /// Those of a response to this request.
    Response(Option<&'a HeaderMap>),
    /// The trailers of this request.
    RequestTrailers(Option<&'a HeaderMap>),
    /// The trailers of a response.
    ResponseTrailers {
        /// To this request.
        request: Option<&'a HeaderMap>,
        /// With these headers.
        response: Option<&'a HeaderMap>,
    },
}

impl<'a> Changed<'a> {
    fn context(self, headers: &'a HeaderMap, info: &'a StreamInfoImpl) -> Context<'a> {
        let none = Context::new(info);
        match self {
            Changed::Request => Context { request_headers: Some(headers), ..none },
            Changed::Response(request_headers) => {
                Context { request_headers, response_headers: Some(headers), ..none }
            }
            Changed::RequestTrailers(request_headers) => Context { request_headers, ..none },
            Changed::ResponseTrailers { request, response } => Context {
                request_headers: request,
                response_headers: response,
                response_trailers: Some(headers),
                ..none
            },
        }
    }
}

#[derive(Debug)]
enum Value {
    Literal(Box<[u8]>),
    Format(Formatter),
}

impl HeaderParser {
    /// Parses the formats; `None` where there are no rules. `add` is the field that the rules were read from.
    ///
    /// # Errors
    /// A format that cannot be parsed.
    pub fn configure(mutations: &HeaderMutations, add: &str) -> Result<Option<Arc<Self>>, ConfigError> {
        if *mutations == HeaderMutations::default() {
            return Ok(None);
        }
        let entry = |(i, option): (usize, &HeaderValueOption)| {
            Entry::new(option)
                .map_err(|message| ConfigError::new(format!("{add}[{i}].header.value"), message))
        };
        Ok(Some(Arc::new(HeaderParser {
            to_remove: mutations.to_remove.iter().map(|name| name.as_str().into()).collect(),
            to_add: mutations.to_add.iter().enumerate().map(entry).collect::<Result<_, _>>()?,
        })))
    }

    /// One that adds a single field.
    ///
    /// # Errors
    /// Its value is no format.
    pub(super) fn of_one(option: &HeaderValueOption) -> Result<Arc<Self>, String> {
        Ok(Arc::new(HeaderParser { to_remove: Box::default(), to_add: [Entry::new(option)?].into() }))
    }

    /// Applies the rules to the headers of a request.
    pub fn evaluate_request(&self, headers: &mut HeaderMap, info: &StreamInfoImpl) {
        self.evaluate(headers, Changed::Request, info);
    }

    /// Applies the rules to the headers of a response to `request`.
    pub fn evaluate_response(
        &self,
        headers: &mut HeaderMap,
        request: Option<&HeaderMap>,
        info: &StreamInfoImpl,
    ) {
        self.evaluate(headers, Changed::Response(request), info);
    }

    /// Applies the rules to such headers.
    pub(super) fn evaluate(&self, headers: &mut HeaderMap, changed: Changed<'_>, info: &StreamInfoImpl) {
        for name in &self.to_remove {
            headers.remove_by_name(name.as_bytes());
        }
        // The values are made before one of them is there.
        let mut made = Vec::new();
        let mut ends = Vec::with_capacity(self.to_add.len());
        for entry in &self.to_add {
            let start = made.len();
            match &entry.value {
                Value::Literal(text) => made.extend_from_slice(text),
                Value::Format(format) => {
                    format.format(&mut made, &changed.context(headers, info));
                    drop_line_breaks(&mut made, start);
                }
            }
            let is_there = || entry.name.find(headers).is_some();
            let wanted = (made.len() > start || entry.add_if_empty)
                && match entry.append_action {
                    AppendAction::AddIfAbsent => !is_there(),
                    AppendAction::OverwriteIfExists => is_there(),
                    _ => true,
                };
            ends.push((made.len(), wanted));
        }
        for overwriting in [true, false] {
            let mut start = 0;
            for (entry, &(end, wanted)) in self.to_add.iter().zip(&ends) {
                if wanted && entry.overwrites() == overwriting {
                    if overwriting {
                        headers.remove_by_name(entry.key.as_bytes());
                    }
                    headers.add(&entry.key, &made[start..end]);
                }
                start = end;
            }
        }
    }
}

impl Entry {
    fn new(option: &HeaderValueOption) -> Result<Self, String> {
        let value = if option.value.contains('%') {
            Value::Format(Formatter::new_omitting_empty(&option.value)?)
        } else {
            Value::Literal(option.value.as_bytes().into())
        };
        Ok(Entry {
            key: option.name.as_str().into(),
            name: HeaderName::new(&option.name),
            value,
            append_action: option.append_action,
            add_if_empty: option.keep_empty_value,
        })
    }

    fn overwrites(&self) -> bool {
        matches!(self.append_action, AppendAction::OverwriteIfExists | AppendAction::OverwriteIfExistsOrAdd)
    }
}

/// The rules of all levels, in the order in which they are applied.
#[derive(Debug, Clone, Default)]
pub struct HeaderParsers(Vec<Arc<HeaderParser>>);

impl HeaderParsers {
    /// With the rules of a level further down, which come before those of here unless `last`.
    pub fn with(&self, parser: Option<Arc<HeaderParser>>, last: bool) -> Self {
        let mut all = self.0.clone();
        all.reserve_exact(1);
        match parser {
            Some(parser) if last => all.push(parser),
            Some(parser) => all.insert(0, parser),
            None => {}
        }
        HeaderParsers(all)
    }

    /// In order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = &HeaderParser> {
        self.0.iter().map(|parser| &**parser)
    }
}

/// What the levels above a place in a route table say of headers, or that place and they.
#[derive(Debug, Clone, Default)]
pub struct HeaderParsersOfLevels {
    /// Of requests.
    pub request: HeaderParsers,
    /// Of responses.
    pub response: HeaderParsers,
}

impl HeaderParsersOfLevels {
    /// With what a level further down says.
    ///
    /// # Errors
    /// As [`HeaderParser::configure`].
    pub fn with(
        &self,
        rules: &crate::config::route::HeaderRules,
        most_specific_wins: bool,
    ) -> Result<Self, ConfigError> {
        let request = HeaderParser::configure(&rules.request, "request_headers_to_add")?;
        let response = HeaderParser::configure(&rules.response, "response_headers_to_add")?;
        Ok(HeaderParsersOfLevels {
            request: self.request.with(request, most_specific_wins),
            response: self.response.with(response, most_specific_wins),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(name: &str, value: &str, append_action: AppendAction, keep: bool) -> HeaderValueOption {
        HeaderValueOption { name: name.into(), value: value.into(), append_action, keep_empty_value: keep }
    }

    fn applied(mutations: &HeaderMutations, fields: &[(&str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        fields.iter().for_each(|(name, value)| headers.add(name, value.as_bytes()));
        let parser = HeaderParser::configure(mutations, "add").unwrap().unwrap();
        parser.evaluate_request(&mut headers, &StreamInfoImpl::new());
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let fields: Vec<String> =
            headers.iter().map(|(name, value)| text(name) + "=" + &text(value)).collect();
        fields.join(" ")
    }

    #[test]
    fn actions_say_what_becomes_of_what_is_there() {
        use AppendAction::*;
        for (action, absent, present) in [
            (AppendIfExistsOrAdd, "x-b=1 x-a=new", "x-b=1 x-a=old x-a=new"),
            (AddIfAbsent, "x-b=1 x-a=new", "x-b=1 x-a=old"),
            (OverwriteIfExistsOrAdd, "x-b=1 x-a=new", "x-b=1 x-a=new"),
            (OverwriteIfExists, "x-b=1", "x-b=1 x-a=new"),
        ] {
            let rules =
                HeaderMutations { to_add: vec![option("x-a", "new", action, false)], to_remove: vec![] };
            assert_eq!(applied(&rules, &[("x-b", "1")]), absent, "{action:?}");
            assert_eq!(applied(&rules, &[("x-b", "1"), ("x-a", "old")]), present, "{action:?}");
        }
    }

    #[test]
    fn a_level_removes_makes_values_overwrites_and_adds() {
        use AppendAction::*;
        let rules = HeaderMutations {
            to_add: vec![
                option("x-copy", "%REQ(x-a)%", AppendIfExistsOrAdd, false),
                option("x-a", "2", OverwriteIfExistsOrAdd, false),
                option("x-gone", "%REQ(x-gone)%", AppendIfExistsOrAdd, false),
                option("x-empty", "", AppendIfExistsOrAdd, true),
                option("user-agent", "z", AppendIfExistsOrAdd, false),
            ],
            to_remove: vec!["x-gone".into()],
        };
        let fields = [("x-a", "1"), ("x-gone", "g"), ("user-agent", "cur")];
        assert_eq!(applied(&rules, &fields), "user-agent=cur,z x-a=2 x-copy=1 x-empty=");
    }

    #[test]
    fn what_is_made_ends_no_line() {
        let value = "a%QUERY_PARAM(q)%b";
        let to_add = vec![option("x", value, AppendAction::default(), false)];
        let rules = HeaderMutations { to_add, to_remove: vec![] };
        let fields = [(":path", "/?q=%0d%0ay:%20z%00%0A")];
        assert_eq!(applied(&rules, &fields), ":path=/?q=%0d%0ay:%20z%00%0A x=ay: zb");
    }

    #[test]
    fn what_no_format_is_has_a_place() {
        let rules = HeaderMutations {
            to_add: vec![option("x", "%NO%", AppendAction::default(), false)],
            to_remove: vec![],
        };
        let error = HeaderParser::configure(&rules, "request_headers_to_add").unwrap_err().to_string();
        assert_eq!(error, "request_headers_to_add[0].header.value: Not supported field in StreamInfo: NO");
    }

    #[test]
    fn levels_are_applied_from_below_or_from_above() {
        let level = |value: &str| {
            let add = vec![option("x", value, AppendAction::default(), false)];
            HeaderParser::configure(&HeaderMutations { to_add: add, to_remove: vec![] }, "").unwrap()
        };
        for (last, expected) in [(false, ["route", "host", "table"]), (true, ["table", "host", "route"])] {
            let all = ["table", "host", "route"]
                .iter()
                .fold(HeaderParsers::default(), |levels, name| levels.with(level(name), last));
            let mut headers = HeaderMap::new();
            all.iter().for_each(|parser| parser.evaluate_request(&mut headers, &StreamInfoImpl::new()));
            assert_eq!(
                headers.iter().map(|(_, value)| value).collect::<Vec<_>>(),
                expected.map(str::as_bytes)
            );
        }
    }
}
