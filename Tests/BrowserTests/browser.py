"""A Chromium that shows the page, and a record of what it showed meanwhile."""

import json
import re
import time

from selenium import webdriver
from selenium.webdriver.chrome.service import Service as DriverService
from selenium.webdriver.common.by import By

from servers import eventually

# Notes four times a second what the page shows.
SAMPLER = """
window.samples = [];
setInterval(() => {
  const part = (name) => document.querySelector(`[data-part=${name}]`);
  const price = part('price');
  if (!price) return;
  samples.push({
    at: (window.trueNow ?? Date.now)() / 1000, price: price.textContent, fresh: price.dataset.fresh === 'true',
    state: part('connection').dataset.state, standing: part('standing').dataset.standing,
    standingText: part('standing').textContent,
  });
}, 250);
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift = (window.shift ?? 0) + entry.value;
}).observe({ type: 'layout-shift', buffered: true });
"""


def digits(text):
    """The amount in a text such as $1,200; None without one."""
    found = re.sub(r"[^\d.]", "", text)
    return int(float(found)) if found else None


class Browser:
    def __init__(self, width=1280, height=900):
        options = webdriver.ChromeOptions()
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},{height}",
                         "--disable-background-timer-throttling", "--lang=en-US"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=DriverService("/usr/bin/chromedriver"))
        self.before(SAMPLER)

    def before(self, script):
        """Runs a script in every page before the page's own."""
        self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})

    def open(self, url):
        self.driver.get(url)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def part(self, name):
        return self.driver.find_element(By.CSS_SELECTOR, f"[data-part={name}]")

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector):
        """The text of an element; None while there is none."""
        return self.run("return document.querySelector(arguments[0])?.textContent ?? null", selector)

    def price(self):
        return digits(self.part("price").text)

    def state(self):
        return self.part("connection").get_attribute("data-state")

    def standing(self):
        return self.part("standing").get_attribute("data-standing")

    def note(self):
        return self.part("note").text

    def samples(self):
        return self.run("return samples")

    def see(self, what, condition, seconds=30):
        return eventually(what, condition, seconds)

    def sign_in(self, stack, name):
        session = dict(stack.users.get(name) or {}) or (stack.user(name) and dict(stack.users[name]))
        self.run("localStorage.setItem('gavelcast session', arguments[0])", json.dumps(session))
        self.driver.refresh()

    def type(self, text):
        field = self.part("amount")
        field.clear()
        field.send_keys(text)

    def press_bid(self):
        self.part("bid").click()

    def errors(self):
        """What the page's console says went wrong, network failures aside."""
        return [entry["message"] for entry in self.driver.get_log("browser")
                if entry["level"] == "SEVERE" and "Failed to load resource" not in entry["message"]
                and "WebSocket connection" not in entry["message"] and "net::ERR" not in entry["message"]]

    def quit(self):
        self.driver.quit()


def check_honesty(samples, bidding, grace=12.5):
    """Every price shown as fresh was the price at that moment or within the `grace` before it, which is how long a
    silent network may go unnoticed. A price was never ahead of PostgreSQL, and never went back."""
    shown = [sample for sample in samples if digits(sample["price"]) is not None]
    assert shown, "the page never showed a price"
    last = 0
    for sample in shown:
        price = digits(sample["price"])
        assert price >= last, f"the price went back from {last} to {price}"
        last = price
        assert price <= bidding.at(sample["at"] + 1.5), f"{price} was shown before it was bid: {sample}"
        if sample["fresh"] and sample["state"] == "live":
            least = bidding.at(sample["at"] - grace)
            assert price >= least, f"{price} shown as live when it had been {least} for {grace} s: {sample}"


def first_price_after(samples, opened):
    """Seconds until the first price that was shown as fresh."""
    return next((round(sample["at"] - opened, 1) for sample in samples if sample["fresh"]), None)


__all__ = ["Browser", "check_honesty", "digits", "first_price_after", "time"]
