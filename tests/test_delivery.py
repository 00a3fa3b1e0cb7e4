"""Signals that survive failures: retries, order, transactions and sweeps (cases T40 to T45)."""

import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction
from django.urls import reverse

from crypto_invoices import delivery, signals
from crypto_invoices.models import EventDelivery, Invoice, InvoiceEvent
from crypto_invoices.services import (
    accept_invoice,
    cancel_invoice,
    create_invoice,
    mark_reviewed,
    record_refund,
    resend,
    reverse_invoice,
)
from tests.helpers import (
    Clock,
    body_of,
    connected,
    fact,
    facts,
    make,
    path_of,
    post,
    recorded,
    rows,
    send,
    sign,
    stub_gateway,
    sweep,
    tx,
    verdicts,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def gateway(settings):
    return stub_gateway(settings)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def worker(settings, gateway):
    """Nothing but a sweep delivers."""
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "DISPATCH": "worker"}


@pytest.fixture
def sweeping(monkeypatch):
    """The next request or service call may sweep."""

    def allow():
        monkeypatch.setattr(delivery, "_last_passing", float("-inf"))

    allow()
    return allow


def pay(payment, **changes):
    return send(payment, "Paid", [tx("25")], **changes)


def note(text):
    """An effect in the same database."""
    User.objects.create(username=f"{text}-{User.objects.count()}")


def effects():
    return [name.rpartition("-")[0] for name in User.objects.order_by("pk").values_list("username", flat=True)]


class Flaky:
    """A receiver that fails the first ``times`` times, each time after its own work in the database."""

    def __init__(self, name, times=0):
        self.name, self.times, self.calls = name, times, []

    def __call__(self, sender, *, signal, invoice, event_id, **kwargs):
        self.calls.append((signal.name, event_id))
        note(self.name)
        if self.times:
            self.times -= 1
            raise ValueError(f"{self.name} failed")


@contextmanager
def flaky(*names_and_times, signal="invoice_paid", atomic=True):
    with ExitStack() as stack:
        yield [
            stack.enter_context(connected(Flaky(name, times), signal, uid=f"tests.{name}", atomic=atomic))
            for name, times in names_and_times
        ]


def deliveries():
    """``{receiver: (state, tries)}`` of this suite's receivers."""
    rows = EventDelivery.objects.filter(receiver__startswith="tests.").values_list("receiver", "state", "tries")
    return {receiver.removeprefix("tests."): (state, tries) for receiver, state, tries in rows}


def due_count():
    return InvoiceEvent.objects.filter(due_at__isnull=False).count()


# What a receiver gets


def test_signals_of_a_payment_in_their_fixed_order(gateway):
    with recorded() as calls:
        invoice, payment = make(gateway)
        send(payment, "Paying", [tx("30", confirmed=False)])
        send(payment, "Paid", [tx("30")])
    first, second, third = (f"{invoice.uuid}.{version}" for version in (1, 2, 3))
    assert calls == [
        ("invoice_created", first, "", "pending"),
        ("invoice_status_changed", second, "pending", "confirming"),
        ("payment_received", second, "pending", "confirming"),
        ("invoice_confirming", second, "pending", "confirming"),
        ("invoice_status_changed", third, "confirming", "overpaid"),
        ("payment_received", third, "confirming", "overpaid"),
        ("invoice_paid", third, "confirming", "overpaid"),
        ("invoice_overpaid", third, "confirming", "overpaid"),
    ]


def test_keywords_of_a_receiver(gateway):
    got = []

    def receive(**kwargs):
        got.append(kwargs)

    invoice, payment = make(gateway)
    with connected(receive, "invoice_paid", uid="tests.keywords"):
        pay(payment)
    [kwargs] = got
    assert set(kwargs) == {"signal", "sender", "invoice", "attempt", "event_id", "old_status", "new_status"}
    assert kwargs["sender"] is Invoice
    assert kwargs["signal"] is signals.invoice_paid
    assert (kwargs["invoice"], kwargs["attempt"]) == (invoice, invoice.attempts.get())
    assert (kwargs["invoice"].status, kwargs["invoice"].is_paid, kwargs["attempt"].status) == ("paid", True, "paid")
    assert (kwargs["old_status"], kwargs["new_status"]) == ("pending", "paid")


def test_without_a_receiver_an_event_is_born_done(gateway):
    with ExitStack() as stack:
        for signal in signals.DURABLE.values():  # the example shop listens
            kept = dict(signal._connections)
            signal._connections.clear()
            stack.callback(signal._connections.update, kept)
        _, payment = make(gateway)
        pay(payment)
    assert list(InvoiceEvent.objects.values_list("due_at", "holder")) == [(None, ""), (None, "")]
    assert EventDelivery.objects.count() == 0


def test_an_async_receiver(gateway):
    got = []

    async def receive(sender, *, invoice, **kwargs):
        got.append(invoice.pk)

    invoice, payment = make(gateway)
    with connected(receive, "invoice_paid", uid="tests.async"):
        pay(payment)
    assert got == [invoice.pk]


# T40: a receiver raises


@pytest.mark.parametrize("times", [1, 2, 5])
def test_t40_the_middle_one_of_three_fails(gateway, clock, times):
    invoice, payment = make(gateway)
    with flaky(("first", 0), ("middle", times), ("last", 0)) as receivers:
        answer = pay(payment)
        assert (answer.status_code, answer.content) == (200, b"ok")
        assert facts(invoice) == fact("paid", is_paid=True, received=25)
        assert effects() == ["first", "last"]  # its own work is rolled back
        for _ in range(times):
            assert due_count() == 1
            sweep()
            assert len(receivers[1].calls) == times - receivers[1].times  # not before its time
            clock.advance(hours=6)
            sweep()
    assert [len(receiver.calls) for receiver in receivers] == [1, times + 1, 1]
    assert effects() == ["first", "last", "middle"]
    assert len({event_id for receiver in receivers for _, event_id in receiver.calls}) == 1
    assert deliveries() == {"first": ("done", 1), "middle": ("done", times + 1), "last": ("done", 1)}
    assert due_count() == 0


def test_t40_delays_between_10_seconds_and_6_hours(gateway, clock):
    _, payment = make(gateway)
    with flaky(("mail", 1000)):
        pay(payment)
        for _ in range(20):
            row = EventDelivery.objects.get(receiver="tests.mail")
            assert timedelta(seconds=10) <= row.next_try_at - clock.now <= timedelta(hours=6)
            assert InvoiceEvent.objects.get(due_at__isnull=False).due_at == row.next_try_at
            clock.set(row.next_try_at)
            sweep()
        assert EventDelivery.objects.get(receiver="tests.mail").tries == 21


def test_t40_what_went_wrong_is_kept_and_logged(gateway, caplog):
    invoice, payment = make(gateway)
    with flaky(("mail", 1)), caplog.at_level("ERROR"):
        pay(payment)
    assert EventDelivery.objects.get(receiver="tests.mail").error == "ValueError: mail failed"
    [record] = caplog.records
    assert (record.name, record.levelname) == ("crypto_invoices.delivery", "ERROR")
    assert f"{invoice.uuid}.2" in record.getMessage()


@pytest.mark.parametrize("error", [OperationalError("deadlock"), DatabaseError("gone"), SystemError("x"), RuntimeError("y")])
def test_t40_any_exception_of_a_receiver(gateway, clock, error):
    invoice, payment = make(gateway)
    failures = [error]

    def fail(**kwargs):
        if failures:
            raise failures.pop()
        note("done")

    with connected(fail, "invoice_paid", uid="tests.fail"):
        assert pay(payment).status_code == 200
        assert facts(invoice)["is_paid"] is True
        clock.advance(hours=6)
        sweep()
    assert effects() == ["done"]


def test_t40_a_receiver_that_breaks_its_transaction(gateway, clock):
    """A caught database error inside of a receiver's transaction must not take the delivery's bookkeeping with it."""
    _, payment = make(gateway)
    failures = [1]

    def fail(**kwargs):
        if failures:
            failures.pop()
            with connection.cursor() as cursor:
                cursor.execute("SELECT no_such_column FROM no_such_table")
        note("done")

    with connected(fail, "invoice_paid", uid="tests.fail"), flaky(("other", 0)):
        assert pay(payment).status_code == 200
        assert effects() == ["other"]
        clock.advance(hours=6)
        sweep()
    assert effects() == ["other", "done"]


# Order per receiver


def test_order_is_kept_for_each_receiver(gateway, clock):
    """While one waits for its retry, it gets nothing newer; others get everything at once."""
    invoice, payment = make(gateway)
    watched = ("invoice_confirming", "payment_received", "invoice_paid")
    good, bad = Flaky("good"), Flaky("bad", times=1)
    with connected(good, *watched, uid="tests.good"), connected(bad, *watched, uid="tests.bad"):
        send(payment, "Paying", [tx("5", confirmed=False)])
        send(payment, "Paying", [tx("5"), tx("20", tx_hash="0xb", confirmed=False)])
        send(payment, "Paid", [tx("5"), tx("20", tx_hash="0xb")])
        expected = [
            ("payment_received", f"{invoice.uuid}.2"),
            ("invoice_confirming", f"{invoice.uuid}.2"),
            ("payment_received", f"{invoice.uuid}.3"),
            ("payment_received", f"{invoice.uuid}.4"),
            ("invoice_paid", f"{invoice.uuid}.4"),
        ]
        assert [call for call in good.calls if call[1] != f"{invoice.uuid}.4" or call[0] == "invoice_paid"] == [
            call for call in expected if call != ("payment_received", f"{invoice.uuid}.4")
        ]
        assert bad.calls == expected[:1]
        clock.advance(hours=6)
        sweep()
    assert bad.calls[1:] == good.calls
    assert due_count() == 0


def test_order_of_other_invoices_is_not_touched(gateway, clock):
    first, first_payment = make(gateway)
    second, second_payment = make(gateway)
    with flaky(("mail", 1)) as (mail,):
        pay(first_payment)
        pay(second_payment)
    assert mail.calls == [("invoice_paid", f"{first.uuid}.2"), ("invoice_paid", f"{second.uuid}.2")]


def test_one_receiver_on_two_signals_gets_both(gateway):
    _, payment = make(gateway)
    with connected(Flaky("both"), "payment_received", "invoice_paid", uid="tests.both") as both:
        pay(payment)
    assert [name for name, _ in both.calls] == ["payment_received", "invoice_paid"]
    assert EventDelivery.objects.filter(receiver="tests.both", state="done").count() == 2


# Receivers that come and go


def test_a_receiver_connected_later_gets_no_old_events(gateway, clock):
    invoice, payment = make(gateway)
    with flaky(("old", 0)):
        pay(payment)
    with flaky(("new", 0)) as (new,):
        clock.advance(hours=6)
        sweep()
        assert new.calls == []
        reverse_invoice(invoice, reason="double spend", user=None)
        clock.advance(seconds=1)
        accept_invoice(invoice, reason="cash", user=None)
        assert new.calls == [("invoice_paid", f"{invoice.uuid}.4")]


def test_a_removed_receiver_is_skipped(gateway, clock):
    _, payment = make(gateway)
    with flaky(("kept", 0)):
        with flaky(("removed", 1)):
            pay(payment)
        assert due_count() == 1
        clock.advance(hours=6)
        sweep()
    assert due_count() == 0
    assert effects() == ["kept"]


def test_a_receiver_that_is_gone_takes_no_event_with_it(gateway):
    def receive(**kwargs):
        raise AssertionError

    signals.invoice_paid.connect(receive, dispatch_uid="tests.weak")
    del receive
    try:
        _, payment = make(gateway)
        with flaky(("other", 0)) as (other,):
            assert pay(payment).status_code == 200
        assert len(other.calls) == 1
        assert due_count() == 0
    finally:
        signals.invoice_paid.disconnect(dispatch_uid="tests.weak")


def test_a_receiver_for_another_sender_is_not_called(gateway):
    calls = []
    signals.invoice_paid.connect(calls.append, sender=User, weak=False, dispatch_uid="tests.sender")
    try:
        _, payment = make(gateway)
        pay(payment)
    finally:
        signals.invoice_paid.disconnect(sender=User, dispatch_uid="tests.sender")
    assert calls == []
    assert due_count() == 0


# Receivers outside of a transaction


def test_atomic_false_runs_outside_of_a_transaction(gateway, clock):
    seen = []

    def receive(**kwargs):
        seen.append(connection.in_atomic_block)

    _, payment = make(gateway)
    with connected(receive, "invoice_paid", uid="tests.out", atomic=False), connected(receive, "invoice_paid", uid="tests.in"):
        pay(payment)
    assert seen == [False, True]
    assert deliveries() == {"out": ("done", 1), "in": ("done", 1)}


def test_atomic_false_keeps_what_it_did_before_it_failed(gateway, clock):
    """At least once: its work is not rolled back, and it is called again."""
    _, payment = make(gateway)
    with flaky(("out", 1), atomic=False) as (out,):
        assert pay(payment).status_code == 200
        assert effects() == ["out"]
        clock.advance(hours=6)
        sweep()
        sweep()
    assert effects() == ["out", "out"]
    assert len(out.calls) == 2


# T42: re-entrancy


def test_t42_a_receiver_that_changes_the_invoice_three_times(gateway):
    invoice, payment = make(gateway)
    depth, deepest, order = [0], [0], []

    def act(sender, *, signal, invoice, event_id, **kwargs):
        depth[0] += 1
        deepest[0] = max(deepest[0], depth[0])
        order.append((signal.name, event_id))
        if signal.name == "invoice_paid" and event_id.endswith(".2"):
            reverse_invoice(invoice, reason="double spend", user=None)
            accept_invoice(invoice, reason="cash", user=None)
            record_refund(invoice, amount="25", currency="USDT", reason="returned", user=None)
        depth[0] -= 1

    watched = ("invoice_paid", "invoice_reversed", "invoice_refunded")
    with connected(act, *watched, uid="tests.act"), connected(Flaky("after"), *watched, uid="tests.after") as after:
        assert pay(payment).status_code == 200
    assert deepest == [1]
    assert [(name, int(event_id.rpartition(".")[2])) for name, event_id in order] == [
        ("invoice_paid", 2),
        ("invoice_reversed", 3),
        ("invoice_paid", 4),
        ("invoice_refunded", 6),
    ]
    assert after.calls == order
    assert facts(invoice)["status"] == "refunded"
    assert due_count() == 0


def test_t42_a_stale_instance_saved_by_a_receiver_overwrites_nothing(gateway):
    invoice, payment = make(gateway, metadata={"a": 1})
    stale = Invoice.objects.get()

    def act(sender, *, invoice, **kwargs):
        stale.metadata = {"a": 2}
        stale.status = "refunded"
        stale.save()
        invoice.save()
        stale.attempts.get().save()

    with connected(act, "invoice_paid", uid="tests.act"):
        pay(payment)
    assert facts(invoice) == fact("paid", is_paid=True, received=25)
    assert stale.version == 1
    assert Invoice.objects.get().version == 2


def test_t42_a_receiver_that_cancels_outside_of_a_transaction(gateway):
    invoice, payment = make(gateway)
    order = []

    def act(sender, *, signal, invoice, **kwargs):
        order.append(signal.name)
        if signal.name == "invoice_confirming":
            cancel_invoice(invoice, reason="fraud", force=True)

    with connected(act, "invoice_confirming", "invoice_cancelled", uid="tests.act", atomic=False):
        send(payment, "Paying", [tx("25", confirmed=False)])
    assert order == ["invoice_confirming", "invoice_cancelled"]
    assert facts(invoice) == fact("cancelled", received=0, review=True)


def test_t42_a_failing_receiver_takes_its_own_transitions_back(gateway, clock):
    invoice, payment = make(gateway)
    failing = [1]

    def act(sender, *, invoice, **kwargs):
        reverse_invoice(invoice, reason="double spend", user=None)
        if failing:
            failing.pop()
            raise ValueError

    with connected(act, "invoice_paid", uid="tests.act"):
        pay(payment)
        assert facts(invoice) == fact("paid", is_paid=True, received=25)
        assert InvoiceEvent.objects.count() == 2
        clock.advance(hours=6)
        sweep()
    assert facts(invoice)["status"] == "failed"
    assert InvoiceEvent.objects.count() == 3


# T43: transactions of the shop


def accept(invoice):
    return accept_invoice(invoice, reason="cash", user=None)


def test_t43_outer_commit(gateway):
    invoice, _ = make(gateway)
    with recorded("invoice_paid") as calls:
        with transaction.atomic():
            accept(invoice)
            assert calls == []
        assert calls.names == ["invoice_paid"]


def test_t43_outer_rollback(gateway):
    invoice, _ = make(gateway)
    before = rows()
    with recorded() as calls:
        with pytest.raises(KeyError), transaction.atomic():
            accept(invoice)
            raise KeyError
        sweep()
    assert (calls, rows()) == ([], before)
    with recorded("invoice_paid") as calls:
        accept(invoice)
    assert calls.names == ["invoice_paid"]


def test_t43_savepoint_rollback(gateway):
    invoice, _ = make(gateway)
    before = rows()
    with recorded() as calls:
        with transaction.atomic():
            note("kept")
            with pytest.raises(KeyError), transaction.atomic():
                accept(invoice)
                raise KeyError
        sweep()
    assert (calls, rows(), effects()) == ([], before, ["kept"])


def test_t43_savepoint_rollback_then_again(gateway):
    invoice, _ = make(gateway)
    with recorded("invoice_paid") as calls, transaction.atomic():
        with pytest.raises(KeyError), transaction.atomic():
            accept(invoice)
            raise KeyError
        accept(invoice)
    assert calls.names == ["invoice_paid"]
    assert due_count() == 0


@pytest.mark.parametrize("place", ["before", "after"])
def test_t43_on_commit_of_the_shop_raises(gateway, clock, place):
    """State is committed; a signal that could not be sent is sent by the next sweep, once."""
    invoice, _ = make(gateway)

    def fail():
        raise KeyError

    with recorded("invoice_paid") as calls:
        with pytest.raises(KeyError), transaction.atomic():
            if place == "before":
                transaction.on_commit(fail)
            accept(invoice)
            if place == "after":
                transaction.on_commit(fail)
        assert facts(invoice)["is_paid"] is True
        assert calls.names == ([] if place == "before" else ["invoice_paid"])
        clock.advance(minutes=1)
        sweep()
        sweep()
    assert calls.names == ["invoice_paid"]
    assert due_count() == 0


def test_t43_a_failing_delivery_does_not_break_the_shops_transaction(gateway):
    invoice, _ = make(gateway)
    ran = []
    with flaky(("mail", 1)), transaction.atomic():
        accept(invoice)
        transaction.on_commit(lambda: ran.append(1))
    assert ran == [1]
    assert facts(invoice)["is_paid"] is True


@pytest.fixture
def atomic_requests():
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    yield
    connection.settings_dict["ATOMIC_REQUESTS"] = False


def test_t43_atomic_requests(gateway, atomic_requests):
    """The callback is no part of a request's transaction: its state is committed before the receivers run."""
    _, payment = make(gateway)
    seen = []

    def receive(sender, *, invoice, **kwargs):
        seen.append((len(connection.savepoint_ids), Invoice.objects.get(pk=invoice.pk).status))

    with connected(receive, "invoice_paid", uid="tests.atomic"):
        assert pay(payment).status_code == 200
    assert seen == [(0, "paid")]


def test_t43_atomic_requests_and_a_failing_receiver(gateway, atomic_requests):
    invoice, payment = make(gateway)
    with flaky(("mail", 1)):
        assert pay(payment).status_code == 200
    assert facts(invoice)["is_paid"] is True
    assert verdicts() == ["applied"]


def test_t43_calls_to_a_gateway_refuse_a_transaction(gateway):
    invoice, _ = make(gateway)
    before = rows()
    with transaction.atomic():
        with pytest.raises(RuntimeError):
            create_invoice(amount="25", currency="USDT")
        with pytest.raises(RuntimeError):
            cancel_invoice(invoice, reason="x")
    assert rows() == before
    assert len(gateway.requests) == 1


# T44: the n-th statement fails


class Fault:
    """An ``execute_wrapper`` that raises at the n-th statement: once, or at it and all that follow."""

    def __init__(self, place, error, forever=False):
        self.place, self.error, self.forever, self.count = place, error, forever, 0

    def __call__(self, execute, sql, params, many, context):
        self.count += 1
        if self.count == self.place or (self.forever and self.count > self.place):
            raise self.error("injected")
        return execute(sql, params, many, context)


CALLBACKS = {
    "paid": lambda payment: body_of(payment, "Paid", [tx("25")]),
    "no change": lambda payment: body_of(payment, "Waiting"),
    "unknown word": lambda payment: body_of(payment, "Teleported"),
    "too little": lambda payment: body_of(payment, "Paid", [tx("4")]),
    "not JSON": lambda payment: b"[]",
}


def consistent(invoice):
    """All or nothing: as many events as versions, a receipt with every applied change and none without."""
    invoice = Invoice.objects.get(pk=invoice.pk)
    versions = list(InvoiceEvent.objects.filter(invoice=invoice).order_by("version").values_list("version", flat=True))
    assert versions == list(range(1, invoice.version + 1))
    attempt = invoice.attempts.get()
    assert invoice.status == attempt.status
    assert invoice.amount_received == attempt.amount_received
    assert attempt.transfers.count() == (0 if attempt.first_money_at is None else 1)
    assert InvoiceEvent.objects.filter(invoice=invoice, source="callback", receipt=None).count() == 0
    return invoice


@pytest.mark.parametrize("kind", CALLBACKS)
@pytest.mark.parametrize(
    "error,forever",
    [(OperationalError, False), (OperationalError, True), (InterfaceError, False), (DatabaseError, True)],
    ids=["once", "from then on", "lost once", "broken from then on"],
)
def test_t44_every_statement_fails(gateway, clock, sweeping, caplog, kind, error, forever):
    caplog.set_level("CRITICAL")
    place, finals = 0, []

    def receive(sender, *, signal, **kwargs):
        note(signal.name)  # here exactly once: a receiver whose transaction fails after it ran is called again

    with connected(receive, "invoice_paid", "invoice_review_required", uid="tests.exactly_once"):
        while True:
            place += 1
            invoice, payment = make(gateway)
            payment["txs"] = []
            body = CALLBACKS[kind](payment)
            start = len(effects())
            sweeping()
            fault = Fault(place, error, forever)
            with connection.execute_wrapper(fault):
                answer = post(path_of(payment), body, sign(body))
            assert answer.status_code in ((400, 503) if kind == "not JSON" else (200, 503)), place
            if answer.status_code == 503:
                assert answer.headers["Retry-After"] == "60"
            consistent(invoice)
            after = facts(invoice)
            if answer.status_code == 200 and kind == "paid":
                assert after["status"] == "paid"
            again = post(path_of(payment), body, sign(body))  # as the sender does
            assert again.status_code == (400 if kind == "not JSON" else 200)
            consistent(invoice)
            clock.advance(minutes=1)
            sweep()
            assert due_count() == 0
            finals.append((facts(invoice), effects()[start:]))
            if fault.count < place:
                break
    assert place > 5
    assert [final for final in finals if final != finals[-1]] == []


# T45: a poison event


def test_t45_given_up_after_seven_days(gateway, clock, client, settings):
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "NOTIFY": "tests.test_delivery.take_notice"}
    notices.clear()
    invoice, payment = make(gateway)
    with flaky(("mail", 10_000)) as (mail,), flaky(("ship", 0)) as (ship,):
        pay(payment)
        start = clock.now
        while due_count():
            clock.advance(hours=6)
            sweep()
            assert clock.now - start < timedelta(days=8)
        assert clock.now - start > timedelta(days=7)
        assert deliveries() == {"mail": ("given_up", len(mail.calls)), "ship": ("done", 1)}
        assert [(kind, about) for kind, about in notices if kind == "given_up"] == [("given_up", invoice)]
        health = client.get(reverse("crypto_invoices:health"))
        assert (health.status_code, health.json()) == (503, {"oldest_due_event": 0, "given_up": 1})

        tried = len(mail.calls)
        reverse_invoice(invoice, reason="double spend", user=None)
        clock.advance(seconds=1)
        accept_invoice(invoice, reason="cash", user=None)  # later events still reach both
        assert [event_id for _, event_id in ship.calls] == [f"{invoice.uuid}.2", f"{invoice.uuid}.4"]
        assert mail.calls[tried:] == [("invoice_paid", f"{invoice.uuid}.4")]


notices = []


def take_notice(kind, invoice, text):
    notices.append((kind, invoice))


def test_t45_other_receivers_do_not_wait_for_it(gateway, clock):
    invoice, payment = make(gateway)
    with flaky(("mail", 10_000)), flaky(("ship", 0)) as (ship,):
        pay(payment)
        reverse_invoice(invoice, reason="double spend", user=None)
        clock.advance(seconds=1)
        accept_invoice(invoice, reason="cash", user=None)
    assert len(ship.calls) == 2


def test_health_is_red_while_an_event_waits_too_long(gateway, clock, client, worker):
    url = reverse("crypto_invoices:health")
    _, payment = make(gateway)
    with recorded("invoice_paid"):
        pay(payment)
        for minutes, status in ((0, 200), (14, 200), (2, 503)):
            clock.advance(minutes=minutes)
            assert client.get(url).status_code == status
        sweep()
    assert (client.get(url).status_code, client.get(url).json()) == (200, {"oldest_due_event": 0, "given_up": 0})


def test_a_failing_notice_changes_nothing(gateway, settings):
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "NOTIFY": "tests.test_delivery.no_such_function"}
    invoice, payment = make(gateway)
    assert send(payment, "Teleported").status_code == 200
    assert facts(invoice) == fact("pending", review=True)


# Resending


def test_resend_calls_every_receiver_again(gateway):
    invoice, payment = make(gateway)
    with flaky(("mail", 0), ("ship", 0)) as (mail, ship):
        pay(payment)
        resend(InvoiceEvent.objects.get(invoice=invoice, version=2))
    assert mail.calls == ship.calls == [("invoice_paid", f"{invoice.uuid}.2")] * 2
    assert facts(invoice) == fact("paid", is_paid=True, received=25)
    assert InvoiceEvent.objects.count() == 2
    assert due_count() == 0


def test_resend_of_a_given_up_one(gateway, clock):
    _, payment = make(gateway)
    with flaky(("mail", 2)) as (mail,):
        pay(payment)
        clock.advance(days=8)
        sweep()
        assert deliveries() == {"mail": ("given_up", 2)}
        resend(InvoiceEvent.objects.get(version=2))
    assert deliveries() == {"mail": ("done", 1)}
    assert len(mail.calls) == 3


def test_resend_inside_of_a_transaction_that_rolls_back(gateway):
    _, payment = make(gateway)
    with flaky(("mail", 0)) as (mail,):
        pay(payment)
        with pytest.raises(KeyError), transaction.atomic():
            resend(InvoiceEvent.objects.get(version=2))
            raise KeyError
        sweep()
    assert len(mail.calls) == 1


# A worker, and sweeps in passing


def test_worker_the_answer_goes_first(gateway, worker, sweeping):
    """No receiver runs in the request; the ``deliver`` command calls them."""
    _, payment = make(gateway)
    with flaky(("ship", 0)) as (ship,):
        sweeping()
        assert pay(payment).status_code == 200
        assert ship.calls == []
        assert due_count() >= 1
        sweep()
        assert len(ship.calls) == 1
        sweep()
    assert len(ship.calls) == 1
    assert due_count() == 0


def test_a_held_event_is_left_alone_until_its_lease_is_over(gateway, clock):
    """As if the process that had just committed it were gone."""
    invoice, _ = make(gateway)

    def killed():
        raise KeyError

    with flaky(("ship", 0)) as (ship,):
        with pytest.raises(KeyError), transaction.atomic():
            transaction.on_commit(killed)
            accept(invoice)
        sweep()
        assert ship.calls == []
        clock.advance(seconds=31)
        sweep()
    assert len(ship.calls) == 1


def _due_events(gateway, settings, invoices, events):
    """That many invoices with that many due events each, for the receiver of ``invoice_review_required``."""
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "DISPATCH": "worker"}
    for _ in range(invoices):
        _, payment = make(gateway)
        for number in range(events):
            send(payment, f"word{chr(97 + number)}")
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "DISPATCH": "inline"}


@pytest.mark.parametrize("invoices,events", [(8, 1), (1, 8), (2, 4)])
def test_sweep_in_passing_at_most_five_events(gateway, settings, sweeping, invoices, events):
    with connected(Flaky("late"), "invoice_review_required", uid="tests.late") as late:
        delivery._last_passing = time.monotonic()
        _due_events(gateway, settings, invoices, events)
        assert late.calls == []
        _, payment = make(gateway)
        sweeping()
        send(payment, "Waiting")
        assert 1 <= len(late.calls) <= 5
        send(payment, "Waiting", note="again")  # not twice in ten seconds
        assert 1 <= len(late.calls) <= 5
        sweep()
    assert len(late.calls) == invoices * events


@pytest.mark.parametrize("invoices,events", [(4, 1), (1, 4)])
def test_sweep_in_passing_starts_no_event_after_200_ms(gateway, settings, sweeping, monkeypatch, invoices, events):
    moment = [time.monotonic() + 1000]
    slow = []

    def receive(**kwargs):
        slow.append(1)
        moment[0] += 0.15

    with connected(receive, "invoice_review_required", uid="tests.slow"):
        delivery._last_passing = time.monotonic()
        _due_events(gateway, settings, invoices, events)
        _, payment = make(gateway)
        body = body_of(payment, "Waiting")
        sweeping()
        with monkeypatch.context() as patch:
            patch.setattr(time, "monotonic", lambda: moment[0])
            assert post(path_of(payment), body, sign(body)).status_code == 200
        assert len(slow) == 2


def test_sweep_in_passing_after_a_service_call(gateway, settings, sweeping):
    with connected(Flaky("late"), "invoice_review_required", uid="tests.late") as late:
        delivery._last_passing = time.monotonic()
        _due_events(gateway, settings, 1, 1)
        assert late.calls == []
        sweeping()
        make(gateway)
        assert len(late.calls) == 1


def test_a_forged_callback_sweeps_nothing(gateway, settings, sweeping):
    with connected(Flaky("late"), "invoice_review_required", uid="tests.late") as late:
        delivery._last_passing = time.monotonic()
        _due_events(gateway, settings, 1, 1)
        _, payment = make(gateway)
        sweeping()
        assert post(path_of(payment), b"{}", "0" * 128).status_code == 403
    assert late.calls == []


def test_t41_a_slow_receiver_is_named_in_the_log(gateway, monkeypatch, caplog):
    moment = [time.monotonic() + 1000]

    def receive(**kwargs):
        moment[0] += 1.5

    _, payment = make(gateway)
    body = body_of(payment, "Paid", [tx("25")])
    with connected(receive, "invoice_paid", uid="tests.slow"), monkeypatch.context() as patch, caplog.at_level("WARNING"):
        patch.setattr(time, "monotonic", lambda: moment[0])
        assert post(path_of(payment), body, sign(body)).status_code == 200
    [record] = [record for record in caplog.records if record.name == "crypto_invoices.delivery"]
    assert (record.levelname, "tests.slow" in record.getMessage()) == ("WARNING", True)


def test_t41_a_duplicate_that_comes_while_a_receiver_runs(gateway):
    """No invoice lock is held: the second POST is answered, and calls nobody."""
    _, payment = make(gateway)
    answers = []
    body = body_of(payment, "Paid", [tx("25")])

    def receive(**kwargs):
        answers.append(post(path_of(payment), body, sign(body)).status_code)

    with connected(receive, "invoice_paid", uid="tests.again", atomic=False):
        answers.append(post(path_of(payment), body, sign(body)).status_code)
    assert answers == [200, 200]


# What is no change


def test_bindings_polls_and_raw_answers_are_no_versions(gateway):
    invoice, payment = make(gateway)
    send(payment, "Waiting")
    send(payment, "New")
    assert Invoice.objects.get().version == 1
    assert invoice.attempts.get().gateway_status == "new"
    assert InvoiceEvent.objects.count() == 1


def test_saving_and_fixtures_send_nothing(gateway):
    invoice, _ = make(gateway)
    with recorded() as calls:
        invoice.status = "paid"
        invoice.save()
        invoice.save(update_fields=["status", "description"])
        Invoice.objects.create(amount=1, currency="USD")
    assert calls == []
    assert facts(invoice) == fact("pending")


def test_one_event_for_each_version(gateway):
    invoice, payment = make(gateway)
    pay(payment)
    reverse_invoice(invoice, reason="double spend", user=None)
    accept_invoice(invoice, reason="cash", user=None)
    mark_reviewed(invoice, reason="looked", user=None)
    events = InvoiceEvent.objects.order_by("version").values_list("version", "kind", "old_status", "new_status", "one_shot")
    assert [(version, old, new, shot) for version, _, old, new, shot in events] == [
        (1, "", "pending", None),
        (2, "pending", "paid", "paid:0"),
        (3, "paid", "failed", None),
        (4, "failed", "paid", "paid:1"),
        (5, "paid", "paid", None),
    ]
    assert Counter(kind for _, kind, *_ in events)["reversal"] == 1
