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

    fn has(&self, lane: &Lane) -> bool {
        let differs = lane.pairs.iter().any(|pair| pair.verdict == Verdict::Undocumented);
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
    for line in comparison.stuck_lines() {
        let _ = writeln!(out, "{}: {line}", comparison.scenario);
    }
    let mut first = true;
    let mut used = BTreeSet::new();
    for lane in comparison.lanes.iter().filter(|lane| excerpt.has(lane)) {
        let pairs = excerpt.pairs(lane);
        if !pairs.is_empty() {
            write_lane(&mut out, lane.id, pairs, &mut first);
            used.extend(pairs.iter().filter_map(Pair::difference));
        }
    }
    if !excerpt.differing {
        write_reasons(&mut out, &used, differences);
    }
    out
}

fn write_lane(out: &mut String, id: LaneId, pairs: &[Pair], first: &mut bool) {
    let _ = writeln!(out, "{id}");
    let _ = writeln!(out, "     {:<WIDTH$} legate", "Envoy");
    for pair in pairs {
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
        let Difference { stage, since, reason, .. } = &differences[*index];
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

    fn event(stage: &str, headers: &str) -> Option<Event> {
        let details = vec![("headers".to_string(), headers.to_string())];
        Some(Event { stage: stage.into(), known: true, stream: Some(1), conn: None, details, line: 3 })
    }

    fn comparison() -> Comparison {
        let pairs = vec![
            Pair { envoy: event("a", "x"), legate: event("a", "x"), verdict: Verdict::Equal },
            Pair { envoy: event("b", "x"), legate: None, verdict: Verdict::Documented(1) },
            Pair { envoy: event("c", "x: 1"), legate: event("c", "x: 2"), verdict: Verdict::Undocumented },
            Pair { envoy: None, legate: event("d", "x"), verdict: Verdict::Undocumented },
        ];
        Comparison {
            scenario: "s".into(),
            lanes: vec![Lane { id: LaneId::Upstream(2), pairs }],
            downstream_by_worker: [vec![], vec![]],
            stuck: [None, None],
        }
    }

    fn differences() -> [Difference; 2] {
        let known = Difference {
            stage: "b".into(),
            how: How::EnvoyOnly,
            sometimes: false,
            lanes: vec![],
            scenarios: vec![],
            since: "1.40".into(),
            reason: "new".into(),
        };
        [known.clone(), known]
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
        assert_eq!(lines[2], format!("     a S1{}a S1", blank(WIDTH - 3)));
        assert_eq!(lines[3], " (2) b S1");
        assert_eq!(lines[4], format!(">>>> c S1 {{x: 1}}{}c S1 {{x: 2}}", blank(WIDTH - 10)));
        assert_eq!(lines[5], format!("   ! {}d S1", blank(WIDTH + 1)));
        assert_eq!(lines[7], "(2) b [1.40]: new");
        assert_eq!(summary_line("x", comparison.counts()).split_whitespace().last(), Some("2"));
    }

    #[test]
    fn an_excerpt_is_cut_by_lane_and_stage() {
        let count = |lanes: &[&str], from: &str, to: &str| {
            let lanes = lanes.iter().map(|name| name.to_string()).collect();
            let excerpt = Excerpt { differing: false, lanes, from: Some(from.into()), to: Some(to.into()) };
            side_by_side(&comparison(), &differences(), &excerpt).lines().count()
        };
        assert_eq!(count(&["upstream"], "b", "c"), 6);
        assert_eq!(count(&[], "c", "c"), 4);
        assert_eq!(count(&[], "x", "c"), 0);
        assert_eq!(count(&["pool"], "a", "d"), 0);
    }
}
