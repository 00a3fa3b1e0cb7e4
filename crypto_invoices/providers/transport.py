"""A ``requests`` session whose calls keep a total deadline and tell whether anything was sent."""

import http.client
import io
import threading
import time
from http.cookiejar import DefaultCookiePolicy

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

__all__ = ["Session", "begin", "was_sent"]

_call = threading.local()  # the call under way in this thread


def begin(seconds):
    """A call starts: its answer must be complete within ``seconds``."""
    _call.deadline, _call.sent = time.monotonic() + seconds, False


def was_sent():
    """Whether bytes of the request have left since ``begin``. If not, the call surely had no effect."""
    return _call.sent


class Session(requests.Session):
    """No environment, no cookies, no redirects, no compression; TLS is always verified; bodies are streamed."""

    def __init__(self):
        super().__init__()
        self.trust_env = False  # no proxy, .netrc or CA bundle from the environment
        self.headers = CaseInsensitiveDict(
            {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "django-crypto-invoices"}
        )
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.mount("https://", _Adapter())
        self.mount("http://", _Adapter())

    def request(self, *args, **kwargs):
        return super().request(*args, **kwargs, stream=True, allow_redirects=False, verify=True)

    def get_redirect_target(self, resp):
        return None  # requests would read the redirect's body, whatever its size


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args, **kwargs):
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}


class _Paced(io.RawIOBase):
    """A socket's stream that no slow sender, of headers or body, keeps open beyond the deadline."""

    def __init__(self, sock, raw):
        self._sock = sock
        self._raw = raw

    def readable(self):
        return True

    def readinto(self, buffer):
        left = _call.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("deadline")
        self._sock.settimeout(min(left, self._sock.gettimeout()))
        return self._raw.readinto(buffer)

    def close(self):
        self._raw.close()
        super().close()


class _PacedResponse(http.client.HTTPResponse):
    def __init__(self, sock, *args, **kwargs):
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Paced(sock, self.fp.detach()))


class _Watched:
    response_class = _PacedResponse

    def send(self, data):
        if self.sock is None:
            self.connect()  # what fails here was not sent
        _call.sent = True
        super().send(data)


class _Connection(_Watched, HTTPConnection):
    pass


class _TlsConnection(_Watched, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection
