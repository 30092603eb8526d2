#!/usr/bin/env python3
"""Many clusters: how long legate and Envoy take to start with them, and how much memory.

    python3 tests/bench/clusters.py [--clusters 1000] [--hosts 10] [--runs 5] [--kind STATIC] [--checked SECONDS]

Each run starts one program with a configuration of so many clusters of so many hosts, and a listener with a route to each,
waits until its admin says that it is live, and reads the memory of the process. The programs take turns.

--checked has one host in each cluster, which answers a health check every second and gets no requests; what that costs the
process is measured for so many seconds.
"""

import argparse
import glob
import json
import os
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE = 120


def endpoint(cluster, host):
    """A host that nobody asks; the addresses differ."""
    address = f"127.{1 + cluster // 250}.{cluster % 250}.{1 + host}"
    return {"endpoint": {"address": {"socket_address": {"address": address, "port_value": 8080}}}}


class Checked:
    """A host that passes every check, for all clusters."""

    ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.listener.setblocking(False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is self.listener:
                    self.selector.register(self.listener.accept()[0], selectors.EVENT_READ)
                    continue
                try:
                    request = key.fileobj.recv(4096)
                    if request:
                        key.fileobj.sendall(self.ANSWER)
                except OSError:
                    request = b""
                if not request:
                    self.selector.unregister(key.fileobj)
                    key.fileobj.close()

    def fields(self):
        host = {"endpoint": {"address": {"socket_address": {
            "address": "127.0.0.1", "port_value": self.listener.getsockname()[1]}}}}
        check = {"timeout": "1s", "interval": "1s", "no_traffic_interval": "1s", "unhealthy_threshold": 1,
                 "healthy_threshold": 1, "http_health_check": {"path": "/"}}
        return {"health_checks": [check]}, host


def configuration(clusters, hosts, kind, admin_path, checked=None):
    fields, the_host = checked.fields() if checked else ({}, None)
    names = [f"cluster_number_{i}" for i in range(clusters)]
    routes = [
        {"match": {"prefix": f"/{name}/"}, "route": {"cluster": name}} for name in names
    ]
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }],
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    return {
        "admin": {"address": address},
        "static_resources": {
            "listeners": [{"name": "in", "address": address, "filter_chains": [{
                "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
            }]}],
            "clusters": [{
                "name": name, "type": kind, "connect_timeout": "1s", **fields,
                "load_assignment": {"cluster_name": name, "endpoints": [
                    {"lb_endpoints": [the_host] if the_host else [endpoint(i, host) for host in range(hosts)]},
                ]},
            } for i, name in enumerate(names)],
        },
    }


def memory_kib(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["VmRSS"].split()[0])


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(program, config, directory, more, watched=0):
    """Milliseconds until it is live, KiB a second later, and then percent of a CPU for as long as that."""
    admin = Path(directory) / "admin"
    admin.unlink(missing_ok=True)
    command = [program, "-c", config, "--admin-address-path", str(admin), "-l", "error", "--concurrency", "2", *more]
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not is_live(admin):
            if process.poll() is not None or time.monotonic() > start + PATIENCE:
                sys.exit(f"{program} does not become live ({process.poll()})")
            time.sleep(0.002)
        took = (time.monotonic() - start) * 1000
        time.sleep(1)
        before, kib = cpu_seconds(process.pid), memory_kib(process.pid)
        time.sleep(watched)
        return took, kib, (cpu_seconds(process.pid) - before) * 100 / max(watched, 1)
    finally:
        process.kill()
        process.wait()


def is_live(admin):
    try:
        with urllib.request.urlopen(f"http://{admin.read_text().strip()}/ready", timeout=5) as answer:
            return answer.status == 200
    except (OSError, ValueError):
        return False


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", type=int, default=1000)
    parser.add_argument("--hosts", type=int, default=10)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--kind", default="STATIC")
    parser.add_argument("--checked", type=float, default=0)
    parser.add_argument("--legate", default=str(ROOT / "target/dist/legate"))
    envoys = sorted(glob.glob(str(ROOT / ".venv/lib/python3*/site-packages/envoy/_bin/envoy")))
    parser.add_argument("--envoy", default=os.environ.get("ENVOY_BIN") or (envoys[0] if envoys else None))
    options = parser.parse_args()
    programs = [("legate", options.legate, [])]
    if options.envoy:
        programs.append(("Envoy", options.envoy, ["--use-dynamic-base-id"]))
    else:
        print("SKIPPED: no Envoy beside it (tests/setup.sh bench)", file=sys.stderr)
    checked = Checked() if options.checked else None
    if checked:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * options.clusters + 1000), hard))
    measured = {}
    with tempfile.TemporaryDirectory() as directory:
        for clusters in (0, options.clusters):
            config = os.path.join(directory, "config.json")
            with open(config, "w", encoding="utf-8") as file:
                json.dump(configuration(clusters, options.hosts, options.kind, directory, checked), file)
            for _ in range(options.runs):
                for name, program, more in programs:
                    measured.setdefault((clusters, name), []).append(
                        run(program, config, directory, more, options.checked))
    print("| | clusters | live after | memory | of each cluster |" + (" CPU |" if checked else ""))
    print("|---|---:|---:|---:|---:|" + ("---:|" if checked else ""))
    for name, _, _ in programs:
        bare = statistics.median(kib for _, kib, _ in measured[0, name])
        for clusters in (0, options.clusters):
            took = statistics.median(ms for ms, _, _ in measured[clusters, name])
            kib = statistics.median(kib for _, kib, _ in measured[clusters, name])
            cpu = statistics.median(cpu for _, _, cpu in measured[clusters, name])
            each = f"{(kib - bare) / clusters:.1f} KiB" if clusters else ""
            print(f"| {name} | {clusters} | {took:.0f} ms | {kib / 1024:.1f} MiB | {each} |" + (f" {cpu:.1f} % |" if checked else ""))


if __name__ == "__main__":
    main()
