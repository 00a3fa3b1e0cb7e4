"""Polling when no callback comes (case T46), expiry by our clock, lost creates, back-off and the watch after closing."""

import itertools
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import call_command

from crypto_invoices.exceptions import GatewayUncertain, NotAllowed
from crypto_invoices.models import Invoice, InvoiceEvent, PaymentAttempt, Transfer
from crypto_invoices.providers.oxapay import OxaPay
from crypto_invoices.reconcile import due_attempts, reconcile
from crypto_invoices.services import cancel_invoice, create_invoice, start_attempt
from tests.helpers import (
    KEYS,
    Clock,
    fact,
    facts,
    in_this_connection,
    make,
    payment_of,
    recorded,
    rows,
    send,
    stub_gateway,
    tell,
    tx,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def gateway(settings):
    return stub_gateway(settings)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def polls(gateway):
    return [path.rpartition("/")[2] for method, path, _ in gateway.requests if method == "GET"]


def counts(report):
    return {"polled": report.polled, "changed": report.changed, "failed": report.failed, "expired": report.expired}


# T46: without callbacks everything ends as with them

HISTORIES = {
    "paid": [("paying", [("25", False)]), ("paid", [("25", True)])],
    "paid in two": [("paying", [("10", True)]), ("paid", [("10", True), ("15", True)])],
    "overpaid": [("paid", [("30", True)])],
    "underpaid": [("paying", [("10", True)]), ("underpaid", [("10", True)])],
    "expired": [("waiting", []), ("expired", [])],
    "accepted at the gateway": [("paying", [("10", True)]), ("manual_accept", [("10", True)])],
    "refunded": [("paid", [("25", True)]), ("refunding", [("25", True)]), ("refunded", [("25", True)])],
    "topped up after underpaid": [("underpaid", [("10", True)]), ("paid", [("10", True), ("15", True)])],
    "late after expired": [("expired", []), ("paid", [("25", True)])],
    "failed": [("failed", [])],
}
WORDS = {"paying": "Paying", "paid": "Paid", "underpaid": "Underpaid", "manual_accept": "Manual Accept"}


def _outcome(invoice, calls):
    attempt = invoice.attempts.get()
    return {
        **facts(invoice),
        "attempt": (attempt.status, attempt.state, attempt.amount_received, attempt.late, attempt.manual),
        "transfers": list(Transfer.objects.filter(attempt=attempt).order_by("key").values_list("key", "amount", "confirmed")),
        "signals": sorted(set(calls.names)),
        "ships": calls.count_of("invoice_paid"),
    }


def _play(gateway, clock, history, with_callbacks):
    invoice, payment = make(gateway)
    with recorded() as calls:
        for word, parts in history:
            clock.advance(minutes=2)
            txs = [tx(amount, tx_hash=f"0x{n}", confirmed=done, date=payment["date"]) for n, (amount, done) in enumerate(parts)]
            tell(payment, word, txs)
            if with_callbacks:
                send(payment, WORDS.get(word, word.title()), txs)
            else:
                clock.advance(hours=25)
                assert reconcile().failed == 0
    return _outcome(invoice, calls)


@pytest.mark.parametrize("name", HISTORIES)
def test_t46_all_callbacks_dropped(gateway, clock, name):
    history = HISTORIES[name]
    polled = _play(gateway, clock, history, False)
    received = [polled["status"], polled["is_paid"]]
    expected = {
        "paid": ["paid", True],
        "paid in two": ["paid", True],
        "overpaid": ["overpaid", True],
        "underpaid": ["underpaid", False],
        "expired": ["expired", False],
        "accepted at the gateway": ["paid", True],
        "refunded": ["refunded", True],
        "topped up after underpaid": ["paid", True],
        "late after expired": ["paid", True],  # late for us, but its own time was before the deadline
        "failed": ["failed", False],
    }[name]
    assert received == expected
    assert polled == _play(gateway, clock, history, True)


@pytest.mark.parametrize("name", ["paid", "paid in two", "refunded", "underpaid"])
@pytest.mark.parametrize("dropped", [(True, False), (False, True)])
def test_t46_polls_and_callbacks_mixed(gateway, clock, name, dropped):
    invoice, payment = make(gateway)
    with recorded() as calls:
        for (word, parts), drop in zip(HISTORIES[name], itertools.cycle(dropped), strict=False):
            clock.advance(hours=25)
            txs = [tx(amount, tx_hash=f"0x{n}", confirmed=done, date=payment["date"]) for n, (amount, done) in enumerate(parts)]
            tell(payment, word, txs)
            if not drop:
                send(payment, WORDS.get(word, word.title()), txs)
            reconcile()
    assert _outcome(invoice, calls) == _play(gateway, clock, HISTORIES[name], True)


def test_t46_many_invoices(gateway, clock):
    made = [make(gateway, account=("default", "second")[number % 2]) for number in range(20)]
    for number, (_, payment) in enumerate(made):
        tell(payment, ("paid", "waiting", "expired", "paying")[number % 4], [tx("25")] if number % 4 == 0 else [])
    clock.advance(minutes=2)
    with recorded("invoice_paid") as calls:
        assert counts(reconcile()) == {"polled": 20, "changed": 15, "failed": 0, "expired": 0}
        assert counts(reconcile()) == {"polled": 0, "changed": 0, "failed": 0, "expired": 0}
    assert len(calls) == 5
    expected = [("paid", "pending", "expired", "confirming")[number % 4] for number in range(20)]
    assert [facts(invoice)["status"] for invoice, _ in made] == expected


def test_t46_polling_again_changes_nothing(gateway, clock):
    invoice, payment = make(gateway)
    tell(payment, "paying", [tx("10", date=payment["date"])])
    clock.advance(minutes=2)
    reconcile()
    before = rows(Invoice, InvoiceEvent, Transfer)
    with recorded() as calls:
        for _ in range(3):
            clock.advance(hours=25)
            assert reconcile().polled == 1
    assert (calls, rows(Invoice, InvoiceEvent, Transfer)) == ([], before)
    assert facts(invoice) == fact("confirming", received=10)


def test_t46_the_command(gateway, clock, capsys):
    invoice, payment = make(gateway)
    tell(payment, "paid", [tx("25")])
    clock.advance(minutes=2)
    call_command("crypto_invoices", "reconcile")
    assert "polled 1, changed 1, expired 0, failed 0" in capsys.readouterr().out
    assert facts(invoice)["is_paid"] is True


def test_limit_and_progress(gateway, clock):
    for _ in range(5):
        make(gateway)
    clock.advance(minutes=2)
    seen = []
    assert counts(reconcile(limit=3, progress=seen.append))["polled"] == 3
    assert len(seen) == 3
    assert due_attempts().count() == 2


def test_one_failing_attempt_does_not_stop_the_others(gateway, clock, caplog):
    made = [make(gateway) for _ in range(3)]
    for _, payment in made:
        tell(payment, "paid", [tx("25")])
    gateway.payments.pop(made[0][1]["track_id"])
    clock.advance(minutes=2)
    with caplog.at_level("WARNING"):
        assert counts(reconcile()) == {"polled": 3, "changed": 2, "failed": 1, "expired": 0}
    assert [facts(invoice)["is_paid"] for invoice, _ in made] == [False, True, True]
    assert "CANARY" not in caplog.text


def test_an_account_that_is_gone_from_the_settings_does_not_stop_the_others(gateway, clock, settings):
    _, _ = make(gateway, account="second")
    invoice, payment = make(gateway)
    tell(payment, "paid", [tx("25")])
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "ACCOUNTS": {"default": gateway.account("default")}}
    clock.advance(minutes=2)
    report = reconcile()
    assert (report.polled, report.failed) == (2, 1)
    assert facts(invoice)["is_paid"] is True
    assert due_attempts().count() == 0 or counts(reconcile(limit=1))["polled"] == 1


# Rules 2 and 9: our clock


def test_expiry_by_our_clock_has_a_margin(gateway, clock):
    """15 minutes after ``expires_at``, and right after a poll that did not say otherwise."""
    invoice, payment = make(gateway)
    deadline = clock.now + timedelta(minutes=60)
    assert Invoice.objects.get().expires_at == deadline
    with recorded() as calls:
        for minutes, status in ((60, "pending"), (74, "pending"), (75, "pending"), (76, "expired")):
            clock.set(deadline - timedelta(minutes=60) + timedelta(minutes=minutes))
            PaymentAttempt.objects.update(next_poll_at=clock.now)
            reconcile()
            assert facts(invoice) == fact(status), minutes
    assert calls.names == ["invoice_status_changed", "invoice_expired"]
    assert InvoiceEvent.objects.order_by("pk").last().source == "timer"
    assert invoice.attempts.get().next_poll_at is not None
    tell(payment, "paid", [tx("25", date=payment["date"])])
    clock.advance(hours=1)
    reconcile()
    assert facts(invoice) == fact("paid", is_paid=True, received=25)


def test_our_clock_never_expires_without_a_poll_that_succeeded(gateway, clock):
    invoice, payment = make(gateway)
    clock.advance(hours=3)
    del gateway.payments[payment["track_id"]]
    assert counts(reconcile()) == {"polled": 1, "changed": 0, "failed": 1, "expired": 0}
    assert facts(invoice) == fact("pending")


@pytest.mark.parametrize("word,status", [("paying", "confirming"), ("paid", "paid"), ("underpaid", "underpaid")])
def test_our_clock_never_expires_what_has_money(gateway, clock, word, status):
    invoice, payment = make(gateway)
    clock.advance(hours=3)
    tell(payment, word, [tx("25" if word == "paid" else "5", date=payment["date"])])
    assert reconcile().expired == 0
    assert facts(invoice)["status"] == status


def test_a_live_second_attempt_keeps_the_invoice_open(gateway, clock):
    """A dead attempt never pulls down a live one."""
    invoice, first = make(gateway)
    clock.advance(minutes=50)
    start_attempt(invoice)
    clock.advance(minutes=30)
    tell(first, "expired")
    reconcile()
    assert facts(invoice)["status"] == "pending"
    assert list(invoice.attempts.order_by("pk").values_list("status", flat=True)) == ["expired", "pending"]


# T62: creates whose answer was lost


@pytest.mark.parametrize("fault", ["made_then_lost", "made_then_502"])
@pytest.mark.parametrize("currency", ["USDT", "USD"])
def test_t62_a_lost_create_is_found_by_our_reference(gateway, clock, fault, currency):
    others = [make(gateway, "25", currency)[1] for _ in range(3)]
    gateway.fail("create", fault)
    with pytest.raises(GatewayUncertain) as caught:
        create_invoice(amount="25", currency=currency)
    invoice = caught.value.invoice
    payment = payment_of(gateway, invoice)
    assert payment["track_id"] not in [other["track_id"] for other in others]
    clock.advance(minutes=2)
    assert reconcile().failed == 0
    attempt = invoice.attempts.get()
    assert (attempt.gateway_id, attempt.state) == (payment["track_id"], "open")
    assert len(gateway.called("POST")) == 4
    send(payment, "Paid", [tx("25", "USDT")])
    assert facts(invoice)["is_paid"] is True


def test_t62_a_lost_create_that_is_paid_meanwhile(gateway, clock):
    gateway.fail("create", "made_then_lost")
    with pytest.raises(GatewayUncertain) as caught:
        create_invoice(amount="25", currency="USDT")
    payment = payment_of(gateway, caught.value.invoice)
    tell(payment, "paid", [tx("25")])
    clock.advance(minutes=2)
    with recorded("invoice_paid") as calls:
        reconcile()
    assert facts(caught.value.invoice) == fact("paid", is_paid=True, received=25)
    assert calls.names == ["invoice_paid"]


def test_t62_a_callback_settles_a_lost_create(gateway):
    gateway.fail("create", "made_then_lost")
    with pytest.raises(GatewayUncertain) as caught:
        create_invoice(amount="25", currency="USDT")
    invoice = caught.value.invoice
    payment = payment_of(gateway, invoice)
    send(payment, "Paid", [tx("25")])
    assert facts(invoice) == fact("paid", is_paid=True, received=25)
    assert invoice.attempts.get().gateway_id == payment["track_id"]


def test_t62_a_create_that_was_really_lost(gateway, clock):
    """Nothing is found for ten minutes: then the gateway has made nothing, and another attempt may be made."""
    gateway.fail("create", "lost")
    with pytest.raises(GatewayUncertain) as caught:
        create_invoice(amount="25", currency="USDT")
    invoice = caught.value.invoice
    clock.advance(minutes=9)
    reconcile()
    attempt = invoice.attempts.get()
    assert (attempt.state, attempt.gateway_id, facts(invoice)) == ("unknown", "", fact("pending"))
    assert attempt.next_poll_at > clock.now
    with pytest.raises(NotAllowed):
        start_attempt(invoice)
    clock.advance(minutes=2)
    reconcile()
    attempt = invoice.attempts.get()
    assert (attempt.state, attempt.next_poll_at, facts(invoice)) == ("refused", None, fact("pending"))
    assert len(gateway.called("POST")) == 1
    assert start_attempt(invoice).state == "open"
    assert len(gateway.payments) == 1


@pytest.mark.parametrize("seconds,state", [(59, "creating"), (61, "open")])
def test_t62_creating_for_more_than_a_minute_counts_as_unknown(gateway, clock, seconds, state):
    """As if the process had been killed while it called the gateway."""
    invoice, payment = make(gateway)
    attempt = invoice.attempts.get()
    due = attempt.created_at + timedelta(minutes=1)
    PaymentAttempt.objects.update(state="creating", gateway_id="", payment_url="", next_poll_at=due)
    clock.advance(seconds=seconds)
    reconcile()
    attempt.refresh_from_db()
    assert (attempt.state, attempt.gateway_id) == (state, payment["track_id"] if state == "open" else "")


# Back-off


def test_intervals_grow_from_a_minute_to_a_day(gateway, clock):
    invoice, payment = make(gateway)
    payment["expired_at"] += 10**7
    PaymentAttempt.objects.update(expires_at=None)
    start = clock.now
    waits = []
    while clock.now - start < timedelta(days=10):
        attempt = invoice.attempts.get()
        waits.append(attempt.next_poll_at - clock.now)
        clock.set(attempt.next_poll_at)
        assert reconcile().polled == 1
    assert waits[0] == timedelta(minutes=1)
    assert waits[-1] == timedelta(hours=24)
    assert waits == sorted(waits)
    assert len(waits) < 300


def test_failures_double_the_interval_up_to_a_day(gateway, clock):
    invoice, payment = make(gateway)
    del gateway.payments[payment["track_id"]]
    waits = []
    for _ in range(12):
        clock.set(invoice.attempts.get().next_poll_at)
        reconcile()
        attempt = invoice.attempts.get()
        waits.append(attempt.next_poll_at - clock.now)
    assert attempt.poll_failures == 12
    assert waits == sorted(waits)
    assert waits[0] >= timedelta(minutes=1)
    assert waits[-1] == timedelta(hours=24)
    assert facts(invoice) == fact("pending")


def test_a_poll_that_succeeds_ends_the_back_off(gateway, clock):
    invoice, payment = make(gateway)
    kept = gateway.payments.pop(payment["track_id"])
    for _ in range(3):
        clock.set(invoice.attempts.get().next_poll_at)
        reconcile()
    gateway.payments[payment["track_id"]] = kept
    clock.set(invoice.attempts.get().next_poll_at)
    reconcile()
    attempt = invoice.attempts.get()
    assert (attempt.poll_failures, attempt.poll_error) == (0, "")
    assert attempt.next_poll_at - clock.now == timedelta(minutes=1)


def test_refused_attempts_are_not_polled(gateway, clock):
    gateway.fail("create", "refused")
    invoice = create_invoice(amount="25", currency="USDT", account=["default", "second"])
    clock.advance(days=2)
    reconcile()
    assert len(polls(gateway)) == 1
    assert invoice.attempts.order_by("pk").first().next_poll_at is None


# Watch after close: OxaPay 72 hours


@pytest.mark.parametrize("word", ["expired", "paid"])
def test_watch_after_close_ends(gateway, clock, word):
    invoice, payment = make(gateway)
    tell(payment, word, [tx("25", date=payment["date"])] if word == "paid" else [])
    clock.advance(minutes=2)
    reconcile()
    closed = clock.now
    assert invoice.attempts.get().state == "closed"
    last = closed
    while (due := invoice.attempts.get().next_poll_at) is not None:
        clock.set(due)
        last = due
        reconcile()
        assert clock.now - closed < timedelta(days=5)
    assert 5 < len(polls(gateway)) < 300
    assert last - closed >= timedelta(hours=72)
    before = len(gateway.requests)
    clock.advance(days=30)
    assert reconcile().polled == 0
    assert len(gateway.requests) == before


class NeverFinal(OxaPay):
    """As OnchainPay, which calls nearly no word final."""

    final = frozenset()


@pytest.mark.parametrize("word", ["paid", "expired", "underpaid", "refunded"])
def test_closing_is_ours_where_the_gateway_calls_no_word_final(gateway, clock, settings, word):
    account = {**gateway.account("default"), "PROVIDER": f"{__name__}.NeverFinal"}
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "ACCOUNTS": {"default": account}}
    invoice, payment = make(gateway)
    clock.advance(hours=2)  # after its deadline
    tell(payment, word, [tx("10" if word == "underpaid" else "25")] if word != "expired" else [])
    reconcile()
    attempt = invoice.attempts.get()
    assert (attempt.state, attempt.live_key, attempt.closed_at) == ("closed", None, clock.now)
    for _ in range(72):
        clock.advance(hours=1)
        reconcile()
    assert invoice.attempts.get().next_poll_at is not None
    clock.advance(hours=24)
    reconcile()
    assert invoice.attempts.get().next_poll_at is None


def test_what_is_short_before_its_deadline_stays_open(gateway, clock, settings):
    account = {**gateway.account("default"), "PROVIDER": f"{__name__}.NeverFinal"}
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "ACCOUNTS": {"default": account}}
    invoice, payment = make(gateway)
    clock.advance(minutes=30)
    tell(payment, "underpaid", [tx("10")])
    reconcile()
    assert invoice.attempts.get().state == "open"


def test_what_is_under_way_is_watched_to_its_end(gateway, clock):
    invoice, payment = make(gateway)
    clock.advance(minutes=30)
    tell(payment, "paid", [tx("25")])
    reconcile()
    clock.advance(hours=71)
    tell(payment, "refunding", [tx("25")])
    reconcile()
    clock.advance(hours=48)
    tell(payment, "refunded", [tx("25")])
    reconcile()
    assert facts(invoice)["status"] == "refunded"


@pytest.mark.parametrize("hours", [1, 71])
def test_late_money_is_found_in_the_watch(gateway, clock, hours):
    invoice, payment = make(gateway)
    tell(payment, "expired")
    clock.advance(hours=2)
    reconcile()
    assert facts(invoice)["status"] == "expired"
    clock.advance(hours=hours)
    tell(payment, "paid", [tx("25")])
    with recorded() as calls:
        clock.advance(hours=1 if hours == 71 else 24)
        reconcile()
    assert facts(invoice) == fact("paid", received=25, late=True, review=True)
    assert "invoice_paid_late" in calls.names
    assert "invoice_paid" not in calls.names


def test_a_cancelled_invoice_is_watched(gateway, clock):
    invoice, payment = make(gateway)
    cancel_invoice(invoice, reason="sold out")
    clock.advance(hours=1)
    tell(payment, "paid", [tx("25")])
    reconcile()
    assert facts(invoice) == fact("paid", received=25, late=True, review=True)


def test_a_superseded_attempt_is_watched(gateway, clock):
    invoice, first = make(gateway)
    start_attempt(invoice, "second")
    tell(first, "paid", [tx("25")])
    clock.advance(minutes=2)
    reconcile()
    assert facts(invoice) == fact("paid", is_paid=True, received=25)
    send(payment_of(gateway, invoice), "Paid", [tx("25", tx_hash="0xb")], key=KEYS["second"])
    assert facts(invoice) == fact("overpaid", is_paid=True, received=50, review=True)


# Polls that do not fit


@pytest.mark.parametrize("change", [{"amount": Decimal(24)}, {"currency": "USDC"}, {"order_id": "somebody-else"}])
def test_a_poll_over_something_else_is_quarantined(gateway, clock, change):
    invoice, payment = make(gateway)
    tell(payment, "paid", [tx("25")])
    payment |= change
    clock.advance(minutes=2)
    with recorded() as calls:
        reconcile()
    assert facts(invoice) == fact("pending", review=True)
    assert calls.names == ["invoice_review_required"]
    assert Transfer.objects.count() == 0


def test_a_poll_about_another_payment_is_not_believed(gateway, clock):
    invoice, payment = make(gateway)
    _, other = make(gateway)
    tell(other, "paid", [tx("25")])
    gateway.payments[payment["track_id"]] = other
    clock.advance(minutes=2)
    reconcile()
    assert facts(invoice)["status"] == "pending"


def test_a_poll_may_lower_a_status(gateway, clock):
    invoice, payment = make(gateway)
    send(payment, "Paying", [tx("25", confirmed=False, date=payment["date"])])
    assert facts(invoice)["status"] == "confirming"
    tell(payment, "waiting")
    clock.advance(minutes=2)
    reconcile()
    assert facts(invoice)["status"] == "pending"


@pytest.mark.parametrize("word", ["Paying", "Paid"])
def test_a_poll_that_was_overtaken_lowers_nothing(gateway, clock, word):
    """DECISIONS 14: while its answer was on the way a callback was applied."""
    invoice, payment = make(gateway)
    send(payment, "Paying", [tx("5", confirmed=False, date=payment["date"])])
    clock.advance(minutes=2)
    tell(payment, "waiting")
    txs = [tx("5", date=payment["date"]), tx("20", tx_hash="0xb", date=payment["date"])]
    gateway.during_fetch, answers = in_this_connection(lambda payment: send(payment, word, txs))
    reconcile()
    assert [answer.status_code for answer in answers] == [200]
    expected = {"Paying": fact("confirming", received=25), "Paid": fact("paid", is_paid=True, received=25)}
    assert facts(invoice) == expected[word]
