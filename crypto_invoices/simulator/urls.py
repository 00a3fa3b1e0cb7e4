"""Included as ``simulator/``; a gateway's base URL is its name plus its real path prefix."""

from django.urls import include, path

from . import control, pages, registry

app_name = "simulator"

urlpatterns = [
    path("", pages.index, name="index"),
    path("control/payments/", control.payments, name="control-payments"),
    path("control/deliver/", control.deliver, name="control-deliver"),
    path("control/<slug:gateway>/misbehave/", control.misbehave, name="control-misbehave"),
    path("control/<slug:gateway>/<str:gateway_id>/", control.payment, name="control-payment"),
    path("control/<slug:gateway>/<str:gateway_id>/<slug:action>/", control.act, name="control-act"),
    path("<slug:gateway>/pay/<str:gateway_id>/", pages.pay, name="pay"),
    path("<slug:gateway>/switches/", pages.switches, name="switches"),
    *(path(f"{gateway.name}/", include(gateway.urlpatterns)) for gateway in registry.all_gateways()),
]
