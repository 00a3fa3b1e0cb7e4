"""Values on their way: typed fields out of a gateway's JSON, and the checks of what a request may say."""

import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from ..exceptions import InvalidAmount, InvalidRequest
from ..money import check_storable, decimal_places, format_amount, parse_amount
from . import payload
from .base import check_id
from .options import NoOptions, read_options
from .payload import MalformedPayload

__all__ = ["Fields", "fold", "keyed", "options_of", "percent", "price", "query", "said", "sendable", "units"]

_CURRENCY = re.compile(r"[A-Z0-9]{2,16}", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,10}", re.ASCII)  # more digits are milliseconds or nonsense
_FLAGS = {0: False, 1: True, "0": False, "1": True, "": None, None: None}


def _is_clean(text):
    """Whether databases and UTF-8 take the text: neither NUL nor half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


class Fields:
    """Reads typed fields of a JSON object. What is absent, null or "" reads as "" or None, never as 0.

    Raises ``MalformedPayload`` or ``InvalidAmount``, with the field's name at the start of the text.
    """

    def __init__(self, data, path=""):
        self.data = data
        self.path = path

    def _off(self, name, text):
        return MalformedPayload(f"{self.path}{name}: {text}")

    def text(self, name, *, limit=255, required=False, whole=False):
        """A text of at most ``limit`` characters; with ``whole`` an integer is taken as its digits."""
        value = self.data.get(name)
        if value is None:
            value = ""
        elif whole and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not _is_clean(value) or len(value) > limit:
            raise self._off(name, f"a text of at most {limit} characters was expected")
        if required and not value:
            raise self._off(name, "required")
        return value

    def id(self, name):
        """An id as text, safe to stand in a URL; an integer is taken as its digits."""
        return check_id(self.text(name, limit=128, required=True, whole=True), field=f"{self.path}{name}")

    def amount(self, name, *, maximum=None):
        value = payload.amount(self.data.get(name), field=f"{self.path}{name}")
        if value is not None and maximum is not None and value > maximum:
            raise self._off(name, f"more than {maximum}")
        return value if value is None else check_storable(value, field=f"{self.path}{name}")

    def flag(self, name):
        """True, False or None from a boolean, 0 or 1."""
        value = self.data.get(name)
        if isinstance(value, (list, dict)) or value not in _FLAGS:
            raise self._off(name, "0 or 1 was expected")
        return _FLAGS[value]

    def count(self, name):
        """A whole number below 2**31, or None."""
        value = self.amount(name, maximum=2**31 - 1)
        if value is not None and value != int(value):
            raise self._off(name, "a whole number was expected")
        return None if value is None else int(value)

    def time(self, name):
        """Aware UTC from Unix seconds or an ISO 8601 text; without a zone it is UTC. 0 is None."""
        value = self.data.get(name)
        if value is None or value == "" or (value == 0 and not isinstance(value, bool)):
            return None
        text = format_amount(value) if isinstance(value, Decimal) else str(value)
        try:
            if isinstance(value, (int, str, Decimal)) and _SECONDS.fullmatch(text):
                return datetime.fromtimestamp(int(text), UTC)
            if not isinstance(value, str):
                raise ValueError
            time = datetime.fromisoformat(value)
            return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            raise self._off(name, "a time was expected") from None

    def object(self, name):
        if not isinstance(self.data.get(name), dict):
            raise self._off(name, "an object was expected")
        return Fields(self.data[name], f"{self.path}{name}.")

    def texts(self, name):
        value = self.data.get(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._off(name, "a list of texts was expected")
        return value

    def objects(self, name, *, required=False):
        value = self.data.get(name)
        if not required and (value is None or value == ""):
            value = []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._off(name, "a list of objects was expected")
        return [Fields(item, f"{self.path}{name}.") for item in value]


def keyed(transfers):
    """The transfers with ``key`` set to the tx hash, the second of one hash ``<hash>#2``; without a hash they are left out."""
    seen = Counter()
    result = []
    for transfer in transfers:
        if transfer.tx_hash:
            seen[transfer.tx_hash] += 1
            number = seen[transfer.tx_hash]
            result.append(replace(transfer, key=transfer.tx_hash if number == 1 else f"{transfer.tx_hash}#{number}"))
    return tuple(result)


def price(amount, currency):
    """A request's amount: more than 0, with no more decimals than its currency has. Raises ``InvalidRequest``."""
    if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
        raise InvalidRequest("currency", "an ISO 4217 or coin code in capitals was expected")
    amount = check_storable(parse_amount(amount, places=decimal_places(currency)))
    if not amount:
        raise InvalidAmount("amount", "more than 0 was expected")
    return amount


def percent(value, field, *, maximum):
    """``value`` as a Decimal from 0 to ``maximum``, None for None. Raises ``InvalidRequest``."""
    if value is None:
        return None
    value = parse_amount(value, field=field)
    if value > maximum:
        raise InvalidRequest(field, f"{format_amount(value)} is out of range (0 to {maximum} percent)")
    return value


def units(value, field, *, unit, minimum, maximum):
    """A timedelta as a whole number of ``unit`` in the range, None for None. Raises ``InvalidRequest``."""
    if value is None:
        return None
    number, rest = divmod(value, unit) if isinstance(value, timedelta) else (0, value)
    if rest or not minimum <= number <= maximum:
        raise InvalidRequest(field, f"{value} is out of range (whole steps of {unit}, {minimum * unit} to {maximum * unit})")
    return number


def sendable(text, field):
    """``text`` again if JSON in UTF-8 can carry it. Raises ``InvalidRequest``."""
    if not isinstance(text, str) or not _is_clean(text):
        raise InvalidRequest(field, "a text without NUL and lone surrogates was expected")
    return text


def options_of(request, declared):
    """The request's options; the declared defaults where it brought none. Raises ``InvalidRequest`` for another class."""
    options = declared() if isinstance(request.options, NoOptions) else request.options
    if type(options) is not declared:
        raise InvalidRequest("options", f"{declared.__name__} expected")
    return options


def fold(word):
    """A word to compare: lower case, every run of other characters an underscore, so "Manual Accept" is manual_accept."""
    return re.sub(r"[^a-z]+", "_", word.lower())


def said(values):
    """The dict without what was not said: None and ""."""
    return {name: value for name, value in values.items() if value is not None and value != ""}


def query(declared, filters):
    """Query parameters from declared filters: times as Unix seconds, booleans as 0 and 1. Raises ``InvalidRequest``."""
    values = read_options(declared, filters)
    return said({name: _parameter(name, getattr(values, name)) for name in declared.__dataclass_fields__})


def _parameter(name, value):
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidRequest(name, "a time with its zone was expected")
        return int(value.timestamp())
    if isinstance(value, Decimal):
        return format_amount(value)
    return int(value) if isinstance(value, bool) else value
