"""Looks whether an account would work: credentials, clock, and the way back for callbacks. Changes nothing anywhere."""

from dataclasses import dataclass
from datetime import timedelta

import requests
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from . import conf
from .exceptions import CryptoInvoicesError, GatewayError
from .models import new_reference
from .orders import callback_url

__all__ = ["Finding", "examine"]

SKEW = timedelta(seconds=60)  # beyond this a gateway's times and ours tell different stories
TIMEOUT = 5.0  # seconds for our own callback URL


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one account, each a text for people; ``healthy`` when nothing is wrong."""

    account: str
    gateway: str
    credentials: str
    clock: str
    callbacks: str
    healthy: bool


def examine(alias):
    """The ``Finding`` for an account: one harmless call at its gateway and one request to our own callback URL."""
    try:
        provider = conf.provider_for(alias)
    except ImproperlyConfigured as error:
        return Finding(alias, "-", str(error), "-", "-", False)
    credentials, clock, works, in_time = "accepted", "not told", True, True
    try:
        before = timezone.now()
        told = provider.probe()
        if told is not None:
            skew = _skew(told, before, timezone.now())
            in_time = abs(skew) <= SKEW
            clock = f"{skew.total_seconds():+.0f} s"
    except CryptoInvoicesError as error:
        credentials, works = _refusal(error), False
    callbacks = _callbacks(provider)
    return Finding(alias, provider.name, credentials, clock, callbacks or "reached", works and in_time and not callbacks)


def _refusal(error):
    """The gateway's words without account and gateway, which stand beside them."""
    if not isinstance(error, GatewayError):
        return str(error)
    facts = [f"HTTP {error.http_status}" if error.http_status else "", f"code {error.code}" if error.code else ""]
    told = ", ".join(filter(None, facts))
    return f"{error.text} [{told}]" if told else error.text


def _skew(told, before, after):
    """How far the gateway's clock, which knows whole seconds, is ahead of ours; 0 when it agrees within the call's time."""
    if told > after:
        return told - after
    return min(told + timedelta(seconds=1) - before, timedelta(0))


def _callbacks(provider):
    """Why our callback URL does not answer as seen from here, "" where it does: to a GET it says that it wants a POST."""
    try:
        url = callback_url(provider, new_reference())
    except ImproperlyConfigured as error:
        return str(error)
    try:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(url, timeout=TIMEOUT, allow_redirects=False, stream=True)
    except requests.RequestException as error:
        return f"not reached ({type(error).__name__})"
    if answer.status_code == 405 and answer.headers.get("Allow") == "POST":
        return ""
    return f"answered by something else (HTTP {answer.status_code})"
