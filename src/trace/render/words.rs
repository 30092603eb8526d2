//! Details as words: what a number in a stage's details stands for.

use super::super::{Event, Stage, StageInfo};
use super::{details, info};

/// The bits of a file event.
const BITS: [&str; 3] = ["Read", "Write", "Closed"];
const EVENTS: &[&str] = &["RemoteClose", "LocalClose", "Connected"];
const CLOSE_TYPES: &[&str] = &["FlushWrite", "NoFlush", "FlushWriteAndDelay"];
const RUN_TYPES: &[&str] = &["Block", "NonBlock", "RunUntilExit"];
const PRIORITIES: &[&str] = &["Default", "High"];
const STREAM_RESETS: &[&str] = &[
    "LocalReset",
    "RemoteReset",
    "LocalConnectionFailure",
    "RemoteConnectionFailure",
    "ConnectionTimeout",
    "ConnectionTermination",
    "Overflow",
    "ProtocolError",
];
const POOL_FAILURES: &[&str] = &["Overflow", "LocalConnectionFailure", "RemoteConnectionFailure", "Timeout"];
const YES_NO: &[&str] = &["no", "yes"];
/// Details that say yes or no.
const QUESTIONS: [&str; 16] = [
    "end",
    "connecting",
    "wakes",
    "found",
    "ok",
    "disable",
    "started",
    "premature",
    "close",
    "keep_alive",
    "kept_alive",
    "for_request",
    "request_complete",
    "failing",
    "starved",
    "reset",
];

/// The details of an event as ` name=value`, with names for what has one; a callback's stand in its name, but for its
/// bits.
pub(super) fn words(event: &Event) -> String {
    let mut text = String::new();
    if event.stage == Stage::Pass as u16 {
        return text; // a column of its own
    }
    for (name, value) in details(event) {
        let of_callback = event.stage == Stage::Callback as u16;
        if of_callback && (name == "kind" || value & 7 == 0) {
            continue;
        }
        text += &format!(" {name}={}", word(info(event), event.stage, name, value));
    }
    text
}

fn word(info: &StageInfo, stage: u16, name: &str, value: u64) -> String {
    let names: &[&str] = match name {
        "bits" => return bits(value),
        "event" if info.name != "ListenerImpl::errorCallback" => EVENTS,
        "type" if stage == Stage::Close as u16 => CLOSE_TYPES,
        "type" if stage == Stage::DispatcherRun as u16 => RUN_TYPES,
        "priority" => PRIORITIES,
        "reason" if stage == Stage::OnPoolFailure as u16 => POOL_FAILURES,
        "reason" => STREAM_RESETS,
        name if QUESTIONS.contains(&name) => YES_NO,
        _ => &[],
    };
    names.get(value as usize).map_or_else(|| value.to_string(), |word| (*word).to_string())
}

fn bits(value: u64) -> String {
    let set = BITS.iter().enumerate().filter(|(i, _)| value >> i & 1 != 0);
    let names: Vec<&str> = set.map(|(_, name)| *name).collect();
    if names.is_empty() { "none".to_string() } else { names.join("|") }
}
