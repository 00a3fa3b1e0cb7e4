"""The demo's processes: each in its own process group, with its own log, and ended whatever happens to the demo."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time

from example_project.environment import BASE_DIR

LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1
LOG_LINES = 15


class DemoError(Exception):
    """The demo cannot go on; the text says why."""


def wait_until(condition, what, seconds=120.0):
    """Asks until ``condition()`` is true, and returns that. Raises ``DemoError`` when it never is."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise DemoError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.1)
    return answer


def is_free(port):
    """Whether a server could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Processes:
    """``manage.py`` processes with ``environment`` added to ours; their logs stand in ``directory``."""

    def __init__(self, directory, environment):
        self.directory = directory
        self.environment = os.environ | environment
        self.running = {}

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not end the clearing up
        alive = [process for process in self.running.values() if process.poll() is None]
        for process in alive:
            os.killpg(process.pid, signal.SIGTERM)  # it leads its group, and keeps its number until it is waited for
        for process in alive:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def start(self, name, *arguments, **environment):
        """Starts ``manage.py *arguments`` and returns its ``Popen``. A name is started again only when its process ended."""
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-u", str(BASE_DIR / "manage.py"), *arguments],
                cwd=BASE_DIR,
                env=self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the demo only, which then ends the others in order
                preexec_fn=_end_with_parent if LIBC else None,
            )
        self.running[name] = process
        return process

    def run(self, name, *arguments, **environment):
        """Runs ``manage.py *arguments`` to its end. Raises ``DemoError`` when it fails."""
        if self.start(name, *arguments, **environment).wait():
            raise self.failure(name)

    def wait_for(self, name, is_ready):
        """Waits until ``is_ready()``. Raises ``DemoError`` when the process ends before."""

        def ready():
            if self.running[name].poll() is not None:
                raise self.failure(name)
            return is_ready()

        wait_until(ready, f"the process {name!r} to be ready")

    def failure(self, name):
        """A ``DemoError`` with the end of the process's log."""
        lines = self.log(name).read_text(errors="replace").splitlines()[-LOG_LINES:]
        ended = f"{name!r} ended with code {self.running[name].returncode}; the end of {self.log(name)}:"
        return DemoError("\n    ".join([ended, *lines]))

    def log(self, name):
        return self.directory / f"{name}.log"


def _end_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # when the demo itself is killed without a chance to clear up
