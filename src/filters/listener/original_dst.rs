//! The original destination: where a connection was going before iptables sent it here.
//!
//! Mirrors Envoy's `source/extensions/filters/listener/original_dst/original_dst.cc` and `Utility::getOriginalDst`.

use std::os::fd::AsFd;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use nix::sys::socket::{getsockopt, sockopt};

use super::{ListenerFilterConfig, NamedListenerFilterConfigFactory};
use crate::config::ConfigError;
use crate::envoy_log;
use crate::filters::FactoryContext;
use crate::network::{
    Address, ConnectionSocket, FilterStatus, ListenerFilter, ListenerFilterCallbacks, ListenerFilterFactory,
    ListenerFilterFactoryCb,
};

/// The original destination among the extensions.
pub static FACTORY: NamedListenerFilterConfigFactory = NamedListenerFilterConfigFactory::new(
    "envoy.filters.listener.original_dst",
    &["envoy.extensions.filters.listener.original_dst.v3.OriginalDst"],
    |_| Ok(Arc::new(OriginalDst)),
);

/// There is nothing to be said of it.
#[derive(Debug)]
struct OriginalDst;

impl ListenerFilterConfig for OriginalDst {
    fn create_filter_factory(
        &self,
        _context: &FactoryContext<'_>,
    ) -> Result<Box<dyn ListenerFilterFactory>, ConfigError> {
        Ok(Box::new(OriginalDstFactory))
    }
}

struct OriginalDstFactory;

impl ListenerFilterFactory for OriginalDstFactory {
    fn on_worker(&self) -> ListenerFilterFactoryCb {
        Box::new(|| Rc::new(OriginalDstFilter))
    }
}

struct OriginalDstFilter;

impl ListenerFilter for OriginalDstFilter {
    fn on_accept(&self, callbacks: &Weak<dyn ListenerFilterCallbacks>) -> FilterStatus {
        envoy_log!(Filter, debug, "original_dst: New connection accepted");
        let socket = callbacks.upgrade().and_then(|callbacks| callbacks.socket());
        if let Some(socket) = socket
            && let Some(address) = original_dst(&socket)
        {
            socket.connection_info().restore_local_address(address);
        }
        FilterStatus::Continue
    }
}

/// What the kernel says of it; `None` where nothing sent the connection here.
fn original_dst(socket: &ConnectionSocket) -> Option<Address> {
    let info = socket.connection_info();
    let fd = socket.as_fd();
    let v4 = || {
        getsockopt(&fd, sockopt::OriginalDst).ok().map(|address| {
            let ip = u32::from_be(address.sin_addr.s_addr).to_be_bytes();
            Address::Ip((ip, u16::from_be(address.sin_port)).into())
        })
    };
    let v6 = || {
        getsockopt(&fd, sockopt::Ip6tOriginalDst)
            .ok()
            .map(|address| Address::Ip((address.sin6_addr.s6_addr, u16::from_be(address.sin6_port)).into()))
    };
    match info.remote_address().ip()? {
        ip if ip.is_ipv4() => v4(),
        _ => v6(),
    }
}
