"""A whole auction house for a test: Redis, PostgreSQL, bid API, gateway, and a network that fails on request."""

import atexit
import shutil
import tempfile
import threading
import time

from proxy import Proxy
from servers import Postgres, Redis, Service, eventually, free_port, get


class Stack:
    def __init__(self, gateway_arguments=()):
        self.folder = tempfile.mkdtemp(prefix="gavelcast-browser-")
        self.parts = []
        atexit.register(self.stop)
        self.redis = self._keep(Redis(self.folder))
        self.postgres = self._keep(Postgres(self.folder))
        keys = f"{self.folder}/keys.json"
        with open(keys, "w", encoding="utf-8") as file:
            file.write('{"keys":[{"kty":"oct","kid":"test","alg":"HS256","k":"%s"}]}' % ("A" * 43))
        gateway_port = free_port()
        # Where a test serves a page of another origin.
        self.other_port = free_port()
        self.proxy = Proxy(gateway_port)
        origins = [f"http://127.0.0.1:{gateway_port}", self.proxy.url]
        self.api = self._keep(Service("gavelcast-bidapi", self.folder, [
            "--database-url", self.postgres.url, "--redis-url", self.redis.url, "--token-keys", keys,
            *[word for origin in origins for word in ("--origins", origin)],
            "--bids-per-minute", "0", "--auctions-per-hour", "0", "--searches-per-minute", "0",
            "--snipe-window-seconds", "3", "--snipe-extension-seconds", "5"]))
        self.gateway = self._keep(Service("gavelcast-gateway", self.folder, [
            "--redis-url", self.redis.url, "--token-keys", keys, "--bid-api-url", self.api.url,
            "--origins", f"http://127.0.0.1:{self.other_port}", "--drain-seconds", "1", "--viewers-seconds", "1", *gateway_arguments], port=gateway_port))
        self.users = {}
        self.seller = self.user("seller")

    def _keep(self, part):
        self.parts.append(part)
        return part

    def stop(self):
        parts, self.parts = self.parts, []
        if parts:
            self.proxy.stop()
        for part in reversed(parts):
            if isinstance(part, Postgres):
                part.stop()
            else:
                part.process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def url(self):
        """The page's address, through the network that may fail."""
        return self.proxy.url

    # People and lots

    def user(self, name):
        if name not in self.users:
            body = {"username": name, "email": f"{name}@bidder.example", "password": "long enough"}
            self.users[name] = get(f"{self.api.url}/api/v1/auth/register", "POST", body)[1]
        return self.users[name]["token"]

    def auction(self, title="Lot", seconds=600, price=100, increment=10, **more):
        body = {"title": title, "starting_price": price, "bid_increment": increment, "duration_seconds": seconds, **more}
        status, answer = get(f"{self.api.url}/api/v1/auctions", "POST", body, self.seller)
        assert status == 201, answer
        return answer["auction_id"]

    def bid(self, auction, amount, name="ava"):
        return get(f"{self.api.url}/api/v1/auctions/{auction}/bids", "POST", {"amount": amount}, self.user(name))

    def price(self, auction):
        """What PostgreSQL says, in whole units."""
        return int(self.postgres.query(f"SELECT current_price FROM auctions WHERE auction_id = '{auction}'")) // 100

    def bids(self, auction, name=None):
        condition = f"AND bidder = '{name}'" if name else ""
        return int(self.postgres.query(f"SELECT count(*) FROM bids WHERE auction_id = '{auction}' {condition}"))


class Bidding:
    """Two rivals bid on a lot until the end of the `with` block. `at(time)` tells what the price was."""

    def __init__(self, stack, auction, pause=0.3):
        self.stack, self.auction, self.pause = stack, auction, pause
        # When each price was certainly committed, oldest first.
        self.prices = [(time.time(), stack.price(auction))]
        self.is_over = threading.Event()

    def __enter__(self):
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()

    def _run(self):
        turn = 0
        while not self.is_over.wait(self.pause):
            amount = self.prices[-1][1] + 10
            status, answer = self.stack.bid(self.auction, amount, ("rival-a", "rival-b")[turn % 2])
            if status == 201:
                self.prices.append((time.time(), int(answer["new_current_price"])))
                turn += 1
            elif status == 409 and "current_price" in answer:
                self.prices.append((time.time(), int(answer["current_price"])))
                turn += 1

    def at(self, moment):
        return max((price for at, price in self.prices if at <= moment), default=self.prices[0][1])


__all__ = ["Bidding", "Stack", "eventually", "get"]
