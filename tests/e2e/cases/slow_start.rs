//! New hosts get their share of the requests by and by.

use super::dns_clusters::{cluster, wait_for};
use crate::harness::{DnsAnswer, DnsServer, Keyed, Spread, numbered_hosts, proxies};
use serde_json::json;
use std::thread;
use std::time::Duration;

#[test]
fn a_new_host_gets_fewer_requests_at_first() {
    const WINDOW: Duration = Duration::from_secs(2);
    let config = json!({"slow_start_config": {"slow_start_window": "2s"}});
    for more in [
        json!({"lb_policy": "ROUND_ROBIN", "round_robin_lb_config": config}),
        json!({"lb_policy": "LEAST_REQUEST", "least_request_lb_config": config}),
    ] {
        for kind in proxies() {
            let ports = numbered_hosts(2);
            let dns = DnsServer::start();
            dns.set("old.test", DnsAnswer::of(&["127.0.0.1"]));
            dns.set("late.test", DnsAnswer::code(3));
            let names = [("old.test", ports[0]), ("late.test", ports[1])];
            let mut cluster = cluster("a", "STRICT_DNS", &dns, &names, &more);
            cluster["dns_refresh_rate"] = json!("0.05s");
            let proxy = Spread::new(&ports).cluster(cluster).start(kind);
            let mut client = Keyed::connect(&proxy);
            let mut of_the_new_one = || (0..100).filter(|_| client.ask("any") == "1").count();
            wait_for(&Some(1), || proxy.admin.stat("cluster.a.membership_total"));
            thread::sleep(WINDOW + Duration::from_millis(200)); // the first host is no new one any more
            dns.set("late.test", DnsAnswer::of(&["127.0.0.1"]));
            wait_for(&Some(2), || proxy.admin.stat("cluster.a.membership_total"));
            let at_first = of_the_new_one();
            assert!((4..46).contains(&at_first), "{kind:?} {more}: {at_first} of 100");
            thread::sleep(WINDOW + Duration::from_millis(200));
            _ = of_the_new_one();
            let later = of_the_new_one();
            assert!((25..75).contains(&later) && later > at_first, "{kind:?} {more}: {later} of 100");
        }
    }
}
