"""One measured run of wrk against one proxy."""

import json
import os

from proxies import HERE
from procs import BenchError


def wrk_argv(connections, seconds, url):
    script = os.path.join(HERE, "wrk.lua")
    return ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", script, url]


def parse_wrk(output):
    """The JSON line that wrk.lua prints."""
    for line in output.splitlines():
        if line.startswith("RESULT "):
            return json.loads(line.removeprefix("RESULT "))
    raise BenchError(f"wrk printed no result: {output.strip()}")


def drive(lab, server, connections, seconds):
    """Loads the proxy for `seconds`; returns the numbers of the run.

    `error` is empty, or says why the row is invalid. Times are in microseconds.
    """
    before = server.child.cpu_seconds()
    output = lab.session.run("wrk", wrk_argv(connections, seconds, server.url), lab.other_cpus, seconds + 60)
    if not server.child.alive():
        raise BenchError(f"{server.name} died under load:\n{server.child.log_tail()}")
    cpu = server.child.cpu_seconds() - before
    result = parse_wrk(output)
    errors = [f"{count} {kind}" for kind, count in result["errors"].items() if count]
    requests = result["requests"]
    if not requests:
        errors.append("no request completed")
    duration = max(result["duration_us"], 1) / 1e6
    return {
        "proxy": server.name,
        "connections": connections,
        "requests": requests,
        "rps": requests / duration,
        "p50_us": result["p50_us"],
        "p99_us": result["p99_us"],
        "cpu_us": cpu * 1e6 / max(requests, 1),
        "cpu_share": cpu / duration,
        "rss_kib": server.child.rss_kib(),
        "error": ", ".join(errors),
    }
