"""Receives a gateway's callback: token, signature, binding, effect, answer. Knows no request and no response of Django's.

Nothing is read from the database, written or called before the signature is verified.
"""

import hashlib
import logging
import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

from django.core.exceptions import ImproperlyConfigured
from django.core.signing import BadSignature as BadToken
from django.utils import timezone
from django.utils.datastructures import CaseInsensitiveMapping

from . import conf, delivery, deposits, ledger, polling
from .attempts import flag
from .exceptions import BadSignature, Conflict, CryptoInvoicesError, MalformedCallback, MisdirectedCallback
from .models import CallbackReceipt, PaymentAttempt
from .orders import read_token
from .providers.base import Capability, Hint, Provider
from .signals import callback_rejected
from .statuses import AttemptState, Review, Verdict

__all__ = ["Answer", "Endpoint", "find_endpoint", "receive", "refuse", "replay"]

logger = logging.getLogger("crypto_invoices.callback")

STORED_AT_MOST = 1000  # unmatched or malformed receipts of one account
RETRY_AFTER = 60  # seconds
POLL_TIMEOUT = 5.0  # seconds, of a poll while the gateway waits for our answer
HINT_INTERVAL = timedelta(seconds=10)
LOGGED_A_MINUTE = 10  # lines of one kind, per process


@dataclass(frozen=True, slots=True)
class Answer:
    """The HTTP answer: status, body and, where it matters, content type and seconds until a retry."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain"
    retry_after: int | None = None


NOT_FOUND = Answer(404, b"not found")
FORBIDDEN = Answer(403, b"forbidden")
MALFORMED = Answer(400, b"malformed")
TRY_AGAIN = Answer(503, b"try again later", retry_after=RETRY_AFTER)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What the URL of a callback names: an account's provider and, by its token, one attempt or ("") the whole account."""

    provider: Provider
    reference: str


def find_endpoint(alias, token):
    """The ``Endpoint`` of a URL, or the ``Answer`` to a wrong one; reads settings only."""
    try:
        provider = conf.provider_for(alias)
        return Endpoint(provider, read_token(token, provider))
    except conf.UnknownAccount:
        _log_few(logging.INFO, "callback for an unknown account")
    except BadToken:
        _log_few(logging.INFO, "callback with an unknown token for account %s", alias)
    except ImproperlyConfigured as error:
        _log_few(logging.ERROR, "callback for account %s cannot be verified: %s", alias, error)
        return TRY_AGAIN
    return NOT_FOUND


def refuse(status, text):
    """The ``Answer`` to a request that is no callback at all; logged a few times a minute."""
    _log_few(logging.WARNING, f"callback refused: {text}")
    return Answer(status, text.encode())


def receive(endpoint, headers, body, *, url="", remote_addr=""):
    """Takes one callback in and returns the ``Answer``; never raises for anything that a sender can cause."""
    provider = endpoint.provider
    try:
        evidence = provider.verify(headers, body, url=url)
    except BadSignature as error:
        _reject(provider.alias, str(error), remote_addr)
        return FORBIDDEN
    except (MalformedCallback, MisdirectedCallback) as error:
        return _guarded(_take_unusable, provider, _callback(endpoint, headers, body), error)
    return _guarded(_take, provider, _callback(endpoint, headers, body), evidence)


def replay(receipt):
    """Processes a stored callback again, as if it arrived now, signature included. Returns the ``Answer``."""
    endpoint = Endpoint(conf.provider_for(receipt.account), receipt.reference)
    headers, body = CaseInsensitiveMapping(receipt.headers), bytes(receipt.body)
    if receipt.verdict == CallbackReceipt.Verdict.HINT and not endpoint.provider.supports(Capability.SIGNED_CALLBACKS):
        owner = receipt.attempt or receipt.static_address  # its signature, if there is a scheme, may be too old by now
        return _guarded(_ask_about, endpoint.provider, _callback(endpoint, headers, body), owner, Hint())
    return receive(endpoint, headers, body)


def _callback(endpoint, headers, body):
    names = endpoint.provider.signature_headers
    return ledger.Callback(
        account=endpoint.provider.alias,
        digest=hashlib.sha256(body).hexdigest(),
        body=body,
        headers={name: headers[name] for name in names if name in headers},
        reference=endpoint.reference,
        received_at=timezone.now(),
    )


def _guarded(step, provider, callback, *args):
    """A fault of ours is a 503, so that the gateway sends the callback again."""
    try:
        return step(provider, callback, *args)
    except Exception:  # a locked database, or a defect of ours
        logger.exception("callback of account %s could not be applied", callback.account)
        return TRY_AGAIN


def _take(provider, callback, evidence):
    if isinstance(evidence, Hint):
        return _take_hint(provider, callback, evidence)
    reference = callback.reference or evidence.remote.reference  # on the URL of a whole account the body alone names one
    applied = ledger.apply(evidence, reference=reference, account=callback.account, callback=callback)
    if applied is None:
        static_address = deposits.find(reference, callback.account)
        if static_address is None:
            return _take_unmatched(callback)
        applied = deposits.apply(evidence, static_address_id=static_address.pk, callback=callback)
    if applied.duplicate:
        logger.info("duplicate callback of account %s", callback.account)
        return _acknowledge(provider)  # without a sweep, which could wait for a receiver that is still running
    elif applied.verdict is Verdict.CHECK:
        _check(callback, applied)
    else:
        _log(callback, applied)
        named = applied.attempt or applied.static_address
        if applied.poll or named.next_poll_at is None:  # news of what was watched no longer
            _poll_soon(named)
    delivery.sweep_in_passing()
    return _acknowledge(provider)


def _acknowledge(provider):
    ack = provider.acknowledge()
    return Answer(ack.status, ack.body, ack.content_type)


def _check(callback, applied):
    """A callback that does not agree with what was ordered: the gateway's own record decides."""
    verdict, reason = CallbackReceipt.Verdict.QUARANTINED, applied.reason
    try:
        polled = polling.poll(applied.attempt, timeout=POLL_TIMEOUT)
    except Conflict:
        raise
    except CryptoInvoicesError:
        _poll_soon(applied.attempt)
    else:
        if polled is not None and polled.verdict is not Verdict.QUARANTINED:
            verdict, reason = CallbackReceipt.Verdict.APPLIED, f"{reason}; settled by a poll"
    ledger.file_receipt(callback, verdict, reason=reason, attempt=applied.attempt)
    logger.warning("callback of account %s %s: %s", callback.account, verdict, reason)


def _take_hint(provider, callback, hint):
    """An unsigned callback is worth one poll, at most once in ten seconds; what the gateway answers is the truth."""
    if not callback.reference and not hint.gateway_id:
        return _acknowledge(provider)  # the URL of a whole account hears of other things as well
    named = _hinted(callback, hint)
    if named is None:
        return _take_unmatched(callback)
    return _ask_about(provider, callback, named, hint)


def _ask_about(provider, callback, named, hint):
    now = timezone.now()
    rows = type(named).objects.filter(pk=named.pk)
    if isinstance(named, PaymentAttempt) and not named.gateway_id and hint.gateway_id:
        rows.filter(gateway_id="").update(hinted_id=hint.gateway_id)  # the next poll may be the one that gets through
    if not rows.exclude(hinted_at__gt=now - HINT_INTERVAL).update(hinted_at=now):
        _poll_soon(named)
        return _acknowledge(provider)
    ledger.file_receipt(callback, CallbackReceipt.Verdict.HINT, **_owner(named))
    poll = polling.poll if isinstance(named, PaymentAttempt) else deposits.poll
    try:
        poll(named, timeout=POLL_TIMEOUT, gateway_id=hint.gateway_id)
    except Conflict:
        raise
    except CryptoInvoicesError as error:
        logger.warning("hint of account %s: the poll failed: %s", callback.account, error)
        _poll_soon(named)
    delivery.sweep_in_passing()
    return _acknowledge(provider)


def _hinted(callback, hint):
    """What a hint is about: the token names it, or on the URL of a whole account the gateway's id, which is an attempt's."""
    if callback.reference:
        return _named(callback)
    attempts = PaymentAttempt.objects.select_related("invoice").filter(account=callback.account)
    attempt = attempts.filter(gateway_id=hint.gateway_id).first() if hint.gateway_id else None
    if attempt is None:  # it may be the one whose id we do not know yet: the gateway is asked for that by our reference
        attempts.filter(gateway_id="", state=AttemptState.UNKNOWN).update(next_poll_at=timezone.now())
    return attempt


def _named(callback):
    """The attempt or the static address whose URL was called, or None."""
    attempts = PaymentAttempt.objects.select_related("invoice")
    attempt = attempts.filter(reference=callback.reference, account=callback.account).first()
    return attempt or deposits.find(callback.reference, callback.account)


def _owner(named):
    return {"attempt" if isinstance(named, PaymentAttempt) else "static_address": named}


def _take_unusable(provider, callback, error):
    """A good signature over a body that cannot be read, or that belongs elsewhere: kept, and the gateway is asked."""
    named = _named(callback)
    if named is None:
        return _take_unmatched(callback)
    malformed = isinstance(error, MalformedCallback)
    verdict = CallbackReceipt.Verdict.MALFORMED if malformed else CallbackReceipt.Verdict.QUARANTINED
    _file_capped(callback, verdict, str(error), **_owner(named))
    _poll_soon(named)
    if not malformed and isinstance(named, PaymentAttempt):
        flag(named.invoice_id, f"{Review.MISFIT}: {error}")
    elif not malformed:
        delivery.notify("review", None, f"static address {named.uuid}: {Review.MISFIT}: {error}")
    logger.log(logging.ERROR if malformed else logging.WARNING, "%s callback of account %s: %s", verdict, callback.account, error)
    return MALFORMED if malformed else _acknowledge(provider)


def _take_unmatched(callback):
    _file_capped(callback, CallbackReceipt.Verdict.UNMATCHED, "nothing of ours has this reference")
    logger.warning("callback of account %s names nothing of ours", callback.account)
    return NOT_FOUND


def _file_capped(callback, verdict, reason, **owner):
    stored = CallbackReceipt.objects.filter(account=callback.account, verdict=verdict)
    if stored.count() < STORED_AT_MOST or stored.filter(digest=callback.digest).exists():
        ledger.file_receipt(callback, verdict, reason=reason, **owner)


def _poll_soon(named):
    type(named).objects.filter(pk=named.pk).update(next_poll_at=timezone.now())


def _log(callback, applied):
    if applied.verdict is Verdict.QUARANTINED:
        logger.warning("quarantined callback of account %s: %s", callback.account, applied.reason)
    elif applied.event is not None:
        logger.info("applied %s -> %s", applied.event.old_status, applied.event.new_status)
    else:
        logger.info("%s callback of account %s", applied.verdict, callback.account)


def _reject(alias, reason, remote_addr):
    _log_few(logging.WARNING, "callback for account %s rejected: %s", alias, reason)
    callback_rejected.send_robust(sender=None, account=alias, reason=reason, remote_addr=remote_addr)


_logged = Counter()
_logged_minute = 0


def _log_few(level, text, *args):
    """Logs what anybody can cause only a few times a minute, so that nobody can fill a disk."""
    global _logged_minute
    minute = int(time.monotonic() // 60)
    if minute != _logged_minute:
        _logged_minute = minute
        _logged.clear()
    _logged[text] += 1
    if _logged[text] <= LOGGED_A_MINUTE:
        logger.log(level, text, *args)
