//! How much of a run a log holds: two logs of which one is cut short, or was made at another level, differ in hundreds of stages,
//! none of which tells why.

use crate::lanes::Trace;
use crate::log_line::LogLine;

/// Which part of what a proxy says from its start to its end is there.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Extent {
    /// Whether `-l trace` made it.
    pub has_trace: bool,
    /// Whether the proxy's last words are in it.
    pub has_end: bool,
    /// Whether it ends within a line.
    pub is_cut: bool,
}

impl Extent {
    /// Of a log, which was read as `lines`.
    pub fn of(log: &str, lines: &[LogLine], has_end: bool) -> Extent {
        let has_trace = lines.iter().any(|line| line.is_trace);
        Extent { has_trace, has_end, is_cut: !log.is_empty() && !log.ends_with('\n') }
    }
}

/// What speaks against comparing the two logs at all.
pub fn doubts(envoy: &Trace, legate: &Trace) -> Vec<String> {
    let mut doubts = Vec::new();
    for (name, own, other) in [("Envoy", envoy, legate), ("legate", legate, envoy)] {
        if own.extent.is_cut {
            doubts.push(format!("{name}'s log ends within a line: it was cut off"));
        } else if !own.extent.has_end && other.extent.has_end {
            doubts.push(format!(
                "{name}'s log does not have the end, the other one does: it was cut off, or copied while {name} was running"
            ));
        }
    }
    let (of_envoy, of_legate) = (requests(envoy), requests(legate));
    if of_envoy != of_legate {
        doubts.push(format!(
            "Envoy's log has {of_envoy} requests, legate's {of_legate}: they are not of the same traffic"
        ));
    }
    doubts
}

fn requests(trace: &Trace) -> usize {
    let events = trace.lanes.iter().flat_map(|(_, events)| events);
    events.filter(|event| event.known && event.stage == "ActiveStream::decodeHeaders").count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes;
    use crate::stage_texts::StageTexts;

    fn log(level: &str, words: &[&str]) -> String {
        let line = |(index, text): (usize, &&str)| {
            format!("[2026-01-01 00:00:00.000][{}][{level}][{text}\n", 1 + usize::from(index > 0))
        };
        words.iter().enumerate().map(line).collect()
    }

    #[test]
    fn what_is_missing_is_told() {
        const HEAD: &str = "http] [C1][S1] request headers complete (end_stream=true):\n':path', '/'";
        let read = |log: &str| lanes::read(&StageTexts::built_in().unwrap(), log);
        let whole = log("trace", &["main] initializing epoch 0", "main] [C1] new connection", HEAD]);
        let end = log("info", &["main] exiting"]);
        let ended = read(&format!("{whole}{end}"));
        assert!(ended.extent.has_trace && ended.extent.has_end && !ended.extent.is_cut);
        assert!(!read(&whole.replace("[trace]", "[debug]")).extent.has_trace);
        assert!(doubts(&ended, &ended).is_empty() && doubts(&read(&whole), &read(&whole)).is_empty());
        let of_legate = doubts(&ended, &read(&whole));
        assert!(of_legate[0].starts_with("legate's log does not have the end"), "{of_legate:?}");
        let cut = read(&whole[..whole.len() - 20]);
        let of_envoy = doubts(&cut, &ended);
        assert!(of_envoy[0].starts_with("Envoy's log ends within a line"), "{of_envoy:?}");
        assert_eq!(of_envoy[1], "Envoy's log has 0 requests, legate's 1: they are not of the same traffic");
    }
}
