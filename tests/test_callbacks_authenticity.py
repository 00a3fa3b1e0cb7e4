"""Who may say that money arrived (cases T01 to T13)."""

import base64
import hashlib
import hmac
import itertools

import pytest
import simplejson
from django.test import Client
from django.utils import timezone

from crypto_invoices.models import CallbackReceipt, Invoice, PaymentAttempt
from crypto_invoices.services import refresh_invoice
from crypto_invoices.signals import callback_rejected
from tests.helpers import (
    KEYS,
    Clock,
    body_of,
    dumps,
    fact,
    facts,
    later,
    make,
    path_of,
    post,
    recorded,
    rows,
    send,
    sign,
    stub_gateway,
    tell,
    tx,
    verdicts,
)

LOG = "crypto_invoices.callback"


@pytest.fixture
def gateway(settings):
    return stub_gateway(settings)


@pytest.fixture
def refused(db, gateway, django_assert_num_queries, monkeypatch):
    """Posts what must be refused: 403, a fixed body, no query, no row, no durable signal."""
    _, payment = make(gateway)
    body = body_of(payment, "Paid", [tx("25")])

    def check(signature=None, body=body, **headers):
        client = Client()
        before = rows()
        with recorded() as calls, django_assert_num_queries(0):
            answer = post(path_of(payment), body, signature, client=client, **headers)
        assert (answer.status_code, answer.content, calls) == (403, b"forbidden", [])
        assert rows() == before

    check.body = body
    check.good = sign(body)
    check.payment = payment
    return check


# T01: no or optional signature


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"HTTP_HMAC": ""},
        {"HTTP_HMAC": " "},
        {"HTTP_HMAC": "\t \t"},
        {"HTTP_X_API_SIGNATURE": "good"},
        {"HTTP_WEBHOOK_SIGNATURE": "good"},
        {"HTTP_X_HMAC": "good"},
        {"HTTP_X_SIGNATURE": "good"},
        {"HTTP_AUTHORIZATION": "good"},
    ],
    ids=lambda headers: next(iter(headers), "none"),
)
def test_t01_no_signature(refused, headers):
    refused(**{name: refused.good if value == "good" else value for name, value in headers.items()})


def test_t01_signature_in_the_query_or_the_body(refused, django_assert_num_queries):
    body = dumps({**simplejson.loads(refused.body, use_decimal=True), "HMAC": refused.good, "sign": refused.good})
    refused(body=body)
    with django_assert_num_queries(0):
        assert post(f"{path_of(refused.payment)}?HMAC={refused.good}", refused.body).status_code == 403


def test_t01_the_same_body_with_its_signature_is_applied(refused):
    assert post(path_of(refused.payment), refused.body, refused.good).status_code == 200
    assert Invoice.objects.get().status == "paid"


def test_t01_what_a_rejection_leaves_behind(refused, caplog, monkeypatch):
    told = []

    def receive(sender, **kwargs):
        told.append({name: kwargs[name] for name in ("account", "reason", "remote_addr")})

    callback_rejected.connect(receive, dispatch_uid="tests.rejected")
    try:
        with later(monkeypatch), caplog.at_level("DEBUG"):
            refused("0" * 128, REMOTE_ADDR="192.0.2.7")
    finally:
        callback_rejected.disconnect(dispatch_uid="tests.rejected")
    assert [(call["account"], call["remote_addr"]) for call in told] == [("default", "192.0.2.7")]
    assert [(record.name, record.levelname) for record in caplog.records] == [(LOG, "WARNING")]
    text = caplog.text + repr(told)
    for secret in (refused.good, "0" * 128, KEYS["default"], refused.payment["order_id"], refused.payment["track_id"]):
        assert secret not in text


def test_t50_a_forged_callback_for_an_unknown_reference_costs_no_query(refused, django_assert_num_queries):
    with django_assert_num_queries(0):
        path = path_of(refused.payment)
        tampered = path.replace(refused.payment["order_id"], "A" * 26)
        assert post(tampered, refused.body, refused.good).status_code == 404
        assert post(path.replace("/default/", "/nobody/"), refused.body, refused.good).status_code == 404


# T02: empty secret


@pytest.mark.parametrize("secret", ["", None, " ", "changeme", "whsec_", [], [""], ["", "a-real-key"], "CHANGEME", "secret"])
def test_t02_an_account_without_a_secret(gateway, db, settings, secret, caplog, monkeypatch, django_assert_num_queries):
    _, payment = make(gateway)
    options = {"base_url": gateway.base_url} | ({} if secret is None else {"merchant_api_key": secret})
    broken = {"PROVIDER": "crypto_invoices.providers.oxapay.OxaPay", "OPTIONS": options}
    accounts = {**settings.CRYPTO_INVOICES["ACCOUNTS"], "default": broken}
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "ACCOUNTS": accounts}
    body = body_of(payment, "Paid", [tx("25")])
    tried = {"", " ", "changeme", "whsec_", "None", "a-real-key", KEYS["default"], secret if isinstance(secret, str) else ""}
    before = rows()
    for number, key in enumerate(sorted(tried), start=1):
        caplog.clear()
        with django_assert_num_queries(0), caplog.at_level("INFO"), later(monkeypatch, 120.0 * number):
            answer = post(path_of(payment), body, sign(body, key))
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "60")
        assert (LOG, "ERROR") in [(record.name, record.levelname) for record in caplog.records]
    assert rows() == before


@pytest.mark.parametrize("options", [{}, {"merchant_api_key": None}], ids=["absent", "None"])
def test_t02_an_account_whose_secret_is_absent(gateway, db, settings, options):
    _, payment = make(gateway)
    broken = {"PROVIDER": "crypto_invoices.providers.oxapay.OxaPay", "OPTIONS": options}
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "ACCOUNTS": {"default": broken}}
    body = body_of(payment, "Paid", [tx("25")])
    assert [post(path_of(payment), body, sign(body, key)).status_code for key in ("", "None", KEYS["default"])] == [503] * 3


# T03: loose or wrong-typed comparison


def _in_hex(body):
    good = sign(body)
    raw = bytes.fromhex(good)
    return {
        "null": "null",
        "true": "true",
        "zero": "0",
        "list": "[]",
        "object": "{}",
        "magic hash": "0e462097431906509019562988736854",
        "zeros": "0" * 128,
        "upper case": good.upper(),
        "one upper-case letter": good[:-1] + ("A" if good[-1] != "a" else "B"),
        "prefix": "sha512=" + good,
        "0x": "0x" + good,
        "leading space": " " + good,
        "trailing space": good + " ",
        "trailing newline": good + "\n",
        "quoted": f'"{good}"',
        "127 digits": good[:-1],
        "64 digits": good[:64],
        "129 digits": good + "0",
        "twice": good * 2,
        "base64": base64.b64encode(raw).decode(),
        "base64url": base64.urlsafe_b64encode(raw).decode(),
        "SHA-256": hmac.new(KEYS["default"].encode(), body, hashlib.sha256).hexdigest(),
        "no key": hashlib.sha512(body).hexdigest(),
        "key before the body": hashlib.sha512(KEYS["default"].encode() + body).hexdigest(),
        "empty key": sign(body, ""),
        "the other account's key": sign(body, KEYS["second"]),
        "the key in lower case": sign(body, KEYS["default"].lower()),
        "another body": sign(body + b"\n"),
        "of nothing": sign(b""),
    }


@pytest.mark.parametrize("name", list(_in_hex(b"")))
def test_t03_signature_forms(refused, name):
    refused(_in_hex(refused.body)[name])


# T05 and T06: signatures that crash, several signatures


def test_t05_any_character_anywhere(refused, django_assert_num_queries, monkeypatch):
    good, path, client = refused.good, path_of(refused.payment), Client()
    before = rows()
    with django_assert_num_queries(0):
        for code in range(256):
            char = chr(code)
            for value in (char, char + good[1:], good[:64] + char + good[65:], good + char):
                if value != good:
                    assert post(path, refused.body, value, client=client).status_code == 403, repr(value)
    assert rows() == before


@pytest.mark.parametrize("value", ["é" * 64, "\0" * 128, "a" * 1_000_000, "%00", "=" * 128, "\ud800" * 2, "１" * 128, "٣" * 128])
def test_t05_hostile_values(refused, value):
    refused(value)


@pytest.mark.parametrize("form", ["{0},{0}", "{1},{0}", "{0},{1}", "{0}, {0}", ",{0}", "{0},", ",", ",,", "{0};{0}", "{0} {0}"])
def test_t06_several_values_joined(refused, form):
    refused(form.format(refused.good, "0" * 128))


def test_t06_look_alike_names(refused):
    for name in ("HTTP_H_MAC", "HTTP_X_HMAC", "HTTP_HMAC_", "HTTP__HMAC", "HMAC", "HTTP_HMACS", "HTTP_HMAC_SHA512"):
        refused(**{name: refused.good})


def test_t06_a_bad_value_beside_a_look_alike_with_a_good_one(refused):
    refused("0" * 128, HTTP_X_HMAC=refused.good, HTTP_H_MAC=refused.good)


# T07: who chooses the key


@pytest.mark.parametrize("kind", ["payout", "Payout", "invoice", "nonsense"])
def test_t07_the_body_does_not_choose_the_key(refused, kind):
    body = dumps({**simplejson.loads(refused.body, use_decimal=True), "type": kind, "key": "payout", "alg": "none"})
    for key in ("PAYOUT-KEY-1-2-3", KEYS["second"], ""):
        refused(sign(body, key), body=body)


def test_t07_headers_and_query_do_not_choose_the_key(refused):
    for name in ("HTTP_X_SECRET", "HTTP_MERCHANT_API_KEY", "HTTP_X_KEY_ID", "HTTP_ALG"):
        refused(sign(refused.body, "mine"), **{name: "mine"})
    path = f"{path_of(refused.payment)}?account=second&key=mine&alg=none"
    assert post(path, refused.body, sign(refused.body, KEYS["second"])).status_code == 403


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["payout", "Payout", "payment_link", "donation", "static_address", "white_label"])
def test_t07_a_signed_callback_of_another_type_is_quarantined(gateway, kind, caplog):
    invoice, payment = make(gateway)
    with recorded() as calls, caplog.at_level("INFO"):
        answer = send(payment, "Paid", [tx("25")], type=kind)
    assert (answer.status_code, answer.content) == (200, b"ok")
    assert verdicts() == ["quarantined"]
    assert CallbackReceipt.objects.get().reason != ""
    assert (LOG, "WARNING") in [(record.name, record.levelname) for record in caplog.records]
    assert facts(invoice) == fact("pending", review=True)
    assert calls.names == ["invoice_review_required"]


# T09: what the signature covers


def _leaves(value, path=()):
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield from _leaves(item, (*path, key))
    if not isinstance(value, (dict, list)) or not value:
        yield path


def test_t09_each_leaf_changed_under_the_old_signature(gateway, db, django_assert_num_queries):
    _, payment = make(gateway, description="a pot", email="payer@example.com")
    body = body_of(payment, "Paid", [tx("12.5"), tx("12.5", tx_hash="0xaaa2")])
    paths = list(_leaves(simplejson.loads(body, use_decimal=True)))
    assert len(paths) == 15 + 2 * 16
    before, client = rows(), Client()
    with django_assert_num_queries(0):
        for path in paths:
            data = simplejson.loads(body, use_decimal=True)
            *way, last = path
            place = data
            for key in way:
                place = place[key]
            place[last] = f"{place[last]}1" if isinstance(place[last], str) else place[last] + 1
            assert post(path_of(payment), dumps(data), sign(body), client=client).status_code == 403, path
            del place[last]
            assert post(path_of(payment), dumps(data), sign(body), client=client).status_code == 403, path
    assert rows() == before


def test_t09_every_bit_of_the_head_of_the_body(gateway, db):
    _, payment = make(gateway)
    body, client = body_of(payment, "Paid", [tx("25")]), Client()
    before = rows()
    for place, bit in itertools.product(range(0, len(body), 11), range(8)):
        changed = body[:place] + bytes([body[place] ^ 1 << bit]) + body[place + 1 :]
        assert post(path_of(payment), changed, sign(body), client=client).status_code == 403
    assert rows() == before


# T10: the raw bytes are signed


@pytest.mark.parametrize(
    "text",
    [
        '{"track_id":"%(track_id)s","order_id":"%(order_id)s","type":"invoice","status":"Paid","description":"a\\/b \\u20ac"}\n',
        ' { "order_id" : "%(order_id)s" , "track_id" : %(track_id)s , "status" : "PAID" , "type" : "Invoice" } ',
        '{"status":"Paid","note":"\u2028é\U0001f600","type":"invoice","order_id":"%(order_id)s","track_id":"%(track_id)s"}',
        '{"type":"invoice","amount":25.000,"value":2.5e1,"status":"Paid","order_id":"%(order_id)s","track_id":"%(track_id)s"}',
    ],
)
def test_t10_bodies_that_no_serialiser_would_print(gateway, db, text):
    invoice, payment = make(gateway)
    body = (text % payment).encode()
    assert post(path_of(payment), body, sign(body)).status_code == 200
    assert facts(invoice)["status"] == "paid"
    again = dumps(simplejson.loads(body, use_decimal=True))
    assert post(path_of(payment), again, sign(body)).status_code == 403


# T11: parser differential

REFUSED_VALUES = """
[1 true]|[a\xe5]|["": 1]|[""],|[,1]|[1,,2]|["x",,]|["x"]]|["",]|["x"|[x|[3[4]]|[1:2]|[,]|[-]|[   , ""]|[1,]|[1,,]|[*]
["a|[""|[1,|[{}|[fals]|[nul]|[tru]|[NaN]|[Infinity]|[-Infinity]|[-NaN]|[++1234]|[+1]|[+Inf]|[-01]|[-1.0.]|[-2.]|[.-1]
[.2e-3]|[0.1.2]|[0.3e+]|[0.3e]|[0.e1]|[0E+]|[0E]|[1.0e+]|[1.0e-]|[1.0e]|[1 000.0]|[1eE2]|[2.e+3]|[2.e3]|[9.e+]|[1+2]|[0x1]
[0x42]|[-123.123foo]|[0e]|[0e+]|[1ea]|[-1x]|[012]|[- 1]|[-foo]|[1.]|[.123]|[1.2a-3]|[1_000]|['a']|[undefined]|[True]|[None]
{"a":"a" 123}|{x: x}|{"a":1/*c*/}|{"a":1}//|{"x"::"b"}|{0:1}|{1:1}|{9999E9999:1}|{null:null}|{"x", null}|{key: 1}|{"id":0,}
{"id":0,,,}|{'a':0}|{"a":true} "x"|{"a":"b"}/**/|{"a":"b"}#|{"a":"b",,"c":"d"}|{a: "b"}|{"a":"a|{"a":"b"}#{}|{|}|{"a"|{"a":
["\\uD800\\"]|["\\a"]|["\\x00"]|["\\u00A"]|["\\\\\\"]|["\\uD834\\u"]|["\\u"]|["\\"]|['single quote']|["new\nline"]|["\t"]
["\x00"]|[\\n]|[\\u0020"a"]|<null>|<.>|[1]x|[1]]|2@|{}}|{"":|[1}|{]|[|]|#|*|a|'|"|"\\|\\u000A
"""  # the names of JSONTestSuite's n_ files stand for each


def _refused_texts():
    for value in REFUSED_VALUES.strip("\n").split("|"):
        for text in value.split("\n") if '"new\n' not in value else [value]:
            if text:
                yield text.encode("latin-1")


REFUSED_BYTES = [
    b"",
    b" ",
    b"\x00",
    b"\xef\xbb\xbf",
    b"\xe5",
    b"\xff\xfe[\x00]\x00",
    b"[" * 60_000,
    b'[{"":' * 12_000,
    b"[" * 17 + b"]" * 17,
    b'{"a":' * 17 + b"1" + b"}" * 17,
    b"[1,\n1\n,1",
    b"null",
    b"true",
    b"[]",
    b"1",
    b'"paid"',
    b"123123e100000",
    b"-0",
    b"[123.456e-789]",
    b'["\xff"]',
    b'["\xed\xa0\x80"]',
    b'["\xc0\xaf"]',
    b'["\xf4\xbf\xbf\xbf"]',
    b'["\\uDADA"]',
    b'["\\uD888\\u1234"]',
    b"\xfe\xff\x00[\x00]",
    b"[\x00]\x00",
]


def _unchanged(invoice, payment, body, expected):
    answer = post(path_of(payment), body, sign(body))
    assert answer.status_code == expected, body[:80]
    assert facts(invoice) == fact("pending"), body[:80]


def test_t11_signed_bodies_that_are_not_one_json_object(gateway, db):
    invoice, payment = make(gateway)
    bodies = [*_refused_texts(), *REFUSED_BYTES]
    assert len(bodies) > 150
    for body in bodies:
        _unchanged(invoice, payment, body, 400)
    assert set(verdicts()) == {"malformed"}
    assert CallbackReceipt.objects.count() == len(set(bodies))
    assert Invoice.objects.get().version == 1


def test_t11_the_same_values_inside_a_paid_callback(gateway, db):
    """A lenient parser would find "Paid" in each."""
    invoice, payment = make(gateway)
    body = body_of(payment, "Paid", [tx("25")])
    for value in _refused_texts():
        _unchanged(invoice, payment, body[:-1] + b',"x":' + value + b"}", 400)
    assert set(verdicts()) == {"malformed"}


@pytest.mark.parametrize(
    "change",
    [
        lambda body: b"\xef\xbb\xbf" + body,
        lambda body: body.decode().encode("utf-16"),
        lambda body: body.decode().encode("utf-16-le"),
        lambda body: body.decode().encode("utf-32"),
        lambda body: body + b"x",
        lambda body: body + b"\x00",
        lambda body: body + body,
        lambda body: body + b"/* c */",
        lambda body: b"// c\n" + body,
        lambda body: b"[" + body + b"]",
        lambda body: b")]}'\n" + body,
        lambda body: body.replace(b'"', b"'"),
        lambda body: body[:-1],
        lambda body: body[:-1] + b",}",
        lambda body: body[:-1] + b',"status":"Expired"}',
        lambda body: b'{"status":"Expired",' + body[1:],
        lambda body: body[:-1] + b',"\\u0073tatus":"Paid"}',
        lambda body: body.replace(b'"tx_hash"', b'"status":"confirming","tx_hash"'),
        lambda body: body[:-1] + b',"x":NaN}',
        lambda body: body[:-1] + b',"x":-Infinity}',
        lambda body: body[:-1] + b',"note2":"\xff"}',
        lambda body: body[:-1] + b',"note2":"\xed\xa0\x80"}',
        lambda body: body[:-1] + b',"x":' + b"[" * 16 + b"]" * 16 + b"}",
        lambda body: body[:-1] + b"," + b",".join(b'"k%d":1' % number for number in range(300)) + b"}",
        lambda body: body[:-1] + b',"x":' + b"9" * 5000 + b"}",
        lambda body: b'a="b"&' + body,
    ],
)
def test_t11_t48_a_paid_callback_in_another_dress(gateway, db, change):
    invoice, payment = make(gateway)
    _unchanged(invoice, payment, change(body_of(payment, "Paid", [tx("25")])), 400)
    assert verdicts() == ["malformed"]
    attempt = invoice.attempts.get()
    assert attempt.next_poll_at <= timezone.now()  # what could not be read is asked for


@pytest.mark.parametrize("field", ["amount", "under_paid_coverage", "received_amount"])
@pytest.mark.parametrize(
    "number",
    """-1 -0.1 1e1000000 1e31 1e-31 1e400 -1e-400 "NaN" "Infinity" "1__000" "１２" "٣" "_12_" true [] {} "0x19" "25,0" "1e1000000"
    "--1" "1.2.3" "25_USDT" 99999999999999999999999999999999""".split(),
)
def test_t11_t21_hostile_numbers_where_amounts_stand(gateway, db, field, number):
    invoice, payment = make(gateway)
    change = {field: 77777}
    in_tx = field == "received_amount"
    body = body_of(payment, "Paid", [tx("25", **(change if in_tx else {}))], **({} if in_tx else change))
    assert body.count(b"77777") >= 1
    body = body.replace(
        f'"{field}":77777'.encode(), f'"{field}":{number.replace("__", "~").replace("_", " ").replace("~", "_")}'.encode()
    )
    _unchanged(invoice, payment, body, 400)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("text", [b"\\u0000", b"\\ud800", b"a\\udfffb", b"\\ud83d"])
def test_t70_text_that_a_database_refuses(gateway, text):
    _, payment = make(gateway)
    body = body_of(payment, "Paid", [tx("25")])
    for number, name in enumerate([b"description", b"email", b"module_name"]):
        odd = body[:-1].replace(b'"%s":' % name, b'"x%d":' % number) + b',"%s":"%s"}' % (name, text)
        assert post(path_of(payment), odd, sign(odd)).status_code in (200, 400)
        assert bytes(CallbackReceipt.objects.latest("pk").body) == odd
    assert PaymentAttempt.objects.count() == 1


@pytest.mark.parametrize("name", [b"track_id", b"order_id", b"status", b"type", b"currency", b"tx_hash", b"address", b"network"])
@pytest.mark.parametrize("text", [b"\\u0000", b"\\ud800"])
@pytest.mark.django_db(transaction=True)
def test_t70_text_that_a_database_refuses_in_a_field_that_we_read(gateway, name, text):
    invoice, payment = make(gateway)
    body = body_of(payment, "Paid", [tx("25", tx_hash="0xabc", address="x", network="x")], order_id="x")
    at = body.index(b'"%s":' % name) + len(name) + 3
    end = body.index(b",", at)
    odd = body[:at] + b'"' + text + b'"' + body[end:]
    assert post(path_of(payment), odd, sign(odd)).status_code == 400
    assert facts(invoice) == fact("pending")


@pytest.mark.parametrize(
    "name,value", [("status", 1), ("status", ""), ("status", []), ("status", None), ("type", None), ("type", 7)]
)
def test_t11_required_fields_of_another_type(gateway, db, name, value):
    invoice, payment = make(gateway)
    data = simplejson.loads(body_of(payment, "Paid", [tx("25")]), use_decimal=True)
    _unchanged(invoice, payment, dumps({**data, name: value}), 400)


@pytest.mark.parametrize("txs", [{}, "x", 5, [5], ["x"], [None], [[]], True])
def test_t11_txs_of_another_type(gateway, db, txs):
    invoice, payment = make(gateway)
    data = simplejson.loads(body_of(payment, "Paid", [tx("25")]), use_decimal=True)
    _unchanged(invoice, payment, dumps({**data, "txs": txs}), 400)


# T12: accounts do not speak for each other


@pytest.mark.parametrize("url,token,secret,ids", list(itertools.product(["default", "second"], repeat=4)))
def test_t12_two_accounts(gateway, db, url, token, secret, ids):
    made = {alias: make(gateway, account=alias) for alias in KEYS}
    payments = {alias: payment for alias, (_, payment) in made.items()}
    path = path_of(payments[token]).replace(f"/{token}/", f"/{url}/")
    body = body_of(payments[ids], "Paid", [tx("25")])
    answer = post(path, body, sign(body, KEYS[secret]))
    expected = 403 if url != secret else 404 if url != token else 200
    assert answer.status_code == expected
    fits = url == token == secret == ids
    paid = {alias: Invoice.objects.get(pk=invoice.pk).is_paid for alias, (invoice, _) in made.items()}
    assert paid == {alias: fits and alias == url for alias in KEYS}
    assert verdicts() == {403: [], 404: ["unmatched"], 200: ["applied" if fits else "quarantined"]}[expected]
    untouched = [alias for alias in KEYS if not (expected == 200 and alias == url)]
    assert [facts(made[alias][0]) for alias in untouched] == [fact("pending")] * len(untouched)


# T13: sandbox and live


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("sandbox", [False, True], ids=["live", "sandbox"])
@pytest.mark.parametrize("marked", [False, True], ids=["real", "marked"])
@pytest.mark.parametrize("status", ["Paying", "Paid"])
def test_t13_sandbox_money(gateway, settings, sandbox, marked, status):
    accounts = {"default": gateway.account("default", sandbox=sandbox)}
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "ACCOUNTS": accounts, "ALLOW_SANDBOX": True}
    invoice, payment = make(gateway)
    assert gateway.called("POST")[0]["sandbox"] is sandbox
    assert (invoice.sandbox, invoice.attempts.get().sandbox) == (sandbox, sandbox)
    with recorded("invoice_paid", "invoice_confirming") as calls:
        answer = send(payment, status, [tx("25", tx_hash="sandbox" if marked else "0xabc", address="sandbox")])
    assert (answer.status_code, answer.content) == (200, b"ok")
    if marked and not sandbox:  # play money for real goods
        assert (facts(invoice), calls, verdicts()) == (fact("pending", review=True), [], ["quarantined"])
    else:
        expected = {"Paying": "invoice_confirming", "Paid": "invoice_paid"}[status]
        assert (calls.names, verdicts()) == ([expected], ["applied"])
    assert Invoice.objects.get().sandbox is sandbox


@pytest.mark.django_db(transaction=True)
def test_t13_one_sandbox_transaction_among_real_ones(gateway):
    invoice, payment = make(gateway)
    send(payment, "Paid", [tx("24"), tx("1", tx_hash="sandbox")])
    assert facts(invoice) == fact("pending", review=True)


@pytest.mark.django_db(transaction=True)
def test_t13_a_poll_with_sandbox_money(gateway):
    invoice, payment = make(gateway)
    tell(payment, "paid", [tx("25", tx_hash="sandbox")])
    refresh_invoice(invoice)
    assert facts(invoice) == fact("pending", review=True)


# T15: rotation


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("key,status", [("new-key-0123456789", 200), (KEYS["default"], 200), ("older-key-012345678", 403)])
def test_t15_keys_in_rotation(gateway, settings, key, status):
    accounts = {"default": gateway.account("default", merchant_api_key=["new-key-0123456789", KEYS["default"]])}
    invoice, payment = make(gateway)
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "ACCOUNTS": accounts}
    assert send(payment, "Paid", [tx("25")], key=key).status_code == status
    assert facts(invoice)["is_paid"] is (status == 200)


# The token


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "{reference}",
        "{reference}.",
        "{reference}.x",
        "{reference}.{mac}x",
        "A{reference}.{mac}",
        "{mac}.{reference}",
        ".{mac}",
    ],
)
def test_token_forged(gateway, db, token, django_assert_num_queries):
    _, payment = make(gateway)
    start, _, own = path_of(payment).rstrip("/").rpartition("/")
    reference, _, mac = own.partition(".")
    body = body_of(payment, "Paid", [tx("25")])
    with django_assert_num_queries(0):
        answer = post(f"{start}/{token.format(reference=reference, mac=mac)}/", body, sign(body))
    assert answer.status_code == 404


def test_token_survives_a_new_secret_key(gateway, db, settings):
    invoice, payment = make(gateway)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another-secret-key-of-the-suite-0123456789"
    assert send(payment, "Paid", [tx("25")]).status_code == 200
    assert facts(invoice)["is_paid"] is True
    settings.SECRET_KEY_FALLBACKS = []
    assert send(payment, "Paid", [tx("25")]).status_code == 404


def test_malformed_receipts_are_capped(gateway, db, monkeypatch):
    clock = Clock(monkeypatch)
    invoice, payment = make(gateway)
    CallbackReceipt.objects.bulk_create(
        CallbackReceipt(account="default", digest=f"{number:064}", verdict="malformed", received_at=clock.now)
        for number in range(1000)
    )
    clock.advance(minutes=1)
    assert post(path_of(payment), b"[]", sign(b"[]")).status_code == 400
    assert CallbackReceipt.objects.count() == 1000
    assert invoice.attempts.get().next_poll_at <= clock.now
    assert facts(invoice) == fact("pending")
