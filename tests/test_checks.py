"""The system checks: each one speaks when it should, and is silent when it should."""

from datetime import timedelta
from decimal import Decimal as D

import pytest
from django.core.checks import ERROR, WARNING, run_checks
from django.test import override_settings
from django.urls import include, path

from crypto_invoices import signals
from crypto_invoices.models import Invoice
from crypto_invoices.providers.base import Capability, Provider
from crypto_invoices.providers.oxapay import OxaPay

pytestmark = pytest.mark.django_db  # Django 6.1 asks the database while it checks the models

KEY = "K3Y-OF-THE-TESTS-1234567890"
OXAPAY = "crypto_invoices.providers.oxapay.OxaPay"

urlpatterns = [path("nothing/", include([]))]  # a URLconf without this package's


class Halfway(Provider):
    """Without verify(): abstract."""

    name = "Halfway"
    options = OxaPay.options

    def validate(self, request): ...

    def create(self, request): ...

    def fetch(self, remote, *, timeout=None): ...

    def probe(self): ...


class Unmapped(OxaPay):
    statuses = {}


class Unsigned(OxaPay):
    signed_fields = frozenset()
    capabilities = frozenset({Capability.SIGNED_CALLBACKS})


def reported(deploy=False):
    messages = run_checks(include_deployment_checks=deploy)
    return [
        (message.id.removeprefix("crypto_invoices."), message.level)
        for message in messages
        if message.id.startswith("crypto_invoices.")
    ]


def errors():
    return [(name, level) for name, level in reported() if level >= ERROR]


def ids(deploy=False):
    return [name for name, _ in reported(deploy)]


def configured(**values):
    return override_settings(CRYPTO_INVOICES={"BASE_URL": "https://shop.example", "ACCOUNTS": {"default": account()}} | values)


def account(provider=OXAPAY, **options):
    return {"PROVIDER": provider, "OPTIONS": {"merchant_api_key": KEY} | options}


def with_account(*args, **options):
    return configured(ACCOUNTS={"default": account(*args, **options)})


def without_key():
    return configured(ACCOUNTS={"default": {"PROVIDER": OXAPAY, "OPTIONS": {}}})


def test_the_suites_own_settings_are_in_order():
    assert errors() == []


def test_a_project_without_accounts_is_in_order():
    with override_settings(CRYPTO_INVOICES={}):
        assert errors() == []


@pytest.mark.parametrize("secret", ["", " ", None, "changeme", "whsec_", "\t", [], [KEY, ""], f" {KEY}", 5])
def test_E001_a_secret_that_is_none(secret):
    with with_account(merchant_api_key=secret):
        assert errors() == [("E001", ERROR)]


def test_E001_a_missing_secret():
    with without_key():
        assert errors() == [("E001", ERROR)]


def test_E001_every_account_is_looked_at():
    with configured(ACCOUNTS={"a": account(), "b": account(merchant_api_key=""), "c": account(), "d": account("nowhere.Pay")}):
        assert errors() == [("E001", ERROR), ("E003", ERROR)]


def test_E001_two_good_secrets():
    with with_account(merchant_api_key=[KEY, KEY + "-old"]):
        assert errors() == []


@pytest.mark.parametrize("provider", ["nowhere.at.All", "oxapay", "decimal.Decimal", f"{OXAPAY}x", "", None, 5])
def test_E003_unknown_provider(provider):
    with with_account(provider):
        assert errors() == [("E003", ERROR)]


@pytest.mark.parametrize("definition", [None, {}, [], "oxapay", {"OPTIONS": {}}, {"PROVIDER": OXAPAY, "KEY": KEY}])
def test_E003_no_definition_of_an_account(definition):
    with configured(ACCOUNTS={"default": definition}):
        assert errors() == [("E003", ERROR)]


def test_E003_a_provider_without_a_verifier():
    with with_account(f"{__name__}.Halfway"):
        assert errors() == [("E003", ERROR)]


def test_E003_no_secret_stands_in_a_message():
    with with_account(apikey=KEY + "-CANARY"):
        assert errors() != []
        assert not any(KEY in str(message) for message in run_checks())


@pytest.mark.parametrize(
    "base_url",
    [
        "http://api.oxapay.com", "https://user:pw@api.oxapay.com", "https://10.0.0.1", "https://[fd00::1]", "ftp://x", "",
        "api.oxapay.com",
    ],
)  # fmt: skip
def test_E010_base_url(base_url):
    with with_account(base_url=base_url):
        assert errors() == [("E010", ERROR)]


@pytest.mark.parametrize("base_url", ["https://api.oxapay.com/v1", "http://127.0.0.1:8001/v1", "http://[::1]:8001/v1"])
def test_E010_not(base_url):
    with with_account(base_url=base_url):
        assert errors() == []


@pytest.mark.parametrize("tolerance", [0.01, 1.0, D("-1"), D("10.01"), "x", True, D("NaN")])
def test_E012_tolerance(tolerance):
    with configured(UNDERPAID_TOLERANCE=tolerance):
        assert errors() == [("E012", ERROR)]


@pytest.mark.parametrize("tolerance", [None, 0, D("10"), D("0.5"), "2"])
def test_E012_not(tolerance):
    with configured(UNDERPAID_TOLERANCE=tolerance):
        assert errors() == []


@pytest.mark.parametrize(
    "values",
    [
        {"DISPATCH": "after_response"}, {"LATE_PAYMENT": "ignore"}, {"LATE_GRACE": 60}, {"MAX_ATTEMPTS": 0}, {"ALLOW_SANDBOX": 1},
        {"BASE_URL": None}, {"NOTIFY": None}, {"ACCOUNTS": []},
    ],
)  # fmt: skip
def test_E013_a_wrong_value(values):
    with configured(**values):
        assert errors() == [("E013", ERROR)]


@pytest.mark.parametrize("key", ["BASEURL", "base_url", "TOLERANCE", "SECRET", "ACCOUNT"])
def test_E013_an_unknown_key(key):
    with configured(**{key: "x"}):
        assert errors() == [("E013", ERROR)]


def test_E013_an_unknown_option_of_an_account():
    with with_account(apikey="x"):
        assert errors() == [("E013", ERROR)]


@pytest.mark.parametrize("value", [None, [], "x"])
def test_E013_something_else_than_a_dict(value):
    with override_settings(CRYPTO_INVOICES=value):
        assert errors() == [("E013", ERROR)]


@pytest.mark.parametrize(
    "values", [{"DISPATCH": "worker"}, {"LATE_PAYMENT": "accept", "LATE_GRACE": timedelta(hours=1)}, {"MAX_ATTEMPTS": 1}]
)
def test_E013_not(values):
    with configured(**values):
        assert errors() == []


@override_settings(ROOT_URLCONF=__name__)
def test_E006_urls_that_are_not_included():
    assert ("E006", ERROR) in errors()


def test_E006_not():
    assert "E006" not in ids()


# W020


def named_receiver(**kwargs):
    """A receiver of a module has a stable name."""


class Receivers:
    def method(self, **kwargs):
        """A bound method of a module's class has a stable name."""


@pytest.fixture
def connect():
    connected = []

    def connect_to(signal, receiver, **kwargs):
        signal.connect(receiver, weak=False, **kwargs)
        connected.append((signal, receiver, kwargs.get("sender"), kwargs.get("dispatch_uid")))

    yield connect_to
    for signal, receiver, sender, dispatch_uid in connected:
        signal.disconnect(receiver, sender=sender, dispatch_uid=dispatch_uid)


@pytest.mark.parametrize("sender", [None, Invoice])
def test_W020_a_lambda(connect, sender):
    for signal in signals.DURABLE.values():
        connect(signal, lambda **kwargs: None, sender=sender)
        assert ("W020", WARNING) in reported(), signal.name


@pytest.mark.parametrize("sender", [None, Invoice])
def test_W020_a_local_function(connect, sender):
    def local(**kwargs): ...

    connect(signals.invoice_paid, local, sender=sender)
    assert ids().count("W020") == 1


@pytest.mark.parametrize("sender", [None, Invoice])
def test_W020_not(connect, sender):
    connect(signals.invoice_paid, named_receiver, sender=sender)
    connect(signals.invoice_paid, Receivers().method, sender=sender)
    connect(signals.invoice_paid, lambda **kwargs: None, sender=sender, dispatch_uid="shop.ship")
    connect(signals.callback_rejected, lambda **kwargs: None)
    assert "W020" not in ids()
