"""Finding invoices by what a customer's mail may quote: exact values and beginnings, which indexes serve."""

import uuid

from django.contrib import admin
from django.db.models import Exists, OuterRef, Q
from django.utils.translation import gettext_lazy as _

from .. import conf
from ..models import Invoice, PaymentAttempt, Transfer

__all__ = ["AccountFilter", "InvoiceAccountFilter", "InvoiceSearch", "invoices_with"]

MOST_FOUND = 1000


def invoices_with(term):
    """The condition that an invoice's order begins with ``term``, or that one of its ids, addresses or hashes is it."""
    words = {term, term.lower()}
    # Looked up first: a subquery inside an OR would keep the database from its indexes.
    found = set(
        PaymentAttempt.objects.filter(Q(gateway_id=term) | Q(address__in=words) | Q(reference=term)).values_list(
            "invoice_id", flat=True
        )[:MOST_FOUND]
    )
    transfers = Transfer.objects.filter(tx_hash__in=words, attempt__isnull=False)
    found.update(transfers.values_list("attempt__invoice_id", flat=True)[:MOST_FOUND])
    condition = Q(order_id__startswith=term) | Q(email__in=words) | Q(pk__in=found)
    try:
        return condition | Q(uuid=uuid.UUID(term))
    except ValueError:
        return condition


class InvoiceSearch:
    """For a ``ModelAdmin``: searches by ``invoices_with``; ``to_invoice`` is the path to the invoice, "" for itself."""

    search_fields = ["pk"]  # shows the box
    search_help_text = _("Order (or its beginning), public id, e-mail, or the gateway's id, address or transaction hash in full")
    to_invoice = "invoice"

    def get_search_results(self, request, queryset, search_term):
        term = search_term.strip()
        if not term:
            return queryset, False
        if not self.to_invoice:
            return queryset.filter(invoices_with(term)), False
        return queryset.filter(**{f"{self.to_invoice}__in": Invoice.objects.filter(invoices_with(term))}), False


class AccountFilter(admin.SimpleListFilter):
    title = _("account")
    parameter_name = "account"

    def lookups(self, request, model_admin):
        return [(alias, alias) for alias in conf.account_aliases()]

    def queryset(self, request, queryset):
        return queryset.filter(account=self.value()) if self.value() else queryset


class InvoiceAccountFilter(AccountFilter):
    """Invoices with an attempt at the account."""

    def queryset(self, request, queryset):
        if not self.value():
            return queryset
        return queryset.filter(Exists(PaymentAttempt.objects.filter(invoice=OuterRef("pk"), account=self.value())))
