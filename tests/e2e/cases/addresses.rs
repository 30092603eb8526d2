//! Addresses that are no plain IPv4: pipes, IPv6, and IPv4 that comes over IPv6.

use super::free_port;
use crate::harness::{Kind, PATIENCE, ParsedReply, proxies};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{self, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, process, thread};

/// All that a log line says of addresses.
const LOG: &str = "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS% \
                   %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% [%DOWNSTREAM_REMOTE_PORT%] %UPSTREAM_HOST% \
                   %UPSTREAM_LOCAL_ADDRESS% %REQ(X-FORWARDED-FOR)% %REQ(X-ENVOY-INTERNAL)% \
                   %REQ(X-ENVOY-EXTERNAL-ADDRESS)% %UPSTREAM_TRANSPORT_FAILURE_REASON%\n";

/// A directory with a short path, for a pipe's may not be long; it goes with its files.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("legate-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a directory");
        Directory(path)
    }

    /// A path in it.
    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a path in UTF-8").to_string()
    }

    /// A name in the abstract namespace that nobody else has.
    fn name(&self, name: &str) -> String {
        format!("@{}", self.path(name))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn pipe(path: &str) -> Value {
    json!({"pipe": {"path": path}})
}

fn socket(address: &str) -> Value {
    json!({"socket_address": {"address": address, "port_value": 0}})
}

fn compatible(address: &str) -> Value {
    json!({"socket_address": {"address": address, "port_value": 0, "ipv4_compat": true}})
}

/// A listener that logs to `log` and does what `action` says with every request.
fn listener(name: &str, address: &Value, log: &str, action: &Value, more: &Value) -> Value {
    let mut route = json!({"match": {"prefix": "/"}});
    for (field, value) in action.as_object().expect("an action") {
        route[field] = value.clone();
    }
    let log = json!({
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": log, "log_format": {"text_format_source": {"inline_string": LOG}},
    });
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    });
    let mut hcm = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.\
            HttpConnectionManager",
        "stat_prefix": name,
        "delayed_close_timeout": "0.1s",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [router],
        "access_log": [{"name": "file", "typed_config": log}],
    });
    for (field, value) in more.as_object().expect("fields") {
        hcm[field] = value.clone();
    }
    let filter = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": hcm});
    json!({"name": name, "address": address, "filter_chains": [{"filters": [filter]}]})
}

fn cluster(name: &str, address: &Value) -> Value {
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": address}}]},
        ]},
    })
}

fn to(cluster: &str) -> Value {
    json!({"route": {"cluster": cluster}})
}

fn connect(path: &str) -> std::io::Result<UnixStream> {
    match path.strip_prefix('@') {
        Some(name) => UnixStream::connect_addr(&net::SocketAddr::from_abstract_name(name)?),
        None => UnixStream::connect(path),
    }
}

/// What a request gets on a new connection; `None` if nobody answers.
fn ask(mut stream: impl Read + Write, path: &str, fields: &str) -> Option<ParsedReply> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n{fields}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    ParsedReply::parse(&bytes)
}

fn ask_pipe(pipe: &str, path: &str, fields: &str) -> Option<ParsedReply> {
    let stream = connect(pipe).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    ask(stream, path, fields)
}

fn text(reply: Option<ParsedReply>) -> String {
    reply.map(|reply| String::from_utf8_lossy(&reply.body).into_owned()).unwrap_or_default()
}

/// An upstream on a pipe that answers `ok` to every connection's first request.
fn upstream(path: &str) {
    let listener = match path.strip_prefix('@') {
        Some(name) => UnixListener::bind_addr(&net::SocketAddr::from_abstract_name(name).expect("a name")),
        None => UnixListener::bind(path),
    };
    let listener = listener.expect("an upstream's pipe");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                    head.push(byte[0]);
                }
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
                stream.write_all(answer)
            });
        }
    });
}

/// A proxy whose admin interface is on a pipe.
struct Piped {
    process: Child,
    admin: String,
}

impl Piped {
    fn start(kind: Kind, directory: &Directory, bootstrap: &Value) -> Piped {
        let config = directory.path("bootstrap.json");
        fs::write(&config, bootstrap.to_string()).expect("the configuration written");
        let log = fs::File::create(directory.path("proxy.log")).expect("a log file");
        let process = Command::new(kind.binary().expect("a binary"))
            .args(["-c", &config, "--concurrency", "1", "--disable-hot-restart", "-l", "warning"])
            .args(["--file-flush-interval-msec", "10"])
            .args(["--admin-address-path", &directory.path("admin.txt")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the proxy started");
        let admin = bootstrap["admin"]["address"]["pipe"]["path"].as_str().expect("a pipe").to_string();
        let mut proxy = Piped { process, admin };
        let deadline = Instant::now() + Duration::from_secs(20);
        while ask_pipe(&proxy.admin, "/ready", "").is_none_or(|reply| reply.status != 200) {
            let exited = proxy.process.try_wait().ok().flatten();
            let log = fs::read_to_string(directory.path("proxy.log")).unwrap_or_default();
            assert!(exited.is_none() && Instant::now() < deadline, "{kind:?} is not ready: {log}");
            thread::sleep(Duration::from_millis(10)); // nothing tells when a process listens
        }
        proxy
    }

    fn admin(&self, path: &str) -> String {
        text(ask_pipe(&self.admin, path, ""))
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The lines of a log once there are `count`.
fn lines(path: &str, count: usize) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_string).collect();
        if lines.len() >= count || Instant::now() > deadline {
            return lines;
        }
        thread::sleep(Duration::from_millis(10)); // access logs are flushed by a timer
    }
}

#[test]
fn pipes_for_clients_hosts_and_the_admin() {
    for kind in proxies() {
        let dir = Directory::new();
        let (file, admin, up) = (dir.path("in"), dir.path("admin"), dir.path("up"));
        let (hidden, up_hidden, nobody) = (dir.name("in:1"), dir.name("up"), dir.path("none"));
        upstream(&up);
        upstream(&up_hidden);
        // What an earlier process left, and what is no socket at all.
        drop(UnixListener::bind(&file).expect("a pipe left behind"));
        fs::write(&admin, "some file").expect("a file");
        let logs = ["file.log", "hidden.log", "nobody.log"].map(|name| dir.path(name));
        let mut to_hidden = cluster("hidden", &pipe(&up_hidden));
        to_hidden["upstream_bind_config"] =
            json!({"source_address": {"address": "127.0.0.1", "port_value": 0}});
        to_hidden["upstream_connection_options"] = json!({"tcp_keepalive": {"keepalive_time": 5}});
        let remote = json!({"use_remote_address": true});
        let listeners = [
            listener(
                "file",
                &json!({"pipe": {"path": file, "mode": 0o606}}),
                &logs[0],
                &to("up"),
                &json!({}),
            ),
            listener("hidden", &pipe(&hidden), &logs[1], &to("hidden"), &remote),
            listener("nobody", &pipe(&dir.name("n")), &logs[2], &to("nobody"), &json!({})),
        ];
        let proxy = Piped::start(
            kind,
            &dir,
            &json!({
                "admin": {"address": {"pipe": {"path": admin, "mode": 0o600}}},
                "static_resources": {
                    "listeners": listeners,
                    "clusters": [cluster("up", &pipe(&up)), to_hidden, cluster("nobody", &pipe(&nobody))],
                },
            }),
        );
        for (path, mode) in [(&file, 0o606), (&admin, 0o600)] {
            let metadata = fs::metadata(path).expect("a file");
            assert!(metadata.file_type().is_socket(), "{kind:?} {path}");
            assert_eq!(metadata.permissions().mode() & 0o777, mode, "{kind:?} {path}");
        }
        assert_eq!(fs::read_to_string(dir.path("admin.txt")).expect("a file"), admin, "{kind:?}");

        assert_eq!(text(ask_pipe(&file, "/", "")), "ok", "{kind:?}");
        assert_eq!(text(ask_pipe(&file, "/", "x-forwarded-for: 10.1.2.3\r\n")), "ok", "{kind:?}");
        assert_eq!(text(ask_pipe(&hidden, "/", "")), "ok", "{kind:?}");
        assert_eq!(text(ask_pipe(&hidden, "/", "x-forwarded-for: 10.1.2.3\r\n")), "ok", "{kind:?}");
        assert_eq!(ask_pipe(&dir.name("n"), "/", "").map(|r| r.status), Some(503), "{kind:?}");

        let line = |at: &str, from: &str, from_ip: &str, port: &str, up: &str, forwarded: &str| {
            format!("{at} {from} {at} {from_ip} [{port}] {up} - {forwarded} - - -")
        };
        let direct = |at, up, forwarded| line(at, at, at, "", up, forwarded);
        assert_eq!(
            lines(&logs[0], 2),
            [direct(&file, &up, "-"), line(&file, "10.1.2.3:0", "10.1.2.3", "0", &up, "10.1.2.3"),],
            "{kind:?}"
        );
        assert_eq!(
            lines(&logs[1], 2),
            [direct(&hidden, &up_hidden, "-"), direct(&hidden, &up_hidden, "10.1.2.3"),],
            "{kind:?}"
        );
        let reason = format!("immediate_connect_error:_No_such_file_or_directory|remote_address:{nobody}");
        let expected = direct(&dir.name("n"), &nobody, "-");
        assert_eq!(lines(&logs[2], 1), [format!("{}{reason}", expected.trim_end_matches('-'))], "{kind:?}");

        let expected = format!("file::{file}\nhidden::{hidden}\nnobody::{}\n", dir.name("n"));
        assert_eq!(proxy.admin("/listeners"), expected, "{kind:?}");
        let json: Value = serde_json::from_str(&proxy.admin("/listeners?format=json")).expect("JSON");
        assert_eq!(json["listener_statuses"][0]["local_address"], pipe(&file), "{kind:?}");
        let clusters = proxy.admin("/clusters");
        assert!(clusters.contains(&format!("up::{up}::cx_total::2\n")), "{kind:?} {clusters}");
        assert!(clusters.contains(&format!("nobody::{nobody}::cx_connect_fail::1\n")), "{kind:?} {clusters}");
        let stats = proxy.admin("/stats?filter=downstream_cx_total");
        for name in [&file, &hidden.replace(':', "_")] {
            assert!(stats.contains(&format!("listener.{name}.downstream_cx_total: 2\n")), "{kind:?} {stats}");
        }
    }
}

#[test]
fn pipes_are_internal_where_the_configuration_says_so() {
    for kind in proxies() {
        let dir = Directory::new();
        let direct = json!({"direct_response": {"status": 200}});
        let internal = json!({"use_remote_address": true, "internal_address_config": {"unix_sockets": true}});
        let (path, log) = (dir.name("in"), dir.path("log"));
        let _proxy = Piped::start(
            kind,
            &dir,
            &json!({
                "admin": {"address": pipe(&dir.name("admin"))},
                "static_resources": {"listeners": [listener("in", &pipe(&path), &log, &direct, &internal)]},
            }),
        );
        assert_eq!(ask_pipe(&path, "/", "").map(|r| r.status), Some(200), "{kind:?}");
        let lines = lines(&log, 1);
        assert!(lines.len() == 1 && lines[0].ends_with("- true - -"), "{kind:?} {lines:?}");
    }
}

/// Says so where the machine has no IPv6.
fn has_ipv6() -> bool {
    let has = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        println!("SKIPPED: no IPv6 here");
    }
    has
}

#[test]
fn ipv6_takes_ipv4_only_where_it_is_told_to() {
    for kind in proxies().into_iter().filter(|_| has_ipv6()) {
        let dir = Directory::new();
        let direct = json!({"direct_response": {"status": 200}});
        let networks = json!([{"address_prefix": "127.0.0.0", "prefix_len": 8}]);
        let hcm = json!({"use_remote_address": true, "skip_xff_append": true,
            "internal_address_config": {"cidr_ranges": networks}});
        let names = ["six", "both", "mapped"];
        let addresses = [socket("::"), compatible("::"), compatible("::ffff:127.0.0.1")];
        let logs = names.map(|name| dir.path(name));
        let listeners: Vec<Value> =
            (0..3).map(|i| listener(names[i], &addresses[i], &logs[i], &direct, &hcm)).collect();
        let proxy = Piped::start(
            kind,
            &dir,
            &json!({
                "admin": {"address": pipe(&dir.name("admin"))},
                "static_resources": {"listeners": listeners},
            }),
        );
        let listening = proxy.admin("/listeners");
        let port = |name: &str| {
            let line = listening.lines().find_map(|line| line.strip_prefix(&format!("{name}::")));
            line.and_then(|address| address.parse::<SocketAddr>().ok()).map_or(0, |address| address.port())
        };
        let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port("six")));
        assert_eq!(refused.err().map(|e| e.kind()), Some(std::io::ErrorKind::ConnectionRefused), "{kind:?}");
        let ask = |address: &dyn Fn(u16) -> SocketAddr, name: &str| {
            let stream = TcpStream::connect(address(port(name))).expect("a connection");
            let client = stream.local_addr().expect("its address");
            assert_eq!(ask(stream, "/", "").map(|reply| reply.status), Some(200), "{kind:?} {name}");
            client
        };
        let v4 = |port| (Ipv4Addr::LOCALHOST, port).into();
        let v6 = |port| (Ipv6Addr::LOCALHOST, port).into();
        let other = |port| (Ipv4Addr::new(127, 0, 0, 9), port).into();
        let line = |to: SocketAddr, from: SocketAddr, internal: &str, external: &str| {
            format!("{to} {from} {from} {} [{}] - - - {internal} {external} -", from.ip(), from.port())
        };
        let expected = line(v6(port("six")), ask(&v6, "six"), "-", "::1");
        assert_eq!(lines(&logs[0], 1), [expected], "{kind:?}");
        let expected = [
            line(v4(port("both")), ask(&v4, "both"), "true", "-"),
            line(other(port("both")), ask(&other, "both"), "true", "-"),
            line(v6(port("both")), ask(&v6, "both"), "-", "::1"),
        ];
        assert_eq!(lines(&logs[1], 3), expected, "{kind:?}");
        // Where the kernel has chosen the port it is asked for the whole address.
        let expected = line(v4(port("mapped")), ask(&v4, "mapped"), "true", "-");
        assert_eq!(lines(&logs[2], 1), [expected], "{kind:?}");
    }
}

#[test]
fn forwarded_addresses_in_all_spellings() {
    for kind in proxies() {
        let dir = Directory::new();
        let direct = json!({"direct_response": {"status": 200}});
        let (path, log) = (dir.name("in"), dir.path("log"));
        let _proxy = Piped::start(
            kind,
            &dir,
            &json!({
                "admin": {"address": pipe(&dir.name("admin"))},
                "static_resources": {"listeners": [listener("in", &pipe(&path), &log, &direct, &json!({}))]},
            }),
        );
        let spellings = [
            ("2001:DB8:0:0:1::1", "[2001:db8::1:0:0:1]:0 2001:db8::1:0:0:1"),
            ("::ffff:10.1.2.3", "[::ffff:10.1.2.3]:0 ::ffff:10.1.2.3"),
            ("::102:304", "[::1.2.3.4]:0 ::1.2.3.4"),
            ("fe80::1%lo", "[fe80::1%1]:0 fe80::1%1"),
            ("fe80::1%7", "[fe80::1%7]:0 fe80::1%7"),
            ("2001:db8::1%7", "[2001:db8::1%7]:0 2001:db8::1%7"),
        ];
        let none = ["1.2.3.4:80", "[::1]", "01.2.3.4", "fe80::1%", "2001:db8::1%lo", "1.2.3.4%1"];
        for spelling in spellings.iter().map(|s| s.0).chain(none) {
            let field = format!("x-forwarded-for: {spelling}\r\n");
            assert_eq!(ask_pipe(&path, "/", &field).map(|r| r.status), Some(200), "{kind:?}");
        }
        let lines = lines(&log, spellings.len() + none.len());
        let shown = lines.iter().map(|line| {
            let mut words = line.split(' ');
            let (remote, without_port) = (words.nth(1).unwrap_or_default(), words.nth(1).unwrap_or_default());
            format!("{remote} {without_port}")
        });
        let expected =
            spellings.iter().map(|s| s.1.to_string()).chain(none.map(|_| format!("{path} {path}")));
        assert_eq!(shown.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{kind:?}");
    }
}

#[test]
fn one_port_of_all_addresses_and_of_one() {
    for kind in proxies() {
        let dir = Directory::new();
        let port = free_port();
        let at = |address: &str| json!({"socket_address": {"address": address, "port_value": port}});
        let answer =
            |body: &str| json!({"direct_response": {"status": 200, "body": {"inline_string": body}}});
        let log = dir.path("log");
        let listeners = [
            listener("all", &at("0.0.0.0"), &log, &answer("all"), &json!({})),
            listener("one", &at("127.0.0.1"), &log, &answer("one"), &json!({})),
        ];
        let _proxy = Piped::start(
            kind,
            &dir,
            &json!({
                "admin": {"address": pipe(&dir.name("admin"))},
                "static_resources": {"listeners": listeners},
            }),
        );
        for (ip, expected) in [(Ipv4Addr::LOCALHOST, "one"), (Ipv4Addr::new(127, 0, 0, 9), "all")] {
            let stream = TcpStream::connect((ip, port)).expect("a connection");
            assert_eq!(text(ask(stream, "/", "")), expected, "{kind:?}");
        }
    }
}
