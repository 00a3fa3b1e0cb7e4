"""A stub of OxaPay's HTTP API, callbacks signed by an independent line of code, a clock and a recorder of signals."""

import hashlib
import hmac
import itertools
import socketserver
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import simplejson
from django.conf import settings as django_settings
from django.db import connections
from django.test import Client
from django.utils import timezone

from crypto_invoices import delivery, models, signals
from crypto_invoices.models import CallbackReceipt, Invoice
from crypto_invoices.services import create_invoice

KEYS = {"default": django_settings.CANARIES["default"], "second": django_settings.CANARIES["second"]}
RESPONSES = {200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests", 502: "Bad Gateway"}
OURS = (
    models.Invoice,
    models.PaymentAttempt,
    models.StaticAddress,
    models.Transfer,
    models.CallbackReceipt,
    models.InvoiceEvent,
    models.EventDelivery,
)


# The gateway


class Gateway:
    """One stub for all accounts. ``payments`` by track_id is what GET /payment/<track_id> tells; tests may change it.

    ``faults[operation]`` are used up one by one: "refused", "unavailable", "lost" (nothing is made, the connection is
    cut), "missing" (404), "made_then_lost" and "made_then_502". ``during_create(payment)`` and ``during_fetch(payment)`` run
    in the gateway's thread before its answer leaves.
    """

    def __init__(self, base_url):
        self.base_url = base_url
        self.requests = []  # of (method, path, JSON or query)
        self.payments = {}
        self.faults = {}
        self.during_create = self.during_fetch = None
        self.coverage = Decimal(0)  # the merchant's own under_paid_coverage; None: not told
        self.changes = {}  # fields of the next answers to a create call
        self.numbers = itertools.count(190000001)

    def account(self, alias, **options):
        return {
            "PROVIDER": "crypto_invoices.providers.oxapay.OxaPay",
            "OPTIONS": {"merchant_api_key": KEYS[alias], "base_url": self.base_url, **options},
        }

    def called(self, method, path="/v1/payment"):
        return [body for verb, where, body in self.requests if verb == method and where.startswith(path)]

    def fail(self, operation, *faults):
        self.faults.setdefault(operation, []).extend(faults)

    def answer(self, method, path, body, key):
        """``(HTTP status, envelope)`` or None to cut the connection."""
        self.requests.append((method, path, body))
        if key not in KEYS.values():
            return _refusal(401, "invalid_merchant_api_key")
        if path.endswith("/static-address/revoke"):
            return self._with_fault("revoke", lambda: _success({}))
        if path.endswith("/static-address"):
            return self._with_fault("create", lambda: self._create_address(body))
        if method == "POST":
            return self._with_fault("create", lambda: self._create(path.rpartition("/")[2], body))
        if path == "/v1/payment/accepted-currencies":
            return _success({"list": ["USDT", "TRX"]})
        if path == "/v1/payment":
            return self._with_fault("list", lambda: self._list(body))
        return self._with_fault("fetch", lambda: self._fetch(path.rpartition("/")[2]))

    def _with_fault(self, operation, act):
        fault = self.faults.get(operation) and self.faults[operation].pop(0)
        if fault == "refused":
            return _refusal(400, "amount_too_small")
        if fault == "unavailable":
            return _refusal(429, "too_many_requests")
        if fault == "missing":
            return _refusal(404, "not_found")
        if fault == "lost":
            return None
        answer = act()
        if fault == "made_then_lost":
            return None
        return (502, {"message": "bad gateway"}) if fault == "made_then_502" else answer

    def _create(self, kind, body):
        track_id = str(next(self.numbers))
        now = int(timezone.now().timestamp())
        white = kind == "white-label"
        payment = {
            "track_id": track_id, "type": "white_label" if white else "invoice", "amount": body["amount"],
            "currency": body.get("currency", "USD"), "status": "waiting" if white else "new", "mixed_payment": False,
            "fee_paid_by_payer": body.get("fee_paid_by_payer", 0),
            "under_paid_coverage": body.get("under_paid_coverage", self.coverage),
            "lifetime": body.get("lifetime", 60), "callback_url": body["callback_url"],
            "return_url": body.get("return_url", ""), "email": body.get("email", ""), "order_id": body["order_id"],
            "description": body.get("description", ""), "thanks_message": body.get("thanks_message", ""),
            "expired_at": now + 60 * body.get("lifetime", 60), "date": now, "txs": [],
        }  # fmt: skip
        if payment["under_paid_coverage"] is None:
            del payment["under_paid_coverage"]
        self.payments[track_id] = payment
        data = {"track_id": track_id, "expired_at": payment["expired_at"], "date": now}
        if white:
            shown = ("amount", "currency", "callback_url", "description", "email", "fee_paid_by_payer", "lifetime", "order_id")
            data |= {name: payment[name] for name in shown} | {
                "pay_amount": body["amount"], "pay_currency": body["pay_currency"], "network": body.get("network", "TRON"),
                "address": f"TAddress{track_id}", "memo": "", "rate": 1, "qr_code": "",
            }  # fmt: skip
        else:
            data["payment_url"] = f"https://pay.oxapay.com/10000001/{track_id}"
        if self.during_create:
            self.during_create(payment)
        return _success(data | self.changes)

    def _create_address(self, body):
        track_id = str(next(self.numbers))
        address = {
            "track_id": track_id, "type": "static_address", "status": "waiting", "amount": 0, "currency": "", "network": "Tron",
            "address": f"TAddress{track_id}", "memo": "", "fee_paid_by_payer": 0, "callback_url": body["callback_url"],
            "email": body.get("email", ""), "order_id": body["order_id"], "description": body.get("description", ""),
            "date": int(timezone.now().timestamp()), "txs": [],
        }  # fmt: skip
        self.payments[track_id] = address
        if self.during_create:
            self.during_create(address)
        shown = ("track_id", "network", "address", "memo", "date")
        return _success({name: address[name] for name in shown} | {"qr_code": ""} | self.changes)

    def _fetch(self, track_id):
        if track_id not in self.payments:
            return _refusal(404, "not_found")
        answer = _success(dict(self.payments[track_id]))
        if self.during_fetch:
            self.during_fetch(self.payments[track_id])
        return answer

    def _list(self, query):
        start, end = int(query.get("from_date", 0)), int(query.get("to_date", 1 << 40))
        low, high = Decimal(query.get("from_amount", 0)), Decimal(query.get("to_amount", 10**30))
        found = [
            payment
            for payment in self.payments.values()
            if start <= payment["date"] <= end
            and low <= payment["amount"] <= high
            and query.get("currency") in (None, payment["currency"])
        ]
        return _success({"list": found, "meta": {"page": 1, "last_page": 1, "total": len(found)}})


def _success(data):
    return 200, {"data": data, "message": "Operation completed successfully!", "error": {}, "status": 200, "version": "1.0.0"}


def _refusal(status, key):
    error = {"type": "error", "key": key, "message": key.replace("_", " ")}
    return status, {"data": {}, "message": "failed", "error": error, "status": status, "version": "1.0.0"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        parts = urlsplit(self.path)
        self._answer(parts.path, dict(parse_qsl(parts.query)))

    def do_POST(self):
        self._answer(self.path, simplejson.loads(self.rfile.read(int(self.headers["Content-Length"])), use_decimal=True))

    def _answer(self, path, body):
        answer = self.server.gateway.answer(self.command, path, body, self.headers["merchant_api_key"])
        if answer is None:
            self.close_connection = True
            return
        status, data = answer
        text = simplejson.dumps(data, use_decimal=True).encode()
        head = f"HTTP/1.1 {status} {RESPONSES.get(status, 'Error')}\r\nContent-Type: application/json\r\n"
        self.wfile.write(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text)

    def log_message(self, *args):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)  # without the look-up of a host name
        self.server_name, self.server_port = self.server_address


@cache
def _server():
    """One for the whole run; each test gets a fresh ``Gateway`` behind it."""
    server = _Server(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def stub_gateway(settings, **changes):
    """A fresh ``Gateway``; the accounts "default" and "second" are merchants there. ``changes``: keys of the settings."""
    server = _server()
    gateway = server.gateway = Gateway(f"http://127.0.0.1:{server.server_port}/v1")
    settings.CRYPTO_INVOICES = {
        "BASE_URL": "https://shop.example",
        "ACCOUNTS": {alias: gateway.account(alias) for alias in KEYS},
        "NOTIFY": "tests.helpers.no_notice",
        **changes,
    }
    return gateway


def in_this_connection(act):
    """``(hook, outcomes)``: the hook runs ``act`` in the gateway's thread on the test's connection; the test waits."""
    own, outcomes = connections["default"], []

    def hook(payment):
        connections["default"] = own
        own.inc_thread_sharing()
        try:
            outcomes.append(act(payment))
        finally:
            own.dec_thread_sharing()

    return hook, outcomes


def no_notice(kind, invoice, text):
    """``NOTIFY`` of the tests: says nothing to nobody."""


# Invoices and callbacks


def make(gateway, amount="25", currency="USDT", *, account="default", **arguments):
    """An invoice made by the real service, and its payment at the gateway: ``(invoice, payment)``."""
    invoice = create_invoice(amount=amount, currency=currency, account=account, **arguments)
    return invoice, payment_of(gateway, invoice)


def payment_of(gateway, invoice):
    """The gateway's payment of the invoice's newest attempt."""
    reference = invoice.attempts.order_by("pk").last().reference
    return next(payment for payment in gateway.payments.values() if payment["order_id"] == reference)


def tx(amount, currency="USDT", *, tx_hash="0xaaa1", confirmed=True, confirmations=20, date=None, **changes):
    """One entry of a callback's ``txs``."""
    amount = Decimal(amount)
    return {
        "status": "confirmed" if confirmed else "confirming", "tx_hash": tx_hash, "sent_amount": amount,
        "received_amount": amount, "value": amount, "sent_value": amount, "currency": currency, "network": "Tron Network",
        "sender_address": "TSender", "address": "TReceiver", "memo": "", "rate": 1, "confirmations": confirmations,
        "auto_convert_amount": 0, "auto_convert_currency": "",
        "date": int(timezone.now().timestamp()) if date is None else date,
    } | changes  # fmt: skip


def fetched(transfer):
    """The same transaction as GET /payment/<track_id> tells it."""
    names = ("tx_hash", "currency", "network", "address", "status", "confirmations", "date")
    return {name: transfer[name] for name in names} | {"amount": transfer["received_amount"]}


def body_of(payment, status, txs=(), **changes):
    """The bytes of a callback for a payment. A change to None leaves the field out."""
    total = sum((Decimal(item["received_amount"]) for item in txs), Decimal(0))
    fields = {
        "track_id": payment["track_id"], "status": status, "type": payment["type"], "module_name": "DemoShop",
        "amount": payment["amount"], "value": total, "sent_value": total, "currency": payment["currency"],
        "order_id": payment["order_id"], "email": payment["email"], "note": "",
        "fee_paid_by_payer": payment["fee_paid_by_payer"], "under_paid_coverage": payment.get("under_paid_coverage"),
        "description": payment["description"], "date": payment["date"], "txs": list(txs),
    } | changes  # fmt: skip
    return dumps({name: value for name, value in fields.items() if value is not None})


def dumps(value):
    return simplejson.dumps(value, use_decimal=True, separators=(",", ":")).encode()


def sign(body, key=KEYS["default"]):
    """OxaPay's signature: HMAC-SHA512 of the raw body, lower-case hex."""
    return hmac.new(key.encode(), body, hashlib.sha512).hexdigest()


def path_of(payment):
    return urlsplit(payment["callback_url"]).path


def post(path, body, signature=None, *, client=None, **headers):
    """A POST as the gateway makes it; without a signature no HMAC header is sent."""
    if signature is not None:
        headers["HTTP_HMAC"] = signature
    return (client or Client()).generic("POST", path, body, content_type="application/json", **headers)


def send(payment, status, txs=(), *, key=KEYS["default"], client=None, **changes):
    """Builds, signs and posts a callback of the payment."""
    body = body_of(payment, status, txs, **changes)
    return post(path_of(payment), body, sign(body, key), client=client)


def tell(payment, status, txs=()):
    """What a poll will answer from now on."""
    payment |= {"status": status, "txs": [fetched(item) for item in txs]}


# The database, signals and time


def rows(*models, without=()):
    """Every value of every row of the package's tables (or of ``models``), for comparing before with after."""
    return {
        model.__name__: [
            {name: bytes(value) if isinstance(value, memoryview) else value for name, value in row.items() if name not in without}
            for row in model.objects.order_by("pk").values()
        ]
        for model in models or OURS
    }


def facts(invoice):
    """What of an invoice matters to a shop, read afresh."""
    invoice = Invoice.objects.get(pk=invoice.pk)
    return {
        "status": invoice.status,
        "is_paid": invoice.is_paid,
        "received": invoice.amount_received,
        "late": invoice.late,
        "manual": invoice.manual,
        "review": invoice.needs_review,
    }


def fact(status, *, is_paid=False, received=None, late=False, manual=False, review=False):
    """The expected value of ``facts``."""
    received = None if received is None else Decimal(received)
    return {"status": status, "is_paid": is_paid, "received": received, "late": late, "manual": manual, "review": review}


def verdicts():
    """Of all receipts, oldest first."""
    return list(CallbackReceipt.objects.order_by("pk").values_list("verdict", flat=True))


class Recorder(list):
    """``(signal, event_id, old status, new status)`` of every call, in order."""

    @property
    def names(self):
        return [call[0] for call in self]

    def count_of(self, name):
        return self.names.count(name)


@contextmanager
def recorded(*names, uid="tests.recorder"):
    """Records the durable signals (all, or those named) while the block runs."""
    calls = Recorder()

    def receive(sender, *, signal, invoice, attempt, event_id, old_status, new_status):
        calls.append((signal.name, event_id, old_status, new_status))

    with connected(receive, *(names or signals.DURABLE), uid=uid):
        yield calls


@contextmanager
def connected(receiver, *names, uid, atomic=True):
    """The receiver is connected to these signals while the block runs."""
    for name in names:
        signals.DURABLE[name].connect(receiver, weak=False, dispatch_uid=uid, atomic=atomic)
    try:
        yield receiver
    finally:
        for name in names:
            signals.DURABLE[name].disconnect(dispatch_uid=uid)


class Clock:
    """Time stands still until a test moves it. Waiting takes no time."""

    def __init__(self, monkeypatch):
        self.now = timezone.now().replace(microsecond=0)
        monkeypatch.setattr(timezone, "now", lambda: self.now)
        monkeypatch.setattr(time, "sleep", lambda seconds: None)

    def advance(self, **kwargs):
        self.now += timedelta(**kwargs)

    def set(self, moment):
        self.now = moment if isinstance(moment, datetime) else datetime.fromtimestamp(moment, UTC)


@contextmanager
def later(monkeypatch, seconds=120.0):
    """The block runs that much later on the clock that counts rate limits."""
    real = time.monotonic
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: real() + seconds)
        yield


def sweep():
    """What the ``deliver`` command does."""
    return delivery.sweep()
