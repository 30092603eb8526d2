//! The scenarios of HTTP filters, and of requests that want a tunnel; recorded with other players as those of traffic.rs.

use std::error::Error;

use serde_json::{Value, json};

use super::traffic::{THERE, answered_by_proxy, answered_by_upstream};
use super::{Played, Scenario, Scene};
use crate::bootstrap::Bootstrap;
use crate::players::Peer;

pub(super) const SCENARIOS: &[Scenario] = &[
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
        name: "fault-delay-and-abort",
        about: "the fault filter delays each request by 0.3 s, and answers it with 503",
        configure: |bootstrap| {
            let always = json!({"numerator": 100});
            let delay = json!({"fixed_delay": "0.3s", "percentage": always});
            fault(bootstrap, &json!({"delay": delay, "abort": {"http_status": 503, "percentage": always}}));
        },
        play: |scene| answered_by_proxy(scene, "/"),
        ..THERE
    },
    Scenario {
        name: "fault-client-leaves",
        about: "the client leaves while the fault filter delays its request",
        configure: |bootstrap| {
            fault(bootstrap, &json!({"delay": {"fixed_delay": "0.6s", "percentage": {"numerator": 100}}}));
        },
        play: |scene| {
            let mut client = scene.client()?;
            scene.send(&mut client, &scene.get("/"))?;
            scene.finish(&mut client)?;
            Ok(vec![client])
        },
        ..THERE
    },
    Scenario {
        name: "cors",
        about: "a page asks whether it may, then asks; then one that may not",
        configure: |bootstrap| {
            let policy = json!({
                "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
                "allow_origin_string_match": [{"exact": "http://good.test"}],
                "allow_methods": "GET, POST", "allow_headers": "x-a", "max_age": "60",
            });
            let cluster = bootstrap.cluster_name();
            bootstrap.set_routes(&json!([{"match": {"prefix": "/"}, "route": {"cluster": cluster},
                "typed_per_filter_config": {CORS: policy}}]));
            let filter = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"});
            bootstrap.add_filter(CORS, &filter);
        },
        play: cors,
        ..THERE
    },
    Scenario {
        name: "buffer",
        about: "the buffer filter keeps a POST in two chunks until it is complete",
        configure: buffer,
        play: buffered,
        ..THERE
    },
    Scenario {
        name: "buffer-too-large",
        about: "the buffer filter refuses a POST of 40 bytes where 20 may be kept",
        configure: buffer,
        play: too_large,
        ..THERE
    },
    Scenario {
        name: "health-check",
        about: "the health check filter answers in the upstream's place; then it lets a request pass",
        configure: |bootstrap| {
            let config = json!({
                "@type": "type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck",
                "pass_through_mode": false,
                "headers": [{"name": ":path", "string_match": {"exact": "/healthz"}}],
            });
            bootstrap.add_filter("envoy.filters.http.health_check", &config);
        },
        play: health_check,
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
    Scenario {
        name: "websocket-refused",
        about: "a client asks for a WebSocket where none is configured",
        play: |scene| {
            let mut client = scene.client()?;
            client.send(&scene.head("GET", "/ws", "connection: Upgrade\r\nupgrade: websocket\r\n"))?;
            client.read_message()?;
            scene.proxy.settle();
            scene.finish(&mut client)?;
            Ok(vec![client])
        },
        ..THERE
    },
    Scenario {
        name: "connect-refused",
        about: "a client asks for a tunnel with CONNECT where none is configured",
        play: |scene| {
            let mut client = scene.client()?;
            let host = scene.host;
            client.send(&format!("CONNECT {host}:443 HTTP/1.1\r\nhost: {host}:443\r\n\r\n"))?;
            client.read_message()?;
            scene.proxy.settle();
            scene.finish(&mut client)?;
            Ok(vec![client])
        },
        ..THERE
    },
    Scenario {
        name: "connect-terminated",
        about: "a tunnel asked for with CONNECT ends here: two messages go either way over a raw connection",
        configure: |bootstrap| {
            bootstrap.set_connection_manager("upgrade_configs", &json!([{"upgrade_type": "CONNECT"}]));
            let cluster = bootstrap.cluster_name();
            let ends = json!([{"upgrade_type": "CONNECT", "connect_config": {}}]);
            bootstrap.set_routes(&json!([{"match": {"connect_matcher": {}},
                "route": {"cluster": cluster, "upgrade_configs": ends}}]));
        },
        play: connect_terminated,
        ..THERE
    },
];

const CORS: &str = "envoy.filters.http.cors";

fn buffer(bootstrap: &mut Bootstrap) {
    let config = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer", "max_request_bytes": 20});
    bootstrap.add_filter("envoy.filters.http.buffer", &config);
}

fn fault(bootstrap: &mut Bootstrap, config: &Value) {
    let mut config = config.clone();
    config["@type"] = json!("type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault");
    bootstrap.add_filter("envoy.filters.http.fault", &config);
}

fn cors(scene: &mut Scene) -> Played {
    let good = "origin: http://good.test\r\n";
    let mut client = scene.client()?;
    let asks = format!("{good}access-control-request-method: GET\r\n");
    client.send(&scene.head("OPTIONS", "/", &asks))?;
    client.read_message()?;
    scene.proxy.settle();
    let mut upstream = scene.request_on_new_upstream(&mut client, &scene.head("GET", "/", good))?;
    scene.say_hello(&mut upstream, &mut client)?;
    scene.request(&mut client, &mut upstream, &scene.head("GET", "/", "origin: http://bad.test\r\n"))?;
    scene.say_hello(&mut upstream, &mut client)?;
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn buffered(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    scene.send(&mut client, &scene.head("POST", "/post", "transfer-encoding: chunked\r\n"))?;
    scene.send(&mut client, "5\r\nfirst\r\n")?;
    scene.send(&mut client, "7\r\nseconds\r\n")?;
    let mut upstream = scene.request_on_new_upstream(&mut client, "0\r\n\r\n")?;
    scene.say_hello(&mut upstream, &mut client)?;
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn too_large(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    scene.send(&mut client, &scene.head("POST", "/post", "content-length: 40\r\n"))?;
    scene.send(&mut client, &"x".repeat(15))?;
    client.send(&"x".repeat(25))?;
    client.read_message()?;
    scene.proxy.settle();
    scene.finish(&mut client)?;
    Ok(vec![client])
}

fn health_check(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    client.send(&scene.get("/healthz"))?;
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
    say_and_echo(scene, &mut client, &mut upstream)?;
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn connect_terminated(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    let host = scene.host;
    client.send(&format!("CONNECT {host}:443 HTTP/1.1\r\nhost: {host}:443\r\n\r\n"))?;
    let mut upstream = scene.upstream.accept()?;
    client.read_until("\r\n\r\n")?;
    scene.proxy.settle();
    say_and_echo(scene, &mut client, &mut upstream)?;
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

/// Two messages, each with its answer.
fn say_and_echo(scene: &Scene, client: &mut Peer, upstream: &mut Peer) -> Result<(), Box<dyn Error>> {
    for (message, echo) in [("hello", "HELLO"), ("again", "AGAIN")] {
        client.send(message)?;
        upstream.read_until(message)?;
        scene.proxy.settle();
        upstream.send(echo)?;
        client.read_until(echo)?;
        scene.proxy.settle();
    }
    Ok(())
}
