"""The signals of a payment. They are ordinary Django signals; what is durable is their delivery.

Receivers get ``sender=Invoice`` and the keywords ``invoice``, ``attempt`` (or None), ``event_id``, ``old_status`` and
``new_status``. A receiver's effects in the same database happen exactly once. Effects outside of it happen at least
once: use ``event_id``, a text that is the same on every delivery, as the idempotency key there.

``deposit_received`` comes with ``sender=StaticAddress`` and the keywords ``static_address``, ``transfer`` and ``event_id``.

``callback_rejected`` alone is a plain signal: it is sent in memory, with ``account`` and ``reason``.
"""

import inspect
import weakref
from dataclasses import dataclass
from typing import Any

from asgiref.sync import async_to_sync
from django.dispatch import Signal

__all__ = [
    "DURABLE",
    "DurableSignal",
    "callback_rejected",
    "deposit_received",
    "invoice_cancelled",
    "invoice_confirming",
    "invoice_created",
    "invoice_expired",
    "invoice_failed",
    "invoice_overpaid",
    "invoice_paid",
    "invoice_paid_late",
    "invoice_refunded",
    "invoice_refunding",
    "invoice_reversed",
    "invoice_review_required",
    "invoice_status_changed",
    "invoice_underpaid",
    "payment_received",
]


ANY = object()


@dataclass(frozen=True, slots=True)
class Connection:
    """One connected receiver. ``key`` names it in the database, so it must stay the same over restarts and releases."""

    key: str
    reference: Any  # returns the receiver, or None once it is gone
    sender: Any
    atomic: bool

    def call(self, signal, sender, **kwargs):
        receiver = self.reference()
        if inspect.iscoroutinefunction(receiver):
            receiver = async_to_sync(receiver)
        return receiver(signal=signal, sender=sender, **kwargs)


class DurableSignal(Signal):
    """A signal whose receivers are called from the event rows in the database, after commit, until each is done."""

    def __init__(self, name):
        super().__init__()
        self.name = name
        self._connections = {}

    def connect(self, receiver, sender=None, weak=True, dispatch_uid=None, atomic=True):
        """As Django's, with one more argument.

        With ``atomic=False`` the receiver runs outside of a transaction, for slow calls to other services: it is then
        called at least once rather than exactly once. The receiver is remembered under ``dispatch_uid``, else under
        ``module.qualname``: a lambda or a local function needs a ``dispatch_uid`` (check W020).
        """
        super().connect(receiver, sender=sender, weak=weak, dispatch_uid=dispatch_uid)
        self._connections[_lookup(receiver, sender, dispatch_uid)] = Connection(
            key=str(dispatch_uid) if dispatch_uid is not None else _qualified_name(receiver),
            reference=_reference(receiver) if weak else lambda: receiver,
            sender=sender,
            atomic=atomic,
        )

    def disconnect(self, receiver=None, sender=None, dispatch_uid=None):
        self._connections.pop(_lookup(receiver, sender, dispatch_uid), None)
        return super().disconnect(receiver=receiver, sender=sender, dispatch_uid=dispatch_uid)

    def connections(self, sender=ANY):
        """The live connections for ``sender``, or all of them, in the order in which they were made."""
        return [
            connection
            for connection in self._connections.values()
            if (sender is ANY or connection.sender in (None, sender)) and connection.reference() is not None
        ]


def _lookup(receiver, sender, dispatch_uid):
    return (dispatch_uid if dispatch_uid is not None else _identity(receiver), _identity(sender))


def _identity(target):
    return (id(target.__self__), id(target.__func__)) if hasattr(target, "__func__") else id(target)


def _reference(receiver):
    return (
        weakref.WeakMethod(receiver) if hasattr(receiver, "__self__") and hasattr(receiver, "__func__") else weakref.ref(receiver)
    )


def _qualified_name(receiver):
    named = receiver if hasattr(receiver, "__qualname__") else type(receiver)
    return f"{named.__module__}.{named.__qualname__}"


invoice_created = DurableSignal("invoice_created")
invoice_status_changed = DurableSignal("invoice_status_changed")
payment_received = DurableSignal("payment_received")
invoice_confirming = DurableSignal("invoice_confirming")
invoice_underpaid = DurableSignal("invoice_underpaid")
invoice_paid = DurableSignal("invoice_paid")
invoice_overpaid = DurableSignal("invoice_overpaid")
invoice_paid_late = DurableSignal("invoice_paid_late")
invoice_expired = DurableSignal("invoice_expired")
invoice_cancelled = DurableSignal("invoice_cancelled")
invoice_failed = DurableSignal("invoice_failed")
invoice_refunding = DurableSignal("invoice_refunding")
invoice_refunded = DurableSignal("invoice_refunded")
invoice_reversed = DurableSignal("invoice_reversed")
invoice_review_required = DurableSignal("invoice_review_required")
deposit_received = DurableSignal("deposit_received")

callback_rejected = Signal()

# By name, in the order in which the signals of one event are delivered.
DURABLE = {signal.name: signal for signal in list(globals().values()) if isinstance(signal, DurableSignal)}
