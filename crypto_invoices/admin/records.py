"""What was received and what was delivered: callbacks, events and deliveries, each over all invoices and addresses."""

from django.contrib import admin, messages
from django.db.models import Exists, OuterRef
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from .. import callbacks, services
from ..exceptions import NotAllowed
from ..models import CallbackReceipt, EventDelivery, InvoiceEvent, StaticAddress
from .base import OptionalReasonForm, ReadOnlyAdmin, Step, StepsAdmin, list_action
from .search import AccountFilter, InvoiceSearch
from .show import EMPTY, age, block, raw, short_id, status_badge

__all__ = ["CallbackReceiptAdmin", "EventDeliveryAdmin", "InvoiceEventAdmin"]

LONGEST_BODY = 70_000  # characters: all of what the callback view lets in


def _page(row, text=None):
    """A link to the admin page of ``row``; only text where that model is not registered."""
    try:
        url = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
    except NoReverseMatch:
        return text or str(row)
    return format_html('<a href="{}">{}</a>', url, text or row)


def _owner_page(owner):
    return _page(owner, owner.address if isinstance(owner, StaticAddress) else owner.order_id or short_id(owner))


def _resend(event, user, data):
    if not event.signals:
        raise NotAllowed(gettext("this event has no signals"))
    services.resend(event)
    rows = EventDelivery.objects.filter(event=event)
    failed = [row.receiver for row in rows if row.state != EventDelivery.State.DONE]
    if failed:
        return messages.WARNING, gettext("Sent again; these receivers failed: %(names)s.") % {"names": ", ".join(failed)}
    return messages.SUCCESS, gettext("Sent again: %(count)d deliveries are done.") % {"count": len(rows)}


def _replay(receipt, user, data):
    answer = callbacks.replay(receipt)
    receipt = CallbackReceipt.objects.get(pk=receipt.pk)
    text = gettext("Taken in again: answer %(answer)d, verdict “%(verdict)s”. %(reason)s") % {
        "answer": answer.status,
        "verdict": receipt.get_verdict_display(),
        "reason": receipt.reason,
    }
    return (messages.SUCCESS if answer.status < 300 else messages.WARNING), text.strip()


RESEND = Step(
    name="resend",
    label=_("Resend the signals"),
    question=_("Every receiver is called again, also those that are done: they know the event by its id."),
    run=_resend,
    form=OptionalReasonForm,
    offered=lambda event: bool(event.signals),
)
REPLAY = Step(
    name="replay",
    label=_("Replay"),
    question=_(
        "The callback is taken in again as if it arrived now, its signature checked. One that was applied changes nothing."
    ),
    run=_replay,
    form=OptionalReasonForm,
)


class DeliveryFilter(admin.SimpleListFilter):
    title = _("delivery")
    parameter_name = "delivery"

    def lookups(self, request, model_admin):
        return [("due", _("due")), ("given_up", _("a receiver was given up"))]

    def queryset(self, request, queryset):
        if self.value() == "due":
            return queryset.filter(due_at__isnull=False)
        if self.value() == "given_up":
            return queryset.filter(Exists(EventDelivery.objects.filter(event=OuterRef("pk"), state=EventDelivery.State.GIVEN_UP)))
        return queryset


@admin.register(InvoiceEvent)
class InvoiceEventAdmin(InvoiceSearch, StepsAdmin):
    """What happened to invoices and static addresses, and which signals still have to be delivered."""

    steps = (RESEND,)
    actions = [list_action(RESEND)]
    list_display = ["name", "invoice_page", "new", "created", "source", "user", "due_at", "signal_names"]
    list_display_links = ["name"]
    list_filter = [DeliveryFilter]
    list_select_related = ["invoice", "static_address", "user"]
    sortable_by = ["due_at"]
    ordering = ["-pk"]
    fieldsets = [
        (
            None,
            {
                "fields": [
                    "event_id", "invoice_page", "kind", "old", "new", "source", "user", "reason", "data_block", "created_at",
                    "signal_names", "due_at", "tries", "deliveries",
                ],
            },
        ),
    ]  # fmt: skip

    @admin.display(description=_("event"))
    def name(self, event):
        return f"{event.kind} {event.version}"

    @admin.display(description=_("invoice or address"))
    def invoice_page(self, event):
        return _owner_page(event.owner)

    @admin.display(description=_("old status"))
    def old(self, event):
        return status_badge(event.old_status) or EMPTY

    @admin.display(description=_("new status"))
    def new(self, event):
        return status_badge(event.new_status)

    @admin.display(description=_("signals"))
    def signal_names(self, event):
        return ", ".join(map(str, event.signals)) or EMPTY

    @admin.display(description=_("age"))
    def created(self, event):
        return age(event.created_at)

    @admin.display(description=_("data"))
    def data_block(self, event):
        return block(event.data) or EMPTY

    @admin.display(description=_("deliveries"))
    def deliveries(self, event):
        rows = event.deliveries.order_by("pk")
        return format_html_join(
            "", '<div>{}: {}, {} {}</div>', ((row.receiver, row.signal, row.get_state_display(), row.error) for row in rows)
        ) or EMPTY  # fmt: skip


@admin.register(EventDelivery)
class EventDeliveryAdmin(InvoiceSearch, ReadOnlyAdmin):
    """What each receiver did with each signal; those that failed or were given up are filters away."""

    to_invoice = "event__invoice"
    list_display = ["receiver", "signal", "state", "invoice_page", "tries", "next_try_at", "error_start"]
    list_filter = ["state"]
    list_select_related = ["event__invoice", "event__static_address"]
    sortable_by = []
    ordering = ["-pk"]
    fieldsets = [
        (
            None,
            {
                "fields": [
                    "event_page", "invoice_page", "signal", "receiver", "state", "tries", "next_try_at", "error", "updated_at",
                ],
            },
        ),
    ]  # fmt: skip

    @admin.display(description=_("last error"))
    def error_start(self, delivery):
        return raw(delivery.error, 100) or None

    @admin.display(description=_("event"))
    def event_page(self, delivery):
        return _page(delivery.event)

    @admin.display(description=_("invoice or address"))
    def invoice_page(self, delivery):
        return _owner_page(delivery.event.owner)


@admin.register(CallbackReceipt)
class CallbackReceiptAdmin(InvoiceSearch, StepsAdmin):
    """Callbacks with a good signature, and what became of them. Their signatures are not shown."""

    steps = (REPLAY,)
    actions = [list_action(REPLAY)]
    to_invoice = "attempt__invoice"
    list_display = ["received_at", "account", "verdict", "reason_start", "seen", "invoice_page"]
    list_filter = ["verdict", AccountFilter]
    list_select_related = ["attempt__invoice", "static_address"]
    sortable_by = []
    fieldsets = [
        (
            None,
            {
                "fields": [
                    "account", "received_at", "seen", "verdict", "reason", "invoice_page", "reference", "digest", "body_text",
                ],
            },
        ),
    ]  # fmt: skip

    def get_queryset(self, request):
        return super().get_queryset(request).defer("body", "headers")

    @admin.display(description=_("reason"))
    def reason_start(self, receipt):
        return raw(receipt.reason, 100) or None

    @admin.display(description=_("invoice or address"))
    def invoice_page(self, receipt):
        owner = receipt.attempt.invoice if receipt.attempt else receipt.static_address
        return _owner_page(owner) if owner else EMPTY

    @admin.display(description=_("body"))
    def body_text(self, receipt):
        return format_html(
            '<details><summary>{}</summary><pre class="ci-raw">{}</pre></details>',
            gettext("as it came"),
            raw(receipt.body, LONGEST_BODY),
        )
