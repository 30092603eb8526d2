//! Metadata that hosts share.
//!
//! Mirrors `ConstMetadataSharedPool` of Envoy 1.40's `source/common/config/metadata.h`, one for a cluster instead of one for
//! all of them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::core::Metadata;

/// See the module's description.
#[derive(Default)]
pub struct MetadataPool {
    by_text: HashMap<String, Arc<Metadata>>,
}

impl MetadataPool {
    /// `metadata`, or what was shared before and says the same.
    pub fn share(&mut self, metadata: &Arc<Metadata>) -> Arc<Metadata> {
        let text = serde_json::to_string(&metadata.filter_metadata).unwrap_or_default();
        self.by_text.entry(text).or_insert_with(|| metadata.clone()).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_says_the_same_is_one() {
        let metadata = |value| {
            let filter_metadata = json!({ "envoy.lb": { "a": value } }).as_object().unwrap().clone();
            Arc::new(Metadata { filter_metadata })
        };
        let mut pool = MetadataPool::default();
        let first = pool.share(&metadata(1));
        assert!(Arc::ptr_eq(&first, &pool.share(&metadata(1))));
        assert!(!Arc::ptr_eq(&first, &pool.share(&metadata(2))));
    }
}
