"""The table of changes, the judgement of one piece of news, lateness, and the reduction of attempts to an invoice."""

import decimal
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D
from itertools import combinations, permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto_invoices.statuses import (
    AttemptFacts,
    AttemptState,
    InvoiceFacts,
    InvoiceStatus,
    Review,
    Ruling,
    Source,
    Verdict,
    judge,
    lateness,
    permitted,
    reduce_invoice,
    settle,
)

S = InvoiceStatus
T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
UNIT = D("0.000000000000000001")
SECOND = timedelta(seconds=1)


def at(minutes):
    return T0 + timedelta(minutes=minutes)


# The table of allowed changes, copied by hand from its specification: C callback, P poll, O operator, T timer.
# "c": a callback alone only makes a poll due (footnotes 1 and 3). "f": a callback with a word that the provider declares
# final, else as "c" (footnote 1, confirming to failed). "": no such change.
COLUMNS = "pending confirming underpaid paid overpaid expired cancelled failed refunding refunded".split()
CELLS = {
    "pending": ["", "CP", "CP", "CPO", "CP", "CPT", "CPO", "CP", "CP", "CP"],
    "confirming": ["cP", "", "CP", "CPO", "CP", "P", "PO", "fP", "CP", "CP"],
    "underpaid": ["cP", "CP", "", "CPO", "CP", "CPT", "O", "P", "OCP", "CP"],
    "expired": ["", "CP", "CP", "CPO", "CP", "", "O", "", "CP", "CP"],
    "cancelled": ["", "CP", "CP", "CPO", "CP", "", "", "", "CP", "CP"],
    "failed": ["", "cP", "P", "PO", "P", "", "", "", "CP", "CP"],
    "paid": ["", "", "", "O", "CP", "", "", "O", "OCP", "CP"],
    "overpaid": ["", "", "", "P", "O", "", "", "O", "OCP", "CP"],
    "refunding": ["", "", "", "CP", "CP", "", "", "", "", "CPO"],
    "refunded": ["", "", "", "", "", "", "", "", "", ""],
}
TABLE = {(S(old), S(new)): cell for old, row in CELLS.items() for new, cell in zip(COLUMNS, row, strict=True)}
RANKS = dict(
    pending=0, confirming=10, underpaid=20, expired=20, cancelled=20, failed=20, paid=30, overpaid=31, refunding=40, refunded=50
)


def allowed(old, new, source, final):
    cell = TABLE[old, new]
    if source is Source.CALLBACK:
        if "C" in cell or ("f" in cell and final):
            return "yes"
        return "poll" if "c" in cell or "f" in cell else "no"
    return "yes" if {Source.POLL: "P", Source.OPERATOR: "O", Source.TIMER: "T"}[source] in cell else "no"


def test_the_table_has_a_hundred_cells():
    assert len(TABLE) == 100
    assert {status.value for status in S} == set(COLUMNS)


@pytest.mark.parametrize(("old", "new"), TABLE, ids=lambda status: status.value)
def test_T29_who_may_change_what(old, new):
    for source, final in product(Source, (False, True)):
        assert permitted(old, new, source, final=final) == allowed(old, new, source, final), (source, final)


def test_nothing_leaves_refunded():
    for new, source, final in product(S, Source, (False, True)):
        assert permitted(S.REFUNDED, new, source, final=final) == "no"


def test_T36_no_news_takes_paid_back():
    below = [S.PENDING, S.CONFIRMING, S.UNDERPAID, S.EXPIRED, S.CANCELLED, S.FAILED]
    for old, new, source in product([S.PAID, S.OVERPAID], below, [Source.CALLBACK, Source.POLL, Source.TIMER]):
        assert permitted(old, new, source, final=True) == "no"
    assert permitted(S.PAID, S.FAILED, Source.OPERATOR) == permitted(S.OVERPAID, S.FAILED, Source.OPERATOR) == "yes"


def test_rule_9_a_timer_only_proposes_expired():
    timed = {(old, new) for old in S for new in S if permitted(old, new, Source.TIMER) == "yes"}
    assert timed == {(S.PENDING, S.EXPIRED), (S.UNDERPAID, S.EXPIRED)}


# settle: T18


@pytest.mark.parametrize(
    ("received", "tolerance", "expected"),
    [
        ("10", "0", (S.PAID, None)),
        ("9.999999999999999999", "0", (S.UNDERPAID, Review.TOO_LITTLE)),
        ("10.000000000000000001", "0", (S.OVERPAID, None)),
        ("0", "0", (S.UNDERPAID, Review.TOO_LITTLE)),
        ("100", "0", (S.OVERPAID, None)),
        ("9.9", "1", (S.PAID, None)),
        ("9.899999999999999999", "1", (S.UNDERPAID, Review.TOO_LITTLE)),
        ("9.900000000000000001", "1", (S.PAID, None)),
        ("9.975", "0.25", (S.PAID, None)),
        ("9.974999999999999999", "0.25", (S.UNDERPAID, Review.TOO_LITTLE)),
        ("0", "100", (S.PAID, None)),
    ],
)
def test_T18_settle_boundaries(received, tolerance, expected):
    assert settle(S.PAID, received=D(received), due=D(10), tolerance=D(tolerance)) == expected


@pytest.mark.parametrize(
    ("received", "tolerance", "expected"),
    [
        ("9.999999999999999999", "0", (S.UNDERPAID, Review.TOO_LITTLE)),
        ("9.899999999999999999", "1", (S.UNDERPAID, Review.TOO_LITTLE)),
        ("10.000000000000000001", "0", (S.OVERPAID, None)),
        ("10.000000000000000001", None, (S.OVERPAID, None)),
        ("9.95", "1", (S.OVERPAID, None)),
    ],
)
def test_T18_settle_boundaries_of_the_word_overpaid(received, tolerance, expected):
    tolerance = None if tolerance is None else D(tolerance)
    assert settle(S.OVERPAID, received=D(received), due=D(10), tolerance=tolerance) == expected


@pytest.mark.parametrize("due", ["0.000000000000000001", "0.01", "1", "99999999.99999999", "12345678901234567890.12"])
def test_T18_one_unit_of_the_last_place_decides(due):
    due = D(due)
    with decimal.localcontext(decimal.Context(prec=60)):
        below, above = due - UNIT, due + UNIT
    assert settle(S.PAID, received=due, due=due, tolerance=D(0)) == (S.PAID, None)
    assert settle(S.PAID, received=below, due=due, tolerance=D(0)) == (S.UNDERPAID, Review.TOO_LITTLE)
    assert settle(S.PAID, received=above, due=due, tolerance=D(0)) == (S.OVERPAID, None)


def test_T18_the_edge_of_the_tolerance_is_exact_for_long_amounts():
    due = D("12345678901234567890.000000000000000000")
    edge = D("12222222112222222211.1")  # one per cent less
    assert settle(S.PAID, received=edge, due=due, tolerance=D(1)) == (S.PAID, None)
    below = D("12222222112222222211.099999999999999999")
    assert settle(S.PAID, received=below, due=due, tolerance=D(1)) == (S.UNDERPAID, Review.TOO_LITTLE)


@pytest.mark.parametrize("tolerance", [None, D(0), D(5)])
@pytest.mark.parametrize("word", list(S))
def test_rule_1_without_a_comparable_sum_the_gateways_word_stands(word, tolerance):
    assert settle(word, received=None, due=D(10), tolerance=tolerance) == (word, None)


@pytest.mark.parametrize("word", [word for word in S if word not in (S.PAID, S.OVERPAID)])
@pytest.mark.parametrize("received", ["0", "10", "1000"])
def test_T38_only_the_words_paid_and_overpaid_are_weighed(word, received):
    assert settle(word, received=D(received), due=D(10), tolerance=D(0)) == (word, None)


def test_decision_12_without_any_tolerance_the_gateways_final_word_stands():
    assert settle(S.PAID, received=D("9.5"), due=D(10), tolerance=None) == (S.PAID, None)
    assert settle(S.PAID, received=D("10.5"), due=D(10), tolerance=None) == (S.OVERPAID, None)


def test_decision_12_accepted_by_hand_at_the_gateway_is_paid():
    assert settle(S.PAID, received=D("5"), due=D(10), tolerance=D(0), manual=True) == (S.PAID, None)


def test_decision_12_overpaid_when_the_gateway_says_so():
    assert settle(S.OVERPAID, received=D("10"), due=D(10), tolerance=D(0)) == (S.OVERPAID, None)
    assert settle(S.OVERPAID, received=None, due=D(10), tolerance=D(0)) == (S.OVERPAID, None)


# judge


@dataclass(frozen=True)
class News:
    status: InvoiceStatus | None
    source: Source = Source.CALLBACK
    final: bool = False
    manual: bool = False
    money_seen: bool = False
    word: str = "word"


def judged(old, news, *, received=None, due="10", tolerance=None, undisturbed=True):
    return judge(
        old, news, received=None if received is None else D(received), due=D(due), undisturbed=undisturbed,
        tolerance=None if tolerance is None else D(tolerance),
    )  # fmt: skip


@pytest.mark.parametrize(("old", "new"), TABLE, ids=lambda status: status.value)
def test_T29_the_guard_in_its_order(old, new):
    """Rule 2: an edge of the table is applied; (c) a lower rank is stale; (d) what is not in the table is quarantined."""
    for source in (Source.CALLBACK, Source.POLL, Source.TIMER):
        ruling = judged(old, News(new, source))
        answer = allowed(old, new, source, False)
        if new is old:
            assert (ruling.verdict, ruling.status) == (Verdict.UNCHANGED, old)
        elif answer == "yes":
            assert (ruling.verdict, ruling.status, ruling.poll) == (Verdict.APPLIED, new, False)
        elif answer == "poll":
            assert (ruling.status, ruling.poll) == (old, True)
            assert ruling.verdict in (Verdict.STALE, Verdict.CHECK)
        elif RANKS[new] < RANKS[old]:
            assert (ruling.verdict, ruling.status) == (Verdict.STALE, old)
        else:
            assert (ruling.verdict, ruling.status) == (Verdict.QUARANTINED, old)


@pytest.mark.parametrize(
    ("old", "new"), [(old, new) for old, new in product((S.EXPIRED, S.CANCELLED, S.FAILED), repeat=2) if old is not new]
)
@pytest.mark.parametrize(("changes", "ends"), [({}, True), ({"source": Source.CALLBACK}, False), ({"final": False}, False),
                                               ({"money_seen": True}, False)])  # fmt: skip
def test_a_poll_may_end_a_dead_attempt_by_another_word(old, new, changes, ends):
    """txn.io cancels a week later what expired: nothing that a person should look at."""
    news = replace(News(new, Source.POLL, final=True), **changes)
    ruling = judged(old, news)
    assert (ruling.verdict is Verdict.UNCHANGED, ruling.status) == (ends, old)


@pytest.mark.parametrize("word", ["", "Paid!", "PAID", "new status", "x" * 500, "\0", "é"], ids=ascii)
def test_T37_an_unknown_word_changes_nothing_and_asks_for_a_poll(word):
    for old, source in product(S, (Source.CALLBACK, Source.POLL)):
        ruling = judged(old, News(None, source, word=word))
        assert (ruling.verdict, ruling.status, ruling.poll) == (Verdict.QUARANTINED, old, True)


def test_decision_12_paid_with_too_little_is_polled_and_when_repeated_underpaid_with_review():
    callback = judged(S.CONFIRMING, News(S.PAID), received="9", tolerance="0")
    assert (callback.verdict, callback.status, callback.poll) == (Verdict.CHECK, S.CONFIRMING, True)
    polled = judged(S.CONFIRMING, News(S.PAID, Source.POLL), received="9", tolerance="0")
    assert polled == Ruling(Verdict.APPLIED, S.UNDERPAID, review=Review.TOO_LITTLE)
    again = judged(S.UNDERPAID, News(S.PAID, Source.POLL), received="9", tolerance="0")
    assert again == Ruling(Verdict.UNCHANGED, S.UNDERPAID, review=Review.TOO_LITTLE)


@pytest.mark.parametrize("old", [S.PAID, S.OVERPAID])
@pytest.mark.parametrize("new", [S.PENDING, S.CONFIRMING, S.UNDERPAID, S.EXPIRED, S.CANCELLED, S.FAILED])
def test_T36_decision_9_a_poll_that_contradicts_paid_is_reviewed_and_changes_nothing(old, new):
    ruling = judged(old, News(new, Source.POLL))
    assert (ruling.verdict, ruling.status, ruling.review) == (Verdict.STALE, old, Review.CONTRADICTION)
    callback = judged(old, News(new))
    assert (callback.verdict, callback.status, callback.review) == (Verdict.STALE, old, None)


@pytest.mark.parametrize(
    ("old", "new"), [(S.CONFIRMING, S.PENDING), (S.UNDERPAID, S.PENDING), (S.UNDERPAID, S.CONFIRMING), (S.OVERPAID, S.PAID)]
)
def test_decision_14_a_poll_lowers_only_undisturbed(old, new):
    assert judged(old, News(new, Source.POLL)) == Ruling(Verdict.APPLIED, new)
    disturbed = judged(old, News(new, Source.POLL), undisturbed=False)
    assert (disturbed.verdict, disturbed.status) == (Verdict.STALE, old)


def test_decision_14_a_disturbed_poll_still_raises_a_status():
    assert judged(S.CONFIRMING, News(S.PAID, Source.POLL), undisturbed=False) == Ruling(Verdict.APPLIED, S.PAID)


@pytest.mark.parametrize("old", [S.EXPIRED, S.CANCELLED])
def test_footnote_3_a_callback_that_revives_a_failed_payment_is_polled_first(old):
    ruling = judged(S.FAILED, News(S.CONFIRMING))
    assert (ruling.status, ruling.poll) == (S.FAILED, True)
    assert judged(S.FAILED, News(S.CONFIRMING, Source.POLL)) == Ruling(Verdict.APPLIED, S.CONFIRMING)
    assert judged(old, News(S.CONFIRMING)) == Ruling(Verdict.APPLIED, S.CONFIRMING)


def test_footnote_1_confirming_to_failed_by_callback_needs_a_final_word():
    assert judged(S.CONFIRMING, News(S.FAILED, final=True)) == Ruling(Verdict.APPLIED, S.FAILED)
    ruling = judged(S.CONFIRMING, News(S.FAILED))
    assert (ruling.status, ruling.poll) == (S.CONFIRMING, True)


def test_T24_more_money_under_an_old_word_is_overpaid():
    assert judged(S.PAID, News(S.PAID), received="10.000000000000000001", tolerance="0") == Ruling(Verdict.APPLIED, S.OVERPAID)


# lateness: T34


@pytest.mark.parametrize(("offset", "late"), [(-1, False), (0, False), (1, True)])
def test_T34_the_second_of_the_expiry(offset, late):
    paid_at = T0 + offset * SECOND
    far = T0 + timedelta(days=1)
    assert lateness(T0, told=None, transfers=[(paid_at, D(10))], due=D(10), first_seen=far) == (late, paid_at)
    assert lateness(T0, told=not late, transfers=[(paid_at, None)], due=D(10), first_seen=far) == (late, paid_at)
    assert lateness(T0, told=None, transfers=[(None, None)], due=D(10), first_seen=paid_at) == (late, None)
    assert lateness(T0, told=None, transfers=[], due=D(10), first_seen=paid_at) == (late, None)


def test_decision_7_transfer_time_then_the_gateways_flag_then_first_sight():
    early, late = T0 - SECOND, T0 + SECOND
    assert lateness(T0, told=True, transfers=[(early, D(10))], due=D(10), first_seen=late) == (False, early)
    assert lateness(T0, told=False, transfers=[], due=D(10), first_seen=late) == (False, None)
    assert lateness(T0, told=True, transfers=[], due=D(10), first_seen=early) == (True, None)
    assert lateness(T0, told=None, transfers=[], due=D(10), first_seen=late) == (True, None)
    assert lateness(T0, told=None, transfers=[], due=D(10), first_seen=None) == (None, None)
    assert lateness(None, told=None, transfers=[(late, D(10))], due=D(10), first_seen=late) == (None, late)
    assert lateness(None, told=True, transfers=[], due=D(10), first_seen=early) == (True, None)


def test_decision_7_the_payments_time_is_when_the_sum_was_reached():
    transfers = [(at(1), D(4)), (at(2), D(6)), (at(9), D(1))]
    assert lateness(at(5), told=None, transfers=transfers, due=D(10), first_seen=at(20)) == (False, at(2))
    assert lateness(at(1), told=None, transfers=transfers, due=D(10), first_seen=at(20)) == (True, at(2))
    assert lateness(at(5), told=None, transfers=transfers, due=D(11), first_seen=at(20)) == (True, at(9))
    unknown = [(at(1), D(4)), (at(2), None), (at(9), D(1))]
    assert lateness(at(5), told=None, transfers=unknown, due=D(4), first_seen=at(20)) == (True, at(9))


@pytest.mark.parametrize("values", [(D(4), D(6), D(1), D(2)), (None, None, None, None), (D(4), None, D(6), D(1))])
def test_decision_7_the_order_of_transfers_does_not_matter(values):
    transfers = list(zip((at(1), at(4), at(2), at(9)), values, strict=True))
    results = {lateness(at(3), told=None, transfers=order, due=D(10), first_seen=at(20)) for order in permutations(transfers)}
    assert len(results) == 1


@given(st.permutations([(at(n), D(n)) for n in range(1, 9)]), st.integers(1, 36), st.integers(0, 10))
def test_decision_7_order_independence(transfers, due, deadline):
    expected = lateness(at(deadline), told=None, transfers=sorted(transfers), due=D(due), first_seen=at(20))
    assert lateness(at(deadline), told=None, transfers=transfers, due=D(due), first_seen=at(20)) == expected


def test_T22_ten_thousand_partial_payments_reach_the_due_amount_with_the_last():
    part = D("1234567.890112345678901234")
    due = D("12345678901.123456789012340000")
    transfers = [(T0 + n * SECOND, part) for n in range(10_000)]
    assert lateness(None, told=None, transfers=transfers, due=due, first_seen=T0) == (None, T0 + 9_999 * SECOND)


# reduce_invoice


def attempt(status, *, live=False, state=AttemptState.OPEN, **facts):
    money = {"received": D(facts.pop("received"))} if "received" in facts else {}
    return AttemptFacts(state=state, status=status, live=live, **money, **facts)


def reduced(*attempts, amount="10", grace=None, **marks):
    return reduce_invoice(InvoiceFacts(amount=D(amount), attempts=attempts, **marks), grace=grace)


def told(outcome):
    return outcome.status, outcome.held, outcome.reviews


PAID = attempt(S.PAID, received="10", money_at=at(1))


@pytest.mark.parametrize("status", list(S))
def test_rule_4_one_attempt_is_the_invoice(status):
    assert reduced(attempt(status, live=True)).status is status


@pytest.mark.parametrize("dead", [S.EXPIRED, S.CANCELLED, S.FAILED])
@pytest.mark.parametrize("alive", [S.PENDING, S.CONFIRMING, S.UNDERPAID, S.PAID, S.OVERPAID])
def test_rule_4_a_dead_attempt_never_pulls_down_a_live_or_paid_one(dead, alive):
    ended = attempt(dead, state=AttemptState.SUPERSEDED)
    assert reduced(ended, attempt(alive, live=True)).status is alive
    later = attempt(dead, state=AttemptState.CLOSED)
    if alive is not S.PENDING:
        assert reduced(attempt(alive, state=AttemptState.SUPERSEDED), later).status is alive


def test_rule_4_the_best_money_outcome_wins():
    order = [S.UNDERPAID, S.CONFIRMING, S.PAID]
    for worse, better in combinations(order, 2):
        assert reduced(attempt(worse), attempt(better)).status is better
        assert reduced(attempt(better), attempt(worse)).status is better


def test_rule_4_a_refused_attempt_counts_for_nothing():
    refused = attempt(S.PENDING, state=AttemptState.REFUSED)
    assert reduced(attempt(S.EXPIRED), refused).status is S.EXPIRED
    assert reduced(refused).status is S.PENDING


def test_T25_rule_4_a_second_paid_attempt_is_overpaid_and_reviewed():
    second = attempt(S.PAID, received="10", money_at=at(2))
    for attempts in permutations([PAID, second]):
        outcome = reduced(*attempts)
        assert told(outcome) == (S.OVERPAID, False, (Review.SECOND_PAYMENT,))
        assert outcome.received == D(20)


def test_T25_rule_4_also_without_amounts():
    attempts = attempt(S.PAID, money_at=at(1)), attempt(S.PAID, money_at=at(2))
    outcome = reduced(*attempts)
    assert told(outcome) == (S.OVERPAID, False, (Review.SECOND_PAYMENT,))
    assert outcome.received is None


def test_rule_5_a_top_up_of_the_rest_is_paid():
    first = attempt(S.UNDERPAID, received="4", money_at=at(1), state=AttemptState.SUPERSEDED)
    outcome = reduced(first, attempt(S.PAID, received="6", money_at=at(2)))
    assert told(outcome) == (S.PAID, False, ())
    assert outcome.received == D(10)


def test_rule_5_a_top_up_that_brings_more_than_the_rest_is_overpaid():
    first = attempt(S.UNDERPAID, received="5", money_at=at(1), state=AttemptState.SUPERSEDED)
    outcome = reduced(first, attempt(S.PAID, received="6", money_at=at(2)))
    assert outcome.status is S.OVERPAID
    assert outcome.received == D(11)


def test_T22_totals_are_exact_sums():
    big = "99999999999.000000000000000001"
    outcome = reduced(attempt(S.UNDERPAID, received=big), attempt(S.UNDERPAID, received=big), amount="1000000000000")
    assert outcome.received == D("199999999998.000000000000000002")


def test_T22_totals_do_not_depend_on_the_shops_decimal_context():
    attempts = attempt(S.UNDERPAID, received="1234.5678"), attempt(S.UNDERPAID, received="0.0001")
    with decimal.localcontext(decimal.Context(prec=4)):
        assert reduced(*attempts, amount="10000").received == D("1234.5679")


def test_decision_2_unknown_is_none_and_zero_is_zero():
    assert reduced(attempt(S.CONFIRMING, money_at=at(1))).received is None
    assert reduced(attempt(S.PENDING, received="0")).received == D(0)
    assert reduced(attempt(S.CONFIRMING, money_at=at(1)), attempt(S.PENDING, received="3")).received == D(3)


def test_T34_rule_7_late_money_is_held_and_reviewed():
    outcome = reduced(attempt(S.PAID, late=True, money_at=at(9), paid_at=at(8), deadline=at(5)))
    assert told(outcome) == (S.PAID, True, (Review.LATE,))
    assert outcome.late


@pytest.mark.parametrize(("offset", "held"), [(-1, False), (1, True)])
def test_T34_grace(offset, held):
    grace = timedelta(minutes=10)
    paid_at = T0 + grace + offset * SECOND
    late = attempt(S.PAID, late=True, money_at=at(60), paid_at=paid_at, deadline=T0)
    outcome = reduced(late, grace=grace)
    assert (outcome.status, outcome.held, outcome.late) == (S.PAID, held, True)
    assert reduced(late, grace=None).held is True


def test_T34_one_payment_in_time_is_enough():
    late = attempt(S.PAID, late=True, money_at=at(9), paid_at=at(9), deadline=at(5))
    assert told(reduced(PAID, late)) == (S.OVERPAID, False, (Review.SECOND_PAYMENT,))


@pytest.mark.parametrize("grace", [None, timedelta(days=30)])
def test_T35_paid_after_cancel_is_held_whatever_the_grace(grace):
    outcome = reduced(attempt(S.PAID, money_at=at(9), paid_at=at(8), deadline=at(60)), cancelled_at=at(5), grace=grace)
    assert told(outcome) == (S.PAID, True, (Review.PAID_AFTER_CANCEL,))
    assert outcome.late


def test_rule_11_a_local_cancel_stands_until_money_comes():
    assert told(reduced(attempt(S.PENDING, live=True), cancelled_at=at(5))) == (S.CANCELLED, False, ())
    seen = attempt(S.CONFIRMING, live=True, money_at=at(6))
    assert reduced(seen, cancelled_at=at(5)).status is S.CONFIRMING
    forced = attempt(S.UNDERPAID, live=True, received="4", money_at=at(4))
    outcome = reduced(forced, cancelled_at=at(5))
    assert told(outcome) == (S.CANCELLED, False, (Review.CANCELLED_WITH_MONEY,))
    assert outcome.received == D(4)


@pytest.mark.parametrize("status", [S.PENDING, S.CONFIRMING, S.UNDERPAID, S.EXPIRED, S.CANCELLED, S.FAILED])
def test_rule_8_accept_makes_paid_and_manual(status):
    outcome = reduced(attempt(status), accepted_at=at(5))
    assert (outcome.status, outcome.held, outcome.manual) == (S.PAID, False, True)


def test_rule_8_accept_releases_a_held_late_payment():
    late = attempt(S.PAID, late=True, money_at=at(9), paid_at=at(8), deadline=at(5))
    outcome = reduced(late, accepted_at=at(10))
    assert (outcome.status, outcome.held, outcome.manual, outcome.late) == (S.PAID, False, True, True)
    assert Review.SECOND_PAYMENT not in outcome.reviews


def test_rule_8_accepted_then_a_later_real_payment_is_overpaid_and_reviewed():
    outcome = reduced(attempt(S.PAID, received="10", money_at=at(9)), accepted_at=at(5))
    assert told(outcome) == (S.OVERPAID, False, (Review.SECOND_PAYMENT,))


def test_rule_9_a_reversal_is_failed():
    assert reduced(PAID, reversed_at=at(5)).status is S.FAILED


def test_rule_8_money_after_a_reversal_is_held():
    outcome = reduced(PAID, attempt(S.PAID, received="10", money_at=at(9)), reversed_at=at(5))
    assert outcome.status in (S.PAID, S.OVERPAID)
    assert outcome.held
    assert Review.AFTER_REVERSAL in outcome.reviews


def test_rule_8_accept_after_a_reversal():
    outcome = reduced(PAID, reversed_at=at(5), accepted_at=at(6))
    assert (outcome.status, outcome.held, outcome.manual) == (S.PAID, False, True)
    assert reduced(PAID, accepted_at=at(2), reversed_at=at(5)).status is S.FAILED


def test_rule_10_refund_marks():
    assert reduced(PAID, refunding_at=at(5)).status is S.REFUNDING
    assert reduced(PAID, refunding_at=at(5), refunded_at=at(6)).status is S.REFUNDED
    assert reduced(attempt(S.REFUNDING, received="10", money_at=at(1))).status is S.REFUNDING
    assert reduced(attempt(S.REFUNDED, received="10", money_at=at(1))).status is S.REFUNDED


def test_rule_10_a_refunded_attempt_never_hides_a_paid_one():
    assert reduced(attempt(S.REFUNDED, received="10", money_at=at(1)), attempt(S.PAID, money_at=at(2))).status is S.PAID


def test_reliability_rule_10_a_hold_is_flagged_and_reviewed():
    outcome = reduced(attempt(S.CONFIRMING, live=True, on_hold=True, money_at=at(1)))
    assert (outcome.status, outcome.on_hold, outcome.reviews) == (S.CONFIRMING, True, (Review.ON_HOLD,))


def test_T38_confirming_is_not_paid_whatever_was_received():
    assert reduced(attempt(S.CONFIRMING, live=True, received="1000", money_at=at(1))).status is S.CONFIRMING


@pytest.mark.parametrize(("status", "review"), [(S.EXPIRED, Review.MONEY_WHILE_DEAD), (S.FAILED, Review.FAILED_WITH_MONEY)])
def test_footnote_2_an_invoice_that_ends_unpaid_with_money_is_reviewed_and_keeps_it(status, review):
    outcome = reduced(attempt(status, received="4", money_at=at(1)))
    assert told(outcome) == (status, False, (review,))
    assert outcome.received == D(4)


def test_an_invoice_without_attempts_is_pending():
    assert told(reduced()) == (S.PENDING, False, ())


facts = st.builds(
    AttemptFacts,
    state=st.sampled_from(AttemptState),
    status=st.sampled_from(S),
    live=st.booleans(),
    received=st.none() | st.decimals(min_value=0, max_value=20, places=2),
    money_at=st.none() | st.integers(0, 10).map(at),
    late=st.none() | st.booleans(),
    paid_at=st.none() | st.integers(0, 10).map(at),
    deadline=st.none() | st.integers(0, 10).map(at),
    manual=st.booleans(),
    on_hold=st.booleans(),
).map(lambda a: replace(a, money_at=a.money_at or at(0)) if a.status in (S.PAID, S.OVERPAID) or a.late else a)
marks = st.none() | st.integers(0, 10).map(at)


@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        InvoiceFacts, amount=st.just(D(10)), attempts=st.lists(facts, max_size=4).map(tuple), cancelled_at=marks,
        accepted_at=marks, reversed_at=marks, refunding_at=marks, refunded_at=marks,
    ),
    st.none() | st.integers(0, 10).map(lambda n: timedelta(minutes=n)),
)  # fmt: skip
def test_I3_I4_any_facts_have_an_outcome(everything, grace):
    outcome = reduce_invoice(everything, grace=grace)
    counted = [a for a in everything.attempts if a.state is not AttemptState.REFUSED]
    known = [a.received for a in counted if a.received is not None]
    assert outcome.received == (sum(known) if known else None)
    if outcome.status in (S.PAID, S.OVERPAID):
        assert everything.accepted_at is not None or any(a.status in (S.PAID, S.OVERPAID) for a in counted)
    if outcome.held:
        assert outcome.status in (S.PAID, S.OVERPAID)
