//! Where settings come from. Mirrors the layers of Envoy's `source/common/runtime/runtime_impl.cc`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Map, Value};

use super::entry::Entry;
use crate::envoy_log;

/// Folders in folders are read so far.
const MAX_WALK_DEPTH: usize = 16;

/// The settings of a layer.
#[derive(Debug, Default)]
pub struct OverrideLayer {
    /// Its name in the configuration.
    pub name: String,
    /// What it says, by key.
    pub values: BTreeMap<String, Entry>,
}

impl OverrideLayer {
    /// A layer of the configuration, whose keys are flat.
    pub fn of_static(name: &str, values: &Map<String, Value>) -> Self {
        let values = values.iter().map(|(key, value)| (key.clone(), Entry::of_value(value)));
        OverrideLayer { name: name.to_string(), values: values.collect() }
    }

    /// A layer of text, as the admin gives it.
    pub fn of_texts(name: &str, values: &BTreeMap<String, String>) -> Self {
        let values = values.iter().map(|(key, text)| (key.clone(), Entry::of_text(text)));
        OverrideLayer { name: name.to_string(), values: values.collect() }
    }

    /// A layer of files: a file's place below `path` is its key, with dots.
    ///
    /// # Errors
    /// Something cannot be read, or lies too deep.
    pub fn of_disk(name: &str, path: &Path) -> io::Result<Self> {
        let mut layer = OverrideLayer { name: name.to_string(), ..OverrideLayer::default() };
        layer.walk(path, "", 1)?;
        Ok(layer)
    }

    fn walk(&mut self, path: &Path, prefix: &str, depth: usize) -> io::Result<()> {
        envoy_log!(Runtime, debug, "walking directory: {}", path.display());
        if depth > MAX_WALK_DEPTH {
            return Err(io::Error::other(format!("Walk recursion depth exceeded {MAX_WALK_DEPTH}")));
        }
        for entry in fs::read_dir(path)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let key = if prefix.is_empty() { name.to_string() } else { format!("{prefix}.{name}") };
            if path.is_dir() {
                self.walk(&path, &key, depth + 1)?;
            } else if path.is_file() {
                envoy_log!(Runtime, debug, "reading file: {}", path.display());
                let text = fs::read(&path)?;
                self.values.insert(key, Entry::of_text(&value_of(&String::from_utf8_lossy(&text))));
            }
        }
        Ok(())
    }
}

/// The value in a file: lines that begin with `#` are comments.
fn value_of(text: &str) -> String {
    let lines: Vec<&str> = text.split('\n').filter(|line| !line.starts_with('#')).collect();
    lines.join("\n").trim_end_matches(|c: char| c.is_ascii_whitespace()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::test_folder::Folder;

    #[test]
    fn files_are_read_as_envoy_reads_them() {
        let folder = Folder::new();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("sub")).unwrap();
        for (name, text) in [
            ("plain", "hello"),
            (".hidden", ".x"),
            ("sub/num", "12\n"),
            ("sub/multi", "# comment\n 33  \nsecond\n\n"),
        ] {
            fs::write(path(name), text).unwrap();
        }
        let layer = OverrideLayer::of_disk("disk", folder.path()).unwrap();
        let texts: Vec<(&str, &str)> =
            layer.values.iter().map(|(key, entry)| (&**key, &*entry.raw_string_value)).collect();
        let expected =
            [(".hidden", ".x"), ("plain", "hello"), ("sub.multi", " 33  \nsecond"), ("sub.num", "12")];
        assert_eq!(texts, expected);
        assert_eq!(layer.values["sub.num"].uint_value, Some(12));
    }

    #[test]
    fn what_lies_too_deep_is_refused() {
        let folder = Folder::new();
        let deep = folder.path().join("a/".repeat(MAX_WALK_DEPTH));
        fs::create_dir_all(&deep).unwrap();
        let error = OverrideLayer::of_disk("disk", folder.path()).unwrap_err();
        assert_eq!(error.to_string(), "Walk recursion depth exceeded 16");
        fs::remove_dir(&deep).unwrap();
        assert!(OverrideLayer::of_disk("disk", folder.path()).is_ok());
    }
}
