"""Invoices: the list, the page with everything that happened, and what staff do to them."""

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Prefetch, Q
from django.forms import BooleanField
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from .. import conf, services
from ..models import CallbackReceipt, EventDelivery, Invoice, PaymentAttempt, Transfer
from ..providers.base import Capability
from ..statuses import SETTLED, InvoiceStatus, Source, permitted
from .attempt import ATTEMPT
from .base import OptionalReasonForm, ReasonForm, Step, StepsAdmin, list_action
from .search import InvoiceAccountFilter, InvoiceSearch
from .show import EMPTY, age, badge, block, link, money, raw, short_id, status_badge

__all__ = ["InvoiceAdmin"]

EVENTS_SHOWN = 200
TRANSFERS_SHOWN = 200
RECEIPTS_SHOWN = 50


class CancelForm(ReasonForm):
    """With ``force`` where money was seen: without it the service refuses."""

    force = BooleanField(label=_("Cancel although money was seen"), required=False)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if not PaymentAttempt.objects.filter(invoice__in=self.rows, first_money_at__isnull=False).exists():
            del self.fields["force"]


def _cancel(invoice, user, data):
    done = services.cancel_invoice(invoice, reason=data["reason"], user=user, force=data.get("force", False))
    if done.told:
        return messages.SUCCESS, gettext("Cancelled, also at the gateway.")
    return messages.WARNING, gettext("Cancelled on our side only: the gateway was not told, and money may still arrive.")


def _cancel_notes(invoice):
    attempt = invoice.live_attempt
    if attempt is None:
        return [gettext("No attempt is open, so there is nothing to tell a gateway.")]
    try:
        provider = conf.provider_for(attempt.account)
    except ImproperlyConfigured as error:
        return [str(error)]
    if provider.supports(Capability.CANCEL):
        return [gettext("%(gateway)s will be told.") % {"gateway": provider.name}]
    return [
        gettext("%(gateway)s cannot cancel: this closes our side only, and money may still arrive.") % {"gateway": provider.name}
    ]


def _refresh(invoice, user, data):
    now = services.refresh_invoice(invoice)
    return messages.SUCCESS, gettext("The gateway was asked; the status is “%(status)s”.") % {"status": now.get_status_display()}


def _accept(invoice, user, data):
    now = services.accept_invoice(invoice, reason=data["reason"], user=user)
    return messages.SUCCESS, gettext("Accepted by hand; the status is “%(status)s”.") % {"status": now.get_status_display()}


def _reviewed(invoice, user, data):
    services.mark_reviewed(invoice, reason=data["reason"], user=user)
    return messages.SUCCESS, gettext("Marked as reviewed.")


def _may_become(invoice, status):
    return permitted(InvoiceStatus(invoice.status), status, Source.OPERATOR) == "yes"


STEPS = (
    Step(
        name="refresh",
        label=_("Refresh from the gateway"),
        question=_("Every attempt is asked about at its gateway now, and what it answers is applied."),
        run=_refresh,
        form=OptionalReasonForm,
    ),
    Step(
        name="accept",
        label=_("Accept by hand"),
        question=_("The invoice counts as paid, and the shop delivers."),
        run=_accept,
        permission="accept",
        offered=lambda invoice: not invoice.is_paid and (invoice.status in SETTLED or _may_become(invoice, InvoiceStatus.PAID)),
    ),
    Step(
        name="cancel",
        label=_("Cancel the invoice"),
        question=_("The payer is told not to pay. What still arrives is kept, and asks for a review."),
        run=_cancel,
        permission="cancel",
        form=CancelForm,
        notes=_cancel_notes,
        offered=lambda invoice: _may_become(invoice, InvoiceStatus.CANCELLED),
    ),
    ATTEMPT,
    Step(
        name="reviewed",
        label=_("Mark as reviewed"),
        question=_("A person has looked, and nothing more is to do. The status stays as it is."),
        run=_reviewed,
        offered=lambda invoice: invoice.needs_review,
    ),
)


class InvoiceList(ChangeList):
    def get_queryset(self, request, **kwargs):
        attempts = PaymentAttempt.objects.only("invoice_id", "account", "live_key").order_by("pk")
        unseen = ("description", "metadata", "options", "pay_currencies", "return_url", "cancel_url")
        return super().get_queryset(request, **kwargs).defer(*unseen).prefetch_related(Prefetch("attempts", attempts))


@admin.register(Invoice)
class InvoiceAdmin(InvoiceSearch, StepsAdmin):
    """Invoices. A status changes only by a step, which goes through ``services``."""

    steps = STEPS
    actions = [list_action(step) for step in STEPS]
    to_invoice = ""
    list_display = ["name", "status_text", "price", "received", "attention", "created", "account"]
    list_display_links = ["name"]
    list_filter = ["status", "needs_review", "late", InvoiceAccountFilter]
    sortable_by = ["created"]  # the only column here with an index to sort by
    fieldsets = [
        (None, {"fields": [("order_id", "uuid"), ("status_text", "marks"), ("price", "received", "refunded"), "review_reason"]}),
        (_("Payer"), {"fields": [("email", "description"), ("return_link", "cancel_link")]}),
        (
            _("Dates"),
            {
                "fields": [
                    ("created_at", "expires_at", "paid_at"), ("cancelled_at", "accepted_at"), ("reversed_at", "refunded_at"),
                ],
            },
        ),
        (
            _("Terms"),
            {
                "classes": ["collapse"],
                "fields": [
                    ("lifetime", "coins", "page"), ("underpaid_tolerance", "fee_payer"), "metadata_block", "options_block",
                    ("idempotency_key", "version", "epoch"),
                ],
            },
        ),
    ]  # fmt: skip

    def has_cancel_permission(self, request, obj=None):
        return self.has_own_permission(request, "cancel")

    def has_accept_permission(self, request, obj=None):
        return self.has_own_permission(request, "accept")

    def get_changelist(self, request, **kwargs):
        return InvoiceList

    def describe(self, row):
        received = money(row.amount_received, row.currency)
        facts = [str(row), row.get_status_display(), self.price(row)]
        return " · ".join(facts + ([gettext("received %(amount)s") % {"amount": received}] if received else []))

    @admin.display(description=_("order"))
    def name(self, invoice):
        test = badge(gettext("test"), "test") if invoice.sandbox else ""
        short = short_id(invoice)
        if not invoice.order_id:
            return format_html("{} {}", short, test)
        return format_html('{} {}<br><small class="ci-quiet">{}</small>', invoice.order_id, test, short)

    @admin.display(description=_("status"))
    def status_text(self, invoice):
        return status_badge(invoice.status)

    @admin.display(description=_("price"))
    def price(self, invoice):
        return money(invoice.amount, invoice.currency)

    @admin.display(description=_("received"))
    def received(self, invoice):
        return money(invoice.amount_received, invoice.currency) or EMPTY

    @admin.display(description=_("refunded"))
    def refunded(self, invoice):
        return money(invoice.amount_refunded, invoice.currency) or EMPTY

    @admin.display(description=_("account"))
    def account(self, invoice):
        attempts = list(invoice.attempts.all())
        live = [attempt for attempt in attempts if attempt.live_key is not None]
        return (live or attempts)[-1].account if attempts else None

    @admin.display(description=_("attention"), empty_value="")
    def attention(self, invoice):
        words = [badge(gettext("review"), "review")] if invoice.needs_review else []
        if invoice.late:
            words.append(badge(gettext("late"), "late"))
        return format_html_join(" ", "{}", ((word,) for word in words)) or None

    @admin.display(description=_("age"), ordering="created_at")
    def created(self, invoice):
        return age(invoice.created_at)

    @admin.display(description=_("marks"))
    def marks(self, invoice):
        words = ("needs_review", "late", "manual", "on_hold", "sandbox")
        return ", ".join(str(Invoice._meta.get_field(word).verbose_name) for word in words if getattr(invoice, word)) or EMPTY

    @admin.display(description=_("return URL"))
    def return_link(self, invoice):
        return link(invoice.return_url) or EMPTY

    @admin.display(description=_("cancel URL"))
    def cancel_link(self, invoice):
        return link(invoice.cancel_url) or EMPTY

    @admin.display(description=_("pay currencies"))
    def coins(self, invoice):
        return ", ".join(map(str, invoice.pay_currencies)) or EMPTY

    @admin.display(description=_("metadata"))
    def metadata_block(self, invoice):
        return block(invoice.metadata) or EMPTY

    @admin.display(description=_("gateway options"))
    def options_block(self, invoice):
        return block(invoice.options) or EMPTY

    def render_change_form(self, request, context, *args, obj=None, **kwargs):
        attempts = list(obj.attempts.order_by("pk"))
        numbers = {attempt.pk: number for number, attempt in enumerate(attempts, 1)}
        context |= {
            "attempts": [_attempt_shown(attempt, numbers) for attempt in attempts],
            "transfers": _transfers_shown(attempts, numbers),
            "events": _events_shown(obj, numbers),
            "receipts": _receipts_shown(attempts, numbers),
            "shown": {"events": EVENTS_SHOWN, "transfers": TRANSFERS_SHOWN, "receipts": RECEIPTS_SHOWN},
            "may_resend": request.user.has_perm("crypto_invoices.change_invoiceevent"),
            "may_replay": request.user.has_perm("crypto_invoices.change_callbackreceipt"),
        }
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)


def _attempt_shown(attempt, numbers):
    polls = ngettext("%(count)d failed poll", "%(count)d failed polls", attempt.poll_failures) % {"count": attempt.poll_failures}
    facts = [
        (_("gateway"), attempt.provider.rpartition(".")[2]),
        (_("gateway's id"), attempt.gateway_id),
        (_("our reference"), attempt.reference),
        (_("gateway's status"), attempt.gateway_status),
        (_("asked"), money(attempt.amount, attempt.currency)),
        (_("received"), money(attempt.amount_received, attempt.currency)),
        (_("refunded"), money(attempt.amount_refunded, attempt.currency)),
        (_("to pay"), money(attempt.pay_amount, attempt.pay_currency)),
        (_("network"), attempt.network),
        (_("address"), attempt.address),
        (_("tag or memo"), attempt.address_tag),
        (_("payment page"), link(attempt.payment_url)),
        (_("created"), attempt.created_at),
        (_("expires"), attempt.expires_at),
        (_("paid"), attempt.paid_at),
        (_("closed"), attempt.closed_at),
        (_("last poll"), attempt.polled_at),
        (_("next poll"), attempt.next_poll_at),
    ]
    return {
        "number": numbers[attempt.pk],
        "attempt": attempt,
        "live": attempt.live_key is not None,
        "status": status_badge(attempt.status),
        "facts": [(name, value) for name, value in facts if value not in (None, "")],
        "polls": polls if attempt.poll_failures else "",
        "raw": raw(attempt.raw),
    }


def _transfers_shown(attempts, numbers):
    rows = Transfer.objects.filter(attempt__in=attempts).order_by("-pk")[:TRANSFERS_SHOWN]
    currency = {attempt.pk: attempt.currency for attempt in attempts}
    return [
        {
            "transfer": row,
            "number": numbers[row.attempt_id],
            "transaction": link(row.explorer_url, str(row)) if row.explorer_url else str(row),
            "amount": money(row.amount, row.currency),
            "value": money(row.value, currency[row.attempt_id]),
        }
        for row in reversed(rows)
    ]


def _events_shown(invoice, numbers):
    deliveries = Prefetch("deliveries", EventDelivery.objects.order_by("pk"))
    rows = invoice.events.select_related("user").prefetch_related(deliveries).order_by("-pk")[:EVENTS_SHOWN]
    return [
        {
            "event": row,
            "number": numbers.get(row.attempt_id),
            "old": status_badge(row.old_status) if row.old_status != row.new_status else None,
            "new": status_badge(row.new_status),
            "data": block(row.data),
        }
        for row in reversed(rows)
    ]


def _receipts_shown(attempts, numbers):
    references = {attempt.reference: numbers[attempt.pk] for attempt in attempts}
    rows = CallbackReceipt.objects.filter(Q(attempt__in=attempts) | Q(reference__in=references)).order_by("-pk")[:RECEIPTS_SHOWN]
    return [
        {"receipt": row, "number": numbers.get(row.attempt_id) or references.get(row.reference), "body": raw(row.body)}
        for row in reversed(rows)
    ]
