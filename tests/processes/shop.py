"""The shop around the package: its receivers and what they leave behind, its endpoint, its clock, and its auditor."""

import io
import os
from collections import Counter, defaultdict
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from crypto_invoices.models import EventDelivery, Invoice, InvoiceEvent, PaymentAttempt, StaticAddress
from crypto_invoices.signals import DURABLE
from tests.processes.gateway import sign

EFFECTS = "processes_effect"
IN_DATABASE = ("note", "ship")  # receivers whose effects are rows of the same database
OUTSIDE = ("mail",)  # receivers whose effects are elsewhere
MAILED = ("invoice_confirming", "invoice_paid")


class Shop:
    """Receivers and the books of one test. ``folder`` takes what happens outside of the database."""

    def __init__(self, folder):
        self.mails = Path(folder) / "mails"
        self.failures = Path(folder) / "failures"

    def open(self):
        """Makes the table of effects and connects the receivers, instead of all others."""
        number = {"postgresql": "bigserial PRIMARY KEY", "mysql": "bigint AUTO_INCREMENT PRIMARY KEY"}.get(
            connection.vendor, "integer PRIMARY KEY AUTOINCREMENT"
        )
        with connection.cursor() as cursor:
            cursor.execute(
                f"CREATE TABLE {EFFECTS} (id {number}, receiver varchar(40) NOT NULL, signal_name varchar(40) NOT NULL,"
                " event varchar(80) NOT NULL)"
            )
        self.others = [(signal, other) for signal in DURABLE.values() for other in signal.connections(Invoice)]
        for signal, other in self.others:
            assert signal.disconnect(dispatch_uid=other.key)
        DURABLE["invoice_paid"].connect(self.ship, dispatch_uid="ship")
        for name, signal in DURABLE.items():
            signal.connect(self.note, dispatch_uid="note")
            if name in MAILED:
                signal.connect(self.mail, dispatch_uid="mail", atomic=False)

    def close(self):
        for signal in DURABLE.values():
            for ours in signal.connections(Invoice):
                signal.disconnect(dispatch_uid=ours.key)
        for signal, other in self.others:
            signal.connect(other.reference(), sender=other.sender, dispatch_uid=other.key, atomic=other.atomic)

    # Receivers

    def ship(self, *, signal, event_id, **kwargs):
        write_effect("ship", signal, event_id)

    def note(self, *, signal, event_id, **kwargs):
        write_effect("note", signal, event_id)

    def mail(self, *, signal, event_id, **kwargs):
        append(self.mails, f"{signal.name} {event_id}")

    # The auditor

    def audit(self, *invoices, delivered=True):
        """What is wrong in the books of these invoices, or of all; ``[]`` when they balance.

        Events and versions agree, no status was skipped, ``invoice_paid`` stands once where the invoice is paid and else
        nowhere, and every signal of every event reached each receiver: once in the database, at least once outside, in
        order. ``delivered=False`` leaves out what has not been delivered yet.
        """
        ids = [invoice.pk for invoice in invoices]
        rows = Invoice.objects.filter(pk__in=ids) if ids else Invoice.objects.all()
        events = defaultdict(list)
        for event in InvoiceEvent.objects.filter(invoice__in=rows).select_related("invoice").order_by("version"):
            events[event.invoice_id].append(event)
        effects = defaultdict(list)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT receiver, signal_name, event FROM {EFFECTS} ORDER BY id")
            for receiver, signal, event_id in cursor.fetchall():
                effects[event_id.partition(".")[0]].append((receiver, signal, event_id))
        mails = Counter(tuple(line.split()) for line in read(self.mails))
        deliveries = defaultdict(list)
        for row in EventDelivery.objects.filter(event__invoice__in=rows):
            deliveries[row.event_id].append((row.signal, row.receiver, row.state))
        wrong = []
        for invoice in rows:
            wrong += [
                f"{invoice.pk} {invoice.status}: {text}"
                for text in _audit_one(invoice, events[invoice.pk], effects[str(invoice.uuid)], mails, deliveries, delivered)
            ]
        return wrong


def _audit_one(invoice, events, effects, mails, deliveries, delivered):
    versions = [event.version for event in events]
    if versions != list(range(1, invoice.version + 1)):
        yield f"version {invoice.version}, but events {versions}"
    chain = [("", ""), *((event.old_status, event.new_status) for event in events)]
    if any(before[1] != after[0] for before, after in pairwise(chain)) or chain[-1][1] != invoice.status:
        yield f"statuses {chain[1:]}"
    paid = [event.event_id for event in events if "invoice_paid" in event.signals]
    if len(paid) != invoice.is_paid:
        yield f"is_paid is {invoice.is_paid}, but invoice_paid was emitted {len(paid)} times"
    due = [event.version for event in events if event.due_at is not None]
    if due and delivered:
        yield f"events {due} were not delivered"
    expected = Counter(
        (connected.key, name, event.event_id)
        for event in events
        for name in event.signals
        for connected in DURABLE[name].connections(Invoice)
    )
    wanted = Counter({key: number for key, number in expected.items() if key[0] not in OUTSIDE})
    done = Counter(effects)
    if done - wanted:
        yield f"done too often: {done - wanted}"
    if delivered:
        if wanted - done:
            yield f"lost: {wanted - done}"
        unsent = [key for key in expected if key[0] in OUTSIDE and not mails[key[1:]]]
        if unsent:
            yield f"not sent: {unsent}"
        rows = Counter(
            (key, name, event.event_id) for event in events for name, key, state in deliveries[event.pk] if state == "done"
        )
        if rows != expected:
            yield f"delivery rows differ: {rows - expected} {expected - rows}"
    for receiver in {receiver for receiver, _signal, _event in effects}:
        order = [int(event.partition(".")[2]) for each, _signal, event in effects if each == receiver]
        if order != sorted(order):
            yield f"{receiver} got the events in the order {order}"


def write_effect(receiver, signal, event_id):
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {EFFECTS} (receiver, signal_name, event) VALUES (%s, %s, %s)", [receiver, signal.name, event_id]
        )


def undeliver(events):
    """As if the processes that wrote these events had died before they called any receiver."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.executemany(
            f"DELETE FROM {EFFECTS} WHERE event = %s", [[event.event_id] for event in events.select_related("invoice")]
        )
        EventDelivery.objects.filter(event__in=events).delete()
        events.update(due_at=F("created_at"), holder="", tries=0)


def effects_of(receiver, owner):
    """The events of an invoice or a static address that a receiver has handled, in order."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT event FROM {EFFECTS} WHERE receiver = %s AND event LIKE %s ORDER BY id", [receiver, f"{owner.uuid}.%"]
        )
        return [event for (event,) in cursor.fetchall()]


def append(path, line):
    """Adds a line at once, as no other process can come in between."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, f"{line}\n".encode())
    finally:
        os.close(descriptor)


def read(path):
    return path.read_text().splitlines() if path.exists() else []


_handler = None


def post(url, body, *, signature=None):
    """``(status, body)`` of a callback, through the whole WSGI stack of this process; connections live on as in a server."""
    global _handler
    _handler = _handler or WSGIHandler()
    told = {}
    environ = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": urlsplit(url).path,
        "QUERY_STRING": "",
        "SERVER_NAME": "shop.example",
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_HMAC": sign(body) if signature is None else signature,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    response = _handler(environ, lambda status, headers, exc_info=None: told.update(status=int(status[:3])))
    try:
        return told["status"], b"".join(response)
    finally:
        response.close()


def run_command(verb):
    call_command("crypto_invoices", verb, stdout=io.StringIO(), stderr=io.StringIO())


def let_time_pass(order=None):
    """As if hours had gone by: leases end, retries and polls are due, and a create call that hangs is given up.

    For everything, or for one order of the shop's.
    """
    moment = timezone.now() - timedelta(seconds=1)
    these = {} if order is None else {"invoice__order_id": order}
    retries = {} if order is None else {"event__invoice__order_id": order}
    InvoiceEvent.objects.filter(**these, due_at__isnull=False).update(due_at=moment)
    EventDelivery.objects.filter(**retries, next_try_at__isnull=False).update(next_try_at=moment)
    PaymentAttempt.objects.filter(**these, next_poll_at__isnull=False).update(next_poll_at=moment)
    PaymentAttempt.objects.filter(**these, state="creating").update(created_at=moment - timedelta(minutes=5))
    if order is None:
        StaticAddress.objects.filter(next_poll_at__isnull=False).update(next_poll_at=moment)
