from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("crypto-invoices/", include("crypto_invoices.urls")),
    path("simulator/", include("crypto_invoices.simulator.urls")),
    path("admin/", admin.site.urls),
    path("", include("example_project.shop.urls")),
]
