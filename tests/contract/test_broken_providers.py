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


@pytest.mark.django_db
def test_a_failure_in_a_table_of_answers_is_told_once_for_each_and_nothing_else():
    contract = type("Contract", (CONTRACTS["OxaPay"],), {"provider_path": f"{broken.__name__}.CallsARefusalOfWhatMayHaveWorked"})
    result = unittest.TestResult()
    unittest.TestSuite([contract("test_creating_at_a_failing_gateway_is_uncertain")]).run(result)
    told = [text for _, text in [*result.errors, *result.failures]]
    assert len(told) == 4
    assert all("GatewayRefused" in text and "UnboundLocalError" not in text for text in told)


@pytest.mark.django_db
def test_a_method_that_is_missing_is_named():
    contract = type("Contract", (CONTRACTS["OxaPay"],), {"found": ProviderContract.found})
    result = unittest.TestResult()
    unittest.TestSuite([contract("test_an_uncertain_create_is_found_by_our_reference_or_waits")]).run(result)
    ((_, text),) = result.errors
    assert "NotImplementedError: Contract needs found(). Where LOOKUP_BY_REFERENCE is declared: " in text


def test_the_order_of_the_base_classes_is_said():
    with pytest.raises(TypeError, match="Wrong: ProviderContract stands before TestCase"):
        type("Wrong", (TestCase, ProviderContract), {})
    assert type("Mixin", (ProviderContract,), {})  # to be completed by its subclasses
