//! What a format's commands are made by, and what they make: for commands that an extension adds, as for the built-in ones.
//!
//! Mirrors `CommandParser` and `FormatterProvider` of Envoy 1.40's `envoy/formatter/substitution_formatter_base.h`.
//! Deliberately different: a value is written where it is to stand and says of what kind it is, so that the text form
//! and the JSON form need one method, and no value of its own is made.

use std::fmt::Debug;

use super::context::Context;
use crate::config::extension::Factory;

/// A command between its two percent signs: `%NAME(ARGUMENT):LENGTH%`.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    /// Upper case letters, digits and underscores.
    pub name: &'a str,
    /// Empty also when there are no parentheses.
    pub argument: &'a str,
    /// The longest that the value may be, in bytes.
    pub max_length: Option<usize>,
}

/// Knows commands.
pub trait CommandParser: Debug + Send + Sync {
    /// What prints the command; `None` if it is none of this parser's, an error text if it is not used as it must be.
    fn parse(&self, command: &Command<'_>) -> Option<Result<Box<dyn FormatterProvider>, String>>;
}

/// Makes a [`CommandParser`] of its configuration.
pub type CommandParserFactory = Factory<dyn CommandParser>;

/// Prints the value of a command.
pub trait FormatterProvider: Debug + Send + Sync {
    /// Appends the value.
    fn write(&self, line: &mut Vec<u8>, context: &Context<'_>) -> Written;
}

/// What was appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// There is no value, and nothing was appended.
    Nothing,
    /// Text, which is a string in JSON.
    Text,
    /// What is in JSON as it is in text: a number, for instance.
    Json,
    /// The same, of which a text has so many bytes at most.
    JsonUpTo(usize),
}
