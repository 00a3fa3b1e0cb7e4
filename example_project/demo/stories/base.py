"""What the stories share: buying, waiting, and what can happen at every gateway.

A case is one purchase by one customer. What goes wrong in it is told in its row of the table, and the others go on. Those
that a poll has to find begin first and end last, since an order is polled first a minute after it was made.
"""

import signal
from functools import cached_property

import requests

from crypto_invoices.simulator.client import SimulatorClient, SimulatorError

from ..browser import Customer, Staff
from ..order import Order
from ..processes import DemoError, wait_until
from ..table import Facts, Group, Line

PAID = "paid"
TOPPED_UP = "short, then topped up in time"
SECOND_ATTEMPT = "short, staff open a second attempt for the rest"
TOO_MUCH = "paid too much"
NEVER = "never paid"
LATE = "expired with money, accepted by hand"
LOST = "callbacks lost, found by polling"
THREE_TIMES = "every callback three times and out of order"
FORGED = "forged callbacks change nothing"
ASKED = "callbacks lost, a forged one makes the shop ask"
KILLED = "shop killed between commit and signal"

EMAIL = "payer@example.com"
TROUBLE = (DemoError, SimulatorError, requests.RequestException)
POLLED = 180  # seconds: the first poll comes after one minute
UNREAD = Facts("", "", "", "")


class Story:
    """One gateway's cases. A subclass says what is promised and writes the three parts; ``demo`` is ``__main__.Demo``."""

    title = ""
    gateway = ""  # at the simulator
    way = ""  # at the shop's checkout
    return_field = ""  # the gateway's parameter for the page that the payer comes back to
    promised = {}  # case -> Facts, in the order of the table
    not_offered = ()
    product = "coffee"  # what is bought where nothing else is said
    callbacks = 2  # how many a payment makes

    def __init__(self, demo):
        self.demo = demo
        self.simulator = SimulatorClient(demo.simulator_url)
        self.payment_pages = f"{demo.simulator_url}{self.gateway}/pay/"
        self.orders = {}
        self.trouble = {}

    # What a subclass writes

    def begin(self):
        """Begins what a poll has to find. Nothing polls yet."""

    def tell(self):
        """Everything that callbacks tell. Polls run beside it."""

    def end(self):
        """Waits for what the polls find, and goes on from there."""

    def forgeries(self, payment):
        """``{name: (URL, body, headers)}`` of callbacks that nobody should believe."""
        raise NotImplementedError

    def opened(self, order):
        """A payment was made at the gateway, and the customer is on its page."""

    # Cases

    def case(self, name, step, product=""):
        """A new customer buys the product, and ``step(order)`` follows."""
        customer = Customer(self.demo.site)
        try:
            page = customer.buy(product or self.product, EMAIL, self.way)
            order = self.orders[name] = Order(self, customer, page)
        except TROUBLE as error:
            self.note(name, error)
        else:
            self.demo.say(f"{self.title}, {name}: order {order.number}")
            self.go_on(name, step)

    def go_on(self, name, step):
        if name not in self.trouble:
            try:
                step(self.orders[name])
            except TROUBLE as error:
                self.note(name, error)

    def note(self, name, error):
        self.trouble[name] = str(error)
        self.demo.say(f"{self.title}, {name}: {error}")

    def group(self):
        """The gateway's part of the table, read from the running processes."""
        return Group(self.title, [*(self.line(name) for name in self.promised), *self.not_offered])

    def line(self, name):
        seen = UNREAD
        try:
            if name in self.orders:
                order = self.orders[name]
                wait_until(lambda: not order.callbacks_to_come, "the last callback", 10 if name in self.trouble else 240)
                seen = order.seen()
        except TROUBLE as error:
            self.note(name, error)
        return Line(name, self.promised[name], seen, self.trouble.get(name, ""))

    # Steps that are the same everywhere

    @cached_property
    def staff(self):
        staff = Staff(self.demo.site)
        staff.log_in(*self.demo.login)
        return staff

    def press(self, button, order, reason, **fields):
        self.demo.say(f"staff press {button!r} in the admin for order {order.number}")
        order.beside.append(f"admin's {button} {self.staff.press(button, order.number, reason=reason, **fields)}")

    def pay(self, order):
        order.act("pay", currency="USDT")
        order.wait_for("paid", shipments=1)

    def pay_too_much(self, order):
        order.act("pay_more", currency="USDT")
        order.wait_for("overpaid", shipments=1)

    def pay_unseen(self, order):
        """The payment's callbacks are lost; how many there are is ``callbacks``."""
        self.simulator.misbehave(self.gateway, "callback_drop", count=self.callbacks)
        order.act("pay", currency="USDT")
        order.remember()

    def run_out(self, order):
        order.act("expire")
        order.wait_for("expired")

    def is_paid(self, order):
        """A poll found the payment, or the command that delivers called the receivers that the killed shop did not."""
        order.wait_for("paid", shipments=1, seconds=POLLED)

    def pay_the_rest(self, order, amount):
        """Staff ask for the rest in a second attempt; the customer pays it from the order's page."""
        order.remember()
        self.press("attempt", order, "The rest of the price.", amount=amount)
        order.pay_again()
        self.pay(order)

    def pay_with_disorder(self, order):
        expected = len(order.callbacks) + 3 * self.callbacks
        self.simulator.misbehave(self.gateway, "callback_duplicate", 3, count=self.callbacks)
        if self.callbacks > 1:
            self.simulator.misbehave(self.gateway, "callback_reorder", self.callbacks, count=1)
        order.act("pay", currency="USDT")
        wait_until(lambda: len(order.callbacks) == expected, f"{expected} callbacks")
        order.wait_for("paid", shipments=1)

    def send(self, order, forgeries):
        """Posts each (URL, body, headers) as a callback, and notes under its name how it was answered."""
        for name, (url, body, headers) in forgeries.items():
            headers = {"Content-Type": "application/json", **headers}
            answer = requests.post(url, body, headers=headers, timeout=60, proxies={"http": ""})
            order.beside.append(f"{name} {answer.status_code}")

    def forge(self, order):
        before = order.state
        self.send(order, self.forgeries(order.payment))
        if order.state != before:
            raise DemoError(f"they changed it from {before} to {order.state}")

    def kill(self):
        """Buys and pays; the shop dies of it and is started again. Nothing else may deliver signals meanwhile."""
        self.case(KILLED, self.kill_the_shop)

    def kill_the_shop(self, order):
        """``shop/crash.py`` kills it after the commit of the payment, when the first receiver of ``invoice_paid`` is called."""
        shop = self.demo.processes.running["shop"]
        self.demo.crash_file.touch()
        try:
            order.act("pay", currency="USDT")
            wait_until(lambda: shop.poll() is not None, "the shop's process to die", 60)
        finally:  # the other cases need a shop that lives
            self.demo.crash_file.unlink(missing_ok=True)
            if shop.poll() is not None:
                self.demo.start_shop()
        order.beside.append(f"killed by {signal.Signals(-shop.returncode).name}" if shop.returncode < 0 else "ended by itself")
        order.remember()
        self.demo.say(f"killed and started again: {order.earlier[-1].status}, {order.earlier[-1].order}")


def other_token(url):
    """The callback URL with another last character of its token."""
    return url[:-2] + ("A" if url[-2] != "A" else "B") + "/"
