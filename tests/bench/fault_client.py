"""The clients of faults.py: requests whose answers are known before, and WebSockets that send and compare."""

import asyncio
import base64
import collections
import os
import random
import re
import struct
import zlib

from fault_upstream import xor

# What an answer may take; the machine may be busy.
PATIENCE = 30.0
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


class Tally:
    """What has come: the kinds that may come, and what was not expected."""

    def __init__(self):
        self.kinds = collections.Counter()
        self.unexpected = []

    def expect(self, kind):
        self.kinds[kind] += 1

    def surprise(self, text):
        self.unexpected.append(text)


def request(number, method="GET", body=b""):
    more = b"content-length: %d\r\n" % len(body) if method == "POST" else b""
    return b"%s /%d HTTP/1.1\r\nhost: faults\r\n%s\r\n%s" % (method.encode(), number, more, body)


async def read_answer(reader):
    """(status, head, body)."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = LENGTH.search(head)
    body = await reader.readexactly(int(length[1])) if length else b""
    return int(head[9:12]), head, body


class HttpLoad:
    """Clients that send one request after the other while `goes_on` says so."""

    def __init__(self, port, tally, goes_on, accepts, bodies=True):
        self.port, self.tally, self.goes_on, self.accepts, self.bodies = port, tally, goes_on, accepts, bodies
        self.number = 0

    async def run(self, clients):
        await asyncio.gather(*(self.client() for _ in range(clients)))

    async def client(self):
        writer = None
        while self.goes_on(self.number):
            self.number += 1
            number = self.number
            method = "POST" if self.bodies and random.random() < 0.25 else "GET"
            body = random.randbytes(random.randrange(8192)) if method == "POST" else b""
            what = f"{method} /{number}"
            try:
                async with asyncio.timeout(PATIENCE):
                    if writer is None:
                        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.write(request(number, method, body))
                    status, head, answer = await read_answer(reader)
            except (OSError, EOFError, TimeoutError, asyncio.IncompleteReadError) as error:
                self.tally.surprise(f"{what}: {type(error).__name__} {error}")
                if writer:
                    writer.close()
                writer = None
                continue
            right = b"/%d %08x" % (number, zlib.crc32(body))
            kind = self.accepts(status, head, answer, right)
            if kind:
                self.tally.expect(kind)
            else:
                self.tally.surprise(f"{what}: {status} {answer[:200]!r}")
            if b"\r\nconnection: close\r\n" in head:
                writer.close()
                writer = None
        if writer:
            writer.close()


class WebSockets:
    """Open WebSockets, each with one message on its way at a time; within a tunnel of CONNECT if that is wanted."""

    def __init__(self, port, tally, tunnel=False):
        self.port, self.tally, self.tunnel = port, tally, tunnel
        self.goes_on = True
        self.open = 0
        self.echoes = 0

    async def run(self, count):
        # So many handshakes at a time.
        self.gate = asyncio.Semaphore(64)
        await asyncio.gather(*(self.client(number) for number in range(count)))

    async def client(self, number):
        try:
            await self.talk(number)
        except (OSError, EOFError, TimeoutError, asyncio.IncompleteReadError) as error:
            self.tally.surprise(f"WebSocket {number}: {type(error).__name__} {error}")

    async def talk(self, number):
        async with self.gate, asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            if self.tunnel:
                writer.write(b"CONNECT faults:80 HTTP/1.1\r\nhost: faults:80\r\n\r\n")
                granted = await reader.readuntil(b"\r\n\r\n")
                if not granted.startswith(b"HTTP/1.1 200 "):
                    self.tally.surprise(f"tunnel {number}: {granted[:60]!r}")
                    return
            key = base64.b64encode(os.urandom(16))
            writer.write(b"GET /%d HTTP/1.1\r\nhost: faults\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
                         b"sec-websocket-version: 13\r\nsec-websocket-key: %s\r\n\r\n" % (number, key))
            head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            self.tally.surprise(f"WebSocket {number}: {head[:60]!r}")
            return
        self.open += 1
        while self.goes_on:
            payload = random.randbytes(random.randrange(1, 3000))
            if await self.exchange(reader, writer, 2, payload) != (2, payload):
                self.tally.surprise(f"WebSocket {number}: another message than was sent")
            self.echoes += 1
            await asyncio.sleep(random.uniform(0, 0.5))
        if await self.exchange(reader, writer, 8, struct.pack("!H", 1000)) != (8, struct.pack("!H", 1000)):
            self.tally.surprise(f"WebSocket {number}: its close is not answered")
        async with asyncio.timeout(PATIENCE):
            rest = await reader.read()
        if rest:
            self.tally.surprise(f"WebSocket {number}: {rest[:20]!r} behind the close")
        self.tally.expect("closed in order")
        writer.close()

    async def exchange(self, reader, writer, opcode, payload):
        """Sends a frame; returns the one that comes."""
        mask, length = os.urandom(4), len(payload)
        size = bytes([128 | length]) if length < 126 else struct.pack("!BH", 128 | 126, length)
        async with asyncio.timeout(PATIENCE):
            writer.write(bytes([128 | opcode]) + size + mask + xor(payload, mask))
            first, size = await reader.readexactly(2)
            if size == 126:
                size = struct.unpack("!H", await reader.readexactly(2))[0]
            return first & 15, await reader.readexactly(size)
