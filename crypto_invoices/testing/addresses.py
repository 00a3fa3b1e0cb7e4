"""Addresses in place of a hosted page: the shop's own page for one invoice, and static addresses of a customer."""

from dataclasses import replace
from decimal import Decimal
from unittest import mock

from ..addresses import create_static_address, refresh_static_address, revoke_static_address
from ..exceptions import GatewayRefused, GatewayUncertain, InvalidRequest, NotSupported
from ..models import InvoiceEvent, StaticAddress
from ..providers.base import Capability, Kind, Page, StaticAddressRequest
from ..services import create_invoice, refresh_invoice
from ..statuses import AttemptState
from .stub import Fault

__all__ = ["Addresses"]


class Addresses:
    # The shop's own page

    def test_the_own_page_gets_an_address(self):
        if self._not_supported(Capability.OWN_PAGE, self.make_own):
            return
        invoice, payment = self.make_own()
        attempt = self.attempt(invoice)
        self.assertEqual((attempt.kind, attempt.address), (Kind.ADDRESS, payment.address))
        self.assertEqual(attempt.state, AttemptState.OPEN)

    def test_the_own_page_keeps_the_tag_and_the_amount_in_coin(self):
        if self._not_supported(Capability.OWN_PAGE, self.make_own):
            return
        attempt = self.attempt(self.make_own()[0])
        other = self.new_address(Kind.ADDRESS)
        tagged = self.tells(self.created, other, address_tag="")
        self.assertEqual(attempt.address_tag, other.address_tag if tagged else "")
        self.assertGreater(attempt.pay_amount, 0)
        self.assertTrue(attempt.pay_currency)

    def test_the_own_page_takes_exactly_one_coin(self):
        if self._not_supported(Capability.OWN_PAGE, self.make_own):
            return
        coins = list(self.provider.pay_currencies)[:2]
        self.assertEqual(len(coins), 2, "a gateway with an own page names its coins in pay_currencies")
        with self.assertRaises(InvalidRequest) as caught:
            create_invoice(**self.order | {"page": "own", "pay_currencies": coins})
        self.assertEqual(caught.exception.field, "pay_currencies")
        self.assertEqual(self.gateway.requests, [])

    def test_money_to_the_own_pages_address_pays_the_invoice(self):
        if self._not_supported(Capability.OWN_PAGE, self.make_own):
            return
        invoice, payment = self.make_own()
        self.assertEqual(self.send(self.paid(payment)).status_code, 200)
        self.assert_paid(invoice)
        self.gateway.script(*self.fetched(self.paid(payment)))
        refresh_invoice(invoice)
        self.assert_paid(invoice)
        self.assertEqual(self.attempt(invoice).address, payment.address)

    def test_an_answer_about_an_address_keeps_its_kind_and_shows_no_page(self):
        if self._not_supported(Capability.OWN_PAGE, self.make_own):
            return
        evidence = self.fetch(self.new_address(Kind.ADDRESS, **self.own_price))
        self.assertEqual((evidence.remote.kind, evidence.payment_url), (Kind.ADDRESS, ""))
        self.assert_exact(evidence)

    def test_an_uncertain_address_is_found_as_an_address_where_look_ups_are_declared(self):
        if self._not_supported(Capability.OWN_PAGE, self.make_own):
            return
        payment = self.new_address(Kind.ADDRESS, **self.own_price)
        with self.assertRaises(GatewayUncertain) as caught:
            self.make(payment, answers=[Fault.CUT], page="own", **self.own_order)
        finds = self.provider.supports(Capability.LOOKUP_BY_REFERENCE)
        self.gateway.script(*(self.found(payment) if finds else []))
        attempt = self.attempt(refresh_invoice(caught.exception.invoice))
        self.assertEqual(bool(self.gateway.requests), finds)
        self.assertEqual((attempt.state, attempt.kind), (AttemptState.OPEN if finds else AttemptState.UNKNOWN, Kind.ADDRESS))
        self.assertEqual(attempt.gateway_id, payment.gateway_id if finds else "")
        told = finds and self.tells(self.fetched, payment, address="TAnother")
        self.assertEqual(attempt.address, payment.address if told else "")

    def test_amounts_and_times_of_the_own_pages_address_are_exact(self):
        if self._not_supported(Capability.OWN_PAGE, self.make_own):
            return
        payment = self.new_address(Kind.ADDRESS, **self.own_price)
        self.gateway.script(*self.created(payment))
        made = self.provider.create(self.request(payment, page=Page.OWN, **self._own_request()))
        self.assert_exact(made)
        self.assertEqual((made.kind, made.payment_url), (Kind.ADDRESS, ""))
        self.assertGreater(made.pay_amount, 0)

    def test_an_address_with_another_price_is_reviewed(self):
        if self._not_supported(Capability.OWN_PAGE, self.make_own):
            return
        for changes in ({"amount": Decimal("1234.5")}, {"currency": "ZAR"}):
            with self.subTest(changes):
                payment = self.new_address(Kind.ADDRESS, **self.own_price)
                answers = self.created(replace(payment, **changes))
                invoice, _ = self.make(payment, answers=answers, page="own", **self.own_order)
                self.assertEqual(invoice.needs_review, self.tells(self.created, payment, **changes))

    def test_an_address_with_another_reference_binds_nothing(self):
        if self._not_supported(Capability.OWN_PAGE, self.make_own):
            return
        payment = self.new_address(Kind.ADDRESS, **self.own_price)
        other = {"reference": "ANOTHER0000000000000000000"}
        answers = self.created(replace(payment, **other))
        if not self.tells(self.created, payment, **other):  # the connection alone tells whose answer it is
            self.assertEqual(self.attempt(self.make(payment, answers=answers)[0]).address, payment.address)
            return
        with self.assertRaises(GatewayUncertain) as caught:
            self.make(payment, answers=answers, page="own", **self.own_order)
        self.assertEqual(self.attempt(caught.exception.invoice).address, "")

    def _own_request(self):
        return {name: tuple(value) if name == "pay_currencies" else value for name, value in self.own_order.items()}

    # Static addresses

    def test_a_static_address_is_made_with_its_coin(self):
        if self._not_supported(Capability.STATIC_ADDRESS, self._make_static):
            return
        static_address, payment = self._make_static()
        self.assertEqual((static_address.state, static_address.gateway_id), (StaticAddress.State.OPEN, payment.gateway_id))
        self.assertEqual(static_address.address, payment.address)
        self.assertTrue(static_address.coin)
        self.assertEqual(len(self.gateway.requests), len(self.static_created(payment)))

    def test_a_static_address_keeps_its_tag(self):
        if self._not_supported(Capability.STATIC_ADDRESS, self._make_static):
            return
        static_address, payment = self._make_static()
        tagged = self.tells(self.static_created, payment, address_tag="")
        self.assertEqual(static_address.address_tag, payment.address_tag if tagged else "")

    def test_amounts_and_times_of_a_static_address_are_exact(self):
        if self._not_supported(Capability.STATIC_ADDRESS, self._make_static):
            return
        payment = self.new_address(Kind.STATIC_ADDRESS)
        self.gateway.script(*self.static_created(payment))
        order = StaticAddressRequest(
            reference=payment.reference, callback_url=self.callback_url(payment.reference), **self.static_order
        )  # fmt: skip
        self.assert_exact(self.provider.create_static_address(order))
        self.assert_exact(self.fetch(self.paid(payment)))

    def test_a_static_address_for_an_unknown_coin_is_refused_before_anything_is_sent(self):
        if self._not_supported(Capability.STATIC_ADDRESS, self._make_static):
            return
        with self.assertRaises(InvalidRequest) as caught:
            create_static_address(**self.static_order | {"pay_currency": "NOCOIN@nowhere"})
        self.assertEqual(caught.exception.field, "pay_currency")
        self.assertEqual((self.gateway.requests, StaticAddress.objects.count()), ([], 0))

    def test_a_static_address_that_may_have_been_made_is_uncertain_and_made_once(self):
        if self._not_supported(Capability.STATIC_ADDRESS, self._make_static):
            return
        with self.assertRaises(GatewayUncertain) as caught:
            self._make_static(answers=[Fault.CUT])
        self.assertEqual(caught.exception.static_address.state, StaticAddress.State.UNKNOWN)
        self.assertEqual(len(self.gateway.requests), 1)

    def test_a_static_address_that_the_gateway_refuses_is_refused(self):
        if self._not_supported(Capability.STATIC_ADDRESS, self._make_static):
            return
        with self.assertRaises(GatewayRefused) as caught:
            self._make_static(answers=[self.refused()])
        self.assertEqual(caught.exception.code, self.refusal_code)
        self.assertEqual(caught.exception.static_address.state, StaticAddress.State.REFUSED)

    def test_money_on_a_static_address_is_announced_once(self):
        if self._not_supported(Capability.STATIC_ADDRESS, self._make_static):
            return
        static_address, payment = self._make_static()
        for _ in range(3):
            self.assertEqual(self.send(self.paid(payment)).status_code, 200)
        self.assertEqual(self._deposits(static_address), [payment.amount])

    def test_further_money_on_a_static_address_is_announced_again(self):
        if self._not_supported(Capability.STATIC_ADDRESS, self._make_static):
            return
        static_address, payment = self._make_static()
        paid = self.paid(payment)
        self.send(paid)
        self.send(replace(paid, received=paid.received * 2, tx_hashes=(*paid.tx_hashes, "0xbbb2")))
        self.assertEqual(self._deposits(static_address), [payment.amount] * 2)

    def test_money_on_a_static_address_is_found_by_polling_alone(self):
        if self._not_supported(Capability.STATIC_ADDRESS, self._make_static):
            return
        static_address, payment = self._make_static()
        for received in (payment, self.paid(payment), self.paid(payment)):
            self.gateway.script(*self.fetched(received))
            refresh_static_address(static_address)
        self.assertEqual(self._deposits(static_address), [payment.amount])

    def test_a_static_address_is_revoked_where_the_gateway_can(self):
        if self._not_supported(Capability.STATIC_ADDRESS, self._make_static):
            return
        static_address, payment = self._make_static()
        self.gateway.script()
        if self._not_supported(Capability.REVOKE_STATIC_ADDRESS, lambda: revoke_static_address(static_address, reason="left")):
            return
        self.gateway.script(*self.revoked(payment))
        revoked = revoke_static_address(static_address, reason="the customer left")
        self.assertEqual(revoked.state, StaticAddress.State.REVOKED)
        self.assertEqual(len(self.gateway.requests), len(self.revoked(payment)))
        named = self.gateway.requests[-1].path + str(self.gateway.requests[-1].fields)
        self.assertTrue(payment.address in named or payment.gateway_id in named)

    def _not_supported(self, capability, call):
        """True for a gateway without this capability, once it is proved that ``call`` is refused before anything is sent."""
        if self.provider.supports(capability):
            return False
        with self.assertRaises(NotSupported):
            call()
        self.assertEqual(self.gateway.requests, [])
        return True

    def _make_static(self, answers=None):
        if not self.provider.supports(Capability.STATIC_ADDRESS):
            return create_static_address(pay_currency="USDT@tron")
        payment = self.new_address(Kind.STATIC_ADDRESS)
        self.gateway.script(*(self.static_created(payment) if answers is None else answers))
        with mock.patch("crypto_invoices.addresses.new_reference", lambda: payment.reference):
            return create_static_address(**self.static_order), payment

    def _deposits(self, static_address):
        """The amounts that ``deposit_received`` told, oldest first."""
        events = InvoiceEvent.objects.filter(static_address=static_address).order_by("pk")
        return [event.transfer.amount for event in events if "deposit_received" in event.signals]
