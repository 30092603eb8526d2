//! `/trace`: switches the stage recorder and shows what it has. legate's own.

use super::{Request, Response};
use crate::server::server::InstanceImpl;
use crate::trace;

/// `?enable=y|n` (POST) switches; otherwise `?format=text|json|chrome` shows what was recorded.
pub(super) fn trace(server: &InstanceImpl, request: &Request) -> Response {
    match (request.param("enable"), request.method.as_str()) {
        (Some("y"), "POST") => {
            trace::enable();
            server.cluster_manager.record_lists();
            Response::text(200, "OK\n")
        }
        (Some("n"), "POST") => {
            trace::disable();
            Response::text(200, "OK\n")
        }
        (Some("y" | "n"), _) => {
            Response::text(405, format!("Method {} not allowed, POST required.", request.method))
        }
        (Some(_), _) => Response::text(400, "usage: /trace?enable=<y|n>\n"),
        (None, _) => show(request.param("format")),
    }
}

/// The page that draws what `/trace?format=json` gives.
pub(super) fn ui(_server: &InstanceImpl, _request: &Request) -> Response {
    Response::html(include_str!("trace_ui.html"))
}

fn show(format: Option<&str>) -> Response {
    let threads = trace::collect();
    match format {
        None | Some("text") if threads.is_empty() => {
            let state = if trace::enabled() { "on" } else { "off: POST /trace?enable=y" };
            Response::text(200, format!("nothing is recorded (the recorder is {state})\n"))
        }
        None | Some("text") => Response::text(200, trace::text(&threads)),
        Some("json") => {
            Response { content_type: "application/json", ..Response::text(200, trace::json_lines(&threads)) }
        }
        Some("chrome") => {
            Response { content_type: "application/json", ..Response::text(200, trace::chrome(&threads)) }
        }
        Some(_) => Response::text(400, "usage: /trace?format=<text|json|chrome>\n"),
    }
}
