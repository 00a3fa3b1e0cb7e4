"""The contract of a provider, as tests that everybody inherits who writes one. See ``docs/writing-a-provider.md``.

    class TestExamplePay(ProviderContract, django.test.TestCase):
        provider_path = "shop.gateways.ExamplePay"
        ...

The project's URLconf includes ``crypto_invoices.urls``. Every test runs real HTTP against a ``Stub`` on 127.0.0.1 that
answers what the subclass says the gateway answers, and goes through the public services and the callback's URL. A
capability that is not declared is not skipped: then the opposite is proved.
"""

from .addresses import Addresses
from .answers import Answers
from .authenticity import Authenticity
from .callbacks import Callbacks
from .creating import Creating
from .declarations import Declarations
from .failures import Failures
from .gateway import Gateway
from .money import Money
from .payment import Payment
from .stub import Fault, Reply, Request, Stub

__all__ = ["Fault", "Payment", "ProviderContract", "Reply", "Request", "Stub"]


class ProviderContract(Declarations, Creating, Failures, Answers, Authenticity, Callbacks, Money, Addresses, Gateway):
    """Inherited together with ``django.test.TestCase``; what to fill in: ``Gateway``, in the order of its attributes."""
