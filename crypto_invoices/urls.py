from django.urls import path, re_path

from . import views

app_name = "crypto_invoices"

urlpatterns = [
    # The slash is optional: a redirect would turn a gateway's POST into a GET.
    re_path(r"^callbacks/(?P<account>[\w-]{1,64})/(?P<token>[\w.:-]{1,200})/?\Z", views.callback, name="callback"),
    path("pay/<uuid:uuid>/", views.pay, name="pay"),
    path("pay/<uuid:uuid>/status/", views.status, name="status"),
    path("health/", views.health, name="health"),
]
