"""What the shop's settings and the simulator's settings share: the environment, read with an optional ``.env``."""

from pathlib import Path

import environ

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
env.read_env(BASE_DIR / ".env")

VAR_DIR = Path(env.str("VAR_DIR", default=str(BASE_DIR / "var")))  # databases, and whatever else is not code
VAR_DIR.mkdir(parents=True, exist_ok=True)

SIMULATOR_URL = env.str("SIMULATOR_URL", default="http://127.0.0.1:8001/simulator").rstrip("/")
# The keys that shop and simulator share, one word for each account and, at OnchainPay, its secret.
KEYS = {
    name: env.str(f"SIMULATOR_{name.upper()}_KEY", default=f"simulated-{name}-key")
    for name in ("oxapay", "goodpayments", "txcash", "txn", "onchainpay", "onchainpay_secret")
}


def sqlite(name):
    """SQLite as a web shop needs it: readers do not wait for the writer, and writers queue up instead of failing."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": VAR_DIR / name,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
