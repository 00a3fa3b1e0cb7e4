"""goodPayments merchant API v1: invoices in TRX and USDT on TRON (hosted page or the shop's own), static addresses.

Under https://goodpayments.gitbook.io/docs/: api-reference/authentication-process, api-reference/webhooks and
api-reference/api-methods-overview-request-response-structure/create-an-invoice with its neighbours;
user-guide/payment-statuses, overpayment-and-underpayment, aml-checks; general-info/terms-and-definitions. Checked
2026-11-22; "not documented": on none of them. Calls are answered only to addresses on the account's IP list.
"""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from ..exceptions import InvalidAmount, InvalidRequest, NotSupported
from ..money import format_amount
from ..statuses import SETTLED, InvoiceStatus, Source
from . import payload
from .base import Capability, Evidence, Hint, Kind, Page, Provider, Remote, RemoteInvoice, check_id
from .http import Client, check_url
from .options import NoOptions, Secrets, option
from .values import Fields, fold, options_of, price, said, sendable, units

__all__ = ["GoodPayments", "GoodPaymentsOptions"]

CURRENCY = "USD"  # the only price currency
TOKENS = ("TRX", "USDT")
NETWORK = "TRON"
REFERENCE_LENGTH = 256
_FEE = {None: None, "merchant": False, "payer": True}
_TYPES = {Kind.INVOICE: "SINGLE", Kind.ADDRESS: "SINGLE", Kind.STATIC_ADDRESS: "MULTIPLE"}
_REVIEWS = {
    "error": "goodPayments reports an error, or another token than accepted was sent: money may be on the address",
    "aml_failed": "goodPayments' AML check failed: it returns the money to the sender and charges its fee",
}
_CLOSED_WITH_MONEY = "goodPayments closed the invoice although money had come in"


# Options


@dataclass(frozen=True, slots=True)
class GoodPaymentsOptions:
    api_key: Secrets = option(help="merchant API key, sent as it is in the header Authorization")
    base_url: str = option("https://app.goodpayments.io/v1/api", help="https, or http to a loopback address")
    minimum_amount: Decimal = option(Decimal("0.01"), minimum=Decimal("0.01"), help="USD; the least is not documented")
    minimum_minutes: int = option(1, minimum=1, help="least lifetime in minutes; the range is not documented")
    maximum_minutes: int = option(1440, minimum=1, help="longest lifetime in minutes; the range is not documented")
    description_length: int = option(255, minimum=16, maximum=4096, help="characters sent at most; the limit is not documented")
    input_is_confirming: bool = option(
        False, help="unverified: read ACTIVE with received money as confirming; that the two go together is not documented"
    )
    input_is_total: bool = option(
        True,
        help="transfer_amounts.input of a static address counts all that ever came in; not documented. "
        "False: deposits are not told",
    )


class GoodPayments(Provider):
    """Every documented parameter is an argument of the neutral requests; none is left for options.

    There is no parameter for the payer's email: it is not sent.
    """

    name = "goodPayments"
    options = GoodPaymentsOptions
    capabilities = frozenset(
        {Capability.CANCEL, Capability.OWN_PAGE, Capability.STATIC_ADDRESS, Capability.REVOKE_STATIC_ADDRESS}
    )
    signed_fields = frozenset()
    watch = timedelta(hours=24)
    default_lifetime = timedelta(minutes=30)  # the dashboard's; the API's own is not documented, so it is always sent
    expires_locally = False  # what is paid in the last minute stays ACTIVE until it is forwarded; TIMEOUT tells the end
    page_hosts = frozenset({"app.goodpayments.io"})
    pay_currencies = {"TRX": "TRX", "TRX@tron": "TRX", "USDT@tron": "USDT"}

    # Status map

    statuses = {
        "active": InvoiceStatus.PENDING,
        "completed": InvoiceStatus.PAID,  # and forwarded to the merchant
        "overpaid": InvoiceStatus.OVERPAID,
        "underpaid": InvoiceStatus.UNDERPAID,  # the first transfer closes an invoice
        "canceled": InvoiceStatus.CANCELLED,
        "cancelled": InvoiceStatus.CANCELLED,  # on no page
        "timeout": InvoiceStatus.EXPIRED,
        "error": InvoiceStatus.FAILED,
        "aml_failed": InvoiceStatus.FAILED,
    }
    final = frozenset(statuses) - {"active"}

    def __init__(self, account, *, alias=""):
        super().__init__(account, alias=alias)
        headers = {"Authorization": account.api_key[0], "Accept": "application/json"}
        names = {"gateway": self.name, "account": alias, "secrets": account.api_key}
        self.client = Client(account.base_url, headers=headers, read_status=_read_status, **names)

    # Create

    def validate(self, request):
        self._order(request)

    def create(self, request):
        """POST /payment/create with type SINGLE. goodPayments documents no idempotency key and no look-up by order_id."""
        return self._made("create", self._order(request), Kind.ADDRESS if request.page == Page.OWN else Kind.INVOICE)

    def _order(self, request):
        """The body. All that can be wrong with a request is found here, before any call."""
        if request.cancel_url:
            raise NotSupported("goodPayments has no cancel_url: its page has no way back before the payment")
        if request.underpaid_tolerance is not None:
            raise NotSupported("goodPayments has no underpaid_tolerance: the first short transfer closes it as UNDERPAID")
        if request.fee_payer not in _FEE:
            raise InvalidRequest("fee_payer", "merchant or payer was expected")
        if request.return_url:
            check_url(request.return_url, "return_url")
        return said(self._body(request, request.order_id, "SINGLE") | {
            "amount": self._price(request),
            "currencies": self._tokens(request),
            "expiry_minutes": self._minutes(request),
            "client_comission": _FEE[request.fee_payer],  # spelt so
            "redirect_url": request.return_url,
        })  # fmt: skip

    def _body(self, request, name, type_):
        """What both kinds share. ``name`` is the shop's: it opens the description, for the dashboard."""
        options_of(request, NoOptions)
        texts = (sendable(name, "order_id"), sendable(request.description, "description"))
        sendable(request.email, "email")
        return {
            "type": type_,
            "order_id": check_id(request.reference, field="reference"),
            "webhook_url": check_url(request.callback_url, "callback_url"),
            "description": ": ".join(filter(None, texts))[: self.account.description_length],
        }

    def _price(self, request):
        if request.currency != CURRENCY:
            raise InvalidRequest("currency", "goodPayments takes prices in USD only")
        amount = price(request.amount, CURRENCY)
        if amount < self.account.minimum_amount:
            raise InvalidAmount("amount", f"at least {format_amount(self.account.minimum_amount)} USD was expected")
        return amount

    def _tokens(self, request):
        if request.page == Page.OWN and len(request.pay_currencies) != 1:
            raise InvalidRequest("pay_currencies", "exactly one is needed with page='own'")
        return list(dict.fromkeys(self.coin(coin) for coin in request.pay_currencies)) or list(TOKENS)

    def _minutes(self, request):
        lifetime = self.default_lifetime if request.lifetime is None else request.lifetime
        bounds = {"minimum": self.account.minimum_minutes, "maximum": self.account.maximum_minutes}
        return units(lifetime, "lifetime", unit=timedelta(minutes=1), **bounds)

    def _made(self, operation, body, kind):
        """Sends a create call. What the answer repeats must be what was ordered."""
        answer = self.client.call("POST", "/payment/create", operation=operation, json=body)
        with self.client.reading(operation):
            fields = Fields(answer.data)
            facts = self._facts(fields, kind, body["currencies"])
            if fields.text("order_id", limit=REFERENCE_LENGTH) not in ("", body["order_id"]):
                raise payload.MalformedPayload("order_id: another reference than ours")
            ordered, told = body.get("client_comission"), _payer_bears_fee(fields)
            if ordered is not None and told not in (None, ordered):
                raise payload.MalformedPayload("client_comission: the fee is not borne by whom it was ordered")
            amount = fields.amount("amount")
            if told and amount is not None and amount < body.get("amount", 0):
                raise payload.MalformedPayload("amount: less than was ordered")
            fields.text("paymentURL" if kind is Kind.INVOICE else "address", limit=2048, required=True)
            if kind is Kind.ADDRESS and facts["pay_amount"] is None:
                raise payload.MalformedPayload("currencies_amounts: no amount for the token")
            return RemoteInvoice(gateway_id=fields.id("id"), kind=kind, raw=answer.text, **facts)

    # Fetch

    def fetch(self, remote, *, timeout=None):
        """GET /payment/get/{id}. Names no transaction and no sum in USD; what came in is told in tokens."""
        answer = self.client.call("GET", "/payment/get/{}", remote.gateway_id, operation="fetch", timeout=timeout)
        return self._evidence("fetch", remote, answer)

    # Cancel

    def cancel(self, remote):
        """DELETE /payment/{id}/cancel. That the answer says CANCELED is not documented: its status is read as any other."""
        answer = self.client.call("DELETE", "/payment/{}/cancel", remote.gateway_id, operation="cancel")
        return self._evidence("cancel", remote, answer)

    def _evidence(self, operation, remote, answer):
        with self.client.reading(operation):
            fields = Fields(answer.data)
            facts = self._facts(fields, remote.kind)
            if fields.id("id") != str(remote.gateway_id):
                raise payload.MalformedPayload("id: another invoice than was asked for")
            status, final = self.classify(facts["word"])
            totals = ()
            review = _REVIEWS.get(facts["word"], "")
            if remote.kind is Kind.STATIC_ADDRESS:
                totals = tuple(_came_in(fields).items()) if self.account.input_is_total else ()
            elif any(_or_unknown(_came_in, fields).values()):
                if status is InvoiceStatus.PENDING and self.account.input_is_confirming:
                    status = InvoiceStatus.CONFIRMING
                elif status in (InvoiceStatus.EXPIRED, InvoiceStatus.CANCELLED):
                    review = _CLOSED_WITH_MONEY
            return Evidence(
                source=Source.POLL,
                remote=Remote(remote.kind, fields.id("id"), fields.text("order_id", limit=REFERENCE_LENGTH)),
                status=status,
                final=final,
                totals=totals,
                # A closed address is watched no longer, so what was paid came in time, however long the forwarding took.
                late=False if status in SETTLED or status is InvoiceStatus.UNDERPAID else None,
                review=review,
                observed_at=answer.started_at,
                raw=answer.text,
                **facts,
            )

    def _facts(self, fields, kind, tokens=()):
        """What every answer says. ``tokens``: those ordered; without them currencies_amounts names the accepted ones.

        Where the payer bears the fee no price is told: the page says that the amount is increased by the fee, its sample
        shows it unchanged, so that what was ordered cannot be known from it.
        """
        if fields.text("type") not in ("", _TYPES[kind]):
            raise payload.MalformedPayload("type: another kind than ours")
        static = kind is Kind.STATIC_ADDRESS
        due = {token: amount for token, amount in _or_unknown(_due, fields).items() if amount}
        accepted = tuple(tokens or due)
        token = accepted[0] if len(accepted) == 1 else ""
        amount = None if static else fields.amount("amount")
        if _payer_bears_fee(fields):
            amount = None
        page = fields.text("paymentURL", limit=2048) if kind is Kind.INVOICE else ""
        return {
            "word": fold(fields.text("status", limit=64, required=True)),
            "payment_url": page and self.client.page_url(page),
            "address": fields.text("address"),
            "pay_amount": None if static else due.get(token),
            "pay_currency": token,
            "network": NETWORK,
            "price_amount": amount,
            "price_currency": "" if amount is None else CURRENCY,
            "expires_at": fields.time("expired_at"),
        }

    # Verify

    def verify(self, headers, body, *, url=""):
        """A ``Hint``: no signature is documented, so that nothing but the id is taken from a webhook."""
        try:
            return Hint(Fields(payload.loads(body)).id("id"))
        except (payload.MalformedPayload, InvalidRequest):
            return Hint()

    # The vendor's own calls

    def create_static_address(self, request):
        """POST /payment/create with type MULTIPLE: a ``RemoteInvoice`` with the address, which takes one token."""
        token = self.coin(request.pay_currency, "pay_currency")
        body = said(self._body(request, request.customer, "MULTIPLE") | {"currencies": [token]})
        return self._made("create_static_address", body, Kind.STATIC_ADDRESS)

    def revoke_static_address(self, remote):
        """DELETE /payment/{id}/cancel. That this is how a static address is closed is inferred: no page says it.

        An answer that still says ACTIVE is ``GatewayUncertain``.
        """
        operation = "revoke_static_address"
        answer = self.client.call("DELETE", "/payment/{}/cancel", remote.gateway_id, operation=operation)
        with self.client.reading(operation):
            word = fold(Fields(answer.data).text("status", limit=64))
        if word == "active":
            raise self.client.unreadable(operation, "status: still ACTIVE", http_status=answer.status)

    def merchant(self):
        """GET /merchant: a dict with email, balance (TRX, for the fees), target_wallet_address, topup_wallet_address,
        activation_wallet_address and what else the gateway tells. Numbers are int or Decimal, exact."""
        return self.client.call("GET", "/merchant", operation="merchant").data

    def probe(self):
        """GET /merchant."""
        return self.client.call("GET", "/merchant", operation="probe").date


def _amounts(fields):
    """``{token: amount}`` of what is said."""
    amounts = {token: fields.amount(token) for token in TOKENS}
    return {token: amount for token, amount in amounts.items() if amount is not None}


def _due(fields):
    """``{token: amount}`` of what is to be paid."""
    return _amounts(fields.object("currencies_amounts"))


def _came_in(fields):
    """``{token: amount}`` of all that was ever received; of a static address the same is supposed: no page says it."""
    if fields.data.get("transfer_amounts") is None:
        return {}
    return _amounts(fields.object("transfer_amounts").object("input"))


def _or_unknown(read, fields):
    """What ``read`` finds, {} where it has another shape than in the sample: the table calls both sums a string."""
    try:
        return read(fields)
    except (payload.MalformedPayload, InvalidAmount):
        return {}


def _payer_bears_fee(fields):
    """The request and the table spell client_comission, the sample answer client_commission."""
    flag = fields.flag("client_comission")
    return fields.flag("client_commission") if flag is None else flag


def _read_status(http_status, answer):
    """``(status, code, text)`` of Django REST framework's errors: {"detail": text}, and {field: [texts]} for wrong values."""
    if http_status < 400:
        return http_status, "", ""
    for field, value in answer.items():
        text = value[0] if isinstance(value, list) and value else value
        if text and isinstance(text, str):
            return http_status, "" if field == "detail" else field, text
    return http_status, "", ""
