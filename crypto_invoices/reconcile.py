"""Polls what is due, lets our clock expire what the gateway leaves open, and takes up what was left lying.

Due attempts and static addresses are claimed in small portions, so that memory stays bounded and several processes share the
work; threads ask the gateways, and the calling thread alone touches the database.
"""

import logging
import random
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from queue import SimpleQueue
from types import ModuleType

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Exists, OuterRef
from django.utils import timezone

from . import conf, deposits, ledger, polling, polls
from .exceptions import CryptoInvoicesError, GatewayPaused
from .models import CallbackReceipt, PaymentAttempt, StaticAddress
from .providers.base import Evidence, Kind, Remote
from .statuses import AttemptState, InvoiceStatus, Source, Verdict

__all__ = ["Report", "count_due", "due_attempts", "reconcile", "unmatched_receipts"]

logger = logging.getLogger("crypto_invoices.reconcile")

EXPIRY_MARGIN = timedelta(minutes=15)  # between expires_at and the moment when our clock may say "expired"
PORTION = 100  # rows claimed at once
CLAIMED_FOR = timedelta(minutes=5)  # then others may take a claimed row, since its process must have died
WRITTEN_AT_ONCE = 200  # polls that brought nothing new
WRITTEN_AFTER = timedelta(seconds=60)  # at the latest
FIRST_RETRY = timedelta(minutes=5)  # of what cannot be polled for a mistake in the settings


@dataclass(slots=True)
class Report:
    """Counts of one run: attempts and static addresses polled, of them changed and failed; left for later since their
    gateway failed too often; attempts that our clock expired."""

    polled: int = 0
    changed: int = 0
    failed: int = 0
    paused: int = 0
    expired: int = 0


def due_attempts(now=None):
    """The attempts whose poll is due, the longest overdue first."""
    return PaymentAttempt.objects.filter(next_poll_at__lte=now or timezone.now()).order_by("next_poll_at", "pk")


def count_due():
    """How many attempts and static addresses are due."""
    return due_attempts().count() + deposits.due_static_addresses().count()


@dataclass(frozen=True, slots=True)
class Work:
    """What is polled: ``how`` is the room that asks about a row and takes the answer, ``due(now)`` the rows, longest first."""

    how: ModuleType
    due: Callable
    related: tuple = ()


ATTEMPTS = Work(polling, due_attempts, ("invoice", "transfers"))
STATIC_ADDRESSES = Work(deposits, deposits.due_static_addresses)


def reconcile(*, limit=None, concurrency=1, progress=None, stopped=lambda: False):
    """Polls every attempt and static address that is due now, at most ``limit``, ``concurrency`` at a time.

    ``progress(row)`` is called after each; no further one is begun once ``stopped()`` is true. Returns a ``Report``.
    """
    run = _Run()
    answers = SimpleQueue()
    waiting = 0
    with ThreadPoolExecutor(concurrency, thread_name_prefix="crypto_invoices") as threads:
        for work, row in _claimed(limit, stopped):
            try:
                provider = conf.provider_for(row.account)
            except ImproperlyConfigured as error:
                run.skip(row, error)
                continue
            threads.submit(_ask, work, provider, row, answers)
            waiting += 1
            while waiting >= 2 * concurrency - 1:  # the next questions wait already when a thread is free
                waiting -= 1
                run.take(*answers.get(), progress)
        for _ in range(waiting):
            run.take(*answers.get(), progress)
    run.write()
    return run.report


def _claimed(limit, stopped):
    """Pairs of ``Work`` and row of all that is due when this begins, each handed to one process only."""
    now = timezone.now()
    left = limit
    for work in (ATTEMPTS, STATIC_ADDRESSES):
        while due := list(work.due(now).values_list("pk", flat=True)[: PORTION if left is None else min(PORTION, left)]):
            mine = _claim(work, due, now)
            for row in mine:
                if stopped():
                    return
                yield work, row
            left = None if left is None else left - len(mine)


def _claim(work, due, now):
    """Those of the due rows that no other process was faster to take."""
    until = timezone.now() + CLAIMED_FOR + timedelta(microseconds=random.randrange(1_000_000))  # a time of our own
    rows = work.due().model.objects.filter(pk__in=due)
    rows.filter(next_poll_at__lte=now).update(next_poll_at=until)
    return list(rows.filter(next_poll_at=until).prefetch_related(*work.related).order_by("pk"))


def _ask(work, provider, row, answers):
    """Runs in a thread; whatever happens is put into ``answers``."""
    started_at, answer = timezone.now(), None
    try:
        answer = work.how.ask(provider, row)
    except Exception as error:
        answer = error
    answers.put((work, provider, row, answer, started_at))


class _Run:
    """Takes the answers in. Those that bring nothing new are kept and written together."""

    def __init__(self):
        self.report = Report()
        self.kept = defaultdict(list)  # (work, claimed until, interval until the next poll, whether it was asked) -> rows
        self.kept_since = None

    def skip(self, row, error):
        """A row of an account that is not to be had."""
        self.report.polled += 1
        self.report.failed += 1
        logger.error("%s of account %s cannot be polled: %s", row.reference, row.account, error)
        polls.note_failure(row, error, lambda row: polls.backed_off(FIRST_RETRY, row.poll_failures))

    def take(self, work, provider, row, answer, started_at, progress):
        try:
            self._take(work, provider, row, answer, started_at)
        except CryptoInvoicesError as error:
            self.report.failed += 1
            logger.warning("poll of %s failed: %s", row.reference, error)
        except Exception:
            self.report.failed += 1
            logger.exception("poll of %s failed", row.reference)
        if progress:
            progress(row)

    def _take(self, work, provider, row, answer, started_at):
        if isinstance(answer, GatewayPaused):
            self.report.paused += 1
            return self._keep(work, row, timedelta(seconds=round(answer.seconds)), asked=False)
        self.report.polled += 1
        if isinstance(answer, Exception):
            work.how.note_failure(row, provider, answer, started_at)
            raise answer
        if answer is not None and work.how.says_nothing_new(row, answer):
            row.poll_failures = 0
            self._keep(work, row, work.how.poll_interval(row, provider.watch, started_at))
        else:
            applied = work.how.take(row, provider, answer, started_at)
            self.report.changed += applied is not None and applied.verdict is Verdict.APPLIED
            row = applied.attempt if applied is not None and work is ATTEMPTS else row
        if work is ATTEMPTS and _has_run_out(row, provider):
            ledger.apply(_expired(row), attempt_id=row.pk, since_version=row.invoice.version)
            self.report.expired += 1

    def _keep(self, work, row, interval, *, asked=True):
        self.kept[work, row.next_poll_at, interval, asked].append(row)
        now = timezone.now()
        self.kept_since = self.kept_since or now
        if sum(map(len, self.kept.values())) >= WRITTEN_AT_ONCE or now - self.kept_since > WRITTEN_AFTER:
            self.write()

    def write(self):
        for (_, until, interval, asked), rows in self.kept.items():
            values = {"polled_at": timezone.now(), "poll_failures": 0, "poll_error": ""} if asked else {}
            polls.note(rows, until, interval, **values)
        self.kept.clear()
        self.kept_since = None


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
    """Callbacks that named nothing of ours when they came, and whose attempt or static address is there now, as after a
    restored backup."""
    same = {"reference": OuterRef("reference"), "account": OuterRef("account")}
    named = Exists(PaymentAttempt.objects.filter(**same)) | Exists(StaticAddress.objects.filter(**same))
    return CallbackReceipt.objects.filter(named, verdict=CallbackReceipt.Verdict.UNMATCHED)
