"""goodPayments, merchant API v1 (TRX and USDT on TRON, prices in USD), as its documentation describes it.

Sources: https://goodpayments.gitbook.io/docs (api-reference: create-an-invoice, get-invoice-information, cancel-an-invoice,
get-merchant-account-information, webhooks, authentication-process; user-guide: payment-statuses, overpayment-and-underpayment,
aml-checks; general-info: fees-and-limits, terms-and-definitions). Where they are silent, the choice is marked "our choice".
Base URL: ``simulator/goodpayments/v1/api``. The payer's page stands in for https://app.goodpayments.io/payment/<id>.
"""

from datetime import timedelta, timezone
from decimal import Decimal

from crypto_invoices.providers import payload

from . import actions, callbacks, coins
from .api import ApiError, answer, body, find, route
from .errors import BadField, Refused
from .gateway import Gateway
from .parameters import Parameter, read

SINGLE, MULTIPLE = "SINGLE", "MULTIPLE"
ACTIVE, COMPLETED, CANCELED, TIMEOUT = "ACTIVE", "COMPLETED", "CANCELED", "TIMEOUT"
ERROR, AML_FAILED, OVERPAID, UNDERPAID = "ERROR", "AML_FAILED", "OVERPAID", "UNDERPAID"

TOKENS = ("TRX", "USDT")
FORWARDED = (COMPLETED, OVERPAID, UNDERPAID)  # payment-statuses: all that arrived goes to the merchant's wallet
CHARGED = (*FORWARDED, AML_FAILED)  # aml-checks: the fee is charged also when the money goes back

ZONE = timezone(timedelta(hours=3))  # create-an-invoice, response example
TOPUP_WALLET, ACTIVATION_WALLET = (prefix + "1" * 30 for prefix in ("TTop", "TAct"))

# --- Parameters (create-an-invoice). Limits that the page does not give are our choice. ---
TYPE = {"type": Parameter(required=True, choices=(SINGLE, MULTIPLE))}
MULTIPLE_PARAMETERS = {
    "currencies": Parameter("texts", required=True, low=1, choices=TOKENS),
    "order_id": Parameter(high=256),
    **{name: Parameter() for name in ("webhook_url", "description")},
}
SINGLE_PARAMETERS = {
    **MULTIPLE_PARAMETERS,
    "amount": Parameter("number", required=True, high=Decimal(10) ** 9),
    "expiry_minutes": Parameter("integer", low=1, high=525600),
    "client_comission": Parameter("flag"),  # sic; the answer spells it client_commission
    "redirect_url": Parameter(),
}


class GoodPayments(Gateway):
    name = "goodpayments"
    title = "goodPayments"
    settings = {
        "API_KEYS": ["5" * 64],  # each is a merchant
        "IP_WHITELIST": ["127.0.0.1", "::1"],  # the vendor takes IPv4 only
        "TARGET_WALLET": "TTgt" + "1" * 30,  # "": invoices are refused
        "CONTACT": "@shop",
        "BALANCE": Decimal("771.011200337155"),  # TRX; never changes
        "FEE_TRX": Decimal("6.5"),
        "CLIENT_PAYS_FEE": True,  # these two: what a call that does not say gets
        "EXPIRY_MINUTES": Decimal(30),
        "AML_CHECKS": True,
    }

    # --- Statuses and buttons (payment-statuses; overpayment-and-underpayment; terms-and-definitions) ---
    open_statuses = (ACTIVE,)
    one_address = True
    _decides = "overpayment-and-underpayment: handled at the first incoming transaction"
    _closed = "terms-and-definitions: once closed, a temporary address is no longer monitored"
    rules = {
        "choose": ((ACTIVE,), "create-an-invoice: currencies"),
        "pay": ((ACTIVE,), _closed),
        "pay_part": ((ACTIVE,), _closed),
        "pay_more": ((ACTIVE,), _closed),
        "pay_other": ((ACTIVE,), "payment-statuses: ERROR, another token was sent"),
        "confirm": ((ACTIVE,), _closed),
        "expire": ((ACTIVE,), "payment-statuses: TIMEOUT"),
        "aml": ((ACTIVE,), "aml-checks: the funds go back to the sender"),
        "fail": ((ACTIVE,), "payment-statuses: ERROR"),
        "cancel": ((ACTIVE,), "cancel-an-invoice"),
    }
    static_kinds = (MULTIPLE,)
    static_rules = {
        "pay": ((ACTIVE,), "terms-and-definitions: active until the merchant deactivates it"),
        "confirm": ((ACTIVE,), "webhooks: static address payment"),
        "cancel": ((ACTIVE,), "cancel-an-invoice; that it deactivates a static address is our choice"),
    }

    def obstacle(self, payment, action):
        if self.is_static(payment):
            return None
        if (action == "choose" or action.startswith("pay")) and payment.transfers.exists():
            return Refused("the first transfer decides", self._decides)
        if action == "pay_other" and not self._others(payment):
            return Refused("every token is accepted", "create-an-invoice: currencies")
        if action == "aml" and not (self.account_settings["AML_CHECKS"] and self._checked_token(payment) == "USDT"):
            return Refused("only USDT is checked, and only with the merchant's switch", "aml-checks")
        return None

    def options(self, payment):
        return [(symbol, "tron") for symbol in payment.data["currencies"]]

    def links(self, payment):
        url = payment.data["redirect_url"]
        return [("Back to the shop", url)] if url and payment.status in FORWARDED else []

    def pay_other(self, payment, now, amount=None):
        """The payer sends a token that the invoice does not accept, worth the price if no amount is said."""
        token = payment.pay_currency = self._others(payment)[0]
        self.receive(payment, now, amount or coins.round_up(payment.amount / coins.usd_price(token), token))

    def aml(self, payment, now):
        """The check fails for the transfer that waits, or for a full payment made now."""
        payment.data["illicit"] = True
        if not payment.transfers.exists():
            self.pay(payment, now, currency="USDT")
        self.confirm(payment, now)

    def fail(self, payment, now):
        self._close(payment, ERROR, now)

    def cancel(self, payment, now):
        payment.status = CANCELED  # webhooks: not among the triggers

    def rest(self, payment):
        return Decimal(0) if payment.transfers.exists() else Decimal(payment.data["amounts"][payment.pay_currency])

    def on_money(self, payment, transfer, now):
        if payment.status != ACTIVE or not transfer.confirmed:
            return  # no status says that money was seen
        if self.is_static(payment):
            self._tell(payment, now)  # our choice: it says ACTIVE, and the sums of all transfers so far
        else:
            self._close(payment, self._verdict(payment, transfer), now)

    def on_clock(self, payment, now):
        if not payment.transfers.exists():  # our choice: what was seen in time still decides
            self._close(payment, TIMEOUT, now)

    def _others(self, payment):
        return [token for token in TOKENS if token not in payment.data["currencies"]]

    def _checked_token(self, payment):
        seen = payment.transfers.first()
        return seen.currency if seen else "USDT" if "USDT" in payment.data["currencies"] else None

    def _verdict(self, payment, transfer):
        if transfer.currency not in payment.data["currencies"]:
            return ERROR
        if payment.data.get("illicit"):
            return AML_FAILED
        asked = Decimal(payment.data["amounts"][transfer.currency])  # a tolerance is not documented
        return COMPLETED if transfer.amount == asked else OVERPAID if transfer.amount > asked else UNDERPAID

    def _close(self, payment, status, now):
        payment.status = status
        if status in FORWARDED:
            payment.paid_at = now
        if status in CHARGED:
            payment.data["cost"] = str(self.account_settings["FEE_TRX"])
        self._tell(payment, now)

    def _tell(self, payment, now):
        callbacks.enqueue(payment, payment.status, payload.dumps(_invoice(payment)), {}, now)

    # --- Errors, authentication (authentication-process: every failure is 403) in Django REST framework's shapes ---
    def authenticate(self, request):
        key = request.headers.get("Authorization")
        settings = self.account_settings
        if key is None:
            raise ApiError(403, "authentication", "", "Authentication credentials were not provided.")
        if key not in settings["API_KEYS"] or request.META["REMOTE_ADDR"] not in settings["IP_WHITELIST"]:
            raise ApiError(403, "authentication", "", "Invalid API key")
        return key

    def success(self, data):
        return answer(data)

    def refuse(self, error):
        if error.key == "body":  # the text is documented, its status 400 is our choice
            return answer({"detail": f"JSON parse error - {error}"}, error.status)
        if error.kind == "validation" and error.key != "Content-Type":
            return answer({error.key: [str(error)]}, error.status)  # our choice: documented is only that the field is named
        return answer({"detail": str(error)}, error.status)

    # --- Webhooks: unsigned; retries and the answer that counts are not documented, so these are our choice (and any 2xx) ---
    retry_delays = (60, 300, 900)


GATEWAY = GoodPayments()


# --- Endpoints ---
def create_payment(request, merchant):
    settings = GATEWAY.account_settings
    said = body(request)
    kind = read(said, TYPE)["type"]
    given = read(said, SINGLE_PARAMETERS if kind == SINGLE else MULTIPLE_PARAMETERS)
    if kind == SINGLE and isinstance(said["amount"], str):  # our choice: the page says number, and shows no text
        raise BadField("amount", "A valid number is required.")
    if kind == SINGLE and not given["amount"]:
        raise BadField("amount", "Ensure this value is greater than 0.")
    if not settings["TARGET_WALLET"]:
        raise ApiError(400, "refused", "", "User's target wallet address is not set")
    payment = GATEWAY.new_payment(
        merchant,
        kind,
        ACTIVE,
        reference=given.get("order_id", ""),
        callback_url=given.get("webhook_url", ""),
        network="tron",
        address=coins.new_address("tron"),
        data={name: given.get(name, "") for name in ("description", "redirect_url")},
    )
    payment.data |= {"currencies": given["currencies"], "payment_url": GATEWAY.payer_page(request, payment)}
    if kind == SINGLE:
        _ask(payment, given, settings)
    payment.save()
    return _invoice(payment)


def _ask(payment, given, settings):
    """What a temporary address asks for: in each token the price, and the forwarding fee's worth if the client pays it."""
    by_client = given.get("client_comission", settings["CLIENT_PAYS_FEE"])
    fee = settings["FEE_TRX"] * coins.usd_price("TRX") if by_client else 0  # our choice: the fee of fees-and-limits
    due = {token: coins.round_up((given["amount"] + fee) / coins.usd_price(token), token) for token in given["currencies"]}
    payment.amount, payment.currency = given["amount"], "USD"
    payment.data |= {"client_commission": by_client, "amounts": {token: str(amount) for token, amount in due.items()}}
    payment.expires_at = payment.created_at + timedelta(minutes=int(given.get("expiry_minutes", settings["EXPIRY_MINUTES"])))
    payment.pay_currency, payment.pay_amount = next(iter(due.items()))


def get_payment(request, merchant, gateway_id):
    """Our choice: 404 for an id that is unknown or another merchant's."""
    return _invoice(find(GATEWAY, merchant, gateway_id))


def cancel_payment(request, merchant, gateway_id):
    """Our choice: 404 as above, and 400 for what is closed already."""
    find(GATEWAY, merchant, gateway_id)
    return _invoice(actions.act(GATEWAY.name, gateway_id, "cancel"))


def merchant_account(request, merchant):
    settings = GATEWAY.account_settings
    return {
        "email": "shop@example.com",
        "balance": settings["BALANCE"],
        "target_wallet_address": settings["TARGET_WALLET"] or None,
        "topup_wallet_address": TOPUP_WALLET,
        "activation_wallet_address": ACTIVATION_WALLET,
    }


# --- Shape: one object in every answer and every webhook ---
def _invoice(payment):
    """Our choice: of MULTIPLE ``amount`` and ``expired_at`` are null, which no page shows."""
    data = payment.data
    received = {token: Decimal(0) for token in data["currencies"]}
    for transfer in payment.transfers.exclude(confirmed_at=None):
        if transfer.currency in received:
            received[transfer.currency] += transfer.amount
    forwarded = GATEWAY.is_static(payment) or payment.status in FORWARDED
    return {
        "id": int(payment.gateway_id),
        "status": payment.status,
        "type": payment.kind,
        "paymentURL": data["payment_url"],
        "amount": payment.amount,
        "currencies": data["currencies"],
        "currencies_amounts": {token: Decimal(amount) for token, amount in data.get("amounts", {}).items()},
        "transfer_amounts": {"input": received, "output": received if forwarded else dict.fromkeys(received, 0)},
        "cost": Decimal(data["cost"]) if "cost" in data else None,
        "client_commission": data.get("client_commission", False),
        "order_id": payment.reference or None,
        "address": payment.address,
        "webhook_url": payment.callback_url or None,
        "redirect_url": data["redirect_url"] or None,
        "description": data["description"],
        "merchant_contact": GATEWAY.account_settings["CONTACT"],
        "target_wallets": {},
        "expired_at": _time(payment.expires_at) if payment.expires_at else None,
        "created_at": _time(payment.created_at),
    }


def _time(moment):
    return moment.astimezone(ZONE).isoformat(timespec="microseconds")


GATEWAY.urlpatterns = [
    route(GATEWAY, "v1/api/payment/create", POST=create_payment),
    route(GATEWAY, "v1/api/payment/get/(?P<gateway_id>[0-9]+)", GET=get_payment),
    route(GATEWAY, "v1/api/payment/(?P<gateway_id>[0-9]+)/cancel", DELETE=cancel_payment),
    route(GATEWAY, "v1/api/merchant", GET=merchant_account),
    route(GATEWAY, "v1/.*", public=True),
]
