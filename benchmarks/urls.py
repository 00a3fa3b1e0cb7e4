from django.urls import include, path

from . import floor

urlpatterns = [
    path("crypto-invoices/", include("crypto_invoices.urls")),
    path("floor/", floor.callback),
    path("verify-only/", floor.verify_only),
]
