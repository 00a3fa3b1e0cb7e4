"""What a gateway's JSON endpoints share: routes by method, strict bodies, refusals in the gateway's own words."""

from django.urls import re_path

from crypto_invoices.providers import payload

from . import misbehaviour
from .errors import BadField
from .parameters import read


class ApiError(Exception):
    """A refusal: its HTTP status, the kind of mistake and the field or key that it is about."""

    def __init__(self, status, kind, key, message):
        self.status = status
        self.kind = kind
        self.key = key
        super().__init__(message)


def route(gateway, pattern, *, public=False, creates=True, **methods):
    """A URL pattern whose views, by method, get ``merchant`` unless it is public, and return what the gateway wraps.

    ``creates``: a POST makes something.
    """

    def view(request, **parts):
        try:
            if request.method not in methods:
                raise not_found("endpoint")
            if not public:
                parts["merchant"] = gateway.authenticate(request)
            return gateway.success(methods[request.method](request, **parts))
        except BadField as error:
            return gateway.refuse(ApiError(400, "validation", error.field, error.message))
        except ApiError as error:
            return gateway.refuse(error)

    return re_path(rf"^{pattern}/?$", misbehaviour.api(gateway, view, creates=("POST",) if creates else ()))


def not_found(what):
    """The refusal of something that is not there."""
    return ApiError(404, "not_found", what, f"The {what} was not found.")


def read_body(request, parameters):
    """The declared parameters of a JSON body. Raises ``BadField``."""
    if request.content_type != "application/json":
        raise BadField("Content-Type", "The Content-Type header must be application/json.")
    try:
        return read(payload.loads(request.body), parameters)
    except payload.MalformedPayload as error:
        raise BadField("body", f"The body is not valid JSON: {error}.") from None
