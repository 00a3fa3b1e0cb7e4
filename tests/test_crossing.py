"""News that cross: hints and answers in the wrong moment, create calls in doubt, two attempts of one invoice."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from crypto_invoices import polling, services
from crypto_invoices.exceptions import GatewayRefused, GatewayUncertain, InvalidRequest, NotAllowed
from crypto_invoices.models import CallbackReceipt, Invoice, PaymentAttempt
from crypto_invoices.providers.base import Capability
from crypto_invoices.providers.oxapay import OxaPay
from crypto_invoices.reconcile import reconcile
from crypto_invoices.services import create_invoice, create_static_address, start_attempt
from crypto_invoices.statuses import InvoiceStatus
from tests.helpers import (
    KEYS,
    Clock,
    body_of,
    connected,
    fact,
    facts,
    in_this_connection,
    make,
    path_of,
    payment_of,
    post,
    recorded,
    send,
    sign,
    stub_gateway,
    tell,
    tx,
    verdicts,
)
from tests.test_hints import poke, unsigned_gateway
from tests.test_reconcile_many import make_due, make_many

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def gateway(settings):
    return stub_gateway(settings)


@pytest.fixture
def unsigned(settings):
    return unsigned_gateway(settings)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def make_lost(gateway, **arguments):
    """An invoice whose create call was answered by nobody, and the payment that the gateway made all the same."""
    gateway.fail("create", "made_then_lost")
    with pytest.raises(GatewayUncertain) as caught:
        create_invoice(amount="25", currency="USDT", **arguments)
    return caught.value.invoice, payment_of(gateway, caught.value.invoice)


def states(invoice):
    return [(row.account, row.state, row.live_key is not None) for row in invoice.attempts.order_by("pk")]


# A hint for an attempt whose id is not known


def test_T16_a_hint_whose_poll_failed_is_asked_again_by_its_id(unsigned, clock):
    invoice, payment = make_lost(unsigned)
    tell(payment, "paid", [tx("25")])
    unsigned.fail("fetch", "made_then_502")
    assert poke(payment).status_code == 200
    assert facts(invoice) == fact("pending")
    reconcile()
    assert facts(invoice) == fact("paid", is_paid=True, received=25)


def test_T16_a_hint_within_the_limit_leaves_its_id(unsigned, clock):
    invoice, payment = make_lost(unsigned)
    poke(payment, b"no id")
    tell(payment, "paid", [tx("25")])
    clock.advance(seconds=2)
    assert poke(payment).status_code == 200
    reconcile()
    assert facts(invoice) == fact("paid", is_paid=True, received=25)


# News after the watch


def test_T46_a_callback_after_the_watch_is_followed_to_its_end(gateway, clock):
    invoice, payment = make(gateway)
    tell(payment, "expired")
    clock.advance(minutes=80)
    reconcile()
    clock.advance(days=5)
    reconcile()
    assert invoice.attempts.get().next_poll_at is None
    send(payment, "Paying", [tx("25", confirmed=False)])
    tell(payment, "paid", [tx("25")])  # and this callback is lost
    clock.advance(minutes=1)
    reconcile()
    assert facts(invoice) == fact("paid", received=25, late=True, review=True)


def test_T62_money_on_an_attempt_that_was_taken_for_refused_counts(gateway, clock):
    """The gateway's list lagged behind, so that the look-up found nothing."""
    invoice, payment = make_lost(gateway)
    hidden = gateway.payments.pop(payment["track_id"])
    clock.advance(minutes=11)
    reconcile()
    assert states(invoice) == [("default", "refused", False)]
    gateway.payments[payment["track_id"]] = hidden
    send(payment, "Paying", [tx("25", confirmed=False)])
    assert facts(invoice)["status"] == "confirming"
    tell(payment, "paid", [tx("25")])
    clock.advance(minutes=1)
    reconcile()
    assert facts(invoice) == fact("paid", is_paid=True, received=25)


def test_T62_what_a_callback_bound_meanwhile_is_not_refused(gateway, clock, monkeypatch):
    invoice, payment = make_lost(gateway)
    clock.advance(minutes=11)
    ask = polling.ask

    def ask_and_be_told(provider, attempt, **how):
        assert send(payment, "Waiting").status_code == 200
        return None

    monkeypatch.setattr(OxaPay, "find", lambda self, reference, **ordered: None)
    monkeypatch.setattr(polling, "ask", ask_and_be_told)
    polling.poll(invoice.attempts.select_related("invoice").get())
    monkeypatch.setattr(polling, "ask", ask)
    attempt = invoice.attempts.get()
    assert (attempt.state, attempt.gateway_id, attempt.live_key) == ("open", payment["track_id"], invoice.pk)
    assert attempt.next_poll_at is not None


def test_a_poll_that_was_overtaken_while_the_attempt_was_creating_contradicts_nothing(gateway, clock, monkeypatch):
    """The process that made it died; the callback comes while the old answer is on its way."""
    with monkeypatch.context() as patch:
        patch.setattr(services.attempts, "mark_unknown", lambda attempt, reason: None)
        invoice, payment = make_lost(gateway)
    clock.advance(seconds=70)
    gateway.during_fetch, answers = in_this_connection(lambda asked: send(payment, "Paid", [tx("25")]).status_code)
    reconcile()
    assert set(answers) == {200}
    assert facts(invoice) == fact("paid", is_paid=True, received=25)


# Two attempts


def test_T62_an_attempt_that_was_never_made_ends_although_the_one_before_is_dead(gateway, clock):
    invoice, first = make(gateway)
    gateway.fail("create", "lost")
    with pytest.raises(GatewayUncertain):
        start_attempt(invoice, "second")
    tell(first, "expired")
    clock.advance(minutes=90)
    assert reconcile().failed == 0
    clock.advance(minutes=1)
    assert reconcile().failed == 0
    assert [state for _, state, _ in states(invoice)] == ["closed", "refused"]
    assert facts(invoice)["status"] == "expired"
    assert start_attempt(invoice).state == "open"


def test_a_refusal_is_told_although_the_attempt_before_died_meanwhile(gateway, monkeypatch):
    invoice, first = make(gateway)
    create = OxaPay.create

    def expire_first(self, request):
        send(first, "Expired")
        return create(self, request)

    gateway.fail("create", "refused")
    monkeypatch.setattr(OxaPay, "create", expire_first)
    with pytest.raises(GatewayRefused):
        start_attempt(invoice, "second")
    assert [state for _, state, _ in states(invoice)] == ["closed", "refused"]


def test_T05_no_crossing_of_attempts_ends_in_a_500(gateway, clock):
    """A callback over another price, about an attempt that the gateway does not list, after its elder expired."""
    invoice, first = make(gateway)
    gateway.fail("create", "made_then_lost")
    with pytest.raises(GatewayUncertain):
        start_attempt(invoice, "second")
    second = payment_of(gateway, invoice)
    gateway.payments.pop(second["track_id"])
    clock.advance(minutes=12)
    send(first, "Expired")
    answer = send(second, "Paid", [tx("30")], amount=30, key=KEYS["second"], client=Client(raise_request_exception=False))
    assert answer.status_code == 200
    assert Invoice.objects.get().is_paid is False


def test_a_defect_of_ours_is_answered_503(gateway, monkeypatch):
    _, payment = make(gateway)
    monkeypatch.setattr("crypto_invoices.ledger.apply", lambda *args, **kwargs: 1 / 0)
    answer = send(payment, "Paid", [tx("25")], client=Client(raise_request_exception=False))
    assert (answer.status_code, answer["Retry-After"]) == (503, "60")


def test_a_gateway_that_refuses_the_second_attempt_cancels_not_the_first(gateway, monkeypatch):
    invoice, first = make(gateway)
    monkeypatch.setattr(OxaPay, "capabilities", OxaPay.capabilities | {Capability.CANCEL})
    monkeypatch.setattr(
        OxaPay, "cancel", lambda self, remote: replace(self.fetch(remote), status=InvoiceStatus.CANCELLED), raising=False
    )
    gateway.fail("create", "refused")
    with recorded() as calls, pytest.raises(GatewayRefused):
        start_attempt(invoice, "second")
    assert "invoice_cancelled" not in calls.names
    assert facts(invoice) == fact("pending")
    send(first, "Paid", [tx("25")])  # it is still there to be paid
    assert facts(invoice) == fact("paid", is_paid=True, received=25)


def test_every_account_is_asked_whether_it_can_before_the_first_call(gateway, settings, clock):
    invoice, first = make(gateway)
    tell(first, "expired")
    clock.advance(minutes=80)
    reconcile()
    options = {"api_key": "k" * 32, "base_url": "http://127.0.0.1:9/v1/api"}
    dollars_only = {"PROVIDER": "crypto_invoices.providers.goodpayments.GoodPayments", "OPTIONS": options}
    accounts = {**settings.CRYPTO_INVOICES["ACCOUNTS"], "dollars": dollars_only}
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "ACCOUNTS": accounts}
    calls = len(gateway.called("POST"))
    with pytest.raises(InvalidRequest):
        start_attempt(invoice, ["second", "dollars"])
    assert (len(gateway.called("POST")), invoice.attempts.count()) == (calls, 1)


def test_T63_two_callers_with_one_key_and_a_fallback_get_one_invoice(gateway, monkeypatch):
    refuse, others = services.attempts.refuse, []

    def refuse_and_be_overtaken(attempt, reason):
        refuse(attempt, reason)
        if not others:
            others.append(None)
            others[0] = create_invoice(amount="25", currency="USDT", account=["default", "second"], idempotency_key="k")

    gateway.fail("create", "refused")
    monkeypatch.setattr(services.attempts, "refuse", refuse_and_be_overtaken)
    invoice = create_invoice(amount="25", currency="USDT", account=["default", "second"], idempotency_key="k")
    assert (invoice, invoice.payment_url) == (others[0], others[0].payment_url)
    assert len(gateway.payments) == 1


@pytest.mark.parametrize("days,allowed", [(6, False), (8, True)])
def test_T62_an_attempt_in_doubt_without_a_lifetime_is_over_after_a_week(unsigned, clock, monkeypatch, days, allowed):
    monkeypatch.setattr(OxaPay, "default_lifetime", None)
    invoice, _ = make_lost(unsigned)
    clock.advance(days=days)
    if allowed:
        assert start_attempt(invoice).state == "open"
    else:
        with pytest.raises(NotAllowed):
            start_attempt(invoice)


def test_T67_an_address_over_another_amount_is_shown_to_nobody(gateway, client):
    gateway.changes = {"amount": 2500}
    invoice = create_invoice(amount="25", currency="USDT", page="own", pay_currencies=["USDT@tron"])
    assert (invoice.needs_review, invoice.attempts.get().address) == (True, "")
    assert "TAddress" not in client.get(invoice.get_absolute_url()).text


# Reconciliation


def test_a_run_that_outlasts_its_claims_notes_its_polls(gateway, clock, monkeypatch):
    make_many(gateway, 130)
    PaymentAttempt.objects.update(expires_at=None, created_at=timezone.now() - timedelta(days=2))
    for payment in gateway.payments.values():
        payment["expired_at"] = 0
    reconcile()
    PaymentAttempt.objects.update(polled_at=None)
    make_due()
    fetch = OxaPay.fetch

    def slow(self, remote, *, timeout=None):
        clock.advance(seconds=6)
        return fetch(self, remote, timeout=timeout)

    monkeypatch.setattr(OxaPay, "fetch", slow)
    reconcile()
    assert not PaymentAttempt.objects.filter(polled_at=None).exists()
    assert reconcile().polled == 0


def test_an_answer_that_nobody_foresaw_backs_off(gateway, monkeypatch):
    make_many(gateway, 1)
    monkeypatch.setattr(OxaPay, "fetch", lambda self, remote, *, timeout=None: {}["defect"])
    assert reconcile().failed == 1
    attempt = PaymentAttempt.objects.get()
    assert (attempt.poll_failures, attempt.poll_error) == (1, "'defect'")
    assert attempt.next_poll_at > timezone.now()


def test_T33_a_receipt_of_an_account_that_is_gone_ends_no_run(gateway):
    invoice, _ = make(gateway)
    reference = invoice.attempts.get().reference
    kept = {"digest": "x" * 64, "body": b"{}", "reference": reference, "verdict": "unmatched", "received_at": timezone.now()}
    CallbackReceipt.objects.create(account="gone", **kept)
    call_command("crypto_invoices", "reconcile")
    assert verdicts() == ["unmatched"]


def test_T33_a_receipt_on_the_url_of_another_account_is_not_replayed_for_ever(gateway):
    _, payment = make(gateway)
    body = body_of(payment, "Paid", [tx("25")])
    path = path_of(payment).replace("/default/", "/second/")
    assert post(path, body, sign(body, KEYS["second"])).status_code == 404
    for _ in range(3):
        call_command("crypto_invoices", "reconcile")
    assert CallbackReceipt.objects.get().seen == 1


def test_a_deposit_under_an_id_of_its_own_is_ours_by_our_reference(gateway):
    """Whether OxaPay tells a deposit under the address's track_id or under another is on none of its pages."""
    address = create_static_address(pay_currency="USDT@tron")
    payment = payment_with(gateway, address.reference)
    told = []

    def receive(sender, *, static_address, transfer, event_id, **kwargs):
        told.append((static_address, transfer.amount))

    with connected(receive, "deposit_received", uid="tests.deposits"):
        send(payment, "Paid", [tx("25", address=payment["address"])], track_id="777", amount=25, currency="USDT")
    assert told == [(address, 25)]
    address.refresh_from_db()
    assert address.gateway_id == payment["track_id"]


def payment_with(gateway, reference):
    return next(payment for payment in gateway.payments.values() if payment["order_id"] == reference)
