//! The product between two played sockets: a downstream that sends what it is told to, and upstreams.
//!
//! Connections, connection manager, filters, router, cluster manager and pool are legate's own, on a loop
//! of its own. A played socket is a [`TransportSocket`] that gives one piece at each read; the fd beneath it is
//! always readable and writable, and is sent a byte where a read has to be woken up.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use legate::access_log::AccessLogManager;
use legate::buffer::Buffer;
use legate::cluster_manager::{ClusterManagerImpl, LocalInfo};
use legate::config::{Bootstrap, UnknownFields, parse_bootstrap};
use legate::event::{Dispatcher, RunType};
use legate::filters::http::HttpFilter;
use legate::filters::http::router::RouterConfig;
use legate::filters::network::http_connection_manager::{
    ConnectionManagerConfig, ConnectionManagerImpl, HttpConnectionManager, WorkerConfig,
};
use legate::filters::{FactoryContext, LINKED, ServerFactoryContext};
use legate::http::DateProvider;
use legate::init::ManagerImpl;
use legate::network::{
    Address, ConnectionCloseType, ConnectionEvent, ConnectionImpl, ConnectionSocket, ConnectionState,
    DrainDecision, IoResult, PostIoAction, TransportSocket, TransportSocketCallbacks, set_connector,
};
use legate::runtime::LoaderImpl;
use legate::stats::{Counter, Gauge, Store};
use legate::thread_local;

use super::bootstrap::bootstrap;
use super::message::{self, Kind, Message};
use super::recorder::{self, RecorderFactory, StreamRecord};

/// What the upstream of the model answers.
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-model: 1\r\n\r\nok";

/// What comes behind the pieces of a played socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Nothing,
    Fin,
    Reset,
}

/// What the upstreams of a run do.
#[derive(Clone, Debug)]
pub enum Upstream {
    /// Answers every request with [`OK`].
    Model,
    /// The first connection sends these pieces and then the end; later ones are the model's.
    Bytes(Vec<Vec<u8>>, End),
}

/// An fd for one connection at a time, and its other end.
struct Wire {
    ready: UnixStream,
    peer: UnixStream,
    /// Bytes sent to wake reads up. Nobody needs to read them: it is their coming that wakes.
    sent: Cell<usize>,
}

impl Wire {
    fn new() -> Rc<Wire> {
        let (ready, peer) = UnixStream::pair().expect("a pair of sockets");
        ready.set_nonblocking(true).expect("a socket");
        let wire = Wire { ready, peer, sent: Cell::new(0) };
        wire.wake();
        Rc::new(wire)
    }

    /// Makes an edge: readable and writable.
    fn wake(&self) {
        self.clean();
        (&self.peer).write_all(b"x").expect("room for a byte");
        self.sent.set(self.sent.get() + 1);
    }

    /// Makes room; one byte stays, which makes the fd readable for the next connection.
    fn clean(&self) {
        if self.sent.get() > 100 {
            let mut bytes = vec![0; self.sent.get() - 1];
            (&self.ready).read_exact(&mut bytes).expect("what was sent");
            self.sent.set(1);
        }
    }

    fn fd(&self) -> OwnedFd {
        self.ready.try_clone().expect("an fd").into()
    }
}

impl Upstream {
    fn pieces(&self) -> &[Vec<u8>] {
        match self {
            Upstream::Model => &[],
            Upstream::Bytes(pieces, _) => pieces,
        }
    }
}

/// The two ends of a played socket's connection.
struct Link {
    wire: Rc<Wire>,
    world: Rc<Shared>,
    input: RefCell<VecDeque<Vec<u8>>>,
    end: Cell<End>,
    output: RefCell<Vec<u8>>,
    closed: Cell<bool>,
    /// An upstream: from where on in the output it has not answered.
    answered: Option<Cell<usize>>,
    /// An upstream whose answers are the run's bytes.
    scripted: Cell<bool>,
}

/// What the played sockets share.
#[derive(Default)]
struct Shared {
    /// Grows with all that happens.
    activity: Cell<u64>,
    /// Reads in which nothing came, since something last happened.
    idle_reads: Cell<u64>,
    /// Bytes taken by a write.
    window: Cell<usize>,
    upstream: RefCell<Option<Upstream>>,
    wires: RefCell<Vec<Rc<Wire>>>,
    upstream_links: RefCell<Vec<Rc<Link>>>,
    upstream_requests: RefCell<Vec<Message>>,
}

impl Shared {
    fn act(&self) {
        self.activity.set(self.activity.get() + 1);
        self.idle_reads.set(0);
    }

    fn wire(&self, index: usize) -> Rc<Wire> {
        let mut wires = self.wires.borrow_mut();
        while wires.len() <= index {
            wires.push(Wire::new());
        }
        wires[index].clone()
    }
}

impl Link {
    fn new(world: &Rc<Shared>, wire: Rc<Wire>, pieces: Vec<Vec<u8>>, end: End) -> Link {
        Link {
            wire,
            world: world.clone(),
            input: RefCell::new(pieces.into()),
            end: Cell::new(end),
            output: RefCell::default(),
            closed: Cell::new(false),
            answered: None,
            scripted: Cell::new(false),
        }
    }

    fn upstream(world: &Rc<Shared>) -> Rc<Link> {
        let plan = world.upstream.replace(Some(Upstream::Model));
        let (pieces, end, scripted) = match plan {
            Some(Upstream::Bytes(pieces, end)) => (pieces, end, true),
            _ => (Vec::new(), End::Nothing, false),
        };
        let mut links = world.upstream_links.borrow_mut();
        let mut link = Link::new(world, world.wire(1 + links.len()), pieces, end);
        link.answered = Some(Cell::new(0));
        link.scripted.set(scripted);
        let link = Rc::new(link);
        links.push(link.clone());
        link
    }

    fn send(&self, piece: Vec<u8>) {
        self.input.borrow_mut().push_back(piece);
        self.wire.wake();
    }

    /// Reads the requests that are complete, and answers them.
    fn answer(&self) {
        let Some(answered) = &self.answered else { return };
        let output = self.output.borrow();
        loop {
            let rest = &output[answered.get()..];
            let (message, length) = match message::parse(rest, Kind::Request) {
                Ok(parsed) => parsed,
                Err(error) => panic!("sent upstream: {error}\n{}", String::from_utf8_lossy(rest)),
            };
            if !message.complete {
                return;
            }
            answered.set(answered.get() + length);
            if !self.scripted.get() {
                let body = if message.is_head() { OK.len() - 2 } else { OK.len() };
                self.send(OK[..body].to_vec());
            }
            self.world.upstream_requests.borrow_mut().push(message);
        }
    }
}

/// The played socket's end in legate.
struct PlayedSocket(Rc<Link>);

impl TransportSocket for PlayedSocket {
    fn do_read(&self, callbacks: &dyn TransportSocketCallbacks, buffer: &mut Buffer) -> IoResult {
        let mut result = IoResult::default();
        let shared = &self.0.world;
        shared.idle_reads.set(shared.idle_reads.get() + 1);
        assert!(shared.idle_reads.get() < 100, "read again and again");
        let piece = self.0.input.borrow_mut().pop_front();
        if let Some(piece) = piece {
            shared.act();
            result.bytes_processed = piece.len();
            buffer.add(&piece);
        }
        match self.0.end.get() {
            _ if !self.0.input.borrow().is_empty() => callbacks.set_read_buffer_ready(),
            End::Nothing => {}
            _ if result.bytes_processed > 0 => callbacks.set_read_buffer_ready(),
            End::Fin => result.end_stream_read = true,
            End::Reset => result.action = PostIoAction::Close,
        }
        result
    }

    fn do_write(
        &self,
        _callbacks: &dyn TransportSocketCallbacks,
        buffer: &mut Buffer,
        _end_stream: bool,
    ) -> IoResult {
        let bytes_processed = buffer.len().min(self.0.world.window.get());
        if bytes_processed > 0 {
            self.0.world.act();
            self.0
                .output
                .borrow_mut()
                .extend_from_slice(&buffer.linearize(bytes_processed)[..bytes_processed]);
            buffer.drain(bytes_processed);
            self.0.answer();
        }
        if !buffer.is_empty() {
            self.0.wire.wake();
        }
        IoResult { bytes_processed, ..IoResult::default() }
    }

    fn close_socket(&self, _callbacks: &dyn TransportSocketCallbacks, _event: ConnectionEvent) {
        self.0.closed.set(true);
        self.0.world.act();
    }

    fn on_connected(&self, _callbacks: &dyn TransportSocketCallbacks) -> bool {
        self.0.world.act();
        true
    }
}

/// What a run does.
pub struct Script<'a> {
    /// Which connection manager; below [`MANAGERS`].
    pub manager: usize,
    /// What the downstream sends, a read at a time.
    pub pieces: Vec<Vec<u8>>,
    pub upstream: Upstream,
    /// Peers take what they get bit by bit, and buffers are above their limits now and then.
    pub slowly: bool,
    /// What it sends when nothing moves any more and the connection is still open.
    pub then: Option<&'a [u8]>,
}

/// What came of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The streams as the filters saw them until nothing moved any more, as is the rest.
    pub streams: Vec<StreamRecord>,
    /// What the downstream got; the date is left out.
    pub output: Vec<u8>,
    /// How long `output` was when nothing moved any more, before [`Script::then`] was sent.
    pub first_output: usize,
    /// The requests that upstreams got.
    pub upstream_requests: Vec<Message>,
    /// The state of the downstream connection when nothing moved any more.
    pub state: ConnectionState,
    /// Whether a request was refused because earlier responses were not written yet, which depends on when
    /// the requests come.
    pub flooded: bool,
    /// Upstream connections made, and open, when nothing moved any more.
    pub upstream_connections: (usize, usize),
}

/// See the module's description.
pub struct World {
    dispatcher: Rc<Dispatcher>,
    managers: Vec<Rc<WorkerConfig>>,
    shared: Rc<Shared>,
    /// Have to be 0 at the end of a run.
    gauges: Vec<Gauge>,
    response_flood: Counter,
    _clusters: Rc<ClusterManagerImpl>,
}

struct NeverDrains;

impl DrainDecision for NeverDrains {
    fn drain_close(&self) -> bool {
        false
    }
}

thread_local! {
    /// Leaked, because what a thread keeps for itself may be gone before the world is.
    static WORLD: Cell<Option<&'static World>> = const { Cell::new(None) };
}

/// This thread's world.
pub fn world() -> &'static World {
    WORLD.get().unwrap_or_else(|| {
        let world = Box::leak(Box::new(World::new()));
        WORLD.set(Some(world));
        world
    })
}

impl World {
    fn new() -> World {
        let dispatcher = Dispatcher::new("fuzz");
        thread_local::enter_thread(&dispatcher);
        let stats = Store::new(1);
        let tls = thread_local::InstanceImpl::new();
        let date_provider = tls.allocate_slot::<DateProvider>();
        date_provider.set(|dispatcher| DateProvider::new(dispatcher));
        let bootstrap = parse_bootstrap(bootstrap(), UnknownFields::default(), &LINKED).expect("a bootstrap");
        let runtime = LoaderImpl::empty(&stats);
        let clusters = ClusterManagerImpl::new(
            &bootstrap.static_resources.clusters,
            None,
            LocalInfo::default(),
            &stats,
            &tls,
            &runtime,
        )
        .expect("clusters");
        let context = ServerFactoryContext {
            cluster_manager: clusters.handle(),
            runtime,
            access_log_manager: AccessLogManager::new(&stats, Duration::from_secs(3600)),
            date_provider,
            local_address: address(),
            service_cluster: String::new(),
            service_zone: String::new(),
            service_node: String::new(),
            health_check_failed: Arc::default(),
            stats: stats.clone(),
        };
        let managers = managers(&bootstrap, &context, &stats, &dispatcher);
        let shared = Rc::new(Shared::default());
        let connecting = shared.clone();
        set_connector(Some(Rc::new(move |address| {
            let link = Link::upstream(&connecting);
            let socket = ConnectionSocket::accepted(link.wire.fd(), address.clone(), address.clone());
            (socket, Box::new(PlayedSocket(link)) as Box<dyn TransportSocket>)
        })));
        let active = |name: &str| name.ends_with("_active") || name.ends_with("_buffered");
        let gauges = stats.gauges().into_iter().filter(|gauge| active(&gauge.name())).collect();
        let response_flood = stats.find_counter("http1.response_flood").expect("a counter");
        World { dispatcher, managers, shared, gauges, response_flood, _clusters: clusters }
    }

    /// Plays a script to its end and cleans up.
    pub fn play(&self, script: Script) -> Outcome {
        let floods = self.response_flood.value();
        let all: usize = script.pieces.iter().chain(script.upstream.pieces()).map(Vec::len).sum();
        self.shared.window.set(if script.slowly { 100.max(all / 32) } else { usize::MAX });
        *self.shared.upstream.borrow_mut() = Some(script.upstream);
        let link = Rc::new(Link::new(&self.shared, self.shared.wire(0), script.pieces, End::Nothing));
        let socket = ConnectionSocket::accepted(link.wire.fd(), address(), address());
        let connection =
            ConnectionImpl::new(&self.dispatcher, socket, Box::new(PlayedSocket(link.clone())), true)
                .expect("watched");
        connection.set_buffer_limits(if script.slowly { 200 } else { 1024 * 1024 });
        let manager = ConnectionManagerImpl::new(self.managers[script.manager].clone());
        connection.add_read_filter(manager);
        connection.initialize_read_filters();

        self.settle();
        let first_output = link.output.borrow().len();
        let state = connection.state();
        let (streams, upstream_connections) = (recorder::so_far(), self.upstream_connections());
        if let (Some(then), ConnectionState::Open) = (script.then, state) {
            self.shared.upstream_links.borrow().iter().for_each(|link| link.scripted.set(false));
            link.send(then.to_vec());
            self.settle();
        }
        connection.close(ConnectionCloseType::NoFlush);
        drop(connection);
        let links = self.shared.upstream_links.take();
        for link in &links {
            link.input.borrow_mut().clear();
            link.end.set(End::Fin);
            link.wire.wake();
        }
        self.settle();
        self.shared.wires.borrow().iter().for_each(|wire| wire.clean());
        for gauge in &self.gauges {
            assert!(gauge.value() == 0, "{} is {} at the end", gauge.name(), gauge.value());
        }
        assert!(recorder::end(), "a filter outlives its connection");
        Outcome {
            streams,
            output: without_date(link.output.take()),
            first_output,
            upstream_requests: self.shared.upstream_requests.take(),
            state,
            flooded: self.response_flood.value() > floods,
            upstream_connections,
        }
    }

    fn upstream_connections(&self) -> (usize, usize) {
        let links = self.shared.upstream_links.borrow();
        (links.len(), links.iter().filter(|link| !link.closed.get()).count())
    }

    /// Runs the loop until nothing moves.
    fn settle(&self) {
        loop {
            let before = self.shared.activity.get();
            self.dispatcher.run(RunType::NonBlock);
            if self.shared.activity.get() == before {
                return;
            }
        }
    }
}

fn address() -> Address {
    Address::Ip(SocketAddr::from(([127, 0, 0, 1], 1)))
}

/// Puts the same date everywhere.
fn without_date(mut output: Vec<u8>) -> Vec<u8> {
    const NAME: &[u8] = b"\r\ndate: ";
    let mut at = 0;
    while let Some(found) = output[at..].windows(NAME.len()).position(|w| w == NAME) {
        let start = at + found + NAME.len();
        at = start;
        if let Some(date) = output.get_mut(start..start + 29).filter(|date| date.ends_with(b" GMT")) {
            date.fill(b'-');
        }
    }
    output
}

fn managers(
    bootstrap: &Bootstrap,
    server: &ServerFactoryContext,
    stats: &Arc<Store>,
    dispatcher: &Rc<Dispatcher>,
) -> Vec<Rc<WorkerConfig>> {
    let context = FactoryContext {
        server,
        init_manager: &ManagerImpl::new("fuzz"),
        listener_scope: &stats.root_scope(),
        is_logged: false,
        drain_decision: Arc::new(NeverDrains),
    };
    let filters =
        bootstrap.static_resources.listeners.iter().map(|listener| &listener.filter_chains[0].filters[0]);
    filters
        .map(|filter| {
            let hcm = HttpConnectionManager::of(filter).expect("a connection manager");
            let recorder = HttpFilter::of("recorder", RecorderFactory);
            let router = RouterConfig { suppress_envoy_headers: true, ..RouterConfig::default() };
            let router = HttpFilter::of("router", router);
            let hcm = HttpConnectionManager { http_filters: vec![recorder, router], ..hcm.clone() };
            let config = ConnectionManagerConfig::new(&hcm, &context).expect("a connection manager");
            WorkerConfig::new(Arc::new(config), dispatcher)
        })
        .collect()
}
