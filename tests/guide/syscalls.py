#!/usr/bin/env python3
"""The system calls of one kept-alive request, as strace sees them on the worker.

    python3 tests/guide/syscalls.py --proxy legate|envoy

Left out are polls that only waited for a timer. legate's poll is `epoll_pwait` without a signal mask, which is the same call and
is shown as such.
"""

import argparse
import os
import re

from lab import PATIENCE, Proxy, Upstream, bootstrap, client, strace, thread_names

CALL = re.compile(r"(?P<name>\w+)\((?P<fd>\d+), (?P<rest>.*)\) += -?\d+(?: (?P<error>E\w+))?")


def shown(text):
    """The calls of the first of two requests, a line each."""
    downstream, lines = None, []
    for call in filter(None, map(CALL.match, text.splitlines())):
        name, fd, rest = call["name"], call["fd"], call["rest"]
        if name in ("epoll_wait", "epoll_pwait"):
            ready = re.findall(r"events=([\w|]+), data=\{u32=(\d+)", rest)
            timeout = int(rest.split(", ")[-3 if name == "epoll_pwait" else -1])
            if downstream is None and ready:
                downstream = ready[0][1]
            elif ready and lines[-1].startswith("send") and ready[0][1] == downstream:
                break
            if downstream is not None and (ready or timeout == 0):
                of = {True: "downstream", False: "upstream"}
                events = [f"{of[who == downstream]} {bits}" for bits, who in ready]
                how = "not waiting" if timeout == 0 else "waiting"
                lines.append(f"epoll_wait, {how}: {', '.join(events) or 'nothing'}")
        elif downstream is not None:
            end = "downstream" if fd == downstream else "upstream"
            lines.append(f"{name} {end}" + (f": {call['error']}" if call["error"] else ""))
    return lines


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--proxy", choices=("legate", "envoy"), default="legate")
    options = parser.parse_args()

    upstream = Upstream("A")
    with Proxy(options.proxy, bootstrap([upstream.port])) as proxy:
        peer = client(proxy.port)
        peer.get()
        peer.read_response()
        path = os.path.join(proxy.directory, "strace")
        worker = next(task for task, name in thread_names(proxy.pid).items() if name == "wrk:worker_0")
        tracer = strace(path, "-p", worker)
        # The second one is there so that the first is sure to have been seen to its end.
        for _ in range(2):
            peer.get()
            peer.read_response()
        tracer.terminate()
        tracer.wait(PATIENCE)
        with open(path) as file:
            print("\n".join(shown(file.read())))


main()
