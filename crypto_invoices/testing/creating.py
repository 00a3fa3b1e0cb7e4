"""Making an invoice: what is sent, what is refused before anything is sent, what the shop gets."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from django.conf import settings as django_settings
from django.test import override_settings

from ..exceptions import CryptoInvoicesError, GatewayUncertain, InvalidRequest, NotSupported
from ..providers.base import Capability
from ..services import create_invoice
from ..statuses import AttemptState, InvoiceStatus

__all__ = ["Creating"]

NEUTRAL = frozenset(
    """amount currency order_id description email lifetime pay_currencies underpaid_tolerance fee_payer return_url
    cancel_url""".split()
)
SAMPLES = {
    "order_id": "A-1001",
    "description": "Two books",
    "email": "payer@shop.example",
    "lifetime": timedelta(hours=2),
    "pay_currencies": ["USDT@tron"],
    "underpaid_tolerance": Decimal("2"),
    "fee_payer": "payer",
    "return_url": "https://shop.example/thanks",
    "cancel_url": "https://shop.example/sorry",
}
FOREIGN_PAGES = (
    "http://gateway.example/1", "http://127.0.0.2/1", "http://localhost/1", "http://[::1]/1", "javascript:alert(1)",
    "data:text/html,x", "//evil.example/1", "https://user@evil.example/1", "https://10.0.0.1/1", "https:evil.example",
)  # fmt: skip
HOSTILE = 'A "quoted" \\ line\r\n{"amount": 1}&amount=1, emoji \N{GRINNING FACE}'


class Creating:
    def test_creating_gives_an_open_invoice_with_its_page(self):
        invoice, payment = self.make()
        attempt = self.attempt(invoice)
        self.assertEqual((invoice.status, attempt.state), (InvoiceStatus.PENDING, AttemptState.OPEN))
        self.assertEqual((attempt.gateway_id, attempt.reference), (payment.gateway_id, payment.reference))
        self.assertEqual(invoice.payment_url, self.page_url)
        self.assertFalse(invoice.needs_review)
        self.assertEqual(len(self.gateway.requests), len(self.created(payment)))

    def test_the_account_is_frozen_on_the_attempt(self):
        attempt = self.attempt(self.make()[0])
        self.assertEqual((attempt.account, attempt.provider), ("default", self.provider_path))
        self.assertEqual((attempt.identity, attempt.sandbox), (self.provider.identity, self.provider.sandbox))

    def test_an_expiry_that_the_gateway_tells_is_kept(self):
        payment = self.new_payment()
        self.gateway.script(*self.created(payment))
        made = self.provider.create(self.request(payment))
        told = self.tells(self.created, payment, expires_at=self.now)
        self.assertEqual(made.expires_at, payment.expires_at if told else None)
        self.assertEqual(self.make(payment)[0].expires_at, made.expires_at)

    def test_amounts_and_times_of_a_created_invoice_are_exact(self):
        payment = self.new_payment()
        self.gateway.script(*self.created(payment))
        made = self.provider.create(self.request(payment))
        self.assert_exact(made)
        told = self.tells(self.created, payment, amount=payment.amount + 1)
        self.assertEqual(made.price_amount, payment.amount if told else None)
        self.assertTrue(made.raw)

    # What is sent

    def test_our_reference_and_the_callback_url_are_sent(self):
        _, payment = self.make()
        values = list(self.create_calls[0].fields.values())
        self.assertIn(payment.reference, values)
        self.assertEqual(self.callback_url(payment.reference) in values, not self.provider.account_callbacks)

    def test_every_neutral_argument_is_taken_or_declared_otherwise(self):
        self.assertEqual(sorted([*self.arguments, *self.unsupported, *self.unsent]), sorted(NEUTRAL))

    def test_every_argument_that_is_taken_arrives_at_the_gateway(self):
        for name, (value, expected) in self.arguments.items():
            with self.subTest(name):
                self.assertTrue(expected)
                changes = {"amount": Decimal(value)} if name == "amount" else {name: value} if name == "currency" else {}
                self.make(self.new_payment(**changes), **{name: value})
                sent = self.create_calls[0].fields
                self.assertEqual({path: sent.get(path) for path in expected}, expected)

    def test_an_unsupported_argument_is_refused_before_anything_is_sent(self):
        for name in sorted(self.unsupported):
            with self.subTest(name), self.assertRaises(NotSupported):
                create_invoice(**self.order | {name: SAMPLES[name]})
        self.assertEqual(self.gateway.requests, [])

    def test_an_argument_that_is_only_kept_changes_nothing_that_is_sent(self):
        self.make()
        plain = self.create_calls[0].fields
        for name in sorted(self.unsent):
            with self.subTest(name):
                invoice, _ = self.make(**{name: SAMPLES[name]})
                sent = self.create_calls[0].fields
                self.assertEqual(sent.keys(), plain.keys())
                self.assertNotIn(SAMPLES[name], list(sent.values()))
                self.assertEqual(getattr(invoice, name), SAMPLES[name])

    def test_the_default_tolerance_of_the_settings_goes_only_to_gateways_that_take_one(self):
        with override_settings(CRYPTO_INVOICES=django_settings.CRYPTO_INVOICES | {"UNDERPAID_TOLERANCE": "2"}):
            self.make()
        sent = self.create_calls[0].fields
        _, expected = self.arguments.get("underpaid_tolerance", (None, {}))
        told = [Decimal(str(sent[path])) for path in expected if path in sent]
        self.assertEqual(told, [Decimal(2)] * len(expected) if self.provider.takes_tolerance else [])

    def test_the_price_is_sent_to_its_last_digit(self):
        value, expected = self.arguments["amount"]
        payment = self.new_payment(amount=Decimal(value))
        self.make(payment, amount=value)
        sent = self.create_calls[0].fields
        for path in expected:
            self.assertNotIsInstance(sent[path], float)
            self.assertEqual(Decimal(str(sent[path])), Decimal(value), f"{path}: the amount is sent with all its digits")

    def test_hostile_text_stays_text(self):
        self.make()
        plain = self.create_calls[0]
        arguments = {name: HOSTILE for name in ("order_id", "description") if name in self.arguments}
        self.make(**arguments)
        sent = self.create_calls[0]
        self.assertEqual((sent.method, sent.path), (plain.method, plain.path))
        prices = set(self.arguments["amount"][1]) | set(self.arguments["currency"][1])
        self.assertEqual({path: sent.fields[path] for path in prices}, {path: plain.fields[path] for path in prices})
        self.assertTrue(any(HOSTILE in str(value) for value in sent.fields.values()) or not arguments)

    def test_no_secret_stands_in_an_address_or_a_body(self):
        self.make()
        for request in self.gateway.requests:
            for secret in self.secrets:
                self.assertNotIn(secret, request.path + request.query)
                self.assertNotIn(secret.encode(), request.body)

    def test_calls_use_the_newest_secret(self):
        self.make()
        plain = str(self.create_calls[0].headers)
        payment = self.new_payment()
        answers = {"fetch": self.fetched(payment), "probe": self.probed()}
        if self.provider.supports(Capability.CANCEL):
            answers["cancel"] = self.cancelled(payment)
        for name in self.secret_options:
            old = self.account_options[name]
            with self.subTest(name):
                self.provider = self.configure(**{name: [self.older_secret, old]})
                self.make()
                sent = list(self.gateway.requests)
                self.assertEqual(self.older_secret in str(self.create_calls[0].headers), old in plain)
                for operation, replies in answers.items():
                    self.gateway.script(*replies)
                    getattr(self.provider, operation)(*([] if operation == "probe" else [self.remote(payment)]))
                    sent += self.gateway.requests
                for request in sent:
                    self.assertNotIn(old, f"{request.path}?{request.query} {request.headers} {request.body}")

    # What is refused before

    def test_a_price_with_more_decimals_than_its_currency_is_refused_by_name(self):
        for amount in ("0", "10.001"):
            with self.subTest(amount), self.assertRaises(InvalidRequest) as caught:
                self.provider.validate(self.request(amount=Decimal(amount), currency="USD"))
            self.assertEqual(caught.exception.field, "amount")
        self.assertEqual(self.gateway.requests, [])

    def test_a_lifetime_that_the_gateway_cannot_express_is_refused_not_rounded(self):
        for lifetime in (timedelta(microseconds=1), timedelta(hours=1, microseconds=1)):
            with self.subTest(lifetime), self.assertRaises((InvalidRequest, NotSupported)) as caught:
                create_invoice(**self.order | {"lifetime": lifetime})
            if "lifetime" in self.arguments:
                self.assertEqual(caught.exception.field, "lifetime")
        self.assertEqual(self.gateway.requests, [])

    def test_an_unknown_coin_is_refused_naming_what_is_accepted(self):
        own = self.provider.supports(Capability.OWN_PAGE) and "pay_currencies" not in self.arguments
        coin = {"pay_currencies": ["NOCOIN@nowhere"], **({"page": "own"} if own else {})}
        with self.assertRaises((InvalidRequest, NotSupported)) as caught:
            create_invoice(**self.order | coin)
        if own or "pay_currencies" in self.arguments:
            self.assertEqual(caught.exception.field, "pay_currencies")
            for accepted in self.provider.pay_currencies:
                self.assertIn(accepted, str(caught.exception))
        self.assertEqual(self.gateway.requests, [])

    def test_options_of_another_gateway_are_refused(self):
        with self.assertRaises(InvalidRequest) as caught:
            self.provider.validate(self.request(options=object()))
        self.assertEqual(caught.exception.field, "options")

    # Where the answer does not fit

    def test_an_answer_over_another_price_is_reviewed_and_no_page_is_shown(self):
        payment = self.new_payment()
        for changes in ({"amount": payment.amount * 2}, {"currency": "ZAR"}):
            with self.subTest(changes):
                invoice, _ = self.make(payment, answers=self.created(replace(payment, **changes)))
                told = self.tells(self.created, payment, **changes)
                self.assertEqual((invoice.needs_review, invoice.payment_url == ""), (told, told or not self.page_url))
                payment = self.new_payment()

    def test_an_answer_with_another_reference_binds_nothing(self):
        payment = self.new_payment()
        other = {"reference": "ANOTHER0000000000000000000"}
        answers = self.created(replace(payment, **other))
        if not self.tells(self.created, payment, **other):  # the connection alone tells whose answer it is
            self.assertEqual(self.make(payment, answers=answers)[0].payment_url, self.page_url)
        else:
            with self.assertRaises(GatewayUncertain) as caught:
                self.make(payment, answers=answers)
            self.assertEqual(caught.exception.invoice.payment_url, "")

    def test_no_payer_is_sent_to_a_foreign_page(self):
        pages = [*FOREIGN_PAGES, *(["https://evil.example/1"] if self.provider.page_hosts else [])]
        for page in pages:
            with self.subTest(page):
                payment = self.new_payment()
                told = self.tells(self.created, payment, payment_url=page)
                try:
                    invoice = self.make(payment, answers=self.created(replace(payment, payment_url=page)))[0]
                except CryptoInvoicesError as error:
                    self.assertIsInstance(error, GatewayUncertain)
                    invoice = error.invoice
                self.assertEqual(invoice.payment_url, "" if told else self.page_url)
                self.assertFalse(told and self.attempt(invoice).payment_url)
