from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path

urlpatterns = [
    path("crypto-invoices/", include("crypto_invoices.urls")),
    path("admin/", admin.site.urls),
    path("", include("example_project.shop.urls")),
    *staticfiles_urlpatterns(),  # empty unless DEBUG
]
