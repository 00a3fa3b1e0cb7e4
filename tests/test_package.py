import importlib
import os
import pkgutil
import sysconfig
from importlib.metadata import files, version
from pathlib import Path

import pytest

import crypto_invoices

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(crypto_invoices.__path__, "crypto_invoices.")
    if ".migrations" not in module.name and ".management" not in module.name
)
in_tox = pytest.mark.skipif("TOX_ENV_NAME" not in os.environ, reason="the wheel is installed by tox")


@pytest.mark.parametrize("name", MODULES)
def test_public_names_exist(name):
    module = importlib.import_module(name)
    names = getattr(module, "__all__", [])
    assert [each for each in names if not hasattr(module, each)] == []
    assert len(names) == len(set(names))


@in_tox
def test_the_installed_package_is_tested():
    site_packages = Path(sysconfig.get_path("purelib"))
    assert site_packages in Path(crypto_invoices.__file__).parents
    assert version("django-crypto-invoices") == crypto_invoices.__version__


@in_tox
def test_the_wheel_holds_every_file_and_nothing_else():
    checkout = Path(__file__).parent.parent / "crypto_invoices"
    expected = {f"crypto_invoices/{path.relative_to(checkout)}" for path in checkout.rglob("*") if path.is_file()}
    packed = {str(path) for path in files("django-crypto-invoices") if ".dist-info" not in path.parts[0]}
    assert {path for path in packed if "__pycache__" not in path} == {path for path in expected if "__pycache__" not in path}
    assert "crypto_invoices/py.typed" in packed
    assert "crypto_invoices/migrations/0001_initial.py" in packed
    assert any(path.startswith("crypto_invoices/templates/") for path in packed)
