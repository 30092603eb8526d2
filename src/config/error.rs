//! The errors of every reader of configuration: the full path of the field and
//! what is wrong with it.
//!
//! Envoy has no single counterpart: its texts come from the protobuf JSON
//! parser, protoc-gen-validate and the code that builds each object. legate
//! says the same things in one form. Envoy stops at the first error; here all
//! that a document has are found in one reading.

use std::fmt;

/// What an error is about. It decides what else of a message is worth a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A field that is unknown or not supported yet, or a value that is not.
    Field,
    /// A wrong value.
    Value,
    /// What is wrong has been noted; this only says that there is no result.
    Noted,
}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    path: String,
    message: String,
    kind: Kind,
}

impl ConfigError {
    /// An error about the field at `path`, for example
    /// `static_resources.clusters[0].name`. An empty path means the whole
    /// document.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), kind: Kind::Value }
    }

    /// An error about the document as a whole.
    pub fn document(message: impl Into<String>) -> Self {
        Self::new("", message)
    }

    /// The same error, seen from the message that has this one at `place`.
    pub fn within(self, place: &str) -> Self {
        let path = match self.path.as_str() {
            "" => place.to_string(),
            path if path.starts_with('[') => format!("{place}{path}"),
            path => format!("{place}.{path}"),
        };
        Self { path, ..self }
    }

    pub(super) fn of_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
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

/// Everything that is wrong with a configuration, at least one error. It prints as the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// `None` when nothing is wrong. Fields come first, as what else is wrong may follow from them.
    pub(super) fn of(mut errors: Vec<ConfigError>) -> Option<Self> {
        errors.sort_by_key(|error| error.kind != Kind::Field);
        Some(errors).filter(|errors| !errors.is_empty()).map(Self)
    }

    /// The one to mend first.
    pub fn first(&self) -> &ConfigError {
        &self.0[0]
    }

    /// All of them.
    pub fn all(&self) -> &[ConfigError] {
        &self.0
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first().fmt(f)
    }
}

impl std::error::Error for ConfigErrors {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_comes_first_and_is_left_out_for_the_document() {
        assert_eq!(ConfigError::new("a.b[0]", "bad").to_string(), "a.b[0]: bad");
        assert_eq!(ConfigError::document("bad").to_string(), "bad");
    }

    #[test]
    fn a_path_grows_from_its_end() {
        let error = ConfigError::document("bad").within("name").within("[1]").within("filters");
        assert_eq!(error.to_string(), "filters[1].name: bad");
    }

    #[test]
    fn fields_come_before_values() {
        assert_eq!(ConfigErrors::of(Vec::new()), None);
        let field = |path: &str| ConfigError::new(path, "unknown field").of_kind(Kind::Field);
        let errors = vec![ConfigError::new("v", "bad"), field("b"), field("a")];
        let errors = ConfigErrors::of(errors).unwrap();
        assert_eq!(errors.to_string(), "b: unknown field");
        let paths: Vec<_> = errors.all().iter().map(ConfigError::path).collect();
        assert_eq!(paths, ["b", "a", "v"]);
    }
}
