//! [`ParseContext`]: what all readers of one document share, above all the errors found so far.

use super::descriptor::Api;
use super::error::{ConfigError, ConfigErrors, Kind};
use super::extension::Extensions;
use std::cell::RefCell;

/// What to do with a field (or enum name) the API structs here do not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UnknownFields {
    /// Refuse the configuration: the default.
    #[default]
    Reject,
    /// Skip it and remember its path: `--allow-unknown-static-fields`. Fields that
    /// are known but not supported yet stay errors.
    Allow,
}

/// A place that names a cluster, which has to exist.
#[derive(Debug)]
pub(super) struct ClusterNamed {
    /// The full path.
    pub path: String,
    /// Who names it, for the error.
    pub by: &'static str,
    /// The cluster's name.
    pub cluster: String,
}

/// What all readers of one document share.
#[derive(Debug)]
pub struct ParseContext {
    api: Api,
    unknown: UnknownFields,
    extensions: &'static dyn Extensions,
    clusters_named: RefCell<Vec<ClusterNamed>>,
    skipped: RefCell<Vec<String>>,
    errors: RefCell<Vec<ConfigError>>,
}

impl ParseContext {
    /// A context for one document, which may name these extensions.
    pub fn new(unknown: UnknownFields, extensions: &'static dyn Extensions) -> Self {
        Self {
            unknown,
            extensions,
            api: Api::default(),
            clusters_named: RefCell::default(),
            skipped: RefCell::default(),
            errors: RefCell::default(),
        }
    }

    pub(super) fn extensions(&self) -> &'static dyn Extensions {
        self.extensions
    }

    pub(super) fn name_cluster(&self, named: ClusterNamed) {
        self.clusters_named.borrow_mut().push(named);
    }

    /// The clusters that must be there for what was read so far.
    pub(super) fn take_clusters_named(&self) -> Vec<ClusterNamed> {
        self.clusters_named.take()
    }

    /// What messages there are.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The full paths of what was skipped under [`UnknownFields::Allow`].
    ///
    /// # Errors
    /// Everything that is wrong with the document.
    pub fn into_skipped(self) -> Result<Vec<String>, ConfigErrors> {
        match ConfigErrors::of(self.errors.into_inner()) {
            None => Ok(self.skipped.into_inner()),
            Some(errors) => Err(errors),
        }
    }

    /// Notes an error, the first about each path; what is returned stands for it.
    pub(super) fn note(&self, error: ConfigError) -> ConfigError {
        let mut errors = self.errors.borrow_mut();
        if error.kind() != Kind::Noted && !errors.iter().any(|other| other.path() == error.path()) {
            errors.push(error.clone());
        }
        error.of_kind(Kind::Noted)
    }

    /// Whether anything is wrong so far.
    pub(super) fn has_errors(&self) -> bool {
        !self.errors.borrow().is_empty()
    }

    /// Something that the API does not have; true where that is an error.
    pub(super) fn unknown(&self, path: String, what: &str) -> bool {
        match self.unknown {
            UnknownFields::Reject => {
                self.note(ConfigError::new(path, what).of_kind(Kind::Field));
                true
            }
            UnknownFields::Allow => {
                self.skipped.borrow_mut().push(path);
                false
            }
        }
    }
}
