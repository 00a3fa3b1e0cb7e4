"""Switches that make a gateway misbehave: the next N times, in a share of the cases, or until reset."""

import random
import time
from dataclasses import dataclass
from decimal import Decimal
from functools import wraps

from django.db import transaction
from django.db.models import F
from django.http import HttpResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

from .errors import BadField, amount_in
from .models import Misbehaviour


@dataclass(frozen=True)
class Switch:
    """What a switch does, and what its value may be; ``unit`` "" means that it has none."""

    help: str
    unit: str = ""
    default: int = 0
    low: int = 0
    high: int = 0
    choices: tuple = ()


SWITCHES = {
    "callback_duplicate": Switch("send each callback this many times", "times", 2, 2, 20),
    "callback_reorder": Switch("hold a payment's callbacks until so many wait, then send the last first", "callbacks", 2, 2, 20),
    "callback_delay": Switch("send callbacks so much later", "seconds", 5, 0, 86400),
    "callback_drop": Switch("never send callbacks"),
    "api_status": Switch("answer calls with this HTTP status and do nothing", "HTTP status", 503, choices=(429, 500, 502, 503)),
    "api_html": Switch("answer calls with 200 and a page of HTML, and do nothing"),
    "api_empty": Switch("answer calls with 200 and no body, and do nothing"),
    "api_hang": Switch("do what was asked, keep silent for so long, then close the connection", "seconds", 30, 0, 600),
    "api_cut": Switch("make what was asked to be made, then close the connection without an answer"),
    "confirm_by_hand": Switch("transfers wait for the confirm button"),
}


def switch_on(gateway, switch, value=None, count=None, percent=100):
    """Turn a switch on for a gateway. Raises ``BadField``."""
    if switch not in SWITCHES:
        raise BadField("switch", f"one of {', '.join(SWITCHES)}")
    row = {
        "value": _checked_value(SWITCHES[switch], value),
        "remaining": None if count is None else _whole("count", count, 1, 1_000_000),
        "percent": _whole("percent", percent, 1, 100),
    }
    Misbehaviour.objects.update_or_create(gateway=gateway, switch=switch, defaults=row)


def switch_off(gateway, switch=None):
    """Turn one switch off, or all of the gateway's."""
    rows = Misbehaviour.objects.filter(gateway=gateway)
    (rows if switch is None else rows.filter(switch=switch)).delete()


def take(gateway, switch):
    """Use a switch once: its value (True where it has none) if it is on for this case, else None."""
    row = Misbehaviour.objects.filter(gateway=gateway, switch=switch).first()
    if row is None or random.randrange(100) >= row.percent:
        return None
    if row.remaining is not None:
        with transaction.atomic():
            rows = Misbehaviour.objects.filter(pk=row.pk, remaining__gt=0)
            if not rows.update(remaining=F("remaining") - 1):
                return None  # another thread had the last one
            Misbehaviour.objects.filter(pk=row.pk, remaining=0).delete()
    return True if row.value is None else row.value


def api(gateway, view, *, creates=()):
    """The view of one API endpoint, open to the switches. ``creates``: the methods that make something, for ``api_cut``."""

    @wraps(view)
    def wrapped(request, *args, **kwargs):
        answer = _instead(gateway)
        if answer is not None:
            return answer
        response = view(request, *args, **kwargs)
        seconds = take(gateway.name, "api_hang")
        if seconds is not None:
            time.sleep(float(seconds))
            return no_answer()
        if request.method in creates and response.status_code < 300 and take(gateway.name, "api_cut"):
            return no_answer()
        return response

    return transaction.non_atomic_requests(csrf_exempt(wrapped))


def no_answer():
    """A response that makes the server close the connection before the first byte: what was done stays done."""
    return StreamingHttpResponse(_abort())


def _abort():
    # wsgiref and other servers take this error for a client that went away: nothing is sent, not even an error page.
    raise ConnectionAbortedError("closed without an answer")
    yield b""


def _instead(gateway):
    status = take(gateway.name, "api_status")
    if status is not None:
        response = gateway.failure(int(status))
        if status == 429:
            response["Retry-After"] = "2"
        return response
    if take(gateway.name, "api_html"):
        return HttpResponse("<!DOCTYPE html><html><head><title>Just a moment</title></head><body>Checking</body></html>")
    if take(gateway.name, "api_empty"):
        return HttpResponse(b"", content_type="application/json")
    return None


def _checked_value(switch, value):
    if not switch.unit:
        if value is not None:
            raise BadField("value", "this switch has no value")
        return None
    number = Decimal(switch.default) if value is None else amount_in("value", value)
    if switch.choices and number not in switch.choices:
        raise BadField("value", f"one of {', '.join(map(str, switch.choices))}")
    if not switch.choices and not switch.low <= number <= switch.high:
        raise BadField("value", f"from {switch.low} to {switch.high} {switch.unit}")
    if switch.unit != "seconds" and number != int(number):
        raise BadField("value", "a whole number")
    return number


def _whole(field, value, low, high):
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadField(field, f"a whole number from {low} to {high}")
    return value
