"""The simulator's own server: Django's threaded one, but headers with an underscore arrive, and callbacks go out."""

import ipaddress
import logging
import threading

from django.core.servers.basehttp import ServerHandler, ThreadedWSGIServer, WSGIRequestHandler, get_internal_wsgi_application
from django.db import connections

from . import actions, callbacks, conf

logger = logging.getLogger(__name__)


class Handler(ServerHandler):
    """Remembers whether it answered; ``headers_sent`` is reset when a handler is closed."""

    answered = False

    def close(self):
        self.answered = self.headers_sent
        super().close()


class RequestHandler(WSGIRequestHandler):
    """Keeps headers with underscores, which Django's handler strips, and closes a connection that got no answer."""

    def get_environ(self):
        return super(WSGIRequestHandler, self).get_environ()  # past the parent, which does the stripping

    def handle_one_request(self):
        self.raw_requestline = self.rfile.readline(65537)
        if len(self.raw_requestline) > 65536:
            self.requestline = self.request_version = self.command = ""
            self.send_error(414)
            return
        if not self.parse_request():
            return
        handler = Handler(self.rfile, self.wfile, self.get_stderr(), self.get_environ())
        handler.request_handler = self
        handler.run(self.server.get_app())
        if not handler.answered:
            self.close_connection = True


class Server(ThreadedWSGIServer):
    """A server on a loopback address, with the callback worker beside it."""

    request_queue_size = 128

    def __init__(self, host, port):
        if not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"{host} is not a loopback address: whoever reaches the simulator can mark payments as paid")
        super().__init__((host, port), RequestHandler, ipv6=":" in host)
        self.set_app(get_internal_wsgi_application())
        self.worker = Worker()

    def run(self):
        """Serve until the process is told to stop."""
        try:
            self.worker.start()
            self.serve_forever(poll_interval=0.1)
        finally:
            self.worker.stop()
            self.server_close()


class Worker(threading.Thread):
    """Looks again and again whether the clock or a callback is due."""

    def __init__(self):
        super().__init__(name="simulator-worker", daemon=True)
        self._stopped = threading.Event()

    def run(self):
        while not self._stopped.wait(float(conf.get("WORKER_INTERVAL"))):
            try:
                actions.advance_due()
                callbacks.deliver_due()
            except Exception:
                logger.exception("the simulator's worker failed; it tries again")
            finally:
                connections.close_all()

    def stop(self):
        """Stop after the callback that is on its way, at most a few seconds later."""
        self._stopped.set()
        if self.is_alive():
            self.join(timeout=3)
