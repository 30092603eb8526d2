//! Accepting connections. Mirrors Envoy's `source/common/network/listener_impl.cc`.
//!
//! Envoy 1.1 panics when accept fails; legate pauses for a moment and tries again, because running
//! out of fds passes when connections end.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::socket::query_local_address;
use super::{Address, ConnectionSocket, ListenSocket};
use crate::envoy_log;
use crate::event::{AcceptedFd, Dispatcher, Listener, Timer};
use crate::trace::{self, Stage};

/// How long accepting pauses after an error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// Takes what a listener accepts.
pub trait ListenerCallbacks {
    /// A connection was accepted. An error says that there was no room for it, which has closed it.
    fn on_accept(&self, socket: ConnectionSocket) -> io::Result<()>;
    /// Accepting a connection failed, and no more are accepted for a moment.
    fn on_accept_error(&self, error: &io::Error);
}

/// The registration of one listening socket on one worker.
pub struct ListenerImpl {
    listener: RefCell<Option<Listener<Arc<ListenSocket>>>>,
    socket: Arc<ListenSocket>,
    callbacks: Weak<dyn ListenerCallbacks>,
    resume_timer: Timer,
    last_warning: Cell<Option<Instant>>,
    failures_since_warning: Cell<u64>,
}

impl ListenerImpl {
    /// Listens on `socket`, which other workers may listen on too.
    ///
    /// # Errors
    /// The error of `listen(2)`.
    pub fn new(
        dispatcher: &Dispatcher,
        socket: Arc<ListenSocket>,
        callbacks: Weak<dyn ListenerCallbacks>,
    ) -> io::Result<Rc<Self>> {
        let this = Rc::new_cyclic(|weak: &Weak<ListenerImpl>| {
            let on_resume = weak.clone();
            ListenerImpl {
                socket,
                callbacks,
                listener: RefCell::default(),
                resume_timer: dispatcher.create_timer(move || {
                    if let Some(this) = on_resume.upgrade() {
                        this.resume();
                    }
                }),
                last_warning: Cell::new(None),
                failures_since_warning: Cell::new(0),
            }
        });
        let (on_accept, on_error) = (Rc::downgrade(&this), Rc::downgrade(&this));
        let listener = dispatcher.create_listener(
            this.socket.clone(),
            move |accepted| {
                if let Some(this) = on_accept.upgrade() {
                    this.listen_callback(accepted);
                }
            },
            move |error| {
                if let Some(this) = on_error.upgrade() {
                    this.error_callback(error);
                }
            },
        )?;
        *this.listener.borrow_mut() = Some(listener);
        trace::instant(Stage::SetupServerSocket, None, 0, this.socket.as_fd().as_raw_fd() as u64, 0);
        // libevent has just listened with a backlog of its own.
        this.socket.listen()?;
        Ok(this)
    }

    fn listen_callback(&self, accepted: AcceptedFd) {
        trace::instant(Stage::ListenCallback, None, 0, accepted.fd.as_raw_fd() as u64, 0);
        let listening = self.socket.local_address();
        let mut local = listening.clone();
        if listening.is_any() {
            match query_local_address(accepted.fd.as_fd()) {
                Ok(address) => local = address,
                Err(error) => return self.error_callback(error),
            }
        }
        // The client of a pipe, which has no name as a rule, goes by the name of the pipe.
        let remote = match &local {
            Address::Pipe(_) => None,
            Address::Ip(_) => accepted.remote.as_ref().and_then(Address::from_storage),
        };
        let mut remote = remote.unwrap_or_else(|| local.clone());
        if local.ip().is_some_and(SocketAddr::is_ipv4) {
            remote = remote.unmapped();
        }
        if let Some(callbacks) = self.callbacks.upgrade()
            && let Err(error) = callbacks.on_accept(ConnectionSocket::accepted(accepted.fd, local, remote))
        {
            self.error_callback(error);
        }
    }

    fn error_callback(&self, error: io::Error) {
        if let Some(listener) = self.listener.borrow().as_ref() {
            listener.disable();
        }
        self.resume_timer.enable_timer(ACCEPT_PAUSE);
        trace::instant(Stage::AcceptPause, None, 0, 0, 0);
        self.failures_since_warning.set(self.failures_since_warning.get() + 1);
        let now = Instant::now();
        if self.last_warning.get().is_none_or(|last| now - last >= WARNING_INTERVAL) {
            self.last_warning.set(Some(now));
            envoy_log!(
                Main,
                warn,
                "listener accept failure on {}: {} ({} since the last warning); pausing",
                self.socket.local_address(),
                error,
                self.failures_since_warning.replace(0)
            );
        }
        if let Some(callbacks) = self.callbacks.upgrade() {
            callbacks.on_accept_error(&error);
        }
    }

    fn resume(&self) {
        let outcome = self.listener.borrow().as_ref().map_or(Ok(()), Listener::enable);
        if let Err(error) = outcome {
            self.error_callback(error);
        }
    }
}
