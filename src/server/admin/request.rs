//! What an endpoint gets and gives.

use std::io;

use serde_json::ser::Formatter;

use crate::common::percent;
use crate::stats::format_g;

/// Form fields beyond so many bytes are no request that an endpoint could want.
pub(super) const MAX_FORM: usize = 64 * 1024;

/// A request to the admin.
pub struct Request {
    /// The method.
    pub method: String,
    /// The path without its query.
    pub path: String,
    /// The query's parameters in their order, percent-decoded; one without `=` has an empty value.
    params: Vec<(String, String)>,
}

impl Request {
    /// Takes a path with its query apart.
    pub fn new(method: &str, path_and_query: &str) -> Self {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        Request { method: method.to_string(), path: path.to_string(), params: parse(query) }
    }

    /// Takes the parameters from the fields of a form if the path has none.
    pub fn add_form(&mut self, fields: &str) {
        if self.params.is_empty() {
            self.params = parse(fields);
        }
    }

    /// The first value of a parameter.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All parameters.
    pub fn params(&self) -> &[(String, String)] {
        &self.params
    }
}

fn parse(query: &str) -> Vec<(String, String)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (percent_decode(key), percent_decode(value))
        })
        .collect()
}

fn percent_decode(text: &str) -> String {
    String::from_utf8_lossy(&percent::decode(text.as_bytes(), true)).into_owned()
}

pub(super) const TEXT: &str = "text/plain; charset=UTF-8";

/// An answer of the admin.
pub struct Response {
    /// The status.
    pub status: u16,
    /// The content type.
    pub content_type: &'static str,
    /// The body.
    pub body: Box<dyn Body>,
    /// There may be much of it: it is begun only once the loop has polled again, for a client that is still there.
    pub is_large: bool,
}

impl Response {
    /// Plain text.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        let body = Box::new(Pieces(std::iter::once(body.into())));
        Response { status, content_type: TEXT, body, is_large: false }
    }

    /// JSON as Envoy prints a message of protobuf's: indented by one.
    pub fn json(message: &serde_json::Value) -> Self {
        Response::json_text(pretty(message) + "\n")
    }

    /// The text of such a message.
    pub fn json_text(text: String) -> Self {
        Response { status: 200, content_type: "application/json", ..Response::text(200, text) }
    }

    /// HTML.
    pub fn html(body: impl Into<String>) -> Self {
        Response { status: 200, content_type: "text/html; charset=UTF-8", ..Response::text(200, body) }
    }

    /// A body that is made while it is sent; nothing of it before `pieces` is called.
    pub fn pieces<I: Iterator<Item = String> + 'static>(
        content_type: &'static str,
        pieces: impl FnOnce() -> I + 'static,
    ) -> Self {
        Response::large(content_type, Pieces(std::iter::once_with(pieces).flatten()))
    }

    /// The same of any kind.
    pub fn large(content_type: &'static str, body: impl Body + 'static) -> Self {
        Response { status: 200, content_type, body: Box::new(body), is_large: true }
    }
}

/// A body, bit by bit: there may be much of it, and a client who takes it slowly or not at all.
pub trait Body {
    /// Appends a bit, a line or so.
    fn append(&mut self, out: &mut String) -> Progress;
}

/// How far a body is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// There may be more.
    More,
    /// That was all.
    End,
    /// The rest cannot be had any more.
    Lost,
}

struct Pieces<I>(I);

impl<I: Iterator<Item = String>> Body for Pieces<I> {
    fn append(&mut self, out: &mut String) -> Progress {
        match self.0.next() {
            Some(piece) if out.is_empty() => *out = piece,
            Some(piece) => out.push_str(&piece),
            None => return Progress::End,
        }
        Progress::More
    }
}

/// A message as indented text.
pub(super) fn pretty(message: &serde_json::Value) -> String {
    use serde::Serialize;
    let mut text = Vec::new();
    let format = Protobufs(serde_json::ser::PrettyFormatter::with_indent(b" "));
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, format);
    let _ = message.serialize(&mut serializer); // infallible: to memory, and all keys are strings
    String::from_utf8(text).unwrap_or_default()
}

/// Indents, and writes numbers as protobuf does (`SimpleDtoa`): with 17 digits where 15 are not enough.
struct Protobufs<'a>(serde_json::ser::PrettyFormatter<'a>);

impl Formatter for Protobufs<'_> {
    fn write_f64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let short = format_g(value, 15);
        let is_exact = short.parse() == Ok(value);
        let text = if is_exact { short } else { format_g(value, 17) };
        writer.write_all(text.as_bytes())
    }

    fn begin_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: io::Write + ?Sized>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_taken_apart() {
        let mut r = Request::new("GET", "/stats?usedonly&filter=a%2eb&x=%zz&filter=second");
        assert_eq!(r.path, "/stats");
        assert_eq!(r.param("usedonly"), Some(""));
        assert_eq!(r.param("filter"), Some("a.b"));
        assert_eq!(r.param("x"), Some("%zz"));
        assert_eq!(r.param("y"), None);
        r.add_form("y=1");
        assert_eq!(r.param("y"), None, "a query hides a form");
        let mut r = Request::new("POST", "/logging");
        r.add_form("level=de%62ug");
        assert_eq!(r.param("level"), Some("debug"));
    }

    #[test]
    fn numbers_have_as_many_digits_as_protobuf_gives_them() {
        let text = |value: f64| pretty(&serde_json::json!(value));
        assert_eq!(text(200.0 / 3.0), "66.666666666666671");
        assert_eq!(text(100.0 / 3.0), "33.333333333333336");
        assert_eq!(text(12.5), "12.5");
        assert_eq!(text(0.25), "0.25");
        assert_eq!(text(-200.0 / 3.0), "-66.666666666666671");
        assert_eq!(text(0.1), "0.1");
        assert_eq!(text(1.0 / 3.0), "0.33333333333333331");
        assert_eq!(text(2.0 / 300.0), "0.0066666666666666671");
        assert_eq!([text(5.0), text(1e-7), text(-1e20)], ["5", "1e-07", "-1e+20"]);
    }

    #[test]
    fn a_message_is_indented_by_one() {
        assert_eq!(
            pretty(&serde_json::json!({"a": [{"b": 1}], "c": {}})),
            "{\n \"a\": [\n  {\n   \"b\": 1\n  }\n ],\n \"c\": {}\n}"
        );
    }
}
