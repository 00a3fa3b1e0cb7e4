from decimal import Decimal

import pytest
from django.core.management import call_command
from django.urls import reverse

from crypto_invoices.exceptions import GatewayUnavailable
from crypto_invoices.models import Invoice
from crypto_invoices.providers.base import RemoteInvoice
from crypto_invoices.providers.oxapay import OxaPay
from crypto_invoices.services import accept_invoice
from example_project.shop import ways
from example_project.shop.models import Order, OrderLine, Product, Shipment

PAYMENT_URL = "https://pay.oxapay.com/10720216/184198827"


@pytest.fixture
def products(transactional_db):
    call_command("seed_shop", verbosity=0)


@pytest.fixture
def gateway(monkeypatch):
    """The create requests that reached a gateway which always answers."""
    requests = []

    def create(self, request):
        requests.append(request)
        return RemoteInvoice(gateway_id=f"18419882{len(requests)}", payment_url=PAYMENT_URL)

    monkeypatch.setattr(OxaPay, "create", create)
    return requests


def check_out(client, *slugs):
    for slug in slugs:
        client.post(reverse("shop:cart_add", args=[slug]))
    return client.post(reverse("shop:checkout"), {"email": "payer@example.com", "way": "oxapay"})


def status_of(client, order):
    return client.get(reverse("shop:order_status", args=[order.number])).json()


def test_products_and_cart(client, products):
    assert "Teapot" in client.get(reverse("shop:products")).text
    client.post(reverse("shop:cart_add", args=["teapot"]))
    client.post(reverse("shop:cart_add", args=["teapot"]))
    assert "118.00 USD" in client.get(reverse("shop:cart")).text
    client.post(reverse("shop:cart_remove", args=["teapot"]))
    assert "Your cart is empty" in client.get(reverse("shop:cart")).text


def test_seeding_twice_changes_nothing(products):
    call_command("seed_shop", verbosity=0)
    assert Product.objects.count() == 4


def test_a_cart_has_one_currency(client, products):
    client.post(reverse("shop:cart_add", args=["teapot"]))
    answer = client.post(reverse("shop:cart_add", args=["hardware-wallet"]), follow=True)
    assert "please order it on its own" in answer.text
    assert client.session["cart"] == {str(Product.objects.get(slug="teapot").pk): 1}


def test_an_empty_cart_cannot_be_checked_out(client, products):
    assert client.get(reverse("shop:checkout")).url == reverse("shop:cart")


def test_checkout_asks_for_an_email(client, products):
    client.post(reverse("shop:cart_add", args=["teapot"]))
    assert "59.00 USD" in client.get(reverse("shop:checkout")).text
    assert "This field is required." in client.post(reverse("shop:checkout"), {"way": "oxapay"}).text
    assert not Order.objects.exists()


def test_checkout_offers_the_gateways_that_are_configured(client, products):
    client.post(reverse("shop:cart_add", args=["teapot"]))
    page = client.get(reverse("shop:checkout"))
    assert page.context["form"].fields["way"].choices == [("oxapay", "OxaPay")]
    assert 'value="oxapay" required id="id_way_0" checked' in page.text
    form = {"email": "payer@example.com", "way": "txn-xrp"}
    assert "Select a valid choice" in client.post(reverse("shop:checkout"), form).text
    assert not Order.objects.exists()


@pytest.mark.parametrize(
    ("total", "currency", "refused"),
    [("59", "USD", set()), ("24.90", "USD", {"txn-usdt", "txn-xrp"}), ("79", "USDT", {"goodpayments", "txcash"})],
)
def test_a_price_that_a_gateway_does_not_take_is_not_offered_there(monkeypatch, total, currency, refused):
    monkeypatch.setattr(ways, "account_aliases", lambda: [way.account for way in ways.WAYS.values()])
    assert ways.ways_for(Decimal(total), currency).keys() == ways.WAYS.keys() - refused


@pytest.mark.django_db(transaction=True)
def test_the_gateway_is_told_what_the_customer_chose(client, gateway, monkeypatch):
    monkeypatch.setattr(OxaPay, "validate", lambda self, request: None)  # whose hosted page leaves the choice to the payer
    monkeypatch.setitem(ways.WAYS, "second-trx", ways.Way("TRX", "second", pay_currencies=("TRX",)))
    order = Order.objects.create(email="payer@example.com", total="59.00", currency="USD", way="second-trx")
    client.post(reverse("shop:pay", args=[order.number]))
    assert gateway[0].pay_currencies == ("TRX",)
    assert Invoice.objects.get().attempts.get().account == "second"


def test_checkout_sends_the_payer_to_the_invoice(client, products, gateway):
    answer = check_out(client, "coffee", "teapot", "coffee")
    order = Order.objects.get()
    invoice = Invoice.objects.get()
    assert answer.url == invoice.get_absolute_url()
    assert order.invoice == invoice
    assert (invoice.amount, invoice.currency, invoice.order_id) == (Decimal("108.80"), "USD", order.number)
    assert invoice.return_url == f"https://shop.example/orders/{order.number}/"
    assert list(OrderLine.objects.values_list("product__slug", "quantity")) == [("coffee", 2), ("teapot", 1)]
    assert "cart" not in client.session
    assert len(gateway) == 1


def test_paying_again_makes_no_second_invoice(client, products, gateway):
    check_out(client, "teapot")
    order = Order.objects.get()
    answer = client.post(reverse("shop:pay", args=[order.number]))
    assert answer.url == Invoice.objects.get().get_absolute_url()
    assert len(gateway) == 1


def test_a_gateway_that_is_away_keeps_the_order(client, products, gateway, monkeypatch):
    def create(self, request):
        raise GatewayUnavailable("connection refused", gateway="OxaPay", operation="create")

    with monkeypatch.context() as patch:
        patch.setattr(OxaPay, "create", create)
        answer = check_out(client, "teapot")
    order = Order.objects.get()
    assert answer.url == order.get_absolute_url()
    page = client.get(order.get_absolute_url()).text
    assert "could not be started" in page
    assert "Pay now" in page
    assert client.post(reverse("shop:pay", args=[order.number])).url == Invoice.objects.get().get_absolute_url()


def test_a_paid_order_is_shipped_once(client, products, gateway, admin_user):
    check_out(client, "teapot")
    order = Order.objects.get()
    assert status_of(client, order)["status"] == "placed"

    accept_invoice(order.invoice, reason="paid in cash", user=admin_user)

    order.refresh_from_db()
    assert order.shipped_at is not None
    assert Shipment.objects.filter(order=order).count() == 1
    status = status_of(client, order)
    assert {"invoice_created", "invoice_paid"} <= set(status.pop("signals"))
    assert status == {
        "order": order.number,
        "status": "shipped",
        "shipments": 1,
        "invoice": {
            "uuid": str(order.invoice.uuid),
            "status": "paid",
            "needs_review": False,
            "late": False,
            "manual": True,
            "amount": "59",
            "currency": "USD",
            "amount_received": None,
        },
    }
    page = client.get(order.get_absolute_url()).text
    assert "Paid and shipped" in page
    assert "Pay now" not in page


def test_an_unknown_order(client, db):
    assert client.get(reverse("shop:order", args=["NOSUCHORDR"])).status_code == 404
    assert client.get(reverse("shop:order_status", args=["NOSUCHORDR"])).status_code == 404
