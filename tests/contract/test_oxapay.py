"""OxaPay keeps the contract; the answers are those of https://docs.oxapay.com/api-reference/payment/ and /webhook."""

import hashlib
import hmac
from datetime import timedelta
from decimal import Decimal

import simplejson
from django.conf import settings
from django.test import TestCase

from crypto_invoices.providers.base import Kind
from crypto_invoices.statuses import InvoiceStatus
from crypto_invoices.testing import ProviderContract, Reply

TYPES = {Kind.INVOICE: "invoice", Kind.ADDRESS: "white_label", Kind.STATIC_ADDRESS: "static_address"}


class TestOxaPay(ProviderContract, TestCase):
    provider_path = "crypto_invoices.providers.oxapay.OxaPay"
    account_options = {"merchant_api_key": settings.CANARIES["default"]}
    secret_option = "merchant_api_key"
    older_secret = settings.CANARIES["second"]
    base_path = "/v1"

    order = {"amount": "25", "currency": "USDT"}
    arguments = {
        "amount": (Decimal("25.50"), {"amount": Decimal("25.5")}),
        "currency": ("EUR", {"currency": "EUR"}),
        "order_id": ("A-1001", {"description": "A-1001"}),
        "description": ("Two books", {"description": "Two books"}),
        "email": ("payer@shop.example", {"email": "payer@shop.example"}),
        "lifetime": (timedelta(hours=2), {"lifetime": 120}),
        "underpaid_tolerance": (Decimal("2.5"), {"under_paid_coverage": Decimal("2.5")}),
        "fee_payer": ("payer", {"fee_paid_by_payer": 1}),
        "return_url": ("https://shop.example/thanks", {"return_url": "https://shop.example/thanks"}),
    }
    unsupported = frozenset({"pay_currencies", "cancel_url"})
    own_order = {"pay_currencies": ["USDT@tron"]}
    static_order = {"pay_currency": "USDT@tron"}

    words = {
        "new": InvoiceStatus.PENDING,
        "waiting": InvoiceStatus.PENDING,
        "paying": InvoiceStatus.CONFIRMING,
        "paid": InvoiceStatus.PAID,
        "manual_accept": InvoiceStatus.PAID,
        "underpaid": InvoiceStatus.UNDERPAID,
        "expired": InvoiceStatus.EXPIRED,
        "refunding": InvoiceStatus.REFUNDING,
        "refunded": InvoiceStatus.REFUNDED,
    }
    final = frozenset({"paid", "manual_accept", "underpaid", "expired", "refunded"})
    life = ("waiting", "paying", "paid")
    page_url = "https://pay.oxapay.com/10000001/190000001"
    tells_received = True  # of a price in a coin
    tells_transfers = True
    tells_payment_time = True
    tolerance = Decimal("2.5")
    refusal_code = "lifetime"
    refusal_text = "Must be an integer."

    def created(self, payment):
        data = {"track_id": payment.gateway_id, "expired_at": _unix(payment.expires_at), "date": 1760000000}
        if payment.kind is Kind.INVOICE:
            return [_answer(data | {"payment_url": payment.payment_url})]
        if payment.kind is Kind.ADDRESS:
            data |= {
                "amount": payment.amount, "currency": payment.currency, "pay_amount": payment.amount, "pay_currency": "USDT",
                "order_id": payment.reference, "under_paid_coverage": Decimal("2.5"), "rate": 1, "lifetime": 60,
            }  # fmt: skip
        return [_answer(data | {"address": payment.address, "memo": payment.address_tag, "network": "Tron Network"})]

    static_created = created

    def fetched(self, payment):
        return [_answer(_information(payment))]

    def found(self, payment):
        others = [_information(self.new_payment()), _information(payment)]
        return [_answer({"list": others, "meta": {"page": 1, "last_page": 1, "total": 2}}), *self.fetched(payment)]

    def not_found(self):
        return [_answer({"list": [], "meta": {"page": 1, "last_page": 1, "total": 0}})]

    def revoked(self, payment):
        return [_answer({})]

    def refused(self):
        error = {"type": "invalid_request", "key": "lifetime", "message": "Must be an integer."}
        return Reply.json({"data": {}, "message": "Validation problem.", "error": error, "status": 400, "version": "1.0.0"}, 400)

    def probed(self):
        return [_answer({"list": ["BTC", "USDT"]})]

    def callback_body(self, payment):
        txs = [
            {
                "status": "confirmed" if payment.confirmed else "confirming", "tx_hash": tx_hash, "sent_amount": amount,
                "received_amount": amount, "value": amount, "sent_value": amount, "currency": payment.currency,
                "network": "Tron Network", "sender_address": "TSender", "address": "TReceiver", "memo": "", "rate": 1,
                "confirmations": 20, "auto_convert_amount": 0, "auto_convert_currency": "", "date": _unix(payment.paid_at),
            }
            for tx_hash, amount in payment.parts
        ]  # fmt: skip
        fields = {
            "track_id": payment.gateway_id, "status": payment.word.title(), "type": TYPES[payment.kind],
            "module_name": "DemoShop", "amount": payment.amount, "value": payment.received, "sent_value": payment.received,
            "currency": payment.currency, "order_id": payment.reference, "email": "", "note": "", "fee_paid_by_payer": 0,
            "under_paid_coverage": Decimal("2.5"), "description": "", "date": 1760000000, "txs": txs,
        }  # fmt: skip
        return simplejson.dumps(fields, use_decimal=True, separators=(",", ":")).encode()

    def sign(self, body, secret):
        return {"HMAC": hmac.new(secret.encode(), body, hashlib.sha512).hexdigest()}


def _answer(data):
    success = {"message": "Operation completed successfully!", "error": {}, "status": 200, "version": "1.0.0"}
    return Reply.json({"data": data, **success})


def _information(payment):
    return {
        "track_id": payment.gateway_id, "type": TYPES[payment.kind], "amount": payment.amount, "currency": payment.currency,
        "status": payment.word, "mixed_payment": False, "fee_paid_by_payer": 0, "under_paid_coverage": Decimal("2.5"),
        "lifetime": 60, "callback_url": "https://shop.example/", "return_url": "", "email": "", "order_id": payment.reference,
        "description": "", "thanks_message": "", "expired_at": _unix(payment.expires_at), "date": 1760000000,
        "txs": [
            {
                "tx_hash": tx_hash, "amount": amount, "currency": payment.currency, "network": "Tron Network",
                "address": "TReceiver", "status": "confirmed" if payment.confirmed else "confirming", "confirmations": 12,
                "auto_convert": {"processed": False}, "auto_withdrawal": {"processed": False}, "date": _unix(payment.paid_at),
            }
            for tx_hash, amount in payment.parts
        ],
    }  # fmt: skip


def _unix(time):
    return int(time.timestamp())
