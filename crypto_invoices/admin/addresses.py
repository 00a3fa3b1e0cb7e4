"""Static addresses: the list, the page with what came to each, and what staff do to them."""

from django.contrib import admin, messages
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Prefetch, Q
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from .. import conf, services
from ..models import EventDelivery, StaticAddress, Transfer
from ..providers.base import Capability
from .base import OptionalReasonForm, Step, StepsAdmin, list_action
from .search import MOST_FOUND, AccountFilter
from .show import EMPTY, age, badge, block, link, money, raw

__all__ = ["StaticAddressAdmin"]

SHOWN = 200  # of the newest transfers and events


def _refresh(address, user, data):
    services.refresh_static_address(address)
    return messages.SUCCESS, gettext("The gateway was asked.")


def _revoke(address, user, data):
    services.revoke_static_address(address, reason=data["reason"], user=user)
    return messages.SUCCESS, gettext("Revoked at the gateway.")


def _revocable(address):
    try:
        provider = conf.provider_for(address.account)
    except ImproperlyConfigured:
        return False
    return address.state == StaticAddress.State.OPEN and provider.supports(Capability.REVOKE_STATIC_ADDRESS)


STEPS = (
    Step(
        name="refresh",
        label=_("Refresh from the gateway"),
        question=_("The gateway is asked now what came to the address, and what it answers is applied."),
        run=_refresh,
        form=OptionalReasonForm,
    ),
    Step(
        name="revoke",
        label=_("Revoke the address"),
        question=_("The gateway no longer takes payments to it. What a payer sends there later may be lost."),
        run=_revoke,
        offered=_revocable,
    ),
)


@admin.register(StaticAddress)
class StaticAddressAdmin(StepsAdmin):
    """Addresses of customers that take any number of payments."""

    steps = STEPS
    actions = [list_action(step) for step in STEPS]
    search_fields = ["pk"]  # shows the box
    search_help_text = _("Customer, or the address, the gateway's id, our reference or a transaction hash in full")
    list_display = ["name", "customer", "state_text", "pay_currency", "account", "used", "created"]
    list_display_links = ["name"]
    list_filter = ["state", AccountFilter]
    sortable_by = []
    fieldsets = [
        (
            None,
            {
                "fields": [
                    ("customer", "uuid"), ("state_text", "sandbox"), ("address", "address_tag"),
                    ("pay_currency", "coin", "network"), "description",
                ],
            },
        ),
        (_("Transfers"), {"fields": ["transfers"]}),
        (_("Timeline"), {"fields": ["timeline"]}),
        (_("Gateway"), {"fields": [("account", "provider"), ("gateway_id", "reference"), "options_block", "raw_block"]}),
        (_("Polls"), {"fields": [("polled_at", "next_poll_at"), ("poll_failures", "poll_error")]}),
        (_("Shop"), {"fields": ["metadata_block", ("created_at", "revoked_at"), "version"]}),
    ]  # fmt: skip

    def get_search_results(self, request, queryset, search_term):
        term = search_term.strip()
        if not term:
            return queryset, False
        words = {term, term.lower()}
        paid = Transfer.objects.filter(tx_hash__in=words, static_address__isnull=False)
        found = list(paid.values_list("static_address_id", flat=True)[:MOST_FOUND])
        ours = Q(customer=term) | Q(gateway_id=term) | Q(reference=term) | Q(address__in=words) | Q(pk__in=found)
        return queryset.filter(ours), False

    @admin.display(description=_("address"))
    def name(self, address):
        test = badge(gettext("test"), "test") if address.sandbox else ""
        return format_html("{} {}", address, test)

    @admin.display(description=_("state"))
    def state_text(self, address):
        return badge(address.get_state_display(), address.state)

    @admin.display(description=_("last transfer"))
    def used(self, address):
        return age(address.last_transfer_at) if address.last_transfer_at else EMPTY

    @admin.display(description=_("age"))
    def created(self, address):
        return age(address.created_at)

    @admin.display(description=_("metadata"))
    def metadata_block(self, address):
        return block(address.metadata) or EMPTY

    @admin.display(description=_("gateway options"))
    def options_block(self, address):
        return block(address.options) or EMPTY

    @admin.display(description=_("last raw answer"))
    def raw_block(self, address):
        return format_html('<pre class="ci-raw">{}</pre>', raw(address.raw)) if address.raw else EMPTY

    @admin.display(description=_("transfers, the newest first"))
    def transfers(self, address):
        rows = address.transfers.order_by("-pk")[:SHOWN]
        line = '<div>{} <strong>{}</strong> {} <span class="ci-break">{}</span> {}</div>'
        return format_html_join("", line, (_transfer_shown(row) for row in rows)) or EMPTY

    @admin.display(description=_("events, the newest first"))
    def timeline(self, address):
        deliveries = Prefetch("deliveries", EventDelivery.objects.order_by("pk"))
        rows = address.events.select_related("user").prefetch_related(deliveries).order_by("-pk")[:SHOWN]
        return format_html_join("", "<div>{} {} {} {} {}</div>", (_event_shown(row) for row in rows)) or EMPTY


def _transfer_shown(row):
    return (
        age(row.paid_at or row.created_at),
        money(row.amount, row.currency) or row.currency,
        gettext("confirmed") if row.confirmed else gettext("not confirmed yet"),
        link(row.explorer_url, str(row)) if row.explorer_url else str(row),
        row.sender,
    )


def _event_shown(event):
    done = (f"{row.receiver}: {row.get_state_display()} {row.error}".strip() for row in event.deliveries.all())
    delivered = " → ".join(filter(None, (", ".join(event.signals), ", ".join(done))))
    return age(event.created_at), f"{event.version}. {event.kind}", event.user or "", event.reason, delivered
