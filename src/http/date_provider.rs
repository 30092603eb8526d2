//! The Date header, rendered once a while per worker.
//!
//! Mirrors Envoy's `source/common/http/date_provider_impl.cc` (`TlsCachingDateProviderImpl`): refreshed
//! every 500 ms. Envoy's main thread renders and posts to the workers; here each worker has a timer.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::{Duration, SystemTime};

use super::{HeaderId, HeaderMap};
use crate::event::{Dispatcher, Timer};

const REFRESH: Duration = Duration::from_millis(500);

/// Gives the present date as HTTP writes it.
pub struct DateProvider {
    text: RefCell<String>,
    timer: Timer,
}

impl DateProvider {
    /// A provider that stays current for as long as `dispatcher` runs.
    pub fn new(dispatcher: &Dispatcher) -> Rc<Self> {
        let provider = Rc::new_cyclic(|weak: &Weak<DateProvider>| {
            let on_timer = weak.clone();
            DateProvider {
                text: RefCell::default(),
                timer: dispatcher.create_timer(move || {
                    if let Some(provider) = on_timer.upgrade() {
                        provider.refresh();
                    }
                }),
            }
        });
        provider.refresh();
        provider
    }

    fn refresh(&self) {
        *self.text.borrow_mut() = httpdate::fmt_http_date(SystemTime::now());
        self.timer.enable_timer(REFRESH);
    }

    /// Sets the Date header.
    pub fn set_date_header(&self, headers: &mut HeaderMap) {
        headers.set(HeaderId::Date, self.text.borrow().as_bytes());
    }
}
