//! Streams that become another protocol.

use super::get;
use crate::harness::{Action, Case, Pairs, Step, run};
use serde_json::{Value, json};

const ASK: &str = "connection: Upgrade\r\nupgrade: websocket\r\n";
const GRANT: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";

fn websocket() -> Value {
    json!({"upgrade_configs": [{"upgrade_type": "websocket"}]})
}

fn script(actions: &[Action]) -> [Vec<Action>; 1] {
    [actions.to_vec()]
}

#[test]
fn websockets() {
    let granted = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n{DS}\r\n";
    let asked = "GET /x HTTP/1.1\r\nhost: a.test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n{X}\r\n";
    run(vec![
        Case::new("data goes both ways, and the upstream ends it")
            .hcm(websocket())
            .send(get(ASK))
            .scripts(script(&[
                Action::Head,
                Action::Send(format!("{GRANT}hello").into()),
                Action::Until(b"ping".to_vec()),
                Action::Send(b"pong".to_vec()),
                Action::ClientHas(b"pong".to_vec()),
                Action::Close,
            ]))
            .then(Step::Has(b"hello".to_vec()))
            .send("ping")
            .reply(format!("{granted}hellopong"))
            .reaches(format!("{asked}ping"))
            .closed(),
        Case::new("the client ends it")
            .hcm(websocket())
            .send(get(ASK))
            .scripts(script(&[Action::Head, Action::Send(GRANT.into())]))
            .then(Step::Has(b"101".to_vec()))
            .then(Step::Stat("http.{}.downstream_cx_upgrades_active", 1))
            .then(Step::FinishWriting)
            .then(Step::UpstreamClosed(1))
            .then(Step::Stat("http.{}.downstream_cx_upgrades_active", 0))
            .then(Step::Stat("http.{}.downstream_cx_upgrades_total", 1))
            .reply(granted)
            .reaches(asked)
            .closed(),
        Case::new("what comes before the answer waits for it")
            .hcm(websocket())
            .send([get(ASK), b"early".to_vec()].concat())
            .scripts(script(&[
                Action::Head,
                Action::Send(GRANT.into()),
                Action::Until(b"early".to_vec()),
                Action::Close,
            ]))
            .reply(granted)
            .reaches(format!("{asked}early"))
            .closed()
            .log("101 UC upstream_reset_after_response_started{connection_termination}"),
        Case::new("an answer that is no answer to that")
            .hcm(websocket())
            .send(get(ASK))
            .answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno")
            .reply("HTTP/1.1 200 OK\r\n{DS}connection: close\r\ncontent-length: 0\r\n\r\n")
            .reaches(asked)
            .closed()
            .log("200 - websocket_handshake_unsuccessful"),
        Case::new("a refusal")
            .hcm(websocket())
            .send([get(ASK), b"early".to_vec()].concat())
            .answer("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")
            .reply("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n{DS}connection: close\r\n\r\nno")
            .reaches(asked)
            .closed()
            .log("403 - via_upstream"),
        Case::new("a 101 that changes nothing")
            .hcm(websocket())
            .send(get(ASK))
            .answer("HTTP/1.1 101 Switching Protocols\r\n\r\n")
            .reply("HTTP/1.1 101 Switching Protocols\r\n{DS}connection: close\r\n\r\n")
            .reaches(asked)
            .closed(),
        Case::new("another protocol")
            .hcm(json!({"upgrade_configs": [{"upgrade_type": "other"}]}))
            .send("GET /x HTTP/1.1\r\nhost: a.test\r\nconnection: Upgrade\r\nupgrade: other\r\n\r\nearly")
            .scripts(script(&[
                Action::Head,
                Action::Send(GRANT.into()),
                Action::Until(b"early".to_vec()),
                Action::Close,
            ]))
            .reply(granted)
            .reaches(
                "GET /x HTTP/1.1\r\nhost: a.test\r\nconnection: Upgrade\r\nupgrade: other\r\n{X}\r\nearly",
            )
            .closed(),
        Case::new("another protocol, and an answer that is like any other")
            .hcm(json!({"upgrade_configs": [{"upgrade_type": "other"}]}))
            .send("GET /x HTTP/1.1\r\nhost: a.test\r\nconnection: Upgrade\r\nupgrade: other\r\n\r\n")
            .answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno")
            .reply("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{DS}connection: close\r\n\r\nno")
            .reaches("GET /x HTTP/1.1\r\nhost: a.test\r\nconnection: Upgrade\r\nupgrade: other\r\n{X}\r\n")
            .closed(),
    ]);
}

#[test]
fn who_lets_upgrades_through() {
    let to = |prefix: &str, upgrades: Value| json!({"match": {"prefix": prefix}, "route": {"cluster": "case1", "upgrade_configs": upgrades}});
    let route_config = json!({"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
        to("/on", json!([{"upgrade_type": "WebSocket"}])),
        to("/off", json!([{"upgrade_type": "websocket", "enabled": false}, {"upgrade_type": "other"}])),
        {"match": {"prefix": "/direct"}, "direct_response": {"status": 200, "body": {"inline_string": "d"}}},
        to("/", json!([])),
    ]}]});
    let own_filters = json!([{"name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router", "suppress_envoy_headers": true}}]);
    for upgrades in [
        json!([]),
        json!([{"upgrade_type": "websocket"}]),
        json!([{"upgrade_type": "websocket", "enabled": false}]),
        json!([{"upgrade_type": "websocket", "filters": own_filters}, {"upgrade_type": "other", "enabled": true}]),
    ] {
        let config = json!({"route_config": route_config.clone(), "upgrade_configs": upgrades});
        let mut pairs = Pairs::new(config).answer("HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno");
        for path in ["/on", "/off", "/", "/direct"] {
            for upgrade in ["websocket", "WEBSOCKET", "other", "h2c", "unknown"] {
                pairs = pairs.raw(format!(
                    "GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close, Upgrade\r\nupgrade: {upgrade}\r\n\r\n"
                ));
            }
        }
        pairs.run();
    }
}

#[test]
fn connects() {
    let config = || {
        json!({
            "upgrade_configs": [{"upgrade_type": "CONNECT"}],
            "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
                {"match": {"connect_matcher": {}}, "route": {"cluster": "case0"}}]}]},
        })
    };
    let asked = "CONNECT h:80 HTTP/1.1\r\nhost: h:80\r\n{X}\r\n";
    let case = |name: &str, index: usize| {
        let mut config = config();
        config["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["cluster"] =
            format!("case{index}").into();
        Case::new(name).hcm(config).send("CONNECT h:80 HTTP/1.1\r\nhost: h:80\r\n\r\nearly")
    };
    run(vec![
        case("data goes both ways", 0)
            .scripts(script(&[
                Action::Head,
                Action::Send(b"HTTP/1.1 200 OK\r\n\r\nhello".to_vec()),
                Action::Until(b"ping".to_vec()),
                Action::Send(b"pong".to_vec()),
                Action::ClientHas(b"pong".to_vec()),
                Action::Close,
            ]))
            .then(Step::Has(b"hello".to_vec()))
            .send("ping")
            .reply("HTTP/1.1 200 OK\r\n{DS}\r\nhellopong")
            .reaches(format!("{asked}earlyping"))
            .closed(),
        case("a length that means nothing", 1)
            .scripts(script(&[
                Action::Head,
                Action::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhello".to_vec()),
                Action::Until(b"early".to_vec()),
                Action::ClientHas(b"hello".to_vec()),
                Action::Close,
            ]))
            .reply("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{DS}\r\nhello")
            .reaches(format!("{asked}early"))
            .closed(),
        case("a refusal", 2)
            .answer("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")
            .reply("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n{DS}connection: close\r\n\r\nno")
            .reaches(asked)
            .closed()
            .log("403 - via_upstream"),
        Case::new("none that is let through")
            .hcm(json!({"route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
                {"match": {"connect_matcher": {}}, "route": {"cluster": "case0"}}]}]}}))
            .send("CONNECT h:80 HTTP/1.1\r\nhost: h:80\r\n\r\n")
            .reply("HTTP/1.1 403 Forbidden\r\n{DS}connection: close\r\ncontent-length: 0\r\n\r\n")
            .closed()
            .log("403 - upgrade_failed"),
    ]);
}
