//! `TcpProxy::Filter`: a client's connection and the one that it goes on.
//!
//! Mirrors Envoy's `source/common/tcp_proxy/tcp_proxy.cc`.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::config::WorkerConfig;
use super::upstream_callbacks::UpstreamCallbacks;
use crate::access_log::LogContext;
use crate::buffer::Buffer;
use crate::cluster_manager::ClusterEntry;
use crate::common::backoff_strategy::JitteredBackOffStrategy;
use crate::config::access_log::AccessLogType;
use crate::conn_pool::tcp::{Callbacks, ConnectionData};
use crate::conn_pool::{Cancellable, PoolFailureReason};
use crate::envoy_conn_log;
use crate::event::{Timeout, TimeoutCallbacks};
use crate::network::{
    ConnectionCallbacks, ConnectionCloseType, ConnectionEvent, ConnectionImpl, ConnectionState, FilterStatus,
    ReadFilter, ReadFilterCallbacks,
};
use crate::stream_info::{ResponseFlag, StreamInfoImpl};
use crate::trace::{self, Ids, Stage, log_stage, stage};
use crate::upstream::load_balancer::{LoadBalancerContext, MetadataMatchCriterion};
use crate::upstream::outlier_detection::OutlierResult;
use crate::upstream::{ResourcePriority, WorkerHost};

/// Which timeout it is.
const MAX_DURATION: u8 = 0;
const FLUSH: u8 = 1;
const NEXT_ATTEMPT: u8 = 2;

/// Whether a connection is being asked for. An attempt may fail before the pool returns: the next one waits for that, so
/// that the stack does not grow with how many there may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempting {
    No,
    Yes,
    Again,
}

/// See the module's description. What there is of these says how far it is: a handle while it connects, then the
/// connection; neither once the upstream is gone.
pub(super) struct Filter {
    weak: Weak<Filter>,
    config: Rc<WorkerConfig>,
    read_callbacks: OnceCell<ReadFilterCallbacks>,
    connection_id: Cell<u64>,
    stream_info: StreamInfoImpl,
    upstream_handle: RefCell<Option<Rc<dyn Cancellable>>>,
    upstream_conn_data: RefCell<Option<ConnectionData>>,
    upstream_callbacks: Rc<UpstreamCallbacks>,
    upstream_host: RefCell<Option<Rc<WorkerHost>>>,
    criteria: RefCell<Option<Arc<[MetadataMatchCriterion]>>>,
    connecting: Cell<bool>,
    attempting: Cell<Attempting>,
    connect_attempts: Cell<u32>,
    backoff: Cell<Option<JitteredBackOffStrategy>>,
    max_duration_timer: Timeout,
    flush_timer: Timeout,
    next_attempt_timer: Timeout,
}

impl Filter {
    pub fn new(config: &Rc<WorkerConfig>) -> Rc<Self> {
        Rc::new_cyclic(|weak| Filter {
            weak: weak.clone(),
            config: config.clone(),
            read_callbacks: OnceCell::new(),
            connection_id: Cell::new(0),
            stream_info: StreamInfoImpl::new(),
            upstream_handle: RefCell::default(),
            upstream_conn_data: RefCell::default(),
            upstream_callbacks: UpstreamCallbacks::new(weak, &config.dispatcher, config.idle_timeout),
            upstream_host: RefCell::default(),
            criteria: RefCell::default(),
            connecting: Cell::new(false),
            attempting: Cell::new(Attempting::No),
            connect_attempts: Cell::new(0),
            backoff: Cell::new(config.backoff()),
            max_duration_timer: Timeout::default(),
            flush_timer: Timeout::default(),
            next_attempt_timer: Timeout::default(),
        })
    }

    fn passed(&self, stage: Stage, a: u64, b: u64) {
        trace::instant(stage, Some(self.connection_id.get()), 0, a, b);
    }

    fn downstream(&self) -> Option<Rc<ConnectionImpl>> {
        self.read_callbacks.get()?.connection().upgrade()
    }

    fn upstream(&self) -> Option<Rc<ConnectionImpl>> {
        self.upstream_conn_data.borrow().as_ref().map(|data| data.connection().clone())
    }

    fn close_downstream(&self, close_type: ConnectionCloseType) {
        if let Some(downstream) = self.downstream() {
            downstream.close(close_type);
        }
    }

    /// Asks for a connection to the cluster, and again for as long as that fails at once.
    fn connect(&self) {
        if self.attempting.replace(Attempting::Again) != Attempting::No {
            return;
        }
        while self.attempting.get() == Attempting::Again {
            self.attempting.set(Attempting::Yes);
            self.initialize_upstream_connection();
        }
        self.attempting.set(Attempting::No);
    }

    /// Asks once, unless there is a reason not to.
    fn initialize_upstream_connection(&self) {
        let id = self.connection_id.get();
        let route = self.config.route();
        let stats = &self.config.stats;
        let Some(cluster) = self.config.cluster_manager.get(&route.cluster) else {
            stats.downstream_cx_no_route.inc();
            return self.on_init_failure(ResponseFlag::NoClusterFound);
        };
        let name = &route.cluster;
        stage!(TcpProxyConnects(id), attempt = self.connect_attempts.get(); cluster = name);
        let info = cluster.info();
        self.stream_info.set_upstream_cluster_info(Some(info));
        // The pool would have the request wait for a connection that nobody gives back.
        if !info.resource_manager(ResourcePriority::Default).connections().can_create() {
            info.stats().upstream_cx_overflow().inc();
            return self.on_init_failure(ResponseFlag::UpstreamOverflow);
        }
        if self.connect_attempts.get() >= self.config.max_connect_attempts {
            info.stats().upstream_cx_connect_attempts_exceeded().inc();
            return self.on_init_failure(ResponseFlag::UpstreamRetryLimitExceeded);
        }
        self.criteria.replace(route.criteria.clone());
        self.ask_pool(&cluster);
    }

    fn ask_pool(&self, cluster: &ClusterEntry) {
        let Some(pool) = cluster.tcp_conn_pool(ResourcePriority::Default, self) else {
            return self.on_init_failure(ResponseFlag::NoHealthyUpstream);
        };
        self.connecting.set(true);
        self.connect_attempts.set(self.connect_attempts.get() + 1);
        self.stream_info.attempt_count.set(self.connect_attempts.get());
        let callbacks: Weak<dyn Callbacks> = self.weak.clone();
        let ids = Ids { connection: self.connection_id.get(), stream: 0 };
        // What fails at once has been told of already, and may have asked again.
        if let Some(handle) = pool.new_connection(callbacks, ids) {
            *self.upstream_handle.borrow_mut() = Some(handle);
        }
    }

    fn on_init_failure(&self, flag: ResponseFlag) {
        self.stream_info.set_response_flag(flag);
        self.close_downstream(ConnectionCloseType::NoFlush);
    }

    fn set_upstream_host(&self, host: &Rc<WorkerHost>) {
        self.stream_info.set_upstream_host(host);
        *self.upstream_host.borrow_mut() = Some(host.clone());
    }

    /// Tells who watches the host what has come of connecting.
    fn put_result(&self, result: OutlierResult) {
        if let Some(monitor) = self.upstream_host.borrow().as_ref().and_then(|host| host.outlier_detector()) {
            monitor.put_result(result, None);
        }
    }

    /// The client takes less than comes.
    fn read_disable_upstream(&self, disable: bool) {
        let open = self.upstream().filter(|upstream| upstream.state() == ConnectionState::Open);
        let (Some(upstream), Some(host)) = (open, self.upstream_host.borrow().clone()) else { return };
        upstream.read_disable(disable);
        let stats = host.cluster().stats();
        match disable {
            true => stats.upstream_flow_control_paused_reading_total().inc(),
            false => stats.upstream_flow_control_resumed_reading_total().inc(),
        }
    }

    /// The upstream takes less than comes.
    pub fn read_disable_downstream(&self, disable: bool) {
        let open = self.downstream().filter(|downstream| downstream.state() == ConnectionState::Open);
        let Some(downstream) = open else { return };
        downstream.read_disable(disable);
        let stats = &self.config.stats;
        match disable {
            true => stats.downstream_flow_control_paused_reading_total.inc(),
            false => stats.downstream_flow_control_resumed_reading_total.inc(),
        }
    }

    pub fn on_upstream_data(&self, data: &mut Buffer, end_stream: bool) {
        stage!(TcpProxyUpstreamData(self.connection_id.get()), bytes = data.len(), end = end_stream);
        self.stream_info.add_bytes_sent(data.len() as u64);
        if let Some(downstream) = self.downstream() {
            downstream.write(data, end_stream);
        }
        data.clear();
        self.upstream_callbacks.reset_idle_timer();
    }

    pub fn on_upstream_event(&self, event: ConnectionEvent) {
        let connecting = self.connecting.replace(false);
        self.passed(Stage::TcpProxyUpstreamEvent, event as u64, connecting.into());
        match event {
            ConnectionEvent::Connected => self.on_upstream_connected(),
            _ if connecting => self.on_connect_failure(event),
            _ => {
                let reset = self.upstream().is_some_and(|upstream| upstream.reset_by_peer());
                if reset {
                    self.stream_info.set_response_flag(ResponseFlag::UpstreamRemoteReset);
                }
                self.drop_upstream();
                let open = self.downstream().filter(|downstream| downstream.state() == ConnectionState::Open);
                if let Some(downstream) = open {
                    // As 1.40, what one peer has done the other is told.
                    downstream.close(match reset {
                        true => ConnectionCloseType::AbortReset,
                        false => ConnectionCloseType::FlushWrite,
                    });
                }
            }
        }
    }

    fn on_connect_failure(&self, event: ConnectionEvent) {
        self.drop_upstream();
        if event == ConnectionEvent::RemoteClose {
            self.stream_info.set_response_flag(ResponseFlag::UpstreamConnectionFailure);
            self.put_result(OutlierResult::LocalOriginConnectFailed);
        }
        let mut backoff = self.backoff.get();
        let pause = backoff.as_mut().map(|backoff| backoff.next_back_off_ms(fastrand::u64(..)));
        self.backoff.set(backoff);
        let may_try_again = self.connect_attempts.get() < self.config.max_connect_attempts;
        match pause.filter(|_| may_try_again) {
            Some(pause) => self.next_attempt_timer.enable(
                &self.config.dispatcher,
                self.weak.clone(),
                NEXT_ATTEMPT,
                std::time::Duration::from_millis(pause),
            ),
            None => self.connect(),
        }
    }

    fn on_upstream_connected(&self) {
        let Some(downstream) = self.downstream() else { return };
        downstream.read_disable(false);
        self.put_result(OutlierResult::LocalOriginConnectSuccessFinal);
        let requested_server_name = "";
        log_stage!(TcpProxyConnected(), name = requested_server_name);
        self.passed(Stage::TcpProxyConnected, 0, 0);
        if let Some(upstream) = self.upstream() {
            self.upstream_callbacks.start_idle_timer([&downstream, &upstream]);
        }
        if self.config.flush_on_connected {
            self.log(AccessLogType::TcpUpstreamConnected);
        }
    }

    /// The upstream's connection is of no more use.
    fn drop_upstream(&self) {
        drop(self.upstream_conn_data.take());
        self.upstream_callbacks.disable_idle_timer();
    }

    /// Nothing has gone either way for too long. The upstream is closed with it.
    pub fn on_idle_timeout(&self) {
        stage!(TcpProxyIdleTimeout(self.connection_id.get()));
        self.config.stats.idle_timeout.inc();
        self.close_downstream(ConnectionCloseType::NoFlush);
    }

    fn on_max_duration(&self) {
        envoy_conn_log!(Filter, debug, self.connection_id.get(), "max connection duration reached");
        self.stream_info.set_response_flag(ResponseFlag::DurationTimeout);
        self.config.stats.max_downstream_connection_duration.inc();
        self.close_downstream(ConnectionCloseType::NoFlush);
    }

    fn on_remote_close(&self) {
        let reset = self.downstream().is_some_and(|downstream| downstream.reset_by_peer());
        let Some(upstream) = self.upstream() else { return };
        if reset {
            upstream.close(ConnectionCloseType::AbortReset);
            return self.drop_upstream();
        }
        upstream.close(ConnectionCloseType::FlushWrite);
        // It has been taken away if nothing was left to be written.
        let Some(data) = self.upstream_conn_data.take() else { return };
        match upstream.state() {
            ConnectionState::Closed => self.upstream_callbacks.disable_idle_timer(),
            _ => self.config.drain_manager.add(data, self.upstream_callbacks.clone()),
        }
    }

    fn on_local_close(&self) {
        if let Some(upstream) = self.upstream() {
            upstream.close(ConnectionCloseType::NoFlush);
        }
        self.drop_upstream();
    }

    fn arm_flush_timer(&self) {
        if let Some(interval) = self.config.flush_interval {
            self.flush_timer.enable(&self.config.dispatcher, self.weak.clone(), FLUSH, interval);
        }
    }

    fn log(&self, log_type: AccessLogType) {
        let context = LogContext { log_type, ..LogContext::new(&self.stream_info) };
        self.config.access_logs.iter().for_each(|log| log.log(&context));
    }
}

impl ReadFilter for Filter {
    /// Nothing is read before there is somewhere to write it to.
    fn initialize_read_filter_callbacks(&self, callbacks: ReadFilterCallbacks) {
        let Some(connection) = callbacks.connection().upgrade() else { return };
        let _ = self.read_callbacks.set(callbacks);
        self.connection_id.set(connection.id());
        stage!(NewTcpProxySession(connection.id()));
        let events: Weak<dyn ConnectionCallbacks> = self.weak.clone();
        connection.add_connection_callbacks(events);
        connection.enable_half_close(true);
        if let Some(timeout) = self.config.idle_timeout {
            connection.set_delayed_close_timeout(timeout);
        }
        if !self.config.access_logs.is_empty() {
            // It cannot be asked for once the connection is gone.
            connection.local_address();
        }
        self.stream_info.set_downstream_connection(connection.connection_info());
        self.stream_info.upstream_is_raw.set(true);
        connection.read_disable(true);
        self.config.stats.downstream_cx_total.inc();
        connection.set_connection_stats(self.config.connection_stats.clone());
    }

    fn on_new_connection(&self) -> FilterStatus {
        if let Some((duration, is_common)) = self.config.max_connection_duration() {
            let (timer, dispatcher) = (&self.max_duration_timer, &self.config.dispatcher);
            let weak: Weak<dyn TimeoutCallbacks> = self.weak.clone();
            match is_common {
                true => timer.enable(dispatcher, weak, MAX_DURATION, duration),
                false => timer.enable_alone(dispatcher, weak, MAX_DURATION, duration),
            }
        }
        if self.config.flush_on_start {
            self.log(AccessLogType::TcpConnectionStart);
        }
        self.arm_flush_timer();
        self.connect();
        FilterStatus::StopIteration
    }

    fn on_data(&self, data: &mut Buffer, end_stream: bool) -> FilterStatus {
        stage!(TcpProxyData(self.connection_id.get()), bytes = data.len(), end = end_stream);
        self.stream_info.add_bytes_received(data.len() as u64);
        if let Some(upstream) = self.upstream() {
            upstream.write(data, end_stream);
        }
        data.clear();
        self.upstream_callbacks.reset_idle_timer();
        FilterStatus::StopIteration
    }
}

impl ConnectionCallbacks for Filter {
    fn on_event(&self, event: ConnectionEvent) {
        if event == ConnectionEvent::Connected {
            return;
        }
        self.passed(Stage::TcpProxyDownstreamEvent, event as u64, 0);
        self.next_attempt_timer.disable();
        self.max_duration_timer.disable();
        self.flush_timer.disable();
        if let Some(handle) = self.upstream_handle.take() {
            handle.cancel_and_close_excess();
        } else if event == ConnectionEvent::RemoteClose {
            self.on_remote_close();
        } else {
            self.on_local_close();
        }
    }

    fn on_above_write_buffer_high_watermark(&self) {
        self.read_disable_upstream(true);
    }

    fn on_below_write_buffer_low_watermark(&self) {
        self.read_disable_upstream(false);
    }
}

impl Callbacks for Filter {
    fn on_pool_ready(&self, connection: ConnectionData, host: &Rc<WorkerHost>) {
        drop(self.upstream_handle.take());
        let upstream = connection.connection().clone();
        self.passed(Stage::TcpProxyPoolReady, upstream.id(), 0);
        let callbacks: Weak<dyn crate::conn_pool::tcp::UpstreamCallbacks> =
            Rc::<UpstreamCallbacks>::downgrade(&self.upstream_callbacks);
        connection.add_upstream_callbacks(callbacks);
        *self.upstream_conn_data.borrow_mut() = Some(connection);
        upstream.enable_half_close(true);
        self.set_upstream_host(host);
        self.stream_info.set_upstream_connection(Some(upstream.whole_connection_info()));
        self.on_upstream_event(ConnectionEvent::Connected);
        if let Some(callbacks) = self.read_callbacks.get() {
            callbacks.continue_reading();
        }
    }

    fn on_pool_failure(
        &self,
        reason: PoolFailureReason,
        transport_failure_reason: &str,
        host: Option<&Rc<WorkerHost>>,
    ) {
        drop(self.upstream_handle.take());
        self.passed(Stage::TcpProxyPoolFailure, reason as u64, 0);
        if let Some(host) = host {
            self.set_upstream_host(host);
        }
        self.stream_info.set_upstream_transport_failure_reason(transport_failure_reason);
        let event = match reason {
            PoolFailureReason::Overflow | PoolFailureReason::LocalConnectionFailure => {
                ConnectionEvent::LocalClose
            }
            PoolFailureReason::RemoteConnectionFailure => ConnectionEvent::RemoteClose,
            PoolFailureReason::Timeout => {
                envoy_conn_log!(Filter, debug, self.connection_id.get(), "connect timeout");
                self.put_result(OutlierResult::LocalOriginTimeout);
                self.stream_info.set_response_flag(ResponseFlag::UpstreamConnectionFailure);
                ConnectionEvent::LocalClose
            }
        };
        self.on_upstream_event(event);
    }
}

impl LoadBalancerContext for Filter {
    fn compute_hash_key(&self) -> Option<u64> {
        self.config.hash(&self.stream_info)
    }

    fn metadata_match_criteria(&self) -> Option<Arc<[MetadataMatchCriterion]>> {
        self.criteria.borrow().clone()
    }

    fn downstream_original_dst(&self) -> Option<SocketAddr> {
        self.stream_info.downstream_connection()?.original_dst()
    }
}

impl TimeoutCallbacks for Filter {
    fn on_timeout(&self, which: u8) {
        match which {
            MAX_DURATION => self.on_max_duration(),
            NEXT_ATTEMPT => self.connect(),
            _ => {
                self.log(AccessLogType::TcpPeriodic);
                self.arm_flush_timer();
            }
        }
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        self.stream_info.request_complete.set(Some(crate::event::now()));
        self.log(AccessLogType::TcpConnectionEnd);
    }
}
