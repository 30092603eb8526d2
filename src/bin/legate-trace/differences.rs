//! The documented differences: the table in `docs/trace-differences.md`, which is the documentation and the data at once.

use crate::lanes::LaneId;

const TABLE: &str = include_str!("../../../docs/trace-differences.md");
const HEADER: &str = "| stage | how | where | since | reason |";

/// In what way the traces differ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum How {
    /// Only Envoy has the stage.
    EnvoyOnly,
    /// Only legate has it.
    LegateOnly,
    /// Both have it, at different places of the same lane.
    Order,
    /// Both have it, with different values of this detail.
    Detail(String),
}

/// A difference that is known, with its reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The stage, as in the table of texts.
    pub stage: String,
    /// In what way.
    pub how: How,
    /// Time decides whether it occurs.
    pub sometimes: bool,
    /// Kinds of lanes that it is limited to; empty for all.
    pub lanes: Vec<String>,
    /// Scenarios that it is limited to; empty for all.
    pub scenarios: Vec<String>,
    /// The version of Envoy that brought it, or `legate`.
    pub since: String,
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
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(|c| c.trim().trim_matches('`')).collect();
    let [stage, how, place, since, reason] = cells[..] else {
        return Err(format!("{} cells instead of 5", cells.len()));
    };
    let (how, sometimes) = match how.strip_suffix('?') {
        Some(how) => (how, true),
        None => (how, false),
    };
    let how = match how.split_once(' ') {
        None if how == "envoy" => How::EnvoyOnly,
        None if how == "legate" => How::LegateOnly,
        None if how == "order" => How::Order,
        Some(("detail", name)) => How::Detail(name.to_string()),
        _ => return Err(format!("'{how}' is not envoy, legate, order or detail and its name")),
    };
    let words: Vec<&str> = place.split(',').map(str::trim).filter(|w| !w.is_empty() && *w != "any").collect();
    let (lanes, scenarios) =
        words.into_iter().map(str::to_string).partition(|w: &String| LaneId::KINDS.contains(&w.as_str()));
    if reason.is_empty() || since.is_empty() {
        return Err("it has no reason, or no version".to_string());
    }
    Ok(Difference {
        stage: stage.to_string(),
        how,
        sometimes,
        lanes,
        scenarios,
        since: since.to_string(),
        reason: reason.to_string(),
    })
}

impl Difference {
    /// Whether it is about this stage there. A log of no known scenario may be of any.
    pub fn applies(&self, stage: &str, lane: LaneId, scenario: &str) -> bool {
        let allows = |list: &[String], word: &str| list.is_empty() || list.iter().any(|w| w == word);
        self.stage == stage
            && allows(&self.lanes, lane.kind())
            && (scenario.is_empty() || allows(&self.scenarios, scenario))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios;
    use crate::stage_texts::StageTexts;

    #[test]
    fn the_built_in_table_names_what_exists() {
        let texts = StageTexts::built_in().unwrap();
        let differences = built_in().unwrap();
        assert!(differences.len() > 10);
        for (index, difference) in differences.iter().enumerate() {
            let row = texts.rows().iter().find(|row| row.stage == difference.stage);
            assert!(row.is_some(), "no text stands for {}", difference.stage);
            for scenario in &difference.scenarios {
                assert!(scenarios::named(scenario).is_some(), "no scenario is called {scenario}");
            }
            let twin =
                differences[..index].iter().find(|d| d.stage == difference.stage && d.how == difference.how);
            if let Some(twin) = twin {
                assert!(
                    twin.lanes != difference.lanes || twin.scenarios != difference.scenarios,
                    "{twin:?} twice"
                );
            }
        }
    }

    #[test]
    fn rows_are_read_and_limited() {
        let text = format!(
            "text\n\n{HEADER}\n|---|---|---|---|---|\n| `A::b` | envoy | any | 1.40 | new |\n\
             | `A::c` | detail bytes? | upstream, slow-reader | legate | because |\n\n| other | table |\n"
        );
        let rows = parse(&text).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!((&rows[0].how, rows[0].reason.as_str()), (&How::EnvoyOnly, "new"));
        assert!(rows[0].applies("A::b", LaneId::Main, "x") && !rows[0].applies("A::c", LaneId::Main, "x"));
        assert!(rows[1].sometimes && !rows[0].sometimes);
        assert_eq!(rows[1].how, How::Detail("bytes".to_string()));
        assert!(rows[1].applies("A::c", LaneId::Upstream(2), "slow-reader"));
        assert!(!rows[1].applies("A::c", LaneId::Downstream(2), "slow-reader"));
        assert!(!rows[1].applies("A::c", LaneId::Upstream(2), "first-request"));
    }

    #[test]
    fn a_bad_row_is_named() {
        let parse_one = |row: &str| parse(&format!("{HEADER}\n{row}\n")).unwrap_err();
        assert_eq!(
            parse_one("| a | envoy | any | 1.40 |"),
            "trace-differences.md, line 2: 4 cells instead of 5"
        );
        assert!(parse_one("| a | both | any | 1.40 | x |").contains("'both' is not"));
        assert!(parse_one("| a | envoy | any | 1.40 | |").contains("no reason"));
    }
}
