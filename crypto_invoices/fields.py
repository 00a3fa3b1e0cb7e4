"""The one column type of this package: money, exact and correctly ordered on every database."""

from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import NotSupportedError, models
from django.db.models.expressions import CombinedExpression
from django.utils.translation import gettext_lazy as _

from .money import DECIMAL_PLACES, MAX_DIGITS, round_amount

__all__ = ["AmountField"]

_LIMIT = Decimal(10) ** (MAX_DIGITS - DECIMAL_PLACES)
_WIDTH = MAX_DIGITS + 1  # the digits and the point
_DIGITS = str.maketrans("0123456789", "9876543210")


class AmountField(models.DecimalField):
    """A Decimal of 38 digits, 18 of them after the point.

    PostgreSQL and MariaDB hold it as their own exact ``numeric(38, 18)``. SQLite has no such type (its DecimalField
    keeps 15 significant digits), so there it is a text of fixed width whose alphabetical order is the numerical one:
    leading zeros, and for a negative number a minus and the digits' complement to nine. Comparing and ordering work
    everywhere; arithmetic belongs into Python, since SQLite would do it in floating point.
    """

    description = _("Amount of money (38 digits, 18 of them decimals)")

    def __init__(self, *args, **kwargs):
        kwargs["max_digits"] = MAX_DIGITS
        kwargs["decimal_places"] = DECIMAL_PLACES
        super().__init__(*args, **kwargs)

    def deconstruct(self):
        name, path, args, kwargs = super().deconstruct()
        del kwargs["max_digits"], kwargs["decimal_places"]
        return name, path, args, kwargs

    def get_internal_type(self):
        return "AmountField"  # keeps SQLite's float converter for DecimalField away

    def db_type(self, connection):
        return {"sqlite": "text", "postgresql": f"numeric({MAX_DIGITS}, {DECIMAL_PLACES})"}.get(
            connection.vendor, f"decimal({MAX_DIGITS}, {DECIMAL_PLACES})"
        )

    def to_python(self, value):
        if isinstance(value, (bool, float)):
            raise ValidationError(_("An amount is never a float or a bool."), code="invalid")
        return super().to_python(value)

    def get_db_prep_value(self, value, connection, prepared=False):
        value = self.to_python(value)
        if value is None or hasattr(value, "as_sql"):
            return value
        if value.is_nan() or value.copy_abs() >= _LIMIT:
            raise ValidationError(_("More than 20 integer digits: %(value)s"), code="invalid", params={"value": value})
        exact = round_amount(value)
        if exact != value:
            raise ValidationError(_("More than 18 decimals: %(value)s"), code="invalid", params={"value": value})
        if connection.vendor != "sqlite":
            return exact
        text = format(exact.copy_abs(), f"0{_WIDTH}f")
        return "-" + text.translate(_DIGITS) if exact < 0 else text

    def get_db_prep_save(self, value, connection):
        if not hasattr(value, "as_sql"):
            return self.get_db_prep_value(value, connection)
        if connection.vendor == "sqlite" and any(isinstance(part, CombinedExpression) for part in value.flatten()):
            raise NotSupportedError("SQLite would compute this amount in floating point; compute it in Python.")
        return value

    def from_db_value(self, value, expression, connection):
        if value is None or isinstance(value, Decimal):
            return value
        if not isinstance(value, str):
            raise TypeError("SQLite computed this amount in floating point; add amounts in Python instead.")
        return Decimal(value[1:].translate(_DIGITS)).copy_negate() if value.startswith("-") else Decimal(value)
