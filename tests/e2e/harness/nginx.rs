//! An nginx as upstream: a server that nobody here has written.

use super::proxy::{Kind, new_directory};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, setsockopt, socket, sockopt,
};
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long it may take to listen.
const START: Duration = Duration::from_secs(10);

/// A running nginx; it ends when dropped, and its files go with it.
pub struct Nginx {
    process: Child,
    directory: PathBuf,
    _held: OwnedFd,
    /// Where it listens.
    pub port: u16,
}

impl Nginx {
    /// Starts one that serves these files, if there is an nginx.
    pub fn start(files: &[(&str, &str)]) -> Option<Nginx> {
        let directory = new_directory(Kind::Legate);
        for (name, text) in files {
            fs::write(directory.join(name), text).expect("a file written");
        }
        let (held, port) = hold_port();
        fs::write(directory.join("nginx.conf"), configuration(port)).expect("its configuration written");
        let process = ["nginx", "/usr/sbin/nginx"].iter().find_map(|program| {
            let mut command = Command::new(program);
            command.arg("-p").arg(&directory).args(["-c", "nginx.conf", "-e", "error.log"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
        });
        let Some(process) = process else {
            let _ = fs::remove_dir_all(&directory);
            return None;
        };
        let mut nginx = Nginx { process, directory, _held: held, port };
        nginx.wait_until_ready();
        Some(nginx)
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + START;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let exited = self.process.try_wait().ok().flatten();
            if exited.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.directory.join("error.log")).unwrap_or_default();
                panic!("nginx is not ready ({exited:?}):\n{log}");
            }
            thread::sleep(Duration::from_millis(10)); // nothing tells when a process listens
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A port for a process that shares it; until that one listens nobody can connect.
fn hold_port() -> (OwnedFd, u16) {
    let held = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    setsockopt(&held, sockopt::ReusePort, &true).expect("SO_REUSEPORT");
    bind(held.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).expect("a port");
    let address: SockaddrIn = getsockname(held.as_raw_fd()).expect("its address");
    (held, address.port())
}

/// One process in the foreground; all its files are in its directory.
fn configuration(port: u16) -> String {
    format!(
        "daemon off; master_process off; pid nginx.pid; error_log error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    client_max_body_size 0;
    default_type text/plain;
    gzip on; gzip_min_length 100; gzip_types text/plain;
    server {{
        listen 127.0.0.1:{port} reuseport;
        root .;
        location /said {{ return 200 \"$request_method $http_content_length $http_transfer_encoding\"; }}
    }}
}}
"
    )
}
