from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class CryptoInvoicesConfig(AppConfig):
    name = "crypto_invoices"
    verbose_name = _("Crypto invoices")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self):
        from . import checks  # noqa: F401 -- registers the system checks
