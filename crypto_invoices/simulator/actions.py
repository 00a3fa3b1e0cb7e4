"""Pressing a button, and reading a payment, with the clock's work done first: one locked step each."""

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from . import registry
from .errors import BadField, Refused, amount_in
from .gateway import ACTIONS
from .models import Payment


def current(gateway_name, gateway_id, now=None):
    """The payment as it stands now. Raises ``Payment.DoesNotExist``."""
    with transaction.atomic():
        payment = _locked(gateway_name, gateway_id)
        registry.find(gateway_name).advance(payment, now or timezone.now())
        payment.save()
    return payment


def act(gateway_name, gateway_id, action, *, amount=None, currency="", network="", now=None):
    """Press a button; the payment afterwards.

    Raises ``Payment.DoesNotExist``, ``BadField`` for an input, ``Refused`` for what the gateway cannot do now.
    """
    if action not in ACTIONS:
        raise BadField("action", f"one of {', '.join(ACTIONS)}")
    given = {"amount": None if amount in (None, "") else amount_in("amount", amount), "currency": currency, "network": network}
    if given["amount"] == 0:
        raise BadField("amount", "more than 0")
    for field in ("currency", "network"):
        if not isinstance(given[field], str):
            raise BadField(field, "a text")
    for field, value in given.items():
        if value and field not in ACTIONS[action].fields:
            raise BadField(field, f"{action} takes no {field}")
    now = now or timezone.now()
    with transaction.atomic():
        payment = _locked(gateway_name, gateway_id)
        gateway = registry.find(gateway_name)
        gateway.advance(payment, now)
        payment.save()  # stays, also when the button is refused
        problem = gateway.refusal(payment, action) or _press(gateway, payment, action, given, now)
    if problem:
        raise problem
    return payment


def advance_due(now=None):
    """Do the clock's work on every payment that waits for it; how many there were."""
    now = now or timezone.now()
    count = 0
    for gateway in registry.all_gateways():
        over = gateway.waits_for_clock(now)
        ripe = Q(transfers__confirmed_at=None, transfers__confirm_at__lte=now)
        due = Payment.objects.filter(over | ripe, gateway=gateway.name).order_by("pk").distinct()
        for gateway_id in list(due.values_list("gateway_id", flat=True)):
            current(gateway.name, gateway_id, now)
            count += 1
    return count


def _press(gateway, payment, action, given, now):
    fields = {field: given[field] for field in ACTIONS[action].fields}
    try:
        with transaction.atomic():
            getattr(gateway, action)(payment, now, **fields)
            gateway.advance(payment, now)
            payment.save()
    except (BadField, Refused) as error:
        return error
    return None


def _locked(gateway_name, gateway_id):
    return Payment.objects.select_for_update().get(gateway=gateway_name, gateway_id=gateway_id)
