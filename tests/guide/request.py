#!/usr/bin/env python3
"""Requests through legate, from the recorder: the callbacks of the worker's loop, and the stages in them.

    python3 tests/guide/request.py [--second]

A line that is indented happens inside of the one above it that is less so. D1 is the client's connection, U1
the one to the upstream. Passes and callbacks in which nothing of the request happens are left out. --second
shows the second request on the same connections in place of the first.
"""

import argparse
import time

from lab import PATIENCE, Peer, Proxy, bootstrap, client, listen

KINDS = {1: "fd event", 2: "timer", 3: "signal", 4: "listener"}
BITS = {1: "Read", 2: "Write", 4: "Closed"}
ACTIVATED = 8
EVENTS = {0: "RemoteClose", 1: "LocalClose", 2: "Connected"}
LAST = "DispatcherImpl::clearDeferredDeleteList"
# When a recording begins, the workers are asked for the lists of their pools.
POSTS = "DispatcherImpl::runPostCallbacks"
BYTES = {
    "ConnectionImpl::dispatch",
    "ConnectionImpl::onRead",
    "ConnectionManagerImpl::onData",
    "ConnectionImpl::write",
    "RawBufferSocket::doRead",
    "RawBufferSocket::doWrite",
}


def detail(event):
    """What an event's details say."""
    stage, a = event["stage"], event["a"]
    if stage in BYTES:
        return f"{a} bytes"
    if stage == "ConnectionImpl::onFileEvent":
        return "|".join(name for bit, name in BITS.items() if a & bit)
    if stage in ("ConnPoolImpl::onConnectionEvent", "ConnectionImpl::closeSocket"):
        return EVENTS[a]
    if stage == "lists":
        return f"pending {a >> 32}, busy {a >> 16 & 0xFFFF}, ready {a & 0xFFFF}"
    if stage == "ConnectionImpl::readDisable":
        return "true" if a else "false"
    return ""


def callbacks(events):
    """Each callback's pass and lines."""
    names, found, depth = {}, [], 0
    for event in events:
        stage, phase = event["stage"], event["ph"]
        if stage == "pass":
            continue
        if phase == "E":
            depth -= 1
            continue
        if stage == "callback":
            kind = KINDS.get(event["a"], "?") + (", by event_active" if event["b"] & ACTIVATED else "")
            found.append((event["pass"], kind, []))
            depth = 1
            continue
        if not found:
            continue  # of a callback that was under way when the recorder was switched on
        conn = event.get("conn")
        if conn is not None and conn not in names:
            names[conn] = "D1" if stage == "ActiveListener::newConnection" else "U1"
        words = [stage, names.get(conn, ""), detail(event)]
        found[-1][2].append("  " * (depth + 1) + " ".join(filter(None, words)))
        depth += phase == "B"
    return found


def wait(proxy, stage, count):
    """Waits until the recorder has seen `stage` so often."""
    deadline = time.monotonic() + PATIENCE
    while sum(e["stage"] == stage and e["ph"] != "E" for e in proxy.recorded()) < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{stage} has not come {count} times")
        time.sleep(0.005)


def show(found):
    """Prints callbacks, their passes numbered from 1."""
    number, last = 0, None
    for loop_pass, kind, lines in found:
        if loop_pass != last:
            number, last = number + 1, loop_pass
            print(f"pass {number}")
        print(f"  {kind}")
        print("\n".join(lines))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--second", action="store_true")
    options = parser.parse_args()
    server = listen()
    with Proxy("legate", bootstrap([server.getsockname()[1]])) as proxy:
        proxy.ask("POST", "/trace?enable=y")
        peer = client(proxy.port)
        wait(proxy, "ConnectionImpl::onFileEvent", 1)
        upstream = None
        for number in (1, 2):
            peer.get()
            upstream = upstream or Peer(server.accept()[0])
            upstream.read_head()
            upstream.answer("hello")
            peer.read_response()
            wait(proxy, LAST, number)
        found = [callback for callback in callbacks(proxy.recorded()) if set(map(str.strip, callback[2])) - {POSTS}]
    end = 1 + next(i for i, (_, _, lines) in enumerate(found) if LAST in map(str.strip, lines))
    show(found[end:] if options.second else found[:end])


main()
