"""The story: what customers, staff and the gateway do.

OxaPay calls back on paying and paid only; everything else is found by polling. An order is polled first a minute after it
was made, so the cases that need it begin first and end last. Amounts in USD cannot be compared with the coins that pay
them, so paying too much is shown with something that is priced in USDT.
"""

import hashlib
import hmac
import json
import signal
import time
from datetime import datetime

import requests

from crypto_invoices.simulator.client import SimulatorClient, SimulatorError

from .browser import Customer, Staff
from .order import GATEWAY, Order
from .processes import DemoError, wait_until
from .promises import (
    BY_HAND,
    FORGED,
    KILLED,
    LATE,
    NEVER,
    NOT_OFFERED,
    PAID,
    PROMISED,
    REFUNDED,
    SHORT,
    THREE_TIMES,
    TOO_MUCH,
    TOPPED_UP,
)
from .table import Facts, Line

EMAIL = "payer@example.com"
TROUBLE = (DemoError, SimulatorError, requests.RequestException)
POLLED = 180  # seconds: the first poll comes after one minute
UNREAD = Facts("", "", "", "")


class Story:
    """``demo`` has the site, the simulator's URL, its key, the staff login, the processes and ``say``."""

    def __init__(self, demo):
        self.demo = demo
        self.simulator = SimulatorClient(demo.simulator_url)
        self.orders = {}
        self.trouble = {}

    def tell(self):
        """Lets everything happen; returns the lines of the table, read from the running processes at the very end."""
        self.begin(NEVER, "coffee", self.run_out)
        self.begin(SHORT, "coffee", self.pay_half_and_run_out)
        self.begin(LATE, "teapot", self.run_out_and_pay)
        self.begin(BY_HAND, "notebook", self.pay_half_and_be_accepted)
        self.begin(REFUNDED, "teapot", self.pay_and_take_back)
        self.begin(KILLED, "coffee", self.kill_the_shop)
        self.begin(PAID, "notebook", self.pay)
        self.begin(TOPPED_UP, "coffee", self.top_up)
        self.begin(TOO_MUCH, "hardware-wallet", self.pay_too_much)
        self.begin(THREE_TIMES, "notebook", self.pay_with_disorder)
        self.begin(FORGED, "hardware-wallet", self.forge)
        self.demo.say("manage.py crypto_invoices deliver --loop ships what the killed process left, 30 s after it was killed")
        self.go_on(KILLED, lambda order: order.wait_for("paid", shipments=1, seconds=POLLED))
        self.demo.say("manage.py crypto_invoices reconcile --loop polls what is due, a minute after each order was made")
        self.demo.processes.start("reconcile", "crypto_invoices", "reconcile", "--loop", "--interval", "2")
        self.go_on(NEVER, lambda order: order.wait_for("expired", seconds=POLLED))
        self.go_on(SHORT, lambda order: order.wait_for("underpaid", seconds=POLLED))
        self.go_on(BY_HAND, lambda order: order.wait_for("paid", shipments=1, seconds=POLLED))
        self.go_on(LATE, self.accept)
        self.go_on(REFUNDED, self.finish_refund)
        self.demo.say("every row is read back from the running processes")
        return [*(self.line(case) for case in PROMISED), *NOT_OFFERED]

    def begin(self, case, slug, step):
        """A new customer buys ``slug``, and ``step(order)`` follows. What goes wrong is told in the case's row."""
        customer = Customer(self.demo.site)
        try:
            order = self.orders[case] = Order(case, customer, self.simulator, customer.buy(slug, EMAIL))
        except TROUBLE as error:
            self.note(case, error)
        else:
            self.demo.say(f"{case}: order {order.number}")
            self.go_on(case, step)

    def go_on(self, case, step):
        if case not in self.trouble:
            try:
                step(self.orders[case])
            except TROUBLE as error:
                self.note(case, error)

    def note(self, case, error):
        self.trouble[case] = str(error)
        self.demo.say(f"{case}: {error}")

    def line(self, case):
        seen = UNREAD
        try:
            if case in self.orders:
                order = self.orders[case]
                wait_until(
                    lambda: not order.payment["callbacks_to_come"], "the last callback", 10 if case in self.trouble else 240
                )
                seen = order.seen()
        except TROUBLE as error:
            self.note(case, error)
        return Line(case, PROMISED[case], seen, self.trouble.get(case, ""))

    # Found by polling

    def run_out(self, order):
        order.act("expire")
        order.remember()

    def pay_half_and_run_out(self, order):
        order.act("pay_part", currency="USDT")
        order.wait_for("confirming")
        order.act("expire")
        order.remember()

    def run_out_and_pay(self, order):
        order.act("choose", currency="LTC")
        order.act("expire")
        deadline = datetime.fromisoformat(order.payment["expires_at"]).timestamp()
        wait_until(lambda: time.time() >= int(deadline) + 1, "the next second, since OxaPay's times are whole seconds")
        order.act("pay")
        order.remember()

    def pay_half_and_be_accepted(self, order):
        self.pay_half_and_run_out(order)
        order.act("accept")

    def pay_and_take_back(self, order):
        self.pay(order)
        order.remember()
        order.act("refund")

    def accept(self, order):
        order.wait_for("expired", seconds=POLLED)
        order.remember()
        self.press("accept", order, "The money came a little late.")
        order.wait_for("paid", shipments=1)

    def finish_refund(self, order):
        order.wait_for("refunding", shipments=1, seconds=POLLED)
        order.remember()
        order.act("finish_refund")
        self.press("refresh", order, "")
        order.wait_for("refunded", shipments=1)

    def press(self, button, order, reason):
        self.demo.say(f"staff press {button!r} in the admin for order {order.number}")
        staff = Staff(self.demo.site)
        staff.log_in(*self.demo.login)
        order.beside.append(f"admin's {button} {staff.press(button, order.number, reason)}")

    # Told by callbacks

    def pay(self, order):
        order.act("pay", currency="ETH")
        order.wait_for("paid", shipments=1)

    def top_up(self, order):
        order.act("pay_part", currency="USDT")
        order.wait_for("confirming")
        order.remember()
        order.act("pay")
        order.wait_for("paid", shipments=1)

    def pay_too_much(self, order):
        order.act("pay_more", currency="USDT", amount="86.9")
        order.wait_for("overpaid", shipments=1)

    def pay_with_disorder(self, order):
        self.simulator.misbehave(GATEWAY, "callback_duplicate", 3, count=2)
        self.simulator.misbehave(GATEWAY, "callback_reorder", 2, count=1)
        order.act("pay", currency="USDT")
        wait_until(lambda: len(order.payment["callbacks"]) == 6, "six callbacks")
        order.wait_for("paid", shipments=1)

    def forge(self, order):
        before = order.state
        order.beside += forgeries(order.payment, self.demo.merchant_key)
        if order.state != before:
            raise DemoError(f"they changed it from {before} to {order.state}")

    def kill_the_shop(self, order):
        """``shop/crash.py`` kills it after the commit of the payment, when the first receiver of ``invoice_paid`` is called."""
        shop = self.demo.processes.running["shop"]
        self.demo.crash_file.touch()
        try:
            order.act("pay", currency="USDT")
            wait_until(lambda: shop.poll() is not None, "the shop's process to die")
        finally:  # the other cases need a shop that lives
            self.demo.crash_file.unlink(missing_ok=True)
            if shop.poll() is not None:
                self.demo.start_shop()
        order.beside.append(f"killed by {signal.Signals(-shop.returncode).name}" if shop.returncode < 0 else "ended by itself")
        order.remember()
        self.demo.say(f"killed and started again: {order.earlier[-1].status}, {order.earlier[-1].order}")
        self.demo.processes.start("deliver", "crypto_invoices", "deliver", "--loop", "--interval", "1")


def forgeries(payment, key):
    """Sends callbacks that nobody should believe, then a genuine one that says nothing new; how each was answered."""
    url = payment["callback_url"]
    other_url = url[:-2] + ("A" if url[-2] != "A" else "B") + "/"  # the last character of the token
    paid = body_of(payment, "Paid")
    waiting = body_of(payment, "Waiting")
    tries = {
        "wrong key": (url, paid, signature(paid, key[::-1])),
        "no signature": (url, paid, {}),
        "changed byte": (url, paid.replace(b"Paid", b"paid"), signature(paid, key)),
        "unknown token": (other_url, paid, signature(paid, key)),
        "genuine": (url, waiting, signature(waiting, key)),  # shows that nothing but the forgery was refused before
    }
    answers = []
    for name, (address, body, headers) in tries.items():
        headers = {"Content-Type": "application/json", **headers}
        answer = requests.post(address, body, headers=headers, timeout=60, proxies={"http": ""})
        answers.append(f"{name} {answer.status_code}")
    return answers


def body_of(payment, word):
    fields = {"track_id": payment["id"], "status": word, "type": payment["kind"], "order_id": payment["reference"], "txs": []}
    return json.dumps(fields).encode()


def signature(body, key):
    """HMAC-SHA512 of the raw body, keyed with the merchant's API key: https://docs.oxapay.com/webhook"""
    return {"HMAC": hmac.new(key.encode(), body, hashlib.sha512).hexdigest()}
