"""A process dies of SIGKILL: at every commit and outbound call in turn, and at random. Nothing may be lost or done twice."""

import contextlib
import itertools
import os
import random
import secrets
import signal
import time

import pytest
from django.db import connection
from requests.adapters import HTTPAdapter

from crypto_invoices.models import Invoice
from crypto_invoices.services import create_invoice
from tests.processes.forks import Killed
from tests.processes.gateway import PAID, PAYING, callback_body
from tests.processes.shop import let_time_pass, post, run_command

pytestmark = pytest.mark.processes

ROUNDS_AT_MOST = 300  # of crash points; one life has far fewer
KILLS = int(os.environ.get("PROOF_KILLS", "300"))
SEED = os.environ.get("PROOF_SEED") or secrets.token_hex(4)
WORKERS, INVOICES = 2, 5  # of one life


@contextlib.contextmanager
def crash_at(number):
    """This process dies at its ``number``-th point. Points lie right before and right after each commit, each statement
    that commits itself, and each outbound call."""
    passed = itertools.count(1)

    def point():
        if next(passed) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def surrounded(call):
        def surrounding(*args, **kwargs):
            point()
            answer = call(*args, **kwargs)
            point()
            return answer

        return surrounding

    def watch(execute, sql, params, many, context):
        by_itself = not connection.in_atomic_block and sql.split(None, 1)[0] in ("INSERT", "UPDATE", "DELETE")
        return (surrounded(execute) if by_itself else execute)(sql, params, many, context)

    connection.commit = surrounded(connection.commit)
    HTTPAdapter.send = surrounded(HTTPAdapter.send)
    with connection.execute_wrapper(watch):
        yield


def sell(gateway, order):
    """A whole life: the invoice is made, both callbacks come in, and what is due is delivered."""
    create_invoice(amount="25", currency="USD", order_id=order)
    [payment] = gateway.payments(order)
    gateway.say(payment["track_id"], "paid", count=1)
    for word in (PAYING, PAID):
        assert post(payment["callback_url"], callback_body(payment, word)) == (200, b"ok")
    run_command("deliver")


def sell_and_crash(gateway, order, number):
    with crash_at(number):
        sell(gateway, order)


def send_again(gateway, order):
    """The gateway does not know that it was heard: it sends everything again, and once more when the lease has ended."""
    for _ in range(2):
        for payment in gateway.payments(order):
            for word in (PAYING, PAID, PAYING, PAID):
                assert post(payment["callback_url"], callback_body(payment, word)) == (200, b"ok")
        run_command("deliver")
        let_time_pass(order)
    run_command("deliver")


def ask_the_gateway(gateway, order):
    """No callback ever comes again: the commands that cron runs have to do it all."""
    for payment in gateway.payments(order):
        gateway.say(payment["track_id"], "paid", count=1)
    for _ in range(2):
        let_time_pass(order)
        run_command("reconcile")
        run_command("deliver")


@pytest.mark.parametrize("recover", [send_again, ask_the_gateway])
@pytest.mark.parametrize("dispatch", ["inline", "worker"])
def test_g8_t39_crash_at_every_commit_and_every_outbound_call(dispatch, recover, shop, gateway, package_settings, start):
    package_settings(DISPATCH=dispatch)
    for number in range(1, ROUNDS_AT_MOST):
        order = f"crash point {number}"
        try:
            start(sell_and_crash, gateway, order, number).result()
            survived = True
        except Killed:
            survived = False
        start(recover, gateway, order).result()
        invoice = Invoice.objects.filter(order_id=order).first()
        payments = gateway.payments(order)
        assert len(payments) <= 1, f"{order}: two invoices at the gateway"
        assert invoice or not payments, f"{order}: the gateway has an invoice that we do not know"
        if invoice:
            expected = ("paid", True) if payments else ("pending", False)
            assert (invoice.status, invoice.is_paid) == expected, f"{order}: {invoice.status}"
            assert shop.audit(invoice) == [], order
        if survived:
            break
    else:
        pytest.fail("no life ended without a crash")
    print(f"{number - 1} crash points")
    assert number > 15, "the crash points were not reached"
    assert shop.audit() == []


def live(gateway, batch, letters, seed, report):
    """A worker's life: what was not yet acknowledged is received in any order, then what is due is delivered."""
    chance = random.Random(seed)
    os.write(report, b"started\n")
    if letters is None:
        for number in range(INVOICES):
            key = f"{batch} {number}"
            create_invoice(amount="25", currency="USD", order_id=key, idempotency_key=key)
    else:
        chance.shuffle(letters)
        for name, url, body in letters:
            assert post(url, body)[0] == 200
            os.write(report, f"{name}\n".encode())
    run_command("deliver")


def lines_of(descriptor):
    """What has been reported so far; the pipe does not block."""
    data = b""
    with contextlib.suppress(BlockingIOError):
        while chunk := os.read(descriptor, 65536):
            data += chunk
    return data.decode().splitlines()


def test_g9_t39_random_kills(shop, gateway, start, vendor):
    """``PROOF_KILLS`` in all, half of them on each database; ``PROOF_SEED`` repeats the choices of a run."""
    print(f"PROOF_SEED={SEED}")
    chance = random.Random(f"{SEED} {vendor}")
    wanted, kills, lives, span = max(1, KILLS // 2), 0, 0, 0.3
    report, reporting = os.pipe()
    os.set_blocking(report, False)

    def live_and_die(batch, letters):
        """Runs workers side by side and kills each at some moment. Returns how many were killed, and who was heard."""
        nonlocal span
        let_time_pass()
        begun = time.monotonic()
        workers = [start(live, gateway, batch, letters, chance.random(), reporting) for _ in range(WORKERS)]
        ends = sorted(((begun + 0.02 + chance.uniform(0, span), worker) for worker in workers), key=lambda pair: pair[0])
        killed = 0
        for moment, worker in ends:
            while time.monotonic() < moment and not worker.poll():
                time.sleep(0.002)
            killed += worker.kill()
            if not os.WIFSIGNALED(worker.status):
                worker.result()
                span = 0.8 * span + 0.2 * (time.monotonic() - begun)
        if killed == WORKERS:
            span *= 1.1
        return killed, set(lines_of(report))

    try:
        for batch in itertools.count(1):
            name = f"batch {batch}"
            killed, _heard = live_and_die(name, None)
            kills, lives = kills + killed, lives + 1
            start(live, gateway, name, None, 0, reporting).result()  # the shop calls again with the same keys
            payments = [payment for payment in gateway.payments() if payment["description"].startswith(f"{name} ")]
            letters = [
                (f"{payment['track_id']} {word}", payment["callback_url"], callback_body(payment, word))
                for payment in payments
                for word in (PAYING, PAID)
            ]
            open_letters = list(letters)
            while open_letters:
                killed, heard = live_and_die(name, open_letters)
                kills, lives = kills + killed, lives + 1
                # One in ten is sent again although it was heard.
                open_letters = [letter for letter in open_letters if letter[0] not in heard or chance.random() < 0.1]
            for payment in payments:
                gateway.say(payment["track_id"], "paid", count=1)
            let_time_pass()
            start(run_command, "deliver").result()
            invoices = list(Invoice.objects.filter(order_id__startswith=f"{name} "))
            assert len(invoices) == INVOICES
            at_gateway = {payment["description"] for payment in payments}
            assert len(at_gateway) == len(payments), "two invoices at the gateway for one order"
            states = {invoice.order_id: (invoice.status, invoice.is_paid) for invoice in invoices}
            assert states == {order: ("paid", True) if order in at_gateway else ("pending", False) for order in states}
            assert shop.audit(*invoices) == []
            if kills >= wanted:
                break
    finally:
        os.close(report)
        os.close(reporting)
    print(f"{kills} kills in {lives} lives of {WORKERS} processes, {batch * INVOICES} invoices")
    assert shop.audit() == []
