//! Holds `docs/map.md` against the source: what it names exists, and what mirrors Envoy is in it.
//!
//! With `LEGATE_ENVOY_SOURCE` set to a checkout of Envoy (istio's branch `release-1.1`), Envoy's files and
//! names are looked up there too.

#[path = "map/logs.rs"]
mod logs;
#[path = "map/rust_source.rs"]
mod rust_source;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use rust_source::RustSource;

/// The tables that have rows; those of stages that log something have a column for it.
const HEADERS: [&str; 2] =
    ["| Envoy | Envoy file | legate | difference |", "| Envoy | Envoy file | legate | log | difference |"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn map_text() -> String {
    fs::read_to_string(root().join("docs/map.md")).expect("docs/map.md")
}

/// A file under `src/` and the items that the map names in it.
struct Place {
    file: String,
    items: Vec<String>,
}

#[derive(Default)]
struct Row {
    line: usize,
    /// The heading that it stands below.
    section: String,
    text: String,
    envoy_names: Vec<String>,
    envoy_files: Vec<String>,
    places: Vec<Place>,
    logs: Vec<String>,
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_string).collect()
}

/// `` [`file`](../src/file) › `item`, `item`; [`file`](../src/file) `` or `none`.
fn parse_places(cell: &str) -> Result<Vec<Place>, String> {
    if cell == "none" {
        return Ok(Vec::new());
    }
    cell.split("; ")
        .map(|part| {
            let (link, items) = part.split_once(" › ").unwrap_or((part, ""));
            let [file] = &quoted(link)[..] else { return Err(format!("not one file: {part}")) };
            if link != format!("[`{file}`](../src/{file})") {
                return Err(format!("no link to the file: {part}"));
            }
            if !file.ends_with(".rs") {
                return Err(format!("not a Rust file: {file}"));
            }
            let names = quoted(items);
            let rebuilt: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            if rebuilt.join(", ") != items {
                return Err(format!("not a list of items: {items}"));
            }
            Ok(Place { file: file.clone(), items: names })
        })
        .collect()
}

fn parse_row(line: usize, text: &str) -> Result<Row, String> {
    let cells: Vec<&str> = text.trim_matches('|').split('|').map(str::trim).collect();
    let (envoy, files, places, logs) = match cells[..] {
        [envoy, files, places, _difference] => (envoy, files, places, ""),
        [envoy, files, places, logs, _difference] => (envoy, files, places, logs),
        _ => return Err(format!("line {line}: {} cells", cells.len())),
    };
    let (envoy_names, envoy_files) = (quoted(envoy), quoted(files));
    if envoy_names.is_empty() || envoy_files.is_empty() {
        return Err(format!("line {line}: no name or no file of Envoy"));
    }
    let places = parse_places(places).map_err(|error| format!("line {line}: {error}"))?;
    let logs = quoted(logs);
    Ok(Row { line, text: text.to_string(), envoy_names, envoy_files, places, logs, ..Row::default() })
}

fn parse_rows(text: &str) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    let (mut in_table, mut section) = (false, "");
    for (index, line) in text.lines().enumerate() {
        if let Some((_, heading)) = line.split_once("## ").filter(|_| line.starts_with('#')) {
            section = heading;
        }
        if HEADERS.contains(&line) {
            in_table = true;
        } else if !line.starts_with('|') {
            in_table = false;
        } else if in_table && !line.starts_with("|---") {
            rows.push(Row { section: section.to_string(), ..parse_row(index + 1, line)? });
        }
    }
    Ok(rows)
}

/// What leads to a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.chars().filter(kept).collect::<String>().to_ascii_lowercase().replace(' ', "-")
}

fn rows() -> Vec<Row> {
    parse_rows(&map_text()).unwrap_or_else(|error| panic!("docs/map.md: {error}"))
}

fn fail_if_any(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// The lines of a module's own description, joined.
fn module_header(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}

fn source_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("folder under src") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            source_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Every file under `src/`, by its path from there, with its module description.
fn headers() -> Vec<(String, String)> {
    let src = root().join("src");
    let mut files = Vec::new();
    source_files(&src, &mut files);
    assert!(files.len() > 50, "src/ was not found");
    let described = files.iter().map(|path| {
        let name = path.strip_prefix(&src).expect("below src").to_string_lossy().into_owned();
        (name, module_header(&fs::read_to_string(path).expect("source file")))
    });
    described.collect()
}

/// Paths of Envoy that a module's description names; `name.*` stands for both of its files.
fn envoy_paths(header: &str) -> Vec<String> {
    let paths = quoted(header).into_iter().filter(|p| p.starts_with("source/") || p.starts_with("include/"));
    paths.map(|path| path.trim_end_matches('*').to_string()).collect()
}

fn mirrors_envoy(header: &str) -> bool {
    header.contains("Mirrors") || !envoy_paths(header).is_empty()
}

fn is_well_formed(path: &str, may_be_folder: bool) -> bool {
    let starts = path.starts_with("source/") || path.starts_with("include/envoy/");
    let plain = path.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_/.".contains(c));
    let folder = path.ends_with('/');
    let parts_exist = path.trim_end_matches('/').split('/').all(|part| !part.is_empty() && part != "..");
    let file = path.ends_with(".cc") || path.ends_with(".h");
    starts && plain && parts_exist && (file || (may_be_folder && folder))
}

/// The checkout of Envoy to look things up in, if there is one.
fn envoy_checkout() -> Option<PathBuf> {
    let checkout = PathBuf::from(std::env::var_os("LEGATE_ENVOY_SOURCE")?);
    assert!(checkout.join("source/common").is_dir(), "no Envoy in {}", checkout.display());
    Some(checkout)
}

#[test]
fn the_map_has_rows_for_every_stage() {
    let text = map_text();
    for stage in 0..=7 {
        let heading = format!("\n## Stage {stage}: ");
        let section = text.split(&heading).nth(1).unwrap_or_else(|| panic!("no stage {stage}"));
        let section = section.split("\n## ").next().unwrap_or_default();
        let rows = parse_rows(section).unwrap_or_else(|error| panic!("stage {stage}: {error}"));
        assert!(!rows.is_empty(), "stage {stage} has no rows");
    }
}

#[test]
fn the_contents_lead_to_every_heading() {
    let text = map_text();
    let headings =
        text.lines().filter_map(|line| Some(line.split_once("## ")?.1).filter(|_| line.starts_with('#')));
    let contents: Vec<String> =
        headings.map(|heading| format!("- [{heading}](#{})", anchor(heading))).collect();
    let listed: Vec<&str> = text.lines().map(str::trim).filter(|line| line.starts_with("- [")).collect();
    assert_eq!(listed, contents);
}

#[test]
fn every_file_exists() {
    let mut problems = Vec::new();
    for row in rows() {
        for place in &row.places {
            if !root().join("src").join(&place.file).is_file() {
                problems.push(format!("line {}: no file src/{}", row.line, place.file));
            }
        }
    }
    fail_if_any(problems);
}

#[test]
fn every_item_is_in_its_file() {
    let mut sources: HashMap<String, RustSource> = HashMap::new();
    let mut problems = Vec::new();
    for row in rows() {
        for place in row.places {
            let source = sources.entry(place.file.clone()).or_insert_with(|| {
                RustSource::parse(
                    &fs::read_to_string(root().join("src").join(&place.file)).unwrap_or_default(),
                )
            });
            for item in place.items.iter().filter(|item| !source.has(item)) {
                problems.push(format!("line {}: no {item} in src/{}", row.line, place.file));
            }
        }
    }
    fail_if_any(problems);
}

#[test]
fn every_file_that_mirrors_envoy_is_in_the_map() {
    let named: HashSet<String> = rows().into_iter().flat_map(|r| r.places).map(|p| p.file).collect();
    let mirrors: Vec<String> =
        headers().into_iter().filter(|(_, header)| mirrors_envoy(header)).map(|(file, _)| file).collect();
    assert!(mirrors.len() > 50, "module descriptions were not read");
    fail_if_any(mirrors.into_iter().filter(|file| !named.contains(file)).collect());
}

#[test]
fn the_map_agrees_with_what_the_files_say_they_mirror() {
    let rows = rows();
    let mut problems = Vec::new();
    for (file, header) in headers() {
        let of_file: Vec<&Row> = rows.iter().filter(|r| r.places.iter().any(|p| p.file == file)).collect();
        for path in envoy_paths(&header) {
            if !of_file.iter().any(|row| row.text.contains(&format!("`{path}"))) {
                problems.push(format!("src/{file} says {path}, no row for it does"));
            }
        }
    }
    fail_if_any(problems);
}

/// What the recorder has and 1.1 has not: today's timeouts, and the lengths of a pool's lists and the loop's own.
const OF_NO_1_1: [&str; 8] = [
    "ActiveClient::onConnectionDurationTimeout",
    "ActiveStream::onRequestHeaderTimeout",
    "ActiveStream::onStreamMaxDurationReached",
    "ConnectionManagerImpl::onConnectionDurationTimeout",
    "UpstreamRequest::onStreamMaxDurationReached",
    "callback",
    "lists",
    "pass",
];

/// The row of the map that a stage should have.
fn row_of(stage: &legate::trace::StageInfo) -> String {
    let name = stage.name.split(' ').next().unwrap_or_default();
    let file = stage.legate_file.trim_start_matches("src/");
    let log = stage.log.map(|log| format!("`{}`", logs::without_names(log.text))).unwrap_or_default();
    let item = rust_name(name);
    format!("| `{name}` | `{}` | [`{file}`](../src/{file}) › `{item}` | {log} |  |", stage.envoy_file)
}

/// A method's name in Rust's spelling.
fn rust_name(method: &str) -> String {
    let (class, method) = method.split_once("::").unwrap_or(("", method));
    let mut out = String::new();
    for c in method.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    match method {
        _ if method == class => format!("{class}::new"),
        _ if method.starts_with('~') => format!("{class}::drop"),
        _ => format!("{class}::{out}"),
    }
}

#[test]
fn a_stage_makes_a_row() {
    let of = |id: &str| row_of(legate::trace::STAGES.iter().find(|stage| stage.id == id).expect("a stage"));
    let file = "network/connection.rs";
    let wanted = format!(
        "| `ConnectionImpl::write` | `source/common/network/connection_impl.cc` | [`{file}`](../src/{file}) › \
         `ConnectionImpl::write` | `writing {{}} bytes, end_stream {{}}` |  |"
    );
    assert_eq!(of("Write"), wanted);
    assert!(of("ActiveStreamGoes").contains(" › `ActiveStream::drop` |"));
    assert!(of("OnReadReady").contains(" › `ConnectionImpl::on_read_ready` |"));
    assert!(parse_row(1, &wanted).is_ok());
}

#[test]
fn each_stage_of_the_recorder_is_in_the_map() {
    let rows = rows();
    let is_missing = |stage: &&legate::trace::StageInfo| {
        let name = stage.name.split(' ').next().unwrap_or_default();
        let has = |list: &[String], one: &str| list.iter().any(|n| n == one);
        let is_it = |row: &Row| has(&row.envoy_names, name) && has(&row.envoy_files, stage.envoy_file);
        !OF_NO_1_1.contains(&name) && !rows.iter().any(is_it)
    };
    let missing = legate::trace::STAGES.iter().filter(is_missing);
    fail_if_any(missing.map(row_of).collect());
}

#[test]
fn envoy_paths_are_well_formed() {
    let mut problems = Vec::new();
    for row in rows() {
        for path in row.envoy_files.iter().filter(|path| !is_well_formed(path, false)) {
            problems.push(format!("line {}: {path}", row.line));
        }
    }
    let everywhere: BTreeSet<String> = map_text().lines().flat_map(quoted).collect();
    let paths = everywhere.into_iter().filter(|p| p.starts_with("source/") || p.starts_with("include/"));
    problems.extend(paths.filter(|path| !is_well_formed(path, true)));
    fail_if_any(problems);
}

#[test]
fn envoy_has_the_files_and_the_names() {
    let Some(checkout) = envoy_checkout() else {
        eprintln!("LEGATE_ENVOY_SOURCE is not set: Envoy's files are not looked up");
        return;
    };
    let mut problems = Vec::new();
    for row in rows() {
        let mut words = HashSet::new();
        for path in &row.envoy_files {
            match fs::read_to_string(checkout.join(path)) {
                Ok(text) => words.extend(cpp_words(&text)),
                Err(error) => problems.push(format!("line {}: {path}: {error}", row.line)),
            }
        }
        for name in &row.envoy_names {
            if !name.split("::").all(|part| words.contains(part)) {
                problems.push(format!("line {}: no {name} in {}", row.line, row.envoy_files.join(", ")));
            }
        }
    }
    let text = map_text();
    let (_, missing) = text.split_once("\n## Not there yet").expect("the last section");
    for path in missing.lines().flat_map(quoted).filter(|p| is_well_formed(p, true)) {
        if !checkout.join(&path).exists() {
            problems.push(format!("not there yet: no {path}"));
        }
    }
    fail_if_any(problems);
}

/// The identifiers of C++ source; a destructor's has its tilde. Comments count: it is only a check of spelling.
fn cpp_words(text: &str) -> HashSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '~';
    text.split(|c| !is_word(c)).filter(|word| !word.is_empty()).map(str::to_string).collect()
}

#[test]
fn the_parser_of_rows_refuses_what_it_does_not_know() {
    let (a, d) = ("[`a.rs`](../src/a.rs)", "[`d.rs`](../src/d.rs)");
    assert!(parse_places(&format!("{a} › `A::b`, `c()`; {d}")).is_ok_and(|places| places.len() == 2));
    assert!(parse_places("none").is_ok_and(|places| places.is_empty()));
    for bad in ["[`a`](../src/a)", "@ > `A::b`", "@ › `A::b` `C`", "a.rs", "`a.rs`", "@ › A::b", ""] {
        assert!(parse_places(&bad.replace('@', a)).is_err(), "{bad}");
    }
    assert!(parse_places("[`a.rs`](../src/d.rs)").is_err());
    assert!(parse_row(1, "| `A` | `source/a.cc` | none |").is_err());
    assert!(parse_row(1, "| A | `source/a.cc` | none | |").is_err());
}
