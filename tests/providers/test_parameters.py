"""Every request parameter that a vendor documents is an argument of ours, an option, or set by us for a stated reason.

``parameters/<gateway>.json`` lists what the vendor's pages document; ``PARAMETERS`` in the gateway's tests says where each
comes from. ``pytest tests/providers/test_parameters.py -s`` prints the whole list.
"""

import json
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

from crypto_invoices import providers
from crypto_invoices.providers.base import CreateRequest, Provider, StaticAddressRequest

HERE = Path(__file__).parent
ARGUMENTS = {item.name for declared in (CreateRequest, StaticAddressRequest) for item in fields(declared)}


def _gateways():
    for found in iter_modules(providers.__path__):
        module = import_module(f"{providers.__name__}.{found.name}")
        members = [item for item in vars(module).values() if isinstance(item, type) and item.__module__ == module.__name__]
        if any(issubclass(item, Provider) and item is not Provider for item in members):
            yield found.name, {option.name for item in members if is_dataclass(item) for option in fields(item)}


GATEWAYS = dict(_gateways())


def _sources(gateway):
    """``{call: {parameter: where it comes from}}`` from the gateway's tests."""
    modules = [import_module(f"tests.providers.{path.stem}") for path in sorted(HERE.glob(f"test_{gateway}*.py"))]
    (found,) = [module.PARAMETERS for module in modules if hasattr(module, "PARAMETERS")]
    return found


def test_the_five_are_all():
    assert sorted(GATEWAYS) == ["goodpayments", "onchainpay", "oxapay", "txcash", "txn"]
    assert sorted(path.stem for path in (HERE / "parameters").glob("*.json")) == sorted(GATEWAYS)


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_no_documented_parameter_is_missing(gateway):
    documented = json.loads((HERE / "parameters" / f"{gateway}.json").read_text())
    sources = _sources(gateway)
    assert {call: set(names) for call, names in sources.items()} == {call: set(names) for call, names in documented.items()}
    for call, names in sources.items():
        for name, source in names.items():
            kind, _, what = source.partition(" ")
            print(f"{gateway:13}{call:40}{name:28}{source}")
            if kind == "argument":
                assert what in ARGUMENTS
            elif kind == "option":
                assert what in GATEWAYS[gateway]
            else:
                assert source.startswith("set by us: ") and len(source) > len("set by us: ")
