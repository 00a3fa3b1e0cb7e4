"""goodPayments keeps the contract; the object of its answers and webhooks is that of
https://goodpayments.gitbook.io/docs/api-reference/api-methods-overview-request-response-structure/create-an-invoice."""

from datetime import timedelta
from decimal import Decimal

import simplejson
from django.conf import settings
from django.test import TestCase

from crypto_invoices.providers.base import Kind
from crypto_invoices.statuses import InvoiceStatus
from crypto_invoices.testing import ProviderContract, Reply


class TestGoodPayments(ProviderContract, TestCase):
    provider_path = "crypto_invoices.providers.goodpayments.GoodPayments"
    account_options = {"api_key": settings.CANARIES["default"]}
    secret_option = "api_key"
    older_secret = settings.CANARIES["second"]
    base_path = "/v1/api"

    order = {"amount": "10", "currency": "USD"}
    arguments = {
        "amount": (Decimal("25.50"), {"amount": Decimal("25.5")}),
        "currency": ("USD", {"type": "SINGLE"}),  # the only one; it is not named
        "order_id": ("A-1001", {"description": "A-1001"}),
        "description": ("Two books", {"description": "Two books"}),
        "lifetime": (timedelta(hours=2), {"expiry_minutes": 120}),
        "pay_currencies": (["USDT@tron"], {"currencies.0": "USDT", "currencies.1": None}),
        "fee_payer": ("merchant", {"client_comission": False}),  # with the payer no price is told
        "return_url": ("https://shop.example/thanks", {"redirect_url": "https://shop.example/thanks"}),
    }
    unsupported = frozenset({"underpaid_tolerance", "cancel_url"})
    unsent = frozenset({"email"})
    own_order = {"pay_currencies": ["USDT@tron"]}
    static_order = {"pay_currency": "USDT@tron"}

    words = {
        "active": InvoiceStatus.PENDING,
        "completed": InvoiceStatus.PAID,
        "canceled": InvoiceStatus.CANCELLED,
        "timeout": InvoiceStatus.EXPIRED,
        "error": InvoiceStatus.FAILED,
        "aml_failed": InvoiceStatus.FAILED,
        "overpaid": InvoiceStatus.OVERPAID,
        "underpaid": InvoiceStatus.UNDERPAID,
    }
    final = frozenset(words) - {"active"}
    life = ("active", "completed")
    page_url = "https://app.goodpayments.io/payment/300000001"
    tells_received = False  # it is told in tokens
    tells_transfers = False
    tells_payment_time = False
    can_be_late = False
    refusal_code = "expiry_minutes"
    refusal_text = "A valid integer is required."

    def created(self, payment):
        return [Reply.json(_object(payment))]

    fetched = static_created = created

    def cancelled(self, payment):
        return [Reply.json(_object(payment, status="CANCELED"))]

    revoked = cancelled

    def refused(self):
        return Reply.json({"expiry_minutes": ["A valid integer is required."]}, 400)

    def probed(self):
        return [Reply.json({"email": "shop@shop.example", "balance": Decimal("771.011200337155")})]

    def callback_body(self, payment):
        return simplejson.dumps(_object(payment), use_decimal=True).encode()


def _object(payment, **changes):
    static, own = payment.kind is Kind.STATIC_ADDRESS, payment.kind is not Kind.INVOICE
    received = {"USDT": payment.received} if own else {"TRX": payment.received * 3, "USDT": 0}
    return {
        "id": int(payment.gateway_id), "status": "ACTIVE" if static else payment.word.upper(),
        "type": "MULTIPLE" if static else "SINGLE",
        "paymentURL": payment.payment_url, "amount": None if static else payment.amount,
        "currencies": ["USDT"] if own else ["TRX", "USDT"],
        "currencies_amounts": {"USDT": payment.amount} if own else {"TRX": payment.amount * 3, "USDT": payment.amount},
        "transfer_amounts": {"input": received, "output": {"TRX": 0, "USDT": 0}}, "cost": None, "client_commission": False,
        "order_id": payment.reference, "address": payment.address or "TAddress", "webhook_url": None, "redirect_url": None,
        "description": "", "merchant_contact": "@shop", "target_wallets": {},
        "expired_at": None if static else payment.expires_at.isoformat(), "created_at": "2026-03-17T11:29:07.518981+03:00",
    } | changes  # fmt: skip
