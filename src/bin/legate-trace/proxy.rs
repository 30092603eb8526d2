//! A proxy under observation: started with a trace log, asked through its admin interface.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::interrupt;

/// How long a proxy may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to notice a step.
const STEP: Duration = Duration::from_millis(250);
/// It is at rest when its threads have slept, and its log has not grown, for so long.
const QUIET: Duration = Duration::from_millis(10);

/// What is started.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    /// The binary.
    pub binary: &'a Path,
    /// A command that gets the proxy's command line as its last words; empty for none.
    pub wrapper: &'a [&'a str],
    /// Further options.
    pub options: &'a [String],
    /// How many workers.
    pub concurrency: u32,
    /// `trace`, or a quieter level.
    pub log_level: &'a str,
}

/// A running proxy; it is killed when dropped.
pub struct Proxy {
    process: Child,
    log: PathBuf,
    /// The log's length when it was last at rest.
    rested: Cell<u64>,
    admin: SocketAddr,
    listener: SocketAddr,
}

impl Proxy {
    /// Starts it in a directory of its own and waits until it serves.
    ///
    /// # Errors
    /// It cannot be started, or ends at once; the text has the end of its log.
    pub fn start(command: &Launch, bootstrap: &str, directory: &Path) -> Result<Proxy, String> {
        let in_directory = |name: &str| directory.join(name);
        let failed =
            |what: &str, e: &dyn std::fmt::Display| format!("{what} in {}: {e}", directory.display());
        fs::create_dir_all(directory).map_err(|e| failed("cannot make the directory", &e))?;
        let config = in_directory("bootstrap.json");
        fs::write(&config, bootstrap).map_err(|e| failed("cannot write the configuration", &e))?;
        let log = in_directory("proxy.log");
        let file = File::create(&log).map_err(|e| failed("cannot make the log", &e))?;
        let address_file = in_directory("admin");
        let _ = fs::remove_file(&address_file);
        let binary = command.binary.as_os_str();
        let words: Vec<&std::ffi::OsStr> =
            command.wrapper.iter().map(std::ffi::OsStr::new).chain([binary]).collect();
        let mut command_line = Command::new(words[0]);
        command_line
            .args(&words[1..])
            .arg("-c")
            .arg(&config)
            .args(["--concurrency", &command.concurrency.to_string(), "--disable-hot-restart"])
            .args(["-l", command.log_level, "--admin-address-path"])
            .arg(&address_file)
            .args(command.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file);
        let process = interrupt::spawn(&mut command_line)
            .map_err(|e| format!("cannot start {}: {e}", Path::new(words[0]).display()))?;
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut proxy = Proxy { process, log, rested: Cell::new(0), admin: nowhere, listener: nowhere };
        proxy.wait_until_ready(&address_file)?;
        proxy.listener = proxy.find_listener()?;
        proxy.settle();
        Ok(proxy)
    }

    fn wait_until_ready(&mut self, address_file: &Path) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let address = fs::read_to_string(address_file).ok().and_then(|text| text.trim().parse().ok());
            if let Some(address) = address {
                self.admin = address;
                if self.admin("GET", "/ready").is_ok_and(|body| body.trim() == "LIVE") {
                    return Ok(());
                }
            }
            let exited = self.process.try_wait().ok().flatten();
            if exited.is_some() || Instant::now() > deadline {
                let log = self.log_text();
                let end: Vec<&str> = log.lines().rev().take(10).collect();
                let end: Vec<&str> = end.into_iter().rev().collect();
                let how = exited.map_or_else(|| "it still runs".to_string(), |status| status.to_string());
                return Err(format!(
                    "the proxy does not get ready ({how}); its log ends:\n{}",
                    end.join("\n")
                ));
            }
            thread::sleep(Duration::from_millis(5)); // nothing tells when a process listens
        }
    }

    fn find_listener(&self) -> Result<SocketAddr, String> {
        let text = self.admin("GET", "/listeners?format=json")?;
        let list: Value = serde_json::from_str(&text).map_err(|e| format!("/listeners: {e}"))?;
        let at =
            |name: &str| list.pointer(&format!("/listener_statuses/0/local_address/socket_address/{name}"));
        let (ip, port) = (at("address").and_then(Value::as_str), at("port_value").and_then(Value::as_u64));
        let address = ip.zip(port).and_then(|(ip, port)| format!("{ip}:{port}").parse().ok());
        address.ok_or_else(|| format!("/listeners names no address: {text}"))
    }

    /// Where clients connect.
    pub fn listener(&self) -> SocketAddr {
        self.listener
    }

    /// Sends the admin a request; the answer's body.
    ///
    /// # Errors
    /// It does not answer.
    pub fn admin(&self, method: &str, path: &str) -> Result<String, String> {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&self.admin, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            write!(
                stream,
                "{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(body(&String::from_utf8_lossy(&answer)))
        };
        ask().map_err(|e| format!("admin {path}: {e}"))
    }

    /// What it has logged.
    pub fn log_text(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Waits until it is at rest again: each step of a scenario is to find the one before it finished. A step makes the proxy log
    /// something, and while it has something to do, its threads are not all asleep.
    pub fn settle(&self) {
        let size = || fs::metadata(&self.log).map_or(0, |m| m.len());
        let deadline = Instant::now() + STEP;
        while size() == self.rested.get() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1)); // a file tells nobody that it has grown
        }
        let deadline = Instant::now() + PATIENCE;
        let (mut last, mut since) = (size(), Instant::now());
        while since.elapsed() < QUIET && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1)); // that nothing happens is no event
            let now = size();
            if now != last || !self.is_asleep() {
                (last, since) = (now, Instant::now());
            }
        }
        self.rested.set(last);
    }

    /// Whether all its threads wait for something.
    fn is_asleep(&self) -> bool {
        !self.states().iter().any(|state| ['R', 'D'].contains(state))
    }

    /// The states of its threads, as in `/proc`.
    fn states(&self) -> Vec<char> {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.process.id())) else {
            return Vec::new();
        };
        let state = |thread: fs::DirEntry| {
            let stat = fs::read_to_string(thread.path().join("stat")).ok()?;
            // The name in front, in parentheses, may hold anything.
            stat.rsplit_once(") ")?.1.chars().next()
        };
        threads.filter_map(Result::ok).filter_map(state).collect()
    }

    /// Waits until it has logged this text, in line `from` or later.
    ///
    /// # Errors
    /// It does not.
    pub fn wait_for_text(&self, text: &str, from: usize) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while !self.log_text().lines().skip(from - 1).any(|line| line.contains(text)) {
            if Instant::now() > deadline {
                return Err(format!("it never logs {text:?}"));
            }
            thread::sleep(Duration::from_millis(5)); // a file tells nobody that it has grown
        }
        Ok(())
    }

    /// Stops it until what is returned is dropped.
    ///
    /// # Errors
    /// It does not stop.
    pub fn pause(&self) -> Result<Paused, String> {
        kill(self.pid(), Signal::SIGSTOP).map_err(|e| format!("SIGSTOP: {e}"))?;
        let paused = Paused(self.pid());
        let deadline = Instant::now() + PATIENCE;
        while self.states().iter().any(|state| *state != 'T') {
            if Instant::now() > deadline {
                return Err("it does not stop after SIGSTOP".to_string());
            }
            thread::sleep(Duration::from_millis(1)); // it does not tell
        }
        Ok(paused)
    }

    /// Whether it has not ended yet.
    pub fn runs(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).unwrap_or(i32::MAX))
    }

    /// The kernel's id of its thread of that name.
    ///
    /// # Errors
    /// It has none.
    pub fn thread(&self, name: &str) -> Result<String, String> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.process.id())).map_err(|e| e.to_string())?;
        let is_it = |path: &Path| fs::read_to_string(path.join("comm")).is_ok_and(|n| n.trim() == name);
        let found = threads.filter_map(Result::ok).find(|thread| is_it(&thread.path()));
        let id = found.map(|thread| thread.file_name().to_string_lossy().into_owned());
        id.ok_or_else(|| format!("it has no thread that is called {name}"))
    }

    /// Ends it with SIGTERM.
    ///
    /// # Errors
    /// It does not end.
    pub fn terminate(&mut self) -> Result<ExitStatus, String> {
        kill(self.pid(), Signal::SIGTERM).map_err(|e| format!("SIGTERM: {e}"))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.process.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
                Ok(None) => return Err("it does not end after SIGTERM".to_string()),
                Err(e) => return Err(format!("after SIGTERM: {e}")),
            }
        }
    }
}

/// A proxy that is stopped; it goes on when this is dropped.
pub struct Paused(Pid);

impl Drop for Paused {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        interrupt::forget(&self.process);
    }
}

/// The body of a response, without the framing of chunks.
fn body(answer: &str) -> String {
    let (head, mut rest) = answer.split_once("\r\n\r\n").unwrap_or(("", answer));
    if !head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return rest.to_string();
    }
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        let Some(chunk) = after.get(..size).filter(|chunk| !chunk.is_empty()) else { break };
        body.push_str(chunk);
        rest = after.get(size + 2..).unwrap_or_default();
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_taken_out_of_their_framing() {
        assert_eq!(body("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab"), "ab");
        assert_eq!(
            body("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"),
            "abcde"
        );
    }

    #[test]
    fn a_binary_that_is_not_there_is_named() {
        let directory = std::env::temp_dir().join(format!("legate-trace-proxy-{}", std::process::id()));
        let command = Launch {
            binary: Path::new("/nonexistent/envoy"),
            wrapper: &[],
            options: &[],
            concurrency: 1,
            log_level: "trace",
        };
        let error = Proxy::start(&command, "{}", &directory).err().unwrap();
        assert!(error.starts_with("cannot start /nonexistent/envoy: "), "{error}");
        fs::remove_dir_all(&directory).unwrap();
    }
}
