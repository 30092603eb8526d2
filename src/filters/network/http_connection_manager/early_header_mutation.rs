//! What is done to a request's headers before anything else looks at them.
//!
//! Mirrors `EarlyHeaderMutation` of Envoy 1.40's `envoy/http/early_header_mutation.h` and the extension of
//! `source/extensions/http/early_header_mutation/header_mutation/header_mutation.cc`.

use std::fmt::Debug;
use std::sync::Arc;

use crate::config::ConfigError;
use crate::config::extension::Factory;
use crate::config::reader::MessageReader;
use crate::http::HeaderMap;
use crate::router::{Changed, HeaderMutations};
use crate::stream_info::StreamInfoImpl;

/// Changes headers of requests that have just come.
pub trait EarlyHeaderMutation: Debug + Send + Sync {
    /// False where those behind it have no more to do.
    fn mutate(&self, headers: &mut HeaderMap, info: &StreamInfoImpl) -> bool;
}

/// Makes an [`EarlyHeaderMutation`] of its configuration.
pub type EarlyHeaderMutationFactory = Factory<dyn EarlyHeaderMutation>;

/// Changes as the filter of this name makes them.
pub static HEADER_MUTATION: EarlyHeaderMutationFactory = Factory::new(
    "envoy.http.early_header_mutation.header_mutation",
    &["envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"],
    read,
);

fn read(r: &mut MessageReader<'_>) -> Result<Arc<dyn EarlyHeaderMutation>, ConfigError> {
    let mutations = HeaderMutations::new(&r.messages("mutations")?, "mutations");
    Ok(Arc::new(mutations.map_err(|error| r.error(error.path(), error.message()))?))
}

impl EarlyHeaderMutation for HeaderMutations {
    fn mutate(&self, headers: &mut HeaderMap, info: &StreamInfoImpl) -> bool {
        self.evaluate(headers, Changed::Request, info);
        true
    }
}
