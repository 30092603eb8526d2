#!/usr/bin/env python3
"""The threads of a proxy, or its listening sockets and who watches them.

    python3 tests/guide/threads.py names|sockets --proxy legate|envoy [--workers N] [--shared]

--shared gives the listener `enable_reuse_port: false`. All is read from /proc: the names of the threads, the
fds that are sockets listening on the listener's port, and the epoll instances that have such a socket
registered, with the events that they ask for (`fdinfo` of an epoll).
"""

import argparse
import os

from lab import Proxy, Upstream, bootstrap

LISTEN = "0A"
EVENTS = {
    0x1: "EPOLLIN",
    0x4: "EPOLLOUT",
    0x2000: "EPOLLRDHUP",
    1 << 28: "EPOLLEXCLUSIVE",
    1 << 31: "EPOLLET",
}


def threads(pid):
    """The names of a process's threads, as far as the kernel keeps them."""
    names = set()
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/comm") as file:
            names.add(file.read().strip())
    return sorted(names)


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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("names", "sockets"))
    parser.add_argument("--proxy", choices=("legate", "envoy"), default="legate")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shared", action="store_true")
    options = parser.parse_args()

    upstream = Upstream("A")
    listener = {"enable_reuse_port": False} if options.shared else {}
    with Proxy(options.proxy, bootstrap([upstream.port], listener=listener), options.workers) as proxy:
        if options.what == "names":
            print("\n".join(threads(proxy.pid)))
            return
        all_fds = fds(proxy.pid)
        epolls = [fd for fd, what in all_fds.items() if what == "anon_inode:[eventpoll]"]
        watches = [watch for epoll in epolls for watch in watched(proxy.pid, epoll).items()]
        for number, inode in enumerate(listening_inodes(proxy.pid, proxy.port), 1):
            own = {fd for fd, what in all_fds.items() if what == f"socket:[{inode}]"}
            events = [bits for fd, bits in watches if fd in own]
            asked = ", ".join(sorted({names_of(bits) for bits in events}))
            print(f"listening socket {number}: {len(own)} fd, {len(events)} epoll watch it for {asked}")



main()
