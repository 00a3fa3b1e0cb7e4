"""txn.io: its endpoints, what happens to its invoices, and what is told to the shop."""

import base64
import hashlib
import hmac
import json
import time
from datetime import datetime, timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from crypto_invoices.simulator import actions, callbacks
from crypto_invoices.simulator.models import Payment
from crypto_invoices.simulator.txn import sign

from .conftest import Control

KEY = "txn_cmp_" + "A" * 30
OTHER_KEY = "txn_cmp_" + "B" * 30
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
JSON_API = "application/vnd.api+json"
UNLOADED = {"meta": {"included": False}}


class Api:
    """The public API through Django's test client."""

    def __init__(self, client):
        self.client = client
        self.base = reverse("simulator:index") + "txn/api/public/v1/"

    def post(self, body, key=KEY, content_type=JSON_API):
        data = body if isinstance(body, str) else json.dumps(body)
        headers = {"Authorization": f"Bearer {key}"}
        return self.client.post(self.base + "invoices", data, content_type=content_type, headers=headers)

    def create(self, **fields):
        given = {"amountBilled": "40", "billedCurrency": "EUR", "chargedCurrency": "USDT", "network": "TTRX:USDT", **fields}
        given = {name: value for name, value in given.items() if value is not ...}
        return self.post({"data": {"type": "invoices", "attributes": given}})

    def invoice(self, **fields):
        response = self.create(**fields)
        assert response.status_code == 201, response.content
        return response.json()["data"]["id"]

    def get(self, path, query=None, key=KEY):
        return self.client.get(self.base + path, query or {}, headers={"Authorization": f"Bearer {key}"})

    def read(self, id):
        return self.get(f"invoices/{id}").json()

    def triple(self, id):
        return triple(self.read(id))


def triple(document):
    attributes = document["data"]["attributes"]
    return tuple(attributes[name] for name in ("status", "paymentStatus", "statusContext"))


def included(document, kind):
    return [item for item in document["included"] if item["type"] == kind]


def later(**ahead):
    return timezone.now() + timedelta(**ahead)


@pytest.fixture(autouse=True)
def merchant(simulator_settings):
    simulator_settings["TXN"] = {"API_KEYS": [KEY, OTHER_KEY]}
    return simulator_settings["TXN"]


@pytest.fixture
def api(client, db):
    return Api(client)


@pytest.fixture
def control(client, db):
    return Control(client, "txn")


@pytest.fixture
def told(shop, merchant):
    """A shop whose URL is typed into the dashboard."""
    merchant["WEBHOOK_URL"] = shop.url
    return shop


# --- Create ---


def test_create_answers_the_documented_document(api):
    response = api.create(
        amountBilled="1000",
        billedCurrency="CNY",
        targetCurrency="EUR",
        reference="eef67ca4",
        successRedirectUrl="https://paymentsucceeded.example",
        unsuccessRedirectUrl="https://paymentfailed.example",
        paymentMethods=["on_chain"],
    )
    assert (response.status_code, response["Content-Type"]) == (201, JSON_API)
    body = response.json()
    assert (body["meta"], body["jsonapi"]) == ({}, {"version": "1.0"})
    data = body["data"]
    attributes = data["attributes"]
    created, expires = attributes.pop("createdAt"), attributes.pop("expiresAt")
    assert created.endswith("Z") and len(created) == len("2025-06-20T12:46:32.342Z")
    assert datetime.fromisoformat(expires) - datetime.fromisoformat(created) == timedelta(minutes=20)
    assert attributes.pop("hostedPageUrl").endswith(f"/txn/pay/{data['id']}/")
    # one USDT is 1 USD, one CNY 0.14 USD, one EUR 1.1 USD: 1000 / 7.1428571 USDT, then in EUR, less one per cent
    assert attributes == {
        "amountBilled": "1000.00",
        "amountCharged": "140.000001",
        "targetAmount": "126.00",
        "billedCurrency": "CNY",
        "chargedCurrency": "USDT",
        "targetCurrency": "EUR",
        "chargedTargetRate": "0.90909091",
        "chargedTargetRateCurrency": "EUR",
        "reference": "eef67ca4",
        "statusContext": "unpaid",
        "network": "ttrx:usdt",
        "networkName": "Tron (TRC20)",
        "paymentMethods": ["on_chain"],
        "status": "pending",
        "successRedirectUrl": "https://paymentsucceeded.example",
        "unsuccessRedirectUrl": "https://paymentfailed.example",
        "paymentStatus": "expecting",
        "exchangeRate": "7.1428571",
        "scAddress": None,
    }
    (address,), (account,) = included(body, "addresses"), included(body, "accounts")
    assert data["relationships"] == {
        "targetAccount": {"data": {"type": "accounts", "id": account["id"]}},
        "binanceOrder": {"data": None},
        "address": {"data": {"type": "addresses", "id": address["id"]}},
        "refundLinks": UNLOADED,
        "invoiceTransactions": UNLOADED,
        "coinDeposits": UNLOADED,
    }
    assert set(address["attributes"]) == {"label", "value", "createdAt"}
    assert address["attributes"]["value"].startswith("T") and "dt=" not in address["attributes"]["value"]
    assert (account["attributes"]["currencyCode"], account["attributes"]["totalBalance"]) == ("EUR", None)
    assert api.invoice(targetCurrency="EUR", targetAccountId=account["id"])


def test_what_is_not_given_is_null(api):
    attributes = api.read(api.invoice())["data"]["attributes"]
    assert [attributes[name] for name in ("reference", "successRedirectUrl", "unsuccessRedirectUrl")] == [None, None, None]
    assert (attributes["targetCurrency"], attributes["paymentMethods"]) == ("EUR", ["on_chain"])


def test_an_xrp_address_carries_its_tag(api):
    (address,) = included(api.create(chargedCurrency="XRP", network="txrp").json(), "addresses")
    bare, _, tag = address["attributes"]["value"].partition("?dt=")
    assert bare.startswith("r") and tag.isdigit()


def test_production_has_other_codes(api, merchant):
    assert api.create(network="trx:usdt").status_code == 404
    merchant["SANDBOX"] = False
    assert api.create(network="trx:usdt").status_code == 201
    assert api.create(chargedCurrency="USDC", network="polygon:usdcv2").status_code == 201
    assert api.create(network="ttrx:usdt").status_code == 404


@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        (
            {"amountBilled": "10"},
            422,
            {"title": "amount is below minimum", "detail": "amount: 10.0, minimum: 30.00", "code": "amount_below_minimum"},
        ),
        (
            {"amountBilled": "500000.5"},
            422,
            {
                "title": "amount is above maximum",
                "detail": "amount: 500000.5, maximum: 100000.00",
                "code": "amount_above_maximum",
            },
        ),
        (
            {"reference": "taken"},
            422,
            {
                "title": "Invalid attribute",
                "detail": "Reference has already been taken",
                "code": "invoice_invalid",
                "source": {"pointer": "/data/attributes/externalId"},
            },
        ),
        (
            {"paymentMethods": ["on_chain", "nft"]},
            422,
            {
                "status": 422,
                "title": "not allowed use multiple payment methods",
                "code": "payment_methods_conflict",
                "detail": "",
            },
        ),
        (
            {"network": "mars"},
            404,
            {"title": "Record not found", "detail": "The network was not found.", "code": "network_not_found"},
        ),
    ],
)
def test_documented_errors(api, fields, status, error):
    api.invoice(reference="taken")
    response = api.create(**fields)
    assert (response.status_code, response.json()) == (status, {"errors": [error]})
    assert response["Content-Type"] == JSON_API
    assert Payment.objects.count() == 1


@pytest.mark.parametrize("amount", ["30", "30.00", "100000"])
def test_limits_are_included(api, amount):
    assert api.create(amountBilled=amount).status_code == 201


@pytest.mark.parametrize(
    ("fields", "code", "pointer"),
    [
        ({"amountBilled": ...}, "invoice_invalid", "amountBilled"),
        ({"amountBilled": None}, "invoice_invalid", "amountBilled"),
        ({"amountBilled": "ten"}, "invoice_invalid", "amountBilled"),
        ({"amountBilled": ""}, "invoice_invalid", "amountBilled"),
        ({"amountBilled": 40}, "invoice_invalid", "amountBilled"),
        ({"amountBilled": 40.5}, "invoice_invalid", "amountBilled"),
        ({"network": ...}, "invoice_invalid", "network"),
        ({"reference": 17}, "invoice_invalid", "reference"),
        ({"successRedirectUrl": "shop"}, "invoice_invalid", "successRedirectUrl"),
        ({"paymentMethods": "on_chain"}, "invoice_invalid", "paymentMethods"),
        ({"paymentMethods": ["cash"]}, "invoice_invalid", "paymentMethods"),
        ({"paymentMethods": ["nft"]}, "invoice_invalid", "paymentMethods"),
        ({"paymentMethods": []}, "payment_methods_conflict", None),
        ({"billedCurrency": "TRY"}, "invoice_invalid", "targetCurrency"),
        ({"targetCurrency": "GBP"}, "invoice_invalid", "targetCurrency"),
        ({"targetCurrency": "EUR", "targetAccountId": "1"}, "invoice_invalid", "targetAccountId"),
        ({"billedCurrency": "XYZ"}, "currency_pair_not_supported", None),
        ({"chargedCurrency": "BTC"}, "currency_pair_not_supported", None),
        ({"network": "txrp"}, "currency_pair_not_supported", None),
    ],
)
def test_a_bad_attribute_is_named(api, fields, code, pointer):
    response = api.create(**fields)
    (error,) = response.json()["errors"]
    assert (response.status_code, error["code"]) == (422, code)
    assert error.get("source") == (pointer and {"pointer": f"/data/attributes/{pointer}"})
    assert not Payment.objects.exists()


@pytest.mark.parametrize(
    "body", ["{", "[]", "{}", '{"data": {"type": "orders", "attributes": {}}}', '{"data": {"type": "invoices"}}']
)
def test_a_body_that_is_no_document(api, body):
    response = api.post(body)
    assert (response.status_code, response.json()["errors"][0]["code"]) == (400, "bad_request")


def test_the_media_type_is_asked_for(api):
    assert api.post({"data": {"type": "invoices", "attributes": {}}}, content_type="application/json").status_code == 400


@pytest.mark.parametrize("header", ["", "Bearer", f"Bearer {KEY}x", f"Token {KEY}", KEY])
def test_an_unknown_key_is_401(api, header):
    response = api.client.get(api.base + "invoices", headers={"Authorization": header})
    assert response.status_code == 401
    assert response.json() == {"errors": [{"status": 401, "title": "HTTP Token: Access denied.", "code": "unauthorized"}]}


def test_an_invoice_belongs_to_its_merchant(api):
    id = api.invoice(reference="mine")
    response = api.get(f"invoices/{id}", key=OTHER_KEY)
    assert (response.status_code, response.json()["errors"][0]["code"]) == (404, "invoice_not_found")
    assert api.get("invoices", key=OTHER_KEY).json()["data"] == []
    assert api.get("channels").status_code == 404


# --- Read ---


def references(api, **query):
    response = api.get("invoices", query)
    assert response.status_code == 200, response.content
    return [item["attributes"]["reference"] for item in response.json()["data"]]


def test_the_list_filters_sorts_and_pages(api):
    for reference in "abc":
        api.invoice(reference=reference)
    first, last = Payment.objects.order_by("pk").first(), Payment.objects.order_by("pk").last()
    Payment.objects.filter(pk=first.pk).update(created_at=last.created_at - timedelta(days=2))
    Payment.objects.filter(pk=last.pk).update(created_at=last.created_at + timedelta(seconds=1))
    assert references(api) == ["c", "b", "a"]
    assert references(api, order="created_at", order_type="asc") == ["a", "b", "c"]
    assert references(api, reference="b") == ["b"]
    assert references(api, page=2, per_page=2) == ["a"]
    yesterday = (last.created_at - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert references(api, created_at_from=yesterday) == ["c", "b"]
    assert references(api, created_at_to=yesterday) == ["a"]
    document = api.get("invoices", {"reference": "a"}).json()
    assert document["data"][0]["relationships"]["coinDeposits"] == UNLOADED
    assert len(included(document, "addresses")) == 1


def test_the_creation_time_that_is_shown_finds_its_invoice(api):
    created = api.read(api.invoice(reference="a"))["data"]["attributes"]["createdAt"]
    assert references(api, created_at_from=created, created_at_to=created) == ["a"]


@pytest.mark.parametrize(
    "query",
    [
        {"order": "amount"},
        {"order_type": "up"},
        {"page": "0"},
        {"per_page": "101"},
        {"created_at_from": "yesterday"},
        {"created_at_to": "2026-13-01T00:00:00Z"},
    ],
)
def test_a_bad_filter_is_refused(api, query):
    assert api.get("invoices", query).status_code == 422


def test_currency_pairs_lead_to_network_codes(api):
    document = api.get("invoices/currency_pairs").json()
    by_id = {(item["type"], item["id"]): item for item in document["included"]}
    (pair,) = [
        item
        for item in document["data"]
        if [item["relationships"][name]["data"]["id"] for name in ("billedCurrency", "chargedCurrency")] == ["TRY", "USDT"]
    ]
    assert (pair["type"], pair["attributes"]) == ("invoiceCurrencyPairs", {"direction": "sell", "enabled": True})
    coin = by_id["currencies", "USDT"]
    networks = [by_id[one["type"], one["id"]]["attributes"]["code"] for one in coin["relationships"]["networks"]["data"]]
    assert networks == ["ttrx:usdt"]
    charged = {item["relationships"]["chargedCurrency"]["data"]["id"] for item in document["data"]}
    assert charged == {"USDT", "USDC", "POL", "XRP"}


def test_the_exchange_rate(api):
    document = api.get("exchange/rate", {"sell_currency_code": "EUR", "buy_currency_code": "USDT"}).json()
    assert document["data"] == {
        "id": "USDTEUR/10.0USDT",
        "type": "exchangeRates",
        "attributes": {
            "baseCurrencyCode": "USDT",
            "quoteCurrencyCode": "EUR",
            "direction": "mid_market_rate",
            "price": "0.90909091",
            "quantity": "10.0",
        },
    }
    response = api.get("exchange/rate", {"sell_currency_code": "EUR", "buy_currency_code": "XYZ"})
    assert (response.status_code, response.json()["errors"][0]["code"]) == (422, "currency_pair_not_supported")


# --- Life ---


def test_a_full_payment_is_told_thrice(api, control, told):
    id = api.invoice(reference="A-1")
    assert control.act(id, "pay")["txs"][0]["amount"] == "44"
    assert api.triple(id) == ("completed", "onTime", "full")
    assert told.received == []  # never inside the request that changed the state
    control.deliver()
    assert [triple(body) for body in told.bodies] == [
        ("pending", "expecting", "unpaid"),
        ("processing", "onTime", "unpaid"),
        ("completed", "onTime", "full"),
    ]
    read = api.read(id)
    assert read.pop("jsonapi") == {"version": "1.0"}
    assert told.bodies[2] == read
    relationships = read["data"]["relationships"]
    (deposit,), (fee,) = included(read, "coinTransactions"), included(read, "invoiceTransactions")
    assert relationships["coinDeposits"] == {"data": [{"type": "coinTransactions", "id": deposit["id"]}]}
    assert relationships["invoiceTransactions"] == {"data": [{"type": "invoiceTransactions", "id": fee["id"]}]}
    assert relationships["refundLinks"] == {"data": []}
    assert [deposit["attributes"][name] for name in ("amount", "currencyCode", "state")] == ["44.000000", "USDT", "processed"]
    assert included(told.bodies[1], "coinTransactions")[0]["attributes"]["state"] == "pending"
    assert (fee["attributes"]["transactionFee"], fee["attributes"]["transactionFeeCurrency"]) == ("0.40", "EUR")
    assert "webhook-signature" not in told.received[0][0] and "webhook-id" not in told.received[0][0]


@pytest.mark.parametrize(("action", "context"), [("pay_part", "underpaid"), ("pay_more", "overpaid")])
def test_a_wrong_amount_is_completed_all_the_same(api, control, action, context):
    id = api.invoice()
    control.act(id, action)
    assert api.triple(id) == ("completed", "onTime", context)


def test_a_single_payment(api, control):
    control.misbehave("confirm_by_hand")
    id = api.invoice()
    control.act(id, "pay_part", amount="1")
    assert api.triple(id) == ("processing", "onTime", "unpaid")
    control.refused(id, "pay")
    assert control.act(id, "confirm")["status"] == "completed"
    control.refused(id, "pay")
    control.refused(api.invoice(), "choose")


def test_expired_is_not_final(api, control, told):
    id = api.invoice()
    control.act(id, "expire")
    assert api.triple(id) == ("expired", "expecting", "unpaid")
    control.act(id, "pay")
    assert api.triple(id) == ("completed", "late", "full")
    control.deliver()
    assert [triple(body) for body in told.bodies] == [
        ("pending", "expecting", "unpaid"),
        ("expired", "expecting", "unpaid"),
        ("processing", "late", "unpaid"),
        ("completed", "late", "full"),
    ]


def test_the_clock_expires_and_cancels(api, told):
    id = api.invoice()
    assert actions.advance_due(later(minutes=19)) == 0
    assert actions.advance_due(later(minutes=21)) == 1
    assert actions.advance_due(later(hours=167)) == 0
    assert api.triple(id) == ("expired", "expecting", "unpaid")
    assert actions.advance_due(later(hours=169)) == 1
    assert api.triple(id) == ("cancelled", "expecting", "unpaid")
    assert list(Payment.objects.get().jobs.values_list("word", flat=True)) == ["pending", "expired", "cancelled"]


def test_cancelled_takes_no_money(api, control):
    id = api.invoice()
    control.refused(id, "cancel")
    control.act(id, "expire")
    assert control.act(id, "cancel")["status"] == "cancelled"
    control.refused(id, "pay")


def test_a_review_that_is_released(api, control):
    control.misbehave("confirm_by_hand")
    id = api.invoice()
    control.act(id, "pay")
    control.act(id, "hold")
    assert api.triple(id) == ("on_hold", "expecting", "unpaid")
    control.act(id, "confirm")
    assert included(api.read(id), "coinTransactions")[0]["attributes"]["state"] == "on_hold_confirmed"
    control.act(id, "release")
    assert api.triple(id) == ("completed", "onTime", "full")


@pytest.mark.parametrize("path", [[], ["expire"]])
def test_a_review_without_money_changes_nothing(api, control, path):
    id = api.invoice()
    for action in path:
        control.act(id, action)
    before = api.triple(id)
    control.act(id, "hold")
    control.act(id, "release")
    assert api.triple(id) == before


def test_a_review_that_is_rejected(api, control, told):
    id = api.invoice()
    control.refused(id, "reject")
    control.act(id, "hold")
    control.act(id, "pay")
    assert api.triple(id) == ("on_hold", "expecting", "unpaid")
    control.act(id, "reject")
    assert api.triple(id) == ("rejected", "expecting", "unpaid")
    control.refused(id, "release")
    control.deliver()
    assert [triple(body)[0] for body in told.bodies] == ["pending", "on_hold", "rejected"]


@pytest.mark.parametrize(("late", "payment_status"), [(False, "onTime"), (True, "late")])
def test_the_policy_that_rejects(api, control, told, late, payment_status):
    control.misbehave("confirm_by_hand")
    id = api.invoice(reference="A-1")
    if late:
        control.act(id, "expire")
    control.act(id, "pay" if late else "pay_part", amount="30")
    control.act(id, "refund_link")
    assert api.triple(id) == ("cancelled", payment_status, "unpaid")
    document = api.read(id)
    (link,) = included(document, "paymentLinks")
    assert document["data"]["relationships"]["refundLinks"] == {"data": [{"type": "paymentLinks", "id": link["id"]}]}
    assert (link["attributes"]["amount"], link["attributes"]["reference"]) == ("29.000000", "REFUND-A-1")
    assert f"payment_link_id={link['id']}" in link["attributes"]["hostedPageUrl"]
    control.deliver()
    assert included(told.bodies[-1], "paymentLinks") == [link]


def test_the_policy_that_returns_the_excess(api, control):
    id = api.invoice()
    control.act(id, "pay_more", amount="50")
    control.act(id, "refund_link")
    document = api.read(id)
    assert triple(document) == ("completed", "onTime", "overpaid")
    assert included(document, "paymentLinks")[0]["attributes"]["amount"] == "5.000000"  # 50 - 44 - the fee of 1
    control.refused(id, "refund_link")


def test_there_is_no_link_for_less_than_the_fees(api, control):
    id = api.invoice()
    control.act(id, "pay_more", amount="44.9")
    control.act(id, "refund_link")
    assert included(api.read(id), "paymentLinks") == []


@pytest.mark.parametrize("action", ["pay", "pay_part"])
def test_the_policy_is_not_for_what_is_credited(api, control, action):
    id = api.invoice()
    control.act(id, action)
    control.refused(id, "refund_link")


def test_the_payers_page(api, client, control):
    id = api.invoice(successRedirectUrl="https://shop.example/thanks", unsuccessRedirectUrl="https://shop.example/sorry")
    url = reverse("simulator:pay", args=["txn", id])
    page = client.get(url).content.decode()
    assert "44 USDT" in page and "Hold it for a compliance review" in page and "shop.example" not in page
    assert client.post(url, {"action": "expire"}).status_code == 302
    assert "https://shop.example/sorry" in client.get(url).content.decode()
    assert client.post(url, {"action": "pay"}).status_code == 302
    assert "https://shop.example/thanks" in client.get(url).content.decode()


# --- Webhooks ---


def test_sign_agrees_with_the_published_vector():
    signature = sign("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}', SECRET)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_signs_each_attempt(api, control, told, merchant):
    merchant["WEBHOOK_SECRET"] = SECRET
    told.answers = [(500, ""), (200, "")]
    api.invoice()
    control.deliver()
    assert callbacks.deliver_due(later(minutes=5)) == 1
    (first, body), (second, again) = told.received
    assert first["webhook-id"] == second["webhook-id"] and body == again
    assert abs(int(second["webhook-timestamp"]) - time.time()) < 60
    signed = f"{second['webhook-id']}.{second['webhook-timestamp']}.".encode() + body
    digest = hmac.new(base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), signed, hashlib.sha256).digest()
    assert second["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


def test_eight_attempts_on_the_documented_schedule(api, told, settings):
    settings.SIMULATOR["TIME_SCALE"] = 1
    told.answers = [(500, "")]
    now = later(seconds=1)
    api.invoice()
    for wait in (0, 5, 300, 1800, 7200, 18000, 36000, 36000):
        if wait:
            assert callbacks.deliver_due(now + timedelta(seconds=wait - 1)) == 0
        now += timedelta(seconds=wait)
        assert callbacks.deliver_due(now) == 1
    assert callbacks.deliver_due(now + timedelta(days=9)) == 0


@pytest.mark.parametrize(("status", "accepted"), [(200, True), (204, True), (302, False), (404, False)])
def test_any_2xx_accepts(api, control, told, status, accepted):
    told.answers = [(status, "whatever")]
    api.invoice()
    assert [row["accepted"] for row in control.deliver()] == [accepted]


def test_a_deleted_key_ends_the_webhooks(api, control, told, merchant):
    id = api.invoice()
    merchant["API_KEYS"] = [OTHER_KEY]
    control.act(id, "pay")
    control.deliver()
    assert [triple(body)[0] for body in told.bodies] == ["pending"]


# --- Misbehaviour ---


@pytest.mark.parametrize("status", [429, 503])
def test_it_is_overloaded(api, control, status):
    control.misbehave("api_status", value=status, count=1)
    response = api.create()
    assert (response.status_code, response.json()["errors"][0]["status"]) == (status, status)
    assert api.invoice()


def test_an_answer_that_is_lost_is_found_by_its_reference(api, control):
    control.misbehave("api_cut", count=1)
    with pytest.raises(ConnectionAbortedError):
        b"".join(api.create(reference="A-1"))
    assert references(api, reference="A-1") == ["A-1"]
    assert api.create(reference="A-1").status_code == 422


def test_webhooks_out_of_order(api, control, told):
    control.misbehave("callback_reorder", value=3, count=1)
    control.act(api.invoice(), "pay")
    control.deliver()
    assert [triple(body)[0] for body in told.bodies] == ["completed", "processing", "pending"]
