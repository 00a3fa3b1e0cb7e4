"""The only writer of a payment's state.

Every change takes the same way: read plainly, compute (``changes``), then one transaction whose first statement is a
write: the callback's receipt, which a duplicate cannot pass, then the invoice by compare-and-swap on its version, the
attempt, the transfers and the event. Who lost the race reads and computes again.
"""

import logging
import random
import time
from dataclasses import dataclass
from datetime import datetime

from django.db import IntegrityError, InterfaceError, OperationalError, connection, transaction
from django.db.models import Exists, F, OuterRef
from django.utils import timezone

from . import conf, delivery
from .changes import KEY_LENGTH, after_evidence, after_marks
from .exceptions import Conflict
from .models import CallbackReceipt, Invoice, InvoiceEvent, PaymentAttempt, StaticAddress, Transfer
from .signals import DURABLE
from .statements import Reading, insert, update
from .statuses import Source, Verdict

__all__ = [
    "RECEIPT_VERDICT",
    "Applied",
    "Callback",
    "Lost",
    "apply",
    "count_again",
    "file",
    "file_receipt",
    "operate",
    "publish",
    "refuse_transaction",
    "retry",
    "write_event",
    "write_transfers",
]

logger = logging.getLogger("crypto_invoices.ledger")

TRIES = 5
ENDING = (CallbackReceipt.Verdict.APPLIED, CallbackReceipt.Verdict.STALE)
RECEIPT_VERDICT = {
    Verdict.APPLIED: CallbackReceipt.Verdict.APPLIED,
    Verdict.UNCHANGED: CallbackReceipt.Verdict.STALE,
    Verdict.STALE: CallbackReceipt.Verdict.STALE,
    Verdict.QUARANTINED: CallbackReceipt.Verdict.QUARANTINED,
}


@dataclass(slots=True)
class Callback:
    """A callback whose signature is good, to be filed together with its effect. ``digest``: SHA-256 hex of ``body``."""

    account: str
    digest: str
    body: bytes
    headers: dict
    reference: str
    received_at: datetime
    known: bool = False  # filed before, with a verdict that was not the end


@dataclass(slots=True)
class Applied:
    """What became of a piece of news. The rows are as they are now; ``event`` is the newest, None without a change."""

    verdict: Verdict
    invoice: Invoice | None = None
    attempt: PaymentAttempt | None = None
    event: InvoiceEvent | None = None
    duplicate: bool = False
    reason: str = ""
    poll: bool = False
    static_address: StaticAddress | None = None


class Lost(Exception):
    """Somebody else changed the row first."""


class Known(Exception):
    """The callback was filed before."""


def apply(evidence, *, reference=None, attempt_id=None, account=None, callback=None, since_version=None, reason="", user=None):
    """Applies ``evidence`` to the attempt with this ``reference`` (of this ``account``) or ``attempt_id``.

    ``since_version`` is the invoice's version when a poll's request started. Returns ``Applied``, or None where there is
    no such attempt. With the verdict ``CHECK`` nothing was written. Raises ``Conflict`` when others kept coming first.
    """

    def apply_once():
        found = _by_pk(pk=attempt_id) if reference is None else _by_reference(reference=reference, account=account)
        if not found:
            return None
        attempt, invoice = found[0], found[0].invoice
        if callback and attempt.gateway_status == evidence.word and count_again(callback):
            return Applied(Verdict.UNCHANGED, invoice, attempt, duplicate=True)
        attempts = found
        if invoice.attempt_count > 1:
            attempts = [attempt if row.pk == attempt.pk else row for row in _siblings(invoice=invoice.pk)]
        known = _transfers(attempt=attempt.pk) if attempt.first_money_at else []
        change = after_evidence(
            invoice, attempts, attempt, evidence, known,
            now=timezone.now(), undisturbed=since_version is None or since_version == invoice.version,
        )  # fmt: skip
        applied = Applied(change.verdict, invoice, attempt, reason=change.reason, poll=change.poll)
        if change.verdict is Verdict.CHECK:
            return applied
        if not change.is_event:
            return _note(applied, change, callback)
        applied.event = _write(
            change, invoice, attempt, evidence.source, callback=callback, reason=reason, user=user,
            only=not attempt.has_due_events,
        )  # fmt: skip
        return applied

    return retry(apply_once, callback)


def operate(
    invoice_id, marks, *, kind, signals=(), user=None, reason="", data=None, attempt_id=None, attempt_values=None,
    attempt_where=None, also=None, source=Source.OPERATOR,
):  # fmt: skip
    """Applies a decision of ours rather than news: an operator's marks, or a step in an attempt's own life.

    ``marks`` are new values of the invoice's fields, or a callable ``(invoice, attempts, now)`` that returns them and may
    raise to refuse; ``attempt_values`` the same for one attempt, written only while ``attempt_where`` holds for it.
    ``also(invoice)`` runs in the same transaction; ``source`` is whose decision it is in the table of transitions. Returns
    ``Applied``. Raises ``NotAllowed`` or ``Conflict``.
    """

    def operate_once():
        attempts = list(PaymentAttempt.objects.filter(invoice_id=invoice_id).order_by("pk"))
        invoice = Invoice.objects.get(pk=invoice_id)
        attempt = next((row for row in attempts if row.pk == attempt_id), None)
        now = timezone.now()
        values = marks(invoice, attempts, now) if callable(marks) else marks
        change = after_marks(
            invoice, attempts, values, now=now, kind=kind, signals=signals, attempt=attempt, attempt_values=attempt_values,
            source=source,
        )  # fmt: skip
        event = _write(
            change, invoice, attempt, source, reason=reason, user=user, data=data, also=also, where=attempt_where
        )  # fmt: skip
        return Applied(change.verdict, invoice, attempt, event)

    return retry(operate_once)


# Every event is a version of its own, so what is due is known here for the moment of the compare-and-swap as well.
_due = InvoiceEvent.objects.filter(invoice_id=OuterRef("invoice_id"), due_at__isnull=False)
_attempts = PaymentAttempt.objects.select_related("invoice").annotate(has_due_events=Exists(_due))
_by_reference = Reading(
    lambda reference, account: _attempts.filter(reference=reference, account=account),
    reference="reference",
    account="account",
)
_by_pk = Reading(lambda pk: _attempts.filter(pk=pk), pk=-1)
_siblings = Reading(lambda invoice: PaymentAttempt.objects.filter(invoice_id=invoice).order_by("pk"), invoice=-1)
_receipts = Reading(
    lambda account, digest: CallbackReceipt.objects.filter(account=account, digest=digest), account="account", digest="digest"
)
_transfers = Reading(lambda attempt: Transfer.objects.filter(attempt_id=attempt).order_by("pk"), attempt=-1)


def refuse_transaction():
    """Raises ``RuntimeError`` inside of an outer transaction: what is about to call a gateway commits before and after."""
    blocks = transaction.get_connection().atomic_blocks
    if blocks and not blocks[-1]._from_testcase:  # the rule of atomic(durable=True), before anything is read
        raise RuntimeError("a gateway is called between two commits: not inside transaction.atomic()")


def retry(once, callback=None):
    """Runs ``once`` until it neither lost a race nor met trouble of the database that passes."""
    nested = connection.in_atomic_block
    for attempt in range(TRIES):
        if attempt:
            time.sleep(random.uniform(0, 0.02 * 2**attempt))
        try:
            return once()
        except Lost:
            continue
        except Known:
            if count_again(callback):
                return Applied(Verdict.UNCHANGED, duplicate=True)
            callback.known = True
        except (OperationalError, InterfaceError):
            if nested or attempt == TRIES - 1:
                raise
            connection.close_if_unusable_or_obsolete()
    raise Conflict("others kept changing the invoice first; try again")


def _write(
    change, invoice, attempt, source, *, callback=None, user=None, reason="", data=None, also=None, only=False, where=None
):  # fmt: skip
    """One version of the invoice, in one transaction; the rows in memory follow. Raises ``Lost`` or ``Known``."""
    old_status = invoice.status
    with transaction.atomic():
        receipt = file(callback, RECEIPT_VERDICT[change.verdict], change.reason, attempt=attempt) if callback else None
        _swap(invoice, change.invoice)
        _write_attempt(change, attempt, where)
        if also:
            also(invoice)
        event = write_event(
            invoice, attempt=attempt, kind=change.kind, old_status=old_status, signals=change.signals, source=source,
            user=user, reason=reason or change.reason, receipt=receipt, data=data or {}, one_shot=change.one_shot, only=only,
        )  # fmt: skip
        if "invoice_review_required" in change.signals:
            transaction.on_commit(lambda: delivery.notify("review", invoice, invoice.review_reason), robust=True)
    for name, value in change.attempt.items():
        setattr(attempt, name, value)
    return event


def _swap(invoice, values):
    """Compare-and-swap on the version. Raises ``Lost``."""
    version = invoice.version + 1
    if not update(Invoice, {"pk": invoice.pk, "version": invoice.version}, {"version": version, **values}):
        raise Lost
    invoice.version = version
    for name, value in values.items():
        setattr(invoice, name, value)


def write_event(invoice, *, kind, old_status, signals, source, deliver=True, only=False, **fields):
    """The event row of the invoice's current version, in the caller's transaction. ``deliver`` and ``only``: see ``publish``."""
    event = InvoiceEvent(
        invoice=invoice,
        version=invoice.version,
        kind=kind,
        old_status=old_status,
        new_status=invoice.status,
        signals=[name for name in DURABLE if name in signals],  # in their fixed order
        source=source.value,
        **fields,
    )
    publish(event, deliver=deliver, only=only)
    return event


def publish(event, *, holder="", deliver=True, only=False):
    """Inserts an event, in the caller's transaction, due for the receivers of its signals.

    With ``deliver`` they are called right after the commit, unless a worker does it; ``only`` says that no older event is
    due. Several events of one transaction share a ``holder`` (``delivery.hold()``), and only the last is to ``deliver``.
    """
    event.created_at = timezone.now()
    wanted = delivery.is_wanted(event)
    inline = wanted and conf.settings().dispatch == "inline"
    if inline:
        event.holder = holder or delivery.hold()
    if wanted:
        event.due_at = event.created_at + delivery.LEASE if inline else event.created_at
    insert(event)
    if inline and deliver:
        transaction.on_commit(lambda: delivery.deliver(type(event.owner), event.owner.pk, event, only=only), robust=True)


def _note(applied, change, callback):
    """Files what brought no change of facts: a receipt, a new wording, more confirmations. No version, no event."""
    if callback and count_again(callback):
        applied.duplicate = True
        return applied
    with transaction.atomic():
        if callback:
            file(callback, RECEIPT_VERDICT[change.verdict], change.reason, attempt=applied.attempt)
        _write_attempt(change, applied.attempt)
    for name, value in change.attempt.items():
        setattr(applied.attempt, name, value)
    return applied


def _write_attempt(change, attempt, where=None):
    """Raises ``Lost`` where ``where`` does not hold any more."""
    if change.attempt and not update(PaymentAttempt, {"pk": attempt.pk, **(where or {})}, change.attempt) and where:
        raise Lost
    write_transfers(change.new_transfers, change.seen_transfers, attempt=attempt)


def write_transfers(new, seen, **owner):
    """Inserts what is ``new`` (``RemoteTransfer``) of an attempt or a static address, and updates what was ``seen`` before
    (pairs of row and values). Returns the new rows."""
    rows = [
        Transfer(
            key=transfer.key[:KEY_LENGTH],
            tx_hash=transfer.tx_hash[:190],
            amount=transfer.amount,
            currency=transfer.currency[:32],
            network=transfer.network[:64],
            value=transfer.value,
            address=transfer.address[:255],
            sender=transfer.sender[:255],
            confirmations=transfer.confirmations,
            confirmed=transfer.confirmed,
            explorer_url=transfer.explorer_url,
            paid_at=transfer.paid_at,
            **owner,
        )
        for transfer in new
    ]
    for row in rows:
        insert(row)
    for row, values in seen:
        update(Transfer, {"pk": row.pk}, values)
        for name, value in values.items():
            setattr(row, name, value)
    return rows


def file(callback, verdict, reason, *, attempt=None, static_address=None):
    """The receipt of a callback, as the first write of the transaction. Raises ``Known`` when it was filed before."""
    if callback.known:
        stored = CallbackReceipt.objects.filter(account=callback.account, digest=callback.digest)
        values = {"verdict": verdict, "reason": reason, "attempt": attempt, "static_address": static_address}
        if not stored.exclude(verdict__in=ENDING).update(seen=F("seen") + 1, **values):
            raise Known
        return stored.get()
    receipt = CallbackReceipt(
        account=callback.account,
        digest=callback.digest,
        body=callback.body,
        headers=callback.headers,
        reference=callback.reference,
        attempt=attempt,
        static_address=static_address,
        verdict=verdict,
        reason=reason,
        received_at=callback.received_at,
    )
    try:
        insert(receipt)
    except IntegrityError:
        raise Known from None  # the whole transaction rolls back; the next round starts from the stored receipt
    return receipt


def file_receipt(callback, verdict, *, reason="", **owner):
    """Files a callback that changes nothing, with a verdict of ``CallbackReceipt``; a known one is counted.

    ``owner`` is ``attempt`` or ``static_address``, or neither.
    """

    def file_once():
        with transaction.atomic():
            file(callback, verdict, reason, **owner)

    retry(file_once, callback)


def count_again(callback):
    """Whether this callback was filed with an ending verdict before; counts it. On SQLite, where one writer excludes
    all others, nothing is written, so that a duplicate is answered while a receiver still runs."""
    known = _receipts(account=callback.account, digest=callback.digest)
    if not known or known[0].verdict not in ENDING:
        return False
    if connection.vendor != "sqlite":
        update(CallbackReceipt, {"pk": known[0].pk}, {}, adding={"seen": 1})
    return True
