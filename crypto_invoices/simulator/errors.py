"""What the control API and the pages refuse, with the words they answer."""

from crypto_invoices.money import parse_amount


class BadField(Exception):
    """An input is wrong; ``field`` names it."""

    def __init__(self, field, message):
        self.field = field
        self.message = message
        super().__init__(f"{field}: {message}")


class Refused(Exception):
    """The gateway cannot do that now, or never; ``source`` says where that stands."""

    def __init__(self, reason, source):
        self.reason = reason
        self.source = source
        super().__init__(f"{reason} ({source})")


def amount_in(field, value):
    """``parse_amount`` that raises ``BadField``."""
    try:
        return parse_amount(value, field=field)
    except ValueError as error:
        raise BadField(field, str(error).partition(": ")[2]) from None
