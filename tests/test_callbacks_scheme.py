"""What OxaPay's scheme has and has not: comparing, the one way to the payload, time, and the name of a coin (T04 to T28)."""

import hmac

import pytest

from crypto_invoices.conf import provider_for
from crypto_invoices.exceptions import BadSignature
from crypto_invoices.providers import payload
from tests.helpers import body_of, fact, facts, make, path_of, post, recorded, send, sign, stub_gateway, tx

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def gateway(settings):
    return stub_gateway(settings)


@pytest.mark.parametrize("signer", [0, 1, 2, None])
def test_t04_every_secret_is_compared_whichever_matches(gateway, settings, monkeypatch, signer):
    keys = ["NEWEST-7Q2M-X4ZK-93VB", "OLDER0-5R8N-W1YC-60PD", "OLDEST-8K3J-Q2WE-44TT"]
    _, payment = make(gateway)
    accounts = {"default": gateway.account("default", merchant_api_key=keys)}
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "ACCOUNTS": accounts}
    compared = []

    def compare(a, b, original=hmac.compare_digest):
        if len(b) == 128:  # the token of the URL is compared as well, and is shorter
            compared.append((type(a), type(b)))
        return original(a, b)

    body = body_of(payment, "Paid", [tx("25")])
    signature = sign(body, keys[signer] if signer is not None else "ANOTHER-KEY-OF-SOMEBODY")
    monkeypatch.setattr("crypto_invoices.providers.signing.hmac.compare_digest", compare)
    assert post(path_of(payment), body, signature).status_code == (403 if signer is None else 200)
    assert compared == [(bytes, bytes)] * 3


def test_t08_nothing_is_parsed_before_the_signature_is_good(gateway, monkeypatch):
    invoice, payment = make(gateway)
    body = body_of(payment, "Paid", [tx("25")])
    parsed = []

    def loads(given, original=payload.loads):
        parsed.append(given)
        return original(given)

    monkeypatch.setattr(payload, "loads", loads)
    for signature in (None, "", "0" * 128, sign(body, "ANOTHER-KEY-OF-SOMEBODY")):
        with pytest.raises(BadSignature):
            provider_for("default").verify({} if signature is None else {"HMAC": signature}, body)
        assert post(path_of(payment), body, signature).status_code == 403
    assert parsed == []
    assert facts(invoice) == fact("pending")
    assert post(path_of(payment), body, sign(body)).status_code == 200
    assert parsed == [body]


@pytest.mark.parametrize("coin", ["USD", "usd", "USDT", "USD\u0422"])
def test_t20_a_coin_named_like_a_currency_is_no_money_of_that_currency(gateway, coin):
    """A price in dollars is never compared with coins: the gateway's final word counts, a sum in coins does not."""
    invoice, payment = make(gateway, "25.00", "USD")
    send(payment, "Paid", [tx("9000", coin)])
    assert facts(invoice) == fact("paid", is_paid=True)


@pytest.mark.parametrize("coin", ["USDT.e", "USDTT", "US\u0414T"])
def test_t20_a_look_alike_of_the_coin_is_not_counted(gateway, coin):
    invoice, payment = make(gateway, "25", "USDT")
    send(payment, "Paying", [tx("25", coin)])
    assert facts(invoice) == fact("confirming")


@pytest.mark.parametrize("offset", ["-301", "-300", "-299", "0", "299", "300", "301", "NaN", "-1", "1760000000000"])
def test_t28_a_time_that_the_signature_does_not_cover_means_nothing(gateway, offset):
    """OxaPay signs no time, so that a replay is stopped as a duplicate and not by a window."""
    invoice, payment = make(gateway)
    body = body_of(payment, "Paid", [tx("25")])
    with recorded("invoice_paid") as calls:
        for _ in range(2):
            answer = post(path_of(payment), body, sign(body), HTTP_X_TIMESTAMP=offset)
            assert answer.status_code == 200
    assert facts(invoice) == fact("paid", is_paid=True, received=25)
    assert len(calls) == 1
