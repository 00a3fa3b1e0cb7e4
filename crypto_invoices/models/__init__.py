"""The rows. ``ledger`` is the only writer of what a payment's state depends on; ``save()`` never touches those fields."""

from .base import cascade, new_reference
from .payments import Invoice, PaymentAttempt, StaticAddress
from .records import CallbackReceipt, EventDelivery, InvoiceEvent, Transfer

__all__ = [
    "CallbackReceipt",
    "EventDelivery",
    "Invoice",
    "InvoiceEvent",
    "PaymentAttempt",
    "StaticAddress",
    "Transfer",
    "cascade",
    "new_reference",
]
