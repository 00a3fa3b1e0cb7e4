"""OnchainPay: hosted invoices, orders (an address for the shop's own page), personal addresses of a customer.

https://docs.onchainpay.io/signature, /ru/webhooks and, under /api-reference/, 07invoices, 05orders and personal_addresses.
Other brands sell the same API at another ``base_url``; no test environment is documented. Checked 2026-11-22.
"""

import hashlib
import re
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from ..exceptions import BadSignature, GatewayRefused, InvalidRequest, MalformedCallback, MisdirectedCallback, NotSupported
from ..money import format_amount
from ..statuses import InvoiceStatus, Source
from . import payload
from .base import Capability, Evidence, Hint, Kind, Page, Provider, Remote, RemoteInvoice, RemoteTransfer, check_id
from .http import Client, check_url
from .options import Secrets, option
from .signing import hmac_hex, nonce, verify_hmac_hex
from .values import Fields, fold, keyed, options_of, percent, price, said, sendable, units

__all__ = ["OnchainPay", "OnchainPayCreateOptions", "OnchainPayOptions", "OnchainPayStaticOptions"]

INVOICE_STATUSES = ("CREATED", "INIT", "PENDING", "PARTIAL", "PROCESSED", "OVERPAID", "EXPIRED", "REJECTED", "ERROR")
ORDER_STATUSES = ("init", "pending", "partial", "processed", "overpaid", "expired", "error")
LISTS = {  # path, name in the answer, statuses, field of our reference, field of the gateway's id
    Kind.INVOICE: ("/get-invoices", "invoices", INVOICE_STATUSES, "externalId", "id"),
    Kind.ADDRESS: ("/orders", "orders", ORDER_STATUSES, "clientOrderId", "orderId"),
}
MAX_PAGES = 50  # of one search
SHORTEST_ORDER = {"litecoin": 3600, "bitcoin": 7200, "bitcoincash": 7200}  # seconds; 1800 on other networks
LONGEST_ORDER = 43200
OWN_COINS = "BNB@bsc BTC@bitcoin BCH@bitcoincash ETH@ethereum FTM@fantom LTC@litecoin TON@ton TRX@tron XRP@ripple".split()
_FEE = {None: None, "merchant": False, "payer": True}


# Options


@dataclass(frozen=True, slots=True)
class OnchainPayOptions:
    public_key: Secrets = option(help="public API key. While rotating: newest first")
    secret_key: Secrets = option(help="its secret, as shown; signs requests and callbacks. While rotating: newest first")
    base_url: str = option("https://ocp.onchainpay.io/api-gateway", help="https, or http to a loopback address")
    advanced_balance_id: str = option("", help="prepaid balance that pays the fees; sent with every call, as by the SDKs")
    coins: tuple[str, ...] = option((), help="further coins, such as USDT@bsc: OnchainPay's coin and network")
    balance_is_total: bool = option(True, help=(
        "a personal address's balance counts all that ever came in; its meaning is not documented. False: deposits are not told"
    ))  # fmt: skip
    default_lifetime_minutes: int = option(60, minimum=1, maximum=525600, help="sent when a request names no lifetime")
    longest_lifetime_minutes: int = option(3600, minimum=1, maximum=525600, help="of an invoice; the limit is not documented")
    page_size: int = option(50, minimum=1, maximum=1000, help="entries of a list asked for; the limit is not documented")
    unsigned_as_hint: bool = option(False, help="a callback without signature is a reason to ask the gateway")


@dataclass(frozen=True, slots=True)
class OnchainPayCreateOptions:
    external_user_id: str = option("", help="the shop's user, who then pays to a personal address")
    additional_fees: tuple[str, ...] = option((), help="hosted page: tariff actions whose fee the payer bears")
    insurance_percent: Decimal | None = option(None, minimum=0, help="hosted page: percent on top of the price")
    slippage_percent: Decimal | None = option(None, minimum=0, maximum=100, help="hosted page: percent, 100 is our own limit")
    check_risks: bool | None = option(None, help="page='own': AML check of what comes in")


@dataclass(frozen=True, slots=True)
class OnchainPayStaticOptions:
    create_addresses: bool | None = option(None, help="make the customer's addresses of all coins at once")
    group_by_blockchain: bool | None = option(None, help="one address for all coins of a network")
    check_risks: bool | None = option(None, help="AML check of what comes in")
    renew_address: bool | None = option(None, help="a new address in place of the customer's present one")


class OnchainPay(Provider):
    name = "OnchainPay"
    options = OnchainPayOptions
    create_options = OnchainPayCreateOptions
    static_options = OnchainPayStaticOptions
    capabilities = frozenset(
        {Capability.LOOKUP_BY_REFERENCE, Capability.SIGNED_CALLBACKS, Capability.OWN_PAGE, Capability.STATIC_ADDRESS}
    )
    signature_headers = ("x-api-signature",)
    signed_fields = frozenset({"*"})
    watch = timedelta(hours=72)
    expires_locally = False  # an invoice's expiresAt ends only the choice of a coin
    takes_tolerance = True

    # Networks are as the pages name them; native coins' tickers and a pair's order (coin, network) are inferred. The account's
    # ``coins`` come on top; ``available_currencies`` lists all that there are.
    pay_currencies = {name: tuple(pair.split("@")) for pair in OWN_COINS for name in (pair, pair.split("@")[0])}
    pay_currencies |= {f"USDT@{network}": ("USDT", network) for network in ("ethereum", "tron")}

    # Status map. Invoices say the words in capitals, orders in small letters
    statuses = {
        "created": InvoiceStatus.PENDING,
        "init": InvoiceStatus.PENDING,
        "pending": InvoiceStatus.CONFIRMING,  # pending while nothing has arrived
        "partial": InvoiceStatus.UNDERPAID,
        "processed": InvoiceStatus.PAID,
        "overpaid": InvoiceStatus.OVERPAID,
        "expired": InvoiceStatus.EXPIRED,
        "rejected": InvoiceStatus.FAILED,
        "error": InvoiceStatus.FAILED,
    } | dict.fromkeys(("active", "inactive"), InvoiceStatus.PENDING)  # a personal address, by its isActive
    final = frozenset({"rejected", "error"})  # processed, overpaid, partial and expired are documented as not final

    def __init__(self, account, *, alias=""):
        super().__init__(account, alias=alias)
        if wrong := [pair for pair in account.coins if not re.fullmatch(r"[A-Z0-9]{2,16}@[a-z0-9-]{1,32}", pair)]:
            raise InvalidRequest("coins", f"{wrong[0]!r} is not of the form USDT@bsc")
        self.pay_currencies = self.pay_currencies | {pair: tuple(pair.split("@")) for pair in account.coins}
        self.default_lifetime = timedelta(minutes=account.default_lifetime_minutes)
        names = {"gateway": self.name, "account": alias, "secrets": (*account.public_key, *account.secret_key)}
        self.client = Client(account.base_url, sign=self._sign, read_status=_read_status, **names)

    def _sign(self, body):
        signature = hmac_hex(self.account.secret_key.current, body, hashlib.sha256)
        return {"x-api-public-key": self.account.public_key[0], "x-api-signature": signature}

    @contextmanager
    def _called(self, operation, path, body, *, same=(), reads=True, timeout=None):
        """Yields the fields of ``response`` (of the whole answer where that is no object) and the ``Answer``, to be read inside.
        ``same`` are fields that echo what we sent."""
        said_body = said(body | {"advancedBalanceId": self.account.advanced_balance_id, "nonce": nonce()})
        json = {name: format_amount(value) if isinstance(value, Decimal) else value for name, value in said_body.items()}
        answer = self.client.call("POST", path, operation=operation, json=json, reads=reads, timeout=timeout)
        with self.client.reading(operation):
            fields = Fields(answer.data["response"] if isinstance(answer.data.get("response"), dict) else answer.data)
            for name, ours in same:
                if ours and fields.text(name) not in ("", ours):
                    raise payload.MalformedPayload(f"{name}: another one than ours")
            yield fields, answer

    # Create

    def validate(self, request):
        self._order(request)

    def create(self, request):
        """POST /make-invoice, or /make-order for ``page="own"``. What a repeated externalId answers is not documented."""
        kind, path, body = self._order(request)
        *_, ours, theirs = LISTS[kind]
        with self._called("create", path, body, same=[(ours, request.reference)], reads=False) as (fields, answer):
            fields.text("invoiceLink" if kind is Kind.INVOICE else "address", limit=2048, required=True)
            facts = self._facts(fields, kind) | {"word": fold(fields.text("status", limit=64))}
            return RemoteInvoice(gateway_id=fields.id(theirs), kind=kind, raw=answer.text, **facts)

    def _order(self, request):
        """``(kind, path, body)``. All that can be wrong with a request is found here, before any call."""
        options = options_of(request, OnchainPayCreateOptions)
        if request.cancel_url:
            raise NotSupported("OnchainPay has no cancel_url: its page has one way back to the shop")
        if request.fee_payer not in _FEE:
            raise InvalidRequest("fee_payer", "merchant or payer was expected")
        if request.return_url:
            check_url(request.return_url, "return_url")
        check_url(request.callback_url, "callback_url")
        shared = {
            "externalUserId": sendable(options.external_user_id, "external_user_id"),
            "payerEmail": sendable(request.email, "email"),
            "paymentTolerancePercent": percent(request.underpaid_tolerance, "underpaid_tolerance", maximum=100),
        }  # fmt: skip
        if request.page == Page.OWN:
            return Kind.ADDRESS, "/make-order", self._own_page(request, options) | shared
        if options.check_risks is not None:
            raise NotSupported("check_risks belongs to OnchainPay's orders: page='own'")
        minute, longest = timedelta(minutes=1), self.account.longest_lifetime_minutes
        lifetime = units(request.lifetime, "lifetime", unit=minute, minimum=1, maximum=longest)
        return Kind.INVOICE, "/make-invoice", {
            "currency": request.currency, "amount": price(request.amount, request.currency),
            "lifetime": lifetime or self.account.default_lifetime_minutes,
            "currencies": [self.coin(coin) for coin in request.pay_currencies],  # none: everything available
            "externalId": check_id(request.reference, field="reference"), "order": sendable(request.order_id, "order_id"),
            "description": sendable(request.description, "description"), "includeFee": _FEE[request.fee_payer],
            "additionalFees": [sendable(action, "additional_fees") for action in options.additional_fees] or None,
            "insurancePercent": options.insurance_percent, "slippagePercent": options.slippage_percent,
            "webhookURL": request.callback_url, "returnURL": request.return_url,
        } | shared  # fmt: skip

    def _own_page(self, request, options):
        """An order's price is in its coin. Its one reference is ours; the shop's opens the description."""
        hosted = (request.fee_payer, options.additional_fees or None, options.insurance_percent, options.slippage_percent)
        if any(value is not None for value in hosted):
            raise NotSupported("fee_payer, additional_fees, insurance_percent and slippage_percent need OnchainPay's hosted page")
        if len(request.pay_currencies) != 1:
            raise InvalidRequest("pay_currencies", "exactly one is needed with page='own'")
        (coin, network), amount = self.coin(request.pay_currencies[0]), price(request.amount, request.currency)
        if coin != request.currency:
            raise NotSupported(f"page='own' takes a price in the coin that is paid: {coin}, not {request.currency}")
        second, shortest = timedelta(seconds=1), SHORTEST_ORDER.get(network, 1800)
        lifetime = units(request.lifetime, "lifetime", unit=second, minimum=shortest, maximum=LONGEST_ORDER)
        texts = (sendable(request.order_id, "order_id"), sendable(request.description, "description"))
        return {
            "currency": coin, "network": network, "amount": amount,
            "lifetime": lifetime or min(max(self.account.default_lifetime_minutes * 60, shortest), LONGEST_ORDER),
            "order": check_id(request.reference, field="reference"), "description": ": ".join(filter(None, texts)),
            "errorWebhook": request.callback_url, "successWebhook": request.callback_url,
            "returnUrl": request.return_url, "checkRisks": options.check_risks,
        }  # fmt: skip

    # Fetch

    def fetch(self, remote, *, timeout=None):
        """POST /get-invoice, /order, or /personal-addresses/get-user-address."""
        gateway_id = check_id(remote.gateway_id, field="gateway_id")
        if remote.kind is Kind.STATIC_ADDRESS:
            return self._fetch_address(remote, timeout=timeout)
        path, name = ("/order", "orderId") if remote.kind is Kind.ADDRESS else ("/get-invoice", "invoiceId")
        with self._called("fetch", path, {name: gateway_id}, same=[("id", gateway_id)], timeout=timeout) as (fields, answer):
            # An order's orderId is our reference here, but the gateway's id where orders are made and listed.
            ours = fields.text("orderId" if remote.kind is Kind.ADDRESS else "externalId")
            return self._evidence(fields, remote.kind, ours, source=Source.POLL, raw=answer.text, observed_at=answer.started_at)

    # Find

    def find(self, reference, *, kind, amount, currency, created_at):
        """The invoice or order that carries ``reference``, None when there surely is none.

        A list knows only statuses: first what waits for money is searched, then all. ``GatewayUncertain``: it is too long.
        """
        check_id(reference, field="reference")
        _, _, statuses, _, _ = LISTS[kind]
        for words in ([word for word in statuses if word.lower() in ("created", "init", "pending")], statuses):
            if gateway_id := self._search(kind, words, reference):
                return self.fetch(Remote(kind, gateway_id, reference))
        return None

    def _search(self, kind, words, reference):
        """The id of the one with ``reference``, "" when as many others were read as the gateway counts."""
        *_, ours, theirs = LISTS[kind]
        seen, offset, size = set(), 0, self.account.page_size
        for _ in range(MAX_PAGES):
            entries, total = self.list_payments(words, kind=kind, limit=size, offset=offset)
            with self.client.reading("find"):
                for entry in map(Fields, entries):
                    if ours not in entry.data:
                        raise payload.MalformedPayload(f"{ours}: required")
                    if entry.data[ours] == reference:
                        return entry.id(theirs)
                    seen.add(entry.id(theirs))
            offset += len(entries)
            if len(seen) >= total:
                return ""
            if not entries or total > MAX_PAGES * size:
                break
        raise self.client.unreadable("find", "the list is longer than may be read, or changed while it was read")

    # Verify

    def verify(self, headers, body, *, url=""):
        """HMAC-SHA256 of the raw body in the header x-api-signature, keyed with the secret key's text.

        The body of an invoice's callback is not documented: one that tells the price is read as the invoice, another is a hint.
        """
        given = [value for name, value in headers.items() if name.lower() == "x-api-signature"]
        if given or not self.account.unsigned_as_hint:
            if len(given) != 1:
                raise BadSignature("exactly one x-api-signature header is expected")
            verify_hmac_hex(given[0], body, self.account.secret_key, hashlib.sha256)
        try:
            fields = Fields(payload.loads(body))
            return self._told(fields, source=Source.CALLBACK, raw=body.decode()) if given else Hint(fields.id("id"))
        except (payload.MalformedPayload, InvalidRequest) as error:
            if not given:
                return Hint()
            raise MalformedCallback(str(error)) from None

    def _told(self, fields, **seen):
        event, word, order = fields.text("event"), fields.text("status", limit=64), fields.text("order")
        if event not in ("", "ORDER", "DEPOSIT_PERSONAL", "DEPOSIT_ORPHAN"):  # WITHDRAWAL and others
            raise MisdirectedCallback(f"a callback of the event {event[:32]!r} on the address for payments")
        if event.startswith("DEPOSIT"):
            return Hint()
        if word.isupper():
            if fields.amount("amount") is None or not fields.text("currency"):
                return Hint(fields.id("id"))
            return self._evidence(fields, Kind.INVOICE, fields.text("externalId"), **seen)
        if word.islower() and order:
            return self._evidence(fields, Kind.ADDRESS, order, **seen)
        if fields.text("address"):  # a deposit on a personal address, whose body is not documented
            return Hint()
        raise payload.MalformedPayload("status: neither an invoice's in capitals nor an order's in small letters")

    def _evidence(self, fields, kind, reference, **seen):
        """Mark-ups and rates lift a normal payment above the price: only the gateway's own word says that it is too much."""
        own, facts, word = kind is Kind.ADDRESS, self._facts(fields, kind), fold(fields.text("status", limit=64, required=True))
        status, final = self.classify(word)
        received = fields.amount("received" if own else "receivedAmountInInvoiceCurrency")
        arrived = received if own else fields.amount("receivedAmount")  # in the payer's coin
        transactions = fields.objects("transactions") if own else []  # an invoice shows none
        sound = [item for item in transactions if fold(item.text("status")) not in ("error", "rejected")]
        if status is InvoiceStatus.CONFIRMING and arrived == 0 and not sound:
            status = InvoiceStatus.PENDING  # the word is said while nothing has arrived as well
        if received is not None and status is not InvoiceStatus.OVERPAID:
            received = None if facts["price_amount"] is None else min(received, facts["price_amount"])
        if status is InvoiceStatus.UNDERPAID and received == facts["price_amount"]:
            received = None  # what is missing is a mark-up: how much of the price itself came is not told
        accepted = [fields.amount(name, maximum=100) for name in ("paymentTolerancePercent", "slippagePercent")]
        reviews = [f"OnchainPay says {word}: its support tells why"] if final else []
        reviews += ["a transaction failed or was rejected"] if len(sound) < len(transactions) else []
        reviews += ["a deposit does not fit the order: see orphan deposits"] if fields.data.get("orphanDeposits") else []
        transfers = keyed(
            RemoteTransfer(
                key="", tx_hash=item.text("tx", limit=180), amount=item.amount("amount"), network=item.text("network", limit=64),
                currency=item.text("currency", limit=32).upper(), address=facts["address"], sender=item.text("sender"),
                confirmations=item.count("confirmations"), confirmed=fold(item.text("status")) == "processed",
            ) for item in sound
        )  # fmt: skip
        return Evidence(
            remote=Remote(kind, fields.id("id"), reference), word=word, status=status, final=final, received=received,
            tolerance=max(filter(None, accepted), default=None),  # within either it is closed; 0 or unsaid: its word stands
            transfers=transfers, review="; ".join(reviews), **facts, **seen,
        )  # fmt: skip

    def _facts(self, fields, kind):
        """What ``RemoteInvoice`` and ``Evidence`` have in common."""
        amount, currency = fields.amount("amount"), fields.text("currency", limit=16).upper()
        facts = {"price_amount": amount, "price_currency": currency, "expires_at": fields.time("expiresAt")}
        if kind is Kind.ADDRESS:
            return facts | {
                "pay_amount": amount, "pay_currency": currency, "network": fields.text("network", limit=64),
                "address": fields.text("address"), "address_tag": fields.text("tag", limit=128, whole=True),
            }  # fmt: skip
        if facts["expires_at"] and facts["expires_at"].year < 9999:  # ends the choice of a coin, not the order that it makes
            facts["expires_at"] += timedelta(seconds=LONGEST_ORDER)
        link, coin = fields.text("invoiceLink", limit=2048), fields.text("receivedCurrency", limit=32)
        page = {"payment_url": self.client.page_url(link) if link else ""}
        return facts | page | {"pay_currency": coin, "network": fields.text("receivedNetwork", limit=64)}

    # The vendor's own calls

    def list_payments(self, status, *, kind=Kind.INVOICE, limit=50, offset=0):
        """POST /get-invoices, or /orders for ``Kind.ADDRESS``: ``(entries, total)``, those whose word is among ``status``."""
        path, name, *_ = LISTS[kind]
        with self._called("list_payments", path, {"status": list(status), "limit": limit, "offset": offset}) as (fields, _):
            if (total := fields.count("total")) is None:  # a number, or its digits as a text
                raise payload.MalformedPayload("total: required")
            return [entry.data for entry in fields.objects(name, required=True)], total

    def available_currencies(self):
        """POST /available-currencies: the coins with their networks, limits and confirmations."""
        with self._called("available_currencies", "/available-currencies", {}) as (fields, _):
            return [coin.data for coin in fields.objects("response", required=True)]

    def test_signature(self):
        """POST /test-signature: the gateway's clock. Raises ``GatewayRefused`` when it does not find the signature good."""
        with self._called("probe", "/test-signature", {}) as (fields, answer):
            if not fields.flag("checkSignatureResult"):
                text = "the signature is wrong: is secret_key the one of public_key?"
                raise GatewayRefused(text, gateway=self.name, account=self.alias, operation="probe")
            return answer.date

    probe = test_signature

    def create_static_address(self, request):
        """POST /personal-addresses/create-user, then get-user-address. ``gateway_id`` is <user's id>_<coin>_<network>."""
        options, reference = options_of(request, OnchainPayStaticOptions), check_id(request.reference, field="reference")
        coin, network = self.coin(request.pay_currency, "pay_currency")
        texts = (sendable(request.customer, "customer"), sendable(request.description, "description"))
        user = {
            "clientId": reference, "clientName": ": ".join(filter(None, texts)), "clientEmail": sendable(request.email, "email"),
            "depositWebhookUrl": check_url(request.callback_url, "callback_url"), "checkRisks": options.check_risks,
            "createAddresses": options.create_addresses, "groupByBlockchain": options.group_by_blockchain,
        }  # fmt: skip
        operation, path, same = "create_static_address", "/personal-addresses/create-user", [("clientId", reference)]
        with self._called(operation, path, user, same=same, reads=False) as (fields, _):
            gateway_id = check_id(f"{fields.id('id')}_{coin}_{network}")
        made = self._fetch_address(Remote(Kind.STATIC_ADDRESS, gateway_id), operation, options.renew_address, reads=False)
        facts = {name: getattr(made, name) for name in ("word", "address", "address_tag", "pay_currency", "network", "raw")}
        return RemoteInvoice(gateway_id=gateway_id, kind=Kind.STATIC_ADDRESS, **facts)

    def _fetch_address(self, remote, operation="fetch", renew=None, **how):
        """No call lists deposits: the highest ``balance`` seen counts as what came in, unless ``balance_is_total`` is False."""
        if remote.gateway_id.count("_") != 2:
            raise InvalidRequest("gateway_id", "the user's id, the coin and the network were expected")
        user_id, coin, network = remote.gateway_id.split("_")
        body = {"id": user_id, "currency": coin, "network": network, "renewAddress": renew}
        same = [("userId", user_id), ("currency", coin), ("network", network), ("address", remote.address)]
        with self._called(operation, "/personal-addresses/get-user-address", body, same=same, **how) as (fields, answer):
            address, word = fields.text("address", required=True), "inactive" if fields.flag("isActive") is False else "active"
            balance = fields.amount("balance") if self.account.balance_is_total else None
            return Evidence(
                source=Source.POLL, remote=Remote(Kind.STATIC_ADDRESS, remote.gateway_id, "", address, network), word=word,
                status=self.statuses[word], pay_currency=coin, network=network, address=address,
                address_tag=fields.text("tag", limit=128, whole=True), totals=() if balance is None else ((coin, balance),),
                observed_at=answer.started_at, raw=answer.text,
            )  # fmt: skip


def _read_status(http_status, answer):
    """``(status, code, text)``. ``success`` judges; which HTTP status a refusal has is not documented."""
    error, success = answer["error"] if isinstance(answer.get("error"), dict) else {}, answer.get("success")
    code, name, text = (str(error.get(key) or "") for key in ("code", "name", "message"))
    if success is True and 400 <= http_status < 500 and http_status != 429:
        http_status = 0  # they disagree
    elif success is not True and http_status < 400:
        http_status = 400 if success is False else 0
    return http_status, code or name, text or name
