"""Callbacks once, twice, too early, too late, in disorder, about something else."""

from dataclasses import replace
from itertools import permutations
from unittest import mock

from ..exceptions import GatewayError
from ..models import CallbackReceipt, InvoiceEvent
from ..providers.base import Kind
from ..services import record_refund, refresh_invoice
from ..statuses import SETTLED, AttemptState, InvoiceStatus

__all__ = ["Callbacks"]

DEAD = (InvoiceStatus.EXPIRED, InvoiceStatus.CANCELLED, InvoiceStatus.FAILED)


class Callbacks:
    def test_a_callback_again_and_again_is_one_payment(self):
        invoice, payment = self.make()
        first = self.send(self.paid(payment))
        facts, events = self.facts(invoice), InvoiceEvent.objects.count()
        for _ in range(3):
            again = self.send(self.paid(payment))
            self.assertEqual((again.status_code, again.content), (first.status_code, first.content))
        self.assertEqual((self.facts(invoice), InvoiceEvent.objects.count()), (facts, events))
        self.assert_paid(invoice)

    def test_every_order_of_a_life_ends_in_the_same_facts(self):
        ends = []
        for order in permutations(self.life):
            invoice, payment = self.make()
            last = self.paid(payment)
            for word in (word for word in order for _ in range(2)):
                said = self.at(payment, word)
                body = self.callback_body(said)
                self.later(seconds=11)
                self.gateway.script(*self.fetched(last))
                self.assertEqual(self.post(payment.reference, body, self.headers(body)).status_code, 200)
            self.assert_paid(invoice, self.words[self.life[-1]])
            ends.append(self.facts(invoice) | {"transfers": len(self.facts(invoice)["transfers"])})
        self.assertEqual([end for end in ends if end != ends[0]], [])

    def test_every_word_of_the_life_leads_where_the_map_says(self):
        invoice, payment = self.make()
        for word in self.life:
            self.send(self.at(payment, word))
            self.assertEqual(self.fresh(invoice).status, self.words[word])

    def test_only_settled_words_tell_that_it_is_paid(self):
        for word, status in self.words.items():
            with self.subTest(word):
                invoice, payment = self.make()
                self.send(self.at(payment, word))
                self.assertEqual(self.told(invoice, "invoice_paid"), int(status in SETTLED))
                self.assertEqual(self.fresh(invoice).is_paid, status in SETTLED)

    def test_a_dead_word_after_paid_takes_nothing_back(self):
        for word, status in self.words.items():
            if status not in (*DEAD, InvoiceStatus.PENDING, InvoiceStatus.CONFIRMING):
                continue
            with self.subTest(word):
                invoice, payment = self.make()
                self.send(self.paid(payment))
                self.send(self.at(payment, word))
                self.assert_paid(invoice)

    def test_a_poll_that_contradicts_paid_is_reviewed(self):
        invoice, payment = self.make()
        self.send(self.paid(payment))
        self.gateway.script(*self.fetched(payment))
        self.assertTrue(refresh_invoice(invoice).needs_review)
        self.assert_paid(invoice)

    def test_paid_replayed_after_a_refund_pays_nothing_again(self):
        invoice, payment = self.make()
        body = self.callback_body(self.paid(payment))
        self.send(self.paid(payment))
        record_refund(invoice, amount=invoice.amount, currency=invoice.currency, reason="returned", user=None)
        self.later(days=30)
        self.gateway.script(*self.fetched(self.paid(payment)))
        self.post(payment.reference, body, self.headers(body))
        refresh_invoice(invoice)
        self.assertEqual(self.fresh(invoice).status, InvoiceStatus.REFUNDED)
        self.assertEqual(self.told(invoice, "invoice_paid"), 1)

    def test_a_refund_at_the_gateway_is_followed_where_it_has_a_word_for_it(self):
        word = self.word_for(InvoiceStatus.REFUNDED)
        invoice, payment = self.make()
        self.send(self.paid(payment))
        if word is None:
            self.assertFalse({InvoiceStatus.REFUNDED} & set(self.provider.statuses.values()))
            return
        self.send(self.at(payment, word))
        self.assertEqual(self.fresh(invoice).status, InvoiceStatus.REFUNDED)
        self.send(self.paid(payment))
        self.assertEqual(self.fresh(invoice).status, InvoiceStatus.REFUNDED)
        self.assertEqual(self.told(invoice, "invoice_paid"), 1)

    def test_an_unknown_word_changes_nothing_and_is_asked_about(self):
        invoice, payment = self.make()
        unknown = replace(self.paid(payment), word="no such word")
        self.assertEqual(self.send(unknown).status_code, 200)
        self.assert_unpaid(invoice)
        attempt = self.attempt(invoice)
        self.assertTrue(attempt.next_poll_at <= self.now or attempt.poll_error or self.fresh(invoice).needs_review)
        self.gateway.script(*self.fetched(self.paid(payment)))
        refresh_invoice(invoice)
        self.assert_paid(invoice)

    def test_a_body_that_cannot_be_read_changes_nothing(self):
        for body in (b"", b"[]", b"{", b"null", b"<html></html>", b"\xff\xfe", b'{"a":1,"a":2}', b"[" * 100):
            with self.subTest(body):
                invoice, payment = self.make()
                self.later(seconds=11)
                self.gateway.script(*self.fetched(payment))
                response = self.post(payment.reference, body, self.headers(body))
                self.assertEqual(response.status_code, 400 if self.signs else 200)
                self.assert_unpaid(invoice)

    # Too early

    def test_a_callback_before_the_answer_of_create_is_not_lost(self):
        payment = self.new_payment()
        create = self.provider.create

        def call_back_first(request):
            made = create(request)
            self.send(self.paid(payment))
            return made

        with mock.patch.object(self.provider, "create", call_back_first):
            invoice, _ = self.make(payment)
        if self.signs:
            self.assert_paid(invoice)
        self.gateway.script(*self.fetched(self.paid(payment)))
        refresh_invoice(invoice)
        self.assert_paid(invoice)
        self.assertEqual(self.attempt(invoice).gateway_id, payment.gateway_id)
        self.assertNotEqual(self.attempt(invoice).state, AttemptState.CREATING)

    # About something else

    def test_a_callback_for_an_invoice_that_we_do_not_have_is_kept_and_not_acknowledged(self):
        payment = self.new_payment()
        self.gateway.script(*self.fetched(self.paid(payment)))
        body = self.callback_body(self.paid(payment))
        self.assertEqual(self.post(payment.reference, body, self.headers(body)).status_code, 404)
        self.assertEqual(CallbackReceipt.objects.get().verdict, CallbackReceipt.Verdict.UNMATCHED)
        self.assertEqual(self.gateway.requests, [])

    def test_a_callback_with_the_id_of_another_invoice_pays_neither(self):
        cheap, dear = self.make(), self.make()
        mixed = replace(self.paid(cheap[1]), reference=dear[1].reference)
        self._misdirected(mixed, dear, cheap)

    def test_a_callback_with_the_reference_of_another_invoice_pays_neither(self):
        cheap, dear = self.make(), self.make()
        mixed = replace(self.paid(dear[1]), reference=cheap[1].reference)
        self._misdirected(mixed, dear, cheap)

    def test_the_callback_of_another_invoice_pays_neither(self):
        cheap, dear = self.make(), self.make()
        self._misdirected(self.paid(cheap[1]), dear, cheap)

    def test_a_callback_of_another_kind_pays_nothing(self):
        invoice, payment = self.make()
        paid = self.paid(payment)
        other = {"kind": Kind.STATIC_ADDRESS}
        self.assertEqual(self.send(replace(paid, **other)).status_code, 200)
        if self.tells(self.callback_body if self.signs else self.fetched, paid, **other):
            self.assert_unpaid(invoice)
        else:  # it does not tell kinds apart: the id binds
            self.assert_paid(invoice)

    def _misdirected(self, said, dear, cheap):
        """``said`` arrives at the URL of the dear invoice, of which the gateway's own record knows no money.

        On the URL of a whole account the id that is said names the invoice, and that is asked about.
        """
        asked, other = dear[1], cheap[1]
        if self.provider.account_callbacks and said.gateway_id == other.gateway_id:
            asked, other = other, asked
        self.later(seconds=11)
        self.gateway.script(*self.fetched(asked))
        body = self.callback_body(said)
        response = self.post(dear[1].reference, body, self.headers(body))
        self.assertIn(response.status_code, (200, 404))
        self.assert_unpaid(dear[0])
        self.assert_unpaid(cheap[0])
        for request in self.gateway.requests:
            self.assertNotIn(other.gateway_id, request.path + str(request.fields))

    # How often the gateway is asked

    def test_a_signed_callback_needs_no_question_and_hints_share_one(self):
        invoice, payment = self.make()
        self.gateway.script(*self.fetched(payment))
        for word in self.life[:-1]:
            for _ in range(3):
                body = self.callback_body(self.at(payment, word))
                self.post(payment.reference, body, self.headers(body))
        self.assertEqual(len(self.gateway.requests), 0 if self.signs else len(self.fetched(payment)))
        self.assertIsNotNone(self.attempt(invoice).next_poll_at)

    def test_a_hint_whose_question_fails_is_asked_again_soon(self):
        invoice, payment = self.make()
        self.gateway.script(self.refused())
        body = self.callback_body(self.paid(payment))
        self.assertEqual(self.post(payment.reference, body, self.headers(body)).status_code, 200)
        if self.signs:
            self.assert_paid(invoice)
            return
        self.assert_unpaid(invoice)
        self.assertLessEqual(self.attempt(invoice).next_poll_at, self.now)
        with self.assertRaises(GatewayError):
            refresh_invoice(invoice)
