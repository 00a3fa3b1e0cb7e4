"""Compiled statements do what the ORM's own do, on every database."""

from datetime import timedelta
from decimal import Decimal as D

import pytest
from django.db import connection
from django.db.models import Exists, OuterRef
from django.test.utils import CaptureQueriesContext, override_settings
from django.utils import timezone

from crypto_invoices.models import CallbackReceipt, Invoice, InvoiceEvent, PaymentAttempt
from crypto_invoices.statements import Reading, insert, update

pytestmark = pytest.mark.django_db

read = Reading(
    lambda order, currency: (
        PaymentAttempt.objects.filter(invoice__order_id=order, currency=currency)
        .select_related("invoice")
        .annotate(told=Exists(InvoiceEvent.objects.filter(attempt_id=OuterRef("pk"))))
        .order_by("-pk")
    ),
    order="an order",
    currency="a currency",
)
read_events = Reading(
    lambda invoice: InvoiceEvent.objects.filter(invoice_id=invoice).select_related("attempt").order_by("version"), invoice=-1
)


def make(order="A", amount="99999999.99999999", **fields):
    invoice = Invoice.objects.create(order_id=order, amount=D(amount), currency="USD", metadata={"a": [1, None]}, **fields)
    attempt = PaymentAttempt.objects.create(invoice=invoice, account="default", amount=D(amount), currency="USD")
    return invoice, attempt


def columns(row):
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def test_insert_writes_what_save_writes():
    invoice, attempt = make()
    now = timezone.now()
    event = InvoiceEvent(
        invoice=invoice, attempt=attempt, version=1, kind="status", new_status="paid", signals=["invoice_paid"],
        source="callback", data={"amount": D("1.5")}, created_at=now, due_at=None, reason="é\u2028\N{GRINNING FACE}",
    )  # fmt: skip
    insert(event)
    assert event.pk is not None
    assert not event._state.adding
    stored = columns(InvoiceEvent.objects.get(pk=event.pk))
    assert stored == columns(event) | {"data": {"amount": "1.5"}}


def test_insert_keeps_bytes_and_defaults():
    receipt = CallbackReceipt(account="a", digest="0" * 64, body=bytes(range(256)), verdict="stale", received_at=timezone.now())
    insert(receipt)
    stored = CallbackReceipt.objects.get()
    assert (bytes(stored.body), stored.seen, stored.headers, stored.attempt) == (bytes(range(256)), 1, {}, None)


@pytest.mark.parametrize("paid_at", [None, "now"])
def test_update_writes_values_and_nulls_and_counts_rows(paid_at):
    invoice, _ = make(version=3, paid_at=timezone.now() - timedelta(days=1))
    other, _ = make(version=3)
    value = timezone.now() if paid_at else None
    changed = {"paid_at": value, "status": "paid", "amount_received": D("1.123456789012345678"), "late": True}
    for _ in range(2):  # compiled, then from the store
        assert update(Invoice, {"version": 3, "pk": invoice.pk}, changed) == 1
        invoice.refresh_from_db()
        assert {name: getattr(invoice, name) for name in changed} == changed
        invoice.__class__.objects.filter(pk=invoice.pk).update(late=False, paid_at=timezone.now())
    assert update(Invoice, {"pk": invoice.pk, "version": 4}, {"version": 5}) == 0
    other.refresh_from_db()
    assert (other.status, other.paid_at) == ("pending", None)


def test_update_adds():
    invoice, _ = make(version=3)
    for number in (1, 5):
        assert update(Invoice, {"pk": invoice.pk}, {"status": "paid"}, adding={"version": number}) == 1
    invoice.refresh_from_db()
    assert (invoice.version, invoice.status) == (9, "paid")


def test_reading_gives_what_the_queryset_gives(django_assert_num_queries):
    first, attempt = make()
    make(order="B")
    second = PaymentAttempt.objects.create(invoice=first, account="second", amount=D(1), currency="USD")
    insert(
        InvoiceEvent(
            invoice=first, attempt=attempt, version=1, kind="x", new_status="paid", source="poll", created_at=timezone.now()
        )
    )
    for _ in range(2):
        with django_assert_num_queries(1):
            rows = read(order="A", currency="USD")
            assert [row.invoice.amount for row in rows] == [D("99999999.99999999")] * 2
        assert [columns(row) for row in rows] == [columns(second), columns(attempt)]
        assert columns(rows[0].invoice) == columns(Invoice.objects.get(pk=first.pk))
        assert [bool(row.told) for row in rows] == [False, True]
        assert not rows[0]._state.adding
    assert read(order="A", currency="EUR") == []


def test_reading_of_a_relation_that_is_not_there():
    invoice, _ = make()
    insert(InvoiceEvent(invoice=invoice, version=1, kind="x", new_status="paid", source="poll", created_at=timezone.now()))
    assert [event.attempt for event in read_events(invoice=invoice.pk)] == [None]


def test_statements_are_seen_by_whoever_captures_them():
    with CaptureQueriesContext(connection) as captured:
        read(order="A", currency="USD")
    assert "SELECT" in captured.captured_queries[0]["sql"]


@pytest.mark.postgres
@pytest.mark.parametrize("pooled", [False, True])
def test_plans_are_kept_unless_a_pooler_stands_between(pooled, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", pooled)
    with override_settings(DEBUG=False), connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")
        connection.connection._prepared.clear()
        read(order="A", currency="USD")
        cursor.execute("SELECT count(*) FROM pg_prepared_statements")
        assert cursor.fetchone()[0] == (0 if pooled else 1)
