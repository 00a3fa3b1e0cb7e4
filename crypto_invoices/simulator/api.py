"""What a gateway's endpoints share: routes by method, strict bodies, pages of a list, refusals in the gateway's own words."""

from django.http import HttpResponse
from django.urls import re_path

from crypto_invoices.providers import payload

from . import actions, misbehaviour
from .errors import BadField, Refused
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
        except Refused as error:
            return gateway.refuse(ApiError(400, "refused", "", error.reason))
        except ApiError as error:
            return gateway.refuse(error)

    return re_path(rf"^{pattern}/?$", misbehaviour.api(gateway, view, creates=("POST",) if creates else ()))


def not_found(what):
    """The refusal of something that is not there."""
    return ApiError(404, "not_found", what, f"The {what} was not found.")


def read_body(request, parameters, form=False):
    """The declared parameters of a JSON body, or of a form where the gateway takes one. Raises ``BadField``."""
    return read(body(request, form), parameters)


def body(request, form=False, media_type="application/json"):
    """All that a JSON body, or a form where the gateway takes one, says. Raises ``BadField``."""
    if form and request.content_type == "application/x-www-form-urlencoded":
        return request.POST.dict()
    if request.content_type != media_type:
        raise BadField("Content-Type", f"The Content-Type header must be {media_type}.")
    try:
        return payload.loads(request.body)
    except payload.MalformedPayload as error:
        raise BadField("body", f"The body is not valid JSON: {error}.") from None


def answer(value, status=200):
    """A JSON answer with every digit."""
    return HttpResponse(payload.dumps(value), status=status, content_type="application/json")


def find(gateway, merchant, gateway_id, what="payment", **columns):
    """The merchant's own payment with these ``columns`` as it stands now. Raises ``ApiError``, 404, that names ``what``."""
    if not gateway.payments(merchant).filter(gateway_id=gateway_id, **columns).exists():
        raise not_found(what)
    return actions.current(gateway.name, gateway_id)


def page_of(found, page, size):
    """(the items on that page, how many pages there are), counted from 1."""
    return found[(page - 1) * size : page * size], max(1, -(-len(found) // size))
