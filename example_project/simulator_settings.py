"""The gateway that the shop talks to: the simulator, alone in its own process with its own database."""

from .environment import SIMULATOR_KEY, sqlite

DEBUG = True
SECRET_KEY = "for-development-only-" + "y" * 40
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]

SIMULATOR = {
    # This merchant pays no commission. With one, less arrives than the payer sent, and which of OxaPay's fields then says
    # what is not documented.
    "OXAPAY": {"MERCHANT_API_KEYS": [SIMULATOR_KEY], "COMMISSION_PERCENT": 0},
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
