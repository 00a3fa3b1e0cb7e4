"""Asks a gateway about one attempt and applies the answer."""

from datetime import timedelta

from django.utils import timezone

from . import attempts, conf, ledger
from .exceptions import GatewayError
from .models import PaymentAttempt
from .providers.base import Capability, Kind, Remote
from .statuses import AttemptState

__all__ = ["CREATING_FOR", "poll"]

CREATING_FOR = timedelta(seconds=60)  # an attempt that is "creating" for longer has lost its process


def poll(attempt, *, timeout=None):
    """Asks the gateway about one attempt and applies the answer: a ``ledger.Applied``, or None with nothing to ask for.

    An attempt whose creation is in doubt is looked up by our reference. ``timeout`` bounds the call in seconds, with one
    try. Raises ``GatewayError``; the failure is noted on the attempt.
    """
    now = timezone.now()
    provider = conf.provider_for(attempt.account)
    in_doubt = not attempt.gateway_id and attempt.state in (AttemptState.CREATING, AttemptState.UNKNOWN)
    try:
        evidence = _find(provider, attempt) if in_doubt else _fetch(provider, attempt, timeout)
    except GatewayError as error:
        attempt.poll_failures += 1
        _note_poll(attempt, provider, now, poll_failures=attempt.poll_failures, poll_error=str(error)[:2000])
        raise
    applied = None
    if evidence is not None:
        applied = ledger.apply(evidence, attempt_id=attempt.pk, since_version=attempt.invoice.version)
        attempt = applied.attempt
        attempt.poll_failures = 0
    _note_poll(attempt, provider, now, poll_failures=0, poll_error="")
    return applied


def _fetch(provider, attempt, timeout):
    if not attempt.gateway_id:
        return None
    remote = Remote(Kind(attempt.kind), attempt.gateway_id, attempt.reference)
    return provider.fetch(remote, timeout=timeout) if timeout else provider.fetch(remote)


def _find(provider, attempt):
    """What became of a create call whose answer was lost, where the gateway can tell."""
    if attempt.state == AttemptState.CREATING and timezone.now() - attempt.created_at < CREATING_FOR:
        return None
    attempts.mark_unknown(attempt, "the process that called the gateway did not come back")
    if not provider.supports(Capability.LOOKUP_BY_REFERENCE):
        return None
    return provider.find(attempt.reference, amount=attempt.amount, currency=attempt.currency, created_at=attempt.created_at)


def _note_poll(attempt, provider, now, **values):
    PaymentAttempt.objects.filter(pk=attempt.pk).update(
        polled_at=now, next_poll_at=attempts.next_poll(attempt, provider.watch, now), **values
    )
