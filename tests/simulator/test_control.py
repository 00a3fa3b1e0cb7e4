"""The control API, the pages, the settings and the registry."""

import pytest
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.urls import reverse

from crypto_invoices.simulator import callbacks, conf, registry
from crypto_invoices.simulator.models import Payment


def test_payments_are_listed(api, control):
    first, second = api.invoice(), api.invoice(order_id="B")
    listed = control.call("GET", "payments/").json()["payments"]
    assert [payment["id"] for payment in listed] == [second, first]
    assert (listed[0]["reference"], listed[0]["status"], listed[0]["amount"]) == ("B", "new", "10")
    assert control.client.get(control.base + "payments/?gateway=oxapay").json()["payments"] == listed
    assert control.client.get(control.base + "payments/?gateway=other").json()["payments"] == []


def test_one_payment_in_full(api, control, shop):
    track_id = api.invoice(callback_url=shop.url)
    control.act(track_id, "pay", currency="USDT", network="tron")
    control.deliver()
    state = control.call("GET", f"oxapay/{track_id}/").json()
    assert (
        state["txs"][0].items()
        >= {"amount": "10", "currency": "USDT", "network": "tron", "confirmed": True, "late": False}.items()
    )
    assert [set(row) >= {"status_word", "attempt", "http_status", "answer", "sent_at"} for row in state["callbacks"]] == [
        True,
        True,
    ]
    assert state["actions"] == ["refund"]


@pytest.mark.parametrize(
    ("action", "body", "field"),
    [
        ("dance", {}, "action"),
        ("pay", {"amount": "0"}, "amount"),
        ("pay", {"amount": "-1"}, "amount"),
        ("pay", {"amount": "x"}, "amount"),
        ("pay", {"amount": True}, "amount"),
        ("pay", {"currency": "XYZ"}, "currency"),
        ("pay", {"currency": 5}, "currency"),
        ("pay", {"currency": "BTC", "network": "tron"}, "network"),
        ("pay_part", {"amount": "10"}, "amount"),
        ("pay_more", {"amount": "10"}, "amount"),
        ("expire", {"amount": "1"}, "amount"),
        ("pay", {"colour": "red"}, "colour"),
    ],
)
def test_bad_input_is_400_and_changes_nothing(api, control, action, body, field):
    track_id = api.invoice()
    response = control.call("POST", f"oxapay/{track_id}/{action}/", body)
    assert (response.status_code, response.json()["field"]) == (400, field)
    assert api.status(track_id) == "new"


def test_unknown_things(api, control):
    for method, path in (("GET", "oxapay/1/"), ("POST", "oxapay/1/pay/"), ("GET", "mars/1/"), ("GET", "mars/misbehave/")):
        assert control.call(method, path).status_code == 404
    assert control.call("GET", "deliver/").status_code == 405
    response = control.client.post(control.base + "deliver/", "{", content_type="application/json")
    assert (response.status_code, response.json()["field"]) == (400, "body")


@pytest.mark.django_db(transaction=True)
def test_callbacks_are_never_delivered_inside_a_transaction(client, shop):
    from .conftest import Api, Control

    track_id = Api(client).invoice(callback_url=shop.url)
    Control(client).act(track_id, "pay")
    with transaction.atomic(), pytest.raises(RuntimeError):
        callbacks.deliver_due()
    assert shop.received == []
    assert callbacks.deliver_due() == 2


def test_the_payers_page(api, client):
    track_id = api.invoice(order_id="<b>1</b>", return_url="https://shop.example/thanks")
    url = reverse("simulator:pay", args=["oxapay", track_id])
    page = client.get(url).content.decode()
    assert "&lt;b&gt;1&lt;/b&gt;" in page and "USDT on Tron" in page and "Let the time run out" in page
    assert "shop.example/thanks" not in page
    assert client.post(url, {"action": "choose", "option": "XRP@ripple"}).status_code == 302
    page = client.get(url).content.decode()
    assert "Memo / tag" in page and "data:image/svg+xml" in page and "20 XRP" in page
    assert client.post(url, {"action": "pay_part", "amount": "5"}).status_code == 302
    refused = client.post(url, {"action": "refund"})
    assert (refused.status_code, b'role="alert"' in refused.content) == (409, True)
    assert client.post(url, {"action": "pay"}).status_code == 302
    page = client.get(url).content.decode()
    assert 'href="https://shop.example/thanks"' in page and "Start a refund" in page
    assert client.get(reverse("simulator:pay", args=["oxapay", "1"])).status_code == 404


def test_the_page_of_a_static_address(api, client):
    track_id = api.post("payment/static-address", {"network": "tron"}).json()["data"]["track_id"]
    url = reverse("simulator:pay", args=["oxapay", track_id])
    page = client.get(url).content.decode()
    assert "TRX on Tron" in page and "Bitcoin" not in page and "Still to pay" not in page
    assert client.post(url, {"action": "pay", "option": "TRX@tron", "amount": "3"}).status_code == 302
    assert "3 TRX" in client.get(url).content.decode()


def test_what_a_gateway_does_not_know_is_refused(api, control, monkeypatch):
    track_id = api.invoice()
    gateway = registry.find("oxapay")
    monkeypatch.setattr(gateway, "rules", {})
    response = control.call("POST", f"oxapay/{track_id}/refund/")
    assert (response.status_code, response.json()["error"]) == (409, "OxaPay cannot refund: the gateway has no such thing")


def test_a_return_url_is_linked_only_when_it_is_http(api, client, control):
    track_id = api.invoice(return_url="javascript:alert(1)")
    control.act(track_id, "pay")
    assert b"javascript:" not in client.get(reverse("simulator:pay", args=["oxapay", track_id])).content


def test_the_index_and_the_switches(api, client):
    track_id = api.invoice(order_id="A-77")
    page = client.get(reverse("simulator:index")).content.decode()
    assert track_id in page and "A-77" in page and "oxapay/" in page
    url = reverse("simulator:switches", args=["oxapay"])
    assert client.post(url, {"switch": "callback_reorder", "value": "2", "count": "4", "percent": "50"}).status_code == 302
    assert "4 more, 50 %" in client.get(url).content.decode()
    assert client.post(url, {"switch": "callback_reorder", "do": "off"}).status_code == 302
    assert "4 more" not in client.get(url).content.decode()
    assert client.post(url, {"switch": "api_status", "value": "1"}).status_code == 400
    assert client.post(url, {"switch": "api_html", "count": "x"}).status_code == 400
    assert client.get(reverse("simulator:switches", args=["mars"])).status_code == 404


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ([], "SIMULATOR must be a dict"),
        ({"SPEED": 1}, "unknown key 'SPEED'"),
        ({"TIME_SCALE": "fast"}, "TIME_SCALE must be a number"),
        ({"TIME_SCALE": -1}, "TIME_SCALE must be a number"),
        ({"ALLOW_ANY_CALLBACK": 1}, "ALLOW_ANY_CALLBACK must be True or False"),
        ({"OXAPAY": []}, 'SIMULATOR["OXAPAY"] must be a dict'),
        ({"OXAPAY": {"KEYS": []}}, "SIMULATOR[\"OXAPAY\"]: unknown key 'KEYS'"),
        ({"OXAPAY": {"MERCHANT_API_KEYS": "abc"}}, "MERCHANT_API_KEYS must be a list of texts"),
        ({"OXAPAY": {"MODULE_NAME": 1}}, "MODULE_NAME must be a text"),
        ({"OXAPAY": {"COMMISSION_PERCENT": True}}, "COMMISSION_PERCENT must be a number"),
    ],
)
@pytest.mark.django_db
def test_a_wrong_setting_is_named(settings, setting, text):
    settings.SIMULATOR = setting
    with pytest.raises(ImproperlyConfigured, match="SIMULATOR") as caught:
        conf.check()
    assert text in str(caught.value)
    errors = checks.run_checks()
    assert [text in error.msg for error in errors if error.id == "crypto_invoices_simulator.E001"] == [True]


def test_no_setting_is_needed(settings):
    del settings.SIMULATOR
    conf.check()


@pytest.mark.django_db
def test_deployment_is_refused():
    assert "crypto_invoices_simulator.E002" not in {error.id for error in checks.run_checks()}
    assert "crypto_invoices_simulator.E002" in {error.id for error in checks.run_checks(include_deployment_checks=True)}


def test_gateways_are_found_by_their_file():
    for gateway in registry.all_gateways():
        assert type(gateway).__module__ == f"crypto_invoices.simulator.{gateway.name}"
        assert registry.find(gateway.name) is gateway
    assert registry.find("oxapay").title == "OxaPay"
    assert registry.find("mars") is None


def test_amounts_keep_every_digit(db):
    payment = Payment(gateway="oxapay", gateway_id="1", account="k", kind="invoice", status="new", created_at="2026-01-01T00:00Z")
    payment.amount = conf.Decimal("12345678901234567890.123456789012345678")
    payment.save()
    assert str(Payment.objects.get().amount) == "12345678901234567890.123456789012345678"
