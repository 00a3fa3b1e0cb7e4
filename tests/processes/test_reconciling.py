"""Several processes poll at once, some of them are killed: each payment is asked about, recorded and announced once."""

import contextlib
import itertools
import multiprocessing
import os
import time
from collections import Counter
from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal
from functools import partial

import pytest
from django.utils import timezone

from crypto_invoices.models import Invoice, InvoiceEvent, PaymentAttempt, StaticAddress
from crypto_invoices.reconcile import due_attempts, reconcile
from crypto_invoices.services import create_invoice, create_static_address
from crypto_invoices.signals import DURABLE
from tests.processes.forks import Killed, Reaper, wait_for
from tests.processes.gateway import PAID, PAYING, callback_body
from tests.processes.shop import effects_of, let_time_pass, post, run_command, write_effect
from tests.processes.test_crashes import ROUNDS_AT_MOST, SEED, crash_at, lines_of

pytestmark = pytest.mark.processes

POLLERS, ATTEMPTS = map(int, os.environ.get("PROOF_POLLERS", "4x240").split("x"))
KILLS = int(os.environ.get("PROOF_POLLER_KILLS", "24"))
DEPOSIT_KILLS = int(os.environ.get("PROOF_DEPOSIT_KILLS", "24"))
LOST_CALLS = int(os.environ.get("PROOF_LOST_CALLS", "12"))
MAKERS = 2
BATCH = 24  # invoices
ADDRESSES, DEPOSITS = 2, 4  # of one batch; deposits to each
SLOW = 0.01  # seconds that a receiver takes before its effect, so that some are killed in the middle
STATUSES = {"new": "pending", "paying": "confirming", "paid": "paid"}  # by the gateway's word


def make_invoices(start, count, batch=""):
    def make(number):
        for index in range(number, count, MAKERS):
            create_invoice(amount="25", currency="USD", order_id=f"{batch} {index}")

    for maker in [start(make, number) for number in range(MAKERS)]:
        maker.result()


def poll():
    return asdict(reconcile(concurrency=4))


def poll_and_deliver():
    report = poll()
    run_command("deliver")
    return report


def run_together(start, *works):
    """The results of processes that begin at the same moment."""
    barrier = multiprocessing.get_context("fork").Barrier(len(works))

    def begin(work):
        barrier.wait(120)
        return work()

    return [process.result() for process in [start(begin, work) for work in works]]


def total(reports):
    return {name: sum(report[name] for report in reports) for name in reports[0]}


def say(gateway, words):
    for track_id, word in words.items():
        gateway.say(track_id, word, count=word != "new")


def assert_as_at_the_gateway(words):
    """The statuses of all attempts of these payments, and of their invoices; each change brought one event."""
    found = {
        attempt.gateway_id: (attempt.gateway_status, attempt.invoice.status)
        for attempt in PaymentAttempt.objects.filter(gateway_id__in=words).select_related("invoice")
    }
    assert found == {track_id: (word, STATUSES[word]) for track_id, word in words.items()}


def test_processes_ask_about_each_attempt_once(shop, gateway, start, monkeypatch):
    """``PROOF_POLLERS=<processes>x<attempts>``; half of the attempts have changed at the gateway."""
    monkeypatch.setattr("crypto_invoices.reconcile.PORTION", 10)  # so that they meet at many claims
    make_invoices(start, ATTEMPTS)
    tracks = [payment["track_id"] for payment in gateway.payments()]
    words = {track_id: ("paid", "new", "paying", "new")[number % 4] for number, track_id in enumerate(tracks)}
    say(gateway, words)
    changed = sum(word != "new" for word in words.values())
    for round_number, news in [(1, changed), (2, 0)]:
        let_time_pass()
        reports = run_together(start, *[poll] * POLLERS)
        expected = {"polled": ATTEMPTS, "changed": news, "failed": 0, "paused": 0, "expired": 0}
        assert total(reports) == expected, f"round {round_number}"
        assert {payment["asked"] for payment in gateway.payments()} == {round_number}
        assert sum(report["polled"] > 0 for report in reports) > 1, "one process had no competitor"
        assert not due_attempts().exists()
        assert_as_at_the_gateway(words)
        assert Counter(InvoiceEvent.objects.values_list("version", flat=True)) == {1: ATTEMPTS, 2: changed}
        assert shop.audit() == []


def test_t39_kills_of_polling_processes(shop, gateway, start, vendor):
    """``PROOF_POLLER_KILLS`` on each database; ``PROOF_SEED`` repeats the choices of a run."""

    def pack(*, signal, event_id, **kwargs):
        time.sleep(SLOW)
        write_effect("pack", signal, event_id)

    DURABLE["invoice_paid"].connect(pack, dispatch_uid="pack", weak=False)
    print(f"PROOF_SEED={SEED}")
    reaper = Reaper(f"{SEED} {vendor} pollers")
    for batch in itertools.count(1):
        name = f"batch {batch}"
        make_invoices(start, BATCH, name)
        tracks = [payment["track_id"] for payment in gateway.payments() if payment["description"].startswith(f"{name} ")]
        words = dict.fromkeys(tracks, "new")
        steps = [(word, track_id) for word in ("paying", "paid") for track_id in tracks]
        steps = steps[: -BATCH // 4]  # some are not paid in the end
        reaper.chance.shuffle(steps)
        while steps:
            told = [steps.pop() for _ in range(min(len(steps), BATCH // 4))]
            news = {track_id: word for word, track_id in told if words[track_id] != "paid"}
            words |= news
            say(gateway, news)
            let_time_pass()  # the claims of those who died have ended
            reaper.reap([start(poll_and_deliver) for _ in range(2)])
        let_time_pass()
        assert total(run_together(start, *[poll_and_deliver] * POLLERS))["failed"] == 0
        assert_as_at_the_gateway(words)
        assert shop.audit() == []
        assert Invoice.objects.count() == len(gateway.payments()) == batch * BATCH
        if reaper.kills >= KILLS:
            break
    print(f"{reaper.kills} kills, {batch * BATCH} invoices")


# Static addresses


@pytest.fixture
def till(shop):
    """A receiver that credits each deposit, in the same database."""

    def credit(*, signal, static_address, transfer, **kwargs):
        time.sleep(SLOW)
        write_effect("credit", signal, f"{static_address.uuid}.{transfer.key}")

    DURABLE["deposit_received"].connect(credit, dispatch_uid="credit", weak=False)
    yield shop


def make_addresses(customers):
    for customer in customers:
        create_static_address(pay_currency="USDT@tron", customer=customer)


def credited(address):
    return [effect.partition(".")[2] for effect in effects_of("credit", address)]


def assert_deposited(payment, count):
    """Each transfer is recorded once, as one event of the address, and each receiver had each of these once, in order."""
    address = StaticAddress.objects.get(gateway_id=payment["track_id"])
    keys = [f"0x{payment['track_id']}{number:04}" for number in range(1, count + 1)]
    transfers = sorted(address.transfers.values_list("key", "amount", "confirmed"))
    assert transfers == [(key, Decimal(25), True) for key in keys]
    events = list(address.events.select_related("static_address", "transfer").order_by("version"))
    assert [event.version for event in events] == list(range(1, address.version + 1))
    deposits = [event for event in events if event.signals]
    assert sorted(event.transfer.key for event in deposits) == keys
    assert credited(address) == [event.transfer.key for event in deposits]
    assert effects_of("note", address) == [event.event_id for event in deposits]
    assert not address.events.filter(due_at__isnull=False).exists()


def deposit(gateway, payment):
    """A poll tells of a first transfer, callbacks of a second one as well; then what is due is delivered."""
    run_command("reconcile")
    gateway.say(payment["track_id"], "paid", count=2)
    for word in (PAYING, PAID):
        assert post(payment["callback_url"], callback_body(payment, word, count=2)) == (200, b"ok")
    run_command("deliver")


def deposit_and_crash(gateway, payment, number):
    with crash_at(number):
        deposit(gateway, payment)


def send_again(gateway, payment):
    for _ in range(2):
        for word in (PAYING, PAID, PAYING):
            assert post(payment["callback_url"], callback_body(payment, word, count=2)) == (200, b"ok")
        run_command("deliver")
        let_time_pass()
    run_command("deliver")


def ask_the_gateway(gateway, payment):
    gateway.say(payment["track_id"], "paid", count=2)
    for _ in range(2):
        let_time_pass()
        run_command("reconcile")
        run_command("deliver")


@pytest.mark.parametrize(("dispatch", "recover"), [("inline", send_again), ("worker", ask_the_gateway)])
def test_t39_crash_at_every_commit_of_a_deposit(dispatch, recover, till, gateway, package_settings, start):
    package_settings(DISPATCH=dispatch)
    unannounced = 0
    for number in range(1, ROUNDS_AT_MOST):
        customer = f"crash point {number}"
        start(make_addresses, [customer]).result()
        [payment] = gateway.payments(customer)
        gateway.say(payment["track_id"], "paid", count=1)
        let_time_pass()
        try:
            start(deposit_and_crash, gateway, payment, number).result()
            survived = True
        except Killed:
            survived = False
        address = StaticAddress.objects.get(customer=customer)
        unannounced += address.transfers.filter(confirmed=True).count() > len(credited(address))
        start(recover, gateway, payment).result()
        assert_deposited(payment, 2)
        StaticAddress.objects.update(next_poll_at=None)  # the next life has only its own address to ask about
        if survived:
            break
    else:
        pytest.fail("no life ended without a crash")
    print(f"{number - 1} crash points, {unannounced} of them between a deposit and its signal")
    assert unannounced > 1, "the moment between the commit of a deposit and its signal was not reached"


def receive(letters, seed, report):
    """A web server's life: callbacks come in any order."""
    Reaper(seed).chance.shuffle(letters)
    for name, url, body in letters:
        status, _ = post(url, body)
        assert status in (200, 503)
        if status == 200:  # else it is sent again
            os.write(report, f"{name}\n".encode())
    run_command("deliver")


def keep_polling():
    for _ in range(3):
        StaticAddress.objects.update(next_poll_at=timezone.now() - timedelta(seconds=1))
        poll_and_deliver()


def test_t39_kills_while_callbacks_and_polls_tell_of_the_same_deposits(till, gateway, start, vendor):
    """``PROOF_DEPOSIT_KILLS`` on each database; ``PROOF_SEED`` repeats the choices of a run."""
    print(f"PROOF_SEED={SEED}")
    reaper = Reaper(f"{SEED} {vendor} deposits")
    report, reporting = os.pipe()
    os.set_blocking(report, False)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, report)
        stack.callback(os.close, reporting)
        for batch in itertools.count(1):
            customers = [f"customer {batch} {number}" for number in range(ADDRESSES)]
            start(make_addresses, customers).result()
            payments = [payment for payment in gateway.payments() if payment["description"] in customers]
            assert len(payments) == ADDRESSES
            for words in [(PAYING,), (PAYING, PAID)]:
                for payment in payments:
                    gateway.say(payment["track_id"], words[-1].lower(), count=DEPOSITS)
                letters = [
                    (f"{payment['track_id']} {word} {number}", payment["callback_url"], callback_body(payment, word, only=number))
                    for payment in payments
                    for word in words
                    for number in range(1, DEPOSITS + 1)
                ]
                while letters:
                    let_time_pass()
                    servers = [start(receive, letters, reaper.chance.random(), reporting) for _ in range(2)]
                    reaper.reap([*servers, start(keep_polling)])
                    heard = set(lines_of(report))
                    letters = [letter for letter in letters if letter[0] not in heard]
            let_time_pass()
            start(run_command, "deliver").result()
            for payment in payments:
                assert_deposited(payment, DEPOSITS)
            if reaper.kills >= DEPOSIT_KILLS:
                break
    print(f"{reaper.kills} kills, {batch * ADDRESSES * DEPOSITS} deposits")


# Creating


def test_t62_t63_lost_create_calls_are_found_once(shop, gateway, start):
    """``PROOF_LOST_CALLS`` processes die between the gateway's invoice and its answer; pollers and second clicks meet."""
    gateway.fall_silent()
    orders = [f"order {number}" for number in range(LOST_CALLS)]

    def create(order):
        return create_invoice(amount="25", currency="USD", order_id=order, idempotency_key=order).pk

    def create_again():
        return [create(order) for order in orders]

    for order in orders:
        caller = start(create, order)
        wait_for(partial(gateway.payments, order), "the gateway's invoice")
        assert caller.kill()
    assert set(PaymentAttempt.objects.values_list("state", "gateway_id")) == {("creating", "")}
    let_time_pass()
    *reports, first, second = run_together(start, *[poll] * POLLERS, create_again, create_again)
    assert total(reports)["failed"] == 0
    invoices = {invoice.order_id: invoice.pk for invoice in Invoice.objects.all()}
    assert first == second == [invoices[order] for order in orders]
    assert len(invoices) == LOST_CALLS
    payments = gateway.payments()
    assert sorted(payment["description"] for payment in payments) == sorted(orders), "a second create call"
    bound = PaymentAttempt.objects.values_list("invoice__order_id", "gateway_id", "reference", "state")
    expected = [(payment["description"], payment["track_id"], payment["order_id"], "open") for payment in payments]
    assert sorted(bound) == sorted(expected)
    words = {payment["track_id"]: "paid" for payment in payments}
    say(gateway, words)
    let_time_pass()
    assert total(run_together(start, *[poll_and_deliver] * POLLERS))["failed"] == 0
    assert_as_at_the_gateway(words)
    assert shop.audit() == []
