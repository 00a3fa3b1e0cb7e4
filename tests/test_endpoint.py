"""The callback's address against abuse and unsuitable middleware (cases T47 to T51)."""

import gzip
import io
import logging
import zlib

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.test import Client, RequestFactory
from django.urls import include, path, reverse

from crypto_invoices import views
from crypto_invoices.models import CallbackReceipt, Invoice
from tests.helpers import (
    OURS,
    body_of,
    fact,
    facts,
    make,
    path_of,
    post,
    recorded,
    rows,
    send,
    sign,
    stub_gateway,
    tx,
    verdicts,
)

LIMIT = 64 * 1024


@pytest.fixture
def gateway(settings, db):
    return stub_gateway(settings)


def padded(payment, length):
    body = body_of(payment, "Paid", [tx("25")], note="")
    return body_of(payment, "Paid", [tx("25")], note="x" * (length - len(body)))


# T47: size and compression


@pytest.mark.parametrize("length,status", [(LIMIT - 1, 200), (LIMIT, 200), (LIMIT + 1, 413)])
def test_t47_around_the_limit(gateway, length, status):
    invoice, payment = make(gateway)
    body = padded(payment, length)
    assert len(body) == length
    before = rows()
    assert post(path_of(payment), body, sign(body)).status_code == status
    if status == 200:
        assert facts(invoice)["is_paid"] is True
    else:
        assert rows() == before


class Unread(io.RawIOBase):
    """A body of which nothing may be read, or not more than ``limit`` bytes."""

    def __init__(self, limit=0, data=b"x"):
        self.limit, self.data, self.count = limit, data, 0

    def readable(self):
        return True

    def read(self, size=-1):
        assert size >= 0, "the whole body was asked for"
        self.count += size
        assert self.count <= self.limit, "too much was read"
        return (self.data * size)[:size]


@pytest.mark.parametrize("declared", [str(LIMIT + 1), "1073741824", "9" * 19])
def test_t47_a_declared_length_is_enough_to_refuse(gateway, declared, django_assert_num_queries):
    _, payment = make(gateway)
    environ = {"CONTENT_LENGTH": declared, "wsgi.input": Unread()}
    with django_assert_num_queries(0):
        answer = post(path_of(payment), b"", "0" * 128, **environ)
    assert (answer.status_code, b"secret" in answer.content) == (413, False)


@pytest.mark.parametrize("declared", ["", "abc", "-1", "1e9", "１２", "0", " ", "0x10", "9" * 5000])
def test_t47_odd_lengths(gateway, declared, django_assert_num_queries):
    _, payment = make(gateway)
    before = rows()
    with django_assert_num_queries(0):
        answer = post(path_of(payment), b"{}", sign(b"{}"), CONTENT_LENGTH=declared, **{"wsgi.input": Unread(LIMIT + 1)})
    assert answer.status_code in (400, 403, 413)
    assert rows() == before


def test_t47_an_endless_body_is_read_up_to_the_limit(gateway, django_assert_num_queries):
    """A body without a length, as after a server that decodes chunks itself."""
    _, payment = make(gateway)
    endless = Unread(LIMIT + 1)
    request = RequestFactory().generic("POST", path_of(payment), b"", content_type="application/json")
    request.META.pop("CONTENT_LENGTH", None)
    request._stream, request.META["HTTP_HMAC"] = endless, "0" * 128
    start, _, token = path_of(payment).rstrip("/").rpartition("/")
    with django_assert_num_queries(0):
        answer = views.callback(request, account=start.rpartition("/")[2], token=token)
    assert answer.status_code == 413
    assert endless.count == LIMIT + 1


def test_t47_a_body_that_breaks_off(gateway):
    class Broken(Unread):
        def read(self, size=-1):
            raise OSError("connection reset")

    _, payment = make(gateway)
    before = rows()
    answer = post(path_of(payment), b"x" * 100, "0" * 128, CONTENT_LENGTH="100", **{"wsgi.input": Broken()})
    assert answer.status_code == 400
    assert rows() == before


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP", "gzip, identity", "identity, gzip", "x"])
def test_t47_compressed_bodies_are_never_inflated(gateway, encoding, django_assert_num_queries):
    _, payment = make(gateway)
    body = body_of(payment, "Paid", [tx("25")])
    squeezed = zlib.compress(body) if encoding == "deflate" else gzip.compress(body)
    before = rows()
    for data, signature in ((squeezed, sign(body)), (squeezed, sign(squeezed)), (body, sign(body))):
        with django_assert_num_queries(0):
            answer = post(path_of(payment), data, signature, HTTP_CONTENT_ENCODING=encoding)
        assert answer.status_code == 415
    assert rows() == before


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
def test_t47_identity_is_no_compression(gateway, encoding):
    invoice, payment = make(gateway)
    body = body_of(payment, "Paid", [tx("25")])
    assert post(path_of(payment), body, sign(body), HTTP_CONTENT_ENCODING=encoding).status_code == 200
    assert facts(invoice)["is_paid"] is True


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
    ],
)
def test_t47_the_content_type_does_not_matter(gateway, kind):
    """The signature covers the bytes, not the type; nothing reads a form from them."""
    invoice, payment = make(gateway)
    body = body_of(payment, "Paid", [tx("25")])
    answer = Client().generic("POST", path_of(payment), body, content_type=kind, HTTP_HMAC=sign(body))
    assert answer.status_code == 200
    assert facts(invoice)["is_paid"] is True


# T48: JSON bombs

BOMBS = {
    "depth": b'{"a":' + b"[" * 32_000 + b"]" * 32_000 + b"}",
    "open depth": b"[" * 65_000,
    "objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "digits": b'{"amount":' + b"9" * 60_000 + b"}",
    "fraction": b'{"amount":0.' + b"1" * 60_000 + b"}",
    "exponent": b'{"amount":1e' + b"9" * 60_000 + b"}",
    "keys": b"{" + b",".join(b'"%d":1' % number for number in range(6_000)) + b"}",
    "one key": b"{" + b",".join([b'"a":1'] * 9_000) + b"}",
    "list": b'{"txs":[' + b",".join([b"{}"] * 20_000) + b"]}",
    "escapes": b'{"a":"' + b"\\u0000" * 10_000 + b'"}',
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_t48_bombs(gateway, bomb):
    invoice, payment = make(gateway)
    body = BOMBS[bomb]
    assert len(body) <= LIMIT
    assert post(path_of(payment), body, sign(body)).status_code == 400
    assert facts(invoice) == fact("pending")
    assert verdicts() == ["malformed"]


# T49 and T50: without a signature nothing grows


class Lines(logging.Handler):
    def __init__(self):
        super().__init__(logging.NOTSET)
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


@pytest.fixture
def all_logs():
    """Whatever any logger of any name says at INFO or above, also those that do not propagate."""
    handler = Lines()
    names = [name for name, logger in logging.root.manager.loggerDict.items() if isinstance(logger, logging.Logger)]
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in names if not logging.getLogger(name).propagate)]
    level = logging.getLogger().level
    for logger in loggers:
        logger.addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)
    yield handler.texts
    logging.getLogger().setLevel(level)
    for logger in loggers:
        logger.removeHandler(handler)


FORGED = {
    "signature": lambda where, body: post(where, body, "0" * 128),
    "no signature": lambda where, body: post(where, body),
    "token": lambda where, body: post(where.rstrip("/") + "x", body, sign(body)),
    "account": lambda where, body: post(where.replace("/default/", "/nobody/"), body, sign(body)),
    "too large": lambda where, body: post(where, b"", "0" * 128, CONTENT_LENGTH="1000000"),
    "compressed": lambda where, body: post(where, body, sign(body), HTTP_CONTENT_ENCODING="gzip"),
    "method": lambda where, body: Client().get(where),
}


@pytest.mark.parametrize("kind", FORGED)
def test_t49_t50_many_forged_callbacks(gateway, all_logs, django_assert_num_queries, kind):
    _, payment = make(gateway)
    body, where = body_of(payment, "Paid", [tx("25")]), path_of(payment)
    before = rows()
    all_logs.clear()
    with recorded() as calls, django_assert_num_queries(0):
        answers = {FORGED[kind](where, body).status_code for _ in range(300)}
    assert answers == {{"token": 404, "account": 404, "too large": 413, "compressed": 415, "method": 405}.get(kind, 403)}
    assert rows() == before
    assert calls == []
    assert len(all_logs) <= 60
    text = "\n".join(all_logs)
    assert [part for part in ("track_id", sign(body), payment["order_id"]) if part in text] == []


@pytest.mark.django_db(transaction=True)  # the handler closes connections
def test_t49_ten_thousand_forged_callbacks(gateway, all_logs, django_assert_num_queries):
    _, payment = make(gateway)
    body = body_of(payment, "Paid", [tx("25")])
    environ = RequestFactory().generic("POST", path_of(payment), b"", HTTP_HMAC="0" * 128).environ
    environ["CONTENT_LENGTH"] = str(len(body))
    before, handler, answers = rows(), WSGIHandler(), set()
    all_logs.clear()
    with django_assert_num_queries(0):
        for _ in range(10_000):
            answer = handler({**environ, "wsgi.input": io.BytesIO(body)}, lambda status, headers: answers.add(status))
            answer.close()
    assert answers == {"403 Forbidden"}
    assert rows() == before
    assert len(all_logs) <= 60


def test_t49_a_signed_callback_is_still_logged_after_many_forged_ones(gateway, caplog):
    _, payment = make(gateway)
    for _ in range(50):
        post(path_of(payment), b"{}", "0" * 128)
    caplog.clear()
    with caplog.at_level("INFO", "crypto_invoices.callback"):
        send(payment, "Paid", [tx("25")])
    assert [record.levelname for record in caplog.records] == ["INFO"]


# T51: routing and middleware


urlpatterns = [path("pay/with/", include("crypto_invoices.urls"))]  # another prefix


@pytest.mark.parametrize("slash", [True, False], ids=["as given", "other slash"])
@pytest.mark.parametrize("append", [True, False], ids=["APPEND_SLASH", "no APPEND_SLASH"])
def test_t51_with_and_without_the_slash(gateway, settings, slash, append):
    settings.APPEND_SLASH = append
    invoice, payment = make(gateway)
    where = path_of(payment)
    if not slash:
        where = where.rstrip("/") if where.endswith("/") else where + "/"
    body = body_of(payment, "Paid", [tx("25")])
    assert post(where, body, sign(body)).status_code == 200
    assert facts(invoice)["is_paid"] is True


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get"])
def test_t51_other_methods(gateway, method, django_assert_num_queries):
    _, payment = make(gateway)
    body = body_of(payment, "Paid", [tx("25")])
    before = rows()
    with django_assert_num_queries(0):
        answer = Client().generic(method, path_of(payment), body, content_type="application/json", HTTP_HMAC=sign(body))
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert rows() == before


def test_t51_a_method_override_is_no_post(gateway):
    _, payment = make(gateway)
    answer = Client().get(path_of(payment), HTTP_X_HTTP_METHOD_OVERRIDE="POST")
    assert answer.status_code == 405


def test_t51_csrf_is_enforced_elsewhere(gateway):
    invoice, payment = make(gateway)
    client = Client(enforce_csrf_checks=True)
    assert client.post(reverse("admin:login"), {}).status_code == 403
    assert send(payment, "Paid", [tx("25")], client=client).status_code == 200
    assert facts(invoice)["is_paid"] is True


def test_t51_login_required_everywhere(gateway, settings):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    settings.LOGIN_URL = "/admin/login/"
    invoice, payment = make(gateway)
    client = Client()
    assert client.get(reverse("shop:products")).status_code == 302
    assert client.get(invoice.get_absolute_url()).status_code == 302
    assert client.get(invoice.get_absolute_url()).url == invoice.payment_url
    assert client.get(reverse("crypto_invoices:status", args=[invoice.uuid])).status_code == 200
    assert client.get(reverse("crypto_invoices:health")).status_code == 200
    assert send(payment, "Paid", [tx("25")], client=client).status_code == 200
    assert facts(invoice)["is_paid"] is True


@pytest.mark.parametrize("language", ["de", "ar", "zh-hans", "xx", ""])
def test_t51_the_senders_language(gateway, settings, language):
    assert "django.middleware.locale.LocaleMiddleware" in settings.MIDDLEWARE
    invoice, payment = make(gateway)
    client = Client(HTTP_ACCEPT_LANGUAGE=language)
    answer = send(payment, "Paid", [tx("25")], client=client)
    assert (answer.status_code, answer.content) == (200, b"ok")
    assert facts(invoice)["is_paid"] is True


def test_t51_another_prefix(gateway, settings):
    settings.ROOT_URLCONF = "tests.test_endpoint"
    invoice, payment = make(gateway)
    assert path_of(payment).startswith("/pay/with/callbacks/default/")
    assert send(payment, "Paid", [tx("25")]).status_code == 200
    assert facts(invoice)["is_paid"] is True


def test_t51_an_unknown_host(gateway):
    """Django refuses it before the callback is looked at; the sender's next try under the right name is applied."""
    invoice, payment = make(gateway)
    body = body_of(payment, "Paid", [tx("25")])
    before = rows()
    assert post(path_of(payment), body, sign(body), HTTP_HOST="evil.example").status_code == 400
    assert rows() == before
    assert post(path_of(payment), body, sign(body), HTTP_HOST="shop.example").status_code == 200
    assert facts(invoice)["is_paid"] is True


def test_t51_the_address_is_built_on_the_settings_not_on_the_request(gateway):
    _, payment = make(gateway)
    assert payment["callback_url"].startswith("https://shop.example/crypto-invoices/callbacks/default/")


@pytest.mark.parametrize("query", ["?x=1", "?status=Paid&amount=1", "?" + "a=b&" * 2000, "?%00", "?%ff=%zz"])
def test_t51_a_query_string_changes_nothing(gateway, query):
    invoice, payment = make(gateway)
    body = body_of(payment, "Paid", [tx("25")])
    assert post(path_of(payment) + query, body, sign(body)).status_code == 200
    assert facts(invoice) == fact("paid", is_paid=True, received=25)


@pytest.mark.parametrize(
    "tail",
    ["", "default", "default/", "default/a/b/", "default/%00/", "default/%0a/", "../admin/", "default/" + "a" * 5000, "é/é/"],
)
def test_t51_paths_that_are_no_callback(gateway, tail):
    make(gateway)
    assert post(f"/crypto-invoices/callbacks/{tail}", b"{}", sign(b"{}")).status_code == 404


def test_t51_nothing_of_django_in_the_answers(gateway):
    """No cookie, no session, no page of ours that another site may frame."""
    _, payment = make(gateway)
    for answer in (send(payment, "Paid", [tx("25")]), post(path_of(payment), b"{}", "0" * 128)):
        assert answer.cookies == {}
        assert answer.headers["Content-Type"].split(";")[0] == "text/plain"


@pytest.mark.django_db(transaction=True)  # the handler closes connections
def test_t51_through_the_real_handler(gateway):
    """The whole WSGI stack, without a test client in between."""
    invoice, payment = make(gateway)
    body = body_of(payment, "Paid", [tx("25")])
    environ = RequestFactory().generic("POST", path_of(payment), body, HTTP_HMAC=sign(body)).environ
    started = []
    answer = WSGIHandler()(environ, lambda status, headers: started.append((status, dict(headers))))
    assert (started[0][0], b"".join(answer), started[0][1]["Content-Type"]) == ("200 OK", b"ok", "text/plain")
    answer.close()
    assert facts(invoice)["is_paid"] is True


def test_t51_receipts_hold_what_came(gateway):
    _, payment = make(gateway)
    body = body_of(payment, "Paid", [tx("25")])
    post(path_of(payment), body, sign(body))
    receipt = CallbackReceipt.objects.get()
    assert (bytes(receipt.body), receipt.account, receipt.reference) == (body, "default", payment["order_id"])
    assert receipt.attempt == Invoice.objects.get().attempts.get()
    assert receipt.headers == {"HMAC": sign(body)}


# The payer's pages


def test_pay_page_and_status(gateway, client):
    invoice, payment = make(gateway)
    status = reverse("crypto_invoices:status", args=[invoice.uuid])
    first = client.get(status)
    assert first.json() == {"status": "pending", "expires_at": Invoice.objects.get().expires_at.isoformat()}
    assert client.get(status, HTTP_IF_NONE_MATCH=first.headers["ETag"]).status_code == 304
    assert client.get(invoice.get_absolute_url()).url == f"https://pay.oxapay.com/10000001/{payment['track_id']}"
    send(payment, "Paid", [tx("25")])
    assert client.get(status, HTTP_IF_NONE_MATCH=first.headers["ETag"]).json()["status"] == "paid"
    assert client.get(invoice.get_absolute_url()).status_code == 200


def test_every_table_is_compared():
    """``OURS`` names every table of the package, so that "no row" means all of them."""
    app = Invoice._meta.app_config
    assert {model.__name__ for model in app.get_models()} == {model.__name__ for model in OURS}
