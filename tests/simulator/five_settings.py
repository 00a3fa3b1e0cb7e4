"""The simulator's settings for tests of all gateways: nothing is confirmed or sent unless a test says so."""

import os

from .settings import *  # noqa: F403
from .settings import SIMULATOR as QUIET

SIMULATOR = QUIET | {
    "WORKER_INTERVAL": 3600,
    "CONFIRM_SECONDS": 3600,
    "OXAPAY": {"COMMISSION_PERCENT": 0},
    "TXN": {"WEBHOOK_URL": os.environ.get("TXN_WEBHOOK_URL", "")},
}
