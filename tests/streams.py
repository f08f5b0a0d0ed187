#!/usr/bin/env python3
"""Many TCP connections at once, for `bench-netns.sh`: an echo server, and a client.

    streams.py serve PORT
    streams.py call PORT CONNECTIONS BYTES
    streams.py ping PORT COUNT

The first client opens all connections before the first byte goes, sends BYTES over each and reads them
back, and prints how long that took as JSON. The second sends a byte COUNT times over one connection, and
waits for it each time: it prints the median round trip. Standard library only.
"""

import asyncio
import json
import socket
import statistics
import sys
import time


async def serve(port):
    async def echo(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", port, backlog=4096)
    async with server:
        await server.serve_forever()


async def call(port, connections, count):
    began = time.monotonic()
    opened = await asyncio.gather(
        *(asyncio.open_connection("127.0.0.1", port) for _ in range(connections))
    )
    ready = time.monotonic()
    sent = bytes(range(256)) * (count // 256 + 1)
    times = []

    async def one(reader, writer):
        async def send():
            writer.write(sent[:count])
            await writer.drain()
            writer.write_eof()

        sending = asyncio.create_task(send())
        back = await reader.readexactly(count)
        await sending
        if back != sent[:count]:
            raise SystemExit("other bytes came back than were sent")
        times.append(time.monotonic() - ready)
        writer.close()

    async with asyncio.timeout(300):
        await asyncio.gather(*(one(*pair) for pair in opened))
    total = time.monotonic() - ready
    times.sort()
    print(
        json.dumps(
            {
                "connections": connections,
                "opening_s": round(ready - began, 3),
                "total_s": round(total, 3),
                "first_s": round(times[0], 3),
                "bytes": connections * count,
                "mbit": round(2 * connections * count * 8 / total / 1e6),
            }
        )
    )


def ping(port, count):
    times = []
    with socket.create_connection(("127.0.0.1", port), timeout=60) as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            began = time.monotonic()
            stream.sendall(b"p")
            if stream.recv(1) != b"p":
                raise SystemExit("the byte did not come back")
            times.append(time.monotonic() - began)
    print(json.dumps({"rtt_p50_us": round(statistics.median(times) * 1e6)}))


def main():
    match sys.argv[1:]:
        case ["serve", port]:
            asyncio.run(serve(int(port)))
        case ["call", port, connections, count]:
            asyncio.run(call(int(port), int(connections), int(count)))
        case ["ping", port, count]:
            ping(int(port), int(count))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
