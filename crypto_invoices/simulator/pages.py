"""Pages for people: the list of payments, the payer's page with its buttons, the switches."""

import segno
from django.http import Http404
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from crypto_invoices.money import format_amount

from . import actions, callbacks, coins, misbehaviour, registry
from .errors import BadField, Refused
from .gateway import ACTIONS
from .models import CallbackJob, Delivery, Misbehaviour, Payment

SHOWN = 200
WHO = {
    "payer": "The payer",
    "network": "The network",
    "clock": "The clock",
    "gateway": "The gateway",
    "merchant": "The merchant, in the gateway's panel",
}
HINTS = {"pay_part": "half", "pay_more": "a tenth more"}  # what an empty amount means


@require_safe
def index(request):
    """The newest payments of every gateway."""
    actions.advance_due()
    context = {"payments": Payment.objects.all()[:SHOWN], "gateways": registry.all_gateways(), "shown": SHOWN}
    return render(request, "crypto_invoices_simulator/index.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def pay(request, gateway, gateway_id):
    """The page that the payer is sent to, with a button for everything that can happen next."""
    problem = ""
    try:
        if request.method == "POST":
            problem = _press(request, gateway, gateway_id)
            if not problem:
                return redirect(request.path)
        payment = actions.current(gateway, gateway_id)
    except Payment.DoesNotExist:
        raise Http404("no such payment") from None
    found = registry.find(gateway)
    rest = format_amount(found.rest(payment)) if payment.amount is not None and payment.address else ""
    context = {
        "payment": payment,
        "gateway": found,
        "network": coins.NETWORKS.get(payment.network),
        "rest": rest,
        "qr": segno.make(payment.address).svg_data_uri(scale=4, border=2) if payment.address else "",
        "groups": _groups(found, payment),
        "links": [link for link in found.links(payment) if link[1].startswith(("https://", "http://"))],
        "transfers": payment.transfers.all(),
        "deliveries": Delivery.objects.filter(job__payment=payment).select_related("job"),
        "to_come": payment.jobs.filter(state__in=(CallbackJob.WAITING, CallbackJob.HELD)),
        "problem": problem,
    }
    return render(request, "crypto_invoices_simulator/pay.html", context, status=409 if problem else 200)


@require_http_methods(["GET", "HEAD", "POST"])
def switches(request, gateway):
    """The gateway's misbehaviour switches."""
    found = registry.find(gateway)
    if found is None:
        raise Http404("no such gateway")
    problem = ""
    if request.method == "POST":
        problem = _switch(request, gateway)
        if not problem:
            return redirect(reverse("simulator:switches", args=[gateway]))
    on = {row.switch: row for row in Misbehaviour.objects.filter(gateway=gateway)}
    rows = [{"name": name, "switch": switch, "on": on.get(name)} for name, switch in misbehaviour.SWITCHES.items()]
    context = {"gateway": found, "rows": rows, "problem": problem}
    return render(request, "crypto_invoices_simulator/switches.html", context, status=400 if problem else 200)


def _press(request, gateway, gateway_id):
    action = request.POST.get("action", "")
    given = {name: request.POST[name] for name in ("amount", "currency", "network") if request.POST.get(name)}
    if "option" in request.POST:
        given["currency"], _, given["network"] = request.POST["option"].partition("@")
    try:
        actions.act(gateway, gateway_id, action, **given)
    except (BadField, Refused) as error:
        return str(error)
    return ""


def _switch(request, gateway):
    name = request.POST.get("switch", "")
    if request.POST.get("do") == "off":
        misbehaviour.switch_off(gateway, name)
        if name == "callback_reorder":
            callbacks.release_held(gateway)
        return ""
    numbers = {field: request.POST[field] for field in ("count", "percent") if request.POST.get(field)}
    try:
        numbers = {field: int(text) for field, text in numbers.items()}
        misbehaviour.switch_on(gateway, name, request.POST.get("value") or None, **numbers)
    except ValueError:
        return "count, percent: whole numbers"
    except BadField as error:
        return str(error)
    return ""


def _groups(gateway, payment):
    """The possible actions as (who, forms), each form with its inputs and a sensible amount."""
    offered = gateway.offered(payment)
    current = (payment.pay_currency, payment.network)
    open_ended = payment.amount is None or (payment.address and gateway.rest(payment) <= 0)  # no amount is asked for
    options = [
        {"value": f"{symbol}@{key}", "label": f"{symbol} on {coins.NETWORKS[key].title}", "current": (symbol, key) == current}
        for symbol, key in gateway.options(payment)
    ]
    forms = {}
    for name in offered:
        action = ACTIONS[name]
        asks_amount = "amount" in action.fields and (name != "pay" or open_ended)
        asks_coin = name == "choose" or ("currency" in action.fields and not payment.pay_currency)
        form = {"name": name, "label": action.label, "options": options if asks_coin else []}
        form |= {"amount": asks_amount, "required": open_ended, "hint": HINTS.get(name, "its worth")}
        forms.setdefault(WHO[gateway.presser(name)], []).append(form)
    return forms.items()
