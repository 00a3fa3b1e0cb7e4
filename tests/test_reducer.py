"""From evidence and marks to an invoice's status, totals and signals, on rows in memory (``changes``)."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from itertools import permutations

import pytest
from django.test import override_settings
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_invoices.changes import after_evidence, after_marks
from crypto_invoices.exceptions import NotAllowed
from crypto_invoices.models import Invoice, PaymentAttempt, Transfer
from crypto_invoices.providers.base import Evidence, Kind, Remote, RemoteTransfer
from crypto_invoices.statuses import AttemptState, InvoiceStatus, Review, Source, Verdict

S = InvoiceStatus
T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
EXPIRES = 60  # minutes after T0
UNIT = D("0.000000000000000001")
SETTLED = {"paid", "overpaid"}


def at(minutes):
    return T0 + timedelta(minutes=minutes)


def transfer(key, value=None, minute=None, **fields):
    value = None if value is None else D(value)
    return RemoteTransfer(
        key=key, tx_hash=key, amount=value, value=value, currency="USD", paid_at=None if minute is None else at(minute), **fields
    )


class Books:
    """One invoice of 10 USD with its attempts: applies changes as the ledger does, without a database."""

    def __init__(self, amount="10", **fields):
        self.invoice = Invoice(pk=1, amount=D(amount), currency="USD", version=1, expires_at=at(EXPIRES), **fields)
        self.attempts = []
        self.known = {}
        self.signals = []
        self.paid_keys = []
        self.minute = 0
        self.open()

    def open(self, **fields):
        """A new live attempt; an older one is superseded, as by start_attempt."""
        for row in self.attempts:
            if row.live_key:
                row.state, row.live_key = AttemptState.SUPERSEDED.value, None
        number = len(self.attempts) + 1
        values = {
            "amount": self.invoice.amount, "currency": "USD", "reference": f"{number:026}", "gateway_id": f"gateway-{number}",
            "state": AttemptState.OPEN.value, "live_key": 1, "expires_at": at(EXPIRES),
        }  # fmt: skip
        row = PaymentAttempt(pk=number, invoice=self.invoice, **(values | fields))
        self.attempts.append(row)
        self.known[number] = []
        return row

    def hear(self, status, *, of=None, minute=None, undisturbed=True, **fields):
        """News of an attempt (the newest unless ``of`` names another) at a minute; returns the ``Change``."""
        row = of or self.attempts[-1]
        self.minute = self.minute + 1 if minute is None else minute
        for name in ("received", "refunded", "price_amount", "tolerance"):
            if fields.get(name) is not None:
                fields[name] = D(fields[name])
        values = {
            "source": Source.CALLBACK,
            "remote": Remote(Kind.INVOICE, row.gateway_id, row.reference),
            "word": status.value if status else "?",
        }
        evidence = Evidence(status=status, **(values | fields))
        change = after_evidence(
            self.invoice, self.attempts, row, evidence, self.known[row.pk], now=at(self.minute), undisturbed=undisturbed
        )
        return self._take(change, row)

    def poll(self, status, **fields):
        return self.hear(status, source=Source.POLL, **fields)

    def decide(self, minute=None, *, kind="decision", signals=(), of=None, attempt_values=None, **marks):
        """An operator's marks; a mark True means now."""
        self.minute = self.minute + 1 if minute is None else minute
        now = at(self.minute)
        marks = {name: now if value is True and name.endswith("_at") else value for name, value in marks.items()}
        change = after_marks(
            self.invoice, self.attempts, marks, now=now, kind=kind, signals=signals, attempt=of, attempt_values=attempt_values
        )
        return self._take(change, of)

    def accept(self, **when):
        return self.decide(accepted_at=True, needs_review=False, **when)

    def cancel(self, **when):
        return self.decide(cancelled_at=True, **when)

    def reverse(self, **when):
        return self.decide(
            reversed_at=True, accepted_at=None, paid_at=None, epoch=self.invoice.epoch + 1, signals={"invoice_reversed"}, **when
        )

    def _take(self, change, row):
        if change.is_event:
            self.invoice.version += 1
        for target, values in ((self.invoice, change.invoice), (row, change.attempt)):
            for name, value in values.items():
                setattr(target, name, value)
        for found in change.new_transfers:
            stored = Transfer(attempt=row, key=found.key[:190], value=found.value, paid_at=found.paid_at)
            self.known[row.pk].append(stored)
        for stored, values in change.seen_transfers:
            for name, value in values.items():
                setattr(stored, name, value)
        if change.is_event:
            self.signals.extend(sorted(change.signals))
            if change.one_shot:
                self.paid_keys.append(change.one_shot)
        return change

    @property
    def status(self):
        return S(self.invoice.status)

    @property
    def reviews(self):
        return self.invoice.review_reason.splitlines()

    def count(self, signal):
        return self.signals.count(signal)


@pytest.fixture
def books():
    return Books()


# One payment


def test_T38_the_plain_way_to_paid(books):
    first = books.hear(S.CONFIRMING, transfers=(transfer("a", "10", 1),))
    assert (first.verdict, first.signals) == (
        Verdict.APPLIED, {"payment_received", "invoice_confirming", "invoice_status_changed"},
    )  # fmt: skip
    assert not books.invoice.is_paid
    second = books.hear(S.PAID, received="10", final=True, transfers=(transfer("a", "10", 1),))
    assert {"invoice_paid", "invoice_status_changed"} <= second.signals
    assert (second.one_shot, second.kind, second.is_event) == ("paid:0", "status", True)
    assert (books.status, books.invoice.amount_received, books.invoice.paid_at) == (S.PAID, D(10), at(2))
    assert (books.invoice.late, books.invoice.manual, books.invoice.needs_review) == (False, False, False)
    assert (books.attempts[0].state, books.attempts[0].closed_at, books.attempts[0].live_key) == ("closed", at(2), None)


def test_decision_2_payment_received_for_each_new_transfer_or_a_higher_sum(books):
    assert "payment_received" in books.hear(S.CONFIRMING, transfers=(transfer("a", None, 1),)).signals
    assert "payment_received" not in books.hear(S.CONFIRMING, transfers=(transfer("a", None, 1, confirmations=3),)).signals
    assert "payment_received" in books.hear(S.CONFIRMING, transfers=(transfer("a"), transfer("b"))).signals
    assert "payment_received" in books.hear(S.UNDERPAID, received="3").signals
    assert "payment_received" not in books.hear(S.UNDERPAID, received="3").signals
    assert "payment_received" in books.hear(S.UNDERPAID, received="4").signals
    assert books.count("payment_received") == 4


def test_decision_2_unknown_is_none_never_zero(books):
    books.hear(S.CONFIRMING)
    assert books.invoice.amount_received is None
    books.hear(S.PAID, final=True)
    assert (books.status, books.invoice.amount_received, books.invoice.is_paid) == (S.PAID, None, True)


def test_T26_the_same_news_again_is_no_event(books):
    news = dict(received="10", final=True, transfers=(transfer("a", "10", 1),))
    books.hear(S.PAID, **news)
    version = books.invoice.version
    again = books.hear(S.PAID, **news)
    assert (again.verdict, again.is_event, again.signals) == (Verdict.UNCHANGED, False, set())
    assert (again.attempt, again.invoice, again.new_transfers) == ({}, {}, [])
    assert books.invoice.version == version


def test_T27_old_callbacks_of_a_paid_invoice_change_nothing(books):
    books.hear(S.PAID, received="10", final=True)
    for status in (S.PENDING, S.CONFIRMING, S.UNDERPAID, S.EXPIRED, S.CANCELLED, S.FAILED):
        change = books.hear(status)
        assert (change.verdict, change.is_event) == (Verdict.STALE, False)
    assert (books.status, books.count("invoice_paid"), books.invoice.needs_review) == (S.PAID, 1, False)


def test_T27_the_old_paid_of_a_refunded_invoice_changes_nothing(books):
    books.hear(S.PAID, received="10", final=True)
    books.poll(S.REFUNDING)
    books.poll(S.REFUNDED)
    change = books.hear(S.PAID, received="10", final=True)
    assert (change.verdict, change.is_event, books.status, books.count("invoice_paid")) == (Verdict.STALE, False, S.REFUNDED, 1)


@pytest.mark.parametrize(
    ("received", "status", "signals"),
    [
        ("10", S.PAID, {"invoice_paid"}),
        ("10.000000000000000001", S.OVERPAID, {"invoice_paid", "invoice_overpaid"}),
        ("100", S.OVERPAID, {"invoice_paid", "invoice_overpaid"}),
    ],
)
def test_T24_overpayment(books, received, status, signals):
    change = books.hear(S.PAID, received=received, final=True)
    assert (books.status, books.invoice.amount_received) == (status, D(received))
    assert change.signals == signals | {"payment_received", "invoice_status_changed"}


def test_T24_overpaid_in_two_payments_is_paid_once(books):
    books.hear(S.PAID, received="10", final=True)
    change = books.hear(S.PAID, received="15", final=True)
    assert change.signals == {"invoice_overpaid", "invoice_status_changed", "payment_received"}
    assert (books.status, books.invoice.amount_received, books.count("invoice_paid")) == (S.OVERPAID, D(15), 1)


def test_rule_6_partial_then_full(books):
    for received in ("2", "5", "9.999999999999999999"):
        books.hear(S.UNDERPAID, received=received)
        assert (books.status, books.invoice.is_paid) == (S.UNDERPAID, False)
    books.hear(S.PAID, received="10", final=True)
    assert (books.status, books.count("payment_received"), books.count("invoice_paid")) == (S.PAID, 4, 1)
    assert books.count("invoice_underpaid") == 1


def test_T37_an_unknown_word_is_quarantined_polled_and_reviewed(books):
    change = books.hear(None, word="frozen", received="10")
    assert (change.verdict, change.poll) == (Verdict.QUARANTINED, True)
    assert change.signals == {"invoice_review_required"}
    assert (books.status, books.invoice.amount_received, books.invoice.needs_review) == (S.PENDING, None, True)


# Binding: T13, T17, T18, T19


@pytest.mark.parametrize(
    "remote",
    [
        Remote(Kind.INVOICE, "gateway-2", f"{1:026}"),
        Remote(Kind.INVOICE, "gateway-1", f"{2:026}"),
        Remote(Kind.INVOICE, "gateway-2", ""),
        Remote(Kind.ADDRESS, "gateway-1", f"{1:026}"),
    ],
)
@pytest.mark.parametrize("source", [Source.CALLBACK, Source.POLL])
def test_T17_another_object_is_quarantined(books, remote, source):
    change = books.hear(S.PAID, received="10", final=True, remote=remote, source=source)
    assert change.verdict is Verdict.QUARANTINED
    assert change.attempt == {}
    assert (books.status, books.invoice.is_paid, books.invoice.needs_review) == (S.PENDING, False, True)


def test_T17_without_an_id_of_the_gateway_our_reference_must_be_echoed():
    books = Books()
    books.attempts[0].gateway_id = ""
    unknown = books.hear(S.PAID, remote=Remote(Kind.INVOICE, "gateway-9", ""))
    assert unknown.verdict is Verdict.QUARANTINED
    echoed = books.hear(S.PAID, remote=Remote(Kind.INVOICE, "gateway-9", f"{1:026}"))
    assert echoed.verdict is Verdict.APPLIED
    assert books.attempts[0].gateway_id == "gateway-9"


@pytest.mark.parametrize(
    ("attempt_sandbox", "evidence_sandbox", "fits"),
    [
        (False, None, True), (True, None, True), (False, False, True), (True, True, True), (False, True, False),
        (True, False, False),
    ],
)  # fmt: skip
def test_T13_sandbox_and_live_do_not_mix(books, attempt_sandbox, evidence_sandbox, fits):
    books.attempts[0].sandbox = attempt_sandbox
    change = books.hear(S.PAID, received="10", sandbox=evidence_sandbox)
    assert change.verdict is (Verdict.APPLIED if fits else Verdict.QUARANTINED)
    assert books.invoice.is_paid is fits


PRICES = [
    (dict(price_amount="9.999999999999999999"), False), (dict(price_amount="10.000000000000000001"), False),
    (dict(price_amount="1"), False), (dict(price_currency="IDR"), False), (dict(price_currency="USDT"), False),
    (dict(price_amount="10", price_currency="EUR"), False), (dict(price_amount="10.00"), True),
    (dict(price_currency="USD"), True), (dict(price_currency="usd"), True), ({}, True),
]  # fmt: skip


@pytest.mark.parametrize(("price", "fits"), PRICES)
def test_T18_T19_decision_13_another_price_in_a_callback_polls_first(books, price, fits):
    change = books.hear(S.PAID, received="10", final=True, **price)
    if fits:
        assert (change.verdict, books.status) == (Verdict.APPLIED, S.PAID)
    else:
        assert (change.verdict, change.poll, change.is_event) == (Verdict.CHECK, True, False)
        assert (books.status, books.invoice.needs_review) == (S.PENDING, False)


@pytest.mark.parametrize(("price", "fits"), PRICES)
def test_T18_T19_decision_13_another_price_in_a_poll_is_quarantined(books, price, fits):
    change = books.poll(S.PAID, received="10", final=True, **price)
    if fits:
        assert (change.verdict, books.status) == (Verdict.APPLIED, S.PAID)
    else:
        assert (change.verdict, change.attempt) == (Verdict.QUARANTINED, {})
        assert (books.status, books.invoice.needs_review) == (S.PENDING, True)


def test_T19_all_pairs_of_currencies():
    currencies = "USD EUR IDR JPY GBP BTC USDT USDC TRX ETH BUSD USDD".split()
    for ours in currencies:
        for theirs in currencies:
            books = Books()
            books.attempts[0].currency = ours
            books.poll(S.PAID, price_currency=theirs)
            assert books.invoice.is_paid is (ours == theirs), (ours, theirs)


def test_decision_3_the_price_is_that_of_the_attempt_not_of_the_invoice(books):
    books.hear(S.UNDERPAID, received="4", price_amount="10")
    top_up = books.open(amount=D(6))
    books.hear(S.PAID, received="6", price_amount="6", of=top_up)
    assert (books.status, books.invoice.amount_received, books.invoice.needs_review) == (S.PAID, D(10), False)


# Decision 12


def test_decision_12_paid_with_too_little_is_polled_then_underpaid_with_review():
    books = Books(underpaid_tolerance=D(0))
    change = books.hear(S.PAID, received="9", final=True)
    assert (change.verdict, change.poll, books.status) == (Verdict.CHECK, True, S.PENDING)
    books.poll(S.PAID, received="9", final=True)
    assert (books.status, books.invoice.amount_received, books.invoice.is_paid) == (S.UNDERPAID, D(9), False)
    assert Review.TOO_LITTLE in books.reviews


@pytest.mark.parametrize(
    ("invoice", "echoed", "received", "status"),
    [
        (D("1"), "50", "9.9", S.PAID),
        (D("1"), "50", "9.899999999999999999", S.UNDERPAID),
        (D("0"), "50", "9.999999999999999999", S.UNDERPAID),
        (None, "50", "5", S.PAID),
        (None, "50", "4.999999999999999999", S.UNDERPAID),
        (None, None, "1", S.PAID),
    ],
)
def test_decision_12_whose_tolerance(invoice, echoed, received, status):
    books = Books(underpaid_tolerance=invoice)
    books.poll(S.PAID, received=received, tolerance=echoed, final=True)
    assert books.status is status


def test_decision_12_accepted_by_hand_at_the_gateway():
    books = Books(underpaid_tolerance=D(0))
    books.poll(S.PAID, received="4", manual=True, final=True)
    assert (books.status, books.invoice.manual, books.invoice.is_paid) == (S.PAID, True, True)


# Decision 4: several attempts


@pytest.mark.parametrize("dead", [S.EXPIRED, S.FAILED])
def test_decision_4_a_dead_attempt_pulls_nothing_down(books, dead):
    old = books.attempts[0]
    new = books.open()
    books.hear(S.CONFIRMING, of=new)
    books.hear(dead, of=old, final=True)
    assert books.status is S.CONFIRMING
    books.hear(S.PAID, received="10", of=new, final=True)
    books.poll(dead, of=old, final=True)
    assert (books.status, books.count("invoice_paid"), books.invoice.needs_review) == (S.PAID, 1, False)


@pytest.mark.parametrize("received", ["10", None])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_T25_two_paid_attempts(books, order, received):
    books.open()
    for index in order:
        books.hear(S.PAID, of=books.attempts[index], received=received, final=True)
    assert (books.status, books.count("invoice_paid"), books.count("invoice_overpaid")) == (S.OVERPAID, 1, 1)
    assert books.invoice.needs_review
    assert books.reviews == [Review.SECOND_PAYMENT]
    assert books.invoice.amount_received == (None if received is None else D(20))


def test_decision_5_a_superseded_attempt_can_still_pay(books):
    old = books.attempts[0]
    books.open()
    books.hear(S.PAID, of=old, received="10", final=True)
    assert (books.status, books.count("invoice_paid"), books.invoice.needs_review) == (S.PAID, 1, False)


def test_decision_5_trying_again_does_not_end_at_the_third_attempt(books):
    books.hear(S.EXPIRED, final=True)
    second = books.open()
    change = books.decide(of=second, attempt_values={"state": "superseded", "live_key": None}, kind="attempt")
    assert change.is_event
    third = books.open()
    books.hear(S.PAID, of=third, received="10", final=True)
    assert (books.status, books.count("invoice_paid")) == (S.PAID, 1)


@pytest.mark.parametrize("dead", [S.EXPIRED, S.FAILED])
def test_a_step_that_touches_no_status_is_never_refused(books, dead):
    books.hear(dead, final=True)
    books.open()
    change = books.decide(needs_review=False, kind="reviewed")
    assert change.is_event
    assert books.status is dead


# Decisions 6 and 7: late money


@pytest.mark.parametrize(("seconds", "late"), [(-1, False), (0, False), (1, True)])
def test_T34_paid_around_the_expiry(books, seconds, late):
    paid_at = at(EXPIRES) + timedelta(seconds=seconds)
    news = RemoteTransfer(key="a", amount=D(10), value=D(10), currency="USD", paid_at=paid_at)
    change = books.hear(S.PAID, received="10", final=True, transfers=(news,), minute=500)
    assert (books.status, books.invoice.late, books.invoice.is_paid) == (S.PAID, late, not late)
    assert ("invoice_paid_late" in change.signals, "invoice_paid" in change.signals) == (late, not late)
    assert books.reviews == ([Review.LATE] if late else [])
    assert change.one_shot == (None if late else "paid:0")


@pytest.mark.parametrize(("seconds", "held"), [(-1, False), (1, True)])
def test_T34_grace(books, seconds, held):
    grace = timedelta(minutes=30)
    paid_at = at(EXPIRES) + grace + timedelta(seconds=seconds)
    news = RemoteTransfer(key="a", amount=D(10), value=D(10), currency="USD", paid_at=paid_at)
    with override_settings(CRYPTO_INVOICES={"LATE_PAYMENT": "accept", "LATE_GRACE": grace}):
        change = books.hear(S.PAID, received="10", final=True, transfers=(news,), minute=500)
    assert (books.status, books.invoice.late, books.invoice.is_paid) == (S.PAID, True, not held)
    assert ("invoice_paid_late" in change.signals, "invoice_paid" in change.signals) == (held, not held)


def test_T34_grace_counts_for_nothing_under_review(books):
    with override_settings(CRYPTO_INVOICES={"LATE_PAYMENT": "review", "LATE_GRACE": timedelta(days=1)}):
        books.hear(S.PAID, received="10", final=True, transfers=(transfer("a", "10", EXPIRES + 1),), minute=500)
    assert (books.status, books.invoice.is_paid, books.invoice.late) == (S.PAID, False, True)


@pytest.mark.parametrize("first", [S.PENDING, S.EXPIRED, S.CONFIRMING])
def test_decision_7_late_does_not_depend_on_our_status(books, first):
    books.hear(first, minute=EXPIRES + 5)
    books.hear(S.PAID, received="10", final=True, transfers=(transfer("a", "10", EXPIRES - 1),), minute=EXPIRES + 6)
    assert (books.status, books.invoice.late, books.invoice.is_paid) == (S.PAID, False, True)


def both_orders(first, second, **fields):
    """Whether the attempt is late, after two callbacks at minutes 70 and 71, in either order."""
    results = set()
    for news in permutations([first, second]):
        books = Books()
        for minute, values in zip((70, 71), news, strict=True):
            values = dict(values)
            books.hear(values.pop("status"), minute=minute, **values)
        results.add((books.attempts[0].late, books.attempts[0].paid_at))
    return results


def test_decision_7_the_order_of_arrival_of_the_time_of_payment_does_not_matter():
    confirming = dict(status=S.CONFIRMING, received="10")
    paid = dict(status=S.PAID, received="10", final=True, paid_at=at(EXPIRES - 1))
    assert both_orders(confirming, paid) == {(False, at(EXPIRES - 1))}


def test_decision_7_the_order_of_arrival_of_the_deadline_does_not_matter():
    confirming = dict(status=S.CONFIRMING, received="10")
    paid = dict(status=S.PAID, received="10", final=True, expires_at=at(EXPIRES + 60))
    assert both_orders(confirming, paid) == {(False, None)}


def test_decision_7_the_order_of_arrival_of_transfers_does_not_matter():
    confirming = dict(status=S.CONFIRMING, transfers=(transfer("a", "4", EXPIRES - 2),))
    paid = dict(
        status=S.PAID, received="10", final=True, transfers=(transfer("a", "4", EXPIRES - 2), transfer("b", "6", EXPIRES + 1)),
    )  # fmt: skip
    assert both_orders(confirming, paid) == {(True, at(EXPIRES + 1))}


def test_T35_paid_after_cancel_is_never_accepted_automatically(books):
    books.cancel(minute=5)
    assert (books.status, books.count("invoice_cancelled")) == (S.CANCELLED, 1)
    with override_settings(CRYPTO_INVOICES={"LATE_PAYMENT": "accept", "LATE_GRACE": timedelta(days=30)}):
        books.hear(S.PAID, received="10", final=True, transfers=(transfer("a", "10", 6),), minute=7)
    assert (books.status, books.invoice.late, books.invoice.is_paid) == (S.PAID, True, False)
    assert (books.count("invoice_paid"), books.count("invoice_paid_late")) == (0, 1)
    assert books.reviews == [Review.PAID_AFTER_CANCEL]


def test_decision_11_a_forced_cancel_keeps_the_money_and_asks_for_review(books):
    books.hear(S.UNDERPAID, received="4")
    books.cancel()
    assert (books.status, books.invoice.amount_received, books.invoice.needs_review) == (S.CANCELLED, D(4), True)
    assert books.reviews == [Review.CANCELLED_WITH_MONEY]


def test_decision_11_a_cancelled_invoice_stays_cancelled_while_nothing_comes(books):
    books.cancel()
    for status in (S.PENDING, S.EXPIRED):
        books.hear(status)
        assert books.status is S.CANCELLED
    books.hear(S.CONFIRMING, transfers=(transfer("a", "10"),))
    assert books.status is S.CONFIRMING


# Decision 8: accept and reversal


@pytest.mark.parametrize(
    "news",
    [None, (S.CONFIRMING, None), (S.UNDERPAID, "4"), (S.EXPIRED, None), (S.FAILED, None)],
)
def test_decision_8_accept(books, news):
    if news:
        books.hear(news[0], received=news[1])
    change = books.accept()
    assert (books.status, books.invoice.manual, books.invoice.is_paid) == (S.PAID, True, True)
    assert (change.one_shot, "invoice_paid" in change.signals) == ("paid:0", True)


def test_decision_8_accept_after_a_cancel(books):
    books.cancel()
    books.accept()
    assert (books.status, books.invoice.manual, books.count("invoice_paid")) == (S.PAID, True, 1)


@pytest.mark.parametrize(("received", "status"), [("10", S.PAID), ("11", S.OVERPAID)])
def test_decision_8_accept_of_a_held_late_payment(books, received, status):
    books.hear(S.PAID, received=received, final=True, transfers=(transfer("a", received, EXPIRES + 1),), minute=100)
    assert (books.status, books.invoice.is_paid) == (status, False)
    books.accept(minute=200)
    assert (books.status, books.invoice.is_paid, books.invoice.manual) == (status, True, True)
    assert (books.count("invoice_paid"), books.invoice.needs_review) == (1, False)


def test_rule_5_accepted_then_a_later_real_payment(books):
    books.accept()
    books.hear(S.PAID, received="10", final=True, transfers=(transfer("a", "10", 2),))
    assert (books.status, books.count("invoice_paid"), books.count("invoice_overpaid")) == (S.OVERPAID, 1, 1)
    assert (books.invoice.needs_review, books.reviews) == (True, [Review.SECOND_PAYMENT])


@pytest.mark.parametrize("received", [None, "10"])
@pytest.mark.parametrize("confirmed_sum", [None, "0", "10"])
def test_rule_5_accepted_while_confirming_the_same_transfer_is_no_second_payment(books, confirmed_sum, received):
    books.hear(S.CONFIRMING, received=confirmed_sum, transfers=(transfer("a", "10", 1),))
    books.accept()
    books.hear(S.PAID, received=received, final=True, transfers=(transfer("a", "10", 1, confirmed=True),))
    assert (books.status, books.count("invoice_paid"), books.reviews) == (S.PAID, 1, [])


def test_rule_4_reversal(books):
    books.hear(S.PAID, received="10", final=True, transfers=(transfer("a", "10", 1),))
    change = books.reverse()
    assert (books.status, books.invoice.is_paid, books.invoice.epoch) == (S.FAILED, False, 1)
    assert {"invoice_reversed", "invoice_failed", "invoice_status_changed"} == change.signals


def test_decision_8_after_a_reversal_only_accept_emits_paid(books):
    payment = dict(received="10", final=True, transfers=(transfer("a", "10", 1),))
    books.hear(S.PAID, **payment)
    books.reverse()
    books.poll(S.PAID, **payment)
    assert (books.status, books.invoice.is_paid) == (S.FAILED, False)
    again = books.open()
    books.poll(S.PAID, of=again, received="10", final=True, transfers=(transfer("b", "10", 5),))
    assert (books.status in (S.PAID, S.OVERPAID), books.invoice.is_paid, books.count("invoice_paid")) == (True, False, 1)
    assert Review.AFTER_REVERSAL in books.reviews
    books.accept()
    assert (books.invoice.is_paid, books.count("invoice_paid"), books.paid_keys) == (True, 2, ["paid:0", "paid:1"])


def test_decision_8_accept_directly_after_a_reversal(books):
    books.hear(S.PAID, received="10", final=True)
    books.reverse()
    books.accept()
    assert (books.status, books.invoice.is_paid, books.paid_keys) == (S.PAID, True, ["paid:0", "paid:1"])


# Decision 9


@pytest.mark.parametrize("status", [S.PENDING, S.CONFIRMING, S.UNDERPAID, S.EXPIRED, S.CANCELLED, S.FAILED])
def test_T36_decision_9_a_poll_that_contradicts_paid(books, status):
    books.hear(S.PAID, received="10", final=True)
    change = books.poll(status)
    assert (books.status, books.invoice.is_paid, books.invoice.amount_received) == (S.PAID, True, D(10))
    assert (books.reviews, change.signals) == ([Review.CONTRADICTION], {"invoice_review_required"})


def test_T36_a_confirmation_drop(books):
    books.hear(S.CONFIRMING, transfers=(transfer("a", "10"),))
    change = books.hear(S.PENDING)
    assert (books.status, change.poll) == (S.CONFIRMING, True)
    books.poll(S.PENDING, undisturbed=False)
    assert books.status is S.CONFIRMING
    books.poll(S.PENDING)
    assert books.status is S.PENDING


def test_decision_14_a_disturbed_poll_lowers_neither_status_nor_sum(books):
    books.hear(S.UNDERPAID, received="5")
    books.poll(S.CONFIRMING, received="3", undisturbed=False)
    assert (books.status, books.invoice.amount_received) == (S.UNDERPAID, D(5))
    books.poll(S.CONFIRMING, received="3")
    assert (books.status, books.invoice.amount_received) == (S.CONFIRMING, D(3))


# Decision 10: refunds


def test_decision_10_a_refund_of_a_paid_invoice(books):
    books.hear(S.PAID, received="10", final=True)
    refunding = books.hear(S.REFUNDING)
    assert (books.status, refunding.signals) == (S.REFUNDING, {"invoice_refunding", "invoice_status_changed"})
    refunded = books.hear(S.REFUNDED, refunded="10")
    assert (books.status, refunded.signals) == (S.REFUNDED, {"invoice_refunded", "invoice_status_changed"})
    assert (books.count("invoice_paid"), books.invoice.needs_review) == (1, False)


@pytest.mark.parametrize("status", [S.REFUNDING, S.REFUNDED])
@pytest.mark.parametrize("source", [Source.CALLBACK, Source.POLL])
def test_decision_10_a_refund_of_a_payment_that_was_never_seen_is_reviewed(books, status, source):
    books.hear(status, source=source)
    assert (books.status, books.invoice.is_paid, books.count("invoice_paid")) == (status, False, 0)
    assert (books.invoice.needs_review, books.reviews) == (True, [Review.REFUND_UNSEEN])


def test_footnote_7_a_refund_edge_never_emits_paid(books):
    books.poll(S.REFUNDING)
    books.hear(S.PAID, received="10", final=True)
    assert (books.count("invoice_paid"), books.invoice.is_paid) == (0, False)


def test_footnote_7_a_failed_refund_goes_back_to_where_it_came_from(books):
    books.hear(S.PAID, received="12", final=True)
    books.hear(S.REFUNDING, received="12")
    books.poll(S.PAID, received="12", final=True)
    assert (books.status, books.count("invoice_paid")) == (S.OVERPAID, 1)


def test_footnote_6_the_excess_was_refunded(books):
    books.hear(S.PAID, received="12", final=True)
    books.poll(S.PAID, received="10", final=True)
    assert (books.status, books.count("invoice_paid")) == (S.PAID, 1)


def test_decision_10_the_shops_own_refund_marks(books):
    books.hear(S.PAID, received="10", final=True)
    books.decide(refunding_at=True, amount_refunded=D(10))
    assert books.status is S.REFUNDING
    books.decide(refunded_at=True)
    assert (books.status, books.count("invoice_refunding"), books.count("invoice_refunded")) == (S.REFUNDED, 1, 1)
    books.poll(S.PAID, received="10", final=True)
    assert (books.status, books.count("invoice_paid")) == (S.REFUNDED, 1)


@pytest.mark.parametrize("later", ["another transfer", "another attempt"])
def test_T34_money_after_a_recorded_refund_is_never_overlooked(books, later):
    books.hear(S.PAID, received="10", final=True, transfers=(transfer("a", "10", 1),))
    books.decide(refunding_at=True)
    books.decide(refunded_at=True)
    if later == "another attempt":
        books.open()
        books.hear(S.PAID, received="10", final=True, transfers=(transfer("b", "10", 4),))
    else:
        books.hear(S.PAID, received="20", final=True, transfers=(transfer("a", "10", 1), transfer("b", "10", 4)))
    assert (books.status, books.invoice.amount_received, books.count("invoice_paid")) == (S.REFUNDED, D(20), 1)
    assert books.invoice.needs_review


@pytest.mark.parametrize("received", ["10", None])
def test_T25_money_on_a_second_attempt_after_the_gateways_refund_is_never_overlooked(books, received):
    old = books.attempts[0]
    books.open()
    books.hear(S.PAID, received=received, final=True)
    books.poll(S.REFUNDED, refunded="10")
    books.hear(S.PAID, of=old, received=received, final=True)
    assert (books.status, books.count("invoice_paid")) == (S.REFUNDED, 1)
    assert books.invoice.needs_review


def test_what_the_gateway_refunded_stands_on_the_invoice(books):
    books.hear(S.PAID, received="10", final=True)
    books.poll(S.REFUNDED, refunded="10")
    assert (books.attempts[0].amount_refunded, books.invoice.amount_refunded) == (D(10), D(10))


# Holds, marks that are not allowed, transfers


def test_reliability_rule_10_a_hold(books):
    change = books.hear(S.CONFIRMING, on_hold=True)
    assert (books.invoice.on_hold, books.reviews) == (True, [Review.ON_HOLD])
    assert "invoice_review_required" in change.signals
    books.hear(S.PAID, received="10", final=True)
    assert (books.status, books.invoice.on_hold) == (S.PAID, False)


def test_a_mark_that_the_table_refuses_raises(books):
    books.hear(S.FAILED, final=True)
    with pytest.raises(NotAllowed):
        books.cancel()
    assert books.status is S.FAILED


def test_T25_money_after_the_review_is_reviewed_again(books):
    books.open()
    books.open()
    books.hear(S.PAID, of=books.attempts[0], received="10", final=True)
    books.hear(S.PAID, of=books.attempts[1], received="10", final=True)
    books.decide(needs_review=False, kind="reviewed")
    books.hear(S.PAID, of=books.attempts[2], received="10", final=True)
    assert (books.status, books.invoice.amount_received, books.invoice.needs_review) == (S.OVERPAID, D(30), True)


def test_T26_one_transfer_reported_twice_in_one_answer_is_one(books):
    change = books.hear(S.CONFIRMING, transfers=(transfer("a", "10", 1), transfer("a", "10", 1)))
    assert [found.key for found in change.new_transfers] == ["a"]


def test_T26_a_transfer_with_a_long_key_is_new_only_once(books):
    news = dict(transfers=(transfer("a" * 200, "10", 1),))
    books.hear(S.CONFIRMING, **news)
    again = books.hear(S.CONFIRMING, **news)
    assert (again.verdict, again.new_transfers) == (Verdict.UNCHANGED, [])


def test_T22_many_partial_payments_add_up(books):
    part = D("0.001000100010001001")
    for number in range(1, 101):
        news = tuple(transfer(f"{key:04}", part) for key in range(1, number + 1))[-3:]
        books.hear(S.UNDERPAID, received=part * number, transfers=news)
    assert books.invoice.amount_received == D("0.100010001000100100")
    assert books.count("payment_received") == 100
    assert len(books.known[1]) == 100


# Permutations: T29, I1, I2. A life is what a gateway says one after the other; its last word is what a poll answers.

WAITING, EXPIRED = (S.PENDING, {}), (S.EXPIRED, {"final": True})
SEEN = (S.CONFIRMING, {"transfers": (transfer("a", "10", 5),)})
PARTLY = (S.UNDERPAID, {"received": "4", "transfers": (transfer("a", "4", 5),)})
PARTLY_SEEN = (S.CONFIRMING, {"received": "4", "transfers": (transfer("a", "4", 5), transfer("b", "6", 9))})
FULL = (S.PAID, {"received": "10", "final": True, "transfers": (transfer("a", "10", 5),)})
FULL_BY_TWO = (S.PAID, {"received": "10", "final": True, "transfers": (transfer("a", "4", 5), transfer("b", "6", 9))})
LATE = (S.PAID, {"received": "10", "final": True, "transfers": (transfer("a", "10", EXPIRES + 9),)})
MORE = (S.OVERPAID, {"received": "15", "final": True, "transfers": (transfer("a", "10", 5), transfer("c", "5", 15))})
BACK = (S.REFUNDING, {"received": "10", "transfers": (transfer("a", "10", 5),)})
GIVEN_BACK = (S.REFUNDED, {"received": "10", "refunded": "10", "final": True, "transfers": (transfer("a", "10", 5),)})
FAILED = (S.FAILED, {"final": True})
CANCELLED = (S.CANCELLED, {"final": True})
WORD_ONLY = [(status, {"final": status is S.PAID}) for status in (S.PENDING, S.CONFIRMING, S.PAID)]

LIVES = {
    "paid": [WAITING, SEEN, FULL],
    "words only": WORD_ONLY,
    "paid by two": [WAITING, PARTLY, PARTLY_SEEN, FULL_BY_TWO],
    "underpaid": [WAITING, (S.CONFIRMING, PARTLY[1]), PARTLY],
    "underpaid, expired": [WAITING, PARTLY, (S.EXPIRED, {"received": "4", "final": True})],
    "expired": [WAITING, EXPIRED],
    "paid late": [WAITING, EXPIRED, LATE],
    "seen late, paid": [WAITING, EXPIRED, (S.CONFIRMING, {"transfers": LATE[1]["transfers"]}), LATE],
    "failed": [WAITING, SEEN, FAILED],
    "cancelled": [WAITING, CANCELLED],
    "paid after the gateway cancelled": [WAITING, CANCELLED, SEEN, FULL],
    "overpaid": [WAITING, SEEN, FULL, MORE],
    "refunded": [WAITING, SEEN, FULL, BACK, GIVEN_BACK],
    "refund failed": [WAITING, FULL, BACK, FULL],
    "dropped": [WAITING, SEEN, WAITING],
}
# "words only": without a time of payment our clock's first sight counts, and that was after the expiry.
SHIPPED = {
    "paid": True, "words only": False, "paid by two": True, "underpaid": False, "underpaid, expired": False, "expired": False,
    "paid late": False, "seen late, paid": False, "failed": False, "cancelled": False, "overpaid": True, "dropped": False,
    "paid after the gateway cancelled": True,
}  # fmt: skip


def final_facts(books):
    invoice = books.invoice
    return (
        invoice.status, invoice.amount_received, invoice.late,
        [(row.status, row.amount_received, row.amount_refunded, row.late, row.paid_at) for row in books.attempts],
        [sorted((row.key, row.value, row.paid_at) for row in rows) for rows in books.known.values()],
    )  # fmt: skip


def lived(news, life):
    books = Books()
    for status, fields in news:
        books.hear(status, minute=100, **fields)
    status, fields = life[-1]
    books.poll(status, minute=101, **fields)
    return books


@pytest.mark.parametrize("name", LIVES)
def test_T29_I2_every_order_with_duplicates_ends_the_same(name):
    life = LIVES[name]
    expected = final_facts(lived(life, life))
    assert expected[0] == life[-1][0].value
    for order in permutations(life):
        for news in (order, order + order):
            books = lived(news, life)
            assert final_facts(books) == expected, [status.value for status, _ in news]
            assert books.count("invoice_paid") <= 1
            if name in SHIPPED:
                assert books.invoice.is_paid is SHIPPED[name]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_I1_I2_two_attempts_in_any_interleaving(data):
    lives = [LIVES[data.draw(st.sampled_from(sorted(LIVES)))] for _ in range(2)]
    news = [(index, item) for index, life in enumerate(lives) for item in life]
    orders = [data.draw(st.permutations(news + data.draw(st.lists(st.sampled_from(news), max_size=4)))) for _ in range(2)]
    results = []
    for order in orders:
        books = Books()
        books.open()
        for index, (status, fields) in order:
            books.hear(status, of=books.attempts[index], minute=100, **fields)
        for index, life in enumerate(lives):
            status, fields = life[-1]
            books.poll(status, of=books.attempts[index], minute=101, **fields)
        assert books.count("invoice_paid") <= 1
        received = [row.amount_received for row in books.attempts if row.amount_received is not None]
        assert books.invoice.amount_received == (sum(received) if received else None)
        results.append([(row.status, row.amount_received, row.late) for row in books.attempts])
    assert results[0] == results[1]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(
                st.just("news"), st.sampled_from(S), st.sampled_from([Source.CALLBACK, Source.POLL]), st.booleans(),
                st.sampled_from([None, "0", "4", "10", "15"]), st.sampled_from([(), ("a",), ("a", "b")]), st.integers(0, 1),
            ),
            st.sampled_from([("accept",), ("cancel",), ("reverse",), ("refund",)]),
        ),
        max_size=12,
    )
)  # fmt: skip
def test_I1_I3_I5_any_history(steps):
    books = Books()
    books.open()
    versions = 1
    for name, *values in steps:
        before = books.invoice.version
        was_paid = books.invoice.is_paid
        if name == "news":
            status, source, final, received, keys, index = values
            change = books.hear(
                status, source=source, final=final, received=received, of=books.attempts[index],
                transfers=tuple(transfer(f"{index}{key}", None, 5) for key in keys),
            )  # fmt: skip
            assert books.invoice.is_paid or not was_paid
        else:
            try:
                if name == "refund":
                    change = books.decide(refunding_at=True)
                elif (name == "reverse" and books.invoice.status not in SETTLED) or (name == "accept" and was_paid):
                    continue
                else:
                    change = getattr(books, name)()
            except NotAllowed:
                continue
        versions += change.is_event
        assert books.invoice.version == versions
        assert books.invoice.version == before + change.is_event
        assert ("invoice_paid" in change.signals) == (change.one_shot is not None)
        if change.one_shot:
            assert books.invoice.status in SETTLED
    assert len(books.paid_keys) == len(set(books.paid_keys))
    heard = any(step[0] == "accept" or (step[0] == "news" and step[1] in (S.PAID, S.OVERPAID)) for step in steps)
    assert heard or not books.invoice.is_paid
