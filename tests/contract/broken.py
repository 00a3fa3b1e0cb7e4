"""Providers that break one promise each; beside each, the tests of the contract that have to say so."""

import hashlib
import hmac
from dataclasses import replace
from decimal import Decimal

from crypto_invoices.exceptions import GatewayRefused
from crypto_invoices.providers import payload
from crypto_invoices.providers.base import Capability, Evidence, Hint, Kind, Remote
from crypto_invoices.providers.goodpayments import GoodPayments
from crypto_invoices.providers.options import Secrets
from crypto_invoices.providers.oxapay import OxaPay
from crypto_invoices.providers.txn import Txn
from crypto_invoices.statuses import InvoiceStatus, Source


class BelievesAnybody(OxaPay):
    def verify(self, headers, body, *, url=""):
        key = self.account.merchant_api_key.current.encode()
        return super().verify({"HMAC": hmac.new(key, body, hashlib.sha512).hexdigest()}, body)

    fails = ("test_every_changed_byte_is_noticed", "test_without_a_signature_nothing_is_believed")


class ForgetsTheOldSecret(OxaPay):
    def verify(self, headers, body, *, url=""):
        newest = Secrets(self.account.merchant_api_key[:1])
        return OxaPay(replace(self.account, merchant_api_key=newest)).verify(headers, body)

    fails = ("test_the_old_secret_is_accepted_while_keys_are_rotated",)


class SendsTheOldSecret(OxaPay):
    def __init__(self, account, *, alias=""):
        super().__init__(replace(account, merchant_api_key=Secrets(reversed(account.merchant_api_key))), alias=alias)

    fails = ("test_calls_use_the_newest_secret",)


class CallsTheFirstWordFinal(OxaPay):
    final = OxaPay.final | {"waiting"}
    fails = (
        "test_final_words_are_those_that_the_gateway_calls_final",
        "test_no_final_word_means_that_something_is_still_to_come",
    )


class ForgetsThatPaidIsFinal(OxaPay):
    final = OxaPay.final - {"paid"}
    fails = ("test_final_words_are_those_that_the_gateway_calls_final",)


class ConfirmsWhatIsOnlySeen(OxaPay):
    def fetch(self, remote, *, timeout=None):
        evidence = super().fetch(remote, timeout=timeout)
        return replace(evidence, transfers=tuple(replace(transfer, confirmed=True) for transfer in evidence.transfers))

    fails = ("test_a_transfer_is_confirmed_when_the_gateway_says_so",)


class TakesSeenForPaid(OxaPay):
    statuses = OxaPay.statuses | {"paying": InvoiceStatus.PAID}
    fails = ("test_every_documented_word_is_mapped", "test_money_that_is_only_seen_is_not_paid")


class MakesUpAWord(OxaPay):
    statuses = OxaPay.statuses | {"done": InvoiceStatus.PAID}
    fails = ("test_no_undocumented_word_means_money",)


class GuessesUnknownWords(OxaPay):
    def classify(self, word):
        return self.statuses.get(word, InvoiceStatus.PAID), False

    fails = ("test_an_unknown_word_has_no_status", "test_an_unknown_word_changes_nothing_and_is_asked_about")


class DeclaresWhatItCannot(OxaPay):
    capabilities = OxaPay.capabilities | {Capability.CANCEL}
    fails = ("test_a_declared_capability_has_its_method_and_no_other_has",)


class HidesWhatItCan(OxaPay):
    capabilities = OxaPay.capabilities - {Capability.LOOKUP_BY_REFERENCE}
    fails = ("test_a_declared_capability_has_its_method_and_no_other_has",)


class CallsTwice(OxaPay):
    def create(self, request):
        try:
            return super().create(request)
        except Exception:
            return super().create(request)

    fails = ("test_creating_without_an_answer_is_uncertain", "test_creating_at_a_failing_gateway_is_uncertain")


class CallsARefusalOfWhatMayHaveWorked(OxaPay):
    def create(self, request):
        try:
            return super().create(request)
        except Exception as error:
            raise GatewayRefused(str(error)) from None

    fails = ("test_creating_over_a_cut_connection_is_uncertain", "test_creating_with_an_empty_answer_is_uncertain")


class DropsAnArgument(OxaPay):
    def create(self, request):
        return super().create(replace(request, fee_payer=None))

    fails = ("test_every_argument_that_is_taken_arrives_at_the_gateway",)


class SwallowsAnArgument(OxaPay):
    def validate(self, request):
        super().validate(replace(request, cancel_url=""))

    def create(self, request):
        return super().create(replace(request, cancel_url=""))

    fails = ("test_an_unsupported_argument_is_refused_before_anything_is_sent",)


class TellsNoPrice(OxaPay):
    def fetch(self, remote, *, timeout=None):
        return replace(super().fetch(remote, timeout=timeout), price_amount=None, price_currency="")

    fails = ("test_an_answer_tells_the_price_that_is_billed", "test_an_answer_over_another_amount_is_not_taken_for_the_price")


class TakesAnyAnswer(OxaPay):
    def fetch(self, remote, *, timeout=None):
        evidence = super().fetch(replace(remote, gateway_id="".join(filter(str.isalnum, remote.gateway_id))), timeout=timeout)
        return replace(evidence, remote=remote)

    fails = ("test_an_id_never_changes_where_a_call_goes", "test_an_answer_with_another_reference_changes_nothing")


class CountsInFloats(OxaPay):
    def fetch(self, remote, *, timeout=None):
        evidence = super().fetch(remote, timeout=timeout)
        return replace(evidence, pay_amount=None if evidence.received is None else float(evidence.received))

    fails = ("test_amounts_and_times_of_an_answer_are_exact",)


class TakesUnknownForZero(GoodPayments):
    def fetch(self, remote, *, timeout=None):
        return replace(super().fetch(remote, timeout=timeout), received=Decimal(0))

    fails = ("test_what_was_received_is_told_or_unknown_and_never_zero",)


class BelievesTheBody(GoodPayments):
    def verify(self, headers, body, *, url=""):
        told = payload.loads(body)
        word, remote = told["status"].lower(), Remote(Kind.INVOICE, str(told["id"]))
        return Evidence(source=Source.CALLBACK, remote=remote, word=word, status=self.statuses.get(word))

    fails = (
        "test_without_a_signature_nothing_is_believed",
        "test_a_good_callback_yields_evidence_where_it_is_signed_and_a_hint_elsewhere",
    )


class NamesNothing(GoodPayments):
    def verify(self, headers, body, *, url=""):
        return Hint()

    fails = ("test_a_callback_names_its_payment",)


class ForgetsToTell(GoodPayments):
    def cancel(self, remote):
        return self.fetch(remote)

    fails = ("test_cancelling_tells_the_gateway_where_it_can",)


class FindsTheFirst(Txn):
    def find(self, reference, **order):
        (first, *_) = self.list_invoices(reference=reference)
        return super().find(first["attributes"]["reference"], **order)

    fails = ("test_an_uncertain_create_is_found_by_our_reference_or_waits",)


class LosesTheTag(Txn):
    def create(self, request):
        return replace(super().create(request), address_tag="")

    fails = ("test_the_own_page_keeps_the_tag_and_the_amount_in_coin",)
