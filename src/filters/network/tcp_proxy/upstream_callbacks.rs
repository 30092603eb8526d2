//! Who is told of what befalls the upstream connection: the filter, and when its own connection is gone a drainer.
//!
//! Mirrors `UpstreamCallbacks` of Envoy's `source/common/tcp_proxy/tcp_proxy.h`. It has the idle timer, which goes with it
//! from the one to the other: what happens notes the time alone, and the timer looks at that when it is over.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::drainer::Drainer;
use super::filter::Filter;
use crate::buffer::Buffer;
use crate::conn_pool::tcp;
use crate::event::{self, Dispatcher, Moment, Timeout, TimeoutCallbacks};
use crate::network::{ConnectionEvent, ConnectionImpl};

/// See the module's description.
pub(super) struct UpstreamCallbacks {
    weak: Weak<UpstreamCallbacks>,
    dispatcher: Rc<Dispatcher>,
    parent: RefCell<Weak<Filter>>,
    drainer: RefCell<Weak<Drainer>>,
    idle_timeout: Option<Duration>,
    idle_timer: Timeout,
    last_activity: Cell<Moment>,
}

impl UpstreamCallbacks {
    pub fn new(
        parent: &Weak<Filter>,
        dispatcher: &Rc<Dispatcher>,
        idle_timeout: Option<Duration>,
    ) -> Rc<Self> {
        Rc::new_cyclic(|weak| UpstreamCallbacks {
            weak: weak.clone(),
            dispatcher: dispatcher.clone(),
            parent: RefCell::new(parent.clone()),
            drainer: RefCell::default(),
            idle_timeout,
            idle_timer: Timeout::default(),
            last_activity: Cell::new(event::now()),
        })
    }

    /// The filter is gone, its drainer is told from now on.
    pub fn drain(&self, drainer: &Rc<Drainer>) {
        *self.parent.borrow_mut() = Weak::new();
        *self.drainer.borrow_mut() = Rc::downgrade(drainer);
    }

    /// Starts the idle timer, if there is a limit, and has it know of what the connections write.
    pub fn start_idle_timer(&self, connections: [&ConnectionImpl; 2]) {
        let Some(timeout) = self.idle_timeout else { return };
        self.reset_idle_timer();
        self.idle_timer.enable(&self.dispatcher, self.weak.clone(), 0, timeout);
        for connection in connections {
            let weak = self.weak.clone();
            connection.add_bytes_sent_callback(Rc::new(move || {
                if let Some(this) = weak.upgrade() {
                    this.reset_idle_timer();
                }
            }));
        }
    }

    /// Something has happened.
    #[inline]
    pub fn reset_idle_timer(&self) {
        self.last_activity.set(event::now());
    }

    pub fn disable_idle_timer(&self) {
        self.idle_timer.disable();
    }

    fn parent(&self) -> Option<Rc<Filter>> {
        self.parent.borrow().upgrade()
    }

    fn drainer(&self) -> Option<Rc<Drainer>> {
        self.drainer.borrow().upgrade()
    }
}

impl tcp::UpstreamCallbacks for UpstreamCallbacks {
    fn on_upstream_data(&self, data: &mut Buffer, end_stream: bool) {
        if let Some(parent) = self.parent() {
            parent.on_upstream_data(data, end_stream);
        } else if let Some(drainer) = self.drainer() {
            drainer.on_data(data);
        }
    }

    fn on_event(&self, event: ConnectionEvent) {
        if let Some(drainer) = self.drainer() {
            drainer.on_event(event);
        } else if let Some(parent) = self.parent() {
            parent.on_upstream_event(event);
        }
    }

    fn on_above_write_buffer_high_watermark(&self) {
        if let Some(parent) = self.parent() {
            parent.read_disable_downstream(true);
        }
    }

    fn on_below_write_buffer_low_watermark(&self) {
        if let Some(parent) = self.parent() {
            parent.read_disable_downstream(false);
        }
    }
}

impl TimeoutCallbacks for UpstreamCallbacks {
    fn on_timeout(&self, which: u8) {
        let Some(timeout) = self.idle_timeout else { return };
        let idle = event::now().since(self.last_activity.get());
        if idle < timeout {
            self.idle_timer.enable_alone(&self.dispatcher, self.weak.clone(), which, timeout - idle);
        } else if let Some(drainer) = self.drainer() {
            drainer.on_idle_timeout();
        } else if let Some(parent) = self.parent() {
            parent.on_idle_timeout();
        }
    }
}
