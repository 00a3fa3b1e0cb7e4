"""What polling an attempt and polling a static address have in common: when to ask again, and what a poll leaves behind."""

from datetime import timedelta

from django.utils import timezone

from .exceptions import GatewayPaused

__all__ = ["LONGEST_INTERVAL", "backed_off", "note", "note_failure"]

LONGEST_INTERVAL = timedelta(hours=24)


def backed_off(interval, failures):
    """``interval``, doubled for each failure in a row; at most a day."""
    return min(LONGEST_INTERVAL, interval * 2 ** min(failures, 10))


def note(polled, expected, interval, **values):
    """Writes to rows of one model what a poll was like, and when to ask again: after ``interval``, never for None.

    ``expected`` is their ``next_poll_at`` when the gateway was asked: who was made due meanwhile, by a callback that asks for
    a poll, stays due.
    """
    rows = type(polled[0]).objects.filter(pk__in=[row.pk for row in polled])
    rows = rows.filter(next_poll_at__isnull=True) if expected is None else rows.filter(next_poll_at=expected)
    rows.update(next_poll_at=None if interval is None else timezone.now() + interval, **values)


def note_failure(row, error, interval):
    """Notes that the gateway could not be asked; ``interval(row)`` is how long to wait after so many failures."""
    if isinstance(error, GatewayPaused):  # nothing was asked, so nothing failed
        note([row], row.next_poll_at, timedelta(seconds=error.seconds))
        return
    row.poll_failures += 1
    failure = {"poll_failures": row.poll_failures, "poll_error": str(error)[:2000]}
    note([row], row.next_poll_at, interval(row), polled_at=timezone.now(), **failure)
