from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path

urlpatterns = [
    path("simulator/", include("crypto_invoices.simulator.urls")),
    *staticfiles_urlpatterns(),
]
