"""txn.io, public API v1, as its documentation describes it.

Sources: https://docs.txn.io (invoices, api-basics/webhooks, exchange), https://docs.txn.pro, its older copy, and the help
centre at https://help.txn.io. Where all of them are silent, the choice is marked "our choice".
Base URL: ``simulator/txn/api/public/v1``. The payer's page stands in for ``hostedPageUrl``; the webhook URL and its secret,
which the vendor's dashboard asks for, are settings. Only on-chain payments are pretended.
"""

import base64
import hashlib
import hmac
import uuid
from datetime import timedelta
from decimal import Decimal

from django.db import transaction
from django.db.models import Q
from django.http import HttpResponse
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from crypto_invoices.money import format_amount
from crypto_invoices.providers import payload

from . import actions, api, callbacks, coins
from . import txn_documents as documents
from .api import ApiError, not_found, route
from .errors import BadField, Refused, amount_in
from .gateway import Gateway, iso, unix
from .models import new_number
from .parameters import Parameter, read
from .txn_documents import CANCELLED, COMPLETED, EXPIRED, ON_HOLD, PENDING, PROCESSING, REJECTED

MEDIA_TYPE = "application/vnd.api+json"
LIFETIME = timedelta(minutes=20)  # invoices-concept
LISTENING = timedelta(hours=168)  # invoice-status-flow: cancelled without a payment in that time
FIRST_PAYMENT = (PENDING, EXPIRED, ON_HOLD)

# The network codes that the documentation names, by coin and network; the sandbox puts a "t" before them.
NETWORK_CODES = {
    "trx:usdt": ("USDT", "tron"),
    "polygon:usdcv2": ("USDC", "polygon"),
    "polygon": ("POL", "polygon"),
    "xrp": ("XRP", "ripple"),
}
TRADABLE = ("EUR", "USD", "USDT", "USDC")  # creating-payment-link: accountCurrency; every other billed currency is for display
REFUND_FEE = Decimal(1)  # USD; that fees are deducted is documented, their height is our choice

# --- Parameters (creating-invoice: the amount is a text; listing-invoices) ---
# How a JSON number is refused, the limits of a page and its default size are our choice.
INVOICE_PARAMETERS = {
    **{name: Parameter(required=True) for name in ("amountBilled", "billedCurrency", "chargedCurrency", "network")},
    **{name: Parameter() for name in ("targetCurrency", "targetAccountId")},
    "reference": Parameter(low=1, high=255),
    **{name: Parameter("url") for name in ("successRedirectUrl", "unsuccessRedirectUrl")},
    "paymentMethods": Parameter("texts", choices=("on_chain", "binance_pay", "nft")),
}
LIST_PARAMETERS = {
    "order": Parameter(choices=("created_at",)),
    "order_type": Parameter(choices=("asc", "desc")),
    "page": Parameter("digits", low=1),
    "per_page": Parameter("digits", low=1, high=100),
    **{name: Parameter() for name in ("reference", "created_at_from", "created_at_to")},
}
RATE_PARAMETERS = {name: Parameter(required=True) for name in ("sell_currency_code", "buy_currency_code")}


class Txn(Gateway):
    name = "txn"
    title = "txn.io"
    settings = {
        "API_KEYS": ["txn_cmp_simulator"],  # each is a merchant
        "WEBHOOK_URL": "",  # Developers, Webhook URLs
        "WEBHOOK_SECRET": "",  # "whsec_..." signs by Standard Webhooks; "": unsigned, since the vendor's scheme is not published
        "SANDBOX": True,  # testnet network codes
        "MINIMUM": Decimal(30),  # of amountBilled, in any billed currency
        "MAXIMUM": Decimal(100000),
        "TARGET_FEE_PERCENT": Decimal(1),
    }

    # --- Statuses and buttons (invoice-status-flow; invoice-refunds) ---
    open_statuses = (PENDING, EXPIRED)
    rules = {
        "choose": ((), "creating-invoice: chargedCurrency and network are fixed"),
        "pay": (FIRST_PAYMENT, "invoice-status-flow; help centre 13350514: a single payment per invoice"),
        "pay_part": (FIRST_PAYMENT, "invoice-status-flow: underpaid"),
        "pay_more": (FIRST_PAYMENT, "invoice-status-flow: overpaid"),
        "confirm": ((PROCESSING, ON_HOLD, REJECTED), "invoice-status-flow: processing is detected, unconfirmed"),
        "expire": ((PENDING,), "invoice-status-flow: expired, not final"),
        "cancel": ((EXPIRED,), "invoice-status-flow: cancelled after 168 hours without a payment"),
        "hold": ((PENDING, EXPIRED, PROCESSING), "invoice-status-flow: on_hold, compliance review"),
        "release": ((ON_HOLD,), "invoice-status-flow: on_hold is not final"),
        "reject": ((ON_HOLD,), "invoice-status-flow: rejected, compliance refused"),
        "refund_link": ((PROCESSING, COMPLETED), "invoice-refunds: policies for underpaid, overpaid and late payments"),
    }
    who = {"cancel": "clock"}

    def obstacle(self, payment, action):
        source = self.rules[action][1]
        transfer = payment.transfers.first()
        if action.startswith("pay") and transfer:
            return Refused("an invoice takes a single payment", source)
        if action == "refund_link":
            if payment.data["refund_links"]:
                return Refused("there is a refund link already", source)
            if payment.status == COMPLETED and transfer.amount <= payment.pay_amount:
                return Refused("only the excess of a credited payment goes back", source)
            if transfer.amount == payment.pay_amount and not transfer.late:
                return Refused("it is neither late nor of a wrong amount", source)
        return None

    def options(self, payment):
        return [(payment.pay_currency, payment.network)]

    def links(self, payment):
        outcomes = {
            COMPLETED: "successRedirectUrl",
            **dict.fromkeys((EXPIRED, CANCELLED, REJECTED), "unsuccessRedirectUrl"),
        }
        url = payment.data.get(outcomes.get(payment.status))
        return [("Back to the shop", url)] if url else []

    def rest(self, payment):
        return max(payment.pay_amount - sum(transfer.amount for transfer in payment.transfers.all()), Decimal(0))

    def on_money(self, payment, transfer, now):
        if payment.status in (PENDING, EXPIRED, PROCESSING):
            self.change(payment, _status(payment, now), now)

    def on_clock(self, payment, now):
        status = CANCELLED if now >= payment.created_at + LISTENING else EXPIRED
        if status != payment.status:
            self.change(payment, status, now)

    def waits_for_clock(self, now):
        return Q(status=PENDING, expires_at__lte=now) | Q(status=EXPIRED, created_at__lte=now - LISTENING)

    def cancel(self, payment, now):
        self.change(payment, CANCELLED, now)

    def hold(self, payment, now):
        self.change(payment, ON_HOLD, now)

    def release(self, payment, now):
        self.change(payment, _status(payment, now), now)

    def reject(self, payment, now):
        self.change(payment, REJECTED, now)

    def refund_link(self, payment, now):
        """The account's policy: an excess goes back, or a wrong or late payment is rejected and all of it goes back.

        That a rejected one becomes cancelled is our choice: no other status but completed may go with onTime and late.
        """
        transfer = payment.transfers.get()
        amount = transfer.amount - payment.pay_amount
        if payment.status == PROCESSING:
            amount, payment.status = transfer.amount, CANCELLED
            transfer.confirmed_at = now
            transfer.save(update_fields=["confirmed_at"])
        amount -= coins.round_up(REFUND_FEE / transfer.price, transfer.currency)
        if amount > 0:
            link = {"id": str(uuid.uuid4()), "amount": documents.money(amount, transfer.currency), "createdAt": iso(now)}
            payment.data["refund_links"].append(link)
        self.change(payment, payment.status, now)

    def change(self, payment, status, now):
        payment.status = status
        # The vendor's dashboard: events of a key that was deleted are no longer sent.
        if payment.account in self.account_settings["API_KEYS"]:
            body = payload.dumps(documents.invoice(payment, loaded=True))
            callbacks.enqueue(payment, status, body, {"webhook-id": f"msg_{uuid.uuid4().hex}"}, now)

    # --- Documents, errors, authentication (authenticating-the-api, creating-invoice) ---
    def authenticate(self, request):
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or key not in self.account_settings["API_KEYS"]:
            raise ApiError(401, "unauthorized", "", "")
        return key

    def success(self, data):
        return data  # the views answer themselves: what is created answers 201

    def refuse(self, error):
        return _answer({"errors": [documents.error(error)]}, 422 if error.kind == "validation" else error.status)

    def failure(self, status):
        return _answer({"errors": [{"status": status, "title": f"HTTP {status}", "code": f"http_{status}"}]}, status)

    # --- Webhooks (retrying-schedule: eight attempts, any 2xx accepts) ---
    retry_delays = (5, 300, 1800, 7200, 18000, 36000, 36000)

    def callback_headers(self, job):
        secret = self.account_settings["WEBHOOK_SECRET"]
        if not secret:
            return {}
        stamp = str(unix(timezone.now()))
        signature = sign(job.headers["webhook-id"], stamp, bytes(job.body), secret)
        return {**job.headers, "webhook-timestamp": stamp, "webhook-signature": signature}


GATEWAY = Txn()


def _answer(content, status):
    return HttpResponse(payload.dumps(content), status=status, content_type=MEDIA_TYPE)


def _success(content, status=200):
    return _answer({**content, "jsonapi": {"version": "1.0"}}, status)


# --- Signing (https://docs.svix.com/receiving/verifying-payloads/how-manual) ---
def sign(message_id, timestamp, body, secret):
    """The ``webhook-signature`` header: "v1," and the base64 HMAC-SHA256 of id, timestamp and raw body."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


# --- Statuses (invoice-status-flow) ---
def _status(payment, now):
    """What an invoice that nobody holds is."""
    transfer = payment.transfers.first()
    if transfer is None:
        return EXPIRED if now >= payment.expires_at else PENDING
    return COMPLETED if transfer.confirmed else PROCESSING


# --- Endpoints: create ---
def create_invoice(request, merchant):
    given = read(_attributes(request), INVOICE_PARAMETERS)
    billed, charged = given["billedCurrency"], given["chargedCurrency"]
    network = _network(given["network"].lower(), billed, charged)
    amount, settings = amount_in("amountBilled", given["amountBilled"]), GATEWAY.account_settings
    if amount < settings["MINIMUM"]:
        raise _limit("below", amount, settings["MINIMUM"])
    if amount > settings["MAXIMUM"]:
        raise _limit("above", amount, settings["MAXIMUM"])
    methods = given.get("paymentMethods", ["on_chain"])
    if len(methods) != 1:
        raise ApiError(422, "payment_methods_conflict", "", "")
    if methods != ["on_chain"]:
        raise BadField("paymentMethods", f"{methods[0]} is not enabled")
    target = given.get("targetCurrency", billed)
    if target not in TRADABLE:
        raise BadField("targetCurrency", f"Target currency {target} is not tradable")
    account = given.get("targetAccountId", documents.account_id(merchant, target))
    if account != documents.account_id(merchant, target) or ("targetAccountId" in given and "targetCurrency" not in given):
        raise BadField("targetAccountId", "Target account is not an account of the target currency")
    rate = documents.rate(charged, billed)
    now = timezone.now()
    payment = GATEWAY.new_payment(
        merchant,
        "invoice",
        PENDING,
        gateway_id=str(uuid.uuid4()),
        created_at=now.replace(microsecond=now.microsecond // 1000 * 1000),
        reference=given.get("reference", ""),
        amount=amount,
        currency=billed,
        pay_currency=charged,
        network=network,
        address=coins.new_address(network),
        memo=new_number(8) if coins.NETWORKS[network].memo else "",
        pay_amount=Decimal(documents.money(amount / rate, charged)),
        callback_url=settings["WEBHOOK_URL"],
    )
    payment.expires_at = payment.created_at + LIFETIME
    payment.data = {
        **{name: given.get(name) for name in ("successRedirectUrl", "unsuccessRedirectUrl")},
        "network": given["network"].lower(),
        "paymentMethods": methods,
        "targetCurrency": target,
        "exchangeRate": format_amount(rate),
        "fee_percent": format_amount(settings["TARGET_FEE_PERCENT"]),
        "hostedPageUrl": GATEWAY.payer_page(request, payment),
        "refund_links": [],
    }
    with transaction.atomic():
        if payment.reference and GATEWAY.payments(merchant).filter(reference=payment.reference).exists():
            raise BadField("externalId", "Reference has already been taken")  # an internal name, as documented
        payment.save()
        GATEWAY.change(payment, PENDING, payment.created_at)
    return _success(documents.invoice(payment, loaded=False), 201)


def _attributes(request):
    try:
        data = api.body(request, media_type=MEDIA_TYPE).get("data")
    except BadField as error:
        raise ApiError(400, "bad_request", "", error.message) from None
    if not isinstance(data, dict) or data.get("type") != "invoices" or not isinstance(data.get("attributes"), dict):
        raise ApiError(400, "bad_request", "", "data must have the type invoices, and attributes")
    return {name: value for name, value in data["attributes"].items() if value is not None}


def _network(code, billed, charged):
    """The network of a code. Raises ``ApiError`` where the coin, the price's currency or the code is not offered."""
    codes = _codes()
    if coins.usd_price(billed) is None or charged not in [symbol for symbol, _ in codes.values()]:
        raise _not_supported()
    if code not in codes:
        raise not_found("network")
    symbol, network = codes[code]
    if symbol != charged:
        raise _not_supported()
    return network


def _codes():
    prefix = "t" if GATEWAY.account_settings["SANDBOX"] else ""
    return {prefix + code: pair for code, pair in NETWORK_CODES.items()}


def _not_supported():
    return ApiError(422, "currency_pair_not_supported", "", "")


def _limit(side, amount, limit):
    text = format_amount(amount)
    name = {"below": "minimum", "above": "maximum"}[side]
    return ApiError(422, f"amount_{side}_{name}", "", f"amount: {text if '.' in text else text + '.0'}, {name}: {limit:.2f}")


# --- Endpoints: read ---
def read_invoice(request, merchant, gateway_id):
    return _success(documents.invoice(api.find(GATEWAY, merchant, gateway_id, "invoice"), loaded=True))


def list_invoices(request, merchant):
    given = read(request.GET.dict(), LIST_PARAMETERS)
    actions.advance_due()
    rows = GATEWAY.payments(merchant)
    if "reference" in given:
        rows = rows.filter(reference=given["reference"])
    for name, condition in (("created_at_from", "created_at__gte"), ("created_at_to", "created_at__lte")):
        if name in given:
            rows = rows.filter(**{condition: _moment(name, given[name])})
    newest_first = given.get("order_type", "desc") == "desc"
    found = list(rows.order_by("-created_at", "-pk") if newest_first else rows.order_by("created_at", "pk"))
    shown, _ = api.page_of(found, given.get("page", 1), given.get("per_page", 25))
    items = [documents.invoice(payment, loaded=False) for payment in shown]
    included = {one["id"]: one for item in items for one in item["included"]}
    return _success({"data": [item["data"] for item in items], "included": list(included.values()), "meta": {}})


def _moment(name, text):
    try:
        moment = parse_datetime(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise BadField(name, f"{name} is not an ISO 8601 date and time")
    return moment


def currency_pairs(request, merchant):
    return _success(documents.currency_pairs(_codes()))


def exchange_rate(request, merchant):
    given = read(request.GET.dict(), RATE_PARAMETERS)
    quote, base = given["sell_currency_code"], given["buy_currency_code"]
    if coins.usd_price(quote) is None or coins.usd_price(base) is None:
        raise _not_supported()
    return _success(documents.exchange_rate(base, quote))


_INVOICES = "api/public/v1/invoices"
GATEWAY.urlpatterns = [
    route(GATEWAY, _INVOICES, POST=create_invoice, GET=list_invoices),
    route(GATEWAY, f"{_INVOICES}/currency_pairs", GET=currency_pairs),
    route(GATEWAY, f"{_INVOICES}/(?P<gateway_id>[^/]+)", GET=read_invoice),
    route(GATEWAY, "api/public/v1/exchange/rate", GET=exchange_rate),
    route(GATEWAY, "api/public/v1/.*", public=True),
]
