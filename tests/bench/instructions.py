#!/usr/bin/env python3
"""Counts the user-space instructions, the allocations and the locked instructions of a proxy per request, with callgrind.

    tests/bench/instructions.py [--proxies legate,nginx,haproxy] [--requests FEW,MANY] [--connections C] [--legate BINARY]

Each proxy is started twice, answers FEW kept-alive requests in one life and MANY in the other, and the difference is divided
by that of the requests: what starting, connecting and ending cost is in both. Only the busiest thread counts, which is
the worker. The number does not depend on how busy the machine is, but for how many requests one pass of the loop finds.

Locked are those of the program's own instructions that claim a line of memory before all other processors (`lock`, and `xchg`
with memory): what workers share, and write.
"""

import argparse
import glob
import os
import re
import selectors
import shutil
import socket
import subprocess
import sys
import time

sys.dont_write_bytecode = True

from procs import BenchError, Session, parse_cpus, raise_nofile
from proxies import BODY, KINDS, ROOT, Lab, find_program
from tables import FILTERS

PATIENCE = 120  # for anything that a proxy has to do under valgrind
REQUEST = "GET / HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n"
ALLOCATING = {"malloc", "calloc", "realloc", "memalign", "posix_memalign", "aligned_alloc"}
# nginx's worker is then the process that callgrind sees first.
ARGUMENTS = {"nginx": ["-g", "master_process off;"]}


def load(port, connections, count):
    """Sends `count` requests, always one on each connection until they run out."""
    request = REQUEST.format(port).encode()
    end = time.monotonic() + PATIENCE
    sent = done = 0
    with selectors.DefaultSelector() as selector:
        for _ in range(connections):
            client = socket.create_connection(("127.0.0.1", port), PATIENCE)
            selector.register(client, selectors.EVENT_READ, bytearray())
            client.sendall(request)
            sent += 1
        while done < count:
            ready = selector.select(max(end - time.monotonic(), 0))
            if not ready:
                raise BenchError(f"{done} of {count} requests were answered within {PATIENCE} s")
            for key, _ in ready:
                answer = key.data
                part = key.fileobj.recv(65536)
                answer += part
                if not part or not answer.startswith(b"HTTP/1.1 200"):
                    raise BenchError(f"a bad answer: {bytes(answer)!r}")
                if not answer.endswith(BODY.encode()):
                    continue
                answer.clear()
                done += 1
                if sent < count:
                    key.fileobj.sendall(request)
                    sent += 1
        for key in list(selector.get_map().values()):
            key.fileobj.close()


def locking(program):
    """The addresses of a program's instructions that lock; empty where there is no disassembler."""
    if not shutil.which("objdump"):
        return set()
    listing = subprocess.run(["objdump", "-d", "--no-show-raw-insn", program], capture_output=True, text=True).stdout
    found = re.finditer(r"^\s+([0-9a-f]+):\s+(?:lock |xchg .*\()", listing, re.MULTILINE)
    return {int(address.group(1), 16) for address in found}


def count_locked(path, program, addresses):
    """How often the instructions at these addresses of a program ran."""
    names, inside, is_call, count = {}, False, False, 0
    with open(path, errors="replace") as profile:
        for line in profile:
            found = re.match(r"(c?)ob=\((\d+)\)(?: (.*))?", line)
            if found:
                is_called, number, name = found.groups()
                if name:
                    names[number] = name.strip()
                if not is_called:
                    inside = os.path.realpath(names[number]) == program
            elif line.startswith("calls="):
                is_call = True
            elif line.startswith("0x"):
                address, _, cost = line.split()[:3]
                if inside and not is_call and int(address, 16) in addresses:
                    count += int(cost)
                is_call = False
    return count


def read_profile(path):
    """(instructions, calls by function) of a file that callgrind wrote."""
    names, calls, called, total = {}, {}, None, 0
    with open(path, errors="replace") as profile:
        for line in profile:
            found = re.match(r"(c?)fn=\((\d+)\)(?: (.*))?", line)
            if found:
                is_called, number, name = found.groups()
                if name:
                    names[number] = name.strip()
                if is_called:
                    called = number
            elif line.startswith("calls="):
                calls[called] = calls.get(called, 0) + int(line[6:].split()[0])
            elif line.startswith(("summary:", "totals:")):
                total = int(line.split()[1])
    by_name = {}
    for number, count in calls.items():
        # Versions and recursion levels: malloc@@GLIBC_2.2.5, malloc'2.
        name = re.split(r"[@']", names.get(number, ""))[0]
        by_name[name] = by_name.get(name, 0) + count
    return total, by_name


def one_life(lab, name, options, count, program, addresses):
    """By thread the (instructions, allocations, locked instructions) of a life with so many requests."""
    profile = os.path.join(lab.session.subdir(f"{name}-{count}"), "profile")
    by_address = ["--dump-instr=yes", "--compress-pos=no"]
    valgrind = ["valgrind", "--tool=callgrind", "--separate-threads=yes", *by_address, f"--callgrind-out-file={profile}"]
    more = {"hosts": options.virtual_hosts, "routes": options.routes, "filters": FILTERS if options.filters else ""}
    server = lab.start_proxy(name, valgrind, ARGUMENTS.get(name, []), PATIENCE, **more)
    load(server.port, options.connections, count)
    process = server.child.process
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{name} does not end") from None
    log = server.child.log_tail()
    lab.session.stop(server.child)
    threads = {path.removeprefix(profile): (*read_profile(path), path) for path in glob.glob(profile + "*")}
    if not threads:
        raise BenchError(f"callgrind has written nothing about {name}:\n{log}")
    return {
        thread: (
            total,
            sum(calls.get(function, 0) for function in ALLOCATING),
            count_locked(path, program, addresses),
        )
        for thread, (total, calls, path) in threads.items()
    }


def per_request(lab, name, options):
    few, many = options.requests
    program = os.path.realpath(find_program(name, options))
    addresses = locking(program)
    lives = (one_life(lab, name, options, count, program, addresses) for count in (few, many))
    less, more = lives
    # The worker is who has done more: the main thread, which reads the configuration, does the same in both.
    worker = max(less.keys() & more.keys(), key=lambda thread: more[thread][0] - less[thread][0])
    return tuple((b - a) / (many - few) for a, b in zip(less[worker], more[worker]))


def pair(text):
    few, many = (int(part) for part in text.split(","))
    if not 0 < few < many:
        raise ValueError(text)
    return few, many


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--proxies", default="legate,nginx,haproxy", help="comma-separated")
    parser.add_argument("--requests", type=pair, default=(1000, 3000), metavar="FEW,MANY")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--virtual-hosts", type=int, default=1, metavar="N")
    parser.add_argument("--routes", type=int, default=1, metavar="N", help="in one virtual host; the last one is taken")
    parser.add_argument("--filters", action="store_true", help="five before the router (legate and Envoy)")
    parser.add_argument("--legate", metavar="PATH", help="use this binary and do not build one")
    parser.add_argument("--envoy", metavar="PATH")
    options = parser.parse_args()
    options.proxies = options.proxies.split(",")
    unknown = [name for name in options.proxies if name not in KINDS]
    if unknown:
        parser.error(f"--proxies: unknown: {', '.join(unknown)}; there are {', '.join(KINDS)}")
    if options.connections > options.requests[0]:
        parser.error("--requests: each connection has one at least")
    options.concurrency = 1
    return options


def main():
    options = arguments()
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if not shutil.which("valgrind"):
        raise BenchError("valgrind is needed (package valgrind)")
    if "legate" in options.proxies and not options.legate:
        if subprocess.run(["make", "--no-print-directory", "dist"], cwd=ROOT).returncode:
            raise BenchError("legate could not be built")
    few, many = options.requests
    print(f"callgrind on the worker, {many} kept-alive requests less {few}, {options.connections} connections")
    print("per request")
    print(f"{'':12} {'instructions':>14} {'allocations':>14} {'locked':>10}")
    with Session() as session:
        lab = Lab(session, options, raise_nofile(4096), parse_cpus("none"))
        lab.start_upstreams()
        for name in options.proxies:
            if not find_program(name, options):
                print(f"SKIPPED: {name}: its program is not there")
                continue
            instructions, allocations, locked = per_request(lab, name, options)
            print(f"{name:12} {instructions:14.0f} {allocations:14.2f} {locked:10.2f}")
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    try:
        sys.exit(main())
    except (BenchError, OSError) as error:
        sys.exit(f"instructions: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
