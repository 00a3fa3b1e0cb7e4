from django.db import models
from django.urls import reverse
from django.utils.crypto import get_random_string

from crypto_invoices.models import Invoice

from .ways import DEFAULT


def new_number():
    return get_random_string(10, "23456789ABCDEFGHJKLMNPQRSTUVWXYZ")  # nothing that looks alike


class Product(models.Model):
    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=100)
    description = models.CharField(max_length=255)
    price = models.DecimalField(max_digits=12, decimal_places=2)
    currency = models.CharField(max_length=8, default="USD")

    class Meta:
        ordering = ["pk"]

    def __str__(self):
        return self.name


class Order(models.Model):
    class Status(models.TextChoices):
        PLACED = "placed", "waiting for the payment"
        SHIPPED = "shipped", "paid and shipped"

    number = models.CharField(max_length=10, unique=True, default=new_number, editable=False)
    email = models.EmailField()
    total = models.DecimalField(max_digits=12, decimal_places=2)
    currency = models.CharField(max_length=8)
    way = models.CharField(max_length=20, default=DEFAULT)  # to pay, one of WAYS
    status = models.CharField(max_length=8, choices=Status, default=Status.PLACED)
    invoice = models.OneToOneField(Invoice, models.PROTECT, null=True, blank=True, related_name="shop_order")
    created_at = models.DateTimeField(auto_now_add=True)
    shipped_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self):
        return self.number

    def get_absolute_url(self):
        return reverse("shop:order", args=[self.number])


class OrderLine(models.Model):
    order = models.ForeignKey(Order, models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, models.PROTECT)
    quantity = models.PositiveIntegerField()
    price = models.DecimalField(max_digits=12, decimal_places=2)

    def __str__(self):
        return f"{self.quantity} × {self.product}"

    @property
    def total(self):
        return self.quantity * self.price


class Shipment(models.Model):
    """One row each time that the shipping receiver ran: more than one would be a parcel too many."""

    order = models.ForeignKey(Order, models.CASCADE, related_name="shipments")
    event_id = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self):
        return f"{self.order} {self.event_id}"


class OrderNote(models.Model):
    """One row for each signal that the order's invoice sent."""

    order = models.ForeignKey(Order, models.CASCADE, related_name="notes")
    signal = models.CharField(max_length=40)
    event_id = models.CharField(max_length=64)
    old_status = models.CharField(max_length=12, blank=True)
    new_status = models.CharField(max_length=12)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self):
        return f"{self.order} {self.signal}"
