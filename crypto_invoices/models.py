"""The rows. ``ledger`` is the only writer of what a payment's state depends on; ``save()`` never touches those fields."""

import secrets
import string
import uuid

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from .fields import AmountField
from .providers.base import Kind, Page
from .statuses import AttemptState, InvoiceStatus, Source

__all__ = ["CallbackReceipt", "EventDelivery", "Invoice", "InvoiceEvent", "PaymentAttempt", "StaticAddress", "Transfer"]

STATUS_CHOICES = [
    (InvoiceStatus.PENDING.value, _("pending")),
    (InvoiceStatus.CONFIRMING.value, _("confirming")),
    (InvoiceStatus.UNDERPAID.value, _("underpaid")),
    (InvoiceStatus.PAID.value, _("paid")),
    (InvoiceStatus.OVERPAID.value, _("overpaid")),
    (InvoiceStatus.EXPIRED.value, _("expired")),
    (InvoiceStatus.CANCELLED.value, _("cancelled")),
    (InvoiceStatus.FAILED.value, _("failed")),
    (InvoiceStatus.REFUNDING.value, _("refunding")),
    (InvoiceStatus.REFUNDED.value, _("refunded")),
]
STATE_CHOICES = [
    (AttemptState.CREATING.value, _("creating")),
    (AttemptState.UNKNOWN.value, _("unknown")),
    (AttemptState.OPEN.value, _("open")),
    (AttemptState.REFUSED.value, _("refused")),
    (AttemptState.SUPERSEDED.value, _("superseded")),
    (AttemptState.CLOSED.value, _("closed")),
]
SOURCE_CHOICES = [
    (Source.CALLBACK.value, _("callback")),
    (Source.POLL.value, _("poll")),
    (Source.OPERATOR.value, _("shop or staff")),
    (Source.TIMER.value, _("timer")),
]
KIND_CHOICES = [
    (Kind.INVOICE.value, _("hosted invoice")),
    (Kind.ADDRESS.value, _("address")),
    (Kind.STATIC_ADDRESS.value, _("static address")),
]
PAGE_CHOICES = [(Page.GATEWAY.value, _("the gateway's page")), (Page.OWN.value, _("our page"))]
FEE_PAYER_CHOICES = [("merchant", _("merchant")), ("payer", _("payer"))]

_ALPHABET = string.ascii_letters + string.digits


def new_reference():
    """26 random letters and digits (154 bits): our name for an attempt or a static address at the gateway and in its
    callback URL."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(26))


def exactly_one(first, second):
    """The condition that one of two columns is set and the other is not."""
    return models.Q(**{f"{first}__isnull": False, f"{second}__isnull": True}) | models.Q(
        **{f"{first}__isnull": True, f"{second}__isnull": False}
    )


def cascade(collector, field, rows, using):
    """``on_delete`` of a column that ``exactly_one`` watches. Where constraints cannot be deferred (MariaDB), Django's own
    CASCADE would set a nullable column to NULL first."""
    collector.collect(
        rows, source=field.remote_field.model, source_attr=field.name, nullable=False, fail_on_restricted=False
    )  # fmt: skip


class LedgerModel(models.Model):
    """A row some of whose fields only the ledger writes: ``save()`` leaves them as they are in the database."""

    ledger_fields = frozenset()

    class Meta:
        abstract = True

    def save(self, *, update_fields=None, **kwargs):
        if not self._state.adding:
            names = (
                {field.name for field in self._meta.concrete_fields if not field.primary_key} - self.get_deferred_fields()
                if update_fields is None
                else set(update_fields)
            )
            update_fields = names - self.ledger_fields
        super().save(update_fields=update_fields, **kwargs)


class Invoice(LedgerModel):
    """What a shop wants to be paid, and what became of it. Amounts are in ``currency``."""

    uuid = models.UUIDField(_("public id"), default=uuid.uuid4, unique=True, editable=False)
    order_id = models.CharField(_("order"), max_length=255, blank=True)
    amount = AmountField(_("price"))
    currency = models.CharField(_("currency"), max_length=16, help_text=_("ISO 4217 or coin code"))
    description = models.TextField(_("description"), blank=True)
    email = models.EmailField(_("payer's e-mail"), blank=True)
    lifetime = models.DurationField(_("lifetime"), null=True, blank=True)
    pay_currencies = models.JSONField(_("pay currencies"), default=list, blank=True)
    underpaid_tolerance = models.DecimalField(_("underpaid tolerance (%)"), max_digits=5, decimal_places=2, null=True, blank=True)
    fee_payer = models.CharField(_("fee payer"), max_length=8, choices=FEE_PAYER_CHOICES, blank=True)
    page = models.CharField(_("page"), max_length=8, choices=PAGE_CHOICES, default=Page.GATEWAY.value)
    return_url = models.TextField(_("return URL"), blank=True)
    cancel_url = models.TextField(_("cancel URL"), blank=True)
    metadata = models.JSONField(_("metadata"), default=dict, blank=True, encoder=DjangoJSONEncoder)
    options = models.JSONField(_("gateway options"), default=dict, blank=True, encoder=DjangoJSONEncoder)
    idempotency_key = models.CharField(_("idempotency key"), max_length=255, null=True, blank=True)
    idempotency_hash = models.CharField(max_length=64, null=True, blank=True)  # unique; MariaDB's texts ignore case
    idempotency_digest = models.CharField(max_length=64, blank=True)
    sandbox = models.BooleanField(_("sandbox"), default=False)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True, db_index=True)

    status = models.CharField(_("status"), max_length=12, choices=STATUS_CHOICES, default=InvoiceStatus.PENDING.value)
    amount_received = AmountField(
        _("received"), null=True, blank=True, help_text=_("Empty where the gateway tells nothing comparable")
    )
    amount_refunded = AmountField(_("refunded"), null=True, blank=True)
    late = models.BooleanField(_("late"), default=False)
    manual = models.BooleanField(_("accepted by hand"), default=False)
    on_hold = models.BooleanField(_("on hold at the gateway"), default=False)
    needs_review = models.BooleanField(_("needs review"), default=False, db_index=True)
    review_reason = models.TextField(_("review reason"), blank=True)
    paid_at = models.DateTimeField(_("paid"), null=True, blank=True)
    cancelled_at = models.DateTimeField(_("cancelled"), null=True, blank=True)
    accepted_at = models.DateTimeField(_("accepted"), null=True, blank=True)
    reversed_at = models.DateTimeField(_("reversed"), null=True, blank=True)
    refunding_at = models.DateTimeField(_("refund begun"), null=True, blank=True)
    refunded_at = models.DateTimeField(_("refunded at"), null=True, blank=True)
    attempt_count = models.PositiveIntegerField(_("attempts"), default=1)
    version = models.PositiveIntegerField(_("version"), default=0)
    epoch = models.PositiveIntegerField(_("times reversed"), default=0)

    ledger_fields = frozenset(
        """status amount_received amount_refunded late manual on_hold needs_review review_reason paid_at cancelled_at
        accepted_at reversed_at refunding_at refunded_at attempt_count version epoch expires_at sandbox amount currency
        idempotency_key idempotency_hash idempotency_digest""".split()
    )

    class Meta:
        verbose_name = _("invoice")
        verbose_name_plural = _("invoices")
        ordering = ["-pk"]
        # As Meta.indexes rather than db_index and unique: those make a second index for LIKE on PostgreSQL.
        constraints = [models.UniqueConstraint(fields=["idempotency_hash"], name="crypto_invoices_one_idempotency")]
        indexes = [
            models.Index(fields=["order_id"], name="crypto_inv_order"),
            models.Index(fields=["email"], name="crypto_inv_email"),
        ]
        permissions = [
            ("cancel_invoice", "Can cancel an invoice"),
            ("accept_invoice", "Can accept an invoice by hand"),
            ("refund_invoice", "Can record a refund or reverse a payment"),
        ]

    def __str__(self):
        return self.order_id or str(self.uuid)

    def get_absolute_url(self):
        """Our own page for the payer; it sends on to the gateway's page where that is the mode."""
        return reverse("crypto_invoices:pay", args=[self.uuid])

    @property
    def is_paid(self):
        """Whether ``invoice_paid`` was emitted and not reversed."""
        return self.paid_at is not None

    @property
    def live_attempt(self):
        """The attempt that the payer may use now, or None."""
        return self.attempts.filter(live_key=self.pk).first()

    @property
    def payment_url(self):
        """The gateway's page of the live attempt; "" until it is known, where there is none, and once cancelled."""
        attempt = self.live_attempt if self.cancelled_at is None else None
        return attempt.payment_url if attempt else ""


class PaymentAttempt(LedgerModel):
    """One try to be paid at one gateway. Amounts are in ``currency``, ``pay_amount`` in ``pay_currency``."""

    invoice = models.ForeignKey(Invoice, models.CASCADE, related_name="attempts", verbose_name=_("invoice"))
    account = models.CharField(_("account"), max_length=64)
    provider = models.CharField(_("provider"), max_length=255)
    identity = models.CharField(_("account's identity"), max_length=16)
    kind = models.CharField(_("kind"), max_length=16, choices=KIND_CHOICES, default=Kind.INVOICE.value)
    amount = AmountField(_("amount"))
    currency = models.CharField(_("currency"), max_length=16)
    reference = models.CharField(_("reference"), max_length=26, default=new_reference, editable=False)
    sandbox = models.BooleanField(_("sandbox"), default=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    gateway_id = models.CharField(_("gateway's id"), max_length=128, blank=True)
    state = models.CharField(_("state"), max_length=10, choices=STATE_CHOICES, default=AttemptState.CREATING.value)
    status = models.CharField(_("status"), max_length=12, choices=STATUS_CHOICES, default=InvoiceStatus.PENDING.value)
    gateway_status = models.CharField(_("gateway's status"), max_length=64, blank=True)
    live_key = models.BigIntegerField(null=True, blank=True, unique=True, editable=False)
    payment_url = models.TextField(_("payment URL"), blank=True)
    address = models.CharField(_("address"), max_length=255, blank=True)
    address_tag = models.CharField(_("tag or memo"), max_length=128, blank=True)
    pay_amount = AmountField(_("amount to pay"), null=True, blank=True)
    pay_currency = models.CharField(_("pay currency"), max_length=32, blank=True)
    network = models.CharField(_("network"), max_length=64, blank=True)
    amount_received = AmountField(_("received"), null=True, blank=True)
    amount_refunded = AmountField(_("refunded"), null=True, blank=True)
    tolerance = models.DecimalField(_("tolerance (%)"), max_digits=5, decimal_places=2, null=True, blank=True)
    first_money_at = models.DateTimeField(_("first money seen"), null=True, blank=True)
    last_money_at = models.DateTimeField(_("last money seen"), null=True, blank=True)
    paid_at = models.DateTimeField(_("paid"), null=True, blank=True)
    late = models.BooleanField(_("late"), null=True, blank=True)
    gateway_late = models.BooleanField(_("late, says the gateway"), null=True, blank=True)
    refund_begun = models.BooleanField(_("refund begun"), default=False)
    manual = models.BooleanField(_("accepted by hand"), default=False)
    on_hold = models.BooleanField(_("on hold"), default=False)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    closed_at = models.DateTimeField(_("closed"), null=True, blank=True)
    next_poll_at = models.DateTimeField(_("next poll"), null=True, blank=True, db_index=True)
    polled_at = models.DateTimeField(_("last poll"), null=True, blank=True)
    hinted_at = models.DateTimeField(_("last poll on a hint"), null=True, blank=True)
    poll_failures = models.PositiveIntegerField(default=0)
    poll_error = models.TextField(_("last poll's error"), blank=True)
    raw = models.TextField(_("last raw answer"), blank=True)

    ledger_fields = frozenset(
        """account provider identity kind amount currency reference sandbox gateway_id state status gateway_status
        live_key payment_url address address_tag pay_amount pay_currency network amount_received amount_refunded tolerance
        first_money_at last_money_at paid_at late gateway_late refund_begun manual on_hold expires_at
        closed_at next_poll_at polled_at hinted_at poll_failures poll_error raw""".split()
    )

    class Meta:
        verbose_name = _("payment attempt")
        verbose_name_plural = _("payment attempts")
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(fields=["reference"], name="crypto_invoices_one_reference")]
        indexes = [
            models.Index(fields=["gateway_id"], name="crypto_inv_gateway_id"),
            models.Index(fields=["address"], name="crypto_inv_address"),
        ]

    def __str__(self):
        return f"{self.account} {self.gateway_id or self.reference}"


class StaticAddress(LedgerModel):
    """One customer's address at one gateway, which takes any number of payments. ``coin`` and ``network`` are the gateway's
    words for ``pay_currency``. Without ``address_tag``, where there is one, a payment may be lost."""

    class State(models.TextChoices):
        CREATING = "creating", _("creating")  # the row is committed, the gateway is being called
        UNKNOWN = "unknown", _("unknown")  # the gateway may have made the address
        OPEN = "open", _("open")
        REFUSED = "refused", _("refused")  # nothing exists at the gateway
        REVOKED = "revoked", _("revoked")  # still watched for a while

    uuid = models.UUIDField(_("public id"), default=uuid.uuid4, unique=True, editable=False)
    account = models.CharField(_("account"), max_length=64)
    provider = models.CharField(_("provider"), max_length=255)
    identity = models.CharField(_("account's identity"), max_length=16)
    sandbox = models.BooleanField(_("sandbox"), default=False)
    reference = models.CharField(_("reference"), max_length=26, default=new_reference, editable=False)
    pay_currency = models.CharField(_("pay currency"), max_length=32, help_text=_("Such as USDT@tron"))
    customer = models.CharField(_("customer"), max_length=255, blank=True)
    description = models.TextField(_("description"), blank=True)
    metadata = models.JSONField(_("metadata"), default=dict, blank=True, encoder=DjangoJSONEncoder)
    options = models.JSONField(_("gateway options"), default=dict, blank=True, encoder=DjangoJSONEncoder)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.CREATING)
    version = models.PositiveIntegerField(_("version"), default=0)
    gateway_id = models.CharField(_("gateway's id"), max_length=128, blank=True)
    coin = models.CharField(_("coin"), max_length=32, blank=True)
    network = models.CharField(_("network"), max_length=64, blank=True)
    address = models.CharField(_("address"), max_length=255, blank=True)
    address_tag = models.CharField(_("tag or memo"), max_length=128, blank=True)
    last_transfer_at = models.DateTimeField(_("last transfer seen"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked at"), null=True, blank=True)
    next_poll_at = models.DateTimeField(_("next poll"), null=True, blank=True, db_index=True)
    polled_at = models.DateTimeField(_("last poll"), null=True, blank=True)
    hinted_at = models.DateTimeField(_("last poll on a hint"), null=True, blank=True)
    poll_failures = models.PositiveIntegerField(default=0)
    poll_error = models.TextField(_("last poll's error"), blank=True)
    raw = models.TextField(_("last raw answer"), blank=True)

    ledger_fields = frozenset(
        """account provider identity sandbox reference pay_currency state version gateway_id coin network address address_tag
        last_transfer_at revoked_at next_poll_at polled_at hinted_at poll_failures poll_error raw""".split()
    )

    class Meta:
        verbose_name = _("static address")
        verbose_name_plural = _("static addresses")
        ordering = ["-pk"]
        constraints = [models.UniqueConstraint(fields=["reference"], name="crypto_invoices_one_static_reference")]
        indexes = [
            models.Index(fields=["customer"], name="crypto_inv_static_customer"),
            models.Index(fields=["gateway_id"], name="crypto_inv_static_gateway_id"),
            models.Index(fields=["address"], name="crypto_inv_static_address"),
        ]

    def __str__(self):
        return self.address or f"{self.account} {self.reference}"


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
