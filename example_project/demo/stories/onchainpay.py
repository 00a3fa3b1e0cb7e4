"""OnchainPay signs its callbacks, one for each change and each transaction. Even a payment that is over may still grow.

It tells the worth of what came in the price's currency, so that short payments show their sum. Its ``expiresAt`` ends the
choice of a coin only, so money that comes within the hours after it is not late.
"""

import hashlib
import hmac
import json

from ..processes import wait_until
from ..table import Facts, NotOffered
from .base import FORGED, KILLED, LOST, NEVER, PAID, THREE_TIMES, TOO_MUCH, TOPPED_UP, Story, other_token

SHORT = "short until expiry, accepted by hand"
AFTER_EXPIRY = "expired, and the gateway takes the money that comes after"
MORE = "more money after it was paid"
REJECTED = "rejected by the gateway"
ERROR = "a technical failure"

PROMISED = {
    PAID: Facts("INIT 200, PENDING 200, PROCESSED 200", "paid", "created, payment_received, paid", "shipped once"),
    TOPPED_UP: Facts(
        "INIT 200, PENDING 200 ×2, PROCESSED 200",
        "pending → paid",
        "created, payment_received, confirming, payment_received, paid",
        "not shipped → shipped once",
    ),
    SHORT: Facts(
        "INIT 200, PENDING 200, PARTIAL 200, admin's accept 302",
        "underpaid, 12.45 of 24.9 USD → paid, by hand, 12.45 of 24.9 USD",
        "created, payment_received, underpaid, paid",
        "not shipped → shipped once",
    ),
    TOO_MUCH: Facts(
        "INIT 200, PENDING 200, OVERPAID 200",
        "overpaid, 27.39 of 24.9 USD",
        "created, payment_received, paid, overpaid",
        "shipped once",
    ),
    MORE: Facts(
        "INIT 200, PENDING 200, PROCESSED 200 ×2, OVERPAID 200",
        "paid → overpaid, 27.39 of 24.9 USD",
        "created, payment_received, paid, payment_received, overpaid",
        "shipped once",
    ),
    NEVER: Facts("EXPIRED 200", "expired", "created, expired", "not shipped"),
    AFTER_EXPIRY: Facts(
        "INIT 200, EXPIRED 200 ×2, PROCESSED 200",
        "expired → paid",
        "created, expired, payment_received, paid",
        "not shipped → shipped once",
    ),
    REJECTED: Facts("REJECTED 200", "failed, to review", "created, failed, review_required", "not shipped"),
    ERROR: Facts("ERROR 200", "failed, to review", "created, failed, review_required", "not shipped"),
    THREE_TIMES: Facts(
        "PROCESSED 200 ×3, PENDING 200 ×3, INIT 200 ×3", "paid", "created, payment_received, paid", "shipped once"
    ),
    LOST: Facts("no callback", "pending → paid", "created, payment_received, paid", "not shipped → shipped once"),
    FORGED: Facts(
        "wrong key 403, no signature 403, changed byte 403, unknown token 404, genuine 200", "pending", "created", "not shipped"
    ),
    KILLED: Facts(
        "INIT 200, PENDING 200, PROCESSED no answer, PROCESSED 200, killed by SIGKILL",
        "paid",
        "created, payment_received, paid",
        "not shipped → shipped once",
    ),
}

API = "https://docs.onchainpay.io/api-reference"
NOT_OFFERED = (
    NotOffered("cancelled at the gateway", f"{API}/07invoices has no such call"),
    NotOffered("a refund", f"{API} has no such call and no such status; money goes back by a withdrawal"),
)


class OnchainPay(Story):
    title = "OnchainPay"
    gateway = "onchainpay"
    way = "onchainpay"
    return_field = "returnURL"
    promised = PROMISED
    not_offered = NOT_OFFERED
    callbacks = 3

    def begin(self):
        self.case(LOST, self.pay_unseen)

    def tell(self):
        self.case(PAID, self.pay)
        self.case(TOPPED_UP, self.top_up)
        self.case(SHORT, self.pay_half_and_be_accepted)
        self.case(TOO_MUCH, self.pay_too_much)
        self.case(MORE, self.pay_and_pay_more)
        self.case(NEVER, self.run_out)
        self.case(AFTER_EXPIRY, self.pay_after_expiry)
        self.case(REJECTED, lambda order: self.fail(order, "reject"))
        self.case(ERROR, lambda order: self.fail(order, "fail"))
        self.case(THREE_TIMES, self.pay_with_disorder)
        self.case(FORGED, self.forge)

    def end(self):
        self.go_on(KILLED, self.is_paid)
        self.go_on(LOST, self.is_paid)

    def pay_half(self, order):
        """The callback tells of the transfer before it counts as received."""
        order.act("pay_part", currency="USDT")
        wait_until(lambda: len(order.callbacks) == 2, "INIT and PENDING")

    def top_up(self, order):
        self.pay_half(order)
        order.remember()
        self.pay(order)

    def pay_half_and_be_accepted(self, order):
        self.pay_half(order)
        order.act("expire")
        order.wait_for("underpaid")
        order.remember()
        self.press("accept", order, "A regular customer; the rest is forgiven.")
        order.wait_for("paid", shipments=1)

    def pay_and_pay_more(self, order):
        self.pay(order)
        order.remember()
        order.act("pay_more", currency="USDT", amount="2.49")
        order.wait_for("overpaid", shipments=1)

    def pay_after_expiry(self, order):
        """Within the twelve hours that an order may be paid for after its invoice's ``expiresAt``."""
        order.act("choose", currency="USDT")
        self.run_out(order)
        order.remember()
        self.pay(order)

    def fail(self, order, action):
        order.act(action)
        order.wait_for("failed")

    def forgeries(self, payment):
        """The last is genuine and says nothing new: it shows that nothing but the forgery was refused before."""
        url, key = payment["callback_url"], self.demo.keys["onchainpay_secret"]
        paid, created = body_of(payment, "PROCESSED"), body_of(payment, "CREATED")
        return {
            "wrong key": (url, paid, signature(paid, key[::-1])),
            "no signature": (url, paid, {}),
            "changed byte": (url, paid.replace(b"PROCESSED", b"OVERPAID."), signature(paid, key)),
            "unknown token": (other_token(url), paid, signature(paid, key)),
            "genuine": (url, created, signature(created, key)),
        }


def body_of(payment, word):
    fields = {"id": payment["id"], "externalId": payment["reference"], "status": word}
    return json.dumps(fields | {"amount": payment["amount"], "currency": payment["currency"]}).encode()


def signature(body, key):
    """HMAC-SHA256 of the raw body, keyed with the secret's text: https://docs.onchainpay.io/signature"""
    return {"x-api-signature": hmac.new(key.encode(), body, hashlib.sha256).hexdigest()}
