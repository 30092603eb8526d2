//! Of access logs: a filter that takes requests below a path, and a command that prints in capitals.

use std::sync::Arc;

use legate::access_log::{
    AccessLogFactoryContext, ExtensionFilterConfig, ExtensionFilterFactory, Filter, FilterPtr, LogContext,
};
use legate::config::ConfigError;
use legate::formatter::{Command, CommandParser, CommandParserFactory, Context, FormatterProvider, Written};
use legate::http::HeaderId;

/// Takes the requests whose path begins with a text.
pub static FILTER: ExtensionFilterFactory =
    ExtensionFilterFactory::new("legate.test.only_below", &["legate.test.OnlyBelow"], |r| {
        Ok(Arc::new(OnlyBelow { path: r.string("path")? }))
    });

#[derive(Debug, Clone)]
struct OnlyBelow {
    path: String,
}

impl ExtensionFilterConfig for OnlyBelow {
    fn create_filter(&self, _context: &AccessLogFactoryContext<'_>) -> Result<FilterPtr, ConfigError> {
        Ok(Box::new(self.clone()))
    }
}

impl Filter for OnlyBelow {
    fn evaluate(&self, context: &LogContext<'_>) -> bool {
        let path = context.request_headers.and_then(|headers| headers.get(HeaderId::Path));
        path.is_some_and(|path| path.starts_with(self.path.as_bytes()))
    }
}

/// Knows `%CAPITAL_PATH%`.
pub static COMMANDS: CommandParserFactory =
    CommandParserFactory::new("legate.test.capitals", &["legate.test.Capitals"], |_| Ok(Arc::new(Capitals)));

#[derive(Debug)]
struct Capitals;

impl CommandParser for Capitals {
    fn parse(&self, command: &Command<'_>) -> Option<Result<Box<dyn FormatterProvider>, String>> {
        let is_own = command.name == "CAPITAL_PATH";
        is_own.then(|| Ok(Box::new(Capitals) as Box<dyn FormatterProvider>))
    }
}

impl FormatterProvider for Capitals {
    fn write(&self, line: &mut Vec<u8>, context: &Context<'_>) -> Written {
        match context.request_headers.and_then(|headers| headers.get(HeaderId::Path)) {
            Some(path) => {
                line.extend(path.to_ascii_uppercase());
                Written::Text
            }
            None => Written::Nothing,
        }
    }
}
