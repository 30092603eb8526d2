"""What an idle kept-alive connection costs in memory."""

import socket
import time

from procs import BenchError

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def measure_idle(lab, name, count):
    """Opens `count` connections that each make one request and then stay; returns the growth of RSS."""
    server = lab.start_proxy(name)
    connections = []
    try:
        for _ in range(200):  # what is allocated once and for all, upstream connections included
            one_request(server).close()
        time.sleep(0.5)
        before = server.child.rss_kib()
        for _ in range(count):
            connections.append(one_request(server))
        time.sleep(0.5)
        after = server.child.rss_kib()
        open_still = sum(1 for c in connections if still_open(c))
    finally:
        for connection in connections:
            connection.close()
        lab.session.stop(server.child)
    return {
        "proxy": name,
        "connections": count,
        "open_at_the_end": open_still,
        "rss_before_kib": before,
        "rss_after_kib": after,
        "bytes_per_connection": (after - before) * 1024 / count,
    }


def one_request(server):
    """A connection that has had one complete answer."""
    try:
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        connection.sendall(REQUEST)
        answer = b""
        while b"\r\n\r\n" not in answer or len(answer) < total_length(answer):
            piece = connection.recv(65536)
            if not piece:
                raise BenchError(f"{server.name} closed a connection in the middle of an answer")
            answer += piece
    except OSError as error:
        raise BenchError(f"{server.name}: {error}") from None
    first_line = answer.split(b"\r\n")[0]
    if not first_line.startswith(b"HTTP/1.1 200 "):
        raise BenchError(f"{server.name} answered {first_line!r}")
    return connection


def total_length(answer):
    """Length of head and body of an answer with a complete head; BenchError without content-length."""
    head, _, _ = answer.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n")[1:]:
        field, _, value = line.partition(b":")
        if field.strip().lower() == b"content-length":
            return len(head) + 4 + int(value)
    raise BenchError("an answer without content-length")


def still_open(connection):
    connection.setblocking(False)
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def idle(lab, names, count):
    """Measures the proxies one after the other and prints a table."""
    results = []
    print(f"\n{count} idle kept-alive connections, each after one request")
    print(f"{'proxy':<12} {'RSS before':>11} {'RSS after':>11} {'bytes/connection':>17}")
    for name in names:
        result = measure_idle(lab, name, count)
        results.append(result)
        lost = count - result["open_at_the_end"]
        note = f"  INVALID: {lost} connections were closed" if lost else ""
        print(
            f"{name:<12} {result['rss_before_kib'] / 1024:>7.1f} MiB {result['rss_after_kib'] / 1024:>7.1f} MiB"
            f" {result['bytes_per_connection']:>17.0f}{note}"
        )
    return results
