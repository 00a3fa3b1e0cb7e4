"""OxaPay's edge on the loopback, in a process of its own: takes invoices and static addresses, tells of them, signs callbacks."""

import hashlib
import hmac
import http.client
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

KEY = "MKEY01-MKEY02-MKEY03-MKEY04"
PAYING, PAID = "Paying", "Paid"


def sign(body):
    return hmac.new(KEY.encode(), body, hashlib.sha512).hexdigest()


def transactions(payment, *, count=1, confirmed=True):
    return [
        {
            "status": "confirmed" if confirmed else "confirming",
            "tx_hash": f"0x{payment['track_id']}{number:04}",
            "sent_amount": 25.1,
            "received_amount": 25.0,
            "value": 25.1,
            "sent_value": 25.1,
            "currency": "USDT",
            "network": "Tron Network",
            "sender_address": "TSender",
            "address": "TReceiver",
            "memo": "",
            "rate": 1,
            "confirmations": 20 if confirmed else 1,
            "auto_convert_amount": 0,
            "auto_convert_currency": "",
            "date": payment["paid_at"],
        }
        for number in range(1, count + 1)
    ]


def callback_body(payment, word, *, count=1, only=None):
    """The body of a callback as OxaPay documents it, for a payment as ``StubGateway.payments`` tells it.

    It tells of the first ``count`` transactions, or of the one with the number ``only``.
    """
    told = transactions(payment, count=only or count, confirmed=word == PAID)
    return json.dumps(
        {
            "track_id": payment["track_id"],
            "status": word,
            "type": payment["type"],
            "module_name": "DemoShop",
            "amount": payment["amount"],
            "value": 25.1,
            "sent_value": 25.1,
            "currency": payment["currency"],
            "order_id": payment["order_id"],
            "email": "",
            "note": "",
            "fee_paid_by_payer": 0,
            "under_paid_coverage": 2.5,
            "description": payment["description"],
            "date": payment["date"],
            "txs": told[-1:] if only else told,
        }
    ).encode()


class StubGateway:
    """The gateway as the tests see it, from whatever process. ``serve`` is the process itself."""

    def __init__(self):
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.port = self.server.server_address[1]
        self.base_url = f"http://127.0.0.1:{self.port}/v1"

    def serve(self):
        self.server.serve_forever()

    def payments(self, shop_order=None):
        """The payments that were made, oldest first: all, or those whose description names the shop's order."""
        found = self._ask("GET", "/test/payments")
        return [payment for payment in found if shop_order is None or payment["description"] == shop_order]

    def say(self, track_id, word, *, count=1):
        """From now on the payment is in this state when somebody asks."""
        self._ask("POST", "/test/word", {"track_id": track_id, "word": word, "count": count})

    def call_back_while_creating(self, word):
        """Every later create call is answered only after this callback was sent and answered."""
        self._ask("POST", "/test/eager", {"word": word})

    def fall_silent(self):
        """From now on create calls have their effect and are never answered: each waits until its caller is dead."""
        self._ask("POST", "/test/silence")

    def expire_at(self, seconds):
        """Payments made from now on expire ``seconds`` from their creation; their money comes ten minutes earlier."""
        self._ask("POST", "/test/lifetime", {"seconds": seconds})

    def _ask(self, method, path, data=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, json.dumps(data or {}))
            return json.load(connection.getresponse())
        finally:
            connection.close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def __init__(self, *args):
        super().__init__(*args)
        self.lock = threading.Lock()
        self.paid = {}
        self.eager = None
        self.silent = False
        self.lifetime = 3600

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):  # the caller died
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        path = urlsplit(self.path).path
        if path == "/test/payments":
            return self._answer(list(self.server.paid.values()))
        if path == "/v1/payment":
            listed = [self._told(payment) for payment in self.server.paid.values()]
            return self._envelope({"list": listed, "meta": {"page": 1, "last_page": 1, "total": len(listed)}})
        payment = self.server.paid[path.rpartition("/")[2]]
        with self.server.lock:
            payment["asked"] += 1
        return self._envelope(self._told(payment))

    def do_POST(self):
        size = int(self.headers["Content-Length"])
        body = self.rfile.read(size)
        if len(body) < size:
            return None  # the caller died
        data = json.loads(body)
        if self.path == "/test/word":
            self.server.paid[data["track_id"]] |= {"word": data["word"], "count": data["count"]}
        elif self.path == "/test/eager":
            self.server.eager = data["word"]
        elif self.path == "/test/silence":
            self.server.silent = True
        elif self.path == "/test/lifetime":
            self.server.lifetime = data["seconds"]
        else:
            return self._create(data)
        return self._answer({})

    def _create(self, data):
        now = int(time.time())
        names = ("currency", "order_id", "callback_url", "description")
        static = self.path.endswith("/static-address")
        with self.server.lock:
            payment = {name: data.get(name, "") for name in names} | {
                "type": "static_address" if static else "invoice",
                "amount": data.get("amount", 0),
                "track_id": str(190000001 + len(self.server.paid)),
                "date": now,
                "expired_at": now + self.server.lifetime,
                "paid_at": now + self.server.lifetime - 600,
                "word": "new",
                "count": 0,
                "asked": 0,
                "answers": [],
            }
            self.server.paid[payment["track_id"]] = payment
        if self.server.silent:
            return self.rfile.read(1)
        if self.server.eager:
            payment |= {"word": self.server.eager.lower(), "count": 1}
            payment["answers"].append(self._call_back(payment, self.server.eager))
        if static:
            place = {"network": data["network"], "address": f"T{payment['track_id']}", "memo": ""}
            return self._envelope({"track_id": payment["track_id"], "date": now, **place})
        page = f"http://127.0.0.1:{self.server.server_address[1]}/pay/{payment['track_id']}"
        times = {name: payment[name] for name in ("expired_at", "date")}
        return self._envelope({"track_id": payment["track_id"], "payment_url": page, **times})

    def _call_back(self, payment, word):
        body, url = callback_body(payment, word), urlsplit(payment["callback_url"])
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
        try:
            connection.request("POST", url.path, body, {"Content-Type": "application/json", "HMAC": sign(body)})
            response = connection.getresponse()
            return [response.status, response.read().decode()]
        finally:
            connection.close()

    def _told(self, payment):
        txs = transactions(payment, count=payment["count"], confirmed=payment["word"] == "paid")
        names = ("tx_hash", "currency", "network", "address", "status", "confirmations", "date")
        told = {
            name: payment[name] for name in ("track_id", "amount", "currency", "order_id", "description", "date", "expired_at")
        }
        return told | {
            "type": payment["type"],
            "status": payment["word"],
            "fee_paid_by_payer": 0,
            "under_paid_coverage": 2.5,
            "txs": [{name: tx[name] for name in names} | {"amount": tx["received_amount"]} for tx in txs],
        }

    def _envelope(self, data):
        self._answer(
            {"data": data, "message": "Operation completed successfully!", "error": {}, "status": 200, "version": "1.0.0"}
        )

    def _answer(self, data):
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
