"""Callbacks without a signature that proves anything (case T16): worth one poll each ten seconds, and never a status."""

import json
from urllib.parse import urlsplit

import pytest

from crypto_invoices import conf
from crypto_invoices.callbacks import replay
from crypto_invoices.exceptions import BadSignature, GatewayUncertain
from crypto_invoices.models import CallbackReceipt, PaymentAttempt
from crypto_invoices.orders import callback_url
from crypto_invoices.providers import payload
from crypto_invoices.providers.base import Capability, Hint
from crypto_invoices.providers.oxapay import OxaPay
from crypto_invoices.reconcile import due_attempts, reconcile
from crypto_invoices.services import create_invoice
from tests.helpers import Clock, fact, facts, make, path_of, payment_of, post, recorded, rows, stub_gateway, tell, tx, verdicts

pytestmark = pytest.mark.django_db(transaction=True)


class Unsigned(OxaPay):
    """OxaPay's API without its signature, and without a look-up by reference."""

    capabilities = OxaPay.capabilities - {Capability.SIGNED_CALLBACKS, Capability.LOOKUP_BY_REFERENCE}
    signature_headers = ()

    def verify(self, headers, body, *, url=""):
        try:
            return Hint(str(payload.loads(body).get("track_id", "")))
        except payload.MalformedPayload:
            return Hint()


class Dashboard(Unsigned):
    """The same with one callback URL for the account, and with a look-up."""

    capabilities = OxaPay.capabilities - {Capability.SIGNED_CALLBACKS}
    account_callbacks = True


@pytest.fixture
def gateway(settings):
    return unsigned_gateway(settings)


@pytest.fixture
def dashboard(settings):
    return unsigned_gateway(settings, "Dashboard")


def unsigned_gateway(settings, name="Unsigned"):
    gateway = stub_gateway(settings)
    accounts = {alias: {**gateway.account(alias), "PROVIDER": f"tests.test_hints.{name}"} for alias in ("default", "second")}
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "ACCOUNTS": accounts}
    return gateway


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def poke(payment, body=None, *, path=None):
    body = {"track_id": payment["track_id"], "status": "Paid"} if body is None else body
    return post(path or path_of(payment), body if isinstance(body, bytes) else json.dumps(body).encode())


def polls(gateway):
    return [path for method, path, _ in gateway.requests if method == "GET"]


def test_T16_a_forged_paid_polls_once_and_changes_nothing(gateway):
    invoice, payment = make(gateway)
    with recorded() as calls:
        assert poke(payment).status_code == 200
    assert (polls(gateway), facts(invoice), calls) == ([f"/v1/payment/{payment['track_id']}"], fact("pending"), [])
    assert verdicts() == ["hint"]


def test_T16_the_polls_answer_is_applied(gateway):
    invoice, payment = make(gateway)
    tell(payment, "paid", [tx("25")])
    with recorded("invoice_paid") as calls:
        answer = poke(payment)
    assert (answer.status_code, answer.content) == (200, b"ok")
    assert facts(invoice) == fact("paid", is_paid=True, received=25)
    assert len(calls) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 50000, {"track_id": None}, {"track_id": "../x?y"}, {"track_id": "9" * 500},
     {"status": "Paid"}, {"track_id": "190009999", "status": "Paid"}],
    ids=range(11),
)  # fmt: skip
def test_T16_whatever_the_body_says_our_own_payment_is_asked_for(gateway, body):
    """T17 with it: another payment's id moves nothing."""
    invoice, payment = make(gateway)
    other, paid = make(gateway)
    tell(paid, "paid", [tx("25")])
    if isinstance(body, dict) and body.get("track_id") == "190009999":
        body = {**body, "track_id": paid["track_id"]}
    assert poke(payment, body).status_code == 200
    assert polls(gateway) == [f"/v1/payment/{payment['track_id']}"]
    assert (facts(invoice), facts(other)) == (fact("pending"), fact("pending"))


def test_T16_a_thousand_pokes_are_one_poll_in_ten_seconds(gateway, clock):
    _, payment = make(gateway)
    for number in range(1000):
        assert poke(payment, {"track_id": payment["track_id"], "number": number}).status_code == 200
    assert (len(polls(gateway)), CallbackReceipt.objects.count()) == (1, 1)
    clock.advance(seconds=9)
    poke(payment)
    assert len(polls(gateway)) == 1
    clock.advance(seconds=2)
    poke(payment)
    assert len(polls(gateway)) == 2


def test_T16_the_limit_is_each_attempts_own(gateway, clock):
    (_, first), (_, second) = make(gateway), make(gateway)
    for payment in (first, second, first, second):
        poke(payment)
    assert polls(gateway) == [f"/v1/payment/{first['track_id']}", f"/v1/payment/{second['track_id']}"]


def test_T16_a_poke_within_the_limit_is_not_lost(gateway, clock):
    """The payment came between the two pokes: the second makes the attempt due, and the next round finds it."""
    invoice, payment = make(gateway)
    poke(payment)
    tell(payment, "paid", [tx("25")])
    clock.advance(seconds=1)
    poke(payment)
    assert facts(invoice) == fact("pending")
    assert [attempt.invoice_id for attempt in due_attempts()] == [invoice.pk]
    reconcile()
    assert facts(invoice) == fact("paid", is_paid=True, received=25)


@pytest.mark.parametrize("fault", ["lost", "unavailable", "missing", "refused", "made_then_502"])
def test_T16_a_poll_that_fails_is_answered_200_and_due_at_once(gateway, clock, fault):
    invoice, payment = make(gateway)
    tell(payment, "paid", [tx("25")])
    gateway.fail("fetch", fault)
    assert poke(payment).status_code == 200
    assert len(polls(gateway)) == 1  # one try, whatever the failure
    attempt = due_attempts().get()
    assert (attempt.poll_failures, attempt.poll_error != "", facts(invoice)) == (1, True, fact("pending"))
    reconcile()
    assert facts(invoice) == fact("paid", is_paid=True, received=25)


def test_T16_the_inline_poll_has_five_seconds(gateway, monkeypatch):
    asked = []
    monkeypatch.setattr(Unsigned, "fetch", lambda self, remote, *, timeout=None: asked.append(timeout) or _hang_up())
    _, payment = make(gateway)
    assert poke(payment).status_code == 200
    assert asked == [5.0]


def _hang_up():
    raise GatewayUncertain("sent, but not answered")


def test_T16_the_same_body_again_is_another_poke(gateway, clock):
    """A digest stops no hint: the body says nothing, and the payment may have moved on."""
    invoice, payment = make(gateway)
    poke(payment)
    clock.advance(seconds=11)
    tell(payment, "paid", [tx("25")])
    poke(payment)
    assert facts(invoice) == fact("paid", is_paid=True, received=25)
    assert CallbackReceipt.objects.get().seen == 2


@pytest.mark.parametrize("path", ["/crypto-invoices/callbacks/default/x/", "/crypto-invoices/callbacks/default/{}.forged/"])
def test_T50_without_the_token_nothing_happens(gateway, path, django_assert_num_queries):
    invoice, payment = make(gateway)
    before, path = rows(), path.format(invoice.attempts.get().reference)
    with django_assert_num_queries(0):
        answer = poke(payment, path=path)
    assert (answer.status_code, polls(gateway), rows() == before) == (404, [], True)


# An id that is not known yet


def test_T62_a_hint_binds_a_lost_create_when_the_gateway_echoes_our_reference(gateway):
    gateway.fail("create", "made_then_lost")
    with pytest.raises(GatewayUncertain) as caught:
        create_invoice(amount="25", currency="USDT")
    invoice = caught.value.invoice
    payment = payment_of(gateway, invoice)
    tell(payment, "paid", [tx("25")])
    assert poke(payment).status_code == 200
    assert facts(invoice) == fact("paid", is_paid=True, received=25)
    assert invoice.attempts.get().gateway_id == payment["track_id"]


def test_T17_a_hint_binds_no_payment_of_another_reference(gateway):
    other, paid = make(gateway)
    tell(paid, "paid", [tx("25")])
    gateway.fail("create", "made_then_lost")
    with pytest.raises(GatewayUncertain) as caught:
        create_invoice(amount="25", currency="USDT")
    invoice = caught.value.invoice
    poke(payment_of(gateway, invoice), {"track_id": paid["track_id"]})
    assert facts(invoice)["status"] == "pending"
    assert (invoice.attempts.get().gateway_id, facts(other)) == ("", fact("pending"))


# One URL for the whole account


def account_path(alias="default"):
    return urlsplit(callback_url(conf.provider_for(alias))).path


def test_one_url_for_the_account_names_the_payment_in_its_body(dashboard):
    (invoice, payment), (other, _) = make(dashboard), make(dashboard)
    assert {urlsplit(entry["callback_url"]).path for entry in dashboard.payments.values()} == {account_path()}
    tell(payment, "paid", [tx("25")])
    assert poke(payment).status_code == 200
    assert (facts(invoice), facts(other)) == (fact("paid", is_paid=True, received=25), fact("pending"))


@pytest.mark.parametrize("body,status,kept", [({}, 200, []), (b"{", 200, []), ({"track_id": "190009999"}, 404, ["unmatched"])])
def test_one_url_for_the_account_hears_of_other_things(dashboard, body, status, kept):
    invoice, payment = make(dashboard)
    assert poke(payment, body).status_code == status
    assert (polls(dashboard), facts(invoice), verdicts()) == ([], fact("pending"), kept)


def test_a_stored_hint_is_replayed_as_a_poll(gateway, clock, monkeypatch):
    """Whatever its signature was, it may be too old to be checked again."""

    def too_old(self, headers, body, *, url=""):
        raise BadSignature("signed more than five minutes ago")

    invoice, payment = make(gateway)
    poke(payment)
    tell(payment, "paid", [tx("25")])
    clock.advance(minutes=10)
    monkeypatch.setattr(Unsigned, "verify", too_old)
    assert replay(CallbackReceipt.objects.get()).status == 200
    assert facts(invoice) == fact("paid", is_paid=True, received=25)


def test_T12_the_url_of_one_account_knows_no_payment_of_another(dashboard):
    invoice, payment = make(dashboard, account="default")
    tell(payment, "paid", [tx("25")])
    assert poke(payment, path=account_path("second")).status_code == 404
    mixed = account_path("second").replace("/second/", "/default/", 1)
    assert poke(payment, path=mixed).status_code == 404
    assert (polls(dashboard), facts(invoice)) == ([], fact("pending"))


def test_T12_the_tokens_of_attempts_and_accounts_are_not_mixed(dashboard, gateway):
    """``gateway`` is set up last: its accounts are told by attempt."""
    _, payment = make(gateway)
    token = account_path_of("Dashboard")
    assert poke(payment, path=f"/crypto-invoices/callbacks/default/{token}/").status_code == 404


def account_path_of(name):
    provider = globals()[name](conf.provider_for("default").account, alias="default")
    return urlsplit(callback_url(provider)).path.rstrip("/").rpartition("/")[2]


def test_a_hint_about_an_unknown_id_makes_the_doubtful_attempts_of_the_account_due(dashboard, clock):
    dashboard.fail("create", "made_then_lost")
    with pytest.raises(GatewayUncertain) as caught:
        create_invoice(amount="25", currency="USDT")
    invoice = caught.value.invoice
    reconcile_later = clock.now.replace(year=clock.now.year + 1)
    PaymentAttempt.objects.update(next_poll_at=reconcile_later)
    payment = payment_of(dashboard, invoice)
    tell(payment, "paid", [tx("25")])
    assert poke(payment).status_code == 404  # so that the gateway comes again
    assert [attempt.invoice_id for attempt in due_attempts()] == [invoice.pk]
    reconcile()
    assert facts(invoice) == fact("paid", is_paid=True, received=25)
