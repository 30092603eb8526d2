//! Whether what is known of a stream is as a configuration wants it.
//!
//! Mirrors `MetadataMatcher` and `FilterStateMatcher` of Envoy's `source/common/common/matchers.cc`.

use serde_json::Value;

use super::StreamInfoImpl;
use crate::config::metadata_matcher::{FilterStateMatcher, MetadataMatcher};
use crate::http::header_utility::match_string;

impl MetadataMatcher {
    /// Whether filters have said such a thing of the stream.
    pub fn matches(&self, info: &StreamInfoImpl) -> bool {
        self.value.matches(info.dynamic_metadata(&self.filter, &self.path).as_ref(), match_string)
            != self.invert
    }

    /// Whether the configuration says such a thing of the stream's route.
    pub fn matches_route(&self, info: &StreamInfoImpl) -> bool {
        let route = info.route();
        let said = route.as_deref().and_then(|route| route.metadata()?.get(&self.filter));
        let value = self.path.iter().fold(said, |value, key| value?.get(key));
        self.value.matches(value, match_string) != self.invert
    }

    /// What filters have said there.
    pub fn value(&self, info: &StreamInfoImpl) -> Option<Value> {
        info.dynamic_metadata(&self.filter, &self.path)
    }
}

impl FilterStateMatcher {
    /// Whether there is such an object.
    pub fn matches(&self, info: &StreamInfoImpl) -> bool {
        let object = info.filter_state().and_then(|state| state.get_data(&self.key));
        let text = object.and_then(|object| object.serialize_as_string());
        text.is_some_and(|text| match_string(text.as_bytes(), &self.text))
    }
}
