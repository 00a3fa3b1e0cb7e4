"""For the demo, with DEBUG only: a shop that dies between the commit of a payment and the shipping of the order.

Touch the file that the setting names (``var/crash-on-next-signal``, in the demo ``var/demo-8000/crash-on-next-signal``), and
the next ``invoice_paid`` kills the process that delivers it, once.
"""

import os
import signal as signals

from django.conf import settings
from django.dispatch import receiver

from crypto_invoices.signals import invoice_paid

if settings.DEBUG:

    @receiver(invoice_paid, dispatch_uid="shop.crash")
    def crash(sender, **kwargs):
        if settings.SHOP_CRASH_FILE.exists():
            settings.SHOP_CRASH_FILE.unlink()
            os.kill(os.getpid(), signals.SIGKILL)
