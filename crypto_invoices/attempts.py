"""The life of an attempt beside its payment: made, bound to the gateway's object, refused, uncertain, superseded."""

from contextlib import suppress
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from . import ledger, polls
from .exceptions import NotAllowed
from .models import Invoice, PaymentAttempt
from .statuses import AttemptState, InvoiceStatus, Source

__all__ = ["CREATING_FOR", "bind", "create_rows", "flag", "mark_unknown", "poll_interval", "refuse", "replace_attempt"]

CREATING_FOR = timedelta(seconds=60)  # an attempt that is "creating" for longer has lost its process

# How long after its creation an attempt is polled how often; afterwards once a day. Callbacks bring most news.
POLLING = (
    (timedelta(hours=1), timedelta(minutes=1)),
    (timedelta(hours=6), timedelta(minutes=5)),
    (timedelta(days=1), timedelta(minutes=30)),
    (timedelta(days=3), timedelta(hours=3)),
)
LONGEST_WATCH = timedelta(days=180)  # of what never comes to an end at its gateway


def create_rows(fields, attempt_fields, *, user=None):
    """An invoice with its first attempt and the event "created", committed: ``(invoice, attempt, event)``.

    Raises ``IntegrityError`` when the idempotency key is taken, and ``RuntimeError`` inside an outer transaction: the rows
    must be there before the gateway is called.
    """
    with transaction.atomic(durable=True):
        invoice = Invoice(version=1, **fields)
        invoice.save(force_insert=True)
        attempt = _create_attempt(invoice, attempt_fields)
        event = ledger.write_event(
            invoice, kind="created", old_status="", signals={"invoice_created"}, source=Source.OPERATOR, attempt=attempt,
            user=user, deliver=False,
        )  # fmt: skip
    return invoice, attempt, event


def _create_attempt(invoice, fields):
    attempt = PaymentAttempt(
        invoice=invoice, live_key=invoice.pk, next_poll_at=timezone.now() + CREATING_FOR, **fields
    )  # fmt: skip
    attempt.save(force_insert=True)
    return attempt


def replace_attempt(invoice_id, old, attempt_fields, *, user=None, reason=""):
    """A new live attempt of the invoice; ``old``, if any is live, is superseded and stays watched. Returns the attempt.

    Raises ``IntegrityError`` when another process made one first.
    """
    made = []

    def make(invoice):
        made.append(_create_attempt(invoice, attempt_fields))

    def marks(invoice, attempts, now):
        return {"attempt_count": invoice.attempt_count + 1}

    superseded = {"state": AttemptState.SUPERSEDED.value, "live_key": None}
    with transaction.atomic(durable=True):
        ledger.operate(
            invoice_id, marks, kind="attempt", user=user, reason=reason, also=make,
            attempt_id=old.pk if old else None, attempt_values=superseded if old else None,
        )  # fmt: skip
    return made[-1]


def bind(attempt, remote, *, payment_url):
    """Stores what the create call brought back; False when a callback bound the attempt to another id before."""
    now = timezone.now()
    values = {
        "gateway_id": remote.gateway_id,
        "payment_url": payment_url,
        "address": remote.address,
        "address_tag": remote.address_tag,
        "pay_amount": remote.pay_amount,
        "pay_currency": remote.pay_currency,
        "network": remote.network,
        "expires_at": remote.expires_at,
    }
    fresh = values | {
        "state": AttemptState.OPEN.value,
        "gateway_status": remote.word[:64],
        "raw": remote.raw,
        "next_poll_at": now + POLLING[0][1],
    }
    rows = PaymentAttempt.objects.filter(pk=attempt.pk)
    bound = rows.filter(state__in=(AttemptState.CREATING, AttemptState.UNKNOWN), gateway_id="").update(**fresh)
    if not bound:  # a callback came before the answer to our call
        bound = rows.filter(gateway_id=remote.gateway_id).update(**values)
    if bound and remote.expires_at is not None:
        Invoice.objects.filter(pk=attempt.invoice_id).update(expires_at=remote.expires_at)
    attempt.refresh_from_db()
    return bool(bound)


def refuse(attempt, reason):
    """The gateway surely made nothing: the attempt is over and the invoice is free for another.

    Not so where a callback meanwhile showed that it is there.
    """

    def marks(invoice, attempts, now):
        if next(row.state for row in attempts if row.pk == attempt.pk) not in (AttemptState.CREATING, AttemptState.UNKNOWN):
            raise NotAllowed("the attempt is there")
        return {}

    with suppress(NotAllowed):
        ledger.operate(
            attempt.invoice_id, marks, kind="refused", reason=reason, attempt_id=attempt.pk,
            attempt_values={"state": AttemptState.REFUSED.value, "live_key": None, "next_poll_at": None},
            attempt_where={"gateway_id": ""}, source=Source.POLL,
        )  # fmt: skip
    attempt.refresh_from_db()


def mark_unknown(attempt, reason):
    """The gateway may have made the invoice: a look-up, a callback or a person has to tell."""
    PaymentAttempt.objects.filter(pk=attempt.pk, state=AttemptState.CREATING).update(
        state=AttemptState.UNKNOWN, poll_error=reason, next_poll_at=timezone.now()
    )
    attempt.refresh_from_db()


def flag(invoice_id, reason):
    """Asks for a person's review, once for each reason."""

    def marks(invoice, attempts, now):
        lines = [*invoice.review_reason.splitlines(), *([] if reason in invoice.review_reason.splitlines() else [reason])]
        return {"needs_review": True, "review_reason": "\n".join(lines)}

    return ledger.operate(invoice_id, marks, kind="review", signals={"invoice_review_required"}, reason=reason)


def poll_interval(attempt, watch, now):
    """How long to wait before asking again: short while young, then longer; None once the watch after closing is over."""
    if attempt.state == AttemptState.REFUSED or now > attempt.created_at + LONGEST_WATCH:
        return None
    under_way = attempt.status in (InvoiceStatus.CONFIRMING, InvoiceStatus.REFUNDING)
    if attempt.closed_at is not None and now > attempt.closed_at + watch and not under_way:
        return None
    age = now - (attempt.closed_at or attempt.created_at)
    interval = next((step for limit, step in POLLING if age < limit), polls.LONGEST_INTERVAL)
    if attempt.closed_at is not None and attempt.status in (InvoiceStatus.PAID, InvoiceStatus.OVERPAID):
        interval = max(interval, timedelta(hours=6))  # only a refund can still happen
    return polls.backed_off(interval, attempt.poll_failures)
