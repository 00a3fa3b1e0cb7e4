"""OnchainPay's users with personal addresses: one static address for each coin and network, any number of deposits.

Sources: https://docs.onchainpay.io/api-reference/personal_addresses and the vendor's SDKs. A user is one row, its addresses
are in ``data``. The endpoints get the gateway first.
"""

import uuid
from decimal import Decimal

from django.db import transaction

from crypto_invoices.money import format_amount

from . import coins
from . import onchainpay_documents as documents
from .api import find, not_found, read_body
from .gateway import iso
from .models import Transfer, new_number
from .parameters import Parameter

ACTIVE = "active"  # the row's word; the documentation has none

# --- Parameters ---
USER_PARAMETERS = {
    "clientId": Parameter(required=True, high=255),
    **{name: Parameter() for name in ("clientEmail", "clientName")},
    "depositWebhookUrl": Parameter("url"),
    **{name: Parameter("flag") for name in ("createAddresses", "groupByBlockchain", "checkRisks")},
}
ID_PARAMETERS = {"id": Parameter(required=True)}
ADDRESS_PARAMETERS = {
    **{name: Parameter(required=True) for name in ("id", "currency", "network")},
    "renewAddress": Parameter("flag"),
}


# --- Endpoints ---
def create_user(gateway, request, merchant):
    given = read_body(request, USER_PARAMETERS)
    with transaction.atomic():
        user = _named(gateway, merchant, given["clientId"], given)
        if given.get("createAddresses"):
            for symbol, network in documents.OFFERED:
                address_row(user, symbol, network)
        user.save()
    return _user_object(user)


def get_user(gateway, request, merchant):
    given = read_body(request, {name: Parameter() for name in ("id", "clientId")})
    columns = {"gateway_id": given["id"]} if "id" in given else {"reference": given.get("clientId", "")}
    user = gateway.payments(merchant).filter(kind=documents.USER, **columns).first()
    if user is None:
        raise not_found(documents.USER)
    return _user_object(user)


def get_user_address(gateway, request, merchant):
    given = read_body(request, ADDRESS_PARAMETERS)
    documents.check_pair(given["currency"], given["network"])
    with transaction.atomic():
        user = find(gateway, merchant, given["id"], documents.USER, kind=documents.USER)
        row = address_row(user, given["currency"], given["network"], renew=given.get("renewAddress", False))
        user.save()
    return _address_object(user, row)


def get_user_addresses(gateway, request, merchant):
    user = find(gateway, merchant, read_body(request, ID_PARAMETERS)["id"], documents.USER, kind=documents.USER)
    return [_address_object(user, row) for row in user.data["addresses"]]


# --- Rows ---
def user_of(gateway, payment):
    """The user that an invoice or order names by ``externalUserId``, made with ``payerEmail`` where it is new, or None."""
    client_id, mail = payment.data.get("externalUserId"), payment.data.get("payerEmail")
    if not client_id:
        return None
    user = _named(gateway, payment.account, client_id, {"clientEmail": mail} if mail else {})
    user.save()
    return user


def take_address(gateway, payment):
    """With ``externalUserId`` the money goes to that user's static address."""
    user = user_of(gateway, payment)
    if user:
        row = address_row(user, payment.pay_currency, payment.network)
        user.save()
        payment.address, payment.memo = row["address"], row["tag"] or ""


def address_row(user, symbol, network, renew=False):
    """The user's active address for the coin, made where there is none; ``renew`` retires the one before."""
    rows = [row for row in user.data["addresses"] if (row["currency"], row["network"]) == (symbol, network) and row["isActive"]]
    if rows and not renew:
        return rows[0]
    for row in rows:
        row["isActive"] = False
    row = {
        "id": str(uuid.uuid4()),
        "currency": symbol,
        "network": network,
        "address": coins.new_address(network),
        "tag": new_number(8) if coins.NETWORKS[network].memo else None,
        "isActive": True,
    }
    user.data["addresses"].append(row)
    return row


def _named(gateway, merchant, client_id, given):
    """The user of that name, made or brought up to date, not saved."""
    user = gateway.payments(merchant).filter(kind=documents.USER, reference=client_id).first()
    if user is None:
        user = gateway.new_payment(merchant, documents.USER, ACTIVE, gateway_id=str(uuid.uuid4()), reference=client_id)
        user.data["addresses"] = []
    user.data |= given
    user.callback_url = user.data.get("depositWebhookUrl", "")
    return user


# --- Objects ---
def _user_object(user):
    """That the answer repeats what was given is our choice."""
    given = {name: user.data.get(name) for name in ("clientEmail", "clientName", "depositWebhookUrl")}
    return {"id": user.gateway_id, "clientId": user.reference, **given, "createdAt": iso(user.created_at)}


def _address_object(user, row):
    """The balance is all that was ever confirmed there, for an invoice or without one."""
    to_it = Transfer.objects.filter(payment__gateway=user.gateway, address=row["address"], memo=row["tag"] or "")
    confirmed = to_it.filter(currency=row["currency"], confirmed_at__isnull=False)
    balance = sum((transfer.amount for transfer in confirmed), Decimal(0))
    return {**row, "userId": user.gateway_id, "balance": format_amount(balance)}


def deposit_object(user, transfer):
    """What is told of a deposit: the body is not documented, so an order's transaction and whose it is (our choice)."""
    whose = {"userId": user.gateway_id, "clientId": user.reference, "address": transfer.address, "tag": transfer.memo or None}
    return {**documents.transaction(transfer), **whose}
