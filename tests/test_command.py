"""``manage.py crypto_invoices``: what its verbs print and do. Reconcile and deliver have tests of their own besides."""

import io
import json
import logging
import os
import signal

import pytest
from django.core.management import CommandError, call_command

from crypto_invoices import reconcile
from crypto_invoices.management.commands.crypto_invoices import Command
from crypto_invoices.models import CallbackReceipt, InvoiceEvent
from crypto_invoices.simulator import client
from crypto_invoices.simulator.management.commands import run_simulator
from tests.helpers import KEYS, body_of, facts, make, path_of, post, recorded, send, sign, stub_gateway, tx

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def gateway(settings):
    return stub_gateway(settings)


def run(*arguments):
    out = io.StringIO()
    call_command("crypto_invoices", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


@pytest.fixture
def broken(gateway, settings):
    """The gateway's two accounts and a third that cannot be built."""
    accounts = settings.CRYPTO_INVOICES["ACCOUNTS"] | {"broken": {"PROVIDER": "nowhere.At.All", "OPTIONS": {}}}
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "ACCOUNTS": accounts}
    return gateway


def test_accounts_tells_what_each_can_and_where_its_callbacks_arrive(broken, settings):
    *blocks, coins = run("accounts").split("\n\n")
    assert blocks[0].splitlines() == [
        "default: OxaPay, live",
        "  can: lookup by reference, own page, revoke static address, signed callbacks, static address",
        "  callbacks: arrive under https://shop.example/crypto-invoices/callbacks/default/",
    ]
    assert [block.split(":")[0] for block in blocks] == ["default", "second", "broken"]
    assert "nowhere" in blocks[2]
    for definition in settings.CRYPTO_INVOICES["ACCOUNTS"].values():
        assert definition["OPTIONS"].get("merchant_api_key", "?") not in "".join([*blocks, coins])
    title, head, *lines = coins.splitlines()
    assert title == "pay_currencies, and each gateway's words for them"
    assert head.split() == ["coin", "default", "second"]
    assert "USDT@tron  USDT TRON  USDT TRON" in lines
    assert lines[0].split() == ["BTC", "BTC", "BTC"]


def test_accounts_tells_what_is_typed_into_a_dashboard(settings):
    txn = {"PROVIDER": "crypto_invoices.providers.txn.Txn", "OPTIONS": {"api_key": "KEY-OF-THE-TEST", "sandbox": True}}
    settings.CRYPTO_INVOICES = {"BASE_URL": "https://shop.example", "ACCOUNTS": {"main": txn}}
    head, _, callbacks, *_ = run("accounts").splitlines()
    assert head == "main: txn.io, sandbox"
    assert callbacks.startswith("  callbacks: type into the dashboard: https://shop.example/crypto-invoices/callbacks/main/main.")


def test_accounts_without_a_base_url_says_so(settings):
    txn = {"PROVIDER": "crypto_invoices.providers.txn.Txn", "OPTIONS": {"api_key": "KEY-OF-THE-TEST", "sandbox": True}}
    settings.CRYPTO_INVOICES = {"ACCOUNTS": {"main": txn}}
    assert "  callbacks: CRYPTO_INVOICES['BASE_URL']: https is needed" in run("accounts")


@pytest.mark.parametrize("verb", ["accounts", "reconcile", "deliver"])
def test_a_wrong_account_stops_no_verb(broken, verb, capsys):
    Command().run_from_argv(["manage.py", "crypto_invoices", verb])  # as from a shell, with system checks if it has any
    assert capsys.readouterr().out


@pytest.mark.parametrize("verb", ["accounts", "doctor"])
def test_a_mistake_in_the_settings_is_told_in_one_line(settings, verb):
    settings.CRYPTO_INVOICES = {"BASEURL": "https://shop.example"}
    with pytest.raises(CommandError, match=r"'BASEURL'.*unknown key"):
        run(verb)


@pytest.mark.parametrize("number", ["0", "65", "-1", "four", "1.5", ""])
def test_concurrency_is_one_to_sixty_four(number):
    with pytest.raises(CommandError, match="argument --concurrency: 1 to 64"):
        run("reconcile", f"--concurrency={number}")


def test_reconcile_polls_and_says_what_came_of_it(gateway):
    invoice, payment = make(gateway)
    payment |= {"status": "paid", "txs": []}
    invoice.attempts.update(next_poll_at=invoice.created_at)
    assert run("reconcile") == "polled 1, changed 1, expired 0, failed 0, paused 0\n"
    assert facts(invoice)["status"] == "paid"
    assert run("reconcile", "--limit", "5") == "polled 0, changed 0, expired 0, failed 0, paused 0\n"


def test_deliver_calls_the_receivers_of_due_events(gateway, settings):
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "DISPATCH": "worker"}
    with recorded("invoice_paid") as calls:
        _, payment = make(gateway)
        send(payment, "Paid", [tx("25")])
        assert calls == []
        assert run("deliver") == "delivered events of 1 invoices\n"
    assert [name for name, *_ in calls] == ["invoice_paid"]
    assert not InvoiceEvent.objects.filter(due_at__isnull=False).exists()


def test_replay_processes_a_stored_callback_again(gateway):
    invoice, payment = make(gateway)
    attempt = invoice.attempts.get()
    reference = attempt.reference
    body = body_of(payment, "Paid", [tx("25")])
    type(attempt).objects.filter(pk=attempt.pk).update(reference="x" * 26)  # as in a database that lost the attempt
    assert post(path_of(payment), body, sign(body)).status_code == 404
    type(attempt).objects.filter(pk=attempt.pk).update(reference=reference)
    receipt = CallbackReceipt.objects.get()
    assert receipt.verdict == "unmatched"
    assert run("replay", str(receipt.pk)) == "answer 200, verdict applied\n"
    assert facts(invoice)["status"] == "paid"
    with pytest.raises(CommandError, match="no callback 999"):
        run("replay", "999")


def unmatched(gateway, account):
    """A callback of an attempt that is there again, as after a restored backup; the attempt's invoice and the receipt."""
    invoice, payment = make(gateway, account=account)
    body = body_of(payment, "Paid", [tx("25")])
    attempt = invoice.attempts.get()
    reference = attempt.reference
    type(attempt).objects.filter(pk=attempt.pk).update(reference="x" * 26)
    assert post(path_of(payment), body, sign(body, KEYS[account])).status_code == 404
    type(attempt).objects.filter(pk=attempt.pk).update(reference=reference, next_poll_at=None)
    return invoice, CallbackReceipt.objects.latest("pk")


def test_reconcile_takes_up_unmatched_callbacks_and_passes_over_a_wrong_account(gateway, settings, caplog):
    lost, receipt = unmatched(gateway, "second")
    found, _ = unmatched(gateway, "default")
    accounts = {"default": settings.CRYPTO_INVOICES["ACCOUNTS"]["default"]}
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "ACCOUNTS": accounts}
    assert run("reconcile") == "polled 0, changed 0, expired 0, failed 0, paused 0\n"
    assert (facts(found)["status"], facts(lost)["status"]) == ("paid", "pending")
    assert f"callback {receipt.pk} of account second cannot be processed again" in caplog.text
    with pytest.raises(CommandError, match="no account 'second'"):
        run("replay", str(receipt.pk))


@pytest.fixture
def signals_kept():
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_a_round_that_fails_ends_no_loop(monkeypatch, signals_kept, caplog):
    rounds = []

    def fail_then_stop(**arguments):
        rounds.append(arguments)
        if len(rounds) == 1:
            raise RuntimeError("the database is away")
        os.kill(os.getpid(), signal.SIGTERM)
        return reconcile.Report(polled=7)

    monkeypatch.setattr(reconcile, "reconcile", fail_then_stop)
    assert run("reconcile", "--loop", "--interval", "0") == "polled 7, changed 0, expired 0, failed 0, paused 0\n"
    assert len(rounds) == 2
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info and "the database is away" in caplog.text


def test_a_single_round_that_fails_says_so(monkeypatch):
    def fail(**arguments):
        raise RuntimeError("the database is away")

    monkeypatch.setattr(reconcile, "reconcile", fail)
    with pytest.raises(RuntimeError, match="the database is away"):
        run("reconcile")


def test_simulate_drives_the_simulator(monkeypatch):
    acted = []
    monkeypatch.setattr(client.SimulatorClient, "payments", lambda self, gateway=None: [{"id": "1", "gateway": gateway}])
    monkeypatch.setattr(
        client.SimulatorClient, "act", lambda self, *args, **fields: acted.append((args, fields)) or {"status": "paid"}
    )
    assert json.loads(run("simulate", "list")) == [{"id": "1", "gateway": None}]
    assert json.loads(run("simulate", "list", "--gateway", "txn")) == [{"id": "1", "gateway": "txn"}]
    assert json.loads(run("simulate", "pay", "1", "--amount", "2.5", "--currency", "USDT")) == {"status": "paid"}
    run("simulate", "expire", "2", "--gateway", "txn")
    assert acted == [
        (("oxapay", "1", "pay"), {"amount": "2.5", "currency": "USDT", "network": None}),
        (("txn", "2", "expire"), {"amount": None, "currency": None, "network": None}),
    ]
    with pytest.raises(CommandError, match="Which payment"):
        run("simulate", "pay")


def test_simulate_says_that_nobody_is_there():
    with pytest.raises(CommandError, match=r"no usable answer from .*: ConnectionError"):
        run("simulate", "list", "--url", "http://127.0.0.1:9/simulator/")


def test_the_simulator_listens_where_its_client_looks():
    address = run_simulator.Command().create_parser("manage.py", "run_simulator").get_default("addrport")
    assert client.SimulatorClient().base_url == f"http://{address}/simulator/"
