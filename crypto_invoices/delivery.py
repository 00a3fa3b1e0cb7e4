"""Hands events to receivers, once each, in order, whatever process dies in between.

An event row is written in the transaction of the change it tells of. Each receiver's delivery row is written in the
transaction in which the receiver runs: unique, so that no receiver is done twice. Events belong to an invoice or to a static
address. While a process delivers, it holds its owner's oldest due event (``holder`` until ``due_at``); whoever finds it held
leaves the rest to that process.
"""

import logging
import random
import secrets
import time
from dataclasses import dataclass
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.module_loading import import_string

from . import conf
from .models import EventDelivery, Invoice, InvoiceEvent, StaticAddress
from .signals import DURABLE
from .statements import Reading, insert, update

__all__ = ["deliver", "hold", "is_wanted", "notify", "sweep", "sweep_in_passing"]

logger = logging.getLogger("crypto_invoices.delivery")

LEASE = timedelta(seconds=30)  # a slower receiver is protected by its delivery row, not by the lease
FIRST_DELAY, LONGEST_DELAY = 10, 6 * 3600  # seconds between tries of a receiver that fails
GIVE_UP_AFTER = timedelta(days=7)
SLOW = 1.0  # seconds; a receiver that takes longer delays the answer to the gateway
PASSING_INTERVAL, PASSING_EVENTS, PASSING_SECONDS = 10.0, 5, 0.2
LEFT = "+"  # at the end of a holder's name: newer events were left to it
SWEPT_AT_ONCE = 100  # events read in one go


def _readings(owner, beside):
    """The due events of one owner, oldest first: with little to decide by, and with all the rows that receivers get."""

    def due(pk):
        return InvoiceEvent.objects.filter(**{f"{owner}_id": pk}, due_at__isnull=False).order_by("version")

    return (
        Reading(lambda pk: due(pk).only("due_at", "holder"), pk=-1),
        Reading(lambda pk: due(pk).select_related(owner, beside), pk=-1),
    )


_READINGS = {Invoice: _readings("invoice", "attempt"), StaticAddress: _readings("static_address", "transfer")}


def is_wanted(event):
    """Whether any receiver is connected to one of the event's signals."""
    return any(DURABLE[name].connections(type(event.owner)) for name in event.signals)


def hold():
    """A name under which this call may hold events."""
    return secrets.token_hex(8)


@dataclass
class Budget:
    """How much a sweep in passing may still do: so many events, none begun after ``until`` (monotonic seconds)."""

    events: int
    until: float

    def take(self):
        self.events -= 1
        return self.events >= 0 and time.monotonic() < self.until


def deliver(sender, pk, written=None, *, only=False, budget=None):
    """Calls the receivers of the due events of one owner: ``sender`` is ``Invoice`` or ``StaticAddress``.

    ``written`` is the newest, if this call's process just wrote it; ``only`` says that it is the oldest due one as well.
    """
    read_due, read_due_with_rows = _READINGS[sender]
    holder = written.holder if written else hold()
    if only and not _deliver_events([written], holder, budget):
        return
    while True:
        due = read_due(pk=pk)
        if not any(_is_held_by(event, holder) or event.due_at <= timezone.now() for event in due):
            return
        events = read_due_with_rows(pk=pk)
        if not events:
            return
        if _claim(events[0], holder):
            if not _deliver_events(events, holder, budget):
                return
        else:
            _release(events, holder)
            if _leave_to_holder(events[0]):
                return


def _is_held_by(event, holder):
    return event.holder.rstrip(LEFT) == holder


def _claim(event, holder):
    if _is_held_by(event, holder):
        event.holder = holder
        return True
    now = timezone.now()
    if event.holder and event.due_at > now:
        return False
    claimed = InvoiceEvent.objects.filter(pk=event.pk, due_at=event.due_at, holder=event.holder).update(
        holder=holder, due_at=now + LEASE
    )
    event.holder = holder if claimed else event.holder
    return bool(claimed)


def _release(events, holder):
    mine = [event.pk for event in events if _is_held_by(event, holder)]
    if mine:
        InvoiceEvent.objects.filter(pk__in=mine, holder__in=(holder, holder + LEFT)).update(holder="", due_at=timezone.now())


def _leave_to_holder(event):
    """Tells the process that holds ``event`` that newer ones wait for it; False when it has let go meanwhile."""
    held = InvoiceEvent.objects.filter(pk=event.pk, holder=event.holder, due_at=event.due_at)
    return bool(held.update(holder=event.holder.rstrip(LEFT) + LEFT))


def _deliver_events(events, holder, budget=None):
    """Goes through the events of one owner, oldest first; a receiver that failed gets nothing newer.

    Returns whether there may be more to do: somebody left newer events to us, or their holder was faster.
    """
    rows = _delivery_rows(events)
    waiting = {}  # receiver key -> when it may be tried again
    more = False
    for event, following in zip(events, [*events[1:], None], strict=True):
        if budget is not None and not budget.take():
            _release(events, holder)
            return False
        # Holding the next event before this one is done leaves no moment in which another process could pass us.
        alone = following is None or not _claim(following, holder)
        next_tries = []
        done = None
        plan = list(_plan(event, rows))
        for step, (name, connection, row) in enumerate(plan, 1):
            if connection.key not in waiting and row is not None and row.next_try_at > timezone.now():
                waiting[connection.key] = row.next_try_at
            if connection.key not in waiting:
                finish = step == len(plan) and not next_tries
                try:
                    done = _call(event, name, connection, row, finish=finish)
                except ReceiverFailed as failure:
                    if failure.next_try_at is None:
                        continue  # given up: it stands in nobody's way any more
                    waiting[connection.key] = failure.next_try_at
            if connection.key in waiting:
                next_tries.append(waiting[connection.key])
        if not done:
            done = _let_go(event, due_at=min(next_tries, default=None), tries=event.tries + 1)
        more = more or done is LEFT
        if alone:
            return more or following is not None
    return more


def _plan(event, rows):
    for name in event.signals:
        for connection in DURABLE[name].connections(type(event.owner)):
            row = rows.get((event.pk, name, connection.key))
            if row is None or row.state == EventDelivery.State.FAILED:
                yield name, connection, row


def _delivery_rows(events):
    """Rows of earlier tries by (event, signal, receiver). A single event that was just written has none."""
    older = [event.pk for event in events if event.tries or len(events) > 1 or event.due_at <= timezone.now()]
    rows = EventDelivery.objects.filter(event_id__in=older) if older else ()
    return {(row.event_id, row.signal, row.receiver): row for row in rows}


class AlreadyDone(Exception):
    """Another process has done this receiver."""


class ReceiverFailed(Exception):
    """A receiver raised; ``next_try_at`` is None when it is given up."""

    def __init__(self, next_try_at):
        self.next_try_at = next_try_at
        super().__init__()


def _call(event, name, connection, row, *, finish):
    """Runs one receiver and records it; with ``finish`` the event is done too. Returns as ``_let_go`` does, or None.

    Raises ``ReceiverFailed``.
    """
    started = time.monotonic()
    ended = None
    try:
        if not connection.atomic:
            _send(event, name, connection)
        with transaction.atomic():
            _record_done(event, name, connection, row)
            if connection.atomic:
                _send(event, name, connection)
            if finish:  # in the same transaction: one commit less for the usual single receiver
                ended = _let_go(event, due_at=None)
    except AlreadyDone:
        if finish:
            ended = _let_go(event, due_at=None)
    except Exception as error:
        raise ReceiverFailed(_record_failure(event, name, connection, row, error)) from error
    elapsed = time.monotonic() - started
    if elapsed > SLOW:
        logger.warning("receiver %s took %.1f s over %s of event %s", connection.key, elapsed, name, event.event_id)
    return ended


def _let_go(event, **values):
    """Ends our hold of an event. Returns True, or ``LEFT`` when another process left newer events to us meanwhile."""
    values["holder"] = ""
    if update(InvoiceEvent, {"pk": event.pk, "holder": event.holder}, values):
        return True
    InvoiceEvent.objects.filter(pk=event.pk, holder=event.holder.rstrip(LEFT) + LEFT).update(**values)
    return LEFT


def _send(event, name, connection):
    if event.static_address_id is not None:
        rows = {"static_address": event.static_address, "transfer": event.transfer}
    else:
        rows = {"invoice": event.invoice, "attempt": event.attempt}
        rows |= {"old_status": event.old_status, "new_status": event.new_status}
    connection.call(DURABLE[name], type(event.owner), event_id=event.event_id, **rows)


def _record_done(event, name, connection, row):
    now = timezone.now()
    if row is not None:
        todo = EventDelivery.objects.filter(pk=row.pk, state=EventDelivery.State.FAILED)
        if not todo.update(state=EventDelivery.State.DONE, tries=row.tries + 1, next_try_at=None, error="", updated_at=now):
            raise AlreadyDone
        return
    try:
        insert(
            EventDelivery(
                event=event, signal=name, receiver=connection.key, state=EventDelivery.State.DONE, tries=1, updated_at=now
            )
        )
    except IntegrityError:
        raise AlreadyDone from None


def _record_failure(event, name, connection, row, error):
    now = timezone.now()
    tries = (row.tries if row is not None else 0) + 1
    given_up = now - event.created_at > GIVE_UP_AFTER
    delay = random.uniform(FIRST_DELAY, max(FIRST_DELAY, min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(tries, 12))))
    values = {
        "state": EventDelivery.State.GIVEN_UP if given_up else EventDelivery.State.FAILED,
        "tries": tries,
        "next_try_at": None if given_up else now + timedelta(seconds=delay),
        "error": f"{type(error).__name__}: {error}"[:2000],
        "updated_at": now,
    }
    logger.error(
        "receiver %s failed on %s of event %s (try %d%s)",
        connection.key, name, event.event_id, tries, ", given up" if given_up else "", exc_info=error,
    )  # fmt: skip
    EventDelivery.objects.update_or_create(event=event, signal=name, receiver=connection.key, defaults=values)
    if given_up:
        text = f"{connection.key} was given up on {name} of event {event.event_id} after {tries} tries: {values['error']}"
        notify("given_up", event.invoice, text)
        return None
    return values["next_try_at"]


def notify(kind, invoice, text):
    """Tells the staff through ``NOTIFY``; its own failure is logged, never raised."""
    try:
        import_string(conf.settings().notify)(kind, invoice, text)
    except Exception:
        logger.exception("NOTIFY failed on %s", kind)


def sweep(*, budget=None):
    """Delivers what is due, all of it or what ``budget`` allows; returns the number of invoices and static addresses."""
    seen = set()
    while budget is None or budget.events > 0:
        due = InvoiceEvent.objects.filter(due_at__lte=timezone.now()).order_by("due_at")
        owners = dict.fromkeys(due.values_list("invoice_id", "static_address_id")[:SWEPT_AT_ONCE])
        fresh = [owner for owner in owners if owner not in seen]
        if not fresh:
            break
        for owner in fresh:
            if budget is not None and budget.events <= 0:
                break
            seen.add(owner)
            invoice_id, static_address_id = owner
            sender, pk = (StaticAddress, static_address_id) if invoice_id is None else (Invoice, invoice_id)
            deliver(sender, pk, budget=budget)
    return len(seen)


_last_passing = 0.0


def sweep_in_passing():
    """A small sweep at the end of any request or service call, at most once per ten seconds and process."""
    global _last_passing
    now = time.monotonic()
    if (
        conf.settings().dispatch != "inline"
        or now - _last_passing < PASSING_INTERVAL
        or transaction.get_connection().in_atomic_block
    ):
        return
    _last_passing = now
    try:
        sweep(budget=Budget(PASSING_EVENTS, now + PASSING_SECONDS))
    except Exception:
        logger.exception("sweeping failed")
