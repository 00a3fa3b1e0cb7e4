"""The JSON:API documents of txn.io: what an invoice says of itself when it is made, read, listed or told of.

Sources: https://docs.txn.io (invoices/creating-invoice, reading-invoice, invoice-status-flow) and the webhook example at
https://docs.txn.pro/invoices/invoice-webhooks. Amounts are texts, times have milliseconds and a Z.
"""

import uuid
from decimal import ROUND_HALF_UP, Context, Decimal

from crypto_invoices.money import format_amount

from . import coins
from .gateway import iso

PENDING, PROCESSING, COMPLETED, ON_HOLD = "pending", "processing", "completed", "on_hold"
EXPIRED, CANCELLED, REJECTED = "expired", "cancelled", "rejected"
NETWORK_NAMES = {"tron": "Tron (TRC20)"}
TITLES = {
    "unauthorized": "HTTP Token: Access denied.",
    "amount_below_minimum": "amount is below minimum",
    "amount_above_maximum": "amount is above maximum",
    "payment_methods_conflict": "not allowed use multiple payment methods",
    "not_found": "Record not found",  # validating-addresses: network_not_found
    "currency_pair_not_supported": "currency pair is not supported",  # this and the next are our choice
    "bad_request": "Bad request",
}


def _context(payment):
    if payment.status != COMPLETED:
        return "unpaid"
    paid = payment.transfers.get().amount
    return "full" if paid == payment.pay_amount else "underpaid" if paid < payment.pay_amount else "overpaid"


def _payment_status(payment):
    transfer = payment.transfers.first()
    if transfer is None or payment.status in (ON_HOLD, REJECTED):
        return "expecting"
    return "late" if transfer.late else "onTime"


# --- Amounts: texts; fiat with two decimals, coins with six (our choice for the coins of which no example is published) ---
def money(amount, currency):
    """An amount as the API writes it."""
    step = Decimal("0.01") if currency in coins.FIATS else Decimal("0.000001")
    return format(amount.quantize(step, rounding=ROUND_HALF_UP), "f")


def rate(base, quote):
    """The price of one ``base`` in ``quote``, eight digits."""
    return Context(prec=8).divide(coins.usd_price(base), coins.usd_price(quote))


def _after_rate(payment):
    """What was charged, in the target currency, before the fee."""
    return payment.pay_amount * rate(payment.pay_currency, payment.data["targetCurrency"])


# --- Shapes (JSON:API): a relationship that is not loaded has no ``data`` ---
UNLOADED = {"meta": {"included": False}}


def _resource(identity, kind, attributes, relationships=None):
    item = {"id": identity, "type": kind, "attributes": attributes}
    return item | ({"relationships": relationships} if relationships else {})


def _to_one(kind, identity):
    return {"data": {"type": kind, "id": identity}}


def _same_id(*names):
    """The same id for the same names."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, " ".join(names)))


def account_id(merchant, currency):
    """The id of the merchant's master account in that currency."""
    return _same_id("account", merchant, currency)


def _currency_type(symbol):
    return "fiat" if symbol in coins.FIATS else "crypto"


def _network_name(network):
    return NETWORK_NAMES.get(network, coins.NETWORKS[network].title)


def invoice(payment, *, loaded):
    """The invoice: as it is made and listed, or ``loaded`` with what came of it, as it is read and told of."""
    data = payment.data
    account = account_id(payment.account, data["targetCurrency"])
    address, tag = _same_id("address", payment.gateway_id), f"?dt={payment.memo}" if payment.memo else ""
    after_rate = _after_rate(payment)
    attributes = {
        "amountBilled": money(payment.amount, payment.currency),
        "amountCharged": money(payment.pay_amount, payment.pay_currency),
        "targetAmount": money(after_rate * (1 - Decimal(data["fee_percent"]) / 100), data["targetCurrency"]),
        "billedCurrency": payment.currency,
        "chargedCurrency": payment.pay_currency,
        "targetCurrency": data["targetCurrency"],
        "chargedTargetRate": format_amount(rate(payment.pay_currency, data["targetCurrency"])),
        "chargedTargetRateCurrency": data["targetCurrency"],
        "reference": payment.reference or None,
        "statusContext": _context(payment),
        "network": data["network"],
        "networkName": _network_name(payment.network),
        "paymentMethods": data["paymentMethods"],
        "status": payment.status,
        **{name: data[name] for name in ("successRedirectUrl", "unsuccessRedirectUrl")},
        "paymentStatus": _payment_status(payment),
        "exchangeRate": data["exchangeRate"],
        "expiresAt": iso(payment.expires_at),
        "createdAt": iso(payment.created_at),
        "hostedPageUrl": data["hostedPageUrl"],
        "scAddress": None,
    }
    included = [
        _resource(
            address,
            "addresses",
            {"label": _network_name(payment.network), "value": payment.address + tag, "createdAt": iso(payment.created_at)},
            {"account": UNLOADED, "network": UNLOADED},
        ),
        _account(account, data["targetCurrency"]),
    ]
    children = {"refundLinks": [], "invoiceTransactions": [], "coinDeposits": []}
    if loaded:
        children = {
            "refundLinks": [_refund_link(payment, link) for link in data["refund_links"]],
            "invoiceTransactions": [_invoice_transaction(payment, after_rate)],
            "coinDeposits": [_coin_deposit(payment, transfer, account) for transfer in payment.transfers.all()],
        }
    relationships = {
        "targetAccount": _to_one("accounts", account),
        "binanceOrder": {"data": None},
        "address": _to_one("addresses", address),
        **{
            name: {"data": [{"type": item["type"], "id": item["id"]} for item in items]} if loaded else UNLOADED
            for name, items in children.items()
        },
    }
    included += [item for items in children.values() for item in items]
    return {"data": _resource(payment.gateway_id, "invoices", attributes, relationships), "included": included, "meta": {}}


def _account(identity, currency):
    attributes = {
        "master": True,
        "currencyCode": currency,
        "label": "master",
        "bankReference": f"BDR{uuid.UUID(identity).int % 10**16:016}",
        "balance": money(Decimal(0), currency),
        "totalBalance": None,
        **dict.fromkeys(("bankWithdrawalAvailable", "bankDepositAvailable", "transferAvailable"), True),
        "currencyType": _currency_type(currency),
    }
    return _resource(identity, "accounts", attributes, dict.fromkeys(("company", "networks", "txnBankCredentials"), UNLOADED))


def _refund_link(payment, link):
    """A payment link (our choice of fields: the documentation names none)."""
    page = f"{payment.data['hostedPageUrl']}?payment_link_id={link['id']}&request_type=payment_link_hosted_page"
    attributes = {"amount": link["amount"], "currency": payment.pay_currency, "paymentType": "Payout", "status": "created"}
    attributes |= {"reference": f"REFUND-{payment.reference}", "hostedPageUrl": page, "createdAt": link["createdAt"]}
    return _resource(link["id"], "paymentLinks", attributes)


def _invoice_transaction(payment, after_rate):
    target, fee = payment.data["targetCurrency"], Decimal(payment.data["fee_percent"]) / 100
    attributes = {
        "amountBilled": money(payment.amount, payment.currency),
        "billedChargedRate": payment.data["exchangeRate"],
        "billedChargedRateCurrency": payment.currency,
        "consolidationFee": "0.00",
        "targetTransactionFee": money(after_rate * fee, target),
        "targetTransactionFeeCurrency": target,
        "transactionFee": money(payment.amount * fee, payment.currency),
        "transactionFeeCurrency": payment.currency,
    }
    relationships = dict.fromkeys(("exchangeQuote", "invoice", "txn"), UNLOADED)
    return _resource(_same_id("fee", payment.gateway_id), "invoiceTransactions", attributes, relationships)


def _coin_deposit(payment, transfer, account):
    # No page names the states: these three are known from other people's code only.
    held = "on_hold_confirmed" if payment.status == ON_HOLD else "processed"
    attributes = {
        "accountId": account,
        "amount": money(transfer.amount, transfer.currency),
        "createdAt": iso(transfer.seen_at),
        "currencyCode": transfer.currency,
        "state": held if transfer.confirmed else "pending",
        "txHash": transfer.tx_hash,
    }
    return _resource(_same_id("deposit", transfer.tx_hash), "coinTransactions", attributes)


def currency_pairs(codes):
    """Every billed currency with every coin; what is included tells the networks' codes (our choice of its other fields)."""
    charged = list(dict.fromkeys(symbol for symbol, _ in codes.values()))
    billed = [*coins.FIATS, *coins.COINS]
    pairs = [_pair(one, other) for one in billed for other in charged]
    included = [_currency(symbol, [code for code in codes if codes[code][0] == symbol]) for symbol in billed]
    included += [
        _resource(_same_id("network", code), "networks", {"code": code, "name": _network_name(network)})
        for code, (_, network) in codes.items()
    ]
    return {"data": pairs, "included": included, "meta": {}}


def _pair(billed, charged):
    relationships = {"billedCurrency": _to_one("currencies", billed), "chargedCurrency": _to_one("currencies", charged)}
    return _resource(_same_id(billed, charged), "invoiceCurrencyPairs", {"direction": "sell", "enabled": True}, relationships)


def _currency(symbol, codes):
    networks = {"data": [{"type": "networks", "id": _same_id("network", code)} for code in codes]}
    return _resource(symbol, "currencies", {"code": symbol, "currencyType": _currency_type(symbol)}, {"networks": networks})


def exchange_rate(base, quote):
    """The price of one ``base`` in ``quote``."""
    attributes = {
        "baseCurrencyCode": base,
        "quoteCurrencyCode": quote,
        "direction": "mid_market_rate",
        "price": format_amount(rate(base, quote)),
        "quantity": "10.0",
    }
    return {"data": _resource(f"{base}{quote}/10.0{base}", "exchangeRates", attributes)}


def error(refusal):
    """One entry of ``errors``; which of them carry a status or a source follows the documented examples."""
    code = {"validation": "invoice_invalid", "not_found": f"{refusal.key}_not_found"}.get(refusal.kind, refusal.kind)
    entry = {"title": TITLES.get(refusal.kind, "Invalid attribute"), "detail": str(refusal), "code": code}
    if refusal.kind == "unauthorized":
        del entry["detail"]
    if refusal.kind in ("unauthorized", "payment_methods_conflict"):
        entry["status"] = refusal.status
    if refusal.kind == "validation":
        entry["source"] = {"pointer": f"/data/attributes/{refusal.key}"}
    return entry
