"""A payment as a gateway knows it: what a subclass turns into the gateway's own answers and callbacks."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from ..providers.base import Kind

__all__ = ["Payment"]


@dataclass(frozen=True, kw_only=True)
class Payment:
    """``amount`` and ``received`` are in ``currency``, the price's. Times are aware UTC in whole seconds.

    ``received`` is all that came so far, spread evenly over ``tx_hashes``; ``confirmed`` whether the network has
    confirmed it; ``paid_at`` when it was sent. ``address`` and ``address_tag`` are told for ``Kind.ADDRESS`` and
    ``Kind.STATIC_ADDRESS``, ``payment_url`` for ``Kind.INVOICE``.
    """

    reference: str  # ours
    gateway_id: str
    word: str  # the gateway's status word, a key of ``words``
    amount: Decimal
    currency: str
    expires_at: datetime
    paid_at: datetime
    kind: Kind = Kind.INVOICE
    received: Decimal = Decimal(0)
    tx_hashes: tuple[str, ...] = ()
    confirmed: bool = False
    payment_url: str = ""
    address: str = ""
    address_tag: str = ""

    @property
    def parts(self):
        """Pairs of tx hash and its part of ``received``."""
        return [(tx_hash, self.received / len(self.tx_hashes)) for tx_hash in self.tx_hashes]
