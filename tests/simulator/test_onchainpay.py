"""OnchainPay: its endpoints, what happens to its invoices and orders, and what is told to the shop."""

import hashlib
import hmac
import json
import re
from datetime import datetime, timedelta
from itertools import count

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.urls import reverse
from django.utils import timezone

from crypto_invoices.simulator import actions, callbacks, conf
from crypto_invoices.simulator.models import Payment
from crypto_invoices.simulator.onchainpay import sign

from .conftest import Control

KEY, OTHER_KEY = "public+one==", "public+two=="
# The sample that the vendor prints in its authorization page.
SECRET = "RbWMG0rT6NSDQPKXs44gau/97OTsMW1+EakuQA8gb+IwjIUAdx56Fl3Oa7a8dw5L3soWK/o6UFfqlzh/6LXPDA=="
SECRETS = {KEY: SECRET, OTHER_KEY: "another"}
TEN_YEARS = 5_256_000


def signature(body, secret=SECRET):
    return hmac.new(secret.encode(), body.encode() if isinstance(body, str) else body, hashlib.sha256).hexdigest()


class Api:
    """The API gateway through Django's test client; every call is signed and has a fresh nonce."""

    def __init__(self, client):
        self.client = client
        self.base = reverse("simulator:index") + "onchainpay/api-gateway/"
        self.nonces = count(1643881172430)

    def send(self, path, body, key=KEY, signed=None):
        given = signature(body, SECRETS.get(key, SECRET)) if signed is None else signed
        headers = {"x-api-public-key": key, "x-api-signature": given}
        return self.client.post(self.base + path, body, content_type="application/json", headers=headers)

    def call(self, path, body=None, key=KEY):
        return self.send(path, json.dumps({"nonce": next(self.nonces), **(body or {})}), key)

    def ask(self, path, **body):
        response = self.call(path, body)
        answer = response.json()
        assert (response.status_code, answer["success"], set(answer)) == (200, True, {"success", "response"}), answer
        return answer["response"]

    def make(self, **fields):
        given = {"currency": "USD", "amount": "100", "lifetime": 30, "currencies": [], **fields}
        return self.call("make-invoice", {name: value for name, value in given.items() if value is not ...})

    def invoice(self, **fields):
        response = self.make(**fields)
        assert response.status_code == 200, response.content
        return response.json()["response"]["id"]

    def get(self, id):
        return self.ask("get-invoice", invoiceId=id)

    def order(self, **fields):
        given = {"currency": "USDT", "network": "tron", "amount": "100", "order": "#1", **fields}
        return self.ask("make-order", **given)["orderId"]


def refusal(response):
    body = response.json()
    assert body["success"] is False and isinstance(body["requestId"], str)
    assert set(body["error"]) == {"name", "message", "code"}
    assert body["error"]["code"] == response.status_code
    return body["error"]


def between(earlier, later):
    return datetime.fromisoformat(later) - datetime.fromisoformat(earlier)


def ahead(**ahead):
    return timezone.now() + timedelta(**ahead)


@pytest.fixture(autouse=True)
def merchants(simulator_settings):
    simulator_settings["ONCHAINPAY"] = {"KEY_PAIRS": dict(SECRETS)}
    return simulator_settings["ONCHAINPAY"]


@pytest.fixture
def api(client, db):
    return Api(client)


@pytest.fixture
def control(client, db):
    return Control(client, "onchainpay")


# --- Signature, nonce, envelope ---


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            '{"from":"ETH","to":"USDT","nonce":1643881172430}',
            "eeb0b30750aec75f89ea5f74e71bfdb5a678fbba7d626e1081d82172b2110ce7",
        ),
        (
            '{"id":"a393e9f0-aa92-45fa-b9cc-7156c4da2163","status":"PENDING","description":"Оплата заказа №1","amount":"20",'
            '"receivedAmount":"0"}',
            "c8eb40f27fcc06c8ef28ed6c74373d7363a53ecacbca013e459951b81ce78b3b",
        ),
    ],
)
def test_sign_agrees_with_computed_vectors(body, expected):
    assert sign(body.encode(), SECRET) == expected


def test_the_price_rate_of_the_signature_page(api):
    body = '{"from":"ETH","to":"USDT","nonce":1643881172430}'
    response = api.send("price-rate", body, signed="eeb0b30750aec75f89ea5f74e71bfdb5a678fbba7d626e1081d82172b2110ce7")
    assert (response.status_code, response.json()) == (200, {"success": True, "response": "2500.00000000"})


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        (KEY, ""),
        (KEY, "0" * 64),
        (KEY, signature('{"nonce":1}').upper()),
        (KEY, signature('{"nonce": 1}')),
        (KEY, "é"),
        (OTHER_KEY, signature('{"nonce":1}')),
        ("stranger", signature('{"nonce":1}')),
        ("", signature('{"nonce":1}')),
    ],
)
def test_a_wrong_signature_is_refused(api, key, signed):
    response = api.send("advanced-balances", '{"nonce":1}', key, signed)
    assert (response.status_code, refusal(response)["name"]) == (401, "UnauthorizedError")


@pytest.mark.parametrize("body", ["{}", '{"nonce":null}', '{"nonce":true}', '{"nonce":""}', '{"nonce":[1]}', "[]", "{"])
def test_a_nonce_is_required(api, body):
    response = api.send("advanced-balances", body)
    assert (response.status_code, refusal(response)["name"]) == (400, "ValidationError")


def test_a_nonce_is_taken_once_for_each_key(api):
    for nonce, status in ((7, 200), (7, 400), ("7", 400), (6, 200), ("f0b1", 200), ("f0b1", 400)):
        assert api.call("advanced-balances", {"nonce": nonce}).status_code == status
    assert api.call("advanced-balances", {"nonce": 7}, OTHER_KEY).status_code == 200
    assert api.make(nonce=8, amount="x").status_code == 400
    assert "nonce" in refusal(api.make(nonce=8))["message"]


def test_test_signature_tells_instead_of_refusing(api):
    body = '{"nonce":5,"anything":"x"}'
    answer = api.send("test-signature", body).json()["response"]
    assert answer == {
        "errors": [],
        "checkSignatureResult": True,
        "signature": signature(body),
        "receivedBody": {"nonce": 5, "anything": "x"},
    }
    again = api.send("test-signature", body).json()["response"]
    assert again["checkSignatureResult"] is True and "nonce" in again["errors"][0]
    wrong = api.send("test-signature", body, signed="00").json()["response"]
    assert wrong["checkSignatureResult"] is False and wrong["errors"]


def test_only_posts_of_known_paths(api):
    assert refusal(api.call("cancel-invoice"))["name"] == "NotFoundError"
    assert api.client.get(api.base + "get-invoice").status_code == 404
    assert api.call("advanced-balances/").status_code == 200


# --- Invoices ---


def test_make_invoice_answers_the_invoice(api):
    given = {
        "currency": "EUR",
        "amount": "20.50",
        "lifetime": 45,
        "currencies": [["USDT", "tron"], ["USDT", "ethereum"], ["BTC", "bitcoin"]],
        "externalId": "merchantExternalId123",
        "order": "Order #123456",
        "description": "Оплата",
        "includeFee": True,
        "additionalFees": ["SEPA_WITHDRAWAL"],
        "insurancePercent": "1",
        "slippagePercent": "0.5",
        "paymentTolerancePercent": "1.5",
        "webhookURL": "https://merchant.example/webhooks/invoice",
        "returnURL": "https://merchant.example/",
    }
    answer = api.ask("make-invoice", **given)
    assert between(answer.pop("createdAt"), answer.pop("expiresAt")) == timedelta(minutes=45)
    id = answer.pop("id")
    assert answer.pop("invoiceLink").endswith(f"/onchainpay/pay/{id}/")
    # 20.50 EUR are 22.55 USD, one per cent more 22.7755, then 1 for the network and 5 for SEPA
    assert answer == {
        "externalId": "merchantExternalId123",
        "externalUserId": None,
        "payerEmail": None,
        "orderId": None,
        "orderLink": None,
        "status": "CREATED",
        "order": "Order #123456",
        "description": "Оплата",
        "currency": "EUR",
        "amount": "20.5",
        "receivedNetwork": None,
        "receivedCurrency": None,
        "receivedAmount": "0",
        "receivedAmountInInvoiceCurrency": "0",
        "rate": "0",
        "includeFee": True,
        "additionalFees": ["SEPA_WITHDRAWAL"],
        "insurancePercent": "1",
        "slippagePercent": "0.5",
        "paymentTolerancePercent": "1.5",
        "webhookURL": "https://merchant.example/webhooks/invoice",
        "returnUrl": "https://merchant.example/",
        "currencies": [
            {"currency": "USDT", "networks": [{"name": "tron", "amount": "28.7755"}, {"name": "ethereum", "amount": "28.7755"}]},
            {"currency": "BTC", "networks": [{"name": "bitcoin", "amount": "0.00044962"}]},
        ],
    }
    assert api.get(id).items() >= answer.items()


def test_no_pairs_are_all_pairs(api):
    answer = api.get(api.invoice())
    offered = {item["currency"]: {network["name"] for network in item["networks"]} for item in answer["currencies"]}
    assert offered["USDT"] == {"tron", "ethereum", "bsc"}
    assert {network for networks in offered.values() for network in networks} == {
        "ethereum", "bsc", "tron", "bitcoin", "bitcoincash", "litecoin", "fantom", "ripple", "ton",
    }  # fmt: skip
    assert "returnUrl" not in answer and answer["webhookURL"] is None
    available = {item["currency"]: {network["name"] for network in item["networks"]} for item in api.ask("available-currencies")}
    assert offered.items() <= available.items()
    assert available["EUR"] == set()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("currency", ...),
        ("currency", "XYZ"),
        ("amount", ...),
        ("amount", "0"),
        ("amount", "-1"),
        ("amount", True),
        ("lifetime", ...),
        ("lifetime", "30"),
        ("lifetime", 0),
        ("lifetime", TEN_YEARS),
        ("currencies", ...),
        ("currencies", "USDT"),
        ("currencies", [{"currency": "USDT"}]),
        ("currencies", [["USDT"]]),
        ("currencies", [["USDT", 1]]),
        ("externalId", 5),
        ("includeFee", "yes"),
        ("additionalFees", ["INVOICE"]),
        ("insurancePercent", "101"),
        ("slippagePercent", "x"),
        ("webhookURL", "shop"),
        ("returnURL", 1),
    ],
)
def test_a_bad_field_is_named(api, field, value):
    response = api.make(**{field: value})
    error = refusal(response)
    assert (response.status_code, error["name"]) == (400, "ValidationError")
    assert error["message"].startswith(f"{field}: ")
    assert not Payment.objects.exists()


def test_a_pair_that_is_not_offered_is_refused(api):
    assert "USDT on polygon" in refusal(api.make(currencies=[["USDT", "polygon"]]))["message"]


def test_an_external_id_is_taken_once(api):
    api.invoice(externalId="A-1")
    response = api.make(externalId="A-1")
    assert (response.status_code, refusal(response)["name"]) == (409, "DuplicateError")
    given = {"currency": "USD", "amount": "1", "lifetime": 5, "currencies": [], "externalId": "A-1"}
    assert api.call("make-invoice", given, OTHER_KEY).status_code == 200
    assert Payment.objects.count() == 2


def test_an_invoice_belongs_to_its_merchant(api):
    id = api.invoice()
    assert api.call("get-invoice", {"invoiceId": id}, OTHER_KEY).status_code == 404
    assert api.call("order", {"orderId": id}).status_code == 404
    order = api.order()
    assert api.call("get-invoice", {"invoiceId": order}).status_code == 404


def test_the_list_filters_by_status(api, control):
    ids = [api.invoice(order=str(number)) for number in range(3)]
    control.act(ids[1], "choose")
    api.order()

    def listed(**query):
        answer = api.ask("get-invoices", **query)
        assert all("currencies" not in item for item in answer["invoices"])
        return [item["order"] for item in answer["invoices"]], answer["total"]

    assert listed() == (["2", "1", "0"], 3)
    assert listed(status=["INIT"]) == (["1"], 1)
    assert listed(status=["INIT", "CREATED"], limit=1, offset=1) == (["1"], 3)
    for query in ({"status": ["init"]}, {"status": "INIT"}, {"limit": 0}, {"offset": -1}):
        assert api.call("get-invoices", query).status_code == 400


# --- What happens to an invoice ---


def test_a_full_payment(api, control, shop):
    id = api.invoice(webhookURL=shop.url, externalId="A-1")
    state = control.act(id, "choose", currency="ETH", network="ethereum")
    assert (state["status"], state["pay_amount"]) == ("INIT", "0.04")
    answer = api.get(id)
    assert between(answer["createdAt"], answer["expiresAt"]) == timedelta(minutes=30)
    order = api.ask("order", orderId=answer["orderId"])
    assert between(order["createdAt"], order["expiresAt"]) == timedelta(hours=12)
    assert (order["status"], order["amount"], order["network"], order["transactions"]) == ("init", "0.04", "ethereum", [])
    control.refused(id, "choose")
    assert control.act(id, "pay")["status"] == "PROCESSED"
    assert shop.received == []  # never inside the request that changed the state
    control.deliver()
    assert shop.words == ["INIT", "PENDING", "PROCESSED"]
    assert shop.bodies[2] == api.get(id)
    headers, body = shop.received[2]
    assert (headers["x-api-public-key"], headers["x-api-signature"]) == (KEY, signature(body))
    told = [
        tuple(body[name] for name in ("receivedNetwork", "receivedCurrency", "receivedAmount", "receivedAmountInInvoiceCurrency"))
        for body in shop.bodies
    ]
    assert told == [(None, None, "0", "0"), (None, None, "0", "0"), ("ethereum", "ETH", "0.04000000", "100")]
    assert shop.bodies[2]["rate"] == "2500"
    order = api.ask("order", orderId=answer["orderId"])
    (transaction,) = order.pop("transactions")
    assert (order["status"], order["received"], order["orphanDeposits"]) == ("processed", "0.04000000", [])
    assert set(transaction) == set("id status currency network amount tx confirmations sender priceUSD amountUSD".split())
    assert [transaction[name] for name in ("status", "amount", "confirmations", "priceUSD", "amountUSD")] == [
        "processed",
        "0.04",
        12,
        "2500",
        "100",
    ]


def test_a_part_is_pending_until_it_is_topped_up(api, control, shop):
    id = api.invoice(webhookURL=shop.url)
    assert control.act(id, "pay_part", amount="40", currency="USDT")["status"] == "PENDING"
    assert control.act(id, "pay")["status"] == "PROCESSED"
    control.deliver()
    assert shop.words == ["INIT", "PENDING", "PENDING", "PROCESSED"]


def test_partial_and_expired_are_not_final(api, control, shop):
    id = api.invoice(webhookURL=shop.url)
    control.act(id, "pay_part", amount="40", currency="USDT")
    assert control.act(id, "expire")["status"] == "PARTIAL"
    assert api.ask("order", orderId=api.get(id)["orderId"])["status"] == "partial"
    assert control.act(id, "pay")["status"] == "PROCESSED"
    late = api.invoice()
    control.act(late, "choose")
    assert control.act(late, "expire")["status"] == "EXPIRED"
    assert control.act(late, "pay_part")["status"] == "PARTIAL"
    assert control.act(late, "pay_more")["status"] == "OVERPAID"


def test_more_money_makes_processed_overpaid(api, control):
    id = api.invoice()
    assert control.act(id, "pay", currency="USDT")["status"] == "PROCESSED"
    assert control.refused(id, "pay")["error"] == "nothing is left to pay"
    assert control.act(id, "pay_more")["txs"][1]["amount"] == "10"
    assert api.get(id)["status"] == "OVERPAID"
    assert api.get(id)["receivedAmount"] == "110.00000000"


def test_unconfirmed_money_outlives_the_deadline(api, control, shop):
    control.misbehave("confirm_by_hand")
    id = api.invoice(webhookURL=shop.url)
    assert control.act(id, "pay")["status"] == "PENDING"
    assert control.act(id, "expire")["status"] == "PENDING"
    assert control.act(id, "confirm")["status"] == "PROCESSED"
    late = api.invoice(webhookURL=shop.url)
    control.act(late, "choose")
    control.act(late, "expire")
    assert control.act(late, "pay")["status"] == "EXPIRED"
    assert control.act(late, "confirm")["status"] == "PROCESSED"
    control.deliver()
    assert shop.words == ["INIT", "PENDING", "PROCESSED", "INIT", "EXPIRED", "EXPIRED", "PROCESSED"]


@pytest.mark.parametrize(
    ("fields", "amount", "status"),
    [
        ({}, "99.99", "PENDING"),
        ({}, "100.01", "OVERPAID"),
        ({"slippagePercent": "0.5"}, "99.49", "PENDING"),
        ({"slippagePercent": "0.5"}, "99.5", "PROCESSED"),
        ({"slippagePercent": "0.5"}, "100.5", "PROCESSED"),
        ({"slippagePercent": "0.5"}, "100.51", "OVERPAID"),
        ({"paymentTolerancePercent": "1.5"}, "98.5", "PROCESSED"),
        ({"paymentTolerancePercent": "1.5"}, "98.49", "PENDING"),
        ({"paymentTolerancePercent": "1.5"}, "100.01", "OVERPAID"),
        ({"insurancePercent": "5"}, "104.99", "PENDING"),
        ({"insurancePercent": "5"}, "105", "PROCESSED"),
        ({"includeFee": True}, "100.99", "PENDING"),
        ({"includeFee": True}, "101", "PROCESSED"),
    ],
)
def test_what_is_due(api, control, fields, amount, status):
    assert control.act(api.invoice(**fields), "pay", amount=amount, currency="USDT")["status"] == status


def test_the_documented_insurance(api, control):
    id = api.invoice(amount="75", insurancePercent="5")
    assert control.act(id, "choose", currency="USDT")["pay_amount"] == "78.75"


def test_the_clock(api, shop):
    id = api.invoice(webhookURL=shop.url)
    assert actions.advance_due(ahead(minutes=29)) == 0
    assert actions.advance_due(ahead(minutes=31)) == 1
    assert (api.get(id)["status"], api.get(id)["orderId"]) == ("EXPIRED", None)
    callbacks.deliver_due(ahead(minutes=31))
    assert shop.words == ["EXPIRED"]


def test_no_coin_in_time_leaves_no_address(api, control):
    id = api.invoice()
    control.act(id, "expire")
    assert "no address" in control.refused(id, "pay")["error"]
    control.refused(id, "choose")


def test_only_the_invoices_pairs_may_be_chosen(api, control):
    id = api.invoice(currencies=[["TRX", "tron"]])
    response = control.call("POST", f"onchainpay/{id}/choose/", {"currency": "BTC"})
    assert (response.status_code, response.json()["field"]) == (400, "currency")
    assert control.act(id, "choose")["pay_amount"] == "400"


@pytest.mark.parametrize(("action", "status", "order"), [("reject", "REJECTED", "error"), ("fail", "ERROR", "error")])
def test_rejected_and_error_stay(api, control, shop, action, status, order):
    control.misbehave("confirm_by_hand")
    id = api.invoice(webhookURL=shop.url)
    control.act(id, "pay")
    assert control.act(id, action)["status"] == status
    assert control.act(id, "confirm")["status"] == status
    control.refused(id, "pay")
    assert api.ask("order", orderId=api.get(id)["orderId"])["status"] == order
    control.deliver()
    assert shop.words == ["INIT", "PENDING", status]


def test_the_payers_page(api, client):
    id = api.invoice(returnURL="https://shop.example/back", currencies=[["XRP", "ripple"], ["USDT", "tron"]])
    url = reverse("simulator:pay", args=["onchainpay", id])
    page = client.get(url).content.decode()
    assert "USDT on Tron" in page and "Bitcoin" not in page and 'href="https://shop.example/back"' in page
    assert client.post(url, {"action": "choose", "option": "XRP@ripple"}).status_code == 302
    page = client.get(url).content.decode()
    assert "200 XRP" in page and "Memo / tag" in page and "A technical failure" in page


# --- Orders ---


def test_make_order(api):
    answer = api.ask(
        "make-order", currency="XRP", network="ripple", amount="7.5", order="#1", lifetime=1800, returnUrl="https://a.example/"
    )
    assert between(answer["createdAt"], answer["expiresAt"]) == timedelta(minutes=30)
    expected = {"status": "init", "amount": "7.5", "currency": "XRP", "network": "ripple", "clientOrderId": "#1"}
    assert answer.items() >= expected.items()
    assert answer["address"].startswith("r") and answer["tag"].isdigit()
    assert answer["link"].endswith(f"/onchainpay/pay/{answer['orderId']}/")
    order = api.ask("order", orderId=answer["orderId"])
    assert (order["id"], order["orderId"]) == (answer["orderId"], "#1")
    listed = api.ask("orders", status=["init"])
    assert (listed["orders"], listed["total"]) == ([answer], "1")
    assert api.ask("orders", status=["processed"]) == {"orders": [], "total": "0"}
    assert api.ask("orders", limit=1) == listed


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"network": "polygon"}, "network"),
        ({"lifetime": 1799}, "lifetime"),
        ({"lifetime": 43201}, "lifetime"),
        ({"currency": "BTC", "network": "bitcoin", "lifetime": 7199}, "lifetime"),
        ({"currency": "BCH", "network": "bitcoincash", "lifetime": 7199}, "lifetime"),
        ({"currency": "FTM", "network": "fantom", "lifetime": 1799}, "lifetime"),
        ({"order": ""}, "order"),
        ({"amount": "0"}, "amount"),
        ({"successWebhook": "x"}, "successWebhook"),
    ],
)
def test_a_bad_order_is_refused(api, fields, named):
    body = {"currency": "USDT", "network": "tron", "amount": "1", "order": "#1", **fields}
    assert refusal(api.call("make-order", body))["message"].startswith(f"{named}: ")


def test_an_order_tells_two_urls(api, control, shop):
    urls = {"successWebhook": shop.url + "success", "errorWebhook": shop.url + "error"}
    id = api.order(amount="0.2", paymentTolerancePercent="1.5", **urls)
    control.act(id, "pay_part", amount="0.1")
    assert control.act(id, "expire")["status"] == "partial"
    assert control.act(id, "pay", amount="0.097")["status"] == "processed"
    control.refused(id, "reject")
    control.deliver()
    sent = list(Payment.objects.get().jobs.values_list("word", "url"))
    success, error = urls["successWebhook"], urls["errorWebhook"]
    # the late transfer is told while the order is still partial
    assert sent == [("pending", success), ("partial", error), ("partial", error), ("processed", success)]
    body = shop.bodies[-1]
    assert list(body) == (
        "id advancedBalanceId currency network status order description address tag amount received transactions".split()
    )
    assert (body["id"], body["order"], body["status"], body["received"]) == (id, "#1", "processed", "0.19700000")
    assert [(item["amount"], item["confirmations"]) for item in body["transactions"]] == [("0.1", "20"), ("0.097", "20")]
    headers, raw = shop.received[-1]
    assert headers["x-api-signature"] == signature(raw)


def test_an_order_keeps_its_coin(api, control):
    id = api.order()
    control.refused(id, "pay", currency="TRX")
    assert control.act(id, "fail")["status"] == "error"


# --- Users ---


def user_of(api, **fields):
    return api.ask("personal-addresses/create-user", clientId="client-1", **fields)


def test_a_user_is_made_once_and_brought_up_to_date(api):
    first = user_of(api, clientEmail="a@shop.example")
    second = user_of(api, clientName="A", depositWebhookUrl="https://shop.example/")
    assert second == {**first, "clientName": "A", "depositWebhookUrl": "https://shop.example/"}
    assert api.ask("personal-addresses/get-user", id=first["id"]) == second
    assert api.ask("personal-addresses/get-user", clientId="client-1") == second
    assert api.call("personal-addresses/get-user", {"clientId": "x"}).status_code == 404
    assert api.ask("personal-addresses/get-user-addresses", id=first["id"]) == []
    assert api.call("personal-addresses/get-user-addresses", {"id": api.invoice()}).status_code == 404


def test_addresses_are_made_kept_and_renewed(api):
    user = user_of(api, createAddresses=True)
    addresses = api.ask("personal-addresses/get-user-addresses", id=user["id"])
    assert ("USDT", "tron") in [(row["currency"], row["network"]) for row in addresses]
    coin = {"id": user["id"], "currency": "XRP", "network": "ripple"}
    kept = api.ask("personal-addresses/get-user-address", **coin)
    assert kept in addresses and kept["tag"].isdigit()
    assert set(kept) == set("id userId currency network address tag balance isActive".split())
    renewed = api.ask("personal-addresses/get-user-address", **coin, renewAddress=True)
    assert renewed["address"] != kept["address"]
    assert api.ask("personal-addresses/get-user-address", **coin) == renewed
    states = {row["address"]: row["isActive"] for row in api.ask("personal-addresses/get-user-addresses", id=user["id"])}
    assert (states[kept["address"]], states[renewed["address"]]) == (False, True)
    assert api.call("personal-addresses/get-user-address", {**coin, "network": "tron"}).status_code == 400


def test_a_deposit_raises_the_balance_and_is_told(api, control, shop):
    user = user_of(api, depositWebhookUrl=shop.url)
    coin = {"id": user["id"], "currency": "USDT", "network": "tron"}
    address = api.ask("personal-addresses/get-user-address", **coin)
    assert address["balance"] == "0"
    control.misbehave("confirm_by_hand", count=1)
    control.act(user["id"], "pay", amount="7", currency="USDT", network="tron")
    assert api.ask("personal-addresses/get-user-address", **coin)["balance"] == "0"
    control.act(user["id"], "confirm")
    control.act(user["id"], "pay", amount="0.5", currency="USDT", network="tron")
    assert api.ask("personal-addresses/get-user-address", **coin)["balance"] == "7.5"
    control.deliver()
    assert [(body["status"], body["amount"]) for body in shop.bodies] == [
        ("pending", "7"),
        ("processed", "7"),
        ("pending", "0.5"),
        ("processed", "0.5"),
    ]
    expected = {"userId": user["id"], "clientId": "client-1", "address": address["address"], "tag": None, "currency": "USDT"}
    assert shop.bodies[0].items() >= expected.items()
    headers, raw = shop.received[0]
    assert (headers["x-api-public-key"], headers["x-api-signature"]) == (KEY, signature(raw))
    control.refused(user["id"], "expire")
    assert control.call("POST", f"onchainpay/{user['id']}/pay/", {"currency": "USDT"}).json()["field"] == "amount"


def test_an_invoice_for_a_user_takes_the_static_address(api, control):
    id = api.invoice(externalUserId="client-1", payerEmail="a@shop.example", currencies=[["USDT", "tron"]])
    user = api.ask("personal-addresses/get-user", clientId="client-1")
    assert user["clientEmail"] == "a@shop.example"
    state = control.act(id, "pay")
    address = api.ask("personal-addresses/get-user-address", id=user["id"], currency="USDT", network="tron")
    assert (address["address"], address["balance"]) == (state["address"], "100")
    order = api.ask("make-order", currency="USDT", network="tron", amount="1", order="#1", externalUserId="client-1")
    assert order["address"] == address["address"]


# --- The account ---


def test_find_tx(api, control):
    invoice, order, user = api.invoice(), api.order(), user_of(api)["id"]
    found = {}
    for id in (invoice, order, user):
        state = control.act(id, "pay", amount="100", currency="USDT", network="tron")
        (item,) = api.ask("find-tx", tx=state["txs"][0]["tx_hash"])
        assert (item["type"], item["address"]) == ("IN", state["txs"][0]["address"])
        found[item["source"]] = item["result"]
    assert (found["INVOICE"], found["ORDER"]["id"]) == (api.get(invoice), order)
    assert found["PERSONAL_DEPOSIT"]["userId"] == user
    assert api.ask("find-tx", tx="nothing") == []


def test_balances_and_currencies(api):
    (balance,) = api.ask("advanced-balances")
    assert (balance["blocked"], balance["blockReason"]) == (False, None)
    assert {tariff["action"]: tariff["invoiceAdditionalFee"] for tariff in balance["tariffs"]} == {
        "SEPA_WITHDRAWAL": True,
        "INVOICE": False,
    }
    by_code = {item["currency"]: item for item in api.ask("available-currencies")}
    assert (by_code["ETH"]["priceUSD"], by_code["EUR"]["networks"]) == ("2500", [])
    assert by_code["BTC"]["networks"][0]["confirmations"] == 2
    assert refusal(api.call("price-rate", {"from": "ETH", "to": "XYZ"}))["message"].startswith("to: ")


def test_addresses_match_their_expressions(api):
    patterns = {
        (item["currency"], network["name"]): network["addressRegex"]
        for item in api.ask("available-currencies")
        for network in item["networks"]
    }
    for row in api.ask("personal-addresses/get-user-addresses", id=user_of(api, createAddresses=True)["id"]):
        assert re.search(patterns[row["currency"], row["network"]], row["address"]), row


# --- Settings, webhooks and misbehaviour ---


@pytest.mark.parametrize("pairs", [{}, [KEY], {KEY: ""}, {KEY: 1}, KEY])
def test_key_pairs_are_checked(merchants, pairs):
    merchants["KEY_PAIRS"] = pairs
    with pytest.raises(ImproperlyConfigured, match="KEY_PAIRS must be a dict of texts, at least one"):
        conf.check()


def test_retries_follow_the_schedule(api, control, shop, settings):
    settings.SIMULATOR["TIME_SCALE"] = 1
    shop.answers = [(500, "ok")]
    id = api.invoice(webhookURL=shop.url)
    now = ahead(seconds=1)
    control.act(id, "choose")
    for wait in (0, *[10] * 6, *[1800] * 5, *[7200] * 4, *[43200] * 3):
        if wait:
            assert callbacks.deliver_due(now + timedelta(seconds=wait - 1)) == 0
        now += timedelta(seconds=wait)
        assert callbacks.deliver_due(now) == 1
    assert callbacks.deliver_due(now + timedelta(days=9)) == 0


@pytest.mark.parametrize(("status", "accepted"), [(200, True), (201, False), (204, False), (404, False)])
def test_only_200_accepts(api, control, shop, status, accepted):
    shop.answers = [(status, "whatever")]
    control.act(api.invoice(webhookURL=shop.url), "choose")
    assert [row["accepted"] for row in control.deliver()] == [accepted]


def test_a_pair_that_is_gone_signs_no_more(api, control, shop, merchants):
    id = api.invoice(webhookURL=shop.url)
    del merchants["KEY_PAIRS"][KEY]
    control.act(id, "pay")
    assert control.deliver() == []


@pytest.mark.parametrize("status", [429, 503])
def test_it_is_overloaded(api, control, status):
    control.misbehave("api_status", value=status, count=1)
    assert refusal(api.make())["code"] == status
    assert api.invoice()


def test_only_what_makes_something_is_cut(api, control):
    control.misbehave("api_cut", count=1)
    assert api.ask("get-invoices")["total"] == 0
    with pytest.raises(ConnectionAbortedError):
        b"".join(api.make(externalId="A-1"))
    assert api.make(externalId="A-1").status_code == 409


def test_webhooks_twice_and_out_of_order(api, control, shop):
    control.misbehave("callback_duplicate", count=1)
    control.misbehave("callback_reorder", value=3, count=1)
    control.act(api.invoice(webhookURL=shop.url), "pay")
    control.deliver()
    assert shop.words == ["PROCESSED", "PENDING", "INIT", "INIT"]
