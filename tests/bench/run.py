#!/usr/bin/env python3
"""Measures legate beside Envoy, nginx and HAProxy on this machine, in one run. See README.md here."""

import argparse
import json
import os
import platform
import subprocess
import sys

sys.dont_write_bytecode = True

from compare import compare, summarise
from idle import idle
from procs import BenchError, Session, parse_cpus, raise_nofile
from proxies import KINDS, ROOT, Lab, find_program, version_of
from soak import soak
from tables import tables

DEFAULT_PROXIES = "legate,envoy,nginx,haproxy"


def numbers(text):
    values = [int(part) for part in text.split(",")]
    if min(values) < 1:
        raise ValueError(text)
    return values


def positive(text):
    return numbers(text)[0]


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    p.add_argument("--proxies", help=f"comma-separated, of {', '.join(KINDS)}; the first is the one compared"
                   f" (default: {DEFAULT_PROXIES}; legate alone for --soak and --exec)", default=argparse.SUPPRESS)
    p.add_argument("--connections", type=numbers, default=[1, 64, 512], help="comma-separated connection counts")
    p.add_argument("--seconds", type=positive, default=5, help="length of one measured run")
    p.add_argument("--rounds", type=positive, default=3, help="measured runs of each proxy and connection count")
    p.add_argument("--concurrency", type=positive, default=argparse.SUPPRESS,
                   help="workers of each proxy (default: 1; 2 for --soak)")
    p.add_argument("--cpus", default=argparse.SUPPRESS,
                   help="auto: the proxy alone on the first CPU, load and upstreams on the others;"
                   " none: no pinning; or PROXY/OTHERS such as 0/1-3 (default: auto; none for --soak)")
    p.add_argument("--idle", type=int, default=10000, metavar="N",
                   help="idle connections to measure the memory of; 0 leaves that out")
    p.add_argument("--idle-all", action="store_true", help="measure them on all proxies, not only on the first")
    p.add_argument("--json", metavar="FILE", help="write all numbers there too")
    p.add_argument("--soak", action="store_true", help="one long load instead, then a look at the gauges")
    p.add_argument("--soak-seconds", type=positive, default=300)
    p.add_argument("--soak-connections", type=positive, default=256)
    p.add_argument("--sample", type=positive, default=5, help="seconds between two looks at RSS during --soak")
    p.add_argument("--virtual-hosts", type=numbers, metavar="N,N", help="instead: what a request costs each proxy with so"
                   " many virtual hosts, by the CPU of the first number")
    p.add_argument("--routes", type=numbers, metavar="N,N", help="the same with so many routes in one virtual host, of which"
                   " the last one is taken")
    p.add_argument("--filters", action="store_true", help="with one of these: also with five filters before the router")
    p.add_argument("--exec", metavar="COMMAND", help="start the first proxy, run this shell command with PROXY_PID,"
                   " PROXY_URL and ADMIN_URL in its environment, and stop")
    p.add_argument("--legate", metavar="PATH", help="use this binary and do not build one")
    p.add_argument("--envoy", metavar="PATH", help="use this Envoy instead of the one in .venv")
    p.add_argument("--no-setup", action="store_true", help="install nothing and build nothing")
    options = p.parse_args()
    single = options.soak or options.exec
    if not hasattr(options, "proxies"):
        options.proxies = "legate" if single else DEFAULT_PROXIES
    if not hasattr(options, "concurrency"):
        options.concurrency = 2 if options.soak else 1
    if not hasattr(options, "cpus"):
        options.cpus = "none" if options.soak else "auto"
    options.proxies = options.proxies.split(",")
    unknown = [name for name in options.proxies if name not in KINDS]
    if unknown:
        p.error(f"--proxies: unknown: {', '.join(unknown)}; there are {', '.join(KINDS)}")
    return options


def prepare(options):
    """Builds legate, installs what is missing; returns the proxies that can be measured."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if not options.no_setup:
        if "legate" in options.proxies and not options.legate:
            if subprocess.run(["make", "--no-print-directory", "dist"], cwd=ROOT).returncode:
                raise BenchError("legate could not be built")
        subprocess.run([os.path.join(ROOT, "tests/setup.sh"), "bench"])
    there = [name for name in options.proxies if find_program(name, options)]
    for name in options.proxies:
        if name not in there:
            print(f"SKIPPED: {name}: its program is not there")
    if not there:
        raise BenchError("no proxy to measure")
    return there


def open_files(options):
    """Raises the limit for the largest measurement; shrinks --idle when that is impossible."""
    # A proxy may hold a connection on each side.
    load = 2 * max(max(options.connections), options.soak_connections if options.soak else 0) + 500
    limit = raise_nofile(max(load, options.idle + 1000))
    if limit < load:
        raise BenchError(f"{load} open files are needed and the limit is {limit}: raise `ulimit -n`")
    if limit < options.idle + 1000:
        options.idle = limit - 1000
        print(f"the limit on open files is {limit} and cannot be raised: only {options.idle} idle connections")
    return limit


def execute(lab, name, command):
    """Runs a shell command beside the started proxy; returns its exit code."""
    server = lab.start_proxy(name)
    environment = {
        **os.environ,
        "PROXY_NAME": name,
        "PROXY_PID": str(server.child.pid),
        "PROXY_URL": server.url,
        "ADMIN_URL": f"http://127.0.0.1:{server.admin}" if server.admin else "",
    }
    return subprocess.run(command, shell=True, env=environment).returncode


def bench(lab, names, options, versions):
    """The comparison and the idle connections; returns the exit code."""
    print_conditions(lab, options, versions)
    if options.virtual_hosts or options.routes:
        runs = tables(lab, names, options)
        if options.json:
            write_json(options, versions, {"runs": runs})
        return 1 if any(run["error"] for run in runs) else 0
    runs = compare(lab, names, options)
    idle_names = [n for n in (names if options.idle_all else names[:1]) if n != "haproxy-tcp"]
    idle_results = idle(lab, idle_names, options.idle) if options.idle > 0 and idle_names else []
    if options.json:
        write_json(options, versions, {
            "runs": runs,
            "summary": {c: summarise(runs, c, names) for c in options.connections},
            "idle": idle_results,
        })
    invalid = any(r["error"] for r in runs) or any(r["open_at_the_end"] < r["connections"] for r in idle_results)
    return 1 if invalid else 0


def print_conditions(lab, options, versions):
    pinned = "not pinned"
    if lab.proxy_cpus:
        pinned = f"proxy on CPU {sorted(lab.proxy_cpus)}, load and upstreams on {sorted(lab.other_cpus)}"
    print(f"{options.rounds} round(s) of {options.seconds} s, wrk -t1, {options.concurrency} worker(s); {pinned}")
    print(f"load average at the start: {os.getloadavg()[0]:.2f} on {os.cpu_count()} CPUs")
    for name, version in versions.items():
        print(f"  {name}: {version}")


def write_json(options, versions, results):
    document = {
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "options": vars(options),
        "versions": versions,
        **results,
    }
    with open(options.json, "w") as f:
        json.dump(document, f, indent=1)
        f.write("\n")


def main():
    options = arguments()
    cpus = parse_cpus(options.cpus)
    names = prepare(options)
    nofile = open_files(options)
    with Session() as session:
        lab = Lab(session, options, nofile, cpus)
        lab.start_upstreams()
        if options.exec:
            return execute(lab, names[0], options.exec)
        if options.soak:
            result = soak(lab, names[0], options)
            if options.json:
                write_json(options, {}, {"soak": result})
            return 0 if result["ok"] else 1
        versions = {name: version_of(name, find_program(name, options), session) for name in names}
        return bench(lab, names, options, versions)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
