#!/usr/bin/env python3
"""The upstreams of faults.py, each a process: fault_upstream.py KIND ADDRESS PORT SEED. Prints its port once it listens.

plain      answers each request with its path and the checksum of its body
closing    the same, and each connection ends when its time has come, with a FIN or a reset
failing    answers 500 from SIGUSR1 to SIGUSR2, and as plain otherwise
unwell     answers health checks, requests of /hc, with 500 from SIGUSR1 to SIGUSR2, and as plain otherwise
slow       answers after a millisecond or two
websocket  sends back what comes in WebSocket frames
"""

import asyncio
import base64
import hashlib
import random
import re
import signal
import socket
import struct
import sys
import zlib

LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding: *chunked\r\n")
KEY = re.compile(rb"(?i)\r\nsec-websocket-key: *([^\r]+)")
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# How long a connection of `closing` lives at most, in seconds.
LIFETIME = 0.2


FAILURE = b"HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n"


def answer_to(head, body):
    """Says which request it is the answer to, and whether its body has come through."""
    path = head.split(b" ", 2)[1]
    text = path + b" %08x" % zlib.crc32(body)
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text)


class Http(asyncio.Protocol):
    """Whole requests, one after the other; their bodies have a length."""

    fails = False

    def __init__(self, kind):
        self.kind = kind
        self.data = b""

    def connection_made(self, transport):
        self.transport = transport
        if self.kind == "closing":
            asyncio.get_running_loop().call_later(random.uniform(0, LIFETIME), self.end)

    def end(self):
        if random.random() < 0.5:
            linger = struct.pack("ii", 1, 0)
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()

    def data_received(self, data):
        self.data += data
        while request := self.next():
            fails = Http.fails and (self.kind == "failing" or request[0].startswith(b"GET /hc "))
            answer = FAILURE if fails else answer_to(*request)
            if self.kind == "slow":
                asyncio.get_running_loop().call_later(random.uniform(0.001, 0.002), self.transport.write, answer)
            else:
                self.transport.write(answer)

    def next(self):
        head, end, rest = self.data.partition(b"\r\n\r\n")
        if not end:
            return None
        assert not CHUNKED.search(head + b"\r\n"), "clients of this say how long bodies are"
        length = LENGTH.search(head)
        length = int(length[1]) if length else 0
        if len(rest) < length:
            return None
        self.data = rest[length:]
        return head, rest[:length]


class WebSocket(asyncio.Protocol):
    """Frames of at most 65 535 bytes, unmasked and sent back."""

    def __init__(self, _):
        self.data = b""
        self.has_begun = False

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.data += data
        if not self.has_begun:
            head, end, rest = self.data.partition(b"\r\n\r\n")
            if not end:
                return
            accept = base64.b64encode(hashlib.sha1(KEY.search(head)[1] + GUID).digest())
            self.transport.write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n"
                                 b"upgrade: websocket\r\nsec-websocket-accept: %s\r\n\r\n" % accept)
            self.data, self.has_begun = rest, True
        while frame := self.next():
            first, payload = frame
            length = len(payload)
            size = bytes([length]) if length < 126 else struct.pack("!BH", 126, length)
            self.transport.write(bytes([first]) + size + payload)
            if first & 15 == 8:  # a close is answered by a close, and then the server ends it
                self.transport.close()
                return

    def next(self):
        data = self.data
        if len(data) < 2:
            return None
        start, length = 2, data[1] & 127
        if length == 126:
            if len(data) < 4:
                return None
            start, length = 4, struct.unpack_from("!H", data, 2)[0]
        end = start + 4 + length
        if len(data) < end:
            return None
        mask, masked = data[start:start + 4], data[start + 4:end]
        self.data = data[end:]
        return data[0], xor(masked, mask)


def xor(data, mask):
    """`data` under a mask of four bytes."""
    repeated = (mask * (len(data) // 4 + 1))[:len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(data), "big")


async def main(kind, address, port, seed):
    random.seed(int(seed))
    if kind in ("failing", "unwell"):
        for number, fails in ((signal.SIGUSR1, True), (signal.SIGUSR2, False)):
            asyncio.get_running_loop().add_signal_handler(number, lambda fails=fails: setattr(Http, "fails", fails))
    protocol = WebSocket if kind == "websocket" else Http
    listener = socket.create_server((address, int(port)), backlog=4096)
    server = await asyncio.get_running_loop().create_server(lambda: protocol(kind), sock=listener)
    print(listener.getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
