"""An order as it can be seen from outside: the shop's pages and ``status.json``, the simulator's control API."""

from itertools import groupby

from .processes import DemoError, wait_until
from .table import Facts


class Order:
    """One purchase of one customer. ``beside`` are HTTP answers other than those to the gateway's callbacks."""

    def __init__(self, story, browser, page):
        self.story = story
        self.browser = browser
        self.payment_ids = []  # at the gateway, one for each attempt
        self.go_to_gateway(page)
        self.path = self.payment["data"][story.return_field].removeprefix(browser.site)  # where the payer is sent back to
        self.number = self.path.rstrip("/").rpartition("/")[2]
        self.beside = []
        self.earlier = []

    def go_to_gateway(self, page):
        """``page`` is where the browser ended up: at the gateway, over the invoice's page."""
        by_way_of = [answer.status_code for answer in page.history]
        if not page.url.startswith(self.story.payment_pages) or by_way_of != [302, 302]:
            raise DemoError(f"the shop did not lead over the invoice's page to the gateway's, but to {page.url}")
        self.payment_ids.append(page.url.rstrip("/").rpartition("/")[2])
        self.story.opened(self)

    def pay_again(self):
        """The customer presses "Pay now" on the order's page, which leads to another payment."""
        self.go_to_gateway(self.browser.submit(self.browser.get(self.path), f"{self.path}pay/"))

    @property
    def payments(self):
        return [self.story.simulator.payment(self.story.gateway, payment_id) for payment_id in self.payment_ids]

    @property
    def payment(self):
        return self.payments[-1]

    @property
    def callbacks(self):
        return [sent for payment in self.payments for sent in payment["callbacks"]]

    @property
    def callbacks_to_come(self):
        return [job for payment in self.payments for job in payment["callbacks_to_come"]]

    @property
    def state(self):
        return self.browser.get(f"{self.path}status.json").json()

    def act(self, action, **fields):
        """Presses a button at the gateway."""
        self.story.simulator.act(self.story.gateway, self.payment_ids[-1], action, **fields)

    def wait_for(self, status, shipments=0, seconds=60):
        """Waits until the shop shows this status, and so many shipments."""

        def is_there():
            state = self.state
            return (state["invoice"]["status"], state["shipments"]) == (status, shipments)

        wait_until(is_there, f"the status {status} and {shipments} shipments", seconds)

    def remember(self):
        """What is seen now will stand in the table before what is seen at the end, where they differ."""
        self.earlier.append(self.seen_now())

    def seen(self):
        """The row of the table, as the running processes show it."""
        seen = [*self.earlier, self.seen_now()]
        steps = {name: [step for step, _ in groupby(getattr(facts, name) for facts in seen)] for name in ("status", "order")}
        last = seen[-1]
        return Facts(last.http, " → ".join(steps["status"]), last.signals, " → ".join(steps["order"]))

    def seen_now(self):
        state = self.state
        answers = [*answers_to(self.callbacks), *self.beside]
        signals = [name.removeprefix("invoice_") for name in state["signals"]]
        return Facts(", ".join(answers) or "no callback", status_of(state["invoice"]), ", ".join(signals), self._shipped(state))

    def _shipped(self, state):
        on_page = "Paid and shipped" in self.browser.get(self.path).text
        if not on_page == (state["status"] == "shipped") == bool(state["shipments"]):
            return f"the page and status.json disagree: {state['status']}, {state['shipments']} shipments"
        return {0: "not shipped", 1: "shipped once"}.get(state["shipments"], f"shipped {state['shipments']} times")


def answers_to(callbacks):
    """``["Paying 200", "Paid 200 ×3"]``: callbacks in the order in which they were sent, equal neighbours as one.

    Of those that nobody answered the first of each word: how many there are depends on how long the shop was away.
    """
    answers, unanswered = [], set()
    for (word, status), group in groupby(callbacks, key=lambda sent: (sent["status_word"], sent["http_status"])):
        count = len(list(group))
        if status is not None:
            answers.append(f"{word} {status}" + (f" ×{count}" if count > 1 else ""))
        elif word not in unanswered:
            unanswered.add(word)
            answers.append(f"{word} no answer")
    return answers


def status_of(invoice):
    """The status with its flags, and with the sum where one came that is not simply the price."""
    words = [invoice["status"]]
    words += [word for word, flag in (("late", "late"), ("by hand", "manual"), ("to review", "needs_review")) if invoice[flag]]
    if invoice["amount_received"] not in (None, "0", invoice["amount"]):
        words.append(f"{invoice['amount_received']} of {invoice['amount']} {invoice['currency']}")
    return ", ".join(words)
