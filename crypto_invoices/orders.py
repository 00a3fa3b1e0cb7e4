"""Reads a shop's arguments into the neutral order that a provider takes, and refuses what is wrong by name."""

import hashlib
import json
from datetime import timedelta
from decimal import Decimal
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.core.signing import BadSignature, Signer
from django.core.validators import validate_email
from django.urls import reverse

from . import conf
from .exceptions import InvalidRequest, NotSupported
from .money import check_storable, decimal_places, parse_amount
from .providers.base import Capability, CreateRequest, Kind, Page
from .providers.hosts import is_loopback
from .providers.options import read_options

__all__ = [
    "attempt_fields",
    "callback_token",
    "callback_url",
    "check_sandbox",
    "digest_of",
    "hash_of",
    "is_public",
    "read_arguments",
    "read_email",
    "read_json",
    "read_text",
    "read_token",
    "request_for",
    "safe_page",
]

MAX_TEXT = 4096
MAX_METADATA = 65536  # bytes of JSON

_SIGNER = "crypto_invoices.callback"
_ACCOUNT_SIGNER = "crypto_invoices.callback.account"


def callback_token(reference):
    """``<reference>.<mac>``: unguessable, bound to the attempt, checked without a query."""
    return Signer(salt=_SIGNER, sep=".").sign(reference)


def read_token(token, provider):
    """The reference in a token, "" in that of a whole account. Fallback keys keep working.

    Raises ``django.core.signing.BadSignature``.
    """
    if not provider.account_callbacks:
        return Signer(salt=_SIGNER, sep=".").unsign(token)
    if Signer(salt=_ACCOUNT_SIGNER, sep=".").unsign(token) != provider.alias:
        raise BadSignature("the token of another account")
    return ""


def callback_url(provider, reference=""):
    """Where the gateway sends an attempt's callbacks: BASE_URL and the path of the URLconf.

    Where the URL is typed into the gateway's dashboard (``account_callbacks``) it is the same for every attempt.
    """
    if not is_public(conf.settings().base_url):
        raise ImproperlyConfigured("CRYPTO_INVOICES['BASE_URL']: https is needed (http only to a loopback address)")
    token = callback_token(reference)
    if provider.account_callbacks:
        token = Signer(salt=_ACCOUNT_SIGNER, sep=".").sign(provider.alias)
    return conf.settings().base_url + reverse("crypto_invoices:callback", args=[provider.alias, token])


def read_arguments(
    *, amount, currency, order_id="", description="", email="", lifetime=None, pay_currencies=(), underpaid_tolerance=None,
    fee_payer=None, page="gateway", return_url="", cancel_url="", metadata=None, options=None,
):  # fmt: skip
    """The invoice's own fields from the shop's arguments. Raises ``InvalidRequest`` naming the argument."""
    currency = read_text("currency", currency, 16)
    if not currency.isascii() or not currency.isalnum():
        raise InvalidRequest("currency", "an ISO 4217 or coin code")
    price = check_storable(parse_amount(amount, places=decimal_places(currency)))
    if not price:
        raise InvalidRequest("amount", "must be more than 0")
    if underpaid_tolerance is not None:
        underpaid_tolerance = parse_amount(underpaid_tolerance, field="underpaid_tolerance", places=2)
        if underpaid_tolerance > 100:
            raise InvalidRequest("underpaid_tolerance", "more than 100 percent")
    if lifetime is not None and (not isinstance(lifetime, timedelta) or lifetime <= timedelta(0)):
        raise InvalidRequest("lifetime", "a timedelta of more than 0")
    if fee_payer not in (None, "merchant", "payer"):
        raise InvalidRequest("fee_payer", "neither 'merchant' nor 'payer'")
    if page not in tuple(Page):
        raise InvalidRequest("page", "neither 'gateway' nor 'own'")
    if isinstance(pay_currencies, str) or not all(isinstance(coin, str) for coin in pay_currencies):
        raise InvalidRequest("pay_currencies", "a sequence of texts such as 'USDT@tron'")
    return {
        "amount": price,
        "currency": currency,
        "order_id": read_text("order_id", order_id, 255),
        "description": read_text("description", description, MAX_TEXT),
        "email": read_email(email),
        "lifetime": lifetime,
        "pay_currencies": list(pay_currencies),
        "underpaid_tolerance": underpaid_tolerance,
        "fee_payer": fee_payer or "",
        "page": Page(page).value,
        "return_url": _url("return_url", return_url),
        "cancel_url": _url("cancel_url", cancel_url),
        "metadata": read_json("metadata", metadata or {}),
        "options": read_json("options", options or {}),
    }


def read_text(field, value, longest):
    if not isinstance(value, str):
        raise InvalidRequest(field, "a text was expected")
    if len(value) > longest:
        raise InvalidRequest(field, f"longer than {longest} characters")
    if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise InvalidRequest(field, "a character that no database stores")
    return value


def read_email(value):
    """``value`` again if it is "" or an e-mail address. Raises ``InvalidRequest``."""
    try:
        if read_text("email", value, 254):
            validate_email(value)
    except ValidationError:
        raise InvalidRequest("email", "not an e-mail address") from None
    return value


def _url(field, value):
    if not value:
        return ""
    if not is_public(read_text(field, value, MAX_TEXT)):
        raise InvalidRequest(field, "https is needed (http only to a loopback address)")
    return value


def is_public(url):
    """Whether a browser may be sent there: https, or http to a loopback literal; no user info, no control characters."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    if not host or "@" in parts.netloc or "\\" in url or any(ord(c) <= 32 or ord(c) == 127 for c in url):
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))


def read_json(field, value):
    if not isinstance(value, dict):
        raise InvalidRequest(field, "a dict was expected")
    try:
        text = json.dumps(value, cls=DjangoJSONEncoder, allow_nan=False)
    except (TypeError, ValueError):
        raise InvalidRequest(field, "not JSON") from None
    if len(text) > MAX_METADATA or "\\u0000" in text:
        raise InvalidRequest(field, "more than 64 KiB of JSON, or a NUL character")
    return value


def hash_of(idempotency_key):
    """SHA-256 hex of a key, None for None. Raises ``InvalidRequest`` for what is no text of at most 255 characters."""
    if idempotency_key is None:
        return None
    return hashlib.sha256(read_text("idempotency_key", idempotency_key, 255).encode()).hexdigest()


def digest_of(arguments, aliases):
    """SHA-256 hex over all arguments: the same key with another digest is another order."""
    text = json.dumps([list(aliases), arguments], cls=DjangoJSONEncoder, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def check_sandbox(provider):
    """Raises ``NotSupported`` for a sandbox account with DEBUG off, unless the settings allow it."""
    if provider.sandbox and not django_settings.DEBUG and not conf.settings().allow_sandbox:
        raise NotSupported(f"account {provider.alias!r} is a sandbox; set ALLOW_SANDBOX to use it with DEBUG off")


def request_for(invoice, provider, *, reference, amount=None):
    """The ``CreateRequest`` of an invoice (saved or not) for one account. Raises ``InvalidRequest`` or ``NotSupported``."""
    check_sandbox(provider)
    page = Page(invoice.page)
    if page is Page.OWN:
        provider.require(Capability.OWN_PAGE)
    tolerance = invoice.underpaid_tolerance
    if tolerance is None and provider.takes_tolerance:
        tolerance = conf.settings().underpaid_tolerance
    try:
        options = read_options(provider.create_options, invoice.options)
    except InvalidRequest as error:
        raise InvalidRequest(f"options.{error.field}", error.message) from None
    request = CreateRequest(
        reference=reference,
        amount=invoice.amount if amount is None else amount,
        currency=invoice.currency,
        callback_url=callback_url(provider, reference),
        order_id=invoice.order_id,
        description=invoice.description,
        email=invoice.email,
        lifetime=invoice.lifetime,
        pay_currencies=tuple(invoice.pay_currencies),
        underpaid_tolerance=tolerance,
        fee_payer=invoice.fee_payer or None,
        page=page,
        return_url=invoice.return_url or conf.settings().base_url + invoice.get_absolute_url(),
        cancel_url=invoice.cancel_url,
        options=options,
    )
    provider.validate(request)
    return request


def attempt_fields(invoice, provider, *, reference, amount):
    """The fields of a new attempt of ``invoice`` at one account; they stay as they are for good."""
    return {
        "account": provider.alias,
        "provider": conf.provider_path(provider),
        "identity": provider.identity,
        "kind": (Kind.ADDRESS if invoice.page == Page.OWN else Kind.INVOICE).value,
        "amount": Decimal(amount),
        "currency": invoice.currency,
        "reference": reference,
        "sandbox": provider.sandbox,
    }


def safe_page(provider, url):
    """``url`` if the payer may be sent there, else "": https and on a host of the gateway where its hosts are known."""
    if not url or not is_public(url):
        return ""
    host = urlsplit(url).hostname
    if is_loopback(host):
        return url if host == urlsplit(provider.account.base_url).hostname else ""
    return url if not provider.page_hosts or host in provider.page_hosts else ""
