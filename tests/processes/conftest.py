"""Real processes on real databases: SQLite as a file (WAL, IMMEDIATE) and PostgreSQL.

With ``DATABASE_URL`` the tests run on that server only. Without it they run on SQLite and, where its driver is installed,
on PostgreSQL at 127.0.0.1:5432 (user postgres, no password); a server that does not answer fails them.
"""

import importlib.util
import itertools
import os
import shutil
from contextlib import contextmanager

import environ
import pytest
from django.core.management import call_command
from django.db import connections
from django.db.utils import ConnectionHandler
from django.test import override_settings

from tests.processes.forks import Process
from tests.processes.gateway import KEY, StubGateway
from tests.processes.shop import Shop

POSTGRESQL = "postgres://postgres@127.0.0.1:5432/postgres"
SQLITE = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 60,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
}
numbers = itertools.count(1)


def databases():
    given = os.environ.get("DATABASE_URL", "")
    if given:
        return ["sqlite"] if given.startswith("sqlite") else ["postgresql"]
    return ["sqlite", "postgresql"] if importlib.util.find_spec("psycopg") else ["sqlite"]


def pytest_generate_tests(metafunc):
    if "vendor" in metafunc.fixturenames:
        only = metafunc.definition.get_closest_marker("only")
        wanted = only.args if only else ("sqlite", "postgresql")
        metafunc.parametrize("vendor", wanted, scope="session")


def pytest_collection_modifyitems(config, items):
    """What belongs to another database than this run's is left out."""

    def is_ours(item):
        return not hasattr(item, "callspec") or item.callspec.params.get("vendor", databases()[0]) in databases()

    config.hook.pytest_deselected(items=[item for item in items if not is_ours(item)])
    items[:] = [item for item in items if is_ours(item)]


def pytest_configure(config):
    config.addinivalue_line("markers", "only(*vendors): of the processes tests, needs one of these databases")


class _Server:
    """Where databases are made and dropped: a folder, or a PostgreSQL server."""

    def __init__(self, vendor, folder):
        self.vendor = vendor
        self.folder = folder
        self.template = None

    def create(self, name):
        """Settings of a new database with all tables; the first one is migrated, the others are copies of it."""
        if self.template is None:
            template = f"crypto_invoices_template_{os.getpid()}"
            self._make(template)
            with using(self.settings(template)):
                call_command("migrate", verbosity=0)
            self.template = template
        self._make(name, self.template)
        return self.settings(name)

    def settings(self, name):
        if self.vendor == "sqlite":
            chosen = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(self.folder / name), "OPTIONS": SQLITE}
        else:
            url = os.environ.get("DATABASE_URL", POSTGRESQL)
            chosen = environ.Env.db_url_config(url) | {"NAME": name}
        return ConnectionHandler({"default": chosen | {"CONN_MAX_AGE": None}}).settings["default"]

    def _make(self, name, template=None):
        if self.vendor == "postgresql":
            self._tell(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
        elif template:
            shutil.copyfile(self.folder / template, self.folder / name)

    def drop(self, name):
        if self.vendor == "postgresql":
            self._tell(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        else:
            for path in self.folder.glob(f"{name}*"):
                path.unlink()

    def _tell(self, statement):
        settings = self.settings("postgres")
        handler = ConnectionHandler({"default": settings})
        with handler["default"].cursor() as cursor:
            cursor.execute(statement)
        handler.close_all()


@contextmanager
def using(settings):
    """The default connection of this process, and of those that it forks, leads to another database."""
    before, old = connections.settings["default"], connections["default"]
    connections.settings["default"] = settings
    connections["default"] = connections.create_connection("default")
    try:
        yield
    finally:
        connections["default"].close()
        connections.settings["default"] = before
        connections["default"] = old


@pytest.fixture(scope="session")
def server(vendor, tmp_path_factory, django_db_blocker):
    server = _Server(vendor, tmp_path_factory.mktemp(vendor))
    with django_db_blocker.unblock():
        yield server
        if server.template:
            server.drop(server.template)


@pytest.fixture
def database(server):
    """A database of this test's own."""
    name = f"crypto_invoices_{next(numbers)}_{os.getpid()}"
    try:
        with using(server.create(name)):
            yield connections["default"]
    finally:
        server.drop(name)


@pytest.fixture
def start(database):
    """Starts processes, ``start(work, *args)``; none of them outlives the test, and its database."""
    processes = []

    def start_one(work, *args):
        processes[:] = [process for process in processes if process.status is None]
        processes.append(Process(work, *args))
        return processes[-1]

    yield start_one
    for process in processes:
        process.close()


@pytest.fixture
def gateway(start):
    gateway = StubGateway()
    start(gateway.serve)
    gateway.server.server_close()
    return gateway


@pytest.fixture
def package_settings(gateway):
    """``CRYPTO_INVOICES`` of the test; ``package_settings(DISPATCH="worker")`` changes it."""
    options = {"merchant_api_key": KEY, "base_url": gateway.base_url}
    account = {"PROVIDER": "crypto_invoices.providers.oxapay.OxaPay", "OPTIONS": options}
    given = {"BASE_URL": "https://shop.example", "ACCOUNTS": {"default": account}}
    active = []

    def change(**changes):
        while active:
            active.pop().disable()
        active.append(override_settings(CRYPTO_INVOICES=given | changes))
        active[-1].enable()

    change()
    yield change
    active.pop().disable()


@pytest.fixture
def shop(database, package_settings, tmp_path):
    """The shop's receivers, connected instead of all others, and its books."""
    shop = Shop(tmp_path)
    shop.open()
    yield shop
    shop.close()
