//! The scenarios of traffic control: retries, mirrors, redirects, filters and tunnels. Envoy 1.1 was recorded with other players,
//! whose requests and responses these are, to the byte.

use serde_json::{Value, json};

use super::{Played, Recorded, Scenario, Scene, Step, USUAL};
use crate::players::{Peer, UpstreamKind, accept_at_any};

const THERE: Scenario = Scenario { recorded: Recorded::Elsewhere, ..USUAL };

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "retry",
        about: "two upstreams, the second of which answers 503; the request is tried again at the first",
        others: &[UpstreamKind::Listening],
        configure: |bootstrap| {
            bootstrap.add_endpoints(1);
            bootstrap.set_route("retry_policy", &retry_on("5xx"));
        },
        play: retry,
        ..THERE
    },
    Scenario {
        name: "retry-connect-failure",
        about: "two upstreams, of which the first refuses; the request is tried again at the second, twice",
        upstream: UpstreamKind::Refusing,
        others: &[UpstreamKind::Listening],
        configure: |bootstrap| {
            // The first one has its turn first, whatever a random number says; and it has no other one at once.
            bootstrap.add_endpoints(100);
            let mut policy = retry_on("connect-failure");
            policy["host_selection_retry_max_attempts"] = json!(1000);
            policy["retry_host_predicate"] = json!([{
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
            }]);
            bootstrap.set_route("retry_policy", &policy);
        },
        play: retry_connect_failure,
        ..THERE
    },
    Scenario {
        name: "per-try-timeout",
        about: "the upstream does not answer within the 0.4 s of a try; the request is tried again",
        configure: |bootstrap| {
            let mut policy = retry_on("5xx");
            policy["per_try_timeout"] = json!("0.4s");
            bootstrap.set_route("timeout", &json!("3s"));
            bootstrap.set_route("retry_policy", &policy);
        },
        play: per_try_timeout,
        ..THERE
    },
    Scenario {
        name: "mirror",
        about: "a GET and a POST that are sent to another upstream, too, whose answers are thrown away",
        others: &[UpstreamKind::Listening],
        configure: |bootstrap| {
            bootstrap.add_cluster("shadow");
            bootstrap.set_route("request_mirror_policies", &json!([{"cluster": "shadow"}]));
        },
        play: mirror,
        ..THERE
    },
    Scenario {
        name: "redirect",
        about: "a route that sends the client elsewhere; then one to the upstream",
        configure: |bootstrap| {
            let elsewhere =
                json!({"host_redirect": "new.test", "path_redirect": "/new", "response_code": "FOUND"});
            let action = json!({"cluster": bootstrap.cluster_name()});
            bootstrap.set_routes(&json!([
                {"match": {"prefix": "/old"}, "redirect": elsewhere},
                {"match": {"prefix": "/"}, "route": action},
            ]));
        },
        play: redirect,
        ..THERE
    },
    Scenario {
        name: "fault-abort",
        about: "the fault filter answers each request with 418",
        configure: |bootstrap| {
            fault(bootstrap, &json!({"abort": {"http_status": 418, "percentage": {"numerator": 100}}}))
        },
        play: |scene| answered_by_proxy(scene, "/"),
        ..THERE
    },
    Scenario {
        name: "fault-delay",
        about: "the fault filter delays each request by 0.5 s",
        configure: |bootstrap| {
            fault(bootstrap, &json!({"delay": {"fixed_delay": "0.5s", "percentage": {"numerator": 100}}}));
        },
        play: |scene| answered_by_upstream(scene, "/"),
        ..THERE
    },
    Scenario {
        name: "websocket",
        about: "a WebSocket on which two messages go either way, until the client closes",
        configure: |bootstrap| {
            bootstrap.set_connection_manager("upgrade_configs", &json!([{"upgrade_type": "websocket"}]));
        },
        play: websocket,
        ..THERE
    },
];

fn fault(bootstrap: &mut crate::bootstrap::Bootstrap, config: &Value) {
    let mut config = config.clone();
    config["@type"] = json!("type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault");
    bootstrap.add_filter("envoy.filters.http.fault", &config);
}

/// A policy with hardly a pause.
fn retry_on(words: &str) -> Value {
    let quick = json!({"base_interval": "0.001s", "max_interval": "0.001s"});
    json!({"retry_on": words, "num_retries": 1, "retry_back_off": quick})
}

fn answer(status: u16, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} -\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n{body}")
}

impl Scene<'_> {
    /// A request's head, with more fields behind those that all have.
    fn head(&self, method: &str, path: &str, more: &str) -> String {
        let host = self.host;
        format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: refclient\r\naccept: */*\r\n{more}\r\n"
        )
    }

    fn get(&self, path: &str) -> String {
        self.head("GET", path, "")
    }

    /// Sends a request that brings a connection to whichever upstream.
    fn request_on_any_upstream(
        &self,
        client: &mut Peer,
        request: &str,
    ) -> Result<Peer, Box<dyn std::error::Error>> {
        client.send(request)?;
        let mut upstream = accept_at_any(self.others.iter().chain([self.upstream]))?;
        upstream.read_message()?;
        self.proxy.settle();
        Ok(upstream)
    }

    /// Has the upstream say 200, which the client gets.
    fn say_hello(&self, upstream: &mut Peer, client: &mut Peer) -> Step {
        self.respond(upstream, client, &answer(200, "hello\n"))
    }
}

fn answered_by_proxy(scene: &mut Scene, path: &str) -> Played {
    let mut client = scene.client()?;
    client.send(&scene.get(path))?;
    client.read_message()?;
    scene.proxy.settle();
    scene.finish(&mut client)?;
    Ok(vec![client])
}

fn answered_by_upstream(scene: &mut Scene, path: &str) -> Played {
    let mut client = scene.client()?;
    let mut upstream = scene.request_on_new_upstream(&mut client, &scene.get(path))?;
    scene.say_hello(&mut upstream, &mut client)?;
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn retry(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    let mut good = scene.request_on_any_upstream(&mut client, &scene.get("/a"))?;
    scene.say_hello(&mut good, &mut client)?;
    let mut bad = scene.request_on_any_upstream(&mut client, &scene.get("/b"))?;
    bad.send(&answer(503, "bad\n"))?;
    good.read_message()?;
    scene.proxy.settle();
    scene.say_hello(&mut good, &mut client)?;
    scene.finish(&mut client)?;
    Ok(vec![client, good, bad])
}

fn retry_connect_failure(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    client.send(&scene.get("/a"))?;
    let mut upstream = scene.others[0].accept()?;
    upstream.read_message()?;
    scene.proxy.settle();
    scene.say_hello(&mut upstream, &mut client)?;
    scene.request(&mut client, &mut upstream, &scene.get("/b"))?;
    scene.say_hello(&mut upstream, &mut client)?;
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn per_try_timeout(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    let mut late = scene.request_on_new_upstream(&mut client, &scene.get("/"))?;
    let mut upstream = scene.upstream.accept()?;
    late.read_to_end()?;
    upstream.read_message()?;
    scene.proxy.settle();
    scene.say_hello(&mut upstream, &mut client)?;
    scene.finish(&mut client)?;
    Ok(vec![client, late, upstream])
}

fn mirror(scene: &mut Scene) -> Played {
    let thrown_away = answer(200, "shadow\n");
    let mut client = scene.client()?;
    client.send(&scene.get("/a"))?;
    let mut upstream = scene.upstream.accept()?;
    let mut shadow = scene.others[0].accept()?;
    upstream.read_message()?;
    shadow.read_message()?;
    scene.proxy.settle();
    scene.send(&mut shadow, &thrown_away)?;
    scene.say_hello(&mut upstream, &mut client)?;
    client.send(&(scene.head("POST", "/b", "content-length: 5\r\n") + "first"))?;
    upstream.read_message()?;
    shadow.read_message()?;
    scene.proxy.settle();
    scene.send(&mut shadow, &thrown_away)?;
    scene.say_hello(&mut upstream, &mut client)?;
    scene.finish(&mut client)?;
    Ok(vec![client, upstream, shadow])
}

fn redirect(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    client.send(&scene.get("/old"))?;
    client.read_message()?;
    scene.proxy.settle();
    let mut upstream = scene.request_on_new_upstream(&mut client, &scene.get("/x"))?;
    scene.say_hello(&mut upstream, &mut client)?;
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

const WEBSOCKET: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZQ==\r\nsec-websocket-version: 13\r\n";

fn websocket(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    let request = scene.head("GET", "/ws", WEBSOCKET);
    let mut upstream = scene.request_on_new_upstream(&mut client, &request)?;
    let accepted = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: x\r\n\r\n";
    scene.respond(&mut upstream, &mut client, accepted)?;
    for (message, echo) in [("hello", "HELLO"), ("again", "AGAIN")] {
        client.send(message)?;
        upstream.read_until(message)?;
        scene.proxy.settle();
        upstream.send(echo)?;
        client.read_until(echo)?;
        scene.proxy.settle();
    }
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}
