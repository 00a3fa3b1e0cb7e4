"""Polls what is due, lets our clock expire what the gateway leaves open, and takes up what was left lying."""

import logging
from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone

from . import conf, ledger
from .exceptions import CryptoInvoicesError, GatewayError
from .models import CallbackReceipt, PaymentAttempt
from .polling import CREATING_FOR, poll
from .providers.base import Evidence, Kind, Remote
from .statuses import AttemptState, InvoiceStatus, Source, Verdict

__all__ = ["Report", "due_attempts", "reconcile", "unmatched_receipts"]

logger = logging.getLogger("crypto_invoices.reconcile")

EXPIRY_MARGIN = timedelta(minutes=15)  # between expires_at and the moment when our clock may say "expired"


@dataclass(slots=True)
class Report:
    """Counts of one run: attempts polled, of them changed and failed; attempts that our clock expired."""

    polled: int = 0
    changed: int = 0
    failed: int = 0
    expired: int = 0


def due_attempts(now=None):
    """The attempts whose poll is due, the longest overdue first, and those whose creation never came to an end."""
    now = now or timezone.now()
    due = PaymentAttempt.objects.filter(next_poll_at__lte=now)
    lost = PaymentAttempt.objects.filter(
        state=AttemptState.CREATING, next_poll_at__isnull=True, created_at__lte=now - CREATING_FOR
    )
    return (due | lost).select_related("invoice").order_by("next_poll_at", "pk")


def reconcile(*, limit=None, progress=None):
    """Polls every due attempt, one after the other; ``progress(attempt)`` is called after each. Returns a ``Report``."""
    report = Report()
    for pk in list(due_attempts().values_list("pk", flat=True)[:limit]):
        attempt = PaymentAttempt.objects.select_related("invoice").get(pk=pk)
        try:
            _reconcile_one(attempt, report)
        except CryptoInvoicesError as error:
            report.failed += 1
            logger.warning("poll of attempt %s failed: %s", attempt.reference, error)
        except Exception:
            report.failed += 1
            logger.exception("poll of attempt %s failed", attempt.reference)
        if progress:
            progress(attempt)
    return report


def _reconcile_one(attempt, report):
    report.polled += 1
    try:
        applied = poll(attempt)
    except GatewayError:
        report.failed += 1
        logger.warning("attempt %s of account %s could not be polled", attempt.reference, attempt.account)
        return
    if applied is not None and applied.verdict is Verdict.APPLIED:
        report.changed += 1
    attempt = PaymentAttempt.objects.select_related("invoice").get(pk=attempt.pk)
    if _has_run_out(attempt):
        ledger.apply(_expired(attempt), attempt_id=attempt.pk, since_version=attempt.invoice.version)
        report.expired += 1


def _has_run_out(attempt):
    """Whether our clock may propose "expired": after the margin, right after a poll, with no money seen and no hold."""
    return (
        conf.provider_for(attempt.account).expires_locally
        and attempt.state in (AttemptState.OPEN, AttemptState.SUPERSEDED)
        and attempt.status == InvoiceStatus.PENDING
        and not attempt.first_money_at
        and not attempt.on_hold
        and attempt.expires_at is not None
        and timezone.now() > attempt.expires_at + EXPIRY_MARGIN
    )


def _expired(attempt):
    return Evidence(
        source=Source.TIMER,
        remote=Remote(Kind(attempt.kind), attempt.gateway_id, attempt.reference),
        word=attempt.gateway_status,
        status=InvoiceStatus.EXPIRED,
    )


def unmatched_receipts():
    """Callbacks that named no attempt when they came, and whose attempt is there now, as after a restored backup."""
    references = PaymentAttempt.objects.values("reference")
    return CallbackReceipt.objects.filter(verdict=CallbackReceipt.Verdict.UNMATCHED, reference__in=references)
