"""What comes to static addresses: callbacks, polls, sums; each deposit announced exactly once (T21 to T45 for addresses)."""

import hashlib
import itertools
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal as D

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from crypto_invoices import conf, delivery, deposits, ledger, signals
from crypto_invoices.exceptions import Conflict
from crypto_invoices.models import CallbackReceipt, EventDelivery, Invoice, InvoiceEvent, StaticAddress, Transfer
from crypto_invoices.providers.base import Evidence, Kind, Remote, RemoteTransfer
from crypto_invoices.providers.oxapay import OxaPay
from crypto_invoices.services import create_static_address, resend, revoke_static_address
from crypto_invoices.statuses import InvoiceStatus, Source, Verdict
from tests.helpers import (
    KEYS,
    Clock,
    body_of,
    connected,
    fetched,
    path_of,
    post,
    rows,
    send,
    sign,
    stub_gateway,
    sweep,
    tx,
    verdicts,
)
from tests.helpers import make as make_invoice
from tests.providers import Stub

pytestmark = pytest.mark.django_db(transaction=True)

NOTICES = []


def take_notice(kind, invoice, text):
    NOTICES.append((kind, invoice, text))


@pytest.fixture
def gateway(settings):
    NOTICES.clear()
    return stub_gateway(settings, NOTIFY=f"{__name__}.take_notice")


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def address(gateway):
    return make()


def make(**arguments):
    return create_static_address(**{"pay_currency": "USDT@tron", "customer": "customer-7", **arguments})


def again(address):
    return StaticAddress.objects.get(pk=address.pk)


def payment_of(gateway, address):
    return gateway.payments[address.gateway_id]


def take_in(address, body, *, alias="default"):
    """A callback's bytes, signed and verified, on the URL of the address."""
    evidence = conf.provider_for(alias).verify({"HMAC": sign(body, KEYS[alias])}, body)
    callback = ledger.Callback(
        account=alias, digest=hashlib.sha256(body).hexdigest(), body=body, headers={}, reference=address.reference,
        received_at=timezone.now(),
    )  # fmt: skip
    found = deposits.find(address.reference, alias)
    return deposits.apply(evidence, static_address_id=found.pk, callback=callback)


def call_back(gateway, address, status, txs, **changes):
    return take_in(address, body_of(payment_of(gateway, address), status, txs, **changes))


def evidence_of(address, *, totals=(), source=Source.POLL, status=InvoiceStatus.PENDING, **fields):
    remote = Remote(Kind.STATIC_ADDRESS, address.gateway_id, address.reference)
    return Evidence(source=source, remote=remote, word="active", status=status, totals=totals, **fields)


def tell_totals(address, **totals):
    """A poll of a gateway that tells sums."""
    told = tuple((coin, D(total)) for coin, total in totals.items())
    return deposits.apply(evidence_of(address, totals=told), static_address_id=address.pk)


def transfers(address):
    """``[(key, amount, confirmed)]``, oldest first."""
    return list(address.transfers.order_by("pk").values_list("key", "amount", "confirmed"))


@contextmanager
def heard(*, uid="tests.deposits", fail=0, atomic=True):
    """``[(event_id, address, key, amount)]`` of every completed call; the first ``fail`` calls raise."""
    calls, failures = [], [True] * fail

    def receive(sender, *, signal, static_address, transfer, event_id):
        assert (sender, signal) == (StaticAddress, signals.deposit_received)
        User.objects.create(username=f"{uid}-{User.objects.count()}")
        if failures:
            failures.pop()
            raise ValueError("the till is stuck")
        calls.append((event_id, static_address.pk, transfer.key, transfer.amount))

    with connected(receive, "deposit_received", uid=uid, atomic=atomic):
        yield calls


def keys(calls):
    return [key for _, _, key, _ in calls]


# One deposit


def test_a_deposit_is_stored_and_announced(gateway, address, clock):
    paid_at = clock.now - timedelta(minutes=3)
    transfer = tx("12.34567890", date=int(paid_at.timestamp()))
    with heard() as calls:
        applied = call_back(gateway, address, "Paid", [transfer])
    assert applied.verdict is Verdict.APPLIED
    row = Transfer.objects.get()
    assert (row.static_address, row.attempt, row.key, row.tx_hash) == (address, None, "0xaaa1", "0xaaa1")
    assert (row.amount, row.currency, row.network, row.sender) == (D("12.3456789"), "USDT", "Tron Network", "TSender")
    assert (row.confirmed, row.confirmations, row.paid_at) == (True, 20, paid_at)
    assert calls == [(f"{address.uuid}.2", address.pk, "0xaaa1", D("12.3456789"))]
    event = InvoiceEvent.objects.get(kind="deposit")
    assert (event.static_address, event.transfer, event.invoice, event.attempt) == (address, row, None, None)
    assert (event.version, event.signals, event.source, event.due_at) == (2, ["deposit_received"], "callback", None)
    assert (applied.event, again(address).version, again(address).last_transfer_at) == (event, 2, clock.now)
    receipt = CallbackReceipt.objects.get()
    assert (receipt.verdict, receipt.static_address, receipt.attempt, event.receipt) == ("applied", address, None, receipt)
    delivered = EventDelivery.objects.get()
    assert (delivered.event, delivered.signal, delivered.state) == (event, "deposit_received", "done")


def test_who_listens_to_invoices_does_not_hear_of_it(gateway, address):
    calls = []
    listen = {"sender": Invoice, "dispatch_uid": "tests.other"}
    signals.deposit_received.connect(lambda **kwargs: calls.append(kwargs), weak=False, **listen)
    try:
        call_back(gateway, address, "Paid", [tx("5")])
    finally:
        signals.deposit_received.disconnect(**listen)
    assert calls == []
    assert InvoiceEvent.objects.get(kind="deposit").due_at is None


def test_any_number_of_deposits(gateway, address):
    with heard() as calls:
        for number in range(1, 6):
            call_back(gateway, address, "Paid", [tx(number, tx_hash=f"0x{number}")])
    assert keys(calls) == ["0x1", "0x2", "0x3", "0x4", "0x5"]
    assert [event_id for event_id, *_ in calls] == [f"{address.uuid}.{version}" for version in range(2, 7)]


def test_several_deposits_of_one_callback_are_told_one_by_one(gateway, address):
    txs = [tx("1", tx_hash="0x1"), tx("2", tx_hash="0x2", confirmed=False), tx("3", currency="TRX", tx_hash="0x3")]
    with heard() as calls:
        applied = call_back(gateway, address, "Paying", txs)
    assert calls == [(f"{address.uuid}.3", address.pk, "0x1", 1), (f"{address.uuid}.4", address.pk, "0x3", 3)]
    assert transfers(address) == [("0x1", 1, True), ("0x2", 2, False), ("0x3", 3, True)]
    assert list(address.events.order_by("version").values_list("version", "kind")) == [
        (1, "created"), (2, "transfer"), (3, "deposit"), (4, "deposit"),
    ]  # fmt: skip
    assert (applied.event.version, again(address).version) == (4, 4)
    assert not InvoiceEvent.objects.filter(due_at__isnull=False).exists()


# Over HTTP


def test_a_callback_over_http(gateway, address):
    payment = payment_of(gateway, address)
    with heard() as calls:
        for _ in range(2):
            answer = send(payment, "Paid", [tx("5", date=1760000100)])
            assert (answer.status_code, answer.content) == (200, b"ok")
    assert (keys(calls), verdicts()) == (["0xaaa1"], ["applied"])


def test_a_forged_callback_over_http(gateway, address):
    before = rows()
    assert send(payment_of(gateway, address), "Paid", [tx("5")], key="of somebody else").status_code == 403
    assert rows() == before


def test_T17_a_callback_on_the_url_of_another_address_or_account(gateway, address):
    other, second = make(), make(account="second")
    body = body_of(payment_of(gateway, address), "Paid", [tx("5")])
    with heard() as calls:
        assert post(path_of(payment_of(gateway, other)), body, sign(body)).status_code == 200
        assert post(path_of(payment_of(gateway, second)), body, sign(body)).status_code == 403
        moved = path_of(payment_of(gateway, second)).replace("/second/", "/default/")
        assert post(moved, body, sign(body)).status_code == 404
    assert (calls, Transfer.objects.count()) == ([], 0)
    assert [again(row).version for row in (address, other, second)] == [1, 1, 1]


# Unconfirmed, then confirmed


def test_an_unconfirmed_transfer_is_announced_once_it_is_confirmed(gateway, address):
    with heard() as calls:
        call_back(gateway, address, "Paying", [tx("5", confirmed=False, confirmations=0)])
        assert transfers(address) == [("0xaaa1", 5, False)]
        call_back(gateway, address, "Paying", [tx("5", confirmed=False, confirmations=2)])
        assert (Transfer.objects.get().confirmations, again(address).version, calls) == (2, 2, [])
        call_back(gateway, address, "Paid", [tx("4.9", confirmations=20)])  # what was received in the end
        call_back(gateway, address, "Paid", [tx("4.9", confirmations=30)])
        call_back(gateway, address, "Paying", [tx("5", confirmed=False, confirmations=1)])  # late
    assert calls == [(f"{address.uuid}.3", address.pk, "0xaaa1", D("4.9"))]
    row = Transfer.objects.get()
    assert (row.amount, row.confirmed, row.confirmations) == (D("4.9"), True, 30)


def test_paid_confirms_the_only_transfer_but_not_one_of_several(gateway, address):
    with heard() as calls:
        call_back(gateway, address, "Paid", [tx("5", confirmed=False)])
        call_back(gateway, address, "Paid", [tx("5"), tx("6", tx_hash="0xb", confirmed=False)])
    assert keys(calls) == ["0xaaa1"]


@pytest.mark.parametrize(
    "fields", [{"on_hold": True}, *({"status": InvoiceStatus(word)} for word in ("failed", "refunding", "refunded"))]
)
def test_what_the_gateway_holds_or_gives_back_is_not_announced(gateway, address, fields):
    transfer = RemoteTransfer(key="0xaaa1", amount=D(5), currency="USDT", confirmed=True)
    listed = evidence_of(address, transfers=(transfer,))
    summed = evidence_of(address, totals=(("TRX", D(9)),))
    with heard() as calls:
        for evidence in (listed, summed):
            deposits.apply(replace(evidence, **fields), static_address_id=address.pk)
        assert (transfers(address), calls) == ([("0xaaa1", 5, False)], [])
        for evidence in (listed, summed):
            deposits.apply(evidence, static_address_id=address.pk)
    assert keys(calls) == ["0xaaa1", "TRX 9"]


def test_sums_beside_listed_transfers_do_not_count_twice(gateway, address):
    transfer = RemoteTransfer(key="0xaaa1", amount=D(5), currency="USDT", confirmed=True)
    evidence = evidence_of(address, transfers=(transfer,), totals=(("USDT", D(5)),))
    for _ in range(2):
        deposits.apply(evidence, static_address_id=address.pk)
    assert transfers(address) == [("0xaaa1", 5, True)]


@pytest.mark.parametrize("amount", [b"null", b"0"])
def test_a_transfer_without_an_amount_waits_for_it(gateway, address, amount):
    body = body_of(payment_of(gateway, address), "Paid", [tx("5")])
    blank = body.replace(b'"received_amount":5', b'"received_amount":' + amount)
    assert blank != body
    with heard() as calls:
        take_in(address, blank)
        assert (Transfer.objects.get().confirmed, calls) == (False, [])
        take_in(address, body)
    assert [call[2:] for call in calls] == [("0xaaa1", 5)]


# T21 to T25: duplicates and order


def test_T21_a_repeated_callback(gateway, address):
    body = body_of(payment_of(gateway, address), "Paid", [tx("5", date=1760000100)])
    with heard() as calls:
        answers = [take_in(address, body) for _ in range(20)]
    assert len(calls) == 1
    assert [answer.duplicate for answer in answers] == [False, *[True] * 19]
    assert (Transfer.objects.count(), CallbackReceipt.objects.count(), again(address).version) == (1, 1, 2)


def test_T21_a_repeated_quarantined_callback_is_processed_again(gateway, address):
    body = body_of(payment_of(gateway, address), "Paid", [tx("5")], track_id="1", order_id=None)
    for _ in range(3):
        assert take_in(address, body).verdict is Verdict.QUARANTINED
    assert list(CallbackReceipt.objects.values_list("verdict", "seen")) == [("quarantined", 3)]
    assert len(NOTICES) == 1
    StaticAddress.objects.update(gateway_id="1")
    assert take_in(address, body).verdict is Verdict.APPLIED
    assert list(CallbackReceipt.objects.values_list("verdict", "seen")) == [("applied", 4)]


def test_T25_the_order_of_callbacks_does_not_matter(gateway):
    """Every order of four callbacks and a poll: the same transfers, each announced once."""
    pending, first, second = (tx("5", confirmed=False, confirmations=1), tx("5"), tx("7", tx_hash="0xb"))
    ends = set()
    for order in itertools.permutations(range(4)):
        address = make()
        payment = payment_of(gateway, address)
        bodies = [
            body_of(payment, "Paying", [pending]),
            body_of(payment, "Paid", [first]),
            body_of(payment, "Paid", [first, second]),
        ]
        payment["txs"] = [fetched(first)]
        with heard() as calls:
            for step in order:
                if step == 3:
                    deposits.poll(again(address))
                else:
                    take_in(address, bodies[step])
                    take_in(address, bodies[step])
        assert Counter(keys(calls)) == {"0xaaa1": 1, "0xb": 1}
        ends.add(tuple(sorted(address.transfers.values_list("key", "amount", "confirmed", "confirmations"))))
    assert ends == {(("0xaaa1", D(5), True, 20), ("0xb", D(7), True, 20))}


def test_a_poll_finds_what_callbacks_did_not_tell(gateway, address, clock):
    payment_of(gateway, address)["txs"] = [fetched(tx("5")), fetched(tx("6", tx_hash="0xb", confirmed=False))]
    clock.advance(days=40)
    with heard() as calls:
        assert deposits.poll(again(address)).verdict is Verdict.APPLIED
        version = again(address).version
        assert deposits.poll(again(address)).verdict is Verdict.UNCHANGED
    assert (keys(calls), again(address).version, version) == (["0xaaa1"], 3, 3)
    assert "0xaaa1" in again(address).raw
    assert again(address).next_poll_at - clock.now < timedelta(hours=1)


# Sums


def test_totals_rise_fall_and_stay(gateway, address):
    with heard() as calls:
        for total in ("5", "5.000000", "12.5", "5", "12.5", "0", "12.500000000000000001"):
            tell_totals(address, USDT=total)
    assert [call[2:] for call in calls] == [
        ("USDT 5", D(5)),
        ("USDT 12.5", D("7.5")),
        ("USDT 12.500000000000000001", D("0.000000000000000001")),
    ]
    assert all(confirmed for _, _, confirmed in transfers(address))
    assert again(address).version == 4


def test_totals_of_two_coins(gateway, address):
    with heard() as calls:
        tell_totals(address, USDT="5", TRX="5")
        tell_totals(address, USDT="5", TRX="8")
        tell_totals(address, TRX="8")
        tell_totals(address, USDT="6", TRX="0")
    assert [call[2:] for call in calls] == [("USDT 5", 5), ("TRX 5", 5), ("TRX 8", 3), ("USDT 6", 1)]
    assert set(address.transfers.values_list("currency", "tx_hash")) == {("USDT", ""), ("TRX", "")}


def take_totals(address, observed_at=None, review="", **totals):
    """A poll of a gateway that tells sums, noted on the row."""
    told = tuple((coin, D(total)) for coin, total in totals.items())
    evidence = evidence_of(address, totals=told, observed_at=observed_at, review=review)
    return deposits.take(again(address), conf.provider_for("default"), evidence, timezone.now())


def test_a_sum_that_shrank_is_told_once_and_nothing_is_taken_back(gateway, address):
    with heard() as calls:
        take_totals(address, USDT="12.5", TRX="3")
        told_less = evidence_of(address, totals=(("USDT", D(5)), ("TRX", D(3))))
        assert not deposits.says_nothing_new(again(address), told_less)
        for _ in range(3):
            assert take_totals(address, USDT="5", TRX="3").verdict is Verdict.UNCHANGED
        text = "USDT: the gateway tells 5 in all, but 12.5 is recorded"
        [notice] = NOTICES
        assert notice == ("review", None, f"static address {address.uuid}: {text}")
        assert again(address).poll_error == text
        take_totals(address, USDT="5", TRX="4")  # news of another coin are no news of this one
        assert len(NOTICES) == 1
    assert keys(calls) == ["USDT 12.5", "TRX 3", "TRX 4"]
    assert [amount for _, amount, _ in transfers(address)] == [D("12.5"), 3, 1]


def test_a_sum_that_shrank_to_nothing_or_further_is_told_again_only_as_it_changes(gateway, address):
    take_totals(address, USDT="12.5")
    for total in ("5", "0", "0", "12.5", "12.5"):
        take_totals(address, USDT=total)
    assert [text.partition("tells ")[2] for _, _, text in NOTICES] == [
        "5 in all, but 12.5 is recorded", "0 in all, but 12.5 is recorded",
    ]  # fmt: skip
    assert again(address).poll_error == ""
    assert deposits.says_nothing_new(again(address), evidence_of(address, totals=(("USDT", D("12.5")),)))


def test_a_sum_that_shrank_joins_the_gateways_own_request_for_a_review(gateway, address):
    take_totals(address, USDT="5")
    for _ in range(2):
        take_totals(address, review="held for a check", USDT="2", TRX="0")
    [(_, _, text)] = NOTICES
    assert text.endswith(": held for a check; USDT: the gateway tells 2 in all, but 5 is recorded")


def test_an_answer_that_was_overtaken_by_a_deposit_tells_of_no_smaller_sum(gateway, address, clock):
    asked_at = clock.now
    clock.advance(seconds=2)
    take_totals(address, USDT="8")
    take_totals(address, observed_at=asked_at, USDT="5")
    assert NOTICES == []
    take_totals(address, observed_at=clock.now, USDT="5")
    assert len(NOTICES) == 1


def test_totals_of_two_addresses_are_apart(gateway, address):
    other = make()
    with heard() as calls:
        tell_totals(address, USDT="5")
        tell_totals(other, USDT="5")
    assert [(pk, amount) for _, pk, _, amount in calls] == [(address.pk, 5), (other.pk, 5)]


@pytest.mark.parametrize("order", list(itertools.permutations(["2", "3.5", "9"])))
def test_totals_in_any_order_end_at_the_largest(gateway, address, order):
    for total in order:
        tell_totals(address, USDT=total)
    assert sum(address.transfers.values_list("amount", flat=True)) == 9


def test_a_gateway_that_tells_sums_is_polled_on_a_hint(settings, gateway):
    """goodPayments, whose webhooks are not signed."""
    stub = Stub()
    try:
        settings.CRYPTO_INVOICES = {
            **settings.CRYPTO_INVOICES,
            "ACCOUNTS": {
                "tron": {
                    "PROVIDER": "crypto_invoices.providers.goodpayments.GoodPayments",
                    "OPTIONS": {"api_key": "CANARY-OF-A-TEST", "base_url": f"{stub.url}/api/v1"},
                }
            },
        }
        made = {
            "id": 300000001, "status": "ACTIVE", "type": "MULTIPLE", "paymentURL": "", "amount": None, "currencies": ["USDT"],
            "currencies_amounts": {}, "transfer_amounts": {"input": {"TRX": 0, "USDT": 0}, "output": {"TRX": 0, "USDT": 0}},
            "address": "TStatic", "order_id": None, "expired_at": None,
        }  # fmt: skip
        stub.script = [(200, made)]
        address = make(account="tron")
        assert (address.address, address.gateway_id) == ("TStatic", "300000001")
        with heard() as calls:
            for total in (10, 10, 25):
                stub.script = [(200, made | {"transfer_amounts": {"input": {"TRX": 0, "USDT": total}, "output": {}}})]
                deposits.poll(again(address), timeout=5)
        assert [call[2:] for call in calls] == [("USDT 10", 10), ("USDT 25", 15)]
    finally:
        stub.close()


# Binding


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"type": "invoice"}, "kind invoice instead of static_address"),
        ({"track_id": "7", "order_id": None}, "another id of the gateway"),
        ({"order_id": "A" * 26}, "another reference"),
        ({"tx_hash": "sandbox"}, "a sandbox payment"),
    ],
)
def test_T18_what_does_not_fit_credits_nothing(gateway, address, changes, reason):
    changes = dict(changes)
    before = rows(StaticAddress, Transfer, InvoiceEvent)
    with heard() as calls:
        transfer = tx("5", tx_hash=changes.pop("tx_hash", "0xaaa1"))
        applied = call_back(gateway, address, "Paid", [transfer], **changes)
    assert (applied.verdict, applied.reason, applied.event, calls) == (Verdict.QUARANTINED, reason, None, [])
    assert rows(StaticAddress, Transfer, InvoiceEvent) == before
    receipt = CallbackReceipt.objects.get()
    assert (receipt.verdict, receipt.reason, receipt.static_address) == ("quarantined", reason, address)
    [(kind, invoice, text)] = NOTICES
    assert (kind, invoice) == ("review", None)
    assert str(address.uuid) in text and reason in text


def test_T18_a_poll_that_does_not_fit_is_told_once(gateway, address):
    payment_of(gateway, address).update(order_id="A" * 26, txs=[fetched(tx("5"))])
    for _ in range(3):
        assert deposits.poll(again(address)).verdict is Verdict.QUARANTINED
    assert (Transfer.objects.count(), len(NOTICES)) == (0, 1)
    assert again(address).poll_error == "another reference"


def test_T17_an_account_finds_only_its_own_addresses(gateway, address):
    assert deposits.find(address.reference, "default") == address
    assert deposits.find(address.reference, "second") is None
    assert deposits.find("", "default") is None


def test_T32_a_callback_before_the_answer_of_the_create_call(gateway, monkeypatch):
    real = OxaPay.create_static_address

    def create(self, request):
        remote = real(self, request)
        payment = gateway.payments[remote.gateway_id]
        take_in(StaticAddress.objects.get(reference=request.reference), body_of(payment, "Paid", [tx("5")]))
        return remote

    monkeypatch.setattr(OxaPay, "create_static_address", create)
    with heard() as calls:
        address = make()
    assert len(calls) == 1
    assert (address.state, address.gateway_id, address.address) == ("open", "190000001", "TAddress190000001")
    assert address.version == 2


def test_T32_an_answer_with_another_id_than_the_callback(gateway, monkeypatch):
    real = OxaPay.create_static_address

    def create(self, request):
        remote = real(self, request)
        payment = gateway.payments[remote.gateway_id] | {"track_id": "5"}
        take_in(StaticAddress.objects.get(reference=request.reference), body_of(payment, "Paid", [tx("5")]))
        return remote

    monkeypatch.setattr(OxaPay, "create_static_address", create)
    address = make()
    assert (address.gateway_id, address.address) == ("5", "")
    assert "another id" in NOTICES[0][2]


def test_T62_a_callback_opens_an_address_that_was_in_doubt(gateway):
    address = make()
    StaticAddress.objects.update(state="unknown", gateway_id="", address="")
    with heard() as calls:
        assert take_in(address, body_of(payment_of(gateway, address), "Paid", [tx("5")])).verdict is Verdict.APPLIED
    assert len(calls) == 1
    assert (again(address).state, again(address).gateway_id) == ("open", address.gateway_id)


def test_T62_without_an_id_only_our_reference_binds(gateway):
    address = make()
    StaticAddress.objects.update(state="unknown", gateway_id="")
    body = body_of(payment_of(gateway, address), "Paid", [tx("5")], order_id=None)
    assert take_in(address, body).reason == "neither the gateway's id nor our reference is known"


def test_money_to_a_revoked_address_is_announced_all_the_same(gateway, address):
    revoke_static_address(address, reason="the customer left")
    with heard() as calls:
        call_back(gateway, address, "Paid", [tx("5")])
    assert len(calls) == 1
    assert again(address).state == "revoked"


def test_a_gateways_request_for_a_review_reaches_the_staff(gateway, address):
    evidence = evidence_of(address, totals=(("USDT", D(5)),), review="held for a check", on_hold=True)
    for _ in range(3):
        deposits.take(again(address), conf.provider_for("default"), evidence, timezone.now())
    [notice] = NOTICES
    assert notice == ("review", None, f"static address {address.uuid}: held for a check")
    assert again(address).poll_error == "held for a check"
    assert transfers(address) == []


def test_an_answer_that_asks_for_a_review_is_taken_in_by_reconciliation(gateway, address):
    quiet = evidence_of(address)
    assert deposits.says_nothing_new(again(address), quiet)
    assert not deposits.says_nothing_new(again(address), replace(quiet, review="held for a check"))
    assert not deposits.says_nothing_new(again(address), replace(quiet, totals=(("USDT", D(5)),)))


# Races


def in_between(monkeypatch, act, times=1):
    """Runs ``act`` after a process has read and computed, right before it writes, so many times."""
    compare, left = deposits._compare, [True] * times

    def compare_and_act(*args):
        found = compare(*args)
        if left:
            left.pop()
            act()
        return found

    monkeypatch.setattr(deposits, "_compare", compare_and_act)
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def test_two_processes_apply_the_same_deposit(gateway, address, monkeypatch):
    body = body_of(payment_of(gateway, address), "Paid", [tx("5")])
    with heard() as calls:
        in_between(monkeypatch, lambda: take_in(address, body))
        assert take_in(address, body).duplicate
    assert (len(calls), again(address).version, verdicts()) == (1, 2, ["applied"])


def test_a_callback_and_a_poll_bring_the_same_deposit(gateway, address, monkeypatch):
    payment_of(gateway, address)["txs"] = [fetched(tx("5"))]
    with heard() as calls:
        in_between(monkeypatch, lambda: deposits.poll(again(address)))
        applied = call_back(gateway, address, "Paid", [tx("5")])
    assert (applied.verdict, len(calls), verdicts()) == (Verdict.UNCHANGED, 1, ["stale"])


@pytest.mark.parametrize(("mine", "others"), [("5", "8"), ("8", "5"), ("8", "8")])
def test_two_processes_are_told_of_totals(gateway, address, monkeypatch, mine, others):
    with heard() as calls:
        in_between(monkeypatch, lambda: tell_totals(address, USDT=others))
        tell_totals(address, USDT=mine)
    assert sum(amount for *_, amount in calls) == max(D(mine), D(others))
    assert len(calls) == address.transfers.count()


def test_who_always_loses_gives_up_without_a_trace(gateway, address, monkeypatch):
    numbers = itertools.count(1)
    in_between(monkeypatch, lambda: StaticAddress.objects.filter(pk=address.pk).update(version=1 + next(numbers)), times=5)
    with pytest.raises(Conflict):
        call_back(gateway, address, "Paid", [tx("5")])
    assert (Transfer.objects.count(), CallbackReceipt.objects.count()) == (0, 0)


# T40 to T45: delivery


def test_T41_killed_between_commit_and_signal(gateway, address, clock, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*args, **kwargs):
        raise Killed

    with heard() as calls:
        with monkeypatch.context() as patch:
            patch.setattr(delivery, "deliver", die)
            with pytest.raises(Killed):
                call_back(gateway, address, "Paid", [tx("1", tx_hash="0x1"), tx("2", tx_hash="0x2")])
        assert (transfers(address), calls) == ([("0x1", 1, True), ("0x2", 2, True)], [])
        sweep()
        assert calls == []  # still held by the process that died
        clock.advance(seconds=31)
        assert sweep() == 1
        sweep()
    assert keys(calls) == ["0x1", "0x2"]


def test_T41_killed_before_the_commit(gateway, address, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*args, **kwargs):
        raise Killed

    before = rows()
    body = body_of(payment_of(gateway, address), "Paid", [tx("5")])
    with heard() as calls:
        with monkeypatch.context() as patch:
            patch.setattr(ledger, "publish", die)
            with pytest.raises(Killed):
                take_in(address, body)
        assert rows() == before
        take_in(address, body)
    assert len(calls) == 1


def test_T40_a_receiver_that_fails_is_called_again(gateway, address, clock):
    with heard(fail=2) as calls, heard(uid="tests.other") as others:
        call_back(gateway, address, "Paid", [tx("5")])
        assert (calls, len(others), User.objects.count()) == ([], 1, 1)  # its own work is rolled back
        for _ in range(2):
            clock.advance(hours=6)
            sweep()
    assert (calls, len(others)) == (others, 1)
    assert EventDelivery.objects.get(receiver="tests.deposits").tries == 3


def test_T40_order_is_kept_for_each_receiver_of_an_address(gateway, address, clock):
    other = make()
    with heard(fail=1) as calls, heard(uid="tests.other") as others:
        for number in (1, 2, 3):
            call_back(gateway, address, "Paid", [tx(number, tx_hash=f"0x{number}")])
        call_back(gateway, other, "Paid", [tx("4", tx_hash="0x4")])
        assert (keys(calls), keys(others)) == (["0x4"], ["0x1", "0x2", "0x3", "0x4"])
        clock.advance(hours=6)
        sweep()
    assert keys(calls) == ["0x4", "0x1", "0x2", "0x3"]


def test_T40_an_invoice_and_an_address_with_the_same_number_do_not_wait_for_each_other(gateway, clock):
    invoice, payment = make_invoice(gateway)
    address = StaticAddress.objects.create(pk=invoice.pk, reference="R" * 26, state="open", gateway_id="9", version=0)
    paid = []

    def fail(sender, **kwargs):
        raise ValueError("no stock")

    def note(sender, *, event_id, **kwargs):
        paid.append(event_id)

    with (
        heard() as calls,
        connected(fail, "invoice_paid", "deposit_received", uid="tests.fail"),
        connected(note, "invoice_paid", uid="tests.note"),
    ):
        send(payment, "Paid", [tx("25")])
        tell_totals(address, USDT="5")
        assert (len(calls), len(paid)) == (1, 1)
        assert sorted(EventDelivery.objects.filter(receiver="tests.fail").values_list("event__kind", flat=True)) == [
            "deposit", "status",
        ]  # fmt: skip
        clock.advance(hours=6)
        assert sweep() == 2
    assert (len(calls), len(paid)) == (1, 1)


def test_T43_a_receiver_is_given_up_after_a_week(gateway, address, clock):
    with heard(fail=100):
        call_back(gateway, address, "Paid", [tx("5")])
        clock.advance(days=7, seconds=1)
        sweep()
        sweep()
    assert EventDelivery.objects.get().state == "given_up"
    [(kind, invoice, text)] = NOTICES
    assert (kind, invoice) == ("given_up", None)
    assert f"{address.uuid}.2" in text
    assert not InvoiceEvent.objects.filter(due_at__isnull=False).exists()


def test_a_deposit_is_sent_again_under_the_same_name(gateway, address):
    with heard() as calls:
        call_back(gateway, address, "Paid", [tx("5")])
        resend(InvoiceEvent.objects.get(kind="deposit"))
    assert len(calls) == 2
    assert calls[0] == calls[1]


def test_a_worker_delivers(gateway, address, settings):
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "DISPATCH": "worker"}
    with heard() as calls:
        call_back(gateway, address, "Paid", [tx("5"), tx("6", tx_hash="0xb")])
        assert calls == []
        sweep()
    assert keys(calls) == ["0xaaa1", "0xb"]


def test_a_receiver_outside_of_a_transaction(gateway, address):
    with heard(atomic=False) as calls:
        call_back(gateway, address, "Paid", [tx("5")])
    assert len(calls) == 1


def test_times_of_transfers_are_kept_in_utc(gateway, address):
    call_back(gateway, address, "Paid", [tx("5", date=1760000100)])
    assert Transfer.objects.get().paid_at == datetime(2025, 10, 9, 8, 55, tzinfo=UTC)
