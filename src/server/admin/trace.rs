//! `/trace`: switches the stage recorder and shows what it has. legate's own.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use super::request::{Body, Progress};
use super::{Request, Response, TEXT};
use crate::server::server::InstanceImpl;
use crate::trace::{self, Format, Rendering, ThreadEvents};

/// `?enable=y|n` (POST) switches; otherwise `?format=text|json|chrome` shows what was recorded, of
/// `?threads=all|workers` or the thread of that name.
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
        (None, _) => show(request),
    }
}

/// The page that draws what `/trace?format=json` gives.
pub(super) fn ui(_server: &InstanceImpl, _request: &Request) -> Response {
    Response::html(include_str!("trace_ui.html"))
}

fn show(request: &Request) -> Response {
    let (format, content_type) = match request.param("format") {
        None | Some("" | "text") => (Format::Text, TEXT),
        Some("json") => (Format::JsonLines, "application/json"),
        Some("chrome") => (Format::Chrome, "application/json"),
        Some(_) => return Response::text(400, "usage: /trace?format=<text|json|chrome>\n"),
    };
    // For people, the main thread's own rows would be half of it: the admin's, the demonstration's upstreams'.
    let usual = if format == Format::Text { "workers" } else { "all" };
    let threads = request.param("threads").filter(|threads| !threads.is_empty()).unwrap_or(usual);
    let (threads, rendering) = (threads.to_string(), Rendering::new(format));
    Response::large(content_type, Recording { format, threads, held: None, rendering })
}

/// Recordings that are held for clients who still read them. When another one is wanted, whoever reads the oldest
/// does without the rest.
const MAX_HELD: usize = 4;

type Held = RefCell<Option<Vec<ThreadEvents>>>;

thread_local! {
    static HELD: RefCell<VecDeque<Weak<Held>>> = const { RefCell::new(VecDeque::new()) };
}

fn hold(threads: Vec<ThreadEvents>) -> Rc<Held> {
    let new = Rc::new(RefCell::new(Some(threads)));
    HELD.with_borrow_mut(|held| {
        held.retain(|old| old.strong_count() > 0);
        if held.len() == MAX_HELD {
            let oldest = held.pop_front().and_then(|old| old.upgrade());
            drop(oldest.and_then(|oldest| oldest.take()));
        }
        held.push_back(Rc::downgrade(&new));
    });
    new
}

/// A recording while it is sent.
struct Recording {
    format: Format,
    threads: String,
    held: Option<Rc<Held>>,
    rendering: Rendering,
}

impl Body for Recording {
    fn append(&mut self, out: &mut String) -> Progress {
        let held = self.held.get_or_insert_with(|| hold(recorded(&self.threads)));
        let threads = held.borrow();
        let Some(threads) = &*threads else { return Progress::Lost };
        if threads.is_empty() && self.format == Format::Text {
            out.push_str(&nothing(&self.threads));
            return Progress::End;
        }
        if self.rendering.append(threads, out) { Progress::More } else { Progress::End }
    }
}

fn recorded(threads: &str) -> Vec<ThreadEvents> {
    let mut all = trace::collect();
    match threads {
        "all" => {}
        "workers" => all.retain(|thread| thread.thread != "main_thread"),
        name => all.retain(|thread| thread.thread == name),
    }
    all
}

fn nothing(threads: &str) -> String {
    let of = if threads == "all" { String::new() } else { format!(" of {threads} (others: ?threads=all)") };
    let state = if trace::enabled() { "on" } else { "off: POST /trace?enable=y" };
    format!("nothing is recorded{of} (the recorder is {state})\n")
}
