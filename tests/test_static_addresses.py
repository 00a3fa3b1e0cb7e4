"""Static addresses: made, refused, uncertain, revoked, asked about; their pages for staff."""

from datetime import timedelta

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import Permission, User
from django.core.signing import Signer
from django.db import IntegrityError, transaction
from django.test import Client
from django.urls import reverse

from crypto_invoices import conf, deposits
from crypto_invoices.deposits import due_static_addresses
from crypto_invoices.exceptions import (
    GatewayRefused,
    GatewayUnavailable,
    GatewayUncertain,
    InvalidRequest,
    NotAllowed,
    NotSupported,
)
from crypto_invoices.models import CallbackReceipt, Invoice, InvoiceEvent, StaticAddress, Transfer
from crypto_invoices.providers.base import Capability
from crypto_invoices.providers.oxapay import OxaPay
from crypto_invoices.services import create_static_address, refresh_static_address, revoke_static_address
from tests.helpers import Clock, fetched, rows, send, stub_gateway, tx
from tests.helpers import make as make_invoice

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def gateway(settings):
    return stub_gateway(settings)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def make(**arguments):
    return create_static_address(**{"pay_currency": "USDT@tron", "customer": "customer-7", **arguments})


def again(address):
    return StaticAddress.objects.get(pk=address.pk)


def history(address):
    return list(address.events.order_by("version").values_list("version", "kind", "old_status", "new_status"))


# Made


def test_an_address_is_made(gateway, clock):
    gateway.changes = {"memo": "10042"}
    address = make(description="top up", metadata={"tier": 2}, options={"to_currency": "USDT", "auto_withdrawal": False})
    [order] = gateway.called("POST")
    assert order == {
        "network": "TRON",
        "order_id": address.reference,
        "callback_url": order["callback_url"],
        "description": "customer-7: top up",
        "to_currency": "USDT",
        "auto_withdrawal": False,
    }
    token = Signer(salt="crypto_invoices.callback", sep=".").sign(address.reference)
    assert order["callback_url"] == "https://shop.example" + reverse("crypto_invoices:callback", args=["default", token])
    payment = gateway.payments["190000001"]
    assert address == again(address)
    for row in (address, again(address)):
        assert (row.state, row.gateway_id, row.address) == ("open", "190000001", payment["address"])
        assert (row.address_tag, row.coin, row.network, row.pay_currency) == ("10042", "USDT", "Tron", "USDT@tron")
        assert (row.account, row.provider) == ("default", "crypto_invoices.providers.oxapay.OxaPay")
        assert row.identity == conf.provider_for("default").identity
        assert (row.sandbox, row.customer, row.description, row.metadata) == (False, "customer-7", "top up", {"tier": 2})
        assert row.options == {"to_currency": "USDT", "auto_withdrawal": False}
        assert row.next_poll_at > clock.now
        assert payment["address"] in row.raw
    assert history(address) == [(1, "created", "", "creating")]
    assert not InvoiceEvent.objects.filter(due_at__isnull=False).exists()


def test_an_email_goes_to_the_gateway_and_is_not_stored(gateway):
    make(email="customer@shop.example")
    assert gateway.called("POST")[0]["email"] == "customer@shop.example"
    assert not any("customer@shop.example" in str(value) for value in StaticAddress.objects.values().get().values())


def test_one_customer_may_have_several(gateway):
    first, second = make(), make(account="second")
    assert first.reference != second.reference
    assert len(first.reference) == 26 and first.reference.isalnum() and first.reference.isascii()
    assert [row.account for row in StaticAddress.objects.filter(customer="customer-7").order_by("pk")] == ["default", "second"]


def test_T32_the_row_is_there_while_the_gateway_is_called(gateway, monkeypatch):
    seen = []
    real = OxaPay.create_static_address

    def watched(self, request):
        seen.append(StaticAddress.objects.get(reference=request.reference).state)
        seen.append(transaction.get_connection().in_atomic_block)
        return real(self, request)

    monkeypatch.setattr(OxaPay, "create_static_address", watched)
    make()
    assert seen == ["creating", False]


# Refused before any call


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"pay_currency": "DOGE@tron"}, "pay_currency"),
        ({"pay_currency": "USDT"}, "pay_currency"),
        ({"pay_currency": ["USDT@tron"]}, "pay_currency"),
        ({"pay_currency": "BTC"}, "pay_currency"),  # OxaPay needs a network here, which its pages do not name
        ({"customer": "x" * 256}, "customer"),
        ({"customer": 7}, "customer"),
        ({"description": "\0"}, "description"),
        ({"email": "nobody"}, "email"),
        ({"email": "x" * 250 + "@b.example"}, "email"),
        ({"email": None}, "email"),
        ({"metadata": {"a": float("nan")}}, "metadata"),
        ({"metadata": ["a"]}, "metadata"),
        ({"options": {"to_currency": "EUR"}}, "options.to_currency"),
        ({"options": {"mixed_payment": True}}, "options.mixed_payment"),
        ({"account": ["default", "second"]}, "account"),
    ],
)
def test_a_wrong_argument_is_named(gateway, arguments, field):
    with pytest.raises(InvalidRequest) as caught:
        make(**arguments)
    assert caught.value.field == field
    assert (gateway.requests, StaticAddress.objects.count(), InvoiceEvent.objects.count()) == ([], 0, 0)


def test_a_gateway_without_static_addresses(gateway, monkeypatch):
    monkeypatch.setattr(OxaPay, "capabilities", OxaPay.capabilities - {Capability.STATIC_ADDRESS})
    with pytest.raises(NotSupported, match="static address"):
        make()
    assert (gateway.requests, StaticAddress.objects.count()) == ([], 0)


def test_an_unknown_account(gateway):
    with pytest.raises(conf.UnknownAccount):
        make(account="nobody")


@pytest.mark.parametrize("allowed", [False, True])
def test_a_sandbox_account(gateway, settings, allowed):
    account = gateway.account("default", sandbox=True)
    settings.CRYPTO_INVOICES = {**settings.CRYPTO_INVOICES, "ACCOUNTS": {"default": account}, "ALLOW_SANDBOX": allowed}
    with pytest.raises(NotSupported, match="hosted invoices only" if allowed else "ALLOW_SANDBOX"):
        make()
    assert (gateway.requests, StaticAddress.objects.count()) == ([], 0)


# T62: failed calls


@pytest.mark.parametrize(("fault", "error"), [("refused", GatewayRefused), ("unavailable", GatewayUnavailable)])
def test_T62_a_sure_failure(gateway, fault, error):
    gateway.fail("create", fault)
    with pytest.raises(error) as caught:
        make()
    address = caught.value.static_address
    assert (address.state, address.address, address.next_poll_at) == ("refused", "", None)
    assert history(address) == [(1, "created", "", "creating"), (2, "refused", "creating", "refused")]
    assert address.events.get(version=2).reason == str(caught.value)
    assert make().state == "open"


@pytest.mark.parametrize("fault", ["lost", "made_then_lost", "made_then_502"])
def test_T62_an_ambiguous_failure(gateway, clock, fault):
    gateway.fail("create", fault)
    with pytest.raises(GatewayUncertain) as caught:
        make()
    address = again(caught.value.static_address)
    assert (address.state, address.address, address.gateway_id, address.next_poll_at) == ("unknown", "", "", None)
    assert address.poll_error == str(caught.value)
    assert deposits.poll(address) is None  # nothing to ask for
    clock.advance(days=30)
    assert not due_static_addresses().exists()


def test_T62_the_process_that_made_it_is_killed(gateway, clock, monkeypatch):
    class Killed(BaseException):
        pass

    def die(self, request):
        raise Killed

    monkeypatch.setattr(OxaPay, "create_static_address", die)
    with pytest.raises(Killed):
        make()
    address = StaticAddress.objects.get()
    assert address.state == "creating"
    clock.advance(seconds=59)
    assert not due_static_addresses().exists()
    clock.advance(seconds=1)
    assert list(due_static_addresses()) == [address]
    assert deposits.poll(address) is None
    assert (again(address).state, again(address).next_poll_at) == ("unknown", None)


# What save() leaves alone


def test_save_writes_the_shops_fields_only(gateway):
    address = make()
    for field in StaticAddress.ledger_fields - {"reference", "version", "poll_failures", "sandbox"}:
        setattr(address, field, None if field.endswith("_at") else "revoked")
    address.customer, address.version, address.metadata = "customer-8", 99, {"moved": True}
    address.save()
    stored = again(address)
    assert (stored.customer, stored.metadata) == ("customer-8", {"moved": True})
    assert (stored.state, stored.version, stored.account, stored.gateway_id) == ("open", 1, "default", "190000001")
    assert stored.next_poll_at is not None


def test_a_transfer_or_an_event_has_exactly_one_owner(gateway):
    address = make()
    invoice = Invoice.objects.create(amount=1, currency="USD")
    attempt = invoice.attempts.create(account="default", amount=1, currency="USD")
    event = {"version": 9, "kind": "x", "new_status": "open", "source": "poll", "created_at": address.created_at}
    for owners in ({}, {"invoice": invoice, "static_address": address}):
        with pytest.raises(IntegrityError):
            InvoiceEvent.objects.create(**owners, **event)
    for owners in ({}, {"attempt": attempt, "static_address": address}):
        with pytest.raises(IntegrityError):
            Transfer.objects.create(key="k", **owners)
    Transfer.objects.create(key="k", static_address=address)
    with pytest.raises(IntegrityError):
        Transfer.objects.create(key="k", static_address=address)
    assert InvoiceEvent.objects.create(static_address=address, **event).event_id == f"{address.uuid}.9"
    with pytest.raises(IntegrityError):
        InvoiceEvent.objects.create(static_address=address, **event)


def test_what_belongs_to_a_deleted_row_is_deleted(gateway):
    address, (invoice, payment) = make(), make_invoice(gateway)
    gateway.payments[address.gateway_id]["txs"] = [fetched(tx("3")), fetched(tx("4", tx_hash="0xb", confirmed=False))]
    refresh_static_address(address)
    send(payment, "Paid", [tx("25")])
    address.receipts.create(account="default", digest="0" * 64, verdict="hint", received_at=address.created_at)
    assert (Transfer.objects.count(), CallbackReceipt.objects.count()) == (3, 2)
    address.delete()
    assert set(InvoiceEvent.objects.values_list("invoice", flat=True)) == {invoice.pk}
    assert (Transfer.objects.count(), CallbackReceipt.objects.count()) == (1, 1)
    Invoice.objects.all().delete()
    assert not any(rows().values())


# Revoked


def test_an_address_is_revoked(gateway, clock):
    address = make()
    clock.advance(days=200)
    clerk = User.objects.create(username="clerk")
    revoked = revoke_static_address(address, reason="the customer left", user=clerk)
    assert gateway.called("POST", "/v1/payment/static-address/revoke") == [{"address": address.address, "network": "Tron"}]
    assert (revoked.state, revoked.revoked_at, revoked.next_poll_at) == ("revoked", clock.now, clock.now)
    assert history(address)[1:] == [(2, "revoked", "open", "revoked")]
    event = address.events.get(version=2)
    assert (event.user, event.reason, event.source) == (clerk, "the customer left", "operator")
    with pytest.raises(NotAllowed, match="revoked"):
        revoke_static_address(address, reason="again")


def test_a_revoked_address_is_watched_for_a_while(gateway, clock):
    address = make()
    clock.advance(days=200)
    revoke_static_address(address, reason="the customer left")
    clock.advance(hours=71)  # OxaPay's is 72
    refresh_static_address(address)
    assert again(address).next_poll_at is not None
    clock.advance(hours=2)
    refresh_static_address(address)
    assert again(address).next_poll_at is None


@pytest.mark.parametrize(
    ("fault", "error"), [("refused", GatewayRefused), ("unavailable", GatewayUnavailable), ("lost", GatewayUncertain)]
)
def test_an_address_that_the_gateway_did_not_revoke_stays_open(gateway, fault, error):
    address = make()
    gateway.fail("revoke", fault)
    with pytest.raises(error):
        revoke_static_address(address, reason="the customer left")
    assert (again(address).state, len(history(address))) == ("open", 1)
    assert revoke_static_address(address, reason="the customer left").state == "revoked"


def test_a_gateway_that_cannot_revoke(gateway, monkeypatch):
    address = make()
    monkeypatch.setattr(OxaPay, "capabilities", OxaPay.capabilities - {Capability.REVOKE_STATIC_ADDRESS})
    with pytest.raises(NotSupported):
        revoke_static_address(address, reason="the customer left")
    assert (again(address).state, len(gateway.requests)) == ("open", 1)


@pytest.mark.parametrize("reason", ["", "  ", None])
def test_revoking_needs_a_reason(gateway, reason):
    address = make()
    with pytest.raises(InvalidRequest, match="reason"):
        revoke_static_address(address, reason=reason)
    assert len(gateway.requests) == 1


def test_what_was_never_open_is_not_revoked(gateway):
    gateway.fail("create", "lost")
    with pytest.raises(GatewayUncertain) as caught:
        make()
    with pytest.raises(NotAllowed, match="unknown"):
        revoke_static_address(caught.value.static_address, reason="not needed")
    assert len(gateway.requests) == 1


def test_no_service_runs_inside_a_transaction(gateway):
    address = make()
    for act in (make, lambda: refresh_static_address(address), lambda: revoke_static_address(address, reason="x")):
        with pytest.raises(RuntimeError, match="transaction"), transaction.atomic():
            act()
    assert len(gateway.requests) == 1


# Asked about


def test_refreshing(gateway):
    address = make()
    gateway.payments[address.gateway_id]["txs"] = [fetched(tx("3"))]
    refreshed = refresh_static_address(address)
    assert (refreshed.version, refreshed.transfers.get().amount) == (2, 3)
    gateway.fail("fetch", "missing")
    with pytest.raises(GatewayRefused):
        refresh_static_address(address)
    assert again(address).poll_failures == 1


def intervals(address, clock, moments):
    """How long until the next poll, asked after each of these times since now."""
    start, found = clock.now, []
    for moment in moments:
        clock.set(start + moment)
        deposits.poll(again(address))
        found.append(again(address).next_poll_at - clock.now)
    return found


def test_polls_become_rare_but_never_stop_while_it_is_open(gateway, clock):
    address = make()
    waits = intervals(
        address, clock, [timedelta(minutes=1), timedelta(hours=2), timedelta(days=2), timedelta(days=30), timedelta(days=3000)]
    )
    assert waits == sorted(waits)
    assert waits[0] < waits[1] < waits[2] < waits[3] == waits[4] == timedelta(hours=24)
    gateway.payments[address.gateway_id]["txs"] = [fetched(tx("3"))]
    clock.advance(days=1)
    deposits.poll(again(address))
    assert again(address).next_poll_at - clock.now == waits[0]  # used just now


def test_polls_that_fail_become_rarer(gateway, clock):
    address = make()
    waits = []
    for _ in range(14):
        gateway.fail("fetch", "missing")
        with pytest.raises(GatewayRefused):
            deposits.poll(again(address))
        waits.append(again(address).next_poll_at - clock.now)
    assert waits == sorted(waits)
    assert waits[0] < waits[1]
    assert waits[-1] == timedelta(hours=24)
    assert "not_found" in again(address).poll_error
    deposits.poll(again(address))
    assert (again(address).poll_failures, again(address).poll_error) == (0, "")


def test_whom_a_callback_made_due_during_a_poll_stays_due(gateway, clock):
    address = make()
    provider = conf.provider_for("default")
    asked, started_at = again(address), clock.now
    clock.advance(seconds=2)
    StaticAddress.objects.filter(pk=address.pk).update(next_poll_at=clock.now)
    clock.advance(seconds=2)
    deposits.take(asked, provider, None, started_at)
    assert list(due_static_addresses()) == [address]


# The staff's pages


@pytest.fixture
def staff():
    def client(*codenames):
        user = User.objects.create(username="-".join(codenames) or "nobody", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        browser = Client()
        browser.force_login(user)
        return browser

    return client


def page_of(name, *args):
    return reverse(f"admin:crypto_invoices_staticaddress_{name}", args=args)


def test_pages_show_the_address_and_what_came_to_it(gateway, staff):
    address = make(metadata={"tier": "gold"})
    gateway.payments[address.gateway_id]["txs"] = [fetched(tx("3.5")), fetched(tx("4", tx_hash="0xb", confirmed=False))]
    refresh_static_address(address)
    clerk = staff("view_staticaddress")
    listed = clerk.get(page_of("changelist")).text
    shown = clerk.get(page_of("change", address.pk)).text
    for text in (address.address, "customer-7"):
        assert text in listed
        assert text in shown
    for text in ("0xaaa1", "3.5 USDT", "0xb", "4 USDT", "deposit_received", "gold", address.reference):
        assert text in shown
    assert 'name="_save"' not in shown
    assert page_of("revoke", address.pk) not in shown


@pytest.mark.parametrize("term", ["customer-7", "TAddress190000001", "190000001", "0xaaa1"])
def test_an_address_is_found(gateway, staff, term):
    address = make()
    gateway.payments[address.gateway_id]["txs"] = [fetched(tx("3.5"))]
    refresh_static_address(address)
    make(customer="other")
    listed = staff("view_staticaddress").get(page_of("changelist"), {"q": term}).text
    assert "1 static address" in listed


def test_pages_are_closed_to_others(gateway, staff):
    address = make()
    for name, args in (("changelist", ()), ("change", (address.pk,)), ("revoke", (address.pk,))):
        assert staff_status(staff, name, args) == 403


def staff_status(staff, name, args):
    User.objects.filter(username="view_invoice").delete()
    return staff("view_invoice").get(page_of(name, *args)).status_code


def test_staff_revoke_and_refresh(gateway, staff):
    address = make()
    clerk = staff("view_staticaddress", "change_staticaddress")
    assert page_of("revoke", address.pk) in clerk.get(page_of("change", address.pk)).text
    clerk.post(page_of("refresh", address.pk), {"reason": ""})
    assert len(gateway.called("GET")) == 1
    clerk.post(page_of("revoke", address.pk), {"reason": "moved"})
    assert again(address).state == "revoked"
    assert address.events.get(kind="revoked").reason == "moved"
    assert page_of("revoke", address.pk) not in clerk.get(page_of("change", address.pk)).text


def test_events_deliveries_and_callbacks_of_an_address_have_pages(gateway, staff):
    address = make()
    gateway.payments[address.gateway_id]["txs"] = [fetched(tx("3.5"))]
    refresh_static_address(address)
    address.receipts.create(account="default", digest="0" * 64, verdict="hint", received_at=address.created_at)
    boss = Client()
    boss.force_login(User.objects.create_superuser("boss"))
    for row in (address.events.last(), address.receipts.get()):
        name = f"admin:crypto_invoices_{row._meta.model_name}"
        assert address.address in boss.get(reverse(f"{name}_changelist")).text
        assert address.address in boss.get(reverse(f"{name}_change", args=[row.pk])).text
    assert boss.get(reverse("admin:crypto_invoices_eventdelivery_changelist")).status_code == 200
    assert django_settings.CANARIES["default"] not in boss.get(page_of("change", address.pk)).text
