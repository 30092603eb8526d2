//! Chunked transfer coding, decoded as the bytes come (RFC 9112 section 7.1).
//!
//! Strict: a chunk's data must be followed by CRLF, lines end in CRLF, sizes are plain hexadecimal.
//! Anything else could be read differently by the next parser.

use super::head::HeadError;
use crate::buffer::Buffer;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    SizeStart,
    Size,
    /// White space behind the size.
    SizeSpace,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
}

/// The place in a chunked body.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkDecoder {
    state: State,
    /// The size being read, or the bytes of data left.
    size: u64,
}

/// What a step of decoding came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ChunkStatus {
    /// More input is needed.
    More,
    /// The last chunk was read; trailers and their empty line come next in the input.
    Trailers,
}

const BAD_SIZE: HeadError = HeadError::bad("HPE_INVALID_CHUNK_SIZE");
const BAD_DATA: HeadError = HeadError::bad("HPE_STRICT");

impl ChunkDecoder {
    pub(super) fn new() -> Self {
        ChunkDecoder { state: State::SizeStart, size: 0 }
    }

    /// Takes what it can from `input` and moves chunk data to `body`.
    pub(super) fn decode(&mut self, input: &mut Buffer, body: &mut Buffer) -> Result<ChunkStatus, HeadError> {
        loop {
            match self.state {
                State::Trailers => return Ok(ChunkStatus::Trailers),
                State::Data => {
                    let n = self.size.min(input.len() as u64);
                    body.move_n_from(input, n as usize);
                    self.size -= n;
                    if self.size > 0 {
                        return Ok(ChunkStatus::More);
                    }
                    self.state = State::DataCr;
                }
                _ => {
                    let (used, result) = self.line(input.front());
                    input.drain(used);
                    result?;
                    if input.is_empty() && !matches!(self.state, State::Trailers) {
                        return Ok(ChunkStatus::More);
                    }
                }
            }
        }
    }

    /// Steps through framing bytes until data or trailers begin; returns the bytes used.
    fn line(&mut self, bytes: &[u8]) -> (usize, Result<(), HeadError>) {
        for (i, &byte) in bytes.iter().enumerate() {
            if let Err(error) = self.step(byte) {
                return (i, Err(error));
            }
            if matches!(self.state, State::Data | State::Trailers) {
                return (i + 1, Ok(()));
            }
        }
        (bytes.len(), Ok(()))
    }

    fn step(&mut self, byte: u8) -> Result<(), HeadError> {
        match self.state {
            State::SizeStart | State::Size => match (byte as char).to_digit(16) {
                Some(digit) => {
                    if self.size >> 60 != 0 {
                        return Err(BAD_SIZE);
                    }
                    self.size = self.size << 4 | digit as u64;
                    self.state = State::Size;
                }
                None if self.state == State::SizeStart => return Err(BAD_SIZE),
                None => self.after_size(byte)?,
            },
            State::SizeSpace => self.after_size(byte)?,
            State::Extension => match byte {
                b'\r' => self.state = State::SizeLf,
                b'\n' | 0 => return Err(BAD_SIZE),
                _ => {}
            },
            State::SizeLf => {
                if byte != b'\n' {
                    return Err(BAD_SIZE);
                }
                self.state = if self.size == 0 { State::Trailers } else { State::Data };
            }
            State::DataCr => {
                if byte != b'\r' {
                    return Err(BAD_DATA);
                }
                self.state = State::DataLf;
            }
            State::DataLf => {
                if byte != b'\n' {
                    return Err(BAD_DATA);
                }
                self.state = State::SizeStart;
            }
            State::Data | State::Trailers => {}
        }
        Ok(())
    }

    fn after_size(&mut self, byte: u8) -> Result<(), HeadError> {
        match byte {
            b'\r' => self.state = State::SizeLf,
            b';' => self.state = State::Extension,
            b' ' | b'\t' => {
                self.state = State::SizeSpace;
            }
            _ => return Err(BAD_SIZE),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&str]) -> Result<(String, String), &'static str> {
        let (mut decoder, mut input, mut body) = (ChunkDecoder::new(), Buffer::new(), Buffer::new());
        let mut status = ChunkStatus::More;
        for piece in pieces {
            input.add(piece.as_bytes());
            status = decoder.decode(&mut input, &mut body).map_err(|e| e.text)?;
        }
        if status == ChunkStatus::More {
            return Err("more");
        }
        Ok((String::from_utf8(body.to_vec()).unwrap(), String::from_utf8(input.to_vec()).unwrap()))
    }

    #[test]
    fn whole_and_in_single_bytes() {
        let text = "5\r\nhello\r\n6;ext=\"x\"\r\n world\r\n000\r\nx: y\r\n\r\n";
        let expected = Ok(("hello world".to_string(), "x: y\r\n\r\n".to_string()));
        assert_eq!(decode(&[text]), expected);
        let bytes: Vec<String> = text.chars().map(String::from).collect();
        let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
        assert_eq!(decode(&bytes), expected);
    }

    #[test]
    fn what_could_be_read_differently_is_refused() {
        for bad in [
            "x\r\n",
            "\r\n",
            "-1\r\n",
            "0x5\r\n",
            "5 5\r\n",
            "5\nhello",
            "5\r\nhelloX\r\n",
            "5\r\nhello\n0\r\n",
            "10000000000000000\r\n",
            "5;a\nb\r\n",
            " 5\r\n",
        ] {
            assert!(!matches!(decode(&[bad]), Ok(_) | Err("more")), "{bad:?}");
        }
    }

    #[test]
    fn the_largest_size_that_fits_is_read() {
        assert_eq!(decode(&["ffffffffffffffff\r\nx"]), Err("more"));
        assert_eq!(decode(&["5 \t;x\r\nhello\r\n0\r\n"]), Ok(("hello".into(), String::new())));
    }

    #[test]
    fn an_extension_of_any_length_is_dropped() {
        let long = format!("5;{}\r\nhello\r\n0\r\n", "x".repeat(100_000));
        assert_eq!(decode(&[&long]), Ok(("hello".into(), String::new())));
    }
}
