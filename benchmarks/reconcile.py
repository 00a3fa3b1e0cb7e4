"""How fast due attempts are polled: ours against a bare loop that only fetches, on PostgreSQL.

    python -m benchmarks.reconcile [--due 2000] [--latency 50] [--concurrency 16] [--rounds 5] [--memory 100000]

A local server answers each question after ``--latency`` milliseconds. The bare loop fetches the same URLs with pooled
``requests`` sessions in as many threads and does nothing else. The two take turns; rates are medians. ``--memory`` polls
that many due attempts once, without latency, and tells how far the process grew above its size at the start. Exit status 1
tells that a limit was missed.
"""

import argparse
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import requests

from .project import KEY, configure, make_database

SHARE = 0.7  # of the bare loop's rate
GROWTH = 60  # MiB


def main():
    options = read_options()
    gateway, base_url = start_gateway(options.latency)
    try:
        make_database(configure(options.database, base_url))
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        good = compare(options, base_url) if options.rounds else True
    finally:
        gateway.terminate()
    if options.memory:
        good = measure_growth(options) and good
    return 0 if good else 1


def read_options():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reconcile", description=__doc__)
    parser.add_argument("--due", type=int, default=2000, help="attempts that are due (2000)")
    parser.add_argument("--latency", type=int, default=50, help="milliseconds of each answer (50)")
    parser.add_argument("--concurrency", type=int, default=16, help="questions at a time (16)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (5)")
    parser.add_argument("--memory", type=int, default=0, help="attempts of the run whose memory is measured (none)")
    parser.add_argument("--database", default="postgres://postgres@127.0.0.1:5432/postgres")
    return parser.parse_args()


def start_gateway(latency):
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.slow_gateway", str(latency)], stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    return process, f"http://127.0.0.1:{int(process.stdout.readline())}/v1"


def compare(options, base_url):
    make_attempts(options.due)
    rates = {"ours": [], "bare loop": []}
    for _ in range(options.rounds):
        make_due()
        rates["ours"].append(options.due / timed(lambda: poll_all(options)))
        rates["bare loop"].append(options.due / timed(lambda: fetch_all(options, base_url)))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    share = medians["ours"] / medians["bare loop"]
    print(f"{options.due} due attempts, {options.latency} ms latency, {options.concurrency} at a time, {options.rounds} rounds")
    for name, rate in medians.items():
        print(f"{name:12}{rate:8.1f} attempts/s")
    print(f"share of the bare loop's rate {share:.2f}, at least {SHARE}")
    return share >= SHARE


def timed(work):
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def poll_all(options):
    from crypto_invoices.reconcile import reconcile

    report = reconcile(concurrency=options.concurrency)
    if (report.polled, report.changed, report.failed) != (options.due, 0, 0):
        sys.exit(f"not every attempt was polled: {report}")


def fetch_all(options, base_url):
    """What anybody would write who only wants the answers: one pooled session a thread."""
    local = threading.local()

    def fetch(track_id):
        if not hasattr(local, "session"):
            local.session = requests.Session()
            local.session.trust_env = False
        answer = local.session.get(f"{base_url}/payment/{track_id}", headers={"merchant_api_key": KEY}, timeout=20)
        answer.raise_for_status()
        return answer.json()

    with ThreadPoolExecutor(options.concurrency) as threads:
        if len(list(threads.map(fetch, range(1, options.due + 1)))) != options.due:
            sys.exit("not every attempt was fetched")


def make_attempts(count):
    from django.utils import timezone

    from crypto_invoices.models import Invoice, PaymentAttempt

    now = timezone.now()
    common = {
        "account": "default", "provider": "crypto_invoices.providers.oxapay.OxaPay", "identity": "benchmark", "amount": 25,
        "currency": "USDT", "state": "open", "gateway_status": "waiting", "expires_at": now.replace(year=2100, month=1, day=1),
    }  # fmt: skip
    PaymentAttempt.objects.all().delete()
    Invoice.objects.all().delete()
    for start in range(1, count + 1, 2000):
        numbers = range(start, min(start + 2000, count + 1))
        invoices = Invoice.objects.bulk_create(Invoice(amount=25, currency="USDT", version=1) for _ in numbers)
        PaymentAttempt.objects.bulk_create(
            PaymentAttempt(
                invoice=invoice, live_key=invoice.pk, gateway_id=str(number), reference=str(number).rjust(26, "R"), **common
            )
            for number, invoice in zip(numbers, invoices, strict=True)
        )
    make_due()
    settle()


def settle():
    """What the attempts' first answers tell, such as the expiry's exact time, is not news in the rounds that are measured."""
    from datetime import UTC, datetime

    from crypto_invoices.models import PaymentAttempt

    PaymentAttempt.objects.update(expires_at=datetime.fromtimestamp(4102444800, UTC), tolerance=0)


def make_due():
    from django.utils import timezone

    from crypto_invoices.models import PaymentAttempt

    PaymentAttempt.objects.update(next_poll_at=timezone.now() - timedelta(minutes=1))


def measure_growth(options):
    from django.conf import settings

    from crypto_invoices.reconcile import reconcile

    gateway, base_url = start_gateway(0)
    account = settings.CRYPTO_INVOICES["ACCOUNTS"]["default"]
    settings.CRYPTO_INVOICES = {
        **settings.CRYPTO_INVOICES,
        "ACCOUNTS": {"default": {**account, "OPTIONS": {**account["OPTIONS"], "base_url": base_url}}},
    }
    try:
        make_attempts(100)
        reconcile(concurrency=options.concurrency)  # imports, connections and plans are not growth
        make_attempts(options.memory)
        start, largest = resident(), 0.0

        def watch(attempt):
            nonlocal largest
            largest = max(largest, resident()) if attempt.pk % 500 == 0 else largest

        report = reconcile(concurrency=options.concurrency, progress=watch)
    finally:
        gateway.terminate()
    growth = max(largest, resident()) - start
    print(f"{report.polled} due attempts in one run: {growth:.1f} MiB above the start of {start:.0f} MiB, at most {GROWTH}")
    return report.polled == options.memory and growth < GROWTH


def resident():
    """MiB of memory that this process has now."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


if __name__ == "__main__":
    sys.exit(main())
