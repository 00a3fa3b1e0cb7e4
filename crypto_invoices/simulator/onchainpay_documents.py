"""The objects that OnchainPay's API answers with and tells of, and the sums in them.

Sources: https://docs.onchainpay.io/api-reference (07invoices, 05orders, 02advanced_account, personal_addresses),
https://docs.onchainpay.io/webhooks and the types in the vendor's SDKs at https://github.com/onchainpay. Amounts are texts.
Where all of them are silent, the choice is marked "our choice".
"""

import re
import uuid
from decimal import Decimal

from crypto_invoices.money import format_amount

from . import coins
from .errors import BadField
from .gateway import confirmations, iso

INVOICE, ORDER, USER = "invoice", "order", "user"
CREATED, INIT, PENDING, PARTIAL, PROCESSED = "CREATED", "INIT", "PENDING", "PARTIAL", "PROCESSED"
OVERPAID, EXPIRED, REJECTED, ERROR = "OVERPAID", "EXPIRED", "REJECTED", "ERROR"
WORDS = (CREATED, INIT, PENDING, PARTIAL, PROCESSED, OVERPAID, EXPIRED, REJECTED, ERROR)

# 05orders, "Lifetime": seconds at least, by network; the networks that the documentation names are the ones on offer.
LIFETIMES = {
    **dict.fromkeys(("tron", "ethereum", "bsc", "ton", "ripple", "fantom"), 1800),
    "litecoin": 3600,
    **dict.fromkeys(("bitcoin", "bitcoincash"), 7200),
}
OFFERED = [(symbol, key) for symbol, coin in coins.COINS.items() for key in coin.networks if key in LIFETIMES]

NETWORK_FEE = Decimal(1)  # USD, on every network: our choice
# action: (amount, type, whether an invoice may add it); fixed amounts in USD: our choice
TARIFFS = {"SEPA_WITHDRAWAL": (Decimal(5), "FIXED", True), "INVOICE": (Decimal("0.5"), "PERCENT", False)}
INVOICE_FEES = [action for action, (_, _, addable) in TARIFFS.items() if addable]


def check_pair(symbol, network):
    """Raises ``BadField`` where the coin is not offered on the network."""
    if (symbol, network) not in OFFERED:
        raise BadField("network", f"{symbol} on {network} is not available")


# --- Sums ---
def due(payment, symbol):
    """What is asked in that coin: the price, the insurance on it, then the fees."""
    data = payment.data
    usd = payment.amount * coins.usd_price(payment.currency) * (1 + percent(payment, "insurancePercent"))
    fees = sum((TARIFFS[action][0] for action in data.get("additionalFees", ())), NETWORK_FEE * data.get("includeFee", False))
    return coins.round_up((usd + fees) / coins.usd_price(symbol), symbol)


def percent(payment, name):
    """A percentage that the call gave, as a fraction."""
    return Decimal(payment.data.get(name, 0)) / 100


def received(payment):
    """What was confirmed, in the coin."""
    return sum((transfer.amount for transfer in payment.transfers.filter(confirmed_at__isnull=False)), Decimal(0))


# --- Statuses (07invoices, 05orders): always added up anew, since none of those that money can reach is final ---
def status(payment, now):
    """What new money or the end of the time makes of an invoice or order, in an invoice's words."""
    if not payment.address:
        return EXPIRED
    asked, came = due(payment, payment.pay_currency), received(payment)
    slippage, tolerance = percent(payment, "slippagePercent"), percent(payment, "paymentTolerancePercent")
    if came >= asked * (1 - max(slippage, tolerance)):
        return OVERPAID if came > asked * (1 + slippage) else PROCESSED
    in_time = payment.transfers.filter(late=False)
    if in_time.filter(confirmed_at=None).exists() or now < payment.expires_at:
        return PENDING
    return PARTIAL if came else EXPIRED


# --- Invoices ---
def invoice(payment, currencies=True):
    """As make-invoice and get-invoice answer; items of a list have no ``currencies``.

    What was not given is null, a percentage "0" and ``returnUrl`` left out. The rate is "0" until there is a coin (our choice).
    """
    data, amount = payment.data, received(payment)
    rate = coins.usd_price(payment.pay_currency) / coins.usd_price(payment.currency) if payment.pay_currency else Decimal(0)
    answer = {
        "id": payment.gateway_id,
        **{name: data.get(name) for name in ("externalId", "externalUserId", "payerEmail")},
        "orderId": data.get("order_id"),
        "orderLink": data["link"] if "order_id" in data else None,
        "invoiceLink": data["link"],
        "status": payment.status,
        **{name: data.get(name) for name in ("order", "description")},
        "currency": payment.currency,
        "amount": format_amount(payment.amount),
        "receivedNetwork": payment.network if amount else None,
        "receivedCurrency": payment.pay_currency if amount else None,
        "receivedAmount": f"{amount:.8f}" if amount else "0",
        "receivedAmountInInvoiceCurrency": _text(amount * rate),
        "rate": _text(rate),
        "includeFee": data.get("includeFee", False),
        "additionalFees": data.get("additionalFees", []),
        **{name: data.get(name, "0") for name in ("insurancePercent", "slippagePercent", "paymentTolerancePercent")},
        "webhookURL": data.get("webhookURL"),
        "expiresAt": data.get("choice_until") or iso(payment.expires_at),
        "createdAt": iso(payment.created_at),
    }
    for name, given in (("returnUrl", "returnURL"), ("advancedBalanceId", "advancedBalanceId")):
        if given in data:
            answer[name] = data[given]
    if currencies:
        answer["currencies"] = [_payable(payment, symbol) for symbol in dict(data["pairs"])]
    return answer


def _payable(payment, symbol):
    amount = _text(due(payment, symbol))
    networks = [{"name": network, "amount": amount} for coin, network in payment.data["pairs"] if coin == symbol]
    return {"currency": symbol, "networks": networks}


# --- Orders: the three answers that show one name the same things differently, and so do these ---
def order_id(payment):
    """The id of the order, or of the order behind an invoice, None before the payer chose."""
    return payment.gateway_id if payment.kind == ORDER else payment.data.get("order_id")


def order_status(payment):
    """The word of the order behind an invoice; an order is never rejected."""
    word = payment.status.lower()
    return "error" if word == "rejected" else word


def listed_order(payment):
    """As make-order and orders answer: ``orderId`` is the gateway's, ``clientOrderId`` the merchant's."""
    return {
        **_order(payment),
        "link": payment.data["link"],
        "addressId": same_id("address", payment.address, payment.memo),
        "orderId": order_id(payment),
        "clientOrderId": payment.data.get("order"),
    }


def order(payment):
    """As order answers: ``id`` is the gateway's, ``orderId`` the merchant's."""
    transfers = list(payment.transfers.all())
    return {
        **_order(payment),
        "id": order_id(payment),
        "orderId": payment.data.get("order"),
        "received": f"{received(payment):.8f}",
        "updatedAt": iso(max([payment.created_at, *(transfer.confirmed_at or transfer.seen_at for transfer in transfers)])),
        "transactions": [transaction(transfer) for transfer in transfers],
        "orphanDeposits": [],
    }


def told_order(payment):
    """As the webhook tells: ``order`` is the merchant's, and confirmations are texts."""
    transfers = [transaction(transfer) for transfer in payment.transfers.all()]
    return {
        "id": order_id(payment),
        "advancedBalanceId": same_id("balance", payment.account),
        "currency": payment.pay_currency,
        "network": payment.network,
        "status": order_status(payment),
        "order": payment.data.get("order"),
        "description": payment.data.get("description"),
        "address": payment.address,
        "tag": payment.memo or None,
        "amount": format_amount(payment.pay_amount),
        "received": f"{received(payment):.8f}",
        "transactions": [item | {"confirmations": str(item["confirmations"])} for item in transfers],
    }


def _order(payment):
    data = payment.data
    return {
        "status": order_status(payment),
        "amount": format_amount(payment.pay_amount),
        "currency": payment.pay_currency,
        "network": payment.network,
        "address": payment.address,
        "tag": payment.memo or None,
        **{name: data.get(name) for name in ("description", "successWebhook", "errorWebhook", "externalUserId", "payerEmail")},
        "returnUrl": data.get("returnUrl") or data.get("returnURL"),
        "paymentTolerancePercent": data.get("paymentTolerancePercent", "0"),
        "expiresAt": iso(payment.expires_at),
        "createdAt": data.get("ordered_at") or iso(payment.created_at),
    }


def transaction(transfer):
    """One transfer in an order."""
    return {
        "id": same_id("transaction", transfer.tx_hash),
        "status": "processed" if transfer.confirmed else "pending",
        "currency": transfer.currency,
        "network": transfer.network,
        "amount": format_amount(transfer.amount),
        "tx": transfer.tx_hash,
        "confirmations": confirmations(transfer),
        "sender": transfer.sender,
        "priceUSD": format_amount(transfer.price),
        "amountUSD": format_amount(transfer.usd),
    }


# --- The account and its coins ---
def balance(merchant):
    """The prepaid account that fees are taken from; it never changes."""
    return {
        "advancedBalanceId": same_id("balance", merchant),
        "currency": "USDT",
        "blocked": False,
        "blockReason": None,
        "balance": "1000",
        "availableCurrenciesForDeposit": [{"currency": "USDT", "networks": ["tron"]}],
        "tariffs": [
            {
                "id": same_id("tariff", action),
                "action": action,
                "amount": format_amount(amount),
                "type": kind,
                "minAmount": None,
                "maxAmount": None,
                "invoiceAdditionalFee": addable,
            }
            for action, (amount, kind, addable) in TARIFFS.items()
        ],
    }


def currency(symbol):
    """An available currency; one of a country has no networks."""
    networks = [_network(symbol, network) for coin, network in OFFERED if coin == symbol]
    allowed = dict.fromkeys(("allowDeposit", "allowWithdrawal"), bool(networks))
    price = format_amount(coins.usd_price(symbol))
    title = coins.COINS[symbol].title if symbol in coins.COINS else symbol
    return {"currency": symbol, "alias": title, **allowed, "priceUSD": price, "networks": networks}


def _network(symbol, key):
    look = coins.NETWORKS[key]
    fee = _text(NETWORK_FEE / coins.usd_price(symbol))
    return {
        "name": key,
        "alias": look.title,
        "contract": None,
        "addressRegex": f"^{re.escape(look.prefix)}[{re.escape(look.alphabet)}]{{{look.length}}}$",
        "tagRegex": "^[0-9]{1,10}$" if look.memo else None,
        **dict.fromkeys(("allowDeposit", "allowWithdrawal"), True),
        "allowCrosschainBridge": False,
        "withdrawalFee": fee,
        "withdrawalMin": fee,
        "confirmations": look.confirmations,
        "underMaintenance": False,
    }


def same_id(*names):
    """The same UUID for the same names."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, " ".join(names)))


def _text(amount):
    return format_amount(amount.quantize(Decimal("0.00000001")))
