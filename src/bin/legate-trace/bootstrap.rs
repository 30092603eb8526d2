//! The configuration that both proxies get: the built-in one or the user's, with free ports, the scripted upstream, and what the
//! scenario needs.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Map, Value, json};

const BUILT_IN: &str = include_str!("envoy.yaml");
/// Where the scenarios' requests go.
pub const HOST: &str = "legate.test";
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// A bootstrap under construction.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    root: Value,
    /// Where further upstreams are.
    others: Vec<SocketAddr>,
}

impl Bootstrap {
    /// Reads a file, or takes the built-in configuration.
    ///
    /// # Errors
    /// The file cannot be read or is neither YAML nor JSON, or has no listener with an HTTP connection manager and no cluster.
    pub fn load(file: Option<&Path>) -> Result<Bootstrap, String> {
        let name = file.map_or_else(|| "the built-in configuration".to_string(), |f| f.display().to_string());
        let text = match file {
            Some(file) => std::fs::read_to_string(file).map_err(|e| format!("cannot read {name}: {e}"))?,
            None => BUILT_IN.to_string(),
        };
        let root = legate::config::yaml::parse_yaml(&text).map_err(|e| format!("{name}: {e}"))?;
        let mut bootstrap = Bootstrap { root, others: Vec::new() };
        if bootstrap.connection_managers().is_empty() {
            return Err(format!(
                "{name}: static_resources.listeners: none has an HTTP connection manager with a route_config"
            ));
        }
        if bootstrap.clusters().is_empty() {
            return Err(format!("{name}: static_resources.clusters: there is none"));
        }
        if !bootstrap.connection_managers().first().is_some_and(|manager| serves_the_scenarios(manager)) {
            return Err(format!(
                "{name}: the first listener takes no GET / of host {HOST} to a cluster, as the scenarios need it"
            ));
        }
        Ok(bootstrap)
    }

    /// Any free port for admin and listeners, and `upstream` for every endpoint; the others are for the scenario to use.
    pub fn set_addresses(&mut self, upstream: SocketAddr, others: Vec<SocketAddr>) {
        self.others = others;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        if !self.root["admin"].is_object() {
            self.root["admin"] = json!({});
        }
        self.root["admin"]["address"] = address(any);
        for listener in objects(self.root.pointer_mut("/static_resources/listeners")) {
            listener.insert("address".to_string(), address(any));
        }
        for cluster in self.clusters() {
            let name = cluster.get("name").cloned().unwrap_or_default();
            cluster.insert("type".to_string(), json!("STATIC"));
            let endpoint = json!({"endpoint": {"address": address(upstream)}});
            cluster.insert(
                "load_assignment".to_string(),
                json!({"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}),
            );
        }
    }

    /// As when Envoy 1.1 was recorded with other players: the first cluster has another name, and the router adds its headers.
    pub fn be_as_elsewhere(&mut self) {
        self.root["node"] = json!({"id": "node1", "cluster": "ref"});
        self.rename_cluster("up");
        for manager in self.connection_managers() {
            for filter in objects(manager.get_mut("http_filters")) {
                if let Some(config) = filter.get_mut("typed_config").and_then(Value::as_object_mut) {
                    config.remove("suppress_envoy_headers");
                }
            }
        }
    }

    /// Gives the first cluster another name, and has every route lead to it.
    pub fn rename_cluster(&mut self, name: &str) {
        if let Some(cluster) = self.clusters().into_iter().next() {
            cluster.insert("name".to_string(), json!(name));
            if let Some(endpoints) = cluster.get_mut("load_assignment").and_then(Value::as_object_mut) {
                endpoints.insert("cluster_name".to_string(), json!(name));
            }
        }
        self.set_route("cluster", &json!(name));
    }

    /// Gives the first cluster the further upstreams as endpoints, too. The first one has so much more weight than they have
    /// that it is picked first, or as much.
    pub fn add_endpoints(&mut self, weight_of_first: u32) {
        let others: Vec<Value> =
            self.others.iter().map(|other| json!({"endpoint": {"address": address(*other)}})).collect();
        let Some(cluster) = self.clusters().into_iter().next() else { return };
        let Some(cluster) = cluster.get_mut("load_assignment") else { return };
        let Some(endpoints) = cluster.pointer_mut("/endpoints/0/lb_endpoints").and_then(Value::as_array_mut)
        else {
            return;
        };
        endpoints[0]["load_balancing_weight"] = json!(weight_of_first);
        endpoints.extend(others);
    }

    /// The upstream is known by a name.
    pub fn name_upstream(&mut self, name: &str) {
        const ADDRESS: &str = "/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/address";
        for cluster in self.clusters() {
            let Some(assignment) = cluster.get_mut("load_assignment") else { continue };
            if let Some(address) = assignment.pointer_mut(ADDRESS) {
                *address = json!(name);
            }
        }
    }

    /// Adds a cluster for the first of the further upstreams.
    pub fn add_cluster(&mut self, name: &str) {
        let Some(mut cluster) = self.clusters().first().map(|first| Value::Object((*first).clone())) else {
            return;
        };
        let at = address(self.others[0]);
        cluster["name"] = json!(name);
        cluster["load_assignment"] =
            json!({"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at}}]}]});
        if let Some(clusters) =
            self.root.pointer_mut("/static_resources/clusters").and_then(Value::as_array_mut)
        {
            clusters.push(cluster);
        }
    }

    /// Has every HTTP connection manager pass another filter first.
    pub fn add_filter(&mut self, name: &str, config: &Value) {
        for manager in self.connection_managers() {
            if let Some(filters) = manager.get_mut("http_filters").and_then(Value::as_array_mut) {
                filters.insert(0, json!({"name": name, "typed_config": config}));
            }
        }
    }

    /// Sets a field of every route's action.
    pub fn set_route(&mut self, field: &str, value: &Value) {
        for manager in self.connection_managers() {
            for host in objects(manager.get_mut("route_config").and_then(|c| c.get_mut("virtual_hosts"))) {
                for route in objects(host.get_mut("routes")) {
                    if let Some(action) = route.get_mut("route").and_then(Value::as_object_mut) {
                        action.insert(field.to_string(), value.clone());
                    }
                }
            }
        }
    }

    /// The name of the first cluster.
    pub fn cluster_name(&mut self) -> Value {
        self.clusters().first().and_then(|cluster| cluster.get("name")).cloned().unwrap_or_default()
    }

    /// Sets the routes of every virtual host.
    pub fn set_routes(&mut self, routes: &Value) {
        self.set_virtual_host("routes", routes);
    }

    /// Sets a field of every virtual host.
    pub fn set_virtual_host(&mut self, field: &str, value: &Value) {
        for manager in self.connection_managers() {
            for host in objects(manager.get_mut("route_config").and_then(|c| c.get_mut("virtual_hosts"))) {
                host.insert(field.to_string(), value.clone());
            }
        }
    }

    /// Sets a field of every HTTP connection manager.
    pub fn set_connection_manager(&mut self, field: &str, value: &Value) {
        for manager in self.connection_managers() {
            manager.insert(field.to_string(), value.clone());
        }
    }

    /// Sets a field of every cluster.
    pub fn set_cluster(&mut self, field: &str, value: &Value) {
        for cluster in self.clusters() {
            cluster.insert(field.to_string(), value.clone());
        }
    }

    /// Sets a field of every cluster's `common_http_protocol_options`.
    pub fn set_upstream_http(&mut self, field: &str, value: &Value) {
        self.set_upstream_options(&json!({field: value}), &json!({}));
    }

    /// Sets every cluster's options of HTTP/1.
    pub fn set_upstream_http1(&mut self, options: &Value) {
        self.set_upstream_options(&json!({}), options);
    }

    fn set_upstream_options(&mut self, common: &Value, http1: &Value) {
        let options = json!({HTTP_OPTIONS: {
            "@type": format!("type.googleapis.com/{HTTP_OPTIONS}"),
            "common_http_protocol_options": common,
            "explicit_http_config": {"http_protocol_options": http1},
        }});
        self.set_cluster("typed_extension_protocol_options", &options);
    }

    /// As JSON, which both proxies read.
    pub fn json(&self) -> String {
        self.root.to_string()
    }

    fn clusters(&mut self) -> Vec<&mut Map<String, Value>> {
        objects(self.root.pointer_mut("/static_resources/clusters"))
    }

    /// The configurations of those that have their routes with them.
    fn connection_managers(&mut self) -> Vec<&mut Map<String, Value>> {
        let mut managers = Vec::new();
        for listener in objects(self.root.pointer_mut("/static_resources/listeners")) {
            for chain in objects(listener.get_mut("filter_chains")) {
                for filter in objects(chain.get_mut("filters")) {
                    if let Some(config) = filter.get_mut("typed_config").and_then(Value::as_object_mut)
                        && config.contains_key("route_config")
                    {
                        managers.push(config);
                    }
                }
            }
        }
        managers
    }
}

/// Whether a connection manager takes `GET /` of the scenarios' host to a cluster. What is matched in other ways than by path
/// and prefix may do so.
fn serves_the_scenarios(manager: &Map<String, Value>) -> bool {
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let route_config = manager.get("route_config").cloned().unwrap_or_default();
    let hosts = list(&route_config, "virtual_hosts");
    let exact = hosts.iter().find(|host| list(host, "domains").iter().any(|domain| domain == HOST));
    let any = || {
        let may = |domain: &Value| domain.as_str().is_some_and(|domain| domain.contains('*'));
        hosts.iter().find(|host| list(host, "domains").iter().any(may))
    };
    let Some(host) = exact.or_else(any) else { return false };
    let takes = |route: &&Value| {
        let (path, prefix) = (&route["match"]["path"], &route["match"]["prefix"]);
        (path.is_null() && prefix.is_null()) || path == "/" || prefix == "/" || prefix == ""
    };
    let routes = list(host, "routes");
    routes.iter().find(takes).is_some_and(|route| route["route"].is_object())
}

fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn objects(list: Option<&mut Value>) -> Vec<&mut Map<String, Value>> {
    let items = list.and_then(Value::as_array_mut).map(|items| items.iter_mut()).unwrap_or_default();
    items.filter_map(Value::as_object_mut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_that_is_none_is_replaced() {
        let mut bootstrap = Bootstrap { root: json!({"admin": "nobody"}), others: vec![] };
        bootstrap.set_addresses(([127, 0, 0, 1], 77).into(), vec![([127, 0, 0, 1], 78).into()]);
        assert_eq!(bootstrap.root["admin"]["address"]["socket_address"]["port_value"], 0);
    }

    #[test]
    fn fields_are_set_where_they_belong() {
        let mut bootstrap = Bootstrap::load(None).unwrap();
        bootstrap.set_addresses(([127, 0, 0, 1], 77).into(), vec![([127, 0, 0, 1], 78).into()]);
        bootstrap.set_route("timeout", &json!("1s"));
        bootstrap.set_cluster("connect_timeout", &json!("2s"));
        bootstrap.set_upstream_http("max_requests_per_connection", &json!(3));
        let at = |path: &str| bootstrap.root.pointer(path).cloned().unwrap_or_default();
        assert_eq!(at("/static_resources/listeners/0/address/socket_address/port_value"), json!(0));
        let routes = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes";
        assert_eq!(at(&format!("{routes}/0/route/timeout")), json!("1s"));
        let endpoint = "/static_resources/clusters/0/load_assignment/endpoints/0/lb_endpoints/0/endpoint";
        assert_eq!(at(&format!("{endpoint}/address/socket_address/port_value")), json!(77));
        assert_eq!(at("/static_resources/clusters/0/connect_timeout"), json!("2s"));
        assert!(
            legate::config::load_bootstrap(
                None,
                Some(&bootstrap.json()),
                legate::config::UnknownFields::Reject,
                &legate::filters::LINKED,
            )
            .is_ok()
        );
    }

    #[test]
    fn what_was_recorded_elsewhere_has_other_names() {
        let mut bootstrap = Bootstrap::load(None).unwrap();
        bootstrap.set_addresses(([127, 0, 0, 1], 77).into(), vec![([127, 0, 0, 1], 78).into()]);
        bootstrap.be_as_elsewhere();
        bootstrap.add_endpoints(5);
        bootstrap.add_filter("first", &json!({}));
        let at = |path: &str| bootstrap.root.pointer(path).cloned().unwrap_or_default();
        let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
        assert_eq!(at(&format!("{manager}/route_config/virtual_hosts/0/routes/0/route/cluster")), "up");
        assert_eq!(at(&format!("{manager}/http_filters/0/name")), "first");
        assert!(at(&format!("{manager}/http_filters/1/typed_config/suppress_envoy_headers")).is_null());
        let cluster = "/static_resources/clusters/0";
        assert_eq!(at(&format!("{cluster}/load_assignment/cluster_name")), at(&format!("{cluster}/name")));
        let endpoints = format!("{cluster}/load_assignment/endpoints/0/lb_endpoints");
        assert_eq!(at(&format!("{endpoints}/0/load_balancing_weight")), json!(5));
        assert_eq!(at(&format!("{endpoints}/1/endpoint/address/socket_address/port_value")), json!(78));
    }

    #[test]
    fn the_scenarios_requests_need_a_route() {
        let serves = |domain: &str, path: Value, action: &str| {
            let route = json!({"match": path, action: {"cluster": "c"}});
            let manager =
                json!({"route_config": {"virtual_hosts": [{"domains": [domain], "routes": [route]}]}});
            serves_the_scenarios(manager.as_object().unwrap())
        };
        assert!(
            serves("*", json!({"prefix": "/"}), "route")
                && serves("legate.test", json!({"path": "/"}), "route")
        );
        assert!(serves("*", json!({"safe_regex": {}}), "route"));
        assert!(!serves("other.test", json!({"prefix": "/"}), "route"));
        assert!(!serves("*", json!({"prefix": "/x"}), "route"));
        assert!(!serves("*", json!({"prefix": "/"}), "direct_response"));
    }

    #[test]
    fn a_file_that_is_of_no_use_is_refused() {
        let error = Bootstrap::load(Some(Path::new("/nonexistent.yaml"))).unwrap_err();
        assert!(error.starts_with("cannot read /nonexistent.yaml: "), "{error}");
        let file = std::env::temp_dir().join(format!("legate-trace-{}.yaml", std::process::id()));
        std::fs::write(&file, "admin: {}").unwrap();
        let error = Bootstrap::load(Some(&file)).unwrap_err();
        assert!(error.contains("static_resources.listeners: none has"), "{error}");
        std::fs::remove_file(&file).unwrap();
    }
}
