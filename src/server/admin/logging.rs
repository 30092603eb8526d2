//! `/logging`: shows and changes log levels.

use std::fmt::Write as _;

use super::{Request, Response};
use crate::logger::{self, Id, Level};
use crate::server::server::InstanceImpl;

const USAGE: &str = "usage: /logging?<name>=<level> (change single level)\n\
    usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n\
    usage: /logging?level=<level> (change all levels)\n\
    levels: trace debug info warning error critical off \n";

/// `?level=` sets all, `?<name>=` one, `?paths=` several; without a query it only shows them.
pub(super) fn logging(_server: &InstanceImpl, request: &Request) -> Response {
    if let Err(error) = change(request) {
        return Response::text(400, format!("error: {error}\n\n{USAGE}"));
    }
    let mut out = String::from("active loggers:\n");
    for id in Id::ALL {
        let _ = writeln!(out, "  {}: {}", id.name(), logger::level(*id).name()); // infallible
    }
    out.push('\n');
    Response::text(200, out)
}

fn change(request: &Request) -> Result<(), String> {
    let (name, value) = match request.params() {
        [] => return Ok(()),
        [(name, value)] => (name.as_str(), value.as_str()),
        _ => return Err("invalid parameter".to_string()),
    };
    let level = |text: &str| Level::from_name(text).ok_or_else(|| "unknown logger level".to_string());
    let id = |text: &str| Id::from_name(text).ok_or_else(|| "unknown logger name".to_string());
    match name {
        "level" => logger::set_all(level(value)?),
        "paths" => {
            // All or nothing: a bad entry leaves every level as it was.
            let changes = value
                .split(',')
                .map(|entry| {
                    let (name, text) =
                        entry.split_once(':').ok_or("empty logger name or empty logger level")?;
                    Ok((id(name)?, level(text)?))
                })
                .collect::<Result<Vec<_>, String>>()?;
            changes.into_iter().for_each(|(id, level)| logger::set_level(id, level));
        }
        name => {
            let level = level(value)?;
            logger::set_level(id(name)?, level);
        }
    }
    Ok(())
}
