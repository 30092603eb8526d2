//! `/logging`: shows and changes log levels.

use std::fmt::Write as _;

use super::{Request, Response};
use crate::envoy_log;
use crate::logger::{self, Id, Level};
use crate::server::server::InstanceImpl;

const USAGE: &str = "usage: /logging?<name>=<level> (change single level)\n\
    usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n\
    usage: /logging?level=<level> (change all levels)\n\
    usage: /logging?group=<group_name>:<level> (change group of loggers)\n\
    levels: trace debug info warning error critical off \n";

/// `?level=` sets all, `?<name>=` one, `?paths=` several; without one of them, and behind what is wrong with it, it
/// shows them.
pub(super) fn logging(_server: &InstanceImpl, request: &Request) -> Response {
    let (status, mut out) = match change(request) {
        Ok(()) => (200, String::new()),
        Err(error) => (400, format!("error: {error}\n\n{USAGE}")),
    };
    out.push_str("active loggers:\n");
    for id in Id::ALL {
        let _ = writeln!(out, "  {}: {}", id.name(), logger::level(*id).name()); // infallible
    }
    out.push('\n');
    Response::text(status, out)
}

/// A parameter without a value asks for nothing, as the buttons of a form send it.
fn change(request: &Request) -> Result<(), String> {
    let given: Vec<_> = request.params().iter().filter(|(_, value)| !value.is_empty()).collect();
    let (name, value) = match given[..] {
        [] => return Ok(()),
        [(name, value)] => (name.as_str(), value.as_str()),
        _ => return Err("invalid number of parameters".to_string()),
    };
    let level = |text: &str| Level::from_name(text).ok_or_else(|| "unknown logger level".to_string());
    let id = |text: &str| Id::from_name(text).ok_or_else(|| "unknown logger name".to_string());
    match name {
        "level" => {
            let level = level(value)?;
            envoy_log!(Admin, info, "change all log levels: level='{}'", level.name());
            logger::set_all(level);
        }
        "group" => return Err("group parameter requires fine-grain logging to be enabled".to_string()),
        "paths" => {
            // All or nothing: a bad entry leaves every level as it was. Levels are looked at before names.
            let entries = value.split(',').filter(|entry| !entry.trim().is_empty());
            let entries: Vec<(&str, Level)> = entries
                .map(|entry| match entry.split_once(':') {
                    Some((name, text)) if !name.trim().is_empty() && !text.trim().is_empty() => {
                        Ok((name, level(text)?))
                    }
                    _ => Err("empty logger name or empty logger level".to_string()),
                })
                .collect::<Result<_, _>>()?;
            let changes: Vec<(Id, Level)> = entries
                .into_iter()
                .map(|(name, level)| Ok((id(name)?, level)))
                .collect::<Result<_, String>>()?;
            changes.into_iter().for_each(|(id, level)| set(id, level));
        }
        name => {
            let level = level(value)?;
            set(id(name)?, level);
        }
    }
    Ok(())
}

fn set(id: Id, level: Level) {
    envoy_log!(Admin, info, "change log level: name='{}' level='{}'", id.name(), level.name());
    logger::set_level(id, level);
}
