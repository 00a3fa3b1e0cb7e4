import logging

from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from crypto_invoices.exceptions import CryptoInvoicesError
from crypto_invoices.services import create_invoice, start_attempt
from crypto_invoices.statuses import InvoiceStatus

from .cart import Cart, OtherCurrency
from .forms import CheckoutForm
from .models import Order, OrderLine, Product
from .ways import WAYS

logger = logging.getLogger(__name__)

# What the page of an order that is not shipped says, by the status of its payment.
HEADLINES = {
    InvoiceStatus.CONFIRMING: "A payment was seen; we wait until all of it is there",
    InvoiceStatus.UNDERPAID: "Less than the price came in time; we will write to you",
    InvoiceStatus.EXPIRED: "The time to pay has run out",
}
PAYABLE = {InvoiceStatus.PENDING, InvoiceStatus.CONFIRMING, InvoiceStatus.EXPIRED}


@require_GET
def product_list(request):
    return render(request, "shop/products.html", {"products": Product.objects.all(), "cart": Cart(request)})


@require_GET
def cart(request):
    return render(request, "shop/cart.html", {"cart": Cart(request)})


@require_POST
def cart_add(request, slug):
    product = get_object_or_404(Product, slug=slug)
    try:
        Cart(request).add(product)
    except OtherCurrency:
        messages.error(request, f"{product} has a price in {product.currency}: please order it on its own.")
        return redirect("shop:products")
    return redirect("shop:cart")


@require_POST
def cart_remove(request, slug):
    Cart(request).remove(get_object_or_404(Product, slug=slug))
    return redirect("shop:cart")


@transaction.non_atomic_requests  # the order and the invoice are committed before the gateway is called
def checkout(request):
    cart = Cart(request)
    if not cart.lines:
        return redirect("shop:cart")
    form = CheckoutForm(request.POST if request.method == "POST" else None, cart=cart)
    if not form.is_valid():
        return render(request, "shop/checkout.html", {"cart": cart, "form": form})
    with transaction.atomic():
        order = Order.objects.create(**form.cleaned_data, total=cart.total, currency=cart.currency)
        OrderLine.objects.bulk_create(
            OrderLine(order=order, product=line.product, quantity=line.quantity, price=line.product.price) for line in cart.lines
        )
    cart.clear()
    return go_and_pay(request, order)


@require_POST
@transaction.non_atomic_requests
def pay(request, number):
    return go_and_pay(request, get_object_or_404(Order, number=number))


def go_and_pay(request, order):
    """Sends the payer to the invoice; the key makes sure that an order has one, however often this runs."""
    way = WAYS[order.way]
    page = settings.CRYPTO_INVOICES["BASE_URL"] + order.get_absolute_url()
    try:
        invoice = create_invoice(
            account=way.account,
            pay_currencies=way.pay_currencies,
            amount=order.total,
            currency=order.currency,
            order_id=order.number,
            email=order.email,
            description=f"Order {order.number}",
            return_url=page,
            cancel_url=page if way.takes_cancel_url else "",
            idempotency_key=f"order-{order.number}",
        )
        if invoice.status == InvoiceStatus.EXPIRED and invoice.live_attempt is None:
            start_attempt(invoice, by_payer=True)
        destination = invoice
    except CryptoInvoicesError as error:
        logger.warning("order %s: %s", order, error)
        messages.error(request, "The payment could not be started. Your order is kept: please try again soon.")
        invoice = error.invoice or order.invoice
        destination = order
    Order.objects.filter(pk=order.pk).update(invoice=invoice)
    return redirect(destination)


@require_GET
@never_cache
def order(request, number):
    order = find_order(number)
    return render(request, "shop/order.html", {"order": order, "state": state(order), **prospects(order)})


def prospects(order):
    """What the page says first, and whether the customer can pay."""
    invoice = order.invoice
    if order.status == Order.Status.SHIPPED or invoice is None:
        return {"headline": order.get_status_display(), "payable": invoice is None}
    if invoice.needs_review:
        return {"headline": "Something about the payment is unusual; we are looking into it", "payable": False}
    if invoice.status == InvoiceStatus.UNDERPAID and invoice.live_attempt:
        return {"headline": "Less than the price has come; please pay the rest", "payable": True}
    headline = HEADLINES.get(invoice.status, order.get_status_display())
    return {"headline": headline, "payable": invoice.status in PAYABLE}


@require_GET
@never_cache
def order_status(request, number):
    return JsonResponse(state(find_order(number)))


def find_order(number):
    return get_object_or_404(Order.objects.select_related("invoice"), number=number)


def state(order):
    """The order and its payment, for the order page and for the demo."""
    invoice = order.invoice
    return {
        "order": order.number,
        "status": order.status,
        "shipments": order.shipments.count(),
        "signals": list(order.notes.values_list("signal", flat=True)),
        "invoice": invoice
        and {
            "uuid": str(invoice.uuid),
            "status": invoice.status,
            "needs_review": invoice.needs_review,
            "late": invoice.late,
            "manual": invoice.manual,
            "amount": plain(invoice.amount),
            "currency": invoice.currency,
            "amount_received": plain(invoice.amount_received),
        },
    }


def plain(amount):
    """An amount as text without trailing zeros; None stays None."""
    return amount if amount is None else f"{amount.normalize():f}"
