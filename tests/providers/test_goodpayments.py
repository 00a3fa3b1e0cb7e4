import dataclasses
import json
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import environ
import pytest

from crypto_invoices.conf import accounts_from_env
from crypto_invoices.exceptions import GatewayRefused, GatewayUnavailable, GatewayUncertain, InvalidRequest, NotSupported
from crypto_invoices.providers.base import Ack, Capability, CreateRequest, Hint, Kind, Page, Remote, StaticAddressRequest
from crypto_invoices.providers.goodpayments import GoodPayments, GoodPaymentsOptions
from crypto_invoices.providers.options import NoOptions, read_options
from crypto_invoices.statuses import InvoiceStatus, Source

KEY = "94a48138b1f41b9cdb3e12c2ff0c7cbe1c7a5f50a311a5054b903cad84215662"  # the vendor's sample
REFERENCE = "abcdefghijklmnopqrstuvwxyz"
CALLBACK = "https://shop.example/callback/"
RETURN = "https://shop.example/thanks/"
PLAIN = CreateRequest(reference=REFERENCE, amount=Decimal("10"), currency="USD", callback_url=CALLBACK)
OWN = replace(PLAIN, page=Page.OWN, pay_currencies=("TRX",))
STATIC = StaticAddressRequest(reference=REFERENCE, callback_url=CALLBACK, pay_currency="USDT@tron")

# The sample answer of the vendor's page "Create an Invoice".
SAMPLE = b"""{
  "id": 336575574,
  "status": "ACTIVE",
  "type": "SINGLE",
  "paymentURL": "https://app.goodpayments.io/payment/336575574",
  "amount": 10,
  "currencies": [
    "TRX",
    "USDT"
  ],
  "currencies_amounts": {
    "TRX": 33.402357,
    "USDT": 10
  },
  "transfer_amounts": {
    "input": {
      "TRX": 0,
      "USDT": 0
    },
    "output": {
      "TRX": 0,
      "USDT": 0
    }
  },
  "cost": null,
  "client_commission": true,
  "order_id": null,
  "address": "TRWvSiQzhSpLdRAmwDHKtgd7bZb2G2be53",
  "webhook_url": null,
  "redirect_url": null,
  "description": "",
  "merchant_contact": "@username",
  "target_wallets": {},
  "expired_at": "2026-03-17T11:59:07.515594+03:00",
  "created_at": "2026-03-17T11:29:07.518981+03:00"
}"""
ANSWER = json.loads(SAMPLE)
ADDRESS = "TRWvSiQzhSpLdRAmwDHKtgd7bZb2G2be53"
INVOICE = Remote(Kind.INVOICE, "336575574", REFERENCE)
OWN_INVOICE = Remote(Kind.ADDRESS, "336575574", REFERENCE)
STATIC_ADDRESS = Remote(Kind.STATIC_ADDRESS, "336575574", REFERENCE, address=ADDRESS, network="TRON")
MULTIPLE = ANSWER | {"type": "MULTIPLE", "amount": None, "currencies": ["USDT"], "currencies_amounts": {}, "expired_at": None}
PAGE = "https://app.goodpayments.io/payment/336575574"
EXPIRES = datetime(2026, 3, 17, 8, 59, 7, 515594, tzinfo=UTC)


def moved(trx=0, usdt=0):
    tokens = {"TRX": trx, "USDT": usdt}
    return {"transfer_amounts": {"input": tokens, "output": {"TRX": 0, "USDT": 0}}}


def build(**values):
    return GoodPayments(read_options(GoodPaymentsOptions, {"api_key": KEY} | values), alias="tron")


LIVE = build()


@pytest.fixture
def gateway(stub):
    return build(base_url=stub.url + "/v1/api")


def sent(stub, request, answer=ANSWER, **values):
    """What a create call sends, as the one request that was seen."""
    stub.script.append((200, answer))
    provider = build(base_url=stub.url + "/v1/api", **values)
    (provider.create if isinstance(request, CreateRequest) else provider.create_static_address)(request)
    return stub.seen.pop()


def fetched(stub, gateway, changes=(), remote=INVOICE, answer=ANSWER):
    stub.script.append((200, answer | dict(changes)))
    return gateway.fetch(remote)


# The contract


def test_capabilities_have_their_methods():
    methods = {
        Capability.CANCEL: "cancel",
        Capability.LOOKUP_BY_REFERENCE: "find",
        Capability.STATIC_ADDRESS: "create_static_address",
        Capability.REVOKE_STATIC_ADDRESS: "revoke_static_address",
    }
    there = {capability for capability, method in methods.items() if hasattr(GoodPayments, method)}
    assert there == GoodPayments.capabilities & set(methods)
    assert GoodPayments.capabilities - set(methods) == {Capability.OWN_PAGE}


def test_facts_of_the_gateway():
    assert LIVE.account.base_url == "https://app.goodpayments.io/v1/api"
    assert GoodPayments.watch == timedelta(hours=24) and GoodPayments.default_lifetime == timedelta(minutes=30)
    assert GoodPayments.page_hosts == {"app.goodpayments.io"} and GoodPayments.expires_locally is False
    assert (GoodPayments.signature_headers, GoodPayments.signed_fields) == ((), frozenset())
    assert LIVE.acknowledge() == Ack(b"", "text/plain", 200) and LIVE.sandbox is False and LIVE.alias == "tron"


def test_an_account_from_the_environment():
    env = environ.Env()
    env.ENVIRON = {
        "CRYPTO_INVOICES_ACCOUNTS": "tron",
        "CRYPTO_INVOICES_TRON_PROVIDER": "goodpayments",
        "CRYPTO_INVOICES_TRON_API_KEY": KEY,
        "CRYPTO_INVOICES_TRON_MINIMUM_AMOUNT": "5",
        "CRYPTO_INVOICES_TRON_INPUT_IS_CONFIRMING": "yes",
        "CRYPTO_INVOICES_TRON_INPUT_IS_TOTAL": "no",
    }
    [account] = accounts_from_env(env).values()
    assert account == {
        "PROVIDER": "crypto_invoices.providers.goodpayments.GoodPayments",
        "OPTIONS": {"api_key": [KEY], "minimum_amount": Decimal(5), "input_is_confirming": True, "input_is_total": False},
    }


# The documented parameters

DOCUMENTED = json.loads((Path(__file__).parent / "parameters" / "goodpayments.json").read_text())
PARAMETERS = {
    "POST /payment/create": {
        "type": "set by us: SINGLE for an invoice, MULTIPLE for a static address",
        "amount": "argument amount",
        "currencies": "argument pay_currencies",
        "expiry_minutes": "argument lifetime",
        "client_comission": "argument fee_payer",
        "order_id": "argument reference",
        "webhook_url": "argument callback_url",
        "redirect_url": "argument return_url",
        "description": "argument description",
    },
    "GET /payment/get/{id}": {"id": "set by us: the gateway's id of the invoice"},
    "DELETE /payment/{id}/cancel": {"id": "set by us: the gateway's id of the invoice"},
    "GET /merchant": {},
}
MOST = replace(
    PLAIN,
    amount=Decimal("10.10"),
    order_id="1001",
    description="Two books",
    email="a@b.example",
    lifetime=timedelta(minutes=45),
    pay_currencies=("USDT@tron", "TRX"),
    fee_payer="merchant",
    return_url=RETURN,
)


def test_every_documented_parameter_has_its_place():
    assert {call: set(names) for call, names in PARAMETERS.items()} == {call: set(names) for call, names in DOCUMENTED.items()}
    fields = {item.name for declared in (CreateRequest, StaticAddressRequest) for item in dataclasses.fields(declared)}
    for how in (how for names in PARAMETERS.values() for how in names.values()):
        kind, _, rest = how.partition(" ")
        assert (kind == "argument" and rest in fields) or how.startswith("set by us: ")


def test_every_documented_parameter_is_sent(stub):
    names = set(sent(stub, MOST, ANSWER | {"client_commission": False}).json)
    assert names == set(DOCUMENTED["POST /payment/create"])
    assert set(sent(stub, STATIC, MULTIPLE).json) < names


# Create: the request


def test_T22_the_complete_body_digit_by_digit(stub):
    seen = sent(stub, MOST, ANSWER | {"client_commission": False})
    assert (seen.method, seen.path) == ("POST", "/v1/api/payment/create")
    assert seen.body == (
        b'{"type":"SINGLE","order_id":"abcdefghijklmnopqrstuvwxyz","webhook_url":"https://shop.example/callback/",'
        b'"description":"1001: Two books","amount":10.1,"currencies":["USDT","TRX"],"expiry_minutes":45,'
        b'"client_comission":false,"redirect_url":"https://shop.example/thanks/"}'
    )
    assert {seen.headers[name] for name in ("Accept", "Content-Type")} == {"application/json"}
    assert seen.headers["Authorization"] == KEY


def test_the_least_request(stub):
    assert sent(stub, PLAIN).json == {
        "type": "SINGLE",
        "amount": 10,
        "currencies": ["TRX", "USDT"],
        "expiry_minutes": 30,
        "order_id": REFERENCE,
        "webhook_url": CALLBACK,
    }


@pytest.mark.parametrize(
    ("amount", "wire"),
    [
        (Decimal("10.10"), b"10.1"),
        (Decimal("0.01"), b"0.01"),
        (Decimal("1E+3"), b"1000"),
        ("25.00", b"25"),
        (7, b"7"),
        (Decimal("12345678901234567890.12"), b"12345678901234567890.12"),
    ],
)
def test_T22_exact_digits_on_the_wire(stub, amount, wire):
    assert b'"amount":' + wire + b"," in sent(stub, replace(PLAIN, amount=amount), ANSWER | {"client_commission": False}).body


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({"lifetime": timedelta(minutes=1)}, "expiry_minutes", 1),
        ({"lifetime": timedelta(days=1)}, "expiry_minutes", 1440),
        ({"fee_payer": "payer"}, "client_comission", True),
        ({"pay_currencies": ("TRX",)}, "currencies", ["TRX"]),
        ({"pay_currencies": ("TRX@tron", "TRX")}, "currencies", ["TRX"]),
        ({"pay_currencies": ("USDT@tron",)}, "currencies", ["USDT"]),
        ({"order_id": "1001"}, "description", "1001"),
        ({"description": "Books"}, "description", "Books"),
        ({"order_id": "1001", "description": "é😀" * 200}, "description", "1001: " + "é😀" * 124 + "é"),
        ({"description": 'a"b\\c\r\n\u2028</script>😀'}, "description", 'a"b\\c\r\n\u2028</script>😀'),
    ],
)
def test_an_argument_is_sent(stub, changes, name, value):
    assert sent(stub, replace(PLAIN, **changes)).json[name] == value


def test_an_own_page_asks_for_one_token(stub):
    body = sent(stub, replace(OWN, pay_currencies=("USDT@tron",), return_url=RETURN)).json
    assert (body["type"], body["currencies"], body["redirect_url"]) == ("SINGLE", ["USDT"], RETURN)


def test_a_static_address_request(stub):
    seen = sent(stub, replace(STATIC, customer="C-17", description="Deposits", email="a@b.example"), MULTIPLE)
    assert (seen.method, seen.path) == ("POST", "/v1/api/payment/create")
    assert seen.json == {
        "type": "MULTIPLE",
        "currencies": ["USDT"],
        "order_id": REFERENCE,
        "webhook_url": CALLBACK,
        "description": "C-17: Deposits",
    }


WRONG = [
    ("amount", {"amount": Decimal(0)}),
    ("amount", {"amount": Decimal("-1")}),
    ("amount", {"amount": 10.0}),
    ("amount", {"amount": True}),
    ("amount", {"amount": None}),
    ("amount", {"amount": Decimal("NaN")}),
    ("amount", {"amount": Decimal("10.105")}),
    ("amount", {"amount": Decimal(10) ** 20}),
    ("currency", {"currency": "EUR"}),
    ("currency", {"currency": "USDT"}),
    ("currency", {"currency": "usd"}),
    ("currency", {"currency": ""}),
    ("currency", {"currency": None}),
    ("lifetime", {"lifetime": timedelta(0)}),
    ("lifetime", {"lifetime": timedelta(seconds=59)}),
    ("lifetime", {"lifetime": timedelta(seconds=61)}),
    ("lifetime", {"lifetime": timedelta(minutes=1441)}),
    ("lifetime", {"lifetime": timedelta(minutes=-30)}),
    ("lifetime", {"lifetime": 30}),
    ("fee_payer", {"fee_payer": "both"}),
    ("fee_payer", {"fee_payer": ""}),
    ("callback_url", {"callback_url": ""}),
    ("callback_url", {"callback_url": "http://shop.example/"}),
    ("callback_url", {"callback_url": "https://10.0.0.1/"}),
    ("return_url", {"return_url": "javascript:alert(1)"}),
    ("return_url", {"return_url": "//evil.example"}),
    ("reference", {"reference": ""}),
    ("reference", {"reference": "../x"}),
    ("email", {"email": "a\x00b"}),
    ("description", {"description": "\ud800"}),
    ("order_id", {"order_id": 7}),
    ("options", {"options": {"expiry_minutes": 30}}),
    ("options", {"options": GoodPaymentsOptions(api_key=())}),
    ("pay_currencies", {"pay_currencies": ("USDT",)}),
    ("pay_currencies", {"pay_currencies": ("USDT@ethereum",)}),
    ("pay_currencies", {"pay_currencies": ("TRX", "BTC")}),
    ("pay_currencies", {"page": Page.OWN}),
    ("pay_currencies", {"page": Page.OWN, "pay_currencies": ("TRX", "USDT@tron")}),
]


@pytest.mark.parametrize(("field", "changes"), WRONG, ids=str)
def test_a_wrong_value_is_named_before_any_call(stub, gateway, field, changes):
    request = replace(PLAIN, **changes)
    for method in (gateway.validate, gateway.create):
        with pytest.raises(InvalidRequest) as caught:
            method(request)
        assert caught.value.field == field
    assert stub.seen == []


def test_an_unknown_coin_is_told_what_would_do(gateway):
    with pytest.raises(InvalidRequest) as caught:
        gateway.validate(replace(PLAIN, pay_currencies=("BTC",)))
    assert str(caught.value) == "pay_currencies: 'BTC' is not accepted by goodPayments; accepted are: TRX, TRX@tron, USDT@tron"


@pytest.mark.parametrize(
    "changes",
    [
        {"cancel_url": "https://shop.example/cancel/"},
        {"underpaid_tolerance": Decimal("2.5")},
        {"underpaid_tolerance": Decimal(0)},
    ],
)
def test_what_the_gateway_cannot_do_is_not_supported(stub, gateway, changes):
    for method in (gateway.validate, gateway.create):
        with pytest.raises(NotSupported) as caught:
            method(replace(PLAIN, **changes))
        assert next(iter(changes)) in str(caught.value)
    assert stub.seen == []


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("pay_currency", {"pay_currency": "BTC"}),
        ("pay_currency", {"pay_currency": ""}),
        ("reference", {"reference": ""}),
        ("callback_url", {"callback_url": "x"}),
        ("order_id", {"customer": "\ud800"}),
        ("description", {"description": None}),
        ("email", {"email": "\x00"}),
        ("options", {"options": {}}),
    ],
)
def test_a_wrong_static_address_is_named_before_any_call(stub, gateway, field, changes):
    with pytest.raises(InvalidRequest) as caught:
        gateway.create_static_address(replace(STATIC, **changes))
    assert caught.value.field == field and stub.seen == []


def test_every_argument_is_mapped_or_refused():
    """A new neutral argument needs a decision here."""
    mapped = set(
        "reference amount currency callback_url order_id description lifetime pay_currencies fee_payer return_url".split()
    )
    refused, chosen = {"underpaid_tolerance", "cancel_url"}, {"page", "options", "email"}  # no field for an email
    assert {item.name for item in dataclasses.fields(CreateRequest)} == mapped | refused | chosen
    assert GoodPayments.create_options is NoOptions is GoodPayments.static_options


# Options


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("api_key", None),
        ("api_key", ""),
        ("api_key", "changeme"),
        ("api_key", KEY + "\n"),
        ("base_url", 5),
        ("minimum_amount", Decimal("0.001")),
        ("minimum_amount", 0.5),
        ("minimum_minutes", 0),
        ("maximum_minutes", 0),
        ("description_length", 15),
        ("description_length", 4097),
        ("input_is_confirming", 1),
        ("input_is_total", 0),
        ("sandbox", True),
    ],
)
def test_T02_a_wrong_option_is_named(field, value):
    with pytest.raises(InvalidRequest) as caught:
        read_options(GoodPaymentsOptions, {"api_key": KEY} | {field: value})
    assert caught.value.field == field


def test_T02_the_key_is_required():
    with pytest.raises(InvalidRequest) as caught:
        read_options(GoodPaymentsOptions, {})
    assert caught.value.field == "api_key"


@pytest.mark.parametrize(
    "url", ["http://app.goodpayments.io/v1/api", "https://user:pw@app.goodpayments.io", "app.goodpayments.io"]
)
def test_T58_an_accounts_base_url(url):
    with pytest.raises(InvalidRequest) as caught:
        build(base_url=url)
    assert caught.value.field == "base_url"


def test_the_newest_key_is_sent(stub):
    assert sent(stub, PLAIN, api_key=["NEWKEY-1", KEY]).headers["Authorization"] == "NEWKEY-1"


def test_what_is_not_documented_is_the_accounts_to_say(stub):
    values = {"minimum_amount": Decimal(5), "minimum_minutes": 10, "maximum_minutes": 60, "description_length": 16}
    at_the_edge = replace(PLAIN, amount=Decimal(5), lifetime=timedelta(minutes=60), description="x" * 17)
    body = sent(stub, at_the_edge, **values).json
    assert (body["amount"], body["expiry_minutes"], body["description"]) == (5, 60, "x" * 16)
    provider = build(**values)
    for changes in ({"amount": Decimal("4.99")}, {"lifetime": timedelta(minutes=9)}, {"lifetime": timedelta(minutes=61)}):
        with pytest.raises(InvalidRequest) as caught:
            provider.validate(replace(PLAIN, **changes))
        assert caught.value.field == next(iter(changes))


# Create: the answer


def test_the_vendors_sample_as_a_hosted_invoice(stub, gateway):
    stub.script.append((200, SAMPLE))
    made = gateway.create(PLAIN)
    assert (made.gateway_id, made.kind, made.payment_url) == ("336575574", Kind.INVOICE, PAGE)
    assert (made.word, made.status, made.address, made.network) == ("active", "pending", ADDRESS, "TRON")
    assert (made.pay_amount, made.pay_currency) == (None, "")  # the payer chooses the token
    assert (made.price_amount, made.price_currency) == (None, "")  # the payer bears the fee
    assert made.expires_at == EXPIRES and made.raw == SAMPLE.decode()


def test_a_hosted_invoice_in_one_token(stub, gateway):
    stub.script.append((200, ANSWER | {"currencies": ["TRX"], "currencies_amounts": {"TRX": 33.402357}}))
    made = gateway.create(replace(PLAIN, pay_currencies=("TRX",)))
    assert (made.pay_amount, made.pay_currency, made.payment_url) == (Decimal("33.402357"), "TRX", PAGE)


@pytest.mark.parametrize(
    ("coin", "token", "amount"), [("TRX", "TRX", Decimal("33.402357")), ("USDT@tron", "USDT", Decimal("10.000000000000000001"))]
)
@pytest.mark.parametrize("both", [True, False])
def test_T22_an_own_page_gets_an_address_and_an_exact_amount(stub, gateway, coin, token, amount, both):
    due = b'{"TRX": 33.402357, "USDT": 10.000000000000000001}' if both else f'{{"{token}": {amount}}}'.encode()
    stub.script.append((200, json.dumps(ANSWER | {"currencies_amounts": "due"}).encode().replace(b'"due"', due)))
    made = gateway.create(replace(OWN, pay_currencies=(coin,)))
    assert (made.kind, made.payment_url, made.address, made.network) == (Kind.ADDRESS, "", ADDRESS, "TRON")
    assert (made.pay_amount, made.pay_currency) == (amount, token)


@pytest.mark.parametrize("ignored", [{}, {"amount": 10, "currencies_amounts": {"USDT": 10}}])
def test_a_static_address_has_no_price(stub, gateway, ignored):
    stub.script.append((200, MULTIPLE | ignored))
    made = gateway.create_static_address(STATIC)
    assert (made.gateway_id, made.kind, made.address, made.network) == ("336575574", Kind.STATIC_ADDRESS, ADDRESS, "TRON")
    assert (made.pay_currency, made.pay_amount, made.payment_url) == ("USDT", None, "")
    assert (made.price_amount, made.price_currency, made.expires_at) == (None, "", None)


@pytest.mark.parametrize("payer", [True, False])
@pytest.mark.parametrize("spelling", ["client_comission", "client_commission"])
def test_both_spellings_of_who_bears_the_fee_are_read(stub, gateway, spelling, payer):
    answer = {name: value for name, value in ANSWER.items() if name != "client_commission"} | {spelling: payer}
    stub.script += [(200, answer)] * 3
    assert gateway.create(PLAIN).gateway_id == "336575574"
    assert gateway.create(replace(PLAIN, fee_payer="payer" if payer else "merchant")).gateway_id == "336575574"
    with pytest.raises(GatewayUncertain) as caught:
        gateway.create(replace(PLAIN, fee_payer="merchant" if payer else "payer"))
    assert caught.value.text.startswith("client_comission: ")


@pytest.mark.parametrize("spelling", ["client_comission", "client_commission"])
def test_a_price_is_told_only_where_the_merchant_bears_the_fee(stub, gateway, spelling):
    plain = {name: value for name, value in ANSWER.items() if name != "client_commission"}
    for payer, amount, price in ((False, 10, (Decimal(10), "USD")), (True, 10, (None, "")), (True, 11.63, (None, ""))):
        answer = plain | {spelling: payer, "amount": amount}
        stub.script += [(200, answer)] * 2
        for told in (gateway.create(PLAIN), gateway.fetch(INVOICE)):
            assert (told.price_amount, told.price_currency) == price


@pytest.mark.parametrize("amount", [0, 9.99])
def test_less_than_ordered_fits_nobody_who_bears_the_fee(stub, gateway, amount):
    stub.script += [(200, ANSWER | {"amount": amount}), (200, ANSWER | {"amount": amount, "client_commission": False})]
    with pytest.raises(GatewayUncertain) as caught:
        gateway.create(PLAIN)
    assert caught.value.text == "amount: less than was ordered"
    assert gateway.create(PLAIN).price_amount == Decimal(str(amount))  # told, so that it is compared as any price


def test_an_answer_may_be_silent_on_what_was_ordered(stub, gateway):
    silent = {name: value for name, value in ANSWER.items() if name in ("id", "status", "paymentURL")}
    stub.script.append((200, silent))
    made = gateway.create(MOST)
    assert (made.gateway_id, made.payment_url, made.price_amount, made.price_currency) == ("336575574", PAGE, None, "")


@pytest.mark.parametrize(
    ("http_status", "answer", "kind", "code", "text"),
    [
        (
            400,
            {"detail": "User's target wallet address is not set"},
            GatewayRefused,
            "",
            "User's target wallet address is not set",
        ),
        (
            403,
            {"detail": "Authentication credentials were not provided."},
            GatewayRefused,
            "",
            "Authentication credentials were not provided.",
        ),
        (403, {"detail": "Invalid API key"}, GatewayRefused, "", "Invalid API key"),
        (
            400,
            {"detail": "JSON parse error - Expecting value: line 2 column 13 (char 14)"},
            GatewayRefused,
            "",
            "JSON parse error - Expecting value: line 2 column 13 (char 14)",
        ),
        (
            400,
            {"expiry_minutes": ["A valid integer is required."]},
            GatewayRefused,
            "expiry_minutes",
            "A valid integer is required.",
        ),
        (400, {"amount": [], "currencies": ["One.", "Two."]}, GatewayRefused, "currencies", "One."),
        (400, {"amount": "Too little."}, GatewayRefused, "amount", "Too little."),
        (400, {"detail": ["No."]}, GatewayRefused, "", "No."),
        (400, {"detail": {"a": "b"}, "amount": [{"x": 1}], "n": 5}, GatewayRefused, "", "no reason given"),
        (400, {}, GatewayRefused, "", "no reason given"),
        (403, b"<html>Forbidden</html>", GatewayRefused, "", "an answer that is no JSON object: not JSON"),
        (429, {"detail": "Request was throttled."}, GatewayUnavailable, "", "Request was throttled."),
        (500, {"detail": "Oops."}, GatewayUncertain, "", "Oops."),
        (502, b"", GatewayUncertain, "", "an answer that is no JSON object: not JSON"),
        (200, b"[]", GatewayUncertain, "", "an answer that is no JSON object: not an object"),
        (200, {"detail": "Invalid API key"}, GatewayUncertain, "", "status: required"),
    ],
)
def test_T62_what_a_failed_create_means(stub, gateway, http_status, answer, kind, code, text):
    stub.script.append((http_status, answer))
    with pytest.raises(kind) as caught:
        gateway.create(PLAIN)
    error = caught.value
    assert type(error) is kind and len(stub.seen) == 1
    assert (error.gateway, error.account, error.operation, error.http_status) == ("goodPayments", "tron", "create", http_status)
    assert (error.code, error.text) == (code, text)


MALFORMED = [
    ("id", {"id": None}),
    ("id", {"id": ""}),
    ("id", {"id": "../1"}),
    ("id", {"id": 1.5}),
    ("id", {"id": True}),
    ("status", {"status": None}),
    ("status", {"status": 1}),
    ("type", {"type": "MULTIPLE"}),
    ("type", {"type": "MULTIPLE_TRANSFER"}),
    ("type", {"type": 7}),
    ("payment_url", {"paymentURL": "http://app.goodpayments.io/payment/1"}),
    ("payment_url", {"paymentURL": "javascript:alert(1)"}),
    ("payment_url", {"paymentURL": "http://127.0.0.2/1"}),
    ("paymentURL", {"paymentURL": 5}),
    ("amount", {"amount": -5}),
    ("amount", {"amount": "1_0"}),
    ("amount", {"amount": []}),
    ("address", {"address": "a\x00b"}),
    ("address", {"address": ["T"]}),
    ("expired_at", {"expired_at": "soon"}),
    ("expired_at", {"expired_at": "2026-03-17T11:59:07+99:00"}),
    ("order_id", {"order_id": 12345}),
    ("order_id", {"order_id": "x" * 257}),
]


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        *MALFORMED,
        ("paymentURL", {"paymentURL": None}),
        ("order_id", {"order_id": "zyxwvutsrqponmlkjihgfedcba"}),
        ("client_comission", {"client_comission": "yes"}),
    ],
    ids=str,
)
def test_T66_T67_an_answer_that_does_not_fit_is_uncertain(stub, gateway, field, changes):
    stub.script.append((200, ANSWER | changes))
    with pytest.raises(GatewayUncertain) as caught:
        gateway.create(PLAIN)
    assert caught.value.text.startswith(f"{field}: ") and caught.value.http_status == 200


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("address", {"address": ""}),
        ("address", {"address": None}),
        ("currencies_amounts", {"currencies_amounts": None}),
        ("currencies_amounts", {"currencies_amounts": {"USDT": 10}}),
        ("currencies_amounts", {"currencies_amounts": {"TRX": 0}}),
        ("currencies_amounts", {"currencies_amounts": {"TRX": "much"}}),
        ("currencies_amounts", {"currencies_amounts": '"TRX": 33.402357'}),
    ],
)
def test_T67_an_own_page_needs_an_address_and_an_amount(stub, gateway, field, changes):
    stub.script.append((200, ANSWER | changes))
    with pytest.raises(GatewayUncertain) as caught:
        gateway.create(OWN)
    assert caught.value.text.startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("field", "changes"), [("address", {"address": None}), ("type", {"type": "SINGLE"}), ("id", {"id": None})]
)
def test_T67_a_static_address_that_does_not_fit_is_uncertain(stub, gateway, field, changes):
    stub.script.append((200, MULTIPLE | changes))
    with pytest.raises(GatewayUncertain) as caught:
        gateway.create_static_address(STATIC)
    assert caught.value.text.startswith(f"{field}: ") and caught.value.operation == "create_static_address"


def test_T56_no_secret_in_texts_and_errors(stub, gateway, caplog):
    assert KEY not in repr(gateway.account) + repr(gateway) + repr(vars(gateway)) + gateway.identity
    stub.script.append((400, {KEY: [f"unknown key {KEY}"]}))
    with caplog.at_level(logging.DEBUG), pytest.raises(GatewayRefused) as caught:
        gateway.create(PLAIN)
    assert (caught.value.code, caught.value.text) == ("***", "unknown key ***")
    assert caplog.text and KEY not in caplog.text


# Fetch


def test_fetch_reads_everything(stub, gateway):
    body = SAMPLE.replace(b'"order_id": null', f'"order_id": "{REFERENCE}"'.encode())
    stub.script.append((200, body))
    before = datetime.now(UTC)
    evidence = gateway.fetch(INVOICE)
    [seen] = stub.seen
    assert (seen.method, seen.path, seen.headers["Authorization"]) == ("GET", "/v1/api/payment/get/336575574", KEY)
    assert evidence.remote == INVOICE and evidence.source is Source.POLL
    assert (evidence.word, evidence.status, evidence.final) == ("active", InvoiceStatus.PENDING, False)
    assert (evidence.price_amount, evidence.price_currency) == (None, "")  # the payer bears the fee
    assert (evidence.pay_amount, evidence.pay_currency) == (None, "")
    assert (evidence.address, evidence.network, evidence.payment_url) == (ADDRESS, "TRON", PAGE)
    assert evidence.expires_at == EXPIRES and evidence.raw == body.decode()
    assert before <= evidence.observed_at <= datetime.now(UTC)
    unknown = ("received", "refunded", "tolerance", "paid_at", "late", "sandbox")
    assert [getattr(evidence, name) for name in unknown] == [None] * len(unknown)
    assert (evidence.transfers, evidence.totals, evidence.review, evidence.on_hold, evidence.manual) == ((), (), "", False, False)


def test_an_invoice_in_one_token_says_what_is_due(stub, gateway):
    changes = {"currencies": ["USDT"], "currencies_amounts": {"USDT": 10.5}, "order_id": "another"}
    evidence = fetched(stub, gateway, changes, OWN_INVOICE)
    assert (evidence.pay_amount, evidence.pay_currency, evidence.payment_url) == (Decimal("10.5"), "USDT", "")
    assert evidence.remote == Remote(Kind.ADDRESS, "336575574", "another")


@pytest.mark.parametrize("gateway_id", ["1", "3365755740", "336575574x"])
def test_T67_fetch_refuses_another_invoice(stub, gateway, gateway_id):
    stub.script.append((200, ANSWER))
    with pytest.raises(GatewayUncertain, match="another invoice"):
        gateway.fetch(replace(INVOICE, gateway_id=gateway_id))


@pytest.mark.parametrize(("field", "changes"), MALFORMED, ids=str)
def test_T66_T67_a_read_answer_that_does_not_fit_is_uncertain(stub, gateway, field, changes):
    with pytest.raises(GatewayUncertain) as caught:
        fetched(stub, gateway, changes)
    assert caught.value.text.startswith(f"{field}: ") and caught.value.operation == "fetch"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("transfer_amounts", 5),
        ("transfer_amounts", '"TRX": 3.6329'),
        ("transfer_amounts.input", {}),
        ("transfer_amounts.input", {"TRX": 3.6329}),
        ("transfer_amounts.input", {"input": None}),
        ("transfer_amounts.input", {"input": '"TRX": 3.6329'}),
        ("transfer_amounts.input.USDT", {"input": {"USDT": -1}}),
        ("transfer_amounts.input.TRX", {"input": {"TRX": "1,5"}}),
    ],
)
def test_T66_T67_received_sums_that_cannot_be_read_hide_deposits_but_no_status(stub, gateway, field, value):
    with pytest.raises(GatewayUncertain) as caught:
        fetched(stub, gateway, {"transfer_amounts": value}, STATIC_ADDRESS, MULTIPLE)
    assert caught.value.text.startswith(f"{field}: ")
    provider = build(base_url=gateway.account.base_url, input_is_confirming=True)
    for word, status in (("COMPLETED", "paid"), ("ACTIVE", "pending"), ("TIMEOUT", "expired")):
        evidence = fetched(stub, provider, {"status": word, "transfer_amounts": value})
        assert (evidence.status, evidence.received, evidence.review) == (status, None, "")


@pytest.mark.parametrize("value", ['"TRX": 3.6329', "", [], 5, {"TRX": "much"}, {"TRX": {"amount": 3}}, {"TRX": -1}])
def test_sums_due_that_cannot_be_read_are_unknown(stub, gateway, value):
    evidence = fetched(stub, gateway, {"status": "COMPLETED", "currencies_amounts": value})
    assert (evidence.status, evidence.pay_amount, evidence.pay_currency) == ("paid", None, "")
    stub.script.append((200, ANSWER | {"currencies_amounts": value}))
    made = gateway.create(replace(PLAIN, pay_currencies=("TRX",)))
    assert (made.payment_url, made.pay_amount, made.pay_currency) == (PAGE, None, "TRX")


@pytest.mark.parametrize("gateway_id", ["", "../merchant", "1?x=1", "1/2"])
def test_T58_ids_are_checked_before_any_call(stub, gateway, gateway_id):
    for method in (gateway.fetch, gateway.cancel, gateway.revoke_static_address):
        with pytest.raises(InvalidRequest):
            method(replace(INVOICE, gateway_id=gateway_id))
    assert stub.seen == []


def test_an_unknown_invoice_is_refused(stub, gateway):
    stub.script.append((404, {"detail": "Not found."}))
    with pytest.raises(GatewayRefused) as caught:
        gateway.fetch(INVOICE)
    assert (caught.value.operation, caught.value.text) == ("fetch", "Not found.")


def test_T64_a_bounded_fetch_is_one_try(stub, gateway):
    stub.script.append((503, {"detail": "Busy."}))
    with pytest.raises(GatewayUnavailable):
        gateway.fetch(INVOICE, timeout=5)
    assert len(stub.seen) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-11-23T14:28:57.786076+00:00", datetime(2025, 11, 23, 14, 28, 57, 786076, tzinfo=UTC)),
        ("2026-03-17T11:59:07.515594+03:00", EXPIRES),
        ("2026-03-17T00:30:00-05:00", datetime(2026, 3, 17, 5, 30, tzinfo=UTC)),
        ("2026-03-17T11:59:07Z", datetime(2026, 3, 17, 11, 59, 7, tzinfo=UTC)),
        (None, None),
    ],
)
def test_T68_times_have_an_offset(stub, gateway, text, expected):
    assert fetched(stub, gateway, {"expired_at": text}).expires_at == expected


# Statuses

STATUSES = {
    "ACTIVE": ("active", "pending", False),
    "COMPLETED": ("completed", "paid", True),
    "OVERPAID": ("overpaid", "overpaid", True),
    "UNDERPAID": ("underpaid", "underpaid", True),
    "CANCELED": ("canceled", "cancelled", True),
    "CANCELLED": ("cancelled", "cancelled", True),
    "TIMEOUT": ("timeout", "expired", True),
    "ERROR": ("error", "failed", True),
    "AML_FAILED": ("aml_failed", "failed", True),
}


@pytest.mark.parametrize("word", STATUSES)
def test_T37_every_documented_word(stub, gateway, word):
    evidence = fetched(stub, gateway, {"status": word})
    assert (evidence.word, evidence.status, evidence.final) == STATUSES[word]
    assert bool(evidence.review) is (word in ("ERROR", "AML_FAILED"))
    assert evidence.late is (False if word in ("COMPLETED", "OVERPAID", "UNDERPAID") else None)
    assert evidence.received is None


def test_T37_the_map_holds_no_other_word():
    assert {word: (status, word in GoodPayments.final) for word, status in GoodPayments.statuses.items()} == {
        word: (status, final) for word, status, final in STATUSES.values()
    }


@pytest.mark.parametrize("word", ["PAID", "COMPLETE", "COMPLETED2", "СOMPLETED", "CONFIRMING", "AML", "0", " COMPLETED"])
def test_T37_an_unknown_word_changes_nothing(stub, gateway, word):
    evidence = fetched(stub, gateway, {"status": word} | moved(usdt=10))
    assert evidence.status is None and evidence.final is False and evidence.late is None


def test_a_failed_check_and_an_error_are_told_apart(stub, gateway):
    assert "AML" in fetched(stub, gateway, {"status": "AML_FAILED"}).review
    assert "another token" in fetched(stub, gateway, {"status": "ERROR"} | moved(usdt=10)).review


@pytest.mark.parametrize(
    ("is_confirming", "word", "came_in", "status"),
    [
        (False, "ACTIVE", {"usdt": 10}, "pending"),
        (True, "ACTIVE", {"usdt": 10}, "confirming"),
        (True, "ACTIVE", {"trx": 0.000001}, "confirming"),
        (True, "ACTIVE", {}, "pending"),
        (True, "COMPLETED", {"usdt": 10}, "paid"),
        (True, "TIMEOUT", {"usdt": 10}, "expired"),
    ],
)
def test_money_on_an_active_invoice_confirms_only_where_the_account_says_so(stub, is_confirming, word, came_in, status):
    provider = build(base_url=stub.url, input_is_confirming=is_confirming)
    evidence = fetched(stub, provider, {"status": word} | moved(**came_in))
    assert (evidence.status, evidence.received, evidence.totals) == (status, None, ())


@pytest.mark.parametrize("word", STATUSES)
def test_an_invoice_closed_over_money_is_looked_at(stub, gateway, word):
    with_money = fetched(stub, gateway, {"status": word} | moved(trx=1))
    assert bool(with_money.review) is (word in ("CANCELED", "CANCELLED", "TIMEOUT", "ERROR", "AML_FAILED"))
    without = fetched(stub, gateway, {"status": word, "transfer_amounts": None})
    assert bool(without.review) is (word in ("ERROR", "AML_FAILED"))


# Cancel


def test_cancelling(stub, gateway):
    stub.script.append((200, ANSWER | {"status": "CANCELED", "order_id": REFERENCE}))
    evidence = gateway.cancel(INVOICE)
    [seen] = stub.seen
    assert (seen.method, seen.path, seen.body) == ("DELETE", "/v1/api/payment/336575574/cancel", b"")
    assert seen.headers["Authorization"] == KEY
    assert (evidence.status, evidence.final, evidence.source, evidence.remote) == ("cancelled", True, Source.POLL, INVOICE)


def test_a_cancelled_invoice_is_whatever_the_gateway_says_it_is(stub, gateway):
    stub.script.append((200, ANSWER | {"status": "COMPLETED"} | moved(usdt=10)))
    assert gateway.cancel(INVOICE).status == "paid"


@pytest.mark.parametrize(
    ("http_status", "answer", "kind"),
    [
        (400, {"detail": "No."}, GatewayRefused),
        (500, {"detail": "Oops."}, GatewayUncertain),
        (200, {}, GatewayUncertain),
        (200, ANSWER | {"id": 1}, GatewayUncertain),
    ],
)
def test_a_cancel_that_failed_is_sent_once(stub, gateway, http_status, answer, kind):
    stub.script.append((http_status, answer))
    with pytest.raises(kind) as caught:
        gateway.cancel(INVOICE)
    assert caught.value.operation == "cancel" and len(stub.seen) == 1


# Static addresses


@pytest.mark.parametrize(
    ("changes", "totals"),
    [
        (moved(), (("TRX", Decimal(0)), ("USDT", Decimal(0)))),
        ({"transfer_amounts": None}, ()),
        ({"transfer_amounts": {"input": {"USDT": 25}}}, (("USDT", Decimal(25)),)),
        (moved(usdt=25), (("TRX", Decimal(0)), ("USDT", Decimal(25)))),
        (moved(trx=3.6329, usdt="0.000000000000000001"), (("TRX", Decimal("3.6329")), ("USDT", Decimal("1E-18")))),
    ],
)
def test_what_came_to_a_static_address(stub, changes, totals):
    provider = build(base_url=stub.url, input_is_confirming=True)
    evidence = fetched(stub, provider, changes, STATIC_ADDRESS, MULTIPLE)
    assert evidence.totals == totals
    assert (evidence.status, evidence.final, evidence.remote.kind) == ("pending", False, Kind.STATIC_ADDRESS)
    assert (evidence.price_amount, evidence.price_currency, evidence.received, evidence.payment_url) == (None, "", None, "")
    assert (evidence.pay_amount, evidence.pay_currency, evidence.address) == (None, "", ADDRESS)


def test_a_closed_static_address_keeps_its_sums_and_needs_no_look(stub, gateway):
    evidence = fetched(stub, gateway, {"status": "CANCELED"} | moved(usdt=25), STATIC_ADDRESS, MULTIPLE)
    assert (evidence.status, dict(evidence.totals), evidence.review) == ("cancelled", {"TRX": 0, "USDT": 25}, "")


@pytest.mark.parametrize("changes", [moved(usdt=25), {"transfer_amounts": "25"}])
def test_sums_of_unknown_meaning_are_not_told_where_the_account_says_so(stub, changes):
    evidence = fetched(stub, build(base_url=stub.url, input_is_total=False), changes, STATIC_ADDRESS, MULTIPLE)
    assert (evidence.status, evidence.totals) == ("pending", ())


def test_T67_an_invoice_is_no_static_address(stub, gateway):
    for remote, answer in ((STATIC_ADDRESS, ANSWER), (INVOICE, MULTIPLE)):
        with pytest.raises(GatewayUncertain, match="type: another kind"):
            fetched(stub, gateway, {}, remote, answer)


def test_revoking_a_static_address(stub, gateway):
    stub.script += [(200, {"id": 336575574}), (400, {"detail": "No."})]
    assert gateway.revoke_static_address(STATIC_ADDRESS) is None
    with pytest.raises(GatewayRefused) as caught:
        gateway.revoke_static_address(STATIC_ADDRESS)
    assert caught.value.operation == "revoke_static_address"
    assert [(seen.method, seen.path) for seen in stub.seen] == [("DELETE", "/v1/api/payment/336575574/cancel")] * 2


@pytest.mark.parametrize(
    ("word", "text"), [("ACTIVE", "status: still ACTIVE"), ("active", "status: still ACTIVE"), (5, "status: ")]
)
def test_an_address_that_is_still_active_was_not_revoked(stub, gateway, word, text):
    stub.script += [(200, MULTIPLE | {"status": word}), (200, MULTIPLE | {"status": "CANCELED", "transfer_amounts": "?"})]
    with pytest.raises(GatewayUncertain) as caught:
        gateway.revoke_static_address(STATIC_ADDRESS)
    assert caught.value.operation == "revoke_static_address" and caught.value.text.startswith(text)
    assert gateway.revoke_static_address(STATIC_ADDRESS) is None


# Verify


@pytest.mark.parametrize("word", [*STATUSES, "anything"])
def test_T01_an_unsigned_body_is_no_more_than_an_id(word):
    body = json.dumps(ANSWER | {"status": word} | moved(usdt=10)).encode()
    assert LIVE.verify({"Content-Type": "application/json", "Authorization": KEY}, body, url=CALLBACK) == Hint("336575574")


def test_T01_the_rest_of_a_body_does_not_matter():
    assert LIVE.verify({}, b'{"id":"7","status":5,"amount":-1,"type":[]}') == Hint("7")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"7",
        b"[]",
        b'"336575574"',
        b"{}",
        b"id=336575574",
        b'{"id":null}',
        b'{"id":""}',
        b'{"id":true}',
        b'{"id":1.0}',
        b'{"id":{}}',
        b'{"id":["1"]}',
        b'{"id":"../merchant"}',
        b'{"id":"1 2"}',
        b'{"id":"\\u0000"}',
        b'{"id":"' + b"1" * 129 + b'"}',
        b'{"id":' + b"1" * 5000 + b"}",
        b'{"id":1,"id":2}',
        b'{"id":1,"x":NaN}',
        b'{"id":1}{}',
        b'\xef\xbb\xbf{"id":1}',
        b'{"id":"\xff"}',
        b"[" * 100000,
        b'{"a":' * 1000,
    ],
    ids=lambda body: repr(body[:24]),
)
def test_T11_T05_bytes_from_anyone_give_an_empty_hint(body):
    assert LIVE.verify({}, body) == Hint("")


# The vendor's own calls


def test_the_merchant_account(stub, gateway):
    stub.script.append(
        (
            200,
            b'{"email":"shop@example.com","balance":771.011200337155,"target_wallet_address":"T1",'
            b'"topup_wallet_address":"T2","activation_wallet_address":"T3"}',
        )
    )
    account = gateway.merchant()
    assert account["balance"] == Decimal("771.011200337155") and account["activation_wallet_address"] == "T3"
    [seen] = stub.seen
    assert (seen.method, seen.path, seen.headers["Authorization"]) == ("GET", "/v1/api/merchant", KEY)


def test_a_probe_tells_the_gateways_clock(stub, gateway):
    head = b"HTTP/1.1 200 OK\r\nDate: Tue, 17 Mar 2026 08:29:07 GMT\r\nConnection: close\r\nContent-Length: 28\r\n\r\n"
    dated = head + b'{"email":"shop@example.com"}'
    stub.script += [lambda handler: handler.wfile.write(dated), (403, {"detail": "Invalid API key"})]
    assert gateway.probe() == datetime(2026, 3, 17, 8, 29, 7, tzinfo=UTC)
    with pytest.raises(GatewayRefused) as caught:
        gateway.probe()
    assert (caught.value.operation, caught.value.text) == ("probe", "Invalid API key")
    assert [(seen.method, seen.path) for seen in stub.seen] == [("GET", "/v1/api/merchant")] * 2
