"""Admin pages that only show, and the steps that staff take from them: a page that asks for the reason, then the doing."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.utils import flatten_fieldsets
from django.contrib.auth import get_permission_codename
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db import transaction
from django.http import Http404, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..exceptions import CryptoInvoicesError

__all__ = ["OptionalReasonForm", "ReadOnlyAdmin", "ReasonForm", "Step", "StepsAdmin", "list_action"]

logger = logging.getLogger("crypto_invoices.admin")

MAX_SELECTED = 50  # rows of one step from the list
BUDGET = 20.0  # seconds; of a selection no further row is begun after it
LONGEST_TEXT = 500  # characters of an error in a message
NAMES_SHOWN = 10


class ReadOnlyAdmin(admin.ModelAdmin):
    """Everything in ``fieldsets`` is shown, nothing can be added, edited or deleted; a forged POST is a 403."""

    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    view_on_site = False

    def has_add_permission(self, request, obj=None):
        return False

    def has_change_permission(self, request, obj=None):
        return False

    def has_delete_permission(self, request, obj=None):
        return False

    def get_readonly_fields(self, request, obj=None):
        return flatten_fieldsets(self.fieldsets)


class ReasonForm(forms.Form):
    """Why it is done. ``rows`` are what it is done to."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 60}),
        help_text=_("Kept in the history."),
    )

    def __init__(self, *args, rows, **kwargs):
        super().__init__(*args, **kwargs)
        self.rows = rows


class OptionalReasonForm(ReasonForm):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["reason"].required = False


@dataclass(frozen=True, kw_only=True)
class Step:
    """Something that staff do to a row.

    ``run(row, user, data)`` does it with the form's cleaned data and returns a message's level and text. ``notes(row)``
    are sentences to read first, ``offered(row)`` whether the page has the button: ``run`` has the last word on that.
    """

    name: str  # ends the URL and its name
    label: str
    question: str
    run: Callable
    permission: str = "operate"  # asks has_<permission>_permission
    form: type = ReasonForm
    notes: Callable = lambda row: ()
    offered: Callable = lambda row: True


def list_action(step):
    """The entry of the list's action menu that leads to the page of ``step``."""

    @admin.action(description=step.label, permissions=[step.permission])
    def action(modeladmin, request, queryset):
        return modeladmin.ask(request, step, queryset)

    action.__name__ = step.name
    return action


class StepsAdmin(ReadOnlyAdmin):
    """A read-only admin with ``steps``, from a row's page and for selected rows of the list.

    The URL names are ``admin:<app>_<model>_<step>`` (args: pk) and ``..._<step>_selected`` (query: ids).
    """

    steps = ()

    def has_operate_permission(self, request, obj=None):
        """Whether the user may take the steps that have no permission of their own: Django's change permission."""
        return self.has_own_permission(request, "change")

    def has_own_permission(self, request, action):
        return request.user.has_perm(f"{self.opts.app_label}.{get_permission_codename(action, self.opts)}")

    def may(self, request, step, obj=None):
        """Whether the user may take this step, on this row when one is given."""
        return self.has_view_permission(request, obj) and getattr(self, f"has_{step.permission}_permission")(request, obj)

    def describe(self, row):
        """The row on the page that asks for the reason."""
        return str(row)

    def get_urls(self):
        name = f"{self.opts.app_label}_{self.opts.model_name}"
        urls = []
        for step in self.steps:
            # Services call a gateway between two commits, so no transaction may be open around them (ATOMIC_REQUESTS).
            view = transaction.non_atomic_requests(self.admin_site.admin_view(partial(self.step_view, step=step)))
            urls += [
                path(f"<int:pk>/{step.name}/", view, name=f"{name}_{step.name}"),
                path(f"{step.name}/", view, name=f"{name}_{step.name}_selected"),
            ]
        return urls + super().get_urls()

    def url(self, request, name, *args):
        """The URL of one of this admin's pages, with the list's filters kept."""
        url = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_{name}", args=args, current_app=self.admin_site.name)
        return self.keep_filters(request, url)

    def keep_filters(self, request, url):
        return add_preserved_filters({"preserved_filters": self.get_preserved_filters(request), "opts": self.opts}, url)

    def render_change_form(self, request, context, *args, obj=None, **kwargs):
        context["steps"] = [
            {"label": step.label, "url": self.url(request, step.name, obj.pk)}
            for step in self.steps
            if self.may(request, step, obj) and step.offered(obj)
        ]
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    def ask(self, request, step, queryset):
        """Leads from the list to the page that asks for the reason; None, with a message, when too much is selected."""
        ids = list(queryset.values_list("pk", flat=True)[: MAX_SELECTED + 1])
        if len(ids) > MAX_SELECTED:
            text = gettext("At most %(count)d at once.") % {"count": MAX_SELECTED}
            self.message_user(request, text, messages.ERROR)
            return None
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_{step.name}_selected"
        url = reverse(name, current_app=self.admin_site.name) + "?" + urlencode({"ids": ",".join(map(str, ids))})
        return HttpResponseRedirect(self.keep_filters(request, url))

    def step_view(self, request, *, step, pk=None):
        """GET asks for the reason, POST does it and leads back to where the user came from."""
        if request.method not in ("GET", "HEAD", "POST"):
            return HttpResponseNotAllowed(["GET", "POST"])
        if not self.may(request, step):
            raise PermissionDenied
        rows = self._rows(request, pk)
        if not all(self.may(request, step, row) for row in rows):
            raise PermissionDenied
        back = self.url(request, "changelist") if pk is None else self.url(request, "change", pk)
        form = step.form(request.POST if request.method == "POST" else None, rows=rows)
        if form.is_valid():
            self._take(request, step, rows, form.cleaned_data)
            return HttpResponseRedirect(back)
        request.current_app = self.admin_site.name
        return TemplateResponse(
            request,
            "admin/crypto_invoices/confirm.html",
            {
                **self.admin_site.each_context(request),
                "title": step.label,
                "opts": self.opts,
                "object": None if pk is None else rows[0],
                "step": step,
                "rows": [{"text": self.describe(row), "notes": step.notes(row)} for row in rows],
                "form": form,
                "media": self.media + form.media,
                "back": back,
            },
        )

    def _rows(self, request, pk):
        if pk is not None:
            rows = [self.get_object(request, str(pk))]
        else:
            ids = [text for text in request.GET.get("ids", "").split(",") if text.isdecimal() and len(text) < 19]
            rows = list(self.get_queryset(request).filter(pk__in=ids[:MAX_SELECTED]))
        if not rows or rows[0] is None:
            raise Http404
        return rows

    def _take(self, request, step, rows, data):
        outcomes = defaultdict(list)
        end = time.monotonic() + BUDGET
        for row in rows:
            if row is not rows[0] and time.monotonic() > end:
                outcome = (messages.WARNING, gettext("Not begun, since the others took long. Try again."))
            else:
                outcome = self._take_one(request, step, row, data)
            outcomes[outcome].append(str(row))
        for (level, text), names in outcomes.items():
            if len(rows) > 1:
                more = ", …" if len(names) > NAMES_SHOWN else ""
                text = f"{len(names)} × {text} ({', '.join(names[:NAMES_SHOWN])}{more})"
            self.message_user(request, text, level)

    def _take_one(self, request, step, row, data):
        try:
            level, text = step.run(row, request.user, data)
        except (CryptoInvoicesError, ImproperlyConfigured) as error:
            return messages.ERROR, str(error)[:LONGEST_TEXT] or type(error).__name__
        except Exception:  # must not hide what became of the other rows
            logger.exception("step %s on %s %s failed", step.name, self.opts.model_name, row.pk)
            return messages.ERROR, gettext("An unexpected error; the log tells more.")
        reason = gettext("Reason: %(reason)s") % {"reason": data["reason"]} if data["reason"] else ""
        address = gettext("From: %(address)s") % {"address": request.META.get("REMOTE_ADDR", "?")}
        self.log_change(request, row, " ".join(part for part in (str(text), reason, address) if part))
        return level, str(text)
