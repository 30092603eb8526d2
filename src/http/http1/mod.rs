//! The HTTP/1 codec, server and client side.
//!
//! Mirrors Envoy's `source/common/http/http1/codec_impl.cc`. Envoy 1.1 feeds http-parser byte by byte
//! and gets a callback per piece; here the end of a head is looked for once over each byte, and then
//! the whole head is parsed in place. On the wire, odd input included, Envoy 1.40 is the
//! model; where it is laxer than RFC 9112 allows, the codec refuses (see `docs/differences.md`).

mod body;
mod chunk;
mod client;
mod codec_stats;
mod connection;
mod encoder;
mod fields;
mod head;
mod header_key_format;
mod request_head;
mod server;
#[cfg(test)]
mod tests;

pub use client::ClientConnectionImpl;
pub use codec_stats::CodecStats;
pub use head::HeadLimits;
pub(super) use header_key_format::OriginalNames;
pub use header_key_format::PRESERVE_CASE;
pub use server::{Http1Settings, ServerCodecConfig, ServerConnectionImpl};
