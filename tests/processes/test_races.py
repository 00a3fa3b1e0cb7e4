"""Many processes at the same thing at the same moment: one callback, one queue of events."""

import multiprocessing
import os
from collections import Counter

import pytest

from crypto_invoices.models import CallbackReceipt, EventDelivery, Invoice, InvoiceEvent
from crypto_invoices.services import create_invoice
from crypto_invoices.signals import DURABLE
from tests.processes.gateway import PAID, PAYING, callback_body
from tests.processes.shop import append, effects_of, let_time_pass, post, read, run_command, undeliver, write_effect

pytestmark = pytest.mark.processes

SENDERS, PAYMENTS = map(int, os.environ.get("PROOF_PARALLEL", "8x200").split("x"))
SWEEPERS, EVENTS = map(int, os.environ.get("PROOF_SWEEPERS", "4x1000").split("x"))
EVENTS_EACH = 10  # of one invoice
MAKERS = 2
FAILURES = 2  # of the failing receiver, before it succeeds


def make_invoices(number, count):
    for index in range(count):
        create_invoice(amount="25", currency="USD", order_id=f"{number} {index}")


def test_g10_t30_identical_callbacks_at_the_same_moment(shop, gateway, start, vendor):
    """``PROOF_PARALLEL=<processes>x<invoices>``."""
    for maker in [start(make_invoices, number, PAYMENTS // MAKERS) for number in range(MAKERS)]:
        maker.result()
    payments = gateway.payments()
    barrier = multiprocessing.get_context("fork").Barrier(SENDERS)

    def send_all():
        answers = Counter()
        for payment in payments:
            body = callback_body(payment, PAID)
            barrier.wait(120)
            answers[post(payment["callback_url"], body)] += 1
        return answers

    answers = sum((sender.result() for sender in [start(send_all) for _ in range(SENDERS)]), Counter())
    assert answers == {(200, b"ok"): SENDERS * len(payments)}
    assert Invoice.objects.filter(status="paid", version=2).count() == len(payments) == PAYMENTS // MAKERS * MAKERS
    assert shop.audit() == []
    assert InvoiceEvent.objects.filter(new_status="paid").count() == len(payments)
    seen = Counter(CallbackReceipt.objects.values_list("verdict", "seen"))
    # A duplicate is counted, except on SQLite, where it must not wait for the only writer.
    assert seen == {("applied", 1 if vendor == "sqlite" else SENDERS): len(payments)}


def test_g11_processes_sweep_the_same_events(shop, gateway, package_settings, start):
    """``PROOF_SWEEPERS=<processes>x<events>``; every third event of a receiver fails twice before it succeeds."""

    def stumble(*, signal, event_id, **kwargs):
        write_effect("stumble", signal, event_id)
        if int(event_id.rpartition(".")[2]) % 3 == 0 and read(shop.failures).count(event_id) < FAILURES:
            append(shop.failures, event_id)
            raise ValueError("the warehouse does not answer")

    package_settings(DISPATCH="worker")
    DURABLE["payment_received"].connect(stumble, dispatch_uid="stumble", weak=False)
    number = EVENTS // EVENTS_EACH // MAKERS

    def make_events(maker):
        make_invoices(maker, number)
        for payment in gateway.payments():
            if payment["description"].startswith(f"{maker} "):
                for count in range(1, EVENTS_EACH):
                    assert post(payment["callback_url"], callback_body(payment, PAYING, count=count))[0] == 200

    for maker in [start(make_events, maker) for maker in range(MAKERS)]:
        maker.result()
    invoices = list(Invoice.objects.all())
    undeliver(InvoiceEvent.objects.all())
    shop.failures.unlink(missing_ok=True)
    assert InvoiceEvent.objects.count() == len(invoices) * EVENTS_EACH == number * MAKERS * EVENTS_EACH
    barrier = multiprocessing.get_context("fork").Barrier(SWEEPERS)

    def sweep():
        barrier.wait(120)
        run_command("deliver")

    def sweep_together():
        for sweeper in [start(sweep) for _ in range(SWEEPERS)]:
            sweeper.result()

    sweep_together()
    for invoice in invoices:
        versions = [f"{invoice.uuid}.{version}" for version in range(1, EVENTS_EACH + 1)]
        # The note of every event is there, though the other receiver has stumbled and got nothing newer.
        assert list(dict.fromkeys(effects_of("note", invoice))) == versions
        handled = effects_of("stumble", invoice)
        assert len(handled) in (1, 4, 7), "it stumbles over the events 3, 6 and 9, and the first of all is not for it"
        assert handled == versions[1 : 1 + len(handled)]
    assert EventDelivery.objects.filter(state="failed").count() == len(invoices)
    assert shop.audit(delivered=False) == []
    for _ in range(3 * FAILURES):
        let_time_pass()
        sweep_together()
    assert sorted(Counter(read(shop.failures)).items()) == sorted(
        (f"{invoice.uuid}.{version}", FAILURES) for invoice in invoices for version in (3, 6, 9)
    )
    assert all(len(effects_of("stumble", invoice)) == EVENTS_EACH - 1 for invoice in invoices)
    assert shop.audit() == []
