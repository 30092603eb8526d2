//! A running proxy: legate, or Envoy beside it.

use super::admin::Admin;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long a proxy may take to get ready, or to do what it has to before it ends.
const START: Duration = Duration::from_secs(20);

/// How a proxy is started, where that is not as usual.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// A command that gets the proxy's command line as its last arguments, and that becomes the proxy.
    pub wrapper: &'a [&'a str],
    /// More arguments.
    pub arguments: &'a [&'a str],
    /// How long it may take to get ready.
    pub patience: Duration,
    /// How many workers it has.
    pub workers: u32,
}

impl Default for Launch<'_> {
    fn default() -> Self {
        Launch { wrapper: &[], arguments: &[], patience: START, workers: 1 }
    }
}

/// Which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The one that is tested.
    Legate,
    /// The one it has to resemble.
    Envoy,
}

impl Kind {
    /// The binary, if there is one.
    pub fn binary(self) -> Option<PathBuf> {
        match self {
            Kind::Legate => {
                let built = || PathBuf::from(env!("CARGO_BIN_EXE_legate"));
                Some(std::env::var_os("LEGATE_BIN").map_or_else(built, PathBuf::from))
            }
            Kind::Envoy => match std::env::var_os("ENVOY_BIN") {
                Some(path) => Some(PathBuf::from(path)).filter(|p| p.exists()),
                None => envoy_in_venv(),
            },
        }
    }

    /// Runs the binary with these arguments until it ends by itself.
    pub fn run(self, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.binary().expect("a binary"));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let process = command.spawn().expect("the proxy started");
        let pid = pid_of(&process);
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || sender.send(process.wait_with_output()));
        let output = receiver.recv_timeout(START).unwrap_or_else(|_| {
            let _ = kill(pid, Signal::SIGKILL);
            panic!("{self:?} {arguments:?} does not end")
        });
        output.expect("its output")
    }
}

fn pid_of(process: &Child) -> Pid {
    Pid::from_raw(i32::try_from(process.id()).expect("a process id"))
}

fn envoy_in_venv() -> Option<PathBuf> {
    let libraries = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/lib");
    let pythons = fs::read_dir(libraries).ok()?;
    let binary = |python: PathBuf| python.join("site-packages/envoy/_bin/envoy");
    pythons.filter_map(Result::ok).map(|entry| binary(entry.path())).find(|path| path.exists())
}

/// A directory for one proxy's files.
pub fn new_directory(kind: Kind) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("e2e-{}-{number}-{kind:?}", std::process::id());
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&directory).expect("a directory for the proxy's files");
    directory
}

/// A proxy process; it is killed when dropped, and its files go with it.
pub struct Proxy {
    process: Child,
    directory: PathBuf,
    files_are_kept: bool,
    /// Its admin interface.
    pub admin: Admin,
    /// Its listeners' ports by name.
    pub listeners: HashMap<String, u16>,
}

impl Proxy {
    /// Starts the proxy with a configuration and waits until it is ready. Its files and its log are in
    /// `directory`.
    pub fn start(kind: Kind, bootstrap: &Value, directory: PathBuf, launch: Launch) -> Proxy {
        let mut proxy = Proxy::spawn(kind, bootstrap, directory, launch);
        let exited = proxy.wait_until_ready(launch.patience);
        assert!(exited.is_none(), "the proxy is not ready ({exited:?}):\n{}", proxy.log());
        proxy
    }

    /// Starts the proxy, which may end by itself; see [`Proxy::wait_until_ready`].
    pub fn spawn(kind: Kind, bootstrap: &Value, directory: PathBuf, launch: Launch) -> Proxy {
        let config = directory.join("bootstrap.json");
        fs::write(&config, bootstrap.to_string()).expect("the configuration written");
        let admin_file = directory.join("admin");
        let log = File::create(directory.join("proxy.log")).expect("a log file");
        let binary = kind.binary().expect("a binary");
        let words = launch.wrapper.iter().map(|word| PathBuf::from(*word));
        let words: Vec<PathBuf> = words.chain([binary]).collect();
        let process = Command::new(&words[0])
            .args(&words[1..])
            .arg("-c")
            .arg(&config)
            .args(["--concurrency", &launch.workers.to_string()])
            .args(["--disable-hot-restart", "--file-flush-interval-msec", "10"])
            .args(["-l", "warning", "--admin-address-path"])
            .arg(&admin_file)
            .args(launch.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the proxy started");
        let unknown = Admin { address: ([127, 0, 0, 1], 0).into() };
        Proxy { process, directory, files_are_kept: false, admin: unknown, listeners: HashMap::new() }
    }

    /// Waits until it answers, or has ended, with that status.
    pub fn wait_until_ready(&mut self, patience: Duration) -> Option<ExitStatus> {
        let admin_file = self.directory.join("admin");
        let deadline = Instant::now() + patience;
        loop {
            let address = fs::read_to_string(&admin_file).ok().and_then(|text| text.trim().parse().ok());
            if let Some(address) = address {
                self.admin = Admin { address };
                if self.admin.get("/ready").is_some_and(|reply| reply.status == 200) {
                    self.listeners = self.admin.listeners();
                    return None;
                }
            }
            let exited = self.process.try_wait().ok().flatten();
            if exited.is_some() {
                return exited;
            }
            assert!(Instant::now() < deadline, "the proxy does not get ready:\n{}", self.log());
            thread::sleep(Duration::from_millis(10)); // nothing tells when a process listens
        }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("proxy.log")).unwrap_or_default()
    }

    /// Keeps its files, and says where they are.
    pub fn keep_files(&mut self) -> &Path {
        self.files_are_kept = true;
        &self.directory
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        pid_of(&self.process)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the signal sent");
    }

    /// Waits for its end; `None` if it has not come within `patience`.
    pub fn wait_for_exit(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            let status = self.process.try_wait().expect("its status");
            if status.is_some() || Instant::now() > deadline {
                return status;
            }
            thread::sleep(Duration::from_millis(2)); // a wait without a limit is the only event
        }
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if !self.files_are_kept && !thread::panicking() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}
