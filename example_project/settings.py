"""A small shop. Everything that a deployment changes comes from the environment or from ``.env``."""

from crypto_invoices.conf import accounts_from_env

from .environment import KEYS, SIMULATOR_URL, VAR_DIR, env, sqlite

DEBUG = env.bool("DEBUG", default=True)
SECRET_KEY = env.str("SECRET_KEY", default="for-development-only-" + "x" * 40 if DEBUG else env.NOTSET)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[])


def simulated(provider, path, **options):
    """An account at the simulator, which plays every gateway."""
    return {"PROVIDER": f"crypto_invoices.providers.{provider}", "OPTIONS": {"base_url": f"{SIMULATOR_URL}/{path}", **options}}


CRYPTO_INVOICES = {
    "BASE_URL": env.str("BASE_URL", default="http://127.0.0.1:8000"),
    "ACCOUNTS": accounts_from_env(env)
    or {
        "default": simulated("oxapay.OxaPay", "oxapay/v1", merchant_api_key=KEYS["oxapay"]),
        "goodpayments": simulated("goodpayments.GoodPayments", "goodpayments/v1/api", api_key=KEYS["goodpayments"]),
        "txcash": simulated("txcash.TxCash", "txcash/invoice/v1/testnet", api_key=KEYS["txcash"]),
        "txn": simulated("txn.Txn", "txn/api/public/v1", api_key=KEYS["txn"]),
        "onchainpay": simulated(
            "onchainpay.OnchainPay",
            "onchainpay/api-gateway",
            public_key=KEYS["onchainpay"],
            secret_key=KEYS["onchainpay_secret"],
        ),
    },
}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "crypto_invoices",
    "example_project.shop",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
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

ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
DATABASES = {"default": sqlite("shop.sqlite3")}
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"crypto_invoices": {"handlers": ["console"], "level": "INFO"}},
}

# The demo kills the shop with this file between the commit of a payment and its signal; only with DEBUG.
SHOP_CRASH_FILE = VAR_DIR / "crash-on-next-signal"
