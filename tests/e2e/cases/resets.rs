//! Resets that arrive together with data, so that the kernel tells of both in one edge: the proxy stands
//! still while they come.

use super::{endpoint, get, join, post};
use crate::harness::{Case, Kind, PATIENCE, Site, Wire, proxies, serve_each};
use nix::sys::signal::Signal;
use serde_json::json;
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// How many connections play the same thing at once.
const TIMES: usize = 20;

/// Upstream connections that have got a request head, for the test to answer.
type Waiting = Receiver<Wire>;

/// A proxy with one listener, and the upstream connections behind it.
struct Scene {
    site: Site,
    waiting: Waiting,
    kind: Kind,
}

impl Scene {
    fn new(kind: Kind, case: Case) -> Scene {
        let (sender, waiting): (Sender<Wire>, Waiting) = channel();
        let sender = Arc::new(Mutex::new(sender));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = serve_each(listener, move |mut wire| {
            let head = wire.head();
            if !head.is_empty() {
                let _ = sender.lock().expect("no panic").send(wire);
            }
        });
        let case = case.cluster(endpoint(address.port()));
        Scene { site: Site::start(kind, &[&case]), waiting, kind }
    }

    fn client(&self) -> Wire {
        Wire::connect(self.site.port(0))
    }

    fn upstream(&self) -> Wire {
        self.waiting.recv_timeout(PATIENCE).expect("a connection to the upstream")
    }

    /// Clients with a request each, and the upstream connections that it reached.
    fn asking(&self) -> Vec<(Wire, Wire)> {
        let pair = |_| {
            let mut client = self.client();
            client.send(get(""));
            (client, self.upstream())
        };
        (0..TIMES).map(pair).collect()
    }

    /// What happens in `f` comes at once to a proxy that stands still.
    fn at_once(&self, f: impl FnOnce()) {
        self.site.proxy.signal(Signal::SIGSTOP);
        f();
        self.site.proxy.signal(Signal::SIGCONT);
    }

    fn has(&self, stat: &str, value: usize) {
        let result = self.site.proxy.admin.wait_for_stat(stat, value as u64);
        assert_eq!(result, Ok(()), "{:?}: {stat} is to be {value}", self.kind);
    }

    /// Nothing is left of what clients and upstream did.
    fn all_is_gone(&self) {
        self.no_request_is_left();
        self.has("cluster.case0.upstream_cx_active", 0);
    }

    /// Connections to the upstream may be left, for the next request.
    fn no_request_is_left(&self) {
        self.has("http.case0.downstream_cx_active", 0);
        self.has("http.case0.downstream_rq_active", 0);
        self.has("cluster.case0.upstream_rq_active", 0);
        self.has("cluster.case0.upstream_rq_pending_active", 0);
    }
}

#[test]
fn behind_half_a_response() {
    for kind in proxies() {
        for (response, status) in [
            (&b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"[..], &b"HTTP/1.1 200 "[..]),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n", b"HTTP/1.1 200 "),
            (b"HTTP/1.1 200 OK\r\ncontent-len", b"HTTP/1.1 502 "),
        ] {
            let scene = Scene::new(kind, Case::new("half a response"));
            let (mut clients, upstreams): (Vec<Wire>, Vec<Wire>) = scene.asking().into_iter().unzip();
            scene.at_once(|| {
                for mut upstream in upstreams {
                    upstream.send(response);
                    upstream.reset();
                }
            });
            for client in &mut clients {
                let reply = client.head();
                assert!(reply.starts_with(status), "{kind:?}: {}", reply.escape_ascii());
            }
            scene.has("cluster.case0.upstream_cx_active", 0);
            if status == b"HTTP/1.1 200 " {
                for client in &mut clients {
                    client.rest();
                }
            }
            drop(clients);
            scene.all_is_gone();
        }
    }
}

#[test]
fn behind_a_complete_response() {
    for kind in proxies() {
        let scene = Scene::new(kind, Case::new("a response"));
        let (mut clients, upstreams): (Vec<Wire>, Vec<Wire>) = scene.asking().into_iter().unzip();
        scene.at_once(|| {
            for mut upstream in upstreams {
                upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                upstream.reset();
            }
        });
        for client in &mut clients {
            let reply = client.answer(false);
            assert!(reply.ends_with(b"ok"), "{kind:?}: {}", reply.escape_ascii());
        }
        // A dead connection is not taken for the next request.
        scene.has("cluster.case0.upstream_cx_active", 0);
        for client in &mut clients {
            client.send(get(""));
            scene.upstream().send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nagain");
            let reply = client.answer(false);
            assert!(reply.ends_with(b"again"), "{kind:?}: {}", reply.escape_ascii());
        }
        drop(clients);
        scene.all_is_gone();
    }
}

#[test]
fn behind_half_a_request() {
    for kind in proxies() {
        for request in [&b"GET / HT"[..], b"GET / HTTP/1.1\r\nhost: a.test\r\n", b"\r"] {
            let scene = Scene::new(kind, Case::new("half a request"));
            let clients: Vec<Wire> = (0..TIMES).map(|_| scene.client()).collect();
            scene.has("http.case0.downstream_cx_total", TIMES);
            scene.at_once(|| {
                for mut client in clients {
                    client.send(request);
                    client.reset();
                }
            });
            scene.all_is_gone();
            scene.has("http.case0.downstream_cx_destroy_remote", TIMES);
        }
    }
}

/// Envoy may read the beginning of a second request without seeing the reset behind it; it reads no more then and
/// keeps the connection. That request is legate's alone.
#[test]
fn behind_a_request_whose_upstream_is_silent() {
    for kind in proxies() {
        let chunked = post("transfer-encoding: chunked\r\n", "4\r\nhalf\r\n");
        let mut requests = vec![get(""), post("content-length: 10\r\n", "half"), chunked];
        if kind == Kind::Legate {
            requests.push(join(&[&get(""), b"GET /"]));
        }
        for request in requests {
            let scene = Scene::new(kind, Case::new("a request"));
            let clients: Vec<Wire> = (0..TIMES).map(|_| scene.client()).collect();
            scene.has("http.case0.downstream_cx_total", TIMES);
            scene.at_once(|| {
                for mut client in clients {
                    client.send(&request);
                    client.reset();
                }
            });
            scene.no_request_is_left();
        }
    }
}

/// Part of a body, then the reset, each in an edge of its own or both in one.
#[test]
fn behind_part_of_a_body() {
    for kind in proxies() {
        for (length, part) in [("10", &b"half"[..]), ("100000", &[b'x'; 50_000][..])] {
            let scene = Scene::new(kind, Case::new("a body"));
            let mut clients: Vec<Wire> = (0..TIMES).map(|_| scene.client()).collect();
            for client in &mut clients {
                client.send(post(format!("content-length: {length}\r\n"), ""));
            }
            let upstreams: Vec<Wire> = (0..TIMES).map(|_| scene.upstream()).collect();
            scene.at_once(|| {
                for mut client in clients {
                    client.send(part);
                    client.reset();
                }
            });
            scene.all_is_gone();
            drop(upstreams);
        }
    }
}

/// The upstream takes nothing, so that reading from the client is paused. Envoy learns of the reset when
/// the upstream goes on; legate at once.
#[test]
fn while_reading_is_paused() {
    let small = json!({"per_connection_buffer_limit_bytes": 8192});
    let scene = Scene::new(Kind::Legate, Case::new("paused").listener(small));
    let clients: Vec<Wire> = (0..TIMES)
        .map(|_| {
            let mut client = scene.client();
            client.send(post("content-length: 100000000\r\n", ""));
            client
        })
        .collect();
    let upstreams: Vec<Wire> = (0..TIMES).map(|_| scene.upstream()).collect();
    for client in &clients {
        client.stream.set_nonblocking(true).expect("no waiting");
    }
    let piece = [b'x'; 65536];
    let fill = |client: &Wire| {
        let mut sent = 0;
        while let Ok(n) = std::io::Write::write(&mut &client.stream, &piece) {
            sent += n;
        }
        sent
    };
    let paused = "http.case0.downstream_flow_control_paused_reading_total";
    let mut total = 0;
    while scene.site.proxy.admin.stat(paused).unwrap_or(0) < TIMES as u64 {
        total += clients.iter().map(fill).sum::<usize>();
        assert!(total < TIMES * 100_000_000, "nobody is paused");
    }
    scene.at_once(|| {
        for client in clients {
            fill(&client);
            client.reset();
        }
    });
    scene.all_is_gone();
    drop(upstreams);
}
