#!/usr/bin/env python3
"""Both ends of WebSockets, by the `websockets` package: `serve` prints its port, `client PORT` a line for each case.

The server also has a page, `/page`, whose script opens WebSockets to where the page came from and sends what came of
them to `/result`, which is printed.
"""

import asyncio
import contextlib
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Response

MIB = 1 << 20
PATIENCE = 20

PAGE = b"""<!doctype html><title>WebSockets</title><script>
const results = [];
function open(path, go) {
  return new Promise((done) => {
    const socket = new WebSocket(`ws://${location.host}${path}`, "chat");
    socket.binaryType = "arraybuffer";
    socket.onopen = () => go(socket);
    socket.onclose = (event) => { results.push(`${path} ${event.wasClean} ${event.code} ${event.reason}`); done(); };
  });
}
async function all() {
  await open("/echo?page", (socket) => {
    socket.send("text");
    socket.onmessage = (event) => {
      if (typeof event.data === "string") {
        results.push(event.data);
        socket.send(new Uint8Array(1 << 20).fill(7));
      } else {
        const bytes = new Uint8Array(event.data);
        results.push(`${bytes.length} ${bytes.every((byte) => byte === 7)}`);
        socket.close(3001, "enough");
      }
    };
  });
  await open("/goes?page", () => {});
  await open("/refuse?page", () => {});
  const socket = new WebSocket(`ws://${location.host}/result`);
  socket.onopen = () => socket.send(results.join("; "));
}
all();
</script>
"""


def answer(connection, request):
    """To what is no WebSocket, or shall be none."""
    path = request.path.partition("?")[0]
    if path == "/page":
        headers = Headers([("content-type", "text/html"), ("content-length", str(len(PAGE)))])
        return Response(200, "OK", headers, PAGE)
    return connection.respond(403, "not here\n") if path == "/refuse" else None


async def handle(socket):
    path = socket.request.path.partition("?")[0]
    if path == "/goes":
        await socket.send("bye")
        await socket.close(1001, "going")
    elif path == "/pings":
        await (await socket.ping(b"are you there"))
        await socket.send("a pong came")
    with contextlib.suppress(ConnectionClosed):
        async for message in socket:
            if path == "/result":
                print(message, flush=True)
            elif path == "/fragments":
                await socket.send([message[:3], message[3:3], message[3:]])
            else:
                await socket.send(message)


async def server():
    async with serve(handle, "127.0.0.1", 0, process_request=answer, subprotocols=["chat"], max_size=None,
                     select_subprotocol=lambda socket, offered: "chat" if "chat" in offered else None,
                     ping_interval=None) as listening:
        print(listening.sockets[0].getsockname()[1], flush=True)
        await listening.serve_forever()


async def text(socket):
    await socket.send("grüße")
    return await socket.recv()


async def binary(socket):
    await socket.send(bytes(range(256)))
    return await socket.recv() == bytes(range(256))


async def fragments(socket):
    async def pieces():
        for piece in ("one ", "", "two ", "three"):
            yield piece

    await socket.send(pieces())
    return await socket.recv()


async def fragments_back(socket):
    await socket.send("message")
    return [piece async for piece in socket.recv_streaming()]


async def pings(socket):
    await (await socket.ping(b"hello"))
    return "a pong came"


async def pinged(socket):
    return await socket.recv()


async def large(socket):
    message = bytes(number * 7 & 255 for number in range(MIB))
    await socket.send(message)
    return await socket.recv() == message


async def many(socket):
    async def send():
        for number in range(2000):
            await socket.send(f"{number}" * 20)

    sending = asyncio.create_task(send())
    received = [await socket.recv() for _ in range(2000)]
    await sending
    return received == [f"{number}" * 20 for number in range(2000)]


async def close(socket):
    await socket.close(4000, "done")
    return socket.close_code, socket.close_reason


async def until_the_end(socket):
    messages = []
    try:
        while True:
            messages.append(await socket.recv())
    except ConnectionClosed as error:
        return messages, error.rcvd and (error.rcvd.code, error.rcvd.reason)


PLAIN = {"compression": None}
CASES = (
    ("text", "/echo", PLAIN, text),
    ("binary", "/echo", PLAIN, binary),
    ("fragments", "/echo", PLAIN, fragments),
    ("fragments back", "/fragments", PLAIN, fragments_back),
    ("ping", "/echo", PLAIN, pings),
    ("pinged", "/pings", PLAIN, pinged),
    ("1 MiB", "/echo", PLAIN, large),
    ("1 MiB compressed", "/echo", {}, large),
    ("many at a time", "/echo", PLAIN, many),
    ("the client closes", "/echo", PLAIN, close),
    ("the server closes", "/goes", PLAIN, until_the_end),
    ("nothing goes on", "/idle", PLAIN, until_the_end),
    ("refused", "/refuse", PLAIN, text),
)


async def client(port):
    for number, (name, path, options, case) in enumerate(CASES):
        try:
            async with asyncio.timeout(PATIENCE):
                url = f"ws://127.0.0.1:{port}{path}?{number}"
                async with connect(url, subprotocols=["chat"], max_size=None, ping_interval=None, proxy=None,
                                   **options) as socket:
                    print(f"{name}: {socket.subprotocol} {await case(socket)}")
        except InvalidStatus as error:
            print(f"{name}: {error.response.status_code} {bytes(error.response.body)}")
        except Exception as error:  # whatever it is, it is compared
            print(f"{name}: {type(error).__name__} {error}")


if __name__ == "__main__":
    asyncio.run(server() if sys.argv[1] == "serve" else client(int(sys.argv[2])))
