//! Logs that no scenario has made: curl as the client, an ordinary HTTP server as the upstream, both proxies ended by SIGTERM.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Scratch, legate_trace, text};

/// Python's HTTP server, which keeps connections in HTTP/1.1 and closes them in HTTP/1.0.
struct WebServer {
    process: Child,
    port: String,
}

const SERVER: &str = "
import http.server, sys
class Files(http.server.SimpleHTTPRequestHandler):
    protocol_version = sys.argv[1]
    def __init__(self, *arguments):
        super().__init__(*arguments, directory=sys.argv[2])
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Files)
print(server.server_address[1], flush=True)
server.serve_forever()
";

impl WebServer {
    fn start(protocol: &str, files: &str) -> Option<WebServer> {
        let mut process = Command::new("python3")
            .args(["-c", SERVER, protocol, files])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut port = String::new();
        BufReader::new(process.stdout.take()?).read_line(&mut port).ok()?;
        Some(WebServer { process, port: port.trim().to_string() })
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Kills what is left when a test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn envoy() -> Option<PathBuf> {
    let given = std::env::var_os("ENVOY_BIN").filter(|path| !path.is_empty()).map(PathBuf::from);
    let in_venv = || {
        let pythons = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.venv/lib")).ok()?;
        let binary = |entry: fs::DirEntry| entry.path().join("site-packages/envoy/_bin/envoy");
        pythons.filter_map(Result::ok).map(binary).find(|path| path.exists())
    };
    given.or_else(in_venv)
}

fn curl(arguments: &[&str]) -> Option<String> {
    let output = Command::new("curl").args(["-s", "--max-time", "20"]).args(arguments).output().ok()?;
    Some(text(&output.stdout))
}

/// Two clusters, as a worker's clusters end in no certain order.
fn bootstrap(upstream: &str) -> String {
    let types = "type.googleapis.com/envoy.extensions.filters";
    let at = |port: &str| format!("{{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}");
    let (free, server) = (at("0"), at(upstream));
    let cluster = |name: &str| {
        let endpoints = format!("[{{ lb_endpoints: [{{ endpoint: {{ address: {server} }} }}] }}]");
        format!("  - name: {name}\n    load_assignment: {{ cluster_name: {name}, endpoints: {endpoints} }}\n")
    };
    let (one, two) = (cluster("one"), cluster("two"));
    format!(
        "admin: {{ address: {free} }}
static_resources:
  listeners:
  - name: own
    address: {free}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": {types}.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: own
          route_config:
            virtual_hosts:
            - name: all
              domains: [\"*\"]
              routes:
              - {{ match: {{ prefix: /two }}, route: {{ cluster: two }} }}
              - {{ match: {{ prefix: / }}, route: {{ cluster: one }} }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              \"@type\": {types}.http.router.v3.Router
              suppress_envoy_headers: true
  clusters:
{one}{two}"
    )
}

/// The log of a proxy that serves a few clients, one after another, and is ended by SIGTERM.
fn log_of(binary: &str, name: &str, scratch: &Scratch, upstream: &str) -> String {
    let [config, log, admin] = ["yaml", "log", "admin"].map(|end| scratch.path(&format!("{name}.{end}")));
    fs::write(&config, bootstrap(upstream)).expect("a configuration");
    let _ = fs::remove_file(&admin);
    let proxy = Command::new(binary)
        .args(["-c", &config, "--concurrency", "1", "--disable-hot-restart", "-l", "trace"])
        .args(["--admin-address-path", &admin])
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).expect("a log"))
        .spawn();
    let mut proxy = Running(proxy.expect("the proxy started"));
    let ask = |path: &str| {
        let address = fs::read_to_string(&admin).unwrap_or_default();
        curl(&[&format!("http://{}{path}", address.trim())]).expect("curl")
    };
    let wait_for = |path: &str, wanted: &str| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !ask(path).contains(wanted) {
            assert!(Instant::now() < deadline, "{name}: no {wanted:?} in {path}");
            std::thread::sleep(Duration::from_millis(5)); // nothing tells when a process serves
        }
    };
    wait_for("/ready", "LIVE");
    let listeners = ask("/listeners");
    let listener = listeners.trim().rsplit_once("::").expect("a listener").1;
    let [root, big, none] = ["/", "/big", "/two/none"].map(|path| format!("http://{listener}{path}"));
    let get = |more: &[&str]| {
        let usual = ["-H", "host: own.test", "-w", "%{http_code} ", "-o", "/dev/null"];
        curl(&[&usual[..], more].concat()).expect("curl")
    };
    assert_eq!(get(&[&root]), "200 ");
    assert_eq!(get(&[&root, "-o", "/dev/null", &big, "-o", "/dev/null", &none]), "200 200 404 ");
    assert_eq!(get(&["-I", &root]), "200 ");
    assert_eq!(get(&["-d", "a=b", &root]), "501 ");
    assert_eq!(get(&[&none]), "404 ");
    wait_for("/stats?filter=http.own.downstream_cx_active", ": 0");
    assert!(Command::new("kill").arg(proxy.0.id().to_string()).status().expect("kill").success());
    assert!(proxy.0.wait().expect("its end").success());
    log
}

/// Both logs, in a directory of their own; `None` where something is missing.
fn logs(protocol: &str) -> Option<(Scratch, [String; 2])> {
    let scratch = Scratch::new(&format!("own-{}", protocol.replace('/', "-")));
    let files = scratch.path("files");
    fs::create_dir_all(&files).expect("a directory");
    fs::write(format!("{files}/index.html"), "hello\n".repeat(100)).expect("a file");
    fs::write(format!("{files}/big"), "x".repeat(100_000)).expect("a file");
    let (envoy, server, true) = (envoy()?, WebServer::start(protocol, &files)?, curl(&["-V"]).is_some())
    else {
        return None;
    };
    let envoy = log_of(&envoy.to_string_lossy(), "envoy", &scratch, &server.port);
    let legate = log_of(env!("CARGO_BIN_EXE_legate"), "legate", &scratch, &server.port);
    Some((scratch, [envoy, legate]))
}

fn compare(envoy: &str, legate: &str) -> (Option<i32>, String) {
    let output = legate_trace(&["compare", envoy, legate]);
    (output.status.code(), text(&output.stdout))
}

#[test]
fn curl_and_an_ordinary_server_make_no_difference() {
    for protocol in ["HTTP/1.1", "HTTP/1.0"] {
        let Some((_scratch, [envoy, legate])) = logs(protocol) else {
            eprintln!("SKIPPED: there is no Envoy, python3 or curl");
            return;
        };
        let (status, out) = compare(&envoy, &legate);
        assert_eq!(status, Some(0), "{protocol}: {out}");
        // What is between two idle connections of two clusters at the end.
        let idle = out.matches("ConnPoolImpl::onConnectionEvent closed").count();
        assert!(idle >= 2, "{out}");
    }
}

#[test]
fn a_stage_that_is_missing_in_logs_of_ones_own_is_found() {
    let Some((scratch, [envoy, legate])) = logs("HTTP/1.1") else { return };
    let log = fs::read_to_string(&legate).expect("legate's log");
    let changed = scratch.path("changed.log");
    let lines: Vec<&str> = log.lines().collect();
    let mut left_out = 0;
    for index in crate::steps(&lines).into_iter().step_by(3) {
        let mut rest = lines.clone();
        rest.remove(index);
        fs::write(&changed, rest.join("\n") + "\n").expect("the changed log written");
        let (status, _) = compare(&envoy, &changed);
        left_out += 1;
        assert_eq!(status, Some(1), "nobody sees that it is missing: {}", lines[index]);
    }
    assert!(left_out > 50, "{left_out} lines");
}
