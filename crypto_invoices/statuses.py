"""The words of a payment, the table of allowed changes and the pure reducer. No Django, no I/O.

An invoice's status is never patched: ``reduce_invoice`` computes it from the facts of all its attempts and from the
operator's marks. ``judge`` says what one piece of news may do to one attempt.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from .money import add, percent_of, subtract

__all__ = [
    "TRANSITIONS",
    "AttemptFacts",
    "AttemptState",
    "InvoiceFacts",
    "InvoiceStatus",
    "Outcome",
    "Review",
    "Ruling",
    "Source",
    "Verdict",
    "judge",
    "lateness",
    "reduce_invoice",
]


class InvoiceStatus(StrEnum):
    PENDING = "pending"
    CONFIRMING = "confirming"
    UNDERPAID = "underpaid"
    PAID = "paid"
    OVERPAID = "overpaid"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    FAILED = "failed"
    REFUNDING = "refunding"
    REFUNDED = "refunded"


class AttemptState(StrEnum):
    """An attempt's own life, beside what the gateway says of its payment."""

    CREATING = "creating"  # the row is committed, the gateway is being called
    UNKNOWN = "unknown"  # the call may have had its effect
    OPEN = "open"
    REFUSED = "refused"  # nothing exists at the gateway
    SUPERSEDED = "superseded"  # a newer attempt took its place; still watched
    CLOSED = "closed"  # nothing more is waited for; watched for a while


class Source(StrEnum):
    CALLBACK = "callback"
    POLL = "poll"
    OPERATOR = "operator"
    TIMER = "timer"


class Review(StrEnum):
    """Why a person has to look; the text is kept in ``Invoice.review_reason``."""

    LATE = "paid late"
    PAID_AFTER_CANCEL = "paid after it was cancelled"
    SECOND_PAYMENT = "a second payment arrived: there is money to return"
    MONEY_WHILE_DEAD = "money arrived on an invoice that ended unpaid"
    CANCELLED_WITH_MONEY = "cancelled with money received: there is money to return"
    TOO_LITTLE = "the gateway says paid but reports too little"
    CONTRADICTION = "the gateway no longer says that it is paid"
    REFUND_UNSEEN = "refunded at the gateway, but the payment was never seen here"
    ON_HOLD = "held by the gateway for a check"
    FAILED_WITH_MONEY = "failed with money received"
    AFTER_REVERSAL = "paid after it was reversed"
    AFTER_REFUND = "money arrived after a refund"
    MISFIT = "a callback or poll does not fit"


S = InvoiceStatus

RANK = {
    S.PENDING: 0,
    S.CONFIRMING: 10,
    S.UNDERPAID: 20,
    S.EXPIRED: 20,
    S.CANCELLED: 20,
    S.FAILED: 20,
    S.PAID: 30,
    S.OVERPAID: 31,
    S.REFUNDING: 40,
    S.REFUNDED: 50,
}

SETTLED = frozenset({S.PAID, S.OVERPAID})
DEAD = frozenset({S.EXPIRED, S.CANCELLED, S.FAILED})

# Who may move a status from the row to the column: C callback, P poll, O operator, T timer. A lower-case letter is
# conditional: c, a callback only makes a poll due; f, a callback only with a word that is final at the gateway.
_TABLE = """
            pending confirming underpaid paid overpaid expired cancelled failed refunding refunded
pending     .       CP         CP        CPO  CP       CPT     CPO       CP     CP        CP
confirming  cP      .          CP        CPO  CP       P       PO        fP     CP        CP
underpaid   cP      CP         .         CPO  CP       CPT     O         P      OCP       CP
expired     -       CP         CP        CPO  CP       .       O         -      CP        CP
cancelled   -       CP         CP        CPO  CP       -       .         -      CP        CP
failed      -       cP         P         PO   P        -       -         .      CP        CP
paid        -       -          -         O    CP       -       -         O      OCP       CP
overpaid    -       -          -         P    O        -       -         O      OCP       CP
refunding   -       -          -         CP   CP       -       -         -      .         CPO
refunded    -       -          -         -    -        -       -         -      -         .
"""


def _read_table(text):
    header, *rows = (line.split() for line in text.strip().splitlines())
    columns = [S(word) for word in header]
    return {(S(row[0]), column): cell for row in rows for column, cell in zip(columns, row[1:], strict=True) if cell not in "-."}


TRANSITIONS = _read_table(_TABLE)
_LETTER = {Source.CALLBACK: "C", Source.POLL: "P", Source.OPERATOR: "O", Source.TIMER: "T"}


class Verdict(StrEnum):
    """What one piece of news does to the facts."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"  # agrees with what is known
    STALE = "stale"  # older than what is known
    CHECK = "check"  # believable only after our own poll agrees
    QUARANTINED = "quarantined"  # does not fit; a person has to look


@dataclass(frozen=True, slots=True)
class Ruling:
    verdict: Verdict
    status: InvoiceStatus | None = None  # the attempt's status from now on
    reason: str = ""  # for the log and the receipt
    review: Review | None = None
    poll: bool = False  # the attempt should be polled soon


def permitted(old, new, source, *, final=False):
    """``"yes"``, ``"poll"`` (only our own poll may do this) or ``"no"`` for a change of status by this source."""
    cell = TRANSITIONS.get((old, new), "")
    if _LETTER[source] in cell or (source is Source.CALLBACK and final and "f" in cell):
        return "yes"
    return "poll" if source is Source.CALLBACK and ("c" in cell or "f" in cell) else "no"


def settle(status, *, received, due, tolerance, manual=False):
    """What the money says beside the gateway's word: ``(status, review)``.

    ``received`` and ``due`` are in the price currency, ``received`` None when the gateway reports nothing comparable;
    ``tolerance`` is the accepted shortfall in percent, None when nobody named one: then the gateway's word stands.
    """
    if status not in SETTLED or received is None:
        return status, None
    if tolerance is not None and not manual and received < subtract(due, percent_of(due, tolerance)):
        return S.UNDERPAID, Review.TOO_LITTLE
    return (S.OVERPAID if received > due else status), None


def judge(old, evidence, *, received, due, tolerance, undisturbed=True):
    """What ``evidence`` does to an attempt whose status is ``old``: a ``Ruling``.

    ``received`` is the attempt's sum with this evidence counted in, ``due`` what it asks for, both in the price currency;
    ``tolerance`` percent or None. ``undisturbed`` is False when other news was applied since a poll's request started:
    then the poll may not lower a status.
    """
    if evidence.status is None:
        return Ruling(Verdict.QUARANTINED, old, reason=f"unknown word {evidence.word[:64]!r}", poll=True)
    new, review = settle(evidence.status, received=received, due=due, tolerance=tolerance, manual=evidence.manual)
    callback = evidence.source is Source.CALLBACK
    if review and callback:
        return Ruling(Verdict.CHECK, old, reason=review, poll=True)
    if new is old or _is_dead_for_good(old, new, evidence):
        return Ruling(Verdict.UNCHANGED, old, review=review)
    answer = permitted(old, new, evidence.source, final=evidence.final)
    lower = RANK[new] < RANK[old]
    if answer == "yes" and (undisturbed or not lower):
        return Ruling(Verdict.APPLIED, new, review=review)
    if lower or answer == "poll" or not undisturbed:
        if old is S.PAID and received is not None and received > due:  # an older word that brings more money
            return Ruling(Verdict.APPLIED, S.OVERPAID)
        contradicted = evidence.source is Source.POLL and old in SETTLED and undisturbed
        return Ruling(
            Verdict.STALE,
            old,
            reason=f"{new} after {old}",
            review=Review.CONTRADICTION if contradicted else None,
            poll=answer == "poll",
        )
    return Ruling(Verdict.QUARANTINED, old, reason=f"{new} after {old}", poll=callback)


def _is_dead_for_good(old, new, evidence):
    """Whether a poll ends a dead attempt by another word, as txn.io, which cancels what expired a week ago."""
    dead = old in DEAD and new in DEAD
    return dead and evidence.source is Source.POLL and evidence.final and not evidence.money_seen


def lateness(deadline, *, told, transfers, due, first_seen):
    """``(late, paid_at)``: whether the payment came after ``deadline``, whatever the order in which news arrived.

    ``transfers`` are pairs of time and value in the price currency, either of them None where unknown; ``told`` is the
    gateway's own flag or None; ``first_seen`` our clock at the first sight of money. The time of payment is that of the
    transfer with which the sum reached ``due``, or of the last one where values cannot be compared. ``late`` is None when
    nothing tells, ``paid_at`` None when no transfer has a time.
    """
    times = sorted((pair for pair in transfers if pair[0] is not None), key=lambda pair: pair[0])
    paid_at = times[-1][0] if times else None
    if all(value is not None for _, value in times):
        total = Decimal(0)
        for time, value in times:
            total = add((total, value))
            if total >= due:
                paid_at = time
                break
    if deadline is None:
        return told, paid_at
    if paid_at is not None:
        return paid_at > deadline, paid_at
    if told is not None:
        return told, None
    return (first_seen > deadline if first_seen else None), None


@dataclass(frozen=True, slots=True)
class AttemptFacts:
    """What is known of one attempt. Money in the price currency; ``received`` None when nothing comparable is known."""

    state: AttemptState
    status: InvoiceStatus
    live: bool
    received: Decimal | None = None
    money_at: datetime | None = None  # our clock at the newest money; None: none was seen
    late: bool | None = None
    paid_at: datetime | None = None  # the payment's own time, where known
    deadline: datetime | None = None
    manual: bool = False
    on_hold: bool = False
    refund_begun: bool = False  # the gateway once said that it gives the money back
    refunded: Decimal | None = None  # what the gateway says it gave back

    def has_money_after(self, mark):
        return mark is not None and self.money_at is not None and self.money_at > mark


@dataclass(frozen=True, slots=True)
class InvoiceFacts:
    """What is known of an invoice: its price, its attempts (oldest first) and the operator's marks (our clock)."""

    amount: Decimal
    attempts: tuple[AttemptFacts, ...]
    cancelled_at: datetime | None = None
    accepted_at: datetime | None = None
    reversed_at: datetime | None = None
    refunding_at: datetime | None = None
    refunded_at: datetime | None = None
    paid: bool = False  # ``invoice_paid`` was emitted and not reversed


@dataclass(frozen=True, slots=True)
class Outcome:
    status: InvoiceStatus
    received: Decimal | None  # price currency; None: nothing comparable is known
    refunded: Decimal | None  # by the gateways, in the price currency
    late: bool
    manual: bool
    on_hold: bool
    held: bool  # settled, but the goods, not handed over yet, wait for a person
    reviews: tuple[Review, ...]


def reduce_invoice(facts, *, grace=None):
    """The invoice's ``Outcome``: the best that the money of all attempts together says, after the operator's marks.

    ``grace`` is the timedelta within which a late payment is taken as in time, None when every late one is held.
    """
    attempts = [attempt for attempt in facts.attempts if attempt.state is not AttemptState.REFUSED]
    accepted = facts.accepted_at is not None and (facts.reversed_at is None or facts.accepted_at >= facts.reversed_at)
    settled = [a for a in attempts if a.status in SETTLED and (facts.reversed_at is None or a.has_money_after(facts.reversed_at))]
    received = _add(a.received for a in attempts)
    again = accepted and any(a.has_money_after(facts.accepted_at) for a in settled)
    together = sum(a.received is not None and a.received > 0 for a in attempts) > 1 and received > facts.amount
    second = again or len(settled) > 1 or (bool(settled) and together)

    if accepted or settled:
        more = second or any(a.status is S.OVERPAID for a in settled)
        status = _refund(facts, [] if settled else attempts) or (S.OVERPAID if more else S.PAID)
    else:
        status = _refund(facts, attempts) or _unsettled(facts, attempts)

    late = [_is_late(a, facts) for a in (settled or attempts) if a.money_at is not None]
    is_late = bool(late) and (all(late) if settled else any(late))
    forgiven = grace is not None and any(_within(a, grace) for a in settled)
    held = (
        status in SETTLED
        and not accepted
        and not facts.paid
        and (
            facts.cancelled_at is not None
            or facts.reversed_at is not None
            or any(a.refund_begun for a in settled)
            or (is_late and not forgiven)
        )
    )
    return Outcome(
        status=status,
        received=received,
        refunded=_add(a.refunded for a in attempts),
        late=is_late,
        manual=accepted or any(a.manual for a in settled),
        on_hold=any(a.on_hold for a in attempts),
        held=held,
        reviews=tuple(_reviews(facts, attempts, settled, status, held=held, late=is_late, second=second)),
    )


def _add(amounts):
    known = [amount for amount in amounts if amount is not None]
    return add(known) if known else None


def _refund(facts, attempts):
    """The refund status that the shop recorded, or that the gateways report when no attempt holds money any more."""
    words = {a.status for a in attempts}
    for word, mark in ((S.REFUNDED, facts.refunded_at), (S.REFUNDING, facts.refunding_at)):
        if mark is not None and not any(a.has_money_after(mark) for a in facts.attempts):
            return word
    return S.REFUNDING if S.REFUNDING in words else S.REFUNDED if S.REFUNDED in words else None


def _unsettled(facts, attempts):
    for mark, word in ((facts.cancelled_at, S.CANCELLED), (facts.reversed_at, S.FAILED)):
        if mark is not None and not any(a.has_money_after(mark) for a in attempts):
            return word
    words = {a.status for a in attempts}
    for word in (S.CONFIRMING, S.UNDERPAID):
        if word in words:
            return word
    deciding = [a for a in attempts if a.live] or attempts
    return deciding[-1].status if deciding and deciding[-1].status not in SETTLED else S.PENDING


def _is_late(attempt, facts):
    return bool(attempt.late) or (facts.cancelled_at is not None and (attempt.paid_at or attempt.money_at) > facts.cancelled_at)


def _within(attempt, grace):
    return not attempt.late or (
        attempt.deadline is not None and (attempt.paid_at or attempt.money_at) <= attempt.deadline + grace
    )


def _reviews(facts, attempts, settled, status, *, held, late, second):
    money = any(a.money_at is not None for a in attempts)
    if held and facts.cancelled_at is not None:
        yield Review.PAID_AFTER_CANCEL
    elif held and facts.reversed_at is not None:
        yield Review.AFTER_REVERSAL
    elif held and late:
        yield Review.LATE
    if not money and status in (S.REFUNDING, S.REFUNDED):
        yield Review.REFUND_UNSEEN
    if second:
        yield Review.SECOND_PAYMENT
    if status is S.CANCELLED and money:
        yield Review.CANCELLED_WITH_MONEY
    if status is S.EXPIRED and money:
        yield Review.MONEY_WHILE_DEAD
    if status is S.FAILED and money and facts.reversed_at is None:
        yield Review.FAILED_WITH_MONEY
    if any(a.on_hold for a in attempts):
        yield Review.ON_HOLD
