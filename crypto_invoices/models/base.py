"""What the rows share: choices, references, and the fields that only the ledger writes."""

import secrets
import string

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..providers.base import Kind, Page
from ..statuses import AttemptState, InvoiceStatus, Source

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
