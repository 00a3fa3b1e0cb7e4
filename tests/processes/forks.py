"""Forked processes: what a shop's web servers, workers and cron jobs are, without the time that starting Python takes."""

import contextlib
import os
import pickle
import random
import select
import signal
import sys
import time
import traceback
import warnings

from django.db import connections

PATIENCE = 180  # seconds after which a process counts as stuck; nothing is asserted about any shorter time


class Killed(Exception):
    """The process died of SIGKILL before it came to its end."""


class Process:
    """A process that runs ``work(*args)``. It opens its own database connection."""

    def __init__(self, work, *args):
        sys.stdout.flush()
        sys.stderr.flush()
        connections.close_all()  # no connection is shared over a fork
        receiving, sending = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # under xdist there is a thread, which uses no database
            self.pid = os.fork()
        if not self.pid:
            os.close(receiving)
            _run(work, args, sending)
        os.close(sending)
        self._receiving = receiving
        self.status = None

    def poll(self):
        """Whether the process has ended."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
        return self.status is not None

    def kill(self):
        """SIGKILL. Returns whether it came before the process had ended by itself."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.status = os.waitpid(self.pid, 0)[1]
        return os.WIFSIGNALED(self.status)

    def close(self):
        self.kill()
        if self._receiving is not None:
            os.close(self._receiving)
            self._receiving = None

    def result(self):
        """What ``work`` returned. Raises ``Killed``, and ``AssertionError`` with the trace back of what it raised."""
        data = self._read()
        self.status = os.waitpid(self.pid, 0)[1] if self.status is None else self.status
        self.close()
        if os.WIFSIGNALED(self.status):
            raise Killed
        returned, value = pickle.loads(data)
        assert returned, f"process {self.pid}:\n{value}"
        return value

    def _read(self):
        data, deadline = b"", time.monotonic() + PATIENCE
        while select.select([self._receiving], [], [], max(0, deadline - time.monotonic()))[0]:
            chunk = os.read(self._receiving, 65536)
            if not chunk:
                return data
            data += chunk
        self.close()
        raise AssertionError(f"process {self.pid} got stuck")


def _run(work, args, sending):
    random.seed()
    try:
        answer = (True, work(*args))
    except BaseException:
        answer = (False, traceback.format_exc())
    try:
        connections.close_all()
        with os.fdopen(sending, "wb") as stream:
            stream.write(pickle.dumps(answer))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(0)


def wait_for(condition, what):
    """Waits until ``condition()`` holds, without an opinion on how long that takes."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for: {what}"
        time.sleep(0.002)


class Reaper:
    """Kills processes at random moments of the time that they take, which it learns from those that came to their end."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.span = 0.3  # seconds
        self.kills = 0

    def reap(self, processes):
        """SIGKILL for each at some moment, unless it has ended by then; what ended by itself has to be without a fault."""
        begun, killed = time.monotonic(), 0
        moments = [begun + 0.02 + self.chance.uniform(0, self.span) for _ in processes]
        for moment, process in sorted(zip(moments, processes, strict=True), key=lambda pair: pair[0]):
            while time.monotonic() < moment and not process.poll():
                time.sleep(0.002)
            if process.kill():
                killed += 1
            else:
                process.result()
                self.span = 0.8 * self.span + 0.2 * (time.monotonic() - begun)
        if killed == len(processes):
            self.span *= 1.1
        self.kills += killed
