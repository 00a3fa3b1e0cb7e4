"""JSON that keeps every digit: Decimal out as a JSON number, numbers in from their source text, never through float."""

from decimal import Decimal

import simplejson

from ..exceptions import InvalidAmount
from ..money import format_amount, is_number, parse_amount

__all__ = ["MalformedPayload", "dumps", "loads"]

MAX_DEPTH = 16
MAX_KEYS = 256


class MalformedPayload(ValueError):
    """The bytes are not the strict JSON object that was expected; the text says why and quotes nothing."""


def dumps(value):
    """UTF-8 bytes; a Decimal becomes a plain JSON number with exactly its digits."""
    return simplejson.dumps(_plain(value), use_decimal=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _plain(value):
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError("not a finite number")
        return simplejson.RawJSON(format_amount(value))  # as a Decimal it would be written 1E-7
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def loads(body):
    """A dict from UTF-8 bytes, strictly: one object, no duplicate keys, no NaN, limited depth, keys and digits.

    Integers stay ``int``, other numbers become ``Decimal``. Raises ``MalformedPayload``.
    """
    if body.startswith(b"\xef\xbb\xbf"):
        raise MalformedPayload("a byte order mark")
    if _depth(body) > MAX_DEPTH:
        raise MalformedPayload("nested too deeply")
    try:
        value = simplejson.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object,
            parse_float=_number,
            parse_int=_integer,
            parse_constant=_constant,
        )
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise MalformedPayload(str(error) if isinstance(error, (MalformedPayload, InvalidAmount)) else "not JSON") from None
    if not isinstance(value, dict):
        raise MalformedPayload("not an object")
    return value


def _depth(body):
    depth = deepest = 0
    inside = False
    escaped = False
    for byte in body if (body.count(b"[") + body.count(b"{")) > MAX_DEPTH else b"":
        if inside:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                inside = False
        elif byte == 0x22:
            inside = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _object(pairs):
    value = dict(pairs)
    if len(value) != len(pairs):
        raise MalformedPayload("a duplicate key")
    if len(value) > MAX_KEYS:
        raise MalformedPayload("too many keys")
    return value


def _number(text):
    return Decimal(text) if is_number(text) else _unusable(text)


def _integer(text):
    return int(text) if is_number(text) else _unusable(text)


def _unusable(text):
    """What no field accepts, so that the refusal can name the field."""
    if len(text) > 64:
        raise MalformedPayload("a number with too many digits")
    return object()


def _constant(text):
    raise MalformedPayload("not a number")


def amount(value, *, field):
    """``parse_amount`` for a payload's number or text; "" and None are None. Raises ``InvalidAmount``."""
    return None if value is None or value == "" else parse_amount(value, field=field)
