"""Starts everything, tells the stories, prints the table, and goes on serving."""

import argparse
import secrets
import shutil
import signal
import sys
import time

import requests

from crypto_invoices.simulator.client import SimulatorError
from example_project.environment import BASE_DIR, KEYS

from .processes import DemoError, Processes, is_free
from .stories import tell_all
from .table import render, verdict

STAFF = "staff"


def main():
    options = read_options()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts it in the background ignores it
    for port in (options.port, options.port + 1):
        if not is_free(port):
            print(f"Port {port} of 127.0.0.1 is taken. Stop what listens there, or choose: make demo ARGS='--port 8100'")
            return 2
    try:
        return Demo(options.port).run(options.once)
    except (DemoError, SimulatorError, requests.RequestException) as error:
        print(f"\nThe demo cannot go on: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def read_options():
    parser = argparse.ArgumentParser(prog="python -m example_project.demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the table: 0 when every row is as promised, else 1")
    parser.add_argument("--port", type=int, default=8000, help="the shop's port (8000); the simulator takes the next one")
    options = parser.parse_args()
    if not 1 <= options.port < 65535:
        parser.error("--port must be a number from 1 to 65534")
    return options


class Demo:
    def __init__(self, port):
        self.started = time.monotonic()
        self.port = port
        self.site = f"http://127.0.0.1:{port}"
        self.simulator_url = f"http://127.0.0.1:{port + 1}/simulator/"
        self.password = secrets.token_urlsafe(9)
        self.keys = {name: secrets.token_urlsafe(32) for name in KEYS}
        self.login = (STAFF, self.password)
        self.directory = BASE_DIR / "var" / f"demo-{port}"  # databases and logs, new each time
        self.crash_file = self.directory / "crash-on-next-signal"  # as in the shop's settings
        environment = {
            "DJANGO_SETTINGS_MODULE": "example_project.settings",
            "DJANGO_SUPERUSER_PASSWORD": self.password,
            # What a ``.env`` may say otherwise: the demo must never talk to a real gateway.
            "VAR_DIR": str(self.directory),
            "DEBUG": "True",
            "ALLOWED_HOSTS": "127.0.0.1",
            "BASE_URL": self.site,
            "CRYPTO_INVOICES_ACCOUNTS": "",
            "SIMULATOR_URL": self.simulator_url,
            **{f"SIMULATOR_{name.upper()}_KEY": key for name, key in self.keys.items()},
        }
        self.processes = Processes(self.directory, environment)

    def run(self, once):
        """The exit code."""
        if self.directory.exists():
            shutil.rmtree(self.directory)
        self.directory.mkdir(parents=True)
        with self.processes:
            self.start()
            groups = tell_all(self)
            text, is_good = verdict(groups)
            print(f"\n{render(groups)}\n\n{text}", flush=True)
            if not once:
                self.serve()
        return 0 if is_good else 1

    def start(self):
        self.say("migrating, creating the staff user and the products, starting the shop and the gateways' simulator")
        self.processes.run("accounts", "crypto_invoices", "accounts")
        self.processes.start(
            "simulator", "run_simulator", f"127.0.0.1:{self.port + 1}", "--migrate",
            DJANGO_SETTINGS_MODULE="example_project.simulator_settings",
            SIMULATOR_TXN_WEBHOOK_URL=self.callback_address("txn"),
        )  # fmt: skip
        self.processes.run("migrate", "migrate", "--no-input")
        self.processes.run("staff", "createsuperuser", "--no-input", "--username", STAFF, "--email", "staff@example.com")
        self.processes.run("products", "seed_shop")
        self.start_shop()
        self.processes.wait_for("simulator", lambda: serves(self.simulator_url))

    def callback_address(self, account):
        """Where a gateway's callbacks arrive: at txn.io a merchant types it into the dashboard."""
        words = self.processes.log("accounts").read_text().split()
        return next(word for word in words if word.startswith(self.site) and f"/{account}/" in word)

    def start_shop(self):
        self.processes.start("shop", "runserver", f"127.0.0.1:{self.port}", "--noreload")
        self.processes.wait_for("shop", lambda: serves(self.site))

    def serve(self):
        """Until Ctrl-C or SIGTERM. A shop that was killed, as ``shop/crash.py`` does, is started again."""
        print(
            f"\nShop       {self.site}/\nAdmin      {self.site}/admin/   user {STAFF}, password {self.password}\n"
            f"Simulator  {self.simulator_url}\nLogs       {self.directory}\nCtrl-C stops everything.",
            flush=True,
        )
        try:
            while True:
                time.sleep(1)
                if self.processes.running["shop"].poll() is not None:
                    self.say("the shop's process ended; it is started again")
                    self.start_shop()
        except (KeyboardInterrupt, SystemExit):
            print("\nStopping.", flush=True)

    def say(self, text):
        print(f"{time.monotonic() - self.started:6.1f} s  {text}", flush=True)


def serves(url):
    try:
        return requests.get(url, timeout=60, proxies={"http": ""}).ok
    except requests.ConnectionError:
        return False


if __name__ == "__main__":
    sys.exit(main())
