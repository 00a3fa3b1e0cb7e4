"""System checks of the settings, the URLconf and the receivers."""

from django.core.checks import Error, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.urls import NoReverseMatch, reverse

from . import conf
from .signals import DURABLE

__all__ = ["check_receivers", "check_settings", "check_urls"]


@register("crypto_invoices")
def check_settings(app_configs, **kwargs):
    """E013: the settings dict; E001, E003 and E010: an account's provider, secrets and options."""
    try:
        aliases = conf.account_aliases()
    except ImproperlyConfigured as error:
        tolerance = str(error).startswith("CRYPTO_INVOICES['UNDERPAID_TOLERANCE']")
        return [Error(str(error), id="crypto_invoices.E012" if tolerance else "crypto_invoices.E013")]
    errors = []
    for alias in aliases:
        try:
            conf.build_provider(alias, conf.settings().accounts[alias])
        except ImproperlyConfigured as error:
            errors.append(Error(str(error), id=f"crypto_invoices.{_account_error(str(error))}"))
    return errors


def _account_error(text):
    if "'PROVIDER'" in text or "PROVIDER and OPTIONS" in text:
        return "E003"
    if "unknown option" in text:
        return "E013"
    return "E010" if "'base_url'" in text else "E001"


@register("crypto_invoices")
def check_urls(app_configs, **kwargs):
    """E006: the callback's URL must be there."""
    try:
        reverse("crypto_invoices:callback", args=["account", "token"])
    except NoReverseMatch:
        hint = 'path("crypto-invoices/", include("crypto_invoices.urls"))'
        return [Error("The URLs of crypto_invoices are not included.", hint=hint, id="crypto_invoices.E006")]
    return []


@register("crypto_invoices")
def check_receivers(app_configs, **kwargs):
    """W020: a receiver is known to the database by its name, which must be its own and stay the same."""
    problems = []
    for signal in DURABLE.values():
        keys = [connection.key for connection in signal.connections()]
        for key in dict.fromkeys(keys):
            if "<lambda>" in key or "<locals>" in key:
                problems.append(f"The receiver {key} of {signal.name} has no stable name.")
            elif keys.count(key) > 1:
                problems.append(f"{keys.count(key)} receivers of {signal.name} are named {key}: only one of them is called.")
    return [Warning(text, hint="Give connect() a dispatch_uid.", id="crypto_invoices.W020") for text in problems]
