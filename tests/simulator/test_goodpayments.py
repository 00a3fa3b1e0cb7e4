"""goodPayments: its endpoints, what happens to its invoices, and what is told to the shop."""

from datetime import datetime, timedelta

import pytest
import requests
import simplejson
from django.urls import reverse
from django.utils import timezone

from crypto_invoices.simulator import actions, callbacks
from crypto_invoices.simulator.models import Payment

from .conftest import Control

KEY = "9" * 64
OTHER_KEY = "8" * 64


class Api:
    """The merchant API through Django's test client."""

    def __init__(self, client):
        self.client = client
        self.base = reverse("simulator:index") + "goodpayments/v1/api/"

    def call(self, method, path, body="", key=KEY, **extra):
        data = body if isinstance(body, str) else simplejson.dumps(body)
        headers = {"Authorization": key} if key is not None else {}
        extra = {"content_type": "application/json", **extra}
        return self.client.generic(method, self.base + path, data, headers=headers, **extra)

    def create(self, **fields):
        given = {"type": "SINGLE", "amount": 10, "currencies": ["TRX", "USDT"], "client_comission": False, **fields}
        return self.call("POST", "payment/create", {name: value for name, value in given.items() if value is not ...})

    def invoice(self, **fields):
        response = self.create(**fields)
        assert response.status_code == 200, response.content
        return exact(response)

    def get(self, id):
        return exact(self.call("GET", f"payment/get/{id}"))


def exact(response):
    return simplejson.loads(response.content, use_decimal=True)


@pytest.fixture(autouse=True)
def merchant(simulator_settings):
    simulator_settings["GOODPAYMENTS"] = {"API_KEYS": [KEY, OTHER_KEY], "TARGET_WALLET": "TWallet", "CONTACT": "@username"}
    return simulator_settings["GOODPAYMENTS"]


@pytest.fixture
def api(client, db):
    return Api(client)


@pytest.fixture
def control(client, db):
    return Control(client, "goodpayments")


# --- The API ---
def test_create_answers_the_invoice_itself_as_in_the_documentations_example(api):
    request = {"type": "SINGLE", "amount": 10, "currencies": ["TRX", "USDT"], "expiry_minutes": 30}
    response = api.call("POST", "payment/create", request)
    invoice = exact(response)
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")
    names = (
        "id status type paymentURL amount currencies currencies_amounts transfer_amounts cost client_commission order_id "
        "address webhook_url redirect_url description merchant_contact target_wallets expired_at created_at"
    )
    assert list(invoice) == names.split()
    assert isinstance(invoice["id"], int) and len(str(invoice["id"])) == 9
    assert invoice["paymentURL"] == f"http://testserver{reverse('simulator:pay', args=['goodpayments', invoice['id']])}"
    assert invoice["address"].startswith("T") and len(invoice["address"]) == 34
    created, expired = (datetime.fromisoformat(invoice[name]) for name in ("created_at", "expired_at"))
    assert expired - created == timedelta(minutes=30)
    assert invoice["created_at"].endswith("+03:00") and len(invoice["created_at"]) == len("2026-03-17T11:29:07.518981+03:00")
    fixed = ("status", "type", "amount", "currencies", "transfer_amounts", "cost", "client_commission", "order_id")
    assert {name: invoice[name] for name in fixed} == {
        "status": "ACTIVE",
        "type": "SINGLE",
        "amount": 10,
        "currencies": ["TRX", "USDT"],
        "transfer_amounts": {"input": {"TRX": 0, "USDT": 0}, "output": {"TRX": 0, "USDT": 0}},
        "cost": None,
        "client_commission": True,
        "order_id": None,
    }
    rest = ("webhook_url", "redirect_url", "description", "merchant_contact", "target_wallets")
    assert [invoice[name] for name in rest] == [None, None, "", "@username", {}]


def test_what_was_given_is_echoed_and_read_back(api):
    given = {
        "order_id": "Ä" * 256,
        "webhook_url": "https://shop.example/hook",
        "redirect_url": "https://shop.example/thanks",
        "description": "Tea",
        "expiry_minutes": 5,
    }
    invoice = api.invoice(**given)
    assert {name: invoice[name] for name in given if name != "expiry_minutes"} == {
        name: value for name, value in given.items() if name != "expiry_minutes"
    }
    assert api.get(invoice["id"]) == invoice


def test_the_clients_fee_is_added_to_what_is_due(api):
    # 6.5 TRX at 0.25 USD are 1.625 USD.
    paid_by_shop, paid_by_client = api.invoice(client_comission=False), api.invoice(client_comission=True)
    assert simplejson.dumps(paid_by_shop["currencies_amounts"]) == '{"TRX": 40, "USDT": 10}'
    assert simplejson.dumps(paid_by_client["currencies_amounts"]) == '{"TRX": 46.5, "USDT": 11.625}'
    assert (paid_by_shop["amount"], paid_by_client["amount"]) == (10, 10)
    assert (paid_by_shop["client_commission"], paid_by_client["client_commission"]) == (False, True)


def test_the_merchants_defaults(api, merchant):
    merchant |= {"CLIENT_PAYS_FEE": False, "EXPIRY_MINUTES": 7}
    invoice = api.invoice(client_comission=...)
    created, expired = (datetime.fromisoformat(invoice[name]) for name in ("created_at", "expired_at"))
    assert (invoice["client_commission"], expired - created) == (False, timedelta(minutes=7))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("type", ...),
        ("type", "single"),
        ("amount", ...),
        ("amount", 0),
        ("amount", -1),
        ("amount", "ten"),
        ("amount", "10"),
        ("amount", None),
        ("currencies", ...),
        ("currencies", "TRX, USDT"),
        ("currencies", []),
        ("currencies", ["BTC"]),
        ("currencies", [1]),
        ("expiry_minutes", 0),
        ("expiry_minutes", 30.5),
        ("expiry_minutes", "30"),
        ("client_comission", "maybe"),
        ("order_id", "x" * 257),
        ("order_id", 5),
        ("webhook_url", []),
        ("redirect_url", 1),
        ("description", None),
    ],
)
def test_a_bad_field_is_named_as_the_framework_does(api, field, value):
    response = api.create(**{field: value})
    assert response.status_code == 400
    (named,) = response.json().items()
    assert named[0] == field and [type(text) for text in named[1]] == [str]
    assert not Payment.objects.exists()


@pytest.mark.parametrize("body", [" ", "{", "[]", '{"a":1,"a":2}'])
def test_broken_json(api, body):
    response = api.call("POST", "payment/create", body)
    assert response.status_code == 400
    assert list(response.json()) == ["detail"] and response.json()["detail"].startswith("JSON parse error - ")


def test_another_content_type(api):
    response = api.call("POST", "payment/create", "type=SINGLE", content_type="application/x-www-form-urlencoded")
    assert (response.status_code, list(response.json())) == (400, ["detail"])


def test_no_target_wallet(api, merchant):
    merchant["TARGET_WALLET"] = ""
    response = api.create()
    assert (response.status_code, response.json()) == (400, {"detail": "User's target wallet address is not set"})


@pytest.mark.parametrize(
    ("key", "detail"),
    [
        (None, "Authentication credentials were not provided."),
        ("", "Invalid API key"),
        ("7" * 64, "Invalid API key"),
        ("Bearer " + KEY, "Invalid API key"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "payment/create"), ("GET", "payment/get/1"), ("DELETE", "payment/1/cancel"), ("GET", "merchant")],
)
def test_every_failure_of_authentication_is_403(api, key, detail, method, path):
    response = api.call(method, path, key=key)
    assert (response.status_code, response.json()) == (403, {"detail": detail})


def test_an_address_that_is_not_listed_is_403(api, merchant):
    assert api.call("GET", "merchant", REMOTE_ADDR="192.0.2.7").status_code == 403
    merchant["IP_WHITELIST"] = ["192.0.2.7"]
    assert api.call("GET", "merchant", REMOTE_ADDR="192.0.2.7").status_code == 200


def test_an_invoice_belongs_to_its_merchant(api):
    id = api.invoice()["id"]
    for method, path in (("GET", f"payment/get/{id}"), ("DELETE", f"payment/{id}/cancel"), ("GET", "payment/get/1")):
        response = api.call(method, path, key=OTHER_KEY)
        assert (response.status_code, list(response.json())) == (404, ["detail"])
    assert api.get(id)["status"] == "ACTIVE"


@pytest.mark.parametrize(("method", "path"), [("GET", "payment/create"), ("POST", "payment/get/1"), ("GET", "payments")])
def test_other_paths_and_methods_are_not_there(api, method, path):
    response = api.call(method, path)
    assert (response.status_code, list(response.json())) == (404, ["detail"])


def test_the_merchants_account(api):
    account = exact(api.call("GET", "merchant"))
    assert list(account) == ["email", "balance", "target_wallet_address", "topup_wallet_address", "activation_wallet_address"]
    assert (str(account["balance"]), account["target_wallet_address"]) == ("771.011200337155", "TWallet")


def test_a_static_address_ignores_what_it_does_not_need(api):
    invoice = api.invoice(type="MULTIPLE", amount="ten", expiry_minutes=-1, redirect_url=5, order_id="customer-1")
    assert [invoice[name] for name in ("type", "status", "order_id")] == ["MULTIPLE", "ACTIVE", "customer-1"]
    assert [invoice[name] for name in ("amount", "expired_at", "redirect_url")] == [None, None, None]


# --- Paying ---
@pytest.mark.parametrize(
    ("action", "fields", "status", "received"),
    [
        ("pay", {"currency": "USDT"}, "COMPLETED", {"TRX": 0, "USDT": 10}),
        ("pay", {}, "COMPLETED", {"TRX": 40, "USDT": 0}),
        ("pay_part", {"currency": "USDT"}, "UNDERPAID", {"TRX": 0, "USDT": 5}),
        ("pay_part", {"currency": "USDT", "amount": "9.999999"}, "UNDERPAID", None),
        ("pay_more", {}, "OVERPAID", {"TRX": 44, "USDT": 0}),
        ("pay_more", {"amount": "40.000001"}, "OVERPAID", None),
    ],
)
def test_the_first_transfer_closes_the_invoice(api, control, shop, action, fields, status, received):
    invoice = api.invoice(webhook_url=shop.url)
    state = control.act(invoice["id"], action, **fields)
    assert (state["status"], state["rest"], state["actions"]) == (status, "0", [])
    closed = api.get(invoice["id"])
    assert closed["transfer_amounts"]["input"] == closed["transfer_amounts"]["output"]
    assert received is None or closed["transfer_amounts"]["input"] == received
    assert str(closed["cost"]) == "6.5"
    control.deliver()
    assert shop.words == [status]
    assert simplejson.loads(shop.received[0][1], use_decimal=True) == closed  # the object itself
    assert not [name for name in shop.received[0][0] if "sign" in name.lower() or name.lower() == "authorization"]
    for late in ("pay", "pay_part", "pay_more"):
        assert "no longer monitored" in control.refused(invoice["id"], late)["source"]


def test_no_word_says_that_money_was_seen(api, control, shop):
    control.misbehave("confirm_by_hand")
    invoice = api.invoice(webhook_url=shop.url)
    control.act(invoice["id"], "pay")
    assert api.get(invoice["id"]) == invoice
    for second in ("pay", "pay_part", "choose"):
        assert control.refused(invoice["id"], second)["error"] == "the first transfer decides"
    assert control.act(invoice["id"], "confirm")["status"] == "COMPLETED"
    control.deliver()
    assert shop.words == ["COMPLETED"]


def test_money_seen_in_time_outlives_the_deadline(api, control):
    control.misbehave("confirm_by_hand")
    id = api.invoice()["id"]
    control.act(id, "pay")
    assert control.act(id, "expire")["status"] == "ACTIVE"
    assert control.act(id, "confirm")["status"] == "COMPLETED"


def test_the_address_stays_the_same_whatever_token_is_chosen(api, control):
    invoice = api.invoice()
    state = control.act(invoice["id"], "choose", currency="USDT")
    assert (state["address"], state["pay_currency"], state["pay_amount"]) == (invoice["address"], "USDT", "10")


def test_another_token_is_an_error(api, control, shop):
    id = api.invoice(currencies=["USDT"], webhook_url=shop.url)["id"]
    assert control.call("POST", f"goodpayments/{id}/pay/", {"currency": "TRX"}).status_code == 400
    state = control.act(id, "pay_other")
    assert (state["status"], state["txs"][0]["currency"], state["txs"][0]["amount"]) == ("ERROR", "TRX", "40")
    assert api.get(id)["transfer_amounts"]["input"] == {"USDT": 0}
    control.deliver()
    assert shop.words == ["ERROR"]
    assert control.refused(api.invoice()["id"], "pay_other")["error"] == "every token is accepted"


def test_nothing_by_the_deadline_is_timeout_and_the_address_is_no_longer_watched(api, control, shop):
    id = api.invoice(webhook_url=shop.url)["id"]
    assert actions.advance_due(timezone.now() + timedelta(minutes=29)) == 0
    assert actions.advance_due(timezone.now() + timedelta(minutes=31)) == 1
    assert api.get(id)["status"] == "TIMEOUT"
    assert "no longer monitored" in control.refused(id, "pay")["source"]
    callbacks.deliver_due(timezone.now() + timedelta(minutes=31))
    assert shop.words == ["TIMEOUT"]


def test_a_technical_failure(api, control, shop):
    id = api.invoice(webhook_url=shop.url)["id"]
    assert control.act(id, "fail")["status"] == "ERROR"
    control.deliver()
    assert shop.words == ["ERROR"]


@pytest.mark.parametrize("waits", [True, False])
def test_a_failed_aml_check_sends_the_money_back(api, control, shop, waits):
    control.misbehave("confirm_by_hand")
    id = api.invoice(webhook_url=shop.url)["id"]
    if waits:
        control.act(id, "pay", currency="USDT")
    assert control.act(id, "aml")["status"] == "AML_FAILED"
    invoice = api.get(id)
    assert invoice["transfer_amounts"] == {"input": {"TRX": 0, "USDT": 10}, "output": {"TRX": 0, "USDT": 0}}
    assert str(invoice["cost"]) == "6.5"
    control.deliver()
    assert shop.words == ["AML_FAILED"]


def test_only_usdt_is_checked_and_only_with_the_switch(api, control, merchant):
    control.misbehave("confirm_by_hand")
    usdt, trx = api.invoice()["id"], api.invoice()["id"]
    control.act(trx, "pay", currency="TRX")
    control.refused(trx, "aml")
    control.refused(api.invoice(currencies=["TRX"])["id"], "aml")
    merchant["AML_CHECKS"] = False
    control.refused(usdt, "aml")


# --- Cancelling ---
@pytest.mark.parametrize("by", ["api", "dashboard"])
def test_a_cancelled_invoice_is_not_pushed(api, control, shop, by):
    invoice = api.invoice(webhook_url=shop.url)
    if by == "api":
        response = api.call("DELETE", f"payment/{invoice['id']}/cancel")
        assert (response.status_code, exact(response)) == (200, {**invoice, "status": "CANCELED"})
    else:
        assert control.act(invoice["id"], "cancel")["status"] == "CANCELED"
    assert control.deliver() == []
    control.refused(invoice["id"], "pay")


def test_a_closed_invoice_cannot_be_cancelled(api, control):
    id = api.invoice()["id"]
    control.act(id, "pay")
    response = api.call("DELETE", f"payment/{id}/cancel")
    assert (response.status_code, list(response.json())) == (400, ["detail"])
    assert api.get(id)["status"] == "COMPLETED"


# --- Static addresses ---
def test_a_static_address_tells_of_each_payment(api, control, shop):
    control.misbehave("confirm_by_hand", count=1)
    id = api.invoice(type="MULTIPLE", webhook_url=shop.url)["id"]
    control.act(id, "pay", amount="3", currency="USDT")
    assert api.get(id)["transfer_amounts"]["input"] == {"TRX": 0, "USDT": 0}
    control.act(id, "confirm")
    control.act(id, "pay", amount="4.5", currency="USDT")
    control.act(id, "pay", amount="100", currency="TRX")
    control.deliver()
    assert shop.words == ["ACTIVE"] * 3
    assert [body["transfer_amounts"]["input"] for body in shop.bodies] == [
        {"TRX": 0, "USDT": 3},
        {"TRX": 0, "USDT": 7.5},
        {"TRX": 100, "USDT": 7.5},
    ]
    assert api.get(id)["transfer_amounts"]["output"] == {"TRX": 100, "USDT": 7.5}
    assert control.call("POST", f"goodpayments/{id}/pay/").json()["field"] == "amount"
    for never in ("pay_part", "expire", "aml", "fail"):
        control.refused(id, never)
    assert exact(api.call("DELETE", f"payment/{id}/cancel"))["status"] == "CANCELED"
    control.refused(id, "pay", amount="1")


# --- Webhooks and pages ---
def test_any_2xx_ends_the_delivery_and_retries_are_few(api, control, shop):
    shop.answers = [(500, ""), (302, ""), (404, "ok"), (204, "")]
    id = api.invoice(webhook_url=shop.url)["id"]
    control.act(id, "pay")
    assert [callbacks.deliver_due(timezone.now() + timedelta(days=day)) for day in range(1, 7)] == [1, 1, 1, 1, 0, 0]
    assert [row["accepted"] for row in control.state(id)["callbacks"]] == [False, False, False, True]


def test_no_webhook_without_a_url(api, control):
    control.act(api.invoice()["id"], "pay")
    assert control.deliver() == []


def test_the_switches_work(api, control):
    control.misbehave("api_cut", count=1)
    with pytest.raises(ConnectionAbortedError):
        b"".join(api.create())
    assert Payment.objects.count() == 1
    control.misbehave("api_status", value=502, count=1)
    assert api.create().status_code == 502


def test_the_payers_page(api, client):
    invoice = api.invoice(currencies=["USDT"], redirect_url="https://shop.example/thanks")
    url = reverse("simulator:pay", args=["goodpayments", invoice["id"]])
    page = client.get(url).content.decode()
    assert invoice["address"] in page and "10 USDT" in page
    for label in ("Pay with a coin that is not accepted", "The AML check fails", "A technical failure", "Cancel"):
        assert f"<button>{label}</button>" in page
    assert "shop.example/thanks" not in page
    assert client.post(url, {"action": "pay"}).status_code == 302
    page = client.get(url).content.decode()
    assert 'href="https://shop.example/thanks"' in page and "COMPLETED" in page


def test_the_real_server_knows_where_a_call_comes_from(server):
    answer = requests.get(f"{server}goodpayments/v1/api/merchant", headers={"Authorization": "5" * 64}, timeout=5)
    assert (answer.status_code, answer.json()["target_wallet_address"]) == (200, "TTgt" + "1" * 30)
