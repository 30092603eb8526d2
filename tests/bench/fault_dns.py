"""A DNS server for faults.py: one name, whose addresses change."""

import asyncio
import socket
import struct

A = 1


class Names(asyncio.DatagramProtocol):
    """Answers every question for an IPv4 address with those of the time, and others with none."""

    def __init__(self, addresses):
        self.addresses = addresses
        self.asked = 0

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        self.asked += 1
        end = 12
        while data[end]:
            end += 1 + data[end]
        question = data[12:end + 5]
        kind = struct.unpack("!H", question[-4:-2])[0]
        addresses = self.addresses if kind == A else []
        record = lambda address: b"\xc0\x0c" + struct.pack("!HHIH", A, 1, 0, 4) + socket.inet_aton(address)
        head = data[:2] + struct.pack("!HHHHH", 0x8180, 1, len(addresses), 0, 0)
        self.transport.sendto(head + question + b"".join(map(record, addresses)), peer)


async def serve(addresses):
    """The server and its port."""
    loop = asyncio.get_running_loop()
    transport, names = await loop.create_datagram_endpoint(lambda: Names(addresses), local_addr=("127.0.0.1", 0))
    return names, transport.get_extra_info("sockname")[1]
