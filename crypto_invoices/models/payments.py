"""What is to be paid: invoices, their attempts at gateways, and static addresses."""

import uuid

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from ..fields import AmountField
from ..providers.base import Kind, Page
from ..statuses import AttemptState, InvoiceStatus
from .base import FEE_PAYER_CHOICES, KIND_CHOICES, PAGE_CHOICES, STATE_CHOICES, STATUS_CHOICES, LedgerModel, new_reference


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
    hinted_id = models.CharField(_("gateway's id, says a hint"), max_length=128, blank=True)
    poll_failures = models.PositiveIntegerField(default=0)
    poll_error = models.TextField(_("last poll's error"), blank=True)
    raw = models.TextField(_("last raw answer"), blank=True)

    ledger_fields = frozenset(
        """account provider identity kind amount currency reference sandbox gateway_id state status gateway_status
        live_key payment_url address address_tag pay_amount pay_currency network amount_received amount_refunded tolerance
        first_money_at last_money_at paid_at late gateway_late refund_begun manual on_hold expires_at
        closed_at next_poll_at polled_at hinted_at hinted_id poll_failures poll_error raw""".split()
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
