"""Every switch, counted, shared out in per cent, and reset."""

import time

import pytest

from crypto_invoices.simulator import callbacks, misbehaviour
from crypto_invoices.simulator.models import Payment

from .test_oxapay_life import later


@pytest.fixture
def paid(api, control, shop):
    def pay():
        track_id = api.invoice(callback_url=shop.url)
        control.act(track_id, "pay")
        return track_id

    return pay


def test_duplicate(control, shop, paid):
    control.misbehave("callback_duplicate", value=3, count=1)
    paid()
    assert len(control.deliver()) == 4
    assert shop.words == ["Paying", "Paying", "Paying", "Paid"]
    assert shop.received[0][1] == shop.received[2][1]
    assert control.reset() == []


def test_reorder(control, shop, paid):
    control.misbehave("callback_reorder", count=1)
    paid()
    control.deliver()
    assert shop.words == ["Paid", "Paying"]
    paid()
    control.deliver()
    assert shop.words[2:] == ["Paying", "Paid"]


def test_reorder_with_duplicates(control, shop, paid):
    control.misbehave("callback_duplicate")
    control.misbehave("callback_reorder")
    paid()
    control.deliver()
    assert shop.words == ["Paid", "Paid", "Paying", "Paying"]


def test_reset_lets_held_callbacks_go(control, shop, paid):
    control.misbehave("callback_reorder", value=5)
    track_id = paid()
    assert control.deliver() == []
    state = control.call("GET", f"oxapay/{track_id}/").json()
    assert [(job["status_word"], job["state"]) for job in state["callbacks_to_come"]] == [("Paying", "held"), ("Paid", "held")]
    control.reset()
    control.deliver()
    assert shop.words == ["Paid", "Paying"]


def test_delay(control, shop, paid):
    control.misbehave("callback_delay", value=40)
    paid()
    assert control.deliver() == []
    assert callbacks.deliver_due(later(seconds=39)) == 0
    assert callbacks.deliver_due(later(seconds=41)) == 2


def test_drop(api, control, shop, paid):
    control.misbehave("callback_drop", count=1)
    track_id = paid()
    control.deliver()
    assert shop.words == ["Paid"]
    assert control.call("GET", f"oxapay/{track_id}/").json()["callbacks_dropped"] == ["Paying"]


def test_resend(control, shop, paid):
    track_id = paid()
    control.deliver()
    shop.received.clear()
    control.act(track_id, "resend", order=["Paid", "Paying"], times=2)
    control.deliver()
    assert shop.words == ["Paid", "Paying", "Paid", "Paying"]
    control.act(track_id, "resend")
    control.deliver()
    assert shop.words[4:] == ["Paying", "Paid"]
    for body, field in (
        ({"order": ["Expired"]}, "order"),
        ({"order": "Paid"}, "order"),
        ({"times": 0}, "times"),
        ({"x": 1}, "x"),
    ):
        response = control.call("POST", f"oxapay/{track_id}/resend/", body)
        assert (response.status_code, response.json()["field"]) == (400, field)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_status(api, control, status):
    control.misbehave("api_status", value=status, count=2)
    for _ in range(2):
        response = api.post("payment/invoice", {"amount": 1})
        assert response.status_code == status
        assert response.has_header("Retry-After") == (status == 429)
        assert response["Content-Type"].startswith("text/html" if status == 502 else "application/json")
    assert not Payment.objects.exists()
    assert api.invoice()


@pytest.mark.parametrize(("switch", "start"), [("api_html", b"<!DOCTYPE html>"), ("api_empty", b"")])
def test_unreadable_answers(api, control, switch, start):
    control.misbehave(switch, count=1)
    response = api.post("payment/invoice", {"amount": 1})
    assert response.status_code == 200
    assert response.content[:15] == start
    assert not Payment.objects.exists()


def test_hang_keeps_what_was_done(api, control):
    control.misbehave("api_hang", value="0.1", count=1)
    before = time.monotonic()
    response = api.post("payment/invoice", {"amount": 1})
    assert time.monotonic() - before >= 0.1
    with pytest.raises(ConnectionAbortedError):
        b"".join(response)
    assert Payment.objects.count() == 1


def test_cut_happens_only_after_making_something(api, control):
    control.misbehave("api_cut", count=1)
    assert api.get("payment").status_code == 200
    assert api.post("payment/invoice", {"amount": 0}).status_code == 400
    with pytest.raises(ConnectionAbortedError):
        b"".join(api.post("payment/invoice", {"amount": 1}))
    assert Payment.objects.count() == 1
    assert api.invoice()


def test_percent(db, monkeypatch):
    misbehaviour.switch_on("oxapay", "callback_drop", percent=30)
    draws = iter([29, 30, 0])
    monkeypatch.setattr(misbehaviour.random, "randrange", lambda limit: next(draws))
    assert [misbehaviour.take("oxapay", "callback_drop") for _ in range(3)] == [True, None, True]


def test_switches_are_read_changed_and_reset(control):
    assert control.misbehave("api_hang", value=2, count=3) == [{"switch": "api_hang", "value": "2", "count": 3, "percent": 100}]
    control.misbehave("api_html")
    assert [row["switch"] for row in control.call("DELETE", "oxapay/misbehave/?switch=api_hang").json()["switches"]] == [
        "api_html"
    ]
    assert control.reset() == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "switch"),
        ({"switch": "api_dance"}, "switch"),
        ({"switch": "api_html", "value": 1}, "value"),
        ({"switch": "api_status", "value": 418}, "value"),
        ({"switch": "api_hang", "value": 601}, "value"),
        ({"switch": "api_hang", "value": "x"}, "value"),
        ({"switch": "callback_duplicate", "value": "2.5"}, "value"),
        ({"switch": "api_html", "count": 0}, "count"),
        ({"switch": "api_html", "percent": 101}, "percent"),
        ({"switch": "api_html", "times": 1}, "times"),
    ],
)
def test_bad_switches_are_named(control, body, field):
    response = control.call("POST", "oxapay/misbehave/", body)
    assert (response.status_code, response.json()["field"]) == (400, field)
