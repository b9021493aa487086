"""The page in a real browser, on networks that fail."""

import http.server
import json
import os
import pathlib
import signal
import socket
import threading
import time
import unittest

from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By

from browser import Browser, check_honesty, digits, first_price_after
from servers import ROOT, eventually, get
from stack import Bidding, Stack

stack = None


def setUpModule():
    global stack
    stack = Stack()


def tearDownModule():
    stack.stop()


class PageCase(unittest.TestCase):
    def setUp(self):
        self.browser = Browser()
        self.addCleanup(self.browser.quit)
        self.addCleanup(self.mend)

    def mend(self):
        stack.proxy.rules.update(websocket="pass", sse="pass", other="pass")
        stack.proxy.is_gone = False
        # A test that failed may have left a server stopped.
        for part in (stack.redis, stack.api, stack.gateway):
            if part.process.child.poll() is None:
                part.process.send(signal.SIGCONT)
            else:
                part.start()

    def enter(self, auction, query=""):
        opened = time.time()
        self.browser.open(f"{stack.url}/a/{auction}{query}")
        return opened

    def see_truth(self, auction, seconds=30):
        """Waits until the page shows PostgreSQL's price as live."""
        browser = self.browser
        browser.see("the price of PostgreSQL, live",
                    lambda: browser.state() == "live" and browser.price() == stack.price(auction), seconds)


class Networks(PageCase):
    """In each case the page ends with PostgreSQL's price, and was honest meanwhile."""

    def check(self, rules, query=""):
        auction = stack.auction("Watched")
        stack.bid(auction, 100, "rival-b")
        stack.proxy.rules.update(rules)
        with Bidding(stack, auction) as bidding:
            opened = self.enter(auction, query)
            self.browser.see("a fresh price", lambda: first_price_after(self.browser.samples(), opened), 40)
            time.sleep(2)
        self.see_truth(auction)
        check_honesty(self.browser.samples(), bidding)
        print(f"{rules or query}: first price after {first_price_after(self.browser.samples(), opened)} s",
              "over", self.browser.part("connection").get_attribute("title"))

    def test_nothing_wrong(self):
        self.check({})

    def test_websocket_refused(self):
        self.check({"websocket": "refuse"})

    def test_websocket_hangs(self):
        self.check({"websocket": "hang"})

    def test_websocket_opens_and_is_silent(self):
        self.check({"websocket": "head-only"})

    def test_event_stream_withheld(self):
        self.check({"websocket": "refuse", "sse": "hang"})

    def test_event_stream_withheld_after_its_head(self):
        self.check({"websocket": "refuse", "sse": "head-only"})

    def test_both_hang(self):
        self.check({"websocket": "hang", "sse": "hang"})

    def test_long_poll_alone(self):
        self.check({}, "?transport=longpoll")


class Outages(PageCase):
    def check(self, harm, mend, expected=("stale", "offline"), query=""):
        auction = stack.auction("Interrupted")
        stack.bid(auction, 100, "rival-b")
        self.enter(auction, query)
        self.see_truth(auction)
        with Bidding(stack, auction) as bidding:
            time.sleep(1)
            harm()
            self.browser.see("that the price is not current", lambda: self.browser.state() in expected, 20)
            self.assertEqual(self.browser.part("price").get_attribute("data-fresh"), "false")
            self.assertIn("ot confirmed for at least", self.browser.find("#price-age").text)
            mend()
            self.browser.see("that it is live again", lambda: self.browser.state() == "live", 30)
            time.sleep(1)
        self.see_truth(auction)
        check_honesty(self.browser.samples(), bidding)
        self.assertEqual(self.browser.errors(), [])

    def test_gateway_killed(self):
        def mend():
            stack.gateway.start()
        self.check(lambda: stack.gateway.process.stop(), mend)

    def test_gateway_drained(self):
        def harm():
            stack.gateway.process.stop(signal.SIGTERM)
        self.check(harm, lambda: stack.gateway.start())

    def test_gateway_stands_still(self):
        for transport in ("websocket", "sse", "longpoll"):
            with self.subTest(transport=transport):
                self.check(lambda: stack.gateway.process.send(signal.SIGSTOP),
                           lambda: stack.gateway.process.send(signal.SIGCONT), query=f"?transport={transport}")

    def test_redis_stopped(self):
        for transport in ("websocket", "sse", "longpoll"):
            with self.subTest(transport=transport):
                self.check(lambda: stack.redis.process.send(signal.SIGSTOP),
                           lambda: stack.redis.process.send(signal.SIGCONT), expected=("stale",),
                           query=f"?transport={transport}")

    def test_redis_killed(self):
        def mend():
            time.sleep(3)
            stack.redis.start()
        self.check(lambda: stack.redis.process.stop(), mend, expected=("stale",))

    def test_network_gone_for_a_minute(self):
        def harm():
            stack.proxy.is_gone = True
            self.lost_at = time.time()

        def mend():
            time.sleep(max(0, 60 - (time.time() - self.lost_at)))
            stack.proxy.is_gone = False
        self.check(harm, mend)

    def test_connections_reset(self):
        auction = stack.auction("Reset")
        stack.bid(auction, 100, "rival-b")
        self.enter(auction)
        self.see_truth(auction)
        with Bidding(stack, auction) as bidding:
            for _ in range(5):
                time.sleep(0.7)
                stack.proxy.cut()
        self.see_truth(auction)
        check_honesty(self.browser.samples(), bidding)


class Tabs(PageCase):
    def test_frozen_tab_comes_back(self):
        auction = stack.auction("Frozen")
        stack.bid(auction, 100, "rival-b")
        self.enter(auction)
        self.see_truth(auction)
        with Bidding(stack, auction) as bidding:
            self.browser.driver.execute_cdp_cmd("Page.setWebLifecycleState", {"state": "frozen"})
            time.sleep(4)
            self.browser.driver.execute_cdp_cmd("Page.setWebLifecycleState", {"state": "active"})
            time.sleep(1)
        self.see_truth(auction)
        check_honesty(self.browser.samples(), bidding)

    def test_hidden_tab_comes_back(self):
        self.browser.before("Object.defineProperty(document, 'hidden', { get: () => window.isAway === true })")
        auction = stack.auction("Hidden")
        stack.bid(auction, 100, "rival-b")
        self.enter(auction)
        self.see_truth(auction)
        with Bidding(stack, auction) as bidding:
            self.browser.run("window.isAway = true; document.dispatchEvent(new Event('visibilitychange'))")
            time.sleep(2)
            # The connection is lost while nobody looks.
            stack.proxy.cut()
            time.sleep(1)
            self.browser.run("window.isAway = false; document.dispatchEvent(new Event('visibilitychange'))")
            self.browser.see("live again", lambda: self.browser.state() == "live")
        self.see_truth(auction)
        check_honesty(self.browser.samples(), bidding)

    def connections(self):
        return sum(stack.gateway.metric(f'gavelcast_watchers{{transport="{name}"}}')
                   for name in ("websocket", "event_stream", "sse", "long_poll", "longpoll"))

    def test_six_tabs_share_one_connection(self):
        auction = stack.auction("Shared")
        stack.bid(auction, 100, "rival-b")
        eventually("no watcher is left of other tests", lambda: self.connections() == 0)
        for query in ("", "?transport=sse"):
            with self.subTest(query=query):
                self.enter(auction, query)
                tabs = [self.browser.driver.current_window_handle]
                for _ in range(5):
                    self.browser.driver.switch_to.new_window("tab")
                    self.browser.before("window.samples = []")
                    self.enter(auction, query)
                    tabs.append(self.browser.driver.current_window_handle)
                stack.bid(auction, stack.price(auction) + 10, "rival-a" if query else "ava")
                for tab in tabs:
                    self.browser.driver.switch_to.window(tab)
                    self.see_truth(auction)
                self.assertEqual(self.connections(), 1)
                # The first tab goes, and the others go on.
                self.browser.driver.switch_to.window(tabs[0])
                self.browser.driver.close()
                self.browser.driver.switch_to.window(tabs[1])
                stack.bid(auction, stack.price(auction) + 10, "rival-b")
                self.see_truth(auction)
                self.browser.driver.switch_to.new_window("tab")
                last = self.browser.driver.current_window_handle
                for tab in tabs[1:]:
                    self.browser.driver.switch_to.window(tab)
                    self.browser.driver.close()
                self.browser.driver.switch_to.window(last)
                eventually("the connection goes with the last tab", lambda: self.connections() == 0)


class Workers(PageCase):
    def test_a_dead_worker_is_replaced(self):
        auction = stack.auction("Outlives its worker")
        stack.bid(auction, 100, "rival-b")
        self.enter(auction)
        self.see_truth(auction)
        targets = self.browser.driver.execute_cdp_cmd("Target.getTargets", {"filter": [{"type": "shared_worker"}]})["targetInfos"]
        self.assertEqual(len(targets), 1, "the connection lives in a worker")
        with Bidding(stack, auction) as bidding:
            self.browser.driver.execute_cdp_cmd("Target.closeTarget", {"targetId": targets[0]["targetId"]})
            time.sleep(14)
        self.see_truth(auction)
        check_honesty(self.browser.samples(), bidding)


class Embedded(PageCase):
    """The example of docs/clients.md on another origin, where there is no SharedWorker: one tab leads the others."""

    def setUp(self):
        super().setUp()
        self.auction = stack.auction("Embedded")
        stack.bid(self.auction, 100, "rival-b")
        page = (ROOT / "docs" / "examples" / "embed.html").read_text(encoding="utf-8")
        page = page.replace("GATEWAY", stack.url).replace("AUCTION", self.auction).encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *_):
                pass
        server = http.server.ThreadingHTTPServer(("127.0.0.1", stack.other_port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)

    def see_price(self, price):
        self.browser.see(f"{price}, live", lambda: self.browser.find("#price").text == str(price)
                         and self.browser.find("#status").text == "")

    def test_tabs_share_the_leaders_connection_and_outlive_it(self):
        eventually("no watcher is left of other tests", lambda: stack.gateway.metric("gavelcast_watchers") == 0)
        address = f"http://127.0.0.1:{stack.other_port}/"
        self.browser.open(address)
        self.see_price(100)
        tabs = [self.browser.driver.current_window_handle]
        for _ in range(2):
            self.browser.driver.switch_to.new_window("tab")
            self.browser.open(address)
            self.see_price(100)
            tabs.append(self.browser.driver.current_window_handle)
        self.assertEqual(stack.gateway.metric("gavelcast_watchers"), 1)
        self.browser.driver.switch_to.window(tabs[0])
        self.browser.driver.close()
        stack.bid(self.auction, 110, "rival-a")
        for tab in tabs[1:]:
            self.browser.driver.switch_to.window(tab)
            self.see_price(110)
        self.assertEqual(stack.gateway.metric("gavelcast_watchers"), 1)
        self.assertEqual(self.browser.errors(), [])


class Clocks(PageCase):
    def test_a_wrong_and_jumping_clock_does_not_matter(self):
        auction = stack.auction("Timed", seconds=300)
        for minutes in (10, -10):
            with self.subTest(minutes=minutes):
                self.browser.before(
                    "window.trueNow ??= Date.now.bind(Date); window.skew = %d; Date.now = () => trueNow() + skew;"
                    % (minutes * 60_000))
                self.enter(auction)
                self.see_truth(auction)
                self.check_countdown(auction)
                self.browser.run("window.skew = -window.skew")
                time.sleep(1)
                self.check_countdown(auction)

    def check_countdown(self, auction):
        end = float(stack.postgres.query(
            f"SELECT extract(epoch FROM ends_at) FROM auctions WHERE auction_id = '{auction}'"))
        minutes, seconds = self.browser.part("countdown").text.split(":")
        self.assertAlmostEqual(int(minutes) * 60 + int(seconds), end - time.time(), delta=1.6)


class Bids(PageCase):
    def start(self, name="ava", **more):
        auction = stack.auction(**more)
        self.enter(auction)
        self.browser.sign_in(stack, name)
        self.see_truth(auction)
        return auction

    def test_standing_comes_from_the_state(self):
        auction = self.start()
        self.assertEqual(self.browser.standing(), "none")
        self.browser.type("100")
        self.browser.see("what the button does", lambda: self.browser.part("bid").text == "Bid $100")
        self.browser.press_bid()
        self.browser.see("leading", lambda: self.browser.standing() == "leading")
        stack.bid(auction, 110, "rival-a")
        self.browser.see("outbid", lambda: self.browser.standing() == "outbid")
        self.browser.see("the next amount", lambda: self.browser.text("#standing button") == "Bid $120")
        self.browser.find("#standing button").click()
        self.browser.see("leading again", lambda: self.browser.standing() == "leading")
        self.assertEqual(stack.price(auction), 120)
        # A maximum beats the bid at once: the answer is a 201, and the user does not lead.
        get(f"{stack.api.url}/api/v1/auctions/{auction}/proxy", "POST", {"max_amount": 500}, stack.user("rival-a"))
        self.browser.see("outbid by a maximum", lambda: self.browser.standing() == "outbid")
        self.browser.type("200")
        self.browser.press_bid()
        self.browser.see("a word on the rival's maximum", lambda: "maximum is higher" in self.browser.note())
        self.browser.see("the rival's answer", lambda: self.browser.price() == 210)
        self.assertEqual(self.browser.standing(), "outbid")
        for sample in self.browser.samples():
            if "You lead" in sample["standingText"]:
                self.assertIn(digits(sample["price"]), (100, 120), f"a false word: {sample}")

    def test_won_and_lost(self):
        auction = self.start(seconds=8)
        self.browser.type("100")
        self.browser.press_bid()
        self.browser.see("won", lambda: self.browser.standing() == "won", 30)
        self.assertIn("Sold to you for $100", self.browser.find("#hammer").text)
        self.assertEqual(stack.postgres.query(f"SELECT status FROM auctions WHERE auction_id = '{auction}'"), "sold")
        auction = self.start(seconds=8)
        self.browser.type("100")
        self.browser.press_bid()
        self.browser.see("leading", lambda: self.browser.standing() == "leading")
        stack.bid(auction, 110, "rival-a")
        self.browser.see("lost", lambda: self.browser.standing() == "lost", 30)

    def test_a_refusal_does_not_outlive_the_auction(self):
        auction = self.start(seconds=10)
        self.browser.type("100")
        self.browser.press_bid()
        self.browser.see("leading", lambda: self.browser.standing() == "leading")
        stack.bid(auction, 110, "rival-a")
        self.browser.see("outbid", lambda: self.browser.standing() == "outbid")
        self.browser.type("115")
        self.browser.press_bid()
        self.browser.see("the refusal", lambda: "Bid $120 or more" in self.browser.note())
        self.browser.see("the end", lambda: self.browser.standing() == "lost", 30)
        self.browser.see("no refusal", lambda: self.browser.note() == "")

    def test_a_lower_maximum_is_refused_in_true_words(self):
        auction = self.start()
        self.browser.find("#is-maximum").click()
        self.browser.type("500")
        self.browser.press_bid()
        self.browser.see("leading", lambda: "Your maximum: $500" in self.browser.part("standing").text)
        self.browser.type("300")
        self.browser.press_bid()
        self.browser.see("why", lambda: "Your maximum is $500 already" in self.browser.note())
        # Another tab has raised it meanwhile.
        get(f"{stack.api.url}/api/v1/auctions/{auction}/proxy", "POST", {"max_amount": 900}, stack.user("ava"))
        self.browser.type("700")
        self.browser.press_bid()
        self.browser.see("the least", lambda: "$900.01 or more" in self.browser.note())
        self.assertEqual(stack.price(auction), 100)

    def test_a_lot_without_a_reserve_speaks_of_none(self):
        for reserve, words in (({}, {""}), ({"reserve_price": 150}, {"The reserve is not met yet.", "The reserve is met."})):
            auction = self.start(**reserve)
            seen = set()
            for amount in (110, 160):
                stack.bid(auction, amount, "rival-a" if amount == 110 else "rival-b")
                self.browser.see("the price", lambda: self.browser.price() == amount)
                seen.add(self.browser.text("#reserve"))
            self.assertEqual(seen, words)

    def test_a_refused_token_does_not_lock_a_public_lot(self):
        auction = stack.auction()
        self.enter(auction)
        stack.user("ava")
        session = dict(stack.users["ava"])
        session["token"] = session["token"][:-8] + "AAAAAAAA"
        self.browser.run("localStorage.setItem('gavelcast session', arguments[0])", json.dumps(session))
        self.browser.driver.refresh()
        self.browser.see("why", lambda: "signed out" in (self.browser.text("#note") or ""))
        self.see_truth(auction)
        self.assertEqual(self.browser.find("#account").text, "Sign in")

    def test_a_private_lot_without_its_link_says_what_to_do(self):
        auction = stack.auction(visibility="private")
        self.enter(auction)
        self.browser.see("what to do", lambda: "open the link that you were sent" in self.browser.text("#room-title"))

    def test_an_empty_field_does_nothing(self):
        auction = self.start()
        self.browser.press_bid()
        time.sleep(0.5)
        self.assertEqual((stack.bids(auction), self.browser.note()), (0, ""))

    def test_a_double_click_bids_once(self):
        auction = self.start()
        self.browser.type("100")
        self.browser.run("const b = document.querySelector('[data-part=bid]'); b.click(); b.click(); b.form.requestSubmit()")
        self.browser.see("leading", lambda: self.browser.standing() == "leading")
        time.sleep(0.5)
        self.assertEqual(stack.bids(auction, "ava"), 1)
        self.assertNotIn("already", self.browser.note().lower())

    def test_a_bid_repeats_with_its_key_until_its_outcome_is_known(self):
        auction = self.start()
        stack.api.process.send(signal.SIGSTOP)
        self.browser.type("100")
        self.browser.press_bid()
        self.browser.see("placing", lambda: self.browser.part("bid").text == "Placing…")
        self.assertIn("placing", self.browser.find("#history").text)
        self.assertEqual(self.browser.standing(), "none", "nobody leads with a bid that is not taken")
        stack.api.process.stop()
        self.browser.see("that it is sent again", lambda: "sent again" in self.browser.note())
        stack.api.start()
        self.browser.see("leading", lambda: self.browser.standing() == "leading", 30)
        self.assertEqual(stack.bids(auction, "ava"), 1)

    def test_an_ambiguous_amount_is_asked_about(self):
        auction = self.start()
        self.browser.type("1.200")
        self.browser.press_bid()
        self.browser.see("the question", lambda: self.browser.find("#confirm").is_displayed())
        self.assertIn("$1,200", self.browser.find("#confirm-text").text)
        self.browser.find("#confirm [data-cancel]").click()
        self.assertEqual(stack.bids(auction), 0)
        self.browser.press_bid()
        self.browser.find("#confirm-yes").click()
        self.browser.see("leading", lambda: self.browser.standing() == "leading")
        self.assertEqual(stack.price(auction), 1200)

    def test_a_bid_never_goes_to_another_lot(self):
        auction = self.start(title="Mine")
        self.browser.type("100")
        others = [stack.auction(f"Other {number}", seconds=60 + number) for number in range(4)]
        self.browser.see("the others in the list", lambda: all(
            self.browser.driver.find_elements(By.CSS_SELECTOR, f"[data-auction='{other}']") for other in others))
        self.assertEqual(self.browser.part("amount").get_attribute("value"), "100")
        self.assertEqual(self.browser.find("#room-title").text, "Mine")
        # Slow answer: the bid is under way while the reader walks on to another lot.
        stack.api.process.send(signal.SIGSTOP)
        self.browser.press_bid()
        self.browser.run("document.querySelector(arguments[0]).click()", f"#cards [data-auction='{others[0]}'] a")
        self.browser.see("the other lot", lambda: "Other" in self.browser.find("#room-title").text)
        self.assertEqual(self.browser.part("amount").get_attribute("value"), "")
        stack.api.process.send(signal.SIGCONT)
        eventually("the bid is on its own lot", lambda: stack.bids(auction, "ava") == 1)
        self.assertEqual([stack.bids(other) for other in others], [0, 0, 0, 0])
        self.assertEqual((self.browser.standing(), self.browser.note()), ("none", ""))

    def test_nothing_of_one_lot_is_shown_or_bid_in_another(self):
        first = self.start(title="First")
        second = stack.auction(title="Second", price=500, increment=50)
        for auction, amounts in ((first, (100, 110)), (second, (500, 550))):
            stack.bid(auction, amounts[0], "ava")
            stack.bid(auction, amounts[1], "rival-a")
        self.browser.see("outbid", lambda: self.browser.text("#standing button") == "Bid $120")
        # The button has the focus while the reader goes to a lot on which they are outbid, too.
        self.browser.run("document.querySelector('#standing button').focus()")
        self.browser.run("window.old = document.querySelector('#standing button');"
                         "history.pushState(null, '', arguments[0]); dispatchEvent(new PopStateEvent('popstate'))", f"/a/{second}")
        self.browser.see("the other lot", lambda: self.browser.find("#room-title").text == "Second")
        self.browser.see("its button", lambda: self.browser.text("#standing button") == "Bid $600")
        self.browser.run("old.click()")
        # A lot that does not exist shows nothing of the last one.
        self.browser.run("history.pushState(null, '', '/a/no-such-lot'); dispatchEvent(new PopStateEvent('popstate'))")
        self.browser.see("that there is none", lambda: "no such auction" in self.browser.find("#room-title").text)
        self.assertEqual((self.browser.text("[data-part=price]"), self.browser.standing()), ("–", "none"))
        self.assertFalse(self.browser.part("price").get_attribute("data-fresh") == "true")
        time.sleep(0.5)
        self.assertEqual((stack.bids(first), stack.bids(second)), (2, 2))

    def test_a_bid_is_repeated_in_its_makers_name_only(self):
        auction = self.start()
        stack.user("rival-a")
        stack.api.process.send(signal.SIGSTOP)
        self.browser.type("100")
        self.browser.press_bid()
        self.browser.see("placing", lambda: self.browser.part("bid").text == "Placing…")
        # Somebody else signs in, in another tab, while the outcome is unknown.
        stack.api.process.stop()
        self.browser.see("that it is sent again", lambda: "sent again" in self.browser.note())
        self.browser.run("localStorage.setItem('gavelcast session', arguments[0])", json.dumps(stack.users["rival-a"]))
        stack.api.start()
        eventually("the bid", lambda: stack.bids(auction) == 1)
        time.sleep(0.5)
        self.assertEqual((stack.bids(auction, "ava"), stack.bids(auction, "rival-a")), (1, 0))

    def test_a_stale_price_is_asked_about(self):
        auction = self.start()
        stack.redis.process.send(signal.SIGSTOP)
        try:
            self.browser.see("stale", lambda: self.browser.state() == "stale")
            self.browser.type("100")
            self.browser.press_bid()
            self.browser.see("the question", lambda: self.browser.find("#confirm").is_displayed())
            self.browser.find("#confirm [data-cancel]").click()
        finally:
            stack.redis.process.send(signal.SIGCONT)
        self.see_truth(auction)
        self.assertEqual(stack.bids(auction), 0)

    def price_age(self):
        """For how many seconds at least the page says that the price was not confirmed; -1 when it says nothing."""
        words = self.browser.text("#price-age").split()
        return int(words[5]) if len(words) > 5 else -1

    def test_while_nothing_arrives_words_are_in_the_past_and_answers_count(self):
        auction = self.start()
        self.browser.type("100")
        self.browser.press_bid()
        self.browser.see("leading", lambda: self.browser.standing() == "leading")
        meta = f"#cards [data-auction={auction}] .meta"
        self.browser.see("the card", lambda: "you lead" in self.browser.text(meta))
        stack.redis.process.send(signal.SIGSTOP)
        stopped = time.time()
        try:
            self.browser.see("stale", lambda: self.browser.state() == "stale")
            self.browser.see("the past", lambda: "You led at the last price" in self.browser.part("standing").text)
            self.browser.see("the past on the card", lambda: "you led" in self.browser.text(meta))
            last = 0
            for _ in range(12):
                age = self.price_age()
                self.assertTrue(last <= age <= max(1, time.time() - stopped), f"{age} s, {time.time() - stopped}")
                last = age
                time.sleep(0.25)
            # Leaving the lot and coming back confirms nothing.
            self.browser.run("document.querySelector('.brand').click()")
            self.browser.run(f"document.querySelector('[data-auction={auction}] a').click()")
            self.browser.see("the age again", lambda: self.price_age() >= last)
            self.browser.see("the form", lambda: self.browser.part("amount").is_enabled())
            stack.bid(auction, 110, "rival-a")
            self.browser.type("150")
            self.browser.press_bid()
            self.browser.see("the question", lambda: self.browser.find("#confirm").is_displayed())
            self.assertEqual(self.browser.find("#confirm-yes").text, "Raise maximum to $150")
            self.browser.find("#confirm-yes").click()
            self.browser.see("the answer's price", lambda: self.browser.price() == stack.price(auction) == 120)
        finally:
            stack.redis.process.send(signal.SIGCONT)
        self.see_truth(auction)

    def test_the_price_to_buy_now_is_the_one_that_is_paid(self):
        auction = self.start(buy_now_price=500)
        self.browser.see("the button", lambda: self.browser.text("#buy") == "Buy now for $500")
        self.browser.find("#buy").click()
        self.browser.see("the question", lambda: "you pay $500" in self.browser.text("#confirm-text"))
        change = {"buy_now_price": 900}
        self.assertEqual(get(f"{stack.api.url}/api/v1/auctions/{auction}", "PUT", change, stack.seller)[0], 200)
        self.browser.see("the new price on the button", lambda: self.browser.text("#buy") == "Buy now for $900")
        self.browser.find("#confirm-yes").click()
        self.browser.see("the refusal", lambda: "has changed to $900. Nothing was bought." in self.browser.note())
        self.assertEqual(stack.bids(auction), 0)

    def test_the_next_bid_follows_the_increment_table(self):
        auction = self.start(bid_increment=None, increment_table=[
            {"from": 0, "increment": 10}, {"from": 200, "increment": 50}])
        for amount, least in ((100, 110), (200, 250), (300, 350)):
            stack.bid(auction, amount, "rival-a" if least == 250 else "rival-b")
            quick = "#quick button"
            self.browser.see(f"${least}", lambda: self.browser.text(quick) == f"${least}")
            self.assertEqual(self.browser.part("amount").get_attribute("placeholder"), f"${least} or more")

    def test_a_maximum_raised_elsewhere_is_told_when_it_matters(self):
        auction = self.start()
        path = f"{stack.api.url}/api/v1/auctions/{auction}/proxy"
        self.browser.find("#is-maximum").click()
        self.browser.type("400")
        self.browser.press_bid()
        self.browser.see("the maximum", lambda: "Your maximum: $400" in self.browser.part("standing").text)
        self.assertEqual(get(path, "POST", {"max_amount": 600}, stack.user("ava"))[0], 201)
        self.browser.type("500")
        self.browser.press_bid()
        self.browser.see("the refusal", lambda: "already that high" in self.browser.note())
        self.browser.see("the true maximum", lambda: "Your maximum: $600" in self.browser.part("standing").text)

    def test_the_first_bid_counts_while_nothing_arrives(self):
        auction = self.start()
        stack.redis.process.send(signal.SIGSTOP)
        try:
            self.browser.see("stale", lambda: self.browser.state() == "stale")
            self.browser.type("100")
            self.browser.press_bid()
            self.browser.see("the question", lambda: self.browser.find("#confirm").is_displayed())
            self.browser.find("#confirm-yes").click()
            self.browser.see("the answer", lambda: "is in" in self.browser.note())
            until = time.time() + 3
            while time.time() < until:
                self.assertIn(self.browser.standing(), ("leading", "none"))
                time.sleep(0.1)
            self.assertEqual(self.browser.standing(), "leading")
        finally:
            stack.redis.process.send(signal.SIGCONT)
        self.see_truth(auction)

    def test_a_button_bids_the_amount_that_was_pressed(self):
        auction = self.start()
        stack.bid(auction, 100, "ava")
        stack.bid(auction, 110, "rival-a")
        button = "#standing button"
        self.browser.see("the offer", lambda: [one.text for one in self.browser.driver.find_elements(By.CSS_SELECTOR, button)] == ["Bid $120"])
        place = self.browser.find(button)
        ActionChains(self.browser.driver).move_to_element(place).click_and_hold().perform()
        stack.bid(auction, 500, "rival-b")
        self.browser.see("the price", lambda: self.browser.price() == 500)
        self.assertEqual(self.browser.find(button).text, "Bid $120")
        ActionChains(self.browser.driver).release().perform()
        self.browser.see("the refusal", lambda: "too low" in self.browser.note())
        self.assertEqual(stack.price(auction), 500)

    def test_a_new_search_replaces_the_list_under_the_pointer(self):
        auction = stack.auction("Findable")
        self.browser.open(stack.url + "/")
        card = f"#cards [data-auction={auction}]"
        self.browser.see("the card", lambda: self.browser.driver.find_elements(By.CSS_SELECTOR, card))
        ActionChains(self.browser.driver).move_to_element(self.browser.find(card)).perform()
        self.browser.run("document.querySelector('[name=q]').value = 'zzzzqq'; document.getElementById('filters').oninput()")
        self.browser.see("nothing", lambda: "Nothing matches" in self.browser.text("#empty"))
        self.browser.see("no card", lambda: not self.browser.driver.find_elements(By.CSS_SELECTOR, card))

    def test_a_page_loaded_while_nothing_arrives_is_not_live(self):
        auction = stack.auction("Late")
        self.enter(auction)
        self.see_truth(auction)
        for transport in ("websocket", "sse", "longpoll"):
            with self.subTest(transport=transport):
                stack.redis.process.send(signal.SIGSTOP)
                try:
                    time.sleep(3)
                    stack.bid(auction, stack.price(auction) + 10, "rival-a" if transport == "sse" else "rival-b")
                    self.enter(auction, f"?transport={transport}")
                    until = time.time() + 5
                    while time.time() < until:
                        isFresh = self.browser.part("price").get_attribute("data-fresh") == "true"
                        self.assertFalse(isFresh and self.browser.state() == "live", self.browser.price())
                        time.sleep(0.1)
                finally:
                    stack.redis.process.send(signal.SIGCONT)
                self.see_truth(auction)

    def test_a_lot_that_has_not_begun_has_not_ended(self):
        start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3_600))
        auction = stack.auction("Later", visibility="private", starts_at=start)
        share = get(f"{stack.api.url}/api/v1/auctions/{auction}/share", "POST", token=stack.seller)[1]["token"]
        self.enter(auction, f"?token={share}")
        self.browser.see("upcoming", lambda: self.browser.part("countdown").text == "upcoming")
        self.assertEqual(self.browser.text("#ends"), "")

    def test_a_stranger_registers_and_bids(self):
        auction = stack.auction("For strangers")
        self.enter(auction)
        self.see_truth(auction)
        self.browser.type("$150")
        self.browser.press_bid()
        self.browser.see("the dialog", lambda: self.browser.find("#sign-in").is_displayed())
        self.browser.find("#sign-in-mode").click()
        for field, text in (("username", "stranger"), ("email", "stranger@bidder.example"), ("password", "long enough")):
            self.browser.find(f"#sign-in [name={field}]").send_keys(text)
        self.browser.find("#sign-in [type=submit]").click()
        self.browser.see("leading", lambda: self.browser.standing() == "leading")
        self.assertEqual(stack.price(auction), 150)
        # The account survives the tab.
        self.browser.driver.switch_to.new_window("tab")
        self.enter(auction)
        self.browser.see("leading in another tab", lambda: self.browser.standing() == "leading")
        stack.bid(auction, 160, "rival-a")
        self.browser.see("a notification", lambda: self.browser.find("#unread").text == "1")


class Phone(PageCase):
    def setUp(self):
        super().setUp()
        self.browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True})
        self.browser.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})

    def check_width(self):
        self.assertLessEqual(self.browser.run("return document.documentElement.scrollWidth"), 390)

    def test_everything_fits_and_can_be_touched(self):
        auction = stack.auction("A long amount", price=151_000_000, increment=1_000_000, currency="IDR")
        self.enter(auction)
        self.browser.sign_in(stack, "ava")
        for number in range(10):
            stack.bid(auction, 151_000_000 + 1_000_000 * number, f"many-{number}")
        self.see_truth(auction)
        self.check_width()
        small = self.browser.run("""return [...document.querySelectorAll('button, select, input:not([type=checkbox]), .back')]
            .filter((one) => one.offsetParent && one.getBoundingClientRect().height < 44).map((one) => one.id || one.className)""")
        self.assertEqual(small, [])
        self.browser.see("all bidders", lambda: self.browser.run("return document.querySelectorAll('#bidders li:not(.unused)').length") == 10)
        self.browser.run("scrollTo(0, document.body.scrollHeight)")
        hidden = self.browser.run("""return document.querySelector('#bidders li:last-child').getBoundingClientRect().bottom
            - document.querySelector('#bid').getBoundingClientRect().top""")
        self.assertLessEqual(hidden, 0, "the last bidder is under the form")
        overlap = self.browser.run("""const [price, left] = ['price', 'countdown'].map((id) => document.getElementById(id).getBoundingClientRect());
            return price.right > left.left && price.bottom > left.top && price.top < left.bottom""")
        self.assertFalse(overlap, "the price is over the time left")
        stack.proxy.is_gone = True
        try:
            self.browser.see("no connection", lambda: self.browser.state() == "offline")
            self.check_width()
            self.browser.run("document.querySelector('.back').click()")
            self.check_width()
        finally:
            stack.proxy.is_gone = False


class Weight(PageCase):
    def test_twelve_busy_lots_are_cheap_and_stay_in_place(self):
        # These end before the lots of other tests, so they are the twelve that the list watches live.
        lots = [stack.auction(f"Busy {number}", seconds=100 + number) for number in range(12)]
        self.browser.open(stack.url + "/")
        self.browser.see("all lots live", lambda: all(
            self.browser.driver.find_elements(By.CSS_SELECTOR, f"[data-auction='{lot}'][data-fresh=true]") for lot in lots))
        before = self.usage()
        publisher = stack.redis
        begin = time.time()
        sequence = {lot: stack_sequence(lot) for lot in lots}
        sent = 0
        while time.time() - begin < 10:
            commands = []
            for lot in lots:
                sequence[lot] += 1
                commands.append(event(lot, sequence[lot]))
            publish(publisher, commands)
            sent += len(lots)
            time.sleep(max(0, begin + sent / 240 - time.time()))
        elapsed = time.time() - begin
        used = self.usage() - before
        for lot in lots:
            card = self.browser.find(f"[data-auction='{lot}'] .amount")
            self.browser.see("the last price", lambda: digits(card.text) == 100 + sequence[lot])
        shift = self.browser.run("return window.shift ?? 0")
        print(f"12 lots, {sent / elapsed:.0f} bids/s: {100 * used / elapsed:.0f} % of a core, layout shift {shift:.3f}")
        self.assertLess(shift, 0.02)

    def usage(self):
        """Seconds of processor time of all the browser's processes."""
        pids = [self.browser.driver.service.process.pid]
        total = 0
        for pid in pids:
            for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                pids += [int(child) for child in path.read_text().split()]
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return total


def stack_sequence(auction):
    return int(stack.postgres.query(f"SELECT seq FROM auctions WHERE auction_id = '{auction}'"))


def event(auction, sequence):
    price = 100 + sequence
    return auction, (
        '{"type":"BID_UPDATE","auction_id":"%s","seq":%d,"server_time":"2026-01-10T19:30:00.123Z",'
        '"bid":{"bid_id":"b%d","bidder":"ava","amount":%d,"rank":1,"bid_at":"2026-01-10T19:30:00.123Z","is_proxy":false},'
        '"current_price":%d,"bid_count":%d,"reserve_met":true,"ends_at":"2099-01-10T19:30:00.123Z",'
        '"time_remaining_seconds":9}' % (auction, sequence, sequence, price, price, sequence))


def publish(redis, events):
    if not hasattr(redis, "socket"):
        redis.socket = socket.create_connection(("127.0.0.1", redis.port))
    words = [["PUBLISH", f"auction:{auction}", text] for auction, text in events]
    redis.socket.sendall(b"".join(
        b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in command)
        for command in words))
    redis.socket.recv(65_536)


if __name__ == "__main__":
    unittest.main(verbosity=2)
