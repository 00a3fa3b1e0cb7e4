"""The callback endpoint, the payer's page and the health report."""

import hashlib
import json

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import HttpResponse, HttpResponseRedirect, JsonResponse, UnreadablePostError
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET

from . import callbacks
from .models import EventDelivery, Invoice, InvoiceEvent
from .providers.base import Kind
from .statuses import InvoiceStatus

__all__ = ["callback", "health", "pay", "status"]

MAX_BODY = 64 * 1024  # bytes


@csrf_exempt
@login_not_required
@transaction.non_atomic_requests
def callback(request, account, token):
    """Where a gateway tells what happened. The body is read only for a URL that we made, and never beyond 64 KiB."""
    if request.method != "POST":
        response = _respond(callbacks.Answer(405, b"method not allowed"))
        response["Allow"] = "POST"
        return response
    if _declared_length(request) > MAX_BODY:
        return _respond(callbacks.refuse(413, "too large"))
    if request.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        return _respond(callbacks.refuse(415, "unsupported content encoding"))
    endpoint = callbacks.find_endpoint(account, token)
    if isinstance(endpoint, callbacks.Answer):
        return _respond(endpoint)
    try:
        body = _read(request)
    except UnreadablePostError:
        return _respond(callbacks.refuse(400, "incomplete"))
    if len(body) > MAX_BODY:
        return _respond(callbacks.refuse(413, "too large"))
    return _respond(
        callbacks.receive(
            endpoint, request.headers, body, url=request.get_full_path(), remote_addr=request.META.get("REMOTE_ADDR", "")
        )
    )


def _declared_length(request):
    text = request.META.get("CONTENT_LENGTH") or "0"
    return int(text[:20]) if text.isascii() and text[:20].isdecimal() else 0


def _read(request):
    """The body up to one byte over the limit; the rest of a longer one is never read."""
    chunks, size = [], 0
    while size <= MAX_BODY and (chunk := request.read(MAX_BODY + 1 - size)):
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)


def _respond(answer):
    response = HttpResponse(answer.body, status=answer.status, content_type=answer.content_type)
    response._has_been_logged = True  # Django would log every forged callback, with its token; callbacks.py logs a few
    if answer.retry_after is not None:
        response.headers["Retry-After"] = str(answer.retry_after)
    return response


@require_GET
@never_cache
@login_not_required
def pay(request, uuid):
    """Sends the payer on to the gateway's page while the invoice can be paid there; else says how things stand.

    With ``page="own"`` the payer stays here, unless the gateway gave no address.
    """
    invoice = get_object_or_404(Invoice, uuid=uuid)
    attempt = invoice.live_attempt
    payable = invoice.cancelled_at is None and not invoice.is_paid
    elsewhere = attempt is not None and attempt.payment_url and not (attempt.address and attempt.kind == Kind.ADDRESS)
    if payable and elsewhere and attempt.status == InvoiceStatus.PENDING:
        return HttpResponseRedirect(attempt.payment_url)
    return render(request, "crypto_invoices/pay.html", {"invoice": invoice, "attempt": attempt if payable else None})


@require_GET
@login_not_required
def status(request, uuid):
    """``{"status", "expires_at"}`` as JSON with an ETag, for a page that watches the payment."""
    invoice = get_object_or_404(Invoice.objects.only("status", "expires_at", "version"), uuid=uuid)
    body = json.dumps({"status": invoice.status, "expires_at": invoice.expires_at.isoformat() if invoice.expires_at else None})
    etag = f'"{hashlib.sha256(body.encode()).hexdigest()[:32]}"'
    if request.headers.get("If-None-Match") == etag:
        response = HttpResponse(status=304)
    else:
        response = HttpResponse(body, content_type="application/json")
    response["ETag"] = etag
    response["Cache-Control"] = "no-cache, private"
    return response


@require_GET
@never_cache
@login_not_required
def health(request):
    """``{"oldest_due_event", "given_up"}``: seconds that the oldest signal has waited, and deliveries that were given up.

    200 while nothing waits for more than 15 minutes and nothing was given up, else 503.
    """
    now = timezone.now()
    oldest = InvoiceEvent.objects.filter(due_at__lte=now).order_by("due_at").values_list("due_at", flat=True).first()
    waiting = int((now - oldest).total_seconds()) if oldest else 0
    given_up = EventDelivery.objects.filter(state=EventDelivery.State.GIVEN_UP).count()
    return JsonResponse({"oldest_due_event": waiting, "given_up": given_up}, status=503 if waiting > 900 or given_up else 200)
