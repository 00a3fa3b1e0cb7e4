"""Amounts (T21, T22, T23): what is read, what is refused, and that no digit is lost on the way."""

import decimal
from decimal import Decimal as D

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crypto_invoices.exceptions import CryptoInvoicesError, InvalidAmount
from crypto_invoices.money import check_storable, decimal_places, format_amount, parse_amount, percent_of, round_amount

amounts = st.decimals(min_value=0, max_value=D("99999999999999999999.999999999999999999"), places=18, allow_nan=False)


def shown(value):
    return type(value).__name__ if isinstance(value, (int, list, dict, tuple)) else ascii(value)[:30]


HOSTILE = [
    "NaN", "nan", "sNaN", "-NaN", "Infinity", "-Infinity", "inf", "+inf",
    "-1", "-0.000000000000000001", "-1e-8", "-1e30",
    "1e1000000", "1e-1000000", "1e999", "1e99", "1e31", "1e-31", "10e30", "1E+31", "123456e26",
    "1_000", "1,000", "1.000,00", "1 000", "1'000", "$1", "1 USD", "0x10", "0b1", "1/2", "1j", "1f", "1%",
    "１２", "٣", "१", "①", "Ⅻ", "½", "1\u00a0", "\u20611", "1٫5",
    " 12 ", "12 ", " 12", "12\n", "\n12", "12\t", "12\r\n", "12\0", "\ufeff12",
    "", " ", ".", "-", "+", "e", "e5", "1e", "1e+", "1e-", "1e1.5", "1e100", "1e+999", "--1", "+1", "-+1", "1-", "1.2.3",
    ".5", "1.", "-.5", "1.e5", ".e5", "1e 5", "1e5e5",
    "true", "True", "null", "None",
    "9" * 25, "9" * 5000, "0" * 25, "0." + "1" * 25, "0." + "0" * 400, "1." + "9" * 400,
    True, False, 0.1, 1.0, float("nan"), float("inf"), None, b"1", [], ["1"], (), {}, {"a": 1}, 1j, object,
    D("NaN"), D("sNaN"), D("-NaN"), D("Infinity"), D("-Infinity"), D("-1"), D("-1e-18"), D("1e31"), D("1e-31"), D("1e999999"),
    -1, 10**31, 10**5000, -(10**5000),
]  # fmt: skip

ACCEPTED = [
    ("0", D(0)),
    ("-0", D(0)),
    ("-0.000", D(0)),
    ("0e0", D(0)),
    ("1", D(1)),
    ("007", D(7)),
    ("1.50", D("1.5")),
    ("0.000000000000000001", D("0.000000000000000001")),
    ("0.30000000000000004", D("0.30000000000000004")),
    ("99999999.99999999", D("99999999.99999999")),
    ("1.123456789012345678", D("1.123456789012345678")),
    ("99999999999999999999.999999999999999999", D("99999999999999999999.999999999999999999")),
    ("9" * 24, D("9" * 24)),
    ("1.336520646e+21", D("1336520646000000000000")),
    ("1e-8", D("0.00000001")),
    ("1E-8", D("0.00000001")),
    ("1e8", D("100000000")),
    ("1e+08", D("100000000")),
    ("2.5e-7", D("0.00000025")),
    ("1e30", D(10) ** 30),
    ("1e-18", D("0.000000000000000001")),
    (0, D(0)),
    (12, D(12)),
    (10**20, D(10) ** 20),
    (D("0"), D(0)),
    (D("-0"), D(0)),
    (D("0E+10"), D(0)),
    (D("10.50"), D("10.5")),
    (D("1E+3"), D(1000)),
]


@pytest.mark.parametrize("value", HOSTILE, ids=shown)
def test_T21_a_hostile_number_is_refused(value):
    with pytest.raises(InvalidAmount) as caught:
        parse_amount(value, field="price")
    assert caught.value.field == "price"
    assert str(caught.value).startswith("price: ")


def test_T21_the_table_is_as_long_as_promised():
    assert len(HOSTILE) + len(ACCEPTED) >= 60


@pytest.mark.parametrize(("value", "expected"), ACCEPTED, ids=shown)
def test_T21_T23_a_number_is_read_exactly(value, expected):
    read = parse_amount(value)
    assert type(read) is D
    assert read == expected
    assert not read.is_signed()


@given(st.text())
def test_T21_any_text_is_an_amount_or_invalid_amount(text):
    try:
        value = parse_amount(text)
    except InvalidAmount:
        return
    assert value.is_finite()
    assert value >= 0


@given(st.text(alphabet="0123456789.eE+-_ NaInfty", max_size=40))
@example("1e99")
@example("-0e-99")
@example("0e99")
def test_T21_text_that_looks_like_a_number_is_an_amount_or_invalid_amount(text):
    try:
        value = parse_amount(text)
    except InvalidAmount:
        return
    assert value.is_finite()
    assert value >= 0


@given(st.one_of(st.floats(), st.booleans(), st.none(), st.binary(), st.complex_numbers(), st.lists(st.integers())))
def test_T21_no_other_type_is_an_amount(value):
    with pytest.raises(InvalidAmount):
        parse_amount(value)


@given(st.one_of(st.integers(), st.decimals()))
def test_T21_any_int_or_decimal_is_an_amount_or_invalid_amount(value):
    try:
        read = parse_amount(value)
    except InvalidAmount:
        return
    assert read == round_amount(D(value))


@pytest.mark.parametrize("places", [0, 2, 8, 18])
@given(value=st.decimals())
def test_T21_the_same_with_a_currencys_places(value, places):
    try:
        read = parse_amount(value, places=places)
    except InvalidAmount:
        return
    assert read == value


def test_invalid_amount_is_an_error_of_the_package_and_a_value_error():
    assert issubclass(InvalidAmount, CryptoInvoicesError)
    assert issubclass(InvalidAmount, ValueError)


@given(amounts)
def test_T22_an_amount_survives_text_and_back(value):
    assert parse_amount(str(value)) == value
    assert parse_amount(format_amount(value)) == value
    assert parse_amount(value) == value
    assert parse_amount(value, places=18) == value


@given(amounts)
def test_T22_formatting_is_plain_digits(value):
    text = format_amount(value)
    assert set(text) <= set("0123456789.")
    assert not (text.endswith(".") or ("." in text and text.endswith("0")))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("10.500", "10.5"), ("100", "100"), ("1E+2", "100"), ("0", "0"), ("0.000", "0"), ("1E-8", "0.00000001"),
        ("1E-18", "0.000000000000000001"), ("1.336520646e+21", "1336520646000000000000"), ("20.00", "20"),
        ("99999999999999999999.999999999999999999", "99999999999999999999.999999999999999999"),
    ],
)  # fmt: skip
def test_T22_format_amount(value, text):
    assert format_amount(D(value)) == text


def test_T22_ten_thousand_partial_payments_add_up_to_the_total():
    part, parts = D("0.000100010001000101"), 10_000
    read = [parse_amount(format_amount(part)) for _ in range(parts)]
    assert sum(read, D(0)) == D("1.000100010001010000")


@pytest.mark.parametrize("digits", [3, 9, 28, 100])
def test_T22_the_decimal_context_of_the_shop_does_not_matter(digits):
    value = "12345678901234567890.123456789012345678"
    with decimal.localcontext(decimal.Context(prec=digits, rounding=decimal.ROUND_UP)):
        assert parse_amount(value) == D(value)
        assert parse_amount(D(value), places=18) == D(value)
        assert round_amount(D(value), 2) == D("12345678901234567890.12")
        assert percent_of(D(value), D("2.5")) == D("308641972530864197.25308641972530864195")
        assert format_amount(D(value)) == value


def test_T22_rounding_is_half_even():
    assert [round_amount(D(text), 2) for text in ("0.005", "0.015", "0.025", "0.0251", "2.675")] == [
        D("0.00"), D("0.02"), D("0.02"), D("0.03"), D("2.68"),
    ]  # fmt: skip
    assert [round_amount(D(text), 0) for text in ("0.5", "1.5", "2.5", "3.5")] == [D(0), D(2), D(2), D(4)]


@pytest.mark.parametrize(
    ("value", "received"),
    [
        ("0.1234567890123456785", "0.123456789012345678"),
        ("0.1234567890123456775", "0.123456789012345678"),
        ("0.12345678901234567851", "0.123456789012345679"),
        ("0.0000000000000000005", "0"),
        ("0.0000000000000000015", "0.000000000000000002"),
        ("1e-19", "0"),
        ("1e-30", "0"),
    ],
)
def test_T22_more_than_18_decimals_are_refused_on_create_and_rounded_half_even_on_receipt(value, received):
    assert parse_amount(value) == D(received)
    assert parse_amount(D(value)) == D(received)
    with pytest.raises(InvalidAmount):
        parse_amount(value, places=18)
    with pytest.raises(InvalidAmount):
        parse_amount(D(value), places=18)


@pytest.mark.parametrize(
    ("value", "places"), [("1.5", 0), ("1.001", 2), ("1.999", 2), ("0.0001", 3), ("1e-1", 0), (D("9.999"), 2)]
)
def test_more_decimals_than_the_currency_has_are_refused(value, places):
    with pytest.raises(InvalidAmount):
        parse_amount(value, places=places)


@pytest.mark.parametrize(
    ("value", "places", "read"),
    [("1", 0, "1"), ("1.00", 0, "1"), ("1.50", 2, "1.5"), ("1.500000", 2, "1.5"), (D("9.99"), 2, "9.99"), ("1e3", 0, "1000")],
)
def test_zeros_behind_the_currencys_places_are_no_decimals(value, places, read):
    assert parse_amount(value, places=places) == D(read)


# ISO 4217, column "minor unit"; what ISO does not list is a coin.
@pytest.mark.parametrize(
    ("places", "currencies"),
    [
        (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
        (2, "USD EUR GBP CHF CNY INR IDR RUB BRL TRY UAH AED AUD CAD MXN NGN PLN SEK THB ZAR HUF TWD MGA MRU"),
        (3, "BHD IQD JOD KWD LYD OMR TND"),
        (18, "BTC ETH TRX USDT USDC XRP LTC DOGE BNB SOL"),
    ],
)
def test_decimal_places_of_currencies(places, currencies):
    assert {currency: decimal_places(currency) for currency in currencies.split()} == dict.fromkeys(currencies.split(), places)


def test_check_storable_takes_20_integer_digits():
    assert check_storable(D("99999999999999999999.999999999999999999")) == D("99999999999999999999.999999999999999999")
    with pytest.raises(InvalidAmount) as caught:
        check_storable(D(10) ** 20, field="received")
    assert caught.value.field == "received"


@pytest.mark.parametrize(
    ("value", "percent", "expected"),
    [("100", "1", "1"), ("100", "0", "0"), ("10", "2.5", "0.25"), ("0.000000000000000001", "1", "0.00000000000000000001")],
)
def test_percent_of(value, percent, expected):
    assert percent_of(D(value), D(percent)) == D(expected)
