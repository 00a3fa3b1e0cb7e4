"""T44: the server ends our connection in the middle of a callback, at every statement and commit in turn."""

import contextlib
import itertools

import pytest
from django.db import OperationalError, connection

from crypto_invoices.models import Invoice, InvoiceEvent
from crypto_invoices.services import create_invoice
from tests.processes.gateway import PAID, PAYING, callback_body
from tests.processes.shop import effects_of, let_time_pass, post, run_command

pytestmark = [pytest.mark.processes, pytest.mark.only("postgresql")]

ROUNDS_AT_MOST = 200


def terminate():
    """Ends this process's connection from another one, as an administrator or a fail-over does."""
    import psycopg  # runs without PostgreSQL import this file, too

    pid = connection.connection.info.backend_pid
    with psycopg.connect(**connection.get_connection_params(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])


@contextlib.contextmanager
def cut_at(number, *, ever_after):
    """The connection is cut right before the ``number``-th statement or commit, or ``ever_after`` before each later one."""
    passed = itertools.count(1)

    def point():
        position = next(passed)
        if (position >= number if ever_after else position == number) and connection.connection is not None:
            terminate()

    def watch(execute, sql, params, many, context):
        point()
        return execute(sql, params, many, context)

    commit = connection.commit

    def commit_after_point():
        point()
        commit()

    connection.commit = commit_after_point
    with connection.execute_wrapper(watch):
        yield
    connection.commit = commit
    passed = next(passed) - 1
    cut_at.reached = passed >= number


@contextlib.contextmanager
def answer_lost_at(number, *, ever_after):
    """The ``number``-th commit succeeds, but the connection breaks before its answer arrives."""
    passed, commit = itertools.count(1), connection.commit

    def commit_unheard():
        commit()
        position = next(passed)
        if position >= number if ever_after else position == number:
            terminate()
            raise OperationalError("the connection was cut while the commit was under way")

    connection.commit = commit_unheard
    yield
    connection.commit = commit
    cut_at.reached = next(passed) - 1 >= number


def sell(gateway, order):
    create_invoice(amount="25", currency="USD", order_id=order)
    return gateway.payments(order)[0]


def send(payment, fault, number, ever_after):
    """The gateway's first try, with the fault, and later ones, until it is heard. Returns the answers and what was reached."""
    letters = [callback_body(payment, word) for word in (PAYING, PAID)]
    post(payment["callback_url"], letters[0])
    cut_at.reached = False
    with fault(number, ever_after=ever_after):
        answers = [post(payment["callback_url"], letters[1])]
    while answers[-1][0] != 200 and len(answers) < 5:
        answers.append(post(payment["callback_url"], letters[1]))
    return answers, cut_at.reached


@pytest.mark.parametrize("ever_after", [False, True], ids=["once", "from-then-on"])
@pytest.mark.parametrize("fault", [cut_at, answer_lost_at])
def test_t44_the_connection_is_cut_at_every_statement(fault, ever_after, shop, gateway, start):
    answered = set()
    for number in range(1, ROUNDS_AT_MOST):
        order = f"statement {number}"
        payment = start(sell, gateway, order).result()
        answers, reached = start(send, payment, fault, number, ever_after).result()
        answered.add(answers[0])
        assert all(answer in ((200, b"ok"), (503, b"try again later")) for answer in answers), f"{order}: {answers}"
        assert answers[-1] == (200, b"ok"), f"{order}: {answers}"
        let_time_pass(order)
        start(run_command, "deliver").result()
        invoice = Invoice.objects.get(order_id=order)
        assert (invoice.status, invoice.is_paid, invoice.version) == ("paid", True, 3), order
        assert len(effects_of("ship", invoice)) == 1, order
        assert shop.audit(invoice) == [], order
        if not reached:
            break
    else:
        pytest.fail("the fault was met every time")
    print(f"{number - 1} points, first answers {answered}")
    assert number > 3
    assert not InvoiceEvent.objects.filter(due_at__isnull=False).exists()
