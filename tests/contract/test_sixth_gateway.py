"""The gateway of docs/writing-a-provider.md, written down as it stands there in a project outside of the package, keeps the
contract and works with the simulator: no file of the package had to change or names it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import crypto_invoices

PACKAGE = Path(crypto_invoices.__file__).parent
GUIDE = Path(__file__).parents[2] / "docs" / "writing-a-provider.md"
BLOCK = re.compile(r"^`([\w/]+\.py)`:\n\n```python\n(.*?)^```$", re.M | re.S)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The files of the guide, in a directory of their own."""
    root = tmp_path_factory.mktemp("project")
    text = GUIDE.read_text()
    blocks = dict(BLOCK.findall(text))
    assert len(blocks) == text.count("```python")
    for name, source in blocks.items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)
    (root / "examplepay" / "__init__.py").touch()
    return root


def run(project, *arguments):
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(project), *filter(None, sys.path)]),
        "DJANGO_SETTINGS_MODULE": "settings",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-W", "error", "-m", "django", *arguments]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def test_the_guides_gateway_keeps_the_contract_and_works_with_the_simulator(project):
    tested = run(project, "test", "examplepay.tests")
    assert tested.returncode == 0, tested.stderr[-5000:]
    assert int(re.search(r"^Ran (\d+) tests", tested.stderr, re.M)[1]) > 60


def test_the_package_knows_nothing_of_it():
    assert [path for path in PACKAGE.rglob("*.py") if b"examplepay" in path.read_bytes()] == []


def test_a_broken_provider_fails_by_the_name_of_the_promise(project):
    provider = project / "examplepay" / "provider.py"
    source = provider.read_text()
    broken = source.replace("        verify_hmac_hex(", "        bool(verify_hmac_hex) or verify_hmac_hex(")
    assert broken != source
    provider.write_text(broken)
    try:
        tested = run(
            project, "test", "examplepay.tests.TestExamplePay", "-k", "believed", "-k", "changed_byte", "-k", "full_price"
        )
    finally:
        provider.write_text(source)
    failed = set(re.findall(r"^(?:FAIL|ERROR): (\w+)", tested.stderr, re.M))
    assert {"test_every_changed_byte_is_noticed", "test_a_signature_of_a_foreign_secret_is_not_believed"} <= failed
    assert "test_the_full_price_is_paid" not in failed
