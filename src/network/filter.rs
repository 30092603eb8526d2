//! Network filters. Mirrors Envoy's `include/envoy/network/filter.h`.

use std::rc::{Rc, Weak};

use super::ConnectionImpl;
use crate::buffer::Buffer;
use crate::event::Dispatcher;

/// Whether the chain goes on to the next filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FilterStatus {
    /// On to the next filter.
    Continue,
    /// Stops here; the filter resumes with [`ReadFilterCallbacks::continue_reading`].
    StopIteration,
}

/// A filter that sees what is read.
pub trait ReadFilter {
    /// Data is in the connection's read buffer; the filter drains what it uses.
    fn on_data(&self, data: &mut Buffer, end_stream: bool) -> FilterStatus;
    /// The connection is new; called before the first data.
    fn on_new_connection(&self) -> FilterStatus {
        FilterStatus::Continue
    }
    /// Called once, when the filter is added to its connection.
    fn initialize_read_filter_callbacks(&self, callbacks: ReadFilterCallbacks);
}

/// A filter that sees what is written.
pub trait WriteFilter {
    /// Data is about to be moved to the connection's write buffer.
    fn on_write(&self, data: &mut Buffer, end_stream: bool) -> FilterStatus;
}

/// Adds a fresh filter to a new connection (Envoy: `FilterFactoryCb`). It belongs to a worker, and holds what it needs by
/// counts of the worker's own.
pub type NetworkFilterFactoryCb = Box<dyn Fn(&Rc<ConnectionImpl>)>;

/// Gives the connections of a filter chain one kind of filter; shared by all workers.
pub trait NetworkFilterFactory: Send + Sync {
    /// What does so on the calling worker, whose loop is `dispatcher`; asked for once a worker.
    fn on_worker(&self, dispatcher: &Rc<Dispatcher>) -> NetworkFilterFactoryCb;
}

/// A read filter's way back to its connection.
#[derive(Clone)]
pub struct ReadFilterCallbacks {
    pub(super) connection: Weak<ConnectionImpl>,
    pub(super) index: usize,
}

impl ReadFilterCallbacks {
    /// The connection; gone once its owner has dropped it.
    pub fn connection(&self) -> Weak<ConnectionImpl> {
        self.connection.clone()
    }

    /// Goes on with the filter behind this one, after a [`FilterStatus::StopIteration`].
    pub fn continue_reading(&self) {
        if let Some(connection) = self.connection.upgrade() {
            connection.continue_reading_after(self.index);
        }
    }
}
