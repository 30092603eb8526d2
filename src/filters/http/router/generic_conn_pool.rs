//! What gives a request its upstream: a pool of HTTP, or one of raw connections for a tunnel that ends here.
//!
//! Stands where Envoy 1.40 has `GenericConnPool` (`envoy/router/router.h`) and its factory; 1.1 has but the first.

use std::rc::{Rc, Weak};

use super::tcp_upstream::TcpConnPool;
use crate::conn_pool::{Callbacks, Cancellable, HttpInstance};
use crate::http::StreamDecoder;
use crate::trace::Ids;
use crate::upstream::WorkerHost;

/// See the module's description.
pub(super) enum GenericConnPool {
    Http(Rc<dyn HttpInstance>),
    /// Boxed, so that the usual kind is no larger than itself.
    Tcp(Box<TcpConnPool>),
}

impl GenericConnPool {
    /// The host that the pool connects to.
    pub(super) fn host(&self) -> &Rc<WorkerHost> {
        match self {
            GenericConnPool::Http(pool) => pool.host(),
            GenericConnPool::Tcp(pool) => pool.host(),
        }
    }

    /// Whether what it gives is a connection, and no codec's stream.
    #[inline]
    pub(super) fn is_raw(&self) -> bool {
        matches!(self, GenericConnPool::Tcp(_))
    }

    /// As [`HttpInstance::new_stream`].
    #[inline]
    pub(super) fn new_stream(
        &self,
        response_decoder: Weak<dyn StreamDecoder>,
        callbacks: Weak<dyn Callbacks>,
        ids: Ids,
    ) -> Option<Rc<dyn Cancellable>> {
        match self {
            GenericConnPool::Http(pool) => pool.new_stream(response_decoder, callbacks, ids),
            GenericConnPool::Tcp(pool) => pool.new_stream(response_decoder, callbacks, ids),
        }
    }
}
