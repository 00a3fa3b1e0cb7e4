"""The staff's pages. They show everything and write nothing: what staff do goes through ``services`` and ``callbacks``."""

from .addresses import StaticAddressAdmin
from .base import ReadOnlyAdmin, Step, StepsAdmin
from .invoices import InvoiceAdmin
from .records import CallbackReceiptAdmin, EventDeliveryAdmin, InvoiceEventAdmin

__all__ = [
    "CallbackReceiptAdmin",
    "EventDeliveryAdmin",
    "InvoiceAdmin",
    "InvoiceEventAdmin",
    "ReadOnlyAdmin",
    "StaticAddressAdmin",
    "Step",
    "StepsAdmin",
]
