"""The README's Python, run as it stands there, with a gateway that always answers."""

import json
import re
import sys
from dataclasses import MISSING, fields
from decimal import Decimal
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from django.urls import URLPattern, URLResolver

import example_project.shop.models
from crypto_invoices import conf, signals
from crypto_invoices.models import Invoice, StaticAddress
from crypto_invoices.providers.base import Capability, Kind, RemoteInvoice
from crypto_invoices.providers.oxapay import OxaPay
from crypto_invoices.services import accept_invoice
from crypto_invoices.simulator import registry
from example_project.shop.models import Order
from tests.contract.test_broken_providers import CONTRACTS

README = (Path(__file__).parent.parent / "README.md").read_text()
PAYMENT_URL = "https://pay.oxapay.com/10720216/184198827"


def block(language, start):
    """The one code block of the README that has ``start`` in it."""
    found = [
        text for kind, text in re.findall(r"^```(\w+)\n(.*?)^```$", README, re.M | re.S) if kind == language and start in text
    ]
    assert len(found) == 1
    return found[0]


def run(source, **names):
    exec(compile(source, "README.md", "exec"), names)
    return names


def test_every_python_block_is_run_below():
    assert README.count("```python") == 4


def test_settings(monkeypatch):
    for line in block("sh", "CRYPTO_INVOICES_ACCOUNTS").splitlines()[1:]:
        monkeypatch.setenv(*line.split("=", 1))
    settings = run(block("python", "# settings.py"), INSTALLED_APPS=[])
    assert settings["INSTALLED_APPS"] == ["crypto_invoices"]
    assert settings["CRYPTO_INVOICES"]["ACCOUNTS"] == {
        "default": {
            "PROVIDER": "crypto_invoices.providers.oxapay.OxaPay",
            "OPTIONS": {"merchant_api_key": ["XXXXXX-XXXXXX-XXXXXX-XXXXXX"]},
        }
    }


def test_urls():
    (included,) = run(block("python", "# urls.py"), urlpatterns=[])["urlpatterns"]
    assert isinstance(included, URLResolver)
    assert "callback" in {pattern.name for pattern in included.url_patterns if isinstance(pattern, URLPattern)}


@pytest.fixture
def shop(monkeypatch):
    """The README's shop code, with the example's Order as the model that it imports."""
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.models", example_project.shop.models)
    monkeypatch.setattr(OxaPay, "create", lambda self, request: RemoteInvoice(gateway_id="184198827", payment_url=PAYMENT_URL))
    yield run(block("python", "create_invoice("), __name__="shop.readme")
    signals.invoice_paid.disconnect(dispatch_uid="shop.ship")


def test_the_shops_code(shop, transactional_db, rf, client, admin_user):
    order = Order.objects.create(email="payer@example.com", total="24.90", currency="USD")
    answers = [shop["pay"](rf.post("/"), order.number) for _ in range(2)]
    invoice = Invoice.objects.get()
    assert [answer.url for answer in answers] == [invoice.get_absolute_url()] * 2
    assert client.get(invoice.get_absolute_url()).url == invoice.payment_url == PAYMENT_URL

    signals.invoice_paid.disconnect(dispatch_uid="shop.ship_order")  # the example's own
    try:
        accept_invoice(invoice, reason="paid in cash", user=admin_user)
    finally:
        signals.invoice_paid.connect(example_project.shop.receivers.ship, dispatch_uid="shop.ship_order")
    order.refresh_from_db()
    assert order.status == "shipped"


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:crypto_invoices|example_project)/[\w/.]+)`", README))))
def test_what_it_names_is_there(path):
    assert (Path(__file__).parent.parent / path).exists()


@pytest.fixture
def static_addresses(transactional_db, monkeypatch):
    """The README's code for static addresses; the addresses that the gateway gives, in their order."""
    given = [("TFirst", ""), ("rSecond", "77"), ("TNever", "")]
    made = iter(given)

    def create(self, request):
        (address, tag) = next(made)
        return RemoteInvoice(kind=Kind.STATIC_ADDRESS, gateway_id=address, address=address, address_tag=tag)

    monkeypatch.setattr(OxaPay, "create_static_address", create)
    yield run(block("python", "deposit_received"), __name__="shop")
    signals.deposit_received.disconnect(dispatch_uid="shop.top_up")


def test_a_customers_own_address(static_addresses, rf, capsys):
    def ask(customer):
        request = rf.get("/")
        request.user = SimpleNamespace(pk=customer)
        return json.loads(static_addresses["address"](request).content)

    assert [ask(7), ask(8), ask(7)] == [{"address": "TFirst"}, {"address": "rSecond", "tag": "77"}, {"address": "TFirst"}]
    assert list(StaticAddress.objects.order_by("pk").values_list("customer", "pay_currency")) == [
        ("7", "USDT@tron"),
        ("8", "USDT@tron"),
    ]
    (connection,) = signals.deposit_received.connections()
    assert connection.key == "shop.top_up"
    transfer = SimpleNamespace(amount=Decimal("10.5"), currency="USDT")
    kept = StaticAddress.objects.get(customer="7")
    connection.call(signals.deposit_received, None, static_address=kept, transfer=transfer, event_id="1.1")
    assert capsys.readouterr().out == "7 10.5 USDT\n"


# What the tables say


def table(head):
    """``{first cell: the other cells}`` of the table whose head begins so."""
    lines = README.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(head))
    rows = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return rows
        first, *others = (cell.strip() for cell in line.strip("|").split("|"))
        rows[first] = others
    return rows


def named(cell):
    return set(re.findall(r"`([^`]+)`", cell))


def test_the_settings_are_all_there_with_their_defaults():
    told = {name.strip("`"): default for name, (default, _) in table("| key | default").items()}
    assert told == {item.name.upper(): f"`{_written(getattr(conf.Settings(), item.name))}`" for item in fields(conf.Settings)}


def _written(value):
    return f'"{value}"' if isinstance(value, str) else repr(value).replace("datetime.", "")


PROVIDERS = {"oxapay": "OxaPay", "goodpayments": "goodPayments", "txcash": "tx.cash", "txn": "txn.io", "onchainpay": "OnchainPay"}


def provider_of(contract):
    return conf.import_provider(contract.provider_path)


def test_the_options_of_every_gateway():
    rows = table("| provider | required")
    assert list(rows) == [f"`{name}`" for name in PROVIDERS]
    for name, title in PROVIDERS.items():
        options = fields(provider_of(CONTRACTS[title]).options)
        required, wanted = map(named, rows[f"`{name}`"])
        assert required - {"base_url", "sandbox"} == {item.name for item in options if item.default is MISSING}
        assert required | wanted <= {item.name for item in options}


def test_what_every_gateway_can_and_takes():
    can, takes = table("| | provider | callbacks"), table("| | price in")
    assert list(can) == list(takes) == list(PROVIDERS.values())
    for name, title in PROVIDERS.items():
        contract, provider = CONTRACTS[title], provider_of(CONTRACTS[title])
        word, callbacks, _, cancel, static = can[title]
        assert word == f"`{name}`"
        assert callbacks.startswith("unsigned") is not (Capability.SIGNED_CALLBACKS in provider.capabilities)
        assert (cancel == "yes") is (Capability.CANCEL in provider.capabilities)
        assert static.startswith("yes") is (Capability.STATIC_ADDRESS in provider.capabilities)
        assert ("revocable" in static) is (Capability.REVOKE_STATIC_ADDRESS in provider.capabilities)
        _, _, unsupported, unsent, own = takes[title]
        assert (named(unsupported), named(unsent)) == (contract.unsupported, contract.unsent)
        assert own.startswith("yes") is (Capability.OWN_PAGE in provider.capabilities)


def test_the_simulators_base_urls_and_settings():
    rows = table("| provider | `base_url`")
    assert list(rows) == [f"`{name}`" for name in PROVIDERS]
    for name in PROVIDERS:
        path, setting = rows[f"`{name}`"]
        gateway = registry.find(name)
        paths = [f"{name}/{pattern.pattern}".replace("^", "") for pattern in gateway.urlpatterns]
        assert any(one.startswith(f"{path.strip('`')}/") for one in paths), paths
        section, key = re.match(r'`SIMULATOR\["(\w+)"\]\["(\w+)"\]`', setting).groups()
        assert section == name.upper() and key in gateway.settings
