"""Asks a gateway about one attempt and applies the answer."""

from dataclasses import replace
from datetime import timedelta

from django.utils import timezone

from . import attempts, conf, ledger, orders, polls
from .attempts import CREATING_FOR, poll_interval
from .changes import after_evidence
from .exceptions import GatewayError
from .providers.base import Capability, Kind, Remote
from .statuses import AttemptState

__all__ = ["ask", "note_failure", "poll", "poll_interval", "says_nothing_new", "take"]

DOUBT = timedelta(minutes=10)  # a look-up that finds nothing so long after a create call says that it made nothing


def poll(attempt, *, timeout=None, gateway_id=""):
    """Asks the gateway about one attempt and applies the answer: a ``ledger.Applied``, or None with nothing to ask for.

    An attempt whose creation is in doubt is looked up by our reference, or asked for under the ``gateway_id`` that a
    callback named; that binds only where the gateway echoes our reference. ``timeout`` bounds the call in seconds, with
    one try. Raises ``GatewayError``; the failure is noted on the attempt.
    """
    started_at = timezone.now()
    provider = conf.provider_for(attempt.account)
    version = attempt.invoice.version
    try:
        evidence = ask(provider, attempt, timeout=timeout, gateway_id=gateway_id)
    except GatewayError as error:
        note_failure(attempt, provider, error, started_at)
        raise
    return take(attempt, provider, evidence, started_at, version=version)


def ask(provider, attempt, *, timeout=None, gateway_id=""):
    """The gateway's ``Evidence``, None where there is nothing to ask for. Touches no database: any thread may run it."""
    gateway_id = attempt.gateway_id or gateway_id or attempt.hinted_id
    if gateway_id:
        return provider.fetch(Remote(Kind(attempt.kind), gateway_id, attempt.reference), timeout=timeout)
    if not _is_looked_up(provider, attempt):
        return None
    ordered = {"kind": Kind(attempt.kind), "amount": attempt.amount, "currency": attempt.currency}
    return provider.find(attempt.reference, **ordered, created_at=attempt.created_at)


def _is_looked_up(provider, attempt):
    """Whether it is not known what became of the create call, and the gateway can tell."""
    lost = attempt.state == AttemptState.CREATING and timezone.now() - attempt.created_at >= CREATING_FOR
    return (lost or attempt.state == AttemptState.UNKNOWN) and provider.supports(Capability.LOOKUP_BY_REFERENCE)


def take(attempt, provider, evidence, started_at, *, version=None):
    """Applies an answer to a question asked at ``started_at``, when the invoice had this ``version``, and notes the poll.

    Returns as ``poll`` does.
    """
    version = attempt.invoice.version if version is None else version
    _end_creating(attempt)
    expected, applied = attempt.next_poll_at, None
    if evidence is not None:
        evidence = replace(evidence, payment_url=orders.safe_page(provider, evidence.payment_url))
        applied = ledger.apply(evidence, attempt_id=attempt.pk, since_version=version)
        attempt = applied.attempt
    elif _is_looked_up(provider, attempt) and started_at > attempt.created_at + DOUBT:
        attempts.refuse(attempt, "the gateway knows no payment with our reference")
        expected = attempt.next_poll_at
    attempt.poll_failures = 0
    interval = poll_interval(attempt, provider.watch, started_at)
    known = attempt.gateway_id or attempt.hinted_id or provider.supports(Capability.LOOKUP_BY_REFERENCE)
    if attempt.state == AttemptState.UNKNOWN and not known:
        interval = None  # only a callback can say more
    polls.note([attempt], expected, interval, polled_at=timezone.now(), poll_failures=0, poll_error="")
    return applied


def note_failure(attempt, provider, error, started_at):
    """Notes that the gateway could not be asked, and asks less often the more often that happens."""
    _end_creating(attempt)
    polls.note_failure(attempt, error, lambda row: poll_interval(row, provider.watch, started_at))


def says_nothing_new(attempt, evidence):
    """Whether an answer agrees with all that is known of the attempt, so that only the poll's time is worth writing."""
    if attempt.invoice.attempt_count > 1:
        return False  # what it means depends on the other attempts as well
    change = after_evidence(
        attempt.invoice, [attempt], attempt, evidence, list(attempt.transfers.all()), now=timezone.now()
    )  # fmt: skip
    return not (change.is_event or change.seen_transfers or change.poll or set(change.attempt) - {"raw"})


def _end_creating(attempt):
    if attempt.state == AttemptState.CREATING and timezone.now() - attempt.created_at >= CREATING_FOR:
        attempts.mark_unknown(attempt, "the process that called the gateway did not come back")
