//! A listener filter: who does not begin with `!` is turned away, and who says nothing waits. Nothing is read.

use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use legate::config::ConfigError;
use legate::event::{FileEvent, READ};
use legate::filters::FactoryContext;
use legate::filters::listener::{ListenerFilterConfig, NamedListenerFilterConfigFactory};
use legate::network::{
    ConnectionSocket, FilterStatus, ListenerFilter, ListenerFilterCallbacks, ListenerFilterFactory,
    ListenerFilterFactoryCb,
};
use nix::sys::socket::{MsgFlags, recv};

pub static FACTORY: NamedListenerFilterConfigFactory =
    NamedListenerFilterConfigFactory::new("legate.test.gate", &["legate.test.Gate"], |_| {
        Ok(Arc::new(GateConfig))
    });

#[derive(Debug)]
struct GateConfig;

impl ListenerFilterConfig for GateConfig {
    fn create_filter_factory(
        &self,
        _context: &FactoryContext<'_>,
    ) -> Result<Box<dyn ListenerFilterFactory>, ConfigError> {
        Ok(Box::new(GateFactory))
    }
}

struct GateFactory;

impl ListenerFilterFactory for GateFactory {
    fn on_worker(&self) -> ListenerFilterFactoryCb {
        Box::new(|| Rc::new_cyclic(|weak| Gate { weak: weak.clone(), event: RefCell::default() }))
    }
}

struct Gate {
    weak: Weak<Gate>,
    event: RefCell<Option<FileEvent<Rc<ConnectionSocket>>>>,
}

impl Gate {
    /// What it says to the first byte, if there is one.
    fn answer(socket: &ConnectionSocket) -> Option<bool> {
        let mut first = [0];
        match recv(socket.as_fd().as_raw_fd(), &mut first, MsgFlags::MSG_PEEK) {
            Ok(length) => Some(length == 1 && first[0] == b'!'),
            Err(_) => None,
        }
    }
}

impl ListenerFilter for Gate {
    fn on_accept(&self, callbacks: &Weak<dyn ListenerFilterCallbacks>) -> FilterStatus {
        let Some(held) = callbacks.upgrade() else { return FilterStatus::StopIteration };
        let Some(socket) = held.socket() else { return FilterStatus::StopIteration };
        let (gate, callbacks) = (self.weak.clone(), callbacks.clone());
        let on_readable = move |_| {
            let (Some(gate), Some(callbacks)) = (gate.upgrade(), callbacks.upgrade()) else { return };
            if let Some(success) = callbacks.socket().and_then(|socket| Gate::answer(&socket)) {
                drop(gate.event.borrow_mut().take());
                callbacks.continue_filter_chain(success);
            }
        };
        match held.dispatcher().create_file_event(socket, on_readable, READ) {
            Ok(event) => *self.event.borrow_mut() = Some(event),
            Err(_) => held.continue_filter_chain(false),
        }
        FilterStatus::StopIteration
    }
}
