//! Hosts are asked with a request.
//!
//! Mirrors `HttpHealthCheckerImpl` of Envoy's `source/common/upstream/health_checker_impl.cc`, as 1.40 has it.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::{Rc, Weak};

use super::base::{CheckerKind, HealthCheckerImplBase};
use super::event_logger::{HealthCheckFailureType, HealthCheckerType};
use super::payload_matcher;
use super::session::{ActiveHealthCheckSession, CheckSession, Failure};
use crate::buffer::Buffer;
use crate::config::ConfigError;
use crate::config::health_check::{HealthCheckKind, HttpHealthCheck, StatusRange};
use crate::http::{
    CodecClient, CodecClientCallbacks, HeaderId, HeaderMap, HeaderMapPtr, StreamCallbacks, StreamDecoder,
    StreamResetReason, header_utility, utility,
};
use crate::network::{ConnectionCallbacks, ConnectionEvent};
use crate::trace::stage;
use crate::upstream::{CheckHeaders, ClusterServices, HealthFlag, HostSharedPtr};

/// Who asks.
const USER_AGENT: &[u8] = b"Envoy/HC";

/// What an answer is without a word of which statuses are expected.
const EXPECTED: StatusRange = StatusRange { start: 200, end: 201 };

/// See the module's description.
pub(super) struct HttpHealthCheckerImpl {
    request_headers: Option<Rc<dyn CheckHeaders>>,
}

impl HttpHealthCheckerImpl {
    /// # Errors
    /// The value of a header is no format.
    pub(super) fn new(check: &HttpHealthCheck, services: &dyn ClusterServices) -> Result<Self, ConfigError> {
        let headers = services.check_headers(&check.request_headers, "request_headers_to_add")?;
        Ok(HttpHealthCheckerImpl { request_headers: headers.map(Rc::from) })
    }
}

impl CheckerKind for HttpHealthCheckerImpl {
    fn checker_type(&self) -> HealthCheckerType {
        HealthCheckerType::Http
    }

    fn make_session(
        &self,
        parent: &Rc<HealthCheckerImplBase>,
        session: &Weak<ActiveHealthCheckSession>,
        host: &HostSharedPtr,
    ) -> Rc<dyn CheckSession> {
        Rc::new_cyclic(|weak| HttpActiveHealthCheckSession {
            weak: weak.clone(),
            parent: Rc::downgrade(parent),
            session: session.clone(),
            host: host.clone(),
            request_headers: self.request_headers.clone(),
            client: RefCell::default(),
            response: RefCell::default(),
            expect_reset: Cell::new(false),
        })
    }
}

/// What has come of an answer.
struct Response {
    headers: HeaderMapPtr,
    /// As much of it as is searched.
    body: Buffer,
}

/// What an answer says of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HealthCheckResult {
    Succeeded,
    Degraded,
    Failed,
    Retriable,
}

struct HttpActiveHealthCheckSession {
    weak: Weak<HttpActiveHealthCheckSession>,
    parent: Weak<HealthCheckerImplBase>,
    session: Weak<ActiveHealthCheckSession>,
    host: HostSharedPtr,
    request_headers: Option<Rc<dyn CheckHeaders>>,
    client: RefCell<Option<Rc<CodecClient>>>,
    response: RefCell<Option<Response>>,
    /// The end of the connection is this side's doing.
    expect_reset: Cell<bool>,
}

fn http_check(parent: &HealthCheckerImplBase) -> Option<&HttpHealthCheck> {
    match &parent.config().health_checker {
        HealthCheckKind::Http(check) => Some(check),
        HealthCheckKind::Tcp(_) => None,
    }
}

impl HttpActiveHealthCheckSession {
    fn client(&self) -> Option<Rc<CodecClient>> {
        self.client.borrow().clone()
    }

    fn get_or_create_client(&self, parent: &HealthCheckerImplBase) -> io::Result<Rc<CodecClient>> {
        if let Some(client) = self.client() {
            return Ok(client);
        }
        let cluster = parent.cluster();
        let connection = self.host.create_health_check_connection(parent.dispatcher())?;
        let codec = cluster.create_codec(connection.connection());
        let callbacks: Weak<dyn CodecClientCallbacks> = self.weak.clone();
        let client = CodecClient::new(connection, codec, callbacks, cluster.idle_timeout());
        let callbacks: Weak<dyn ConnectionCallbacks> = self.weak.clone();
        client.connection().add_connection_callbacks(callbacks);
        self.expect_reset.set(false);
        *self.client.borrow_mut() = Some(client.clone());
        Ok(client)
    }

    fn request(&self, parent: &HealthCheckerImplBase, check: &HttpHealthCheck) -> HeaderMap {
        let own = self.host.hostname_for_health_checks();
        let host = [own, &check.host].into_iter().find(|name| !name.is_empty());
        let mut headers = HeaderMap::new();
        headers.set(HeaderId::Method, check.method.as_str().as_bytes());
        headers.set(HeaderId::Authority, host.unwrap_or_else(|| parent.cluster().name()).as_bytes());
        headers.set(HeaderId::Path, check.path.as_bytes());
        headers.set(HeaderId::UserAgent, USER_AGENT);
        let is_secure = parent.cluster().transport_socket_factory().implements_secure_transport();
        headers.set(HeaderId::Scheme, if is_secure { b"https" } else { b"http" });
        if let Some(send) = &check.send {
            headers.set_int(HeaderId::ContentLength, send.0.len() as u64);
        }
        if let Some(rules) = &self.request_headers {
            rules.evaluate(&mut headers, &self.host);
        }
        headers
    }

    fn health_check_result(&self, parent: &HealthCheckerImplBase, response: &Response) -> HealthCheckResult {
        let Some(check) = http_check(parent) else { return HealthCheckResult::Failed };
        let headers = response.headers.borrow();
        let status = headers.status();
        if let Some(client) = self.client() {
            stage!(HttpHealthCheckResult(client.id()), status = u64::from(status); flags = self.host.health_flags_text());
        }
        let is_in = |ranges: &[StatusRange]| ranges.iter().any(|r| (r.start..r.end).contains(&status));
        let is_expected = match &check.expected_statuses[..] {
            [] => is_in(&[EXPECTED]),
            expected => is_in(expected),
        };
        if !is_expected {
            self.exclude_if_asked(parent, &headers);
            return match is_in(&check.retriable_statuses) {
                true => HealthCheckResult::Retriable,
                false => HealthCheckResult::Failed,
            };
        }
        if !check.receive.is_empty() && !payload_matcher::matches(&check.receive, &response.body.to_vec()) {
            self.exclude_if_asked(parent, &headers);
            return HealthCheckResult::Failed;
        }
        if let Some(matcher) = &check.service_name_matcher
            && parent.settings().verifies_cluster(fastrand::u64(..))
        {
            parent.stats().verify_cluster.inc();
            let name = headers.get(HeaderId::EnvoyUpstreamHealthCheckedCluster).unwrap_or_default();
            if !header_utility::match_string(name, matcher) {
                return HealthCheckResult::Failed;
            }
        }
        match headers.has(HeaderId::EnvoyDegraded) {
            true => HealthCheckResult::Degraded,
            false => HealthCheckResult::Succeeded,
        }
    }

    /// A host that fails may say that it wants no requests, not even where all hosts fail.
    fn exclude_if_asked(&self, parent: &HealthCheckerImplBase, headers: &HeaderMap) {
        if parent.may_exclude() && headers.has(HeaderId::EnvoyImmediateHealthCheckFail) {
            self.host.health_flag_set(HealthFlag::ExcludedViaImmediateHcFail);
        }
    }

    fn on_response_complete(&self) {
        let (Some(parent), Some(session), Some(response)) =
            (self.parent.upgrade(), self.session.upgrade(), self.response.take())
        else {
            return;
        };
        let http_status = response.headers.borrow().status();
        let failed = |retriable| Failure { kind: HealthCheckFailureType::Active, retriable, http_status };
        match self.health_check_result(&parent, &response) {
            HealthCheckResult::Succeeded => session.handle_success(false),
            HealthCheckResult::Degraded => session.handle_success(true),
            HealthCheckResult::Failed => session.handle_failure(failed(false)),
            HealthCheckResult::Retriable => session.handle_failure(failed(true)),
        }
        if let Some(client) = self.client()
            && (!parent.config().reuse_connection
                || utility::should_close_connection(client.protocol(), &response.headers.borrow()))
        {
            client.close();
        }
    }
}

impl CheckSession for HttpActiveHealthCheckSession {
    fn on_interval(&self) -> io::Result<()> {
        let Some(parent) = self.parent.upgrade() else { return Ok(()) };
        let Some(check) = http_check(&parent) else { return Ok(()) };
        let client = self.get_or_create_client(&parent)?;
        let decoder: Weak<dyn StreamDecoder> = self.weak.clone();
        let encoder = client.new_stream(decoder);
        let callbacks: Weak<dyn StreamCallbacks> = self.weak.clone();
        encoder.stream().add_callbacks(callbacks);
        let headers = self.request(&parent, check).shared();
        encoder.encode_headers(&headers, check.send.is_none());
        if let Some(send) = &check.send {
            let mut body = Buffer::new();
            body.add(&send.0);
            encoder.encode_data(&mut body, true);
        }
        Ok(())
    }

    fn on_timeout(&self) {
        let Some(client) = self.client() else { return };
        stage!(HttpHealthCheckTimeout(client.id()); flags = self.host.health_flags_text());
        self.expect_reset.set(true);
        client.close();
    }

    fn on_deferred_delete(&self) {
        if let Some(client) = self.client() {
            self.expect_reset.set(true);
            client.close();
        }
    }
}

impl StreamDecoder for HttpActiveHealthCheckSession {
    fn decode_headers(&self, headers: HeaderMapPtr, end_stream: bool) {
        *self.response.borrow_mut() = Some(Response { headers, body: Buffer::new() });
        if end_stream {
            self.on_response_complete();
        }
    }

    fn decode_data(&self, data: &mut Buffer, end_stream: bool) {
        if let (Some(parent), Some(response)) = (self.parent.upgrade(), &mut *self.response.borrow_mut())
            && let Some(check) = http_check(&parent).filter(|check| !check.receive.is_empty())
        {
            let most = match check.response_buffer_size {
                0 => usize::MAX,
                size => usize::try_from(size).unwrap_or(usize::MAX),
            };
            let room = most.saturating_sub(response.body.len());
            response.body.move_n_from(data, room.min(data.len()));
        }
        data.clear();
        if end_stream {
            self.on_response_complete();
        }
    }

    fn decode_trailers(&self, _trailers: HeaderMapPtr) {
        self.on_response_complete();
    }
}

impl StreamCallbacks for HttpActiveHealthCheckSession {
    fn on_reset_stream(&self, _reason: StreamResetReason) {
        if self.expect_reset.get() {
            return;
        }
        let (Some(client), Some(session)) = (self.client(), self.session.upgrade()) else { return };
        stage!(HttpHealthCheckReset(client.id()); flags = self.host.health_flags_text());
        session.handle_failure(HealthCheckFailureType::Network);
    }

    fn on_above_write_buffer_high_watermark(&self) {}

    fn on_below_write_buffer_low_watermark(&self) {}
}

impl ConnectionCallbacks for HttpActiveHealthCheckSession {
    /// There is nothing more to do: either the next check is set up, or the reset has done it.
    fn on_event(&self, event: ConnectionEvent) {
        if event != ConnectionEvent::Connected {
            drop(self.response.take());
            if let (Some(client), Some(parent)) = (self.client.take(), self.parent.upgrade()) {
                parent.dispatcher().deferred_delete(client);
            }
        }
    }

    fn on_above_write_buffer_high_watermark(&self) {}

    fn on_below_write_buffer_low_watermark(&self) {}
}

impl CodecClientCallbacks for HttpActiveHealthCheckSession {
    fn on_protocol_error(&self) {
        self.host.cluster().stats().upstream_cx_protocol_error().inc();
    }

    fn on_idle_timeout(&self) {
        self.host.cluster().stats().upstream_cx_idle_timeout().inc();
    }
}
