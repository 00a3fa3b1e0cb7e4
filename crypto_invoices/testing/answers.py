"""What the gateway says when it is asked: words, amounts, times, transfers; and cancelling."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from ..exceptions import GatewayUncertain
from ..providers.base import Capability, Evidence, Kind
from ..reconcile import EXPIRY_MARGIN, reconcile
from ..services import cancel_invoice, refresh_invoice
from ..statuses import SETTLED, InvoiceStatus, Source
from .stub import Reply

__all__ = ["Answers"]


class Answers:
    def test_every_documented_word_is_read(self):
        for word, status in self.words.items():
            with self.subTest(word):
                payment = self.at(self.new_payment(), word)
                evidence = self.fetch(payment)
                self.assertIsInstance(evidence, Evidence)
                self.assertEqual((evidence.word, evidence.status), (word, status))
                self.assertEqual(evidence.final, word in self.provider.final)

    def test_an_answer_names_its_payment_and_source(self):
        payment = self.new_payment()
        evidence = self.fetch(payment)
        self.assertEqual((evidence.source, evidence.remote.kind), (Source.POLL, Kind.INVOICE))
        self.assertEqual(evidence.remote.gateway_id, payment.gateway_id)
        told = self.tells(self.fetched, payment, reference="ANOTHER0000000000000000000")
        self.assertEqual(evidence.remote.reference, payment.reference if told else "")
        self.assertTrue(evidence.raw)
        self.assertIsNotNone(evidence.observed_at)

    def test_an_answer_tells_the_price_that_is_billed(self):
        payment = self.new_payment()
        evidence = self.fetch(payment)
        self.assertEqual(evidence.price_amount, payment.amount)
        self.assertIn(evidence.price_currency, (payment.currency, ""))
        if self.tells(self.fetched, payment, currency="ZAR"):
            self.assertEqual(evidence.price_currency, payment.currency)

    def test_amounts_and_times_of_an_answer_are_exact(self):
        for word in self.words:
            with self.subTest(word):
                evidence = self.fetch(self.at(self.new_payment(), word))
                self.assert_exact(evidence)
                self.assertIn(type(evidence.received), (Decimal, type(None)))

    def test_an_answer_that_tells_an_expiry_tells_it_exactly(self):
        payment = self.new_payment(expires_at=self.now + timedelta(hours=3, seconds=7))
        told = self.tells(self.fetched, payment, expires_at=self.now)
        self.assertEqual(self.fetch(payment).expires_at, payment.expires_at if told else None)

    def test_what_was_received_is_told_or_unknown_and_never_zero(self):
        payment = self.paid(self.new_payment())
        evidence = self.fetch(payment)
        self.assertEqual(evidence.received, payment.amount if self.tells_received else None)
        self.assertEqual(evidence.tolerance, self.tolerance)

    def test_transfers_have_keys_that_stay_and_differ(self):
        payment = replace(self.paid(self.new_payment()), tx_hashes=("0xaaa1", "0xbbb2"))
        first, second = self.fetch(payment), self.fetch(payment)
        self.assertEqual(first.transfers, second.transfers)
        told = [("0xaaa1", payment.received / 2), ("0xbbb2", payment.received / 2)] if self.tells_transfers else []
        self.assertEqual([(transfer.tx_hash, transfer.amount) for transfer in first.transfers], told)
        self.assertEqual(len({transfer.key for transfer in first.transfers}), len(told))

    def test_a_transfer_is_confirmed_when_the_gateway_says_so(self):
        for confirmed in (True, False):
            payment = replace(self.paid(self.new_payment()), confirmed=confirmed)
            told = self.tells(self.fetched, payment, confirmed=not confirmed)
            transfers = self.fetch(payment).transfers
            expected = [told and confirmed] * self.tells_transfers
            self.assertEqual([transfer.confirmed for transfer in transfers], expected)

    def test_an_unpaid_payment_shows_no_money(self):
        evidence = self.fetch(self.new_payment())
        self.assertFalse(evidence.money_seen)
        self.assertIsNone(evidence.paid_at)

    def test_an_unknown_word_is_no_status(self):
        answers = self.fetched(self.new_payment(word="no such word"))
        self.gateway.script(*answers)
        try:
            evidence = self.provider.fetch(self.remote(self.new_payment()))
        except GatewayUncertain:
            return
        self.assertIsNone(evidence.status)

    def test_an_unknown_word_in_a_poll_changes_nothing_and_is_reviewed(self):
        invoice, payment = self.make()
        self.gateway.script(*self.fetched(replace(self.paid(payment), word="no such word")))
        try:
            refresh_invoice(invoice)
        except GatewayUncertain:
            self.assertTrue(self.attempt(invoice).poll_error)
        else:
            self.assertTrue(self.fresh(invoice).needs_review)
        self.assert_unpaid(invoice)

    def test_an_answer_about_another_payment_changes_nothing(self):
        invoice, payment = self.make()
        other = replace(self.paid(payment), gateway_id=self.new_payment().gateway_id)
        self.assertTrue(self.tells(self.fetched, payment, gateway_id=other.gateway_id), "an answer names its payment")
        self.gateway.script(*self.fetched(other))
        with self.assertRaises(GatewayUncertain):
            refresh_invoice(invoice)
        self.assert_unpaid(invoice)

    def test_an_answer_with_another_reference_changes_nothing(self):
        invoice, payment = self.make()
        paid = self.paid(payment)
        other = {"reference": "ANOTHER0000000000000000000"}
        self.gateway.script(*self.fetched(replace(paid, **other)))
        if not self.tells(self.fetched, paid, **other):  # the gateway's id binds
            refresh_invoice(invoice)
            self.assert_paid(invoice)
            return
        try:
            refresh_invoice(invoice)
        except GatewayUncertain:
            self.assertTrue(self.attempt(invoice).poll_error)
        else:
            self.assertTrue(self.fresh(invoice).needs_review)
        self.assert_unpaid(invoice)

    def test_an_answer_over_another_amount_is_not_taken_for_the_price(self):
        self._misfit(amount=Decimal(self.order["amount"]) * 2)

    def test_an_answer_in_another_currency_is_not_taken_for_the_price(self):
        self._misfit(currency="ZAR")

    def _misfit(self, **changes):
        invoice, payment = self.make()
        paid = self.paid(payment)
        told = self.tells(self.fetched, paid, **changes)
        self.gateway.script(*self.fetched(replace(paid, **changes)))
        self.assertEqual(refresh_invoice(invoice).needs_review, told)
        if told:
            self.assert_unpaid(invoice)
        else:  # a gateway with one price currency does not name it
            self.assert_paid(invoice)

    # Without any callback

    def test_polling_alone_reaches_the_same_end(self):
        invoice, payment = self.make()
        for word in self.life:
            for _ in range(2):
                self.later(minutes=10)
                self.gateway.script(*self.fetched(self.at(payment, word)))
                self.assertEqual(reconcile().failed, 0)
        self.assert_paid(invoice, self.words[self.life[-1]])

    def test_a_poll_that_brings_nothing_new_writes_no_event(self):
        invoice, payment = self.make()
        self.gateway.script(*self.fetched(self.paid(payment)))
        version = refresh_invoice(invoice).version
        self.assertEqual(refresh_invoice(invoice).version, version)

    def test_our_clock_expires_what_the_gateway_leaves_open_where_it_may(self):
        invoice, payment = self.make()
        self.gateway.script(*self.fetched(payment))
        expires_at = refresh_invoice(invoice).expires_at or self.attempt(invoice).expires_at
        self.later(hours=1, seconds=EXPIRY_MARGIN.total_seconds() + 60)
        reconcile()
        may = self.provider.expires_locally and expires_at is not None
        self.assert_unpaid(invoice, InvoiceStatus.EXPIRED if may else InvoiceStatus.PENDING)

    # Cancelling

    def test_cancelling_tells_the_gateway_where_it_can(self):
        invoice, payment = self.make()
        can = self.provider.supports(Capability.CANCEL)
        self.fetch(payment)
        reading = [(request.method, request.path) for request in self.gateway.requests]
        self.gateway.script(*(self.cancelled(payment) if can else [Reply(b"", 500)]))
        cancelled = cancel_invoice(invoice, reason="sold out")
        calls = [(request.method, request.path) for request in self.gateway.requests]
        does = (
            "a cancel is one call, whose answer says that" if can else "without CANCEL nothing is called and nobody is told that"
        )
        self.assertEqual((cancelled.told, bool(calls)), (can, can), f"{does} the payment is cancelled")
        self.assertNotEqual(calls, reading, "to read is not to cancel")
        self.assertEqual(cancelled.invoice.status, InvoiceStatus.CANCELLED)
        self.assertEqual(self.fresh(invoice).payment_url, "")

    def test_a_cancel_that_the_gateway_does_not_take_closes_our_side_and_stays_watched(self):
        invoice, _ = self.make()
        self.gateway.script(self.refused())
        self.assertFalse(cancel_invoice(invoice, reason="sold out").told)
        self.assertEqual(len(self.gateway.requests), int(self.provider.supports(Capability.CANCEL)))
        self.assertEqual(self.fresh(invoice).status, InvoiceStatus.CANCELLED)
        self.assertIsNotNone(self.attempt(invoice).next_poll_at)

    def test_money_after_a_cancel_is_kept_and_reviewed(self):
        invoice, payment = self.make()
        self.gateway.script(self.refused())
        cancel_invoice(invoice, reason="sold out")
        self.later(minutes=5)
        self.gateway.script(*self.fetched(self.paid(payment, paid_at=self.now)))
        refreshed = refresh_invoice(invoice)
        self.assertIn(refreshed.status, SETTLED)
        self.assertEqual((refreshed.is_paid, refreshed.needs_review), (False, True))
