"""Whether a proxy answers while it is under load: each of its workers, its admin port, and SIGTERM."""

import re
import socket
import subprocess
import time

from procs import BenchError, wait_until
from proxies import get

# What an answer may take. The load takes all CPUs, so that it is far above what is usual.
PATIENCE = 5.0
# Connections that are tried until each worker has one.
TRIES = 400
REQUEST = b"GET / HTTP/1.1\r\nhost: watch\r\n\r\n"
PER_WORKER = re.compile(r"^listener\.(?!admin).*\.(worker_\d+)\.downstream_cx_total$")


class Watch:
    """A connection to each worker, made before the load begins, and what they have answered."""

    def __init__(self, server, workers):
        self.server = server
        self.slowest = {}
        self.problems = []
        self.connections = find_workers(server, workers)

    def look(self):
        """Asks every worker and the admin port; says what is not in order."""
        for worker in sorted(self.connections):
            self.time(worker, lambda w=worker: ask(self.connections[w]))
        self.time("/ready", lambda: (get(self.server.admin, "/ready", PATIENCE) or (0,))[0] == 200)

    def time(self, what, question):
        start = time.monotonic()
        try:
            answered = question()
        except OSError as error:
            answered = None
            what_came = str(error)
        else:
            what_came = "the wrong answer"
        took = time.monotonic() - start
        self.slowest[what] = max(took, self.slowest.get(what, 0.0))
        if not answered or took > PATIENCE:
            problem = f"{what}: {what_came if not answered else 'too late'} after {took:.1f} s"
            self.problems.append(problem)
            print(f"  DOES NOT ANSWER: {problem}", flush=True)

    def close(self):
        for connection in self.connections.values():
            connection.close()

    def end(self):
        """Sends SIGTERM; the proxy has to end by itself, and in time."""
        start = time.monotonic()
        process = self.server.child.process
        process.terminate()
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.problems.append(f"SIGTERM: still there after {PATIENCE:.0f} s")
            return
        self.slowest["SIGTERM"] = time.monotonic() - start
        if code != 0:
            self.problems.append(f"SIGTERM: ended with {code}")


def find_workers(server, workers):
    """{worker: a connection that it has accepted}. Which one took a connection, its counter tells."""
    found, spare = {}, []
    before = accepted(server)
    for _ in range(TRIES):
        connection = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        if not ask(connection):
            raise BenchError(f"{server.name}: no answer before the load")
        now = wait_until("a worker that counts a connection", 5, lambda: changed(before, accepted(server)))
        worker = next(name for name in now if now[name] != before.get(name, 0))
        before = now
        if worker in found:
            spare.append(connection)  # held, so that the other workers are the idler ones
        else:
            found[worker] = connection
        if len(found) == workers:
            break
    for connection in spare:
        connection.close()
    if len(found) < workers:
        raise BenchError(f"{server.name}: {TRIES} connections, and only {sorted(found)} of {workers} workers took any")
    return found


def changed(before, now):
    return now if now != before else None


def accepted(server):
    """{worker: connections so far}."""
    matches = ((PER_WORKER.match(name), value) for name, value in server.stats().items())
    return {match[1]: value for match, value in matches if match}


def ask(connection):
    """Whether a request on this connection gets its 200, whole."""
    connection.settimeout(PATIENCE)
    connection.sendall(REQUEST)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += receive(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    while length and len(body) < int(length[1]):
        body += receive(connection)
    return head.startswith(b"HTTP/1.1 200 ")


def receive(connection):
    data = connection.recv(65536)
    if not data:
        raise ConnectionError("closed")
    return data
