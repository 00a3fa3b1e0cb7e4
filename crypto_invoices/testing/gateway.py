"""What a subclass of ``ProviderContract`` provides, and the tools that all parts of the suite share."""

import functools
import itertools
import logging
import unittest
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from unittest import mock
from urllib.parse import urlsplit

from django.test import override_settings
from django.utils import timezone

from .. import conf, orders
from ..models import Invoice, InvoiceEvent, PaymentAttempt
from ..providers.base import Capability, CreateRequest, Kind, Remote
from ..providers.options import Secrets, option_types
from ..services import create_invoice
from ..statuses import SETTLED, InvoiceStatus
from .payment import Payment
from .stub import Stub

__all__ = ["Gateway"]

MONEY = {*SETTLED, InvoiceStatus.CONFIRMING, InvoiceStatus.REFUNDING, InvoiceStatus.REFUNDED}


def _required(method):
    """A method that a subclass fills in; called without that, it says which is missing and what it is for."""

    @functools.wraps(method)
    def missing(self, *args):
        raise NotImplementedError(f"{type(self).__name__} needs {method.__name__}(). {method.__doc__}")

    return missing


class Gateway:
    """The attributes and methods below are what a subclass fills in; those without a value are required.

    A method that builds answers takes a ``Payment`` and returns a list of ``Reply``, one for each HTTP request that the
    provider makes for that operation, in order.
    """

    provider_path: str  # "shop.gateways.ExamplePay"
    account_options: dict  # OPTIONS of an account, without base_url; the secret under ``secret_option``
    secret_option: str  # the option with the secret that signs callbacks, or else that authenticates the calls
    older_secret: str  # another value for it, for the time of a rotation
    base_path: str = ""  # what a base URL has behind its host, such as "/v1"

    order: dict  # the arguments of create_invoice that every invoice here needs: amount, currency ...
    arguments: dict  # each neutral argument that the gateway takes: {"lifetime": (timedelta(hours=1), {"data.minutes": 60})},
    # the value for create_invoice and the fields of the request to the gateway, see Request.fields, that it must set
    unsupported: frozenset = frozenset()  # neutral arguments that raise NotSupported
    unsent: frozenset = frozenset()  # neutral arguments that are kept with the invoice only: the gateway has no field for them
    own_order: dict = {}  # where OWN_PAGE is declared: what create_invoice(page="own") needs beside ``order``
    static_order: dict = {}  # where STATIC_ADDRESS is declared: arguments of StaticAddressRequest, with pay_currency

    words: dict  # every documented status word -> InvoiceStatus
    final: frozenset  # those of ``words`` after which the gateway changes nothing any more
    life: tuple  # the words of an invoice that is paid as it should be, from its creation to its end
    page_url: str = "https://pay.gateway.example/1"  # the payment page that ``created`` tells; "" where it has none
    tells_received: bool  # whether ``fetched`` tells the received sum in the price's currency
    tells_transfers: bool  # whether it tells transfers by their tx hash
    tells_payment_time: bool  # whether it tells when the money was sent
    can_be_late: bool = True  # False: what it takes is always in time, as nothing is taken after the deadline
    tolerance: Decimal | None = None  # the accepted shortfall in percent that it tells; None: it tells none
    refusal_code: str = ""  # the gateway's words in ``refused``
    refusal_text: str = ""

    beside: dict = {}  # replies by path to calls beside the point, such as a list of coins that is asked for now and then

    @_required
    def created(self, payment):
        """The answers to a create call, of an invoice or (``payment.kind``) an address for the shop's own page."""

    @_required
    def taken(self, payment):
        """Where IDEMPOTENT_CREATE is declared: the answers to a second create call with the reference of this payment."""

    def creates(self, request):
        """Whether a ``Request`` makes something at the gateway; for those that read by POST as well, override it."""
        return request.method == "POST"

    @_required
    def refused(self):
        """The answer of a gateway that says no to any call, with ``refusal_code`` and ``refusal_text`` in it."""

    @_required
    def fetched(self, payment):
        """The answers when the gateway is asked about a payment."""

    @_required
    def found(self, payment):
        """Where LOOKUP_BY_REFERENCE is declared: the answers when the payment is looked for by our reference."""

    @_required
    def not_found(self):
        """Where LOOKUP_BY_REFERENCE is declared: the answers when nothing has that reference."""

    @_required
    def cancelled(self, payment):
        """Where CANCEL is declared: the answers to a cancel."""

    @_required
    def static_created(self, payment):
        """Where STATIC_ADDRESS is declared: the answers to the call that makes one."""

    @_required
    def revoked(self, payment):
        """Where REVOKE_STATIC_ADDRESS is declared: the answers to the call that ends one."""

    @_required
    def probed(self):
        """The answers to the cheapest call that needs the credentials."""

    @_required
    def callback_body(self, payment):
        """The bytes of a callback about a payment."""

    def sign(self, body, secret):
        """The headers that sign a callback, ``{"X-Signature": "..."}``; {} where callbacks are not signed."""
        return {}

    def new_gateway_id(self, number):
        """The gateway's id of its ``number``-th object, in its own form."""
        return str(number)

    def hasten(self, provider, *, limit=None):
        """Lets a provider's client, a ``providers.http.Client`` in ``provider.client``, not wait between its tries.

        With ``limit`` (seconds) a call of it ends after that time. A provider with a client of its own overrides this.
        """
        provider.client._sleep = lambda seconds: None
        if limit is not None:
            provider.client._times = (limit, limit, limit)

    # Tools

    callback_content_type = "application/json"

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        if unittest.TestCase in order and order.index(unittest.TestCase) < order.index(Gateway):
            name = cls.__name__
            raise TypeError(f"{name}: ProviderContract stands before TestCase: class {name}(ProviderContract, TestCase)")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.gateway = cls.enterClassContext(Stub())

    def setUp(self):
        super().setUp()
        self._numbers = itertools.count(190000001)
        self.now = timezone.now().replace(microsecond=0)
        self.enterContext(mock.patch("django.utils.timezone.now", lambda: self.now))
        self.gateway.script()
        self.gateway.beside = self.beside
        self.provider = self.configure()

    @property
    def secret(self):
        """The secret under ``secret_option``, as text."""
        return self.account_options[self.secret_option]

    @property
    def secrets(self):
        """All that must never be read anywhere: the texts under the options that are declared as ``Secrets``."""
        return [self.account_options[name] for name in self.secret_options]

    @property
    def secret_options(self):
        """The options of the account that are declared as ``Secrets``."""
        kinds = option_types(type(self.provider).options)
        return [name for name in self.account_options if kinds[name][0] is Secrets]

    @property
    def create_calls(self):
        return [request for request in self.gateway.requests if self.creates(request)]

    @property
    def signs(self):
        return self.provider.supports(Capability.SIGNED_CALLBACKS)

    def account(self, **options):
        """The settings of an account at the stub, with these options changed."""
        base_url = self.gateway.url + self.base_path
        return {"PROVIDER": self.provider_path, "OPTIONS": {**self.account_options, "base_url": base_url, **options}}

    def configure(self, **options):
        """Makes this the account "default" and returns its provider."""
        ours = {
            "BASE_URL": "https://shop.example",
            "DISPATCH": "worker",  # no receiver of the project is called
            "ACCOUNTS": {"default": self.account(**options), "other": self.account(**options)},
        }
        self.enterContext(override_settings(CRYPTO_INVOICES=ours))
        provider = conf.provider_for("default")
        self.hasten(provider)
        return provider

    def later(self, **duration):
        """Lets time pass for the package."""
        self.now += timedelta(**duration)

    def new_payment(self, **changes):
        """A payment that was just made at the gateway."""
        number = next(self._numbers)
        values = {
            "reference": f"REFERENCE{number:017d}",
            "gateway_id": self.new_gateway_id(number),
            "word": self.life[0],
            "amount": Decimal(self.order["amount"]),
            "currency": self.order["currency"],
            "expires_at": self.now + timedelta(hours=1),
            "paid_at": self.now + timedelta(minutes=5),
            "payment_url": self.page_url,
        }
        return Payment(**values | changes)

    def new_address(self, kind, **changes):
        """A payment that is an address, with a tag."""
        return self.new_payment(kind=kind, payment_url="", address="TReceiverOfTheContract", address_tag="123456", **changes)

    def at(self, payment, word, **changes):
        """The payment as it is when the gateway says ``word``, with the money that belongs to it."""
        status = self.words[word]
        part = {InvoiceStatus.UNDERPAID: payment.amount / 2, InvoiceStatus.OVERPAID: payment.amount * 2}
        received = part.get(status, payment.amount) if status in {*MONEY, *part} else Decimal(0)
        confirmed = status is not InvoiceStatus.CONFIRMING
        return self.with_money(replace(payment, word=word, confirmed=confirmed), received, **changes)

    def with_money(self, payment, received, **changes):
        """The payment with ``received``, in one transfer of its own hash."""
        tx_hashes = (f"0xaaa{payment.gateway_id}",) if received else ()
        return replace(payment, received=received, tx_hashes=tx_hashes, **changes)

    def paid(self, payment, **changes):
        return self.at(payment, self.life[-1], **changes)

    def word_for(self, *statuses):
        """The first documented word with one of these statuses, or None."""
        return next((word for word, status in self.words.items() if status in statuses), None)

    def make(self, payment=None, *, answers=None, **arguments):
        """``(invoice, payment)``, made by ``create_invoice`` at a gateway that answers with ``payment`` (or ``answers``)."""
        payment = payment or self.new_payment()
        self.gateway.script(*(self.created(payment) if answers is None else answers))
        with mock.patch("crypto_invoices.services.new_reference", lambda: payment.reference):
            return create_invoice(**self.order | arguments), payment

    def make_own(self):
        return self.make(self.new_address(Kind.ADDRESS, **self.own_price), page="own", **self.own_order)

    @property
    def own_price(self):
        """Amount and currency where those of ``own_order`` are others than those of ``order``."""
        return {name: value for name, value in self.own_order.items() if name in ("amount", "currency")}

    def request(self, payment=None, **changes):
        """A ``CreateRequest`` as the services make it, for calling the provider itself."""
        values = {
            "amount": Decimal(self.order["amount"]),
            "currency": self.order["currency"],
            "return_url": "https://shop.example/",
        }
        values |= {name: value for name, value in self.order.items() if name not in ("amount", "currency", "options")}
        values["pay_currencies"] = tuple(values.get("pay_currencies", ()))
        values["options"] = self.provider.create_options(**self.order.get("options", {}))
        reference = payment.reference if payment else "REFERENCE00000000000000000"
        return CreateRequest(reference=reference, callback_url=self.callback_url(reference), **values | changes)

    def tells(self, answers, payment, **changes):
        """Whether what ``answers`` builds (``self.created``, ``self.callback_body`` ...) would be different with the changes."""
        return answers(payment) != answers(replace(payment, **changes))

    def remote(self, payment):
        known = payment.kind is Kind.STATIC_ADDRESS
        return Remote(payment.kind, payment.gateway_id, payment.reference, payment.address if known else "")

    def fetch(self, payment, **arguments):
        """What the provider reads from the gateway's answer about the payment."""
        self.gateway.script(*self.fetched(payment))
        return self.provider.fetch(self.remote(payment), **arguments)

    def callback_url(self, reference):
        return orders.callback_url(self.provider, reference)

    def headers(self, body, secret=None):
        return self.sign(body, self.secret if secret is None else secret)

    def post(self, reference, body, headers, **more):
        """A callback as the gateway sends it, at the URL of ``reference``. Returns the response."""
        path = urlsplit(self.callback_url(reference)).path
        return self.client.generic("POST", path, body, content_type=self.callback_content_type, headers=headers, **more)

    def send(self, payment, **changes):
        """A good callback about the payment, while the gateway's own record says what ``changes`` make of it."""
        self.later(seconds=11)  # hints are worth a poll every ten seconds
        self.gateway.script(*self.fetched(replace(payment, **changes)))
        body = self.callback_body(payment)
        return self.post(payment.reference, body, self.headers(body))

    def fresh(self, invoice):
        return Invoice.objects.get(pk=invoice.pk)

    def attempt(self, invoice):
        return PaymentAttempt.objects.get(invoice=invoice)

    def facts(self, invoice):
        """What of an invoice matters to a shop, and how often it was told that it is paid."""
        invoice, attempt = self.fresh(invoice), self.attempt(invoice)
        return {
            "status": invoice.status,
            "is_paid": invoice.is_paid,
            "received": invoice.amount_received,
            "refunded": invoice.amount_refunded,
            "late": invoice.late,
            "transfers": sorted(attempt.transfers.values_list("tx_hash", "amount")),
            "told_paid": self.told(invoice, "invoice_paid"),
        }

    def told(self, invoice, signal):
        """How many events of the invoice carry the signal."""
        return sum(signal in event.signals for event in InvoiceEvent.objects.filter(invoice=invoice))

    def assert_paid(self, invoice, status=InvoiceStatus.PAID):
        facts = self.facts(invoice)
        self.assertEqual((facts["status"], facts["is_paid"], facts["told_paid"]), (status, True, 1))

    def assert_unpaid(self, invoice, *statuses):
        facts = self.facts(invoice)
        self.assertEqual((facts["is_paid"], facts["told_paid"]), (False, 0))
        self.assertIn(facts["status"], statuses or [InvoiceStatus.PENDING])

    def assert_exact(self, value, path="value"):
        """Amounts are Decimal and times aware UTC, all through a value of the contract."""
        self.assertNotIsInstance(value, float, f"{path}: never a float")
        if isinstance(value, datetime):
            self.assertEqual(value.utcoffset(), timedelta(0), f"{path}: aware UTC")
        elif is_dataclass(value):
            for field in fields(value):
                self.assert_exact(getattr(value, field.name), f"{path}.{field.name}")
        elif isinstance(value, (tuple, list)):
            for number, item in enumerate(value):
                self.assert_exact(item, f"{path}[{number}]")

    @contextmanager
    def logs(self):
        """Collects all that is logged meanwhile, at every level."""
        lines = []
        handler = logging.Handler()
        handler.emit = lambda record: lines.append(handler.format(record))
        loggers = [logging.getLogger(name) for name in (None, "crypto_invoices", "urllib3")]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.DEBUG)
        try:
            yield lines
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.removeHandler(handler)
                logger.setLevel(level)
