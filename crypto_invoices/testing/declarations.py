"""What a provider says of itself: capabilities, words, options, secrets, where it calls."""

import ast
import inspect
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from django.core.exceptions import ImproperlyConfigured

from .. import conf
from ..exceptions import GatewayRefused, GatewayUnavailable, InvalidRequest, NotSupported
from ..providers.base import Ack, Capability, Provider
from ..providers.options import read_options
from ..services import create_invoice
from ..statuses import SETTLED, InvoiceStatus

__all__ = ["Declarations"]

METHODS = {
    Capability.CANCEL: "cancel",
    Capability.LOOKUP_BY_REFERENCE: "find",
    Capability.STATIC_ADDRESS: "create_static_address",
    Capability.REVOKE_STATIC_ADDRESS: "revoke_static_address",
}
FORBIDDEN = (
    "django.db", "django.dispatch", "django.http", "django.core.signals", "django.views", "crypto_invoices.models",
    "crypto_invoices.signals", "crypto_invoices.ledger", "crypto_invoices.services", "crypto_invoices.delivery",
)  # fmt: skip
BAD_SECRETS = ("", " ", "changeme", "whsec_", None, [], [""])
BAD_BASE_URLS = (
    "http://gateway.example", "ftp://gateway.example", "gateway.example", "", "https://", "javascript:alert(1)",
    "http://127.0.0.1.gateway.example", "http://localhost.", "http://2130706433",
)  # fmt: skip
TRICKY_BASE_URLS = (
    "https://user:password@gateway.example", "https://gateway.example?key=1", "https://gateway.example/#x",
    "https://10.0.0.1", "https://169.254.169.254", "https://[fd00::1]", "https://127.1", "https://gateway.example\\@evil.example",
)  # fmt: skip


class Declarations:
    # Capabilities and words

    def test_a_declared_capability_has_its_method_and_no_other_has(self):
        methods = {capability for capability, method in METHODS.items() if hasattr(type(self.provider), method)}
        self.assertEqual(methods, self.provider.capabilities & set(METHODS))

    def test_capabilities_are_words_of_the_contract(self):
        self.assertIsInstance(self.provider.capabilities, frozenset)
        self.assertLessEqual(self.provider.capabilities, set(Capability))

    def test_what_is_not_declared_is_not_supported(self):
        for capability in Capability:
            with self.subTest(capability):
                if capability in self.provider.capabilities:
                    self.provider.require(capability)
                else:
                    with self.assertRaises(NotSupported) as caught:
                        self.provider.require(capability)
                    self.assertIn(self.provider.name, str(caught.exception))

    def test_every_documented_word_is_mapped(self):
        self.assertEqual({word: self.provider.statuses.get(word) for word in self.words}, self.words)

    def test_no_undocumented_word_means_money(self):
        others = {word: status for word, status in self.provider.statuses.items() if word not in self.words}
        self.assertFalse({word for word, status in others.items() if status in SETTLED})
        self.assertLessEqual(set(others.values()), set(InvoiceStatus))

    def test_final_words_are_those_that_the_gateway_calls_final(self):
        self.assertLessEqual(self.provider.final, set(self.provider.statuses))
        self.assertEqual(self.provider.final & set(self.words), self.final)

    def test_no_final_word_means_that_something_is_still_to_come(self):
        waiting = {InvoiceStatus.PENDING, InvoiceStatus.CONFIRMING}
        self.assertFalse({word for word in self.provider.final if self.provider.statuses.get(word) in waiting})

    def test_an_unknown_word_has_no_status(self):
        for word in ("", "no such word", self.life[-1] + "2"):
            self.assertEqual(self.provider.classify(word), (None, False))

    def test_a_paid_invoice_ends_settled_and_starts_pending(self):
        self.assertIn(self.words[self.life[-1]], SETTLED)
        self.assertEqual(self.words[self.life[0]], InvoiceStatus.PENDING)

    def test_signature_headers_and_signed_fields_are_named_where_callbacks_are_signed(self):
        headers = self.sign(b"{}", self.secret)
        self.assertEqual(bool(headers), self.signs)
        if self.signs:
            kept = {name.lower() for name in self.provider.signature_headers}
            self.assertLessEqual({name.lower() for name in headers}, kept)
            self.assertTrue(self.provider.signed_fields)

    def test_times_are_timedeltas(self):
        self.assertGreater(self.provider.watch, timedelta(0))
        if self.provider.default_lifetime is not None:
            self.assertGreater(self.provider.default_lifetime, timedelta(0))

    def test_a_tolerance_is_taken_where_that_is_declared(self):
        self.assertEqual(self.provider.takes_tolerance, "underpaid_tolerance" in self.arguments)

    def test_coins_are_written_in_our_notation(self):
        for coin in self.provider.pay_currencies:
            self.assertRegex(coin, r"\A[A-Z0-9]+(@[a-z0-9-]+)?\Z")

    def test_page_hosts_are_host_names(self):
        for host in self.provider.page_hosts:
            self.assertEqual(host, re.sub(r"[^a-z0-9.-]", "", host))

    def test_the_acknowledgement_is_a_success(self):
        ack = self.provider.acknowledge()
        self.assertIsInstance(ack, Ack)
        self.assertIsInstance(ack.body, bytes)
        self.assertIn(ack.status, range(200, 300))

    # The module

    def test_the_module_names_no_model_signal_or_request(self):
        tree = ast.parse(inspect.getsource(sys.modules[type(self.provider).__module__]))
        package = sys.modules[type(self.provider).__module__].__package__
        self.assertFalse([name for name in _imports(tree, package) if name.startswith(FORBIDDEN)])

    def test_the_module_needs_no_django_that_is_set_up(self):
        module = type(self.provider).__module__
        code = f"import sys; sys.path[:] = {sys.path!r}; import {module}; print(*sys.modules)"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={}, check=False)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertFalse([name for name in run.stdout.split() if name.startswith(FORBIDDEN)])

    # Options

    def test_an_account_is_built_from_a_dotted_path(self):
        self.assertIsInstance(self.provider, Provider)
        self.assertEqual(conf.provider_path(self.provider), self.provider_path)
        self.assertEqual(self.provider.alias, "default")

    def test_an_unknown_option_is_refused_by_name(self):
        with self.assertRaisesMessage(ImproperlyConfigured, "no_such_option"):
            self.configure(no_such_option=1)

    def test_a_missing_secret_is_refused_by_name(self):
        options = {name: value for name, value in self.account()["OPTIONS"].items() if name != self.secret_option}
        with self.assertRaises(InvalidRequest) as caught:
            read_options(self.provider.options, options)
        self.assertEqual(caught.exception.field, self.secret_option)

    def test_an_empty_secret_or_a_placeholder_builds_no_provider(self):
        for secret in BAD_SECRETS:
            with self.subTest(secret), self.assertRaisesMessage(ImproperlyConfigured, self.secret_option):
                self.configure(**{self.secret_option: secret})

    def test_secrets_are_hidden_in_every_representation(self):
        account = self.provider.account
        for text in (repr(account), str(account), f"{account}", repr(self.provider), repr(vars(self.provider))):
            for secret in self.secrets:
                self.assertNotIn(secret, text)

    def test_secrets_are_not_pickled(self):
        with self.assertRaises(TypeError):
            pickle.dumps(getattr(self.provider.account, self.secret_option))

    def test_the_identity_tells_accounts_apart_and_no_secret(self):
        identity = self.provider.identity
        self.assertRegex(identity, r"\A[0-9a-f]{16}\Z")
        self.assertEqual(self.configure().identity, identity)
        self.assertNotEqual(self.configure(**{self.secret_option: self.older_secret}).identity, identity)

    def test_an_unknown_parameter_of_an_invoice_is_refused_by_name(self):
        with self.assertRaises(InvalidRequest) as caught:
            create_invoice(**self.order | {"options": {"no_such_parameter": 1}})
        self.assertEqual(caught.exception.field, "options.no_such_parameter")
        self.assertEqual(self.gateway.requests, [])

    # Where it calls

    def test_the_base_url_is_https_or_a_loopback_address(self):
        for url in BAD_BASE_URLS:
            with self.subTest(url), self.assertRaisesMessage(ImproperlyConfigured, "base_url"):
                self.configure(base_url=url)

    def test_the_base_url_holds_no_password_no_query_and_no_private_address(self):
        for url in TRICKY_BASE_URLS:
            with self.subTest(url), self.assertRaisesMessage(ImproperlyConfigured, "base_url"):
                self.configure(base_url=url)

    def test_a_slash_at_the_end_of_the_base_url_makes_no_difference(self):
        paths = []
        for base_url in (self.gateway.url + self.base_path, self.gateway.url + self.base_path + "/"):
            provider = self.configure(base_url=base_url)
            self.gateway.script(*self.probed())
            provider.probe()
            paths.append([request.path for request in self.gateway.requests])
        self.assertEqual(paths[0], paths[1])
        self.assertTrue(all(path.startswith(self.base_path + "/") for path in paths[0]))

    def test_a_probe_tells_the_clock_of_the_gateway(self):
        self.assertEqual(self._probe_at("Thu, 09 Oct 2025 08:53:20 GMT"), datetime(2025, 10, 9, 8, 53, 20, tzinfo=UTC))
        self.assertEqual(len(self.gateway.requests), len(self.probed()))

    def test_a_probe_without_a_clock_is_none(self):
        self.assertIsNone(self._probe_at(None))

    def _probe_at(self, date):
        self.gateway.script(*(replace(answer, headers=answer.headers | {"Date": date}) for answer in self.probed()))
        return self.provider.probe()

    def test_a_probe_with_refused_credentials_is_a_refusal(self):
        self.gateway.script(self.refused())
        with self.assertRaises(GatewayRefused):
            self.provider.probe()

    def test_a_probe_of_a_gateway_that_is_away_is_unavailable(self):
        with self.gateway.nobody() as url, self.assertRaises(GatewayUnavailable):
            self.configure(base_url=url + self.base_path).probe()


def _imports(tree, package):
    """The full names of all that a module imports, wherever it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*parents, *filter(None, [node.module])])
            yield from (f"{module}.{name.name}" for name in node.names)
