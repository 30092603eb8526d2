//! Verdicts: what differs in a lane is looked up among the documented differences, which say where and how often it may be.

use crate::compare::{Pair, Verdict};
use crate::differences::{Difference, How, OnePer, Pattern, Place, Side};
use crate::lanes::{Event, ProxyKind};

/// How far apart, in pairs, both sides may have a stage whose order differs.
const REACH: usize = 16;

/// Judges a lane by the differences that can be in it, which come with their index. Where a documented stage is missing, a pair
/// is added that says so.
pub fn judge(pairs: &mut Vec<Pair>, known: &[(usize, &Difference)]) {
    for at in 0..pairs.len() {
        pairs[at].verdict = verdict(pairs, at, known);
    }
    for (index, difference) in known.iter().filter(|(_, d)| d.how == How::Order) {
        settle_order(pairs, *index, &difference.what);
    }
    let mut missing = Vec::new();
    for (index, difference) in known {
        if let Some(one_per) = &difference.one_per {
            missing.append(&mut settle_number(pairs, *index, difference, one_per));
        }
    }
    missing.sort_by_key(|(at, _)| *at);
    for (at, pair) in missing.into_iter().rev() {
        pairs.insert(at, pair);
    }
}

fn verdict(pairs: &[Pair], at: usize, known: &[(usize, &Difference)]) -> Verdict {
    let pair = &pairs[at];
    let find = |how: &How| {
        let is_it = |d: &Difference| d.how == *how && pair.is(&d.what) && is_in_place(pairs, at, d);
        known.iter().find(|(_, d)| is_it(d)).map(|(index, _)| *index)
    };
    let documented = |found: Option<usize>| found.map_or(Verdict::Undocumented, Verdict::Documented);
    match (&pair.envoy, &pair.legate) {
        (Some(envoy), Some(legate)) => {
            let details = envoy.differing_details(legate);
            let find = |name: String| {
                let is_it = |d: &Difference| {
                    d.allows(&name, envoy, legate) && pair.is(&d.what) && is_in_place(pairs, at, d)
                };
                known.iter().find(|(_, d)| is_it(d)).map(|(index, _)| *index)
            };
            let found: Vec<Option<usize>> = details.into_iter().map(find).collect();
            match found.first() {
                None => Verdict::Equal,
                Some(first) if found.iter().all(Option::is_some) => documented(*first),
                Some(_) => Verdict::Undocumented,
            }
        }
        (Some(_), None) => documented(find(&How::EnvoyOnly)),
        _ => documented(find(&How::LegateOnly)),
    }
}

/// Whether it is where the difference says, and the only one there unless that is for `one per` to say.
fn is_in_place(pairs: &[Pair], at: usize, difference: &Difference) -> bool {
    let Some(Place { side, of, .. }) = &difference.place else { return true };
    match side {
        Side::Alone => return is_idle_edge(pairs, at),
        Side::From => return pairs[..at].iter().any(|pair| of.iter().any(|pattern| pair.is(pattern))),
        _ => {}
    }
    let is_beside = |path: &mut dyn Iterator<Item = &Pair>| {
        for near in path {
            if of.iter().any(|pattern| near.is(pattern)) && near.may_share(&pairs[at]) {
                return true;
            }
            let again = near.is(&difference.what) && near.same_sides(&pairs[at]);
            if !near.is_one_sided() || (again && difference.one_per.is_none()) {
                return false;
            }
        }
        false
    };
    (*side != Side::Before && is_beside(&mut pairs[..at].iter().rev()))
        || (*side != Side::After && is_beside(&mut pairs[at + 1..].iter()))
}

/// Whether it is the edge, or the look at it, of a socket that can be written to, when there is nothing to write.
fn is_idle_edge(pairs: &[Pair], at: usize) -> bool {
    const EDGE: &str = "ConnectionImpl::onFileEvent";
    const LOOK: &str = "ConnectionImpl::onWriteReady";
    let is_of_envoy = pairs[at].envoy.is_some();
    let own = |pair: &Pair| {
        let event = if is_of_envoy { &pair.envoy } else { &pair.legate };
        event.as_ref().map(|event| (event.clone(), pair.is_one_sided()))
    };
    let mut before = pairs[..at].iter().rev().filter_map(own);
    let mut after = pairs[at + 1..].iter().filter_map(own);
    let is_edge = |event: &Event| event.stage == EDGE && event.detail("bits").is_none_or(|bits| bits == "2");
    let is_look = |event: &Event| event.stage == LOOK;
    let writes = |(event, _): (Event, bool)| {
        event.stage.starts_with("RawBufferSocket::doWrite")
            || event.stage.starts_with("ConnectionImpl::onWriteReady ")
    };
    let Some((event, _)) = own(&pairs[at]) else { return false };
    // One of the two alone is no edge.
    let has_both = match is_look(&event) {
        true => before.next().is_some_and(|(edge, alone)| alone && is_edge(&edge)),
        false => is_edge(&event) && after.next().is_some_and(|(look, alone)| alone && is_look(&look)),
    };
    has_both && !after.next().is_some_and(writes)
}

/// A stage may be at another place only where both sides have it, nearby.
fn settle_order(pairs: &mut [Pair], index: usize, what: &Pattern) {
    let open = |pair: &Pair| pair.verdict == Verdict::Undocumented && pair.is_one_sided() && pair.is(what);
    for at in 0..pairs.len() {
        let Some(event) = pairs[at].any().filter(|_| open(&pairs[at])) else { continue };
        let is_other = |other: &Pair| {
            open(other)
                && !other.same_sides(&pairs[at])
                && other.any().is_some_and(|o| o.same_stage(event) && o.differing_details(event).is_empty())
        };
        let end = pairs.len().min(at + REACH + 1);
        if let Some(other) = (at + 1..end).find(|other| is_other(&pairs[*other])) {
            pairs[at].verdict = Verdict::Documented(index);
            pairs[other].verdict = Verdict::Documented(index);
        }
    }
}

/// Has one of the stage for each of what it belongs to: one more is undocumented, and what is missing is returned with its
/// place.
fn settle_number(
    pairs: &mut [Pair],
    index: usize,
    difference: &Difference,
    one_per: &OnePer,
) -> Vec<(usize, Pair)> {
    let is_before = difference.place.as_ref().is_some_and(|place| place.side == Side::Before);
    let owners = owners(pairs, &difference.how, one_per);
    let mut served = vec![false; owners.len()];
    for at in 0..pairs.len() {
        let pair = &pairs[at];
        let is_of_row = pair.verdict == Verdict::Documented(index);
        let both_have_it = !pair.is_one_sided() && !matches!(difference.how, How::Detail(_));
        let is_one = pair.is(&difference.what) && is_in_place(pairs, at, difference);
        if !(is_of_row || (both_have_it && is_one)) {
            continue;
        }
        let belongs = |k: &usize| pairs[owners[*k]].may_share(pair);
        let found = match is_before {
            true => (0..owners.len()).filter(|k| owners[*k] >= at).find(belongs),
            false => (0..owners.len()).rev().filter(|k| owners[*k] <= at).find(belongs),
        };
        match found {
            Some(k) if !served[k] => served[k] = true,
            _ if is_of_row => pairs[at].verdict = Verdict::Undocumented,
            _ => {}
        }
    }
    let is_excused = |k: usize| {
        let start = (0..k)
            .rev()
            .find(|j| pairs[owners[*j]].may_share(&pairs[owners[k]]))
            .map_or(0, |j| owners[j] + 1);
        let end = (k + 1..owners.len()).find(|j| pairs[owners[*j]].may_share(&pairs[owners[k]]));
        let between = &pairs[start..end.map_or(pairs.len(), |j| owners[j])];
        let excuses = |pair: &Pair| {
            one_per.unless.iter().any(|other| is_of(pair, other, &difference.how))
                && pair.may_share(&pairs[owners[k]])
        };
        between.iter().any(excuses)
    };
    let unserved = (0..owners.len()).filter(|k| !served[*k] && !is_excused(*k)).map(|k| owners[k]);
    unserved.map(|at| (at + usize::from(!is_before), lack(pairs, at, index, difference))).collect()
}

fn owners(pairs: &[Pair], how: &How, one_per: &OnePer) -> Vec<usize> {
    let is_any = |at: usize, of: &[Pattern]| of.iter().any(|owner| is_of(&pairs[at], owner, how));
    let end = (0..pairs.len()).find(|at| is_any(*at, &one_per.until)).unwrap_or(pairs.len());
    (0..end).filter(|at| is_any(*at, &one_per.of)).collect()
}

/// Whether a pair has what is meant on the side where the difference is, or on the named side alone.
fn is_of(pair: &Pair, pattern: &Pattern, how: &How) -> bool {
    let has = |event: &Option<Event>| event.as_ref().is_some_and(|event| pattern.matches(event));
    match (pattern.of, how) {
        (Some(ProxyKind::Envoy), _) => has(&pair.envoy) && pair.is_one_sided(),
        (Some(ProxyKind::Legate), _) => has(&pair.legate) && pair.is_one_sided(),
        (None, How::EnvoyOnly) => has(&pair.envoy),
        (None, How::LegateOnly) => has(&pair.legate),
        (None, How::Order | How::Across | How::Detail(_)) => has(&pair.envoy) || has(&pair.legate),
    }
}

/// What says that the stage is missing beside the owner at `at`. Its line is the owner's, or where only the other side has the
/// owner, that of what comes before it in this side's log.
fn lack(pairs: &[Pair], at: usize, index: usize, difference: &Difference) -> Pair {
    let missing = |side: fn(&Pair) -> Option<&Event>| {
        let line = pairs[..=at].iter().rev().find_map(side).map_or(0, |event| event.line);
        let (stage, details) = (difference.what.stage.clone(), Vec::new());
        pairs[at].any().map(|owner| Event { stage, details, line, ..owner.clone() })
    };
    let (envoy, legate) = match difference.how {
        How::LegateOnly => (None, missing(|pair| pair.legate.as_ref())),
        _ => (missing(|pair| pair.envoy.as_ref()), None),
    };
    Pair { verdict: Verdict::Missing(index), ..Pair::new(envoy.as_ref(), legate.as_ref()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::differences::tests::{difference, row};

    fn event(text: &str) -> Event {
        let mut event = Event {
            stage: String::new(),
            known: !text.starts_with('?'),
            stream: None,
            conn: None,
            details: vec![],
            line: 0,
        };
        for (index, word) in text.split(' ').enumerate() {
            match word.split_once('=') {
                Some(("S", number)) => event.stream = number.parse().ok(),
                Some((name, value)) => event.details.push((name.into(), value.into())),
                None if index == 0 => event.stage = word.into(),
                None => {}
            }
        }
        event
    }

    /// A word per pair: its sides and the verdict.
    fn result(envoy: &str, legate: &str, differences: &[Difference]) -> String {
        let side = |text: &str| text.split(", ").filter(|w| !w.is_empty()).map(event).collect::<Vec<_>>();
        let mut pairs = crate::align::align(&side(envoy), &side(legate));
        judge(&mut pairs, &differences.iter().enumerate().collect::<Vec<_>>());
        let word = |pair: &Pair| {
            let side = |e: &Option<Event>| e.as_ref().map_or_else(|| "-".into(), |e| e.stage.clone());
            let verdict = match pair.verdict {
                Verdict::Equal => "=".to_string(),
                Verdict::Documented(index) => index.to_string(),
                Verdict::Undocumented => "!".to_string(),
                Verdict::Missing(index) => format!("no{index}"),
                Verdict::Misplaced => "~".to_string(),
            };
            format!("{}/{}:{verdict}", side(&pair.envoy), side(&pair.legate))
        };
        pairs.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_one_side_lacks_is_found() {
        assert_eq!(result("a, b, c", "a, c", &[]), "a/a:= b/-:! c/c:=");
        assert_eq!(result("a, c", "a, b, c", &[]), "a/a:= -/b:! c/c:=");
        assert_eq!(result("a", "", &[]), "a/-:!");
    }

    #[test]
    fn documented_differences_have_a_direction() {
        let known = [difference("b", How::EnvoyOnly), difference("b", How::LegateOnly)];
        assert_eq!(result("a, b, c", "a, c", &known[..1]), "a/a:= b/-:0 c/c:=");
        assert_eq!(result("a, c", "a, b, c", &known[..1]), "a/a:= -/b:! c/c:=");
        assert_eq!(result("a, c", "a, b, c", &known), "a/a:= -/b:1 c/c:=");
    }

    #[test]
    fn details_are_compared() {
        assert_eq!(result("a n=1", "a n=2", &[]), "a/a:!");
        assert_eq!(result("a n=1", "a n=2", &[difference("a", How::Detail("n".into()))]), "a/a:0");
        let smaller = [row("| a | detail n-1 | any | - | - | 1.1 | x |")];
        assert_eq!(result("a n=1, a n=1, a n=2", "a n=2, a n=3, a n=1", &smaller), "a/a:0 a/a:! a/a:!");
        assert_eq!(
            result("a m=1 n=1", "a m=2 n=2", &[row("| a | detail * | any | - | - | 1.1 | x |")]),
            "a/a:0"
        );
        let known = [row("| a n=1 | envoy | any | - | - | 1.40 | x |")];
        assert_eq!(result("a n=1, a n=2", "", &known), "a/-:0 a/-:!");
    }

    #[test]
    fn a_text_that_no_table_knows_is_never_documented_but_may_be_equal() {
        assert_eq!(result("?", "", &[difference("?", How::EnvoyOnly)]), "?/-:!");
        assert_eq!(result("?", "?", &[]), "?/?:=");
    }

    #[test]
    fn another_order_needs_the_same_stage_of_the_same_stream_nearby() {
        assert_eq!(result("a, b", "b, a", &[]), "a/-:! b/b:= -/a:!");
        let known = [difference("a", How::Order)];
        assert_eq!(result("a, b", "b, a", &known), "a/-:0 b/b:= -/a:0");
        assert_eq!(result("a, b", "b", &known), "a/-:! b/b:=");
        assert_eq!(result("a S=1, b", "b, a S=2", &known), "a/-:! b/b:= -/a:!");
        assert_eq!(result("a n=1, b", "b, a n=2", &known), "a/-:! b/b:= -/a:!");
        let far = "b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q";
        assert!(result(&format!("a, {far}"), &format!("{far}, a"), &known).starts_with("a/-:!"));
        let near = far.trim_end_matches(", q");
        assert!(result(&format!("a, {near}"), &format!("{near}, a"), &known).starts_with("a/-:0"));
    }

    #[test]
    fn a_place_is_next_to_what_both_have() {
        let after = [row("| x | envoy | any | after a or b | - | 1.40 | y |")];
        assert_eq!(result("a, x, c", "a, c", &after), "a/a:= x/-:0 c/c:=");
        assert_eq!(result("a, c, x", "a, c", &after), "a/a:= c/c:= x/-:!");
        assert_eq!(result("a, x, x", "a", &after), "a/a:= x/-:0 x/-:!");
        assert_eq!(result("a S=1, x S=2", "a S=1", &after), "a/a:= x/-:!");
        let before = [row("| x | legate | any | before b | - | 1.40 | y |"), difference("y", How::EnvoyOnly)];
        assert_eq!(result("a, y, b", "a, x, b", &before), "a/a:= y/-:1 -/x:0 b/b:=");
        assert_eq!(result("a, b", "a, b, x", &before), "a/a:= b/b:= -/x:!");
        let beside = [row("| x | legate | any | beside y | - | 1.40 | z |"), difference("y", How::EnvoyOnly)];
        assert_eq!(result("a, y, b", "a, x, b", &beside), "a/a:= y/-:1 -/x:0 b/b:=");
        assert_eq!(result("a, b", "a, x, b", &beside), "a/a:= -/x:! b/b:=");
    }

    #[test]
    fn from_a_stage_on_anything_may_be_missing() {
        let known = [row("| * | legate | any | from b | - | 1.1 | x |")];
        assert_eq!(result("a, b", "a, x, b, y, z", &known), "a/a:= -/x:! b/b:= -/y:0 -/z:0");
        assert_eq!(result("a, b, ?", "a, b, ?y", &known), "a/a:= b/b:= ?/-:! -/?y:!");
    }

    #[test]
    fn an_edge_may_find_nothing_to_write() {
        let (edge, look) = ("ConnectionImpl::onFileEvent bits=2", "ConnectionImpl::onWriteReady");
        let known =
            [edge, look].map(|stage| row(&format!("| {stage} | envoy? | any | alone | - | legate | x |")));
        let verdicts = |envoy: &str| {
            let result = result(envoy, "a", &known);
            result.split(' ').map(|word| word.rsplit_once(':').unwrap().1.to_string()).collect::<String>()
        };
        assert_eq!(verdicts(&format!("{edge}, {look}, a")), "01=");
        assert_eq!(verdicts(&format!("a, {edge}, {look}")), "=01");
        assert_eq!(verdicts(&format!("{edge}, {look}, RawBufferSocket::doWrite, a")), "!!!=");
        assert_eq!(verdicts(&format!("{edge}, a")), "!=");
        assert_eq!(verdicts(&format!("{look}, a")), "!=");
        assert_eq!(
            result(&format!("{edge}, {look}, a"), &format!("{look}, a"), &known).matches('!').count(),
            1
        );
        assert_eq!(verdicts(&format!("ConnectionImpl::onFileEvent bits=3, {look}, a")), "!!=");
    }

    #[test]
    fn there_is_one_for_each() {
        let known = [row("| x | legate | any | - | a | 1.40 | y |")];
        assert_eq!(result("a, b, a", "a, b, x, a, x", &known), "a/a:= b/b:= -/x:0 a/a:= -/x:0");
        assert_eq!(result("a, b, a", "a, b, a, x", &known), "a/a:= -/x:no0 b/b:= a/a:= -/x:0");
        assert_eq!(result("a", "a, x, x", &known), "a/a:= -/x:0 -/x:!");
        assert_eq!(result("b, a", "b, x, a, x", &known), "b/b:= -/x:! a/a:= -/x:0");
        assert_eq!(result("a, x", "a, x", &known), "a/a:= x/x:=", "what both have counts, too");
        let of_streams = "a/a:= a/a:= -/x:0 -/x:0";
        assert_eq!(result("a S=1, a S=2", "a S=1, a S=2, x S=1, x S=2", &known), of_streams);
        let before = [row("| x | envoy | any | before a | a | 1.40 | y |")];
        assert_eq!(result("x, a, x, a", "a, a", &before), "x/-:0 a/a:= x/-:0 a/a:=");
        assert_eq!(result("x, a, a", "a, a", &before), "x/-:0 a/a:= x/-:no0 a/a:=");
        let of_envoys =
            [row("| x | legate | any | - | Envoy's a | 1.40 | y |"), difference("a", How::EnvoyOnly)];
        assert_eq!(result("a", "x", &of_envoys), "a/-:1 -/x:0");
        assert_eq!(result("a", "", &of_envoys), "a/-:1 -/x:no0");
    }

    #[test]
    fn what_is_missing_has_a_line_of_its_own_sides_log() {
        let known = [row("| x | legate | any | - | Envoy's a | 1.40 | y |"), difference("a", How::EnvoyOnly)];
        let at = |text: &str, line| Some(Event { line, ..event(text) });
        let mut pairs =
            vec![Pair::new(at("b", 10).as_ref(), at("b", 3).as_ref()), Pair::new(at("a", 11).as_ref(), None)];
        judge(&mut pairs, &known.iter().enumerate().collect::<Vec<_>>());
        let missing = pairs.iter().find(|pair| pair.verdict == Verdict::Missing(0)).expect("x is missing");
        assert_eq!((missing.legate.as_ref().map(|e| e.line), missing.envoy.is_none()), (Some(3), true));
    }

    #[test]
    fn there_is_none_from_the_end_on() {
        let known = [row("| x | envoy | any | after a | a until end | 1.40 | y |")];
        assert_eq!(result("a, x, end, a", "a, end, a", &known), "a/a:= x/-:0 end/end:= a/a:=");
        assert_eq!(result("a, end, a", "a, end, a", &known), "a/a:= x/-:no0 end/end:= a/a:=");
        assert_eq!(result("a, x, end, a, x", "a, end, a", &known), "a/a:= x/-:0 end/end:= a/a:= x/-:!");
    }

    #[test]
    fn there_is_none_where_another_excuses_it() {
        let known = [row("| x | legate | any | after a | a unless b | 1.40 | y |")];
        assert_eq!(result("a, b", "a, b", &known), "a/a:= b/b:=");
        assert_eq!(result("b, a", "b, a", &known), "b/b:= a/a:=");
        assert_eq!(result("a, a, b", "a, x, a, b", &known), "a/a:= -/x:0 a/a:= b/b:=");
        assert_eq!(result("a S=1, b S=2", "a S=1, b S=2", &known), "a/a:= -/x:no0 b/b:=");
    }
}
