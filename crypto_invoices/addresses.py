"""What a shop does with static addresses: make one for a customer, ask about it, revoke it.

Each calls a gateway between two commits, so they refuse to run inside a transaction, like ``services``.
"""

from django.utils import timezone

from . import conf, delivery, deposits
from .exceptions import (
    GatewayRefused,
    GatewayUnavailable,
    GatewayUncertain,
    InvalidRequest,
    NotAllowed,
    NotSupported,
)
from .ledger import refuse_transaction
from .models import StaticAddress, new_reference
from .orders import MAX_TEXT, callback_url, check_sandbox, read_email, read_json, read_text
from .providers.base import Capability, StaticAddressRequest
from .providers.options import read_options

__all__ = ["create_static_address", "refresh_static_address", "revoke_static_address"]

State = StaticAddress.State


def create_static_address(*, pay_currency, account=None, customer="", description="", email="", metadata=None, options=None):
    """Makes an address that takes any number of payments, here and at a gateway. Returns a ``StaticAddress``.

    ``pay_currency`` is in neutral notation, such as ``"USDT@tron"``; ``account`` an alias of the settings, None for
    "default"; ``customer`` (at most 255 characters) and ``metadata`` (dict) are the shop's own; ``email`` is the customer's,
    sent to gateways that take one and not stored; ``options`` (dict) the gateway's parameters of a static address. Where the
    answer has an ``address_tag``, payers need it as well. Each deposit emits ``deposit_received``.

    Raises ``InvalidRequest`` naming the argument or ``NotSupported`` before any call and without a row; ``GatewayRefused``,
    ``GatewayUnavailable`` or ``GatewayUncertain``, which carry ``.static_address``: of that row nobody knows the address, so
    that another may be made.
    """
    refuse_transaction()
    if account is not None and not isinstance(account, str):
        raise InvalidRequest("account", "one alias was expected")
    provider = conf.provider_for("default" if account is None else account)
    provider.require(Capability.STATIC_ADDRESS)
    check_sandbox(provider)
    fields = {
        "pay_currency": read_text("pay_currency", pay_currency, 32),
        "customer": read_text("customer", customer, 255),
        "description": read_text("description", description, MAX_TEXT),
        "metadata": read_json("metadata", metadata or {}),
        "options": read_json("options", options or {}),
        "reference": new_reference(),
    }
    request = _request(provider, fields, read_email(email))
    fields |= {
        "account": provider.alias,
        "provider": conf.provider_path(provider),
        "identity": provider.identity,
        "sandbox": provider.sandbox,
    }
    static_address = deposits.create(fields)
    try:
        remote = provider.create_static_address(request)
    except (InvalidRequest, NotSupported):  # what the provider alone knows; nothing was called
        static_address.delete()
        raise
    except (GatewayRefused, GatewayUnavailable) as error:
        error.static_address = _refuse(static_address, str(error))
        raise
    except GatewayUncertain as error:
        deposits.mark_unknown(static_address, str(error))
        error.static_address = static_address
        raise
    else:
        return _bind(static_address, remote)
    finally:
        delivery.sweep_in_passing()


def refresh_static_address(static_address):
    """Asks the gateway now what came to the address, and returns the row as it is then. Raises ``GatewayError``."""
    refuse_transaction()
    deposits.poll(StaticAddress.objects.get(pk=static_address.pk))
    return StaticAddress.objects.get(pk=static_address.pk)


def revoke_static_address(static_address, *, reason, user=None):
    """Revokes the address at the gateway; it stays watched for a while, since payers may have kept it. Returns the row.

    Raises ``NotSupported`` or ``NotAllowed`` before any call, and ``GatewayError`` when the gateway did not do it: the
    address is open then.
    """
    refuse_transaction()
    if not isinstance(reason, str) or not reason.strip():
        raise InvalidRequest("reason", "required")
    static_address = StaticAddress.objects.get(pk=static_address.pk)
    provider = conf.provider_for(static_address.account)
    provider.require(Capability.REVOKE_STATIC_ADDRESS)
    _check_open(static_address)
    provider.revoke_static_address(deposits.remote_of(static_address))

    def decide(static_address, now):
        _check_open(static_address)
        return {"state": State.REVOKED, "revoked_at": now, "next_poll_at": now}

    return deposits.operate(static_address.pk, decide, kind="revoked", user=user, reason=reason)


def _request(provider, fields, email):
    provider.coin(fields["pay_currency"], "pay_currency")
    try:
        options = read_options(provider.static_options, fields["options"])
    except InvalidRequest as error:
        raise InvalidRequest(f"options.{error.field}", error.message) from None
    return StaticAddressRequest(
        reference=fields["reference"],
        callback_url=callback_url(provider, fields["reference"]),
        pay_currency=fields["pay_currency"],
        customer=fields["customer"],
        description=fields["description"],
        email=email,
        options=options,
    )


def _refuse(static_address, reason):
    def decide(static_address, now):
        return {"state": State.REFUSED, "next_poll_at": None}

    return deposits.operate(static_address.pk, decide, kind="refused", reason=reason)


def _check_open(static_address):
    if static_address.state != State.OPEN:
        raise NotAllowed(f"an address that is {static_address.state} cannot be revoked")


def _bind(static_address, remote):
    """Stores what the create call brought back, unless a callback bound the row to another object of the gateway before."""
    values = {
        "gateway_id": remote.gateway_id,
        "coin": remote.pay_currency,
        "network": remote.network,
        "address": remote.address,
        "address_tag": remote.address_tag,
    }
    rows = StaticAddress.objects.filter(pk=static_address.pk)
    fresh = {"state": State.OPEN, "raw": remote.raw, "next_poll_at": timezone.now() + deposits.POLLING[0][1]}
    bound = rows.filter(state__in=(State.CREATING, State.UNKNOWN), gateway_id="").update(**values, **fresh)
    if not bound:  # a callback came before the answer to our call
        bound = rows.filter(gateway_id=remote.gateway_id).update(**values)
    if not bound:
        text = f"static address {static_address.uuid}: the gateway answered with another id than its callback"
        delivery.notify("review", None, text)
    static_address.refresh_from_db()
    return static_address
