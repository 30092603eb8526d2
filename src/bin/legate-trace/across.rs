//! The order across lanes. What a worker does is one row of steps, in which those of a codec, a connection, a pool and a connection
//! manager alternate: a step has to have the same place among those of the other lanes on both sides.

use crate::compare::{Lane, Pair, Verdict};
use crate::differences::{Difference, How, Pattern, Place, Side};
use crate::lanes::{Event, LaneId};

/// Marks what is out of order. The differences come with their index; each lane has been judged by itself.
pub fn check_order(lanes: &mut [Lane], differences: &[(usize, &Difference)], scenario: &str) {
    let documented = |lane: LaneId, pair: &Pair| {
        let is_it = |d: &Difference| d.how == How::Across && d.applies(lane, scenario) && pair.is(&d.what);
        differences.iter().find(|(_, d)| is_it(d)).map(|(index, _)| *index)
    };
    let mut steps: Vec<Step> = Vec::new();
    for (of_lane, lane) in lanes.iter().enumerate().filter(|(_, lane)| is_at_work(lane)) {
        for (at, pair) in lane.pairs.iter().enumerate() {
            let (Some(envoy), Some(legate)) = (&pair.envoy, &pair.legate) else { continue };
            let documented = documented(lane.id, pair);
            steps.push(Step { envoy: envoy.line, legate: legate.line, place: (of_lane, at), documented });
        }
    }
    steps.sort_by_key(|step| (step.envoy, step.legate));
    let (certain, others): (Vec<Step>, Vec<Step>) =
        steps.into_iter().partition(|step| step.documented.is_none());
    let rises = rising(&certain.iter().map(|step| step.legate).collect::<Vec<_>>());
    let mut in_order: Vec<&Step> = Vec::new();
    for (step, rises) in certain.iter().zip(rises) {
        match rises {
            true => in_order.push(step),
            false => set(lanes, step.place, Verdict::Misplaced),
        }
    }
    let of_envoy = lanes.iter().filter(|lane| is_at_work(lane)).flat_map(|lane| &lane.pairs);
    let mut envoys: Vec<Event> = of_envoy.filter_map(|pair| pair.envoy.clone()).collect();
    envoys.sort_by_key(|event| event.line);
    let envoys: Vec<&Event> = envoys.iter().collect();
    for step in &others {
        let before = in_order.partition_point(|other| other.envoy < step.envoy);
        let is_after = before == 0 || in_order[before - 1].legate <= step.legate;
        let is_before = in_order.get(before).is_none_or(|next| step.legate <= next.legate);
        let Some(index) = step.documented else { continue };
        let difference = differences.iter().find(|(i, _)| *i == index).map(|(_, d)| *d);
        let is_there = difference.is_some_and(|d| is_beside(&envoys, step.envoy, d));
        let has_to_be = difference.and_then(|d| d.place.as_ref()).is_some_and(|place| place.is_always);
        let verdict = match (is_there, is_after && is_before) {
            (true, false) => Verdict::Documented(index),
            (false, false) => Verdict::Misplaced,
            (false, true) if has_to_be => Verdict::Misplaced,
            (_, true) => continue,
        };
        set(lanes, step.place, verdict);
    }
    for (place, verdict) in out_of_place(lanes, differences) {
        set(lanes, place, verdict);
    }
}

/// Whether it is a worker's.
fn is_at_work(lane: &Lane) -> bool {
    !matches!(lane.id, LaneId::Main | LaneId::Start(0))
}

/// Whether Envoy's event comes directly behind, or ahead of, such a one of its worker, if that is said.
fn is_beside(envoys: &[&Event], line: usize, difference: &Difference) -> bool {
    let Some(place) = &difference.place else { return true };
    let is_one = |event: Option<&&Event>| {
        event.is_some_and(|event| place.of.iter().any(|pattern| pattern.matches(event)))
    };
    let before = envoys.partition_point(|event| event.line < line).checked_sub(1).map(|at| &envoys[at]);
    let after = envoys.get(envoys.partition_point(|event| event.line <= line));
    match place.side {
        Side::After => is_one(before),
        Side::Before => is_one(after),
        _ => is_one(before) || is_one(after),
    }
}

/// A step that both proxies take: its lines in both logs, and its lane and place there.
struct Step {
    envoy: usize,
    legate: usize,
    place: (usize, usize),
    /// The difference by which it may be elsewhere.
    documented: Option<usize>,
}

fn set(lanes: &mut [Lane], (lane, at): (usize, usize), verdict: Verdict) {
    let pair = &mut lanes[lane].pairs[at];
    if !pair.verdict.is_undocumented() {
        pair.verdict = verdict;
    }
}

/// What only one side has, and has next to another stage of its lane, but with a step of another lane in between.
fn out_of_place(lanes: &[Lane], differences: &[(usize, &Difference)]) -> Vec<((usize, usize), Verdict)> {
    let sides: [fn(&Pair) -> Option<&Event>; 2] = [|pair| pair.envoy.as_ref(), |pair| pair.legate.as_ref()];
    let mut found = Vec::new();
    for side in sides {
        let of_worker = lanes.iter().filter(|lane| is_at_work(lane)).flat_map(|lane| &lane.pairs);
        // How many objects are deferred, and when, is each proxy's own affair.
        let counts = |event: &&Event| !event.stage.starts_with("DispatcherImpl::");
        let shared = of_worker.filter(|pair| !pair.is_one_sided()).filter_map(side).filter(counts);
        let mut lines: Vec<usize> = shared.map(|event| event.line).collect();
        lines.sort_unstable();
        for (of_lane, lane) in lanes.iter().enumerate() {
            for (at, pair) in lane.pairs.iter().enumerate() {
                let Verdict::Documented(index) = pair.verdict else { continue };
                let difference = differences.iter().find(|(i, _)| *i == index).map(|(_, d)| *d);
                let Some(event) = side(pair).filter(|_| pair.is_one_sided()) else { continue };
                if difference.is_some_and(|d| !is_next(lane, at, event, d, side, &lines)) {
                    found.push(((of_lane, at), Verdict::Misplaced));
                }
            }
        }
    }
    found
}

fn is_next(
    lane: &Lane,
    at: usize,
    event: &Event,
    difference: &Difference,
    side: fn(&Pair) -> Option<&Event>,
    lines: &[usize],
) -> bool {
    let is_near = |place: &&Place| !place.is_far && !matches!(place.side, Side::Alone | Side::From);
    let Some(place) = difference.place.as_ref().filter(is_near) else { return true };
    let is_one = |event: &&Event| place.of.iter().any(|pattern: &Pattern| pattern.matches(event));
    let before = lane.pairs[..at].iter().rev().filter_map(side).find(is_one);
    let after = lane.pairs[at + 1..].iter().filter_map(side).find(is_one);
    let touches = |other: &Event| {
        let (first, last) = (other.line.min(event.line), other.line.max(event.line));
        lines.partition_point(|line| *line <= first) >= lines.partition_point(|line| *line < last)
    };
    let sides = match place.side {
        Side::After => [before, None],
        Side::Before => [None, after],
        _ => [before, after],
    };
    // Only the other proxy may have what it is next to.
    let mut neighbours = sides.into_iter().flatten().peekable();
    neighbours.peek().is_none() || neighbours.any(touches)
}

/// Of a row of numbers, which make one that rises, leaving out as few as possible.
fn rising(numbers: &[usize]) -> Vec<bool> {
    // The last places of the best rising rows, by length; and what stands before each place in its row.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::new();
    for (at, number) in numbers.iter().enumerate() {
        let length = ends.partition_point(|end| numbers[*end] <= *number);
        before.push(length.checked_sub(1).map(|shorter| ends[shorter]));
        match ends.get_mut(length) {
            Some(end) => *end = at,
            None => ends.push(at),
        }
    }
    let mut rises = vec![false; numbers.len()];
    let mut next = ends.last().copied();
    while let Some(at) = next {
        rises[at] = true;
        next = before[at];
    }
    rises
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differences::tests::row;

    /// Words are a stage, `U.` or `P.` ahead of it for its lane, in the order of Envoy's log and of legate's.
    fn verdicts(envoy: &str, legate: &str, known: &[Difference]) -> String {
        let known: Vec<(usize, &Difference)> = known.iter().enumerate().collect();
        let mut lanes: Vec<Lane> = Vec::new();
        for (prefix, id) in [("U.", LaneId::Upstream(1)), ("P.", LaneId::Pool(1))] {
            let side = |text: &str| -> Vec<Event> {
                let words = text.split(' ').enumerate().filter(|(_, word)| word.starts_with(prefix));
                let event = |(line, word): (usize, &str)| Event {
                    stage: word[2..].into(),
                    known: true,
                    stream: None,
                    conn: None,
                    details: vec![],
                    line,
                };
                words.map(event).collect()
            };
            let mut pairs = crate::align::align(&side(envoy), &side(legate));
            crate::judge::judge(&mut pairs, &known);
            lanes.push(Lane { id, pairs });
        }
        check_order(&mut lanes, &known, "");
        let word = |pair: &Pair| match pair.verdict {
            Verdict::Equal => "=".to_string(),
            Verdict::Documented(index) => index.to_string(),
            Verdict::Misplaced => "~".to_string(),
            _ => "!".to_string(),
        };
        lanes.iter().flat_map(|lane| &lane.pairs).map(word).collect()
    }

    #[test]
    fn two_lanes_have_one_order() {
        assert_eq!(verdicts("U.a P.x U.b P.y", "U.a P.x U.b P.y", &[]), "====");
        assert_eq!(verdicts("U.a P.x U.b P.y", "P.x U.a U.b P.y", &[]).matches('~').count(), 1);
        assert_eq!(verdicts("U.a P.x U.b P.y", "P.x P.y U.a U.b", &[]).matches('~').count(), 2);
    }

    #[test]
    fn one_that_may_be_elsewhere_moves_no_other() {
        let known = [row("| b | across | upstream | - | - | 1.40 | y |")];
        assert_eq!(verdicts("U.a P.x U.b P.y", "U.a P.x P.y U.b", &known), "=0==");
        assert_eq!(verdicts("U.a P.x U.b P.y", "U.a P.x U.b P.y", &known), "====");
        assert_eq!(verdicts("U.a P.x U.b P.y", "P.x U.a P.y U.b", &known).matches('~').count(), 1);
    }

    #[test]
    fn what_one_side_has_is_next_to_its_neighbour_across_lanes() {
        let known = [row("| z | legate | pool | after x | - | 1.40 | y |")];
        assert_eq!(verdicts("U.a P.x U.b", "U.a P.x P.z U.b", &known), "===0");
        assert_eq!(verdicts("U.a P.x U.b", "U.a P.x U.b P.z", &known), "===~");
        let far = [row("| z | legate | pool | far after x | - | 1.40 | y |")];
        assert_eq!(verdicts("U.a P.x U.b", "U.a P.x U.b P.z", &far), "===0");
    }

    #[test]
    fn as_few_as_possible_are_left_out() {
        assert_eq!(rising(&[1, 2, 2, 3]), [true; 4]);
        assert_eq!(rising(&[1, 9, 2, 3]), [true, false, true, true]);
        assert!(rising(&[]).is_empty());
    }
}
