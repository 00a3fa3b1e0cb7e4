from decimal import Decimal

from django.core.management import BaseCommand

from example_project.shop.models import Product

PRODUCTS = [
    ("coffee", "Coffee beans, 1 kg", "Medium roast from Huila, Colombia.", "24.90", "USD"),
    ("teapot", "Teapot", "Cast iron, holds 0.8 litres.", "59.00", "USD"),
    ("notebook", "Notebook", "Two hundred dotted pages that lie flat.", "12.50", "USD"),
    ("hardware-wallet", "Hardware wallet", "Keeps the keys off the network. Priced in Tether.", "79.00", "USDT"),
]


class Command(BaseCommand):
    help = "Puts a few products into the shop, or sets their prices back."

    def handle(self, *, verbosity, **options):
        for slug, name, description, price, currency in PRODUCTS:
            Product.objects.update_or_create(
                slug=slug,
                defaults={"name": name, "description": description, "price": Decimal(price), "currency": currency},
            )
        if verbosity:
            self.stdout.write(f"{len(PRODUCTS)} products")
