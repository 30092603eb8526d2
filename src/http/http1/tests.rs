//! The codec over real connections and a real loop.
//!
//! What is read comes whole, cut in two at every place, and byte by byte; each time the layers above must
//! be told the same. See `fixture` for what the entries of a log look like.

mod client;
mod encoder;
mod fixture;
mod head;
mod refusals;
mod server;
mod streams;
