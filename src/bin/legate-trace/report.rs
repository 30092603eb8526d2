//! The comparison as text: two columns, the first difference marked.

use std::fmt::Write;

use crate::compare::{Comparison, Counts, Lane, Pair, Verdict};
use crate::differences::Difference;
use crate::lanes::Event;

/// Width of a column, in characters.
const WIDTH: usize = 62;

/// Which lanes are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lanes {
    /// All.
    All,
    /// Those with undocumented differences.
    Differing,
}

/// Both columns, lane by lane.
pub fn side_by_side(comparison: &Comparison, differences: &[Difference], lanes: Lanes) -> String {
    let mut out = String::new();
    let mut first = true;
    for lane in &comparison.lanes {
        let differs = lane.pairs.iter().any(|pair| pair.verdict == Verdict::Undocumented);
        if lanes == Lanes::All || differs {
            write_lane(&mut out, lane, &mut first);
        }
    }
    if lanes == Lanes::All {
        write_reasons(&mut out, comparison, differences);
    }
    out
}

fn write_lane(out: &mut String, lane: &Lane, first: &mut bool) {
    let _ = writeln!(out, "{}", lane.id);
    let _ = writeln!(out, "     {:<WIDTH$} {}", "Envoy", "legate");
    for pair in &lane.pairs {
        let mark = match pair.verdict {
            Verdict::Equal => String::new(),
            Verdict::Documented(index) => format!("({})", index + 1),
            Verdict::Undocumented if std::mem::take(first) => ">>>>".to_string(),
            Verdict::Undocumented => "!".to_string(),
        };
        let (envoy, legate) = columns(pair);
        let row = format!("{mark:>4} {envoy:<WIDTH$} {legate}");
        let _ = writeln!(out, "{}", row.trim_end());
    }
    out.push('\n');
}

/// What is printed for each side. Header lists only where they differ: they are long.
pub fn columns(pair: &Pair) -> (String, String) {
    let side = |event: &Option<Event>| event.as_ref().map_or(String::new(), Event::to_string);
    let (mut envoy, mut legate) = (side(&pair.envoy), side(&pair.legate));
    if let (Some(a), Some(b)) = (&pair.envoy, &pair.legate) {
        if a.differing_details(b).iter().any(|name| name == "headers") {
            let headers = |e: &Event| {
                e.details
                    .iter()
                    .find(|(n, _)| n == "headers")
                    .map_or(String::new(), |(_, v)| format!(" {{{v}}}"))
            };
            envoy.push_str(&headers(a));
            legate.push_str(&headers(b));
        }
    }
    (envoy, legate)
}

fn write_reasons(out: &mut String, comparison: &Comparison, differences: &[Difference]) {
    for index in comparison.used() {
        let Difference { stage, since, reason, .. } = &differences[index];
        let _ = writeln!(out, "({}) {stage} [{since}]: {reason}", index + 1);
    }
}

/// The head of the summary's lines.
pub fn summary_head() -> String {
    format!("{:<28} {:>9} {:>7} {:>11} {:>13}", "scenario", "compared", "equal", "documented", "undocumented")
}

/// A scenario's line of the summary.
pub fn summary_line(scenario: &str, counts: Counts) -> String {
    let Counts { compared, equal, documented, undocumented } = counts;
    format!("{scenario:<28} {compared:>9} {equal:>7} {documented:>11} {undocumented:>13}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differences::How;
    use crate::lanes::LaneId;

    fn event(stage: &str, headers: &str) -> Option<Event> {
        let details = vec![("headers".to_string(), headers.to_string())];
        Some(Event { stage: stage.into(), known: true, stream: Some(1), conn: None, details, line: 3 })
    }

    #[test]
    fn columns_marks_and_reasons() {
        let pairs = vec![
            Pair { envoy: event("a", "x"), legate: event("a", "x"), verdict: Verdict::Equal },
            Pair { envoy: event("b", "x"), legate: None, verdict: Verdict::Documented(1) },
            Pair { envoy: event("c", "x: 1"), legate: event("c", "x: 2"), verdict: Verdict::Undocumented },
            Pair { envoy: None, legate: event("d", "x"), verdict: Verdict::Undocumented },
        ];
        let comparison = Comparison {
            scenario: "s".into(),
            lanes: vec![Lane { id: LaneId::Upstream(2), pairs }],
            downstream_by_worker: [vec![], vec![]],
        };
        let known = Difference {
            stage: "b".into(),
            how: How::EnvoyOnly,
            lanes: vec![],
            scenarios: vec![],
            since: "1.40".into(),
            reason: "new".into(),
        };
        let text = side_by_side(&comparison, &[known.clone(), known], Lanes::All);
        let lines: Vec<&str> = text.lines().collect();
        let blank = |n: usize| " ".repeat(n);
        assert_eq!(lines[0], "upstream connection 2");
        assert_eq!(lines[2], format!("     a S1{}a S1", blank(WIDTH - 3)));
        assert_eq!(lines[3], " (2) b S1");
        assert_eq!(lines[4], format!(">>>> c S1 {{x: 1}}{}c S1 {{x: 2}}", blank(WIDTH - 11)));
        assert_eq!(lines[5], format!("   ! {}d S1", blank(WIDTH + 1)));
        assert_eq!(lines[7], "(2) b [1.40]: new");
        assert_eq!(summary_line("x", comparison.counts()).split_whitespace().last(), Some("2"));
    }
}
