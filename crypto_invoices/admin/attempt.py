"""The step with which staff open a new attempt: for the rest of the price, or at another gateway."""

from django import forms
from django.contrib import messages
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from .. import conf, services
from ..models import PaymentAttempt
from ..statuses import SETTLED, InvoiceStatus
from .base import ReasonForm, Step
from .show import money

__all__ = ["ATTEMPT"]

CLOSED = {*SETTLED, InvoiceStatus.REFUNDING, InvoiceStatus.REFUNDED}


class AttemptForm(ReasonForm):
    """With ``amount`` for one invoice only; without, each attempt asks for what is outstanding."""

    account = forms.ChoiceField(label=_("Account"), required=False)
    amount = forms.DecimalField(
        label=_("Amount"),
        required=False,
        max_digits=36,
        decimal_places=18,
        help_text=_("In the currency of the price. Empty: what is outstanding, if that can be computed."),
    )
    field_order = ["account", "amount", "reason"]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        used = PaymentAttempt.objects.filter(invoice__in=self.rows).values_list("account", flat=True)
        aliases = dict.fromkeys([*conf.account_aliases(), *used.order_by("pk")])
        self.fields["account"].choices = [("", _("The one of the last attempt")), *((alias, alias) for alias in aliases)]
        if len(self.rows) > 1:
            del self.fields["amount"]


def _start(invoice, user, data):
    given = {"amount": data.get("amount"), "reason": data["reason"], "user": user}
    attempt = services.start_attempt(invoice, data["account"] or None, **given)
    asked = {"amount": money(attempt.amount, attempt.currency), "account": attempt.account}
    return messages.SUCCESS, gettext("A new attempt asks for %(amount)s at the account %(account)s.") % asked


def _notes(invoice):
    attempt = invoice.live_attempt
    if attempt is None:
        return []
    old = {"account": attempt.account, "amount": money(attempt.amount, attempt.currency)}
    return [gettext("It takes the place of the attempt over %(amount)s at the account %(account)s, which stays watched.") % old]


ATTEMPT = Step(
    name="attempt",
    label=_("Open a new attempt"),
    question=_("The payer's page leads to a new payment from now on. Money of the earlier attempts still counts."),
    run=_start,
    form=AttemptForm,
    notes=_notes,
    offered=lambda invoice: not invoice.is_paid and invoice.status not in CLOSED,
)
