"""The project that the benchmarks run in: a database of its own and one account."""

import sys

import django
import environ
from django.conf import settings

DATABASE = "crypto_invoices_benchmark"
KEY = "BENCHM-BENCHM-BENCHM-BENCHM"


def configure(url, base_url="http://127.0.0.1:9/v1"):
    """Sets Django up on an empty database of its own; nothing listens at the default ``base_url``."""
    database = environ.Env.db_url_config(url) | {"NAME": DATABASE, "CONN_MAX_AGE": None}
    settings.configure(
        SECRET_KEY="benchmark-" * 5,
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF="benchmarks.urls",
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        DATABASES={"default": database},
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "crypto_invoices", "benchmarks"],
        MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
        CRYPTO_INVOICES={
            "BASE_URL": "https://shop.example",
            "ACCOUNTS": {
                "default": {
                    "PROVIDER": "crypto_invoices.providers.oxapay.OxaPay",
                    "OPTIONS": {"merchant_api_key": KEY, "base_url": base_url},
                }
            },
        },
    )
    django.setup()
    return database


def make_database(database):
    """Makes the database anew; ends the program where commits would not be durable."""
    import psycopg

    server = {"host": database["HOST"], "port": database["PORT"] or 5432, "user": database["USER"], "autocommit": True}
    server |= {"password": database["PASSWORD"]} if database["PASSWORD"] else {}
    with psycopg.connect(dbname="postgres", **server) as connection:
        for name in ("fsync", "synchronous_commit"):
            value = connection.execute(f"SHOW {name}").fetchone()[0]
            if value != "on":
                sys.exit(f"{name} is {value}: the figures would not be those of durable commits")
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
        connection.execute(f"CREATE DATABASE {DATABASE}")
