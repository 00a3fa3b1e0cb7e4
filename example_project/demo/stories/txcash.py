"""tx.cash calls back on every change and every payment, unsigned. What arrives later adds up, even after the deadline."""

from ..table import Facts, NotOffered
from .base import ASKED, FORGED, KILLED, LOST, NEVER, PAID, THREE_TIMES, TOO_MUCH, TOPPED_UP
from .unsigned import UnsignedStory

CANCELLED = "cancelled by the payer"

PROMISED = {
    PAID: Facts("pending 200, paid 200", "paid", "created, payment_received, paid", "shipped once"),
    TOPPED_UP: Facts(
        "pending 200, under paid 200 ×2, paid 200",
        "underpaid → paid",
        "created, payment_received, underpaid, payment_received, paid",
        "not shipped → shipped once",
    ),
    TOO_MUCH: Facts("pending 200, overpaid 200", "overpaid", "created, payment_received, paid, overpaid", "shipped once"),
    NEVER: Facts("expired 200", "expired", "created, expired", "not shipped"),
    CANCELLED: Facts("cancelled 200", "cancelled", "created, cancelled", "not shipped"),
    THREE_TIMES: Facts("paid 200 ×3, pending 200 ×3", "paid", "created, payment_received, paid", "shipped once"),
    LOST: Facts("no callback", "pending → paid", "created, payment_received, paid", "not shipped → shipped once"),
    FORGED: Facts("forged paid 200, no JSON 200, unknown token 404", "pending", "created", "not shipped"),
    ASKED: Facts("forged cancelled 200", "pending → paid", "created, payment_received, paid", "not shipped → shipped once"),
    KILLED: Facts(
        "pending no answer, paid no answer, pending 200, paid 200, killed by SIGKILL",
        "paid",
        "created, payment_received, paid",
        "not shipped → shipped once",
    ),
}

DOCS = "https://docs.tx.cash/invoice"
NOT_OFFERED = (
    NotOffered("cancelled by staff at the gateway", f"{DOCS} has no such call"),
    NotOffered("a refund", f"{DOCS} has neither such a call nor such a status"),
    NotOffered(
        "money after expiry",
        f"{DOCS}/callback-handler-example-and-information: it is told of, but not what becomes of the status expired",
    ),
)


class TxCash(UnsignedStory):
    title = "tx.cash"
    gateway = "txcash"
    way = "txcash"
    return_field = "success_url"
    promised = PROMISED
    not_offered = NOT_OFFERED
    paid = "paid"
    cancelled = "cancelled"
    callbacks = 2

    def begin(self):
        self.case(LOST, self.pay_unseen)

    def tell(self):
        self.case(PAID, self.pay)
        self.case(TOPPED_UP, self.top_up)
        self.case(TOO_MUCH, self.pay_too_much)
        self.case(NEVER, self.run_out)
        self.case(CANCELLED, self.cancel)
        self.case(THREE_TIMES, self.pay_with_disorder)
        self.case(FORGED, self.forge)
        self.case(ASKED, self.pay_and_forge)

    def end(self):
        self.go_on(KILLED, self.is_paid)
        self.go_on(LOST, self.is_paid)

    def top_up(self, order):
        order.act("pay_part", currency="USDT")
        order.wait_for("underpaid")
        order.remember()
        self.pay(order)

    def cancel(self, order):
        order.act("cancel")
        order.wait_for("cancelled")

    def body_of(self, payment, word):
        codes = {"paid": 1, "cancelled": 5}
        return {"id": payment["id"], "status": word, "status_code": codes[word], "meta_data1": payment["reference"]}
