"""goodPayments closes an invoice with the first transfer. Its webhooks are not signed, and it sends none for a cancel.

What came in is told in tokens, which cannot be compared with the price in USD: staff say how much is still due.
"""

from decimal import Decimal

from ..table import Facts, NotOffered
from .base import ASKED, FORGED, KILLED, NEVER, PAID, POLLED, SECOND_ATTEMPT, TOO_MUCH
from .unsigned import UnsignedStory

THREE_TIMES = "its callback three times"
CANCELLED = "cancelled by staff, and the gateway was told"
CANCELLED_THERE = "cancelled in its dashboard, found by polling"
AML = "the AML check failed"
ERROR = "a technical failure"

PROMISED = {
    PAID: Facts("COMPLETED 200", "paid", "created, paid", "shipped once"),
    SECOND_ATTEMPT: Facts(
        "UNDERPAID 200, COMPLETED 200, admin's attempt 302",
        "underpaid → paid",
        "created, underpaid, paid",
        "not shipped → shipped once",
    ),
    TOO_MUCH: Facts("OVERPAID 200", "overpaid", "created, paid, overpaid", "shipped once"),
    NEVER: Facts("TIMEOUT 200", "expired", "created, expired", "not shipped"),
    THREE_TIMES: Facts("COMPLETED 200 ×3", "paid", "created, paid", "shipped once"),
    FORGED: Facts("forged COMPLETED 200, no JSON 200, unknown token 404", "pending", "created", "not shipped"),
    ASKED: Facts("forged CANCELED 200", "pending → paid", "created, paid", "not shipped → shipped once"),
    KILLED: Facts(
        "COMPLETED no answer, COMPLETED 200, killed by SIGKILL",
        "paid",
        "created, paid",
        "not shipped → shipped once",
    ),
    CANCELLED: Facts("admin's cancel 302, there CANCELED", "cancelled", "created, cancelled", "not shipped"),
    CANCELLED_THERE: Facts("no callback", "pending → cancelled", "created, cancelled", "not shipped"),
    AML: Facts("AML_FAILED 200", "failed, to review", "created, failed, review_required", "not shipped"),
    ERROR: Facts("ERROR 200", "failed, to review", "created, failed, review_required", "not shipped"),
}

DOCS = "https://goodpayments.gitbook.io/docs"
NOT_OFFERED = (
    NotOffered("short, then topped up", f"{DOCS}/user-guide/overpayment-and-underpayment: the first transfer closes the invoice"),
    NotOffered(
        "money after expiry", f"{DOCS}/general-info/terms-and-definitions: a closed temporary address is no longer monitored"
    ),
    NotOffered("callbacks out of order", f"{DOCS}/api-reference/webhooks: an invoice gets one, on its end"),
    NotOffered("a refund", f"{DOCS}/user-guide/overpayment-and-underpayment: left to merchant and payer"),
)


class GoodPayments(UnsignedStory):
    title = "goodPayments"
    gateway = "goodpayments"
    way = "goodpayments"
    return_field = "redirect_url"
    promised = PROMISED
    not_offered = NOT_OFFERED
    paid = "COMPLETED"
    cancelled = "CANCELED"
    callbacks = 1

    def begin(self):
        self.case(CANCELLED_THERE, self.cancel_there)

    def tell(self):
        self.case(PAID, self.pay)
        self.case(SECOND_ATTEMPT, self.pay_half_and_the_rest)
        self.case(TOO_MUCH, self.pay_too_much)
        self.case(NEVER, self.run_out)
        self.case(THREE_TIMES, self.pay_with_disorder)
        self.case(FORGED, self.forge)
        self.case(ASKED, self.pay_and_forge)
        self.case(CANCELLED, self.cancel)
        self.case(AML, lambda order: self.fail(order, "aml"))
        self.case(ERROR, lambda order: self.fail(order, "fail"))

    def end(self):
        self.go_on(KILLED, self.is_paid)
        self.go_on(CANCELLED_THERE, lambda order: order.wait_for("cancelled", seconds=POLLED))

    def cancel_there(self, order):
        order.act("cancel")
        order.remember()

    def pay_half_and_the_rest(self, order):
        order.act("pay_part", currency="USDT", amount="10")
        order.wait_for("underpaid")
        self.pay_the_rest(order, Decimal("14.90"))

    def cancel(self, order):
        self.press("cancel", order, "Out of stock.")
        order.beside.append(f"there {order.payment['status']}")

    def fail(self, order, action):
        order.act(action)
        order.wait_for("failed")

    def body_of(self, payment, word):
        return {"id": int(payment["id"]), "status": word, "type": "SINGLE", "order_id": payment["reference"]}
