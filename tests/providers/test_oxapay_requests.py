"""Every create request against the vendor's own OpenAPI text (oxapay_openapi.json, from the page "Generate Invoice")."""

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from openapi_schema_validator import OAS30Validator

from crypto_invoices.exceptions import GatewayError, InvalidRequest, NotSupported
from crypto_invoices.providers.base import CreateRequest, Kind, Page, Remote, StaticAddressRequest
from crypto_invoices.providers.options import read_options
from crypto_invoices.providers.oxapay import (
    OxaPay,
    OxaPayAddressFilters,
    OxaPayCreateOptions,
    OxaPayFilters,
    OxaPayOptions,
    OxaPayStaticOptions,
)

OPENAPI = json.loads((Path(__file__).parent / "oxapay_openapi.json").read_text())
SCHEMA = OPENAPI["paths"]["/payment/invoice"]["post"]["requestBody"]["content"]["application/json"]["schema"]
KEY = "MKEY01-MKEY02-MKEY03-MKEY04"
REFERENCE = "abcdefghijklmnopqrstuvwxyz"
CALLBACK = "https://shop.example/crypto-invoices/callbacks/default/token/"
CREATED = {
    "data": {
        "track_id": "190000001",
        "payment_url": "https://pay.oxapay.com/10000001/190000001",
        "expired_at": 1760003600,
        "date": 1760000000,
    },
    "message": "Operation completed successfully!",
    "error": {},
    "status": 200,
    "version": "1.0.0",
}
LABEL = {
    "data": {
        "track_id": "190000002",
        "amount": 10,
        "currency": "USD",
        "pay_amount": 10.05,
        "pay_currency": "USDT",
        "network": "Tron Network",
        "address": "TReceiver",
        "memo": "",
        "order_id": REFERENCE,
        "expired_at": 1760003600,
        "date": 1760000000,
        "rate": 1,
    },
    "message": "Operation completed successfully!",
    "error": {},
    "status": 200,
    "version": "1.0.0",
}
PLAIN = CreateRequest(reference=REFERENCE, amount=Decimal("25"), currency="USD", callback_url=CALLBACK)
OWN = replace(PLAIN, page=Page.OWN, pay_currencies=("USDT@tron",))
STATIC = StaticAddressRequest(reference=REFERENCE, callback_url=CALLBACK, pay_currency="USDT@tron")


def options(**values):
    return read_options(OxaPayCreateOptions, values)


def provider(stub, **values):
    account = {"merchant_api_key": KEY, "base_url": stub.url + "/v1"} | values
    return OxaPay(read_options(OxaPayOptions, account), alias="main")


def sent(stub, request, answer=CREATED, **values):
    stub.script.append((200, answer))
    provider(stub, **values).create(request)
    [seen] = stub.seen
    return seen


REQUESTS = {
    "least": PLAIN,
    "most": replace(
        PLAIN,
        amount=Decimal("10.10"),
        currency="EUR",
        order_id="1001",
        description="Two books",
        email="a@b.example",
        lifetime=timedelta(minutes=30),
        underpaid_tolerance=Decimal("2.5"),
        fee_payer="payer",
        return_url="https://shop.example/thanks/",
        options=options(to_currency="USDT", auto_withdrawal=True, mixed_payment=False, thanks_message="Thank you"),
    ),
    "least lifetime": replace(PLAIN, lifetime=timedelta(minutes=15)),
    "most lifetime": replace(PLAIN, lifetime=timedelta(hours=48)),
    "no tolerance": replace(PLAIN, underpaid_tolerance=Decimal(0)),
    "most tolerance": replace(PLAIN, underpaid_tolerance=Decimal(60)),
    "merchant's fee": replace(PLAIN, fee_payer="merchant"),
    "yen": replace(PLAIN, amount=Decimal("1000"), currency="JPY"),
    "coin": replace(PLAIN, amount=Decimal("0.000000000000000001"), currency="ETH"),
    "booleans": replace(PLAIN, options=options(auto_withdrawal=False, mixed_payment=True)),
}


# Where each documented parameter of a create call comes from; those of the lists are options of the filters.
SHARED = {
    "to_currency": "option to_currency",
    "auto_withdrawal": "option auto_withdrawal",
    "callback_url": "argument callback_url",
    "email": "argument email",
    "order_id": "argument reference",
    "description": "argument description",
}
PRICED = SHARED | {
    "amount": "argument amount",
    "currency": "argument currency",
    "lifetime": "argument lifetime",
    "fee_paid_by_payer": "argument fee_payer",
    "under_paid_coverage": "argument underpaid_tolerance",
}
PARAMETERS = {
    "POST /payment/invoice": PRICED
    | {
        "return_url": "argument return_url",
        "mixed_payment": "option mixed_payment",
        "thanks_message": "option thanks_message",
        "sandbox": "option sandbox",
    },
    "POST /payment/white-label": PRICED | {"pay_currency": "argument pay_currencies", "network": "argument pay_currencies"},
    "POST /payment/static-address": SHARED | {"network": "argument pay_currency"},
    "POST /payment/static-address/revoke": {
        "address": "set by us: the address that is revoked",
        "network": "set by us: as the address was made with",
    },
    "GET /payment": {name: f"option {name}" for name in OxaPayFilters.__dataclass_fields__},
    "GET /payment/static-address": {name: f"option {name}" for name in OxaPayAddressFilters.__dataclass_fields__},
    "GET /payment/{track_id}": {"track_id": "set by us: the gateway's id of the payment"},
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_what_the_vendor_documents(stub, name):
    seen = sent(stub, REQUESTS[name])
    OAS30Validator(SCHEMA).validate(seen.json)
    assert set(seen.json) <= set(SCHEMA["properties"])
    assert (seen.method, seen.path) == ("POST", "/v1/payment/invoice")
    required = [
        parameter["name"] for parameter in OPENAPI["paths"]["/payment/invoice"]["post"]["parameters"] if parameter["required"]
    ]
    assert required == ["merchant_api_key", "Content-Type"]
    assert (seen.headers["merchant_api_key"], seen.headers["Content-Type"]) == (KEY, "application/json")


def test_every_documented_property_is_sent_by_some_request(stub):
    names = set()
    for request in REQUESTS.values():
        names |= set(sent(stub, request).json)
        stub.seen.clear()
    assert names == set(SCHEMA["properties"])


def test_the_schema_would_notice(stub):
    body = sent(stub, REQUESTS["most"]).json
    for name, value in (("amount", "10.10"), ("lifetime", 14), ("lifetime", 30.5), ("under_paid_coverage", 61), ("sandbox", 0)):
        assert list(OAS30Validator(SCHEMA).iter_errors(body | {name: value}))


def test_T22_the_complete_body_digit_by_digit(stub):
    assert sent(stub, REQUESTS["most"]).body == (
        b'{"order_id":"abcdefghijklmnopqrstuvwxyz","callback_url":"https://shop.example/crypto-invoices/callbacks/default/token/",'
        b'"description":"1001: Two books","email":"a@b.example","to_currency":"USDT","auto_withdrawal":true,"amount":10.1,'
        b'"currency":"EUR","lifetime":30,"fee_paid_by_payer":1,"under_paid_coverage":2.5,"return_url":"https://shop.example/thanks/",'
        b'"mixed_payment":false,"thanks_message":"Thank you","sandbox":false}'
    )


@pytest.mark.parametrize(
    ("amount", "currency", "wire"),
    [
        (Decimal("10.10"), "USD", b"10.1"),
        (Decimal("0.1"), "USD", b"0.1"),
        (Decimal("1E+3"), "USD", b"1000"),
        ("25.00", "USD", b"25"),
        (7, "JPY", b"7"),
        (Decimal("1.234"), "KWD", b"1.234"),
        (Decimal("0.01"), "USD", b"0.01"),
        (Decimal("0.000000000000000001"), "ETH", b"0.000000000000000001"),
        ("1e-8", "BTC", b"0.00000001"),
        (Decimal("12345678901234567890.123456789012345678"), "BTC", b"12345678901234567890.123456789012345678"),
    ],
)
def test_T22_exact_digits_on_the_wire(stub, amount, currency, wire):
    assert b'"amount":' + wire + b"," in sent(stub, replace(PLAIN, amount=amount, currency=currency)).body


def test_the_accounts_own_settings_are_left_alone(stub):
    assert sent(stub, PLAIN).json == {
        "order_id": REFERENCE,
        "callback_url": CALLBACK,
        "amount": 25,
        "currency": "USD",
        "sandbox": False,
    }


def test_T13_a_sandbox_account_says_so(stub):
    assert sent(stub, PLAIN, sandbox=True).json["sandbox"] is True


@pytest.mark.parametrize(
    ("order_id", "description", "expected"),
    [("1001", "", "1001"), ("", "Books", "Books"), ("1001", "Books", "1001: Books"), ("1001", "é😀" * 20, "1001: " + "é😀" * 5)],
)
def test_T69_the_shops_number_opens_the_description(stub, order_id, description, expected):
    request = replace(PLAIN, order_id=order_id, description=description)
    assert sent(stub, request, description_length=16).json["description"] == expected


def test_T69_texts_stand_in_json_only(stub):
    text = 'a"b\\c\r\nX-Evil: 1\u2028</script>😀'
    request = replace(PLAIN, description=text, email=text, options=options(thanks_message=text))
    body = sent(stub, request).json
    assert (body["description"], body["email"], body["thanks_message"]) == (text,) * 3


def test_white_label_request(stub):
    request = replace(
        REQUESTS["most"], page=Page.OWN, pay_currencies=("USDT@tron",), options=options(to_currency="USDT", auto_withdrawal=True)
    )
    seen = sent(stub, request, LABEL)
    assert seen.path == "/v1/payment/white-label"
    assert seen.json == {
        "pay_currency": "USDT",
        "amount": 10.1,
        "currency": "EUR",
        "network": "TRON",
        "lifetime": 30,
        "fee_paid_by_payer": 1,
        "under_paid_coverage": 2.5,
        "to_currency": "USDT",
        "auto_withdrawal": True,
        "callback_url": CALLBACK,
        "email": "a@b.example",
        "order_id": REFERENCE,
        "description": "1001: Two books",
    }


def test_white_label_without_a_network_takes_the_coins_default(stub):
    body = sent(stub, replace(OWN, pay_currencies=("ETH",)), LABEL).json
    assert body["pay_currency"] == "ETH" and "network" not in body


WRONG = [
    ("amount", {"amount": Decimal(0)}),
    ("amount", {"amount": Decimal("-1")}),
    ("amount", {"amount": 10.0}),
    ("amount", {"amount": True}),
    ("amount", {"amount": None}),
    ("amount", {"amount": "10,5"}),
    ("amount", {"amount": Decimal("NaN")}),
    ("amount", {"amount": Decimal("Infinity")}),
    ("amount", {"amount": Decimal("10.105")}),
    ("amount", {"amount": Decimal("0.5"), "currency": "JPY"}),
    ("amount", {"amount": Decimal("1E-19"), "currency": "BTC"}),
    ("amount", {"amount": Decimal(10) ** 20}),
    ("currency", {"currency": ""}),
    ("currency", {"currency": "usd"}),
    ("currency", {"currency": "U$D"}),
    ("currency", {"currency": None}),
    ("currency", {"currency": "USD "}),
    ("currency", {"currency": "X" * 17}),
    ("lifetime", {"lifetime": timedelta(minutes=14)}),
    ("lifetime", {"lifetime": timedelta(minutes=14, seconds=59)}),
    ("lifetime", {"lifetime": timedelta(minutes=15, seconds=1)}),
    ("lifetime", {"lifetime": timedelta(minutes=2881)}),
    ("lifetime", {"lifetime": timedelta(0)}),
    ("lifetime", {"lifetime": timedelta(minutes=-30)}),
    ("lifetime", {"lifetime": 30}),
    ("lifetime", {"lifetime": timedelta(minutes=20, microseconds=1)}),
    ("lifetime", {"lifetime": 0}),
    ("fee_payer", {"fee_payer": "both"}),
    ("fee_payer", {"fee_payer": ""}),
    ("fee_payer", {"fee_payer": 1}),
    ("underpaid_tolerance", {"underpaid_tolerance": Decimal("60.01")}),
    ("underpaid_tolerance", {"underpaid_tolerance": Decimal("-0.01")}),
    ("underpaid_tolerance", {"underpaid_tolerance": 2.5}),
    ("underpaid_tolerance", {"underpaid_tolerance": "much"}),
    ("callback_url", {"callback_url": ""}),
    ("callback_url", {"callback_url": "http://shop.example/"}),
    ("callback_url", {"callback_url": "https://10.0.0.1/"}),
    ("return_url", {"return_url": "javascript:alert(1)"}),
    ("return_url", {"return_url": "//evil.example"}),
    ("return_url", {"return_url": "/thanks"}),
    ("reference", {"reference": ""}),
    ("reference", {"reference": "a b"}),
    ("reference", {"reference": "../x"}),
    ("email", {"email": "a\x00b"}),
    ("email", {"email": None}),
    ("description", {"description": "\ud800"}),
    ("order_id", {"order_id": 7}),
    ("options", {"options": OxaPayStaticOptions()}),
    ("options", {"options": {"to_currency": "USDT"}}),
    ("thanks_message", {"options": OxaPayCreateOptions(thanks_message="\udfff")}),
    ("pay_currencies", {"page": Page.OWN}),
    ("pay_currencies", {"page": Page.OWN, "pay_currencies": ("TRX", "BTC")}),
    ("pay_currencies", {"page": Page.OWN, "pay_currencies": ("USDT",)}),
    ("pay_currencies", {"page": Page.OWN, "pay_currencies": ("USDT@ethereum",)}),
    ("pay_currencies", {"page": Page.OWN, "pay_currencies": ("usdt@tron",)}),
]


@pytest.mark.parametrize(("field", "changes"), WRONG, ids=str)
def test_a_wrong_value_is_named_before_any_call(stub, field, changes):
    request = replace(PLAIN, **changes)
    for method in (provider(stub).validate, provider(stub).create):
        with pytest.raises(InvalidRequest) as caught:
            method(request)
        assert caught.value.field == field
    assert stub.seen == []


def test_an_unknown_coin_is_told_what_would_do(stub):
    with pytest.raises(InvalidRequest) as caught:
        provider(stub).validate(replace(OWN, pay_currencies=("DOGE",)))
    text = "pay_currencies: 'DOGE' is not accepted by OxaPay; accepted are: BTC, ETH, POL, TRX, TRX@tron, USDT@tron, XRP"
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("request_", "values"),
    [
        (replace(PLAIN, pay_currencies=("USDT@tron",)), {}),
        (replace(PLAIN, cancel_url="https://shop.example/cancel/"), {}),
        (replace(OWN, cancel_url="https://shop.example/cancel/"), {}),
        (replace(OWN, options=options(mixed_payment=False)), {}),
        (replace(OWN, options=options(thanks_message="Thanks")), {}),
        (OWN, {"sandbox": True}),
    ],
)
def test_what_the_gateway_cannot_do_is_not_supported(stub, request_, values):
    for method in (provider(stub, **values).validate, provider(stub, **values).create):
        with pytest.raises(NotSupported):
            method(request_)
    assert stub.seen == []


@pytest.mark.parametrize(
    ("declared", "field", "value"),
    [
        (OxaPayCreateOptions, "to_currency", "BTC"),
        (OxaPayCreateOptions, "to_currency", "usdt"),
        (OxaPayCreateOptions, "auto_withdrawal", 1),
        (OxaPayCreateOptions, "mixed_payment", "yes"),
        (OxaPayCreateOptions, "thanks_message", 5),
        (OxaPayCreateOptions, "lifetime", 60),
        (OxaPayCreateOptions, "network", "TRON"),
        (OxaPayStaticOptions, "to_currency", "TRX"),
        (OxaPayStaticOptions, "mixed_payment", True),
        (OxaPayOptions, "sandbox", 1),
        (OxaPayOptions, "base_url", 5),
        (OxaPayOptions, "description_length", 15),
        (OxaPayOptions, "description_length", 4097),
        (OxaPayOptions, "search_minutes", 4),
        (OxaPayOptions, "search_minutes", 1441),
        (OxaPayOptions, "payout_api_key", "x"),
    ],
)
def test_a_wrong_option_is_named(declared, field, value):
    values = {"merchant_api_key": KEY} if declared is OxaPayOptions else {}
    with pytest.raises(InvalidRequest) as caught:
        read_options(declared, values | {field: value})
    assert caught.value.field == field


@pytest.mark.parametrize(
    "key", [None, "", " ", "changeme", "secret", "whsec_", [], [""], [KEY, ""], " " + KEY, KEY + "\n", 7, b"bytes"]
)
def test_T02_an_empty_or_placeholder_key_builds_no_account(key):
    with pytest.raises(InvalidRequest) as caught:
        read_options(OxaPayOptions, {"merchant_api_key": key})
    assert caught.value.field == "merchant_api_key"


def test_T02_the_key_is_required():
    with pytest.raises(InvalidRequest) as caught:
        read_options(OxaPayOptions, {})
    assert caught.value.field == "merchant_api_key"


def test_the_newest_key_is_sent(stub):
    assert sent(stub, PLAIN, merchant_api_key=["NEWKEY-1", KEY]).headers["merchant_api_key"] == "NEWKEY-1"


@pytest.mark.parametrize(
    "url", ["http://api.oxapay.com/v1", "https://user:pw@api.oxapay.com", "https://192.168.1.1/v1", "api.oxapay.com"]
)
def test_T58_an_accounts_base_url(url):
    with pytest.raises(InvalidRequest) as caught:
        OxaPay(read_options(OxaPayOptions, {"merchant_api_key": KEY, "base_url": url}))
    assert caught.value.field == "base_url"


# Static addresses


def test_static_address_request(stub):
    stub.script.append(
        (200, {"data": {"track_id": "5", "network": "Tron Network", "address": "T1", "memo": 77, "date": 1}, "status": 200})
    )
    static = read_options(OxaPayStaticOptions, {"to_currency": "USDT", "auto_withdrawal": False})
    request = replace(STATIC, customer="C-17", description="Deposits", email="a@b.example", options=static)
    made = provider(stub).create_static_address(request)
    [seen] = stub.seen
    assert (seen.method, seen.path) == ("POST", "/v1/payment/static-address")
    assert seen.json == {
        "network": "TRON",
        "to_currency": "USDT",
        "auto_withdrawal": False,
        "callback_url": CALLBACK,
        "email": "a@b.example",
        "order_id": REFERENCE,
        "description": "C-17: Deposits",
    }
    assert (made.kind, made.gateway_id, made.address, made.address_tag) == ("static_address", "5", "T1", "77")
    assert (made.pay_currency, made.network, made.payment_url) == ("USDT", "Tron Network", "")


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("pay_currency", {"pay_currency": "DOGE"}),
        ("pay_currency", {"pay_currency": "BTC"}),
        ("reference", {"reference": ""}),
        ("callback_url", {"callback_url": "x"}),
        ("order_id", {"customer": "\ud800"}),
        ("options", {"options": OxaPayCreateOptions()}),
    ],
)
def test_a_wrong_static_address_is_named_before_any_call(stub, field, changes):
    with pytest.raises(InvalidRequest) as caught:
        provider(stub).create_static_address(replace(STATIC, **changes))
    assert caught.value.field == field and stub.seen == []


def test_a_sandbox_account_makes_no_static_address(stub):
    with pytest.raises(NotSupported):
        provider(stub, sandbox=True).create_static_address(STATIC)
    assert stub.seen == []


def static(address, network=""):
    return Remote(Kind.STATIC_ADDRESS, "", address=address, network=network)


def test_revoking_a_static_address(stub):
    stub.script += [(200, {"data": {}, "status": 200})] * 2
    provider(stub).revoke_static_address(static("T1", "TRON"))
    provider(stub).revoke_static_address(static("bitcoincash:qq1"))
    assert [(seen.method, seen.path) for seen in stub.seen] == [("POST", "/v1/payment/static-address/revoke")] * 2
    assert [seen.json for seen in stub.seen] == [{"address": "T1", "network": "TRON"}, {"address": "bitcoincash:qq1"}]
    for address in ("", None, "\x00"):
        with pytest.raises(InvalidRequest):
            provider(stub).revoke_static_address(static(address))
    stub.script.append((500, b""))
    with pytest.raises(GatewayError):
        provider(stub).revoke_static_address(static("T1"))
    assert len(stub.seen) == 3
