"""The README's Python, run as it stands there, with a gateway that always answers."""

import re
import sys
from decimal import Decimal
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from django.urls import URLPattern, URLResolver

import example_project.shop.models
from crypto_invoices import signals
from crypto_invoices.models import Invoice
from crypto_invoices.providers.base import RemoteInvoice
from crypto_invoices.providers.oxapay import OxaPay
from crypto_invoices.services import accept_invoice
from example_project.shop.models import Order

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


def test_a_customers_own_address(monkeypatch, capsys):
    asked = []

    def create_static_address(**arguments):
        asked.append(arguments)
        return SimpleNamespace(address="TAddress")

    monkeypatch.setattr("crypto_invoices.services.create_static_address", create_static_address)
    try:
        code = run(block("python", "deposit_received"), __name__="shop")
        assert code["give_address"](SimpleNamespace(pk=7)) == "TAddress"
        assert asked == [{"account": "tron", "pay_currency": "USDT@tron", "customer": "7"}]
        (connection,) = signals.deposit_received.connections()
        assert connection.key == "shop.top_up"
        transfer = SimpleNamespace(amount=Decimal("10.5"), currency="USDT")
        connection.call(
            signals.deposit_received, None, static_address=SimpleNamespace(customer="7"), transfer=transfer, event_id="1.1"
        )
        assert capsys.readouterr().out == "7 10.5 USDT\n"
    finally:
        signals.deposit_received.disconnect(dispatch_uid="shop.top_up")
