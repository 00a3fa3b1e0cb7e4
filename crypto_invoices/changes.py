"""What a piece of evidence or an operator's mark changes, computed on rows that were read; nothing is written here."""

from dataclasses import dataclass, field

from . import conf
from .exceptions import NotAllowed
from .money import percent_of, subtract
from .providers.base import Kind
from .statuses import (
    DEAD,
    SETTLED,
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
)

__all__ = ["KEY_LENGTH", "Change", "after_evidence", "after_marks", "misfit_of"]

UNREAD = frozenset({"raw"})  # columns that are written without having been read
KEY_LENGTH = 190  # of Transfer.key; MariaDB indexes no longer one
OVER = SETTLED | DEAD | {InvoiceStatus.REFUNDED}
MARKS = ("cancelled_at", "accepted_at", "reversed_at", "refunding_at", "refunded_at")
ENTERING = {
    InvoiceStatus.CONFIRMING: "invoice_confirming",
    InvoiceStatus.UNDERPAID: "invoice_underpaid",
    InvoiceStatus.OVERPAID: "invoice_overpaid",
    InvoiceStatus.EXPIRED: "invoice_expired",
    InvoiceStatus.CANCELLED: "invoice_cancelled",
    InvoiceStatus.FAILED: "invoice_failed",
    InvoiceStatus.REFUNDING: "invoice_refunding",
    InvoiceStatus.REFUNDED: "invoice_refunded",
}


@dataclass
class Change:
    """The new values of an attempt's and an invoice's fields (only those that differ), and the event that tells of it.

    ``is_event`` says whether facts changed, which makes a new version and an event row; an answer that brings only a new
    wording or a poll's time does not.
    """

    verdict: Verdict
    reason: str = ""
    poll: bool = False
    attempt: dict = field(default_factory=dict)
    invoice: dict = field(default_factory=dict)
    new_transfers: list = field(default_factory=list)
    seen_transfers: list = field(default_factory=list)  # of (Transfer, values)
    kind: str = ""
    signals: set = field(default_factory=set)
    one_shot: str | None = None
    is_event: bool = False


def after_evidence(invoice, attempts, attempt, evidence, known, *, now, undisturbed=True):
    """The ``Change`` that ``evidence`` makes to ``attempt``, one of ``attempts``; ``known`` are its Transfer rows."""
    ruling = _binding(attempt, evidence)
    if ruling is None:
        old = InvoiceStatus(attempt.status)
        received = _received(attempt, evidence, undisturbed)
        tolerance = _first(
            invoice.underpaid_tolerance, evidence.tolerance, attempt.tolerance, conf.settings().underpaid_tolerance
        )
        ruling = judge(old, evidence, received=received, due=attempt.amount, tolerance=tolerance, undisturbed=undisturbed)
    change = Change(ruling.verdict, ruling.reason, ruling.poll)
    if ruling.verdict in (Verdict.CHECK, Verdict.QUARANTINED):
        if ruling.verdict is Verdict.QUARANTINED:
            polled = evidence.source is Source.POLL  # every further poll will say the same
            _review(change, invoice, (Review.MISFIT,), detail=ruling.reason, once=polled)
        change.is_event = bool(change.invoice)
        return change
    _take_transfers(change, evidence, known)
    facts = _attempt_facts(change, attempt, evidence, ruling, received, tolerance, known, now)
    change.attempt = _different(attempt, _words(attempt, evidence, ruling) | facts)
    if change.new_transfers or (change.attempt.get("amount_received") or 0) > (attempt.amount_received or 0):
        change.signals.add("payment_received")
    change.is_event = bool(change.new_transfers) or any(name in change.attempt for name in facts)
    review = evidence.review if ruling.verdict is not Verdict.STALE else ""
    _reduce(change, invoice, attempts, attempt, evidence.source, now, extra=(ruling.review, review or None))
    if change.is_event and change.verdict is not Verdict.APPLIED:
        change.verdict = Verdict.APPLIED
    return change


def after_marks(
    invoice, attempts, marks, *, now, kind, signals=(), attempt=None, attempt_values=None, source=Source.OPERATOR
):  # fmt: skip
    """The ``Change`` of a decision of ours, such as ``{"accepted_at": now}``. Raises ``NotAllowed``."""
    change = Change(Verdict.APPLIED, attempt=dict(attempt_values or {}), invoice=dict(marks), kind=kind, signals=set(signals))
    change.is_event = True
    _reduce(change, invoice, attempts, attempt, source, now)
    return change


def _first(*values):
    return next((value for value in values if value is not None), None)


def _different(row, values):
    return {name: value for name, value in values.items() if name in UNREAD or getattr(row, name) != value}


def misfit_of(row, kind, evidence):
    """Why evidence is not about this attempt or static address of that kind; "" when it is."""
    remote = evidence.remote
    if remote.kind != kind:
        return f"kind {remote.kind} instead of {kind}"
    another = bool(row.gateway_id and remote.gateway_id and row.gateway_id != remote.gateway_id)
    if another and not (kind == Kind.STATIC_ADDRESS and remote.reference == row.reference):
        return "another id of the gateway"  # each deposit may have one of its own: no page says
    if remote.reference and remote.reference != row.reference:
        return "another reference"
    if not row.gateway_id and not remote.reference:
        return "neither the gateway's id nor our reference is known"
    if evidence.sandbox is not None and evidence.sandbox != row.sandbox:
        return "a sandbox payment" if evidence.sandbox else "a live payment, but ours is a sandbox one"
    return ""


def _binding(attempt, evidence):
    """A ruling against evidence that is not about this attempt, or not about its price; None when it fits."""
    if reason := misfit_of(attempt, attempt.kind, evidence):
        return Ruling(Verdict.QUARANTINED, reason=reason)
    misfit = None
    if evidence.price_amount is not None and evidence.price_amount != attempt.amount:
        misfit = "the price is another amount"
    elif evidence.price_currency and evidence.price_currency.upper() != attempt.currency.upper():
        misfit = "the price is in another currency"
    if misfit:
        return Ruling(Verdict.CHECK if evidence.source is Source.CALLBACK else Verdict.QUARANTINED, reason=misfit, poll=True)
    return None


def _received(attempt, evidence, undisturbed):
    old, new = attempt.amount_received, evidence.received
    if old is None or new is None:
        return new if old is None else old
    return new if evidence.source is Source.POLL and undisturbed else max(old, new)


def _take_transfers(change, evidence, known):
    rows = {row.key: row for row in known}
    for transfer in evidence.transfers:
        key = transfer.key[:KEY_LENGTH]
        row = rows.get(key)
        if row is None:
            rows[key] = transfer
            change.new_transfers.append(transfer)
        elif row not in change.new_transfers:
            values = {
                "confirmations": max(row.confirmations or 0, transfer.confirmations or 0) or row.confirmations,
                "confirmed": row.confirmed or transfer.confirmed,
                "value": _first(row.value, transfer.value),
                "paid_at": _first(row.paid_at, transfer.paid_at),
            }
            if different := _different(row, values):
                change.seen_transfers.append((row, different))


def _attempt_facts(change, attempt, evidence, ruling, received, tolerance, known, now):
    """The attempt's facts from now on; a difference in any of them is a new version of the invoice."""
    more = received is not None and received > (attempt.amount_received or 0)
    unexplained = more and not evidence.transfers  # a known transfer that was confirmed is no new money
    paid_now = ruling.status in (*SETTLED, InvoiceStatus.UNDERPAID) and attempt.last_money_at is None
    money = bool(change.new_transfers) or unexplained or paid_now
    first_money_at = attempt.first_money_at or (now if money else None)
    gateway_late = _first(evidence.late, attempt.gateway_late)
    times = [(t.paid_at, t.value) for t in (*known, *change.new_transfers)]
    deadline = _first(evidence.expires_at, attempt.expires_at)
    late, paid_at = lateness(
        deadline,
        told=gateway_late,
        transfers=times or [(_first(evidence.paid_at, attempt.paid_at), None)],
        due=subtract(attempt.amount, percent_of(attempt.amount, tolerance or 0)),
        first_seen=first_money_at,
    )
    facts = {
        "status": ruling.status.value,
        "amount_received": received,
        "amount_refunded": _first(evidence.refunded, attempt.amount_refunded),
        "first_money_at": first_money_at,
        "last_money_at": now if money else attempt.last_money_at,
        "late": late if first_money_at else attempt.late,
        "gateway_late": gateway_late,
        "refund_begun": attempt.refund_begun or ruling.status in (InvoiceStatus.REFUNDING, InvoiceStatus.REFUNDED),
        "paid_at": paid_at if first_money_at else attempt.paid_at,
        "manual": attempt.manual or (evidence.manual and ruling.verdict is not Verdict.STALE),
        "on_hold": attempt.on_hold if ruling.verdict is Verdict.STALE else evidence.on_hold,
    }
    is_news = attempt.state != AttemptState.CLOSED or ruling.status != attempt.status
    if is_news and ruling.verdict is not Verdict.STALE and _is_over(evidence, ruling.status, deadline, now):
        facts |= {"state": AttemptState.CLOSED.value, "closed_at": now, "live_key": None}
    return facts


def _is_over(evidence, status, deadline, now):
    """Whether nothing more is waited for, so that the watch for late money begins. That is ours to say: a gateway may go on
    calling its word not final."""
    return evidence.final or status in OVER or (status is InvoiceStatus.UNDERPAID and deadline is not None and now > deadline)


def _words(attempt, evidence, ruling):
    """What the gateway said that is no fact of the payment: kept for people and pages."""
    words = {"gateway_id": attempt.gateway_id or evidence.remote.gateway_id}
    if attempt.state in (AttemptState.CREATING, AttemptState.UNKNOWN, AttemptState.REFUSED):
        words["state"] = AttemptState.OPEN.value  # it is there, whatever became of the create call
    if ruling.verdict is not Verdict.STALE and evidence.source is not Source.TIMER:
        words["gateway_status"] = evidence.word[:64]
    if evidence.source is Source.POLL:  # a callback's body stands in its receipt
        words["raw"] = evidence.raw.replace("\0", "\ufffd")
    for name in ("pay_amount", "tolerance", "expires_at"):
        if getattr(evidence, name) is not None:
            words[name] = getattr(evidence, name)
    for name in ("pay_currency", "network", "address", "address_tag"):
        if getattr(evidence, name):
            words[name] = getattr(evidence, name)
    if evidence.payment_url and not attempt.payment_url and evidence.source is Source.POLL:  # the create call's answer was lost
        words["payment_url"] = evidence.payment_url
    return words


def _facts(invoice, attempts, changed=None, values=None, marks=None):
    def value(row, name):
        return values[name] if row is changed and values and name in values else getattr(row, name)

    return InvoiceFacts(
        amount=invoice.amount,
        attempts=tuple(
            AttemptFacts(
                state=AttemptState(value(row, "state")),
                status=InvoiceStatus(value(row, "status")),
                live=value(row, "live_key") is not None,
                received=value(row, "amount_received"),
                money_at=value(row, "last_money_at"),
                late=value(row, "late"),
                paid_at=value(row, "paid_at"),
                deadline=value(row, "expires_at"),
                manual=value(row, "manual"),
                on_hold=value(row, "on_hold"),
                refund_begun=value(row, "refund_begun"),
                refunded=value(row, "amount_refunded"),
            )
            for row in attempts
        ),
        paid=(marks or {}).get("paid_at", invoice.paid_at) is not None,
        **{name: (marks or {}).get(name, getattr(invoice, name)) for name in MARKS},
    )


def _reduce(change, invoice, attempts, attempt, source, now, extra=()):
    """Completes ``change`` with the invoice's new status, flags, signals and kind."""
    grace = conf.settings().late_grace if conf.settings().late_payment == "accept" else None
    before = reduce_invoice(_facts(invoice, attempts), grace=grace)
    after = reduce_invoice(_facts(invoice, attempts, attempt, change.attempt, change.invoice), grace=grace)
    old = InvoiceStatus(invoice.status)
    new = _status(change, old, before.status, after.status, source)
    settled = new in SETTLED
    values = {
        "status": new.value,
        "amount_received": after.received,
        "late": after.late,
        "manual": after.manual,
        "on_hold": after.on_hold,
    }
    if new is not old:
        change.signals.add("invoice_status_changed")
        if new in ENTERING:
            change.signals.add(ENTERING[new])
    if after.refunded is not None and after.refunded > (change.invoice.get("amount_refunded", invoice.amount_refunded) or 0):
        values["amount_refunded"] = after.refunded
    if settled and not after.held and change.invoice.get("paid_at", invoice.paid_at) is None:
        change.signals.add("invoice_paid")
        values["paid_at"] = now
        change.one_shot = f"paid:{change.invoice.get('epoch', invoice.epoch)}"
    if settled and after.held and old not in SETTLED:
        change.signals.add("invoice_paid_late")
    change.invoice = dict(change.invoice) | _different(invoice, values)
    refused = Review.AFTER_REFUND if after.status in SETTLED and not settled else None
    again = "last_money_at" in change.attempt or "status" in change.attempt  # a further payment is looked at again
    _review(change, invoice, [r for r in after.reviews if again or r not in before.reviews])
    _review(change, invoice, [*extra, refused], once=True)
    change.is_event = change.is_event or bool(change.invoice)
    change.kind = change.kind or ("status" if new is not old else "payment" if "payment_received" in change.signals else "facts")


def _status(change, old, before, new, source):
    """The invoice's status from now on: the reducer's word where the table allows it, else the old one.

    ``before`` is what the reducer said without this change: a decision of ours that changes nothing there is no attempt
    to change the status. Raises ``NotAllowed``.
    """
    if new is old or permitted(old, new, source) == "yes" or (old, new) == (InvoiceStatus.CONFIRMING, InvoiceStatus.FAILED):
        return new
    if source is Source.OPERATOR and new is not before:
        raise NotAllowed(f"an invoice that is {old} cannot become {new}")
    if source is not Source.OPERATOR and permitted(old, new, Source.POLL) == "yes":
        change.poll = True
    return old


def _review(change, invoice, reasons, *, detail="", once=False):
    """Asks for a person's review, unless one is asked for with this reason; with ``once`` never again with it."""
    texts = [f"{reason}: {detail}" if detail else str(reason) for reason in reasons if reason is not None]
    told = change.invoice.get("review_reason", invoice.review_reason).splitlines()
    asked = told if once or change.invoice.get("needs_review", invoice.needs_review) else []
    new = [text for text in dict.fromkeys(texts) if text not in asked]
    if new:
        lines = [*told, *(text for text in new if text not in told)]
        change.invoice |= {"needs_review": True, "review_reason": "\n".join(lines)}
        change.signals.add("invoice_review_required")
        change.kind = change.kind or "review"
