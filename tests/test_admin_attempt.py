"""The admin's step "open a new attempt": for the rest of the price, at the same gateway or at another, over several invoices."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from crypto_invoices import ledger, services
from crypto_invoices.models import Invoice, InvoiceEvent
from crypto_invoices.providers.base import Evidence, Kind, Remote, RemoteTransfer
from crypto_invoices.statuses import InvoiceStatus, Source
from tests.helpers import make, payment_of, rows, stub_gateway

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def gateway(settings):
    return stub_gateway(settings)


@pytest.fixture
def staff():
    """Makes a client logged in as staff with these permissions."""

    def log_in(*codenames):
        user = get_user_model().objects.create_user("-".join(codenames), is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames, content_type__app_label="crypto_invoices"))
        client = Client()
        client.force_login(user)
        client.user = user
        return client

    return log_in


@pytest.fixture
def clerk(staff):
    return staff("view_invoice", "change_invoice")


def url(name, *args):
    return reverse(f"admin:crypto_invoices_invoice_{name}", args=args)


def press(client, address, **data):
    """Posts the step's form and returns the messages that it left: ``[(level, text)]``."""
    answer = client.post(address, {"reason": "the payer asked", **data})
    assert answer.status_code == 302
    left = [(message.level_tag, message.message) for message in get_messages(answer.wsgi_request)]
    client.cookies.pop("messages")  # where they wait until a page shows them
    return left


def told(invoice, word, status, *, final, received=None, transfers=()):
    """The gateway says this of the invoice's newest attempt when it is polled."""
    attempt = invoice.attempts.order_by("pk").last()
    ledger.apply(
        Evidence(
            source=Source.POLL,
            remote=Remote(Kind.INVOICE, attempt.gateway_id, attempt.reference),
            word=word,
            status=status,
            final=final,
            received=received,
            transfers=list(transfers),
            expires_at=timezone.now() + timedelta(hours=1),
        ),
        attempt_id=attempt.pk,
    )


def short(invoice, received="10"):
    """An attempt that the gateway closed with 10 of 25 USDT, or with money whose value is not known (None)."""
    transfer = RemoteTransfer(key="hash", tx_hash="hash", amount=Decimal(4), currency="TRX", confirmed=True)
    amount = None if received is None else Decimal(received)
    told(invoice, "underpaid", InvoiceStatus.UNDERPAID, final=True, received=amount, transfers=[transfer])


def test_the_rest_is_asked_for_and_paid(gateway, clerk):
    invoice, _ = make(gateway)
    short(invoice)
    level, text = press(clerk, url("attempt", invoice.pk))[0]
    assert (level, text) == ("success", "A new attempt asks for 15 USDT at the account default.")
    second = invoice.attempts.order_by("pk").last()
    assert (second.amount, second.account, second.live_key) == (15, "default", invoice.pk)
    assert payment_of(gateway, invoice)["amount"] == 15
    event = InvoiceEvent.objects.filter(invoice=invoice, kind="attempt").get()
    assert event.user == clerk.user
    assert "Reason: the payer asked" in LogEntry.objects.get().get_change_message()
    told(invoice, "paid", InvoiceStatus.PAID, final=True, received=Decimal(15))
    invoice.refresh_from_db()
    assert (invoice.status, invoice.amount_received, invoice.is_paid) == ("paid", 25, True)


def test_money_of_unknown_value_needs_an_amount(gateway, clerk):
    invoice, _ = make(gateway)
    short(invoice, received=None)
    level, text = press(clerk, url("attempt", invoice.pk))[0]
    assert level == "error"
    assert text.startswith("amount: money was seen")
    assert invoice.attempts.count() == 1
    assert press(clerk, url("attempt", invoice.pk), amount="12.5")[0][0] == "success"
    assert invoice.attempts.order_by("pk").last().amount == Decimal("12.5")


def test_another_account_and_a_live_attempt_that_stays_watched(gateway, clerk):
    invoice, _ = make(gateway)
    page = clerk.get(url("attempt", invoice.pk)).text
    assert "takes the place of the attempt over 25 USDT at the account default, which stays watched" in page
    press(clerk, url("attempt", invoice.pk), account="second")
    first, second = invoice.attempts.order_by("pk")
    assert (first.state, first.live_key) == ("superseded", None)
    assert first.next_poll_at is not None
    assert (second.account, second.amount, second.live_key) == ("second", 25, invoice.pk)


@pytest.mark.parametrize("data", [{"account": "nobody"}, {"amount": "much"}, {"amount": "NaN"}, {"reason": ""}])
def test_a_wrong_form_is_asked_again(gateway, clerk, data):
    invoice, _ = make(gateway)
    before = rows()
    answer = clerk.post(url("attempt", invoice.pk), {"reason": "x", **data})
    assert answer.status_code == 200
    assert list(answer.context["form"].errors) == list(data)
    assert rows() == before


@pytest.mark.parametrize("amount", ["0", "-1"])
def test_an_amount_is_more_than_nothing(gateway, clerk, amount):
    invoice, _ = make(gateway)
    before = rows()
    assert press(clerk, url("attempt", invoice.pk), amount=amount)[0][0] == "error"
    assert rows() == before


def test_a_paid_invoice_needs_none(gateway, clerk):
    invoice, _ = make(gateway)
    change = url("change", invoice.pk)
    assert url("attempt", invoice.pk) in clerk.get(change).text
    services.accept_invoice(invoice, reason="paid in cash", user=clerk.user)
    assert url("attempt", invoice.pk) not in clerk.get(change).text
    level, text = press(clerk, url("attempt", invoice.pk))[0]
    assert (level, text) == ("error", "an invoice that is paid needs no further attempt")
    assert invoice.attempts.count() == 1


def test_several_invoices_ask_for_the_rest_of_each(gateway, clerk):
    one, other = make(gateway)[0], make(gateway, "7")[0]
    short(one)
    address = url("attempt_selected") + f"?ids={one.pk},{other.pk}"
    assert 'name="amount"' not in clerk.get(address).text
    assert len(press(clerk, address, account="second", amount="1")) == 2  # one for each sum
    asked = {invoice.pk: invoice.attempts.order_by("pk").last().amount for invoice in Invoice.objects.all()}
    assert asked == {one.pk: 15, other.pk: 7}


def test_who_may_only_look_may_not(gateway, staff):
    invoice, _ = make(gateway)
    viewer = staff("view_invoice", "cancel_invoice", "accept_invoice", "refund_invoice")
    before = rows()
    for address in (url("attempt", invoice.pk), url("attempt_selected") + f"?ids={invoice.pk}"):
        assert viewer.get(address).status_code == 403
        assert viewer.post(address, {"reason": "x"}).status_code == 403
    assert url("attempt", invoice.pk) not in viewer.get(url("change", invoice.pk)).text
    assert rows() == before


def test_a_get_asks_and_changes_nothing(gateway, clerk):
    invoice, _ = make(gateway)
    before, calls = rows(), len(gateway.requests)
    assert clerk.get(url("attempt", invoice.pk)).status_code == 200
    assert (rows(), len(gateway.requests)) == (before, calls)


def test_a_post_needs_the_token(gateway, clerk):
    invoice, _ = make(gateway)
    before = rows()
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(clerk.user)
    assert strict.post(url("attempt", invoice.pk), {"reason": "x"}).status_code == 403
    assert rows() == before
