"""What is promised of each case, in the words and the order of the table. ``invoice_`` is left out of the signals' names."""

from .table import Facts, NotOffered

PAID = "paid"
TOPPED_UP = "short, then topped up in time"
SHORT = "short until expiry, found by polling"
TOO_MUCH = "paid too much"
LATE = "expired with money, accepted by hand"
BY_HAND = "accepted by hand at the gateway, found by polling"
THREE_TIMES = "every callback three times and out of order"
FORGED = "forged callbacks change nothing"
KILLED = "shop killed between commit and signal"
REFUNDED = "refunded at the gateway, found by polling"
NEVER = "never paid, found by polling"

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
    NEVER: Facts("no callback", "pending → expired", "created, expired", "not shipped"),
}

# Where OxaPay has no such thing, nothing is shown rather than something made up.
API = "https://docs.oxapay.com/api-reference"
NOT_OFFERED = (
    NotOffered("cancelled at the gateway", f"{API} has no such call; an unpaid invoice can only run out"),
    NotOffered("refunded through the API", f"{API} has no such call; a refund begins in the merchant's panel"),
    NotOffered("a second payment", f"{API} does not say what happens to money that comes after the status paid"),
    NotOffered("a callback on expiry or refund", "https://docs.oxapay.com/webhook: sent on paying and paid; the rest is polled"),
)
