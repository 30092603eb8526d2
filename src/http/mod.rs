//! HTTP without a proxy: headers, codecs, the client's end of a connection.
//!
//! Mirrors Envoy's `source/common/http/`, less what belongs to the connection manager
//! (`filters/network/http_connection_manager/`) and the pools (`conn_pool/`).

mod codec;
mod codec_client;
mod codec_helper;
pub mod codes;
mod date_provider;
pub mod grpc_timeout;
mod header_map;
mod header_name;
pub mod header_utility;
mod headers;
pub mod http1;
pub mod path_utility;
pub mod url;
pub mod utility;

pub use codec::{
    ClientConnection, CodecCallbacks, CodecError, Connection, Protocol, RequestDecoder, ServerConnection,
    ServerConnectionCallbacks, Stream, StreamCallbacks, StreamDecoder, StreamEncoder, StreamResetReason,
};
pub use codec_client::{CodecClient, CodecClientCallbacks};
pub use codec_helper::StreamCallbackHelper;
pub use date_provider::DateProvider;
use header_map::HeadFields;
pub use header_map::{HeaderMap, HeaderMapFull, HeaderMapPtr};
pub use header_name::HeaderName;
pub use headers::{ENVOY_FIELDS, HeaderId, RETRY_FIELDS, ROUTER_FIELDS};
