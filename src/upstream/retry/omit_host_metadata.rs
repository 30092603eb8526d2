//! No hosts of which the configuration says certain things. Mirrors Envoy 1.40's
//! `source/extensions/retry/host/omit_host_metadata/omit_host_metadata.cc`.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{RetryHostPredicate, RetryHostPredicateConfig, RetryHostPredicateFactory};
use crate::config::core::Metadata;
use crate::config::error::ConfigError;
use crate::config::reader::{FromMessage, MessageReader};
use crate::message;
use crate::upstream::{ENVOY_LB, HostImpl, metadata_label_match};

/// The predicate among the extensions.
pub static OMIT_HOST_METADATA: RetryHostPredicateFactory = RetryHostPredicateFactory::new(
    "envoy.retry_host_predicates.omit_host_metadata",
    &["envoy.extensions.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig"],
    read,
);

message! {
    /// Which hosts are left out.
    pub struct OmitHostMetadataConfig = "envoy.extensions.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig" {
        /// Those that have all of this.
        pub metadata_match: Metadata,
    }
}

/// The labels, which requests share.
#[derive(Debug)]
struct OmitHostMetadata(Arc<Map<String, Value>>);

fn read(r: &mut MessageReader<'_>) -> Result<Arc<dyn RetryHostPredicateConfig>, ConfigError> {
    let mut config = OmitHostMetadataConfig::read(r)?;
    let labels = match config.metadata_match.filter_metadata.remove(ENVOY_LB) {
        Some(Value::Object(labels)) => labels,
        _ => Map::new(),
    };
    Ok(Arc::new(OmitHostMetadata(Arc::new(labels))))
}

impl RetryHostPredicateConfig for OmitHostMetadata {
    fn create_host_predicate(&self) -> Box<dyn RetryHostPredicate> {
        Box::new(OmitHostsRetryPredicate(self.0.clone()))
    }
}

/// See the module's description.
struct OmitHostsRetryPredicate(Arc<Map<String, Value>>);

impl RetryHostPredicate for OmitHostsRetryPredicate {
    fn should_select_another_host(&self, host: &HostImpl) -> bool {
        metadata_label_match(&self.0, host.metadata().map(|metadata| &**metadata), ENVOY_LB, true)
    }
}
