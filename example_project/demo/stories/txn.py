"""txn.io takes one payment for an invoice, in the coin that the customer chose in the shop, and listens for a week.

It calls one URL for the whole account, also when an invoice is made. How it signs is not published, so a callback is only a
reason to ask. What is priced in USDT and paid in USDT can be compared.
"""

import time

from ..processes import wait_until
from ..table import Facts, NotOffered
from .base import ASKED, FORGED, KILLED, LATE, LOST, NEVER, PAID, SECOND_ATTEMPT, THREE_TIMES, TOO_MUCH
from .unsigned import UnsignedStory

RELEASED = "on hold, then released"
REJECTED = "on hold, then rejected"
REFUND_LINK = "short, sent back by a refund link"

PROMISED = {
    PAID: Facts("pending 200, processing 200, completed 200", "paid", "created, payment_received, paid", "shipped once"),
    SECOND_ATTEMPT: Facts(
        "pending 200, processing 200, completed 200, pending 200, processing 200, completed 200, admin's attempt 302",
        "underpaid, 40 of 79 USDT → paid",
        "created, payment_received, underpaid, payment_received, paid",
        "not shipped → shipped once",
    ),
    TOO_MUCH: Facts(
        "pending 200, processing 200, completed 200",
        "overpaid, 86.9 of 79 USDT",
        "created, payment_received, paid, overpaid",
        "shipped once",
    ),
    NEVER: Facts("pending 200, expired 200", "expired", "created, expired", "not shipped"),
    LATE: Facts(
        "pending 200, expired 200, processing 200, completed 200, admin's accept 302",
        "expired → paid, late, to review → paid, late, by hand",
        "created, expired, payment_received, paid_late, review_required, paid",
        "not shipped → shipped once",
    ),
    RELEASED: Facts(
        "pending 200, processing 200, on_hold 200, completed 200",
        "confirming → confirming, to review → paid, to review",
        "created, payment_received, confirming, review_required, paid",
        "not shipped → shipped once",
    ),
    REJECTED: Facts(
        "pending 200, processing 200, on_hold 200, rejected 200",
        "confirming → confirming, to review → failed, to review",
        "created, payment_received, confirming, review_required, failed, review_required",
        "not shipped",
    ),
    REFUND_LINK: Facts(
        "pending 200, processing 200, cancelled 200",
        "confirming → refunding, to review",
        "created, payment_received, confirming, refunding, review_required",
        "not shipped",
    ),
    THREE_TIMES: Facts(
        "pending 200, completed 200 ×3, processing 200 ×3", "paid", "created, payment_received, paid", "shipped once"
    ),
    LOST: Facts("pending 200", "pending → paid", "created, payment_received, paid", "not shipped → shipped once"),
    FORGED: Facts("pending 200, forged completed 200, no JSON 200, unknown token 404", "pending", "created", "not shipped"),
    ASKED: Facts(
        "pending 200, forged cancelled 200", "pending → paid", "created, payment_received, paid", "not shipped → shipped once"
    ),
    KILLED: Facts(
        "pending 200, processing no answer, completed no answer, processing 200, completed 200, killed by SIGKILL",
        "paid",
        "created, payment_received, paid",
        "not shipped → shipped once",
    ),
}

DOCS = "https://docs.txn.io"
NOT_OFFERED = (
    NotOffered("short, then topped up", "https://help.txn.io/en/articles/13350514-invoices: a single payment for an invoice"),
    NotOffered("cancelled at the gateway", f"{DOCS}/invoices has no such call; an unpaid invoice ends after 168 hours"),
    NotOffered(
        "refunded through the API", "https://docs.txn.pro/invoices/invoice-refunds: a policy that the vendor's support sets"
    ),
    NotOffered("a signature that is wrong", f"{DOCS}/api-basics/webhooks: there is a secret, but no page says how it signs"),
)


class Txn(UnsignedStory):
    title = "txn.io"
    gateway = "txn"
    way = "txn-usdt"
    return_field = "successRedirectUrl"
    promised = PROMISED
    not_offered = NOT_OFFERED
    product = "teapot"
    paid = "completed"
    cancelled = "cancelled"
    callbacks = 2

    def begin(self):
        self.case(LOST, self.pay_unseen)

    def tell(self):
        self.case(PAID, self.pay)
        self.case(SECOND_ATTEMPT, self.pay_part_and_the_rest, "hardware-wallet")
        self.case(TOO_MUCH, self.pay_too_much, "hardware-wallet")
        self.case(NEVER, self.run_out)
        self.case(LATE, self.pay_late)
        self.case(RELEASED, self.hold_and_release)
        self.case(REJECTED, self.hold_and_reject)
        self.case(REFUND_LINK, self.send_back)
        self.case(THREE_TIMES, self.pay_with_disorder)
        self.case(FORGED, self.forge)
        self.case(ASKED, self.pay_and_forge)

    def end(self):
        self.go_on(KILLED, self.is_paid)
        self.go_on(LOST, self.is_paid)

    # The callback of a new invoice is sent while the shop still takes in the answer to its call. When it is faster, it is
    # answered with 404 and sent again, so it is held back a moment here: a row must not depend on who is faster.

    def case(self, name, step, product=""):
        self.hold_first_callback_back()
        super().case(name, step, product)

    def pay_the_rest(self, order, amount):
        self.hold_first_callback_back()
        super().pay_the_rest(order, amount)

    def hold_first_callback_back(self):
        self.simulator.misbehave(self.gateway, "callback_delay", "0.5", count=1)

    def opened(self, order):
        wait_until(lambda: order.payment["callbacks"], "the callback of the new invoice")

    # Steps

    def kill_the_shop(self, order):
        time.sleep(11)  # the shop asks at once for one callback in ten seconds, and the first was the new invoice's
        super().kill_the_shop(order)

    def pay_part_and_the_rest(self, order):
        order.act("pay_part", amount="40")
        order.wait_for("underpaid")
        self.pay_the_rest(order, "")  # 39: what came can be compared

    def pay_late(self, order):
        self.run_out(order)
        order.remember()
        order.act("pay")
        order.wait_for("paid")
        order.remember()
        self.press("accept", order, "The money came a little late.")
        order.wait_for("paid", shipments=1)

    def hold(self, order):
        self.simulator.misbehave(self.gateway, "confirm_by_hand", count=1)
        order.act("pay")
        order.wait_for("confirming")
        order.remember()
        order.act("hold")
        wait_until(lambda: order.state["invoice"]["needs_review"], "the review that a hold asks for")
        order.remember()
        order.act("confirm")

    def hold_and_release(self, order):
        self.hold(order)
        order.act("release")
        order.wait_for("paid", shipments=1)

    def hold_and_reject(self, order):
        self.hold(order)
        order.act("reject")
        order.wait_for("failed")

    def send_back(self, order):
        self.simulator.misbehave(self.gateway, "confirm_by_hand", count=1)
        order.act("pay_part")
        order.wait_for("confirming")
        order.remember()
        order.act("refund_link")
        order.wait_for("refunding")

    def body_of(self, payment, word):
        attributes = {"status": word, "paymentStatus": "onTime", "statusContext": "full", "reference": payment["reference"]}
        return {"data": {"id": payment["id"], "type": "invoices", "attributes": attributes}, "included": [], "meta": {}}
