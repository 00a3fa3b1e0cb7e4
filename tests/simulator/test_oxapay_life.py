"""What happens to an OxaPay payment: buttons, the clock, and what is told to the shop."""

import hashlib
import hmac
from datetime import timedelta
from decimal import Decimal

import pytest
import simplejson
from django.utils import timezone

from crypto_invoices.simulator import actions, callbacks
from crypto_invoices.simulator.models import Payment
from crypto_invoices.simulator.oxapay import sign

from .conftest import KEY


def later(**ahead):
    return timezone.now() + timedelta(**ahead)


def test_full_payment_is_told_twice(api, control, shop):
    track_id = api.invoice(
        amount=25, callback_url=shop.url, order_id="A-1", email="e", description="Tea", under_paid_coverage=2.5
    )
    state = control.act(track_id, "pay", currency="USDT", network="TRC20")
    assert (state["status"], state["pay_currency"], state["network"], state["rest"]) == ("paid", "USDT", "tron", "0")
    assert shop.received == []  # never inside the request that changed the state
    assert [(row["status_word"], row["attempt"], row["http_status"], row["answer"]) for row in control.deliver()] == [
        ("Paying", 1, 200, "ok"),
        ("Paid", 1, 200, "ok"),
    ]
    assert shop.words == ["Paying", "Paid"]
    headers, body = shop.received[1]
    assert headers["HMAC"] == hmac.new(KEY.encode(), body, hashlib.sha512).hexdigest()
    assert headers["Content-Type"] == "application/json"
    data = simplejson.loads(body, use_decimal=True)
    (tx,) = data.pop("txs")
    assert data == {
        "track_id": track_id,
        "status": "Paid",
        "type": "invoice",
        "module_name": "Demo shop",
        "amount": 25,
        "value": 25,
        "sent_value": 25,
        "currency": "USD",
        "order_id": "A-1",
        "email": "e",
        "note": "",
        "fee_paid_by_payer": 0,
        "under_paid_coverage": Decimal("2.5"),
        "description": "Tea",
        "date": api.information(track_id)["date"],
    }
    assert list(tx) == (
        "status tx_hash sent_amount received_amount value sent_value currency network sender_address address memo rate "
        "confirmations auto_convert_amount auto_convert_currency date".split()
    )
    assert (tx["status"], tx["sent_amount"], tx["received_amount"], tx["rate"]) == ("confirmed", 25, Decimal("24.75"), 1)
    assert (tx["network"], tx["confirmations"]) == ("Tron Network", 20)
    assert shop.bodies[0]["txs"][0]["status"] == "confirming"


def test_the_information_names_transfers_differently(api, control):
    track_id = api.invoice(to_currency="USDT", auto_withdrawal=True)
    control.act(track_id, "pay", currency="TRX")
    (tx,) = api.information(track_id)["txs"]
    assert set(tx) == set(
        "tx_hash amount currency network address status confirmations auto_convert auto_withdrawal date".split()
    )
    assert (tx["amount"], tx["status"]) == (40, "confirmed")
    assert tx["auto_convert"] == {"processed": True, "amount": 10, "currency": "USDT"}
    assert tx["auto_withdrawal"] == {"processed": True}


def test_sign_agrees_with_the_vendors_sdk_test():
    assert sign(b'{"type":"invoice","status":"Paid"}', "custom-merchant-secret") == (
        "29341ce38b87b4300406f345824c03a63cd42d3c82758144757b4322478d022e"
        "a20141cbefb272b79bed466a25ad019747cf1bd21a07cff2ec2bc5922baa50d5"
    )


def test_confirm_by_hand(api, control):
    control.misbehave("confirm_by_hand", count=1)
    track_id = api.invoice()
    state = control.act(track_id, "pay")
    assert (state["status"], state["txs"][0]["confirmed"]) == ("paying", False)
    assert api.information(track_id)["txs"][0]["status"] == "confirming"
    assert control.call("POST", f"oxapay/{track_id}/pay/").json()["error"] == "nothing is left to pay"
    assert control.act(track_id, "confirm")["status"] == "paid"


def test_confirmation_after_a_while(api, control, settings):
    settings.SIMULATOR["CONFIRM_SECONDS"] = 30
    track_id = api.invoice()
    assert control.act(track_id, "pay")["status"] == "paying"
    assert actions.advance_due() == 0
    assert actions.advance_due(later(seconds=31)) == 1
    assert api.status(track_id) == "paid"


def test_all_sent_but_unconfirmed_outlives_the_deadline(api, control):
    control.misbehave("confirm_by_hand")
    track_id = api.invoice()
    control.act(track_id, "pay")
    assert control.act(track_id, "expire")["status"] == "paying"
    assert control.act(track_id, "confirm")["status"] == "paid"


def test_a_part_stays_paying_until_it_is_topped_up(api, control, shop):
    track_id = api.invoice(callback_url=shop.url)
    state = control.act(track_id, "pay_part", amount="4", currency="USDT")
    assert (state["status"], state["rest"], state["txs"][0]["confirmed"]) == ("paying", "6", True)
    assert control.act(track_id, "pay")["status"] == "paid"
    control.deliver()
    assert shop.words == ["Paying", "Paid"]
    assert [tx["value"] for tx in shop.bodies[1]["txs"]] == [4, 6]


def test_short_at_expiry_is_underpaid_and_silent(api, control, shop):
    track_id = api.invoice(callback_url=shop.url)
    control.act(track_id, "pay_part")
    assert control.act(track_id, "expire")["status"] == "underpaid"
    control.deliver()
    assert shop.words == ["Paying"]
    assert api.information(track_id)["txs"][0]["amount"] == 5


def test_within_the_coverage_is_paid(api, control):
    track_id = api.invoice(under_paid_coverage=10)
    assert control.act(track_id, "pay_part", amount="8.99")["status"] == "paying"
    assert control.act(track_id, "pay_part", amount="0.01")["status"] == "paid"


def test_the_payers_fee_is_added(api, control):
    track_id = api.invoice(fee_paid_by_payer=1)
    assert control.act(track_id, "choose", currency="USDT")["pay_amount"] == "10.1"
    assert control.act(track_id, "pay_part", amount="10")["status"] == "paying"


def test_too_much_is_paid(api, control, shop):
    track_id = api.invoice(callback_url=shop.url)
    assert control.act(track_id, "pay_more", amount="12")["status"] == "paid"
    control.deliver()
    assert (shop.bodies[1]["value"], shop.bodies[1]["amount"]) == (12, 10)


def test_nothing_by_the_deadline_is_expired_and_silent(api, control, shop):
    track_id = api.invoice(callback_url=shop.url)
    state = control.act(track_id, "expire")
    assert (state["status"], state["actions"]) == ("expired", ["accept"])
    refused = control.call("POST", f"oxapay/{track_id}/pay/")
    assert (refused.status_code, "no address" in refused.json()["error"]) == (409, True)
    assert control.deliver() == []


def test_the_clock_expires_on_read_and_in_the_worker(api):
    read, worked = api.invoice(), api.invoice()
    Payment.objects.filter(gateway_id=read).update(expires_at=timezone.now())
    assert api.status(read) == "expired"
    assert actions.advance_due(later(minutes=59)) == 0
    assert actions.advance_due(later(minutes=61)) == 1
    assert api.status(worked) == "expired"


def test_late_money_leaves_it_expired(api, control, shop):
    track_id = api.invoice(callback_url=shop.url)
    control.act(track_id, "choose", currency="BTC")
    control.act(track_id, "expire")
    state = control.act(track_id, "pay")
    assert (state["status"], state["txs"][0]["late"], state["txs"][0]["confirmed"]) == ("expired", True, True)
    assert len(api.information(track_id)["txs"]) == 1
    assert control.deliver() == []


@pytest.mark.parametrize("before", ["expired", "underpaid"])
def test_accept_by_hand_is_silent(api, control, shop, before):
    track_id = api.invoice(callback_url=shop.url)
    if before == "underpaid":
        control.act(track_id, "pay_part")
    assert control.act(track_id, "expire")["status"] == before
    control.deliver()
    shop.received.clear()
    assert control.act(track_id, "accept")["status"] == "manual_accept"
    assert control.deliver() == []


@pytest.mark.parametrize("before", ["paid", "underpaid", "manual_accept"])
def test_refund_is_silent(api, control, shop, before):
    track_id = api.invoice(callback_url=shop.url)
    if before == "paid":
        control.act(track_id, "pay")
    else:
        control.act(track_id, "pay_part")
        control.act(track_id, "expire")
    if before == "manual_accept":
        control.act(track_id, "accept")
    control.deliver()
    assert control.act(track_id, "refund")["status"] == "refunding"
    assert control.act(track_id, "finish_refund")["status"] == "refunded"
    assert control.deliver() == []


def test_mixed_payment(api, control):
    track_id = api.invoice(mixed_payment=True)
    control.act(track_id, "pay_part", amount="4", currency="USDT", network="tron")
    assert control.act(track_id, "pay", currency="LTC")["txs"][1]["amount"] == "0.075"
    assert api.status(track_id) == "paid"
    track_id = api.invoice(mixed_payment=False)
    control.act(track_id, "pay_part", amount="4", currency="USDT", network="tron")
    refused = control.call("POST", f"oxapay/{track_id}/pay/", {"currency": "LTC"})
    assert (refused.status_code, refused.json()["source"]) == (409, "generate-invoice: mixed_payment")
    assert control.act(track_id, "pay", currency="USDT", network="Tron Network")["status"] == "paid"


def test_white_label_keeps_its_coin(api, control, shop):
    body = {"amount": 10, "pay_currency": "XRP", "callback_url": shop.url}
    data = api.post("payment/white-label", body).json()["data"]
    assert control.call("POST", f"oxapay/{data['track_id']}/choose/", {"currency": "BTC"}).status_code == 409
    state = control.act(data["track_id"], "pay")
    assert (state["status"], state["txs"][0]["amount"], state["txs"][0]["memo"]) == ("paid", "20", data["memo"])
    control.deliver()
    assert {body["type"] for body in shop.bodies} == {"white_label"}


def test_static_address_tells_of_each_deposit(api, control, shop):
    track_id = api.post("payment/static-address", {"network": "tron", "callback_url": shop.url}).json()["data"]["track_id"]
    control.act(track_id, "pay", amount="7", currency="USDT")
    control.act(track_id, "pay", amount="8", currency="TRX")
    control.deliver()
    assert shop.words == ["Paying", "Paid", "Paying", "Paid"]
    assert [(body["type"], body["amount"], body["currency"], len(body["txs"])) for body in shop.bodies[1::2]] == [
        ("static_address", 7, "USDT", 1),
        ("static_address", 8, "TRX", 1),
    ]
    for fields in ({}, {"amount": "1", "currency": "BTC"}):
        assert control.call("POST", f"oxapay/{track_id}/pay/", fields).status_code == 400
    assert control.call("POST", f"oxapay/{track_id}/expire/").status_code == 409
    assert control.call("POST", f"oxapay/{track_id}/confirm/").status_code == 409
    address = Payment.objects.get(gateway_id=track_id).address
    api.post("payment/static-address/revoke", {"address": address})
    assert control.call("POST", f"oxapay/{track_id}/pay/", {"amount": "1"}).json()["error"] == "the address was revoked"


def test_a_deposit_confirmed_by_hand(api, control, shop):
    control.misbehave("confirm_by_hand")
    data = api.post("payment/static-address", {"network": "Ripple", "callback_url": shop.url}).json()["data"]
    assert data["memo"].isdigit()
    control.act(data["track_id"], "pay", amount="7")
    assert api.status(data["track_id"]) == "paying"
    control.act(data["track_id"], "confirm")
    control.deliver()
    assert shop.words == ["Paying", "Paid"]


def test_sandbox_transfers_are_marked(api, control, shop):
    track_id = api.invoice(sandbox=True, callback_url=shop.url)
    control.act(track_id, "pay", currency="ETH")
    control.deliver()
    (tx,) = shop.bodies[1]["txs"]
    assert (tx["tx_hash"], tx["address"], tx["sender_address"], tx["rate"], tx["confirmations"]) == (
        "sandbox",
        "sandbox",
        "",
        1,
        10,
    )
    assert api.information(track_id)["txs"][0]["tx_hash"] == "sandbox"


@pytest.mark.parametrize(
    ("path", "refused"),
    [
        ([], {"confirm", "accept", "refund", "finish_refund"}),
        (["pay"], {"choose", "pay", "pay_part", "pay_more", "confirm", "expire", "accept", "finish_refund"}),
        (["pay_part", "expire"], {"choose", "confirm", "expire", "finish_refund"}),
        (["choose", "expire"], {"choose", "confirm", "expire", "refund", "finish_refund"}),
        (
            ["choose", "expire", "accept"],
            {"choose", "pay", "pay_part", "pay_more", "confirm", "expire", "accept", "finish_refund"},
        ),
        (["pay", "refund"], {"choose", "pay", "pay_part", "pay_more", "confirm", "expire", "accept", "refund"}),
    ],
)
def test_what_the_vendor_cannot_do_is_409_with_the_source(api, control, path, refused):
    track_id = api.invoice()
    for action in path:
        offered = control.act(track_id, action)["actions"]
    if not path:
        offered = control.call("GET", f"oxapay/{track_id}/").json()["actions"]
    before = api.information(track_id)
    for action in refused:
        response = control.call("POST", f"oxapay/{track_id}/{action}/")
        assert response.status_code == 409, (action, response.content)
        assert response.json()["error"] and response.json()["source"]
    assert api.information(track_id) == before
    assert not refused & set(offered)


def test_retries_follow_the_schedule(api, control, shop, settings):
    settings.SIMULATOR["TIME_SCALE"] = 1
    shop.answers = [(500, "ok"), (200, "thanks"), (204, ""), (302, "ok"), (200, " OK\n")]
    control.misbehave("confirm_by_hand")
    track_id = api.invoice(callback_url=shop.url)
    now = later(seconds=1)
    control.act(track_id, "pay")
    for wait in (0, 60, 180, 1800, 10800):
        if wait:
            assert callbacks.deliver_due(now + timedelta(seconds=wait - 1)) == 0
        now += timedelta(seconds=wait)
        assert callbacks.deliver_due(now) == 1
    assert callbacks.deliver_due(now + timedelta(days=9)) == 0
    log = control.call("GET", f"oxapay/{track_id}/").json()["callbacks"]
    assert [(row["attempt"], row["http_status"], row["answer"], row["accepted"]) for row in log] == [
        (1, 500, "ok", False),
        (2, 200, "thanks", False),
        (3, 204, "", False),
        (4, 302, "ok", False),
        (5, 200, " OK\n", True),
    ]


def test_five_attempts_then_never_again(api, control, shop):
    shop.answers = [(500, "no")]
    control.misbehave("confirm_by_hand")
    track_id = api.invoice(callback_url=shop.url)
    control.act(track_id, "pay")
    assert [callbacks.deliver_due(later(days=day)) for day in range(1, 8)] == [1, 1, 1, 1, 1, 0, 0]
    assert Payment.objects.get(gateway_id=track_id).jobs.get().state == "failed"


def test_nobody_answers(api, control, settings):
    settings.SIMULATOR["CALLBACK_TIMEOUT"] = 1
    control.misbehave("confirm_by_hand")
    track_id = api.invoice(callback_url="http://127.0.0.1:9/")
    control.act(track_id, "pay")
    (row,) = control.deliver()
    assert (row["http_status"], row["answer"], row["accepted"]) == (None, "no answer: ConnectionError", False)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1/x", ""),
        ("http://[::1]/x", ""),
        ("https://93.184.216.34/x", ""),
        ("http://93.184.216.34/x", "plain http"),
        ("https://10.0.0.1/x", "a private network"),
        ("https://169.254.169.254/x", "a private network"),
        ("ftp://127.0.0.1/x", "not an http(s) URL"),
        ("nonsense", "not an http(s) URL"),
        ("http://[::1/x", "not a URL"),
    ],
)
def test_who_is_called(url, why, settings):
    assert callbacks.unreachable(url) == why
    settings.SIMULATOR["ALLOW_ANY_CALLBACK"] = True
    assert callbacks.unreachable(url) == (why if why.startswith("not") else "")


def test_no_callback_without_a_url(api, control):
    control.act(api.invoice(), "pay")
    assert control.deliver() == []
