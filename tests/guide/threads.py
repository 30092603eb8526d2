#!/usr/bin/env python3
"""The threads of a proxy, its listening sockets, and who accepts.

    python3 tests/guide/threads.py names|sockets|accepts --proxy legate|envoy [--workers N] [--shared]

`names` are those of the threads. `sockets` are the fds that listen on the listener's port, with the epoll
instances that have them registered and the events that these ask for (`fdinfo` of an epoll in /proc).
`accepts` opens 20 connections, one after the other, and has strace tell which worker accepted how many, and
whether any was woken and found nothing to accept. --shared gives the listener `enable_reuse_port: false`.
"""

import argparse
import os
import re

from lab import PATIENCE, Proxy, Upstream, bootstrap, client, strace, thread_names

LISTEN = "0A"
CONNECTIONS = 20
EVENTS = {
    0x1: "EPOLLIN",
    0x4: "EPOLLOUT",
    0x2000: "EPOLLRDHUP",
    1 << 28: "EPOLLEXCLUSIVE",
    1 << 31: "EPOLLET",
}


def listening_inodes(pid, port):
    """The inodes of the sockets that listen on `port`."""
    with open(f"/proc/{pid}/net/tcp") as file:
        rows = [line.split() for line in list(file)[1:]]
    return {row[9] for row in rows if row[3] == LISTEN and int(row[1].rpartition(":")[2], 16) == port}


def fds(pid):
    """What each fd is, as /proc tells."""
    folder = f"/proc/{pid}/fd"
    return {int(fd): os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)}


def watched(pid, epoll):
    """What an epoll instance watches: event bits by fd."""
    with open(f"/proc/{pid}/fdinfo/{epoll}") as file:
        rows = [line.split() for line in file if line.startswith("tfd:")]
    return {int(row[1]): int(row[3], 16) for row in rows}


def names_of(bits):
    known = [name for bit, name in EVENTS.items() if bits & bit]
    return " ".join(known)


def show_sockets(proxy):
    all_fds = fds(proxy.pid)
    epolls = [fd for fd, what in all_fds.items() if what == "anon_inode:[eventpoll]"]
    watches = [watch for epoll in epolls for watch in watched(proxy.pid, epoll).items()]
    for number, inode in enumerate(listening_inodes(proxy.pid, proxy.port), 1):
        own = {fd for fd, what in all_fds.items() if what == f"socket:[{inode}]"}
        events = [bits for fd, bits in watches if fd in own]
        asked = ", ".join(sorted({names_of(bits) for bits in events}))
        print(f"listening socket {number}: {len(own)} fd, {len(events)} epoll watch it for {asked}")


def show_accepts(proxy):
    path = os.path.join(proxy.directory, "strace")
    tracer = strace(path, "-f", "-e", "trace=accept4", "-p", str(proxy.pid))
    names = thread_names(proxy.pid)
    clients = []
    for _ in range(CONNECTIONS):
        clients.append(client(proxy.port))
        clients[-1].get()
        clients[-1].read_response()
    tracer.terminate()
    tracer.wait(PATIENCE)
    workers = {task: [] for task, name in names.items() if name.startswith("wrk:")}
    with open(path) as file:
        for task, error in re.findall(r"^(\d+) +.*accept4.* = (?:\d+|-1 (E\w+))", file.read(), re.MULTILINE):
            if task in workers:
                workers[task].append(error)
    in_vain = False
    for task, outcomes in workers.items():
        print(f"accepted by {names[task].removeprefix('wrk:')}: {outcomes.count('')}")
        # A listener accepts until EAGAIN: only the first call after a wake-up says whether it was in vain.
        in_vain |= any(a == b == "EAGAIN" for a, b in zip(["EAGAIN", *outcomes], outcomes))
    print(f"woken in vain: {'yes' if in_vain else 'no'}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("names", "sockets", "accepts"))
    parser.add_argument("--proxy", choices=("legate", "envoy"), default="legate")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shared", action="store_true")
    options = parser.parse_args()

    upstream = Upstream("A")
    listener = {"enable_reuse_port": False} if options.shared else {}
    with Proxy(options.proxy, bootstrap([upstream.port], listener=listener), options.workers) as proxy:
        if options.what == "names":
            print("\n".join(sorted(set(thread_names(proxy.pid).values()))))
        elif options.what == "sockets":
            show_sockets(proxy)
        else:
            show_accepts(proxy)


main()
