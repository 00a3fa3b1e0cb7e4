"""OnchainPay, its API gateway, as its documentation describes it.

Sources: https://docs.onchainpay.io (authorization, signature, api-reference, webhooks), the sister copy at
https://docs.apollopayment.io and the vendor's SDKs at https://github.com/onchainpay. Where all of them are silent, the
choice is marked "our choice".
Base URL: ``simulator/onchainpay/api-gateway``. The payer's page stands in for ``invoiceLink`` and an order's ``link``.
"""

import hashlib
import hmac
import uuid
from datetime import timedelta
from decimal import Decimal
from functools import partial

from django.db import transaction

from crypto_invoices.money import format_amount
from crypto_invoices.providers import payload

from . import actions, callbacks, coins
from . import onchainpay_documents as documents
from . import onchainpay_users as users
from .api import ApiError, answer, body, find, read_body, route
from .errors import BadField
from .gateway import Gateway, iso
from .models import Nonce, Transfer, new_number
from .onchainpay_documents import CREATED, ERROR, EXPIRED, INIT, INVOICE, ORDER, PARTIAL, PENDING, REJECTED, USER, WORDS
from .parameters import Parameter

PAYABLE = WORDS[:-2]  # all but REJECTED and ERROR
LONGEST = 43200  # seconds; 05orders: the longest lifetime of an order, which an invoice's order gets

# --- Parameters (make-invoice, make-order, personal addresses). Limits that the pages do not give are our choice. ---
_PERCENT = Parameter("number", low=0, high=100)
INVOICE_PARAMETERS = {
    "currency": Parameter(required=True),
    "amount": Parameter("number", required=True, high=Decimal(10) ** 12),
    "lifetime": Parameter("integer", required=True, low=1, high=525600),  # minutes
    **{name: Parameter(high=255) for name in ("externalId", "order", "externalUserId", "payerEmail")},
    "description": Parameter(),
    "includeFee": Parameter("flag"),
    "additionalFees": Parameter("texts", choices=tuple(documents.INVOICE_FEES)),
    **{name: _PERCENT for name in ("insurancePercent", "slippagePercent", "paymentTolerancePercent")},
    **{name: Parameter("url") for name in ("webhookURL", "returnURL")},
    "advancedBalanceId": Parameter(),
}
ORDER_PARAMETERS = {
    **{name: Parameter(required=True) for name in ("currency", "network")},
    "amount": Parameter("number", required=True, high=Decimal(10) ** 12),
    "order": Parameter(required=True, high=255),
    "lifetime": Parameter("integer", high=LONGEST),  # seconds
    "paymentTolerancePercent": _PERCENT,
    **{name: Parameter("url") for name in ("errorWebhook", "successWebhook", "returnUrl")},
    **{name: Parameter() for name in ("description", "externalUserId", "payerEmail", "advancedBalanceId")},
    "checkRisks": Parameter("flag"),
}
_PAGE = {"limit": Parameter("integer", low=1, high=100), "offset": Parameter("integer", low=0)}


def _both(*words):
    """The words of an invoice, and of an order, which writes them small."""
    return words + tuple(word.lower() for word in words)


class OnchainPay(Gateway):
    name = "onchainpay"
    title = "OnchainPay"
    settings = {"KEY_PAIRS": {"simulator-public-key": "simulator-secret-key"}}  # public key: secret; each pair is a merchant

    # --- Statuses and buttons (07invoices and 05orders, "Possible statuses"; CREATED: the vendor's SDKs) ---
    open_statuses = _both(CREATED, INIT, PENDING)
    rules = {
        "choose": ((CREATED,), "07invoices: the payer chooses the coin and the network, which makes the order"),
        "pay": (_both(*PAYABLE), "webhooks: processed, expired, partial and overpaid are not final"),
        "pay_part": (_both(CREATED, INIT, PENDING, PARTIAL, EXPIRED), "07invoices: PARTIAL; 05orders: expired but part paid"),
        "pay_more": (_both(*PAYABLE), "07invoices: OVERPAID"),
        "confirm": (_both(*WORDS), "07invoices: PENDING waits for confirmations"),
        "expire": (_both(CREATED, INIT, PENDING), "07invoices: EXPIRED, also when no coin was chosen in time"),
        "reject": ((CREATED, INIT, PENDING), "07invoices: REJECTED; an order has no such word"),
        "fail": (_both(CREATED, INIT, PENDING), "07invoices: ERROR; 05orders: error"),
    }
    static_kinds = (USER,)
    static_rules = {
        "pay": ((users.ACTIVE,), "personal_addresses: any number of deposits"),
        "confirm": ((users.ACTIVE,), "05orders: transactions are pending, then processed"),
    }

    def options(self, payment):
        return [tuple(pair) for pair in payment.data.get("pairs", documents.OFFERED)]

    def links(self, payment):
        url = payment.data.get("returnURL") or payment.data.get("returnUrl")
        return [("Back to the shop", url)] if url else []

    def choose(self, payment, now, currency="", network=""):
        super().choose(payment, now, currency, network)
        users.take_address(self, payment)
        payment.data |= {"order_id": str(uuid.uuid4()), "ordered_at": iso(now), "choice_until": iso(payment.expires_at)}
        payment.expires_at = now + timedelta(seconds=LONGEST)
        self._change(payment, INIT, now)

    def pay(self, payment, now, amount=None, currency="", network=""):
        if payment.kind == USER:
            payment.pay_currency, payment.network = self.option(payment, currency, network)
            row = users.address_row(payment, payment.pay_currency, payment.network)
            payment.address, payment.memo = row["address"], row["tag"] or ""
        super().pay(payment, now, amount, currency, network)

    def pay_more(self, payment, now, amount=None, currency="", network=""):
        if payment.address and not self.rest(payment):
            self.receive(payment, now, amount or coins.round_up(payment.pay_amount / 10, payment.pay_currency))
        else:
            super().pay_more(payment, now, amount, currency, network)

    def reject(self, payment, now):
        self._change(payment, REJECTED, now)

    def fail(self, payment, now):
        self._change(payment, ERROR, now)

    def rest(self, payment):
        sent = sum(transfer.amount for transfer in payment.transfers.all())
        return max(documents.due(payment, payment.pay_currency) - sent, Decimal(0))

    def on_money(self, payment, transfer, now):
        if payment.kind == USER:
            self._tell(payment, "deposit", users.deposit_object(payment, transfer), now)
        elif payment.status not in _both(REJECTED, ERROR):
            self._change(payment, documents.status(payment, now), now, tell=not transfer.confirmed)

    def on_clock(self, payment, now):
        self._change(payment, documents.status(payment, now), now)

    def _change(self, payment, status, now, tell=False):
        """A webhook follows a change, and with ``tell`` the new transaction (07invoices)."""
        before = payment.status
        payment.status = status.lower() if payment.kind == ORDER else status
        if payment.status == before and not tell:
            return
        if payment.kind == INVOICE:  # its body is not documented: what get-invoice answers
            self._tell(payment, payment.status, documents.invoice(payment), now)
        else:  # make-order: errors and the end of the time go to errorWebhook. That a late part goes there too, and every
            # other word, not processed alone, to successWebhook, is our choice
            url = "errorWebhook" if status in (ERROR, EXPIRED, PARTIAL) else "successWebhook"
            self._tell(payment, payment.status, documents.told_order(payment), now, payment.data.get(url, ""))

    def _tell(self, payment, word, content, now, url=None):
        secret = self.account_settings["KEY_PAIRS"].get(payment.account)
        if secret:  # a pair that was taken out of the settings signs no more
            content = payload.dumps(content)
            headers = {"x-api-public-key": payment.account, "x-api-signature": sign(content, secret)}
            callbacks.enqueue(payment, word, content, headers, now, url)

    # --- Envelope, errors, authentication (authorization, signature). HTTP statuses and errors' names are our choice. ---
    def authenticate(self, request):
        key = request.headers.get("x-api-public-key", "")
        if key not in self.account_settings["KEY_PAIRS"]:
            raise ApiError(401, "unauthorized", "", "The public key is unknown.")
        if not self.signature_matches(request, key):
            raise ApiError(401, "unauthorized", "", "The signature does not match the body.")
        _use_nonce(key, body(request).get("nonce"))
        return key

    def signature_matches(self, request, key):
        """Whether the header signs the raw body."""
        given = request.headers.get("x-api-signature", "").encode()
        return hmac.compare_digest(sign(request.body, self.account_settings["KEY_PAIRS"][key]).encode(), given)

    def success(self, data):
        return answer({"success": True, "response": data})

    def refuse(self, error):
        message = f"{error.key}: {error}" if error.kind == "validation" else str(error)
        details = {"name": f"{error.kind.title().replace('_', '')}Error", "message": message, "code": error.status}
        return answer({"success": False, "error": details, "requestId": str(uuid.uuid4())}, error.status)

    def failure(self, status):
        return self.refuse(ApiError(status, "server", "", "Please try again later."))

    # --- Webhooks: 200 accepts; 6 tries at 10 s, 5 at 30 min, 4 at 2 h, 3 at 12 h, after the first (our reading) ---
    retry_delays = (10,) * 6 + (1800,) * 5 + (7200,) * 4 + (43200,) * 3

    def callback_accepted(self, status, answer):
        return status == 200


GATEWAY = OnchainPay()


# --- Signing (signature): the secret's text as it stands, over the raw body ---
def sign(content, secret):
    """The ``x-api-signature`` header: HMAC-SHA256 in lower-case hex."""
    return hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()


def _use_nonce(key, nonce):
    """A number or a text, once for each public key, whatever becomes of the call. Raises ``BadField``."""
    if isinstance(nonce, bool) or not isinstance(nonce, (int, Decimal, str)) or not 0 < len(str(nonce)) <= 255:
        raise BadField("nonce", "a number or a text is required")
    _, fresh = Nonce.objects.get_or_create(gateway=GATEWAY.name, account=key, nonce=str(nonce))
    if not fresh:
        raise BadField("nonce", "it was used before")


# --- Endpoints: create ---
def make_invoice(request, merchant):
    given = _checked(read_body(request, INVOICE_PARAMETERS))
    pairs = _pairs(body(request).get("currencies"))
    if coins.usd_price(given["currency"]) is None:
        raise BadField("currency", "not available")
    payment = _new(merchant, INVOICE, CREATED, request, given, timedelta(minutes=given["lifetime"]))
    payment.data["pairs"] = pairs
    payment.reference, payment.callback_url = given.get("externalId", ""), given.get("webhookURL", "")
    with transaction.atomic():
        # What a repeated externalId does is not documented; that it is refused is our choice.
        if payment.reference and GATEWAY.payments(merchant).filter(kind=INVOICE, reference=payment.reference).exists():
            raise ApiError(409, "duplicate", "externalId", "There is an invoice with this externalId already.")
        payment.save()
        users.user_of(GATEWAY, payment)
    return documents.invoice(payment)


def make_order(request, merchant):
    given = _checked(read_body(request, ORDER_PARAMETERS))
    symbol, network = given["currency"], given["network"]
    documents.check_pair(symbol, network)
    lifetime = given.get("lifetime", LONGEST)  # the default is our choice
    if lifetime < documents.LIFETIMES[network]:
        raise BadField("lifetime", f"at least {documents.LIFETIMES[network]} seconds on {network}")
    payment = _new(merchant, ORDER, INIT.lower(), request, given, timedelta(seconds=lifetime))
    payment.reference, payment.callback_url = given["order"], given.get("successWebhook", "")
    payment.pay_currency, payment.network, payment.pay_amount = symbol, network, given["amount"]
    payment.address = coins.new_address(network)
    payment.memo = new_number(8) if coins.NETWORKS[network].memo else ""
    with transaction.atomic():
        users.take_address(GATEWAY, payment)
        payment.save()
    return documents.listed_order(payment)


def _checked(given):
    if not given["amount"]:
        raise BadField("amount", "more than 0")
    return given


def _new(merchant, kind, status, request, given, lifetime):
    payment = GATEWAY.new_payment(merchant, kind, status, gateway_id=str(uuid.uuid4()))
    payment.amount, payment.currency = given["amount"], given["currency"]
    payment.expires_at = payment.created_at + lifetime
    payment.data = {name: format_amount(value) if isinstance(value, Decimal) else value for name, value in given.items()}
    payment.data["link"] = GATEWAY.payer_page(request, payment)
    return payment


def _pairs(given):
    if not isinstance(given, list):
        raise BadField("currencies", "a list of pairs of coin and network, empty for all")
    for pair in given:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(item, str) for item in pair):
            raise BadField("currencies", "each item is a pair of coin and network")
        documents.check_pair(*pair)
    return given or documents.OFFERED


# --- Endpoints: read ---
def get_invoice(request, merchant):
    given = read_body(request, {"invoiceId": Parameter(required=True)})["invoiceId"]
    return documents.invoice(find(GATEWAY, merchant, given, INVOICE, kind=INVOICE))


def get_invoices(request, merchant):
    given = read_body(request, {"status": Parameter("texts", choices=WORDS), **_PAGE})
    actions.advance_due()
    rows = GATEWAY.payments(merchant).filter(kind=INVOICE, status__in=given.get("status") or WORDS)
    return {"invoices": [documents.invoice(row, currencies=False) for row in _page(rows, given)], "total": len(rows)}


def order(request, merchant):
    given = read_body(request, {"orderId": Parameter(required=True)})["orderId"]
    behind = GATEWAY.payments(merchant).filter(kind=INVOICE, data__order_id=given).first()
    kind, gateway_id = (INVOICE, behind.gateway_id) if behind else (ORDER, given)
    return documents.order(find(GATEWAY, merchant, gateway_id, ORDER, kind=kind))


def orders(request, merchant):
    """That the orders behind invoices are listed too is our choice."""
    words = tuple(word.lower() for word in WORDS)
    given = read_body(request, {"status": Parameter("texts", choices=words), **_PAGE})
    actions.advance_due()
    found = [payment for payment in GATEWAY.payments(merchant).exclude(kind=USER) if documents.order_id(payment)]
    if given.get("status"):
        found = [payment for payment in found if documents.order_status(payment) in given["status"]]
    return {"orders": [documents.listed_order(payment) for payment in _page(found, given)], "total": str(len(found))}


def _page(found, given):
    start = given.get("offset", 0)
    return found[start : start + given.get("limit", 10)]


def find_tx(request, merchant):
    tx = read_body(request, {"tx": Parameter(required=True)})["tx"]
    transfers = Transfer.objects.filter(payment__gateway=GATEWAY.name, payment__account=merchant, tx_hash=tx)
    return [_found_tx(transfer.payment, transfer) for transfer in transfers.select_related("payment")]


def _found_tx(payment, transfer):
    results = {
        INVOICE: ("INVOICE", lambda: documents.invoice(payment)),
        ORDER: ("ORDER", lambda: documents.order(payment)),
        USER: ("PERSONAL_DEPOSIT", lambda: users.deposit_object(payment, transfer)),
    }
    source, result = results[payment.kind]
    return {"type": "IN", "source": source, "address": transfer.address, "result": result()}


# --- Endpoints: the account ---
def advanced_balances(request, merchant):
    return [documents.balance(merchant)]


def available_currencies(request, merchant):
    return [documents.currency(symbol) for symbol in (*dict(documents.OFFERED), *coins.FIATS)]


def price_rate(request, merchant):
    given = read_body(request, {name: Parameter(required=True) for name in ("from", "to")})
    prices = [coins.usd_price(given[name]) for name in ("from", "to")]
    if None in prices:
        raise BadField("to" if prices[0] else "from", "not available")
    return f"{prices[0] / prices[1]:.8f}"


def test_signature(request):
    """Tells what is wrong instead of refusing; that the signature is the one received is our choice."""
    errors = []
    try:
        GATEWAY.authenticate(request)
    except (ApiError, BadField) as error:
        errors.append(str(error))
    key = request.headers.get("x-api-public-key", "")
    matches = key in GATEWAY.account_settings["KEY_PAIRS"] and GATEWAY.signature_matches(request, key)
    signature = request.headers.get("x-api-signature", "")
    return {"errors": errors, "checkSignatureResult": matches, "signature": signature, "receivedBody": body(request)}


CREATING = {
    "make-invoice": make_invoice,
    "make-order": make_order,
    "personal-addresses/create-user": partial(users.create_user, GATEWAY),
}
READING = {
    "get-invoice": get_invoice,
    "get-invoices": get_invoices,
    "order": order,
    "orders": orders,
    "find-tx": find_tx,
    "personal-addresses/get-user": partial(users.get_user, GATEWAY),
    "personal-addresses/get-user-address": partial(users.get_user_address, GATEWAY),
    "personal-addresses/get-user-addresses": partial(users.get_user_addresses, GATEWAY),
    "advanced-balances": advanced_balances,
    "available-currencies": available_currencies,
    "price-rate": price_rate,
}
GATEWAY.urlpatterns = [
    *(route(GATEWAY, f"api-gateway/{path}", POST=view) for path, view in CREATING.items()),
    *(route(GATEWAY, f"api-gateway/{path}", creates=False, POST=view) for path, view in READING.items()),
    route(GATEWAY, "api-gateway/test-signature", public=True, creates=False, POST=test_signature),
    route(GATEWAY, "api-gateway/.*", public=True),
]
