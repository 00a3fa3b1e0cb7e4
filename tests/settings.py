"""The suite's settings. ``DATABASE_URL`` chooses the database:

* not set: SQLite; the test database is in memory
* ``sqlite:////tmp/shop.sqlite3``: the test database is a file, too, which other threads and processes may open
* ``postgres://postgres@127.0.0.1:5432/test``, ``mysql://root@127.0.0.1:3306/test``
"""

from pathlib import Path

import django
import environ

env = environ.Env()
BASE_DIR = Path(__file__).resolve().parent.parent

DATABASES = {"default": env.db("DATABASE_URL", default=f"sqlite:///{BASE_DIR}/var/test.sqlite3")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
    if "DATABASE_URL" in env.ENVIRON:
        path = Path(DATABASES["default"]["NAME"])
        DATABASES["default"]["TEST"] = {"NAME": str(path.with_name(f"test_{path.name}"))}

# What must never stand in a log, a page, an error or a dump. conftest.py looks for each of them in all captured output.
CANARIES = {
    "default": "CANARY-DEFAULT-7Q2M-X4ZK-93VB-LT6H",
    "second": "CANARY-SECOND-5R8N-W1YC-60PD-GS7J",
    "django": "canary-django-2b1f6c0d9e8a7435-secret-key-of-the-suite",
}

SECRET_KEY = CANARIES["django"]
DEBUG = False
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1", "shop.example"]
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
MAILERS = {
    "default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}
}  # Django 6.1; the test runner sees to the others
ADMINS = ["staff@shop.example"] if django.VERSION >= (6, 0) else [("Staff", "staff@shop.example")]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "crypto_invoices",
    "crypto_invoices.simulator",
    "example_project.shop",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]


def oxapay(alias):
    return {
        "PROVIDER": "crypto_invoices.providers.oxapay.OxaPay",
        "OPTIONS": {"merchant_api_key": CANARIES[alias], "base_url": "http://127.0.0.1:9/v1"},  # nothing listens there
    }


CRYPTO_INVOICES = {
    "BASE_URL": "https://shop.example",
    "ACCOUNTS": {"default": oxapay("default"), "second": oxapay("second")},
}
