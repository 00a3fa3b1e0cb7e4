"""The floor: what a careful developer writes by hand for one gateway, with nothing left that a reviewer could shorten."""

import hashlib
import hmac
import json

from django.db import IntegrityError, models, transaction
from django.http import HttpResponse
from django.views.decorators.csrf import csrf_exempt

KEY = b"FLOORK-FLOORK-FLOORK-FLOORK"


class FloorInvoice(models.Model):
    reference = models.CharField(max_length=26, unique=True)
    amount = models.DecimalField(max_digits=38, decimal_places=18)
    currency = models.CharField(max_length=16)
    status = models.CharField(max_length=12)

    class Meta:
        app_label = "benchmarks"


class FloorEvent(models.Model):
    invoice = models.ForeignKey(FloorInvoice, models.CASCADE)
    key = models.CharField(max_length=190, unique=True)
    status = models.CharField(max_length=12)

    class Meta:
        app_label = "benchmarks"


class Shipment(models.Model):
    """What the measured receiver writes."""

    invoice = models.CharField(max_length=64, unique=True)

    class Meta:
        app_label = "benchmarks"


@csrf_exempt
def callback(request):
    body = request.body
    expected = hmac.new(KEY, body, hashlib.sha512).hexdigest()
    if not hmac.compare_digest(request.headers.get("HMAC", ""), expected):
        return HttpResponse(status=403)
    data = json.loads(body)
    try:
        with transaction.atomic():
            invoice = FloorInvoice.objects.select_for_update().get(reference=data["order_id"])
            FloorEvent.objects.create(invoice=invoice, key=f"{data['track_id']}:{data['status']}", status=data["status"])
            FloorInvoice.objects.filter(pk=invoice.pk).update(status="paid")
    except IntegrityError:
        pass
    return HttpResponse("ok")


@csrf_exempt
def verify_only(request):
    expected = hmac.new(KEY, request.body, hashlib.sha512).hexdigest()
    if not hmac.compare_digest(request.headers.get("HMAC", ""), expected):
        return HttpResponse(status=403)
    return HttpResponse("ok")
