"""A gateway's request parameters, checked the way a strict vendor checks them. Unknown names are ignored."""

import re
from dataclasses import dataclass
from decimal import Decimal

from .errors import BadField, amount_in

_FLAGS = {True: True, False: False, "1": True, "0": False, "true": True, "false": False}  # 1 is True, 0 is False


@dataclass(frozen=True)
class Parameter:
    """``kind``: text, number (or its digits as text), integer (never text), digits (an integer in a query), flag (or 0 and 1)."""

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
    if parameter.choices and value not in parameter.choices:
        raise BadField(name, f"The selected {name} is invalid; one of {', '.join(parameter.choices)}.")
    if parameter.low is not None and value < parameter.low:
        raise BadField(name, f"The {name} field must be at least {parameter.low}.")
    if parameter.high is not None and value > parameter.high:
        raise BadField(name, f"The {name} field must not be greater than {parameter.high}.")
    return value


def _text(name, value):
    if not isinstance(value, str):
        raise BadField(name, f"The {name} field must be a string.")
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


_KINDS = {"text": _text, "number": _number, "integer": _integer, "digits": _digits, "flag": _flag}
