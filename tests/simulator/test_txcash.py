"""tx.cash: its endpoints, what happens to its invoices, and what is told to the shop."""

from datetime import datetime, timedelta
from urllib.parse import urlencode

import pytest
import simplejson
from django.urls import reverse
from django.utils import timezone

from crypto_invoices.simulator import actions, callbacks
from crypto_invoices.simulator.models import Payment

from .conftest import Control

KEY = "key-of-this-account"
OTHER_KEY = "key-of-another-account"
FORM = "application/x-www-form-urlencoded"
COINS = ["eth_eth", "eth_usdt", "eth_usdc", "polygon_eth", "polygon_usdt", "polygon_usdc"]


class Api:
    """The invoice API through Django's test client; forms, as on the vendor's page, unless JSON is asked for."""

    def __init__(self, client):
        self.client = client
        self.base = reverse("simulator:index") + "txcash/invoice/v1/testnet/"
        self.headers = {"Authorization": f"Bearer {KEY}"}

    def post(self, path, fields, json=False, headers=None):
        body, content_type = (simplejson.dumps(fields), "application/json") if json else (urlencode(fields), FORM)
        return self.client.post(self.base + path, body, content_type=content_type, headers=headers or self.headers)

    def invoice(self, **fields):
        response = self.post("invoice", {"amount": "10", **fields})
        assert response.status_code == 200, response.content
        return exact(response)

    def get(self, id, headers=None):
        return self.client.get(f"{self.base}invoice/{id}", headers=headers or self.headers)

    def read(self, id):
        return exact(self.get(id))

    def state(self, id):
        invoice = self.read(id)
        return invoice["status_code"], invoice["status"], invoice["paid_amount"], len(invoice["payments"])

    def address(self, id, payment_currency, **extra):
        return self.post(f"invoice/{id}/payment/address", {"payment_currency": payment_currency}, **extra)


def exact(response):
    return simplejson.loads(response.content, use_decimal=True)


def moment(text):
    assert text.endswith("Z")
    return datetime.fromisoformat(text)


@pytest.fixture(autouse=True)
def account(simulator_settings):
    simulator_settings["TXCASH"] = {"API_KEYS": [KEY, OTHER_KEY], "ACCOUNT_NAME": "Tea shop"}
    return simulator_settings["TXCASH"]


@pytest.fixture
def api(client, db):
    return Api(client)


@pytest.fixture
def control(client, db):
    return Control(client, "txcash")


# --- The API ---
@pytest.mark.parametrize("json", [False, True])
def test_create_answers_the_invoice(api, json):
    given = {
        "amount": "12.50",
        "name": "Order 7",
        "currency": "eur",
        "payment_currencies": "eth_stables",
        "valid_for": "2h45m",
        "callback_url": "https://shop.example/callback?a=1",
        "success_url": "https://shop.example/thanks?b=2",
        "fail_url": "http://shop.example/sorry",
        "description": "Tea & cake",
        "meta_data1": "Ä-1",
        "meta_data2": "two",
    }
    response = api.post("invoice", given, json=json)
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")
    invoice = exact(response)
    id, created, expires = (invoice.pop(name) for name in ("id", "created_at", "expires_on"))
    assert moment(expires) - moment(created) == timedelta(hours=2, minutes=45)
    assert invoice == {
        "url": f"http://testserver{reverse('simulator:pay', args=['txcash', id])}",
        "amount": 12.5,
        "paid_amount": 0,
        "base_currency": "EUR",
        "name": "Order 7",
        "description": "Tea & cake",
        "account_name": "Tea shop",
        "status": "pending",
        "status_code": 0,
        "notify_url": "https://shop.example/callback?a=1",
        "suceess_url": "https://shop.example/thanks?b=2",
        "fail_url": "http://shop.example/sorry",
        "payments": [],
        "updated_at": "0001-01-01T00:00:00Z",
        "meta_data1": "Ä-1",
        "meta_data2": "two",
    }
    assert api.read(id) == exact(response)


def test_only_the_amount_is_required(api, account):
    account |= {"CURRENCY": "CHF", "VALID_MINUTES": 20}
    invoice = api.invoice()
    assert (invoice["base_currency"], invoice["notify_url"], invoice["meta_data1"]) == ("CHF", "", "")
    assert moment(invoice["expires_on"]) - moment(invoice["created_at"]) == timedelta(minutes=20)


@pytest.mark.parametrize(("text", "seconds"), [("300s", 300), ("2h45m", 9900), ("90m", 5400), ("1h1m1s", 3661), ("30s1h", 3630)])
def test_durations(api, text, seconds):
    invoice = api.invoice(valid_for=text)
    assert moment(invoice["expires_on"]) - moment(invoice["created_at"]) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", ""),
        ("amount", "0"),
        ("amount", "-1"),
        ("amount", "ten"),
        ("amount", True),
        ("currency", "XYZ"),
        ("currency", "ETH"),
        ("currency", 840),
        ("payment_currencies", "tron_usdt"),
        ("payment_currencies", "eth_eth,"),
        ("payment_currencies", ["eth_eth"]),
        ("valid_for", "300"),
        ("valid_for", 300),
        ("valid_for", ""),
        ("valid_for", "0s"),
        ("valid_for", "1d"),
        ("valid_for", "-5m"),
        ("valid_for", "5m 3s"),
        ("valid_for", "9999h"),
        ("callback_url", "shop.example/callback"),
        ("callback_url", "ftp://shop.example/"),
        ("success_url", "javascript:alert(1)"),
        ("fail_url", "https://"),
        ("fail_url", "http://[::1/"),
        ("name", 5),
        ("meta_data1", None),
    ],
)
def test_a_bad_field_is_named(api, field, value):
    response = api.post("invoice", {"amount": 10, field: value}, json=True)
    assert response.status_code == 400
    error = response.json()
    assert list(error) == ["message", "errors"]
    (item,) = error["errors"]
    assert list(item) == ["resource", "code", "field", "description"]
    assert (item["field"], error["message"] != "") == (field, True)
    assert not Payment.objects.exists()


@pytest.mark.parametrize(
    ("body", "content_type", "field"),
    [("{", "application/json", "body"), ("name=x", FORM, "amount"), ("amount=10", "text/plain", "Content-Type")],
)
def test_a_body_that_is_no_request(api, body, content_type, field):
    response = api.client.post(api.base + "invoice", body, content_type=content_type, headers=api.headers)
    assert (response.status_code, response.json()["errors"][0]["field"]) == (400, field)


@pytest.mark.parametrize("headers", [{"X-Api-Key": KEY}, {"Authorization": KEY}, {"Authorization": "Bearer wrong"}])
def test_a_wrong_key_is_401_in_the_same_shape(api, headers):
    id = api.invoice()["id"]
    for response in (
        api.post("invoice", {"amount": 10}, headers=headers),
        api.get(id, headers=headers),
        api.address(id, "eth_eth", headers=headers),
    ):
        assert (response.status_code, list(response.json())) == (401, ["message", "errors"])


def test_the_scheme_of_the_key_is_a_setting(api, account):
    account |= {"AUTHORIZATION_HEADER": "X-Api-Key", "AUTHORIZATION_PREFIX": ""}
    assert api.post("invoice", {"amount": 1}, headers={"X-Api-Key": KEY}).status_code == 200
    assert api.post("invoice", {"amount": 1}).status_code == 401


def test_an_invoice_belongs_to_its_account(api):
    id = api.invoice()["id"]
    other = {"Authorization": f"Bearer {OTHER_KEY}"}
    for response in (api.get(id, headers=other), api.address(id, "eth_eth", headers=other), api.get("0" * 8)):
        assert (response.status_code, list(response.json())) == (404, ["message", "errors"])


def test_other_paths_and_methods_are_not_there(api):
    for path in ("", "invoice", "invoices", "../mainnet/invoice"):
        assert api.client.get(api.base + path, headers=api.headers).status_code == 404


# --- Coins and addresses ---
@pytest.mark.parametrize(
    ("given", "accepted"),
    [
        ("all", COINS),
        ("eth_stables", ["eth_usdt", "eth_usdc"]),
        ("polygon_stables,eth_eth", ["eth_eth", "polygon_usdt", "polygon_usdc"]),
        ("Polygon_ETH, eth_usdt", ["eth_usdt", "polygon_eth"]),
    ],
)
def test_the_filters_say_what_may_be_paid_with(api, given, accepted):
    id = api.invoice(payment_currencies=given)["id"]
    assert [name for name in COINS if api.address(id, name).status_code == 200] == accepted


@pytest.mark.parametrize("json", [False, True])
def test_a_payment_address(api, json):
    id = api.invoice(amount="11", currency="EUR")["id"]  # 12.10 USD
    answer = exact(api.address(id, "eth_eth", json=json))
    assert list(answer) == ["invoice_id", "address", "amount", "currency"]
    assert (answer["invoice_id"], str(answer["amount"]), answer["currency"]) == (id, "0.00484", "eth_eth")
    assert answer["address"].startswith("0x") and len(answer["address"]) == 42
    other = exact(api.address(id, "polygon_usdc"))
    assert (str(other["amount"]), other["currency"], other["address"]) == ("12.1", "polygon_usdc", answer["address"])


@pytest.mark.parametrize("name", ["", "eth_btc", "all"])
def test_a_payment_address_for_another_coin_is_refused(api, name):
    response = api.address(api.invoice()["id"], name)
    assert (response.status_code, response.json()["errors"][0]["field"]) == (400, "payment_currency")


def test_a_paid_invoice_gives_no_address(api, control):
    id = api.invoice()["id"]
    control.act(id, "pay")
    response = api.address(id, "eth_eth")
    assert (response.status_code, list(response.json())) == (400, ["message", "errors"])


# --- Paying ---
def test_a_full_payment_is_told_when_it_arrives_and_when_it_is_paid(api, control, shop):
    id = api.invoice(currency="EUR", callback_url=shop.url)["id"]
    state = control.act(id, "pay", currency="USDT", network="polygon")
    assert (state["status"], state["txs"][0]["amount"]) == ("paid", "11")
    control.deliver()
    assert [(body["status_code"], body["status"]) for body in shop.bodies] == [(0, "pending"), (1, "paid")]
    assert [[item["confirmation"] for item in body["payments"]] for body in shop.bodies] == [[1], [40]]
    invoice = api.read(id)
    assert simplejson.loads(shop.received[1][1], use_decimal=True) == invoice  # the object itself
    assert not [name for name in shop.received[1][0] if "sign" in name.lower() or name.lower() == "authorization"]
    (payment,) = invoice["payments"]
    assert list(payment) == ["tx_hash", "explorer_url", "amount", "date", "confirmation"]
    assert payment["explorer_url"].endswith(payment["tx_hash"]) and payment["tx_hash"].startswith("0x")
    assert (payment["amount"], invoice["paid_amount"]) == (11, 10)
    assert moment(payment["date"]) <= moment(invoice["updated_at"])


def test_a_transfer_counts_when_it_is_confirmed(api, control, shop):
    control.misbehave("confirm_by_hand")
    id = api.invoice(callback_url=shop.url)["id"]
    control.act(id, "pay", currency="USDT")
    assert api.state(id) == (0, "pending", 0, 1)
    assert control.act(id, "expire")["status"] == "pending"
    assert control.act(id, "confirm")["status"] == "paid"
    control.deliver()
    assert shop.words == ["pending", "paid"]


def test_under_paid_is_topped_up(api, control, shop):
    id = api.invoice(callback_url=shop.url)["id"]
    control.act(id, "pay_part", amount="4", currency="USDT")
    assert api.state(id) == (2, "under paid", 4, 1)
    control.act(id, "pay_part", amount="1")
    assert api.state(id) == (2, "under paid", 5, 2)
    assert exact(api.address(id, "eth_eth"))["amount"] == simplejson.loads("0.002", use_decimal=True)
    control.act(id, "pay")
    assert api.state(id) == (1, "paid", 10, 3)
    control.deliver()
    assert [(body["status"], len(body["payments"])) for body in shop.bodies] == [
        ("pending", 1),
        ("under paid", 1),
        ("under paid", 2),
        ("under paid", 3),
        ("paid", 3),
    ]


def test_under_paid_stays_so_at_the_deadline(api, control):
    id = api.invoice()["id"]
    control.act(id, "pay_part")
    assert actions.advance_due(timezone.now() + timedelta(hours=2)) == 0
    assert api.state(id) == (2, "under paid", 5, 1)
    control.refused(id, "expire")


@pytest.mark.parametrize("at_once", [True, False])
def test_too_much_is_overpaid(api, control, shop, at_once):
    id = api.invoice(callback_url=shop.url)["id"]
    if at_once:
        control.act(id, "pay_more", amount="12", currency="USDC")
    else:
        control.act(id, "pay", currency="USDC")
        control.act(id, "pay", amount="2")
    assert api.state(id) == (3, "overpaid", 12, 1 if at_once else 2)
    control.deliver()
    assert shop.words[-1] == "overpaid"


def test_what_is_asked_for_is_not_too_much(api, control):
    id = api.invoice(amount="0.01", currency="JPY")["id"]
    assert control.act(id, "pay", currency="ETH")["txs"][0]["amount"] == "0.00000004"  # 0.00008 USD are 0.000000032 ETH
    assert api.state(id)[:2] == (1, "paid")


def test_nothing_by_the_deadline_is_expired_and_told(api, control, shop):
    id = api.invoice(callback_url=shop.url, valid_for="300s")["id"]
    assert actions.advance_due(timezone.now() + timedelta(seconds=299)) == 0
    assert actions.advance_due(timezone.now() + timedelta(seconds=301)) == 1
    assert api.state(id) == (4, "expired", 0, 0)
    callbacks.deliver_due(timezone.now() + timedelta(seconds=301))
    assert shop.words == ["expired"]
    assert "no address" in control.refused(id, "pay")["error"]


def test_late_money_is_told_and_leaves_it_expired(api, control, shop):
    id = api.invoice(callback_url=shop.url)["id"]
    api.address(id, "eth_usdt")
    control.act(id, "expire")
    control.act(id, "pay")
    assert api.state(id) == (4, "expired", 10, 1)
    control.deliver()
    assert [(body["status"], len(body["payments"])) for body in shop.bodies] == [("expired", 0), ("expired", 1)]


def test_the_payer_cancels(api, control, client, shop):
    invoice = api.invoice(callback_url=shop.url, fail_url="https://shop.example/sorry")
    page = client.get(invoice["url"]).content.decode()
    payer = page[page.index("<h2>The payer</h2>") :]
    assert "<button>Cancel</button>" in payer[: payer.index("</section>")]
    assert client.post(invoice["url"], {"action": "cancel"}).status_code == 302
    assert api.state(invoice["id"]) == (5, "cancelled", 0, 0)
    assert 'href="https://shop.example/sorry"' in client.get(invoice["url"]).content.decode()
    control.deliver()
    assert shop.words == ["cancelled"]
    for never in ("pay", "choose", "expire", "cancel"):
        control.refused(invoice["id"], never)


@pytest.mark.parametrize("never", ["refund", "accept", "aml", "fail"])
def test_what_no_source_names_is_refused(api, control, never):
    assert control.refused(api.invoice()["id"], never)["source"] == "no source names it"


def test_the_page_leads_back_to_the_shop(api, control, client):
    invoice = api.invoice(success_url="https://shop.example/thanks")
    assert "shop.example/thanks" not in client.get(invoice["url"]).content.decode()
    control.act(invoice["id"], "pay", currency="ETH", network="polygon")
    assert 'href="https://shop.example/thanks"' in client.get(invoice["url"]).content.decode()


def test_the_page_asks_how_much_more_is_sent_to_a_paid_invoice(api, control, client):
    invoice = api.invoice()
    assert 'id="pay-amount"' not in client.get(invoice["url"]).content.decode()
    control.act(invoice["id"], "pay", currency="USDT")
    page = client.get(invoice["url"]).content.decode()
    (field,) = [line for line in page.splitlines() if 'id="pay-amount"' in line]
    assert field.endswith("required></div>")
    assert client.post(invoice["url"], {"action": "pay", "amount": "1"}).status_code == 302
    assert api.state(invoice["id"])[:2] == (3, "overpaid")


# --- Callbacks ---
def test_any_2xx_ends_the_delivery_and_retries_are_few(api, control, shop):
    shop.answers = [(500, ""), (302, ""), (404, "ok"), (204, "")]
    id = api.invoice(callback_url=shop.url)["id"]
    control.act(id, "cancel")
    assert [callbacks.deliver_due(timezone.now() + timedelta(days=day)) for day in range(1, 7)] == [1, 1, 1, 1, 0, 0]
    assert [row["accepted"] for row in control.state(id)["callbacks"]] == [False, False, False, True]


def test_the_switches_work(api, control, shop):
    control.misbehave("callback_reorder", count=1)
    id = api.invoice(callback_url=shop.url)["id"]
    control.act(id, "pay", currency="ETH")
    control.deliver()
    assert shop.words == ["paid", "pending"]
    control.misbehave("api_cut", count=1)
    with pytest.raises(ConnectionAbortedError):
        b"".join(api.post("invoice", {"amount": 1}))
    assert Payment.objects.count() == 2
