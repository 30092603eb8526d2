//! A legate with extensions that its source knows nothing of: an HTTP filter, a network filter, a listener filter, a kind of cluster, and a
//! filter and a command of access logs, each kind in a module here. What they need of legate is public, and `src/` is not touched.
//!
//! The proxy is this test's own binary, started again.

mod doorman;
mod gate;
mod greeting;
mod late_cluster;
mod only_below;
mod shout;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use legate::config::extension::{Category, Extensions};
use legate::filters::{LINKED, Registry};
use serde_json::{Value, json};

/// What this proxy has.
static REGISTRY: Registry = Registry {
    http_filters: &[&legate::filters::http::router::FACTORY, &doorman::FACTORY, &greeting::FACTORY],
    network_filters: &[&legate::filters::network::http_connection_manager::FACTORY, &shout::FACTORY],
    listener_filters: &[&gate::FACTORY],
    clusters: &[&legate::upstream::STATIC_CLUSTER, &late_cluster::FACTORY],
    access_log_filters: &[&only_below::FILTER],
    formatters: &[&only_below::COMMANDS],
    ..LINKED
};

/// Where its configuration is.
const CONFIG: &str = "LEGATE_TEST_EXTENSIONS";
const PATIENCE: Duration = Duration::from_secs(20);

/// Not a test: the proxy, when it is started with a configuration.
#[test]
fn proxy() {
    let Some(config) = std::env::var_os(CONFIG) else { return };
    let args = ["legate", "--concurrency", "1", "--file-flush-interval-msec", "10", "-c"]
        .map(Into::into)
        .into_iter()
        .chain([config]);
    let code = legate::server::main_with_extensions(args, None, &REGISTRY);
    std::process::exit(i32::from(format!("{code:?}") != format!("{:?}", std::process::ExitCode::SUCCESS)));
}

fn any(type_name: &str, mut message: Value) -> Value {
    message["@type"] = json!(format!("type.googleapis.com/{type_name}"));
    message
}

/// Listeners in `folder`: one of HTTP with a greeting, one that shouts. All sockets are files.
fn config(folder: &Path, upstream: u16) -> Value {
    let socket = |name: &str| json!({"pipe": {"path": folder.join(name)}});
    let greet = |text: &str| any("legate.test.Greeting", json!({"text": text}));
    let route = |prefix: &str, says: Value| json!({"match": {"prefix": prefix}, "route": {"cluster": "late"}, "typed_per_filter_config": says});
    let on = any("envoy.config.route.v3.FilterConfig", json!({"config": {}}));
    let door = any("legate.test.Doorman", json!({"header": "x-guest"}));
    let format = json!({
        "text_format_source": {"inline_string": "%CAPITAL_PATH%\n"},
        "formatters": [{"name": "c", "typed_config": any("legate.test.Capitals", json!({}))}],
    });
    const FILE: &str = "envoy.extensions.access_loggers.file.v3.FileAccessLog";
    let log = json!({
        "filter": {"extension_filter": {"name": "o", "typed_config": any("legate.test.OnlyBelow", json!({"path": "/r"}))}},
        "typed_config": any(FILE, json!({"path": folder.join("log"), "log_format": format})),
    });
    let manager = json!({
        "stat_prefix": "s",
        "access_log": [log],
        "route_config": {"virtual_hosts": [{
            "name": "v", "domains": ["*"],
            "typed_per_filter_config": {"greeter": greet("of the host")},
            "routes": [route("/door", json!({"door": on})), route("/route", json!({"greeter": greet("of the route")})), route("/", json!({}))],
        }]},
        "http_filters": [
            {"name": "door", "disabled": true, "typed_config": door},
            {"name": "plain", "typed_config": greet("of the filter")},
            {"name": "greeter", "typed_config": greet("never heard")},
            {"name": "r", "typed_config": any("envoy.extensions.filters.http.router.v3.Router", json!({}))},
        ],
    });
    const HCM: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let listener = |name: &str, config: Value| {
        json!({"name": name, "address": socket(name), "filter_chains": [{"filters": [
            {"name": "f", "typed_config": config}]}]})
    };
    let mut gated = listener("gated", any("legate.test.Shout", json!({})));
    gated["listener_filters"] = json!([{"name": "g", "typed_config": any("legate.test.Gate", json!({}))}]);
    gated["listener_filters_timeout"] = json!("0.3s");
    let mut patient = gated.clone();
    patient["name"] = json!("patient");
    patient["address"] = socket("patient");
    patient["continue_on_listener_filters_timeout"] = json!(true);
    let cluster_type =
        json!({"name": "l", "typed_config": any("legate.test.LateCluster", json!({"port": upstream}))});
    json!({
        "admin": {"address": socket("admin")},
        "static_resources": {
            "listeners": [listener("http", any(HCM, manager)), listener("shout", any("legate.test.Shout", json!({}))), gated, patient],
            "clusters": [{"name": "late", "cluster_type": cluster_type}],
        },
    })
}

struct Proxy {
    child: Child,
    folder: PathBuf,
}

impl Proxy {
    fn start(name: &str, upstream: u16) -> Proxy {
        let folder = std::env::temp_dir().join(format!("legate-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("config.json");
        std::fs::write(&file, config(&folder, upstream).to_string()).expect("a configuration");
        let child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "proxy", "--nocapture"])
            .env(CONFIG, &file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a proxy");
        Proxy { child, folder }
    }

    /// A connection to one of its sockets, as soon as there is one.
    fn connect(&mut self, name: &str) -> UnixStream {
        let start = Instant::now();
        loop {
            match UnixStream::connect(self.folder.join(name)) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
                    return stream;
                }
                Err(error) => {
                    let ended = self.child.try_wait().expect("its state");
                    assert!(ended.is_none() && start.elapsed() < PATIENCE, "{name}: {error}, {}", self.log());
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }

    fn log(&mut self) -> String {
        self.child.kill().expect("an end");
        let mut log = String::new();
        self.child.stderr.take().expect("its log").read_to_string(&mut log).expect("text");
        log
    }

    /// The answer to a request.
    fn get(&mut self, socket: &str, path: &str) -> String {
        self.get_with(socket, path, "")
    }

    fn get_with(&mut self, socket: &str, path: &str, lines: &str) -> String {
        let mut stream = self.connect(socket);
        write!(stream, "GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{lines}\r\n")
            .expect("a request sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Answers everyone with `ok`; returns its port.
fn upstream() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let serve = |stream: TcpStream| -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        (&stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
    };
    thread::spawn(move || {
        for stream in listener.incoming() {
            match stream.and_then(serve) {
                Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
                _ => {}
            }
        }
    });
    port
}

#[test]
fn readme_lists_what_is_linked_in() {
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("README.md");
    let (_, table) = readme.split_once("| category | extensions |\n|---|---|\n").expect("the table");
    let rows: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
    let row = |category: Category| {
        let factories = Some(LINKED.factories(category)).filter(|factories| !factories.is_empty())?;
        let names: Vec<_> = factories.iter().map(|factory| format!("`{}`", factory.name())).collect();
        Some(format!("| `{}` | {} |", category.name(), names.join(", ")))
    };
    assert_eq!(rows, Category::ALL.into_iter().filter_map(row).collect::<Vec<_>>());
}

#[test]
fn a_proxy_with_extensions_of_its_own_serves_and_tells_of_them() {
    let mut proxy = Proxy::start("extensions", upstream());
    for (path, greeting) in [("/", "of the host"), ("/route", "of the route")] {
        let answer = proxy.get("http", path);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"), "{answer}");
        assert!(answer.contains("\r\nx-greeting: of the filter\r\n"), "{answer}");
        assert!(answer.contains(&format!("\r\nx-greeting: {greeting}\r\n")), "{answer}");
    }
    let mut shout = proxy.connect("shout");
    shout.write_all(b"hello").expect("bytes sent");
    let mut answer = [0; 5];
    shout.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HELLO");

    let info = proxy.get("admin", "/server_info");
    // The body is one chunk.
    let (start, end) = (info.find('{').expect("a body"), info.rfind('}').expect("its end"));
    let info: Value = serde_json::from_str(&info[start..=end]).expect("JSON");
    let extensions = info["node"]["extensions"].as_array().expect("a list");
    for (name, category, type_name) in [
        ("legate.test.greeting", "envoy.filters.http", "legate.test.Greeting"),
        ("legate.test.shout", "envoy.filters.network", "legate.test.Shout"),
        ("legate.test.late_cluster", "envoy.clusters", "legate.test.LateCluster"),
        ("legate.test.only_below", "envoy.access_loggers.extension_filters", "legate.test.OnlyBelow"),
        ("legate.test.capitals", "envoy.formatter", "legate.test.Capitals"),
    ] {
        let want = json!({"name": name, "category": category, "type_descriptor": "", "disabled": false,
            "type_urls": [type_name]});
        assert!(extensions.contains(&want), "{want} is not in {extensions:#?}");
    }
    let start = Instant::now();
    while let stats = proxy.get("admin", "/stats?filter=greetings")
        && !stats.contains("http.s.greetings: 4\n")
    {
        assert!(start.elapsed() < PATIENCE, "{stats}");
    }
    while let lines = std::fs::read_to_string(proxy.folder.join("log")).unwrap_or_default()
        && lines != "/ROUTE\n"
    {
        assert!(start.elapsed() < PATIENCE, "{lines}");
    }
    let log = proxy.log();
    assert!(
        log.contains(
            "  filters.http: envoy.filters.http.router, legate.test.doorman, legate.test.greeting\n"
        ),
        "{log}"
    );
}

#[test]
fn the_filter_of_the_guide() {
    let mut proxy = Proxy::start("door", upstream());
    for (path, lines, want) in [("/door", "", 403), ("/door", "x-guest: 1\r\n", 200), ("/", "", 200)] {
        let answer = proxy.get_with("http", path, lines);
        assert!(answer.starts_with(&format!("HTTP/1.1 {want} ")), "{path} {lines}: {answer}");
        assert_eq!(answer.ends_with("not on the list\n"), want == 403, "{answer}");
    }
    let stats = proxy.get("admin", "/stats?filter=doorman");
    assert!(stats.contains("http.s.doorman.refused: 1\n"), "{stats}");
}

#[test]
fn a_listener_filter() {
    let mut proxy = Proxy::start("gate", upstream());
    let answer = |proxy: &mut Proxy, says: &[u8]| {
        let mut stream = proxy.connect("gated");
        stream.write_all(says).expect("said");
        let mut answer = [0; 16];
        let length = stream.read(&mut answer).unwrap_or(0);
        String::from_utf8_lossy(&answer[..length]).into_owned()
    };
    assert_eq!(answer(&mut proxy, b"!abc"), "!ABC", "what was looked at is not lost");
    assert_eq!(answer(&mut proxy, b"abc"), "", "turned away");
    let start = Instant::now();
    assert_eq!(answer(&mut proxy, b""), "", "the time is over");
    // The loop counts from when it woke up, which may have been a little before.
    assert!(start.elapsed() >= Duration::from_millis(280));
    // Where that is said, it goes on all the same.
    let mut late = proxy.connect("patient");
    let start = Instant::now();
    while !proxy.get("admin", "/stats?usedonly").contains("patient.downstream_pre_cx_timeout: 1\n") {
        assert!(start.elapsed() < PATIENCE, "it waits for ever");
    }
    late.write_all(b"late").expect("said");
    let mut answered = [0; 4];
    late.read_exact(&mut answered).expect("an answer");
    assert_eq!(&answered, b"LATE");
    // Who waits does not hold up others.
    let waiting = proxy.connect("gated");
    assert_eq!(answer(&mut proxy, b"!x"), "!X");
    let of_gated = |proxy: &mut Proxy, stat: &str| {
        let stats = proxy.get("admin", "/stats?usedonly");
        let line = stats.lines().find(|line| line.contains("gated.downstream_") && line.contains(stat));
        line.and_then(|line| line.rsplit(": ").next()).and_then(|n| n.parse().ok()).unwrap_or(0_u64)
    };
    assert!(of_gated(&mut proxy, "pre_cx_active") <= 1);
    drop(waiting);
    let start = Instant::now();
    while of_gated(&mut proxy, "pre_cx_active") > 0 {
        assert!(start.elapsed() < PATIENCE, "it waits for ever");
    }
    assert_eq!(of_gated(&mut proxy, "downstream_cx_total"), 2);
    assert!(of_gated(&mut proxy, "pre_cx_timeout") >= 1);
}
