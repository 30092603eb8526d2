#!/usr/bin/env python3
"""Which worker gets which connection, and which upstream each request goes to.

    python3 tests/guide/workers.py --proxy legate|envoy [--workers N] [--connections N] [--keep-alive]

Opens connections one after the other, a request on each, and leaves them open; more than N where a worker
has had none by then. The worker is told by its own counter of connections
(`listener.<address>.worker_N.downstream_cx_total`), the upstream by the answer. --keep-alive sends all
requests on one connection instead.
"""

import argparse
import collections

from lab import Proxy, Upstream, bootstrap, client

HOSTS = "ABC"


def in_turn(hosts):
    """Whether each host is followed by the next one of A, B, C, A, ..."""
    turns = all(HOSTS[(HOSTS.index(a) + 1) % len(HOSTS)] == b for a, b in zip(hosts, hosts[1:]))
    return "in turn" if turns else "NOT in turn"


def connections_per_worker(proxy):
    """The number of each worker with the connections it has accepted."""
    stats = proxy.stats("listener.")
    counts = {}
    for name, value in stats.items():
        before, _, last = name.rpartition(".")
        if last == "downstream_cx_total" and ".worker_" in before and "admin" not in before:
            counts[int(before.rpartition("_")[2])] = value
    return counts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--proxy", choices=("legate", "envoy"), default="legate")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--keep-alive", action="store_true")
    options = parser.parse_args()

    upstreams = [Upstream(name) for name in HOSTS]
    config = bootstrap([upstream.port for upstream in upstreams])
    order = []
    with Proxy(options.proxy, config, options.workers) as proxy:
        clients = []
        before = connections_per_worker(proxy)
        worker = None
        while len(order) < options.connections or not (options.keep_alive or all(before.values())):
            if not clients or not options.keep_alive:
                clients.append(client(proxy.port))
            clients[-1].get()
            _, body = clients[-1].read_response()
            after = connections_per_worker(proxy)
            worker = next((w for w in after if after[w] != before[w]), worker)
            before = after
            order.append((worker, body))

    print("worker  ", " ".join(str(worker) for worker, _ in order))
    print("upstream", " ".join(body for _, body in order))
    print(f"all requests: {len(order)}, upstreams {in_turn([body for _, body in order])}")
    per_worker = collections.defaultdict(list)
    for worker, body in order:
        per_worker[worker].append(body)
    for worker in sorted(per_worker):
        hosts = per_worker[worker]
        print(f"worker_{worker}: {len(hosts)}, upstreams {in_turn(hosts)}: {' '.join(hosts)}")


main()
