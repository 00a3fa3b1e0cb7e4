"""What is paid, for which invoice, and with how much of which money (cases T17 to T25)."""

import itertools
import random
from decimal import Context, Decimal

import pytest
from django.utils import timezone

from crypto_invoices.models import CallbackReceipt, Invoice, InvoiceEvent, Transfer
from crypto_invoices.services import refresh_invoice, start_attempt
from crypto_invoices.statuses import AttemptFacts, AttemptState, InvoiceFacts, InvoiceStatus, reduce_invoice
from tests.helpers import (
    KEYS,
    body_of,
    fact,
    facts,
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

UNIT = Decimal("0.000001")  # the last place of USDT


@pytest.fixture
def gateway(settings):
    return stub_gateway(settings)


# T17: which invoice


@pytest.mark.parametrize("order_id,token,track_id", list(itertools.product("AB", repeat=3)))
def test_t17_a_cheap_payment_for_an_expensive_order(gateway, order_id, token, track_id):
    made = {"A": make(gateway, "1", order_id="A"), "B": make(gateway, "100", order_id="B")}
    payments = {name: payment for name, (_, payment) in made.items()}
    body = body_of(
        payments["A"], "Paid", [tx("1")], order_id=payments[order_id]["order_id"], track_id=payments[track_id]["track_id"]
    )
    answer = post(path_of(payments[token]), body, sign(body))
    assert (answer.status_code, answer.content) == (200, b"ok")
    paid = (order_id, token, track_id) == ("A", "A", "A")
    assert (
        facts(made["A"][0]) | {"review": None} == fact("paid", is_paid=True, received=1) | {"review": None}
        if paid
        else (facts(made["A"][0])["status"] == "pending")
    )
    assert facts(made["B"][0]) | {"review": None} == fact("pending") | {"review": None}
    assert Transfer.objects.filter(attempt__invoice=made["B"][0]).count() == 0
    mixed = len({order_id, token, track_id}) == 2
    if mixed:  # a body that names another attempt than the address does
        assert verdicts() == ["quarantined"]
        assert facts(made[token][0])["review"] is True


@pytest.mark.parametrize("name", ["B", "", "shop-order-1"])
def test_t17_the_shops_order_id_is_no_key(gateway, name):
    invoice, payment = make(gateway, order_id="shop-order-1")
    other, _ = make(gateway, order_id="shop-order-1")
    send(payment, "Paid", [tx("25")], order_id=name, track_id="4711")
    assert [facts(row)["status"] for row in (invoice, other)] == ["pending", "pending"]


def test_t17_the_gateways_id_alone_binds_when_the_body_names_no_reference(gateway):
    invoice, payment = make(gateway)
    assert send(payment, "Paid", [tx("25")], order_id="").status_code == 200
    assert facts(invoice) == fact("paid", is_paid=True, received=25)


# T18: how much

BOUNDARIES = [
    # tolerance in percent, received, status in the end, whether the callback alone suffices
    (None, "10", "paid", True),
    (None, Decimal(10) - UNIT, "underpaid", False),
    (None, Decimal(10) + UNIT, "overpaid", True),
    (None, "9.999999999999999999", "underpaid", False),
    (None, "10.000000000000000001", "overpaid", True),
    (None, "0.000001", "underpaid", False),
    (None, "100", "overpaid", True),
    ("0", "10", "paid", True),
    ("0", Decimal(10) - UNIT, "underpaid", False),
    ("2.5", "9.75", "paid", True),
    ("2.5", Decimal("9.75") - UNIT, "underpaid", False),
    ("2.5", Decimal("9.75") + UNIT, "paid", True),
    ("2.5", "10", "paid", True),
    ("2.5", Decimal(10) + UNIT, "overpaid", True),
    ("0.01", "9.999", "paid", True),
    ("0.01", Decimal("9.999") - UNIT, "underpaid", False),
    ("60", "4", "paid", True),
    ("60", Decimal(4) - UNIT, "underpaid", False),
]


@pytest.mark.parametrize("tolerance,received,status,alone", BOUNDARIES)
def test_t18_boundaries(gateway, tolerance, received, status, alone):
    """The poll agrees with the callback; it is asked only where "paid" came with too little."""
    invoice, payment = make(gateway, "10", underpaid_tolerance=tolerance)
    tell(payment, "paid", [tx(received)])
    with recorded() as calls:
        answer = send(payment, "Paid", [tx(received)])
    assert (answer.status_code, answer.content) == (200, b"ok")
    assert len(gateway.called("GET")) == (0 if alone else 1)
    paid = status != "underpaid"
    assert facts(invoice) == fact(status, is_paid=paid, received=received, review=not paid)
    named = [name for name in calls.names if name.startswith("invoice_") and name != "invoice_status_changed"]
    expected = {"paid": ["invoice_paid"], "overpaid": ["invoice_paid", "invoice_overpaid"]}
    assert named == expected.get(status, ["invoice_underpaid", "invoice_review_required"])
    assert calls.count_of("payment_received") == 1


@pytest.mark.parametrize(
    "own,echoed,threshold", [(None, "2.5", "9.75"), ("0", "2.5", "10"), ("5", "0", "9.5"), ("1", None, "9.9")]
)
def test_t18_whose_tolerance(gateway, own, echoed, threshold):
    for received, status in ((Decimal(threshold), "paid"), (Decimal(threshold) - UNIT, "underpaid")):
        invoice, payment = make(gateway, "10", underpaid_tolerance=own)
        payment["under_paid_coverage"] = echoed and Decimal(echoed)
        if echoed is None:
            del payment["under_paid_coverage"]
        tell(payment, "paid", [tx(received)])
        send(payment, "Paid", [tx(received)])
        assert facts(invoice)["status"] == status


def test_t18_where_nobody_names_a_tolerance_the_gateways_final_word_stands(gateway):
    gateway.coverage = None
    invoice, payment = make(gateway, "10")
    send(payment, "Paid", [tx("9")])
    assert facts(invoice) == fact("paid", is_paid=True, received=9)


def test_t18_the_tolerance_of_the_settings(gateway, settings):
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "UNDERPAID_TOLERANCE": Decimal("1")}
    invoice, payment = make(gateway, "10")
    send(payment, "Paid", [tx("9.9")])
    assert facts(invoice) == fact("paid", is_paid=True, received="9.9")


def test_t18_too_little_in_the_callback_but_enough_at_the_gateway(gateway):
    invoice, payment = make(gateway, "10")
    tell(payment, "paid", [tx("4"), tx("6", tx_hash="0xaaa2")])
    send(payment, "Paid", [tx("4")])
    assert facts(invoice) == fact("paid", is_paid=True, received=10)


def test_t18_too_little_and_the_gateway_says_not_yet(gateway):
    invoice, payment = make(gateway, "10")
    tell(payment, "paying", [tx("4")])
    send(payment, "Paid", [tx("4")])
    assert facts(invoice) == fact("confirming", received=4)


@pytest.mark.parametrize("fault", ["missing", "unavailable", "lost"])
def test_t18_too_little_and_the_gateway_cannot_be_asked(gateway, fault):
    invoice, payment = make(gateway, "10")
    gateway.fail("fetch", fault)
    answer = send(payment, "Paid", [tx("4")])
    assert (answer.status_code, answer.content) == (200, b"ok")
    assert len(gateway.called("GET")) == 1
    assert facts(invoice)["status"] == "pending"
    assert verdicts() == ["quarantined"]
    assert invoice.attempts.get().next_poll_at <= timezone.now()


def test_t18_the_requested_price_is_not_the_received_sum(gateway):
    """``amount`` and ``value`` say 10; what arrived says 1."""
    invoice, payment = make(gateway, "10")
    tell(payment, "paid", [tx("1")])
    send(payment, "Paid", [tx("1", sent_amount=10, value=10, sent_value=10)], value=10, sent_value=10)
    assert facts(invoice) == fact("underpaid", received=1, review=True)


# DECISIONS 13: an amount or a currency that does not fit


@pytest.mark.parametrize("change", [{"amount": 24}, {"amount": Decimal("25.01")}, {"amount": 0}, {"currency": "USDC"}])
@pytest.mark.parametrize("polled", ["agrees with us", "agrees with the callback", "is not reached"])
def test_t18_t19_a_misfit_polls_first(gateway, change, polled, caplog):
    invoice, payment = make(gateway)
    tell(payment, "paid", [tx("25")])
    if polled == "agrees with the callback":
        payment |= change
    elif polled == "is not reached":
        gateway.fail("fetch", "unavailable")
    with recorded("invoice_paid", "invoice_review_required") as calls, caplog.at_level("INFO", "crypto_invoices.callback"):
        answer = send({**payment, **change}, "Paid", [tx("25")])
    assert (answer.status_code, answer.content, len(gateway.called("GET"))) == (200, b"ok", 1)
    if polled == "agrees with us":
        assert facts(invoice) == fact("paid", is_paid=True, received=25)
        assert calls.names == ["invoice_paid"]
        assert verdicts() == ["applied"]
        return
    assert verdicts() == ["quarantined"]
    assert CallbackReceipt.objects.get().reason != ""
    assert "WARNING" in [record.levelname for record in caplog.records]
    if polled == "agrees with the callback":
        assert facts(invoice) == fact("pending", review=True)
        assert calls.names == ["invoice_review_required"]
    else:
        assert facts(invoice)["status"] == "pending"
        assert invoice.attempts.get().next_poll_at <= timezone.now()


def test_t18_a_misfit_is_looked_at_again_when_it_comes_again(gateway):
    invoice, payment = make(gateway)
    gateway.fail("fetch", "unavailable")
    tell(payment, "paid", [tx("25")])
    for _ in range(2):
        assert send({**payment, "amount": 24}, "Paid", [tx("25")]).status_code == 200
    assert facts(invoice)["is_paid"] is True
    assert CallbackReceipt.objects.count() == 1


# T19: which money

COINS = "BTC ETH TRX USDT USDC XRP POL".split()
CURRENCIES = ["USD", "EUR", "JPY", "IDR", "GBP", *COINS]


@pytest.mark.parametrize("ours", CURRENCIES)
def test_t19_pairs_of_currencies(gateway, ours):
    invoice, payment = make(gateway, "25", ours)
    for theirs in CURRENCIES:
        if theirs != ours:
            payment["currency"] = theirs  # the poll disagrees, too
            assert send(payment, "Paid", [tx("25", theirs)]).status_code == 200
            assert facts(invoice) == fact("pending", review=True), theirs
    assert set(verdicts()) == {"quarantined"}
    assert Transfer.objects.count() == 0
    payment["currency"] = ours
    assert send(payment, "Paid", [tx("25", ours)]).status_code == 200
    received = 25 if ours in COINS else None  # a token named USD is no dollar: then the gateway's final word counts
    assert facts(invoice) == fact("paid", is_paid=True, received=received, review=True)


@pytest.mark.parametrize("written", ["usdt", "Usdt", "USDT"])
def test_t19_letter_case(gateway, written):
    invoice, payment = make(gateway)
    send(payment, "Paid", [tx("25", written)], currency=written)
    assert facts(invoice) == fact("paid", is_paid=True, received=25)
    assert gateway.called("GET") == []


@pytest.mark.parametrize("written", ["USDT ", " USDT", "USDT.E", "USDTE", "USD", "UЅDT", "USDT\u200b"])
def test_t19_look_alikes(gateway, written):
    invoice, payment = make(gateway)
    payment["currency"] = written
    assert send(payment, "Paid", [tx("25")]).status_code == 200
    assert facts(invoice)["status"] == "pending"
    assert facts(invoice)["review"] is True


def test_t19_the_payers_coin_is_no_price(gateway):
    """10 POL for a price of 25 USD says nothing comparable: unknown, not 10."""
    invoice, payment = make(gateway, "25", "USD")
    send(payment, "Paying", [tx("10", "POL", confirmed=False)])
    assert facts(invoice) == fact("confirming")
    send(payment, "Paid", [tx("10", "POL")])
    assert facts(invoice) == fact("paid", is_paid=True)


def test_t19_two_coins_are_not_added(gateway):
    invoice, payment = make(gateway)
    send(payment, "Paid", [tx("25"), tx("25", "TRX", tx_hash="0xaaa2")])
    assert facts(invoice) == fact("paid", is_paid=True)


def test_t19_with_the_fee_on_the_payer_sums_are_not_comparable(gateway):
    invoice, payment = make(gateway, fee_payer="payer")
    send(payment, "Paid", [tx("25.5")])
    assert facts(invoice) == fact("paid", is_paid=True)


# T22 and T23: rounding and notation


@pytest.mark.parametrize(
    "written", ["1.336520646e+21", "1e-8", "1E-18", "0.1", "0.30000000000000004", "99999999.99999999", "1.000000000000000001"]
)
def test_t22_t23_digits_survive_the_whole_way(gateway, written):
    amount = Decimal(written)
    if amount >= 10**20:  # more than a column holds
        invoice, payment = make(gateway, "1")
        assert send(payment, "Paid", [tx(written)]).status_code == 400
        assert facts(invoice) == fact("pending")
        return
    invoice, payment = make(gateway, written)
    body = body_of(payment, "Paid", [tx("777")], amount=777).replace(b"777", written.encode())
    assert post(path_of(payment), body, sign(body)).status_code == 200
    assert facts(invoice) == fact("paid", is_paid=True, received=amount)
    assert Transfer.objects.get().amount == amount


def _sum_of(amounts):
    attempt = AttemptFacts(state=AttemptState.SUPERSEDED, status=InvoiceStatus.UNDERPAID, live=False)
    attempts = tuple(
        AttemptFacts(state=attempt.state, status=attempt.status, live=False, received=amount, money_at=timezone.now())
        for amount in amounts
    )
    return reduce_invoice(InvoiceFacts(amount=Decimal(1), attempts=attempts)).received


@pytest.mark.parametrize(
    "low,high",
    [(1, 10**18), (10**20, 10**24), (10**32, 10**34)],
    ids=["below one coin", "hundreds", "as large as a column holds"],
)
def test_t22_ten_thousand_partial_payments(low, high):
    chance = random.Random(low)
    units = [chance.randrange(low, high) for _ in range(10_000)]
    amounts = [Decimal(number).scaleb(-18, context=Context(prec=80)) for number in units]
    assert _sum_of(amounts) == Decimal(sum(units)).scaleb(-18, context=Context(prec=80))


def test_t22_many_transactions_of_one_payment(gateway):
    parts = [Decimal(number).scaleb(-18) for number in range(1, 201)]
    invoice, payment = make(gateway, str(sum(parts)))
    body = body_of(payment, "Paid", [tx(part, tx_hash=f"0x{number}") for number, part in enumerate(parts)])
    assert len(body) <= 64 * 1024 or post(path_of(payment), body, sign(body)).status_code == 413
    parts = parts[:100]
    tell(payment, "paying", [tx(part, tx_hash=f"0x{number}") for number, part in enumerate(parts)])
    refresh_invoice(invoice)
    assert facts(invoice) == fact("confirming", received=sum(parts))


def test_t22_thirty_eight_digits(gateway):
    price = "12345678901234567890.123456789012345678"
    invoice, payment = make(gateway, price)
    send(payment, "Paid", [tx(price)])
    assert facts(invoice) == fact("paid", is_paid=True, received=price)


def test_t22_thirty_eight_digits_in_two_payments(gateway):
    price, half = "12345678901234567890.123456789012345678", Decimal("6172839450617283945.061728394506172839")
    invoice, payment = make(gateway, price)
    send(payment, "Paid", [tx(half), tx(half, tx_hash="0xaaa2")])
    assert facts(invoice) == fact("paid", is_paid=True, received=price)


def test_t22_a_rest_of_thirty_eight_digits(gateway):
    invoice, payment = make(gateway, "12345678901234567890.123456789012345678")
    tell(payment, "underpaid", [tx("0.000000000000000001")])
    refresh_invoice(invoice)
    assert start_attempt(invoice).amount == Decimal("12345678901234567890.123456789012345677")


# T24: overpayment


@pytest.mark.parametrize(
    "parts,status",
    [
        (["25"], "paid"),
        ([Decimal(25) + UNIT], "overpaid"),
        (["250"], "overpaid"),
        (["20", "5"], "paid"),
        (["20", "10"], "overpaid"),
        (["25", "25"], "overpaid"),
    ],
)
def test_t24_overpayment(gateway, parts, status):
    invoice, payment = make(gateway)
    txs = [tx(part, tx_hash=f"0x{number}") for number, part in enumerate(parts)]
    with recorded() as calls:
        for number in range(1, len(txs)):
            send(payment, "Paying", txs[:number])
        send(payment, "Paid", txs)
    total = sum(Decimal(part) for part in parts)
    assert facts(invoice) == fact(status, is_paid=True, received=total)
    assert calls.count_of("invoice_paid") == 1
    assert calls.count_of("invoice_overpaid") == (1 if status == "overpaid" else 0)
    assert calls.count_of("payment_received") == len(parts)


def test_t24_more_money_after_paid(gateway):
    invoice, payment = make(gateway)
    with recorded("invoice_paid", "invoice_overpaid", "payment_received") as calls:
        send(payment, "Paid", [tx("25")])
        send(payment, "Paid", [tx("25"), tx("5", tx_hash="0xaaa2")])
    assert facts(invoice) == fact("overpaid", is_paid=True, received=30)
    assert calls.names == ["payment_received", "invoice_paid", "payment_received", "invoice_overpaid"]


def test_t24_the_excess_was_refunded(gateway):
    """overpaid -> paid is a poll's to tell."""
    invoice, payment = make(gateway)
    send(payment, "Paid", [tx("30")])
    tell(payment, "paid", [tx("25")])
    send(payment, "Paid", [tx("25")])
    assert facts(invoice)["status"] == "overpaid"
    refresh_invoice(invoice)
    assert facts(invoice)["status"] == "paid"
    assert InvoiceEvent.objects.exclude(one_shot=None).count() == 1


# T25: two attempts


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["old first", "new first"])
def test_t25_two_attempts_paid(gateway, order):
    invoice, first = make(gateway)
    start_attempt(invoice, "second")
    payments = [(first, "default"), (payment_of(gateway, invoice), "second")]
    with recorded() as calls:
        for number, place in enumerate(order):
            payment, alias = payments[place]
            send(payment, "Paid", [tx("25", tx_hash=f"0x{place}")], key=KEYS[alias])
            expected = (
                fact("overpaid", is_paid=True, received=50, review=True) if number else fact("paid", is_paid=True, received=25)
            )
            assert facts(invoice) == expected
    assert (calls.count_of("invoice_paid"), calls.count_of("invoice_overpaid")) == (1, 1)
    assert calls.count_of("invoice_review_required") == 1
    assert "second payment" in Invoice.objects.get().review_reason


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["old first", "new first"])
def test_t25_without_comparable_sums(gateway, order):
    invoice, first = make(gateway, "25", "USD")
    start_attempt(invoice, "second")
    payments = [(first, "default"), (payment_of(gateway, invoice), "second")]
    with recorded("invoice_paid") as calls:
        for place in order:
            payment, alias = payments[place]
            send(payment, "Paid", [tx("10", "POL", tx_hash=f"0x{place}")], key=KEYS[alias])
    assert facts(invoice) == fact("overpaid", is_paid=True, review=True)
    assert calls.names == ["invoice_paid"]


def test_t25_a_top_up_is_no_second_payment(gateway):
    """The second attempt asks for the rest only: both together make the price."""
    invoice, first = make(gateway)
    tell(first, "underpaid", [tx("10")])
    refresh_invoice(invoice)
    assert facts(invoice) == fact("underpaid", received=10)
    attempt = start_attempt(invoice)
    assert (attempt.amount, attempt.currency) == (Decimal(15), "USDT")
    send(payment_of(gateway, invoice), "Paid", [tx("15", tx_hash="0xaaa2")])
    assert facts(invoice) == fact("paid", is_paid=True, received=25)


def test_t25_a_dead_second_attempt_does_not_pull_a_paid_one_down(gateway):
    invoice, first = make(gateway)
    start_attempt(invoice)
    second = payment_of(gateway, invoice)
    send(first, "Paid", [tx("25")])
    tell(second, "expired")
    tell(first, "paid", [tx("25")])
    before = rows(Invoice)
    refresh_invoice(invoice)
    assert facts(invoice) == fact("paid", is_paid=True, received=25)
    assert {name: before["Invoice"][0][name] for name in ("status", "paid_at", "epoch")} == {
        name: rows(Invoice)["Invoice"][0][name] for name in ("status", "paid_at", "epoch")
    }
