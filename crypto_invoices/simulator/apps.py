from django.apps import AppConfig
from django.core import checks
from django.core.exceptions import ImproperlyConfigured


class SimulatorConfig(AppConfig):
    name = "crypto_invoices.simulator"
    label = "crypto_invoices_simulator"
    verbose_name = "Gateway simulator"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self):
        checks.register(_check_settings)
        checks.register(_check_not_deployed, deploy=True)


def _check_settings(app_configs, **kwargs):
    from . import conf

    try:
        conf.check()
    except ImproperlyConfigured as error:
        return [checks.Error(str(error), id="crypto_invoices_simulator.E001")]
    return []


def _check_not_deployed(app_configs, **kwargs):
    message = "The gateway simulator is installed: anybody who reaches it can mark payments as paid."
    return [checks.Error(message, hint="Remove crypto_invoices.simulator.", id="crypto_invoices_simulator.E002")]
