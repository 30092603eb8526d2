#!/usr/bin/env python3
"""What the stage recorder costs: CPU per request with it off and on, turn by turn in one process under one load.

    python3 tests/bench/recorder.py [--rounds N] [--slice S] [--connections C] [--legate BINARY]

The time is what the kernel has charged to the workers' threads, the number of requests is legate's own count. The turns are
short, so that what else slows the machine down or speeds it up meets both; the figure is the median of the ratios of
neighbours, with the middle half of them beside it.
"""

import argparse
import glob
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))


def admin(path, method="GET"):
    url = os.environ["ADMIN_URL"] + path
    with urllib.request.urlopen(urllib.request.Request(url, method=method)) as answer:
        return answer.read().decode()


def nanoseconds():
    """CPU of the worker threads so far."""
    total = 0
    for task in glob.glob(f"/proc/{os.environ['PROXY_PID']}/task/*"):
        with open(task + "/comm") as name, open(task + "/schedstat") as times:
            if name.read().startswith("wrk:"):
                total += int(times.read().split()[0])
    return total


def requests():
    """Answered requests so far."""
    found = re.findall(r"^http\..*\.downstream_rq_2xx: (\d+)", admin("/stats?filter=downstream_rq_2xx"), re.M)
    return sum(map(int, found))


def turn(switch, length):
    """Nanoseconds per request while the recorder is on (`y`) or off (`n`)."""
    admin("/trace?enable=" + switch, "POST")
    time.sleep(length / 4)
    cpu, count = nanoseconds(), requests()
    time.sleep(length)
    return (nanoseconds() - cpu) / (requests() - count)


def measure(arguments):
    seconds = int(arguments.rounds * arguments.slice * 2.5 * 1.2) + 5
    command = ["wrk", "-t1", f"-c{arguments.connections}", f"-d{seconds}s", os.environ["PROXY_URL"]]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as load:
        try:
            time.sleep(1)
            rounds = [(turn("n", arguments.slice), turn("y", arguments.slice)) for _ in range(arguments.rounds)]
        finally:
            load.kill()
    off, on = (statistics.median(column) / 1000 for column in zip(*rounds))
    low, middle, high = statistics.quantiles((on / off for off, on in rounds), n=4)
    print(f"off {off:.2f} us, on {on:.2f} us per request (medians); on/off {middle:.3f} ({low:.3f} to {high:.3f})")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--slice", type=float, default=0.25, help="seconds of a turn")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--legate", help="use this binary and do not build one")
    arguments = parser.parse_args()
    if "PROXY_PID" in os.environ:
        return measure(arguments)
    command = [sys.executable, os.path.join(HERE, "run.py"), "--no-setup", "--proxies", "legate"]
    command += ["--legate", arguments.legate] if arguments.legate else []
    own = [sys.executable, __file__, "--rounds", str(arguments.rounds), "--slice", str(arguments.slice)]
    own += ["--connections", str(arguments.connections)]
    return subprocess.run([*command, "--exec", " ".join(own)], check=True)


main()
