"""A client for the simulator's control API, for commands, demonstrations and tests."""

from urllib.parse import quote

import requests

SIMULATOR_URL = "http://127.0.0.1:8001/simulator/"  # where ``run_simulator`` listens


class SimulatorError(Exception):
    """The simulator refused, or nobody answered (``status`` 0). ``field`` names a wrong input, ``source`` the rule."""

    def __init__(self, status, message, field="", source=""):
        self.status = status
        self.field = field
        self.source = source
        super().__init__(": ".join(filter(None, (field, message))) + (f" ({source})" if source else ""))


class SimulatorClient:
    """``base_url`` is the simulator's index page; ``timeout`` in seconds."""

    def __init__(self, base_url=SIMULATOR_URL, timeout=30):
        self.base_url = base_url.rstrip("/") + "/"
        self.timeout = timeout
        self.session = requests.Session()
        self.session.trust_env = False

    def payments(self, gateway: str | None = None) -> list[dict]:
        """All payments, the newest first."""
        return self._call("GET", "payments/", params={"gateway": gateway} if gateway else None)["payments"]

    def payment(self, gateway: str, id: str) -> dict:
        """One payment in full, with its transfers and the log of its callbacks."""
        return self._call("GET", f"{_quote(gateway)}/{_quote(id)}/")

    def act(self, gateway: str, id: str, action: str, **fields) -> dict:
        """Press a button (``amount``, ``currency``, ``network``) or ``resend`` (``order``, ``times``); the payment afterwards."""
        json = {name: _plain(value) for name, value in fields.items() if value is not None}
        return self._call("POST", f"{_quote(gateway)}/{_quote(id)}/{_quote(action)}/", json=json)

    def misbehave(
        self, gateway: str, switch: str, value=None, *, count: int | None = None, percent: int | None = None
    ) -> list[dict]:
        """Turn a switch on; the switches that are on."""
        given = {"switch": switch, "value": value, "count": count, "percent": percent}
        json = {name: _plain(item) for name, item in given.items() if item is not None}
        return self._call("POST", f"{_quote(gateway)}/misbehave/", json=json)["switches"]

    def reset(self, gateway: str, switch: str | None = None) -> list[dict]:
        """Turn one switch off, or all; the switches that are still on."""
        params = {"switch": switch} if switch else None
        return self._call("DELETE", f"{_quote(gateway)}/misbehave/", params=params)["switches"]

    def deliver(self) -> list[dict]:
        """Deliver now the callbacks that are due; one entry for each attempt."""
        return self._call("POST", "deliver/")["deliveries"]

    def _call(self, method, path, **arguments):
        try:
            response = self.session.request(method, f"{self.base_url}control/{path}", timeout=self.timeout, **arguments)
            answer = response.json()
            if not isinstance(answer, dict):
                raise requests.JSONDecodeError("an object was expected", response.text, 0)
        except requests.RequestException as error:
            raise SimulatorError(0, f"no usable answer from {self.base_url}: {type(error).__name__}") from error
        if not response.ok:
            message = answer.get("error", f"HTTP {response.status_code}")
            raise SimulatorError(response.status_code, message, answer.get("field", ""), answer.get("source", ""))
        return answer


def _plain(value):
    return value if isinstance(value, (int, list)) else str(value)  # a Decimal or a float goes as text


def _quote(part):
    return quote(part, safe="")
