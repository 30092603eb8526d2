//! The stages that the recorder knows, one per place where a request, a connection or the loop moves on.

macro_rules! stages {
    ($($id:ident $name:literal $number:literal $file:literal $libevent:literal,)+) => {
        /// Where an event comes from.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u16)]
        pub enum Stage {
            $(#[doc = concat!("`", $name, "`")] $id,)+
        }

        /// All stages in the order of their numbers.
        pub const STAGES: &[StageInfo] = &[
            $(StageInfo { name: $name, number: $number, envoy_file: $file, libevent: $libevent },)+
        ];
    };
}

/// What is known of a stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StageInfo {
    /// `Class::method`, as in Envoy; `pass` and `callback` are the loop's own.
    pub name: &'static str,
    /// Where on the way of a request: 1 accepting, 2 reading, 3 the connection manager, 4 the router, 5 the pool
    /// and the upstream connection, 6 the response, 7 ending; 0 the loop.
    pub number: u8,
    /// The file in Envoy (istio 1.1) that has it; empty for the loop's own.
    pub envoy_file: &'static str,
    /// The call of libevent behind it; empty where it is called by the stage before.
    pub libevent: &'static str,
}

stages! {
    Pass "pass" 0 "" "event_base_loop",
    Callback "callback" 0 "" "",
    ListenCallback "ListenerImpl::listenCallback" 1 "source/common/network/listener_impl.cc" "evconnlistener",
    NewConnection "ActiveListener::newConnection" 1 "source/server/connection_handler_impl.cc" "",
    OnFileEvent "ConnectionImpl::onFileEvent" 2 "source/common/network/connection_impl.cc" "EV_READ|EV_WRITE|EV_CLOSED",
    OnReadReady "ConnectionImpl::onReadReady" 2 "source/common/network/connection_impl.cc" "EV_READ",
    DoRead "RawBufferSocket::doRead" 2 "source/common/network/raw_buffer_socket.cc" "",
    OnWriteReady "ConnectionImpl::onWriteReady" 6 "source/common/network/connection_impl.cc" "EV_WRITE",
    DoWrite "RawBufferSocket::doWrite" 6 "source/common/network/raw_buffer_socket.cc" "",
    Write "ConnectionImpl::write" 6 "source/common/network/connection_impl.cc" "event_active",
    ReadDisable "ConnectionImpl::readDisable" 2 "source/common/network/connection_impl.cc" "",
    HighWatermark "ConnectionImpl::onHighWatermark" 6 "source/common/network/connection_impl.cc" "",
    LowWatermark "ConnectionImpl::onLowWatermark" 6 "source/common/network/connection_impl.cc" "",
    Connect "ClientConnectionImpl::connect" 5 "source/common/network/connection_impl.cc" "",
    Close "ConnectionImpl::close" 7 "source/common/network/connection_impl.cc" "",
    CloseSocket "ConnectionImpl::closeSocket" 7 "source/common/network/connection_impl.cc" "event_del",
    OnData "ConnectionManagerImpl::onData" 3 "source/common/http/conn_manager_impl.cc" "",
    NewStream "ConnectionManagerImpl::newStream" 3 "source/common/http/conn_manager_impl.cc" "",
    DecodeHeaders "ActiveStream::decodeHeaders" 3 "source/common/http/conn_manager_impl.cc" "",
    DecodeData "ActiveStream::decodeData" 3 "source/common/http/conn_manager_impl.cc" "",
    DecodeTrailers "ActiveStream::decodeTrailers" 3 "source/common/http/conn_manager_impl.cc" "",
    SendLocalReply "ActiveStream::sendLocalReply" 3 "source/common/http/conn_manager_impl.cc" "",
    RouterDecodeHeaders "Filter::decodeHeaders" 4 "source/common/router/router.cc" "",
    RouterDecodeData "Filter::decodeData" 4 "source/common/router/router.cc" "",
    PoolNewStream "ConnPoolImpl::newStream" 5 "source/common/http/http1/conn_pool.cc" "",
    CreateNewConnection "ConnPoolImpl::createNewConnection" 5 "source/common/http/http1/conn_pool.cc" "",
    NewPendingRequest "ConnPoolImpl::newPendingRequest" 5 "source/common/http/conn_pool_base.cc" "",
    AttachRequestToClient "ConnPoolImpl::attachRequestToClient" 5 "source/common/http/http1/conn_pool.cc" "",
    PoolConnectionEvent "ConnPoolImpl::onConnectionEvent" 5 "source/common/http/http1/conn_pool.cc" "",
    ProcessIdleClient "ConnPoolImpl::processIdleClient" 5 "source/common/http/http1/conn_pool.cc" "",
    OnUpstreamReady "ConnPoolImpl::onUpstreamReady" 5 "source/common/http/http1/conn_pool.cc" "event_add",
    PoolResponseComplete "ConnPoolImpl::onResponseComplete" 6 "source/common/http/http1/conn_pool.cc" "",
    PurgePendingRequests "ConnPoolImplBase::purgePendingRequests" 5 "source/common/http/conn_pool_base.cc" "",
    PendingRequestCancel "ConnPoolImplBase::onPendingRequestCancel" 5 "source/common/http/conn_pool_base.cc" "",
    PoolLists "ConnPoolImpl::lists" 5 "source/common/http/http1/conn_pool.h" "",
    OnPoolReady "UpstreamRequest::onPoolReady" 5 "source/common/router/router.cc" "",
    OnPoolFailure "UpstreamRequest::onPoolFailure" 5 "source/common/router/router.cc" "",
    OnUpstreamHeaders "Filter::onUpstreamHeaders" 6 "source/common/router/router.cc" "",
    OnUpstreamData "Filter::onUpstreamData" 6 "source/common/router/router.cc" "",
    OnUpstreamReset "Filter::onUpstreamReset" 6 "source/common/router/router.cc" "",
    OnResponseTimeout "Filter::onResponseTimeout" 6 "source/common/router/router.cc" "event_add",
    EncodeHeaders "ActiveStream::encodeHeaders" 6 "source/common/http/conn_manager_impl.cc" "",
    EncodeData "ActiveStream::encodeData" 6 "source/common/http/conn_manager_impl.cc" "",
    EncodeTrailers "ActiveStream::encodeTrailers" 6 "source/common/http/conn_manager_impl.cc" "",
    StreamReset "ActiveStream::onResetStream" 7 "source/common/http/conn_manager_impl.cc" "",
    DoEndStream "ConnectionManagerImpl::doEndStream" 7 "source/common/http/conn_manager_impl.cc" "",
    DestroyStream "ConnectionManagerImpl::doDeferredStreamDestroy" 7 "source/common/http/conn_manager_impl.cc" "",
    DeferredDelete "DispatcherImpl::deferredDelete" 7 "source/common/event/dispatcher_impl.cc" "event_active",
    ClearDeferredDeleteList "DispatcherImpl::clearDeferredDeleteList" 7 "source/common/event/dispatcher_impl.cc" "",
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
    fn no_name_stands_for_two_stages() {
        let mut names: Vec<&str> = STAGES.iter().map(|stage| stage.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), STAGES.len());
    }
}
