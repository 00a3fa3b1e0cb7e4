"""txn.io keeps the contract; its documents are those of https://docs.txn.io/invoices/creating-invoice, /reading-invoice and
https://docs.txn.pro/invoices/invoice-webhooks, its words those of https://docs.txn.io/invoices/invoice-status-flow."""

from decimal import Decimal

import simplejson
from django.conf import settings
from django.test import TestCase

from crypto_invoices.providers.base import Kind
from crypto_invoices.statuses import InvoiceStatus
from crypto_invoices.testing import ProviderContract, Reply

INVOICES = "/api/public/v1/invoices"
ADDRESS_ID = "e4c1c999-8490-4133-87e9-3209e6d1f7db"
COMPLETED = {"full": InvoiceStatus.PAID, "underpaid": InvoiceStatus.UNDERPAID, "overpaid": InvoiceStatus.OVERPAID}


def _pairs():
    """https://docs.txn.io/invoices/listing-invoice-currency-pairs"""
    pairs = []
    for billed in ("EUR", "USD", "TRY"):
        for charged in ("USDT", "XRP"):
            sides = {"billedCurrency": billed, "chargedCurrency": charged}
            linked = {name: {"data": {"id": code, "type": "currencies"}} for name, code in sides.items()}
            attributes = {"direction": "sell", "enabled": True}
            pairs.append({"type": "invoiceCurrencyPairs", "id": billed, "attributes": attributes, "relationships": linked})
    return Reply.json({"data": pairs})


class TestTxn(ProviderContract, TestCase):
    provider_path = "crypto_invoices.providers.txn.Txn"
    account_options = {"api_key": settings.CANARIES["default"]}
    secret_option = "api_key"
    older_secret = settings.CANARIES["second"]
    base_path = "/api/public/v1"
    callback_content_type = "application/vnd.api+json"

    order = {"amount": "25", "currency": "EUR", "pay_currencies": ["USDT@tron"]}
    arguments = {
        "amount": (Decimal("25.50"), {"data.attributes.amountBilled": "25.5"}),
        "currency": ("USD", {"data.attributes.billedCurrency": "USD"}),
        "pay_currencies": (["XRP"], {"data.attributes.chargedCurrency": "XRP", "data.attributes.network": "xrp"}),
        "return_url": ("https://shop.example/thanks", {"data.attributes.successRedirectUrl": "https://shop.example/thanks"}),
        "cancel_url": ("https://shop.example/sorry", {"data.attributes.unsuccessRedirectUrl": "https://shop.example/sorry"}),
    }
    unsupported = frozenset({"lifetime", "underpaid_tolerance", "fee_payer"})
    unsent = frozenset({"order_id", "description", "email"})
    own_order = {"pay_currencies": ["XRP"]}

    words = {
        "pending expecting unpaid": InvoiceStatus.PENDING,
        "expired expecting unpaid": InvoiceStatus.EXPIRED,
        "processing ontime unpaid": InvoiceStatus.CONFIRMING,
        "processing late unpaid": InvoiceStatus.CONFIRMING,
        **{f"completed {when} {what}": COMPLETED[what] for when in ("ontime", "late") for what in COMPLETED},
        "completed expecting underpaid": InvoiceStatus.UNDERPAID,
        **{f"completed {when} overpaid refund": InvoiceStatus.OVERPAID for when in ("expecting", "ontime", "late")},
        "completed expecting overpaid": InvoiceStatus.OVERPAID,
        "completed ontime underpaid refund": InvoiceStatus.REFUNDING,
        "onhold expecting unpaid": InvoiceStatus.CONFIRMING,
        "cancelled expecting unpaid": InvoiceStatus.CANCELLED,
        "cancelled ontime unpaid": InvoiceStatus.FAILED,
        "cancelled late unpaid": InvoiceStatus.FAILED,
        "rejected expecting unpaid": InvoiceStatus.FAILED,
    }
    final = frozenset(words) - {
        *("pending expecting unpaid", "expired expecting unpaid", "processing ontime unpaid", "processing late unpaid"),
        *("completed ontime underpaid refund", "onhold expecting unpaid"),
    }  # fmt: skip
    life = ("pending expecting unpaid", "processing ontime unpaid", "completed ontime full")
    page_url = "https://sandbox.txn.io/redirect?invoice_id=1&request_type=invoice_hosted_page&zone=eu"
    tells_received = False  # what came is told in the payer's coin
    tells_transfers = True
    tells_payment_time = True
    refusal_code = "amount_below_minimum"
    refusal_text = "amount: 10.0, minimum: 30.00"
    beside = {f"{INVOICES}/currency_pairs": _pairs()}

    def new_gateway_id(self, number):
        return f"fe8ea84a-8490-4133-87e9-{number:012d}"

    def created(self, payment):
        return [Reply.json(_document(payment, loaded=False), 201)]

    def taken(self, payment):
        source = {"pointer": "/data/attributes/externalId"}
        error = {"status": 422, "code": "invoice_invalid", "detail": "Reference has already been taken", "source": source}
        return [Reply.json({"errors": [error]}, 422), *self.found(payment)]

    def fetched(self, payment):
        return [Reply.json(_document(payment))]

    def found(self, payment):
        others = [_document(self.new_payment())["data"], _document(payment)["data"]]
        return [Reply.json({"data": others}), *self.fetched(payment)]

    def not_found(self):
        return [Reply.json({"data": []})]

    def refused(self):
        return Reply.json({"errors": [{"code": "amount_below_minimum", "title": "amount: 10.0, minimum: 30.00"}]}, 422)

    def probed(self):
        return self.not_found()

    def callback_body(self, payment):
        return simplejson.dumps(_document(payment) | {"meta": {}}).encode()


def _document(payment, *, loaded=True):
    """``loaded``: whether relationships to what came later are there; the answer to a create call has none."""
    status, when, what, *link = [*payment.word.split(), "", ""][:4]
    deposits = [
        {
            "id": tx_hash, "type": "coinDeposits",
            "attributes": {
                "amount": str(amount), "currencyCode": "USDT", "txHash": tx_hash, "createdAt": payment.paid_at.isoformat(),
                "state": "processed" if payment.confirmed else "processing",
            },
        }
        for tx_hash, amount in payment.parts
    ]  # fmt: skip
    tag = f"?dt={payment.address_tag}" if payment.address_tag else ""
    xrp = payment.kind is Kind.ADDRESS
    address = {"createdAt": "2025-01-28T15:19:00.020Z", "label": "Tron (TRC20)", "value": (payment.address or "TAddress") + tag}
    deposit_ids = [{"id": item["id"], "type": item["type"]} for item in deposits]
    links = [{"id": "1", "type": "refundLinks"}] if "refund" in link else []
    not_loaded = {"meta": {"included": False}}
    return {
        "data": {
            "id": payment.gateway_id, "type": "invoices",
            "attributes": {
                "amountBilled": str(payment.amount), "amountCharged": str(payment.amount), "billedCurrency": payment.currency,
                "chargedCurrency": "XRP" if xrp else "USDT", "createdAt": "2025-01-28T16:26:56.275Z",
                "expiresAt": payment.expires_at.isoformat(), "hostedPageUrl": payment.payment_url,
                "network": "xrp" if xrp else "trx:usdt", "paymentMethods": ["on_chain"], "reference": payment.reference,
                "status": status, "paymentStatus": when, "statusContext": what, "targetAmount": "20.00", "targetCurrency": "EUR",
                "successRedirectUrl": None, "unsuccessRedirectUrl": None, "scAddress": None,
            },
            "relationships": {
                "address": {"data": {"id": ADDRESS_ID, "type": "addresses"}},
                "refundLinks": {"data": links} if loaded else not_loaded,
                "coinDeposits": {"data": deposit_ids} if loaded else not_loaded,
            },
        },
        "included": [{"id": ADDRESS_ID, "type": "addresses", "attributes": address}, *(deposits if loaded else [])],
    }  # fmt: skip
