#!/usr/bin/env python3
"""Loads with faults in them, and the number of answers that were not expected, which has to be 0. See README.md here."""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import time

sys.dont_write_bytecode = True

import fault_dns
from fault_client import HttpLoad, Tally, WebSockets
from procs import BenchError, Session, free_port, raise_nofile, wait_until
from proxies import HERE, Server, find_program, get
from soak import MOMENTARY

TYPE = "type.googleapis.com/envoy.extensions"


class Upstream:
    """A host on an address of its own: no connection can have its port when it is started again."""

    def __init__(self, session, kind, port=0):
        self.session, self.kind = session, kind
        self.address = f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"
        self.port = port
        self.starts = 0
        self.start()

    def start(self):
        self.starts += 1
        name = f"upstream-{self.kind}-{self.address}-{self.starts}"
        script = os.path.join(HERE, "fault_upstream.py")
        argv = [sys.executable, "-B", script, self.kind, self.address, str(self.port), str(random.randrange(1 << 30))]
        self.child = self.session.start(name, argv)

        def port():
            with open(self.child.log_path) as log:
                text = log.read()
            if text.strip().isdigit():
                return int(text)
            if not self.child.alive():
                raise BenchError(f"{name} ended: {text}")

        self.is_there = port
        if not self.port or self.starts == 1:
            self.port = wait_until(name, 20, port)

    def kill(self):
        os.kill(self.child.pid, signal.SIGKILL)
        self.session.stop(self.child)

    def endpoint(self):
        return {"endpoint": {"address": {"socket_address": {"address": self.address, "port_value": self.port}}}}


class Site:
    """A proxy before such hosts."""

    def __init__(self, session, name, options, hosts, route=None, cluster=None, hcm=None, match=None, arguments=()):
        directory = session.subdir(f"{name}-{len(session.children)}")
        self.log = os.path.join(directory, "access.log")
        admin = free_port()
        config = os.path.join(directory, "config.json")
        with open(config, "w") as file:
            where = match or {"prefix": "/"}
            json.dump(bootstrap(admin, self.log, hosts, where, route or {}, cluster or {}, hcm or {}), file)
        argv = [find_program(name, options), "-c", config, "--concurrency", str(options.workers), "--disable-hot-restart",
                "--file-flush-interval-msec", "50", "-l", "warning", *arguments]
        child = session.start(os.path.basename(directory), argv)
        self.server = Server(name, child, 0, admin)

        def ready():
            if not child.alive():
                raise BenchError(f"{name} ended:\n{child.log_tail()}")
            answer = get(admin, "/ready")
            return answer and answer[0] == 200

        wait_until(f"{name} is ready", 30, ready)
        listeners = json.loads(get(admin, "/listeners?format=json")[1])
        self.port = listeners["listener_statuses"][0]["local_address"]["socket_address"]["port_value"]
        self.session = session
        self.begun = self.momentary()

    def stat(self, name):
        return self.server.stats().get(name, 0)

    def momentary(self):
        """The gauges of what goes on."""
        wanted = lambda name: MOMENTARY.search(name) and ".admin." not in name
        return {name: value for name, value in self.server.stats().items() if wanted(name)}

    def end(self, tally):
        """What has to be so when nothing goes on any more."""
        moved = lambda: {n: v for n, v in self.momentary().items() if v != self.begun.get(n, 0)}
        try:
            wait_until("gauges", 15, lambda: not moved())
        except BenchError:
            for name, value in moved().items():
                tally.surprise(f"{name} is {value}, and was {self.begun.get(name, 0)}")
        self.session.stop(self.server.child)
        if self.server.child.process.returncode:
            tally.surprise(f"SIGTERM: ended with {self.server.child.process.returncode}")


def bootstrap(admin, log, hosts, match, route, cluster, hcm):
    address = lambda port: {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    line = {"text_format_source": {"inline_string": "%RESPONSE_CODE% %RESPONSE_FLAGS%\n"}}
    manager = {
        "@type": f"{TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "faults",
        "access_log": [{"name": "file", "typed_config": {
            "@type": f"{TYPE}.access_loggers.file.v3.FileAccessLog", "path": log, "log_format": line}}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": match, "route": {"cluster": "service", "timeout": "0s", **route}}]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{TYPE}.filters.http.router.v3.Router"}}],
        **hcm,
    }
    return {
        "admin": {"address": address(admin)},
        "static_resources": {
            "listeners": [{"name": "faults", "address": address(0), "filter_chains": [{"filters": [
                {"name": "http", "typed_config": manager}]}]}],
            "clusters": [{
                "name": "service", "connect_timeout": "5s", **IDLE, **cluster,
                "load_assignment": {"cluster_name": "service", "endpoints": [
                    {"lb_endpoints": [host.endpoint() for host in hosts]}]},
            }],
        },
    }


# What is idle goes before the gauges are looked at.
IDLE = {"typed_extension_protocol_options": {f"{TYPE}.upstreams.http.v3.HttpProtocolOptions".removeprefix(
    "type.googleapis.com/"): {
        "@type": f"{TYPE}.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"idle_timeout": "1s"},
        "explicit_http_config": {"http_protocol_options": {}}}}}


def retries(on, **more):
    return {"retry_policy": {"retry_on": on, "num_retries": 10,
                             "retry_back_off": {"base_interval": "0.002s", "max_interval": "0.02s"}, **more}}


UNLIMITED = {"circuit_breakers": {"thresholds": [{name: 100000 for name in (
    "max_connections", "max_pending_requests", "max_requests", "max_retries")}]}}


def only_right(status, _, answer, right):
    return "200" if status == 200 and answer == right else None


def for_seconds(seconds):
    end = time.monotonic() + seconds
    return lambda _: time.monotonic() < end


async def killed(session, name, options, tally):
    """Two hosts, of which one or the other is killed and started again; a request is tried again elsewhere."""
    hosts = [Upstream(session, "plain") for _ in range(2)]
    elsewhere = {"name": "p", "typed_config": {"@type": f"{TYPE}.retry.host.previous_hosts.v3.PreviousHostsPredicate"}}
    policy = retries("connect-failure,reset", retry_host_predicate=[elsewhere], host_selection_retry_max_attempts="5")
    site = Site(session, name, options, hosts, policy, UNLIMITED)
    load = HttpLoad(site.port, tally, for_seconds(options.seconds), only_right)
    running = asyncio.create_task(load.run(options.clients))
    kills = 0
    while not running.done():
        await asyncio.sleep(random.uniform(0.1, 0.4))
        host = random.choice(hosts)
        host.kill()
        kills += 1
        await asyncio.sleep(random.uniform(0, 0.2))
        host.start()
        while not host.is_there():
            await asyncio.sleep(0.01)
    await running
    said = f"{kills} kills, {site.stat('cluster.service.upstream_rq_retry')} retries"
    return site, hosts, said


async def closing(session, name, options, tally):
    """One host, whose connections end when it likes; a request that meets the end is tried again."""
    hosts = [Upstream(session, "closing")]
    site = Site(session, name, options, hosts, retries("reset"), UNLIMITED)
    load = HttpLoad(site.port, tally, for_seconds(options.seconds), only_right)
    await load.run(options.clients)
    stats = site.server.stats()
    said = (f"{stats['cluster.service.upstream_cx_destroy']} connections ended,"
            f" {stats['cluster.service.upstream_rq_retry']} retries")
    return site, hosts, said


async def until(running, tally, what, condition):
    """Waits for that, or for the end of the load."""
    end = time.monotonic() + 10
    while not running.done() and not await condition():
        if time.monotonic() > end:
            tally.surprise(f"{what}: not within 10 s")
            return
        await asyncio.sleep(0.02)


async def ejected(session, name, options, tally):
    """Of three hosts one fails for a while, over and over: it is ejected and comes back; a request is tried again elsewhere."""
    hosts = [Upstream(session, "failing")] + [Upstream(session, "plain") for _ in range(2)]
    elsewhere = {"name": "p", "typed_config": {"@type": f"{TYPE}.retry.host.previous_hosts.v3.PreviousHostsPredicate"}}
    policy = retries("5xx", retry_host_predicate=[elsewhere], host_selection_retry_max_attempts="10")
    detection = {"interval": "0.1s", "base_ejection_time": "3s", "max_ejection_time": "3s", "max_ejection_percent": 34}
    site = Site(session, name, options, hosts, policy, {**UNLIMITED, "outlier_detection": detection})
    load = HttpLoad(site.port, tally, for_seconds(options.seconds), only_right)
    running = asyncio.create_task(load.run(options.clients))
    active = lambda: asyncio.to_thread(site.stat, "cluster.service.outlier_detection.ejections_active")
    requests = lambda: asyncio.to_thread(requests_of, site, hosts[0])

    ejections = 0
    while not running.done():
        os.kill(hosts[0].child.pid, signal.SIGUSR1)

        async def is_ejected():
            return await active() == 1

        await until(running, tally, "ejected", is_ejected)
        # Envoy's workers may hear of a change a second late.
        await asyncio.sleep(1.3)
        before = await requests()
        await asyncio.sleep(0.4)
        behind = await requests()
        if running.done():
            break
        if behind != before:
            tally.surprise(f"{behind - before} requests to a host that is ejected")
        ejections += 1
        os.kill(hosts[0].child.pid, signal.SIGUSR2)

        async def is_back():
            return await requests() > behind + options.clients

        await until(running, tally, "back", is_back)
    await running
    if not ejections:
        tally.surprise("the host was not ejected")
    return site, hosts, f"{ejections} ejections, {site.stat('cluster.service.upstream_rq_retry')} retries"


def checked(**more):
    """Ten checks a second, of which two in a row decide."""
    check = {"timeout": "0.3s", "interval": "0.1s", "no_traffic_interval": "0.1s", "unhealthy_threshold": 2,
             "healthy_threshold": 2, "http_health_check": {"path": "/hc"}, **more}
    return {"health_checks": [check]}


async def stopped(session, name, options, tally):
    """Of three hosts one stops over and over, as under SIGSTOP: checks find it, and a request that waits there is tried again."""
    hosts = [Upstream(session, "plain") for _ in range(3)]
    elsewhere = {"name": "p", "typed_config": {"@type": f"{TYPE}.retry.host.previous_hosts.v3.PreviousHostsPredicate"}}
    policy = retries("5xx", per_try_timeout="0.5s", retry_host_predicate=[elsewhere],
                     host_selection_retry_max_attempts="10")
    site = Site(session, name, options, hosts, policy, {**UNLIMITED, **checked()})
    load = HttpLoad(site.port, tally, for_seconds(options.seconds), only_right)
    running = asyncio.create_task(load.run(options.clients))
    healthy = lambda: asyncio.to_thread(site.stat, "cluster.service.membership_healthy")
    stops = 0
    try:
        while not running.done():
            host = random.choice(hosts)
            os.kill(host.child.pid, signal.SIGSTOP)

            async def is_found():
                return await healthy() == 2

            await until(running, tally, "found", is_found)
            # Workers may hear of a change a second late.
            await asyncio.sleep(1.3)
            before = await asyncio.to_thread(requests_of, site, host)
            await asyncio.sleep(0.4)
            behind = await asyncio.to_thread(requests_of, site, host)
            if running.done():
                break
            if behind != before:
                tally.surprise(f"{behind - before} requests to a host that has stopped")
            stops += 1
            os.kill(host.child.pid, signal.SIGCONT)

            async def is_back():
                return await asyncio.to_thread(requests_of, site, host) > behind + options.clients

            await until(running, tally, "back", is_back)
        await running
    finally:
        for host in hosts:
            os.kill(host.child.pid, signal.SIGCONT)
    if not stops:
        tally.surprise("no host was found")
    return site, hosts, f"{stops} stops, {site.stat('cluster.service.upstream_rq_retry')} retries"


async def panic(session, name, options, tally):
    """All hosts fail their checks over and over and serve all the same: in a panic they get requests, and none is tried again."""
    hosts = [Upstream(session, "unwell") for _ in range(3)]
    site = Site(session, name, options, hosts, cluster={**UNLIMITED, **checked()})
    load = HttpLoad(site.port, tally, for_seconds(options.seconds), only_right)
    running = asyncio.create_task(load.run(options.clients))
    stat = lambda name: asyncio.to_thread(site.stat, f"cluster.service.{name}")
    panics = 0
    while not running.done():
        before = await stat("lb_healthy_panic")
        for host in hosts:
            os.kill(host.child.pid, signal.SIGUSR1)

        async def is_panic():
            return await stat("membership_healthy") == 0 and await stat("lb_healthy_panic") > before + options.clients

        await until(running, tally, "panic", is_panic)
        panics += not running.done()
        for host in hosts:
            os.kill(host.child.pid, signal.SIGUSR2)

        async def is_over():
            before = await stat("lb_healthy_panic")
            await asyncio.sleep(0.1)
            return await stat("membership_healthy") == 3 and await stat("lb_healthy_panic") == before

        await until(running, tally, "over", is_over)
    await running
    if not panics:
        tally.surprise("no panic")
    return site, hosts, f"{panics} panics, {site.stat('cluster.service.lb_healthy_panic')} requests in them"


def requests_of(site, host):
    """How many requests a host has got."""
    lines = get(site.server.admin, "/clusters")[1]
    lines = (lines.decode() if isinstance(lines, bytes) else lines).splitlines()
    prefix = f"service::{host.address}:{host.port}::rq_total::"
    return next(int(line.removeprefix(prefix)) for line in lines if line.startswith(prefix))


class Name:
    """Hosts by a name."""

    def __init__(self, name, port):
        self.name, self.port = name, port

    def endpoint(self):
        return {"endpoint": {"address": {"socket_address": {"address": self.name, "port_value": self.port}}}}


async def renamed(session, name, options, tally):
    """A name that stands for others of three hosts all the time; requests run on those that go, and nothing is tried again."""
    first = Upstream(session, "slow")
    hosts = [first, *(Upstream(session, "slow", first.port) for _ in range(2))]
    names, port = await fault_dns.serve([first.address])
    resolver = {"name": "cares", "typed_config": {
        "@type": f"{TYPE}.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
        "resolvers": [{"socket_address": {"address": "127.0.0.1", "port_value": port}}],
        "dns_resolver_options": {"no_default_search_domain": True}}}
    cluster = {"type": "STRICT_DNS", "dns_lookup_family": "V4_ONLY", "dns_refresh_rate": "0.01s",
               "typed_dns_resolver_config": resolver, **UNLIMITED}
    site = await asyncio.to_thread(
        Site, session, name, options, [Name("service.faults", first.port)], cluster=cluster)
    changes = 0
    end = time.monotonic() + options.seconds
    load = HttpLoad(site.port, tally, lambda _: changes < 100 or time.monotonic() < end, only_right)
    running = asyncio.create_task(load.run(options.clients))
    while not running.done():
        others = [host.address for host in hosts if host.address not in names.addresses]
        names.addresses = random.sample(others, random.randrange(1, len(others) + 1)) if others else [first.address]
        asked = names.asked
        # The second question from here on is asked when the answer to the first has been taken over.
        patience = time.monotonic() + 30
        while names.asked < asked + 2 and not running.done() and time.monotonic() < patience:
            await asyncio.sleep(0.005)
        if names.asked < asked + 2 and not running.done():
            tally.surprise(f"nobody asks for the name any more, after {changes} changes")
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            break
        changes += 1
        await asyncio.sleep(random.uniform(0, 0.02))
    if not running.cancelled():
        await running
    names.transport.close()
    changed = site.stat("cluster.service.membership_change")
    if changed < 100:
        tally.surprise(f"membership_change is {changed}")
    return site, hosts, f"{changed} changes of hosts"


async def breakers(session, name, options, tally):
    """One connection and one request that waits: the others are refused, and each is counted once."""
    hosts = [Upstream(session, "slow")]
    limits = {"circuit_breakers": {"thresholds": [{"max_connections": 1, "max_pending_requests": 1}]}}
    site = Site(session, name, options, hosts, cluster=limits)

    def accepts(status, head, answer, right):
        refused = status == 503 and b"\r\nx-envoy-overloaded: true\r\n" in head and answer.endswith(b"reason: overflow")
        return "503 UO" if refused else only_right(status, head, answer, right)

    load = HttpLoad(site.port, tally, lambda sent: sent < options.requests, accepts, bodies=False)
    await load.run(options.clients)
    kinds = tally.kinds
    if kinds["200"] + kinds["503 UO"] != options.requests:
        tally.surprise(f"{kinds['200']} + {kinds['503 UO']} answers to {options.requests} requests")
    stats = {n.removeprefix("cluster.service."): v for n, v in site.server.stats().items()}
    for counter, kind in (("upstream_rq_200", "200"), ("upstream_rq_503", "503 UO"),
                          ("upstream_rq_pending_overflow", "503 UO")):
        if stats.get(counter, 0) != kinds[kind]:
            tally.surprise(f"{counter} is {stats.get(counter)}, of {kinds[kind]}")
    compare_log(site, options.requests, {"200 -": kinds["200"], "503 UO": kinds["503 UO"]}, tally)
    return site, hosts, f"{kinds['200']} x 200 + {kinds['503 UO']} x 503 UO"


def compare_log(site, count, expected, tally):
    """The access log has so many lines of each kind and no others."""

    def lines():
        with open(site.log) as log:
            text = log.read().splitlines()
        return text if len(text) >= count else None

    found = wait_until(f"{count} lines of the access log", 20, lines)
    for kind in set(found) | set(expected):
        if found.count(kind) != expected.get(kind, 0):
            tally.surprise(f"access log: {found.count(kind)} x {kind}, of {expected.get(kind, 0)}")


async def websockets(session, name, options, tally):
    """WebSockets that go on while the listener drains, until it is closed and after."""
    hcm = {"upgrade_configs": [{"upgrade_type": "websocket"}]}
    return await drained(session, name, options, tally, tunnel=False, hcm=hcm)


async def tunnels(session, name, options, tally):
    """The same WebSockets within tunnels that end in the proxy."""
    connect = {"upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}
    return await drained(session, name, options, tally, tunnel=True, route=connect, match={"connect_matcher": {}})


async def drained(session, name, options, tally, tunnel, **more):
    hosts = [Upstream(session, "websocket")]
    site = Site(session, name, options, hosts, cluster=UNLIMITED, **more,
                arguments=["--drain-time-s", "2", "--drain-strategy", "immediate"])
    sockets = WebSockets(site.port, tally, tunnel)
    running = asyncio.create_task(sockets.run(options.websockets))

    async def until(condition):
        while not (running.done() or condition()):
            await asyncio.sleep(0.05)

    await until(lambda: sockets.open == options.websockets and sockets.echoes > options.websockets)
    gauge = site.stat("http.faults.downstream_cx_upgrades_active")
    if gauge != options.websockets:
        tally.surprise(f"downstream_cx_upgrades_active is {gauge}")
    await asyncio.to_thread(post, site.server.admin, "/drain_listeners?graceful")
    before = sockets.echoes
    stopped = lambda: asyncio.to_thread(site.stat, "listener_manager.listener_stopped")
    while not running.done() and not await stopped():
        await asyncio.sleep(0.05)
    behind = sockets.echoes
    await until(lambda: sockets.echoes > behind + options.websockets)
    try:
        (await asyncio.open_connection("127.0.0.1", site.port))[1].close()
        tally.surprise("a stopped listener takes a connection")
    except ConnectionRefusedError:
        pass
    sockets.goes_on = False
    await running
    if tally.kinds["closed in order"] != options.websockets:
        tally.surprise(f"{tally.kinds['closed in order']} WebSockets closed in order")
    total = site.stat("http.faults.downstream_cx_upgrades_total")
    if total != options.websockets:
        tally.surprise(f"downstream_cx_upgrades_total is {total}")
    said = f"{options.websockets} WebSockets, {behind - before} echoes while it drained, {sockets.echoes - behind} after"
    return site, hosts, said


def post(port, path):
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", path)
    connection.getresponse().read()
    connection.close()


RUNS = {run.__name__: run for run in (killed, closing, ejected, stopped, panic, renamed, breakers, websockets, tunnels)}


def play(run, name, options):
    """Plays one run against one proxy; returns what was not expected."""
    tally = Tally()
    with Session() as session:
        site, hosts, said = asyncio.run(RUNS[run](session, name, options, tally))
        site.end(tally)
        for host in hosts:
            session.stop(host.child)
    answers = sum(tally.kinds.values()) + len(tally.unexpected)
    print(f"{run:<10}  {name:<6}  {answers:>7}  {len(tally.unexpected):>10}  {said}")
    for text in tally.unexpected[:5]:
        print(f"            {text}")
    return len(tally.unexpected)


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--proxies", default="legate,envoy", help="the first one has to answer as expected")
    p.add_argument("--runs", default=",".join(RUNS), help="which")
    p.add_argument("--seconds", type=float, default=20, help="of `killed`, `closing`, `ejected`, `stopped`, `panic` and `renamed`")
    p.add_argument("--requests", type=int, default=10000, help="of `breakers`")
    p.add_argument("--websockets", type=int, default=1000, help="of `websockets` and `tunnels`")
    p.add_argument("--clients", type=int, default=64, help="connections of the other runs")
    p.add_argument("--workers", type=int, default=2, help="of the proxy")
    p.add_argument("--seed", type=int, default=random.randrange(1 << 30), help="what is drawn")
    p.add_argument("--legate", metavar="PATH", help="another binary than target/dist/legate")
    p.add_argument("--envoy", metavar="PATH", help="another Envoy than the one in .venv")
    options = p.parse_args()
    for run in options.runs.split(","):
        if run not in RUNS:
            p.error(f"--runs: {run}; there are {', '.join(RUNS)}")
    return options


def main():
    options = arguments()
    random.seed(options.seed)
    raise_nofile(4 * options.websockets + 500)
    print(f"{options.workers} workers, --seed {options.seed}")
    print(f"{'run':<10}  {'proxy':<6}  {'answers':>7}  {'unexpected':>10}")
    bad = 0
    for run in options.runs.split(","):
        for position, name in enumerate(options.proxies.split(",")):
            if not find_program(name, options):
                print(f"SKIPPED: {run}: the program of {name} is not there")
                bad += position == 0
                continue
            unexpected = play(run, name, options)
            bad += unexpected if position == 0 else 0
    return 1 if bad else 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f"faults: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
