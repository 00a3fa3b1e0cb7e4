"""What a shop and its staff call: create, retry, refresh, cancel, accept, reverse, refund."""

import uuid
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from crypto_invoices.exceptions import (
    CryptoInvoicesError,
    GatewayError,
    GatewayRefused,
    GatewayUnavailable,
    GatewayUncertain,
    IdempotencyConflict,
    InvalidRequest,
    NotAllowed,
    NotSupported,
)
from crypto_invoices.models import Invoice, InvoiceEvent, PaymentAttempt
from crypto_invoices.reconcile import reconcile
from crypto_invoices.services import (
    accept_invoice,
    cancel_invoice,
    create_invoice,
    mark_reviewed,
    record_refund,
    refresh_invoice,
    reverse_invoice,
    start_attempt,
)
from tests.helpers import (
    KEYS,
    Clock,
    fact,
    facts,
    make,
    payment_of,
    recorded,
    rows,
    send,
    stub_gateway,
    tell,
    tx,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def gateway(settings):
    return stub_gateway(settings)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def states(invoice):
    return list(invoice.attempts.order_by("pk").values_list("account", "state"))


def put(settings, **changes):
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, **changes}


# create_invoice


def test_create_with_the_least(gateway):
    before = timezone.now()
    with recorded() as calls:
        invoice = create_invoice(amount=25, currency="USD")
    payment = payment_of(gateway, invoice)
    assert len(gateway.requests) == 1
    method, path, body = gateway.requests[0]
    attempt = invoice.attempts.get()
    assert (method, path) == ("POST", "/v1/payment/invoice")
    assert {name: body[name] for name in ("amount", "currency", "order_id")} == {
        "amount": 25,
        "currency": "USD",
        "order_id": attempt.reference,
    }
    assert set(body) <= {"amount", "currency", "order_id", "callback_url", "return_url", "sandbox"}
    assert body["return_url"] == f"https://shop.example{invoice.get_absolute_url()}"
    assert body.get("sandbox", False) is False
    assert len(attempt.reference) == 26
    assert attempt.reference.isalnum()
    assert (invoice.status, invoice.version, invoice.epoch, invoice.sandbox) == ("pending", 1, 0, False)
    assert (invoice.amount, invoice.currency, invoice.amount_received, invoice.amount_refunded) == (25, "USD", None, None)
    assert invoice.payment_url == f"https://pay.oxapay.com/10000001/{payment['track_id']}"
    assert invoice.expires_at.timestamp() == attempt.expires_at.timestamp() == payment["expired_at"]
    assert (attempt.account, attempt.kind, attempt.state) == ("default", "invoice", "open")
    assert (attempt.amount, attempt.currency, attempt.gateway_id) == (25, "USD", payment["track_id"])
    assert (attempt.sandbox, attempt.live_key) == (False, invoice.pk)
    assert attempt.next_poll_at >= before
    assert calls == [("invoice_created", f"{invoice.uuid}.1", "", "pending")]


def test_create_with_every_argument(gateway, admin_user):
    invoice = create_invoice(
        amount=Decimal("19.90"),
        currency="EUR",
        order_id="A-1007",
        account="second",
        description="Teapot",
        email="payer@example.com",
        lifetime=timedelta(minutes=30),
        underpaid_tolerance=Decimal("2.5"),
        fee_payer="payer",
        return_url="https://shop.example/thanks/",
        metadata={"cart": [1, 2], "price": Decimal("19.90")},
        idempotency_key="A-1007/1",
        options={"mixed_payment": True, "thanks_message": "Thank you", "to_currency": "USDT", "auto_withdrawal": False},
        user=admin_user,
    )
    attempt = invoice.attempts.get()
    [body] = gateway.called("POST")
    callback_url = body.pop("callback_url")
    assert callback_url.startswith(f"https://shop.example/crypto-invoices/callbacks/second/{attempt.reference}.")
    assert body.pop("sandbox", False) is False
    assert body == {
        "amount": Decimal("19.90"),
        "currency": "EUR",
        "lifetime": 30,
        "fee_paid_by_payer": 1,
        "under_paid_coverage": Decimal("2.5"),
        "to_currency": "USDT",
        "auto_withdrawal": False,
        "mixed_payment": True,
        "return_url": "https://shop.example/thanks/",
        "email": "payer@example.com",
        "order_id": attempt.reference,
        "thanks_message": "Thank you",
        "description": "A-1007: Teapot",
    }
    invoice.refresh_from_db()
    assert (invoice.order_id, invoice.description, invoice.email) == ("A-1007", "Teapot", "payer@example.com")
    assert (invoice.lifetime, invoice.underpaid_tolerance, invoice.fee_payer) == (timedelta(minutes=30), Decimal("2.5"), "payer")
    assert (invoice.page, invoice.return_url, invoice.idempotency_key) == ("gateway", "https://shop.example/thanks/", "A-1007/1")
    assert invoice.metadata == {"cart": [1, 2], "price": "19.90"}
    assert attempt.account == "second"
    assert InvoiceEvent.objects.get().user == admin_user


@pytest.mark.parametrize("payer,number", [("merchant", 0), ("payer", 1)])
def test_create_fee_payer(gateway, payer, number):
    make(gateway, fee_payer=payer)
    assert gateway.called("POST")[0]["fee_paid_by_payer"] == number


@pytest.mark.parametrize("amount", [25, "25", "25.00", Decimal("25"), "2.5e1"])
def test_create_amounts(gateway, amount):
    assert create_invoice(amount=amount, currency="USD").amount == 25


WRONG = [
    ("amount", {"amount": 25.0}),
    ("amount", {"amount": 0}),
    ("amount", {"amount": "-1"}),
    ("amount", {"amount": "1,5"}),
    ("amount", {"amount": "NaN"}),
    ("amount", {"amount": True}),
    ("amount", {"amount": None}),
    ("amount", {"amount": "1.001"}),
    ("amount", {"amount": "1.5", "currency": "JPY"}),
    ("amount", {"amount": "0.0000000000000000001", "currency": "ETH"}),
    ("amount", {"amount": "1" + "0" * 20, "currency": "ETH"}),
    ("currency", {"currency": ""}),
    ("currency", {"currency": "US D"}),
    ("currency", {"currency": "€"}),
    ("currency", {"currency": "X" * 17}),
    ("currency", {"currency": 840}),
    ("order_id", {"order_id": 1007}),
    ("order_id", {"order_id": "x" * 256}),
    ("order_id", {"order_id": "a\0b"}),
    ("description", {"description": "\ud800"}),
    ("description", {"description": None}),
    ("email", {"email": "nobody"}),
    ("lifetime", {"lifetime": 60}),
    ("lifetime", {"lifetime": timedelta(0)}),
    ("lifetime", {"lifetime": timedelta(minutes=14)}),
    ("lifetime", {"lifetime": timedelta(minutes=2881)}),
    ("lifetime", {"lifetime": timedelta(minutes=30, seconds=1)}),
    ("pay_currencies", {"pay_currencies": "USDT@tron"}),
    ("pay_currencies", {"pay_currencies": [1]}),
    ("pay_currencies", {"page": "own"}),
    ("pay_currencies", {"page": "own", "pay_currencies": ["TRX", "BTC"]}),
    ("pay_currencies", {"page": "own", "pay_currencies": ["GOLD@mars"]}),
    ("underpaid_tolerance", {"underpaid_tolerance": 2.5}),
    ("underpaid_tolerance", {"underpaid_tolerance": "101"}),
    ("underpaid_tolerance", {"underpaid_tolerance": "61"}),
    ("fee_payer", {"fee_payer": "shop"}),
    ("page", {"page": "mine"}),
    ("return_url", {"return_url": "http://shop.example/"}),
    ("return_url", {"return_url": "javascript:alert(1)"}),
    ("return_url", {"return_url": "https://user@shop.example/"}),
    ("cancel_url", {"cancel_url": "ftp://shop.example/"}),
    ("metadata", {"metadata": [1]}),
    ("metadata", {"metadata": {"a": object()}}),
    ("metadata", {"metadata": {"a": float("nan")}}),
    ("metadata", {"metadata": {"a": "x" * 70_000}}),
    ("options.colour", {"options": {"colour": "red"}}),
    ("options.mixed_payment", {"options": {"mixed_payment": "yes"}}),
    ("options.to_currency", {"options": {"to_currency": "EUR"}}),
    ("account", {"account": []}),
    ("account", {"account": ["default", "default"]}),
]


@pytest.mark.parametrize("field,arguments", WRONG)
def test_create_refuses_by_name_before_any_call(gateway, field, arguments):
    with pytest.raises(InvalidRequest) as caught:
        create_invoice(**{"amount": "25", "currency": "USD", **arguments})
    assert caught.value.field == field
    assert isinstance(caught.value, CryptoInvoicesError)
    assert gateway.requests == []
    assert Invoice.objects.count() == 0


@pytest.mark.parametrize(
    "arguments",
    [{"pay_currencies": ["USDT@tron"]}, {"cancel_url": "https://shop.example/no/"}, {"page": "own", "account": "box"}],
)
def test_create_not_supported(gateway, settings, arguments):
    accounts = {**settings.CRYPTO_INVOICES["ACCOUNTS"], "box": gateway.account("default", sandbox=True)}
    put(settings, ACCOUNTS=accounts, ALLOW_SANDBOX=True)
    with pytest.raises(NotSupported):
        create_invoice(
            **{"amount": "25", "currency": "USD", "pay_currencies": ["TRX"] if "page" in arguments else (), **arguments}
        )
    assert gateway.requests == []
    assert Invoice.objects.count() == 0


@pytest.mark.parametrize("arguments", [{}, {"amount": 1}, {"currency": "USD"}, {"amount": 1, "currency": "USD", "colour": "red"}])
def test_create_missing_and_unknown_arguments(gateway, arguments):
    with pytest.raises((InvalidRequest, TypeError)):
        create_invoice(**arguments)
    assert (gateway.requests, Invoice.objects.count()) == ([], 0)


def test_create_at_an_unknown_account(gateway):
    with pytest.raises(ImproperlyConfigured, match="nobody"):
        create_invoice(amount=1, currency="USD", account="nobody")
    assert Invoice.objects.count() == 0


@pytest.mark.parametrize("url", ["", "http://shop.example", "shop.example", "javascript:x"])
def test_create_needs_a_public_base_url(gateway, settings, url):
    put(settings, BASE_URL=url)
    with pytest.raises(ImproperlyConfigured, match="BASE_URL"):
        create_invoice(amount=1, currency="USD")
    assert (gateway.requests, Invoice.objects.count()) == ([], 0)


def test_create_own_page(gateway):
    invoice = create_invoice(amount="25", currency="USD", page="own", pay_currencies=["USDT@tron"])
    method, path, body = gateway.requests[0]
    attempt = invoice.attempts.get()
    assert (method, path) == ("POST", "/v1/payment/white-label")
    assert (body["pay_currency"], body["network"], body["order_id"]) == ("USDT", "TRON", attempt.reference)
    assert "return_url" not in body
    assert "sandbox" not in body
    assert (attempt.kind, attempt.payment_url, invoice.payment_url) == ("address", "", "")
    assert (attempt.address, attempt.pay_amount, attempt.pay_currency) == ("TAddress190000001", 25, "USDT")
    payment = payment_of(gateway, invoice)
    assert send(payment, "Paid", [tx("25")]).status_code == 200
    assert facts(invoice)["is_paid"] is True


def test_create_on_a_sandbox_account(gateway, settings):
    put(settings, ACCOUNTS={"default": gateway.account("default", sandbox=True)})
    with pytest.raises(NotSupported, match="sandbox"):
        create_invoice(amount=1, currency="USD")
    assert Invoice.objects.count() == 0
    put(settings, ALLOW_SANDBOX=True)
    assert create_invoice(amount=1, currency="USD").sandbox is True
    put(settings, ALLOW_SANDBOX=False)
    settings.DEBUG = True
    assert create_invoice(amount=1, currency="USD").sandbox is True


def test_create_the_row_is_committed_before_the_call(gateway):
    seen = []

    def look(payment):
        seen.append((connection.in_atomic_block, len(connection.savepoint_ids)))

    gateway.during_create = look
    own = []

    def count(execute, sql, params, many, context):
        own.append((sql.split(" ", 1)[0], len(gateway.requests)))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(count):
        create_invoice(amount="25", currency="USD")
    inserts = [requests for word, requests in own if word == "INSERT"]
    assert inserts[:3] == [0, 0, 0]  # invoice, attempt and event come before the gateway is called
    assert len(seen) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda invoice: create_invoice(amount="25", currency="USD"),
        lambda invoice: start_attempt(invoice),
        lambda invoice: refresh_invoice(invoice),
        lambda invoice: cancel_invoice(invoice, reason="x"),
    ],
    ids=["create", "start", "refresh", "cancel"],
)
def test_calls_refuse_an_outer_transaction(gateway, call):
    invoice, _ = make(gateway)
    before = rows()
    with transaction.atomic(), pytest.raises(RuntimeError):
        call(invoice)
    assert rows() == before
    assert len(gateway.requests) == 1


# Failures of the create call


@pytest.mark.parametrize(
    "fault,error,state",
    [
        ("refused", GatewayRefused, "refused"),
        ("unavailable", GatewayUnavailable, "refused"),
        ("lost", GatewayUncertain, "unknown"),
        ("made_then_lost", GatewayUncertain, "unknown"),
        ("made_then_502", GatewayUncertain, "unknown"),
    ],
)
def test_create_failures(gateway, fault, error, state):
    gateway.fail("create", fault)
    with recorded() as calls, pytest.raises(error) as caught:
        create_invoice(amount="25", currency="USD", order_id="A-1")
    invoice = caught.value.invoice
    assert isinstance(caught.value, GatewayError)
    assert invoice == Invoice.objects.get()
    assert (invoice.status, invoice.order_id, invoice.payment_url) == ("pending", "A-1", "")
    assert invoice.get_absolute_url() == f"/crypto-invoices/pay/{invoice.uuid}/"
    assert states(invoice) == [("default", state)]
    assert len(gateway.called("POST")) == 1
    assert "invoice_created" in calls.names
    assert "CANARY" not in str(caught.value) + repr(caught.value.__dict__)
    live = invoice.attempts.get().live_key
    assert live == (invoice.pk if state == "unknown" else None)


def test_create_when_nobody_listens(gateway, settings):
    options = {"merchant_api_key": KEYS["default"], "base_url": "http://127.0.0.1:9/v1"}
    account = {"PROVIDER": "crypto_invoices.providers.oxapay.OxaPay", "OPTIONS": options}
    put(settings, ACCOUNTS={"default": account})
    with pytest.raises(GatewayUnavailable) as caught:
        create_invoice(amount="25", currency="USD")
    assert states(caught.value.invoice) == [("default", "refused")]


@pytest.mark.parametrize(
    "changes,known",
    [
        ({"payment_url": "https://evil.example/190000001"}, True),
        ({"payment_url": "http://pay.oxapay.com/1/190000001"}, False),
        ({"payment_url": "javascript:alert(1)"}, False),
        ({"payment_url": "https://pay.oxapay.com@evil.example/"}, False),
        ({"track_id": "../../etc"}, False),
        ({"track_id": ""}, False),
    ],
)
def test_t57_t67_an_answer_that_does_not_fit(gateway, changes, known):
    """The payer is not redirected, and the invoice is not lost: reviewed, or to be looked up."""
    gateway.changes = changes
    try:
        invoice = create_invoice(amount="25", currency="USDT")
    except GatewayUncertain as error:
        assert known is False
        assert states(error.invoice) == [("default", "unknown")]
        invoice = error.invoice
    else:
        assert invoice.needs_review is True
    assert invoice.payment_url == ""
    assert invoice.status == "pending"
    payment = payment_of(gateway, invoice)
    assert send(payment, "Paid", [tx("25")]).status_code == 200
    assert facts(invoice)["is_paid"] is True


@pytest.mark.parametrize("changes", [{"amount": 24}, {"currency": "EUR"}, {"order_id": "somebody-else"}])
def test_t67_an_answer_over_something_else(gateway, changes):
    gateway.changes = changes
    try:
        invoice = create_invoice(amount="25", currency="USD", page="own", pay_currencies=["USDT@tron"])
    except GatewayUncertain as error:
        invoice = error.invoice
        assert states(invoice) == [("default", "unknown")]
    else:
        assert invoice.needs_review is True
    assert invoice.payment_url == ""


# Idempotency


def test_idempotency_the_same_key_is_the_same_invoice(gateway):
    arguments = {"amount": "25.00", "currency": "USD", "order_id": "A-1", "metadata": {"a": 1}, "idempotency_key": "k"}
    first = create_invoice(**arguments)
    again = create_invoice(**{**arguments, "amount": Decimal("25")})
    assert (again.pk, again.payment_url) == (first.pk, first.payment_url)
    assert len(gateway.requests) == 1
    assert PaymentAttempt.objects.count() == 1


@pytest.mark.parametrize(
    "change",
    [
        {"amount": "26"},
        {"currency": "EUR"},
        {"order_id": "A-2"},
        {"account": "second"},
        {"account": ["default", "second"]},
        {"description": "x"},
        {"email": "payer@example.com"},
        {"lifetime": timedelta(minutes=30)},
        {"underpaid_tolerance": "1"},
        {"fee_payer": "payer"},
        {"return_url": "https://shop.example/"},
        {"metadata": {"a": 2}},
        {"options": {"mixed_payment": True}},
        {"page": "own", "pay_currencies": ["TRX"]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_idempotency_conflict(gateway, change):
    arguments = {"amount": "25", "currency": "USD", "order_id": "A-1", "metadata": {"a": 1}, "idempotency_key": "k"}
    first = create_invoice(**arguments)
    before = rows()
    with pytest.raises(IdempotencyConflict) as caught:
        create_invoice(**{**arguments, **change})
    assert caught.value.invoice == first
    assert rows() == before
    assert len(gateway.requests) == 1


def test_idempotency_other_keys_and_none_are_other_invoices(gateway):
    keys = [None, None, "a", "b", "A", ""]
    assert len({create_invoice(amount=1, currency="USD", idempotency_key=key).pk for key in keys}) == len(keys)


@pytest.mark.parametrize("fault", ["refused", "unavailable"])
def test_idempotency_calls_again_after_a_sure_refusal(gateway, fault):
    gateway.fail("create", fault)
    with pytest.raises(GatewayError) as caught:
        create_invoice(amount=1, currency="USD", idempotency_key="k")
    invoice = create_invoice(amount=1, currency="USD", idempotency_key="k")
    assert invoice == caught.value.invoice
    assert states(invoice) == [("default", "refused"), ("default", "open")]
    assert invoice.payment_url != ""
    assert len(gateway.payments) == 1


def test_idempotency_refused_twice(gateway):
    gateway.fail("create", "refused", "refused")
    for _ in range(2):
        with pytest.raises(GatewayRefused) as caught:
            create_invoice(amount=1, currency="USD", idempotency_key="k")
        assert caught.value.invoice == Invoice.objects.get()
    assert states(Invoice.objects.get()) == [("default", "refused")] * 2


@pytest.mark.parametrize("fault", ["made_then_lost", "made_then_502", "lost"])
def test_t62_idempotency_never_calls_again_while_it_is_uncertain(gateway, fault):
    gateway.fail("create", fault)
    with pytest.raises(GatewayUncertain):
        create_invoice(amount=1, currency="USD", idempotency_key="k")
    for _ in range(3):
        again = create_invoice(amount=1, currency="USD", idempotency_key="k")
        assert again.payment_url == ""
    assert len(gateway.called("POST")) == 1


def test_t63_a_concurrent_caller_gets_the_row_without_a_url(gateway):
    """While the first call is on its way, the second finds the row."""
    invoice, _ = make(gateway, "1", "USD", idempotency_key="k")
    PaymentAttempt.objects.update(state="creating", gateway_id="", payment_url="")
    again = create_invoice(amount="1", currency="USD", idempotency_key="k")
    assert (again.pk, again.payment_url) == (invoice.pk, "")
    assert len(gateway.called("POST")) == 1


def test_idempotency_key_that_names_a_paid_invoice(gateway):
    invoice, payment = make(gateway, idempotency_key="k")
    send(payment, "Paid", [tx("25")])
    assert create_invoice(amount="25", currency="USDT", account="default", idempotency_key="k").is_paid is True
    assert len(gateway.called("POST")) == 1
    assert Invoice.objects.get() == invoice


# Too little money, of which no sum is told


@pytest.fixture
def short(gateway):
    """As at goodPayments, which tells neither transfers nor a sum in the price's currency."""
    invoice, payment = make(gateway, currency="USD")
    tell(payment, "underpaid")
    return refresh_invoice(invoice)


def test_underpaid_says_that_money_came(short):
    assert short.status == "underpaid"
    with pytest.raises(InvalidRequest) as caught:
        start_attempt(short)
    assert caught.value.field == "amount"
    with pytest.raises(NotAllowed):
        cancel_invoice(short, reason="changed my mind")
    assert cancel_invoice(short, reason="changed my mind", force=True).invoice.needs_review


def test_a_new_attempt_for_the_rest_keeps_its_reason(short, admin_user):
    attempt = start_attempt(short, amount="12.50", reason="the customer pays the rest", user=admin_user)
    assert (attempt.amount, attempt.state) == (Decimal("12.50"), "open")
    event = short.events.get(kind="attempt")
    assert (event.reason, event.user) == ("the customer pays the rest", admin_user)


# Fallback over accounts


@pytest.mark.parametrize("fault", ["refused", "unavailable"])
def test_fallback_after_a_sure_failure(gateway, fault):
    gateway.fail("create", fault)
    invoice = create_invoice(amount="25", currency="USDT", account=["default", "second"])
    assert states(invoice) == [("default", "refused"), ("second", "open")]
    assert len({attempt.reference for attempt in invoice.attempts.all()}) == 2
    assert len(gateway.payments) == 1
    payment = payment_of(gateway, invoice)
    assert "/callbacks/second/" in payment["callback_url"]
    send(payment, "Paid", [tx("25")], key=KEYS["second"])
    assert facts(invoice) == fact("paid", is_paid=True, received=25)


@pytest.mark.parametrize("fault", ["lost", "made_then_lost", "made_then_502"])
def test_fallback_never_after_an_uncertain_failure(gateway, fault):
    gateway.fail("create", fault)
    with pytest.raises(GatewayUncertain) as caught:
        create_invoice(amount="25", currency="USDT", account=["default", "second"])
    assert states(caught.value.invoice) == [("default", "unknown")]


def test_what_a_gateway_finds_wrong_only_at_the_call_leaves_the_invoice_free(gateway, monkeypatch):
    """As txn.io, which looks into its list of coins first."""

    def create(self, request):
        raise InvalidRequest("pay_currencies", "not enabled")

    with monkeypatch.context() as patch:
        patch.setattr("crypto_invoices.providers.oxapay.OxaPay.create", create)
        with pytest.raises(InvalidRequest) as caught:
            create_invoice(amount="25", currency="USDT", account=["default", "second"])
    invoice = caught.value.invoice
    assert states(invoice) == [("default", "refused")]
    assert start_attempt(invoice).state == "open"


def test_fallback_when_all_refuse(gateway):
    gateway.fail("create", "unavailable", "refused")
    with pytest.raises(GatewayRefused) as caught:
        create_invoice(amount="25", currency="USDT", account=["default", "second"])
    assert states(caught.value.invoice) == [("default", "refused"), ("second", "refused")]
    assert caught.value.invoice.status == "pending"


def test_fallback_validates_every_account_before_the_first_call(gateway, settings):
    """An account that cannot do it is an error, it is not skipped."""
    box = gateway.account("second", sandbox=True)
    put(settings, ACCOUNTS={"default": gateway.account("default"), "second": gateway.account("second"), "box": box})
    with pytest.raises((InvalidRequest, NotSupported)):
        create_invoice(amount="25", currency="USD", account=["default", "box"])
    with pytest.raises(ImproperlyConfigured):
        create_invoice(amount="25", currency="USD", account=["default", "nobody"])
    assert (gateway.requests, Invoice.objects.count()) == ([], 0)


# start_attempt


def test_start_attempt_supersedes_the_live_one(gateway):
    invoice, first = make(gateway)
    attempt = start_attempt(invoice, "second")
    assert (attempt.account, attempt.state, attempt.amount, attempt.live_key) == ("second", "open", 25, invoice.pk)
    assert states(invoice) == [("default", "superseded"), ("second", "open")]
    assert Invoice.objects.get().payment_url == attempt.payment_url != ""
    old = invoice.attempts.order_by("pk").first()
    assert (old.live_key, old.next_poll_at is not None) == (None, True)  # still watched
    send(first, "Paid", [tx("25")])
    assert facts(invoice) == fact("paid", is_paid=True, received=25)


def test_start_attempt_after_expiry(gateway, clock, client):
    invoice, payment = make(gateway)
    clock.advance(hours=2)
    tell(payment, "expired")
    refresh_invoice(invoice)
    assert facts(invoice)["status"] == "expired"
    attempt = start_attempt(invoice)
    assert (attempt.account, attempt.amount) == ("default", 25)
    assert Invoice.objects.get().payment_url == attempt.payment_url != ""
    send(payment_of(gateway, invoice), "Paid", [tx("25")])
    assert facts(invoice) == fact("paid", is_paid=True, received=25)


@pytest.mark.parametrize("end", ["expired", "failed"])
def test_start_attempt_after_a_dead_one_the_payer_is_sent_to_the_new_page(gateway, client, end):
    """DECISIONS 25: our page redirects to the gateway when it has a URL; 4: a dead attempt does not pull down a live one."""
    invoice, payment = make(gateway)
    tell(payment, end)
    refresh_invoice(invoice)
    attempt = start_attempt(invoice)
    answer = client.get(invoice.get_absolute_url())
    assert (answer.status_code, answer.headers.get("Location")) == (302, attempt.payment_url)


@pytest.mark.parametrize("status", ["paid", "overpaid", "refunding", "refunded"])
def test_start_attempt_refuses_where_nothing_is_due(gateway, status):
    invoice, payment = make(gateway)
    tell(payment, "paid" if status == "overpaid" else status, [tx("30" if status == "overpaid" else "25")])
    refresh_invoice(invoice)
    assert facts(invoice)["status"] == status
    before = rows()
    with pytest.raises(NotAllowed):
        start_attempt(invoice)
    assert rows() == before


@pytest.mark.parametrize("state", ["creating", "unknown"])
def test_start_attempt_is_blocked_while_the_last_ones_fate_is_unknown(gateway, clock, state):
    gateway.fail("create", "lost")
    with pytest.raises(GatewayUncertain) as caught:
        create_invoice(amount="25", currency="USDT", lifetime=timedelta(minutes=30))
    invoice = caught.value.invoice
    PaymentAttempt.objects.update(state=state)
    for minutes in (0, 10, 20):
        clock.advance(minutes=minutes)
        with pytest.raises(NotAllowed):
            start_attempt(invoice, "second")
    clock.advance(hours=2)
    assert start_attempt(invoice, "second").state == "open"
    assert len(gateway.called("POST")) == 2


def test_start_attempt_asks_for_the_rest(gateway):
    invoice, payment = make(gateway, "25")
    tell(payment, "underpaid", [tx("24.5")])
    refresh_invoice(invoice)
    attempt = start_attempt(invoice)
    assert attempt.amount == Decimal("0.5")
    assert gateway.called("POST")[1]["amount"] == Decimal("0.5")


def test_start_attempt_needs_the_amount_where_money_is_not_comparable(gateway, admin_user):
    invoice, payment = make(gateway, "25", "USD")
    tell(payment, "underpaid", [tx("10", "POL")])
    refresh_invoice(invoice)
    before = rows()
    with pytest.raises(InvalidRequest) as caught:
        start_attempt(invoice)
    assert caught.value.field == "amount"
    assert rows() == before
    attempt = start_attempt(invoice, amount="12.50", user=admin_user)
    assert attempt.amount == Decimal("12.50")
    send(payment_of(gateway, invoice), "Paid", [tx("30", "POL", tx_hash="0xb")])
    assert facts(invoice) == fact("paid", is_paid=True)


@pytest.mark.parametrize("amount", [0, "0", "-1", 1.5, "1.005", "NaN"])
def test_start_attempt_refuses_an_amount(gateway, amount):
    invoice, payment = make(gateway, "25", "USD")
    tell(payment, "underpaid", [tx("10", "POL")])
    refresh_invoice(invoice)
    before = rows()
    with pytest.raises(InvalidRequest):
        start_attempt(invoice, amount=amount)
    assert rows() == before
    assert len(gateway.called("POST")) == 1


def test_start_attempt_by_the_payer_is_capped(gateway, settings):
    invoice, _ = make(gateway)
    for _ in range(4):
        start_attempt(invoice, by_payer=True)
    with pytest.raises(NotAllowed):
        start_attempt(invoice, by_payer=True)
    assert invoice.attempts.count() == 5
    put(settings, MAX_ATTEMPTS=6)
    start_attempt(invoice, by_payer=True)
    start_attempt(invoice)  # staff may
    assert invoice.attempts.count() == 7


def test_start_attempt_by_the_payer_of_a_cancelled_invoice(gateway):
    invoice, _ = make(gateway)
    cancel_invoice(invoice, reason="sold out")
    with pytest.raises(NotAllowed):
        start_attempt(invoice, by_payer=True)


def test_start_attempt_at_most_one_is_live(gateway):
    invoice, _ = make(gateway)
    start_attempt(invoice)
    assert PaymentAttempt.objects.exclude(live_key=None).count() == 1
    with pytest.raises(IntegrityError), transaction.atomic():
        PaymentAttempt.objects.create(invoice=invoice, amount=1, live_key=invoice.pk)


@pytest.mark.parametrize("fault,error", [("refused", GatewayRefused), ("lost", GatewayUncertain)])
def test_start_attempt_that_fails_carries_the_invoice(gateway, fault, error):
    invoice, first = make(gateway)
    gateway.fail("create", fault)
    with pytest.raises(error) as caught:
        start_attempt(invoice)
    assert caught.value.invoice == invoice
    send(first, "Paid", [tx("25")])  # the first can still pay
    assert facts(invoice) == fact("paid", is_paid=True, received=25)


def test_start_attempt_sandbox_and_live_do_not_mix(gateway, settings):
    accounts = {"default": gateway.account("default"), "box": gateway.account("second", sandbox=True)}
    put(settings, ACCOUNTS=accounts, ALLOW_SANDBOX=True)
    invoice, _ = make(gateway)
    with pytest.raises(InvalidRequest):
        start_attempt(invoice, "box")
    assert len(gateway.called("POST")) == 1


# refresh_invoice


def test_refresh_applies_what_the_gateway_says(gateway):
    invoice, payment = make(gateway)
    tell(payment, "paid", [tx("25")])
    with recorded("invoice_paid") as calls:
        fresh = refresh_invoice(invoice)
    assert (fresh.status, fresh.is_paid, fresh.amount_received) == ("paid", True, 25)
    assert calls.names == ["invoice_paid"]
    assert InvoiceEvent.objects.order_by("pk").last().source == "poll"


def test_refresh_asks_every_attempt(gateway):
    invoice, _ = make(gateway)
    start_attempt(invoice, "second")
    refresh_invoice(invoice)
    assert sorted(path for method, path, _ in gateway.requests if method == "GET") == [
        "/v1/payment/190000001",
        "/v1/payment/190000002",
    ]


@pytest.mark.parametrize("fault,error", [("missing", GatewayRefused), ("lost", GatewayError)])
def test_refresh_failures_change_nothing_and_are_noted(gateway, clock, fault, error):
    invoice, _ = make(gateway)
    gateway.fail("fetch", *[fault] * 4)
    with pytest.raises(error):
        refresh_invoice(invoice)
    attempt = invoice.attempts.get()
    assert facts(invoice) == fact("pending")
    assert (attempt.poll_failures, attempt.poll_error != "") == (1, True)
    gateway.faults.clear()
    refresh_invoice(invoice)
    attempt.refresh_from_db()
    assert (attempt.poll_failures, attempt.poll_error) == (0, "")


def test_refresh_one_failing_attempt_does_not_keep_the_other_from_us(gateway):
    invoice, _ = make(gateway)
    start_attempt(invoice, "second")
    tell(payment_of(gateway, invoice), "paid", [tx("25")])
    gateway.fail("fetch", "missing")
    with pytest.raises(GatewayRefused):
        refresh_invoice(invoice)
    assert facts(invoice)["is_paid"] is True


# cancel_invoice


def test_cancel_closes_our_side_only(gateway, admin_user):
    """OxaPay has no call for it."""
    invoice, payment = make(gateway)
    with recorded() as calls:
        result = cancel_invoice(invoice, reason="sold out", user=admin_user)
    assert (result.told, result.invoice.status, result.invoice.payment_url) == (False, "cancelled", "")
    assert calls.names == ["invoice_status_changed", "invoice_cancelled"]
    event = InvoiceEvent.objects.order_by("pk").last()
    assert (event.user, event.reason, event.source) == (admin_user, "sold out", "operator")
    assert len(gateway.requests) == 1
    attempt = invoice.attempts.get()
    assert attempt.next_poll_at is not None  # stays watched
    tell(payment, "paid", [tx("25")])
    refresh_invoice(invoice)
    assert facts(invoice)["status"] == "paid"
    assert facts(invoice)["is_paid"] is False


def test_cancel_after_the_payment_page_says_do_not_pay(gateway, client):
    invoice, _ = make(gateway)
    cancel_invoice(invoice, reason="sold out")
    page = client.get(invoice.get_absolute_url())
    assert page.status_code == 200
    assert "pay.oxapay.com" not in page.content.decode()
    assert "not pay" in page.content.decode().lower()


@pytest.mark.parametrize("status", ["confirming", "underpaid", "expired with money"])
def test_cancel_with_money_seen_needs_force(gateway, clock, status):
    invoice, payment = make(gateway)
    word = status.split()[0]
    tell(payment, {"confirming": "paying"}.get(word, word), [tx("5")])
    refresh_invoice(invoice)
    assert facts(invoice)["status"] == word
    before = rows()
    with pytest.raises(NotAllowed):
        cancel_invoice(invoice, reason="sold out")
    assert rows() == before
    clock.advance(seconds=1)
    cancel_invoice(invoice, reason="sold out", force=True)
    assert facts(invoice) == fact("cancelled", received=5, review=True)


@pytest.mark.parametrize("status", ["paid", "refunding", "refunded", "cancelled", "failed"])
@pytest.mark.parametrize("force", [False, True])
def test_cancel_is_refused(gateway, status, force):
    invoice, payment = make(gateway)
    tell(payment, status, [tx("25")] if status == "paid" else [])
    refresh_invoice(invoice)
    before = rows()
    with pytest.raises(NotAllowed):
        cancel_invoice(invoice, reason="sold out", force=force)
    assert rows() == before


@pytest.mark.parametrize("call", [cancel_invoice, accept_invoice, reverse_invoice])
@pytest.mark.parametrize("reason", ["", " ", None])
def test_a_reason_is_required(gateway, call, reason):
    invoice, _ = make(gateway)
    before = rows()
    with pytest.raises(InvalidRequest) as caught:
        call(invoice, reason=reason, user=None)
    assert caught.value.field == "reason"
    assert rows() == before


# accept_invoice


@pytest.mark.parametrize("status", ["pending", "confirming", "underpaid", "expired", "cancelled", "failed"])
def test_accept(gateway, admin_user, clock, status):
    invoice, payment = make(gateway)
    if status == "cancelled":
        cancel_invoice(invoice, reason="x")
    elif status != "pending":
        tell(payment, {"confirming": "paying"}.get(status, status), [tx("5")] if status in ("confirming", "underpaid") else [])
        refresh_invoice(invoice)
    assert facts(invoice)["status"] == status
    clock.advance(seconds=1)
    received = 5 if status in ("confirming", "underpaid") else None
    with recorded() as calls:
        accepted = accept_invoice(invoice, reason="cash", user=admin_user)
    assert (accepted.status, accepted.is_paid, accepted.manual) == ("paid", True, True)
    assert facts(invoice) == fact("paid", is_paid=True, manual=True, received=received)
    assert calls.names == ["invoice_status_changed", "invoice_paid"]
    event = InvoiceEvent.objects.order_by("pk").last()
    assert (event.user, event.reason, event.source, event.one_shot) == (admin_user, "cash", "operator", "paid:0")


@pytest.mark.parametrize("status", ["paid", "overpaid", "refunding", "refunded"])
def test_accept_is_refused(gateway, status):
    invoice, payment = make(gateway)
    tell(payment, "paid" if status == "overpaid" else status, [tx("30")] if status == "overpaid" else [tx("25")])
    refresh_invoice(invoice)
    assert facts(invoice)["status"] == status
    before = rows()
    with pytest.raises(NotAllowed):
        accept_invoice(invoice, reason="cash", user=None)
    assert rows() == before


def test_accept_then_the_real_payment(gateway, clock):
    invoice, payment = make(gateway)
    accept_invoice(invoice, reason="cash", user=None)
    clock.advance(seconds=1)
    with recorded() as calls:
        send(payment, "Paid", [tx("25")])
    assert facts(invoice) == fact("overpaid", is_paid=True, manual=True, received=25, review=True)
    assert (calls.count_of("invoice_paid"), calls.count_of("invoice_review_required")) == (0, 1)


def test_accept_of_an_underpaid_one_then_its_top_up(gateway, clock):
    """Late money never lowers or repeats what the operator decided."""
    invoice, payment = make(gateway)
    tell(payment, "underpaid", [tx("20")])
    refresh_invoice(invoice)
    accept_invoice(invoice, reason="good enough", user=None)
    assert facts(invoice) == fact("paid", is_paid=True, manual=True, received=20)
    tell(payment, "underpaid", [tx("20")])
    refresh_invoice(invoice)
    assert facts(invoice) == fact("paid", is_paid=True, manual=True, received=20)


# reverse_invoice


def test_reverse_and_accept_again(gateway, admin_user, clock):
    invoice, payment = make(gateway)
    send(payment, "Paid", [tx("25")])
    clock.advance(seconds=1)
    with recorded() as calls:
        reversed_ = reverse_invoice(invoice, reason="double spend", user=admin_user)
    assert (reversed_.status, reversed_.is_paid, reversed_.epoch) == ("failed", False, 1)
    assert calls.names == ["invoice_status_changed", "invoice_failed", "invoice_reversed"]
    event = InvoiceEvent.objects.order_by("pk").last()
    assert (event.user, event.reason, event.kind) == (admin_user, "double spend", "reversal")
    clock.advance(seconds=1)
    with recorded("invoice_paid") as calls:
        accept_invoice(invoice, reason="it came after all", user=admin_user)
    assert calls.names == ["invoice_paid"]
    assert list(InvoiceEvent.objects.exclude(one_shot=None).values_list("one_shot", flat=True)) == ["paid:0", "paid:1"]


@pytest.mark.parametrize("clock_runs", [True, False])
def test_reverse_and_accept_whatever_the_clock_does(gateway, monkeypatch, clock_runs):
    """The order of the decisions counts, also within one tick or after the clock was set back."""
    clock = Clock(monkeypatch)
    invoice, payment = make(gateway)
    send(payment, "Paid", [tx("25")])
    reverse_invoice(invoice, reason="double spend", user=None)
    clock.advance(seconds=1 if clock_runs else 0)
    accept_invoice(invoice, reason="cash", user=None)
    assert facts(invoice) == fact("paid", is_paid=True, manual=True, received=25)


@pytest.mark.parametrize("seconds", [1, 3600])
def test_money_after_a_reversal_waits_for_accept(gateway, clock, seconds):
    invoice, payment = make(gateway)
    send(payment, "Paid", [tx("25")])
    clock.advance(seconds=seconds)
    reverse_invoice(invoice, reason="double spend", user=None)
    clock.advance(seconds=seconds)
    with recorded() as calls:
        send(payment, "Paid", [tx("25"), tx("25", tx_hash="0xb")])
        tell(payment, "paid", [tx("25"), tx("25", tx_hash="0xb")])
        refresh_invoice(invoice)
    assert "invoice_paid" not in calls.names
    assert facts(invoice)["is_paid"] is False
    assert facts(invoice)["review"] is True


@pytest.mark.parametrize("status", ["pending", "expired", "refunded", "failed"])
def test_reverse_is_refused(gateway, status):
    invoice, payment = make(gateway)
    tell(payment, status if status != "pending" else "waiting")
    refresh_invoice(invoice)
    before = rows()
    with pytest.raises(NotAllowed):
        reverse_invoice(invoice, reason="double spend", user=None)
    assert rows() == before


# record_refund


def test_refund_of_all(gateway, admin_user):
    invoice, payment = make(gateway)
    send(payment, "Paid", [tx("25")])
    with recorded() as calls:
        refunded = record_refund(invoice, amount="25", currency="USDT", tx_hash="0xr", reason="returned", user=admin_user)
    assert (refunded.status, refunded.amount_refunded, refunded.is_paid) == ("refunded", 25, True)
    assert [name for name in calls.names if name not in ("invoice_status_changed", "invoice_refunding")] == ["invoice_refunded"]
    data = InvoiceEvent.objects.filter(kind="refund").first().data
    assert (Decimal(str(data["amount"])), data["currency"], data["tx_hash"]) == (25, "USDT", "0xr")


def test_refund_in_parts(gateway):
    invoice, payment = make(gateway)
    send(payment, "Paid", [tx("25")])
    record_refund(invoice, amount="10", currency="USDT", reason="one returned", user=None)
    assert facts(invoice) == fact("paid", is_paid=True, received=25)
    assert Invoice.objects.get().amount_refunded == 10
    with pytest.raises(InvalidRequest) as caught:
        record_refund(invoice, amount="15.000001", currency="USDT", reason="too much", user=None)
    assert caught.value.field == "amount"
    record_refund(invoice, amount="15", currency="USDT", reason="all returned", user=None)
    assert facts(invoice)["status"] == "refunded"
    assert Invoice.objects.get().amount_refunded == 25


def test_refund_of_the_excess(gateway):
    invoice, payment = make(gateway)
    send(payment, "Paid", [tx("30")])
    record_refund(invoice, amount="5", currency="USDT", reason="excess", user=None)
    assert facts(invoice)["is_paid"] is True
    assert Invoice.objects.get().amount_refunded == 5


def test_refund_in_another_currency_is_noted(gateway):
    invoice, payment = make(gateway)
    send(payment, "Paid", [tx("25")])
    record_refund(invoice, amount="23.17", currency="EUR", reason="bank transfer", user=None)
    assert facts(invoice) == fact("paid", is_paid=True, received=25)
    assert Invoice.objects.get().amount_refunded is None
    assert InvoiceEvent.objects.order_by("pk").last().data["currency"] == "EUR"


@pytest.mark.parametrize("amount", [0, "-1", 1.5, "NaN", None, ""])
def test_refund_of_a_wrong_amount(gateway, amount):
    invoice, payment = make(gateway)
    send(payment, "Paid", [tx("25")])
    before = rows()
    with pytest.raises(InvalidRequest):
        record_refund(invoice, amount=amount, currency="USDT", reason="x", user=None)
    assert rows() == before


def test_refund_more_than_came_in(gateway):
    invoice, payment = make(gateway)
    tell(payment, "underpaid", [tx("10")])
    refresh_invoice(invoice)
    with pytest.raises(InvalidRequest):
        record_refund(invoice, amount="11", currency="USDT", reason="x", user=None)
    record_refund(invoice, amount="10", currency="USDT", reason="x", user=None)
    assert facts(invoice)["status"] == "refunded"


def test_refund_where_nothing_came_in(gateway):
    """I4: what was refunded is at most what was received."""
    invoice, _ = make(gateway)
    before = rows()
    with pytest.raises((InvalidRequest, NotAllowed)):
        record_refund(invoice, amount="5", currency="USDT", reason="x", user=None)
    assert rows() == before


def test_accept_and_refund_inside_a_transaction(gateway):
    invoice, _ = make(gateway)
    with recorded("invoice_paid", "invoice_refunded") as calls:
        with transaction.atomic():
            accept_invoice(invoice, reason="cash", user=None)
            record_refund(invoice, amount="25", currency="USDT", reason="x", user=None)
            assert calls == []
        assert calls.names == ["invoice_paid", "invoice_refunded"]


# mark_reviewed


def test_mark_reviewed(gateway, admin_user):
    invoice, payment = make(gateway)
    send(payment, "Teleported")
    assert facts(invoice)["review"] is True
    with recorded() as calls:
        reviewed = mark_reviewed(invoice, reason="looked", user=admin_user)
    assert (reviewed.needs_review, calls) == (False, [])
    event = InvoiceEvent.objects.order_by("pk").last()
    assert (event.kind, event.user, event.reason) == ("reviewed", admin_user, "looked")


def test_mark_reviewed_does_not_silence_a_new_trouble_of_the_same_kind(gateway):
    """The second late payment after a review asks for a person again."""
    invoice, payment = make(gateway)
    with recorded("invoice_review_required") as calls:
        send(payment, "Teleported")
        mark_reviewed(invoice, reason="looked", user=None)
        send(payment, "Teleported", note="again")
    assert facts(invoice)["review"] is True
    assert len(calls) == 2


# The model


def test_save_never_writes_what_the_ledger_writes(gateway):
    """I7"""
    _, payment = make(gateway)
    stale = Invoice.objects.get()
    stale_attempt = stale.attempts.get()
    send(payment, "Paid", [tx("30")])
    before = rows()
    stale.save()
    stale_attempt.save()
    stale.status, stale.paid_at, stale.version, stale.amount = "pending", None, 99, 1
    stale.save(update_fields=["status", "paid_at", "version", "amount"])
    stale.save(force_update=True)
    assert rows() == before


def test_ids_are_random_and_long(gateway):
    references = {make(gateway)[0].attempts.get().reference for _ in range(20)}
    assert len(references) == 20
    assert {len(reference) for reference in references} == {26}
    assert isinstance(Invoice.objects.first().uuid, uuid.UUID)
    assert Invoice.objects.first().uuid.version == 4


def test_i10_from_every_dead_end_an_operator_reaches_an_end(gateway, clock):
    for word in ("expired", "underpaid", "failed", "cancelled"):
        invoice, payment = make(gateway)
        tell(payment, word)
        refresh_invoice(invoice)
        clock.advance(seconds=1)
        accept_invoice(invoice, reason="cash", user=None)
        clock.advance(seconds=1)
        record_refund(invoice, amount="25", currency="USDT", reason="returned", user=None)
        assert facts(invoice)["status"] == "refunded"
    assert reconcile().failed == 0
