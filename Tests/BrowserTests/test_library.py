"""The client library without a page: in Node, over each transport, and its types."""

import base64
import hashlib
import hmac
import json
import pathlib
import subprocess
import threading
import time
import unittest

from servers import ROOT, eventually, get
from stack import Stack

VIEWER = ROOT / "Sources" / "Gateway" / "Viewer"
HERE = pathlib.Path(__file__).parent
TRANSPORTS = ("websocket", "sse", "longpoll")

stack = None


def setUpModule():
    global stack
    stack = Stack()


def tearDownModule():
    stack.stop()


class Client:
    """A Node process that watches."""

    def __init__(self, case, origin, **settings):
        settings = {"library": str(VIEWER / "gavelcast.js"), "origin": origin, **settings}
        self.child = subprocess.Popen(
            ["node", "--no-warnings", "--experimental-websocket", str(HERE / "node" / "watch.mjs"), json.dumps(settings)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.events = []
        threading.Thread(target=self._read, daemon=True).start()
        case.addCleanup(self.stop)

    def _read(self):
        for line in self.child.stdout:
            self.events.append(json.loads(line))

    def order(self, order, **detail):
        self.child.stdin.write(json.dumps({"order": order, **detail}) + "\n")
        self.child.stdin.flush()

    def all(self, event, lot=None):
        return [one for one in list(self.events) if one["event"] == event and (lot is None or one.get("id") == lot)]

    def see(self, event, lot=None, seconds=20, **detail):
        """Waits for an event with these members."""
        def find():
            return [one for one in self.all(event, lot) if all(one.get(key) == value for key, value in detail.items())]
        return eventually(f"{event} {detail or ''} of {lot}", find, seconds)[-1]

    def sequences(self, lot):
        """The sequence numbers of the bids, those that were merged included."""
        return [number for bid in self.all("bid", lot) for number in range(bid.get("from_seq") or bid["seq"], bid["seq"] + 1)]

    def stop(self):
        crashes = self.all("crash")
        self.child.kill()
        self.child.wait()
        for stream in (self.child.stdin, self.child.stdout):
            stream.close()
        assert not crashes, crashes


class Library(unittest.TestCase):
    def tearDown(self):
        stack.proxy.rules.update(websocket="pass", sse="pass", other="pass")

    def test_amounts(self):
        subprocess.run(["node", "--no-warnings", HERE / "node" / "money.mjs", VIEWER], check=True)

    def test_everything_once_and_in_order_until_the_end(self):
        for transport in TRANSPORTS:
            with self.subTest(transport=transport):
                auction = stack.auction(seconds=6)
                client = Client(self, stack.url, options={"transports": [transport]}, lots=[auction])
                client.see("status", auction, status="live")
                for turn in range(12):
                    self.assertEqual(stack.bid(auction, 100 + 10 * turn, ("rival-a", "rival-b")[turn % 2])[0], 201)
                client.order("iterate", id=auction)
                ended = client.see("ended", auction)["detail"]
                self.assertEqual((ended["outcome"], ended["winning_bid"]), ("sold", 210))
                self.assertEqual(ended["winner"]["username"], "rival-b")
                client.see("status", auction, status="ended")
                client.see("iterated", auction)
                last = int(stack.postgres.query(f"SELECT max(seq) FROM bids WHERE auction_id = '{auction}'"))
                bids = [int(line) for line in stack.postgres.query(
                    f"SELECT seq FROM bids WHERE auction_id = '{auction}' ORDER BY seq").split()]
                self.assertEqual([number for number in client.sequences(auction) if number in bids], bids)
                self.assertEqual(client.all("bid", auction)[-1]["seq"], last)
                self.assertTrue(all(change["isFrozen"] for change in client.all("change", auction)))
                self.assertEqual([one["price"] for one in client.all("change", auction)][-1], 210)
                # The iterator skips to the newest state.
                states = [one["price"] for one in client.all("state", auction)]
                self.assertEqual(states[-1], 210)
                self.assertLess(len(states), len(client.all("change", auction)))

    def test_sixty_lots_and_a_bid_on_each(self):
        lots = [stack.auction(f"Lot {number}") for number in range(60)]
        eventually("nobody else watches", lambda: stack.gateway.metric("gavelcast_watchers") == 0)
        for turn, (transport, connections) in enumerate((("websocket", 1), ("sse", 2), ("longpoll", 2))):
            with self.subTest(transport=transport):
                client = Client(self, stack.url, options={"transports": [transport]}, lots=lots)
                for lot in lots:
                    client.see("status", lot, status="live")
                name = f'gavelcast_watchers{{transport="{transport}"}}'
                eventually("its connections", lambda: stack.gateway.metric(name) == connections)
                for lot in lots:
                    stack.bid(lot, 100 + 10 * turn, ("rival-a", "rival-b")[turn % 2])
                for lot in lots:
                    client.see("bid", lot)
                    client.see("change", lot, price=100 + 10 * turn)
                    self.assertEqual(len(client.all("bid", lot)), 1)
                client.stop()
                eventually("it is gone", lambda: stack.gateway.metric("gavelcast_watchers") == 0)

    def test_a_cursor_resumes_and_the_state_follows(self):
        for transport in TRANSPORTS:
            with self.subTest(transport=transport):
                auction = stack.auction()
                for turn in range(5):
                    stack.bid(auction, 100 + 10 * turn, ("rival-a", "rival-b")[turn % 2])
                client = Client(self, stack.url, options={"transports": [transport]})
                client.order("watch", id=auction, since=2)
                client.see("change", auction, price=140)
                eventually("what was missed", lambda: client.sequences(auction) == [3, 4, 5])
                stack.bid(auction, 150, "rival-b")
                client.see("change", auction, price=150)
                self.assertEqual(client.sequences(auction), [3, 4, 5, 6])

    def test_a_closed_watch_never_comes_back(self):
        auction, other = stack.auction(), stack.auction()
        client = Client(self, stack.url, lots=[auction])
        client.order("watch", id=other, aborts=True)
        for lot in (auction, other):
            client.see("status", lot, status="live")
        client.order("close", id=auction)
        client.order("abort", id=other)
        eventually("nobody watches", lambda: stack.gateway.metric("gavelcast_watchers") == 0)
        before = len(client.events)
        for lot in (auction, other):
            stack.bid(lot, 100)
        time.sleep(0.5)
        self.assertEqual([one for one in client.events[before:] if one["event"] != "connection"], [])

    def test_an_outage_is_bridged_without_loss(self):
        for transport in TRANSPORTS:
            with self.subTest(transport=transport):
                auction = stack.auction()
                client = Client(self, stack.url, options={"transports": [transport]}, lots=[auction])
                client.see("status", auction, status="live")
                stack.bid(auction, 100, "rival-a")
                client.see("change", auction, price=100)
                stack.gateway.process.stop()
                for turn in range(1, 6):
                    stack.bid(auction, 100 + 10 * turn, ("rival-a", "rival-b")[turn % 2])
                client.see("status", auction, status="offline")
                stack.gateway.start()
                client.see("change", auction, price=150)
                self.assertEqual(client.sequences(auction), [1, 2, 3, 4, 5, 6])
                self.assertEqual(client.all("status", auction)[-1]["status"], "live")

    def test_it_climbs_back_to_the_best_transport_without_a_gap(self):
        auction = stack.auction()
        stack.proxy.rules["websocket"] = "hang"
        # The client's clock runs four times as fast, so its minute takes 15 s. The bids keep the event stream from
        # seeming silent: at this speed, a pause of 2.9 s would.
        client = Client(self, stack.url, lots=[auction], speed=4)
        is_over = threading.Event()

        def bid():
            turn = 0
            while not is_over.wait(0.15):
                stack.bid(auction, 100 + 10 * turn, ("rival-a", "rival-b")[turn % 2])
                turn += 1
        thread = threading.Thread(target=bid)
        thread.start()
        try:
            client.see("connection", state="live", transport="sse")
            stack.proxy.rules["websocket"] = "pass"
            client.see("connection", state="live", transport="websocket", seconds=90)
            time.sleep(1)
        finally:
            is_over.set()
            thread.join()
        states = [one["state"] for one in client.all("connection")]
        self.assertEqual(set(states[states.index("live"):]), {"live"}, "the old line stays until the new one works")
        eventually("the last bid", lambda: client.all("change", auction)[-1]["price"] == stack.price(auction))
        got = client.sequences(auction)
        self.assertEqual(got, list(range(got[0], stack.bids(auction) + 1)))

    def test_the_clock(self):
        auction = stack.auction()
        for transport in TRANSPORTS:
            with self.subTest(transport=transport):
                client = Client(self, stack.url, options={"transports": [transport]}, lots=[auction])
                client.see("status", auction, status="live")

                def clock():
                    client.order("clock")
                    time.sleep(0.1)
                    return client.all("clock") and client.all("clock")[-1]["bound"] is not None
                eventually("a sample", clock)
                client.order("clock")
                before = time.time()
                count = len(client.all("clock"))
                eventually("an answer", lambda: len(client.all("clock")) > count)
                answer = client.all("clock")[-1]
                self.assertLess(abs(answer["now"] / 1000 - before), 0.1 + time.time() - before)
                self.assertLess(answer["bound"], 100)


    def test_a_lot_that_is_sent_away_comes_back(self):
        for transport in TRANSPORTS:
            with self.subTest(transport=transport):
                auction, other = stack.auction(), stack.auction()
                client = Client(self, stack.url, options={"transports": [transport]}, lots=[auction, other])
                for lot in (auction, other):
                    client.see("status", lot, status="live")
                get(f"http://127.0.0.1:{stack.gateway.admin_port}/v1/disconnect?auction={auction}", "POST")
                stack.bid(auction, 100)
                client.see("bid", auction)
                eventually("live", lambda: client.all("status", auction)[-1]["status"] == "live")

    def test_an_id_that_cannot_be_is_refused_and_harms_no_other(self):
        for transport in TRANSPORTS:
            with self.subTest(transport=transport):
                auction = stack.auction()
                client = Client(self, stack.url, options={"transports": [transport]}, lots=["no such id", auction])
                self.assertEqual(client.see("status", "no such id", status="failed")["error"]["code"], "BAD_AUCTION_ID")
                client.see("status", auction, status="live")

    def test_a_rewatched_lot_has_its_state(self):
        for transport in TRANSPORTS:
            with self.subTest(transport=transport):
                auction, other = stack.auction(), stack.auction()
                client = Client(self, stack.url, options={"transports": [transport]}, lots=[auction, other])
                client.see("status", auction, status="live")
                for turn in range(5):
                    client.order("close", id=auction)
                    client.order("watch", id=auction)
                    stack.bid(auction, 100 + 10 * turn, ("rival-a", "rival-b")[turn % 2])
                client.see("change", auction, price=140)


class Tokens(unittest.TestCase):
    def test_a_token_is_asked_for_again_once_and_a_refusal_is_final(self):
        public, private = stack.auction(), stack.auction(visibility="private")
        share = get(f"{stack.api.url}/api/v1/auctions/{private}/share", "POST", token=stack.seller)[1]["token"]
        for transport in TRANSPORTS:
            with self.subTest(transport=transport):
                client = Client(self, stack.url, options={"transports": [transport]}, lots=[private, public], tokens=["rubbish", share])
                for lot in (private, public):
                    client.see("status", lot, status="live")
                self.assertEqual(len(client.all("token")), 2)
                client = Client(self, stack.url, options={"transports": [transport]}, lots=[private, public])
                failed = client.see("status", private, status="failed")
                self.assertEqual(failed["error"]["code"], "UNAUTHORIZED")
                client.see("status", public, status="live")
                stack.bid(public, stack.price(public) + (10 if stack.bids(public) else 0), "ava" if transport == "sse" else "rival-a")
                client.see("bid", public)
                client = Client(self, stack.url, options={"transports": [transport]}, lots=[public], tokens=["rubbish"])
                client.see("status", public, status="failed")
                self.assertLessEqual(len(client.all("token")), 4)

    def test_a_token_that_expires_is_renewed_without_a_gap(self):
        # The bid API's tokens live long, so the gateway sees short ones that are signed with the same key.

        def token(seconds):
            def part(value):
                return base64.urlsafe_b64encode(value).rstrip(b"=")
            head = part(json.dumps({"alg": "HS256", "kid": "test"}).encode())
            body = part(json.dumps({"sub": "someone", "exp": int(time.time()) + seconds}).encode())
            key = base64.urlsafe_b64decode("A" * 43 + "=")
            return (head + b"." + body + b"." + part(hmac.new(key, head + b"." + body, hashlib.sha256).digest())).decode()
        auction = stack.auction()
        client = Client(self, stack.url, lots=[auction], tokens=[token(32), token(600)])
        client.see("status", auction, status="live")
        eventually("the second token", lambda: len(client.all("token")) == 2)
        stack.bid(auction, 100)
        client.see("change", auction, price=100)
        time.sleep(1)
        self.assertEqual([one["status"] for one in client.all("status", auction)], ["live"])


class Examples(unittest.TestCase):
    """Everything that docs/clients.md shows runs."""

    def setUp(self):
        self.folder = pathlib.Path(stack.folder) / self.id()
        self.folder.mkdir()
        for name in ("gavelcast.js", "gavelcast.d.ts", "package.json"):
            (self.folder / name).write_bytes((VIEWER / name).read_bytes())
        for path in (ROOT / "docs" / "examples").iterdir():
            (self.folder / path.name).write_bytes(path.read_bytes())

    def check(self, *command):
        """Runs a client that prints prices until the end, and checks that it printed all of them."""
        auction = stack.auction(seconds=5)
        stack.bid(auction, 100, "rival-a")
        child = subprocess.Popen([*command, auction], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            eventually("it watches", lambda: stack.gateway.metric("gavelcast_watchers") >= 1)
            for turn in range(1, 4):
                time.sleep(0.3)
                stack.bid(auction, 100 + 10 * turn, ("rival-a", "rival-b")[turn % 2])
            output = child.communicate(timeout=60)[0]
        finally:
            child.kill()
        for price in ("100", "110", "120", "130"):
            self.assertIn(price, output)
        self.assertIn("sold", output)
        eventually("it is gone", lambda: stack.gateway.metric("gavelcast_watchers") == 0, 70)

    def test_node(self):
        self.check("node", "watch.mjs", stack.gateway.url)

    def test_python(self):
        self.check("/usr/bin/python3", "watch.py", stack.gateway.url.replace("http", "ws"))

    def test_swift(self):
        subprocess.run(["swiftc", "-o", "Watch", "Watch.swift"], cwd=self.folder, check=True)
        self.check("./Watch", stack.gateway.url)

    def test_types(self):
        subprocess.run(
            ["tsc", "--noEmit", "--strict", "--target", "es2020", "--module", "es2020", "--moduleResolution", "node",
             "--lib", "es2020,dom", "price.ts"], cwd=self.folder, check=True)
        wrong = (self.folder / "price.ts").read_text().replace("state.current_price;", "state.no_such_member_at_all.x;")
        (self.folder / "wrong.ts").write_text(wrong)
        result = subprocess.run(
            ["tsc", "--noEmit", "--strict", "--target", "es2020", "--module", "es2020", "--moduleResolution", "node",
             "--lib", "es2020,dom", "wrong.ts"], cwd=self.folder, stdout=subprocess.PIPE, check=False)
        self.assertNotEqual(result.returncode, 0, "a wrong use compiles")

    def test_react(self):
        # React is not installed. These stubs of its two hooks do as much as the recipe needs.
        modules = self.folder / "node_modules" / "react"
        modules.mkdir(parents=True)
        (modules / "package.json").write_text('{"name":"react","type":"module","exports":"./index.js"}')
        (modules / "index.js").write_text("""
            export const useMemo = (make) => make();
            export const useSyncExternalStore = (subscribe, snapshot) => ({ subscribe, snapshot });
        """)
        (self.folder / "run.mjs").write_text("""
            import { Gavelcast } from './gavelcast.js';
            import { useLot } from './useLot.js';
            const gavelcast = new Gavelcast(process.argv[2]);
            const { subscribe, snapshot } = useLot(gavelcast, process.argv[3]);
            const first = snapshot();
            if (snapshot() !== first) throw new Error('a snapshot must stay the same until a change');
            const stop = subscribe(() => {
              const { state, status } = snapshot();
              console.log(state?.current_price ?? '-', status, state?.status);
              if (status !== 'ended') return;
              stop();
              gavelcast.close();
            });
        """)
        self.check("node", "run.mjs", stack.gateway.url)


if __name__ == "__main__":
    unittest.main(verbosity=2)
