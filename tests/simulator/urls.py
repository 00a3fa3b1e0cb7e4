from django.urls import include, path

urlpatterns = [path("simulator/", include("crypto_invoices.simulator.urls"))]
