//! The main thread. Mirrors `InstanceImpl` of Envoy's `source/server/server.cc`.

use std::cell::RefCell;
use std::io;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::admin::AdminImpl;
use super::cluster_services::ClusterServicesImpl;
use super::config_dump;
use super::connection_handler::ConnectionHandlerImpl;
use super::drain_manager::{DrainDirection, DrainManagerImpl, DrainSequence};
use super::guard_dog::{GuardDogImpl, GuardDogThread};
use super::listener_config::{ListenerConfig, ListenerFactoryContext, bind, listen_options};
use super::listener_manager::ListenerManagerImpl;
use super::options::{IpVersion, Options};
use super::server_stats::{ServerState, ServerStats};
use super::version;
use super::worker::WorkerImpl;
use crate::access_log::AccessLogManager;
use crate::cluster_manager::{ClusterManagerImpl, LocalInfo};
use crate::common::resident;
use crate::config::core::Locality;
use crate::config::extension::{Category, Extensions};
use crate::config::runtime::LayeredRuntime;
use crate::config::tracker::{ConfigTrackerImpl, EntryOwner};
use crate::config::{self, Bootstrap};
use crate::event::{Dispatcher, RunEnd, RunType, SignalEvent, Timer};
use crate::filters::{Registry, ServerFactoryContext};
use crate::http::DateProvider;
use crate::init::{ManagerImpl, WatcherImpl};
use crate::network::{Address, ListenSocket};
use crate::runtime::LoaderImpl;
use crate::stats::Store;
use crate::trace::{self, Stage};
use crate::upstream::ClusterServices;
use crate::{envoy_log, logger, thread_local};

/// A listener that the main thread serves itself, beside the admin's.
pub struct MainListener {
    /// What it serves; its address is the socket's.
    pub config: config::Listener,
    /// The bound socket.
    pub socket: ListenSocket,
}

/// The server and all that the main thread owns.
pub struct InstanceImpl {
    pub(super) options: Options,
    pub(super) registry: &'static Registry,
    pub(super) bootstrap: Bootstrap,
    pub(super) dispatcher: Rc<Dispatcher>,
    pub(super) stats_store: Arc<Store>,
    pub(super) server_stats: ServerStats,
    pub(super) cluster_manager: Rc<ClusterManagerImpl>,
    pub(super) listener_manager: Rc<ListenerManagerImpl>,
    pub(super) drain_manager: Arc<DrainManagerImpl>,
    pub(super) start: Instant,
    pub(super) start_time: SystemTime,
    pub(super) config_tracker: ConfigTrackerImpl,
    /// What the tracker shows of the server.
    config_entries: RefCell<Vec<EntryOwner>>,
    /// What is waited for before the workers start.
    init_manager: Rc<ManagerImpl>,
    /// Is told when nothing is waited for any more.
    run_helper: RefCell<Option<Rc<WatcherImpl>>>,
    handler: Rc<ConnectionHandlerImpl>,
    context: ServerFactoryContext,
    admin: RefCell<Option<Rc<AdminImpl>>>,
    stat_flush_timer: RefCell<Option<Timer>>,
    drains: RefCell<Vec<DrainSequence>>,
    main_thread_guard_dog: Arc<GuardDogImpl>,
    worker_guard_dog: Arc<GuardDogImpl>,
    guard_dog_thread: RefCell<Option<GuardDogThread>>,
    /// A thread cannot go on, so the process ends as if it had been told to, and says that it failed.
    failed: Arc<AtomicBool>,
    weak: Weak<InstanceImpl>,
}

impl InstanceImpl {
    /// Builds everything that the configuration asks for; nothing runs yet.
    ///
    /// # Errors
    /// What cannot be had, in words.
    pub fn new(
        options: Options,
        registry: &'static Registry,
        bootstrap: Bootstrap,
        main_listeners: Vec<MainListener>,
    ) -> Result<Rc<Self>, String> {
        let _stage = trace::scope(Stage::ServerInstance, None, 0, 0, 0);
        log_start(&options, registry);
        trace::instant(Stage::Initialize, None, 0, options.concurrency.into(), 0);
        let dispatcher =
            Dispatcher::create("main_thread").map_err(|e| format!("cannot make an event loop: {e}"))?;
        thread_local::enter_thread(&dispatcher);
        let start = Instant::now();
        let stats_store = Store::new(options.concurrency as usize);
        let tls = thread_local::InstanceImpl::new();
        let failed = Arc::new(AtomicBool::new(false));
        let workers = create_workers(&options, &tls, &dispatcher, &failed)?;

        let date_provider = tls.allocate_slot::<DateProvider>();
        date_provider.set(|dispatcher| DateProvider::new(dispatcher));
        let server_stats = server_stats(&stats_store, &options, &bootstrap);

        let admin_socket = bind_admin(&options, &bootstrap)?;
        warn_of_settings_without_effect(&bootstrap);
        let service_cluster = or_else(&options.service_cluster, &bootstrap.node.cluster);
        let layers = LayeredRuntime::of_bootstrap(bootstrap.layered_runtime.as_ref());
        let runtime = LoaderImpl::new(layers, &service_cluster, &stats_store);
        // As Envoy, which reads the layers again when discovery could add to them.
        runtime.load_new_snapshot();
        let (clusters, listeners) =
            (bootstrap.static_resources.clusters.len(), bootstrap.static_resources.listeners.len());
        trace::instant(Stage::MainInitialize, None, 0, clusters as u64, listeners as u64);
        envoy_log!(Config, info, "loading {} static secret(s)", 0);
        envoy_log!(Config, info, "loading {} cluster(s)", clusters);
        let access_log_manager = AccessLogManager::with_min_flush_size(
            &stats_store,
            options.file_flush_interval,
            options.file_flush_min_size_kb as usize * 1024,
        );
        let event_log = &bootstrap.cluster_manager.outlier_detection.event_log_path;
        let services = ClusterServicesImpl::new(event_log, &access_log_manager)?;
        let local = local_info(&options, &bootstrap, Rc::new(services));
        let cluster_manager = ClusterManagerImpl::new(
            &bootstrap.static_resources.clusters,
            bootstrap.dns_resolver.as_ref(),
            local,
            &stats_store,
            &tls,
            &runtime,
        )?;
        let drain_manager = DrainManagerImpl::new(options.drain_time, options.drain_strategy);
        let context = ServerFactoryContext {
            stats: stats_store.clone(),
            cluster_manager: cluster_manager.handle(),
            runtime,
            access_log_manager,
            date_provider,
            local_address: Address::local_machine(options.local_address_ip_version == IpVersion::V6),
            service_cluster,
            service_node: or_else(&options.service_node, &bootstrap.node.id),
            service_zone: or_else(&options.service_zone, &bootstrap.node.locality.zone),
            health_check_failed: drain_manager.health_check_failed().clone(),
        };
        let watchdogs = &bootstrap.watchdogs;
        let main_thread_guard_dog =
            GuardDogImpl::new(&stats_store, "main_thread", &watchdogs.main_thread_watchdog);
        let worker_guard_dog = GuardDogImpl::new(&stats_store, "workers", &watchdogs.worker_watchdog);
        let init_manager = ManagerImpl::new("Server");
        let server = Rc::new_cyclic(|weak| InstanceImpl {
            listener_manager: ListenerManagerImpl::new(&stats_store, workers, &init_manager),
            init_manager,
            run_helper: RefCell::default(),
            drain_manager,
            handler: ConnectionHandlerImpl::new("main_thread", &dispatcher),
            start,
            start_time: SystemTime::now(),
            config_tracker: ConfigTrackerImpl::default(),
            config_entries: RefCell::default(),
            options,
            registry,
            bootstrap,
            dispatcher,
            stats_store,
            server_stats,
            cluster_manager,
            context,
            admin: RefCell::default(),
            stat_flush_timer: RefCell::default(),
            drains: RefCell::default(),
            main_thread_guard_dog,
            worker_guard_dog,
            guard_dog_thread: RefCell::default(),
            failed,
            weak: weak.clone(),
        });
        *server.config_entries.borrow_mut() = config_dump::track(&server, &server.config_tracker);
        server.start_admin(admin_socket)?;
        server.start_main_listeners(main_listeners)?;
        server.load_listeners()?;
        server.start_guard_dogs()?;
        Ok(server)
    }

    fn start_admin(&self, socket: Option<ListenSocket>) -> Result<(), String> {
        let (Some(config), Some(socket)) = (self.bootstrap.admin.as_ref(), socket) else { return Ok(()) };
        let address = socket.local_address().clone();
        let context = ListenerFactoryContext {
            server: &self.context,
            drain_manager: None,
            init_manager: &self.init_manager,
            added_via_api: false,
            hash: 0,
            place: "admin",
        };
        let (admin, listener) = AdminImpl::new(&self.weak, &self.dispatcher, socket, &context, config)?;
        self.handler
            .add_listener(Arc::new(listener))
            .map_err(|e| format!("cannot listen on admin address {address}: {e}"))?;
        *self.admin.borrow_mut() = Some(admin);
        Ok(())
    }

    fn start_main_listeners(&self, listeners: Vec<MainListener>) -> Result<(), String> {
        for MainListener { config, socket } in listeners {
            let address = socket.local_address().clone();
            let name = config.name.clone();
            let context = ListenerFactoryContext {
                server: &self.context,
                drain_manager: Some(&self.drain_manager),
                init_manager: &self.init_manager,
                added_via_api: false,
                hash: 0,
                place: &name,
            };
            let socket = || Ok(Arc::new(socket));
            let listener = ListenerConfig::with_socket(&config, &name, &address, socket, &context)?;
            self.handler
                .add_listener(Arc::new(listener))
                .map_err(|e| format!("cannot listen on {address}: {e}"))?;
        }
        Ok(())
    }

    fn load_listeners(&self) -> Result<(), String> {
        let listeners = &self.bootstrap.static_resources.listeners;
        envoy_log!(Config, info, "loading {} listener(s)", listeners.len());
        for (i, listener) in listeners.iter().enumerate() {
            envoy_log!(Config, debug, "listener #{}:", i);
            let place = format!("static_resources.listeners[{i}]");
            self.listener_manager.add_listener(listener, &self.context, &self.drain_manager, &place)?;
        }
        envoy_log!(Config, info, "loading tracing configuration");
        envoy_log!(Config, info, "loading stats sink configuration");
        Ok(())
    }

    fn start_guard_dogs(&self) -> Result<(), String> {
        let dogs = vec![self.main_thread_guard_dog.clone(), self.worker_guard_dog.clone()];
        let thread = GuardDogThread::start(dogs).map_err(|e| format!("cannot start the guard dog: {e}"))?;
        *self.guard_dog_thread.borrow_mut() = Some(thread);
        Ok(())
    }

    /// Runs the main loop until the server is told to end, then ends everything. False when it ended by itself,
    /// because a thread could not go on.
    pub fn run(&self) -> bool {
        trace::instant(Stage::RunHelperStarts, None, 0, 0, 0);
        let _signals = match self.listen_for_signals() {
            Ok(signals) => signals,
            Err(error) => {
                envoy_log!(Main, critical, "cannot listen for signals: {}", error);
                self.terminate();
                return false;
            }
        };
        self.start_stat_flush();
        let weak = self.weak.clone();
        self.cluster_manager.set_initialized_cb(Box::new(move || {
            envoy_log!(Main, info, "all clusters initialized. initializing init manager");
            trace::instant(Stage::InitManagerInitialize, None, 0, 0, 0);
            if let Some(server) = weak.upgrade() {
                server.initialize_init_manager();
            }
        }));
        envoy_log!(Main, info, "starting main dispatch loop");
        trace::instant(Stage::Run, None, 0, 0, 0);
        let watch_dog = self.main_thread_guard_dog.create_watch_dog(&self.dispatcher);
        let end = self.dispatcher.run(RunType::Block);
        envoy_log!(Main, info, "main dispatch loop exited");
        self.main_thread_guard_dog.stop_watching(&watch_dog);
        self.terminate();
        end == RunEnd::Done && !self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn initialize_init_manager(&self) {
        let weak = self.weak.clone();
        let run_helper = Rc::new(WatcherImpl::new("RunHelper", move || {
            if let Some(server) = weak.upgrade() {
                server.start_workers();
            }
        }));
        *self.run_helper.borrow_mut() = Some(run_helper.clone());
        self.init_manager.initialize(&run_helper);
    }

    fn start_workers(&self) {
        self.listener_manager.start_workers(&self.worker_guard_dog);
        self.update_state();
        self.server_stats.initialization_time_ms.record(self.start.elapsed().as_millis() as u64);
        resident::forget_code();
    }

    fn listen_for_signals(&self) -> io::Result<Vec<SignalEvent>> {
        let on_signal = |signal: i32, f: fn(&InstanceImpl)| {
            let weak = self.weak.clone();
            self.dispatcher.listen_for_signal(signal, move || {
                if let Some(server) = weak.upgrade() {
                    f(&server);
                }
            })
        };
        let signals = [
            on_signal(libc::SIGTERM, |server| {
                envoy_log!(Main, warn, "caught SIGTERM");
                server.shutdown();
            }),
            on_signal(libc::SIGINT, |server| {
                envoy_log!(Main, warn, "caught SIGINT");
                server.shutdown();
            }),
            on_signal(libc::SIGUSR1, |server| {
                envoy_log!(Main, warn, "caught SIGUSR1");
                server.reopen_logs();
            }),
            on_signal(libc::SIGHUP, |_| {
                envoy_log!(Main, warn, "caught and eating SIGHUP. See documentation for how to hot restart.");
            }),
        ];
        signals.into_iter().collect()
    }

    /// Settings that may change.
    pub(super) fn runtime(&self) -> &LoaderImpl {
        &self.context.runtime
    }

    /// Opens the access logs by their paths anew.
    pub(super) fn reopen_access_logs(&self) {
        self.context.access_log_manager.reopen();
    }

    fn reopen_logs(&self) {
        self.reopen_access_logs();
        if let Err(error) = logger::reopen() {
            envoy_log!(Main, error, "cannot reopen the log: {}", error);
        }
    }

    fn start_stat_flush(&self) {
        let weak = self.weak.clone();
        let timer = self.dispatcher.create_timer(move || {
            if let Some(server) = weak.upgrade() {
                server.flush_stats();
            }
        });
        timer.enable_timer(self.bootstrap.stats_flush_interval.max(Duration::from_millis(1)));
        *self.stat_flush_timer.borrow_mut() = Some(timer);
    }

    pub(super) fn flush_stats(&self) {
        envoy_log!(Main, debug, "flushing stats");
        self.update_state();
        self.server_stats.update(&self.stats_store, self.start.elapsed());
        if let Some(timer) = self.stat_flush_timer.borrow().as_ref() {
            timer.enable_timer(self.bootstrap.stats_flush_interval.max(Duration::from_millis(1)));
        }
        // Each worker's number joins the sum; the last one's gives the gauge its value.
        let (gauge, main) = (self.server_stats.total_connections.clone(), self.dispatcher.handle());
        let answers = Arc::new(Mutex::new((0, self.options.concurrency)));
        self.listener_manager.for_each_worker(|worker| {
            let (gauge, answers, main) = (gauge.clone(), answers.clone(), main.clone());
            worker.num_connections(move |n| {
                let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
                *answers = (answers.0 + n, answers.1 - 1);
                if let (sum, 0) = *answers {
                    main.post(move || gauge.set(sum));
                }
            });
        });
    }

    /// How far it is.
    pub(super) fn state(&self) -> ServerState {
        ServerState::new(self.init_manager.state(), self.server_stats.live.value() == 0)
    }

    /// Brings the gauge up to date, which as in Envoy happens at the start and with each flush.
    fn update_state(&self) {
        self.server_stats.state.set(self.state() as u64);
    }

    /// Makes the server fail, or pass again, its health checks; while it fails, responses close
    /// their connections.
    pub(super) fn fail_health_check(&self, fail: bool) {
        self.drain_manager.set_health_check_failed(fail);
        self.server_stats.live.set(if fail { 0 } else { 1 });
    }

    /// Has connections closed bit by bit as they answer, and stops accepting when the drain time is over
    /// unless it `keeps_serving`. What is draining already stays as it is.
    pub(super) fn drain_listeners(&self, direction: DrainDirection, keeps_serving: bool) {
        trace::instant(Stage::DrainListeners, None, 0, 0, 0);
        if self.drain_manager.draining(direction) {
            return;
        }
        let weak = self.weak.clone();
        let complete = move || match weak.upgrade() {
            Some(server) if !keeps_serving => server.stop_listeners(direction),
            _ => {}
        };
        let sequence = self.drain_manager.start_drain_sequence(direction, &self.dispatcher, complete);
        self.drains.borrow_mut().push(sequence);
    }

    /// Stops accepting at once: who connects is refused. Connections stay, and close bit by bit.
    pub(super) fn stop_listeners(&self, direction: DrainDirection) {
        self.listener_manager.stop_listeners(direction);
    }

    /// Ends [`InstanceImpl::run`].
    pub(super) fn shutdown(&self) {
        envoy_log!(Main, info, "shutting down server instance");
        trace::instant(Stage::Shutdown, None, 0, 0, 0);
        self.dispatcher.exit();
    }

    fn write_stages(&self) {
        let Some(path) = &self.options.trace_stages_path else { return };
        if let Err(error) = std::fs::write(path, trace::render(trace::Format::JsonLines, &trace::collect())) {
            envoy_log!(Main, error, "cannot write recorded stages to {}: {}", path.display(), error);
        }
    }

    pub(super) fn terminate(&self) {
        trace::instant(Stage::Terminate, None, 0, 0, 0);
        // What goes from here on starts nothing.
        drop(self.run_helper.take());
        drop(self.stat_flush_timer.borrow_mut().take());
        drop(self.drains.take());
        self.listener_manager.stop_workers();
        drop(self.guard_dog_thread.borrow_mut().take());
        self.handler.clear();
        drop(self.admin.borrow_mut().take());
        self.stats_store.merge_histograms();
        self.cluster_manager.shutdown();
        self.context.access_log_manager.flush();
        self.dispatcher.clear_deferred_delete_list();
        thread_local::shutdown_thread();
        self.write_stages();
        envoy_log!(Main, info, "exiting");
    }
}

fn log_start(options: &Options, registry: &Registry) {
    envoy_log!(Main, info, "initializing epoch {} (hot restart version={})", 0, "disabled");
    envoy_log!(Main, info, "statically linked extensions:");
    for category in Category::ALL {
        let names: Vec<_> = registry.factories(category).iter().map(|factory| factory.name()).collect();
        // Envoy knows of a category by its members.
        if names.is_empty() {
            continue;
        }
        let kind = category.name().trim_start_matches("envoy.");
        envoy_log!(Main, info, "  {}: {}", kind, names.join(", "));
    }
    envoy_log!(Main, info, "buffer implementation: {}", "new");
    for warning in &options.warnings {
        envoy_log!(Config, warn, "{}", warning);
    }
}

/// What a bootstrap made for Envoy may well hold, and nothing here asks for.
fn warn_of_settings_without_effect(bootstrap: &Bootstrap) {
    if !bootstrap.flags_path.is_empty() {
        envoy_log!(Config, warn, "{}: has no effect yet", "flags_path");
    }
}

/// Where this is, and whose host.
pub(super) fn local_info(
    options: &Options,
    bootstrap: &Bootstrap,
    services: Rc<dyn ClusterServices>,
) -> LocalInfo {
    let mut locality = bootstrap.node.locality.clone();
    locality.zone = or_else(&options.service_zone, &locality.zone);
    LocalInfo {
        locality: (locality != Locality::default()).then(|| Arc::new(locality)),
        cluster: bootstrap.cluster_manager.local_cluster_name.clone(),
        services,
    }
}

/// Binds the admin's address, first of all, and tells of it.
fn bind_admin(options: &Options, bootstrap: &Bootstrap) -> Result<Option<ListenSocket>, String> {
    let Some(address) = bootstrap.admin.as_ref().and_then(|admin| admin.address.as_ref()) else {
        envoy_log!(Main, warn, "No admin address given, so no admin HTTP server started.");
        return Ok(None);
    };
    let bound = Address::configured(address).ok_or("admin.address: malformed IP address")?;
    let socket = bind(bound, &listen_options(address))?;
    envoy_log!(Main, info, "admin address: {}", socket.local_address());
    if let Some(path) = &options.admin_address_path {
        std::fs::write(path, socket.local_address().to_string()).map_err(|e| {
            format!("cannot open admin address output file {} for writing: {e}", path.display())
        })?;
    }
    Ok(Some(socket))
}

fn create_workers(
    options: &Options,
    tls: &Arc<thread_local::InstanceImpl>,
    main: &Dispatcher,
    failed: &Arc<AtomicBool>,
) -> Result<Vec<WorkerImpl>, String> {
    (0..options.concurrency)
        .map(|index| {
            let (main, failed) = (main.handle(), failed.clone());
            let on_failure = move || {
                failed.store(true, Ordering::Relaxed);
                let exiting = main.clone();
                main.post(move || exiting.exit());
            };
            let worker = WorkerImpl::new(index, on_failure)
                .map_err(|e| format!("cannot create worker {index}: {e}"))?;
            tls.register_thread(worker.dispatcher().clone());
            Ok(worker)
        })
        .collect()
}

fn server_stats(store: &Arc<Store>, options: &Options, bootstrap: &Bootstrap) -> ServerStats {
    let stats = ServerStats::new(&store.root_scope().create_scope("server."));
    stats.concurrency.set(options.concurrency as u64);
    stats.hot_restart_epoch.set(0);
    stats.live.set(1);
    stats.state.set(0);
    stats.parent_connections.set(0);
    stats.total_connections.set(0);
    stats.days_until_first_cert_expiring.set(u32::MAX as u64);
    stats.version.set(version::version_number());
    stats.static_unknown_fields.add(bootstrap.unknown_fields.len() as u64);
    for path in &bootstrap.unknown_fields {
        envoy_log!(Config, warn, "unknown field ignored: {}", path);
    }
    stats.update(store, Duration::ZERO);
    stats
}

/// What the command line says, or else the bootstrap.
pub(super) fn or_else(first: &str, second: &str) -> String {
    if first.is_empty() { second.to_string() } else { first.to_string() }
}
