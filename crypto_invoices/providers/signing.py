"""Signatures over raw bytes, and the nonces that make every signed request another one."""

import base64
import hashlib
import hmac
import re
import threading
import time
from itertools import product

from ..exceptions import BadSignature, InvalidRequest

__all__ = ["STANDARD_WEBHOOK_HEADERS", "hmac_hex", "nonce", "standard_webhook_key", "verify_hmac_hex", "verify_standard_webhook"]

_HEX = {hashlib.sha256: re.compile(r"[0-9a-f]{64}", re.ASCII), hashlib.sha512: re.compile(r"[0-9a-f]{128}", re.ASCII)}

# Standard Webhooks, https://docs.svix.com/receiving/verifying-payloads/how-manual: each header has two names
_NAMES, _PARTS = ("webhook", "svix"), ("id", "timestamp", "signature")
STANDARD_WEBHOOK_HEADERS = tuple(f"{name}-{part}" for name in _NAMES for part in _PARTS)
_VERSIONED = "v[0-9]{1,2}[a-z]?,[A-Za-z0-9+/]{1,128}={0,2}"
_FORMS = tuple(re.compile(form) for form in (r"[!-\-/-~]{1,255}", "[0-9]{1,12}", f"{_VERSIONED}( {_VERSIONED})*"))
_TOLERANCE = 300  # seconds, in both directions

_nonce_lock, _last_nonce = threading.Lock(), 0


def nonce(clock=time.time_ns):
    """Microseconds of the clock, larger with every call of the process even when the clock stands still."""
    global _last_nonce
    with _nonce_lock:
        _last_nonce = max(clock() // 1000, _last_nonce + 1)
        return _last_nonce


def hmac_hex(secret, body, algorithm):
    """Lower-case hex of the HMAC of ``body`` (bytes) under ``secret`` (text)."""
    return hmac.new(secret.encode(), body, algorithm).hexdigest()


def verify_hmac_hex(signature, body, secrets, algorithm):
    """Raises ``BadSignature`` unless ``signature`` is the hex HMAC of ``body`` under one of ``secrets``.

    The text's form is checked before anything is compared, and every secret is tried, so that neither a crash nor the
    time taken tells anything about a key.
    """
    if not isinstance(signature, str) or not _HEX[algorithm].fullmatch(signature):
        raise BadSignature("no signature of the expected form")
    given = signature.encode()
    matches = [hmac.compare_digest(given, hmac_hex(secret.reveal(), body, algorithm).encode()) for secret in secrets]
    if not any(matches):
        raise BadSignature("the signature does not match")


def standard_webhook_key(secret, field):
    """The key in a ``Secret`` of Standard Webhooks: "whsec_", which may be absent, and 24 to 64 bytes in Base64.

    Raises ``InvalidRequest`` naming ``field``.
    """
    try:
        key = base64.b64decode(secret.reveal().removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not 24 <= len(key) <= 64:
        raise InvalidRequest(field, "whsec_ and 24 to 64 bytes in Base64 were expected")
    return key


def verify_standard_webhook(headers, body, secrets, *, now):
    """Raises ``BadSignature`` unless one of ``secrets`` signed id, timestamp and body (bytes), at most five minutes from ``now``.

    ``headers`` may be spelt in any case; ``now`` is in seconds since 1970. As above, forms are checked first and every secret
    is compared with every signature.
    """
    given = {name.lower(): value for name, value in headers.items()}
    start = next((name for name in _NAMES if f"{name}-id" in given), "")
    values = [given.get(f"{start}-{part}") for part in _PARTS]
    fit = [isinstance(value, str) and form.fullmatch(value) for value, form in zip(values, _FORMS, strict=True)]
    if not all(fit) or len(given) < len(headers):
        raise BadSignature("one id, timestamp and signature of the expected form were expected")
    message_id, timestamp, signatures = values
    if abs(now - int(timestamp)) > _TOLERANCE:
        raise BadSignature("signed more than five minutes ago or ahead")
    signed = f"{message_id}.{timestamp}.".encode() + body
    keys = [standard_webhook_key(secret, "secret") for secret in secrets]
    made = [b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256")) for key in keys]
    matches = [hmac.compare_digest(one, other) for one, other in product(made, signatures.encode().split(b" "))]
    if not any(matches):
        raise BadSignature("the signature does not match")
