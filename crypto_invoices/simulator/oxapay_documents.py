"""What OxaPay answers and sends: payment-information and webhook name the same things differently, and so do these."""

from decimal import Decimal

import segno

from . import coins
from .gateway import confirmations, unix


def network_name(key):
    """The network's name in this API."""
    return f"{coins.NETWORKS[key].title} Network"


def network_item(key):
    """common/currencies: one network of a coin."""
    network = coins.NETWORKS[key]
    names = {"network": network_name(key), "name": network.title, "keys": [key, *network.aliases]}
    limits = {"withdraw_fee": 1, "withdraw_min": 5, "deposit_min": 0, "static_fixed_fee": 0}
    return {**names, "required_confirmations": network.confirmations, **limits}


def invoice(payment, payment_url):
    """generate-invoice."""
    times = {"expired_at": unix(payment.expires_at), "date": unix(payment.created_at)}
    return {"track_id": payment.gateway_id, "payment_url": payment_url, **times}


def white_label(payment):
    """generate-white-label."""
    return {
        **{name: payment.data[name] for name in ("description", "email", "lifetime")},
        **{name: Decimal(payment.data[name]) for name in ("fee_paid_by_payer", "under_paid_coverage")},
        **address(payment),
        "amount": payment.amount,
        "currency": payment.currency,
        "pay_amount": payment.pay_amount,
        "pay_currency": payment.pay_currency,
        "rate": coins.usd_price(payment.pay_currency),
        "callback_url": payment.callback_url,
        "order_id": payment.reference,
        "expired_at": unix(payment.expires_at),
    }


def address(payment):
    """generate-static-address, and the same fields of generate-white-label."""
    return {
        "track_id": payment.gateway_id,
        "network": network_name(payment.network),
        "address": payment.address,
        "memo": payment.memo,
        "qr_code": segno.make(payment.address).png_data_uri(scale=4),  # our choice: what it holds is not documented
        "date": unix(payment.created_at),
    }


def static_item(payment):
    """static-address-list: one address."""
    item = {name: payment.data[name] for name in ("email", "description")}
    item |= {name: value for name, value in address(payment).items() if name != "qr_code"}
    return item | {"callback_url": payment.callback_url, "order_id": payment.reference}


def information(payment):
    """payment-information, and one item of payment-history."""
    data = payment.data
    texts = {name: data.get(name, "") for name in ("return_url", "email", "description", "thanks_message")}
    numbers = {name: Decimal(data.get(name, 0)) for name in ("fee_paid_by_payer", "under_paid_coverage")}
    return {
        "track_id": payment.gateway_id,
        "type": payment.kind,
        "amount": payment.amount or 0,
        "currency": payment.currency,
        "status": payment.status,
        "mixed_payment": data.get("mixed_payment", False),
        **numbers,
        "lifetime": data.get("lifetime", 0),
        "callback_url": payment.callback_url,
        **texts,
        "order_id": payment.reference,
        "expired_at": unix(payment.expires_at) if payment.expires_at else 0,
        "date": unix(payment.created_at),
        "txs": [_information_tx(payment, transfer) for transfer in payment.transfers.all()],
    }


def _information_tx(payment, transfer):
    converted = transfer.confirmed and payment.data["to_currency"] != ""
    return {
        "tx_hash": _real(payment, transfer.tx_hash),
        "amount": transfer.amount,
        "currency": transfer.currency,
        "network": network_name(transfer.network),
        "address": _real(payment, transfer.address),
        "status": "confirmed" if transfer.confirmed else "confirming",
        "confirmations": confirmations(transfer),
        "auto_convert": {
            "processed": converted,
            "amount": transfer.usd if converted else 0,
            "currency": payment.data["to_currency"] if converted else "",
        },
        "auto_withdrawal": {"processed": transfer.confirmed and payment.data["auto_withdrawal"]},
        "date": unix(transfer.seen_at),
    }


def webhook(payment, word, transfers, module_name):
    """webhook: ``word`` is the status in title case, ``transfers`` are those that it tells of."""
    static = payment.amount is None
    worth = sum((transfer.usd for transfer in transfers), Decimal(0))
    return {
        "track_id": payment.gateway_id,
        "status": word,
        "type": payment.kind,
        "module_name": module_name,
        "amount": transfers[-1].amount if static else payment.amount,
        "value": worth,
        "sent_value": worth,
        "currency": transfers[-1].currency if static else payment.currency,
        "order_id": payment.reference,
        "email": payment.data["email"],
        "note": "",
        "fee_paid_by_payer": Decimal(payment.data.get("fee_paid_by_payer", 0)),
        "under_paid_coverage": Decimal(payment.data.get("under_paid_coverage", 0)),
        "description": payment.data["description"],
        "date": unix(payment.created_at),
        "txs": [_webhook_tx(payment, transfer) for transfer in transfers],
    }


def _webhook_tx(payment, transfer):
    sandbox = payment.data.get("sandbox", False)
    converted = payment.data["to_currency"] if transfer.confirmed else ""
    return {
        "status": "confirmed" if transfer.confirmed else "confirming",
        "tx_hash": _real(payment, transfer.tx_hash),
        "sent_amount": transfer.amount,
        "received_amount": _received(payment, transfer),
        "value": transfer.usd,
        "sent_value": transfer.usd,
        "currency": transfer.currency,
        "network": network_name(transfer.network),
        "sender_address": "" if sandbox else transfer.sender,
        "address": _real(payment, transfer.address),
        "memo": transfer.memo,
        "rate": 1 if sandbox else transfer.price,
        "confirmations": 10 if sandbox else confirmations(transfer),
        "auto_convert_amount": transfer.usd if converted else 0,
        "auto_convert_currency": converted,
        "date": unix(transfer.seen_at),
    }


def _received(payment, transfer):
    """What the merchant gets of it: the commission is taken out, whoever was asked to bear it (our choice of formula)."""
    commission = Decimal(payment.data["commission_percent"]) / 100
    by_payer = Decimal(payment.data.get("fee_paid_by_payer", 0))
    return (transfer.amount * (1 - (1 - by_payer) * commission) / (1 + by_payer * commission)).quantize(Decimal("0.00000001"))


def _real(payment, text):
    return "sandbox" if payment.data.get("sandbox") else text
