"""Who may say that money arrived. Where callbacks are signed, nobody without the secret; elsewhere only the gateway itself,
when it is asked: there each test here proves that a callback is worth one question and never a status."""

from unittest import mock

from django.test import override_settings
from django.utils.datastructures import CaseInsensitiveMapping

from .. import callbacks, conf
from ..exceptions import BadSignature, MalformedCallback, MisdirectedCallback
from ..models import CallbackReceipt
from ..providers.base import Evidence, Hint
from ..statuses import InvoiceStatus

__all__ = ["Authenticity"]


class Authenticity:
    def test_a_good_callback_is_taken_and_acknowledged(self):
        invoice, payment = self.make()
        response = self.send(self.paid(payment))
        ack = self.provider.acknowledge()
        self.assertEqual((response.status_code, response.content), (ack.status, ack.body))
        self.assertEqual(response.headers["Content-Type"].partition(";")[0], ack.content_type)
        self.assert_paid(invoice)

    def test_a_good_callback_yields_evidence_where_it_is_signed_and_a_hint_elsewhere(self):
        for word in self.words:
            with self.subTest(word):
                body = self.callback_body(self.at(self.new_payment(), word))
                taken = self._verify(body, self.headers(body))
                self.assertIs(type(taken), Evidence if self.signs else Hint)
                self.assert_exact(taken)
                if self.signs:
                    self.assertEqual((taken.word, taken.status), (word, self.words[word]))

    def test_a_callback_names_its_payment(self):
        payment = self.new_payment()
        body = self.callback_body(payment)
        taken = self._verify(body, self.headers(body))
        if self.signs:
            taken = taken.remote
            told = self.tells(self.callback_body, payment, reference="ANOTHER0000000000000000000")
            self.assertEqual(taken.reference, payment.reference if told else "")
            self.assertTrue(taken.gateway_id or taken.reference)
        told = self.tells(self.callback_body, payment, gateway_id=self.new_payment().gateway_id)
        self.assertEqual(taken.gateway_id, payment.gateway_id if told else "")

    def test_the_names_of_headers_are_read_in_any_case(self):
        body = self.callback_body(self.paid(self.new_payment()))
        headers = self.headers(body)
        for spell in (str.lower, str.upper, str.title):
            spelt = {spell(name): value for name, value in headers.items()}
            self.assertEqual(self._verify(body, spelt), self._verify(body, headers))

    # What is not signed, or badly

    def test_without_a_signature_nothing_is_believed(self):
        self._not_believed(lambda body: {})

    def test_an_empty_signature_is_not_believed(self):
        for value in ("", " ", "\t"):
            self._not_believed(lambda body, value=value: dict.fromkeys(self.headers(body), value))

    def test_a_signature_twice_is_not_believed(self):
        for joint in (",", ", ", " "):
            self._not_believed(lambda body, joint=joint: {name: joint.join([text, text]) for name, text in self._signed(body)})

    def test_a_bad_signature_beside_a_good_one_is_not_believed(self):
        self._not_believed(lambda body: {name: f"{'0' * len(text)},{text}" for name, text in self._signed(body)})

    def test_a_signature_of_a_foreign_secret_is_not_believed(self):
        self._not_believed(lambda body: self.headers(body, self.older_secret))

    def test_a_signature_of_another_body_is_not_believed(self):
        self._not_believed(lambda body: self.headers(body + b" "))

    def test_a_signature_in_another_header_is_not_believed(self):
        self._not_believed(lambda body: {f"X-Not-{name}": text for name, text in self._signed(body)})

    def test_a_shortened_or_lengthened_signature_is_not_believed(self):
        for cut in (lambda text: text[:-1], lambda text: text[1:], lambda text: text + "0", lambda text: f'"{text}"'):
            self._not_believed(lambda body, cut=cut: {name: cut(text) for name, text in self._signed(body)})

    def test_hostile_signatures_are_not_believed(self):
        for value in ("0", "null", "é", "\x7f", "a" * 5000, "0e123", "=", "[]"):
            self._not_believed(lambda body, value=value: dict.fromkeys(self.headers(body), value))

    def test_every_changed_byte_is_noticed(self):
        body = self.callback_body(self.paid(self.new_payment()))
        headers = self.headers(body)
        for position in range(len(body)):
            changed = body[:position] + bytes([body[position] ^ 1]) + body[position + 1 :]
            if self.signs:
                with self.assertRaises(BadSignature, msg=f"byte {position}"):
                    self._verify(changed, headers)
            else:
                self._only_a_hint(changed, headers)

    def test_a_byte_more_or_less_is_noticed(self):
        body = self.callback_body(self.paid(self.new_payment()))
        headers = self.headers(body)
        for changed in (body[:-1], body[1:], body + b"\n", b" " + body, b"", body * 2, b"\xef\xbb\xbf" + body):
            if self.signs:
                with self.assertRaises(BadSignature):
                    self._verify(changed, headers)
            else:
                self._only_a_hint(changed, headers)

    def test_a_rejected_callback_tells_no_secret(self):
        body = self.callback_body(self.paid(self.new_payment()))
        good = self.headers(body)
        with self.logs() as lines:
            try:
                self._verify(body, {name: "0" * len(text) for name, text in good.items()})
            except BadSignature as error:
                lines += [str(error), repr(error)]
        for line in lines:
            for secret in (self.secret, *good.values()):
                self.assertNotIn(secret, line)
        self.assertEqual(bool(lines), self.signs)

    # Keys

    def test_an_account_without_a_secret_takes_no_callback(self):
        invoice, payment = self.make()
        body, path = self.callback_body(self.paid(payment)), self.callback_url(payment.reference)
        broken = {"BASE_URL": "https://shop.example", "ACCOUNTS": {"default": self.account(**{self.secret_option: ""})}}
        with override_settings(CRYPTO_INVOICES=broken), self.assertNumQueries(0):
            headers = self.sign(body, "x")
            response = self.client.generic("POST", path, body, content_type=self.callback_content_type, headers=headers)
        self.assertEqual(response.status_code, 503)
        self.assert_unpaid(invoice)

    def test_the_old_secret_is_accepted_while_keys_are_rotated(self):
        invoice, payment = self.make()
        self.provider = self.configure(**{self.secret_option: [self.older_secret, self.secret]})
        self.assertEqual(self.send(self.paid(payment)).status_code, self.provider.acknowledge().status)
        self.assert_paid(invoice)

    def test_the_old_secret_is_refused_after_the_rotation(self):
        invoice, payment = self.make()
        self.provider = self.configure(**{self.secret_option: self.older_secret})
        body = self.callback_body(self.paid(payment))
        self.gateway.script(*self.fetched(payment))
        response = self.post(payment.reference, body, self.headers(body))
        self.assertEqual(response.status_code, 403 if self.signs else self.provider.acknowledge().status)
        self.assert_unpaid(invoice)

    # The URL

    def test_a_forged_token_costs_no_query_and_no_call(self):
        invoice, payment = self.make()
        self.gateway.script()
        body = self.callback_body(self.paid(payment))
        path = self.callback_url(payment.reference)
        for forged in (path[:-3] + "xx/", path.replace("/default/", "/nobody/")):
            with self.assertNumQueries(0):
                answer = self.client.generic(
                    "POST", forged, body, content_type=self.callback_content_type, headers=self.headers(body)
                )
            self.assertEqual(answer.status_code, 404)
        self.assertEqual(self.gateway.requests, [])
        self.assert_unpaid(invoice)

    def test_a_callback_at_the_url_of_another_account_changes_nothing(self):
        invoice, payment = self.make()
        self.gateway.script(*self.fetched(self.paid(payment)))
        body = self.callback_body(self.paid(payment))
        path = self.callback_url(payment.reference).replace("/default/", "/other/")
        response = self.client.generic(
            "POST", path, body, content_type=self.callback_content_type, headers=self.headers(body)
        )  # fmt: skip
        self.assertEqual((response.status_code, self.gateway.requests), (404, []))
        self.assert_unpaid(invoice)

    def test_a_stored_callback_can_be_verified_again(self):
        invoice, payment = self.make()
        self.send(self.paid(payment))
        receipt = CallbackReceipt.objects.get()
        with mock.patch.object(conf, "provider_for", lambda alias: self.provider):
            self.later(seconds=11)
            self.assertEqual(callbacks.replay(receipt).status, self.provider.acknowledge().status)
        self.assert_paid(invoice)

    # Tools

    def _verify(self, body, headers):
        return self.provider.verify(CaseInsensitiveMapping(headers), body, url="")

    def _signed(self, body):
        return self.headers(body).items()

    def _only_a_hint(self, body, headers):
        """An unsigned callback is a hint or no callback at all."""
        try:
            taken = self._verify(body, headers)
        except (MalformedCallback, MisdirectedCallback):
            return
        self.assertIs(type(taken), Hint)

    def _not_believed(self, forge):
        """ "Paid" with the headers that ``forge(body)`` makes, while the gateway's own record says that nothing was paid."""
        invoice, payment = self.make()
        body = self.callback_body(self.paid(payment))
        self.gateway.script(*self.fetched(payment))
        if self.signs:
            with self.assertNumQueries(0):
                response = self.post(payment.reference, body, forge(body))
            self.assertEqual((response.status_code, response.content), (403, b"forbidden"))
            self.assertEqual(self.gateway.requests, [])
            self.assertFalse(CallbackReceipt.objects.filter(reference=payment.reference).exists())
        else:
            response = self.post(payment.reference, body, forge(body))
            self.assertEqual(response.status_code, self.provider.acknowledge().status)
            self.assertEqual(len(self.gateway.requests), len(self.fetched(payment)))
        self.assert_unpaid(invoice, InvoiceStatus.PENDING)
