"""Gateways by name: every module of this package that has a ``GATEWAY`` is one."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from . import __path__ as package_path


@cache
def all_gateways():
    """Every gateway, by name."""
    modules = (import_module(f"{__package__}.{found.name}") for found in iter_modules(package_path) if not found.ispkg)
    return [module.GATEWAY for module in modules if hasattr(module, "GATEWAY")]


def find(name):
    """The gateway of that name, or None."""
    return next((gateway for gateway in all_gateways() if gateway.name == name), None)
