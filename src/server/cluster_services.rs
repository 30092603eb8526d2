//! What the server does for its clusters: it opens their files, and makes the heads of their checks.

use std::rc::Rc;
use std::sync::Arc;

use crate::access_log::AccessLogManager;
use crate::config::ConfigError;
use crate::config::route::HeaderMutations;
use crate::http::HeaderMap;
use crate::router::HeaderParser;
use crate::stream_info::StreamInfoImpl;
use crate::upstream::outlier_detection::{EventLogger, EventLoggerImpl};
use crate::upstream::{CheckHeaders, ClusterServices, HostSharedPtr, LineSink, WorkerHost};

/// See the module's description.
pub(super) struct ClusterServicesImpl {
    outlier_event_logger: Option<Rc<dyn EventLogger>>,
    access_logs: Arc<AccessLogManager>,
}

impl ClusterServicesImpl {
    /// Hosts that are ejected are told of in the file `event_log`, unless its name is empty.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn new(event_log: &str, access_logs: &Arc<AccessLogManager>) -> Result<Self, String> {
        let mut services = Self::for_validation(access_logs);
        if !event_log.is_empty() {
            let logger = EventLoggerImpl::new(access_logs.create_access_log(event_log)?);
            services.outlier_event_logger = Some(Rc::new(logger));
        }
        Ok(services)
    }

    /// Nothing is told of hosts that are ejected.
    pub(super) fn for_validation(access_logs: &Arc<AccessLogManager>) -> Self {
        ClusterServicesImpl { outlier_event_logger: None, access_logs: access_logs.clone() }
    }
}

impl ClusterServices for ClusterServicesImpl {
    fn outlier_event_logger(&self) -> Option<Rc<dyn EventLogger>> {
        self.outlier_event_logger.clone()
    }

    fn create_access_log(&self, path: &str) -> Result<LineSink, String> {
        Ok(Rc::new(self.access_logs.create_access_log(path)?))
    }

    fn check_headers(
        &self,
        mutations: &HeaderMutations,
        add: &str,
    ) -> Result<Option<Box<dyn CheckHeaders>>, ConfigError> {
        let parser = HeaderParser::configure(mutations, add)?;
        Ok(parser.map(|parser| Box::new(ParsedHeaders(parser)) as Box<dyn CheckHeaders>))
    }
}

struct ParsedHeaders(Arc<HeaderParser>);

impl CheckHeaders for ParsedHeaders {
    fn evaluate(&self, headers: &mut HeaderMap, host: &HostSharedPtr) {
        let info = StreamInfoImpl::new();
        info.set_upstream_host(&WorkerHost::new(host.clone()));
        self.0.evaluate_request(headers, &info);
    }
}
