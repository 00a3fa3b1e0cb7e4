"""OxaPay calls back on paying and paid only; everything else is found by polling.

Amounts in USD cannot be compared with the coins that pay them, so paying too much is shown with what is priced in USDT.
"""

import hashlib
import hmac
import json
import time
from datetime import datetime

from ..processes import wait_until
from ..table import Facts, NotOffered
from .base import FORGED, KILLED, LATE, PAID, POLLED, THREE_TIMES, TOO_MUCH, TOPPED_UP, Story, other_token

SHORT = "short until expiry, found by polling"
BY_HAND = "accepted by hand at the gateway, found by polling"
REFUNDED = "refunded at the gateway, found by polling"
UNPAID = "never paid, found by polling"

PROMISED = {
    PAID: Facts("Paying 200, Paid 200", "paid", "created, payment_received, confirming, paid", "shipped once"),
    TOPPED_UP: Facts(
        "Paying 200, Paid 200",
        "confirming → paid",
        "created, payment_received, confirming, payment_received, paid",
        "not shipped → shipped once",
    ),
    SHORT: Facts("Paying 200", "confirming → underpaid", "created, payment_received, confirming, underpaid", "not shipped"),
    TOO_MUCH: Facts(
        "Paying 200, Paid 200",
        "overpaid, 86.9 of 79 USDT",
        "created, payment_received, confirming, payment_received, paid, overpaid",
        "shipped once",
    ),
    LATE: Facts(
        "admin's accept 302",
        "pending → expired, late, to review → paid, late, by hand",
        "created, payment_received, expired, review_required, paid",
        "not shipped → shipped once",
    ),
    BY_HAND: Facts(
        "Paying 200",
        "confirming → paid, by hand",
        "created, payment_received, confirming, paid",
        "not shipped → shipped once",
    ),
    THREE_TIMES: Facts("Paid 200 ×3, Paying 200 ×3", "paid", "created, payment_received, paid", "shipped once"),
    FORGED: Facts(
        "wrong key 403, no signature 403, changed byte 403, unknown token 404, genuine 200", "pending", "created", "not shipped"
    ),
    KILLED: Facts(
        "Paying 200, Paid no answer, Paid 200, killed by SIGKILL",
        "paid",
        "created, payment_received, confirming, paid",
        "not shipped → shipped once",
    ),
    REFUNDED: Facts(
        "Paying 200, Paid 200, admin's refresh 302",
        "paid → refunding → refunded",
        "created, payment_received, confirming, paid, refunding, refunded",
        "shipped once",
    ),
    UNPAID: Facts("no callback", "pending → expired", "created, expired", "not shipped"),
}

API = "https://docs.oxapay.com/api-reference"
NOT_OFFERED = (
    NotOffered("cancelled at the gateway", f"{API} has no such call; an unpaid invoice can only run out"),
    NotOffered("refunded through the API", f"{API} has no such call; a refund begins in the merchant's panel"),
    NotOffered("a second payment", f"{API} does not say what happens to money that comes after the status paid"),
    NotOffered("a callback on expiry or refund", "https://docs.oxapay.com/webhook: sent on paying and paid; the rest is polled"),
)


class OxaPay(Story):
    title = "OxaPay"
    gateway = "oxapay"
    way = "oxapay"
    return_field = "return_url"
    promised = PROMISED
    not_offered = NOT_OFFERED

    def begin(self):
        self.case(UNPAID, self.run_out_unseen)
        self.case(SHORT, self.pay_half_and_run_out)
        self.case(LATE, self.run_out_and_pay, "teapot")
        self.case(BY_HAND, self.pay_half_and_be_accepted, "notebook")
        self.case(REFUNDED, self.pay_and_take_back, "teapot")

    def tell(self):
        self.case(PAID, self.pay, "notebook")
        self.case(TOPPED_UP, self.top_up)
        self.case(TOO_MUCH, self.pay_too_much, "hardware-wallet")
        self.case(THREE_TIMES, self.pay_with_disorder, "notebook")
        self.case(FORGED, self.forge, "hardware-wallet")

    def end(self):
        self.go_on(KILLED, self.is_paid)
        self.go_on(UNPAID, lambda order: order.wait_for("expired", seconds=POLLED))
        self.go_on(SHORT, lambda order: order.wait_for("underpaid", seconds=POLLED))
        self.go_on(BY_HAND, self.is_paid)
        self.go_on(LATE, self.accept)
        self.go_on(REFUNDED, self.finish_refund)

    # Found by polling

    def run_out_unseen(self, order):
        order.act("expire")
        order.remember()

    def pay_half_and_run_out(self, order):
        order.act("pay_part", currency="USDT")
        order.wait_for("confirming")
        self.run_out_unseen(order)

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

    # Told by callbacks

    def top_up(self, order):
        order.act("pay_part", currency="USDT")
        order.wait_for("confirming")
        order.remember()
        order.act("pay")
        order.wait_for("paid", shipments=1)

    def forgeries(self, payment):
        """The last is genuine and says nothing new: it shows that nothing but the forgery was refused before."""
        url, key = payment["callback_url"], self.demo.keys["oxapay"]
        paid, waiting = body_of(payment, "Paid"), body_of(payment, "Waiting")
        return {
            "wrong key": (url, paid, signature(paid, key[::-1])),
            "no signature": (url, paid, {}),
            "changed byte": (url, paid.replace(b"Paid", b"paid"), signature(paid, key)),
            "unknown token": (other_token(url), paid, signature(paid, key)),
            "genuine": (url, waiting, signature(waiting, key)),
        }


def body_of(payment, word):
    fields = {"track_id": payment["id"], "status": word, "type": payment["kind"], "order_id": payment["reference"], "txs": []}
    return json.dumps(fields).encode()


def signature(body, key):
    """HMAC-SHA512 of the raw body, keyed with the merchant's API key: https://docs.oxapay.com/webhook"""
    return {"HMAC": hmac.new(key.encode(), body, hashlib.sha512).hexdigest()}
