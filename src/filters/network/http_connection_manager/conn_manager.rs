//! The connection manager of one downstream connection.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use smallvec::SmallVec;

use super::active_stream::ActiveStream;
use super::config::WorkerConfig;
use crate::buffer::Buffer;
use crate::envoy_conn_log;
use crate::event::{Moment, Timeout, TimeoutCallbacks};
use crate::http::http1::ServerConnectionImpl;
use crate::http::{
    CodecCallbacks, CodecError, RequestDecoder, ServerConnection, ServerConnectionCallbacks, StreamCallbacks,
    StreamEncoder, StreamResetReason,
};
use crate::network::{
    ConnectionCallbacks, ConnectionCloseType, ConnectionEvent, ConnectionImpl, ConnectionState, FilterStatus,
    ReadFilter, ReadFilterCallbacks,
};
use crate::stream_info::ResponseFlag;
use crate::trace::{self, Stage, log_stage, stage};

/// On the way to closing a connection that is still answering.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DrainState {
    NotDraining,
    /// Waiting for the drain timer; responses announce the close, and the connection still serves.
    Draining,
    /// The connection closes once it has no stream.
    Closing,
}

/// What a connection's timers are for.
const IDLE: u8 = 0;
const DRAIN: u8 = 1;
const DURATION: u8 = 2;
const STREAM_IDLE: u8 = 3;

/// See the module's description.
pub struct ConnectionManagerImpl {
    weak: Weak<ConnectionManagerImpl>,
    pub(super) config: Rc<WorkerConfig>,
    connection: OnceCell<Weak<ConnectionImpl>>,
    connection_id: Cell<u64>,
    codec: OnceCell<Rc<dyn ServerConnection>>,
    is_secure: Cell<bool>,
    /// Whether the codec's connection carries many streams at a time.
    multiplexed: Cell<bool>,
    streams: RefCell<SmallVec<[Rc<ActiveStream>; 2]>>,
    pub(super) drain_state: Cell<DrainState>,
    /// The connection is as old as it may get: its next response is its last.
    pub(super) max_duration_reached: Cell<bool>,
    idle_timer: Timeout,
    stream_idle_timer: Timeout,
    /// What ends it while it is in use: hardly any connection has that.
    end_timers: OnceCell<Box<EndTimers>>,
    requests: Cell<u32>,
    start: Moment,
}

#[derive(Default)]
struct EndTimers {
    drain: Timeout,
    duration: Timeout,
}

impl ConnectionManagerImpl {
    /// A manager for the connection that it will be added to as a filter.
    pub fn new(config: Rc<WorkerConfig>) -> Rc<Self> {
        Rc::new_cyclic(|weak| ConnectionManagerImpl {
            weak: weak.clone(),
            config,
            connection: OnceCell::new(),
            connection_id: Cell::new(0),
            codec: OnceCell::new(),
            is_secure: Cell::new(false),
            multiplexed: Cell::new(false),
            streams: RefCell::default(),
            drain_state: Cell::new(DrainState::NotDraining),
            max_duration_reached: Cell::new(false),
            idle_timer: Timeout::default(),
            stream_idle_timer: Timeout::default(),
            end_timers: OnceCell::new(),
            requests: Cell::new(0),
            start: Moment::now(),
        })
    }

    pub(super) fn connection(&self) -> Option<Rc<ConnectionImpl>> {
        self.connection.get()?.upgrade()
    }

    pub(super) fn codec(&self) -> Option<Rc<dyn ServerConnection>> {
        self.codec.get().cloned()
    }

    fn connection_id(&self) -> u64 {
        self.connection_id.get()
    }

    pub(super) fn is_multiplexed(&self) -> bool {
        self.multiplexed.get()
    }

    fn has_streams(&self) -> bool {
        !self.streams.borrow().is_empty()
    }

    /// Counts a request; true when it is the last that this connection may carry.
    pub(super) fn count_request(&self) -> bool {
        self.requests.set(self.requests.get().saturating_add(1));
        let max = self.config.max_requests_per_connection;
        max > 0 && self.requests.get() >= max
    }

    fn close(&self, close_type: ConnectionCloseType) {
        if let Some(connection) = self.connection() {
            connection.close(close_type);
        }
    }

    /// Closes a connection that is to close and has no stream left; `skip_delay` where the peer has
    /// nothing more to send that a close could collide with.
    #[inline(always)]
    fn check_for_deferred_close(&self, skip_delay: bool) {
        if self.drain_state.get() == DrainState::Closing {
            self.close_without_streams(skip_delay);
        }
    }

    #[cold]
    fn close_without_streams(&self, skip_delay: bool) {
        if !self.has_streams() && !self.codec.get().is_some_and(|codec| codec.wants_to_write()) {
            self.close(if skip_delay {
                ConnectionCloseType::FlushWrite
            } else {
                ConnectionCloseType::FlushWriteAndDelay
            });
        }
    }

    /// A stream is done, or is to be given up where either side of it is incomplete.
    pub(super) fn do_end_stream(&self, stream: &Rc<ActiveStream>) {
        let unfinished = stream.response_encoder().filter(|_| !stream.is_complete());
        let reset = unfinished.is_some();
        stream.passed(Stage::DoEndStream, reset.into());
        if let Some(encoder) = unfinished {
            stream.log_end_stream_reset();
            stream.set_local_complete();
            encoder.stream().reset_stream(StreamResetReason::LocalReset);
        }
        if reset && !self.is_multiplexed() {
            // Such a connection cannot give up one stream alone.
            self.drain_state.set(DrainState::Closing);
        }
        if !reset {
            self.do_deferred_stream_destroy(stream);
        }
        self.check_for_deferred_close(stream.closes_without_delay());
        if self.drain_state.get() != DrainState::Closing
            && !self.is_multiplexed()
            && let Some(connection) = self.connection()
        {
            // Undoes the pause of this request and what its filters left behind.
            while connection.state() == ConnectionState::Open && !connection.read_enabled() {
                connection.read_disable(false);
            }
        }
        if !self.has_streams() {
            self.enable_idle_timer();
        }
    }

    /// Ends a stream's activity; it is dropped, and logged, at the end of the pass.
    pub(super) fn do_deferred_stream_destroy(&self, stream: &Rc<ActiveStream>) {
        let removed = {
            let mut streams = self.streams.borrow_mut();
            let index = streams.iter().position(|s| Rc::ptr_eq(s, stream));
            index.map(|i| streams.swap_remove(i))
        };
        let Some(removed) = removed else { return };
        stream.passed(Stage::DestroyStream, trace::detail(|| self.streams.borrow().len() as u64));
        removed.on_deferred_destroy();
        self.config.dispatcher.deferred_delete(removed);
    }

    fn add_stream(&self, response_encoder: Rc<dyn StreamEncoder>) -> Rc<ActiveStream> {
        self.idle_timer.disable();
        log_stage!(NewStream(self.connection_id()));
        let stream = ActiveStream::new(&self.weak, self, response_encoder.clone());
        trace::instant(Stage::NewStream, Some(stream.connection_id), stream.stream_id, 0, 0);
        self.streams.borrow_mut().push(stream.clone());
        let callbacks: Weak<dyn StreamCallbacks> = stream.weak();
        response_encoder.stream().add_callbacks(callbacks);
        stream
    }

    /// Has a request whose response has not begun go through its filters again, in a stream of its own; nothing of it is
    /// left to come from the client, and reading stays as it is.
    pub(super) fn recreate_stream(&self, stream: &Rc<ActiveStream>) {
        let Some(encoder) = stream.response_encoder() else { return };
        stream.remove_codec_callbacks();
        stream.set_local_complete();
        let request = stream.take_request();
        self.do_deferred_stream_destroy(stream);
        if let Some((headers, body)) = request {
            let new = self.add_stream(encoder);
            new.restart(stream, headers, body);
        }
    }

    /// Has the streams looked at when the one that begins now may have been idle for too long. One timer serves all streams of
    /// the connection, and is left alone while they come and go (in Envoy each has its own).
    pub(super) fn watch_for_idle_streams(&self) {
        let timeout = self.config.stream_idle_timeout;
        if !timeout.is_zero() && !self.stream_idle_timer.enabled() {
            self.arm(&self.stream_idle_timer, STREAM_IDLE, timeout);
        }
    }

    fn on_stream_idle_timer(&self) {
        let streams = self.streams.borrow().clone();
        let left = streams.iter().filter(|stream| stream.is_watched()).filter_map(|s| s.end_if_idle()).min();
        if let Some(left) = left {
            self.stream_idle_timer.enable_alone(
                &self.config.dispatcher,
                self.weak.clone(),
                STREAM_IDLE,
                left,
            );
        }
    }

    fn enable_idle_timer(&self) {
        if let Some(timeout) = self.config.idle_timeout {
            self.arm(&self.idle_timer, IDLE, timeout);
        }
    }

    /// Starts the way to Closing: `drain_timeout` from now.
    pub(super) fn start_drain_sequence(&self) {
        debug_assert!(self.drain_state.get() == DrainState::NotDraining);
        self.drain_state.set(DrainState::Draining);
        if let Some(codec) = self.codec() {
            codec.shutdown_notice();
        }
        trace::instant(Stage::StartDrainSequence, Some(self.connection_id()), 0, 0, 0);
        let timeout = jittered(self.config.drain_timeout, self.config.drain_timeout_jitter);
        self.arm(&self.end_timers().drain, DRAIN, timeout);
    }

    fn end_timers(&self) -> &EndTimers {
        self.end_timers.get_or_init(Box::default)
    }

    fn arm(&self, timer: &Timeout, which: u8, after: Duration) {
        timer.enable(&self.config.dispatcher, self.weak.clone(), which, after);
    }

    pub(super) fn on_drain_timeout(&self) {
        trace::instant(Stage::DrainTimeout, Some(self.connection_id()), 0, 0, 0);
        if let Some(codec) = self.codec() {
            codec.go_away();
        }
        self.drain_state.set(DrainState::Closing);
        self.check_for_deferred_close(false);
    }

    fn on_idle_timeout(&self) {
        envoy_conn_log!(Http, debug, self.connection_id(), "idle timeout");
        trace::instant(Stage::ConnectionIdleTimeout, Some(self.connection_id()), 0, 0, 0);
        self.config.stats.downstream_cx_idle_timeout.inc();
        if self.codec().is_none() {
            self.close(ConnectionCloseType::FlushWrite);
        } else if self.drain_state.get() == DrainState::NotDraining {
            self.start_drain_sequence();
        }
    }

    fn on_connection_duration_timeout(&self) {
        envoy_conn_log!(Http, debug, self.connection_id(), "max connection duration reached");
        trace::instant(Stage::ConnectionDurationTimeout, Some(self.connection_id()), 0, 0, 0);
        self.config.stats.downstream_cx_max_duration_reached.inc();
        self.max_duration_reached.set(true);
        if self.codec().is_none() {
            self.close(ConnectionCloseType::FlushWrite);
        } else if self.drain_state.get() == DrainState::NotDraining
            && (self.is_multiplexed() || !self.config.http1_safe_max_connection_duration)
        {
            self.start_drain_sequence();
        }
    }

    pub(super) fn adopt_codec(&self, codec: Rc<dyn ServerConnection>) {
        self.multiplexed.set(codec.protocol().is_multiplexed());
        self.codec.get_or_init(|| codec);
    }

    fn create_codec(&self) -> Rc<dyn ServerConnection> {
        let connection = self.connection().expect("reading from a connection"); // invariant
        let callbacks: Weak<dyn ServerConnectionCallbacks> = self.weak.clone();
        let codec = ServerConnectionImpl::new(&connection, callbacks, self.config.codec.clone());
        self.adopt_codec(codec.clone());
        self.config.stats.downstream_cx_http1_total.inc();
        self.config.stats.downstream_cx_http1_active.inc();
        codec
    }

    /// One message at a time, where the connection carries one at a time: on to the next one when nothing is being
    /// answered; no reading while a complete request is. A codec that uses nothing waits for more.
    fn dispatch(&self, data: &mut Buffer) {
        let codec = self.codec().unwrap_or_else(|| self.create_codec());
        loop {
            let before = data.len();
            if let Err(error) = codec.dispatch(data) {
                stage!(CodecException(self.connection_id()); reason = error);
                if error == CodecError::ResponseFlood {
                    self.config.codec.stats.response_flood.inc();
                } else {
                    self.config.stats.downstream_cx_protocol_error.inc();
                }
                data.clear();
                self.handle_codec_error(&error);
                return;
            }
            self.check_for_deferred_close(false);
            if self.is_multiplexed() {
                return;
            }
            let Some(connection) = self.connection() else { return };
            let front = self.streams.borrow().last().cloned();
            match front {
                Some(stream) if stream.remote_complete() => {
                    connection.read_disable(true);
                    return;
                }
                Some(_) => return,
                None if data.is_empty() || connection.state() != ConnectionState::Open => return,
                None if data.len() == before => return,
                None => debug_assert!(data.len() < before, "the codec made bytes of its own"),
            }
        }
    }

    /// The codec has answered if it could; what is left is to end everything.
    fn handle_codec_error(&self, error: &CodecError) {
        if self.has_streams() {
            self.config.stats.downstream_cx_destroy_local_active_rq.inc();
            self.config.stats.downstream_cx_destroy_active_rq.inc();
        }
        let details = format!("codec_error:{}", error.to_string().replace(' ', "_"));
        self.reset_all_streams(ResponseFlag::DownstreamProtocolError, &details);
        self.close(ConnectionCloseType::FlushWriteAndDelay);
    }

    /// Ends all streams for a reason that lies with their connection, unless the codec has one of their own.
    fn reset_all_streams(&self, flag: ResponseFlag, details: &str) {
        loop {
            let Some(stream) = self.streams.borrow().last().cloned() else { return };
            stream.remove_codec_callbacks();
            stream.stream_info().set_response_flag(flag);
            match stream.response_encoder().map_or("", |encoder| encoder.stream().response_details()) {
                "" => stream.stream_info().set_response_code_details(details.to_owned()),
                own => stream.stream_info().set_response_code_details(own),
            }
            let before = self.streams.borrow().len();
            stream.on_reset_stream(StreamResetReason::ConnectionTermination);
            debug_assert!(self.streams.borrow().len() < before, "a reset stream is gone");
        }
    }
}

impl ReadFilter for ConnectionManagerImpl {
    fn on_data(&self, data: &mut Buffer, _end_stream: bool) -> FilterStatus {
        let _stage = trace::scope(Stage::OnData, Some(self.connection_id()), 0, data.len() as u64, 0);
        self.dispatch(data);
        FilterStatus::StopIteration
    }

    fn initialize_read_filter_callbacks(&self, callbacks: ReadFilterCallbacks) {
        let stats = &self.config.stats;
        stats.downstream_cx_total.inc();
        stats.downstream_cx_active.inc();
        self.connection.get_or_init(|| callbacks.connection());
        let Some(connection) = self.connection() else { return };
        self.connection_id.set(connection.id());
        if connection.is_secure() {
            stats.downstream_cx_ssl_total.inc();
            stats.downstream_cx_ssl_active.inc();
            self.is_secure.set(true);
        }
        trace::instant(Stage::InitializeReadFilterCallbacks, Some(connection.id()), 0, 0, 0);
        let as_callbacks: Weak<dyn ConnectionCallbacks> = self.weak.clone();
        connection.add_connection_callbacks(as_callbacks);
        self.enable_idle_timer();
        if let Some(duration) = self.config.max_connection_duration {
            let duration = jittered(duration, self.config.max_connection_duration_jitter);
            self.arm(&self.end_timers().duration, DURATION, duration);
        }
        connection.set_delayed_close_timeout(self.config.delayed_close_timeout);
        connection.set_connection_stats(self.config.connection_stats.clone());
    }
}

impl CodecCallbacks for ConnectionManagerImpl {
    /// A client that wants no more streams opens none.
    fn on_go_away(&self) {}
}

impl ServerConnectionCallbacks for ConnectionManagerImpl {
    fn new_stream(&self, response_encoder: Rc<dyn StreamEncoder>) -> Weak<dyn RequestDecoder> {
        self.add_stream(response_encoder).weak()
    }
}

/// As long, and by chance up to so many percent more.
fn jittered(duration: Duration, percent: f64) -> Duration {
    if percent <= 0.0 {
        return duration;
    }
    let more = duration.as_secs_f64() * (percent / 100.0) * fastrand::f64();
    duration.saturating_add(Duration::try_from_secs_f64(more).unwrap_or_default())
}

impl TimeoutCallbacks for ConnectionManagerImpl {
    fn on_timeout(&self, which: u8) {
        match which {
            IDLE => self.on_idle_timeout(),
            DRAIN => self.on_drain_timeout(),
            STREAM_IDLE => self.on_stream_idle_timer(),
            _ => self.on_connection_duration_timeout(),
        }
    }
}

impl ConnectionCallbacks for ConnectionManagerImpl {
    fn on_event(&self, event: ConnectionEvent) {
        let streams = trace::detail(|| self.streams.borrow().len() as u64);
        trace::instant(Stage::ConnectionManagerEvent, Some(self.connection_id()), 0, event as u64, streams);
        let stats = &self.config.stats;
        match event {
            ConnectionEvent::Connected => return,
            ConnectionEvent::LocalClose => stats.downstream_cx_destroy_local.inc(),
            ConnectionEvent::RemoteClose => stats.downstream_cx_destroy_remote.inc(),
        }
        for timer in [&self.idle_timer, &self.stream_idle_timer] {
            timer.disable();
        }
        if let Some(timers) = self.end_timers.get() {
            timers.drain.disable();
            timers.duration.disable();
        }
        if self.has_streams() {
            if event == ConnectionEvent::LocalClose {
                stats.downstream_cx_destroy_local_active_rq.inc();
            } else {
                stats.downstream_cx_destroy_remote_active_rq.inc();
            }
            stats.downstream_cx_destroy_active_rq.inc();
            let details = if event == ConnectionEvent::LocalClose {
                "downstream_local_disconnect"
            } else {
                "downstream_remote_disconnect"
            };
            self.reset_all_streams(ResponseFlag::DownstreamConnectionTermination, details);
        }
    }

    fn on_above_write_buffer_high_watermark(&self) {
        if let Some(codec) = self.codec() {
            codec.on_underlying_connection_above_write_buffer_high_watermark();
        }
    }

    fn on_below_write_buffer_low_watermark(&self) {
        if let Some(codec) = self.codec() {
            codec.on_underlying_connection_below_write_buffer_low_watermark();
        }
    }
}

impl Drop for ConnectionManagerImpl {
    fn drop(&mut self) {
        trace::instant(Stage::ManagerGoes, Some(self.connection_id()), 0, 0, 0);
        let stats = &self.config.stats;
        stats.downstream_cx_destroy.inc();
        stats.downstream_cx_active.dec();
        if self.is_secure.get() {
            stats.downstream_cx_ssl_active.dec();
        }
        if self.codec.get().is_some() {
            stats.downstream_cx_http1_active.dec();
        }
        stats.downstream_cx_length_ms.record(self.start.elapsed().as_millis() as u64);
    }
}
