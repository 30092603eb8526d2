//! Writing messages: heads, framing, bodies. Shared by both sides of the codec.
//!
//! Mirrors `StreamEncoderImpl` of Envoy's `source/common/http/http1/codec_impl.cc`.

use std::cell::{Cell, RefCell};
use std::io::Write as _;

use crate::buffer::Buffer;
use crate::http::codes::status_phrase;
use crate::http::{HeaderId, HeaderMap, Protocol};

thread_local! {
    /// Heads are put together here and then copied to the output once.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn with_scratch(output: &mut Buffer, f: impl FnOnce(&mut Vec<u8>)) {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        f(scratch);
        output.add(scratch);
    });
}

/// The framing of the message that is being sent.
#[derive(Default)]
pub(super) struct MessageEncoder {
    chunk_encoding: Cell<bool>,
}

/// What decides the framing of a message without Content-Length.
#[derive(Clone, Copy)]
struct FramingFacts {
    end_stream: bool,
    response_to_head: bool,
    content_length_allowed: bool,
    protocol: Protocol,
    /// What follows the head belongs to another protocol, or would: nothing says how long it is.
    tunnel: bool,
}

impl MessageEncoder {
    /// Writes a response head; `tunnel` says that what follows it is no body.
    pub(super) fn encode_response_head(
        &self,
        output: &mut Buffer,
        headers: &HeaderMap,
        end_stream: bool,
        response_to_head: bool,
        tunnel: bool,
        (protocol, write_http_10): (Protocol, bool),
    ) {
        let status = headers.status();
        with_scratch(output, |out| {
            out.extend_from_slice(if write_http_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
            out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
            out.push(b' ');
            out.extend_from_slice(status_phrase(status).as_bytes());
            out.extend_from_slice(b"\r\n");
            let content_length_allowed = status >= 200 && status != 204 && status != 304;
            let facts = FramingFacts {
                end_stream,
                response_to_head,
                content_length_allowed,
                protocol,
                tunnel: tunnel || status == 101,
            };
            self.encode_fields(out, headers, facts);
        });
    }

    /// Writes an informational (1xx) head; it never has framing fields.
    pub(super) fn encode_1xx_head(&self, output: &mut Buffer, headers: &HeaderMap, write_http_10: bool) {
        let status = headers.status();
        let version = if write_http_10 { "HTTP/1.0" } else { "HTTP/1.1" };
        with_scratch(output, |out| {
            let _ = write!(out, "{version} {} {}\r\n", status, status_phrase(status)); // infallible
            headers.write_fields(out);
            out.extend_from_slice(b"\r\n");
        });
    }

    /// Writes a request head, always as HTTP/1.1; `upgrade` says that it asks for another protocol, or for a tunnel.
    pub(super) fn encode_request_head(
        &self,
        output: &mut Buffer,
        headers: &HeaderMap,
        end_stream: bool,
        upgrade: bool,
    ) {
        with_scratch(output, |out| {
            let method = headers.get(HeaderId::Method).unwrap_or_default();
            out.extend_from_slice(method);
            out.push(b' ');
            let target = if method == b"CONNECT" { HeaderId::Authority } else { HeaderId::Path };
            out.extend_from_slice(headers.get(target).unwrap_or_default());
            out.extend_from_slice(b" HTTP/1.1\r\n");
            if let Some(host) = headers.get(HeaderId::Authority) {
                encode_field(out, b"host", host);
            }
            let bodiless = matches!(method, b"GET" | b"HEAD" | b"DELETE" | b"TRACE" | b"CONNECT");
            let facts = FramingFacts {
                end_stream,
                response_to_head: false,
                content_length_allowed: !bodiless,
                protocol: Protocol::Http11,
                tunnel: upgrade,
            };
            self.encode_fields(out, headers, facts);
        });
    }

    fn encode_fields(&self, out: &mut Vec<u8>, headers: &HeaderMap, facts: FramingFacts) {
        headers.write_fields(out);
        self.chunk_encoding.set(false);
        if !headers.has(HeaderId::ContentLength) && !facts.tunnel {
            if facts.end_stream && !(facts.response_to_head && facts.content_length_allowed) {
                if facts.content_length_allowed {
                    out.extend_from_slice(b"content-length: 0\r\n");
                }
            } else if facts.protocol != Protocol::Http10 {
                // The answer to a HEAD says so but sends no chunks.
                out.extend_from_slice(b"transfer-encoding: chunked\r\n");
                self.chunk_encoding.set(!facts.response_to_head);
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Whether the body is written as it comes.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        !self.chunk_encoding.get()
    }

    /// Writes a piece of the body, as one chunk where chunks are used.
    pub(super) fn encode_data(&self, output: &mut Buffer, data: &mut Buffer) {
        if data.is_empty() {
            return;
        }
        if !self.chunk_encoding.get() {
            output.move_from(data);
            return;
        }
        let length = data.len();
        with_scratch(output, |out| {
            let _ = write!(out, "{length:x}\r\n"); // infallible
        });
        output.move_from(data);
        output.add(b"\r\n");
    }

    /// Writes what ends the body, with `trailers` where chunks are used.
    pub(super) fn encode_end(&self, output: &mut Buffer, trailers: Option<&HeaderMap>) {
        if !self.chunk_encoding.get() {
            return;
        }
        match trailers {
            None => output.add(b"0\r\n\r\n"),
            Some(trailers) => with_scratch(output, |out| {
                out.extend_from_slice(b"0\r\n");
                trailers.write_fields(out);
                out.extend_from_slice(b"\r\n");
            }),
        }
    }
}

#[inline]
fn encode_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
