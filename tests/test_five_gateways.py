"""Every gateway from the shop's call to the last word, against its simulator in a process of its own, over real HTTP.

Each history is played twice: with every callback delivered, and with every callback dropped and everything polled (case
T46). The two must end in the same facts.
"""

import os
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from django.utils import timezone

from crypto_invoices import conf, doctor
from crypto_invoices.exceptions import NotSupported
from crypto_invoices.models import PaymentAttempt, StaticAddress
from crypto_invoices.orders import callback_url
from crypto_invoices.reconcile import reconcile
from crypto_invoices.services import create_invoice, create_static_address
from crypto_invoices.simulator.client import SimulatorClient
from crypto_invoices.simulator.onchainpay import OnchainPay
from tests.helpers import connected, facts, recorded

pytestmark = pytest.mark.django_db(transaction=True)

PUBLIC_KEY, SECRET_KEY = next(iter(OnchainPay.settings["KEY_PAIRS"].items()))
ROOT = Path(__file__).resolve().parents[1]
ACCOUNTS = {  # alias: (provider, path at the simulator, options, what its invoices need)
    "oxapay": ("oxapay.OxaPay", "oxapay/v1", {"merchant_api_key": "SIMUL8-SIMUL8-SIMUL8-SIMUL8"}, {"currency": "USDT"}),
    "goodpayments": (
        "goodpayments.GoodPayments", "goodpayments/v1/api", {"api_key": "5" * 64},
        {"currency": "USD", "pay_currencies": ["USDT@tron"]},
    ),
    "txcash": (
        "txcash.TxCash", "txcash/invoice/v1/testnet", {"api_key": "simulated-tx-cash-key", "sandbox": True},
        {"currency": "USD"},
    ),
    "txn": (
        "txn.Txn", "txn/api/public/v1", {"api_key": "txn_cmp_simulator", "sandbox": True},
        {"currency": "USD", "pay_currencies": ["USDT@tron"]},
    ),
    "onchainpay": (
        "onchainpay.OnchainPay", "onchainpay/api-gateway", {"public_key": PUBLIC_KEY, "secret_key": SECRET_KEY},
        {"currency": "USD", "pay_currencies": ["USDT@tron", "ETH@ethereum"]},
    ),
}  # fmt: skip

# gateway: history: (buttons, status, whether it was shipped). What a vendor cannot do has no history.
PAID = (["pay", "confirm"], "paid", True)
TOPPED_UP = (["pay_part", "confirm", "pay", "confirm"], "paid", True)
SHORT = (["pay_part", "confirm"], "underpaid", False)
TOO_MUCH = (["pay_more", "confirm"], "overpaid", True)
HISTORIES = {
    "oxapay": {
        "paid": PAID,
        "topped up": TOPPED_UP,
        "short": (["pay_part", "confirm", "expire"], "underpaid", False),
        "too much": TOO_MUCH,
        "expired": (["expire"], "expired", False),
        "accepted at the gateway": (["pay_part", "confirm", "expire", "accept"], "paid", True),
        "refunded": (["pay", "confirm", "refund", "finish_refund"], "refunded", True),
    },
    "goodpayments": {
        "paid": PAID,
        "short": SHORT,
        "too much": TOO_MUCH,
        "expired": (["expire"], "expired", False),
        "cancelled": (["cancel"], "cancelled", False),
        "money laundering": (["pay", "aml"], "failed", False),
        "another coin": (["pay_other", "confirm"], "failed", False),
    },
    "txcash": {
        "paid": PAID,
        "topped up": TOPPED_UP,
        "short": SHORT,
        "too much": TOO_MUCH,
        "expired": (["expire"], "expired", False),
        "cancelled": (["cancel"], "cancelled", False),
    },
    "txn": {
        "paid": PAID,
        "short": SHORT,
        "too much": TOO_MUCH,
        "expired": (["expire"], "expired", False),
        "late": (["expire", "pay", "confirm"], "paid", False),  # waits for a person
        "cancelled after it expired": (["expire", "cancel"], "expired", False),
        "released": (["pay", "hold", "release", "confirm"], "paid", True),
        "rejected": (["pay", "hold", "reject"], "failed", False),
    },
    "onchainpay": {
        "paid": PAID,
        "topped up": TOPPED_UP,
        "short": (["pay_part", "confirm", "expire"], "underpaid", False),
        "short, and the rest after the end": (["pay_part", "confirm", "expire", "pay", "confirm"], "paid", True),
        "too much": TOO_MUCH,
        "nothing chosen": (["expire"], "expired", False),
        "rejected": (["pay", "reject"], "failed", False),
        "a technical failure": (["choose", "fail"], "failed", False),
    },
}


@pytest.fixture(scope="module")
def site(live_server, tmp_path_factory):
    """``(simulator, settings)``: the running simulator, and the shop's settings with an account at each gateway."""
    from django.test import override_settings

    directory = tmp_path_factory.mktemp("simulator")
    names = {"BASE_URL": live_server.url, "ALLOW_SANDBOX": True, "NOTIFY": "tests.helpers.no_notice"}
    with override_settings(CRYPTO_INVOICES={**names, "ACCOUNTS": {"txn": account("txn", "http://127.0.0.1:9/")}}):
        webhook = callback_url(conf.provider_for("txn"))
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.simulator.five_settings",
        "SIMULATOR_DATABASE": str(directory / "simulator.sqlite3"),
        "TXN_WEBHOOK_URL": webhook,
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "django", "run_simulator", "127.0.0.1:0", "--migrate"]
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        url = process.stdout.readline().split()[-1]
        with override_settings(
            CRYPTO_INVOICES={**names, "ACCOUNTS": {alias: account(alias, url) for alias in ACCOUNTS}},
        ):
            yield SimulatorClient(url)
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()


def account(alias, url):
    provider, path, options, _ = ACCOUNTS[alias]
    return {"PROVIDER": f"crypto_invoices.providers.{provider}", "OPTIONS": {**options, "base_url": f"{url}{path}"}}


def play(simulator, gateway, buttons, *, with_callbacks):
    """What is known of an invoice after these buttons were pressed at its gateway."""
    if not with_callbacks:
        simulator.misbehave(gateway, "callback_drop")
    with recorded("invoice_paid") as shipped:
        invoice = create_invoice(amount="50", account=gateway, **ACCOUNTS[gateway][3])
        payment = invoice.attempts.get().gateway_id
        try:
            for button in buttons:
                PaymentAttempt.objects.update(hinted_at=None)  # as if ten seconds had passed
                coin = {"currency": "USDT"} if button in ("choose", "pay", "pay_part", "pay_more") and gateway != "txn" else {}
                simulator.act(gateway, payment, button, **coin)
                delivered = [sent for sent in simulator.deliver() if sent["id"] == payment]
                assert all(sent["accepted"] for sent in delivered)
                assert with_callbacks or not delivered
                if not with_callbacks:
                    poll_now()
        finally:
            simulator.reset(gateway)
        poll_now()
    attempt = invoice.attempts.get()
    attempt_facts = (attempt.status, attempt.state, attempt.gateway_status, attempt.late, attempt.on_hold)
    transfers = sorted(attempt.transfers.values_list("amount", "currency", "confirmed"))
    return facts(invoice) | {"attempt": attempt_facts, "transfers": transfers, "shipped": len(shipped)}


def poll_now():
    for model in (PaymentAttempt, StaticAddress):
        model.objects.update(next_poll_at=timezone.now() - timedelta(seconds=1))
    assert reconcile().failed == 0


@pytest.mark.parametrize("gateway,history", [(gateway, history) for gateway in HISTORIES for history in HISTORIES[gateway]])
def test_T46_all_callbacks_dropped_end_as_all_delivered(site, gateway, history):
    buttons, status, is_shipped = HISTORIES[gateway][history]
    delivered = play(site, gateway, buttons, with_callbacks=True)
    assert (delivered["status"], delivered["shipped"]) == (status, int(is_shipped))
    assert play(site, gateway, buttons, with_callbacks=False) == delivered


# The shop's own page

OWN_PAGES = {
    "oxapay": ({"currency": "XRP", "pay_currencies": ["XRP"]}, True),
    "goodpayments": ({"currency": "USD", "pay_currencies": ["USDT@tron"]}, False),
    "txcash": ({"currency": "USD", "pay_currencies": ["USDT@polygon"]}, False),
    "txn": ({"currency": "USD", "pay_currencies": ["XRP"]}, True),
    "onchainpay": ({"currency": "XRP", "pay_currencies": ["XRP"]}, True),
}


@pytest.mark.parametrize("gateway", OWN_PAGES)
def test_an_invoice_on_the_shops_own_page_is_paid_to_its_address(site, client, gateway):
    order, has_tag = OWN_PAGES[gateway]
    invoice = create_invoice(amount="50", account=gateway, page="own", **order)
    attempt = invoice.attempts.get()
    there = site.payment(gateway, attempt.gateway_id)
    assert (attempt.kind, attempt.address, attempt.address_tag) == ("address", there["address"], there["memo"])
    assert (attempt.address != "", attempt.address_tag != "") == (True, has_tag)
    assert str(attempt.pay_amount.normalize()) == str(Decimal(there["pay_amount"]).normalize())
    assert client.get(invoice.get_absolute_url()).status_code == 200  # it stays with us
    for button in ("pay", "confirm"):
        site.act(gateway, attempt.gateway_id, button)
        site.deliver()
        poll_now()
    assert facts(invoice)["status"] == "paid"
    assert invoice.attempts.get().address_tag == attempt.address_tag


# Static addresses

STATIC = {"oxapay": "USDT@tron", "goodpayments": "USDT@tron", "onchainpay": "XRP"}


@pytest.mark.parametrize("gateway", ["oxapay", "goodpayments", "onchainpay", "txcash", "txn"])
@pytest.mark.parametrize("with_callbacks", [True, False])
def test_every_deposit_on_a_static_address_is_told_once(site, gateway, with_callbacks):
    if gateway not in STATIC:
        with pytest.raises(NotSupported):
            create_static_address(account=gateway, pay_currency="XRP")
        return
    address = create_static_address(account=gateway, pay_currency=STATIC[gateway], customer="7")
    there = next(found for found in site.payments(gateway) if found["reference"] == address.reference)
    told = []

    def receive(sender, *, static_address, transfer, event_id, **kwargs):
        told.append((static_address.pk, transfer.amount, transfer.currency))

    if not with_callbacks:
        site.misbehave(gateway, "callback_drop")
    try:
        with connected(receive, "deposit_received", uid="tests.deposits"):
            for amount in ("10.5", "2", "10.5"):
                coin, _, network = STATIC[gateway].partition("@")
                site.act(gateway, there["id"], "pay", amount=amount, currency=coin, network=network)
                StaticAddress.objects.update(hinted_at=None)
                site.deliver()
                site.act(gateway, there["id"], "confirm")
                StaticAddress.objects.update(hinted_at=None)
                site.deliver()
                poll_now()
    finally:
        site.reset(gateway)
    coin = STATIC[gateway].partition("@")[0]
    assert told == [(address.pk, Decimal(amount), coin) for amount in ("10.5", "2", "10.5")]
    seen = site.payment(gateway, there["id"])
    assert (address.address, address.address_tag) == (seen["address"], seen["memo"])
    assert (address.address_tag != "") is (coin == "XRP")


# Whether the accounts are in order


@pytest.mark.parametrize("gateway", ACCOUNTS)
def test_the_doctor_finds_nothing(site, gateway):
    finding = doctor.examine(gateway)
    assert (finding.credentials, finding.callbacks, finding.healthy) == ("accepted", "reached", True)


@pytest.mark.parametrize("gateway", ACCOUNTS)
def test_the_doctor_finds_a_wrong_key(site, settings, gateway):
    definition = settings.CRYPTO_INVOICES["ACCOUNTS"][gateway]
    keys = {name: "a-key-that-nobody-knows-0" for name in definition["OPTIONS"] if name.endswith("key")}
    wrong = {**definition, "OPTIONS": {**definition["OPTIONS"], **keys}}
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "ACCOUNTS": {gateway: wrong}}
    finding = doctor.examine(gateway)
    assert (finding.callbacks, finding.healthy) == ("reached", False)
    assert finding.credentials not in ("", "accepted")
