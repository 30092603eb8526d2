//! Two traces laid side by side: aligned lane by lane, and each difference looked up among the documented ones.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::across;
use crate::added_up::{added_up, is_repeating};
use crate::align::align;
use crate::differences::{Difference, Pattern};
use crate::joined::{both_joined, is_joined};
use crate::judge::judge;
use crate::lanes::{Event, LaneId, Trace, fold_deferred};
use crate::pairing;
use crate::recorder;
use crate::stage_texts::Dialect;

/// What a pair comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Both passed the stage, and agree.
    Equal,
    /// They differ as the documented difference of that index says.
    Documented(usize),
    /// They differ.
    Undocumented,
    /// The stage of that documented difference is not there, though what it belongs to is.
    Missing(usize),
    /// Both passed the stage and agree, but not in the same order with those of other lanes.
    Misplaced,
}

impl Verdict {
    /// Whether it is no difference that the documentation knows.
    pub fn is_undocumented(self) -> bool {
        matches!(self, Verdict::Undocumented | Verdict::Missing(_) | Verdict::Misplaced)
    }
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
    /// When it was, beside other pairs: the line of Envoy's log, and for what only legate has, its line in legate's.
    pub time: (usize, usize),
}

impl Pair {
    /// A pair that is not judged yet.
    pub fn new(envoy: Option<&Event>, legate: Option<&Event>) -> Pair {
        Pair { envoy: envoy.cloned(), legate: legate.cloned(), verdict: Verdict::Undocumented, time: (0, 0) }
    }

    /// One of its events.
    pub fn any(&self) -> Option<&Event> {
        self.envoy.as_ref().or(self.legate.as_ref())
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
        self.any().filter(|e| e.known).map(|e| e.stage.as_str())
    }

    /// Whether one of its events is such a one.
    pub fn is(&self, what: &Pattern) -> bool {
        self.envoy.iter().chain(&self.legate).any(|event| what.matches(event))
    }

    /// Whether only one side has it.
    pub fn is_one_sided(&self) -> bool {
        self.envoy.is_none() || self.legate.is_none()
    }

    /// Whether the same sides have both pairs.
    pub fn same_sides(&self, other: &Pair) -> bool {
        self.envoy.is_some() == other.envoy.is_some() && self.legate.is_some() == other.legate.is_some()
    }

    /// Whether both can be of the same stream and connection.
    pub fn may_share(&self, other: &Pair) -> bool {
        let (Some(a), Some(b)) = (self.any(), other.any()) else { return false };
        let streams = a.stream.zip(b.stream).is_none_or(|(a, b)| a == b);
        streams && a.conn.zip(b.conn).is_none_or(|(a, b)| a == b)
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
#[derive(Clone, Default, Debug)]
pub struct Comparison {
    /// The scenario's name; empty for logs from elsewhere.
    pub scenario: String,
    /// All lanes that either side has.
    pub lanes: Vec<Lane>,
    /// Connections to clients by worker: Envoy's and legate's.
    pub downstream_by_worker: [Vec<usize>; 2],
    /// Where the scenario could not be played on, with Envoy and with legate.
    pub stuck: [Option<String>; 2],
    /// What is to be known about the logs.
    pub notes: Vec<String>,
    /// Their lines: Envoy's and legate's.
    pub logs: [Arc<[String]>; 2],
    /// How many lines of workers are no step: Envoy's and legate's.
    pub ignored: [usize; 2],
    /// Documented differences of this scenario alone that do not occur, by index.
    pub stale: Vec<usize>,
    /// Whose texts Envoy's log has.
    pub dialect: Dialect,
}

/// How much of a lane is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Every event in its order.
    #[default]
    InOrder,
    /// Without what depends on the pieces in which a long body comes ([`added_up`]).
    AddedUp,
    /// Without what depends on when things arrive ([`joined`]).
    Joined,
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
    /// Lines that are no step: Envoy's and legate's.
    pub ignored: [usize; 2],
}

impl Counts {
    /// Adds those of another comparison.
    pub fn add(&mut self, more: Counts) {
        self.compared += more.compared;
        self.equal += more.equal;
        self.documented += more.documented;
        self.undocumented += more.undocumented;
        self.ignored[0] += more.ignored[0];
        self.ignored[1] += more.ignored[1];
    }
}

impl Comparison {
    /// Counts the pairs.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts { ignored: self.ignored, ..Counts::default() };
        for pair in self.lanes.iter().flat_map(|lane| &lane.pairs) {
            counts.compared += 1;
            match pair.verdict {
                Verdict::Equal => counts.equal += 1,
                Verdict::Documented(_) => counts.documented += 1,
                Verdict::Undocumented | Verdict::Missing(_) | Verdict::Misplaced => counts.undocumented += 1,
            }
        }
        counts
    }

    /// Whether the two are not equal up to the documented differences.
    pub fn differs(&self) -> bool {
        self.counts().undocumented > 0 || self.stuck.iter().any(Option::is_some) || !self.stale.is_empty()
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

/// On what terms two traces are compared.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// The scenario's name; empty for logs from elsewhere.
    pub scenario: &'a str,
    /// How much of them.
    pub mode: Mode,
    /// What may differ.
    pub differences: &'a [Difference],
    /// Whether legate's stages come from its recorder, which does not know all of them.
    pub recorded: bool,
}

/// Compares two traces.
pub fn compare(envoy: &Trace, legate: &Trace, terms: Terms) -> Comparison {
    let Terms { scenario, mode, differences, recorded } = terms;
    let mut folded = [envoy, legate].map(Cow::Borrowed);
    if envoy.dialect == Dialect::V1_40 {
        folded.iter_mut().for_each(|trace| fold_deferred(trace.to_mut()));
    }
    let [envoy, legate] = folded.each_ref().map(|trace| &**trace);
    let (mut of_envoy, mut of_legate) = (Cow::Borrowed(envoy), Cow::Borrowed(legate));
    let mut differences = differences.to_vec();
    if recorded {
        differences = differences.into_iter().map(|d| d.among(recorder::is_recorded)).collect();
    }
    match mode {
        Mode::InOrder => {}
        Mode::AddedUp => {
            [of_envoy, of_legate] = added_up(envoy, legate, recorded).map(Cow::Owned);
            differences = differences.into_iter().map(|d| d.among(|stage| !is_repeating(stage))).collect();
        }
        Mode::Joined => {
            [of_envoy, of_legate] = both_joined(envoy, legate, !recorded).map(Cow::Owned);
            differences = differences.into_iter().map(|d| d.among(|stage| !is_joined(stage))).collect();
        }
        Mode::PerConnection => {
            of_legate = Cow::Owned(pairing::in_order_of(legate, envoy));
        }
    }
    let ids: BTreeSet<LaneId> = of_envoy.lanes.iter().chain(&of_legate.lanes).map(|(id, _)| *id).collect();
    let is_compared = |id: &LaneId| match mode {
        Mode::InOrder | Mode::AddedUp => true,
        // Several clusters and listeners are reported in orders of their own.
        Mode::Joined => !matches!(id, LaneId::Start(_)),
        Mode::PerConnection => matches!(id, LaneId::Downstream(_) | LaneId::Upstream(_)),
    };
    let lane = |id: LaneId| {
        let mut pairs = align(of_envoy.lane(id), of_legate.lane(id));
        let applies = |d: &Difference| d.applies(id, scenario) && d.is_known_of(envoy.dialect);
        let known: Vec<(usize, &Difference)> =
            differences.iter().enumerate().filter(|(_, d)| applies(d)).collect();
        judge(&mut pairs, &known);
        Lane { id, pairs }
    };
    let mut lanes: Vec<Lane> = ids.into_iter().filter(is_compared).map(lane).collect();
    let is_one_worker = envoy.downstream_by_worker.len() < 2 && legate.downstream_by_worker.len() < 2;
    if mode == Mode::InOrder && is_one_worker && !recorded {
        let known = |(_, d): &(usize, &Difference)| d.is_known_of(envoy.dialect);
        let known: Vec<(usize, &Difference)> = differences.iter().enumerate().filter(known).collect();
        across::check_order(&mut lanes, &known, scenario);
    }
    tell_time(&mut lanes);
    let mut comparison = Comparison {
        scenario: scenario.to_string(),
        lanes,
        downstream_by_worker: [envoy.downstream_by_worker.clone(), legate.downstream_by_worker.clone()],
        stuck: [envoy.stuck.clone(), legate.stuck.clone()],
        notes: envoy.notes.iter().chain(&legate.notes).cloned().collect(),
        ignored: [envoy.ignored, legate.ignored],
        logs: [envoy.log.clone(), legate.log.clone()],
        stale: Vec::new(),
        dialect: envoy.dialect,
    };
    let used = comparison.used();
    let is_of_it = |d: &Difference| d.scenarios.iter().any(|s| s == scenario) && d.is_known_of(envoy.dialect);
    let is_stale = |d: &Difference| !recorded && is_of_it(d) && !d.sometimes;
    comparison.stale =
        (0..differences.len()).filter(|i| is_stale(&differences[*i]) && !used.contains(i)).collect();
    comparison
}

/// Sets the time of each pair; what only legate has is after what came before it in legate's log.
fn tell_time(lanes: &mut [Lane]) {
    let both = |pair: &Pair| Some((pair.legate.as_ref()?.line, pair.envoy.as_ref()?.line));
    let mut lines: Vec<(usize, usize)> = lanes.iter().flat_map(|lane| &lane.pairs).filter_map(both).collect();
    lines.sort_unstable();
    let mut latest = 0;
    for (_, envoy) in &mut lines {
        latest = latest.max(*envoy);
        *envoy = latest;
    }
    for pair in lanes.iter_mut().flat_map(|lane| &mut lane.pairs) {
        let of_legate = |line: usize| {
            let before = lines.partition_point(|(legate, _)| *legate <= line);
            before.checked_sub(1).map_or(0, |at| lines[at].1)
        };
        pair.time = match (&pair.envoy, &pair.legate) {
            (Some(event), _) => (event.line, 0),
            (None, legate) => legate.as_ref().map_or((0, 0), |event| (of_legate(event.line), event.line)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::WINDOW;
    use crate::differences::How;
    use crate::differences::tests::difference;

    fn trace(lane: LaneId, words: &str) -> Trace {
        let event = |(line, word): (usize, &str)| Event {
            stage: word.into(),
            known: true,
            stream: None,
            conn: None,
            details: vec![],
            line,
        };
        let events = words.split(", ").filter(|w| !w.is_empty()).enumerate().map(event).collect();
        Trace { lanes: vec![(lane, events)], dialect: Dialect::V1_40, ..Trace::default() }
    }

    fn terms(mode: Mode, differences: &[Difference]) -> Terms<'_> {
        Terms { scenario: "s", mode, differences, recorded: false }
    }

    #[test]
    fn equal_traces_are_equal() {
        let lane = LaneId::Pool(1);
        let comparison = compare(&trace(lane, "a, b"), &trace(lane, "a, b"), terms(Mode::InOrder, &[]));
        assert_eq!(comparison.counts(), Counts { compared: 2, equal: 2, ..Counts::default() });
        assert!(!comparison.differs());
    }

    #[test]
    fn long_traces_are_aligned_window_by_window() {
        let envoy: Vec<String> = (0..3000).map(|n| format!("stage{n}")).collect();
        let mut legate = envoy.clone();
        legate.retain(|event| !event.ends_with("77"));
        legate.splice(1400..1400, (0..WINDOW / 4).map(|n| format!("more{n}")));
        let lane = LaneId::Loop(1);
        let [envoy, legate] = [envoy, legate].map(|words| trace(lane, &words.join(", ")));
        let counts = compare(&envoy, &legate, terms(Mode::InOrder, &[])).counts();
        assert_eq!((counts.undocumented, counts.equal), (30 + WINDOW / 4, 3000 - 30));
    }

    #[test]
    fn only_connections_count_where_workers_differ() {
        let (lane, of) = (LaneId::Pool(2), |mode| terms(mode, &[]));
        let comparison = compare(&trace(lane, "a"), &trace(lane, "b"), of(Mode::PerConnection));
        assert!(comparison.lanes.is_empty());
        let comparison = compare(&trace(lane, "a"), &trace(lane, "b"), of(Mode::InOrder));
        assert_eq!(comparison.counts(), Counts { compared: 2, undocumented: 2, ..Counts::default() });
    }

    #[test]
    fn what_a_scenario_is_known_for_has_to_occur_in_it() {
        let (here, elsewhere, any) = (vec!["s".to_string()], vec!["t".to_string()], vec![]);
        let of = |scenarios| Difference { scenarios, ..difference("x", How::EnvoyOnly) };
        let known = [of(here.clone()), of(elsewhere), of(any), Difference { sometimes: true, ..of(here) }];
        let lane = LaneId::Pool(1);
        let stale =
            |envoy: &str| compare(&trace(lane, envoy), &trace(lane, "a"), terms(Mode::InOrder, &known)).stale;
        assert_eq!((stale("a"), stale("a, x")), (vec![0], vec![]));
    }

    #[test]
    fn what_is_new_in_1_40_is_no_excuse_for_1_1() {
        let known = [difference("x", How::EnvoyOnly)];
        let lane = LaneId::Pool(1);
        let undocumented = |dialect| {
            let envoy = Trace { dialect, ..trace(lane, "a, x") };
            compare(&envoy, &trace(lane, "a"), terms(Mode::InOrder, &known)).counts().undocumented
        };
        assert_eq!((undocumented(Dialect::V1_40), undocumented(Dialect::V1_1)), (0, 1));
    }

    #[test]
    fn time_goes_by_envoys_log() {
        let lane = LaneId::Pool(1);
        let comparison =
            compare(&trace(lane, "a, b, d, e"), &trace(lane, "a, c, d"), terms(Mode::InOrder, &[]));
        let times: Vec<(usize, usize)> = comparison.lanes[0].pairs.iter().map(|pair| pair.time).collect();
        assert_eq!(times, [(0, 0), (1, 0), (0, 1), (2, 0), (3, 0)]);
    }
}
