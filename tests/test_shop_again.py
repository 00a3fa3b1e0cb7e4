"""An order whose payment did not come in time: what its page says, and how it is paid after all."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.urls import reverse
from django.utils import timezone

from crypto_invoices import ledger
from crypto_invoices.models import Invoice
from crypto_invoices.providers.base import Evidence, Kind, Remote, RemoteInvoice, RemoteTransfer
from crypto_invoices.providers.oxapay import OxaPay
from crypto_invoices.services import create_invoice
from crypto_invoices.statuses import InvoiceStatus, Source
from example_project.shop.models import Order

PAYMENT_URL = "https://pay.oxapay.com/10720216/"


@pytest.fixture
def order(transactional_db, monkeypatch):
    """An order whose invoice is open at a gateway that always answers."""
    ids = iter(("184198827", "184198828", "184198829"))

    def create(self, request):
        gateway_id = next(ids)
        return RemoteInvoice(gateway_id=gateway_id, payment_url=PAYMENT_URL + gateway_id)

    monkeypatch.setattr(OxaPay, "create", create)
    order = Order.objects.create(email="payer@example.com", total="59.00", currency="USD")
    order.refresh_from_db()
    order.invoice = create_invoice(
        amount=order.total,
        currency="USD",
        order_id=order.number,
        email=order.email,
        description=f"Order {order.number}",
        return_url="https://shop.example" + order.get_absolute_url(),
        idempotency_key=f"order-{order.number}",
    )
    order.save()
    return order


def polled(order, word, status, *transfers, final=True, expires_in=-10):
    """The gateway says this when it is polled."""
    attempt = order.invoice.attempts.get()
    ledger.apply(
        Evidence(
            source=Source.POLL,
            remote=Remote(Kind.INVOICE, attempt.gateway_id, attempt.reference),
            word=word,
            status=status,
            final=final,
            transfers=list(transfers),
            expires_at=timezone.now() + timedelta(seconds=expires_in),
        ),
        attempt_id=attempt.pk,
    )


def transfer():
    return RemoteTransfer(
        key="hash", tx_hash="hash", amount=Decimal("0.01"), currency="ETH", confirmed=True, paid_at=timezone.now()
    )


def test_paid_again_after_it_expired(order, client):
    polled(order, "expired", InvoiceStatus.EXPIRED)
    page = client.get(order.get_absolute_url()).text
    assert "The time to pay has run out" in page
    assert "Pay now" in page
    for _ in range(2):  # the second press finds the attempt of the first
        answer = client.post(reverse("shop:pay", args=[order.number]))
        assert Invoice.objects.get().payment_url == PAYMENT_URL + "184198828"
        assert client.get(answer.url).url == PAYMENT_URL + "184198828"


def test_money_that_came_too_late_is_not_asked_for_again(order, client):
    polled(order, "expired", InvoiceStatus.EXPIRED, transfer())
    page = client.get(order.get_absolute_url()).text
    assert "we are looking into it" in page
    assert "Pay now" not in page


def test_too_little_money_is_not_asked_for_again(order, client):
    polled(order, "underpaid", InvoiceStatus.UNDERPAID, transfer())
    page = client.get(order.get_absolute_url()).text
    assert "Less than the price" in page
    assert "Pay now" not in page


def test_the_rest_can_be_paid_while_the_gateway_waits_for_it(order, client):
    polled(order, "under paid", InvoiceStatus.UNDERPAID, transfer(), final=False, expires_in=60)
    page = client.get(order.get_absolute_url()).text
    assert "please pay the rest" in page
    assert "Pay now" in page
