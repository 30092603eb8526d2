//! A connection's chain of network filters.
//!
//! Mirrors Envoy's `source/common/network/filter_manager_impl.cc`: read filters run in the order in
//! which they were added, write filters in the reverse one.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};

use smallvec::SmallVec;

use super::{ConnectionImpl, FilterStatus, ReadFilter, ReadFilterCallbacks, WriteFilter};
use crate::buffer::Buffer;

/// The filters of one connection.
#[derive(Default)]
pub struct FilterManagerImpl {
    upstream_filters: RefCell<SmallVec<[Rc<dyn ReadFilter>; 1]>>,
    /// Hardly any connection has some.
    downstream_filters: OnceCell<Box<RefCell<Vec<Rc<dyn WriteFilter>>>>>,
    /// So many of the read filters know that the connection is new: a filter is reached from the one before it.
    initialized: Cell<usize>,
}

impl FilterManagerImpl {
    pub(super) fn add_read_filter(&self, connection: Weak<ConnectionImpl>, filter: Rc<dyn ReadFilter>) {
        let index = self.len();
        filter.initialize_read_filter_callbacks(ReadFilterCallbacks { connection, index });
        self.upstream_filters.borrow_mut().push(filter);
    }

    pub(super) fn add_write_filter(&self, filter: Rc<dyn WriteFilter>) {
        self.downstream_filters.get_or_init(Box::default).borrow_mut().insert(0, filter);
    }

    /// The number of read filters.
    pub(super) fn len(&self) -> usize {
        self.upstream_filters.borrow().len()
    }

    /// Offers `data` to the filters from number `from` on.
    pub(super) fn on_continue_reading(&self, from: usize, data: &mut Buffer, end_stream: bool) {
        let mut index = from;
        loop {
            let Some(filter) = self.upstream_filters.borrow().get(index).cloned() else { return };
            if index >= self.initialized.get() {
                self.initialized.set(index + 1);
                if filter.on_new_connection() == FilterStatus::StopIteration {
                    return;
                }
            }
            if (!data.is_empty() || end_stream)
                && filter.on_data(data, end_stream) == FilterStatus::StopIteration
            {
                return;
            }
            index += 1;
        }
    }

    pub(super) fn on_write(&self, data: &mut Buffer, end_stream: bool) -> FilterStatus {
        let Some(filters) = self.downstream_filters.get() else { return FilterStatus::Continue };
        let mut index = 0;
        loop {
            let Some(filter) = filters.borrow().get(index).cloned() else {
                return FilterStatus::Continue;
            };
            if filter.on_write(data, end_stream) == FilterStatus::StopIteration {
                return FilterStatus::StopIteration;
            }
            index += 1;
        }
    }
}
