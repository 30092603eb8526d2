//! Two traces laid side by side: aligned lane by lane, and each difference looked up among the documented ones.

use std::collections::BTreeSet;

use crate::differences::{Difference, How};
use crate::lanes::{Event, LaneId, Trace, add_up};

/// What a pair comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Both passed the stage, and agree.
    Equal,
    /// They differ as the documented difference of that index says.
    Documented(usize),
    /// They differ.
    Undocumented,
}

/// An event of Envoy's, of legate's, or one of each.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Envoy's.
    pub envoy: Option<Event>,
    /// legate's.
    pub legate: Option<Event>,
    /// How they stand to each other.
    pub verdict: Verdict,
}

impl Pair {
    /// Names of the details that both sides have with other values.
    fn differing_details(&self) -> Vec<String> {
        match (&self.envoy, &self.legate) {
            (Some(envoy), Some(legate)) => envoy.differing_details(legate),
            _ => Vec::new(),
        }
    }

    /// The documented difference that it is.
    pub fn difference(&self) -> Option<usize> {
        match self.verdict {
            Verdict::Documented(index) => Some(index),
            _ => None,
        }
    }

    /// The stage, if the table knows it.
    pub fn stage(&self) -> Option<&str> {
        self.envoy.as_ref().or(self.legate.as_ref()).filter(|e| e.known).map(|e| e.stage.as_str())
    }
}

/// A lane of both.
#[derive(Clone, Debug)]
pub struct Lane {
    /// Where.
    pub id: LaneId,
    /// In their order.
    pub pairs: Vec<Pair>,
}

/// The outcome.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The scenario's name; empty for logs from elsewhere.
    pub scenario: String,
    /// All lanes that either side has.
    pub lanes: Vec<Lane>,
    /// Connections to clients by worker: Envoy's and legate's.
    pub downstream_by_worker: [Vec<usize>; 2],
    /// Where the scenario could not be played on, with Envoy and with legate.
    pub stuck: [Option<String>; 2],
}

/// How much of a lane is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Every event in its order.
    #[default]
    InOrder,
    /// What happens once in its order, and behind it what happens repeatedly, with the bytes added up: for bodies that come in
    /// pieces as the kernel likes.
    AddedUp,
    /// Connections only, without what depends on which worker has which.
    PerConnection,
}

/// How many pairs there are of each kind.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// All of them.
    pub compared: usize,
    /// Equal ones.
    pub equal: usize,
    /// Documented differences.
    pub documented: usize,
    /// Others.
    pub undocumented: usize,
}

impl Counts {
    /// Adds those of another comparison.
    pub fn add(&mut self, more: Counts) {
        self.compared += more.compared;
        self.equal += more.equal;
        self.documented += more.documented;
        self.undocumented += more.undocumented;
    }
}

impl Comparison {
    /// Counts the pairs.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for pair in self.lanes.iter().flat_map(|lane| &lane.pairs) {
            counts.compared += 1;
            match pair.verdict {
                Verdict::Equal => counts.equal += 1,
                Verdict::Documented(_) => counts.documented += 1,
                Verdict::Undocumented => counts.undocumented += 1,
            }
        }
        counts
    }

    /// Whether the two are not equal up to the documented differences.
    pub fn differs(&self) -> bool {
        self.counts().undocumented > 0 || self.stuck.iter().any(Option::is_some)
    }

    /// A line for each side that got stuck.
    pub fn stuck_lines(&self) -> impl Iterator<Item = String> {
        let sides = ["Envoy", "legate"].into_iter().zip(&self.stuck);
        sides.filter_map(|(name, why)| why.as_ref().map(|why| format!("{name} gets stuck: {why}")))
    }

    /// The documented differences that occur, by index.
    pub fn used(&self) -> BTreeSet<usize> {
        self.lanes.iter().flat_map(|lane| &lane.pairs).filter_map(Pair::difference).collect()
    }
}

/// Compares two traces.
pub fn compare(
    envoy: &Trace,
    legate: &Trace,
    scenario: &str,
    mode: Mode,
    differences: &[Difference],
) -> Comparison {
    let ids: BTreeSet<LaneId> = envoy.lanes.iter().chain(&legate.lanes).map(|(id, _)| *id).collect();
    let is_compared = |id: &LaneId| {
        mode != Mode::PerConnection || matches!(id, LaneId::Downstream(_) | LaneId::Upstream(_))
    };
    let lanes = ids
        .into_iter()
        .filter(is_compared)
        .map(|id| {
            let mut pairs = match mode {
                Mode::AddedUp => {
                    let (envoy, legate) = added_up(envoy.lane(id), legate.lane(id));
                    align(&envoy, &legate)
                }
                Mode::InOrder | Mode::PerConnection => align(envoy.lane(id), legate.lane(id)),
            };
            judge(&mut pairs, id, scenario, differences);
            Lane { id, pairs }
        })
        .collect();
    Comparison {
        scenario: scenario.to_string(),
        lanes,
        downstream_by_worker: [envoy.downstream_by_worker.clone(), legate.downstream_by_worker.clone()],
        stuck: [envoy.stuck.clone(), legate.stuck.clone()],
    }
}

/// Both sides in the form of [`Mode::AddedUp`].
fn added_up(envoy: &[Event], legate: &[Event]) -> (Vec<Event>, Vec<Event>) {
    let repeats = |event: &Event| {
        let count = |events: &[Event]| events.iter().filter(|e| e.same_stage(event)).count();
        count(envoy) > 1 || count(legate) > 1
    };
    let side = |events: &[Event]| {
        let (repeated, mut once): (Vec<Event>, Vec<Event>) = events.iter().cloned().partition(repeats);
        let mut sums: Vec<Event> = Vec::new();
        for event in repeated {
            match sums.iter_mut().find(|e| e.same_stage(&event)) {
                Some(sum) => add_up(sum, &event),
                None => sums.push(event),
            }
        }
        sums.sort_by(|a, b| (&a.stage, a.stream).cmp(&(&b.stage, b.stream)));
        once.append(&mut sums);
        once
    };
    (side(envoy), side(legate))
}

/// How many events of each side are aligned at a time: the table has the square of it.
const WINDOW: usize = 1024;

/// Aligns window by window; of each the first half counts, as what comes later may still change it.
fn align(mut envoy: &[Event], mut legate: &[Event]) -> Vec<Pair> {
    let mut all = Vec::new();
    while envoy.len() > WINDOW || legate.len() > WINDOW {
        let pairs = align_window(&envoy[..WINDOW.min(envoy.len())], &legate[..WINDOW.min(legate.len())]);
        let (mut of_envoy, mut of_legate) = (0, 0);
        let in_first_half = |pair: &Pair| {
            of_envoy += usize::from(pair.envoy.is_some());
            of_legate += usize::from(pair.legate.is_some());
            of_envoy.max(of_legate) <= WINDOW / 2
        };
        let kept: Vec<Pair> = pairs.into_iter().take_while(in_first_half).collect();
        envoy = &envoy[kept.iter().filter(|pair| pair.envoy.is_some()).count()..];
        legate = &legate[kept.iter().filter(|pair| pair.legate.is_some()).count()..];
        all.extend(kept);
    }
    all.append(&mut align_window(envoy, legate));
    all
}

/// Finds the longest common sequence; equal details count for more than an equal stage alone.
fn align_window(envoy: &[Event], legate: &[Event]) -> Vec<Pair> {
    const SAME: u32 = 4;
    const SAME_STAGE: u32 = 3;
    let score = |a: &Event, b: &Event| match a.same_stage(b) {
        true if a.differing_details(b).is_empty() => SAME,
        true => SAME_STAGE,
        false => 0,
    };
    let width = legate.len() + 1;
    let mut best = vec![0u32; (envoy.len() + 1) * width];
    for i in (0..envoy.len()).rev() {
        for j in (0..legate.len()).rev() {
            let gap = best[(i + 1) * width + j].max(best[i * width + j + 1]);
            let matched = match score(&envoy[i], &legate[j]) {
                0 => 0,
                score => score + best[(i + 1) * width + j + 1],
            };
            best[i * width + j] = gap.max(matched);
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut pairs = Vec::new();
    let pair = |envoy: Option<&Event>, legate: Option<&Event>| Pair {
        envoy: envoy.cloned(),
        legate: legate.cloned(),
        verdict: Verdict::Undocumented,
    };
    while i < envoy.len() || j < legate.len() {
        let here = best[i * width + j];
        let score = match (envoy.get(i), legate.get(j)) {
            (Some(a), Some(b)) => score(a, b),
            _ => 0,
        };
        if score > 0 && here == score + best[(i + 1) * width + j + 1] {
            pairs.push(pair(envoy.get(i), legate.get(j)));
            (i, j) = (i + 1, j + 1);
        } else if i < envoy.len() && here == best[(i + 1) * width + j] {
            pairs.push(pair(envoy.get(i), None));
            i += 1;
        } else {
            pairs.push(pair(None, legate.get(j)));
            j += 1;
        }
    }
    pairs
}

fn judge(pairs: &mut [Pair], lane: LaneId, scenario: &str, differences: &[Difference]) {
    let find = |stage: &str, how: &How| {
        differences.iter().position(|d| d.how == *how && d.applies(stage, lane, scenario))
    };
    for pair in pairs.iter_mut() {
        let Some(stage) = pair.stage() else { continue };
        pair.verdict = match (&pair.envoy, &pair.legate) {
            (Some(_), Some(_)) => {
                let details = pair.differing_details();
                let found: Vec<Option<usize>> =
                    details.iter().map(|name| find(stage, &How::Detail(name.clone()))).collect();
                match found.first() {
                    None => Verdict::Equal,
                    Some(Some(first)) if found.iter().all(Option::is_some) => Verdict::Documented(*first),
                    _ => Verdict::Undocumented,
                }
            }
            (Some(_), None) => {
                find(stage, &How::EnvoyOnly).map_or(Verdict::Undocumented, Verdict::Documented)
            }
            _ => find(stage, &How::LegateOnly).map_or(Verdict::Undocumented, Verdict::Documented),
        };
    }
    for (index, difference) in differences.iter().enumerate() {
        if difference.how == How::Order && difference.applies(&difference.stage, lane, scenario) {
            settle_order(pairs, index, &difference.stage);
        }
    }
}

/// A stage may be at another place only where both sides have it.
fn settle_order(pairs: &mut [Pair], index: usize, stage: &str) {
    let open = |pairs: &[Pair], of_envoy: bool| -> Vec<usize> {
        let is_open = |pair: &Pair| {
            let one_sided = if of_envoy { pair.legate.is_none() } else { pair.envoy.is_none() };
            pair.verdict == Verdict::Undocumented && one_sided && pair.stage() == Some(stage)
        };
        pairs.iter().enumerate().filter(|(_, pair)| is_open(pair)).map(|(i, _)| i).collect()
    };
    let (left, right) = (open(pairs, true), open(pairs, false));
    for (a, b) in left.into_iter().zip(right) {
        pairs[a].verdict = Verdict::Documented(index);
        pairs[b].verdict = Verdict::Documented(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str) -> Event {
        let (stage, bytes) = text.split_once(' ').unwrap_or((text, ""));
        let details = match bytes {
            "" => vec![],
            bytes => vec![("bytes".to_string(), bytes.to_string())],
        };
        Event { stage: stage.into(), known: stage != "?", stream: None, conn: None, details, line: 0 }
    }

    fn trace(lane: LaneId, words: &str) -> Trace {
        let events = words.split(", ").filter(|w| !w.is_empty()).map(event).collect();
        Trace { lanes: vec![(lane, events)], ..Trace::default() }
    }

    fn difference(stage: &str, how: How) -> Difference {
        Difference {
            stage: stage.into(),
            how,
            sometimes: false,
            lanes: vec![],
            scenarios: vec![],
            since: "1.40".into(),
            reason: "because".into(),
        }
    }

    /// A word per pair: its sides and the verdict.
    fn result(envoy: &str, legate: &str, mode: Mode, differences: &[Difference]) -> String {
        let lane = LaneId::Upstream(1);
        let comparison = compare(&trace(lane, envoy), &trace(lane, legate), "s", mode, differences);
        let word = |pair: &Pair| {
            let side = |e: &Option<Event>| e.as_ref().map_or("-".into(), Event::to_string);
            let verdict = match pair.verdict {
                Verdict::Equal => "=".to_string(),
                Verdict::Documented(index) => index.to_string(),
                Verdict::Undocumented => "!".to_string(),
            };
            format!("{}/{}:{verdict}", side(&pair.envoy), side(&pair.legate))
        };
        comparison.lanes[0].pairs.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn equal_traces_are_equal() {
        assert_eq!(result("a, b 1", "a, b 1", Mode::InOrder, &[]), "a/a:= b bytes=1/b bytes=1:=");
    }

    #[test]
    fn what_one_side_lacks_is_found() {
        assert_eq!(result("a, b, c", "a, c", Mode::InOrder, &[]), "a/a:= b/-:! c/c:=");
        assert_eq!(result("a, c", "a, b, c", Mode::InOrder, &[]), "a/a:= -/b:! c/c:=");
        assert_eq!(result("a", "", Mode::InOrder, &[]), "a/-:!");
    }

    #[test]
    fn long_traces_are_aligned_window_by_window() {
        let envoy: Vec<String> = (0..3000).map(|n| format!("stage{n}")).collect();
        let mut legate = envoy.clone();
        legate.retain(|event| !event.ends_with("77"));
        legate.splice(1400..1400, (0..WINDOW / 4).map(|n| format!("more{n}")));
        let lane = LaneId::Loop(1);
        let [envoy, legate] = [envoy, legate].map(|words| trace(lane, &words.join(", ")));
        let counts = compare(&envoy, &legate, "s", Mode::InOrder, &[]).counts();
        assert_eq!((counts.undocumented, counts.equal), (30 + WINDOW / 4, 3000 - 30));
    }

    #[test]
    fn documented_differences_have_a_direction() {
        let known = [difference("b", How::EnvoyOnly), difference("b", How::LegateOnly)];
        assert_eq!(result("a, b, c", "a, c", Mode::InOrder, &known[..1]), "a/a:= b/-:0 c/c:=");
        assert_eq!(result("a, c", "a, b, c", Mode::InOrder, &known[..1]), "a/a:= -/b:! c/c:=");
        assert_eq!(result("a, c", "a, b, c", Mode::InOrder, &known), "a/a:= -/b:1 c/c:=");
    }

    #[test]
    fn details_are_compared() {
        assert_eq!(result("a 1", "a 2", Mode::InOrder, &[]), "a bytes=1/a bytes=2:!");
        let known = [difference("a", How::Detail("bytes".into()))];
        assert_eq!(result("a 1", "a 2", Mode::InOrder, &known), "a bytes=1/a bytes=2:0");
    }

    #[test]
    fn another_order_needs_the_stage_on_both_sides() {
        assert_eq!(result("a, b", "b, a", Mode::InOrder, &[]), "a/-:! b/b:= -/a:!");
        let known = [difference("a", How::Order)];
        assert_eq!(result("a, b", "b, a", Mode::InOrder, &known), "a/-:0 b/b:= -/a:0");
        assert_eq!(result("a, b", "b", Mode::InOrder, &known), "a/-:! b/b:=");
    }

    #[test]
    fn a_text_that_no_table_knows_is_never_documented() {
        let known = [difference("?", How::EnvoyOnly)];
        assert_eq!(result("?", "", Mode::InOrder, &known), "unknown text: ?/-:!");
    }

    #[test]
    fn pieces_are_added_up() {
        let same = "c/c:= d/d:= a/a:= b bytes=6/b bytes=6:=";
        assert_eq!(result("a, b 1, c, a, b 5, d", "b 2, c, b 4, a, d", Mode::AddedUp, &[]), same);
        let fewer = "a/a:= b bytes=6/b bytes=2:!";
        assert_eq!(result("a, b 1, b 5", "a, b 2", Mode::AddedUp, &[]), fewer);
        assert_eq!(result("a, b, b, c", "c, b, a", Mode::AddedUp, &[]), "a/-:! c/c:= -/a:! b/b:=");
    }

    #[test]
    fn only_connections_count_where_workers_differ() {
        let lane = LaneId::Pool(2);
        let comparison = compare(&trace(lane, "a"), &trace(lane, "b"), "s", Mode::PerConnection, &[]);
        assert!(comparison.lanes.is_empty());
        let comparison = compare(&trace(lane, "a"), &trace(lane, "b"), "s", Mode::InOrder, &[]);
        assert_eq!(comparison.counts(), Counts { compared: 2, undocumented: 2, ..Counts::default() });
    }
}
