//! What was recorded, for people and for programs: bit by bit, as there may be much of it.

mod chrome;
mod json;
#[cfg(test)]
mod tests;
mod text;
mod words;

use std::borrow::Cow;

use super::{BY_HAND, Event, STAGES, Stage, StageInfo, ThreadEvents};

/// A form of what was recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// A table.
    Text,
    /// An object a line.
    JsonLines,
    /// Chrome's trace events.
    Chrome,
}

trait Render {
    /// Appends the next line or so; false at the end.
    fn append(&mut self, threads: &[ThreadEvents], out: &mut String) -> bool;
}

/// How far a recording has been written.
pub struct Rendering(Box<dyn Render>);

impl Rendering {
    /// At the beginning.
    pub fn new(format: Format) -> Self {
        Rendering(match format {
            Format::Text => Box::<text::Text>::default(),
            Format::JsonLines => Box::<json::JsonLines>::default(),
            Format::Chrome => Box::<chrome::Chrome>::default(),
        })
    }

    /// Appends the next line or so of the same recording; false at the end.
    pub fn append(&mut self, threads: &[ThreadEvents], out: &mut String) -> bool {
        self.0.append(threads, out)
    }
}

/// All of a recording.
pub fn render(format: Format, threads: &[ThreadEvents]) -> String {
    let (mut out, mut rendering) = (String::new(), Rendering::new(format));
    while rendering.append(threads, &mut out) {}
    out
}

/// What a callback of the loop may be for, by its number in [`Stage::Callback`] events.
pub(crate) const CALLBACK_KINDS: [&str; 6] = ["", "fd event", "timer", "signal", "listener", "dns"];

fn info(event: &Event) -> &'static StageInfo {
    Stage::info(event.stage).unwrap_or(&STAGES[0])
}

/// The stage's name; of a callback also what it is for, and whether `event_active` is behind it.
fn name(event: &Event) -> Cow<'static, str> {
    match CALLBACK_KINDS.get(event.a as usize) {
        Some(kind) if event.stage == Stage::Callback as u16 && !kind.is_empty() => {
            let by = if event.b & BY_HAND != 0 { " by event_active" } else { "" };
            format!("callback: {kind}{by}").into()
        }
        _ => info(event).name.into(),
    }
}

/// The details that have a name; the lengths of a pool's lists apart.
fn details(event: &Event) -> Vec<(&'static str, u64)> {
    if event.stage == Stage::PoolLists as u16 {
        let [pending, busy, ready] = lengths(event);
        return vec![("pending", pending), ("busy", busy), ("ready", ready), ("pool", event.b)];
    }
    let names = info(event).details.split_ascii_whitespace();
    names.zip([event.a, event.b]).filter(|(name, _)| *name != "_").collect()
}

/// Pending, busy, ready.
fn lengths(event: &Event) -> [u64; 3] {
    [event.a >> 32, event.a >> 16 & 0xffff, event.a & 0xffff]
}

/// The events of all threads in the order of their times.
struct Merge(Vec<usize>);

impl Merge {
    fn new(threads: &[ThreadEvents]) -> Self {
        Merge(vec![0; threads.len()])
    }

    /// With the number of its thread.
    fn next(&mut self, threads: &[ThreadEvents]) -> Option<(usize, Event)> {
        let heads = self.0.iter().zip(threads).enumerate();
        let heads = heads.filter_map(|(i, (at, thread))| Some((thread.events.get(*at)?, i)));
        let (event, thread) = heads.min_by_key(|(event, i)| (event.time, *i))?;
        self.0[thread] += 1;
        Some((thread, *event))
    }
}
