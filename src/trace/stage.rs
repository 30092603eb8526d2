//! The stages that the recorder knows, one per place where a request, a connection or the loop moves on.

macro_rules! stages {
    ($($id:ident $name:literal $number:literal $file:literal $libevent:literal $legate:literal,)+) => {
        /// Where an event comes from.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u16)]
        pub enum Stage {
            $(#[doc = concat!("`", $name, "`")] $id,)+
        }

        #[cfg(test)]
        const ALL: &[Stage] = &[$(Stage::$id,)+];

        /// All stages in the order of their numbers.
        pub const STAGES: &[StageInfo] = &[
            $(StageInfo { name: $name, number: $number, envoy_file: $file, libevent: $libevent, legate_file: $legate },)+
        ];
    };
}

/// What is known of a stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StageInfo {
    /// `Class::method`, as in Envoy; `pass` and `callback` are the loop's own.
    pub name: &'static str,
    /// Where on the way of a request: 1 accepting, 2 reading, 3 the connection manager, 4 the router, 5 the pool
    /// and the upstream connection, 6 the response, 7 ending; 0 the loop, and what makes the server ready.
    pub number: u8,
    /// The file in Envoy (istio 1.1) that has it; empty for the loop's own.
    pub envoy_file: &'static str,
    /// The call of libevent behind it; empty where it is called by the stage before.
    pub libevent: &'static str,
    /// The file here that records it.
    pub legate_file: &'static str,
}

stages! {
    Pass "pass" 0 "" "event_base_loop" "src/event/libevent.rs",
    Callback "callback" 0 "" "" "src/event/libevent.rs",
    Initialize "InstanceImpl::initialize" 0 "source/server/server.cc" "" "src/server/server.rs",
    LoadCluster "ClusterManagerImpl::loadCluster" 0 "source/common/upstream/cluster_manager_impl.cc" "" "src/cluster_manager/cluster_manager_impl.rs",
    AddCluster "ClusterManagerInitHelper::addCluster" 0 "source/common/upstream/cluster_manager_impl.cc" "" "src/cluster_manager/init_helper.rs",
    OnClusterInit "ClusterManagerImpl::onClusterInit" 0 "source/common/upstream/cluster_manager_impl.cc" "" "src/cluster_manager/cluster_manager_impl.rs",
    MaybeFinishInitialize "ClusterManagerInitHelper::maybeFinishInitialize" 0 "source/common/upstream/cluster_manager_impl.cc" "" "src/cluster_manager/init_helper.rs",
    UpdateClusterMembership "ThreadLocalClusterManagerImpl::updateClusterMembership" 0 "source/common/upstream/cluster_manager_impl.cc" "" "src/cluster_manager/thread_local_cluster_manager.rs",
    SlotSet "SlotImpl::set" 0 "source/common/thread_local/thread_local_impl.cc" "" "src/thread_local/mod.rs",
    AddOrUpdateListener "ListenerManagerImpl::addOrUpdateListener" 0 "source/server/listener_manager_impl.cc" "" "src/server/listener_manager.rs",
    Run "InstanceImpl::run" 0 "source/server/server.cc" "event_base_loop" "src/server/server.rs",
    StartWorkers "ListenerManagerImpl::startWorkers" 0 "source/server/listener_manager_impl.cc" "" "src/server/listener_manager.rs",
    ThreadRoutine "WorkerImpl::threadRoutine" 0 "source/server/worker_impl.cc" "event_base_loop" "src/server/worker.rs",
    AddListener "ConnectionHandlerImpl::addListener" 0 "source/server/connection_handler_impl.cc" "evconnlistener_new" "src/server/connection_handler.rs",
    RunPostCallbacks "DispatcherImpl::runPostCallbacks" 0 "source/common/event/dispatcher_impl.cc" "event_active" "src/event/dispatcher.rs",
    ListenCallback "ListenerImpl::listenCallback" 1 "source/common/network/listener_impl.cc" "evconnlistener" "src/network/listener.rs",
    NewConnection "ActiveListener::newConnection" 1 "source/server/connection_handler_impl.cc" "" "src/server/connection_handler.rs",
    InitializeReadFilterCallbacks "ConnectionManagerImpl::initializeReadFilterCallbacks" 1 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/conn_manager.rs",
    OnNewConnection "ActiveListener::onNewConnection" 1 "source/server/connection_handler_impl.cc" "" "src/server/connection_handler.rs",
    OnFileEvent "ConnectionImpl::onFileEvent" 2 "source/common/network/connection_impl.cc" "EV_READ|EV_WRITE|EV_CLOSED" "src/network/connection/io.rs",
    OnReadReady "ConnectionImpl::onReadReady" 2 "source/common/network/connection_impl.cc" "EV_READ" "src/network/connection/io.rs",
    DoRead "RawBufferSocket::doRead" 2 "source/common/network/raw_buffer_socket.cc" "" "src/network/raw_buffer_socket.rs",
    ContinueReading "FilterManagerImpl::onContinueReading" 2 "source/common/network/filter_manager_impl.cc" "" "src/network/connection/io.rs",
    OnWriteReady "ConnectionImpl::onWriteReady" 6 "source/common/network/connection_impl.cc" "EV_WRITE" "src/network/connection/io.rs",
    DoWrite "RawBufferSocket::doWrite" 6 "source/common/network/raw_buffer_socket.cc" "" "src/network/raw_buffer_socket.rs",
    Write "ConnectionImpl::write" 6 "source/common/network/connection_impl.cc" "event_active" "src/network/connection.rs",
    ReadDisable "ConnectionImpl::readDisable" 2 "source/common/network/connection_impl.cc" "" "src/network/connection.rs",
    HighWatermark "ConnectionImpl::onHighWatermark" 6 "source/common/network/connection_impl.cc" "" "src/network/connection.rs",
    LowWatermark "ConnectionImpl::onLowWatermark" 6 "source/common/network/connection_impl.cc" "" "src/network/connection.rs",
    Connect "ClientConnectionImpl::connect" 5 "source/common/network/connection_impl.cc" "" "src/network/client_connection.rs",
    Close "ConnectionImpl::close" 7 "source/common/network/connection_impl.cc" "" "src/network/connection/close.rs",
    CloseSocket "ConnectionImpl::closeSocket" 7 "source/common/network/connection_impl.cc" "event_del" "src/network/connection/close.rs",
    RaiseEvent "ConnectionImpl::raiseEvent" 5 "source/common/network/connection_impl.cc" "" "src/network/connection.rs",
    DelayedCloseTimeout "ConnectionImpl::onDelayedCloseTimeout" 7 "source/common/network/connection_impl.cc" "event_add" "src/network/connection/close.rs",
    ServerMessageBegin "ServerConnectionImpl::onMessageBegin" 2 "source/common/http/http1/codec_impl.cc" "" "src/http/http1/server.rs",
    ServerHeadersComplete "ServerConnectionImpl::onHeadersComplete" 2 "source/common/http/http1/codec_impl.cc" "" "src/http/http1/server.rs",
    ServerBody "ServerConnectionImpl::onBody" 2 "source/common/http/http1/codec_impl.cc" "" "src/http/http1/server.rs",
    ServerMessageComplete "ServerConnectionImpl::onMessageComplete" 2 "source/common/http/http1/codec_impl.cc" "" "src/http/http1/server.rs",
    OnData "ConnectionManagerImpl::onData" 3 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/conn_manager.rs",
    NewStream "ConnectionManagerImpl::newStream" 3 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/conn_manager.rs",
    DecodeHeaders "ActiveStream::decodeHeaders" 3 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/active_stream.rs",
    DecodeData "ActiveStream::decodeData" 3 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/active_stream.rs",
    DecodeTrailers "ActiveStream::decodeTrailers" 3 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/active_stream.rs",
    SendLocalReply "ActiveStream::sendLocalReply" 3 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/local_reply.rs",
    MaybeEndDecode "ActiveStream::maybeEndDecode" 3 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/active_stream.rs",
    RefreshCachedRoute "ActiveStream::refreshCachedRoute" 3 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/active_stream.rs",
    CreateFilterChain "ActiveStream::createFilterChain" 3 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/active_stream.rs",
    CodecException "ConnectionManagerImpl::handleCodecException" 7 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/conn_manager.rs",
    StreamIdleTimeout "ActiveStream::onIdleTimeout" 7 "source/common/http/conn_manager_impl.cc" "event_add" "src/filters/network/http_connection_manager/active_stream.rs",
    StreamRequestTimeout "ActiveStream::onRequestTimeout" 7 "source/common/http/conn_manager_impl.cc" "event_add" "src/filters/network/http_connection_manager/active_stream.rs",
    CallHighWatermark "ActiveStream::callHighWatermarkCallbacks" 6 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/active_stream.rs",
    CallLowWatermark "ActiveStream::callLowWatermarkCallbacks" 6 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/active_stream.rs",
    DecoderFilterAboveHighWatermark "ActiveStreamDecoderFilter::onDecoderFilterAboveWriteBufferHighWatermark" 5 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/active_stream_filter.rs",
    DecoderFilterBelowLowWatermark "ActiveStreamDecoderFilter::onDecoderFilterBelowWriteBufferLowWatermark" 5 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/active_stream_filter.rs",
    ConnectionIdleTimeout "ConnectionManagerImpl::onIdleTimeout" 7 "source/common/http/conn_manager_impl.cc" "event_add" "src/filters/network/http_connection_manager/conn_manager.rs",
    RouterDecodeHeaders "Filter::decodeHeaders" 4 "source/common/router/router.cc" "" "src/filters/http/router/filter.rs",
    RouterDecodeData "Filter::decodeData" 4 "source/common/router/router.cc" "" "src/filters/http/router/filter.rs",
    ChooseHost "LoadBalancer::chooseHost" 4 "source/common/upstream/load_balancer_impl.cc" "" "src/cluster_manager/cluster_entry.rs",
    HttpConnPool "ClusterEntry::connPool" 4 "source/common/upstream/cluster_manager_impl.cc" "" "src/cluster_manager/cluster_entry.rs",
    GetPool "ConnPoolMap::getPool" 4 "source/common/upstream/conn_pool_map_impl.h" "" "src/cluster_manager/conn_pool_map.rs",
    EncodeHeadersToPool "UpstreamRequest::encodeHeaders" 4 "source/common/router/router.cc" "" "src/filters/http/router/upstream_request.rs",
    BufferRequestBody "UpstreamRequest::encodeData" 4 "source/common/router/router.cc" "" "src/filters/http/router/upstream_request.rs",
    OnRequestComplete "Filter::onRequestComplete" 4 "source/common/router/router.cc" "event_add" "src/filters/http/router/filter.rs",
    PoolNewStream "ConnPoolImpl::newStream" 5 "source/common/http/http1/conn_pool.cc" "" "src/conn_pool/http1/pool.rs",
    CreateNewConnection "ConnPoolImpl::createNewConnection" 5 "source/common/http/http1/conn_pool.cc" "" "src/conn_pool/http1/pool.rs",
    CreateConnection "HostImpl::createConnection" 5 "source/common/upstream/upstream_impl.cc" "event_add" "src/upstream/host.rs",
    NewPendingRequest "ConnPoolImpl::newPendingRequest" 5 "source/common/http/conn_pool_base.cc" "" "src/conn_pool/http1/pool.rs",
    AttachRequestToClient "ConnPoolImpl::attachRequestToClient" 5 "source/common/http/http1/conn_pool.cc" "" "src/conn_pool/http1/pool.rs",
    PoolConnectionEvent "ConnPoolImpl::onConnectionEvent" 5 "source/common/http/http1/conn_pool.cc" "" "src/conn_pool/http1/pool.rs",
    ProcessIdleClient "ConnPoolImpl::processIdleClient" 5 "source/common/http/http1/conn_pool.cc" "" "src/conn_pool/http1/pool.rs",
    OnUpstreamReady "ConnPoolImpl::onUpstreamReady" 5 "source/common/http/http1/conn_pool.cc" "event_add" "src/conn_pool/http1/pool.rs",
    PoolResponseComplete "ConnPoolImpl::onResponseComplete" 6 "source/common/http/http1/conn_pool.cc" "" "src/conn_pool/http1/pool.rs",
    PurgePendingRequests "ConnPoolImplBase::purgePendingRequests" 5 "source/common/http/conn_pool_base.cc" "" "src/conn_pool/http1/pool.rs",
    PendingRequestCancel "ConnPoolImplBase::onPendingRequestCancel" 5 "source/common/http/conn_pool_base.cc" "" "src/conn_pool/http1/pool.rs",
    OnDownstreamReset "ConnPoolImpl::onDownstreamReset" 7 "source/common/http/http1/conn_pool.cc" "" "src/conn_pool/http1/pool.rs",
    CheckForDrained "ConnPoolImpl::checkForDrained" 7 "source/common/http/http1/conn_pool.cc" "" "src/conn_pool/http1/pool.rs",
    DrainConnections "ConnPoolImpl::drainConnections" 7 "source/common/http/http1/conn_pool.cc" "" "src/conn_pool/http1/pool.rs",
    ActiveClientGoes "ActiveClient::~ActiveClient" 7 "source/common/http/http1/conn_pool.cc" "" "src/conn_pool/http1/active_client.rs",
    PoolLists "ConnPoolImpl::lists" 5 "source/common/http/http1/conn_pool.h" "" "src/conn_pool/http1/pool.rs",
    OnPoolReady "UpstreamRequest::onPoolReady" 5 "source/common/router/router.cc" "" "src/filters/http/router/upstream_request.rs",
    OnPoolFailure "UpstreamRequest::onPoolFailure" 5 "source/common/router/router.cc" "" "src/filters/http/router/upstream_request.rs",
    ConnectTimeout "ActiveClient::onConnectTimeout" 5 "source/common/http/http1/conn_pool.cc" "event_add" "src/conn_pool/http1/active_client.rs",
    NewCodecClient "CodecClient::CodecClient" 5 "source/common/http/codec_client.cc" "" "src/http/codec_client.rs",
    CodecClientNewStream "CodecClient::newStream" 5 "source/common/http/codec_client.cc" "" "src/http/codec_client.rs",
    CodecClientData "CodecClient::onData" 6 "source/common/http/codec_client.cc" "" "src/http/codec_client.rs",
    CodecClientEvent "CodecClient::onEvent" 5 "source/common/http/codec_client.cc" "" "src/http/codec_client.rs",
    CodecClientIdleTimeout "CodecClient::onIdleTimeout" 7 "source/common/http/codec_client.h" "event_add" "src/http/codec_client.rs",
    EncodeRequestHead "RequestStreamEncoderImpl::encodeHeaders" 5 "source/common/http/http1/codec_impl.cc" "" "src/http/http1/client.rs",
    StreamEncodeComplete "StreamWrapper::onEncodeComplete" 5 "source/common/http/http1/conn_pool.cc" "" "src/conn_pool/http1/active_client.rs",
    ClientMessageBegin "ClientConnectionImpl::onMessageBegin" 6 "source/common/http/http1/codec_impl.cc" "" "src/http/http1/client.rs",
    ClientHeadersComplete "ClientConnectionImpl::onHeadersComplete" 6 "source/common/http/http1/codec_impl.cc" "" "src/http/http1/client.rs",
    ClientBody "ClientConnectionImpl::onBody" 6 "source/common/http/http1/codec_impl.cc" "" "src/http/http1/client.rs",
    ClientMessageComplete "ClientConnectionImpl::onMessageComplete" 6 "source/common/http/http1/codec_impl.cc" "" "src/http/http1/client.rs",
    ResponseDecodeComplete "CodecClient::responseDecodeComplete" 6 "source/common/http/codec_client.cc" "" "src/http/codec_client.rs",
    UpstreamDecodeHeaders "UpstreamRequest::decodeHeaders" 6 "source/common/router/router.cc" "" "src/filters/http/router/upstream_request.rs",
    OnUpstreamHeaders "Filter::onUpstreamHeaders" 6 "source/common/router/router.cc" "" "src/filters/http/router/filter/response.rs",
    OnUpstreamData "Filter::onUpstreamData" 6 "source/common/router/router.cc" "" "src/filters/http/router/filter/response.rs",
    OnUpstreamReset "Filter::onUpstreamReset" 6 "source/common/router/router.cc" "" "src/filters/http/router/filter/response.rs",
    OnResponseTimeout "Filter::onResponseTimeout" 6 "source/common/router/router.cc" "event_add" "src/filters/http/router/filter/response.rs",
    PerTryTimeout "UpstreamRequest::onPerTryTimeout" 6 "source/common/router/router.cc" "event_add" "src/filters/http/router/upstream_request.rs",
    OnUpstreamComplete "Filter::onUpstreamComplete" 6 "source/common/router/router.cc" "" "src/filters/http/router/filter/response.rs",
    EncodeResponseHead "ResponseStreamEncoderImpl::encodeHeaders" 6 "source/common/http/http1/codec_impl.cc" "" "src/http/http1/server.rs",
    EncodeHeaders "ActiveStream::encodeHeaders" 6 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/filter_chain.rs",
    EncodeData "ActiveStream::encodeData" 6 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/filter_chain.rs",
    EncodeTrailers "ActiveStream::encodeTrailers" 6 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/filter_chain.rs",
    MaybeEndEncode "ActiveStream::maybeEndEncode" 6 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/filter_chain.rs",
    StreamReset "ActiveStream::onResetStream" 7 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/active_stream.rs",
    DoEndStream "ConnectionManagerImpl::doEndStream" 7 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/conn_manager.rs",
    DestroyStream "ConnectionManagerImpl::doDeferredStreamDestroy" 7 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/conn_manager.rs",
    RouterDestroy "Filter::onDestroy" 7 "source/common/router/router.cc" "" "src/filters/http/router/filter.rs",
    ResetUpstreamRequest "UpstreamRequest::resetStream" 7 "source/common/router/router.cc" "" "src/filters/http/router/upstream_request.rs",
    ActiveStreamGoes "ActiveStream::~ActiveStream" 7 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/active_stream.rs",
    ConnectionManagerEvent "ConnectionManagerImpl::onEvent" 7 "source/common/http/conn_manager_impl.cc" "" "src/filters/network/http_connection_manager/conn_manager.rs",
    RemoveConnection "ActiveListener::removeConnection" 7 "source/server/connection_handler_impl.cc" "" "src/server/connection_handler.rs",
    StartDrainSequence "ConnectionManagerImpl::startDrainSequence" 7 "source/common/http/conn_manager_impl.cc" "event_add" "src/filters/network/http_connection_manager/conn_manager.rs",
    DrainTimeout "ConnectionManagerImpl::onDrainTimeout" 7 "source/common/http/conn_manager_impl.cc" "event_add" "src/filters/network/http_connection_manager/conn_manager.rs",
    StopListeners "ConnectionHandlerImpl::stopListeners" 7 "source/server/connection_handler_impl.cc" "" "src/server/connection_handler.rs",
    Shutdown "InstanceImpl::shutdown" 7 "source/server/server.cc" "event_base_loopexit" "src/server/server.rs",
    Terminate "InstanceImpl::terminate" 7 "source/server/server.cc" "" "src/server/server.rs",
    StopWorker "WorkerImpl::stop" 7 "source/server/worker_impl.cc" "event_base_loopexit" "src/server/worker.rs",
    ClusterManagerGoes "ThreadLocalClusterManagerImpl::~ThreadLocalClusterManagerImpl" 7 "source/common/upstream/cluster_manager_impl.cc" "" "src/cluster_manager/thread_local_cluster_manager.rs",
    DeferredDelete "DispatcherImpl::deferredDelete" 7 "source/common/event/dispatcher_impl.cc" "event_active" "src/event/dispatcher.rs",
    ClearDeferredDeleteList "DispatcherImpl::clearDeferredDeleteList" 7 "source/common/event/dispatcher_impl.cc" "" "src/event/dispatcher.rs",
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
        let missing: Vec<String> = ALL
            .iter()
            .zip(STAGES)
            .filter(|(stage, info)| {
                let text = std::fs::read_to_string(root.join(info.legate_file)).unwrap_or_default();
                let is_loop = matches!(info.name, "pass" | "callback") && text.contains("trace::");
                !is_loop && !text.contains(&format!("Stage::{stage:?}"))
            })
            .map(|(stage, info)| format!("{stage:?} is not in {}", info.legate_file))
            .collect();
        assert!(missing.is_empty(), "{missing:#?}");
    }

    #[test]
    fn no_name_stands_for_two_stages() {
        let mut names: Vec<&str> = STAGES.iter().map(|stage| stage.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), STAGES.len());
    }
}
