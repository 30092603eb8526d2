//! Writing messages: heads, framing, bodies. Shared by both sides of the codec.
//!
//! Mirrors `StreamEncoderImpl` of Envoy's `source/common/http/http1/codec_impl.cc`.

use std::cell::Cell;
use std::io::Write as _;

use crate::buffer::{Buffer, Writer};
use crate::http::codes::status_phrase;
use crate::http::{HeaderId, HeaderMap, Protocol};

/// What a head has beside its fields at most: version, status and phrase, and what says how the body is framed.
const BESIDE_FIELDS: usize = 128;

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
        output.write_with(headers.written_size() + BESIDE_FIELDS, |out| {
            begin_response(out, status, write_http_10);
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
        output.write_with(headers.written_size() + BESIDE_FIELDS, |out| {
            begin_response(out, status, write_http_10);
            headers.write_fields(out);
            out.put(b"\r\n");
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
        let method = headers.get(HeaderId::Method).unwrap_or_default();
        let host = headers.get(HeaderId::Authority);
        // That of a CONNECT is written twice.
        let most = headers.written_size() + host.map_or(0, <[u8]>::len) + BESIDE_FIELDS;
        output.write_with(most, |out| {
            headers.write_value(HeaderId::Method, out);
            out.put(b" ");
            let target = if method == b"CONNECT" { HeaderId::Authority } else { HeaderId::Path };
            headers.write_value(target, out);
            out.put(b" HTTP/1.1\r\n");
            if host.is_some() {
                out.put(b"host: ");
                headers.write_value(HeaderId::Authority, out);
                out.put(b"\r\n");
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

    #[inline(always)]
    fn encode_fields(&self, out: &mut Writer<'_>, headers: &HeaderMap, facts: FramingFacts) {
        headers.write_fields(out);
        self.chunk_encoding.set(false);
        if !headers.has(HeaderId::ContentLength) && !facts.tunnel {
            if facts.end_stream && !(facts.response_to_head && facts.content_length_allowed) {
                if facts.content_length_allowed {
                    out.put(b"content-length: 0\r\n");
                }
            } else if facts.protocol != Protocol::Http10 {
                // The answer to a HEAD says so but sends no chunks.
                out.put(b"transfer-encoding: chunked\r\n");
                self.chunk_encoding.set(!facts.response_to_head);
            }
        }
        out.put(b"\r\n");
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
        let _ = write!(output, "{:x}\r\n", data.len()); // infallible
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
            Some(trailers) => output.write_with(trailers.written_size() + BESIDE_FIELDS, |out| {
                out.put(b"0\r\n");
                trailers.write_fields(out);
                out.put(b"\r\n");
            }),
        }
    }
}

#[inline(always)]
fn begin_response(out: &mut Writer<'_>, status: u16, write_http_10: bool) {
    if status == 200 && !write_http_10 {
        return out.put(b"HTTP/1.1 200 OK\r\n");
    }
    out.put(if write_http_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.put(itoa::Buffer::new().format(status).as_bytes());
    out.put(b" ");
    out.put(status_phrase(status).as_bytes());
    out.put(b"\r\n");
}
