import os
import secrets

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections

SERVICES = {"postgres": "postgresql", "mariadb": "mysql"}


def pytest_report_header():
    return f"database: {connections['default'].vendor}"


def pytest_runtest_setup(item):
    for mark, vendor in SERVICES.items():
        if item.get_closest_marker(mark) and connections["default"].vendor != vendor:
            pytest.fail(f"needs {mark}: set DATABASE_URL", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A secret in what a test printed or logged is a failure."""
    report = yield
    for title, text in report.sections if report.when == "teardown" else ():  # the sections of all phases
        for name, canary in settings.CANARIES.items():
            if canary in text:
                report.outcome = "failed"
                report.longrepr = f"the secret {name!r} stands in: {title}"
    return report


@pytest.fixture
def process_database(tmp_path, django_db_blocker):
    """A migrated database of its own which other processes open as well; yields their environment.

    Meanwhile this process uses it as the default connection, with real commits and without the usual roll-back.
    """
    before, old = connections.settings["default"], connections["default"]
    with django_db_blocker.unblock():
        if old.vendor == "sqlite":
            name = str(tmp_path / "shop.sqlite3")
            url = f"sqlite:///{name}"
        else:
            name = f"test_{secrets.token_hex(6)}"
            url = os.environ["DATABASE_URL"].rpartition("/")[0] + f"/{name}"
            with old._nodb_cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {name}")
        connections.settings["default"] = {**before, "NAME": name}
        connections["default"] = connections.create_connection("default")
        try:
            call_command("migrate", verbosity=0)
            yield {
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "tests.settings",
                "DATABASE_URL": url,
            }
        finally:
            connections["default"].close()
            connections.settings["default"] = before
            connections["default"] = old
            if old.vendor != "sqlite":
                with old._nodb_cursor() as cursor:
                    force = " WITH (FORCE)" if old.vendor == "postgresql" else ""
                    cursor.execute(f"DROP DATABASE {name}{force}")
