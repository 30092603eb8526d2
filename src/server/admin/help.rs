//! `/` and `/help`.

use std::fmt::Write as _;

use super::{HANDLERS, Request, Response};
use crate::server::server::InstanceImpl;

/// `/help`.
pub(super) fn help(_server: &InstanceImpl, _request: &Request) -> Response {
    Response::text(200, text())
}

/// The list of endpoints, as Envoy prints it.
pub(super) fn text() -> String {
    let mut out = String::from("admin commands are:\n");
    for handler in HANDLERS {
        let post = if handler.mutates { " (POST)" } else { "" };
        let _ = writeln!(out, "  {}{post}: {}", handler.path, handler.help); // infallible
    }
    out
}

const HEAD: &str = "<!DOCTYPE html>\n<html lang='en'>\n<head>\n  <title>Envoy Admin</title>\n  <style>\
    body { font-family: sans-serif; } td { padding: 4px; } form { margin: 0; }</style>\n</head>\n<body>\n\
    <table>\n<thead><tr><th>Command</th><th>Description</th></tr></thead>\n<tbody>\n";

/// `/`: the endpoints as links, and as buttons where they change something.
pub(super) fn home(_server: &InstanceImpl, _request: &Request) -> Response {
    let mut page = String::from(HEAD);
    for handler in HANDLERS.iter().filter(|h| h.path != "/") {
        let name = &handler.path[1..];
        let command = if handler.mutates {
            format!("<form action='{name}' method='post'><button>{name}</button></form>")
        } else {
            format!("<a href='{name}'>{name}</a>")
        };
        let _ = writeln!(page, "<tr><td>{command}</td><td>{}</td></tr>", handler.help); // infallible
    }
    page.push_str("</tbody>\n</table>\n</body>\n</html>\n");
    Response::html(page)
}
