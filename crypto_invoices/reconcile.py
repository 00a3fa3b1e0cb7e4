"""Polls what is due, lets our clock expire what the gateway leaves open, and takes up what was left lying.

Due attempts are claimed in small portions, so that memory stays bounded and several processes share the work; threads ask
the gateways, and the calling thread alone touches the database.
"""

import logging
import random
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from queue import SimpleQueue

from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from . import attempts, conf, ledger, polling
from .exceptions import CryptoInvoicesError, GatewayError, GatewayPaused
from .models import CallbackReceipt, PaymentAttempt
from .providers.base import Evidence, Kind, Remote
from .statuses import AttemptState, InvoiceStatus, Source, Verdict

__all__ = ["Report", "due_attempts", "reconcile", "unmatched_receipts"]

logger = logging.getLogger("crypto_invoices.reconcile")

EXPIRY_MARGIN = timedelta(minutes=15)  # between expires_at and the moment when our clock may say "expired"
PORTION = 100  # attempts claimed at once
CLAIMED_FOR = timedelta(minutes=5)  # then others may take a claimed attempt, since its process must have died
WRITTEN_AT_ONCE = 200  # polls that brought nothing new


@dataclass(slots=True)
class Report:
    """Counts of one run: attempts polled, of them changed and failed; left for later since their gateway failed too often;
    attempts that our clock expired."""

    polled: int = 0
    changed: int = 0
    failed: int = 0
    paused: int = 0
    expired: int = 0


def due_attempts(now=None):
    """The attempts whose poll is due, the longest overdue first."""
    return PaymentAttempt.objects.filter(next_poll_at__lte=now or timezone.now()).order_by("next_poll_at", "pk")


def reconcile(*, limit=None, concurrency=1, progress=None, stopped=lambda: False):
    """Polls every attempt that is due now, at most ``limit``, ``concurrency`` at a time. Returns a ``Report``.

    ``progress(attempt)`` is called after each; no further attempt is begun once ``stopped()`` is true.
    """
    run = _Run()
    answers = SimpleQueue()
    waiting = 0
    with ThreadPoolExecutor(concurrency, thread_name_prefix="crypto_invoices") as threads:
        for attempt in _claimed(limit, stopped):
            try:
                provider = conf.provider_for(attempt.account)
            except ImproperlyConfigured as error:
                run.skip(attempt, error)
                continue
            threads.submit(_ask, provider, attempt, answers)
            waiting += 1
            while waiting >= 2 * concurrency - 1:  # the next questions wait already when a thread is free
                waiting -= 1
                run.take(*answers.get(), progress)
        for _ in range(waiting):
            run.take(*answers.get(), progress)
    run.write()
    return run.report


def _claimed(limit, stopped):
    """The attempts that are due when this begins, each handed to one process only."""
    now = timezone.now()
    left = limit
    while due := list(due_attempts(now).values_list("pk", flat=True)[: PORTION if left is None else min(PORTION, left)]):
        mine = _claim(due, now)
        for attempt in mine:
            if stopped():
                return
            yield attempt
        left = None if left is None else left - len(mine)


def _claim(due, now):
    """Those of the due attempts that no other process was faster to take."""
    until = timezone.now() + CLAIMED_FOR + timedelta(microseconds=random.randrange(1_000_000))  # a time of our own
    PaymentAttempt.objects.filter(pk__in=due, next_poll_at__lte=now).update(next_poll_at=until)
    mine = PaymentAttempt.objects.filter(pk__in=due, next_poll_at=until)
    return list(mine.select_related("invoice").prefetch_related("transfers").order_by("pk"))


def _ask(provider, attempt, answers):
    """Runs in a thread; whatever happens is put into ``answers``."""
    started_at, answer = timezone.now(), None
    try:
        answer = polling.ask(provider, attempt)
    except Exception as error:
        answer = error
    answers.put((provider, attempt, answer, started_at))


class _Run:
    """Takes the answers in. Those that bring nothing new are kept and written together."""

    def __init__(self):
        self.report = Report()
        self.kept = defaultdict(list)  # (interval until the next poll, whether it was asked) -> [(attempt, started_at)]

    def skip(self, attempt, error):
        self.report.polled += 1
        self.report.failed += 1
        logger.error("attempt %s of account %s cannot be polled: %s", attempt.reference, attempt.account, error)

    def take(self, provider, attempt, answer, started_at, progress):
        try:
            self._take(provider, attempt, answer, started_at)
        except CryptoInvoicesError as error:
            self.report.failed += 1
            logger.warning("poll of attempt %s failed: %s", attempt.reference, error)
        except Exception:
            self.report.failed += 1
            logger.exception("poll of attempt %s failed", attempt.reference)
        if progress:
            progress(attempt)

    def _take(self, provider, attempt, answer, started_at):
        if isinstance(answer, GatewayPaused):
            self.report.paused += 1
            return self._keep(attempt, started_at, timedelta(seconds=round(answer.seconds)), asked=False)
        self.report.polled += 1
        if isinstance(answer, GatewayError):
            polling.note_failure(attempt, provider, answer, started_at)
        if isinstance(answer, Exception):
            raise answer
        if answer is not None and polling.says_nothing_new(attempt, answer):
            attempt.poll_failures = 0
            self._keep(attempt, started_at, attempts.poll_interval(attempt, provider.watch, started_at))
        else:
            applied = polling.take(attempt, provider, answer, started_at)
            if applied is not None:
                attempt = applied.attempt
                self.report.changed += applied.verdict is Verdict.APPLIED
        if _has_run_out(attempt, provider):
            ledger.apply(_expired(attempt), attempt_id=attempt.pk, since_version=attempt.invoice.version)
            self.report.expired += 1

    def _keep(self, attempt, started_at, interval, *, asked=True):
        self.kept[interval, asked].append((attempt, started_at))
        if sum(map(len, self.kept.values())) >= WRITTEN_AT_ONCE:
            self.write()

    def write(self):
        for (interval, asked), polled in self.kept.items():
            values = {"polled_at": timezone.now(), "poll_failures": 0, "poll_error": ""} if asked else {}
            polling.note([attempt for attempt, _ in polled], interval, min(time for _, time in polled), **values)
        self.kept.clear()


def _has_run_out(attempt, provider):
    """Whether our clock may propose "expired": after the margin, right after a poll, with no money seen and no hold."""
    return (
        provider.expires_locally
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
