"""What all pretended gateways share: rows, choosing a coin, money that comes, the clock. A gateway file adds its own words."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, timedelta
from decimal import Decimal

from django.db.models import Q
from django.http import HttpResponse
from django.urls import reverse
from django.utils import timezone

from . import coins, conf, misbehaviour
from .errors import BadField, Refused
from .models import Payment, new_number


@dataclass(frozen=True)
class Action:
    """A button: its label, who presses it, and the inputs that it takes."""

    label: str
    who: str
    fields: tuple = ()


ACTIONS = {
    "choose": Action("Choose", "payer", ("currency", "network")),
    "pay": Action("Pay in full", "payer", ("amount", "currency", "network")),
    "pay_part": Action("Pay a part", "payer", ("amount", "currency", "network")),
    "pay_more": Action("Pay too much", "payer", ("amount", "currency", "network")),
    "pay_other": Action("Pay with a coin that is not accepted", "payer", ("amount",)),
    "confirm": Action("Confirm the transfers", "network"),
    "expire": Action("Let the time run out", "clock"),
    "aml": Action("The AML check fails", "gateway"),
    "fail": Action("A technical failure", "gateway"),
    "hold": Action("Hold it for a compliance review", "gateway"),
    "release": Action("Release it from the review", "gateway"),
    "reject": Action("Reject it", "gateway"),
    "refund_link": Action("Return the money by a refund link", "gateway"),
    "cancel": Action("Cancel", "merchant"),
    "accept": Action("Accept by hand", "merchant"),
    "refund": Action("Start a refund", "merchant"),
    "finish_refund": Action("Finish the refund", "merchant"),
}


class Gateway(ABC):
    """One pretended gateway. A subclass sets the attributes and writes the abstract methods."""

    name = ""  # the module's name and the URL segment
    title = ""
    settings = {}  # its keys in SIMULATOR, with defaults whose types are the types
    urlpatterns = []
    open_statuses = ()  # the clock ends these
    retry_delays = ()  # seconds after each failed attempt
    one_address = False  # a payment keeps its address when another coin is chosen
    never = "the gateway has no such thing"  # the reason for an action that is not in ``rules``
    rules = {}  # action -> (statuses that allow it, source)
    static_kinds = ()  # kinds that ask for no price: one address, any number of transfers
    static_rules = {}  # the rules of these kinds
    who = {}  # action -> who presses it here, where ACTIONS says another

    # What a gateway file writes

    @abstractmethod
    def on_money(self, payment, transfer, now):
        """A transfer was seen, or confirmed: ``transfer`` says which. Set the status, write callbacks."""

    @abstractmethod
    def on_clock(self, payment, now):
        """The time of an open payment is up."""

    @abstractmethod
    def rest(self, payment):
        """What is still to be sent, in the chosen coin; asked only where there are a price and a coin."""

    @abstractmethod
    def authenticate(self, request):
        """The account whose credentials the call carries. Raises ``api.ApiError``."""

    @abstractmethod
    def success(self, data):
        """The answer to a call that went well."""

    @abstractmethod
    def refuse(self, error):
        """The answer to a call that raised this ``api.ApiError``."""

    def callback_accepted(self, status, answer):
        """Whether that answer to a callback ends its delivery; any 2xx does where no more is documented."""
        return status is not None and 200 <= status < 300

    def options(self, payment):
        """(symbol, network) pairs that the payer may choose from; a static address is on one network."""
        pairs = [(symbol, network) for symbol, coin in coins.COINS.items() for network in coin.networks]
        return [pair for pair in pairs if pair[1] == payment.network] if self.is_static(payment) else pairs

    def links(self, payment):
        """(label, URL) pairs that the payer's page shows in this state."""
        return []

    def failure(self, status):
        """The gateway's own answer when it is overloaded or broken."""
        return HttpResponse(f"{status}", status=status, content_type="text/plain")

    def obstacle(self, payment, action):
        """A ``Refused`` beyond the statuses of ``rules``, or None."""
        return None

    def callback_headers(self, job):
        """The headers of the attempt that is made now; a scheme that signs the time of sending makes them afresh."""
        return job.headers

    def waits_for_clock(self, now):
        """The condition on payments whose time is up, for the worker."""
        return Q(status__in=self.open_statuses, expires_at__lte=now)

    # Shared

    @property
    def account_settings(self):
        return conf.account(self)

    def payments(self, account):
        """The payments that an account made."""
        return Payment.objects.filter(gateway=self.name, account=account)

    def new_payment(self, account, kind, status, **columns):
        """A payment that is not saved yet, made now and with a number for an id where ``columns`` say nothing else."""
        columns = {"gateway_id": new_number(9), "created_at": timezone.now(), **columns}
        return Payment(gateway=self.name, account=account, kind=kind, status=status, **columns)

    def is_static(self, payment):
        """Whether the payment is an address for any number of transfers."""
        return payment.kind in self.static_kinds

    def presser(self, action):
        """Who presses the button."""
        return self.who.get(action, ACTIONS[action].who)

    def payer_page(self, request, payment):
        """The absolute URL of the payment's page."""
        return request.build_absolute_uri(reverse("simulator:pay", args=[self.name, payment.gateway_id]))

    def refusal(self, payment, action):
        """Why the action is not possible now, as a ``Refused``, or None."""
        static = self.is_static(payment)
        rules = self.static_rules if static else self.rules
        if action not in rules:
            never = "a static address has no price and no deadline" if static else self.never
            return Refused(f"{self.title} cannot {action}: {never}", "no source names it")
        statuses, source = rules[action]
        if payment.status not in statuses:
            return Refused(f"{action} is not possible while the payment is {payment.status}", source)
        if action == "confirm" and not payment.transfers.filter(confirmed_at=None).exists():
            return Refused("no transfer waits for a confirmation", source)
        if action.startswith("pay") and not static and not payment.address:
            no_coin = self.refusal(payment, "choose")
            if no_coin:
                return Refused("no coin was chosen in time, so there is no address to pay to", no_coin.source)
        return self.obstacle(payment, action)

    def offered(self, payment):
        """The names of the actions that are possible now."""
        return [action for action in ACTIONS if self.refusal(payment, action) is None]

    def advance(self, payment, now):
        """Let the clock work: confirm what confirms itself, then see whether the time is up."""
        for transfer in payment.transfers.filter(confirmed_at=None, confirm_at__lte=now):
            self._confirm(payment, transfer, now)
        if payment.status in self.open_statuses and payment.expires_at and now >= payment.expires_at:
            self.on_clock(payment, now)

    def choose(self, payment, now, currency="", network=""):
        """The payer takes a coin and a network: a new address, and the amount in that coin."""
        symbol, network = self.option(payment, currency, network)
        payment.pay_currency, payment.network = symbol, network
        if not (payment.address and self.one_address):
            payment.address = coins.new_address(network)
        payment.memo = new_number(8) if coins.NETWORKS[network].memo else ""
        payment.pay_amount = self.rest(payment)

    def pay(self, payment, now, amount=None, currency="", network=""):
        """The payer sends ``amount`` of the coin, or all that is asked."""
        if not self.is_static(payment):
            self._choose_for(payment, now, currency, network)
            amount = amount or self._positive_rest(payment)
        elif not amount:
            raise BadField("amount", "a static address asks for no amount: say one")
        else:
            payment.pay_currency, _ = self.option(payment, currency, network)
        self.receive(payment, now, amount)

    def pay_part(self, payment, now, amount=None, currency="", network=""):
        """The payer sends less than is asked, half of it if nothing is said."""
        self._choose_for(payment, now, currency, network)
        rest = self._positive_rest(payment)
        amount = amount or coins.round_up(rest / 2, payment.pay_currency)
        if amount >= rest:
            raise BadField("amount", f"a part is less than {rest} {payment.pay_currency}")
        self.receive(payment, now, amount)

    def pay_more(self, payment, now, amount=None, currency="", network=""):
        """The payer sends more than is asked, a tenth more if nothing is said."""
        self._choose_for(payment, now, currency, network)
        rest = self._positive_rest(payment)
        amount = amount or coins.round_up(rest * Decimal("1.1"), payment.pay_currency)
        if amount <= rest:
            raise BadField("amount", f"too much is more than {rest} {payment.pay_currency}")
        self.receive(payment, now, amount)

    def confirm(self, payment, now):
        """The network confirms every transfer that waits."""
        for transfer in payment.transfers.filter(confirmed_at=None):
            self._confirm(payment, transfer, now)

    def expire(self, payment, now):
        """The time is up: the deadline is moved to now."""
        payment.expires_at = now

    def _choose_for(self, payment, now, currency, network):
        named = (currency or payment.pay_currency, network or payment.network)
        if not payment.address or named != (payment.pay_currency, payment.network):
            symbol, network = self.option(payment, currency or payment.pay_currency, network)
            if payment.address and (symbol, network) == (payment.pay_currency, payment.network):
                return  # another name for the same network
            refusal = self.refusal(payment, "choose")
            if refusal:
                raise refusal
            self.choose(payment, now, symbol, network)

    def option(self, payment, currency, network):
        """The (symbol, network) that the payer named, completed from what is on offer. Raises ``BadField``."""
        options = self.options(payment)
        symbol = currency.upper() or options[0][0]
        networks = [key for coin, key in options if coin == symbol]
        if not networks:
            raise BadField("currency", f"one of {', '.join(dict(options))}")
        key = coins.find_network(network) if network else networks[0]
        if key not in networks:
            raise BadField("network", f"for {symbol} one of {', '.join(networks)}")
        return symbol, key

    def _positive_rest(self, payment):
        rest = self.rest(payment)
        if rest <= 0:
            raise Refused("nothing is left to pay", "the amount asked for was sent already")
        return rest

    def receive(self, payment, now, amount):
        """Money is seen on its way to the payment's address."""
        by_hand = misbehaviour.take(self.name, "confirm_by_hand")
        transfer = payment.transfers.create(
            tx_hash=coins.new_hash(payment.network),
            amount=amount,
            currency=payment.pay_currency,
            network=payment.network,
            address=payment.address,
            memo=payment.memo,
            sender=coins.new_address(payment.network),
            price=coins.usd_price(payment.pay_currency),
            late=bool(payment.expires_at and now >= payment.expires_at),
            seen_at=now,
            confirm_at=None if by_hand else now + timedelta(seconds=float(conf.get("CONFIRM_SECONDS"))),
        )
        self.on_money(payment, transfer, now)

    def _confirm(self, payment, transfer, now):
        transfer.confirmed_at = now
        transfer.save(update_fields=["confirmed_at"])
        self.on_money(payment, transfer, now)


def confirmations(transfer):
    """How many confirmations the network shows: one while it waits, then as many as it asks for."""
    return coins.NETWORKS[transfer.network].confirmations if transfer.confirmed else 1


def iso(moment):
    """ISO 8601 in UTC with milliseconds and a Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unix(moment):
    """Unix seconds."""
    return int(moment.timestamp())


def usd_sent(payment, **which):
    """What was sent to the payment, in USD, of the transfers that match."""
    return sum((transfer.usd for transfer in payment.transfers.filter(**which)), Decimal(0))
