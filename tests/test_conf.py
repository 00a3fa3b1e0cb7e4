"""The settings dict: read on use, typed, every mistake named; accounts from environment variables."""

import copy
import sys
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal as D

import environ
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from crypto_invoices import conf
from crypto_invoices.exceptions import CryptoInvoicesError
from crypto_invoices.providers.base import Hint, Provider
from crypto_invoices.providers.options import Secrets, option
from crypto_invoices.providers.oxapay import OxaPay

KEY = "K3Y-OF-THE-TESTS-1234567890"


@dataclass(frozen=True, slots=True)
class BankOptions:
    api_key: Secrets = option(help="key")
    base_url: str = option("https://bank.example", help="URL")
    sandbox: bool = option(False, help="test mode")
    minutes: int = option(60, minimum=5, maximum=1440, help="minutes")
    spread: D = option(D(0), minimum=0, maximum=10, help="percent")
    page: str = option("light", choices=("light", "dark"), help="style")
    coin: str | None = option(None, max_length=8, help="coin")


class Bank(Provider):
    name = "Bank"
    options = BankOptions
    capabilities = frozenset()
    statuses = {}
    final = frozenset()
    signed_fields = frozenset()
    watch = timedelta(hours=1)

    def validate(self, request): ...

    def create(self, request): ...

    def fetch(self, remote, *, timeout=None): ...

    def probe(self): ...

    def verify(self, headers, body, *, url=""):
        return Hint()


class Halfway(Provider):
    """A provider without verify()."""

    name = "Halfway"
    options = BankOptions

    def validate(self, request): ...

    def create(self, request): ...

    def fetch(self, remote, *, timeout=None): ...

    def probe(self): ...


BANK = f"{__name__}.Bank"


def configured(**values):
    return override_settings(CRYPTO_INVOICES=values)


def accounts(**definitions):
    return configured(ACCOUNTS=definitions)


def bank(**options):
    return {"PROVIDER": BANK, "OPTIONS": {"api_key": KEY, **options}}


def resolve(alias):
    return {"known": bank(minutes=7), "broken": {"PROVIDER": "nowhere.Nothing"}}.get(alias)


# Reading


def test_defaults():
    with configured():
        read = conf.settings()
    assert read == conf.Settings(
        base_url="", accounts={}, dispatch="inline", late_payment="review", late_grace=timedelta(0), allow_sandbox=False,
        max_attempts=5, underpaid_tolerance=None, account_resolver="", notify="crypto_invoices.notify.mail_admins",
    )  # fmt: skip


def test_every_key_is_read():
    values = {
        "BASE_URL": "https://shop.example/", "ACCOUNTS": {"default": bank()}, "DISPATCH": "worker", "LATE_PAYMENT": "accept",
        "LATE_GRACE": timedelta(hours=2), "ALLOW_SANDBOX": True, "MAX_ATTEMPTS": 2, "UNDERPAID_TOLERANCE": D("1.5"),
        "ACCOUNT_RESOLVER": f"{__name__}.resolve", "NOTIFY": f"{__name__}.resolve",
    }  # fmt: skip
    with override_settings(CRYPTO_INVOICES=values):
        read = conf.settings()
    assert read == conf.Settings(
        base_url="https://shop.example", accounts={"default": bank()}, dispatch="worker", late_payment="accept",
        late_grace=timedelta(hours=2), allow_sandbox=True, max_attempts=2, underpaid_tolerance=D("1.5"),
        account_resolver=f"{__name__}.resolve", notify=f"{__name__}.resolve",
    )  # fmt: skip


def test_settings_are_read_lazily_and_override_settings_works():
    with configured(MAX_ATTEMPTS=2):
        assert conf.settings().max_attempts == 2
        with configured(MAX_ATTEMPTS=3):
            assert conf.settings().max_attempts == 3
        assert conf.settings().max_attempts == 2
    assert conf.settings().max_attempts == 5


def test_a_project_without_the_dict_has_the_defaults(settings):
    del settings.CRYPTO_INVOICES
    assert conf.settings() == conf.Settings()
    assert conf.account_aliases() == []


def test_providers_follow_the_settings():
    with accounts(default=bank(minutes=10)):
        assert conf.provider_for("default").account.minutes == 10
        assert conf.provider_for("default") is conf.provider_for("default")
        with accounts(default=bank(minutes=20), other=bank()):
            assert conf.provider_for("default").account.minutes == 20
            assert conf.account_aliases() == ["default", "other"]
        assert conf.provider_for("default").account.minutes == 10


MISTAKES = [
    ({"BASEURL": "https://shop.example"}, "BASEURL"),
    ({"base_url": "https://shop.example"}, "base_url"),
    ({"BASE_URL": None}, "BASE_URL"),
    ({"BASE_URL": b"https://shop.example"}, "BASE_URL"),
    ({"ACCOUNTS": []}, "ACCOUNTS"),
    ({"ACCOUNTS": None}, "ACCOUNTS"),
    ({"DISPATCH": "after_response"}, "DISPATCH"),
    ({"DISPATCH": "Inline"}, "DISPATCH"),
    ({"DISPATCH": None}, "DISPATCH"),
    ({"LATE_PAYMENT": "ignore"}, "LATE_PAYMENT"),
    ({"LATE_PAYMENT": True}, "LATE_PAYMENT"),
    ({"LATE_GRACE": 3600}, "LATE_GRACE"),
    ({"LATE_GRACE": "1h"}, "LATE_GRACE"),
    ({"ALLOW_SANDBOX": "yes"}, "ALLOW_SANDBOX"),
    ({"ALLOW_SANDBOX": 1}, "ALLOW_SANDBOX"),
    ({"MAX_ATTEMPTS": 0}, "MAX_ATTEMPTS"),
    ({"MAX_ATTEMPTS": -1}, "MAX_ATTEMPTS"),
    ({"MAX_ATTEMPTS": "5"}, "MAX_ATTEMPTS"),
    ({"MAX_ATTEMPTS": 2.0}, "MAX_ATTEMPTS"),
    ({"MAX_ATTEMPTS": True}, "MAX_ATTEMPTS"),
    ({"MAX_ATTEMPTS": None}, "MAX_ATTEMPTS"),
    ({"UNDERPAID_TOLERANCE": 0.01}, "UNDERPAID_TOLERANCE"),
    ({"UNDERPAID_TOLERANCE": D("-1")}, "UNDERPAID_TOLERANCE"),
    ({"UNDERPAID_TOLERANCE": D("10.01")}, "UNDERPAID_TOLERANCE"),
    ({"UNDERPAID_TOLERANCE": D("NaN")}, "UNDERPAID_TOLERANCE"),
    ({"UNDERPAID_TOLERANCE": True}, "UNDERPAID_TOLERANCE"),
    ({"UNDERPAID_TOLERANCE": "much"}, "UNDERPAID_TOLERANCE"),
    ({"ACCOUNT_RESOLVER": resolve}, "ACCOUNT_RESOLVER"),
    ({"NOTIFY": resolve}, "NOTIFY"),
    ({1: 2}, "1"),
]


@pytest.mark.parametrize(("values", "key"), MISTAKES, ids=lambda value: value if isinstance(value, str) else "")
def test_every_mistake_is_named(values, key):
    with override_settings(CRYPTO_INVOICES=values), pytest.raises(ImproperlyConfigured, match=f"'?{key}'?"):
        conf.settings()


@pytest.mark.parametrize("values", [None, [], "x", 1])
def test_something_else_than_a_dict(values):
    with override_settings(CRYPTO_INVOICES=values), pytest.raises(ImproperlyConfigured, match="CRYPTO_INVOICES"):
        conf.settings()


@pytest.mark.parametrize("tolerance", [D(0), D(10), D("0.01"), 1, "2.5", None])
def test_tolerance_from_0_to_10_percent(tolerance):
    with configured(UNDERPAID_TOLERANCE=tolerance):
        assert conf.settings().underpaid_tolerance == (None if tolerance is None else D(tolerance))


def test_configuration_errors_stand_outside_of_the_packages_errors():
    assert not issubclass(ImproperlyConfigured, CryptoInvoicesError)
    assert issubclass(conf.UnknownAccount, ImproperlyConfigured)
    assert not issubclass(conf.UnknownAccount, CryptoInvoicesError)


# Accounts


def test_an_account():
    with accounts(default=bank(sandbox=True, spread=D("2.5"), page="dark", coin="TRX")):
        provider = conf.provider_for("default")
    assert (type(provider).__name__, provider.alias, provider.sandbox) == ("Bank", "default", True)
    assert (provider.account.spread, provider.account.page, provider.account.coin) == (D("2.5"), "dark", "TRX")
    assert provider.account.api_key.current == KEY


@pytest.mark.parametrize("alias", ["other", "", "Default", "default "])
def test_unknown_account(alias):
    with accounts(default=bank()), pytest.raises(conf.UnknownAccount):
        conf.provider_for(alias)


@pytest.mark.parametrize(
    ("definition", "text"),
    [
        (None, "PROVIDER and OPTIONS"),
        ({}, "PROVIDER and OPTIONS"),
        ("oxapay", "PROVIDER and OPTIONS"),
        ({"OPTIONS": {}}, "PROVIDER and OPTIONS"),
        ({**bank(), "OPTION": {}}, "PROVIDER and OPTIONS"),
        ({"PROVIDER": "nowhere.at.All", "OPTIONS": {}}, "PROVIDER"),
        ({"PROVIDER": "crypto_invoices.providers.oxapay.Nothing", "OPTIONS": {}}, "PROVIDER"),
        ({"PROVIDER": "oxapay", "OPTIONS": {}}, "PROVIDER"),
        ({"PROVIDER": "decimal.Decimal", "OPTIONS": {}}, "PROVIDER"),
        ({"PROVIDER": Bank, "OPTIONS": {}}, "PROVIDER"),
        ({"PROVIDER": None, "OPTIONS": {}}, "PROVIDER"),
        ({"PROVIDER": BANK}, "api_key"),
        ({"PROVIDER": BANK, "OPTIONS": {}}, "api_key"),
        ({"PROVIDER": BANK, "OPTIONS": None}, "options"),
        ({"PROVIDER": BANK, "OPTIONS": []}, "options"),
        (bank(api_key=""), "api_key"),
        (bank(api_key=None), "api_key"),
        (bank(apikey="x"), "apikey"),
        (bank(minutes="60"), "minutes"),
        (bank(minutes=4), "minutes"),
        (bank(minutes=True), "minutes"),
        (bank(sandbox="false"), "sandbox"),
        (bank(sandbox=1), "sandbox"),
        (bank(spread=0.1), "spread"),
        (bank(spread=11), "spread"),
        (bank(page="red"), "page"),
        (bank(coin="x" * 9), "coin"),
        (bank(base_url=None), "base_url"),
    ],
)
def test_every_mistake_of_an_account_is_named(definition, text):
    with accounts(shop=definition), pytest.raises(ImproperlyConfigured) as caught:
        conf.provider_for("shop")
    assert "'shop'" in str(caught.value)
    assert text in str(caught.value)
    assert KEY not in str(caught.value)


def test_T01_a_provider_without_a_verifier_is_refused():
    with accounts(shop={**bank(), "PROVIDER": f"{__name__}.Halfway"}), pytest.raises(ImproperlyConfigured):
        conf.provider_for("shop")


@pytest.mark.parametrize(
    "base_url",
    [
        "http://api.oxapay.com", "ftp://api.oxapay.com", "//api.oxapay.com", "api.oxapay.com", "", "https://",
        "https://user:password@api.oxapay.com", "https://10.0.0.1", "https://192.168.1.1/v1", "https://169.254.169.254",
        "https://[fd00::1]/", "http://10.0.0.1", "http://localhost.example", "https://api.oxapay.com/v1?x=1", "https://a b",
    ],
)  # fmt: skip
def test_E010_a_base_url_that_is_refused(base_url):
    definition = {
        "PROVIDER": "crypto_invoices.providers.oxapay.OxaPay",
        "OPTIONS": {"merchant_api_key": KEY, "base_url": base_url},
    }
    with accounts(shop=definition), pytest.raises(ImproperlyConfigured, match="base_url"):
        conf.provider_for("shop")


@pytest.mark.parametrize(
    "base_url", ["https://api.oxapay.com/v1", "http://127.0.0.1:8001/simulator/oxapay/v1", "http://[::1]:8001"]
)
def test_E010_https_or_http_to_a_loopback_literal(base_url):
    definition = {
        "PROVIDER": "crypto_invoices.providers.oxapay.OxaPay",
        "OPTIONS": {"merchant_api_key": KEY, "base_url": base_url},
    }
    with accounts(shop=definition):
        assert type(conf.provider_for("shop")) is OxaPay


def test_the_path_of_a_provider():
    with accounts(shop=bank()):
        assert conf.provider_path(conf.provider_for("shop")) == BANK


# ACCOUNT_RESOLVER


def test_account_resolver():
    with configured(ACCOUNT_RESOLVER=f"{__name__}.resolve", ACCOUNTS={"default": bank()}):
        provider = conf.provider_for("known")
        assert (provider.alias, provider.account.minutes) == ("known", 7)
        with pytest.raises(conf.UnknownAccount):
            conf.provider_for("unknown")
        with pytest.raises(ImproperlyConfigured, match="PROVIDER"):
            conf.provider_for("broken")


def test_a_resolved_account_keeps_its_provider_while_its_definition_is_equal(monkeypatch):
    tenants = {"one": bank(minutes=7), "two": bank(minutes=7)}
    monkeypatch.setattr(sys.modules[__name__], "resolve", lambda alias: copy.deepcopy(tenants[alias]))
    with configured(ACCOUNT_RESOLVER=f"{__name__}.resolve"):
        one, two = conf.provider_for("one"), conf.provider_for("two")
        assert conf.provider_for("one") is one
        assert (one.alias, two.alias) == ("one", "two")
        tenants["one"]["OPTIONS"]["minutes"] = 8
        assert (conf.provider_for("one").account.minutes, one.account.minutes) == (8, 7)
        tenants["one"]["OPTIONS"].update(minutes=7, api_key="ANOTHER-KEY-OF-THE-TESTS")
        changed = conf.provider_for("one")
        assert changed is not one and changed.account.api_key.current == "ANOTHER-KEY-OF-THE-TESTS"
        assert conf.provider_for("two") is two


def test_only_so_many_resolved_providers_are_kept(monkeypatch):
    monkeypatch.setattr(conf, "RESOLVED_KEPT", 2)
    monkeypatch.setattr(sys.modules[__name__], "resolve", lambda alias: bank())
    with configured(ACCOUNT_RESOLVER=f"{__name__}.resolve"):
        first = conf.provider_for("a0")
        last = [conf.provider_for(f"a{number}") for number in range(1, 3)]
        assert [conf.provider_for("a1"), conf.provider_for("a2")] == last
        assert conf.provider_for("a0") is not first


def test_an_account_resolver_that_cannot_be_imported_is_a_configuration_error():
    with configured(ACCOUNT_RESOLVER="nowhere.resolve"), pytest.raises(ImproperlyConfigured, match="ACCOUNT_RESOLVER"):
        conf.provider_for("default")


# Environment variables


def from_env(**variables):
    env = environ.Env()
    env.ENVIRON = {f"CRYPTO_INVOICES_{name}": value for name, value in variables.items()}
    return conf.accounts_from_env(env)


def test_accounts_from_env():
    read = from_env(
        ACCOUNTS="default,eu-shop", DEFAULT_PROVIDER="oxapay", DEFAULT_MERCHANT_API_KEY=KEY, EU_SHOP_PROVIDER=BANK,
        EU_SHOP_API_KEY="new-key-of-the-shop, old-key-of-the-shop", EU_SHOP_SANDBOX="true", EU_SHOP_MINUTES="30",
        EU_SHOP_SPREAD="2.5", EU_SHOP_PAGE="dark", EU_SHOP_COIN="TRX",
    )  # fmt: skip
    assert read == {
        "default": {"PROVIDER": "crypto_invoices.providers.oxapay.OxaPay", "OPTIONS": {"merchant_api_key": [KEY]}},
        "eu-shop": {
            "PROVIDER": BANK,
            "OPTIONS": {
                "api_key": ["new-key-of-the-shop", "old-key-of-the-shop"], "sandbox": True, "minutes": 30, "spread": D("2.5"),
                "page": "dark", "coin": "TRX",
            },
        },
    }  # fmt: skip
    with override_settings(CRYPTO_INVOICES={"ACCOUNTS": read}):
        keys = conf.provider_for("eu-shop").account.api_key
        assert [key.reveal() for key in keys] == ["new-key-of-the-shop", "old-key-of-the-shop"]
        assert keys.current == "new-key-of-the-shop"
        assert conf.provider_for("default").account.merchant_api_key.current == KEY


def test_no_accounts_in_the_environment():
    assert from_env() == {}


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("on", True), ("False", False), ("no", False)])
def test_a_bool_in_the_environment(text, value):
    read = from_env(ACCOUNTS="a", A_PROVIDER=BANK, A_API_KEY=KEY, A_SANDBOX=text)
    assert read["a"]["OPTIONS"]["sandbox"] is value


@pytest.mark.parametrize(
    ("change", "variable"),
    [
        ({"A_PROVIDER": None}, "CRYPTO_INVOICES_A_PROVIDER"),
        ({"A_PROVIDER": "nopay"}, "CRYPTO_INVOICES_A_PROVIDER"),
        ({"A_PROVIDER": ""}, "CRYPTO_INVOICES_A_PROVIDER"),
        ({"A_PROVIDER": "nowhere.Pay"}, "CRYPTO_INVOICES_A_PROVIDER"),
        ({"A_PROVIDER": "base"}, "CRYPTO_INVOICES_A_PROVIDER"),
        ({"A_API_KEY": None}, "CRYPTO_INVOICES_A_API_KEY"),
        ({"A_API_KEY": ""}, "CRYPTO_INVOICES_A_API_KEY"),
        ({"A_API_KEY": "changeme"}, "CRYPTO_INVOICES_A_API_KEY"),
        ({"A_API_KEY": f"{KEY},"}, "CRYPTO_INVOICES_A_API_KEY"),
        ({"A_SANDBOX": "maybe"}, "CRYPTO_INVOICES_A_SANDBOX"),
        ({"A_SANDBOX": ""}, "CRYPTO_INVOICES_A_SANDBOX"),
        ({"A_MINUTES": "4"}, "CRYPTO_INVOICES_A_MINUTES"),
        ({"A_MINUTES": "an hour"}, "CRYPTO_INVOICES_A_MINUTES"),
        ({"A_MINUTES": "٦٠"}, "CRYPTO_INVOICES_A_MINUTES"),
        ({"A_MINUTES": "9" * 5000}, "CRYPTO_INVOICES_A_MINUTES"),
        ({"A_SPREAD": "NaN"}, "CRYPTO_INVOICES_A_SPREAD"),
        ({"A_SPREAD": "11"}, "CRYPTO_INVOICES_A_SPREAD"),
        ({"A_PAGE": "red"}, "CRYPTO_INVOICES_A_PAGE"),
        ({"A_APIKEY": KEY}, "CRYPTO_INVOICES_A_APIKEY: no option of this account; known are API_KEY, BASE_URL"),
        ({"A_OPTIONS": "x"}, "CRYPTO_INVOICES_A_OPTIONS"),
        ({"A_": "x"}, "CRYPTO_INVOICES_A_"),
    ],
)
def test_a_missing_or_wrong_variable_is_named(change, variable):
    variables = {"ACCOUNTS": "a", "A_PROVIDER": BANK, "A_API_KEY": KEY} | change
    with pytest.raises(ImproperlyConfigured) as caught:
        from_env(**{name: value for name, value in variables.items() if value is not None})
    assert variable in str(caught.value)
    assert KEY not in str(caught.value)


def test_variables_of_an_account_with_a_longer_name_are_its_own():
    variables = {"ACCOUNTS": "shop,shop-eu", "SHOP_PROVIDER": BANK, "SHOP_API_KEY": KEY, "SHOP_EU_PROVIDER": BANK}
    variables |= {
        "SHOP_EU_API_KEY": KEY,
        "SHOP_EU_MINUTES": "30",
        "SHOPPING": "is no variable of an account",
        "OTHER_KEY": "nor this",
    }
    assert list(from_env(**variables)) == ["shop", "shop-eu"]
    with pytest.raises(ImproperlyConfigured, match="CRYPTO_INVOICES_SHOP_EU_MINUTE: no option"):
        from_env(**variables, SHOP_EU_MINUTE="30")
    with pytest.raises(ImproperlyConfigured, match="CRYPTO_INVOICES_SHOP_US_MINUTES: no option"):
        from_env(**variables, SHOP_US_MINUTES="30")


def test_another_prefix():
    env = environ.Env()
    env.ENVIRON = {"PAY_ACCOUNTS": "a", "PAY_A_PROVIDER": BANK, "PAY_A_API_KEY": KEY}
    assert conf.accounts_from_env(env, prefix="PAY") == {"a": {"PROVIDER": BANK, "OPTIONS": {"api_key": [KEY]}}}
