import copy
import json
import logging
from dataclasses import fields as fields_of
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from urllib.parse import parse_qsl

import environ
import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crypto_invoices import conf
from crypto_invoices.exceptions import GatewayRefused, GatewayUnavailable, GatewayUncertain, InvalidRequest, NotSupported
from crypto_invoices.providers.base import Ack, Capability, CreateRequest, Evidence, Hint, Kind, Page, Remote, RemoteTransfer
from crypto_invoices.providers.options import read_options
from crypto_invoices.providers.oxapay import OxaPayCreateOptions
from crypto_invoices.providers.txcash import TxCash, TxCashCreateOptions, TxCashOptions
from crypto_invoices.statuses import InvoiceStatus, Source

KEY = "TXKEY/01-TXKEY02"
REFERENCE = "abcdefghijklmnopqrstuvwxyz"
CALLBACK = "https://shop.example/callbacks/default/token/"
PLAIN = CreateRequest(reference=REFERENCE, amount=Decimal("25"), currency="USD", callback_url=CALLBACK)
OWN = replace(PLAIN, page=Page.OWN, pay_currencies=("USDT@polygon",))
ASKED = Remote(Kind.INVOICE, "inv-1", REFERENCE)

# Answers after the schemas of the vendor's pages, every documented field filled.
CREATED = {
    "id": "inv-1",
    "url": "https://pay.tx.example/inv-1",
    "amount": 25,
    "paid_amount": 0,
    "prices": [],
    "base_currency": "usd",
    "name": "1001",
    "description": "",
    "account_name": "Shop",
    "status": "pending",
    "status_code": 0,
    "notify_url": CALLBACK,
    "suceess_url": "https://shop.example/thanks/",
    "fail_url": "",
    "expires_on": "2026-11-22T12:00:00.123456789Z",
    "payments": None,
    "created_at": "2026-11-22T11:00:00Z",
    "updated_at": "0001-01-01T00:00:00Z",
    "meta_data1": REFERENCE,
    "meta_data2": "",
}
PAYMENT = {
    "tx_hash": "0xaaa1",
    "explorer_url": "https://polygonscan.com/tx/0xaaa1",
    "amount": 0.5,
    "date": "2026-11-22T14:30:00.999999999+03:00",
    "confirmation": 12,
}
PAID = CREATED | {"status": "paid", "status_code": 1, "paid_amount": 25, "payments": [PAYMENT]}
ADDRESS = {"invoice_id": "inv-1", "address": "0xReceiver", "amount": 25.05, "currency": "polygon_usdt"}


@pytest.fixture
def txcash(stub):
    return provider(stub)


def build(**values):
    return TxCash(read_options(TxCashOptions, {"api_key": KEY} | values), alias="main")


def provider(stub, **values):
    built = build(**{"base_url": stub.url + "/invoice/v1"} | values)
    built.client._sleep = lambda seconds: None
    return built


def options(**values):
    return read_options(TxCashCreateOptions, values)


def sent(stub, request, *answers, **values):
    """The first request of a create call."""
    stub.seen.clear()
    stub.script += [(200, answer) for answer in answers or (CREATED,)]
    provider(stub, **values).create(request)
    return stub.seen[0]


def form(seen):
    return dict(parse_qsl(seen.body.decode(), keep_blank_values=True, strict_parsing=True))


def fetched(stub, answer, remote=ASKED, **values):
    stub.script.append((200, answer if isinstance(answer, (bytes, dict)) else dict(answer)))
    return provider(stub, **values).fetch(remote)


# The contract


def test_the_declarations():
    assert TxCash.capabilities == {Capability.OWN_PAGE}
    assert not any(hasattr(TxCash, name) for name in ("find", "cancel", "create_static_address", "revoke_static_address"))
    assert (TxCash.watch, TxCash.default_lifetime, TxCash.page_hosts) == (timedelta(hours=48), None, frozenset())
    assert (TxCash.signature_headers, TxCash.signed_fields, TxCash.account_callbacks) == ((), frozenset(), False)
    assert build(sandbox=True).acknowledge() == Ack(b"", "text/plain", 200)


def test_T37_every_word_of_the_map():
    assert TxCash.statuses == {
        "pending": "pending",
        "paid": "paid",
        "underpaid": "underpaid",
        "overpaid": "overpaid",
        "expired": "expired",
        "cancelled": "cancelled",
    }
    assert TxCash.final == {"paid", "overpaid", "expired", "cancelled"}


# Every documented parameter

PARAMETERS = {
    "POST /invoice": {
        "amount": "argument amount",
        "name": "argument order_id",
        "currency": "argument currency",
        "payment_currencies": "argument pay_currencies",
        "valid_for": "argument lifetime",
        "callback_url": "argument callback_url",
        "success_url": "argument return_url",
        "fail_url": "argument cancel_url",
        "description": "argument description",
        "meta_data1": "set by us: our reference; there is no other field that comes back",
        "meta_data2": "option meta_data2",
    },
    "POST /invoice/{id}/payment/address": {"payment_currency": "argument pay_currencies"},
    "GET /invoice/{id}": {},
}
MOST = replace(
    PLAIN,
    amount=Decimal("10.10"),
    currency="EUR",
    order_id="1001",
    description="Zwei Bücher & mehr",
    email="a@b.example",
    lifetime=timedelta(hours=2, minutes=45),
    pay_currencies=("ETH", "USDT@polygon", "ETH@ethereum"),
    return_url="https://shop.example/thanks/?a=1",
    cancel_url="https://shop.example/cancel/",
    options=options(payment_groups=["eth_stables"], meta_data2="campaign"),
)
MOST_CREATED = CREATED | {"amount": 10.1, "base_currency": "EUR"}


def test_the_parameters_are_the_documented_ones():
    documented = json.loads((Path(__file__).parent / "parameters" / "txcash.json").read_text())
    assert {call: set(names) for call, names in PARAMETERS.items()} == {call: set(names) for call, names in documented.items()}
    known = {"argument": CreateRequest, "option": TxCashCreateOptions}
    for how in (how for names in PARAMETERS.values() for how in names.values() if not how.startswith("set by us: ")):
        kind, name = how.split(" ")
        assert name in {item.name for item in fields_of(known[kind])}


@pytest.mark.parametrize("encoding", ["form", "json"])
def test_every_documented_parameter_is_sent(stub, encoding):
    own = replace(MOST, page=Page.OWN, pay_currencies=("USDT@polygon",), options=options(meta_data2="campaign"))
    sent(stub, own, MOST_CREATED, ADDRESS, encoding=encoding)
    read = form if encoding == "form" else lambda seen: seen.json
    create, address = stub.seen
    assert set(read(create)) == set(PARAMETERS["POST /invoice"])
    assert read(address) == {"payment_currency": "polygon_usdt"}


# Create


def test_T22_the_complete_form_digit_by_digit(stub):
    seen = sent(stub, MOST, MOST_CREATED)
    assert (seen.method, seen.path) == ("POST", "/invoice/v1/invoice")
    assert seen.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert seen.headers["Authorization"] == f"Bearer {KEY}"
    assert seen.body == (
        b"amount=10.1&name=1001&currency=EUR&payment_currencies=eth_eth%2Cpolygon_usdt%2Ceth_stables&valid_for=9900s"
        b"&callback_url=https%3A%2F%2Fshop.example%2Fcallbacks%2Fdefault%2Ftoken%2F"
        b"&success_url=https%3A%2F%2Fshop.example%2Fthanks%2F%3Fa%3D1&fail_url=https%3A%2F%2Fshop.example%2Fcancel%2F"
        b"&description=Zwei+B%C3%BCcher+%26+mehr&meta_data1=abcdefghijklmnopqrstuvwxyz&meta_data2=campaign"
    )


def test_T22_the_complete_json_digit_by_digit(stub):
    seen = sent(stub, MOST, MOST_CREATED, encoding="json")
    assert seen.headers["Content-Type"] == "application/json"
    assert seen.body.decode() == (
        '{"amount":10.1,"name":"1001","currency":"EUR","payment_currencies":"eth_eth,polygon_usdt,eth_stables","valid_for":"9900s",'
        '"callback_url":"https://shop.example/callbacks/default/token/","success_url":"https://shop.example/thanks/?a=1",'
        '"fail_url":"https://shop.example/cancel/","description":"Zwei Bücher & mehr","meta_data1":"abcdefghijklmnopqrstuvwxyz",'
        '"meta_data2":"campaign"}'
    )


def test_the_accounts_own_settings_are_left_alone(stub):
    least = {"amount": "25", "currency": "USD", "callback_url": CALLBACK, "meta_data1": REFERENCE}
    assert form(sent(stub, PLAIN)) == least
    assert sent(stub, PLAIN, encoding="json").json == least | {"amount": 25}


@pytest.mark.parametrize(
    ("amount", "currency", "wire"),
    [
        (Decimal("1E+3"), "USD", "1000"),
        ("25.00", "USD", "25"),
        (7, "JPY", "7"),
        (Decimal("1.234"), "KWD", "1.234"),
        (Decimal("12345678901234567890.01"), "USD", "12345678901234567890.01"),
    ],
)
def test_T22_exact_digits_on_the_wire(stub, amount, currency, wire):
    request = replace(PLAIN, amount=amount, currency=currency)
    assert sent(stub, request).body.startswith(f"amount={wire}&".encode())
    assert sent(stub, request, encoding="json").body.startswith(f'{{"amount":{wire},'.encode())


@pytest.mark.parametrize(
    ("lifetime", "wire"),
    [
        (timedelta(seconds=1), "1s"),
        (timedelta(minutes=5), "300s"),
        (timedelta(hours=2, minutes=45), "9900s"),
        (timedelta(days=30), "2592000s"),
    ],
)
def test_a_lifetime_has_its_unit(stub, lifetime, wire):
    assert form(sent(stub, replace(PLAIN, lifetime=lifetime)))["valid_for"] == wire


@pytest.mark.parametrize(
    ("coins", "groups", "wire"),
    [
        (("ETH",), (), "eth_eth"),
        (("ETH@ethereum", "USDT@ethereum", "USDC@ethereum"), (), "eth_eth,eth_usdt,eth_usdc"),
        (("ETH@polygon", "USDT@polygon", "USDC@polygon"), (), "polygon_eth,polygon_usdt,polygon_usdc"),
        ((), ("all",), "all"),
        ((), ("eth_stables", "polygon_stables"), "eth_stables,polygon_stables"),
        (("ETH", "ETH@polygon"), ("polygon_stables", "polygon_stables"), "eth_eth,polygon_eth,polygon_stables"),
    ],
)
def test_the_coins_to_choose_from(stub, coins, groups, wire):
    request = replace(PLAIN, pay_currencies=coins, options=options(payment_groups=groups))
    assert form(sent(stub, request))["payment_currencies"] == wire


def test_T69_texts_stay_texts(stub):
    text = 'a"b\\c&amount=1\r\nX-Evil: 1\u2028😀'
    request = replace(PLAIN, order_id=text, description=text, options=options(meta_data2=text))
    body = form(sent(stub, request))
    assert (body["name"], body["description"], body["meta_data2"]) == (text,) * 3
    assert sent(stub, request, encoding="json").json == body | {"amount": 25}


def test_T69_long_texts_are_cut_at_a_code_point(stub):
    body = form(sent(stub, replace(PLAIN, order_id="é😀" * 20, description="é😀" * 20), text_length=17))
    assert body["name"] == body["description"] == "é😀" * 8 + "é"


def test_T69_what_comes_back_is_not_cut(stub):
    longest = replace(PLAIN, options=options(meta_data2="é😀" * 150))
    assert form(sent(stub, longest, text_length=300))["meta_data2"] == "é😀" * 150
    short = provider(stub, text_length=299)
    stub.seen.clear()
    for method in (short.validate, short.create):
        with pytest.raises(InvalidRequest, match="text_length, 299 characters") as caught:
            method(longest)
        assert caught.value.field == "meta_data2"
    assert stub.seen == []


def test_a_hosted_invoice(stub, txcash):
    stub.script.append((200, CREATED))
    made = txcash.create(PLAIN)
    assert (made.gateway_id, made.kind, made.word, made.status) == ("inv-1", Kind.INVOICE, "pending", InvoiceStatus.PENDING)
    assert made.payment_url == "https://pay.tx.example/inv-1"
    assert (made.price_amount, made.price_currency) == (Decimal(25), "USD")
    assert made.expires_at == datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
    assert (made.address, made.pay_amount, made.pay_currency, made.network) == ("", None, "", "")
    assert json.loads(made.raw) == CREATED


def test_a_hosted_invoice_told_with_the_least(stub, txcash):
    names = ("id", "url", "amount", "base_currency", "status", "status_code", "created_at")
    least = {name: CREATED[name] for name in names}
    stub.script += [(200, least), (200, least)]
    made = txcash.create(PLAIN)
    assert (made.gateway_id, made.expires_at) == ("inv-1", None)
    evidence = txcash.fetch(ASKED)
    assert (evidence.status, evidence.remote.reference, evidence.transfers) == (InvoiceStatus.PENDING, "", ())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", None),
        ("id", "../1"),
        ("id", True),
        ("url", None),
        ("url", "http://pay.tx.example/inv-1"),
        ("url", "javascript:alert(1)"),
        ("url", "http://127.0.0.2/1"),
        ("amount", None),
        ("amount", 0),
        ("amount", -25),
        ("amount", "many"),
        ("base_currency", None),
        ("base_currency", ["USD"]),
        ("status", None),
        ("status", 0),
        ("status_code", None),
        ("status_code", "pending"),
        ("status_code", 0.5),
        ("status_code", True),
        ("expires_on", "soon"),
        ("meta_data1", "zyxwvutsrqponmlkjihgfedcba"),
        ("meta_data1", 7),
    ],
)
def test_T66_T67_an_answer_that_does_not_fit_is_uncertain(stub, txcash, field, value):
    stub.script.append((200, CREATED | {field: value}))
    with pytest.raises(GatewayUncertain) as caught:
        txcash.create(PLAIN)
    assert (caught.value.operation, caught.value.http_status) == ("create", 200)
    assert f"{field}:" in caught.value.text and len(stub.seen) == 1


def refusal(message="Invalid request", **error):
    return {"message": message, "errors": [error] if error else []}


@pytest.mark.parametrize(
    ("http_status", "answer", "kind", "code", "text"),
    [
        (
            400,
            refusal(resource="Invoice", code="invalid", field="amount", description="must be positive"),
            GatewayRefused,
            "invalid",
            "Invalid request; Invoice: amount: must be positive",
        ),
        (401, refusal("Unauthorized"), GatewayRefused, "", "Unauthorized"),
        (
            400,
            {"message": "", "errors": [{"field": "a", "description": "one"}, {"code": "c", "field": "b", "description": "two"}]},
            GatewayRefused,
            "c",
            "a: one; b: two",
        ),
        (400, {"message": 5, "errors": {"code": "x"}}, GatewayRefused, "", "no reason given"),
        (400, {"errors": ["x", {"code": 7, "field": None, "description": []}]}, GatewayRefused, "", "no reason given"),
        (403, b"<html>no</html>", GatewayRefused, "", "an answer that is no JSON object: not JSON"),
        (429, refusal("Slow down"), GatewayUnavailable, "", "Slow down"),
        (500, refusal("Oops"), GatewayUncertain, "", "Oops"),
    ],
)
def test_T62_what_a_failed_create_means(stub, txcash, http_status, answer, kind, code, text):
    stub.script.append((http_status, answer))
    with pytest.raises(kind) as caught:
        txcash.create(OWN)
    error = caught.value
    assert (error.gateway, error.account, error.operation, error.http_status) == ("tx.cash", "main", "create", http_status)
    assert (error.code, error.text) == (code, text)
    assert len(stub.seen) == 1


# The shop's own page


@pytest.mark.parametrize(
    ("coin", "word", "named", "pay_currency", "network"),
    [
        ("ETH", "eth_eth", "ETH", "ETH", "Ethereum"),
        ("USDC@ethereum", "eth_usdc", "eth_usdc", "USDC", "Ethereum"),
        ("USDT@polygon", "polygon_usdt", "POLYGON_USDT", "USDT", "Polygon"),
        ("ETH@polygon", "polygon_eth", "eth", "ETH", "Polygon"),
    ],
)
def test_an_invoice_on_our_own_page(stub, txcash, coin, word, named, pay_currency, network):
    stub.script += [
        (200, CREATED),
        (200, json.dumps(ADDRESS | {"currency": named}).replace("25.05", "25.050000000000000001").encode()),
    ]
    made = txcash.create(replace(OWN, pay_currencies=(coin,)))
    assert (made.gateway_id, made.kind, made.payment_url) == ("inv-1", Kind.ADDRESS, "")
    assert (made.address, made.address_tag, made.pay_amount) == ("0xReceiver", "", Decimal("25.050000000000000001"))
    assert (made.pay_currency, made.network) == (pay_currency, network)
    assert (made.price_amount, made.price_currency) == (Decimal(25), "USD")
    create, address = stub.seen
    assert form(create)["payment_currencies"] == word
    assert (address.method, address.path) == ("POST", "/invoice/v1/invoice/inv-1/payment/address")
    assert address.body == b"payment_currency=" + word.encode()


def hang_up(handler):
    handler.connection.close()


@pytest.mark.parametrize(
    "second",
    [
        (400, refusal("No address now")),
        (401, refusal("Unauthorized")),
        (429, refusal("Slow down")),
        (500, b""),
        (200, b"not JSON"),
        hang_up,
        (200, ADDRESS | {"invoice_id": "inv-2"}),
        (200, ADDRESS | {"invoice_id": None}),
        (200, ADDRESS | {"address": None}),
        (200, ADDRESS | {"address": ""}),
        (200, ADDRESS | {"amount": None}),
        (200, ADDRESS | {"amount": 0}),
        (200, ADDRESS | {"currency": "USD"}),
        (200, ADDRESS | {"currency": "eth_usdt"}),
        (200, ADDRESS | {"currency": None}),
    ],
    ids=lambda second: getattr(second, "__name__", str(second)),
)
def test_T62_an_invoice_whose_address_is_not_told_is_paid_on_the_hosted_page(stub, txcash, caplog, second):
    stub.script += [(200, CREATED), second]
    with caplog.at_level(logging.WARNING, "crypto_invoices.txcash"):
        made = txcash.create(OWN)
    assert (made.gateway_id, made.kind, made.payment_url) == ("inv-1", Kind.ADDRESS, "https://pay.tx.example/inv-1")
    assert (made.address, made.pay_amount, made.pay_currency, made.network) == ("", None, "", "")
    assert len(stub.seen) == 2
    assert "inv-1" in caplog.text and KEY not in caplog.text


def test_the_address_call_itself(stub, txcash):
    stub.script += [(200, ADDRESS), (400, refusal("No such coin"))]
    assert txcash.payment_address("inv-1", "polygon_usdt") == ("0xReceiver", Decimal("25.05"))
    with pytest.raises(GatewayRefused, match="No such coin"):
        txcash.payment_address("inv-1", "polygon_usdt")


# What is refused before any call

WRONG = [
    ("amount", {"amount": Decimal(0)}),
    ("amount", {"amount": 10.0}),
    ("amount", {"amount": "10,5"}),
    ("amount", {"amount": Decimal("10.105")}),
    ("amount", {"amount": Decimal("0.5"), "currency": "JPY"}),
    ("currency", {"currency": ""}),
    ("currency", {"currency": "usd"}),
    ("currency", {"currency": "USDT"}),
    ("currency", {"currency": "ETH"}),
    ("lifetime", {"lifetime": timedelta(0)}),
    ("lifetime", {"lifetime": timedelta(seconds=-1)}),
    ("lifetime", {"lifetime": timedelta(milliseconds=1500)}),
    ("lifetime", {"lifetime": 300}),
    ("lifetime", {"lifetime": "300s"}),
    ("callback_url", {"callback_url": ""}),
    ("callback_url", {"callback_url": "http://shop.example/"}),
    ("return_url", {"return_url": "javascript:alert(1)"}),
    ("cancel_url", {"cancel_url": "https://10.0.0.1/"}),
    ("reference", {"reference": ""}),
    ("reference", {"reference": "a b"}),
    ("order_id", {"order_id": 7}),
    ("order_id", {"order_id": "\ud800"}),
    ("description", {"description": "a\x00b"}),
    ("meta_data2", {"options": TxCashCreateOptions(meta_data2="\udfff")}),
    ("options", {"options": OxaPayCreateOptions()}),
    ("options", {"options": {"meta_data2": "x"}}),
    ("pay_currencies", {"pay_currencies": ("USDT",)}),
    ("pay_currencies", {"pay_currencies": ("ETH", "DOGE")}),
    ("pay_currencies", {"pay_currencies": ("eth_eth",)}),
    ("pay_currencies", {"page": Page.OWN}),
    ("pay_currencies", {"page": Page.OWN, "pay_currencies": ("ETH", "USDT@polygon")}),
]


@pytest.mark.parametrize(("field", "changes"), WRONG, ids=str)
def test_a_wrong_value_is_named_before_any_call(stub, txcash, field, changes):
    for method in (txcash.validate, txcash.create):
        with pytest.raises(InvalidRequest) as caught:
            method(replace(PLAIN, **changes))
        assert caught.value.field == field
    assert stub.seen == []


@pytest.mark.parametrize(
    "request_",
    [
        replace(PLAIN, fee_payer="merchant"),
        replace(PLAIN, fee_payer="payer"),
        replace(PLAIN, underpaid_tolerance=Decimal(0)),
        replace(OWN, options=options(payment_groups=("all",))),
    ],
)
def test_what_the_gateway_cannot_do_is_not_supported(stub, txcash, request_):
    for method in (txcash.validate, txcash.create):
        with pytest.raises(NotSupported):
            method(request_)
    assert stub.seen == []


def test_an_unknown_coin_is_told_what_would_do():
    with pytest.raises(InvalidRequest) as caught:
        build(sandbox=True).validate(replace(PLAIN, pay_currencies=("TRX",)))
    assert str(caught.value) == (
        "pay_currencies: 'TRX' is not accepted by tx.cash; accepted are: "
        "ETH, ETH@ethereum, ETH@polygon, USDC@ethereum, USDC@polygon, USDT@ethereum, USDT@polygon"
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("payment_groups", ["eth"]),
        ("payment_groups", "all"),
        ("payment_groups", [1]),
        ("meta_data2", 7),
        ("meta_data1", REFERENCE),
    ],
)
def test_a_wrong_create_option_is_named(field, value):
    with pytest.raises(InvalidRequest) as caught:
        options(**{field: value})
    assert caught.value.field == field


# The account

TESTNET = "https://api.tx.cash/invoice/v1/testnet"


def test_T13_the_testnet_is_for_sandbox_accounts_only(stub):
    assert build(sandbox=True).client.base_url == TESTNET and build(sandbox=True).sandbox is True
    assert build(sandbox=True, base_url=TESTNET + "/").client.base_url == TESTNET
    live = build(base_url="https://gateway.example/invoice/v1/")
    assert live.client.base_url == "https://gateway.example/invoice/v1" and live.sandbox is False
    assert build(sandbox=True, base_url=stub.url).client.base_url == stub.url


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("base_url", {}),
        ("base_url", {"base_url": "http://gateway.example/v1"}),
        ("base_url", {"base_url": "https://192.168.1.1/v1"}),
        ("base_url", {"base_url": "gateway.example", "sandbox": True}),
        ("sandbox", {"base_url": TESTNET}),
        ("sandbox", {"base_url": TESTNET + "/"}),
        ("api_key", {"sandbox": True, "api_key": ""}),
        ("api_key", {"sandbox": True, "api_key": "changeme"}),
        ("encoding", {"sandbox": True, "encoding": "xml"}),
        ("auth_header", {"sandbox": True, "auth_header": ""}),
        ("auth_header", {"sandbox": True, "auth_header": "X-Key: a"}),
        ("auth_format", {"sandbox": True, "auth_format": "Bearer"}),
        ("auth_format", {"sandbox": True, "auth_format": "{} {}"}),
        ("auth_format", {"sandbox": True, "auth_format": "Bearer {}\n"}),
        ("auth_format", {"sandbox": True, "auth_format": "Bearer {} "}),
        ("auth_format", {"sandbox": True, "auth_format": "Schlüssel {}"}),
        ("create_path", {"sandbox": True, "create_path": "invoice"}),
        ("create_path", {"sandbox": True, "create_path": "/invoice/{}"}),
        ("create_path", {"sandbox": True, "create_path": "/invoice?x=1"}),
        ("create_path", {"sandbox": True, "create_path": "//evil.example"}),
        ("read_path", {"sandbox": True, "read_path": "/invoice"}),
        ("read_path", {"sandbox": True, "read_path": "/invoice/{id}"}),
        ("read_path", {"sandbox": True, "read_path": "/{}/{}"}),
        ("address_path", {"sandbox": True, "address_path": ""}),
        ("address_path", {"sandbox": True, "address_path": "/invoice/{0}/address"}),
        ("text_length", {"sandbox": True, "text_length": 15}),
    ],
)
def test_a_wrong_account_is_not_built(field, values):
    with pytest.raises(InvalidRequest) as caught:
        build(**values)
    assert caught.value.field == field
    definition = {"PROVIDER": "crypto_invoices.providers.txcash.TxCash", "OPTIONS": {"api_key": KEY} | values}
    with pytest.raises(ImproperlyConfigured) as caught:
        conf.build_provider("main", definition)
    assert repr(field) in str(caught.value) and KEY not in str(caught.value)


def test_paths_and_authentication_are_settings(stub):
    values = {
        "auth_header": "X-Api-Key",
        "auth_format": "{}",
        "create_path": "/invoices/new",
        "read_path": "/invoices/{}/",
        "address_path": "/addresses/{}",
        "api_key": ["NEWKEY-1", KEY],
    }
    account = provider(stub, **values)
    stub.script += [(200, CREATED), (200, ADDRESS), (200, PAID)]
    account.create(OWN)
    account.fetch(ASKED)
    paths = ["/invoice/v1/invoices/new", "/invoice/v1/addresses/inv-1", "/invoice/v1/invoices/inv-1/"]
    assert [seen.path for seen in stub.seen] == paths
    assert {seen.headers["X-Api-Key"] for seen in stub.seen} == {"NEWKEY-1"}
    assert not any("Authorization" in seen.headers for seen in stub.seen)


def test_an_account_from_the_environment():
    env = environ.Env()
    variables = {"ACCOUNTS": "eth", "ETH_PROVIDER": "txcash", "ETH_API_KEY": KEY, "ETH_SANDBOX": "yes", "ETH_ENCODING": "json"}
    env.ENVIRON = {f"CRYPTO_INVOICES_{name}": value for name, value in variables.items()}
    definition = conf.accounts_from_env(env)["eth"]
    assert definition == {
        "PROVIDER": "crypto_invoices.providers.txcash.TxCash",
        "OPTIONS": {"api_key": [KEY], "sandbox": True, "encoding": "json"},
    }
    assert conf.build_provider("eth", definition).client.base_url == TESTNET


def test_T56_no_secret_in_texts_and_errors(stub, txcash, caplog):
    assert KEY not in repr(txcash.account) + repr(txcash) + repr(vars(txcash)) + repr(vars(txcash.client)) + txcash.identity
    stub.script.append((400, refusal(f"unknown {KEY}", code=KEY, description=f"Bearer {KEY}")))
    with caplog.at_level(logging.DEBUG), pytest.raises(GatewayRefused) as caught:
        txcash.create(PLAIN)
    assert (caught.value.code, caught.value.text) == ("***", "unknown ***; Bearer ***")
    assert KEY not in caplog.text


# Fetch


def test_a_paid_invoice_digit_by_digit(stub):
    before = datetime.now(UTC)
    body = json.dumps(PAID).replace("0.5", "0.500000000000000001").encode()
    evidence = fetched(stub, body)
    [seen] = stub.seen
    assert (seen.method, seen.path, seen.body) == ("GET", "/invoice/v1/invoice/inv-1", b"")
    assert before <= evidence.observed_at <= datetime.now(UTC)
    assert replace(evidence, observed_at=None) == Evidence(
        source=Source.POLL,
        remote=ASKED,
        word="paid",
        status=InvoiceStatus.PAID,
        final=True,
        price_amount=Decimal(25),
        price_currency="USD",
        transfers=(
            RemoteTransfer(
                key="0xaaa1",
                amount=Decimal("0.500000000000000001"),
                currency="",
                tx_hash="0xaaa1",
                confirmations=12,
                explorer_url="https://polygonscan.com/tx/0xaaa1",
                paid_at=datetime(2026, 11, 22, 11, 30, 0, 999999, tzinfo=UTC),
            ),
        ),
        payment_url="https://pay.tx.example/inv-1",
        expires_at=datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC),
        raw=body.decode(),
    )


@pytest.mark.parametrize(
    ("code", "text", "word", "status", "final"),
    [
        (0, "pending", "pending", "pending", False),
        (1, "paid", "paid", "paid", True),
        (2, "under paid", "underpaid", "underpaid", False),
        (2, "underpaid", "underpaid", "underpaid", False),
        (2, "Under_Paid", "underpaid", "underpaid", False),
        (3, "over paid", "overpaid", "overpaid", True),
        (3, "overpaid", "overpaid", "overpaid", True),
        (3, "OVER PAID", "overpaid", "overpaid", True),
        (4, "expired", "expired", "expired", True),
        (5, "cancelled", "cancelled", "cancelled", True),
        (5, "Cancelled", "cancelled", "cancelled", True),
    ],
)
def test_T37_every_documented_status(stub, code, text, word, status, final):
    evidence = fetched(stub, CREATED | {"status_code": code, "status": text})
    assert (evidence.word, evidence.status, evidence.final) == (word, status, final)


@pytest.mark.parametrize(
    ("code", "text", "word"),
    [
        (1, "under paid", "1/under_paid"),
        (0, "paid", "0/paid"),
        (2, "Over Paid", "2/over_paid"),
        (6, "paid", "6/paid"),
        (6, "refunded", "6/refunded"),
        (1, "paid!", "1/paid!"),
        (1, "pаid", "1/pаid"),
        (1, "un paid", "1/un_paid"),
        (5, "canceled", "5/canceled"),
    ],
)
def test_T37_a_status_that_no_page_documents_changes_nothing(stub, code, text, word):
    evidence = fetched(stub, PAID | {"status_code": code, "status": text})
    assert (evidence.word, evidence.status, evidence.final) == (word, None, False)


@pytest.mark.parametrize(
    ("payments", "status", "count"),
    [
        (None, "pending", 0),
        ([], "pending", 0),
        ([PAYMENT], "confirming", 1),
        ([PAYMENT | {"tx_hash": ""}], "confirming", 0),
        ([PAYMENT, PAYMENT | {"amount": 1}], "confirming", 2),
    ],
)
def test_T37_a_payment_on_a_pending_invoice_is_being_confirmed(stub, payments, status, count):
    evidence = fetched(stub, CREATED | {"payments": payments})
    assert (evidence.word, evidence.status, evidence.final) == ("pending", status, False)
    assert [item.key for item in evidence.transfers] == ["0xaaa1", "0xaaa1#2"][:count]


@pytest.mark.parametrize("paid_amount", [0, 24, 25, 25000, None, "x"])
def test_T18_the_sum_without_a_unit_decides_nothing(stub, paid_amount):
    evidence = fetched(stub, PAID | {"paid_amount": paid_amount})
    assert (evidence.received, evidence.status) == (None, InvoiceStatus.PAID)


@pytest.mark.parametrize(
    ("date", "paid_at"),
    [
        (None, None),
        ("", None),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+03:00", None),
        ("2026-11-22T11:00:00Z", None),  # the invoice's own creation
        ("2026-11-22T14:00:00+03:00", None),
        ("2026-11-22T11:00:00.2Z", None),
        ("2026-11-22T11:00:01Z", None),  # written down a moment later
        ("2026-11-22T10:59:59Z", None),
        ("2026-11-21T11:00:00Z", None),
        ("2026-11-22T11:00:01.000001Z", datetime(2026, 11, 22, 11, 0, 1, 1, tzinfo=UTC)),
        ("2026-11-22T11:00:01.5Z", datetime(2026, 11, 22, 11, 0, 1, 500000, tzinfo=UTC)),
        ("2026-11-22T11:05:00.123456789-05:00", datetime(2026, 11, 22, 16, 5, 0, 123456, tzinfo=UTC)),
    ],
)
def test_T68_when_a_payment_was_made(stub, date, paid_at):
    [transfer] = fetched(stub, PAID | {"payments": [PAYMENT | {"date": date}]}).transfers
    assert transfer.paid_at == paid_at


@pytest.mark.parametrize("created_at", [None, "", "0001-01-01T00:00:00Z"])
def test_T68_beside_no_creation_time_the_date_is_nobodys(stub, created_at):
    [transfer] = fetched(stub, PAID | {"created_at": created_at}).transfers
    assert transfer.paid_at is None


@pytest.mark.parametrize("url", ["", None, "javascript:alert(1)", "http://polygonscan.com/tx/1", "https://a@evil.example/"])
def test_T57_a_doubtful_explorer_link_is_left_out(stub, url):
    [transfer] = fetched(stub, PAID | {"payments": [PAYMENT | {"explorer_url": url}]}).transfers
    assert (transfer.explorer_url, transfer.tx_hash) == ("", "0xaaa1")


def test_an_invoice_on_our_own_page_has_no_way_around_it(stub):
    remote = replace(ASKED, kind=Kind.ADDRESS)
    evidence = fetched(stub, PAID, remote)
    assert (evidence.remote, evidence.payment_url) == (remote, "")


def test_T17_the_reference_is_the_one_told(stub):
    other = "zyxwvutsrqponmlkjihgfedcba"
    assert fetched(stub, PAID | {"meta_data1": other}).remote.reference == other
    assert fetched(stub, PAID | {"meta_data1": None}).remote.reference == ""


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "inv-2"),
        ("id", None),
        ("amount", None),
        ("amount", "1_0"),
        ("base_currency", None),
        ("status", None),
        ("status_code", None),
        ("status_code", -1),
        ("url", "//evil.example"),
        ("expires_on", 7.5),
        ("created_at", "yesterday"),
        ("meta_data1", {}),
        ("payments", {}),
        ("payments", ["0xaaa1"]),
        ("amount", [PAYMENT | {"amount": -1}]),
        ("date", [PAYMENT | {"date": "noon"}]),
        ("confirmation", [PAYMENT | {"confirmation": 1.5}]),
        ("tx_hash", [PAYMENT | {"tx_hash": "0" * 181}]),
    ],
)
def test_T66_an_invoice_that_cannot_be_read_is_uncertain(stub, field, value):
    inside = isinstance(value, list) and isinstance(value[0], dict)
    answer = copy.deepcopy(PAID) | ({"payments": value} if inside else {field: value})
    with pytest.raises(GatewayUncertain) as caught:
        fetched(stub, answer)
    assert caught.value.operation == "fetch"
    assert (f"payments.{field}:" if inside else f"{field}:") in caught.value.text


@pytest.mark.parametrize(
    ("step", "kind", "tries"),
    [
        ((404, refusal("Not found")), GatewayRefused, 1),
        ((401, refusal()), GatewayRefused, 1),
        ((503, b""), GatewayUnavailable, 3),
    ],
)
def test_T62_what_a_failed_fetch_means(stub, txcash, step, kind, tries):
    stub.script += [step] * tries
    with pytest.raises(kind):
        txcash.fetch(ASKED)
    assert len(stub.seen) == tries


def test_T61_a_bounded_fetch_is_tried_once(stub, txcash):
    stub.script.append((503, b""))
    with pytest.raises(GatewayUnavailable):
        txcash.fetch(ASKED, timeout=2.0)
    assert len(stub.seen) == 1


# Verify


@pytest.mark.parametrize(
    ("body", "gateway_id"),
    [
        (json.dumps(PAID).encode(), "inv-1"),
        (b'{"id":"inv-1"}', "inv-1"),
        (b'{"id":17,"status":"paid","status_code":1}', "17"),
        (b'{"id":"../../etc"}', ""),
        (b'{"id":""}', ""),
        (b'{"id":null}', ""),
        (b'{"id":["inv-1"]}', ""),
        (b'{"id":"inv-1","id":"inv-2"}', ""),
        (b'{"invoice_id":"inv-1"}', ""),
        (b'["inv-1"]', ""),
        (b"id=inv-1&status=paid", ""),
        (b"", ""),
        (b"\xff\xfe", ""),
        (b'{"id":"inv-1"} trailing', ""),
        (b"[" * 5000, ""),
    ],
)
def test_T16_an_unsigned_callback_is_a_hint(body, gateway_id):
    assert build(sandbox=True).verify({"HMAC": "x"}, body, url=CALLBACK) == Hint(gateway_id)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=64) | st.fixed_dictionaries({"id": JSON}).map(lambda value: json.dumps(value).encode()))
def test_T16_whatever_is_sent_is_a_hint(body):
    hint = build(sandbox=True).verify({}, body)
    assert type(hint) is Hint and (hint.gateway_id == "" or hint.gateway_id.encode() in body)


# The vendor's own calls


@pytest.mark.parametrize(
    ("told", "success_url"),
    [
        ({"suceess_url": "https://shop.example/a"}, "https://shop.example/a"),
        ({"suceess_url": None, "success_url": "https://shop.example/b"}, "https://shop.example/b"),
        ({"suceess_url": ""}, ""),
    ],
)
def test_an_invoice_as_the_gateway_tells_it(stub, txcash, told, success_url):
    stub.script.append((200, json.dumps(CREATED | told | {"amount": 25.1}).encode()))
    read = txcash.invoice("inv-1")
    assert (read["callback_url"], read["success_url"], read["fail_url"]) == (CALLBACK, success_url, "")
    assert read["amount"] == Decimal("25.1") and read["id"] == "inv-1"
    assert stub.seen[0].path == "/invoice/v1/invoice/inv-1"


@pytest.mark.parametrize("http_status", [400, 404])
def test_a_probe_that_finds_no_invoice_reached_the_gateway(stub, txcash, http_status):
    stub.script.append((http_status, refusal("Not found")))
    assert txcash.probe() is None
    assert [(seen.method, seen.path) for seen in stub.seen] == [("GET", "/invoice/v1/invoice/no-such-invoice")]


def test_a_probe_that_is_answered_tells_the_time(stub, txcash):
    head = b"HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 11:00:00 GMT\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
    stub.script.append(lambda handler: handler.wfile.write(head + b"{}"))
    assert txcash.probe() == datetime(2026, 11, 22, 11, tzinfo=UTC)


@pytest.mark.parametrize(
    ("http_status", "kind", "tries"),
    [(401, GatewayRefused, 1), (403, GatewayRefused, 1), (405, GatewayRefused, 1), (502, GatewayUnavailable, 3)],
)
def test_a_probe_that_is_refused_says_so(stub, txcash, http_status, kind, tries):
    stub.script += [(http_status, refusal("No"))] * tries
    with pytest.raises(kind):
        txcash.probe()
    assert len(stub.seen) == tries
