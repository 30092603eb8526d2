//! Holds what the map says of log texts against `legate-trace`'s table of them and against the code that logs them.
//!
//! The index of texts in `docs/map.md` is made from both: `LEGATE_MAP_UPDATE=1 cargo test --test map` writes it.

use std::collections::BTreeMap;
use std::fs;

use legate::trace::{STAGES, StageInfo, text_said_by};

use super::{Place, Row, anchor, envoy_checkout, fail_if_any, map_text, root, rows};

const TABLE: &str = include_str!("../../src/bin/legate-trace/stage_texts.txt");

/// Stages whose text another function of 1.1 logs: they have a name of 1.40, or one for several places.
const OTHERWISE: [(&str, &str); 15] = [
    ("ActiveListener::newConnection", "ActiveListener::onNewConnection"),
    ("ActiveStream::callHighWatermarkCallbacks", "ActiveStream::onAboveWriteBufferHighWatermark"),
    (
        "ActiveStream::callHighWatermarkCallbacks filter",
        "ActiveStreamEncoderFilter::onEncoderFilterAboveWriteBufferHighWatermark",
    ),
    ("ActiveStream::callLowWatermarkCallbacks", "ActiveStream::onBelowWriteBufferLowWatermark"),
    (
        "ActiveStream::callLowWatermarkCallbacks filter",
        "ActiveStreamEncoderFilter::onEncoderFilterBelowWriteBufferLowWatermark",
    ),
    ("ActiveStream::encode1xxHeaders", "ActiveStream::encode100ContinueHeaders"),
    ("ActiveStream::encode1xxHeaders filter", "ActiveStream::encode100ContinueHeaders"),
    ("ConnPoolImpl::attachRequestToClient", "ConnPoolImpl::processIdleClient"),
    ("ConnectionImpl::close delayed", "ConnectionImpl::initializeDelayedCloseTimer"),
    ("ConnectionImpl::onBody", "ServerConnectionImpl::onBody"),
    ("Filter::onUpstream1xxHeaders", "Filter::onUpstream100ContinueHeaders"),
    ("InstanceImpl::run SIGINT", "RunHelper::RunHelper"),
    ("InstanceImpl::run SIGTERM", "RunHelper::RunHelper"),
    ("ServerConnectionImpl::onHeadersComplete h2c", "ConnectionImpl::onHeadersCompleteBase"),
    ("ThreadLocalClusterManagerImpl::httpConnPool no host", "ClusterEntry::connPool"),
];

/// Stages that legate has and 1.1 has not, with the function of 1.1 whose row has legate's.
const LEGATES_OWN: [(&str, &str); 4] = [
    ("ActiveClient::onConnectionDurationTimeout", "ActiveClient::ActiveClient"),
    ("ConnPoolImpl::createNewConnection failed", "ConnPoolImpl::createNewConnection"),
    ("ConnPoolImplBase::attachStreamToClient overflow", "ConnPoolImpl::attachRequestToClient"),
    (
        "ConnectionManagerImpl::onConnectionDurationTimeout",
        "ConnectionManagerImpl::initializeReadFilterCallbacks",
    ),
];

/// What 1.1 says, and legate has no cause to.
const OF_1_1_ALONE: [&str; 1] = ["moving from delay to ready"];

/// A text that 1.1 and legate log, with `{}` for what differs.
struct Text {
    text: String,
    component: String,
    function: String,
    is_legates_own: bool,
}

impl Text {
    /// Whether it is a case of another one: `buffering 0 bytes` of `buffering {} bytes`.
    fn is_case_of(&self, other: &Text) -> bool {
        let Some((start, end)) = other.text.split_once("{}").filter(|_| other.text != self.text) else {
            return false;
        };
        let same_place = (&self.component, &self.function) == (&other.component, &other.function);
        same_place && self.text.starts_with(start) && self.text.ends_with(end)
    }
}

/// The first line of a text of the table, its holes without names.
pub(crate) fn without_names(text: &str) -> String {
    let mut out = String::new();
    let text = text.split('\n').next().unwrap_or_default();
    for (index, piece) in text.split("\\n").next().unwrap_or_default().split('{').enumerate() {
        match piece.split_once('}') {
            Some((_, after)) if index > 0 => out.push_str(&format!("{{}}{after}")),
            _ => out.push_str(piece),
        }
    }
    out
}

fn parse(table: &str) -> Vec<Text> {
    let mut texts = Vec::new();
    for line in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let cells: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let [stage, place, components, old, _new] = cells[..] else { panic!("{line}") };
        let old = if old == "@" {
            text_said_by(stage).unwrap_or_else(|| panic!("no stage {stage} has a text"))
        } else {
            old
        };
        if place == "none" || old == "-" {
            continue;
        }
        let named =
            |list: &[(&str, &str)]| list.iter().find(|(of, _)| *of == stage).map(|(_, f)| f.to_string());
        let own = named(&LEGATES_OWN);
        let method = || stage.split(' ').next().unwrap_or_default().to_string();
        texts.extend(old.split(" || ").map(|text| Text {
            text: without_names(text),
            component: components.split(',').next().unwrap_or_default().to_string(),
            function: own.clone().or_else(|| named(&OTHERWISE)).unwrap_or_else(method),
            is_legates_own: own.is_some(),
        }));
    }
    texts
}

/// All texts, without those that are a case of another one.
fn texts() -> Vec<Text> {
    let all = parse(TABLE);
    let is_case: Vec<bool> = all.iter().map(|text| all.iter().any(|other| text.is_case_of(other))).collect();
    all.into_iter().zip(is_case).filter(|(_, is_case)| !is_case).map(|(text, _)| text).collect()
}

/// Whether source logs a text that stands beside its stage.
fn logs_stage(source: &str, text: &str) -> bool {
    let is_text = |info: &&StageInfo| info.log.is_some_and(|log| without_names(log.text) == text);
    let calls = |info: &StageInfo| ["stage!({}(", "stage!(scope{}("].map(|call| call.replace("{}", info.id));
    let source: String = source.split_whitespace().collect();
    STAGES.iter().filter(is_text).flat_map(calls).any(|call| source.contains(&call))
}

/// Whether source says a text: as it is, or its pieces between the holes.
fn says(source: &str, text: &str) -> bool {
    if logs_stage(source, text) {
        return true;
    }
    // Those are put together by a function of their own from what it is given.
    let given = text
        .strip_suffix(" called: filter={} status={}")
        .or_else(|| text.strip_prefix("cm init: ")?.strip_suffix(": cluster={} primary={} secondary={}"));
    if let Some(given) = given {
        return source.contains(&format!("\"{given}\""));
    }
    // Some stand deeper, under what they belong to.
    let starts_with =
        |text: &str| (0..=6).step_by(2).any(|depth| source.contains(&format!("\"{:depth$}{text}", "")));
    let mut pieces = text.split("{}");
    match (pieces.next(), text.contains("{}")) {
        (Some(first), true) => starts_with(first) && pieces.all(|piece| source.contains(piece)),
        _ => starts_with(&format!("{text}\"")) || starts_with(&format!("{text}\\n")),
    }
}

/// The text of the functions that an item of the map stands for: from `fn` to the brace that is as deep.
fn body(source: &str, item: &str) -> String {
    let name = item.rsplit("::").next().unwrap_or_default().trim_end_matches("()");
    let mut out = String::new();
    let mut end = None;
    for line in source.lines() {
        let code = line.trim_start();
        let depth = line.len() - code.len();
        let starts = code.split_once("fn ").is_some_and(|(before, after)| {
            let is_head = before.is_empty() || before.starts_with("pub") || before.starts_with("const");
            let rest = after.strip_prefix(name);
            is_head && rest.is_some_and(|rest| rest.starts_with(['(', '<']))
        });
        if starts && end.is_none() {
            end = Some(format!("{:depth$}}}", ""));
        }
        if end.is_some() {
            out.push_str(line);
            out.push('\n');
        }
        if end.as_deref() == Some(line) {
            end = None;
        }
    }
    out
}

/// The places of a row whose code says a text, each with the items that do.
fn places_that_say<'a>(row: &'a Row, text: &str) -> Vec<(&'a str, Vec<&'a str>)> {
    let of_place = |place: &'a Place| {
        let source = fs::read_to_string(root().join("src").join(&place.file)).unwrap_or_default();
        let items = place.items.iter().map(String::as_str);
        (place.file.as_str(), items.filter(|item| says(&body(&source, item), text)).collect::<Vec<_>>())
    };
    row.places.iter().map(of_place).filter(|(_, items)| !items.is_empty()).collect()
}

fn has(row: &Row, text: &Text) -> bool {
    row.envoy_names.contains(&text.function) && row.logs.contains(&text.text)
}

#[test]
fn each_text_is_in_the_row_of_the_function_that_logs_it() {
    let rows = rows();
    let missing = texts().into_iter().filter(|text| !rows.iter().any(|row| has(row, text)));
    fail_if_any(missing.map(|t| format!("'{}' is in no row of {}", t.text, t.function)).collect());
}

#[test]
fn the_map_has_no_texts_that_its_functions_do_not_log() {
    let texts = texts();
    let mut problems = Vec::new();
    for row in rows() {
        for log in &row.logs {
            if !texts.iter().any(|text| text.text == *log && has(&row, text)) {
                problems.push(format!("line {}: '{log}' is no text of {:?}", row.line, row.envoy_names));
            } else if !OF_1_1_ALONE.contains(&log.as_str()) && places_that_say(&row, log).is_empty() {
                problems.push(format!("line {}: no item of the row says '{log}'", row.line));
            }
        }
    }
    fail_if_any(problems);
}

#[test]
fn envoys_files_say_the_texts() {
    let Some(checkout) = envoy_checkout() else {
        eprintln!("LEGATE_ENVOY_SOURCE is not set: Envoy's texts are not looked up");
        return;
    };
    let own: Vec<String> = texts().into_iter().filter(|t| t.is_legates_own).map(|t| t.text).collect();
    let mut problems = Vec::new();
    for row in rows() {
        let read = |path| fs::read_to_string(checkout.join(path)).unwrap_or_default();
        let source: String = row.envoy_files.iter().map(read).collect();
        // A string may go on in the next line, and a word may be given to it.
        let source = source.split('"').collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ");
        for log in row.logs.iter().filter(|log| !own.contains(log)) {
            let fixed = ["http ", "add active listener: "]
                .iter()
                .fold(log.clone(), |log, given| log.replace(given, ""));
            if !fixed.split("{}").all(|piece| source.contains(piece.trim())) {
                problems.push(format!("line {}: {:?} do not say '{log}'", row.line, row.envoy_files));
            }
        }
    }
    fail_if_any(problems);
}

const INDEX: &str = "| log | component | Envoy | legate | stage |\n|---|---|---|---|---|\n";

/// The short name of a section of the map.
fn label(section: &str) -> &str {
    let (label, _) = section.split_once(": ").filter(|(label, _)| label.len() < 9).unwrap_or((section, ""));
    label
}

/// The index: each text with its function, the code that logs it and the stages that it occurs in.
fn index(rows: &[Row]) -> String {
    let mut lines = BTreeMap::new();
    for text in texts() {
        let (mut code, mut stages) = (Vec::new(), Vec::new());
        for row in rows.iter().filter(|row| has(row, &text)) {
            for (file, items) in places_that_say(row, &text.text) {
                let items: Vec<String> = items.iter().map(|item| format!("`{item}`")).collect();
                code.push(format!("[`{file}`](../src/{file}) › {}", items.join(", ")));
            }
            stages.push(format!("[{}](#{})", label(&row.section), anchor(&row.section)));
        }
        if code.is_empty() {
            code.push("none".to_string());
        }
        code.dedup();
        stages.dedup();
        let function = if text.is_legates_own { "none".into() } else { format!("`{}`", text.function) };
        let key = (text.text.to_lowercase(), text.component.clone(), text.function.clone());
        let (code, stages) = (code.join("; "), stages.join(", "));
        lines.insert(
            key,
            format!("| `{}` | {} | {function} | {code} | {stages} |", text.text, text.component),
        );
    }
    lines.into_values().collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn the_index_leads_from_each_text_to_its_place() {
    let map = map_text();
    let (before, rest) = map.split_once(INDEX).expect("the index of texts");
    let (found, after) = rest.split_once("\n\n").expect("what follows the index");
    let wanted = index(&rows());
    if std::env::var_os("LEGATE_MAP_UPDATE").is_some() {
        fs::write(root().join("docs/map.md"), format!("{before}{INDEX}{wanted}\n{after}"))
            .expect("docs/map.md");
        return;
    }
    let is_other = |(a, b): &(&str, &str)| a != b;
    let first = found.lines().chain([""]).zip(wanted.lines().chain([""])).find(is_other);
    assert!(
        first.is_none(),
        "the index is not what the tables say (LEGATE_MAP_UPDATE=1 writes it): {first:?}"
    );
}

#[test]
fn texts_and_bodies_are_told_apart() {
    let table = "A::b | conn | x,y | a {n} b:\\n{h} || c | =\nA::b end | conn | x | a 0 b: | -\nC::d | none | x | z | =";
    let all = parse(table);
    let brief: Vec<_> =
        all.iter().map(|t| (t.text.as_str(), t.component.as_str(), t.function.as_str())).collect();
    assert_eq!(brief, [("a {} b:", "x", "A::b"), ("c", "x", "A::b"), ("a 0 b:", "x", "A::b")]);
    assert!(all[2].is_case_of(&all[0]) && !all[0].is_case_of(&all[2]) && !all[1].is_case_of(&all[0]));
    let source = "impl A {\n    pub(super) fn b(&self) {\n        log!(\"  said {} so\");\n    }\n    fn bc() {\n        log!(\"c\");\n    }\n}\n";
    assert!(says(&body(source, "A::b"), "said {} so") && !says(&body(source, "A::b"), "c"));
    assert!(says(&body(source, "bc()"), "c") && !says(source, "said"));
    assert!(!says(source, "aid {} so") && !says(source, "said {} not"));
}
