//! What the router's own configuration says of times and statistics.

use super::retries::{get, manager, status};
use crate::harness::Pairs;
use serde_json::{Value, json};

fn routed(router: Value) -> Value {
    let mut router = router;
    router["@type"] = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router".into();
    let mut hcm = manager(json!({"timeout": "7s"}), json!({}));
    hcm["http_filters"] = json!([{"name": "router", "typed_config": router}]);
    hcm
}

#[test]
fn expected_times() {
    for respects in [true, false] {
        let mut pairs = Pairs::new(routed(json!({"respect_expected_rq_timeout": respects})));
        for line in [
            "",
            "x-envoy-expected-rq-timeout-ms: 3000\r\n",
            "x-envoy-expected-rq-timeout-ms: 0\r\n",
            "x-envoy-expected-rq-timeout-ms: nonsense\r\n",
            "x-envoy-expected-rq-timeout-ms: 3000\r\nx-envoy-upstream-rq-timeout-ms: 2000\r\n",
            "x-envoy-upstream-rq-timeout-ms: 2000\r\n",
        ] {
            pairs = pairs.told(get("/", line), [status("200", "")]);
        }
        pairs.run();
    }
}

#[test]
fn statistics_of_codes() {
    for dynamic in [true, false] {
        Pairs::new(routed(json!({"dynamic_stats": dynamic})))
            .with_statistics()
            .told(get("/", ""), [status("200", "")])
            .told(get("/", ""), [status("503", "")])
            .told(get("/refused", ""), [])
            .told(get("/", "x-envoy-upstream-alt-stat-name: other\r\n"), [status("404", "")])
            .run();
    }
}
