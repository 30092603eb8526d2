//! The admin interface, on the main thread, through legate's own codec.
//!
//! Mirrors Envoy's `source/server/http/admin.cc` and `admin_filter.cc`. Each group of endpoints has a
//! file of its own; a handler gets the server and the request and returns the answer, whose body is made while it
//! is sent.

mod certs;
mod clusters;
mod config_dump;
mod detached;
mod filter;
mod help;
mod host_metrics;
mod listeners;
mod logging;
mod prometheus_stats;
mod request;
mod runtime;
mod server_info;
mod stats;
mod stats_params;
mod stats_render;
mod trace;

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::listener_config::{ListenerConfig, ListenerFactoryContext};
use super::server::InstanceImpl;
use crate::access_log::{self, FileAccessLogConfig};
use crate::config::extension::TypedFactory;
use crate::config::{self, AccessLog};
use crate::envoy_log;
use crate::event::Dispatcher;
use crate::filters::http::HttpFilter;
use crate::filters::network::http_connection_manager::{self, HttpConnectionManager};
use crate::network::ListenSocket;

#[doc(hidden)]
pub use detached::DetachedAdmin;
use filter::{AdminFilterConfig, Turns};
use request::TEXT;
pub(super) use request::{Request, Response};

/// An endpoint.
pub(super) struct UrlHandler {
    pub path: &'static str,
    pub help: &'static str,
    pub handler: fn(&InstanceImpl, &Request) -> Response,
    /// Whether it changes something and therefore wants POST.
    pub mutates: bool,
}

/// All endpoints, sorted by path.
pub(super) const HANDLERS: &[UrlHandler] = &[
    UrlHandler { path: "/", help: "Admin home page", handler: help::home, mutates: false },
    UrlHandler { path: "/certs", help: "print certs on machine", handler: certs::certs, mutates: false },
    UrlHandler {
        path: "/clusters",
        help: "upstream cluster status",
        handler: clusters::clusters,
        mutates: false,
    },
    UrlHandler {
        path: "/config_dump",
        help: "dump current Envoy configs",
        handler: config_dump::config_dump,
        mutates: false,
    },
    UrlHandler {
        path: "/drain_listeners",
        help: "drain listeners",
        handler: server_info::drain,
        mutates: true,
    },
    UrlHandler {
        path: "/healthcheck/fail",
        help: "cause the server to fail health checks",
        handler: server_info::healthcheck_fail,
        mutates: true,
    },
    UrlHandler {
        path: "/healthcheck/ok",
        help: "cause the server to pass health checks",
        handler: server_info::healthcheck_ok,
        mutates: true,
    },
    UrlHandler {
        path: "/help",
        help: "print out list of admin commands",
        handler: help::help,
        mutates: false,
    },
    UrlHandler {
        path: "/listeners",
        help: "print listener info",
        handler: listeners::listeners,
        mutates: false,
    },
    UrlHandler {
        path: "/logging",
        help: "query/change logging levels",
        handler: logging::logging,
        mutates: true,
    },
    UrlHandler { path: "/quitquitquit", help: "exit the server", handler: server_info::quit, mutates: true },
    UrlHandler {
        path: "/ready",
        help: "print server state, return 200 if LIVE, otherwise return 503",
        handler: server_info::ready,
        mutates: false,
    },
    UrlHandler {
        path: "/reopen_logs",
        help: "reopen access logs",
        handler: server_info::reopen_logs,
        mutates: true,
    },
    UrlHandler {
        path: "/reset_counters",
        help: "reset all counters to zero",
        handler: stats::reset_counters,
        mutates: true,
    },
    UrlHandler { path: "/runtime", help: "print runtime values", handler: runtime::runtime, mutates: false },
    UrlHandler {
        path: "/runtime_modify",
        help: "Adds or modifies runtime values as passed in query parameters. To delete a previously added key, \
               use an empty string as the value. Note that deletion only applies to overrides added via this \
               endpoint; values loaded from disk can be modified via override but not deleted. E.g. \
               ?key1=value1&key2=value2...",
        handler: runtime::modify,
        mutates: true,
    },
    UrlHandler {
        path: "/server_info",
        help: "print server version/status information",
        handler: server_info::server_info,
        mutates: false,
    },
    UrlHandler { path: "/stats", help: "print server stats", handler: stats::stats, mutates: false },
    UrlHandler {
        path: "/stats/prometheus",
        help: "print server stats in prometheus format",
        handler: stats::prometheus,
        mutates: false,
    },
    UrlHandler {
        path: "/trace",
        help: "print recorded stages (enable=y|n with POST switches the recorder)",
        handler: trace::trace,
        mutates: false,
    },
    UrlHandler {
        path: "/trace/ui",
        help: "draw recorded requests in the browser",
        handler: trace::ui,
        mutates: false,
    },
];

thread_local! {
    /// The filters are made by a factory that all threads share, but only the main thread's run.
    static ADMIN: RefCell<Weak<AdminImpl>> = const { RefCell::new(Weak::new()) };
}

/// See the module's description.
pub struct AdminImpl {
    server: Weak<InstanceImpl>,
    turns: Turns,
}

impl AdminImpl {
    /// Makes the admin and the listener for it.
    ///
    /// # Errors
    /// An access log that cannot be had.
    pub(super) fn new(
        server: &Weak<InstanceImpl>,
        dispatcher: &Dispatcher,
        socket: ListenSocket,
        context: &ListenerFactoryContext<'_>,
        config: &config::bootstrap::Admin,
    ) -> Result<(Rc<Self>, ListenerConfig), String> {
        let configured = config.address.clone().ok_or("admin.address: is required")?;
        let listener = listener(config, configured);
        let address = socket.local_address().clone();
        let socket = || Ok(Arc::new(socket));
        let listener = ListenerConfig::with_socket(&listener, "admin", &address, socket, context)?;
        let admin = Rc::new(AdminImpl { server: server.clone(), turns: Turns::new(dispatcher) });
        ADMIN.set(Rc::downgrade(&admin));
        Ok((admin, listener))
    }

    fn current() -> Option<Rc<AdminImpl>> {
        ADMIN.with_borrow(Weak::upgrade)
    }

    /// Answers a request.
    fn run(&self, request: &Request) -> Response {
        let Some(server) = self.server.upgrade() else { return Response::text(503, "") };
        let Some(entry) = HANDLERS.iter().find(|h| h.path == request.path) else {
            return Response::text(404, format!("invalid path. {}", help::text()));
        };
        if entry.mutates && request.method != "POST" {
            envoy_log!(
                Admin,
                error,
                "admin path \"{}\" mutates state, method={} rather than POST",
                entry.path,
                request.method
            );
            return Response::text(405, format!("Method {} not allowed, POST required.", request.method));
        }
        (entry.handler)(&server, request)
    }
}

/// The listener, as it would stand in a configuration.
fn listener(config: &config::bootstrap::Admin, address: config::Address) -> config::Listener {
    let access_log_path = Some(&config.access_log_path).filter(|path| !path.is_empty());
    let access_log_path =
        access_log_path.map(|path| AccessLog::of(access_log::FILE.name(), FileAccessLogConfig::file(path)));
    let manager = HttpConnectionManager {
        access_log: config.access_log.iter().cloned().chain(access_log_path).collect(),
        http_filters: vec![HttpFilter::of("envoy.filters.http.admin", AdminFilterConfig)],
        merge_slashes: true,
        ..HttpConnectionManager::internal("admin")
    };
    let manager = config::Filter::of(http_connection_manager::FACTORY.name(), manager);
    config::Listener {
        stat_prefix: "admin".to_string(),
        // A slow client holds no more.
        per_connection_buffer_limit_bytes: 64 * 1024,
        ..config::Listener::of_filters("admin", address, vec![manager])
    }
}
