"""What comes to static addresses: asks the gateways and applies what they say, in the ledger's way.

A transfer is stored when it is first seen, and announced by ``deposit_received`` once the gateway reports it confirmed: goods
flow from that signal. Each of the two is an event and a version of the static address. A transfer that was announced stays as
it was; a gateway that takes one back later changes nothing here. A gateway lists an address's transfers or tells sums, never
both: what both told would count twice. Of a sum that is smaller than what is recorded the staff hear once.
"""

import itertools
from collections import defaultdict
from dataclasses import replace
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from . import conf, delivery, ledger, polls
from .attempts import CREATING_FOR
from .changes import KEY_LENGTH, misfit_of
from .exceptions import GatewayError
from .ledger import Applied
from .models import InvoiceEvent, StaticAddress, Transfer
from .money import add, format_amount, subtract
from .providers.base import Kind, Remote, RemoteTransfer
from .statements import update
from .statuses import SETTLED, InvoiceStatus, Source, Verdict

__all__ = [
    "apply",
    "ask",
    "create",
    "due_static_addresses",
    "find",
    "mark_unknown",
    "note_failure",
    "operate",
    "poll",
    "poll_interval",
    "remote_of",
    "says_nothing_new",
    "take",
]

State = StaticAddress.State

# How long after its creation, or the last transfer, an address is polled how often; afterwards once a day.
POLLING = (
    (timedelta(hours=1), timedelta(minutes=2)),
    (timedelta(days=1), timedelta(minutes=15)),
    (timedelta(days=7), timedelta(hours=2)),
)
HELD_BACK = frozenset({InvoiceStatus.FAILED, InvoiceStatus.REFUNDING, InvoiceStatus.REFUNDED})


def find(reference, account):
    """The static address of this account with our reference, or None."""
    return StaticAddress.objects.filter(reference=reference, account=account).first()


def due_static_addresses(now=None):
    """The static addresses whose poll is due, the longest overdue first."""
    return StaticAddress.objects.filter(next_poll_at__lte=now or timezone.now()).order_by("next_poll_at", "pk")


# What a gateway says


def apply(evidence, *, static_address_id, callback=None):
    """Applies ``evidence`` to a static address: files the callback, stores the transfers, announces those confirmed.

    Returns ``ledger.Applied``. Raises ``Conflict`` when others kept coming first.
    """

    def apply_once():
        static_address = StaticAddress.objects.get(pk=static_address_id)
        if callback and ledger.count_again(callback):
            return Applied(Verdict.UNCHANGED, static_address=static_address, duplicate=True)
        if misfit := misfit_of(static_address, Kind.STATIC_ADDRESS, evidence):
            return _quarantine(static_address, misfit, callback)
        new, seen, shrunk = _compare(static_address, evidence)
        confirmed = [row for row, values in seen if "confirmed" in values]
        events = len(new) + len(confirmed)
        verdict = Verdict.APPLIED if events else Verdict.UNCHANGED
        review = "; ".join(filter(None, (evidence.review, *shrunk)))
        applied = Applied(verdict, static_address=static_address, reason=review)
        for_review = (review and review != static_address.poll_error) or (evidence.review and events)
        values = _words(static_address, evidence) | (_activity() if events else {})
        told = {"old_status": static_address.state, "source": evidence.source.value}
        with transaction.atomic():
            if callback:
                told["receipt"] = ledger.file(callback, ledger.RECEIPT_VERDICT[verdict], review, static_address=static_address)
            _swap(static_address, values, events=events)
            stored = ledger.write_transfers(new, seen, static_address=static_address)
            unconfirmed = [row for row in stored if not row.confirmed]
            deposits = [row for row in stored if row.confirmed] + confirmed
            applied.event = _publish(static_address, unconfirmed, deposits, **told)
        if for_review:
            delivery.notify("review", None, f"static address {static_address.uuid}: {review}")
        return applied

    return ledger.retry(apply_once, callback)


def _quarantine(static_address, misfit, callback):
    """Nothing is credited; the staff hear of it once."""
    news = static_address.poll_error != misfit
    if callback:
        ledger.file_receipt(callback, ledger.RECEIPT_VERDICT[Verdict.QUARANTINED], reason=misfit, static_address=static_address)
        news = not callback.known
    if news:
        delivery.notify("review", None, f"static address {static_address.uuid}: a callback or poll does not fit: {misfit}")
    return Applied(Verdict.QUARANTINED, static_address=static_address, reason=misfit)


def _totals(static_address, evidence):
    """``[(coin, total, recorded)]`` from a gateway that tells sums; ``recorded`` is what our rows of that coin add up to."""
    if evidence.transfers or not evidence.totals:
        return []
    amounts = defaultdict(list)
    rows = Transfer.objects.filter(static_address=static_address, amount__isnull=False)
    for coin, amount in rows.values_list("currency", "amount"):
        amounts[coin].append(amount)
    return [(coin, total, add(amounts[coin[:32]])) for coin, total in dict(evidence.totals).items()]


def _rises(totals, evidence):
    """Each rise over what is recorded of a coin, as a transfer whose key is the new sum."""
    if _is_held_back(evidence):
        return
    for coin, total, recorded in totals:
        if total > recorded:
            key, rise = f"{coin} {format_amount(total)}", subtract(total, recorded)
            yield RemoteTransfer(key=key, amount=rise, currency=coin, network=evidence.network, confirmed=True)


def _shrunk(totals, static_address, evidence):
    """What staff are told of a sum that is smaller than what is recorded; nothing is taken back."""
    last = static_address.last_transfer_at
    if last and evidence.observed_at and evidence.observed_at < last:  # asked before the last transfer was recorded
        return []
    return [
        f"{coin}: the gateway tells {format_amount(total)} in all, but {format_amount(recorded)} is recorded"
        for coin, total, recorded in totals
        if total < recorded
    ]


def _is_held_back(evidence):
    return evidence.on_hold or evidence.status in HELD_BACK


def _is_deposit(transfer, evidence):
    """Whether the gateway stands by this transfer: confirmed, or all that a paid object consists of."""
    if not transfer.amount or _is_held_back(evidence):
        return False
    return transfer.confirmed or (evidence.status in SETTLED and len(evidence.transfers) == 1)


def _compare(static_address, evidence):
    """The transfers that are new; of those known, pairs of row and new values, with "confirmed" among them a deposit; and
    a text for each sum that shrank."""
    totals = _totals(static_address, evidence)
    transfers = [*evidence.transfers, *_rises(totals, evidence)]
    reported = {transfer.key[:KEY_LENGTH]: transfer for transfer in transfers}
    known = {row.key: row for row in Transfer.objects.filter(static_address=static_address, key__in=reported)}
    new, seen = [], []
    for key, transfer in reported.items():
        row = known.get(key)
        deposit = _is_deposit(transfer, evidence)
        if row is None:
            new.append(replace(transfer, confirmed=deposit))
            continue
        values = {}
        if (transfer.confirmations or 0) > (row.confirmations or 0):
            values["confirmations"] = transfer.confirmations
        if deposit and not row.confirmed:
            values |= {"confirmed": True, "amount": transfer.amount, "paid_at": transfer.paid_at or row.paid_at}
        if values:
            seen.append((row, values))
    return new, seen, _shrunk(totals, static_address, evidence)


def _words(static_address, evidence):
    """What the gateway said of the address itself; what is known of it stays."""
    words = {}
    if static_address.state in (State.CREATING, State.UNKNOWN):
        words["state"] = State.OPEN
    if evidence.source is Source.POLL:  # a callback's body stands in its receipt
        words["raw"] = evidence.raw.replace("\0", "\ufffd")
    told = {
        "gateway_id": evidence.remote.gateway_id,
        "coin": evidence.pay_currency,
        "network": evidence.network,
        "address": evidence.address,
        "address_tag": evidence.address_tag,
    }
    words |= {name: value for name, value in told.items() if value and not getattr(static_address, name)}
    return {name: value for name, value in words.items() if getattr(static_address, name) != value}


def _activity():
    """What a transfer changes of its address: it is asked about often for a while."""
    now = timezone.now()
    return {"last_transfer_at": now, "next_poll_at": now + POLLING[0][1]}


# Writing


def create(fields):
    """A static address with the event "created", committed before the gateway is called. Returns it."""
    with transaction.atomic(durable=True):
        static_address = StaticAddress(version=1, next_poll_at=timezone.now() + CREATING_FOR, **fields)
        static_address.save(force_insert=True)
        _write_event(static_address, kind="created", source=Source.OPERATOR.value)
    return static_address


def operate(static_address_id, decide, *, kind, user=None, reason=""):
    """Applies a decision of ours: ``decide(static_address, now)`` returns new values of its fields or raises to refuse.

    Returns the static address. Raises ``Conflict`` when others kept coming first.
    """

    def operate_once():
        static_address = StaticAddress.objects.get(pk=static_address_id)
        old_state = static_address.state
        values = decide(static_address, timezone.now())
        with transaction.atomic():
            _swap(static_address, values, events=1)
            _write_event(
                static_address, kind=kind, old_status=old_state, source=Source.OPERATOR.value, user=user, reason=reason
            )  # fmt: skip
        return static_address

    return ledger.retry(operate_once)


def mark_unknown(static_address, reason):
    """The gateway may have made the address. Nobody knows it, so that nothing is lost; a callback that names it opens it."""
    rows = StaticAddress.objects.filter(pk=static_address.pk, state=State.CREATING)
    rows.update(state=State.UNKNOWN, poll_error=reason, next_poll_at=None)
    static_address.refresh_from_db()


def _swap(static_address, values, *, events):
    """Compare-and-swap on the version, which counts the events. Raises ``Lost``."""
    if not values and not events:
        return
    values = {"version": static_address.version + events} | values
    if not update(StaticAddress, {"pk": static_address.pk, "version": static_address.version}, values):
        raise ledger.Lost
    for name, value in values.items():
        setattr(static_address, name, value)


def _publish(static_address, unconfirmed, deposits, **told):
    """One event for each transfer, the deposits last. Returns the newest, None without any."""
    event = None
    holder = delivery.hold()
    versions = itertools.count(static_address.version - len(unconfirmed) - len(deposits) + 1)
    for row in unconfirmed:
        event = _write_event(static_address, version=next(versions), kind="transfer", data={"transfer": row.key}, **told)
    for row in deposits:
        event = _write_event(
            static_address, version=next(versions), kind="deposit", signals=["deposit_received"], transfer=row, holder=holder,
            deliver=row is deposits[-1], **told,
        )  # fmt: skip
    return event


def _write_event(static_address, *, version=None, holder="", deliver=True, **fields):
    event = InvoiceEvent(
        static_address=static_address,
        version=static_address.version if version is None else version,
        new_status=static_address.state,
        **fields,
    )
    ledger.publish(event, holder=holder, deliver=deliver)
    return event


# Asking the gateway


def poll(static_address, *, timeout=None, gateway_id=""):
    """Asks the gateway what came to the address and applies it: ``ledger.Applied``, or None with nothing to ask for.

    ``timeout`` bounds the call in seconds, with one try; ``gateway_id`` is what a callback named, for an address whose id is
    not known. Raises ``GatewayError``; the failure is noted on the row.
    """
    started_at = timezone.now()
    provider = conf.provider_for(static_address.account)
    try:
        evidence = ask(provider, static_address, timeout=timeout, gateway_id=gateway_id)
    except GatewayError as error:
        note_failure(static_address, provider, error, started_at)
        raise
    return take(static_address, provider, evidence, started_at)


def ask(provider, static_address, *, timeout=None, gateway_id=""):
    """The gateway's ``Evidence``, None where there is nothing to ask for. Touches no database: any thread may run it."""
    remote = remote_of(static_address)
    if not remote.gateway_id:
        remote = replace(remote, gateway_id=gateway_id)
    return provider.fetch(remote, timeout=timeout) if remote.gateway_id else None


def take(static_address, provider, evidence, started_at):
    """Applies an answer to a question asked at ``started_at`` and notes the poll. Returns as ``poll`` does."""
    applied, reason, expected = None, "", static_address.next_poll_at
    if evidence is not None:
        applied = apply(evidence, static_address_id=static_address.pk)
        static_address, reason = applied.static_address, applied.reason
        expected = static_address.next_poll_at if applied.event else expected
    elif static_address.state == State.CREATING and started_at >= static_address.created_at + CREATING_FOR:
        reason = "the process that called the gateway did not come back"
        mark_unknown(static_address, reason)
        expected = static_address.next_poll_at
    static_address.poll_failures = 0
    interval = poll_interval(static_address, provider.watch, started_at)
    polls.note([static_address], expected, interval, polled_at=timezone.now(), poll_failures=0, poll_error=reason)
    return applied


def note_failure(static_address, provider, error, started_at):
    """Notes that the gateway could not be asked, and asks less often the more often that happens."""
    polls.note_failure(static_address, error, lambda row: poll_interval(row, provider.watch, started_at))


def says_nothing_new(static_address, evidence):
    """Whether an answer agrees with all that is known of the address, so that only the poll's time is worth writing."""
    if (
        evidence.review
        or misfit_of(static_address, Kind.STATIC_ADDRESS, evidence)
        or set(_words(static_address, evidence)) - {"raw"}
    ):
        return False
    return not any(_compare(static_address, evidence))


def poll_interval(static_address, watch, now):
    """How long to wait before asking again: short while young or used, then longer; None when there is nothing to come."""
    if static_address.state in (State.UNKNOWN, State.REFUSED):
        return None
    if static_address.revoked_at is not None and now > static_address.revoked_at + watch:
        return None
    moments = (static_address.created_at, static_address.last_transfer_at, static_address.revoked_at)
    age = now - max(moment for moment in moments if moment is not None)
    interval = next((step for limit, step in POLLING if age < limit), polls.LONGEST_INTERVAL)
    return polls.backed_off(interval, static_address.poll_failures)


def remote_of(static_address):
    """What providers are told of an address."""
    return Remote(
        Kind.STATIC_ADDRESS,
        static_address.gateway_id,
        static_address.reference,
        address=static_address.address,
        network=static_address.network,
    )
