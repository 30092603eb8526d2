//! [`JsonFormatter`]: makes JSON objects by a pattern whose strings are formats.
//!
//! Mirrors `JsonFormatterImpl` and `JsonFormatBuilder` of Envoy 1.40's
//! `source/common/formatter/substitution_formatter.cc`: keys are sorted, whatever `sort_properties` says, and a string
//! that is a single command keeps the kind of its value.

use std::sync::Arc;

use serde_json::Value;

use super::command_parser::{CommandParser, Written};
use super::context::Context;
use super::json_text::{end_string, write_string, write_value};
use super::substitution_formatter::TextFormatter;
use crate::config::ConfigError;

/// A pattern of an object.
#[derive(Debug)]
pub struct JsonFormatter {
    root: Node,
    omit_empty_values: bool,
}

#[derive(Debug)]
enum Node {
    /// As it is to stand there.
    Literal(Box<[u8]>),
    Null,
    Format(TextFormatter),
    /// With the keys as they are to stand there, colons included.
    Map(Vec<(Box<[u8]>, Node)>),
    List(Vec<Node>),
}

impl JsonFormatter {
    /// Parses a pattern. What is absent is left out with its key if it is to be omitted, and so are objects of which
    /// nothing is left; else it is `null`.
    ///
    /// # Errors
    /// Envoy's text for a format that is wrong, with its path in the pattern.
    pub fn new(
        pattern: &serde_json::Map<String, Value>,
        omit_empty_values: bool,
        parsers: &[Arc<dyn CommandParser>],
    ) -> Result<JsonFormatter, ConfigError> {
        let parse = |format: &str| TextFormatter::new(format, omit_empty_values, parsers);
        Ok(JsonFormatter { root: Node::map(pattern, &parse)?, omit_empty_values })
    }

    /// Appends an object and a line's end.
    pub fn format(&self, line: &mut Vec<u8>, context: &Context<'_>) {
        let start = line.len();
        if !self.write(&self.root, line, context) {
            line.truncate(start);
            line.extend_from_slice(b"{}");
        }
        line.push(b'\n');
    }

    /// False if the node is to be left out, whatever was appended.
    fn write(&self, node: &Node, line: &mut Vec<u8>, context: &Context<'_>) -> bool {
        match node {
            Node::Literal(text) => line.extend_from_slice(text),
            Node::Null => return self.write_null(line),
            Node::Format(format) => {
                let start = line.len();
                line.push(b'"');
                match format.format_value(line, context) {
                    Written::Text => end_string(line, start + 1),
                    Written::Json | Written::JsonUpTo(_) => drop(line.remove(start)),
                    Written::Nothing => {
                        line.truncate(start);
                        return self.write_null(line);
                    }
                }
            }
            Node::Map(fields) => {
                let fields = fields.iter().map(|(key, node)| (&**key, node));
                return self.write_all(line, (b'{', b'}'), fields, context) || !self.omit_empty_values;
            }
            Node::List(items) => {
                let items = items.iter().map(|node| (&b""[..], node));
                self.write_all(line, (b'[', b']'), items, context);
            }
        }
        true
    }

    fn write_null(&self, line: &mut Vec<u8>) -> bool {
        line.extend_from_slice(b"null");
        !self.omit_empty_values
    }

    /// False if there is nothing between the brackets.
    fn write_all<'a>(
        &self,
        line: &mut Vec<u8>,
        (open, close): (u8, u8),
        members: impl Iterator<Item = (&'a [u8], &'a Node)>,
        context: &Context<'_>,
    ) -> bool {
        line.push(open);
        let begin = line.len();
        for (key, node) in members {
            let start = line.len();
            if start > begin {
                line.push(b',');
            }
            line.extend_from_slice(key);
            if !self.write(node, line, context) {
                line.truncate(start);
            }
        }
        line.push(close);
        line.len() > begin + 1
    }
}

type Parse<'a> = dyn Fn(&str) -> Result<TextFormatter, String> + 'a;

impl Node {
    fn new(value: &Value, parse: &Parse<'_>) -> Result<Node, ConfigError> {
        Ok(match value {
            Value::Null => Node::Null,
            Value::String(format) if format.contains('%') => {
                Node::Format(parse(format).map_err(|message| ConfigError::new("", message))?)
            }
            Value::Array(items) => Node::List(
                items
                    .iter()
                    .enumerate()
                    .map(|(i, item)| Node::new(item, parse).map_err(|error| error.within(&format!("[{i}]"))))
                    .collect::<Result<_, _>>()?,
            ),
            Value::Object(fields) => Node::map(fields, parse)?,
            literal => {
                let mut text = Vec::new();
                write_value(&mut text, literal);
                Node::Literal(text.into())
            }
        })
    }

    fn map(fields: &serde_json::Map<String, Value>, parse: &Parse<'_>) -> Result<Node, ConfigError> {
        let mut sorted: Vec<_> = fields.iter().collect();
        sorted.sort_unstable_by_key(|(key, _)| *key);
        let member = |(key, value): (&String, &Value)| {
            let node = Node::new(value, parse).map_err(|error| error.within(&format!("[{key:?}]")))?;
            let mut text = Vec::new();
            write_string(&mut text, key);
            text.push(b':');
            Ok((text.into(), node))
        };
        Ok(Node::Map(sorted.into_iter().map(member).collect::<Result<_, _>>()?))
    }
}
