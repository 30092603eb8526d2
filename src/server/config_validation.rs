//! `--mode validate`: builds what the configuration asks for, without binding or connecting anything.
//!
//! Mirrors Envoy's `source/server/config_validation/server.cc`. As there, access logs are opened.

use std::rc::Rc;

use super::cluster_services::ClusterServicesImpl;
use super::drain_manager::DrainManagerImpl;
use super::listener_config::{ListenerConfig, ListenerFactoryContext};
use super::listener_manager::TakenAddresses;
use super::options::Options;
use super::server::{local_info, or_else};
use crate::access_log::AccessLogManager;
use crate::cluster_manager::ClusterManagerImpl;
use crate::config::Bootstrap;
use crate::config::runtime::LayeredRuntime;
use crate::event::Dispatcher;
use crate::filters::ServerFactoryContext;
use crate::http::DateProvider;
use crate::init::ManagerImpl;
use crate::network::Address;
use crate::runtime::LoaderImpl;
use crate::stats::Store;
use crate::thread_local;

/// Looks for what would keep a server with this configuration from starting.
///
/// # Errors
/// What stands against the clusters, or against each listener, with its place.
pub fn validate_config(options: &Options, bootstrap: &Bootstrap) -> Result<(), Vec<String>> {
    let dispatcher = Dispatcher::create("main_thread")
        .map_err(|error| vec![format!("cannot make an event loop: {error}")])?;
    thread_local::enter_thread(&dispatcher);
    let stats = Store::new(0);
    let tls = thread_local::InstanceImpl::new();
    let runtime = LayeredRuntime::of_bootstrap(bootstrap.layered_runtime.as_ref());
    let service_cluster = or_else(&options.service_cluster, &bootstrap.node.cluster);
    let runtime = LoaderImpl::new(runtime, &service_cluster, &stats);
    let clusters = &bootstrap.static_resources.clusters;
    let access_logs = AccessLogManager::new(&stats, options.file_flush_interval);
    let services = ClusterServicesImpl::for_validation(&access_logs);
    let local = local_info(options, bootstrap, Rc::new(services));
    let dns_resolver = bootstrap.dns_resolver.as_ref();
    let cluster_manager =
        ClusterManagerImpl::for_validation(clusters, dns_resolver, local, &stats, &tls, &runtime)
            .map_err(|error| vec![error])?;
    let drain_manager = DrainManagerImpl::new(options.drain_time, options.drain_strategy);
    let context = ServerFactoryContext {
        cluster_manager: cluster_manager.handle(),
        runtime,
        access_log_manager: access_logs,
        date_provider: tls.allocate_slot::<DateProvider>(),
        local_address: Address::local_machine(false),
        service_cluster,
        service_zone: String::new(),
        service_node: String::new(),
        health_check_failed: drain_manager.health_check_failed().clone(),
        stats,
    };
    let init_manager = ManagerImpl::new("Server");
    let mut taken = TakenAddresses::default();
    let mut errors = Vec::new();
    for (i, listener) in bootstrap.static_resources.listeners.iter().enumerate() {
        let place = format!("static_resources.listeners[{i}]");
        match taken.add(&listener.name, &listener.address, listener.bind_to_port) {
            Ok(name) => {
                let context = ListenerFactoryContext {
                    server: &context,
                    drain_manager: Some(&drain_manager),
                    init_manager: &init_manager,
                    added_via_api: false,
                    hash: 0,
                    place: &place,
                };
                let found = ListenerConfig::validate(listener, &context);
                errors.extend(found.iter().map(|error| format!("error adding listener '{name}': {error}")));
            }
            Err(error) => errors.push(error),
        }
    }
    cluster_manager.shutdown();
    dispatcher.clear_deferred_delete_list();
    thread_local::shutdown_thread();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}
