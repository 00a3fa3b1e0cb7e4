"""The circuit breaker by its clock (case T64): ten failures in a minute open it for half a minute."""

import pytest

from crypto_invoices.exceptions import GatewayPaused, GatewayRefused, GatewayUnavailable
from crypto_invoices.providers.breaker import Breaker
from crypto_invoices.providers.http import Client


class At:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return At()


@pytest.fixture
def breaker(clock):
    return Breaker(clock=clock)


def fail(breaker, times):
    for _ in range(times):
        assert breaker.wait() == 0.0
        breaker.failed()


def test_T64_nine_failures_leave_it_closed_and_the_tenth_opens_it(breaker, clock):
    fail(breaker, 9)
    assert breaker.wait() == 0.0
    breaker.failed()
    assert breaker.wait() == 30.0
    clock.now += 29
    assert breaker.wait() == 1.0


@pytest.mark.parametrize("pause,opens", [(6.6, True), (6.7, False)])
def test_T64_ten_failures_count_within_a_minute(breaker, clock, pause, opens):
    for _ in range(10):
        fail(breaker, 1)
        clock.now += pause
    assert (breaker.wait() > 0) == opens


def test_T64_a_success_forgets_the_failures(breaker):
    fail(breaker, 9)
    breaker.succeeded()
    fail(breaker, 9)
    assert breaker.wait() == 0.0


def test_T64_after_the_pause_one_call_tries_for_all(breaker, clock):
    fail(breaker, 10)
    clock.now += 30
    assert breaker.wait() == 0.0
    assert breaker.wait() == 30.0  # the others still wait
    breaker.failed()
    assert breaker.wait() == 30.0
    clock.now += 30
    assert breaker.wait() == 0.0
    breaker.succeeded()
    assert [breaker.wait() for _ in range(3)] == [0.0] * 3


def test_T64_an_open_breaker_sends_nothing_and_says_how_long(stub, breaker):
    client = Client(stub.url, gateway="Bank", account="default", breaker=breaker)
    stub.script = [(429, b"{}")] * 10
    for _ in range(10):
        with pytest.raises(GatewayUnavailable):
            client.call("POST", "/pay", operation="create", json={})
    with pytest.raises(GatewayPaused) as caught:
        client.call("POST", "/pay", operation="create", json={})
    assert (caught.value.seconds, caught.value.account, len(stub.seen)) == (30.0, "default", 10)


def test_T64_a_refusal_is_no_failure_of_the_gateway(stub, breaker):
    client = Client(stub.url, gateway="Bank", breaker=breaker)
    stub.script = [(400, b"{}")] * 12
    for _ in range(12):
        with pytest.raises(GatewayRefused):
            client.call("POST", "/pay", operation="create", json={})
    assert len(stub.seen) == 12
