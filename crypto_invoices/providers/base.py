"""The contract between the package and a gateway: values in, values out.

A provider translates. It knows no model, no signal, no request and no response of Django's, so that it can be read,
tested and written by somebody who knows only the gateway.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar

from ..exceptions import InvalidRequest, NotSupported
from ..money import check_storable
from ..statuses import InvoiceStatus, Source
from .options import NoOptions, identity_of

_ID = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)

__all__ = [
    "Ack",
    "Capability",
    "CreateRequest",
    "Evidence",
    "Hint",
    "Kind",
    "Page",
    "Provider",
    "Remote",
    "RemoteInvoice",
    "RemoteTransfer",
    "StaticAddressRequest",
    "check_id",
]


class Capability(StrEnum):
    """What a gateway can do; a declared capability means that the method exists, and no declaration that it must not."""

    CANCEL = "cancel"  # cancel()
    LOOKUP_BY_REFERENCE = "lookup_by_reference"  # find()
    IDEMPOTENT_CREATE = "idempotent_create"  # the same reference never makes a second invoice
    SIGNED_CALLBACKS = "signed_callbacks"  # verify() yields Evidence
    OWN_PAGE = "own_page"  # create() with page="own"
    STATIC_ADDRESS = "static_address"  # create_static_address()
    REVOKE_STATIC_ADDRESS = "revoke_static_address"  # revoke_static_address()


class Kind(StrEnum):
    """What an attempt is at the gateway. A gateway has different calls for different kinds."""

    INVOICE = "invoice"  # a hosted page
    ADDRESS = "address"  # an address and an amount, for the shop's own page
    STATIC_ADDRESS = "static_address"


class Page(StrEnum):
    GATEWAY = "gateway"
    OWN = "own"


@dataclass(frozen=True, slots=True)
class Remote:
    """Which object at the gateway. ``gateway_id`` is "" until it is known; ``reference`` is ours.

    ``address`` and ``network`` (the gateway's name) are told for static addresses only.
    """

    kind: Kind
    gateway_id: str
    reference: str = ""
    address: str = ""
    network: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """The neutral order to make an invoice. None and "" mean: not said, the account's own setting holds."""

    reference: str  # ours, [A-Za-z0-9]{26}; goes into the gateway's only reference field
    amount: Decimal
    currency: str  # ISO 4217 or coin code
    callback_url: str
    order_id: str = ""  # the shop's; goes where staff can read it in the vendor's dashboard
    description: str = ""
    email: str = ""
    lifetime: timedelta | None = None
    pay_currencies: tuple[str, ...] = ()  # "USDT@tron", "TRX"
    underpaid_tolerance: Decimal | None = None  # percent
    fee_payer: str | None = None  # "merchant" or "payer"
    page: Page = Page.GATEWAY
    return_url: str = ""
    cancel_url: str = ""
    options: object = field(default_factory=NoOptions)  # an instance of the provider's create_options


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticAddressRequest:
    """The neutral order to make an address that takes any number of payments."""

    reference: str
    callback_url: str
    pay_currency: str  # "USDT@tron"
    customer: str = ""
    description: str = ""
    email: str = ""
    options: object = field(default_factory=NoOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteInvoice:
    """What a create call brought back. Texts are "" and values None where the gateway did not say."""

    gateway_id: str
    kind: Kind = Kind.INVOICE
    word: str = ""
    status: InvoiceStatus = InvoiceStatus.PENDING
    payment_url: str = ""
    address: str = ""
    address_tag: str = ""  # XRP tag or memo; without it a payment may be lost
    pay_amount: Decimal | None = None
    pay_currency: str = ""
    network: str = ""
    price_amount: Decimal | None = None  # what the gateway says it is billing
    price_currency: str = ""
    expires_at: datetime | None = None
    raw: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteTransfer:
    """One on-chain payment as the gateway reports it. ``key`` is stable over repeated reports; usually the tx hash."""

    key: str
    amount: Decimal | None  # in ``currency``
    currency: str
    tx_hash: str = ""
    network: str = ""
    address: str = ""
    sender: str = ""
    value: Decimal | None = None  # in the price currency, where it is comparable
    confirmations: int | None = None
    confirmed: bool = False
    explorer_url: str = ""
    paid_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What somebody says of a payment: the only thing that changes one. Unknown is None, never 0.

    ``word`` is the gateway's own and ``status`` ours, None for a word that we do not know; ``final`` tells whether the
    gateway calls the word final. ``price_amount`` and ``price_currency`` are what the gateway says it is billing,
    ``received`` and ``refunded`` sums in the price currency, ``tolerance`` the shortfall in percent that the gateway
    says it accepts. ``review`` is why a person has to look, whatever the status, and "" otherwise. ``totals`` are pairs of
    coin and amount: all that ever came to a static address, from a gateway that lists no transfers.
    """

    source: Source
    remote: Remote
    word: str
    status: InvoiceStatus | None
    final: bool = False
    price_amount: Decimal | None = None
    price_currency: str = ""
    received: Decimal | None = None
    refunded: Decimal | None = None
    tolerance: Decimal | None = None
    pay_amount: Decimal | None = None
    pay_currency: str = ""
    network: str = ""
    address: str = ""
    address_tag: str = ""
    transfers: tuple[RemoteTransfer, ...] = ()
    totals: tuple[tuple[str, Decimal], ...] = ()
    payment_url: str = ""
    expires_at: datetime | None = None
    paid_at: datetime | None = None
    observed_at: datetime | None = None  # our clock: when the poll's request started; None: now
    on_hold: bool = False
    manual: bool = False
    late: bool | None = None
    sandbox: bool | None = None
    review: str = ""
    raw: str = ""

    def __post_init__(self):
        for name in ("price_amount", "received", "refunded", "pay_amount"):
            if (value := getattr(self, name)) is not None:
                check_storable(value, field=name)
        for transfer in self.transfers:
            for name in ("amount", "value"):
                if (value := getattr(transfer, name)) is not None:
                    check_storable(value, field=f"transfers.{name}")
        for coin, total in self.totals:
            check_storable(total, field=f"totals.{coin}")

    @property
    def money_seen(self):
        return bool(self.transfers) or (self.received is not None and self.received > 0)


@dataclass(frozen=True, slots=True)
class Hint:
    """What an unsigned callback yields: an id to poll, never a status. ``gateway_id`` is "" where the body has none."""

    gateway_id: str = ""


@dataclass(frozen=True, slots=True)
class Ack:
    """The answer that the gateway takes for "received"."""

    body: bytes = b""
    content_type: str = "text/plain"
    status: int = 200


class Provider(ABC):
    """One account at one gateway. Instances are shared by threads and hold no state of a request.

    ``statuses`` maps every documented word to ours; ``final`` are the words that the gateway calls final; ``watch`` is
    how long a closed attempt is still polled for late money; ``expires_locally`` whether our clock may propose
    "expired" when the gateway stays silent. ``pay_currencies`` maps our notation ("USDT@tron", "TRX") to the gateway's
    words for it. ``account_callbacks``: one callback URL for the whole account, typed into the gateway's dashboard, instead
    of one in each request. ``takes_tolerance``: an invoice's ``underpaid_tolerance`` can be told to the gateway.

    Beside the abstract methods there are, where the capability is declared:
    ``find(reference, *, kind, amount, currency, created_at) -> Evidence | None``, ``cancel(remote) -> Evidence``,
    ``create_static_address(request) -> RemoteInvoice`` and ``revoke_static_address(remote)``.
    """

    name: ClassVar[str]  # for people: "OxaPay"
    options: ClassVar[type]  # a frozen dataclass: what an account is configured with
    create_options: ClassVar[type] = NoOptions  # a frozen dataclass: the gateway's own parameters of one invoice
    static_options: ClassVar[type] = NoOptions  # the same of one static address
    capabilities: ClassVar[frozenset[Capability]]
    statuses: ClassVar[dict[str, InvoiceStatus]]
    final: ClassVar[frozenset[str]]
    signature_headers: ClassVar[tuple[str, ...]] = ()  # kept with a callback, so that it can be verified again
    signed_fields: ClassVar[frozenset[str]]  # what a callback's signature covers; {"*"}: the whole body
    watch: ClassVar[timedelta]
    default_lifetime: ClassVar[timedelta | None] = None  # of an invoice when none is said; None: not documented
    expires_locally: ClassVar[bool] = True
    page_hosts: ClassVar[frozenset[str]] = frozenset()  # where payment_url may point; empty: not known
    pay_currencies: ClassVar[dict[str, object]] = {}
    account_callbacks: ClassVar[bool] = False
    takes_tolerance: ClassVar[bool] = False

    def __init__(self, account, *, alias=""):
        """``account`` is an instance of ``options``; ``alias`` the account's name in the settings, for messages."""
        self.account = account
        self.alias = alias

    @property
    def sandbox(self):
        return getattr(self.account, "sandbox", False)

    @property
    def identity(self):
        """A fingerprint of the account's credentials that reveals none of them; frozen on every attempt."""
        return identity_of(self.account)

    def supports(self, capability):
        return capability in self.capabilities

    def require(self, capability):
        """Raises ``NotSupported`` unless the gateway has this capability."""
        if capability not in self.capabilities:
            raise NotSupported(f"{self.name} has no {capability.replace('_', ' ')}")

    def coin(self, pay_currency, field="pay_currencies"):
        """The gateway's words for a coin in our notation. Raises ``InvalidRequest`` naming all that would do."""
        if pay_currency not in self.pay_currencies:
            accepted = ", ".join(sorted(self.pay_currencies)) or "none"
            raise InvalidRequest(field, f"{pay_currency!r} is not accepted by {self.name}; accepted are: {accepted}")
        return self.pay_currencies[pay_currency]

    def classify(self, word):
        """``(status, final)`` of a gateway's word; status None for a word that no page documents."""
        return self.statuses.get(word), word in self.final

    @abstractmethod
    def validate(self, request: CreateRequest) -> None:
        """Raises ``InvalidRequest`` naming the field, or ``NotSupported``; never calls the gateway."""

    @abstractmethod
    def create(self, request: CreateRequest) -> RemoteInvoice:
        """One outbound call. Raises ``GatewayRefused``, ``GatewayUnavailable`` or ``GatewayUncertain``."""

    @abstractmethod
    def fetch(self, remote: Remote, *, timeout: float | None = None) -> Evidence:
        """What the gateway says now. ``timeout`` in seconds bounds the whole call, with one try; None: the client's own."""

    @abstractmethod
    def verify(self, headers, body: bytes, *, url: str = "") -> Evidence | Hint:
        """The only way to a callback's payload. Raises ``BadSignature``, ``MalformedCallback`` or ``MisdirectedCallback``."""

    @abstractmethod
    def probe(self) -> datetime | None:
        """The cheapest harmless call that needs the credentials. Returns the gateway's clock (aware UTC, from the answer's
        Date header), None where it tells none. Raises ``GatewayError``."""

    def acknowledge(self) -> Ack:
        return Ack()


def check_id(value, *, field="id"):
    """A gateway's id as text, safe to stand in a URL. Raises ``InvalidRequest`` for anything else."""
    text = str(value)
    if not _ID.fullmatch(text):
        raise InvalidRequest(field, "not an id of the gateway")
    return text
