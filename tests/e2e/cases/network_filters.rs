//! Network filters that need no upstream, and those in front of others.

use crate::harness::{Case, Step, Wire, run};
use crate::harness::{Site, proxies};
use serde_json::{Value, json};

fn filter(name: &str, message: &str, config: Value) -> Value {
    let mut config = config;
    config["@type"] = format!("type.googleapis.com/envoy.extensions.filters.network.{message}").into();
    json!({"name": format!("envoy.filters.network.{name}"), "typed_config": config})
}

fn case(name: &str, filters: Value) -> Case {
    Case::new(name).listener(json!({"filter_chains": [{"filters": filters}]}))
}

fn echo() -> Value {
    filter("echo", "echo.v3.Echo", json!({}))
}

fn limited(config: Value) -> Value {
    json!([filter("connection_limit", "connection_limit.v3.ConnectionLimit", config), echo()])
}

#[test]
fn without_an_upstream() {
    let direct = |response: Value| json!([filter("direct_response", "direct_response.v3.Config", response)]);
    run(vec![
        case("echo", json!([echo()]))
            .send("hello")
            .then(Step::Has(b"hello".to_vec()))
            .send(" again")
            // Of an end that comes with the last bytes Envoy 1.40 loses those.
            .then(Step::Has(b"hello again".to_vec()))
            .then(Step::FinishWriting)
            .reply("hello again")
            .closed(),
        case("a text for everybody", direct(json!({"response": {"inline_string": "go away"}})))
            .reply("go away")
            .closed(),
        case("nothing for everybody", direct(json!({}))).reply("").closed(),
    ]);
}

#[test]
fn connection_limits() {
    for kind in proxies() {
        let cases = [
            case("two", limited(json!({"stat_prefix": "two", "max_connections": 2}))),
            case("later", limited(json!({"stat_prefix": "later", "max_connections": 1, "delay": "0.2s"}))),
            case(
                "off",
                limited(json!({"stat_prefix": "off", "max_connections": 1,
                    "runtime_enabled": {"default_value": false, "runtime_key": "off"}})),
            ),
        ];
        let site = Site::start(kind, &cases.each_ref());
        let echoes = |wire: &mut Wire| {
            wire.send("x");
            wire.take(1)
        };
        let stat = |name: &str, value: u64| {
            let outcome = site.proxy.admin.wait_for_stat(&format!("connection_limit.{name}"), value);
            assert_eq!(outcome, Ok(()), "{kind:?}: {name}");
        };
        let mut open: Vec<Wire> = (0..2).map(|_| Wire::connect(site.port(0))).collect();
        for wire in &mut open {
            assert_eq!(echoes(wire), b"x", "{kind:?}");
        }
        assert_eq!(Wire::connect(site.port(0)).rest(), b"", "{kind:?}");
        stat("two.limited_connections", 1);
        stat("two.active_connections", 2);
        drop(open);
        stat("two.active_connections", 0);
        assert_eq!(echoes(&mut Wire::connect(site.port(0))), b"x", "{kind:?}");

        let mut first = Wire::connect(site.port(1));
        assert_eq!(echoes(&mut first), b"x", "{kind:?}");
        let mut late = Wire::connect(site.port(1));
        late.send("x");
        stat("later.active_connections", 2);
        assert_eq!(late.rest(), b"", "{kind:?}");
        stat("later.active_connections", 1);

        let mut open: Vec<Wire> = (0..3).map(|_| Wire::connect(site.port(2))).collect();
        assert!(open.iter_mut().all(|wire| echoes(wire) == b"x"), "{kind:?}");
        stat("off.limited_connections", 0);
    }
}

#[test]
fn rate_limits() {
    let bucket = json!({"max_tokens": 2, "fill_interval": "1000s"});
    let config = json!({"stat_prefix": "two", "token_bucket": bucket});
    let filters = json!([filter("local_ratelimit", "local_ratelimit.v3.LocalRateLimit", config), echo()]);
    for kind in proxies() {
        let case = case("two", filters.clone());
        let site = Site::start(kind, &[&case]);
        let mut said = Vec::new();
        for _ in 0..4 {
            let mut wire = Wire::connect(site.port(0));
            wire.send("x");
            said.push(wire.take(1));
        }
        let expected: [&[u8]; 4] = [b"x", b"x", b"", b""];
        assert_eq!(said, expected, "{kind:?}");
        let stat = site.proxy.admin.wait_for_stat("local_rate_limit.two.rate_limited", 2);
        assert_eq!(stat, Ok(()), "{kind:?}");
    }
}
