"""txn.io (formerly txn.pro) public API v1: an invoice in one coin, on its hosted page or by its address on the shop's page.

https://docs.txn.io/invoices/creating-invoice and its neighbours, https://docs.txn.io/api-basics/webhooks and
https://docs.txn.pro/invoices/invoice-webhooks. Checked 2026-11-22; "not documented": on none of them. The only text of an
invoice is ``reference``, ours: order id, description and e-mail are not sent. Reusable addresses (channels) are not offered.
"""

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import product
from urllib.parse import urlsplit

from ..exceptions import GatewayError, GatewayRefused, InvalidRequest, NotSupported
from ..money import add, format_amount, is_coin
from ..statuses import InvoiceStatus, Source
from . import payload
from .base import Capability, Evidence, Hint, Kind, Page, Provider, Remote, RemoteInvoice, RemoteTransfer, check_id
from .http import Client, check_base_url, check_url
from .options import Secret, Secrets, option
from .signing import STANDARD_WEBHOOK_HEADERS, standard_webhook_key, verify_standard_webhook
from .values import Fields, keyed, options_of, price, query, said

__all__ = ["Txn", "TxnCreateOptions", "TxnFilters", "TxnOptions"]

SANDBOX_URL = "https://api.sandbox.txn.io/api/public/v1"
SANDBOX_HOSTS = ("api.sandbox.txn.io", "api.sandbox.txn.pro")  # the second is the older one
PAYMENT_METHODS = ("on_chain", "binance_pay", "nft")
REFERENCE_TAKEN = "/data/attributes/externalId"  # how the gateway points at what its requests call reference
REFUND_LINK = "txn.io made a refund link, which the shop has to pass on to the payer"
NO_REFUND_LINK = "cancelled although money came, without a refund link: perhaps less than what sending it back costs"
_TOLD = "word payment_url address address_tag pay_amount pay_currency network price_amount price_currency expires_at raw".split()
_COIN = re.compile(r"(([A-Z0-9]{2,16})(?:@[a-z0-9_-]{1,32})?)=([A-Za-z0-9:_.-]{1,64})")


# Options


@dataclass(frozen=True, slots=True)
class TxnOptions:
    api_key: Secrets = option(help="API key, full access. Callbacks of an invoice end when the key that made it is deleted")
    sandbox: bool = option(False, help="test environment: testnet coins and network codes")
    base_url: str = option("", help=f"with /api/public/v1; required except for the sandbox, then {SANDBOX_URL}")
    default_pay_currency: str = option("", help="the payer's coin where an invoice names none, such as USDT@tron")
    network_codes: tuple[str, ...] = option((), help="further coins: USDT@ethereum=eth:usdt, as this environment names them")
    target_currency: str = option("", max_length=16, help="settlement currency; empty: the price currency, if tradable")
    payment_method: str = option("on_chain", choices=PAYMENT_METHODS, help="where an invoice names none")
    webhook_secret: Secrets | None = option(None, help="whsec_...: callbacks need a Standard Webhooks signature; not documented")


@dataclass(frozen=True, slots=True)
class TxnCreateOptions:
    target_currency: str | None = option(None, max_length=16, help="settlement currency of this invoice")
    target_account_id: str | None = option(None, max_length=128, help="account to credit; needs a target_currency")
    payment_method: str | None = option(None, choices=PAYMENT_METHODS, help="a wallet, the Binance app, the purchase of an NFT")


@dataclass(frozen=True, slots=True)
class TxnFilters:
    """Of ``list_invoices``. Times are aware datetimes; the first page's number and the largest page are not documented."""

    reference: str | None = option(None, max_length=255, help="ours; whether a part of it is enough is not documented")
    created_at_from: datetime | None = option(None, help="from this time")
    created_at_to: datetime | None = option(None, help="to this time")
    order: str | None = option(None, choices=("created_at",), help="sorted by")
    order_type: str | None = option(None, choices=("asc", "desc"), help="direction")
    page: int | None = option(None, minimum=0, help="page number")
    per_page: int | None = option(None, minimum=1, help="invoices on a page")


# Status map: an invoice's three words, in lower case without "_", and whether it has a refund link

_PAID_WHEN, _PAID_WHAT, _LINK = "expecting ontime late", "unpaid full underpaid overpaid", " refund"
_TABLE = (
    # status, paymentStatus, statusContext, refund link, ours, final
    ("pending", "expecting", "unpaid", "", InvoiceStatus.PENDING, False),
    ("processing", "ontime late", "unpaid", "", InvoiceStatus.CONFIRMING, False),
    ("completed", "ontime late", "full", "", InvoiceStatus.PAID, True),
    ("completed", _PAID_WHEN, "underpaid", "", InvoiceStatus.UNDERPAID, True),
    ("completed", _PAID_WHEN, "overpaid", "", InvoiceStatus.OVERPAID, True),
    ("completed", _PAID_WHEN, "overpaid", _LINK, InvoiceStatus.OVERPAID, True),  # the excess goes back
    ("completed", _PAID_WHEN, "full underpaid", _LINK, InvoiceStatus.REFUNDING, False),
    ("expired", "expecting", "unpaid", "", InvoiceStatus.EXPIRED, False),  # the gateway listens for 168 hours
    ("onhold", _PAID_WHEN, _PAID_WHAT, "", InvoiceStatus.CONFIRMING, False),
    ("cancelled", "expecting", "unpaid", "", InvoiceStatus.CANCELLED, True),
    ("cancelled", "ontime late", "unpaid", "", InvoiceStatus.FAILED, True),
    ("cancelled", "ontime late", "unpaid", _LINK, InvoiceStatus.REFUNDING, False),
    ("rejected", _PAID_WHEN, _PAID_WHAT, "", InvoiceStatus.FAILED, True),
    ("rejected", _PAID_WHEN, _PAID_WHAT, _LINK, InvoiceStatus.REFUNDING, False),
)
_WORDS = {
    f"{status} {one} {other}{link}": (ours, final)
    for status, when, what, link, ours, final in _TABLE
    for one, other in product(when.split(), what.split())
}


class Txn(Provider):
    name = "txn.io"
    options = TxnOptions
    create_options = TxnCreateOptions
    capabilities = frozenset({Capability.LOOKUP_BY_REFERENCE, Capability.IDEMPOTENT_CREATE, Capability.OWN_PAGE})
    signature_headers = STANDARD_WEBHOOK_HEADERS
    signed_fields = frozenset()  # a callback is a hint, signed or not
    watch = timedelta(days=7)
    expires_locally = False  # the gateway says "expired" itself, and takes a payment for 168 hours after
    account_callbacks = True
    statuses = {word: ours for word, (ours, _) in _WORDS.items()}
    final = frozenset(word for word, (_, final) in _WORDS.items() if final)

    # The gateway's coin and network; of a test network the code has a "t" before. The pages have trx:usdt, ttrx:usdt, txrp,
    # tpolygon and polygon:usdcv2. Inferred by that rule: the live xrp and polygon, and the sandbox's tpolygon:usdcv2.
    pay_currencies = {
        "USDT@tron": ("USDT", "trx:usdt"),
        "USDC@polygon": ("USDC", "polygon:usdcv2"),
        "POL": ("POL", "polygon"),
        "POL@polygon": ("POL", "polygon"),
        "XRP": ("XRP", "xrp"),
    }

    def __init__(self, account, *, alias="", clock=time.time):
        super().__init__(account, alias=alias)
        _check_account(account)
        test = "t" if account.sandbox else ""
        self.pay_currencies = {name: (coin, test + code) for name, (coin, code) in self.pay_currencies.items()}
        for text in account.network_codes:
            if not (match := _COIN.fullmatch(text)):
                raise InvalidRequest("network_codes", f"{text!r} is not of the form USDT@ethereum=eth:usdt")
            name, coin, code = match.groups()
            self.pay_currencies[name] = (coin, code)
        if account.default_pay_currency:
            self.coin(account.default_pay_currency, "default_pay_currency")
        self._clock = clock  # seconds since 1970
        self._pairs = ({}, 0.0)  # and until when they are kept
        self.client = Client(
            account.base_url or SANDBOX_URL, gateway=self.name, account=alias, secrets=account.api_key, read_status=_read_status,
            headers={"Authorization": Secret(f"Bearer {account.api_key.current}"), "Content-Type": "application/vnd.api+json"},
        )  # fmt: skip

    # Create

    def validate(self, request):
        self._order(request)

    def create(self, request):
        """POST /invoices, once an hour after GET /invoices/currency_pairs. Where our reference is taken it is looked up.

        Raises ``InvalidRequest("pay_currencies", ...)`` before the POST where the gateway's list does not have the coin.
        """
        order = self._order(request)
        order["network"] = self._listed_network(order["billedCurrency"], order["chargedCurrency"], order["network"])
        kind = Kind.ADDRESS if request.page == Page.OWN else Kind.INVOICE
        try:
            document = {"data": {"type": "invoices", "attributes": order}}
            answer = self.client.call("POST", "/invoices", operation="create", json=document)
        except GatewayRefused as error:
            if error.code != "invoice_invalid" or not error.text.startswith(REFERENCE_TAKEN):
                raise
            evidence = self._made_before(order, kind)
        else:
            with self.client.reading("create"):
                evidence = self._evidence(answer, kind)
        if evidence.remote.reference != request.reference:
            raise self.client.unreadable("create", "reference: another than ours")
        if not (evidence.address if kind is Kind.ADDRESS else evidence.payment_url):
            raise self.client.unreadable("create", "nothing to pay at: no address or no hostedPageUrl")
        told = {name: getattr(evidence, name) for name in _TOLD}
        return RemoteInvoice(gateway_id=evidence.remote.gateway_id, kind=kind, **told)

    def _order(self, request):
        """The attributes to send. All that can be wrong with a request is found here, before any call."""
        options = options_of(request, TxnCreateOptions)
        for name in ("lifetime", "underpaid_tolerance", "fee_payer"):
            if getattr(request, name) is not None:
                raise NotSupported(f"txn.io takes no {name}")
        method = options.payment_method or self.account.payment_method
        if request.page == Page.OWN and method != "on_chain":
            raise NotSupported(f"page='own' needs on_chain: {method} has no address to pay to")
        coins = request.pay_currencies or (self.account.default_pay_currency,)
        if len(coins) != 1 or not coins[0]:
            raise InvalidRequest("pay_currencies", "exactly one is needed, here or as the account's default_pay_currency")
        coin, network = self.coin(coins[0])
        target = options.target_currency or self.account.target_currency
        if options.target_account_id and not target:
            raise InvalidRequest("target_account_id", "needs a target_currency")
        return said({
            "amountBilled": format_amount(price(request.amount, request.currency)),
            "billedCurrency": request.currency,
            "chargedCurrency": coin,
            "network": network,
            "targetCurrency": target and check_id(target, field="target_currency"),
            "targetAccountId": options.target_account_id and check_id(options.target_account_id, field="target_account_id"),
            "reference": check_id(request.reference, field="reference"),
            "successRedirectUrl": request.return_url and check_url(request.return_url, "return_url"),
            "unsuccessRedirectUrl": request.cancel_url and check_url(request.cancel_url, "cancel_url"),
            "paymentMethods": [method],
        })  # fmt: skip

    def _listed_network(self, billed, coin, network):
        """The code that the gateway lists for ``network``; ``network`` where its list is not read or has no codes."""
        try:
            pairs = self.currency_pairs(timeout=5.0)  # a payer waits
        except GatewayError:
            return network
        codes = pairs.get((billed, coin))
        chain = network.lower().partition(":")[0]  # with the test prefix: "ttrx" of "ttrx:usdt"
        same = [code for code in codes or () if code.lower().partition(":")[0] == chain]
        if codes is None or (codes and not same):
            enabled = ", ".join(sorted(" ".join((key[1], *pairs[key])) for key in pairs if key[0] == billed)) or "none"
            raise InvalidRequest("pay_currencies", f"{coin} on {network} is not enabled for {billed}; enabled are: {enabled}")
        return network if network in same or not same else same[0]

    def _made_before(self, order, kind):
        """The invoice that has our reference. Raises ``GatewayUncertain`` where it is not seen, or not what was ordered."""
        ordered = {"pay_currency": order["chargedCurrency"], "network": order["network"].lower()}
        try:
            if evidence := self._look_up(order["reference"], kind, order["amountBilled"], order["billedCurrency"], **ordered):
                return evidence
            reason = "no invoice has it"
        except GatewayError as error:
            reason = error.text
        raise self.client.unreadable("create", f"the reference is taken: {reason}")

    # Fetch

    def fetch(self, remote, *, timeout=None):
        """GET /invoices/{id}."""
        answer = self.client.call("GET", "/invoices/{}", remote.gateway_id, operation="fetch", timeout=timeout)
        with self.client.reading("fetch"):
            evidence = self._evidence(answer, remote.kind)
            if evidence.remote.gateway_id != str(remote.gateway_id):
                raise payload.MalformedPayload("id: another invoice than was asked for")
            return evidence

    def _evidence(self, answer, kind):
        invoice, included = Fields(answer.data).object("data"), _included(answer.data)
        if invoice.text("type") != "invoices":
            raise payload.MalformedPayload("type: invoices was expected")
        fields = invoice.object("attributes")
        triple = [_plain(fields.text(name, limit=64, required=True)) for name in ("status", "paymentStatus", "statusContext")]
        link = _LINK if _linked(invoice, "refundLinks", included) else ""
        word = " ".join(triple) + link
        status, final = self.classify(word)
        review = REFUND_LINK if link else NO_REFUND_LINK if triple[0] == "cancelled" and status is InvoiceStatus.FAILED else ""
        billed = fields.text("billedCurrency", limit=16).upper()
        charged = fields.text("chargedCurrency", limit=32).upper()
        network = fields.text("network", limit=64).lower()
        page = fields.text("hostedPageUrl", limit=2048)
        values = [found.object("attributes").text("value") for found in _linked(invoice, "address", included)]
        address, _, tag = "".join(values[:1]).partition("?dt=")  # of XRP it is r...?dt=TAG
        deposits = [found.object("attributes") for found in _linked(invoice, "coinDeposits", included)]
        coin = billed if billed == charged and is_coin(billed) else None
        transfers = [_transfer(found, coin, network, address) for found in deposits if _plain(found.text("state")) != "failed"]
        counted = [transfer.value for transfer in transfers if transfer.confirmed or triple[0] == "completed"]
        return Evidence(
            source=Source.POLL,
            remote=Remote(kind, invoice.id("id"), fields.text("reference")),
            word=word,
            status=status,
            final=final,
            review=review,
            on_hold=triple[0] == "onhold",
            late={"ontime": False, "late": True}.get(triple[1]),
            price_amount=fields.amount("amountBilled"),
            price_currency=billed,
            received=add(counted) if counted and None not in counted else None,  # never targetAmount, of which fees are off
            transfers=keyed(transfers),
            pay_amount=fields.amount("amountCharged"),
            pay_currency=charged,
            network=network,
            address=address,
            address_tag=tag,
            payment_url=self.client.page_url(page) if page and kind is Kind.INVOICE else "",
            expires_at=fields.time("expiresAt"),
            observed_at=answer.started_at,
            raw=answer.text,
        )

    # Find

    def find(self, reference, *, kind, amount, currency, created_at):
        """The invoice whose reference is ``reference``, or None. Raises ``GatewayUncertain`` where it bills something else."""
        return self._look_up(reference, kind, amount, currency)

    def _look_up(self, reference, kind, amount, currency, **ordered):
        ordered |= {"price_amount": price(amount, currency), "price_currency": currency}
        listed = self.list_invoices(reference=check_id(reference, field="reference"))
        with self.client.reading("find"):  # the list may hold others, whose reference has ours in it
            ids = [entry.id("id") for entry in map(Fields, listed) if entry.object("attributes").text("reference") == reference]
        if not ids:
            return None
        evidence = self.fetch(Remote(kind, ids[0], reference))
        if evidence.remote.reference != reference or ordered != {name: getattr(evidence, name) for name in ordered}:
            raise self.client.unreadable("find", "the invoice has another reference, or is not what was ordered")
        return evidence

    # Verify

    def verify(self, headers, body, *, url=""):
        """Always a ``Hint``, since no page says how callbacks are signed; ``webhook_secret`` asks for a signature as well."""
        if self.account.webhook_secret:
            verify_standard_webhook(headers, body, self.account.webhook_secret, now=self._clock())
        try:
            invoice = Fields(payload.loads(body)).object("data")
            return Hint(invoice.id("id") if invoice.text("type") == "invoices" else "")
        except (payload.MalformedPayload, InvalidRequest):
            return Hint()

    # The vendor's own calls

    def currency_pairs(self, *, timeout=None):
        """GET /invoices/currency_pairs, kept for an hour: ``{("EUR", "USDT"): network codes}`` of what is enabled."""
        pairs, until = self._pairs
        if self._clock() >= until:
            answer = self.client.call("GET", "/invoices/currency_pairs", operation="currency_pairs", timeout=timeout)
            with self.client.reading("currency_pairs"):
                pairs = _enabled_pairs(answer.data)
            self._pairs = (pairs, self._clock() + 3600)  # one assignment: threads need no lock
        return pairs

    def list_invoices(self, **filters):
        """GET /invoices: one page of JSON:API resources, as dicts (``TxnFilters``)."""
        parameters = query(TxnFilters, filters)
        for name in parameters.keys() & {"created_at_from", "created_at_to"}:
            parameters[name] = f"{datetime.fromtimestamp(parameters[name], UTC):%Y-%m-%dT%H:%M:%SZ}"
        answer = self.client.call("GET", "/invoices", operation="list_invoices", query=parameters)
        with self.client.reading("list_invoices"):
            return [entry.data for entry in Fields(answer.data).objects("data", required=True)]

    def probe(self):
        """GET /invoices, a page of one."""
        return self.client.call("GET", "/invoices", operation="probe", query={"per_page": 1}).date


def _check_account(account):
    """What the declarations of the options cannot say. Raises ``InvalidRequest`` naming the option."""
    if not account.base_url and not account.sandbox:
        raise InvalidRequest("base_url", "required: of the hosts only the sandbox's is documented")
    if account.base_url and not account.sandbox and urlsplit(check_base_url(account.base_url)).hostname in SANDBOX_HOSTS:
        raise InvalidRequest("sandbox", "True expected with a base_url of the sandbox: its coins have no value")
    for secret in account.webhook_secret or ():
        standard_webhook_key(secret, "webhook_secret")


def _plain(word):
    return word.lower().replace("_", "").replace(" ", "")


def _transfer(deposit, price_coin, network, address):
    amount, currency = deposit.amount("amount"), deposit.text("currencyCode", limit=32).upper()
    return RemoteTransfer(
        key="",
        amount=amount,
        currency=currency,
        value=amount if currency == price_coin else None,
        tx_hash=deposit.text("txHash", limit=180),
        network=network,
        address=address,
        confirmed=_plain(deposit.text("state")) == "processed",  # like "failed" it is in other people's code only
        paid_at=deposit.time("createdAt"),
    )


def _included(document):
    """The resources that came along, by type and id."""
    return {(item.text("type"), item.text("id")): item for item in Fields(document).objects("included")}


def _linked(resource, name, included):
    """The resources that a relationship names, bare where they did not come along; none for one that is null or not loaded."""
    for step in ("relationships", name):
        if step not in resource.data:
            return []
        resource = resource.object(step)
    named = [resource.object("data")] if isinstance(resource.data.get("data"), dict) else resource.objects("data")
    bare = [Fields({"attributes": {}} | item.data) for item in named]
    return [included.get((item.text("type"), item.text("id")), item) for item in bare]


def _enabled_pairs(document):
    """A full example of the answer is not documented: the ids may be in small letters, and a coin without networks has none."""
    included, pairs = _included(document), {}
    for pair in Fields(document).objects("data", required=True):
        sides = (_linked(pair, "billedCurrency", included), _linked(pair, "chargedCurrency", included))
        for billed, charged in product(*sides) if pair.object("attributes").flag("enabled") else ():
            networks = [found.object("attributes").text("code", limit=64) for found in _linked(charged, "networks", included)]
            pairs[billed.id("id").upper(), charged.id("id").upper()] = tuple(filter(None, networks))
    return pairs


def _read_status(http_status, answer):
    """Of several errors the first. Its own ``status`` is a number or absent: HTTP's holds."""
    errors = answer.get("errors")
    error = errors[0] if errors and isinstance(errors, list) and isinstance(errors[0], dict) else {}
    source = error["source"] if isinstance(error.get("source"), dict) else {}
    texts = (source.get("pointer"), error.get("title"), error.get("detail"))
    code = error["code"] if isinstance(error.get("code"), str) else ""
    return http_status, code, ": ".join(text for text in texts if text and isinstance(text, str))
