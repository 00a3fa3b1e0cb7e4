"""What happened: transfers, callbacks, events and their delivery."""

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils.translation import gettext_lazy as _

from ..fields import AmountField
from .base import SOURCE_CHOICES, cascade, exactly_one
from .payments import Invoice, PaymentAttempt, StaticAddress


class Transfer(models.Model):
    """One on-chain payment seen for an attempt or to a static address. ``amount`` in ``currency``; ``value`` in the price's,
    where comparable. One to a static address is announced once, in the transaction that makes it ``confirmed``."""

    attempt = models.ForeignKey(
        PaymentAttempt, cascade, null=True, blank=True, related_name="transfers", db_index=False, verbose_name=_("attempt")
    )  # the unique constraint on (attempt, key) is its index, and so below
    static_address = models.ForeignKey(
        StaticAddress,
        cascade,
        null=True,
        blank=True,
        related_name="transfers",
        db_index=False,
        verbose_name=_("static address"),
    )
    key = models.CharField(max_length=190)
    tx_hash = models.CharField(_("transaction"), max_length=190, blank=True)
    amount = AmountField(_("amount"), null=True, blank=True)
    currency = models.CharField(_("coin"), max_length=32, blank=True)
    network = models.CharField(_("network"), max_length=64, blank=True)
    value = AmountField(_("value"), null=True, blank=True)
    address = models.CharField(_("address"), max_length=255, blank=True)
    sender = models.CharField(_("sender"), max_length=255, blank=True)
    confirmations = models.PositiveIntegerField(_("confirmations"), null=True, blank=True)
    confirmed = models.BooleanField(_("confirmed"), default=False)
    explorer_url = models.TextField(_("explorer"), blank=True)
    paid_at = models.DateTimeField(_("paid"), null=True, blank=True)
    created_at = models.DateTimeField(_("first seen"), auto_now_add=True)

    class Meta:
        verbose_name = _("transfer")
        verbose_name_plural = _("transfers")
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["attempt", "key"], name="crypto_invoices_one_transfer"),
            models.UniqueConstraint(fields=["static_address", "key"], name="crypto_invoices_one_deposit"),
            models.CheckConstraint(condition=exactly_one("attempt", "static_address"), name="crypto_invoices_transfer_owner"),
        ]
        indexes = [models.Index(fields=["tx_hash"], name="crypto_inv_tx_hash")]

    def __str__(self):
        return self.tx_hash or self.key


class CallbackReceipt(models.Model):
    """A callback whose signature was good, or a hint that led to a poll. Forged ones leave no row."""

    class Verdict(models.TextChoices):
        APPLIED = "applied", _("applied")
        STALE = "stale", _("stale")
        QUARANTINED = "quarantined", _("quarantined")
        UNMATCHED = "unmatched", _("unmatched")
        MALFORMED = "malformed", _("malformed")
        HINT = "hint", _("hint")

    account = models.CharField(_("account"), max_length=64)
    digest = models.CharField(_("SHA-256 of the body"), max_length=64)
    body = models.BinaryField(_("body"), blank=True)
    headers = models.JSONField(_("signature"), default=dict, blank=True)
    reference = models.CharField(_("reference"), max_length=26, blank=True)
    attempt = models.ForeignKey(
        PaymentAttempt, models.CASCADE, null=True, blank=True, related_name="receipts", verbose_name=_("attempt")
    )
    static_address = models.ForeignKey(
        StaticAddress, models.CASCADE, null=True, blank=True, related_name="receipts", verbose_name=_("static address")
    )
    verdict = models.CharField(_("verdict"), max_length=12, choices=Verdict.choices)
    reason = models.TextField(_("reason"), blank=True)
    seen = models.PositiveIntegerField(_("times seen"), default=1)
    received_at = models.DateTimeField(_("received"))

    class Meta:
        verbose_name = _("callback")
        verbose_name_plural = _("callbacks")
        ordering = ["-pk"]
        constraints = [models.UniqueConstraint(fields=["account", "digest"], name="crypto_invoices_one_receipt")]
        indexes = [models.Index(fields=["account", "verdict"], name="crypto_inv_receipt_verdict")]

    def __str__(self):
        return f"{self.account} {self.digest[:12]} {self.verdict}"


class InvoiceEvent(models.Model):
    """One change of an invoice, or one of a static address such as a deposit: its history, and the outbox of its signals.

    ``due_at`` is when the signals are to be delivered, NULL once every receiver is done or given up. While ``holder`` is
    set, a process is at it until ``due_at``; a "+" at its end says that newer events were left to it.
    """

    invoice = models.ForeignKey(
        Invoice, cascade, null=True, blank=True, related_name="events", db_index=False, verbose_name=_("invoice")
    )  # the unique constraint on (invoice, version) is its index, and so for static addresses
    static_address = models.ForeignKey(
        StaticAddress,
        cascade,
        null=True,
        blank=True,
        related_name="events",
        db_index=False,
        verbose_name=_("static address"),
    )
    attempt = models.ForeignKey(
        PaymentAttempt, models.CASCADE, null=True, blank=True, related_name="events", db_index=False, verbose_name=_("attempt")
    )
    transfer = models.OneToOneField(
        Transfer, models.CASCADE, null=True, blank=True, related_name="deposit_event", verbose_name=_("deposit")
    )  # unique: the database itself refuses to announce a deposit twice
    version = models.PositiveIntegerField(_("version"))
    kind = models.CharField(_("kind"), max_length=16)
    old_status = models.CharField(_("old status"), max_length=12, blank=True)
    new_status = models.CharField(_("new status"), max_length=12)
    signals = models.JSONField(_("signals"), default=list)
    one_shot = models.CharField(max_length=32, null=True, blank=True)
    source = models.CharField(_("source"), max_length=8, choices=SOURCE_CHOICES)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+", db_index=False, verbose_name=_("user")
    )
    reason = models.TextField(_("reason"), blank=True)
    receipt = models.ForeignKey(
        CallbackReceipt, models.SET_NULL, null=True, blank=True, related_name="events", db_index=False, verbose_name=_("callback")
    )
    data = models.JSONField(_("data"), default=dict, blank=True, encoder=DjangoJSONEncoder)
    created_at = models.DateTimeField(_("at"))
    due_at = models.DateTimeField(_("due"), null=True, blank=True, db_index=True)
    holder = models.CharField(max_length=32, blank=True)
    tries = models.PositiveIntegerField(_("tries"), default=0)

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["invoice", "version"], name="crypto_invoices_one_event"),
            models.UniqueConstraint(fields=["static_address", "version"], name="crypto_invoices_one_static_event"),
            models.UniqueConstraint(fields=["invoice", "one_shot"], name="crypto_invoices_one_shot"),
            models.CheckConstraint(condition=exactly_one("invoice", "static_address"), name="crypto_invoices_event_owner"),
        ]

    @property
    def owner(self):
        """The invoice or the static address that this is an event of."""
        return self.static_address if self.invoice_id is None else self.invoice

    @property
    def event_id(self):
        """The event's public name, the same on every delivery: receivers use it as an idempotency key."""
        return f"{self.owner.uuid}.{self.version}"

    def __str__(self):
        return " ".join(filter(None, (self.kind, self.old_status, self.new_status)))


class EventDelivery(models.Model):
    """What one receiver has done with one signal of one event."""

    class State(models.TextChoices):
        DONE = "done", _("done")
        FAILED = "failed", _("failed")
        GIVEN_UP = "given_up", _("given up")

    event = models.ForeignKey(InvoiceEvent, models.CASCADE, related_name="deliveries", verbose_name=_("event"))
    signal = models.CharField(_("signal"), max_length=40)
    receiver = models.CharField(_("receiver"), max_length=255)
    state = models.CharField(_("state"), max_length=8, choices=State.choices)
    tries = models.PositiveIntegerField(_("tries"), default=0)
    next_try_at = models.DateTimeField(_("next try"), null=True, blank=True)
    error = models.TextField(_("last error"), blank=True)
    updated_at = models.DateTimeField(_("at"))

    class Meta:
        verbose_name = _("delivery")
        verbose_name_plural = _("deliveries")
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(fields=["event", "signal", "receiver"], name="crypto_invoices_one_delivery")]
        indexes = [models.Index(fields=["state"], name="crypto_inv_delivery_state")]

    def __str__(self):
        return f"{self.signal} {self.receiver} {self.state}"
