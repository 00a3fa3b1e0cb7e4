"""What the pretended gateways know: payments, the money that came, callbacks and switches."""

import secrets
from decimal import Decimal

from django.db import models
from django.utils import timezone

from crypto_invoices.money import format_amount


class ExactField(models.CharField):
    """A Decimal kept as text: SQLite's own decimals lose every digit after the fifteenth."""

    def __init__(self, *args, **kwargs):
        kwargs["max_length"] = 60
        super().__init__(*args, **kwargs)

    def from_db_value(self, value, expression, connection):
        return self.to_python(value)

    def to_python(self, value):
        return None if value is None else Decimal(value)

    def get_prep_value(self, value):
        return None if value is None else format_amount(Decimal(value))


class Payment(models.Model):
    """One invoice, order or address at one gateway. ``status`` is the gateway's own word, ``data`` its other parameters."""

    gateway = models.CharField(max_length=32)
    gateway_id = models.CharField(max_length=64)
    account = models.CharField(max_length=200)  # the credential that made it; it signs the callbacks
    kind = models.CharField(max_length=32)
    status = models.CharField(max_length=32)
    reference = models.CharField(max_length=256, blank=True)
    amount = ExactField(null=True)
    currency = models.CharField(max_length=16, blank=True)
    pay_currency = models.CharField(max_length=16, blank=True)
    network = models.CharField(max_length=32, blank=True)
    address = models.CharField(max_length=128, blank=True)
    memo = models.CharField(max_length=64, blank=True)
    pay_amount = ExactField(null=True)
    callback_url = models.TextField(blank=True)
    data = models.JSONField(default=dict)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)
    paid_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-pk"]
        constraints = [models.UniqueConstraint(fields=["gateway", "gateway_id"], name="simulator_payment_id")]
        indexes = [models.Index(fields=["gateway", "status", "expires_at"], name="simulator_payment_open")]

    def __str__(self):
        return f"{self.gateway} {self.gateway_id} {self.status}"


class Transfer(models.Model):
    """Money sent to a payment's address, first seen, later confirmed."""

    payment = models.ForeignKey(Payment, models.CASCADE, related_name="transfers")
    tx_hash = models.CharField(max_length=128)
    amount = ExactField()
    currency = models.CharField(max_length=16)
    network = models.CharField(max_length=32)
    address = models.CharField(max_length=128)
    memo = models.CharField(max_length=64, blank=True)
    sender = models.CharField(max_length=128)
    price = ExactField()  # USD for one coin at the time
    late = models.BooleanField(default=False)
    seen_at = models.DateTimeField()
    confirm_at = models.DateTimeField(null=True)  # by itself; None: by hand
    confirmed_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self):
        return f"{format_amount(self.amount)} {self.currency}"

    @property
    def confirmed(self):
        return self.confirmed_at is not None

    @property
    def usd(self):
        return self.amount * self.price


class CallbackJob(models.Model):
    """One callback with the exact bytes that are sent and signed, and when it is due."""

    WAITING, HELD, DONE, FAILED, DROPPED = "waiting", "held", "done", "failed", "dropped"

    payment = models.ForeignKey(Payment, models.CASCADE, related_name="jobs")
    word = models.CharField(max_length=32)
    url = models.TextField()
    body = models.BinaryField()
    headers = models.JSONField()
    state = models.CharField(max_length=16, default=WAITING)
    attempts = models.PositiveIntegerField(default=0)
    release_at = models.PositiveIntegerField(default=0)  # held: let go when so many wait together
    due_at = models.DateTimeField()
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["pk"]
        indexes = [models.Index(fields=["state", "due_at"], name="simulator_job_due")]

    def __str__(self):
        return f"{self.word} {self.state}"


class Delivery(models.Model):
    """The log of one attempt to deliver a callback. ``http_status`` is None where nobody answered."""

    job = models.ForeignKey(CallbackJob, models.CASCADE, related_name="deliveries")
    attempt = models.PositiveIntegerField()
    http_status = models.PositiveIntegerField(null=True)
    answer = models.TextField(blank=True)
    accepted = models.BooleanField()
    sent_at = models.DateTimeField()

    class Meta:
        ordering = ["pk"]
        verbose_name_plural = "deliveries"

    def __str__(self):
        return f"attempt {self.attempt}: {self.http_status or 'no answer'}"


class Nonce(models.Model):
    """A number that a call of an account has used; a gateway that asks for one takes it once."""

    gateway = models.CharField(max_length=32)
    account = models.CharField(max_length=200)
    nonce = models.CharField(max_length=255)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["gateway", "account", "nonce"], name="simulator_nonce")]

    def __str__(self):
        return f"{self.gateway} {self.nonce}"


class Misbehaviour(models.Model):
    """A switch that is on for a gateway: how often still (None: until reset) and for how many of a hundred cases."""

    gateway = models.CharField(max_length=32)
    switch = models.CharField(max_length=32)
    value = ExactField(null=True)
    remaining = models.PositiveIntegerField(null=True)
    percent = models.PositiveIntegerField(default=100)

    class Meta:
        ordering = ["switch"]
        constraints = [models.UniqueConstraint(fields=["gateway", "switch"], name="simulator_switch")]

    def __str__(self):
        return f"{self.gateway} {self.switch}"


def new_number(digits=9):
    """A random number of exactly ``digits`` digits, as text: the look of many gateways' ids."""
    low = 10 ** (digits - 1)
    return str(low + secrets.randbelow(9 * low))
