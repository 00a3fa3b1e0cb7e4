"""How values look on the staff's pages. Whatever a payer or a gateway wrote is escaped here or by the template."""

import json

from django.core.serializers.json import DjangoJSONEncoder
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.timesince import timesince
from django.utils.timezone import localtime

from ..models.base import STATUS_CHOICES
from ..money import DECIMAL_PLACES, decimal_places, format_amount, round_amount
from ..orders import is_public

__all__ = ["EMPTY", "age", "badge", "block", "link", "money", "raw", "short_id", "status_badge"]

EMPTY = "-"  # as the admin shows a field without a value
LONGEST_RAW = 10_000  # characters


def badge(text, kind):
    """A word on a coloured ground; ``kind`` is a status, "review", "late" or "test"."""
    return format_html('<span class="ci-badge ci-{}">{}</span>', kind, text)


def status_badge(status):
    """The badge of an ``InvoiceStatus`` or its value; None for "", which an invoice's first event has as old status."""
    return badge(dict(STATUS_CHOICES).get(status, status), status) if status else None


def money(amount, currency):
    """``"10.50 USD"``, ``"0.1 BTC"``; None where the amount is not known."""
    if amount is None:
        return None
    places = decimal_places(currency)
    usual = places < DECIMAL_PLACES and round_amount(amount, places) == amount
    return f"{format(amount, f'.{places}f') if usual else format_amount(amount)} {currency}"


def short_id(invoice):
    """The beginning of the public id, with all of it as a tooltip."""
    return format_html('<span title="{}">{}…</span>', invoice.uuid, str(invoice.uuid)[:8])


def age(moment):
    """How long ago, with the exact time as a tooltip."""
    exact = date_format(localtime(moment), "Y-m-d H:i:s T")
    return format_html('<time datetime="{}" title="{}">{}</time>', moment.isoformat(), exact, timesince(moment, depth=1))


def link(url, text=None):
    """A link where a browser may safely be sent there (https, or http to this machine), else only the text."""
    shown = text or url
    return format_html('<a href="{}" rel="noopener noreferrer">{}</a>', url, shown) if is_public(url) else shown


def block(value):
    """A JSON value, indented; None where it is empty."""
    if not value:
        return None
    return format_html('<pre class="ci-raw">{}</pre>', json.dumps(value, indent=2, ensure_ascii=False, cls=DjangoJSONEncoder))


def raw(text, longest=LONGEST_RAW):
    """Text or bytes as they came, cut to ``longest`` characters."""
    if not isinstance(text, str):
        text = bytes(text).decode(errors="replace")
    return text if len(text) <= longest else f"{text[:longest]}…"
