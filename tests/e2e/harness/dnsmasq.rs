//! A dnsmasq: a DNS server that nobody here has written.

use super::proxy::{Kind, new_directory};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long it may take to listen.
const START: Duration = Duration::from_secs(10);

/// A running dnsmasq; it ends when dropped, and its files go with it.
pub struct Dnsmasq {
    process: Child,
    directory: PathBuf,
    /// Where it listens.
    pub address: Ipv4Addr,
    /// Where it listens.
    pub port: u16,
}

impl Dnsmasq {
    /// Starts one that knows these names, each line as in `/etc/hosts`, and follows these settings, if there is a dnsmasq.
    pub fn start(hosts: &str, settings: &[&str]) -> Option<Dnsmasq> {
        let directory = new_directory(Kind::Legate);
        fs::write(directory.join("hosts"), hosts).expect("a file written");
        // An address that nobody else uses, so that its port stays free.
        let address = Ipv4Addr::from([127, fastrand::u8(2..), fastrand::u8(..), fastrand::u8(1..255)]);
        let port = UdpSocket::bind((address, 0)).and_then(|s| s.local_addr()).expect("a port").port();
        let process = ["dnsmasq", "/usr/sbin/dnsmasq"].iter().find_map(|program| {
            let mut command = Command::new(program);
            command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"]);
            command.args(["--pid-file=", "--user=", "--bind-interfaces", "--local-ttl=60"]);
            command.arg(format!("--listen-address={address}")).arg(format!("--port={port}"));
            command.arg(format!("--addn-hosts={}", directory.join("hosts").display())).args(settings);
            let log = fs::File::create(directory.join("log")).expect("its log");
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().ok()
        });
        let Some(process) = process else {
            let _ = fs::remove_dir_all(&directory);
            return None;
        };
        let mut dnsmasq = Dnsmasq { process, directory, address, port };
        dnsmasq.wait_until_ready();
        Some(dnsmasq)
    }

    /// From now on, it knows these names.
    pub fn set_hosts(&self, hosts: &str) {
        fs::write(self.directory.join("hosts"), hosts).expect("a file written");
        kill(Pid::from_raw(self.process.id() as i32), Signal::SIGHUP).expect("it runs");
    }

    /// It says nothing any more until it is let go on.
    pub fn stop(&self) {
        kill(Pid::from_raw(self.process.id() as i32), Signal::SIGSTOP).expect("it runs");
    }

    /// See [`Dnsmasq::stop`].
    pub fn go_on(&self) {
        kill(Pid::from_raw(self.process.id() as i32), Signal::SIGCONT).expect("it runs");
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + START;
        while TcpStream::connect((self.address, self.port)).is_err() {
            let exited = self.process.try_wait().ok().flatten();
            if exited.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                panic!("dnsmasq is not ready ({exited:?}):\n{log}");
            }
            thread::sleep(Duration::from_millis(10)); // nothing tells when a process listens
        }
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
