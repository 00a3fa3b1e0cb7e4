"""Many due attempts: several at a time, claimed in portions, written together, with bounded memory and a circuit breaker."""

import gc
import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from crypto_invoices import conf
from crypto_invoices.models import Invoice, InvoiceEvent, PaymentAttempt, StaticAddress
from crypto_invoices.providers.breaker import Breaker
from crypto_invoices.reconcile import PORTION, count_due, due_attempts, reconcile
from crypto_invoices.services import create_static_address
from tests.helpers import Clock, connected, fact, facts, make, stub_gateway, tell, tx

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def gateway(settings):
    return stub_gateway(settings)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def make_many(gateway, count, account="default"):
    """So many invoices with an open attempt that is due, made from one that the service made."""
    invoice, payment = make(gateway, account=account)
    attempt = invoice.attempts.get()
    invoices = Invoice.objects.bulk_create(Invoice(amount=25, currency="USDT", version=1) for _ in range(count))
    names = [field.name for field in PaymentAttempt._meta.concrete_fields]
    common = {name: getattr(attempt, name) for name in names if name not in ("id", "invoice", "reference", "gateway_id")}
    PaymentAttempt.objects.bulk_create(
        PaymentAttempt(
            **common | {"live_key": copy.pk}, invoice=copy, reference=f"{account}{n}".rjust(26, "x"), gateway_id=str(10000 + n)
        )
        for n, copy in enumerate(invoices)
    )
    for copy in PaymentAttempt.objects.exclude(pk=attempt.pk).filter(account=account):
        gateway.payments[copy.gateway_id] = {**payment, "track_id": copy.gateway_id, "order_id": copy.reference}
    invoice.delete()
    make_due()
    return invoices


def make_due(model=PaymentAttempt):
    model.objects.update(next_poll_at=timezone.now() - timedelta(seconds=1))


def polls(gateway):
    return [path.rpartition("/")[2] for method, path, _ in gateway.requests if method == "GET"]


def written(queries):
    return [query["sql"] for query in queries if query["sql"].split()[0] in ("UPDATE", "INSERT", "DELETE")]


def test_unchanged_polls_are_written_together(gateway):
    make_many(gateway, 250)
    reconcile(concurrency=4)  # the first answer brings the gateway's word
    gateway.requests.clear()
    make_due()
    with CaptureQueriesContext(
        connection,
    ) as queries:
        report = reconcile(concurrency=4)
    assert (report.polled, report.changed, report.failed) == (250, 0, 0)
    assert len(set(polls(gateway))) == 250
    assert len(written(queries)) == 3 + 3  # three portions claimed, and the polls' times of each
    assert not due_attempts().exists()
    times = set(PaymentAttempt.objects.values_list("poll_failures", "poll_error", "state"))
    assert times == {(0, "", "open")}
    assert InvoiceEvent.objects.count() == 0


def test_what_is_new_is_applied_among_what_is_not(gateway):
    invoices = make_many(gateway, 30)
    for invoice in invoices[::3]:
        tell(gateway.payments[invoice.attempts.get().gateway_id], "paid", [tx("25")])
    report = reconcile(concurrency=4)
    assert (report.polled, report.changed) == (30, 10)
    expected = {True: fact("paid", is_paid=True, received=25), False: fact("pending")}
    assert [facts(invoice) for invoice in invoices] == [expected[n % 3 == 0] for n in range(30)]


@pytest.mark.parametrize("concurrency", [1, 3, 8])
def test_so_many_questions_are_asked_at_a_time(gateway, concurrency):
    """Each waits until as many are there as may be; so fewer would stand still, and more would be seen."""
    make_many(gateway, 24)
    barrier, lock = threading.Barrier(concurrency), threading.Lock()
    running, most = 0, 0

    def wait(payment):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        barrier.wait(timeout=30)
        with lock:
            running -= 1

    gateway.during_fetch = wait
    assert reconcile(concurrency=concurrency).failed == 0
    assert most == concurrency


def test_memory_stays_bounded(gateway):
    make_many(gateway, 7 * PORTION)
    done, alive = [], []

    def count(attempt):
        done.append(attempt.pk)
        if len(done) % PORTION == 0:
            gc.collect()
            alive.append(sum(isinstance(found, PaymentAttempt) for found in gc.get_objects()))

    assert reconcile(concurrency=4, progress=count).polled == len(done) == 7 * PORTION
    assert max(alive) <= 5 * PORTION  # two portions at hand, and what waits to be written together


def test_two_runs_share_the_work(gateway):
    """The second begins while the first is at its first attempt: what is claimed is nobody else's."""
    make_many(gateway, 2 * PORTION)
    reports = []

    def begin_another(attempt):
        if not reports:
            reports.append(None)
            reports[0] = reconcile()

    first = reconcile(progress=begin_another)
    assert first.polled + reports[0].polled == 2 * PORTION
    assert reports[0].polled == PORTION
    assert len(polls(gateway)) == len(set(polls(gateway))) == 2 * PORTION


def test_a_claimed_attempt_whose_process_died_is_due_again(gateway, clock):
    make_many(gateway, 1)

    class Killed(BaseException):
        pass

    def die(attempt):
        raise Killed

    gateway.payments[PaymentAttempt.objects.get().gateway_id] |= {"status": "paying"}
    with pytest.raises(Killed):
        reconcile(progress=die, stopped=lambda: False)
    PaymentAttempt.objects.update(next_poll_at=clock.now + timedelta(minutes=6))  # as claimed, at the latest
    clock.advance(minutes=5)
    assert not due_attempts().exists()
    clock.advance(minutes=2)
    assert reconcile().polled == 1


def test_a_poke_during_the_poll_keeps_the_attempt_due(gateway):
    make_many(gateway, 2)

    def poke(attempt):
        PaymentAttempt.objects.filter(pk=attempt.pk).update(next_poll_at=timezone.now())

    reconcile(progress=poke)
    assert due_attempts().count() == 2


def test_stopping_ends_the_run_soon(gateway):
    make_many(gateway, 20)
    done = []
    report = reconcile(progress=done.append, stopped=lambda: len(done) >= 3)
    assert 3 <= report.polled <= 5


# Static addresses take the same way


def test_static_addresses_are_polled_and_deposits_announced(gateway):
    addresses = [create_static_address(pay_currency="USDT@tron", customer=str(n)) for n in range(4)]
    make_many(gateway, 3)
    tell(gateway.payments[addresses[2].gateway_id], "paid", [tx("10")])
    StaticAddress.objects.update(next_poll_at=timezone.now() - timedelta(seconds=1))
    told = []

    def receive(sender, *, static_address, transfer, event_id, **kwargs):
        told.append((static_address.customer, transfer.amount))

    assert count_due() == 7
    with connected(receive, "deposit_received", uid="tests.polled"):
        report = reconcile(concurrency=3)
    assert (report.polled, report.changed, report.failed) == (7, 1, 0)
    assert told == [("2", 10)]
    assert count_due() == 0


def test_unchanged_static_addresses_are_written_together(gateway):
    for _ in range(5):
        create_static_address(pay_currency="USDT@tron")
    make_due(StaticAddress)
    reconcile()
    make_due(StaticAddress)
    with CaptureQueriesContext(connection) as queries:
        assert reconcile(concurrency=2).polled == 5
    assert len(written(queries)) == 2  # claimed together, noted together


def test_a_static_address_whose_account_is_gone_stops_nobody(gateway, settings):
    create_static_address(pay_currency="USDT@tron", account="second")
    create_static_address(pay_currency="USDT@tron")
    make_due(StaticAddress)
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "ACCOUNTS": {"default": gateway.account("default")}}
    report = reconcile()
    assert (report.polled, report.failed) == (2, 1)


# The circuit breaker


def test_T64_a_gateway_that_fails_is_left_alone_and_its_attempts_wait(gateway):
    make_many(gateway, 40)
    make_many(gateway, 5, account="second")
    gateway.fail("fetch", *["unavailable"] * 1000)
    provider = conf.provider_for("default")
    provider.client._sleep = lambda seconds: None
    conf.provider_for("second").client._sleep = lambda seconds: None
    report = reconcile()
    asked = len(polls(gateway))
    assert asked == 10 + 10  # of each account; a GET is tried three times, so the fourth attempt's first try was the last
    assert (report.polled, report.failed, report.changed, report.paused) == (8, 8, 0, 37)
    paused = PaymentAttempt.objects.filter(poll_failures=0, poll_error="")
    assert paused.filter(next_poll_at__lte=timezone.now() + timedelta(seconds=31)).count() == 37


def test_T64_after_the_pause_the_gateway_is_asked_again(gateway, monkeypatch):
    invoices = make_many(gateway, 20)
    provider = conf.provider_for("default")
    now = [0.0]
    provider.client._breaker = Breaker(clock=lambda: now[0])
    provider.client._sleep = lambda seconds: None
    gateway.fail("fetch", *["unavailable"] * 10)
    assert reconcile().paused > 0
    tell(gateway.payments[invoices[0].attempts.get().gateway_id], "paid", [tx("25")])
    make_due()
    assert reconcile().polled == 0
    now[0] = 31.0
    make_due()
    report = reconcile()
    assert (report.polled, report.changed, report.failed, report.paused) == (20, 1, 0, 0)
    assert facts(invoices[0]) == fact("paid", is_paid=True, received=25)
