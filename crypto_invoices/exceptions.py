"""Every error that the package raises on purpose.

``CryptoInvoicesError`` is the base of what a shop may want to catch. Configuration errors are Django's
``ImproperlyConfigured`` and stand outside, so that a shop's ``except CryptoInvoicesError`` never hides one.
"""

__all__ = [
    "BadSignature",
    "Conflict",
    "CryptoInvoicesError",
    "GatewayError",
    "GatewayPaused",
    "GatewayRefused",
    "GatewayUnavailable",
    "GatewayUncertain",
    "IdempotencyConflict",
    "InvalidAmount",
    "InvalidRequest",
    "MalformedCallback",
    "MisdirectedCallback",
    "NotAllowed",
    "NotSupported",
]


class CryptoInvoicesError(Exception):
    """Base of all errors of this package. ``invoice`` or ``static_address`` is set where a row already exists."""

    invoice = None
    static_address = None


class InvalidRequest(CryptoInvoicesError, ValueError):
    """An argument is wrong; nothing was called and nothing was written. ``field`` names the argument."""

    def __init__(self, field, message):
        self.field = field
        self.message = message
        super().__init__(f"{field}: {message}")


class InvalidAmount(InvalidRequest):
    """A text or value that is not an amount of money."""


class NotSupported(CryptoInvoicesError):
    """The gateway cannot do what was asked; nothing was called."""


class NotAllowed(CryptoInvoicesError):
    """The invoice's state does not allow this step."""


class Conflict(CryptoInvoicesError):
    """Somebody else kept changing the invoice first; nothing was written, trying again is safe."""


class IdempotencyConflict(CryptoInvoicesError):
    """The idempotency key was used before with other arguments."""


class GatewayError(CryptoInvoicesError):
    """A gateway call failed.

    ``operation`` is ours (create, fetch, ...), ``http_status`` an int or None, ``code`` and ``text`` the gateway's own
    words with secrets removed, ``account`` the alias when known.
    """

    def __init__(self, text, *, gateway="", account="", operation="", http_status=None, code=""):
        self.text = text
        self.gateway = gateway
        self.account = account
        self.operation = operation
        self.http_status = http_status
        self.code = code
        super().__init__(text)

    def __str__(self):
        where = " ".join(part for part in (self.gateway, f"({self.account})" if self.account else "", self.operation) if part)
        facts = ", ".join(
            part
            for part in (f"HTTP {self.http_status}" if self.http_status else "", f"code {self.code}" if self.code else "")
            if part
        )
        return f"{where}: {self.text}" + (f" [{facts}]" if facts else "")


class GatewayRefused(GatewayError):
    """The gateway understood and said no: nothing was made there."""


class GatewayUnavailable(GatewayError):
    """The request surely had no effect: it was not delivered, or the gateway said that it takes none now."""


class GatewayPaused(GatewayUnavailable):
    """Nothing was sent: the gateway failed too often just now. ``seconds`` until the next call is let through."""

    def __init__(self, text, *, seconds, **where):
        super().__init__(text, **where)
        self.seconds = seconds


class GatewayUncertain(GatewayError):
    """The request may have had its effect: a time-out, a cut connection, an answer that cannot be read."""


class BadSignature(CryptoInvoicesError):
    """A callback's signature is absent, ambiguous or wrong. The text never holds a signature."""


class MalformedCallback(CryptoInvoicesError):
    """A callback with a good signature whose body cannot be read."""


class MisdirectedCallback(CryptoInvoicesError):
    """A callback with a good signature that does not belong on this endpoint, such as a payout's on a payment's."""
