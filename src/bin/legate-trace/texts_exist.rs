//! Whether the table of texts is true: each text is in Envoy's binary, and in legate's sources.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use legate::trace::STAGES;

use crate::command_line::Proxies;
use crate::stage_texts::{Dialect, StageTexts};

/// What Envoy of istio 1.1 says, and legate has no cause to.
const OF_1_1_ALONE: [&str; 1] = ["moving from delay to ready"];
/// What the system says, a filter's name, or a number that stands for something, in the place of a hole.
const FILLED: [(&str, &str); 7] = [
    ("moving to {}", "moving to ready"),
    ("cm init: adding: ", "cm init: {}: "),
    ("cm init: init complete: ", "cm init: {}: "),
    ("buffering 0 bytes", "buffering {} bytes"),
    ("error: Resource temporarily unavailable, code: {}", "error: {}, code: {}"),
    ("error: Resource temporarily unavailable{}", "error: {}"),
    ("filter=envoy.filters.http.upstream_codec", "filter={}"),
];

/// The same, in Envoy 1.40 alone.
const FILLED_IN_ENVOY: [(&str, &str); 4] = [
    ("initializing Primary cluster", "initializing {} cluster"),
    ("initializing Secondary cluster", "initializing {} cluster"),
    ("http filter #{}", "    {} filter #{}"),
    ("add active listener: name", "{}: name"),
];

/// A text with all its holes empty, up to the end of its first line.
fn as_format(text: &str) -> String {
    let mut out = String::new();
    for (index, piece) in text.lines().next().unwrap_or_default().split('{').enumerate() {
        match piece.split_once('}') {
            Some((_, after)) if index > 0 => {
                out.push_str("{}");
                out.push_str(after);
            }
            _ => out.push_str(piece),
        }
    }
    for (filled, empty) in FILLED {
        out = out.replace(filled, empty);
    }
    out
}

/// Whether one of the strings is that format, or has all of its pieces.
fn is_among(strings: &HashSet<&str>, format: &str) -> bool {
    let pieces: Vec<&str> = format.split("{}").filter(|piece| piece.trim().len() > 2).collect();
    let has_all = |text: &&str| pieces.iter().all(|piece| text.contains(piece));
    strings.contains(format) || (!pieces.is_empty() && strings.iter().any(has_all))
}

fn texts_of(dialect: Dialect) -> Vec<String> {
    let texts = StageTexts::built_in().unwrap();
    texts.rows().iter().flat_map(|row| row.texts(dialect).map(str::to_string).collect::<Vec<_>>()).collect()
}

fn envoy() -> Option<PathBuf> {
    let found = Proxies::default().envoy().ok()?;
    // What is in PATH may be a script that starts the binary.
    let is_binary = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|m| m.len() > 1 << 20);
    Some(found).filter(is_binary)
}

#[test]
fn envoys_texts_are_in_its_binary() {
    let Some(envoy) = envoy() else {
        eprintln!("SKIPPED: there is no Envoy to look into");
        return;
    };
    let bytes = std::fs::read(envoy).unwrap();
    // Only what could be a message: the binary has millions of other strings.
    let is_message =
        |text: &&str| text.len() < 200 && (text.contains(' ') || text.contains("{}") || text.len() > 5);
    let strings: HashSet<&str> = bytes
        .split(|byte| !(0x20..0x7f).contains(byte))
        .filter(|string| string.len() > 3)
        .filter_map(|string| std::str::from_utf8(string).ok())
        .map(|text| text.strip_prefix("{}").unwrap_or(text))
        .filter(is_message)
        .collect();
    let of_envoy = |text: &str| {
        let fill = |text: String, (filled, empty): &(&str, &str)| text.replace(filled, empty);
        FILLED_IN_ENVOY.iter().fold(as_format(text), fill)
    };
    let missing: Vec<String> =
        texts_of(Dialect::V1_40).into_iter().filter(|text| !is_among(&strings, &of_envoy(text))).collect();
    assert!(missing.is_empty(), "Envoy does not say {missing:#?}");
}

#[test]
fn legates_texts_are_in_its_sources() {
    let mut sources = String::new();
    read_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut sources);
    let sources = sources.replace("{:p}", "{}");
    let is_told = |text: &String| STAGES.iter().any(|stage| stage.log.is_some_and(|log| log.text == text));
    let is_said = |text: &String| {
        let format = as_format(text);
        // What filters are called with is put together from two pieces.
        let call = format
            .split_once(" called: ")
            .map(|(call, rest)| (format!("\"{call}\""), format!("\"{{}} called: {rest}\"")));
        // Some stand deeper, under what they belong to.
        ["\"", "\"  ", "\"    ", "\"      "].iter().any(|start| sources.contains(&format!("{start}{format}")))
            || call.is_some_and(|(call, rest)| sources.contains(&call) && sources.contains(&rest))
            || OF_1_1_ALONE.contains(&format.as_str())
            || is_told(text)
    };
    let missing: Vec<String> = texts_of(Dialect::V1_1).into_iter().filter(|text| !is_said(text)).collect();
    assert!(missing.is_empty(), "legate does not say {missing:#?}");
}

fn read_sources(folder: &Path, out: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap().filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            if entry.file_name() != "bin" {
                read_sources(&path, out);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}
