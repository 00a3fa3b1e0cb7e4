"""The one settings dict, ``CRYPTO_INVOICES``: read on use, typed, with every mistake named.

Anything wrong raises ``ImproperlyConfigured``; ``checks`` reports the same texts as system checks.
"""

import functools
import inspect
import re
from dataclasses import dataclass, field, fields
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from .exceptions import InvalidRequest
from .money import parse_amount
from .providers.base import Provider
from .providers.options import Secrets, option_types, read_options

__all__ = ["Settings", "UnknownAccount", "account_aliases", "accounts_from_env", "provider_for", "settings"]

_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
DISPATCH = ("inline", "worker")
LATE_PAYMENT = ("review", "accept")
RESOLVED_KEPT = 256  # providers of accounts that a resolver knows, the latest used


class UnknownAccount(ImproperlyConfigured):
    """No account of that alias stands in the settings."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """``CRYPTO_INVOICES`` with its defaults. Each field is the key of the same name in capitals."""

    base_url: str = ""  # https://shop.example; callbacks and return pages are built on it
    accounts: dict[str, Any] = field(default_factory=dict)
    dispatch: str = "inline"  # "worker": the deliver command runs the receivers
    late_payment: str = "review"  # "accept": within late_grace a late payment ships
    late_grace: timedelta = timedelta(0)
    allow_sandbox: bool = False  # sandbox accounts may be used with DEBUG off
    max_attempts: int = 5  # how often a payer may try again on one invoice
    underpaid_tolerance: Decimal | None = None  # percent; None: the gateway account's own setting
    account_resolver: str = ""  # dotted path of a callable(alias) -> {"PROVIDER": ..., "OPTIONS": ...}
    notify: str = "crypto_invoices.notify.mail_admins"  # dotted path of a callable(kind, invoice, text)


UNSET = object()


class Current:
    """What was read from one dict of settings; another dict, as under ``override_settings``, is read anew."""

    def __init__(self, given):
        self.given = given
        self.settings = _read({} if given is UNSET else given)
        self.providers = {}
        self.make = functools.lru_cache(RESOLVED_KEPT)(_make)


_current = None


def _now():
    global _current
    given = getattr(django_settings, "CRYPTO_INVOICES", UNSET)
    if _current is None or _current.given is not given:
        _current = Current(given)
    return _current


def settings():
    """The current ``Settings``; raises ``ImproperlyConfigured`` naming the key."""
    return _now().settings


def _read(given):
    if not isinstance(given, dict):
        raise ImproperlyConfigured("CRYPTO_INVOICES: a dict was expected")
    known = {item.name.upper(): item.name for item in fields(Settings)}
    unknown = sorted(str(key) for key in given if key not in known)
    if unknown:
        raise ImproperlyConfigured(f"CRYPTO_INVOICES[{unknown[0]!r}]: unknown key; known are {', '.join(sorted(known))}")
    values = {known[key]: value for key, value in given.items()}
    _check(values)
    return Settings(**values)


def _check(values):
    def refuse(name, text):
        raise ImproperlyConfigured(f"CRYPTO_INVOICES[{name.upper()!r}]: {text}")

    for name, words in (("dispatch", DISPATCH), ("late_payment", LATE_PAYMENT)):
        if name in values and values[name] not in words:
            refuse(name, f"{values[name]!r} is none of {', '.join(words)}")
    for name, kind in (
        ("base_url", str), ("accounts", dict), ("late_grace", timedelta), ("allow_sandbox", bool),
        ("account_resolver", str), ("notify", str),
    ):  # fmt: skip
        if name in values and not isinstance(values[name], kind):
            refuse(name, f"{kind.__name__} expected")
    attempts = values.get("max_attempts", 1)
    if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
        refuse("max_attempts", "a whole number of at least 1 expected")
    if values.get("underpaid_tolerance") is not None:
        try:
            values["underpaid_tolerance"] = parse_amount(values["underpaid_tolerance"], field="UNDERPAID_TOLERANCE", places=2)
        except InvalidRequest as error:
            refuse("underpaid_tolerance", error.message)
        if values["underpaid_tolerance"] > 10:
            refuse("underpaid_tolerance", "more than 10 percent")
    values["base_url"] = values.get("base_url", "").rstrip("/")


def account_aliases():
    """The aliases in the settings, in their order. A resolver may know more."""
    return list(settings().accounts)


def provider_for(alias):
    """The ready provider of an account. Raises ``UnknownAccount`` or ``ImproperlyConfigured`` naming the option."""
    resolver = settings().account_resolver
    if not resolver:
        return _provider_for(alias)
    try:
        resolve = import_string(resolver)
    except ImportError as error:
        raise ImproperlyConfigured(f"CRYPTO_INVOICES['ACCOUNT_RESOLVER']: {error}") from None
    definition = resolve(alias)
    if definition is None:
        raise UnknownAccount(f"CRYPTO_INVOICES['ACCOUNT_RESOLVER']: no account {alias!r}")
    return build_provider(alias, definition, make=_now().make)  # with equal options it is the same: its breaker, its connections


def _provider_for(alias):
    current = _now()
    if alias not in current.providers:
        if alias not in current.settings.accounts:
            raise UnknownAccount(f"CRYPTO_INVOICES['ACCOUNTS']: no account {alias!r}")
        current.providers[alias] = build_provider(alias, current.settings.accounts[alias])
    return current.providers[alias]


def _make(provider_class, options, alias):
    return provider_class(options, alias=alias)


def build_provider(alias, definition, *, make=_make):
    """A provider from ``{"PROVIDER": dotted path, "OPTIONS": {...}}``. Raises ``ImproperlyConfigured``."""
    where = f"CRYPTO_INVOICES['ACCOUNTS'][{alias!r}]"
    if not isinstance(alias, str) or not _ALIAS.fullmatch(alias):
        raise ImproperlyConfigured(f"{where}: an alias is 1 to 64 letters, digits, - and _, as it stands in URLs")
    if not isinstance(definition, dict) or set(definition) - {"PROVIDER", "OPTIONS"} or "PROVIDER" not in definition:
        raise ImproperlyConfigured(f"{where}: a dict with PROVIDER and OPTIONS was expected")
    provider_class = import_provider(definition["PROVIDER"], where)
    try:
        return make(provider_class, read_options(provider_class.options, definition.get("OPTIONS", {})), alias)
    except InvalidRequest as error:
        raise ImproperlyConfigured(f"{where}['OPTIONS'][{error.field!r}]: {error.message}") from None


def import_provider(path, where="PROVIDER"):
    """The provider class at a dotted path. Raises ``ImproperlyConfigured``."""
    try:
        provider_class = import_string(path)
    except (ImportError, TypeError, AttributeError) as error:
        raise ImproperlyConfigured(f"{where}['PROVIDER']: {error}") from None
    if not (isinstance(provider_class, type) and issubclass(provider_class, Provider)):
        raise ImproperlyConfigured(f"{where}['PROVIDER']: {path} is not a Provider")
    if inspect.isabstract(provider_class):
        missing = ", ".join(sorted(provider_class.__abstractmethods__))
        raise ImproperlyConfigured(f"{where}['PROVIDER']: {path} has no {missing}")
    return provider_class


def provider_path(provider):
    """The dotted path under which a provider's class is imported."""
    return f"{type(provider).__module__}.{type(provider).__qualname__}"


def accounts_from_env(env, prefix="CRYPTO_INVOICES"):
    """``ACCOUNTS`` from environment variables, read with a django-environ ``Env``.

    ``<prefix>_ACCOUNTS=default,tron`` names the aliases; ``<prefix>_DEFAULT_PROVIDER=oxapay`` is the module in
    ``crypto_invoices.providers`` or a dotted path; each option is ``<prefix>_DEFAULT_<OPTION>``, typed as the provider
    declares it, secrets as a comma-separated list with the newest first. Raises ``ImproperlyConfigured`` naming the
    variable that is missing, wrong or no option of its account.
    """
    accounts = {}
    aliases = [alias.strip() for alias in env.list(f"{prefix}_ACCOUNTS", default=[])]
    starts = {alias: f"{prefix}_{alias.upper().replace('-', '_')}_" for alias in aliases}
    for alias, start in starts.items():
        path = _provider_path(env.str(f"{start}PROVIDER"), f"{start}PROVIDER")
        options = import_provider(path, f"{start}PROVIDER").options
        texts = {name: env.str(start + name.upper()) for name in option_types(options) if start + name.upper() in env.ENVIRON}
        try:
            read_options(options, texts, from_text=True)
        except InvalidRequest as error:
            raise ImproperlyConfigured(f"{start}{error.field.upper()}: {error.message}") from None
        _check_variables(env.ENVIRON, start, ["PROVIDER", *(name.upper() for name in option_types(options))], starts.values())
        accounts[alias] = {"PROVIDER": path, "OPTIONS": _typed(options, texts)}
    return accounts


def _check_variables(environment, start, known, starts):
    """Raises for a variable of this account that is none of ``known``; one of "shop-eu" is none of "shop"."""
    longer = tuple(other for other in starts if len(other) > len(start))
    for name in sorted(environment):
        if name.startswith(start) and not name.startswith(longer) and name.removeprefix(start) not in known:
            raise ImproperlyConfigured(f"{name}: no option of this account; known are {', '.join(sorted(known))}")


def _provider_path(word, variable):
    if "." in word:
        return word
    module = f"crypto_invoices.providers.{word}"
    try:
        found = [item for item in vars(__import__(module, fromlist=["*"])).values() if _is_provider(item, module)]
    except ImportError:
        found = []
    if len(found) != 1:
        raise ImproperlyConfigured(f"{variable}: no provider {word!r}")
    return f"{module}.{found[0].__name__}"


def _is_provider(item, module):
    return isinstance(item, type) and issubclass(item, Provider) and item.__module__ == module and not inspect.isabstract(item)


def _typed(options, texts):
    read = read_options(options, texts, from_text=True)
    return {
        name: [secret.strip() for secret in texts[name].split(",")] if kind is Secrets else getattr(read, name)
        for name, (kind, _optional) in option_types(options).items()
        if name in texts
    }
