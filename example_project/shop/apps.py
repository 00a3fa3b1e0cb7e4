from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "example_project.shop"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self):
        from . import crash, receivers  # noqa: F401 -- connects them; the crash comes before the shipping
