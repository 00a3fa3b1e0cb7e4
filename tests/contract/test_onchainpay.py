"""OnchainPay keeps the contract; its answers are those of https://docs.onchainpay.io/api-reference/07invoices, /05orders and
/personal_addresses, its signature that of https://docs.onchainpay.io/signature."""

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

AFTER_THE_CHOICE = timedelta(hours=12)  # expiresAt ends the choice of a coin; the order that it makes lives as long as this


class TestOnchainPay(ProviderContract, TestCase):
    provider_path = "crypto_invoices.providers.onchainpay.OnchainPay"
    account_options = {"public_key": "PUBLIC-KEY-OF-THE-CONTRACT", "secret_key": settings.CANARIES["default"]}
    secret_option = "secret_key"
    older_secret = settings.CANARIES["second"]
    base_path = "/api-gateway"

    order = {"amount": "25", "currency": "USD"}
    arguments = {
        "amount": (Decimal("25.50"), {"amount": "25.5"}),
        "currency": ("EUR", {"currency": "EUR"}),
        "order_id": ("A-1001", {"order": "A-1001"}),
        "description": ("Two books", {"description": "Two books"}),
        "email": ("payer@shop.example", {"payerEmail": "payer@shop.example"}),
        "lifetime": (timedelta(hours=2), {"lifetime": 120}),
        "pay_currencies": (["USDT@tron"], {"currencies.0.0": "USDT", "currencies.0.1": "tron", "currencies.1.0": None}),
        "underpaid_tolerance": (Decimal("2.5"), {"paymentTolerancePercent": "2.5"}),
        "fee_payer": ("payer", {"includeFee": True}),
        "return_url": ("https://shop.example/thanks", {"returnURL": "https://shop.example/thanks"}),
    }
    unsupported = frozenset({"cancel_url"})
    own_order = {"currency": "USDT", "pay_currencies": ["USDT@tron"]}
    static_order = {"pay_currency": "USDT@tron"}

    words = {
        "created": InvoiceStatus.PENDING,
        "init": InvoiceStatus.PENDING,
        "pending": InvoiceStatus.CONFIRMING,
        "partial": InvoiceStatus.UNDERPAID,
        "processed": InvoiceStatus.PAID,
        "overpaid": InvoiceStatus.OVERPAID,
        "expired": InvoiceStatus.EXPIRED,
        "rejected": InvoiceStatus.FAILED,
        "error": InvoiceStatus.FAILED,
    }
    final = frozenset({"rejected", "error"})
    life = ("init", "pending", "processed")
    page_url = "https://invoices.domain.example/a393e9f0"
    tells_received = True
    tells_transfers = False
    tells_payment_time = False
    tolerance = Decimal("1.5")
    refusal_code = "400"
    refusal_text = "lifetime must be an integer"

    def new_gateway_id(self, number):
        return f"a393e9f0-aa92-45fa-b9cc-{number:012d}"

    def new_address(self, kind, **changes):
        payment = super().new_address(kind, **changes)
        if kind is not Kind.STATIC_ADDRESS:
            return payment
        return super().new_address(kind, **changes | {"gateway_id": f"{payment.gateway_id}_USDT_tron"})

    def created(self, payment):
        if payment.kind is Kind.INVOICE:
            return [_success(_invoice(payment))]
        return [_success(_listed(payment))]

    def creates(self, request):
        return request.path.endswith("/make-invoice")

    def static_created(self, payment):
        user_id = payment.gateway_id.partition("_")[0]
        return [_success({"id": user_id, "clientId": payment.reference}), *self.fetched(payment)]

    def fetched(self, payment):
        if payment.kind is Kind.INVOICE:
            return [_success(_invoice(payment))]
        if payment.kind is Kind.ADDRESS:
            return [_success(_order(payment) | {"orderId": payment.reference})]
        user_id = payment.gateway_id.partition("_")[0]
        address = {"address": payment.address, "tag": None, "balance": str(payment.received), "isActive": True}
        return [_success({"id": "1", "userId": user_id, "currency": "USDT", "network": "tron"} | address)]

    def found(self, payment):
        if payment.kind is Kind.ADDRESS:
            return [_success({"orders": [_listed(self.new_payment()), _listed(payment)], "total": "2"}), *self.fetched(payment)]
        invoices = [_invoice(self.new_payment()), _invoice(payment)]
        return [_success({"invoices": invoices, "total": 2}), *self.fetched(payment)]

    def not_found(self):
        return [_success({"invoices": [], "orders": [], "total": "0"})]

    def refused(self):
        error = {"name": "BAD_REQUEST", "message": "lifetime must be an integer", "code": 400}
        return Reply.json({"success": False, "error": error, "requestId": "1"}, 400)

    def probed(self):
        return [_success({"errors": [], "checkSignatureResult": True, "signature": "", "receivedBody": ""})]

    def callback_body(self, payment):
        if payment.kind is Kind.STATIC_ADDRESS:
            return simplejson.dumps({"event": "DEPOSIT_PERSONAL", "id": payment.gateway_id}).encode()
        if payment.kind is Kind.ADDRESS:
            return simplejson.dumps(_order(payment) | {"order": payment.reference}).encode()
        return simplejson.dumps(_invoice(payment), separators=(",", ":")).encode()

    def sign(self, body, secret):
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return {"x-api-signature": signature}


def _success(response):
    return Reply.json({"success": True, "response": response})


def _invoice(payment):
    return {
        "id": payment.gateway_id, "externalId": payment.reference, "orderId": None, "orderLink": None,
        "invoiceLink": payment.payment_url, "status": payment.word.upper(), "order": "", "description": None,
        "currency": payment.currency, "amount": str(payment.amount), "receivedNetwork": "tron", "receivedCurrency": "USDT",
        "receivedAmount": str(payment.received), "receivedAmountInInvoiceCurrency": str(payment.received), "rate": "1",
        "includeFee": True, "additionalFees": [], "insurancePercent": "0", "slippagePercent": "0",
        "paymentTolerancePercent": "1.5", "webhookURL": "https://shop.example/", "returnUrl": "https://shop.example/",
        "expiresAt": (payment.expires_at - AFTER_THE_CHOICE).isoformat(), "createdAt": "2024-12-25T14:35:23.166Z",
        "currencies": [{"currency": "USDT", "networks": [{"name": "tron", "amount": "25"}]}],
    }  # fmt: skip


def _listed(payment):
    """An order as it is made and listed: ``orderId`` is the gateway's id."""
    return {
        "status": payment.word, "link": "https://payment.domain.example/1", "amount": str(payment.amount),
        "currency": payment.currency, "network": "tron", "address": payment.address, "addressId": "1",
        "tag": payment.address_tag or None, "orderId": payment.gateway_id, "clientOrderId": payment.reference,
        "expiresAt": payment.expires_at.isoformat(), "createdAt": "2024-12-25T14:35:23.166Z",
    }  # fmt: skip


def _order(payment):
    """What the answer to /order and the callback share; our reference is ``orderId`` in one and ``order`` in the other."""
    transactions = [
        {
            "id": tx_hash, "status": "processed" if payment.confirmed else "pending", "currency": "USDT", "network": "tron",
            "amount": str(amount), "tx": tx_hash, "confirmations": "10", "sender": "TSender",
        }
        for tx_hash, amount in payment.parts
    ]  # fmt: skip
    return {
        "id": payment.gateway_id, "currency": payment.currency, "network": "tron", "status": payment.word, "description": None,
        "address": payment.address, "tag": payment.address_tag or None, "amount": str(payment.amount),
        "received": str(payment.received), "paymentTolerancePercent": "1.5", "transactions": transactions,
        "expiresAt": payment.expires_at.isoformat(),
    }  # fmt: skip
