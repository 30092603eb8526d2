//! The error every reader of configuration returns: the full path of the field
//! and what is wrong with it.
//!
//! Envoy has no single counterpart: its texts come from the protobuf JSON
//! parser, protoc-gen-validate and the code that builds each object. legate
//! says the same things in one form.

use std::fmt;

/// Why a configuration was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    path: String,
    message: String,
}

impl ConfigError {
    /// An error about the field at `path`, for example
    /// `static_resources.clusters[0].name`. An empty path means the whole
    /// document.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }

    /// An error about the document as a whole.
    pub fn document(message: impl Into<String>) -> Self {
        Self::new("", message)
    }

    /// Full path of the field; empty when the document itself is at fault.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is wrong, without the path.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_comes_first_and_is_left_out_for_the_document() {
        assert_eq!(ConfigError::new("a.b[0]", "bad").to_string(), "a.b[0]: bad");
        assert_eq!(ConfigError::document("bad").to_string(), "bad");
    }
}
