//! Hosts are asked with a connection, and maybe some bytes.
//!
//! Mirrors `TcpHealthCheckerImpl` of Envoy's `source/common/upstream/health_checker_impl.cc`, as 1.40 has it: a connection that the
//! host closes between two checks is a failure, too.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};

use super::base::{CheckerKind, HealthCheckerImplBase};
use super::event_logger::{HealthCheckFailureType, HealthCheckerType};
use super::payload_matcher;
use super::session::{ActiveHealthCheckSession, CheckSession};
use crate::buffer::Buffer;
use crate::config::health_check::{HealthCheckKind, TcpHealthCheck};
use crate::network::{
    ClientConnectionImpl, ConnectionCallbacks, ConnectionCloseType, ConnectionEvent, FilterStatus,
    ReadFilter, ReadFilterCallbacks,
};
use crate::trace::stage;
use crate::upstream::HostSharedPtr;

/// See the module's description.
pub(super) struct TcpHealthCheckerImpl;

impl CheckerKind for TcpHealthCheckerImpl {
    fn checker_type(&self) -> HealthCheckerType {
        HealthCheckerType::Tcp
    }

    fn make_session(
        &self,
        parent: &Rc<HealthCheckerImplBase>,
        session: &Weak<ActiveHealthCheckSession>,
        host: &HostSharedPtr,
    ) -> Rc<dyn CheckSession> {
        Rc::new_cyclic(|weak| TcpActiveHealthCheckSession {
            weak: weak.clone(),
            parent: Rc::downgrade(parent),
            session: session.clone(),
            host: host.clone(),
            client: RefCell::default(),
            expect_close: Cell::new(false),
        })
    }
}

struct TcpActiveHealthCheckSession {
    weak: Weak<TcpActiveHealthCheckSession>,
    parent: Weak<HealthCheckerImplBase>,
    session: Weak<ActiveHealthCheckSession>,
    host: HostSharedPtr,
    client: RefCell<Option<Rc<ClientConnectionImpl>>>,
    /// The end of the connection is this side's doing.
    expect_close: Cell<bool>,
}

fn tcp_check(parent: &HealthCheckerImplBase) -> Option<&TcpHealthCheck> {
    match &parent.config().health_checker {
        HealthCheckKind::Tcp(check) => Some(check),
        HealthCheckKind::Http(_) => None,
    }
}

impl TcpActiveHealthCheckSession {
    fn client(&self) -> Option<Rc<ClientConnectionImpl>> {
        self.client.borrow().clone()
    }

    fn get_or_create_client(&self, parent: &HealthCheckerImplBase) -> io::Result<Rc<ClientConnectionImpl>> {
        if let Some(client) = self.client() {
            return Ok(client);
        }
        let client = Rc::new(self.host.create_health_check_connection(parent.dispatcher())?);
        let callbacks: Weak<dyn ConnectionCallbacks> = self.weak.clone();
        client.add_connection_callbacks(callbacks);
        client.add_read_filter(Rc::new(SessionReadFilter { parent: self.weak.clone() }));
        self.expect_close.set(false);
        *self.client.borrow_mut() = Some(client.clone());
        client.connect();
        client.no_delay();
        Ok(client)
    }

    fn close(&self) {
        if let Some(client) = self.client() {
            self.expect_close.set(true);
            client.close(ConnectionCloseType::NoFlush);
        }
    }

    fn on_data(&self, data: &mut Buffer) {
        let (Some(parent), Some(session)) = (self.parent.upgrade(), self.session.upgrade()) else { return };
        let (Some(check), Some(client)) = (tcp_check(&parent), self.client()) else { return };
        stage!(TcpHealthCheckData(client.id()), bytes = data.len());
        if payload_matcher::matches(&check.receive, &data.to_vec()) {
            stage!(TcpHealthCheckPassed(client.id()));
            data.clear();
            session.handle_success(false);
            if !parent.config().reuse_connection {
                self.close();
            }
        }
    }
}

impl CheckSession for TcpActiveHealthCheckSession {
    fn on_interval(&self) -> io::Result<()> {
        let Some(parent) = self.parent.upgrade() else { return Ok(()) };
        let Some(check) = tcp_check(&parent) else { return Ok(()) };
        let client = self.get_or_create_client(&parent)?;
        if let Some(send) = &check.send {
            let mut data = Buffer::new();
            data.add(&send.0);
            client.write(&mut data, false);
        }
        Ok(())
    }

    fn on_timeout(&self) {
        self.close();
    }

    fn on_deferred_delete(&self) {
        self.close();
    }
}

impl ConnectionCallbacks for TcpActiveHealthCheckSession {
    fn on_event(&self, event: ConnectionEvent) {
        let (Some(parent), Some(session)) = (self.parent.upgrade(), self.session.upgrade()) else { return };
        if event != ConnectionEvent::Connected {
            if !self.expect_close.get() {
                session.handle_failure(HealthCheckFailureType::Network);
            }
            if let Some(client) = self.client.take() {
                parent.dispatcher().deferred_delete(client);
            }
        } else if tcp_check(&parent).is_some_and(|check| check.receive.is_empty()) {
            // That it can be connected to is enough.
            self.close();
            session.handle_success(false);
        }
    }

    fn on_above_write_buffer_high_watermark(&self) {}

    fn on_below_write_buffer_low_watermark(&self) {}
}

struct SessionReadFilter {
    parent: Weak<TcpActiveHealthCheckSession>,
}

impl ReadFilter for SessionReadFilter {
    fn on_data(&self, data: &mut Buffer, _end_stream: bool) -> FilterStatus {
        if let Some(parent) = self.parent.upgrade() {
            parent.on_data(data);
        }
        FilterStatus::StopIteration
    }

    fn initialize_read_filter_callbacks(&self, _callbacks: ReadFilterCallbacks) {}
}
