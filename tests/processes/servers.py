"""gunicorn and uvicorn as a shop runs them, in processes of their own, and a client that sends what no library would."""

import http.client
import os
import re
import select
import signal
import socket
import subprocess
import sys
import sysconfig
from contextlib import contextmanager
from pathlib import Path

from tests.processes.forks import PATIENCE, wait_for

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {
    "gunicorn": "--bind 127.0.0.1:0 --workers 1 --worker-class sync --graceful-timeout 1 django.core.wsgi:get_wsgi_application()",
    "uvicorn": "--host 127.0.0.1 --port 0 --http h11 --lifespan off --no-access-log --timeout-graceful-shutdown 1"
    " --factory django.core.asgi:get_asgi_application",
}
LISTENING = re.compile(r"http://127\.0\.0\.1:(\d+)")


class Server:
    """One server that runs, with ``tests.settings`` on ``database``, the settings of an SQLite file."""

    def __init__(self, name, process, log, database):
        self.name = name
        self.process = process
        self.log = log
        self.database = database
        wait_for(lambda: self._port() or process.poll() is not None, f"{name} to listen")
        assert process.poll() is None, f"{name} has ended:\n{log.read_text()}"
        self.port = int(self._port()[1])

    def _port(self):
        return LISTENING.search(self.log.read_text())

    def peak(self):
        """The most memory, in bytes, that the process which answers has ever had; None where the system does not tell."""
        pid = self.process.pid
        try:
            [pid] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split() or [pid]  # gunicorn's worker
            [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
        except FileNotFoundError:
            return None
        return 1024 * int(line.split()[1])

    def exchange(self, pieces, *, hang_up=False):
        """Sends one piece after the other until the server answers: ``(status or None, bytes sent)``.

        None: the connection was closed without an answer. ``hang_up``: the client's side is closed after the last piece.
        """
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as connection:
            sent = 0
            try:
                for piece in pieces:
                    left = memoryview(piece)
                    while left and _may_send(connection):
                        number = connection.send(left, socket.MSG_DONTWAIT)
                        left, sent = left[number:], sent + number
                    if left:
                        break
                if hang_up:
                    connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # closed while we sent; what it said stands in our buffer
            response = http.client.HTTPResponse(connection, method="POST")
            try:
                response.begin()
                response.read()
            except ConnectionError:
                return None, sent
            return response.status, sent


def _may_send(connection):
    readable, writable, _ = select.select([connection], [connection], [], PATIENCE)
    assert readable or writable, "the server neither reads nor answers"
    return not readable


@contextmanager
def serving(name, database, folder):
    """A ``Server`` for as long as the block runs; what it logged is printed at the end."""
    log = folder / f"{name}.log"
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": f"sqlite:///{database['NAME']}",
        "XDG_RUNTIME_DIR": str(folder),
        **_import_path(),
    }
    command = [sys.executable, "-m", name, *COMMANDS[name].split()]
    with log.open("wb") as stream:
        # Both put their working directory first on the path: not the checkout's, which may be a wheel's in this run.
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        yield Server(name, process, log, database)
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        print(log.read_text())
    assert "Traceback" not in log.read_text()


def _import_path():
    """The checkout comes first for a server where it does for this process; where a .pth file adds it, nothing is needed."""
    places = [os.path.abspath(path) for path in sys.path]
    installed = sysconfig.get_path("purelib")
    before = places[: places.index(installed)] if installed in places else places
    if str(ROOT) not in before:
        return {}
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
