#!/usr/bin/env python3
"""The lists of the HTTP/1 pool, change by change, in a scenario.

    python3 tests/guide/pool.py SCENARIO [--passes] [--proxy legate|envoy]
    python3 tests/guide/pool.py --list
    python3 tests/guide/pool.py --compare

Prints what the clients see, what the cluster has counted, and, for legate, the stages of the pool from the
recorder: beside each the lengths of `pending_requests_`, `busy_clients_` and `ready_clients_` once it has
changed them; a row without a stage is one more change by the stage above. D1 is the first client's
connection, U1 the first one to the upstream. --passes numbers the passes of the loop. --compare plays all
scenarios with both proxies and tells where they differ.
"""

import argparse
import os
import socket
import tempfile
import time

from lab import PATIENCE, Peer, Proxy, bind, bootstrap, client, events_of, listen

EVENTS = {0: "RemoteClose", 1: "LocalClose", 2: "Connected"}
CONNECT, LISTS = "ClientConnectionImpl::connect", "lists"


class Row:
    """A row of the table: a stage, and the lists' lengths where it has changed them."""

    def __init__(self, stage, loop_pass):
        self.stage, self.loop_pass, self.lengths = stage, loop_pass, None

    def text(self, number):
        lengths = "{:>7} {:>4} {:>5}".format(*self.lengths) if self.lengths else " " * 18
        return f"{number}{lengths}  {self.stage}".rstrip()


def rows(events):
    """The table's rows."""
    downstream, upstream, table = {}, {}, []
    for event in events:
        stage, conn = event["stage"], event.get("conn")
        if event["ph"] == "E":
            continue
        if stage == CONNECT:
            upstream[conn] = f"U{len(upstream) + 1}"
        elif stage == LISTS:
            if not table or table[-1].lengths:
                table.append(Row("", event["pass"]))
            table[-1].lengths = (event["a"] >> 32, event["a"] >> 16 & 0xFFFF, event["a"] & 0xFFFF)
        elif stage.startswith("ConnPoolImpl") or stage == "UpstreamRequest::onPoolFailure":
            words = [stage]
            if conn in upstream:
                words.append(upstream[conn])
            elif conn is not None:
                words.append(downstream.setdefault(conn, f"D{len(downstream) + 1}"))
            if stage.endswith("::onConnectionEvent"):
                words.append(EVENTS[event["a"]])
            if stage.endswith("::attachRequestToClient"):
                words.append(downstream.get(event["a"], "?"))
            table.append(Row(" ".join(words), event["pass"]))
    return table


def show(table, with_passes):
    """Prints the table; passes are numbered from 1, those in which the pool did nothing left out."""
    print(("pass " if with_passes else "") + "pending busy ready  stage")
    number, last = 0, None
    for row in table:
        new = row.loop_pass != last
        number, last = number + new, row.loop_pass
        print(row.text(f"{number if new else '':>4} " if with_passes else ""))


class Scene:
    """A proxy with one upstream that the scenario plays itself."""

    def __init__(self, kind, scenario, stages):
        self.kind, self.stages = kind, stages
        self.server = listen() if not scenario.refusing else bind()
        self.peers, self.fillers, self.told = [], [], []
        port = self.server.getsockname()[1]
        if scenario.deaf:
            self.deafen()
        recording = ["--trace-stages=" + stages] if kind == "legate" else []
        self.proxy = Proxy(kind, bootstrap([port], scenario.cluster), more=recording)

    def deafen(self):
        """Fills the backlog: from here on the system drops connection attempts, until `hear`."""
        self.server.listen(0)
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(self.server.getsockname())
            self.fillers.append(filler)

    def hear(self):
        """Lets connection attempts through again, and waits until the proxy's has succeeded."""
        fillers = {filler.getsockname() for filler in self.fillers}
        self.server.listen(128)
        while self.accept().socket.getpeername() in fillers:
            pass

    def request(self, path="/"):
        """A new client with a request, which the proxy has before this returns."""
        name = "http.guide.downstream_rq_total"
        before = self.proxy.stats(name).get(name, 0)
        peer = client(self.proxy.port)
        self.peers.append(peer)
        peer.get(path)
        deadline = time.monotonic() + PATIENCE
        while self.proxy.stats(name).get(name, 0) == before:
            if time.monotonic() > deadline:
                raise RuntimeError("the proxy has not seen the request")
            time.sleep(0.001)
        return peer

    def accept(self):
        """The next connection to the upstream."""
        peer = Peer(self.server.accept()[0])
        self.peers.append(peer)
        return peer

    def answer(self, upstream, body="ok", more=""):
        """Reads a request and answers it."""
        upstream.read_head()
        upstream.answer(body, more)

    def say(self, peer, name):
        """Reads a response and notes it."""
        status, body = peer.read_response()
        self.told.append(f"{name}: {status} {body}")

    def wait_for_lists(self, *lengths):
        """Waits until legate's lists are so long; for Envoy nothing tells."""
        deadline = time.monotonic() + PATIENCE
        while self.kind == "legate" and rows(self.proxy.recorded())[-1].lengths != lengths:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the lists are not {lengths}")
            time.sleep(0.005)

    def recorded(self, to_the_end):
        """The pool's table; up to now, or up to and with the end of the proxy."""
        if not to_the_end:
            return rows(self.proxy.recorded())
        self.proxy.ask("POST", "/quitquitquit")
        self.proxy.process.wait(PATIENCE)
        with open(self.stages) as file:
            return rows(events_of(file.read()))


SCENARIOS = {}


class Scenario:
    """How a scenario is set up, and the function that plays it."""

    def __init__(self, play, about, stats, cluster, refusing, deaf, to_the_end):
        self.play, self.about, self.stats, self.cluster = play, about, stats, cluster
        self.refusing, self.deaf, self.to_the_end = refusing, deaf, to_the_end


def scenario(about, stats=(), cluster=None, refusing=False, deaf=False, to_the_end=False):
    """Makes a function a scenario of its name."""

    def add(play):
        name = play.__name__.replace("_", "-")
        SCENARIOS[name] = Scenario(play, about, stats, cluster or {}, refusing, deaf, to_the_end)
        return play

    return add


def http_options(**common):
    """Options of the cluster's connections."""
    name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    options = {
        "@type": f"type.googleapis.com/{name}",
        "common_http_protocol_options": common,
        "explicit_http_config": {"http_protocol_options": {}},
    }
    return {"typed_extension_protocol_options": {name: options}}


def limits(**numbers):
    return {"circuit_breakers": {"thresholds": [numbers]}}


@scenario("a first request opens a connection, a second one uses it")
def reuse(scene):
    one = scene.request()
    upstream = scene.accept()
    scene.answer(upstream)
    scene.say(one, "first request")
    one.get()
    scene.answer(upstream)
    scene.say(one, "second request")


@scenario(
    "three requests, max_connections 1: the oldest is next",
    stats=["upstream_cx_total", "upstream_cx_overflow", "upstream_rq_pending_total"],
    cluster=limits(max_connections=1),
)
def queue(scene):
    peers = [scene.request(path=f"/{name}") for name in ("a", "b", "c")]
    upstream = scene.accept()
    for peer in peers:
        path = upstream.read_head().split()[1]
        upstream.answer(path)
        scene.say(peer, f"client {peers.index(peer) + 1}")


@scenario(
    "max_connections 1 and max_pending_requests 1: the third request is refused",
    stats=["upstream_cx_overflow", "upstream_rq_pending_overflow"],
    cluster=limits(max_connections=1, max_pending_requests=1),
)
def overflow(scene):
    one = scene.request()
    upstream = scene.accept()
    upstream.read_head()
    two = scene.request()
    three = scene.request()
    scene.say(three, "client 3")
    upstream.answer()
    scene.say(one, "client 1")
    scene.answer(upstream)
    scene.say(two, "client 2")


@scenario(
    "max_connections 0: a pool without a connection gets one all the same",
    stats=["upstream_cx_total", "upstream_cx_overflow"],
    cluster=limits(max_connections=0),
)
def starved(scene):
    one = scene.request()
    scene.answer(scene.accept())
    scene.say(one, "client 1")


@scenario(
    "max_requests 1: a second request is refused while the first one is active",
    stats=["upstream_rq_active_overflow", "upstream_cx_total"],
    cluster=limits(max_requests=1),
)
def max_requests(scene):
    one = scene.request()
    upstream = scene.accept()
    upstream.read_head()
    two = scene.request()
    scene.say(two, "client 2")
    upstream.answer()
    scene.say(one, "client 1")


@scenario(
    "the client of a pending request goes away (max_connections 1)",
    stats=["upstream_rq_cancelled", "upstream_rq_pending_active"],
    cluster=limits(max_connections=1),
)
def cancelled(scene):
    one = scene.request()
    upstream = scene.accept()
    upstream.read_head()
    scene.request().close()
    scene.proxy.wait_for("upstream_rq_cancelled", 1)
    upstream.answer()
    scene.say(one, "client 1")


@scenario(
    "the client goes away while the upstream connection is still being made",
    stats=["upstream_rq_cancelled", "upstream_cx_total", "upstream_cx_active"],
    deaf=True,
)
def cancelled_while_connecting(scene):
    scene.request().close()
    scene.proxy.wait_for("upstream_rq_cancelled", 1)
    scene.hear()
    scene.wait_for_lists(0, 0, 1)


@scenario(
    "nobody listens at the upstream",
    stats=["upstream_cx_connect_fail", "upstream_rq_pending_failure_eject", "upstream_cx_active"],
    refusing=True,
)
def refused(scene):
    scene.say(scene.request(), "client 1")


@scenario(
    "the upstream does not answer the connection attempts of two requests in time",
    stats=["upstream_cx_connect_timeout", "upstream_cx_connect_fail", "upstream_rq_pending_failure_eject"],
    cluster={"connect_timeout": "0.2s"},
    deaf=True,
)
def connect_timeout(scene):
    peers = [scene.request(), scene.request()]
    for number, peer in enumerate(peers, 1):
        scene.say(peer, f"client {number}")
    scene.proxy.wait_for("upstream_cx_connect_timeout", 2)


@scenario(
    "the upstream closes an idle connection; then another request comes",
    stats=["upstream_cx_total", "upstream_cx_destroy_remote"],
)
def idle_close(scene):
    one = scene.request()
    upstream = scene.accept()
    scene.answer(upstream)
    scene.say(one, "first request")
    upstream.close()
    scene.proxy.wait_for("upstream_cx_active", 0)
    one.get()
    scene.answer(scene.accept())
    scene.say(one, "second request")


@scenario(
    "an idle connection is closed by the cluster's idle_timeout",
    stats=["upstream_cx_idle_timeout", "upstream_cx_destroy_local"],
    cluster=http_options(idle_timeout="0.1s"),
)
def idle_timeout(scene):
    one = scene.request()
    scene.answer(scene.accept())
    scene.say(one, "client 1")
    scene.proxy.wait_for("upstream_cx_active", 0)


@scenario(
    "the upstream closes instead of answering, while another request is pending (max_connections 1)",
    stats=["upstream_cx_destroy_remote_with_active_rq", "upstream_cx_total"],
    cluster=limits(max_connections=1),
)
def closed_while_busy(scene):
    one = scene.request()
    upstream = scene.accept()
    upstream.read_head()
    two = scene.request()
    upstream.close()
    scene.say(one, "client 1")
    scene.answer(scene.accept())
    scene.say(two, "client 2")


@scenario(
    "the upstream's response says that it will close",
    stats=["upstream_cx_close_notify", "upstream_cx_destroy_local"],
)
def connection_close(scene):
    one = scene.request()
    scene.answer(scene.accept(), more="connection: close\r\n")
    scene.say(one, "client 1")
    scene.proxy.wait_for("upstream_cx_active", 0)


@scenario(
    "the client goes away while its request is with the upstream",
    stats=["upstream_cx_destroy_local_with_active_rq"],
)
def client_gone(scene):
    one = scene.request()
    upstream = scene.accept()
    upstream.read_head()
    one.close()
    upstream.closed()
    scene.proxy.wait_for("upstream_cx_active", 0)


@scenario(
    "an upstream connection lives for max_connection_duration",
    stats=["upstream_cx_max_duration_reached", "upstream_cx_destroy_local"],
    cluster=http_options(max_connection_duration="0.1s"),
)
def max_duration(scene):
    one = scene.request()
    scene.answer(scene.accept())
    scene.say(one, "client 1")
    scene.proxy.wait_for("upstream_cx_active", 0)


@scenario("the proxy ends: one connection is idle, the other has a request", to_the_end=True)
def shutdown(scene):
    one = scene.request()
    first = scene.accept()
    first.read_head()
    scene.request()
    scene.accept().read_head()
    first.answer()
    scene.say(one, "client 1")


@scenario(
    "an upstream connection may serve one request",
    stats=["upstream_cx_max_requests", "upstream_cx_destroy_local"],
    cluster=http_options(max_requests_per_connection=1),
)
def last_request(scene):
    one = scene.request()
    scene.answer(scene.accept())
    scene.say(one, "client 1")
    scene.proxy.wait_for("upstream_cx_active", 0)


@scenario(
    "the response is complete before the request is",
    stats=["upstream_cx_destroy_local_with_active_rq"],
)
def early_response(scene):
    one = client(scene.proxy.port)
    one.send("POST / HTTP/1.1\r\nhost: guide\r\ncontent-length: 100\r\n\r\npart of it")
    scene.answer(scene.accept())
    scene.say(one, "client 1")
    scene.proxy.wait_for("upstream_cx_active", 0)


@scenario(
    "the FIN comes with the response, and another request is pending (max_connections 1)",
    stats=["upstream_cx_total", "upstream_cx_destroy_remote_with_active_rq"],
    cluster=limits(max_connections=1),
)
def fin_with_response(scene):
    one = scene.request()
    upstream = scene.accept()
    upstream.read_head()
    two = scene.request()
    upstream.socket.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", socket.MSG_MORE)
    upstream.socket.shutdown(socket.SHUT_WR)
    scene.say(one, "client 1")
    scene.answer(scene.accept())
    scene.say(two, "client 2")


@scenario(
    "the FIN comes when the connection has been used again",
    stats=["upstream_cx_total", "upstream_cx_destroy_remote_with_active_rq"],
)
def fin_after_reuse(scene):
    one = scene.request()
    upstream = scene.accept()
    scene.answer(upstream)
    scene.say(one, "first request")
    one.get()
    upstream.read_head()
    upstream.close()
    scene.say(one, "second request")


def play(name, kind):
    """Plays a scenario: what the clients saw and what was counted, and legate's table."""
    chosen = SCENARIOS[name]
    with tempfile.TemporaryDirectory(prefix="guide-") as directory:
        scene = Scene(kind, chosen, os.path.join(directory, "stages"))
        with scene.proxy:
            chosen.play(scene)
            counted = scene.proxy.cluster_stats(*chosen.stats)
            told = scene.told + [f"{stat}: {value}" for stat, value in counted.items()]
            return told, scene.recorded(chosen.to_the_end) if kind == "legate" else []


def compare():
    for name in SCENARIOS:
        envoy, legate = play(name, "envoy")[0], play(name, "legate")[0]
        differences = [f"Envoy {a}, legate {b}" for a, b in zip(envoy, legate) if a != b]
        print(f"{name:28}{'; '.join(differences) or 'equal'}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("scenario", nargs="?", choices=SCENARIOS)
    parser.add_argument("--proxy", choices=("legate", "envoy"), default="legate")
    parser.add_argument("--passes", action="store_true")
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.compare:
        compare()
    elif options.list or not options.scenario:
        for name, chosen in SCENARIOS.items():
            print(f"{name:28}{chosen.about}")
    else:
        told, table = play(options.scenario, options.proxy)
        print("\n".join(told))
        if table:
            show(table, options.passes)


main()
