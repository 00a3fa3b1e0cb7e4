"""An order as it can be seen from outside: the shop's pages and ``status.json``, the simulator's control API."""

from itertools import groupby

from .processes import DemoError, wait_until
from .table import Facts

GATEWAY = "oxapay"


class Order:
    """One purchase of one customer. ``beside`` are HTTP answers other than those to the gateway's callbacks."""

    def __init__(self, case, browser, simulator, page):
        self.case = case
        self.browser = browser
        self.simulator = simulator
        self.payment_id = page.url.rstrip("/").rpartition("/")[2]
        by_way_of = [answer.status_code for answer in page.history]
        if not page.url.startswith(f"{simulator.base_url}{GATEWAY}/pay/") or by_way_of != [302, 302]:
            raise DemoError(f"the checkout did not lead over the invoice's page to the gateway's, but to {page.url}")
        self.path = self.payment["data"]["return_url"].removeprefix(browser.site)  # where the gateway sends the payer back
        self.number = self.path.rstrip("/").rpartition("/")[2]
        self.beside = []
        self.earlier = []

    @property
    def payment(self):
        return self.simulator.payment(GATEWAY, self.payment_id)

    @property
    def state(self):
        return self.browser.get(f"{self.path}status.json").json()

    def act(self, action, **fields):
        """Presses a button at the gateway."""
        self.simulator.act(GATEWAY, self.payment_id, action, **fields)

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
        state, payment = self.state, self.payment
        answers = [*answers_to(payment["callbacks"]), *self.beside]
        signals = [name.removeprefix("invoice_") for name in state["signals"]]
        return Facts(", ".join(answers) or "no callback", status_of(state["invoice"]), ", ".join(signals), self._shipped(state))

    def _shipped(self, state):
        on_page = "Paid and shipped" in self.browser.get(self.path).text
        if not on_page == (state["status"] == "shipped") == bool(state["shipments"]):
            return f"the page and status.json disagree: {state['status']}, {state['shipments']} shipments"
        return {0: "not shipped", 1: "shipped once"}.get(state["shipments"], f"shipped {state['shipments']} times")


def answers_to(callbacks):
    """``["Paying 200", "Paid 200 ×3"]``: callbacks in the order in which they were sent, equal neighbours as one."""
    answers = []
    for (word, status), group in groupby(callbacks, key=lambda sent: (sent["status_word"], sent["http_status"])):
        count = len(list(group))
        if status is None:
            answers.append(f"{word} no answer")  # how often depends on how long the shop was away
        else:
            answers.append(f"{word} {status}" + (f" ×{count}" if count > 1 else ""))
    return answers


def status_of(invoice):
    """The status with its flags, and with the sum where that is not simply the price."""
    words = [invoice["status"]]
    words += [word for word, flag in (("late", "late"), ("by hand", "manual"), ("to review", "needs_review")) if invoice[flag]]
    if invoice["amount_received"] not in (None, invoice["amount"]):
        words.append(f"{invoice['amount_received']} of {invoice['amount']} {invoice['currency']}")
    return ", ".join(words)
