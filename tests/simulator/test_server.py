"""The real server in its own process: headers, silence, callbacks, and the client."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import requests

from crypto_invoices.simulator.client import SimulatorClient, SimulatorError

from .conftest import ROOT

KEY = "SIMUL8-SIMUL8-SIMUL8-SIMUL8"


def create(server, **fields):
    headers = {"merchant_api_key": KEY}
    return requests.post(server + "oxapay/v1/payment/invoice", json={"amount": 10, **fields}, headers=headers, timeout=5)


def raw(address, request):
    with socket.create_connection(address, timeout=5) as connection:
        connection.sendall(request)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


def wait_for(condition):
    until = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_header_with_underscores_arrives(address):
    body = b'{"amount":10}'
    request = (
        b"POST /simulator/oxapay/v1/payment/invoice HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        b"merchant_api_key: " + KEY.encode() + b"\r\nContent-Type: application/json\r\n"
        b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body
    )
    head, _, answer = raw(address, request).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert json.loads(answer)["status"] == 200
    head, _, answer = raw(address, request.replace(b"merchant_api_key", b"another_api_key_")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 401 ")


def test_a_connection_is_not_closed_without_saying_so(address):
    with socket.create_connection(address, timeout=5) as connection:
        connection.sendall(b"GET /simulator/oxapay/v1/common/monitor HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        answer = b""
        while b"}" not in answer.partition(b"\r\n\r\n")[2]:
            answer += connection.recv(65536)
        connection.settimeout(0.5)
        try:
            closed = connection.recv(1) == b""
        except TimeoutError:
            closed = False
    assert closed is (b"\r\nConnection: close\r\n" in answer)


def test_the_worker_delivers_and_the_shop_may_ask_back(server, remote, shop):
    track_id = create(server, callback_url=shop.url).json()["data"]["track_id"]
    assert remote.act("oxapay", track_id, "pay", currency="USDT", network="tron")["status"] == "paid"
    wait_for(lambda: len(shop.received) == 2)
    assert shop.words == ["Paying", "Paid"]
    wait_for(lambda: len(remote.payment("oxapay", track_id)["callbacks"]) == 2)
    assert track_id in [payment["id"] for payment in remote.payments("oxapay")]


@pytest.mark.parametrize(("switch", "value"), [("api_cut", None), ("api_hang", "0.05")])
def test_the_connection_is_closed_without_a_byte(server, remote, address, switch, value):
    before = len(remote.payments())
    remote.misbehave("oxapay", switch, value, count=2)
    with pytest.raises(requests.ConnectionError):
        create(server)
    body = b'{"amount":1}'
    request = b"POST /simulator/oxapay/v1/payment/invoice HTTP/1.1\r\nHost: 127.0.0.1\r\nmerchant_api_key: " + KEY.encode()
    request += b"\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n" + body
    assert raw(address, request) == b""
    assert len(remote.payments()) == before + 2  # made and committed
    assert create(server).status_code == 200


def test_the_client(server, remote):
    track_id = create(server).json()["data"]["track_id"]
    assert remote.misbehave("oxapay", "callback_drop", count=1)[0]["switch"] == "callback_drop"
    assert remote.reset("oxapay", "callback_drop") == remote.reset("oxapay") == []
    assert remote.deliver() == []
    with pytest.raises(SimulatorError, match="not possible while the payment is new") as caught:
        remote.act("oxapay", track_id, "refund")
    assert (caught.value.status, bool(caught.value.source)) == (409, True)
    with pytest.raises(SimulatorError, match="amount: more than 0") as caught:
        remote.act("oxapay", track_id, "pay", amount=0)
    assert (caught.value.status, caught.value.field) == (400, "amount")
    with pytest.raises(SimulatorError, match="no such payment"):
        remote.payment("oxapay", "1")


def test_nobody_there():
    client = SimulatorClient("http://127.0.0.1:9/simulator/")
    with client.session, pytest.raises(SimulatorError, match="no usable answer") as caught:
        client.payments()
    assert caught.value.status == 0


def test_the_payers_page_is_served(server):
    url = create(server).json()["data"]["payment_url"]
    assert "Pay in full" in requests.get(url, timeout=5).text


def run(*arguments):
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.simulator.settings", "PYTHONPATH": str(ROOT)}
    environment.pop("SIMULATOR_DATABASE", None)
    command = [sys.executable, "-m", "django", "run_simulator", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("addrport", "text"),
    [("0.0.0.0:0", "not a loopback address"), ("192.0.2.1:8010", "not a loopback address"), ("shop:1", "is not a port")],
)
def test_only_loopback_addresses(addrport, text):
    with run(addrport) as process:
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 1
    assert text in errors


def test_interrupt_stops_it_cleanly():
    with run("localhost:0", "--migrate") as process:
        assert process.stdout.readline().startswith("Simulator at http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=10)
    assert (process.returncode, output) == (0, "Simulator stopped.\n")
    assert "Traceback" not in errors
