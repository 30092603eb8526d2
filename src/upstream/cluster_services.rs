//! What the server does for clusters that stands on floors above them.
//!
//! In Envoy a cluster is handed the managers themselves (`ClusterFactoryContext`, `HealthCheckerFactoryContext`).

use std::rc::Rc;

use super::{HostSharedPtr, outlier_detection};
use crate::config::ConfigError;
use crate::config::route::HeaderMutations;
use crate::http::HeaderMap;

/// Takes lines, each with its end.
pub type LineSink = Rc<dyn Fn(&[u8])>;

/// What is done to the head of a request that a host is checked with.
pub trait CheckHeaders {
    /// Does it.
    fn evaluate(&self, headers: &mut HeaderMap, host: &HostSharedPtr);
}

/// See the module's description. Main thread.
pub trait ClusterServices {
    /// Who is told of hosts that are ejected.
    fn outlier_event_logger(&self) -> Option<Rc<dyn outlier_detection::EventLogger>> {
        None
    }

    /// A file for lines.
    ///
    /// # Errors
    /// It cannot be opened.
    fn create_access_log(&self, path: &str) -> Result<LineSink, String>;

    /// What a configuration says of the heads of checks; `None` where it says nothing. `add` is the field of what is added.
    ///
    /// # Errors
    /// A format that cannot be parsed.
    fn check_headers(
        &self,
        mutations: &HeaderMutations,
        add: &str,
    ) -> Result<Option<Box<dyn CheckHeaders>>, ConfigError>;
}

/// For clusters without a server, as in tests: lines go nowhere, and heads stay as they are.
pub struct NoServices;

impl ClusterServices for NoServices {
    fn create_access_log(&self, _path: &str) -> Result<LineSink, String> {
        Ok(Rc::new(|_| ()))
    }

    fn check_headers(
        &self,
        _mutations: &HeaderMutations,
        _add: &str,
    ) -> Result<Option<Box<dyn CheckHeaders>>, ConfigError> {
        Ok(None)
    }
}
