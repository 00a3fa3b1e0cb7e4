"""tx.cash keeps the contract; its invoice is that of "Creates a new invoice" and of
https://docs.tx.cash/invoice/callback-handler-example-and-information, which are one object."""

from datetime import timedelta
from decimal import Decimal

import simplejson
from django.conf import settings
from django.test import TestCase

from crypto_invoices.providers.base import Kind
from crypto_invoices.statuses import InvoiceStatus
from crypto_invoices.testing import ProviderContract, Reply

TEXTS = ("pending", "paid", "under paid", "over paid", "expired", "cancelled")  # by status_code


class TestTxCash(ProviderContract, TestCase):
    provider_path = "crypto_invoices.providers.txcash.TxCash"
    account_options = {"api_key": settings.CANARIES["default"]}
    secret_option = "api_key"
    older_secret = settings.CANARIES["second"]
    base_path = "/invoice/v1/live"

    order = {"amount": "25", "currency": "EUR"}
    arguments = {
        "amount": (Decimal("25.50"), {"amount": "25.5"}),
        "currency": ("USD", {"currency": "USD"}),
        "order_id": ("A-1001", {"name": "A-1001"}),
        "description": ("Two books", {"description": "Two books"}),
        "lifetime": (timedelta(hours=2), {"valid_for": "7200s"}),
        "pay_currencies": (["USDT@polygon", "ETH"], {"payment_currencies": "polygon_usdt,eth_eth"}),
        "return_url": ("https://shop.example/thanks", {"success_url": "https://shop.example/thanks"}),
        "cancel_url": ("https://shop.example/sorry", {"fail_url": "https://shop.example/sorry"}),
    }
    unsupported = frozenset({"underpaid_tolerance", "fee_payer"})
    unsent = frozenset({"email"})
    own_order = {"pay_currencies": ["USDT@polygon"]}

    words = {
        "pending": InvoiceStatus.PENDING,
        "paid": InvoiceStatus.PAID,
        "underpaid": InvoiceStatus.UNDERPAID,
        "overpaid": InvoiceStatus.OVERPAID,
        "expired": InvoiceStatus.EXPIRED,
        "cancelled": InvoiceStatus.CANCELLED,
    }
    final = frozenset({"paid", "overpaid", "expired", "cancelled"})
    life = ("pending", "paid")
    page_url = "https://tx.cash/invoice/6f1c"
    tells_received = False  # the unit of paid_amount is not documented
    tells_transfers = True
    tells_payment_time = True
    refusal_code = "invalid"
    refusal_text = "valid_for: a duration was expected"

    def created(self, payment):
        invoice = Reply.json(_invoice(payment))
        if payment.kind is Kind.INVOICE:
            return [invoice]
        address = {"invoice_id": payment.gateway_id, "address": payment.address, "amount": 25, "currency": "polygon_usdt"}
        return [invoice, Reply.json(address)]

    def creates(self, request):
        return request.method == "POST" and request.path.endswith("/invoice")

    def fetched(self, payment):
        return [Reply.json(_invoice(payment))]

    def refused(self):
        error = {"resource": "invoice", "code": "invalid", "field": "valid_for", "description": "a duration was expected"}
        return Reply.json({"message": "Unauthorized", "errors": [error]}, 401)

    def probed(self):
        return self.fetched(self.new_payment())

    def callback_body(self, payment):
        return simplejson.dumps(_invoice(payment), use_decimal=True).encode()


def _invoice(payment):
    word = payment.word.replace("rpaid", "r paid")
    return {
        "id": payment.gateway_id, "url": payment.payment_url or TestTxCash.page_url, "amount": payment.amount,
        "paid_amount": payment.received, "base_currency": payment.currency, "name": "", "status": word,
        "status_code": TEXTS.index(word) if word in TEXTS else 9, "notify_url": "", "suceess_url": "", "fail_url": "",
        "expires_on": payment.expires_at.isoformat(),
        "payments": [
            {"tx_hash": tx_hash, "explorer_url": "", "amount": amount, "date": payment.paid_at.isoformat(), "confirmation": 12}
            for tx_hash, amount in payment.parts
        ],
        "created_at": "2026-03-17T08:29:07.518981123Z", "updated_at": "0001-01-01T00:00:00Z", "meta_data1": payment.reference,
    }  # fmt: skip
