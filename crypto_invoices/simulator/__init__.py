"""A stand-in for hosted crypto gateways: it speaks their wire protocols, for development, demonstrations and tests.

It runs as its own process with its own database, never beside a live shop. Its project needs this app, a template engine
with ``APP_DIRS``, ``path("simulator/", include("crypto_invoices.simulator.urls"))`` and, since callbacks are delivered from
a thread while requests are served, a SQLite file that lets a writer wait its turn::

    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": BASE_DIR / "var" / "simulator.sqlite3",
            "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": "PRAGMA journal_mode=WAL;"},
        }
    }

Start it with ``manage.py run_simulator --migrate``: common servers drop ``merchant_api_key`` and every other
header with an underscore, this one keeps them. Settings: see ``conf``. A gateway is one module of this package with a
``GATEWAY``; it is found by its name, no list names it.
"""
