//! The comparison as text: two columns, the first difference marked.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::compare::{Comparison, Counts, Lane, Pair, Verdict};
use crate::differences::Difference;
use crate::lanes::{Event, LaneId};
use crate::stage_texts::StageTexts;

/// Width of a column, in characters.
const WIDTH: usize = 62;

/// Which part is printed.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Excerpt {
    /// Only lanes with undocumented differences, and no reasons.
    pub differing: bool,
    /// Below the summary, the documented differences by number.
    pub reasons: bool,
    /// Only lanes of these kinds ([`LaneId::KINDS`]); empty for all.
    pub lanes: Vec<String>,
    /// In each lane only what follows the first event of this stage, with it.
    pub from: Option<String>,
    /// In each lane only what goes before the next event of this stage, with it.
    pub to: Option<String>,
}

impl Excerpt {
    /// Refuses stages that do not exist.
    ///
    /// # Errors
    /// There is one; the text names it.
    pub fn check(&self, texts: &StageTexts) -> Result<(), String> {
        for (option, stage) in [("from", &self.from), ("to", &self.to)] {
            if let Some(stage) = stage
                && !texts.rows().iter().any(|row| row.stage == *stage)
            {
                return Err(format!(
                    "--{option}: no stage is called '{stage}'; stages are named as they are printed"
                ));
            }
        }
        Ok(())
    }

    /// What it has of a comparison; lanes without anything are left out.
    pub fn of<'a>(&self, comparison: &'a Comparison) -> Vec<(LaneId, &'a [Pair])> {
        let lanes = comparison.lanes.iter().filter(|lane| self.has(lane));
        lanes.map(|lane| (lane.id, self.pairs(lane))).filter(|(_, pairs)| !pairs.is_empty()).collect()
    }

    /// Whether no lane, and no part of one, is chosen.
    pub fn is_of_all_lanes(&self) -> bool {
        self.lanes.is_empty() && self.from.is_none() && self.to.is_none()
    }

    fn has(&self, lane: &Lane) -> bool {
        let differs = lane.pairs.iter().any(|pair| pair.verdict.is_undocumented());
        let kind = lane.id.kind();
        (differs || !self.differing) && (self.lanes.is_empty() || self.lanes.iter().any(|name| name == kind))
    }

    fn pairs<'a>(&self, lane: &'a Lane) -> &'a [Pair] {
        let find = |pairs: &[Pair], stage: &str| pairs.iter().position(|pair| pair.stage() == Some(stage));
        let start = match &self.from {
            Some(stage) => find(&lane.pairs, stage),
            None => Some(0),
        };
        let rest = &lane.pairs[start.unwrap_or(lane.pairs.len())..];
        match self.to.as_ref().and_then(|stage| find(rest, stage)) {
            Some(end) => &rest[..=end],
            None => rest,
        }
    }
}

/// Both columns, lane by lane, and the reasons of the documented differences.
pub fn side_by_side(comparison: &Comparison, differences: &[Difference], excerpt: &Excerpt) -> String {
    let mut out = String::new();
    for line in comparison.notes.iter().cloned().chain(comparison.stuck_lines()) {
        let _ = writeln!(out, "{}{line}", prefix(&comparison.scenario));
    }
    let shown = excerpt.of(comparison);
    let first = first_difference(&shown);
    let mut used = BTreeSet::new();
    for (id, pairs) in &shown {
        write_lane(&mut out, *id, pairs, first);
        used.extend(pairs.iter().filter_map(Pair::difference));
    }
    if !excerpt.differing {
        write_reasons(&mut out, &used, differences);
    }
    out
}

fn prefix(scenario: &str) -> String {
    if scenario.is_empty() { String::new() } else { format!("{scenario}: ") }
}

/// The first undocumented difference in time.
pub fn first_difference<'a>(shown: &[(LaneId, &'a [Pair])]) -> Option<&'a Pair> {
    let pairs = shown.iter().flat_map(|(_, pairs)| pairs.iter());
    pairs.filter(|pair| pair.verdict.is_undocumented()).min_by_key(|pair| pair.time)
}

fn write_lane(out: &mut String, id: LaneId, pairs: &[Pair], first: Option<&Pair>) {
    let _ = writeln!(out, "{id}");
    let _ = writeln!(out, "      {:<WIDTH$} legate", "Envoy");
    for pair in pairs {
        let mark = match pair.verdict {
            Verdict::Equal => String::new(),
            Verdict::Documented(index) => format!("({})", index + 1),
            _ if first.is_some_and(|first| std::ptr::eq(first, pair)) => ">>>> ".to_string(),
            _ => "!".to_string(),
        };
        let (envoy, legate) = columns(pair);
        let place = if pair.verdict.is_undocumented() { lines(pair) } else { String::new() };
        let row = format!("{mark:>5} {envoy:<WIDTH$} {legate}{place}");
        let _ = writeln!(out, "{}", row.trim_end());
    }
    out.push('\n');
}

/// Where a pair is in the logs.
fn lines(pair: &Pair) -> String {
    match (&pair.envoy, &pair.legate) {
        (Some(envoy), Some(legate)) => {
            format!("  (line {} of Envoy's log, {} of legate's)", envoy.line, legate.line)
        }
        (Some(envoy), None) => format!("  (line {} of Envoy's log)", envoy.line),
        (None, legate) => {
            format!("  (line {} of legate's log)", legate.as_ref().map_or(0, |event| event.line))
        }
    }
}

/// What is printed for each side. Header lists only where they differ: they are long.
pub fn columns(pair: &Pair) -> (String, String) {
    let side = |event: &Option<Event>| event.as_ref().map_or(String::new(), Event::to_string);
    let (mut envoy, mut legate) = (side(&pair.envoy), side(&pair.legate));
    if pair.verdict == Verdict::Misplaced {
        let last = if pair.legate.is_some() { &mut legate } else { &mut envoy };
        last.push_str(" (out of order with other lanes)");
    }
    if matches!(pair.verdict, Verdict::Missing(_)) {
        let missing = if pair.envoy.is_some() { &mut envoy } else { &mut legate };
        missing.insert_str(0, "missing here: ");
    }
    if let (Some(a), Some(b)) = (&pair.envoy, &pair.legate)
        && a.differing_details(b).iter().any(|name| name == "headers")
    {
        let headers = |event: &Event| {
            let list = event.details.iter().find(|(name, _)| name == "headers");
            list.map_or(String::new(), |(_, list)| format!(" {{{list}}}"))
        };
        envoy.push_str(&headers(a));
        legate.push_str(&headers(b));
    }
    (envoy, legate)
}

fn write_reasons(out: &mut String, used: &BTreeSet<usize>, differences: &[Difference]) {
    for index in used {
        let Difference { what, since, reason, .. } = &differences[*index];
        let _ = writeln!(out, "({}) {} [{since}]: {reason}", index + 1, what.stage);
    }
}

/// The head of the summary's lines.
pub fn summary_head() -> String {
    summary_row(
        "scenario",
        ["compared", "equal", "documented", "undocumented", "no step"].map(str::to_string),
    )
}

/// A scenario's line of the summary. Behind it: how many lines of Envoy's workers, and of legate's, are no step.
pub fn summary_line(scenario: &str, counts: Counts) -> String {
    let Counts { compared, equal, documented, undocumented, ignored: [envoy, legate] } = counts;
    let figures = [compared, equal, documented, undocumented].map(|n| n.to_string());
    let [compared, equal, documented, undocumented] = figures;
    summary_row(scenario, [compared, equal, documented, undocumented, format!("{envoy} + {legate}")])
}

fn summary_row(scenario: &str, [compared, equal, documented, undocumented, ignored]: [String; 5]) -> String {
    format!("{scenario:<28} {compared:>9} {equal:>7} {documented:>11} {undocumented:>13} {ignored:>9}")
}

/// A line for each reason of documented differences that occur, the most frequent first.
pub fn reason_lines(comparisons: &[Comparison], differences: &[Difference]) -> Vec<String> {
    let pairs = comparisons.iter().flat_map(|comparison| &comparison.lanes).flat_map(|lane| &lane.pairs);
    let mut counts = vec![0; differences.len()];
    // "The same" has the reason of the row above.
    let first = |index: usize| (0..=index).rev().find(|i| !differences[*i].reason.starts_with("the same"));
    pairs.filter_map(Pair::difference).for_each(|index| counts[first(index).unwrap_or(index)] += 1);
    let mut found: Vec<usize> = (0..counts.len()).filter(|index| counts[*index] > 0).collect();
    found.sort_by_key(|index| std::cmp::Reverse(counts[*index]));
    let line = |index: usize| {
        let (Difference { what, since, reason, .. }, count) = (&differences[index], counts[index]);
        format!("{count:>5} [{since}] {}: {reason}", what.stage)
    };
    found.into_iter().map(line).collect()
}

/// A line for each documented difference that does not occur.
pub fn stale_lines(scenario: &str, stale: &[usize], differences: &[Difference]) -> Vec<String> {
    let line = |index: &usize| {
        let Difference { what, since, .. } = &differences[*index];
        let (prefix, number, stage) = (prefix(scenario), index + 1, &what.stage);
        format!("{prefix}documented, but it does not occur: ({number}) {stage} [{since}]")
    };
    stale.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differences::How;
    use crate::differences::tests::difference;

    fn event(stage: &str, headers: &str, line: usize) -> Option<Event> {
        let details = vec![("headers".to_string(), headers.to_string())];
        Some(Event { stage: stage.into(), known: true, stream: Some(1), conn: None, details, line })
    }

    fn pair(envoy: Option<Event>, legate: Option<Event>, verdict: Verdict, time: (usize, usize)) -> Pair {
        Pair { envoy, legate, verdict, time }
    }

    fn comparison() -> Comparison {
        let pairs = vec![
            pair(event("a", "x", 3), event("a", "x", 4), Verdict::Equal, (6, 0)),
            pair(event("b", "x", 5), None, Verdict::Documented(1), (10, 0)),
            pair(event("c", "x: 1", 7), event("c", "x: 2", 8), Verdict::Undocumented, (14, 0)),
            pair(None, event("d", "x", 9), Verdict::Undocumented, (15, 0)),
        ];
        let earlier = vec![pair(event("e", "", 6), None, Verdict::Missing(0), (12, 0))];
        Comparison {
            scenario: "s".into(),
            lanes: vec![
                Lane { id: LaneId::Upstream(2), pairs },
                Lane { id: LaneId::Loop(1), pairs: earlier },
            ],
            ignored: [7, 1],
            ..Comparison::default()
        }
    }

    fn differences() -> [Difference; 2] {
        ["x", "b"].map(|stage| difference(stage, How::EnvoyOnly))
    }

    #[test]
    fn columns_marks_and_reasons() {
        let mut comparison = comparison();
        comparison.stuck[1] = Some("no answer".into());
        let text = side_by_side(&comparison, &differences(), &Excerpt::default());
        let mut lines: Vec<&str> = text.lines().collect();
        let blank = |n: usize| " ".repeat(n);
        assert_eq!(lines.remove(0), "s: legate gets stuck: no answer");
        assert_eq!(lines[0], "upstream connection 2");
        assert_eq!(lines[2], format!("      a S1{}a S1", blank(WIDTH - 3)));
        assert_eq!(lines[3], "  (2) b S1");
        let both = "(line 7 of Envoy's log, 8 of legate's)";
        assert_eq!(lines[4], format!("    ! c S1 {{x: 1}}{}c S1 {{x: 2}}  {both}", blank(WIDTH - 10)));
        assert_eq!(lines[5], format!("    ! {}d S1  (line 9 of legate's log)", blank(WIDTH + 1)));
        // The first in time is in the lane that comes last.
        assert!(
            lines[9].starts_with(">>>>  missing here: e S1") && lines[9].ends_with("(line 6 of Envoy's log)")
        );
        assert_eq!(lines[11], "(2) b [1.40]: because");
        let summary = summary_line("x", comparison.counts());
        assert_eq!(summary.split_whitespace().collect::<Vec<_>>(), ["x", "5", "1", "1", "3", "7", "+", "1"]);
        let reasons = reason_lines(&[comparison], &differences());
        assert_eq!(reasons, ["    1 [1.40] b: because"]);
        let stale = stale_lines("s", &[0], &differences());
        assert_eq!(stale, ["s: documented, but it does not occur: (1) x [1.40]"]);
    }

    #[test]
    fn an_excerpt_is_cut_by_lane_and_stage() {
        let count = |lanes: &[&str], from: &str, to: &str| {
            let lanes = lanes.iter().map(|name| name.to_string()).collect();
            let excerpt =
                Excerpt { lanes, from: Some(from.into()), to: Some(to.into()), ..Excerpt::default() };
            side_by_side(&comparison(), &differences(), &excerpt).lines().count()
        };
        assert_eq!(count(&["upstream"], "b", "c"), 6);
        assert_eq!(count(&[], "c", "c"), 4);
        assert_eq!(count(&[], "x", "c"), 0);
        assert_eq!(count(&["pool"], "a", "d"), 0);
    }
}
