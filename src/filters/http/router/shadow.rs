//! Copies of requests, which nobody waits for.
//!
//! Stands where Envoy has `Filter::maybeDoShadowing` (`source/common/router/router.cc`) and its shadow writer
//! (`source/common/router/shadow_writer_impl.cc`): 1.1 sends a copy when the request is complete. As in 1.40 it is sent
//! along with the request here, and nothing of it is kept.

use std::rc::Rc;

use super::Filter;
use crate::buffer::Buffer;
use crate::envoy_log;
use crate::filters::http::async_client::AsyncStreamImpl;
use crate::http::{HeaderMap, HeaderMapPtr};
use crate::router::{RouteEntry, RouteRequest};
use crate::trace::Stage;

impl Filter {
    /// Begins the copies that the route asks for.
    pub(super) fn start_shadows(&self, entry: &RouteEntry, headers: &HeaderMap, end_stream: bool) {
        let (Some(callbacks), Some(info)) = (self.callbacks(), self.stream_info()) else { return };
        let request = RouteRequest { headers, random: info.stream_id.get(), info: Some(info) };
        let mut shadows = Vec::new();
        for policy in entry.shadow_policies() {
            let Some(cluster) = policy.should_shadow(&request) else { continue };
            if self.config.cluster_manager.get(&cluster).is_none() {
                envoy_log!(Router, debug, "shadow cluster '{}' does not exist", cluster);
                continue;
            }
            let mut copy = headers.clone();
            policy.apply(&mut copy, info);
            self.passed(Stage::MaybeDoShadowing, end_stream.into(), 0);
            shadows.push(AsyncStreamImpl::start(
                callbacks.dispatcher(),
                self.config.for_async_client(),
                &cluster,
                self.timeout.get().global,
                copy,
                end_stream,
            ));
        }
        if !end_stream {
            self.shadows.get_or_init(|| shadows);
        }
    }

    fn shadows(&self) -> &[Rc<AsyncStreamImpl>] {
        self.shadows.get().map_or(&[], Vec::as_slice)
    }

    /// Sends a piece of the body along.
    pub(super) fn shadow_data(&self, data: &Buffer, end_stream: bool) {
        self.shadows().iter().for_each(|shadow| shadow.send_data(&mut data.duplicate(), end_stream));
    }

    /// Sends trailers along.
    pub(super) fn shadow_trailers(&self, trailers: &HeaderMapPtr) {
        self.shadows().iter().for_each(|shadow| shadow.send_trailers(trailers.borrow().clone()));
    }

    /// Gives up the copies of a request that is given up itself.
    pub(super) fn reset_shadows(&self) {
        if !self.downstream_end_stream.get() {
            self.shadows().iter().for_each(|shadow| shadow.reset());
        }
    }
}
