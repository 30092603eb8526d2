//! [`FileSink`]: the file of `--log-path` (Envoy's `FileSinkDelegate`).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A file that is appended to and can be reopened. Clones write to the same file.
#[derive(Clone)]
pub(super) struct FileSink {
    path: Arc<Path>,
    file: Arc<Mutex<File>>,
}

impl FileSink {
    /// Creates the file if it is not there.
    pub(super) fn open(path: PathBuf) -> Result<Self, String> {
        let file = append_to(&path)?;
        Ok(FileSink { path: path.into(), file: Arc::new(Mutex::new(file)) })
    }

    /// Opens the path anew; on failure the old file stays in use.
    pub(super) fn reopen(&self) -> Result<(), String> {
        *self.file() = append_to(&self.path)?;
        Ok(())
    }

    fn file(&self) -> MutexGuard<'_, File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lines come in one piece each, and are passed on so.
impl Write for FileSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn append_to(path: &Path) -> Result<File, String> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(|error| format!("Failed to open log-file '{}': {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::TempDir;
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_appended_to() {
        let dir = TempDir::new("append");
        fs::write(dir.join("log"), "old\n").unwrap();
        FileSink::open(dir.join("log")).unwrap().write_all(b"new\n").unwrap();
        assert_eq!(fs::read_to_string(dir.join("log")).unwrap(), "old\nnew\n");
    }

    #[test]
    fn a_reopened_file_is_a_new_one() {
        let dir = TempDir::new("reopen");
        let mut sink = FileSink::open(dir.join("log")).unwrap();
        sink.write_all(b"1").unwrap();
        fs::rename(dir.join("log"), dir.join("log.1")).unwrap();
        sink.write_all(b"2").unwrap();
        sink.clone().reopen().unwrap();
        sink.write_all(b"3").unwrap();
        assert_eq!(fs::read_to_string(dir.join("log.1")).unwrap(), "12");
        assert_eq!(fs::read_to_string(dir.join("log")).unwrap(), "3");
    }

    #[test]
    fn a_failed_reopen_keeps_the_old_file() {
        let dir = TempDir::new("keep");
        fs::create_dir(dir.join("sub")).unwrap();
        let mut sink = FileSink::open(dir.join("sub/log")).unwrap();
        fs::rename(dir.join("sub"), dir.join("moved")).unwrap();
        let error = sink.reopen().unwrap_err();
        assert!(error.contains("sub/log': No such file"), "{error}");
        sink.write_all(b"still").unwrap();
        assert_eq!(fs::read_to_string(dir.join("moved/log")).unwrap(), "still");
    }
}
