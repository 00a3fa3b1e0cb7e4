"""The gateways that the shop talks to: the simulator, alone in its own process with its own database."""

from .environment import KEYS, env, sqlite

DEBUG = True
SECRET_KEY = "for-development-only-" + "y" * 40
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

# This merchant pays the gateways' fees: what arrives is the price. Where the payer bears them, less counts than was sent, and
# which of a gateway's fields then says what is not always documented.
SIMULATOR = {
    "OXAPAY": {"MERCHANT_API_KEYS": [KEYS["oxapay"]], "COMMISSION_PERCENT": 0},
    "GOODPAYMENTS": {"API_KEYS": [KEYS["goodpayments"]], "CLIENT_PAYS_FEE": False},
    "TXCASH": {"API_KEYS": [KEYS["txcash"]]},
    "TXN": {
        "API_KEYS": [KEYS["txn"]],
        "SANDBOX": False,
        # Typed into the dashboard there: what ``manage.py crypto_invoices accounts`` prints. Without it, txn.io is only polled.
        "WEBHOOK_URL": env.str("SIMULATOR_TXN_WEBHOOK_URL", default=""),
    },
    "ONCHAINPAY": {"KEY_PAIRS": {KEYS["onchainpay"]: KEYS["onchainpay_secret"]}},
}

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.staticfiles",
    "crypto_invoices.simulator",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    },
]

ROOT_URLCONF = "example_project.simulator_urls"
WSGI_APPLICATION = "example_project.wsgi.application"
DATABASES = {"default": sqlite("simulator.sqlite3")}
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
