"""Creating an invoice while others do the same, or while its first callback is already on the way."""

import multiprocessing
import socketserver
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import pytest
from django.core.wsgi import get_wsgi_application

from crypto_invoices.models import Invoice
from crypto_invoices.services import create_invoice
from tests.processes.gateway import PAID, PAYING

pytestmark = pytest.mark.processes

CALLERS, KEYS = 16, 6


def test_t63_sixteen_processes_create_with_one_idempotency_key(shop, gateway, start):
    barrier = multiprocessing.get_context("fork").Barrier(CALLERS)

    def create_all():
        made = []
        for number in range(KEYS):
            barrier.wait(120)
            made.append(
                create_invoice(amount="25", currency="USD", order_id=f"order {number}", idempotency_key=f"key {number}").pk
            )
        return made

    results = [process.result() for process in [start(create_all) for _ in range(CALLERS)]]
    payments = gateway.payments()
    assert len({tuple(made) for made in results}) == 1, "some caller got another invoice"
    assert Invoice.objects.count() == KEYS
    assert sorted(payment["description"] for payment in payments) == [f"order {number}" for number in range(KEYS)]
    invoices = list(Invoice.objects.order_by("order_id"))
    assert [[attempt.gateway_id for attempt in invoice.attempts.all()] for invoice in invoices] == [
        [payment["track_id"]] for payment in sorted(payments, key=lambda payment: payment["description"])
    ]
    assert shop.audit() == []


class ThreadingWSGIServer(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


@pytest.mark.parametrize(("word", "status", "events"), [(PAYING, "confirming", 2), (PAID, "paid", 2)])
def test_t32_the_callback_arrives_before_create_has_returned(word, status, events, shop, gateway, package_settings, start):
    server = ThreadingWSGIServer(("127.0.0.1", 0), Quiet)
    package_settings(BASE_URL=f"http://127.0.0.1:{server.server_address[1]}")

    def serve():
        server.set_app(get_wsgi_application())
        server.serve_forever()

    start(serve)
    server.server_close()
    gateway.call_back_while_creating(word)

    def create():
        invoice = create_invoice(amount="25", currency="USD", order_id="early")
        return invoice.pk, invoice.status, invoice.payment_url

    pk, returned_status, payment_url = start(create).result()
    [payment] = gateway.payments()
    assert payment["answers"] == [[200, "ok"]]
    invoice = Invoice.objects.get(pk=pk)
    [attempt] = invoice.attempts.all()
    assert (invoice.status, returned_status, invoice.version) == (status, status, events)
    assert (attempt.gateway_id, attempt.gateway_status) == (payment["track_id"], word.lower())
    assert attempt.payment_url == f"http://127.0.0.1:{gateway.port}/pay/{payment['track_id']}"
    assert int(attempt.expires_at.timestamp()) == payment["expired_at"]
    assert attempt.receipts.get().verdict == "applied"
    if word == PAYING:
        assert payment_url == attempt.payment_url
    assert not invoice.needs_review
    assert shop.audit(invoice) == []
