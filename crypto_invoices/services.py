"""What a shop and its staff do: create, retry, refresh, cancel, accept, refund. Each goes through the ledger.

``create_invoice``, ``start_attempt``, ``refresh_invoice`` and ``cancel_invoice`` call a gateway between two commits, so
they refuse to run inside a transaction: use ``transaction.non_atomic_requests`` on the view.
"""

import logging
from dataclasses import dataclass, replace
from datetime import timedelta

from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, transaction
from django.utils import timezone

from . import attempts, conf, delivery, ledger, orders
from .addresses import create_static_address, refresh_static_address, revoke_static_address
from .exceptions import (
    CryptoInvoicesError,
    GatewayError,
    GatewayRefused,
    GatewayUnavailable,
    GatewayUncertain,
    IdempotencyConflict,
    InvalidRequest,
    NotAllowed,
    NotSupported,
)
from .models import EventDelivery, Invoice, new_reference
from .money import add, parse_amount, subtract
from .polling import poll
from .providers.base import Capability, Kind, Remote
from .statuses import SETTLED, AttemptState, InvoiceStatus, Source, permitted

__all__ = [
    "Cancelled",
    "accept_invoice",
    "cancel_invoice",
    "create_invoice",
    "create_static_address",
    "mark_reviewed",
    "record_refund",
    "refresh_invoice",
    "refresh_static_address",
    "resend",
    "reverse_invoice",
    "revoke_static_address",
    "start_attempt",
]


logger = logging.getLogger("crypto_invoices.services")

UNKNOWN_LIFETIME = timedelta(days=7)  # where neither the shop nor the gateway's pages say one: long enough for any


def create_invoice(*, account=None, idempotency_key=None, user=None, **arguments):
    """Makes an invoice here and at a gateway, and returns it with its ``payment_url``.

    ``amount`` (Decimal, int or str, more than 0) and ``currency`` (ISO 4217 or coin code) are required; the others are
    ``order_id``, ``description``, ``email``, ``lifetime`` (timedelta), ``pay_currencies`` (such as ``["USDT@tron"]``),
    ``underpaid_tolerance`` (percent), ``fee_payer`` ("merchant" or "payer"), ``page`` ("gateway" or "own"),
    ``return_url``, ``cancel_url``, ``metadata`` (dict) and ``options`` (dict of the gateway's own parameters).
    ``account`` is an alias of the settings, or several to be tried in order when one surely refuses or is not reached.
    ``idempotency_key``: the same key with the same arguments is the same invoice.

    Raises ``InvalidRequest`` naming the argument or ``NotSupported`` before anything is made at a gateway,
    ``IdempotencyConflict``, ``GatewayRefused``, ``GatewayUnavailable`` or ``GatewayUncertain``. The last three carry
    ``.invoice``, which stays pending, and whose ``get_absolute_url()`` the payer may be sent to all the same.
    """
    ledger.refuse_transaction()
    try:
        fields = orders.read_arguments(**arguments)
    except TypeError as error:
        raise InvalidRequest("arguments", str(error).replace("read_arguments()", "create_invoice()")) from None
    aliases = _aliases(account)
    providers = [conf.provider_for(alias) for alias in aliases]
    if len({provider.sandbox for provider in providers}) > 1:
        raise InvalidRequest("account", "live and sandbox accounts do not mix")
    fields |= {
        "idempotency_key": idempotency_key,
        "idempotency_hash": orders.hash_of(idempotency_key),
        "idempotency_digest": orders.digest_of(fields, aliases),
        "sandbox": providers[0].sandbox,
    }
    reference = new_reference()
    draft = Invoice(**fields)
    requests = [orders.request_for(draft, provider, reference=reference) for provider in providers]
    try:
        invoice, attempt, event = attempts.create_rows(
            fields | {"uuid": draft.uuid},
            orders.attempt_fields(draft, providers[0], reference=reference, amount=draft.amount),
            user=user,
        )
    except IntegrityError:
        earlier = Invoice.objects.filter(idempotency_hash=fields["idempotency_hash"]).first()
        if idempotency_key is None or earlier is None:
            raise
        return _created_before(earlier, fields["idempotency_digest"], aliases, user)
    try:
        return _create_at(invoice, attempt, requests[0], providers, user)
    finally:
        if event.holder:
            delivery.deliver(Invoice, invoice.pk, event)
        delivery.sweep_in_passing()


def start_attempt(invoice, account=None, *, amount=None, reason="", user=None, by_payer=False):
    """A new attempt to be paid, asking for the outstanding rest: for a dead attempt or another gateway. Returns it.

    Where money was seen whose value cannot be compared, ``amount`` must be given. Raises ``NotAllowed`` when the invoice
    is paid, an attempt's fate is unknown, or the payer has tried ``MAX_ATTEMPTS`` times.
    """
    ledger.refuse_transaction()
    invoice = Invoice.objects.get(pk=invoice.pk)
    earlier = list(invoice.attempts.order_by("pk"))
    _check_retry(invoice, earlier, by_payer)
    aliases = _aliases(account or earlier[-1].account)
    providers = [conf.provider_for(alias) for alias in aliases]
    if {provider.sandbox for provider in providers} != {invoice.sandbox}:
        raise InvalidRequest("account", "live and sandbox accounts do not mix")
    live = next((attempt for attempt in earlier if attempt.live_key), None)
    amount = _rest(invoice, earlier, amount)
    for provider in providers[1:]:  # what is wrong with the order for any of them is found before the first call
        orders.request_for(invoice, provider, reference=new_reference(), amount=amount)
    try:
        attempt, request = _new_attempt(invoice, providers[0], amount, live, user, reason)
    except IntegrityError:  # a second click: the other process made the attempt
        return invoice.live_attempt
    made = _create_at(Invoice.objects.get(pk=invoice.pk), attempt, request, providers, user)
    if live:  # only now that there is another
        _cancel_at_gateway(live)
    return made.attempts.order_by("pk").last()


def refresh_invoice(invoice):
    """Asks the gateways about every attempt of the invoice now, and returns it as it is then.

    Raises the ``GatewayError`` or ``ImproperlyConfigured`` of the last attempt that could not be asked.
    """
    ledger.refuse_transaction()
    failure = None
    for attempt in invoice.attempts.select_related("invoice").order_by("pk"):
        try:
            poll(attempt)
        except (GatewayError, ImproperlyConfigured) as error:
            failure = error
    if failure:
        raise failure
    return Invoice.objects.get(pk=invoice.pk)


@dataclass(frozen=True, slots=True)
class Cancelled:
    """``told`` is whether the gateway knows: False means that only our side is closed and money may still arrive."""

    invoice: Invoice
    told: bool


def cancel_invoice(invoice, *, reason, user=None, force=False):
    """Cancels at the gateway where it can be, else on our side only; the attempts stay watched. Returns ``Cancelled``.

    Raises ``NotAllowed`` when the status does not allow it, or when money was seen and ``force`` is not set.
    """
    ledger.refuse_transaction()
    _require("reason", reason)

    def marks(invoice, attempts, now):
        if permitted(InvoiceStatus(invoice.status), InvoiceStatus.CANCELLED, Source.OPERATOR) != "yes":
            raise NotAllowed(f"an invoice that is {invoice.status} cannot be cancelled")
        if invoice.on_hold:
            raise NotAllowed("the gateway holds this payment for a check; wait for its end")
        if not force and any(attempt.first_money_at for attempt in attempts):
            raise NotAllowed("money was seen: cancelling needs force")
        return {"cancelled_at": now}

    applied = ledger.operate(invoice.pk, marks, kind="cancel", user=user, reason=reason)
    told = [_cancel_at_gateway(attempt) for attempt in invoice.attempts.all() if attempt.live_key]
    return Cancelled(applied.invoice, bool(told) and all(told))


def accept_invoice(invoice, *, reason, user):
    """A person takes the invoice for paid; ``invoice_paid`` is emitted. Returns the invoice. Raises ``NotAllowed``."""
    _require("reason", reason)

    def marks(invoice, attempts, now):
        status = InvoiceStatus(invoice.status)
        if invoice.is_paid:
            raise NotAllowed("it is paid already")
        if status not in SETTLED and permitted(status, InvoiceStatus.PAID, Source.OPERATOR) != "yes":
            raise NotAllowed(f"an invoice that is {status} cannot be accepted")
        return {"accepted_at": max(now, invoice.reversed_at or now), "needs_review": False}

    return ledger.operate(invoice.pk, marks, kind="accept", user=user, reason=reason).invoice


def reverse_invoice(invoice, *, reason, user):
    """A person takes a payment back: the invoice becomes failed, and is paid again only by ``accept_invoice``."""
    _require("reason", reason)

    def marks(invoice, attempts, now):
        if InvoiceStatus(invoice.status) not in SETTLED:
            raise NotAllowed(f"an invoice that is {invoice.status} cannot be reversed")
        return {"reversed_at": now, "accepted_at": None, "paid_at": None, "epoch": invoice.epoch + 1}

    return ledger.operate(invoice.pk, marks, kind="reversal", signals={"invoice_reversed"}, user=user, reason=reason).invoice


def record_refund(invoice, *, amount, currency, tx_hash="", reason, user):
    """Notes what the shop gave back, in any currency; no money moves. Returns the invoice.

    In the price's currency the sum is kept, and a complete refund makes the invoice refunded. Raises ``InvalidRequest``
    when more is given back than came in, ``NotAllowed`` when nothing did.
    """
    _require("reason", reason)
    amount = parse_amount(amount)
    if not amount:
        raise InvalidRequest("amount", "must be more than 0")
    data = {"amount": amount, "currency": currency, "tx_hash": tx_hash}

    def marks(invoice, attempts, now):
        if not invoice.accepted_at and not any(attempt.first_money_at for attempt in attempts):
            raise NotAllowed("nothing was received")
        if currency != invoice.currency:
            return {}
        whole = invoice.amount_received if invoice.amount_received is not None else invoice.amount
        total = add((invoice.amount_refunded or 0, amount))
        if total > whole:
            raise InvalidRequest("amount", "more than was received")
        begun = permitted(InvoiceStatus(invoice.status), InvoiceStatus.REFUNDING, Source.OPERATOR) == "yes"
        return {"amount_refunded": total} | ({"refunding_at": now} if begun and total == whole else {})

    with transaction.atomic():
        refunded = ledger.operate(invoice.pk, marks, kind="refund", user=user, reason=reason, data=data).invoice
        if refunded.status == InvoiceStatus.REFUNDING and refunded.refunding_at and not refunded.refunded_at:
            refunded = ledger.operate(
                invoice.pk, lambda invoice, attempts, now: {"refunded_at": now}, kind="refund", user=user, reason=reason
            ).invoice
    return refunded


def mark_reviewed(invoice, *, reason, user):
    """A person has looked. Returns the invoice."""
    return ledger.operate(invoice.pk, {"needs_review": False}, kind="reviewed", user=user, reason=reason).invoice


def resend(event):
    """Delivers the signals of an event again, to every receiver, whatever they have done with it before."""
    with transaction.atomic():
        EventDelivery.objects.filter(event=event).delete()
        type(event).objects.filter(pk=event.pk).update(due_at=timezone.now(), holder="")
    if conf.settings().dispatch == "inline":
        transaction.on_commit(lambda: delivery.deliver(type(event.owner), event.owner.pk), robust=True)


def _aliases(account):
    aliases = ["default"] if account is None else [account] if isinstance(account, str) else list(account)
    if not aliases or len(set(aliases)) < len(aliases):
        raise InvalidRequest("account", "an alias, or a sequence of different aliases")
    return aliases


def _require(field, value):
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequest(field, "required")


def _created_before(invoice, digest, aliases, user):
    """The invoice that an earlier call with this idempotency key made; calls again only after a sure refusal."""
    if invoice.idempotency_digest != digest:
        error = IdempotencyConflict(f"idempotency_key {invoice.idempotency_key!r} was used with other arguments")
        error.invoice = invoice
        raise error
    last = invoice.attempts.order_by("pk").last()
    if last.state == AttemptState.REFUSED and invoice.status == InvoiceStatus.PENDING:
        start_attempt(invoice, aliases, user=user)
    return Invoice.objects.get(pk=invoice.pk)


def _create_at(invoice, attempt, request, providers, user):
    """Calls the gateway for ``attempt``; after a sure failure the next provider, with an attempt of its own."""
    provider, *others = providers
    try:
        remote = provider.create(request)
    except (GatewayRefused, GatewayUnavailable) as error:
        attempts.refuse(attempt, str(error))
        if not others:
            _fail(invoice, error)
        try:
            attempt, request = _new_attempt(invoice, others[0], attempt.amount, None, user)
        except IntegrityError:  # another caller with the same idempotency key was faster
            return Invoice.objects.get(pk=invoice.pk)
        return _create_at(invoice, attempt, request, others, user)
    except (InvalidRequest, NotSupported) as error:  # found only now, in a list of the gateway's; nothing was made
        attempts.refuse(attempt, str(error))
        _fail(invoice, error)
    except GatewayUncertain as error:
        attempts.mark_unknown(attempt, str(error))
        _fail(invoice, error)
    _take(provider, attempt, remote)
    return Invoice.objects.get(pk=invoice.pk)


def _new_attempt(invoice, provider, amount, live, user, reason=""):
    reference = new_reference()
    request = orders.request_for(invoice, provider, reference=reference, amount=amount)
    fields = orders.attempt_fields(invoice, provider, reference=reference, amount=amount)
    return attempts.replace_attempt(invoice.pk, live, fields, user=user, reason=reason), request


def _fail(invoice, error):
    error.invoice = Invoice.objects.get(pk=invoice.pk)
    raise error


def _take(provider, attempt, remote):
    """Binds what the gateway made, and asks for a review where it does not fit what was ordered."""
    page = orders.safe_page(provider, remote.payment_url)
    misfit = None
    if remote.price_amount is not None and remote.price_amount != attempt.amount:
        misfit = "the gateway made the invoice over another amount"
    elif remote.price_currency and remote.price_currency.upper() != attempt.currency.upper():
        misfit = "the gateway made the invoice in another currency"
    elif remote.payment_url and not page:
        misfit = "the gateway's payment URL is not one of its own"
    if misfit:  # nobody is to pay it
        remote = replace(remote, address="", address_tag="")
    if not attempts.bind(attempt, remote, payment_url="" if misfit else page):
        misfit = "the gateway answered with another id than its callback"
    if misfit:
        attempts.flag(attempt.invoice_id, misfit)


def _cancel_at_gateway(attempt):
    """Whether the gateway took the cancel; our side stays cancelled either way."""
    try:
        provider = conf.provider_for(attempt.account)
        if not provider.supports(Capability.CANCEL) or not attempt.gateway_id:
            return False
        evidence = provider.cancel(Remote(Kind(attempt.kind), attempt.gateway_id, attempt.reference))
    except (CryptoInvoicesError, ImproperlyConfigured):
        logger.exception("attempt %s could not be cancelled at account %s", attempt.reference, attempt.account)
        return False
    ledger.apply(evidence, attempt_id=attempt.pk)
    return evidence.status is InvoiceStatus.CANCELLED


def _check_retry(invoice, earlier, by_payer):
    if invoice.is_paid or InvoiceStatus(invoice.status) in {*SETTLED, InvoiceStatus.REFUNDING, InvoiceStatus.REFUNDED}:
        raise NotAllowed(f"an invoice that is {invoice.status} needs no further attempt")
    if invoice.cancelled_at is not None and by_payer:
        raise NotAllowed("the invoice is cancelled")
    if by_payer and len(earlier) >= conf.settings().max_attempts:
        raise NotAllowed("too many attempts")
    for attempt in earlier:
        if attempt.state in (AttemptState.CREATING, AttemptState.UNKNOWN) and not _surely_expired(invoice, attempt):
            raise NotAllowed("it is not known yet whether the gateway made the last attempt")


def _surely_expired(invoice, attempt):
    lifetime = invoice.lifetime or conf.provider_for(attempt.account).default_lifetime or UNKNOWN_LIFETIME
    return timezone.now() > attempt.created_at + lifetime + attempts.CREATING_FOR


def _rest(invoice, earlier, amount):
    if amount is not None:
        return parse_amount(amount)
    with_money = [attempt for attempt in earlier if attempt.first_money_at]
    if any(attempt.amount_received is None for attempt in with_money):
        raise InvalidRequest("amount", "money was seen whose value cannot be compared: say how much is still due")
    rest = subtract(invoice.amount, add(attempt.amount_received for attempt in with_money))
    if rest <= 0:
        raise NotAllowed("nothing is outstanding")
    return rest
