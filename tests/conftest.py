import pytest
from django.conf import settings
from django.db import connections

from crypto_invoices import callbacks

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


@pytest.fixture(autouse=True)
def fresh_log_limit():
    """Each test may see the first lines of a kind in a minute."""
    callbacks._logged.clear()
