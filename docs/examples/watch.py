"""Prints each price of an auction until it ends: python3 watch.py ws://127.0.0.1:8080 a1

Needs the package `websockets`. Comes back by itself, from the cursor, so that nothing is missed or seen twice.
"""

import asyncio
import json
import random
import sys

import websockets

OVER = ("sold", "unsold", "cancelled")


async def watch(gateway, auction):
    """Yields (sequence number, state or event) for everything that happens to the auction."""
    cursor, wait = None, 0.25
    while True:
        since = "" if cursor is None else f"?since={cursor}"
        try:
            async with websockets.connect(f"{gateway}/v1/auctions/{auction}/live{since}") as socket:
                async for text in socket:
                    message = json.loads(text)
                    kind, sequence = message["type"], message.get("seq")
                    wait = 0.25
                    if kind == "SNAPSHOT":
                        cursor = sequence
                        yield sequence, message["state"] or {}
                        if (message["state"] or {}).get("status") in OVER:
                            return
                    elif kind in ("RESUMED", "FEED", "VIEWERS") or sequence is None or sequence <= (cursor or 0):
                        continue
                    else:
                        cursor = sequence
                        yield sequence, message
                        if kind == "AUCTION_ENDED":
                            return
        except websockets.ConnectionClosed as closed:
            try:
                # The gateway says when to come back.
                wait = json.loads(closed.reason)["retry_after_ms"] / 1000
            except (ValueError, KeyError, TypeError):
                pass
        except OSError:
            pass
        await asyncio.sleep(wait * random.random())
        wait = min(2 * wait, 10)


async def main():
    async for sequence, what in watch(*sys.argv[1:3]):
        print(sequence, what.get("current_price", what.get("outcome", "")), flush=True)


asyncio.run(main())
