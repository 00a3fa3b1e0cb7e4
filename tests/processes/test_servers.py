"""T06 and T47 behind gunicorn (WSGI) and uvicorn (ASGI), byte by byte over sockets.

What is sent here gets as far as our code only in the way that a server and Django's handler for it make of it.
"""

import gzip
import itertools
import os

import pytest
from django.db import connections

from crypto_invoices.models import CallbackReceipt, Invoice
from crypto_invoices.services import create_invoice
from crypto_invoices.views import MAX_BODY
from tests.helpers import path_of, rows, sign
from tests.processes.conftest import using
from tests.processes.forks import Process
from tests.processes.gateway import PAID, StubGateway, callback_body
from tests.processes.servers import serving

pytestmark = [pytest.mark.processes, pytest.mark.only("sqlite")]

MIB = 1024 * 1024
GROWTH = 2 * MIB  # of the server's memory, at most
BAD = "0" * 128
LAST_CHUNK = b"0\r\n\r\n"
numbers = itertools.count(1)


@pytest.fixture(scope="module", params=["gunicorn", "uvicorn"])
def web(request, server, tmp_path_factory):
    """A server and its database, for all tests of this module."""
    name = f"crypto_invoices_{request.param}_{os.getpid()}"
    database = server.create(name)
    try:
        with serving(request.param, database, tmp_path_factory.mktemp(request.param)) as web:
            yield web
    finally:
        server.drop(name)


@pytest.fixture(scope="module")
def gateway(web):
    """Lives as long as the database, where a payment's number stands only once."""
    gateway = StubGateway()
    process = Process(gateway.serve)
    gateway.server.server_close()
    yield gateway
    process.close()


@pytest.fixture
def database(web):
    with using(web.database):
        yield connections["default"]


class Sale:
    """An invoice with an open attempt, and the callback that pays it."""

    def __init__(self, web, gateway):
        self.web = web
        self.order = f"order {next(numbers)}"
        create_invoice(amount="25", currency="USD", order_id=self.order)
        [self.payment] = gateway.payments(self.order)
        self.body = callback_body(self.payment, PAID)
        self.good = sign(self.body)
        self.before = rows()

    def head(self, *fields):
        lines = [f"POST {path_of(self.payment)} HTTP/1.1", "Host: shop.example", "Connection: close", *fields]
        return "\r\n".join([*lines, "Content-Type: application/json", "\r\n"]).encode()

    def send(self, *fields, body=None):
        """The status of the answer to a whole callback with these header fields."""
        body = self.body if body is None else body
        return self.web.exchange([self.head(*fields, f"Content-Length: {len(body)}"), body])[0]

    def send_chunks(self, *fields, body, end=LAST_CHUNK):
        return self.web.exchange([self.head(*fields, "Transfer-Encoding: chunked"), chunk(body), end])[0]

    def is_untouched(self):
        return rows() == self.before

    def is_paid(self):
        """Whether one callback was applied, and its effect is there once."""
        invoice = Invoice.objects.get(order_id=self.order)
        verdicts = list(CallbackReceipt.objects.filter(attempt__invoice=invoice).values_list("verdict", flat=True))
        return (invoice.status, invoice.is_paid, invoice.version, verdicts.count("applied")) == ("paid", True, 2, 1)


@pytest.fixture
def sale(database, package_settings, gateway, web):
    """Whatever was refused before, the server must take the good callback at last."""
    sale = Sale(web, gateway)
    yield sale
    assert sale.send(f"HMAC: {sale.good}") == 200
    assert sale.is_paid()


@pytest.fixture
def memory(web, sale):
    """The server's memory must not grow by more than ``GROWTH``, once it has refused something."""
    for _ in range(5):
        assert sale.send("HMAC: ", "Content-Encoding: gzip") == 415
        assert sale.send("HMAC: ") == 403
    before = web.peak()
    yield
    if before is not None:
        assert web.peak() - before < GROWTH


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


# T06


@pytest.mark.parametrize("name", ["HMAC", "hmac", "Hmac", "hMaC"])
def test_t06_one_signature_header_in_any_case_of_letters(name, sale):
    assert sale.send(f"{name}: {sale.good}") == 200
    assert sale.is_paid()


@pytest.mark.parametrize("names", [("HMAC", "HMAC"), ("HMAC", "hmac"), ("hmac", "Hmac")], ids=" ".join)
@pytest.mark.parametrize("values", ["bad good", "good bad", "good good", " good", "good "], ids=repr)
def test_t06_two_signature_headers(values, names, sale):
    known = {"bad": BAD, "good": sale.good, "": ""}
    fields = [f"{name}: {known[value]}" for name, value in zip(names, values.split(" "), strict=True)]
    assert sale.send(*fields) == 403
    assert sale.send(fields[0], "Accept: */*", fields[1]) == 403
    assert sale.is_untouched()


@pytest.mark.parametrize(
    "value", ["", " ", "\t", ",", "{good},{good}", "{good},", ",{good}", '"{good}"', "{good} {good}"], ids=repr
)
def test_t06_empty_and_several_values_in_one_header(value, sale):
    assert sale.send(f"HMAC:{value.format(good=sale.good)}") == 403
    assert sale.is_untouched()


@pytest.mark.parametrize("fold", ["\r\n ", "\r\n\t", " \r\n  \t"], ids=repr)
def test_t06_a_folded_header(fold, sale):
    refused = {"gunicorn": 400, "uvicorn": 403}[sale.web.name]  # h11 replaces the fold by a space, as RFC 9112, 5.2 allows
    assert sale.send(f"HMAC: {sale.good[:64]}{fold}{sale.good[64:]}") == refused
    assert sale.send(f"HMAC: {BAD}{fold}{sale.good}") == refused
    assert sale.send(f"HMAC: {sale.good}{fold}{BAD}") == refused
    assert sale.send(f"HMAC: {sale.good},{fold}{sale.good}") == refused
    assert sale.send(f"Accept: */*{fold}HMAC: {sale.good}") == refused
    assert sale.is_untouched()


def test_t06_a_value_on_a_line_of_its_own_is_one_value(sale):
    assert sale.send(f"HMAC:\r\n {BAD}") in (400, 403)
    assert sale.is_untouched()
    status = sale.send(f"HMAC:\r\n {sale.good}")
    assert status == {"gunicorn": 400, "uvicorn": 200}[sale.web.name]  # the space that replaces the fold is no part of a value
    assert sale.is_untouched() if status == 400 else sale.is_paid()


LOOK_ALIKES = (
    "HMAC_ _HMAC H_MAC HMAC- -HMAC HTTP_HMAC HTTP-HMAC HTTP_HTTP_HMAC X-HMAC X_HMAC HMAC-SHA512 HMAC_SHA512 HMACS HMA".split()
)


@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_t06_a_header_whose_name_looks_alike(name, sale):
    assert sale.send(f"{name}: {sale.good}") == 403
    assert sale.send(f"{name}: {sale.good}", "HMAC: ") == 403
    assert sale.send("HMAC: ", f"{name}: {sale.good}") == 403
    assert sale.send(f"{name}: {sale.good}", f"HMAC: {BAD}") == 403
    assert sale.is_untouched()
    assert sale.send(f"{name}: {BAD}", f"HMAC: {sale.good}", f"{name}: {BAD}") == 200


@pytest.mark.parametrize("name", ["HMAC ", "HMAC\t", " HMAC", "HM AC", "HMAC\0", "HMAC\x0b", "ＨＭＡＣ", ""], ids=ascii)
def test_t06_a_header_whose_name_is_none(name, sale):
    status = sale.send(f"{name}: {sale.good}")
    assert status == 400 or (status == 403 and name == " HMAC")  # which is a fold
    assert sale.is_untouched()


@pytest.mark.parametrize("name", ["Content_Length", "Content_Encoding", "Transfer_Encoding"])
def test_t06_underscores_make_no_header_of_the_message(name, sale):
    assert sale.send(f"HMAC: {sale.good}", f"{name}: 1000000000") == 200
    assert sale.is_paid()


def test_t06_a_signature_in_the_trailer_or_the_query(sale):
    assert sale.send_chunks(body=sale.body, end=f"0\r\nHMAC: {sale.good}\r\n\r\n".encode()) == 403
    head = sale.head(f"Content-Length: {len(sale.body)}").replace(b" HTTP/1.1", f"?HMAC={sale.good} HTTP/1.1".encode())
    assert sale.web.exchange([head, sale.body])[0] == 403
    assert sale.is_untouched()


# T47


@pytest.mark.parametrize("length", [10**9, 10**19], ids=str)
def test_t47_a_declared_length_is_refused_without_the_body(length, sale, memory):
    head = sale.head(f"HMAC: {sale.good}", f"Content-Length: {length}")
    status, _ = sale.web.exchange([head, sale.body], hang_up=True)
    # Django's ASGI handler calls no view before it has the whole body: there is no answer, and nothing to act upon.
    assert status == 413 or (sale.web.name == "uvicorn" and status is None)
    assert sale.is_untouched()


def test_t47_the_limit_to_the_byte(sale):
    largest, too_large = sale.body.ljust(MAX_BODY), sale.body.ljust(MAX_BODY + 1)
    assert sale.send(body=largest) == 403
    assert sale.send(body=too_large) == 413
    assert sale.send(f"HMAC: {sign(too_large)}", body=too_large) == 413
    assert sale.is_untouched()
    assert sale.send(f"HMAC: {sign(largest)}", body=largest) == 200, "not read to its end"
    assert sale.is_paid()


def test_t47_chunks_without_a_length(sale):
    largest, too_large = sale.body.ljust(MAX_BODY), sale.body.ljust(MAX_BODY + 1)
    # Under WSGI Django reads nothing without a length; under ASGI it reads all, and our limit holds for what it has read.
    known, unknown = {"gunicorn": (403, 403), "uvicorn": (200, 413)}[sale.web.name]
    assert sale.send_chunks(body=largest) == 403
    assert sale.send_chunks(f"HMAC: {sign(too_large)}", body=too_large) == unknown
    assert sale.is_untouched()
    assert sale.send_chunks(f"HMAC: {sign(largest)}", body=largest) == known
    assert sale.is_untouched() if known == 403 else sale.is_paid()


def test_t47_endless_chunks(sale, request):
    # Django's ASGI handler puts all into a file before any view is called; a proxy in front, or a full disk, is what ends it.
    reads_all = sale.web.name == "uvicorn"
    if not reads_all:
        request.getfixturevalue("memory")
    most = 6 * MIB if reads_all else 64 * MIB
    piece = chunk(b" " * MAX_BODY)
    for name in ("HMAC", "Accept"):
        head = sale.head(f"{name}: {sale.good}", "Transfer-Encoding: chunked")
        chunks = itertools.chain([head, chunk(sale.body)], itertools.repeat(piece, most // len(piece)))
        status, sent = sale.web.exchange(chunks, hang_up=True)
        assert (status, sent < most // 2) == ((None, False) if reads_all else (403, True))
        assert sale.is_untouched()


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "x-gzip", "gzip, identity", "identity, gzip", "deflate", "br", "zstd"])
def test_t47_a_compressed_body_is_not_inflated(coding, sale, memory):
    bomb = gzip.compress(sale.body.ljust(48 * MIB))
    assert len(bomb) < MAX_BODY
    for field in (f"HMAC: {sign(bomb)}", f"HMAC: {BAD}"):
        assert sale.send(field, f"Content-Encoding: {coding}", body=bomb) == 415
    *others, last = coding.split(", ")
    fields = [f"Content-Encoding: {each}" for each in [*(others or ["identity"]), last]]
    assert sale.send(f"HMAC: {sign(bomb)}", *fields, body=bomb) == 415
    assert sale.send(f"HMAC: {sale.good}", f"Content-Encoding: {coding}") == 415
    assert sale.is_untouched()


def test_t47_a_bomb_that_is_not_declared_is_a_wrong_body(sale, memory):
    bomb = gzip.compress(sale.body.ljust(48 * MIB))
    assert sale.send(f"HMAC: {sale.good}", body=bomb) == 403
    assert sale.send(f"HMAC: {sale.good}", "Content_Encoding: gzip", body=bomb) == 403
    assert sale.is_untouched()
