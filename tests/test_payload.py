"""JSON that keeps every digit and refuses what parsers disagree on (T10, T11, T21, T48)."""

import json
import time
from decimal import Context
from decimal import Decimal as D

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crypto_invoices.exceptions import InvalidAmount
from crypto_invoices.providers.payload import MalformedPayload, amount, dumps, loads

REFUSED = {
    "empty": b"",
    "white space": b"  \n",
    "not an object: null": b"null",
    "not an object: list": b"[]",
    "not an object: text": b'"a"',
    "not an object: number": b"1",
    "not an object: true": b"true",
    "unfinished": b'{"a":1',
    "unfinished text": b'{"a":"1}',
    "no value": b'{"a":}',
    "no key": b"{:1}",
    "comma at the end": b'{"a":1,}',
    "comma at the end of a list": b'{"a":[1,]}',
    "two commas": b'{"a":1,,"b":2}',
    "single quotes": b"{'a':1}",
    "key without quotes": b"{a:1}",
    "comment": b'{"a":1/*x*/}',
    "line comment": b'{"a":1}//x',
    "hash comment": b'{"a":1}#x',
    "duplicate key": b'{"status":"Expired","status":"Paid"}',
    "duplicate key, same value": b'{"a":1,"a":1}',
    "duplicate key, escaped": b'{"a":1,"\\u0061":2}',
    "duplicate key, below": b'{"a":{"b":1,"b":2}}',
    "duplicate key, in a list": b'{"a":[{"b":1,"b":2}]}',
    "NaN": b'{"a":NaN}',
    "-NaN": b'{"a":-NaN}',
    "Infinity": b'{"a":Infinity}',
    "-Infinity": b'{"a":-Infinity}',
    "nan": b'{"a":nan}',
    "undefined": b'{"a":undefined}',
    "True": b'{"a":True}',
    "BOM": b'\xef\xbb\xbf{"a":1}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "UTF-16-LE": '{"a":1}'.encode("utf-16-le"),
    "UTF-16-BE": '{"a":1}'.encode("utf-16-be"),
    "UTF-32": '{"a":1}'.encode("utf-32"),
    "latin-1": '{"a":"é"}'.encode("latin-1"),
    "invalid UTF-8": b'{"a":"\xff"}',
    "overlong UTF-8": b'{"a":"\xc0\xaf"}',
    "surrogate in UTF-8": b'{"a":"\xed\xa0\x80"}',
    "cut UTF-8": b'{"a":"\xe2\x82"}',
    "trailing data": b'{"a":1}x',
    "trailing object": b'{"a":1}{"a":2}',
    "trailing NUL": b'{"a":1}\0',
    "trailing bracket": b'{"a":1}}',
    "leading data": b'x{"a":1}',
    "control character in a text": b'{"a":"\n"}',
    "NUL in a text": b'{"a":"\0"}',
    "bad escape": b'{"a":"\\x41"}',
    "bad unicode escape": b'{"a":"\\u12g4"}',
    "leading zero": b'{"a":01}',
    "leading plus": b'{"a":+1}',
    "leading point": b'{"a":.5}',
    "point at the end": b'{"a":1.}',
    "hexadecimal": b'{"a":0x10}',
    "exponent without digits": b'{"a":1e}',
    "underscore": b'{"a":1_000}',
    "full-width digits": '{"a":１２}'.encode(),
    "other white space": b'{"a":\x0b1}',
    "no-break space": '{"a":\u00a01}'.encode(),
    "depth 17": b'{"a":' * 16 + b"{}" + b"}" * 16,
    "depth 17 in lists": b'{"a":' + b"[" * 16 + b"]" * 16 + b"}",
    "100,000 open lists": b"[" * 100_000,
    "100,000 open objects": b'{"a":' * 100_000,
    "100,000 lists in a value": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "257 keys": json.dumps({f"k{n}": n for n in range(257)}).encode(),
    "100,000 keys": json.dumps({f"k{n}": n for n in range(100_000)}).encode(),
    "257 keys below": json.dumps({"a": {f"k{n}": n for n in range(257)}}).encode(),
    "5,000 digits": b'{"a":' + b"9" * 5_000 + b"}",
    "5,000 digits, negative": b'{"a":-' + b"9" * 5_000 + b"}",
    "5,000 decimals": b'{"a":0.' + b"1" * 5_000 + b"}",
    "5,000 zeros": b'{"a":1' + b"0" * 5_000 + b"}",
    "exponent of 5,000 digits": b'{"a":1e' + b"9" * 5_000 + b"}",
}


@pytest.mark.parametrize("name", REFUSED)
def test_T11_T48_what_is_not_strict_json_is_refused(name):
    started = time.process_time()
    with pytest.raises(MalformedPayload):
        loads(REFUSED[name])
    assert time.process_time() - started < 1


@given(st.binary(max_size=60))
@example(b'{"a":1E9999999999999999999}')
def test_T11_any_bytes_are_a_dict_or_malformed(body):
    try:
        value = loads(body)
    except MalformedPayload:
        return
    assert isinstance(value, dict)


@given(st.text(alphabet='{}[]":,\\ 0123456789eE+-.atruflsn', max_size=40))
@example('{"a":1e-9999999999999999999}')
def test_T11_text_that_looks_like_json_is_a_dict_or_malformed(text):
    try:
        value = loads(text.encode())
    except MalformedPayload:
        return
    assert isinstance(value, dict)


@given(st.text(alphabet="0123456789eE+-.", min_size=1, max_size=70))
@example("1e9999999999999999999")
@example("-1E-9999999999999999999")
def test_T21_any_number_is_an_amount_or_refused_by_name(text):
    try:
        value = loads(b'{"a":%s}' % text.encode())["a"]
    except MalformedPayload:
        return
    try:
        read = amount(value, field="a")
    except InvalidAmount:
        return
    assert read == D(text).quantize(D("1e-18"), context=Context(prec=100))


def test_T11_a_refusal_quotes_nothing():
    with pytest.raises(MalformedPayload) as caught:
        loads(b'{"secret":"CANARY",}')
    assert "CANARY" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_the_limits_are_reached():
    assert loads(b'{"a":' * 15 + b"{}" + b"}" * 15) != {}
    assert loads(b'{"a":' + b"[" * 15 + b"]" * 15 + b"}") != {}
    assert len(loads(json.dumps({f"k{n}": n for n in range(256)}).encode())) == 256
    assert loads(b"{}") == {}
    assert loads(b' \n{"a" : 1 }\r\n\t') == {"a": 1}


NUMBERS = [
    ("0", 0), ("-0", 0), ("1", 1), ("-5", -5), ("12345678901234567890", 12345678901234567890), ("0.1", D("0.1")),
    ("0.30000000000000004", D("0.30000000000000004")), ("99999999.99999999", D("99999999.99999999")),
    ("1.123456789012345678", D("1.123456789012345678")), ("1.336520646e+21", D("1.336520646e+21")), ("1e-8", D("1e-8")),
    ("1E5", D("1E5")), ("10.00", D("10.00")),
    ("99999999999999999999.999999999999999999", D("99999999999999999999.999999999999999999")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), NUMBERS)
def test_T22_T23_numbers_come_in_from_their_digits(text, value):
    read = loads(b'{"a":%s,"b":[%s]}' % (text.encode(), text.encode()))
    assert read == {"a": value, "b": [value]}
    assert (type(read["a"]), type(read["b"][0])) == (type(value), type(value))
    if isinstance(value, D):
        assert read["a"].as_tuple() == value.as_tuple()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (D("0.1"), "0.1"), (D("1E-7"), "0.0000001"), (D("1E-18"), "0.000000000000000001"), (D("1E+3"), "1000"),
        (D("10.50"), "10.5"), (D("20.00"), "20"), (D("99999999.99999999"), "99999999.99999999"), (D("0"), "0"), (7, "7"),
        (True, "true"), (None, "null"),
        (D("12345678901234567890.123456789012345678"), "12345678901234567890.123456789012345678"),
    ],
)  # fmt: skip
def test_T22_numbers_go_out_with_their_digits(value, text):
    assert dumps({"a": value, "b": [value], "c": {"d": value}}) == f'{{"a":{text},"b":[{text}],"c":{{"d":{text}}}}}'.encode()


@given(st.decimals(min_value=0, max_value=D("99999999999999999999.999999999999999999"), places=18))
def test_T22_digits_survive_both_ways(value):
    assert loads(dumps({"a": value}))["a"] == value


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=30) | st.integers(-(10**20), 10**20) | st.booleans() | st.none()))
def test_payloads_survive_both_ways(value):
    assert loads(dumps(value)) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), D("NaN"), D("sNaN"), D("Infinity"), D("-Infinity")])
def test_what_is_no_number_does_not_go_out(value):
    with pytest.raises(ValueError):
        dumps({"a": value})


@pytest.mark.parametrize("value", [{1, 2}, object(), 1j])
def test_what_is_no_json_does_not_go_out(value):
    with pytest.raises(TypeError):
        dumps({"a": value})


TEXTS = [
    "[" * 100, "{" * 100, '{"a":[' * 30, "]" * 100, "}{][" * 20, '"', '\\"', "\\", "\\\\", '\\\\"', '[\\"[', '"]}', "\\[" * 50,
    '"[' * 40, "\\" * 33 + '"' + "[" * 40, "é", "😀", "\u2028\u2029", "/", "</script>", "\n\t\r\b\f", "\x7f", "true", "1e400", "",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_T11_brackets_and_quotes_inside_of_texts_are_text(text):
    body = dumps({"a": text, text + "k": [text]})
    assert loads(body) == {"a": text, text + "k": [text]}
    assert loads(json.dumps({"a": text, text + "k": [text]}).encode()) == {"a": text, text + "k": [text]}


@given(st.text(alphabet='[]{}"\\é ', max_size=60))
def test_T11_any_brackets_and_quotes_inside_of_a_text(text):
    assert loads(json.dumps({"a": text, "b": [[text]]}).encode()) == {"a": text, "b": [[text]]}


def test_T10_text_goes_out_as_utf_8_and_without_spaces():
    assert dumps({"name": "Käse \u20ac/", "list": ["a", 1]}) == '{"name":"Käse \u20ac/","list":["a",1]}'.encode()


# Amounts


@pytest.mark.parametrize("value", [None, ""])
def test_an_absent_amount_is_none(value):
    assert amount(value, field="sum") is None


@pytest.mark.parametrize(("value", "read"), [("1.5", "1.5"), (0, "0"), ("0", "0"), (D("1E-8"), "0.00000001"), (7, "7")])
def test_an_amount(value, read):
    assert amount(value, field="sum") == D(read)


@pytest.mark.parametrize("value", [True, False, [], {}, "x", " ", "-1", -1, 0.5, "NaN"])
def test_no_amount(value):
    with pytest.raises(InvalidAmount) as caught:
        amount(value, field="sum")
    assert caught.value.field == "sum"


# T21: one rule for amounts, whether a gateway sends them as a text or as a number.
@pytest.mark.parametrize(
    "token",
    [
        "1", "0.1", "1.336520646e+21", "1e-8", "9" * 24, "0." + "1" * 24, "1e30", "1e31", "1e-31", "1e99", "1e999", "-1", "-0.1",
        "9" * 25, "1" + "0" * 30, "0." + "1" * 25, "0." + "1" * 40, "1." + "0" * 30,
    ],
)  # fmt: skip
def test_T21_a_number_and_a_text_of_the_same_digits_are_read_the_same(token):
    def reading(body):
        try:
            return amount(loads(body)["a"], field="a")
        except (MalformedPayload, InvalidAmount):
            return "refused"

    assert reading(b'{"a":%s}' % token.encode()) == reading(b'{"a":"%s"}' % token.encode())
