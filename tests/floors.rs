//! Holds the imports of `src/` against the layout that README shows: they point down only.
//!
//! The names in the layout's first column, row after row and from left to right, are the floors from the ground up. A
//! room may name rooms of its own floor and of those below. A floor that is not in the table fails as well.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The folders of `src/`, the lowest first. A row names the first of its folders with `src/`, the others without.
fn floors(readme: &str) -> Vec<String> {
    readme
        .lines()
        .filter(|line| line.starts_with("| `src/") && !line.starts_with("| `src/bin"))
        .filter_map(|line| line.split('|').nth(1))
        .flat_map(quoted)
        .map(|name| name.trim_start_matches("src/").to_string())
        .collect()
}

/// A source file, as its path below `src/`, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The floor that the file belongs to: its folder, or its own name. `None` for the roots of crates.
    fn floor(&self) -> Option<&str> {
        let first = self.path.split('/').next().unwrap_or_default();
        match first.strip_suffix(".rs") {
            Some("lib" | "main") => None,
            own => Some(own.unwrap_or(first)),
        }
    }
}

fn sources(folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path: PathBuf = entry.expect("its entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let below = path.strip_prefix(root().join("src")).expect("below src").display().to_string();
            found.push(Source { path: below, text: fs::read_to_string(&path).expect("a source") });
        }
    }
}

/// Everything that the library is made of; its tools use it from outside.
fn library() -> Vec<Source> {
    let mut found = Vec::new();
    sources(&root().join("src"), &mut found);
    found.retain(|source| source.floor().is_some_and(|floor| floor != "bin"));
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// The code of a line, without what is said about it. (No path stands behind `//` in a string.)
fn code(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

/// The names that follow `crate::`, with the numbers of their lines; `crate::{a::x, b}` names two.
fn named(text: &str) -> Vec<(usize, String)> {
    let text: String = text.lines().map(code).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let line = text[..at].matches('\n').count() + 1;
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => found.push((line, word(rest))),
            Some(group) => found.extend(outermost(group).into_iter().map(|name| (line, name))),
        }
    }
    found
}

fn word(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first word of each member of a group of imports, whose opening brace has been taken.
fn outermost(group: &str) -> Vec<String> {
    let (mut depth, mut names) = (0, vec![word(group)]);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(word(&group[at + 1..])),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The floors of the macros, which are named as if they stood at the root of the crate.
fn macros(library: &[Source]) -> HashMap<String, String> {
    let mut found = HashMap::new();
    for source in library {
        for (at, pattern) in source.text.match_indices("macro_rules! ") {
            let name = word(&source.text[at + pattern.len()..]);
            found.insert(name, source.floor().expect("a floor").to_string());
        }
    }
    found
}

/// What is wrong with the imports of `library`, where the floors are `floors`.
fn arrows_up(library: &[Source], floors: &[String]) -> Vec<String> {
    let macros = macros(library);
    let height = |floor: &str| floors.iter().position(|f| f == floor);
    let mut wrong = BTreeSet::new();
    for source in library {
        let own = source.floor().expect("a floor");
        let Some(from) = height(own) else {
            wrong.insert(format!("`{own}` is not in README's layout"));
            continue;
        };
        for (line, name) in named(&source.text) {
            let target = macros.get(&name).unwrap_or(&name);
            let place = format!("src/{}:{line}", source.path);
            match height(target) {
                None => drop(wrong.insert(format!("{place}: `{name}` is on no floor of README's layout"))),
                Some(to) if to > from => {
                    wrong.insert(format!("{place}: `{own}` names `{name}`, which lies above it"));
                }
                Some(_) => {}
            }
        }
    }
    wrong.into_iter().collect()
}

#[test]
fn imports_point_down_only() {
    let floors = floors(&fs::read_to_string(root().join("README.md")).expect("README.md"));
    let wrong = arrows_up(&library(), &floors);
    assert!(wrong.is_empty(), "{}\nThe floors: {}", wrong.join("\n"), floors.join(" < "));
}

#[test]
fn every_floor_of_the_layout_exists_once() {
    let floors = floors(&fs::read_to_string(root().join("README.md")).expect("README.md"));
    for floor in &floors {
        assert!(root().join("src").join(floor).is_dir(), "src/{floor} is no folder");
        assert_eq!(floors.iter().filter(|f| *f == floor).count(), 1, "{floor} is listed once");
    }
    assert!(floors.len() > 10, "{floors:?}");
}

#[test]
fn an_arrow_up_is_seen_however_it_is_written() {
    let floors = ["ground", "middle", "top"].map(str::to_string);
    let judge = |path: &str, text: &str| {
        let texts = [
            Source { path: "top/macros.rs".into(), text: "macro_rules! shout { () => {}; }".into() },
            Source { path: path.into(), text: text.into() },
        ];
        arrows_up(&texts, &floors).len()
    };
    for up in [
        "use crate::top::Thing;",
        "fn f() { crate::top::f() }",
        "use crate::{\n    ground::{a, b}, middle::c,\n    top,\n};",
        "use crate::{shout};",
        "crate::shout!();",
        "pub(in crate::top) struct X;",
        "macro_rules! m { () => { $crate::top::f() }; }",
    ] {
        assert_eq!(judge("middle/a.rs", up), 1, "{up}");
        assert_eq!(judge("top/a.rs", up), 0, "{up}");
    }
    assert_eq!(judge("middle/a.rs", "use crate::ground::x; use crate::middle::y; // crate::top"), 0);
    assert_eq!(judge("middle.rs", "use crate::top::x;"), 1, "a floor may be one file");
    assert_eq!(judge("middle/a.rs", "use crate::cellar::x;"), 1, "a name on no floor");
    assert_eq!(judge("attic/a.rs", ""), 1, "a file on no floor");
}
