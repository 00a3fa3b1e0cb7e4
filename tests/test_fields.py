"""AmountField: 38 digits, 18 of them decimals, exact and correctly ordered on the database of the run."""

from decimal import Decimal as D

import pytest
from django import forms
from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import DataError, connection, models, transaction
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState
from django.db.migrations.writer import MigrationWriter
from django.db.models import F, Max, Min, Sum, Value
from django.db.models.functions import Coalesce
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework import serializers

from crypto_invoices.fields import AmountField
from crypto_invoices.models import Invoice

pytestmark = pytest.mark.django_db

LARGEST = D("99999999999999999999.999999999999999999")
SMALLEST = D("-99999999999999999999.999999999999999999")
EXACT = [
    "0", "1", "10.5", "0.1", "0.30000000000000004", "99999999.99999999", "1.123456789012345678", "0.000000000000000001",
    "12345678901234567890", "99999999999999999999.999999999999999999", "12345678901234567890.123456789012345678",
    "-1", "-0.000000000000000001", "-99999999.99999999", "-99999999999999999999.999999999999999999", "1E+3", "1E-18", "-0",
]  # fmt: skip
ASCENDING = [
    "-99999999999999999999.999999999999999999", "-100", "-99.999999999999999999", "-10", "-9", "-2", "-1.000000000000000001",
    "-1", "-0.9", "-0.000000000000000001", "0", "0.000000000000000001", "0.1", "0.2", "1", "1.000000000000000001", "2", "9",
    "9.999999999999999999", "10", "99999999.99999999", "100000000", "12345678901234567890",
    "99999999999999999999.999999999999999999",
]  # fmt: skip


def store(*texts):
    return Invoice.objects.bulk_create(Invoice(amount=D(text), currency="USD", order_id=text) for text in texts)


def found(**lookups):
    return [invoice.order_id for invoice in Invoice.objects.filter(**lookups).order_by("amount")]


# Round trip


@pytest.mark.parametrize("text", EXACT)
def test_every_digit_comes_back(text):
    [invoice] = store(text)
    read = Invoice.objects.get(pk=invoice.pk).amount
    assert type(read) is D
    assert read == D(text)
    assert Invoice.objects.values_list("amount", flat=True).get() == D(text)
    assert Invoice.objects.values("amount").get() == {"amount": D(text)}


def test_integers_and_texts_of_digits_are_stored():
    Invoice.objects.create(amount=7, currency="USD")
    Invoice.objects.create(amount="1.123456789012345678", currency="USD")
    assert list(Invoice.objects.order_by("amount").values_list("amount", flat=True)) == [D("1.123456789012345678"), D(7)]


def test_null_is_null():
    [invoice] = store("1")
    assert Invoice.objects.get().amount_received is None
    assert Invoice.objects.filter(amount_received__isnull=True).count() == 1
    Invoice.objects.update(amount_received=D("0"))
    invoice.refresh_from_db()
    assert invoice.amount_received == D(0)
    assert Invoice.objects.filter(amount_received__isnull=True).count() == 0
    Invoice.objects.update(amount_received=None)
    invoice.refresh_from_db()
    assert invoice.amount_received is None


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.decimals(min_value=SMALLEST, max_value=LARGEST, places=18), min_size=1, max_size=20))
def test_any_amounts_come_back_in_numerical_order(values):
    Invoice.objects.all().delete()
    Invoice.objects.bulk_create(Invoice(amount=value, currency="USD") for value in values)
    assert list(Invoice.objects.order_by("amount").values_list("amount", flat=True)) == sorted(values)


# Order and comparison


def test_order():
    store(*reversed(ASCENDING))
    assert [row.order_id for row in Invoice.objects.order_by("amount")] == ASCENDING
    assert [row.order_id for row in Invoice.objects.order_by("-amount")] == ASCENDING[::-1]
    assert Invoice.objects.aggregate(low=Min("amount"), high=Max("amount")) == {"low": SMALLEST, "high": LARGEST}


@pytest.mark.parametrize("text", ASCENDING)
def test_comparisons(text):
    store(*ASCENDING)
    at = ASCENDING.index(text)
    assert found(amount=D(text)) == [text]
    assert found(amount__lt=D(text)) == ASCENDING[:at]
    assert found(amount__lte=D(text)) == ASCENDING[: at + 1]
    assert found(amount__gt=D(text)) == ASCENDING[at + 1 :]
    assert found(amount__gte=D(text)) == ASCENDING[at:]
    assert found(amount__in=[D(text), D("5")]) == [text]


def test_range_in_and_exclude():
    store(*ASCENDING)
    assert found(amount__range=(D("-1"), D("0.1"))) == ["-1", "-0.9", "-0.000000000000000001", "0", "0.000000000000000001", "0.1"]
    assert found(amount__in=[D("9"), D("-9"), D("10.0"), 2, "0.10"]) == ["-9", "0.1", "2", "9", "10"]
    assert Invoice.objects.exclude(amount__gt=0).count() == ASCENDING.index("0") + 1
    assert found(amount__exact=D("100000000.000000000000000000")) == ["100000000"]
    assert found(amount=D("-0")) == ["0"]


def test_comparison_of_two_columns():
    store("1", "10", "9")
    Invoice.objects.filter(order_id="1").update(amount_received=D("1"))
    Invoice.objects.filter(order_id="10").update(amount_received=D("9.999999999999999999"))
    Invoice.objects.filter(order_id="9").update(amount_received=D("10"))
    assert found(amount_received__lt=F("amount")) == ["10"]
    assert found(amount_received=F("amount")) == ["1"]
    assert found(amount_received__gt=F("amount")) == ["9"]


# Writing


def test_update():
    [invoice] = store("1")
    assert Invoice.objects.filter(amount=1).update(amount=D("99999999.99999999")) == 1
    invoice.refresh_from_db()
    assert invoice.amount == D("99999999.99999999")


def test_copy_of_a_column():
    store("99999999.99999999", "-1.123456789012345678")
    Invoice.objects.update(amount_received=F("amount"))
    assert all(row.amount_received == row.amount == D(row.order_id) for row in Invoice.objects.all())
    assert found(amount_received__lt=0) == ["-1.123456789012345678"]


def test_get_or_create():
    amount = D("1.123456789012345678")
    first, made = Invoice.objects.get_or_create(amount=amount, currency="USD")
    again, made_again = Invoice.objects.get_or_create(amount=amount, currency="USD")
    other, made_other = Invoice.objects.get_or_create(amount=D("1.123456789012345679"), currency="USD")
    assert (made, made_again, made_other) == (True, False, True)
    assert first.pk == again.pk != other.pk


def test_bulk_update_and_values_in_expressions():
    rows = store("1", "2")
    for row, text in zip(rows, ("-3.000000000000000001", "12345678901234567890.5"), strict=True):
        row.amount_received = D(text)
    Invoice.objects.bulk_update(rows, ["amount_received"])
    assert found(amount_received__lt=0) == ["1"]
    assert found(amount_received=D("12345678901234567890.5")) == ["2"]
    zero = Value(D("0.000000000000000001"), output_field=AmountField())
    assert list(Invoice.objects.order_by("pk").annotate(sum=Coalesce("amount_refunded", zero)).values_list("sum", flat=True)) == [
        D("0.000000000000000001"), D("0.000000000000000001"),
    ]  # fmt: skip


def assert_refused(value, *errors):
    store("1")
    with pytest.raises(errors), transaction.atomic():
        Invoice.objects.create(amount=value, currency="USD")
    with pytest.raises(errors), transaction.atomic():
        Invoice.objects.update(amount=value)
    assert [row.amount for row in Invoice.objects.all()] == [D(1)]


@pytest.mark.parametrize("value", [0.1, 1.0, float("nan"), True, False])
def test_a_float_or_a_bool_is_refused(value):
    assert_refused(value, ValidationError)
    for lookup in ({"amount": value}, {"amount__gt": value}, {"amount__in": [value]}, {"amount__range": (value, 2)}):
        with pytest.raises(ValidationError):
            Invoice.objects.filter(**lookup).count()


@pytest.mark.parametrize("text", ["0.0000000000000000001", "1.1234567890123456785", "-1E-19", "NaN", "Infinity", "sNaN"])
def test_more_than_18_decimals_and_no_numbers_are_refused(text):
    assert_refused(D(text), ValidationError)


@pytest.mark.parametrize("text", ["x", "", "1,5"])
def test_a_text_that_is_no_number_is_refused(text):
    assert_refused(text, ValidationError)


@pytest.mark.parametrize("text", ["100000000000000000000", "-100000000000000000000", "1E+21", "1E+70", "-1E+999"])
def test_more_than_20_integer_digits_are_refused(text):
    assert_refused(D(text), ValidationError, DataError)


def test_arithmetic_in_the_database_is_exact_or_refused():
    [invoice] = store("99999999.99999999")
    try:
        with transaction.atomic():
            Invoice.objects.update(amount=F("amount") + D("0.000000000000000001"))
    except Exception:
        expected = D("99999999.99999999")
    else:
        expected = D("99999999.999999990000000001")
    invoice.refresh_from_db()
    assert invoice.amount == expected
    assert found(amount__lt=D("100000000")) == ["99999999.99999999"]


def test_a_sum_in_the_database_is_exact_or_refused():
    store("99999999.99999999", "0.000000000000000001")
    if connection.vendor == "sqlite":
        with pytest.raises(TypeError):
            Invoice.objects.aggregate(sum=Sum("amount"))
    else:
        assert Invoice.objects.aggregate(sum=Sum("amount")) == {"sum": D("99999999.999999990000000001")}


# The column


def column_type():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT data_type, numeric_precision, numeric_scale FROM information_schema.columns "
            "WHERE table_name = 'crypto_invoices_invoice' AND column_name = 'amount'"
        )
        return tuple(cursor.fetchone())


@pytest.mark.postgres
def test_the_column_on_postgresql():
    assert column_type() == ("numeric", 38, 18)


@pytest.mark.mariadb
def test_the_column_on_mariadb():
    assert column_type() == ("decimal", 38, 18)


@pytest.mark.postgres
@pytest.mark.parametrize("text", EXACT)
def test_postgresql_itself_holds_the_number(text):
    store(text)
    with connection.cursor() as cursor:
        cursor.execute("SELECT amount::text FROM crypto_invoices_invoice WHERE amount = %s::numeric", [text])
        assert D(cursor.fetchone()[0]) == D(text)


@pytest.mark.mariadb
@pytest.mark.parametrize("text", EXACT)
def test_mariadb_itself_holds_the_number(text):
    store(text)
    with connection.cursor() as cursor:
        cursor.execute("SELECT CAST(amount AS CHAR) FROM crypto_invoices_invoice")
        assert D(cursor.fetchone()[0]) == D(text)


# Forms, serializers, migrations


class InvoiceForm(forms.ModelForm):
    class Meta:
        model = Invoice
        fields = ["amount", "amount_received"]


class InvoiceSerializer(serializers.ModelSerializer):
    class Meta:
        model = Invoice
        fields = ["amount", "amount_received"]


def test_form_field():
    form = InvoiceForm({"amount": "12345678901234567890.123456789012345678", "amount_received": ""})
    assert type(form.fields["amount"]) is forms.DecimalField
    assert (form.fields["amount"].max_digits, form.fields["amount"].decimal_places) == (38, 18)
    assert form.is_valid()
    assert form.cleaned_data == {"amount": D("12345678901234567890.123456789012345678"), "amount_received": None}


@pytest.mark.parametrize("text", ["", "x", "NaN", "1.1234567890123456789", "123456789012345678901"])
def test_form_field_refuses(text):
    assert list(InvoiceForm({"amount": text}).errors) == ["amount"]


def test_serializer_field():
    field = InvoiceSerializer().fields["amount"]
    assert type(field) is serializers.DecimalField
    assert (field.max_digits, field.decimal_places, field.required) == (38, 18, True)
    serializer = InvoiceSerializer(data={"amount": "12345678901234567890.123456789012345678"})
    assert serializer.is_valid(), serializer.errors
    assert serializer.validated_data["amount"] == D("12345678901234567890.123456789012345678")
    shown = InvoiceSerializer(Invoice(amount=LARGEST, amount_received=None)).data
    assert shown == {"amount": "99999999999999999999.999999999999999999", "amount_received": None}


@pytest.mark.parametrize("text", ["", "x", "NaN", "1.1234567890123456789", "123456789012345678901"])
def test_serializer_field_refuses(text):
    serializer = InvoiceSerializer(data={"amount": text})
    assert not serializer.is_valid()
    assert list(serializer.errors) == ["amount"]


@pytest.mark.parametrize("value", [0.1, True])
def test_full_clean_refuses_a_float_or_a_bool(value):
    with pytest.raises(ValidationError):
        Invoice._meta.get_field("amount").clean(value, None)


def test_deconstruct_names_no_digits():
    assert AmountField().deconstruct() == (None, "crypto_invoices.fields.AmountField", [], {})
    assert AmountField("price", null=True).deconstruct()[2:] == ([], {"verbose_name": "price", "null": True})
    copy = AmountField(null=True).clone()
    assert (type(copy), copy.max_digits, copy.decimal_places, copy.null) == (AmountField, 38, 18, True)
    assert MigrationWriter.serialize(AmountField(null=True)) == (
        "crypto_invoices.fields.AmountField(null=True)",
        {"import crypto_invoices.fields"},
    )


def test_the_digits_cannot_be_changed():
    field = AmountField(max_digits=5, decimal_places=2)
    assert (field.max_digits, field.decimal_places) == (38, 18)
    assert isinstance(field, models.DecimalField)
    assert field.check() == [] or all(message.id != "fields.E130" for message in field.check())


def test_the_migrations_are_complete():
    loader = MigrationLoader(None)
    detector = MigrationAutodetector(loader.project_state(), ProjectState.from_apps(apps))
    assert "crypto_invoices" not in detector.changes(loader.graph)
