"""OxaPay merchant API v1: hosted invoices, white label (an address for the shop's own page), static addresses.

https://docs.oxapay.com/webhook and, under https://docs.oxapay.com/api-reference/, payment/generate-invoice and its
neighbours, merchant-status-table, error, common/system-status. Checked 2026-11-22; "not documented": on none of them.
"""

import functools
import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from ..exceptions import BadSignature, InvalidRequest, MalformedCallback, MisdirectedCallback, NotSupported
from ..money import EXACT, is_coin
from ..statuses import InvoiceStatus, Source
from . import payload
from .base import Ack, Capability, Evidence, Kind, Page, Provider, Remote, RemoteInvoice, RemoteTransfer, check_id
from .http import Client, check_url
from .options import Secrets, option
from .signing import verify_hmac_hex
from .values import Fields, fold, keyed, options_of, percent, price, query, said, sendable, units

__all__ = ["OxaPay", "OxaPayAddressFilters", "OxaPayCreateOptions", "OxaPayFilters", "OxaPayOptions", "OxaPayStaticOptions"]

PAYMENT_STATUSES = ("waiting", "paying", "paid", "manual_accept", "underpaid", "refunding", "refunded", "expired")
PAGE_SIZE = 200  # the largest that the lists give
MAX_PAGES = 50  # of one search
_FEE = {None: None, "merchant": 0, "payer": 1}


# Options


@dataclass(frozen=True, slots=True)
class OxaPayOptions:
    merchant_api_key: Secrets = option(help="merchant API key; signs the callbacks as well. While rotating: newest first")
    base_url: str = option("https://api.oxapay.com/v1", help="https, or http to a loopback address")
    sandbox: bool = option(False, help="test mode; documented for hosted invoices only")
    description_length: int = option(255, minimum=16, maximum=4096, help="characters sent at most; the limit is not documented")
    search_minutes: int = option(60, minimum=5, maximum=1440, help="how far from its creation an invoice is searched for")


@dataclass(frozen=True, slots=True)
class OxaPayStaticOptions:
    to_currency: str | None = option(None, choices=("USDT",), help="convert what is paid to this coin")
    auto_withdrawal: bool | None = option(None, help="forward to the account's address list; False: credit the balance")


@dataclass(frozen=True, slots=True)
class OxaPayCreateOptions(OxaPayStaticOptions):
    mixed_payment: bool | None = option(None, help="hosted page: the rest may be paid in another coin")
    thanks_message: str | None = option(None, help="hosted page: shown after the payment")


@dataclass(frozen=True, slots=True)
class OxaPayFilters:
    """Of ``history``. Times are aware datetimes; in which currency amounts are meant is not documented."""

    track_id: int | None = option(None, minimum=1, help="one payment")
    type: str | None = option(None, choices=("invoice", "white_label", "static_address"), help="kind of payment")
    status: str | None = option(None, choices=PAYMENT_STATUSES, help="status word")
    pay_currency: str | None = option(None, max_length=16, help="the payer's coin")
    currency: str | None = option(None, max_length=16, help="price currency")
    network: str | None = option(None, max_length=64, help="OxaPay's name of a network")
    address: str | None = option(None, max_length=255, help="receiving address")
    from_date: datetime | None = option(None, help="from this time")
    to_date: datetime | None = option(None, help="to this time")
    from_amount: Decimal | None = option(None, minimum=0, help="from this amount")
    to_amount: Decimal | None = option(None, minimum=0, help="to this amount")
    sort_by: str | None = option(None, choices=("create_date", "pay_date", "amount"), help="default create_date")
    sort_type: str | None = option(None, choices=("asc", "desc"), help="default desc")
    page: int | None = option(None, minimum=1, help="from 1")
    size: int | None = option(None, minimum=1, maximum=PAGE_SIZE, help="1 to 200, default 10")


@dataclass(frozen=True, slots=True)
class OxaPayAddressFilters:
    """Of ``list_static_addresses``."""

    track_id: int | None = option(None, minimum=1, help="one address")
    network: str | None = option(None, max_length=64, help="OxaPay's name of a network")
    currency: str | None = option(None, max_length=16, help="coin")
    address: str | None = option(None, max_length=255, help="one address")
    have_tx: bool | None = option(None, help="only with, or only without payments")
    order_id: str | None = option(None, max_length=64, help="our reference")
    email: str | None = option(None, max_length=254, help="the payer's")
    page: int | None = option(None, minimum=1, help="from 1")
    size: int | None = option(None, minimum=1, maximum=PAGE_SIZE, help="1 to 200")


class OxaPay(Provider):
    name = "OxaPay"
    options = OxaPayOptions
    create_options = OxaPayCreateOptions
    static_options = OxaPayStaticOptions
    capabilities = frozenset(
        {Capability.LOOKUP_BY_REFERENCE, Capability.SIGNED_CALLBACKS, Capability.OWN_PAGE}
        | {Capability.STATIC_ADDRESS, Capability.REVOKE_STATIC_ADDRESS}
    )
    signature_headers = ("HMAC",)
    signed_fields = frozenset({"*"})
    watch = timedelta(hours=72)
    default_lifetime = timedelta(minutes=60)
    page_hosts = frozenset({"pay.oxapay.com"})
    takes_tolerance = True

    # Coin and network. The pages name networks in samples only; without one OxaPay takes the coin's default network.
    pay_currencies = {coin: (coin, "") for coin in ("BTC", "ETH", "POL", "XRP")} | {
        "TRX": ("TRX", "TRON"),
        "TRX@tron": ("TRX", "TRON"),
        "USDT@tron": ("USDT", "TRON"),
    }

    # Status map

    statuses = {
        "new": InvoiceStatus.PENDING,
        "waiting": InvoiceStatus.PENDING,
        "paying": InvoiceStatus.CONFIRMING,  # seen on the chain, perhaps too little
        "confirming": InvoiceStatus.CONFIRMING,  # legacy API
        "paid": InvoiceStatus.PAID,
        "manual_accept": InvoiceStatus.PAID,
        "underpaid": InvoiceStatus.UNDERPAID,
        "expired": InvoiceStatus.EXPIRED,
        "refunding": InvoiceStatus.REFUNDING,
        "refunded": InvoiceStatus.REFUNDED,
        "failed": InvoiceStatus.FAILED,  # legacy API
        "rejected": InvoiceStatus.FAILED,  # this and the next two: in other people's code only
        "canceled": InvoiceStatus.CANCELLED,
        "cancelled": InvoiceStatus.CANCELLED,
    }
    final = frozenset({"paid", "manual_accept", "underpaid", "expired", "refunded", "failed"})
    kinds = {"invoice": Kind.INVOICE, "white_label": Kind.ADDRESS, "static_address": Kind.STATIC_ADDRESS}

    def __init__(self, account, *, alias=""):
        super().__init__(account, alias=alias)
        headers = {"merchant_api_key": account.merchant_api_key[0], "Content-Type": "application/json"}
        names = {"gateway": self.name, "account": alias, "secrets": account.merchant_api_key}
        self.client = Client(account.base_url, headers=headers, read_status=_read_status, **names)

    # Create

    def validate(self, request):
        self._order(request)

    def create(self, request):
        """POST /payment/invoice, or /payment/white-label for ``page="own"``. OxaPay documents no idempotency key."""
        path, body = self._order(request)
        return self._made("create", path, body, Kind.ADDRESS if request.page == Page.OWN else Kind.INVOICE)

    def _order(self, request):
        """``(path, body)``. All that can be wrong with a request is found here, before any call."""
        options = options_of(request, OxaPayCreateOptions)
        if request.cancel_url:
            raise NotSupported("OxaPay has no cancel_url: its page has no way back before the payment")
        if request.fee_payer not in _FEE:
            raise InvalidRequest("fee_payer", "merchant or payer was expected")
        body = self._body(request, request.order_id, options) | {
            "amount": price(request.amount, request.currency),
            "currency": request.currency,
            "lifetime": units(request.lifetime, "lifetime", unit=timedelta(minutes=1), minimum=15, maximum=2880),
            "fee_paid_by_payer": _FEE[request.fee_payer],
            "under_paid_coverage": percent(request.underpaid_tolerance, "underpaid_tolerance", maximum=60),
        }
        if request.page == Page.OWN:
            return "/payment/white-label", said(body | self._own_page(request, options))
        if request.pay_currencies:
            raise NotSupported("OxaPay's page lets the payer choose the coin; pay_currencies needs page='own'")
        if request.return_url:
            check_url(request.return_url, "return_url")
        return "/payment/invoice", said(body | {
            "return_url": request.return_url,
            "mixed_payment": options.mixed_payment,
            "thanks_message": sendable(options.thanks_message or "", "thanks_message"),
            "sandbox": self.account.sandbox,
        })  # fmt: skip

    def _body(self, request, name, options):
        """What all three create calls share. ``name`` is the shop's: it opens the description, for the dashboard."""
        texts = (sendable(name, "order_id"), sendable(request.description, "description"))
        return {
            "order_id": check_id(request.reference, field="reference"),
            "callback_url": check_url(request.callback_url, "callback_url"),
            "description": ": ".join(filter(None, texts))[: self.account.description_length],
            "email": sendable(request.email, "email"),
            "to_currency": options.to_currency,
            "auto_withdrawal": options.auto_withdrawal,
        }

    def _own_page(self, request, options):
        """White label knows no return_url: the way back to the shop is a link on the shop's own page."""
        if options.mixed_payment is not None or options.thanks_message:
            raise NotSupported("mixed_payment and thanks_message belong to OxaPay's hosted page")
        if len(request.pay_currencies) != 1:
            raise InvalidRequest("pay_currencies", "exactly one is needed with page='own'")
        return dict(zip(("pay_currency", "network"), self._coin(request.pay_currencies[0], "pay_currencies"), strict=True))

    def _coin(self, pay_currency, field):
        if self.account.sandbox:
            raise NotSupported("OxaPay documents its test mode for hosted invoices only")
        return self.coin(pay_currency, field)

    def _made(self, operation, path, body, kind):
        """Sends a create call. The three answers differ in what they leave out."""
        answer = self.client.call("POST", path, operation=operation, json=body)
        with self.client.reading(operation):
            fields = Fields(answer.data).object("data")
            if fields.text("order_id") not in ("", body["order_id"]):
                raise payload.MalformedPayload("order_id: another reference than ours")
            return RemoteInvoice(
                gateway_id=fields.id("track_id"),
                kind=kind,
                payment_url=self.client.page_url(fields.text("payment_url", limit=2048)) if kind is Kind.INVOICE else "",
                address=fields.text("address", required=kind is not Kind.INVOICE),
                address_tag=fields.text("memo", limit=128, whole=True),
                pay_amount=fields.amount("pay_amount"),
                pay_currency=fields.text("pay_currency", limit=32),
                network=fields.text("network", limit=64),
                price_amount=fields.amount("amount"),
                price_currency=fields.text("currency", limit=16).upper(),
                expires_at=fields.time("expired_at"),
                raw=answer.text,
            )

    # Fetch

    def fetch(self, remote, *, timeout=None):
        """GET /payment/{track_id}: any kind of payment. Sends no tx value in the price currency for other coins."""
        answer = self.client.call("GET", "/payment/{}", remote.gateway_id, operation="fetch", timeout=timeout)
        with self.client.reading("fetch"):
            fields = Fields(answer.data).object("data")
            kind = self.kinds.get(fold(fields.text("type")), remote.kind)
            evidence = self._evidence(fields, kind, source=Source.POLL, raw=answer.text, observed_at=answer.started_at)
            if evidence.remote.gateway_id != str(remote.gateway_id):
                raise payload.MalformedPayload("track_id: another payment than was asked for")
            return evidence

    # Find

    def find(self, reference, *, kind, amount, currency, created_at):
        """The payment whose order_id is ``reference``, or None when GET /payment lists none around ``created_at`` (aware).

        The list has no filter for order_id. It is narrowed by amount and currency first, then searched whole, since what
        its amounts mean is not documented. Raises ``GatewayUncertain`` when there is more in that time than may be read.
        """
        check_id(reference, field="reference")
        around = timedelta(minutes=self.account.search_minutes)
        span = {"from_date": created_at - around, "to_date": created_at + around, "sort_by": "create_date", "sort_type": "asc"}
        for narrow in ({"currency": currency, "from_amount": amount, "to_amount": amount}, {}):
            if track_id := self._search(reference, span | narrow):
                return self.fetch(Remote(kind, track_id, reference))
        return None

    def _search(self, reference, filters):
        for page in range(1, MAX_PAGES + 1):
            listed = self.history(**filters, page=page, size=PAGE_SIZE)
            for entry in listed["list"]:
                if entry.get("order_id") == reference:
                    with self.client.reading("find"):
                        return Fields(entry).id("track_id")
            if not listed["list"] or listed["meta"].get("last_page") == page:
                return ""
        raise self.client.unreadable("find", f"more than {MAX_PAGES} pages of payments")

    # Verify

    def verify(self, headers, body, *, url=""):
        """HMAC-SHA512 of the raw body in the header HMAC, keyed with the merchant API key."""
        given = [value for name, value in headers.items() if name.lower() == "hmac"]
        if len(given) != 1:
            raise BadSignature("exactly one HMAC header is expected")
        verify_hmac_hex(given[0], body, self.account.merchant_api_key, hashlib.sha512)
        try:
            fields = Fields(payload.loads(body))
            kind = fold(fields.text("type", required=True))
            if kind not in self.kinds:  # payout, payment_link, donation
                raise MisdirectedCallback(f"a callback of type {kind[:32]!r} on the address for payments")
            return self._evidence(fields, self.kinds[kind], source=Source.CALLBACK, raw=body.decode())
        except (payload.MalformedPayload, InvalidRequest) as error:
            raise MalformedCallback(str(error)) from None

    def acknowledge(self):
        return Ack(b"ok", "text/plain", 200)

    def _evidence(self, fields, kind, *, source, raw, observed_at=None):
        word = fold(fields.text("status", limit=64, required=True))
        status, final = self.classify(word)
        price_currency = fields.text("currency", limit=16).upper()
        transfers = [_transfer(tx) for tx in fields.objects("txs")]
        # A payer who bears the fee sends more than the price. Where that may be so, sums say nothing about the price.
        comparable = fields.flag("fee_paid_by_payer") is False and is_coin(price_currency) and bool(transfers)
        received = None
        if comparable and all(item.currency == price_currency and item.amount is not None for item in transfers):
            transfers = [replace(item, value=item.amount) for item in transfers]
            counted = (item.amount for item in transfers if item.confirmed or status is InvoiceStatus.PAID)
            received = functools.reduce(EXACT.add, counted, Decimal(0))
        return Evidence(
            source=source,
            remote=Remote(kind, fields.id("track_id"), fields.text("order_id")),
            word=word,
            status=status,
            final=final,
            price_amount=fields.amount("amount"),
            price_currency=price_currency,
            received=received,
            tolerance=fields.amount("under_paid_coverage", maximum=60),
            pay_amount=fields.amount("pay_amount"),
            pay_currency=fields.text("pay_currency", limit=32),
            network=fields.text("network", limit=64),
            address=fields.text("address"),
            address_tag=fields.text("memo", limit=128, whole=True),
            transfers=keyed(transfers),
            expires_at=fields.time("expired_at"),
            observed_at=observed_at,
            manual=word == "manual_accept",
            sandbox=True if any(item.tx_hash == "sandbox" for item in transfers) else None,
            raw=raw,
        )

    # The vendor's own calls

    def history(self, **filters):
        """GET /payment: one page, ``{"list": [payments], "meta": {"page", "last_page", "total"}}`` (``OxaPayFilters``)."""
        return self._get("/payment", "history", _page, query(OxaPayFilters, filters))

    def list_static_addresses(self, **filters):
        """GET /payment/static-address: one page as in ``history`` (``OxaPayAddressFilters``)."""
        return self._get("/payment/static-address", "list_static_addresses", _page, query(OxaPayAddressFilters, filters))

    def _get(self, path, operation, read, parameters=None):
        answer = self.client.call("GET", path, operation=operation, query=parameters)
        with self.client.reading(operation):
            return read(Fields(answer.data).object("data"))

    def accepted_currencies(self):
        """GET /payment/accepted-currencies: symbols of the coins that the merchant account takes."""
        return self._get("/payment/accepted-currencies", "accepted_currencies", lambda data: data.texts("list"))

    def system_status(self):
        """GET /common/monitor: whether the gateway says that it works; documented as true, seen as "OK"."""
        return self._get("/common/monitor", "system_status", lambda data: data.data.get("status") in (True, "OK"))

    def create_static_address(self, request):
        """POST /payment/static-address: a ``RemoteInvoice`` with the address. OxaPay revokes it after six unused months."""
        options = options_of(request, OxaPayStaticOptions)
        coin, network = self._coin(request.pay_currency, "pay_currency")
        if not network:
            raise InvalidRequest("pay_currency", "a static address needs a coin whose network is known")
        body = said(self._body(request, request.customer, options) | {"network": network})
        path = "/payment/static-address"
        return replace(self._made("create_static_address", path, body, Kind.STATIC_ADDRESS), pay_currency=coin)

    def revoke_static_address(self, remote):
        """POST /payment/static-address/revoke."""
        if not sendable(remote.address, "address"):
            raise InvalidRequest("address", "required")
        body = said({"address": remote.address, "network": remote.network})
        self.client.call("POST", "/payment/static-address/revoke", operation="revoke_static_address", json=body)

    def probe(self):
        """GET /payment/accepted-currencies."""
        return self.client.call("GET", "/payment/accepted-currencies", operation="probe").date


def _page(data):
    entries, meta = data.objects("list", required=True), data.data.get("meta")
    return {"list": [entry.data for entry in entries], "meta": meta if isinstance(meta, dict) else {}}


def _transfer(tx):
    """A callback says ``received_amount``, the payment information ``amount``: both in the tx's own coin."""
    received = tx.amount("received_amount")
    return RemoteTransfer(
        key="",
        amount=tx.amount("amount") if received is None else received,
        currency=tx.text("currency", limit=32).upper(),
        tx_hash=tx.text("tx_hash", limit=180),
        network=tx.text("network", limit=64),
        address=tx.text("address"),
        sender=tx.text("sender_address"),
        confirmations=tx.count("confirmations"),
        confirmed=fold(tx.text("status")) == "confirmed",
        paid_at=tx.time("date"),
    )


def _read_status(http_status, answer):
    """``(status, code, text)``. Both must be 200; a 403 may hold an envelope that says 401, and the envelope is right."""
    error = answer["error"] if isinstance(answer.get("error"), dict) else {}
    code = next((word for word in (error.get("key"), error.get("type")) if word and isinstance(word, str)), "")
    text = next((word for word in (error.get("message"), answer.get("message")) if word and isinstance(word, str)), "")
    status = answer.get("status")
    if http_status >= 500 or http_status == 429:
        return http_status, code, text
    if isinstance(status, int) and status >= 400:
        return status, code, text
    if http_status >= 400 and status != 200:
        return http_status, code, text
    return (200, "", "") if http_status == status == 200 else (0, code, "the answer's two statuses disagree")
