import contextlib
import json
import logging
import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path

import pytest

from crypto_invoices.exceptions import GatewayRefused, GatewayUnavailable, GatewayUncertain, InvalidRequest
from crypto_invoices.providers import http as module
from crypto_invoices.providers.http import Client, check_base_url, check_url
from crypto_invoices.providers.options import Secrets
from tests.providers import Stub

KEY = "KEYKEY-111111-222222-333333"
SLASHED = "abc/def+ghi/jkl=="


@pytest.fixture
def naps():
    return []


@pytest.fixture
def client(stub, naps):
    return make(stub.url, sleep=naps.append)


def make(url, **changes):
    secrets = Secrets([KEY, SLASHED])
    return Client(url, **{"gateway": "Stub", "account": "main", "headers": {"X-Key": secrets[0]}, "secrets": secrets} | changes)


def fails(client, kind, method="GET", **arguments):
    with pytest.raises(kind) as caught:
        client.call(method, "/x", operation="test", **arguments)
    error = caught.value
    assert type(error) is kind
    assert (error.gateway, error.account, error.operation) == ("Stub", "main", "test")
    assert error.__context__ is None and error.__cause__ is None
    assert KEY not in repr(error) + str(error) + repr(vars(error))
    return error


# URLs


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.oxapay.com/v1", "https://api.oxapay.com/v1"),
        ("https://api.oxapay.com/v1/", "https://api.oxapay.com/v1"),
        ("HTTPS://api.example", "HTTPS://api.example"),
        ("https://api.example:8443/a/b", "https://api.example:8443/a/b"),
        ("https://8.8.8.8/v1", "https://8.8.8.8/v1"),
        ("http://127.0.0.1:8000/simulator/oxapay/v1/", "http://127.0.0.1:8000/simulator/oxapay/v1"),
        ("http://127.5.6.7", "http://127.5.6.7"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("https://127.0.0.1/v1", "https://127.0.0.1/v1"),
    ],
)
def test_T58_base_urls_that_are_taken(url, expected):
    assert check_base_url(url) == expected


BAD_URLS = [
    None,
    b"https://a.example",
    7,
    "",
    " ",
    "api.example",
    "//api.example",
    "/v1",
    "https://",
    "https:///v1",
    "https:api.example",
    "http://api.example",
    "http://8.8.8.8",
    "http://10.0.0.1",
    "http://192.168.1.1",
    "http://169.254.169.254/",
    "http://0.0.0.0",
    "http://0",
    "http://localhost.",
    "http://localhost.evil.example",
    "http://127.0.0.1.evil.example",
    "http://127.1",
    "http://2130706433",
    "http://0x7f000001",
    "http://017700000001",
    "http://[::]",
    "http://[fe80::1%25eth0]",
    "https://user@api.example",
    "https://user:pass@api.example",
    "https://@api.example",
    "http://127.0.0.1@evil.example",
    "https://10.0.0.1",
    "https://192.168.0.1/v1",
    "https://169.254.169.254",
    "https://[fd00::1]",
    "https://[::ffff:10.0.0.1]",
    "https://0x7f.1",
    "https://2130706433",
    "https://127.1",
    "https://0",
    "https://1.2.3.04x.1",
    "ftp://api.example",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "https://api.example:99999",
    "https://api.example:x",
    "https://api.example\\@evil.example",
    "https://api.example\n",
    "https://api\t.example",
    " https://api.example",
    "https://api.example/\x00",
    "https://[::1",
    "https://[zz]/",
    "https://" + "a" * 3000,
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_T58_urls_that_are_refused(url):
    with pytest.raises(InvalidRequest) as caught:
        check_url(url, "callback_url")
    assert caught.value.field == "callback_url"
    with pytest.raises(InvalidRequest) as caught:
        make(url)
    assert caught.value.field == "base_url"


@pytest.mark.parametrize(
    "url", ["https://api.example/?", "https://api.example/v1?a=1", "https://api.example/#", "https://bücher.example"]
)
def test_T58_a_base_url_has_neither_query_nor_fragment(url):
    check_url(url, "return_url")
    with pytest.raises(InvalidRequest):
        check_base_url(url)


def test_T58_a_refused_url_is_not_repeated():
    with pytest.raises(InvalidRequest) as caught:
        check_base_url("https://shop:hunter2@api.example")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("value", ["", "..", "../x", "a/b", "a?b", "a#b", "a b", "%2e", "a@b", "ä", "x" * 129, "a\n", None, 1.5])
def test_T58_an_id_never_changes_the_path(client, stub, value):
    if value is None:  # "None" is a text of letters; the providers refuse it
        return
    with pytest.raises(InvalidRequest):
        client.call("GET", "/payment/{}", value, operation="test")
    assert stub.seen == []


def test_T58_ids_fill_the_path(client, stub):
    stub.script += [(200, {})] * 2
    client.call("GET", "/payment/{}", "Ab_-9" * 25, operation="test")
    client.call("GET", "/payment/{}/x/{}", 123, "z", operation="test", query={"a": "ä b&c", "n": 1})
    assert [seen.path for seen in stub.seen] == ["/payment/" + "Ab_-9" * 25, "/payment/123/x/z?a=%C3%A4+b%26c&n=1"]


@pytest.mark.parametrize(
    ("base", "url", "taken"),
    [
        ("https://api.example/v1", "https://pay.example/1", True),
        ("https://api.example/v1", "http://pay.example/1", False),
        ("https://api.example/v1", "http://127.0.0.1/1", False),
        ("https://api.example/v1", "https://localhost/1", False),
        ("https://api.example/v1", "javascript:alert(1)", False),
        ("https://api.example/v1", "", False),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:9000/pay/1", True),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.2/pay/1", False),
        ("http://127.0.0.1:8000/v1", "http://localhost/pay/1", False),
        ("http://127.0.0.1:8000/v1", "https://pay.example/1", True),
    ],
)
def test_T57_where_a_payer_may_be_sent(base, url, taken):
    if taken:
        assert make(base).page_url(url) == url
    else:
        with pytest.raises(InvalidRequest) as caught:
            make(base).page_url(url)
        assert caught.value.field == "payment_url"


# What is sent and read


def test_T22_digits_go_out_and_come_in_exactly(client, stub):
    stub.script.append((200, b'{"a":0.30000000000000004,"b":1e-8,"c":12345678901234567890.123456789012345678,"d":10.10,"e":7} '))
    amounts = ["10.10", "0.1", "0.000000000000000001", "1E+3", "12345678901234567890.123456789012345678", "1000"]
    answer = client.call("POST", "/x", operation="test", json={"amounts": [Decimal(amount) for amount in amounts], "text": "é"})
    assert stub.seen[0].body == (
        '{"amounts":[10.1,0.1,0.000000000000000001,1000,12345678901234567890.123456789012345678,1000],"text":"é"}'.encode()
    )
    assert answer.text == '{"a":0.30000000000000004,"b":1e-8,"c":12345678901234567890.123456789012345678,"d":10.10,"e":7} '
    assert list(map(str, answer.data.values())) == [
        "0.30000000000000004",
        "1E-8",
        "12345678901234567890.123456789012345678",
        "10.10",
        "7",
    ]
    assert isinstance(answer.data["a"], Decimal) and isinstance(answer.data["e"], int)


def test_headers_of_a_request(client, stub):
    stub.script += [(200, {}), (201, {}), (200, {})]
    before = datetime.now(UTC)
    answer = client.call("GET", "/x", operation="test")
    assert before <= answer.started_at <= datetime.now(UTC) and answer.started_at.tzinfo is UTC
    assert client.call("POST", "/x", operation="test", json={"a": 1}, headers={"X-Nonce": "7"}).status == 201
    client.call("POST", "/x", operation="test", form={"a": "1 &"})
    get, post, form = ({name.lower(): value for name, value in seen.headers.items()} for seen in stub.seen)
    assert get == {
        "host": stub.url[7:],
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "django-crypto-invoices",
        "x-key": KEY,
    }
    assert post == get | {"content-type": "application/json", "content-length": "7", "x-nonce": "7"}
    assert form == get | {"content-type": "application/x-www-form-urlencoded", "content-length": "7"}
    assert stub.seen[2].body == b"a=1+%26"


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "ключ-ключ", "a\x00b", "a\x7fb"])
def test_T69_a_header_cannot_be_split(stub, value):
    for headers in ({"X-Key": Secrets([value])[0]}, {"X-Key": value}):
        with pytest.raises(InvalidRequest) as caught:
            make(stub.url, headers=headers)
        assert caught.value.field == "X-Key" and value not in str(caught.value)
        assert all(
            value not in repr(frame.frame.f_locals) for frame in caught.traceback[2:] if isinstance(headers["X-Key"], tuple)
        )


def test_cookies_are_not_kept(client, stub):
    stub.script += [(200, {}, {"Set-Cookie": "a=b"}), (200, {})]
    client.call("GET", "/x", operation="test")
    client.call("GET", "/x", operation="test")
    assert "Cookie" not in stub.seen[1].headers


def test_connections_are_kept_per_thread_and_not_for_long(client, stub, monkeypatch):
    stub.script += [(200, {})] * 5
    for _ in range(2):
        client.call("GET", "/x", operation="test")
    thread = threading.Thread(target=client.call, args=("GET", "/x"), kwargs={"operation": "test"})
    thread.start()
    thread.join()
    monkeypatch.setattr(module, "MAX_IDLE", -1.0)
    client.call("GET", "/x", operation="test")
    first, second, other, fresh = (seen.connection for seen in stub.seen)
    assert first == second and len({first, other, fresh}) == 3


def test_a_forked_process_does_not_share_the_connection(client, stub, monkeypatch):
    stub.script += [(200, {})] * 2
    client.call("GET", "/x", operation="test")
    monkeypatch.setattr(module.os, "getpid", lambda: -1)
    client.call("GET", "/x", operation="test")
    assert stub.seen[0].connection != stub.seen[1].connection


# Redirects, TLS, environment


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_T59_a_redirect_is_an_error_and_is_not_followed(client, stub, method, status):
    other = Stub()
    try:
        body = b"" if status == 304 else b"{}"
        stub.script.append((status, body, {"Location": other.url + "/x"}))
        error = fails(client, GatewayUncertain, method)
        assert (error.http_status, error.text) == (status, "an unexpected redirect")
        assert other.seen == [] and len(stub.seen) == 1
    finally:
        other.close()


def test_T60_the_environment_changes_nothing(stub, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login evil password evil\n")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing"))
    stub.script.append((200, {}))
    make(stub.url).call("GET", "/x", operation="test")
    assert "Authorization" not in stub.seen[0].headers


class Listener:
    """A raw TCP server: ``talk(connection)`` for each connection, counted."""

    def __init__(self, talk):
        self.talk, self.count, self.received = talk, 0, b""
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.count += 1
            with connection, contextlib.suppress(OSError):
                self.talk(self, connection)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_T60_an_unverified_certificate_ends_the_call_before_anything_is_sent(method, naps):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(__file__).with_name("untrusted.pem"))  # signed by itself, for localhost, for 100 years

    def talk(listener, connection):
        with context.wrap_socket(connection, server_side=True) as secured:
            listener.received += secured.recv(1000)

    with Listener(talk) as listener:
        client = make(f"https://localhost:{listener.port}", sleep=naps.append)
        error = fails(client, GatewayUnavailable, method, json={"a": 1} if method == "POST" else None)
        assert error.text == "not reached (SSLError)"
    assert listener.received == b"" and listener.count == (3 if method == "GET" else 1)


# Errors: surely without effect, or uncertain


def refused_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def test_T62_a_refused_connection_is_surely_without_effect(naps):
    client = make(f"http://127.0.0.1:{refused_port()}", sleep=naps.append)
    assert fails(client, GatewayUnavailable, "POST", json={}).http_status is None
    assert naps == []
    fails(client, GatewayUnavailable)
    assert len(naps) == 2 and 0 <= naps[0] <= 0.5 and 0 <= naps[1] <= 1


def test_T62_an_unknown_host_is_surely_without_effect(monkeypatch, naps):
    def fail(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    fails(make("https://api.example", sleep=naps.append), GatewayUnavailable, "POST", json={})


def test_T62_a_connection_that_is_not_taken_is_surely_without_effect(monkeypatch, naps):
    def connect(*args, **kwargs):
        raise TimeoutError("timed out")

    monkeypatch.setattr("urllib3.util.connection.create_connection", connect)
    fails(make("http://127.0.0.1:9", sleep=naps.append), GatewayUnavailable, "POST", json={})


def test_T62_what_is_no_tls_is_surely_without_effect(naps):
    def talk(listener, connection):
        listener.received += connection.recv(1000)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with Listener(talk) as listener:
        fails(make(f"https://127.0.0.1:{listener.port}", sleep=naps.append), GatewayUnavailable, "POST", json={"a": 1})
    assert b"POST" not in listener.received and KEY.encode() not in listener.received


def reset(handler):
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.connection.close()


BROKEN = {
    "hung up": lambda handler: handler.connection.shutdown(socket.SHUT_RDWR),
    "reset": reset,
    "half a status line": lambda handler: handler.wfile.write(b"HTTP/1."),
    "no http": lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    "half the headers": lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Len"),
    "half the body": lambda handler: handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"a":'),
    "half a chunk": lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n{"),
    "a bad chunk": lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{"),
    "too many headers": lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 100_000 + b"\r\n{}"),
    "a header too long": lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 100_000 + b"\r\n\r\n{}"),
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("name", BROKEN)
def test_T62_a_connection_that_breaks_after_sending_is_uncertain_and_not_repeated(client, stub, naps, name, method):
    stub.script.append(BROKEN[name])
    error = fails(client, GatewayUncertain, method, json={"a": 1} if method == "POST" else None)
    assert error.http_status == (200 if name == "half the headers" else None)  # a line cut short ends the headers
    assert len(stub.seen) == 1 and naps == []


@pytest.mark.parametrize(
    ("status", "get", "post"),
    [
        (101, GatewayUncertain, GatewayUncertain),
        (400, GatewayRefused, GatewayRefused),
        (401, GatewayRefused, GatewayRefused),
        (403, GatewayRefused, GatewayRefused),
        (404, GatewayRefused, GatewayRefused),
        (408, GatewayUncertain, GatewayUncertain),
        (409, GatewayRefused, GatewayRefused),
        (422, GatewayRefused, GatewayRefused),
        (429, GatewayUnavailable, GatewayUnavailable),
        (500, GatewayUnavailable, GatewayUncertain),
        (502, GatewayUnavailable, GatewayUncertain),
        (503, GatewayUnavailable, GatewayUncertain),
        (504, GatewayUnavailable, GatewayUncertain),
        (520, GatewayUnavailable, GatewayUncertain),
        (599, GatewayUnavailable, GatewayUncertain),
    ],
)
@pytest.mark.parametrize("body", [b'{"detail":"no"}', b"<html>", b""])
def test_T62_what_a_status_means(client, stub, naps, status, get, post, body):
    stub.script += [(status, body)] * 5
    assert fails(client, post, "POST", json={"a": 1}).http_status == status
    assert len(stub.seen) == 1 and naps == []
    fails(client, get)
    tries = 3 if get is GatewayUnavailable else 1
    assert len(stub.seen) == 1 + tries and len(naps) == tries - 1
    fails(client, post, "DELETE")
    assert len(stub.seen) == 2 + tries


def test_T64_a_get_is_repeated_until_it_succeeds(client, stub, naps):
    stub.script += [(503, b""), (429, b""), (200, {"ok": 1})]
    assert client.call("GET", "/x", operation="test").data == {"ok": 1}
    assert len(naps) == 2


def test_T64_full_jitter(stub, naps, monkeypatch):
    bounds = []
    monkeypatch.setattr(module.random, "uniform", lambda low, high: bounds.append((low, high)) or high)
    stub.script += [(503, b"")] * 3
    fails(make(stub.url, sleep=naps.append), GatewayUnavailable)
    assert bounds == [(0, 0.5), (0, 1.0)] and naps == [0.5, 1.0]


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("0", 0, 1),
        ("1", 1, 1),
        ("30", 30, 30),
        ("60", 60, 60),
        ("61", 60, 60),
        ("1" + "0" * 9, 60, 60),
        ("9" * 500, 0, 1),
        ("-1", 0, 1),
        ("1.5", 0, 1),
        ("1e9", 0, 1),
        ("NaN", 0, 1),
        ("Infinity", 0, 1),
        ("soon", 0, 1),
        ("", 0, 1),
        ("5, 6", 0, 1),
        (timedelta(seconds=30), 28, 30),
        (timedelta(seconds=-30), 0, 1),
        (timedelta(days=900), 60, 60),
        (timedelta(days=-9000), 0, 1),
        ("Wed, 21 Oct 2099 07:28:00", 0, 1),
        ("Wed, 99 Oct 2099 07:28:00 GMT", 0, 1),
    ],
)
def test_T64_retry_after(client, stub, naps, value, low, high):
    text = format_datetime(datetime.now(UTC) + value, usegmt=True) if isinstance(value, timedelta) else value
    stub.script += [(429, b"", {"Retry-After": text}), (200, {})]
    client.call("GET", "/x", operation="test")
    assert len(naps) == 1 and low <= naps[0] <= high


def test_T64_a_bounded_call_is_tried_once(client, stub, naps):
    stub.script += [(503, b"", {"Retry-After": "1"})]
    fails(client, GatewayUnavailable, timeout=5)
    assert len(stub.seen) == 1 and naps == []


# Time


def drip(head, piece, count=1000):
    def answer(handler):
        handler.wfile.write(head)
        for _ in range(count):
            handler.wfile.write(piece)
            time.sleep(0.02)

    return answer


SLOW = {
    "silence": drip(b"", b""),
    "headers, then silence": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b""),
    "status line byte by byte": drip(b"HTTP/1.1 200 O", b"K"),
    "headers byte by byte": drip(b"HTTP/1.1 200 OK\r\nX-A: ", b"a"),
    "header after header": drip(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n", 90),
    "continue after continue": drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body byte by byte": drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b" "),
    "chunk by chunk": drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "chunk size byte by byte": drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
    "until the end": drip(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b" "),
}


@pytest.mark.parametrize("name", SLOW)
def test_T61_a_slow_answer_ends_at_the_deadline(stub, name):
    stub.script += [SLOW[name]]
    client = make(stub.url, total=0.2)
    begun = time.monotonic()
    error = fails(client, GatewayUncertain, "POST", json={})
    assert 0.15 < time.monotonic() - begun < 1.0
    assert error.text.startswith("sent, but not answered") and len(stub.seen) == 1


def test_T61_a_flood_ends_at_the_deadline(stub):
    stub.script.append(endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100))
    fails(make(stub.url, total=0.2), GatewayUncertain, "POST", json={})


def test_T61_a_pause_does_not_begin_the_time_anew(stub):
    def answer(handler):
        drip(b"HTTP/1.1 200 OK\r\n\r\n", b" ", 20)(handler)  # 0.4 s
        time.sleep(1)

    stub.script.append(answer)
    begun = time.monotonic()
    fails(make(stub.url, total=0.5), GatewayUncertain, "POST", json={})
    assert time.monotonic() - begun < 0.8


def test_T61_timeout_bounds_the_whole_call(client, stub):
    stub.script += [SLOW["headers byte by byte"]]
    begun = time.monotonic()
    fails(client, GatewayUncertain, timeout=0.2)
    assert time.monotonic() - begun < 1.0


def test_T61_default_times(stub, monkeypatch):
    given = []
    monkeypatch.setattr(module.Session, "request", lambda self, **kwargs: given.append(kwargs["timeout"]) or 1 / 0)
    for timeout in (None, 3):
        with pytest.raises(ZeroDivisionError):
            make(stub.url).call("GET", "/x", operation="test", timeout=timeout)
    assert given == [(5.0, 15.0), (3, 3)]


# Size and form


def endless(head, piece):
    def answer(handler):
        handler.wfile.write(head)
        for answer.pieces in range(100_000):
            handler.wfile.write(piece)

    return answer


BOMBS = {
    "long": (200, b" " * (1024 * 1024 + 1)),
    "gzip": (200, b"\x1f\x8b\x08", {"Content-Encoding": "gzip"}),
    "brotli": (200, b"{}", {"Content-Encoding": "br"}),
    "twice": (200, b"{}", {"Content-Encoding": "identity, gzip"}),
    "endless": endless(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b" " * 65536),
    "endless chunks": endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"8000\r\n" + b" " * 32768 + b"\r\n"),
    "promised": endless(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n", b" " * 65536),
}


@pytest.mark.parametrize("name", BOMBS)
def test_T65_an_answer_is_neither_large_nor_compressed(client, stub, name):
    stub.script.append(BOMBS[name])
    error = fails(client, GatewayUncertain, "POST", json={})
    assert error.text == "an answer that is no JSON object: compressed or larger than 1 MiB"
    assert error.http_status == 200


def test_T65_a_redirects_body_is_bounded_too(client, stub):
    flood = endless(b"HTTP/1.1 302 Found\r\nLocation: /y\r\nConnection: close\r\n\r\n", b" " * 65536)
    stub.script.append(flood)
    fails(client, GatewayUncertain)
    assert flood.pieces < 1000  # what fits into the sockets' buffers


def test_T65_one_mebibyte_is_read(client, stub):
    body = b'{"a":"' + b"b" * (1024 * 1024 - 8) + b'"}'
    assert len(body) == 1024 * 1024
    stub.script.append((200, body, {"Content-Encoding": "identity"}))
    assert client.call("GET", "/x", operation="test").text == body.decode()


NO_OBJECT = [
    b"",
    b" ",
    b"null",
    b"true",
    b"0",
    b'"ok"',
    b"[]",
    b"[{}]",
    b"{",
    b"{}x",
    b"{}{}",
    b'{"a":1,}',
    b"{'a':1}",
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":01}',
    b'{"a":1,"a":2}',
    b"\xef\xbb\xbf{}",
    "{}".encode("utf-16"),
    b'{"a":"\xff"}',
    b"<html>{}</html>",
    b"<!DOCTYPE html>",
    b"ok",
    b'{"a":' + b"[" * 20 + b"]" * 20 + b"}",
    b'{"a":' + b"9" * 5000 + b"}",
    b"[" * 100_000,
]


@pytest.mark.parametrize("body", NO_OBJECT, ids=lambda body: repr(body[:20]))
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_T66_an_answer_that_is_no_object_is_uncertain(client, stub, naps, body, method):
    stub.script.append((200, body))
    error = fails(client, GatewayUncertain, method)
    assert error.http_status == 200 and error.text.startswith("an answer that is no JSON object")
    assert naps == []


def test_a_gateways_own_envelope_decides(stub, naps):
    def read_status(status, data):
        return data["status"], data["code"], data["text"]

    client = make(stub.url, read_status=read_status, sleep=naps.append)
    for inner, kind in ((400, GatewayRefused), (0, GatewayUncertain), (500, GatewayUncertain), (429, GatewayUnavailable)):
        stub.script.append((200, {"status": inner, "code": "c" + KEY, "text": "why\n" + KEY}))
        error = fails(client, kind, "POST", json={})
        assert (error.code, error.text, error.http_status) == ("c***", "why ***", 200)
    stub.script.append((400, {"status": 200, "code": "", "text": ""}))
    fails(client, GatewayUncertain, "POST", json={})


def test_unreadable_content_is_uncertain(client):
    with pytest.raises(GatewayUncertain) as caught, client.reading("create"):
        raise InvalidRequest("track_id", "required")
    assert str(caught.value) == "Stub (main) create: track_id: required [HTTP 200]"


# Secrets


def test_T56_secrets_are_scrubbed_from_errors_and_log(client, stub, caplog):
    echo = json.dumps({"detail": f"bad key {KEY}, {SLASHED}"}).replace("/", "\\/").encode() + b"\x1b[31m\n" + b"x" * 1000
    stub.script += [(400, echo), (500, b"a" * 190 + KEY.encode() * 100)]
    with caplog.at_level(logging.DEBUG):
        fails(client, GatewayRefused)
        fails(client, GatewayUncertain, "POST", json={})
    lines = [record.getMessage() for record in caplog.records if record.name == "crypto_invoices.http"]
    assert lines[0].startswith('Stub (main) test: HTTP 400: {"detail": "bad key ***, ***"} [31m x') and len(lines[0]) < 240
    assert lines[1] == "Stub (main) test: HTTP 500: " + "a" * 190 + "*" * 10
    assert KEY not in caplog.text and SLASHED not in caplog.text and "\x1b" not in caplog.text
    assert {record.levelno for record in caplog.records if record.name.startswith("crypto_invoices")} == {logging.DEBUG}


def test_T56_bodies_are_not_logged_above_debug(client, stub, caplog):
    stub.script.append((400, b'{"detail":"private"}'))
    with caplog.at_level(logging.INFO):
        fails(client, GatewayRefused)
    assert caplog.text == ""


def test_T56_no_local_variable_of_a_traceback_shows_a_secret(client, stub):
    stub.script.append((400, {"detail": KEY}))
    with pytest.raises(GatewayRefused) as caught:
        client.call("GET", "/x", operation="test")
    traceback = caught.value.__traceback__.tb_next  # without this test's own frame
    while traceback:
        assert KEY not in repr(traceback.tb_frame.f_locals)
        traceback = traceback.tb_next


def test_a_request_that_cannot_be_built_is_surely_without_effect(stub):
    fails(make(stub.url), GatewayUnavailable, timeout=-1)
    assert stub.seen == []
