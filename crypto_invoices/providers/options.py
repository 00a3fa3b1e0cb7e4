"""Declared options: typed, range-checked, with secrets that do not show themselves.

A provider declares a frozen dataclass whose fields are made by ``option()``, of the types str, bool, int, Decimal,
``tuple[str, ...]``, datetime and ``Secrets``; ``read_options`` builds an instance from a plain dict and names the field in
every refusal.
"""

import hashlib
import re
import types
import typing
from dataclasses import MISSING, dataclass, field, fields
from decimal import Decimal

from ..exceptions import InvalidRequest
from ..money import parse_amount

__all__ = ["NoOptions", "Secret", "Secrets", "identity_of", "option", "option_types", "read_options"]

_PLACEHOLDERS = frozenset({"", "changeme", "change-me", "secret", "password", "todo", "xxx", "whsec_", "none", "null"})
_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


class Secret:
    """A text that stays out of logs, reprs, dumps and pickles. ``reveal()`` is the one way to it."""

    __slots__ = ("_text",)

    def __init__(self, text):
        if not isinstance(text, str) or text.strip().lower() in _PLACEHOLDERS or text != text.strip():
            raise InvalidRequest("secret", "empty, padded or a placeholder")
        self._text = text

    def reveal(self):
        return self._text

    def __repr__(self):
        return "***"

    def __eq__(self, other):
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self):
        return hash(self._text)

    def __reduce__(self):
        raise TypeError("a secret is not pickled")


class Secrets(tuple):
    """One or more secrets, newest first: the first is sent, all are accepted on callbacks while keys are rotated."""

    __slots__ = ()

    def __new__(cls, values):
        secrets = tuple(value if isinstance(value, Secret) else Secret(value) for value in values)
        if not secrets:
            raise InvalidRequest("secret", "empty")
        return super().__new__(cls, secrets)

    @property
    def current(self):
        return self[0].reveal()


def option(default=MISSING, *, help, minimum=None, maximum=None, choices=(), max_length=None):
    """A declared option. Without a default it is required; ``help`` says unit and range to the reader."""
    metadata = {"help": help, "minimum": minimum, "maximum": maximum, "choices": tuple(choices), "max_length": max_length}
    return field(default=default, metadata=metadata) if default is not MISSING else field(metadata=metadata)


@dataclass(frozen=True, slots=True)
class NoOptions:
    """For a gateway without parameters of its own."""


def option_types(cls):
    """``{name: (type, optional)}`` of a declared options class."""
    hints = typing.get_type_hints(cls)
    result = {}
    for declared in fields(cls):
        hint = hints[declared.name]
        members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        kinds = [member for member in members if member is not type(None)]
        result[declared.name] = (kinds[0], len(kinds) < len(members))
    return result


def read_options(cls, values, *, from_text=False):
    """An instance of ``cls`` from a dict. ``from_text`` accepts texts for every type, as environment variables are.

    Raises ``InvalidRequest`` naming the option: unknown, missing, of another type or out of range.
    """
    if not isinstance(values, dict):
        raise InvalidRequest("options", "a dict was expected")
    declared = {item.name: item for item in fields(cls)}
    for name in values:
        if name not in declared:
            known = ", ".join(sorted(declared)) or "none"
            raise InvalidRequest(str(name), f"unknown option; known are: {known}")
    kinds = option_types(cls)
    read = {}
    for name, item in declared.items():
        if name not in values:
            if item.default is MISSING and item.default_factory is MISSING:
                raise InvalidRequest(name, "required")
            continue
        kind, optional = kinds[name]
        value = values[name]
        read[name] = None if value is None and optional else _check(item, _convert(kind, name, value, from_text))
    return cls(**read)


def _convert(kind, name, value, from_text):
    try:
        if kind is Secrets:
            if isinstance(value, str):
                value = [part.strip() for part in value.split(",")] if from_text else [value]
            return Secrets(value if isinstance(value, (list, tuple)) else [value])
        if from_text and isinstance(value, str) and kind in (bool, int):
            return _from_text(kind, name, value)
        if kind is Decimal:
            return parse_amount(value, field=name)
        if typing.get_origin(kind) is tuple:  # of texts
            return _texts(name, value, from_text)
        if isinstance(value, bool) is not (kind is bool) or not isinstance(value, kind):
            raise InvalidRequest(name, f"{kind.__name__} expected")
    except InvalidRequest as error:
        raise InvalidRequest(name, error.message) from None
    return value


def _texts(name, value, from_text):
    if from_text and isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise InvalidRequest(name, "a list of texts expected")
    return tuple(value)


def _from_text(kind, name, text):
    if kind is int and re.fullmatch(r"-?[0-9]{1,18}", text.strip(), re.ASCII):
        return int(text)
    if kind is bool and text.strip().lower() in _TRUE | _FALSE:
        return text.strip().lower() in _TRUE
    raise InvalidRequest(name, f"{kind.__name__} expected")


def _check(item, value):
    meta = item.metadata
    low, high = meta.get("minimum"), meta.get("maximum")
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"{low} to {high}" if None not in (low, high) else f"at least {low}" if high is None else f"at most {high}"
        raise InvalidRequest(item.name, f"{value} is out of range ({bounds})")
    for word in value if isinstance(value, tuple) and not isinstance(value, Secrets) else (value,):
        if meta.get("choices") and word not in meta["choices"]:
            raise InvalidRequest(item.name, f"{word!r} is none of {', '.join(map(str, meta['choices']))}")
    if meta.get("max_length") is not None and len(value) > meta["max_length"]:
        raise InvalidRequest(item.name, f"longer than {meta['max_length']} characters")
    return value


def identity_of(options):
    """16 hex digits that name the account behind the current secrets without revealing them."""
    digest = hashlib.sha256(b"crypto_invoices.account")
    for item in fields(options):
        value = getattr(options, item.name)
        if isinstance(value, Secrets):
            digest.update(f"\0{item.name}\0{value.current}".encode())
    return digest.hexdigest()[:16]
