//! WebSockets of others: the `websockets` package of PyPI at both ends, and Chromium at one.

use crate::harness::{Case, Kind, PATIENCE, Site, new_directory, proxies};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// What comes of the cases of `websocket_peer.py`.
const EXPECTED: &str = "\
text: chat grüße
binary: chat True
fragments: chat one two three
fragments back: chat ['mes', '', 'sage', '']
ping: chat a pong came
pinged: chat a pong came
1 MiB: chat True
1 MiB compressed: chat True
many at a time: chat True
the client closes: chat (4000, 'done')
the server closes: chat (['bye'], (1001, 'going'))
nothing goes on: chat ([], None)
refused: 403 b'not here\\n'
";

/// What a script in Chromium sees.
const IN_A_PAGE: &str =
    "text; 1048576 true; /echo?page true 3001 enough; /goes?page true 1001 going; /refuse?page false 1006 ";

/// How long Chromium may take to start and to run a page on a busy machine.
const PAGE: Duration = Duration::from_secs(60);

/// A process that ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The script, by the Python that has the package. None, said aloud, where there is none.
fn peer(arguments: &[&str]) -> Option<Command> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python: PathBuf = root.join(".venv/bin/python");
    let found = Command::new(&python).args(["-c", "import websockets"]).stderr(Stdio::null()).status();
    if !found.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: .venv has no websockets (tests/setup.sh test)");
        return None;
    }
    let mut command = Command::new(python);
    command.env("PYTHONUTF8", "1").arg("-B").arg(root.join("tests/e2e/websocket_peer.py")).args(arguments);
    Some(command)
}

/// The server, its port, and the lines that it prints.
fn serve() -> Option<(Running, u16, Receiver<String>)> {
    let mut process = peer(&["serve"])?.stdout(Stdio::piped()).spawn().expect("the server started");
    let output = BufReader::new(process.stdout.take().expect("its output"));
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let process = Running(process);
    let port = lines.recv_timeout(PAGE).expect("a line").parse().expect("a port");
    Some((process, port, lines))
}

/// A proxy before that server.
fn site(kind: Kind, port: u16) -> Site {
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let endpoints = json!([{"lb_endpoints": [{"endpoint": {"address": address}}]}]);
    let route = |prefix: &str, idle: &str| json!({"match": {"prefix": prefix}, "route": {"cluster": "case0", "idle_timeout": idle}});
    let routes = [route("/idle", "0.3s"), route("/", "30s")];
    let mut case = Case::new("websockets")
        .hcm(json!({
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}]},
        }))
        .cluster(json!({"load_assignment": {"endpoints": endpoints}}));
    let format = "%REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% %BYTES_SENT%\n";
    case.log_format = Some(format.to_string());
    Site::start(kind, &[&case])
}

/// What the access log and the statistics say when all is over.
fn record(site: &Site, lines: usize, upgrades: u64) -> (Vec<String>, BTreeMap<String, u64>) {
    let admin = &site.proxy.admin;
    assert_eq!(admin.wait_for_stat("http.case0.downstream_cx_upgrades_active", 0), Ok(()));
    assert_eq!(admin.wait_for_stat("http.case0.downstream_cx_upgrades_total", upgrades), Ok(()));
    let deadline = Instant::now() + PATIENCE;
    let mut log = Vec::new();
    while log.len() < lines && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10)); // access logs are flushed by a timer
        let text = std::fs::read_to_string(site.access_log(0)).unwrap_or_default();
        log = text.lines().map(String::from).collect();
    }
    log.sort();
    let wanted = |name: &str| {
        name.contains("upgrades") || name.contains("_rq_") && !name.contains("_ms") && name.contains("case0")
    };
    let stats = admin.stats().into_iter().filter(|(name, value)| *value > 0 && wanted(name)).collect();
    (log, stats)
}

#[test]
fn by_a_package() {
    let Some((_server, port, _)) = serve() else { return };
    let mut records = Vec::new();
    for kind in proxies() {
        let site = site(kind, port);
        let client =
            peer(&["client", &site.port(0).to_string()]).expect("as before").output().expect("a client");
        assert_eq!(String::from_utf8_lossy(&client.stdout), EXPECTED, "{kind:?}");
        records.push(record(&site, EXPECTED.lines().count(), 13));
    }
    records.windows(2).for_each(|pair| assert_eq!(pair[0], pair[1]));
}

#[test]
fn by_chromium() {
    let Some((_server, port, lines)) = serve() else { return };
    let mut records = Vec::new();
    for kind in proxies() {
        let site = site(kind, port);
        let profile = new_directory(kind);
        let chromium = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .arg("--remote-debugging-port=0") // it stays, while the script runs
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!("http://127.0.0.1:{}/page", site.port(0)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let chromium = match chromium {
            Ok(chromium) => Running(chromium),
            Err(error) => {
                eprintln!("SKIPPED: chromium: {error}");
                return;
            }
        };
        let result = lines.recv_timeout(PAGE).expect("what came of the page");
        assert_eq!(result, IN_A_PAGE, "{kind:?}");
        drop(chromium);
        let _ = std::fs::remove_dir_all(profile);
        let (log, _) = record(&site, 5, 4);
        let of_sockets = log.into_iter().filter(|line| line.contains("?page"));
        records.push(of_sockets.collect::<Vec<_>>());
    }
    records.windows(2).for_each(|pair| assert_eq!(pair[0], pair[1]));
}
