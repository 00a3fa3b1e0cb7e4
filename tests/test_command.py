"""``manage.py crypto_invoices``: what its verbs print and do. Reconcile and deliver have tests of their own besides."""

import io
import json

import pytest
from django.core.management import CommandError, call_command

from crypto_invoices.models import CallbackReceipt, InvoiceEvent
from crypto_invoices.simulator import client
from tests.helpers import body_of, facts, make, path_of, post, recorded, send, sign, stub_gateway, tx

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def gateway(settings):
    return stub_gateway(settings)


def run(*arguments):
    out = io.StringIO()
    call_command("crypto_invoices", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def test_accounts_is_a_table_of_what_each_can_and_where_its_callbacks_arrive(gateway, settings):
    accounts = settings.CRYPTO_INVOICES["ACCOUNTS"]
    broken = {"PROVIDER": "nowhere.At.All", "OPTIONS": {}}
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "ACCOUNTS": {**accounts, "broken": broken}}
    table, coins = run("accounts").split("\n\n")
    head, *lines = table.splitlines()
    assert head.split() == ["account", "gateway", "sandbox", "can", "callbacks", "arrive", "at"]
    assert [line.split()[0] for line in lines] == ["default", "second", "broken"]
    assert lines[0].split()[1:3] == ["OxaPay", "no"]
    assert lines[0].endswith("https://shop.example/crypto-invoices/callbacks/default/")
    assert "nowhere" in lines[2]
    for definition in accounts.values():
        assert definition["OPTIONS"]["merchant_api_key"] not in table + coins
    title, head, *lines = coins.splitlines()
    assert title == "pay_currencies, and each gateway's words for them"
    assert head.split() == ["coin", "default", "second"]
    assert "USDT@tron  USDT TRON  USDT TRON" in lines
    assert lines[0].split() == ["BTC", "BTC", "BTC"]


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


def test_simulate_drives_the_simulator(monkeypatch):
    acted = []
    monkeypatch.setattr(client.SimulatorClient, "payments", lambda self, gateway=None: [{"id": "1", "gateway": gateway}])
    monkeypatch.setattr(
        client.SimulatorClient, "act", lambda self, *args, **fields: acted.append((args, fields)) or {"status": "paid"}
    )
    assert json.loads(run("simulate", "list")) == [{"id": "1", "gateway": "oxapay"}]
    assert json.loads(run("simulate", "pay", "1", "--amount", "2.5", "--currency", "USDT")) == {"status": "paid"}
    assert acted == [(("oxapay", "1", "pay"), {"amount": "2.5", "currency": "USDT"})]
    with pytest.raises(CommandError, match="Which payment"):
        run("simulate", "pay")
