"""Declared options: types, ranges, choices, and secrets that do not show themselves (T02, T56)."""

import copy
import dataclasses
import json
import pickle
import traceback
from dataclasses import dataclass
from decimal import Decimal as D

import pytest
import simplejson
from django.core.serializers.json import DjangoJSONEncoder
from hypothesis import given
from hypothesis import strategies as st

from crypto_invoices.exceptions import InvalidRequest
from crypto_invoices.providers.options import NoOptions, Secret, Secrets, identity_of, option, option_types, read_options

TEXT = "s3cret-canary-0123456789"


@dataclass(frozen=True, slots=True)
class Options:
    key: Secrets = option(help="key")
    count: int = option(3, minimum=1, maximum=10, help="how many")
    low: int = option(5, minimum=0, help="at least 0")
    high: int = option(5, maximum=9, help="at most 9")
    rate: D = option(D("1.5"), minimum=0, maximum=100, help="percent")
    flag: bool = option(False, help="yes or no")
    mode: str = option("a", choices=("a", "b"), help="a or b")
    text: str = option("", max_length=5, help="short")
    maybe: int | None = option(None, minimum=1, help="a number or nothing")


def read(from_text=False, **values):
    return read_options(Options, {"key": TEXT, **values}, from_text=from_text)


def test_defaults():
    got = read()
    assert (got.count, got.low, got.high, got.rate, got.flag, got.mode, got.text, got.maybe) == (
        3, 5, 5, D("1.5"), False, "a", "", None,
    )  # fmt: skip
    assert got.key.current == TEXT


def test_option_types():
    assert option_types(Options) == {
        "key": (Secrets, False), "count": (int, False), "low": (int, False), "high": (int, False), "rate": (D, False),
        "flag": (bool, False), "mode": (str, False), "text": (str, False), "maybe": (int, True),
    }  # fmt: skip
    assert option_types(NoOptions) == {}


def test_no_options():
    assert read_options(NoOptions, {}) == NoOptions()
    with pytest.raises(InvalidRequest) as caught:
        read_options(NoOptions, {"x": 1})
    assert caught.value.field == "x"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", 1), ("count", 10), ("low", 0), ("low", 10**9), ("high", 9), ("high", -5), ("rate", D(0)), ("rate", 100),
        ("rate", D("0.01")), ("flag", True), ("flag", False), ("mode", "b"), ("text", "12345"), ("text", "ééééé"), ("maybe", 1),
        ("maybe", None),
    ],
)  # fmt: skip
def test_accepted(name, value):
    assert getattr(read(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", 0), ("count", 11), ("count", -1), ("count", "3"), ("count", 3.0), ("count", True), ("count", None),
        ("count", D(3)), ("low", -1), ("high", 10), ("rate", 0.5), ("rate", D(-1)), ("rate", D("100.01")), ("rate", D("NaN")),
        ("rate", True), ("rate", None), ("rate", "x"), ("rate", []), ("flag", 1), ("flag", 0), ("flag", "true"), ("flag", None),
        ("mode", "c"), ("mode", "A"), ("mode", ""), ("mode", None), ("mode", 1), ("text", "123456"), ("text", None),
        ("text", b"x"), ("text", 5), ("maybe", 0), ("maybe", ""), ("maybe", False), ("key", None), ("key", 5),
        ("key", b"bytes-of-a-secret"), ("key", {}), ("key", [5]), ("unknown", 1), ("Count", 1), ("key ", TEXT), (5, 5),
    ],
)  # fmt: skip
def test_refused_by_name(name, value):
    with pytest.raises(InvalidRequest) as caught:
        read_options(Options, {"key": TEXT, name: value})
    assert caught.value.field == str(name)
    assert TEXT not in str(caught.value)


def test_a_required_option():
    with pytest.raises(InvalidRequest) as caught:
        read_options(Options, {})
    assert (caught.value.field, caught.value.message) == ("key", "required")


@pytest.mark.parametrize("values", [None, [], "key", 5, [("key", TEXT)]])
def test_something_else_than_a_dict(values):
    with pytest.raises(InvalidRequest):
        read_options(Options, values)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("count", "7", 7), ("count", " 7 ", 7), ("low", "0", 0), ("high", "-3", -3), ("rate", "2.50", D("2.5")),
        ("flag", "true", True), ("flag", "YES", True), ("flag", "1", True), ("flag", "on", True), ("flag", "false", False),
        ("flag", "No", False), ("flag", "0", False), ("flag", "off", False), ("mode", "b", "b"), ("text", "abc", "abc"),
        ("maybe", "4", 4),
    ],
)  # fmt: skip
def test_from_text(name, text, value):
    got = getattr(read(from_text=True, **{name: text}), name)
    assert (type(got), got) == (type(value), value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("count", "x"), ("count", ""), ("count", "11"), ("count", "3.0"), ("count", "1_0"), ("count", "٣"), ("count", "--3"),
        ("count", "0x3"), ("count", "9" * 5000), ("rate", ""), ("rate", "NaN"), ("rate", "1,5"), ("flag", ""), ("flag", "ja"),
        ("flag", "2"), ("mode", "c"), ("maybe", ""), ("key", ""), ("key", ","), ("key", f"{TEXT},,{TEXT}"), ("key", "changeme"),
    ],
)  # fmt: skip
def test_from_text_refused_by_name(name, text):
    with pytest.raises(InvalidRequest) as caught:
        read(from_text=True, **{name: text})
    assert caught.value.field == name
    assert TEXT not in str(caught.value)


@given(st.sampled_from([item.name for item in dataclasses.fields(Options)]), st.one_of(st.text(), st.integers(), st.floats()))
def test_any_value_is_an_option_or_an_invalid_request(name, value):
    for from_text in (False, True):
        try:
            read(from_text=from_text, **{name: value})
        except InvalidRequest as error:
            assert error.field == name


# Secrets: T02, T15, T56


@pytest.mark.parametrize(
    "secret",
    [
        "", None, " ", "\t", "\n", "changeme", "CHANGEME", "ChangeMe", "change-me", "whsec_", "WHSEC_", "secret", "password",
        "todo", "xxx", "none", "null", " padded-secret-0123", "padded-secret-0123 ", "secret-with-a-newline\n", 0, False, True,
        b"", b"bytes", [], {}, 1.0,
    ],
)  # fmt: skip
def test_T02_an_empty_secret_or_a_placeholder_is_refused(secret):
    with pytest.raises(InvalidRequest):
        Secret(secret)
    with pytest.raises(InvalidRequest):
        Secrets([TEXT, secret])
    with pytest.raises(InvalidRequest) as caught:
        read(key=secret)
    assert caught.value.field == "key"
    with pytest.raises(InvalidRequest) as caught:
        read(key=[TEXT, secret])
    assert caught.value.field == "key"


@pytest.mark.parametrize("secrets", [[], (), [[]], [[TEXT]]])
def test_T02_no_secret_at_all_is_refused(secrets):
    with pytest.raises(InvalidRequest):
        read(key=secrets)


def test_T15_secrets_are_a_value_or_a_list_newest_first():
    assert [secret.reveal() for secret in read(key=TEXT).key] == [TEXT]
    both = read(key=["new-secret-0123", "old-secret-0123"]).key
    assert [secret.reveal() for secret in both] == ["new-secret-0123", "old-secret-0123"]
    assert both.current == "new-secret-0123"
    assert read(key=("new-secret-0123", "old-secret-0123")).key == both
    assert [secret.reveal() for secret in read(from_text=True, key="new-secret-0123, old-secret-0123").key] == [
        "new-secret-0123", "old-secret-0123",
    ]  # fmt: skip
    assert read(key="a-secret,with-a-comma").key.current == "a-secret,with-a-comma"


def shown():
    secret, options = Secret(TEXT), read()
    yield from (repr(secret), str(secret), f"{secret}", f"{secret!r:>20}", ascii(secret))
    yield from (repr(options.key), str(options.key), f"{options.key}")
    yield from (repr(options), str(options), repr([options]), repr({"key": options.key}))
    yield repr(dataclasses.replace(options, count=4))


def test_T56_a_secret_is_never_shown():
    for text in shown():
        assert TEXT not in text
    assert repr(Secret(TEXT)) == str(Secret(TEXT)) == "***"


@pytest.mark.parametrize("make", [lambda: Secret(TEXT), lambda: read().key, lambda: read()])
def test_T56_a_secret_is_not_pickled_copied_or_dumped(make):
    value = make()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(value, protocol)
    with pytest.raises(TypeError):
        json.dumps(value)
    with pytest.raises(TypeError):
        json.dumps(value, cls=DjangoJSONEncoder)
    with pytest.raises(TypeError):
        simplejson.dumps(value, use_decimal=True)
    with pytest.raises(TypeError):
        copy.deepcopy(value)


def test_T56_a_secret_has_no_dict_and_stays_out_of_tracebacks():
    assert not hasattr(Secret(TEXT), "__dict__")
    try:
        read(key=[TEXT, "changeme"])
    except InvalidRequest as error:
        assert TEXT not in "".join(traceback.format_exception(error))
    else:
        raise AssertionError("not refused")


def test_secrets_compare_by_their_text():
    assert Secret(TEXT) == Secret(TEXT)
    assert hash(Secret(TEXT)) == hash(Secret(TEXT))
    assert Secret(TEXT) != Secret(TEXT + "x")
    assert Secret(TEXT) != TEXT


def test_options_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        read().count = 4


def test_the_identity_names_the_account_and_reveals_nothing():
    identity = identity_of(read())
    assert len(identity) == 16
    assert set(identity) <= set("0123456789abcdef")
    assert identity == identity_of(read(count=9, flag=True))
    assert identity == identity_of(read(key=[TEXT, "old-secret-0123"]))
    assert identity != identity_of(read(key="other-secret-0123"))
    assert identity not in TEXT
