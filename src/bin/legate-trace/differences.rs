//! The documented differences: the table in `docs/trace-differences.md`, which is the documentation and the data at once.

use std::fmt;

use crate::lanes::{Event, LaneId, ProxyKind};
use crate::stage_texts::{Details, Dialect};

const TABLE: &str = include_str!("../../../docs/trace-differences.md");
const HEADER: &str = "| stage | how | where | next to | one per | since | reason |";
/// What stands for every stage, or every detail.
const ANY: &str = "*";
/// What says nothing in a cell.
const NOTHING: [&str; 2] = ["any", "-"];

/// In what way the traces differ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum How {
    /// Only Envoy has the stage.
    EnvoyOnly,
    /// Only legate has it.
    LegateOnly,
    /// Both have it, at different places of the same lane.
    Order,
    /// Both have it at the same place of its lane, and at different ones among the stages of other lanes.
    Across,
    /// Both have it, with different values of this detail.
    Detail(String),
}

/// What holds between two versions of Envoy's log and legate's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Since {
    /// Envoy 1.40 does it otherwise; 1.1 does as legate.
    Envoy1_40,
    /// Envoy 1.1 does it otherwise; 1.40 does as legate.
    Envoy1_1,
    /// legate does it otherwise than both.
    Legate,
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Since::Envoy1_40 => "1.40",
            Since::Envoy1_1 => "1.1",
            Since::Legate => "legate",
        })
    }
}

/// A stage, perhaps only with certain details, or only of one proxy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pattern {
    /// The proxy that alone has it, if that is said.
    pub of: Option<ProxyKind>,
    /// The stage, as in the table of texts.
    pub stage: String,
    details: Details,
}

/// On which side of another stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// Behind it.
    After,
    /// Ahead of it.
    Before,
    /// Either.
    Beside,
    /// Anywhere behind the first of it.
    From,
    /// Nowhere in particular: in an edge that finds nothing to write.
    Alone,
}

/// Where a stage has to be: next to one of these, with nothing in between that both proxies have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// On which side.
    pub side: Side,
    /// Whether stages of other lanes may be in between.
    pub is_far: bool,
    /// Whether it has to be there even where both sides have the same order.
    pub is_always: bool,
    /// Of what.
    pub of: Vec<Pattern>,
}

/// How often a stage has to be there: exactly once for each of some others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OnePer {
    /// What it belongs to.
    pub of: Vec<Pattern>,
    /// With one of these between the others of its kind, it is not to be there.
    pub unless: Vec<Pattern>,
    /// From one of these on, it is not to be there.
    pub until: Vec<Pattern>,
}

/// A difference that is known, with its reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// What it is about.
    pub what: Pattern,
    /// In what way.
    pub how: How,
    /// By how much Envoy's value is larger, where that is known of a detail.
    pub by: Option<i64>,
    /// Time decides whether it occurs.
    pub sometimes: bool,
    /// Kinds of lanes that it is limited to; empty for all.
    pub lanes: Vec<String>,
    /// Scenarios that it is limited to; empty for all.
    pub scenarios: Vec<String>,
    /// Where in its lane it has to be.
    pub place: Option<Place>,
    /// How often it has to be there.
    pub one_per: Option<OnePer>,
    /// Whose it is.
    pub since: Since,
    /// Why.
    pub reason: String,
}

/// The documented differences.
///
/// # Errors
/// A row is not well-formed.
pub fn built_in() -> Result<Vec<Difference>, String> {
    parse(TABLE)
}

fn parse(text: &str) -> Result<Vec<Difference>, String> {
    let mut differences = Vec::new();
    let mut in_table = false;
    for (index, line) in text.lines().enumerate() {
        if line == HEADER {
            in_table = true;
        } else if !line.starts_with('|') {
            in_table = false;
        } else if in_table && !line.starts_with("|---") {
            let row = parse_row(line);
            differences
                .push(row.map_err(|what| format!("trace-differences.md, line {}: {what}", index + 1))?);
        }
    }
    Ok(differences)
}

fn parse_row(line: &str) -> Result<Difference, String> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [stage, how, limits, place, one_per, since, reason] = cells[..] else {
        return Err(format!("{} cells instead of 7", cells.len()));
    };
    let (how, sometimes) = match how.strip_suffix('?') {
        Some(how) => (how, true),
        None => (how, false),
    };
    let says = |cell: &str| !cell.is_empty() && !NOTHING.contains(&cell);
    let words = limits.split(',').map(str::trim).filter(|word| says(word)).map(str::to_string);
    let (lanes, scenarios) = words.partition(|w: &String| LaneId::KINDS.contains(&w.as_str()));
    if reason.is_empty() || since.is_empty() {
        return Err("it has no reason, or no version".to_string());
    }
    let (how, by) = split_amount(how)?;
    Ok(Difference {
        what: Pattern::parse(stage),
        how: parse_how(how)?,
        by,
        sometimes,
        lanes,
        scenarios,
        place: says(place).then(|| parse_place(place)).transpose()?,
        one_per: says(one_per).then(|| parse_one_per(one_per)),
        since: match since {
            "1.40" => Since::Envoy1_40,
            "1.1" => Since::Envoy1_1,
            "legate" => Since::Legate,
            _ => return Err(format!("'{since}' is not 1.40, 1.1 or legate")),
        },
        reason: reason.to_string(),
    })
}

/// `detail bytes+19`: the detail, and by how much Envoy's is larger.
fn split_amount(how: &str) -> Result<(&str, Option<i64>), String> {
    let Some(at) = how.find(['+', '-']) else { return Ok((how, None)) };
    let amount = how[at..].parse().map_err(|_| format!("'{}' is no number", &how[at..]))?;
    Ok((&how[..at], Some(amount)))
}

fn parse_how(how: &str) -> Result<How, String> {
    Ok(match how.split_once(' ') {
        None if how == "envoy" => How::EnvoyOnly,
        None if how == "legate" => How::LegateOnly,
        None if how == "order" => How::Order,
        None if how == "across" => How::Across,
        Some(("detail", name)) => How::Detail(name.to_string()),
        _ => return Err(format!("'{how}' is not envoy, legate, order, across or detail and its name")),
    })
}

fn parse_place(cell: &str) -> Result<Place, String> {
    if cell == "alone" {
        return Ok(Place { side: Side::Alone, is_far: false, is_always: false, of: Vec::new() });
    }
    let (cell, is_always) = cell.strip_prefix("always ").map_or((cell, false), |cell| (cell, true));
    let (cell, is_far) = cell.strip_prefix("far ").map_or((cell, false), |cell| (cell, true));
    let (side, of) = cell.split_once(' ').unwrap_or((cell, ""));
    let side = match side {
        "after" => Side::After,
        "before" => Side::Before,
        "beside" => Side::Beside,
        "from" => Side::From,
        _ => return Err(format!("'{cell}' is not after, before, beside or from a stage")),
    };
    Ok(Place { side, is_far, is_always, of: patterns(of) })
}

fn parse_one_per(cell: &str) -> OnePer {
    let (cell, until) = cell.split_once(" until ").unwrap_or((cell, ""));
    let (of, unless) = cell.split_once(" unless ").unwrap_or((cell, ""));
    let perhaps = |cell: &str| if cell.is_empty() { Vec::new() } else { patterns(cell) };
    OnePer { of: patterns(of), unless: perhaps(unless), until: perhaps(until) }
}

fn patterns(cell: &str) -> Vec<Pattern> {
    cell.split(" or ").map(Pattern::parse).collect()
}

impl Pattern {
    /// `` `Class::method word` ``, with details that it has to have, as `` `Class::method name=value` ``, perhaps with
    /// `Envoy's` or `legate's` ahead.
    fn parse(cell: &str) -> Pattern {
        let owners = [("Envoy's ", ProxyKind::Envoy), ("legate's ", ProxyKind::Legate)];
        let owner = owners.iter().find(|(prefix, _)| cell.starts_with(prefix));
        let cell = owner.map_or(cell, |(prefix, _)| &cell[prefix.len()..]);
        let words = cell.trim_matches('`').split(' ');
        let (details, stage): (Vec<&str>, Vec<&str>) = words.partition(|word| word.contains('='));
        let details = details.into_iter().filter_map(|word| word.split_once('='));
        Pattern {
            of: owner.map(|(_, of)| *of),
            stage: stage.join(" "),
            details: details.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        }
    }

    /// Whether it is that stage, or any, with those details as far as it has them.
    pub fn matches(&self, event: &Event) -> bool {
        let has = |(name, value): &(String, String)| event.detail(name).is_none_or(|v| v == value);
        let is_stage = self.stage == ANY || event.stage == self.stage;
        event.known && is_stage && self.details.iter().all(has)
    }
}

impl Difference {
    /// Whether it can be in a lane of this kind, in this scenario.
    pub fn applies(&self, lane: LaneId, scenario: &str) -> bool {
        let allows = |list: &[String], word: &str| list.is_empty() || list.iter().any(|w| w == word);
        allows(&self.lanes, lane.kind()) && allows(&self.scenarios, scenario)
    }

    /// Whether it can be between a log with these texts and one of legate.
    pub fn is_known_of(&self, dialect: Dialect) -> bool {
        match self.since {
            Since::Legate => true,
            Since::Envoy1_40 => dialect == Dialect::V1_40,
            Since::Envoy1_1 => dialect == Dialect::V1_1,
        }
    }

    /// Whether these two may have other values of a detail.
    pub fn allows(&self, detail: &str, envoy: &Event, legate: &Event) -> bool {
        let number = |event: &Event| event.detail(detail)?.parse::<i64>().ok();
        let differ = || Some(number(envoy)? - number(legate)?);
        let is_it = matches!(&self.how, How::Detail(name) if name == detail || name == ANY);
        is_it && self.by.is_none_or(|by| differ() == Some(by))
    }

    /// The same where only some stages are known: it cannot depend on others.
    pub fn among(mut self, is_known: impl Fn(&str) -> bool) -> Difference {
        let all_known = |patterns: &[Pattern]| patterns.iter().all(|pattern| is_known(&pattern.stage));
        // What belongs to what comes behind it is told by its place.
        let is_before = self.place.as_ref().is_some_and(|place| place.side == Side::Before);
        self.place = self.place.filter(|place| all_known(&place.of));
        self.one_per = self.one_per.filter(|_| self.place.is_some() || !is_before);
        // Where stages are not known, neither are all details.
        let is_stage = !matches!(self.how, How::Detail(_)) && is_known(&self.what.stage);
        let depends = |one: &OnePer| {
            is_stage && [&one.of, &one.unless, &one.until].into_iter().all(|patterns| all_known(patterns))
        };
        self.one_per = self.one_per.filter(depends);
        self
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::scenarios;
    use crate::stage_texts::StageTexts;

    /// A difference without limits.
    pub fn difference(stage: &str, how: How) -> Difference {
        Difference {
            what: Pattern::parse(stage),
            how,
            by: None,
            sometimes: false,
            lanes: vec![],
            scenarios: vec![],
            place: None,
            one_per: None,
            since: Since::Envoy1_40,
            reason: "because".into(),
        }
    }

    /// One as the table has it.
    pub fn row(line: &str) -> Difference {
        parse_row(line).unwrap()
    }

    #[test]
    fn the_built_in_table_names_what_exists() {
        let texts = StageTexts::built_in().unwrap();
        let differences = built_in().unwrap();
        assert!(differences.len() > 10);
        for (index, difference) in differences.iter().enumerate() {
            let beside = difference.place.iter().flat_map(|place| &place.of);
            let owners =
                difference.one_per.iter().flat_map(|one| one.of.iter().chain(&one.unless).chain(&one.until));
            for pattern in beside.chain([&difference.what]).chain(owners) {
                let row = texts.rows().iter().find(|row| row.stage == pattern.stage);
                assert!(row.is_some() || pattern.stage == ANY, "no text stands for {}", pattern.stage);
            }
            for scenario in &difference.scenarios {
                assert!(scenarios::named(scenario).is_some(), "no scenario is called {scenario}");
            }
            let key = |d: &Difference| {
                let limits = (d.lanes.clone(), d.scenarios.clone(), d.place.clone());
                (d.what.clone(), d.how.clone(), d.by, d.since, limits)
            };
            let twin = differences[..index].iter().find(|d| key(d) == key(difference));
            assert!(twin.is_none(), "{twin:?} twice");
        }
    }

    #[test]
    fn rows_are_read_and_limited() {
        let text = format!(
            "text\n\n{HEADER}\n|---|---|---|---|---|---|---|\n| `A::b` | envoy | any | - | - | 1.40 | new |\n\
             | `A::c x y=1` | detail bytes? | upstream, slow-reader | after `A::d` or `A::e z` | legate's `A::f` unless `A::g` until `A::h` | legate | \
             because |\n\n| other | table |\n"
        );
        let rows = parse(&text).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!((&rows[0].how, rows[0].reason.as_str()), (&How::EnvoyOnly, "new"));
        assert!(rows[0].applies(LaneId::Main, "x") && rows[0].place.is_none() && rows[0].one_per.is_none());
        assert!(rows[1].sometimes && !rows[0].sometimes);
        assert_eq!(rows[1].how, How::Detail("bytes".to_string()));
        assert_eq!(rows[1].what, Pattern::parse("`A::c y=1 x`"));
        let place = rows[1].place.as_ref().unwrap();
        assert_eq!((place.side, place.of[1].stage.as_str()), (Side::After, "A::e z"));
        let one_per = rows[1].one_per.as_ref().unwrap();
        assert_eq!((one_per.of[0].of, one_per.of[0].stage.as_str()), (Some(ProxyKind::Legate), "A::f"));
        assert_eq!(
            (&one_per.unless[..], &one_per.until[..]),
            (&[Pattern::parse("`A::g`")][..], &[Pattern::parse("`A::h`")][..])
        );
        assert!(rows[1].applies(LaneId::Upstream(2), "slow-reader"));
        assert!(!rows[1].applies(LaneId::Downstream(2), "slow-reader"));
        assert!(!rows[1].applies(LaneId::Upstream(2), "first-request"));
        assert!(!rows[1].applies(LaneId::Upstream(2), ""), "a log of no scenario is not of that one");
        assert!(rows[1].is_known_of(Dialect::V1_1) && !rows[0].is_known_of(Dialect::V1_1));
        let of_1_1 = row("| `A::b` | envoy | any | - | - | 1.1 | old |");
        assert!(of_1_1.is_known_of(Dialect::V1_1) && !of_1_1.is_known_of(Dialect::V1_40));
    }

    #[test]
    fn it_does_not_depend_on_what_is_not_known() {
        let row =
            row("| `A::b` | envoy | any | after `A::c` or `A::d` | `A::e` unless `A::f` | 1.40 | new |");
        let among = |unknown: &str| row.clone().among(|stage| stage != unknown);
        assert_eq!(among("x"), row);
        assert!(among("A::d").place.is_none() && among("A::d").one_per.is_some());
        assert!(among("A::b").place.is_some() && among("A::b").one_per.is_none());
        let before = Difference { place: Some(parse_place("before `A::c`").unwrap()), ..row.clone() };
        assert!(before.among(|stage| stage != "A::c").one_per.is_none());
        assert!(among("A::e").one_per.is_none() && among("A::f").one_per.is_none());
    }

    #[test]
    fn a_bad_row_is_named() {
        let parse_one = |row: &str| parse(&format!("{HEADER}\n{row}\n")).unwrap_err();
        assert_eq!(
            parse_one("| a | envoy | any | 1.40 |"),
            "trace-differences.md, line 2: 4 cells instead of 7"
        );
        assert!(parse_one("| a | both | any | - | - | 1.40 | x |").contains("'both' is not"));
        assert!(parse_one("| a | envoy | any | on b | - | 1.40 | x |").contains("'on b' is not"));
        assert!(parse_one("| a | envoy | any | - | - | 1.40 | |").contains("no reason"));
        assert!(parse_one("| a | envoy | any | - | - | 1.2 | x |").contains("'1.2' is not"));
        assert!(parse_one("| a | detail x+y | any | - | - | 1.1 | x |").contains("'+y' is no number"));
    }
}
