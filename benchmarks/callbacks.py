"""How much a callback costs: ours against a floor written by hand, on PostgreSQL, through the WSGI handler.

    python -m benchmarks.callbacks [--rounds 400] [--database postgres://postgres@127.0.0.1:5432/postgres]

Every round sends one callback of each kind, in random order, so that a change of the machine's speed meets all of them.
Medians in milliseconds and their ratios are printed, and exit status 1 tells that a limit was missed. Commits are durable:
the server's ``fsync`` and ``synchronous_commit`` must be on. The database ``crypto_invoices_benchmark`` is made anew.
"""

import argparse
import hashlib
import hmac
import io
import json
import random
import statistics
import sys
import time

import django

from .project import KEY, configure, make_database

LIMITS = {  # figure -> (compared with, at most)
    "first delivery": ("floor", 1.6),
    "first delivery, one receiver": ("floor", 2.4),
    "duplicate": ("floor", 1.0),
    "forged": ("only verifying", 1.5),
}


def make_tables():
    from django.core.management import call_command
    from django.db import connection

    from benchmarks import floor

    call_command("migrate", verbosity=0)
    with connection.schema_editor() as editor:
        for model in (floor.FloorInvoice, floor.FloorEvent, floor.Shipment):
            editor.create_model(model)


def payload(track_id, order_id):
    """A Paid callback of OxaPay, in the shape of its documentation, with one transaction."""
    return json.dumps(
        {
            "track_id": track_id, "status": "Paid", "type": "invoice", "module_name": "DemoShop", "amount": 25, "value": 25.1,
            "sent_value": 25.1, "currency": "USD", "order_id": order_id, "email": "", "note": "", "fee_paid_by_payer": 0,
            "under_paid_coverage": 2.5, "description": "Test order", "date": 1760000000,
            "txs": [
                {
                    "status": "confirmed", "tx_hash": f"0x{track_id}", "sent_amount": 25.1, "received_amount": 25.0,
                    "value": 25.1, "sent_value": 25.1, "currency": "USDT", "network": "Tron Network",
                    "sender_address": "TSender", "address": "TReceiver", "memo": "", "rate": 1, "confirmations": 20,
                    "auto_convert_amount": 0, "auto_convert_currency": "", "date": 1760000100,
                }
            ],
        },
        separators=(",", ":"),
    ).encode()  # fmt: skip


class Requests:
    """Makes callbacks, each for an invoice of its own, and times them."""

    def __init__(self):
        from django.core.wsgi import get_wsgi_application

        self.handle = get_wsgi_application()
        self.number = 0

    def send(self, path, body, key):
        """``(status, seconds)`` of one POST through the WSGI handler, response closed."""
        environ_ = {
            "REQUEST_METHOD": "POST", "PATH_INFO": path, "SCRIPT_NAME": "", "QUERY_STRING": "", "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80", "HTTP_HOST": "127.0.0.1", "REMOTE_ADDR": "127.0.0.1", "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)), "HTTP_HMAC": hmac.new(key, body, hashlib.sha512).hexdigest(),
            "wsgi.input": io.BytesIO(body), "wsgi.url_scheme": "http", "wsgi.errors": sys.stderr, "wsgi.version": (1, 0),
            "wsgi.multithread": False, "wsgi.multiprocess": False, "wsgi.run_once": False, "SERVER_PROTOCOL": "HTTP/1.1",
        }  # fmt: skip
        status = []
        started = time.perf_counter()
        response = self.handle(environ_, lambda line, headers: status.append(line))
        b"".join(response)
        response.close()
        return int(status[0].split()[0]), time.perf_counter() - started

    def ours(self):
        """``(path, body)`` for a new invoice with an open attempt."""
        from django.utils import timezone

        from crypto_invoices import conf
        from crypto_invoices.models import Invoice, PaymentAttempt
        from crypto_invoices.orders import callback_url
        from crypto_invoices.statuses import AttemptState

        self.number += 1
        invoice = Invoice.objects.create(amount=25, currency="USD", order_id=f"ORD-{self.number}", version=1)
        attempt = PaymentAttempt.objects.create(
            invoice=invoice, account="default", provider="crypto_invoices.providers.oxapay.OxaPay", identity="0" * 16,
            amount=25, currency="USD", gateway_id=str(900000000 + self.number), state=AttemptState.OPEN, live_key=invoice.pk,
            next_poll_at=timezone.now(),
        )  # fmt: skip
        path = callback_url(conf.provider_for("default"), attempt.reference).removeprefix("https://shop.example")
        return path, payload(attempt.gateway_id, attempt.reference)

    def floor(self):
        from benchmarks.floor import FloorInvoice
        from crypto_invoices.models import new_reference

        self.number += 1
        reference = new_reference()
        FloorInvoice.objects.create(reference=reference, amount=25, currency="USD", status="pending")
        return "/floor/", payload(str(900000000 + self.number), reference)


def ship(sender, invoice, **kwargs):
    from benchmarks.floor import Shipment

    Shipment.objects.create(invoice=str(invoice.uuid))


def cases(requests):
    """``{name: callable returning (status, seconds)}``."""
    from benchmarks import floor
    from crypto_invoices.signals import invoice_paid

    key = KEY.encode()

    def floor_first():
        return requests.send(*requests.floor(), floor.KEY)

    def first():
        return requests.send(*requests.ours(), key)

    def with_receiver():
        path, body = requests.ours()
        invoice_paid.connect(ship, dispatch_uid="benchmark.ship")
        try:
            return requests.send(path, body, key)
        finally:
            invoice_paid.disconnect(dispatch_uid="benchmark.ship")

    def duplicate():
        path, body = requests.ours()
        requests.send(path, body, key)
        return requests.send(path, body, key)

    def forged():
        path, body = requests.ours()
        return requests.send(path, body, b"another key")

    def only_verifying():
        _path, body = requests.floor()
        return requests.send("/verify-only/", body, b"another key")

    return {
        "floor": (floor_first, 200), "first delivery": (first, 200), "first delivery, one receiver": (with_receiver, 200),
        "duplicate": (duplicate, 200), "forged": (forged, 403), "only verifying": (only_verifying, 403),
    }  # fmt: skip


def statements(run):
    """The SQL of one run's last request, each cut to one short line."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as captured:
        run()
    found = [query["sql"] for query in captured.captured_queries]
    return [" ".join(sql.split())[:60] for sql in found]


def print_statements(kinds, requests):
    import itertools

    columns = {}
    for name in ("floor", "first delivery", "first delivery, one receiver", "duplicate", "forged"):
        made = requests.send
        lines = []

        def send(path, body, key, lines=lines, made=made):
            result = []
            lines[:] = statements(lambda: result.append(made(path, body, key)))
            return result[0]

        requests.send = send
        kinds[name][0]()
        requests.send = made
        columns[name] = list(lines)
    for name, lines in columns.items():
        print(f"\n{name}: {len(lines)} statements")
        for line in lines:
            print(f"    {line}")
    print()
    return list(itertools.chain(*columns.values()))


def measure(kinds, rounds):
    times = {name: [] for name in kinds}
    for number in range(rounds + 20):
        for name, (run, expected) in random.sample(sorted(kinds.items()), len(kinds)):
            status, seconds = run()
            if status != expected:
                sys.exit(f"{name}: answered {status} instead of {expected}")
            if number >= 20:  # the first rounds warm up
                times[name].append(seconds)
    return times


def report(times):
    medians = {name: statistics.median(values) * 1000 for name, values in times.items()}
    missed = []
    print(f"{'':32}{'median ms':>10}{'ratio':>8}{'limit':>8}")
    for name, median in medians.items():
        line = f"{name:32}{median:10.3f}"
        if name in LIMITS:
            base, limit = LIMITS[name]
            ratio = median / medians[base]
            line += f"{ratio:8.2f}{limit:8.1f}  x {base}"
            if ratio > limit:
                missed.append(name)
                line += "  MISSED"
        print(line)
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--database", default="postgres://postgres@127.0.0.1:5432/postgres")
    options = parser.parse_args()
    database = configure(options.database)
    make_database(database)
    make_tables()
    requests = Requests()
    kinds = cases(requests)
    print_statements(kinds, requests)
    missed = report(measure(kinds, options.rounds))
    print(f"\n{options.rounds} interleaved rounds on PostgreSQL, durable commits, Django {django.__version__}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
