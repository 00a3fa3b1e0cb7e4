"""tx.cash, invoice API v1 on its testnet (Ethereum and Polygon, prices in ISO 4217 currencies), as its pages describe it.

Sources: https://docs.tx.cash/invoice (creates-a-new-invoice, creates-a-new-payment-address-for-the-requested-coin,
callback-handler-example-and-information). They are short; where they are silent, the choice is marked "our choice".
Base URL: ``simulator/txcash/invoice/v1/testnet``.
"""

import re
import uuid
from datetime import UTC, timedelta
from decimal import Decimal

from crypto_invoices.providers import payload

from . import actions, callbacks, coins
from .api import ApiError, answer, find, read_body, route
from .errors import BadField
from .gateway import Gateway, confirmations, usd_sent
from .parameters import Parameter

PENDING, PAID, UNDER_PAID, OVERPAID = "pending", "paid", "under paid", "overpaid"
EXPIRED, CANCELLED = "expired", "cancelled"
CODES = {PENDING: 0, PAID: 1, UNDER_PAID: 2, OVERPAID: 3, EXPIRED: 4, CANCELLED: 5}

# creates-a-new-invoice, payment_currencies: coins and groups of coins
PAYMENT_CURRENCIES = {
    "eth_eth": ("ETH", "ethereum"),
    "eth_usdt": ("USDT", "ethereum"),
    "eth_usdc": ("USDC", "ethereum"),
    "polygon_eth": ("ETH", "polygon"),
    "polygon_usdt": ("USDT", "polygon"),
    "polygon_usdc": ("USDC", "polygon"),
}
GROUPS = {
    "all": tuple(PAYMENT_CURRENCIES),
    "eth_stables": ("eth_usdt", "eth_usdc"),
    "polygon_stables": ("polygon_usdt", "polygon_usdc"),
}
UNITS = {"h": 3600, "m": 60, "s": 1}
NEVER = "0001-01-01T00:00:00Z"  # our choice: what a server written in Go sends for a date that is not set
DUST = Decimal("0.0001")  # USD: what is asked is rounded up to the coin's last decimal, and that is not too much

# --- Parameters (creates-a-new-invoice). Only the amount is required; limits are our choice. ---
PARAMETERS = {
    "amount": Parameter("number", required=True, high=Decimal(10) ** 9),
    **{name: Parameter() for name in ("name", "currency", "payment_currencies", "valid_for", "description")},
    **{name: Parameter("url") for name in ("callback_url", "success_url", "fail_url")},
    **{name: Parameter() for name in ("meta_data1", "meta_data2")},
}
ADDRESS_PARAMETERS = {"payment_currency": Parameter(required=True)}


class TxCash(Gateway):
    name = "txcash"
    title = "tx.cash"
    settings = {
        "API_KEYS": ["simulated-tx-cash-key"],  # each is an account
        "AUTHORIZATION_HEADER": "Authorization",  # these two: the scheme is not documented, a bearer token is our choice
        "AUTHORIZATION_PREFIX": "Bearer ",
        "ACCOUNT_NAME": "Demo shop",
        "CURRENCY": "USD",  # these two: what a call that does not say gets
        "VALID_MINUTES": Decimal(60),
    }

    # --- Statuses and buttons (creates-a-new-invoice, status; callback-handler) ---
    open_statuses = (PENDING,)  # our choice: what is under paid at the deadline stays so
    one_address = True  # our choice: both networks' addresses look the same
    who = {"cancel": "payer"}
    _arrives = "callback-handler: whenever a new payment arrives; that late money leaves it expired is our choice"
    rules = {
        "choose": ((PENDING, UNDER_PAID), "creates-a-new-payment-address: payment_currency"),
        "pay": ((PENDING, UNDER_PAID, PAID, OVERPAID, EXPIRED), _arrives),
        "pay_part": ((PENDING, UNDER_PAID, EXPIRED), _arrives),
        "pay_more": ((PENDING, UNDER_PAID, EXPIRED), _arrives),
        "confirm": (tuple(CODES), "creates-a-new-invoice: payments[].confirmation"),
        "expire": ((PENDING,), "creates-a-new-invoice: expired"),
        "cancel": ((PENDING,), "creates-a-new-invoice: cancelled, by the customer"),
    }

    def options(self, payment):
        return [PAYMENT_CURRENCIES[name] for name in payment.data["payment_currencies"]]

    def links(self, payment):
        shown = {PAID: "success_url", OVERPAID: "success_url", EXPIRED: "fail_url", CANCELLED: "fail_url"}
        url = payment.data.get(shown.get(payment.status), "")
        return [("Back to the shop", url)] if url else []

    def cancel(self, payment, now):
        self._change(payment, CANCELLED, now)

    def rest(self, payment):
        missing = max(self._due(payment) - usd_sent(payment), Decimal(0))
        return coins.round_up(missing / coins.usd_price(payment.pay_currency), payment.pay_currency)

    def on_money(self, payment, transfer, now):
        # Our choice: a payment is told when it is seen, and counts for the status when it is confirmed.
        if not transfer.confirmed:
            self._tell(payment, now)
        elif payment.status not in (EXPIRED, CANCELLED):
            self._change(payment, self._verdict(payment), now)

    def on_clock(self, payment, now):
        if not payment.transfers.exists():  # our choice: what was seen in time still counts
            self._change(payment, EXPIRED, now)

    def _due(self, payment):
        return payment.amount * coins.usd_price(payment.currency)

    def _verdict(self, payment):
        excess = usd_sent(payment, confirmed_at__isnull=False) - self._due(payment)
        return UNDER_PAID if excess < 0 else PAID if excess < DUST else OVERPAID

    def _change(self, payment, status, now):
        if status == payment.status:
            return
        payment.status = status
        if status in (PAID, OVERPAID):
            payment.paid_at = payment.paid_at or now
        self._tell(payment, now)

    def _tell(self, payment, now):
        payment.data["updated_at"] = _time(now)
        callbacks.enqueue(payment, payment.status, payload.dumps(_invoice(payment)), {}, now)

    # --- Errors and authentication (creates-a-new-invoice, 400; 401 alike); the codes and texts are our choice ---
    def authenticate(self, request):
        settings = self.account_settings
        key = request.headers.get(settings["AUTHORIZATION_HEADER"], "")
        prefix = settings["AUTHORIZATION_PREFIX"]
        if not key.startswith(prefix) or key.removeprefix(prefix) not in settings["API_KEYS"]:
            raise ApiError(401, "unauthorized", settings["AUTHORIZATION_HEADER"], "The API key is missing or wrong.")
        return key.removeprefix(prefix)

    def success(self, data):
        return answer(data)

    def refuse(self, error):
        item = {"resource": "invoice", "code": error.kind, "field": error.key, "description": str(error)}
        return answer({"message": str(error), "errors": [item]}, error.status)

    # --- Callbacks: unsigned; method, format, retries and the answer that counts are our choice (POST, JSON, any 2xx) ---
    retry_delays = (60, 300, 900)


GATEWAY = TxCash()


# --- Endpoints ---
def create_invoice(request, merchant):
    settings = GATEWAY.account_settings
    given = read_body(request, PARAMETERS, form=True)
    currency = given.get("currency", settings["CURRENCY"]).upper()
    if not given["amount"]:
        raise BadField("amount", "The amount field must be greater than 0.")
    if currency not in coins.FIATS:
        raise BadField("currency", "The currency is not an ISO 4217 code that is supported.")
    payment = GATEWAY.new_payment(
        merchant,
        "invoice",
        PENDING,
        gateway_id=str(uuid.uuid4()),
        reference=given.get("meta_data1", ""),
        amount=given["amount"],
        currency=currency,
        callback_url=given.get("callback_url", ""),
        data={name: given.get(name, "") for name in ("name", "description", "success_url", "fail_url", "meta_data2")},
    )
    payment.data["payment_currencies"] = _filter(given.get("payment_currencies", "all"))
    payment.data["url"] = GATEWAY.payer_page(request, payment)
    default = timedelta(minutes=float(settings["VALID_MINUTES"]))
    payment.expires_at = payment.created_at + (_duration(given["valid_for"]) if "valid_for" in given else default)
    payment.save()
    return _invoice(payment)


def create_payment_address(request, merchant, gateway_id):
    payment = find(GATEWAY, merchant, gateway_id, "invoice")  # here and below, that an unknown id is a 404 is our choice
    name = read_body(request, ADDRESS_PARAMETERS, form=True)["payment_currency"].lower()
    if name not in payment.data["payment_currencies"]:
        raise BadField("payment_currency", f"One of {', '.join(payment.data['payment_currencies'])}.")
    symbol, network = PAYMENT_CURRENCIES[name]
    payment = actions.act(GATEWAY.name, gateway_id, "choose", currency=symbol, network=network)
    # Our choice: the answer names the coin as it was asked for, "eth_usdt" and not "USDT".
    return {"invoice_id": gateway_id, "address": payment.address, "amount": payment.pay_amount, "currency": name}


def get_invoice(request, merchant, gateway_id):
    return _invoice(find(GATEWAY, merchant, gateway_id, "invoice"))


def _filter(text):
    """The payment currencies that a comma-separated filter names, in the vendor's order."""
    names = {name.strip().lower() for name in text.split(",")}
    unknown = names - PAYMENT_CURRENCIES.keys() - GROUPS.keys()
    if unknown:
        raise BadField("payment_currencies", f"Unknown: {', '.join(sorted(unknown))}.")
    return [name for name in PAYMENT_CURRENCIES if any(name in GROUPS.get(item, (item,)) for item in names)]


def _duration(text):
    """ "300s" or "2h45m" as a timedelta; a bare number has no unit. Up to a year, which is our choice."""
    if re.fullmatch(r"([0-9]{1,9}[smh])+", text):
        seconds = sum(int(number) * UNITS[unit] for number, unit in re.findall(r"([0-9]+)([smh])", text))
        if 0 < seconds <= 365 * 24 * 3600:
            return timedelta(seconds=seconds)
    raise BadField("valid_for", "A duration such as 300s or 2h45m; valid time units are s, m, h.")


# --- Shape: one object in every answer and every callback. ``prices``, whose items are not documented, is left out. ---
def _invoice(payment):
    data = payment.data
    paid = usd_sent(payment, confirmed_at__isnull=False) / coins.usd_price(payment.currency)
    return {
        "id": payment.gateway_id,
        "url": data["url"],
        "amount": payment.amount,
        "paid_amount": round(paid, 8),  # our choice: in the currency of the price
        "base_currency": payment.currency,
        "name": data["name"],
        "description": data["description"],
        "account_name": GATEWAY.account_settings["ACCOUNT_NAME"],
        "status": payment.status,
        "status_code": CODES[payment.status],
        "notify_url": payment.callback_url,
        "suceess_url": data["success_url"],  # sic
        "fail_url": data["fail_url"],
        "expires_on": _time(payment.expires_at),
        "payments": [_payment(transfer) for transfer in payment.transfers.all()],
        "created_at": _time(payment.created_at),
        "updated_at": data.get("updated_at", NEVER),
        "meta_data1": payment.reference,
        "meta_data2": data["meta_data2"],
    }


def _payment(transfer):
    return {
        "tx_hash": transfer.tx_hash,
        "explorer_url": f"https://explorer.example/{transfer.network}/tx/{transfer.tx_hash}",
        "amount": transfer.amount,
        "date": _time(transfer.seen_at),
        "confirmation": confirmations(transfer),
    }


def _time(moment):
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


GATEWAY.urlpatterns = [
    route(GATEWAY, "invoice/v1/testnet/invoice", POST=create_invoice),
    route(GATEWAY, "invoice/v1/testnet/invoice/(?P<gateway_id>[^/]+)", GET=get_invoice),
    route(GATEWAY, "invoice/v1/testnet/invoice/(?P<gateway_id>[^/]+)/payment/address", POST=create_payment_address),
    route(GATEWAY, "invoice/.*", public=True),
]
