"""``manage.py crypto_invoices reconcile | deliver | replay | accounts | doctor | simulate``."""

import argparse
import json
import logging
import signal
import threading

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import close_old_connections
from tqdm import tqdm

from crypto_invoices import callbacks, conf, delivery, doctor, reconcile
from crypto_invoices.models import CallbackReceipt
from crypto_invoices.orders import callback_url
from crypto_invoices.simulator.client import SIMULATOR_URL, SimulatorClient, SimulatorError

logger = logging.getLogger("crypto_invoices.command")


class Command(BaseCommand):
    help = "Work on crypto invoices: poll gateways, deliver signals, look at accounts, drive the simulator."
    requires_system_checks = []  # one wrong account stops neither the work on the others nor the verbs that tell what is wrong

    def add_arguments(self, parser):
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

        command = verbs.add_parser("reconcile", help="poll every attempt and static address that is due")
        _add_loop(command)
        command.add_argument("--limit", type=int, help="poll at most so many attempts in one round")
        command.add_argument("--concurrency", type=_count, default=4, metavar="N", help="ask so many at a time, 1 to 64 (4)")

        command = verbs.add_parser("deliver", help="call the receivers of every event that is due")
        _add_loop(command)

        command = verbs.add_parser("replay", help="process a stored callback again")
        command.add_argument("receipt", type=int, help="the receipt's number, as the admin shows it")

        verbs.add_parser("accounts", help="what each account can do, where its callbacks arrive, which coins it takes")

        verbs.add_parser("doctor", help="try every account: credentials, clock, callback URL; exit status 1 if one is ill")

        command = verbs.add_parser("simulate", help="change a payment at the simulator")
        command.add_argument("action", help="pay, pay_part, pay_more, confirm, expire, accept, refund, ... or list")
        command.add_argument("payment", nargs="?", help="the gateway's id of the payment")
        command.add_argument("--gateway", help="the gateway's name there, such as txn (oxapay); list shows all without it")
        command.add_argument("--url", default=SIMULATOR_URL, help=f"where the simulator listens ({SIMULATOR_URL})")
        command.add_argument("--amount", help="for pay_part and pay_more")
        command.add_argument("--currency", help="the coin, such as USDT")
        command.add_argument("--network", help="its network, such as tron")

    def handle(self, *, verb, **options):
        try:
            getattr(self, f"handle_{verb}")(**options)
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from None

    def handle_reconcile(self, *, loop, interval, limit, concurrency, **options):
        def once(stopped):
            due = reconcile.count_due()
            with tqdm(total=min(due, limit or due), unit="poll", disable=None, file=self.stderr) as bar:
                report = reconcile.reconcile(
                    limit=limit, concurrency=concurrency, progress=lambda row: bar.update(), stopped=stopped
                )
            _replay_unmatched()
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
        coins = {}
        for alias in conf.account_aliases():
            try:
                provider = conf.provider_for(alias)
            except ImproperlyConfigured as error:
                self.stdout.write(f"{alias}: {error}\n\n")
                continue
            coins[alias] = provider.pay_currencies
            self.stdout.write(f"{alias}: {provider.name}, {'sandbox' if provider.sandbox else 'live'}")
            self.stdout.write(f"  can: {', '.join(sorted(provider.capabilities)).replace('_', ' ') or 'make hosted invoices'}")
            self.stdout.write(f"  callbacks: {_callbacks(provider)}\n\n")
        self.stdout.write("pay_currencies, and each gateway's words for them")
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
        client = SimulatorClient(url)
        fields = {"amount": amount, "currency": currency, "network": network}
        if action != "list" and not payment:
            raise CommandError("Which payment? Give the gateway's id; `simulate list` shows them.")
        try:
            if action == "list":
                result = client.payments(gateway=gateway)
            else:
                result = client.act(gateway or "oxapay", payment, action, **fields)
        except SimulatorError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(json.dumps(result, indent=2, default=str))

    def _repeat(self, once, loop, interval):
        stop = threading.Event()
        if not loop:
            once(stop.is_set)
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *args: stop.set())
        while not stop.is_set():
            try:
                once(stop.is_set)
            except Exception:
                logger.exception("this round failed; the next one begins in %s s", interval)
                close_old_connections()  # a database that went away is asked anew
            stop.wait(interval)


def _count(text):
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 64):
        raise argparse.ArgumentTypeError("1 to 64")
    return int(text)


def _replay_unmatched():
    for receipt in reconcile.unmatched_receipts():
        try:
            callbacks.replay(receipt)
        except ImproperlyConfigured as error:
            logger.error("callback %s of account %s cannot be processed again: %s", receipt.pk, receipt.account, error)


def _callbacks(provider):
    """Where an account's callbacks arrive; each request names the rest of the address, unless it is typed into a dashboard."""
    try:
        url = callback_url(provider, "REFERENCE")
    except ImproperlyConfigured as error:
        return str(error)
    return f"type into the dashboard: {url}" if provider.account_callbacks else f"arrive under {url.rsplit('REFERENCE', 1)[0]}"


def _words(words):
    """A gateway's words for a coin: a text, or several of which some are empty."""
    return "-" if words is None else words if isinstance(words, str) else " ".join(word for word in words if word)


def _add_loop(command):
    command.add_argument("--loop", action="store_true", help="go on until stopped")
    command.add_argument("--interval", type=float, default=5.0, help="seconds between two rounds of --loop")
