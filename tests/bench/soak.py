"""A long load on one proxy: memory over time, errors, who answers, and gauges that must return to zero."""

import re
import subprocess
import time

from load import parse_wrk, wrk_argv
from procs import BenchError, wait_until
from watch import Watch

# Gauges that count what is going on at the moment.
MOMENTARY = re.compile(r"_active$|_open$|_bytes_buffered$|_total_buffered$|_draining$")
# What may stay: idle upstream connections (with the size of the last read, which Envoy clears at the
# next one), what the admin request itself causes, and the listeners.
MAY_STAY = re.compile(
    r"^http\.admin\.|^listener\.admin\.|^runtime\.|^listener_manager\.total_listeners_active$"
    r"|^cluster\..*\.upstream_cx_(active|rx_bytes_buffered)$"
)
# Without these there would be nothing to look at.
EXPECTED = (
    "http.ingress_http.downstream_cx_active",
    "http.ingress_http.downstream_rq_active",
    "cluster.service.upstream_rq_active",
    "cluster.service.upstream_rq_pending_active",
    "cluster.service.circuit_breakers.default.cx_open",
    "cluster.service.circuit_breakers.default.rq_open",
    "cluster.service.circuit_breakers.default.rq_pending_open",
)


def soak(lab, name, options):
    """Returns what was seen; `ok` says whether it was all in order."""
    server = lab.start_proxy(name)
    if server.admin is None:
        raise BenchError(f"--soak needs a proxy with /stats, not {name}")
    seconds, connections = options.soak_seconds, options.soak_connections
    print(f"soak: {name}, {connections} connections for {seconds} s, {options.concurrency} workers")
    watch = Watch(server, options.concurrency)
    wrk = lab.session.start("soak-wrk", wrk_argv(connections, seconds, server.url), lab.other_cpus)
    samples = sample(server, wrk, watch, options.sample)
    watch.close()
    result = parse_wrk(open_log(wrk))
    errors = {kind: count for kind, count in result["errors"].items() if count}
    stuck = stuck_gauges(server)
    stats = server.stats()
    missing = [gauge for gauge in EXPECTED if gauge not in stats]
    watch.end()
    print_result(result, samples, errors, stuck, missing, stats)
    print_watch(watch, stats)
    lab.session.stop(server.child)
    return {
        "proxy": name,
        "wrk": result,
        "rss_kib": samples,
        "stuck_gauges": stuck,
        "missing_gauges": missing,
        "slowest_answers_s": watch.slowest,
        "unanswered": watch.problems,
        "ok": not (errors or stuck or missing or watch.problems) and result["requests"] > 0,
    }


def sample(server, wrk, watch, interval):
    """[(seconds, KiB)] every `interval` seconds until wrk has ended; each time everyone is asked."""
    start = time.monotonic()
    samples = []
    while True:
        try:
            wrk.process.wait(interval)
        except subprocess.TimeoutExpired:
            pass
        if not server.child.alive():
            raise BenchError(f"{server.name} died under load:\n{server.child.log_tail()}")
        watch.look()
        samples.append((time.monotonic() - start, server.child.rss_kib()))
        print(f"  {samples[-1][0]:>6.0f} s  RSS {samples[-1][1] / 1024:.1f} MiB", flush=True)
        if not wrk.alive():
            return samples


def open_log(child):
    with open(child.log_path, errors="replace") as log:
        return log.read()


def stuck_gauges(server):
    """The gauges that are not back at zero ten seconds after the load."""

    def not_zero():
        stats = server.stats()
        return {n: v for n, v in stats.items() if v and MOMENTARY.search(n) and not MAY_STAY.search(n)}

    try:
        wait_until("gauges", 10, lambda: not not_zero())
        return {}
    except BenchError:
        return not_zero()


def print_result(result, samples, errors, stuck, missing, stats):
    first, last = samples[0], samples[-1]
    duration = result["duration_us"] / 1e6
    print(f"requests: {result['requests']} ({result['requests'] / duration:.0f}/s), p99 {result['p99_us']} us")
    print(f"RSS: first {first[1] / 1024:.1f} MiB (after {first[0]:.0f} s), last {last[1] / 1024:.1f} MiB")
    print("errors: " + (", ".join(f"{count} {kind}" for kind, count in errors.items()) or "none"))
    idle_upstream = sum(v for n, v in stats.items() if n == "cluster.service.upstream_cx_active")
    print(f"idle upstream connections left: {idle_upstream}")
    for gauge, value in sorted(stuck.items()):
        print(f"NOT BACK AT ZERO: {gauge}: {value}")
    for gauge in missing:
        print(f"NOT IN /stats: {gauge}")
    if not stuck:
        seen = sum(1 for n in stats if MOMENTARY.search(n) and not MAY_STAY.search(n))
        print(f"gauges: all {seen} that count what is going on are back at zero")


def print_watch(watch, stats):
    slowest = ", ".join(f"{what} {took * 1000:.0f} ms" for what, took in sorted(watch.slowest.items()))
    print(f"slowest answers: {slowest}")
    misses = (f"{stats.get(f'{dogs}.watchdog_{kind}', 0)} {kind} of {dogs}"
              for dogs in ("main_thread", "workers") for kind in ("miss", "mega_miss"))
    print(f"guard dogs: {', '.join(misses)}")
    for problem in watch.problems:
        print(f"DID NOT ANSWER: {problem}")
