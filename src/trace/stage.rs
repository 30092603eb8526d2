//! The stages that the recorder knows, one per place where a request, a connection or the loop moves on.

use super::told::{StageLog, Whose};
use crate::logger::{Id, Level};

macro_rules! stages {
    ($($id:ident $clock:ident $number:literal $name:literal $details:literal $libevent:literal $file:literal $legate:literal
        $(=> $component:ident $level:ident $whose:ident $text:literal $(of $said_by:literal)?)?,)+) => {
        /// Where an event comes from.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u16)]
        pub enum Stage {
            $(#[doc = concat!("`", $name, "`")] $id,)+
        }

        /// All stages in the order of their numbers.
        pub const STAGES: &[StageInfo] = &[
            $(StageInfo {
                id: stringify!($id), name: $name, timed: clock::$clock, number: $number, details: $details, envoy_file: $file, libevent: $libevent,
                legate_file: $legate,
                log: log!($($component $level $whose $text $(of $said_by)?)?),
            },)+
        ];
    };
}

macro_rules! log {
    () => { None };
    ($component:ident $level:ident $whose:ident $text:literal) => { log!(@ $component $level $whose $text None) };
    ($component:ident $level:ident $whose:ident $text:literal of $said_by:literal) => {
        log!(@ $component $level $whose $text Some($said_by))
    };
    (@ $component:ident $level:ident $whose:ident $text:literal $said_by:expr) => {
        Some(StageLog {
            component: Id::$component, level: Level::$level, whose: Whose::$whose, text: $text, said_by: $said_by,
        })
    };
}

/// When a stage reads the clock.
#[expect(non_upper_case_globals, reason = "words of the table")]
mod clock {
    /// Each time; a callback not where the one before it has just done so.
    pub(super) const timed: bool = true;
    /// Never: it has the time of the last one on its thread that does, within the loop a moment ago in the same callback.
    pub(super) const same: bool = false;
}

/// What is known of a stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StageInfo {
    /// Its name in [`Stage`].
    pub id: &'static str,
    /// `Class::method`, as in Envoy, with a word behind it where one method is two stages; `pass` and `callback` are
    /// the loop's own, `lists` says how long the lists of a pool are now.
    pub name: &'static str,
    /// Whether it reads the clock.
    pub timed: bool,
    /// Where on the way of a request: 1 accepting, 2 reading, 3 the connection manager, 4 the router, 5 the pool
    /// and the upstream connection, 6 the response, 7 ending; 0 the loop, and what makes the server ready.
    pub number: u8,
    /// What the details are, a word for each; empty for none.
    pub details: &'static str,
    /// The file in Envoy (istio 1.1; today's for what 1.1 has not) that has it; empty for the loop's own.
    pub envoy_file: &'static str,
    /// The call of libevent behind it; empty where it is called by the stage before.
    pub libevent: &'static str,
    /// The file here that records it.
    pub legate_file: &'static str,
    /// What is logged then.
    pub log: Option<StageLog>,
}

// Stage, clock, number, name, details, libevent's call, Envoy's file, legate's file; component, level, ids and text of
// what is logged, and which method of Envoy says it if it is another; see `StageInfo` and `StageLog`.
stages! {
    Pass timed 0 "pass" "pass" "event_base_loop" "" "src/event/libevent.rs",
    Callback timed 0 "callback" "kind bits" "" "" "src/event/libevent.rs",
    MainCommon timed 0 "MainCommonBase::MainCommonBase" "" "" "source/exe/main_common.cc" "src/server/main_common.rs",
    ServerInstance timed 0 "InstanceImpl::InstanceImpl" "" "event_base_new" "source/server/server.cc" "src/server/server.rs",
    Initialize timed 0 "InstanceImpl::initialize" "workers" "" "source/server/server.cc" "src/server/server.rs",
    CreateWorker timed 0 "WorkerImpl::WorkerImpl" "worker" "event_base_new" "source/server/worker_impl.cc" "src/server/worker.rs",
    RegisterThread timed 0 "InstanceImpl::registerThread" "threads" "" "source/common/thread_local/thread_local_impl.cc" "src/thread_local/mod.rs",
    MainInitialize timed 0 "MainImpl::initialize" "clusters listeners" "" "source/server/configuration_impl.cc" "src/server/server.rs",
    ClusterManagerStarts timed 0 "ClusterManagerImpl::ClusterManagerImpl" "clusters" "" "source/common/upstream/cluster_manager_impl.cc" "src/cluster_manager/cluster_manager_impl.rs",
    LoadCluster timed 0 "ClusterManagerImpl::loadCluster" "before" "" "source/common/upstream/cluster_manager_impl.cc" "src/cluster_manager/cluster_manager_impl.rs",
    AddCluster timed 0 "ClusterManagerInitHelper::addCluster" "primary secondary" "" "source/common/upstream/cluster_manager_impl.cc" "src/cluster_manager/init_helper.rs",
    StartPreInit timed 0 "StaticClusterImpl::startPreInit" "hosts priorities" "" "source/common/upstream/upstream_impl.cc" "src/upstream/static_cluster.rs",
    StartPreInitDns timed 0 "StrictDnsClusterImpl::startPreInit" "names" "" "source/common/upstream/upstream_impl.cc" "src/upstream/dns_cluster.rs",
    StartResolve timed 0 "ResolveTarget::startResolve" "" "" "source/common/upstream/upstream_impl.cc" "src/upstream/resolve_target.rs",
    DnsResolved timed 0 "ResolveTarget::startResolve answered" "addresses" "evdns callback" "source/common/upstream/upstream_impl.cc" "src/upstream/resolve_target.rs",
    DnsHostsChanged timed 0 "ResolveTarget::startResolve changed" "added removed" "" "source/common/upstream/upstream_impl.cc" "src/upstream/resolve_target.rs",
    UpdateAllHosts timed 0 "StrictDnsClusterImpl::updateAllHosts" "added removed" "" "source/common/upstream/upstream_impl.cc" "src/upstream/dns_cluster.rs",
    AddHost timed 0 "OriginalDstCluster::addHost" "before" "" "source/common/upstream/original_dst_cluster.cc" "src/upstream/original_dst_cluster.rs",
    CleanupOriginalDst timed 0 "OriginalDstCluster::cleanup" "hosts stale" "" "source/common/upstream/original_dst_cluster.cc" "src/upstream/original_dst_cluster.rs",
    OnPreInitComplete timed 0 "ClusterImplBase::onPreInitComplete" "" "" "source/common/upstream/upstream_impl.cc" "src/upstream/cluster.rs",
    OnClusterInit timed 0 "ClusterManagerImpl::onClusterInit" "hosts" "" "source/common/upstream/cluster_manager_impl.cc" "src/cluster_manager/cluster_manager_impl.rs",
    MaybeFinishInitialize timed 0 "ClusterManagerInitHelper::maybeFinishInitialize" "primary secondary" "" "source/common/upstream/cluster_manager_impl.cc" "src/cluster_manager/init_helper.rs",
    UpdateClusterMembership timed 0 "ThreadLocalClusterManagerImpl::updateClusterMembership" "added removed" "" "source/common/upstream/cluster_manager_impl.cc" "src/cluster_manager/thread_local_cluster_manager.rs",
    SlotSet timed 0 "SlotImpl::set" "slot" "" "source/common/thread_local/thread_local_impl.cc" "src/thread_local/mod.rs",
    AddOrUpdateListener timed 0 "ListenerManagerImpl::addOrUpdateListener" "before" "" "source/server/listener_manager_impl.cc" "src/server/listener_manager.rs",
    CreateListenSocket timed 0 "ProdListenerComponentFactory::createListenSocket" "port" "" "source/server/listener_manager_impl.cc" "src/server/listener_config.rs",
    RunHelperStarts timed 0 "RunHelper::RunHelper" "" "" "source/server/server.cc" "src/server/server.rs",
    InitManagerInitialize timed 0 "ManagerImpl::initialize" "" "" "source/common/init/manager_impl.cc" "src/server/server.rs",
    Run timed 0 "InstanceImpl::run" "" "event_base_loop" "source/server/server.cc" "src/server/server.rs",
    CreateWatchDog timed 0 "GuardDogImpl::createWatchDog" "threads" "" "source/server/guarddog_impl.cc" "src/server/guard_dog.rs",
    StartWorkers timed 0 "ListenerManagerImpl::startWorkers" "workers" "" "source/server/listener_manager_impl.cc" "src/server/listener_manager.rs",
    ThreadRoutine timed 0 "WorkerImpl::threadRoutine" "worker" "event_base_loop" "source/server/worker_impl.cc" "src/server/worker.rs",
    DispatcherRun timed 0 "DispatcherImpl::run" "type" "event_base_loop" "source/common/event/dispatcher_impl.cc" "src/event/dispatcher.rs",
    AddListener timed 0 "ConnectionHandlerImpl::addListener" "before" "evconnlistener_new" "source/server/connection_handler_impl.cc" "src/server/connection_handler.rs",
    SetupServerSocket timed 0 "ListenerImpl::setupServerSocket" "fd" "evconnlistener_new" "source/common/network/listener_impl.cc" "src/network/listener.rs",
    ListenerAdded timed 0 "ListenerManagerImpl::addListenerToWorker" "ok" "" "source/server/listener_manager_impl.cc" "src/server/listener_manager.rs",
    Post same 0 "DispatcherImpl::post" "wakes" "event_active" "source/common/event/dispatcher_impl.cc" "src/event/post_queue.rs",
    RunPostCallbacks timed 0 "DispatcherImpl::runPostCallbacks" "left" "event_active" "source/common/event/dispatcher_impl.cc" "src/event/post_queue.rs",
    ListenCallback timed 1 "ListenerImpl::listenCallback" "fd" "evconnlistener" "source/common/network/listener_impl.cc" "src/network/listener.rs",
    OnAccept same 1 "ActiveListener::onAccept" "" "" "source/server/connection_handler_impl.cc" "src/server/connection_handler.rs",
    ContinueFilterChain timed 1 "ActiveSocket::continueFilterChain" "filter success" "" "source/server/connection_handler_impl.cc" "src/server/active_socket.rs",
    ActiveSocketTimeout timed 1 "ActiveSocket::onTimeout" "filter" "event_add" "source/server/connection_handler_impl.cc" "src/server/active_socket.rs",
    AcceptPause timed 1 "ListenerImpl::errorCallback" "" "event_add" "source/common/network/listener_impl.cc" "src/network/listener.rs",
    NewConnection timed 1 "ActiveListener::newConnection" "found" "" "source/server/connection_handler_impl.cc" "src/server/connection_handler.rs"
        => Main Debug Connections "new connection",
    CreateServerConnection timed 1 "DispatcherImpl::createServerConnection" "" "event_add" "source/common/event/dispatcher_impl.cc" "src/server/connection_handler.rs",
    SetBufferLimits same 1 "ConnectionImpl::setBufferLimits" "bytes" "" "source/common/network/connection_impl.cc" "src/network/connection.rs",
    AddReadFilter same 1 "FilterManagerImpl::addReadFilter" "before" "" "source/common/network/filter_manager_impl.cc" "src/network/connection.rs",
    InitializeReadFilterCallbacks same 1 "ConnectionManagerImpl::initializeReadFilterCallbacks" "" "" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/conn_manager.rs",
    InitializeReadFilters same 1 "FilterManagerImpl::initializeReadFilters" "filters" "" "source/common/network/filter_manager_impl.cc" "src/network/connection.rs",
    OnNewConnection same 1 "ActiveListener::onNewConnection" "connections" "" "source/server/connection_handler_impl.cc" "src/server/connection_handler.rs",
    OnFileEvent same 2 "ConnectionImpl::onFileEvent" "bits" "EV_READ|EV_WRITE|EV_CLOSED" "source/common/network/connection_impl.cc" "src/network/connection/io.rs",
    OnReadReady same 2 "ConnectionImpl::onReadReady" "" "EV_READ" "source/common/network/connection_impl.cc" "src/network/connection/io.rs"
        => Connection Trace Connections "read ready",
    DoRead same 2 "RawBufferSocket::doRead" "bytes end" "" "source/common/network/raw_buffer_socket.cc" "src/network/raw_buffer_socket.rs"
        => Connection Trace Connections "read returns: {bytes}",
    OnRead same 2 "ConnectionImpl::onRead" "bytes end" "" "source/common/network/connection_impl.cc" "src/network/connection/io.rs",
    ContinueReading same 2 "FilterManagerImpl::onContinueReading" "bytes end" "" "source/common/network/filter_manager_impl.cc" "src/network/connection/io.rs",
    OnWriteReady same 6 "ConnectionImpl::onWriteReady" "bytes connecting" "EV_WRITE" "source/common/network/connection_impl.cc" "src/network/connection/io.rs",
    DoWrite timed 6 "RawBufferSocket::doWrite" "bytes left" "" "source/common/network/raw_buffer_socket.cc" "src/network/raw_buffer_socket.rs"
        => Connection Trace Connections "write returns: {bytes}",
    Write same 6 "ConnectionImpl::write" "bytes end" "event_active" "source/common/network/connection_impl.cc" "src/network/connection.rs"
        => Connection Trace Connections "writing {bytes} bytes, end_stream {end}",
    ReadDisable same 2 "ConnectionImpl::readDisable" "disable before" "" "source/common/network/connection_impl.cc" "src/network/connection.rs"
        => Connection Trace Connections "readDisable: enabled={enabled} disable={disable}",
    HighWatermark timed 6 "ConnectionImpl::onHighWatermark" "bytes" "" "source/common/network/connection_impl.cc" "src/network/connection.rs"
        => Connection Debug Connections "onAboveWriteBufferHighWatermark",
    LowWatermark timed 6 "ConnectionImpl::onLowWatermark" "bytes" "" "source/common/network/connection_impl.cc" "src/network/connection.rs"
        => Connection Debug Connections "onBelowWriteBufferLowWatermark",
    Connect timed 5 "ClientConnectionImpl::connect" "" "" "source/common/network/connection_impl.cc" "src/network/client_connection.rs"
        => Connection Debug Connections "connecting to {address}",
    Close timed 7 "ConnectionImpl::close" "type bytes" "" "source/common/network/connection_impl.cc" "src/network/connection/close.rs"
        => Connection Debug Connections "closing data_to_write={bytes} type={type}",
    CloseSocket timed 7 "ConnectionImpl::closeSocket" "event" "event_del" "source/common/network/connection_impl.cc" "src/network/connection/close.rs"
        => Connection Debug Connections "closing socket: {event}",
    RaiseEvent same 5 "ConnectionImpl::raiseEvent" "event" "" "source/common/network/connection_impl.cc" "src/network/connection.rs",
    OnConnected same 5 "RawBufferSocket::onConnected" "" "" "source/common/network/raw_buffer_socket.cc" "src/network/raw_buffer_socket.rs",
    SslHandshake timed 1 "SslSocket::doHandshake" "" "" "source/extensions/transport_sockets/tls/ssl_socket.cc" "src/network/tls/ssl_socket.rs"
        => Connection Debug Connections "handshake complete",
    SslRead same 2 "SslSocket::doRead" "bytes end" "" "source/extensions/transport_sockets/tls/ssl_socket.cc" "src/network/tls/ssl_socket.rs"
        => Connection Trace Connections "ssl read returns: {bytes}",
    SslWrite timed 6 "SslSocket::doWrite" "bytes left" "" "source/extensions/transport_sockets/tls/ssl_socket.cc" "src/network/tls/ssl_socket.rs"
        => Connection Trace Connections "ssl write returns: {bytes}",
    SslShutdown timed 7 "SslSocket::shutdownSsl" "rc" "" "source/extensions/transport_sockets/tls/ssl_socket.cc" "src/network/tls/ssl_socket.rs"
        => Connection Debug Connections "SSL shutdown: rc={rc}",
    DelayedCloseTimeout timed 7 "ConnectionImpl::onDelayedCloseTimeout" "" "event_add" "source/common/network/connection_impl.cc" "src/network/connection/close.rs"
        => Connection Debug Connections "triggered delayed close",
    Dispatch same 2 "ConnectionImpl::dispatch" "bytes" "" "source/common/http/http1/codec_impl.cc" "src/http/http1/connection.rs"
        => Http Trace Connections "parsing {bytes} bytes",
    DirectDispatch same 2 "ConnectionImpl::maybeDirectDispatch" "bytes" "" "source/common/http/http1/codec_impl.cc" "src/http/http1/connection.rs"
        => Http Trace Connections "direct-dispatched {bytes} bytes",
    ServerMessageBegin same 2 "ServerConnectionImpl::onMessageBegin" "" "" "source/common/http/http1/codec_impl.cc" "src/http/http1/server.rs"
        => Http Trace Connections "message begin" of "ConnectionImpl::onMessageBeginBase",
    CompleteLastHeader same 2 "ConnectionImpl::completeLastHeader" "fields bytes" "" "source/common/http/http1/codec_impl.cc" "src/http/http1/head.rs",
    ServerHeadersComplete same 2 "ServerConnectionImpl::onHeadersComplete" "" "" "source/common/http/http1/codec_impl.cc" "src/http/http1/server.rs"
        => Http Trace Connections "headers complete" of "ConnectionImpl::onHeadersCompleteBase",
    ServerBody same 2 "ServerConnectionImpl::onBody" "bytes" "" "source/common/http/http1/codec_impl.cc" "src/http/http1/server.rs",
    ServerMessageComplete same 2 "ServerConnectionImpl::onMessageComplete" "" "" "source/common/http/http1/codec_impl.cc" "src/http/http1/server.rs",
    OnData same 3 "ConnectionManagerImpl::onData" "bytes" "" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/conn_manager.rs",
    NewStream same 3 "ConnectionManagerImpl::newStream" "" "" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/conn_manager.rs"
        => Http Debug Connections "new stream",
    DecodeHeaders same 3 "ActiveStream::decodeHeaders" "end" "" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/active_stream.rs"
        => Http Debug Streams "request headers complete (end_stream={end}):\n{headers}",
    MutateRequestHeaders same 3 "ConnectionManagerUtility::mutateRequestHeaders" "" "" "source/common/http/conn_manager_utility.cc" "src/filters/network/http_connection_manager/active_stream/request_head.rs",
    DecodeData same 3 "ActiveStream::decodeData" "bytes end" "" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/active_stream.rs",
    DecodeTrailers timed 3 "ActiveStream::decodeTrailers" "" "" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/active_stream.rs",
    SendLocalReply timed 3 "ActiveStream::sendLocalReply" "status" "" "source/common/http/conn_manager_impl.cc" "src/filters/http/manager/local_reply.rs",
    SetStreamBufferLimit same 3 "ActiveStream::setBufferLimit" "limit" "" "source/common/http/conn_manager_impl.cc" "src/filters/http/manager/buffering.rs"
        => Http Debug Streams "setting buffer limit to {limit}",
    CommonContinue same 3 "ActiveStreamFilterBase::commonContinue" "index" "" "source/common/http/conn_manager_impl.cc" "src/filters/http/manager/iteration.rs",
    FaultDelay timed 3 "FaultFilter::decodeHeaders" "ms" "event_add" "source/extensions/filters/http/fault/fault_filter.cc" "src/filters/http/fault/filter.rs"
        => Filter Debug Nobodys "fault: delaying request {ms}ms",
    FaultDelayOver timed 3 "FaultFilter::postDelayInjection" "" "event_add" "source/extensions/filters/http/fault/fault_filter.cc" "src/filters/http/fault/filter.rs",
    FaultAbort same 3 "FaultFilter::abortWithHTTPStatus" "status" "" "source/extensions/filters/http/fault/fault_filter.cc" "src/filters/http/fault/filter.rs",
    MaybeEndDecode same 3 "ActiveStream::maybeEndDecode" "" "" "source/common/http/conn_manager_impl.cc" "src/filters/http/manager/filter_manager.rs"
        => Http Debug Streams "request end stream",
    RefreshCachedRoute same 3 "ActiveStream::refreshCachedRoute" "" "" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/active_stream/response.rs",
    CreateFilterChain same 3 "ActiveStream::createFilterChain" "filters" "" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/active_stream/response.rs",
    ResetIdleTimer same 3 "ActiveStream::resetIdleTimer" "" "" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/active_stream/request_head.rs",
    DisarmRequestTimeout same 3 "ActiveStream::disarmRequestTimeout" "" "event_del" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/active_stream/response.rs",
    RequestDataTooLarge timed 3 "ActiveStreamDecoderFilter::requestDataTooLarge" "limit" "" "source/common/http/conn_manager_impl.cc" "src/filters/http/manager/buffering.rs",
    ResponseDataTooLarge timed 6 "ActiveStreamEncoderFilter::responseDataTooLarge" "limit" "" "source/common/http/conn_manager_impl.cc" "src/filters/http/manager/buffering.rs",
    CodecException timed 7 "ConnectionManagerImpl::handleCodecException" "" "" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/conn_manager.rs"
        => Http Debug Connections "dispatch error: {reason}",
    StreamIdleTimeout timed 7 "ActiveStream::onIdleTimeout" "" "event_add" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/active_stream.rs",
    StreamRequestTimeout timed 7 "ActiveStream::onRequestTimeout" "" "event_add" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/active_stream.rs",
    StreamHeaderTimeout timed 7 "ActiveStream::onRequestHeaderTimeout" "" "event_add" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/active_stream.rs",
    StreamMaxDuration timed 7 "ActiveStream::onStreamMaxDurationReached" "" "event_add" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/active_stream.rs",
    CallHighWatermark timed 6 "ActiveStream::callHighWatermarkCallbacks" "" "" "source/common/http/conn_manager_impl.cc" "src/filters/http/manager/filter_manager.rs"
        => Http Debug Streams "Disabling upstream stream due to downstream stream watermark.",
    CallLowWatermark timed 6 "ActiveStream::callLowWatermarkCallbacks" "" "" "source/common/http/conn_manager_impl.cc" "src/filters/http/manager/filter_manager.rs"
        => Http Debug Streams "Enabling upstream stream due to downstream stream watermark.",
    DecoderFilterAboveHighWatermark timed 5 "ActiveStreamDecoderFilter::onDecoderFilterAboveWriteBufferHighWatermark" "" "" "source/common/http/conn_manager_impl.cc" "src/filters/http/manager/callbacks.rs",
    DecoderFilterBelowLowWatermark timed 5 "ActiveStreamDecoderFilter::onDecoderFilterBelowWriteBufferLowWatermark" "" "" "source/common/http/conn_manager_impl.cc" "src/filters/http/manager/callbacks.rs",
    ConnectionIdleTimeout timed 7 "ConnectionManagerImpl::onIdleTimeout" "" "event_add" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/conn_manager.rs",
    ConnectionDurationTimeout timed 7 "ConnectionManagerImpl::onConnectionDurationTimeout" "" "event_add" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/conn_manager.rs",
    RouterDecodeHeaders same 4 "Filter::decodeHeaders" "end" "" "source/common/router/router.cc" "src/filters/http/router/filter.rs",
    RouterDecodeData same 4 "Filter::decodeData" "bytes end" "" "source/common/router/router.cc" "src/filters/http/router/filter.rs",
    RouterDecodeTrailers same 4 "Filter::decodeTrailers" "" "" "source/common/router/router.cc" "src/filters/http/router/filter.rs",
    GetConnPool same 4 "Filter::getConnPool" "protocol" "" "source/common/router/router.cc" "src/filters/http/router/filter.rs",
    ChooseHost same 4 "LoadBalancerBase::chooseHost" "found" "" "source/common/upstream/load_balancer_impl.cc" "src/cluster_manager/cluster_entry.rs",
    HttpConnPool same 4 "ClusterEntry::connPool" "priority" "" "source/common/upstream/cluster_manager_impl.cc" "src/cluster_manager/cluster_entry.rs",
    GetPool same 4 "ConnPoolMap::getPool" "pools" "" "source/common/upstream/conn_pool_map_impl.h" "src/cluster_manager/conn_pool_map.rs",
    GetContainer same 4 "ThreadLocalClusterManagerImpl::getHttpConnPoolsContainer" "hosts" "" "source/common/upstream/cluster_manager_impl.cc" "src/cluster_manager/thread_local_cluster_manager.rs",
    AllocateConnPool same 4 "ProdClusterManagerFactory::allocateConnPool" "pools" "" "source/common/upstream/cluster_manager_impl.cc" "src/cluster_manager/conn_pool_map.rs",
    FreeOnePool timed 4 "ConnPoolMap::freeOnePool" "freed" "" "source/common/upstream/conn_pool_map_impl.h" "src/cluster_manager/conn_pool_map.rs",
    EncodeHeadersToPool same 4 "UpstreamRequest::encodeHeaders" "end" "" "source/common/router/router.cc" "src/filters/http/router/upstream_request.rs",
    BufferRequestBody same 4 "UpstreamRequest::encodeData" "bytes kept" "" "source/common/router/router.cc" "src/filters/http/router/upstream_request.rs",
    UpstreamEncodeTrailers timed 4 "UpstreamRequest::encodeTrailers" "kept" "" "source/common/router/router.cc" "src/filters/http/router/upstream_request.rs",
    OnRequestComplete same 4 "Filter::onRequestComplete" "timeout_ms" "event_add" "source/common/router/router.cc" "src/filters/http/router/filter.rs",
    PoolNewStream timed 5 "ConnPoolImpl::newStream" "waiting pool" "" "source/common/http/http1/conn_pool.cc" "src/conn_pool/http1/pool.rs",
    PoolOverflow same 5 "ConnPoolImpl::newStream overflow" "waiting pool" "" "source/common/http/http1/conn_pool.cc" "src/conn_pool/base.rs"
        => Pool Debug Nobodys "max pending requests overflow",
    PoolLimited same 5 "ConnPoolImpl::newStream limited" "starved pool" "" "source/common/http/http1/conn_pool.cc" "src/conn_pool/base.rs",
    CreateNewConnection same 5 "ConnPoolImpl::createNewConnection" "for_request pool" "" "source/common/http/http1/conn_pool.cc" "src/conn_pool/http1/pool.rs"
        => Pool Debug Nobodys "creating a new connection",
    CreateConnection timed 5 "HostImpl::createConnection" "limit" "event_add" "source/common/upstream/upstream_impl.cc" "src/upstream/host.rs",
    ActiveClientComes timed 5 "ActiveClient::ActiveClient" "connect_timeout_ms pool" "event_add" "source/common/http/http1/conn_pool.cc" "src/conn_pool/http1/active_client.rs",
    NewPendingRequest same 5 "ConnPoolImplBase::newPendingRequest" "waiting pool" "" "source/common/http/conn_pool_base.cc" "src/conn_pool/base.rs"
        => Pool Debug Nobodys "queueing request due to no available connections",
    AttachRequestToClient same 5 "ConnPoolImpl::attachRequestToClient" "downstream pool" "" "source/common/http/http1/conn_pool.cc" "src/conn_pool/http1/pool.rs",
    StreamWrapperComes same 5 "StreamWrapper::StreamWrapper" "" "" "source/common/http/http1/conn_pool.cc" "src/conn_pool/http1/active_client.rs",
    PoolConnectionEvent same 5 "ConnPoolImpl::onConnectionEvent" "event pool" "" "source/common/http/http1/conn_pool.cc" "src/conn_pool/http1/pool.rs",
    ProcessIdleClient same 5 "ConnPoolImpl::processIdleClient" "delay pool" "" "source/common/http/http1/conn_pool.cc" "src/conn_pool/http1/pool.rs",
    OnUpstreamReady timed 5 "ConnPoolImpl::onUpstreamReady" "waiting pool" "event_add" "source/common/http/http1/conn_pool.cc" "src/conn_pool/http1/pool.rs",
    PoolResponseComplete same 6 "ConnPoolImpl::onResponseComplete" "case pool" "" "source/common/http/http1/conn_pool.cc" "src/conn_pool/http1/pool.rs"
        => Pool Debug Connections "response complete",
    TcpNewConnection timed 5 "ConnPoolImpl::newConnection" "waiting pool" "" "source/common/tcp/conn_pool.cc" "src/conn_pool/tcp/pool.rs",
    ActiveConnComes timed 5 "ActiveConn::ActiveConn" "connect_timeout_ms pool" "event_add" "source/common/tcp/conn_pool.cc" "src/conn_pool/tcp/active_client.rs",
    AssignConnection same 5 "ConnPoolImpl::assignConnection" "downstream pool" "" "source/common/tcp/conn_pool.cc" "src/conn_pool/tcp/pool.rs",
    TcpPoolEvent same 5 "ConnPoolImpl::onConnectionEvent raw" "event pool" "" "source/common/tcp/conn_pool.cc" "src/conn_pool/tcp/pool.rs",
    ActiveConnGoes timed 7 "ActiveConn::~ActiveConn" "" "event_del" "source/common/tcp/conn_pool.cc" "src/conn_pool/tcp/active_client.rs",
    NewTcpProxySession same 1 "Filter::initialize" "" "" "source/common/tcp_proxy/tcp_proxy.cc" "src/filters/network/tcp_proxy/filter.rs"
        => Filter Debug Connections "new tcp proxy session",
    TcpProxyConnects same 4 "Filter::initializeUpstreamConnection" "attempt" "" "source/common/tcp_proxy/tcp_proxy.cc" "src/filters/network/tcp_proxy/filter.rs"
        => Filter Debug Connections "Creating connection to cluster {cluster}",
    TcpProxyPoolReady same 5 "Filter::onPoolReady" "upstream" "" "source/common/tcp_proxy/tcp_proxy.cc" "src/filters/network/tcp_proxy/filter.rs",
    TcpProxyPoolFailure timed 5 "Filter::onPoolFailure" "reason" "" "source/common/tcp_proxy/tcp_proxy.cc" "src/filters/network/tcp_proxy/filter.rs",
    TcpProxyConnected same 5 "Filter::onUpstreamEvent connected" "" "" "source/common/tcp_proxy/tcp_proxy.cc" "src/filters/network/tcp_proxy/filter.rs"
        => Filter Debug Nobodys "TCP:onUpstreamEvent(), requestedServerName: {name}",
    TcpProxyData same 3 "Filter::onData" "bytes end" "" "source/common/tcp_proxy/tcp_proxy.cc" "src/filters/network/tcp_proxy/filter.rs"
        => Filter Trace Connections "downstream connection received {bytes} bytes, end_stream={end}",
    TcpProxyUpstreamData same 6 "Filter::onUpstreamData raw" "bytes end" "" "source/common/tcp_proxy/tcp_proxy.cc" "src/filters/network/tcp_proxy/filter.rs"
        => Filter Trace Connections "upstream connection received {bytes} bytes, end_stream={end}",
    TcpProxyUpstreamEvent timed 7 "Filter::onUpstreamEvent" "event connecting" "" "source/common/tcp_proxy/tcp_proxy.cc" "src/filters/network/tcp_proxy/filter.rs",
    TcpProxyDownstreamEvent timed 7 "Filter::onDownstreamEvent" "event" "" "source/common/tcp_proxy/tcp_proxy.cc" "src/filters/network/tcp_proxy/filter.rs",
    TcpProxyIdleTimeout timed 7 "Filter::onIdleTimeout" "" "event_add" "source/common/tcp_proxy/tcp_proxy.cc" "src/filters/network/tcp_proxy/filter.rs"
        => Filter Debug Connections "Session timed out",
    DrainerComes timed 7 "UpstreamDrainManager::add" "bytes" "" "source/common/tcp_proxy/tcp_proxy.cc" "src/filters/network/tcp_proxy/drainer.rs",
    DrainerEvent timed 7 "Drainer::onEvent" "event" "" "source/common/tcp_proxy/tcp_proxy.cc" "src/filters/network/tcp_proxy/drainer.rs",
    TcpUpstreamHeaders same 5 "TcpUpstream::encodeHeaders" "bytes end" "" "source/extensions/upstreams/http/tcp/upstream_request.cc" "src/filters/http/router/tcp_upstream.rs",
    TcpUpstreamData same 6 "TcpUpstream::onUpstreamData" "bytes end" "" "source/extensions/upstreams/http/tcp/upstream_request.cc" "src/filters/http/router/tcp_upstream.rs",
    TcpUpstreamEvent timed 7 "TcpUpstream::onEvent" "event" "" "source/extensions/upstreams/http/tcp/upstream_request.cc" "src/filters/http/router/tcp_upstream.rs",
    PurgePendingRequests timed 5 "ConnPoolImplBase::purgePendingRequests" "requests pool" "" "source/common/http/conn_pool_base.cc" "src/conn_pool/base.rs",
    PendingRequestCancel timed 5 "ConnPoolImplBase::onPendingRequestCancel" "waiting pool" "" "source/common/http/conn_pool_base.cc" "src/conn_pool/base.rs"
        => Pool Debug Nobodys "cancelling pending request",
    AddDrainedCallback timed 7 "ConnPoolImpl::addDrainedCallback" "callbacks pool" "" "source/common/http/http1/conn_pool.cc" "src/conn_pool/base.rs",
    OnDownstreamReset timed 7 "ConnPoolImpl::onDownstreamReset" "_ pool" "" "source/common/http/http1/conn_pool.cc" "src/conn_pool/http1/pool.rs",
    CheckForDrained timed 7 "ConnPoolImpl::checkForDrained" "callbacks pool" "" "source/common/http/http1/conn_pool.cc" "src/conn_pool/base.rs",
    DrainConnections timed 7 "ConnPoolImpl::drainConnections" "ready pool" "" "source/common/http/http1/conn_pool.cc" "src/conn_pool/http1/pool.rs",
    ActiveClientGoes timed 7 "ActiveClient::~ActiveClient" "" "" "source/common/http/http1/conn_pool.cc" "src/conn_pool/http1/active_client.rs",
    ClientDurationTimeout timed 7 "ActiveClient::onConnectionDurationTimeout" "" "event_add" "source/common/conn_pool/conn_pool_base.cc" "src/conn_pool/http1/active_client.rs",
    PoolGoes timed 7 "ConnPoolImpl::~ConnPoolImpl" "clients pool" "" "source/common/http/http1/conn_pool.cc" "src/conn_pool/http1/pool.rs",
    PoolLists same 5 "lists" "lists pool" "" "" "src/conn_pool/http1/pool.rs",
    OnPoolReady same 5 "UpstreamRequest::onPoolReady" "" "" "source/common/router/router.cc" "src/filters/http/router/upstream_request.rs"
        => Router Debug Streams "pool ready",
    OnPoolFailure timed 5 "UpstreamRequest::onPoolFailure" "reason" "" "source/common/router/router.cc" "src/filters/http/router/upstream_request.rs",
    ConnectTimeout timed 5 "ActiveClient::onConnectTimeout" "" "event_add" "source/common/http/http1/conn_pool.cc" "src/conn_pool/http1/active_client.rs"
        => Pool Debug Connections "connect timeout",
    NewCodecClient timed 5 "CodecClient::CodecClient" "" "" "source/common/http/codec_client.cc" "src/http/codec_client.rs"
        => Client Debug Connections "connecting",
    CodecClientProd timed 5 "CodecClientProd::CodecClientProd" "" "" "source/common/http/codec_client.cc" "src/conn_pool/http1/active_client.rs",
    CodecClientNewStream same 5 "CodecClient::newStream" "" "" "source/common/http/codec_client.cc" "src/http/codec_client.rs",
    ClientNewStream same 5 "ClientConnectionImpl::newStream" "" "" "source/common/http/http1/codec_impl.cc" "src/http/http1/client.rs",
    CodecClientData same 6 "CodecClient::onData" "bytes" "" "source/common/http/codec_client.cc" "src/http/codec_client.rs",
    CodecClientEvent same 5 "CodecClient::onEvent" "event requests" "" "source/common/http/codec_client.cc" "src/http/codec_client.rs",
    CodecClientError timed 7 "CodecClient::onData error" "premature" "" "source/common/http/codec_client.cc" "src/http/codec_client.rs",
    CodecClientReset timed 7 "CodecClient::onReset" "" "" "source/common/http/codec_client.cc" "src/http/codec_client.rs"
        => Client Debug Connections "request reset",
    StreamWrapperReset timed 7 "StreamWrapper::onResetStream" "reason" "" "source/common/http/http1/conn_pool.h" "src/conn_pool/http1/active_client.rs",
    CodecClientIdleTimeout timed 7 "CodecClient::onIdleTimeout" "" "event_add" "source/common/http/codec_client.h" "src/http/codec_client.rs",
    EncodeRequestHead same 5 "RequestStreamEncoderImpl::encodeHeaders" "bytes end" "" "source/common/http/http1/codec_impl.cc" "src/http/http1/client.rs",
    StreamEncodeComplete same 5 "StreamWrapper::onEncodeComplete" "" "" "source/common/http/http1/conn_pool.cc" "src/conn_pool/http1/active_client.rs",
    ClientMessageBegin same 6 "ClientConnectionImpl::onMessageBegin" "" "" "source/common/http/http1/codec_impl.h" "src/http/http1/client.rs"
        => Http Trace Connections "message begin" of "ConnectionImpl::onMessageBeginBase",
    ClientHeadersComplete same 6 "ClientConnectionImpl::onHeadersComplete" "" "" "source/common/http/http1/codec_impl.cc" "src/http/http1/client.rs"
        => Http Trace Connections "headers complete" of "ConnectionImpl::onHeadersCompleteBase",
    StreamWrapperDecodeHeaders same 6 "StreamWrapper::decodeHeaders" "close keep_alive" "" "source/common/http/http1/conn_pool.cc" "src/conn_pool/http1/active_client.rs",
    ClientBody same 6 "ClientConnectionImpl::onBody" "bytes" "" "source/common/http/http1/codec_impl.cc" "src/http/http1/client.rs",
    ClientMessageComplete same 6 "ClientConnectionImpl::onMessageComplete" "" "" "source/common/http/http1/codec_impl.cc" "src/http/http1/client.rs",
    ResponseDecodeComplete same 6 "CodecClient::responseDecodeComplete" "" "" "source/common/http/codec_client.cc" "src/http/codec_client.rs"
        => Client Debug Connections "response complete",
    DeleteRequest same 6 "CodecClient::deleteRequest" "left" "" "source/common/http/codec_client.cc" "src/http/codec_client.rs",
    StreamDecodeComplete same 6 "StreamWrapper::onDecodeComplete" "" "" "source/common/http/http1/conn_pool.cc" "src/conn_pool/http1/active_client.rs",
    UpstreamDecodeHeaders same 6 "UpstreamRequest::decodeHeaders" "end" "" "source/common/router/router.cc" "src/filters/http/router/upstream_request.rs",
    UpstreamDecodeData same 6 "UpstreamRequest::decodeData" "bytes end" "" "source/common/router/router.cc" "src/filters/http/router/upstream_request.rs",
    UpstreamRequestReset timed 7 "UpstreamRequest::onResetStream" "reason" "" "source/common/router/router.cc" "src/filters/http/router/upstream_request.rs",
    OnUpstreamHeaders same 6 "Filter::onUpstreamHeaders" "status end" "" "source/common/router/router.cc" "src/filters/http/router/filter/response.rs"
        => Router Debug Streams "upstream headers complete: end_stream={end}",
    OnUpstreamData same 6 "Filter::onUpstreamData" "bytes end" "" "source/common/router/router.cc" "src/filters/http/router/filter/response.rs",
    OnUpstreamTrailers timed 6 "Filter::onUpstreamTrailers" "" "" "source/common/router/router.cc" "src/filters/http/router/filter/response.rs",
    OnUpstreamReset timed 6 "Filter::onUpstreamReset" "reason" "" "source/common/router/router.cc" "src/filters/http/router/filter/response.rs"
        => Router Debug Streams "upstream reset: reset reason {reason}",
    MaybeRetryReset timed 6 "Filter::maybeRetryReset" "reason status" "" "source/common/router/router.cc" "src/filters/http/router/filter/retry.rs",
    ShouldRetry same 6 "RetryStateImpl::shouldRetry" "status left" "" "source/common/router/retry_state_impl.cc" "src/filters/http/router/retry_state.rs",
    EnableBackoffTimer same 6 "RetryStateImpl::enableBackoffTimer" "ms" "event_add" "source/common/router/retry_state_impl.cc" "src/filters/http/router/retry_state.rs",
    SetupRetry same 6 "Filter::setupRetry" "end" "" "source/common/router/router.cc" "src/filters/http/router/filter/retry.rs"
        => Router Debug Streams "performing retry",
    SetupRedirect same 6 "Filter::setupRedirect" "end" "" "source/common/router/router.cc" "src/filters/http/router/filter/redirect.rs"
        => Router Debug Streams "attempting internal redirect",
    DoRetry timed 4 "Filter::doRetry" "attempt" "event_add" "source/common/router/router.cc" "src/filters/http/router/filter/retry.rs",
    OnUpstreamAbort timed 7 "Filter::onUpstreamAbort" "status started" "" "source/common/router/router.cc" "src/filters/http/router/filter/response.rs",
    OnResponseTimeout timed 6 "Filter::onResponseTimeout" "" "event_add" "source/common/router/router.cc" "src/filters/http/router/filter/response.rs"
        => Router Debug Streams "upstream timeout",
    PerTryTimeout timed 6 "UpstreamRequest::onPerTryTimeout" "" "event_add" "source/common/router/router.cc" "src/filters/http/router/upstream_request.rs",
    PerTryIdleTimeout timed 6 "UpstreamRequest::onPerTryIdleTimeout" "" "event_add" "source/common/router/upstream_request.cc" "src/filters/http/router/upstream_request.rs",
    UpstreamMaxDuration timed 7 "UpstreamRequest::onStreamMaxDurationReached" "" "event_add" "source/common/router/upstream_request.cc" "src/filters/http/router/upstream_request.rs",
    DownstreamAboveWatermark timed 6 "DownstreamWatermarkManager::onAboveWriteBufferHighWatermark" "" "" "source/common/router/router.cc" "src/filters/http/router/upstream_request.rs",
    DownstreamBelowWatermark timed 6 "DownstreamWatermarkManager::onBelowWriteBufferLowWatermark" "" "" "source/common/router/router.cc" "src/filters/http/router/upstream_request.rs",
    DisableDataFromDownstream timed 5 "UpstreamRequest::disableDataFromDownstream" "" "" "source/common/router/router.h" "src/filters/http/router/upstream_request.rs",
    EnableDataFromDownstream timed 5 "UpstreamRequest::enableDataFromDownstream" "" "" "source/common/router/router.h" "src/filters/http/router/upstream_request.rs",
    OnUpstreamComplete same 6 "Filter::onUpstreamComplete" "" "" "source/common/router/router.cc" "src/filters/http/router/filter/response.rs",
    FilterEncodeHeaders same 6 "ActiveStreamDecoderFilter::encodeHeaders" "end" "" "source/common/http/conn_manager_impl.cc" "src/filters/http/manager/callbacks.rs",
    Encode100Continue timed 6 "ActiveStream::encode100ContinueHeaders" "status" "" "source/common/http/conn_manager_impl.cc" "src/filters/http/manager/filter_manager.rs",
    EncodeInterimHead timed 6 "StreamEncoderImpl::encode100ContinueHeaders" "status" "" "source/common/http/http1/codec_impl.cc" "src/http/http1/server.rs",
    MutateResponseHeaders same 6 "ConnectionManagerUtility::mutateResponseHeaders" "" "" "source/common/http/conn_manager_utility.cc" "src/filters/network/http_connection_manager/active_stream/response.rs",
    ChargeStats same 6 "ActiveStream::chargeStats" "status" "" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/active_stream/response.rs",
    EncodeResponseHead same 6 "ResponseStreamEncoderImpl::encodeHeaders" "bytes end" "" "source/common/http/http1/codec_impl.cc" "src/http/http1/server.rs",
    EncodeHeaders same 6 "ActiveStream::encodeHeaders" "status end" "" "source/common/http/conn_manager_impl.cc" "src/filters/http/manager/direction.rs"
        => Http Debug Streams "encoding headers via codec (end_stream={end}):\n{headers}",
    EncodeData same 6 "ActiveStream::encodeData" "bytes end" "" "source/common/http/conn_manager_impl.cc" "src/filters/http/manager/direction.rs"
        => Http Trace Streams "encoding data via codec (size={bytes} end_stream={end})",
    EncodeTrailers timed 6 "ActiveStream::encodeTrailers" "" "" "source/common/http/conn_manager_impl.cc" "src/filters/http/manager/direction.rs",
    CodecEncodeComplete same 6 "ServerConnectionImpl::onEncodeComplete" "request_complete" "" "source/common/http/http1/codec_impl.cc" "src/http/http1/server.rs",
    MaybeEndEncode same 6 "ActiveStream::maybeEndEncode" "ms" "" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/active_stream/response.rs",
    StreamReset timed 7 "ActiveStream::onResetStream" "reason" "" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/active_stream.rs"
        => Http Debug Streams "stream reset",
    DoEndStream same 7 "ConnectionManagerImpl::doEndStream" "reset" "" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/conn_manager.rs",
    DestroyStream same 7 "ConnectionManagerImpl::doDeferredStreamDestroy" "left" "" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/conn_manager.rs",
    MaybeDoShadowing same 7 "Filter::maybeDoShadowing" "end" "" "source/common/router/router.cc" "src/filters/http/router/shadow.rs",
    AsyncStreamSendHeaders same 7 "AsyncStreamImpl::sendHeaders" "" "end" "source/common/http/async_client_impl.cc" "src/filters/http/async_client.rs",
    AsyncStreamEncodeHeaders same 7 "AsyncStreamImpl::encodeHeaders" "status end" "" "source/common/http/async_client_impl.cc" "src/filters/http/async_client.rs"
        => Http Debug Nobodys "async http request response headers (end_stream={end}):\n{headers}",
    AsyncStreamEncodeData same 7 "AsyncStreamImpl::encodeData" "bytes end" "" "source/common/http/async_client_impl.cc" "src/filters/http/async_client.rs"
        => Http Trace Nobodys "async http request response data (length={bytes} end_stream={end})",
    AsyncStreamEncodeTrailers same 7 "AsyncStreamImpl::encodeTrailers" "" "" "source/common/http/async_client_impl.cc" "src/filters/http/async_client.rs",
    AsyncStreamCleanup same 7 "AsyncStreamImpl::cleanup" "" "" "source/common/http/async_client_impl.cc" "src/filters/http/async_client.rs",
    RouterDestroy same 7 "Filter::onDestroy" "" "" "source/common/router/router.cc" "src/filters/http/router/filter.rs",
    ResetUpstreamRequest timed 7 "UpstreamRequest::resetStream" "waiting" "" "source/common/router/router.cc" "src/filters/http/router/upstream_request.rs"
        => Router Debug Streams "resetting pool request",
    ActiveStreamGoes same 7 "ActiveStream::~ActiveStream" "access_logs" "" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/active_stream.rs",
    ConnectionManagerEvent timed 7 "ConnectionManagerImpl::onEvent" "event streams" "" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/conn_manager.rs",
    RemoveConnection timed 7 "ActiveListener::removeConnection" "left" "" "source/server/connection_handler_impl.cc" "src/server/connection_handler.rs"
        => Main Debug Connections "adding to cleanup list",
    ActiveConnectionGoes timed 7 "ActiveConnection::~ActiveConnection" "" "" "source/server/connection_handler_impl.cc" "src/server/connection_handler.rs",
    ManagerGoes timed 7 "ConnectionManagerImpl::~ConnectionManagerImpl" "" "" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/conn_manager.rs",
    StartDrainSequence timed 7 "ConnectionManagerImpl::startDrainSequence" "" "event_add" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/conn_manager.rs",
    DrainTimeout timed 7 "ConnectionManagerImpl::onDrainTimeout" "" "event_add" "source/common/http/conn_manager_impl.cc" "src/filters/network/http_connection_manager/conn_manager.rs",
    DrainListeners timed 7 "InstanceImpl::drainListeners" "" "" "source/server/server.cc" "src/server/server.rs",
    StartServerDrain timed 7 "DrainManagerImpl::startDrainSequence" "" "" "source/server/drain_manager_impl.cc" "src/server/drain_manager.rs",
    DrainTick timed 7 "DrainManagerImpl::drainSequenceTick" "tick" "event_add" "source/server/drain_manager_impl.cc" "src/server/drain_manager.rs",
    DrainClose same 7 "DrainManagerImpl::drainClose" "failing" "" "source/server/drain_manager_impl.cc" "src/server/drain_manager.rs",
    StopListeners timed 7 "ConnectionHandlerImpl::stopListeners" "listeners" "" "source/server/connection_handler_impl.cc" "src/server/connection_handler.rs",
    Shutdown timed 7 "InstanceImpl::shutdown" "" "event_base_loopexit" "source/server/server.cc" "src/server/server.rs",
    Terminate timed 7 "InstanceImpl::terminate" "" "" "source/server/server.cc" "src/server/server.rs",
    StopWorker timed 7 "WorkerImpl::stop" "worker" "event_base_loopexit" "source/server/worker_impl.cc" "src/server/worker.rs",
    RemoveHosts timed 7 "ThreadLocalClusterManagerImpl::removeHosts" "hosts" "" "source/common/upstream/cluster_manager_impl.cc" "src/cluster_manager/thread_local_cluster_manager.rs",
    DrainConnPools timed 7 "ThreadLocalClusterManagerImpl::drainConnPools" "pools" "" "source/common/upstream/cluster_manager_impl.cc" "src/cluster_manager/thread_local_cluster_manager.rs",
    ClearContainer timed 7 "ThreadLocalClusterManagerImpl::clearContainer" "pools" "" "source/common/upstream/cluster_manager_impl.cc" "src/cluster_manager/thread_local_cluster_manager.rs",
    HostHealthFailure timed 7 "ThreadLocalClusterManagerImpl::onHostHealthFailure" "" "" "source/common/upstream/cluster_manager_impl.cc" "src/cluster_manager/thread_local_cluster_manager.rs",
    HealthCheckHosts timed 0 "HealthCheckerImplBase::onClusterMemberUpdate" "added removed" "" "source/common/upstream/health_checker_base_impl.cc" "src/upstream/health_checker/base.rs",
    HealthCheckInterval timed 5 "ActiveHealthCheckSession::onIntervalBase" "first" "event_add" "source/common/upstream/health_checker_base_impl.cc" "src/upstream/health_checker/session.rs",
    HealthCheckTimeout timed 7 "ActiveHealthCheckSession::onTimeoutBase" "" "event_add" "source/common/upstream/health_checker_base_impl.cc" "src/upstream/health_checker/session.rs",
    HealthCheckSuccess timed 6 "ActiveHealthCheckSession::handleSuccess" "degraded changed" "" "source/common/upstream/health_checker_base_impl.cc" "src/upstream/health_checker/session.rs",
    HealthCheckUnhealthy timed 6 "ActiveHealthCheckSession::setUnhealthy" "type changed" "" "source/common/upstream/health_checker_base_impl.cc" "src/upstream/health_checker/session.rs",
    HealthCheckCrossThread timed 7 "HealthCheckerImplBase::setUnhealthyCrossThread" "" "event_active" "source/common/upstream/health_checker_base_impl.cc" "src/upstream/health_checker/base.rs",
    HttpHealthCheckResult timed 6 "HttpActiveHealthCheckSession::healthCheckResult" "status" "" "source/common/upstream/health_checker_impl.cc" "src/upstream/health_checker/http.rs"
        => Hc Debug Connections "hc response={status} health_flags={flags}",
    HttpHealthCheckReset timed 7 "HttpActiveHealthCheckSession::onResetStream" "" "" "source/common/upstream/health_checker_impl.cc" "src/upstream/health_checker/http.rs"
        => Hc Debug Connections "connection/stream error health_flags={flags}",
    HttpHealthCheckTimeout timed 7 "HttpActiveHealthCheckSession::onTimeout" "" "" "source/common/upstream/health_checker_impl.cc" "src/upstream/health_checker/http.rs"
        => Hc Debug Connections "connection/stream timeout health_flags={flags}",
    TcpHealthCheckData timed 6 "TcpActiveHealthCheckSession::onData" "bytes" "" "source/common/upstream/health_checker_impl.cc" "src/upstream/health_checker/tcp.rs"
        => Hc Trace Connections "total pending buffer={bytes}",
    TcpHealthCheckPassed timed 6 "TcpActiveHealthCheckSession::onData passed" "" "" "source/common/upstream/health_checker_impl.cc" "src/upstream/health_checker/tcp.rs"
        => Hc Trace Connections "healthcheck passed",
    UpdateOutlierDetection timed 6 "Filter::updateOutlierDetection" "result status" "" "source/common/router/router.cc" "src/filters/http/router/upstream_request.rs",
    PutHttpResponseCode same 6 "DetectorHostMonitorImpl::putHttpResponseCode" "status" "" "source/common/upstream/outlier_detection_impl.cc" "src/upstream/outlier_detection/host_monitor.rs",
    OnConsecutiveErrorWorker timed 7 "DetectorImpl::onConsecutiveErrorWorker" "kind" "" "source/common/upstream/outlier_detection_impl.cc" "src/upstream/outlier_detection/detector.rs",
    OnIntervalTimer timed 7 "DetectorImpl::onIntervalTimer" "hosts ejected" "event_add" "source/common/upstream/outlier_detection_impl.cc" "src/upstream/outlier_detection/detector.rs",
    EjectHost timed 7 "DetectorImpl::ejectHost" "kind enforced" "" "source/common/upstream/outlier_detection_impl.cc" "src/upstream/outlier_detection/detector.rs",
    UnejectHost timed 7 "DetectorImpl::checkHostForUneject" "ejections" "" "source/common/upstream/outlier_detection_impl.cc" "src/upstream/outlier_detection/detector.rs",
    ClusterEntryGoes timed 7 "ClusterEntry::~ClusterEntry" "hosts" "" "source/common/upstream/cluster_manager_impl.cc" "src/cluster_manager/cluster_entry.rs",
    ClusterManagerGoes timed 7 "ThreadLocalClusterManagerImpl::~ThreadLocalClusterManagerImpl" "hosts clusters" "" "source/common/upstream/cluster_manager_impl.cc" "src/cluster_manager/thread_local_cluster_manager.rs",
    DeferredDelete same 7 "DispatcherImpl::deferredDelete" "size" "event_active" "source/common/event/dispatcher_impl.cc" "src/event/dispatcher.rs"
        => Main Trace Nobodys "item added to deferred deletion list (size={size})",
    ClearDeferredDeleteList same 7 "DispatcherImpl::clearDeferredDeleteList" "size" "" "source/common/event/dispatcher_impl.cc" "src/event/dispatcher.rs"
        => Main Trace Nobodys "clearing deferred deletion list (size={size})",
}

impl StageInfo {
    /// The method of Envoy that logs something then.
    pub fn said_by(&self) -> Option<&'static str> {
        self.log.map(|log| log.said_by.unwrap_or(self.name))
    }
}

/// What that method of Envoy logs, if a stage is recorded then.
pub fn text_said_by(method: &str) -> Option<&'static str> {
    STAGES.iter().find(|info| info.said_by() == Some(method))?.log.map(|log| log.text)
}

impl Stage {
    /// The stage of that number; `None` for a number that none has.
    pub fn info(number: u16) -> Option<&'static StageInfo> {
        STAGES.get(number as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_table_agree() {
        assert_eq!(Stage::info(Stage::Pass as u16).map(|s| s.name), Some("pass"));
        let last = Stage::ClearDeferredDeleteList;
        assert_eq!(last as usize, STAGES.len() - 1);
        assert_eq!(Stage::info(last as u16).map(|s| s.name), Some("DispatcherImpl::clearDeferredDeleteList"));
        assert_eq!(Stage::info(STAGES.len() as u16), None);
    }

    #[test]
    fn each_stage_is_recorded_where_the_table_says() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let missing: Vec<String> = STAGES
            .iter()
            .filter(|info| {
                let text = std::fs::read_to_string(root.join(info.legate_file)).unwrap_or_default();
                let is_own = matches!(info.name, "pass" | "callback" | "lists") && text.contains("trace::");
                let text: String = text.split_whitespace().collect();
                let calls =
                    ["Stage::{}", "stage!({}(", "stage!(scope{}("].map(|call| call.replace("{}", info.id));
                !is_own && !calls.iter().any(|call| text.contains(call))
            })
            .map(|info| format!("{} is not in {}", info.id, info.legate_file))
            .collect();
        assert!(missing.is_empty(), "{missing:#?}");
    }

    #[test]
    fn each_text_is_logged() {
        let mut sources = String::new();
        let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder").filter_map(Result::ok) {
                match entry.path() {
                    path if path.is_dir() => folders.push(path),
                    path => {
                        sources.extend(std::fs::read_to_string(path).unwrap_or_default().split_whitespace())
                    }
                }
            }
        }
        // The client's is the server's.
        let mut logged =
            STAGES.iter().filter(|info| info.log.is_some() && info.id != "ClientHeadersComplete");
        let is_logged = |info: &StageInfo| {
            let calls = ["stage!({}(", "stage!(scope{}("].map(|call| call.replace("{}", info.id));
            calls.iter().any(|call| sources.contains(call))
        };
        assert_eq!(logged.find(|info| !is_logged(info)), None);
    }

    #[test]
    fn no_name_stands_for_two_stages() {
        let mut names: Vec<&str> = STAGES.iter().map(|stage| stage.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), STAGES.len());
    }
}
