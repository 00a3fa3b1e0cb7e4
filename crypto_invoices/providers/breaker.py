"""A circuit breaker: after many failures in short time a gateway is left alone for a while."""

import threading
import time
from collections import deque

__all__ = ["Breaker"]


class Breaker:
    """Opens for ``rest`` seconds after ``failures`` failures within ``within`` seconds; then lets one call through at a time
    until one succeeds. Shared by the threads of a process."""

    def __init__(self, *, failures=10, within=60.0, rest=30.0, clock=time.monotonic):
        self._failed_at = deque(maxlen=failures)
        self._within = within
        self._rest = rest
        self._clock = clock
        self._opens_at = None  # when the next call is let through; None while closed
        self._lock = threading.Lock()

    def wait(self):
        """Seconds until a call is let through; 0.0 lets the caller through now."""
        with self._lock:
            now = self._clock()
            if self._opens_at is None:
                return 0.0
            if now < self._opens_at:
                return self._opens_at - now
            self._opens_at = now + self._rest  # this caller tries for all
            return 0.0

    def succeeded(self):
        with self._lock:
            self._failed_at.clear()
            self._opens_at = None

    def failed(self):
        with self._lock:
            now = self._clock()
            self._failed_at.append(now)
            full = len(self._failed_at) == self._failed_at.maxlen
            if self._opens_at is not None or (full and now - self._failed_at[0] <= self._within):
                self._opens_at = now + self._rest
