"""The cart lives in the session: product ids and quantities. All its products have one currency."""

from dataclasses import dataclass

from .models import Product

KEY = "cart"


class OtherCurrency(Exception):
    pass


@dataclass
class CartLine:
    product: Product
    quantity: int

    @property
    def total(self):
        return self.quantity * self.product.price


class Cart:
    def __init__(self, request):
        self.session = request.session
        quantities = self.session.get(KEY, {})
        self.lines = [CartLine(product, quantities[str(product.pk)]) for product in Product.objects.filter(pk__in=quantities)]

    @property
    def total(self):
        return sum(line.total for line in self.lines)

    @property
    def currency(self):
        return self.lines[0].product.currency if self.lines else ""

    def add(self, product):
        """Raises ``OtherCurrency``: an order has one price."""
        if self.currency not in ("", product.currency):
            raise OtherCurrency
        quantities = self.session.setdefault(KEY, {})
        quantities[str(product.pk)] = quantities.get(str(product.pk), 0) + 1
        self.session.modified = True

    def remove(self, product):
        self.session.get(KEY, {}).pop(str(product.pk), None)
        self.session.modified = True

    def clear(self):
        self.session.pop(KEY, None)
