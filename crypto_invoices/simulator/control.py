"""The control API: the buttons for tests and the demo. JSON in and out, amounts as text, no login: loopback only."""

from functools import wraps

from django.db import transaction
from django.http import JsonResponse
from django.views.decorators.csrf import csrf_exempt

from crypto_invoices.money import format_amount
from crypto_invoices.providers import payload

from . import actions, callbacks, misbehaviour, registry
from .errors import BadField, Refused
from .models import CallbackJob, Delivery, Misbehaviour, Payment


def endpoint(*methods):
    """A JSON view of these methods; it gets the request's JSON object, and what it refuses becomes a status."""

    def decorate(view):
        @wraps(view)
        def wrapped(request, **parts):
            if request.method not in methods:
                return JsonResponse({"error": f"use {' or '.join(methods)}"}, status=405)
            try:
                data = payload.loads(request.body) if request.body.strip() else {}
                return JsonResponse(view(request, data, **parts))
            except payload.MalformedPayload as error:
                return JsonResponse({"error": f"the body: {error}", "field": "body"}, status=400)
            except BadField as error:
                return JsonResponse({"error": error.message, "field": error.field}, status=400)
            except Payment.DoesNotExist:
                return JsonResponse({"error": "no such payment or gateway"}, status=404)
            except Refused as error:
                return JsonResponse({"error": error.reason, "source": error.source}, status=409)

        return transaction.non_atomic_requests(csrf_exempt(wrapped))

    return decorate


@endpoint("GET")
def payments(request, data):
    """All payments, the newest first; ``?gateway=`` limits them."""
    actions.advance_due()
    rows = Payment.objects.all()
    if "gateway" in request.GET:
        rows = rows.filter(gateway=request.GET["gateway"])
    return {"payments": [summary(request, payment) for payment in rows]}


@endpoint("GET")
def payment(request, data, gateway, gateway_id):
    """One payment in full."""
    return state(request, actions.current(gateway, gateway_id))


@endpoint("POST")
def act(request, data, gateway, gateway_id, action):
    """Press a button, or ``resend`` callbacks; the payment in full."""
    if action == "resend":
        _check_names(data, ("order", "times"))
        callbacks.resend(actions.current(gateway, gateway_id), **data)
    else:
        _check_names(data, ("amount", "currency", "network"))
        actions.act(gateway, gateway_id, action, **data)
    return state(request, actions.current(gateway, gateway_id))


@endpoint("GET", "POST", "DELETE")
def misbehave(request, data, gateway):
    """The gateway's switches: read them, turn one on, or reset them all (``?switch=``: one)."""
    if registry.find(gateway) is None:
        raise Payment.DoesNotExist
    if request.method == "POST":
        _check_names(data, ("switch", "value", "count", "percent"))
        if "switch" not in data:
            raise BadField("switch", f"one of {', '.join(misbehaviour.SWITCHES)}")
        misbehaviour.switch_on(gateway, **data)
    elif request.method == "DELETE":
        misbehaviour.switch_off(gateway, request.GET.get("switch"))
        if request.GET.get("switch") in (None, "callback_reorder"):
            callbacks.release_held(gateway)
    return {"switches": [switch_state(row) for row in Misbehaviour.objects.filter(gateway=gateway)]}


@endpoint("POST")
def deliver(request, data):
    """Deliver now what is due, and say how it went."""
    actions.advance_due()
    return {"deliveries": [delivery_state(delivery) for delivery in callbacks.attempt_due()]}


def summary(request, payment):
    """What a list shows of a payment."""
    return {
        "gateway": payment.gateway,
        "id": payment.gateway_id,
        "kind": payment.kind,
        "status": payment.status,
        "amount": _text(payment.amount),
        "currency": payment.currency,
        "reference": payment.reference,
        "payment_url": registry.find(payment.gateway).payer_page(request, payment),
        "created_at": payment.created_at.isoformat(),
        "expires_at": payment.expires_at and payment.expires_at.isoformat(),
    }


def state(request, payment):
    """Everything about a payment."""
    gateway = registry.find(payment.gateway)
    waiting = payment.jobs.filter(state__in=(CallbackJob.WAITING, CallbackJob.HELD))
    return {
        **summary(request, payment),
        "pay_currency": payment.pay_currency,
        "pay_amount": _text(payment.pay_amount),
        "rest": _text(gateway.rest(payment)) if payment.amount is not None and payment.address else None,
        "network": payment.network,
        "address": payment.address,
        "memo": payment.memo,
        "callback_url": payment.callback_url,
        "data": payment.data,
        "actions": gateway.offered(payment),
        "txs": [_transfer_state(transfer) for transfer in payment.transfers.all()],
        "callbacks": [delivery_state(row) for row in Delivery.objects.filter(job__payment=payment)],
        "callbacks_to_come": [_job_state(job) for job in waiting],
        "callbacks_dropped": list(payment.jobs.filter(state=CallbackJob.DROPPED).values_list("word", flat=True)),
    }


def delivery_state(delivery):
    """One attempt to deliver a callback."""
    return {
        "gateway": delivery.job.payment.gateway,
        "id": delivery.job.payment.gateway_id,
        "status_word": delivery.job.word,
        "attempt": delivery.attempt,
        "http_status": delivery.http_status,
        "answer": delivery.answer,
        "accepted": delivery.accepted,
        "sent_at": delivery.sent_at.isoformat(),
    }


def _job_state(job):
    return {"status_word": job.word, "state": job.state, "attempts": job.attempts, "due_at": job.due_at.isoformat()}


def switch_state(row):
    """One switch that is on."""
    return {"switch": row.switch, "value": _text(row.value), "count": row.remaining, "percent": row.percent}


def _transfer_state(transfer):
    return {
        "tx_hash": transfer.tx_hash,
        "amount": _text(transfer.amount),
        "currency": transfer.currency,
        "network": transfer.network,
        "address": transfer.address,
        "memo": transfer.memo,
        "confirmed": transfer.confirmed,
        "late": transfer.late,
        "seen_at": transfer.seen_at.isoformat(),
    }


def _check_names(data, known):
    for name in data:
        if name not in known:
            raise BadField(name, f"unknown; known are {', '.join(known)}")


def _text(amount):
    return None if amount is None else format_amount(amount)
