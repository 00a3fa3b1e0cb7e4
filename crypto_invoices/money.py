"""Amounts of money: read from text without a float on the way, limited to what the database holds exactly.

An amount is a finite, non-negative ``Decimal`` of at most 18 decimals; a column holds 20 digits before the point.
"""

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal

from .exceptions import InvalidAmount

__all__ = [
    "DECIMAL_PLACES",
    "EXACT",
    "MAX_DIGITS",
    "add",
    "check_storable",
    "decimal_places",
    "format_amount",
    "is_coin",
    "is_number",
    "parse_amount",
    "percent_of",
    "round_amount",
    "subtract",
]

MAX_DIGITS = 38
DECIMAL_PLACES = 18

# Room for every intermediate value; the 28 digits of the default context would round silently.
EXACT = Context(prec=80, rounding=ROUND_HALF_EVEN)
_STEP = Decimal(1).scaleb(-DECIMAL_PLACES)
_LIMIT = Decimal(10) ** (MAX_DIGITS - DECIMAL_PLACES)
_LARGEST_INT = 10**31
_NUMBER = re.compile(r"-?[0-9]{1,24}(\.[0-9]{1,24})?([eE][+-]?[0-9]{1,2})?", re.ASCII)

# ISO 4217 minor units. Codes that stand in none of the three are coins: 18 places.
_NO_MINOR_UNIT = frozenset("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split())
_THREE_PLACES = frozenset("BHD IQD JOD KWD LYD OMR TND".split())
_TWO_PLACES = frozenset(
    """AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP
    CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS
    KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD
    PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP
    TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG""".split()
)


def decimal_places(currency):
    """How many decimals a price in this currency may have: ISO 4217's minor unit, 18 for a coin."""
    if currency in _TWO_PLACES:
        return 2
    if currency in _NO_MINOR_UNIT:
        return 0
    return 3 if currency in _THREE_PLACES else DECIMAL_PLACES


def is_coin(currency):
    """Whether a code is none of ISO 4217. A price in dollars is not paid by a coin that is named USD."""
    return decimal_places(currency) == DECIMAL_PLACES


def is_number(text):
    """Whether a text is a plain or scientific ASCII number of at most 24 digits on either side of the point."""
    return _NUMBER.fullmatch(text) is not None


def parse_amount(value, *, field="amount", places=None):
    """A Decimal from a ``str``, ``int`` or ``Decimal``; a float or a bool is refused.

    Scientific notation is accepted up to 30 digits on either side of the point. With ``places`` (0 to 18) more decimals
    than that are refused; without it they are rounded half-even to 18, the rule for amounts that a gateway reports.
    Raises ``InvalidAmount``.
    """
    if isinstance(value, (bool, float)) or not isinstance(value, (str, int, Decimal)):
        raise InvalidAmount(field, "an amount is a Decimal, an int or a text of digits")
    if isinstance(value, str) and not is_number(value):
        raise InvalidAmount(field, "not a number")
    if isinstance(value, int) and abs(value) >= _LARGEST_INT:  # before Decimal(), which takes its time over a million digits
        raise InvalidAmount(field, "too large or too small")
    value = Decimal(value)
    if not value.is_finite():
        raise InvalidAmount(field, "not a finite number")
    if value and abs(value.adjusted()) > 30:
        raise InvalidAmount(field, "too large or too small")
    if value < 0:
        raise InvalidAmount(field, "negative")
    if places is not None and round_amount(value, places) != value:
        raise InvalidAmount(field, f"more than {places} decimals")
    return round_amount(value).copy_abs()  # -0 is 0


def check_storable(value, *, field="amount"):
    """``value`` again, or ``InvalidAmount`` where it has more than 20 integer digits, which no column holds."""
    if value >= _LIMIT:
        raise InvalidAmount(field, "more than 20 integer digits")
    return value


def round_amount(value, places=DECIMAL_PLACES):
    """``value`` rounded half-even to ``places`` decimals, without losing a digit before the point."""
    return value.quantize(Decimal(1).scaleb(-places) if places != DECIMAL_PLACES else _STEP, context=EXACT)


def add(amounts):
    """The exact sum, whatever precision the thread's decimal context has."""
    total = Decimal(0)
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


def subtract(value, less):
    """The exact difference."""
    return EXACT.subtract(value, less)


def percent_of(value, percent):
    """``percent`` per cent of ``value``, both Decimal, exact to 80 digits."""
    return EXACT.divide(EXACT.multiply(value, percent), Decimal(100))


def format_amount(value):
    """Plain digits without exponent and without trailing zeros: ``Decimal("10.500")`` gives ``"10.5"``."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
