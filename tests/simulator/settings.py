"""Settings with nothing but the simulator; the database file may be named by SIMULATOR_DATABASE."""

import os

SECRET_KEY = "only for tests"
CANARIES = {}  # no secrets here: tests/conftest.py asks
USE_TZ = True
TIME_ZONE = "UTC"
ALLOWED_HOSTS = ["127.0.0.1", "testserver"]
ROOT_URLCONF = "tests.simulator.urls"
INSTALLED_APPS = ["crypto_invoices.simulator"]
MIDDLEWARE = ["django.middleware.csrf.CsrfViewMiddleware"]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("SIMULATOR_DATABASE", ":memory:"),
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": "PRAGMA journal_mode=WAL;"},
    }
}
SIMULATOR = {"WORKER_INTERVAL": 0.02}
