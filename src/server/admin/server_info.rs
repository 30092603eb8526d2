//! `/server_info`, `/ready`, and what changes the server's state.

use serde_json::{Value, json};

use super::{Request, Response};
use crate::config::extension::{Category, Extensions};
use crate::filters::Registry;
use crate::server::drain_manager::DrainDirection;
use crate::server::options::{IpVersion, Mode, Options};
use crate::server::server::InstanceImpl;
use crate::server::server_stats::ServerState;
use crate::server::version;

/// The state; 200 only when live.
pub(super) fn ready(server: &InstanceImpl, _request: &Request) -> Response {
    let state = server.state();
    let status = if state == ServerState::Live { 200 } else { 503 };
    Response::text(status, format!("{}\n", state.name()))
}

/// Stops the listeners, or closes connections bit by bit first; as Envoy's
/// `source/server/admin/listeners_handler.cc`, where `skip_exit` alone does nothing.
pub(super) fn drain(server: &InstanceImpl, request: &Request) -> Response {
    let given = |name| request.param(name).is_some();
    let direction = if given("inboundonly") { DrainDirection::InboundOnly } else { DrainDirection::All };
    match (given("graceful"), given("skip_exit")) {
        (true, skip_exit) => server.drain_listeners(direction, skip_exit),
        (false, true) => {}
        (false, false) => server.stop_listeners(direction),
    }
    Response::text(200, "OK\n")
}

/// Fails health checks from now on.
pub(super) fn healthcheck_fail(server: &InstanceImpl, _request: &Request) -> Response {
    server.fail_health_check(true);
    Response::text(200, "OK\n")
}

/// Passes health checks again.
pub(super) fn healthcheck_ok(server: &InstanceImpl, _request: &Request) -> Response {
    server.fail_health_check(false);
    Response::text(200, "OK\n")
}

/// Opens the access logs anew.
pub(super) fn reopen_logs(server: &InstanceImpl, _request: &Request) -> Response {
    server.reopen_access_logs();
    Response::text(200, "OK\n")
}

/// Ends the server.
pub(super) fn quit(server: &InstanceImpl, _request: &Request) -> Response {
    server.shutdown();
    Response::text(200, "OK\n")
}

/// Envoy's `ServerInfo` message with all defaults printed.
pub(super) fn server_info(server: &InstanceImpl, _request: &Request) -> Response {
    let uptime = format!("{}s", server.start.elapsed().as_secs());
    let node = &server.bootstrap.node;
    let info = json!({
        "version": version::version(),
        "state": server.state().name(),
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "hot_restart_version": "disabled",
        "command_line_options": command_line_options(&server.options),
        "node": {
            "id": node.id,
            "cluster": node.cluster,
            "metadata": node.metadata,
            "locality": {
                "region": node.locality.region, "zone": node.locality.zone, "sub_zone": node.locality.sub_zone,
            },
            "user_agent_name": "legate",
            "extensions": extensions(server.registry),
        },
    });
    Response::json(&info)
}

/// The node's `extensions`: what is linked in.
fn extensions(registry: &Registry) -> Vec<Value> {
    let of_category = |category: Category| {
        registry.factories(category).into_iter().map(move |factory| {
            json!({
                "name": factory.name(), "category": category.name(), "type_descriptor": "", "disabled": false,
                "type_urls": factory.config_types(),
            })
        })
    };
    Category::ALL.into_iter().flat_map(of_category).collect()
}

fn command_line_options(options: &Options) -> Value {
    let path =
        |p: &Option<std::path::PathBuf>| p.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
    let seconds = |d: std::time::Duration| format!("{}s", d.as_secs_f64());
    let mode = match options.mode {
        Mode::Serve => "Serve",
        Mode::Validate => "Validate",
        Mode::InitOnly => "InitOnly",
    };
    json!({
        "base_id": options.base_id.to_string(),
        "use_dynamic_base_id": options.use_dynamic_base_id,
        "base_id_path": path(&options.base_id_path),
        "concurrency": options.concurrency,
        "config_path": path(&options.config_path),
        "config_yaml": options.config_yaml,
        "allow_unknown_static_fields": options.allow_unknown_static_fields,
        "reject_unknown_dynamic_fields": options.reject_unknown_dynamic_fields,
        "ignore_unknown_dynamic_fields": options.ignore_unknown_dynamic_fields,
        "admin_address_path": path(&options.admin_address_path),
        "local_address_ip_version": if matches!(options.local_address_ip_version, IpVersion::V4) { "v4" } else { "v6" },
        "log_level": options.log_level.name(),
        "component_log_level": options.component_log_level,
        "log_format": options.log_format,
        "log_format_escaped": options.log_format_escaped,
        "log_path": path(&options.log_path),
        "service_cluster": options.service_cluster,
        "service_node": options.service_node,
        "service_zone": options.service_zone,
        "file_flush_interval": seconds(options.file_flush_interval),
        "drain_time": seconds(options.drain_time),
        "parent_shutdown_time": seconds(options.parent_shutdown_time),
        "mode": mode,
        "disable_hot_restart": true,
        "restart_epoch": 0,
        "cpuset_threads": options.cpuset_threads,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Bootstrap;
    use crate::filters::LINKED;
    use std::rc::Rc;

    /// What the API, the answer to `/ready` and the gauge say.
    fn states(server: &InstanceImpl) -> (&'static str, u16, u64) {
        let status = ready(server, &Request::new("GET", "/ready")).status;
        (server.state().name(), status, server.server_stats.state.value())
    }

    /// The gauges and the names are those of Envoy 1.40, also before it serves.
    #[test]
    fn the_state_is_envoys() {
        let args = ["legate", "--concurrency", "1"].map(Into::into);
        let Ok(options) = Options::parse(args) else { panic!("options") };
        let server: Rc<InstanceImpl> =
            InstanceImpl::new(options, &LINKED, Bootstrap::default(), Vec::new()).unwrap();
        assert_eq!(states(&server), ("PRE_INITIALIZING", 503, 0));
        server.fail_health_check(true);
        server.flush_stats();
        assert_eq!(states(&server), ("PRE_INITIALIZING", 503, 2));
        server.initialize_init_manager();
        assert_eq!(states(&server), ("DRAINING", 503, 1));
        server.fail_health_check(false);
        assert_eq!(states(&server), ("LIVE", 200, 1));
        server.flush_stats();
        assert_eq!(states(&server), ("LIVE", 200, 0));
        server.terminate();
    }
}
