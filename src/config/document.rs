//! The document that a server was started with, for those who want to see it.
//!
//! It is kept as text, which takes as much memory as the file: what is read from it when the server starts is not kept, and
//! the file may be another one by the time somebody asks.

use super::BOOTSTRAP;
use super::canonical::canonical;
use super::descriptor::Api;
use serde_json::Value;

/// The text of a document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document(Box<str>);

impl Document {
    /// Of what was read.
    pub fn new(raw: &Value) -> Self {
        Document(raw.to_string().into())
    }

    /// The bootstrap as protobuf prints it.
    pub fn bootstrap(&self) -> Value {
        let raw = serde_json::from_str(&self.0).unwrap_or_else(|_| Value::Object(serde_json::Map::new()));
        canonical(&Api::default(), BOOTSTRAP, &raw)
    }

    /// The listeners or clusters in it.
    pub fn static_resources(&self, field: &str) -> Vec<Value> {
        match self.bootstrap().pointer_mut(&format!("/static_resources/{field}")).map(Value::take) {
            Some(Value::Array(resources)) => resources,
            _ => Vec::new(),
        }
    }
}
