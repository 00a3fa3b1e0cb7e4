"""The ways to pay that a customer may choose from: an account of the settings, and what its gateway has to be told."""

from dataclasses import dataclass
from decimal import Decimal

from crypto_invoices.conf import account_aliases


@dataclass(frozen=True)
class Way:
    label: str
    account: str  # in CRYPTO_INVOICES["ACCOUNTS"]
    pay_currencies: tuple[str, ...] = ()  # empty: the payer chooses on the gateway's page
    price_currencies: tuple[str, ...] = ()  # those that the gateway takes; empty: all
    least: Decimal = Decimal(0)  # price
    takes_cancel_url: bool = False  # a way back for what ends unpaid

    def takes(self, total, currency):
        return total >= self.least and currency in (self.price_currencies or (currency,))


# txn.io takes exactly one coin, so that the customer chooses it here. The limits are those of each merchant's contract.
WAYS = {
    "oxapay": Way("OxaPay", "default"),
    "goodpayments": Way("goodPayments, TRX or USDT", "goodpayments", price_currencies=("USD",)),
    "txcash": Way("tx.cash, ETH, USDT or USDC", "txcash", price_currencies=("USD",), takes_cancel_url=True),
    "txn-usdt": Way("txn.io, USDT on TRON", "txn", ("USDT@tron",), least=Decimal(30), takes_cancel_url=True),
    "txn-xrp": Way("txn.io, XRP", "txn", ("XRP",), least=Decimal(30), takes_cancel_url=True),
    "onchainpay": Way("OnchainPay", "onchainpay"),
}
DEFAULT = "oxapay"


def ways_for(total, currency):
    """The ways in which this price can be paid, by their names; only those whose account is configured."""
    aliases = account_aliases()
    return {name: way for name, way in WAYS.items() if way.account in aliases and way.takes(total, currency)}
