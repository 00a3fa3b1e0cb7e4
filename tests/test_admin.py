"""The staff's pages: who may do what, what every step does, and that no text of a stranger becomes markup."""

from html.parser import HTMLParser

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.contrib.messages import get_messages
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from crypto_invoices import services
from crypto_invoices.admin import InvoiceAdmin, base, records
from crypto_invoices.models import CallbackReceipt, EventDelivery, Invoice, InvoiceEvent, PaymentAttempt, Transfer
from crypto_invoices.providers.base import Capability, Evidence
from crypto_invoices.providers.oxapay import OxaPay
from crypto_invoices.statuses import InvoiceStatus, Source
from tests.helpers import connected, fact, facts, make, recorded, rows, send, stub_gateway, tell, tx

STEPS = ("cancel", "refresh", "accept", "reviewed")
MODELS = ("invoice", "invoiceevent", "eventdelivery", "callbackreceipt")
PAYLOADS = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'><svg/onload=alert(1)>",
    "</pre></details><iframe src=javascript:alert(1)>",
    "</title></style></textarea><marquee>",
    "{{ 7|add:7 }}{% now 'Y' %}",
    "<a href=javascript:alert(1)>x</a>",
    "%(reason)s %s {0} {}",
    "&lt;b&gt;<!--",
]  # fmt: skip


@pytest.fixture
def gateway(settings):
    return stub_gateway(settings)


@pytest.fixture
def staff(db):
    """Makes a client logged in as staff with these permissions."""

    def log_in(*codenames, superuser=False):
        name = "-".join(codenames)[:150] or "staff"
        user = get_user_model().objects.create_user(name, is_staff=True, is_superuser=superuser)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames, content_type__app_label="crypto_invoices"))
        client = Client(REMOTE_ADDR="192.0.2.7")
        client.force_login(user)
        client.user = user
        return client

    return log_in


@pytest.fixture
def boss(staff):
    return staff(superuser=True)


def url(name, *args, model="invoice"):
    return reverse(f"admin:crypto_invoices_{model}_{name}", args=args)


def change_url(row):
    return url("change", row.pk, model=row._meta.model_name)


def take(client, step, row, model="invoice", **data):
    """Posts a step's form and returns the message that it left."""
    answer = client.post(url(step, row.pk, model=model), data)
    assert (answer.status_code, answer.headers.get("Location")) == (302, change_url(row))
    *_, message = get_messages(answer.wsgi_request)  # unread ones of earlier requests come first
    return message.level_tag, message.message


def history(row):
    return list(LogEntry.objects.filter(object_id=row.pk, content_type__model=row._meta.model_name).order_by("pk"))


def paid(gateway, **arguments):
    """An invoice that a callback has paid: ``(invoice, payment)``."""
    invoice, payment = make(gateway, **arguments)
    transfers = [tx("25")]
    tell(payment, "paid", transfers)
    assert send(payment, "Paid", transfers).status_code == 200
    return Invoice.objects.get(pk=invoice.pk), payment


# What the pages show


@pytest.mark.django_db(transaction=True)
def test_every_page_opens(gateway, boss):
    invoice, _ = paid(gateway, order_id="A-1", metadata={"cart": [1, 2]})
    for model in MODELS:
        assert boss.get(url("changelist", model=model)).status_code == 200
    for row in (invoice, InvoiceEvent.objects.last(), EventDelivery.objects.first(), CallbackReceipt.objects.get()):
        page = boss.get(change_url(row)).text
        assert 'name="_save"' not in page
        assert boss.get(url("history", row.pk, model=row._meta.model_name)).status_code == 200
    page = boss.get(change_url(invoice)).text
    for text in ("payment_received", "invoice_paid", "0xaaa1", "A-1", "190000001", "25 USDT", "DemoShop", "shop.ship_order"):
        assert text in page


@pytest.mark.django_db(transaction=True)
def test_the_page_tells_who_did_what_and_which_receiver_failed(gateway, boss):
    def fails(sender, **kwargs):
        raise RuntimeError("the printer is on fire")

    invoice, _ = make(gateway)
    with connected(fails, "invoice_paid", uid="shop.print_label"):
        services.accept_invoice(invoice, reason="paid in cash", user=boss.user)
    page = boss.get(change_url(invoice)).text
    for text in ("paid in cash", boss.user.username, "shop.print_label", "RuntimeError: the printer is on fire"):
        assert text in page
    due = boss.get(url("changelist", model="invoiceevent"), {"delivery": "due"}).text
    assert "1 event" in due
    EventDelivery.objects.filter(receiver="shop.print_label").update(state=EventDelivery.State.GIVEN_UP)
    assert "1 event" in boss.get(url("changelist", model="invoiceevent"), {"delivery": "given_up"}).text
    assert "1 delivery" in boss.get(url("changelist", model="eventdelivery"), {"state": "given_up"}).text


def test_the_list_and_the_page_take_few_queries(boss, django_assert_max_num_queries):
    invoices = Invoice.objects.bulk_create(Invoice(order_id=f"A-{n}", amount=n, currency="USD") for n in range(1, 51))
    attempts = PaymentAttempt.objects.bulk_create(
        PaymentAttempt(invoice=invoice, account=account, amount=1, currency="USD")
        for invoice in invoices
        for account in ("default", "second")
    )
    now = timezone.now()
    events = InvoiceEvent.objects.bulk_create(
        InvoiceEvent(invoice=invoices[0] if n < 40 else invoices[n], version=n, kind="facts", new_status="paid", source="poll",
                     created_at=now, signals=["invoice_paid"], user=boss.user, attempt=attempts[0])
        for n in range(50)
    )  # fmt: skip
    EventDelivery.objects.bulk_create(
        EventDelivery(event=event, signal="invoice_paid", receiver="shop", state="done", updated_at=now) for event in events
    )
    Transfer.objects.bulk_create(Transfer(attempt=attempts[0], key=str(n), currency="BTC") for n in range(30))
    CallbackReceipt.objects.bulk_create(
        CallbackReceipt(account="default", digest=str(n), attempt=attempts[n % 2], verdict="applied", received_at=now, body=b"x")
        for n in range(30)
    )
    for model in MODELS:
        with django_assert_max_num_queries(6):
            page = boss.get(url("changelist", model=model))
        assert page.context["cl"].result_count >= 30
    with django_assert_max_num_queries(6):
        assert "50 invoices" in boss.get(url("changelist"), {"account": "second"}).text
    with django_assert_max_num_queries(10):
        boss.get(change_url(invoices[0]))


@pytest.mark.django_db(transaction=True)
def test_search_and_filters(gateway, boss):
    invoice, payment = paid(gateway, order_id="ORDER-77", email="payer@example.com")
    other, _ = make(gateway, order_id="ELSE", account="second")
    PaymentAttempt.objects.filter(invoice=invoice).update(address="TAddressOfTheAttempt")

    def found(**query):
        return {row.pk for row in boss.get(url("changelist"), query).context["cl"].result_list}

    reference = invoice.attempts.get().reference
    words = ["ORDER-77", "ORDER-", str(invoice.uuid), invoice.uuid.hex, "payer@example.com", payment["track_id"], "0xaaa1"]
    for term in [*words, "0xAAA1", "TAddressOfTheAttempt", reference, " ORDER-77 "]:
        assert found(q=term) == {invoice.pk}, term
    for term in ("RDER-77", "example.com", "0xaaa", "no such thing", "%", "'\""):
        assert found(q=term) == set(), term
    assert boss.get(url("changelist"), {"q": "\x00"}).status_code == 200
    assert found(status="paid") == found(account="default") == {invoice.pk}
    assert found(account="second") == found(status="pending") == {other.pk}
    assert found(needs_review__exact="1") == found(late__exact="1") == found(account="nobody") == set()
    for model in MODELS[1:]:
        answer = boss.get(url("changelist", model=model), {"q": "ORDER-77"})
        assert answer.context["cl"].result_count >= 1
        assert boss.get(url("changelist", model=model), {"q": "nothing"}).context["cl"].result_count == 0


def test_an_invoice_shows_the_live_attempt_else_the_last(boss):
    invoice = Invoice.objects.create(amount=1, currency="USD")
    for account, live in (("first", None), ("second", invoice.pk), ("third", None)):
        PaymentAttempt.objects.create(invoice=invoice, account=account, amount=1, currency="USD", live_key=live)
    assert '<td class="field-account">second</td>' in boss.get(url("changelist")).text
    PaymentAttempt.objects.update(live_key=None)
    assert '<td class="field-account">third</td>' in boss.get(url("changelist")).text
    PaymentAttempt.objects.all().delete()
    assert '<td class="field-account">-</td>' in boss.get(url("changelist")).text


def test_a_test_is_marked_as_one(boss):
    invoice = Invoice.objects.create(amount=1, currency="USD", sandbox=True)
    assert '<span class="ci-badge ci-test">test</span>' in boss.get(url("changelist")).text
    assert "no real money moves" in boss.get(change_url(invoice)).text


@pytest.mark.django_db(transaction=True)
def test_pages_that_are_not_registered_are_not_linked(gateway, boss, monkeypatch):
    paid(gateway, order_id="A-1")
    monkeypatch.setattr(records, "reverse", lambda *args, **kwargs: reverse("no-such-page"))
    assert '<td class="field-invoice_page">A-1</td>' in boss.get(url("changelist", model="invoiceevent")).text


def test_many_events_are_cut(boss, monkeypatch):
    monkeypatch.setattr("crypto_invoices.admin.invoices.EVENTS_SHOWN", 2)
    invoice = Invoice.objects.create(amount=1, currency="USD")
    for n in range(3):
        InvoiceEvent.objects.create(
            invoice=invoice, version=n, kind=f"kind-{n}", new_status="paid", source="poll", created_at=timezone.now()
        )
    page = boss.get(change_url(invoice)).text
    assert "kind-0" not in page
    assert page.index("kind-1") < page.index("kind-2")
    everything = url("changelist", model="invoiceevent") + f"?invoice__id__exact={invoice.pk}"
    assert everything in page
    assert boss.get(everything).context["cl"].result_count == 3


# Who may do what (T53)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("step", STEPS)
def test_a_get_asks_and_changes_nothing(gateway, boss, step):
    invoice, _ = make(gateway)
    before, calls = rows(), len(gateway.requests)
    for address in (url(step, invoice.pk), url(f"{step}_selected") + f"?ids={invoice.pk}"):
        answer = boss.get(address)
        assert answer.status_code == 200
        assert 'name="reason"' in answer.text
        assert "csrfmiddlewaretoken" in answer.text
        assert boss.head(address).status_code == 200
        assert boss.put(address).status_code == boss.delete(address).status_code == 405
    assert (rows(), len(gateway.requests), LogEntry.objects.count()) == (before, calls, 0)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("step", STEPS)
def test_a_post_needs_the_token(gateway, boss, step):
    invoice, _ = make(gateway)
    before = rows()
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(boss.user)
    assert strict.post(url(step, invoice.pk), {"reason": "x"}).status_code == 403
    assert strict.post(url(f"{step}_selected") + f"?ids={invoice.pk}", {"reason": "x"}).status_code == 403
    assert rows() == before
    token = strict.get(url(step, invoice.pk)).context["csrf_token"]
    answer = strict.post(url(step, invoice.pk), {"reason": "x", "csrfmiddlewaretoken": str(token)})
    assert answer.headers["Location"] == change_url(invoice)


NEEDED = {"cancel": "cancel_invoice", "accept": "accept_invoice", "refresh": "change_invoice", "reviewed": "change_invoice"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("step", STEPS)
def test_each_step_has_its_permission(gateway, staff, step):
    invoice, _ = make(gateway)
    before = rows()
    others = {"add_invoice", "delete_invoice", "refund_invoice", *NEEDED.values()} - {NEEDED[step]}
    may_look = staff("view_invoice")
    may_other = staff("view_invoice", *sorted(others - {"change_invoice"}))
    may_not_look = staff(*([NEEDED[step]] if NEEDED[step] != "change_invoice" else ["cancel_invoice"]))
    for client in (may_look, may_other, may_not_look):
        for address in (url(step, invoice.pk), url(f"{step}_selected") + f"?ids={invoice.pk}"):
            assert client.get(address).status_code == 403
            assert client.post(address, {"reason": "x"}).status_code == 403
    assert f'value="{step}"' not in may_look.get(url("changelist")).text
    assert url(step, invoice.pk) not in may_look.get(change_url(invoice)).text
    assert rows() == before
    allowed = staff("view_invoice", NEEDED[step])
    assert f'value="{step}"' in allowed.get(url("changelist")).text
    take(allowed, step, invoice, reason="x")


@pytest.mark.django_db
def test_strangers_are_sent_to_the_login(client):
    invoice = Invoice.objects.create(amount=1, currency="USD")
    user = get_user_model().objects.create_user("payer")
    for _ in range(2):
        for address in (url("changelist"), change_url(invoice), *(url(step, invoice.pk) for step in STEPS)):
            assert client.post(address, {"reason": "x"}).headers["Location"].startswith(reverse("admin:login"))
        client.force_login(user)


@pytest.mark.django_db(transaction=True)
def test_forged_forms_change_nothing(gateway, staff):
    invoice, _ = paid(gateway)
    before = rows()
    event, receipt, delivery = InvoiceEvent.objects.last(), CallbackReceipt.objects.get(), EventDelivery.objects.first()
    data = {
        "_save": "Save", "status": "refunded", "amount": "1", "amount_received": "9", "needs_review": "on", "paid_at_0": "",
        "verdict": "hint", "kind": "x", "state": "failed", "order_id": "forged", "email": "x@example.com",
        "attempts-TOTAL_FORMS": "1", "attempts-INITIAL_FORMS": "1", "attempts-0-id": "1", "attempts-0-status": "pending",
    }  # fmt: skip
    clients = [
        staff(superuser=True),
        staff(*(f"{word}_{model}" for word in ("add", "view", "change", "delete") for model in MODELS)),
    ]
    for client in clients:
        for row in (invoice, event, receipt, delivery):
            model = row._meta.model_name
            assert client.post(change_url(row), data).status_code == 403
            assert client.post(change_url(row), {**data, "_saveasnew": "1"}).status_code == 403
            assert client.get(url("add", model=model)).status_code == 403
            assert client.post(url("add", model=model), data).status_code == 403
            assert client.get(url("delete", row.pk, model=model)).status_code == 403
            assert client.post(url("delete", row.pk, model=model), {"post": "yes"}).status_code == 403
            listed = {
                "form-TOTAL_FORMS": "1", "form-INITIAL_FORMS": "1", "form-0-id": row.pk, "form-0-status": "paid", "_save": "1",
            }  # fmt: skip
            client.post(url("changelist", model=model), listed)
            client.post(
                url("changelist", model=model),
                {"action": "delete_selected", "_selected_action": row.pk, "index": 0, "post": "yes"},
            )
    assert rows() == before


@pytest.mark.django_db(transaction=True)
def test_views_that_call_a_gateway_run_outside_of_a_transaction(gateway, boss, monkeypatch):
    invoice, _ = make(gateway)
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    assert take(boss, "refresh", invoice)[0] == "success"
    assert take(boss, "cancel", invoice, reason="x")[0] == "warning"
    assert facts(invoice) == fact("cancelled")


@pytest.mark.django_db(transaction=True)
def test_a_project_may_refuse_a_step_on_one_row(gateway, boss, monkeypatch):
    mine, _ = make(gateway, order_id="mine")
    other, _ = make(gateway, order_id="other")

    def has_cancel_permission(self, request, obj=None):
        return obj is None or obj.order_id == "mine"

    monkeypatch.setattr(InvoiceAdmin, "has_cancel_permission", has_cancel_permission)
    assert url("cancel", other.pk) not in boss.get(change_url(other)).text
    for address in (url("cancel", other.pk), url("cancel_selected") + f"?ids={mine.pk},{other.pk}"):
        assert boss.post(address, {"reason": "x"}).status_code == 403
    assert take(boss, "cancel", mine, reason="x")[0] == "warning"
    assert facts(other) == fact("pending")


# What each step does


@pytest.mark.django_db(transaction=True)
def test_cancel_says_that_the_gateway_was_not_told(gateway, boss):
    invoice, _ = make(gateway)
    assert "OxaPay cannot cancel" in boss.get(url("cancel", invoice.pk)).text
    level, text = take(boss, "cancel", invoice, reason="customer asked")
    assert (level, text) == (
        "warning", "Cancelled on our side only: the gateway was not told, and money may still arrive.",
    )  # fmt: skip
    assert facts(invoice) == fact("cancelled")
    event = InvoiceEvent.objects.get(kind="cancel")
    assert (event.user, event.reason, event.source) == (boss.user, "customer asked", "operator")
    (entry,) = history(invoice)
    assert entry.user == boss.user
    assert "Reason: customer asked" in entry.get_change_message()
    assert "From: 192.0.2.7" in entry.get_change_message()
    assert "customer asked" in boss.get(url("history", invoice.pk)).text


@pytest.mark.django_db(transaction=True)
def test_cancel_says_that_the_gateway_was_told(gateway, boss, monkeypatch):
    def cancel(self, remote):
        return Evidence(source=Source.POLL, remote=remote, word="cancelled", status=InvoiceStatus.CANCELLED, final=True)

    monkeypatch.setattr(OxaPay, "capabilities", OxaPay.capabilities | {Capability.CANCEL})
    monkeypatch.setattr(OxaPay, "cancel", cancel, raising=False)
    invoice, _ = make(gateway)
    assert "OxaPay will be told" in boss.get(url("cancel", invoice.pk)).text
    assert take(boss, "cancel", invoice, reason="x") == ("success", "Cancelled, also at the gateway.")
    assert facts(invoice) == fact("cancelled")
    assert "nothing to tell a gateway" in boss.get(url("cancel", invoice.pk)).text


@pytest.mark.django_db(transaction=True)
def test_cancel_needs_force_where_money_was_seen(gateway, boss):
    invoice, payment = make(gateway)
    assert 'name="force"' not in boss.get(url("cancel", invoice.pk)).text
    send(payment, "Underpaid", [tx("5")])
    assert 'name="force"' in boss.get(url("cancel", invoice.pk)).text
    assert take(boss, "cancel", invoice, reason="x") == ("error", "money was seen: cancelling needs force")
    assert not history(invoice)
    assert take(boss, "cancel", invoice, reason="x", force="on")[0] == "warning"
    assert facts(invoice)["status"] == "cancelled"


@pytest.mark.django_db(transaction=True)
def test_accept_ships_and_is_refused_twice(gateway, boss):
    invoice, _ = make(gateway)
    with recorded("invoice_paid") as calls:
        assert take(boss, "accept", invoice, reason="paid in cash") == ("success", "Accepted by hand; the status is “paid”.")
        assert calls.names == ["invoice_paid"]
        assert url("accept", invoice.pk) not in boss.get(change_url(invoice)).text
        assert take(boss, "accept", invoice, reason="again") == ("error", "it is paid already")
        assert calls.names == ["invoice_paid"]
    assert facts(invoice) == fact("paid", is_paid=True, manual=True)
    assert len(history(invoice)) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("step", ["accept", "cancel", "reviewed"])
@pytest.mark.parametrize("reason", ["", "   ", "x" * 1001])
def test_a_reason_is_needed(gateway, boss, step, reason):
    invoice, _ = make(gateway)
    before = rows()
    answer = boss.post(url(step, invoice.pk), {"reason": reason})
    assert answer.status_code == 200
    assert answer.context["form"].errors.keys() == {"reason"}
    assert rows() == before


@pytest.mark.django_db(transaction=True)
def test_refresh_asks_the_gateway(gateway, boss):
    invoice, payment = make(gateway)
    tell(payment, "paid", [tx("25")])
    assert take(boss, "refresh", invoice) == ("success", "The gateway was asked; the status is “paid”.")
    assert facts(invoice) == fact("paid", is_paid=True, received="25")
    (entry,) = history(invoice)
    assert "Reason" not in entry.get_change_message()


@pytest.mark.django_db(transaction=True)
def test_a_gateway_that_fails_is_a_message(gateway, boss, settings, monkeypatch, caplog):
    invoice, _ = make(gateway)
    gateway.fail("fetch", "missing")
    level, text = take(boss, "refresh", invoice)
    assert level == "error"
    assert "OxaPay" in text
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "ACCOUNTS": {}}
    for step in ("refresh", "cancel"):
        assert boss.get(url(step, invoice.pk)).status_code == 200
    assert take(boss, "refresh", invoice, reason="x") == ("error", "CRYPTO_INVOICES['ACCOUNTS']: no account 'default'")
    level, _text = take(boss, "cancel", invoice, reason="x")  # our side is closed; that the gateway was not told is said
    assert level == "warning"

    def accept_invoice(invoice, **kwargs):
        raise KeyError("a bug")

    monkeypatch.setattr(services, "accept_invoice", accept_invoice)
    assert take(boss, "accept", invoice, reason="x") == ("error", "An unexpected error; the log tells more.")
    assert "a bug" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_mark_reviewed(gateway, boss):
    invoice, payment = make(gateway)
    services.cancel_invoice(invoice, reason="x")
    tell(payment, "paid", [tx("25")])
    send(payment, "Paid", [tx("25")])
    assert facts(invoice)["review"]
    assert "paid after it was cancelled" in boss.get(change_url(invoice)).text
    assert take(boss, "reviewed", invoice, reason="sent back") == ("success", "Marked as reviewed.")
    assert not facts(invoice)["review"]
    assert InvoiceEvent.objects.get(kind="reviewed").reason == "sent back"
    assert url("reviewed", invoice.pk) not in boss.get(change_url(invoice)).text


@pytest.mark.django_db(transaction=True)
def test_resend_calls_every_receiver_again(gateway, boss, staff):
    with recorded("invoice_paid") as calls:
        invoice, _ = paid(gateway)
        event = InvoiceEvent.objects.get(invoice=invoice, new_status="paid")
        assert staff("view_invoiceevent").post(url("resend", event.pk, model="invoiceevent")).status_code == 403
        assert take(boss, "resend", event, model="invoiceevent", reason="the mail was lost")[0] == "success"
        assert calls.names == ["invoice_paid", "invoice_paid"]
    assert "the mail was lost" in history(event)[0].get_change_message()
    quiet = InvoiceEvent.objects.create(
        invoice=invoice, version=99, kind="x", new_status="paid", source="poll", created_at=timezone.now()
    )
    assert take(boss, "resend", quiet, model="invoiceevent") == ("error", "this event has no signals")


@pytest.mark.django_db(transaction=True)
def test_resend_names_the_receivers_that_fail(gateway, boss):
    def fails(sender, **kwargs):
        raise RuntimeError

    invoice, _ = paid(gateway)
    event = InvoiceEvent.objects.get(invoice=invoice, new_status="paid")
    with connected(fails, "invoice_paid", uid="shop.broken"):
        assert take(boss, "resend", event, model="invoiceevent") == (
            "warning", "Sent again; these receivers failed: shop.broken.",
        )  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_replay_takes_a_callback_in_again(gateway, boss, staff, monkeypatch):
    invoice, payment = make(gateway)
    attempt = invoice.attempts.get()
    PaymentAttempt.objects.filter(pk=attempt.pk).update(reference="x" * 26)
    transfers = [tx("25")]
    send(payment, "Paid", transfers)
    receipt = CallbackReceipt.objects.get()
    assert receipt.verdict == "unmatched"
    PaymentAttempt.objects.filter(pk=attempt.pk).update(reference=attempt.reference)
    tell(payment, "paid", transfers)
    assert receipt.digest in boss.get(change_url(receipt)).text
    assert url("replay", receipt.pk, model="callbackreceipt") in boss.get(change_url(invoice)).text
    assert staff("view_callbackreceipt").post(url("replay", receipt.pk, model="callbackreceipt")).status_code == 403
    level, text = take(boss, "replay", receipt, model="callbackreceipt")
    assert (level, text) == ("success", "Taken in again: answer 200, verdict “applied”.")
    assert facts(invoice)["is_paid"]
    assert len(history(receipt)) == 1
    CallbackReceipt.objects.update(headers={})
    assert take(boss, "replay", receipt, model="callbackreceipt")[0] == "warning"


# From the list


def choose(client, step, chosen, model="invoice", query="", **data):
    data = {"action": step, "index": 0, "_selected_action": [row.pk for row in chosen], **data}
    return client.post(url("changelist", model=model) + query, data)


@pytest.mark.django_db(transaction=True)
def test_a_step_on_selected_rows(gateway, boss):
    open_ones = [make(gateway, order_id=f"A-{n}")[0] for n in range(2)]
    done, _ = paid(gateway, order_id="PAID")
    answer = choose(boss, "cancel", [*open_ones, done], query="?needs_review__exact=0")
    assert facts(open_ones[0]) == fact("pending")
    page = boss.get(answer.headers["Location"])
    for text in ("A-0", "A-1", "PAID", "received 25 USDT"):
        assert text in page.text
    answer = boss.post(answer.headers["Location"], {"reason": "sold out"})
    assert answer.headers["Location"] == url("changelist") + "?needs_review__exact=0"
    texts = {message.message for message in get_messages(answer.wsgi_request)}
    assert texts == {
        "2 × Cancelled on our side only: the gateway was not told, and money may still arrive. (A-1, A-0)",
        "1 × an invoice that is paid cannot be cancelled (PAID)",
    }
    assert [facts(row)["status"] for row in (*open_ones, done)] == ["cancelled", "cancelled", "paid"]
    assert LogEntry.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_selection_that_takes_too_long_stops(gateway, boss, monkeypatch):
    chosen = [make(gateway, order_id=f"A-{n}")[0] for n in range(3)]
    monkeypatch.setattr(base, "BUDGET", -1)
    answer = boss.post(choose(boss, "refresh", chosen).headers["Location"], {})
    texts = [message.message for message in get_messages(answer.wsgi_request)]
    assert texts == [
        "1 × The gateway was asked; the status is “pending”. (A-2)",
        "2 × Not begun, since the others took long. Try again. (A-1, A-0)",
    ]


def test_a_selection_has_a_limit(boss):
    Invoice.objects.bulk_create(Invoice(amount=1, currency="USD") for _ in range(base.MAX_SELECTED + 1))
    answer = choose(boss, "refresh", Invoice.objects.all()[:1], select_across="1")
    assert answer.headers["Location"] == url("changelist")
    assert "At most 50 at once." in boss.get(url("changelist")).text


@pytest.mark.parametrize("ids", ["", "0", "x", "1;2", "9" * 18, "9" * 40, "-1", "²"])
def test_ids_that_are_not_there(boss, ids):
    assert boss.get(url("cancel_selected"), {"ids": ids}).status_code == 404
    assert boss.post(url("cancel_selected"), {"reason": "x"}).status_code == 404
    assert boss.get(url("cancel", 10**30)).status_code == 404


# Text of strangers (T52, T57)


class Skeleton(HTMLParser):
    """A page's tags with the names of their attributes, and every address that a browser could be sent to."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.addresses = [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, tuple(sorted(name for name, _ in attributes))))
        self.addresses += [value for name, value in attributes if name in ("href", "src", "action", "formaction") and value]


def hostile_rows(text):
    """One row of each kind whose every text field is ``text``."""
    now = timezone.now()
    invoice = Invoice.objects.create(
        order_id=text, amount=1, currency="USD", description=text, email=text, metadata={text: [text]}, options={text: text},
        pay_currencies=[text], return_url=text, cancel_url=text, idempotency_key=text, needs_review=True, review_reason=text,
    )  # fmt: skip
    attempt = PaymentAttempt.objects.create(
        invoice=invoice, account=text, provider=text, amount=1, currency=text[:16], gateway_id=text, gateway_status=text,
        payment_url=text, address=text, address_tag=text, pay_amount=1, pay_currency=text[:32], network=text, poll_error=text,
        raw=text, poll_failures=2,
    )  # fmt: skip
    Transfer.objects.create(
        attempt=attempt, key=text, tx_hash=text, amount=1, currency=text[:32], network=text, sender=text, explorer_url=text
    )
    receipt = CallbackReceipt.objects.create(
        account=text, digest=text, body=text.encode(), headers={text: text}, reference=text[:26], attempt=attempt,
        verdict="applied", reason=text, received_at=now,
    )  # fmt: skip
    event = InvoiceEvent.objects.create(
        invoice=invoice, attempt=attempt, version=1, kind=text[:16], old_status="pending", new_status="paid", source="operator",
        signals=[text], reason=text, data={text: text}, created_at=now,
    )  # fmt: skip
    delivery = EventDelivery.objects.create(
        event=event, signal=text[:40], receiver=text, state="failed", error=text, updated_at=now, next_try_at=now, tries=2
    )
    return invoice, event, delivery, receipt


def pages_of(client, shown, text):
    """Every page that shows the rows: lists, search, change, history and confirmation pages."""
    invoice, event, _, receipt = shown
    yield from (client.get(url("changelist", model=model)).text for model in MODELS)
    yield client.get(url("changelist"), {"q": text}).text
    for row in shown:
        yield client.get(change_url(row)).text
        yield client.get(url("history", row.pk, model=row._meta.model_name)).text
    for step in STEPS:
        yield client.get(url(step, invoice.pk)).text
        yield client.post(url(f"{step}_selected") + f"?ids={invoice.pk}", {"reason": text + "x" * 1001}).text
    yield client.get(url("resend", event.pk, model="invoiceevent")).text
    yield client.get(url("replay", receipt.pk, model="callbackreceipt")).text


def skeletons(client, text):
    shown = hostile_rows(text)
    pages = [Skeleton(page) for page in pages_of(client, shown, text)]
    Invoice.objects.all().delete()
    LogEntry.objects.all().delete()
    return pages


@pytest.fixture
def harmless(boss):
    return [page.tags for page in skeletons(boss, "harmless text of a stranger")]


@pytest.mark.parametrize("text", PAYLOADS)
def test_text_never_becomes_markup(boss, harmless, text):
    pages = skeletons(boss, text)
    assert [page.tags for page in pages] == harmless
    for page in pages:
        assert not [address for address in page.addresses if address.lower().lstrip().startswith(("javascript:", "data:"))]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("text", PAYLOADS)
def test_messages_and_history_are_escaped(gateway, boss, text):
    invoice, _ = make(gateway)
    InvoiceEvent.objects.all().delete()
    Invoice.objects.update(order_id=text)
    take(boss, "cancel", invoice, reason=text)
    answer = boss.post(url("accept_selected") + f"?ids={invoice.pk}", {"reason": text}, follow=True)
    for page in (answer.text, boss.get(url("history", invoice.pk)).text, boss.get(change_url(invoice)).text):
        tags = {tag for tag, _ in Skeleton(page).tags}
        assert not tags & {"marquee", "iframe", "b"}
        assert "alert(1)" not in "".join(address for address in Skeleton(page).addresses)
        assert not [tag for tag, names in Skeleton(page).tags if any(name.startswith("on") for name in names)]
    assert text in history(invoice)[0].get_change_message()


LINKED = ["https://pay.example/1", "http://127.0.0.1:8001/x", "http://localhost/x", "http://[::1]/x"]
NOT_LINKED = [
    "http://pay.example/1", "javascript:alert(1)", "JaVaScRiPt://x/%0aalert(1)", "data:text/html,x", "//evil.example/",
    "/relative", "ftp://example.com/", "https://user@evil.example/", "https:\\\\evil.example", "https://evil.example/\t",
    " https://evil.example/", "https://", "vbscript:x", "http://127.0.0.1.evil.example/",
]  # fmt: skip


@pytest.mark.parametrize("address", LINKED + NOT_LINKED)
def test_only_safe_addresses_are_links(boss, address):
    invoice, *_ = hostile_rows(address)
    addresses = Skeleton(boss.get(change_url(invoice)).text).addresses
    assert addresses.count(address) == (4 if address in LINKED else 0)  # payment page, transaction, return and cancel URL


@pytest.mark.django_db(transaction=True)
def test_no_signature_and_no_key_is_shown(gateway, boss, settings, monkeypatch):
    invoice, _ = paid(gateway)
    receipt = CallbackReceipt.objects.get()
    signatures = list(receipt.headers.values())
    assert signatures
    for page in (boss.get(change_url(invoice)).text, boss.get(change_url(receipt)).text):
        assert not [secret for secret in [*signatures, *settings.CANARIES.values()] if secret in page]
