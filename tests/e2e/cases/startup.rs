//! The command line and the configuration: what is accepted, what is refused and in which words.

use super::free_port;
use crate::harness::{Kind, new_directory, proxies};
use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;

/// A configuration with one listener whose route leads to the cluster `to`, and the cluster `there`.
fn config(to: &str) -> Value {
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    });
    let hcm = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.\
            HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [
            {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": to}}]},
        ]},
        "http_filters": [router],
    });
    let filter = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": hcm});
    json!({
        "admin": {"address": address(0)},
        "static_resources": {
            "listeners": [{"name": "in", "address": address(0), "filter_chains": [{"filters": [filter]}]}],
            "clusters": [{
                "name": "there", "type": "STATIC", "connect_timeout": "1s",
                "load_assignment": {"cluster_name": "there", "endpoints": []},
            }],
        },
    })
}

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

/// Where the connection manager of [`config`] is.
const HCM: &str = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";

/// A directory with configurations; it goes with its files.
struct Files {
    kind: Kind,
    directory: PathBuf,
}

impl Files {
    fn new(kind: Kind) -> Files {
        Files { kind, directory: new_directory(kind) }
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.join(name);
        fs::write(&path, text).expect("a file written");
        path
    }

    fn run(&self, path: &Path, arguments: &[&str]) -> Output {
        let path = path.to_str().expect("a path in UTF-8");
        self.kind.run(&[&["-c", path, "--disable-hot-restart"], arguments].concat())
    }

    fn validate(&self, path: &Path) -> Output {
        self.run(path, &["--mode", "validate"])
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The configuration is fine.
fn assert_accepted(files: &Files, path: &Path) {
    let output = files.validate(path);
    let said = stdout(&output);
    let ok = format!("configuration '{}' OK", path.display());
    assert!(output.status.success() && said.contains(&ok), "{:?}: {said}{}", files.kind, stderr(&output));
}

/// The configuration is refused: legate says `message`.
fn assert_refused(files: &Files, config: &Value, message: &str) {
    let output = files.validate(&files.write("refused.json", &config.to_string()));
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{:?}: {said}", files.kind);
    assert!(!stdout(&output).contains("OK"), "{:?}: {}", files.kind, stdout(&output));
    assert!(files.kind == Kind::Envoy || said.contains(message), "{message}\n is not in\n{said}");
}

#[test]
fn a_valid_configuration_is_accepted() {
    for kind in proxies() {
        let files = Files::new(kind);
        assert_accepted(&files, &files.write("config.json", &config("there").to_string()));
        // JSON is YAML.
        assert_accepted(&files, &files.write("config.yaml", &config("there").to_string()));
    }
}

/// A configuration in protobuf's binary form.
fn binary(config: &Value) -> Vec<u8> {
    let pool = DescriptorPool::decode(&include_bytes!("../../../proto/envoy.fds")[..]).expect("descriptors");
    let bootstrap = pool.get_message_by_name("envoy.config.bootstrap.v3.Bootstrap").expect("a bootstrap");
    DynamicMessage::deserialize(bootstrap, config).expect("a configuration").encode_to_vec()
}

#[test]
fn a_binary_configuration_is_told_by_the_name_of_its_file() {
    let data = binary(&config("there"));
    for kind in proxies() {
        let files = Files::new(kind);
        let write = |name: &str, data: &[u8]| {
            let path = files.directory.join(name);
            fs::write(&path, data).expect("a file written");
            path
        };
        assert_accepted(&files, &write("config.pb", &data));
        let output = files.validate(&write("elsewhere.pb", &binary(&config("elsewhere"))));
        assert!(stderr(&output).contains("route: unknown cluster 'elsewhere'"), "{}", stderr(&output));
        if kind == Kind::Legate {
            let output = files.validate(&write("cut.pb", &data[..data.len() - 1]));
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{said}");
            let text = "cut.pb\" as a binary protobuf (type envoy.config.bootstrap.v3.Bootstrap): ";
            assert!(said.contains(text), "{said}");
        }
    }
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let json = config("there").to_string();
    let utf16 =
        |bytes: fn(u16) -> [u8; 2]| format!("\u{feff}{json}").encode_utf16().flat_map(bytes).collect();
    let marked = format!("\u{feff}{json}").into_bytes();
    let encodings: [Vec<u8>; 3] = [marked.clone(), utf16(u16::to_le_bytes), utf16(u16::to_be_bytes)];
    for kind in proxies() {
        let files = Files::new(kind);
        let path = files.directory.join("marked.yaml");
        for bytes in &encodings {
            fs::write(&path, bytes).expect("a file written");
            assert_accepted(&files, &path);
        }
        let path = files.write("plain.yaml", &json);
        let arguments = ["--mode", "validate", "--config-yaml", "\u{feff}node: {id: a}"];
        let output = files.run(&path, &arguments);
        assert!(output.status.success(), "{kind:?}: {}", stderr(&output));
        // Envoy takes a mark for a part of JSON.
        let path = files.directory.join("marked.json");
        fs::write(&path, &marked).expect("a file written");
        assert_eq!(files.validate(&path).status.success(), kind == Kind::Legate, "{kind:?}");
    }
}

#[test]
fn what_ends_a_filter_chain_is_its_last_filter() {
    let mut managers = config("there");
    let chain = &mut managers["static_resources"]["listeners"][0]["filter_chains"][0]["filters"];
    chain[0]["name"] = json!("first");
    let first = chain[0].clone();
    chain.as_array_mut().expect("a list").push(first);
    let mut default = config("there");
    let listener = &mut default["static_resources"]["listeners"][0];
    listener["default_filter_chain"] =
        managers["static_resources"]["listeners"][0]["filter_chains"][0].clone();
    let mut routers = config("there");
    let manager =
        &mut routers["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"];
    let router = manager["http_filters"][0].clone();
    manager["http_filters"].as_array_mut().expect("a list").push(router);
    let network = "terminal filter named first of type envoy.filters.network.http_connection_manager must be the \
                   last filter in a network filter chain.";
    let http = "terminal filter named envoy.filters.http.router of type envoy.filters.http.router must be the last \
                filter in a http filter chain.";
    for kind in proxies() {
        let files = Files::new(kind);
        for (config, words) in [(&managers, network), (&default, network), (&routers, http)] {
            let output = files.validate(&files.write("config.json", &config.to_string()));
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{kind:?}: {said}");
            assert!(said.contains(words), "{kind:?}: {said}");
        }
        // Without filters nothing is done, and nothing is wrong.
        for pointer in ["", "/0/typed_config/http_filters"] {
            let mut none = config("there");
            let path = format!("/static_resources/listeners/0/filter_chains/0/filters{pointer}");
            *none.pointer_mut(&path).expect("filters") = json!([]);
            assert_accepted(&files, &files.write("none.json", &none.to_string()));
        }
    }
}

#[test]
fn a_file_for_recorded_stages_that_cannot_be_written() {
    let files = Files::new(Kind::Legate);
    let path = files.write("config.json", &config("there").to_string());
    let missing = files.directory.join("no/such/file");
    let output = files.run(&path, &[&format!("--trace-stages={}", missing.display())]);
    assert_eq!(output.status.code(), Some(1));
    let words = format!("cannot write recorded stages to {}: No such file", missing.display());
    assert!(stderr(&output).contains(&words), "{}", stderr(&output));
}

#[test]
fn names_in_camel_case_and_numbers_in_strings_are_accepted() {
    let yaml = "
staticResources:
  clusters:
  - name: a
    type: STATIC
    connectTimeout: 1s
    perConnectionBufferLimitBytes: '1024'
    loadAssignment:
      clusterName: a
      endpoints:
      - lbEndpoints:
        - endpoint: {address: {socketAddress: {address: 127.0.0.1, portValue: \"80\"}}}
";
    let mut json = config("there");
    let cluster = &mut json["static_resources"]["clusters"][0];
    cluster["perConnectionBufferLimitBytes"] = json!("1024");
    let endpoint = json!({"endpoint": {"address": {"socketAddress": {
        "address": "127.0.0.1", "portValue": "80",
    }}}});
    cluster["load_assignment"]["endpoints"] = json!([{"lbEndpoints": [endpoint]}]);
    for kind in proxies() {
        let files = Files::new(kind);
        assert_accepted(&files, &files.write("camel.yaml", yaml));
        assert_accepted(&files, &files.write("camel.json", &json.to_string()));
    }
}

#[test]
fn refused_with_the_path_of_the_field() {
    let mut unknown = config("there");
    unknown["static_resources"]["clusters"][0]["conect_timeout"] = json!("1s");
    let mut deep = config("there");
    let mut endpoint = json!({"endpoint": {"address": address(80)}});
    endpoint["endpoint"]["address"]["socket_address"]["prot"] = json!(80);
    deep["static_resources"]["clusters"][0]["load_assignment"]["endpoints"] =
        json!([{"lb_endpoints": [endpoint]}]);
    let mut kind_of_filter = config("there");
    let filter = &mut kind_of_filter["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0];
    filter["typed_config"] = json!({"@type": "type.googleapis.com/no.such.Filter"});
    let mut words = config("there");
    words["static_resources"]["clusters"][0]["per_connection_buffer_limit_bytes"] = json!("many");
    let route = format!("{HCM}.route_config.virtual_hosts[0].routes[0].route.cluster");
    for kind in proxies() {
        let files = Files::new(kind);
        assert_refused(&files, &config("elsewhere"), &format!("{route}: "));
        assert_refused(&files, &config("elsewhere"), "elsewhere");
        assert_refused(&files, &unknown, "static_resources.clusters[0].conect_timeout: ");
        let path = "static_resources.clusters[0].load_assignment.endpoints[0].lb_endpoints[0].endpoint.\
                    address.socket_address.prot: ";
        assert_refused(&files, &deep, path);
        assert_refused(&files, &kind_of_filter, "no.such.Filter");
        assert_refused(&files, &kind_of_filter, HCM);
        assert_refused(&files, &words, "static_resources.clusters[0].per_connection_buffer_limit_bytes: ");
    }
}

#[test]
fn a_broken_rule_of_the_api_is_named_in_envoys_words() {
    const MANAGER: &str = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    const CLUSTER: &str = "/static_resources/clusters/0";
    let host = format!("{MANAGER}/route_config/virtual_hosts/0");
    let route = format!("{host}/routes/0");
    let listener = "/static_resources/listeners/0";
    let chain = "/static_resources/listeners/0/filter_chains/0";
    let rules = [
        ("", "stats_flush_interval", json!("300s"), "value must be inside range [1ms, 5m0s)"),
        (CLUSTER, "name", json!(""), "value length must be at least 1 characters"),
        (CLUSTER, "connect_timeout", json!("0s"), "value must be greater than 0s"),
        (CLUSTER, "lb_policy", json!(99), "value must be one of the defined enum values"),
        (
            CLUSTER,
            "common_lb_config",
            json!({"healthy_panic_threshold": {"value": 101}}),
            "value must be inside range [0, 100]",
        ),
        (MANAGER, "max_request_headers_kb", json!(8193), "value must be inside range (0, 8192]"),
        (MANAGER, "via", json!("a\nb"), "value does not match regex pattern \"^[^\\x00\\n\\r]*$\""),
        (&host, "domains", json!([]), "value must contain at least 1 item(s)"),
        (&host, "domains", json!(["a", "b\n"]), "value does not match regex pattern \"^[^\\x00\\n\\r]*$\""),
        (&route, "match", json!({}), "is required"),
        (&route, "match", Value::Null, "value is required"),
        (&route, "route", Value::Null, "is required"),
        (listener, "address", json!({}), "is required"),
        (
            listener,
            "address",
            json!({"socket_address": {"address": "::1", "port_value": 65536}}),
            "value must be less than or equal to 65535",
        ),
        (
            listener,
            "address",
            json!({"pipe": {"path": "/a", "mode": 512}}),
            "value must be less than or equal to 511",
        ),
        (chain, "filter_chain_match", json!({"source_ports": [0]}), "value must be inside range [1, 65535]"),
    ];
    for kind in proxies() {
        let files = Files::new(kind);
        for (at, field, value, words) in &rules {
            let mut config = config("there");
            config.pointer_mut(at).expect("a place in the configuration")[field] = value.clone();
            let said = stderr(&files.validate(&files.write("broken.json", &config.to_string())));
            assert!(said.contains(words), "{kind:?}: {field}: {words} is not in {said}");
            let path = at.trim_start_matches('/').split('/').fold(String::new(), |path, part| match part {
                "" => path,
                part if part.parse::<usize>().is_ok() => format!("{path}[{part}]"),
                part => format!("{path}{}{part}", if path.is_empty() { "" } else { "." }),
            });
            assert!(kind == Kind::Envoy || said.contains(&path), "{path}: {said}");
        }
    }
}

#[test]
fn all_errors_are_named_by_who_validates() {
    let mut wrong = config("there");
    let cluster = &mut wrong["static_resources"]["clusters"][0];
    cluster["connect_timeout"] = json!("soon");
    for field in ["lrs_server", "transport_socket_matcher"] {
        cluster[field] = json!({});
    }
    let route = &mut wrong["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        ["route_config"]["virtual_hosts"][0]["routes"][0];
    route["match"] = json!({"prefx": "/"});
    let route = format!("{HCM}.route_config.virtual_hosts[0].routes[0]");
    let all = [
        format!("{route}.match.prefx: unknown field, did you mean 'prefix'?"),
        "static_resources.clusters[0].lrs_server: this field is not supported yet".to_string(),
        "static_resources.clusters[0].transport_socket_matcher: this field is not supported yet".to_string(),
        "static_resources.clusters[0].connect_timeout: expected a duration".to_string(),
    ];
    let files = Files::new(Kind::Legate);
    let path = files.write("wrong.json", &wrong.to_string());
    let errors = |output: &Output| {
        assert_eq!(output.status.code(), Some(1));
        let said = stderr(output);
        let lines = said.lines().filter_map(|line| line.split_once("error initializing configuration '"));
        lines.filter_map(|(_, rest)| Some(rest.split_once("': ")?.1.to_string())).collect::<Vec<_>>()
    };
    let told = errors(&files.validate(&path));
    assert_eq!(told.len(), all.len(), "{told:#?}");
    assert!(all.iter().all(|want| told.iter().any(|line| line.starts_with(want))), "{told:#?}");
    assert!(told[all.len() - 1].contains("connect_timeout"), "{told:#?}");
    let output = files.run(&path, &[]);
    assert_eq!(errors(&output), [told[0].clone()]);
    assert!(stderr(&output).contains("there is more that is wrong (3): --mode validate names all of it"));
    // The same where the fields are known, but a listener cannot do what they ask for.
    let mut wrong = config("there");
    let listener = &mut wrong["static_resources"]["listeners"][0];
    listener["bind_to_port"] = json!(false);
    listener["access_log"] = json!([{"name": "stdout", "typed_config":
        {"@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"}}]);
    let path = files.write("wrong.json", &wrong.to_string());
    let place = "error adding listener 'in': static_resources.listeners[0]";
    let all = [
        format!("{place}.bind_to_port: false: not supported yet"),
        format!("{place}.access_log: not supported yet"),
    ];
    assert_eq!(errors(&files.validate(&path)), all);
}

#[test]
fn config_yaml_is_merged_over_the_file() {
    let cluster = "{name: later, type: STATIC, load_assignment: {cluster_name: later}}";
    let more = format!("static_resources: {{clusters: [{cluster}]}}");
    let mut off = config("there");
    off["stats_flush_interval"] = json!("0.0001s"); // less than there may be
    for kind in proxies() {
        let files = Files::new(kind);
        let path = files.write("config.json", &config("later").to_string());
        assert_eq!(files.validate(&path).status.code(), Some(1), "{kind:?}");
        let output = files.run(&path, &["--mode", "validate", "--config-yaml", &more]);
        assert!(output.status.success(), "{kind:?}: {}", stderr(&output));
        let path = files.write("config.json", &off.to_string());
        assert_eq!(files.validate(&path).status.code(), Some(1), "{kind:?}");
        let output = files.run(&path, &["--mode", "validate", "--config-yaml", "stats_flush_interval: 1s"]);
        assert!(output.status.success(), "{kind:?}: {}", stderr(&output));
    }
}

#[test]
fn without_a_configuration() {
    for kind in proxies() {
        let output = kind.run(&["--disable-hot-restart"]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{kind:?}: {said}");
        let text =
            "At least one of --config-path or --config-yaml or Options::configProto() should be non-empty";
        assert!(said.contains(text), "{kind:?}: {said}");
    }
}

#[test]
fn an_address_that_is_taken() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("its address");
    let mut of_admin = config("there");
    of_admin["admin"]["address"] = address(taken.port());
    let mut of_listener = config("there");
    of_listener["static_resources"]["listeners"][0]["address"] = address(taken.port());
    for kind in proxies() {
        let files = Files::new(kind);
        for config in [&of_admin, &of_listener] {
            let output = files.run(&files.write("config.json", &config.to_string()), &[]);
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{kind:?}: {said}");
            assert!(said.contains(&taken.to_string()), "{kind:?}: {said}");
            assert!(said.contains("Address already in use"), "{kind:?}: {said}");
        }
    }
}

#[test]
fn version() {
    for kind in proxies() {
        let output = kind.run(&["--version"]);
        let said = stdout(&output);
        assert!(output.status.success(), "{kind:?}: {}", stderr(&output));
        let built = said.trim().split(" version: ").nth(1).unwrap_or_else(|| panic!("{kind:?}: {said}"));
        let [revision, version, status, ..] = *built.split('/').collect::<Vec<_>>() else {
            panic!("{kind:?}: {said}")
        };
        assert!(revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit()), "{kind:?}: {said}");
        // legate's binary is told the commit and nothing more.
        let known = if kind == Kind::Envoy { ["Clean", "Modified"] } else { ["Distribution"; 2] };
        assert!(known.contains(&status), "{kind:?}: {said}");
        assert!(kind == Kind::Envoy || version == env!("CARGO_PKG_VERSION"), "{kind:?}: {said}");
    }
}

/// [`config`] with another listener, on `second`, beside the one there is, on `first`.
fn two_listeners(first: &Value, second: &Value) -> Value {
    let mut config = config("there");
    let listeners = config["static_resources"]["listeners"].as_array_mut().expect("listeners");
    let mut other = listeners[0].clone();
    other["name"] = json!("other");
    other["address"] = second.clone();
    listeners[0]["address"] = first.clone();
    listeners.push(other);
    config
}

#[test]
fn two_listeners_on_one_address() {
    let at = |ip: &str, port: u16| json!({"socket_address": {"address": ip, "port_value": port}});
    let pipe = json!({"pipe": {"path": "@legate-never-bound"}});
    let port = free_port();
    for kind in proxies() {
        let files = Files::new(kind);
        for (first, second, shown) in [
            (at("127.0.0.1", port), at("127.0.0.1", port), format!("127.0.0.1:{port}")),
            (at("::1", port), at("0:0::1", port), format!("[::1]:{port}")),
            (pipe.clone(), pipe.clone(), "@legate-never-bound".to_string()),
        ] {
            let path = files.write("config.json", &two_listeners(&first, &second).to_string());
            for arguments in [&["--mode", "validate"][..], &[]] {
                let output = files.run(&path, arguments);
                let said = stderr(&output);
                assert_eq!(output.status.code(), Some(1), "{kind:?}: {said}");
                let message = format!(
                    "error adding listener: 'other' has duplicate address '{shown}' as existing listener, to \
                     check if the listener has duplicated addresses with other listeners or \
                     'enable_reuse_port' is set to 'false' for the listener"
                );
                assert!(said.contains(&message), "{kind:?}: {said}");
            }
        }
        for (first, second) in [(address(0), address(0)), (at("0.0.0.0", port), at("127.0.0.1", port))] {
            assert_accepted(&files, &files.write("config.json", &two_listeners(&first, &second).to_string()));
        }
    }
}

#[test]
fn a_pipe_that_cannot_be() {
    let long = format!("/{}", "a".repeat(107));
    let missing = "/nonexistent/legate.sock";
    for kind in proxies() {
        let files = Files::new(kind);
        let with = |pipe: Value| {
            let mut config = config("there");
            config["static_resources"]["listeners"][0]["address"] = json!({"pipe": pipe});
            files.write("config.json", &config.to_string())
        };
        for (pipe, message) in [
            (
                json!({"path": long}),
                format!("Path \"{long}\" exceeds maximum UNIX domain socket path size of 108."),
            ),
            (
                json!({"path": "@a", "mode": 0o600}),
                "Cannot set mode for Abstract AF_UNIX sockets".to_string(),
            ),
            (
                json!({"path": "/a\u{0}b"}),
                "UNIX domain socket pathname contains embedded null characters".to_string(),
            ),
        ] {
            let output = files.validate(&with(pipe));
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(1), "{kind:?}: {said}");
            assert!(said.contains(&message), "{kind:?}: {said}");
        }
        let path = with(json!({"path": missing}));
        assert_accepted(&files, &path);
        let output = files.run(&path, &[]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{kind:?}: {said}");
        let message = format!("cannot bind '{missing}': No such file or directory");
        assert!(
            said.contains(&format!("listener 'in' failed to bind or apply socket options: {message}")),
            "{kind:?}: {said}"
        );
    }
}
