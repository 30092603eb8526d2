//! The scenarios of what routes do: retries, mirrors, redirects, rewriting. Envoy 1.1 was recorded with other players,
//! whose requests and responses these are, to the byte.

use serde_json::{Value, json};

use super::{Played, Recorded, Scenario, Scene, Step, USUAL};
use crate::bootstrap::Bootstrap;
use crate::players::{Peer, UpstreamKind, accept_at_any};

pub(super) const THERE: Scenario = Scenario { recorded: Recorded::Elsewhere, ..USUAL };

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
        name: "retry-post",
        about: "two upstreams, the first of which answers 503 to a POST in two pieces; it is tried again at the second",
        others: &[UpstreamKind::Listening],
        configure: |bootstrap| {
            bootstrap.add_endpoints(1);
            bootstrap.set_route("retry_policy", &retry_on("5xx"));
        },
        play: retry_post,
        ..THERE
    },
    Scenario {
        name: "hedge",
        about: "the upstream does not answer within the 0.4 s of a try, but goes on; of two tries the second answers first",
        configure: |bootstrap| {
            let mut policy = retry_on("5xx");
            policy["per_try_timeout"] = json!("0.4s");
            bootstrap.set_route("timeout", &json!("3s"));
            bootstrap.set_route("retry_policy", &policy);
            bootstrap.set_route("hedge_policy", &json!({"hedge_on_per_try_timeout": true}));
        },
        play: hedge,
        ..THERE
    },
    Scenario {
        name: "strict-dns",
        about: "a cluster whose host is looked up before the workers start, and a request to it",
        configure: |bootstrap| looked_up(bootstrap, "STRICT_DNS"),
        play: |scene| answered_by_upstream(scene, "/"),
        ..THERE
    },
    Scenario {
        name: "logical-dns",
        about: "the same of one host that stays the same when its address is another",
        configure: |bootstrap| looked_up(bootstrap, "LOGICAL_DNS"),
        play: |scene| answered_by_upstream(scene, "/"),
        ..THERE
    },
    Scenario {
        name: "host-ejected",
        about: "two upstreams in turn, of which one answers 503 twice and gets no more requests",
        others: &[UpstreamKind::Listening],
        configure: |bootstrap| {
            bootstrap.add_endpoints(1);
            let detection = json!({
                "consecutive_5xx": 2, "interval": "3600s", "base_ejection_time": "3600s", "max_ejection_time": "3600s",
                "max_ejection_percent": 100,
            });
            bootstrap.set_cluster("outlier_detection", &detection);
        },
        play: host_ejected,
        ..THERE
    },
    Scenario {
        name: "health-check-fails",
        about: "an upstream that is asked whether it is well: it fails, serves a request all the same, and recovers",
        answers_first: Some(HELLO),
        configure: |bootstrap| {
            let check = json!({
                "timeout": "0.4s", "interval": "0.5s", "no_traffic_interval": "0.5s", "unhealthy_threshold": 1,
                "healthy_threshold": 2, "http_health_check": {"path": "/hc"},
            });
            bootstrap.set_cluster("health_checks", &json!([check]));
        },
        play: health_check_fails,
        ..THERE
    },
    Scenario {
        name: "mirror-refused",
        about: "a GET that is sent to another upstream, too, which refuses",
        others: &[UpstreamKind::Refusing],
        configure: |bootstrap| {
            bootstrap.add_cluster("shadow");
            bootstrap.set_route("request_mirror_policies", &json!([{"cluster": "shadow"}]));
        },
        play: |scene| answered_by_upstream(scene, "/a"),
        ..THERE
    },
    Scenario {
        name: "internal-redirect",
        about: "the upstream sends the client elsewhere, which the proxy follows in its place",
        configure: |bootstrap| {
            // With another connection it would be up to time which of them is ready first.
            bootstrap.set_cluster("circuit_breakers", &json!({"thresholds": [{"max_connections": 1}]}));
            bootstrap.set_route("internal_redirect_policy", &json!({}));
        },
        play: internal_redirect,
        ..THERE
    },
    Scenario {
        name: "weighted",
        about: "four requests to two clusters that the route takes by their weights",
        others: &[UpstreamKind::Listening],
        configure: |bootstrap| {
            bootstrap.rename_cluster("a");
            bootstrap.add_cluster("b");
            // What chance has to choose among is for each path one.
            let to = |path: &str, weight: u32| {
                let clusters =
                    json!([{"name": "a", "weight": weight}, {"name": "b", "weight": 100 - weight}]);
                json!({"match": {"path": path}, "route": {"weighted_clusters": {"clusters": clusters}}})
            };
            bootstrap.set_routes(&json!(WEIGHTED.map(|(path, weight)| to(path, weight))));
        },
        play: weighted,
        ..THERE
    },
    Scenario {
        name: "rewrite",
        about: "a route that changes path and host; then one that does not",
        configure: |bootstrap| {
            let cluster = bootstrap.cluster_name();
            let changed =
                json!({"cluster": cluster, "prefix_rewrite": "/out", "host_rewrite_literal": "inner.test"});
            bootstrap.set_routes(&json!([
                {"match": {"prefix": "/in"}, "route": changed},
                {"match": {"prefix": "/"}, "route": {"cluster": cluster}},
            ]));
        },
        play: rewrite,
        ..THERE
    },
    Scenario {
        name: "header-rules",
        about: "a route and its virtual host that add and remove header fields",
        configure: header_rules,
        play: |scene| {
            let response = "HTTP/1.1 200 -\r\ncontent-type: text/plain\r\ncontent-length: 6\r\nx-gone: 1\r\nx-stay: 2\r\n\r\nhello\n";
            let mut client = scene.client()?;
            let request = scene.head("GET", "/", "x-drop: 1\r\nx-req-add: zero\r\n");
            let mut upstream = scene.request_on_new_upstream(&mut client, &request)?;
            scene.respond(&mut upstream, &mut client, response)?;
            scene.finish(&mut client)?;
            Ok(vec![client, upstream])
        },
        ..THERE
    },
];

const WEIGHTED: [(&str, u32); 4] = [("/1", 0), ("/2", 100), ("/3", 100), ("/4", 0)];

/// The upstream is looked up by name, once and never again.
fn looked_up(bootstrap: &mut Bootstrap, kind: &str) {
    bootstrap.set_cluster("type", &json!(kind));
    bootstrap.set_cluster("dns_lookup_family", &json!("V4_ONLY"));
    bootstrap.set_cluster("dns_refresh_rate", &json!("3600s"));
    bootstrap.name_upstream("localhost");
}

fn header_rules(bootstrap: &mut Bootstrap) {
    let append = |key: &str, value: &str| json!({"header": {"key": key, "value": value}});
    let mut remote = append("x-remote", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%");
    remote["append_action"] = json!("OVERWRITE_IF_EXISTS_OR_ADD");
    let cluster = bootstrap.cluster_name();
    bootstrap.set_routes(&json!([{
        "match": {"prefix": "/"}, "route": {"cluster": cluster},
        "request_headers_to_add": [append("x-req-add", "one"), remote], "request_headers_to_remove": ["x-drop"],
        "response_headers_to_add": [append("x-resp-add", "two")], "response_headers_to_remove": ["x-gone"],
    }]));
    bootstrap.set_virtual_host("request_headers_to_add", &json!([append("x-vh", "vh")]));
}

/// A policy with hardly a pause.
pub(super) fn retry_on(words: &str) -> Value {
    let quick = json!({"base_interval": "0.001s", "max_interval": "0.001s"});
    json!({"retry_on": words, "num_retries": 1, "retry_back_off": quick})
}

/// What an upstream says that is well.
const HELLO: &str = "HTTP/1.1 200 -\r\ncontent-type: text/plain\r\ncontent-length: 6\r\n\r\nhello\n";

pub(super) fn answer(status: u16, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} -\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n{body}")
}

impl Scene<'_> {
    /// A request's head, with more fields behind those that all have.
    pub(super) fn head(&self, method: &str, path: &str, more: &str) -> String {
        let host = self.host;
        format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: refclient\r\naccept: */*\r\n{more}\r\n"
        )
    }

    pub(super) fn get(&self, path: &str) -> String {
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
    pub(super) fn say_hello(&self, upstream: &mut Peer, client: &mut Peer) -> Step {
        self.respond(upstream, client, &answer(200, "hello\n"))
    }
}

pub(super) fn answered_by_proxy(scene: &mut Scene, path: &str) -> Played {
    let mut client = scene.client()?;
    client.send(&scene.get(path))?;
    client.read_message()?;
    scene.proxy.settle();
    scene.finish(&mut client)?;
    Ok(vec![client])
}

pub(super) fn answered_by_upstream(scene: &mut Scene, path: &str) -> Played {
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

fn host_ejected(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    let mut good = scene.request_on_any_upstream(&mut client, &scene.get("/1"))?;
    scene.say_hello(&mut good, &mut client)?;
    let mut bad = scene.request_on_any_upstream(&mut client, &scene.get("/2"))?;
    scene.respond(&mut bad, &mut client, &answer(503, "bad\n"))?;
    scene.request(&mut client, &mut good, &scene.get("/3"))?;
    scene.say_hello(&mut good, &mut client)?;
    scene.request(&mut client, &mut bad, &scene.get("/4"))?;
    scene.respond(&mut bad, &mut client, &answer(503, "bad\n"))?;
    for path in ["/5", "/6"] {
        scene.request(&mut client, &mut good, &scene.get(path))?;
        scene.say_hello(&mut good, &mut client)?;
    }
    scene.finish(&mut client)?;
    Ok(vec![client, good, bad])
}

fn health_check_fails(scene: &mut Scene) -> Played {
    let mut check = scene.first.take().ok_or("nobody was asked while the proxy started")?;
    let mut checked = |scene: &Scene, status| -> Step {
        check.read_message()?;
        check.send(&answer(status, "hello\n"))?;
        scene.proxy.settle();
        Ok(())
    };
    for status in [200, 200, 200, 503, 503] {
        checked(scene, status)?;
    }
    let mut client = scene.client()?;
    let mut upstream = scene.request_on_new_upstream(&mut client, &scene.get("/x"))?;
    scene.say_hello(&mut upstream, &mut client)?;
    checked(scene, 503)?;
    scene.finish(&mut client)?;
    for status in [200, 200, 200, 200] {
        checked(scene, status)?;
    }
    let mut again = scene.client()?;
    scene.request(&mut again, &mut upstream, &scene.get("/y"))?;
    scene.say_hello(&mut upstream, &mut again)?;
    scene.finish(&mut again)?;
    Ok(vec![client, again, upstream, check])
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

fn retry_post(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    client.send(&(scene.head("POST", "/p", "content-length: 12\r\n") + "first"))?;
    let mut bad = accept_at_any(scene.others.iter().chain([scene.upstream]))?;
    bad.read_until("first")?;
    scene.proxy.settle();
    scene.request(&mut client, &mut bad, "seconds")?;
    bad.send(&answer(503, "bad\n"))?;
    let mut good = accept_at_any(scene.others.iter().chain([scene.upstream]))?;
    good.read_message()?;
    scene.proxy.settle();
    scene.say_hello(&mut good, &mut client)?;
    scene.finish(&mut client)?;
    Ok(vec![client, bad, good])
}

fn hedge(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    let late = scene.request_on_new_upstream(&mut client, &scene.get("/"))?;
    let mut upstream = scene.upstream.accept()?;
    upstream.read_message()?;
    scene.proxy.settle();
    scene.respond(&mut upstream, &mut client, &answer(200, "second\n"))?;
    scene.finish(&mut client)?;
    Ok(vec![client, late, upstream])
}

fn internal_redirect(scene: &mut Scene) -> Played {
    let elsewhere = format!(
        "HTTP/1.1 302 -\r\ncontent-type: text/plain\r\ncontent-length: 0\r\nlocation: http://{}/new\r\n\r\n",
        scene.host
    );
    let mut client = scene.client()?;
    let mut upstream = scene.request_on_new_upstream(&mut client, &scene.get("/old"))?;
    upstream.send(&elsewhere)?;
    upstream.read_message()?;
    scene.proxy.settle();
    scene.say_hello(&mut upstream, &mut client)?;
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}

fn weighted(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    let mut upstreams: [Option<Peer>; 2] = [None, None];
    for (path, weight) in WEIGHTED {
        let (index, listener, body) =
            if weight == 0 { (1, &scene.others[0], "b\n") } else { (0, scene.upstream, "a\n") };
        client.send(&scene.get(path))?;
        let upstream = match &mut upstreams[index] {
            Some(upstream) => upstream,
            none => none.insert(listener.accept()?),
        };
        upstream.read_message()?;
        scene.proxy.settle();
        scene.respond(upstream, &mut client, &answer(200, body))?;
    }
    scene.finish(&mut client)?;
    Ok(upstreams.into_iter().flatten().chain([client]).collect())
}

fn rewrite(scene: &mut Scene) -> Played {
    let mut client = scene.client()?;
    let mut upstream = scene.request_on_new_upstream(&mut client, &scene.get("/in/a?x=1"))?;
    scene.say_hello(&mut upstream, &mut client)?;
    scene.request(&mut client, &mut upstream, &scene.get("/other"))?;
    scene.say_hello(&mut upstream, &mut client)?;
    scene.finish(&mut client)?;
    Ok(vec![client, upstream])
}
