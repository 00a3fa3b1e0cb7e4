"""T41: a receiver takes long, and the gateway sends the same callback again meanwhile."""

import multiprocessing

import pytest

from crypto_invoices.models import Invoice, InvoiceEvent
from crypto_invoices.services import create_invoice
from crypto_invoices.signals import DURABLE
from tests.processes.forks import wait_for
from tests.processes.gateway import PAID, callback_body
from tests.processes.shop import post, run_command, undeliver, write_effect

pytestmark = pytest.mark.processes

GENEROUS = 40  # seconds that the receiver waits for the answer to the duplicate; then the test has failed


@pytest.fixture
def slow(shop):
    """A receiver of ``invoice_paid`` that runs until the duplicate was answered: its events and what it saw."""
    context = multiprocessing.get_context("fork")
    events = {"entered": context.Event(), "answered": context.Event(), "in time": context.Event()}

    def handle(*, signal, event_id, **kwargs):
        events["entered"].set()
        if events["answered"].wait(GENEROUS):
            events["in time"].set()
        write_effect("slow", signal, event_id)

    events["connect"] = lambda atomic: DURABLE["invoice_paid"].connect(handle, dispatch_uid="slow", atomic=atomic, weak=False)
    yield events


def send_and_tell(events, url, body):
    answer = post(url, body)
    events["answered"].set()
    return answer


def sell(gateway, order):
    create_invoice(amount="25", currency="USD", order_id=order)
    [payment] = gateway.payments(order)
    return payment


@pytest.mark.parametrize("others_wait", [False, True], ids=["alone", "another-event-is-due"])
@pytest.mark.parametrize("atomic", [True, False], ids=["in-a-transaction", "outside"])
def test_t41_a_duplicate_is_answered_while_the_receiver_runs(atomic, others_wait, shop, gateway, start, slow):
    slow["connect"](atomic)
    payment = start(sell, gateway, "slow").result()
    if others_wait:
        start(sell, gateway, "other").result()
        undeliver(InvoiceEvent.objects.filter(invoice__order_id="other"))
    body = callback_body(payment, PAID)
    first = start(post, payment["callback_url"], body)
    wait_for(lambda: slow["entered"].is_set() or first.poll(), "the slow receiver")
    assert slow["entered"].is_set(), first.result()
    second = start(send_and_tell, slow, payment["callback_url"], body)
    assert second.result() == (200, b"ok")
    assert first.result() == (200, b"ok")
    assert slow["in time"].is_set(), "the duplicate was answered only after the receiver had ended"
    invoice = Invoice.objects.get(order_id="slow")
    assert (invoice.status, invoice.version) == ("paid", 2)
    if others_wait:
        start(run_command, "deliver").result()
    assert shop.audit() == []


def test_t41_with_a_worker_the_answer_goes_first(shop, gateway, start, slow, package_settings):
    package_settings(DISPATCH="worker")
    slow["connect"](True)
    payment = start(sell, gateway, "slow").result()
    slow["answered"].set()  # nobody is to wait here
    assert start(post, payment["callback_url"], callback_body(payment, PAID)).result() == (200, b"ok")
    assert not slow["entered"].is_set(), "the receiver ran before the answer"
    assert InvoiceEvent.objects.get(new_status="paid").due_at is not None
    start(run_command, "deliver").result()
    assert slow["entered"].is_set()
    assert shop.audit() == []
