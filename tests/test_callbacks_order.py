"""Replays, disorder and races as one process can show them (cases T26 to T38), and the table of answers."""

import itertools
import random
import time
from datetime import timedelta

import pytest
from django.core import management
from django.db import OperationalError, connection
from django.db.models import Max
from django.test import Client

from crypto_invoices.callbacks import replay
from crypto_invoices.exceptions import NotAllowed
from crypto_invoices.models import CallbackReceipt, Invoice, InvoiceEvent, PaymentAttempt, Transfer
from crypto_invoices.providers.oxapay import OxaPay
from crypto_invoices.reconcile import reconcile, unmatched_receipts
from crypto_invoices.services import (
    accept_invoice,
    cancel_invoice,
    create_invoice,
    mark_reviewed,
    record_refund,
    refresh_invoice,
    reverse_invoice,
    start_attempt,
)
from crypto_invoices.statuses import InvoiceStatus
from tests.helpers import (
    KEYS,
    OURS,
    Clock,
    body_of,
    connected,
    fact,
    facts,
    in_this_connection,
    later,
    make,
    path_of,
    payment_of,
    post,
    recorded,
    rows,
    send,
    sign,
    stub_gateway,
    tell,
    tx,
    verdicts,
)

pytestmark = pytest.mark.django_db(transaction=True)

LOG = "crypto_invoices.callback"


@pytest.fixture
def gateway(settings):
    return stub_gateway(settings)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def quiet_rows():
    """Everything but how often a callback was seen."""
    return rows(*OURS, without={"seen"})


# The table of RELIABILITY, section 1


def _applied(gateway, invoice, payment):
    return send(payment, "Paid", [tx("25")])


def _duplicate(gateway, invoice, payment):
    body = body_of(payment, "Waiting")
    return post(path_of(payment), body, sign(body))


def _stale(gateway, invoice, payment):
    return send(payment, "Waiting", note="after paid")


def _misfit(gateway, invoice, payment):
    payment["amount"] = 24
    return send(payment, "Paid", [tx("25")])


def _unknown_word(gateway, invoice, payment):
    return send(payment, "Teleported", [tx("25")])


def _another_payment(gateway, invoice, payment):
    return send(payment, "Paid", [tx("25")], track_id="4711")


def _unknown_invoice(gateway, invoice, payment):
    answered = body_of(payment, "Paid", [tx("25")])
    Invoice.objects.all().delete()
    return post(path_of(payment), answered, sign(answered))


def _forged(gateway, invoice, payment):
    return post(path_of(payment), body_of(payment, "Paid", [tx("25")]), "0" * 128)


def _not_json(gateway, invoice, payment):
    return post(path_of(payment), b"status=Paid", sign(b"status=Paid"))


def _too_large(gateway, invoice, payment):
    body = body_of(payment, "Paid", [tx("25")]) + b" " * 65536
    return post(path_of(payment), body, sign(body))


def _compressed(gateway, invoice, payment):
    body = body_of(payment, "Paid", [tx("25")])
    return post(path_of(payment), body, sign(body), HTTP_CONTENT_ENCODING="gzip")


def _get(gateway, invoice, payment):
    return Client().get(path_of(payment))


def _unknown_account(gateway, invoice, payment):
    body = body_of(payment, "Paid", [tx("25")])
    return post(path_of(payment).replace("/default/", "/nobody/"), body, sign(body))


def _unknown_token(gateway, invoice, payment):
    body = body_of(payment, "Paid", [tx("25")])
    return post(path_of(payment).replace("/default/", "/default/x"), body, sign(body))


def _database_down(gateway, invoice, payment):
    def refuse(execute, sql, params, many, context):
        raise OperationalError("the database is away")

    with connection.execute_wrapper(refuse):
        return send(payment, "Paid", [tx("25")])


def _receiver_fails(gateway, invoice, payment):
    def fail(sender, **kwargs):
        raise ValueError("out of stock")

    with connected(fail, "invoice_paid", uid="tests.fails"):
        return send(payment, "Paid", [tx("25")])


PENDING, REVIEWED = fact("pending"), fact("pending", review=True)
PAID = fact("paid", is_paid=True, received=25)
REVIEW, MONEY = ["invoice_review_required"], ["payment_received", "invoice_paid"]
TABLE = {
    # what is sent, status, body, the invoice's facts, receipts, log level, signals
    "applied": (_applied, 200, b"ok", PAID, ["applied"], "INFO", MONEY),
    "no change": (_duplicate, 200, b"ok", PENDING, ["stale"], "INFO", []),
    "another amount": (_misfit, 200, b"ok", REVIEWED, ["quarantined"], "WARNING", REVIEW),
    "unknown word": (_unknown_word, 200, b"ok", REVIEWED, ["quarantined"], "WARNING", REVIEW),
    "another payment": (_another_payment, 200, b"ok", REVIEWED, ["quarantined"], "WARNING", REVIEW),
    "unknown invoice": (_unknown_invoice, 404, b"not found", None, ["unmatched"], "WARNING", []),
    "forged": (_forged, 403, b"forbidden", PENDING, [], "WARNING", []),
    "not JSON": (_not_json, 400, b"malformed", PENDING, ["malformed"], "ERROR", []),
    "too large": (_too_large, 413, None, PENDING, [], "WARNING", []),
    "compressed": (_compressed, 415, None, PENDING, [], "WARNING", []),
    "GET": (_get, 405, None, PENDING, [], None, []),
    "unknown account": (_unknown_account, 404, b"not found", PENDING, [], "INFO", []),
    "unknown token": (_unknown_token, 404, b"not found", PENDING, [], "INFO", []),
    "database": (_database_down, 503, b"try again later", PENDING, [], "ERROR", []),
    "receiver": (_receiver_fails, 200, b"ok", PAID, ["applied"], "ERROR", MONEY),
}


@pytest.mark.parametrize("situation", TABLE)
def test_table_of_answers(gateway, situation, caplog, monkeypatch):
    act, status, body, expected, receipts, level, expected_signals = TABLE[situation]
    invoice, payment = make(gateway)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    before = rows(Invoice, PaymentAttempt, InvoiceEvent)
    with recorded() as calls, later(monkeypatch, seconds=random.randrange(1, 1000) * 600), caplog.at_level("INFO"):
        answer = act(gateway, invoice, payment)
    assert answer.status_code == status
    assert body is None or answer.content == body
    assert answer.headers["Content-Type"].startswith("text/plain") or status == 405
    assert answer.headers.get("Retry-After") == ("60" if status == 503 else None)
    assert answer.headers.get("Allow") == ("POST" if status == 405 else None)
    if expected is not None:
        assert facts(invoice) == expected
    assert verdicts() == receipts
    assert [name for name in calls.names if name != "invoice_status_changed"] == expected_signals
    if receipts == []:
        assert rows(Invoice, PaymentAttempt, InvoiceEvent) == before
    loggers = (LOG, "crypto_invoices.delivery") if situation == "receiver" else (LOG,)
    levels = {record.levelname for record in caplog.records if record.name in loggers}
    assert level is None or level in levels
    if level == "INFO":
        assert levels == {"INFO"}


def test_table_a_stale_callback(gateway, caplog):
    invoice, payment = make(gateway)
    send(payment, "Paid", [tx("25")])
    before = rows(Invoice, PaymentAttempt, InvoiceEvent, Transfer)
    with recorded() as calls, caplog.at_level("INFO"):
        answer = _stale(gateway, invoice, payment)
    assert (answer.status_code, answer.content, calls) == (200, b"ok", [])
    assert verdicts() == ["applied", "stale"]
    assert rows(Invoice, PaymentAttempt, InvoiceEvent, Transfer) == before
    assert {record.levelname for record in caplog.records} == {"INFO"}


# T26: the same again


def test_t26_a_hundred_times(gateway):
    invoice, payment = make(gateway)
    body = body_of(payment, "Paid", [tx("25")])
    with recorded() as calls:
        answers = [post(path_of(payment), body, sign(body)) for _ in range(100)]
    assert [(answer.status_code, answer.content) for answer in answers] == [(200, b"ok")] * 100
    assert CallbackReceipt.objects.values_list("verdict", "seen").get() == (
        ("applied", 1) if connection.vendor == "sqlite" else ("applied", 100)
    )
    assert InvoiceEvent.objects.filter(invoice=invoice).count() == 2
    assert calls.names == ["invoice_status_changed", "payment_received", "invoice_paid"]


class After:
    """An ``execute_wrapper``: after the first statement with this beginning every further one fails."""

    def __init__(self, start, times=None):
        self.start, self.times, self.seen = start, times, False

    def __call__(self, execute, sql, params, many, context):
        if self.seen and self.times != 0:
            self.times = None if self.times is None else self.times - 1
            raise OperationalError("disk full")
        result = execute(sql, params, many, context)
        self.seen = self.seen or sql.startswith(self.start.replace('"', connection.ops.quote_name("x")[0]))
        return result


RECEIPT_INSERT = 'INSERT INTO "crypto_invoices_callbackreceipt"'


def test_t26_the_transaction_fails_after_the_receipt(gateway, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    invoice, payment = make(gateway)
    body = body_of(payment, "Paid", [tx("25")])
    before = rows()
    fault = After(RECEIPT_INSERT)
    with connection.execute_wrapper(fault):
        assert post(path_of(payment), body, sign(body)).status_code == 503
    assert fault.seen is True
    assert rows() == before
    with recorded() as calls:
        assert post(path_of(payment), body, sign(body)).status_code == 200
    assert facts(invoice) == fact("paid", is_paid=True, received=25)
    assert calls.count_of("invoice_paid") == 1
    assert verdicts() == ["applied"]


def test_t26_a_passing_fault_is_tried_again(gateway, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    invoice, payment = make(gateway)
    with recorded() as calls, connection.execute_wrapper(After(RECEIPT_INSERT, times=1)):
        assert send(payment, "Paid", [tx("25")]).status_code == 200
    assert facts(invoice) == fact("paid", is_paid=True, received=25)
    assert calls.count_of("invoice_paid") == 1
    assert InvoiceEvent.objects.count() == 2


def test_t26_one_body_at_two_accounts(gateway):
    """Unique is (account, digest), not the digest alone."""
    first, payment = make(gateway)
    second, other = make(gateway, account="second")
    body = body_of(payment, "Paid", [tx("25")])
    post(path_of(payment), body, sign(body))
    assert post(path_of(other), body, sign(body, KEYS["second"])).status_code == 200
    assert (facts(first)["status"], facts(second)["status"]) == ("paid", "pending")
    assert verdicts() == ["applied", "quarantined"]


# T27: old callbacks again


def test_t27_replay_of_everything_in_every_state(gateway):
    invoice, payment = make(gateway)
    sent = []

    def say(status, *txs):
        body = body_of(payment, status, txs)
        sent.append(body)
        post(path_of(payment), body, sign(body))

    def poll(status, *txs):
        tell(payment, status, txs)
        refresh_invoice(invoice)

    date = payment["date"]
    part = tx("10", date=date)
    steps = [
        ("pending", lambda: say("Waiting")),
        ("confirming", lambda: say("Paying", tx("10", confirmed=False, confirmations=1, date=date))),
        ("underpaid", lambda: poll("underpaid", part)),
        ("paid", lambda: say("Paid", part, tx("15", tx_hash="0xaaa2", date=date))),
        ("overpaid", lambda: say("Paid", part, tx("25", tx_hash="0xaaa3", date=date), tx("15", tx_hash="0xaaa2", date=date))),
        ("refunding", lambda: poll("refunding", part)),
        ("refunded", lambda: poll("refunded", part)),
    ]
    for status, step in steps:
        step()
        assert facts(invoice)["status"] == status
        before = quiet_rows()
        with recorded() as calls:
            for body in sent:
                answer = post(path_of(payment), body, sign(body))
                assert (answer.status_code, answer.content) == (200, b"ok")
        assert calls == []
        assert quiet_rows() == before, status


@pytest.mark.parametrize("end", ["expired", "cancelled", "failed", "reversed", "refunded"])
def test_t27_paid_replayed_months_later(gateway, clock, admin_user, end):
    invoice, payment = make(gateway)
    body = body_of(payment, "Paid", [tx("25")])
    early = body_of(payment, "Waiting")
    post(path_of(payment), early, sign(early))
    if end in ("reversed", "refunded"):
        post(path_of(payment), body, sign(body))
    if end == "reversed":
        reverse_invoice(invoice, reason="double spend", user=admin_user)
    elif end == "refunded":
        record_refund(invoice, amount="25", currency="USDT", reason="returned goods", user=admin_user)
    elif end == "cancelled":
        cancel_invoice(invoice, reason="sold out")
    else:
        tell(payment, end)
        refresh_invoice(invoice)
    status = {"reversed": "failed"}.get(end, end)
    assert facts(invoice)["status"] == status
    clock.advance(days=120)
    before = quiet_rows()
    with recorded() as calls:
        for old in [early, body] if end in ("reversed", "refunded") else [early]:
            assert post(path_of(payment), old, sign(old)).status_code == 200
    assert (calls, quiet_rows()) == ([], before)


# T29: every order


LIFE = [
    ("Waiting", ()),
    ("Paying", (("10", "0xa", False, 1),)),
    ("Paying", (("10", "0xa", True, 20), ("15", "0xb", False, 2))),
    ("Paid", (("10", "0xa", True, 20), ("15", "0xb", True, 20))),
]
ENDS = {
    "paid": LIFE,
    "with a late word": [LIFE[0], *LIFE[2:], ("Expired", ())],
    "legacy": [LIFE[0], ("Confirming", LIFE[1][1]), LIFE[3], ("Underpaid", LIFE[1][1])],
}


def _bodies(payment, life):
    for status, parts in life:
        txs = [tx(a, tx_hash=h, confirmed=c, confirmations=n, date=payment["date"]) for a, h, c, n in parts]
        yield body_of(payment, status, txs)


def _final(invoice):
    transfers = Transfer.objects.filter(attempt__invoice=invoice).order_by("key")
    attempt = invoice.attempts.get()
    return {
        **facts(invoice),
        "transfers": list(transfers.values_list("key", "amount", "confirmations", "confirmed")),
        "attempt": (attempt.status, attempt.state, attempt.amount_received, attempt.late),
        "paid": InvoiceEvent.objects.filter(invoice=invoice).exclude(one_shot=None).count(),
    }


@pytest.mark.parametrize("life", ENDS)
def test_t29_all_permutations_with_duplicates_end_alike(gateway, clock, life):
    finals = []
    for order in itertools.permutations(range(len(ENDS[life]))):
        invoice, payment = make(gateway)
        bodies = list(_bodies(payment, ENDS[life]))
        for place in (*order, *order[::-1]):
            assert post(path_of(payment), bodies[place], sign(bodies[place])).status_code == 200
        finals.append(_final(invoice))
        assert InvoiceEvent.objects.filter(invoice=invoice).count() == Invoice.objects.get(pk=invoice.pk).version
    if life == "with a late word":  # confirming -> expired is a poll's to tell: in some orders a person is asked to look
        finals = [final | {"review": False} for final in finals]
    expected = fact("paid", is_paid=True, received=25)
    assert {name: finals[0][name] for name in expected} == expected
    assert [final for final in finals if final != finals[0]] == []
    assert [(key, str(amount.normalize()), count, done) for key, amount, count, done in finals[0]["transfers"]] == [
        ("0xa", "1E+1", 20, True),
        ("0xb", "15", 20, True),
    ]
    assert finals[0]["paid"] == 1


def test_t29_the_same_end_with_a_poll_anywhere(gateway, clock):
    finals = []
    for order in itertools.permutations(range(4)):
        invoice, payment = make(gateway)
        bodies = list(_bodies(payment, LIFE))
        tell(payment, "paid", [tx("10", tx_hash="0xa", date=payment["date"]), tx("15", tx_hash="0xb", date=payment["date"])])
        for place in order:
            if place == 0:
                refresh_invoice(invoice)
            post(path_of(payment), bodies[place], sign(bodies[place]))
        finals.append(_final(invoice))
    assert [final for final in finals if final != finals[0]] == []
    assert finals[0]["status"] == "paid"


@pytest.mark.parametrize("first", ["Expired", "Failed", "Cancelled", "Underpaid"])
def test_t29_a_dead_word_after_paid(gateway, first):
    _, payment = make(gateway)
    send(payment, "Paid", [tx("25")])
    before = rows(Invoice, InvoiceEvent)
    assert send(payment, first, [tx("25")]).status_code == 200
    assert rows(Invoice, InvoiceEvent) == before


@pytest.mark.parametrize("word", ["expired", "failed", "underpaid", "waiting", "paying", "cancelled"])
def test_t29_t36_a_poll_that_contradicts_paid(gateway, word):
    invoice, payment = make(gateway)
    send(payment, "Paid", [tx("25")])
    tell(payment, word, [tx("25")])
    with recorded() as calls:
        refresh_invoice(invoice)
    assert facts(invoice) == fact("paid", is_paid=True, received=25, review=True)
    assert calls.names == ["invoice_review_required"]


def test_t36_confirming_back_to_pending_only_by_a_poll(gateway):
    invoice, payment = make(gateway)
    send(payment, "Paying", [tx("25", confirmed=False)])
    assert facts(invoice)["status"] == "confirming"
    PaymentAttempt.objects.update(next_poll_at=None)
    send(payment, "Waiting")
    assert facts(invoice)["status"] == "confirming"
    assert PaymentAttempt.objects.exclude(next_poll_at=None).count() == 1  # the callback makes a poll due
    tell(payment, "waiting")
    refresh_invoice(invoice)
    assert facts(invoice)["status"] == "pending"


# T31: interleavings


def _callback(gateway, invoice, payments):
    send(payments[0], "Paid", [tx("25", date=payments[0]["date"])])


def _poll(gateway, invoice, payments):
    tell(payments[0], "paid", [tx("25", date=payments[0]["date"])])
    refresh_invoice(invoice)


def _cancel(gateway, invoice, payments):
    return cancel_invoice(invoice, reason="sold out")


def _accept(gateway, invoice, payments):
    return accept_invoice(invoice, reason="cash", user=None)


def _timer(gateway, invoice, payments):
    tell(payments[0], "expired")
    reconcile()


def _second(gateway, invoice, payments):
    send(payments[1], "Paid", [tx("25", tx_hash="0xbbb", date=payments[1]["date"])], key=KEYS["second"])


OPERATIONS = {
    "callback": _callback,
    "poll": _poll,
    "cancel": _cancel,
    "accept": _accept,
    "timer": _timer,
    "second provider": _second,
}


class Pause:
    """An ``execute_wrapper`` that runs ``act`` once, after the last reading statement before the first write."""

    def __init__(self, act, after):
        self.act, self.after, self.count, self.reads_before_write = act, after, 0, None

    def __call__(self, execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if sql.startswith("SELECT") and not connection.in_atomic_block:
            self.count += 1
            if self.act and self.count == self.after:
                act, self.act = self.act, None
                act()
        elif self.reads_before_write is None and sql.startswith(("INSERT", "UPDATE")) and "crypto_invoices_invoice" in sql:
            self.reads_before_write = self.count
        return result


def _try(operation, *args):
    try:
        operation(*args)
    except NotAllowed:
        return "refused"
    return "done"


def _fresh(gateway, clock):
    """An invoice with two attempts; earlier ones of the test are due no more, so that each run reads the same."""
    PaymentAttempt.objects.update(next_poll_at=None)
    clock.advance(hours=1)
    invoice, first = make(gateway)
    start_attempt(invoice, "second")
    second = payment_of(gateway, invoice)
    clock.advance(minutes=2)
    return invoice, [first, second]


def _outcome(invoice):
    attempts = list(invoice.attempts.order_by("pk").values_list("status", "amount_received"))
    shots = list(InvoiceEvent.objects.filter(invoice=invoice).exclude(one_shot=None).values_list("one_shot", flat=True))
    return {**facts(invoice), "attempts": attempts, "one shots": shots}


_reads = {}


def _reads_of(operation, gateway, clock):
    """How many statements read before the operation's first write, if nothing comes between."""
    if operation not in _reads:
        invoice, payments = _fresh(gateway, clock)
        probe = Pause(None, 0)
        with connection.execute_wrapper(probe):
            _try(operation, gateway, invoice, payments)
        assert probe.reads_before_write
        _reads[operation] = probe.reads_before_write
    return _reads[operation]


def _run(gateway, clock, outer, inner):
    """The outcomes of inner-then-outer one after the other, and of inner in the middle of outer."""
    invoice, payments = _fresh(gateway, clock)
    answers = [_try(inner, gateway, invoice, payments), _try(outer, gateway, invoice, payments)]
    serial = (_outcome(invoice), answers)

    reads = _reads_of(outer, gateway, clock)
    invoice, payments = _fresh(gateway, clock)
    answers = []
    pause = Pause(lambda: answers.append(_try(inner, gateway, invoice, payments)), reads)
    with connection.execute_wrapper(pause):
        answers.append(_try(outer, gateway, invoice, payments))
    assert pause.act is None  # the interleaving did take place
    return serial, (_outcome(invoice), answers)


@pytest.mark.parametrize("outer", OPERATIONS)
@pytest.mark.parametrize("inner", OPERATIONS)
def test_t31_pairs_of_operations(gateway, clock, outer, inner):
    """Who reads first and writes last must end as if it had come last altogether."""
    serial, interleaved = _run(gateway, clock, OPERATIONS[outer], OPERATIONS[inner])
    if (inner, outer) == ("callback", "timer"):
        # What a poll brings is as old as its request (DECISIONS 14): overtaken by "paid", it contradicts nothing.
        serial[0]["review"] = False
    assert interleaved == serial
    assert len(interleaved[0]["one shots"]) <= 1


def test_t31_who_loses_five_times_gives_up(gateway, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    invoice, payment = make(gateway)
    rounds = []

    def overtake(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if sql.startswith("SELECT") and "crypto_invoices_paymentattempt" in sql and not connection.in_atomic_block:
            rounds.append(1)
            with connection.cursor() as cursor:
                name = connection.ops.quote_name("crypto_invoices_invoice")
                cursor.cursor.execute(f"UPDATE {name} SET version = version + 1")
            if connection.vendor == "mysql":
                connection.commit()
        return result

    with connection.execute_wrapper(overtake):
        answer = send(payment, "Paid", [tx("25")])
    assert (answer.status_code, answer.headers["Retry-After"], len(rounds)) == (503, "60", 5)
    assert facts(invoice) == fact("pending")
    assert verdicts() == []
    Invoice.objects.update(version=InvoiceEvent.objects.aggregate(Max("version"))["version__max"])
    assert send(payment, "Paid", [tx("25")]).status_code == 200


def test_t31_cancel_against_money_in_flight_loses(gateway, clock):
    invoice, payment = make(gateway)
    pause = Pause(lambda: send(payment, "Paying", [tx("5", confirmed=False)]), 2)
    with connection.execute_wrapper(pause), pytest.raises(NotAllowed):
        cancel_invoice(invoice, reason="sold out")
    assert pause.act is None
    assert facts(invoice)["status"] == "confirming"


# T32: the callback comes before create() returns


@pytest.mark.parametrize("status", ["Waiting", "Paying", "Paid"])
def test_t32_callback_inside_the_create_call(gateway, status):
    txs = [] if status == "Waiting" else [tx("25", confirmed=status == "Paid")]
    gateway.during_create, answers = in_this_connection(lambda payment: send(payment, status, txs))
    with recorded() as calls:
        invoice = create_invoice(amount="25", currency="USDT")
    assert [answer.status_code for answer in answers] == [200]
    payment = payment_of(gateway, invoice)
    attempt = invoice.attempts.get()
    assert attempt.gateway_id == payment["track_id"]
    assert attempt.payment_url == f"https://pay.oxapay.com/10000001/{payment['track_id']}"
    assert attempt.expires_at is not None
    expected = {
        "Waiting": fact("pending"),
        "Paying": fact("confirming", received=0),
        "Paid": fact("paid", is_paid=True, received=25),
    }
    assert facts(invoice) == expected[status]
    assert attempt.state == ("closed" if status == "Paid" else "open")
    assert calls.names[0] == "invoice_created"
    assert calls.count_of("invoice_paid") == (1 if status == "Paid" else 0)
    assert len(gateway.called("POST")) == 1


def test_t32_the_answer_names_another_payment_than_the_callback(gateway):
    gateway.during_create, _ = in_this_connection(lambda payment: send(payment, "Paying", [tx("25", confirmed=False)]))
    gateway.changes = {"track_id": "4711"}
    invoice = create_invoice(amount="25", currency="USDT")
    assert invoice.needs_review is True
    assert invoice.attempts.get().gateway_id == "190000001"


# T33: unknown invoices


def test_t33_unknown_invoice_and_a_restored_backup(gateway):
    invoice, payment = make(gateway)
    backup = [Invoice.objects.get(), PaymentAttempt.objects.get(), *InvoiceEvent.objects.all()]
    Invoice.objects.all().delete()
    body = body_of(payment, "Paid", [tx("25")])
    with recorded() as calls:
        for _ in range(2):
            answer = post(path_of(payment), body, sign(body))
            assert (answer.status_code, answer.content) == (404, b"not found")
    assert (calls, verdicts(), list(unmatched_receipts())) == ([], ["unmatched"], [])
    assert CallbackReceipt.objects.get().seen == 2

    for row in backup:
        row._state.adding = True
        row.save(force_insert=True)
    receipt = unmatched_receipts().get()
    with recorded("invoice_paid") as calls:
        assert replay(receipt).status == 200
    assert facts(invoice) == fact("paid", is_paid=True, received=25)
    assert (calls.names, verdicts(), list(unmatched_receipts())) == (["invoice_paid"], ["applied"], [])


def test_t33_the_command_takes_up_restored_invoices(gateway, capsys):
    invoice, payment = make(gateway)
    backup = [Invoice.objects.get(), PaymentAttempt.objects.get(), *InvoiceEvent.objects.all()]
    Invoice.objects.all().delete()
    send(payment, "Paid", [tx("25")])
    for row in backup:
        row._state.adding = True
        row.save(force_insert=True)
    management.call_command("crypto_invoices", "reconcile")
    capsys.readouterr()
    assert facts(invoice)["is_paid"] is True


def test_t33_the_senders_retry_is_applied_after_a_restore(gateway):
    invoice, payment = make(gateway)
    backup = [Invoice.objects.get(), PaymentAttempt.objects.get(), *InvoiceEvent.objects.all()]
    Invoice.objects.all().delete()
    body = body_of(payment, "Paid", [tx("25")])
    assert post(path_of(payment), body, sign(body)).status_code == 404
    for row in backup:
        row._state.adding = True
        row.save(force_insert=True)
    assert post(path_of(payment), body, sign(body)).status_code == 200
    assert facts(invoice)["is_paid"] is True
    assert verdicts() == ["applied"]


def test_t33_unmatched_receipts_are_capped(gateway, clock):
    _, payment = make(gateway)
    Invoice.objects.all().delete()
    for account in ("default", "second"):
        CallbackReceipt.objects.bulk_create(
            CallbackReceipt(account=account, digest=f"{number:064}", verdict="unmatched", received_at=clock.now)
            for number in range(999)
        )
    for number in range(3):
        assert send(payment, "Paid", [tx("25")], note=str(number)).status_code == 404
    assert CallbackReceipt.objects.filter(account="default").count() == 1000
    assert CallbackReceipt.objects.filter(account="second").count() == 999


# T34 and T35: late money

GRACE = 600


@pytest.mark.parametrize("policy", ["review", "accept"])
@pytest.mark.parametrize("seconds", [-1, 0, 1, GRACE - 1, GRACE, GRACE + 1])
@pytest.mark.parametrize("before", ["open", "expired by a poll", "expired by our clock"])
def test_t34_around_the_deadline(gateway, settings, clock, policy, seconds, before):
    """The payment's own time decides, not the order in which news arrive."""
    settings.CRYPTO_INVOICES = {
        **settings.CRYPTO_INVOICES,
        "LATE_PAYMENT": policy,
        "LATE_GRACE": timedelta(seconds=GRACE),
    }
    invoice, payment = make(gateway)
    deadline = payment["expired_at"]
    clock.set(deadline + 3600)
    if before == "expired by a poll":
        tell(payment, "expired")
        refresh_invoice(invoice)
        assert facts(invoice)["status"] == "expired"
    elif before == "expired by our clock":
        reconcile()
        assert facts(invoice)["status"] == "expired"
    with recorded("invoice_paid", "invoice_paid_late", "invoice_review_required") as calls:
        assert send(payment, "Paid", [tx("25", date=deadline + seconds)]).status_code == 200
    late = seconds > 0
    forgiven = policy == "accept" and seconds <= GRACE
    held = late and not forgiven
    assert facts(invoice) == fact("paid", is_paid=not held, received=25, late=late, review=held)
    assert calls.names == (["invoice_paid_late", "invoice_review_required"] if held else ["invoice_paid"])


def test_t34_without_a_payment_time_our_first_sight_counts(gateway, clock):
    for seconds, late in ((0, False), (1, True)):
        invoice, payment = make(gateway)
        clock.set(payment["expired_at"] + seconds)
        send(payment, "Paid", [tx("25", date=0)])
        assert facts(invoice)["late"] is late
        clock.advance(hours=2)


def test_t34_seen_in_time_and_confirmed_late_is_in_time(gateway, clock):
    invoice, payment = make(gateway)
    send(payment, "Paying", [tx("25", confirmed=False, date=0)])
    clock.set(payment["expired_at"] + 5000)
    send(payment, "Paid", [tx("25", date=0)])
    assert facts(invoice) == fact("paid", is_paid=True, received=25)


def test_t34_accept_of_a_held_payment(gateway, clock, admin_user):
    invoice, payment = make(gateway)
    clock.set(payment["expired_at"] + 60)
    send(payment, "Paid", [tx("25")])
    with recorded() as calls:
        accept_invoice(invoice, reason="it is fine", user=admin_user)
    assert facts(invoice) == fact("paid", is_paid=True, received=25, late=True, manual=True)
    assert calls.names == ["invoice_paid"]
    event = InvoiceEvent.objects.order_by("pk").last()
    assert (event.user, event.reason, event.one_shot) == (admin_user, "it is fine", "paid:0")


@pytest.mark.parametrize("policy", ["review", "accept"])
@pytest.mark.parametrize("seconds", [1, 100])
def test_t35_paid_after_cancel(gateway, settings, clock, admin_user, policy, seconds):
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "LATE_PAYMENT": policy, "LATE_GRACE": timedelta(days=1)}
    invoice, payment = make(gateway)
    cancelled = cancel_invoice(invoice, reason="sold out", user=admin_user)
    assert (cancelled.told, cancelled.invoice.status, cancelled.invoice.payment_url) == (False, "cancelled", "")
    clock.advance(seconds=seconds)
    with recorded() as calls:
        send(payment, "Paid", [tx("25")])
    assert facts(invoice) == fact("paid", received=25, late=True, review=True)
    assert "invoice_paid" not in calls.names
    assert [calls.count_of(name) for name in ("invoice_paid_late", "invoice_review_required", "payment_received")] == [1, 1, 1]
    with recorded("invoice_paid") as calls:
        accept_invoice(invoice, reason="one was left", user=admin_user)
    assert calls.names == ["invoice_paid"]
    assert facts(invoice) == fact("paid", is_paid=True, received=25, late=True, manual=True)


def test_t35_money_from_before_the_cancel_that_is_told_after_it(gateway, clock):
    """The payment is kept and a person looks, whatever its time says."""
    invoice, payment = make(gateway)
    date = int(clock.now.timestamp())
    clock.advance(seconds=30)
    cancel_invoice(invoice, reason="sold out")
    clock.advance(seconds=30)
    send(payment, "Paid", [tx("25", date=date)])
    assert facts(invoice) == fact("paid", received=25, review=True)


# T37: unknown words

DOCUMENTED = {
    "new": "pending", "waiting": "pending", "paying": "confirming", "confirming": "confirming", "paid": "paid",
    "manual_accept": "paid", "underpaid": "underpaid", "expired": "expired", "refunding": "refunding", "refunded": "refunded",
    "failed": "failed", "rejected": "failed", "canceled": "cancelled", "cancelled": "cancelled",
}  # fmt: skip
UNKNOWN = [
    "Payed",
    "paid!",
    "complete",
    "success",
    "PaidOver",
    "pаid",
    "ｐａｉｄ",
    "Paid\n",
    " paid",
    "0",
    "true",
    "null",
    "é",
    "😀",
    "x" * 64,
]


def test_t37_every_documented_word_is_mapped():
    assert {word: OxaPay.statuses[word].value for word in DOCUMENTED} == DOCUMENTED


@pytest.mark.parametrize("word", UNKNOWN)
def test_t37_unknown_word(gateway, clock, word):
    invoice, payment = make(gateway)
    with recorded() as calls:
        answer = send(payment, word, [tx("25")])
    assert (answer.status_code, answer.content) == (200, b"ok")
    assert facts(invoice) == fact("pending", review=True)
    assert (verdicts(), calls.names) == (["quarantined"], ["invoice_review_required"])
    assert invoice.attempts.get().next_poll_at <= clock.now


def test_t37_the_poll_after_an_unknown_word_settles_it(gateway, clock):
    invoice, payment = make(gateway)
    send(payment, "Teleported", [tx("25")])
    tell(payment, "paid", [tx("25")])
    clock.advance(seconds=1)
    reconcile()
    assert facts(invoice) == fact("paid", is_paid=True, received=25, review=True)


# T38: seen is not paid


@pytest.mark.parametrize("word", [*DOCUMENTED, "Manual Accept", "Manual_Accept", "PAID", "PAYING", *UNKNOWN])
def test_t38_only_final_words_reach_paid(gateway, word):
    """Every word comes with the whole money, confirmed."""
    invoice, payment = make(gateway)
    with recorded("invoice_paid") as calls:
        assert send(payment, word, [tx("25")]).status_code == 200
    paid = word in ("paid", "PAID", "manual_accept", "Manual Accept", "Manual_Accept")
    assert facts(invoice)["is_paid"] is paid
    assert (facts(invoice)["status"] in (InvoiceStatus.PAID, InvoiceStatus.OVERPAID)) is paid
    assert calls.names == (["invoice_paid"] if paid else [])


def test_t38_manual_accept_at_the_gateway(gateway):
    invoice, payment = make(gateway)
    send(payment, "Manual Accept", [tx("20")])
    assert facts(invoice) == fact("paid", is_paid=True, received=20, manual=True)


def test_t38_refunded_before_we_saw_the_payment(gateway):
    """No ``invoice_paid`` on the way; a person looks."""
    for word in ("refunding", "refunded"):
        invoice, payment = make(gateway)
        with recorded() as calls:
            send(payment, word, [])
        assert facts(invoice) == fact(word, review=True)
        assert "invoice_paid" not in calls.names


# Transitions by an operator


def test_reviewed_and_reviewed_again(gateway, admin_user):
    invoice, payment = make(gateway)
    send(payment, "Teleported")
    mark_reviewed(invoice, reason="looked", user=admin_user)
    assert facts(invoice) == fact("pending")
    send(payment, "Beamed")
    assert facts(invoice) == fact("pending", review=True)
