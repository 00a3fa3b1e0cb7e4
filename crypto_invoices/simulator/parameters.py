"""A gateway's request parameters, checked the way a strict vendor checks them. Unknown names are ignored."""

import re
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import urlsplit

from .errors import BadField, amount_in

_FLAGS = {True: True, False: False, "1": True, "0": False, "true": True, "false": False}  # 1 is True, 0 is False


@dataclass(frozen=True)
class Parameter:
    """One parameter: ``low`` and ``high`` limit a number, or the length of a text or list.

    ``kind``: text, url (http or https), texts (a list), number (or its digits as text), integer (never text), digits (an
    integer in a query), flag (or 0 and 1). ``choices`` are for a text, or for each item of a list.
    """

    kind: str = "text"
    required: bool = False
    low: object = None
    high: object = None
    choices: tuple = ()


def read(given, parameters):
    """The values of the declared parameters that were given, typed. Raises ``BadField``."""
    for name, parameter in parameters.items():
        if parameter.required and given.get(name, "") == "":
            raise BadField(name, f"The {name} field is required.")
    return {name: _value(name, parameter, given[name]) for name, parameter in parameters.items() if name in given}


def _value(name, parameter, given):
    value = _KINDS[parameter.kind](name, given)
    if parameter.choices and not set(value if isinstance(value, list) else [value]) <= set(parameter.choices):
        raise BadField(name, f"The selected {name} is invalid; one of {', '.join(parameter.choices)}.")
    size, unit = (len(value), " long") if isinstance(value, (str, list)) else (value, "")
    if parameter.low is not None and size < parameter.low:
        raise BadField(name, f"The {name} field must be at least {parameter.low}{unit}.")
    if parameter.high is not None and size > parameter.high:
        raise BadField(name, f"The {name} field must not be greater than {parameter.high}{unit}.")
    return value


def _text(name, value):
    if not isinstance(value, str):
        raise BadField(name, f"The {name} field must be a string.")
    return value


def _url(name, value):
    try:
        parts = urlsplit(_text(name, value))
        valid = parts.scheme in ("http", "https") and parts.hostname
    except ValueError:
        valid = False
    if not valid:
        raise BadField(name, f"The {name} field must be an http or https URL.")
    return value


def _texts(name, value):
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadField(name, f"The {name} field must be a list of strings.")
    return value


def _number(name, value):
    if isinstance(value, bool) or not isinstance(value, (int, Decimal, str)):
        raise BadField(name, f"The {name} field must be a number.")
    return amount_in(name, value)


def _integer(name, value):
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadField(name, f"The {name} field must be an integer.")
    return value


def _digits(name, value):
    if not re.fullmatch(r"[0-9]{1,18}", value, re.ASCII):
        raise BadField(name, f"The {name} field must be an integer.")
    return int(value)


def _flag(name, value):
    if not isinstance(value, (bool, int, str)) or value not in _FLAGS:
        raise BadField(name, f"The {name} field must be true or false.")
    return _FLAGS[value]


_KINDS = {
    "text": _text,
    "url": _url,
    "texts": _texts,
    "number": _number,
    "integer": _integer,
    "digits": _digits,
    "flag": _flag,
}
