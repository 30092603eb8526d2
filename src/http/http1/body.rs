//! How the body of a message is framed (RFC 9112 section 6).

use super::chunk::ChunkDecoder;
use super::head::HeadError;
use crate::http::{HeaderId, HeaderMap};

/// What of a body is still to come.
#[derive(Clone, Copy)]
pub(super) enum BodyState {
    /// So many bytes, at least one.
    Length(u64),
    /// Chunks.
    Chunked(ChunkDecoder),
    /// Everything until the connection ends.
    UntilClose,
}

/// What the headers say of the body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framing {
    /// Neither field is there.
    Unstated,
    /// Content-Length.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
}

pub(super) const BAD_TRANSFER_ENCODING: HeadError = HeadError {
    status: 501,
    details: "http1.invalid_transfer_encoding",
    text: "unsupported transfer encoding",
};

/// Reads Content-Length and Transfer-Encoding; refuses what two parsers could read differently.
///
/// With `allow_chunked_length`, a Content-Length beside `chunked` is tolerated: the caller removes it.
#[inline(always)]
pub(super) fn framing(headers: &HeaderMap, allow_chunked_length: bool) -> Result<Framing, HeadError> {
    if let Some(encoding) = headers.get(HeaderId::TransferEncoding) {
        let tolerated = allow_chunked_length && encoding.eq_ignore_ascii_case(b"chunked");
        if headers.has(HeaderId::ContentLength) && !tolerated {
            return Err(HeadError {
                status: 400,
                details: "http1.content_length_and_chunked_not_allowed",
                text: "both 'Content-Length' and 'Transfer-Encoding' are set.",
            });
        }
        if !encoding.eq_ignore_ascii_case(b"chunked") {
            return Err(BAD_TRANSFER_ENCODING);
        }
        return Ok(Framing::Chunked);
    }
    match headers.get(HeaderId::ContentLength) {
        None => Ok(Framing::Unstated),
        Some(value) => parse_content_length(value).map(Framing::Length),
    }
}

fn parse_content_length(value: &[u8]) -> Result<u64, HeadError> {
    const BAD: HeadError = HeadError::bad("HPE_INVALID_CONTENT_LENGTH");
    if value.is_empty() {
        return Err(BAD);
    }
    value.iter().try_fold(0u64, |length, &digit| {
        if !digit.is_ascii_digit() {
            return Err(BAD);
        }
        length.checked_mul(10).and_then(|l| l.checked_add((digit - b'0') as u64)).ok_or(BAD)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, &str)]) -> Result<Framing, u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.add_parsed(name.as_bytes(), value.as_bytes()).unwrap();
        }
        framing(&headers, false).map_err(|e| e.status)
    }

    #[test]
    fn framing_rules() {
        assert_eq!(read(&[]), Ok(Framing::Unstated));
        assert_eq!(read(&[("content-length", "0")]), Ok(Framing::Length(0)));
        assert_eq!(read(&[("content-length", "18446744073709551615")]), Ok(Framing::Length(u64::MAX)));
        assert_eq!(read(&[("transfer-encoding", "Chunked")]), Ok(Framing::Chunked));
        for bad in ["", "+5", "-1", "5 5", "0x5", "18446744073709551616", "5,5"] {
            assert_eq!(read(&[("content-length", bad)]), Err(400), "{bad}");
        }
        assert_eq!(read(&[("content-length", "5"), ("content-length", "6")]), Err(400));
        assert_eq!(read(&[("content-length", "5"), ("transfer-encoding", "chunked")]), Err(400));
        assert_eq!(read(&[("transfer-encoding", "gzip, chunked")]), Err(501));
    }
}
