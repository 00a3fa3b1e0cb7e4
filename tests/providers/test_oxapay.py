import base64
import copy
import hashlib
import hmac
import json
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crypto_invoices.exceptions import (
    BadSignature,
    GatewayRefused,
    GatewayUnavailable,
    GatewayUncertain,
    InvalidRequest,
    MalformedCallback,
    MisdirectedCallback,
)
from crypto_invoices.providers.base import Ack, Capability, CreateRequest, Evidence, Kind, Page, Remote, RemoteTransfer
from crypto_invoices.providers.options import read_options
from crypto_invoices.providers.oxapay import OxaPay, OxaPayOptions
from crypto_invoices.statuses import InvoiceStatus, Source

KEY = "MKEY01-MKEY02-MKEY03-MKEY04"
PAYOUT_KEY = "PKEY01-PKEY02-PKEY03-PKEY04"
REFERENCE = "abcdefghijklmnopqrstuvwxyz"
CALLBACK = "https://shop.example/callback/"
PLAIN = CreateRequest(reference=REFERENCE, amount=Decimal("25"), currency="USD", callback_url=CALLBACK)
OWN = replace(PLAIN, page=Page.OWN, pay_currencies=("USDT@tron",))

# Key, body and header of published or computed deliveries.
V1 = (
    "custom-merchant-secret",
    b'{"type":"invoice","status":"Paid"}',
    "29341ce38b87b4300406f345824c03a63cd42d3c82758144757b4322478d022ea20141cbefb272b79bed466a25ad019747cf1bd21a07cff2ec2bc5922baa50d5",
)
V3 = (
    KEY,
    b'{"track_id":"900000001","status":"Paying","type":"invoice","module_name":"DemoShop","amount":25,"value":25.1,"sent_value":25.1,'
    b'"currency":"USD","order_id":"ORD-0001","email":"","note":"","fee_paid_by_payer":0,"under_paid_coverage":2.5,'
    b'"description":"Test order","date":1760000000,"txs":[{"status":"confirming","tx_hash":"0xaaa1","sent_amount":25.1,'
    b'"received_amount":25.0,"value":25.1,"sent_value":25.1,"currency":"USDT","network":"Tron Network",'
    b'"sender_address":"TSender","address":"TReceiver","memo":"","rate":1,"confirmations":1,'
    b'"auto_convert_amount":0,"auto_convert_currency":"","date":1760000100}]}',
    "0182558596f20cc8bc0cbfb8d4a1a1b4899b909877bccb8b21ee25d7b254815c56e6f30a515ac847e9f60b7c148c586689fb7a56ae31fdd313fb38726ffb44da",
)
V5 = (
    KEY,
    base64.b64decode(
        "eyJ0cmFja19pZCI6IjkwMDAwMDAwMiIsInN0YXR1cyI6IlBhaWQiLCJ0eXBlIjoid2hpdGVfbGFiZWwiLCJvcmRlcl9pZCI6ItCX0JDQmtCQ0JctNy/DvCIs"
        "ImFtb3VudCI6MC4wMDAxMDAwMCwidmFsdWUiOjMuMDQ0MDg5NzAzNjIyMDAwMywiY3VycmVuY3kiOiJCVEMiLCJkZXNjcmlwdGlvbiI6ImFcL2IgXHUyMGFj"
        "IiwiZGF0ZSI6MTc2MDAwMDIwMCwidHhzIjpbXX0K"
    ),
    "e93dca988b3acf4bd7de5c58e66db4ae71efc10c8b3aa6b5a0c098ade930b1e95959320d890eb53a0f42228291a57665fcec1495fdde3f473dd37b47ee942043",
)
PAID = json.loads(V3[1]) | {"status": "Paid"}
# The answer of GET /payment/{track_id} in the docs, with other values.
INFORMATION = {
    "data": {
        "track_id": "190000001",
        "type": "invoice",
        "amount": 10.1,
        "currency": "EUR",
        "status": "paid",
        "mixed_payment": False,
        "fee_paid_by_payer": 0,
        "under_paid_coverage": 2.5,
        "lifetime": 60,
        "callback_url": CALLBACK,
        "return_url": "",
        "email": "",
        "order_id": REFERENCE,
        "description": "1001",
        "thanks_message": "",
        "expired_at": 1760003600,
        "date": 1760000000,
        "txs": [
            {
                "tx_hash": "0xbbb2",
                "amount": 0.0025,
                "currency": "ETH",
                "network": "Ethereum Network",
                "address": "0xaddress",
                "status": "confirmed",
                "confirmations": 12,
                "auto_convert": {"processed": True, "amount": 10, "currency": "USDT"},
                "auto_withdrawal": {"processed": False},
                "date": 1760000300,
            }
        ],
    },
    "message": "Operation completed successfully!",
    "error": {},
    "status": 200,
    "version": "1.0.0",
}
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
        "pay_amount": 10.050000000000000001,
        "pay_currency": "XRP",
        "network": "Ripple Network",
        "address": "rReceiver",
        "memo": "123456",
        "callback_url": CALLBACK,
        "description": "",
        "email": "",
        "fee_paid_by_payer": 0,
        "lifetime": 60,
        "order_id": REFERENCE,
        "under_paid_coverage": 0,
        "rate": 1.005,
        "qr_code": "https://api.example/qr.png",
        "expired_at": 1760003600,
        "date": 1760000000,
    },
    "message": "Operation completed successfully!",
    "error": {},
    "status": 200,
    "version": "1.0.0",
}


@pytest.fixture
def naps(oxapay):
    oxapay.client._sleep = (naps := []).append
    return naps


@pytest.fixture
def oxapay(stub):
    return build(base_url=stub.url + "/v1")


def build(**values):
    return OxaPay(read_options(OxaPayOptions, {"merchant_api_key": KEY} | values), alias="main")


LIVE = build()


def sign(body, key=KEY):
    return hmac.new(key.encode(), body, hashlib.sha512).hexdigest()


def verify(body, key=KEY, provider=LIVE, **more):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return provider.verify({"Content-Type": "application/json", "HMAC": sign(body, key)} | more, body)


def malformed(body):
    with pytest.raises(MalformedCallback) as caught:
        verify(body)
    return str(caught.value)


def with_tx(**values):
    return {"txs": [PAID["txs"][0] | values]}


# The contract


def test_capabilities_have_their_methods():
    methods = {
        Capability.CANCEL: "cancel",
        Capability.LOOKUP_BY_REFERENCE: "find",
        Capability.STATIC_ADDRESS: "create_static_address",
        Capability.REVOKE_STATIC_ADDRESS: "revoke_static_address",
    }
    assert {capability for capability, method in methods.items() if hasattr(OxaPay, method)} == OxaPay.capabilities & set(methods)
    assert OxaPay.capabilities - set(methods) == {Capability.SIGNED_CALLBACKS, Capability.OWN_PAGE}
    assert OxaPay.watch == timedelta(hours=72) and OxaPay.signed_fields == {"*"} and OxaPay.page_hosts == {"pay.oxapay.com"}
    assert LIVE.account.base_url == "https://api.oxapay.com/v1"


def test_acknowledgement():
    assert LIVE.acknowledge() == Ack(b"ok", "text/plain", 200)


STATUSES = {
    "new": "pending",
    "waiting": "pending",
    "paying": "confirming",
    "confirming": "confirming",
    "paid": "paid",
    "manual_accept": "paid",
    "underpaid": "underpaid",
    "refunding": "refunding",
    "refunded": "refunded",
    "expired": "expired",
    "failed": "failed",
    "rejected": "failed",
    "canceled": "cancelled",
    "cancelled": "cancelled",
}
FINAL = {"paid", "manual_accept", "underpaid", "refunded", "expired", "failed"}


def test_T37_every_word_of_the_map():
    assert OxaPay.statuses == STATUSES and OxaPay.final == FINAL


@pytest.mark.parametrize("word", STATUSES)
@pytest.mark.parametrize(
    "spell", [str, str.upper, str.title, lambda word: word.replace("_", " ").title(), lambda word: word.replace("_", "-")]
)
def test_T37_every_documented_word_is_known_in_every_spelling(word, spell):
    evidence = verify(PAID | {"status": spell(word)})
    assert (evidence.word, evidence.status, evidence.final) == (word, STATUSES[word], word in FINAL)
    assert evidence.manual is (word == "manual_accept")


@pytest.mark.parametrize(
    "word", ["Completed", "Paid!", "Paid2", "Pаid", "unpaid", "pa id", "PAID_OVER", "0", "?", "Manual  Accepted", " paid"]
)
def test_T37_an_unknown_word_changes_nothing(word):
    evidence = verify(PAID | {"status": word})
    assert evidence.status is None and evidence.final is False


def test_T38_only_the_documented_final_words_reach_paid():
    paid = {word for word in STATUSES if verify(PAID | {"status": word}).status is InvoiceStatus.PAID}
    assert paid == {"paid", "manual_accept"}


# Create


def test_a_hosted_invoice(stub, oxapay):
    stub.script.append((200, CREATED))
    made = oxapay.create(PLAIN)
    assert (made.gateway_id, made.kind) == ("190000001", Kind.INVOICE)
    assert made.payment_url == "https://pay.oxapay.com/10000001/190000001"
    assert made.expires_at == datetime(2025, 10, 9, 9, 53, 20, tzinfo=UTC)
    assert json.loads(made.raw) == CREATED
    assert (made.word, made.status, made.price_amount, made.price_currency, made.address) == ("", "pending", None, "", "")


def test_a_white_label_payment(stub, oxapay):
    stub.script.append((200, json.dumps(LABEL).replace("10.05,", "10.050000000000000001,").encode()))
    made = oxapay.create(OWN)
    assert (made.gateway_id, made.kind, made.payment_url) == ("190000002", Kind.ADDRESS, "")
    assert (made.address, made.address_tag, made.network, made.pay_currency) == ("rReceiver", "123456", "Ripple Network", "XRP")
    assert made.pay_amount == Decimal("10.050000000000000001")
    assert (made.price_amount, made.price_currency) == (Decimal(10), "USD")


def test_a_loopback_gateway_may_have_a_plain_page(stub, oxapay):
    answer = copy.deepcopy(CREATED)
    answer["data"]["payment_url"] = stub.url + "/pay/1"
    stub.script.append((200, answer))
    assert oxapay.create(PLAIN).payment_url == stub.url + "/pay/1"


def refusal(status, error, message="Validation problem."):
    return {"data": {}, "message": message, "error": error, "status": status, "version": "1.0.0"}


@pytest.mark.parametrize(
    ("http_status", "answer", "kind", "code", "text"),
    [
        (
            400,
            refusal(400, {"type": "invalid", "key": "lifetime", "message": "Must be an integer."}),
            GatewayRefused,
            "lifetime",
            "Must be an integer.",
        ),
        (200, refusal(400, {"type": "invalid", "key": "lifetime", "message": "No."}), GatewayRefused, "lifetime", "No."),
        (
            200,
            refusal(401, {"type": "unauthorized", "key": "", "message": ""}, "Wrong key."),
            GatewayRefused,
            "unauthorized",
            "Wrong key.",
        ),
        (
            403,
            refusal(401, {"type": "t", "key": "invalid_merchant_api_key", "message": "Bad."}),
            GatewayRefused,
            "invalid_merchant_api_key",
            "Bad.",
        ),
        (404, refusal(404, {}), GatewayRefused, "", "Validation problem."),
        (404, refusal(404, None), GatewayRefused, "", "Validation problem."),
        (400, {"status": 400}, GatewayRefused, "", "no reason given"),
        (400, refusal(400, [], 5), GatewayRefused, "", "no reason given"),
        (400, refusal(400, {"type": 1, "key": [], "message": {}}, ""), GatewayRefused, "", "no reason given"),
        (403, {"detail": "blocked"}, GatewayRefused, "", "no reason given"),
        (403, {"status": "401"}, GatewayRefused, "", "no reason given"),
        (403, b"<html>Attention required</html>", GatewayRefused, "", "an answer that is no JSON object: not JSON"),
        (429, refusal(429, {}, "Slow down."), GatewayUnavailable, "", "Slow down."),
        (200, refusal(429, {}, "Slow down."), GatewayUnavailable, "", "Slow down."),
        (429, CREATED, GatewayUnavailable, "", "Operation completed successfully!"),
        (500, refusal(500, {}, "Oops."), GatewayUncertain, "", "Oops."),
        (200, refusal(500, {}, "Oops."), GatewayUncertain, "", "Oops."),
        (500, refusal(400, {}, "Oops."), GatewayUncertain, "", "Oops."),
        (503, refusal(503, {}, "Down."), GatewayUncertain, "", "Down."),
        (200, refusal(503, {}, "Down."), GatewayUncertain, "", "Down."),
        (403, CREATED, GatewayUncertain, "", "the answer's two statuses disagree"),
        (201, CREATED, GatewayUncertain, "", "the answer's two statuses disagree"),
        (200, CREATED | {"status": 100}, GatewayUncertain, "", "the answer's two statuses disagree"),
        (200, CREATED | {"status": "200"}, GatewayUncertain, "", "the answer's two statuses disagree"),
        (200, CREATED | {"status": True}, GatewayUncertain, "", "the answer's two statuses disagree"),
        (200, {"data": CREATED["data"]}, GatewayUncertain, "", "the answer's two statuses disagree"),
    ],
)
def test_T62_what_a_failed_create_means(stub, oxapay, naps, http_status, answer, kind, code, text):
    stub.script.append((http_status, answer))
    with pytest.raises(kind) as caught:
        oxapay.create(PLAIN)
    error = caught.value
    assert type(error) is kind
    assert (error.gateway, error.account, error.operation, error.http_status) == ("OxaPay", "main", "create", http_status)
    assert (error.code, error.text) == (code, text)
    assert len(stub.seen) == 1 and naps == []


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("data", None),
        ("data", []),
        ("data", "x"),
        ("track_id", {"track_id": None}),
        ("track_id", {"track_id": ""}),
        ("track_id", {"track_id": "../1"}),
        ("track_id", {"track_id": True}),
        ("track_id", {"track_id": 1.5}),
        ("track_id", {"track_id": "x" * 129}),
        ("track_id", {"track_id": []}),
        ("payment_url", {"payment_url": ""}),
        ("payment_url", {"payment_url": None}),
        ("payment_url", {"payment_url": 5}),
        ("payment_url", {"payment_url": "http://pay.oxapay.com/1/2"}),
        ("payment_url", {"payment_url": "javascript:alert(1)"}),
        ("payment_url", {"payment_url": "http://127.0.0.2/1"}),
        ("payment_url", {"payment_url": "//evil.example"}),
        ("payment_url", {"payment_url": "https://a@evil.example/"}),
        ("payment_url", {"payment_url": "https://" + "a" * 3000}),
        ("expired_at", {"expired_at": "soon"}),
        ("expired_at", {"expired_at": 1760003600000}),
        ("expired_at", {"expired_at": True}),
        ("expired_at", {"expired_at": -1}),
        ("expired_at", {"expired_at": {}}),
        ("expired_at", {"expired_at": 1760003600.5}),
        ("order_id", {"order_id": "zyxwvutsrqponmlkjihgfedcba"}),
        ("amount", {"amount": -5}),
        ("amount", {"amount": "1_0"}),
        ("pay_amount", {"pay_amount": 1e25}),
        ("address", {"address": "a\x00b"}),
        ("currency", {"currency": ["USD"]}),
    ],
)
def test_T66_T67_an_answer_that_does_not_fit_is_uncertain(stub, oxapay, field, changes):
    answer = copy.deepcopy(CREATED)
    answer["data"] = answer["data"] | changes if isinstance(changes, dict) else changes
    stub.script.append((200, answer))
    with pytest.raises(GatewayUncertain) as caught:
        oxapay.create(PLAIN)
    assert field in caught.value.text and caught.value.http_status == 200


@pytest.mark.parametrize(
    ("field", "value"), [("address", ""), ("address", None), ("order_id", "another"), ("memo", {}), ("pay_amount", "x")]
)
def test_T67_a_white_label_answer_that_does_not_fit_is_uncertain(stub, oxapay, field, value):
    stub.script.append((200, LABEL | {"data": LABEL["data"] | {field: value}}))
    with pytest.raises(GatewayUncertain) as caught:
        oxapay.create(OWN)
    assert field in caught.value.text


def test_T56_no_secret_in_texts_and_errors(stub, oxapay, caplog):
    assert KEY not in repr(oxapay.account) + str(oxapay.account) + repr(oxapay) + repr(vars(oxapay)) + oxapay.identity
    stub.script.append((400, refusal(400, {"type": KEY, "key": KEY, "message": f"unknown key {KEY}"}, KEY)))
    with caplog.at_level(logging.DEBUG), pytest.raises(GatewayRefused) as caught:
        oxapay.create(PLAIN)
    assert (caught.value.code, caught.value.text) == ("***", "unknown key ***")
    assert KEY not in caplog.text
    with pytest.raises(BadSignature) as caught:
        oxapay.verify({"HMAC": sign(b"{}")}, b"{ }")
    assert sign(b"{ }") not in str(caught.value) and KEY not in str(caught.value)


# Fetch


def fetch(stub, oxapay, answer, gateway_id="190000001"):
    stub.script.append((200, answer))
    return oxapay.fetch(Remote(Kind.INVOICE, gateway_id, REFERENCE))


def test_fetch_reads_everything(stub, oxapay):
    before = datetime.now(UTC)
    evidence = fetch(stub, oxapay, INFORMATION)
    assert before <= evidence.observed_at <= datetime.now(UTC)
    assert evidence == Evidence(
        source=Source.POLL,
        remote=Remote(Kind.INVOICE, "190000001", REFERENCE),
        word="paid",
        status=InvoiceStatus.PAID,
        final=True,
        price_amount=Decimal("10.1"),
        price_currency="EUR",
        received=None,
        tolerance=Decimal("2.5"),
        transfers=(
            RemoteTransfer(
                key="0xbbb2",
                tx_hash="0xbbb2",
                amount=Decimal("0.0025"),
                currency="ETH",
                network="Ethereum Network",
                address="0xaddress",
                value=None,
                confirmations=12,
                confirmed=True,
                paid_at=datetime(2025, 10, 9, 8, 58, 20, tzinfo=UTC),
            ),
        ),
        expires_at=datetime(2025, 10, 9, 9, 53, 20, tzinfo=UTC),
        observed_at=evidence.observed_at,
        raw=json.dumps(INFORMATION),
    )
    [seen] = stub.seen
    assert (seen.method, seen.path, seen.body) == ("GET", "/v1/payment/190000001", b"")
    assert (seen.headers["merchant_api_key"], seen.headers["Content-Type"]) == (KEY, "application/json")


@pytest.mark.parametrize(
    ("word", "kind"), [("invoice", "invoice"), ("white_label", "address"), ("static_address", "static_address"), ("", "invoice")]
)
def test_fetch_knows_the_kind(stub, oxapay, word, kind):
    assert fetch(stub, oxapay, INFORMATION | {"data": INFORMATION["data"] | {"type": word}}).remote.kind == kind


def test_T67_fetch_refuses_another_payment(stub, oxapay):
    with pytest.raises(GatewayUncertain) as caught:
        fetch(stub, oxapay, INFORMATION, gateway_id="190000009")
    assert "track_id" in caught.value.text


def test_fetch_takes_a_number_for_an_id(stub, oxapay):
    answer = INFORMATION | {"data": INFORMATION["data"] | {"track_id": 190000001}}
    assert fetch(stub, oxapay, answer).remote.gateway_id == "190000001"


@pytest.mark.parametrize("gateway_id", ["", "../common/prices", "1?x=1", "1/2"])
def test_T58_fetch_checks_the_id(stub, oxapay, gateway_id):
    with pytest.raises(InvalidRequest):
        oxapay.fetch(Remote(Kind.INVOICE, gateway_id))
    assert stub.seen == []


def test_T64_fetch_is_repeated_but_not_when_bounded(stub, oxapay, naps):
    stub.script += [(503, b""), (200, refusal(503, {})), (200, INFORMATION), (503, b"")]
    assert oxapay.fetch(Remote(Kind.INVOICE, "190000001")).word == "paid"
    assert len(naps) == 2
    with pytest.raises(GatewayUnavailable):
        oxapay.fetch(Remote(Kind.INVOICE, "190000001"), timeout=5)
    assert len(stub.seen) == 4 and len(naps) == 2


def test_an_unknown_payment_is_refused(stub, oxapay):
    with pytest.raises(GatewayRefused) as caught:
        stub.script.append((404, refusal(404, {"type": "not_found", "key": "track_id", "message": "Not found."})))
        oxapay.fetch(Remote(Kind.INVOICE, "1"))
    assert (caught.value.operation, caught.value.http_status, caught.value.code) == ("fetch", 404, "track_id")


# What was received


def tx(amount, currency, hash="h", status="confirmed"):
    return {"tx_hash": hash, "amount": amount, "currency": currency, "status": status, "date": 1760000300}


@pytest.mark.parametrize(
    ("status", "fee", "txs", "expected"),
    [
        ("paid", 0, [tx(10, "USDT")], "10"),
        ("paid", 0, [tx(10, "usdt")], "10"),
        ("paid", 0, [tx("10.5", "USDT", "a"), tx(1e-8, "USDT", "b")], "10.50000001"),
        ("paid", 0, [tx(10, "USDT", status="confirming")], "10"),
        ("manual_accept", 0, [tx(4, "USDT", status="confirming")], "4"),
        ("paying", 0, [tx(10, "USDT", "a"), tx(5, "USDT", "b", "confirming")], "10"),
        ("paying", 0, [tx(5, "USDT", status="confirming")], "0"),
        ("underpaid", 0, [tx(9, "USDT", "a"), tx(1, "USDT", "b", "confirming")], "9"),
        ("expired", 0, [tx(9, "USDT")], "9"),
        ("paid", 0, [tx(10, "TRX")], None),
        ("paid", 0, [tx(10, "USDT", "a"), tx(1, "TRX", "b")], None),
        ("paid", 0, [tx("", "USDT")], None),
        ("paid", 0, [], None),
        ("paid", 0, None, None),
        ("paid", 1, [tx(10, "USDT")], None),
        ("paid", None, [tx(10, "USDT")], None),
        ("paid", False, [tx(10, "USDT")], "10"),
        ("paid", "0", [tx(10, "USDT")], "10"),
        (
            "paid",
            0,
            [tx("12345678901234567890.123456789012345678", "USDT"), tx("0.000000000000000001", "USDT", "b")],
            "12345678901234567890.123456789012345679",
        ),
    ],
)
def test_T18_received_is_known_only_in_the_price_currency(stub, oxapay, status, fee, txs, expected):
    values = {"status": status, "fee_paid_by_payer": fee, "txs": txs, "currency": "USDT", "amount": 10}
    evidence = fetch(stub, oxapay, INFORMATION | {"data": INFORMATION["data"] | values})
    assert evidence.received == (None if expected is None else Decimal(expected))
    assert all((transfer.value is None) is (expected is None) for transfer in evidence.transfers)


def test_a_callback_names_what_was_received_otherwise():
    evidence = verify(PAID | {"currency": "USDT"})
    assert (evidence.received, evidence.transfers[0].amount, evidence.transfers[0].value) == (
        Decimal(25),
        Decimal(25),
        Decimal(25),
    )


def test_repeated_hashes_are_told_apart():
    one = PAID["txs"][0]
    evidence = verify(PAID | {"txs": [one, one | {"tx_hash": "0xc"}, one, one | {"tx_hash": ""}, one]})
    assert [transfer.key for transfer in evidence.transfers] == ["0xaaa1", "0xc", "0xaaa1#2", "0xaaa1#3"]
    assert [transfer.tx_hash for transfer in evidence.transfers] == ["0xaaa1", "0xc", "0xaaa1", "0xaaa1"]


# Find


def entry(order_id, track_id="190000001"):
    return {"track_id": track_id, "order_id": order_id, "type": "invoice", "status": "waiting"}


def page(entries, number=1, last=1):
    return (200, {"data": {"list": entries, "meta": {"page": number, "last_page": last, "total": 5}}, "status": 200})


CREATED_AT = datetime(2025, 10, 9, 8, 53, 20, tzinfo=UTC)  # 1760000000
SORTED = "&sort_by=create_date&sort_type=asc"
NARROW = "/v1/payment?currency=EUR&from_date=1759996400&to_date=1760003600&from_amount=10.1&to_amount=10.1" + SORTED
WIDE = "/v1/payment?from_date=1759996400&to_date=1760003600" + SORTED


def find(oxapay, reference=REFERENCE):
    return oxapay.find(reference, kind=Kind.INVOICE, amount=Decimal("10.10"), currency="EUR", created_at=CREATED_AT)


def test_T62_find_compares_our_reference(stub, oxapay):
    others = [entry(None), entry(""), entry(REFERENCE.upper()), entry(REFERENCE[:-1]), entry(REFERENCE + "1"), {}]
    stub.script += [page([*others, entry(REFERENCE)]), (200, INFORMATION)]
    evidence = find(oxapay)
    assert (evidence.remote, evidence.source, evidence.word) == (
        Remote(Kind.INVOICE, "190000001", REFERENCE),
        Source.POLL,
        "paid",
    )
    assert [seen.path for seen in stub.seen] == [NARROW + "&page=1&size=200", "/v1/payment/190000001"]


def test_T62_find_reads_all_pages_and_searches_without_the_amount_too(stub, oxapay):
    stub.script += [
        page([entry("x")], 1, 2),
        page([entry("y")], 2, 2),
        page([entry("z")], 1, 3),
        page([entry(REFERENCE, 7)], 2, 3),
    ]
    stub.script.append((200, INFORMATION | {"data": INFORMATION["data"] | {"track_id": 7}}))
    assert find(oxapay).remote.gateway_id == "7"
    assert [seen.path for seen in stub.seen] == [
        NARROW + "&page=1&size=200",
        NARROW + "&page=2&size=200",
        WIDE + "&page=1&size=200",
        WIDE + "&page=2&size=200",
        "/v1/payment/7",
    ]


def test_T62_find_says_none_only_when_everything_was_read(stub, oxapay):
    stub.script += [page([]), page([entry("x")], 1, 1)]
    assert find(oxapay) is None
    stub.script += [(200, {"data": {"list": [entry("x")]}, "status": 200}), (200, {"data": {"list": []}, "status": 200})] * 2
    assert find(oxapay) is None
    assert len(stub.seen) == 6


def test_T62_find_does_not_read_for_ever(stub, oxapay):
    stub.script += [page([entry("x")], 1, 9999)] * 60
    with pytest.raises(GatewayUncertain) as caught:
        find(oxapay)
    assert caught.value.operation == "find" and len(stub.seen) == 50


@pytest.mark.parametrize("data", [{}, {"list": None}, {"list": {}}, {"list": [1]}, {"list": "x"}, [], None])
def test_T66_a_list_that_is_none_is_uncertain(stub, oxapay, data):
    stub.script.append((200, {"data": data, "status": 200}))
    with pytest.raises(GatewayUncertain):
        oxapay.history()


def test_find_refuses_an_empty_reference(stub, oxapay):
    with pytest.raises(InvalidRequest):
        find(oxapay, "")
    assert stub.seen == []


def test_find_needs_a_time_with_its_zone(stub, oxapay):
    with pytest.raises(InvalidRequest):
        oxapay.find(REFERENCE, kind=Kind.INVOICE, amount=Decimal(1), currency="EUR", created_at=datetime(2025, 10, 9))
    assert stub.seen == []


# The vendor's own calls


def test_history_sends_every_filter(stub, oxapay):
    stub.script.append(page([{"track_id": "1", "amount": 0.1}]))
    listed = oxapay.history(
        track_id=5,
        type="invoice",
        status="paid",
        pay_currency="TRX",
        currency="USD",
        network="TRON",
        address="T1",
        from_date=CREATED_AT,
        to_date=CREATED_AT,
        from_amount=Decimal("0.10"),
        to_amount=Decimal("1E+2"),
        sort_by="amount",
        sort_type="desc",
        page=2,
        size=200,
    )
    assert stub.seen[0].path == (
        "/v1/payment?track_id=5&type=invoice&status=paid&pay_currency=TRX&currency=USD&network=TRON&address=T1&from_date=1760000000"
        "&to_date=1760000000&from_amount=0.1&to_amount=100&sort_by=amount&sort_type=desc&page=2&size=200"
    )
    assert listed == {"list": [{"track_id": "1", "amount": Decimal("0.1")}], "meta": {"page": 1, "last_page": 1, "total": 5}}


@pytest.mark.parametrize(
    ("method", "field", "value"),
    [
        ("history", "size", 201),
        ("history", "size", 0),
        ("history", "page", 0),
        ("history", "track_id", 0),
        ("history", "track_id", "5"),
        ("history", "type", "payout"),
        ("history", "status", "Paid"),
        ("history", "sort_by", "date"),
        ("history", "sort_type", "up"),
        ("history", "from_amount", -1),
        ("history", "to_amount", 1.5),
        ("history", "from_date", 1760000000),
        ("history", "order_id", "x"),
        ("history", "to_date", datetime(2025, 1, 1)),
        ("history", "currency", "X" * 17),
        ("history", "size", True),
        ("list_static_addresses", "size", 201),
        ("list_static_addresses", "have_tx", 1),
        ("list_static_addresses", "order_id", "x" * 65),
        ("list_static_addresses", "status", "paid"),
    ],
)
def test_a_wrong_filter_is_named_before_any_call(stub, oxapay, method, field, value):
    with pytest.raises(InvalidRequest) as caught:
        getattr(oxapay, method)(**{field: value})
    assert caught.value.field == field and stub.seen == []


def test_static_addresses_are_listed(stub, oxapay):
    stub.script.append(page([{"address": "T1"}]))
    filters = {
        "track_id": 1,
        "network": "TRON",
        "currency": "TRX",
        "address": "T1",
        "have_tx": False,
        "order_id": "o",
        "email": "e",
        "page": 1,
    }
    assert oxapay.list_static_addresses(**filters, size=1)["list"] == [{"address": "T1"}]
    assert stub.seen[0].path == (
        "/v1/payment/static-address?track_id=1&network=TRON&currency=TRX&address=T1&have_tx=0&order_id=o&email=e&page=1&size=1"
    )


def test_accepted_currencies(stub, oxapay):
    stub.script += [(200, {"data": {"list": ["BTC", "USDT"]}, "status": 200}), (200, {"data": {"list": [1]}, "status": 200})]
    assert oxapay.accepted_currencies() == ["BTC", "USDT"]
    with pytest.raises(GatewayUncertain):
        oxapay.accepted_currencies()
    assert stub.seen[0].path == "/v1/payment/accepted-currencies"


@pytest.mark.parametrize(("status", "expected"), [(True, True), ("OK", True), (False, False), ("down", False), (None, False)])
def test_system_status(stub, oxapay, status, expected):
    stub.script.append((200, {"data": {"status": status}, "message": "", "status": 200}))
    assert oxapay.system_status() is expected
    assert stub.seen[0].path == "/v1/common/monitor"


# Callbacks: the signature


def test_the_vendors_vectors():
    assert verify(V3[1], **{"HMAC": V3[2]}) == Evidence(
        source=Source.CALLBACK,
        remote=Remote(Kind.INVOICE, "900000001", "ORD-0001"),
        word="paying",
        status=InvoiceStatus.CONFIRMING,
        final=False,
        price_amount=Decimal(25),
        price_currency="USD",
        tolerance=Decimal("2.5"),
        transfers=(
            RemoteTransfer(
                key="0xaaa1",
                tx_hash="0xaaa1",
                amount=Decimal(25),
                currency="USDT",
                network="Tron Network",
                address="TReceiver",
                sender="TSender",
                confirmations=1,
                confirmed=False,
                paid_at=datetime(2025, 10, 9, 8, 55, tzinfo=UTC),
            ),
        ),
        raw=V3[1].decode(),
    )
    evidence = LIVE.verify({"hmac": V5[2]}, V5[1])
    assert evidence.remote == Remote(Kind.ADDRESS, "900000002", "ЗАКАЗ-7/ü")
    assert (evidence.word, evidence.price_amount, evidence.price_currency) == ("paid", Decimal("0.0001"), "BTC")
    assert (evidence.received, evidence.transfers, evidence.tolerance, evidence.raw) == (None, (), None, V5[1].decode())


def test_a_vector_too_short_to_name_a_payment():
    with pytest.raises(MalformedCallback, match="track_id"):
        build(merchant_api_key=V1[0]).verify({"HMAC": V1[2]}, V1[1])


@pytest.mark.parametrize("vector", [V1, V3, V5])
def test_T10_a_body_written_anew_does_not_verify(vector):
    key, body, signature = vector
    again = json.dumps(json.loads(body)).encode()
    assert again != body
    with pytest.raises(BadSignature):
        build(merchant_api_key=key).verify({"HMAC": signature}, again)


GOOD = sign(V3[1])


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"HMAC": ""},
        {"HMAC": " "},
        {"Content-Type": "application/json"},
        {"X-Signature": GOOD},
        {"x-api-signature": GOOD},
        {"H_MAC": GOOD},
        {"HMAC ": GOOD},
        {"HTTP_HMAC": GOOD},
        {"X-HMAC": GOOD},
        {"Authorization": GOOD},
    ],
)
def test_T01_without_the_header_nothing_is_read(headers):
    for body in (V3[1], b"not json"):
        with pytest.raises(BadSignature):
            LIVE.verify(headers, body)


@pytest.mark.parametrize("key", ["", " ", "changeme", "sandbox", PAYOUT_KEY, KEY.lower(), KEY + " "])
def test_T02_T07_another_key_does_not_sign(key):
    with pytest.raises(BadSignature):
        verify(V3[1], key)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        1,
        1.0,
        [],
        [GOOD],
        (GOOD,),
        {},
        {"HMAC": GOOD},
        GOOD.encode(),
        bytearray(GOOD, "ascii"),
        memoryview(b"x"),
        object(),
        GOOD.upper(),
        GOOD[:64],
        GOOD[:-1],
        GOOD + "0",
        " " + GOOD,
        GOOD + "\n",
        "sha512=" + GOOD,
        "0x" + GOOD[2:],
        "0e" + "0" * 126,
        base64.b64encode(bytes.fromhex(GOOD)).decode(),
        "g" * 128,
        "٣" * 128,
        "ａ" * 128,
        hashlib.sha512(V3[1]).hexdigest(),
        hmac.new(KEY.encode(), V3[1], hashlib.sha256).hexdigest(),
    ],
    ids=lambda value: repr(value).split(" at 0x")[0],
)
def test_T03_a_signature_of_another_type_or_form(value):
    with pytest.raises(BadSignature):
        LIVE.verify({"HMAC": value}, V3[1])


@settings(max_examples=300, deadline=None)
@given(
    st.text(st.characters(max_codepoint=255), max_size=300)
    | st.text(st.sampled_from("0123456789abcdef"), min_size=128, max_size=128)
)
def test_T05_no_header_crashes_the_check(value):
    with pytest.raises(BadSignature):
        LIVE.verify({"HMAC": value}, V3[1])


def test_T05_neither_do_long_ones():
    for value in ("a" * 1_000_000, "\x00" * 128, "é" * 128):
        with pytest.raises(BadSignature):
            LIVE.verify({"HMAC": value}, V3[1])


@pytest.mark.parametrize("value", [f"{GOOD},{GOOD}", f"{GOOD}, bad", f"bad,{GOOD}", f",{GOOD}", f"{GOOD},"])
def test_T06_several_values_are_none(value):
    with pytest.raises(BadSignature):
        LIVE.verify({"HMAC": value}, V3[1])


def test_T06_the_header_counts_once_in_whatever_case():
    for name in ("HMAC", "Hmac", "hmac"):
        assert LIVE.verify({name: GOOD}, V3[1]).word == "paying"
    with pytest.raises(BadSignature):
        LIVE.verify({"HMAC": GOOD, "hmac": GOOD}, V3[1])


def test_T15_any_current_key_verifies():
    rotating = build(merchant_api_key=["NEWKEY-1", KEY])
    for key in ("NEWKEY-1", KEY):
        assert verify(V3[1], key, rotating).word == "paying"
    with pytest.raises(BadSignature):
        verify(V3[1], "OLDKEY-1", rotating)


PAYOUT = {
    "track_id": "8",
    "status": "Confirmed",
    "type": "payout",
    "tx_hash": "0x1",
    "address": "T1",
    "amount": 5,
    "value": 5,
    "currency": "TRX",
    "network": "Tron Network",
    "description": "",
    "date": 1760000000,
}


def test_T07_a_payout_has_no_business_here():
    with pytest.raises(BadSignature):
        verify(PAYOUT, PAYOUT_KEY)
    for kind in ("payout", "Payout", "payment_link", "donation", "payment", "x" * 200):
        with pytest.raises(MisdirectedCallback) as caught:
            verify(PAYOUT | {"type": kind})
        assert len(str(caught.value)) < 120


@pytest.mark.parametrize(
    ("word", "kind"),
    [("invoice", "invoice"), ("white_label", "address"), ("static_address", "static_address"), ("Invoice", "invoice")],
)
def test_kinds_of_callbacks(word, kind):
    assert verify(PAID | {"type": word}).remote.kind == kind


def leaves(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield from leaves(item, (*path, name)) if isinstance(item, (dict, list)) else [(*path, name)]


@pytest.mark.parametrize("path", list(leaves(PAID)), ids=str)
def test_T09_every_leaf_is_signed(path):
    body = copy.deepcopy(PAID)
    signature = sign(json.dumps(body).encode())
    assert LIVE.verify({"HMAC": signature}, json.dumps(body).encode()).word == "paid"
    *parents, name = path
    holder = body
    for parent in parents:
        holder = holder[parent]
    for other in ("x", 7, None):
        holder[name] = other
        with pytest.raises(BadSignature):
            LIVE.verify({"HMAC": signature}, json.dumps(body).encode())


def test_T09_every_byte_is_signed():
    for index in range(len(V3[1])):
        body = bytearray(V3[1])
        body[index] ^= 1
        with pytest.raises(BadSignature):
            LIVE.verify({"HMAC": V3[2]}, bytes(body))


# Callbacks: the content


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b'"x"',
        b"1",
        b"{",
        b"}",
        b"{}x",
        b"{}{}",
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a" 1}',
        b'{"a":}',
        b"{a:1}",
        b'{"a":1 "b":2}',
        b'{"a":+1}',
        b'{"a":.5}',
        b'{"a":1.}',
        b'{"a":01}',
        b'{"a":0x1}',
        b'{"a":1e}',
        b'{"a":--1}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":nan}',
        b'{"a":True}',
        b'{"a":undefined}',
        b'{"a":"\n"}',
        b'{"a":"\x00"}',
        b'{"a":"\\x41"}',
        b'{"a":"\\u12"}',
        b'{"a":"b}',
        b"// c\n{}",
        b"/* c */{}",
        b"{}\x00",
        b"\x00{}",
        b"\xef\xbb\xbf" + V3[1],
        V3[1].decode().encode("utf-16"),
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xc0\xaf"}',
        V3[1] + b"x",
        V3[1][:-1],
        V3[1] + V3[1],
        V3[1][:-1] + b',"status":"Paid"}',
        V3[1][:-1] + b',"status":"Paying"}',
        b'{"a":' + b"[" * 16 + b"]" * 16 + b"}",
        b'{"a":' * 100_000,
        b"[" * 100_000,
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":0.' + b"9" * 400 + b"}",
        json.dumps({str(number): 1 for number in range(300)}).encode(),
        b"<html>",
        b"status=Paid&track_id=1",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_T11_bytes_that_are_no_strict_json_object(body):
    malformed(body)


@pytest.mark.parametrize(
    "text",
    [
        "-1",
        '"NaN"',
        '"Infinity"',
        '"-0.1"',
        "1e1000000",
        '"1e1000000"',
        '"1_000"',
        '"１２"',
        '"٣"',
        '" 12 "',
        '"12 "',
        "true",
        "false",
        "[]",
        "{}",
        '"0x1F"',
        '"1,5"',
        '"1.5.5"',
        '"+1"',
        '".5"',
        '"1."',
        '"1e"',
        '"twelve"',
        "1e31",
        "1E-40",
        '"' + "9" * 25 + '"',
        "9" * 31,
        '"1e+999"',
        '"\\u0661"',
        '"--1"',
        '"1\\n"',
        '"$1"',
        '"1USD"',
        '"1/2"',
        '"∞"',
        "100000000000000000000",
        '"' + "1" * 5000 + '"',
    ],
)
@pytest.mark.parametrize("field", ["amount", "under_paid_coverage", "received_amount"])
def test_T21_hostile_numbers(field, text):
    body = V3[1].decode()
    old = {
        "amount": '"amount":25,',
        "under_paid_coverage": '"under_paid_coverage":2.5',
        "received_amount": '"received_amount":25.0',
    }[field]
    assert old in body
    assert field in malformed(body.replace(old, f'"{field}":{text}' + ("," if old.endswith(",") else "")).encode())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("25", "25"),
        ('"25.10"', "25.1"),
        ("1.336520646e+19", "13365206460000000000"),
        ("1e-8", "0.00000001"),
        ("1E-18", "0.000000000000000001"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("3.0440897036220003", "3.0440897036220003"),
        ("-0", "0"),
        ("0.0", "0"),
        ("99999999999999999999.999999999999999999", "99999999999999999999.999999999999999999"),
        ("1.0000000000000000005", "1"),
        ("1.0000000000000000015", "1.000000000000000002"),
        ("123456789.123456789123456789", "123456789.123456789123456789"),
    ],
)
def test_T22_T23_numbers_arrive_exactly(text, expected):
    body = (
        V3[1]
        .replace(b'"amount":25,', b'"amount":' + text.encode() + b",")
        .replace(b'"received_amount":25.0', b'"received_amount":' + text.encode())
    )
    evidence = verify(body)
    assert evidence.price_amount == evidence.transfers[0].amount == Decimal(expected)
    assert not evidence.price_amount.is_signed()


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("track_id", {"track_id": None}),
        ("track_id", {"track_id": ""}),
        ("track_id", {"track_id": True}),
        ("track_id", {"track_id": 1.5}),
        ("track_id", {"track_id": "a/b"}),
        ("track_id", {"track_id": [1]}),
        ("track_id", {"track_id": "1" * 129}),
        ("track_id", {"track_id": -1.0}),
        ("status", {"status": None}),
        ("status", {"status": ""}),
        ("status", {"status": 1}),
        ("status", {"status": ["Paid"]}),
        ("status", {"status": "x" * 65}),
        ("status", {"status": {"a": 1}}),
        ("status", {"status": True}),
        ("type", {"type": None}),
        ("type", {"type": ""}),
        ("type", {"type": 0}),
        ("type", {"type": ["invoice"]}),
        ("order_id", {"order_id": 7}),
        ("order_id", {"order_id": "a\x00b"}),
        ("order_id", {"order_id": "\ud800"}),
        ("order_id", {"order_id": "x" * 256}),
        ("currency", {"currency": 5}),
        ("currency", {"currency": "U" * 17}),
        ("fee_paid_by_payer", {"fee_paid_by_payer": 2}),
        ("fee_paid_by_payer", {"fee_paid_by_payer": 0.5}),
        ("fee_paid_by_payer", {"fee_paid_by_payer": []}),
        ("fee_paid_by_payer", {"fee_paid_by_payer": "no"}),
        ("under_paid_coverage", {"under_paid_coverage": 60.01}),
        ("under_paid_coverage", {"under_paid_coverage": -1}),
        ("txs", {"txs": {}}),
        ("txs", {"txs": "x"}),
        ("txs", {"txs": 0}),
        ("txs", {"txs": [1]}),
        ("txs", {"txs": [[]]}),
        ("txs", {"txs": [None]}),
        ("txs.tx_hash", with_tx(tx_hash=5)),
        ("txs.tx_hash", with_tx(tx_hash="x" * 181)),
        ("txs.status", with_tx(status=1)),
        ("txs.currency", with_tx(currency=[])),
        ("txs.network", with_tx(network="n" * 65)),
        ("txs.address", with_tx(address={})),
        ("txs.sender_address", with_tx(sender_address=1)),
        ("txs.confirmations", with_tx(confirmations=-1)),
        ("txs.confirmations", with_tx(confirmations=1.5)),
        ("txs.confirmations", with_tx(confirmations=2**31)),
        ("txs.confirmations", with_tx(confirmations="many")),
        ("txs.date", with_tx(date="yesterday")),
        ("txs.date", with_tx(date=1e300)),
        ("txs.date", with_tx(date=1760000100000)),
        ("txs.date", with_tx(date=[])),
        ("txs.date", with_tx(date=True)),
        ("txs.received_amount", with_tx(received_amount=-1)),
        ("expired_at", {"expired_at": "9999-99-99"}),
        ("expired_at", {"expired_at": "0001-01-01T00:00:00+23:59"}),
    ],
    ids=str,
)
def test_a_field_of_another_type_is_named(field, changes):
    assert malformed(PAID | changes).startswith(field + ":")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1760000100, datetime(2025, 10, 9, 8, 55, tzinfo=UTC)),
        ("1760000100", datetime(2025, 10, 9, 8, 55, tzinfo=UTC)),
        (1760000100.0, datetime(2025, 10, 9, 8, 55, tzinfo=UTC)),
        ("2025-10-09T08:55:00Z", datetime(2025, 10, 9, 8, 55, tzinfo=UTC)),
        ("2025-10-09 08:55:00", datetime(2025, 10, 9, 8, 55, tzinfo=UTC)),
        ("2025-10-09T10:55:00+02:00", datetime(2025, 10, 9, 8, 55, tzinfo=UTC)),
        ("2025-10-09T08:55:00.250Z", datetime(2025, 10, 9, 8, 55, 0, 250000, tzinfo=UTC)),
        (0, None),
        ("", None),
        (None, None),
    ],
)
def test_T68_times(value, expected):
    [transfer] = verify(PAID | with_tx(date=value)).transfers
    assert transfer.paid_at == expected
    assert expected is None or transfer.paid_at.tzinfo is UTC


def test_the_creation_time_is_no_payment_time():
    evidence = verify(PAID)
    assert evidence.paid_at is None and evidence.observed_at is None


def test_T13_the_sandbox_leaves_its_mark():
    assert verify(PAID).sandbox is None
    first = PAID["txs"][0]
    evidence = verify(
        PAID | {"txs": [first, first | {"tx_hash": "sandbox", "address": "sandbox", "sender_address": "", "confirmations": 10}]}
    )
    assert evidence.sandbox is True
    twice = verify(PAID | {"txs": [first | {"tx_hash": "sandbox"}] * 2})
    assert [transfer.key for transfer in twice.transfers] == ["sandbox", "sandbox#2"]


def test_T13_the_sandbox_leaves_its_mark_on_a_poll(stub, oxapay):
    data = INFORMATION["data"] | {"txs": [tx(10, "ETH", "sandbox")]}
    assert fetch(stub, oxapay, INFORMATION | {"data": data}).sandbox is True


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(PAID)), st.sampled_from(sorted(PAID["txs"][0])), JSON, JSON)
def test_T21_a_signed_body_gives_evidence_or_a_refusal(name, tx_name, value, tx_value):
    try:
        evidence = verify(PAID | with_tx(**{tx_name: tx_value}) | ({name: value} if name != "txs" else {}))
    except (MalformedCallback, MisdirectedCallback):
        return
    assert isinstance(evidence, Evidence)
