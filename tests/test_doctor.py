"""``manage.py crypto_invoices doctor``: credentials, clock and the way back for callbacks, of every account."""

import io
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from django.core.management import CommandError, call_command

from crypto_invoices import doctor
from tests.helpers import stub_gateway
from tests.providers import Stub

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop():
    """Stands where BASE_URL points."""
    stub = Stub()
    yield stub
    stub.close()


@pytest.fixture
def gateway(settings, shop):
    return stub_gateway(settings, BASE_URL=shop.url)


WANTS_POST = (405, b"method not allowed", {"Allow": "POST"})


def run():
    out = io.StringIO()
    try:
        call_command("crypto_invoices", "doctor", stdout=out)
    except CommandError as error:
        return out.getvalue(), str(error)
    return out.getvalue(), None


def test_all_is_well(gateway, shop):
    shop.script = [WANTS_POST, WANTS_POST]
    table, complaint = run()
    assert complaint is None
    head, *lines = table.splitlines()
    assert head.split() == ["account", "gateway", "credentials", "clock", "callbacks"]
    assert [line.split() for line in lines] == [
        ["default", "OxaPay", "accepted", "not", "told", "reached"],
        ["second", "OxaPay", "accepted", "not", "told", "reached"],
    ]
    assert [(seen.method, seen.path.split("/")[1:4]) for seen in shop.seen] == [
        ("GET", ["crypto-invoices", "callbacks", "default"]),
        ("GET", ["crypto-invoices", "callbacks", "second"]),
    ]
    assert {method for method, *_ in gateway.requests} == {"GET"}


def test_a_wrong_key_is_told_and_not_shown(gateway, shop, settings):
    shop.script = [WANTS_POST, WANTS_POST]
    wrong = gateway.account("second", merchant_api_key="WRONG1-WRONG2-WRONG3-WRONG4")
    accounts = {**settings.CRYPTO_INVOICES["ACCOUNTS"], "second": wrong}
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "ACCOUNTS": accounts}
    table, complaint = run()
    assert complaint == "Not in order: second"
    (line,) = (line for line in table.splitlines() if line.startswith("second"))
    assert "invalid merchant api key [HTTP 401" in line and "WRONG" not in table
    assert (line.count("second"), line.count("OxaPay")) == (1, 1)


@pytest.mark.parametrize(
    "answer,text",
    [((404, b""), "HTTP 404"), ((200, b"<html>"), "HTTP 200"), ((301, b"", {"Location": "/x"}), "HTTP 301"),
     ((405, b"", {"Allow": "GET"}), "HTTP 405"), (lambda handler: None, "not reached")],
    ids=["unknown", "page", "redirect", "another view", "cut"],
)  # fmt: skip
def test_a_callback_url_that_somebody_else_answers(gateway, shop, answer, text):
    shop.script = [answer, answer]
    table, complaint = run()
    assert complaint == "Not in order: default, second"
    assert text in table


def test_an_account_that_cannot_be_built_does_not_stop_the_others(gateway, shop, settings):
    shop.script = [WANTS_POST, WANTS_POST]
    accounts = {"broken": {"PROVIDER": "nowhere.At.All"}, **settings.CRYPTO_INVOICES["ACCOUNTS"]}
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "ACCOUNTS": accounts}
    table, complaint = run()
    assert complaint == "Not in order: broken"
    assert len(table.splitlines()) == 4


@pytest.mark.parametrize("offset,healthy", [(0, True), (59, True), (-59, True), (63, False), (-63, False)])
def test_T68_the_gateways_clock_is_compared(gateway, shop, monkeypatch, offset, healthy):
    shop.script = [WANTS_POST]
    now = datetime(2026, 5, 1, 12, 0, 0, 500000, UTC)
    monkeypatch.setattr(doctor.timezone, "now", lambda: now)
    told = now.replace(microsecond=0) + timedelta(seconds=offset)
    monkeypatch.setattr("crypto_invoices.providers.oxapay.OxaPay.probe", lambda self: told)
    finding = doctor.examine("default")
    seconds = float(finding.clock.removesuffix(" s"))
    assert finding.healthy is healthy
    assert abs(seconds - offset) <= 1


def test_T68_the_clock_comes_from_the_header(settings, shop):
    gateway = Stub()
    try:
        stub_gateway(settings, BASE_URL=shop.url, ACCOUNTS={
            "default": {
                "PROVIDER": "crypto_invoices.providers.oxapay.OxaPay",
                "OPTIONS": {"merchant_api_key": "MKEY01-MKEY02-MKEY03-MKEY04", "base_url": gateway.url},
            }
        })  # fmt: skip
        late = datetime.now(UTC) - timedelta(hours=1)
        body = {"data": {"list": []}, "message": "", "error": {}, "status": 200, "version": "1.0.0"}
        gateway.script = [lambda handler: answer(handler, body, format_datetime(late, usegmt=True))]
        shop.script = [WANTS_POST]
        finding = doctor.examine("default")
        assert (finding.credentials, finding.healthy) == ("accepted", False)
        assert -3602 <= float(finding.clock.removesuffix(" s")) <= -3590
    finally:
        gateway.close()


def answer(handler, body, date):
    content = json.dumps(body).encode()
    handler.send_response_only(200)
    handler.send_header("Date", date)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)
