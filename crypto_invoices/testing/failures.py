"""Calls that go wrong: which error tells what, what is never sent twice, what is looked up, and what nobody may read."""

import traceback
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

from ..exceptions import GatewayError, GatewayRefused, GatewayUnavailable, GatewayUncertain, InvalidRequest, NotAllowed
from ..models import PaymentAttempt
from ..providers.base import Capability
from ..reconcile import reconcile
from ..services import refresh_invoice, start_attempt
from ..statuses import AttemptState, InvoiceStatus
from .stub import Fault, Reply

__all__ = ["Failures"]

HTML = Reply(b"<!doctype html><html><title>Checking your browser</title></html>", 200, {"Content-Type": "text/html"})
HUGE = Reply(b'{"data":"' + b"x" * (1024 * 1024) + b'"}')
COMPRESSED = Reply(b"\x1f\x8b\x08\x00", 200, {"Content-Encoding": "gzip"})
UNREADABLE = [b"[]", b"{}", b"null", b'"ok"', b"1", b"{", b'{"a":1,"a":2}', b'{"a":NaN}', b"\xff\xfe{}", b"{}{}", b"[" * 50]
HOSTILE_IDS = [
    "../1",
    "1/2",
    "1?x=1",
    "1#x",
    "%2e%2e",
    "1 2",
    "..",
    "1\r\nHost: evil",
    "@evil.example",
    "",
    "é",
    "1;x",
    "1" * 200,
]


class Failures:
    # Creating: what may have had its effect is uncertain

    def test_creating_without_an_answer_is_uncertain(self):
        self.hasten(self.provider, limit=0.3)
        self._fails_to_create(GatewayUncertain, Fault.STALL)

    def test_creating_over_a_cut_connection_is_uncertain(self):
        self._fails_to_create(GatewayUncertain, Fault.CUT)

    def test_creating_over_a_reset_connection_is_uncertain(self):
        self._fails_to_create(GatewayUncertain, Fault.RESET)

    def test_creating_with_half_an_answer_is_uncertain(self):
        self._fails_to_create(GatewayUncertain, Fault.HALF)

    def test_creating_at_a_failing_gateway_is_uncertain(self):
        self._fails_to_create(GatewayUncertain, *(Reply(b"", status) for status in (500, 502, 503, 504)))

    def test_creating_with_a_page_of_html_for_an_answer_is_uncertain(self):
        self._fails_to_create(GatewayUncertain, HTML)

    def test_creating_with_an_empty_answer_is_uncertain(self):
        self._fails_to_create(GatewayUncertain, Reply())

    def test_creating_with_a_huge_or_compressed_answer_is_uncertain(self):
        self._fails_to_create(GatewayUncertain, HUGE, COMPRESSED)

    def test_creating_with_an_answer_of_another_shape_is_uncertain(self):
        self._fails_to_create(GatewayUncertain, *map(Reply, UNREADABLE))

    def test_creating_follows_no_redirect(self):
        elsewhere = {"Location": self.gateway.url + "/elsewhere"}
        self._fails_to_create(GatewayUncertain, *(Reply(b"", status, elsewhere) for status in (301, 302, 307, 308)))

    # ... and what surely had none is not

    def test_creating_at_a_busy_gateway_is_unavailable(self):
        self._fails_to_create(GatewayUnavailable, Reply(b"", 429, {"Retry-After": "30"}))

    def test_creating_at_a_gateway_that_is_not_reached_is_unavailable(self):
        with self.gateway.nobody() as url:
            self.configure(base_url=url + self.base_path)
            error = self._error_of_creating(GatewayUnavailable, Reply())
        self.assertEqual(self.attempt(error.invoice).state, AttemptState.REFUSED)

    def test_creating_against_a_refusal_tells_the_gateways_reason(self):
        error = self._create_and_fail(GatewayRefused, self.refused())
        self.assertEqual(error.code, self.refusal_code)
        self.assertIn(self.refusal_text, error.text)
        self.assertEqual((error.gateway, error.account, error.operation), (self.provider.name, "default", "create"))

    # An uncertain create

    def test_an_uncertain_create_is_found_by_our_reference_or_waits(self):
        error = self._error_of_creating(GatewayUncertain, Fault.CUT)
        invoice, payment = error.invoice, self._lost(error.invoice)
        if not self.provider.supports(Capability.LOOKUP_BY_REFERENCE):
            self.gateway.script(*self.fetched(payment))
            self.assertEqual(self.attempt(refresh_invoice(invoice)).state, AttemptState.UNKNOWN)
            self.assertEqual(self.gateway.requests, [])
            return
        self.gateway.script(*self.found(payment))
        attempt = self.attempt(refresh_invoice(invoice))
        self.assertEqual((attempt.state, attempt.gateway_id), (AttemptState.OPEN, payment.gateway_id))
        self.assertEqual(len(self.gateway.requests), len(self.found(payment)))

    def test_an_uncertain_create_that_made_nothing_stays_unknown(self):
        invoice = self._error_of_creating(GatewayUncertain, Fault.CUT).invoice
        self.gateway.script(*(self.not_found() if self.provider.supports(Capability.LOOKUP_BY_REFERENCE) else []))
        attempt = self.attempt(refresh_invoice(invoice))
        self.assertEqual((attempt.state, attempt.gateway_id), (AttemptState.UNKNOWN, ""))
        self.assertEqual(bool(self.gateway.requests), self.provider.supports(Capability.LOOKUP_BY_REFERENCE))

    def test_an_uncertain_create_is_never_made_twice(self):
        invoice = self._error_of_creating(GatewayUncertain, Fault.CUT).invoice
        with self.assertRaises(NotAllowed):
            start_attempt(invoice)
        self.assertEqual(self.fresh(invoice).attempts.count(), 1)
        self.assertEqual(len(self.create_calls), 1)

    def test_a_reference_that_is_taken_is_the_same_invoice_where_creating_is_idempotent(self):
        payment = self.new_payment()
        if self.provider.supports(Capability.IDEMPOTENT_CREATE):
            invoice, _ = self.make(payment, answers=self.taken(payment))
            self.assertEqual(self.attempt(invoice).gateway_id, payment.gateway_id)
            self.assertEqual(invoice.payment_url, self.page_url)
        else:  # a refusal is a refusal: nothing is looked up
            self._create_and_fail(GatewayRefused, self.refused())
            self.assertEqual(len(self.gateway.requests), 1)

    def test_an_uncertain_create_is_bound_by_its_callback(self):
        invoice = self._error_of_creating(GatewayUncertain, Fault.CUT).invoice
        payment = self._lost(invoice)
        finds = self.provider.supports(Capability.LOOKUP_BY_REFERENCE)
        self.gateway.script(*(self.found if finds else self.fetched)(self.paid(payment)))
        body = self.callback_body(self.paid(payment))
        response = self.post(payment.reference, body, self.headers(body))
        if self.provider.account_callbacks:  # names an id that we do not know yet: the gateway is asked for our reference
            self.assertEqual(response.status_code, 404)
            self.assertEqual(reconcile().failed, 0)
        else:
            self.assertEqual(response.status_code, 200)
        self.assert_paid(invoice)
        self.assertEqual(self.attempt(invoice).gateway_id, payment.gateway_id)

    # Reading

    def test_reading_at_a_failing_gateway_is_unavailable(self):
        self._fails_to_read(GatewayUnavailable, *(Reply(b"", status) for status in (500, 502, 503, 504)))

    def test_reading_at_a_busy_gateway_is_unavailable(self):
        self._fails_to_read(GatewayUnavailable, Reply(b"", 429, {"Retry-After": "0"}))

    def test_reading_at_a_gateway_that_is_not_reached_is_unavailable(self):
        invoice, _ = self.make()
        with self.gateway.nobody() as url:
            self.configure(base_url=url + self.base_path)
            self._read_and_fail(invoice, GatewayUnavailable)

    def test_reading_against_a_refusal_is_a_refusal(self):
        error = self._read_and_fail(self.make()[0], GatewayRefused, self.refused())
        self.assertEqual((error.code, error.operation), (self.refusal_code, "fetch"))

    def test_reading_over_a_broken_connection_changes_nothing(self):
        self._fails_to_read(GatewayError, Fault.CUT, Fault.RESET, Fault.HALF)

    def test_reading_without_an_answer_ends(self):
        invoice, _ = self.make()
        self.hasten(self.provider, limit=0.3)
        self._read_and_fail(invoice, GatewayError, Fault.STALL)

    def test_reading_an_answer_of_another_shape_is_uncertain(self):
        self._fails_to_read(GatewayUncertain, *map(Reply, UNREADABLE))

    def test_reading_html_or_nothing_or_too_much_is_uncertain(self):
        self._fails_to_read(GatewayUncertain, HTML, Reply(), HUGE, COMPRESSED)

    def test_reading_within_a_time_limit_is_one_try(self):
        self.gateway.script(Reply(b"", 503))
        with self.assertRaises(GatewayUnavailable):
            self.provider.fetch(self.remote(self.new_payment()), timeout=5.0)
        self.assertEqual(len(self.gateway.requests), 1)

    def test_an_id_never_changes_where_a_call_goes(self):
        good = self.new_payment()
        for operation in ("fetch", *(["cancel"] if self.provider.supports(Capability.CANCEL) else [])):
            answers = self.fetched(good) if operation == "fetch" else self.cancelled(good)
            call = getattr(self.provider, operation)
            self.gateway.script(*answers)
            call(self.remote(good))
            paths = {request.path for request in self.gateway.requests}
            for gateway_id in HOSTILE_IDS:
                self.gateway.script(*answers)
                with self.subTest(operation, id=gateway_id), self.assertRaises((InvalidRequest, GatewayUncertain)):
                    call(self.remote(replace(good, gateway_id=gateway_id)))
                self.assertLessEqual({request.path for request in self.gateway.requests}, paths)

    # What nobody may read

    def test_no_secret_stands_in_an_error_or_a_log(self):
        invoice, _ = self.make()
        with self.logs() as lines:
            for answer in self._telling_answers():
                for call in (self._make_with, self._refresh_with, self._probe_with):
                    with self._quiet_breaker(), self.assertRaises(GatewayError) as caught:
                        call(answer, invoice)
                    lines += [str(caught.exception), repr(caught.exception), repr(vars(caught.exception))]
                    lines += traceback.format_exception(caught.exception)
        self.assertTrue(lines)
        for line in lines:
            for secret in self.secrets:
                self.assertNotIn(secret, line)

    def test_no_secret_is_stored_with_an_attempt(self):
        invoice, _ = self.make()
        for answer in self._telling_answers():
            self.gateway.script(answer)
            with self._quiet_breaker(), self.assertRaises(GatewayError):
                refresh_invoice(invoice)
            stored = repr(PaymentAttempt.objects.filter(invoice=invoice).values().get())
            for secret in self.secrets:
                self.assertNotIn(secret, stored)

    def test_a_failed_poll_is_noted_and_tried_again(self):
        invoice, payment = self.make()
        self.later(minutes=2)
        self.gateway.script(Reply(b"", 503))
        self.assertEqual(reconcile().failed, 1)
        attempt = self.attempt(invoice)
        self.assertTrue(attempt.poll_error)
        self.assertGreater(attempt.next_poll_at, self.now)
        self.now = attempt.next_poll_at + timedelta(seconds=1)
        self.gateway.script(*self.fetched(self.paid(payment)))
        self.assertEqual(reconcile().failed, 0)
        self.assertEqual(self.attempt(invoice).poll_error, "")
        self.assert_paid(invoice)

    def _make_with(self, answer, invoice):
        self.make(answers=[answer])

    def _refresh_with(self, answer, invoice):
        self.gateway.script(answer)
        refresh_invoice(invoice)

    def _probe_with(self, answer, invoice):
        self.gateway.script(replace(answer, status=max(answer.status, 401)))
        self.provider.probe()

    # Tools

    def _error_of_creating(self, kind, answer):
        with self._quiet_breaker(), self.assertRaises(kind) as caught:
            self.make(answers=[answer])
        return caught.exception

    def _fails_to_create(self, kind, *answers):
        """Each answer fails with this kind of error."""
        for answer in answers:
            with self.subTest(str(answer)[:80]):
                self._create_and_fail(kind, answer)

    def _create_and_fail(self, kind, answer):
        """One request, no more; the attempt is open for a look-up or free for another try."""
        error = self._error_of_creating(kind, answer)
        self.assertEqual(len(self.create_calls), 1)
        attempt = self.attempt(error.invoice)
        self.assertEqual(attempt.state, AttemptState.UNKNOWN if kind is GatewayUncertain else AttemptState.REFUSED)
        self.assertEqual(bool(attempt.live_key), kind is GatewayUncertain)
        self.assert_unpaid(error.invoice)
        self.assertEqual(error.invoice.payment_url, "")
        return error

    def _fails_to_read(self, kind, *answers):
        """Each answer fails with this kind of error."""
        for answer in answers:
            with self.subTest(str(answer)[:80]):
                self._read_and_fail(self.make()[0], kind, answer)

    def _read_and_fail(self, invoice, kind, *answers):
        """The answers (none: nobody is there) fail, and change nothing."""
        before = self.facts(invoice)
        self.gateway.script(*answers)
        with self._quiet_breaker(), self.assertRaises(kind) as caught:
            refresh_invoice(invoice)
        self.assertEqual(self.facts(invoice), before)
        self.assertEqual(self.fresh(invoice).status, InvoiceStatus.PENDING)
        return caught.exception

    @contextmanager
    def _quiet_breaker(self):
        """Many failures in a row are the test's doing: the account's circuit breaker starts afresh."""
        try:
            yield
        finally:
            self.provider = self.configure()

    def _lost(self, invoice):
        """The payment that the gateway has made although its answer was lost."""
        return replace(self.new_payment(), reference=self.attempt(invoice).reference)

    def _telling_answers(self):
        """Answers of a gateway that repeats the credentials in what it says."""
        secrets = " ".join(self.secrets)
        for status in (200, 400, 401, 403, 429, 500):
            yield Reply.json({"message": f"bad key {secrets}", "error": secrets, "errors": [{"detail": secrets}]}, status)
            yield Reply(f"<html>{secrets}</html>".encode(), status)
        refused = self.refused()
        yield replace(refused, body=refused.body.replace(self.refusal_text.encode(), f"key {secrets} is bad".encode()))
