"""The contract can fail: a provider that breaks a promise fails the tests that are named after it."""

import inspect
import unittest

import pytest
from django.test import TestCase

from crypto_invoices.providers.base import Provider
from crypto_invoices.testing import ProviderContract
from tests.contract import broken, test_goodpayments, test_onchainpay, test_oxapay, test_txcash, test_txn

CONTRACTS = {
    "OxaPay": test_oxapay.TestOxaPay,
    "goodPayments": test_goodpayments.TestGoodPayments,
    "tx.cash": test_txcash.TestTxCash,
    "txn.io": test_txn.TestTxn,
    "OnchainPay": test_onchainpay.TestOnchainPay,
}
BROKEN = [item for _, item in inspect.getmembers(broken, inspect.isclass) if issubclass(item, Provider) and "fails" in vars(item)]


def outcome(provider, names):
    """``{name: whether it passed}`` of these tests, for that provider."""
    contract = CONTRACTS[provider.name]
    path = f"{provider.__module__}.{provider.__qualname__}"
    case = type(contract.__name__, (contract,), {"provider_path": path})
    passed = {}
    for name in names:
        result = unittest.TestResult()
        unittest.TestSuite([case(name)]).run(result)
        assert result.testsRun == 1 and not result.skipped
        passed[name] = result.wasSuccessful()
    return passed


@pytest.mark.parametrize("provider", BROKEN, ids=lambda provider: provider.__name__)
@pytest.mark.django_db
def test_a_broken_promise_fails_by_its_name(provider):
    assert outcome(provider, provider.fails) == dict.fromkeys(provider.fails, False)


@pytest.mark.parametrize("provider", BROKEN, ids=lambda provider: provider.__name__)
@pytest.mark.django_db
def test_what_it_does_not_break_passes(provider):
    assert outcome(provider, ["test_the_acknowledgement_is_a_success"]) == {"test_the_acknowledgement_is_a_success": True}


@pytest.mark.parametrize("contract", CONTRACTS.values())
def test_every_gateway_runs_at_least_sixty_named_tests_and_skips_none(contract):
    names = unittest.TestLoader().getTestCaseNames(contract)
    assert len(names) >= 60 and issubclass(contract, TestCase)
    assert not [name for name in names if "skipTest" in inspect.getsource(getattr(ProviderContract, name))]
