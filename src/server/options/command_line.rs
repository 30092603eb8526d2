//! [`CommandLine`]: the options given, by name, each with a value of the right kind.
//!
//! The rules and messages are TCLAP's: an option at most once, no positional arguments, everything after
//! `--` ignored, and `--help` and `--version` obeyed as soon as they are read. In addition to
//! `--name value`, `--name=value` is understood.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::OptionsOutcome;
use super::table::{Kind, Spec, find_long, find_short};
use super::usage;

/// The options given.
#[derive(Default)]
pub(super) struct CommandLine {
    values: HashMap<&'static str, Value>,
}

enum Value {
    Switch,
    Text(String),
    Path(PathBuf),
    Number(u32),
}

impl CommandLine {
    /// Reads `args`, the first of which names the program.
    pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, OptionsOutcome> {
        let mut args = args.into_iter();
        let program = args.next().unwrap_or_else(|| "legate".into());
        let mut parser = lexopt::Parser::from_args(args);
        let program = program.to_string_lossy();
        let mut command_line = CommandLine::default();
        while let Some(option) = next_option(&mut parser, &program)? {
            command_line.read(option, &mut parser, &program)?;
        }
        Ok(command_line)
    }

    /// Whether the switch is there.
    pub(super) fn switch(&self, name: &str) -> bool {
        matches!(self.values.get(name), Some(Value::Switch))
    }

    /// Whether the option is there, with or without a value.
    pub(super) fn given(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    pub(super) fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        match self.values.get(name) {
            Some(Value::Text(text)) => text,
            _ => default,
        }
    }

    /// The path, unless it is absent or empty.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        match self.values.get(name) {
            Some(Value::Path(path)) if !path.as_os_str().is_empty() => Some(path.clone()),
            _ => None,
        }
    }

    pub(super) fn number(&self, name: &str) -> Option<u32> {
        match self.values.get(name) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    fn read(
        &mut self,
        spec: &'static Spec,
        parser: &mut lexopt::Parser,
        program: &str,
    ) -> Result<(), OptionsOutcome> {
        let fail = |problem: &str| Err(parse_error(program, &spec.id(), problem));
        if !spec.kind.supported() {
            return Err(OptionsOutcome::Error(format!("error: --{} is not supported\n", spec.long)));
        }
        if self.values.contains_key(spec.long) {
            return fail("Argument already set!");
        }
        if spec.kind == Kind::Switch {
            if parser.optional_value().is_some() {
                return fail("Takes no value!");
            }
            self.values.insert(spec.long, Value::Switch);
            return match spec.long {
                "help" => Err(OptionsOutcome::Text(usage::help(program))),
                "version" => Err(OptionsOutcome::Text(usage::version(program))),
                _ => Ok(()),
            };
        }
        if spec.kind == Kind::OptionalPath {
            let value = parser.optional_value().map_or(Value::Switch, |path| Value::Path(path.into()));
            self.values.insert(spec.long, value);
            return Ok(());
        }
        let Ok(value) = parser.value() else {
            return fail("Missing a value for this argument!");
        };
        match parse_value(spec.kind, &value) {
            Some(value) => {
                self.values.insert(spec.long, value);
                Ok(())
            }
            None => fail(&format!("Couldn't read argument value from string '{}'", value.to_string_lossy())),
        }
    }
}

/// The next option, none at the end or at `--`.
fn next_option(parser: &mut lexopt::Parser, program: &str) -> Result<Option<&'static Spec>, OptionsOutcome> {
    if let Some(rest) = parser.try_raw_args()
        && rest.peek().is_some_and(|arg| arg == "--" || arg == "--ignore_rest")
    {
        rest.for_each(drop);
        return Ok(None);
    }
    let unknown = |argument: &str| parse_error(program, argument, "Couldn't find match for argument");
    match parser.next() {
        Ok(None) => Ok(None),
        Ok(Some(lexopt::Arg::Long(name))) => {
            find_long(name).ok_or_else(|| unknown(&format!("--{name}"))).map(Some)
        }
        Ok(Some(lexopt::Arg::Short(name))) => {
            find_short(name).ok_or_else(|| unknown(&format!("-{name}"))).map(Some)
        }
        Ok(Some(lexopt::Arg::Value(value))) => Err(unknown(&value.to_string_lossy())),
        Err(error) => Err(parse_error(program, program, &error.to_string())),
    }
}

fn parse_error(program: &str, argument: &str, problem: &str) -> OptionsOutcome {
    OptionsOutcome::Error(usage::parse_error(program, argument, problem))
}

fn parse_value(kind: Kind, value: &OsString) -> Option<Value> {
    match kind {
        Kind::Path => Some(Value::Path(value.into())),
        Kind::Number => value.to_str()?.parse().ok().map(Value::Number),
        _ => value.to_str().map(|text| Value::Text(text.to_string())),
    }
}
