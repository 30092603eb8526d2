//! The scenarios: what clients and the upstream do, one step at a time, each when the proxy has come to rest.

use std::error::Error;

use serde_json::json;

use crate::bootstrap::Bootstrap;
use crate::compare::Mode;
use crate::players::{Peer, Upstream, UpstreamKind};
use crate::proxy::Proxy;

mod filters;
mod limits;
mod traffic;

type Step = Result<(), Box<dyn Error>>;
/// The connections that are still open at the end; they are to be closed when the log has been read.
type Played = Result<Vec<Peer>, Box<dyn Error>>;

/// A scenario.
pub struct Scenario {
    /// As `--scenario` takes it.
    pub name: &'static str,
    /// In a sentence.
    pub about: &'static str,
    /// How the traces are compared.
    pub mode: Mode,
    /// How many workers.
    pub concurrency: u32,
    /// What the upstream's port does.
    pub upstream: UpstreamKind,
    /// The ports of further upstreams, as `configure` has use for them.
    pub others: &'static [UpstreamKind],
    /// What the upstream answers before the proxy is ready, to the one request that it gets until then.
    pub answers_first: Option<&'static str>,
    /// Whose requests 1.1 got when it was recorded.
    pub recorded: Recorded,
    /// What it needs in the configuration.
    pub configure: fn(&mut Bootstrap),
    /// What happens.
    pub play: fn(&mut Scene) -> Played,
}

/// Who played a scenario when Envoy 1.1 was recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recorded {
    /// The players here.
    Here,
    /// Others: their requests have another host, the cluster another name, and headers of Envoy's were not suppressed.
    Elsewhere,
}

const USUAL: Scenario = Scenario {
    name: "",
    about: "",
    mode: Mode::InOrder,
    concurrency: 1,
    upstream: UpstreamKind::Listening,
    others: &[],
    answers_first: None,
    recorded: Recorded::Here,
    configure: |_| {},
    play: |_| Ok(Vec::new()),
};

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    SCENARIOS.iter().chain(traffic::SCENARIOS).chain(filters::SCENARIOS).chain(limits::SCENARIOS)
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "first-request",
        about: "the first request: a new connection on both sides",
        play: first_request,
        ..USUAL
    },
    Scenario {
        name: "second-request",
        about: "a second request on kept-alive connections",
        play: second_request,
        ..USUAL
    },
    Scenario { name: "pipelined", about: "two requests in one segment", play: pipelined, ..USUAL },
    Scenario {
        name: "chunked-post",
        about: "a POST whose body comes in two chunks, then one that comes whole",
        play: chunked_post,
        ..USUAL
    },
    Scenario {
        name: "slow-reader",
        about: "a response of 10 MB to a client that reads late: back pressure",
        mode: Mode::AddedUp,
        play: slow_reader,
        ..USUAL
    },
    Scenario {
        name: "pending-queue",
        about: "three requests with max_connections 1: how the pending queue drains, and in which order",
        configure: |bootstrap| {
            let limits = json!({"thresholds": [{"max_connections": 1}]});
            bootstrap.set_cluster("circuit_breakers", &limits);
        },
        play: pending_queue,
        ..USUAL
    },
    Scenario {
        name: "upstream-refuses",
        about: "nobody listens at the upstream",
        upstream: UpstreamKind::Refusing,
        play: answered_by_proxy,
        ..USUAL
    },
    Scenario {
        name: "connect-timeout",
        about: "the upstream answers no SYN for 0.2 s",
        upstream: UpstreamKind::Silent,
        configure: |bootstrap| bootstrap.set_cluster("connect_timeout", &json!("0.2s")),
        play: answered_by_proxy,
        ..USUAL
    },
    Scenario {
        name: "upstream-idle-close",
        about: "the upstream closes an idle connection; then another request",
        play: upstream_idle_close,
        ..USUAL
    },
    Scenario {
        name: "upstream-close-mid-response",
        about: "the upstream closes in the middle of a response",
        play: upstream_close_mid_response,
        ..USUAL
    },
    Scenario {
        name: "early-response",
        about: "the response is complete before the request is",
        play: early_response,
        ..USUAL
    },
    Scenario {
        name: "client-reset",
        about: "the client resets its connection during a request",
        play: client_reset,
        ..USUAL
    },
    Scenario {
        name: "route-timeout",
        about: "the upstream does not answer within the route's 0.2 s",
        configure: |bootstrap| bootstrap.set_route("timeout", &json!("0.2s")),
        play: route_timeout,
        ..USUAL
    },
    Scenario {
        name: "connection-close",
        about: "`connection: close` from the client, then from the upstream, then from the proxy",
        play: connection_close,
        ..USUAL
    },
    Scenario {
        name: "max-requests-per-connection",
        about: "an upstream connection is closed after two requests",
        configure: |bootstrap| bootstrap.set_upstream_http("max_requests_per_connection", &json!(2)),
        play: max_requests_per_connection,
        ..USUAL
    },
    Scenario {
        name: "drain",
        about: "the health check is failed, which drains a connection; then SIGTERM while a request is under way",
        configure: |bootstrap| {
            bootstrap.set_connection_manager("drain_timeout", &json!("0.2s"));
            bootstrap.set_connection_manager("delayed_close_timeout", &json!("0.2s"));
        },
        play: drain,
        ..USUAL
    },
    Scenario {
        name: "not-found",
        about: "a path that no route takes",
        configure: |bootstrap| {
            let action = json!({"cluster": bootstrap.cluster_name()});
            bootstrap.set_routes(&json!([{"match": {"prefix": "/x"}, "route": action}]));
        },
        play: answered_by_proxy,
        ..USUAL
    },
    Scenario {
        name: "direct-response",
        about: "a route that answers by itself",
        configure: |bootstrap| {
            let answer = json!({"status": 200, "body": {"inline_string": "hello"}});
            bootstrap.set_routes(&json!([{"match": {"prefix": "/"}, "direct_response": answer}]));
        },
        play: answered_by_proxy,
        ..USUAL
    },
    Scenario {
        name: "head-request",
        about: "HEAD, whose response announces a body that does not come",
        play: head_request,
        ..USUAL
    },
    Scenario {
        name: "expect-continue",
        about: "a POST that waits for 100 Continue",
        play: expect_continue,
        ..USUAL
    },
    Scenario {
        name: "trailers",
        about: "a request and a response with trailers",
        configure: |bootstrap| {
            let options = json!({"enable_trailers": true});
            bootstrap.set_connection_manager("http_protocol_options", &options);
            bootstrap.set_upstream_http1(&options);
        },
        play: trailers,
        ..USUAL
    },
    Scenario {
        name: "reset-behind-response",
        about: "the upstream resets its connection right behind a complete response; then another request",
        play: reset_behind_response,
        ..USUAL
    },
    Scenario {
        name: "reset-behind-half-request",
        about: "the client resets its connection right behind half a request",
        play: reset_behind_half_request,
        ..USUAL
    },
    Scenario {
        name: "stray-crlf",
        about: "an empty line, in two pieces, between two requests",
        play: stray_crlf,
        ..USUAL
    },
    Scenario { name: "bad-request", about: "a head that is none", play: bad_request, ..USUAL },
    Scenario { name: "http10", about: "a request in HTTP/1.0, which is refused", play: http10, ..USUAL },
    Scenario {
        name: "two-workers",
        about: "20 connections, spread over two workers by the kernel",
        mode: Mode::PerConnection,
        concurrency: 2,
        play: two_workers,
        ..USUAL
    },
];

/// The scenario of that name.
pub fn named(name: &str) -> Option<&'static Scenario> {
    all().find(|scenario| scenario.name == name)
}

/// What a script can act on.
pub struct Scene<'a> {
    /// The proxy.
    pub proxy: &'a mut Proxy,
    /// The upstream.
    pub upstream: &'a Upstream,
    /// The further ones.
    pub others: &'a [Upstream],
    /// The connection on which the upstream has answered first, if it has.
    pub first: Option<Peer>,
    /// Whose clients these are.
    pub host: &'a str,
}

const GET: &str = "GET / HTTP/1.1\r\nhost: legate.test\r\n\r\n";
// Most servers write names as in the RFCs.
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

impl Scene<'_> {
    fn client(&self) -> Result<Peer, Box<dyn Error>> {
        let client = Peer::connect(self.proxy.listener())?;
        self.proxy.settle();
        Ok(client)
    }

    fn send(&self, peer: &mut Peer, text: &str) -> Step {
        peer.send(text)?;
        self.proxy.settle();
        Ok(())
    }

    /// Sends, and resets the connection behind that; the proxy sees both at once.
    fn send_and_reset(&self, mut peer: Peer, text: &str) -> Step {
        let paused = self.proxy.pause()?;
        peer.send(text)?;
        peer.reset()?;
        drop(paused);
        self.proxy.settle();
        Ok(())
    }

    fn finish(&self, peer: &mut Peer) -> Step {
        peer.finish()?;
        self.proxy.settle();
        Ok(())
    }

    /// Sends a request, and returns the upstream's end of the new connection that it brings.
    fn request_on_new_upstream(&self, client: &mut Peer, request: &str) -> Result<Peer, Box<dyn Error>> {
        client.send(request)?;
        let mut upstream = self.upstream.accept()?;
        upstream.read_message()?;
        self.proxy.settle();
        Ok(upstream)
    }

    fn request(&self, client: &mut Peer, upstream: &mut Peer, request: &str) -> Step {
        client.send(request)?;
        upstream.read_message()?;
        self.proxy.settle();
        Ok(())
    }

    fn respond(&self, upstream: &mut Peer, client: &mut Peer, response: &str) -> Step {
        upstream.send(response)?;
        client.read_message()?;
        self.proxy.settle();
        Ok(())
    }

    /// Both ends of connections that have served a request.
    fn after_a_request(&self) -> Result<(Peer, Peer), Box<dyn Error>> {
        let mut client = self.client()?;
        let mut upstream = self.request_on_new_upstream(&mut client, GET)?;
        self.respond(&mut upstream, &mut client, OK)?;
        Ok((client, upstream))
    }
}

fn first_request(scene: &mut Scene) -> Played {
    let (mut client, upstream) = scene.after_a_request()?;
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn second_request(scene: &mut Scene) -> Played {
    let (mut client, mut upstream) = scene.after_a_request()?;
    scene.request(&mut client, &mut upstream, GET)?;
    scene.respond(&mut upstream, &mut client, OK)?;
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn pipelined(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    let mut upstream = scene.request_on_new_upstream(&mut client, &[GET, GET].concat())?;
    scene.respond(&mut upstream, &mut client, OK)?;
    upstream.read_message()?;
    scene.proxy.settle();
    scene.respond(&mut upstream, &mut client, OK)?;
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn chunked_post(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    client
        .send("POST / HTTP/1.1\r\nhost: legate.test\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")?;
    let mut upstream = scene.upstream.accept()?;
    upstream.read_until("first\r\n")?;
    scene.proxy.settle();
    scene.send(&mut client, "6\r\nsecond\r\n")?;
    scene.send(&mut client, "0\r\n\r\n")?;
    upstream.read_message()?;
    scene.respond(&mut upstream, &mut client, OK)?;
    let in_one_piece = "POST / HTTP/1.1\r\nhost: legate.test\r\ncontent-length: 5\r\n\r\nfirst";
    scene.request(&mut client, &mut upstream, in_one_piece)?;
    scene.respond(&mut upstream, &mut client, OK)?;
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn slow_reader(scene: &mut Scene) -> Played {
    const SIZE: usize = 10 << 20;
    let mut client = scene.client()?;
    let upstream = scene.request_on_new_upstream(&mut client, GET)?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
    let sender = upstream.send_in_background(&head, SIZE)?;
    scene.proxy.wait_for_text("onAboveWriteBufferHighWatermark", 1)?;
    scene.proxy.settle();
    client.read_message()?;
    sender.join().map_err(|_| "the upstream's thread panicked")??;
    scene.proxy.settle();
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn pending_queue(scene: &mut Scene) -> Played {
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(scene.client()?);
    }
    let mut upstream = scene.request_on_new_upstream(&mut clients[0], GET)?;
    for client in &mut clients[1..] {
        scene.send(client, GET)?;
    }
    scene.respond(&mut upstream, &mut clients[0], OK)?;
    for client in &mut clients[1..] {
        upstream.read_message()?;
        scene.proxy.settle();
        scene.respond(&mut upstream, client, OK)?;
    }
    for client in &mut clients {
        scene.finish(client)?;
    }
    clients.push(upstream);
    Ok(clients)
}

fn answered_by_proxy(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    client.send(GET)?;
    client.read_message()?;
    scene.proxy.settle();
    scene.finish(&mut client)?;
    Ok(vec![client])
}

fn upstream_idle_close(scene: &mut Scene) -> Played {
    let (mut client, upstream) = scene.after_a_request()?;
    drop(upstream);
    scene.proxy.settle();
    let mut upstream = scene.request_on_new_upstream(&mut client, GET)?;
    scene.respond(&mut upstream, &mut client, OK)?;
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn upstream_close_mid_response(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    let mut upstream = scene.request_on_new_upstream(&mut client, GET)?;
    scene.send(&mut upstream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")?;
    drop(upstream);
    client.read_to_end()?;
    scene.proxy.settle();
    scene.finish(&mut client)?;
    Ok(vec![client])
}

fn early_response(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    client.send("POST / HTTP/1.1\r\nhost: legate.test\r\ncontent-length: 100\r\n\r\npart")?;
    let mut upstream = scene.upstream.accept()?;
    upstream.read_until("part")?;
    scene.proxy.settle();
    upstream.send(OK)?;
    client.read_message()?;
    scene.proxy.settle();
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn client_reset(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    let mut upstream = scene.request_on_new_upstream(&mut client, GET)?;
    client.reset()?;
    upstream.read_to_end()?;
    scene.proxy.settle();
    Ok(vec![upstream])
}

fn route_timeout(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    let mut upstream = scene.request_on_new_upstream(&mut client, GET)?;
    client.read_message()?;
    upstream.read_to_end()?;
    scene.proxy.settle();
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn connection_close(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    let request = "GET / HTTP/1.1\r\nhost: legate.test\r\nconnection: close\r\n\r\n";
    let mut upstream = scene.request_on_new_upstream(&mut client, request)?;
    scene.respond(&mut upstream, &mut client, OK)?;
    client.read_to_end()?;
    drop(client);
    scene.proxy.settle();
    let mut client = scene.client()?;
    scene.request(&mut client, &mut upstream, GET)?;
    let response = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    scene.respond(&mut upstream, &mut client, response)?;
    upstream.read_to_end()?;
    scene.finish(&mut client)?;
    // The proxy answers this one itself.
    let mut refused = scene.client()?;
    refused.send("GET / HTTP/1.1\r\n\r\n")?;
    refused.read_to_end()?;
    drop(refused);
    scene.proxy.settle();
    Ok(vec![client, upstream])
}

fn head_request(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    let request = GET.replacen("GET", "HEAD", 1);
    let mut upstream = scene.request_on_new_upstream(&mut client, &request)?;
    scene.send(&mut upstream, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")?;
    client.read_until("\r\n\r\n")?;
    scene.proxy.settle();
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn expect_continue(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    client
        .send("POST / HTTP/1.1\r\nhost: legate.test\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")?;
    client.read_message()?;
    scene.proxy.settle();
    let mut upstream = scene.request_on_new_upstream(&mut client, "first")?;
    scene.respond(&mut upstream, &mut client, OK)?;
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn trailers(scene: &mut Scene) -> Played {
    const BODY: &str = "transfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n0\r\nx-end: yes\r\n\r\n";
    let mut client = scene.client()?;
    client.send(&format!("POST / HTTP/1.1\r\nhost: legate.test\r\n{BODY}"))?;
    let mut upstream = scene.upstream.accept()?;
    upstream.read_until("x-end: yes\r\n\r\n")?;
    scene.proxy.settle();
    upstream.send(&format!("HTTP/1.1 200 OK\r\n{BODY}"))?;
    client.read_until("x-end: yes\r\n\r\n")?;
    scene.proxy.settle();
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn reset_behind_response(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    let upstream = scene.request_on_new_upstream(&mut client, GET)?;
    scene.send_and_reset(upstream, OK)?;
    client.read_message()?;
    scene.proxy.settle();
    let mut upstream = scene.request_on_new_upstream(&mut client, GET)?;
    scene.respond(&mut upstream, &mut client, OK)?;
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn reset_behind_half_request(scene: &mut Scene) -> Played {
    let client = scene.client()?;
    scene
        .send_and_reset(client, "POST / HTTP/1.1\r\nhost: legate.test\r\ncontent-length: 100\r\n\r\npart")?;
    Ok(Vec::new())
}

fn stray_crlf(scene: &mut Scene) -> Played {
    let (mut client, mut upstream) = scene.after_a_request()?;
    scene.send(&mut client, "\r")?;
    scene.send(&mut client, "\n")?;
    scene.request(&mut client, &mut upstream, GET)?;
    scene.respond(&mut upstream, &mut client, OK)?;
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn bad_request(scene: &mut Scene) -> Played {
    refused(scene, "GET / HTTP/1.1\r\nno field\r\n\r\n")
}

fn http10(scene: &mut Scene) -> Played {
    refused(scene, "GET / HTTP/1.0\r\nhost: legate.test\r\n\r\n")
}

/// The proxy answers and closes.
fn refused(scene: &mut Scene, request: &str) -> Played {
    let mut client = scene.client()?;
    client.send(request)?;
    client.read_to_end()?;
    scene.proxy.settle();
    Ok(vec![client])
}

fn max_requests_per_connection(scene: &mut Scene) -> Played {
    let (mut client, mut upstream) = scene.after_a_request()?;
    scene.request(&mut client, &mut upstream, GET)?;
    scene.respond(&mut upstream, &mut client, OK)?;
    upstream.read_to_end()?;
    let mut upstream = scene.request_on_new_upstream(&mut client, GET)?;
    scene.respond(&mut upstream, &mut client, OK)?;
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn drain(scene: &mut Scene) -> Played {
    let (mut client, mut upstream) = scene.after_a_request()?;
    scene.proxy.admin("POST", "/healthcheck/fail")?;
    scene.proxy.settle();
    scene.request(&mut client, &mut upstream, GET)?;
    scene.respond(&mut upstream, &mut client, OK)?;
    client.read_to_end()?;
    drop(client);
    scene.proxy.settle();
    let mut client = scene.client()?;
    scene.request(&mut client, &mut upstream, GET)?;
    scene.proxy.terminate()?;
    client.read_to_end()?;
    Ok(vec![client, upstream])
}

fn two_workers(scene: &mut Scene) -> Played {
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(scene.client()?);
    }
    for client in &mut clients {
        // A connection to the upstream for each request, so that it does not matter which worker has it.
        let mut upstream = scene.request_on_new_upstream(client, GET)?;
        let response = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
        scene.respond(&mut upstream, client, response)?;
    }
    for client in &mut clients {
        scene.finish(client)?;
    }
    Ok(clients)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for (index, scenario) in all().enumerate() {
            assert!(all().take(index).all(|s| s.name != scenario.name), "{} twice", scenario.name);
            assert_eq!(named(scenario.name).map(|s| s.about), Some(scenario.about));
        }
        assert!(named("nothing").is_none());
    }
}
