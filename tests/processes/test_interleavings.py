"""T31: two processes change one invoice. The first is stopped right before it writes; the second runs to its end."""

import contextlib
import multiprocessing
from collections import Counter

import pytest
from django.contrib.auth import get_user_model
from django.db import connection

from crypto_invoices import ledger
from crypto_invoices.exceptions import NotAllowed
from crypto_invoices.models import Invoice, InvoiceEvent, PaymentAttempt
from crypto_invoices.services import accept_invoice, cancel_invoice, create_invoice, refresh_invoice, start_attempt
from tests.processes.forks import wait_for
from tests.processes.gateway import PAID, PAYING, callback_body
from tests.processes.shop import effects_of, let_time_pass, post, run_command

pytestmark = pytest.mark.processes

ORDER = "T31"
DONE, REFUSED = "done", "refused"


# The six operations. The invoice's deadline has passed by 20 minutes, the payments were made 10 minutes before it.


def callback(gateway):
    """The gateway says Paid of the first attempt."""
    return answer_to(gateway.payments()[0])


def second(gateway):
    """The gateway says Paid of the attempt that took the first one's place."""
    return answer_to(gateway.payments()[1])


def answer_to(payment):
    assert post(payment["callback_url"], callback_body(payment, PAID)) == (200, b"ok")
    return DONE


def poll(gateway):
    """We ask, and the gateway says of the first attempt that a payment is on its way."""
    refresh_invoice(Invoice.objects.get())
    return DONE


def cancel(gateway):
    return unless_refused(cancel_invoice, Invoice.objects.get(), reason="T31", user=get_user_model().objects.get())


def accept(gateway):
    return unless_refused(accept_invoice, Invoice.objects.get(), reason="T31", user=get_user_model().objects.get())


def expire(gateway):
    """The gateway still says that it waits for a payment, and our clock closes the live attempt."""
    run_command("reconcile")
    return DONE


def unless_refused(service, *args, **kwargs):
    try:
        service(*args, **kwargs)
    except NotAllowed:
        return REFUSED
    return DONE


# (first, the one that is stopped, comes after; second, the winner): what the stopped one reports, then status, is_paid and
# needs_review (None: not laid down) at once, and the status after one more poll.
AFTER = {
    (callback, callback): (DONE, "paid", True, False),
    (callback, poll): (DONE, "paid", True, False),
    (callback, cancel): (DONE, "paid", False, True),  # T35: held, never accepted by itself
    (callback, expire): (DONE, "paid", True, False),  # DECISIONS 7: paid in time, whatever our status was
    (callback, accept): (DONE, "overpaid", True, True),  # rule 5: a later real payment
    (callback, second): (DONE, "overpaid", True, True),  # T25
    (poll, callback): (DONE, "paid", True, False),  # DECISIONS 14: a poll that was overtaken lowers nothing
    (poll, poll): (DONE, "confirming", False, False),
    (poll, cancel): (DONE, "confirming", False, None),
    (poll, expire): (DONE, None, False, None),  # DECISIONS 14 again; the next poll sets it right
    (poll, accept): (DONE, "paid", True, None),
    (poll, second): (DONE, "paid", True, None),
    (cancel, callback): (REFUSED, "paid", True, False),
    (cancel, poll): (REFUSED, "confirming", False, False),  # T31: a cancel against money in flight loses
    (cancel, cancel): (REFUSED, "cancelled", False, False),
    (cancel, expire): (DONE, "cancelled", False, False),
    (cancel, accept): (REFUSED, "paid", True, False),
    (cancel, second): (REFUSED, "paid", True, False),
    (expire, callback): (DONE, "paid", True, False),
    (expire, poll): (DONE, "confirming", False, False),
    (expire, cancel): (DONE, "cancelled", False, False),
    (expire, expire): (DONE, "expired", False, False),
    (expire, accept): (DONE, "paid", True, False),
    (expire, second): (DONE, "paid", True, False),
    (accept, callback): (REFUSED, "paid", True, False),
    (accept, poll): (DONE, "paid", True, None),
    (accept, cancel): (DONE, "paid", True, False),
    (accept, expire): (DONE, "paid", True, False),
    (accept, accept): (REFUSED, "paid", True, False),
    (accept, second): (REFUSED, "paid", True, False),
    (second, callback): (DONE, "overpaid", True, True),
    (second, poll): (DONE, "paid", True, None),
    (second, cancel): (DONE, "paid", False, True),
    (second, expire): (DONE, "paid", True, False),
    (second, accept): (DONE, "overpaid", True, True),
    (second, second): (DONE, "paid", True, False),
}
assert len(AFTER) == 36


@contextlib.contextmanager
def stopped_before_writing(reached, go):
    """Stops this process once, when it has read and computed and is about to open the transaction that writes."""
    write = ledger._write

    def stop(*args, **kwargs):
        ledger._write = write
        reached.set()
        assert go.wait(120)
        return write(*args, **kwargs)

    ledger._write = stop
    yield


@contextlib.contextmanager
def stopped_before_swapping(reached, go):
    """Stops this process once, inside of its transaction, right before it swaps the invoice's version."""

    def watch(execute, sql, params, many, context):
        if sql.startswith('UPDATE "crypto_invoices_invoice" SET "version"') and not reached.is_set():
            reached.set()
            assert go.wait(120)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        yield


def prepare(gateway, pair):
    get_user_model().objects.create(username="staff")
    gateway.expire_at(-20 * 60)
    invoice = create_invoice(amount="25", currency="USD", order_id=ORDER)
    if second in pair:
        start_attempt(invoice)
    payments = gateway.payments()
    PaymentAttempt.objects.update(next_poll_at=None)  # only the live one is polled by ``expire``
    if expire in pair:
        PaymentAttempt.objects.filter(live_key__isnull=False).update(next_poll_at=invoice.created_at)
    for payment in payments:
        gateway.say(payment["track_id"], "waiting", count=0)
    if poll in pair and expire not in pair:
        gateway.say(payments[0]["track_id"], "paying", count=1)


def run_stopped(operation, gateway, stopped, reached, go):
    with stopped(reached, go):
        return operation(gateway)


def run_poll(gateway):
    """``poll`` against ``expire``: the gateway changes its mind between the two."""
    gateway.say(gateway.payments()[0]["track_id"], "paying", count=1)
    return poll(gateway)


def is_blocked():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
        )
        return cursor.fetchone() is not None


def check_pair(later, winner, stopped, shop, gateway, start):
    context = multiprocessing.get_context("fork")
    reached, go = context.Event(), context.Event()
    start(prepare, gateway, (later, winner)).result()
    actual = {poll: run_poll}
    first = start(run_stopped, actual.get(later, later), gateway, stopped, reached, go)
    wait_for(lambda: reached.is_set() or first.poll(), "the first process at its pause point")
    assert reached.is_set(), f"it wrote nothing: {first.result()}"
    other = start(actual.get(winner, winner), gateway)
    # On PostgreSQL the second may have to wait for a row that the first has locked: then it is no use to hold the first.
    wait_for(lambda: other.poll() or (stopped is stopped_before_swapping and is_blocked()), "the second process")
    in_order = other.poll()
    go.set()
    reports = [first.result(), other.result()]
    assert reports[1] == DONE or not in_order
    invoice = Invoice.objects.get()
    if in_order:
        report, status, is_paid, review = AFTER[later, winner]
        assert reports[0] == report
        check(invoice, status, is_paid, review)
    else:  # the lock decided who was first
        assert any(
            report in reports and invoice.status == status and invoice.is_paid == is_paid
            for report, status, is_paid, _review in (AFTER[later, winner], AFTER[winner, later])
        ), f"{reports} {invoice.status}"
    assert sum("invoice_paid" in event.signals for event in InvoiceEvent.objects.all()) == invoice.is_paid
    assert len(effects_of("ship", invoice)) == invoice.is_paid
    start(run_command, "deliver").result()
    assert shop.audit() == []
    if {later, winner} == {poll, expire}:
        let_time_pass()
        start(poll, gateway).result()
        check(Invoice.objects.get(), "confirming", False, None)
        assert shop.audit() == []
    receipts = Counter(receipt.verdict for attempt in invoice.attempts.all() for receipt in attempt.receipts.all())
    assert receipts == Counter(applied=len({later, winner} & {callback, second}))


def check(invoice, status, is_paid, review):
    assert status is None or invoice.status == status
    assert invoice.is_paid == is_paid
    assert review is None or invoice.needs_review == review, invoice.review_reason


def name_of(operation):
    return operation.__name__


PAIRS = pytest.mark.parametrize(("later", "winner"), list(AFTER), ids=name_of)


@PAIRS
def test_t31_stopped_before_the_transaction(later, winner, shop, gateway, start):
    check_pair(later, winner, stopped_before_writing, shop, gateway, start)


@pytest.mark.only("postgresql")  # on SQLite a transaction that writes excludes all others, so that nothing comes in between
@PAIRS
def test_t31_stopped_before_the_compare_and_swap(later, winner, shop, gateway, start):
    check_pair(later, winner, stopped_before_swapping, shop, gateway, start)


def paying(gateway):
    payment = gateway.payments()[0]
    assert post(payment["callback_url"], callback_body(payment, PAYING)) == (200, b"ok")
    return DONE


@pytest.mark.parametrize("stopped", [stopped_before_writing, stopped_before_swapping], ids=name_of)
@pytest.mark.parametrize(("later", "winner"), [(paying, callback), (callback, paying)], ids=name_of)
def test_t29_t31_two_words_of_one_attempt_at_once(later, winner, stopped, shop, gateway, start, vendor):
    """Whatever waits for whom: both are answered, and Paid is not taken back."""
    if vendor == "sqlite" and stopped is stopped_before_swapping:
        return  # holds the only writer: the other could not come in between
    context = multiprocessing.get_context("fork")
    reached, go = context.Event(), context.Event()
    start(prepare, gateway, ()).result()
    first = start(run_stopped, later, gateway, stopped, reached, go)
    wait_for(reached.is_set, "the first process at its pause point")
    other = start(winner, gateway)
    wait_for(lambda: other.poll() or (vendor == "postgresql" and is_blocked()), "the second process")
    go.set()
    assert [first.result(), other.result()] == [DONE, DONE]
    start(run_command, "deliver").result()
    invoice = Invoice.objects.get()
    assert (invoice.status, invoice.is_paid, invoice.needs_review) == ("paid", True, False)
    assert invoice.attempts.get().receipts.count() == 2
    assert shop.audit() == []
