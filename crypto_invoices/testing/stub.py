"""A gateway's HTTP side for tests: a real server on 127.0.0.1 that gives scripted answers and keeps what it was asked."""

import contextlib
import os
import socket
import socketserver
import struct
import threading
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import simplejson

__all__ = ["Fault", "Reply", "Request", "Stub"]

LONGEST_STALL = 5.0  # seconds


@dataclass(frozen=True)
class Reply:
    """One answer. A header of None is not sent; without a ``Date`` the server tells the time as servers do."""

    body: bytes = b""
    status: int = 200
    headers: dict = field(default_factory=dict)

    @classmethod
    def json(cls, data, status=200, **headers):
        """``data`` as JSON; a Decimal becomes a JSON number with all its digits."""
        return cls(simplejson.dumps(data, use_decimal=True).encode(), status, {"Content-Type": "application/json"} | headers)


class Fault(Enum):
    """What may happen in place of an answer, after the request was read."""

    CUT = "the connection is closed"
    RESET = "the connection is reset"
    HALF = "the connection is closed in the middle of the body"
    STALL = "nothing happens any more"


@dataclass(frozen=True)
class Request:
    """What the gateway was asked. ``path`` has no query; header names are in lower case."""

    method: str
    path: str
    query: str
    headers: dict
    body: bytes

    @property
    def fields(self):
        """All values of body and query by dotted path, ``{"data.attributes.amount": "25"}``; numbers are int or Decimal."""
        fields = dict(parse_qsl(self.query, keep_blank_values=True))
        if self.body.lstrip()[:1] in (b"{", b"["):
            return fields | dict(_leaves(simplejson.loads(self.body, use_decimal=True)))
        return fields | dict(parse_qsl(self.body.decode(), keep_blank_values=True))


def _leaves(value, path=""):
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{path}.{number}" if path else str(number))
    else:
        yield path, value


class Stub:
    """``with Stub() as stub``: a gateway at ``stub.url``.

    ``stub.script(*answers)`` says what comes next: each a ``Reply`` or a ``Fault``. The last one is given again and again;
    without any, every request is answered 500. ``stub.requests`` are those since the last ``script``. ``stub.beside`` are
    replies by path that are given at any time and leave no trace in ``requests``.
    """

    def __init__(self):
        self.requests = []
        self.beside = {}
        self._answers = []
        self._moved_on = threading.Event()  # ends a stall
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.stub = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self._moved_on.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def script(self, *answers):
        self._moved_on.set()
        self._moved_on = threading.Event()
        self._answers = list(answers)
        self.requests = []

    def take(self, request):
        """``(answer, event that ends a stall)`` for a request that came in."""
        if request.path in self.beside:
            return self.beside[request.path], self._moved_on
        self.requests.append(request)
        if not self._answers:
            return Reply(b"nothing was scripted", 500), self._moved_on
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0], self._moved_on

    @staticmethod
    @contextlib.contextmanager
    def nobody():
        """The URL of a port where connections are refused."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound, and not listening
            yield f"http://127.0.0.1:{taken.getsockname()[1]}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)  # without the look-up of a host name
        self.server_name, self.server_port = self.server_address

    def handle_error(self, request, client_address):
        """A client that hangs up is part of a test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5
    disable_nagle_algorithm = True

    def _answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer, moved_on = self.server.stub.take(Request(self.command, parts.path, parts.query, headers, body))
        if isinstance(answer, Reply):
            self._send(answer)
            return
        self.close_connection = True
        if answer is Fault.STALL:
            moved_on.wait(LONGEST_STALL)
        elif answer is Fault.HALF:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n{")
        elif answer is Fault.RESET:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def _send(self, reply):
        self.send_response_only(reply.status)
        default = {"Date": self.date_time_string(), "Content-Length": str(len(reply.body))}
        for name, value in (default | reply.headers).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, *args):
        pass
