import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.urls import reverse

from crypto_invoices.simulator.client import SimulatorClient

KEY = "AAAAAA-BBBBBB-CCCCCC-DDDDDD"
OTHER_KEY = "EEEEEE-FFFFFF-GGGGGG-HHHHHH"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def simulator_settings(settings):
    settings.SIMULATOR = {"OXAPAY": {"MERCHANT_API_KEYS": [KEY, OTHER_KEY], "COMMISSION_PERCENT": "1"}}
    return settings.SIMULATOR


class Shop:
    """Receives callbacks on a loopback port: ``answers`` are (status, text), the last one for ever."""

    def __init__(self):
        self.received = []
        self.answers = [(200, "ok")]
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                shop.received.append((self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
                status, text = shop.answers.pop(0) if len(shop.answers) > 1 else shop.answers[0]
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/callback/"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    @property
    def bodies(self):
        return [json.loads(body) for _, body in self.received]

    @property
    def words(self):
        return [body["status"] for body in self.bodies]

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def shop():
    shop = Shop()
    yield shop
    shop.close()


class Api:
    """OxaPay's API through Django's test client."""

    def __init__(self, client):
        self.client = client
        self.base = reverse("simulator:index") + "oxapay/v1/"

    def post(self, path, body, key=KEY, **extra):
        data = body if isinstance(body, (str, bytes)) else json.dumps(body)
        extra = {"content_type": "application/json", **extra}
        return self.client.post(self.base + path, data, headers={"merchant_api_key": key}, **extra)

    def get(self, path, query=None, key=KEY):
        return self.client.get(self.base + path, query or {}, headers={"merchant_api_key": key})

    def invoice(self, **fields):
        response = self.post("payment/invoice", {"amount": 10, **fields})
        assert response.status_code == 200, response.content
        return response.json()["data"]["track_id"]

    def information(self, track_id):
        return self.get(f"payment/{track_id}").json()["data"]

    def status(self, track_id):
        return self.information(track_id)["status"]


@pytest.fixture
def api(client, db):
    return Api(client)


class Control:
    """The control API for one gateway's payments, through Django's test client."""

    def __init__(self, client, gateway="oxapay"):
        self.client = client
        self.gateway = gateway
        self.base = reverse("simulator:index") + "control/"

    def call(self, method, path, body=None):
        return self.client.generic(method, self.base + path, json.dumps(body) if body else "", content_type="application/json")

    def state(self, gateway_id):
        return self.call("GET", f"{self.gateway}/{gateway_id}/").json()

    def act(self, gateway_id, action, **fields):
        response = self.call("POST", f"{self.gateway}/{gateway_id}/{action}/", fields)
        assert response.status_code == 200, response.content
        return response.json()

    def refused(self, gateway_id, action, **fields):
        """The answer to a button that the gateway does not know now; it names its source."""
        response = self.call("POST", f"{self.gateway}/{gateway_id}/{action}/", fields)
        assert response.status_code == 409, response.content
        assert response.json()["error"] and response.json()["source"]
        return response.json()

    def misbehave(self, switch, **fields):
        response = self.call("POST", f"{self.gateway}/misbehave/", {"switch": switch, **fields})
        assert response.status_code == 200, response.content
        return response.json()["switches"]

    def reset(self):
        return self.call("DELETE", f"{self.gateway}/misbehave/").json()["switches"]

    def deliver(self):
        return self.call("POST", "deliver/").json()["deliveries"]


@pytest.fixture
def control(client, db):
    return Control(client)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The real server in its own process on a free port: the URL of its index page."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.simulator.settings",
        "SIMULATOR_DATABASE": str(tmp_path_factory.mktemp("simulator") / "simulator.sqlite3"),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "django", "run_simulator", "127.0.0.1:0", "--migrate"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith("Simulator at http://127.0.0.1:"), line
        yield line.split()[-1]
    finally:
        process.terminate()
        rest, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert rest == "Simulator stopped.\n"


@pytest.fixture
def address(server):
    parts = urlsplit(server)
    return parts.hostname, parts.port


@pytest.fixture
def remote(server):
    with SimulatorClient(server).session as session:
        client = SimulatorClient(server)
        client.session = session
        yield client
        client.reset("oxapay")
