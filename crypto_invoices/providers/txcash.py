"""tx.cash invoice API v1, Ethereum and Polygon: hosted invoices, or one address of an invoice for the shop's own page.

Under https://docs.tx.cash/invoice/: "Creates a new invoice", creates-a-new-payment-address-for-the-requested-coin and
callback-handler-example-and-information. Checked 2026-11-22. "Not documented": on none of them; "inferred": ours. The pages
name no live base URL, no way to authenticate, no path of the create call and no read call: all are options of the account.
"""

import logging
import re
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal

from ..exceptions import GatewayError, GatewayRefused, InvalidRequest, NotSupported
from ..money import format_amount, is_coin
from ..statuses import InvoiceStatus, Source
from . import payload
from .base import Capability, Evidence, Hint, Kind, Page, Provider, Remote, RemoteInvoice, RemoteTransfer, check_id
from .http import Client, check_base_url, check_url
from .options import Secret, Secrets, option
from .values import Fields, keyed, options_of, price, said, sendable, units

__all__ = ["TxCash", "TxCashCreateOptions", "TxCashOptions"]

TESTNET = "https://api.tx.cash/invoice/v1/testnet"
GROUPS = ("all", "eth_stables", "polygon_stables")
NETWORKS = {"eth": "Ethereum", "polygon": "Polygon"}
WORDS = ("pending", "paid", "underpaid", "overpaid", "expired", "cancelled")  # status_code counts them from 0
SECOND = timedelta(seconds=1)

_PATH = re.compile(r"(/([A-Za-z0-9._~-]+|\{\}))+/?", re.ASCII)
_HEADER = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)

logger = logging.getLogger("crypto_invoices.txcash")


# Options


@dataclass(frozen=True, slots=True)
class TxCashOptions:
    api_key: Secrets = option(help="API key. While rotating: newest first")
    base_url: str = option("", help="https, or http to a loopback address; may be left out with sandbox only: the testnet's")
    sandbox: bool = option(False, help="testnet: coins without value")
    auth_header: str = option("Authorization", help="header that carries the key; inferred")
    auth_format: str = option("Bearer {}", help="that header's value, {} stands for the key; inferred")
    encoding: str = option("form", choices=("form", "json"), help="of request bodies; form is inferred from the address call")
    create_path: str = option("/invoice", help="inferred from the address call's path")
    read_path: str = option("/invoice/{}", help="{} stands for the invoice's id; inferred")
    address_path: str = option("/invoice/{}/payment/address", help="{} stands for the invoice's id")
    text_length: int = option(
        255,
        minimum=16,
        maximum=4096,
        help="characters; name and description are cut, a longer meta_data2 refused; not documented",
    )


@dataclass(frozen=True, slots=True)
class TxCashCreateOptions:
    payment_groups: tuple[str, ...] = option((), choices=GROUPS, help="hosted page: groups of coins beside pay_currencies")
    meta_data2: str | None = option(None, help="free text, echoed, up to the account's text_length; meta_data1 is our reference")


class TxCash(Provider):
    name = "tx.cash"
    options = TxCashOptions
    create_options = TxCashCreateOptions
    capabilities = frozenset({Capability.OWN_PAGE})
    signed_fields = frozenset()
    watch = timedelta(hours=48)

    pay_currencies = {
        "ETH": "eth_eth",
        "ETH@ethereum": "eth_eth",
        "USDT@ethereum": "eth_usdt",
        "USDC@ethereum": "eth_usdc",
        "ETH@polygon": "polygon_eth",
        "USDT@polygon": "polygon_usdt",
        "USDC@polygon": "polygon_usdc",
    }

    # Status map. The words are without spaces and underscores: the page itself writes both "over paid" and "overpaid".

    statuses = {
        "pending": InvoiceStatus.PENDING,
        "paid": InvoiceStatus.PAID,
        "underpaid": InvoiceStatus.UNDERPAID,
        "overpaid": InvoiceStatus.OVERPAID,
        "expired": InvoiceStatus.EXPIRED,
        "cancelled": InvoiceStatus.CANCELLED,
    }
    final = frozenset({"paid", "overpaid", "expired", "cancelled"})  # inferred: who paid too little may pay the rest

    def __init__(self, account, *, alias=""):
        super().__init__(account, alias=alias)
        _check_account(account)
        self.client = Client(
            account.base_url or TESTNET,
            headers={account.auth_header: Secret(account.auth_format.replace("{}", account.api_key.current))},
            gateway=self.name,
            account=alias,
            secrets=account.api_key,
            read_status=_read_status,
        )

    # Create

    def validate(self, request):
        self._order(request)

    def create(self, request):
        """POST /invoice; with ``page="own"`` a second call asks for the address. No idempotency key is documented.

        Where that second call fails, the invoice is there all the same: it comes back without an address and with the
        hosted page. The payer's e-mail address is not sent, since tx.cash has no field for it.
        """
        body, own_coin = self._order(request)
        answer = self._post("create", self.account.create_path, body=body)
        with self.client.reading("create"):
            fields = Fields(answer.data)
            if fields.text("meta_data1") not in ("", request.reference):
                raise payload.MalformedPayload("meta_data1: another reference than ours")
            made = RemoteInvoice(
                gateway_id=fields.id("id"),
                kind=Kind.ADDRESS if own_coin else Kind.INVOICE,
                word=_word(fields),
                payment_url=self.client.page_url(fields.text("url", limit=2048)),
                price_amount=_amount(fields),
                price_currency=_currency(fields),
                expires_at=_time(fields, "expires_on"),
                raw=answer.text,
            )
        return self._with_address(made, own_coin) if own_coin else made

    def _order(self, request):
        """``(body, coin)``, the coin "" but for ``page="own"``. All that can be wrong is found here, before any call."""
        options = options_of(request, TxCashCreateOptions)
        if request.fee_payer is not None:
            raise NotSupported("tx.cash has no fee_payer")
        if request.underpaid_tolerance is not None:
            raise NotSupported("tx.cash has no underpaid_tolerance")
        amount = price(request.amount, request.currency)
        if is_coin(request.currency):
            raise InvalidRequest("currency", "tx.cash takes prices in ISO 4217 currencies only")
        coins = [self.coin(pay_currency) for pay_currency in request.pay_currencies]
        own = request.page == Page.OWN
        if own and options.payment_groups:
            raise NotSupported("payment_groups belong to tx.cash's hosted page")
        if own and len(coins) != 1:
            raise InvalidRequest("pay_currencies", "exactly one is needed with page='own'")
        longest = self.account.text_length  # name and description are for people and may be cut, what comes back may not
        meta_data2 = sendable(options.meta_data2 or "", "meta_data2")
        if len(meta_data2) > longest:
            raise InvalidRequest("meta_data2", f"longer than the account's text_length, {longest} characters")
        body = {
            "amount": amount,
            "name": sendable(request.order_id, "order_id")[:longest],
            "currency": request.currency,
            "payment_currencies": ",".join(dict.fromkeys([*coins, *options.payment_groups])),
            "valid_for": _duration(request.lifetime),
            "callback_url": check_url(request.callback_url, "callback_url"),
            "success_url": request.return_url and check_url(request.return_url, "return_url"),
            "fail_url": request.cancel_url and check_url(request.cancel_url, "cancel_url"),
            "description": sendable(request.description, "description")[:longest],
            "meta_data1": check_id(request.reference, field="reference"),
            "meta_data2": meta_data2,
        }
        return said(body), coins[0] if own else ""

    def _with_address(self, made, coin):
        """The invoice with what the payer has to send where, and no way to the hosted page that would lead around it."""
        try:
            address, amount = self.payment_address(made.gateway_id, coin)
        except GatewayError as error:
            logger.warning("%s; the payer of invoice %s gets the hosted page", error, made.gateway_id)
            return made
        network, symbol = coin.split("_")
        return replace(
            made, payment_url="", address=address, pay_amount=amount, pay_currency=symbol.upper(), network=NETWORKS[network]
        )

    def _post(self, operation, path, *ids, body):
        if self.account.encoding == "form":
            body = {name: format_amount(value) if isinstance(value, Decimal) else value for name, value in body.items()}
        return self.client.call("POST", path, *ids, operation=operation, **{self.account.encoding: body})

    # Fetch

    def fetch(self, remote, *, timeout=None):
        """GET /invoice/{id}. Whether ``paid_amount`` counts coins or the price's currency is not documented: not read."""
        answer = self.client.call("GET", self.account.read_path, remote.gateway_id, operation="fetch", timeout=timeout)
        with self.client.reading("fetch"):
            fields = Fields(answer.data)
            if fields.id("id") != str(remote.gateway_id):
                raise payload.MalformedPayload("id: another invoice than was asked for")
            word, payments = _word(fields), fields.objects("payments")
            status, final = self.classify(word)
            if status is InvoiceStatus.PENDING and payments:  # inferred
                status = InvoiceStatus.CONFIRMING
            created_at = _time(fields, "created_at")
            return Evidence(
                source=Source.POLL,
                remote=Remote(remote.kind, fields.id("id"), fields.text("meta_data1")),
                word=word,
                status=status,
                final=final,
                price_amount=_amount(fields),
                price_currency=_currency(fields),
                transfers=keyed(_transfer(payment, created_at) for payment in payments),
                # An invoice on the shop's own page is paid there; the hosted page is for one that got no address.
                payment_url=self.client.page_url(fields.text("url", limit=2048)) if remote.kind is Kind.INVOICE else "",
                expires_at=_time(fields, "expires_on"),
                observed_at=answer.started_at,
                raw=answer.text,
            )

    # Find and cancel: not documented

    # Verify

    def verify(self, headers, body, *, url=""):
        """Callbacks are the invoice as JSON, sent whenever its status changes or a payment arrives, and not signed."""
        try:
            return Hint(Fields(payload.loads(body)).id("id"))
        except (payload.MalformedPayload, InvalidRequest):
            return Hint()

    # The vendor's own calls

    def payment_address(self, gateway_id, payment_currency):
        """POST /invoice/{id}/payment/address: ``(address, amount)`` to pay an invoice in one coin, such as "eth_usdt".

        The amount is a Decimal in that coin. In which notation the answer names the coin is not documented: "eth_usdt" and
        "usdt" are taken, in any case, and ``GatewayUncertain`` is raised for others, as the amount may be in another unit.
        """
        body = {"payment_currency": payment_currency}
        answer = self._post("payment_address", self.account.address_path, gateway_id, body=body)
        with self.client.reading("payment_address"):
            fields = Fields(answer.data)
            if fields.id("invoice_id") != str(gateway_id):
                raise payload.MalformedPayload("invoice_id: another invoice than was asked for")
            named = fields.text("currency", limit=32, required=True).lower()
            if named not in (payment_currency, payment_currency.rpartition("_")[2]):
                raise payload.MalformedPayload("currency: another coin than was asked for")
            return fields.text("address", required=True), _amount(fields)

    def invoice(self, gateway_id):
        """GET /invoice/{id}: the invoice as a dict with exact numbers, and the URLs under the names they were sent with.

        tx.cash tells ``callback_url`` as ``notify_url`` and ``success_url`` as ``suceess_url``, misspelt on its page.
        """
        told = self.client.call("GET", self.account.read_path, gateway_id, operation="invoice").data
        success_url = told.get("suceess_url") or told.get("success_url") or ""
        return told | {"callback_url": told.get("notify_url") or "", "success_url": success_url}

    def probe(self):
        """GET /invoice/{id} of an invoice that cannot exist, since tx.cash documents no harmless call.

        Inferred: with a wrong key the answer is HTTP 401 or 403; "no such invoice", 400 or 404, means that the key was
        taken, though a wrong base URL may say the same. Such a refusal tells no time.
        """
        try:
            return self.client.call("GET", self.account.read_path, "no-such-invoice", operation="probe").date
        except GatewayRefused as error:
            if error.http_status not in (400, 404):
                raise
            return None


def _check_account(account):
    """What the declarations of the options cannot say. Raises ``InvalidRequest`` naming the option."""
    if not account.base_url and not account.sandbox:
        raise InvalidRequest("base_url", "required: only the testnet's is documented, which sandbox=True stands for")
    if account.base_url and not account.sandbox and check_base_url(account.base_url) == TESTNET:
        raise InvalidRequest("sandbox", "True expected with the testnet's base_url")
    if not _HEADER.fullmatch(account.auth_header):
        raise InvalidRequest("auth_header", "a header's name expected")
    form = account.auth_format
    if form.count("{}") != 1 or not (form.isascii() and form.isprintable()) or form != form.strip():
        raise InvalidRequest("auth_format", "printable ASCII with one {} for the key expected")
    for name, ids in (("create_path", 0), ("read_path", 1), ("address_path", 1)):
        path = getattr(account, name)
        if not _PATH.fullmatch(path) or path.count("{}") != ids:
            raise InvalidRequest(name, f"a path that starts with / expected, with {'one {}' if ids else 'no {}'} for the id")


def _duration(lifetime):
    """A timedelta as tx.cash writes durations, such as "300s"; "" for None. The shortest and longest are not documented."""
    seconds = units(lifetime, "lifetime", unit=SECOND, minimum=1, maximum=timedelta.max // SECOND)
    return "" if seconds is None else f"{seconds}s"


def _word(fields):
    """The status as one of ``WORDS``. Where code and text disagree both, as in "1/under_paid", which no page documents."""
    code, text = fields.count("status_code"), fields.text("status", limit=32, required=True).lower().replace(" ", "_")
    if code is None:
        raise payload.MalformedPayload("status_code: required")
    word = WORDS[code] if code < len(WORDS) else ""
    return word if word == text.replace("_", "") else f"{code}/{text}"


def _amount(fields):
    if not (amount := fields.amount("amount")):
        raise payload.MalformedPayload("amount: more than 0 was expected")
    return amount


def _currency(fields):
    """``base_currency``: that it is the ``currency`` of the request again is inferred."""
    return fields.text("base_currency", limit=16, required=True).upper()


def _time(fields, name):
    """As ``Fields.time``, but None for the year 1, which a server written in Go sends for "not set" (inferred)."""
    value = fields.data.get(name)
    return None if isinstance(value, str) and value.startswith("0001-") else fields.time(name)


def _transfer(payment, created_at):
    """A payment names no coin. Its date is described as the invoice's creation time: only a later one is the payment's."""
    date = _time(payment, "date")
    later = date is not None and created_at is not None and date - created_at > SECOND
    return RemoteTransfer(
        key="",
        amount=payment.amount("amount"),
        currency="",
        tx_hash=payment.text("tx_hash", limit=180),
        confirmations=payment.count("confirmation"),
        explorer_url=_link(payment.text("explorer_url", limit=2048)),
        paid_at=date if later else None,
    )


def _link(url):
    """A URL that staff may be shown as a link, "" for others."""
    try:
        return check_url(url, "explorer_url")
    except InvalidRequest:
        return ""


def _read_status(http_status, answer):
    """``(status, code, text)`` from ``{"message", "errors": [{"resource", "code", "field", "description"}]}``."""
    entries = answer["errors"] if isinstance(answer.get("errors"), list) else []
    errors = [entry for entry in entries if isinstance(entry, dict)]
    texts = _texts(answer, "message") + [": ".join(_texts(error, "resource", "field", "description")) for error in errors]
    code = next((code for error in errors for code in _texts(error, "code")), "")
    return http_status, code, "; ".join(filter(None, texts))


def _texts(data, *names):
    return [data[name] for name in names if isinstance(data.get(name), str) and data[name]]
