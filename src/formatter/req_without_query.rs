//! `%REQ_WITHOUT_QUERY(...)%`: a request's header without what is behind its question mark.
//!
//! Mirrors Envoy 1.40's `source/extensions/formatter/req_without_query/req_without_query.cc`.

use std::sync::Arc;

use super::command_parser::{Command, CommandParser, CommandParserFactory, FormatterProvider, Written};
use super::context::Context;
use super::header_operator::{HeaderOperator, HeaderSource};
use crate::config::extension::Factory;

/// The commands among the extensions.
pub static REQ_WITHOUT_QUERY: CommandParserFactory = Factory::new(
    "envoy.formatter.req_without_query",
    &["envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery"],
    |_| Ok(Arc::new(Parser)),
);

#[derive(Debug)]
struct Parser;

impl CommandParser for Parser {
    fn parse(&self, command: &Command<'_>) -> Option<Result<Box<dyn FormatterProvider>, String>> {
        (command.name == "REQ_WITHOUT_QUERY").then(|| {
            let header = HeaderOperator::new(HeaderSource::Request, command.argument, None)?;
            let provider = WithoutQuery { header, max_length: command.max_length };
            Ok(Box::new(provider) as Box<dyn FormatterProvider>)
        })
    }
}

#[derive(Debug)]
struct WithoutQuery {
    header: HeaderOperator,
    max_length: Option<usize>,
}

impl FormatterProvider for WithoutQuery {
    fn write(&self, line: &mut Vec<u8>, context: &Context<'_>) -> Written {
        let start = line.len();
        let written = self.header.write(line, context);
        let length = memchr::memchr(b'?', &line[start..]).unwrap_or(line.len() - start);
        line.truncate(start + self.max_length.map_or(length, |max| length.min(max)));
        written
    }
}
