"""``manage.py crypto_invoices reconcile | deliver | replay | accounts | doctor | simulate``."""

import json
import signal
import threading

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from crypto_invoices import callbacks, conf, delivery, doctor, reconcile
from crypto_invoices.models import CallbackReceipt
from crypto_invoices.orders import callback_url


class Command(BaseCommand):
    help = "Work on crypto invoices: poll gateways, deliver signals, look at accounts, drive the simulator."

    def add_arguments(self, parser):
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

        command = verbs.add_parser("reconcile", help="poll every attempt and static address that is due")
        _add_loop(command)
        command.add_argument("--limit", type=int, help="poll at most so many attempts in one round")
        command.add_argument("--concurrency", type=_count, default=4, metavar="N", help="ask so many at a time (4)")

        command = verbs.add_parser("deliver", help="call the receivers of every event that is due")
        _add_loop(command)

        command = verbs.add_parser("replay", help="process a stored callback again")
        command.add_argument("receipt", type=int, help="the receipt's number, as the admin shows it")

        verbs.add_parser("accounts", help="what each account can do, where its callbacks arrive, which coins it takes")

        verbs.add_parser("doctor", help="try every account: credentials, clock, callback URL; exit status 1 if one is ill")

        command = verbs.add_parser("simulate", help="change a payment at the simulator")
        command.add_argument("action", help="pay, pay_part, pay_more, confirm, expire, accept, refund, ... or list")
        command.add_argument("payment", nargs="?", help="the gateway's id of the payment")
        command.add_argument("--gateway", default="oxapay")
        command.add_argument("--url", default="http://127.0.0.1:8001/simulator/", help="where the simulator listens")
        command.add_argument("--amount", help="for pay_part and pay_more")
        command.add_argument("--currency", help="the coin, such as USDT")
        command.add_argument("--network", help="its network, such as tron")

    def handle(self, *, verb, **options):
        getattr(self, f"handle_{verb}")(**options)

    def handle_reconcile(self, *, loop, interval, limit, concurrency, **options):
        def once(stopped):
            due = reconcile.count_due()
            with tqdm(total=min(due, limit or due), unit="poll", disable=None, file=self.stderr) as bar:
                report = reconcile.reconcile(
                    limit=limit, concurrency=concurrency, progress=lambda row: bar.update(), stopped=stopped
                )
            for receipt in reconcile.unmatched_receipts():
                callbacks.replay(receipt)
            counts = (f"{name} {getattr(report, name)}" for name in ("polled", "changed", "expired", "failed", "paused"))
            self.stdout.write(", ".join(counts))

        self._repeat(once, loop, interval)

    def handle_deliver(self, *, loop, interval, **options):
        self._repeat(lambda stopped: self.stdout.write(f"delivered events of {delivery.sweep()} invoices"), loop, interval)

    def handle_replay(self, *, receipt, **options):
        stored = CallbackReceipt.objects.filter(pk=receipt).first()
        if stored is None:
            raise CommandError(f"There is no callback {receipt}.")
        answer = callbacks.replay(stored)
        stored.refresh_from_db()
        self.stdout.write(f"answer {answer.status}, verdict {stored.verdict} {stored.reason}".rstrip())

    def handle_accounts(self, **options):
        rows = [("account", "gateway", "sandbox", "can", "callbacks arrive at")]
        coins = {}
        for alias in conf.account_aliases():
            try:
                provider = conf.provider_for(alias)
                coins[alias] = provider.pay_currencies
                can = ", ".join(sorted(capability.value for capability in provider.capabilities))
                url = callback_url(provider, "REFERENCE").rsplit("REFERENCE", 1)[0]
                rows.append((alias, provider.name, "yes" if provider.sandbox else "no", can, url))
            except ImproperlyConfigured as error:
                rows.append((alias, "-", "-", str(error), "-"))
        self._table(rows)
        self.stdout.write("\npay_currencies, and each gateway's words for them")
        every = sorted({coin for accepted in coins.values() for coin in accepted})
        self._table([("coin", *coins), *((coin, *(_words(accepted.get(coin)) for accepted in coins.values())) for coin in every)])

    def handle_doctor(self, **options):
        findings = [doctor.examine(alias) for alias in conf.account_aliases()]
        names = ("account", "gateway", "credentials", "clock", "callbacks")
        self._table([names, *(tuple(getattr(finding, name) for name in names) for finding in findings)])
        ill = [finding.account for finding in findings if not finding.healthy]
        if ill:
            raise CommandError(f"Not in order: {', '.join(ill)}")

    def _table(self, rows):
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            self.stdout.write("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())

    def handle_simulate(self, *, action, payment, gateway, url, amount, currency, network, **options):
        from crypto_invoices.simulator.client import SimulatorClient

        client = SimulatorClient(url)
        if action == "list":
            result = client.payments(gateway=gateway)
        elif not payment:
            raise CommandError("Which payment? Give the gateway's id; `simulate list` shows them.")
        else:
            fields = {"amount": amount, "currency": currency, "network": network}
            result = client.act(gateway, payment, action, **{name: value for name, value in fields.items() if value})
        self.stdout.write(json.dumps(result, indent=2, default=str))

    def _repeat(self, once, loop, interval):
        stop = threading.Event()
        if not loop:
            once(stop.is_set)
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *args: stop.set())
        while not stop.is_set():
            once(stop.is_set)
            stop.wait(interval)


def _count(text):
    number = int(text)
    if not 1 <= number <= 64:
        raise ValueError
    return number


def _words(words):
    """A gateway's words for a coin: a text, or several of which some are empty."""
    return "-" if words is None else words if isinstance(words, str) else " ".join(word for word in words if word)


def _add_loop(command):
    command.add_argument("--loop", action="store_true", help="go on until stopped")
    command.add_argument("--interval", type=float, default=5.0, help="seconds between two rounds of --loop")
