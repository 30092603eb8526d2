//! Hosts with several addresses: the first that connects is taken.

use super::dns_clusters::{self, cluster};
use crate::harness::{
    Case, DnsAnswer, DnsServer, Kind, PATIENCE, RefusingPort, Site, Wire, proxies, serve_each,
};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, getsockname, listen, socket,
};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

const FORMAT: &str = "%RESPONSE_CODE% %RESPONSE_FLAGS% %UPSTREAM_TRANSPORT_FAILURE_REASON% %UPSTREAM_HOST% \
    %UPSTREAM_REMOTE_ADDRESS% %UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%\n";

/// Answers each request with the address that it came to.
fn host(ip: &str) -> SocketAddr {
    let ip: IpAddr = ip.parse().expect("an address");
    let listener = TcpListener::bind((ip, 0)).expect("a port");
    serve_each(listener, move |mut wire| {
        let body = ip.to_string();
        while !wire.head().is_empty() {
            if !wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())) {
                return;
            }
        }
    })
}

/// A port where nobody answers: whoever connects waits.
struct SilentPort {
    _listener: OwnedFd,
    _waiting: Vec<TcpStream>,
    address: SocketAddr,
}

impl SilentPort {
    fn new() -> SilentPort {
        let listener =
            socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
        bind(listener.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).expect("a port");
        listen(&listener, Backlog::new(0).expect("no backlog")).expect("listening");
        let address: SockaddrIn = getsockname(listener.as_raw_fd()).expect("its address");
        let address = SocketAddr::from(([127, 0, 0, 1], address.port()));
        // Those that there is room for; then one gets no answer.
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
        let waiting = (0..10).map_while(connect).collect();
        SilentPort { _listener: listener, _waiting: waiting, address }
    }
}

fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn site(kind: Kind, addresses: &[SocketAddr], more: &Value) -> Site {
    let others: Vec<Value> = addresses[1..].iter().map(|other| json!({"address": address(*other)})).collect();
    let endpoint = json!({"address": address(addresses[0]), "additional_addresses": others});
    let mut cluster = json!({"connect_timeout": "3s", "load_assignment": {"cluster_name": "case0",
        "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]}});
    cluster.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
    let case = Case::new("several addresses").cluster(cluster).log_format(FORMAT);
    Site::start(kind, &[&case])
}

fn ask(site: &Site) -> (String, String) {
    let mut client = Wire::connect(site.port(0));
    client.send("GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
    let answer = String::from_utf8_lossy(&client.rest()).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    (head[9..12].to_string(), body.to_string())
}

/// So many lines of the access log.
fn log(site: &Site, count: usize) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(site.access_log(0)).unwrap_or_default();
        if text.matches('\n').count() >= count || Instant::now() > deadline {
            return text;
        }
        std::thread::sleep(Duration::from_millis(10)); // access logs are flushed by a timer
    }
}

/// The statistics of the cluster's connections that are not zero.
fn statistics(site: &Site) -> Vec<(String, u64)> {
    let wanted = |name: &String| {
        name.starts_with("cluster.case0.upstream_cx_")
            && !["_ms", "bytes", "http1", "active"].iter().any(|part| name.contains(part))
    };
    let stats = site.proxy.admin.stats();
    let mut stats: Vec<_> = stats.into_iter().filter(|(name, value)| *value > 0 && wanted(name)).collect();
    let clusters = site.proxy.admin.text("/clusters?filter=case0");
    for line in clusters
        .lines()
        .filter(|line| ["::cx_total::", "::cx_connect_fail::"].iter().any(|part| line.contains(part)))
    {
        let (name, value) = line.rsplit_once("::").expect("a value");
        let name = name.rsplit_once("::").map_or(name, |(_, name)| name);
        stats.push((name.to_string(), value.parse().expect("a number")));
    }
    stats.sort();
    stats
}

#[test]
fn the_first_that_connects_is_taken() {
    let refusing = || {
        let port = RefusingPort::new();
        (SocketAddr::from(([127, 0, 0, 1], port.port())), port)
    };
    let ((one, _one), (two, _two)) = (refusing(), refusing());
    let (v4, v6) = (host("127.0.0.1"), host("::1"));
    let keepalive = json!({"upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 7}}});
    for (addresses, expected) in [
        (vec![v4, v6], "127.0.0.1"),
        (vec![v6, v4], "::1"),
        (vec![one, v4], "127.0.0.1"),
        (vec![one, v6], "::1"),
        (vec![one, two, v6], "::1"),
        (vec![one, two, v4], "127.0.0.1"),
        (vec![one, v4, v6], "::1"),
    ] {
        for more in [json!({}), keepalive.clone()] {
            let seen: Vec<_> = proxies()
                .into_iter()
                .map(|kind| {
                    let site = site(kind, &addresses, &more);
                    let answers = [ask(&site), ask(&site)];
                    (answers, statistics(&site), log(&site, 2))
                })
                .collect();
            assert_eq!(seen[0].0[0], ("200".to_string(), expected.to_string()), "{addresses:?}");
            assert!(seen.iter().all(|other| *other == seen[0]), "{addresses:?}: {seen:#?}");
        }
    }
}

#[test]
fn none_connects() {
    let ports = [RefusingPort::new(), RefusingPort::new(), RefusingPort::new()];
    let addresses: Vec<_> =
        ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], port.port()))).collect();
    let seen: Vec<_> = proxies()
        .into_iter()
        .map(|kind| {
            let site = site(kind, &addresses, &json!({}));
            (ask(&site), statistics(&site), log(&site, 1))
        })
        .collect();
    assert_eq!(seen[0].0.0, "503");
    assert!(seen.iter().all(|other| *other == seen[0]), "{seen:#?}");
}

/// An address that does not answer is not waited for.
#[test]
fn the_next_one_is_tried_after_a_while() {
    let (silent, serves) = (SilentPort::new(), host("127.0.0.1"));
    for kind in proxies() {
        let site = site(kind, &[silent.address, serves], &json!({}));
        let began = Instant::now();
        assert_eq!(ask(&site).1, "127.0.0.1", "{kind:?}");
        let took = began.elapsed();
        assert!(
            took >= Duration::from_millis(290) && took < Duration::from_millis(2500),
            "{kind:?}: {took:?}"
        );
        assert_eq!(site.proxy.admin.stat("cluster.case0.upstream_cx_connect_timeout"), Some(0), "{kind:?}");
    }
}

/// All addresses of an answer are those of a logical host.
#[test]
fn a_logical_host_has_all_addresses_of_its_name() {
    let served = host("127.0.0.1");
    for kind in proxies() {
        let dns = DnsServer::start();
        // Nobody listens at the first one.
        dns.set("several.test", DnsAnswer::of(&["127.0.0.77", "127.0.0.1"]));
        let more = json!({"dns_lookup_family": "V4_ONLY"});
        let cluster = cluster("c", "LOGICAL_DNS", &dns, &[("several.test", served.port())], &more);
        let site = dns_clusters::site(kind, &[cluster]);
        let mut client = Wire::connect(site.port(0));
        client.send("GET / HTTP/1.1\r\nhost: h\r\nx-cluster: c\r\nconnection: close\r\n\r\n");
        let answer = String::from_utf8_lossy(&client.rest()).into_owned();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("127.0.0.1"), "{kind:?}: {answer}");
        assert_eq!(site.proxy.admin.stat("cluster.c.upstream_cx_total"), Some(2), "{kind:?}");
    }
}
