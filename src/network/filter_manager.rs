//! A connection's chain of network filters.
//!
//! Mirrors Envoy's `source/common/network/filter_manager_impl.cc`: read filters run in the order in
//! which they were added, write filters in the reverse one.

use std::cell::Cell;
use std::rc::{Rc, Weak};

use super::{ConnectionImpl, FilterStatus, ReadFilter, ReadFilterCallbacks, WriteFilter};
use crate::buffer::Buffer;
use crate::common::appended::Appended;

/// The filters of one connection.
#[derive(Default)]
pub struct FilterManagerImpl {
    upstream_filters: Appended<Rc<dyn ReadFilter>, 1>,
    /// As they were added: they run from the last one on.
    downstream_filters: Appended<Rc<dyn WriteFilter>, 0>,
    /// So many of the read filters know that the connection is new: a filter is reached from the one before it.
    initialized: Cell<usize>,
}

impl FilterManagerImpl {
    pub(super) fn add_read_filter(&self, connection: Weak<ConnectionImpl>, filter: Rc<dyn ReadFilter>) {
        let index = self.len();
        filter.initialize_read_filter_callbacks(ReadFilterCallbacks { connection, index });
        self.upstream_filters.push(filter);
    }

    pub(super) fn add_write_filter(&self, filter: Rc<dyn WriteFilter>) {
        self.downstream_filters.push(filter);
    }

    /// The number of read filters.
    pub(super) fn len(&self) -> usize {
        self.upstream_filters.len()
    }

    /// Offers `data` to the filters from number `from` on.
    #[inline(always)]
    pub(super) fn on_continue_reading(&self, from: usize, data: &mut Buffer, end_stream: bool) {
        let mut index = from;
        while let Some(filter) = self.upstream_filters.get(index) {
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
        for index in (0..self.downstream_filters.len()).rev() {
            let Some(filter) = self.downstream_filters.get(index) else { break };
            if filter.on_write(data, end_stream) == FilterStatus::StopIteration {
                return FilterStatus::StopIteration;
            }
        }
        FilterStatus::Continue
    }
}
