"""OxaPay, merchant API v1, as its documentation describes it.

Sources: https://docs.oxapay.com/api-reference (payment, common, error), https://docs.oxapay.com/webhook, the help centre at
https://oxapay.help and the vendor's own SDKs. Where all of them are silent, the choice is marked "our choice".
Base URL: ``simulator/oxapay/v1``. The payer's page stands in for https://pay.oxapay.com/<merchant number>/<track_id>.
"""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django.db import transaction
from django.http import HttpResponse
from django.utils import timezone

from crypto_invoices.providers import payload

from . import actions, callbacks, coins
from . import oxapay_documents as documents
from .api import ApiError, answer, find, not_found, page_of, read_body, route
from .errors import BadField, Refused
from .gateway import Gateway, usd_sent
from .models import new_number
from .parameters import Parameter, read

INVOICE, WHITE_LABEL, STATIC = "invoice", "white_label", "static_address"
NEW, WAITING, PAYING, PAID, MANUAL = "new", "waiting", "paying", "paid", "manual_accept"
UNDERPAID, REFUNDING, REFUNDED, EXPIRED = "underpaid", "refunding", "refunded", "expired"

PAYABLE = (NEW, WAITING, PAYING, UNDERPAID, EXPIRED)

# Webhook, "Status": callbacks are sent on paying and paid, in title case; everything else is found by polling.
CALLBACK_WORDS = {PAYING: "Paying", PAID: "Paid"}

# --- Parameters (generate-invoice, generate-white-label, static address, payment-history) ---
# Numbers as text and flags as 0 and 1 are taken, as the vendor's own plugins send them; lifetime must be a real integer.
_CALLBACK = {name: Parameter() for name in ("callback_url", "email", "order_id", "description")}
_AMOUNT = {
    "amount": Parameter("number", required=True, high=Decimal(10) ** 12),  # the limit is our choice
    "currency": Parameter(),
    "lifetime": Parameter("integer", low=15, high=2880),
    "fee_paid_by_payer": Parameter("number", low=0, high=1),
    "under_paid_coverage": Parameter("number", low=0, high=60),
    "to_currency": Parameter(choices=("USDT",)),
    "auto_withdrawal": Parameter("flag"),
    **_CALLBACK,
}
INVOICE_PARAMETERS = {
    **_AMOUNT,
    "mixed_payment": Parameter("flag"),
    "return_url": Parameter(),
    "thanks_message": Parameter(),
    "sandbox": Parameter("flag"),
}
WHITE_LABEL_PARAMETERS = {**_AMOUNT, "pay_currency": Parameter(required=True), "network": Parameter()}
STATIC_PARAMETERS = {
    "network": Parameter(required=True),
    "to_currency": Parameter(choices=("USDT",)),
    "auto_withdrawal": Parameter("flag"),
    **_CALLBACK,
}
_PAGE = {"page": Parameter("digits", low=1), "size": Parameter("digits", low=1, high=200)}
HISTORY_PARAMETERS = {
    "track_id": Parameter("digits"),
    "type": Parameter(choices=(INVOICE, WHITE_LABEL, STATIC)),
    "status": Parameter(),
    **{name: Parameter() for name in ("pay_currency", "currency", "network", "address")},
    **{name: Parameter("digits", high=253402300799) for name in ("from_date", "to_date")},
    **{name: Parameter("number") for name in ("from_amount", "to_amount")},
    "sort_by": Parameter(choices=("create_date", "pay_date", "amount")),
    "sort_type": Parameter(choices=("asc", "desc")),
    **_PAGE,
}
STATIC_LIST_PARAMETERS = {
    "track_id": Parameter("digits"),
    **{name: Parameter() for name in ("network", "currency", "address", "order_id", "email")},
    "have_tx": Parameter("flag"),
    **_PAGE,
}


class OxaPay(Gateway):
    name = "oxapay"
    title = "OxaPay"
    settings = {
        "MERCHANT_API_KEYS": ["SIMUL8-SIMUL8-SIMUL8-SIMUL8"],  # each is a merchant; it also signs that merchant's callbacks
        "MODULE_NAME": "Demo shop",
        "COMMISSION_PERCENT": Decimal("0.4"),
        "FEE_PAID_BY_PAYER": Decimal(0),  # these three: what a call that does not say gets ("Merchant setting")
        "UNDER_PAID_COVERAGE": Decimal(0),
        "MIXED_PAYMENT": True,
    }

    # --- Statuses and buttons (payment-status-table; help centre, "underpaid, expired or incomplete invoices") ---
    open_statuses = (NEW, WAITING, PAYING)
    rules = {
        "choose": ((NEW, WAITING, PAYING), "payment-status-table: new, waiting; generate-invoice: mixed_payment"),
        # Over: nothing is said about money after "paid", so nothing is pretended. Late money: help centre.
        "pay": (PAYABLE, "payment-status-table; what happens to money after paid is not documented"),
        "pay_part": (PAYABLE, "help centre: a short payment stays paying until topped up or expired"),
        "pay_more": (PAYABLE, "legacy creating-an-invoice: exact or higher is accepted"),
        "confirm": (
            (PAYING, PAID, UNDERPAID, EXPIRED, MANUAL, REFUNDING, REFUNDED),
            "webhook: txs[].status confirming, confirmed",
        ),
        "expire": ((NEW, WAITING, PAYING), "payment-status-table: expired, underpaid"),
        "accept": ((UNDERPAID, EXPIRED), "payment-status-table: manual_accept"),
        "refund": ((PAID, UNDERPAID, MANUAL), "payment-status-table: refunding; started in the merchant's panel"),
        "finish_refund": ((REFUNDING,), "payment-status-table: refunded"),
    }
    static_kinds = (STATIC,)
    static_rules = {
        "pay": ((WAITING, PAYING, PAID), "generate-static-address"),
        "confirm": ((PAYING, PAID), "webhook: txs[].status confirming, confirmed"),
    }

    def obstacle(self, payment, action):
        if action == "pay" and payment.data.get("revoked"):
            return Refused("the address was revoked", "revoking-static-address")
        if action == "choose" and payment.kind == WHITE_LABEL:
            return Refused("the coin of a white-label payment is fixed", "generate-white-label: pay_currency")
        if action == "choose" and payment.status == PAYING and not payment.data["mixed_payment"]:
            return Refused("the rest must be paid in the same coin", "generate-invoice: mixed_payment")
        return None

    def links(self, payment):
        url = payment.data.get("return_url", "")
        return [("Back to the shop", url)] if url and payment.status == PAID else []

    def choose(self, payment, now, currency="", network=""):
        super().choose(payment, now, currency, network)
        if payment.status == NEW:
            payment.status = WAITING

    def accept(self, payment, now):
        payment.status, payment.paid_at = MANUAL, now

    def refund(self, payment, now):
        payment.status = REFUNDING

    def finish_refund(self, payment, now):
        payment.status = REFUNDED

    def rest(self, payment):
        missing = max(self._due(payment) - usd_sent(payment), Decimal(0))
        return coins.round_up(missing / coins.usd_price(payment.pay_currency), payment.pay_currency)

    def on_money(self, payment, transfer, now):
        if payment.kind == STATIC:
            # Our choice: one track_id for the address, one Paying and one Paid for every deposit, the status of the last.
            self._change(payment, PAID if transfer.confirmed else PAYING, now, [transfer])
        elif payment.status in self.open_statuses:
            if usd_sent(payment, late=False, confirmed_at__isnull=False) >= self._enough(payment):
                self._change(payment, PAID, now)
            elif payment.status != PAYING:
                self._change(payment, PAYING, now)

    def on_clock(self, payment, now):
        sent = usd_sent(payment, late=False)
        if sent >= self._enough(payment):
            return  # all is there and waits for its confirmation
        self._change(payment, UNDERPAID if sent else EXPIRED, now)

    def _due(self, payment):
        commission = Decimal(payment.data["fee_paid_by_payer"]) * Decimal(payment.data["commission_percent"])
        return payment.amount * coins.usd_price(payment.currency) * (1 + commission / 100)

    def _enough(self, payment):
        return self._due(payment) * (1 - Decimal(payment.data["under_paid_coverage"]) / 100)

    def _change(self, payment, status, now, transfers=None):
        payment.status = status
        if status == PAID:
            payment.paid_at = now
        if status in CALLBACK_WORDS:
            word, told = CALLBACK_WORDS[status], list(transfers or payment.transfers.all())
            body = payload.dumps(documents.webhook(payment, word, told, self.account_settings["MODULE_NAME"]))
            callbacks.enqueue(payment, word, body, {"HMAC": sign(body, payment.account)}, now)

    # --- Envelope, errors, authentication (error; header merchant_api_key). The texts and error keys are our choice. ---
    def authenticate(self, request):
        key = request.META.get("HTTP_MERCHANT_API_KEY", "")
        if key not in self.account_settings["MERCHANT_API_KEYS"]:
            raise ApiError(401, "authentication", "invalid_merchant_api_key", "The merchant API key is invalid.")
        return key

    def success(self, data):
        return _envelope(200, data, "Operation completed successfully!", {})

    def refuse(self, error):
        details = {"type": error.kind, "key": error.key, "message": str(error)}
        return _envelope(error.status, {}, "Problem in your request.", details)

    def failure(self, status):
        if status == 502:  # comes from the proxy in front
            return HttpResponse("<html><head><title>502 Bad Gateway</title></head></html>", status=502)
        return self.refuse(ApiError(status, "server", f"http_{status}", "Please try again later."))

    # --- Callbacks (webhook): success is 200 with "ok", five attempts in all ---
    retry_delays = (60, 180, 1800, 10800)

    def callback_accepted(self, status, answer):
        return status == 200 and answer.strip().lower() == "ok"


GATEWAY = OxaPay()


def _envelope(status, data, message, error):
    return answer({"data": data, "message": message, "error": error, "status": status, "version": "1.0.0"}, status)


# --- Signing (webhook, "Validating callbacks") ---
def sign(body, key):
    """The ``HMAC`` header: HMAC-SHA512 of the raw body, lower-case hex."""
    return hmac.new(key.encode(), body, hashlib.sha512).hexdigest()


# --- Endpoints: create ---
def create_invoice(request, merchant):
    given = read_body(request, INVOICE_PARAMETERS)
    with transaction.atomic():
        payment = _new_payment(merchant, INVOICE, NEW, given)
    return documents.invoice(payment, GATEWAY.payer_page(request, payment))


def create_white_label(request, merchant):
    given = read_body(request, WHITE_LABEL_PARAMETERS)
    symbol, network = given["pay_currency"].upper(), None
    if symbol not in coins.COINS:
        raise BadField("pay_currency", "The pay_currency is not supported.")
    if "network" in given:
        network = coins.find_network(given["network"])
        if network not in coins.COINS[symbol].networks:
            raise BadField("network", "The network does not support the pay_currency.")
    with transaction.atomic():
        payment = _new_payment(merchant, WHITE_LABEL, WAITING, given)
        GATEWAY.choose(payment, payment.created_at, symbol, network or "")
        payment.save()
    return documents.white_label(payment)


def create_static_address(request, merchant):
    given = read_body(request, STATIC_PARAMETERS)
    network = coins.find_network(given["network"])
    if network is None:
        raise BadField("network", "The network is not supported.")
    payment = _row(merchant, STATIC, WAITING, given, network=network, address=coins.new_address(network))
    if coins.NETWORKS[network].memo:
        payment.memo = new_number(8)
    payment.save()
    return documents.address(payment)


def revoke_static_address(request, merchant):
    given = read_body(request, {"address": Parameter(required=True), "network": Parameter()})
    with transaction.atomic():
        payment = GATEWAY.payments(merchant).select_for_update().filter(kind=STATIC, address=given["address"]).first()
        if payment is None or payment.data.get("revoked"):
            raise not_found("address")
        payment.data["revoked"] = True
        payment.save()
    return {}


def _new_payment(merchant, kind, status, given):
    settings = GATEWAY.account_settings
    currency = given.get("currency", "USD").upper()
    if coins.usd_price(currency) is None:
        raise BadField("currency", "The currency is not supported.")
    if not given["amount"]:
        raise BadField("amount", "The amount field must be greater than 0.")
    lifetime = given.get("lifetime", 60)
    data = {
        "lifetime": lifetime,
        "fee_paid_by_payer": str(given.get("fee_paid_by_payer", settings["FEE_PAID_BY_PAYER"])),
        "under_paid_coverage": str(given.get("under_paid_coverage", settings["UNDER_PAID_COVERAGE"])),
        "mixed_payment": given.get("mixed_payment", settings["MIXED_PAYMENT"]),
        "sandbox": given.get("sandbox", False),
    }
    payment = _row(merchant, kind, status, given, amount=given["amount"], currency=currency)
    payment.data |= data | {name: given.get(name, "") for name in ("return_url", "thanks_message")}
    payment.expires_at = payment.created_at + timedelta(minutes=lifetime)
    payment.save()
    return payment


def _row(merchant, kind, status, given, **columns):
    return GATEWAY.new_payment(
        merchant,
        kind,
        status,
        reference=given.get("order_id", ""),
        callback_url=given.get("callback_url", ""),
        created_at=timezone.now().replace(microsecond=0),
        data={name: given.get(name, "") for name in ("email", "description", "to_currency")}
        | {
            "auto_withdrawal": given.get("auto_withdrawal", False),
            "commission_percent": str(GATEWAY.account_settings["COMMISSION_PERCENT"]),
        },
        **columns,
    )


# --- Endpoints: read ---
def payment_information(request, merchant, track_id):
    return documents.information(find(GATEWAY, merchant, track_id, "track_id"))


def payment_history(request, merchant):
    given = read(request.GET.dict(), HISTORY_PARAMETERS)
    actions.advance_due()
    rows = _filtered(merchant, given, type="kind", pay_currency="pay_currency", currency="currency", address="address")
    if "status" in given:
        rows = rows.filter(status=given["status"].lower())
    if "from_date" in given:
        rows = rows.filter(created_at__gte=datetime.fromtimestamp(given["from_date"], UTC))
    if "to_date" in given:
        rows = rows.filter(created_at__lte=datetime.fromtimestamp(given["to_date"], UTC))
    low, high = given.get("from_amount", Decimal(0)), given.get("to_amount", Decimal("Infinity"))
    found = [payment for payment in rows if low <= (payment.amount or 0) <= high]
    orders = {
        "create_date": lambda payment: (payment.created_at, payment.pk),
        "pay_date": lambda payment: (payment.paid_at or datetime.min.replace(tzinfo=UTC), payment.pk),
        "amount": lambda payment: (payment.amount or Decimal(0), payment.pk),
    }
    found.sort(key=orders[given.get("sort_by", "create_date")], reverse=given.get("sort_type", "desc") == "desc")
    return _page(found, given, documents.information)


def static_addresses(request, merchant):
    given = read(request.GET.dict(), STATIC_LIST_PARAMETERS)
    rows = _filtered(merchant, given, address="address", order_id="reference", email="data__email").filter(kind=STATIC)
    found = [payment for payment in rows if not payment.data.get("revoked")]
    if "currency" in given:
        coin = coins.COINS.get(given["currency"].upper())
        found = [payment for payment in found if coin and payment.network in coin.networks]
    if "have_tx" in given:
        found = [payment for payment in found if payment.transfers.exists() == given["have_tx"]]
    return _page(found, given, documents.static_item)


def _filtered(merchant, given, **columns):
    columns |= {"track_id": "gateway_id"}
    rows = GATEWAY.payments(merchant).filter(**{column: given[name] for name, column in columns.items() if name in given})
    return rows.filter(network=coins.find_network(given["network"]) or "unknown") if "network" in given else rows


def _page(found, given, render):
    page = given.get("page", 1)
    shown, last = page_of(found, page, given.get("size", 10))
    return {"list": [render(payment) for payment in shown], "meta": {"page": page, "last_page": last, "total": len(found)}}


# --- Endpoints: common ---
def accepted_currencies(request, merchant):
    return {"list": list(coins.COINS)}


def currencies(request):
    def item(symbol, coin):
        networks = {coins.NETWORKS[key].title: documents.network_item(key) for key in coin.networks}
        return {"symbol": symbol, "name": coin.title, "status": True, "networks": networks}

    return {symbol: item(symbol, coin) for symbol, coin in coins.COINS.items()}


def networks(request):
    return {"list": [documents.network_name(key) for key in coins.NETWORKS]}


def fiats(request):
    return {symbol: {"price": price, "display_precision": places} for symbol, (price, places) in coins.FIATS.items()}


def prices(request):
    return {symbol: coin.price for symbol, coin in coins.COINS.items()}


def monitor(request):
    return {"status": True}


GATEWAY.urlpatterns = [
    route(GATEWAY, "v1/payment/invoice", POST=create_invoice),
    route(GATEWAY, "v1/payment/white-label", POST=create_white_label),
    route(GATEWAY, "v1/payment/static-address", POST=create_static_address, GET=static_addresses),
    route(GATEWAY, "v1/payment/static-address/revoke", creates=False, POST=revoke_static_address),
    route(GATEWAY, "v1/payment/accepted-currencies", GET=accepted_currencies),
    route(GATEWAY, "v1/payment/(?P<track_id>[0-9]+)", GET=payment_information),
    route(GATEWAY, "v1/payment", GET=payment_history),
    route(GATEWAY, "v1/common/currencies", public=True, GET=currencies),
    route(GATEWAY, "v1/common/networks", public=True, GET=networks),
    route(GATEWAY, "v1/common/fiats", public=True, GET=fiats),
    route(GATEWAY, "v1/common/prices", public=True, GET=prices),
    route(GATEWAY, "v1/common/monitor", public=True, GET=monitor),
    route(GATEWAY, "v1/.*", public=True),
]
