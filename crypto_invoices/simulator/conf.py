"""The setting ``SIMULATOR``: one dict, read whenever it is needed, every mistake named.

=====================  ===========  ==========================================================================================
key                    default      meaning
=====================  ===========  ==========================================================================================
TIME_SCALE             1/60         factor on the gateways' retry delays: a minute of theirs is a second here
CONFIRM_SECONDS        0            how long after it was seen a transfer is confirmed by itself; 0: in the same step
CALLBACK_TIMEOUT       10           seconds that a callback may take
ALLOW_ANY_CALLBACK     False        also call plain http and private networks; by default https and loopback only
WORKER_INTERVAL        0.2          seconds between two looks of the server's worker at what is due
GATEWAYS               []           modules with further gateways, as dotted paths; read once, when the URLs are
<GATEWAY>              {}           the gateway's own dict, ``OXAPAY`` for example: see ``settings`` in its module
=====================  ===========  ==========================================================================================

A number is an int, a Decimal, a float or a text of digits.
"""

from decimal import Decimal, InvalidOperation
from itertools import chain

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from . import registry

DEFAULTS = {
    "TIME_SCALE": Decimal(1) / 60,
    "CONFIRM_SECONDS": Decimal(0),
    "CALLBACK_TIMEOUT": Decimal(10),
    "ALLOW_ANY_CALLBACK": False,
    "WORKER_INTERVAL": Decimal("0.2"),
}


def get(key):
    """The value of one of the keys above, checked."""
    return _value(_given(), key, DEFAULTS[key], "SIMULATOR")


def account(gateway):
    """The gateway's own settings, complete and checked."""
    section = gateway.name.upper()
    given = _given().get(section, {})
    where = f'SIMULATOR["{section}"]'
    _check_keys(given, gateway.settings, where)
    return {key: _value(given, key, default, where) for key, default in gateway.settings.items()}


def check():
    """Raise ``ImproperlyConfigured`` for the first mistake in the setting."""
    found = registry.all_gateways()
    _check_keys(_given(), [*DEFAULTS, "GATEWAYS", *(gateway.name.upper() for gateway in found)], "SIMULATOR")
    for key in DEFAULTS:
        get(key)
    for gateway in found:
        account(gateway)


def _given():
    given = getattr(settings, "SIMULATOR", {})
    if not isinstance(given, dict):
        raise ImproperlyConfigured("SIMULATOR must be a dict")
    return given


def _check_keys(given, known, where):
    if not isinstance(given, dict):
        raise ImproperlyConfigured(f"{where} must be a dict")
    for key in given:
        if key not in known:
            raise ImproperlyConfigured(f"{where}: unknown key {key!r}; known are {', '.join(known)}")


def _value(given, key, default, where):
    value = given.get(key, default)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ImproperlyConfigured(f"{where}: {key} must be True or False")
    elif isinstance(default, Decimal):
        return _number(value, key, where)
    elif isinstance(default, list):
        if not isinstance(value, (list, tuple)) or not value or not all(isinstance(item, str) and item for item in value):
            raise ImproperlyConfigured(f"{where}: {key} must be a list of texts, at least one")
    elif isinstance(default, dict):
        if not isinstance(value, dict) or not value or not all(isinstance(item, str) and item for item in chain(*value.items())):
            raise ImproperlyConfigured(f"{where}: {key} must be a dict of texts, at least one")
    elif not isinstance(value, str):
        raise ImproperlyConfigured(f"{where}: {key} must be a text")
    return value


def _number(value, key, where):
    try:
        number = Decimal("NaN") if isinstance(value, bool) else Decimal(str(value))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or number < 0:
        raise ImproperlyConfigured(f"{where}: {key} must be a number, 0 or more")
    return number
