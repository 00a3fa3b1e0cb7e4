"""The one outbound HTTP client: bounded in time and size, strict about answers, silent about secrets.

What a failed call means for money decides the error's type. ``GatewayUnavailable``: surely without effect (not
delivered, or HTTP 429; a reading call that was answered 5xx). ``GatewayRefused``: a 4xx. ``GatewayUncertain``: anything
that happened after the first byte of the request had left and is no readable answer. A POST is never sent twice.
``GatewayPaused``: the account's circuit breaker is open and nothing was sent.
"""

import http.client
import logging
import os
import random
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from urllib.parse import urlencode, urlsplit

from requests.auth import AuthBase
from urllib3.exceptions import HTTPError

from ..exceptions import GatewayPaused, GatewayRefused, GatewayUnavailable, GatewayUncertain, InvalidRequest
from . import payload
from .base import check_id
from .breaker import Breaker
from .hosts import is_loopback
from .options import Secret
from .transport import Session, begin, was_sent

__all__ = ["Answer", "Client", "check_base_url", "check_url"]

logger = logging.getLogger("crypto_invoices.http")

TRIES = 3  # of a GET
MAX_BODY = 1024 * 1024
MAX_WAIT = 60.0  # seconds of a Retry-After that are waited for
MAX_IDLE = 30.0  # seconds after which a kept connection is not trusted to be alive
EXCERPT = 200

_URL = re.compile(r"[^\s\\\x00-\x20\x7f]{1,2048}")
_NUMERIC_HOST = re.compile(r"(^|\.)(0x[0-9a-f]*|[0-9]+)\.?$", re.ASCII)


def check_url(url, field):
    """``url`` again if it is https, or plain http to a loopback literal. Raises ``InvalidRequest`` naming ``field``.

    Userinfo, other private address literals and addresses in disguise (``127.1``) are refused as well.
    """
    try:
        parts = urlsplit(url if isinstance(url, str) and _URL.fullmatch(url) else "")
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("https", "http"):
        raise InvalidRequest(field, "not an https URL")
    if "@" in parts.netloc:
        raise InvalidRequest(field, "a user or password in the URL")
    if is_loopback(host):
        return url
    if parts.scheme != "https":
        raise InvalidRequest(field, "https expected; plain http only to a loopback address")
    if _is_private(host):
        raise InvalidRequest(field, "a private address")
    return url


def _is_private(host):
    try:
        return not ip_address(host).is_global
    except ValueError:
        return bool(_NUMERIC_HOST.search(host))


def check_base_url(url):
    """A gateway's base URL without its trailing slash. Raises ``InvalidRequest("base_url", ...)``, see ``check_url``."""
    check_url(url, "base_url")
    if not url.isascii() or "?" in url or "#" in url:
        raise InvalidRequest("base_url", "scheme, host and path expected")
    return url.rstrip("/")


@dataclass(frozen=True, slots=True)
class Answer:
    """A readable answer: ``data`` is the JSON object with exact numbers, ``text`` the body as it came."""

    status: int
    data: dict
    text: str
    started_at: datetime  # aware UTC: when its request started
    date: datetime | None = None  # aware UTC: the gateway's clock, from the header Date


class Client:
    """Calls of one account at one gateway; threads may share it, each has its own pooled connections.

    ``headers`` go with every call; their values may be ``Secret``. ``secrets`` are removed from every text that leaves
    here. ``read_status(http_status, data)`` returns ``(status, code, text)`` from a gateway's own envelope; status 0
    means that the answer cannot be understood. ``sign(body)`` returns the headers of a gateway whose requests are signed,
    from the very bytes that will be sent. Times are seconds: ``total`` bounds one try from connecting to the last byte,
    except what the resolver takes.
    """

    def __init__(
        self, base_url, *, gateway, account="", headers=None, secrets=(), read_status=None, sign=None, breaker=None,
        connect=5.0, read=15.0, total=20.0, sleep=time.sleep,
    ):  # fmt: skip
        self.base_url = check_base_url(base_url)
        self.gateway = gateway
        self.account = account
        self._headers = _check_headers(headers or {})
        self._secrets = tuple(secrets)
        self._read_status = read_status or (lambda status, data: (status, "", ""))
        self._sign = sign or (lambda body: {})
        self._breaker = breaker or Breaker()
        self._times = (connect, read, total)
        self._sleep = sleep
        self._local = threading.local()

    def call(self, method, path, *ids, operation, query=None, json=None, form=None, reads=None, headers=None, timeout=None):
        """The gateway's ``Answer``. ``ids`` are checked and fill the ``{}`` of ``path``.

        Without ``timeout`` a GET is tried up to three times; ``timeout`` (seconds) bounds the whole call and means one
        try. ``reads`` says that a POST changes nothing at the gateway. Raises ``InvalidRequest`` for an id,
        ``GatewayRefused``, ``GatewayUnavailable`` (of it ``GatewayPaused``) or ``GatewayUncertain``.
        """
        request = {"method": method, "url": self.base_url + path.format(*map(check_id, ids)), "params": query}
        if json is not None:
            request |= {"data": payload.dumps(json), "headers": {"Content-Type": "application/json"}}
        elif form is not None:
            request |= {"data": urlencode(form), "headers": {"Content-Type": "application/x-www-form-urlencoded"}}
        signed = self._sign(request.get("data", b""))
        request["auth"] = _Headers(self._headers | _check_headers({**(headers or {}), **signed}))
        reads = method == "GET" if reads is None else reads
        left = TRIES if method == "GET" and timeout is None else 1
        error = None
        while True:
            left -= 1
            if pause := self._breaker.wait():
                raise error or self._error(GatewayPaused, operation, "not called: it failed too often just now", seconds=pause)
            answer, error, wait = self._try(request, operation, timeout, reads)
            if answer or isinstance(error, GatewayRefused):
                self._breaker.succeeded()
            else:
                self._breaker.failed()
            if answer:
                return answer
            if not left or not isinstance(error, GatewayUnavailable):
                raise error
            self._sleep(max(wait, random.uniform(0, 2.0 ** (TRIES - left - 2))))

    def page_url(self, url):
        """``url`` again if a payer may be sent there: https, or plain http to the host of a loopback ``base_url``."""
        host, ours = urlsplit(check_url(url, "payment_url")).hostname, urlsplit(self.base_url).hostname
        if is_loopback(host) and host != ours:
            raise InvalidRequest("payment_url", "another host of the loopback")
        return url

    @contextmanager
    def reading(self, operation):
        """Around the reading of an answer: what is not as documented is ``GatewayUncertain``, since it may hide a payment."""
        try:
            yield
        except (payload.MalformedPayload, InvalidRequest) as error:
            raise self.unreadable(operation, str(error), http_status=200) from None

    def unreadable(self, operation, text, *, http_status=None):
        """A ``GatewayUncertain`` for an answer whose content is not what the vendor's page promises."""
        return self._error(GatewayUncertain, operation, text, http_status)

    def _try(self, request, operation, timeout, reads):
        """``(answer, error, seconds to wait)``. The error is raised by the caller, so that nothing hangs on to it."""
        connect, read, total = self._times
        total = total if timeout is None else timeout
        begin(total)
        started_at = datetime.now(UTC)
        try:
            with self._session().request(**request, timeout=(min(connect, total), min(read, total))) as response:
                status, headers, body = response.status_code, response.headers, _read_body(response)
        except (OSError, ValueError, HTTPError, http.client.HTTPException) as error:
            kind, text = (GatewayUncertain, "sent, but not answered") if was_sent() else (GatewayUnavailable, "not reached")
            return None, self._error(kind, operation, f"{text} ({type(error).__name__})"), 0.0
        answer, error = self._judge(reads, operation, status, body, started_at, headers)
        return answer, error, _retry_after(headers.get("Retry-After"))

    def _judge(self, reads, operation, status, body, started_at, headers):
        data, outcome, code, text = None, status, "", ""
        try:
            data = payload.loads(body or b"")
        except payload.MalformedPayload as error:
            text = "compressed or larger than 1 MiB" if body is None else str(error)
            if status < 300:
                outcome = 0
        else:
            outcome, code, text = self._read_status(status, data)
        if 200 <= status < 300 and 200 <= outcome < 300:
            return Answer(status, data, body.decode(), started_at, _moment(headers.get("Date"))), None
        if 300 <= status < 400:
            outcome, text = status, "an unexpected redirect"
        elif data is None:
            text = f"an answer that is no JSON object: {text}"
        self._log(operation, status, body)
        return None, self._error(_meaning(reads, outcome), operation, text, status, code)

    def _error(self, kind, operation, text, http_status=None, code="", **more):
        return kind(
            self._clean(text) or "no reason given", gateway=self.gateway, account=self.account, operation=operation,
            http_status=http_status, code=self._clean(code), **more,
        )  # fmt: skip

    def _log(self, operation, status, body):
        if logger.isEnabledFor(logging.DEBUG):
            excerpt = self._clean((body or b"")[:65536].decode("utf-8", "replace"))
            logger.debug("%s (%s) %s: HTTP %s: %s", self.gateway, self.account, operation, status, excerpt)

    def _clean(self, text):
        """One printable line of at most 200 characters without a secret, JSON's ``\\/`` included."""
        for secret in self._secrets:
            for form in (secret.reveal(), secret.reveal().replace("/", "\\/")):
                text = text.replace(form, "***")
        return "".join(char if char.isprintable() else " " for char in text)[:EXCERPT].strip()

    def _session(self):
        local, now = self._local, time.monotonic()
        if getattr(local, "pid", None) != os.getpid() or now - local.used > MAX_IDLE:  # never share a socket over a fork
            if hasattr(local, "session"):
                local.session.close()
            local.session, local.pid = Session(), os.getpid()
        local.used = now
        return local.session


def _meaning(reads, status):
    if status == 429 or (status >= 500 and reads):
        return GatewayUnavailable
    return GatewayRefused if 400 <= status < 500 and status != 408 else GatewayUncertain


def _retry_after(value):
    """Seconds from a Retry-After header in seconds or as a date, between 0 and 60; 0 for anything else."""
    if value is not None and re.fullmatch(r"[0-9]{1,18}", value, re.ASCII):
        seconds = float(value)
    else:
        moment = _moment(value)
        seconds = (moment - datetime.now(UTC)).total_seconds() if moment else 0.0
    return min(max(seconds, 0.0), MAX_WAIT)


def _moment(value):
    """Aware UTC from an HTTP date, None for anything else."""
    try:
        moment = parsedate_to_datetime(value)
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (TypeError, ValueError, OverflowError):
        return None


def _read_body(response):
    """The whole body, or None where it is compressed or too large."""
    if response.headers.get("Content-Encoding", "").strip().lower() not in ("", "identity"):
        return None
    body = bytearray()
    while chunk := response.raw.read(65536, decode_content=False):
        body += chunk
        if len(body) > MAX_BODY:
            return None
    return bytes(body)


def _check_headers(headers):
    for name, value in headers.items():
        if not _is_printable(value):
            raise InvalidRequest(name, "printable ASCII expected")
    return headers


def _is_printable(value):
    text = value.reveal() if isinstance(value, Secret) else value
    return text.isascii() and text.isprintable()


class _Headers(AuthBase):
    """Reveals secrets on the prepared request only, so that no local variable of a traceback shows one."""

    def __init__(self, headers):
        self._headers = headers

    def __call__(self, request):
        for name, value in self._headers.items():
            request.headers[name] = value.reveal() if isinstance(value, Secret) else value
        return request
