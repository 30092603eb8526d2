//! The scenarios of limits: circuit breakers, and what ends in time; recorded with other players as those of traffic.rs.

use serde_json::json;

use super::traffic::{THERE, answer, answered_by_proxy, retry_on};
use super::{Played, Scenario, Scene};
use crate::bootstrap::Bootstrap;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "max-pending-requests",
        about: "a request where none may wait for a connection",
        configure: |bootstrap| breaker(bootstrap, "max_pending_requests", 0),
        play: |scene| answered_by_proxy(scene, "/"),
        ..THERE
    },
    Scenario {
        name: "max-requests",
        about: "two requests at once where one may be",
        configure: |bootstrap| breaker(bootstrap, "max_requests", 1),
        play: max_requests,
        ..THERE
    },
    Scenario {
        name: "max-retries",
        about: "a response 503 where no retry may be",
        configure: |bootstrap| {
            breaker(bootstrap, "max_retries", 0);
            bootstrap.set_route("retry_policy", &retry_on("5xx"));
        },
        play: |scene| {
            let mut client = scene.client()?;
            let mut upstream = scene.request_on_new_upstream(&mut client, &scene.get("/"))?;
            scene.respond(&mut upstream, &mut client, &answer(503, "bad\n"))?;
            scene.finish(&mut client)?;
            Ok(vec![client, upstream])
        },
        ..THERE
    },
    Scenario {
        name: "route-timeout-mid-response",
        about: "the upstream stops in the middle of a response, until the route's 0.5 s are over",
        configure: |bootstrap| bootstrap.set_route("timeout", &json!("0.5s")),
        play: route_timeout_mid_response,
        ..THERE
    },
    Scenario {
        name: "idle-timeout",
        about: "a client that asks for nothing more for 0.6 s; its connection drains for 0.3 s",
        configure: |bootstrap| {
            let options = json!({"idle_timeout": "0.6s"});
            bootstrap.set_connection_manager("common_http_protocol_options", &options);
            bootstrap.set_connection_manager("drain_timeout", &json!("0.3s"));
        },
        play: idle_timeout,
        ..THERE
    },
    Scenario {
        name: "request-timeout",
        about: "a client does not send all of its request within 0.5 s",
        configure: |bootstrap| bootstrap.set_connection_manager("request_timeout", &json!("0.5s")),
        play: request_timeout,
        ..THERE
    },
    Scenario {
        name: "stream-idle-timeout",
        about: "nothing moves on a stream for 0.5 s, as the upstream does not answer",
        configure: |bootstrap| bootstrap.set_connection_manager("stream_idle_timeout", &json!("0.5s")),
        play: stream_idle_timeout,
        ..THERE
    },
    Scenario {
        name: "upstream-idle-timeout",
        about: "a connection to the upstream has had no request for 0.5 s; then comes one",
        configure: |bootstrap| bootstrap.set_upstream_http("idle_timeout", &json!("0.5s")),
        play: upstream_idle_timeout,
        ..THERE
    },
];

fn breaker(bootstrap: &mut Bootstrap, limit: &str, value: u32) {
    bootstrap.set_cluster("circuit_breakers", &json!({"thresholds": [{limit: value}]}));
}

fn max_requests(scene: &mut Scene) -> Played {
    let mut clients = [scene.client()?, scene.client()?];
    let mut upstream = scene.request_on_new_upstream(&mut clients[0], &scene.get("/1"))?;
    clients[1].send(&scene.get("/2"))?;
    clients[1].read_message()?;
    scene.proxy.settle();
    scene.say_hello(&mut upstream, &mut clients[0])?;
    for client in &mut clients {
        scene.finish(client)?;
    }
    Ok(clients.into_iter().chain([upstream]).collect())
}

fn route_timeout_mid_response(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    let mut upstream = scene.request_on_new_upstream(&mut client, &scene.get("/"))?;
    scene.send(
        &mut upstream,
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 20\r\n\r\nhello",
    )?;
    client.read_to_end()?;
    upstream.read_to_end()?;
    scene.proxy.settle();
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn idle_timeout(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    let mut upstream = scene.request_on_new_upstream(&mut client, &scene.get("/"))?;
    scene.say_hello(&mut upstream, &mut client)?;
    client.read_to_end()?;
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn request_timeout(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    client.send(&(scene.head("POST", "/", "content-length: 9\r\n") + "abc"))?;
    let mut upstream = scene.upstream.accept()?;
    upstream.read_until("abc")?;
    client.read_message()?;
    upstream.read_to_end()?;
    scene.proxy.settle();
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn stream_idle_timeout(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    let mut upstream = scene.request_on_new_upstream(&mut client, &scene.get("/"))?;
    client.read_message()?;
    upstream.read_to_end()?;
    scene.proxy.settle();
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn upstream_idle_timeout(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    let mut idle = scene.request_on_new_upstream(&mut client, &scene.get("/"))?;
    scene.say_hello(&mut idle, &mut client)?;
    idle.read_to_end()?;
    scene.proxy.settle();
    let mut upstream = scene.request_on_new_upstream(&mut client, &scene.get("/2"))?;
    scene.say_hello(&mut upstream, &mut client)?;
    scene.finish(&mut client)?;
    upstream.read_to_end()?;
    scene.proxy.settle();
    Ok(vec![client, idle, upstream])
}
