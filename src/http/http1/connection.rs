//! What both sides of the codec are built on: a connection, and the place in the message that is read from it.
//!
//! Mirrors `ConnectionImpl` of Envoy's `source/common/http/http1/codec_impl.cc`. There it is a base class whose parser calls
//! back into its subclasses; here the two sides ask for the next part, and so decide when nothing more is read.

use std::cell::Cell;
use std::mem::Discriminant;
use std::rc::{Rc, Weak};

use super::body::BodyState;
use super::chunk::ChunkStatus;
use super::head::{self, HeadError, HeadLimits, HeadScanner};
use super::header_key_format;
use crate::buffer::Buffer;
use crate::config::HeaderKeyFormat;
use crate::envoy_conn_log;
use crate::http::codec_helper::StreamCallbackHelper;
use crate::http::{HeaderMap, HeaderMapPtr, Protocol, Stream, StreamCallbacks, StreamResetReason};
use crate::network::{self, ConnectionInfoProvider, ConnectionState};
use crate::trace::{self, Stage, stage};

/// What comes next.
#[derive(Clone, Copy)]
pub(super) enum State {
    /// A head, or the rest of one.
    Head,
    /// A body, or the rest of one.
    Body(BodyState),
    /// Trailers, up to their empty line.
    Trailers,
    /// Bytes of another protocol, which the message is the tunnel of, until the connection ends.
    Upgraded,
}

/// A part of a message.
pub(super) enum Decoded {
    /// All of a head is there, in so many bytes. It is to be read with [`ConnectionImpl::read_head`] and taken, and then
    /// [`ConnectionImpl::expect`] to be told what follows it.
    Head(usize),
    /// Some of the body. It may be empty only where it is the last of it, which ends the message.
    Data { piece: Buffer, last: bool },
    /// All trailers are there, in so many bytes, to be taken with [`ConnectionImpl::take_trailers`]. They end the message.
    Trailers(usize),
}

/// A head that was read: its first line, its fields, and its length.
pub(super) struct Head<L> {
    pub line: L,
    pub headers: HeaderMapPtr,
    length: usize,
}

/// What reads the head that some bytes begin with.
type Parse<L> = fn(&[u8], &HeadLimits, &mut HeaderMap) -> Result<(L, usize), HeadError>;

/// See the module's description.
pub(super) struct ConnectionImpl {
    connection: Weak<network::ConnectionImpl>,
    id: u64,
    max_head_bytes: u32,
    /// No head may have more fields than this can say.
    max_head_count: u16,
    /// Of the message being read, or the last one.
    pub(super) protocol: Cell<Protocol>,
    /// Streams are reset together with their connection: no other one begins.
    pub(super) reset_stream_called: Cell<bool>,
    state: Cell<State>,
    /// How far a head or trailers have been looked through.
    scanner: Cell<HeadScanner>,
}

impl ConnectionImpl {
    pub(super) fn new(connection: &Rc<network::ConnectionImpl>, limits: HeadLimits) -> Self {
        ConnectionImpl {
            connection: Rc::downgrade(connection),
            id: connection.id(),
            max_head_bytes: u32::try_from(limits.max_bytes).unwrap_or(u32::MAX),
            max_head_count: u16::try_from(limits.max_count).unwrap_or(u16::MAX),
            protocol: Cell::new(Protocol::Http11),
            reset_stream_called: Cell::new(false),
            state: Cell::new(State::Head),
            scanner: Cell::default(),
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// The connection, while there is one.
    pub(super) fn network(&self) -> Option<Rc<network::ConnectionImpl>> {
        self.connection.upgrade()
    }

    pub(super) fn is_open(&self) -> bool {
        self.network().is_some_and(|c| c.state() == ConnectionState::Open)
    }

    pub(super) fn above_high_watermark(&self) -> bool {
        self.network().is_some_and(|c| c.above_high_watermark())
    }

    pub(super) fn state(&self) -> State {
        self.state.get()
    }

    /// Says what follows the head that was taken: [`State::Head`] where the message ends with it.
    pub(super) fn expect(&self, state: State) {
        self.state.set(state);
    }

    /// What is another value once a part was read: a loop over parts in which it stays would not end.
    #[inline]
    pub(super) fn progress(&self, data: &Buffer) -> (usize, Discriminant<State>) {
        (data.len(), std::mem::discriminant(&self.state.get()))
    }

    /// Whether a head has begun and is not complete.
    pub(super) fn in_head(&self) -> bool {
        matches!(self.state.get(), State::Head) && self.scanner.get().has_begun()
    }

    /// The length of the head that `data` begins with, if all of it is there.
    pub(super) fn find_head(&self, data: &Buffer) -> Option<usize> {
        let mut scanner = self.scanner.get();
        let found = scanner.find_end(data);
        self.scanner.set(if found.is_some() { HeadScanner::default() } else { scanner });
        found
    }

    /// The next part of a message in `data`; `None` to wait for more.
    pub(super) fn next(&self, data: &mut Buffer) -> Result<Option<Decoded>, HeadError> {
        if let State::Body(body) = self.state.get()
            && let Some(piece) = self.next_of_body(body, data)?
        {
            return Ok(Some(piece));
        }
        match self.state.get() {
            State::Head => match self.find_head(data) {
                Some(length) => Ok(Some(Decoded::Head(length))),
                None => head::check_partial_size(data.len(), &self.limits()).map(|()| None),
            },
            State::Trailers => {
                let length = self.find_trailers(data)?;
                if length.is_some() {
                    self.state.set(State::Head);
                }
                Ok(length.map(Decoded::Trailers))
            }
            State::Upgraded if !data.is_empty() => {
                let mut piece = Buffer::new();
                piece.move_from(data);
                Ok(Some(Decoded::Data { piece, last: false }))
            }
            State::Upgraded | State::Body(_) => Ok(None),
        }
    }

    /// What of the body is there. Of input that turns out to be bad nothing is passed on.
    fn next_of_body(&self, mut body: BodyState, data: &mut Buffer) -> Result<Option<Decoded>, HeadError> {
        let mut piece = Buffer::new();
        let mut state = None;
        match &mut body {
            BodyState::UntilClose => piece.move_from(data),
            BodyState::Length(left) => {
                let n = (*left).min(data.len() as u64);
                piece.move_n_from(data, n as usize);
                *left -= n;
                state = (*left == 0).then_some(State::Head);
            }
            BodyState::Chunked(decoder) => {
                if decoder.decode(data, &mut piece)? == ChunkStatus::Trailers {
                    state = Some(State::Trailers);
                }
            }
        }
        self.state.set(state.unwrap_or(State::Body(body)));
        let last = matches!(state, Some(State::Head));
        Ok((last || !piece.is_empty()).then_some(Decoded::Data { piece, last }))
    }

    /// The length of the trailers that `data` begins with, if all of them are there. They may be an empty line alone.
    fn find_trailers(&self, data: &mut Buffer) -> Result<Option<usize>, HeadError> {
        match data.linearize(2) {
            [] | b"\r" => return Ok(None),
            [b'\n', ..] => return Ok(Some(1)),
            b"\r\n" => return Ok(Some(2)),
            _ => {}
        }
        match self.find_head(data) {
            Some(length) => Ok(Some(length)),
            None => head::check_partial_size(data.len(), &self.limits()).map(|()| None),
        }
    }

    /// Takes the trailers of `length` bytes out of `data`.
    pub(super) fn take_trailers(&self, data: &mut Buffer, length: usize) -> Result<HeaderMap, HeadError> {
        head::check_size(length, &self.limits())?;
        let mut trailers = HeaderMap::new();
        let result = match length {
            1 | 2 => Ok(()),
            _ => head::parse_trailers(data.linearize(length), &self.limits(), &mut trailers),
        };
        data.drain(length);
        result.map(|()| trailers)
    }

    /// The head that `data` begins with, if it is the begin of a message, all of it is there in one piece, and it is sound. Most
    /// are, and are looked through once; of any other one [`ConnectionImpl::next`] says what it is.
    #[inline(always)]
    pub(super) fn read_whole_head<L>(&self, data: &Buffer, parse: Parse<L>) -> Option<Head<L>> {
        if !matches!(self.state.get(), State::Head) || self.scanner.get().has_begun() {
            return None;
        }
        let headers = HeaderMapPtr::recycled();
        let (line, length) = parse(data.front(), &self.limits(), &mut headers.borrow_mut()).ok()?;
        (length <= self.limits().max_bytes).then_some(Head { line, headers, length })
    }

    /// The head of `length` bytes that `data` begins with; without it where it is not sound.
    pub(super) fn read_head<L>(
        &self,
        data: &mut Buffer,
        length: usize,
        parse: Parse<L>,
    ) -> Result<Head<L>, HeadError> {
        head::check_size(length, &self.limits())?;
        let headers = HeaderMapPtr::recycled();
        let read = parse(data.linearize(length), &self.limits(), &mut headers.borrow_mut());
        match read {
            Ok((line, _)) => Ok(Head { line, headers, length }),
            Err(error) => {
                data.drain(length);
                Err(error)
            }
        }
    }

    /// Takes a head that was read out of `data`, and records `stage`.
    pub(super) fn take_head<L>(
        &self,
        data: &mut Buffer,
        head: &Head<L>,
        format: Option<HeaderKeyFormat>,
        stage: Stage,
    ) {
        let bytes = &data.front()[..head.length];
        if format.is_some() {
            header_key_format::remember(format, bytes, &mut head.headers.borrow_mut());
        }
        head::on_headers_complete(self.id, bytes, head.headers.borrow().len(), stage);
        data.drain(head.length);
    }

    #[inline]
    pub(super) fn limits(&self) -> HeadLimits {
        HeadLimits { max_bytes: self.max_head_bytes as usize, max_count: self.max_head_count as usize }
    }

    /// Has `decode` take what it can from `data`, and says so. It is to stop where a tunnel begins, of which `decode_tunnel` takes
    /// the rest: it does the same, and is given apart so that `decode` has one caller, into which it is built.
    #[inline(always)]
    pub(super) fn dispatch<E>(
        &self,
        data: &mut Buffer,
        decode: impl FnOnce(&mut Buffer) -> Result<(), E>,
        decode_tunnel: impl FnOnce(&mut Buffer) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = data.len();
        let _stage = stage!(scope Dispatch(self.id), bytes = before);
        if matches!(self.state.get(), State::Upgraded) {
            return self.direct_dispatch(data, decode_tunnel);
        }
        decode(data)?;
        envoy_conn_log!(Http, trace, self.id, "parsed {} bytes", before - data.len());
        match self.state.get() {
            State::Upgraded => self.direct_dispatch(data, decode_tunnel),
            _ => Ok(()),
        }
    }

    /// Passes on what a tunnel brings, which may be nothing.
    #[inline(never)]
    fn direct_dispatch<E>(
        &self,
        data: &mut Buffer,
        decode: impl FnOnce(&mut Buffer) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = data.len();
        if self.is_open() || data.is_empty() {
            decode(data)?;
        }
        stage!(DirectDispatch(self.id), bytes = before - data.len());
        Ok(())
    }

    /// Notes that with its head a message ends as one: what follows is a tunnel.
    pub(super) fn pause_for_upgrade(&self, stage: Stage) {
        self.message_complete(stage);
        envoy_conn_log!(Http, trace, self.id, "Pausing parser due to upgrade.");
    }

    /// Notes that a message is complete.
    pub(super) fn message_complete(&self, stage: Stage) {
        envoy_conn_log!(Http, trace, self.id, "message complete");
        trace::instant(stage, Some(self.id), 0, 0, 0);
    }
}

/// A stream of either side, as far as the two differ.
pub(super) trait CodecStream {
    fn helper(&self) -> &StreamCallbackHelper;

    fn connection(&self) -> Option<Rc<network::ConnectionImpl>>;

    fn reset(&self, reason: StreamResetReason);

    fn details(&self) -> &'static str {
        ""
    }
}

impl<T: CodecStream> Stream for T {
    fn add_callbacks(&self, callbacks: Weak<dyn StreamCallbacks>) {
        self.helper().add(callbacks);
    }

    fn remove_callbacks(&self, callbacks: &Weak<dyn StreamCallbacks>) {
        self.helper().remove(callbacks);
    }

    fn reset_stream(&self, reason: StreamResetReason) {
        self.reset(reason);
    }

    fn read_disable(&self, disable: bool) {
        if let Some(connection) = self.connection() {
            connection.read_disable(disable);
        }
    }

    fn buffer_limit(&self) -> usize {
        self.connection().map_or(0, |c| c.buffer_limit())
    }

    fn connection_info(&self) -> Option<Rc<ConnectionInfoProvider>> {
        self.connection().map(|c| c.whole_connection_info())
    }

    fn response_details(&self) -> &'static str {
        self.details()
    }
}
