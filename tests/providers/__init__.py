"""A gateway to test against: real HTTP on 127.0.0.1, answering from a script."""

import contextlib
import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    headers: dict
    body: bytes
    connection: int

    @property
    def json(self):
        return json.loads(self.body)


class Stub:
    """Answers each request with the next of ``script``: (status, body), (status, body, headers) or a callable(handler)."""

    def __init__(self):
        self.seen = []
        self.script = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 5
            disable_nagle_algorithm = True

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                stub.seen.append(Seen(self.command, self.path, dict(self.headers.items()), body, self.client_address[1]))
                step = stub.script.pop(0) if stub.script else (500, b"the script is over")
                if callable(step):
                    self.close_connection = True
                    with contextlib.suppress(OSError):  # the client hangs up, as it should
                        step(self)
                    return
                status, content, *headers = step
                content = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(content))} | (headers[0] if headers else {})).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *args: None  # a reset connection is part of a test
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
