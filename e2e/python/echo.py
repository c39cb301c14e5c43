"""Sends messages with the websockets package and checks the echoes.

The only argument is the server's URL. Exit status 0 means that every echo was correct.
"""

import asyncio
import sys
import time

import websockets

SIZES = [0, 1, 125, 126, 127, 65535, 65536, 65537, 1 << 20, 8 << 20]
CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]


def connect(url):
    return websockets.connect(url, compression=None, max_size=16 << 20, ping_interval=None)


def binary(size):
    return bytes(range(256)) * (size // 256) + bytes(size % 256)


def characters(size):
    # Characters of three bytes, so that some lie across every boundary in between.
    return "€" * (size // 3) + "x" * (size % 3)


async def want_echo(ws, payload):
    got = await ws.recv()
    assert type(got) is type(payload), f"sent {type(payload)}, got {type(got)}"
    assert got == payload, f"the echo of a message of length {len(payload)} differs"


async def echo(url):
    async with connect(url) as ws:
        for size in SIZES:
            for payload in (binary(size), characters(size)):
                await ws.send(payload)
                await want_echo(ws, payload)
    assert ws.close_code == 1000, ws.close_code


async def fragments_and_pings(url):
    async with connect(url) as ws:
        pieces = [characters(1000 + i) for i in range(40)]
        pongs = []

        async def fragments():
            for piece in pieces:
                yield piece
                # The pong must arrive before the end of the message.
                pongs.append(await ws.ping(f"after {len(piece)}"))
                await pongs[-1]

        await asyncio.gather(ws.send(fragments()), want_echo(ws, "".join(pieces)))
        assert len(pongs) == len(pieces)


async def close(url, code, reason):
    ws = await connect(url)
    began = time.monotonic()
    await ws.close(code, reason)
    assert (ws.close_code, ws.close_reason) == (code, reason), (ws.close_code, ws.close_reason)
    # If the server does not end TCP, the package waits ten seconds.
    assert time.monotonic() - began < 5, f"closing with {code} took 5 s or longer"


async def main(url):
    await echo(url)
    await fragments_and_pings(url)
    for code in CODES:
        await close(url, code, "κόσμε")


asyncio.run(main(sys.argv[1]))
