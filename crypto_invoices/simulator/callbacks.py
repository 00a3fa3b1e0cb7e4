"""Callbacks as rows: written with the change that they tell of, delivered later, never inside a transaction."""

import ipaddress
import logging
import socket
from datetime import timedelta
from urllib.parse import urlsplit

import requests
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from . import conf, misbehaviour, registry
from .errors import BadField
from .models import CallbackJob, Delivery

logger = logging.getLogger(__name__)

ANSWER_LIMIT = 1000
_TICK = timedelta(microseconds=1)


def enqueue(payment, word, body, headers, now, url=None):
    """Write down a callback that is due now, bent by the switches; to ``callback_url`` or ``url``, nothing without one."""
    url = payment.callback_url if url is None else url
    if not url:
        return
    gateway = payment.gateway
    job = {"payment": payment, "word": word, "url": url, "body": body, "headers": headers, "due_at": now}
    if misbehaviour.take(gateway, "callback_drop"):
        CallbackJob.objects.create(**job, state=CallbackJob.DROPPED)
        return
    job["due_at"] += timedelta(seconds=float(misbehaviour.take(gateway, "callback_delay") or 0))
    times = int(misbehaviour.take(gateway, "callback_duplicate") or 1)
    held = CallbackJob.objects.filter(payment=payment, state=CallbackJob.HELD)
    first = held.first()
    together = first.release_at if first else misbehaviour.take(gateway, "callback_reorder")
    if together:
        job |= {"state": CallbackJob.HELD, "release_at": int(together)}
    for _ in range(times):
        CallbackJob.objects.create(**job)
    if together and len({bytes(body) for body in held.values_list("body", flat=True)}) >= together:
        _release(held)


def release_held(gateway):
    """Let go what the reorder switch still holds, each payment's last callback first."""
    held = CallbackJob.objects.filter(payment__gateway=gateway, state=CallbackJob.HELD)
    for payment in set(held.values_list("payment", flat=True)):
        _release(held.filter(payment=payment))


def _release(held):
    jobs = list(held.order_by("-pk"))
    latest = max(job.due_at for job in jobs)
    for place, job in enumerate(jobs):
        job.due_at = latest - (len(jobs) - place) * _TICK  # never later than now, so that one round delivers all
        job.state = CallbackJob.WAITING
        job.save(update_fields=["due_at", "state"])


def resend(payment, order=None, times=1, now=None):
    """Send the last callback of each word again, in that order (default: as they were made), all of it ``times`` times."""
    last = {job.word: job for job in payment.jobs.all()}
    order = list(last) if order is None else order
    if not isinstance(order, list) or not all(isinstance(word, str) and word in last for word in order):
        raise BadField("order", f"a list of words that were sent: {', '.join(last) or 'none yet'}")
    if isinstance(times, bool) or not isinstance(times, int) or not 1 <= times <= 100:
        raise BadField("times", "a whole number from 1 to 100")
    due = now or timezone.now()
    for word in order * times:
        job = last[word]
        CallbackJob.objects.create(payment=payment, word=word, url=job.url, body=job.body, headers=job.headers, due_at=due)


def deliver_due(now=None):
    """Deliver every callback that is due; how many attempts were made."""
    return len(attempt_due(now))


def attempt_due(now=None):
    """Deliver every callback that is due, in order; the ``Delivery`` rows."""
    now = now or timezone.now()
    due = CallbackJob.objects.filter(state=CallbackJob.WAITING, due_at__lte=now).order_by("due_at", "pk")
    return [_attempt(pk, now) for pk in list(due.values_list("pk", flat=True)) if _claim(pk, now)]


def _claim(pk, now):
    # The moved date is a lease: nobody else takes the job meanwhile, and it comes back if this process dies.
    lease = timedelta(seconds=float(conf.get("CALLBACK_TIMEOUT")) + 30)
    with transaction.atomic(durable=True):
        job = CallbackJob.objects.filter(pk=pk, state=CallbackJob.WAITING, due_at__lte=now)
        return job.update(due_at=now + lease, attempts=F("attempts") + 1)


def _attempt(pk, now):
    job = CallbackJob.objects.select_related("payment").get(pk=pk)
    gateway = registry.find(job.payment.gateway)
    sent_at = timezone.now()
    status, answer = _send(job)
    accepted = gateway.callback_accepted(status, answer)
    if accepted:
        job.state = CallbackJob.DONE
    elif job.attempts > len(gateway.retry_delays):
        job.state = CallbackJob.FAILED
    else:
        job.due_at = now + timedelta(seconds=gateway.retry_delays[job.attempts - 1] * float(conf.get("TIME_SCALE")))
    with transaction.atomic(durable=True):
        job.save(update_fields=["state", "due_at"])
        return Delivery.objects.create(
            job=job, attempt=job.attempts, http_status=status, answer=answer, accepted=accepted, sent_at=sent_at
        )


def _send(job):
    obstacle = unreachable(job.url)
    if obstacle:
        return None, f"not sent: {obstacle}"
    with requests.Session() as session:
        session.trust_env = False  # a proxy of the environment must not see what goes to a loopback address
        try:
            response = session.post(
                job.url,
                data=bytes(job.body),
                headers={"Content-Type": "application/json", **registry.find(job.payment.gateway).callback_headers(job)},
                timeout=float(conf.get("CALLBACK_TIMEOUT")),
                allow_redirects=False,
            )
        except requests.RequestException as error:
            logger.info("callback %s of %s failed: %s", job.word, job.payment, type(error).__name__)
            return None, f"no answer: {type(error).__name__}"
    return response.status_code, response.text[:ANSWER_LIMIT]


def unreachable(url):
    """Why a gateway would not call this URL, "" where it would: https to a public address, or any loopback address."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "not a URL"
    if parts.scheme not in ("http", "https") or not host:
        return "not an http(s) URL"
    if conf.get("ALLOW_ANY_CALLBACK"):
        return ""
    try:
        found = {ipaddress.ip_address(entry[4][0]) for entry in socket.getaddrinfo(host, port or 443, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return "the host name does not resolve"
    if all(address.is_loopback for address in found):
        return ""
    if parts.scheme != "https":
        return "plain http"
    return "" if all(address.is_global for address in found) else "a private network"
