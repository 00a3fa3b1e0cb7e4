"""Template filters for pages that show invoices."""

from django import template

from ..money import format_amount

register = template.Library()


@register.filter
def amount(value):
    """An amount in plain digits, without an exponent and without trailing zeros; "" for None."""
    return "" if value is None else format_amount(value)
