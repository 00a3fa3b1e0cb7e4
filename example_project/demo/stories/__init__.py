"""What happens at each gateway: one module each, with what is promised, what the vendor does not offer, and the steps."""

from .goodpayments import GoodPayments
from .onchainpay import OnchainPay
from .oxapay import OxaPay
from .txcash import TxCash
from .txn import Txn

STORIES = (OxaPay, GoodPayments, TxCash, Txn, OnchainPay)


def tell_all(demo):
    """Lets everything happen; the groups of the table, read from the running processes at the very end."""
    stories = [story(demo) for story in STORIES]
    for story in stories:
        story.begin()
    for story in stories:
        story.kill()
    demo.say("manage.py crypto_invoices deliver --loop ships what the killed processes left, 30 s after they were killed")
    demo.processes.start("deliver", "crypto_invoices", "deliver", "--loop", "--interval", "1")
    demo.say("manage.py crypto_invoices reconcile --loop polls what is due, at first a minute after an order was made")
    demo.processes.start("reconcile", "crypto_invoices", "reconcile", "--loop", "--interval", "1", "--concurrency", "4")
    for story in stories:
        story.tell()
    for story in stories:
        story.end()
    demo.say("every row is read back from the running processes")
    return [story.group() for story in stories]
