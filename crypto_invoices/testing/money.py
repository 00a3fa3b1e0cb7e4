"""How much, in which currency, and when."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from ..services import refresh_invoice
from ..statuses import InvoiceStatus

__all__ = ["Money"]


class Money:
    def test_the_full_price_is_paid(self):
        invoice, payment = self.make()
        self.send(self.paid(payment))
        self.assert_paid(invoice)
        facts = self.facts(invoice)
        self.assertEqual(facts["received"], payment.amount if self.tells_received else None)
        told = self.paid(payment).parts if self.tells_transfers else []
        self.assertEqual(facts["transfers"], told)
        self.assertFalse(self.fresh(invoice).needs_review)

    def test_money_that_is_only_seen_is_not_paid(self):
        word = self.word_for(InvoiceStatus.CONFIRMING)
        invoice, payment = self.make()
        if word is None:
            self.send(payment)
            self.assert_unpaid(invoice)
            self.assertNotIn(InvoiceStatus.CONFIRMING, self.words.values())
            return
        self.send(self.at(payment, word))
        self.assert_unpaid(invoice, InvoiceStatus.CONFIRMING)

    def test_less_than_the_price_is_underpaid_where_the_gateway_has_a_word_for_it(self):
        word = self.word_for(InvoiceStatus.UNDERPAID)
        invoice, payment = self.make()
        if word is None:
            self.assertNotIn(InvoiceStatus.UNDERPAID, self.provider.statuses.values())
            return
        self.send(self.at(payment, word))
        self.assert_unpaid(invoice, InvoiceStatus.UNDERPAID)

    def test_a_paid_word_with_half_the_price_is_not_paid_where_the_sum_is_told(self):
        invoice, payment = self.make()
        self.send(self.with_money(self.paid(payment), payment.amount / 2))
        if self.tells_received and self.tolerance is not None:
            self.assert_unpaid(invoice, InvoiceStatus.UNDERPAID)
            self.assertTrue(self.fresh(invoice).needs_review)
        else:  # nothing comparable, or nobody says what shortfall is accepted: the gateway's final word stands
            self.assert_paid(invoice)
            self.assertEqual(self.facts(invoice)["received"], payment.amount / 2 if self.tells_received else None)

    def test_the_tolerance_of_the_gateway_decides_what_is_enough(self):
        if not self.tells_received or self.tolerance is None:
            evidence = self.fetch(self.paid(self.new_payment()))
            self.assertTrue(evidence.received is None or evidence.tolerance is None)
            return
        for missing, enough in ((Decimal(0), True), (Decimal("0.01"), False)):
            with self.subTest(missing):
                invoice, payment = self.make()
                least = payment.amount * (100 - self.tolerance) / 100
                self.send(self.with_money(self.paid(payment), least - missing))
                self.assertEqual(self.fresh(invoice).is_paid, enough)

    def test_more_than_the_price_is_overpaid_and_told_once(self):
        word = self.word_for(InvoiceStatus.OVERPAID)
        invoice, payment = self.make()
        told = self.with_money(self.at(payment, word) if word else self.paid(payment), payment.amount + 1)
        self.send(told)
        overpaid = word is not None or self.tells_received
        self.assert_paid(invoice, InvoiceStatus.OVERPAID if overpaid else InvoiceStatus.PAID)
        self.assertEqual(self.facts(invoice)["received"], payment.amount + 1 if self.tells_received else None)
        self.assertEqual(self.told(invoice, "invoice_overpaid"), int(overpaid))

    def test_a_further_transfer_after_paid_is_overpaid_where_it_is_told(self):
        invoice, payment = self.make()
        paid = self.paid(payment)
        self.send(paid)
        word = self.word_for(InvoiceStatus.OVERPAID)
        more = replace(paid, word=word or paid.word, received=payment.amount * 2, tx_hashes=(*paid.tx_hashes, "0xbbb2"))
        self.send(more)
        self.assert_paid(invoice, InvoiceStatus.OVERPAID if word or self.tells_received else InvoiceStatus.PAID)
        self.assertEqual(len(self.facts(invoice)["transfers"]), 2 if self.tells_transfers else 0)

    def test_every_digit_of_an_amount_survives(self):
        amount = Decimal("12345678.12345678") if self.tells_received else Decimal(self.order["amount"])
        payment = self.new_payment(amount=amount)
        evidence = self.fetch(self.paid(payment))
        digits = "amounts are written with all their digits in ``fetched`` and read from the source text as Decimal"
        self.assertEqual(evidence.price_amount, amount, digits)
        self.assertEqual(evidence.received, amount if self.tells_received else None, digits)

    # The price

    def test_a_callback_over_another_amount_is_checked_at_the_gateway(self):
        self._checked(amount=Decimal(self.order["amount"]) * 2)

    def test_a_callback_in_another_currency_is_checked_at_the_gateway(self):
        self._checked(currency="ZAR")

    def test_another_amount_that_the_gateway_confirms_pays_nothing_and_is_reviewed(self):
        self._confirmed_misfit(amount=Decimal(self.order["amount"]) * 2)

    def test_another_currency_that_the_gateway_confirms_pays_nothing_and_is_reviewed(self):
        self._confirmed_misfit(currency="ZAR")

    def _checked(self, **changes):
        """The callback says another price; the gateway, when it is asked, says that nothing was paid."""
        invoice, payment = self.make()
        paid = self.paid(payment)
        as_it_is = {name: getattr(payment, name) for name in ("amount", "currency", "word", "received", "tx_hashes")}
        self.assertEqual(self.send(replace(paid, **changes), **as_it_is).status_code, 200)
        if self.signs and not self.tells(self.callback_body, paid, **changes):  # id and signature bind it
            self.assert_paid(invoice)
        else:
            self.assertEqual(len(self.gateway.requests), len(self.fetched(payment)))
            self.assert_unpaid(invoice)

    def _confirmed_misfit(self, **changes):
        invoice, payment = self.make()
        paid = self.paid(payment)
        self.assertEqual(self.send(replace(paid, **changes)).status_code, 200)
        told = self.tells(self.callback_body if self.signs else self.fetched, paid, **changes)
        self.assertEqual(self.fresh(invoice).needs_review, told)
        if told:
            self.assert_unpaid(invoice)
        else:
            self.assert_paid(invoice)

    # The time

    def test_money_after_the_deadline_is_late_kept_and_reviewed(self):
        invoice, payment = self._with_deadline()
        self.later(hours=3)
        self.send(self.paid(payment, paid_at=payment.expires_at + timedelta(minutes=30)))
        facts = self.facts(invoice)
        late = self.can_be_late and self.attempt(invoice).expires_at is not None
        self.assertEqual((facts["status"], facts["late"]), (InvoiceStatus.PAID, late))
        self.assertEqual((facts["is_paid"], self.fresh(invoice).needs_review), (not late, late))
        self.assertEqual(self.told(invoice, "invoice_paid_late"), int(late))

    def test_money_in_time_that_is_told_late_is_in_time_where_the_gateway_tells_its_time(self):
        invoice, payment = self._with_deadline()
        self.later(hours=3)
        self.send(self.paid(payment, paid_at=payment.expires_at - timedelta(minutes=1)))
        late = self.can_be_late and self.attempt(invoice).expires_at is not None and not self.tells_payment_time
        self.assertEqual((self.facts(invoice)["late"], self.facts(invoice)["is_paid"]), (late, not late))

    def test_money_after_the_gateway_said_expired_is_late_and_not_lost(self):
        word = self.word_for(InvoiceStatus.EXPIRED, InvoiceStatus.CANCELLED)
        invoice, payment = self._with_deadline()
        self.later(hours=2)
        if word is not None:
            self.send(self.at(payment, word))
            self.assert_unpaid(invoice, self.words[word])
        self.send(self.paid(payment, paid_at=payment.expires_at + timedelta(minutes=90)))
        self.assertEqual(self.facts(invoice)["status"], InvoiceStatus.PAID)
        late = self.can_be_late and self.attempt(invoice).expires_at is not None
        self.assertEqual(self.facts(invoice)["is_paid"], not late)

    def _with_deadline(self):
        """An invoice whose deadline, where the gateway tells one at all, was read."""
        invoice, payment = self.make()
        self.gateway.script(*self.fetched(payment))
        refresh_invoice(invoice)
        return invoice, payment
