"""Signatures over the raw bytes of a callback."""

import hashlib
import hmac
import re

from ..exceptions import BadSignature

__all__ = ["hmac_hex", "verify_hmac_hex"]

_HEX = {hashlib.sha256: re.compile(r"[0-9a-f]{64}", re.ASCII), hashlib.sha512: re.compile(r"[0-9a-f]{128}", re.ASCII)}


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
