"""What the shop's settings and the simulator's settings share: the environment, read with an optional ``.env``."""

from pathlib import Path

import environ

BASE_DIR = Path(__file__).resolve().parent.parent

env = environ.Env()
env.read_env(BASE_DIR / ".env")

VAR_DIR = Path(env.str("VAR_DIR", default=str(BASE_DIR / "var")))  # databases, and whatever else is not code
VAR_DIR.mkdir(parents=True, exist_ok=True)

SIMULATOR_KEY = env.str("SIMULATOR_MERCHANT_API_KEY", default="SIMKEY-SIMKEY-SIMKEY-SIMKEY")


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
