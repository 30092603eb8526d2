//! What an access log is to those who end streams, and how it comes from its configuration.
//!
//! Mirrors Envoy's `include/envoy/access_log/access_log.h` and `include/envoy/server/access_log_config.h`.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use super::AccessLogManager;
use super::filter::{self, FilterPtr};
use crate::cluster_manager::ClusterManager;
use crate::config::extension::{Factory, TypedConfig};
use crate::config::{self, ConfigError};
use crate::formatter;
use crate::runtime::LoaderImpl;
use crate::stats::Store;

/// What an access log is told.
pub type LogContext<'a> = formatter::Context<'a>;

/// What is told of streams.
pub trait Instance {
    /// Logs a stream, when it has ended or at another moment that `context` names.
    fn log(&self, context: &LogContext<'_>);
}

/// An access log of the configuration, which all workers share.
pub type InstanceSharedPtr = Arc<dyn Instance + Send + Sync>;

/// What the server gives to its access logs.
pub struct AccessLogFactoryContext<'a> {
    /// The files.
    pub access_log_manager: &'a AccessLogManager,
    /// For those that go by settings which may change.
    pub runtime: &'a LoaderImpl,
    /// For those that send what they log somewhere.
    pub cluster_manager: &'a ClusterManager,
    /// All statistics.
    pub stats: &'a Arc<Store>,
}

/// The configuration of an access log.
pub trait AccessLogConfig: Any + Debug + Send + Sync {
    /// Makes the log.
    ///
    /// # Errors
    /// What the configuration asks for and cannot be had, with its path in the configuration.
    fn create_access_log_instance(
        &self,
        context: &AccessLogFactoryContext<'_>,
    ) -> Result<InstanceSharedPtr, ConfigError>;
}

/// A log of those streams that its filter takes. Mirrors `ImplBase` of Envoy's
/// `source/extensions/access_loggers/common/access_log_base.h`; a log without a filter does without.
struct Filtered {
    filter: FilterPtr,
    log: InstanceSharedPtr,
}

impl Instance for Filtered {
    fn log(&self, context: &LogContext<'_>) {
        if self.filter.evaluate(context) {
            self.log.log(context);
        }
    }
}

/// Reads the configuration of an access log.
pub type AccessLogInstanceFactory = Factory<dyn AccessLogConfig>;

impl config::AccessLog {
    /// A log as if it had been read, by an extension of this name.
    pub fn of(name: &'static str, config: impl AccessLogConfig) -> Self {
        let config: Arc<dyn AccessLogConfig> = Arc::new(config);
        config::AccessLog {
            name: name.to_string(),
            filter: None,
            typed_config: TypedConfig::new(name, config),
        }
    }

    /// The log that the configuration asks for.
    ///
    /// # Errors
    /// As [`AccessLogConfig::create_access_log_instance`].
    pub fn create(&self, context: &AccessLogFactoryContext<'_>) -> Result<InstanceSharedPtr, ConfigError> {
        let config = self.typed_config.get::<dyn AccessLogConfig>()?;
        let log = config.create_access_log_instance(context)?;
        Ok(match &self.filter {
            None => log,
            Some(filter) => Arc::new(Filtered { filter: filter::from_config(filter, context)?, log }),
        })
    }
}
