#!/usr/bin/env python3
"""How what the main thread knows of hosts reaches the workers.

    python3 tests/guide/hosts.py health|window --proxy legate|envoy
    python3 tests/guide/hosts.py posts

Two workers and the hosts A and B, which are asked for /hc ten times a second. `health` has B fail and recover, and
prints its flags and who answers requests. `window` has B fail, and recover within a second of that; it prints how long
after each answer the flag is another one, and how long until the workers know. `posts` has B fail, and prints what
legate's recorder has then on each thread.
"""

import argparse
import json
import threading
import time

from lab import PATIENCE, Peer, Proxy, bootstrap, client, listen

SHOWN = ("HttpActiveHealthCheckSession::", "ActiveHealthCheckSession::set", "ThreadLocalClusterManagerImpl::",
         "DispatcherImpl::runPostCallbacks")


class Host:
    """Answers requests with its name, and checks as it is told."""

    def __init__(self, name):
        self.name, self.is_well = name, True
        self.socket = listen()
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                peer = Peer(self.socket.accept()[0])
            except OSError:
                continue
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer):
        try:
            while head := peer.read_head():
                if head.startswith("GET /hc ") and not self.is_well:
                    peer.send("HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n")
                else:
                    peer.answer(self.name)
        except OSError:
            pass


def checked(a, b):
    """Checks of which one decides."""
    check = {"timeout": "1s", "interval": "0.1s", "no_traffic_interval": "0.1s", "unhealthy_threshold": 1,
             "healthy_threshold": 1, "http_health_check": {"path": "/hc"}}
    return bootstrap([a.port, b.port], cluster={"health_checks": [check]})


def flags(proxy, host):
    lines = proxy.ask("GET", "/clusters").splitlines()
    return next(line.rpartition("::")[2] for line in lines if f":{host.port}::health_flags::" in line)


def until(what, condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {PATIENCE} s")
        time.sleep(0.005)


def answering(proxy, connections=12):
    """Who answers, on connections that either worker may have."""
    names = set()
    for _ in range(connections):
        peer = client(proxy.port)
        for _ in range(2):
            peer.get()
            names.add(peer.read_response()[1])
        peer.close()
    return " ".join(sorted(names))


def show_health(proxy, b):
    print(f"{'B':<10} {'its flags':<20} answered by")
    for does, is_well, wanted, names in (("is well", True, "healthy", "A B"), ("fails", False, "/failed_active_hc", "A"),
                                         ("recovers", True, "healthy", "A B")):
        b.is_well = is_well
        until("flags", lambda: flags(proxy, b) == wanted)
        until("workers", lambda: answering(proxy) == names)
        print(f"{does:<10} {flags(proxy, b):<20} {answering(proxy)}")
        time.sleep(1.1)  # the next change is not to be in this one's window


def about(seconds):
    return "at once" if seconds < 0.5 else f"after about {round(seconds)} s"


def show_window(proxy, b):
    for does, is_well, wanted, names in (("fails", False, "/failed_active_hc", "A"), ("recovers", True, "healthy", "A B")):
        b.is_well = is_well
        begin = time.monotonic()
        until("flags", lambda: flags(proxy, b) == wanted)
        flag = time.monotonic() - begin
        until("workers", lambda: answering(proxy) == names)
        known = time.monotonic() - begin
        print(f"B {does}: the flag {about(flag)}, the workers {about(known)}")
    print("cluster_manager.cluster_updated_via_merge:", proxy.stats()["cluster_manager.cluster_updated_via_merge"])


def show_posts(proxy, b):
    proxy.ask("POST", "/trace?enable=y")
    b.is_well = False

    def events():
        header, *rows = map(json.loads, proxy.ask("GET", "/trace?threads=all&format=json").splitlines())
        names = header["header"]["workers"]
        return [(names[row["w"]], row) for row in rows if "ph" in row]

    update = "ThreadLocalClusterManagerImpl::updateClusterMembership"
    until("workers", lambda: {thread for thread, row in events() if row["stage"] == update} >= {"worker_0", "worker_1"})
    by_thread = {}
    for thread, row in events():
        if row["ph"] != "E" and row["stage"].startswith(SHOWN):
            by_thread.setdefault(thread, []).append(row)
    rows = by_thread["main_thread"]
    first = next(i for i, row in enumerate(rows) if row["stage"].endswith("::setUnhealthy"))
    # The check that has failed, and what came of it until the next one.
    rows = rows[first - 1:]
    by_thread["main_thread"] = rows[:2] + [row for row in rows[2:4] if row["stage"] == update]
    for thread in ("worker_0", "worker_1"):
        at = next(i for i, row in enumerate(by_thread[thread]) if row["stage"] == update)
        by_thread[thread] = by_thread[thread][at - 1:at + 1]
    for thread in ("main_thread", "worker_0", "worker_1"):
        for row in by_thread[thread]:
            status = f" status={row['a']}" if row["stage"].endswith("::healthCheckResult") else ""
            print(f"{thread:<12} {row['stage']}{status}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("health", "window", "posts"))
    parser.add_argument("--proxy", choices=("legate", "envoy"), default="legate")
    options = parser.parse_args()
    a, b = Host("A"), Host("B")
    with Proxy(options.proxy, checked(a, b), workers=2) as proxy:
        {"health": show_health, "window": show_window, "posts": show_posts}[options.what](proxy, b)


if __name__ == "__main__":
    main()
