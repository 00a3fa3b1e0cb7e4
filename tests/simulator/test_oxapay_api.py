"""OxaPay's endpoints: shapes, validation, filters."""

import time
from decimal import Decimal

import pytest
import simplejson

from crypto_invoices.simulator.models import Payment

from .conftest import KEY, OTHER_KEY


def exact(response):
    return simplejson.loads(response.content, use_decimal=True)


def test_create_answers_the_documented_envelope(api):
    before = int(time.time())
    response = api.post("payment/invoice", {"amount": 25, "currency": "EUR", "order_id": "A-1"})
    body = response.json()
    data = body.pop("data")
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    assert body == {"message": "Operation completed successfully!", "error": {}, "status": 200, "version": "1.0.0"}
    assert set(data) == {"track_id", "payment_url", "expired_at", "date"}
    assert isinstance(data["track_id"], str) and data["track_id"].isdigit()
    assert data["payment_url"].startswith("http://testserver/") and data["payment_url"].endswith(
        f"/oxapay/pay/{data['track_id']}/"
    )
    assert before <= data["date"] <= time.time()
    assert data["expired_at"] == data["date"] + 3600


def test_information_has_the_documented_fields(api):
    given = {
        "amount": "12.345678901234567890"[:15],
        "currency": "usdt",
        "lifetime": 15,
        "fee_paid_by_payer": 1,
        "under_paid_coverage": 2.5,
        "to_currency": "USDT",
        "auto_withdrawal": 0,
        "mixed_payment": "1",
        "callback_url": "https://shop.example/callback",
        "return_url": "https://shop.example/",
        "email": "p@shop.example",
        "order_id": "Ä/1",
        "thanks_message": "Thanks",
        "description": "Tea",
        "sandbox": False,
        "life_time": "unknown names are ignored",
    }
    track_id = api.invoice(**given)
    data = exact(api.get(f"payment/{track_id}"))["data"]
    date = data.pop("date")
    assert data == {
        "track_id": track_id,
        "type": "invoice",
        "amount": Decimal("12.345678901234"),
        "currency": "USDT",
        "status": "new",
        "mixed_payment": True,
        "fee_paid_by_payer": 1,
        "under_paid_coverage": Decimal("2.5"),
        "lifetime": 15,
        "callback_url": "https://shop.example/callback",
        "return_url": "https://shop.example/",
        "email": "p@shop.example",
        "order_id": "Ä/1",
        "description": "Tea",
        "thanks_message": "Thanks",
        "expired_at": date + 900,
        "txs": [],
    }


def test_merchant_settings_fill_what_is_not_said(api, settings):
    settings.SIMULATOR["OXAPAY"] |= {"FEE_PAID_BY_PAYER": 1, "UNDER_PAID_COVERAGE": "7.5", "MIXED_PAYMENT": False}
    data = api.information(api.invoice())
    assert (data["fee_paid_by_payer"], data["under_paid_coverage"], data["mixed_payment"]) == (1, 7.5, False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", 0),
        ("amount", -1),
        ("amount", "ten"),
        ("amount", True),
        ("amount", None),
        ("currency", "XYZ"),
        ("currency", 1),
        ("lifetime", 14),
        ("lifetime", 2881),
        ("lifetime", "60"),
        ("lifetime", 60.5),
        ("lifetime", True),
        ("fee_paid_by_payer", 2),
        ("fee_paid_by_payer", -1),
        ("under_paid_coverage", 61),
        ("under_paid_coverage", "x"),
        ("to_currency", "BTC"),
        ("auto_withdrawal", "yes"),
        ("mixed_payment", 2),
        ("callback_url", 5),
        ("return_url", []),
        ("email", {}),
        ("order_id", 17),
        ("thanks_message", 1),
        ("description", None),
        ("sandbox", "maybe"),
    ],
)
def test_a_bad_parameter_is_named(api, field, value):
    response = api.post("payment/invoice", {"amount": 10, field: value})
    body = response.json()
    assert (response.status_code, body["status"], body["data"], body["version"]) == (400, 400, {}, "1.0.0")
    assert body["error"]["key"] == field
    assert set(body["error"]) == {"type", "key", "message"} and all(isinstance(text, str) for text in body["error"].values())
    assert not Payment.objects.exists()


@pytest.mark.parametrize(
    ("body", "key", "content_type"),
    [
        ("{}", "amount", "application/json"),
        ("{", "body", "application/json"),
        ("[]", "body", "application/json"),
        ('{"amount": 10}', "Content-Type", "text/plain"),
    ],
)
def test_a_body_that_is_no_request(api, body, key, content_type):
    response = api.post("payment/invoice", body, content_type=content_type)
    assert response.status_code == 400
    assert response.json()["error"]["key"] == key


@pytest.mark.parametrize("lifetime", [15, 2880])
def test_lifetime_limits_are_included(api, lifetime):
    assert api.information(api.invoice(lifetime=lifetime))["lifetime"] == lifetime


@pytest.mark.parametrize("key", ["", "WRONG0-WRONG0-WRONG0-WRONG0"])
@pytest.mark.parametrize("path", ["payment/1", "payment", "payment/static-address", "payment/accepted-currencies"])
def test_an_unknown_key_is_401(api, key, path):
    response = api.get(path, key=key)
    assert (response.status_code, response.json()["status"]) == (401, 401)
    assert response.json()["error"]["key"] == "invalid_merchant_api_key"


def test_a_payment_belongs_to_its_merchant(api):
    track_id = api.invoice()
    assert api.get(f"payment/{track_id}", key=OTHER_KEY).status_code == 404
    assert api.get("payment", key=OTHER_KEY).json()["data"]["list"] == []
    assert api.get("payment/123").json()["error"]["key"] == "track_id"


def test_unknown_endpoints_and_methods_are_404_envelopes(api):
    for response in (api.get("payment/invoice"), api.get("nothing"), api.post("payment/cancel", {})):
        assert (response.status_code, response.json()["status"]) == (404, 404)


def history(api, **query):
    return [payment["order_id"] for payment in api.get("payment", query).json()["data"]["list"]]


def test_history_filters_sorts_and_pages(api, control):
    first = api.invoice(order_id="a", amount=5, currency="EUR")
    api.invoice(order_id="b", amount=7)
    white = api.post("payment/white-label", {"amount": 9, "pay_currency": "TRX", "order_id": "c"}).json()["data"]
    control.act(first, "pay", currency="USDT", network="tron")
    assert history(api) == ["c", "b", "a"]
    assert history(api, sort_type="asc") == ["a", "b", "c"]
    assert history(api, sort_by="amount", sort_type="asc") == ["a", "b", "c"]
    assert history(api, sort_by="pay_date")[0] == "a"
    assert history(api, type="white_label") == ["c"]
    assert history(api, status="Paid") == ["a"]
    assert history(api, track_id=first) == ["a"]
    assert history(api, currency="EUR") == ["a"]
    assert history(api, pay_currency="TRX") == ["c"]
    assert history(api, network="Tron Network") == ["c", "a"]
    assert history(api, network="nowhere") == []
    assert history(api, address=white["address"]) == ["c"]
    assert history(api, from_amount=6, to_amount=8) == ["b"]
    assert history(api, from_date=int(time.time()) + 60) == []
    assert history(api, to_date=int(time.time()) - 60) == []
    page = api.get("payment/", {"size": 2, "page": 2}).json()["data"]
    assert [payment["order_id"] for payment in page["list"]] == ["a"]
    assert page["meta"] == {"page": 2, "last_page": 2, "total": 3}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("track_id", "abc"),
        ("size", "201"),
        ("size", "0"),
        ("page", "0"),
        ("sort_by", "x"),
        ("type", "payout"),
        ("from_amount", "x"),
        ("to_date", "9" * 18),
    ],
)
def test_history_refuses_bad_filters(api, field, value):
    response = api.get("payment", {field: value})
    assert (response.status_code, response.json()["error"]["key"]) == (400, field)


def test_white_label(api):
    body = {
        "amount": "50",
        "pay_currency": "xrp",
        "under_paid_coverage": 1,
        "fee_paid_by_payer": 1,
        "order_id": "w",
        "email": "e",
    }
    data = exact(api.post("payment/white-label", body))["data"]
    assert set(data) == set(
        "track_id amount currency pay_amount pay_currency network address memo callback_url description email fee_paid_by_payer "
        "lifetime order_id under_paid_coverage rate qr_code expired_at date".split()
    )
    assert (data["pay_amount"], data["rate"], data["pay_currency"]) == (Decimal("101"), Decimal("0.5"), "XRP")  # 1 % commission
    assert (data["network"], data["amount"], data["currency"]) == ("Ripple Network", 50, "USD")
    assert data["memo"].isdigit() and data["address"].startswith("r")
    assert data["qr_code"].startswith("data:image/png;base64,")
    assert api.status(data["track_id"]) == "waiting"
    usdt = api.post("payment/white-label", {"amount": 1, "pay_currency": "USDT", "network": "BEP20"}).json()["data"]
    assert (usdt["network"], usdt["memo"]) == ("Binance Smart Chain Network", "")


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({"amount": 1}, "pay_currency"),
        ({"pay_currency": "BTC"}, "amount"),
        ({"amount": 1, "pay_currency": "EUR"}, "pay_currency"),
        ({"amount": 1, "pay_currency": "BTC", "network": "tron"}, "network"),
    ],
)
def test_white_label_refuses(api, body, key):
    response = api.post("payment/white-label", body)
    assert (response.status_code, response.json()["error"]["key"]) == (400, key)


def test_static_addresses(api, control):
    given = {"network": "Tron Network", "order_id": "customer-1", "email": "e@shop.example", "auto_withdrawal": 1}
    data = api.post("payment/static-address", given).json()["data"]
    assert set(data) == {"track_id", "network", "address", "memo", "qr_code", "date"}
    api.post("payment/static-address", {"network": "BTC"})

    def listed(**query):
        return [item["order_id"] for item in api.get("payment/static-address", query).json()["data"]["list"]]

    assert listed() == ["", "customer-1"]
    assert listed(network="tron") == listed(currency="TRX") == listed(address=data["address"]) == ["customer-1"]
    assert listed(order_id="customer-1") == listed(email="e@shop.example") == listed(track_id=data["track_id"]) == ["customer-1"]
    assert listed(have_tx="1") == []
    control.act(data["track_id"], "pay", amount="3", currency="TRX")
    assert listed(have_tx="true") == ["customer-1"]
    assert listed(have_tx="false") == [""]
    assert api.information(data["track_id"])["txs"][0]["amount"] == 3
    assert api.post("payment/static-address/revoke", {"address": data["address"], "network": "tron"}).json()["data"] == {}
    assert listed() == [""]
    assert api.post("payment/static-address/revoke", {"address": data["address"]}).status_code == 404
    assert api.post("payment/static-address", {"network": "mars"}).json()["error"]["key"] == "network"
    assert api.post("payment/static-address", {}).json()["error"]["key"] == "network"


def test_common_endpoints_need_no_key(api):
    def data(path):
        return exact(api.get(f"common/{path}", key=""))["data"]

    usdt = data("currencies")["USDT"]
    assert (usdt["symbol"], usdt["name"], usdt["status"]) == ("USDT", "Tether", True)
    assert set(usdt["networks"]["Tron"]) == set(
        "network name keys required_confirmations withdraw_fee withdraw_min deposit_min static_fixed_fee".split()
    )
    assert "Tron Network" in data("networks")["list"]
    assert data("fiats")["EUR"] == {"price": Decimal("1.1"), "display_precision": 2}
    assert data("prices")["POL"] == Decimal("0.36839")
    assert data("monitor") == {"status": True}
    assert "BTC" in api.get("payment/accepted-currencies", key=KEY).json()["data"]["list"]
