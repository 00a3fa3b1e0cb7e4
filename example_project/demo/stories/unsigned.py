"""Gateways that do not sign their callbacks: one is only a reason to ask the gateway, whoever sent it."""

import json

from .base import Story, other_token


class UnsignedStory(Story):
    """A subclass has ``body_of(payment, word)``, a callback as the gateway would send it; ``paid`` and ``cancelled`` are its
    words."""

    paid = ""
    cancelled = ""

    def forgeries(self, payment):
        url, body = payment["callback_url"], json.dumps(self.body_of(payment, self.paid)).encode()
        return {
            f"forged {self.paid}": (url, body, {}),
            "no JSON": (url, b"paid", {}),
            "unknown token": (other_token(url), body, {}),
        }

    def pay_and_forge(self, order):
        """The payment's callbacks are lost; a forged one, which claims the opposite, makes the shop ask what is true."""
        self.pay_unseen(order)
        body = json.dumps(self.body_of(order.payment, self.cancelled)).encode()
        self.send(order, {f"forged {self.cancelled}": (order.payment["callback_url"], body, {})})
        order.wait_for("paid", shipments=1, seconds=30)  # long before anything else would ask
