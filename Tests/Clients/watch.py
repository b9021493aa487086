"""Watches an auction with the Python libraries that people use, and prints what comes: a line an event.

    watch.py LIBRARY BASE AUTHORITIES COUNT     LIBRARY: websockets, aiohttp or aiohttp-sse
"""

import asyncio
import json
import ssl
import sys

import aiohttp
import websockets

library, base, authorities, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
context = ssl.create_default_context(cafile=authorities) if base.startswith(("wss:", "https:")) else None


def say(text):
    message = json.loads(text)
    print(message["type"], message.get("seq"), flush=True)


async def with_websockets():
    async with websockets.connect(base, ssl=context) as socket:
        for _ in range(count):
            say(await socket.recv())
        await socket.send(json.dumps({"type": "PING", "t": "x" * 200}))
        say(await socket.recv())
        await socket.close()
        print("closed", socket.close_code)


async def with_aiohttp():
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(base, ssl=context, compress=15) as socket:
            print("deflate", bool(socket.compress))
            for _ in range(count):
                say(await socket.receive_str())


async def with_events():
    async with aiohttp.ClientSession() as session:
        async with session.get(base, ssl=context, headers={"Accept": "text/event-stream"}) as response:
            print(response.status, response.content_type)
            seen = 0
            async for line in response.content:
                if line.startswith(b"data: "):
                    say(line[6:])
                    seen += 1
                    if seen == count:
                        return


programs = {"websockets": with_websockets, "aiohttp": with_aiohttp, "aiohttp-sse": with_events}
asyncio.run(asyncio.wait_for(programs[library](), 20))
