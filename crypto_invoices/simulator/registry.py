"""Gateways by name: the modules of this package that have a ``GATEWAY``, and those that ``SIMULATOR["GATEWAYS"]`` names."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from django.conf import settings

from . import __path__ as package_path


@cache
def all_gateways():
    """Every gateway, by name; the others' modules, ``["shop.gateway_simulator"]`` for example, must have a ``GATEWAY``."""
    modules = (import_module(f"{__package__}.{found.name}") for found in iter_modules(package_path) if not found.ispkg)
    ours = [module.GATEWAY for module in modules if hasattr(module, "GATEWAY")]
    return ours + [import_module(path).GATEWAY for path in getattr(settings, "SIMULATOR", {}).get("GATEWAYS", ())]


def find(name):
    """The gateway of that name, or None."""
    return next((gateway for gateway in all_gateways() if gateway.name == name), None)
