import base64
import hashlib
import hmac
import json
import logging
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import environ
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crypto_invoices.conf import accounts_from_env
from crypto_invoices.exceptions import (
    BadSignature,
    GatewayRefused,
    GatewayUnavailable,
    GatewayUncertain,
    InvalidRequest,
    MalformedCallback,
    MisdirectedCallback,
    NotSupported,
)
from crypto_invoices.providers import onchainpay as module
from crypto_invoices.providers import signing
from crypto_invoices.providers.base import (
    Ack,
    Capability,
    CreateRequest,
    Evidence,
    Hint,
    Kind,
    Page,
    Remote,
    RemoteInvoice,
    RemoteTransfer,
    StaticAddressRequest,
)
from crypto_invoices.providers.onchainpay import (
    OnchainPay,
    OnchainPayCreateOptions,
    OnchainPayOptions,
    OnchainPayStaticOptions,
)
from crypto_invoices.providers.options import read_options
from crypto_invoices.providers.signing import nonce
from crypto_invoices.statuses import InvoiceStatus, Review, Source, Verdict, judge

# The pair of keys that https://docs.onchainpay.io/ prints.
PUBLIC = "a9biVHtyP71VxuItAd88tuN+WyNGxVR41j9lGLj7zc0DjtGHkNRAKQWS/fiCnJPomY9i+hETCLiQvR5l+siKug=="
SECRET = "RbWMG0rT6NSDQPKXs44gau/97OTsMW1+EakuQA8gb+IwjIUAdx56Fl3Oa7a8dw5L3soWK/o6UFfqlzh/6LXPDA=="
REFERENCE = "abcdefghijklmnopqrstuvwxyz"
CALLBACK = "https://shop.example/crypto-invoices/callbacks/default/token/"
RETURN = "https://shop.example/thanks/"
INVOICE_ID = "a393e9f0-aa92-45fa-b9cc-7156c4da2163"
ORDER_ID = "a020272e-1d7b-4a5b-9d0e-3f2f6c3f9a10"
USER_ID = "5f1c2b7a-0c1d-4e2f-8a3b-4c5d6e7f8091"
STATIC_ID = f"{USER_ID}_XRP_ripple"

# Bodies and signatures that were computed with two other implementations.
V1 = (
    b'{"from":"ETH","to":"USDT","nonce":1643881172430}',
    "eeb0b30750aec75f89ea5f74e71bfdb5a678fbba7d626e1081d82172b2110ce7",
)
V3 = (
    b'{"currency":"USD","amount":"20","lifetime":30,"currencies":[["USDT","tron"],["USDT","ethereum"]],'
    b'"externalId":"merchantExternalId123","order":"Order #123456","webhookURL":"https://merchant.domain/webhooks/invoice",'
    b'"returnURL":"https://merchant.domain/","nonce":1643881172431}',
    "1812ab4229051bed5fb1cc1e56dd67c253d05927e50b07105dd4c8b2dffe1238",
)
V3B = (V3[0].replace(b"/", b"\\/"), "6936a802f94d2bc49b6e3f8c47e6f2c178178ced69ae642dd7678546385276c7")
V5 = (
    b'{"id":"a393e9f0-aa92-45fa-b9cc-7156c4da2163","externalId":"merchantExternalId123",'
    b'"orderId":"a3cb5179-babb-422e-8c34-9d4658cacc7f","status":"PROCESSED","order":"Order #123456",'
    b'"description":"Payment by order #123456","currency":"USD","amount":"20","receivedNetwork":"tron","receivedCurrency":"USDT",'
    b'"receivedAmount":"20.00000000","receivedAmountInInvoiceCurrency":"20","rate":"1"}',
    "35053bb53a24a90ba41a52ac267ca2a47e9b63f926b7a81a791f73e1c04b6e0f",
)
V5B = (json.dumps(json.loads(V5[0])).encode(), "88265931290970c5814577bda6f854bdbf38ef907e4428d4fe6b1d9e9016d479")
V6 = (
    '{"id":"a393e9f0-aa92-45fa-b9cc-7156c4da2163","status":"PENDING","description":"Оплата заказа №1","amount":"20",'
    '"receivedAmount":"0"}'.encode(),
    "c8eb40f27fcc06c8ef28ed6c74373d7363a53ecacbca013e459951b81ce78b3b",
)
PROCESSED = json.loads(V5[0])

# https://docs.onchainpay.io/api-reference/07invoices/post_get-invoice, with a network's name where the sample has a coin's.
INVOICE = {
    "id": INVOICE_ID,
    "externalId": REFERENCE,
    "externalUserId": "10099",
    "payerEmail": "a@b.example",
    "orderId": "a3cb5179-babb-422e-8c34-9d4658cacc7f",
    "orderLink": "https://payment.domain/a3cb5179",
    "invoiceLink": f"https://invoices.domain/{INVOICE_ID}",
    "status": "INIT",
    "order": "Order #123456",
    "description": "Payment by order #123456",
    "currency": "USD",
    "amount": "20",
    "receivedNetwork": "tron",
    "receivedCurrency": "USDT",
    "receivedAmount": "100.32",
    "receivedAmountInInvoiceCurrency": "100.94",
    "rate": "100.32",
    "includeFee": True,
    "additionalFees": ["SEPA_WITHDRAWAL"],
    "insurancePercent": "1",
    "slippagePercent": "2",
    "paymentTolerancePercent": "1.5",
    "webhookURL": "https://merchant.domain/webhooks/invoice",
    "returnUrl": "https://merchant.domain/",
    "expiresAt": "2024-12-25T14:35:53.166Z",
    "createdAt": "2024-12-25T14:35:23.166Z",
    "currencies": [{"currency": "USDT", "networks": [{"name": "ethereum", "amount": "25"}]}],
}
UNPAID = {
    "status": "CREATED",
    "orderId": None,
    "orderLink": None,
    "receivedNetwork": None,
    "receivedCurrency": None,
    "receivedAmount": "0",
    "receivedAmountInInvoiceCurrency": "0",
}
MADE_ORDER = {
    "status": "init",
    "link": "https://payment.domain/a020272e",
    "amount": "25.5",
    "currency": "XRP",
    "network": "ripple",
    "address": "rReceiver",
    "addressId": "0b0e7d5c-3e3a-4d6c-8e7f-1a2b3c4d5e6f",
    "tag": 123456,
    "orderId": ORDER_ID,
    "clientOrderId": REFERENCE,
    "description": "1001: Two books",
    "successWebhook": CALLBACK,
    "errorWebhook": CALLBACK,
    "returnUrl": RETURN,
    "expiresAt": "2024-12-25T14:35:53.166Z",
    "createdAt": "2024-12-25T14:05:53.166Z",
}
TRANSACTION = {
    "id": "9812eb5f-0000-4000-8000-000000000001",
    "status": "processed",
    "currency": "XRP",
    "network": "ripple",
    "amount": "25.50000000",
    "tx": "86464a34",
    "confirmations": 10,
    "sender": "rSender",
    "priceUSD": "0.5",
    "amountUSD": "12.75",
}
ORDER = {name: value for name, value in MADE_ORDER.items() if name != "clientOrderId"} | {
    "id": ORDER_ID,
    "orderId": REFERENCE,
    "status": "processed",
    "received": "25.50000000",
    "updatedAt": "2024-12-25T14:10:53.166Z",
    "transactions": [TRANSACTION],
    "orphanDeposits": [],
}
# https://docs.apollopayment.io/english-2/webhooks, the same API of another brand.
ORDER_CALLBACK = {
    "id": ORDER_ID,
    "advancedBalanceId": "316a59ea-0000-4000-8000-000000000002",
    "currency": "USDT",
    "network": "tron",
    "status": "processed",
    "order": "#1234567",
    "description": None,
    "address": "TCpyHj",
    "tag": None,
    "amount": "0.2",
    "received": "0.20000000",
    "transactions": [
        {
            "id": "9812eb5f-0000-4000-8000-000000000001",
            "status": "processed",
            "currency": "USDT",
            "network": "tron",
            "amount": "0.1",
            "tx": "86464a34",
            "confirmations": "10",
            "sender": "TUdtD3",
        }
    ],
}
USER = {"id": USER_ID, "clientId": REFERENCE, "clientEmail": "a@b.example", "clientName": "C-17"}
ADDRESS = {
    "id": "0b0e7d5c-3e3a-4d6c-8e7f-1a2b3c4d5e6f",
    "userId": USER_ID,
    "currency": "XRP",
    "network": "ripple",
    "address": "rStatic",
    "tag": "77",
    "balance": "12.50000000",
    "isActive": True,
}
PLAIN = CreateRequest(reference=REFERENCE, amount=Decimal("20"), currency="USD", callback_url=CALLBACK)
OWN = replace(PLAIN, amount=Decimal("25.50"), currency="XRP", page=Page.OWN, pay_currencies=("XRP",))
STATIC = StaticAddressRequest(reference=REFERENCE, callback_url=CALLBACK, pay_currency="XRP@ripple")


def options(**values):
    return read_options(OnchainPayCreateOptions, values)


MOST = replace(
    PLAIN,
    amount=Decimal("10.10"),
    currency="EUR",
    order_id="1001",
    description="Two books",
    email="a@b.example",
    lifetime=timedelta(minutes=30),
    pay_currencies=("USDT@tron", "ETH"),
    underpaid_tolerance=Decimal("1.50"),
    fee_payer="payer",
    return_url=RETURN,
    options=options(
        external_user_id="10099", additional_fees=["SEPA_WITHDRAWAL"], insurance_percent="5", slippage_percent=Decimal("0.50")
    ),
)
MOST_OWN = replace(
    OWN,
    order_id="1001",
    description="Two books",
    email="a@b.example",
    lifetime=timedelta(minutes=30),
    underpaid_tolerance=Decimal("1.5"),
    return_url=RETURN,
    options=options(external_user_id="10099", check_risks=True),
)
MOST_STATIC = replace(
    STATIC,
    customer="C-17",
    description="Deposits",
    email="a@b.example",
    options=read_options(
        OnchainPayStaticOptions,
        {"create_addresses": False, "group_by_blockchain": True, "check_risks": True, "renew_address": True},
    ),
)


@pytest.fixture
def gateway(stub):
    return build(base_url=stub.url + "/api-gateway")


def build(**values):
    return OnchainPay(read_options(OnchainPayOptions, {"public_key": PUBLIC, "secret_key": SECRET} | values), alias="main")


LIVE = build()


def ok(response):
    return 200, {"success": True, "response": response}


def refusal(text="Refused", code=1001, name="VALIDATION"):
    return {"success": False, "error": {"name": name, "message": text, "code": code}, "requestId": "r-1"}


def sign(body, key=SECRET):
    return hmac.new(key if isinstance(key, bytes) else key.encode(), body, hashlib.sha256).hexdigest()


def verify(body, provider=LIVE, **headers):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return provider.verify({"Content-Type": "application/json", "X-Api-Signature": sign(body)} | headers, body)


def bodies(stub):
    """What was sent, without the nonces."""
    return [{name: value for name, value in seen.json.items() if name != "nonce"} for seen in stub.seen]


def sent(stub, request, **values):
    gateway = build(base_url=stub.url + "/api-gateway", **values)
    if isinstance(request, StaticAddressRequest):
        stub.script += [ok(USER), ok(ADDRESS)]
        gateway.create_static_address(request)
    else:
        stub.script.append(ok(MADE_ORDER if request.page == Page.OWN else INVOICE))
        gateway.create(request)
    return bodies(stub)


# The contract


def test_capabilities_have_their_methods():
    methods = {
        Capability.CANCEL: "cancel",
        Capability.LOOKUP_BY_REFERENCE: "find",
        Capability.STATIC_ADDRESS: "create_static_address",
        Capability.REVOKE_STATIC_ADDRESS: "revoke_static_address",
    }
    assert {one for one, method in methods.items() if hasattr(OnchainPay, method)} == OnchainPay.capabilities & set(methods)
    assert OnchainPay.capabilities - set(methods) == {Capability.SIGNED_CALLBACKS, Capability.OWN_PAGE}
    assert OnchainPay.watch == timedelta(hours=72) and OnchainPay.signed_fields == {"*"} and OnchainPay.page_hosts == frozenset()
    assert OnchainPay.expires_locally is False and LIVE.sandbox is False and LIVE.default_lifetime == timedelta(minutes=60)
    assert LIVE.account.base_url == "https://ocp.onchainpay.io/api-gateway" and LIVE.acknowledge() == Ack()


def test_an_account_from_the_environment():
    env = environ.Env()
    env.ENVIRON = {
        "CRYPTO_INVOICES_ACCOUNTS": "ocp",
        "CRYPTO_INVOICES_OCP_PROVIDER": "onchainpay",
        "CRYPTO_INVOICES_OCP_PUBLIC_KEY": PUBLIC,
        "CRYPTO_INVOICES_OCP_SECRET_KEY": SECRET,
        "CRYPTO_INVOICES_OCP_UNSIGNED_AS_HINT": "yes",
    }
    account = accounts_from_env(env)["ocp"]
    assert account["PROVIDER"] == "crypto_invoices.providers.onchainpay.OnchainPay"
    assert (account["OPTIONS"]["secret_key"], account["OPTIONS"]["unsigned_as_hint"]) == ([SECRET], True)


WORDS = {
    "created": "pending",
    "init": "pending",
    "pending": "confirming",
    "partial": "underpaid",
    "processed": "paid",
    "overpaid": "overpaid",
    "expired": "expired",
    "rejected": "failed",
    "error": "failed",
}


def test_T37_every_word_of_the_map():
    assert OnchainPay.statuses == WORDS | {"active": "pending", "inactive": "pending"}
    assert OnchainPay.final == {"rejected", "error"}


# Requests: the envelope


def test_the_vectors_body_and_signature(stub, gateway, monkeypatch):
    monkeypatch.setattr(module, "nonce", lambda: 1643881172431)
    stub.script.append(ok(INVOICE | {"externalId": "merchantExternalId123"}))
    gateway.create(
        CreateRequest(
            reference="merchantExternalId123",
            amount=Decimal("20"),
            currency="USD",
            callback_url="https://merchant.domain/webhooks/invoice",
            order_id="Order #123456",
            lifetime=timedelta(minutes=30),
            pay_currencies=("USDT@tron", "USDT@ethereum"),
            return_url="https://merchant.domain/",
        )
    )
    [seen] = stub.seen
    assert (seen.method, seen.path, seen.body) == ("POST", "/api-gateway/make-invoice", V3[0])
    assert (seen.headers["x-api-public-key"], seen.headers["x-api-signature"]) == (PUBLIC, V3[1])
    assert seen.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("vector", [V1, V3, V3B])
def test_the_secrets_text_signs_the_bytes(stub, gateway, vector):
    body, signature = vector
    assert LIVE._sign(body)["x-api-signature"] == signature
    rotating = build(public_key=[PUBLIC, "old"], secret_key=[SECRET, "older"])
    assert rotating._sign(body) == LIVE._sign(body)


def test_every_call_is_a_signed_post_with_a_larger_nonce(stub, gateway):
    stub.script += [
        ok(INVOICE), ok(MADE_ORDER), ok(USER), ok(ADDRESS), ok(INVOICE), ok(ORDER), ok(ADDRESS),
        ok({"invoices": [], "total": 0}), ok([]), ok({"checkSignatureResult": True}),
    ]  # fmt: skip
    gateway.create(PLAIN)
    gateway.create(OWN)
    gateway.create_static_address(STATIC)
    for kind, gateway_id in ((Kind.INVOICE, INVOICE_ID), (Kind.ADDRESS, ORDER_ID), (Kind.STATIC_ADDRESS, STATIC_ID)):
        gateway.fetch(Remote(kind, gateway_id, REFERENCE))
    gateway.list_payments(["INIT"])
    gateway.available_currencies()
    gateway.probe()
    assert [seen.path.removeprefix("/api-gateway") for seen in stub.seen] == [
        "/make-invoice", "/make-order", "/personal-addresses/create-user", "/personal-addresses/get-user-address", "/get-invoice",
        "/order", "/personal-addresses/get-user-address", "/get-invoices", "/available-currencies", "/test-signature",
    ]  # fmt: skip
    for seen in stub.seen:
        assert (seen.method, seen.headers["x-api-signature"]) == ("POST", sign(seen.body))
    nonces = [seen.json["nonce"] for seen in stub.seen]
    assert all(isinstance(number, int) for number in nonces) and nonces == sorted(set(nonces))
    assert 1.7e15 < nonces[0] < 2**53  # microseconds, exact in the JSON of every language


@pytest.mark.parametrize("clock", [lambda: 0, lambda: 10**18, iter([5 * 10**18, 4 * 10**18, 5 * 10**18 + 10]).__next__])
def test_a_nonce_grows_whatever_the_clock_does(monkeypatch, clock):
    monkeypatch.setattr(signing, "_last_nonce", 0)
    numbers = [nonce(clock) for _ in range(3)]
    assert numbers == sorted(set(numbers)) and numbers[0] >= 1


def test_the_prepaid_balance_is_named_in_every_call(stub):
    gateway = build(base_url=stub.url + "/api-gateway", advanced_balance_id="316a59ea")
    stub.script += [
        ok(INVOICE),
        ok(ORDER),
        ok(ADDRESS),
        ok({"invoices": [], "total": 0}),
        ok([]),
        ok({"checkSignatureResult": True}),
    ]
    for kind, gateway_id in ((Kind.INVOICE, INVOICE_ID), (Kind.ADDRESS, ORDER_ID), (Kind.STATIC_ADDRESS, STATIC_ID)):
        gateway.fetch(Remote(kind, gateway_id, REFERENCE))
    gateway.list_payments(["INIT"])
    gateway.available_currencies()
    gateway.probe()
    assert [seen.json["advancedBalanceId"] for seen in stub.seen] == ["316a59ea"] * 6


def test_a_nonce_is_given_once_to_all_threads():
    given = []
    threads = [threading.Thread(target=lambda: given.extend(nonce(lambda: 0) for _ in range(500))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(given)) == 2000


# Requests: the bodies


def test_T22_a_hosted_invoice_with_everything(stub):
    assert sent(stub, MOST, advanced_balance_id="316a59ea") == [
        {
            "currency": "EUR",
            "amount": "10.1",
            "lifetime": 30,
            "currencies": [["USDT", "tron"], ["ETH", "ethereum"]],
            "externalId": REFERENCE,
            "order": "1001",
            "description": "Two books",
            "externalUserId": "10099",
            "payerEmail": "a@b.example",
            "includeFee": True,
            "additionalFees": ["SEPA_WITHDRAWAL"],
            "insurancePercent": "5",
            "slippagePercent": "0.5",
            "paymentTolerancePercent": "1.5",
            "webhookURL": CALLBACK,
            "returnURL": RETURN,
            "advancedBalanceId": "316a59ea",
        }
    ]
    assert sent(stub, replace(PLAIN, fee_payer="merchant"))[-1]["includeFee"] is False


def test_a_hosted_invoice_with_the_least(stub):
    least = {"currency": "USD", "amount": "20", "currencies": [], "externalId": REFERENCE, "webhookURL": CALLBACK}
    assert sent(stub, PLAIN) == [least | {"lifetime": 60}]
    assert sent(stub, PLAIN, default_lifetime_minutes=15)[-1] == least | {"lifetime": 15}


def test_no_page_limits_the_insurance(stub):
    assert sent(stub, replace(PLAIN, options=options(insurance_percent=150)))[-1]["insurancePercent"] == "150"


def test_an_order_with_everything(stub):
    assert sent(stub, MOST_OWN, advanced_balance_id="316a59ea") == [
        {
            "currency": "XRP",
            "network": "ripple",
            "amount": "25.5",
            "lifetime": 1800,
            "order": REFERENCE,
            "description": "1001: Two books",
            "errorWebhook": CALLBACK,
            "successWebhook": CALLBACK,
            "returnUrl": RETURN,
            "externalUserId": "10099",
            "payerEmail": "a@b.example",
            "paymentTolerancePercent": "1.5",
            "checkRisks": True,
            "advancedBalanceId": "316a59ea",
        }
    ]


def test_a_personal_address_with_everything(stub):
    assert sent(stub, MOST_STATIC) == [
        {
            "clientId": REFERENCE,
            "clientEmail": "a@b.example",
            "clientName": "C-17: Deposits",
            "depositWebhookUrl": CALLBACK,
            "createAddresses": False,
            "groupByBlockchain": True,
            "checkRisks": True,
        },
        {"id": USER_ID, "currency": "XRP", "network": "ripple", "renewAddress": True},
    ]


def test_a_personal_address_with_the_least(stub):
    assert sent(stub, STATIC) == [
        {"clientId": REFERENCE, "depositWebhookUrl": CALLBACK},
        {"id": USER_ID, "currency": "XRP", "network": "ripple"},
    ]


EVERY_CALL = {"nonce": "set by us: the clock", "advancedBalanceId": "option advanced_balance_id"}
PARAMETERS = {
    "POST /make-invoice": {
        **EVERY_CALL,
        "currency": "argument currency",
        "amount": "argument amount",
        "lifetime": "argument lifetime",
        "currencies": "argument pay_currencies",
        "externalId": "argument reference",
        "order": "argument order_id",
        "description": "argument description",
        "externalUserId": "option external_user_id",
        "payerEmail": "argument email",
        "includeFee": "argument fee_payer",
        "additionalFees": "option additional_fees",
        "insurancePercent": "option insurance_percent",
        "slippagePercent": "option slippage_percent",
        "paymentTolerancePercent": "argument underpaid_tolerance",
        "webhookURL": "argument callback_url",
        "returnURL": "argument return_url",
    },
    "POST /make-order": {
        **EVERY_CALL,
        "currency": "argument pay_currencies",
        "network": "argument pay_currencies",
        "amount": "argument amount",
        "order": "argument reference",
        "lifetime": "argument lifetime",
        "paymentTolerancePercent": "argument underpaid_tolerance",
        "errorWebhook": "argument callback_url",
        "successWebhook": "argument callback_url",
        "returnUrl": "argument return_url",
        "description": "argument description",
        "externalUserId": "option external_user_id",
        "payerEmail": "argument email",
        "checkRisks": "option check_risks",
    },
    "POST /get-invoice": {**EVERY_CALL, "invoiceId": "set by us: the id that the gateway gave"},
    "POST /get-invoices": {
        **EVERY_CALL,
        "status": "set by us: find() looks for what waits first; an argument of list_payments()",
        "limit": "option page_size",
        "offset": "set by us: find() reads on; an argument of list_payments()",
    },
    "POST /order": {**EVERY_CALL, "orderId": "set by us: the id that the gateway gave"},
    "POST /orders": {
        **EVERY_CALL,
        "status": "set by us: find() looks for what waits first; an argument of list_payments()",
        "limit": "option page_size",
        "offset": "set by us: find() reads on; an argument of list_payments()",
    },
    "POST /personal-addresses/create-user": {
        **EVERY_CALL,
        "clientId": "argument reference",
        "clientEmail": "argument email",
        "clientName": "argument customer",
        "depositWebhookUrl": "argument callback_url",
        "createAddresses": "option create_addresses",
        "groupByBlockchain": "option group_by_blockchain",
        "checkRisks": "option check_risks",
    },
    "POST /personal-addresses/get-user-address": {
        **EVERY_CALL,
        "id": "set by us: the id that create-user gave",
        "currency": "argument pay_currency",
        "network": "argument pay_currency",
        "renewAddress": "option renew_address",
    },
    "POST /available-currencies": EVERY_CALL,
    "POST /test-signature": EVERY_CALL,
}


def test_every_documented_parameter_of_a_create_call_is_sent(stub):
    for request in (MOST, MOST_OWN, MOST_STATIC):
        sent(stub, request, advanced_balance_id="316a59ea")
    names = {f"POST {seen.path.removeprefix('/api-gateway')}": set(seen.json) for seen in stub.seen}
    assert len(names) == 4
    for call, given_names in names.items():
        assert given_names == set(PARAMETERS[call])


@pytest.mark.parametrize(
    ("amount", "currency", "wire"),
    [
        (Decimal("1E+3"), "USD", "1000"),
        ("25.00", "USD", "25"),
        (7, "JPY", "7"),
        ("1e-8", "BTC", "0.00000001"),
        (Decimal("12345678901234567890.123456789012345678"), "BTC", "12345678901234567890.123456789012345678"),
    ],
)
def test_T22_exact_digits_on_the_wire(stub, amount, currency, wire):
    assert sent(stub, replace(PLAIN, amount=amount, currency=currency))[-1]["amount"] == wire


@pytest.mark.parametrize(
    ("coin", "lifetime", "default", "seconds"),
    [
        ("TRX", None, 60, 3600),
        ("TRX", None, 1, 1800),
        ("LTC", None, 1, 3600),
        ("BTC", None, 60, 7200),
        ("BCH", None, 300, 18000),
        ("TRX", None, 525600, 43200),
        ("TRX", timedelta(seconds=1801), 60, 1801),
        ("BTC", timedelta(hours=12), 60, 43200),
    ],
)
def test_an_orders_lifetime_is_in_seconds(stub, coin, lifetime, default, seconds):
    request = replace(OWN, currency=coin, pay_currencies=(coin,), lifetime=lifetime)
    assert sent(stub, request, default_lifetime_minutes=default)[-1]["lifetime"] == seconds


def test_an_account_may_name_further_coins(stub):
    coins = ("USDT@bsc", "DOGE@dogecoin")
    request = replace(PLAIN, pay_currencies=("USDT@bsc", "DOGE@dogecoin", "USDT@tron"))
    assert sent(stub, request, coins=coins)[-1]["currencies"] == [["USDT", "bsc"], ["DOGE", "dogecoin"], ["USDT", "tron"]]
    own = replace(OWN, currency="USDT", pay_currencies=("USDT@bsc",))
    made = sent(stub, own, coins=coins)[-1]
    assert (made["currency"], made["network"]) == ("USDT", "bsc")
    assert build(coins=coins).pay_currencies.keys() - LIVE.pay_currencies.keys() == set(coins)
    for provider in (LIVE, OnchainPay):  # another account's stay its own
        assert "USDT@bsc" not in provider.pay_currencies


@pytest.mark.parametrize("coin", ["USDT", "usdt@bsc", "USDT@BSC", "USDT@", "@bsc", "USDT@b_c", "USDT@bsc@x", "USDT@bsc\n", ""])
def test_a_further_coin_has_a_network(coin):
    with pytest.raises(InvalidRequest) as caught:
        build(coins=["USDT@polygon", coin])
    assert caught.value.field == "coins" and repr(coin) in str(caught.value)


WRONG = [
    ("amount", PLAIN, {"amount": Decimal(0)}),
    ("amount", PLAIN, {"amount": Decimal("-1")}),
    ("amount", PLAIN, {"amount": 10.0}),
    ("amount", PLAIN, {"amount": Decimal("10.105")}),
    ("amount", PLAIN, {"amount": Decimal(10) ** 20}),
    ("amount", OWN, {"amount": Decimal(0)}),
    ("currency", PLAIN, {"currency": "usd"}),
    ("currency", PLAIN, {"currency": ""}),
    ("currency", OWN, {"currency": None}),
    ("lifetime", PLAIN, {"lifetime": timedelta(0)}),
    ("lifetime", PLAIN, {"lifetime": timedelta(seconds=90)}),
    ("lifetime", PLAIN, {"lifetime": timedelta(minutes=3601)}),
    ("lifetime", PLAIN, {"lifetime": 30}),
    ("lifetime", OWN, {"lifetime": timedelta(seconds=1799)}),
    ("lifetime", OWN, {"lifetime": timedelta(seconds=43201)}),
    ("lifetime", OWN, {"lifetime": timedelta(hours=1, microseconds=1)}),
    ("lifetime", OWN, {"lifetime": timedelta(0)}),
    ("lifetime", OWN, {"currency": "LTC", "pay_currencies": ("LTC",), "lifetime": timedelta(seconds=3599)}),
    ("lifetime", OWN, {"currency": "BTC", "pay_currencies": ("BTC",), "lifetime": timedelta(seconds=7199)}),
    ("lifetime", OWN, {"currency": "BCH", "pay_currencies": ("BCH",), "lifetime": timedelta(seconds=7199)}),
    ("fee_payer", PLAIN, {"fee_payer": "both"}),
    ("fee_payer", OWN, {"fee_payer": ""}),
    ("underpaid_tolerance", PLAIN, {"underpaid_tolerance": Decimal("100.01")}),
    ("underpaid_tolerance", OWN, {"underpaid_tolerance": 2.5}),
    ("callback_url", PLAIN, {"callback_url": ""}),
    ("callback_url", OWN, {"callback_url": "https://10.0.0.1/"}),
    ("return_url", PLAIN, {"return_url": "javascript:alert(1)"}),
    ("return_url", OWN, {"return_url": "/thanks"}),
    ("reference", PLAIN, {"reference": ""}),
    ("reference", OWN, {"reference": "a b"}),
    ("order_id", PLAIN, {"order_id": 7}),
    ("order_id", OWN, {"order_id": "\ud800"}),
    ("description", PLAIN, {"description": "\ud800"}),
    ("description", OWN, {"description": "a\x00"}),
    ("email", PLAIN, {"email": "a\x00b"}),
    ("external_user_id", PLAIN, {"options": options(external_user_id="a\x00")}),
    ("additional_fees", PLAIN, {"options": options(additional_fees=["\ud800"])}),
    ("options", PLAIN, {"options": OnchainPayStaticOptions()}),
    ("options", OWN, {"options": {"check_risks": True}}),
    ("pay_currencies", PLAIN, {"pay_currencies": ("DOGE",)}),
    ("pay_currencies", PLAIN, {"pay_currencies": ("USDT@tron", "USDT")}),
    ("pay_currencies", OWN, {"pay_currencies": ()}),
    ("pay_currencies", OWN, {"pay_currencies": ("XRP", "BTC")}),
    ("pay_currencies", OWN, {"pay_currencies": ("xrp",)}),
]


@pytest.mark.parametrize(("field", "request_", "changes"), WRONG, ids=str)
def test_a_wrong_value_is_named_before_any_call(stub, gateway, field, request_, changes):
    for method in (gateway.validate, gateway.create):
        with pytest.raises(InvalidRequest) as caught:
            method(replace(request_, **changes))
        assert caught.value.field == field
    assert stub.seen == []


@pytest.mark.parametrize(
    "request_",
    [
        replace(PLAIN, cancel_url=RETURN),
        replace(OWN, cancel_url=RETURN),
        replace(PLAIN, options=options(check_risks=False)),
        replace(OWN, fee_payer="merchant"),
        replace(OWN, options=options(additional_fees=["SEPA_WITHDRAWAL"])),
        replace(OWN, options=options(insurance_percent=0)),
        replace(OWN, options=options(slippage_percent=1)),
        replace(OWN, currency="USD"),
        replace(OWN, currency="USDT"),
        replace(OWN, currency="XRP", pay_currencies=("USDT@tron",)),
    ],
)
def test_what_the_gateway_cannot_do_is_not_supported(stub, gateway, request_):
    for method in (gateway.validate, gateway.create):
        with pytest.raises(NotSupported):
            method(request_)
    assert stub.seen == []


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("pay_currency", {"pay_currency": "DOGE"}),
        ("reference", {"reference": "a_b/"}),
        ("callback_url", {"callback_url": "http://shop.example/"}),
        ("customer", {"customer": "\ud800"}),
        ("description", {"description": None}),
        ("email", {"email": 7}),
        ("options", {"options": OnchainPayCreateOptions()}),
    ],
)
def test_a_wrong_personal_address_is_named_before_any_call(stub, gateway, field, changes):
    with pytest.raises(InvalidRequest) as caught:
        gateway.create_static_address(replace(STATIC, **changes))
    assert caught.value.field == field and stub.seen == []


@pytest.mark.parametrize(
    ("declared", "field", "value"),
    [
        (OnchainPayCreateOptions, "insurance_percent", "-1"),
        (OnchainPayCreateOptions, "slippage_percent", "-1"),
        (OnchainPayCreateOptions, "slippage_percent", 101),
        (OnchainPayCreateOptions, "additional_fees", "SEPA_WITHDRAWAL"),
        (OnchainPayCreateOptions, "check_risks", 1),
        (OnchainPayStaticOptions, "renew_address", "yes"),
        (OnchainPayOptions, "public_key", ""),
        (OnchainPayOptions, "secret_key", " changeme "),
        (OnchainPayOptions, "secret_key", None),
        (OnchainPayOptions, "default_lifetime_minutes", 0),
        (OnchainPayOptions, "longest_lifetime_minutes", 525601),
        (OnchainPayOptions, "page_size", 0),
        (OnchainPayOptions, "sandbox", True),
    ],
)
def test_T02_a_wrong_option_is_named(declared, field, value):
    values = {"public_key": PUBLIC, "secret_key": SECRET} if declared is OnchainPayOptions else {}
    with pytest.raises(InvalidRequest) as caught:
        read_options(declared, values | {field: value})
    assert caught.value.field == field


def test_other_brands_have_other_addresses():
    assert (
        build(base_url="https://app.apollopayment.io/api-gateway/").client.base_url == "https://app.apollopayment.io/api-gateway"
    )
    with pytest.raises(InvalidRequest):
        build(base_url="http://app.apollopayment.io/api-gateway")


# Create: the answers


def test_a_hosted_invoice(stub, gateway):
    stub.script.append(ok(INVOICE | UNPAID))
    assert gateway.create(PLAIN) == RemoteInvoice(
        gateway_id=INVOICE_ID,
        kind=Kind.INVOICE,
        word="created",
        payment_url=f"https://invoices.domain/{INVOICE_ID}",
        price_amount=Decimal(20),
        price_currency="USD",
        expires_at=datetime(2024, 12, 26, 2, 35, 53, 166000, tzinfo=UTC),  # 12 hours for the order behind it
        raw=json.dumps(ok(INVOICE | UNPAID)[1]),
    )


def test_an_order(stub, gateway):
    stub.script.append(ok(MADE_ORDER))
    assert gateway.create(OWN) == RemoteInvoice(
        gateway_id=ORDER_ID,
        kind=Kind.ADDRESS,
        word="init",
        address="rReceiver",
        address_tag="123456",
        pay_amount=Decimal("25.5"),
        pay_currency="XRP",
        network="ripple",
        price_amount=Decimal("25.5"),
        price_currency="XRP",
        expires_at=datetime(2024, 12, 25, 14, 35, 53, 166000, tzinfo=UTC),
        raw=json.dumps(ok(MADE_ORDER)[1]),
    )


def test_a_personal_address(stub, gateway):
    stub.script += [ok(USER), ok(ADDRESS)]
    assert gateway.create_static_address(STATIC) == RemoteInvoice(
        gateway_id=STATIC_ID,
        kind=Kind.STATIC_ADDRESS,
        word="active",
        address="rStatic",
        address_tag="77",
        pay_currency="XRP",
        network="ripple",
        raw=json.dumps(ok(ADDRESS)[1]),
    )


@pytest.mark.parametrize(
    ("http_status", "answer", "kind", "code", "text"),
    [
        (200, refusal(), GatewayRefused, "1001", "Refused"),
        (200, refusal(code=None), GatewayRefused, "VALIDATION", "Refused"),
        (200, refusal(text=""), GatewayRefused, "1001", "VALIDATION"),
        (200, {"success": False}, GatewayRefused, "", "no reason given"),
        (200, {"success": False, "error": "no", "response": INVOICE}, GatewayRefused, "", "no reason given"),
        (400, refusal(), GatewayRefused, "1001", "Refused"),
        (401, {"message": "no envelope"}, GatewayRefused, "", "no reason given"),
        (403, b"<html>blocked</html>", GatewayRefused, "", "an answer that is no JSON object: not JSON"),
        (429, refusal("Slow down"), GatewayUnavailable, "1001", "Slow down"),
        (408, refusal(), GatewayUncertain, "1001", "Refused"),
        (500, refusal(), GatewayUncertain, "1001", "Refused"),
        (502, b"<html>bad gateway</html>", GatewayUncertain, "", "an answer that is no JSON object: not JSON"),
        (503, ok(INVOICE)[1], GatewayUncertain, "", "no reason given"),
        (200, {"response": INVOICE}, GatewayUncertain, "", "no reason given"),
        (200, {"success": "true", "response": INVOICE}, GatewayUncertain, "", "no reason given"),
        (400, ok(INVOICE)[1], GatewayUncertain, "", "no reason given"),
        (200, b"", GatewayUncertain, "", "an answer that is no JSON object: not JSON"),
    ],
)
def test_T62_what_a_failed_create_means(stub, gateway, http_status, answer, kind, code, text):
    stub.script.append((http_status, answer))
    with pytest.raises(kind) as caught:
        gateway.create(PLAIN)
    error = caught.value
    assert type(error) is kind and (error.gateway, error.account, error.operation) == ("OnchainPay", "main", "create")
    assert (error.http_status, error.code, error.text) == (http_status, code, text) and len(stub.seen) == 1


def test_T64_a_failed_reading_had_no_effect(stub, gateway):
    stub.script += [(502, b""), (200, refusal("Not found"))]
    with pytest.raises(GatewayUnavailable):
        gateway.fetch(Remote(Kind.INVOICE, INVOICE_ID))
    with pytest.raises(GatewayRefused) as caught:
        gateway.fetch(Remote(Kind.INVOICE, INVOICE_ID), timeout=5)
    assert caught.value.operation == "fetch" and len(stub.seen) == 2


@pytest.mark.parametrize(
    ("field", "request_", "changes"),
    [
        ("id", PLAIN, {"id": None}),
        ("id", PLAIN, {"id": "../1"}),
        ("externalId", PLAIN, {"externalId": "another"}),
        ("invoiceLink", PLAIN, {"invoiceLink": None}),
        ("payment_url", PLAIN, {"invoiceLink": "http://invoices.domain/1"}),
        ("payment_url", PLAIN, {"invoiceLink": "javascript:alert(1)"}),
        ("amount", PLAIN, {"amount": "1_0"}),
        ("expiresAt", PLAIN, {"expiresAt": "soon"}),
        ("status", PLAIN, {"status": 1}),
        ("orderId", OWN, {"orderId": None}),
        ("clientOrderId", OWN, {"clientOrderId": "another"}),
        ("address", OWN, {"address": None}),
        ("tag", OWN, {"tag": {}}),
        ("network", OWN, {"network": []}),
        ("userId", STATIC, {"userId": ORDER_ID}),
        ("currency", STATIC, {"currency": "TRX"}),
        ("network", STATIC, {"network": "tron"}),
        ("address", STATIC, {"address": ""}),
        ("balance", STATIC, {"balance": "-1"}),
    ],
)
def test_T66_T67_an_answer_that_does_not_fit_is_uncertain(stub, gateway, field, request_, changes):
    with pytest.raises(GatewayUncertain) as caught:
        if isinstance(request_, StaticAddressRequest):
            stub.script += [ok(USER), ok(ADDRESS | changes)]
            gateway.create_static_address(request_)
        else:
            stub.script.append(ok((MADE_ORDER if request_ is OWN else INVOICE) | changes))
            gateway.create(request_)
    assert field in caught.value.text and caught.value.http_status == 200


@pytest.mark.parametrize("response", [None, [], "x", {}, [INVOICE]])
def test_T66_a_response_that_is_no_invoice_is_uncertain(stub, gateway, response):
    stub.script.append(ok(response))
    with pytest.raises(GatewayUncertain):
        gateway.create(PLAIN)


@pytest.mark.parametrize("user", [{"id": USER_ID, "clientId": "another"}, {"clientId": REFERENCE}, {"id": "a b"}])
def test_T67_another_user_gets_no_address(stub, gateway, user):
    stub.script.append(ok(user))
    with pytest.raises(GatewayUncertain):
        gateway.create_static_address(STATIC)
    assert len(stub.seen) == 1


def test_T56_no_secret_in_texts_and_errors(stub, gateway, caplog):
    shown = repr(gateway.account) + str(gateway.account) + repr(gateway) + repr(vars(gateway)) + gateway.identity
    assert SECRET not in shown and PUBLIC not in shown
    stub.script.append((400, refusal(f"unknown {SECRET.replace('/', chr(92) + '/')} {SECRET} {PUBLIC}", SECRET)))
    with caplog.at_level(logging.DEBUG), pytest.raises(GatewayRefused) as caught:
        gateway.create(PLAIN)
    assert (caught.value.code, caught.value.text) == ("***", "unknown *** *** ***")
    assert SECRET not in caplog.text
    with pytest.raises(BadSignature) as caught:
        gateway.verify({"x-api-signature": sign(b"{}")}, b"{ }")
    assert sign(b"{ }") not in str(caught.value)


# Fetch


def fetch(stub, gateway, response, kind=Kind.INVOICE, **remote):
    ids = {Kind.INVOICE: INVOICE_ID, Kind.ADDRESS: ORDER_ID, Kind.STATIC_ADDRESS: STATIC_ID}
    stub.script.append(ok(response))
    return gateway.fetch(Remote(**({"kind": kind, "gateway_id": ids[kind], "reference": REFERENCE} | remote)))


def test_fetch_reads_an_invoice(stub, gateway):
    before = datetime.now(UTC)
    evidence = fetch(stub, gateway, INVOICE)
    assert before <= evidence.observed_at <= datetime.now(UTC)
    assert evidence == Evidence(
        source=Source.POLL,
        remote=Remote(Kind.INVOICE, INVOICE_ID, REFERENCE),
        word="init",
        status=InvoiceStatus.PENDING,
        price_amount=Decimal(20),
        price_currency="USD",
        received=Decimal(20),
        tolerance=Decimal(2),  # the slippage, which is the larger one
        pay_currency="USDT",
        network="tron",
        payment_url=f"https://invoices.domain/{INVOICE_ID}",
        expires_at=datetime(2024, 12, 26, 2, 35, 53, 166000, tzinfo=UTC),
        observed_at=evidence.observed_at,
        raw=json.dumps(ok(INVOICE)[1]),
    )
    assert (stub.seen[0].path, bodies(stub)) == ("/api-gateway/get-invoice", [{"invoiceId": INVOICE_ID}])


def test_fetch_reads_an_order(stub, gateway):
    evidence = fetch(stub, gateway, ORDER, Kind.ADDRESS)
    assert evidence == Evidence(
        source=Source.POLL,
        remote=Remote(Kind.ADDRESS, ORDER_ID, REFERENCE),
        word="processed",
        status=InvoiceStatus.PAID,
        price_amount=Decimal("25.5"),
        price_currency="XRP",
        received=Decimal("25.5"),
        pay_amount=Decimal("25.5"),
        pay_currency="XRP",
        network="ripple",
        address="rReceiver",
        address_tag="123456",
        transfers=(
            RemoteTransfer(
                key="86464a34",
                tx_hash="86464a34",
                amount=Decimal("25.5"),
                currency="XRP",
                network="ripple",
                address="rReceiver",
                sender="rSender",
                confirmations=10,
                confirmed=True,
            ),
        ),
        expires_at=datetime(2024, 12, 25, 14, 35, 53, 166000, tzinfo=UTC),
        observed_at=evidence.observed_at,
        raw=json.dumps(ok(ORDER)[1]),
    )
    assert (stub.seen[0].path, bodies(stub)) == ("/api-gateway/order", [{"orderId": ORDER_ID}])


@pytest.mark.parametrize(
    ("changes", "word", "totals"),
    [
        ({}, "active", (("XRP", Decimal("12.5")),)),
        ({"balance": "0"}, "active", (("XRP", Decimal(0)),)),
        ({"balance": None, "isActive": None}, "active", ()),
        ({"isActive": False}, "inactive", (("XRP", Decimal("12.5")),)),
    ],
)
def test_fetch_finds_a_personal_address_again_by_its_id(stub, gateway, changes, word, totals):
    evidence = fetch(stub, gateway, ADDRESS | changes, Kind.STATIC_ADDRESS, address="rStatic", network="ripple")
    assert evidence == Evidence(
        source=Source.POLL,
        remote=Remote(Kind.STATIC_ADDRESS, STATIC_ID, address="rStatic", network="ripple"),
        word=word,
        status=InvoiceStatus.PENDING,
        pay_currency="XRP",
        network="ripple",
        address="rStatic",
        address_tag="77",
        totals=totals,
        observed_at=evidence.observed_at,
        raw=json.dumps(ok(ADDRESS | changes)[1]),
    )
    assert bodies(stub) == [{"id": USER_ID, "currency": "XRP", "network": "ripple"}]


def test_a_balance_that_is_no_total_tells_no_deposit(stub):
    gateway = build(base_url=stub.url + "/api-gateway", balance_is_total=False)
    evidence = fetch(stub, gateway, ADDRESS, Kind.STATIC_ADDRESS, address="rStatic", network="ripple")
    assert (evidence.word, evidence.address, evidence.totals) == ("active", "rStatic", ())


@pytest.mark.parametrize(
    ("response", "kind", "more"),
    [
        (INVOICE | {"id": ORDER_ID}, Kind.INVOICE, {}),
        (INVOICE | {"id": None}, Kind.INVOICE, {}),
        (INVOICE | {"status": None}, Kind.INVOICE, {}),
        (INVOICE | {"paymentTolerancePercent": "101"}, Kind.INVOICE, {}),
        (INVOICE | {"slippagePercent": "101"}, Kind.INVOICE, {}),
        (ORDER | {"id": INVOICE_ID}, Kind.ADDRESS, {}),
        (ORDER | {"transactions": {}}, Kind.ADDRESS, {}),
        (ORDER | {"transactions": [TRANSACTION | {"confirmations": "many"}]}, Kind.ADDRESS, {}),
        (ADDRESS | {"address": "rAnother"}, Kind.STATIC_ADDRESS, {"address": "rStatic"}),
        (ADDRESS | {"userId": ORDER_ID}, Kind.STATIC_ADDRESS, {}),
    ],
)
def test_T67_fetch_refuses_what_does_not_fit(stub, gateway, response, kind, more):
    with pytest.raises(GatewayUncertain):
        fetch(stub, gateway, response, kind, **more)


@pytest.mark.parametrize(
    ("kind", "gateway_id"),
    [
        (Kind.INVOICE, ""),
        (Kind.ADDRESS, "../orders"),
        (Kind.STATIC_ADDRESS, ""),
        (Kind.STATIC_ADDRESS, USER_ID),
        (Kind.STATIC_ADDRESS, f"{USER_ID}_XRP"),
        (Kind.STATIC_ADDRESS, f"{STATIC_ID}_x"),
    ],
)
def test_T58_fetch_checks_the_id(stub, gateway, kind, gateway_id):
    with pytest.raises(InvalidRequest):
        gateway.fetch(Remote(kind, gateway_id))
    assert stub.seen == []


# Statuses and sums


@pytest.mark.parametrize("word", WORDS)
def test_T37_every_documented_word(stub, gateway, word):
    status, final = WORDS[word], word in ("rejected", "error")
    invoice = fetch(stub, gateway, INVOICE | {"status": word.upper()})
    order = fetch(stub, gateway, ORDER | {"status": word}, Kind.ADDRESS)
    called = verify(PROCESSED | {"status": word.upper()}), verify(ORDER_CALLBACK | {"status": word})
    for evidence in (invoice, order, *called):
        assert (evidence.word, evidence.status, evidence.final, bool(evidence.review)) == (word, status, final, final)


@pytest.mark.parametrize("word", ["PAID", "REFUNDED", "PROCESSED2", "UNKNOWN", "ПРИНЯТ"])
def test_T37_an_unknown_word_changes_nothing(word):
    evidence = verify(PROCESSED | {"status": word})
    assert evidence.status is None and evidence.final is False


@pytest.mark.parametrize(
    ("kind", "changes", "status"),
    [
        (Kind.INVOICE, {"receivedAmount": "0"}, "pending"),
        (Kind.INVOICE, {"receivedAmount": "0.00"}, "pending"),
        (Kind.INVOICE, {"receivedAmount": "0.01"}, "confirming"),
        (Kind.INVOICE, {"receivedAmount": None}, "confirming"),
        (Kind.ADDRESS, {"received": "0", "transactions": []}, "pending"),
        (Kind.ADDRESS, {"received": "0"}, "confirming"),
        (Kind.ADDRESS, {"received": "0", "transactions": [TRANSACTION | {"status": "rejected"}]}, "pending"),
        (Kind.ADDRESS, {"received": "1", "transactions": []}, "confirming"),
        (Kind.ADDRESS, {"received": None, "transactions": None}, "confirming"),
    ],
)
def test_pending_with_nothing_received_waits_for_money(stub, gateway, kind, changes, status):
    answer = INVOICE | {"status": "PENDING"} if kind is Kind.INVOICE else ORDER | {"status": "pending"}
    assert fetch(stub, gateway, answer | changes, kind).status == status


@pytest.mark.parametrize(
    ("word", "amount", "told", "received"),
    [
        ("PROCESSED", "75", "78.75", "75"),  # with an insurance of 5 percent
        ("PROCESSED", "75", "74.99", "74.99"),
        ("PROCESSED", "75", "75", "75"),
        ("PROCESSED", None, "78.75", None),
        ("PROCESSED", "75", None, None),
        ("OVERPAID", "75", "80", "80"),
        ("OVERPAID", None, "80", "80"),
        ("OVERPAID", "75", None, None),
        ("PARTIAL", "75", "30", "30"),
        ("PARTIAL", "75", "74.99", "74.99"),
        ("PARTIAL", "75", "75", None),  # of 78.75 with the insurance
        ("PARTIAL", "75", "75.5", None),
        ("PARTIAL", None, "75.5", None),
        ("PENDING", "75", "76", "75"),
        ("EXPIRED", "75", "0", "0"),
    ],
)
def test_T18_only_the_gateways_word_says_overpaid(stub, gateway, word, amount, told, received):
    expected = None if received is None else Decimal(received)
    invoice = INVOICE | {"status": word, "amount": amount, "receivedAmountInInvoiceCurrency": told}
    order = ORDER | {"status": word.lower(), "amount": amount, "received": told}
    assert fetch(stub, gateway, invoice).received == expected
    assert fetch(stub, gateway, order, Kind.ADDRESS).received == expected


@pytest.mark.parametrize(
    ("tolerance", "slippage", "accepted"),
    [
        ("1.5", "2", "2"),
        ("1.5", "0.5", "1.5"),
        ("0", "0.5", "0.5"),
        (None, "0.5", "0.5"),
        ("1.5", None, "1.5"),
        ("0", "0", None),
        ("0.00", None, None),
        (None, "", None),
    ],
)
def test_what_shortfall_is_accepted(stub, gateway, tolerance, slippage, accepted):
    told = {"paymentTolerancePercent": tolerance, "slippagePercent": slippage}
    evidence = fetch(stub, gateway, INVOICE | told)
    assert evidence.tolerance == verify(PROCESSED | told).tolerance == (accepted and Decimal(accepted))


@pytest.mark.parametrize(
    ("slippage", "received", "status", "review"),
    [
        ("0.5", "99.6", "paid", None),
        ("0.5", "99.5", "paid", None),
        ("0.5", "100.4", "paid", None),
        ("0.5", "99.4", "underpaid", Review.TOO_LITTLE),
        ("0", "99.6", "paid", None),
        (None, "99.6", "paid", None),
    ],
)
def test_within_the_slippage_it_stays_paid(stub, gateway, slippage, received, status, review):
    told = {"receivedAmountInInvoiceCurrency": received, "paymentTolerancePercent": "0", "slippagePercent": slippage}
    evidence = fetch(stub, gateway, INVOICE | told | {"status": "PROCESSED", "amount": "100"})
    sums = {"received": evidence.received, "due": Decimal(100), "tolerance": evidence.tolerance}
    first = judge(InvoiceStatus.CONFIRMING, evidence, **sums)
    assert (first.verdict, first.status, first.review) == (Verdict.APPLIED, status, review)
    again = judge(InvoiceStatus(status), evidence, **sums)
    assert (again.verdict, again.status, again.review) == (Verdict.UNCHANGED, status, review)


def test_an_orders_transfers(stub, gateway):
    transactions = [
        TRANSACTION,
        TRANSACTION | {"status": "pending", "tx": "0xb", "confirmations": "2", "amount": "1", "sender": None},
        TRANSACTION | {"tx": None},
        TRANSACTION,
    ]
    found = fetch(stub, gateway, ORDER | {"transactions": transactions}, Kind.ADDRESS).transfers
    assert [(item.key, item.confirmed, item.confirmations, item.sender) for item in found] == [
        ("86464a34", True, 10, "rSender"),
        ("0xb", False, 2, ""),
        ("86464a34#2", True, 10, "rSender"),
    ]


@pytest.mark.parametrize(
    ("changes", "reviews"),
    [
        ({}, []),
        ({"orphanDeposits": None}, []),
        ({"orphanDeposits": [{"id": "1"}]}, ["orphan deposits"]),
        ({"transactions": [TRANSACTION, TRANSACTION | {"status": "rejected"}]}, ["failed or was rejected"]),
        (
            {"transactions": [TRANSACTION | {"status": "error"}], "orphanDeposits": [1], "status": "error"},
            ["says error", "failed", "orphan"],
        ),
    ],
)
def test_what_a_person_has_to_look_at(stub, gateway, changes, reviews):
    evidence = fetch(stub, gateway, ORDER | changes, Kind.ADDRESS)
    texts = evidence.review.split("; ") if evidence.review else []
    assert len(texts) == len(reviews) and all(part in text for part, text in zip(reviews, texts, strict=True))
    failed = any(item["status"] in ("error", "rejected") for item in changes.get("transactions", []))
    assert len(evidence.transfers) == len(changes.get("transactions", [1])) - failed


# Find


WAITING = ["CREATED", "INIT", "PENDING"]
ALL = [*WAITING, "PARTIAL", "PROCESSED", "OVERPAID", "EXPIRED", "REJECTED", "ERROR"]
ALL_ORDERS = ["init", "pending", "partial", "processed", "overpaid", "expired", "error"]
CREATED_AT = datetime(2024, 12, 25, 14, 5, 23, tzinfo=UTC)


def listed(entries, total=None):
    return ok({"invoices": entries, "total": len(entries) if total is None else total})


def listed_orders(entries, total=None):
    return ok({"orders": entries, "total": str(len(entries) if total is None else total)})


def entry(number, reference=None):
    return {"id": f"id-{number}", "externalId": reference}


def find(gateway, reference=REFERENCE, kind=Kind.INVOICE):
    return gateway.find(reference, kind=kind, amount=Decimal(20), currency="USD", created_at=CREATED_AT)


def asked(stub):
    return [(seen.path.rsplit("/", 1)[1], *(seen.json.get(name) for name in ("status", "limit", "offset"))) for seen in stub.seen]


def test_T62_find_compares_our_reference(stub, gateway):
    others = [entry(1), entry(2, REFERENCE.upper()), entry(3, REFERENCE[:-1])]
    stub.script += [listed([*others, entry(INVOICE_ID, REFERENCE) | {"id": INVOICE_ID}], 999), ok(INVOICE)]
    evidence = find(gateway)
    assert (evidence.remote, evidence.source) == (Remote(Kind.INVOICE, INVOICE_ID, REFERENCE), Source.POLL)
    assert evidence.payment_url == INVOICE["invoiceLink"]
    assert asked(stub)[0] == ("get-invoices", WAITING, 50, 0) and stub.seen[1].json["invoiceId"] == INVOICE_ID


def test_T62_find_reads_all_pages_of_what_waits_then_of_every_status(stub):
    gateway = build(base_url=stub.url + "/api-gateway", page_size=2)
    stub.script += [
        listed([entry(1), entry(2)], 3),
        listed([entry(3)], 3),
        listed([entry(1), entry(2)], 4),
        listed([entry(3), entry(INVOICE_ID, REFERENCE) | {"id": INVOICE_ID}], 4),
        ok(INVOICE),
    ]
    assert find(gateway).remote == Remote(Kind.INVOICE, INVOICE_ID, REFERENCE)
    assert asked(stub)[:4] == [
        ("get-invoices", WAITING, 2, 0),
        ("get-invoices", WAITING, 2, 2),
        ("get-invoices", ALL, 2, 0),
        ("get-invoices", ALL, 2, 2),
    ]


def test_T62_an_order_is_found_among_orders(stub, gateway):
    stub.script += [listed_orders([]), listed_orders([{"orderId": "x", "clientOrderId": None}, MADE_ORDER]), ok(ORDER)]
    assert find(gateway, kind=Kind.ADDRESS).remote == Remote(Kind.ADDRESS, ORDER_ID, REFERENCE)
    assert asked(stub)[:2] == [("orders", ["init", "pending"], 50, 0), ("orders", ALL_ORDERS, 50, 0)]


def test_T62_find_says_none_only_when_everything_was_read(stub, gateway):
    stub.script += [listed([entry(1)]), listed([entry(1), entry(2)])]
    assert find(gateway) is None
    assert len(stub.seen) == 2


@pytest.mark.parametrize(
    ("pages", "calls"),
    [
        ([listed([entry(1), entry(2)], 4), listed([entry(2), entry(3)], 4), listed([], 4)], 3),  # one slipped through
        ([listed([entry(1)], 2), listed([], 2)], 2),
        ([listed([entry(1), entry(2)], 101)], 1),
        ([listed([entry(number)], 100) for number in range(60)], 50),
        ([listed([{"id": "1"}])], 1),
        ([listed([{"externalId": None}])], 1),
        ([ok({"invoices": []})], 1),
        ([ok({"invoices": [], "total": "many"})], 1),
        ([ok({"invoices": None, "total": 0})], 1),
        ([ok({"invoices": [1], "total": 1})], 1),
        ([ok([])], 1),
    ],
)
def test_T62_find_does_not_guess(stub, pages, calls):
    gateway = build(base_url=stub.url + "/api-gateway", page_size=2)
    stub.script += pages
    with pytest.raises(GatewayUncertain):
        find(gateway)
    assert len(stub.seen) == calls


def test_find_refuses_an_empty_reference(stub, gateway):
    with pytest.raises(InvalidRequest):
        find(gateway, "")
    assert stub.seen == []


# The vendor's own calls


def test_payments_are_listed(stub, gateway):
    stub.script += [listed([INVOICE], 7), listed_orders([MADE_ORDER], 1000)]
    assert gateway.list_payments(["EXPIRED"], limit=1, offset=3) == ([INVOICE], 7)
    assert gateway.list_payments(("pending",), kind=Kind.ADDRESS) == ([MADE_ORDER], 1000)
    assert asked(stub) == [("get-invoices", ["EXPIRED"], 1, 3), ("orders", ["pending"], 50, 0)]


def test_available_currencies(stub, gateway):
    stub.script += [ok([{"currency": "USDT", "networks": [{"name": "tron"}]}]), ok({})]
    assert gateway.available_currencies() == [{"currency": "USDT", "networks": [{"name": "tron"}]}]
    with pytest.raises(GatewayUncertain):
        gateway.available_currencies()


def test_probe_asks_whether_the_signature_is_good(stub, gateway):
    good = {"errors": [], "checkSignatureResult": True, "signature": "x", "receivedBody": "{}"}
    stub.script += [ok(good), ok(good | {"checkSignatureResult": False}), ok(good), (200, refusal("No such key", 401))]
    before = datetime.now(UTC).replace(microsecond=0)  # the header Date has whole seconds
    assert before <= gateway.probe() <= datetime.now(UTC)
    with pytest.raises(GatewayRefused) as caught:
        gateway.probe()
    assert (caught.value.operation, caught.value.account) == ("probe", "main") and "secret_key" in caught.value.text
    assert before <= gateway.test_signature() <= datetime.now(UTC)
    with pytest.raises(GatewayRefused) as caught:
        gateway.probe()
    assert (caught.value.operation, caught.value.code, caught.value.text) == ("probe", "401", "No such key")
    assert {seen.path for seen in stub.seen} == {"/api-gateway/test-signature"} and bodies(stub) == [{}] * 4


# Callbacks: the signature


def test_the_vectors_of_an_invoice():
    expected = Evidence(
        source=Source.CALLBACK,
        remote=Remote(Kind.INVOICE, INVOICE_ID, "merchantExternalId123"),
        word="processed",
        status=InvoiceStatus.PAID,
        price_amount=Decimal(20),
        price_currency="USD",
        received=Decimal(20),
        pay_currency="USDT",
        network="tron",
        raw=V5[0].decode(),
    )
    assert LIVE.verify({"x-api-signature": V5[1]}, V5[0]) == expected
    assert LIVE.verify({"x-api-signature": V5B[1]}, V5B[0]) == replace(expected, raw=V5B[0].decode())
    assert LIVE.verify({"X-API-Signature": V6[1], "x-api-public-key": PUBLIC}, V6[0]) == Hint(INVOICE_ID)  # without a currency


@pytest.mark.parametrize(
    "signature",
    [
        V5B[1],
        sign(V5[0], base64.b64decode(SECRET)),
        sign(V5[0], PUBLIC),
        sign(V5[0], SECRET + " "),
        hashlib.sha256(V5[0]).hexdigest(),
        hashlib.sha256(SECRET.encode() + V5[0]).hexdigest(),
        hmac.new(SECRET.encode(), V5[0], hashlib.sha512).hexdigest(),
        V5[1].upper(),
        V5[1][:-1],
        " " + V5[1],
        V5[1] + "\n",
        "sha256=" + V5[1],
        f"{V5[1]},{V5[1]}",
        base64.b64encode(bytes.fromhex(V5[1])).decode(),
        "٣" * 64,
        "",
        None,
        [V5[1]],
        V5[1].encode(),
    ],
    ids=repr,
)
@pytest.mark.parametrize("unsigned_as_hint", [False, True])
def test_T03_another_signature_is_bad(signature, unsigned_as_hint):
    with pytest.raises(BadSignature):
        build(unsigned_as_hint=unsigned_as_hint).verify({"x-api-signature": signature}, V5[0])


def test_T09_every_byte_is_signed():
    for index in range(len(V5[0])):
        body = bytearray(V5[0])
        body[index] ^= 1
        with pytest.raises(BadSignature):
            LIVE.verify({"x-api-signature": V5[1]}, bytes(body))


@pytest.mark.parametrize("headers", [{}, {"HMAC": V5[1]}, {"x_api_signature": V5[1]}, {"x-api-public-key": PUBLIC}])
def test_T01_without_the_header_nothing_is_read(headers):
    for body in (V5[0], b"not json"):
        with pytest.raises(BadSignature):
            LIVE.verify(headers, body)


def test_T06_two_headers_are_none():
    for provider in (LIVE, build(unsigned_as_hint=True)):
        with pytest.raises(BadSignature):
            provider.verify({"X-Api-Signature": V5[1], "x-api-signature": V5[1]}, V5[0])


def test_T15_any_current_key_verifies():
    rotating = build(secret_key=["a new secret", SECRET])
    for key in ("a new secret", SECRET):
        assert rotating.verify({"x-api-signature": sign(V5[0], key)}, V5[0]).word == "processed"
    with pytest.raises(BadSignature):
        rotating.verify({"x-api-signature": sign(V5[0], "an old secret")}, V5[0])


@pytest.mark.parametrize(
    ("body", "gateway_id"),
    [
        (V5[0], INVOICE_ID),
        (json.dumps(ORDER_CALLBACK).encode(), ORDER_ID),
        (b'{"id":"../x"}', ""),
        (b'{"id":null,"status":"PROCESSED"}', ""),
        (b"{}", ""),
        (b"[]", ""),
        (b"", ""),
        (b"\xff", ""),
        (b'{"id":"1","id":"2"}', ""),
        (b'{"id":' + b"[" * 5000, ""),
    ],
)
def test_an_unsigned_callback_is_a_hint_at_most(body, gateway_id):
    assert build(unsigned_as_hint=True).verify({"Content-Type": "application/json"}, body) == Hint(gateway_id)
    with pytest.raises(BadSignature):
        LIVE.verify({"Content-Type": "application/json"}, body)


# Callbacks: the content


def test_the_vendors_order_callback():
    evidence = verify(ORDER_CALLBACK)
    assert evidence == Evidence(
        source=Source.CALLBACK,
        remote=Remote(Kind.ADDRESS, ORDER_ID, "#1234567"),
        word="processed",
        status=InvoiceStatus.PAID,
        price_amount=Decimal("0.2"),
        price_currency="USDT",
        received=Decimal("0.2"),
        pay_amount=Decimal("0.2"),
        pay_currency="USDT",
        network="tron",
        address="TCpyHj",
        transfers=(
            RemoteTransfer(
                key="86464a34",
                tx_hash="86464a34",
                amount=Decimal("0.1"),
                currency="USDT",
                network="tron",
                address="TCpyHj",
                sender="TUdtD3",
                confirmations=10,
                confirmed=True,
            ),
        ),
        raw=json.dumps(ORDER_CALLBACK),
    )
    assert verify(ORDER_CALLBACK | {"event": "ORDER"}).remote == evidence.remote


def test_what_an_invoices_callback_leaves_out_is_unknown():
    price = {"amount": "20", "currency": "usd"}
    for word, status in (("PROCESSED", "paid"), ("OVERPAID", "overpaid")):
        evidence = verify({"id": INVOICE_ID, "status": word} | price)
        assert (evidence.status, evidence.remote) == (status, Remote(Kind.INVOICE, INVOICE_ID))
        assert (evidence.price_amount, evidence.price_currency) == (Decimal(20), "USD")
        assert (evidence.received, evidence.tolerance) == (None, None)


@pytest.mark.parametrize("name", ["amount", "currency"])
@pytest.mark.parametrize("word", ["PROCESSED", "OVERPAID", "PENDING", "NEW_WORD"])
def test_an_invoices_callback_without_its_price_is_a_hint(name, word):
    without = {key: value for key, value in PROCESSED.items() if key != name} | {"status": word}
    for body in (without, without | {name: None}, without | {name: ""}):
        assert verify(body) == Hint(INVOICE_ID)


@pytest.mark.parametrize("event", ["WITHDRAWAL", "CROSSCHAIN_TRANSFER", "REC_SUBSCRIPTION", "FIAT_DEPOSIT", "x" * 200])
def test_T07_other_events_have_no_business_here(event):
    for body in (PROCESSED, ORDER_CALLBACK, {}):
        with pytest.raises(MisdirectedCallback) as caught:
            verify(body | {"event": event})
        assert len(str(caught.value)) < 120


@pytest.mark.parametrize(
    "body",
    [
        {"event": "DEPOSIT_PERSONAL", "id": "1", "status": "processed", "order": "x"},
        {"event": "DEPOSIT_ORPHAN"},
        {"id": "1", "status": "processed", "address": "rStatic", "amount": "5"},
        {"address": "rStatic"},
    ],
)
def test_a_deposit_is_a_hint(body):
    assert verify(body) == Hint()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"id": INVOICE_ID},
        {"id": INVOICE_ID, "status": "Processed"},
        {"id": INVOICE_ID, "status": ""},
        {"id": INVOICE_ID, "status": "processed"},
        {"id": INVOICE_ID, "status": 1},
        {"status": "PROCESSED"},
        {"id": "a/b", "status": "PROCESSED"},
        PROCESSED | {"id": "a/b"},
        PROCESSED | {"currency": 840},
        PROCESSED | {"externalId": 7},
        PROCESSED | {"amount": "NaN"},
        PROCESSED | {"receivedAmountInInvoiceCurrency": "-1"},
        PROCESSED | {"receivedAmountInInvoiceCurrency": "1e30"},
        PROCESSED | {"currency": "X" * 17},
        PROCESSED | {"expiresAt": "tomorrow"},
        PROCESSED | {"invoiceLink": "javascript:alert(1)"},
        PROCESSED | {"event": 5},
        ORDER_CALLBACK | {"id": None},
        ORDER_CALLBACK | {"transactions": [{"tx": 5}]},
        ORDER_CALLBACK | {"received": True},
        ORDER_CALLBACK | {"tag": []},
        b"",
        b"[]",
        b"{",
        b'{"id":"1","status":"PROCESSED","status":"PROCESSED"}',
        b'{"a":NaN}',
        b'{"a":"\xff"}',
        b"status=PROCESSED",
    ],
    ids=str,
)
def test_T11_a_signed_body_that_cannot_be_read_is_malformed(body):
    with pytest.raises(MalformedCallback):
        verify(body)


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59Z", "2024-12-25T14:35:53.166Z"])
def test_T68_the_end_of_an_invoices_time(time):
    moment = datetime.fromisoformat(time)
    later = moment if moment.year == 9999 else moment + timedelta(hours=12)
    assert verify(PROCESSED | {"expiresAt": time}).expires_at == later


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([PROCESSED, INVOICE, ORDER_CALLBACK]), st.sampled_from(sorted(INVOICE | ORDER | {"event": ""})), JSON)
def test_T21_a_signed_body_gives_evidence_or_a_refusal(body, name, value):
    try:
        told = verify(body | {name: value})
    except (MalformedCallback, MisdirectedCallback):
        return
    assert isinstance(told, (Evidence, Hint))
